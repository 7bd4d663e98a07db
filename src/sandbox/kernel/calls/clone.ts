// fork(2), vfork(2), clone(2), clone3(2), exit(2), exit_group(2), set_tid_address(2).

import { Clone, CloneArguments, maximumNamespaceLevel } from '../../abi/clone.ts';
import { Errno } from '../../abi/errno.ts';
import { Signal } from '../../abi/signal.ts';
import type { Arguments, UserMemory } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { REGISTERS_SET, type Task } from '../contract.ts';
import { type CloneRequest, cloneTask } from '../task/clone.ts';
import type { Thread } from '../task/thread.ts';

const plainFork: CloneRequest = {
  flags: 0,
  highFlags: 0,
  exitSignal: Signal.SIGCHLD,
  stack: 0,
  tls: 0,
  parentTid: 0,
  childTid: 0,
  pidfd: 0,
  setTid: [],
  cgroup: -1,
};

function clone(task: Task, args: Arguments): number {
  const word = args.u32(0);
  const flags = (word & ~Clone.signalMask) >>> 0;
  const parentTid = args.address(2);
  if (flags & Clone.pidfd && flags & Clone.parentSetTid) return -Errno.EINVAL;
  return cloneTask(task as Thread, {
    ...plainFork,
    flags,
    exitSignal: word & Clone.signalMask,
    stack: args.address(1),
    parentTid,
    childTid: args.address(3),
    tls: args.address(4),
    pidfd: parentTid,
  });
}

/** Bits of clone3's flags that nobody knows. */
const clone3Forbidden = Clone.detached | (Clone.signalMask & ~Clone.newTime);

/** copy_struct_from_user: bytes beyond what is known must be zero. */
function readExtensible(
  memory: UserMemory,
  address: number,
  size: number,
  known: number,
): Uint8Array | number {
  const bytes = new Uint8Array(Math.max(size, known));
  if (memory.read(address, bytes, 0, size) < 0) return -Errno.EFAULT;
  for (let at = known; at < size; at++) if (bytes[at] !== 0) return -Errno.E2BIG;
  return bytes;
}

function readSetTid(memory: UserMemory, address: number, count: number): number[] | number {
  const bytes = new Uint8Array(count * 4);
  if (memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  return Array.from({ length: count }, (_, index) => view.getInt32(index * 4, true));
}

function clone3(task: Task, args: Arguments): number {
  const size = args.size(1);
  if (size > 4096) return -Errno.E2BIG;
  if (size < CloneArguments.sizeVersion0) return -Errno.EINVAL;
  const { memory } = task;
  const bytes = readExtensible(memory, args.address(0), size, CloneArguments.sizeVersion2);
  if (typeof bytes === 'number') return bytes;
  const view = new DataView(bytes.buffer);
  const field = (offset: number): number => Number(view.getBigUint64(offset, true));
  const setTidAddress = field(CloneArguments.setTid);
  const setTidSize = field(CloneArguments.setTidSize);
  if (setTidSize > maximumNamespaceLevel) return -Errno.EINVAL;
  if ((setTidAddress === 0) !== (setTidSize === 0)) return -Errno.EINVAL;
  const exitSignal = field(CloneArguments.exitSignal);
  if (exitSignal > Signal.SIGRTMAX) return -Errno.EINVAL;
  const highFlags = view.getUint32(CloneArguments.flags + 4, true);
  const flags = view.getUint32(CloneArguments.flags, true);
  const cgroup = field(CloneArguments.cgroup);
  const intoCgroup = (highFlags & 2) !== 0;
  if (intoCgroup && (cgroup > 0x7fff_ffff || size < CloneArguments.sizeVersion2)) return -Errno.EINVAL;
  let setTid: number[] | number = [];
  if (setTidSize > 0) setTid = readSetTid(memory, setTidAddress, setTidSize);
  if (typeof setTid === 'number') return setTid;
  if (highFlags & ~3 || (flags & clone3Forbidden) !== 0) return -Errno.EINVAL;
  if (highFlags & 1 && flags & Clone.sighand) return -Errno.EINVAL;
  if (flags & (Clone.thread | Clone.parent) && exitSignal !== 0) return -Errno.EINVAL;
  const stack = field(CloneArguments.stack);
  const stackSize = field(CloneArguments.stackSize);
  if ((stack === 0) !== (stackSize === 0)) return -Errno.EINVAL;
  if (stack + stackSize > task.kernel.platform.userRange.end) return -Errno.EINVAL;
  const pidfd = field(CloneArguments.pidfd);
  const parentTid = field(CloneArguments.parentTid);
  if (flags & Clone.pidfd && flags & Clone.parentSetTid && pidfd === parentTid) return -Errno.EINVAL;
  return cloneTask(task as Thread, {
    flags,
    highFlags,
    exitSignal,
    stack: stack === 0 ? 0 : stack + stackSize,
    tls: field(CloneArguments.tls),
    parentTid,
    childTid: field(CloneArguments.childTid),
    pidfd,
    setTid,
    cgroup,
  });
}

export const cloneSyscalls: readonly Syscall[] = [
  {
    name: 'fork',
    signature: ' -> pid',
    support: 'full',
    handler: (task) => cloneTask(task as Thread, plainFork),
  },
  {
    name: 'vfork',
    signature: ' -> pid',
    support: 'full',
    handler: (task) => cloneTask(task as Thread, { ...plainFork, flags: Clone.vfork | Clone.vm }),
  },
  {
    name: 'clone',
    signature: 'flags:flags.clone stack:address parent_tid:address child_tid:address tls:address -> pid',
    support: 'full',
    handler: clone,
  },
  {
    name: 'clone3',
    signature: 'args:address size:size -> pid',
    support: 'partial',
    note: 'no time namespaces (EINVAL); CLONE_INTO_CGROUP finds no cgroup directories (EBADF)',
    handler: clone3,
  },
  {
    name: 'exit',
    signature: 'status:int',
    support: 'full',
    handler: (task, args) => {
      task.exit((args.i32(0) & 0xff) << 8);
      return REGISTERS_SET;
    },
  },
  {
    name: 'exit_group',
    signature: 'status:int',
    support: 'full',
    handler: (task, args) => {
      task.exitGroup((args.i32(0) & 0xff) << 8);
      return REGISTERS_SET;
    },
  },
  {
    name: 'set_tid_address',
    signature: 'address:address -> pid',
    support: 'full',
    handler: (task, args) => {
      (task as Thread).clearChildTid = args.address(0);
      return task.visibleTid;
    },
  },
];
