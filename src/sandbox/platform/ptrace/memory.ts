// A traced program's memory, through the addon.

import { Errno } from '../../abi/errno.ts';
import type { PtraceCalls } from '../../host/addon.ts';
import type { HostFd } from '../../host/contract.ts';
import type { UserMemory } from '../contract.ts';
import type { SegmentList } from '../systrap/memory.ts';

interface Owner {
  readonly index: number;
}

export class PtraceMemory implements UserMemory {
  readonly #calls: PtraceCalls;
  readonly #segments: SegmentList;
  readonly #context: Owner;

  constructor(platform: { readonly calls: PtraceCalls; readonly segments: SegmentList }, context: Owner) {
    this.#calls = platform.calls;
    this.#segments = platform.segments;
    this.#context = context;
  }

  read(address: number, target: Uint8Array, offset: number, length: number): number {
    return fault(this.#calls.read(this.#context.index, address, target, offset, length));
  }

  write(address: number, source: Uint8Array, offset: number, length: number): number {
    return fault(this.#calls.write(this.#context.index, address, source, offset, length));
  }

  readString(address: number, maximum: number): string | number {
    return this.#calls.string(this.#context.index, address, maximum);
  }

  readU32(address: number): number {
    return fault(this.#calls.load32(this.#context.index, address));
  }

  writeU32(address: number, value: number): number {
    return fault(this.#calls.store32(this.#context.index, address, value));
  }

  readU64(address: number): number {
    return fault(this.#calls.load64(this.#context.index, address));
  }

  writeU64(address: number, value: number | bigint): number {
    let low: number;
    let high: number;
    if (typeof value === 'bigint') {
      low = Number(value & 0xffff_ffffn);
      high = Number((value >> 32n) & 0xffff_ffffn);
    } else {
      low = value >>> 0;
      high = Math.floor(value / 0x1_0000_0000) >>> 0;
    }
    return fault(this.#calls.store64(this.#context.index, address, low, high));
  }

  clear(address: number, length: number): number {
    return fault(this.#calls.clear(this.#context.index, address, length));
  }

  loadU32(address: number): number {
    return this.readU32(address);
  }

  compareExchangeU32(address: number, expected: number, desired: number): number {
    return fault(this.#calls.exchange(this.#context.index, address, expected, desired));
  }

  peek(address: number, target: Uint8Array, offset: number, length: number): number {
    return fault(this.#calls.peek(this.#context.index, address, target, offset, length));
  }

  poke(address: number, source: Uint8Array, offset: number, length: number): number {
    return fault(this.#calls.poke(this.#context.index, address, source, offset, length));
  }

  readFromHost(fd: HostFd, position: number, segments: readonly number[]): number {
    const list = this.#segments.fill(segments);
    if (!list) return -Errno.EINVAL;
    return this.#calls.fromHost(this.#context.index, fd, position, list, segments.length / 2);
  }

  writeToHost(fd: HostFd, position: number, segments: readonly number[]): number {
    const list = this.#segments.fill(segments);
    if (!list) return -Errno.EINVAL;
    return this.#calls.toHost(this.#context.index, fd, position, list, segments.length / 2);
  }
}

const fault = (result: number): number => (result < 0 ? -Errno.EFAULT : result);
