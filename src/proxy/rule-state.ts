// What the kernel is to hold, element by element, and how it differs from what it holds: the programs of services
// merged into maps and sets, with the differences collected until they are written as one transaction.
//
// Invariants
// - Each map element has one owner. Where two services ask for the same frontend, the older service has it (its name
//   decides between equals), in whichever order they came to be known.
// - Elements change only through #put, which keeps for each the value that the kernel has and the one it is to have:
//   what comes and goes again between two transactions costs nothing.
// - After begin() until committed() or failed() nothing is changed.

import type { Cidr, Family } from '../component/index.ts';
import { ChainCatalogue, removalOf } from './chains.ts';
import type { Frontend, ServiceProgram } from './program.ts';
import { type ElementMap, fixedNames, fixedRules, LOCAL_LIST, type RulesetOptions } from './ruleset.ts';
import { assignSlots } from './slots.ts';

/** Elements in one line of a script. */
const BATCH = 500;
/** Chains that nothing goes to any more are removed after this long. */
const KEEP_UNUSED_MS = 60_000;

/** One service and its standing against others. */
export interface ServiceRank {
  /** namespace/name */
  readonly key: string;
  /** As the API writes it: text order is the order in time. */
  readonly created: string;
}

/** A frontend that a service asked for and another one has. */
export interface Collision {
  readonly service: string;
  readonly owner: string;
  readonly frontend: Pick<Frontend, 'address' | 'port' | 'protocol'>;
}

interface Placed {
  readonly frontend: Frontend;
  readonly verdict: string;
  readonly cluster: readonly string[];
  readonly local: readonly string[];
}

interface Service extends ServiceRank {
  readonly program: ServiceProgram;
  /** By frontendId; those that the service owns. */
  readonly placed: Map<string, Placed>;
}

interface Difference {
  readonly before: string | undefined;
  after: string | undefined;
}

export class RuleState {
  readonly chains: ChainCatalogue;
  readonly #table: string;
  #fixed: RulesetOptions;
  readonly #services = new Map<string, Service>();
  /** Who asks for a frontend; the first one has it. Most have one claimant, and then no list. */
  readonly #claims = new Map<string, ServiceRank | ServiceRank[]>();
  /** How many services want a member of a set. */
  readonly #members = new Map<string, number>();
  #differences = new Map<ElementMap, Map<string, Difference>>();
  #recording = true;

  constructor(table: string, fixed: RulesetOptions) {
    this.#table = table;
    this.#fixed = fixed;
    const detects = (family: Family): boolean => fixed.podRanges.some((range) => range.family === family);
    this.chains = new ChainCatalogue({ 4: detects(4), 6: detects(6) });
  }

  /** Takes effect with the next everything(). */
  setServiceRanges(serviceRanges: readonly Cidr[]): void {
    this.#fixed = { ...this.#fixed, serviceRanges };
  }

  get pending(): boolean {
    return this.#differences.size > 0;
  }

  programOf(service: string): ServiceProgram | undefined {
    return this.#services.get(service)?.program;
  }

  *programs(): Iterable<readonly [service: string, program: ServiceProgram]> {
    for (const [key, { program }] of this.#services) yield [key, program];
  }

  /**
   * Makes a service's program what it is to be; undefined: there is none any more. Calls back with services whose
   * programs have to be set again, because a frontend became free or was taken from them.
   */
  set(
    rank: ServiceRank,
    program: ServiceProgram | undefined,
    now: number,
    affected: (service: string) => void,
  ): Collision[] {
    const known = this.#services.get(rank.key);
    const placed = known?.placed ?? new Map<string, Placed>();
    const collisions: Collision[] = [];
    const asked = new Map<string, Frontend>();
    for (const frontend of program?.frontends ?? []) {
      const id = frontendId(frontend);
      if (!asked.has(id)) asked.set(id, frontend);
    }
    for (const frontend of known?.program.frontends ?? []) {
      const id = frontendId(frontend);
      if (!asked.has(id)) this.#unclaim(id, rank.key, affected);
    }
    const owned = new Set<string>();
    for (const [id, frontend] of asked) {
      const owner = this.#claim(id, rank, affected);
      if (owner === rank.key) owned.add(id);
      else collisions.push({ service: rank.key, owner, frontend });
    }
    for (const [id, before] of placed) {
      if (owned.has(id)) continue;
      this.#place(before, undefined, now);
      placed.delete(id);
    }
    for (const id of owned) {
      const after = this.#place(placed.get(id), asked.get(id)!, now);
      if (after) placed.set(id, after);
    }
    this.#setMembers(known?.program, program);
    if (program) this.#services.set(rank.key, { ...rank, program, placed });
    else this.#services.delete(rank.key);
    return collisions;
  }

  #claim(id: string, rank: ServiceRank, affected: (service: string) => void): string {
    const claims = this.#claims.get(id);
    if (!claims) {
      this.#claims.set(id, rank);
      return rank.key;
    }
    if (!Array.isArray(claims) && claims.key === rank.key) {
      if (claims.created !== rank.created) this.#claims.set(id, rank);
      return rank.key;
    }
    const before = Array.isArray(claims) ? claims : [claims];
    const after = [...before.filter(({ key }) => key !== rank.key), rank].sort(byAge);
    this.#claims.set(id, after);
    const owner = after[0]!.key;
    // Whoever has it lets go when it is looked at again, and only then is it free for us.
    const holder = before.find(({ key }) => key !== rank.key && this.#services.get(key)?.placed.has(id));
    if (owner === rank.key && holder) {
      affected(holder.key);
      affected(rank.key);
      return holder.key;
    }
    return owner;
  }

  #unclaim(id: string, service: string, affected: (service: string) => void): void {
    const claims = this.#claims.get(id);
    if (!claims) return;
    if (!Array.isArray(claims)) {
      if (claims.key === service) this.#claims.delete(id);
      return;
    }
    const left = claims.filter(({ key }) => key !== service);
    if (left.length > 1) this.#claims.set(id, left);
    else if (left[0]) this.#claims.set(id, left[0]);
    else this.#claims.delete(id);
    if (claims[0]?.key === service && left[0]) affected(left[0].key);
  }

