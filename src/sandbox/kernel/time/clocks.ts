// Clock ids to clocks: which exist, what they show, which of them one can sleep or set timers on (kernel/time/
// posix-timers.c, posix-cpu-timers.c). On a machine without a real-time clock device, as here, the alarm clocks exist
// only for timerfd.

import { Errno } from '../../abi/errno.ts';
import { ClockId, second, type TimeValue, tickNanoseconds } from '../../abi/time.ts';
import type { Kernel, Process, Task } from '../contract.ts';

/** What a wall clock counts from. */
export type WallBase = 'realtime' | 'monotonic' | 'boot';

export interface WallClock {
  readonly kind: 'wall';
  readonly base: WallBase;
  readonly resolution: number;
  /** clock_nanosleep and timer_create work on it. */
  readonly sleepable: boolean;
  /** clock_settime exists for it (and is refused for want of CAP_SYS_TIME over the host's clock). */
  readonly settable: boolean;
}

export interface CpuClock {
  readonly kind: 'cpu';
  /** Undefined: a whole process. */
  readonly task: Task | undefined;
  readonly process: Process;
  /** CPUCLOCK_PROF and CPUCLOCK_SCHED count user and system time, CPUCLOCK_VIRT only the program's own. */
  readonly which: 'prof' | 'virt' | 'sched';
  /** CLOCK_THREAD_CPUTIME_ID: no sleeping on it. */
  readonly sleepable: boolean;
  /** Nanoseconds. */
  read(): number;
}

const wall = (base: WallBase, resolution: number, sleepable: boolean, settable = false): WallClock => ({
  kind: 'wall',
  base,
  resolution,
  sleepable,
  settable,
});

const wallClocks: ReadonlyMap<number, WallClock> = new Map([
  [ClockId.realtime, wall('realtime', 1, true, true)],
  [ClockId.monotonic, wall('monotonic', 1, true)],
  [ClockId.monotonicRaw, wall('monotonic', 1, false)],
  [ClockId.realtimeCoarse, wall('realtime', tickNanoseconds, false)],
  [ClockId.monotonicCoarse, wall('monotonic', tickNanoseconds, false)],
  [ClockId.boottime, wall('boot', 1, true)],
  [ClockId.tai, wall('realtime', 1, true)],
]);

/** The alarm clocks without a device behind them: EINVAL to read, EOPNOTSUPP to wait on. */
export function isAlarmClock(id: number): boolean {
  return id === ClockId.realtimeAlarm || id === ClockId.boottimeAlarm;
}

/** The clock, or -EINVAL. `gettime`: a thread's number may stand for its process, as clock_gettime(2) allows. */
export function findClock(task: Task, id: number, gettime = false): WallClock | CpuClock | number {
  const found = wallClocks.get(id);
  if (found) return found;
  if (id === ClockId.processCpu) return cpuClock(task.process, undefined, 'sched', true);
  if (id === ClockId.threadCpu) return cpuClock(task.process, task, 'sched', false);
  if (id >= 0) return -Errno.EINVAL;
  const which = ([`prof`, `virt`, `sched`] as const)[id & 3];
  if (which === undefined) return -Errno.EINVAL;
  const number = ~(id >> 3);
  const perThread = (id & 4) !== 0;
  if (perThread) {
    const thread = number === 0 ? task : findTask(task, number);
    if (!thread || thread.process !== task.process) return -Errno.EINVAL;
    return cpuClock(thread.process, thread, which, true);
  }
  if (number === 0 || (gettime && number === task.visibleTid))
    return cpuClock(task.process, undefined, which, true);
  const process = task.process.pidNamespace.findProcess(number);
  return process ? cpuClock(process, undefined, which, true) : -Errno.EINVAL;
}

function findTask(task: Task, number: number): Task | undefined {
  return task.process.pidNamespace.findTask(number);
}

function cpuClock(
  process: Process,
  task: Task | undefined,
  which: 'prof' | 'virt' | 'sched',
  sleepable: boolean,
): CpuClock {
  const read = (): number => {
    const { user, system } = (task ?? process).cpuTime();
    return which === 'virt' ? user : user + system;
  };
  return { kind: 'cpu', process, task, which, sleepable, read };
}

/** The resolution that clock_getres reports. */
export function resolutionOf(clock: WallClock | CpuClock): number {
  if (clock.kind === 'wall') return clock.resolution;
  return clock.which === 'sched' ? 1 : tickNanoseconds;
}

/** What the clock shows. */
export function readWallClock(kernel: Kernel, clock: WallClock): TimeValue {
  if (clock.base === 'realtime') return coarse(kernel.clock.realtime(), clock.resolution);
  const time = clock.base === 'boot' ? kernel.clock.boot() : kernel.clock.monotonic();
  const sec = Math.floor(time / second);
  return coarse({ sec, nsec: Math.floor(time - sec * second) }, clock.resolution);
}

function coarse(time: TimeValue, resolution: number): TimeValue {
  return resolution === 1 ? time : { sec: time.sec, nsec: time.nsec - (time.nsec % resolution) };
}

/** Nanoseconds until the clock shows `time`; negative when it has passed. Exact near its end even for realtime. */
export function untilWallTime(kernel: Kernel, base: WallBase, time: TimeValue): number {
  if (base === 'monotonic') return time.sec * second + time.nsec - kernel.clock.monotonic();
  if (base === 'boot') return time.sec * second + time.nsec - kernel.clock.boot();
  const now = kernel.clock.realtime();
  return (time.sec - now.sec) * second + (time.nsec - now.nsec);
}

/** The CLOCK_MONOTONIC deadline at which the clock will show `time`. */
export function deadlineOf(kernel: Kernel, base: WallBase, time: TimeValue): number {
  if (base === 'monotonic') return time.sec * second + time.nsec;
  return kernel.clock.monotonic() + untilWallTime(kernel, base, time);
}
