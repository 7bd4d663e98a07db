// The state that every embedded engine has: keys with their history, and the rules of the contract that decide what
// a transaction does. No I/O, no promises, no time.
//
// A transaction goes through two steps, because it is decided when it comes in and seen only when it is durable:
// - decide() checks the comparisons against the newest *decided* states (the overlay of pending ones, then the
//   durable ones), gives out the next revision and leaves the new states in the overlay. So revisions are dense in
//   the order of the calls, and of two conflicting transactions the second loses at once.
// - apply() moves a decided mutation into the index, in the same order. Reads see only the index.
// - rollback() forgets everything that was decided and not applied; the revisions are given out again.

import {
  CompactedError,
  type Compare,
  END_OF_KEYS,
  FutureRevisionError,
  type KeyRange,
  type KeyValue,
  type ListOptions,
  type ListResult,
  type Operation,
  type StoreEvent,
} from '../store.ts';
import { ChangeLog } from './change-log.ts';
import { isDeleted, KeyIndex } from './key-index.ts';
import { checkBound, checkKey, orderKey } from './key-order.ts';

/** What a decided transaction changes. */
export interface KeyChanges {
  /** Its own revision. */
  readonly revision: number;
  /** Never empty; in the order of the operations. */
  readonly events: readonly StoreEvent[];
}

export type Decision =
  | { readonly outcome: 'changes'; readonly changes: KeyChanges }
  /**
   * Nothing to do. `pending`: this was decided by states that are not yet durable, so that nobody may hear of it
   * before they are.
   */
  | { readonly outcome: 'unchanged'; readonly pending: boolean; readonly revision: number }
  | {
      readonly outcome: 'refused';
      readonly pending: boolean;
      readonly revision: number;
      readonly current: readonly (KeyValue | undefined)[];
    };

/** Bytes that a state costs beside its key and value, in memory as on disk; only the order of magnitude matters. */
const STATE_OVERHEAD = 32;
/** Keys and values of one transaction; far beyond anything sensible, well within what one record can hold. */
const TRANSACTION_MAX = 256 * 1024 * 1024;
const NO_VALUE = new Uint8Array(0);

export class Keyspace {
  readonly #index = new KeyIndex();
  /** Every change since compactRevision, in order. */
  readonly #log = new ChangeLog();
  /** The newest decided state of each key that has one which is not yet applied. */
  readonly #pending = new Map<string, KeyValue>();
  #revision = 0;
  #decidedRevision = 0;
  #compactRevision = 0;
  #retainedBytes = 0;

  /** The newest applied revision. */
  get revision(): number {
    return this.#revision;
  }

  get decidedRevision(): number {
    return this.#decidedRevision;
  }

  get compactRevision(): number {
    return this.#compactRevision;
  }

  /** About how many bytes all states that are still readable take, keys and values. */
  get retainedBytes(): number {
    return this.#retainedBytes;
  }

  // ---- reading ----

  get(key: string, revision: number | undefined): KeyValue | undefined {
    const at = this.#readRevision(revision);
    const state = this.#index.find(orderKey(key))?.at(at);
    return state === undefined || isDeleted(state) ? undefined : state;
  }

