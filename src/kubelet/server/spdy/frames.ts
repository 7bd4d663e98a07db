// SPDY/3.1 frames (draft-mbelshe-httpbis-spdy-00, SPDY/3.1 for the session window), as far as the Kubernetes streaming
// protocols use them: enough to serve client-go's spdystream. Header blocks are compressed over the whole session.

import { constants, createDeflate, createInflate, type Deflate, type Inflate } from 'node:zlib';
import { spdyDictionary } from './dictionary.ts';

export const frameTypes = {
  SYN_STREAM: 1,
  SYN_REPLY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PING: 6,
  GOAWAY: 7,
  HEADERS: 8,
  WINDOW_UPDATE: 9,
} as const;

export const resetCodes = {
  PROTOCOL_ERROR: 1,
  INVALID_STREAM: 2,
  REFUSED_STREAM: 3,
  CANCEL: 5,
  INTERNAL_ERROR: 6,
  STREAM_IN_USE: 8,
} as const;

export const goawayCodes = { OK: 0, PROTOCOL_ERROR: 1, INTERNAL_ERROR: 2 } as const;

export const FLAG_FIN = 0x01;
const VERSION = 3;

export const HEADER_BYTES = 8;
/** Longer control frames are refused: ours and client-go's are a few hundred bytes. */
export const MAX_CONTROL_BYTES = 64 * 1024;
/** What a header block may become when it is decompressed. */
const MAX_HEADER_BYTES = 64 * 1024;
const MAX_HEADERS = 256;

/** The peer broke the protocol; the session ends with GOAWAY. */
export class SpdyProtocolError extends Error {
  override readonly name = 'SpdyProtocolError';
}

export interface FrameHeader {
  readonly control: boolean;
  /** 0 for data frames. */
  readonly type: number;
  /** 0 for control frames, whose stream stands in the payload. */
  readonly streamId: number;
  readonly flags: number;
  readonly length: number;
}

/** Throws SpdyProtocolError for a version that is not ours and for control frames that are too long. */
export function decodeFrameHeader(bytes: Buffer): FrameHeader {
  const first = bytes.readUInt32BE(0);
  const control = first >>> 31 === 1;
  const flags = bytes[4]!;
  const length = bytes.readUIntBE(5, 3);
  if (!control) return { control, type: 0, streamId: first & 0x7fffffff, flags, length };
  const version = (first >>> 16) & 0x7fff;
  if (version !== VERSION) throw new SpdyProtocolError(`SPDY version ${version} is not supported`);
  if (length > MAX_CONTROL_BYTES)
    throw new SpdyProtocolError(`a control frame of ${length} bytes is too long`);
  return { control, type: first & 0xffff, streamId: 0, flags, length };
}

export function dataFrameHeader(streamId: number, length: number, fin: boolean): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(streamId & 0x7fffffff, 0);
  header[4] = fin ? FLAG_FIN : 0;
  header.writeUIntBE(length, 5, 3);
  return header;
}

export function controlFrame(type: number, flags: number, payload: Uint8Array): Buffer {
  const frame = Buffer.alloc(HEADER_BYTES + payload.length);
  frame.writeUInt32BE(((0x8000 | VERSION) * 0x10000 + type) >>> 0, 0);
  frame[4] = flags;
  frame.writeUIntBE(payload.length, 5, 3);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/** A control frame whose payload is 32-bit words: RST_STREAM, PING, GOAWAY, WINDOW_UPDATE. */
export function wordsFrame(type: number, ...words: readonly number[]): Buffer {
  const payload = Buffer.alloc(words.length * 4);
  for (const [index, word] of words.entries()) payload.writeUInt32BE(word >>> 0, index * 4);
  return controlFrame(type, 0, payload);
}

/** Lower-case names; several values of one name in order. */
export type SpdyHeaders = ReadonlyMap<string, readonly string[]>;

export function encodeHeaders(headers: SpdyHeaders): Buffer {
  const parts: Buffer[] = [];
  const number = (value: number): void => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    parts.push(bytes);
  };
  number(headers.size);
  for (const [name, values] of headers) {
    for (const text of [name, values.join('\0')]) {
      const bytes = Buffer.from(text, 'utf8');
      number(bytes.length);
      parts.push(bytes);
    }
  }
  return Buffer.concat(parts);
}

/** Throws SpdyProtocolError for a block that is not well-formed. */
export function decodeHeaders(block: Buffer): SpdyHeaders {
  const headers = new Map<string, readonly string[]>();
  let at = 0;
  const number = (): number => {
    if (at + 4 > block.length) throw new SpdyProtocolError('a header block ends too early');
    at += 4;
    return block.readUInt32BE(at - 4);
  };
  const text = (): string => {
    const length = number();
    if (length > block.length - at) throw new SpdyProtocolError('a header block ends too early');
    at += length;
    return block.toString('utf8', at - length, at);
  };
  const count = number();
  if (count > MAX_HEADERS) throw new SpdyProtocolError(`a block of ${count} headers is too long`);
  for (let i = 0; i < count; i++) {
    const name = text().toLowerCase();
    if (name === '' || headers.has(name)) throw new SpdyProtocolError('a header is empty or stands twice');
    headers.set(name, text().split('\0'));
  }
  return headers;
}

/** Compresses or decompresses one block after the other; the calls must not overlap. */
class HeaderCodec {
  readonly #stream: Deflate | Inflate;
  readonly #limit: number;
  #output: Buffer[] = [];
  #size = 0;
  #reject: ((error: Error) => void) | undefined;

  constructor(stream: Deflate | Inflate, limit: number) {
    this.#stream = stream;
    this.#limit = limit;
    stream.on('data', (chunk: Buffer) => {
      this.#size += chunk.length;
      if (this.#size <= this.#limit) this.#output.push(chunk);
      else this.#stream.destroy(new SpdyProtocolError('a header block is too long'));
    });
    stream.on('error', (error) => this.#reject?.(error));
  }

  run(block: Uint8Array): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#output = [];
      this.#size = 0;
      this.#reject = (error) =>
        reject(
          error instanceof SpdyProtocolError
            ? error
            : new SpdyProtocolError(`a header block cannot be read: ${error.message}`),
        );
      this.#stream.write(block, (error) => {
        if (error) return;
        // Everything of this block has been emitted once the stream has caught up.
        this.#stream.flush(constants.Z_SYNC_FLUSH, () => resolve(Buffer.concat(this.#output)));
      });
    });
  }

  close(): void {
    this.#reject = undefined;
    this.#stream.destroy();
  }
}

export class HeaderCompression {
  readonly #inflate: HeaderCodec;
  readonly #deflate: HeaderCodec;
  #deflating: Promise<unknown> = Promise.resolve();

  constructor() {
    const dictionary = spdyDictionary();
    const flush = constants.Z_SYNC_FLUSH;
    this.#inflate = new HeaderCodec(
      createInflate({ dictionary, flush, finishFlush: flush }),
      MAX_HEADER_BYTES,
    );
    this.#deflate = new HeaderCodec(createDeflate({ dictionary, flush }), Number.POSITIVE_INFINITY);
  }

  async decode(block: Uint8Array): Promise<SpdyHeaders> {
    return decodeHeaders(await this.#inflate.run(block));
  }

  /** Calls may overlap; blocks come out in the order of the calls. */
  encode(headers: SpdyHeaders): Promise<Buffer> {
    const next = this.#deflating.then(() => this.#deflate.run(encodeHeaders(headers)));
    this.#deflating = next.catch(() => {});
    return next;
  }

  close(): void {
    this.#inflate.close();
    this.#deflate.close();
  }
}
