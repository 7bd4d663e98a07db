// nanosleep(2) and clock_nanosleep(2).

import { Errno } from '../../abi/errno.ts';
import { durationOf, readTimespec, type TimeValue, timerAbsolute, writeDuration } from '../../abi/time.ts';
import type { Arguments } from '../../platform/contract.ts';
import { BLOCKED, type Task } from '../contract.ts';
import { WaitQueue } from '../wait-queue.ts';
import {
  type CpuClock,
  deadlineOf,
  findClock,
  isAlarmClock,
  untilWallTime,
  type WallClock,
} from './clocks.ts';
import type { CpuAlarm } from './cpu-alarms.ts';

/**
 * Sleeps until a CLOCK_MONOTONIC deadline. left: where what is left is written when a signal interrupts; 0: nowhere.
 * A sleep for a duration goes on until the same moment when no handler ran.
 */
function sleepUntil(task: Task, deadline: number, left: number): number {
  return task.block({
    on: [],
    deadline,
    retry: () => BLOCKED,
    timedOut: () => 0,
    interrupted: () => {
      const remaining = deadline - task.kernel.clock.monotonic();
      if (remaining <= 0) return 0;
      if (left !== 0 && writeDuration(task.memory, left, Math.ceil(remaining)) < 0) return -Errno.EFAULT;
      task.restart = () => sleepUntil(task, deadline, left);
      return -Errno.ERESTART_RESTARTBLOCK;
    },
  });
}

/** Sleeps until a clock shows a time; made again from the beginning when no handler ran. */
function sleepToTime(task: Task, clock: WallClock, time: TimeValue): number {
  const { kernel } = task;
  return task.block({
    on: [],
    deadline: deadlineOf(kernel, clock.base, time),
    retry: () => BLOCKED,
    // The wall clock may have been set back, or run slower, meanwhile.
    timedOut: () =>
      clock.base === 'realtime' && untilWallTime(kernel, 'realtime', time) > 0
        ? sleepToTime(task, clock, time)
        : 0,
    interrupted: () => -Errno.ERESTARTNOHAND,
  });
}

/** Sleeps until a process (or another thread) has used processor time. */
function sleepOnCpu(task: Task, clock: CpuClock, target: number, absolute: boolean, left: number): number {
  if (clock.read() >= target) return 0;
  const queue = new WaitQueue();
  const alarm: CpuAlarm = { used: () => clock.read(), target, expired: () => queue.notify(1) };
  const alarms = clock.process.timers.alarms;
  alarms.arm(alarm);
  return task.block({
    on: [{ queue, events: 1 }],
    retry: () => (clock.read() >= target ? 0 : BLOCKED),
    interrupted: () => {
      if (absolute) return -Errno.ERESTARTNOHAND;
      const remaining = Math.max(1, target - clock.read());
      if (left !== 0 && writeDuration(task.memory, left, remaining) < 0) return -Errno.EFAULT;
      task.restart = () => sleepOnCpu(task, clock, target, false, left);
      return -Errno.ERESTART_RESTARTBLOCK;
    },
    ended: () => alarms.disarm(alarm),
  });
}

export function nanosleep(task: Task, args: Arguments): number {
  const time = readTimespec(task.memory, args.address(0));
  if (typeof time === 'number') return time;
  return sleepUntil(task, task.kernel.clock.monotonic() + durationOf(time), args.address(1));
}

export function clockNanosleep(task: Task, args: Arguments): number {
  const id = args.i32(0);
  if (isAlarmClock(id)) return -Errno.EOPNOTSUPP;
  // The clocks behind descriptors of devices, of which there are none, cannot be slept on.
  if (id < 0 && (id & 7) === 3) return -Errno.EOPNOTSUPP;
  const clock = findClock(task, id);
  if (typeof clock === 'number') return clock;
  if (!clock.sleepable) return -Errno.EOPNOTSUPP;
  const time = readTimespec(task.memory, args.address(2));
  if (typeof time === 'number') return time;
  const absolute = (args.u32(1) & timerAbsolute) !== 0;
  const left = absolute ? 0 : args.address(3);
  if (clock.kind === 'cpu') {
    // One's own thread uses no time while it sleeps.
    if (clock.task === task) return -Errno.EINVAL;
    const target = durationOf(time) + (absolute ? 0 : clock.read());
    return sleepOnCpu(task, clock, target, absolute, left);
  }
  if (absolute) return sleepToTime(task, clock, time);
  return sleepUntil(task, task.kernel.clock.monotonic() + durationOf(time), left);
}
