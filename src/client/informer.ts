// An informer keeps a local copy of one resource (one selection of it) up to date and tells handlers what changed.
//
// Who may do what
// - The reflector is the only writer. Everybody may read through the lister and indexes at any time; before `synced`
//   resolves they hold nothing, and afterwards a state that the server once had, a little behind the newest.
// - Objects are shared between all readers and frozen. To change one, build a new one and send it to the server;
//   the cache changes only when the server's event comes back. Whoever acts on the cache must therefore expect not
//   to see its own last write yet (ReplicaSets keep expectations for this, others retry on Conflict).
// - Handlers are called synchronously on the event loop, one event at a time, in the order of the server's events
//   for any one object. They must be quick, must not await and should only put a key into a work queue. A handler
//   that throws is logged; the others and the cache are not affected.
//
// What a handler may assume
// - When it is called the cache already holds the new state: lister.get(key) gives the object that it was told of,
//   or a newer one after a relist.
// - added: first sight of this uid. `initial` is true while the handler catches up with what was there before.
//   A handler added late gets an `added` for every object in the cache before addHandler returns.
// - updated: both objects have the same uid and different resource versions. Intermediate versions may be missing.
// - deleted: the last state known. Usually the server's final state; with `finalStateUnknown` the deletion was
//   missed while the watch was down, and the object is the last one seen, possibly stale.
// - An object deleted and created anew under the same name, both unseen, comes as deleted (finalStateUnknown) and added.
// - After the informer was disposed no handler is called.

import type { KubeObject } from '../api/index.ts';
import type { Clock, Logger } from '../component/index.ts';
import { deepFreeze, type Index, type IndexFunction, keyOf, type Lister, ObjectCache } from './cache.ts';
import type { ResourceClient, SelectorOptions } from './client.ts';
import { Reflector } from './reflector.ts';
import type { ResourceType } from './resources.ts';

export interface EventHandler<T extends KubeObject> {
  added?(object: T, info: { readonly initial: boolean }): void;
  updated?(object: T, old: T): void;
  deleted?(object: T, info: { readonly finalStateUnknown: boolean }): void;
}

/** One caller's hold on a shared cache. Disposing it removes its handlers; the last hold stops the watch. */
export interface Informer<T extends KubeObject> extends AsyncDisposable {
  readonly type: ResourceType<T>;
  /** Resolves once the cache is filled and all handlers have been told; rejects when it is stopped before. */
  readonly synced: Promise<void>;
  readonly hasSynced: boolean;
  readonly lister: Lister<T>;
  /** The newest version that the cache is known to reflect; '' before it is synced. */
  readonly resourceVersion: string;
  /** Calls `handler` from now on, beginning with what is there. Disposing the answer ends that. */
  addHandler(handler: EventHandler<T>): Disposable;
  /** An index over the cache; the same function always gives the same index. */
  index(compute: IndexFunction<T>): Index<T>;
}

export interface SharedInformerOptions<T extends KubeObject> {
  readonly client: ResourceClient<T>;
  readonly selection: SelectorOptions & { readonly metadataOnly?: boolean };
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: () => number;
}

/** The cache and its reflector, held by one or more Informers. It runs from construction until stop(). */
export class SharedInformer<T extends KubeObject> {
  readonly type: ResourceType<T>;
  readonly cache = new ObjectCache<T>();
  readonly synced: Promise<void>;
  hasSynced = false;
  readonly #handlers = new Set<EventHandler<T>>();
  readonly #logger: Logger;
  readonly #reflector: Reflector<T>;
  readonly #settle: { resolve(): void; reject(error: Error): void };
  #stopped: Promise<void> | undefined;

  constructor(options: SharedInformerOptions<T>) {
    this.type = options.client.type;
    this.#logger = options.logger;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Whoever needs it awaits it; nobody awaiting it is no error either.
    promise.catch(() => {});
    this.synced = promise;
    this.#settle = { resolve, reject };
    this.#reflector = new Reflector({
      ...options,
      target: {
        replace: (items) => this.#replace(items),
        changed: (object) => this.#changed(object),
        removed: (object) => this.#removed(object),
      },
    });
  }

  get resourceVersion(): string {
    return this.#reflector.resourceVersion;
  }

  addHandler(handler: EventHandler<T>): Disposable {
    // Each registration is its own, also when two share a handler object.
    const own: EventHandler<T> = {
      added: (object, info) => handler.added?.(object, info),
      updated: (object, old) => handler.updated?.(object, old),
      deleted: (object, info) => handler.deleted?.(object, info),
    };
    for (const object of this.cache.list()) this.#tell(object, () => own.added?.(object, { initial: true }));
    this.#handlers.add(own);
    return {
      [Symbol.dispose]: () => {
        this.#handlers.delete(own);
      },
    };
  }

  stop(): Promise<void> {
    this.#stopped ??= (async () => {
      this.#handlers.clear();
      await this.#reflector[Symbol.asyncDispose]();
      this.#settle.reject(new Error(`the informer of ${this.type.resource} was stopped before it synced`));
      this.cache.clear();
    })();
    return this.#stopped;
  }

  #replace(items: readonly T[]): void {
    const initial = !this.hasSynced;
    const deleted: T[] = [];
    const added: T[] = [];
    const updated: [T, T][] = [];
    const present = new Set<string>();
    for (const item of items) {
      const key = keyOf(item);
      present.add(key);
      const object = deepFreeze(item);
      const old = this.cache.get(key);
      if (old && old.metadata.uid === object.metadata.uid) {
        if (old.metadata.resourceVersion === object.metadata.resourceVersion) continue;
        updated.push([object, old]);
      } else {
        if (old) deleted.push(old);
        added.push(object);
      }
      this.cache.set(key, object);
    }
    if (this.cache.size > present.size) {
      for (const key of [...this.cache.keys()]) {
        if (present.has(key)) continue;
        const old = this.cache.delete(key);
        if (old) deleted.push(old);
      }
    }
    for (const object of deleted)
      this.#tellAll(object, (handler) => handler.deleted?.(object, { finalStateUnknown: true }));
    for (const object of added) this.#tellAll(object, (handler) => handler.added?.(object, { initial }));
    for (const [object, old] of updated) this.#tellAll(object, (handler) => handler.updated?.(object, old));
    this.hasSynced = true;
    this.#settle.resolve();
  }

  #changed(item: T): void {
    const object = deepFreeze(item);
    const key = keyOf(object);
    const old = this.cache.get(key);
    if (old?.metadata.resourceVersion === object.metadata.resourceVersion) return;
    this.cache.set(key, object);
    if (old && old.metadata.uid === object.metadata.uid) {
      this.#tellAll(object, (handler) => handler.updated?.(object, old));
      return;
    }
    if (old) this.#tellAll(old, (handler) => handler.deleted?.(old, { finalStateUnknown: true }));
    this.#tellAll(object, (handler) => handler.added?.(object, { initial: false }));
  }

  #removed(item: T): void {
    const key = keyOf(item);
    if (!this.cache.delete(key)) return;
    const object = deepFreeze(item);
    this.#tellAll(object, (handler) => handler.deleted?.(object, { finalStateUnknown: false }));
  }

  #tellAll(object: T, call: (handler: EventHandler<T>) => void): void {
    for (const handler of this.#handlers) this.#tell(object, () => call(handler));
  }

  #tell(object: T, call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#logger.error(
        { err: error, resource: this.type.resource, key: keyOf(object) },
        'an event handler failed; the change that it was told of is lost to it',
      );
    }
  }
}
