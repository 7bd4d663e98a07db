// The transport for clients in the same process: the same chain as over HTTP but for TLS and authentication, with
// objects handed over as they are, frozen and shared, never encoded.

import { badRequest, StatusError } from '../api/errors.ts';
import type { GroupVersionResource, KubeObject } from '../api/object.ts';
import { groupVersion } from '../api/object.ts';
import type { ApiCall, Transport, WatchCall, WatchEvent } from '../api/transport.ts';
import type { Clock, Timer } from '../component/index.ts';
import type { Change } from './cache/event-ring.ts';
import { deepFreeze, type StoredObject } from './cache/stored-object.ts';
import type { WatchSink } from './cache/subscription.ts';
import type { WireFormat } from './cache/wire-format.ts';
import type { UserInfo } from './chain.ts';
import type { Dispatcher, KnownRequest } from './dispatcher.ts';
import type { Paths } from './http/paths.ts';
import { bookmarkMeta } from './http/watch-events.ts';
import { asStatusError } from './registry/context.ts';
import type { ObjectStore } from './registry/object-store.ts';
import type { Answer } from './registry/request.ts';
import type { WatchHandle } from './registry/watch.ts';
import { emptyQuery } from './request/options.ts';
import { nameInFieldSelector, type RequestInfo, requestInfo, splitTarget } from './request/request-info.ts';

export interface InProcessOptions {
  /** Asked at each call, for the chain is put together with a transport in hand. */
  readonly dispatcher: () => Dispatcher;
  readonly paths: () => Paths;
  readonly objects: ObjectStore;
  readonly clock: Clock;
}

/** Events that a watcher may leave unread before it is no longer told each at once. */
const MOST_QUEUED = 1_000;

export function inProcessTransport(options: InProcessOptions, user: UserInfo): Transport {
  const resolve = async (known: KnownRequest) => {
    const dispatcher = options.dispatcher();
    await dispatcher.authorize(known);
    const definition = dispatcher.definition(known.info);
    if (definition === undefined) throw notServed(known.info);
    return { dispatcher, definition };
  };
  return {
    sharesObjects: true,
    async call(call) {
      call.signal?.throwIfAborted();
      const known = knownRequest(call, call.verb, call.name, call.subresource, user);
      const body =
        call.body === undefined
          ? undefined
          : ({
              type: 'value',
              value: call.body,
              contentType: call.verb === 'patch' ? (call.patchType ?? '') : 'application/json',
            } as const);
      return failingAsStatus(async () => {
        const { dispatcher, definition } = await resolve(known);
        return sharedValue(await dispatcher.call(known, definition, body));
      });
    },
    async watch(call) {
      call.signal?.throwIfAborted();
      const known = knownRequest(call, 'watch', undefined, undefined, user);
      return failingAsStatus(async () => {
        const { dispatcher, definition } = await resolve(known);
        let queue: EventQueue | undefined;
        const handle = await dispatcher.watch(known, definition, (settings) => {
          const timeoutMs = known.query.has('timeoutSeconds') ? settings.timeoutMs : undefined;
          const format = options.objects.format(definition);
          queue = new EventQueue(format, settings.allowBookmarks, options.clock, timeoutMs);
          return queue;
        });
        queue!.start(handle, call.signal);
        return queue!;
      });
    },
    async raw({ method, path: target, headers = {}, signal }) {
      signal?.throwIfAborted();
      const { path, query: text } = splitTarget(target);
      const query = text === '' ? emptyQuery : new URLSearchParams(text);
      const info = requestInfo(method, path, query);
      if (info.isResourceRequest)
        throw badRequest(`${path} names a resource; it is not reached by a raw request`);
      const known: KnownRequest = { info, query, user, signal: signalOf(signal), warn: ignore };
      await options.dispatcher().authorize(known);
      const find = (name: string): string | undefined =>
        Object.entries(headers).find(([other]) => other.toLowerCase() === name)?.[1];
      const answer = await options.paths().answer({
        method,
        path,
        query,
        accept: find('accept'),
        knownEtag: find('if-none-match'),
        user,
        signal: signalOf(signal),
      });
      const answered: Record<string, string> = {};
      for (const [name, value] of Object.entries(answer.headers)) answered[name] = String(value);
      return { status: answer.status, headers: answered, body: answer.body };
    },
  };
}

/** A transport promises StatusErrors; an abort stays what it is. */
async function failingAsStatus<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof Error && error.name === 'AbortError') throw error;
    throw asStatusError(error);
  }
}

function knownRequest(
  call: ApiCall | WatchCall,
  verb: string,
  name: string | undefined,
  subresource: string | undefined,
  user: UserInfo,
): KnownRequest {
  const { resource, namespace = '' } = call;
  const query = queryOf(call.query);
  const info: RequestInfo = {
    isResourceRequest: true,
    path: pathOf(resource, namespace, name, subresource),
    verb,
    prefix: resource.group === '' ? 'api' : 'apis',
    group: resource.group,
    version: resource.version,
    namespace,
    resource: resource.resource,
    subresource: subresource ?? '',
    name: name ?? nameInFieldSelector(query.get('fieldSelector')),
    parts:
      name === undefined
        ? [resource.resource]
        : subresource === undefined
          ? [resource.resource, name]
          : [resource.resource, name, subresource],
  };
  return { info, query, user, signal: signalOf(call.signal), warn: ignore };
}

