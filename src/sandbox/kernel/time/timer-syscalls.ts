// getitimer(2), setitimer(2), alarm(2), timer_create(2) and their like.

import { Errno } from '../../abi/errno.ts';
import {
  durationOf,
  readTimespec,
  readTimeval,
  second,
  timerAbsolute,
  writeDuration,
} from '../../abi/time.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Task } from '../contract.ts';
import { findClock, isAlarmClock } from './clocks.ts';
import type { PosixTimer, TimerNotification, TimerState } from './posix-timer.ts';
import type { IntervalTimerKind } from './process-timers.ts';

const SIGALRM = 14;
const signalMaximum = 64;

// Interval timers: struct itimerval is the interval and then the value, each a timeval.

function intervalKind(which: number): IntervalTimerKind | undefined {
  return which === 0 || which === 1 || which === 2 ? which : undefined;
}

function writeItimerval(task: Task, address: number, state: TimerState): number {
  for (const [index, nanoseconds] of [state.interval, state.left].entries()) {
    const usec = Math.floor(nanoseconds / 1000);
    const at = address + 16 * index;
    if (task.memory.writeU64(at, Math.floor(usec / 1e6)) < 0) return -Errno.EFAULT;
    if (task.memory.writeU64(at + 8, usec % 1e6) < 0) return -Errno.EFAULT;
  }
  return 0;
}

export function getitimer(task: Task, args: Arguments): number {
  const kind = intervalKind(args.i32(0));
  if (kind === undefined) return -Errno.EINVAL;
  return writeItimerval(task, args.address(1), task.process.timers.interval(kind).state());
}

/** Nanoseconds, -EFAULT or -EINVAL. */
function readInterval(task: Task, address: number): number {
  const time = readTimeval(task.memory, address);
  if (typeof time === 'number') return time;
  if (time.sec < 0 || time.usec < 0 || time.usec >= 1e6) return -Errno.EINVAL;
  return time.sec * second + time.usec * 1000;
}

export function setitimer(task: Task, args: Arguments): number {
  const address = args.address(1);
  let interval = 0;
  let value = 0;
  if (address !== 0) {
    interval = readInterval(task, address);
    value = readInterval(task, address + 16);
    if (interval === -Errno.EFAULT || value === -Errno.EFAULT) return -Errno.EFAULT;
    if (interval < 0 || value < 0) return -Errno.EINVAL;
  }
  const kind = intervalKind(args.i32(0));
  if (kind === undefined) return -Errno.EINVAL;
  const timer = task.process.timers.interval(kind);
  const old = timer.state();
  timer.set(value, interval);
  return args.address(2) === 0 ? 0 : writeItimerval(task, args.address(2), old);
}

export function alarm(task: Task, args: Arguments): number {
  const timer = task.process.timers.interval(0);
  const { left } = timer.state();
  timer.set(Math.min(args.u32(0), 0x7fff_ffff) * second, 0);
  const seconds = Math.floor(left / second);
  const rest = left - seconds * second;
  // Never 0 for an alarm that was pending.
  return seconds + (rest >= second / 2 || (seconds === 0 && rest > 0) ? 1 : 0);
}

// POSIX timers.

/** struct sigevent. */
const SigEvent = { value: 0, signal: 8, notify: 12, thread: 16, size: 64 } as const;

/** SIGEV_*. */
const Notify = { signal: 0, none: 1, thread: 2, threadId: 4 } as const;

/** good_sigevent. */
function notificationOf(task: Task, bytes: Uint8Array): TimerNotification | number {
  const view = new DataView(bytes.buffer);
  const value = view.getBigUint64(SigEvent.value, true);
  const signal = view.getInt32(SigEvent.signal, true);
  const notify = view.getInt32(SigEvent.notify, true);
  if (notify === Notify.none) return { kind: 'none' };
  let target: Task | undefined;
  if (notify === Notify.threadId) {
    target = task.process.pidNamespace.findTask(view.getInt32(SigEvent.thread, true));
    if (!target || target.process !== task.process) return -Errno.EINVAL;
  } else if (notify !== Notify.signal && notify !== Notify.thread) return -Errno.EINVAL;
  if (signal <= 0 || signal > signalMaximum) return -Errno.EINVAL;
  return { kind: 'signal', signal, value, task: target };
}

export function timerCreate(task: Task, args: Arguments): number {
  const id = args.i32(0);
  const address = args.address(1);
  let bytes: Uint8Array | undefined;
  if (address !== 0) {
    bytes = new Uint8Array(SigEvent.size);
    if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  }
  if (isAlarmClock(id)) return -Errno.EOPNOTSUPP;
  if (id < 0 && (id & 7) === 3) return -Errno.EOPNOTSUPP;
  const clock = findClock(task, id);
  if (typeof clock === 'number') return clock;
  if (clock.kind === 'wall' && !clock.sleepable) return -Errno.EOPNOTSUPP;
  const { timers } = task.process;
  let timer: PosixTimer | number;
  if (bytes) {
    timer = timers.create(clock, notificationOf(task, bytes));
  } else {
    timer = timers.create(clock, (number) => ({
      kind: 'signal',
      signal: SIGALRM,
      value: BigInt(number),
      task: undefined,
    }));
  }
  if (typeof timer === 'number') return timer;
  if (task.memory.writeU32(args.address(2), timer.id) >= 0) return 0;
  timers.delete(timer.id);
  return -Errno.EFAULT;
}

function writeItimerspec(task: Task, address: number, state: TimerState): number {
  const { memory } = task;
  if (writeDuration(memory, address, state.interval) < 0) return -Errno.EFAULT;
  return writeDuration(memory, address + 16, state.left);
}

export function timerSettime(task: Task, args: Arguments): number {
  const address = args.address(2);
  if (address === 0) return -Errno.EINVAL;
  const interval = readTimespec(task.memory, address);
  const value = readTimespec(task.memory, address + 16);
  if (interval === -Errno.EFAULT || value === -Errno.EFAULT) return -Errno.EFAULT;
  if (typeof interval === 'number' || typeof value === 'number') return -Errno.EINVAL;
  const timer = task.process.timers.find(args.i32(0));
  if (!timer) return -Errno.EINVAL;
  const old = timer.state();
  timer.set(value, durationOf(interval), (args.i32(1) & timerAbsolute) !== 0);
  return args.address(3) === 0 ? 0 : writeItimerspec(task, args.address(3), old);
}

export function timerGettime(task: Task, args: Arguments): number {
  const timer = task.process.timers.find(args.i32(0));
  return timer ? writeItimerspec(task, args.address(1), timer.state()) : -Errno.EINVAL;
}

export function timerGetoverrun(task: Task, args: Arguments): number {
  return task.process.timers.find(args.i32(0))?.overrun ?? -Errno.EINVAL;
}

export function timerDelete(task: Task, args: Arguments): number {
  return task.process.timers.delete(args.i32(0)) ? 0 : -Errno.EINVAL;
}
