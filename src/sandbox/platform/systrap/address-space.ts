// A stub process and what is mapped in it. Changes are queued as operations of a stopped context and carried out by its
// stub when it resumes.

import { Errno } from '../../abi/errno.ts';
import type { AddressSpace, Backing, Context } from '../contract.ts';
import { CallSites } from './call-sites.ts';
import { SystrapContext } from './context.ts';
import { MapFlag, Operation, RemapFlag, slotTable, userRange } from './layout.ts';
import type { SystrapPlatform } from './platform.ts';
import { Protections, sharedPages, unmapped } from './protections.ts';

const page = 4096;
const inRange = (address: number, length: number): boolean =>
  address % page === 0 && length > 0 && address >= userRange.start && address + length <= userRange.end;
const roundUp = (length: number): number => Math.ceil(length / page) * page;

export class SystrapAddressSpace implements AddressSpace {
  readonly protections: Protections;
  readonly callSites: CallSites;
  readonly #platform: SystrapPlatform;
  /** The addon's number for it; -1 once it is destroyed. */
  #id: number;

  constructor(platform: SystrapPlatform, id: number, parent?: SystrapAddressSpace) {
    this.#platform = platform;
    this.#id = id;
    this.protections = parent ? parent.protections.clone() : new Protections();
    this.callSites = parent
      ? parent.callSites.clone(this.protections)
      : new CallSites(platform.addon, platform.enter, this.protections);
  }

  get id(): number {
    return this.#id;
  }

  map(
    through: Context,
    address: number,
    length: number,
    protection: number,
    shared: boolean,
    backing: Backing,
  ): number {
    if (!inRange(address, length)) return -Errno.EINVAL;
    const size = roundUp(length);
    let flags = MapFlag.fixed | (shared ? MapFlag.shared : MapFlag.private);
    let fd = -1;
    let offset = 0;
    if (backing.kind === 'anonymous') {
      // Memory is the sandbox's cgroup's to limit; the host's overcommit heuristics know nothing of the program.
      flags |= MapFlag.anonymous | MapFlag.noReserve;
    } else {
      fd = backing.fd;
      offset = backing.offset;
      if (offset % page !== 0) return -Errno.EINVAL;
    }
    this.#changing(through, address, size, true);
    const result = this.#queue(through, Operation.mmap, address, size, protection, flags, offset, fd);
    if (result === 0) {
      this.protections.set(address, address + size, protection | (shared ? sharedPages : 0));
    }
    return result;
  }

  unmap(through: Context, address: number, length: number): number {
    if (!inRange(address, length)) return -Errno.EINVAL;
    const size = roundUp(length);
    this.#changing(through, address, size, true);
    const result = this.#queue(through, Operation.munmap, address, size);
    if (result === 0) this.protections.set(address, address + size, unmapped);
    return result;
  }

  protect(through: Context, address: number, length: number, protection: number): number {
    if (!inRange(address, length)) return -Errno.EINVAL;
    const size = roundUp(length);
    this.#changing(through, address, size, false);
    const result = this.#queue(through, Operation.mprotect, address, size, protection);
    if (result === 0) this.protections.protect(address, address + size, protection);
    return result;
  }

  move(
    through: Context,
    from: number,
    fromLength: number,
    to: number,
    toLength: number,
    keep: boolean,
  ): number {
    if (!inRange(to, toLength) || from % page !== 0 || from < userRange.start) return -Errno.EINVAL;
    if (fromLength < 0 || from + fromLength > userRange.end) return -Errno.EINVAL;
    const flags = RemapFlag.mayMove | RemapFlag.fixed | (keep ? RemapFlag.dontUnmap : 0);
    if (fromLength > 0) this.#changing(through, from, roundUp(fromLength), false);
    this.#changing(through, to, roundUp(toLength), true);
    const result = this.#queue(through, Operation.mremap, from, fromLength, toLength, flags, to);
    // A length of 0 makes a second mapping of shared pages.
    if (result === 0) {
      this.protections.move(from, roundUp(fromLength), to, roundUp(toLength), keep || fromLength === 0);
    }
    return result;
  }

  advise(through: Context, address: number, length: number, advice: number): number {
    if (!inRange(address, length)) return -Errno.EINVAL;
    // Only what is not the program's may be lost by it.
    const end = address + roundUp(length);
    if (address < slotTable.start + slotTable.length && end > slotTable.start) {
      this.#changing(through, address, roundUp(length), false);
    }
    return this.#queue(through, Operation.madvise, address, roundUp(length), advice);
  }

  sync(through: Context, address: number, length: number, flags: number): number {
    if (!inRange(address, length)) return -Errno.EINVAL;
    return this.#queue(through, Operation.msync, address, roundUp(length), flags);
  }

  destroy(): void {
    if (this.#id < 0) return;
    const id = this.#id;
    this.#id = -1;
    this.#platform.destroySpace(this, id);
  }

  /** The address space of the process that a context of this one makes: `index` is its first context. */
  fork(index: number): SystrapAddressSpace {
    return new SystrapAddressSpace(this.#platform, this.#platform.addon.contextSpace(index), this);
  }

  /** For a context that could not be made: one that nothing can be done with. */
  stillborn(): SystrapAddressSpace {
    return new SystrapAddressSpace(this.#platform, -1);
  }

  /** Queues what the host cannot do (more memory than there are addresses), so that the next resume fails with ENOMEM. */
  failNext(through: SystrapContext): void {
    this.#queue(through, Operation.mmap, 0, 2 ** 60, 0, MapFlag.private | MapFlag.anonymous);
  }

  segments(list: readonly number[]): Float64Array | undefined {
    return this.#platform.segments.fill(list);
  }

  #changing(through: Context, start: number, length: number, gone: boolean): void {
    if (through instanceof SystrapContext && through.index >= 0) {
      this.callSites.changing(through, start, start + length, gone);
    }
  }

  #queue(through: Context, code: number, a0: number, a1: number, a2 = 0, a3 = 0, a4 = 0, fd = -1): number {
    if (!(through instanceof SystrapContext) || through.addressSpace !== this || through.index < 0) {
      return -Errno.EINVAL;
    }
    const result = this.#platform.addon.contextOperation(through.index, code, a0, a1, a2, a3, a4, fd);
    return result < 0 ? result : 0;
  }
}
