// Netlink messages for programs: a header, a fixed part, attributes.

import { NetlinkHeader } from '../../abi/netlink.ts';

const aligned = (length: number): number => (length + 3) & ~3;

export class NetlinkMessage {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length: number = NetlinkHeader.size;

  constructor(type: number, flags: number, sequence: number, port: number) {
    this.#view.setUint16(NetlinkHeader.type, type, true);
    this.#view.setUint16(NetlinkHeader.flags, flags, true);
    this.#view.setUint32(NetlinkHeader.sequence, sequence, true);
    this.#view.setUint32(NetlinkHeader.port, port, true);
  }

  #reserve(length: number): void {
    if (length <= this.#bytes.length) return;
    const bytes = new Uint8Array(Math.max(length, this.#bytes.length * 2));
    bytes.set(this.#bytes);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  /** Zeroes, for a structure; gives a view of them that is valid until the next call. */
  structure(size: number): DataView {
    const at = this.#length;
    this.#reserve(at + aligned(size));
    this.#length = at + aligned(size);
    return new DataView(this.#bytes.buffer, at, size);
  }

  attribute(type: number, value: Uint8Array): void {
    const at = this.#length;
    const length = 4 + value.length;
    this.#reserve(at + aligned(length));
    this.#view.setUint16(at, length, true);
    this.#view.setUint16(at + 2, type, true);
    this.#bytes.set(value, at + 4);
    this.#length = at + aligned(length);
  }

  attributeU8(type: number, value: number): void {
    this.attribute(type, Uint8Array.of(value));
  }

  attributeU32(type: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.attribute(type, bytes);
  }

  /** With its zero. */
  attributeText(type: number, text: string): void {
    this.attribute(type, Buffer.from(`${text}\0`, 'latin1'));
  }

  /** The whole message. */
  finish(): Uint8Array {
    this.#view.setUint32(NetlinkHeader.length, this.#length, true);
    return this.#bytes.slice(0, this.#length);
  }
}

/** The attributes in a part of a message; what is cut short ends them. */
export function parseAttributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || length > bytes.length - at) break;
    found.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += aligned(length);
  }
  return found;
}
