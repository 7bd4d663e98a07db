// Typed access to the API, one resource at a time, over whatever transport it is given. It adds nothing to the wire
// but names: options become query parameters and DeleteOptions, drafts get their kind, and failures stay the
// StatusErrors that the transport throws. A client also owns the informers that share one cache per resource.

import {
  type ApiCall,
  type Draft,
  escapeFieldValue,
  groupVersion,
  type KubeList,
  type KubeObject,
  labelSelectorMatcher,
  type PatchType,
  type Transport,
  type WatchEvent,
} from '../api/index.ts';
import type { LabelSelector, Status } from '../api/types/meta-v1.ts';
import type { Clock, Logger } from '../component/index.ts';
import { silentLogger, systemClock } from '../component/index.ts';
import { Discovery } from './discovery.ts';
import { InformerFactory } from './informer-factory.ts';
import type { ResourceType } from './resources.ts';

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface WriteOptions extends CallOptions {
  /** Everything is done (admission, validation) but nothing is kept. */
  readonly dryRun?: boolean;
  /** Who manages the written fields; the client's own name when absent. */
  readonly fieldManager?: string;
  readonly fieldValidation?: 'Ignore' | 'Warn' | 'Strict';
}

export interface SelectorOptions {
  /** `app=web,tier in (a,b)`, exact labels, or a LabelSelector's `{matchLabels, matchExpressions}`. */
  readonly labelSelector?: string | { readonly matching: LabelSelector };
  /** `spec.nodeName=n1`, or fields with the values that they must have. */
  readonly fieldSelector?: string | Readonly<Record<string, string>>;
}

export interface GetOptions extends CallOptions {
  readonly resourceVersion?: string;
}

export interface ListOptions extends CallOptions, SelectorOptions {
  readonly resourceVersion?: string;
  readonly resourceVersionMatch?: 'Exact' | 'NotOlderThan';
  readonly limit?: number;
  readonly continue?: string;
  /** The metadata is enough: see {@link ApiCall.metadataOnly}. */
  readonly metadataOnly?: boolean;
}

export interface WatchOptions extends CallOptions, SelectorOptions {
  readonly resourceVersion?: string;
  readonly resourceVersionMatch?: 'NotOlderThan';
  readonly allowWatchBookmarks?: boolean;
  readonly sendInitialEvents?: boolean;
  readonly timeoutSeconds?: number;
  readonly metadataOnly?: boolean;
}

export type PropagationPolicy = 'Foreground' | 'Background' | 'Orphan';

export interface DeleteCallOptions extends CallOptions {
  readonly dryRun?: boolean;
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: PropagationPolicy;
  /** The delete is refused with 409 unless the object still has this uid and this version. */
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
}

export interface PatchCallOptions extends WriteOptions {
  readonly subresource?: string;
  /** Server-side apply only: take over fields that others manage. */
  readonly force?: boolean;
}

/** What a patch is, by its content type. */
export type Patch =
  | { readonly type: 'json'; readonly operations: readonly JsonPatchOperation[] }
  | { readonly type: 'merge'; readonly patch: unknown }
  | { readonly type: 'strategic'; readonly patch: unknown }
  | { readonly type: 'apply'; readonly configuration: unknown };

export type JsonPatchOperation =
  | { readonly op: 'add' | 'replace' | 'test'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string }
  | { readonly op: 'move' | 'copy'; readonly from: string; readonly path: string };

/**
 * All verbs of one resource, in one namespace or in all. Methods reject with a StatusError for whatever the server
 * refuses. Objects that come back are shared and frozen where the transport shares them: never change them in place.
 */
