// Where the bytes of a read go and the bytes of a write come from: a program's memory (one buffer or an iovec), or the
// kernel's own (sendfile, loading programs). File descriptions see only this.

import { Errno } from '../abi/errno.ts';
import type { HostFd } from '../host/contract.ts';
import type { UserMemory } from '../platform/contract.ts';

/**
 * A cursor over bytes. All methods advance it by what they return and never go beyond `left`; they return the number
 * of bytes moved, or -EFAULT if nothing could be moved because of the memory.
 */
export interface Io {
  /** Bytes that are still to be moved. */
  readonly left: number;
  /** For a read: gives these bytes to the reader. */
  put(source: Uint8Array, offset: number, length: number): number;
  /** For a write: takes bytes from the writer. */
  take(target: Uint8Array, offset: number, length: number): number;
  putZeroes(length: number): number;
  /** For a write whose bytes nobody wants (/dev/null): goes on without looking at them. Never fails. */
  skip(length: number): number;
  /** For a read from a host file, without a detour; position -1: the file's own. May return other errors of pread. */
  putFromHost(fd: HostFd, position: number, length: number): number;
  takeToHost(fd: HostFd, position: number, length: number): number;
}

const pageSize = 4096;

/**
 * What can be moved of a range that the memory refused as a whole, page by page: bytes, or -EFAULT if not even the first
 * one can be.
 */
function movePrefix(
  address: number,
  length: number,
  move: (address: number, length: number, done: number) => number,
): number {
  let done = 0;
  while (done < length) {
    const count = Math.min(length - done, pageSize - ((address + done) % pageSize));
    if (move(address + done, count, done) < 0) return done > 0 ? done : -Errno.EFAULT;
    done += count;
  }
  return done;
}

/** segments: [address, length, address, length, …], checked by the caller (IOV_MAX, overflow). */
export class UserIo implements Io {
  readonly #memory: UserMemory;
  readonly #segments: number[];
  #index = 0;
  #left = 0;

  constructor(memory: UserMemory, segments: readonly number[]) {
    this.#memory = memory;
    this.#segments = [...segments];
    for (let i = 1; i < segments.length; i += 2) this.#left += segments[i] ?? 0;
  }

  get left(): number {
    return this.#left;
  }

  #each(length: number, move: (address: number, length: number, done: number) => number): number {
    let done = 0;
    const wanted = Math.min(length, this.#left);
    while (done < wanted) {
      const address = this.#segments[this.#index] ?? 0;
      const available = this.#segments[this.#index + 1] ?? 0;
      const count = Math.min(available, wanted - done);
      if (count > 0) {
        let result = move(address, count, done);
        if (result < 0) {
          const before = done;
          result = movePrefix(address, count, (at, step, moved) => move(at, step, before + moved));
        }
        if (result < 0) return done > 0 ? done : result;
        this.#advance(result);
        done += result;
        if (result < count) return done;
      } else {
        this.#index += 2;
      }
    }
    return done;
  }

