// Hands out the addresses of one range, going round, so that one that was given back is the last to be given again:
// connections and caches that still know its former owner have time to forget.

import {
  type Address,
  addressAt,
  type Cidr,
  contains,
  formatAddress,
  formatCidr,
  sizeOf,
} from '../component/index.ts';
import { RuntimeError } from '../runtime/cri.ts';

/** A range of version 6 has more addresses than a node will ever have pods; that many of it are used. */
const LARGEST = 1n << 32n;

export class AddressPool {
  readonly cidr: Cidr;
  /** The first address after the range's own: the bridge's, the pods' way out. */
  readonly gateway: string;
  readonly #first = 2n;
  readonly #end: bigint;
  readonly #used = new Set<bigint>();
  #next: bigint;

  /** `next`: where the round goes on, an address of the range. */
  constructor(cidr: Cidr, next?: Address) {
    this.cidr = cidr;
    this.gateway = formatAddress(addressAt(cidr, 1n));
    const size = sizeOf(cidr) < LARGEST ? sizeOf(cidr) : LARGEST;
    // The last address of a version 4 range is its broadcast address.
    this.#end = cidr.family === 4 ? size - 1n : size;
    if (this.#end <= this.#first)
      throw new RuntimeError(
        'InvalidArgument',
        `the pod range ${formatCidr(cidr)} has no address left for pods; it needs a shorter prefix`,
      );
    const offset = next && contains(cidr, next) ? next.value - cidr.base : this.#first;
    this.#next = offset >= this.#first && offset < this.#end ? offset : this.#first;
  }

  /** How many addresses can be handed out in all. */
  get capacity(): number {
    return Number(this.#end - this.#first);
  }

  get used(): number {
    return this.#used.size;
  }

  /** Where the round goes on. */
  get next(): string {
    return formatAddress(addressAt(this.cidr, this.#next));
  }

  /** Takes the next free address. */
  allocate(): Address {
    if (this.#used.size >= this.capacity)
      throw new RuntimeError(
        'FailedPrecondition',
        `all ${this.capacity} addresses of the pod range ${formatCidr(this.cidr)} are in use`,
      );
    let offset = this.#next;
    while (this.#used.has(offset)) offset = this.#after(offset);
    this.#used.add(offset);
    this.#next = this.#after(offset);
    return addressAt(this.cidr, offset);
  }

  /** Takes a known address, one that is on record; false when somebody has it or it is not ours to give. */
  claim(address: Address): boolean {
    if (!contains(this.cidr, address)) return false;
    const offset = address.value - this.cidr.base;
    if (offset < this.#first || offset >= this.#end || this.#used.has(offset)) return false;
    this.#used.add(offset);
    return true;
  }

  release(address: Address): void {
    if (contains(this.cidr, address)) this.#used.delete(address.value - this.cidr.base);
  }

  #after(offset: bigint): bigint {
    return offset + 1n >= this.#end ? this.#first : offset + 1n;
  }
}
