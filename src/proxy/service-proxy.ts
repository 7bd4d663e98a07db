// The service proxy of a node: watches Services, EndpointSlices and its own Node, and keeps one nftables table such
// that connections to services reach their endpoints (kube-proxy's job). It relies on nft(8) and, for UDP flows of
// endpoints that are gone, on conntrack(8).
//
// Disposing it leaves the rules in place: connections stand, new ones go on being made, and the next start takes the
// table over in one transaction. cleanup() takes them away.

import type { KubeObject } from '../api/index.ts';
import type { Node, Service } from '../api/types/core-v1.ts';
import type { EndpointSlice } from '../api/types/discovery-v1.ts';
import type { ServiceCIDR } from '../api/types/networking-v1.ts';
import {
  type Client,
  createEventRecorder,
  type EventRecorder,
  type Informer,
  keyOf,
  referenceTo,
  resources,
  splitKey,
} from '../client/index.ts';
import {
  type Clock,
  type Logger,
  parseCidr,
  type Running,
  type StartOptions,
  silentLogger,
  systemClock,
} from '../component/index.ts';
import type { HostOperations, TableWatch } from '../host/index.ts';
import { ConntrackCleaner, leavesStaleFlows } from './conntrack.ts';
import { type HealthServer, ProxyHealth, ServiceHealth, startHealthServer } from './health.ts';
import { ProxyMetrics } from './metrics.ts';
import { Nft, removeServiceProxyTraces, TABLE_NAME } from './nft.ts';
import { isOurs, type ProgramContext, parseRanges, programOf, type ServiceProgram } from './program.ts';
import { type Collision, RuleState, type ServiceRank } from './rule-state.ts';
import { type Round, Synchronizer } from './synchronizer.ts';
import { TimeSlice } from './time-slice.ts';

export interface ServiceProxyOptions extends StartOptions {
  readonly client: Client;
  readonly nodeName: string;
  readonly host: HostOperations;
  /** The nftables table, this instance's own: bulkhead_services. */
  readonly table: string;
  /** This node's pod ranges. Sources in them are pods: they keep their address, and no traffic policy holds for them. */
  readonly podCidrs: readonly string[];
  /** The whole cluster's pod ranges, where they are wider. */
  readonly clusterCidrs?: readonly string[];
  /** Addresses in these that no Service has lead nowhere. Read from the ServiceCIDR objects when absent. */
  readonly serviceCidrs?: readonly string[];
  /** Node ports are at the node's addresses in these; at all but loopback when absent or empty. */
  readonly nodePortAddresses?: readonly string[];
  /**
   * Whether a load-balancer address, in the canonical notation, stands on this machine for its Service alone: at its
   * other ports nobody is to be found, the machine's own programs and node ports least of all.
   */
  readonly isBalancers?: (address: string) => boolean;
  /** Replaces the source of all traffic to cluster IPs. */
  readonly masqueradeAll?: boolean;
  /** Serves /healthz, /livez and /metrics: 127.0.0.1:10256. */
  readonly healthBindAddress?: string;
  /** A file that holds the network namespace whose traffic is proxied; the host's when absent. */
  readonly networkNamespace?: string;
  /** Everything is written anew this often; an hour when absent. */
  readonly resyncMs?: number;
  /** Uniform in [0, 1): jitter of back-offs. */
  readonly random?: () => number;
}

export interface ServiceProxy extends Running {
  /** Where health and metrics are served; undefined without healthBindAddress. */
  readonly healthAddress: string | undefined;
  /** The figures in the text format of Prometheus. */
  metrics(): string;
  /** Stops it and removes its table. */
  cleanup(): Promise<void>;
}

const SERVICE_NAME = 'kubernetes.io/service-name';
const TRIGGER_TIME = 'endpoints.kubernetes.io/last-change-trigger-time';
const ZONE = 'topology.kubernetes.io/zone';
const RESYNC_MS = 60 * 60 * 1000;

/** The service that a slice belongs to. */
function ownerOf({ metadata }: EndpointSlice): string | undefined {
  const name = metadata.labels?.[SERVICE_NAME];
  return name && isOurs(metadata) ? `${metadata.namespace ?? ''}/${name}` : undefined;
}

