// Every change since the last compaction, in order: what watches from the past and snapshots are made of. A queue of
// blocks, so that compaction never moves what stays. The values of a change are let go with it, not with its block:
// a block of large ones would be gigabytes.

import type { StoreEvent } from '../store.ts';

const BLOCK = 4_096;

export class ChangeLog {
  /** All but the last are full. */
  readonly #blocks: (StoreEvent | undefined)[][] = [];
  /** Of the first block, so many are gone: they are the undefined ones. */
  #gone = 0;

  push(event: StoreEvent): void {
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.length < BLOCK) last.push(event);
    else this.#blocks.push([event]);
  }

  first(): StoreEvent | undefined {
    return this.#blocks[0]?.[this.#gone];
  }

  /** Takes the first one away. */
  shift(): void {
    const first = this.#blocks[0];
    if (first === undefined) return;
    first[this.#gone++] = undefined;
    if (this.#gone < first.length) return;
    this.#blocks.shift();
    this.#gone = 0;
  }

  /** All changes from a revision on. */
  from(revision: number): StoreEvent[] {
    const later = this.#blocks.findIndex((block) => block.at(-1)!.kv.modRevision >= revision);
    if (later < 0) return [];
    const block = this.#blocks[later]!;
    const start = firstFrom(block, revision, later === 0 ? this.#gone : 0);
    return block.slice(start).concat(...this.#blocks.slice(later + 1)) as StoreEvent[];
  }
}

/** The position of the first event at or after a revision, of those from `start` on. */
function firstFrom(events: readonly (StoreEvent | undefined)[], revision: number, start: number): number {
  let low = start;
  let high = events.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (events[middle]!.kv.modRevision < revision) low = middle + 1;
    else high = middle;
  }
  return low;
}
