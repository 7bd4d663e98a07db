// Puts the node agent together: the Node and its lease, a worker for each pod that the API binds to this node, and the
// runtime's events that wake them. Everything it starts ends with it; the containers go on.

import { readFile } from 'node:fs/promises';
import type { Node, Pod } from '../api/types/core-v1.ts';
import { createEventRecorder, delay, type EventRecorder, type Informer, resources } from '../client/index.ts';
import {
  type Clock,
  type Logger,
  type Running,
  silentLogger,
  systemClock,
  type Timer,
} from '../component/index.ts';
import { admitPod } from './admission.ts';
import { allocate } from './allocation.ts';
import { type DnsSettings, resolvConfProblem } from './dns.ts';
import { NodeEvents } from './events.ts';
import { EvictionManager } from './eviction/manager.ts';
import { runtimeHooks, simulatedHooks } from './hooks.ts';
import { ImageCollector } from './images/garbage.ts';
import { ImagePuller } from './images/pull.ts';
import { ContainerKiller } from './kill.ts';
import { keepLease } from './lease.ts';
import { LogRotation } from './log-rotation.ts';
import { NodeStatusManager, nodeAllocatable } from './node-status.ts';
import { defaults, type KubeletOptions } from './options.ts';
import { OrphanCollector } from './orphans.ts';
import { PodCgroups } from './pod-cgroups.ts';
import { PodWorker, type WorkerContext } from './pod-worker.ts';
import { ProbeManager } from './probes/manager.ts';
import { networkProber } from './probes/prober.ts';
import { References } from './references.ts';
import type { ResourceList } from './resources.ts';
import { RuntimeStateCache } from './runtime-state.ts';
import { KubeletServer } from './server/server.ts';
import { StatsReader } from './server/stats.ts';
import { NodeShutdown } from './shutdown.ts';
import { StatusManager } from './status-manager.ts';
import { PodSyncer } from './sync.ts';
import { terminationMessageReader } from './termination-message.ts';
import { VolumeManager } from './volumes/manager.ts';
import { TokenManager } from './volumes/tokens.ts';

/** A started node agent. `ready` resolves when the node is registered and its pods are known. */
export interface Kubelet extends Running {
  readonly nodeName: string;
  /** Where the server listens; undefined without one. */
  readonly address: { readonly host: string; readonly port: number } | undefined;
  /**
   * Ends all pods of the node because it is stopped: preStop hooks, stop signals and grace periods as for deleted pods,
   * all within `longestMs` (and 10 s, should the runtime not answer), critical pods last. Their objects stay, not ready;
   * the next agent starts them again, this one starts nothing any more and has only to be disposed. Never rejects. A
   * second call with a shorter limit hurries the first.
   */
  stopPods(limit: { readonly longestMs: number }): Promise<void>;
}

const HOUSEKEEPING_MS = 60_000;
const RUNTIME_RETRY_MS = 500;
/** How long a stopping agent waits for what may hang because the runtime does not answer. */
const PATIENCE_MS = 10_000;

export class NodeAgent implements Kubelet {
  readonly nodeName: string;
  readonly ready: Promise<void>;
  address: { readonly host: string; readonly port: number } | undefined;
  readonly #options: KubeletOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stop = new AbortController();
  readonly #workers = new Map<string, PodWorker>();
  readonly #orphans: OrphanCollector;
  readonly #shutdown: NodeShutdown;
  readonly #recorder: EventRecorder;
  readonly #events: NodeEvents;
  /** What was last said of the host's resolv.conf. */
  #resolvConfProblem: string | undefined;
  readonly #states: RuntimeStateCache;
  readonly #statuses: StatusManager;
  readonly #references: References;
  readonly #volumes: VolumeManager;
  readonly #probes: ProbeManager;
  readonly #node: NodeStatusManager;
  readonly #killer: ContainerKiller;
  readonly #allocatable: ResourceList;
  readonly #cgroups: PodCgroups;
  readonly #evictions: EvictionManager;
  readonly #images: ImageCollector;
  readonly #logs: LogRotation;
  readonly #pods: Informer<Pod>;
  readonly #nodes: Informer<Node>;
  readonly #worker: WorkerContext;
  readonly #owned: AsyncDisposable[] = [];
  #runtimeName = '';
  #podCidrs = '';
  #unsubscribe: () => void = () => {};
  #housekeeping: Timer | undefined;
  #lease: Promise<void> | undefined;
  #server: KubeletServer | undefined;
  #disposed: Promise<void> | undefined;

