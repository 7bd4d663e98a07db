// The chain behind authentication, the same for requests over HTTP and in process: authorization, then whoever
// answers the resource (a virtual resource, a watch, the registry). Speaks in URLs' terms on one side and in the
// registry's on the other.

import type { MutableObject, ResourceCatalog, ResourceDefinition } from '../api/definition.ts';
import { notFoundPath } from '../api/errors.ts';
import { decodeTarget } from '../api/schema/decode.ts';
import { forbiddenRequest } from './authorization/forbidden-message.ts';
import type { WatchSink } from './cache/subscription.ts';
import type {
  AuthorizerAttributes,
  HandlerContext,
  RequestChain,
  StreamingResource,
  UserInfo,
  VirtualResource,
} from './chain.ts';
import { AdmissionRun, decodeBody, type RegistryContext } from './registry/context.ts';
import { allows, dispatch, methodNotAllowed } from './registry/registry.ts';
import type { Answer, RegistryRequest, RequestBody } from './registry/request.ts';
import { type WatchHandle, type WatchSettings, watch } from './registry/watch.ts';
import { writeOptions } from './request/options.ts';
import type { RequestInfo } from './request/request-info.ts';

/** A request whose user is known. */
export interface KnownRequest {
  readonly info: RequestInfo;
  readonly query: URLSearchParams;
  readonly user: UserInfo;
  readonly signal: () => AbortSignal;
  warn(message: string): void;
}

export class Dispatcher {
  readonly #context: RegistryContext;
  readonly #catalog: ResourceCatalog;
  readonly #chain: RequestChain;
  readonly #virtual = new Map<string, VirtualResource>();
  readonly #streaming = new Map<string, StreamingResource>();

  constructor(context: RegistryContext, chain: RequestChain) {
    this.#context = context;
    this.#catalog = context.catalog;
    this.#chain = chain;
    for (const one of chain.virtualResources) this.#virtual.set(keyOf(one), one);
    for (const one of chain.streamingResources) this.#streaming.set(keyOf(one), one);
  }

  /** Rejects with 403 when nobody allows the request. Undefined: allowed, without having had to wait. */
  authorize({ info, query, user }: KnownRequest): Promise<void> | undefined {
    const attributes = attributesOf(info, query, user);
    const decided = this.#chain.authorizer.authorize(attributes);
    if (decided instanceof Promise)
      return decided.then(({ decision, reason }) => {
        if (decision !== 'allow') throw forbiddenRequest(attributes, reason);
      });
    if (decided.decision !== 'allow') throw forbiddenRequest(attributes, decided.reason);
    return undefined;
  }

  /**
   * The definition of the resource that the URL names. Throws the JSON form of 404 for a resource that a served
   * version does not have; undefined when the whole version is not served.
   */
  definition(info: RequestInfo): ResourceDefinition | undefined {
    const { group, version, resource, namespace } = info;
    const definition = this.#catalog.byResource(group, version, resource);
    if (definition === undefined) {
      if (this.#catalog.versions(group).includes(version)) throw notFoundPath();
      return undefined;
    }
    // A namespace in the path of a resource that has none, but for the namespace's own object.
    const own = group === '' && resource === 'namespaces';
    if (!definition.namespaced && namespace !== '' && !own) throw notFoundPath();
    return definition;
  }

  streaming(definition: ResourceDefinition, subresource: string): StreamingResource | undefined {
    if (subresource === '' || this.#streaming.size === 0) return undefined;
    return this.#streaming.get(
      keyOf({ group: definition.group, resource: definition.resource, subresource }),
    );
  }

  #virtualResource(definition: ResourceDefinition, subresource: string): VirtualResource | undefined {
    return this.#virtual.get(keyOf({ group: definition.group, resource: definition.resource, subresource }));
  }

