// The listening socket: TLS with client certificates, HTTP/2 and HTTP/1.1 chosen by ALPN, keep-alive, limits against
// slow and greedy clients, and an orderly end. Turns whatever comes in into Exchanges.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Session } from 'node:http2';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Logger } from '../../component/index.ts';
import type { ExchangeHandler, Peer, UpgradeHandler } from './exchange.ts';
import { Http1Exchange } from './http1.ts';
import { Http2Exchange } from './http2.ts';

export interface FrontOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** The server's certificate chain and key, PEM. */
  readonly certificate: string;
  readonly key: string;
  /** Certificates whose holders may show client certificates, PEM; absent: none is asked for. */
  readonly clientCa?: string;
  readonly logger: Logger;
  readonly onExchange: ExchangeHandler;
  readonly onUpgrade: UpgradeHandler;
}

export interface Front {
  readonly address: AddressInfo;
  /** Answers on the same port of another address, too, until the front is closed. */
  listenAlso(host: string): Promise<void>;
  /** New credentials for connections to come; those that are open go on. */
  replaceCertificate(certificate: string, key: string, clientCa?: string): void;
  /**
   * Takes no more connections, lets what is under way end, and cuts what has not ended after `graceMs`.
   * Long answers (watches) must be ended by their owners.
   */
  close(graceMs: number): Promise<void>;
}

const IDLE_MS = 90_000;
const HEADERS_MS = 15_000;
const MAX_HEADER_BYTES = 256 * 1024;
const MAX_STREAMS = 1_000;
const WINDOW_BYTES = 4 * 1024 * 1024;

