// Pools that service addresses and node ports are taken from. An item is owned (a Service in the cache has it), held
// (promised to a write under way), or free. Owners change only through the watch cache's events.

import type { Clock } from '../../component/index.ts';
import { type CidrRange, formatAddress, parseAddress } from './ip.ts';

export type PoolProblem = 'taken' | 'out-of-range';

/** A write whose event has not come by then was changed on its way and did not keep the item. */
const LONGEST_HOLD_MS = 60_000;

interface Hold {
  readonly owner: string;
  readonly since: number;
}

/** The ownership book, whatever the items are. */
class Book<T> {
  readonly #owners = new Map<T, string>();
  readonly #items = new Map<string, readonly T[]>();
  readonly #holds = new Map<T, Hold>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What an owner has from now on, as its event says. */
  own(owner: string, items: readonly T[]): void {
    for (const item of this.#items.get(owner) ?? []) {
      if (this.#owners.get(item) === owner) this.#owners.delete(item);
    }
    if (items.length === 0) this.#items.delete(owner);
    else this.#items.set(owner, items);
    for (const item of items) {
      this.#owners.set(item, owner);
      this.#holds.delete(item);
    }
  }

  isFree(item: T): boolean {
    return !this.#owners.has(item) && this.#held(item) === undefined;
  }

  /** Holds the item for the owner; false when another has it. Pushes what gives it back. */
  take(item: T, owner: string, release: (() => void)[]): boolean {
    const current = this.#owners.get(item);
    if (current === owner) return true;
    if (current !== undefined) return false;
    if (this.#held(item) !== undefined) return false;
    const hold: Hold = { owner, since: this.#clock.monotonic() };
    this.#holds.set(item, hold);
    release.push(() => {
      if (this.#holds.get(item) === hold) this.#holds.delete(item);
    });
    return true;
  }

  get size(): number {
    return this.#owners.size + this.#holds.size;
  }

  #held(item: T): Hold | undefined {
    const hold = this.#holds.get(item);
    if (!hold || this.#clock.monotonic() - hold.since < LONGEST_HOLD_MS) return hold;
    this.#holds.delete(item);
    return undefined;
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

export class AddressPool {
  readonly range: CidrRange;
  readonly #book: Book<string>;
  readonly #first: bigint;
  readonly #size: number;
  readonly #random: () => number;

  constructor(range: CidrRange, random: () => number, clock: Clock) {
    this.range = range;
    this.#book = new Book(clock);
    this.#random = random;
    // Neither the network's own address nor, for IPv4, its broadcast address.
    this.#first = range.first + 1n;
    const last = range.family === 'IPv4' ? range.last - 1n : range.last;
    const size = last - this.#first + 1n;
    this.#size = size > 0n ? Number(size < 2n ** 32n ? size : 2n ** 32n) : 0;
  }

  own(owner: string, addresses: readonly string[]): void {
    this.#book.own(owner, addresses);
  }

  take(address: string, owner: string, release: (() => void)[]): PoolProblem | undefined {
    const { value } = parseAddress(address);
    const broadcast = this.range.family === 'IPv4' ? this.range.last : this.range.last + 1n;
    if (value < this.#first || value >= broadcast) return 'out-of-range';
    return this.#book.take(address, owner, release) ? undefined : 'taken';
  }

  /** Undefined when the range is full. */
  takeAny(owner: string, release: (() => void)[]): string | undefined {
    if (this.#book.size >= this.#size) return undefined;
    for (const index of candidates(this.#size, dynamicStart(this.#size, 16, 256, 16), this.#random)) {
      const address = formatAddress(this.#first + BigInt(index), this.range.family);
      if (this.#book.isFree(address) && this.#book.take(address, owner, release)) return address;
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
    this.#book.own(owner, ports);
  }

  take(port: number, owner: string, release: (() => void)[]): PoolProblem | undefined {
    if (port < this.first || port > this.last) return 'out-of-range';
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
