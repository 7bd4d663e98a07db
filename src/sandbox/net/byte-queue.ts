// The bytes of a stream between two sockets: a ring that grows while its reader lags behind, up to what the sockets'
// limits let in, and begins again at its first byte when it is empty, so that a quick reader keeps it in the cache.

import type { Io } from '../vfs/io.ts';

const firstSize = 4096;
/** A ring that had to grow beyond this is given up when it is empty. */
const keptSize = 1_048_576;
const none = new Uint8Array(0);

export class ByteQueue {
  #bytes: Uint8Array = none;
  #start = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  #reserve(length: number): void {
    if (length <= this.#bytes.length) return;
    let size = Math.max(firstSize, this.#bytes.length * 2);
    while (size < length) size *= 2;
    // Nothing reads what was not written before.
    const bytes = Buffer.allocUnsafeSlow(size);
    const head = Math.min(this.#length, this.#bytes.length - this.#start);
    bytes.set(this.#bytes.subarray(this.#start, this.#start + head));
    bytes.set(this.#bytes.subarray(0, this.#length - head), head);
    this.#bytes = bytes;
    this.#start = 0;
  }

  /** Takes up to `count` bytes from a writer: how many; a negative errno if there was none because of his memory. */
  take(io: Io, count: number): number {
    const wanted = Math.min(count, io.left);
    this.#reserve(this.#length + wanted);
    let done = 0;
    while (done < wanted) {
      const size = this.#bytes.length;
      const at = this.#start + this.#length;
      const from = at < size ? at : at - size;
      const step = Math.min(wanted - done, size - from);
      const moved = io.take(this.#bytes, from, step);
      if (moved < 0) return done > 0 ? done : moved;
      this.#length += moved;
      done += moved;
      if (moved < step) break;
    }
    return done;
  }

  /** Gives up to `count` bytes, from `skip` on, to a reader and keeps them. */
  give(io: Io, count: number, skip = 0): number {
    const wanted = Math.min(count, this.#length - skip, io.left);
    let done = 0;
    while (done < wanted) {
      const size = this.#bytes.length;
      const at = this.#start + skip + done;
      const from = at < size ? at : at - size;
      const step = Math.min(wanted - done, size - from);
      const moved = io.put(this.#bytes, from, step);
      if (moved < 0) return done > 0 ? done : moved;
      done += moved;
      if (moved < step) break;
    }
    return done;
  }

  /** The byte at a place. */
  at(index: number): number {
    const at = this.#start + index;
    return this.#bytes[at < this.#bytes.length ? at : at - this.#bytes.length] ?? 0;
  }

  /** Forgets the oldest bytes. */
  drop(count: number): void {
    this.#length -= count;
    if (this.#length === 0) {
      this.#start = 0;
      if (this.#bytes.length > keptSize) this.#bytes = none;
      return;
    }
    this.#start += count;
    if (this.#start >= this.#bytes.length) this.#start -= this.#bytes.length;
  }

  clear(): void {
    this.#bytes = none;
    this.#start = 0;
    this.#length = 0;
  }
}