export async function openFront(options: FrontOptions): Promise<Front> {
  const { logger, onExchange, onUpgrade } = options;
  const peers = new WeakMap<TLSSocket, Peer>();
  const sockets = new Set<TLSSocket>();
  const sessions = new Set<ServerHttp2Session>();
  const responses = new Set<ServerResponse>();
  let closing = false;

  const peerOf = (socket: TLSSocket): Peer => {
    let peer = peers.get(socket);
    if (peer === undefined) {
      peer = peerFrom(socket);
      peers.set(socket, peer);
    }
    return peer;
  };

  const http2: Http2Server = createHttp2Server({
    settings: {
      maxConcurrentStreams: MAX_STREAMS,
      initialWindowSize: 1024 * 1024,
      maxHeaderListSize: MAX_HEADER_BYTES,
      enablePush: false,
    },
    // Counts what is queued for a client, too: lists of many megabytes to many streams of one connection.
    maxSessionMemory: 1_000,
    maxSendHeaderBlockLength: MAX_HEADER_BYTES,
  });
  http2.on('session', (session: ServerHttp2Session) => {
    sessions.add(session);
    let open = 0;
    const socket = session.socket as TLSSocket;
    const peer = peerOf(socket);
    session.setLocalWindowSize(WINDOW_BYTES);
    session.on('stream', (stream, headers, flags) => {
      open++;
      stream.once('close', () => open--);
      onExchange(new Http2Exchange(stream, headers, flags, peer));
    });
    session.setTimeout(IDLE_MS, () => {
      if (open === 0) session.close();
    });
    session.once('close', () => sessions.delete(session));
    session.on('error', (error) => logger.debug({ component: 'http', err: error }, 'HTTP/2 session failed'));
  });
  http2.on('sessionError', (error) =>
    logger.debug({ component: 'http', err: error }, 'HTTP/2 session failed'),
  );

  const server: HttpsServer = createHttpsServer({
    cert: options.certificate,
    key: options.key,
    ...(options.clientCa === undefined ? {} : { ca: options.clientCa }),
    requestCert: options.clientCa !== undefined,
    // An untrusted certificate is answered with 401, as a wrong token is, not with a broken handshake.
    rejectUnauthorized: false,
    minVersion: 'TLSv1.2',
    ALPNProtocols: ['h2', 'http/1.1'],
    handshakeTimeout: HEADERS_MS,
    headersTimeout: HEADERS_MS,
    // Bodies are timed by whoever reads them: what is streamed to a pod may take as long as it likes.
    requestTimeout: 0,
    keepAliveTimeout: IDLE_MS,
    connectionsCheckingInterval: 5_000,
    maxHeaderSize: MAX_HEADER_BYTES,
    keepAlive: true,
    keepAliveInitialDelay: 15_000,
    noDelay: true,
  });

  // The HTTPS server speaks HTTP/1.1 on every connection; those that chose h2 are handed over instead.
  const http1Connection = server.listeners('secureConnection') as ((socket: TLSSocket) => void)[];
  server.removeAllListeners('secureConnection');
  server.on('secureConnection', (socket: TLSSocket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', (error) => logger.debug({ component: 'http', err: error }, 'connection failed'));
    if (socket.alpnProtocol === 'h2') http2.emit('connection', socket);
    else for (const listener of http1Connection) listener.call(server, socket);
  });
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    responses.add(response);
    response.once('close', () => {
      responses.delete(response);
      // Its connection would wait for another request.
      if (closing) setImmediate(() => server.closeIdleConnections());
    });
    onExchange(new Http1Exchange(request, response, peerOf(request.socket as TLSSocket)));
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    onUpgrade({
      method: request.method ?? 'GET',
      target: request.url ?? '/',
      headers: request.headers,
      rawHeaders: request.rawHeaders,
      peer: peerOf(request.socket as TLSSocket),
      socket,
      head,
    });
  });
  server.on('tlsClientError', (error) =>
    logger.debug({ component: 'http', err: error }, 'TLS handshake failed'),
  );

  const listen = (listener: TcpServer, host: string, port: number): Promise<void> =>
    new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen({ host, port, backlog: 1024 }, () => {
        listener.removeListener('error', reject);
        listener.on('error', (error) =>
          logger.error({ component: 'http', host, err: error }, 'the listener failed'),
        );
        resolve();
      });
    });
  await listen(server, options.host, options.port);
  const address = server.address() as AddressInfo;
  const doors: TcpServer[] = [];

  return {
    address,
    async listenAlso(host) {
      // What comes in by another door goes through the same TLS server, which alone decides on everything.
      const door = createTcpServer(
        { noDelay: true, keepAlive: true, keepAliveInitialDelay: 15_000 },
        (socket) => server.emit('connection', socket),
      );
      await listen(door, host, address.port);
      if (closing) door.close();
      else doors.push(door);
    },
    replaceCertificate(certificate, key, clientCa) {
      server.setSecureContext({
        cert: certificate,
        key,
        ...(clientCa === undefined ? {} : { ca: clientCa }),
        minVersion: 'TLSv1.2',
      });
    },
    async close(graceMs) {
      closing = true;
      for (const response of responses) if (!response.headersSent) response.shouldKeepAlive = false;
      // Each waits for the connections that came in by it.
      const closed = Promise.all(
        [server, ...doors].map((one) => new Promise<void>((resolve) => one.close(() => resolve()))),
      );
      for (const session of sessions) session.close();
      server.closeIdleConnections();
      const cut = setTimeout(() => {
        for (const session of sessions) session.destroy();
        for (const socket of sockets) socket.destroy();
      }, graceMs);
      await closed;
      clearTimeout(cut);
      http2.close();
    },
  };
}

function peerFrom(socket: TLSSocket): Peer {
  const remoteAddress = socket.remoteAddress ?? '';
  const certificate = socket.getPeerCertificate();
  if (certificate?.raw === undefined)
    return { remoteAddress, clientCertificate: undefined, certificateProblem: undefined };
  if (!socket.authorized) {
    const why: unknown = socket.authorizationError;
    return {
      remoteAddress,
      clientCertificate: undefined,
      certificateProblem: why instanceof Error ? why.message : String(why),
    };
  }
  const { CN, O } = certificate.subject as { CN?: string | string[]; O?: string | string[] };
  const clientCertificate = {
    der: certificate.raw,
    commonName: (Array.isArray(CN) ? CN.at(-1) : CN) ?? '',
    organizations: O === undefined ? [] : Array.isArray(O) ? O : [O],
  };
  // TLS looked at the dates when the connection was made, which may be long ago. The handshake goes by the real time
  // whatever clock the cluster has, and so does this.
  const ends = Date.parse(certificate.valid_to);
  return {
    remoteAddress,
    get clientCertificate() {
      return Date.now() < ends ? clientCertificate : undefined;
    },
    get certificateProblem() {
      return Date.now() < ends ? undefined : 'certificate has expired';
    },
  };
}
