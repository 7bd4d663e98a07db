// The server's end of a SPDY/3.1 session over any byte stream (a socket after its upgrade, or a WebSocket): the peer
// opens streams, each becomes a Duplex. Frames of a peer that breaks the protocol end the session with GOAWAY; nothing
// that it sends can make us hold more than a bounded amount of memory.

import { Duplex } from 'node:stream';
import {
  controlFrame,
  dataFrameHeader,
  decodeFrameHeader,
  FLAG_FIN,
  type FrameHeader,
  frameTypes,
  goawayCodes,
  HEADER_BYTES,
  HeaderCompression,
  resetCodes,
  type SpdyHeaders,
  SpdyProtocolError,
  wordsFrame,
} from './frames.ts';

/** Streams of one session at a time: a port-forward has two for each connection. */
const MAX_STREAMS = 2048;
/** Read from the peer and not yet consumed, of one stream; then the session is not read any further. */
const MAX_BUFFERED = 1 << 20;
const MAX_DATA_FRAME = 64 * 1024;
/** Consumed bytes are acknowledged in steps of this size. */
const WINDOW_STEP = 32 * 1024;

export class SpdyStream extends Duplex {
  readonly streamId: number;
  readonly headers: SpdyHeaders;
  readonly #connection: SpdyConnection;
  #unacknowledged = 0;
  #ended = false;
  #wake: (() => void) | undefined;
  #replied = false;
  readonly #reply = Promise.withResolvers<void>();

  constructor(connection: SpdyConnection, streamId: number, headers: SpdyHeaders) {
    super({ allowHalfOpen: true });
    this.#connection = connection;
    this.streamId = streamId;
    this.headers = headers;
    // A peer that goes away shows as the end of the streams; whoever uses them hears of errors through finished().
    this.on('error', () => {});
  }

  header(name: string): string {
    return this.headers.get(name)?.[0] ?? '';
  }

  /** Accepts the stream. What was written before is held back until then: the peer would throw it away. */
  async reply(): Promise<void> {
    await this.#connection.sendReply(this.streamId);
    this.#replied = true;
    this.#reply.resolve();
  }

