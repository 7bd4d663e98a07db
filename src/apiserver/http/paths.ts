// Everything outside the resources: discovery, OpenAPI, version, health, metrics, the list of paths, and what the
// chain adds (the issuer's documents, for one).

import type { ResourceCatalog } from '../../api/definition.ts';
import { notAcceptable } from '../../api/errors.ts';
import { createOpenApi, OPENAPI_V2_PROTOBUF, type OpenApi } from '../../api/openapi/document.ts';
import type { Logger } from '../../component/index.ts';
import type { PathHandler, UserInfo } from '../chain.ts';
import { Discovery, type DiscoveryForm } from '../discovery/discovery.ts';
import type { VersionInfo } from '../discovery/version.ts';
import { answerHealth, type HealthCheck, healthPath } from '../health.ts';
import type { Metrics } from '../metrics.ts';
import { parseAccept } from '../request/negotiation.ts';
import type { ResponseHeaders } from './exchange.ts';

export interface PathRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly accept: string | undefined;
  /** The If-None-Match header. */
  readonly knownEtag: string | undefined;
  readonly user: UserInfo;
  readonly signal: () => AbortSignal;
}

export interface PathAnswer {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly body: Uint8Array;
}

export interface PathOptions {
  readonly catalog: ResourceCatalog;
  readonly version: VersionInfo;
  readonly checks: readonly HealthCheck[];
  readonly metrics: Metrics;
  readonly handlers: readonly PathHandler[];
  /** host:port under which clients reach the server. */
  readonly address: () => string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly logger: Logger;
}

const TEXT = 'text/plain; charset=utf-8';
const NOT_FOUND = Buffer.from('404 page not found\n');

export class Paths {
  readonly #options: PathOptions;
  readonly #discovery: Discovery;
  readonly #handlers = new Map<string, PathHandler>();
  #openApi: OpenApi | undefined;
  #openApiOf: unknown;

  constructor(options: PathOptions) {
    this.#options = options;
    this.#discovery = new Discovery(options.catalog, options.address);
    for (const handler of options.handlers)
      for (const path of handler.paths) this.#handlers.set(path, handler);
  }

  async answer(request: PathRequest): Promise<PathAnswer> {
    const path = request.path.length > 1 ? request.path.replace(/\/+$/, '') : request.path;
    const handler = this.#handlers.get(path);
    if (handler !== undefined) return this.#handled(handler, request);
    if (request.method !== 'GET' && request.method !== 'HEAD') return this.#otherMethod(path);
    const health = healthPath(path);
    if (health !== undefined) return this.#health(health, request);
    if (path === '/api' || path === '/apis' || path.startsWith('/api/') || path.startsWith('/apis/'))
      return this.#discover(path, request);
    if (path === '/openapi/v2') return this.#openApiV2(request);
    if (path === '/openapi/v3' || path.startsWith('/openapi/v3/')) return this.#openApiV3(path, request);
    switch (path) {
      case '/':
        return json({ paths: this.#listed() });
      case '/version':
        return json(this.#options.version);
      case '/metrics':
        return {
          status: 200,
          headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' },
          body: Buffer.from(this.#options.metrics.render()),
        };
      default:
        return notFound();
    }
  }

  #listed(): string[] {
    const checks = this.#options.checks;
    return [
      ...this.#discovery.paths(),
      '/healthz',
      ...checks.filter(({ live }) => live).map(({ name }) => `/healthz/${name}`),
      '/livez',
      ...checks.filter(({ live }) => live).map(({ name }) => `/livez/${name}`),
      '/metrics',
      '/openapi/v2',
      '/openapi/v3',
      '/readyz',
      ...checks.filter(({ ready }) => ready).map(({ name }) => `/readyz/${name}`),
      '/version',
      ...this.#handlers.keys(),
    ].sort();
  }

  #otherMethod(path: string): PathAnswer {
    const known = this.#listed().includes(path);
    return known
      ? {
          status: 405,
          headers: { 'content-type': TEXT, allow: 'GET' },
          body: Buffer.from('Method Not Allowed\n'),
        }
      : notFound();
  }

  async #handled(handler: PathHandler, request: PathRequest): Promise<PathAnswer> {
    const { method, path, query, user, signal } = request;
    const answer = await handler.handle({
      method,
      path,
      query,
      user,
      get signal() {
        return signal();
      },
    });
    const headers: ResponseHeaders = {};
    for (const [name, value] of Object.entries(answer.headers)) headers[name.toLowerCase()] = value;
    return {
      status: answer.status,
      headers,
      body: typeof answer.body === 'string' ? Buffer.from(answer.body) : answer.body,
    };
  }

  async #health(
    { endpoint, check }: NonNullable<ReturnType<typeof healthPath>>,
    { query }: PathRequest,
  ): Promise<PathAnswer> {
    const { status, body, failures } = await answerHealth(this.#options.checks, endpoint, check, query);
    for (const { name, error } of failures)
      this.#options.logger.warn(
        { component: 'health', endpoint, check: name, err: error },
        'a health check failed',
      );
    return {
      status,
      headers: { 'content-type': TEXT, 'x-content-type-options': 'nosniff' },
      body: Buffer.from(body),
    };
  }

