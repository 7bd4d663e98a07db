// Passing a request on to another server (a kubelet, a pod) and its answer back, with back-pressure in both
// directions. Whoever of the two ends goes, the other is let go too.

import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import type { SecureContextOptions } from 'node:tls';
import { promisify } from 'node:util';
import { gunzip, inflate } from 'node:zlib';
import type { StreamingRequest } from '../chain.ts';
import { dialProblem } from './dial-problem.ts';
import { forwardedHeaders, returnedHeaders } from './headers.ts';

/** Nobody who is there needs longer to accept a connection; upstream's dialer allows 30 s. */
const CONNECT_MS = 30_000;

/** Where a request goes on to. */
export interface Backend {
  readonly tls: boolean;
  readonly host: string;
  readonly port: number;
  /** Client certificate and CA; only with `tls`. */
  readonly secureContext?: SecureContextOptions;
  /** False: whatever certificate is shown is taken (`https:` in a proxy URL, insecureSkipTLSVerifyBackend). */
  readonly verify: boolean;
}

/** The connections to backends that are kept for the next request. One a chain; disposing closes them. */
export class Backends implements Disposable {
  readonly #http = new HttpAgent({ keepAlive: true, maxFreeSockets: 16 });
  readonly #https = new HttpsAgent({ keepAlive: true, maxFreeSockets: 16, maxCachedSessions: 64 });

  /**
   * Starts a request; the caller writes the body, listens to `response`, `upgrade` and `error`. Aborting the signal
   * ends it.
   */
  open(
    backend: Backend,
    options: {
      readonly method: string;
      readonly path: string;
      readonly headers: Record<string, string | string[]>;
      readonly signal: AbortSignal;
      /** A connection of its own, for upgrades. */
      readonly alone?: boolean;
    },
  ): ClientRequest {
    const common = {
      host: backend.host,
      port: backend.port,
      method: options.method,
      path: options.path,
      headers: options.headers,
      signal: options.signal,
    };
    const request = backend.tls
      ? httpsRequest({
          ...common,
          ...backend.secureContext,
          agent: options.alone ? false : this.#https,
          rejectUnauthorized: backend.verify,
          // The Host header is the client's: the certificate must be for whom is really spoken to.
          servername: isIP(backend.host) === 0 ? backend.host : '',
        })
      : httpRequest({ ...common, agent: options.alone ? false : this.#http });
    // Only for connecting: what follows may be silent for hours.
    request.setTimeout(CONNECT_MS, () => request.destroy(new Error('i/o timeout')));
    request.once('socket', (socket) => {
      socket.setNoDelay(true);
      if (request.reusedSocket) request.setTimeout(0);
      else socket.once(backend.tls ? 'secureConnect' : 'connect', () => request.setTimeout(0));
    });
    return request;
  }

  [Symbol.dispose](): void {
    this.#http.destroy();
    this.#https.destroy();
  }
}

export interface ForwardOptions {
  readonly backend: Backend;
  readonly method: string;
  readonly path: string;
  readonly headers?: Record<string, string>;
  readonly signal: AbortSignal;
  /** Turns a failure to reach the backend into what the client gets. */
  readonly unreachable: (problem: string) => Error;
}

/**
 * Sends the request without a body and resolves with the answer's head; its body must be read or destroyed. A kept
 * connection may have been closed by the other end at that very moment: then the request goes out once more, on a
 * connection of its own.
 */
export function fetchFrom(
  backends: Backends,
  options: Omit<ForwardOptions, 'headers'> & { readonly headers?: Record<string, string | string[]> },
): Promise<IncomingMessage> {
  const send = (alone: boolean): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const request = backends.open(options.backend, { ...options, headers: { ...options.headers }, alone });
      let answered = false;
      request.once('response', (answer) => {
        answered = true;
        resolve(answer);
      });
      request.on('error', (error: NodeJS.ErrnoException) => {
        if (request.reusedSocket && !answered && error.code === 'ECONNRESET') resolve(send(true));
        else reject(options.unreachable(dialProblem(error, options.backend)));
      });
      request.end();
    });
  return send(false);
}

/** Writes the answer's body to the client as it comes. Resolves when all of it is written, or the client has gone. */
export function returnBody(answer: IncomingMessage, http: StreamingRequest): Promise<void> {
  return returnChunks(answer, answer, http);
}

async function returnChunks(
  answer: IncomingMessage,
  chunks: AsyncIterable<unknown>,
  http: StreamingRequest,
): Promise<void> {
  try {
    for await (const chunk of chunks) await http.write(chunk as Buffer);
    http.end();
  } catch (error) {
    // The head is out: all that is left to say is that the rest is missing.
    http.abort();
    if (!isGone(error)) throw error;
  } finally {
    answer.destroy();
  }
}

