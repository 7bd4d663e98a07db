// eventfd(2), eventfd2(2).

import { Errno } from '../../abi/errno.ts';
import { EventFlag } from '../../abi/event.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { EventFile } from './eventfd.ts';
import { installFile } from './open-file.ts';

function create(task: Task, count: number, flags: number): number {
  const { closeOnExec, nonBlock, semaphore } = EventFlag;
  if (flags & ~(closeOnExec | nonBlock | semaphore)) return -Errno.EINVAL;
  const open = OpenFlag.readWrite | (flags & nonBlock);
  const file = new EventFile(task.kernel, open, count, (flags & semaphore) !== 0);
  return installFile(task, file, (flags & closeOnExec) !== 0);
}

export const eventfdSyscalls: readonly Syscall[] = [
  {
    name: 'eventfd',
    signature: 'count:uint -> fd',
    support: 'full',
    handler: (task: Task, args: Arguments) => create(task, args.u32(0), 0),
  },
  {
    name: 'eventfd2',
    signature: 'count:uint flags:flags.open -> fd',
    support: 'full',
    handler: (task: Task, args: Arguments) => create(task, args.u32(0), args.u32(1)),
  },
];
