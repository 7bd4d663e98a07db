// A resolver on loopback that behaves as a test wants: honest, slow, dead, or lying in one of many ways.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import { FLAG } from '../message/constants.ts';
import { decodeMessage } from '../message/decode.ts';
import { encodeMessage } from '../message/encode.ts';
import type { Message } from '../message/message.ts';
import { formatName, parseName } from '../message/name.ts';
import { addressRecord, type ResourceRecord, soaRecord } from '../message/record.ts';

/** A loopback address of this process's own: ports that are given back there are not taken by other tests meanwhile. */
export const LOOPBACK = `127.${64 + ((process.pid >> 16) & 63)}.${(process.pid >> 8) & 255}.${process.pid & 255}`;

export interface UpstreamQuestion {
  /** Without the final dot. */
  readonly name: string;
  readonly type: number;
  readonly tcp: boolean;
  readonly message: Message;
}

/** What to send back: packets (none: silence), or parts of an honest answer. */
export type Behaviour = (
  question: UpstreamQuestion,
) => readonly Buffer[] | Partial<Message> | Promise<Partial<Message>>;

export interface FakeUpstream extends AsyncDisposable {
  readonly port: number;
  /** `LOOPBACK:port` */
  readonly address: string;
  /** Everything that was asked but probes, as `name TYPE udp|tcp`. */
  readonly asked: string[];
  /** All that came, probes too. */
  received: number;
  behave: Behaviour;
}

export async function startFakeUpstream(
  behave: Behaviour,
  options: { readonly port?: number; readonly tcp?: boolean } = {},
): Promise<FakeUpstream> {
  const server = createServer();
  const udp = await bindBoth(server, options.port ?? 0, options.tcp !== false);
  const { port } = udp.address();
  const answer = async (packet: Buffer, tcp: boolean): Promise<readonly Buffer[]> => {
    upstream.received++;
    const message = decodeMessage(packet);
    const question = message.questions[0]!;
    const name = formatName(question.name).slice(0, -1);
    // Probes of health (the root's name servers) and for loops (two random labels) are no business of the tests.
    if (question.type === 2 || question.type === 13) return [honest(message, { rcode: 3 })];
    upstream.asked.push(`${name} ${question.type} ${tcp ? 'tcp' : 'udp'}`);
    const reaction = await upstream.behave({ name, type: question.type, tcp, message });
    return Array.isArray(reaction) ? reaction : [honest(message, reaction as Partial<Message>)];
  };
  udp.on('message', (packet, from) => {
    void answer(packet, false).then((packets) => {
      for (const bytes of packets) udp.send(bytes, from.port, from.address);
    });
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    let received = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      void answer(received.subarray(2, 2 + received.readUInt16BE(0)), true).then((packets) => {
        for (const bytes of packets) {
          const length = Buffer.alloc(2);
          length.writeUInt16BE(bytes.length);
          socket.write(Buffer.concat([length, bytes]));
        }
      });
    });
  });
  const upstream: FakeUpstream = {
    port,
    address: `${LOOPBACK}:${port}`,
    asked: [],
    received: 0,
    behave,
    async [Symbol.asyncDispose]() {
      await new Promise<void>((resolve) => udp.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      if (server.listening) await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return upstream;
}

/** Binds UDP, and TCP to the same port; where the port may be any, one that is free for both. */
async function bindBoth(server: Server, port: number, tcp: boolean): Promise<UdpSocket> {
  for (let attempt = 1; ; attempt++) {
    const udp = createSocket('udp4');
    try {
      await new Promise<void>((resolve, reject) => {
        udp.once('error', reject);
        udp.bind(port, LOOPBACK, resolve);
      });
      if (tcp)
        await new Promise<void>((resolve, reject) => {
          server.once('error', reject);
          server.listen(udp.address().port, LOOPBACK, resolve);
        });
      return udp;
    } catch (error) {
      udp.close();
      if (port !== 0 || attempt === 20) throw error;
    }
  }
}

/** An answer to that query, with parts of it replaced. */
export function honest(query: Message, parts: Partial<Message>): Buffer {
  const { edns: _asked, ...rest } = query;
  return encodeMessage({
    ...rest,
    flags: FLAG.QR | FLAG.RA | (query.flags & FLAG.RD),
    authority: [],
    additional: [],
    answers: [],
    ...(query.edns && { edns: { udpBytes: 4096, version: 0, flags: 0, options: new Uint8Array(0) } }),
    ...parts,
  });
}

export function addressOf(name: string, address: string, ttl = 300): ResourceRecord {
  return addressRecord(parseName(name), ttl, address);
}

/** The SOA that a denial carries: both its TTL and its minimum. */
export function denial(zone: string, ttl: number, minimum: number): ResourceRecord {
  const name = parseName(zone);
  return soaRecord(name, ttl, {
    primary: name,
    mailbox: name,
    serial: 1,
    refresh: 1,
    retry: 1,
    expire: 1,
    minimum,
  });
}

/** Records of which each is a pointer and little else, so many that they decompress to much more than they are. */
export function bomb(query: Message, records: number): Buffer {
  const question = honest(query, {});
  const end = question.length - (query.edns ? 11 : 0);
  const record = Buffer.from('c00c000500010000012c0002c00c', 'hex');
  const packet = Buffer.concat([question.subarray(0, end), ...Array.from({ length: records }, () => record)]);
  packet.writeUInt16BE(records, 6);
  packet.writeUInt16BE(0, 10);
  return packet;
}