export interface ResourceClient<T extends KubeObject> {
  readonly type: ResourceType<T>;
  readonly namespace: string | undefined;
  get(name: string, options?: GetOptions): Promise<T>;
  list(options?: ListOptions): Promise<KubeList<T>>;
  /** Every object, page by page (`limit` objects a page, 500 unless told). */
  each(options?: Omit<ListOptions, 'continue'>): AsyncIterable<T>;
  watch(options?: WatchOptions): Promise<AsyncIterable<WatchEvent<T>>>;
  /** The namespace is the client's, or else the draft's. */
  create(draft: Draft<T>, options?: WriteOptions): Promise<T>;
  /** Replaces the object of that name; with a resourceVersion in it, only when it is still that version. */
  update(object: T | Draft<T>, options?: WriteOptions): Promise<T>;
  updateStatus(object: T | Draft<T>, options?: WriteOptions): Promise<T>;
  patch(name: string, patch: Patch, options?: PatchCallOptions): Promise<T>;
  /** Server-side apply. */
  apply(
    name: string,
    configuration: unknown,
    options: PatchCallOptions & { readonly fieldManager: string },
  ): Promise<T>;
  /** The object as it now is when it stays (finalizers, grace), otherwise a Status of Success or the deleted object. */
  delete(name: string, options?: DeleteCallOptions): Promise<T | Status>;
  deleteCollection(
    options?: DeleteCallOptions &
      SelectorOptions &
      Pick<ListOptions, 'resourceVersion' | 'limit' | 'continue'>,
  ): Promise<unknown>;
  /** `pods/log`-like and `scale`-like subresources; R is what the subresource answers. */
  getSubresource<R>(name: string, subresource: string, options?: GetOptions): Promise<R>;
  createSubresource<R>(name: string, subresource: string, body: unknown, options?: WriteOptions): Promise<R>;
  updateSubresource<R>(name: string, subresource: string, body: unknown, options?: WriteOptions): Promise<R>;
}

export interface Client extends AsyncDisposable {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly logger: Logger;
  /** No namespace: cluster-scoped resources, and list and watch over all namespaces. */
  resource<T extends KubeObject>(type: ResourceType<T>, namespace?: string): ResourceClient<T>;
  /** Caches that everybody with this client shares. */
  readonly informers: InformerFactory;
  /** What the server serves. */
  readonly discovery: Discovery;
}

export interface ClientOptions {
  readonly clock?: Clock;
  readonly logger?: Logger;
  /** Written into managedFields for every write that names no other. */
  readonly fieldManager?: string;
  /** Uniform in [0, 1): jitter of back-offs. */
  readonly random?: () => number;
}

export const patchTypes = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
} as const satisfies Record<Patch['type'], PatchType>;

/** Disposing the client stops its informers; the transport belongs to whoever made it. */
export function createClient(transport: Transport, options: ClientOptions = {}): Client {
  const clock = options.clock ?? systemClock;
  const logger = options.logger ?? silentLogger;
  const client: Client = {
    transport,
    clock,
    logger,
    resource: (type, namespace) => new TypedResourceClient(transport, type, namespace, options.fieldManager),
    informers: new InformerFactory({
      resource: (type, namespace) => client.resource(type, namespace),
      sharesObjects: transport.sharesObjects === true,
      clock,
      logger,
      random: options.random ?? Math.random,
    }),
    discovery: new Discovery(transport),
    [Symbol.asyncDispose]: () => client.informers[Symbol.asyncDispose](),
  };
  return client;
}

type Query = Record<string, string | readonly string[]>;

class TypedResourceClient<T extends KubeObject> implements ResourceClient<T> {
  readonly type: ResourceType<T>;
  readonly namespace: string | undefined;
  readonly #transport: Transport;
  readonly #fieldManager: string | undefined;

  constructor(
    transport: Transport,
    type: ResourceType<T>,
    namespace: string | undefined,
    fieldManager: string | undefined,
  ) {
    if (namespace !== undefined && !type.namespaced)
      throw new TypeError(
        `${type.resource} are cluster-scoped: ask for them without the namespace "${namespace}"`,
      );
    this.type = type;
    this.namespace = namespace;
    this.#transport = transport;
    this.#fieldManager = fieldManager;
  }

