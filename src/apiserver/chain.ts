// The contracts between the links of the request chain: authentication → authorization → admission → registry.
// The server core runs the chain; each link is a value that fits one of these shapes, chosen by who starts the server.

import type { MutableObject, ResourceCatalog, ResourceDefinition } from '../api/definition.ts';
import type { GroupVersionResource, KubeObject } from '../api/object.ts';
import type { Transport } from '../api/transport.ts';
import type { Clock, Logger } from '../component/index.ts';

/** Who is asking, as authentication found out. */
export interface UserInfo {
  readonly name: string;
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

/** What authentication may look at. */
export interface Credentials {
  /** Lower-case header names. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** The client's certificate chain in DER, leaf first, when TLS verified one against the client CA. */
  readonly clientCertificate?: {
    readonly der: Uint8Array;
    readonly commonName: string;
    readonly organizations: readonly string[];
  };
  readonly remoteAddress: string;
}

export interface Authenticator {
  /** Undefined: these credentials are not of my kind. Rejects with StatusError 401 when they are and are wrong. */
  authenticate(credentials: Credentials): Promise<UserInfo | undefined>;
}

/** What authorization decides on: a resource request, or a path. */
export interface AuthorizerAttributes {
  readonly user: UserInfo;
  /** get, list, watch, create, update, patch, delete, deletecollection, proxy, …; for paths the lower-case HTTP method. */
  readonly verb: string;
  readonly resourceRequest: boolean;
  readonly path: string;
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
  /** The field selector of a list, watch or deletecollection as it came: nodes may only list what is theirs. */
  readonly fieldSelector?: string;
}

export interface AuthorizerDecision {
  readonly decision: 'allow' | 'deny' | 'no-opinion';
  readonly reason: string;
}

export interface Authorizer {
  authorize(attributes: AuthorizerAttributes): Promise<AuthorizerDecision> | AuthorizerDecision;
}

export type AdmissionOperation = 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';

export interface AdmissionAttributes {
  readonly operation: AdmissionOperation;
  readonly definition: ResourceDefinition;
  readonly subresource: string;
  readonly namespace: string;
  /** Empty on create with generateName, before the name was made. */
  readonly name: string;
  /** May be changed by `admit`, not by `validate`. Absent for DELETE; the options object for CONNECT. */
  readonly object?: MutableObject;
  readonly oldObject?: KubeObject;
  /** The CreateOptions, UpdateOptions or DeleteOptions. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly dryRun: boolean;
  readonly user: UserInfo;
  /** Adds a `Warning:` header to the answer. */
  warn(message: string): void;
  /**
   * Calls back once when the request is over: true when the object was written (never for a dry run), false when
   * anything after this plugin refused or failed. For plugins that reserve something (addresses, node ports).
   */
  onSettled(callback: (committed: boolean) => void): void;
  /** Writes of other objects that are done together with this request's own, or not at all. */
  accompany(companions: Companions): void;
}

/** Another object's write in the transaction of a request's own. */
export type CompanionWrite =
  /** Only while no such object is there. The object is of the storage version and in its normal form. */
  | { readonly type: 'create'; readonly resource: GroupVersionResource; readonly object: SeedObject }
  /** Only while it is still this very object. */
  | { readonly type: 'delete'; readonly resource: GroupVersionResource; readonly object: KubeObject };

/** What a plugin has written beside the object that it admitted. A dry run writes nothing and asks for nothing. */
export interface Companions {
  /** Asked before each try to write: `object` as it will be stored, or undefined when it is removed. */
  writes(object: MutableObject | undefined): readonly CompanionWrite[];
  /**
   * Another writer was faster and this object is there already: changes `object`, so that `writes` asks for another
   * one, or throws what the client gets.
   */
  taken(object: MutableObject, name: string): void;
}

/** One admission plugin. Rejects (or throws) with a StatusError to refuse the request. */
export interface AdmissionPlugin {
  readonly name: string;
  handles(operation: AdmissionOperation): boolean;
  /** Changes the object; runs before validation, in the order of the plugin table. */
  admit?(attributes: AdmissionAttributes): Promise<void> | void;
  /** Judges the final object; runs after all `admit`s and after the schema's and strategy's validation. */
  validate?(attributes: AdmissionAttributes): Promise<void> | void;
}

export type ReaderEvent<T extends KubeObject = KubeObject> =
  | { readonly type: 'ADDED' | 'MODIFIED'; readonly object: T; readonly old?: T }
  | { readonly type: 'DELETED'; readonly object: T };

/**
 * The server's own look into its watch cache, for links that need other objects (RBAC rules, service accounts,
 * namespaces). Synchronous, at most a moment behind the store; objects are frozen and of the storage version.
 */
export interface ObjectReader {
  get<T extends KubeObject>(group: string, resource: string, namespace: string, name: string): T | undefined;
  list<T extends KubeObject>(group: string, resource: string, namespace?: string): Iterable<T>;
  /** Replays what is there as ADDED, then follows; returns a stop function. */
  follow<T extends KubeObject>(
    group: string,
    resource: string,
    handler: (event: ReaderEvent<T>) => void,
  ): () => void;
  /** Reads through to the store, for decisions that must not be stale. */
  getFresh<T extends KubeObject>(
    group: string,
    resource: string,
    namespace: string,
    name: string,
  ): Promise<T | undefined>;
}

/** What a handler outside the generic registry (reviews, token requests, exec, logs) gets to work with. */
export interface HandlerContext {
  readonly user: UserInfo;
  readonly definition: ResourceDefinition;
  readonly resource: GroupVersionResource;
  readonly namespace: string;
  readonly name: string;
  readonly subresource: string;
  readonly verb: string;
  readonly query: URLSearchParams;
  /** The decoded, defaulted and pruned body, when there is one. */
  readonly body?: MutableObject;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  warn(message: string): void;
}

/** Answers one resource or subresource that is not plain storage, e.g. `tokenreviews` or `serviceaccounts/token`. */
export interface VirtualResource {
  readonly group: string;
  readonly resource: string;
  readonly subresource: string;
  readonly verbs: readonly string[];
  /** Resolves with the object to answer with and its HTTP status. Rejects with a StatusError. */
  handle(context: HandlerContext): Promise<{ readonly status: number; readonly object: object }>;
}

/** Answers a streaming subresource (log, exec, attach, portforward, proxy) on the raw connection. */
export interface StreamingResource {
  readonly group: string;
  readonly resource: string;
  readonly subresource: string;
  /** The HTTP methods that it takes; others are answered 405. */
  readonly methods: ReadonlySet<string>;
  /** Plain requests (log, proxy). `rest` is the path after the subresource. */
  request?(context: HandlerContext & { readonly rest: string }, http: StreamingRequest): Promise<void>;
  /** Connections that asked to be upgraded (WebSocket, SPDY/3.1): the handler owns the socket from here. */
  upgrade?(context: HandlerContext & { readonly rest: string }, http: StreamingUpgrade): Promise<void>;
}

export interface StreamingRequest {
  readonly method: string;
  /** The request's path and query as they came. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** The client's, as this server sees it. */
  readonly remoteAddress: string;
  readonly body: AsyncIterable<Uint8Array>;
  /** Writes the status line and headers; then chunks go through `write` (resolves when there is room for more). */
  respond(status: number, headers: Readonly<Record<string, string | readonly string[]>>): void;
  write(chunk: Uint8Array): Promise<void>;
  end(): void;
  /** Breaks the answer off, so that the client sees that it is not whole. */
  abort(): void;
}

export interface StreamingUpgrade {
  readonly method: string;
  /** The request's path and query as they came. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** The client's, as this server sees it. */
  readonly remoteAddress: string;
  /** Raw header pairs, to pass the request on unchanged. */
  readonly rawHeaders: readonly string[];
  readonly socket: import('node:stream').Duplex;
  /** Bytes that came after the request's head. */
  readonly head: Uint8Array;
}

/** Answers a path outside the resources, e.g. `/openid/v1/jwks`. The core authenticates and authorizes it first. */
export interface PathHandler {
  readonly paths: readonly string[];
  handle(request: {
    readonly method: string;
    readonly path: string;
    readonly query: URLSearchParams;
    readonly user: UserInfo;
    readonly signal: AbortSignal;
  }): Promise<{
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Uint8Array | string;
  }>;
}

/** What the core hands to whoever assembles the chain, before the first request. */
export interface ChainContext {
  readonly reader: ObjectReader;
  readonly catalog: ResourceCatalog;
  /** In process, as a member of system:masters: for the objects a server makes for itself. */
  readonly transport: Transport;
  /**
   * Writes an object of the server's own tables, known to be right and in its normal form, where none is: without
   * decoding, admission and validation. Rejects with AlreadyExists. The object's parts are shared from then on.
   */
  seed(resource: GroupVersionResource, object: SeedObject): Promise<KubeObject>;
  /** Under which others reach the server, e.g. `https://127.0.0.1:6443`; known once it listens. */
  url(): string;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface SeedObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** All links of the chain, put together. Disposing stops what they follow and dial. */
export interface RequestChain extends AsyncDisposable {
  /** The union of all authenticators, impersonation included; undefined from it means 401. */
  readonly authenticator: Authenticator;
  readonly authorizer: Authorizer;
  /** In the order in which they run. */
  readonly admission: readonly AdmissionPlugin[];
  readonly virtualResources: readonly VirtualResource[];
  readonly streamingResources: readonly StreamingResource[];
  readonly paths: readonly PathHandler[];
  /** Creates and reconciles the objects that every server has; the server is ready when it resolves. */
  bootstrap(signal?: AbortSignal): Promise<void>;
}

export type ChainFactory = (context: ChainContext) => RequestChain;
