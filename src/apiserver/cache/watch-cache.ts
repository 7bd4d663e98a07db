// The server's picture of the whole store: one ResourceCache for each stored resource, all fed by one watch on the
// store, so that one number (`revision`) says how fresh every one of them is. A request that must see the newest
// state waits until that number has reached the store's; with an engine in the same process that is hardly ever a
// wait at all. When the watch breaks, everything is loaded again and watchers are told to start anew.

import { resourceExpired } from '../../api/index.ts';
import type { Clock, Logger } from '../../component/index.ts';
import {
  CompactedError,
  type KeyValue,
  prefixEnd,
  type Store,
  type StoreEvent,
  type StoreEventBatch,
} from '../../store/store.ts';
import { defaultRingLimits, type EventRingLimits } from './event-ring.ts';
import { ResourceCache } from './resource-cache.ts';
import { type StorageForm, StoredObject } from './stored-object.ts';

export const REGISTRY_PREFIX = '/registry/';

export interface WatchCacheOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ring?: EventRingLimits;
  /** How many revisions before the start are read back, so that watchers from before a restart can go on. */
  readonly recallRevisions?: number;
}

interface Waiter {
  readonly revision: number;
  readonly resolve: (reached: boolean) => void;
}

/** Time between bookmarks, and how often the cache looks who is due one, in ms. */
const BOOKMARK_TICK_MS = 60_000;
const RELOAD_DELAY_MS = [50, 200, 1_000, 5_000];

export class WatchCache implements AsyncDisposable {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: EventRingLimits;
  readonly #recallRevisions: number;
  /** By key prefix: `/registry/pods/`, `/registry/apps/deployments/`. */
  readonly #resources = new Map<string, ResourceCache>();
  /** Resources that are being loaded, with the changes that came meanwhile. */
  readonly #loading = new Map<string, StoreEvent[]>();
  readonly #registering = new Map<string, Promise<ResourceCache>>();
  /** Parsed forms of bytes that this process is writing, until their change comes back. */
  readonly #announced = new Map<Uint8Array, object>();
  readonly #waiters = new Set<Waiter>();
  #revision = 0;
  #stopWatch: (() => void) | undefined;
  #cancelBookmarks: (() => void) | undefined;
  #healthy = false;
  #disposed = false;
  #reloading: Promise<void> | undefined;