  get(name: string, options: GetOptions = {}): Promise<T> {
    return this.#named(
      'get',
      name,
      undefined,
      undefined,
      options,
      query({ resourceVersion: options.resourceVersion }),
    );
  }

  list(options: ListOptions = {}): Promise<KubeList<T>> {
    const { signal, metadataOnly } = options;
    return this.#transport.call({
      verb: 'list',
      resource: this.type,
      namespace: this.namespace,
      query: listQuery(options),
      signal,
      metadataOnly,
    }) as Promise<KubeList<T>>;
  }

  async *each(options: Omit<ListOptions, 'continue'> = {}): AsyncIterable<T> {
    let next: string | undefined;
    do {
      // The versions asked for hold for the first page; the token carries them on (the server refuses both together).
      const page: KubeList<T> = await this.list(
        next === undefined
          ? { limit: 500, ...options }
          : {
              limit: 500,
              ...options,
              resourceVersion: undefined,
              resourceVersionMatch: undefined,
              continue: next,
            },
      );
      yield* page.items;
      next = page.metadata.continue || undefined;
    } while (next !== undefined);
  }

  watch(options: WatchOptions = {}): Promise<AsyncIterable<WatchEvent<T>>> {
    const { signal, metadataOnly } = options;
    return this.#transport.watch({
      resource: this.type,
      namespace: this.namespace,
      query: query({
        ...selectors(options),
        resourceVersion: options.resourceVersion,
        resourceVersionMatch: options.resourceVersionMatch,
        allowWatchBookmarks: options.allowWatchBookmarks ? 'true' : undefined,
        sendInitialEvents:
          options.sendInitialEvents === undefined ? undefined : String(options.sendInitialEvents),
        timeoutSeconds: options.timeoutSeconds === undefined ? undefined : String(options.timeoutSeconds),
      }),
      signal,
      metadataOnly,
    }) as Promise<AsyncIterable<WatchEvent<T>>>;
  }

  async create(draft: Draft<T>, options: WriteOptions = {}): Promise<T> {
    return (await this.#transport.call({
      verb: 'create',
      resource: this.type,
      namespace: this.#namespaceFor(draft.metadata.namespace, 'create', draft.metadata.name ?? ''),
      body: this.#withKind(draft),
      query: this.#writeQuery(options),
      signal: options.signal,
    })) as T;
  }

  update(object: T | Draft<T>, options: WriteOptions = {}): Promise<T> {
    return this.#put(object, undefined, options);
  }

  updateStatus(object: T | Draft<T>, options: WriteOptions = {}): Promise<T> {
    return this.#put(object, 'status', options);
  }

  async patch(name: string, patch: Patch, options: PatchCallOptions = {}): Promise<T> {
    const body =
      patch.type === 'json' ? patch.operations : patch.type === 'apply' ? patch.configuration : patch.patch;
    return (await this.#transport.call({
      verb: 'patch',
      resource: this.type,
      namespace: this.#namespaceFor(undefined, 'patch', name),
      name: required(this.type, name),
      subresource: options.subresource,
      body,
      patchType: patchTypes[patch.type],
      query: { ...this.#writeQuery(options), ...query({ force: options.force ? 'true' : undefined }) },
      signal: options.signal,
    })) as T;
  }

  apply(
    name: string,
    configuration: unknown,
    options: PatchCallOptions & { readonly fieldManager: string },
  ): Promise<T> {
    return this.patch(name, { type: 'apply', configuration }, options);
  }

  delete(name: string, options: DeleteCallOptions = {}): Promise<T | Status> {
    return this.#named('delete', name, undefined, deleteOptions(options), options, {});
  }

  deleteCollection(
    options: DeleteCallOptions &
      SelectorOptions &
      Pick<ListOptions, 'resourceVersion' | 'limit' | 'continue'> = {},
  ): Promise<unknown> {
    return this.#transport.call({
      verb: 'deletecollection',
      resource: this.type,
      namespace: this.namespace,
      body: deleteOptions(options),
      query: listQuery(options),
      signal: options.signal,
    });
  }

  getSubresource<R>(name: string, subresource: string, options: GetOptions = {}): Promise<R> {
    const parameters = query({ resourceVersion: options.resourceVersion });
    return this.#named('get', name, subresource, undefined, options, parameters);
  }

  createSubresource<R>(
    name: string,
    subresource: string,
    body: unknown,
    options: WriteOptions = {},
  ): Promise<R> {
    return this.#named('create', name, subresource, body, options, this.#writeQuery(options));
  }

  updateSubresource<R>(
    name: string,
    subresource: string,
    body: unknown,
    options: WriteOptions = {},
  ): Promise<R> {
    return this.#named('update', name, subresource, body, options, this.#writeQuery(options));
  }

  async #named<R>(
    verb: ApiCall['verb'],
    name: string,
    subresource: string | undefined,
    body: unknown,
    options: CallOptions,
    parameters: Query,
  ): Promise<R> {
    return (await this.#transport.call({
      verb,
      resource: this.type,
      namespace: this.#namespaceFor(undefined, verb, name),
      name: required(this.type, name),
      subresource,
      body,
      query: parameters,
      signal: options.signal,
    })) as R;
  }

  async #put(object: T | Draft<T>, subresource: string | undefined, options: WriteOptions): Promise<T> {
    const name = required(this.type, object.metadata.name);
    return (await this.#transport.call({
      verb: 'update',
      resource: this.type,
      namespace: this.#namespaceFor(object.metadata.namespace, 'update', name),
      name,
      subresource,
      body: this.#withKind(object),
      query: this.#writeQuery(options),
      signal: options.signal,
    })) as T;
  }

  /** Items of lists and watches of built-in kinds may come without these two; custom resources are refused without. */
  #withKind(object: T | Draft<T>): unknown {
    if (object.kind !== undefined && object.apiVersion !== undefined) return object;
    return { ...object, apiVersion: groupVersion(this.type), kind: this.type.kind };
  }

  #namespaceFor(own: string | undefined, verb: string, name: string): string | undefined {
    if (!this.type.namespaced) return undefined;
    const namespace = this.namespace ?? own;
    if (!namespace)
      throw new TypeError(
        `${verb} of ${this.type.resource} "${name}" needs a namespace: client.resource(type, namespace)`,
      );
    return namespace;
  }

  #writeQuery(options: WriteOptions): Query {
    return query({
      dryRun: options.dryRun ? 'All' : undefined,
      fieldManager: options.fieldManager ?? this.#fieldManager,
      fieldValidation: options.fieldValidation,
    });
  }
}

