// Pods without containers: implements the CRI contract in memory. Sandboxes are ready and containers run as soon as
// they are asked for, hold an address out of a range, and end when the control methods or the pod's annotations
// (annotations.ts) say so. What would need a process (exec, attach, logs, port-forward) is refused by name.
// Works on any system, without root and without a disk; time passes only on the clock that was given.

import { randomBytes } from 'node:crypto';
import { type Clock, systemClock, type Timer } from '../../component/index.ts';
import {
  type Container,
  type ContainerConfig,
  type ContainerEvent,
  type ContainerState,
  type ContainerStats,
  type ContainerStatus,
  type ExecSyncResult,
  type LinuxResources,
  type PodSandbox,
  type PodSandboxConfig,
  type PodSandboxState,
  type PodSandboxStatus,
  RuntimeError,
  type RuntimeService,
  type RuntimeStatus,
  type StreamSession,
} from '../cri.ts';
import { AddressPool } from './addresses.ts';
import { type Behaviour, behaviourOf, checkAnnotations } from './annotations.ts';
import { SimulatedImages } from './images.ts';

export const SIMULATED_RUNTIME_NAME = 'simulated';
const RUNTIME_VERSION = '1.0.0';

/** The annotation by which the node agent tells a runtime what a container is to its pod: init, sidecar, … */
const CONTAINER_KIND = 'kubelet.bulkhead.dev/container-kind';
const POD_UID = 'io.kubernetes.pod.uid';

/** Names a container of the simulation: by its id, or by its pod and name (the newest one of that name). */
export type ContainerTarget = string | { readonly podUid: string; readonly container: string };

export interface SimulatedRuntimeOptions {
  readonly clock?: Clock;
  /** Gives `size` random bytes for ids; crypto's by default. */
  readonly random?: (size: number) => Uint8Array;
  /** Where pod addresses come from until updateRuntimeConfig says otherwise. */
  readonly podCidrs?: readonly string[];
  /** RuntimeClass handlers that are accepted beside the default one. */
  readonly handlers?: readonly string[];
}

interface SandboxRecord {
  readonly id: string;
  readonly config: PodSandboxConfig;
  readonly handler: string;
  readonly createdAt: number;
  readonly ips: readonly string[];
  state: PodSandboxState;
  readonly containers: Set<string>;
}

interface ContainerRecord {
  readonly id: string;
  readonly sandbox: SandboxRecord;
  readonly config: ContainerConfig;
  readonly imageId: string;
  readonly behaviour: Behaviour;
  readonly createdAt: number;
  state: ContainerState;
  startedAt: number;
  finishedAt: number;
  exitCode: number;
  reason: string;
  message: string;
  resources: LinuxResources;
  usage: { cores: number; memoryBytes: number; since: number; coreNanoseconds: number };
  timers: Set<Timer>;
  /** Woken when the container has ended. */
  readonly ended: Set<() => void>;
}

function unimplemented(what: string): RuntimeError {
  return new RuntimeError(
    'Unimplemented',
    `${what} is not possible in a simulated container: it has no process (use a node with a real runtime)`,
  );
}

export class SimulatedRuntime extends SimulatedImages implements RuntimeService {
  readonly #clock: Clock;
  readonly #random: (size: number) => Uint8Array;
  readonly #handlers: readonly string[];
  #addresses: AddressPool;
  #cidrs: readonly string[];
  readonly #sandboxes = new Map<string, SandboxRecord>();
  readonly #sandboxesByPod = new Map<string, Set<SandboxRecord>>();
  readonly #containers = new Map<string, ContainerRecord>();
  readonly #listeners = new Set<(event: ContainerEvent) => void>();

  constructor(options: SimulatedRuntimeOptions = {}) {
    super();
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? ((size) => randomBytes(size));
    this.#handlers = ['', ...(options.handlers ?? [])];
    this.#cidrs = options.podCidrs ?? ['10.88.0.0/16'];
    this.#addresses = new AddressPool(this.#cidrs);
  }

  // ---- control: what a test does to the simulation --------------------------------------------------------------

