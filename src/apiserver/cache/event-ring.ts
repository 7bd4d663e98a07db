// The recent past of one resource: its last changes in order, each with a sequence number, so that a watcher can
// start at an older revision or catch up after a pause. Older changes fall out once they are both beyond the least
// number kept and older than a bookmark interval, or when there are simply too many of them, or too large ones.

import type { StoredObject } from './stored-object.ts';

/** One change of one object. */
export class Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly revision: number;
  /** When the cache heard of it, on the monotonic clock, in ms. */
  readonly heard: number;
  /** About what it holds in memory; a state that two changes share counts in both, as their encoded events are two. */
  readonly bytes: number;
  /** The object after the change; undefined when it was deleted. */
  readonly current: StoredObject | undefined;
  /** The object before the change; undefined when it was created (or its past was compacted away). */
  readonly previous: StoredObject | undefined;
  #gone: StoredObject | undefined;
  /** Watch events of this change that were encoded already, by the format they are in; see WireFormat. */
  readonly encoded = new Map<object, { [T in Change['type']]?: Buffer }>();

  constructor(
    type: Change['type'],
    revision: number,
    heard: number,
    current: StoredObject | undefined,
    previous: StoredObject | undefined,
  ) {
    this.type = type;
    this.revision = revision;
    this.heard = heard;
    this.current = current;
    this.previous = previous;
    this.bytes = (current?.bytes.length ?? 0) + (previous?.bytes.length ?? 0);
  }

  /** What a DELETED event shows: the last state that the watcher was to know of, under the revision of the change. */
  get gone(): StoredObject | undefined {
    this.#gone ??= this.previous?.at(this.revision);
    return this.#gone;
  }
}

export interface EventRingLimits {
  /** Changes that are kept however old they are. */
  readonly least: number;
  /** Changes beyond `least` are kept until they are this old. */
  readonly keepMs: number;
  /** Never more than this many. */
  readonly most: number;
  /** Never more than these bytes in all, but always the last change; 64 MiB when absent. */
  readonly mostBytes?: number;
}

const MOST_BYTES = 64 * 1024 * 1024;

export const defaultRingLimits: EventRingLimits = { least: 1_000, keepMs: 75_000, most: 100_000 };

export class EventRing {
  readonly #limits: EventRingLimits;
  /** A power of two long. */
  #slots: (Change | undefined)[] = new Array(64).fill(undefined);
  #first = 0;
  #next = 0;
  #bytes = 0;
  /** Every change after this revision is here. */
  #completeAfter: number;

  constructor(completeAfter: number, limits: EventRingLimits = defaultRingLimits) {
    this.#completeAfter = completeAfter;
    this.#limits = limits;
  }

  /** The number of the oldest change kept. */
  get first(): number {
    return this.#first;
  }

  /** The number that the next change will get. */
  get next(): number {
    return this.#next;
  }

  get completeAfter(): number {
    return this.#completeAfter;
  }

  /** Forgets all that is here: the past begins after `revision`. */
  startAfter(revision: number): void {
    while (this.#first < this.#next) this.#dropOldest();
    this.#completeAfter = revision;
  }

  at(sequence: number): Change {
    return this.#slots[sequence & (this.#slots.length - 1)]!;
  }

  /** Returns the change's sequence number. */
  push(change: Change): number {
    const { least, keepMs, most, mostBytes = MOST_BYTES } = this.#limits;
    let length = this.#next - this.#first;
    for (; length > 0 && this.#bytes + change.bytes > mostBytes; length--) this.#dropOldest();
    while (length > 0 && length >= least) {
      if (length < most && this.at(this.#first).heard > change.heard - keepMs) break;
      this.#dropOldest();
      length--;
    }
    if (length === this.#slots.length) this.#grow();
    this.#slots[this.#next & (this.#slots.length - 1)] = change;
    this.#bytes += change.bytes;
    return this.#next++;
  }

  /** The number of the first change after `revision`; undefined when that is no longer known. */
  after(revision: number): number | undefined {
    if (revision < this.#completeAfter) return undefined;
    let low = this.#first;
    let high = this.#next;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.at(middle).revision <= revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #dropOldest(): void {
    const slot = this.#first & (this.#slots.length - 1);
    const { revision, bytes } = this.#slots[slot]!;
    this.#completeAfter = revision;
    this.#bytes -= bytes;
    this.#slots[slot] = undefined;
    this.#first++;
  }

  #grow(): void {
    const old = this.#slots;
    const slots: (Change | undefined)[] = new Array(old.length * 2).fill(undefined);
    for (let i = this.#first; i < this.#next; i++) slots[i & (slots.length - 1)] = old[i & (old.length - 1)];
    this.#slots = slots;
  }
}