  /** Answers everything but watches and streams. */
  call(
    request: KnownRequest,
    definition: ResourceDefinition,
    body: RequestBody | undefined,
  ): Answer | Promise<Answer> {
    const deprecated = DEPRECATED[`${definition.group}/${definition.version}/${definition.resource}`];
    if (deprecated !== undefined) request.warn(deprecated);
    const asked = this.#registryRequest(request, definition, body);
    const virtual = this.#virtualResource(definition, asked.subresource);
    if (virtual !== undefined) return this.#callVirtual(virtual, asked);
    if (request.info.parts.length > 3) throw notFoundPath();
    return dispatch(this.#context, asked);
  }

  async watch(
    request: KnownRequest,
    definition: ResourceDefinition,
    openSink: (settings: WatchSettings) => WatchSink,
  ): Promise<WatchHandle> {
    const asked = this.#registryRequest(request, definition, undefined);
    if (asked.subresource !== '' || !allows(definition, '', 'watch')) throw methodNotAllowed();
    return watch(this.#context, asked, openSink);
  }

  /** What a streaming subresource is called with, after admission had its say on the connection. */
  async connect(
    request: KnownRequest,
    definition: ResourceDefinition,
  ): Promise<HandlerContext & { readonly rest: string }> {
    const asked = this.#registryRequest(request, definition, undefined);
    const admission = new AdmissionRun(this.#context, asked, 'CONNECT', {}, false);
    let admitted = false;
    try {
      const options = connectOptions(definition, asked.subresource, request.query);
      await admission.admit(options, undefined);
      await admission.validate(options, undefined);
      admitted = true;
    } finally {
      admission.settle(admitted);
    }
    const rest = request.info.parts.slice(3).join('/');
    return { ...handlerContext(asked, undefined, false), rest };
  }

  async #callVirtual(virtual: VirtualResource, asked: RegistryRequest): Promise<Answer> {
    const { definition, subresource, verb } = asked;
    if (!virtual.verbs.includes(verb)) throw methodNotAllowed();
    if (verb !== 'create' && verb !== 'update') {
      const { status, object } = await virtual.handle(handlerContext(asked, undefined, false));
      return { type: 'value', status, value: object };
    }
    const options = writeOptions(verb === 'create' ? 'CreateOptions' : 'UpdateOptions', asked.query);
    const kind = definition.subresources.get(subresource)?.kind;
    const target = kind === undefined ? definition : decodeTarget(kind.group, kind.version, kind.kind);
    const body = decodeBody(asked, target, options.fieldValidation);
    const operation = verb === 'create' ? 'CREATE' : 'UPDATE';
    const admission = new AdmissionRun(this.#context, asked, operation, options.value, options.dryRun);
    let done = false;
    try {
      await admission.admit(body, undefined);
      await admission.validate(body, undefined);
      const { status, object } = await virtual.handle(handlerContext(asked, body, options.dryRun));
      done = true;
      return { type: 'value', status, value: object };
    } finally {
      admission.settle(done);
    }
  }

  #registryRequest(
    known: KnownRequest,
    definition: ResourceDefinition,
    body: RequestBody | undefined,
  ): RegistryRequest {
    const { info, query, user, signal, warn } = known;
    const collection = info.parts.length < 2;
    return {
      definition,
      namespace: definition.namespaced ? info.namespace : '',
      // A list's name in RequestInfo comes from its field selector and is for authorization only.
      name: collection ? '' : info.name,
      subresource: info.subresource,
      verb: info.verb,
      query,
      user,
      body,
      signal,
      warn,
      authorize: (verb) => this.authorize({ ...known, info: { ...info, verb } }),
    };
  }
}

/** What upstream warns of whoever uses these. */
const DEPRECATED: Readonly<Record<string, string>> = {
  '/v1/componentstatuses': 'v1 ComponentStatus is deprecated in v1.19+',
  '/v1/endpoints': 'v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice',
};

function keyOf(one: {
  readonly group: string;
  readonly resource: string;
  readonly subresource: string;
}): string {
  return `${one.group}/${one.resource}/${one.subresource}`;
}

export function attributesOf(
  info: RequestInfo,
  query: URLSearchParams,
  user: UserInfo,
): AuthorizerAttributes {
  const fieldSelector = query.size === 0 ? null : query.get('fieldSelector');
  return {
    user,
    verb: info.verb,
    resourceRequest: info.isResourceRequest,
    path: info.path,
    group: info.group,
    version: info.version,
    resource: info.resource,
    subresource: info.subresource,
    namespace: info.namespace,
    name: info.name,
    ...(fieldSelector === null ? {} : { fieldSelector }),
  };
}

function handlerContext(
  asked: RegistryRequest,
  body: MutableObject | undefined,
  dryRun: boolean,
): HandlerContext {
  const { definition, namespace, name, subresource, verb, query, user, signal, warn } = asked;
  return {
    user,
    definition,
    resource: { group: definition.group, version: definition.version, resource: definition.resource },
    namespace,
    name,
    subresource,
    verb,
    query,
    ...(body === undefined ? {} : { body }),
    dryRun,
    get signal() {
      return signal();
    },
    warn,
  };
}

/** PodExecOptions and the like, as admission sees them: the query's parameters under the kind's name. */
function connectOptions(
  definition: ResourceDefinition,
  subresource: string,
  query: URLSearchParams,
): MutableObject {
  const kind = definition.subresources.get(subresource)?.kind;
  const options: MutableObject = { kind: kind?.kind ?? '', apiVersion: 'v1', metadata: {} };
  for (const name of new Set(query.keys())) {
    const values = query.getAll(name);
    options[name] = values.length > 1 || name === 'command' ? values : values[0];
  }
  return options;
}
