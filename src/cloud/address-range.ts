// Ranges of addresses as an operator writes them: 192.0.2.16/28, 192.0.2.10-192.0.2.20, or one address.

import {
  type Address,
  type Family,
  formatAddress,
  parseAddress,
  parseCidr,
  sizeOf,
} from '../component/index.ts';

export interface AddressRange {
  readonly family: Family;
  readonly first: bigint;
  /** The last one that belongs to it. */
  readonly last: bigint;
}

/** Undefined when the text is none of the three forms, or the range runs backwards. */
export function parseAddressRange(text: string): AddressRange | undefined {
  const cidr = parseCidr(text);
  if (cidr) return { family: cidr.family, first: cidr.base, last: cidr.base + sizeOf(cidr) - 1n };
  const [first, last, ...more] = text.split('-').map((part) => parseAddress(part.trim()));
  if (first === undefined || more.length > 0) return undefined;
  if (!text.includes('-')) return { family: first.family, first: first.value, last: first.value };
  if (last === undefined || last.family !== first.family || last.value < first.value) return undefined;
  return { family: first.family, first: first.value, last: last.value };
}

export function inRange(range: AddressRange, { family, value }: Address): boolean {
  return range.family === family && range.first <= value && value <= range.last;
}

/** Whether the text is an address in one of them. */
export function inRanges(ranges: readonly AddressRange[], text: string): boolean {
  const address = parseAddress(text);
  return address !== undefined && ranges.some((range) => inRange(range, address));
}

/** The addresses of the ranges in their order. */
export function* addressesOf(ranges: readonly AddressRange[]): Iterable<string> {
  for (const { family, first, last } of ranges)
    for (let value = first; value <= last; value++) yield formatAddress({ family, value });
}
