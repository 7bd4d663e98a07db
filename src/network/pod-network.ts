// The pod network of one node: a bridge with the ranges' first addresses, a pair of interfaces and an address for
// each pod, masquerading for what leaves the pod ranges, and mapped host ports. It relies on ip(8) and nft(8), and
// keeps what it gave to whom on disk.
//
// Limits: a base chain of another firewall that drops by policy what goes through or to this machine has to let the
// bridge through by a rule of its own (a warning names it); mapped ports are not reachable at ::1, for which Linux has
// no route_localnet.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Cidr,
  type Clock,
  formatAddress,
  formatCidr,
  type Logger,
  parseAddress,
  type Running,
  type StartOptions,
  silentLogger,
  systemClock,
  type Timer,
} from '../component/index.ts';
import { HostError, type HostOperations, startHostOperations, type TableWatch } from '../host/index.ts';
import { RuntimeError } from '../runtime/cri.ts';
import type {
  PodNetworkAttachment,
  PodNetworkProvider,
  PodNetworkRequest,
  PodNetworkStatus,
} from '../runtime/network-provider.ts';
import { AddressPool } from './address-pool.ts';
import {
  checkOverlap,
  ensureBridge,
  type Gateway,
  hostRoutes,
  interfaceExists,
  mtuOfDefaultRoute,
  plugIn,
  portsOf,
  setSysctl,
  unplug,
  vethName,
} from './bridge.ts';
import { applyRules, droppingChains, firewallWarning } from './firewall.ts';
import { type HostPort, type Lease, LeaseStore } from './leases.ts';
import { hostPortsOf, parsePodCidrs, parseRanges } from './requests.ts';
import { DEFAULT_BRIDGE, DEFAULT_TABLE, removeTraces } from './reset.ts';
import { hostPortKey, ruleset } from './ruleset.ts';

export interface PodNetworkOptions extends StartOptions {
  /** One range, or one of each IP version, the primary one first: 10.244.0.0/24. */
  readonly podCidrs: readonly string[];
  readonly stateDirectory: string;
  /** The bridge's name; bulkhead0 when absent. */
  readonly bridge?: string;
  /** The nftables table's name; bulkhead when absent. */
  readonly table?: string;
  /** Further ranges that pods reach with their own address: the whole cluster's. */
  readonly clusterCidrs?: readonly string[];
  /** That of the host's default route when absent. */
  readonly mtu?: number;
  /** Shared with others; one of its own is started when absent. */
  readonly host?: HostOperations;
}

export interface PodNetwork extends PodNetworkProvider, Running {
  /** Takes everything down and deletes what is on disk; for good, where disposing leaves pods connected. */
  cleanup(): Promise<void>;
}

/** After this, an interface that has not gone with its namespace is deleted. */
const LEAVE_MS = 500;

/** A program that is not installed is named with the package that brings it. */
function withRemedy(error: unknown): unknown {
  const program =
    error instanceof HostError && error.code === 'ENOENT'
      ? error.what.match(/^run (ip|nft)$/)?.[1]
      : undefined;
  if (!program) return error;
  const name = program === 'ip' ? 'iproute2' : 'nftables';
  return new RuntimeError(
    'FailedPrecondition',
    `the pod network needs ${program}(8); on Debian: apt-get install ${name}`,
    {
      cause: error,
    },
  );
}

class BridgeNetwork implements PodNetwork {
  readonly ready: Promise<void>;
  readonly #options: PodNetworkOptions;
  readonly #bridge: string;
  readonly #table: string;
  readonly #clusterCidrs: readonly Cidr[];
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #store: LeaseStore;
  readonly #leases = new Map<string, Lease>();
  readonly #hostPorts = new Map<string, Lease>();
  /** Attaching and detaching the same sandbox go one after the other. */
  readonly #busy = new Map<string, Promise<unknown>>();
  /** Interfaces that are expected to go with their namespaces, and the addresses that they still have. */
  readonly #leaving = new Map<string, readonly string[]>();
  #leaveTimer: Timer | undefined;
  #cidrs: readonly Cidr[];
  #pools: AddressPool[] = [];
  #host!: HostOperations;
  #ownHost: HostOperations | undefined;
  #watch: TableWatch | undefined;
  #mtu = 1500;
  /** Changes of rules go one after the other, so that a repair never works from an old list of leases. */
  #rules: Promise<void> = Promise.resolve();
  #warning: string | undefined;
  #failure: string | undefined;

