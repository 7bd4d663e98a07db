// capget(2) and capset(2), in their three versions.

import { allCapabilities, Capability, CapabilityVersion } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import type { Thread } from '../task/thread.ts';

/** 32-bit words of each set that a header's version asks for; or a negative errno, with the preferred version written. */
function wordsOf(task: Task, header: number): number {
  const version = task.memory.readU32(header);
  if (version < 0) return -Errno.EFAULT;
  switch (version) {
    case CapabilityVersion.v1:
      return 1;
    case CapabilityVersion.v2:
    case CapabilityVersion.v3:
      return 2;
    default:
      return task.memory.writeU32(header, CapabilityVersion.v3) < 0 ? -Errno.EFAULT : -Errno.EINVAL;
  }
}

function capget(task: Task, args: Arguments): number {
  const header = args.address(0);
  const data = args.address(1);
  const words = wordsOf(task, header);
  // A null pointer asks for the version alone.
  if (words < 0) return data === 0 && words === -Errno.EINVAL ? 0 : words;
  if (data === 0) return 0;
  const pidWord = task.memory.readU32(header + 4);
  if (pidWord < 0) return -Errno.EFAULT;
  const pid = pidWord | 0;
  if (pid < 0) return -Errno.EINVAL;
  const thread = task as Thread;
  const target = pid === 0 ? thread : thread.process.pidNamespace.findTask(pid);
  if (!target) return -Errno.ESRCH;
  const { effective, permitted, inheritable } = target.credentials;
  const bytes = new Uint8Array(words * 12);
  const view = new DataView(bytes.buffer);
  for (let word = 0; word < words; word++)
    for (const [index, set] of [effective, permitted, inheritable].entries())
      view.setUint32(word * 12 + index * 4, Number((set >> BigInt(32 * word)) & 0xffff_ffffn), true);
  return task.memory.write(data, bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
}

function capset(task: Task, args: Arguments): number {
  const header = args.address(0);
  const words = wordsOf(task, header);
  if (words < 0) return words;
  const pid = task.memory.readU32(header + 4);
  if (pid < 0) return -Errno.EFAULT;
  if (pid !== 0 && pid !== task.visibleTid) return -Errno.EPERM;
  const bytes = new Uint8Array(words * 12);
  if (task.memory.read(args.address(1), bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const read = (index: number): bigint => {
    let set = 0n;
    for (let word = 0; word < words; word++)
      set |= BigInt(view.getUint32(word * 12 + index * 4, true)) << BigInt(32 * word);
    return set & allCapabilities;
  };
  const [effective, permitted, inheritable] = [read(0), read(1), read(2)];
  const thread = task as Thread;
  const old = thread.credentials;
  if (!old.has(Capability.setpcap) && (inheritable & ~(old.inheritable | old.permitted)) !== 0n)
    return -Errno.EPERM;
  if ((inheritable & ~(old.inheritable | old.bounding)) !== 0n) return -Errno.EPERM;
  if ((permitted & ~old.permitted) !== 0n) return -Errno.EPERM;
  if ((effective & ~permitted) !== 0n) return -Errno.EPERM;
  const ambient = old.ambient & permitted & inheritable;
  thread.setCredentials(old.change({ effective, permitted, inheritable, ambient }));
  return 0;
}

export const capabilitySyscalls: readonly Syscall[] = [
  { name: 'capget', signature: 'header:address data:address', support: 'full', handler: capget },
  { name: 'capset', signature: 'header:address data:address', support: 'full', handler: capset },
];
