// Passing a request on to another server (a kubelet, a pod) and its answer back: plain requests with back-pressure in
// both directions, and upgraded connections byte by byte. Whoever of the two ends goes, the other is let go too, so
// that nothing is left behind.

import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
  STATUS_CODES,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions } from 'node:tls';
import type { StreamingRequest, StreamingUpgrade } from '../chain.ts';
import { dialProblem } from './dial-problem.ts';
import { forwardedHeaders, returnedHeaders, upgradeHeaders } from './headers.ts';

/** Nobody who is there needs longer to accept a connection; upstream's dialer allows 30 s. */
const CONNECT_MS = 30_000;
/** An answer that refuses an upgrade is passed back up to this size. */
const LONGEST_REFUSAL = 64 * 1024;

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

/** Sends the request without a body and resolves with the answer's head; its body must be read or destroyed. */
export function fetchFrom(backends: Backends, options: ForwardOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = backends.open(options.backend, { ...options, headers: { ...options.headers } });
    request.once('response', resolve);
    request.on('error', (error) => reject(options.unreachable(dialProblem(error, options.backend))));
    request.end();
  });
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
function isGone(error: unknown): boolean {
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

/** A body that is rewritten must be held whole; a longer one goes through as it is. */
const LONGEST_REWRITE = 4 * 1024 * 1024;

/** Passes a whole request on, body and all, and the answer back. */
export async function proxyRequest(
  backends: Backends,
  http: StreamingRequest,
  options: ProxyOptions,
): Promise<void> {
  const request = backends.open(options.backend, {
    ...options,
    headers: { ...forwardedHeaders(http.headers), ...options.headers },
  });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.on('error', (error) => reject(options.unreachable(dialProblem(error, options.backend))));
  });
  // Both run at once: a backend may answer before it has read everything.
  const sent = sendBody(http, request);
  sent.catch((error: unknown) => request.destroy(error as Error));
  const answer = await answered;
  const adjust = options.adjust ?? ((headers) => headers);
  const headers = adjust(returnedHeaders(answer.headers));
  const rewrite = options.rewrite?.(answer);
  if (rewrite) return returnRewritten(answer, http, headers, rewrite);
  http.respond(answer.statusCode ?? 502, headers);
  await returnBody(answer, http);
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
  const body = rewrite(Buffer.concat(held));
  http.respond(answer.statusCode ?? 502, { ...headers, 'content-length': String(body.length) });
  await http.write(body);
  http.end();
}

async function* heldThenRest(held: readonly Buffer[], rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  yield* held;
  for (;;) {
    const { done, value } = await rest.next();
    if (done) return;
    yield value;
  }
}

/**
 * Passes an upgrade on and joins the two connections when the backend agrees. Resolves when both are closed; rejects
 * (before anything was written to the client) when the backend cannot be reached. A backend's refusal goes back as it
 * came.
 */
export async function proxyUpgrade(
  backends: Backends,
  upgrade: StreamingUpgrade,
  options: ForwardOptions,
): Promise<void> {
  const request = backends.open(options.backend, {
    ...options,
    alone: true,
    headers: { ...upgradeHeaders(upgrade.rawHeaders), ...options.headers },
  });
  const outcome = await new Promise<{
    readonly answer: IncomingMessage;
    readonly socket?: Duplex;
    readonly head?: Buffer;
  }>((resolve, reject) => {
    request.once('upgrade', (answer, socket, head) => resolve({ answer, socket, head }));
    request.once('response', (answer) => resolve({ answer }));
    request.on('error', (error) => reject(options.unreachable(dialProblem(error, options.backend))));
    request.end();
  });
  const { answer, socket, head } = outcome;
  if (!socket) return refuseAs(answer, upgrade.socket);
  upgrade.socket.write(headOf(answer));
  await splice(upgrade.socket, socket, upgrade.head, head ?? Buffer.alloc(0));
}

function headOf(answer: IncomingMessage): string {
  const status = answer.statusCode ?? 502;
  const lines = [`HTTP/1.1 ${status} ${answer.statusMessage || STATUS_CODES[status] || 'Unknown'}`];
  for (let i = 0; i + 1 < answer.rawHeaders.length; i += 2)
    lines.push(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

async function refuseAs(answer: IncomingMessage, client: Duplex): Promise<void> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer) {
    chunks.push(chunk as Buffer);
    size += (chunk as Buffer).length;
    if (size > LONGEST_REFUSAL) break;
  }
  answer.destroy();
  const body = Buffer.concat(chunks).subarray(0, LONGEST_REFUSAL);
  const status = answer.statusCode ?? 502;
  // What is neither an upgrade nor an error must not be taken for an answer to the request.
  const code = status < 400 ? 500 : status;
  const text = status < 400 ? Buffer.from(`invalid upgrade response: status code ${status}`) : body;
  const lines = [
    `HTTP/1.1 ${code} ${STATUS_CODES[code] ?? 'Error'}`,
    `content-type: ${answer.headers['content-type'] ?? 'text/plain; charset=utf-8'}`,
    `content-length: ${text.length}`,
    'connection: close',
  ];
  client.write(`${lines.join('\r\n')}\r\n\r\n`);
  client.end(text);
}

/** What was still to be written to a side whose partner has gone gets this long. */
const LINGER_MS = 10_000;
/**
 * How long a connection that one side has ended may stay silent. A client that was killed looks like one that only
 * has nothing more to say; what speaks SPDY or WebSocket ends both ways at once.
 */
const HALF_OPEN_MS = 30_000;

/**
 * Joins two connections until both are closed. An end that one side sends is sent on (half-close); an error or a
 * close of one ends the other after what was under way has been written.
 */
export function splice(a: Duplex, b: Duplex, headOfA: Uint8Array, headOfB: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    let open = 2;
    let silence: NodeJS.Timeout | undefined;
    const closed = (other: Duplex): void => {
      if (--open === 0) {
        clearTimeout(silence);
        resolve();
      } else if (!other.destroyed) letGo(other);
    };
    const join = (from: Duplex, to: Duplex, head: Uint8Array): void => {
      // What was upgraded may end one way and go on the other.
      from.allowHalfOpen = true;
      if (head.length > 0) to.write(head);
      from.on('data', (chunk: Buffer) => {
        silence?.refresh();
        if (!to.write(chunk)) from.pause();
      });
      to.on('drain', () => from.resume());
      from.on('end', () => {
        to.end();
        silence ??= setTimeout(() => {
          a.destroy();
          b.destroy();
        }, HALF_OPEN_MS).unref();
      });
      // `close` follows, and tells the other side.
      from.on('error', () => from.destroy());
      if (from.closed) closed(to);
      else from.once('close', () => closed(to));
    };
    join(a, b, headOfA);
    join(b, a, headOfB);
  });
}

/** Ends a connection whose partner has gone: what is under way is written, then nothing more is waited for. */
function letGo(side: Duplex): void {
  const linger = setTimeout(() => side.destroy(), LINGER_MS).unref();
  side.once('close', () => clearTimeout(linger));
  side.end();
  if (side.writableFinished) side.destroy();
  else side.once('finish', () => side.destroy());
}
