// A traced process and what is mapped in it. Every change is a system call that one of its stopped threads is made to
// execute, at once.

import { Errno } from '../../abi/errno.ts';
import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import type { AddressSpace, Backing, Context } from '../contract.ts';
import { MapFlag, RemapFlag } from '../systrap/layout.ts';
import { PtraceContext } from './context.ts';
import type { PtracePlatform } from './platform.ts';

const page = 4096;
const roundUp = (length: number): number => Math.ceil(length / page) * page;

/** Each command of membarrier(2) that has to be registered for, and how. */
const barrierRegistrations: ReadonlyMap<number, number> = new Map([
  [8, 16],
  [32, 64],
]);

export class PtraceAddressSpace implements AddressSpace {
  readonly #platform: PtracePlatform;
  /** The addon's number for it; -1 once it is destroyed. */
  #id: number;

  constructor(platform: PtracePlatform, id: number) {
    this.#platform = platform;
    this.#id = id;
  }

  map(
    through: Context,
    address: number,
    length: number,
    protection: number,
    shared: boolean,
    backing: Backing,
  ): number {
    if (!this.#inRange(address, length)) return -Errno.EINVAL;
    const index = this.#thread(through);
    if (index < 0) return index;
    const flags = MapFlag.fixed | (shared ? MapFlag.shared : MapFlag.private);
    const size = roundUp(length);
    if (backing.kind === 'file') {
      if (backing.offset % page !== 0) return -Errno.EINVAL;
      const { calls } = this.#platform;
      return done(calls.mapFile(index, address, size, protection, flags, backing.fd, backing.offset));
    }
    // Memory is the sandbox's cgroup's to limit; the host's overcommit heuristics know nothing of the program.
    const anonymous = flags | MapFlag.anonymous | MapFlag.noReserve;
    return this.#call(through, SyscallNumber.mmap, address, size, protection, anonymous, -1, 0);
  }

  unmap(through: Context, address: number, length: number): number {
    if (!this.#inRange(address, length)) return -Errno.EINVAL;
    return this.#call(through, SyscallNumber.munmap, address, roundUp(length));
  }

  protect(through: Context, address: number, length: number, protection: number): number {
    if (!this.#inRange(address, length)) return -Errno.EINVAL;
    return this.#call(through, SyscallNumber.mprotect, address, roundUp(length), protection);
  }

  move(
    through: Context,
    from: number,
    fromLength: number,
    to: number,
    toLength: number,
    keep: boolean,
  ): number {
    const { start, end } = this.#platform.userRange;
    if (!this.#inRange(to, toLength) || from % page !== 0 || from < start) return -Errno.EINVAL;
    if (fromLength < 0 || from + fromLength > end) return -Errno.EINVAL;
    const flags = RemapFlag.mayMove | RemapFlag.fixed | (keep ? RemapFlag.dontUnmap : 0);
    return this.#call(through, SyscallNumber.mremap, from, fromLength, toLength, flags, to);
  }

  advise(through: Context, address: number, length: number, advice: number): number {
    if (!this.#inRange(address, length)) return -Errno.EINVAL;
    return this.#call(through, SyscallNumber.madvise, address, roundUp(length), advice);
  }

  sync(through: Context, address: number, length: number, flags: number): number {
    if (!this.#inRange(address, length)) return -Errno.EINVAL;
    return this.#call(through, SyscallNumber.msync, address, roundUp(length), flags);
  }

  barrier(through: Context, command: number): number {
    const registration = barrierRegistrations.get(command);
    if (registration !== undefined) {
      const result = this.#call(through, SyscallNumber.membarrier, registration, 0);
      if (result < 0) return result;
    }
    return this.#call(through, SyscallNumber.membarrier, command, 0);
  }

  resident(through: Context, address: number, length: number, vector: Uint8Array): number {
    if (!this.#inRange(address, length)) return -Errno.EINVAL;
    const index = this.#thread(through);
    return index < 0 ? index : this.#platform.calls.resident(index, address, roundUp(length), vector);
  }

  destroy(): void {
    if (this.#id < 0) return;
    const id = this.#id;
    this.#id = -1;
    this.#platform.destroySpace(this, id);
  }

  #inRange(address: number, length: number): boolean {
    const { start, end } = this.#platform.userRange;
    return address % page === 0 && length > 0 && address >= start && address + length <= end;
  }

  /** The number of the thread that is to do it, or a negative errno. */
  #thread(through: Context): number {
    if (!(through instanceof PtraceContext) || through.addressSpace !== this || through.index < 0) {
      return -Errno.EINVAL;
    }
    return through.index;
  }

  #call(through: Context, number: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): number {
    const index = this.#thread(through);
    return index < 0 ? index : done(this.#platform.calls.call(index, number, a, b, c, d, e, f));
  }
}

const done = (result: number): number => (result < 0 ? result : 0);
