// Reads the frames of one file in order, with the next stretch of it on its way while one is being worked on, and
// judges a frame that is not valid: the end of the journal, torn, or damaged (format.ts says how to tell).

import { crc32 } from 'node:zlib';
import type { StoreFile } from './files.ts';
import {
  countZeroPieces,
  decodeFrameHeader,
  FRAME_HEADER_SIZE,
  frameSize,
  isZero,
  SECTOR_SIZE,
} from './format.ts';

export interface Frame {
  readonly offset: number;
  /** Where the next frame begins. */
  readonly end: number;
  /** The store's revision before the frame. */
  readonly revision: number;
  /** A view, valid until the next call of next(). */
  readonly payload: Buffer;
}

/** A frame whose checksum does not match, or no frame at all. */
export interface BadFrame {
  readonly offset: number;
  readonly bad: string;
}

const READ_SIZE = 2 * 1024 * 1024;

export class FrameReader {
  readonly #file: StoreFile;
  readonly #salt: Buffer;
  /** Where the frames end at the latest. */
  readonly #limit: number;
  /** #length bytes of the file from #start on. */
  #window: Buffer;
  #start: number;
  #length = 0;
  /** Of the next frame. */
  #offset: number;
  /** What follows the window, as soon as it is there. */
  #ahead: Promise<Buffer> | undefined;
  readonly #aheadBuffer: Buffer;

  constructor(
    file: StoreFile,
    options: { readonly salt: Buffer; readonly start: number; readonly limit: number },
  ) {
    this.#file = file;
    this.#salt = options.salt;
    this.#start = options.start;
    this.#offset = options.start;
    this.#limit = options.limit;
    const readSize = Math.min(READ_SIZE, Math.max(0, options.limit - options.start));
    this.#window = Buffer.allocUnsafeSlow(2 * readSize);
    this.#aheadBuffer = Buffer.allocUnsafeSlow(readSize);
  }

  /** The next frame, a bad one (then there is no going on), or undefined at the limit. */
  async next(): Promise<Frame | BadFrame | undefined> {
    const offset = this.#offset;
    if (offset >= this.#limit) return undefined;
    if (!this.#has(FRAME_HEADER_SIZE)) await this.#fill(FRAME_HEADER_SIZE);
    const header = decodeFrameHeader(this.#view(0, FRAME_HEADER_SIZE), this.#salt, offset);
    if (header === undefined) return { offset, bad: 'there is no valid frame header' };
    const size = frameSize(header.length);
    if (offset + size > this.#limit) return { offset, bad: 'the frame is longer than the file' };
    if (!this.#has(size)) await this.#fill(size);
    const payload = this.#view(FRAME_HEADER_SIZE, FRAME_HEADER_SIZE + header.length);
    if (crc32(payload) !== header.crc) return { offset, bad: 'the checksum of the frame does not match' };
    this.#offset = offset + size;
    return { offset, end: this.#offset, revision: header.revision, payload };
  }

  /** Waits for a read that is still under way; the file may be closed then. */
  async stop(): Promise<void> {
    await this.#ahead?.catch(() => {});
  }

  #has(bytes: number): boolean {
    return this.#offset + bytes <= this.#start + this.#length;
  }

  /** Bytes of the window, counted from the next frame on. */
  #view(from: number, to: number): Buffer {
    const at = this.#offset - this.#start;
    return this.#window.subarray(at + from, Math.min(at + to, this.#length));
  }

  /** Makes the window begin at the next frame and hold so many bytes from there on, or all up to the limit. */
  async #fill(bytes: number): Promise<void> {
    const done = this.#offset - this.#start;
    this.#window.copyWithin(0, done, this.#length);
    this.#start = this.#offset;
    this.#length -= done;
    while (this.#length < bytes && this.#start + this.#length < this.#limit) {
      const chunk = await (this.#ahead ?? this.#read());
      this.#ahead = undefined;
      if (chunk.length === 0) throw new Error('the file became shorter while it was read');
      const length = this.#length + chunk.length;
      if (length > this.#window.length) {
        const larger = Buffer.allocUnsafeSlow(Math.max(length, this.#window.length * 2));
        this.#window.copy(larger, 0, 0, this.#length);
        this.#window = larger;
      }
      chunk.copy(this.#window, this.#length);
      this.#length = length;
      if (this.#start + length < this.#limit) this.#ahead = this.#read();
    }
  }

  /** The bytes behind the window. */
  async #read(): Promise<Buffer> {
    const position = this.#start + this.#length;
    const buffer = this.#aheadBuffer.subarray(0, this.#limit - position);
    return buffer.subarray(0, await this.#file.read(buffer, position));
  }
}

export type TailJudgement =
  /** Nothing was being written: only zeros follow, or the file ends. */
  | { readonly tail: 'end' }
  /** The last write was not finished. */
  | { readonly tail: 'torn' }
  /** Something that had been on disk is not any more. */
  | { readonly tail: 'damaged'; readonly why: string };

/** Judges what a journal segment holds from a bad frame on to its end. `offset` is the first byte's in the file. */
export function judgeTail(tail: Buffer, salt: Buffer, offset: number, bad: string): TailJudgement {
  if (isZero(tail)) return { tail: 'end' };
  // One frame is written at a time: when another one follows, this one had been on disk.
  for (let at = tail.indexOf(salt, 1); at >= 0; at = tail.indexOf(salt, at + 1)) {
    if (decodeFrameHeader(tail.subarray(at, at + FRAME_HEADER_SIZE), salt, offset + at) !== undefined)
      return { tail: 'damaged', why: `${bad}, yet written data follows at byte ${offset + at}` };
  }
  if (tail.length < FRAME_HEADER_SIZE) return { tail: 'torn' };
  const header = decodeFrameHeader(tail, salt, offset);
  if (header === undefined) {
    // Its first sector is missing, or the write stopped within the header.
    if (isZero(tail, 0, Math.min(tail.length, SECTOR_SIZE - (offset % SECTOR_SIZE)))) return { tail: 'torn' };
    if (isZero(tail, FRAME_HEADER_SIZE)) return { tail: 'torn' };
    return { tail: 'damaged', why: `${bad}, although all of its sector was written` };
  }
  if (tail.length < frameSize(header.length)) return { tail: 'torn' };
  const payload = tail.subarray(FRAME_HEADER_SIZE, FRAME_HEADER_SIZE + header.length);
  const zeroPieces = countZeroPieces(payload, offset + FRAME_HEADER_SIZE);
  if (zeroPieces > header.zeroPieces) return { tail: 'torn' };
  return { tail: 'damaged', why: `${bad}, although all of its sectors were written` };
}
