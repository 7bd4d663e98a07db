// One HTTP request from its head to the end of its answer: who asks (authentication), whether there is room
// (in-flight limits), whether it is allowed, and then what it asks for: a path, a watch, a stream or the registry.
// Whatever goes wrong becomes a Status; an exception that is none becomes a 500 and a line in the log.

import { randomUUID } from 'node:crypto';
import type { ResourceDefinition } from '../../api/definition.ts';
import { badRequest, StatusError, tooManyRequests, unauthorized } from '../../api/errors.ts';
import type { Clock, Logger } from '../../component/index.ts';
import type { Authenticator, UserInfo } from '../chain.ts';
import type { Dispatcher, KnownRequest } from '../dispatcher.ts';
import { healthPath } from '../health.ts';
import type { Metrics, RequestLabels } from '../metrics.ts';
import { asStatusError } from '../registry/context.ts';
import { methodNotAllowed } from '../registry/registry.ts';
import type { RequestBody } from '../registry/request.ts';
import { negotiate } from '../request/negotiation.ts';
import { emptyQuery } from '../request/options.ts';
import { type RequestInfo, requestInfo, splitTarget } from '../request/request-info.ts';
import { encodeAnswer, encodePlain, encodeValue, failureHeaders, send } from './answer.ts';
import type { Exchange, ResponseHeaders } from './exchange.ts';
import type { InFlight, InFlightRequest } from './in-flight.ts';
import { notFound, type Paths } from './paths.ts';
import { checkMethod, serveStream } from './streaming.ts';
import type { Watches } from './watches.ts';

export interface HandlerOptions {
  readonly authenticator: Authenticator;
  readonly dispatcher: Dispatcher;
  readonly paths: Paths;
  readonly watches: Watches;
  readonly inFlight: InFlight;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly maxBodyBytes: number;
}

const NO_LABELS: RequestLabels = {
  verb: '',
  group: '',
  version: '',
  resource: '',
  subresource: '',
  scope: '',
  dryRun: false,
};

export class RequestHandler {
  readonly #options: HandlerOptions;
  /** Streams (logs that are followed, for one) that are under way. */
  readonly #streams = new Set<AbortController>();
  #stopped = false;

  constructor(options: HandlerOptions) {
    this.#options = options;
  }

  readonly handle = (exchange: Exchange): void => {
    const request = new ServedRequest(exchange, this.#options, this);
    request.run().catch((error: unknown) => {
      this.#options.logger.error(
        { component: 'http', err: error, method: exchange.method, path: exchange.target },
        'a request could not be answered',
      );
      exchange.abort();
    });
  };