  /** Moves a frontend from one state to another; returns where it stands. */
  #place(before: Placed | undefined, frontend: Frontend | undefined, now: number): Placed | undefined {
    const at = (frontend ?? before?.frontend)!;
    const key = frontendKey(at);
    const cluster = assignSlots(before?.cluster ?? [], numbered(frontend, 'cluster'));
    const local = assignSlots(before?.local ?? [], numbered(frontend, 'local'));
    const map = endpointMap(at);
    const number = numberKey(at);
    const lists = [
      [0, before?.cluster ?? [], cluster],
      [LOCAL_LIST, before?.local ?? [], local],
    ] as const;
    for (const [offset, old, { slots, changed }] of lists)
      for (const i of changed) this.#put(map, `${number} . ${offset + i}`, old[i], slots[i]);
    const verdict = frontend && this.chains.verdictOf(frontend);
    if (verdict !== before?.verdict) {
      if (verdict) this.chains.acquire(verdict);
      if (before) this.chains.release(before.verdict, now);
      const dispatch = at.address === '' ? 'node_ports' : 'frontends';
      this.#put(`${dispatch}_v${at.family}`, key, before?.verdict, verdict);
    }
    if (!frontend || !verdict) return undefined;
    return { frontend, verdict, cluster: cluster.slots, local: local.slots };
  }

  #setMembers(before: ServiceProgram | undefined, after: ServiceProgram | undefined): void {
    const wanted = membersOf(after);
    const old = membersOf(before);
    for (const [key, set] of wanted) {
      if (old.some(([other]) => other === key)) continue;
      const count = this.#members.get(key) ?? 0;
      this.#members.set(key, count + 1);
      if (count === 0) this.#put(set, key, undefined, '');
    }
    for (const [key, set] of old) {
      if (wanted.some(([other]) => other === key)) continue;
      const count = (this.#members.get(key) ?? 1) - 1;
      if (count > 0) this.#members.set(key, count);
      else {
        this.#members.delete(key);
        this.#put(set, key, '', undefined);
      }
    }
  }

  #put(map: ElementMap, key: string, before: string | undefined, after: string | undefined): void {
    if (!this.#recording) return;
    let elements = this.#differences.get(map);
    if (!elements) {
      elements = new Map();
      this.#differences.set(map, elements);
    }
    const known = elements.get(key);
    if (!known) elements.set(key, { before, after });
    else if (known.before === after) elements.delete(key);
    else known.after = after;
    if (elements.size === 0) this.#differences.delete(map);
  }

  /** The transaction that brings the kernel from what it holds to what it is to hold; undefined when that is the same. */
  changes(now: number): { readonly script: string; readonly elements: number } | undefined {
    if (!this.pending) return undefined;
    const table = this.#table;
    const removed: string[] = [];
    const added: string[] = [];
    let elements = 0;
    for (const [map, differences] of this.#differences) {
      const gone: string[] = [];
      const come: string[] = [];
      for (const [key, { before, after }] of differences) {
        if (before !== undefined) gone.push(key);
        if (after !== undefined) come.push(after === '' ? key : `${key} : ${after}`);
      }
      elements += gone.length + come.length;
      removed.push(...inBatches(`delete element inet ${table} ${map}`, gone));
      added.push(...inBatches(`add element inet ${table} ${map}`, come));
    }
    const lines = [
      ...this.chains.removals(table, now - KEEP_UNUSED_MS),
      ...this.chains.creations(table),
      ...removed,
      ...added,
      '',
    ];
    return { script: lines.join('\n'), elements };
  }

  /** What the kernel holds is of no matter until everything() was committed. */
  forgetDifferences(): void {
    this.#recording = false;
    this.#differences = new Map();
  }

  /** The kernel holds what changes(), or everything(), said. */
  committed(full: boolean): void {
    this.#recording = true;
    this.#differences = new Map();
    this.chains.committed(full);
  }

  /** Lines that make the table whole, whatever it holds, a part at a time. Affinity of clients stays as it is. */
  *everything(): Iterable<string> {
    const table = this.#table;
    yield `${[...fixedRules(table, this.#fixed), ...this.chains.allInUse(table)].join('\n')}\n`;
    const waiting = new Map<ElementMap, string[]>();
    const add = (map: ElementMap, element: string): string | undefined => {
      let elements = waiting.get(map);
      if (!elements) {
        elements = [];
        waiting.set(map, elements);
      }
      elements.push(element);
      if (elements.length < BATCH) return undefined;
      waiting.delete(map);
      return elementsLine(`add element inet ${table} ${map}`, elements);
    };
    for (const { placed } of this.#services.values()) {
      for (const { frontend, verdict, cluster, local } of placed.values()) {
        const key = frontendKey(frontend);
        const dispatch = frontend.address === '' ? 'node_ports' : 'frontends';
        yield add(`${dispatch}_v${frontend.family}`, `${key} : ${verdict}`) ?? '';
        const map = endpointMap(frontend);
        const number = numberKey(frontend);
        for (const [i, backend] of cluster.entries()) yield add(map, `${number} . ${i} : ${backend}`) ?? '';
        for (const [i, backend] of local.entries())
          yield add(map, `${number} . ${LOCAL_LIST + i} : ${backend}`) ?? '';
      }
    }
    for (const member of this.#members.keys()) {
      const name = member.includes(' ') ? 'hairpins' : 'cluster_ips';
      yield add(`${name}_v${member.includes(':') ? 6 : 4}`, member) ?? '';
    }
    for (const [map, elements] of waiting) yield elementsLine(`add element inet ${table} ${map}`, elements);
  }

  /** Lines that remove what the kernel has and nothing here knows: left by an earlier run, or put there by hand. */
  sweep(found: {
    readonly chains: readonly string[];
    readonly sets: readonly string[];
    readonly maps: readonly string[];
  }): string[] {
    const fixed = fixedNames();
    const stray = (name: string): boolean => !fixed.has(name) && !this.chains.has(name);
    return [
      ...removalOf(this.#table, found.chains.filter(stray), found.sets.filter(stray)),
      ...found.maps.filter(stray).map((name) => `delete map inet ${this.#table} ${name}`),
    ];
  }
}

