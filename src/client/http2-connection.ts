// HTTP/2 connections to one API server: as few as the server's limit on streams allows (usually one), made when
// needed, made anew when they break, and pinged so that a peer that vanished without a word is noticed.
//
// A request that the server has surely not begun (refused stream, GOAWAY) is sent again on another connection; what
// else fails in transit is a ConnectionError, and the caller decides.

import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { isIP } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Clock, Logger, Timer } from '../component/index.ts';
import type { ClientCertificate } from './credentials.ts';

/** As client-go: a ping when nothing was heard for 30 s, and 15 s for the answer. */
const PING_AFTER_MS = 30_000;
const PING_TIMEOUT_MS = 15_000;
const DIAL_TIMEOUT_MS = 30_000;
/** Flow-control windows: lists are tens of megabytes, and one slow watch must not hold up the others. */
const STREAM_WINDOW = 4 << 20;
const SESSION_WINDOW = 64 << 20;

/** The server could not be reached, or the connection broke before the answer was complete. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
}

export interface ConnectionOptions {
  readonly server: URL;
  /** PEM; absent: the CAs that Node knows. */
  readonly ca?: string | Buffer;
  readonly insecureSkipTlsVerify?: boolean;
  /** The name that the server's certificate must have, when it is not the URL's host. */
  readonly serverName?: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An answer whose headers have come. Whoever gets it iterates over `body` to its end, or cancels it. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: AnswerBody;
}

interface Connection {
  readonly session: ClientHttp2Session;
  readonly certificate: ClientCertificate | undefined;
  streams: number;
  /** No new streams: it is going away. */
  retired: boolean;
}

