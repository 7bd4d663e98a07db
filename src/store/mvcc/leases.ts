// Leases: which keys hang on which lease, and the timers that end them. What a lease's end does to its keys is the
// engine's business; this table only says when and which.

import type { Clock, Timer } from '../../component/index.ts';
import { type KeyValue, type Lease, LeaseNotFoundError } from '../store.ts';

/** A change of the lease table, as it is made durable. Deadlines are wall-clock time, so that they outlive a restart. */
export type LeaseChange =
  | { readonly type: 'grant'; readonly id: number; readonly ttlMs: number; readonly deadline: number }
  | { readonly type: 'keep'; readonly id: number; readonly deadline: number }
  | { readonly type: 'revoke'; readonly id: number };

/** A lease as it stands in a snapshot. */
export interface LeaseRecord {
  readonly id: number;
  readonly ttlMs: number;
  readonly deadline: number;
}

interface LeaseState extends Lease {
  deadline: number;
  /** When it ends, on the clock that never goes back. */
  due: number;
  readonly keys: Set<string>;
  /** A revocation was decided and is not yet durable. */
  revoking: boolean;
  timer: Timer | undefined;
}

/**
 * Whoever holds a lease cannot keep it alive while the store is down. A lease that ran out meanwhile gets this much
 * after the restart (or its time to live, if that is shorter).
 */
const RESTART_GRACE_MS = 5_000;
/** How long to wait with the next try when a lease's end could not be written. */
const RETRY_MS = 1_000;

export class LeaseTable {
  readonly #leases = new Map<number, LeaseState>();
  readonly #clock: Clock;
  /** Revokes an expired lease; false when that failed and must be tried again. */
  readonly #expire: (id: number) => Promise<boolean>;
  #running = false;

  constructor(clock: Clock, expire: (id: number) => Promise<boolean>) {
    this.#clock = clock;
    this.#expire = expire;
  }

  /** Throws LeaseNotFoundError when the lease is not there or about to go. */
  find(id: number): Lease {
    const lease = this.#leases.get(id);
    if (lease === undefined || lease.revoking) throw new LeaseNotFoundError(id);
    return lease;
  }

  get size(): number {
    return this.#leases.size;
  }

  has(id: number): boolean {
    return this.#leases.has(id);
  }

  /** The keys that hang on a lease, durable ones and, from the overlay, those that soon will. */
  keysOf(id: number, pending: ReadonlyMap<string, KeyValue>): string[] {
    const keys = new Set(this.#leases.get(id)?.keys);
    for (const [key, state] of pending) {
      if (state.lease === id) keys.add(key);
      else keys.delete(key);
    }
    return [...keys];
  }

  markRevoking(id: number): void {
    const lease = this.#leases.get(id);
    if (lease !== undefined) lease.revoking = true;
  }

  /** It must not run out while its new deadline is on its way to the disk. */
  prolong(id: number, deadline: number): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    lease.deadline = deadline;
    lease.due = this.#clock.monotonic() + lease.ttlMs;
  }

  /** Undoes what was decided and did not become durable. */
  rollback(): void {
    for (const lease of this.#leases.values()) lease.revoking = false;
  }

  apply(change: LeaseChange): void {
    if (change.type === 'revoke') {
      this.#leases.get(change.id)?.timer?.cancel();
      this.#leases.delete(change.id);
      return;
    }
    if (change.type === 'keep') {
      const lease = this.#leases.get(change.id);
      if (lease !== undefined) lease.deadline = change.deadline;
      return;
    }
    this.restore(change);
  }

  restore({ id, ttlMs, deadline }: LeaseRecord): void {
    const lease: LeaseState = {
      id,
      ttlMs,
      deadline,
      due: this.#clock.monotonic() + ttlMs,
      keys: new Set(),
      revoking: false,
      timer: undefined,
    };
    this.#leases.set(id, lease);
    if (this.#running) this.#arm(lease);
  }

  /** Hangs a key on the lease of its new state and takes it off the one of its old state. */
  moveKey(key: string, from: number | undefined, to: number | undefined): void {
    if (from === to) return;
    if (from !== undefined) this.#leases.get(from)?.keys.delete(key);
    if (to !== undefined) this.#leases.get(to)?.keys.add(key);
  }

  records(): LeaseRecord[] {
    return Array.from(this.#leases.values(), ({ id, ttlMs, deadline }) => ({ id, ttlMs, deadline }));
  }

  /** Starts the timers; `restored`: of leases that come from disk and have used up part of their time. */
  start(): void {
    this.#running = true;
    const now = this.#clock.now();
    for (const lease of this.#leases.values()) {
      const least = Math.min(lease.ttlMs, RESTART_GRACE_MS);
      const left = Math.min(lease.ttlMs, Math.max(least, lease.deadline - now));
      lease.due = this.#clock.monotonic() + left;
      this.#arm(lease);
    }
  }

  stop(): void {
    this.#running = false;
    for (const lease of this.#leases.values()) lease.timer?.cancel();
  }

  #arm(lease: LeaseState, delay = lease.due - this.#clock.monotonic()): void {
    lease.timer = this.#clock.setTimer(Math.max(0, delay), () => this.#fire(lease), { unref: true });
  }

  #fire(lease: LeaseState): void {
    if (!this.#running || this.#leases.get(lease.id) !== lease) return;
    // Kept alive since the timer was set, or about to go anyway.
    if (lease.due > this.#clock.monotonic() || lease.revoking) {
      this.#arm(lease, lease.revoking ? RETRY_MS : undefined);
      return;
    }
    void this.#expire(lease.id).then((done) => {
      if (!done && this.#running && this.#leases.get(lease.id) === lease) this.#arm(lease, RETRY_MS);
    });
  }
}
