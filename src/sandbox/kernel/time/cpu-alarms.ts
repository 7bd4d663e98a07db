// Timers on processor time: ITIMER_VIRTUAL, ITIMER_PROF, POSIX timers on CPU clocks, RLIMIT_CPU. The host does not tell
// when a program has used so much time, so it is looked at when it can have been used at the earliest, and then again;
// while the program uses none, less and less often, up to `idleInterval`.

import { tickNanoseconds } from '../../abi/time.ts';
import type { Kernel, Process, Timer } from '../contract.ts';

/** How late an alarm may be noticed in a program that slept for long. */
const idleInterval = 5 * tickNanoseconds;

/** Closest together that one looks; Linux itself looks once in a tick. */
const shortest = 1_000_000;

export interface CpuAlarm {
  /** Nanoseconds used so far; undefined once what it measures is gone. */
  used(): number | undefined;
  /** Expires when `used() >= target`. */
  target: number;
  /** May arm itself again. */
  expired(): void;
}

export class CpuAlarms {
  readonly #kernel: Kernel;
  readonly #process: Process;
  readonly #armed = new Set<CpuAlarm>();
  #timer: Timer | undefined;
  #wait = shortest;
  #lastTotal = -1;

  constructor(kernel: Kernel, process: Process) {
    this.#kernel = kernel;
    this.#process = process;
  }

  arm(alarm: CpuAlarm): void {
    this.#armed.add(alarm);
    this.#wait = shortest;
    this.#schedule();
  }

  disarm(alarm: CpuAlarm): void {
    this.#armed.delete(alarm);
    if (this.#armed.size === 0) this.#stop();
  }

  isArmed(alarm: CpuAlarm): boolean {
    return this.#armed.has(alarm);
  }

  release(): void {
    this.#armed.clear();
    this.#stop();
  }

  #stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #schedule(): void {
    this.#stop();
    let left = Infinity;
    for (const alarm of this.#armed) {
      const used = alarm.used();
      if (used !== undefined) left = Math.min(left, alarm.target - used);
    }
    if (left === Infinity) return;
    const atOnce = Math.max(1, Math.min(this.#process.tasks.length, this.#kernel.cpus));
    const wait = Math.max(this.#wait, left / atOnce);
    this.#timer = this.#kernel.timers.at(this.#kernel.clock.monotonic() + wait, () => this.#look());
  }

  #look(): void {
    this.#timer = undefined;
    const { user, system } = this.#process.cpuTime();
    const moved = user + system !== this.#lastTotal;
    this.#lastTotal = user + system;
    this.#wait = moved ? shortest : Math.min(idleInterval, this.#wait * 2);
    for (const alarm of [...this.#armed]) {
      const used = alarm.used();
      if (used === undefined) this.#armed.delete(alarm);
      else if (used >= alarm.target && this.#armed.delete(alarm)) alarm.expired();
    }
    if (this.#armed.size > 0 && !this.#timer) this.#schedule();
  }
}