  /** Runs a stream until it is over, and tells it when the server stops. */
  async stream(controller: AbortController, run: () => Promise<void>): Promise<void> {
    this.#streams.add(controller);
    if (this.#stopped) controller.abort();
    try {
      await run();
    } finally {
      this.#streams.delete(controller);
    }
  }

  /** Ends the streams that are under way, and those that come from now on. */
  stop(): void {
    this.#stopped = true;
    for (const controller of this.#streams) controller.abort();
  }
}

/** The state of one request. */
class ServedRequest {
  readonly #handler: RequestHandler;
  readonly #exchange: Exchange;
  readonly #options: HandlerOptions;
  readonly #started: number;
  readonly #auditId: string;
  #warnings: string[] | undefined;
  #controller: AbortController | undefined;
  #info: RequestInfo | undefined;
  #definition: ResourceDefinition | undefined;
  #query = emptyQuery;
  #pretty = false;

  constructor(exchange: Exchange, options: HandlerOptions, handler: RequestHandler) {
    this.#handler = handler;
    this.#exchange = exchange;
    this.#options = options;
    this.#started = options.clock.monotonic();
    const given = exchange.headers['audit-id'];
    this.#auditId = typeof given === 'string' && /^[!-~]{1,64}$/.test(given) ? given : randomUUID();
  }

  async run(): Promise<void> {
    let entered: InFlightRequest | undefined;
    const { inFlight } = this.#options;
    try {
      const info = this.#parse();
      const user = await this.#authenticate();
      const known: KnownRequest = {
        info,
        query: this.#query,
        user,
        signal: () => this.#signal(),
        warn: (message) => this.#warn(message),
      };
      const allowed = this.#options.dispatcher.authorize(known);
      if (allowed !== undefined) await allowed;
      const long = this.#longRunning(info);
      if (!long) entered = this.#enter(info, user);
      if (info.isResourceRequest) await this.#resource(known);
      else await this.#path(known);
    } catch (error) {
      await this.#fail(error);
    } finally {
      if (entered !== undefined) inFlight.leave(entered);
    }
  }

  #parse(): RequestInfo {
    const { method, target, headers } = this.#exchange;
    const { path, query } = splitTarget(target);
    if (query !== '') this.#query = new URLSearchParams(query);
    const asked = query === '' ? null : this.#query.get('pretty');
    const agent = headers['user-agent'];
    this.#pretty =
      asked === null
        ? typeof agent === 'string' && /^(?:curl|Wget)\//.test(agent)
        : asked !== 'false' && asked !== '0';
    try {
      this.#info = requestInfo(method, path, this.#query);
    } catch (error) {
      if (error instanceof URIError) throw badRequest(`the path ${path} has a malformed escape`);
      throw error;
    }
    return this.#info;
  }

  async #authenticate(): Promise<UserInfo> {
    const { headers, peer } = this.#exchange;
    const { clientCertificate, certificateProblem, remoteAddress } = peer;
    // A certificate that does not verify is a wrong credential, unless the client shows another one beside it.
    if (certificateProblem !== undefined && headers['authorization'] === undefined)
      throw unauthorizedRequest();
    let user: UserInfo | undefined;
    try {
      user = await this.#options.authenticator.authenticate({
        headers,
        remoteAddress,
        ...(clientCertificate === undefined ? {} : { clientCertificate }),
      });
    } catch (error) {
      if (error instanceof StatusError && error.code === 401) throw unauthorizedRequest();
      throw error;
    }
    if (user === undefined) throw unauthorizedRequest();
    return user;
  }

  #longRunning(info: RequestInfo): boolean {
    if (!info.isResourceRequest) return false;
    if (info.verb === 'watch') return true;
    const definition = this.#options.dispatcher.definition(info);
    return (
      definition !== undefined &&
      this.#options.dispatcher.streaming(definition, info.subresource) !== undefined
    );
  }

  #enter(info: RequestInfo, user: UserInfo): InFlightRequest {
    const { inFlight } = this.#options;
    const mutating = !READ_ONLY.has(info.verb);
    // Whoever must mend an overloaded server is let in, and whoever asks whether it lives.
    const exempt = user.groups.includes('system:masters') || healthPath(info.path) !== undefined;
    const entered = inFlight.enter(mutating, () => this.#timedOut(), {
      exempt,
      timeoutMs: timeoutOf(this.#query),
    });
    if (entered === undefined) throw tooManyRequests('too many requests, please try again later.', 1);
    return entered;
  }

  #timedOut(): void {
    this.#controller?.abort();
    const error = new StatusError({
      code: 504,
      reason: 'Timeout',
      message: 'Timeout: request did not complete within the allotted timeout',
      details: {},
    });
    if (this.#exchange.answered) this.#exchange.abort();
    else void this.#fail(error);
  }

  #signal(): AbortSignal {
    return this.#abortable().signal;
  }

  /** Made when somebody asks: nearly all requests are over before it would matter. */
  #abortable(): AbortController {
    if (this.#controller === undefined) {
      const controller = new AbortController();
      this.#controller = controller;
      this.#exchange.onClosed(() => controller.abort());
    }
    return this.#controller;
  }

  #warn(message: string): void {
    this.#warnings ??= [];
    if (!this.#warnings.includes(message)) this.#warnings.push(message);
  }

  async #path(known: KnownRequest): Promise<void> {
    const { method, headers } = this.#exchange;
    const { info, query, user, signal } = known;
    const answer = await this.#options.paths.answer({
      method,
      path: info.path,
      query,
      accept: header(headers['accept']),
      knownEtag: header(headers['if-none-match']),
      user,
      signal,
    });
    await this.#send(answer.status, answer.headers, [answer.body]);
  }

  async #resource(known: KnownRequest): Promise<void> {
    const { dispatcher, watches, clock, maxBodyBytes } = this.#options;
    const exchange = this.#exchange;
    const { info, query } = known;
    const definition = dispatcher.definition(info);
    this.#definition = definition;
    if (definition === undefined) {
      const { status, headers, body } = notFound();
      await this.#send(status, headers, [body]);
      return;
    }
    const streaming = dispatcher.streaming(definition, info.subresource);
    if (streaming !== undefined) {
      checkMethod(streaming, exchange.method);
      const context = await dispatcher.connect(known, definition);
      await this.#handler.stream(this.#abortable(), () =>
        serveStream(streaming, context, exchange, this.#headers()),
      );
      this.#count(exchange.answered ? 200 : 500, true);
      return;
    }
    if (info.verb === '') throw methodNotAllowed();
    const accept = header(exchange.headers['accept']);
    if (info.verb === 'watch') {
      const form = negotiate(accept, { watch: true, transforms: true, pretty: false });
      await watches.serve(known, definition, form, exchange, () => this.#headers());
      this.#count(200, true);
      return;
    }
    // Reviews and their like are answers, not objects: there is no table of them.
    const transforms = definition.verbs.includes('get');
    const form = negotiate(accept, { watch: false, transforms, pretty: this.#pretty });
    const body = HAS_BODY.has(info.verb) ? await this.#body(maxBodyBytes) : undefined;
    const pending = dispatcher.call(known, definition, body);
    const answer = pending instanceof Promise ? await pending : pending;
    const plain = form.transform === 'none' && form.mediaType === 'application/json' && !form.pretty;
    const bytes = plain ? encodePlain(answer) : [await encodeAnswer(answer, form, query, clock.now())];
    const status = answer.type === 'list' ? 200 : answer.status;
    const sent = this.#send(status, { 'content-type': form.mediaType }, bytes);
    if (sent !== undefined) await sent;
  }

  async #body(limit: number): Promise<RequestBody | undefined> {
    const { headers } = this.#exchange;
    const encoding = header(headers['content-encoding']);
    if (encoding !== undefined && encoding !== 'identity')
      throw new StatusError({
        code: 415,
        reason: 'UnsupportedMediaType',
        message: `the body of the request has the content encoding ${JSON.stringify(encoding)}; send it as it is`,
      });
    const bytes = await this.#exchange.body(limit);
    return { type: 'encoded', bytes, contentType: header(headers['content-type']) ?? '' };
  }

  #headers(): ResponseHeaders {
    const headers: ResponseHeaders = { 'audit-id': this.#auditId, 'cache-control': 'no-cache, private' };
    if (this.#warnings !== undefined) headers['warning'] = this.#warnings.map(warningHeader);
    return headers;
  }

  #send(status: number, headers: ResponseHeaders, body: readonly Uint8Array[]): Promise<void> | undefined {
    this.#count(status, false);
    return send(this.#exchange, status, Object.assign(this.#headers(), headers), body);
  }

  async #fail(thrown: unknown): Promise<void> {
    const error = asStatusError(thrown);
    const exchange = this.#exchange;
    if (error.code >= 500 && !NO_FAULT.has(error.reason))
      this.#options.logger.error(
        { component: 'http', err: error.cause ?? error, method: exchange.method, path: exchange.target },
        'a request failed',
      );
    if (exchange.closed) return;
    if (exchange.answered) {
      exchange.abort();
      return;
    }
    const form = failureForm(header(exchange.headers['accept']), this.#pretty);
    const headers = failureHeaders(error);
    headers['content-type'] = form.mediaType;
    await this.#send(error.code, headers, [await encodeValue(error.status, form)]);
  }

  #count(code: number, longRunning: boolean): void {
    const { clock, metrics } = this.#options;
    const seconds = (clock.monotonic() - this.#started) / 1000;
    const labels = labelsOf(this.#info, this.#definition, this.#query);
    metrics.countRequest(labels, code, seconds, longRunning);
  }
}

/** Reasons of answers above 500 that say nothing against the server: what was asked for is not there yet. */
const NO_FAULT: ReadonlySet<string> = new Set(['ServiceUnavailable', 'Timeout']);
const READ_ONLY: ReadonlySet<string> = new Set(['get', 'list', 'watch', 'head', 'options']);
const HAS_BODY: ReadonlySet<string> = new Set(['create', 'update', 'patch', 'delete', 'deletecollection']);

function header(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(', ') : value;
}

export function unauthorizedRequest(): StatusError {
  return unauthorized('Unauthorized');
}

/** A failure is told in JSON to whoever asked for something that is not served. */
function failureForm(accept: string | undefined, pretty: boolean): ReturnType<typeof negotiate> {
  try {
    return { ...negotiate(accept, { watch: false, transforms: true, pretty }), transform: 'none' };
  } catch {
    return negotiate('application/json', { watch: false, transforms: false, pretty });
  }
}

/** The `timeout` parameter in ms: Go's duration form. Throws 400. */
function timeoutOf(query: URLSearchParams): number | undefined {
  const text = query.size === 0 ? null : query.get('timeout');
  if (text === null || text === '') return undefined;
  const UNITS: Readonly<Record<string, number>> = {
    ns: 1e-6,
    us: 1e-3,
    µs: 1e-3,
    ms: 1,
    s: 1e3,
    m: 6e4,
    h: 36e5,
  };
  if (text.length > 64 || !/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.test(text))
    throw badRequest(
      `invalid timeout specified in the request URL - time: invalid duration ${JSON.stringify(text)}`,
    );
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g))
    total += Number(amount) * UNITS[unit!]!;
  return total === 0 ? undefined : total;
}