  #discover(path: string, request: PathRequest): PathAnswer {
    const form = path === '/api' || path === '/apis' ? discoveryForm(request.accept) : 'classic';
    const document = this.#discovery.document(path, form);
    if (document === undefined) return notFound();
    const headers: ResponseHeaders = { 'content-type': document.contentType, vary: 'Accept' };
    if (document.etag !== undefined) {
      headers['etag'] = document.etag;
      if (request.knownEtag === document.etag) return { status: 304, headers, body: NOTHING };
    }
    return { status: 200, headers, body: document.bytes };
  }

  #documents(): OpenApi {
    const { catalog, version } = this.#options;
    const all = catalog.all();
    if (this.#openApi === undefined) this.#openApi = createOpenApi(catalog, { version: version.gitVersion });
    else if (this.#openApiOf !== all) this.#openApi.invalidate();
    this.#openApiOf = all;
    return this.#openApi;
  }

  #openApiV2({ accept, knownEtag }: PathRequest): PathAnswer {
    const format = openApiV2Format(accept);
    const { bytes, hash } = this.#documents().v2(format);
    const etag = `"${hash}"`;
    const headers: ResponseHeaders = {
      'content-type': format === 'json' ? 'application/json' : OPENAPI_V2_PROTOBUF,
      etag,
      vary: 'Accept',
    };
    if (knownEtag === etag) return { status: 304, headers, body: NOTHING };
    return { status: 200, headers, body: bytes };
  }

  #openApiV3(path: string, { query, knownEtag, accept }: PathRequest): PathAnswer {
    acceptsJson(accept);
    const documents = this.#documents();
    const below = path.slice('/openapi/v3'.length + 1);
    const document = below === '' ? documents.v3Index() : documents.v3(below);
    if (document === undefined) return notFound();
    const etag = `"${document.hash}"`;
    const headers: ResponseHeaders = { 'content-type': 'application/json', etag, vary: 'Accept' };
    // With the hash in its URL a document never changes and may be kept for good (KEP-2896).
    const hash = query.get('hash');
    if (hash !== null && hash !== '') {
      if (hash !== document.hash) {
        headers['location'] = `${path}?hash=${document.hash}`;
        return { status: 301, headers, body: NOTHING };
      }
      headers['cache-control'] = 'public, immutable';
      headers['expires'] = new Date(this.#options.now() + YEAR_MS).toUTCString();
    }
    if (knownEtag === etag) return { status: 304, headers, body: NOTHING };
    return { status: 200, headers, body: document.bytes };
  }
}

const NOTHING = Buffer.alloc(0);
const YEAR_MS = 365 * 24 * 3600 * 1000;

export function notFound(): PathAnswer {
  return {
    status: 404,
    headers: { 'content-type': TEXT, 'x-content-type-options': 'nosniff' },
    body: NOT_FOUND,
  };
}

function json(value: unknown): PathAnswer {
  return {
    status: 200,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(value, null, 2)),
  };
}

/** Clients that know the aggregated form name it before plain JSON. Throws 406. */
function discoveryForm(accept: string | undefined): DiscoveryForm {
  if (accept === undefined) return 'classic';
  for (const { type, parameters } of parseAccept(accept)) {
    if (type !== 'application/json' && type !== 'application/*' && type !== '*/*') continue;
    if (!parameters.has('as')) return 'classic';
    if (parameters.get('g') !== 'apidiscovery.k8s.io' || parameters.get('as') !== 'APIGroupDiscoveryList')
      continue;
    if (parameters.get('v') === 'v2') return 'aggregated-v2';
    if (parameters.get('v') === 'v2beta1') return 'aggregated-v2beta1';
  }
  throw notAcceptable(['application/json']);
}

/** kubectl before 1.27 takes the protobuf form only. Throws 406. */
function openApiV2Format(accept: string | undefined): 'json' | 'protobuf' {
  if (accept === undefined) return 'json';
  for (const { type } of parseAccept(accept)) {
    if (type === 'application/json' || type === 'application/*' || type === '*/*') return 'json';
    // Clients ask with an @, which is not allowed in a media type; the answer is named without.
    if (
      type === OPENAPI_V2_PROTOBUF.toLowerCase() ||
      type === 'application/com.github.proto-openapi.spec.v2@v1.0+protobuf'
    )
      return 'protobuf';
  }
  throw notAcceptable(['application/json', OPENAPI_V2_PROTOBUF]);
}

/** Throws 406 for clients that take only the protobuf form of OpenAPI v3. */
function acceptsJson(accept: string | undefined): void {
  if (accept === undefined) return;
  const fits = parseAccept(accept).some(
    ({ type }) => type === 'application/json' || type === 'application/*' || type === '*/*',
  );
  if (!fits) throw notAcceptable(['application/json']);
}
