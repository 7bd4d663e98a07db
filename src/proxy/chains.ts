// The chains that treat frontends. A chain never changes: its name says all that is in it, so that services that are
// treated alike share it and a change of treatment is a change of one map element. There are as many as there are
// different counts of endpoints; only session affinity and source ranges make chains of a service's own, named after
// a digest of their rules.
//
// A chain that nothing goes to any more stays a while (services flap) and is removed in a later transaction: some
// kernels refuse to remove it together with the element that went to it.

import { createHash } from 'node:crypto';
import type { Family } from '../component/index.ts';
import type { Affinity, Frontend, Protocol } from './program.ts';
import { ADDRESS_TYPE, IP, LOCAL_LIST, MARK_FOR_MASQUERADE, REFUSE } from './ruleset.ts';

export interface Chain {
  readonly name: string;
  readonly rules: readonly string[];
  readonly goesTo: readonly Chain[];
  /** Names and types of the sets that it reads and writes. */
  readonly sets: readonly { readonly name: string; readonly type: string }[];
}

interface Entry {
  readonly chain: Chain;
  /** Elements and chains that go to it. */
  references: number;
  inKernel: boolean;
  /** When the last reference went, by a monotonic clock; meaningless while there is one. */
  unusedSince: number;
}

interface UsedSet {
  readonly type: string;
  references: number;
  inKernel: boolean;
  /** Nothing uses it any more, but the kernel has its members still: an endpoint that comes back starts anew. */
  full: boolean;
}

/** Clients that one endpoint remembers at most; more than these are spread as if there were no affinity. */
const AFFINITY_CLIENTS = 65_536;

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

export class ChainCatalogue {
  readonly #entries = new Map<string, Entry>();
  /** References to sets by chains that are in use. */
  readonly #sets = new Map<string, UsedSet>();
  readonly #detectsPods: Readonly<Record<Family, boolean>>;

  constructor(detectsPods: Readonly<Record<Family, boolean>>) {
    this.#detectsPods = detectsPods;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The verdict for a frontend. Its chain lives as long as it is acquired. */
  verdictOf(frontend: Frontend): string {
    const { treatment } = frontend;
    let verdict: string;
    switch (treatment.kind) {
      case 'refuse':
        verdict = `goto ${REFUSE}`;
        break;
      case 'drop':
        return 'drop';
      case 'spread': {
        const target = this.#spread(frontend, treatment.list);
        verdict = `goto ${this.#masquerading(frontend.family, target, treatment.masquerade).name}`;
        break;
      }
      case 'keep-source':
        verdict = `goto ${this.#keepingSource(frontend).name}`;
        break;
    }
    return frontend.sources ? `goto ${this.#from(frontend.family, frontend.sources, verdict).name}` : verdict;
  }

  acquire(verdict: string): void {
    const entry = this.#entryOf(verdict);
    if (entry) this.#hold(entry);
  }

  release(verdict: string, now: number): void {
    const entry = this.#entryOf(verdict);
    if (entry) this.#letGo(entry, now);
  }

  #entryOf(verdict: string): Entry | undefined {
    return verdict.startsWith('goto ') ? this.#entries.get(verdict.slice(5)) : undefined;
  }

