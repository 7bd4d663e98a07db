// IP addresses and ranges as numbers (RFC 4291 and RFC 5952 for version 6, RFC 4632 for the notation of ranges).

import { isIPv4, isIPv6 } from 'node:net';

export type Family = 4 | 6;

export interface Address {
  readonly family: Family;
  readonly value: bigint;
}

export interface Cidr {
  readonly family: Family;
  /** The first address. */
  readonly base: bigint;
  readonly prefix: number;
}

function bits(family: Family): number {
  return family === 4 ? 32 : 128;
}

function parseV4(text: string): bigint {
  return text.split('.').reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

function parseV6(text: string): bigint {
  // An embedded version 4 address stands for the last two groups.
  const embedded = text.match(/^(.*:)(\d+\.\d+\.\d+\.\d+)$/);
  let written = text;
  if (embedded) {
    const v4 = parseV4(embedded[2]!);
    written = `${embedded[1]}${(v4 >> 16n).toString(16)}:${(v4 & 0xffffn).toString(16)}`;
  }
  const [head = '', tail] = written.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = Array<string>(8 - before.length - after.length).fill('0');
  return [...before, ...(tail === undefined ? [] : zeros), ...after].reduce(
    (value, group) => (value << 16n) | BigInt(`0x${group}`),
    0n,
  );
}

/** Undefined when the text is no address; zones (%eth0) are not addresses here. */
export function parseAddress(text: string): Address | undefined {
  if (isIPv4(text)) return { family: 4, value: parseV4(text) };
  if (isIPv6(text) && !text.includes('%')) return { family: 6, value: parseV6(text) };
  return undefined;
}

export function formatAddress({ family, value }: Address): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join('.');
  const groups = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn));
  // The longest run of at least two zero groups is written "::", the first one of several.
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (best.start < 0) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}

/** Undefined when the text is no range, or names an address inside one rather than its first. */
export function parseCidr(text: string): Cidr | undefined {
  const [, written, length] = text.match(/^([^/]+)\/(\d{1,3})$/) ?? [];
  const address = written === undefined ? undefined : parseAddress(written);
  const prefix = Number(length);
  if (!address || prefix > bits(address.family)) return undefined;
  const hostBits = BigInt(bits(address.family) - prefix);
  if ((address.value >> hostBits) << hostBits !== address.value) return undefined;
  return { family: address.family, base: address.value, prefix };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatAddress({ family: cidr.family, value: cidr.base })}/${cidr.prefix}`;
}

/** How many addresses it has. */
export function sizeOf(cidr: Cidr): bigint {
  return 1n << BigInt(bits(cidr.family) - cidr.prefix);
}

export function contains(cidr: Cidr, address: Address): boolean {
  return (
    cidr.family === address.family &&
    address.value - cidr.base >= 0n &&
    address.value - cidr.base < sizeOf(cidr)
  );
}

export function overlap(a: Cidr, b: Cidr): boolean {
  return a.family === b.family && a.base < b.base + sizeOf(b) && b.base < a.base + sizeOf(a);
}

/** The address at a distance from the first. */
export function addressAt(cidr: Cidr, offset: bigint): Address {
  return { family: cidr.family, value: cidr.base + offset };
}
