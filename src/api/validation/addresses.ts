// IP addresses and CIDR ranges as objects may hold them: no leading zeros, no IPv4 in IPv6 clothing, and in newer
// fields the canonical form only (RFC 5952). After apimachinery's util/validation/ip.go.

import { isIP, isIPv4, isIPv6 } from 'node:net';
import { formatAddress, parseAddress } from '../../component/index.ts';
import { goQuote } from '../errors.ts';
import type { Findings } from './findings.ts';

const NOT_AN_ADDRESS = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';
const NOT_A_RANGE = 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)';

export type IpFamily = 'IPv4' | 'IPv6';

export function familyOf(address: string): IpFamily | undefined {
  return isIPv4(address) ? 'IPv4' : isIPv6(address) ? 'IPv6' : undefined;
}

export function familyOfRange(range: string): IpFamily | undefined {
  return familyOf(range.split('/')[0]!);
}

/** The 16-bit groups of an IPv6 address, or the bytes of an IPv4 one. */
export function partsOf(address: string): number[] {
  if (isIPv4(address)) return address.split('.').map(Number);
  const plain = address.split('%')[0]!;
  const tail = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(plain);
  const hex =
    tail === null
      ? plain
      : plain.slice(0, tail.index) +
        [1, 3].map((i) => ((Number(tail[i]) << 8) | Number(tail[i + 1])).toString(16)).join(':');
  const [head, rest] = hex.split('::') as [string, string | undefined];
  const groups = (text: string | undefined) =>
    text ? text.split(':').map((one) => Number.parseInt(one, 16)) : [];
  const left = groups(head);
  if (rest === undefined) return left;
  const right = groups(rest);
  return [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
}

function isMapped(address: string): boolean {
  if (!isIPv6(address)) return false;
  const parts = partsOf(address);
  return parts.slice(0, 5).every((part) => part === 0) && parts[5] === 0xffff;
}

/** RFC 5952: lower case, no leading zeros, the longest run of zero groups (two or more) written `::`. */
export function canonicalAddress(address: string): string {
  const parsed = parseAddress(address);
  return parsed === undefined ? address : formatAddress(parsed);
}

const leadingZero = /(^|\.)0[0-9]/;

/** What is wrong with an address, in the order that upstream tells it; empty when nothing is. */
function addressComplaints(address: string): string[] {
  if (isIP(address) === 0 || address.includes('%')) {
    const lenient = address.replace(/(^|[.:])0+(?=[0-9])/g, '$1');
    return [isIP(lenient) !== 0 && leadingZero.test(address) ? 'must not have leading 0s' : NOT_AN_ADDRESS];
  }
  return isMapped(address) ? ['must not be an IPv4-mapped IPv6 address'] : [];
}

export function validateAddress(
  findings: Findings,
  field: string,
  address: string,
  options: { readonly canonical?: boolean } = {},
): boolean {
  const complaints = addressComplaints(address);
  if (complaints.length === 0 && options.canonical === true) {
    const canonical = canonicalAddress(address);
    if (canonical !== address) complaints.push(`must be in canonical form (${goQuote(canonical)})`);
  }
  for (const complaint of complaints) findings.invalid(field, address, complaint);
  return complaints.length === 0;
}

/** A range's network address and prefix length; undefined when the text is no range at all. */
export function parseRange(
  range: string,
): { readonly address: string; readonly prefix: number; readonly parts: number[] } | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(range);
  if (match === null || isIP(match[1]!) === 0 || match[1]!.includes('%')) return undefined;
  const prefix = Number(match[2]);
  if (prefix > (isIPv4(match[1]!) ? 32 : 128)) return undefined;
  return { address: match[1]!, prefix, parts: partsOf(match[1]!) };
}

function hasHostBits({
  parts,
  prefix,
}: {
  readonly parts: readonly number[];
  readonly prefix: number;
}): boolean {
  const width = parts.length === 4 ? 8 : 16;
  return parts.some((part, i) => {
    const kept = Math.min(Math.max(prefix - i * width, 0), width);
    return (part & ((1 << (width - kept)) - 1)) !== 0;
  });
}

export function validateRange(
  findings: Findings,
  field: string,
  range: string,
  options: { readonly canonical?: boolean } = {},
): boolean {
  const parsed = parseRange(range);
  if (parsed === undefined) {
    const lenient = range.replace(/(^|[.:/])0+(?=[0-9])/g, '$1');
    findings.invalid(
      field,
      range,
      parseRange(lenient) !== undefined ? 'must not have leading 0s in IP or prefix length' : NOT_A_RANGE,
    );
    return false;
  }
  if (/\/0\d/.test(range)) {
    findings.invalid(field, range, 'must not have leading 0s in IP or prefix length');
    return false;
  }
  if (isMapped(parsed.address)) {
    findings.invalid(field, range, 'must not have an IPv4-mapped IPv6 address');
    return false;
  }
  if (hasHostBits(parsed)) {
    findings.invalid(field, range, 'must not have bits set beyond the prefix length');
    return false;
  }
  const canonical = `${canonicalAddress(parsed.address)}/${parsed.prefix}`;
  if (options.canonical === true && canonical !== range) {
    findings.invalid(field, range, `must be in canonical form (${goQuote(canonical)})`);
    return false;
  }
  return true;
}

/** Whether the second range lies within the first. Both must be well formed and of one family. */
export function rangeContains(outer: string, inner: string): boolean {
  const a = parseRange(outer);
  const b = parseRange(inner);
  if (a === undefined || b === undefined || a.parts.length !== b.parts.length || b.prefix < a.prefix)
    return false;
  const width = a.parts.length === 4 ? 8 : 16;
  return a.parts.every((part, i) => {
    const kept = Math.min(Math.max(a.prefix - i * width, 0), width);
    return part >> (width - kept) === b.parts[i]! >> (width - kept);
  });
}

/** Addresses that no endpoint may have: unspecified, loopback, link-local. */
export function validateEndpointAddress(findings: Findings, field: string, address: string): void {
  if (!validateAddress(findings, field, address)) return;
  const parts = partsOf(address);
  const v4 = parts.length === 4;
  const say = (detail: string) => findings.invalid(field, address, detail);
  if (parts.every((part) => part === 0)) say(`may not be unspecified (${address})`);
  if (v4 ? parts[0] === 127 : parts.slice(0, 7).every((part) => part === 0) && parts[7] === 1)
    say('may not be in the loopback range (127.0.0.0/8, ::1/128)');
  if (v4 ? parts[0] === 169 && parts[1] === 254 : (parts[0]! & 0xffc0) === 0xfe80)
    say('may not be in the link-local range (169.254.0.0/16, fe80::/10)');
  if (v4 ? parts[0] === 224 && parts[1] === 0 && parts[2] === 0 : parts[0] === 0xff02)
    say('may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)');
}