function required(type: ResourceType, name: string | undefined): string {
  // An empty name would turn a call on one object into a call on the collection.
  if (!name) throw new TypeError(`a name is required for this call on ${type.resource}`);
  return name;
}

function query(parameters: Readonly<Record<string, string | undefined>>): Query {
  const result: Query = {};
  for (const [key, value] of Object.entries(parameters)) if (value !== undefined) result[key] = value;
  return result;
}

function selectors(options: SelectorOptions): Record<string, string | undefined> {
  const { labelSelector, fieldSelector } = options;
  return {
    labelSelector:
      typeof labelSelector === 'object'
        ? labelSelectorMatcher(labelSelector.matching).toString()
        : labelSelector,
    fieldSelector: typeof fieldSelector === 'object' ? formatFieldSelector(fieldSelector) : fieldSelector,
  };
}

function formatFieldSelector(fields: Readonly<Record<string, string>>): string {
  return Object.entries(fields)
    .map(([field, value]) => `${field}=${escapeFieldValue(value)}`)
    .join(',');
}

function listQuery(options: Omit<ListOptions, 'signal'>): Query {
  return query({
    ...selectors(options),
    resourceVersion: options.resourceVersion,
    resourceVersionMatch: options.resourceVersionMatch,
    limit: options.limit === undefined ? undefined : String(options.limit),
    continue: options.continue,
  });
}

function deleteOptions(options: DeleteCallOptions): unknown {
  const { gracePeriodSeconds, propagationPolicy, preconditions, dryRun } = options;
  return {
    apiVersion: 'v1',
    kind: 'DeleteOptions',
    ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
    ...(propagationPolicy === undefined ? {} : { propagationPolicy }),
    ...(preconditions === undefined ? {} : { preconditions }),
    ...(dryRun ? { dryRun: ['All'] } : {}),
  };
}
