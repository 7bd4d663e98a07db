// The mappings of an address space in order, their sums, and the free room between them. Knows nothing of rules: it
// splits, merges and counts.
//
// A sorted array: finding is a binary search behind a memory of the last hit, changing moves pointers. `generation`
// changes with every change, so that others can keep what they found.

import type { FileDescription } from '../vfs/file-description.ts';
import { countedAs, Mapping, mergeable, VmFlag } from './vma.ts';

/** Free room that a new mapping may lie in. */
export interface Room {
  readonly low: number;
  readonly high: number;
}

export class VmaSet {
  #list: Mapping[] = [];
  #last: Mapping | undefined;
  #total = 0;
  #locked = 0;
  #data = 0;
  #stack = 0;
  #executable = 0;
  #peakTotal = 0;
  generation = 0;
  // No room of #knownSize bytes or more lies between #knownBelow and #knownTop: where the last search from above ended.
  #knownSize = Number.POSITIVE_INFINITY;
  #knownBelow = 0;
  #knownTop = 0;

  get count(): number {
    return this.#list.length;
  }
  /** Bytes. */
  get total(): number {
    return this.#total;
  }
  get locked(): number {
    return this.#locked;
  }
  get data(): number {
    return this.#data;
  }
  get stack(): number {
    return this.#stack;
  }
  get executable(): number {
    return this.#executable;
  }
  get peakTotal(): number {
    return this.#peakTotal;
  }

  at(index: number): Mapping | undefined {
    return this.#list[index];
  }

  [Symbol.iterator](): IterableIterator<Mapping> {
    return this.#list[Symbol.iterator]();
  }

