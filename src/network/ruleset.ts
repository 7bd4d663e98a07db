// The nftables rules of the pod network, as one transaction that makes them what they should be whatever was there
// before. They live in a table of their own; other tables are neither read nor changed here.

import { type Cidr, type Family, formatCidr, overlap, parseAddress } from '../component/index.ts';
import type { HostPort, Lease } from './leases.ts';

export interface RulesetOptions {
  readonly table: string;
  readonly bridge: string;
  readonly podCidrs: readonly Cidr[];
  /** Traffic from pods to these keeps its source address; the pods' own ranges always do. */
  readonly clusterCidrs: readonly Cidr[];
}

const IP = { 4: 'ip', 6: 'ip6' } as const;
const TYPE = { 4: 'ipv4_addr', 6: 'ipv6_addr' } as const;
const families: readonly Family[] = [4, 6];

function elements(table: string, name: string, members: readonly string[]): string[] {
  return members.length === 0 ? [] : [`add element inet ${table} ${name} { ${members.join(', ')} }`];
}

/** The lines that enter a lease's host ports into the maps. */
function hostPortElements(table: string, lease: Lease): string[] {
  const lines: string[] = [];
  for (const text of lease.ips) {
    const family = parseAddress(text)!.family;
    const anywhere: string[] = [];
    const atAddress: string[] = [];
    for (const { protocol, hostIp, hostPort, containerPort } of lease.hostPorts) {
      if (hostIp !== '' && parseAddress(hostIp)?.family !== family) continue;
      const value = ` : ${text} . ${containerPort}`;
      if (hostIp === '') anywhere.push(`${protocol} . ${hostPort}${value}`);
      else atAddress.push(`${hostIp} . ${protocol} . ${hostPort}${value}`);
    }
    lines.push(...elements(table, `host_ports_v${family}`, anywhere));
    lines.push(...elements(table, `host_address_ports_v${family}`, atAddress));
    if (anywhere.length + atAddress.length > 0)
      lines.push(...elements(table, `hairpin_v${family}`, [`${text} . ${text}`]));
  }
  return lines;
}

/** Without the ranges that lie in another: a set of intervals takes none that overlap. */
function outermost(cidrs: readonly Cidr[]): Cidr[] {
  const widest = [...cidrs].sort((a, b) => a.prefix - b.prefix);
  return widest.filter((cidr, i) => !widest.slice(0, i).some((other) => overlap(other, cidr)));
}

/** A host port's key: two leases with the same key cannot be. The empty address overlaps every other. */
export function hostPortKey({ protocol, hostIp, hostPort }: HostPort): string {
  return `${hostPort}/${protocol}@${hostIp}`;
}

export function ruleset(options: RulesetOptions, leases: Iterable<Lease>): string {
  const { table, bridge } = options;
  const lines: string[] = [];
  const declare = (line: string): number => lines.push(`add ${line}`);
  const chain = (name: string, hook?: string): void => {
    declare(`chain inet ${table} ${name}${hook ? ` { type ${hook}; policy accept; }` : ''}`);
    lines.push(`flush chain inet ${table} ${name}`);
  };
  const rule = (name: string, text: string): number => declare(`rule inet ${table} ${name} ${text}`);

  declare(`table inet ${table}`);
  for (const family of families) {
    const type = TYPE[family];
    declare(`set inet ${table} pods_v${family} { type ${type}; flags interval; }`);
    declare(`set inet ${table} cluster_v${family} { type ${type}; flags interval; }`);
    declare(`set inet ${table} hairpin_v${family} { type ${type} . ${type}; }`);
    declare(
      `map inet ${table} host_ports_v${family} { type inet_proto . inet_service : ${type} . inet_service; }`,
    );
    declare(
      `map inet ${table} host_address_ports_v${family} { type ${type} . inet_proto . inet_service : ${type} . inet_service; }`,
    );
    for (const kind of ['set', 'map'] as const) {
      const names = kind === 'set' ? ['pods', 'cluster', 'hairpin'] : ['host_ports', 'host_address_ports'];
      for (const name of names) lines.push(`flush ${kind} inet ${table} ${name}_v${family}`);
    }
    const pods = options.podCidrs.filter((cidr) => cidr.family === family);
    const cluster = options.clusterCidrs.filter((cidr) => cidr.family === family);
    lines.push(...elements(table, `pods_v${family}`, pods.map(formatCidr)));
    lines.push(...elements(table, `cluster_v${family}`, outermost([...pods, ...cluster]).map(formatCidr)));
  }

  chain('guard', 'filter hook prerouting priority -300');
  chain('host_ports');
  chain('prerouting', 'nat hook prerouting priority -100');
  chain('output', 'nat hook output priority -100');
  chain('postrouting', 'nat hook postrouting priority 100');
  chain('forward', 'filter hook forward priority 0');
  chain('redirects', 'filter hook output priority 0');

  // route_localnet lets mapped ports work on 127.0.0.1; it must not let pods reach the host's loopback services.
  rule('guard', `iifname "${bridge}" ip daddr 127.0.0.0/8 drop`);
  rule('guard', `iifname "${bridge}" ip saddr 127.0.0.0/8 drop`);
  for (const family of families) {
    const ip = IP[family];
    rule(
      'host_ports',
      `dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @host_address_ports_v${family}`,
    );
    rule(
      'host_ports',
      `meta nfproto ipv${family} dnat ${ip} to meta l4proto . th dport map @host_ports_v${family}`,
    );
  }
  rule('prerouting', 'fib daddr type local jump host_ports');
  rule('output', 'fib daddr type local jump host_ports');
  rule('postrouting', `oifname "${bridge}" ip saddr 127.0.0.0/8 masquerade`);
  for (const family of families) {
    const ip = IP[family];
    // A pod that reaches itself through a mapped port would drop an answer that seems to come from itself.
    rule('postrouting', `oifname "${bridge}" ${ip} saddr . ${ip} daddr @hairpin_v${family} masquerade`);
    rule(
      'postrouting',
      `oifname != "${bridge}" ${ip} saddr @pods_v${family} ${ip} daddr != @cluster_v${family} masquerade`,
    );
  }
  rule('forward', `iifname "${bridge}" accept`);
  rule('forward', `oifname "${bridge}" accept`);
  // Pods reach each other through the host on purpose: it must not advise them to take the short way.
  rule('redirects', `oifname "${bridge}" icmp type redirect drop`);
  rule('redirects', `oifname "${bridge}" icmpv6 type nd-redirect drop`);

  for (const lease of leases) lines.push(...hostPortElements(table, lease));
  return `${lines.join('\n')}\n`;
}
