// Looks at things by key, in small portions between which the event loop is free: soon after a key was named, and at
// all of them from time to time. Few repairs are under way at once; one that failed is repeated, later and later.

import type { Clock, Logger, Timer } from '../../component/index.ts';

/** Keys that are looked at before others get their turn. */
const PORTION = 200;
/** Repairs that are under way at the same time. */
const AT_ONCE = 16;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 60_000;

export interface SweepOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** All keys that there are are named anew this often. */
  readonly intervalMs: number;
  readonly all: () => Iterable<string>;
  /** Judges one key; a promise only where something is to be done. */
  readonly look: (key: string, signal: AbortSignal) => Promise<void> | undefined;
}

export class Sweep implements Disposable {
  readonly #options: SweepOptions;
  readonly #keys = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #timers = new Set<Timer>();
  readonly #abort = new AbortController();
  #running = false;

  constructor(options: SweepOptions) {
    this.#options = options;
    this.#schedule();
  }

  add(key: string): void {
    if (this.#abort.signal.aborted) return;
    this.#keys.add(key);
    if (this.#running) return;
    this.#running = true;
    // All changes of a transaction are in the cache before the first look.
    this.#later(0, () => void this.#run());
  }

  addAfter(key: string, ms: number): void {
    this.#later(ms, () => this.add(key));
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
    this.#keys.clear();
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    let looked = 0;
    const pending = new Set<Promise<void>>();
    // Keys that come meanwhile are met too.
    for (const key of this.#keys) {
      this.#keys.delete(key);
      const repair = this.#look(key);
      if (repair !== undefined) {
        pending.add(repair);
        void repair.then(() => pending.delete(repair));
      }
      if (pending.size >= AT_ONCE) await Promise.race(pending);
      if (++looked % PORTION === 0) await new Promise<void>((resolve) => setImmediate(resolve));
      if (signal.aborted) return;
    }
    await Promise.all(pending);
    this.#running = false;
    const [next] = this.#keys;
    if (next !== undefined) this.add(next);
  }

  /** Never rejects: what fails is looked at again. */
  #look(key: string): Promise<void> | undefined {
    const { signal } = this.#abort;
    const failed = (error: unknown): void => {
      if (signal.aborted) return;
      const { logger, name } = this.#options;
      const failures = (this.#failures.get(key) ?? 0) + 1;
      this.#failures.set(key, failures);
      logger.warn({ component: name, key, err: error, failures }, 'a repair failed and is tried again');
      this.addAfter(key, Math.min(FIRST_RETRY_MS * 2 ** (failures - 1), LONGEST_RETRY_MS));
    };
    try {
      return this.#options.look(key, signal)?.then(() => {
        this.#failures.delete(key);
      }, failed);
    } catch (error) {
      failed(error);
      return undefined;
    }
  }

  #schedule(): void {
    this.#later(this.#options.intervalMs, () => {
      for (const key of this.#options.all()) this.add(key);
      this.#schedule();
    });
  }

  #later(ms: number, act: () => void): void {
    if (this.#abort.signal.aborted) return;
    const timer = this.#options.clock.setTimer(
      ms,
      () => {
        this.#timers.delete(timer);
        act();
      },
      { unref: true },
    );
    this.#timers.add(timer);
  }
}
