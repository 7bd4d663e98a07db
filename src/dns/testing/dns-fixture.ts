// A name server with an API in memory behind it, for tests: Services and slices are written as a user would, and
// queries go over real sockets on loopback.

import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import type { Service } from '../../api/types/core-v1.ts';
import type { Endpoint, EndpointSlice } from '../../api/types/discovery-v1.ts';
import { type Client, createClient, resources } from '../../client/index.ts';
import { FakeApi } from '../../client/testing/fake-api.ts';
import { type ClusterDns, type ClusterDnsOptions, startClusterDns } from '../cluster-dns.ts';
import { TYPE } from '../message/constants.ts';
import { decodeMessage } from '../message/decode.ts';
import { encodeQuery, type QueryOptions } from '../message/encode.ts';
import type { Message } from '../message/message.ts';
import { parseName } from '../message/name.ts';
import { formatRecord } from '../message/record.ts';
import { LOOPBACK } from './fake-upstream.ts';

export interface DnsFixture extends AsyncDisposable {
  readonly api: FakeApi;
  readonly client: Client;
  readonly dns: ClusterDns;
  readonly port: number;
  namespace(...names: string[]): Promise<void>;
  service(name: string, spec: Service['spec']): Promise<void>;
  /** `name` is `namespace/service`; ports default to http on 80. */
  slice(name: string, endpoints: readonly Endpoint[], options?: SliceOptions): Promise<void>;
  query(name: string, type: keyof typeof TYPE | number, options?: AskOptions): Promise<Message>;
  /** `CODE` and one line for each record of the answer, sorted. */
  ask(name: string, type: keyof typeof TYPE, options?: AskOptions): Promise<string[]>;
}

export interface SliceOptions {
  readonly name?: string;
  readonly ports?: EndpointSlice['ports'];
  readonly addressType?: EndpointSlice['addressType'];
}

export interface AskOptions extends QueryOptions {
  readonly tcp?: boolean;
  readonly timeoutMs?: number;
}

export const HTTP_PORT = [{ name: 'http', protocol: 'TCP' as const, port: 80 }];

export async function startDnsFixture(options: Partial<ClusterDnsOptions> = {}): Promise<DnsFixture> {
  const api = new FakeApi();
  const client = createClient(api);
  const dns = await startClusterDns({
    client,
    nodeName: 'node',
    listen: [{ address: LOOPBACK, port: 0 }],
    clusterDomain: 'cluster.local',
    ...options,
  });
  await dns.ready;
  const port = dns.addresses[0]!.port;
  const fixture: DnsFixture = {
    api,
    client,
    dns,
    port,
    async namespace(...names) {
      for (const name of names) await client.resource(resources.namespaces).create({ metadata: { name } });
    },
    async service(name, spec) {
      const [namespace = '', own = ''] = name.split('/');
      await client.resource(resources.services, namespace).create({ metadata: { name: own }, spec });
    },
    async slice(name, endpoints, { name: sliceName, ports = HTTP_PORT, addressType = 'IPv4' } = {}) {
      const [namespace = '', service = ''] = name.split('/');
      await client.resource(resources.endpointSlices, namespace).create({
        metadata: {
          name: sliceName ?? `${service}-${addressType.toLowerCase()}`,
          labels: { 'kubernetes.io/service-name': service },
        },
        addressType,
        endpoints: [...endpoints],
        ports,
      });
    },
    query: (name, type, ask = {}) =>
      exchange(
        port,
        encodeQuery(4711, parseName(name), typeof type === 'number' ? type : TYPE[type], ask),
        ask,
      ),
    async ask(name, type, ask = {}) {
      return lines(await fixture.query(name, type, ask));
    },
    async [Symbol.asyncDispose]() {
      await dns[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
    },
  };
  return fixture;
}

const RCODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

export function lines(message: Message): string[] {
  return [RCODES[message.rcode] ?? String(message.rcode), ...message.answers.map(formatRecord).sort()];
}

/** Sends the packet and decodes what comes back; rejects when nothing does in time. */
export async function exchange(port: number, packet: Buffer, options: AskOptions = {}): Promise<Message> {
  const bytes = options.tcp
    ? await exchangeTcp(port, packet, options.timeoutMs)
    : await exchangeUdp(port, packet, options.timeoutMs);
  return decodeMessage(bytes);
}

export async function exchangeUdp(port: number, packet: Buffer, timeoutMs = 8000): Promise<Buffer> {
  const socket = createSocket('udp4');
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  socket.on('error', reject);
  socket.on('message', (answer) => resolve(answer));
  socket.send(packet, port, LOOPBACK);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.close();
  }
}

async function exchangeTcp(port: number, packet: Buffer, timeoutMs = 8000): Promise<Buffer> {
  const socket = connect(port, LOOPBACK);
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  let received = Buffer.alloc(0);
  socket.on('error', reject);
  socket.on('close', () => reject(new Error('the connection was closed')));
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    if (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0))
      resolve(received.subarray(2, 2 + received.readUInt16BE(0)));
  });
  socket.write(framed(packet));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

/** A socket that speaks to that port only, for tests that send more than one packet. */
export interface UdpClient extends AsyncDisposable {
  send(packet: Buffer): void;
}

export async function udpClient(port: number, received: (packet: Buffer) => void): Promise<UdpClient> {
  const socket = createSocket('udp4');
  // What is refused while a server is stopped is for the test to see by what it does not receive.
  socket.on('error', () => {});
  socket.on('message', received);
  await new Promise<void>((resolve) => socket.connect(port, LOOPBACK, resolve));
  return {
    send: (packet) => socket.send(packet, () => {}),
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => socket.close(resolve)),
  };
}

/** Behind its length, as on TCP. */
export function framed(packet: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(packet.length);
  return Buffer.concat([length, packet]);
}