  constructor(options: KubeletOptions) {
    const { client, host, runtime, nodeName } = options;
    this.#options = options;
    this.nodeName = nodeName;
    this.#clock = options.clock ?? systemClock;
    this.#logger = (options.logger ?? silentLogger).child({ component: 'kubelet', node: nodeName });
    const clock = this.#clock;
    const logger = this.#logger;
    const random = options.random ?? Math.random;
    this.#recorder = createEventRecorder({
      client,
      component: 'kubelet',
      host: nodeName,
      clock,
      logger,
      random,
    });
    this.#events = new NodeEvents(this.#recorder, nodeName);
    const events = this.#events;
    const maxPods = options.maxPods ?? defaults.maxPods;
    const reserved = [options.kubeReserved ?? {}, options.systemReserved ?? {}];
    const evictionHard = options.evictionHard ?? defaults.evictionHard;
    this.#allocatable = nodeAllocatable(host.machine, maxPods, reserved, evictionHard);
    const allocatable = this.#allocatable;
    this.#cgroups = new PodCgroups({
      cgroups: host.cgroups,
      machine: host.machine,
      root: options.cgroupRoot ?? defaults.cgroupRoot,
      reserved,
      podPidsLimit: options.podPidsLimit ?? defaults.podPidsLimit,
      logger,
    });
    this.#states = new RuntimeStateCache(runtime, terminationMessageReader(host.storage));
    this.#statuses = new StatusManager({ client, clock, logger });
    this.#references = new References(client, (uids) => this.#referencesChanged(uids));
    const tokens = new TokenManager(client, clock, random);
    this.#volumes = new VolumeManager({
      clock,
      logger,
      storage: host.storage,
      references: this.#references,
      tokens,
      allocatable,
      nodeLabels: () => this.#node.node?.metadata.labels,
      warn: (pod, reason, message) => events.pod(pod, 'Warning', reason, message),
    });
    const prober = host.prober ?? networkProber(runtime, clock);
    this.#probes = new ProbeManager({
      clock,
      logger,
      events,
      prober,
      onChange: (uid) => this.#workers.get(uid)?.notice(),
    });
    const hooks = host.prober ? simulatedHooks(clock) : runtimeHooks(runtime, clock);
    this.#killer = new ContainerKiller({
      runtime,
      clock,
      logger,
      events,
      hooks,
      signal: this.#stop.signal,
    });
    this.#orphans = new OrphanCollector({
      clock,
      logger,
      host,
      runtime,
      states: this.#states,
      volumes: this.#volumes,
      cgroups: this.#cgroups,
      killer: this.#killer,
      isKnown: (uid) => this.#workers.has(uid),
    });
    this.#shutdown = new NodeShutdown({
      clock,
      logger,
      workers: () => this.#workers.values(),
      orphans: this.#orphans,
      signal: this.#stop.signal,
    });
    this.#node = new NodeStatusManager({
      client,
      clock,
      logger,
      events,
      nodeName,
      nodeIPs: options.nodeIPs,
      machine: host.machine,
      runtime,
      images: options.images,
      labels: options.labels ?? {},
      taints: options.taints ?? [],
      providerId: options.providerId,
      maxPods,
      reserved,
      evictionHard,
      port: () => this.address?.port,
    });
    const services = options.services ?? this.#serviceInformer();
    const puller = new ImagePuller({
      images: options.images,
      clock,
      events,
      onPulled: () => this.#node.changed(),
    });
    const syncer = new PodSyncer({
      client,
      clock,
      logger,
      events,
      runtime,
      host,
      states: this.#states,
      references: this.#references,
      volumes: this.#volumes,
      puller,
      killer: this.#killer,
      hooks,
      probes: this.#probes,
      services: services.lister,
      allocatable,
      nodeIPs: options.nodeIPs,
      cgroupRoot: options.cgroupRoot ?? defaults.cgroupRoot,
      cgroups: this.#cgroups,
      dns: () => this.#dns(),
      networkProblem: () => this.#node.networkProblem,
    });
    this.#worker = {
      clock,
      logger,
      events,
      runtime,
      host,
      states: this.#states,
      statuses: this.#statuses,
      references: this.#references,
      volumes: this.#volumes,
      probes: this.#probes,
      killer: this.#killer,
      syncer,
      nodeIPs: options.nodeIPs,
      cgroups: this.#cgroups,
      runtimeName: () => this.#runtimeName,
      allocate: (pod, given) => allocate(pod, given, this.#othersOf(pod), allocatable),
      admit: (pod) => this.#admit(pod),
      onGone: (worker) => this.#gone(worker),
    };
    this.#images = new ImageCollector({
      clock,
      logger,
      events,
      host,
      images: options.images,
      runtime,
      highPercent: options.imageGcHighThresholdPercent ?? defaults.imageGcHighThresholdPercent,
      lowPercent: options.imageGcLowThresholdPercent ?? defaults.imageGcLowThresholdPercent,
      onRemoved: () => this.#node.changed(),
    });
    this.#evictions = new EvictionManager({
      clock,
      logger,
      host,
      runtime,
      states: this.#states,
      thresholds: evictionHard,
      cgroupRoot: options.cgroupRoot ?? defaults.cgroupRoot,
      pods: () =>
        [...this.#workers.values()]
          .filter((worker) => worker.active && !worker.terminating)
          .map((worker) => worker.pod),
      evict: (pod, eviction) => {
        const evicted = this.#workers.get(pod.metadata.uid)?.evict(eviction) === true;
        if (evicted) events.pod(pod, 'Warning', eviction.reason, eviction.message);
        return evicted;
      },
      setPressure: (pressure) => this.#node.setPressure(pressure),
      reclaimDisk: () => this.#images.removeUnused(),
    });
    this.#logs = new LogRotation({
      clock,
      logger,
      runtime,
      maxBytes: options.containerLogMaxBytes ?? defaults.containerLogMaxBytes,
      maxFiles: options.containerLogMaxFiles ?? defaults.containerLogMaxFiles,
    });
    this.#pods = client.informers.informer(resources.pods, { fieldSelector: { 'spec.nodeName': nodeName } });
    this.#nodes = client.informers.informer(resources.nodes, {
      fieldSelector: { 'metadata.name': nodeName },
    });
    this.#owned.push(this.#pods, this.#nodes);
    this.ready = this.#start(services.synced);
    this.ready.catch(() => {});
  }

  async stopPods({ longestMs }: { readonly longestMs: number }): Promise<void> {
    this.#housekeeping?.cancel();
    await this.#shutdown.stopPods(longestMs);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= (async () => {
      // The workers first: what the abort breaks off is then no failure to them.
      const stopWorkers = () => [...this.#workers.values()].map((worker) => worker.stop());
      const workers = stopWorkers();
      this.#stop.abort(new Error('the node agent stops'));
      // A worker may wait for a status to arrive, and the server take none for long (a full disk).
      const statuses = this.#statuses[Symbol.asyncDispose]();
      this.#unsubscribe();
      this.#housekeeping?.cancel();
      this.#probes.stop();
      await this.#patiently('its start', this.ready);
      await this.#patiently(
        'eviction, images and logs',
        Promise.all([this.#evictions.stop(), this.#images.stop(), this.#logs.stop()]),
      );
      await this.#server?.[Symbol.asyncDispose]();
      await this.#patiently('pods', Promise.all([...workers, ...stopWorkers(), this.#orphans.settled()]));
      await statuses;
      await this.#patiently('volumes', this.#volumes[Symbol.asyncDispose]());
      await this.#references[Symbol.asyncDispose]();
      await this.#patiently("the node's status", this.#node[Symbol.asyncDispose]());
      await this.#lease;
      for (const owned of this.#owned.toReversed()) await owned[Symbol.asyncDispose]();
      await this.#recorder[Symbol.asyncDispose]();
    })();
    return this.#disposed;
  }

  /** Waits for what has to end, unless it hangs in a call that nobody answers: a node must be able to stop then too. */
  async #patiently(what: string, work: Promise<unknown>): Promise<void> {
    const over = Promise.withResolvers<void>();
    const timer = this.#clock.setTimer(PATIENCE_MS, () => {
      this.#logger.error({ what }, 'the node agent stops without waiting for what does not end');
      over.resolve();
    });
    await Promise.race([work.catch(() => {}), over.promise]);
    timer.cancel();
  }

  async #start(servicesSynced: Promise<void>): Promise<void> {
    const { runtime, client, nodeName, podCidrs } = this.#options;
    const { signal } = this.#stop;
    await this.#cgroups.start();
    await this.#listen();
    this.#runtimeName = await this.#waitForRuntime();
    if (podCidrs) await this.#setPodCidrs(podCidrs);
    this.#node.start();
    this.#events.node('Normal', 'Starting', 'Starting kubelet.');
    // Whatever is wrong with resolv.conf is said at the start, and again when it changes.
    await this.#dns();
    this.#nodes.addHandler({
      added: (node) => this.#observeNode(node),
      updated: (node) => this.#observeNode(node),
      deleted: () => this.#node.observe(undefined),
    });
    this.#node.onNetworkReady(() => {
      for (const worker of this.#workers.values()) worker.wake();
    });
    const { clock } = this.#worker;
    this.#lease = keepLease({
      client,
      clock,
      logger: this.#logger,
      nodeName,
      node: () => this.#node.node,
      signal,
    });
    this.#unsubscribe = runtime.onEvent((event) => {
      this.#states.onEvent(event);
      this.#workers.get(event.podUid)?.notice();
    });
    await Promise.all([this.#pods.synced, servicesSynced]);
    signal.throwIfAborted();
    this.#pods.addHandler({
      added: (pod) => this.#podAdded(pod),
      updated: (pod) => this.#podUpdated(pod),
      deleted: (pod) => this.#podDeleted(pod),
    });
    await this.#orphans.collect();
    await this.#node.registered;
    this.#scheduleHousekeeping();
    this.#evictions.start();
    this.#images.start();
    if (this.#options.host.storage) this.#logs.start();
  }

  /** Resolves with the runtime's name as soon as it answers. */
  async #waitForRuntime(): Promise<string> {
    for (let failures = 0; ; failures++) {
      this.#stop.signal.throwIfAborted();
      try {
        return (await this.#options.runtime.version()).runtimeName;
      } catch (error) {
        if (failures === 0)
          this.#logger.error({ err: error }, 'the container runtime does not answer; it is asked again');
      }
      await delay(this.#clock, RUNTIME_RETRY_MS, this.#stop.signal);
    }
  }

  async #listen(): Promise<void> {
    const {
      server: options,
      client,
      nodeName,
      runtime,
      images,
      host,
      cgroupRoot = defaults.cgroupRoot,
    } = this.#options;
    if (!options) return;
    const clock = this.#clock;
    const states = this.#states;
    const pods = (): Pod[] => [...this.#workers.values()].map((worker) => this.#withStatus(worker.pod));
    const stats = new StatsReader({
      nodeName,
      clock,
      host,
      runtime,
      images,
      states,
      volumes: this.#volumes,
      pods,
      cgroupRoot,
      startedAt: clock.now(),
    });
    const server = new KubeletServer(
      {
        client,
        clock,
        logger: this.#logger,
        nodeName,
        runtime,
        states,
        stats,
        pods,
        findPod: (namespace, name) => this.#pods.lister.find(namespace, name),
        status: (uid) => this.#statuses.get(uid),
      },
      options,
    );
    this.#server = server;
    this.address = await server.listen(options.address, options.port);
    this.#logger.info(this.address, 'the server of the node agent listens');
  }

  #withStatus(pod: Pod): Pod {
    const status = this.#statuses.get(pod.metadata.uid);
    return status ? { ...pod, status } : pod;
  }

  // ---- pods --------------------------------------------------------------------------------------------------------

  #podAdded(pod: Pod): void {
    // The next agent begins it.
    if (this.#shutdown.begun) return;
    const worker = new PodWorker(pod, this.#worker);
    this.#workers.set(worker.uid, worker);
    worker.wake();
  }

  #podUpdated(pod: Pod): void {
    const worker = this.#workers.get(pod.metadata.uid);
    if (worker) worker.update(pod);
    else this.#podAdded(pod);
  }

  #podDeleted(pod: Pod): void {
    this.#workers.get(pod.metadata.uid)?.remove(pod);
  }

  #gone(worker: PodWorker): void {
    if (this.#workers.get(worker.uid) === worker) this.#workers.delete(worker.uid);
    for (const other of this.#workers.values()) if (other.waitsForRoom) other.retryResize();
  }

  /** The pods whose resources are taken, without this one. */
  #othersOf(pod: Pod): Pod[] {
    return [...this.#workers.values()]
      .filter((worker) => worker.active && worker.uid !== pod.metadata.uid)
      .map((worker) => worker.pod);
  }

  #admit(pod: Pod) {
    return admitPod({
      pod,
      others: this.#othersOf(pod),
      node: this.#node.node,
      allocatable: this.#allocatable,
      pressure: this.#node.pressure,
      operatingSystem: this.#options.host.machine.operatingSystem,
      allowedUnsafeSysctls: this.#options.allowedUnsafeSysctls ?? [],
    });
  }

  #referencesChanged(uids: Iterable<string>): void {
    for (const uid of uids) {
      this.#volumes.refresh(uid);
      // It may have been waiting for just this object.
      this.#workers.get(uid)?.wake();
    }
  }

  // ---- node --------------------------------------------------------------------------------------------------------

  #observeNode(node: Node): void {
    this.#node.observe(node);
    if (this.#options.podCidrs) return;
    const cidrs = node.spec.podCIDRs ?? (node.spec.podCIDR ? [node.spec.podCIDR] : []);
    if (cidrs.length > 0) void this.#setPodCidrs(cidrs);
  }

  async #setPodCidrs(cidrs: readonly string[]): Promise<void> {
    const text = cidrs.join(',');
    if (text === this.#podCidrs) return;
    this.#podCidrs = text;
    try {
      await this.#options.runtime.updateRuntimeConfig({ podCidrs: cidrs });
      this.#logger.info({ podCidrs: cidrs }, 'the runtime was told the range of pod addresses');
      this.#node.changed();
    } catch (error) {
      this.#podCidrs = '';
      this.#logger.error(
        { err: error, podCidrs: cidrs },
        'the runtime did not take the range of pod addresses',
      );
    }
  }

  async #dns(): Promise<DnsSettings> {
    const { host, clusterDNS = [], clusterDomain = defaults.clusterDomain, nodeIPs } = this.#options;
    if (!host.storage) return { clusterDNS, clusterDomain, hostResolvConf: '', nodeIPs };
    const path = host.storage.resolvConf;
    let hostResolvConf = '';
    let problem: string | undefined;
    try {
      hostResolvConf = await readFile(path, 'utf8');
      problem = resolvConfProblem(hostResolvConf, path, clusterDomain);
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    if (problem !== undefined && problem !== this.#resolvConfProblem)
      this.#events.node('Warning', 'CheckLimitsForResolvConf', problem);
    this.#resolvConfProblem = problem;
    return { clusterDNS, clusterDomain, hostResolvConf, nodeIPs };
  }

  #serviceInformer() {
    const informer = this.#options.client.informers.informer(resources.services);
    this.#owned.push(informer);
    return informer;
  }

  #scheduleHousekeeping(): void {
    if (this.#stop.signal.aborted || this.#shutdown.begun) return;
    this.#housekeeping = this.#clock.setTimer(
      HOUSEKEEPING_MS,
      () => {
        void this.#orphans
          .collect()
          .catch((error: unknown) => this.#logger.error({ err: error }, 'housekeeping failed'))
          .then(() => this.#scheduleHousekeeping());
      },
      { unref: true },
    );
  }
}