  /** Takes bytes from the peer; resolves when there is room for more. */
  async receive(chunk: Buffer): Promise<void> {
    if (this.destroyed || this.#ended) return;
    this.push(chunk);
    this.#unacknowledged += chunk.length;
    if (this.#unacknowledged >= WINDOW_STEP) {
      this.#connection.acknowledge(this.streamId, this.#unacknowledged);
      this.#unacknowledged = 0;
    }
    while (this.readableLength > MAX_BUFFERED && !this.destroyed)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
  }

  receiveEnd(): void {
    if (this.#ended || this.destroyed) return;
    this.#ended = true;
    this.push(null);
  }

  override _read(): void {
    this.#wake?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#send(chunk, false, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#send(Buffer.alloc(0), true, done);
  }

  #send(chunk: Buffer, fin: boolean, done: (error?: Error | null) => void): void {
    if (this.#replied) this.#connection.sendData(this.streamId, chunk, fin, done);
    else void this.#reply.promise.then(() => this.#connection.sendData(this.streamId, chunk, fin, done));
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#wake?.();
    this.#reply.resolve();
    this.#connection.forget(this.streamId, this.#ended && this.writableFinished);
    done(error);
  }
}

export interface SpdyConnectionOptions {
  /** Bytes that came with the upgrade's request. */
  readonly head?: Uint8Array;
  /** A stream was opened; it must be replied to, or destroyed. */
  readonly onStream: (stream: SpdyStream) => void;
}

export class SpdyConnection {
  /** Resolves when the session is over, however it ended. */
  readonly closed: Promise<void>;
  readonly #transport: Duplex;
  readonly #options: SpdyConnectionOptions;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #compression = new HeaderCompression();
  #pending: Buffer;
  #lastStreamId = 0;
  #sessionUnacknowledged = 0;
  #ending = false;

  constructor(transport: Duplex, options: SpdyConnectionOptions) {
    this.#transport = transport;
    this.#options = options;
    this.#pending = Buffer.from(options.head ?? []);
    transport.on('error', () => {});
    this.closed = this.#run();
  }

  /** Streams that are open on both sides or on one. */
  get size(): number {
    return this.#streams.size;
  }

  /** Says goodbye and ends the session once what was written is sent. */
  async close(): Promise<void> {
    this.#goAway(goawayCodes.OK);
    if (!this.#transport.writableEnded) this.#transport.end();
    // A peer that does not close its side is not waited for.
    this.#transport.once('finish', () => this.#transport.destroy());
    await this.closed;
  }

  destroy(): void {
    this.#transport.destroy();
  }

  // ---- for streams -------------------------------------------------------------------------------------------------

  async sendReply(streamId: number): Promise<void> {
    const block = await this.#compression.encode(new Map());
    const payload = Buffer.alloc(4 + block.length);
    payload.writeUInt32BE(streamId, 0);
    payload.set(block, 4);
    this.#send(controlFrame(frameTypes.SYN_REPLY, 0, payload));
  }

  sendData(streamId: number, chunk: Buffer, fin: boolean, done: (error?: Error | null) => void): void {
    if (this.#transport.destroyed || this.#transport.writableEnded) {
      done(new Error('the connection is closed'));
      return;
    }
    this.#transport.cork();
    let at = 0;
    do {
      const piece = chunk.subarray(at, at + MAX_DATA_FRAME);
      at += piece.length;
      const isLast = at >= chunk.length;
      this.#transport.write(
        dataFrameHeader(streamId, piece.length, fin && isLast),
        piece.length === 0 ? done : undefined,
      );
      if (piece.length > 0) this.#transport.write(piece, isLast ? done : undefined);
    } while (at < chunk.length);
    this.#transport.uncork();
  }

  acknowledge(streamId: number, bytes: number): void {
    this.#send(wordsFrame(frameTypes.WINDOW_UPDATE, streamId, bytes));
  }

  forget(streamId: number, finished: boolean): void {
    if (!this.#streams.delete(streamId) || finished) return;
    this.#send(wordsFrame(frameTypes.RST_STREAM, streamId, resetCodes.CANCEL));
  }

  // ---- reading -----------------------------------------------------------------------------------------------------

  async #run(): Promise<void> {
    try {
      await this.#consume(Buffer.alloc(0));
      // Not destroyed by leaving the loop: a peer that broke the protocol is told so first.
      for await (const chunk of this.#transport.iterator({ destroyOnReturn: false }))
        await this.#consume(chunk as Buffer);
      this.#transport.destroy();
    } catch (error) {
      if (error instanceof SpdyProtocolError) {
        this.#goAway(goawayCodes.PROTOCOL_ERROR);
        this.#transport.end(() => this.#transport.destroy());
        this.#transport.resume();
      } else this.#transport.destroy();
    } finally {
      for (const stream of [...this.#streams.values()]) {
        this.#streams.delete(stream.streamId);
        stream.receiveEnd();
        stream.destroy();
      }
      this.#compression.close();
    }
  }

  /** The frame whose data is coming in, and how much of it is still to come. */
  #data: { readonly header: FrameHeader; left: number } | undefined;

  async #consume(chunk: Buffer): Promise<void> {
    let input = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#pending = Buffer.alloc(0);
    for (;;) {
      if (this.#data) {
        const piece = input.subarray(0, this.#data.left);
        input = input.subarray(piece.length);
        this.#data.left -= piece.length;
        await this.#receiveData(this.#data.header, piece, this.#data.left === 0);
        if (this.#data.left > 0) return;
        this.#data = undefined;
        continue;
      }
      if (input.length < HEADER_BYTES) break;
      const header = decodeFrameHeader(input);
      if (!header.control) {
        this.#data = { header, left: header.length };
        input = input.subarray(HEADER_BYTES);
        continue;
      }
      if (input.length < HEADER_BYTES + header.length) break;
      await this.#control(header, input.subarray(HEADER_BYTES, HEADER_BYTES + header.length));
      input = input.subarray(HEADER_BYTES + header.length);
    }
    this.#pending = Buffer.from(input);
  }

  async #receiveData(header: FrameHeader, piece: Buffer, isLast: boolean): Promise<void> {
    this.#sessionUnacknowledged += piece.length;
    if (this.#sessionUnacknowledged >= WINDOW_STEP) {
      this.acknowledge(0, this.#sessionUnacknowledged);
      this.#sessionUnacknowledged = 0;
    }
    const stream = this.#streams.get(header.streamId);
    if (!stream) {
      // Data for a stream that we closed may still be on its way; for one that never was it is a mistake.
      if (header.streamId > this.#lastStreamId && isLast)
        this.#send(wordsFrame(frameTypes.RST_STREAM, header.streamId, resetCodes.INVALID_STREAM));
      return;
    }
    if (piece.length > 0) await stream.receive(piece);
    if (isLast && header.flags & FLAG_FIN) stream.receiveEnd();
  }

  async #control(header: FrameHeader, payload: Buffer): Promise<void> {
    const word = (index: number): number => {
      if (payload.length < index * 4 + 4)
        throw new SpdyProtocolError(`a frame of type ${header.type} ends too early`);
      return payload.readUInt32BE(index * 4);
    };
    switch (header.type) {
      case frameTypes.SYN_STREAM:
        word(1);
        return this.#open(word(0) & 0x7fffffff, payload.subarray(10), (header.flags & FLAG_FIN) !== 0);
      case frameTypes.HEADERS: {
        // The headers mean nothing to us, but compression goes on from them.
        const id = word(0) & 0x7fffffff;
        await this.#compression.decode(payload.subarray(4));
        if (header.flags & FLAG_FIN) this.#streams.get(id)?.receiveEnd();
        return;
      }
      case frameTypes.SYN_REPLY:
        throw new SpdyProtocolError('a reply came for a stream that was not opened here');
      case frameTypes.RST_STREAM: {
        const id = word(0) & 0x7fffffff;
        const stream = this.#streams.get(id);
        this.#streams.delete(id);
        stream?.receiveEnd();
        stream?.destroy(new Error('the peer reset the stream'));
        return;
      }
      case frameTypes.PING:
        // Ours would have even ids; we send none.
        if (word(0) & 1) this.#send(wordsFrame(frameTypes.PING, word(0)));
        return;
      case frameTypes.GOAWAY:
        this.#ending = true;
        return;
      default:
        // SETTINGS and WINDOW_UPDATE: client-go's streams have no flow control of their own beneath TCP's.
        return;
    }
  }

  async #open(id: number, block: Buffer, fin: boolean): Promise<void> {
    const headers = await this.#compression.decode(block);
    if (id % 2 === 0 || id <= this.#lastStreamId)
      throw new SpdyProtocolError(`stream id ${id} is not the peer's to open`);
    this.#lastStreamId = id;
    if (this.#ending || this.#streams.size >= MAX_STREAMS) {
      this.#send(wordsFrame(frameTypes.RST_STREAM, id, resetCodes.REFUSED_STREAM));
      return;
    }
    const stream = new SpdyStream(this, id, headers);
    this.#streams.set(id, stream);
    this.#options.onStream(stream);
    if (fin) stream.receiveEnd();
  }

  #goAway(code: number): void {
    if (this.#ending && code === goawayCodes.OK) return;
    this.#ending = true;
    this.#send(wordsFrame(frameTypes.GOAWAY, this.#lastStreamId, code));
  }

  #send(frame: Buffer): void {
    if (this.#transport.destroyed || this.#transport.writableEnded) return;
    this.#transport.write(frame);
  }
}
