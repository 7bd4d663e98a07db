// The transport over HTTPS: the calls of src/api/transport.ts as requests of the Kubernetes HTTP API, JSON both ways,
// on HTTP/2. It adds what a network needs: 429 and Retry-After are waited out, a 401 leads to fresh credentials once,
// reads are tried again on a connection that turns out to be dead, and every failure is a StatusError or a
// ConnectionError that says what was asked of whom.

import type { OutgoingHttpHeaders } from 'node:http2';
import type { ApiCall, Transport, WatchCall, WatchEvent } from '../api/index.ts';
import { type Clock, type Logger, silentLogger, systemClock } from '../component/index.ts';
import {
  anonymous,
  type Credentials,
  certificateFiles,
  combined,
  staticCertificate,
  staticToken,
  tokenFile,
} from './credentials.ts';
import { type Answer, ConnectionError, Http2Connections } from './http2-connection.ts';
import { delay } from './retry.ts';
import { statusErrorFromResponse } from './status.ts';
import { watchEvents } from './watch-stream.ts';

/** Retries of one request that the server asked for with Retry-After, as client-go. */
const MAX_RETRIES = 10;

export interface HttpsTransportOptions {
  /** `https://host:port`, with a path when the API is not at the root. */
  readonly server: string;
  /** PEM of the CAs that may have signed the server's certificate; absent: those that Node knows. */
  readonly ca?: string | Buffer;
  readonly insecureSkipTlsVerify?: boolean;
  /** The name that the server's certificate must carry, when it is not the URL's host. */
  readonly serverName?: string;
  /** PEM of the client's certificate and key, or the files they are in (read again when they change). */
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly token?: string;
  /** Read again when it changes; wins over `token`. */
  readonly tokenFile?: string;
  /** Instead of the fields above. */
  readonly credentials?: Credentials;
  readonly userAgent?: string;
  readonly clock?: Clock;
  readonly logger?: Logger;
  /** Called with the text of each Warning header; when absent each text is logged once. */
  readonly onWarning?: (text: string) => void;
}

export interface HttpsTransport extends Transport, AsyncDisposable {
  readonly server: string;
}

/** Connects on first use. Throws at once for options that cannot work. */
export function httpsTransport(options: HttpsTransportOptions): HttpsTransport {
  return new Http2Transport(options);
}

const METHODS = {
  get: 'GET',
  list: 'GET',
  create: 'POST',
  update: 'PUT',
  patch: 'PATCH',
  delete: 'DELETE',
  deletecollection: 'DELETE',
} as const satisfies Record<ApiCall['verb'], string>;

interface Request {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For messages. */
  readonly what: string;
}

class Http2Transport implements HttpsTransport {
  readonly server: string;
  readonly #connections: Http2Connections;
  readonly #credentials: Credentials;
  readonly #clock: Clock;
  readonly #basePath: string;
  readonly #authority: string;
  readonly #userAgent: string;
  readonly #onWarning: (text: string) => void;