  #hold(entry: Entry): void {
    if (entry.references++ > 0) return;
    for (const { name } of entry.chain.goesTo) this.#hold(this.#entries.get(name)!);
    for (const { name, type } of entry.chain.sets) {
      const set = this.#sets.get(name);
      if (set) set.references++;
      else this.#sets.set(name, { type, references: 1, inKernel: false, full: true });
    }
  }

  #letGo(entry: Entry, now: number): void {
    if (--entry.references > 0) return;
    entry.unusedSince = now;
    for (const { name } of entry.chain.goesTo) this.#letGo(this.#entries.get(name)!, now);
    for (const { name } of entry.chain.sets) {
      const set = this.#sets.get(name);
      if (set) set.references--;
    }
  }

  #chain(
    name: string,
    make: () => {
      readonly rules: readonly string[];
      readonly goesTo?: readonly Chain[];
      readonly sets?: Chain['sets'];
    },
  ): Chain {
    const known = this.#entries.get(name);
    if (known) return known.chain;
    const chain = { name, goesTo: [], sets: [], ...make() };
    this.#entries.set(name, { chain, references: 0, inKernel: false, unusedSince: Number.NEGATIVE_INFINITY });
    return chain;
  }

  /** Chooses an endpoint of a list. */
  #spread(frontend: Frontend, list: 'cluster' | 'local'): Chain {
    const { family, protocol, address, affinity } = frontend;
    const backends = frontend[list];
    if (affinity) return this.#stay(family, protocol, affinity, backends);
    const ip = IP[family];
    const count = backends.length;
    const [key, map] =
      address === ''
        ? [`${protocol} dport`, `node_port_endpoints_${protocol}_v${family}`]
        : [`${ip} daddr . ${protocol} dport`, `endpoints_${protocol}_v${family}`];
    const offset = list === 'local' ? ` offset ${LOCAL_LIST}` : '';
    const scope = `${address === '' ? '_port' : ''}${list === 'local' ? '_local' : ''}`;
    return this.#chain(`spread_${protocol}_v${family}${scope}_${count}`, () => ({
      rules: [
        `meta nfproto ipv${family} dnat ${ip} to ${key} . numgen random mod ${count}${offset} map @${map}`,
        // The list became shorter between this packet's look-ups: the first endpoint is there as long as any is.
        `meta nfproto ipv${family} dnat ${ip} to ${key} . numgen random mod 1${offset} map @${map}`,
        'drop',
      ],
    }));
  }

  /**
   * Sends a client where it went before, for as long as it comes again within the time. Each endpoint has a set of
   * the clients that it serves, which outlives changes of the list.
   */
  #stay(family: Family, protocol: Protocol, affinity: Affinity, list: readonly string[]): Chain {
    const ip = IP[family];
    const backends = list.toSorted();
    const content = `${affinity.scope} ${affinity.seconds} ${backends.join(' ')}`;
    return this.#chain(`stay_v${family}_${digest(content)}`, () => {
      const type = `type ${ADDRESS_TYPE[family]}; flags dynamic,timeout; size ${AFFINITY_CLIENTS}`;
      const sets = backends.map((backend) => ({
        name: `${AFFINITY_SET}${digest(`${affinity.scope} ${backend}`)}`,
        type,
      }));
      const go = (i: number): string => {
        const [address, port] = backends[i]!.split(' . ');
        const remember = `update @${sets[i]!.name} { ${ip} saddr timeout ${affinity.seconds}s }`;
        return `${remember} dnat ${ip} to ${family === 4 ? address : `[${address}]`}:${port}`;
      };
      const spread = backends.map((backend, i) => `${i} : ${backend}`).join(', ');
      return {
        sets,
        rules: [
          ...sets.map(({ name }, i) => `meta l4proto ${protocol} ${ip} saddr @${name} ${go(i)}`),
          ...sets.map((_, i) => {
            const left = sets.length - i;
            const chance = left > 1 ? `numgen random mod ${left} == 0 ` : '';
            return `meta l4proto ${protocol} ${chance}${go(i)}`;
          }),
          // A set that is full takes no more clients.
          `meta l4proto ${protocol} dnat ${ip} to numgen random mod ${backends.length} map { ${spread} }`,
        ],
      };
    });
  }

  #masquerading(family: Family, target: Chain, who: 'always' | 'outside' | 'never'): Chain {
    if (who === 'always')
      return this.#chain(`masquerade_${target.name}`, () => ({
        rules: [MARK_FOR_MASQUERADE, `goto ${target.name}`],
        goesTo: [target],
      }));
    if (who === 'never' || !this.#detectsPods[family]) return target;
    return this.#chain(`internal_${target.name}`, () => ({
      rules: [`${IP[family]} saddr != @pods_v${family} ${MARK_FOR_MASQUERADE}`, `goto ${target.name}`],
      goesTo: [target],
    }));
  }

  #keepingSource(frontend: Frontend): Chain {
    const { family } = frontend;
    const cluster = frontend.cluster.length > 0 ? this.#spread(frontend, 'cluster') : undefined;
    const local = frontend.local.length > 0 ? this.#spread(frontend, 'local') : undefined;
    const name = `external_${cluster?.name ?? 'none'}_${local?.name ?? 'none'}`;
    return this.#chain(name.length > 120 ? `external_${digest(name)}` : name, () => {
      const rules: string[] = [];
      if (cluster) {
        if (this.#detectsPods[family])
          rules.push(`${IP[family]} saddr @pods_v${family} goto ${cluster.name}`);
        // The host's own source may be the very address that it calls.
        rules.push(
          `fib saddr type local ${MARK_FOR_MASQUERADE}`,
          `fib saddr type local goto ${cluster.name}`,
        );
      }
      rules.push(local ? `goto ${local.name}` : 'drop');
      return { rules, goesTo: [cluster, local].filter((chain) => chain !== undefined) };
    });
  }

  #from(family: Family, sources: readonly string[], verdict: string): Chain {
    const target = this.#entryOf(verdict)?.chain;
    return this.#chain(`from_v${family}_${digest(`${sources.join(' ')} ${verdict}`)}`, () => ({
      rules: [`${IP[family]} saddr != { ${sources.join(', ')} } drop`, verdict],
      goesTo: target ? [target] : [],
    }));
  }

  /** The lines that make what is in use and not in the kernel yet, sets and targets first, and empty what is not. */
  creations(table: string): string[] {
    const lines: string[] = [];
    for (const [name, set] of this.#sets) {
      if (set.references > 0 && !set.inKernel) lines.push(`add set inet ${table} ${name} { ${set.type}; }`);
      if (set.references === 0 && set.inKernel && set.full) lines.push(`flush set inet ${table} ${name}`);
    }
    for (const entry of this.#entries.values())
      if (entry.references > 0 && !entry.inKernel) lines.push(...written(table, entry.chain));
    return lines;
  }

  /** Also those that are in the kernel: a flush makes room for the same rules again. */
  allInUse(table: string): string[] {
    const sets = [...this.#sets].filter(([, set]) => set.references > 0);
    return [
      ...sets.map(([name, { type }]) => `add set inet ${table} ${name} { ${type}; }`),
      ...[...this.#entries.values()]
        .filter(({ references }) => references > 0)
        .flatMap(({ chain }) => written(table, chain)),
    ];
  }

  /** What creations() made is in the kernel; the rest of the catalogue is not, after a `full` one. */
  committed(full: boolean): void {
    for (const entry of this.#entries.values()) {
      if (entry.references > 0) entry.inKernel = true;
      else if (full) entry.inKernel = false;
    }
    for (const set of this.#sets.values()) {
      set.full = set.references > 0;
      if (set.references > 0) set.inKernel = true;
      else if (full) set.inKernel = false;
    }
  }

  has(name: string): boolean {
    return (this.#entries.get(name)?.references ?? this.#sets.get(name)?.references ?? 0) > 0;
  }

  /** Forgets chains and sets that nothing used since then; the lines remove them from the kernel, users first. */
  removals(table: string, unusedSince: number): string[] {
    const old = [...this.#entries.values()].filter(
      (entry) => entry.references === 0 && entry.unusedSince <= unusedSince,
    );
    const inKernel = old.filter((entry) => entry.inKernel).map(({ chain }) => chain.name);
    for (const { chain } of old) this.#entries.delete(chain.name);
    const sets: string[] = [];
    const kept = new Set(
      [...this.#entries.values()].flatMap(({ chain }) => chain.sets.map(({ name }) => name)),
    );
    for (const [name, set] of this.#sets) {
      if (set.references > 0 || kept.has(name)) continue;
      this.#sets.delete(name);
      if (set.inKernel) sets.push(name);
    }
    return removalOf(table, inKernel, sets);
  }
}

/** Sets with this prefix are the clients of endpoints: they outlive a restart. */
export const AFFINITY_SET = 'clients_';

/** Lines that remove chains, whatever they go to, and sets that nothing else reads. */
export function removalOf(table: string, chains: readonly string[], sets: readonly string[]): string[] {
  return [
    ...chains.map((name) => `flush chain inet ${table} ${name}`),
    ...chains.map((name) => `delete chain inet ${table} ${name}`),
    ...sets.map((name) => `delete set inet ${table} ${name}`),
  ];
}

function written(table: string, { name, rules }: Chain): string[] {
  return [
    `add chain inet ${table} ${name}`,
    `flush chain inet ${table} ${name}`,
    ...rules.map((rule) => `add rule inet ${table} ${name} ${rule}`),
  ];
}
