// Exponential back-off per key on a clock: 10 s doubling to 5 min for crashing containers and failing pulls, forgotten
// after twice the longest delay without trouble (as upstream's flowcontrol.Backoff). No jitter: upstream has none here.

import type { Clock } from '../component/index.ts';

interface Entry {
  delay: number;
  /** When `delay` was last set, ms since the epoch. */
  updated: number;
}

export class Backoff {
  readonly #clock: Clock;
  readonly #initial: number;
  readonly #longest: number;
  readonly #entries = new Map<string, Entry>();

  constructor(clock: Clock, initialMs: number, longestMs: number) {
    this.#clock = clock;
    this.#initial = initialMs;
    this.#longest = longestMs;
  }

  /** Counts one more failure, which happened at `event` (ms since the epoch); the new delay is in `delay`. */
  next(key: string, event: number): void {
    const entry = this.#entries.get(key);
    const updated = this.#clock.now();
    if (!entry || this.#expired(entry, event)) this.#entries.set(key, { delay: this.#initial, updated });
    else this.#entries.set(key, { delay: Math.min(entry.delay * 2, this.#longest), updated });
  }

  /** The delay in ms that holds for the key, 0 when none does. */
  delay(key: string): number {
    return this.#entries.get(key)?.delay ?? 0;
  }

  /** Ms left of the key's delay when it is counted from `event`; 0: go ahead. */
  remaining(key: string, event: number): number {
    const entry = this.#entries.get(key);
    if (!entry || this.#expired(entry, event)) return 0;
    return Math.max(0, event + entry.delay - this.#clock.now());
  }

  /** Ms left when the delay is counted from the last failure. */
  remainingSinceFailure(key: string): number {
    const entry = this.#entries.get(key);
    if (!entry) return 0;
    return Math.max(0, entry.updated + entry.delay - this.#clock.now());
  }

  reset(key: string): void {
    this.#entries.delete(key);
  }

  /** Drops the keys of something that is gone. */
  resetPrefix(prefix: string): void {
    for (const key of this.#entries.keys()) if (key.startsWith(prefix)) this.#entries.delete(key);
  }

  /** Drops what has been quiet for long enough. */
  collect(): void {
    const now = this.#clock.now();
    for (const [key, entry] of this.#entries) if (this.#expired(entry, now)) this.#entries.delete(key);
  }

  #expired(entry: Entry, event: number): boolean {
    return event - entry.updated > 2 * this.#longest;
  }
}
