// The Node object: registers it, and keeps its status true. The status is sent when something in it changes and every
// five minutes otherwise; the heartbeat proper is the lease. Reasons and messages are upstream's (nodestatus/setters.go).

import { isAlreadyExists, isNotFound, quantityToNumber, timestamp } from '../api/index.ts';
import type { ContainerImage, Node, NodeCondition, NodeStatus } from '../api/types/core-v1.ts';
import { type Client, delay, resources } from '../client/index.ts';
import type { Clock, Logger } from '../component/index.ts';
import type { ImageService, RuntimeService, RuntimeStatus } from '../runtime/cri.ts';
import type { NodeEvents } from './events.ts';
import type { MachineInfo } from './host/host.ts';
import { KUBELET_VERSION } from './options.ts';
import { amount, type ResourceList } from './resources.ts';
import { messageOf } from './text.ts';

const REPORT_MS = 300_000;
const RETRY_MS = 200;
const LONGEST_RETRY_MS = 7_000;
/** While the runtime is not ready it is asked this often (the contract has no event for it). */
const UNREADY_POLL_MS = 100;
const READY_POLL_MS = 10_000;
const MAX_IMAGES = 50;

export interface Pressure {
  readonly memory: boolean;
  readonly disk: boolean;
  readonly pid: boolean;
}

export interface NodeStatusOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: NodeEvents;
  readonly nodeName: string;
  readonly nodeIPs: readonly string[];
  readonly machine: MachineInfo;
  readonly runtime: RuntimeService;
  readonly images: ImageService;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly {
    readonly key: string;
    readonly value?: string;
    readonly effect: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
  }[];
  readonly providerId: string | undefined;
  readonly maxPods: number;
  readonly reserved: readonly ResourceList[];
  readonly evictionHard: Readonly<Record<string, string>>;
  /** The server's port, when there is a server. */
  readonly port: () => number | undefined;
}

/** Bytes of a threshold that is a quantity or a percentage of `capacity`. */
export function thresholdBytes(threshold: string | undefined, capacity: number): number {
  if (threshold === undefined) return 0;
  if (threshold.endsWith('%')) return Math.floor((capacity * Number(threshold.slice(0, -1))) / 100);
  return quantityToNumber(threshold);
}

export function nodeCapacity(machine: MachineInfo, maxPods: number): Record<string, string> {
  return {
    cpu: String(machine.cpus),
    'ephemeral-storage': `${Math.floor(machine.storageBytes / 1024)}Ki`,
    ...Object.fromEntries(
      Object.entries(machine.hugePages).map(([size, bytes]) => [
        `hugepages-${size}`,
        bytes === 0 ? '0' : `${bytes / 1024}Ki`,
      ]),
    ),
    memory: `${Math.floor(machine.memoryBytes / 1024)}Ki`,
    pods: String(maxPods),
  };
}

/** Capacity less what is reserved and less what the eviction thresholds keep free. */
export function nodeAllocatable(
  machine: MachineInfo,
  maxPods: number,
  reserved: readonly ResourceList[],
  evictionHard: Readonly<Record<string, string>>,
): Record<string, string> {
  const held = (name: string): number => reserved.reduce((sum, list) => sum + amount(name, list[name]), 0);
  const hugePages = Object.values(machine.hugePages).reduce((sum, bytes) => sum + bytes, 0);
  const memory =
    machine.memoryBytes -
    held('memory') -
    thresholdBytes(evictionHard['memory.available'], machine.memoryBytes) -
    hugePages;
  const storage =
    machine.storageBytes -
    held('ephemeral-storage') -
    thresholdBytes(evictionHard['nodefs.available'], machine.storageBytes);
  const milliCpu = Math.max(0, machine.cpus * 1000 - held('cpu'));
  return {
    ...nodeCapacity(machine, maxPods),
    cpu: milliCpu % 1000 === 0 ? String(milliCpu / 1000) : `${milliCpu}m`,
    'ephemeral-storage': String(Math.max(0, storage)),
    memory: `${Math.max(0, Math.floor(memory / 1024))}Ki`,
  };
}