  /**
   * Ends a running container with `exitCode`. Throws RuntimeError NotFound when there is none of that name, and
   * FailedPrecondition when it does not run.
   */
  exit(
    target: ContainerTarget,
    exitCode: number,
    options: { readonly reason?: string; readonly message?: string } = {},
  ): void {
    const container = this.#find(target);
    if (container.state !== 'RUNNING')
      throw new RuntimeError(
        'FailedPrecondition',
        `container ${container.config.metadata.name} (${container.id}) is ${container.state}, not RUNNING`,
      );
    this.#end(container, exitCode, options.reason, options.message);
  }

  /** Sets what the container consumes from now on: cores, and bytes of memory. Shows in its statistics. */
  setUsage(target: ContainerTarget, usage: { readonly cores?: number; readonly memoryBytes?: number }): void {
    const container = this.#find(target);
    const now = this.#clock.now();
    container.usage = {
      coreNanoseconds: this.#coreNanoseconds(container, now),
      since: now,
      cores: usage.cores ?? container.usage.cores,
      memoryBytes: usage.memoryBytes ?? container.usage.memoryBytes,
    };
  }

  /** Whether the container has run for as long as its ready-delay asks. */
  isReady(containerId: string): boolean {
    const container = this.#containers.get(containerId);
    return (
      container?.state === 'RUNNING' &&
      this.#clock.now() - container.startedAt >= container.behaviour.readyDelay
    );
  }

  // ---- runtime ---------------------------------------------------------------------------------------------------

  async version(): Promise<{ runtimeName: string; runtimeVersion: string }> {
    return { runtimeName: SIMULATED_RUNTIME_NAME, runtimeVersion: RUNTIME_VERSION };
  }

