// Pod addresses out of CIDR ranges: the lowest free one after the last that was given, so that an address is reused
// as late as possible. Holds no more than the set of addresses in use.

import { isIPv4, isIPv6 } from 'node:net';

interface Range {
  readonly first: bigint;
  readonly size: bigint;
  readonly bits: 32 | 128;
  next: bigint;
  readonly used: Set<bigint>;
}

function toNumber(address: string): bigint {
  if (isIPv4(address)) return address.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
  const [head = '', tail] = address.split('::');
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const zeros = tail === undefined ? [] : Array<string>(8 - left.length - right.length).fill('0');
  return [...left, ...zeros, ...right].reduce((sum, part) => (sum << 16n) | BigInt(`0x${part}`), 0n);
}

/** RFC 5952: the longest run of two or more zero groups, the first of equals, becomes `::`. */
function ipv6Text(value: bigint): string {
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16),
  );
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === '0') end++;
    if (end - i > length) {
      start = i;
      length = end - i;
    }
  }
  if (start < 0) return groups.join(':');
  return `${groups.slice(0, start).join(':')}::${groups.slice(start + length).join(':')}`;
}

function toText(value: bigint, bits: 32 | 128): string {
  if (bits === 128) return ipv6Text(value);
  return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 255n)).join('.');
}

function parseRange(cidr: string): Range {
  const [address = '', length = ''] = cidr.split('/');
  const bits = isIPv4(address) ? 32 : 128;
  const prefix = Number(length);
  if ((!isIPv4(address) && !isIPv6(address)) || !/^\d+$/.test(length) || prefix > bits - 2)
    throw new RangeError(`${JSON.stringify(cidr)} is not a range of addresses with room for pods`);
  const size = 1n << BigInt(bits - prefix);
  const first = toNumber(address) & ~(size - 1n);
  return { first, size, bits, next: 2n, used: new Set() };
}

/** One address of each range for every pod. */
export class AddressPool {
  #ranges: Range[];

  /** Throws RangeError when one of the ranges is none. */
  constructor(cidrs: readonly string[]) {
    this.#ranges = cidrs.map(parseRange);
  }

  /** Undefined when a range has no address left. Network, gateway (the first) and broadcast are never given. */
  allocate(): readonly string[] | undefined {
    const picked: { range: Range; offset: bigint }[] = [];
    for (const range of this.#ranges) {
      const usable = range.size - 3n;
      if (BigInt(range.used.size) >= usable) return undefined;
      let offset = range.next;
      while (range.used.has(offset)) offset = offset + 1n >= range.size - 1n ? 2n : offset + 1n;
      picked.push({ range, offset });
    }
    return picked.map(({ range, offset }) => {
      range.used.add(offset);
      range.next = offset + 1n >= range.size - 1n ? 2n : offset + 1n;
      return toText(range.first + offset, range.bits);
    });
  }

  release(addresses: readonly string[]): void {
    for (const address of addresses) {
      const value = toNumber(address);
      for (const range of this.#ranges) {
        if (range.bits === (isIPv4(address) ? 32 : 128)) range.used.delete(value - range.first);
      }
    }
  }
}
