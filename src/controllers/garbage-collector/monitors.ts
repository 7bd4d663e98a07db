// Watches the metadata of everything that can be deleted. What there is to watch comes from discovery, and is looked
// up again when a CustomResourceDefinition or an APIService changes, and every five minutes for what tells nobody.

import {
  clusterScoped,
  type DiscoveredResource,
  type Informer,
  type MetadataObject,
  namespaced,
  type ResourceType,
  resources,
} from '../../client/index.ts';
import type { Clock, Logger, Timer } from '../../component/index.ts';
import { type ControllerContext, disposeAll } from '../context.ts';

/** Events own nothing and are owned by nothing, and there are many of them. */
const IGNORED = new Set(['/events', 'events.k8s.io/events']);
const RESYNC_MS = 5 * 60_000;
/** A new definition is served a moment after it is established; several changes come together. */
const SOON_MS = [50, 2000] as const;
/** As upstream: a resource whose watch does not come up must not hold up all the others. */
const SYNC_DEADLINE_MS = 30_000;

export interface MonitorListener {
  changed(type: ResourceType, object: MetadataObject): void;
  removed(object: MetadataObject): void;
}

export class Monitors implements AsyncDisposable {
  /** Resolves when all that was found at first is watched, or the deadline has passed. */
  readonly ready: Promise<void>;
  readonly #context: ControllerContext;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #listener: MonitorListener;
  readonly #monitors = new Map<string, Informer<MetadataObject>>();
  readonly #triggers: Informer<MetadataObject>[];
  readonly #stop = new AbortController();
  /** Every version of every kind, for ownerReferences: `group/version/kind` → resource. */
  #kinds = new Map<string, ResourceType>();
  #timers = new Set<Timer>();
  #syncing: Promise<void> | undefined;
  #syncAgain = false;

  constructor(context: ControllerContext, listener: MonitorListener) {
    this.#context = context;
    this.#clock = context.clock;
    this.#logger = context.logger.child({ controller: 'garbage-collector-controller' });
    this.#listener = listener;
    const { client } = context;
    this.#triggers = [
      client.informers.metadata(resources.customResourceDefinitions),
      client.informers.metadata(resources.apiServices),
    ];
    for (const trigger of this.#triggers)
      trigger.addHandler({
        added: (_, { initial }) => {
          if (!initial) this.#resyncSoon();
        },
        updated: () => this.#resyncSoon(),
        deleted: () => this.#resyncSoon(),
      });
    this.ready = this.#start();
    this.ready.catch(() => {});
  }

  /** The resource of a kind; undefined when the server does not serve it (as far as we know). */
  resourceOf(group: string, version: string, kind: string): ResourceType | undefined {
    return this.#kinds.get(`${group}/${version}/${kind}`);
  }

  /** Looks at discovery again now; resolves when the monitors follow it. */
  resync(): Promise<void> {
    if (this.#syncing) {
      this.#syncAgain = true;
      return this.#syncing;
    }
    this.#syncing = (async () => {
      do {
        this.#syncAgain = false;
        await this.#resyncOnce();
      } while (this.#syncAgain && !this.#stop.signal.aborted);
    })().finally(() => {
      this.#syncing = undefined;
    });
    return this.#syncing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the garbage collector was stopped'));
    for (const timer of this.#timers) timer.cancel();
    await this.#syncing?.catch(() => {});
    await disposeAll([...this.#triggers, ...this.#monitors.values()]);
  }

  async #start(): Promise<void> {
    await this.resync();
    this.#later(RESYNC_MS, () => this.#resyncRegularly());
    const deadline = Promise.withResolvers<void>();
    const timer = this.#clock.setTimer(SYNC_DEADLINE_MS, deadline.resolve, { unref: true });
    const all = [...this.#monitors.values(), ...this.#triggers];
    await Promise.race([Promise.allSettled(all.map((monitor) => monitor.synced)), deadline.promise]);
    timer.cancel();
    const late = all.filter((monitor) => !monitor.hasSynced).map((monitor) => monitor.type.resource);
    if (late.length > 0 && !this.#stop.signal.aborted)
      this.#logger.warn(
        { resources: late },
        'not all resources could be watched in time; collection begins anyway',
      );
  }

  #resyncRegularly(): void {
    this.#resyncLogged();
    this.#later(RESYNC_MS, () => this.#resyncRegularly());
  }

  #resyncSoon(): void {
    for (const delay of SOON_MS) this.#later(delay, () => this.#resyncLogged());
  }

  #resyncLogged(): void {
    this.resync().catch((error: unknown) => {
      if (!this.#stop.signal.aborted)
        this.#logger.warn({ err: error }, 'discovery failed; it is tried again later');
    });
  }

  #later(ms: number, callback: () => void): void {
    if (this.#stop.signal.aborted) return;
    const timer = this.#clock.setTimer(
      ms,
      () => {
        this.#timers.delete(timer);
        callback();
      },
      { unref: true },
    );
    this.#timers.add(timer);
  }

  async #resyncOnce(): Promise<void> {
    const { all, preferred, failed } = await this.#context.client.discovery.serverResources(
      this.#stop.signal,
    );
    const kinds = new Map<string, ResourceType>();
    for (const resource of all)
      kinds.set(`${resource.group}/${resource.version}/${resource.kind}`, typeOf(resource));
    const wanted = new Map<string, ResourceType>(
      preferred
        .filter((r) => ['list', 'watch', 'delete'].every((verb) => r.verbs.has(verb)))
        .map((r) => [`${r.group}/${r.resource}`, typeOf(r)] as const)
        .filter(([key]) => !IGNORED.has(key)),
    );
    // What could not be discovered this time keeps its monitors: that its server is down deletes nothing.
    const unknownGroups = new Set([...failed.keys()].map((gv) => gv.split('/')[0]));
    const replaced = new Map<string, readonly MetadataObject[]>();
    for (const [key, monitor] of this.#monitors) {
      const type = wanted.get(key);
      if (type?.version === monitor.type.version && type.kind === monitor.type.kind) continue;
      if (!type && unknownGroups.has(monitor.type.group)) continue;
      this.#monitors.delete(key);
      if (type) replaced.set(key, monitor.lister.list());
      await monitor[Symbol.asyncDispose]();
    }
    for (const [gvk, type] of this.#kinds)
      if (!kinds.has(gvk) && unknownGroups.has(type.group)) kinds.set(gvk, type);
    this.#kinds = kinds;
    if (this.#stop.signal.aborted) return;
    for (const [key, type] of wanted)
      if (!this.#monitors.has(key)) this.#watch(key, type, replaced.get(key) ?? []);
  }

  /** `before`: what a monitor of another version knew, of which some may go unseen between the two. */
  #watch(key: string, type: ResourceType, before: readonly MetadataObject[]): void {
    const monitor = this.#context.client.informers.metadata(type);
    this.#monitors.set(key, monitor);
    monitor.addHandler({
      added: (object) => this.#listener.changed(type, object),
      updated: (object) => this.#listener.changed(type, object),
      deleted: (object) => this.#listener.removed(object),
    });
    if (before.length === 0) return;
    monitor.synced.then(
      () => {
        const present = new Set(monitor.lister.list().map((object) => object.metadata.uid));
        for (const object of before) if (!present.has(object.metadata.uid)) this.#listener.removed(object);
      },
      () => {},
    );
  }
}

function typeOf(resource: DiscoveredResource): ResourceType<MetadataObject> {
  const make = resource.namespaced ? namespaced<MetadataObject> : clusterScoped<MetadataObject>;
  return make(resource.group, resource.version, resource.resource, resource.kind);
}