  /** Index of the first mapping that ends above the address (find_vma); count if there is none. */
  indexAbove(address: number): number {
    const list = this.#list;
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((list[middle] as Mapping).end > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Whether all of a range is mapped with this right. */
  allows(address: number, length: number, right: number): boolean {
    const end = address + length;
    for (let at = address; at < end; ) {
      const mapping = this.find(at);
      if (!mapping || (mapping.flags & right) === 0) return false;
      at = mapping.end;
    }
    return true;
  }

  /** The mapping that contains the address. */
  find(address: number): Mapping | undefined {
    const last = this.#last;
    if (last && address >= last.start && address < last.end) return last;
    const mapping = this.#list[this.indexAbove(address)];
    if (!mapping || mapping.start > address) return undefined;
    this.#last = mapping;
    return mapping;
  }

  /** Whether any mapping overlaps [start, end). */
  overlaps(start: number, end: number): boolean {
    const mapping = this.#list[this.indexAbove(start)];
    return mapping !== undefined && mapping.start < end;
  }

  /** Mapped bytes within [start, end). */
  mapped(start: number, end: number): number {
    let bytes = 0;
    for (const mapping of this.within(start, end))
      bytes += Math.min(end, mapping.end) - Math.max(start, mapping.start);
    return bytes;
  }

  /** The mappings that overlap [start, end), whole. The books may not change meanwhile. */
  *within(start: number, end: number): IterableIterator<Mapping> {
    if (start >= end) return;
    for (let i = this.indexAbove(start); i < this.#list.length; i++) {
      const mapping = this.#list[i] as Mapping;
      if (mapping.start >= end) return;
      yield mapping;
    }
  }

  /** The parts of mappings that lie in [start, end). */
  parts(start: number, end: number): Mapping[] {
    const parts: Mapping[] = [];
    for (const mapping of this.within(start, end))
      parts.push(
        mapping.start >= start && mapping.end <= end
          ? mapping
          : mapping.part(Math.max(start, mapping.start), Math.min(end, mapping.end)),
      );
    return parts;
  }

  /** How many mappings more there would be if [start, end) were cut out: splitting one in the middle adds one. */
  splits(start: number, end: number): number {
    const first = this.#list[this.indexAbove(start)];
    return first && first.start < start && first.end > end ? 1 : 0;
  }

  /**
   * Adds a mapping to a free range and merges it with its neighbours. Takes over one reference to its file. Gives what
   * it is part of now.
   */
  insert(mapping: Mapping): Mapping {
    const index = this.indexAbove(mapping.start);
    this.#list.splice(index, 0, mapping);
    this.#count(mapping, 1);
    this.#changed();
    this.#merge(index, index + 1);
    return this.find(mapping.start) as Mapping;
  }

  /**
   * Cuts [start, end) out. Gives the parts that were there; the caller owns their references to files, one for each.
   */
  cut(start: number, end: number): Mapping[] {
    const index = this.indexAbove(start);
    const first = this.#list[index];
    if (!first || first.start >= end) return [];
    const kept: Mapping[] = [];
    const parts: Mapping[] = [];
    let to = index;
    for (; to < this.#list.length; to++) {
      const mapping = this.#list[to] as Mapping;
      if (mapping.start >= end) break;
      this.#count(mapping, -1);
      if (mapping.start >= start && mapping.end <= end) {
        parts.push(mapping);
        continue;
      }
      // The reference of the whole goes with the part that is cut; each rest needs one of its own.
      if (mapping.start < start) kept.push(this.#rest(mapping, mapping.start, start));
      parts.push(mapping.part(Math.max(start, mapping.start), Math.min(end, mapping.end)));
      if (mapping.end > end) kept.push(this.#rest(mapping, end, mapping.end));
    }
    this.#list.splice(index, to - index, ...kept);
    this.#changed();
    // Room has come up that a search from above must see: it reaches up to what comes next.
    if (end > this.#knownBelow)
      this.#knownBelow = this.#list[index + kept.length]?.start ?? Number.POSITIVE_INFINITY;
    return parts;
  }

  #rest(mapping: Mapping, start: number, end: number): Mapping {
    mapping.file?.acquire();
    const rest = mapping.part(start, end);
    this.#count(rest, 1);
    return rest;
  }

  /**
   * Puts change(part) in the place of each part within [start, end) and merges what has become the same. The file of a
   * part may not change.
   */
  update(start: number, end: number, change: (part: Mapping) => Mapping): void {
    const parts = this.cut(start, end);
    if (parts.length === 0) return;
    const index = this.indexAbove(start);
    const changed = parts.map(change);
    this.#list.splice(index, 0, ...changed);
    for (const mapping of changed) this.#count(mapping, 1);
    this.#changed();
    this.#merge(index, index + changed.length);
  }

  /** Merges what can be among the mappings first-1 … after. */
  #merge(first: number, after: number): void {
    const list = this.#list;
    let to = Math.max(first - 1, 0);
    const end = Math.min(after, list.length - 1);
    let current = list[to] as Mapping;
    for (let i = to + 1; i <= end; i++) {
      const next = list[i] as Mapping;
      if (mergeable(current, next)) {
        current = new Mapping(
          current.start,
          next.end,
          current.flags,
          current.file,
          current.offset,
          current.label,
          current.policy,
        );
        next.file?.unreference();
      } else {
        list[to++] = current;
        current = next;
      }
    }
    list[to++] = current;
    if (to <= end) list.splice(to, end + 1 - to);
    this.#last = undefined;
  }

  #changed(): void {
    this.generation++;
    this.#last = undefined;
  }

  #count(mapping: Mapping, sign: 1 | -1): void {
    const bytes = (mapping.end - mapping.start) * sign;
    if ((mapping.flags & VmFlag.special) === 0) this.#total += bytes;
    if (mapping.flags & VmFlag.locked) this.#locked += bytes;
    switch (countedAs(mapping.flags)) {
      case 'executable':
        this.#executable += bytes;
        break;
      case 'stack':
        this.#stack += bytes;
        break;
      case 'data':
        this.#data += bytes;
        break;
    }
    if (this.#total > this.#peakTotal) this.#peakTotal = this.#total;
  }

  /**
   * The highest address at which `length` bytes are free below `room.high`, or undefined. `gap`: bytes that stay free
   * below mappings that grow down. holes: never used.
   */
  roomFromAbove(length: number, room: Room, gap: number, holes: readonly HoleRange[]): number | undefined {
    const known = this.#knownTop === room.high && length >= this.#knownSize;
    let high = known ? Math.min(room.high, this.#knownBelow) : room.high;
    let found: number | undefined;
    for (let i = this.indexAbove(high - 1); found === undefined && high >= room.low + length; i--) {
      const next = this.#list[i];
      if (next) high = Math.min(high, startWithGap(next, gap));
      const low = Math.max(room.low, i > 0 ? (this.#list[i - 1] as Mapping).end : 0);
      found = highestIn(low, high, length, holes);
      if (i === 0) break;
    }
    // Remembered only for the smallest size, so that searches for different sizes don't undo each other's.
    if (found !== undefined && length <= this.#knownSize) {
      this.#knownSize = length;
      this.#knownBelow = found + length;
      this.#knownTop = room.high;
    }
    return found;
  }

  /** The lowest such address. */
  roomFromBelow(length: number, room: Room, gap: number, holes: readonly HoleRange[]): number | undefined {
    let low = room.low;
    for (let i = this.indexAbove(low); low + length <= room.high; i++) {
      const next = this.#list[i];
      const high = Math.min(room.high, next ? startWithGap(next, gap) : room.high);
      const found = lowestIn(low, high, length, holes);
      if (found !== undefined) return found;
      if (!next) break;
      low = Math.max(low, next.end);
    }
    return undefined;
  }

  /** The books of a forked copy; without the mappings for which `change` gives undefined. References are acquired. */
  copy(change: (mapping: Mapping) => Mapping | undefined): VmaSet {
    const set = new VmaSet();
    for (const mapping of this.#list) {
      const copied = change(mapping);
      if (!copied) continue;
      copied.file?.acquire();
      set.#list.push(copied);
      set.#count(copied, 1);
    }
    set.#peakTotal = Math.max(set.#total, this.#peakTotal);
    return set;
  }

  /** Drops everything, with the references to files. */
  clear(): void {
    const list = this.#list;
    this.#list = [];
    this.#total = this.#locked = this.#data = this.#stack = this.#executable = 0;
    this.#changed();
    for (const { file } of list) file?.unreference();
  }
}

export interface HoleRange {
  readonly start: number;
  readonly end: number;
}

/** vm_start_gap. */
export function startWithGap(mapping: Mapping, gap: number): number {
  return mapping.flags & VmFlag.growsDown ? Math.max(0, mapping.start - gap) : mapping.start;
}

function highestIn(
  low: number,
  high: number,
  length: number,
  holes: readonly HoleRange[],
): number | undefined {
  if (high - low < length) return undefined;
  for (let i = holes.length - 1; i >= 0; i--) {
    const hole = holes[i] as HoleRange;
    if (hole.end <= low || hole.start >= high) continue;
    if (high - Math.max(low, hole.end) >= length) return high - length;
    high = hole.start;
    if (high - low < length) return undefined;
  }
  return high - length;
}

function lowestIn(
  low: number,
  high: number,
  length: number,
  holes: readonly HoleRange[],
): number | undefined {
  for (const hole of holes) {
    if (hole.end <= low || hole.start >= high) continue;
    if (Math.min(high, hole.start) - low >= length) return low;
    low = hole.end;
  }
  return high - low >= length ? low : undefined;
}

/** Drops the references of parts that were cut out. */
export function unreference(parts: readonly { readonly file: FileDescription | undefined }[]): void {
  for (const { file } of parts) file?.unreference();
}
