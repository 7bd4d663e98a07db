// A log over a WebSocket, for browsers and old dashboards: an empty message first, to say that it has begun, then one
// message a piece, as bytes or as base64 text. Nothing is read from the client but its close. After apimachinery's
// wsstream.Reader; relies on the log's own stream for back-pressure.

import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { type WebSocket, WebSocketServer } from 'ws';
import { StatusError } from '../../api/index.ts';
import type { StreamingUpgrade } from '../chain.ts';
import { isGone } from './relay.ts';

/** The protocols and whether their messages are bytes; a client that offers none gets bytes. */
const PROTOCOLS: ReadonlyMap<string, 'bytes' | 'base64'> = new Map([
  ['binary.k8s.io', 'bytes'],
  ['base64.binary.k8s.io', 'base64'],
]);

/** The token that a browser had to send as a protocol is none. */
const TOKEN = 'base64url.bearer.authorization.k8s.io.';

export class LogSockets {
  readonly #server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: 1024,
    handleProtocols: (offered) => [...offered].find((one) => PROTOCOLS.has(one)) ?? false,
  });

  /** Throws 403 when none of the offered protocols is known: to be asked before there is a log. */
  check(upgrade: StreamingUpgrade): void {
    const offered = offeredProtocols(upgrade);
    if (offered.length === 0 || offered.some((one) => PROTOCOLS.has(one))) return;
    throw new StatusError({
      code: 403,
      reason: 'Forbidden',
      message: `requested protocol(s) are not supported: [${offered.join(' ')}]; supports [${[...PROTOCOLS.keys()].join(' ')}]`,
    });
  }

  /** Resolves when the whole log (absent: an empty one) is written, or the client has gone. */
  async send(upgrade: StreamingUpgrade, log: IncomingMessage | undefined): Promise<void> {
    const { method, headers, url, socket, head } = upgrade;
    let opened: WebSocket | undefined;
    this.#server.handleUpgrade(
      { method, headers, url } as Parameters<WebSocketServer['handleUpgrade']>[0],
      socket,
      Buffer.from(head.buffer, head.byteOffset, head.byteLength) as Buffer<ArrayBuffer>,
      (webSocket) => {
        opened = webSocket;
      },
    );
    // The handshake was at fault: its refusal is written already.
    if (opened === undefined) {
      log?.destroy();
      return;
    }
    const webSocket = opened;
    webSocket.on('error', () => socket.destroy());
    const base64 = PROTOCOLS.get(webSocket.protocol) === 'base64';
    const write = async (bytes: Buffer): Promise<void> => {
      if (base64) webSocket.send(bytes.toString('base64'), { binary: false });
      else webSocket.send(bytes, { binary: true });
      if (socket.writableNeedDrain) await Promise.race([once(socket, 'drain'), once(socket, 'close')]);
    };
    try {
      await write(Buffer.alloc(0));
      if (log !== undefined) for await (const chunk of log) await write(chunk as Buffer);
      webSocket.close(1000);
    } catch (error) {
      // The client has taken a part for a log: all that can be said is that the rest is missing.
      socket.destroy();
      if (!isGone(error)) throw error;
    } finally {
      log?.destroy();
    }
  }
}

function offeredProtocols({ headers }: StreamingUpgrade): readonly string[] {
  const header = headers['sec-websocket-protocol'];
  const text = typeof header === 'string' ? header : (header ?? []).join(',');
  return text
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '' && !one.startsWith(TOKEN));
}
