// IP addresses and ranges as numbers: what handing out service addresses needs. Addresses are read strictly (no
// leading zeros, no zone) and written in their canonical text (RFC 5952 for IPv6). In the API's words: families are
// IPv4 and IPv6, what is wrong is told by exceptions.

import { isIPv4, isIPv6 } from 'node:net';
import { parseAddress as readAddress, formatAddress as writeAddress } from '../../component/index.ts';

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

/** The address as a number; a TypeError when it is none. */
export function parseAddress(text: string): { readonly family: IpFamily; readonly value: bigint } {
  const address = readAddress(text);
  if (address === undefined) throw new TypeError(`${JSON.stringify(text)} is not an IP address`);
  return { family: `IPv${address.family}`, value: address.value };
}

export function formatAddress(value: bigint, family: IpFamily): string {
  return writeAddress({ family: family === 'IPv4' ? 4 : 6, value });
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
