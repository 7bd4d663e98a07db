// The embedded engines' common half: the Store contract over a keyspace, a watch hub and a lease table. What differs
// is where mutations become durable, and that is a Ledger: the memory engine's does it on the spot, the journal's
// when the bytes are on disk.

import { randomInt } from 'node:crypto';
import type { Clock, Logger } from '../../component/index.ts';
import {
  CompactedError,
  type KeyRange,
  type KeyValue,
  type Lease,
  LeaseNotFoundError,
  type ListOptions,
  type ListResult,
  type Operation,
  type Store,
  type StoreEvent,
  StoreUnavailableError,
  type Transaction,
  type TransactionResult,
  type WatchHandler,
  type WatchOptions,
} from '../store.ts';
import { checkRange, type KeyChanges, Keyspace } from './keyspace.ts';
import { type LeaseChange, LeaseTable } from './leases.ts';
import { eventsInRange, Watcher, WatchHub } from './watch-hub.ts';

/** One durable step of the store: all of it survives a crash, or nothing. */
export interface Mutation {
  readonly changes?: KeyChanges;
  readonly lease?: LeaseChange;
  readonly compactRevision?: number;
}

/** A place in the ledger's queue. */
export interface LedgerEntry {
  /** Absent: nothing to write, but to be answered only after all that stands before it is durable. */
  readonly mutation?: Mutation;
  /** Called by the engine. */
  settle(error?: Error): void;
}

/**
 * Makes mutations durable, strictly in the order of append(). It answers through the engine's commit() with a run of
 * entries as soon as they are durable, or through fail(), once, with everything that is not: then nothing of it may
 * ever come back.
 */
export interface Ledger {
  append(entry: LedgerEntry): void;
  /** Compaction has made the state smaller: a good moment to make the files smaller, too. */
  purged(): void;
  size(): Promise<number>;
  /** Resolves when everything appended was committed or failed. */
  close(): Promise<void>;
}

/** Changes that purge() looks at before it lets other work run (about 2 ms). */
const PURGE_BUDGET = 2_000;
/** Events handed to a watcher in one call when it catches up. */
const CATCH_UP_BATCH = 1_000;

/** A lease in a snapshot. */
const LEASE_BYTES = 32;

export class Engine implements Store {
  readonly keyspace = new Keyspace();
  readonly leases: LeaseTable;
  readonly #hub = new WatchHub();
  readonly #clock: Clock;
  readonly #logger: Logger;
  #ledger: Ledger | undefined;
  #closing: Promise<void> | undefined;
  #purging = false;
  /** While a snapshot is being written, old states must stay. */
  #purgeHolds = 0;

  constructor(options: { readonly clock: Clock; readonly logger: Logger }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.leases = new LeaseTable(options.clock, (id) => this.#expireLease(id));
  }

  /** To be called once, when the state from disk is in place. */
  start(ledger: Ledger): void {
    this.#ledger = ledger;
    this.keyspace.rollback();
    this.leases.start();
    this.#purgeSoon();
  }

  // ---- Store ----

  get revision(): number {
    return this.keyspace.revision;
  }

  get compactRevision(): number {
    return this.keyspace.compactRevision;
  }

  async get(
    key: string,
    options?: { readonly revision?: number },
  ): Promise<{ readonly kv?: KeyValue; readonly revision: number }> {
    this.#openLedger();
    const kv = this.keyspace.get(key, options?.revision);
    return { kv, revision: this.keyspace.revision };
  }

  async list(range: KeyRange, options?: ListOptions): Promise<ListResult> {
    this.#openLedger();
    checkRange(range);
    return this.keyspace.list(range, options);
  }

  txn(transaction: Transaction): Promise<TransactionResult> {
    return new Promise((resolve, reject) => {
      const ledger = this.#openLedger();
      for (const operation of transaction.operations)
        if (operation.type === 'put' && operation.lease) this.leases.find(operation.lease);
      const decision = this.keyspace.decide(transaction.compare, transaction.operations);
      let result: TransactionResult;
      if (decision.outcome === 'changes') result = { succeeded: true, revision: decision.changes.revision };
      else {
        const { revision } = decision;
        result =
          decision.outcome === 'unchanged'
            ? { succeeded: true, revision }
            : { succeeded: false, revision, current: decision.current };
        if (!decision.pending) return resolve(result);
      }
      ledger.append({
        mutation: decision.outcome === 'changes' ? { changes: decision.changes } : undefined,
        settle: (error) => (error ? reject(error) : resolve(result)),
      });
    });
  }

  async watch(options: WatchOptions, handler: WatchHandler): Promise<() => void> {
    this.#openLedger();
    const { range, signal } = options;
    checkRange(range);
    signal?.throwIfAborted();
    const start = options.startRevision || this.keyspace.revision + 1;
    if (!Number.isSafeInteger(start) || start < 0)
      throw new RangeError(`${start} is not a revision: a whole number, not negative`);
    if (start <= this.keyspace.compactRevision) throw new CompactedError(this.keyspace.compactRevision);
    const watcher = new Watcher(
      handler,
      { startRevision: start, progress: options.progress ?? false },
      (error) => this.#logger.error({ component: 'store', error }, 'the end of a watch was not taken well'),
    );
    this.#hub.add(range, watcher);
    const stop = () => watcher.end();
    if (signal !== undefined) {
      signal.addEventListener('abort', stop, { once: true });
      const leaveHub = watcher.onEnd;
      watcher.onEnd = () => {
        signal.removeEventListener('abort', stop);
        leaveHub?.();
      };
    }
    if (start <= this.keyspace.revision) this.#catchUp(range, watcher, start);
    return stop;
  }

  /** Runs in one go, so that nothing can be published in between. */
  #catchUp(range: KeyRange, watcher: Watcher, start: number): void {
    const { revision } = this.keyspace;
    const events = eventsInRange(range, this.keyspace.changesFrom(start));
    for (let from = 0; from < events.length; ) {
      let to = Math.min(from + CATCH_UP_BATCH, events.length);
      // All changes of one revision go together.
      while (to < events.length && events[to]!.kv.modRevision === events[to - 1]!.kv.modRevision) to++;
      const last = to === events.length;
      watcher.deliver({
        events: events.slice(from, to),
        revision: last ? revision : events[to - 1]!.kv.modRevision,
      });
      from = to;
    }
    if (events.length === 0 && watcher.progress) watcher.deliver({ events: [], revision });
  }

