// All timers of one process. Made with the process; nothing is inherited by fork. exec deletes the POSIX timers and
// keeps the interval timers; the end of the process ends all (`release`).

import { Errno } from '../../abi/errno.ts';
import type { Kernel, Process } from '../contract.ts';
import type { CpuClock, WallClock } from './clocks.ts';
import { type CpuAlarm, CpuAlarms } from './cpu-alarms.ts';
import { CpuIntervalTimer, RealIntervalTimer } from './interval-timer.ts';
import { PosixTimer, type TimerNotification } from './posix-timer.ts';

const SIGKILL = 9;
const SIGALRM = 14;
const SIGXCPU = 24;
const SIGVTALRM = 26;
const SIGPROF = 27;
const RLIMIT_CPU = 0;
const RLIMIT_SIGPENDING = 11;
const fromKernel = 0x80;

/** ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF. */
export type IntervalTimerKind = 0 | 1 | 2;

export class ProcessTimers {
  readonly #kernel: Kernel;
  readonly #process: Process;
  #alarms: CpuAlarms | undefined;
  #intervals: readonly [RealIntervalTimer, CpuIntervalTimer, CpuIntervalTimer] | undefined;
  #posix: Map<number, PosixTimer> | undefined;
  #nextId = 0;
  #limitAlarm: CpuAlarm | undefined;
  /** RLIMIT_CPU: seconds at which SIGXCPU is sent next, once the soft limit is over. */
  #nextComplaint = 0;

  constructor(kernel: Kernel, process: Process) {
    this.#kernel = kernel;
    this.#process = process;
  }

  /** What waits for processor time of this process. */
  get alarms(): CpuAlarms {
    this.#alarms ??= new CpuAlarms(this.#kernel, this.#process);
    return this.#alarms;
  }

  interval(kind: IntervalTimerKind): RealIntervalTimer | CpuIntervalTimer {
    if (!this.#intervals) {
      const process = this.#process;
      const alarms = this.alarms;
      this.#intervals = [
        new RealIntervalTimer(this.#kernel, process, SIGALRM),
        new CpuIntervalTimer(process, alarms, SIGVTALRM, () => process.cpuTime().user),
        new CpuIntervalTimer(process, alarms, SIGPROF, () => {
          const { user, system } = process.cpuTime();
          return user + system;
        }),
      ];
    }
    return this.#intervals[kind];
  }

  /**
   * A new timer, disarmed; -EAGAIN beyond RLIMIT_SIGPENDING. notification: may depend on the timer's id; an errno that it
   * is refused with, which still takes an id, as in Linux.
   */
  create(
    clock: WallClock | CpuClock,
    notification: TimerNotification | number | ((id: number) => TimerNotification),
  ): PosixTimer | number {
    this.#posix ??= new Map();
    if (this.#posix.size >= this.#process.limit(RLIMIT_SIGPENDING).soft) return -Errno.EAGAIN;
    while (this.#posix.has(this.#nextId)) this.#nextId = (this.#nextId + 1) & 0x7fff_ffff;
    const id = this.#nextId;
    this.#nextId = (id + 1) & 0x7fff_ffff;
    if (typeof notification === 'number') return notification;
    const notify = typeof notification === 'function' ? notification(id) : notification;
    const timer = new PosixTimer(this.#kernel, this.#process, this.alarms, id, clock, notify);
    this.#posix.set(id, timer);
    return timer;
  }

  find(id: number): PosixTimer | undefined {
    return this.#posix?.get(id);
  }

  delete(id: number): boolean {
    const timer = this.#posix?.get(id);
    if (!timer) return false;
    timer.delete();
    return this.#posix?.delete(id) === true;
  }

  /** In order of their ids (/proc/pid/timers). */
  posixTimers(): Iterable<PosixTimer> {
    return this.#posix?.values() ?? [];
  }

  /** RLIMIT_CPU was set, or inherited: SIGXCPU each second beyond the soft limit, SIGKILL at the hard one. */
  cpuLimitChanged(): void {
    const { soft, hard } = this.#process.limit(RLIMIT_CPU);
    if (soft === Infinity && hard === Infinity) {
      if (this.#limitAlarm) this.alarms.disarm(this.#limitAlarm);
      this.#limitAlarm = undefined;
      return;
    }
    this.#nextComplaint = soft;
    this.#limitAlarm ??= {
      used: () => {
        const { user, system } = this.#process.cpuTime();
        return user + system;
      },
      target: 0,
      expired: () => this.#overCpuLimit(),
    };
    this.#armLimit(this.#limitAlarm, hard);
  }

  #armLimit(alarm: CpuAlarm, hard: number): void {
    alarm.target = Math.min(this.#nextComplaint, hard) * 1e9;
    if (alarm.target < Infinity) this.alarms.arm(alarm);
  }

  #overCpuLimit(): void {
    const alarm = this.#limitAlarm;
    const used = alarm?.used();
    if (!alarm || used === undefined) return;
    const { hard } = this.#process.limit(RLIMIT_CPU);
    if (used >= hard * 1e9) {
      this.#process.sendSignal({ signal: SIGKILL, code: fromKernel });
      return;
    }
    this.#process.sendSignal({ signal: SIGXCPU, code: fromKernel });
    this.#nextComplaint = Math.max(this.#nextComplaint + 1, Math.ceil(used / 1e9));
    this.#armLimit(alarm, hard);
  }

  /** execve(2): POSIX timers do not survive it. */
  exec(): void {
    for (const timer of this.posixTimers()) timer.delete();
    this.#posix = undefined;
  }

  /** The last thread has ended. */
  release(): void {
    for (const timer of this.posixTimers()) timer.delete();
    this.#posix = undefined;
    this.#intervals?.[0].set(0, 0);
    this.#alarms?.release();
  }
}
