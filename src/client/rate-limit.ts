// How soon a key may be tried again: exponential back-off for each key, a token bucket over all of them, and the
// longer of both, as client-go's default controller rate limiter has it.

import type { Clock } from '../component/index.ts';

export interface RateLimiter<K> {
  /** Milliseconds to wait before the key is tried; counts as one failure of the key. */
  when(key: K): number;
  /** The key succeeded, or is given up: its failures count no more. */
  forget(key: K): void;
  failures(key: K): number;
}

export class ExponentialFailureLimiter<K> implements RateLimiter<K> {
  readonly #failures = new Map<K, number>();
  readonly #baseMs: number;
  readonly #maxMs: number;

  constructor(baseMs: number, maxMs: number) {
    this.#baseMs = baseMs;
    this.#maxMs = maxMs;
  }

  when(key: K): number {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    return Math.min(this.#maxMs, this.#baseMs * 2 ** failures);
  }

  forget(key: K): void {
    this.#failures.delete(key);
  }

  failures(key: K): number {
    return this.#failures.get(key) ?? 0;
  }
}

/** Tokens that come back at a steady rate, up to `burst`. */
export class TokenBucket {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #clock: Clock;
  #tokens: number;
  #updated: number;

  constructor(perSecond: number, burst: number, clock: Clock) {
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#clock = clock;
    this.#tokens = burst;
    this.#updated = clock.monotonic();
  }

  /** Takes a token if there is one. */
  tryTake(): boolean {
    this.#refill();
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  /** Takes a token, in advance if need be; returns how long until it is there, in ms. */
  reserve(): number {
    this.#refill();
    this.#tokens--;
    return this.#tokens >= 0 ? 0 : -this.#tokens / this.#perMs;
  }

  /** Milliseconds until tryTake() succeeds. */
  untilNext(): number {
    this.#refill();
    return this.#tokens >= 1 ? 0 : Math.ceil((1 - this.#tokens) / this.#perMs);
  }

  /** True when nothing is missing: a bucket that could as well be new. */
  get full(): boolean {
    this.#refill();
    return this.#tokens >= this.#burst;
  }

  #refill(): void {
    const now = this.#clock.monotonic();
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#updated) * this.#perMs);
    this.#updated = now;
  }
}

class DefaultLimiter<K> extends ExponentialFailureLimiter<K> {
  readonly #bucket: TokenBucket;

  constructor(clock: Clock) {
    super(5, 1_000_000);
    this.#bucket = new TokenBucket(10, 100, clock);
  }

  override when(key: K): number {
    return Math.max(super.when(key), this.#bucket.reserve());
  }
}

/** 5 ms doubling to 1000 s for each key, and 10 retries a second (100 at once) over all. */
export function defaultRateLimiter<K>(clock: Clock): RateLimiter<K> {
  return new DefaultLimiter(clock);
}