  async compact(revision: number): Promise<void> {
    this.keyspace.checkCompaction(revision);
    if (revision <= this.keyspace.compactRevision) return;
    await this.#write({ compactRevision: revision });
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    if (!Number.isFinite(ttlMs) || ttlMs <= 0)
      throw new RangeError(`${ttlMs} is not a time to live: milliseconds, more than 0`);
    let id: number;
    do id = randomInt(1, 2 ** 48 - 1);
    while (this.leases.has(id));
    await this.#write({ lease: { type: 'grant', id, ttlMs, deadline: this.#clock.now() + ttlMs } });
    return { id, ttlMs };
  }

  async keepLeaseAlive(id: number): Promise<Lease> {
    const { ttlMs } = this.leases.find(id);
    const deadline = this.#clock.now() + ttlMs;
    this.leases.prolong(id, deadline);
    await this.#write({ lease: { type: 'keep', id, deadline } });
    return { id, ttlMs };
  }

  async revokeLease(id: number): Promise<void> {
    this.#openLedger();
    this.leases.find(id);
    const operations = this.leases
      .keysOf(id, this.keyspace.pendingStates)
      .map((key): Operation => ({ type: 'delete', key }));
    const decision = this.keyspace.decide([], operations);
    this.leases.markRevoking(id);
    await this.#write({
      changes: decision.outcome === 'changes' ? decision.changes : undefined,
      lease: { type: 'revoke', id },
    });
  }

  async size(): Promise<number> {
    return this.#openLedger().size();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.leases.stop();
    await this.#ledger?.close();
    this.#hub.end();
  }

  // ---- the ledger's side ----

  /** About how many bytes a snapshot would take. */
  get retainedBytes(): number {
    return this.keyspace.retainedBytes + this.leases.size * LEASE_BYTES;
  }

  /** These entries are durable: lets readers and watchers see them, then answers. */
  commit(entries: readonly LedgerEntry[]): void {
    const published: StoreEvent[] = [];
    for (const { mutation } of entries) {
      if (mutation === undefined) continue;
      this.apply(mutation);
      if (mutation.changes !== undefined) for (const event of mutation.changes.events) published.push(event);
    }
    if (published.length > 0) this.#hub.publish(published, this.keyspace.revision);
    for (const entry of entries) entry.settle();
  }

  /** None of what was appended and not committed is in the store. */
  fail(entries: readonly LedgerEntry[], error: StoreUnavailableError): void {
    this.keyspace.rollback();
    this.leases.rollback();
    for (const entry of entries) entry.settle(error);
  }

  /** Changes the state in memory; also how the journal is read back. */
  apply({ changes, lease, compactRevision }: Mutation): void {
    if (lease !== undefined && lease.type !== 'revoke') this.leases.apply(lease);
    if (changes !== undefined) {
      this.keyspace.apply(changes);
      for (const { kv, previous } of changes.events)
        if (kv.lease !== undefined || previous?.lease !== undefined)
          this.leases.moveKey(kv.key, previous?.lease, kv.lease);
    }
    if (lease?.type === 'revoke') this.leases.apply(lease);
    if (compactRevision !== undefined) {
      this.keyspace.compact(compactRevision);
      this.#purgeSoon();
    }
  }

  /** Puts back a state from a snapshot (Keyspace.restore); the lease it hangs on must be there. */
  restore(kv: KeyValue): void {
    this.keyspace.restore(kv);
    if (kv.lease !== undefined) this.leases.moveKey(kv.key, undefined, kv.lease);
  }

  /** Keeps states that compaction made unreadable until the returned function is called. */
  holdPurge(): () => void {
    this.#purgeHolds++;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#purgeHolds--;
      this.#purgeSoon();
    };
  }

  // ---- inside ----

  #openLedger(): Ledger {
    if (this.#closing !== undefined || this.#ledger === undefined)
      throw new StoreUnavailableError('the store is closed');
    return this.#ledger;
  }

  #write(mutation: Mutation): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#openLedger().append({ mutation, settle: (error) => (error ? reject(error) : resolve()) });
    });
  }

  async #expireLease(id: number): Promise<boolean> {
    try {
      await this.revokeLease(id);
      return true;
    } catch (error) {
      if (error instanceof LeaseNotFoundError) return true;
      if (this.#closing === undefined)
        this.#logger.warn(
          { component: 'store', lease: id, error },
          'an expired lease could not be revoked; trying again',
        );
      return false;
    }
  }

  /** Frees memory in small steps, so that no request waits for a large compaction. */
  #purgeSoon(): void {
    if (this.#purging || this.#ledger === undefined) return;
    this.#purging = true;
    setImmediate(() => {
      this.#purging = false;
      if (this.#purgeHolds > 0 || this.#closing !== undefined) return;
      if (this.keyspace.purge(PURGE_BUDGET)) this.#purgeSoon();
      else this.#ledger?.purged();
    });
  }
}
