// Load balancers where there is no cloud. With address ranges, each Service gets an address of its own from them.
// Without, it gets the nodes' own addresses, which Services share: a port of a protocol belongs to one of them, and
// ports that the machine itself listens on belong to nobody. What was given is what stands in the Services' status;
// nothing else is kept, so that a restart knows all that it must.

import type { LoadBalancerStatus, Node, Service } from '../api/types/core-v1.ts';
import { formatAddress, parseAddress } from '../component/index.ts';
import { type AddressRange, addressesOf, inRanges } from './address-range.ts';
import { LoadBalancerRefused, type LoadBalancers } from './load-balancers.ts';

export interface BareMachineOptions {
  /** Where addresses come from; empty: Services share the nodes' own. */
  readonly ranges: readonly AddressRange[];
  /**
   * Who on the node listens at that address and port, in words for an event; undefined when nobody does. Asked before
   * a port of a node's own address is given away.
   */
  readonly listener?: (address: string, protocol: string, port: number) => Promise<string | undefined>;
  /** The machine's own addresses, in the canonical notation: of the ranges' addresses, these come last. */
  readonly machineAddresses?: () => ReadonlySet<string>;
}

/** What a Service holds: addresses of its own, or ports of the nodes' addresses. */
interface Holding {
  readonly addresses: ReadonlySet<string>;
  /** `address protocol/port` */
  readonly ports: ReadonlySet<string>;
}

const NOTHING: Holding = { addresses: new Set(), ports: new Set() };

export function bareMachineLoadBalancers(options: BareMachineOptions): LoadBalancers {
  return new BareMachine(options);
}

class BareMachine implements LoadBalancers {
  readonly #options: BareMachineOptions;
  readonly #held = new Map<string, Holding>();
  readonly #owners = new Map<string, string>();
  readonly #waiting: (() => void)[] = [];

  constructor(options: BareMachineOptions) {
    this.#options = options;
  }

  adopt(service: Service): void {
    const given = (service.status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => ip ?? []);
    const fitting = this.#pooled ? given.filter((address) => inRanges(this.#options.ranges, address)) : given;
    const holding = this.#holdingOf(service, fitting);
    const key = keyOf(service);
    // Two that claim the same, left by an older version or a hand: the first keeps it, the other is ensured anew.
    if (this.#conflict(key, holding) === undefined) this.#hold(key, holding);
  }

  async ensure(service: Service, nodes: readonly Node[]): Promise<LoadBalancerStatus> {
    const key = keyOf(service);
    const before = this.#held.get(key) ?? NOTHING;
    try {
      const addresses = this.#pooled ? this.#choose(key, service) : nodeAddresses(service, nodes);
      const holding = this.#holdingOf(service, addresses);
      this.#refuseConflict(key, holding);
      // Held before the machine is asked, which takes a while: nobody else may be promised the same meanwhile.
      this.#hold(key, holding);
      const own = this.#pooled ? this.#machineAddresses : undefined;
      const shared = own ? addresses.filter((address) => own.has(address)) : addresses;
      await this.#refuseListeners(service, shared, before);
      if (shrunk(before, holding)) this.#tell();
      return { ingress: addresses.map((ip) => ({ ip, ipMode: 'VIP' })) };
    } catch (error) {
      await this.release(key);
      throw error;
    }
  }

  async release(key: string): Promise<void> {
    if (!this.#held.has(key)) return;
    this.#hold(key, NOTHING);
    this.#held.delete(key);
    this.#tell();
  }

  onRelease(callback: () => void): void {
    this.#waiting.push(callback);
  }

  get #pooled(): boolean {
    return this.#options.ranges.length > 0;
  }

  get #machineAddresses(): ReadonlySet<string> {
    return this.#options.machineAddresses?.() ?? new Set();
  }