export class NodeStatusManager {
  readonly #options: NodeStatusOptions;
  readonly #stop = new AbortController();
  readonly #registered = Promise.withResolvers<Node>();
  #isRegistered = false;
  #runtimeName = '';
  #runtimeStatus: RuntimeStatus | undefined;
  #runtimeError = '';
  #pressure: Pressure = { memory: false, disk: false, pid: false };
  #conditions: readonly NodeCondition[] = [];
  #node: Node | undefined;
  /** What was last sent, without heartbeat times. */
  #sent = '';
  #sentAt = Number.NEGATIVE_INFINITY;
  #wake: (() => void) | undefined;
  #running: Promise<void> | undefined;
  readonly #readyListeners = new Set<() => void>();

  constructor(options: NodeStatusOptions) {
    this.#options = options;
    this.#registered.promise.catch(() => {});
  }

  /** The Node as the server last gave it to this manager; see also `observe`. */
  get node(): Node | undefined {
    return this.#node;
  }

  /** Whether pods that need a network can be started. */
  get networkReady(): boolean {
    return this.#runtimeStatus?.networkReady === true;
  }

  /** Says why the network is not ready; '' when it is. */
  get networkProblem(): string {
    if (!this.#runtimeStatus)
      return this.#runtimeError || 'container runtime status check may not have completed yet';
    if (this.#runtimeStatus.networkReady) return '';
    return `container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:${this.#runtimeStatus.message ?? ''}`;
  }

  /** Resolves with the Node once it is registered. */
  get registered(): Promise<Node> {
    return this.#registered.promise;
  }

  start(): void {
    this.#running = Promise.all([this.#followRuntime(), this.#report()]).then(() => {});
  }

  /** Calls back whenever the runtime's network becomes ready. */
  onNetworkReady(listener: () => void): void {
    this.#readyListeners.add(listener);
  }

  /** Takes in the Node as an informer saw it; registers it again when somebody deleted it. */
  observe(node: Node | undefined): void {
    if (node) this.#node = node;
    else {
      this.#node = undefined;
      this.#sent = '';
      this.changed();
    }
  }

  get pressure(): Pressure {
    return this.#pressure;
  }

  setPressure(pressure: Pressure): void {
    this.#pressure = pressure;
    this.changed();
  }

  /** Something that the status tells of may have changed: images, the runtime. */
  changed(): void {
    this.#wake?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the node agent stops'));
    this.#registered.reject(new Error('the node agent stopped before its node was registered'));
    this.#wake?.();
    await this.#running;
  }

  async #followRuntime(): Promise<void> {
    const { clock, runtime, logger } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const before = this.#runtimeStatus;
      try {
        if (this.#runtimeName === '') {
          const { runtimeName, runtimeVersion } = await runtime.version();
          this.#runtimeName = `${runtimeName}://${runtimeVersion}`;
        }
        this.#runtimeStatus = await runtime.status();
        this.#runtimeError = '';
      } catch (error) {
        if (this.#runtimeError === '') logger.error({ err: error }, 'the container runtime does not answer');
        this.#runtimeError = messageOf(error);
        this.#runtimeStatus = undefined;
      }
      const now = this.#runtimeStatus;
      if (JSON.stringify(before) !== JSON.stringify(now)) {
        this.changed();
        if (now?.networkReady && !before?.networkReady)
          for (const listener of this.#readyListeners) listener();
      }
      const isReady = now?.runtimeReady && now.networkReady;
      await delay(clock, isReady ? READY_POLL_MS : UNREADY_POLL_MS, signal).catch(() => {});
    }
  }

  async #report(): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#stop;
    let retry = RETRY_MS;
    while (!signal.aborted) {
      const changed = new Promise<void>((resolve) => (this.#wake = resolve));
      let wait = REPORT_MS;
      try {
        await this.#sendStatus();
        retry = RETRY_MS;
        wait = Math.max(0, this.#sentAt + REPORT_MS - clock.monotonic());
      } catch (error) {
        if (signal.aborted) return;
        // A node that somebody deleted is registered again.
        if (isNotFound(error)) this.#node = undefined;
        logger.warn({ err: error, retryMs: retry }, 'the node status could not be sent');
        wait = retry;
        retry = Math.min(retry * 2, LONGEST_RETRY_MS);
      }
      const waiting = new AbortController();
      const elapsed = delay(clock, wait, AbortSignal.any([signal, waiting.signal])).catch(() => {});
      await Promise.race([changed, elapsed]);
      waiting.abort();
    }
  }

  async #sendStatus(): Promise<void> {
    const { client, clock, nodeName } = this.#options;
    const { signal } = this.#stop;
    const nodes = client.resource(resources.nodes);
    const now = timestamp(clock.now());
    const status = await this.#status(now);
    const comparable = JSON.stringify({
      ...status,
      conditions: status.conditions?.map(({ lastHeartbeatTime: _, ...rest }) => rest),
    });
    // Seeing the Node that an earlier process registered is not having registered it: its labels may be others.
    if (!this.#node || !this.#isRegistered) {
      this.#node = await this.#register(status);
      this.#noticeReboot();
      this.#isRegistered = true;
      this.#registered.resolve(this.#node);
    } else if (comparable === this.#sent && clock.monotonic() - this.#sentAt < REPORT_MS) {
      return;
    }
    const patch = { status: { ...status, addresses: [...status.addresses!, { $patch: 'replace' }] } };
    const node = await nodes.patch(nodeName, { type: 'strategic', patch }, { subresource: 'status', signal });
    this.#node = node;
    this.#sent = comparable;
    this.#sentAt = clock.monotonic();
  }

  async #register(status: NodeStatus): Promise<Node> {
    const { client, nodeName, labels, machine, taints, providerId, logger } = this.#options;
    const { signal } = this.#stop;
    const nodes = client.resource(resources.nodes);
    const own = {
      'beta.kubernetes.io/arch': machine.architecture,
      'beta.kubernetes.io/os': machine.operatingSystem,
      'kubernetes.io/arch': machine.architecture,
      'kubernetes.io/hostname': nodeName,
      'kubernetes.io/os': machine.operatingSystem,
      ...labels,
    };
    const annotations = { 'volumes.kubernetes.io/controller-managed-attach-detach': 'true' };
    try {
      const node = await nodes.create(
        {
          metadata: { name: nodeName, labels: own, annotations },
          spec: {
            ...(taints.length > 0 && { taints: taints.map((taint) => ({ ...taint })) }),
            ...(providerId !== undefined && { providerID: providerId }),
          },
          status,
        },
        { signal },
      );
      logger.info({ node: nodeName }, 'the node is registered');
      return node;
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
    const existing = await nodes.get(nodeName, { signal });
    const current = existing.metadata.labels ?? {};
    if (Object.entries(own).every(([key, value]) => current[key] === value)) return existing;
    return nodes.patch(
      nodeName,
      { type: 'strategic', patch: { metadata: { labels: own, annotations } } },
      { signal },
    );
  }

  async #status(now: string): Promise<NodeStatus> {
    const { machine, maxPods, reserved, evictionHard, nodeIPs, nodeName, images } = this.#options;
    const listed = await images.listImages();
    const largest = listed
      .toSorted((a, b) => b.size - a.size)
      .slice(0, MAX_IMAGES)
      .map(({ repoDigests, repoTags, size }): ContainerImage => {
        return { names: [...repoDigests, ...repoTags].slice(0, 5), sizeBytes: size };
      });
    return {
      addresses: [
        ...nodeIPs.map((address) => ({ type: 'InternalIP', address })),
        { type: 'Hostname', address: nodeName },
      ],
      capacity: nodeCapacity(machine, maxPods),
      allocatable: nodeAllocatable(machine, maxPods, reserved, evictionHard),
      conditions: this.#computeConditions(now),
      daemonEndpoints: { kubeletEndpoint: { Port: this.#options.port() ?? 0 } },
      nodeInfo: {
        machineID: machine.machineId,
        systemUUID: machine.systemUuid,
        bootID: machine.bootId,
        kernelVersion: machine.kernelVersion,
        osImage: machine.osImage,
        containerRuntimeVersion: this.#runtimeName,
        kubeletVersion: KUBELET_VERSION,
        kubeProxyVersion: '',
        operatingSystem: machine.operatingSystem,
        architecture: machine.architecture,
        ...(machine.swapBytes > 0 && { swap: { capacity: machine.swapBytes } }),
      },
      images: largest,
      ...(this.#runtimeStatus && {
        runtimeHandlers: this.#runtimeStatus.handlers.map((name) => ({
          name,
          features: { recursiveReadOnlyMounts: false, userNamespaces: false },
        })),
        features: { supplementalGroupsPolicy: true },
      }),
    };
  }