export class Http2Connections implements AsyncDisposable {
  readonly #options: ConnectionOptions;
  readonly #connections = new Set<Connection>();
  #dialing:
    | { readonly certificate: ClientCertificate | undefined; readonly promise: Promise<Connection> }
    | undefined;
  #disposed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /**
   * Sends one request and resolves when the answer's headers are there. Rejects with a ConnectionError, or with the
   * signal's reason when it aborts; an abort later destroys the body.
   */
  async request(
    headers: OutgoingHttpHeaders,
    body: Uint8Array | undefined,
    certificate: ClientCertificate | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      const connection = await this.#connection(certificate);
      try {
        return await this.#send(connection, headers, body, signal);
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        if (error instanceof UnprocessedError && attempt < 3) continue;
        const cause = error instanceof UnprocessedError ? error.cause : error;
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new ConnectionError(`the connection to ${this.#options.server.origin} failed: ${why}`, {
          cause,
        });
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    const closing = [...this.#connections].map(
      ({ session }) =>
        new Promise<void>((resolve) => {
          session.once('close', resolve);
          session.destroy();
        }),
    );
    await this.#dialing?.promise.catch(() => {});
    await Promise.all(closing);
  }

  async #connection(certificate: ClientCertificate | undefined): Promise<Connection> {
    for (;;) {
      if (this.#disposed)
        throw new ConnectionError(`the transport to ${this.#options.server.origin} was disposed`);
      for (const connection of this.#connections) {
        // Another certificate is another identity: what runs may end, nothing new begins.
        if (connection.certificate !== certificate) this.#retire(connection);
        else if (!connection.retired && connection.streams < limit(connection.session)) return connection;
      }
      if (this.#dialing && this.#dialing.certificate !== certificate) {
        await this.#dialing.promise.catch(() => {});
        continue;
      }
      this.#dialing ??= {
        certificate,
        promise: this.#dial(certificate).finally(() => {
          this.#dialing = undefined;
        }),
      };
      await this.#dialing.promise;
    }
  }

  async #dial(certificate: ClientCertificate | undefined): Promise<Connection> {
    const { server, logger } = this.#options;
    const socket = await this.#connectTls(certificate);
    const session = connectHttp2(server.origin, {
      createConnection: () => socket,
      settings: { initialWindowSize: STREAM_WINDOW, enablePush: false },
    });
    const connection: Connection = { session, certificate, streams: 0, retired: false };
    await new Promise<void>((resolve, reject) => {
      // The server's settings tell how many streams it takes; before them we would have to guess.
      session.once('remoteSettings', () => resolve());
      session.once('error', reject);
      session.once('close', () => reject(new Error('the server closed the connection')));
    }).catch((error: unknown) => {
      session.destroy();
      throw unreachable(server, error);
    });
    if (this.#disposed) {
      session.destroy();
      throw new ConnectionError(`the transport to ${server.origin} was disposed`);
    }
    session.setLocalWindowSize(SESSION_WINDOW);
    this.#connections.add(connection);
    const stopPings = this.#ping(connection);
    session.on('goaway', () => this.#retire(connection));
    session.on('error', (error) => logger.debug({ err: error, server: server.origin }, 'connection failed'));
    session.once('close', () => {
      connection.retired = true;
      this.#connections.delete(connection);
      stopPings();
    });
    // An idle connection does not keep the process alive.
    session.unref();
    return connection;
  }

  #connectTls(certificate: ClientCertificate | undefined): Promise<TLSSocket> {
    const { server, ca, insecureSkipTlsVerify, serverName, clock } = this.#options;
    const host = server.hostname.replace(/^\[|\]$/g, '');
    const name = serverName ?? (isIP(host) === 0 ? host : undefined);
    return new Promise((resolve, reject) => {
      const socket = connectTls({
        host,
        port: Number(server.port || 443),
        ALPNProtocols: ['h2', 'http/1.1'],
        rejectUnauthorized: insecureSkipTlsVerify !== true,
        ...(name === undefined ? {} : { servername: name }),
        ...(ca === undefined ? {} : { ca }),
        ...(certificate ? { cert: certificate.cert, key: certificate.key } : {}),
      });
      const timer = clock.setTimer(
        DIAL_TIMEOUT_MS,
        () => socket.destroy(new Error(`no connection within ${DIAL_TIMEOUT_MS / 1000} s`)),
        { unref: true },
      );
      socket.once('error', (error) => {
        timer.cancel();
        reject(unreachable(server, error));
      });
      socket.once('secureConnect', () => {
        timer.cancel();
        if (socket.alpnProtocol === 'h2') {
          socket.setNoDelay(true);
          resolve(socket);
          return;
        }
        socket.destroy();
        reject(new ConnectionError(`${server.origin} does not speak HTTP/2, which this client needs`));
      });
    });
  }

  #retire(connection: Connection): void {
    if (connection.retired) return;
    connection.retired = true;
    // close() lets the open streams end by themselves.
    connection.session.close();
  }

  /** Pings for as long as the connection lives and ends it when an answer stays out. */
  #ping({ session }: Connection): () => void {
    const { clock, logger, server } = this.#options;
    let timer: Timer;
    const schedule = (): void => {
      timer = clock.setTimer(PING_AFTER_MS, send, { unref: true });
    };
    const send = (): void => {
      if (session.destroyed) return;
      timer = clock.setTimer(
        PING_TIMEOUT_MS,
        () => {
          logger.warn(
            { server: server.origin },
            'the server does not answer pings; the connection is given up',
          );
          session.destroy(new Error('the server does not answer pings'));
        },
        { unref: true },
      );
      try {
        session.ping(() => {
          timer.cancel();
          if (!session.destroyed) schedule();
        });
      } catch (error) {
        // The session ended between the check and the ping.
        timer.cancel();
        logger.debug({ err: error, server: server.origin }, 'no ping: the connection is closing');
      }
    };
    schedule();
    return () => timer.cancel();
  }

  #send(
    connection: Connection,
    headers: OutgoingHttpHeaders,
    body: Uint8Array | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Answer> {
    const { session } = connection;
    return new Promise((resolve, reject) => {
      let stream: ClientHttp2Stream;
      try {
        stream = session.request(headers, { endStream: body === undefined });
      } catch (error) {
        this.#retire(connection);
        reject(new UnprocessedError(error));
        return;
      }
      if (connection.streams++ === 0) session.ref();
      const onAbort = (): void => cancelStream(stream);
      signal?.addEventListener('abort', onAbort, { once: true });
      let failure: unknown;
      stream.once('response', (received) =>
        resolve({
          status: Number(received[':status'] ?? 0),
          headers: flatten(received),
          body: new AnswerBody(stream, signal),
        }),
      );
      stream.on('error', (error) => {
        failure = error;
      });
      stream.once('close', () => {
        signal?.removeEventListener('abort', onAbort);
        if (--connection.streams === 0 && !session.destroyed) session.unref();
        // Too late for these when the headers have come: then the body's reader learns of the failure.
        if (signal?.aborted) reject(signal.reason);
        else if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM || isUnprocessed(failure)) {
          this.#retire(connection);
          reject(new UnprocessedError(failure ?? new Error('the server refused the stream')));
        } else reject(failure ?? new Error('the connection was closed before the answer came'));
      });
      if (body !== undefined) stream.end(body);
    });
  }
}

