// Waiting and trying again: back-off with jitter on a Clock, and the retry of read-modify-write cycles that lost
// against another writer.

import { isConflict } from '../api/index.ts';
import { type Clock, systemClock } from '../component/index.ts';

export interface BackoffOptions {
  readonly initialMs: number;
  readonly maxMs: number;
  readonly factor: number;
  /** Each delay is lengthened by up to this part of itself. */
  readonly jitter: number;
  /** After this long without a failure the next one starts at `initialMs` again; absent: only reset() does. */
  readonly resetAfterMs?: number;
}

/** Delays that grow with every failure. */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  #next: number;
  #last = Number.NEGATIVE_INFINITY;

  constructor(options: BackoffOptions, clock: Clock = systemClock, random: () => number = Math.random) {
    this.#options = options;
    this.#clock = clock;
    this.#random = random;
    this.#next = options.initialMs;
  }

  reset(): void {
    this.#next = this.#options.initialMs;
  }

  /** The delay before the next try, in ms. */
  next(): number {
    const { initialMs, maxMs, factor, jitter, resetAfterMs } = this.#options;
    const now = this.#clock.monotonic();
    if (resetAfterMs !== undefined && now - this.#last > resetAfterMs) this.#next = initialMs;
    this.#last = now;
    const delay = Math.min(maxMs, this.#next);
    this.#next = Math.min(maxMs, this.#next * factor);
    return delay * (1 + jitter * this.#random());
  }
}

/** Resolves after `ms` on the clock; rejects with the signal's reason when it aborts first. */
export function delay(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const timer = clock.setTimer(ms, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

export interface RetryOnConflictOptions {
  /** How often `change` is called at most. */
  readonly attempts?: number;
  readonly clock?: Clock;
  readonly random?: () => number;
  readonly signal?: AbortSignal;
}

/**
 * Calls `change`, again while it fails with a Conflict. `change` must read the object anew each time (from the
 * server: a cache may still hold the version that lost). Rejects with the last Conflict when attempts run out.
 */
export async function retryOnConflict<R>(
  change: (attempt: number) => Promise<R>,
  options: RetryOnConflictOptions = {},
): Promise<R> {
  const { attempts = 5, clock = systemClock, random = Math.random, signal } = options;
  for (let attempt = 1; ; attempt++) {
    try {
      return await change(attempt);
    } catch (error) {
      if (!isConflict(error) || attempt >= attempts) throw error;
      await delay(clock, 10 * (1 + 0.1 * random()), signal);
    }
  }
}