class NftablesProxy implements ServiceProxy {
  readonly ready: Promise<void>;
  readonly #options: ServiceProxyOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #metrics = new ProxyMetrics();
  readonly #health: ProxyHealth;
  readonly #serviceHealth: ServiceHealth;
  readonly #recorder: EventRecorder;
  readonly #nft: Nft;
  readonly #services: Informer<Service>;
  readonly #slices: Informer<EndpointSlice>;
  readonly #node: Informer<Node>;
  readonly #serviceCidrs: Informer<ServiceCIDR> | undefined;
  readonly #slicesOf = new Map<string, Map<string, EndpointSlice>>();
  /** When the changes happened that are to be programmed next, and those that are being programmed. */
  #triggers: number[] = [];
  #triggersUnderWay: number[] = [];
  /** By service, the frontends that it asked for and another one has, with that one: each is told once. */
  readonly #collisions = new Map<string, ReadonlyMap<string, string>>();
  readonly #startedAt: number;
  #context: ProgramContext;
  #synchronizer: Synchronizer | undefined;
  #conntrack: ConntrackCleaner | undefined;
  #watch: TableWatch | undefined;
  #server: HealthServer | undefined;
  #stopped: Promise<void> | undefined;

  constructor(options: ServiceProxyOptions) {
    this.#options = options;
    const { client, host, table, nodeName, networkNamespace } = options;
    if (!TABLE_NAME.test(table)) throw new RangeError(`"${table}" is no name of an nftables table`);
    this.#clock = options.clock ?? systemClock;
    this.#logger = (options.logger ?? silentLogger).child({ component: 'proxy' });
    this.#startedAt = this.#clock.now();
    this.#health = new ProxyHealth(this.#clock);
    this.#recorder = createEventRecorder({
      client,
      component: 'kube-proxy',
      host: nodeName,
      clock: this.#clock,
      logger: this.#logger,
    });
    this.#serviceHealth = new ServiceHealth({
      health: this.#health,
      logger: this.#logger,
      nodePortRanges: parseRanges(options.nodePortAddresses ?? [], 'range of node-port addresses'),
      failed: (service, port, error) => this.#healthPortFailed(service, port, error),
    });
    this.#nft = new Nft({ host, table, ...(networkNamespace ? { networkNamespace } : {}) });
    this.#context = {
      nodeName,
      zone: '',
      masqueradeAll: options.masqueradeAll === true,
      nodeAddresses: [],
      isBalancers: options.isBalancers ?? (() => false),
    };
    this.#services = client.informers.informer(resources.services);
    this.#slices = client.informers.informer(resources.endpointSlices);
    this.#node = client.informers.informer(resources.nodes, { fieldSelector: { 'metadata.name': nodeName } });
    if (!options.serviceCidrs) this.#serviceCidrs = client.informers.informer(resources.serviceCidrs);
    this.ready = this.#start();
    // Whoever needs it awaits it.
    this.ready.catch(() => {});
  }

  get healthAddress(): string | undefined {
    return this.#server?.address;
  }

  metrics(): string {
    return this.#metrics.text();
  }

  async #start(): Promise<void> {
    const options = this.#options;
    const clock = this.#clock;
    const logger = this.#logger;
    const metrics = this.#metrics;
    if (options.healthBindAddress !== undefined)
      this.#server = await startHealthServer(options.healthBindAddress, this.#health, metrics, clock);
    const state = new RuleState(options.table, {
      podRanges: parseRanges([...options.podCidrs, ...(options.clusterCidrs ?? [])], 'pod range'),
      serviceRanges: parseRanges(options.serviceCidrs ?? [], 'service range'),
      nodePortRanges: parseRanges(options.nodePortAddresses ?? [], 'range of node-port addresses'),
    });
    this.#conntrack = new ConntrackCleaner({
      host: options.host,
      networkNamespace: options.networkNamespace,
      clock,
      logger,
      metrics,
      *ports() {
        for (const [, { datagrams }] of state.programs()) yield* datagrams;
      },
    });
    const synchronizer = new Synchronizer({
      nft: this.#nft,
      state,
      table: options.table,
      clock,
      logger,
      metrics,
      random: options.random ?? Math.random,
      resyncMs: options.resyncMs ?? RESYNC_MS,
      describe: (service) => this.#describe(service),
      started: () => this.#roundStarted(),
      done: (round) => this.#roundDone(round),
    });
    this.#synchronizer = synchronizer;
    await Promise.all([this.#follow(synchronizer), this.#followServiceCidrs(state, synchronizer)]);
    if (this.#stopped) return;
    this.#watch = await this.#nft.watch(() => synchronizer.repair());
    await synchronizer.start();
  }

  /** Ranges come and go seldom: each time everything is written anew. */
  async #followServiceCidrs(state: RuleState, synchronizer: Synchronizer): Promise<void> {
    if (!this.#serviceCidrs) return;
    const { synced, lister } = this.#serviceCidrs;
    let known = '';
    const changed = (): void => {
      const texts = lister.list().flatMap(({ spec }) => spec?.cidrs ?? []);
      if (texts.join() === known) return;
      known = texts.join();
      state.setServiceRanges(texts.flatMap((text) => parseCidr(text) ?? []));
      synchronizer.everything();
    };
    this.#serviceCidrs.addHandler({ added: changed, updated: changed, deleted: changed });
    await synced;
  }

  /** Hears of changes from now on; resolves when everything that is there was heard of. */
  async #follow(synchronizer: Synchronizer): Promise<void> {
    const metrics = this.#metrics;
    const touch = (service: string, slice: boolean): void => {
      (slice ? metrics.endpointChanges : metrics.serviceChanges).value++;
      (slice ? metrics.endpointChangesPending : metrics.serviceChangesPending).value++;
      metrics.lastQueued.value = this.#clock.now() / 1000;
      this.#health.queued();
      synchronizer.touch(service);
    };
    // All that is there at the beginning comes in one call: it is looked at afterwards, a little at a time.
    this.#services.addHandler({
      added: (service, { initial }) => initial || touch(keyOf(service), false),
      updated: (service) => touch(keyOf(service), false),
      deleted: (service) => touch(keyOf(service), false),
    });
    const setSlice = (slice: EndpointSlice, present: boolean): void => {
      const owner = ownerOf(slice);
      if (owner === undefined) return;
      let slices = this.#slicesOf.get(owner);
      if (!slices) {
        slices = new Map();
        this.#slicesOf.set(owner, slices);
      }
      if (present) slices.set(keyOf(slice), slice);
      else {
        slices.delete(keyOf(slice));
        if (slices.size === 0) this.#slicesOf.delete(owner);
      }
      touch(owner, true);
    };
    this.#slices.addHandler({
      added: (slice, { initial }) => {
        if (initial) return;
        this.#sawTrigger(slice, undefined);
        setSlice(slice, true);
      },
      updated: (slice, old) => {
        this.#sawTrigger(slice, old);
        if (ownerOf(old) !== ownerOf(slice)) setSlice(old, false);
        setSlice(slice, true);
      },
      deleted: (slice) => setSlice(slice, false),
    });
    this.#node.addHandler({
      added: (node) => this.#sawNode(node),
      updated: (node) => this.#sawNode(node),
      deleted: () => this.#setContext({ zone: '', nodeAddresses: [] }),
    });
    await Promise.all([this.#services.synced, this.#slices.synced, this.#node.synced]);
    await this.#each(this.#services, (service) => touch(keyOf(service), false));
    await this.#each(this.#slices, (slice) => setSlice(slice, true));
  }

  /** Calls back for all that is there, as it is at that moment, and lets others have their turn. */
  async #each<T extends KubeObject>({ lister }: Informer<T>, look: (object: T) => void): Promise<void> {
    const turn = new TimeSlice(this.#clock);
    for (const { metadata } of lister.list()) {
      const object = lister.find(metadata.namespace, metadata.name);
      if (object) look(object);
      if (turn.over) await turn.pause();
      if (this.#stopped) return;
    }
  }

  #sawTrigger(slice: EndpointSlice, old: EndpointSlice | undefined): void {
    const text = slice.metadata.annotations?.[TRIGGER_TIME];
    if (text === undefined || text === old?.metadata.annotations?.[TRIGGER_TIME]) return;
    const time = Date.parse(text);
    // What happened before we were there tells nothing about how fast we are.
    if (time >= this.#startedAt) this.#triggers.push(time);
  }

  #sawNode(node: Node): void {
    this.#health.sawNode(node);
    const addresses = (node.status?.addresses ?? []).filter(
      ({ type }) => type === 'InternalIP' || type === 'ExternalIP',
    );
    this.#setContext({
      zone: node.metadata.labels?.[ZONE] ?? '',
      nodeAddresses: addresses.map(({ address }) => address),
    });
  }

  #setContext(change: Pick<ProgramContext, 'zone' | 'nodeAddresses'>): void {
    const { zone, nodeAddresses } = this.#context;
    if (change.zone === zone && change.nodeAddresses.join() === nodeAddresses.join()) return;
    this.#context = { ...this.#context, ...change };
    for (const service of this.#services.lister.values()) this.#synchronizer?.touch(keyOf(service));
  }

  #describe(
    key: string,
  ): { readonly rank: ServiceRank; readonly program: ServiceProgram | undefined } | undefined {
    const service = this.#services.lister.get(key);
    if (!service) return undefined;
    return {
      rank: { key, created: String(service.metadata.creationTimestamp ?? '') },
      program: programOf(service, [...(this.#slicesOf.get(key)?.values() ?? [])], this.#context),
    };
  }

  #roundStarted(): void {
    this.#triggersUnderWay.push(...this.#triggers);
    this.#triggers = [];
  }

  async #roundDone({ services, collisions, full }: Round): Promise<void> {
    const metrics = this.#metrics;
    const now = this.#clock.now();
    for (const time of this.#triggersUnderWay) metrics.programming.observe(Math.max(0, now - time) / 1000);
    this.#triggersUnderWay = [];
    this.#health.updated();
    if (this.#synchronizer?.waiting === 0) {
      metrics.endpointChangesPending.value = 0;
      metrics.serviceChangesPending.value = 0;
    } else this.#health.queued();
    let stale = full;
    const turn = new TimeSlice(this.#clock);
    for (const [service, { before, after }] of services) {
      this.#serviceHealth.set(service, after?.health);
      this.#countUnreachable(before, -1);
      this.#countUnreachable(after, 1);
      stale ||= leavesStaleFlows(before, after);
      this.#tellCollisions(service, collisions.get(service) ?? []);
      if (turn.over) await turn.pause();
    }
    if (stale) this.#conntrack?.request();
  }

  #countUnreachable(program: ServiceProgram | undefined, by: number): void {
    for (const { treatment, address } of program?.frontends ?? []) {
      const internal = program?.clusterIps.some((ip) => ip.address === address);
      if (treatment.kind === 'drop')
        this.#metrics.noLocalEndpoints.add(by, internal ? 'internal' : 'external');
    }
  }

  #tellCollisions(service: string, collisions: readonly Collision[]): void {
    const told = this.#collisions.get(service);
    if (collisions.length === 0) {
      if (told) this.#collisions.delete(service);
      return;
    }
    this.#collisions.set(
      service,
      new Map(collisions.map(({ owner, frontend }) => [placeOf(frontend), owner])),
    );
    for (const { owner, frontend } of collisions) {
      const where = placeOf(frontend);
      if (told?.get(where) === owner) continue;
      this.#logger.warn({ service, owner, where }, 'two services ask for the same address and port');
      this.#warn(
        service,
        'FrontendConflict',
        `${where} belongs to Service ${owner}, which is older: connections go there`,
      );
    }
  }

  #healthPortFailed(service: string, port: number, error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    this.#logger.error({ err: error, service, port }, 'the health-check port of a service cannot be opened');
    this.#warn(
      service,
      'FailedToStartServiceHealthcheck',
      `node ${this.#options.nodeName} failed to start healthcheck "${service}" on port ${port}: ${text}`,
    );
  }

  #warn(key: string, reason: string, message: string): void {
    const { namespace, name } = splitKey(key);
    const service = this.#services.lister.find(namespace, name);
    if (service) this.#recorder.event(referenceTo(resources.services, service), 'Warning', reason, message);
  }

  #stop(): Promise<void> {
    this.#stopped ??= (async () => {
      this.#watch?.[Symbol.dispose]();
      await Promise.all([
        this.#services[Symbol.asyncDispose](),
        this.#slices[Symbol.asyncDispose](),
        this.#node[Symbol.asyncDispose](),
        this.#serviceCidrs?.[Symbol.asyncDispose](),
      ]);
      await this.#synchronizer?.stop();
      await this.ready.catch(() => {});
      this.#watch?.[Symbol.dispose]();
      await Promise.all([
        this.#conntrack?.stop(),
        this.#serviceHealth[Symbol.asyncDispose](),
        this.#server?.[Symbol.asyncDispose](),
        this.#recorder[Symbol.asyncDispose](),
      ]);
    })();
    return this.#stopped;
  }

  async cleanup(): Promise<void> {
    await this.#stop();
    await removeServiceProxyTraces(this.#options);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stop();
  }
}

/** A frontend as people write it: 203.0.113.1 port 80/TCP. */
function placeOf({ address, port, protocol }: Collision['frontend']): string {
  return `${address === '' ? 'node port' : `${address} port`} ${port}/${protocol.toUpperCase()}`;
}

/** Starts the service proxy; resolves when the rules for all services are in place. What an earlier run left is taken over. */
export async function startServiceProxy(options: ServiceProxyOptions): Promise<ServiceProxy> {
  const proxy = new NftablesProxy(options);
  try {
    await proxy.ready;
  } catch (error) {
    await proxy[Symbol.asyncDispose]();
    throw error;
  }
  return proxy;
}
