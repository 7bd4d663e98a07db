// Frames of the control protocol as bytes, for both of its ends.

import { type Frame, maximumFrame } from './protocol.ts';

const lengthBytes = 4;

export function encodeFrame(frame: Frame): Uint8Array {
  const text = Buffer.from(JSON.stringify(frame), 'utf8');
  if (text.length > maximumFrame) throw new Error(`a control message of ${text.length} bytes is too large`);
  const bytes = new Uint8Array(lengthBytes + text.length);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, lengthBytes);
  return bytes;
}

/** Collects bytes as they come and gives the frames that they make. */
export class FrameReader {
  #bytes = new Uint8Array(4096);
  #length = 0;

  /** Throws when the other end does not keep to the protocol; the connection must then be closed. */
  push(bytes: Uint8Array): Frame[] {
    if (this.#length + bytes.length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + bytes.length));
      larger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    const frames: Frame[] = [];
    let start = 0;
    while (this.#length - start >= lengthBytes) {
      const length = new DataView(this.#bytes.buffer, start, lengthBytes).getUint32(0, true);
      if (length > maximumFrame) throw new Error(`a control message of ${length} bytes is too large`);
      if (this.#length - start < lengthBytes + length) break;
      frames.push(decode(this.#bytes.subarray(start + lengthBytes, start + lengthBytes + length)));
      start += lengthBytes + length;
    }
    this.#bytes.copyWithin(0, start, this.#length);
    this.#length -= start;
    return frames;
  }
}

function decode(bytes: Uint8Array): Frame {
  const value: unknown = JSON.parse(
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8'),
  );
  if (typeof value !== 'object' || value === null || !('id' in value) || typeof value.id !== 'number')
    throw new Error('a control message must be an object with a number "id"');
  return value as Frame;
}
