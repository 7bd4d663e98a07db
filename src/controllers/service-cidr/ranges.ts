// Address ranges as ServiceCIDRs hold them: which addresses and which other ranges lie in one. Pure.

import { isIPv4, isIPv6 } from 'node:net';
import type { ServiceCIDR } from '../../api/types/networking-v1.ts';

interface Range {
  readonly ipv6: boolean;
  readonly first: bigint;
  readonly last: bigint;
}

/** Undefined when the text is no address. */
function addressValue(text: string): { readonly ipv6: boolean; readonly value: bigint } | undefined {
  if (isIPv4(text)) return { ipv6: false, value: groups(text.split('.'), 10, 8n) };
  if (!isIPv6(text) || text.includes('%')) return undefined;
  let plain = text;
  if (plain.includes('.')) {
    const at = plain.lastIndexOf(':') + 1;
    const four = groups(plain.slice(at).split('.'), 10, 8n);
    plain = `${plain.slice(0, at)}${(four >> 16n).toString(16)}:${(four & 0xffffn).toString(16)}`;
  }
  const [head = '', tail] = plain.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - front.length - back.length;
  return { ipv6: true, value: groups([...front, ...Array<string>(zeros).fill('0'), ...back], 16, 16n) };
}

function groups(parts: readonly string[], radix: 10 | 16, bits: bigint): bigint {
  return parts.reduce((value, part) => (value << bits) | BigInt(Number.parseInt(part, radix)), 0n);
}

function parseRange(text: string): Range | undefined {
  const [address = '', prefix = ''] = text.split('/');
  const parsed = addressValue(address);
  if (parsed === undefined || !/^\d{1,3}$/.test(prefix)) return undefined;
  const width = parsed.ipv6 ? 128n : 32n;
  const hosts = (1n << (width - BigInt(prefix))) - 1n;
  return { ipv6: parsed.ipv6, first: parsed.value & ~hosts, last: parsed.value | hosts };
}

function rangesOf({ spec }: ServiceCIDR): Range[] {
  return (spec?.cidrs ?? []).map(parseRange).filter((range) => range !== undefined);
}

/** Whether Services can get the address from it: never the network's own, nor the broadcast address of IPv4. */
export function containsAddress(cidr: ServiceCIDR, address: string): boolean {
  const parsed = addressValue(address);
  if (parsed === undefined) return false;
  const { ipv6, value } = parsed;
  return rangesOf(cidr).some(
    (range) =>
      range.ipv6 === ipv6 && value > range.first && (ipv6 ? value <= range.last : value < range.last),
  );
}

/** Whether each of the ranges of `inner` lies in one of the others' ranges as a whole. */
export function isCovered(inner: ServiceCIDR, others: readonly ServiceCIDR[]): boolean {
  const outer = others.flatMap(rangesOf);
  return rangesOf(inner).every((range) =>
    outer.some((one) => one.ipv6 === range.ipv6 && one.first <= range.first && one.last >= range.last),
  );
}

/** Whether they have addresses in common. */
export function overlap(a: ServiceCIDR, b: ServiceCIDR): boolean {
  return rangesOf(a).some((one) =>
    rangesOf(b).some(
      (other) => one.ipv6 === other.ipv6 && one.first <= other.last && other.first <= one.last,
    ),
  );
}