function byAge(a: ServiceRank, b: ServiceRank): number {
  if (a.created !== b.created) return a.created < b.created ? -1 : 1;
  return a.key < b.key ? -1 : 1;
}

/** What a service puts into sets, each member once. */
function membersOf(
  program: ServiceProgram | undefined,
): readonly (readonly [key: string, set: ElementMap])[] {
  if (!program) return [];
  return [
    ...[...program.clusterIps, ...program.balancerIps].map(
      ({ family, address }) => [address, `cluster_ips_v${family}`] as const,
    ),
    ...program.hairpins.map(
      ({ family, address }) => [`${address} . ${address}`, `hairpins_v${family}`] as const,
    ),
  ];
}

/** Endpoints that have numbers in a map; with affinity they are in the rules of a chain. */
function numbered(frontend: Frontend | undefined, list: 'cluster' | 'local'): readonly string[] {
  return frontend && !frontend.affinity ? frontend[list] : [];
}

/** As nft writes the key of its map element. */
function frontendKey({ address, protocol, port }: Frontend): string {
  return address === '' ? `${protocol} . ${port}` : `${address} . ${protocol} . ${port}`;
}

function endpointMap({ address, protocol, family }: Frontend): ElementMap {
  return `${address === '' ? 'node_port_endpoints' : 'endpoints'}_${protocol}_v${family}`;
}

/** The key of an endpoint of the frontend, but for its number. */
function numberKey({ address, port }: Frontend): string {
  return address === '' ? String(port) : `${address} . ${port}`;
}

/** Of one frontend among all: a node port is another one in each family. */
function frontendId(frontend: Frontend): string {
  return `${frontend.family} ${frontendKey(frontend)}`;
}

function elementsLine(command: string, elements: readonly string[]): string {
  return `${command} { ${elements.join(', ')} }\n`;
}

function inBatches(command: string, elements: readonly string[]): string[] {
  const lines: string[] = [];
  for (let i = 0; i < elements.length; i += BATCH)
    lines.push(`${command} { ${elements.slice(i, i + BATCH).join(', ')} }`);
  return lines;
}
