// Queries over TCP at one address (RFC 7766): each message behind its length, several on one connection, answered in
// whatever order the answers come. Clients may be slow or hostile: connections are few for each address and in all,
// live only while whole queries come in and answers go out, and are not read from while their answers pile up.

import { createServer, isIPv6, type Server, type Socket } from 'node:net';
import type { Clock, Logger, Timer } from '../../component/index.ts';
import { HEADER_BYTES } from '../message/constants.ts';
import type { ListenerMetrics } from '../metrics.ts';
import type { PacketReceiver } from './responder.ts';

const MAX_CONNECTIONS = 1000;
const MAX_CONNECTIONS_EACH = 200;
/** Queries of one connection that are being answered at once. */
const MAX_OUTSTANDING = 100;
/** RFC 7766 §6.2.3 asks for some seconds; CoreDNS has eight. */
const IDLE_MS = 10_000;

export interface TcpListenerOptions {
  readonly address: string;
  readonly port: number;
  readonly responder: PacketReceiver;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: (port: number) => ListenerMetrics;
  /** Milliseconds without a whole query or an answer taken, after which a connection is closed. */
  readonly idleMs?: number;
}

export interface TcpListener extends AsyncDisposable {
  readonly port: number;
  readonly connections: number;
}

/** Rejects with the system's error when the address cannot be had. */
export async function listenTcp(options: TcpListenerOptions): Promise<TcpListener> {
  const { address, responder, clock, logger, idleMs = IDLE_MS } = options;
  const connections = new Set<Connection>();
  const perAddress = new Map<string, number>();
  let metrics: ListenerMetrics | undefined;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const host = socket.remoteAddress ?? '';
    const count = perAddress.get(host) ?? 0;
    if (metrics === undefined || connections.size >= MAX_CONNECTIONS || count >= MAX_CONNECTIONS_EACH) {
      socket.on('error', () => {});
      socket.resetAndDestroy();
      return;
    }
    perAddress.set(host, count + 1);
    const connection = new Connection(socket, { responder, metrics, clock, idleMs }, () => {
      connections.delete(connection);
      const left = (perAddress.get(host) ?? 1) - 1;
      if (left > 0) perAddress.set(host, left);
      else perAddress.delete(host);
    });
    connections.add(connection);
  });
  const port = await listen(server, address, options.port);
  server.on('error', (error) =>
    logger.warn({ err: error, address, port }, 'accepting DNS queries over TCP failed; it goes on'),
  );
  metrics = options.metrics(port);
  return {
    port,
    get connections() {
      return connections.size;
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((done) => server.close(() => done()));
      for (const connection of [...connections]) connection.destroy();
      await closed;
    },
  };
}

async function listen(server: Server, address: string, port: number): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ host: address, port, exclusive: true, ipv6Only: isIPv6(address) }, resolve);
  await promise;
  server.removeListener('error', reject);
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound.port : port;
}

interface ConnectionOptions {
  readonly responder: PacketReceiver;
  readonly metrics: ListenerMetrics;
  readonly clock: Clock;
  readonly idleMs: number;
}

class Connection {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #closed: () => void;
  /** What came and is not yet a whole message. */
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #outstanding = 0;
  #ended = false;
  /** When something was last done for the client: a whole query taken, or answers taken by it. */
  #progress: number;
  #timer: Timer | undefined;
  #destroyed = false;

  constructor(socket: Socket, options: ConnectionOptions, closed: () => void) {
    this.#socket = socket;
    this.#options = options;
    this.#closed = closed;
    this.#progress = options.clock.monotonic();
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('drain', () => {
      this.#progressed();
      this.#work();
    });
    socket.on('end', () => {
      this.#ended = true;
      this.#endWhenDone();
    });
    // A connection that breaks is closed, and that is all there is to do.
    socket.on('error', () => {});
    socket.on('close', () => this.destroy());
    this.#watch(options.idleMs);
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#timer?.cancel();
    this.#pending = [];
    this.#socket.destroy();
    this.#closed();
  }

  #watch(delayMs: number): void {
    const { clock, idleMs } = this.#options;
    this.#timer = clock.setTimer(
      delayMs,
      () => {
        // Answers that are being looked for are no idleness of the client's, but only for as long as any may take.
        const idle = clock.monotonic() - this.#progress;
        if (idle >= idleMs) this.destroy();
        else this.#watch(idleMs - idle);
      },
      { unref: true },
    );
  }

  #progressed(): void {
    this.#progress = this.#options.clock.monotonic();
  }

  #receive(chunk: Buffer): void {
    this.#pending.push(chunk);
    this.#pendingBytes += chunk.length;
    this.#work();
  }

  /** Takes whole messages while the client takes their answers. */
  #work(): void {
    const { responder, metrics } = this.#options;
    while (!this.#destroyed && this.#pendingBytes >= 2) {
      if (this.#outstanding >= MAX_OUTSTANDING || this.#socket.writableNeedDrain) {
        this.#socket.pause();
        return;
      }
      const message = this.#take();
      if (message === undefined) break;
      if (message.length < HEADER_BYTES) {
        // Whoever sends this does not speak DNS.
        this.destroy();
        return;
      }
      this.#progressed();
      this.#outstanding++;
      const answered = responder.receive(message, false, metrics, (bytes) => this.#reply(bytes));
      if (!answered) this.#outstanding--;
    }
    if (!this.#destroyed) this.#socket.resume();
    this.#endWhenDone();
  }

  #take(): Buffer | undefined {
    let first = this.#pending[0]!;
    if (first.length < 2) {
      first = Buffer.concat(this.#pending);
      this.#pending = [first];
    }
    const length = first.readUInt16BE(0);
    if (this.#pendingBytes < 2 + length) return undefined;
    const all = this.#pending.length === 1 ? first : Buffer.concat(this.#pending);
    const rest = all.subarray(2 + length);
    this.#pending = rest.length === 0 ? [] : [rest];
    this.#pendingBytes = rest.length;
    return all.subarray(2, 2 + length);
  }

  #reply(bytes: Buffer): void {
    this.#outstanding--;
    if (this.#destroyed) return;
    const framed = Buffer.allocUnsafe(2 + bytes.length);
    framed.writeUInt16BE(bytes.length, 0);
    bytes.copy(framed, 2);
    if (this.#socket.write(framed)) this.#progressed();
    if (this.#socket.isPaused() && this.#outstanding < MAX_OUTSTANDING) setImmediate(() => this.#work());
    this.#endWhenDone();
  }

  #endWhenDone(): void {
    if (this.#ended && this.#outstanding === 0 && !this.#destroyed) this.#socket.end();
  }
}
