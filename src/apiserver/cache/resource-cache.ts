// All current objects of one resource, its recent past and its watchers. Fed by the WatchCache with every change in
// revision order; lists, watches and the server's own readers are answered from here.

import { internalError, type StatusError } from '../../api/index.ts';
import type { StoreEvent } from '../../store/store.ts';
import { Change, EventRing, type EventRingLimits } from './event-ring.ts';
import { type ObjectFilter, routeValue } from './filter.ts';
import { OrderedMap } from './ordered-map.ts';
import { type StorageForm, StoredObject, storageKey } from './stored-object.ts';
import { Subscription, type SubscriptionStart, type WatchSink } from './subscription.ts';

/** Hears of every change, synchronously; must not throw. */
export type ChangeListener = (change: Change) => void;

/** Finds the parsed form of bytes that this process has just written; see WatchCache.announce. */
export type ParsedForm = (bytes: Uint8Array) => object | undefined;

export class ResourceCache {
  readonly form: StorageForm;
  readonly #objects = new OrderedMap<StoredObject>();
  readonly #listeners = new Set<ChangeListener>();
  readonly #limits: EventRingLimits;
  readonly #parsedForm: ParsedForm;
  #ring: EventRing;
  /** The state was loaded at this revision; changes up to it are in that state already. */
  #loaded: number;
  /** The revision of the last change to this resource (or of the state that was loaded). */
  #lastChange: number;

  /** Lists of whole namespaces since the last change. */
  readonly #lists = new Map<string, WeakRef<readonly StoredObject[]>>();
  readonly #everywhere = new Set<Subscription>();
  readonly #byNamespace = new Map<string, Set<Subscription>>();
  /** field → value → the watchers that asked for exactly that. */
  readonly #byField = new Map<string, Map<string, Set<Subscription>>>();
  #watchers = 0;

  constructor(form: StorageForm, revision: number, limits: EventRingLimits, parsedForm: ParsedForm) {
    this.form = form;
    this.#limits = limits;
    this.#parsedForm = parsedForm;
    this.#ring = new EventRing(revision, limits);
    this.#loaded = revision;
    this.#lastChange = revision;
  }

  get size(): number {
    return this.#objects.size;
  }

  get watchers(): number {
    return this.#watchers;
  }

  /** The newest revision at which anything of this resource changed. */
  get lastChange(): number {
    return this.#lastChange;
  }

  /** Whether the state was loaded at this revision or before, so that `lastChange` speaks of it. */
  loadedBefore(revision: number): boolean {
    return this.#loaded <= revision;
  }

  get(namespace: string, name: string): StoredObject | undefined {
    return this.#objects.get(storageKey(this.form, namespace, name));
  }

  getByKey(key: string): StoredObject | undefined {
    return this.#objects.get(key);
  }

  /** The object under this key when it is still of this revision. */
  getByKeyAt(key: string, revision: number): StoredObject | undefined {
    const object = this.#objects.get(key);
    return object?.revision === revision ? object : undefined;
  }

  /** The range of keys that hold the objects of a namespace ('' for all). */
  range(namespace: string): { readonly start: string; readonly end: string } {
    const { keyPrefix } = this.form;
    const start = this.form.namespaced && namespace !== '' ? `${keyPrefix}${namespace}/` : keyPrefix;
    return { start, end: `${start.slice(0, -1)}0` };
  }

  /** Objects in key order from `start` on, until `visit` returns false. */
  scan(start: string, end: string, visit: (object: StoredObject) => boolean): void {
    this.#objects.scan(start, end, visit);
  }

  count(start: string, end: string): number {
    return this.#objects.count(start, end);
  }