/** Unread bytes above which the server is told to wait (by the flow control of the stream). */
const UNREAD_LIMIT = 1 << 20;

/**
 * The bytes of an answer, to be iterated over once. It takes them from the stream as they come: Node's own iterator
 * fails when it is begun after the stream was closed, even if nothing is missing.
 * Iteration throws when the connection breaks or the server resets the stream, and the signal's reason on abort.
 */
export class AnswerBody implements AsyncIterable<Uint8Array> {
  readonly #stream: ClientHttp2Stream;
  readonly #signal: AbortSignal | undefined;
  #chunks: Uint8Array[] = [];
  #unread = 0;
  #complete = false;
  #closed = false;
  #error: unknown;
  #wake: (() => void) | undefined;

  constructor(stream: ClientHttp2Stream, signal: AbortSignal | undefined) {
    this.#stream = stream;
    this.#signal = signal;
    stream.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#unread += chunk.length;
      if (this.#unread > UNREAD_LIMIT) stream.pause();
      this.#wake?.();
    });
    stream.once('end', () => {
      this.#complete = true;
    });
    stream.on('error', (error) => {
      this.#error = error;
    });
    stream.once('close', () => {
      this.#closed = true;
      this.#wake?.();
    });
  }

  cancel(): void {
    cancelStream(this.#stream);
  }

  async *[Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    for (;;) {
      const chunks = this.#chunks;
      if (chunks.length > 0) {
        this.#chunks = [];
        this.#unread = 0;
        if (this.#stream.isPaused()) this.#stream.resume();
        yield* chunks;
      } else if (this.#closed) {
        if (this.#signal?.aborted) throw this.#signal.reason;
        const { rstCode } = this.#stream;
        if (this.#complete && rstCode === constants.NGHTTP2_NO_ERROR) return;
        throw this.#error ?? new Error(`the stream was cut short (code ${rstCode})`);
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    }
  }
}

/** Closing alone would wait until somebody has read what is there. */
function cancelStream(stream: ClientHttp2Stream): void {
  stream.close(constants.NGHTTP2_CANCEL);
  stream.destroy();
}

/** The server has surely not acted on the request. */
class UnprocessedError extends Error {
  constructor(cause: unknown) {
    super('the request was not processed', { cause });
  }
}

function isUnprocessed(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ERR_HTTP2_GOAWAY_SESSION' || code === 'ERR_HTTP2_INVALID_SESSION';
}

function limit(session: ClientHttp2Session): number {
  return session.remoteSettings.maxConcurrentStreams ?? 100;
}

function unreachable(server: URL, error: unknown): ConnectionError {
  if (error instanceof ConnectionError) return error;
  const why = error instanceof Error ? error.message : String(error);
  return new ConnectionError(`cannot reach the API server at ${server.origin}: ${why}`, { cause: error });
}

function flatten(headers: IncomingHttpHeaders): Record<string, string> {
  const flat: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined && !name.startsWith(':'))
      flat[name] = Array.isArray(value) ? value.join(', ') : value;
  return flat;
}
