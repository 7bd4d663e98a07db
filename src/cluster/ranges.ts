// The address ranges of a cluster, as its settings hold them: one, or one of each IP version separated by a comma, the
// primary one first, as upstream's --cluster-cidr and --service-cluster-ip-range. And the addresses in them that have
// a meaning of their own.

import type { AddressRange } from '../cloud/index.ts';
import { addressAt, type Family, formatAddress, parseCidr, sizeOf } from '../component/index.ts';

/** What a range may be long, by IP version. */
const PREFIXES = { 4: { shortest: 8, longest: 28 }, 6: { shortest: 48, longest: 120 } } as const;

/** The ranges in their order; throws a TypeError for what `rangesProblem` finds fault with. */
export function rangesOf(text: string): readonly string[] {
  const problem = rangesProblem(text);
  if (problem !== undefined) throw new TypeError(`${text}: ${problem}`);
  return text.split(',');
}

/** What is wrong with the text, for whoever gave it; undefined when nothing is. */
export function rangesProblem(text: string): string | undefined {
  const families: Family[] = [];
  for (const one of text.split(',')) {
    const cidr = parseCidr(one);
    if (cidr === undefined) return `"${one}" is no range with host bits zero`;
    const { shortest, longest } = PREFIXES[cidr.family];
    if (cidr.prefix < shortest || cidr.prefix > longest)
      return `the length of an IPv${cidr.family} range is from /${shortest} to /${longest}`;
    if (families.includes(cidr.family)) return `there are two IPv${cidr.family} ranges`;
    families.push(cidr.family);
  }
  return undefined;
}

export function familyOf(range: string): Family {
  return range.includes(':') ? 6 : 4;
}

/** True when both have the same IP versions in the same order. */
export function sameFamilies(a: readonly string[], b: readonly string[]): boolean {
  return a.map(familyOf).join() === b.map(familyOf).join();
}

/** What is wrong with load-balancer ranges beside the cluster's own, whose addresses are pods' and Services'. */
export function loadBalancerRangesProblem(
  ranges: readonly AddressRange[],
  clusterRanges: readonly string[],
): string | undefined {
  for (const text of clusterRanges) {
    const cidr = parseCidr(text)!;
    const last = cidr.base + sizeOf(cidr) - 1n;
    for (const { family, first, last: end } of ranges) {
      if (family !== cidr.family || first > last || end < cidr.base) continue;
      const [from, to] = [first, end].map((value) => formatAddress({ family, value }));
      return `the load-balancer range ${from}-${to} holds addresses of the cluster's own range ${text}`;
    }
  }
  return undefined;
}

/** The second address of a range (10.96.0.0/16 → 10.96.0.1): the `kubernetes` service's, the bridge's. */
export function firstAddress(range: string): string {
  return addressIn(range, 1n);
}

/** The tenth address of a service range (10.96.0.0/16 → 10.96.0.10): where pods ask for names, by convention. */
export function dnsAddress(serviceRange: string): string {
  return addressIn(serviceRange, 10n);
}

function addressIn(range: string, offset: bigint): string {
  const cidr = parseCidr(range);
  if (cidr === undefined) throw new TypeError(`${range} is not an address range`);
  return formatAddress(addressAt(cidr, offset));
}
