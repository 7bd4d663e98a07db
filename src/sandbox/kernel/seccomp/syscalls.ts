// seccomp(2) and what prctl(2) has of it.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import {
  allSeccompFlags,
  FilterInstructionLayout,
  FilterProgramLayout,
  maximumInstructions,
  NotificationLayout,
  NotificationSizesLayout,
  ResponseLayout,
  SeccompAction,
  SeccompFlag,
  SeccompOperation,
  seccompDataSize,
} from '../../abi/seccomp.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Kernel, Task } from '../contract.ts';
import { Work } from '../signal/contract.ts';
import { signalsOf } from '../signal/task-signals.ts';
import { FilterProgram } from './bpf.ts';
import type { Seccomp } from './contract.ts';
import { SeccompListener } from './listener.ts';
import { FilterChain, strictSeccomp } from './seccomp.ts';

const availableActions = new Set<number>([
  SeccompAction.KILL_PROCESS,
  SeccompAction.KILL_THREAD,
  SeccompAction.TRAP,
  SeccompAction.ERRNO,
  SeccompAction.USER_NOTIF,
  SeccompAction.TRACE,
  SeccompAction.LOG,
  SeccompAction.ALLOW,
]);

/** PR_SET_SECCOMP: mode SECCOMP_MODE_STRICT (1) or SECCOMP_MODE_FILTER (2) with the address of a program. */
export function setSeccomp(task: Task, mode: number, program: number): number {
  if (mode === 1) return setStrict(task);
  if (mode === 2) return setFilter(task, 0, program);
  return -Errno.EINVAL;
}

function seccomp(task: Task, args: Arguments): number {
  const flags = args.u32(1);
  const address = args.address(2);
  switch (args.u32(0)) {
    case SeccompOperation.SET_MODE_STRICT:
      return flags !== 0 || address !== 0 ? -Errno.EINVAL : setStrict(task);
    case SeccompOperation.SET_MODE_FILTER:
      return setFilter(task, flags, address);
    case SeccompOperation.GET_ACTION_AVAIL: {
      if (flags !== 0) return -Errno.EINVAL;
      const action = task.memory.readU32(address);
      if (action < 0) return -Errno.EFAULT;
      return availableActions.has(action) ? 0 : -Errno.EOPNOTSUPP;
    }
    case SeccompOperation.GET_NOTIF_SIZES:
      return flags !== 0 ? -Errno.EINVAL : notificationSizes(task, address);
    default:
      return -Errno.EINVAL;
  }
}

function notificationSizes(task: Task, address: number): number {
  const sizes = new Uint8Array(NotificationSizesLayout.size);
  const view = new DataView(sizes.buffer);
  view.setUint16(NotificationSizesLayout.notification, NotificationLayout.size, true);
  view.setUint16(NotificationSizesLayout.response, ResponseLayout.size, true);
  view.setUint16(NotificationSizesLayout.data, seccompDataSize, true);
  return task.memory.write(address, sizes, 0, sizes.length) < 0 ? -Errno.EFAULT : 0;
}

function assign(task: Task, state: Seccomp): void {
  task.seccomp = state;
  task.signals.setWork(Work.seccomp);
}

function setStrict(task: Task): number {
  if (task.seccomp.mode === 2) return -Errno.EINVAL;
  assign(task, strictSeccomp);
  return 0;
}

/** The filter at the address of a struct sock_fprog, in the order of Linux's checks. */
function readProgram(task: Task, address: number): FilterProgram | number {
  const header = new Uint8Array(FilterProgramLayout.size);
  if (task.memory.read(address, header, 0, header.length) < 0) return -Errno.EFAULT;
  const view = new DataView(header.buffer);
  const length = view.getUint16(FilterProgramLayout.length, true);
  if (length === 0 || length > maximumInstructions) return -Errno.EINVAL;
  if (!task.noNewPrivileges && !task.credentials.hasIn(task.credentials.userNamespace, Capability.sysAdmin))
    return -Errno.EACCES;
  const bytes = new Uint8Array(length * FilterInstructionLayout.size);
  const from = Number(view.getBigUint64(FilterProgramLayout.filter, true));
  if (task.memory.read(from, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  return FilterProgram.decode(bytes);
}

/** 0, a listener's descriptor, a negative errno, or with TSYNC the number of a thread that cannot follow. */
function setFilter(task: Task, flags: number, address: number): number {
  if (flags & ~allSeccompFlags) return -Errno.EINVAL;
  const listens = (flags & SeccompFlag.NEW_LISTENER) !== 0;
  // Both give a number: of a descriptor, or of a thread that cannot follow.
  if (flags & SeccompFlag.TSYNC && listens && !(flags & SeccompFlag.TSYNC_ESRCH)) return -Errno.EINVAL;
  if (flags & SeccompFlag.WAIT_KILLABLE_RECV && !listens) return -Errno.EINVAL;
  const program = readProgram(task, address);
  if (typeof program === 'number') return program;
  const former = task.seccomp;
  if (former.mode === 1) return -Errno.EINVAL;
  const previous = former instanceof FilterChain ? former : undefined;
  if (listens && previous?.hasListener()) return -Errno.EBUSY;
  const room = FilterChain.roomFor(program.length, previous);
  if (room < 0) return room;
  const others =
    flags & SeccompFlag.TSYNC ? signalsOf(task).process.threads.filter((other) => other.task !== task) : [];
  for (const { task: other } of others) {
    const state = other.seccomp;
    if (state.mode === 0 || (state instanceof FilterChain && state.isAncestorOf(previous))) continue;
    if (flags & SeccompFlag.TSYNC_ESRCH) return -Errno.ESRCH;
    return other.tidIn(task.process.pidNamespace) || -Errno.ESRCH;
  }
  const chain = new FilterChain(program, previous);
  let result = 0;
  if (listens) {
    const listener = new SeccompListener(task.kernel, (flags & SeccompFlag.WAIT_KILLABLE_RECV) !== 0);
    result = task.files.install(task, listener, true);
    if (result < 0) {
      listener.unreference();
      return result;
    }
    listener.inUse = () => used(task.kernel, chain);
    chain.listener = listener;
  }
  assign(task, chain);
  for (const { task: other } of others) {
    if (task.noNewPrivileges) other.noNewPrivileges = true;
    assign(other, chain);
  }
  return result;
}

/** Whether a living thread is under this filter. */
function used(kernel: Kernel, chain: FilterChain): boolean {
  for (const [, process] of kernel.rootPidNamespace.processes())
    for (const { seccomp: state } of process.tasks)
      if (state instanceof FilterChain && chain.isAncestorOf(state)) return true;
  return false;
}

export const seccompSyscalls: readonly Syscall[] = [
  {
    name: 'seccomp',
    signature: 'operation:uint flags:flags.seccomp args:address',
    support: 'full',
    handler: seccomp,
  },
];
