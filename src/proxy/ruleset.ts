// The part of the table that does not depend on services: maps, sets, and the chains that hang on the kernel's hooks.
//
// Everything is decided by a connection's first packet, in chains of type nat, which see no other: packets of
// connections that stand pay nothing for the proxy. A look-up of destination, protocol and port in one map gives
// the chain that treats the frontend; a second look-up, with a random number below the count of endpoints, gives the
// endpoint. Both are hash look-ups, however many services there are.

import { type Cidr, type Family, formatCidr } from '../component/index.ts';
import { outermost, type Protocol } from './program.ts';

export interface RulesetOptions {
  /** Sources in these are pods: external traffic from them is treated as internal, and they keep their address. */
  readonly podRanges: readonly Cidr[];
  /** Addresses in these that neither a Service nor the machine has lead nowhere. */
  readonly serviceRanges: readonly Cidr[];
  /** The node's addresses that have node ports; all but loopback when empty. */
  readonly nodePortRanges: readonly Cidr[];
}

export const families: readonly Family[] = [4, 6];
const protocols: readonly Protocol[] = ['tcp', 'udp', 'sctp'];

/** Set on packets whose source is to be replaced when they leave; upstream's bit. */
const MASQUERADE = '0x4000';
export const MARK_FOR_MASQUERADE = `meta mark set meta mark | ${MASQUERADE}`;

export const IP = { 4: 'ip', 6: 'ip6' } as const;
export const ADDRESS_TYPE = { 4: 'ipv4_addr', 6: 'ipv6_addr' } as const;
export const REFUSE = 'refuse';

/** What holds elements that come and go with services. */
export type ElementMap =
  | `${'frontends' | 'node_ports' | 'cluster_ips' | 'hairpins'}_v${Family}`
  | `${'endpoints' | 'node_port_endpoints'}_${Protocol}_v${Family}`;

/** The members of this node's endpoint lists have numbers from here on, those of the cluster's lists from 0 on. */
export const LOCAL_LIST = 1_000_000;

const NUMBER = 'numgen random mod 65536';

interface Declaration {
  readonly kind: 'map' | 'set';
  readonly name: string;
  readonly type: string;
}

function declarations(): Declaration[] {
  return families.flatMap((family): Declaration[] => {
    const address = ADDRESS_TYPE[family];
    const ip = IP[family];
    const declare = (kind: 'map' | 'set', name: string, type: string): Declaration => ({
      kind,
      name: `${name}_v${family}`,
      type,
    });
    return [
      declare('map', 'frontends', `type ${address} . inet_proto . inet_service : verdict`),
      declare('map', 'node_ports', 'type inet_proto . inet_service : verdict'),
      // Maps of each protocol's own: nft 1.0.6 makes a protocol that is named in the type a condition of the rule,
      // and loses track of the type when it names the transport header at large.
      ...protocols.flatMap((protocol) => {
        const key = `${protocol} dport . ${NUMBER}`;
        const endpoint = `${ip} daddr . ${protocol} dport`;
        return [
          declare('map', `endpoints_${protocol}`, `typeof ${ip} daddr . ${key} : ${endpoint}`),
          declare('map', `node_port_endpoints_${protocol}`, `typeof ${key} : ${endpoint}`),
        ];
      }),
      declare('set', 'cluster_ips', `type ${address}`),
      declare('set', 'hairpins', `type ${address} . ${address}`),
      declare('set', 'pods', `type ${address}; flags interval`),
      declare('set', 'services', `type ${address}; flags interval`),
      declare('set', 'node_port_addresses', `type ${address}; flags interval`),
    ];
  });
}

function rulesOfServices({ nodePortRanges }: RulesetOptions): string[] {
  const rules: string[] = [];
  for (const family of families)
    rules.push(`${IP[family]} daddr . meta l4proto . th dport vmap @frontends_v${family}`);
  // Before node ports: load-balancer addresses are among them, and those of a pool stand on the machine itself.
  for (const family of families) rules.push(`${IP[family]} daddr @cluster_ips_v${family} goto ${REFUSE}`);
  for (const family of families) {
    const ip = IP[family];
    const where =
      nodePortRanges.length > 0
        ? `${ip} daddr @node_port_addresses_v${family}`
        : `${ip} daddr != ${family === 4 ? '127.0.0.0/8' : '::1'}`;
    rules.push(`${where} fib daddr type local meta l4proto . th dport vmap @node_ports_v${family}`);
  }
  // A range that somebody adds may hold an address of the machine: it must not fall silent by that.
  for (const family of families)
    rules.push(`${IP[family]} daddr @services_v${family} fib daddr type != local drop`);
  return rules;
}

/** Chains in the order in which they can be made: none before those that it goes to. */
function chains(
  options: RulesetOptions,
): { readonly name: string; readonly hook?: string; readonly rules: string[] }[] {
  const masquerade = 'masquerade fully-random';
  return [
    {
      // Connections are refused as a host without a listener does. (The kernel limits the rate of ICMP errors.)
      name: REFUSE,
      rules: [
        // Our own answer, when the machine asks an address of its own: it must not be refused in its turn.
        'tcp flags rst accept',
        'meta l4proto tcp reject with tcp reset',
        'reject with icmpx type port-unreachable',
      ],
    },
    { name: 'dispatch', rules: rulesOfServices(options) },
    { name: 'prerouting', hook: 'nat hook prerouting priority -101', rules: ['goto dispatch'] },
    { name: 'output', hook: 'nat hook output priority -101', rules: ['goto dispatch'] },
    {
      name: 'postrouting',
      hook: 'nat hook postrouting priority 99',
      rules: [
        `meta mark & ${MASQUERADE} == ${MASQUERADE} meta mark set meta mark ^ ${MASQUERADE} ${masquerade}`,
        // An endpoint that comes to itself would drop an answer that seems to be its own.
        ...families.map(
          (family) =>
            `ct status dnat ${IP[family]} saddr . ${IP[family]} daddr @hairpins_v${family} ${masquerade}`,
        ),
      ],
    },
  ];
}

/** The names of all chains and sets of the fixed part; others in the table belong to services, or to nobody. */
export function fixedNames(): ReadonlySet<string> {
  const options = { podRanges: [], serviceRanges: [], nodePortRanges: [] };
  return new Set([...declarations(), ...chains(options)].map(({ name }) => name));
}

/** Declares, and empties, what is there whatever the services are. */
export function fixedRules(table: string, options: RulesetOptions): string[] {
  const lines = [`add table inet ${table}`];
  for (const { kind, name, type } of declarations())
    lines.push(`add ${kind} inet ${table} ${name} { ${type}; }`, `flush ${kind} inet ${table} ${name}`);
  const ranges = {
    pods: options.podRanges,
    services: options.serviceRanges,
    node_port_addresses: options.nodePortRanges,
  };
  for (const [name, cidrs] of Object.entries(ranges)) {
    for (const family of families) {
      const members = outermost(cidrs.filter((cidr) => cidr.family === family)).map(formatCidr);
      if (members.length > 0)
        lines.push(`add element inet ${table} ${name}_v${family} { ${members.join(', ')} }`);
    }
  }
  for (const { name, hook, rules } of chains(options)) {
    lines.push(
      `add chain inet ${table} ${name}${hook ? ` { type ${hook}; policy accept; }` : ''}`,
      `flush chain inet ${table} ${name}`,
      ...rules.map((rule) => `add rule inet ${table} ${name} ${rule}`),
    );
  }
  return lines;
}