  async status(): Promise<RuntimeStatus> {
    return { runtimeReady: true, networkReady: true, handlers: this.#handlers };
  }

  async updateRuntimeConfig(config: { readonly podCidrs: readonly string[] }): Promise<void> {
    if (config.podCidrs.length === 0 || config.podCidrs.join() === this.#cidrs.join()) return;
    this.#addresses = new AddressPool(config.podCidrs);
    this.#cidrs = config.podCidrs;
  }

  onEvent(handler: (event: ContainerEvent) => void): () => void {
    this.#listeners.add(handler);
    return () => this.#listeners.delete(handler);
  }

  // ---- sandboxes -------------------------------------------------------------------------------------------------

  async runPodSandbox(config: PodSandboxConfig, runtimeHandler: string): Promise<string> {
    if (!this.#handlers.includes(runtimeHandler))
      throw new RuntimeError('NotFound', `no runtime for ${JSON.stringify(runtimeHandler)} is configured`);
    checkAnnotations(config.annotations);
    const ips = config.namespaces.network === 'NODE' ? [] : this.#addresses.allocate();
    if (ips === undefined)
      throw new RuntimeError('Unavailable', `no pod address is left in ${this.#cidrs.join(', ')}`);
    const sandbox: SandboxRecord = {
      id: this.#newId(),
      config,
      handler: runtimeHandler,
      createdAt: this.#clock.now(),
      ips,
      state: 'READY',
      containers: new Set(),
    };
    this.#sandboxes.set(sandbox.id, sandbox);
    const ofPod = this.#sandboxesByPod.get(config.metadata.uid) ?? new Set();
    this.#sandboxesByPod.set(config.metadata.uid, ofPod.add(sandbox));
    this.#emit({ type: 'SANDBOX_CREATED', podSandboxId: sandbox.id, podUid: config.metadata.uid });
    return sandbox.id;
  }

  async stopPodSandbox(id: string): Promise<void> {
    const sandbox = this.#sandboxes.get(id);
    if (!sandbox || sandbox.state === 'NOTREADY') return;
    for (const containerId of sandbox.containers) {
      const container = this.#containers.get(containerId)!;
      if (container.state === 'RUNNING') this.#end(container, 137);
    }
    sandbox.state = 'NOTREADY';
    this.#addresses.release(sandbox.ips);
    this.#emit({ type: 'SANDBOX_STOPPED', podSandboxId: id, podUid: sandbox.config.metadata.uid });
  }

  async removePodSandbox(id: string): Promise<void> {
    const sandbox = this.#sandboxes.get(id);
    if (!sandbox) return;
    await this.stopPodSandbox(id);
    for (const containerId of [...sandbox.containers]) await this.removeContainer(containerId);
    this.#sandboxes.delete(id);
    const ofPod = this.#sandboxesByPod.get(sandbox.config.metadata.uid);
    ofPod?.delete(sandbox);
    if (ofPod?.size === 0) this.#sandboxesByPod.delete(sandbox.config.metadata.uid);
    this.#emit({ type: 'SANDBOX_DELETED', podSandboxId: id, podUid: sandbox.config.metadata.uid });
  }

  async podSandboxStatus(id: string): Promise<PodSandboxStatus> {
    const sandbox = this.#sandbox(id);
    return {
      ...this.#describeSandbox(sandbox),
      ips: sandbox.ips,
      namespaces: sandbox.config.namespaces,
    };
  }

  async listPodSandboxes(
    filter: { readonly id?: string; readonly podUid?: string; readonly state?: PodSandboxState } = {},
  ): Promise<PodSandbox[]> {
    const candidates =
      filter.podUid === undefined
        ? this.#sandboxes.values()
        : (this.#sandboxesByPod.get(filter.podUid) ?? []);
    const found: PodSandbox[] = [];
    for (const sandbox of candidates) {
      if (filter.id !== undefined && filter.id !== sandbox.id) continue;
      if (filter.state !== undefined && filter.state !== sandbox.state) continue;
      found.push(this.#describeSandbox(sandbox));
    }
    return found;
  }

  // ---- containers ------------------------------------------------------------------------------------------------

  async createContainer(podSandboxId: string, config: ContainerConfig): Promise<string> {
    const sandbox = this.#sandbox(podSandboxId);
    if (sandbox.state !== 'READY')
      throw new RuntimeError('FailedPrecondition', `pod sandbox ${podSandboxId} is not ready`);
    const image = await this.imageStatus(config.image);
    if (!image) throw new RuntimeError('NotFound', `image ${config.image} is not present`);
    for (const id of sandbox.containers) {
      const other = this.#containers.get(id)!.config.metadata;
      if (other.name === config.metadata.name && other.attempt === config.metadata.attempt)
        throw new RuntimeError(
          'AlreadyExists',
          `container ${other.name}, attempt ${other.attempt}, exists in sandbox ${podSandboxId} as ${id}`,
        );
    }
    const now = this.#clock.now();
    const isInit = config.annotations[CONTAINER_KIND] === 'init';
    const container: ContainerRecord = {
      id: this.#newId(),
      sandbox,
      config,
      imageId: image.repoDigests[0] ?? image.id,
      behaviour: behaviourOf(sandbox.config.annotations, config.metadata.name, isInit),
      createdAt: now,
      state: 'CREATED',
      startedAt: 0,
      finishedAt: 0,
      exitCode: 0,
      reason: '',
      message: '',
      resources: config.resources,
      usage: { cores: 0, memoryBytes: 0, since: now, coreNanoseconds: 0 },
      timers: new Set(),
      ended: new Set(),
    };
    this.#containers.set(container.id, container);
    sandbox.containers.add(container.id);
    this.#emitFor(container, 'CONTAINER_CREATED');
    return container.id;
  }

  async startContainer(id: string): Promise<void> {
    const container = this.#container(id);
    if (container.state !== 'CREATED')
      throw new RuntimeError('FailedPrecondition', `container ${id} is ${container.state}, not CREATED`);
    const { startDelay, exitAfter, exitCode, exitMessage } = container.behaviour;
    if (startDelay > 0) await this.#wait(container, startDelay);
    if (this.#containers.get(id) !== container || container.state !== 'CREATED')
      throw new RuntimeError('FailedPrecondition', `container ${id} was removed while it started`);
    container.state = 'RUNNING';
    container.startedAt = this.#clock.now();
    container.usage = { ...container.usage, since: container.startedAt, coreNanoseconds: 0 };
    this.#emitFor(container, 'CONTAINER_STARTED');
    if (exitAfter !== undefined)
      this.#after(container, exitAfter, () => this.#end(container, exitCode, undefined, exitMessage));
  }

  async stopContainer(id: string, timeoutSeconds: number): Promise<void> {
    const container = this.#containers.get(id);
    if (container?.state !== 'RUNNING') return;
    const { stopDelay, stopCode } = container.behaviour;
    const grace = Math.max(0, timeoutSeconds) * 1000;
    if (stopDelay === 0 && grace > 0) return this.#end(container, stopCode);
    if (grace === 0) return this.#end(container, 137);
    const killed = stopDelay > grace;
    const ended = new Promise<void>((resolve) => container.ended.add(resolve));
    this.#after(container, killed ? grace : stopDelay, () => this.#end(container, killed ? 137 : stopCode));
    return ended;
  }

  async removeContainer(id: string): Promise<void> {
    const container = this.#containers.get(id);
    if (!container) return;
    if (container.state === 'RUNNING') this.#end(container, 137);
    for (const timer of container.timers) timer.cancel();
    this.#containers.delete(id);
    container.sandbox.containers.delete(id);
    for (const wake of container.ended) wake();
    this.#emitFor(container, 'CONTAINER_DELETED');
  }

  async listContainers(
    filter: { readonly id?: string; readonly podSandboxId?: string; readonly state?: ContainerState } = {},
  ): Promise<Container[]> {
    const ids =
      filter.podSandboxId === undefined
        ? this.#containers.keys()
        : (this.#sandboxes.get(filter.podSandboxId)?.containers ?? []);
    const found: Container[] = [];
    for (const id of ids) {
      const container = this.#containers.get(id)!;
      if (filter.id !== undefined && filter.id !== id) continue;
      if (filter.state !== undefined && filter.state !== container.state) continue;
      found.push(this.#describeContainer(container));
    }
    return found;
  }

  async containerStatus(id: string): Promise<ContainerStatus> {
    const container = this.#container(id);
    return {
      ...this.#describeContainer(container),
      startedAt: container.startedAt,
      finishedAt: container.finishedAt,
      exitCode: container.exitCode,
      reason: container.reason,
      message: container.message,
      mounts: container.config.mounts,
      logPath: '',
      resources: container.resources,
      pid: 0,
      ...(container.config.stopSignal !== undefined && { stopSignal: container.config.stopSignal }),
    };
  }

  async updateContainerResources(id: string, resources: LinuxResources): Promise<void> {
    const container = this.#container(id);
    container.resources = { ...container.resources, ...resources };
  }

  async reopenContainerLog(id: string): Promise<void> {
    this.#container(id);
    throw unimplemented('reopening the log');
  }

  async containerStats(id: string): Promise<ContainerStats> {
    return this.#stats(this.#container(id));
  }

  async listContainerStats(): Promise<ContainerStats[]> {
    return [...this.#containers.values()].filter((c) => c.state === 'RUNNING').map((c) => this.#stats(c));
  }

  // ---- what needs a process --------------------------------------------------------------------------------------

  async execSync(id: string): Promise<ExecSyncResult> {
    this.#container(id);
    throw unimplemented('exec');
  }

  async exec(id: string): Promise<StreamSession> {
    this.#container(id);
    throw unimplemented('exec');
  }

  async attach(id: string): Promise<StreamSession> {
    this.#container(id);
    throw unimplemented('attach');
  }

  async portForward(
    podSandboxId: string,
  ): Promise<NodeJS.ReadWriteStream & { destroy(error?: Error): void }> {
    this.#sandbox(podSandboxId);
    throw unimplemented('port-forward');
  }

  /** Ends everything without events; timers stop. */
  close(): void {
    this.#listeners.clear();
    for (const container of this.#containers.values()) {
      for (const timer of container.timers) timer.cancel();
      for (const wake of container.ended) wake();
    }
    this.#containers.clear();
    this.#sandboxes.clear();
    this.#sandboxesByPod.clear();
  }

  // ---- within ----------------------------------------------------------------------------------------------------

  #newId(): string {
    return Buffer.from(this.#random(32)).toString('hex');
  }

  #sandbox(id: string): SandboxRecord {
    const sandbox = this.#sandboxes.get(id);
    if (!sandbox) throw new RuntimeError('NotFound', `pod sandbox ${JSON.stringify(id)} does not exist`);
    return sandbox;
  }

  #container(id: string): ContainerRecord {
    const container = this.#containers.get(id);
    if (!container) throw new RuntimeError('NotFound', `container ${JSON.stringify(id)} does not exist`);
    return container;
  }

  #find(target: ContainerTarget): ContainerRecord {
    if (typeof target === 'string') return this.#container(target);
    let newest: ContainerRecord | undefined;
    for (const sandbox of this.#sandboxesByPod.get(target.podUid) ?? []) {
      for (const id of sandbox.containers) {
        const container = this.#containers.get(id)!;
        if (container.config.metadata.name !== target.container) continue;
        if (!newest || container.config.metadata.attempt >= newest.config.metadata.attempt)
          newest = container;
      }
    }
    if (!newest)
      throw new RuntimeError(
        'NotFound',
        `pod ${target.podUid} has no container ${JSON.stringify(target.container)}`,
      );
    return newest;
  }

  #describeSandbox(sandbox: SandboxRecord): PodSandbox {
    const { metadata, labels, annotations } = sandbox.config;
    const { id, state, createdAt, handler } = sandbox;
    return { id, metadata, state, createdAt, labels, annotations, runtimeHandler: handler };
  }

  #describeContainer(container: ContainerRecord): Container {
    const { metadata, labels, annotations, imageReference } = container.config;
    return {
      id: container.id,
      podSandboxId: container.sandbox.id,
      metadata,
      image: imageReference,
      imageId: container.imageId,
      state: container.state,
      createdAt: container.createdAt,
      labels,
      annotations,
    };
  }

  #coreNanoseconds(container: ContainerRecord, now: number): number {
    const until = container.state === 'RUNNING' ? now : Math.max(container.usage.since, container.finishedAt);
    return container.usage.coreNanoseconds + container.usage.cores * (until - container.usage.since) * 1e6;
  }

  #stats(container: ContainerRecord): ContainerStats {
    const now = this.#clock.now();
    const { memoryBytes } = container.usage;
    return {
      id: container.id,
      metadata: container.config.metadata,
      podSandboxId: container.sandbox.id,
      timestamp: now,
      cpu: { usageCoreNanoSeconds: Math.round(this.#coreNanoseconds(container, now)) },
      memory: { workingSetBytes: memoryBytes, rssBytes: memoryBytes, usageBytes: memoryBytes },
      writableLayer: { usedBytes: 0, inodesUsed: 0 },
    };
  }

  #end(container: ContainerRecord, exitCode: number, reason?: string, message = ''): void {
    if (container.state !== 'RUNNING') return;
    for (const timer of container.timers) timer.cancel();
    container.timers.clear();
    container.finishedAt = this.#clock.now();
    container.state = 'EXITED';
    container.exitCode = exitCode;
    container.reason = reason ?? (exitCode === 0 ? 'Completed' : 'Error');
    container.message = message;
    this.#emitFor(container, 'CONTAINER_STOPPED');
    for (const wake of container.ended) wake();
    container.ended.clear();
  }

  #after(container: ContainerRecord, delay: number, callback: () => void): void {
    const timer = this.#clock.setTimer(delay, () => {
      container.timers.delete(timer);
      callback();
    });
    container.timers.add(timer);
  }

  /** Resolves after `delay`, or earlier when the container is removed. */
  async #wait(container: ContainerRecord, delay: number): Promise<void> {
    await new Promise<void>((resolve) => {
      container.ended.add(resolve);
      this.#after(container, delay, () => {
        container.ended.delete(resolve);
        resolve();
      });
    });
  }

  #emitFor(
    container: ContainerRecord,
    type: 'CONTAINER_CREATED' | 'CONTAINER_STARTED' | 'CONTAINER_STOPPED' | 'CONTAINER_DELETED',
  ): void {
    const podUid = container.config.labels[POD_UID] ?? container.sandbox.config.metadata.uid;
    this.#emit({ type, containerId: container.id, podSandboxId: container.sandbox.id, podUid });
  }

  #emit(event: ContainerEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}