  /**
   * All objects of a namespace ('' for all) in key order. The same array for all who ask before the next change, so
   * that they can share what they make of it.
   */
  all(namespace: string): readonly StoredObject[] {
    let objects = this.#lists.get(namespace)?.deref();
    if (objects === undefined) {
      const { start, end } = this.range(namespace);
      const found: StoredObject[] = [];
      this.#objects.scan(start, end, (object) => {
        found.push(object);
        return true;
      });
      objects = found;
      this.#lists.set(namespace, new WeakRef(objects));
    }
    return objects;
  }

  /** All matching objects in key order; a list of its own, so the cache may change while it is read. */
  snapshot(filter: ObjectFilter): StoredObject[] {
    if (filter.name !== undefined && (filter.namespace !== '' || !this.form.namespaced)) {
      const object = this.get(filter.namespace, filter.name);
      return object !== undefined && filter.matches(object) ? [object] : [];
    }
    const all = this.all(filter.namespace);
    return filter.open ? all.slice() : all.filter((object) => filter.matchesSelectors(object));
  }

  /** The revision after which every change is known. */
  get completeAfter(): number {
    return this.#ring.completeAfter;
  }

  /**
   * Begins a watch. Undefined when changes after `start.revision` are no longer known and no initial objects make up
   * for that. The sink is not called before the subscription's `resume`.
   */
  watch(filter: ObjectFilter, sink: WatchSink, start: SubscriptionStart): Subscription | undefined {
    const position = start.initial !== undefined ? this.#ring.next : this.#ring.after(start.revision);
    if (position === undefined) return undefined;
    const subscription = new Subscription(filter, sink, this.#ring, position, start, (s) => this.#forget(s));
    this.#waitingFor(filter).add(subscription);
    this.#watchers++;
    return subscription;
  }

  /** Replays what is there as ADDED, then every change; returns a stop function. */
  follow(listener: ChangeListener): () => void {
    for (const object of this.#objects.unordered()) listener(asAdded(object));
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Puts an object of the loaded state in its place; tells nobody. */
  load(key: string, bytes: Uint8Array, revision: number): void {
    this.#objects.set(key, new StoredObject(this.form, key, bytes, revision));
  }

  /**
   * Takes the changes between revision `after` and the loaded state, oldest first, so that watchers may start in the
   * past. To be called before the first `apply`.
   */
  recall(events: readonly StoreEvent[], after: number, heard: number): void {
    this.#ring.startAfter(after);
    for (const event of events) {
      const change = this.#past(event, heard);
      // A change whose past was compacted away cannot be told to a watcher with a selector: the past begins after it.
      if (change === undefined) this.#ring.startAfter(event.kv.modRevision);
      else this.#ring.push(change);
    }
  }

  /** The next change. */
  apply(event: StoreEvent, heard: number): void {
    const { kv } = event;
    if (kv.modRevision <= this.#loaded) return;
    const known = this.#objects.get(kv.key);
    let change: Change;
    if (event.type === 'put') {
      const current = new StoredObject(
        this.form,
        kv.key,
        kv.value,
        kv.modRevision,
        this.#parsedForm(kv.value),
      );
      this.#objects.set(kv.key, current);
      change = new Change(known === undefined ? 'ADDED' : 'MODIFIED', kv.modRevision, heard, current, known);
    } else {
      if (known === undefined) return;
      this.#objects.delete(kv.key);
      change = new Change('DELETED', kv.modRevision, heard, undefined, known);
    }
    this.#lastChange = kv.modRevision;
    this.#publish(change);
  }

  /**
   * Replaces everything by the state at `revision`, after the cache had lost touch with the store. Listeners hear
   * the difference; watchers are closed, for they may have missed changes in between.
   */
  reload(objects: Iterable<StoredObject>, revision: number, heard: number, why: StatusError): void {
    this.closeWatchers(why);
    this.#lists.clear();
    const before = new Map<string, StoredObject>();
    for (const object of this.#objects.unordered()) before.set(object.key, object);
    this.#objects.clear();
    this.#ring = new EventRing(revision, this.#limits);
    this.#loaded = revision;
    this.#lastChange = revision;
    const changes: Change[] = [];
    for (const object of objects) {
      const old = before.get(object.key);
      before.delete(object.key);
      this.#objects.set(object.key, object);
      if (old?.revision === object.revision) continue;
      changes.push(new Change(old === undefined ? 'ADDED' : 'MODIFIED', object.revision, heard, object, old));
    }
    for (const old of before.values()) changes.push(new Change('DELETED', revision, heard, undefined, old));
    for (const change of changes) for (const listener of this.#listeners) listener(change);
  }

  *subscriptions(): Iterable<Subscription> {
    yield* this.#everywhere;
    for (const set of this.#byNamespace.values()) yield* set;
    for (const values of this.#byField.values()) for (const set of values.values()) yield* set;
  }

  closeWatchers(why?: StatusError): void {
    for (const subscription of [...this.subscriptions()]) subscription.close(why);
  }

  #past(event: StoreEvent, heard: number): Change | undefined {
    const { kv, previous } = event;
    const before =
      previous === undefined
        ? undefined
        : new StoredObject(this.form, previous.key, previous.value, previous.modRevision);
    if (event.type === 'delete')
      return before && new Change('DELETED', kv.modRevision, heard, undefined, before);
    const created = kv.createRevision === kv.modRevision;
    if (!created && before === undefined) return undefined;
    const live = this.#objects.get(kv.key);
    const current =
      live?.revision === kv.modRevision
        ? live
        : new StoredObject(this.form, kv.key, kv.value, kv.modRevision);
    return new Change(created ? 'ADDED' : 'MODIFIED', kv.modRevision, heard, current, before);
  }

  #publish(change: Change): void {
    if (this.#lists.size > 0) this.#lists.clear();
    const position = this.#ring.push(change);
    for (const listener of this.#listeners) listener(change);
    if (this.#watchers === 0) return;
    this.#deliver(this.#everywhere, change, position);
    const { current, previous } = change;
    const object = (current ?? previous)!;
    if (this.#byNamespace.size > 0) this.#deliver(this.#byNamespace.get(object.namespace), change, position);
    for (const [field, watchers] of this.#byField) {
      let now: string | undefined;
      let before: string | undefined;
      try {
        if (current !== undefined) now = routeValue(current, field);
        if (previous !== undefined) before = routeValue(previous, field);
      } catch (error) {
        // An object that cannot be read may concern any of them.
        for (const set of watchers.values()) for (const s of set) s.close(internalError(error));
        continue;
      }
      if (now !== undefined) this.#deliver(watchers.get(now), change, position);
      if (before !== undefined && before !== now) this.#deliver(watchers.get(before), change, position);
    }
    // All who keep up have it; those who come later pay for their own encoding instead of us for the memory.
    change.encoded.clear();
  }

  #deliver(watchers: Set<Subscription> | undefined, change: Change, position: number): void {
    if (watchers === undefined) return;
    for (const subscription of watchers) subscription.deliver(change, position);
  }

  #waitingFor({ route }: ObjectFilter): Set<Subscription> {
    switch (route.type) {
      case 'all':
        return this.#everywhere;
      case 'namespace':
        return setIn(this.#byNamespace, route.namespace);
      case 'field': {
        let values = this.#byField.get(route.field);
        if (values === undefined) {
          values = new Map();
          this.#byField.set(route.field, values);
        }
        return setIn(values, route.value);
      }
    }
  }

  #forget(subscription: Subscription): void {
    const { route } = subscription.filter;
    const waiting = this.#waitingFor(subscription.filter);
    if (!waiting.delete(subscription)) return;
    this.#watchers--;
    if (waiting.size > 0) return;
    if (route.type === 'namespace') this.#byNamespace.delete(route.namespace);
    if (route.type === 'field') {
      const values = this.#byField.get(route.field)!;
      values.delete(route.value);
      if (values.size === 0) this.#byField.delete(route.field);
    }
  }
}

function asAdded(object: StoredObject): Change {
  return new Change('ADDED', object.revision, 0, object, undefined);
}

function setIn<K>(map: Map<K, Set<Subscription>>, key: K): Set<Subscription> {
  let set = map.get(key);
  if (set === undefined) {
    set = new Set();
    map.set(key, set);
  }
  return set;
}