  constructor(options: HttpsTransportOptions) {
    const server = parseServer(options.server);
    const logger = options.logger ?? silentLogger;
    this.server = options.server;
    this.#clock = options.clock ?? systemClock;
    this.#basePath = server.pathname.replace(/\/+$/, '');
    this.#authority = server.host;
    this.#userAgent = options.userAgent ?? 'bulkhead';
    this.#onWarning = options.onWarning ?? logOnce(logger, options.server);
    this.#credentials = options.credentials ?? credentialsOf(options, this.#clock);
    this.#connections = new Http2Connections({
      server,
      clock: this.#clock,
      logger,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
      ...(options.insecureSkipTlsVerify === undefined
        ? {}
        : { insecureSkipTlsVerify: options.insecureSkipTlsVerify }),
      ...(options.serverName === undefined ? {} : { serverName: options.serverName }),
    });
  }

  async call(call: ApiCall): Promise<unknown> {
    const headers: Record<string, string> = {
      accept: call.metadataOnly ? metadataAccept(call.verb === 'list') : 'application/json',
    };
    if (call.body !== undefined) headers['content-type'] = call.patchType ?? 'application/json';
    const request: Request = {
      method: METHODS[call.verb],
      path: this.#path(call, call.name, call.subresource, call.query),
      headers,
      body: call.body === undefined ? undefined : new TextEncoder().encode(JSON.stringify(call.body)),
      signal: call.signal,
      what: `${call.verb} ${call.resource.resource}${call.name ? ` "${call.name}"` : ''}`,
    };
    const answer = await this.#ask(request);
    const body = await this.#read(answer, request);
    if (answer.status < 200 || answer.status > 299)
      throw statusErrorFromResponse({ status: answer.status, headers: answer.headers, body }, request.what);
    const text = new TextDecoder().decode(body);
    try {
      return JSON.parse(text);
    } catch (error) {
      // A subresource such as a pod's log answers with plain text.
      if (answer.headers['content-type']?.startsWith('application/json') !== true) return text;
      throw new ConnectionError(`${request.what}: the server's answer is not JSON`, { cause: error });
    }
  }

  async watch(call: WatchCall): Promise<AsyncIterable<WatchEvent>> {
    const request: Request = {
      method: 'GET',
      path: this.#path(call, undefined, undefined, { ...call.query, watch: 'true' }),
      headers: { accept: call.metadataOnly ? metadataAccept(false) : 'application/json' },
      signal: call.signal,
      what: `watch ${call.resource.resource}`,
    };
    const answer = await this.#ask(request);
    if (answer.status !== 200) {
      const body = await this.#read(answer, request);
      throw statusErrorFromResponse({ status: answer.status, headers: answer.headers, body }, request.what);
    }
    return this.#events(answer, request);
  }

  async raw(request: Parameters<Transport['raw']>[0]): ReturnType<Transport['raw']> {
    const asked: Request = {
      method: request.method,
      path: `${this.#basePath}${request.path}`,
      headers: request.headers ?? {},
      body: request.body,
      signal: request.signal,
      what: `${request.method} ${request.path}`,
    };
    const answer = await this.#ask(asked);
    return { status: answer.status, headers: answer.headers, body: await this.#read(answer, asked) };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#connections[Symbol.asyncDispose]();
  }

  #path(
    call: ApiCall | WatchCall,
    name: string | undefined,
    subresource: string | undefined,
    query: ApiCall['query'],
  ): string {
    const { group, version, resource } = call.resource;
    let path = `${this.#basePath}${group === '' ? '/api' : `/apis/${group}`}/${version}`;
    if (call.namespace !== undefined) path += `/namespaces/${encodeURIComponent(call.namespace)}`;
    path += `/${resource}`;
    if (name !== undefined) path += `/${encodeURIComponent(name)}`;
    if (subresource !== undefined) path += `/${subresource}`;
    const parameters = new URLSearchParams();
    for (const [key, value] of Object.entries(query ?? {}))
      for (const one of typeof value === 'string' ? [value] : value) parameters.append(key, one);
    return parameters.size === 0 ? path : `${path}?${parameters}`;
  }

  /** Sends the request, again where the server asks for it or it is harmless, and resolves with the answer's head. */
  async #ask(request: Request): Promise<Answer> {
    let fresh = false;
    let reconnected = false;
    for (let retries = 0; ; ) {
      const [authorization, certificate] = await Promise.all([
        this.#credentials.authorization(),
        this.#credentials.certificate(),
      ]);
      const headers: OutgoingHttpHeaders = {
        ':method': request.method,
        ':path': request.path,
        ':authority': this.#authority,
        ':scheme': 'https',
        'user-agent': this.#userAgent,
        ...request.headers,
      };
      if (authorization !== undefined) headers['authorization'] = authorization;
      if (request.body !== undefined) headers['content-length'] = request.body.length;
      let answer: Answer;
      try {
        answer = await this.#connections.request(headers, request.body, certificate, request.signal);
      } catch (error) {
        // A read changes nothing, so it may be asked twice: the connection had died unnoticed.
        if (!(error instanceof ConnectionError) || request.method !== 'GET' || reconnected) throw error;
        reconnected = true;
        continue;
      }
      for (const text of warningTexts(answer.headers['warning'])) this.#onWarning(text);
      if (answer.status === 401 && !fresh && (await this.#credentials.refused())) {
        fresh = true;
        answer.body.cancel();
        continue;
      }
      const wait = retryAfterMs(answer);
      if (wait === undefined || retries >= MAX_RETRIES) return answer;
      retries++;
      answer.body.cancel();
      await delay(this.#clock, wait, request.signal);
    }
  }

  async #read({ body }: Answer, request: Request): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of body) chunks.push(chunk);
    } catch (error) {
      throw this.#broken(error, request);
    }
    return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  }

  async *#events({ body }: Answer, request: Request): AsyncGenerator<WatchEvent> {
    try {
      yield* watchEvents(body);
    } catch (error) {
      if (request.signal?.aborted === true) return;
      throw this.#broken(error, request);
    } finally {
      body.cancel();
    }
  }

  #broken(error: unknown, request: Request): unknown {
    if (request.signal?.aborted) return request.signal.reason;
    const why = error instanceof Error ? error.message : String(error);
    return new ConnectionError(`${request.what}: the connection to ${this.server} broke: ${why}`, {
      cause: error,
    });
  }
}