  list(range: KeyRange, options: ListOptions = {}): ListResult {
    const at = this.#readRevision(options.revision);
    const limit = options.limit || Number.POSITIVE_INFINITY;
    if (limit < 0) throw new RangeError(`${limit} is not a limit: 0 for none, or more`);
    if (range.end === undefined) {
      const kv = this.get(range.start, at);
      return { items: kv ? [kv] : [], revision: this.#revision, more: false, count: kv ? 1 : 0 };
    }
    const items: KeyValue[] = [];
    let count = 0;
    const newest = at === this.#revision;
    const end = range.end === END_OF_KEYS ? undefined : orderKey(range.end);
    for (const { entries, from, to, live } of this.#index.stretches(orderKey(range.start), end)) {
      if (newest) {
        count += live;
        if (items.length >= limit) continue;
        for (let i = from; i < to && items.length < limit; i++) {
          const state = entries[i]!.current;
          if (!isDeleted(state)) items.push(state);
        }
      } else {
        for (let i = from; i < to; i++) {
          const state = entries[i]!.at(at);
          if (state === undefined || isDeleted(state)) continue;
          if (items.length < limit) items.push(state);
          count++;
        }
      }
    }
    return { items, revision: this.#revision, more: count > items.length, count };
  }

  /** Every change in the log from a revision on, in order. Throws CompactedError when some of them are gone. */
  changesFrom(revision: number): readonly StoreEvent[] {
    if (revision <= this.#compactRevision) throw new CompactedError(this.#compactRevision);
    return this.#log.from(revision);
  }

  #readRevision(revision: number | undefined): number {
    if (revision === undefined || revision === 0) return this.#revision;
    if (!Number.isSafeInteger(revision) || revision < 0)
      throw new RangeError(`${revision} is not a revision: a whole number, not negative`);
    if (revision > this.#revision) throw new FutureRevisionError(this.#revision);
    if (revision < this.#compactRevision) throw new CompactedError(this.#compactRevision);
    return revision;
  }

  // ---- changing ----

  decide(compare: readonly Compare[], operations: readonly Operation[]): Decision {
    let pending = false;
    let holds = true;
    for (const { key, modRevision } of compare) {
      checkKey(key);
      if (this.#pending.has(key)) pending = true;
      if ((this.#decided(key)?.modRevision ?? 0) !== modRevision) holds = false;
    }
    if (!holds) {
      const current = compare.map(({ key }) => this.#decided(key));
      return { outcome: 'refused', pending, revision: this.#answerRevision(pending), current };
    }
    checkOperations(operations);
    const revision = this.#decidedRevision + 1;
    const events: StoreEvent[] = [];
    for (const operation of operations) {
      const { key } = operation;
      const previous = this.#decided(key);
      if (operation.type === 'delete' && previous === undefined) {
        if (this.#pending.has(key)) pending = true;
        continue;
      }
      events.push({
        type: operation.type,
        kv: operation.type === 'put' ? nextState(operation, revision, previous) : deletedState(key, revision),
        previous,
      });
    }
    if (events.length === 0)
      return { outcome: 'unchanged', pending, revision: this.#answerRevision(pending) };
    this.#decidedRevision = revision;
    for (const { kv } of events) this.#pending.set(kv.key, kv);
    return { outcome: 'changes', changes: { revision, events } };
  }

  /** The revision to answer with when nothing was changed. */
  #answerRevision(pending: boolean): number {
    return pending ? this.#decidedRevision : this.#revision;
  }

  /** The newest state of a key, durable or not; undefined when it is deleted. */
  #decided(key: string): KeyValue | undefined {
    const state = this.#pending.get(key) ?? this.#index.find(orderKey(key))?.current;
    return state === undefined || isDeleted(state) ? undefined : state;
  }

  /** Decided, not yet applied states; for whoever needs to know what a key will be. */
  get pendingStates(): ReadonlyMap<string, KeyValue> {
    return this.#pending;
  }

  /** Mutations must come in the order in which they were decided. */
  apply(changes: KeyChanges): void {
    for (const event of changes.events) {
      const { kv } = event;
      this.#index.push(kv);
      this.#log.push(event);
      this.#retainedBytes += stateBytes(kv);
      if (this.#pending.get(kv.key) === kv) this.#pending.delete(kv.key);
    }
    this.#revision = changes.revision;
  }

  rollback(): void {
    this.#pending.clear();
    this.#decidedRevision = this.#revision;
  }

  // ---- compaction ----

  /** Throws FutureRevisionError for a revision that is not there yet. */
  checkCompaction(revision: number): void {
    if (!Number.isSafeInteger(revision) || revision < 0)
      throw new RangeError(`${revision} is not a revision: a whole number, not negative`);
    if (revision > this.#revision) throw new FutureRevisionError(this.#revision);
  }

  /** From now on nothing older can be read. The memory comes back through purge(). */
  compact(revision: number): void {
    this.#compactRevision = Math.max(this.#compactRevision, revision);
  }

  /**
   * Frees states that compaction has made unreadable, looking at no more than `budget` changes (about 1 µs each).
   * True when there is more to do.
   */
  purge(budget: number): boolean {
    for (let looked = 0; ; looked++) {
      const change = this.#log.first();
      if (change === undefined || change.kv.modRevision > this.#compactRevision) return false;
      if (looked >= budget) return true;
      this.#log.shift();
      const order = orderKey(change.kv.key);
      const entry = this.#index.find(order);
      if (entry === undefined) continue;
      for (const dropped of entry.dropReplaced(this.#compactRevision))
        this.#retainedBytes -= stateBytes(dropped);
      if (change.type === 'delete' && entry.current === change.kv) {
        this.#index.remove(order);
        this.#retainedBytes -= stateBytes(change.kv);
      }
    }
  }

  // ---- snapshots ----

  /** Puts back one state that was current at compactRevision. Keys must come in order, before any apply(). */
  restore(kv: KeyValue): void {
    this.#index.push(kv);
    this.#retainedBytes += stateBytes(kv);
  }

  /** Sets the revisions of an empty keyspace whose restored states are those current at `compactRevision`. */
  restoreRevisions(compactRevision: number): void {
    this.#compactRevision = compactRevision;
    this.#revision = compactRevision;
    this.#decidedRevision = compactRevision;
  }

  /**
   * Up to `limit` states that were current at `revision`, of the keys after `after` (an empty one: of all), in
   * order. purge() must not run between the first call and the last.
   */
  statesAt(revision: number, after: string, limit: number): readonly KeyValue[] {
    const states: KeyValue[] = [];
    const start = orderKey(after);
    for (const { entries, from, to } of this.#index.stretches(start, undefined)) {
      for (let i = from; i < to; i++) {
        const entry = entries[i]!;
        const state = entry.order === start ? undefined : entry.at(revision);
        if (state !== undefined && !isDeleted(state)) states.push(state);
        if (states.length >= limit) return states;
      }
    }
    return states;
  }
}

function nextState(
  put: Operation & { type: 'put' },
  revision: number,
  previous: KeyValue | undefined,
): KeyValue {
  const { key, value, lease } = put;
  const createRevision = previous?.createRevision ?? revision;
  const version = (previous?.version ?? 0) + 1;
  // Not one literal with an undefined lease: the field costs memory in every state, and few have one.
  return lease
    ? { key, value, createRevision, modRevision: revision, version, lease }
    : { key, value, createRevision, modRevision: revision, version };
}

function deletedState(key: string, revision: number): KeyValue {
  return { key, value: NO_VALUE, createRevision: 0, modRevision: revision, version: 0 };
}

function stateBytes(kv: KeyValue): number {
  return STATE_OVERHEAD + kv.key.length + kv.value.length;
}

function checkOperations(operations: readonly Operation[]): void {
  let bytes = 0;
  for (const operation of operations) {
    checkKey(operation.key);
    bytes += operation.key.length;
    if (operation.type === 'delete') continue;
    if (!(operation.value instanceof Uint8Array))
      throw new TypeError(`the value of ${operation.key} is not a Uint8Array`);
    bytes += operation.value.length;
  }
  if (bytes > TRANSACTION_MAX)
    throw new RangeError(`a transaction of ${bytes} bytes is too large; ${TRANSACTION_MAX} are allowed`);
  if (operations.length < 2) return;
  const keys = new Set<string>();
  for (const { key } of operations) {
    if (keys.has(key)) throw new TypeError(`the transaction names ${key} in two operations`);
    keys.add(key);
  }
}

/** Throws when the bounds cannot be those of a range. */
export function checkRange(range: KeyRange): void {
  if (range.end === undefined) checkKey(range.start);
  else {
    checkBound(range.start);
    checkBound(range.end);
  }
}