  #advance(count: number): void {
    let left = count;
    this.#left -= count;
    while (left > 0) {
      const available = this.#segments[this.#index + 1] ?? 0;
      const step = Math.min(available, left);
      this.#segments[this.#index] = (this.#segments[this.#index] ?? 0) + step;
      this.#segments[this.#index + 1] = available - step;
      left -= step;
      if (available === step) this.#index += 2;
    }
  }

  put(source: Uint8Array, offset: number, length: number): number {
    return this.#each(length, (address, count, done) => {
      const result = this.#memory.write(address, source, offset + done, count);
      return result < 0 ? result : count;
    });
  }

  take(target: Uint8Array, offset: number, length: number): number {
    return this.#each(length, (address, count, done) => {
      const result = this.#memory.read(address, target, offset + done, count);
      return result < 0 ? result : count;
    });
  }

  putZeroes(length: number): number {
    return this.#each(length, (address, count) => {
      const result = this.#memory.clear(address, count);
      return result < 0 ? result : count;
    });
  }

  skip(length: number): number {
    const count = Math.min(length, this.#left);
    if (count === this.#left) {
      this.#left = 0;
      this.#index = this.#segments.length;
      return count;
    }
    return this.#each(count, (_address, step) => step);
  }

  #remaining(length: number): number[] {
    const segments: number[] = [];
    let left = Math.min(length, this.#left);
    for (let i = this.#index; i < this.#segments.length && left > 0; i += 2) {
      const count = Math.min(this.#segments[i + 1] ?? 0, left);
      if (count > 0) segments.push(this.#segments[i] ?? 0, count);
      left -= count;
    }
    return segments;
  }

  putFromHost(fd: HostFd, position: number, length: number): number {
    const result = this.#memory.readFromHost(fd, position, this.#remaining(length));
    if (result > 0) this.#advance(result);
    return result;
  }

  takeToHost(fd: HostFd, position: number, length: number): number {
    const result = this.#memory.writeToHost(fd, position, this.#remaining(length));
    if (result > 0) this.#advance(result);
    return result;
  }
}

/** One buffer of the program's: what read(2) and write(2) have, without the books of an iovec. */
export class UserBuffer implements Io {
  readonly #memory: UserMemory;
  #address: number;
  #left: number;

  constructor(memory: UserMemory, address: number, length: number) {
    this.#memory = memory;
    this.#address = address;
    this.#left = length;
  }

  get left(): number {
    return this.#left;
  }

  #moved(result: number): number {
    if (result < 0) return result;
    this.#address += result;
    this.#left -= result;
    return result;
  }

  put(source: Uint8Array, offset: number, length: number): number {
    const count = length < this.#left ? length : this.#left;
    if (this.#memory.write(this.#address, source, offset, count) >= 0) return this.#moved(count);
    return this.#moved(
      movePrefix(this.#address, count, (address, step, done) =>
        this.#memory.write(address, source, offset + done, step),
      ),
    );
  }

  take(target: Uint8Array, offset: number, length: number): number {
    const count = length < this.#left ? length : this.#left;
    if (this.#memory.read(this.#address, target, offset, count) >= 0) return this.#moved(count);
    return this.#moved(
      movePrefix(this.#address, count, (address, step, done) =>
        this.#memory.read(address, target, offset + done, step),
      ),
    );
  }

  putZeroes(length: number): number {
    const count = length < this.#left ? length : this.#left;
    if (this.#memory.clear(this.#address, count) >= 0) return this.#moved(count);
    return this.#moved(
      movePrefix(this.#address, count, (address, step) => this.#memory.clear(address, step)),
    );
  }

  skip(length: number): number {
    return this.#moved(length < this.#left ? length : this.#left);
  }

  putFromHost(fd: HostFd, position: number, length: number): number {
    const count = length < this.#left ? length : this.#left;
    const result = this.#memory.readFromHost(fd, position, [this.#address, count]);
    return this.#moved(result);
  }

  takeToHost(fd: HostFd, position: number, length: number): number {
    const count = length < this.#left ? length : this.#left;
    const result = this.#memory.writeToHost(fd, position, [this.#address, count]);
    return this.#moved(result);
  }
}

/** The kernel's own bytes. */
export class BufferIo implements Io {
  readonly bytes: Uint8Array;
  position = 0;
  readonly #host: {
    pread(fd: HostFd, target: Uint8Array, offset: number, length: number, position: number): number;
    pwrite(fd: HostFd, source: Uint8Array, offset: number, length: number, position: number): number;
  };

  constructor(
    host: {
      pread(fd: HostFd, target: Uint8Array, offset: number, length: number, position: number): number;
      pwrite(fd: HostFd, source: Uint8Array, offset: number, length: number, position: number): number;
    },
    bytes: Uint8Array,
  ) {
    this.#host = host;
    this.bytes = bytes;
  }

  get left(): number {
    return this.bytes.length - this.position;
  }

  put(source: Uint8Array, offset: number, length: number): number {
    const count = Math.min(length, this.left);
    this.bytes.set(source.subarray(offset, offset + count), this.position);
    this.position += count;
    return count;
  }

  take(target: Uint8Array, offset: number, length: number): number {
    const count = Math.min(length, this.left);
    target.set(this.bytes.subarray(this.position, this.position + count), offset);
    this.position += count;
    return count;
  }

  putZeroes(length: number): number {
    const count = Math.min(length, this.left);
    this.bytes.fill(0, this.position, this.position + count);
    this.position += count;
    return count;
  }

  skip(length: number): number {
    const count = Math.min(length, this.left);
    this.position += count;
    return count;
  }

  putFromHost(fd: HostFd, position: number, length: number): number {
    const count = Math.min(length, this.left);
    const result = this.#host.pread(fd, this.bytes, this.position, count, position);
    if (result > 0) this.position += result;
    return result;
  }

  takeToHost(fd: HostFd, position: number, length: number): number {
    const count = Math.min(length, this.left);
    const result = this.#host.pwrite(fd, this.bytes, this.position, count, position);
    if (result > 0) this.position += result;
    return result;
  }
}

/** Largest count that one read or write moves (MAX_RW_COUNT). */
export const maximumTransfer = 0x7fff_f000;

/** The iovec array at `address` as segments; -EINVAL for too many or too long, -EFAULT. Follows import_iovec. */
export function readIovec(memory: UserMemory, address: number, count: number): number[] | number {
  if (count < 0 || count > 1024) return -Errno.EINVAL;
  const segments: number[] = [];
  if (count === 0) return segments;
  const bytes = new Uint8Array(count * 16);
  const result = memory.read(address, bytes, 0, bytes.length);
  if (result < 0) return result;
  const view = new DataView(bytes.buffer);
  let total = 0;
  for (let i = 0; i < count; i++) {
    const low = view.getUint32(i * 16 + 8, true);
    const high = view.getUint32(i * 16 + 12, true);
    if (high >= 0x8000_0000) return -Errno.EINVAL;
    const length = Math.min(high * 0x1_0000_0000 + low, maximumTransfer - total);
    total += length;
    segments.push(view.getUint32(i * 16, true) + view.getUint32(i * 16 + 4, true) * 0x1_0000_0000, length);
  }
  return segments;
}
