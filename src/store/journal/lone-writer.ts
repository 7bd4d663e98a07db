// Decides when a write may block the event loop instead of going through the thread pool.
//
// A lone writer waits for the disk alone: nobody else has anything to do meanwhile. Then the way through the pool is
// pure loss, three wake-ups of threads for one write (measured: 0.23 ms against 0.15 ms on an idle machine, 0.53 ms
// against 0.26 ms on average on a busy one). With several writers the loop has better things to do than to wait, and
// group commit makes the writes few. And on a slow disk, or one that hangs for a moment, blocking would hold up reads
// and watches. So there is an allowance for the time that blocking writes take beyond what a fast disk takes: it grows
// with time, up to a limit, and while it is used up, no write blocks.

/** So many writes in a row had a single caller before the next one is taken for a lone writer's. */
const STREAK = 8;
/** What a durable write takes on a fast disk, about. */
const FAST_MS = 0.3;
/** The part of all time that blocking may cost beyond that. */
const SHARE = 0.1;
const ALLOWANCE_MAX_MS = 100;

export class LoneWriter {
  #streak = 0;
  #allowanceMs = ALLOWANCE_MAX_MS;
  #reckonedAt = 0;

  /** To be asked before each write; `callers`: how many wait for it. `now` in ms. */
  mayBlock(callers: number, now: number): boolean {
    if (callers !== 1) {
      this.#streak = 0;
      return false;
    }
    if (++this.#streak <= STREAK) return false;
    this.#allowanceMs = Math.min(ALLOWANCE_MAX_MS, this.#allowanceMs + (now - this.#reckonedAt) * SHARE);
    this.#reckonedAt = now;
    return this.#allowanceMs > 0;
  }

  /** To be told how long a blocking write took. */
  blocked(tookMs: number): void {
    this.#allowanceMs -= Math.max(0, tookMs - FAST_MS);
  }
}
