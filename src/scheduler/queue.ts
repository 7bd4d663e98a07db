// Pods that wait for a node. Three places: active (to be tried now, by priority and age), back-off (failed lately,
// tried again when their time is up) and unschedulable (nothing that could help them has happened yet). A pod leaves
// the last one only when an event passes the queueing hint of a plugin that rejected it: nobody polls.

import type { Pod } from '../api/types/core-v1.ts';
import type { Clock, Timer } from '../component/index.ts';

export interface QueuedPod {
  pod: Pod;
  /** When the pod first came, ms; orders pods of one priority. */
  readonly since: number;
  /** Failed attempts since the last success of anything to schedule it; decides the back-off. */
  attempts: number;
  /** The plugins that rejected it last time; empty after an error. */
  rejectedBy: ReadonlySet<string>;
  /** Why PreEnqueue keeps it out, when it does. */
  gate?: string;
}

type Place =
  | { readonly in: 'active' }
  | { readonly in: 'backoff'; readonly timer: Timer }
  | { readonly in: 'unschedulable'; readonly failedAt: number }
  | { readonly in: 'gated' }
  | { readonly in: 'flight' };

export interface QueueOptions {
  readonly clock: Clock;
  /** Back-off after the first failure, and its ceiling (kube-scheduler: 1 s and 10 s). */
  readonly initialBackoffMs: number;
  readonly maxBackoffMs: number;
  /** Called when a pod became active in an idle queue. */
  readonly wake: () => void;
  /** The PreEnqueue plugins: a text keeps the pod gated. */
  readonly gate: (pod: Pod) => string | undefined;
}

const priorityOf = (entry: QueuedPod): number => entry.pod.spec.priority ?? 0;
const before = (a: QueuedPod, b: QueuedPod): boolean =>
  priorityOf(a) > priorityOf(b) || (priorityOf(a) === priorityOf(b) && a.since < b.since);

