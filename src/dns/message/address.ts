// IP addresses between text, bytes and the names of the reverse zones (RFC 1035 §3.5, RFC 3596 §2.5).

import { isIPv4, isIPv6 } from 'node:net';
import { nameOf, type WireName } from './name.ts';

/** 4 or 16 bytes in the order of the network; undefined for what is no address (a zone `%eth0` makes it none). */
export function addressBytes(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const embedded = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const hex = embedded
    ? text.slice(0, embedded.index) +
      [1, 3].map((i) => ((Number(embedded[i]) << 8) | Number(embedded[i + 1])).toString(16)).join(':')
    : text;
  const [head = '', tail] = hex.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const before = groups(head);
  const after = groups(tail ?? '');
  const zeros = Array<string>(8 - before.length - after.length).fill('0');
  const bytes = new Uint8Array(16);
  [...before, ...zeros, ...after].forEach((group, i) => {
    const value = Number.parseInt(group, 16);
    bytes[2 * i] = value >> 8;
    bytes[2 * i + 1] = value & 0xff;
  });
  return bytes;
}

/** RFC 5952's form; undefined unless there are 4 or 16 bytes. */
export function addressText(bytes: Uint8Array): string | undefined {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) return undefined;
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const text = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  if (best.start < 0) return text(groups);
  return `${text(groups.slice(0, best.start))}::${text(groups.slice(best.start + best.length))}`;
}

/** One spelling for every address, so that it can be a key; undefined for what is no address. */
export function canonicalAddress(text: string): string | undefined {
  const bytes = addressBytes(text);
  return bytes && addressText(bytes);
}

/** `10.0.0.1` → `1.0.0.10.in-addr.arpa.` */
export function reverseName(bytes: Uint8Array): WireName {
  const labels =
    bytes.length === 4
      ? Array.from(bytes, String)
      : Array.from(bytes, (byte) => [(byte >> 4).toString(16), (byte & 15).toString(16)]).flat();
  return nameOf([...labels.reverse(), bytes.length === 4 ? 'in-addr' : 'ip6', 'arpa']);
}

/** What a name of a reverse zone stands for: the first bytes of an address, `bits` of them known. */
export interface ReversePrefix {
  readonly bytes: Uint8Array;
  /** 32 or 128 for a whole address, less for a name above one. */
  readonly bits: number;
}

/** From labels in lower case, most specific first; undefined when they do not spell an address or a part of one. */
export function reversePrefix(labels: readonly string[]): ReversePrefix | undefined {
  if (labels.at(-1) !== 'arpa') return undefined;
  const zone = labels.at(-2);
  const parts = labels.slice(0, -2).reverse();
  if (zone === 'in-addr') {
    if (parts.length > 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256))
      return undefined;
    const bytes = new Uint8Array(4);
    parts.forEach((part, i) => {
      bytes[i] = Number(part);
    });
    return { bytes, bits: 8 * parts.length };
  }
  if (zone !== 'ip6' || parts.length > 32 || !parts.every((part) => /^[0-9a-f]$/.test(part)))
    return undefined;
  const bytes = new Uint8Array(16);
  parts.forEach((part, i) => {
    bytes[i >> 1]! |= Number.parseInt(part, 16) << (i & 1 ? 0 : 4);
  });
  return { bytes, bits: 4 * parts.length };
}

export interface AddressRange {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** `10.96.0.0/12`. Throws RangeError for what is no range. */
export function parseRange(text: string): AddressRange {
  const slash = text.indexOf('/');
  const bytes = slash < 0 ? undefined : addressBytes(text.slice(0, slash));
  const bits = Number(text.slice(slash + 1));
  if (bytes === undefined || !/^\d{1,3}$/.test(text.slice(slash + 1)) || bits > 8 * bytes.length)
    throw new RangeError(`"${text}" is no range of addresses, as in 10.96.0.0/12`);
  return { bytes, bits };
}

/** Whether all that `prefix` stands for lies in the range. */
export function rangeContains(range: AddressRange, prefix: ReversePrefix): boolean {
  if (range.bytes.length !== prefix.bytes.length || prefix.bits < range.bits) return false;
  const whole = range.bits >> 3;
  for (let i = 0; i < whole; i++) if (range.bytes[i] !== prefix.bytes[i]) return false;
  const rest = range.bits & 7;
  if (rest === 0) return true;
  const mask = (0xff00 >> rest) & 0xff;
  return (range.bytes[whole]! & mask) === (prefix.bytes[whole]! & mask);
}