/** The client, or the backend, broke off: nobody is left to tell. */
export function isGone(error: unknown): boolean {
  const { code, name } = error as { code?: string; name?: string };
  return (
    name === 'AbortError' ||
    code === 'ECONNRESET' ||
    code === 'ERR_STREAM_PREMATURE_CLOSE' ||
    code === 'EPIPE'
  );
}

export interface ProxyOptions extends ForwardOptions {
  /** Changes the answer's headers before they go back. */
  readonly adjust?: (headers: Record<string, string | string[]>) => Record<string, string | string[]>;
  /** Changes the answer's body where it says so; undefined leaves it alone. */
  readonly rewrite?: (answer: IncomingMessage) => ((body: Buffer) => Buffer) | undefined;
}

const gunzipped = promisify(gunzip);
const inflated = promisify(inflate);

/** A body that is rewritten must be held whole; a longer one goes through as it is. */
const LONGEST_REWRITE = 4 * 1024 * 1024;

/** Passes a whole request on, body and all, and the answer back. */
export async function proxyRequest(
  backends: Backends,
  http: StreamingRequest,
  options: ProxyOptions,
): Promise<void> {
  const headers = { ...forwardedHeaders(http.headers), ...options.headers };
  const length = headers['content-length'];
  const bodiless =
    (http.method === 'GET' || http.method === 'HEAD') &&
    (length === undefined || length === '0') &&
    http.headers['transfer-encoding'] === undefined;
  const answer = await (bodiless
    ? fetchFrom(backends, { ...options, headers })
    : sendWhole(backends, http, { ...options, headers }));
  const adjust = options.adjust ?? ((headers) => headers);
  const returned = adjust(returnedHeaders(answer.headers));
  const rewrite = options.rewrite?.(answer);
  if (rewrite) return returnRewritten(answer, http, returned, rewrite);
  http.respond(answer.statusCode ?? 502, returned);
  await returnBody(answer, http);
}

/** A body cannot be sent twice, so the request gets a connection of its own, which nobody is about to close. */
async function sendWhole(
  backends: Backends,
  http: StreamingRequest,
  options: Omit<ForwardOptions, 'headers'> & { readonly headers: Record<string, string | string[]> },
): Promise<IncomingMessage> {
  const request = backends.open(options.backend, { ...options, alone: true });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.on('error', (error) => reject(options.unreachable(dialProblem(error, options.backend))));
  });
  // Both run at once: a backend may answer before it has read everything.
  sendBody(http, request).catch((error: unknown) => request.destroy(error as Error));
  return answered;
}

async function sendBody(http: StreamingRequest, request: ClientRequest): Promise<void> {
  for await (const chunk of http.body) {
    if (request.destroyed) return;
    if (!request.write(chunk)) await drained(request);
  }
  request.end();
}

function drained(request: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      request.off('drain', done);
      request.off('close', done);
      resolve();
    };
    request.on('drain', done);
    request.on('close', done);
  });
}

async function returnRewritten(
  answer: IncomingMessage,
  http: StreamingRequest,
  headers: Record<string, string | string[]>,
  rewrite: (body: Buffer) => Buffer,
): Promise<void> {
  const held: Buffer[] = [];
  let size = 0;
  const parts = answer[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  for (;;) {
    const { done, value } = await parts.next();
    if (done) break;
    held.push(value);
    size += value.length;
    if (size <= LONGEST_REWRITE) continue;
    http.respond(answer.statusCode ?? 502, headers);
    return returnChunks(answer, heldThenRest(held, parts), http);
  }
  const whole = Buffer.concat(held);
  const plain = await decoded(whole, answer.headers['content-encoding']);
  if (plain === undefined) {
    http.respond(answer.statusCode ?? 502, headers);
    await http.write(whole);
    http.end();
    return;
  }
  const { 'content-encoding': _encoding, ...others } = headers;
  const body = rewrite(plain);
  http.respond(answer.statusCode ?? 502, { ...others, 'content-length': String(body.length) });
  await http.write(body);
  http.end();
}

/** Undefined when the encoding is not known, or what it says is not so: then the body goes through as it is. */
async function decoded(body: Buffer, encoding = 'identity'): Promise<Buffer | undefined> {
  const limit = { maxOutputLength: LONGEST_REWRITE };
  try {
    switch (encoding.trim().toLowerCase()) {
      case '':
      case 'identity':
        return body;
      case 'gzip':
      case 'x-gzip':
        return await gunzipped(body, limit);
      case 'deflate':
        return await inflated(body, limit);
      default:
        return undefined;
    }
  } catch {
    return undefined;
  }
}

async function* heldThenRest(held: readonly Buffer[], rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  yield* held;
  for (;;) {
    const { done, value } = await rest.next();
    if (done) return;
    yield value;
  }
}
