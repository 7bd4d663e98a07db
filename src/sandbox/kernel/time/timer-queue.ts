// The kernel's timers: a binary heap by deadline. The kernel's loop sleeps until `next` and then calls `run`.

import type { Timer, Timers } from '../contract.ts';

interface Node {
  readonly deadline: number;
  /** Of equal deadlines the older goes first. */
  readonly sequence: number;
  readonly expired: () => void;
  /** Place in the heap; -1: expired or cancelled; -2: put aside until the current run is over. */
  index: number;
}

export class TimerQueue implements Timers {
  readonly #heap: Node[] = [];
  #sequence = 0;

  get size(): number {
    return this.#heap.length;
  }

  /** The earliest deadline (CLOCK_MONOTONIC nanoseconds), or Infinity. */
  get next(): number {
    return this.#heap[0]?.deadline ?? Infinity;
  }

  at(deadline: number, expired: () => void): Timer {
    const node = new HeapTimer(this, deadline, this.#sequence++, expired);
    node.index = this.#heap.length;
    this.#heap.push(node);
    this.#up(node);
    return node;
  }

  /**
   * Calls what expired at or before `now`, earliest first. What is set meanwhile waits for the next run, so that a timer
   * that sets itself again for a time in the past cannot keep the kernel here. Gives how many were called.
   */
  run(now: number): number {
    const end = this.#sequence;
    let count = 0;
    let postponed: Node[] | undefined;
    for (;;) {
      const first = this.#heap[0];
      if (!first || first.deadline > now) break;
      this.remove(first);
      if (first.sequence >= end) {
        first.index = -2;
        postponed ??= [];
        postponed.push(first);
        continue;
      }
      count++;
      first.expired();
    }
    for (const node of postponed ?? []) {
      if (node.index !== -2) continue;
      node.index = this.#heap.length;
      this.#heap.push(node);
      this.#up(node);
    }
    return count;
  }

  /** For HeapTimer only. */
  remove(node: Node): void {
    const heap = this.#heap;
    const index = node.index;
    node.index = -1;
    if (index < 0) return;
    const last = heap.pop();
    if (!last || last === node) return;
    last.index = index;
    heap[index] = last;
    this.#down(last);
    this.#up(last);
  }

  #up(node: Node): void {
    const heap = this.#heap;
    while (node.index > 0) {
      const parentIndex = (node.index - 1) >> 1;
      const parent = heap[parentIndex];
      if (!parent || !before(node, parent)) return;
      heap[node.index] = parent;
      parent.index = node.index;
      heap[parentIndex] = node;
      node.index = parentIndex;
    }
  }

  #down(node: Node): void {
    const heap = this.#heap;
    for (;;) {
      const left = heap[2 * node.index + 1];
      const right = heap[2 * node.index + 2];
      const child = left && right && before(right, left) ? right : left;
      if (!child || !before(child, node)) return;
      const index = child.index;
      heap[node.index] = child;
      child.index = node.index;
      heap[index] = node;
      node.index = index;
    }
  }
}

function before(a: Node, b: Node): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.sequence < b.sequence);
}

class HeapTimer implements Timer, Node {
  readonly deadline: number;
  readonly sequence: number;
  readonly expired: () => void;
  index = -1;
  readonly #queue: TimerQueue;

  constructor(queue: TimerQueue, deadline: number, sequence: number, expired: () => void) {
    this.#queue = queue;
    this.deadline = deadline;
    this.sequence = sequence;
    this.expired = expired;
  }

  cancel(): void {
    this.#queue.remove(this);
  }
}
