// The ordered index: every key with its states, the newest at hand and the older ones behind it.
//
// Entries stand in order in chunks of a few hundred, the chunks in order in one array. A look-up is two binary
// searches, an insertion moves at most a chunk's worth of pointers, and a list walks plain arrays. Each chunk counts
// its live keys, so that counting a range costs its chunks and not its keys.

import type { KeyValue } from '../store.ts';
import { orderKey } from './key-order.ts';

const CHUNK_MAX = 512;
/** A chunk that shrinks below this is joined with its neighbour when both fit into half a chunk. */
const CHUNK_LOW = 64;

/** A deletion is a state of its own, with version 0. */
export function isDeleted(state: KeyValue): boolean {
  return state.version === 0;
}

/** One key with its states. */
export class KeyEntry {
  /** The order key (key-order.ts). */
  readonly order: string;
  current: KeyValue;
  /** What `current` replaced and compaction has not yet taken, oldest first. */
  older: KeyValue[] | undefined;

  constructor(order: string, current: KeyValue) {
    this.order = order;
    this.current = current;
    this.older = undefined;
  }

  /** The state as of a revision, possibly a deletion; undefined when the key had none. */
  at(revision: number): KeyValue | undefined {
    if (this.current.modRevision <= revision) return this.current;
    const older = this.older;
    if (older === undefined) return undefined;
    return older[firstNewer(older, revision) - 1];
  }

  /** Takes away and returns the states that were replaced at or before a revision. */
  dropReplaced(revision: number): readonly KeyValue[] {
    const older = this.older;
    if (older === undefined) return [];
    // A state was replaced when the next one was made: all but the last one that is not newer than the revision.
    const keepFrom =
      this.current.modRevision <= revision ? older.length : Math.max(0, firstNewer(older, revision) - 1);
    if (keepFrom === 0) return [];
    if (keepFrom === older.length) {
      this.older = undefined;
      return older;
    }
    return older.splice(0, keepFrom);
  }
}

/** The position of the first state made after a revision. */
function firstNewer(states: readonly KeyValue[], revision: number): number {
  let low = 0;
  let high = states.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (states[middle]!.modRevision <= revision) low = middle + 1;
    else high = middle;
  }
  return low;
}

interface Chunk {
  entries: KeyEntry[];
  /** How many of the entries exist at the newest revision. */
  live: number;
}

/** A stretch of one chunk: entries[from] up to and without entries[to]. */
export interface Stretch {
  readonly entries: readonly KeyEntry[];
  readonly from: number;
  readonly to: number;
  /** Live entries of the stretch. */
  readonly live: number;
}

export class KeyIndex {
  readonly #chunks: Chunk[] = [];
  #size = 0;

  /** Entries, deleted ones included. */
  get size(): number {
    return this.#size;
  }

  find(order: string): KeyEntry | undefined {
    const chunk = this.#chunks[this.#chunkOf(order)];
    if (chunk === undefined) return undefined;
    const entry = chunk.entries[lowerBound(chunk.entries, order)];
    return entry?.order === order ? entry : undefined;
  }

  /** Makes this the key's newest state, in front of what was there. */
  push(state: KeyValue): void {
    const order = orderKey(state.key);
    const at = this.#chunkOf(order);
    const chunk = this.#chunks[at];
    if (chunk === undefined) {
      this.#chunks.push({ entries: [new KeyEntry(order, state)], live: isDeleted(state) ? 0 : 1 });
      this.#size++;
      return;
    }
    const position = lowerBound(chunk.entries, order);
    const entry = chunk.entries[position];
    if (entry?.order === order) {
      chunk.live += (isDeleted(state) ? 0 : 1) - (isDeleted(entry.current) ? 0 : 1);
      if (entry.older === undefined) entry.older = [entry.current];
      else entry.older.push(entry.current);
      entry.current = state;
      return;
    }
    this.#size++;
    this.#insert(at, chunk, position, new KeyEntry(order, state));
  }

  #insert(at: number, chunk: Chunk, position: number, entry: KeyEntry): void {
    const live = isDeleted(entry.current) ? 0 : 1;
    if (chunk.entries.length < CHUNK_MAX) {
      if (position === chunk.entries.length) chunk.entries.push(entry);
      else chunk.entries.splice(position, 0, entry);
      chunk.live += live;
      return;
    }
    if (position === CHUNK_MAX && at === this.#chunks.length - 1) {
      // Keys that come in order (a snapshot being read, names that count up) leave full chunks behind them.
      this.#chunks.push({ entries: [entry], live });
      return;
    }
    const upper: Chunk = { entries: chunk.entries.splice(CHUNK_MAX / 2), live: 0 };
    upper.live = countLive(upper.entries, 0, upper.entries.length);
    chunk.live -= upper.live;
    this.#chunks.splice(at + 1, 0, upper);
    const half = position <= CHUNK_MAX / 2 ? chunk : upper;
    half.entries.splice(half === chunk ? position : position - CHUNK_MAX / 2, 0, entry);
    half.live += live;
  }

  /** Takes the whole entry away. */
  remove(order: string): void {
    const at = this.#chunkOf(order);
    const chunk = this.#chunks[at];
    if (chunk === undefined) return;
    const position = lowerBound(chunk.entries, order);
    const entry = chunk.entries[position];
    if (entry?.order !== order) return;
    chunk.entries.splice(position, 1);
    if (!isDeleted(entry.current)) chunk.live--;
    this.#size--;
    if (chunk.entries.length >= CHUNK_LOW) return;
    const next = this.#chunks[at + 1];
    if (chunk.entries.length === 0) this.#chunks.splice(at, 1);
    else if (next !== undefined && chunk.entries.length + next.entries.length <= CHUNK_MAX / 2) {
      for (const moved of next.entries) chunk.entries.push(moved);
      chunk.live += next.live;
      this.#chunks.splice(at + 1, 1);
    }
  }

  /** The entries with start <= order < end, in order; `end` undefined: to the last. The index must not change meanwhile. */
  *stretches(start: string, end: string | undefined): Generator<Stretch> {
    for (let at = this.#chunkOf(start); at < this.#chunks.length; at++) {
      const { entries, live } = this.#chunks[at]!;
      const from = entries[0]!.order >= start ? 0 : lowerBound(entries, start);
      const whole = end === undefined || entries[entries.length - 1]!.order < end;
      const to = whole ? entries.length : lowerBound(entries, end);
      if (from < to)
        yield {
          entries,
          from,
          to,
          live: from === 0 && to === entries.length ? live : countLive(entries, from, to),
        };
      if (!whole) return;
    }
  }

  /** The chunk that holds the order key, or would: the last one that does not start after it. */
  #chunkOf(order: string): number {
    const chunks = this.#chunks;
    let low = 0;
    let high = chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (chunks[middle]!.entries[0]!.order <= order) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? 0 : low - 1;
  }
}

function countLive(entries: readonly KeyEntry[], from: number, to: number): number {
  let live = 0;
  for (let i = from; i < to; i++) if (!isDeleted(entries[i]!.current)) live++;
  return live;
}

/** The position of the first entry that does not stand before the order key. */
function lowerBound(entries: readonly KeyEntry[], order: string): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entries[middle]!.order < order) low = middle + 1;
    else high = middle;
  }
  return low;
}
