// membarrier(2) (kernel/sched/membarrier.c). The barriers themselves are the host's, asked for through the address space;
// registration is kept in the program's memory.

import { Errno } from '../abi/errno.ts';
import { Membarrier } from '../abi/memory.ts';
import type { Task } from '../kernel/contract.ts';
import type { ProgramMemory } from './program-memory.ts';

/** Commands of which each needs its registration before. */
const registrations = new Map<number, number>([
  [Membarrier.privateExpedited, Membarrier.registerPrivateExpedited],
  [Membarrier.privateExpeditedSyncCore, Membarrier.registerPrivateExpeditedSyncCore],
]);

const registerable =
  Membarrier.registerGlobalExpedited |
  Membarrier.registerPrivateExpedited |
  Membarrier.registerPrivateExpeditedSyncCore;

/** MEMBARRIER_CMD_QUERY; restartable sequences are not among them. */
const supported =
  Membarrier.global |
  Membarrier.globalExpedited |
  Membarrier.privateExpedited |
  Membarrier.privateExpeditedSyncCore |
  Membarrier.getRegistrations |
  registerable;

export function membarrier(memory: ProgramMemory, task: Task, command: number, flags: number): number {
  const space = memory.addressSpace;
  if (!space.barrier) return -Errno.ENOSYS;
  if (flags !== 0) return -Errno.EINVAL;
  if (command === Membarrier.query) return supported;
  if (command === Membarrier.getRegistrations) return memory.barriers;
  if (command <= 0 || (command & (command - 1)) !== 0 || (command & supported) === 0) return -Errno.EINVAL;
  if (command & registerable) {
    memory.barriers |= command;
    return 0;
  }
  const needed = registrations.get(command);
  if (needed !== undefined && (memory.barriers & needed) === 0) return -Errno.EPERM;
  // One thread is always in step with itself.
  const alone = memory.users === 1 && needed !== undefined;
  if (alone) return 0;
  // Who is registered for global barriers is not known to the host: all are reached.
  const wanted = command === Membarrier.globalExpedited ? Membarrier.global : command;
  return space.barrier(memory.through(task), wanted);
}