  constructor(options: WatchCacheOptions) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#limits = options.ring ?? defaultRingLimits;
    this.#recallRevisions = options.recallRevisions ?? 10_000;
  }

  /** Every change up to and including this revision is in the cache. */
  get revision(): number {
    return this.#revision;
  }

  /** False before the first load and while the cache has lost touch with the store. */
  get healthy(): boolean {
    return this.#healthy;
  }

  resources(): Iterable<ResourceCache> {
    return this.#resources.values();
  }

  /** Loads all resources with one read of the store and begins to follow it. */
  async start(forms: Iterable<StorageForm>): Promise<void> {
    const all = [...forms];
    const { items, revision } = await this.#store.list(everything());
    this.#revision = revision;
    for (const form of all) this.#resources.set(form.keyPrefix, this.#newCache(form, revision));
    let cache: ResourceCache | undefined;
    for (const item of items) {
      if (cache === undefined || !item.key.startsWith(cache.form.keyPrefix)) cache = this.#owner(item.key);
      cache?.load(item.key, item.value, item.modRevision);
    }
    await this.#follow(revision, Math.max(this.#store.compactRevision, revision - this.#recallRevisions));
    this.#healthy = true;
    this.#scheduleBookmarks();
  }

  /** The cache of a resource, loading it first when it is a new one. */
  resource(form: StorageForm): ResourceCache | Promise<ResourceCache> {
    return this.#resources.get(form.keyPrefix) ?? this.#register(form);
  }

  /** The cache of a resource that is there already. */
  known(keyPrefix: string): ResourceCache | undefined {
    return this.#resources.get(keyPrefix);
  }

  /** Forgets a resource that is no longer served; its watchers end. */
  unregister(form: StorageForm): void {
    const cache = this.#resources.get(form.keyPrefix);
    this.#resources.delete(form.keyPrefix);
    cache?.closeWatchers();
  }

  /**
   * Undefined when the cache holds the state at `revision` already; otherwise resolves with true once it does, with
   * false when `timeoutMs` passed first.
   */
  waitFor(revision: number, timeoutMs = 3_000): Promise<boolean> | undefined {
    if (this.#revision >= revision && this.#healthy) return undefined;
    return new Promise((resolve) => {
      const waiter: Waiter = {
        revision,
        resolve: (reached) => {
          this.#waiters.delete(waiter);
          timer.cancel();
          resolve(reached);
        },
      };
      const timer = this.#clock.setTimer(timeoutMs, () => waiter.resolve(false), { unref: true });
      this.#waiters.add(waiter);
    });
  }

  /** Waits for all that the store had acknowledged when this was called. */
  waitForStore(): Promise<boolean> | undefined {
    return this.waitFor(this.#store.revision);
  }

  /**
   * Tells that `bytes` are about to be written and that `object`, which nobody will change any more, is what they
   * say; the cache then need not parse them. `withdraw` when the write is over.
   */
  announce(bytes: Uint8Array, object: object): void {
    this.#announced.set(bytes, object);
  }

  withdraw(bytes: Uint8Array): void {
    this.#announced.delete(bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#healthy = false;
    this.#cancelBookmarks?.();
    this.#stopWatch?.();
    for (const cache of this.#resources.values()) cache.closeWatchers();
    for (const waiter of [...this.#waiters]) waiter.resolve(false);
    await this.#reloading;
  }

  #newCache(form: StorageForm, revision: number): ResourceCache {
    return new ResourceCache(form, revision, this.#limits, (bytes) => {
      const object = this.#announced.get(bytes);
      if (object !== undefined) this.#announced.delete(bytes);
      return object;
    });
  }

  /** `/registry/pods/…` belongs to the core group, `/registry/apps/deployments/…` to apps. */
  #owner(key: string): ResourceCache | undefined {
    const first = key.indexOf('/', REGISTRY_PREFIX.length) + 1;
    return (
      this.#resources.get(key.slice(0, first)) ??
      this.#resources.get(key.slice(0, key.indexOf('/', first) + 1))
    );
  }

  async #register(form: StorageForm): Promise<ResourceCache> {
    const { keyPrefix } = form;
    let registering = this.#registering.get(keyPrefix);
    if (registering === undefined) {
      registering = this.#load(form).finally(() => this.#registering.delete(keyPrefix));
      this.#registering.set(keyPrefix, registering);
    }
    return registering;
  }

  async #load(form: StorageForm): Promise<ResourceCache> {
    const meanwhile: StoreEvent[] = [];
    this.#loading.set(form.keyPrefix, meanwhile);
    try {
      const { items, revision } = await this.#store.list({
        start: form.keyPrefix,
        end: prefixEnd(form.keyPrefix),
      });
      const cache = this.#newCache(form, revision);
      for (const item of items) cache.load(item.key, item.value, item.modRevision);
      const heard = this.#clock.monotonic();
      for (const event of meanwhile) if (event.kv.modRevision > revision) cache.apply(event, heard);
      this.#resources.set(form.keyPrefix, cache);
      return cache;
    } finally {
      this.#loading.delete(form.keyPrefix);
    }
  }

  /** Follows the store from `revision` on, reading back what happened since `recallAfter`. */
  async #follow(revision: number, recallAfter: number): Promise<void> {
    let past: Map<ResourceCache, StoreEvent[]> | undefined = new Map();
    if (recallAfter >= revision) past = undefined;
    const handler = {
      events: (batch: StoreEventBatch): void => {
        if (past === undefined) {
          this.#apply(batch);
          return;
        }
        const fresh = batch.events.filter((event) => event.kv.modRevision > revision);
        for (const event of batch.events) {
          const cache = event.kv.modRevision <= revision ? this.#owner(event.kv.key) : undefined;
          if (cache === undefined) continue;
          const events = past.get(cache);
          if (events === undefined) past.set(cache, [event]);
          else events.push(event);
        }
        if (batch.revision < revision) return;
        const heard = this.#clock.monotonic();
        for (const cache of this.#resources.values()) cache.recall(past.get(cache) ?? [], recallAfter, heard);
        past = undefined;
        this.#apply({ events: fresh, revision: batch.revision });
      },
      end: (error?: Error): void => this.#lost(error),
    };
    const range = everything();
    try {
      this.#stopWatch = await this.#store.watch(
        { range, startRevision: recallAfter + 1, progress: true },
        handler,
      );
    } catch (error) {
      // The past was compacted between the two calls: do without it.
      if (!(error instanceof CompactedError) || past === undefined) throw error;
      past = undefined;
      this.#stopWatch = await this.#store.watch(
        { range, startRevision: revision + 1, progress: true },
        handler,
      );
    }
  }

  #apply(batch: StoreEventBatch): void {
    const heard = this.#clock.monotonic();
    for (const event of batch.events) {
      const cache = this.#owner(event.kv.key);
      if (cache !== undefined) {
        cache.apply(event, heard);
        continue;
      }
      for (const [prefix, events] of this.#loading) if (event.kv.key.startsWith(prefix)) events.push(event);
    }
    if (batch.revision > this.#revision) this.#revision = batch.revision;
    this.#releaseWaiters();
  }

  #releaseWaiters(): void {
    if (this.#waiters.size === 0 || !this.#healthy) return;
    for (const waiter of [...this.#waiters]) if (waiter.revision <= this.#revision) waiter.resolve(true);
  }

  #lost(error: Error | undefined): void {
    if (this.#disposed) return;
    this.#healthy = false;
    this.#stopWatch = undefined;
    if (error === undefined) {
      this.#logger.warn({ component: 'watch-cache' }, 'the store ended the watch; the cache stands still');
      return;
    }
    this.#logger.error(
      { component: 'watch-cache', err: error },
      'lost touch with the store; loading everything again',
    );
    this.#reloading = this.#reload();
  }

  async #reload(): Promise<void> {
    for (let attempt = 0; !this.#disposed; attempt++) {
      const delay = RELOAD_DELAY_MS[Math.min(attempt, RELOAD_DELAY_MS.length - 1)]!;
      await new Promise<void>((resolve) => this.#clock.setTimer(delay, resolve, { unref: true }));
      if (this.#disposed) return;
      try {
        const { items, revision } = await this.#store.list(everything());
        const byCache = new Map<ResourceCache, KeyValue[]>();
        for (const cache of this.#resources.values()) byCache.set(cache, []);
        for (const item of items) {
          const cache = this.#owner(item.key);
          if (cache !== undefined) byCache.get(cache)?.push(item);
        }
        const heard = this.#clock.monotonic();
        const why = resourceExpired('the server has lost its watch on the store; list again');
        for (const [cache, found] of byCache) {
          const objects = found.map(
            (item) =>
              cache.getByKeyAt(item.key, item.modRevision) ??
              new StoredObject(cache.form, item.key, item.value, item.modRevision),
          );
          cache.reload(objects, revision, heard, why);
        }
        this.#revision = revision;
        await this.#follow(revision, revision);
        this.#healthy = true;
        this.#releaseWaiters();
        this.#logger.info({ component: 'watch-cache', revision }, 'in touch with the store again');
        return;
      } catch (error) {
        this.#logger.error({ component: 'watch-cache', err: error }, 'the store does not answer');
      }
    }
  }

  #scheduleBookmarks(): void {
    const timer = this.#clock.setTimer(
      BOOKMARK_TICK_MS,
      () => {
        for (const cache of this.#resources.values())
          for (const subscription of cache.subscriptions()) {
            subscription.closeIfLost();
            subscription.bookmark(this.#revision);
          }
        this.#scheduleBookmarks();
      },
      { unref: true },
    );
    this.#cancelBookmarks = () => timer.cancel();
  }
}

function everything(): { start: string; end: string } {
  return { start: REGISTRY_PREFIX, end: prefixEnd(REGISTRY_PREFIX) };
}
