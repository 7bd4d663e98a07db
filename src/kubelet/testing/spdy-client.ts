// The client's end of a SPDY/3.1 session, for tests: opens streams, writes frames as they are asked for, and collects
// what comes back, as client-go's spdystream would.

import type { Duplex } from 'node:stream';
import {
  controlFrame,
  dataFrameHeader,
  decodeFrameHeader,
  FLAG_FIN,
  frameTypes,
  HEADER_BYTES,
  HeaderCompression,
  wordsFrame,
} from '../server/spdy/frames.ts';

export interface ClientStream {
  readonly id: number;
  replied: boolean;
  data: Buffer;
  /** Data that came before the reply, which a client throws away. */
  early: number;
  ended: boolean;
  resetCode: number | undefined;
}

export class SpdyTestClient {
  readonly streams = new Map<number, ClientStream>();
  readonly pings: number[] = [];
  goAway: number | undefined;
  closed = false;
  readonly #transport: Duplex;
  readonly #compression = new HeaderCompression();
  #nextId = 1;
  #pending: Buffer = Buffer.alloc(0);

  constructor(transport: Duplex, head: Uint8Array = new Uint8Array()) {
    this.#transport = transport;
    transport.on('error', () => {});
    transport.on('data', (chunk: Buffer) => this.#receive(chunk));
    transport.on('close', () => {
      this.closed = true;
    });
    transport.on('end', () => {
      this.closed = true;
    });
    if (head.length > 0) this.#receive(Buffer.from(head));
  }

  async open(headers: Readonly<Record<string, string>>, id = this.#nextId): Promise<ClientStream> {
    this.#nextId = id + 2;
    const stream: ClientStream = {
      id,
      replied: false,
      data: Buffer.alloc(0),
      early: 0,
      ended: false,
      resetCode: undefined,
    };
    this.streams.set(id, stream);
    const map = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), [value]]));
    const block = await this.#compression.encode(map);
    const payload = Buffer.alloc(10 + block.length);
    payload.writeUInt32BE(id);
    payload.set(block, 10);
    this.raw(controlFrame(frameTypes.SYN_STREAM, 0, payload));
    return stream;
  }

  send(stream: ClientStream, data: string | Buffer, fin = false): void {
    const bytes = Buffer.from(data);
    this.raw(Buffer.concat([dataFrameHeader(stream.id, bytes.length, fin), bytes]));
  }

  ping(id: number): void {
    this.raw(wordsFrame(frameTypes.PING, id));
  }

  raw(bytes: Uint8Array): void {
    this.#transport.write(bytes);
  }

  close(): void {
    this.#transport.destroy();
    this.#compression.close();
  }

  #receive(chunk: Buffer): void {
    let input = Buffer.concat([this.#pending, chunk]);
    while (input.length >= HEADER_BYTES) {
      const header = decodeFrameHeader(input);
      if (input.length < HEADER_BYTES + header.length) break;
      const payload = input.subarray(HEADER_BYTES, HEADER_BYTES + header.length);
      input = input.subarray(HEADER_BYTES + header.length);
      const id = header.control ? (payload.length >= 4 ? payload.readUInt32BE(0) : 0) : header.streamId;
      const stream = this.streams.get(id);
      if (!header.control && stream) {
        if (!stream.replied) stream.early += payload.length;
        else stream.data = Buffer.concat([stream.data, payload]);
        if (header.flags & FLAG_FIN) stream.ended = true;
      } else if (header.type === frameTypes.SYN_REPLY && stream) stream.replied = true;
      else if (header.type === frameTypes.RST_STREAM && stream) stream.resetCode = payload.readUInt32BE(4);
      else if (header.type === frameTypes.PING) this.pings.push(id);
      else if (header.type === frameTypes.GOAWAY) this.goAway = payload.readUInt32BE(4);
    }
    this.#pending = input;
  }
}
