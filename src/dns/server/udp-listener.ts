// Queries over UDP at one address. The cost of a packet is the system's two calls and little else: no name is looked
// up for the answer's way, and answers are written once.

import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Logger } from '../../component/index.ts';
import type { ListenerMetrics } from '../metrics.ts';
import type { PacketReceiver } from './responder.ts';

/** Queries that wait while the process does something else; more are lost. The system may allow less. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

export interface UdpListenerOptions {
  readonly address: string;
  readonly port: number;
  readonly responder: PacketReceiver;
  readonly logger: Logger;
  /** Called with the port that was chosen. */
  readonly metrics: (port: number) => ListenerMetrics;
}

export interface UdpListener extends AsyncDisposable {
  readonly port: number;
}

/** Rejects with the system's error when the address cannot be had. */
export async function listenUdp(options: UdpListenerOptions): Promise<UdpListener> {
  const { address, responder, logger } = options;
  const six = isIPv6(address);
  const socket = createSocket({
    type: six ? 'udp6' : 'udp4',
    ipv6Only: six,
    lookup: (host, _options, callback) => callback(null, host, six ? 6 : 4),
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once('error', reject);
  socket.bind({ address, port: options.port, exclusive: true }, resolve);
  try {
    await promise;
  } catch (error) {
    closeSocket(socket);
    throw error;
  }
  socket.removeListener('error', reject);
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
  } catch (error) {
    logger.debug({ err: error }, 'the receive buffer stays as it is');
  }
  const { port } = socket.address();
  const metrics = options.metrics(port);
  let open = true;
  socket.on('error', (error) =>
    logger.warn({ err: error, address, port }, 'receiving DNS queries over UDP failed; it goes on'),
  );
  socket.on('message', (packet: Buffer, { port: to, address: host }: RemoteInfo) => {
    // Port 0 cannot be answered; only forged packets come from there.
    if (to === 0) return;
    // Without a callback an answer that cannot be sent is lost, as any datagram may be.
    responder.receive(packet, true, metrics, (bytes) => {
      if (open) socket.send(bytes, 0, bytes.length, to, host);
    });
  });
  return {
    port,
    async [Symbol.asyncDispose]() {
      if (!open) return;
      open = false;
      await new Promise<void>((done) => socket.close(done));
    },
  };
}

function closeSocket(socket: Socket): void {
  try {
    socket.close();
  } catch {
    // A socket that could not be bound may be closed already.
  }
}
