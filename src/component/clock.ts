// Time as a value. Components read time and set timers only through a Clock, so that a test (or a user's
// test cluster) can hold time still and move it by hand.

/** A pending timer. Cancelling one that has fired, or twice, does nothing. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** Milliseconds of a clock that never goes back; only differences mean something. */
  monotonic(): number;
  /** Calls `callback` once, not before `delayMs` have passed. `unref`: the timer does not keep the process alive. */
  setTimer(delayMs: number, callback: () => void, options?: { readonly unref?: boolean }): Timer;
}

/** Node turns a longer delay into 1 ms; such a timer is set again in steps of this size. */
const MAX_DELAY = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer(delayMs, callback, options) {
    const due = performance.now() + delayMs;
    let handle: NodeJS.Timeout;
    const arm = (): void => {
      const left = Math.max(0, due - performance.now());
      handle = left > MAX_DELAY ? setTimeout(arm, MAX_DELAY) : setTimeout(callback, left);
      if (options?.unref) handle.unref();
    };
    arm();
    return { cancel: () => clearTimeout(handle) };
  },
};

interface PendingTimer {
  readonly due: number;
  readonly sequence: number;
  readonly callback: () => void;
}

/** A clock that moves only when told. Timers fire in the order of their due times, ties in the order they were set. */
export class ManualClock implements Clock {
  #now: number;
  readonly #origin: number;
  #timers: PendingTimer[] = [];
  #sequence = 0;

  constructor(startMs: number = Date.now()) {
    this.#now = startMs;
    this.#origin = startMs;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now - this.#origin;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const timer: PendingTimer = {
      due: this.#now + Math.max(0, delayMs),
      sequence: this.#sequence++,
      callback,
    };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((t) => t !== timer);
      },
    };
  }

  /** When the next timer is due (ms since the epoch), or undefined when none is set. */
  nextDue(): number | undefined {
    return this.#timers.reduce<number | undefined>(
      (least, t) => (least === undefined ? t.due : Math.min(least, t.due)),
      undefined,
    );
  }

  /** Moves time forward, firing each due timer at its own moment, then lets pending promises settle. */
  async advance(ms: number): Promise<void> {
    const target = this.#now + ms;
    for (;;) {
      let next: PendingTimer | undefined;
      for (const t of this.#timers) {
        if (
          t.due <= target &&
          (!next || t.due < next.due || (t.due === next.due && t.sequence < next.sequence))
        )
          next = t;
      }
      if (!next) break;
      const fired = next;
      this.#timers = this.#timers.filter((t) => t !== fired);
      this.#now = Math.max(this.#now, fired.due);
      fired.callback();
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    this.#now = target;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