function pathOf(
  resource: GroupVersionResource,
  namespace: string,
  name: string | undefined,
  subresource: string | undefined,
): string {
  const version = groupVersion(resource);
  let path = `/${resource.group === '' ? 'api' : 'apis'}/${version}`;
  if (namespace !== '') path += `/namespaces/${namespace}`;
  path += `/${resource.resource}`;
  if (name !== undefined) path += `/${name}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}

function queryOf(query: ApiCall['query']): URLSearchParams {
  if (query === undefined) return emptyQuery;
  const all = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (typeof value === 'string') all.append(name, value);
    else for (const one of value) all.append(name, one);
  }
  return all;
}

function signalOf(signal: AbortSignal | undefined): () => AbortSignal {
  let made = signal;
  return () => {
    made ??= new AbortController().signal;
    return made;
  };
}

/** Warnings are for people at a terminal. */
function ignore(): void {}

function notServed({ group, version, resource }: RequestInfo): StatusError {
  return new StatusError({
    code: 404,
    reason: 'NotFound',
    message: `the server could not find the requested resource (${resource} in ${groupVersion({ group, version })} is not served)`,
    details: {},
  });
}

function sharedValue(answer: Answer): unknown {
  switch (answer.type) {
    case 'object':
      return answer.format.object(answer.object);
    case 'list': {
      const { format, objects, meta } = answer;
      return Object.freeze({
        kind: format.definition.listKind,
        apiVersion: format.apiVersion,
        metadata: meta,
        items: Object.freeze(objects.map((stored) => format.object(stored))),
      });
    }
    case 'value':
      deepFreeze(answer.value);
      return answer.value;
  }
}

/** The events of one watch, until somebody reads them. */
class EventQueue implements WatchSink, AsyncIterable<WatchEvent>, AsyncIterator<WatchEvent> {
  readonly #format: WireFormat;
  readonly #allowBookmarks: boolean;
  readonly #clock: Clock;
  readonly #timeoutMs: number | undefined;
  #queue: WatchEvent[] = [];
  #head = 0;
  #full = false;
  #over = false;
  #reader: ((result: IteratorResult<WatchEvent>) => void) | undefined;
  #handle: WatchHandle | undefined;
  #timer: Timer | undefined;
  #leaveSignal: (() => void) | undefined;

  constructor(format: WireFormat, allowBookmarks: boolean, clock: Clock, timeoutMs: number | undefined) {
    this.#format = format;
    this.#allowBookmarks = allowBookmarks;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  start(handle: WatchHandle, signal: AbortSignal | undefined): void {
    this.#handle = handle;
    if (this.#timeoutMs !== undefined)
      this.#timer = this.#clock.setTimer(this.#timeoutMs, () => this.#end(), { unref: true });
    if (signal !== undefined) {
      const abort = (): void => {
        // Who has lost interest gets nothing more, not even what is there.
        this.#queue = [];
        this.#head = 0;
        this.#end();
      };
      signal.addEventListener('abort', abort, { once: true });
      this.#leaveSignal = () => signal.removeEventListener('abort', abort);
      if (signal.aborted) abort();
    }
    handle.resume();
  }

  event(type: Change['type'], object: StoredObject): boolean {
    return this.#push({ type, object: this.#format.object(object) });
  }

  bookmark(revision: number, initialEventsEnd: boolean): boolean {
    if (!this.#allowBookmarks) return !this.#full;
    const object = {
      kind: this.#format.definition.kind,
      apiVersion: this.#format.apiVersion,
      metadata: bookmarkMeta(revision, initialEventsEnd),
    } as unknown as KubeObject;
    return this.#push({ type: 'BOOKMARK', object });
  }

  close(error?: StatusError): void {
    if (error !== undefined) this.#push({ type: 'ERROR', object: error.status });
    this.#end();
  }

  [Symbol.asyncIterator](): AsyncIterator<WatchEvent> {
    return this;
  }

  next(): Promise<IteratorResult<WatchEvent>> {
    if (this.#head < this.#queue.length) {
      const value = this.#queue[this.#head++]!;
      if (this.#head === this.#queue.length) {
        this.#queue = [];
        this.#head = 0;
        if (this.#full) this.#goOn();
      }
      return Promise.resolve({ done: false, value });
    }
    if (this.#over) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => {
      this.#reader = resolve;
    });
  }

  return(): Promise<IteratorResult<WatchEvent>> {
    this.#queue = [];
    this.#head = 0;
    this.#end();
    return Promise.resolve({ done: true, value: undefined });
  }

  #goOn(): void {
    this.#full = false;
    this.#handle?.resume();
  }

  #push(event: WatchEvent): boolean {
    if (this.#over) return false;
    const reader = this.#reader;
    if (reader !== undefined) {
      this.#reader = undefined;
      reader({ done: false, value: event });
    } else this.#queue.push(event);
    this.#full = this.#queue.length - this.#head >= MOST_QUEUED;
    return !this.#full;
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#leaveSignal?.();
    this.#handle?.stop();
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.({ done: true, value: undefined });
  }
}