  constructor(options: PodNetworkOptions) {
    this.#options = options;
    this.#bridge = options.bridge ?? DEFAULT_BRIDGE;
    this.#table = options.table ?? DEFAULT_TABLE;
    if (!/^[a-zA-Z][a-zA-Z0-9_.-]{0,14}$/.test(this.#bridge))
      throw new RuntimeError('InvalidArgument', `"${this.#bridge}" is no name of a network interface`);
    if (!/^[a-zA-Z][a-zA-Z0-9_]*$/.test(this.#table))
      throw new RuntimeError('InvalidArgument', `"${this.#table}" is no name of an nftables table`);
    this.#cidrs = parsePodCidrs(options.podCidrs);
    this.#clusterCidrs = parseRanges(options.clusterCidrs ?? [], 'cluster range');
    this.#logger = options.logger ?? silentLogger;
    this.#clock = options.clock ?? systemClock;
    this.#store = new LeaseStore(options.stateDirectory);
    this.ready = this.#start().catch((error: unknown) => {
      throw withRemedy(error);
    });
    this.ready.catch(() => {});
  }

  async #start(): Promise<void> {
    const { stateDirectory, logger, clock } = this.#options;
    await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
    this.#ownHost = this.#options.host
      ? undefined
      : await startHostOperations({ socketPath: join(stateDirectory, 'host.sock'), logger, clock });
    this.#host = this.#options.host ?? this.#ownHost!;
    const routes = await hostRoutes(this.#host);
    for (const cidr of this.#cidrs) checkOverlap(cidr, routes, this.#bridge);
    this.#mtu = this.#options.mtu ?? (await mtuOfDefaultRoute(routes));

    const { leases, cursor } = await this.#store.load(this.#logger);
    this.#makePools(cursor);
    for (const lease of leases) await this.#adopt(lease);

    await this.#enableForwarding();
    await ensureBridge(this.#host, this.#bridge, this.#gateways, this.#mtu);
    await this.#applyAll();
    this.#watch = await this.#host.watchTable(this.#table, () => {
      this.#logger.warn(
        { table: this.#table },
        'the nftables table of the pod network was deleted; making it again',
      );
      void this.#applyAll().catch((error: unknown) =>
        this.#fail('the nftables rules cannot be made again', error),
      );
    });
    const chains = await droppingChains(this.#host, this.#table);
    this.#warning = firewallWarning(chains, this.#bridge);
    if (this.#warning !== undefined) this.#logger.warn({ chains }, this.#warning);
  }

  #makePools(cursor: readonly string[]): void {
    const known = cursor.flatMap((text) => parseAddress(text) ?? []);
    this.#pools = this.#cidrs.map(
      (cidr) =>
        new AddressPool(
          cidr,
          known.find((address) => address.family === cidr.family),
        ),
    );
  }

  get #gateways(): Gateway[] {
    return this.#pools.map((pool) => ({ cidr: pool.cidr, address: pool.gateway }));
  }

