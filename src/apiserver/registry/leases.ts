// Objects that expire by themselves: Events are kept for an hour. The store deletes them with the lease they were put
// with; objects that are written within the same short time share one, for a lease is costlier than a key.

import { type Clock, systemClock } from '../../component/index.ts';
import { LeaseNotFoundError, type Store } from '../../store/store.ts';

/** How many objects share a lease at most. */
const MOST_OBJECTS = 1_000;
/** For how long new objects are put under the same lease: a share of the time to live, within bounds, in ms. */
const SHARE = 0.05;
const LEAST_SHARED_MS = 60_000;

export class ExpiryLeases {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #ttlMs: number;
  #current: { readonly id: Promise<number>; readonly until: number; objects: number } | undefined;

  constructor(store: Store, ttlMs: number, clock: Clock = systemClock) {
    this.#store = store;
    this.#clock = clock;
    this.#ttlMs = ttlMs;
  }

  /** A lease that lasts at least the time to live from now on. */
  lease(): Promise<number> {
    const now = this.#clock.monotonic();
    const current = this.#current;
    if (current !== undefined && now < current.until && current.objects < MOST_OBJECTS) {
      current.objects++;
      return current.id;
    }
    const sharedMs = Math.max(LEAST_SHARED_MS, this.#ttlMs * SHARE);
    const id = this.#store.grantLease(this.#ttlMs + sharedMs).then((lease) => lease.id);
    const granted = { id, until: now + sharedMs, objects: 1 };
    this.#current = granted;
    // A lease that could not be had is not kept: the next object asks again.
    id.catch(() => {
      if (this.#current === granted) this.#current = undefined;
    });
    return id;
  }

  /** True when the failure is that of a lease that has gone, and another one was made room for. */
  forget(error: unknown): boolean {
    if (!(error instanceof LeaseNotFoundError)) return false;
    this.#current = undefined;
    return true;
  }
}