  /** One address a family: what the Service asks for, what it has, or the first that is free. */
  #choose(key: string, service: Service): string[] {
    const held = [...(this.#held.get(key)?.addresses ?? [])];
    const asked = requestedAddress(service);
    if (asked !== undefined && !inRanges(this.#options.ranges, asked))
      throw new LoadBalancerRefused(
        `spec.loadBalancerIP ${asked} is not in the load-balancer address ranges`,
      );
    return familiesOf(service).map((family) => {
      const own = (text: string): boolean => parseAddress(text)?.family === family;
      if (asked !== undefined && own(asked)) return asked;
      const kept = held.find(own);
      if (kept !== undefined) return kept;
      const free = this.#free(family);
      if (free !== undefined) return free;
      throw new LoadBalancerRefused(
        `no IPv${family} address is free in the load-balancer address ranges; delete a Service of type LoadBalancer or give more with --load-balancer-range`,
      );
    });
  }

  /** The first that nobody has; one of the machine's own, where its programs may listen, only if there is no other. */
  #free(family: 4 | 6): string | undefined {
    const machine = this.#machineAddresses;
    let own: string | undefined;
    for (const address of addressesOf(this.#options.ranges.filter((range) => range.family === family))) {
      if (this.#owners.has(address)) continue;
      if (!machine.has(address)) return address;
      own ??= address;
    }
    return own;
  }

  #holdingOf(service: Service, addresses: readonly string[]): Holding {
    if (this.#pooled) return { addresses: new Set(addresses), ports: new Set() };
    const ports = addresses.flatMap((address) =>
      (service.spec?.ports ?? []).map(({ protocol, port }) => portKey(address, protocol ?? 'TCP', port)),
    );
    return { addresses: new Set(), ports: new Set(ports) };
  }

  #conflict(key: string, holding: Holding): { readonly what: string; readonly owner: string } | undefined {
    for (const what of [...holding.addresses, ...holding.ports]) {
      const owner = this.#owners.get(what);
      if (owner !== undefined && owner !== key) return { what, owner };
    }
    return undefined;
  }

  #refuseConflict(key: string, holding: Holding): void {
    const conflict = this.#conflict(key, holding);
    if (conflict === undefined) return;
    const remedy = this.#pooled ? '' : '; choose another port, or give addresses with --load-balancer-range';
    throw new LoadBalancerRefused(`${conflict.what} is taken by Service ${conflict.owner}${remedy}`);
  }

  async #refuseListeners(service: Service, addresses: readonly string[], before: Holding): Promise<void> {
    const { listener } = this.#options;
    if (listener === undefined) return;
    for (const address of addresses)
      for (const { protocol = 'TCP', port } of service.spec?.ports ?? []) {
        if (before.ports.has(portKey(address, protocol, port))) continue;
        const who = await listener(address, protocol, port);
        if (who !== undefined)
          throw new LoadBalancerRefused(
            `${portKey(address, protocol, port)} is in use on the machine itself (${who}); choose another port, or give addresses with --load-balancer-range`,
          );
      }
  }

  #hold(key: string, holding: Holding): void {
    const before = this.#held.get(key) ?? NOTHING;
    for (const what of [...before.addresses, ...before.ports]) this.#owners.delete(what);
    for (const what of [...holding.addresses, ...holding.ports]) this.#owners.set(what, key);
    this.#held.set(key, holding);
  }

  #tell(): void {
    for (const callback of this.#waiting) callback();
  }
}

const keyOf = ({ metadata }: Service): string => `${metadata.namespace}/${metadata.name}`;

const portKey = (address: string, protocol: string, port: number): string => `${address} ${protocol}/${port}`;

/** True when something that was held no longer is. */
function shrunk(before: Holding, after: Holding): boolean {
  return (
    [...before.addresses].some((address) => !after.addresses.has(address)) ||
    [...before.ports].some((port) => !after.ports.has(port))
  );
}

function familiesOf(service: Service): (4 | 6)[] {
  const families = service.spec?.ipFamilies ?? ['IPv4'];
  return families.flatMap((family) => (family === 'IPv4' ? [4] : family === 'IPv6' ? [6] : []));
}

/** In its canonical form. */
function requestedAddress(service: Service): string | undefined {
  const text = service.spec?.loadBalancerIP;
  if (!text) return undefined;
  const address = parseAddress(text);
  return address ? formatAddress(address) : text;
}

function nodeAddresses(service: Service, nodes: readonly Node[]): string[] {
  const families = new Set(familiesOf(service));
  const all = nodes.flatMap((node) =>
    (node.status?.addresses ?? []).flatMap(({ type, address }) => {
      const parsed = type === 'InternalIP' ? parseAddress(address) : undefined;
      return parsed && families.has(parsed.family) ? [formatAddress(parsed)] : [];
    }),
  );
  if (all.length === 0) throw new LoadBalancerRefused("no node has an address of the Service's families");
  const asked = requestedAddress(service);
  if (asked === undefined) return [...new Set(all)];
  if (!all.includes(asked))
    throw new LoadBalancerRefused(
      `spec.loadBalancerIP ${asked} is no address of a node; the nodes have ${all.join(', ')}`,
    );
  return [asked];
}
