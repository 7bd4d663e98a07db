// Port forwarding: the client opens a pair of SPDY streams (data and error, joined by a request id) for each connection
// that it wants carried into the pod's network namespace. Over WebSocket either the same SPDY frames travel in binary
// messages (SPDY/3.1+portforward.k8s.io), or each port has a pair of channels (older clients).

import { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { RawData, WebSocket } from 'ws';
import type { Clock, Logger, Timer } from '../../component/index.ts';
import { messageOf } from '../text.ts';
import { SpdyConnection, type SpdyStream } from './spdy/connection.ts';

export const PORT_FORWARD_PROTOCOL = 'portforward.k8s.io';
export const TUNNEL_PROTOCOL = 'SPDY/3.1+portforward.k8s.io';
export const portForwardChannelProtocols = ['v4.channel.k8s.io', 'v4.base64.channel.k8s.io'] as const;

const PAIR_TIMEOUT_MS = 30_000;
const MAX_PORTS = 1000;

/** Connects to a port of the pod. */
export type PortDialer = (port: number) => Promise<NodeJS.ReadWriteStream & { destroy(error?: Error): void }>;

export interface ForwardOptions {
  readonly dial: PortDialer;
  readonly clock: Clock;
  readonly logger: Logger;
  /** `name_namespace` as messages show it. */
  readonly pod: string;
}

interface Pair {
  data?: SpdyStream;
  error?: SpdyStream;
  timer: Timer;
}

function parsePort(text: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65535 ? port : undefined;
}

/** Resolves when the session is over. */
export async function forwardSpdy(
  transport: Duplex,
  head: Uint8Array,
  options: ForwardOptions,
): Promise<void> {
  const pairs = new Map<string, Pair>();
  const { clock, logger } = options;
  const connection = new SpdyConnection(transport, {
    head,
    onStream(stream) {
      const type = stream.header('streamtype');
      const port = parsePort(stream.header('port'));
      if ((type !== 'data' && type !== 'error') || port === undefined) {
        stream.destroy(new Error('a stream of a port-forward needs a streamType and a port'));
        return;
      }
      // The oldest clients send no id: the error stream is then opened right before its data stream.
      const id =
        stream.header('requestid') || String(type === 'error' ? stream.streamId : stream.streamId - 2);
      let pair = pairs.get(id);
      if (!pair) {
        const timer = clock.setTimer(PAIR_TIMEOUT_MS, () => {
          const late = pairs.get(id);
          pairs.delete(id);
          late?.data?.destroy(new Error('its error stream did not come'));
          late?.error?.end(`timed out waiting for streams for request ${id}`);
        });
        pair = { timer };
        pairs.set(id, pair);
      }
      if (pair[type]) {
        stream.destroy(new Error(`request ${id} has a ${type} stream already`));
        return;
      }
      pair[type] = stream;
      stream.reply().catch(() => stream.destroy());
      const { data, error } = pair;
      if (!data || !error) return;
      pair.timer.cancel();
      pairs.delete(id);
      void carry(data, error, port, options);
    },
  });
  await connection.closed;
  for (const { timer } of pairs.values()) timer.cancel();
  logger.debug({ pod: options.pod }, 'a port-forward ended');
}

async function carry(
  data: SpdyStream,
  error: SpdyStream,
  port: number,
  options: ForwardOptions,
): Promise<void> {
  error.resume();
  try {
    const target = await options.dial(port);
    await join(data, target);
  } catch (failure) {
    if (!error.destroyed)
      error.write(`error forwarding port ${port} to pod ${options.pod}: ${messageOf(failure)}`);
    options.logger.debug({ err: failure, pod: options.pod, port }, 'a forwarded connection failed');
  } finally {
    data.end();
    error.end();
    // Nothing reads the client's bytes any more.
    data.resume();
  }
}

/** Carries bytes both ways until both sides have ended; rejects when the port's side failed. */
async function join(
  client: Duplex,
  target: NodeJS.ReadWriteStream & { destroy(error?: Error): void },
): Promise<void> {
  const [, outward] = await Promise.allSettled([pipeline(client, target), pipeline(target, client)]);
  // A client that leaves in the middle is no failure of the port.
  if (outward.status === 'rejected' && !client.destroyed) throw outward.reason;
}

// ---- channels ------------------------------------------------------------------------------------------------------

/** Ports as the query names them: `ports=80,443`, `port=80`. Throws Error for what is no port. */
export function requestedPorts(query: URLSearchParams): number[] {
  const texts = [...query.getAll('ports'), ...query.getAll('port')].flatMap((text) => text.split(','));
  const ports = texts.map((text) => {
    const port = parsePort(text);
    if (port === undefined) throw new Error(`query parameter "port" cannot be ${JSON.stringify(text)}`);
    return port;
  });
  if (ports.length === 0) throw new Error('query parameter "port" is required');
  if (ports.length > MAX_PORTS)
    throw new Error(`${ports.length} ports are more than the ${MAX_PORTS} that one request may have`);
  return ports;
}

/** Port i has the channels 2i (data) and 2i+1 (error); each begins with the port, two bytes, little-endian. */
export function forwardChannels(
  socket: WebSocket,
  protocol: string,
  ports: readonly number[],
  options: ForwardOptions,
): void {
  const base64 = protocol.includes('base64');
  const send = (channel: number, chunk: Buffer, done: (error?: Error | null) => void): void => {
    if (socket.readyState !== socket.OPEN) done(new Error('the client went away'));
    else if (base64) socket.send(`${channel}${chunk.toString('base64')}`, { binary: false }, done);
    else socket.send(Buffer.concat([Buffer.from([channel]), chunk]), { binary: true }, done);
  };
  const clients = ports.map((port, index) => {
    const client = new Duplex({
      read: () => socket.resume(),
      write: (chunk: Buffer, _encoding, done) => send(2 * index, chunk, done),
    });
    client.on('error', () => {});
    const announcement = Buffer.alloc(2);
    announcement.writeUInt16LE(port);
    send(2 * index, announcement, () => {});
    send(2 * index + 1, announcement, () => {});
    void (async () => {
      try {
        await join(client, await options.dial(port));
      } catch (error) {
        const text = `error forwarding port ${port} to pod ${options.pod}: ${messageOf(error)}`;
        send(2 * index + 1, Buffer.from(text), () => {});
      }
    })();
    return client;
  });
  socket.on('message', (data: RawData) => {
    const bytes = Buffer.isBuffer(data)
      ? data
      : Array.isArray(data)
        ? Buffer.concat(data)
        : Buffer.from(data);
    if (bytes.length === 0) return;
    const channel = base64 ? bytes[0]! - 0x30 : bytes[0]!;
    const payload = base64 ? Buffer.from(bytes.toString('latin1', 1), 'base64') : bytes.subarray(1);
    const client = channel % 2 === 0 ? clients[channel / 2] : undefined;
    if (client && payload.length > 0 && !client.push(payload)) socket.pause();
  });
  socket.on('close', () => {
    for (const client of clients) client.destroy();
  });
  socket.on('error', () => {});
}
