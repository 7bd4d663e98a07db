// IP addresses and ranges as numbers: what handing out service addresses needs. Addresses are read strictly (no
// leading zeros, no zone) and written in their canonical text (RFC 5952 for IPv6).

import { isIPv4, isIPv6 } from 'node:net';

export type IpFamily = 'IPv4' | 'IPv6';

export interface CidrRange {
  readonly family: IpFamily;
  readonly text: string;
  /** The network's own address. */
  readonly first: bigint;
  /** The last address (IPv4: the broadcast address). */
  readonly last: bigint;
}

/** The family of an address; a TypeError when it is none. */
export function addressFamily(address: string): IpFamily {
  if (isIPv4(address)) return 'IPv4';
  if (isIPv6(address) && !address.includes('%')) return 'IPv6';
  throw new TypeError(`${JSON.stringify(address)} is not an IP address`);
}

export function isAddress(text: string): boolean {
  return isIPv4(text) || (isIPv6(text) && !text.includes('%'));
}

function parseV4(text: string): bigint {
  return text.split('.').reduce((value, octet) => (value << 8n) | BigInt(octet), 0n);
}

function parseV6(text: string): bigint {
  let plain = text;
  const dotted = plain.lastIndexOf(':');
  if (plain.includes('.')) {
    const v4 = parseV4(plain.slice(dotted + 1));
    plain = `${plain.slice(0, dotted + 1)}${(v4 >> 16n).toString(16)}:${(v4 & 0xffffn).toString(16)}`;
  }
  const [head = '', tail] = plain.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? [] : new Array<string>(8 - front.length - back.length).fill('0');
  return [...front, ...zeros, ...back].reduce((value, part) => (value << 16n) | BigInt(`0x${part}`), 0n);
}

/** The address as a number; a TypeError when it is none. */
export function parseAddress(text: string): { readonly family: IpFamily; readonly value: bigint } {
  const family = addressFamily(text);
  return { family, value: family === 'IPv4' ? parseV4(text) : parseV6(text) };
}

export function formatAddress(value: bigint, family: IpFamily): string {
  if (family === 'IPv4') return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join('.');
  const parts = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn));
  let best = { start: -1, length: 1 };
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && parts[i + length] === 0) length++;
    if (length > best.length) best = { start: i, length };
  }
  const hex = parts.map((part) => part.toString(16));
  if (best.start < 0) return hex.join(':');
  return `${hex.slice(0, best.start).join(':')}::${hex.slice(best.start + best.length).join(':')}`;
}

/** The canonical text of an address. */
export function canonicalAddress(text: string): string {
  const { family, value } = parseAddress(text);
  return formatAddress(value, family);
}

/** Reads `10.96.0.0/12`; a TypeError when it is not a range or has host bits set. */
export function parseCidr(text: string): CidrRange {
  const slash = text.indexOf('/');
  const bits = text.slice(slash + 1);
  if (slash < 0 || !/^(?:0|[1-9][0-9]{0,2})$/.test(bits))
    throw new TypeError(`${JSON.stringify(text)} is not an address range`);
  const { family, value } = parseAddress(text.slice(0, slash));
  const width = family === 'IPv4' ? 32 : 128;
  if (Number(bits) > width) throw new TypeError(`${JSON.stringify(text)} is not an address range`);
  const hostMask = (1n << BigInt(width - Number(bits))) - 1n;
  if ((value & hostMask) !== 0n)
    throw new TypeError(
      `${JSON.stringify(text)} has host bits set; the range is ${formatAddress(value & ~hostMask, family)}/${bits}`,
    );
  return { family, text, first: value, last: value | hostMask };
}

export function rangeHolds(range: CidrRange, address: string): boolean {
  if (!isAddress(address)) return false;
  const { family, value } = parseAddress(address);
  return family === range.family && value >= range.first && value <= range.last;
}
