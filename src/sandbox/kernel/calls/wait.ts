// wait4(2) and waitid(2).

import { Errno } from '../../abi/errno.ts';
import { encodeRusage, type ResourceUsage } from '../../abi/resource.ts';
import { Signal } from '../../abi/signal.ts';
import { WaitIdType, WaitInfo, WaitOption } from '../../abi/wait.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { BLOCKED, type Task } from '../contract.ts';
import { PidFile, PidfdFlag } from '../task/pidfd.ts';
import type { Thread } from '../task/thread.ts';
import { type ChildEvent, takeChildEvent, type Wanted } from '../task/wait.ts';
import { Poll } from '../wait-queue.ts';

const wait4Options =
  WaitOption.noHang |
  WaitOption.stopped |
  WaitOption.continued |
  WaitOption.noThread |
  WaitOption.clone |
  WaitOption.all;
const waitidOptions = wait4Options | WaitOption.exited | WaitOption.noWait;

/** Looks, and unless WNOHANG waits; `answer` makes the result of an event, or of none (WNOHANG). */
function waitWith(
  thread: Thread,
  wanted: Wanted,
  options: number,
  answer: (event: ChildEvent | undefined) => number,
): number {
  const attempt = (): number => {
    const found = takeChildEvent(thread, wanted, options);
    if (typeof found !== 'number') return answer(found);
    if (found < 0) return found;
    return options & WaitOption.noHang ? answer(undefined) : BLOCKED;
  };
  const result = attempt();
  if (result !== BLOCKED) return result;
  return thread.block({ on: [{ queue: thread.process.childEvents, events: Poll.in }], retry: attempt });
}

function writeUsage(thread: Thread, address: number, usage: Readonly<ResourceUsage>): number {
  if (address === 0) return 0;
  const bytes = encodeRusage(usage);
  return thread.memory.write(address, bytes, 0, bytes.length);
}

function wait4(task: Task, args: Arguments): number {
  const thread = task as Thread;
  const pid = args.i32(0);
  const statusAddress = args.address(1);
  const options = args.u32(2);
  const usageAddress = args.address(3);
  if ((options & ~wait4Options) !== 0) return -Errno.EINVAL;
  // -INT_MIN is no number of a group.
  if (pid === -0x8000_0000) return -Errno.ESRCH;
  const namespace = thread.process.pidNamespace;
  let wanted: Wanted = { kind: 'any' };
  if (pid < -1) wanted = { kind: 'group', id: namespace.find(-pid) };
  else if (pid === 0) wanted = { kind: 'group', id: thread.process.group.id };
  else if (pid > 0) wanted = { kind: 'task', id: namespace.find(pid) };
  return waitWith(thread, wanted, options | WaitOption.exited, (event) => {
    if (!event) return 0;
    if (statusAddress !== 0 && thread.memory.writeU32(statusAddress, event.status) < 0) return -Errno.EFAULT;
    if (writeUsage(thread, usageAddress, event.usage) < 0) return -Errno.EFAULT;
    return event.pid;
  });
}

function writeInfo(thread: Thread, address: number, event: ChildEvent | undefined): number {
  if (address === 0) return 0;
  const bytes = new Uint8Array(WaitInfo.size);
  const view = new DataView(bytes.buffer);
  if (event) {
    view.setInt32(WaitInfo.signal, Signal.SIGCHLD, true);
    view.setInt32(WaitInfo.code, event.code, true);
    view.setInt32(WaitInfo.pid, event.pid, true);
    view.setUint32(WaitInfo.uid, event.uid, true);
    view.setInt32(WaitInfo.status, event.signalStatus, true);
  }
  // The four bytes between code and pid are padding that Linux leaves alone.
  const { memory } = thread;
  if (memory.write(address, bytes, 0, 12) < 0) return -Errno.EFAULT;
  return memory.write(address + 16, bytes, 16, WaitInfo.size - 16) < 0 ? -Errno.EFAULT : 0;
}

function waitid(task: Task, args: Arguments): number {
  const thread = task as Thread;
  const type = args.i32(0);
  const id = args.i32(1);
  const infoAddress = args.address(2);
  let options = args.u32(3);
  const usageAddress = args.address(4);
  if ((options & ~waitidOptions) !== 0) return -Errno.EINVAL;
  if ((options & (WaitOption.exited | WaitOption.stopped | WaitOption.continued)) === 0) return -Errno.EINVAL;
  const { process } = thread;
  let wanted: Wanted;
  let emptyResult = 0;
  switch (type) {
    case WaitIdType.all:
      wanted = { kind: 'any' };
      break;
    case WaitIdType.pid:
      if (id <= 0) return -Errno.EINVAL;
      wanted = { kind: 'task', id: process.pidNamespace.find(id) };
      break;
    case WaitIdType.group:
      if (id < 0) return -Errno.EINVAL;
      wanted = { kind: 'group', id: id === 0 ? process.group.id : process.pidNamespace.find(id) };
      break;
    case WaitIdType.pidfd: {
      if (id < 0) return -Errno.EINVAL;
      const file = thread.files.get(id);
      if (!(file instanceof PidFile)) return -Errno.EBADF;
      wanted = { kind: 'task', id: file.single ? file.thread.id : file.process.id };
      if (file.flags & PidfdFlag.nonBlock && !(options & WaitOption.noHang)) {
        options |= WaitOption.noHang;
        emptyResult = -Errno.EAGAIN;
      }
      break;
    }
    default:
      return -Errno.EINVAL;
  }
  return waitWith(thread, wanted, options, (event) => {
    if (!event && emptyResult < 0) return emptyResult;
    if (event && writeUsage(thread, usageAddress, event.usage) < 0) return -Errno.EFAULT;
    return writeInfo(thread, infoAddress, event);
  });
}

export const waitSyscalls: readonly Syscall[] = [
  {
    name: 'wait4',
    signature: 'pid:pid status:address options:flags.wait rusage:address -> pid',
    support: 'full',
    handler: wait4,
  },
  {
    name: 'waitid',
    signature: 'which:int id:int info:address options:flags.wait rusage:address',
    support: 'full',
    handler: waitid,
  },
];
