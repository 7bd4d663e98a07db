// The scheduler: takes pods without a node from the queue, decides one at a time against the cache, and writes the
// binding. The decision is synchronous; bindings go out concurrently behind it. A pod that fits nowhere gets its
// PodScheduled condition and a FailedScheduling event, and waits until an event in the cluster could help it.

import { withCondition } from '../api/meta.ts';
import { isPodTerminal } from '../api/node-selection.ts';
import type {
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodCondition,
} from '../api/types/core-v1.ts';
import type { CSINode, CSIStorageCapacity, StorageClass } from '../api/types/storage-v1.ts';
import {
  type Client,
  createEventRecorder,
  type EventRecorder,
  referenceTo,
  resources,
} from '../client/index.ts';
import {
  type Clock,
  type Logger,
  type Running,
  type StartOptions,
  silentLogger,
  systemClock,
} from '../component/index.ts';
import { Algorithm, type Decision } from './algorithm.ts';
import { SchedulerCache } from './cache.ts';
import type { ClusterEvent, WeightedPlugin } from './framework.ts';
import { defaultPlugins } from './plugins/index.ts';
import { type QueuedPod, SchedulingQueue } from './queue.ts';
import { VolumeBinder } from './volumes/volume-binder.ts';
import { type VolumeInformers, VolumeState, volumeInformers } from './volumes/volume-state.ts';

export interface SchedulerOptions extends StartOptions {
  readonly client: Client;
  /** Pods whose spec.schedulerName is this one are ours. */
  readonly schedulerName?: string;
  /** Changes the default plugins: adds some, leaves some out. */
  readonly plugins?: (defaults: readonly WeightedPlugin[]) => readonly WeightedPlugin[];
  /** Uniform in [0, 1): draws among equally good nodes. */
  readonly random?: () => number;
  readonly initialBackoffMs?: number;
  readonly maxBackoffMs?: number;
  /** How long a pod's volumes may take to be bound; 600 s when absent. */
  readonly volumeBindTimeoutMs?: number;
}

/** How long one stretch of decisions may hold the event loop before others get their turn. */
const SLICE_MS = 10;

/** Starts the scheduler; `ready` resolves when its caches are filled and it places pods. */
export async function startScheduler(options: SchedulerOptions): Promise<Running> {
  const scheduler = new Scheduler(options);
  return scheduler.start();
}

class Scheduler {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #name: string;
  readonly #plugins: readonly WeightedPlugin[];
  readonly #cache = new SchedulerCache();
  readonly #queue: SchedulingQueue;
  readonly #algorithm: Algorithm;
  readonly #stop = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  readonly #events: EventRecorder;
  readonly #volumeInformers: VolumeInformers;
  readonly #volumes: VolumeState;
  /** Ends the wait of pods that were decided about for what must be done before they are bound, by uid. */
  readonly #preparing = new Map<string, AbortController>();
  #running = false;
  #scheduled = false;

