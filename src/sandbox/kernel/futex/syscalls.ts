// futex(2), futex_waitv(2), set_robust_list(2), get_robust_list(2): decoding, in Linux's order of checks.

import { Errno } from '../../abi/errno.ts';
import { FutexCommand, FutexFlag, FutexWaitv, RobustListHead } from '../../abi/futex.ts';
import { ClockId, durationOf, readTimespec } from '../../abi/time.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import { mayAccess } from '../ptrace/access.ts';
import { deadlineOf } from '../time/clocks.ts';
import { anyBit } from './futexes.ts';
import { lockPi, requeuePi, unlockPi, waitRequeuePi } from './pi.ts';
import { readWaitv, waitAny } from './waitv.ts';

function futex(task: Task, args: Arguments): number {
  const futexes = task.kernel.futexes;
  const address = args.address(0);
  const operation = args.u32(1);
  const command = operation & 127;
  const shared = (operation & FutexFlag.private) === 0;
  const realtime = (operation & FutexFlag.clockRealtime) !== 0;
  const value = args.u32(2);
  if (
    realtime &&
    command !== FutexCommand.waitBitset &&
    command !== FutexCommand.waitRequeuePi &&
    command !== FutexCommand.lockPi2
  )
    return -Errno.ENOSYS;

  let deadline: number | undefined;
  const timeout = args.address(3);
  if (timeout !== 0 && hasTimeout(command)) {
    const found = readDeadline(task, timeout, command, realtime);
    if (found < 0) return found;
    deadline = found;
  }
  // For the other commands the same register is a count.
  const secondCount = args.i32(3);
  const second = args.address(4);
  const third = args.u32(5);
  switch (command) {
    case FutexCommand.wait:
      return futexes.wait(task, address, shared, value, anyBit, deadline);
    case FutexCommand.waitBitset:
      return futexes.wait(task, address, shared, value, third, deadline);
    case FutexCommand.wake:
      return futexes.wake(task, address, shared, value | 0, anyBit);
    case FutexCommand.wakeBitset:
      return futexes.wake(task, address, shared, value | 0, third);
    case FutexCommand.requeue:
      return futexes.requeue(task, address, second, shared, value | 0, secondCount, undefined);
    case FutexCommand.cmpRequeue:
      return futexes.requeue(task, address, second, shared, value | 0, secondCount, third);
    case FutexCommand.wakeOp:
      return futexes.wakeOperation(task, address, second, shared, value | 0, secondCount, third);
    case FutexCommand.lockPi:
    case FutexCommand.lockPi2:
      return lockPi(futexes, task, address, shared, deadline, false);
    case FutexCommand.trylockPi:
      return lockPi(futexes, task, address, shared, undefined, true);
    case FutexCommand.unlockPi:
      return unlockPi(futexes, task, address, shared);
    case FutexCommand.waitRequeuePi:
      return waitRequeuePi(futexes, task, address, shared, value, anyBit, deadline, second);
    case FutexCommand.cmpRequeuePi:
      return requeuePi(futexes, task, address, second, shared, value | 0, secondCount, third);
    default:
      return -Errno.ENOSYS;
  }
}

function hasTimeout(command: number): boolean {
  return (
    command === FutexCommand.wait ||
    command === FutexCommand.waitBitset ||
    command === FutexCommand.lockPi ||
    command === FutexCommand.lockPi2 ||
    command === FutexCommand.waitRequeuePi
  );
}

/** FUTEX_WAIT's time is relative, FUTEX_LOCK_PI's is of the wall clock, the others' by the flag. */
function readDeadline(task: Task, address: number, command: number, realtime: boolean): number {
  const time = readTimespec(task.memory, address);
  if (typeof time === 'number') return time;
  if (command === FutexCommand.wait) return task.kernel.clock.monotonic() + durationOf(time);
  const base = realtime || command === FutexCommand.lockPi ? 'realtime' : 'monotonic';
  return Math.max(0, deadlineOf(task.kernel, base, time));
}

function futexWaitv(task: Task, args: Arguments): number {
  const waiters = args.address(0);
  const count = args.u32(1);
  if (args.u32(2) !== 0) return -Errno.EINVAL;
  if (count === 0 || count > FutexWaitv.maximum || waiters === 0) return -Errno.EINVAL;
  let deadline: number | undefined;
  if (args.address(3) !== 0) {
    const clock = args.i32(4);
    if (clock !== ClockId.monotonic && clock !== ClockId.realtime) return -Errno.EINVAL;
    const time = readTimespec(task.memory, args.address(3));
    if (typeof time === 'number') return time;
    deadline = Math.max(
      0,
      deadlineOf(task.kernel, clock === ClockId.realtime ? 'realtime' : 'monotonic', time),
    );
  }
  const elements = readWaitv(task, waiters, count);
  if (typeof elements === 'number') return elements;
  return waitAny(task.kernel.futexes, task, elements, deadline);
}

function setRobustList(task: Task, args: Arguments): number {
  if (args.size(1) !== RobustListHead.size) return -Errno.EINVAL;
  task.robustList = args.address(0);
  return 0;
}

function getRobustList(task: Task, args: Arguments): number {
  const tid = args.i32(0);
  const target = tid === 0 ? task : task.process.pidNamespace.findTask(tid);
  if (!target) return -Errno.ESRCH;
  const refused = mayAccess(task, target);
  if (refused < 0) return refused;
  if (task.memory.writeU64(args.address(2), RobustListHead.size) < 0) return -Errno.EFAULT;
  return task.memory.writeU64(args.address(1), target.robustList) < 0 ? -Errno.EFAULT : 0;
}

export const futexSyscalls: readonly Syscall[] = [
  {
    name: 'futex',
    signature: 'address:address op:enum.futex value:uint timeout:timespec address2:address value3:uint',
    support: 'full',
    handler: futex,
  },
  {
    name: 'futex_waitv',
    signature: 'waiters:address count:uint flags:hex timeout:timespec clock:int',
    support: 'full',
    handler: futexWaitv,
  },
  { name: 'set_robust_list', signature: 'head:address length:size', support: 'full', handler: setRobustList },
  {
    name: 'get_robust_list',
    signature: 'pid:pid head:address length:address',
    support: 'full',
    handler: getRobustList,
  },
];
