// The two kinds of connection that go on after a reply: frames (exec, attach, watches) and plain bytes.

import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { channels, encodeFrame, FrameDecoder, MAX_FRAME } from './wire.ts';

/** A connection that carries frames both ways. */
export class FrameSession {
  readonly #socket: Socket;
  readonly #decoder = new FrameDecoder();
  readonly #onFrame: (channel: number, payload: Buffer) => Promise<void> | undefined | void;
  /** The frames received so far are handled one after the other. */
  #handled: Promise<void> = Promise.resolve();
  /** Resolves when the other side has ended and all its frames are handled; rejects when handling one failed. */
  readonly closed: Promise<void>;

  constructor(
    socket: Socket,
    rest: Buffer,
    onFrame: (channel: number, payload: Buffer) => Promise<void> | undefined | void,
  ) {
    this.#socket = socket;
    this.#onFrame = onFrame;
    this.closed = new Promise((resolve, reject) => {
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => this.#take(chunk));
      socket.on('end', () => socket.end());
      socket.on('close', () => this.#handled.then(resolve, reject));
    });
    if (rest.length > 0) this.#take(rest);
    socket.resume();
  }

  #take(chunk: Buffer): void {
    for (const { channel, payload } of this.#decoder.push(chunk)) {
      const pending = this.#onFrame(channel, payload);
      if (!pending) continue;
      // A slow reader: nothing more is read from the host until it has taken this. Frames already cut out are
      // handed over all the same; the writer behind the handler keeps their order.
      this.#socket.pause();
      const all = Promise.all([this.#handled, pending]).then(() => {
        if (this.#handled === all) this.#socket.resume();
      });
      this.#handled = all;
      all.catch(() => this.#socket.destroy());
    }
  }

  /** False when the caller should wait for 'drained' before sending more. */
  send(channel: number, payload: Uint8Array): boolean {
    let room = true;
    if (payload.length === 0) return this.#socket.write(encodeFrame(channel, payload));
    for (let at = 0; at < payload.length; at += MAX_FRAME)
      room = this.#socket.write(encodeFrame(channel, payload.subarray(at, at + MAX_FRAME)));
    return room;
  }

  /** Resolves when what was sent has gone out, or the connection has ended. */
  drained(): Promise<void> {
    if (this.#socket.destroyed || !this.#socket.writableNeedDrain) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        this.#socket.off('drain', done).off('close', done);
        resolve();
      };
      this.#socket.on('drain', done).on('close', done);
    });
  }

  resize(height: number, width: number): void {
    const payload = Buffer.alloc(8);
    payload.writeUInt32LE(height, 0);
    payload.writeUInt32LE(width, 4);
    this.send(channels.resize, payload);
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** A connection that carries bytes as they are, with either half closable on its own. */
export class RawConnection {
  readonly stream: Duplex;

  constructor(socket: Socket, rest: Buffer) {
    if (rest.length > 0) socket.unshift(rest);
    this.stream = socket;
  }
}
