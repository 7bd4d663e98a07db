// A program's memory as system calls see it: every range is checked against the books before the platform copies, so
// that what is not the program's (the platform's own pages) is out of reach, and stacks grow when the kernel touches
// them (access_ok and the page fault handler in one).

import { Errno } from '../abi/errno.ts';
import type { HostFd } from '../host/contract.ts';
import type { Context, UserMemory } from '../platform/contract.ts';
import type { Mapping } from './vma.ts';
import { VmFlag } from './vma.ts';
import type { VmaSet } from './vma-set.ts';

/** What can be written or executed can be read, too. */
const readable = VmFlag.access;
const writable = VmFlag.write;
/** For ptrace: whatever the protection. */
const anything = VmFlag.mayRead;

/** Lets a stack grow down to an address; false if there is none that can. */
export type GrowStack = (context: Context, address: number) => boolean;

export class CheckedMemory implements UserMemory {
  readonly #context: Context;
  readonly #set: VmaSet;
  readonly #grow: GrowStack;
  #last: Mapping | undefined;
  #generation = -1;

  constructor(context: Context, set: VmaSet, grow: GrowStack) {
    this.#context = context;
    this.#set = set;
    this.#grow = grow;
  }

  #allowed(address: number, length: number, right: number): boolean {
    const last = this.#last;
    if (
      last !== undefined &&
      this.#generation === this.#set.generation &&
      address >= last.start &&
      address + length <= last.end &&
      last.flags & right
    )
      return true;
    return length === 0 || this.#reach(address, length, right) >= length;
  }

  /** How many bytes from the address on may be accessed, of those asked for. */
  #reach(address: number, length: number, right: number): number {
    const end = address + length;
    let at = address;
    while (at < end) {
      let mapping = this.#set.find(at);
      if (!mapping && this.#grow(this.#context, at)) mapping = this.#set.find(at);
      if (!mapping || (mapping.flags & right) === 0) break;
      this.#last = mapping;
      at = mapping.end;
    }
    this.#generation = this.#set.generation;
    return Math.min(at, end) - address;
  }

  read(address: number, target: Uint8Array, offset: number, length: number): number {
    if (!this.#allowed(address, length, readable)) return -Errno.EFAULT;
    return this.#context.memory.read(address, target, offset, length);
  }

  write(address: number, source: Uint8Array, offset: number, length: number): number {
    if (!this.#allowed(address, length, writable)) return -Errno.EFAULT;
    return this.#context.memory.write(address, source, offset, length);
  }

  readString(address: number, maximum: number): string | number {
    // The end is not known: no further than what is mapped, and further only when the string reaches that far.
    let limit = Math.min(maximum, this.#reach(address, 1, readable) === 1 ? this.#extent(address) : 0);
    while (limit > 0) {
      const text = this.#context.memory.readString(address, limit);
      if (text !== -Errno.ENAMETOOLONG || limit === maximum) return text;
      if (this.#reach(address + limit, 1, readable) !== 1) break;
      limit = Math.min(maximum, limit + this.#extent(address + limit));
    }
    return -Errno.EFAULT;
  }

  /** Bytes from the address to the end of the mapping that #reach found. */
  #extent(address: number): number {
    return (this.#last?.end ?? address) - address;
  }

  readU32(address: number): number {
    return this.#allowed(address, 4, readable) ? this.#context.memory.readU32(address) : -Errno.EFAULT;
  }

  writeU32(address: number, value: number): number {
    return this.#allowed(address, 4, writable)
      ? this.#context.memory.writeU32(address, value)
      : -Errno.EFAULT;
  }

  readU64(address: number): number {
    return this.#allowed(address, 8, readable) ? this.#context.memory.readU64(address) : -Errno.EFAULT;
  }

  writeU64(address: number, value: number | bigint): number {
    return this.#allowed(address, 8, writable)
      ? this.#context.memory.writeU64(address, value)
      : -Errno.EFAULT;
  }

  clear(address: number, length: number): number {
    return this.#allowed(address, length, writable)
      ? this.#context.memory.clear(address, length)
      : -Errno.EFAULT;
  }

  loadU32(address: number): number {
    return this.#allowed(address, 4, readable) ? this.#context.memory.loadU32(address) : -Errno.EFAULT;
  }

  compareExchangeU32(address: number, expected: number, desired: number): number {
    return this.#allowed(address, 4, writable)
      ? this.#context.memory.compareExchangeU32(address, expected, desired)
      : -Errno.EFAULT;
  }

  peek(address: number, target: Uint8Array, offset: number, length: number): number {
    const count = this.#reach(address, length, anything);
    if (count === 0 && length > 0) return -Errno.EFAULT;
    return this.#context.memory.peek(address, target, offset, count);
  }

  poke(address: number, source: Uint8Array, offset: number, length: number): number {
    // FOLL_FORCE makes private copies, but never writes what is shared and not writable.
    let count = 0;
    while (count < length && this.#reach(address + count, 1, anything) === 1) {
      const mapping = this.#last;
      if (!mapping || mapping.flags & VmFlag.special) break;
      if (mapping.shared && (mapping.flags & VmFlag.write) === 0) break;
      count = Math.min(length, mapping.end - address);
    }
    if (count === 0 && length > 0) return -Errno.EFAULT;
    return this.#context.memory.poke(address, source, offset, count);
  }

  readFromHost(fd: HostFd, position: number, segments: readonly number[]): number {
    const checked = this.#checkedSegments(segments, writable);
    if (typeof checked === 'number') return checked;
    return this.#context.memory.readFromHost(fd, position, checked);
  }

  writeToHost(fd: HostFd, position: number, segments: readonly number[]): number {
    const checked = this.#checkedSegments(segments, readable);
    if (typeof checked === 'number') return checked;
    return this.#context.memory.writeToHost(fd, position, checked);
  }

  /** The segments up to the first byte that may not be accessed; -EFAULT if that is the first of all. */
  #checkedSegments(segments: readonly number[], right: number): readonly number[] | number {
    for (let i = 0; i + 1 < segments.length; i += 2) {
      const address = segments[i] as number;
      const length = segments[i + 1] as number;
      if (this.#allowed(address, length, right)) continue;
      const count = this.#reach(address, length, right);
      const kept = segments.slice(0, i);
      if (count > 0) kept.push(address, count);
      return kept.some((value, index) => index % 2 === 1 && value > 0) ? kept : -Errno.EFAULT;
    }
    return segments;
  }
}
