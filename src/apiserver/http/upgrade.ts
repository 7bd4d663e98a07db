// Connections that ask to become something else: streaming subresources get the raw socket, watches become
// WebSockets with a message an event. Refusals are written as plain HTTP/1.1 answers, for there is nothing else yet.

import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { badRequest, type StatusError } from '../../api/errors.ts';
import type { Logger } from '../../component/index.ts';
import type { Authenticator } from '../chain.ts';
import type { Dispatcher, KnownRequest } from '../dispatcher.ts';
import { asStatusError } from '../registry/context.ts';
import { negotiate } from '../request/negotiation.ts';
import { requestInfo, splitTarget } from '../request/request-info.ts';
import { failureHeaders } from './answer.ts';
import type { UpgradeExchange } from './exchange.ts';
import { unauthorizedRequest } from './handler.ts';
import { checkMethod } from './streaming.ts';
import type { LineWriter } from './watch-stream.ts';
import type { Watches } from './watches.ts';

export interface UpgradeOptions {
  readonly authenticator: Authenticator;
  readonly dispatcher: Dispatcher;
  readonly watches: Watches;
  readonly logger: Logger;
}

const WEBSOCKET_TOKEN = 'base64url.bearer.authorization.k8s.io.';

export class UpgradeRequestHandler {
  readonly #options: UpgradeOptions;
  readonly #sockets = new Set<Duplex>();
  readonly #server = new WebSocketServer({
    noServer: true,
    maxPayload: 1024,
    // The token that a browser had to send as a protocol must not come back as the one chosen.
    handleProtocols: (offered) => [...offered].find((one) => !one.startsWith(WEBSOCKET_TOKEN)) ?? false,
  });

  constructor(options: UpgradeOptions) {
    this.#options = options;
  }

  readonly handle = (upgrade: UpgradeExchange): void => {
    const { socket } = upgrade;
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', (error) =>
      this.#options.logger.debug({ component: 'http', err: error }, 'an upgraded connection failed'),
    );
    this.#serve(upgrade).catch((error: unknown) =>
      refuse(socket, asStatusError(error), this.#options.logger),
    );
  };

  /** Cuts what is left of upgraded connections. */
  stop(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  async #serve(upgrade: UpgradeExchange): Promise<void> {
    const { authenticator, dispatcher } = this.#options;
    const { method, target, headers, peer, socket } = upgrade;
    const { path, query: text } = splitTarget(target);
    const query = new URLSearchParams(text);
    const info = requestInfo(method, path, query);
    if (peer.certificateProblem !== undefined && headers['authorization'] === undefined)
      throw unauthorizedRequest();
    const { clientCertificate, remoteAddress } = peer;
    const user = await authenticator.authenticate({
      headers,
      remoteAddress,
      ...(clientCertificate === undefined ? {} : { clientCertificate }),
    });
    if (user === undefined) throw unauthorizedRequest();
    const controller = new AbortController();
    socket.once('close', () => controller.abort());
    const known: KnownRequest = { info, query, user, signal: () => controller.signal, warn: () => {} };
    await dispatcher.authorize(known);
    const definition = info.isResourceRequest ? dispatcher.definition(info) : undefined;
    if (definition === undefined) throw badRequest(`${path} cannot be upgraded`);
    const streaming = dispatcher.streaming(definition, info.subresource);
    if (streaming !== undefined) {
      checkMethod(streaming, method);
      if (streaming.upgrade === undefined)
        throw badRequest(`${info.resource}/${info.subresource} cannot be upgraded`);
      const context = await dispatcher.connect(known, definition);
      const { rawHeaders, head } = upgrade;
      await streaming.upgrade(context, {
        method,
        url: target,
        headers,
        remoteAddress: peer.remoteAddress,
        rawHeaders,
        socket,
        head,
      });
      return;
    }
    if (info.verb !== 'watch') throw badRequest(`${path} cannot be upgraded`);
    await this.#watch(upgrade, known, definition);
  }

  async #watch(
    upgrade: UpgradeExchange,
    known: KnownRequest,
    definition: NonNullable<ReturnType<Dispatcher['definition']>>,
  ): Promise<void> {
    const accept = upgrade.headers['accept'];
    const form = negotiate(typeof accept === 'string' ? accept : undefined, {
      watch: true,
      transforms: true,
      pretty: false,
    });
    await this.#options.watches.serveOn(known, definition, form, () => this.#webSocket(upgrade));
  }

  #webSocket(upgrade: UpgradeExchange): LineWriter {
    const { socket, head } = upgrade;
    let webSocket: WebSocket | undefined;
    const request = { method: upgrade.method, headers: upgrade.headers, url: upgrade.target };
    this.#server.handleUpgrade(
      request as Parameters<WebSocketServer['handleUpgrade']>[0],
      socket,
      head as Buffer<ArrayBuffer>,
      (opened) => {
        webSocket = opened;
      },
    );
    webSocket?.on('error', () => socket.destroy());
    return {
      write(lines) {
        for (const line of lines) webSocket?.send(line.subarray(0, line.length - 1), { binary: false });
        return !socket.writableNeedDrain;
      },
      onDrain: (callback) => void socket.on('drain', callback),
      onClosed: (callback) => void socket.once('close', callback),
      end: () => webSocket?.close(1000),
      abort: () => socket.destroy(),
    };
  }
}

function refuse(socket: Duplex, error: StatusError, logger: Logger): void {
  if (error.code >= 500) logger.error({ component: 'http', err: error.cause ?? error }, 'an upgrade failed');
  if (!socket.writable) return;
  const body = JSON.stringify(error.status);
  const head = [
    `HTTP/1.1 ${error.code} ${STATUS_CODES[error.code] ?? 'Error'}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
    ...Object.entries(failureHeaders(error)).map(([name, value]) => `${name}: ${String(value)}`),
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
