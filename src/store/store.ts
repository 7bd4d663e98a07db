// The store's contract: a revisioned key-value map in the manner of etcd v3. Every engine (memory, journal, and
// later etcd itself) passes the same conformance test, store.conformance.ts.
//
// What a caller may rely on:
// - Every transaction that changes something gets the next revision, alone: revisions are dense, start at 1 for
//   the first write and never repeat, not even after a crash.
// - A transaction is acknowledged (its promise resolves) only when it is as durable as the engine can make it.
// - Reads see every acknowledged transaction, and nothing of one that is not yet durable.
// - A watch delivers each change once, in revision order, all changes of one revision together, none of them
//   before it is durable.
// - Old revisions stay readable and watchable until compact() takes them away, across restarts too.
// - Keys are not empty, well-formed (no lone surrogates: UTF-8 has none) and ordered by the bytes of their UTF-8
//   form, which is the order of their code points and not always that of JavaScript's `<`. Values are opaque; the engine keeps the given array and hands
//   out the same one, so neither side may change it afterwards.

/** A key's state at some revision. */
export interface KeyValue {
  readonly key: string;
  readonly value: Uint8Array;
  /** The revision that created the key (since it was last deleted). */
  readonly createRevision: number;
  /** The revision of the last change. */
  readonly modRevision: number;
  /** How many times it was written since it was created, from 1. */
  readonly version: number;
  /** The lease it was last put with, when there was one. */
  readonly lease?: number;
}

/**
 * Keys k with start <= k < end. `end` absent: the single key `start`; `end` U+0000 (END_OF_KEYS): every key from
 * `start` on. prefixEnd() makes the end of a prefix's range.
 */
export interface KeyRange {
  readonly start: string;
  readonly end?: string;
}

export interface ListOptions {
  /** At most this many keys; the rest is counted in `more`. 0 or absent: all. */
  readonly limit?: number;
  /** Read at this revision; absent or 0: the newest. Throws CompactedError or FutureRevisionError. */
  readonly revision?: number;
}

export interface ListResult {
  readonly items: readonly KeyValue[];
  /** The store's newest revision when the list was made (not the one asked for). */
  readonly revision: number;
  /** True when `limit` cut the list. */
  readonly more: boolean;
  /** How many keys the whole range holds at the revision read. */
  readonly count: number;
}

/** True when the key's modRevision equals this; 0 means that the key does not exist. */
export interface Compare {
  readonly key: string;
  readonly modRevision: number;
}

export type Operation =
  /** Rejects with LeaseNotFoundError when `lease` does not exist. A put without a lease takes the key off its old one. */
  | { readonly type: 'put'; readonly key: string; readonly value: Uint8Array; readonly lease?: number }
  /** Deleting a key that does not exist changes nothing. */
  | { readonly type: 'delete'; readonly key: string };

export interface Transaction {
  /** All must hold, or nothing is done. */
  readonly compare: readonly Compare[];
  /** Distinct keys; done in order, all at one revision. */
  readonly operations: readonly Operation[];
}

export type TransactionResult =
  /** `revision`: this transaction's own, or the store's when it changed nothing. */
  | { readonly succeeded: true; readonly revision: number }
  /** `current`: the state of the compared keys, in order, undefined where there is none. */
  | {
      readonly succeeded: false;
      readonly revision: number;
      readonly current: readonly (KeyValue | undefined)[];
    };

export interface StoreEvent {
  readonly type: 'put' | 'delete';
  /** The new state; for a delete: key, an empty value and the deleting revision as modRevision. */
  readonly kv: KeyValue;
  /** The state before, when there was one and it was not compacted away. */
  readonly previous?: KeyValue;
}

/** All changes of a range at one or more consecutive revisions. No events: progress alone (WatchOptions.progress). */
export interface StoreEventBatch {
  readonly events: readonly StoreEvent[];
  /** Everything up to and including this revision has been delivered. */
  readonly revision: number;
}

