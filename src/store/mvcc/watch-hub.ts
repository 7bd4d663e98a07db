// Delivers changes to watchers. Watchers of one range share a group: each change is looked up once for all of them
// and they get the same batch object. Nothing is buffered: a handler is called as soon as a change is durable, and
// how fast it can pass it on is its own business.

import {
  END_OF_KEYS,
  type KeyRange,
  type StoreEvent,
  type StoreEventBatch,
  type WatchHandler,
} from '../store.ts';
import { orderKey } from './key-order.ts';

/** One watch. Ends exactly once. */
export class Watcher {
  readonly progress: boolean;
  readonly #handler: WatchHandler;
  readonly #report: (error: unknown) => void;
  /** The first revision that was not delivered yet and is wanted. */
  #next: number;
  #ended = false;
  /** Run at the end: takes the watcher out of whatever holds it. */
  onEnd: (() => void) | undefined;

  /** `report` gets what the handler's own `end` throws: there is nobody else left to tell. */
  constructor(
    handler: WatchHandler,
    options: { readonly startRevision: number; readonly progress: boolean },
    report: (error: unknown) => void,
  ) {
    this.#handler = handler;
    this.#next = options.startRevision;
    this.progress = options.progress;
    this.#report = report;
  }

  /** Hands over what is new to this watcher; nothing when all of the batch is too old, or it has ended. */
  deliver(batch: StoreEventBatch): void {
    if (this.#ended || batch.revision < this.#next) return;
    let wanted = batch;
    if (batch.events.length > 0 && batch.events[0]!.kv.modRevision < this.#next) {
      const events = batch.events.filter(({ kv }) => kv.modRevision >= this.#next);
      if (events.length === 0 && !this.progress) return;
      wanted = { events, revision: batch.revision };
    }
    this.#next = batch.revision + 1;
    try {
      this.#handler.events(wanted);
    } catch (error) {
      this.end(error instanceof Error ? error : new Error('a watch handler threw', { cause: error }));
    }
  }

  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.onEnd?.();
    try {
      this.#handler.end(error);
    } catch (thrown) {
      this.#report(thrown);
    }
  }
}

/** The watchers of one range. */
interface Group {
  readonly start: string;
  /** Exclusive; undefined: no upper bound. */
  readonly end: string | undefined;
  readonly watchers: Set<Watcher>;
  /** Changes of the publication under way. */
  events: StoreEvent[];
}

export class WatchHub {
  /** Sorted by start, then end. */
  readonly #groups: Group[] = [];
  /** For each group, the greatest end of it and all groups before it: where a search to the left may stop. */
  #reach: (string | undefined)[] = [];
  readonly #progress = new Set<Watcher>();

  get size(): number {
    let size = 0;
    for (const group of this.#groups) size += group.watchers.size;
    return size;
  }

  add(range: KeyRange, watcher: Watcher): void {
    const { start, end } = bounds(range);
    let group = this.#groups.find((g) => g.start === start && g.end === end);
    if (group === undefined) {
      group = { start, end, watchers: new Set(), events: [] };
      const at = this.#groups.findIndex((g) => g.start > start);
      this.#groups.splice(at < 0 ? this.#groups.length : at, 0, group);
      this.#reckonReach();
    }
    const joined = group;
    joined.watchers.add(watcher);
    if (watcher.progress) this.#progress.add(watcher);
    watcher.onEnd = () => {
      joined.watchers.delete(watcher);
      this.#progress.delete(watcher);
      if (joined.watchers.size > 0) return;
      this.#groups.splice(this.#groups.indexOf(joined), 1);
      this.#reckonReach();
    };
  }

  /** Delivers changes of consecutive revisions, the last of which is `revision`. */
  publish(events: readonly StoreEvent[], revision: number): void {
    if (this.#groups.length === 0) return;
    const touched: Group[] = [];
    for (const event of events) this.#assign(event, touched);
    for (const group of touched) {
      const batch: StoreEventBatch = { events: group.events, revision };
      group.events = [];
      // A copy: a handler may stop watches and start new ones.
      for (const watcher of [...group.watchers]) watcher.deliver(batch);
    }
    if (this.#progress.size === 0) return;
    // Those that just got their events take nothing from this: it is not newer.
    const batch: StoreEventBatch = { events: [], revision };
    for (const watcher of [...this.#progress]) watcher.deliver(batch);
  }

  /** Ends every watch. */
  end(error?: Error): void {
    for (const group of [...this.#groups]) for (const watcher of [...group.watchers]) watcher.end(error);
  }

  #assign(event: StoreEvent, touched: Group[]): void {
    const groups = this.#groups;
    const order = orderKey(event.kv.key);
    let low = 0;
    let high = groups.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (groups[middle]!.start <= order) low = middle + 1;
      else high = middle;
    }
    for (let i = low - 1; i >= 0; i--) {
      const reach = this.#reach[i];
      if (reach !== undefined && reach <= order) return;
      const group = groups[i]!;
      if (group.end !== undefined && group.end <= order) continue;
      if (group.events.length === 0) touched.push(group);
      group.events.push(event);
    }
  }

  #reckonReach(): void {
    let reach: string | undefined = '';
    this.#reach = this.#groups.map(({ end }) => {
      if (reach !== undefined && (end === undefined || end > reach)) reach = end;
      return reach;
    });
  }
}

/** The events of a list that lie in a range. */
export function eventsInRange(range: KeyRange, events: readonly StoreEvent[]): readonly StoreEvent[] {
  const { start, end } = bounds(range);
  return events.filter(({ kv }) => {
    const order = orderKey(kv.key);
    return order >= start && (end === undefined || order < end);
  });
}

function bounds(range: KeyRange): { start: string; end: string | undefined } {
  const start = orderKey(range.start);
  // Nothing stands between a key and the same key with U+0000 behind it.
  if (range.end === undefined) return { start, end: `${start}\0` };
  return { start, end: range.end === END_OF_KEYS ? undefined : orderKey(range.end) };
}