  /** Takes a lease from disk over; one from another range, or of an address that another lease has, is dropped. */
  async #adopt(lease: Lease): Promise<void> {
    const claimed = lease.ips.filter((ip) => this.#pools.some((pool) => pool.claim(parseAddress(ip)!)));
    if (claimed.length < lease.ips.length || lease.ips.length === 0) {
      this.#logger.warn({ lease }, 'a network lease does not fit the pod ranges and is dropped');
      this.#releaseAddresses(claimed);
      await unplug(this.#host, [vethName(lease.sandboxId)]);
      await this.#store.remove(lease.sandboxId);
      return;
    }
    this.#leases.set(lease.sandboxId, lease);
    for (const port of lease.hostPorts) this.#hostPorts.set(hostPortKey(port), lease);
  }

  async #enableForwarding(): Promise<void> {
    const families = new Set(this.#cidrs.map((cidr) => cidr.family));
    if (families.has(4) && (await setSysctl('net/ipv4/ip_forward', '1')))
      this.#logger.info('net.ipv4.ip_forward was 0 and is now 1: the host forwards packets for its pods');
    if (!families.has(6)) return;
    // A forwarding host ignores router advertisements unless told to heed them all the same (ip-sysctl: accept_ra).
    const routes = await hostRoutes(this.#host);
    for (const { destination, device } of routes)
      if (destination === 'default') await setSysctl(`net/ipv6/conf/${device}/accept_ra`, '2');
    if (await setSysctl('net/ipv6/conf/all/forwarding', '1'))
      this.#logger.info(
        'net.ipv6.conf.all.forwarding was 0 and is now 1: the host forwards packets for its pods',
      );
  }

  #applyAll(): Promise<void> {
    return this.#inRuleOrder(async () => {
      const names = { table: this.#table, bridge: this.#bridge };
      const ranges = { podCidrs: this.#cidrs, clusterCidrs: this.#clusterCidrs };
      await applyRules(this.#host, ruleset({ ...names, ...ranges }, this.#leases.values()));
      this.#failure = undefined;
    });
  }

  #inRuleOrder(change: () => Promise<void>): Promise<void> {
    const done = this.#rules.then(change, change);
    this.#rules = done.catch(() => {});
    return done;
  }