export interface WatchOptions {
  readonly range: KeyRange;
  /**
   * The first revision wanted; absent or 0: the next one; one that does not exist yet: waits for it. Rejects with
   * CompactedError when it is not newer than compactRevision.
   */
  readonly startRevision?: number;
  /** Also deliver batches without events when the store moved on outside the range (for bookmarks). */
  readonly progress?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Delivered synchronously or in a microtask after the change became durable; what happened from startRevision on
 * may be delivered before watch() resolves. A handler must not throw (a watch whose handler does ends with that
 * error). `end` is called exactly once, and nothing after it: without an error when the watch was stopped, its
 * signal aborted or the store closed; with one when the store failed or the watcher's revision was compacted
 * before it was delivered.
 */
export interface WatchHandler {
  events(batch: StoreEventBatch): void;
  end(error?: Error): void;
}

export interface Lease {
  readonly id: number;
  readonly ttlMs: number;
}

export interface Store extends AsyncDisposable {
  /** The newest durable revision; 0 in an empty store. */
  readonly revision: number;
  /**
   * The oldest revision that can still be read; the next one is the oldest that can be watched from. 0 when nothing
   * was compacted.
   */
  readonly compactRevision: number;
  get(
    key: string,
    options?: { readonly revision?: number },
  ): Promise<{ readonly kv?: KeyValue; readonly revision: number }>;
  list(range: KeyRange, options?: ListOptions): Promise<ListResult>;
  txn(transaction: Transaction): Promise<TransactionResult>;
  /** Starts delivering to the handler; returns a stop function that may be called at any time, twice too. */
  watch(options: WatchOptions, handler: WatchHandler): Promise<() => void>;
  /**
   * Forgets every state that was replaced at or before this revision. Rejects with FutureRevisionError when it does
   * not exist yet; does nothing when it was compacted already.
   */
  compact(revision: number): Promise<void>;
  /**
   * Keys put with a lease are deleted, all at one revision, when it has not been kept alive for its time to live
   * (more than 0 ms). Leases outlive a restart.
   */
  grantLease(ttlMs: number): Promise<Lease>;
  /** Its time to live starts again. Rejects with LeaseNotFoundError when it expired or was revoked. */
  keepLeaseAlive(id: number): Promise<Lease>;
  /** Deletes the lease and its keys. Rejects with LeaseNotFoundError as keepLeaseAlive does. */
  revokeLease(id: number): Promise<void>;
  /** Bytes on disk (0 for an engine without one), for metrics and `bulkhead status`. */
  size(): Promise<number>;
}

/** The revision asked for was compacted away (etcd: ErrCompacted; the API answers 410 Expired). */
export class CompactedError extends Error {
  override readonly name = 'CompactedError';
  readonly compactRevision: number;
  constructor(compactRevision: number) {
    super(`the requested revision has been compacted; the oldest one that can be read is ${compactRevision}`);
    this.compactRevision = compactRevision;
  }
}

/** The revision asked for does not exist yet. */
export class FutureRevisionError extends Error {
  override readonly name = 'FutureRevisionError';
  readonly revision: number;
  constructor(revision: number) {
    super(`the requested revision is newer than the store's, ${revision}`);
    this.revision = revision;
  }
}

/** The lease expired, was revoked or never was. */
export class LeaseNotFoundError extends Error {
  override readonly name = 'LeaseNotFoundError';
  readonly id: number;
  constructor(id: number) {
    super(`lease ${id} does not exist: it expired, was revoked or was never granted`);
    this.id = id;
  }
}

/** The write was not done and is not in the store: no space, a read-only disk, a closed store. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
  /**
   * True in one case only: the disk failed in the middle of the write and did not even let the store take the bytes
   * back. The write is not in the store now, but may be there after a restart.
   */
  readonly uncertain: boolean;
  constructor(message: string, options?: ErrorOptions & { readonly uncertain?: boolean }) {
    super(message, options);
    this.uncertain = options?.uncertain ?? false;
  }
}

/** As `end` of a range: every key from `start` on. No key is smaller than it, so it can mean nothing else. */
export const END_OF_KEYS = '\0';

/** The smallest string greater than every string with this prefix: the end of the prefix's range. */
export function prefixEnd(prefix: string): string {
  // The last code point goes up by one; U+10FFFF has no next one, so it goes away and the one before goes up.
  for (let end = prefix.length; end > 0; ) {
    const unit = prefix.charCodeAt(end - 1);
    const start = end > 1 && unit >= 0xdc00 && unit <= 0xdfff ? end - 2 : end - 1;
    const point = prefix.codePointAt(start) ?? 0;
    if (point < 0x10ffff)
      return prefix.slice(0, start) + String.fromCodePoint(point === 0xd7ff ? 0xe000 : point + 1);
    end = start;
  }
  return END_OF_KEYS;
}
