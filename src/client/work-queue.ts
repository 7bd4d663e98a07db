// A queue of keys to work on.
//
// - A key stands in it once, however often it is added before somebody takes it.
// - A key is in one place at a time: one that is added while it is being processed waits until done(key) and is then
//   queued again, so nobody else takes it meanwhile and no change is missed.
// - Keys are compared as Map keys: strings, or objects by identity.
// - take() gives keys in the order they came. Whoever takes a key must call done(key), whatever happened.
// - addAfter() queues a key later; of several delays for one key the earliest counts. addRateLimited() asks the rate
//   limiter how much later, and forget() resets what it remembers: call it when the key succeeded.
// - After shutDown() nothing more is added and take() drains what is queued, then gives undefined.

import type { Clock, Timer } from '../component/index.ts';
import { defaultRateLimiter, type RateLimiter } from './rate-limit.ts';

/** Called synchronously; all durations in ms. */
export interface WorkQueueMetrics {
  added?(queue: string): void;
  depth?(queue: string, depth: number): void;
  /** From queued to taken. */
  latency?(queue: string, ms: number): void;
  /** From taken to done. */
  workDuration?(queue: string, ms: number): void;
  retried?(queue: string): void;
}

export interface WorkQueueOptions<K> {
  readonly name: string;
  readonly clock: Clock;
  readonly rateLimiter?: RateLimiter<K>;
  readonly metrics?: WorkQueueMetrics;
}

interface Delayed<K> {
  readonly key: K;
  readonly due: number;
}

export class WorkQueue<K = string> {
  readonly name: string;
  readonly #clock: Clock;
  readonly #limiter: RateLimiter<K>;
  readonly #metrics: WorkQueueMetrics;
  /** Queued keys in order, with the time they were queued. */
  readonly #queued = new Map<K, number>();
  /** Keys taken and not done, with the time they were taken. */
  readonly #processing = new Map<K, number>();
  /** Added while they were being processed. */
  readonly #again = new Set<K>();
  /** A binary heap by due time; an entry counts only while #dueTimes agrees with it. */
  readonly #delayed: Delayed<K>[] = [];
  readonly #dueTimes = new Map<K, number>();
  readonly #takers: ((key: K | undefined) => void)[] = [];
  readonly #idle: (() => void)[] = [];
  #timer: Timer | undefined;
  #timerDue = Number.POSITIVE_INFINITY;
  #shutDown = false;

  constructor(options: WorkQueueOptions<K>) {
    this.name = options.name;
    this.#clock = options.clock;
    this.#limiter = options.rateLimiter ?? defaultRateLimiter<K>(options.clock);
    this.#metrics = options.metrics ?? {};
  }

  /** Keys waiting to be taken, without the delayed ones. */
  get length(): number {
    return this.#queued.size;
  }

  /** Keys taken and not yet done. */
  get processing(): number {
    return this.#processing.size;
  }

  get isShutDown(): boolean {
    return this.#shutDown;
  }

  add(key: K): void {
    if (this.#shutDown || this.#queued.has(key)) return;
    if (this.#processing.has(key)) {
      if (this.#again.has(key)) return;
      this.#again.add(key);
      this.#metrics.added?.(this.name);
      return;
    }
    this.#metrics.added?.(this.name);
    this.#enqueue(key);
  }

  addAfter(key: K, delayMs: number): void {
    if (this.#shutDown) return;
    if (delayMs <= 0) {
      this.add(key);
      return;
    }
    const due = this.#clock.monotonic() + delayMs;
    const known = this.#dueTimes.get(key);
    if (known !== undefined && known <= due) return;
    this.#dueTimes.set(key, due);
    push(this.#delayed, { key, due });
    this.#arm();
  }

  addRateLimited(key: K): void {
    this.#metrics.retried?.(this.name);
    this.addAfter(key, this.#limiter.when(key));
  }

  forget(key: K): void {
    this.#limiter.forget(key);
  }

  /** How often the key failed since it was last forgotten. */
  failures(key: K): number {
    return this.#limiter.failures(key);
  }

  /** The next key, now or when one comes; undefined when the queue is shut down and drained. */
  take(): Promise<K | undefined> {
    const key = this.#dequeue();
    if (key !== undefined) return Promise.resolve(key);
    if (this.#shutDown) return Promise.resolve(undefined);
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  done(key: K): void {
    const taken = this.#processing.get(key);
    if (taken === undefined) throw new Error(`queue ${this.name}: done(${String(key)}) without take()`);
    this.#processing.delete(key);
    this.#metrics.workDuration?.(this.name, this.#clock.monotonic() - taken);
    if (this.#again.delete(key)) this.#enqueue(key);
    if (this.#processing.size === 0 && this.#queued.size === 0)
      for (const idle of this.#idle.splice(0)) idle();
  }

  /** Resolves when nothing is queued or being processed (delayed keys do not count). */
  idle(): Promise<void> {
    if (this.#processing.size === 0 && this.#queued.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Drops delayed keys and takes no new ones; what is queued may still be taken. */
  shutDown(): void {
    if (this.#shutDown) return;
    this.#shutDown = true;
    this.#timer?.cancel();
    this.#delayed.length = 0;
    this.#dueTimes.clear();
    this.#again.clear();
    if (this.#queued.size === 0) for (const taker of this.#takers.splice(0)) taker(undefined);
  }

  #enqueue(key: K): void {
    this.#queued.set(key, this.#clock.monotonic());
    this.#metrics.depth?.(this.name, this.#queued.size);
    const taker = this.#takers.shift();
    if (taker) taker(this.#dequeue());
  }

  #dequeue(): K | undefined {
    const first = this.#queued.entries().next();
    if (first.done) return undefined;
    const [key, queuedAt] = first.value;
    this.#queued.delete(key);
    const now = this.#clock.monotonic();
    this.#processing.set(key, now);
    this.#metrics.latency?.(this.name, now - queuedAt);
    this.#metrics.depth?.(this.name, this.#queued.size);
    return key;
  }

  #arm(): void {
    const first = this.#delayed[0];
    if (!first || (this.#timer && this.#timerDue <= first.due)) return;
    this.#timer?.cancel();
    this.#timerDue = first.due;
    this.#timer = this.#clock.setTimer(Math.max(0, first.due - this.#clock.monotonic()), () => this.#fire());
  }

  #fire(): void {
    this.#timer = undefined;
    this.#timerDue = Number.POSITIVE_INFINITY;
    const now = this.#clock.monotonic();
    for (let first = this.#delayed[0]; first && first.due <= now; first = this.#delayed[0]) {
      pop(this.#delayed);
      if (this.#dueTimes.get(first.key) !== first.due) continue;
      this.#dueTimes.delete(first.key);
      this.add(first.key);
    }
    this.#arm();
  }
}

function push<K>(heap: Delayed<K>[], entry: Delayed<K>): void {
  let at = heap.push(entry) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (heap[parent]!.due <= entry.due) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = entry;
}

function pop<K>(heap: Delayed<K>[]): void {
  const last = heap.pop();
  if (!last || heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1]!.due < heap[child]!.due) child++;
    if (heap[child]!.due >= last.due) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = last;
}
