// One POSIX timer (timer_create(2)): on a wall clock or on processor time, periodic or not, telling by a signal or not
// at all. A periodic timer that has sent its signal does not run until that signal is taken off the queue; what would
// have expired meanwhile is the overrun (kernel/time/posix-timers.c).

import { durationOf, type TimeValue } from '../../abi/time.ts';
import type { Kernel, Process, SignalInfo, Task, Timer } from '../contract.ts';
import { type CpuClock, deadlineOf, untilWallTime, type WallClock } from './clocks.ts';
import type { CpuAlarm, CpuAlarms } from './cpu-alarms.ts';

/** SI_TIMER. */
const fromTimer = -2;

/**
 * Closest together that a periodic timer goes off; what comes between are overruns. Signals cannot be delivered faster,
 * and a timer whose signal is ignored must not keep the kernel busy.
 */
export const shortestPeriod = 50_000;

/** si_overrun saturates. */
const maximumOverrun = 0x7fff_ffff;

/** How expiry is told. */
export type TimerNotification =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'signal';
      readonly signal: number;
      readonly value: bigint;
      readonly task: Task | undefined;
    };

export interface TimerState {
  /** Nanoseconds; 0: disarmed. */
  readonly left: number;
  readonly interval: number;
}

export class PosixTimer {
  readonly id: number;
  readonly #kernel: Kernel;
  readonly #process: Process;
  readonly #clock: WallClock | CpuClock;
  readonly #notification: TimerNotification;
  readonly #alarms: CpuAlarms;
  readonly #alarm: CpuAlarm;
  #interval = 0;
  /** When it expires (next, or last if its signal is still queued): CLOCK_MONOTONIC or processor time; -1: disarmed. */
  #expiry = -1;
  #timer: Timer | undefined;
  /** Its signal is queued. */
  #signalled = false;
  /** Goes up when it is set or deleted. */
  #generation = 0;
  #overrun = 0;

  constructor(
    kernel: Kernel,
    process: Process,
    alarms: CpuAlarms,
    id: number,
    clock: WallClock | CpuClock,
    notification: TimerNotification,
  ) {
    this.#kernel = kernel;
    this.#process = process;
    this.#alarms = alarms;
    this.id = id;
    this.#clock = clock;
    this.#notification = notification;
    this.#alarm = {
      used: () => (clock.kind === 'cpu' ? clock.read() : undefined),
      target: 0,
      expired: () => this.#expired(),
    };
  }

  #now(): number {
    return this.#clock.kind === 'cpu' ? this.#clock.read() : this.#kernel.clock.monotonic();
  }

  /** timer_getoverrun(2): of the last signal that was delivered. */
  get overrun(): number {
    return this.#overrun;
  }

  state(): TimerState {
    const interval = this.#interval;
    if (this.#expiry < 0) return { left: 0, interval };
    const now = this.#now();
    let left = this.#expiry - now;
    const silent = this.#notification.kind === 'none';
    if (left <= 0 && interval > 0 && (this.#signalled || silent))
      left = interval - ((now - this.#expiry) % interval);
    if (left > 0) return { left, interval };
    // A one-shot timer whose signal was sent is over; one that is due this moment still shows a nanosecond.
    return { left: silent || this.#signalled ? 0 : 1, interval };
  }

  set(value: TimeValue, interval: number, absolute: boolean): void {
    this.#stop();
    this.#generation++;
    this.#signalled = false;
    this.#overrun = 0;
    this.#interval = interval;
    if (value.sec === 0 && value.nsec === 0) {
      this.#expiry = -1;
      return;
    }
    if (!absolute) this.#expiry = this.#now() + durationOf(value);
    else if (this.#clock.kind === 'cpu') this.#expiry = durationOf(value);
    else this.#expiry = deadlineOf(this.#kernel, this.#clock.base, value);
    this.#absoluteRealtime =
      absolute && this.#clock.kind === 'wall' && this.#clock.base === 'realtime' ? value : undefined;
    this.#start();
  }

  /** The first expiry of a timer set for a time of day, which is looked at again when it is due: clocks are adjusted. */
  #absoluteRealtime: TimeValue | undefined;

  delete(): void {
    this.#stop();
    this.#generation++;
    this.#expiry = -1;
  }

  /** earliest: CLOCK_MONOTONIC nanoseconds. */
  #start(earliest = 0): void {
    if (this.#notification.kind === 'none') return;
    if (this.#clock.kind === 'cpu') {
      this.#alarm.target = this.#expiry;
      this.#alarms.arm(this.#alarm);
    } else this.#timer = this.#kernel.timers.at(Math.max(this.#expiry, earliest), () => this.#expired());
  }

  #stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#alarms.disarm(this.#alarm);
  }

  #expired(): void {
    this.#timer = undefined;
    if (this.#absoluteRealtime) {
      const left = untilWallTime(this.#kernel, 'realtime', this.#absoluteRealtime);
      if (left > 0) {
        this.#expiry = this.#kernel.clock.monotonic() + left;
        this.#start();
        return;
      }
      this.#absoluteRealtime = undefined;
    }
    if (this.#notification.kind === 'none') return;
    this.#signalled = true;
    const generation = this.#generation;
    const { signal, value, task } = this.#notification;
    const info: SignalInfo = {
      signal,
      code: fromTimer,
      value,
      timer: this.id,
      overrun: 0,
      dequeued: () => this.#dequeued(generation),
    };
    if (task) {
      // The thread that was to be told may have ended: then nobody is told, and the timer stands still.
      if (this.#process.tasks.includes(task)) task.sendSignal(info);
    } else this.#process.sendSignal(info);
  }

  /** The signal goes to the program: counts what was missed, and sets a periodic timer for its next expiry. */
  #dequeued(generation: number): number {
    // A signal from before timer_settime or timer_delete is delivered, and the timer knows nothing of it any more.
    if (generation !== this.#generation) return 0;
    this.#signalled = false;
    if (this.#interval === 0) {
      this.#expiry = -1;
      this.#overrun = 0;
      return 0;
    }
    const missed = Math.floor((this.#now() - this.#expiry) / this.#interval);
    const steps = Math.max(0, missed) + 1;
    this.#expiry += steps * this.#interval;
    this.#overrun = Math.min(maximumOverrun, steps - 1);
    this.#start(this.#kernel.clock.monotonic() + shortestPeriod);
    return this.#overrun;
  }
}