  #fail(what: string, error: unknown): void {
    this.#failure = `${what}: ${error instanceof Error ? error.message : String(error)}`;
    this.#logger.error({ err: error }, what);
  }

  /** One thing at a time for a sandbox. */
  async #alone<T>(sandboxId: string, work: () => Promise<T>): Promise<T> {
    const before = this.#busy.get(sandboxId) ?? Promise.resolve();
    const mine = before.then(work, work);
    this.#busy.set(sandboxId, mine);
    try {
      return await mine;
    } finally {
      if (this.#busy.get(sandboxId) === mine) this.#busy.delete(sandboxId);
    }
  }

  async attach(request: PodNetworkRequest): Promise<PodNetworkAttachment> {
    await this.ready;
    return this.#alone(request.sandboxId, () => this.#attach(request));
  }

  async #attach(request: PodNetworkRequest): Promise<PodNetworkAttachment> {
    const { sandboxId, netnsPath } = request;
    if (this.#leaving.has(vethName(sandboxId))) await this.#unplugLeaving();
    const known = this.#leases.get(sandboxId);
    if (known && (await interfaceExists(vethName(sandboxId)))) return { ips: known.ips };
    // What was given back a moment ago counts as given back.
    if (!known && this.#leaving.size > 0 && this.#pools.some((pool) => pool.used >= pool.capacity))
      await this.#unplugLeaving();
    const lease = known ?? this.#grant(request);
    try {
      if (!known) await this.#store.write(lease);
      await this.#restoreBridge();
      await Promise.all([
        plugIn(this.#host, {
          sandboxId,
          netnsPath,
          ips: lease.ips,
          gateways: this.#gateways,
          bridge: this.#bridge,
          mtu: this.#mtu,
        }),
        lease.hostPorts.length > 0 && this.#applyAll(),
        this.#store.writeCursor(this.#pools.map((pool) => pool.next)),
      ]);
      return { ips: lease.ips };
    } catch (error) {
      await this.#detach(sandboxId).catch((cleanup: unknown) =>
        this.#logger.error({ err: cleanup, sandboxId }, 'a half-made pod interface cannot be removed'),
      );
      throw error instanceof HostError
        ? new RuntimeError('Internal', `connect pod ${lease.pod}: ${error.message}`, { cause: error })
        : error;
    }
  }

  /** Decides on addresses and ports; without awaiting, so that no two decide the same. */
  #grant(request: PodNetworkRequest): Lease {
    const pod = `${request.podNamespace}/${request.podName}`;
    const hostPorts = hostPortsOf(request);
    for (const port of hostPorts) {
      const holder = this.#holderOf(port);
      if (holder)
        throw new RuntimeError(
          'FailedPrecondition',
          `host port ${port.hostPort}/${port.protocol.toUpperCase()} is taken by pod ${holder.pod}`,
        );
    }
    const ips: string[] = [];
    try {
      for (const pool of this.#pools) {
        ips.push(formatAddress(pool.allocate()));
      }
    } catch (error) {
      this.#releaseAddresses(ips);
      throw error;
    }
    const lease: Lease = { sandboxId: request.sandboxId, ips, hostPorts, pod };
    this.#leases.set(lease.sandboxId, lease);
    for (const port of hostPorts) this.#hostPorts.set(hostPortKey(port), lease);
    return lease;
  }

  #holderOf(port: HostPort): Lease | undefined {
    const exact =
      this.#hostPorts.get(hostPortKey(port)) ?? this.#hostPorts.get(hostPortKey({ ...port, hostIp: '' }));
    if (exact || port.hostIp !== '') return exact;
    // Asked for on every address: one that is taken on a single address is in the way.
    for (const lease of this.#leases.values())
      if (lease.hostPorts.some((p) => p.hostPort === port.hostPort && p.protocol === port.protocol))
        return lease;
    return undefined;
  }

  /** The bridge may have been deleted by hand: it is made again and the pods are put back on it. */
  async #restoreBridge(): Promise<void> {
    if (await interfaceExists(this.#bridge)) return;
    this.#logger.warn({ bridge: this.#bridge }, 'the bridge of the pod network was deleted; making it again');
    await ensureBridge(this.#host, this.#bridge, this.#gateways, this.#mtu);
    const lines: string[] = [];
    for (const sandboxId of this.#leases.keys()) {
      const veth = vethName(sandboxId);
      if (!(await interfaceExists(veth))) continue;
      lines.push(
        `link set dev ${veth} master ${this.#bridge} up`,
        `link set dev ${veth} type bridge_slave hairpin on`,
      );
    }
    if (lines.length > 0) await this.#host.check(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  async detach(sandboxId: string): Promise<void> {
    await this.ready;
    await this.#alone(sandboxId, () => this.#detach(sandboxId));
  }

  async #detach(sandboxId: string): Promise<void> {
    const lease = this.#leases.get(sandboxId);
    if (lease) {
      for (const port of lease.hostPorts) this.#hostPorts.delete(hostPortKey(port));
      this.#leases.delete(sandboxId);
      if (lease.hostPorts.length > 0) await this.#applyAll();
      await this.#store.remove(sandboxId);
    }
    // The addresses last: until the interface is gone, they are nobody else's.
    const veth = vethName(sandboxId);
    if (await interfaceExists(veth)) this.#leave(veth, lease?.ips ?? []);
    else this.#releaseAddresses(lease?.ips ?? []);
  }

  /**
   * The interface is about to go with its namespace, which costs the kernel far less than deleting it by itself (20 to
   * 40 ms each, during which no other can be made). Whether it has gone is looked at a little later.
   */
  #leave(veth: string, ips: readonly string[]): void {
    this.#leaving.set(veth, ips);
    this.#lookLater();
  }

  #lookLater(): void {
    this.#leaveTimer ??= this.#clock.setTimer(LEAVE_MS, () => {
      this.#unplugLeaving().catch((error: unknown) => {
        this.#logger.error(
          { err: error },
          'interfaces of pods that are gone cannot be removed; trying again',
        );
        this.#lookLater();
      });
    });
  }

  /** Deletes those that have not gone with their namespaces, and gives back their addresses. */
  async #unplugLeaving(): Promise<void> {
    this.#leaveTimer?.cancel();
    this.#leaveTimer = undefined;
    const leaving = [...this.#leaving];
    const left = await Promise.all(
      leaving.map(async ([veth]) => ((await interfaceExists(veth)) ? [veth] : [])),
    );
    await unplug(this.#host, left.flat());
    for (const [veth, ips] of leaving) {
      if (!this.#leaving.delete(veth)) continue;
      this.#releaseAddresses(ips);
    }
  }

  #releaseAddresses(ips: readonly string[]): void {
    for (const ip of ips) for (const pool of this.#pools) pool.release(parseAddress(ip)!);
  }

  async reconcile(liveSandboxes: ReadonlySet<string>): Promise<void> {
    await this.ready;
    const stale = [...this.#leases.keys()].filter((id) => !liveSandboxes.has(id));
    for (const id of stale) {
      this.#logger.info({ sandboxId: id }, 'the network of a sandbox that is no more is taken down');
      await this.detach(id);
    }
    await this.#unplugLeaving();
    const known = new Set([...this.#leases.keys()].map(vethName));
    const stray = (await portsOf(this.#host, this.#bridge)).filter(
      (name) => name.startsWith('bh') && !known.has(name),
    );
    await unplug(this.#host, stray);
  }

  async status(): Promise<PodNetworkStatus> {
    try {
      await this.ready;
    } catch (error) {
      return { ready: false, message: error instanceof Error ? error.message : String(error) };
    }
    if (this.#failure) return { ready: false, message: this.#failure };
    return { ready: true, message: this.#warning };
  }

  async setPodCidrs(podCidrs: readonly string[]): Promise<void> {
    await this.ready;
    const cidrs = parsePodCidrs(podCidrs);
    const same =
      cidrs.length === this.#cidrs.length &&
      cidrs.every((c, i) => formatCidr(c) === formatCidr(this.#cidrs[i]!));
    if (same) return;
    if (this.#leases.size > 0)
      throw new RuntimeError(
        'FailedPrecondition',
        `the pod ranges cannot become ${podCidrs.join(',')}: ${this.#leases.size} pods have addresses of ${this.#cidrs.map(formatCidr).join(',')}`,
      );
    const routes = await hostRoutes(this.#host);
    for (const cidr of cidrs) checkOverlap(cidr, routes, this.#bridge);
    await unplug(this.#host, [this.#bridge]);
    this.#cidrs = cidrs;
    this.#makePools([]);
    await this.#enableForwarding();
    await ensureBridge(this.#host, this.#bridge, this.#gateways, this.#mtu);
    await this.#applyAll();
  }

  async cleanup(): Promise<void> {
    await this.ready.catch(() => {});
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    this.#leaveTimer?.cancel();
    this.#leaving.clear();
    await this.#rules;
    if (this.#host) await removeTraces(this.#host, this.#bridge, this.#table, this.#options.stateDirectory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ready.catch(() => {});
    this.#watch?.[Symbol.dispose]();
    await Promise.allSettled([...this.#busy.values(), this.#rules]);
    if (this.#leaving.size > 0)
      await this.#unplugLeaving().catch((error: unknown) =>
        this.#logger.error({ err: error }, 'interfaces of pods that are gone cannot be removed'),
      );
    await this.#store.writeCursor(this.#pools.map((pool) => pool.next)).catch(() => {});
    await this.#ownHost?.[Symbol.asyncDispose]();
  }
}

/** Starts the pod network; resolves when pods can be attached. What an earlier run left is taken over. */
export async function startPodNetwork(options: PodNetworkOptions): Promise<PodNetwork> {
  const network = new BridgeNetwork(options);
  try {
    await network.ready;
  } catch (error) {
    await network[Symbol.asyncDispose]();
    throw error;
  }
  return network;
}
