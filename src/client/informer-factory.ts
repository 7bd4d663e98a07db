// One cache a resource and selection for everybody who shares a client: the first informer asked for starts it, the
// last one disposed stops it.

import type { KubeObject } from '../api/index.ts';
import type { PartialObjectMetadata } from '../api/types/meta-v1.ts';
import type { Clock, Logger } from '../component/index.ts';
import type { Index, IndexFunction, Lister } from './cache.ts';
import type { ResourceClient, SelectorOptions } from './client.ts';
import { type EventHandler, type Informer, SharedInformer } from './informer.ts';
import type { ResourceType } from './resources.ts';

export interface InformerOptions extends SelectorOptions {
  /** One namespace instead of all. */
  readonly namespace?: string;
}

/** An object of which only kind and metadata may be relied upon. */
export type MetadataObject = KubeObject & Pick<PartialObjectMetadata, 'kind' | 'apiVersion'>;

interface FactoryOptions {
  resource<T extends KubeObject>(type: ResourceType<T>, namespace?: string): ResourceClient<T>;
  readonly sharesObjects: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: () => number;
}

interface Shared {
  readonly informer: SharedInformer<KubeObject>;
  holders: number;
}

export class InformerFactory implements AsyncDisposable {
  readonly #options: FactoryOptions;
  readonly #shared = new Map<string, Shared>();
  readonly #stopping = new Set<Promise<void>>();
  #disposed = false;

  constructor(options: FactoryOptions) {
    this.#options = options;
  }

  /** A hold on the cache of this resource and selection, which begins to fill at once. */
  informer<T extends KubeObject>(type: ResourceType<T>, options: InformerOptions = {}): Informer<T> {
    return this.#acquire(type, options, false);
  }

  /**
   * The same for readers of metadata only. Where objects cost nothing to share it is the full cache; over HTTPS the
   * server is asked for metadata alone, in a cache of its own.
   */
  metadata(type: ResourceType, options: InformerOptions = {}): Informer<MetadataObject> {
    return this.#acquire(type, options, !this.#options.sharesObjects);
  }

  /** Stops all informers, whoever holds them. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    for (const { informer } of this.#shared.values()) this.#stop(informer);
    this.#shared.clear();
    await Promise.all(this.#stopping);
  }

  #acquire<T extends KubeObject>(
    type: ResourceType<T>,
    options: InformerOptions,
    metadataOnly: boolean,
  ): Informer<T> {
    if (this.#disposed) throw new Error(`no informer of ${type.resource}: the client was disposed`);
    const { namespace, ...selection } = options;
    const key = JSON.stringify([
      type.group,
      type.version,
      type.resource,
      namespace ?? null,
      selection.labelSelector ?? null,
      selection.fieldSelector ?? null,
      metadataOnly,
    ]);
    let shared = this.#shared.get(key);
    if (!shared) {
      const { clock, logger, random } = this.#options;
      const informer = new SharedInformer<T>({
        client: this.#options.resource(type, namespace),
        selection: metadataOnly ? { ...selection, metadataOnly } : selection,
        clock,
        logger,
        random,
      });
      // The key names the resource type, and the type names T: what comes out is what went in.
      shared = { informer: informer as unknown as SharedInformer<KubeObject>, holders: 0 };
      this.#shared.set(key, shared);
    }
    shared.holders++;
    const held = shared;
    return new Hold<T>(held.informer as unknown as SharedInformer<T>, async () => {
      if (--held.holders > 0 || this.#shared.get(key) !== held) return;
      this.#shared.delete(key);
      await this.#stop(held.informer);
    });
  }

  #stop(informer: SharedInformer<KubeObject>): Promise<void> {
    const stopping = informer.stop().finally(() => this.#stopping.delete(stopping));
    this.#stopping.add(stopping);
    return stopping;
  }
}

class Hold<T extends KubeObject> implements Informer<T> {
  readonly #shared: SharedInformer<T>;
  readonly #release: () => Promise<void>;
  readonly #registrations = new Set<Disposable>();
  #released: Promise<void> | undefined;

  constructor(shared: SharedInformer<T>, release: () => Promise<void>) {
    this.#shared = shared;
    this.#release = release;
  }

  get type(): ResourceType<T> {
    return this.#shared.type;
  }

  get synced(): Promise<void> {
    return this.#shared.synced;
  }

  get hasSynced(): boolean {
    return this.#shared.hasSynced;
  }

  get lister(): Lister<T> {
    return this.#shared.cache;
  }

  get resourceVersion(): string {
    return this.#shared.resourceVersion;
  }

  addHandler(handler: EventHandler<T>): Disposable {
    if (this.#released) throw new Error(`the informer of ${this.type.resource} was disposed`);
    const registration = this.#shared.addHandler(handler);
    this.#registrations.add(registration);
    return {
      [Symbol.dispose]: () => {
        this.#registrations.delete(registration);
        registration[Symbol.dispose]();
      },
    };
  }

  index(compute: IndexFunction<T>): Index<T> {
    return this.#shared.cache.index(compute);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#released ??= (async () => {
      for (const registration of this.#registrations) registration[Symbol.dispose]();
      this.#registrations.clear();
      await this.#release();
    })();
    return this.#released;
  }
}
