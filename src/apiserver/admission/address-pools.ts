// What service addresses and node ports are taken from. An item has owners (objects in the watch cache that hold it:
// usually one, more after damage), is held (promised to a write under way), or is free. Owners change only through the
// watch cache's events.

import type { Clock } from '../../component/index.ts';
import { type CidrRange, formatAddress, type IpFamily, isAddress, parseAddress, parseCidr } from './ip.ts';

export type PoolProblem = 'taken' | 'out-of-range';

/** A write whose event has not come by then was changed on its way and did not keep the item. */
const LONGEST_HOLD_MS = 60_000;

interface Hold {
  readonly since: number;
}

/** The ownership book, whatever the items are. */
class Book<T> {
  readonly #owners = new Map<T, readonly string[]>();
  readonly #items = new Map<string, readonly T[]>();
  readonly #holds = new Map<T, Hold>();
  readonly #clock: Clock;
  /** Hears that an item is no longer free, or is again. */
  readonly #changed: (item: T, used: boolean) => void;

  constructor(clock: Clock, changed: (item: T, used: boolean) => void = () => {}) {
    this.#clock = clock;
    this.#changed = changed;
  }

  /** What an owner has from now on, as its event says. */
  own(owner: string, items: readonly T[]): void {
    const before = this.#items.get(owner) ?? [];
    if (items.length === 0) this.#items.delete(owner);
    else this.#items.set(owner, items);
    for (const item of items) {
      const owners = this.#owners.get(item) ?? [];
      if (!owners.includes(owner))
        this.#change(item, () => {
          this.#owners.set(item, [...owners, owner]);
          this.#holds.delete(item);
        });
    }
    for (const item of before) {
      if (items.includes(item)) continue;
      const left = (this.#owners.get(item) ?? []).filter((one) => one !== owner);
      this.#change(item, () => {
        if (left.length > 0) this.#owners.set(item, left);
        else this.#owners.delete(item);
      });
    }
  }

  /** In the order in which they came. */
  owners(item: T): readonly string[] {
    return this.#owners.get(item) ?? [];
  }

  isFree(item: T): boolean {
    this.#expire(item);
    return !this.#isUsed(item);
  }

  /** Holds the item; false when somebody else has it. Pushes what gives it back. */
  take(item: T, owner: string, release: (() => void)[]): boolean {
    if (this.owners(item).includes(owner)) return true;
    if (!this.isFree(item)) return false;
    const hold: Hold = { since: this.#clock.monotonic() };
    this.#change(item, () => this.#holds.set(item, hold));
    release.push(() => {
      if (this.#holds.get(item) === hold) this.#change(item, () => this.#holds.delete(item));
    });
    return true;
  }

  /** Everything that is not free. */
  *used(): Iterable<T> {
    yield* this.#owners.keys();
    for (const item of this.#holds.keys()) if (!this.#owners.has(item)) yield item;
  }

  /** Lets go of what was promised too long ago. */
  expire(): void {
    for (const item of [...this.#holds.keys()]) this.#expire(item);
  }

  #expire(item: T): void {
    const hold = this.#holds.get(item);
    if (hold !== undefined && this.#clock.monotonic() - hold.since >= LONGEST_HOLD_MS)
      this.#change(item, () => this.#holds.delete(item));
  }

  #isUsed(item: T): boolean {
    return this.#owners.has(item) || this.#holds.has(item);
  }

  #change(item: T, change: () => void): void {
    const before = this.#isUsed(item);
    change();
    const after = this.#isUsed(item);
    if (before !== after) this.#changed(item, after);
  }
}

/**
 * Where the part begins that items are given out from at random; below it is left, while there is room, to those who
 * ask for a certain one (KEP-3070, KEP-3668).
 */
function dynamicStart(size: number, least: number, most: number, step: number): number {
  if (size < least) return 0;
  return Math.min(Math.max(Math.floor(size / step), least), most);
}

/** Tries [start, size) from a random place, then [0, start). */
function* candidates(size: number, start: number, random: () => number): Generator<number> {
  const upper = size - start;
  const offset = Math.floor(random() * upper);
  for (let i = 0; i < upper; i++) yield start + ((offset + i) % upper);
  for (let i = 0; i < start; i++) yield i;
}

/** One range of addresses; how many of them are used is counted as they come and go, so that full is known at once. */
class Subnet {
  readonly range: CidrRange;
  readonly first: bigint;
  readonly last: bigint;
  /** At most 2^32 of them are given out at random. */
  readonly size: number;
  used = 0;

  constructor(range: CidrRange) {
    this.range = range;
    // Neither the network's own address nor, for IPv4, its broadcast address.
    this.first = range.first + 1n;
    this.last = range.family === 'IPv4' ? range.last - 1n : range.last;
    const size = this.last - this.first + 1n;
    this.size = size > 0n ? Number(size < 2n ** 32n ? size : 2n ** 32n) : 0;
  }

  holds(value: bigint): boolean {
    return value >= this.first && value <= this.last;
  }

  /** Of those that are given out. */
  counts(value: bigint): boolean {
    return value >= this.first && value < this.first + BigInt(this.size);
  }
}

/** The service addresses of one family, from any number of ranges, which may overlap. */
export class AddressSpace {
  readonly family: IpFamily;
  readonly #book: Book<string>;
  readonly #random: () => number;
  #subnets: readonly Subnet[] = [];

  constructor(family: IpFamily, random: () => number, clock: Clock) {
    this.family = family;
    this.#random = random;
    this.#book = new Book(clock, (address, used) => {
      const { value } = parseAddress(address);
      for (const subnet of this.#subnets) if (subnet.counts(value)) subnet.used += used ? 1 : -1;
    });
  }

  get ranges(): readonly string[] {
    return this.#subnets.map(({ range }) => range.text);
  }

  /** Where addresses are taken from, from now on, in this order; each once. */
  setRanges(texts: readonly string[]): void {
    const subnets = [...new Set(texts)].map((text) => new Subnet(parseCidr(text)));
    for (const address of this.#book.used()) {
      const { value } = parseAddress(address);
      for (const subnet of subnets) if (subnet.counts(value)) subnet.used++;
    }
    this.#subnets = subnets;
  }

  /** Canonical addresses of this family; others are left out. */
  own(owner: string, addresses: readonly string[]): void {
    this.#book.own(
      owner,
      addresses.filter((address) => isAddress(address) && parseAddress(address).family === this.family),
    );
  }

  take(address: string, owner: string, release: (() => void)[]): PoolProblem | undefined {
    const { value } = parseAddress(address);
    if (!this.#subnets.some((subnet) => subnet.holds(value))) return 'out-of-range';
    return this.#book.take(address, owner, release) ? undefined : 'taken';
  }

  /** Undefined when all ranges are full. */
  takeAny(owner: string, release: (() => void)[]): string | undefined {
    const address = this.#anyFree(owner, release);
    if (address !== undefined) return address;
    // Promises that were not kept may be all that fills the ranges.
    this.#book.expire();
    return this.#anyFree(owner, release);
  }

  #anyFree(owner: string, release: (() => void)[]): string | undefined {
    for (const subnet of this.#subnets) {
      if (subnet.used >= subnet.size) continue;
      const start = dynamicStart(subnet.size, 16, 256, 16);
      for (const index of candidates(subnet.size, start, this.#random)) {
        const address = formatAddress(subnet.first + BigInt(index), this.family);
        if (this.#book.isFree(address) && this.#book.take(address, owner, release)) return address;
      }
    }
    return undefined;
  }
}

export class PortPool {
  readonly first: number;
  readonly last: number;
  readonly #book: Book<number>;
  readonly #random: () => number;

  constructor(first: number, last: number, random: () => number, clock: Clock) {
    this.first = first;
    this.last = last;
    this.#book = new Book(clock);
    this.#random = random;
  }

  own(owner: string, ports: readonly number[]): void {
    this.#book.own(owner, [...new Set(ports)]);
  }

  /** Who has the port, the first one first. */
  owners(port: number): readonly string[] {
    return this.#book.owners(port);
  }

  holds(port: number): boolean {
    return port >= this.first && port <= this.last;
  }

  take(port: number, owner: string, release: (() => void)[]): PoolProblem | undefined {
    if (this.#book.owners(port).includes(owner)) return undefined;
    if (!this.holds(port)) return 'out-of-range';
    return this.#book.take(port, owner, release) ? undefined : 'taken';
  }

  /** Undefined when the range is full. */
  takeAny(owner: string, release: (() => void)[]): number | undefined {
    const size = this.last - this.first + 1;
    for (const index of candidates(size, dynamicStart(size, 16, 128, 32), this.#random)) {
      const port = this.first + index;
      if (this.#book.isFree(port) && this.#book.take(port, owner, release)) return port;
    }
    return undefined;
  }
}