function parseServer(text: string): URL {
  let url: URL;
  try {
    url = new URL(text.includes('://') ? text : `https://${text}`);
  } catch (error) {
    throw new Error(`the server's address "${text}" is not a URL`, { cause: error });
  }
  if (url.protocol !== 'https:')
    throw new Error(
      `the server's address "${text}" must begin with https://: other schemes are not supported`,
    );
  return url;
}

function credentialsOf(options: HttpsTransportOptions, clock: Clock): Credentials {
  const { cert, key, certFile, keyFile, token } = options;
  if ((cert === undefined) !== (key === undefined) || (certFile === undefined) !== (keyFile === undefined))
    throw new Error('a client certificate needs its key, and the key its certificate');
  const certificate =
    cert !== undefined && key !== undefined
      ? staticCertificate({ cert, key })
      : certFile !== undefined && keyFile !== undefined
        ? certificateFiles(certFile, keyFile, clock)
        : anonymous;
  const bearer =
    options.tokenFile !== undefined
      ? tokenFile(options.tokenFile, clock)
      : token !== undefined
        ? staticToken(token)
        : anonymous;
  return combined(certificate, bearer);
}

function metadataAccept(list: boolean): string {
  const kind = list ? 'PartialObjectMetadataList' : 'PartialObjectMetadata';
  return `application/json;as=${kind};g=meta.k8s.io;v=v1,application/json`;
}

/** How long the server asks us to wait before we try again; undefined when it does not. */
function retryAfterMs({ status, headers }: Answer): number | undefined {
  if (status !== 429 && status < 500) return undefined;
  const seconds = Number(headers['retry-after']);
  return headers['retry-after'] === undefined || !Number.isInteger(seconds)
    ? undefined
    : Math.max(0, seconds * 1000);
}

/** Each warning once: a watch that is taken up again every few minutes would repeat it for ever. */
function logOnce(logger: Logger, server: string): (text: string) => void {
  const seen = new Set<string>();
  return (text) => {
    if (seen.has(text) || seen.size >= 1000) return;
    seen.add(text);
    logger.warn({ server, warning: text }, 'the server warns');
  };
}

/** `299 - "text"`, several of them separated by commas (RFC 9111 5.5, as the API server writes it). */
function warningTexts(header: string | undefined): string[] {
  if (header === undefined) return [];
  return [...header.matchAll(/299 \S+ "((?:[^"\\]|\\.)*)"/g)].map(([, text = '']) =>
    text.replace(/\\(.)/g, '$1'),
  );
}