  #computeConditions(now: string): NodeCondition[] {
    const { memory, disk, pid } = this.#pressure;
    const problems = this.#problems();
    const verdicts: (readonly [type: string, status: string, reason: string, message: string])[] = [
      memory
        ? [
            'MemoryPressure',
            'True',
            'KubeletHasInsufficientMemory',
            'kubelet has insufficient memory available',
          ]
        : [
            'MemoryPressure',
            'False',
            'KubeletHasSufficientMemory',
            'kubelet has sufficient memory available',
          ],
      disk
        ? ['DiskPressure', 'True', 'KubeletHasDiskPressure', 'kubelet has disk pressure']
        : ['DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'],
      pid
        ? ['PIDPressure', 'True', 'KubeletHasInsufficientPID', 'kubelet has insufficient PID available']
        : ['PIDPressure', 'False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'],
      problems.length > 0
        ? [
            'Ready',
            'False',
            'KubeletNotReady',
            problems.length > 1 ? `[${problems.join(', ')}]` : problems[0]!,
          ]
        : ['Ready', 'True', 'KubeletReady', 'kubelet is posting ready status'],
    ];
    const known = this.#node?.status?.conditions ?? this.#conditions;
    const conditions = verdicts.map(([type, status, reason, message]): NodeCondition => {
      const old = known.find((condition) => condition.type === type);
      const lastTransitionTime = (old?.status === status && old.lastTransitionTime) || now;
      if (old?.status !== status) this.#announce(type, status);
      return { type, status, lastHeartbeatTime: now, lastTransitionTime, reason, message };
    });
    this.#conditions = conditions;
    return conditions;
  }

  #problems(): string[] {
    if (!this.#runtimeStatus)
      return [
        this.#runtimeError
          ? `container runtime is down: ${this.#runtimeError}`
          : 'container runtime status check may not have completed yet',
      ];
    const problems: string[] = [];
    const { runtimeReady, message = '' } = this.#runtimeStatus;
    if (!runtimeReady)
      problems.push(
        `container runtime not ready: RuntimeReady=false reason:RuntimeNotReady message:${message}`,
      );
    if (this.networkProblem !== '') problems.push(this.networkProblem);
    return problems;
  }

  /** Tells that the machine was started anew since its node was last seen. */
  #noticeReboot(): void {
    const { events, machine, nodeName } = this.#options;
    const before = this.#node?.status?.nodeInfo?.bootID;
    if (!before || before === machine.bootId || this.#sent !== '') return;
    events.node('Warning', 'Rebooted', `Node ${nodeName} has been rebooted, boot id: ${machine.bootId}`);
  }

  #announce(type: string, status: string): void {
    const name = {
      MemoryPressure: status === 'True' ? 'NodeHasInsufficientMemory' : 'NodeHasSufficientMemory',
      DiskPressure: status === 'True' ? 'NodeHasDiskPressure' : 'NodeHasNoDiskPressure',
      PIDPressure: status === 'True' ? 'NodeHasInsufficientPID' : 'NodeHasSufficientPID',
      Ready: status === 'True' ? 'NodeReady' : 'NodeNotReady',
    }[type];
    if (name === undefined) return;
    // A node that has not been ready yet is no news.
    if (name === 'NodeNotReady' && this.#node === undefined) return;
    this.#options.events.node('Normal', name, `Node ${this.#options.nodeName} status is now: ${name}`);
  }
}
