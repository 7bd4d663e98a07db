// The three interval timers of a process (setitimer(2)): ITIMER_REAL counts real time and is also alarm(2)'s;
// ITIMER_VIRTUAL and ITIMER_PROF count processor time.

import type { Kernel, Process, Timer } from '../contract.ts';
import type { CpuAlarm, CpuAlarms } from './cpu-alarms.ts';
import { shortestPeriod, type TimerState } from './posix-timer.ts';

/** SI_KERNEL. */
const fromKernel = 0x80;

export class RealIntervalTimer {
  readonly #kernel: Kernel;
  readonly #process: Process;
  readonly #signal: number;
  #timer: Timer | undefined;
  #expiry = 0;
  #interval = 0;

  constructor(kernel: Kernel, process: Process, signal: number) {
    this.#kernel = kernel;
    this.#process = process;
    this.#signal = signal;
  }

  state(): TimerState {
    if (!this.#timer) return { left: 0, interval: this.#interval };
    return { left: Math.max(1000, this.#expiry - this.#kernel.clock.monotonic()), interval: this.#interval };
  }

  set(value: number, interval: number): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#interval = interval;
    if (value > 0) this.#start(this.#kernel.clock.monotonic() + value);
  }

  #start(expiry: number): void {
    this.#expiry = expiry;
    this.#timer = this.#kernel.timers.at(expiry, () => this.#expired());
  }

  #expired(): void {
    this.#timer = undefined;
    this.#process.sendSignal({ signal: this.#signal, code: fromKernel });
    if (this.#interval === 0) return;
    const now = this.#kernel.clock.monotonic();
    const missed = Math.floor((now - this.#expiry) / this.#interval);
    const next = this.#expiry + (Math.max(0, missed) + 1) * this.#interval;
    this.#start(Math.max(next, now + shortestPeriod));
  }
}

export class CpuIntervalTimer {
  readonly #alarms: CpuAlarms;
  readonly #alarm: CpuAlarm;
  readonly #used: () => number;
  #interval = 0;

  /** used: the processor time that it counts, in nanoseconds. */
  constructor(process: Process, alarms: CpuAlarms, signal: number, used: () => number) {
    this.#alarms = alarms;
    this.#used = used;
    this.#alarm = {
      used,
      target: 0,
      expired: () => {
        process.sendSignal({ signal, code: fromKernel });
        if (this.#interval === 0) return;
        const missed = Math.floor((used() - this.#alarm.target) / this.#interval);
        this.#alarm.target += (missed + 1) * this.#interval;
        alarms.arm(this.#alarm);
      },
    };
  }

  state(): TimerState {
    const armed = this.#alarms.isArmed(this.#alarm);
    return {
      left: armed ? Math.max(1000, this.#alarm.target - this.#used()) : 0,
      interval: this.#interval,
    };
  }

  set(value: number, interval: number): void {
    this.#alarms.disarm(this.#alarm);
    this.#interval = interval;
    if (value === 0) return;
    this.#alarm.target = this.#used() + value;
    this.#alarms.arm(this.#alarm);
  }
}