  constructor(options: SchedulerOptions) {
    this.#client = options.client;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#name = options.schedulerName ?? 'default-scheduler';
    this.#volumeInformers = volumeInformers(this.#client);
    this.#volumes = new VolumeState(this.#volumeInformers.sources);
    const defaults = defaultPlugins(
      new VolumeBinder({
        state: this.#volumes,
        client: this.#client,
        clock: this.#clock,
        node: (name) => this.#cache.get(name)?.node,
        ...(options.volumeBindTimeoutMs !== undefined && { bindTimeoutMs: options.volumeBindTimeoutMs }),
      }),
    );
    this.#plugins = options.plugins?.(defaults) ?? defaults;
    this.#algorithm = new Algorithm(this.#plugins, options.random ?? Math.random);
    this.#events = createEventRecorder({
      client: this.#client,
      component: this.#name,
      clock: this.#clock,
      logger: this.#logger,
    });
    this.#queue = new SchedulingQueue({
      clock: this.#clock,
      initialBackoffMs: options.initialBackoffMs ?? 1000,
      maxBackoffMs: options.maxBackoffMs ?? 10_000,
      wake: () => this.#schedule(),
      gate: (pod) => this.#gate(pod),
    });
  }

  start(): Running {
    const nodes = this.#client.informers.informer(resources.nodes);
    const pods = this.#client.informers.informer(resources.pods);
    nodes.addHandler({
      added: (node) => this.#nodeAdded(node),
      updated: (node, old) => this.#nodeUpdated(node, old),
      deleted: (node) => {
        this.#cache.removeNode(node.metadata.name);
        this.#volumes.nodesChanged();
      },
    });
    pods.addHandler({
      added: (pod) => this.#podAdded(pod),
      updated: (pod, old) => this.#podUpdated(pod, old),
      deleted: (pod) => this.#podDeleted(pod),
    });
    this.#followVolumes();
    const ready = Promise.all([nodes.synced, pods.synced, this.#volumeInformers.synced]).then(() => {
      this.#running = true;
      this.#schedule();
    });
    ready.catch(() => {}); // whoever needs it awaits it
    return {
      ready,
      [Symbol.asyncDispose]: async () => {
        this.#running = false;
        this.#stop.abort(new Error('the scheduler stops'));
        this.#queue.clear();
        for (const preparing of this.#preparing.values()) preparing.abort(this.#stop.signal.reason);
        const informers = [nodes, pods, this.#volumeInformers];
        await Promise.all(informers.map((informer) => informer[Symbol.asyncDispose]()));
        await Promise.all(this.#underWay);
        await this.#events[Symbol.asyncDispose]();
      },
    };
  }

  // ---- what happens in the cluster

  #nodeAdded(node: Node): void {
    this.#cache.setNode(node);
    this.#happened({ type: 'NodeAdded', node });
  }

  #nodeUpdated(node: Node, old: Node): void {
    this.#cache.setNode(node);
    if (!matters(node, old)) return;
    this.#volumes.nodesChanged();
    this.#happened({ type: 'NodeUpdated', node, old });
  }

  /** What may give an unschedulable pod its volumes, or complete the binding of one that waits for it. */
  #followVolumes(): void {
    const { claims, volumes, storageClasses, csiNodes, csiDrivers, capacities } = this.#volumeInformers;
    const claimChanged = (claim: PersistentVolumeClaim, old?: PersistentVolumeClaim): void => {
      this.#volumes.claimChanged(claim);
      this.#happened({ type: 'ClaimChanged', claim, ...(old && { old }) });
    };
    claims.addHandler({
      added: (claim) => claimChanged(claim),
      updated: claimChanged,
      deleted: (claim) => this.#volumes.claimChanged(claim),
    });
    const volumeChanged = (volume: PersistentVolume, old?: PersistentVolume): void => {
      this.#volumes.volumeChanged(volume, old);
      this.#happened({ type: 'VolumeChanged', volume, ...(old && { old }) });
    };
    volumes.addHandler({
      added: (volume) => volumeChanged(volume),
      updated: volumeChanged,
      deleted: (volume) => this.#volumes.volumeChanged(volume),
    });
    const classChanged = (storageClass: StorageClass, old?: StorageClass): void =>
      this.#happened({ type: 'StorageClassChanged', storageClass, ...(old && { old }) });
    storageClasses.addHandler({ added: (one) => classChanged(one), updated: classChanged });
    const csiNodeChanged = (csiNode: CSINode, old?: CSINode): void =>
      this.#happened({ type: 'CsiNodeChanged', csiNode, ...(old && { old }) });
    csiNodes.addHandler({ added: (one) => csiNodeChanged(one), updated: csiNodeChanged });
    csiDrivers.addHandler({
      updated: (driver, old) => this.#happened({ type: 'CsiDriverChanged', driver, old }),
    });
    const capacityChanged = (capacity: CSIStorageCapacity, old?: CSIStorageCapacity): void =>
      this.#happened({ type: 'StorageCapacityChanged', capacity, ...(old && { old }) });
    capacities.addHandler({ added: (one) => capacityChanged(one), updated: capacityChanged });
  }

  #podAdded(pod: Pod): void {
    if (isPodTerminal(pod)) return;
    if (pod.spec.nodeName) {
      this.#cache.setPod(pod);
      this.#happened({ type: 'AssignedPodAdded', pod });
    } else if (this.#isOurs(pod)) {
      this.#queue.add(pod);
    }
  }

  #podUpdated(pod: Pod, old: Pod): void {
    if (isPodTerminal(pod)) {
      this.#podDeleted(old);
      return;
    }
    if (pod.spec.nodeName) {
      this.#queue.remove(pod.metadata.uid);
      const wasAssumed = this.#cache.isAssumed(pod.metadata.uid);
      // Status changes are by far the most; they move nothing that placement depends on.
      if (old.spec.nodeName && !wasAssumed && old.metadata.generation === pod.metadata.generation) return;
      this.#cache.setPod(pod);
      this.#happened(
        old.spec.nodeName ? { type: 'AssignedPodUpdated', pod, old } : { type: 'AssignedPodAdded', pod },
      );
      return;
    }
    if (!this.#isOurs(pod)) return;
    if (pod.metadata.deletionTimestamp) this.#queue.remove(pod.metadata.uid);
    else if (!this.#cache.isAssumed(pod.metadata.uid)) {
      const event: ClusterEvent = { type: 'PodUpdated', pod, old };
      const specChanged = JSON.stringify(old.spec) !== JSON.stringify(pod.spec);
      const labelsChanged = JSON.stringify(old.metadata.labels) !== JSON.stringify(pod.metadata.labels);
      const rejectedBy = this.#queue.rejectedBy(pod.metadata.uid);
      this.#queue.update(pod, (specChanged || labelsChanged) && this.#mayHelp(pod, rejectedBy, event));
    }
  }

  #podDeleted(pod: Pod): void {
    this.#queue.remove(pod.metadata.uid);
    this.#preparing.get(pod.metadata.uid)?.abort(new Error('pod does not exist any more'));
    const placed = pod.spec.nodeName || this.#cache.isAssumed(pod.metadata.uid);
    this.#cache.removePod(pod.metadata.uid);
    if (placed) this.#happened({ type: 'AssignedPodDeleted', pod });
  }

  #isOurs(pod: Pod): boolean {
    return (pod.spec.schedulerName || 'default-scheduler') === this.#name && !pod.metadata.deletionTimestamp;
  }

  #happened(event: ClusterEvent): void {
    this.#queue.wakeUnschedulable((entry) => this.#mayHelp(entry.pod, entry.rejectedBy, event));
  }

  #mayHelp(pod: Pod, rejectedBy: ReadonlySet<string>, event: ClusterEvent): boolean {
    if (rejectedBy.has('NoNodes')) return event.type === 'NodeAdded';
    return this.#plugins.some(
      ({ plugin }) => rejectedBy.has(plugin.name) && plugin.mayHelp?.(pod, event) === true,
    );
  }

  #gate(pod: Pod): string | undefined {
    for (const { plugin } of this.#plugins) {
      const why = plugin.preEnqueue?.(pod);
      if (why !== undefined) return why;
    }
    return undefined;
  }

  // ---- the loop

  /** Runs the loop once the current events are through; many calls make one run. */
  #schedule(): void {
    if (this.#scheduled || !this.#running) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#run();
    });
  }

  #run(): void {
    const until = this.#clock.monotonic() + SLICE_MS;
    while (this.#running) {
      const entry = this.#queue.pop();
      if (!entry) return;
      try {
        this.#attempt(entry);
      } catch (error) {
        // A plugin's fault must not take the other pods' scheduler away, nor, in one process, the whole cluster.
        this.#cache.forget(entry.pod);
        this.#failed(entry, `running a scheduling plugin: ${messageOf(error)}`);
      }
      if (this.#clock.monotonic() >= until) {
        this.#schedule();
        return;
      }
    }
  }

  #attempt(entry: QueuedPod): void {
    const { pod } = entry;
    const decision = this.#algorithm.decide(pod, this.#cache);
    if (!decision.fits) {
      this.#queue.failed(entry, decision.rejectedBy);
      this.#track(this.#reportUnschedulable(pod, decision.message));
      return;
    }
    this.#cache.assume(pod, decision.nodeName);
    const reserved: WeightedPlugin[] = [];
    for (const weighted of this.#plugins) {
      const rejection = weighted.plugin.reserve?.(decision.state, pod, decision.nodeName);
      if (rejection) {
        this.#undo(pod, decision, reserved);
        this.#queue.failed(entry, new Set([weighted.plugin.name]));
        this.#track(this.#reportUnschedulable(pod, rejection.reasons.join(', ')));
        return;
      }
      reserved.push(weighted);
    }
    this.#track(this.#bind(entry, decision, reserved));
  }

  async #bind(
    entry: QueuedPod,
    decision: Decision & { fits: true },
    reserved: readonly WeightedPlugin[],
  ): Promise<void> {
    const { pod } = entry;
    const { state, nodeName } = decision;
    let step = 'Bind plugin "DefaultBinder"';
    try {
      for (const { plugin } of this.#plugins) {
        if (!plugin.preBind || plugin.needsPreBind?.(state, pod, nodeName) === false) continue;
        step = `PreBind plugin "${plugin.name}"`;
        await this.#prepare(pod, (signal) => plugin.preBind!(state, pod, nodeName, signal));
      }
      const binder = this.#plugins.find(({ plugin }) => plugin.bind)?.plugin;
      step = `Bind plugin "${binder?.name ?? 'DefaultBinder'}"`;
      if (binder) await binder.bind?.(state, pod, nodeName, this.#stop.signal);
      else await this.#defaultBind(pod, nodeName);
    } catch (error) {
      this.#undo(pod, decision, reserved);
      // Nobody is left to be told when the pod was deleted meanwhile.
      if (this.#stop.signal.aborted || !this.#queue.has(pod.metadata.uid)) return;
      this.#failed(entry, `running ${step}: ${messageOf(error)}`);
      return;
    }
    this.#queue.done(pod.metadata.uid);
    this.#events.event(
      referenceTo(resources.pods, pod),
      'Normal',
      'Scheduled',
      `Successfully assigned ${pod.metadata.namespace}/${pod.metadata.name} to ${nodeName}`,
    );
  }

  /** The work ends early when the pod is deleted. */
  async #prepare(pod: Pod, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { uid } = pod.metadata;
    const preparing = new AbortController();
    this.#preparing.set(uid, preparing);
    try {
      this.#stop.signal.throwIfAborted();
      await work(preparing.signal);
      preparing.signal.throwIfAborted();
    } finally {
      this.#preparing.delete(uid);
    }
  }

  /** An error, not a rejection: the pod is tried again when its back-off is over. */
  #failed(entry: QueuedPod, message: string): void {
    const { namespace, name } = entry.pod.metadata;
    this.#logger.warn(
      { pod: `${namespace}/${name}`, error: message },
      'a pod could not be placed; it is tried again',
    );
    this.#queue.failed(entry, new Set());
    this.#track(this.#reportFailure(entry.pod, 'SchedulerError', message));
  }

  async #defaultBind(pod: Pod, nodeName: string): Promise<void> {
    const { name, namespace, uid } = pod.metadata;
    await this.#client.resource(resources.pods, namespace).createSubresource(name, 'binding', {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name, namespace, uid },
      target: { kind: 'Node', name: nodeName },
    });
  }

  #undo(pod: Pod, decision: Decision & { fits: true }, reserved: readonly WeightedPlugin[]): void {
    for (const { plugin } of reserved.toReversed())
      plugin.unreserve?.(decision.state, pod, decision.nodeName);
    this.#cache.forget(pod);
    this.#happened({ type: 'AssignedPodDeleted', pod });
  }

  // ---- telling the user

  #reportUnschedulable(pod: Pod, message: string): Promise<void> {
    return this.#reportFailure(pod, 'Unschedulable', message);
  }

  async #reportFailure(pod: Pod, reason: 'Unschedulable' | 'SchedulerError', message: string): Promise<void> {
    this.#events.event(referenceTo(resources.pods, pod), 'Warning', 'FailedScheduling', message);
    const condition: PodCondition = { type: 'PodScheduled', status: 'False', reason, message };
    if (pod.metadata.generation !== undefined) condition.observedGeneration = pod.metadata.generation;
    const known = pod.status?.conditions ?? [];
    const conditions = withCondition(known, condition, this.#clock.now());
    if (conditions === known) return;
    const changed = conditions.find((c) => c.type === 'PodScheduled');
    try {
      await this.#client.resource(resources.pods, pod.metadata.namespace).patch(
        pod.metadata.name,
        {
          type: 'strategic',
          patch: { metadata: { uid: pod.metadata.uid }, status: { conditions: [changed] } },
        },
        { subresource: 'status', signal: this.#stop.signal },
      );
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      // The next attempt writes the condition again; until then the event tells.
      this.#logger.debug(
        { pod: pod.metadata.name, error: String(error) },
        'could not write the PodScheduled condition',
      );
    }
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => this.#logger.error({ err: error }, 'a step of the scheduler failed'))
      .finally(() => this.#underWay.delete(tracked));
    this.#underWay.add(tracked);
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Whether an update of a node can change where pods fit: not so the heartbeats, which are nearly all. */
function matters(node: Node, old: Node): boolean {
  return (
    node.spec.unschedulable !== old.spec.unschedulable ||
    JSON.stringify(node.spec.taints) !== JSON.stringify(old.spec.taints) ||
    JSON.stringify(node.metadata.labels) !== JSON.stringify(old.metadata.labels) ||
    JSON.stringify(node.status.allocatable) !== JSON.stringify(old.status.allocatable)
  );
}
