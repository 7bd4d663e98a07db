// An API in memory for unit tests of clients and controllers: list, watch, resource versions, conflicts, finalizers,
// graceful deletion of pods, dry run, and faults on demand. It neither validates nor defaults: what the server does
// beside keeping objects is tested with the server. Objects are frozen and shared, as in the in-process transport.

import {
  type ApiCall,
  alreadyExists,
  conflict,
  fieldValue,
  invalid,
  type KubeList,
  type KubeObject,
  methodNotSupported,
  notFound,
  OPTIMISTIC_LOCK,
  parseFieldSelector,
  parseLabelSelector,
  resourceExpired,
  type Transport,
  timestamp,
  type WatchCall,
  type WatchEvent,
} from '../../api/index.ts';
import type { DeleteOptions, ObjectMeta } from '../../api/types/meta-v1.ts';
import { type Clock, systemClock } from '../../component/index.ts';
import { deepFreeze, makeKey } from '../cache.ts';
import { type ResourceType, resources } from '../resources.ts';

type Body = KubeObject & {
  readonly spec?: Record<string, unknown>;
  readonly status?: Record<string, unknown>;
};
type Query = Readonly<Record<string, string | readonly string[]>>;

interface Change {
  readonly version: number;
  readonly resource: string;
  readonly object: Body | undefined;
  readonly old: Body | undefined;
}

export interface FakeApiOptions {
  readonly clock?: Clock;
  /** Watches with sendInitialEvents are refused, as by a server that does not know them. */
  readonly refuseStreamingLists?: boolean;
  readonly sharesObjects?: boolean;
  /** What discovery lists beside the well-known resources. */
  readonly extraResources?: readonly ResourceType[];
}

/** What a test may hook into: called before each call; throwing fails it, a value answers it. */
export type Interceptor = (call: ApiCall | (WatchCall & { readonly verb: 'watch' })) => unknown;

export class FakeApi implements Transport {
  readonly sharesObjects: boolean;
  /** Every call in order, as `verb resource[/subresource] [namespace/]name`. */
  readonly calls: string[] = [];
  /** Set to fail or answer calls; may return a promise to delay them. */
  intercept: Interceptor | undefined;
  readonly #clock: Clock;
  readonly #refuseStreaming: boolean;
  readonly #served: ResourceType[];
  readonly #objects = new Map<string, Map<string, Body>>();
  readonly #history: Change[] = [];
  readonly #watches = new Set<Watch>();
  #version = 100;
  #compacted = 0;
  #sequence = 0;

  constructor(options: FakeApiOptions = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#refuseStreaming = options.refuseStreamingLists === true;
    this.sharesObjects = options.sharesObjects ?? true;
    this.#served = [...Object.values(resources), ...(options.extraResources ?? [])];
  }

  get openWatches(): number {
    return this.#watches.size;
  }

  /** Adds or takes away what discovery lists. */
  serve(type: ResourceType): void {
    this.#served.push(type);
  }