export class SchedulingQueue {
  readonly #options: QueueOptions;
  readonly #entries = new Map<string, { entry: QueuedPod; place: Place }>();
  readonly #active: QueuedPod[] = [];

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** How many pods are in each place, for metrics. */
  counts(): Record<Place['in'], number> {
    const counts = { active: 0, backoff: 0, unschedulable: 0, gated: 0, flight: 0 };
    for (const { place } of this.#entries.values()) counts[place.in]++;
    return counts;
  }

  has(uid: string): boolean {
    return this.#entries.has(uid);
  }

  /** The plugins that rejected the pod when it was last tried. */
  rejectedBy(uid: string): ReadonlySet<string> {
    return this.#entries.get(uid)?.entry.rejectedBy ?? new Set();
  }

  /** A pod that is to be scheduled was seen for the first time. */
  add(pod: Pod): void {
    if (this.#entries.has(pod.metadata.uid)) {
      this.update(pod, false);
      return;
    }
    const entry: QueuedPod = { pod, since: this.#options.clock.now(), attempts: 0, rejectedBy: new Set() };
    this.#enter(entry);
  }

  /** The pod changed in the API; `mayHelp` says whether the change could make it fit. */
  update(pod: Pod, mayHelp: boolean): void {
    const known = this.#entries.get(pod.metadata.uid);
    if (!known) {
      this.add(pod);
      return;
    }
    const priorityChanged = known.entry.pod.spec.priority !== pod.spec.priority;
    known.entry.pod = pod;
    switch (known.place.in) {
      case 'gated':
        this.#enter(known.entry);
        return;
      case 'unschedulable':
        if (mayHelp) this.#retry(known.entry, known.place.failedAt);
        return;
      case 'active':
        if (priorityChanged) {
          this.#removeActive(known.entry);
          this.#activate(known.entry);
        }
        return;
      case 'backoff':
      case 'flight':
        return;
    }
  }

  remove(uid: string): void {
    const known = this.#entries.get(uid);
    if (!known) return;
    if (known.place.in === 'backoff') known.place.timer.cancel();
    if (known.place.in === 'active') this.#removeActive(known.entry);
    this.#entries.delete(uid);
  }

  /** Takes the pod that is to be tried next. It stays known, in flight, until `done` or `failed`. */
  pop(): QueuedPod | undefined {
    const entry = heapPop(this.#active, before);
    if (entry) this.#entries.set(entry.pod.metadata.uid, { entry, place: { in: 'flight' } });
    return entry;
  }

  /** The pod has a node. */
  done(uid: string): void {
    this.remove(uid);
  }

  /** The attempt failed. With rejecting plugins the pod waits for an event, otherwise (an error) for its back-off. */
  failed(entry: QueuedPod, rejectedBy: ReadonlySet<string>): void {
    const known = this.#entries.get(entry.pod.metadata.uid);
    if (known?.entry !== entry || known.place.in !== 'flight') return; // deleted meanwhile
    entry.attempts++;
    entry.rejectedBy = rejectedBy;
    const now = this.#options.clock.now();
    if (rejectedBy.size > 0) {
      this.#entries.set(entry.pod.metadata.uid, { entry, place: { in: 'unschedulable', failedAt: now } });
    } else {
      this.#retry(entry, now);
    }
  }

  /** Something happened: pods for which `helps` is true are tried again, when their back-off is over. */
  wakeUnschedulable(helps: (entry: QueuedPod) => boolean): void {
    for (const { entry, place } of this.#entries.values()) {
      if (place.in === 'unschedulable' && helps(entry)) this.#retry(entry, place.failedAt);
    }
  }

  clear(): void {
    for (const uid of [...this.#entries.keys()]) this.remove(uid);
  }

  #enter(entry: QueuedPod): void {
    const gate = this.#options.gate(entry.pod);
    entry.gate = gate;
    if (gate === undefined) this.#activate(entry);
    else this.#entries.set(entry.pod.metadata.uid, { entry, place: { in: 'gated' } });
  }

  #activate(entry: QueuedPod): void {
    this.#entries.set(entry.pod.metadata.uid, { entry, place: { in: 'active' } });
    heapPush(this.#active, entry, before);
    this.#options.wake();
  }

  #retry(entry: QueuedPod, failedAt: number): void {
    const { clock, initialBackoffMs, maxBackoffMs } = this.#options;
    const backoff = Math.min(maxBackoffMs, initialBackoffMs * 2 ** Math.max(0, entry.attempts - 1));
    const left = failedAt + backoff - clock.now();
    if (left <= 0) {
      this.#activate(entry);
      return;
    }
    const timer = clock.setTimer(left, () => this.#activate(entry));
    this.#entries.set(entry.pod.metadata.uid, { entry, place: { in: 'backoff', timer } });
  }

  #removeActive(entry: QueuedPod): void {
    const at = this.#active.indexOf(entry);
    if (at < 0) return;
    this.#active.splice(at, 1);
    // Removal is rare (a pod deleted or re-prioritised while it waits); building the heap again is simplest.
    const rest = this.#active.splice(0);
    for (const other of rest) heapPush(this.#active, other, before);
  }
}

function heapPush<T>(heap: T[], value: T, less: (a: T, b: T) => boolean): void {
  let i = heap.push(value) - 1;
  while (i > 0) {
    const parent = (i - 1) >> 1;
    if (!less(heap[i]!, heap[parent]!)) return;
    [heap[i], heap[parent]] = [heap[parent]!, heap[i]!];
    i = parent;
  }
}

function heapPop<T>(heap: T[], less: (a: T, b: T) => boolean): T | undefined {
  const top = heap[0];
  const last = heap.pop();
  if (top === undefined || last === undefined || heap.length === 0) return top;
  heap[0] = last;
  for (let i = 0; ; ) {
    const left = 2 * i + 1;
    if (left >= heap.length) return top;
    const right = left + 1;
    const least = right < heap.length && less(heap[right]!, heap[left]!) ? right : left;
    if (!less(heap[least]!, heap[i]!)) return top;
    [heap[i], heap[least]] = [heap[least]!, heap[i]!];
    i = least;
  }
}
