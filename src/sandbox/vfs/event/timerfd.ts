// timerfd_create(2): a timer that is read as the number of its expiries (fs/timerfd.c). A periodic timer that expired
// stands still until it is read or looked at, and then makes up for what it missed; so an unread one costs nothing.

import { Errno } from '../../abi/errno.ts';
import { TFD_IOC_SET_TICKS, TimerfdFlag } from '../../abi/event.ts';
import { ClockId, durationOf, second, type TimeValue } from '../../abi/time.ts';
import type { Kernel, Task, Timer } from '../../kernel/contract.ts';
import { deadlineOf, untilWallTime, type WallBase } from '../../kernel/time/clocks.ts';
import { Poll, WaitQueue } from '../../kernel/wait-queue.ts';
import type { Io } from '../io.ts';
import { AnonymousFile } from './anonymous.ts';

/** What a clock of timerfd_create(2) counts from; undefined: not one of them. */
export function timerfdBase(clock: number): WallBase | undefined {
  switch (clock) {
    case ClockId.realtime:
    case ClockId.realtimeAlarm:
      return 'realtime';
    case ClockId.monotonic:
      return 'monotonic';
    case ClockId.boottime:
    case ClockId.boottimeAlarm:
      return 'boot';
    default:
      return undefined;
  }
}

export class TimerFile extends AnonymousFile {
  protected readonly kind = '[timerfd]';
  readonly #queue = new WaitQueue();
  readonly clock: number;
  readonly #base: WallBase;
  #timer: Timer | undefined;
  /** CLOCK_MONOTONIC nanoseconds of the next expiry, or of the last one that was not made up for. */
  #expiry = 0;
  #interval = 0;
  #armed = false;
  #expired = false;
  #ticks = 0;
  #flags = 0;
  /** The time of day that it was set for: looked at again when it is due, because clocks are adjusted. */
  #wallTime: TimeValue | undefined;

  constructor(kernel: Kernel, flags: number, clock: number, base: WallBase) {
    super(kernel, flags);
    this.clock = clock;
    this.#base = base;
  }

  override get queue(): WaitQueue {
    return this.#queue;
  }

  /** value 0: disarms. interval: nanoseconds. */
  set(value: TimeValue, interval: number, flags: number): void {
    this.#stop();
    this.#expired = false;
    this.#ticks = 0;
    this.#flags = flags;
    this.#interval = interval;
    this.#armed = value.sec !== 0 || value.nsec !== 0;
    if (!this.#armed) return;
    const absolute = (flags & TimerfdFlag.absolute) !== 0;
    this.#wallTime = absolute && this.#base === 'realtime' ? value : undefined;
    this.#expiry = absolute
      ? deadlineOf(this.kernel, this.#base, value)
      : this.kernel.clock.monotonic() + durationOf(value);
    this.#start();
  }

  #start(): void {
    this.#timer = this.kernel.timers.at(this.#expiry, () => this.#expire());
  }

  #stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #expire(): void {
    this.#timer = undefined;
    if (this.#wallTime) {
      const left = untilWallTime(this.kernel, 'realtime', this.#wallTime);
      if (left > 0) {
        this.#expiry = this.kernel.clock.monotonic() + left;
        this.#start();
        return;
      }
      this.#wallTime = undefined;
    }
    this.#expired = true;
    this.#ticks++;
    this.queue.notify(Poll.in);
  }

  /** Counts the periods that went by since it expired, and lets it run again. */
  #catchUp(): void {
    if (!this.#expired || this.#interval === 0) return;
    this.#expired = false;
    const missed = Math.floor((this.kernel.clock.monotonic() - this.#expiry) / this.#interval);
    this.#ticks += Math.max(0, missed);
    this.#expiry += (Math.max(0, missed) + 1) * this.#interval;
    this.#start();
  }

  /** Nanoseconds until the next expiry (0: disarmed, or a single expiry that is over) and the period. */
  state(): { readonly left: number; readonly interval: number } {
    this.#catchUp();
    const running = this.#armed && this.#timer !== undefined;
    const left = running ? Math.max(1, this.#expiry - this.kernel.clock.monotonic()) : 0;
    return { left, interval: this.#interval };
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    if (io.left < 8) return -Errno.EINVAL;
    if (this.#ticks === 0) return -Errno.EAGAIN;
    this.#catchUp();
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(this.#ticks), true);
    this.#ticks = 0;
    this.#expired = false;
    return io.put(bytes, 0, 8);
  }

  override readiness(_events: number): number {
    return this.#ticks > 0 ? Poll.in : 0;
  }

  override ioctl(task: Task, command: number, argument: number): number {
    if (command !== TFD_IOC_SET_TICKS) return -Errno.ENOTTY;
    const ticks = task.memory.readU64(argument);
    if (ticks < 0) return -Errno.EFAULT;
    if (ticks === 0) return -Errno.EINVAL;
    this.#ticks = ticks;
    this.queue.notify(Poll.in);
    return 0;
  }

  override information(): string {
    const { left, interval } = this.state();
    const pair = (time: number): string => {
      const sec = Math.floor(time / second);
      return `(${sec}, ${Math.floor(time - sec * second)})`;
    };
    return [
      `clockid: ${this.clock}`,
      `ticks: ${this.#ticks}`,
      `settime flags: 0${this.#flags.toString(8)}`,
      `it_value: ${pair(left)}`,
      `it_interval: ${pair(interval)}\n`,
    ].join('\n');
  }

  protected override release(): void {
    this.#stop();
  }
}