  /** Ends all watches, as a server does that restarts. */
  dropWatches(error?: unknown): void {
    for (const watch of [...this.#watches]) watch.end(error);
  }

  /** Forgets history: watches from an older version get 410. */
  compact(): void {
    this.#compacted = this.#version;
    this.#history.length = 0;
  }

  async call(call: ApiCall): Promise<unknown> {
    call.signal?.throwIfAborted();
    const path = `${call.resource.resource}${call.subresource ? `/${call.subresource}` : ''}`;
    this.calls.push(`${call.verb} ${path} ${makeKey(call.namespace, call.name ?? '')}`.trim());
    const answer = await this.intercept?.(call);
    call.signal?.throwIfAborted();
    if (answer !== undefined) return answer;
    switch (call.verb) {
      case 'get':
        return this.#need(call);
      case 'list':
        return this.#list(call);
      case 'create':
        return this.#create(call);
      case 'update':
        return this.#update(call, this.#need(call), call.body as Body);
      case 'patch':
        return this.#patch(call);
      case 'delete':
        return this.#delete(call, this.#need(call));
      case 'deletecollection': {
        const list = this.#list(call);
        for (const item of list.items)
          this.#delete(
            { ...call, namespace: item.metadata.namespace, name: item.metadata.name },
            item as Body,
          );
        return list;
      }
    }
  }

  async watch(call: WatchCall): Promise<AsyncIterable<WatchEvent>> {
    call.signal?.throwIfAborted();
    this.calls.push(`watch ${call.resource.resource} ${call.namespace ?? ''}`.trim());
    const answer = await this.intercept?.({ ...call, verb: 'watch' });
    call.signal?.throwIfAborted();
    if (answer !== undefined) return answer as AsyncIterable<WatchEvent>;
    const query = call.query ?? {};
    const streaming = query['sendInitialEvents'] === 'true';
    if (streaming && this.#refuseStreaming)
      throw invalid({ group: 'meta.k8s.io', name: 'ListOptions' }, '', [
        {
          type: 'FieldValueForbidden',
          field: 'sendInitialEvents',
          detail: 'sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled',
        },
      ]);
    const resource = resourceKey(call.resource);
    const watch = new Watch(resource, call.namespace, selection(query), () => this.#watches.delete(watch));
    const from = Number(query['resourceVersion'] || 0);
    if (streaming || from === 0) {
      for (const object of this.#table(resource).values()) watch.send(undefined, object, object);
      if (streaming && query['allowWatchBookmarks'] === 'true')
        watch.push({
          type: 'BOOKMARK',
          object: {
            metadata: {
              resourceVersion: String(this.#version),
              annotations: { 'k8s.io/initial-events-end': 'true' },
            } as unknown as ObjectMeta,
          },
        });
    } else {
      if (from < this.#compacted)
        throw resourceExpired(`too old resource version: ${from} (${this.#compacted})`);
      for (const change of this.#history)
        if (change.version > from && change.resource === resource)
          watch.send(change.old, change.object, change.object ?? change.old);
    }
    this.#watches.add(watch);
    call.signal?.addEventListener('abort', () => watch.end(), { once: true });
    return watch;
  }

  async raw(request: { readonly method: string; readonly path: string }): ReturnType<Transport['raw']> {
    const core = request.path === '/api';
    if (request.method !== 'GET' || (!core && request.path !== '/apis'))
      return { status: 404, headers: {}, body: new Uint8Array() };
    const groups = new Map<string, Map<string, ResourceType[]>>();
    for (const type of this.#served) {
      if ((type.group === '') !== core) continue;
      const versions = groups.get(type.group) ?? new Map<string, ResourceType[]>();
      groups.set(type.group, versions);
      versions.set(type.version, [...(versions.get(type.version) ?? []), type]);
    }
    const document = {
      kind: 'APIGroupDiscoveryList',
      apiVersion: 'apidiscovery.k8s.io/v2',
      items: [...groups].map(([name, versions]) => ({
        metadata: { name },
        versions: [...versions].map(([version, types]) => ({
          version,
          freshness: 'Current',
          resources: types.map((type) => ({
            resource: type.resource,
            responseKind: { group: type.group, version, kind: type.kind },
            scope: type.namespaced ? 'Namespaced' : 'Cluster',
            verbs:
              /reviews$|^bindings$/.test(type.resource) === true
                ? ['create']
                : ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'],
            subresources: [],
          })),
        })),
      })),
    };
    return { status: 200, headers: {}, body: new TextEncoder().encode(JSON.stringify(document)) };
  }

  #table(resource: string): Map<string, Body> {
    let table = this.#objects.get(resource);
    if (!table) {
      table = new Map();
      this.#objects.set(resource, table);
    }
    return table;
  }

  #need(call: ApiCall): Body {
    const name = call.name ?? '';
    const found = this.#table(resourceKey(call.resource)).get(makeKey(call.namespace, name));
    if (!found) throw notFound({ group: call.resource.group, name: call.resource.resource }, name);
    return found;
  }

  #list(call: ApiCall): KubeList {
    const matches = selection(call.query ?? {});
    const items = [...this.#table(resourceKey(call.resource)).values()].filter(
      (object) =>
        (call.namespace === undefined || object.metadata.namespace === call.namespace) && matches(object),
    );
    const limit = Number(call.query?.['limit'] ?? 0);
    const start = Number(call.query?.['continue'] ?? 0);
    const end = limit > 0 ? Math.min(items.length, start + limit) : items.length;
    return {
      metadata: {
        resourceVersion: String(this.#version),
        ...(end < items.length ? { continue: String(end) } : {}),
      },
      items: items.slice(start, end),
    };
  }

  #create(call: ApiCall): unknown {
    if (call.subresource === 'eviction') return this.#delete(call, this.#need(call));
    if (call.subresource === 'binding') return this.#bind(call, this.#need(call));
    if (call.subresource)
      throw methodNotSupported(
        { group: call.resource.group, name: call.resource.resource },
        `create of ${call.subresource}`,
      );
    const draft = structuredClone(call.body) as Body & { metadata: ObjectMeta };
    const generated = draft.metadata.generateName;
    const name =
      draft.metadata.name ||
      (generated ? `${generated}${(++this.#sequence).toString(36).padStart(5, 'x')}` : '');
    const key = makeKey(call.namespace, name);
    const table = this.#table(resourceKey(call.resource));
    if (table.has(key))
      throw alreadyExists({ group: call.resource.group, name: call.resource.resource }, name);
    const object: Body = {
      ...draft,
      ...(call.resource.group === '' ? beginnings[call.resource.resource] : undefined),
      metadata: {
        ...draft.metadata,
        name,
        ...(call.namespace === undefined ? {} : { namespace: call.namespace }),
        uid: `uid-${++this.#sequence}`,
        generation: 1,
        creationTimestamp: timestamp(this.#clock.now()),
      },
    };
    return this.#put(call, undefined, object);
  }

  #bind(call: ApiCall, pod: Body): unknown {
    const { metadata, target } = call.body as { metadata: ObjectMeta; target: { name: string } };
    const { name, uid } = pod.metadata;
    if (pod.spec?.['nodeName'] || (metadata.uid && metadata.uid !== uid))
      throw conflict({ group: '', name: 'pods' }, name, `pod ${name} is already assigned or another one`);
    const conditions = [{ type: 'PodScheduled', status: 'True' }];
    this.#put({ ...call, subresource: undefined }, pod, {
      ...pod,
      spec: { ...pod.spec, nodeName: target.name },
      status: { ...pod.status, conditions },
    });
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' };
  }

  #update(call: ApiCall, old: Body, body: Body): Body {
    const { resource, name } = { resource: call.resource, name: call.name ?? '' };
    const sent = structuredClone(body);
    const expected = sent.metadata.resourceVersion;
    if (
      (expected && expected !== old.metadata.resourceVersion) ||
      (sent.metadata.uid && sent.metadata.uid !== old.metadata.uid)
    )
      throw conflict({ group: resource.group, name: resource.resource }, name, OPTIMISTIC_LOCK);
    if (call.subresource === 'status')
      return this.#put(call, old, {
        ...old,
        status: sent.status ?? {},
        // As upstream, most kinds take labels and annotations along with their status.
        metadata: { ...old.metadata, labels: sent.metadata.labels, annotations: sent.metadata.annotations },
      });
    if (call.subresource === 'finalize')
      return this.#put(call, old, { ...old, spec: sent.spec ?? {}, metadata: { ...old.metadata } });
    const changed = JSON.stringify(contentOf(sent)) !== JSON.stringify(contentOf(old));
    return this.#put(call, old, {
      ...sent,
      ...(old.status === undefined ? {} : { status: old.status }),
      metadata: {
        ...sent.metadata,
        uid: old.metadata.uid,
        name: old.metadata.name,
        creationTimestamp: old.metadata.creationTimestamp,
        deletionTimestamp: old.metadata.deletionTimestamp,
        deletionGracePeriodSeconds: old.metadata.deletionGracePeriodSeconds,
        generation: (old.metadata.generation ?? 0) + (changed ? 1 : 0),
      },
    });
  }

  #patch(call: ApiCall): Body {
    const old = this.#need(call);
    if (call.patchType === 'application/json-patch+json' || call.patchType === 'application/apply-patch+yaml')
      throw methodNotSupported(
        { group: call.resource.group, name: call.resource.resource },
        `patch of type ${call.patchType}`,
      );
    const strategic = call.patchType === 'application/strategic-merge-patch+json';
    const patched = merge(old, structuredClone(call.body), strategic, '') as Body;
    return this.#update(call, old, patched);
  }

  #delete(call: ApiCall, old: Body): unknown {
    const options = (call.body ?? {}) as DeleteOptions;
    const { uid, resourceVersion } = options.preconditions ?? {};
    const group = { group: call.resource.group, name: call.resource.resource };
    if (uid !== undefined && uid !== old.metadata.uid)
      throw conflict(
        group,
        old.metadata.name,
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${old.metadata.uid}`,
      );
    if (resourceVersion !== undefined && resourceVersion !== old.metadata.resourceVersion)
      throw conflict(group, old.metadata.name, OPTIMISTIC_LOCK);
    const finalizers = new Set(old.metadata.finalizers);
    if (options.propagationPolicy === 'Foreground') finalizers.add('foregroundDeletion').delete('orphan');
    if (options.propagationPolicy === 'Orphan') finalizers.add('orphan').delete('foregroundDeletion');
    const isPod = call.resource.group === '' && call.resource.resource === 'pods';
    const assigned = Boolean(old.spec?.['nodeName']);
    const ended = ['Succeeded', 'Failed'].includes(String(old.status?.['phase']));
    const wanted = options.gracePeriodSeconds ?? Number(old.spec?.['terminationGracePeriodSeconds'] ?? 30);
    const grace = isPod && assigned && !ended ? wanted : 0;
    const isNamespace = call.resource.group === '' && call.resource.resource === 'namespaces';
    if (
      finalizers.size === 0 &&
      grace === 0 &&
      !(isNamespace && (old.spec?.['finalizers'] as string[])?.length)
    )
      return this.#put(call, old, undefined);
    return this.#put(call, old, {
      ...old,
      ...(isNamespace ? { status: { ...old.status, phase: 'Terminating' } } : {}),
      metadata: {
        ...old.metadata,
        ...(finalizers.size > 0 ? { finalizers: [...finalizers] } : {}),
        deletionTimestamp: old.metadata.deletionTimestamp ?? timestamp(this.#clock.now() + grace * 1000),
        deletionGracePeriodSeconds: grace,
      },
    });
  }

  /** Stores the new state (or none), removing an object that is being deleted and that nothing holds any more. */
  #put(call: ApiCall, old: Body | undefined, next: Body | undefined): Body {
    if (call.query?.['dryRun'] !== undefined) return deepFreeze(next ?? old!);
    const resource = resourceKey(call.resource);
    const { metadata } = next ?? old!;
    const { deletionTimestamp, finalizers = [], deletionGracePeriodSeconds = 0 } = metadata;
    const spec = (next ?? old)?.spec;
    const held = finalizers.length > 0 || deletionGracePeriodSeconds > 0 || hasItems(spec?.['finalizers']);
    const gone = next === undefined || (deletionTimestamp !== undefined && !held);
    if (old && next && !gone && JSON.stringify(old) === JSON.stringify(next)) return old;
    this.#version++;
    const object = deepFreeze({
      ...(next ?? old!),
      metadata: { ...metadata, resourceVersion: String(this.#version) },
    });
    const key = makeKey(metadata.namespace, metadata.name);
    if (gone) this.#table(resource).delete(key);
    else this.#table(resource).set(key, object);
    this.#history.push({
      version: this.#version,
      resource,
      object: gone ? undefined : object,
      old: gone ? object : old,
    });
    for (const watch of this.#watches)
      if (watch.resource === resource) watch.send(gone ? object : old, gone ? undefined : object, object);
    return object;
  }
}

class Watch implements AsyncIterable<WatchEvent> {
  readonly resource: string;
  readonly #namespace: string | undefined;
  readonly #matches: (object: KubeObject) => boolean;
  readonly #onEnd: () => void;
  #events: WatchEvent[] = [];
  #wake: (() => void) | undefined;
  #ended = false;
  #error: unknown;

  constructor(
    resource: string,
    namespace: string | undefined,
    matches: (object: KubeObject) => boolean,
    onEnd: () => void,
  ) {
    this.resource = resource;
    this.#namespace = namespace;
    this.#matches = matches;
    this.#onEnd = onEnd;
  }

  send(old: Body | undefined, next: Body | undefined, object: Body | undefined): void {
    const wanted = (o: Body | undefined): o is Body =>
      o !== undefined &&
      (this.#namespace === undefined || o.metadata.namespace === this.#namespace) &&
      this.#matches(o);
    const before = wanted(old);
    const after = wanted(next);
    if (!object || (!before && !after)) return;
    this.push({ type: after ? (before ? 'MODIFIED' : 'ADDED') : 'DELETED', object });
  }

  push(event: WatchEvent): void {
    this.#events.push(event);
    this.#wake?.();
  }

  end(error?: unknown): void {
    this.#ended = true;
    this.#error = error;
    this.#onEnd();
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<WatchEvent> {
    for (;;) {
      const events = this.#events;
      this.#events = [];
      yield* events;
      if (this.#events.length > 0) continue;
      if (this.#ended) {
        if (this.#error !== undefined) throw this.#error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}

function resourceKey(resource: { readonly group: string; readonly resource: string }): string {
  return `${resource.group}/${resource.resource}`;
}

/** What the server makes of a new object of these kinds, whatever the client sent. */
const beginnings: Readonly<Record<string, object>> = {
  namespaces: { spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } },
  persistentvolumeclaims: { status: { phase: 'Pending' } },
  persistentvolumes: { status: { phase: 'Pending' } },
};

/** What counts in metadata.generation. */
function contentOf({ metadata: _, status: _status, ...content }: Body): unknown {
  return content;
}

function hasItems(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0;
}

function selection(query: Query): (object: KubeObject) => boolean {
  const labels = query['labelSelector'] ? parseLabelSelector(String(query['labelSelector'])) : undefined;
  const fields = query['fieldSelector'] ? parseFieldSelector(String(query['fieldSelector'])) : undefined;
  return (object) =>
    (labels === undefined || labels.matches(object.metadata.labels)) &&
    (fields === undefined || fields.matches((field) => fieldValue(object, field)));
}

/** Lists that strategic merge patch merges by key, as far as controllers patch them. */
const mergeKeys: Readonly<Record<string, string>> = { ownerReferences: 'uid', conditions: 'type' };

function merge(old: unknown, patch: unknown, strategic: boolean, field: string): unknown {
  if (strategic && Array.isArray(patch)) {
    const key = mergeKeys[field];
    if (key === undefined) return patch;
    const items = new Map(((old ?? []) as Record<string, unknown>[]).map((item) => [item[key], item]));
    for (const { $patch, ...item } of patch as Record<string, unknown>[]) {
      if ($patch === 'delete') items.delete(item[key]);
      else items.set(item[key], merge(items.get(item[key]), item, true, '') as Record<string, unknown>);
    }
    return [...items.values()];
  }
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> =
    typeof old === 'object' && old !== null && !Array.isArray(old) ? { ...old } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (key === '$setElementOrder/conditions' || key === '$setElementOrder/ownerReferences') continue;
    if (key === '$deleteFromPrimitiveList/finalizers') {
      result['finalizers'] = ((result['finalizers'] ?? []) as string[]).filter(
        (name) => !(value as string[]).includes(name),
      );
    } else if (value === null) delete result[key];
    else result[key] = merge(result[key], value, strategic, key);
  }
  return result;
}

/** A Conflict, for tests that make writes lose. */
export function losesOnce(verb: ApiCall['verb'], resource: string): Interceptor {
  let lost = false;
  return (call) => {
    if (lost || call.verb !== verb || call.resource.resource !== resource) return undefined;
    lost = true;
    throw conflict({ group: call.resource.group, name: resource }, call.name ?? '', OPTIMISTIC_LOCK);
  };
}