/** RFC 7234 §5.5; what cannot stand in a header is left out. */
function warningHeader(message: string): string {
  const text = message
    .replace(/[\p{C}]+/gu, ' ')
    .replace(/[\\"]/g, '\\$&')
    .slice(0, 2048);
  return `299 - "${Buffer.from(text, 'utf8').toString('latin1')}"`;
}

/** Only what is served may become a label: a client must not fill the memory with what it makes up. */
function labelsOf(
  info: RequestInfo | undefined,
  definition: ResourceDefinition | undefined,
  query: URLSearchParams,
): RequestLabels {
  if (info === undefined) return NO_LABELS;
  const verb = VERB_LABELS[info.verb] ?? '';
  if (!info.isResourceRequest) return { ...NO_LABELS, verb, subresource: pathLabel(info.path) };
  if (definition === undefined) return { ...NO_LABELS, verb };
  const { group, version, resource } = definition;
  return {
    verb,
    group,
    version,
    resource,
    subresource: definition.subresources.has(info.subresource) ? info.subresource : '',
    scope:
      info.parts.length > 1 || verb === 'POST' ? 'resource' : info.namespace === '' ? 'cluster' : 'namespace',
    dryRun: query.size > 0 && query.has('dryRun'),
  };
}

const VERB_LABELS: Readonly<Record<string, string>> = {
  get: 'GET',
  head: 'HEAD',
  options: 'OPTIONS',
  post: 'POST',
  put: 'PUT',
  list: 'LIST',
  watch: 'WATCH',
  create: 'POST',
  update: 'PUT',
  patch: 'PATCH',
  delete: 'DELETE',
  deletecollection: 'DELETECOLLECTION',
};

const KNOWN_PATHS = new Set([
  '/healthz',
  '/livez',
  '/readyz',
  '/version',
  '/metrics',
  '/openapi/v2',
  '/api',
  '/apis',
]);

function pathLabel(path: string): string {
  if (KNOWN_PATHS.has(path)) return path;
  return path.startsWith('/openapi/v3') ? '/openapi/v3' : '';
}
