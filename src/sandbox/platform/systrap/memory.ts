// A program's memory, through the addon.

import { Errno } from '../../abi/errno.ts';
import type { Addon } from '../../host/addon.ts';
import type { HostFd } from '../../host/contract.ts';
import type { UserMemory } from '../contract.ts';
import type { SystrapAddressSpace } from './address-space.ts';
import type { SystrapContext } from './context.ts';
import { unmapped } from './protections.ts';

const mostSegments = 1024;
/** Where the host's own mappings of an address space begin (native/sentry/memory.c: in_vdso). */
const hostRange = 0x7ff0_0000_0000;

export class SystrapMemory implements UserMemory {
  readonly #addon: Addon;
  readonly #context: SystrapContext;
  readonly #space: SystrapAddressSpace;

  constructor(addon: Addon, context: SystrapContext, space: SystrapAddressSpace) {
    this.#addon = addon;
    this.#context = context;
    this.#space = space;
  }

  read(address: number, target: Uint8Array, offset: number, length: number): number {
    return this.#addon.memoryRead(this.#context.index, address, target, offset, length) < 0
      ? -Errno.EFAULT
      : 0;
  }

  write(address: number, source: Uint8Array, offset: number, length: number): number {
    return this.#addon.memoryWrite(this.#context.index, address, source, offset, length) < 0
      ? -Errno.EFAULT
      : 0;
  }

  readString(address: number, maximum: number): string | number {
    return this.#addon.memoryString(this.#context.index, address, maximum);
  }

  readU32(address: number): number {
    return this.#addon.memoryLoad32(this.#context.index, address);
  }

  writeU32(address: number, value: number): number {
    return this.#addon.memoryStore32(this.#context.index, address, value);
  }

  readU64(address: number): number {
    return this.#addon.memoryLoad64(this.#context.index, address);
  }

  writeU64(address: number, value: number | bigint): number {
    if (typeof value === 'bigint') {
      const low = Number(value & 0xffff_ffffn);
      const high = Number((value >> 32n) & 0xffff_ffffn);
      return this.#addon.memoryStore64(this.#context.index, address, low, high);
    }
    const high = Math.floor(value / 0x1_0000_0000);
    return this.#addon.memoryStore64(this.#context.index, address, value >>> 0, high >>> 0);
  }

  clear(address: number, length: number): number {
    return this.#addon.memoryClear(this.#context.index, address, length);
  }

  loadU32(address: number): number {
    return this.#addon.memoryLoadNow(this.#context.index, address);
  }

  compareExchangeU32(address: number, expected: number, desired: number): number {
    return this.#addon.memoryExchange(this.#context.index, address, expected, desired);
  }

  peek(address: number, target: Uint8Array, offset: number, length: number): number {
    // The vDSO lies above what programs map.
    if (address >= hostRange)
      return this.#addon.memoryPeek(this.#context.index, address, target, offset, length, unmapped) < 0
        ? -Errno.EFAULT
        : length;
    const done = this.#forced(address, length, (at, done, part, protection) =>
      this.#addon.memoryPeek(this.#context.index, at, target, offset + done, part, protection),
    );
    if (done > 0) this.#space.callSites.conceal(address, target, offset, done);
    return done;
  }

  poke(address: number, source: Uint8Array, offset: number, length: number): number {
    this.#space.callSites.changing(this.#context, address, address + length, false);
    return this.#forced(address, length, (at, done, part, protection) =>
      this.#addon.memoryPoke(this.#context.index, at, source, offset + done, part, protection),
    );
  }

  // In parts that each lie in pages of one protection. Bytes done, or -EFAULT if not even the first can be reached.
  #forced(
    address: number,
    length: number,
    access: (at: number, done: number, part: number, protection: number) => number,
  ): number {
    let done = 0;
    while (done < length) {
      const at = address + done;
      const protection = this.#space.protections.at(at);
      if (protection === unmapped) break;
      const part = Math.min(length - done, this.#space.protections.end(at) - at);
      if (access(at, done, part, protection & 7) < 0) break;
      done += part;
    }
    return done === 0 && length > 0 ? -Errno.EFAULT : done;
  }

  readFromHost(fd: HostFd, position: number, segments: readonly number[]): number {
    const list = this.#space.segments(segments);
    if (!list) return -Errno.EINVAL;
    return this.#addon.memoryFromHost(this.#context.index, fd, position, list, segments.length / 2);
  }

  writeToHost(fd: HostFd, position: number, segments: readonly number[]): number {
    const list = this.#space.segments(segments);
    if (!list) return -Errno.EINVAL;
    return this.#addon.memoryToHost(this.#context.index, fd, position, list, segments.length / 2);
  }
}

/** Room for the segments of one transfer, shared by all contexts. */
export class SegmentList {
  readonly #values = new Float64Array(2 * mostSegments);

  fill(segments: readonly number[]): Float64Array | undefined {
    if (segments.length > this.#values.length || segments.length % 2 !== 0) return undefined;
    for (let i = 0; i < segments.length; i++) this.#values[i] = segments[i]!;
    return this.#values;
  }
}
