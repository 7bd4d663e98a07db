// A program's memory for unit tests: pages in a map, with the protection that the test or the kernel gave them.

import { Errno } from '../abi/errno.ts';
import type { HostFd } from '../host/contract.ts';
import type { UserMemory } from '../platform/contract.ts';
import { Protection } from '../platform/contract.ts';

export const pageSize = 4096;

export interface Page {
  readonly bytes: Uint8Array;
  protection: number;
}

/** Moves bytes between a host file and memory; FakeHost gives it. */
export interface HostBytes {
  pread(fd: HostFd, target: Uint8Array, offset: number, length: number, position: number): number;
  pwrite(fd: HostFd, source: Uint8Array, offset: number, length: number, position: number): number;
}

export class FakeMemory implements UserMemory {
  readonly pages: Map<number, Page>;
  readonly #host: HostBytes | undefined;

  constructor(host?: HostBytes, pages: Map<number, Page> = new Map()) {
    this.#host = host;
    this.pages = pages;
  }

  /** Makes [address, address + length) readable and writable zeroes, whole pages. Gives the address. */
  allocate(
    address: number,
    length = pageSize,
    protection: number = Protection.read | Protection.write,
  ): number {
    for (let page = Math.floor(address / pageSize); page * pageSize < address + length; page++)
      this.pages.set(page, { bytes: new Uint8Array(pageSize), protection });
    return address;
  }

  /** Puts a C string there and gives its address. */
  string(address: number, text: string): number {
    this.poke(address, Buffer.from(`${text}\0`, 'latin1'), 0, text.length + 1);
    return address;
  }

  /** A copy with its own pages. */
  copy(): FakeMemory {
    const pages = new Map<number, Page>();
    for (const [number, page] of this.pages)
      pages.set(number, { bytes: page.bytes.slice(), protection: page.protection });
    return new FakeMemory(this.#host, pages);
  }

  #each(
    address: number,
    length: number,
    right: number,
    move: (page: Uint8Array, at: number, count: number, done: number) => void,
  ): number {
    let done = 0;
    while (done < length) {
      const at = (address + done) % pageSize;
      const page = this.pages.get(Math.floor((address + done) / pageSize));
      if (!page || (page.protection & right) !== right) return -Errno.EFAULT;
      const count = Math.min(pageSize - at, length - done);
      move(page.bytes, at, count, done);
      done += count;
    }
    return done;
  }

  #read(address: number, target: Uint8Array, offset: number, length: number, right: number): number {
    return this.#each(address, length, right, (page, at, count, done) => {
      target.set(page.subarray(at, at + count), offset + done);
    });
  }

  #write(address: number, source: Uint8Array, offset: number, length: number, right: number): number {
    return this.#each(address, length, right, (page, at, count, done) => {
      page.set(source.subarray(offset + done, offset + done + count), at);
    });
  }

  read(address: number, target: Uint8Array, offset: number, length: number): number {
    return this.#read(address, target, offset, length, Protection.read);
  }

  write(address: number, source: Uint8Array, offset: number, length: number): number {
    return this.#write(address, source, offset, length, Protection.write);
  }

  peek(address: number, target: Uint8Array, offset: number, length: number): number {
    return this.#read(address, target, offset, length, 0);
  }

  poke(address: number, source: Uint8Array, offset: number, length: number): number {
    return this.#write(address, source, offset, length, 0);
  }

  readString(address: number, maximum: number): string | number {
    let text = '';
    const byte = new Uint8Array(1);
    while (text.length < maximum) {
      if (this.read(address + text.length, byte, 0, 1) < 0) return -Errno.EFAULT;
      if (byte[0] === 0) return text;
      text += String.fromCharCode(byte[0] ?? 0);
    }
    return -Errno.ENAMETOOLONG;
  }

  readU32(address: number): number {
    const bytes = new Uint8Array(4);
    const result = this.read(address, bytes, 0, 4);
    return result < 0 ? result : new DataView(bytes.buffer).getUint32(0, true);
  }

  writeU32(address: number, value: number): number {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return Math.min(0, this.write(address, bytes, 0, 4));
  }

  readU64(address: number): number {
    const bytes = new Uint8Array(8);
    const result = this.read(address, bytes, 0, 8);
    return result < 0 ? result : Number(new DataView(bytes.buffer).getBigUint64(0, true));
  }

  writeU64(address: number, value: number | bigint): number {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    return Math.min(0, this.write(address, bytes, 0, 8));
  }

  clear(address: number, length: number): number {
    return this.#each(address, length, Protection.write, (page, at, count) => {
      page.fill(0, at, at + count);
    });
  }

  loadU32(address: number): number {
    return this.readU32(address);
  }

  compareExchangeU32(address: number, expected: number, desired: number): number {
    const old = this.readU32(address);
    if (old < 0) return old;
    if (old !== expected >>> 0) return old;
    const result = this.writeU32(address, desired);
    return result < 0 ? result : old;
  }

  readFromHost(fd: HostFd, position: number, segments: readonly number[]): number {
    return this.#host ? this.#transfer(this.#host, fd, position, segments, false) : -Errno.EBADF;
  }

  writeToHost(fd: HostFd, position: number, segments: readonly number[]): number {
    return this.#host ? this.#transfer(this.#host, fd, position, segments, true) : -Errno.EBADF;
  }

  #transfer(
    host: HostBytes,
    fd: HostFd,
    position: number,
    segments: readonly number[],
    out: boolean,
  ): number {
    let total = 0;
    for (let i = 0; i < segments.length; i += 2) {
      const address = segments[i] ?? 0;
      const bytes = new Uint8Array(segments[i + 1] ?? 0);
      const place = position < 0 ? -1 : position + total;
      if (out && this.read(address, bytes, 0, bytes.length) < 0) return total || -Errno.EFAULT;
      const count = out
        ? host.pwrite(fd, bytes, 0, bytes.length, place)
        : host.pread(fd, bytes, 0, bytes.length, place);
      if (count < 0) return total || count;
      if (!out && this.write(address, bytes, 0, count) < 0) return total || -Errno.EFAULT;
      total += count;
      if (count < bytes.length) break;
    }
    return total;
  }
}
