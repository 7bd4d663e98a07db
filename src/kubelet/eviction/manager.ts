// Keeps the machine from running out of memory, disk and process ids: watches what is available, tells the node's
// conditions, frees what nobody needs, and if that is not enough ends one pod at a time, the one that deserves it most.
// Also ends pods that write more than their own limits allow.

import { formatQuantity, quantityOf, quantityToNumber, timestamp } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import type { Clock, Logger, Timer } from '../../component/index.ts';
import type { ContainerStats, RuntimeService } from '../../runtime/cri.ts';
import type { KubeletHost } from '../host/host.ts';
import type { Pressure } from '../node-status.ts';
import { podPaths, volumePath } from '../paths.ts';
import type { Eviction } from '../pod-worker.ts';
import { amount, isCriticalPod, podCgroup } from '../resources.ts';
import type { RuntimeStateCache } from '../runtime-state.ts';
import { type Candidate, type PodUsage, rank } from './ranking.ts';
import {
  isMet,
  type Observation,
  observe,
  parseThresholds,
  type Signal,
  signalTable,
  type Threshold,
  thresholdAmount,
} from './signals.ts';

/** Nothing tells when a disk fills or memory shrinks in general; upstream looks this often too. */
const PERIOD_MS = 10_000;
/** How often pods' own disk limits are checked: walking their directories costs. */
const LOCAL_PERIOD_MS = 60_000;
/** A condition stays this long after its cause, so that the scheduler does not send pods back at once. */
const TRANSITION_MS = 300_000;
const GRACE_SECONDS = 1;

export interface EvictionManagerOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly host: KubeletHost;
  readonly runtime: RuntimeService;
  readonly states: RuntimeStateCache;
  readonly thresholds: Readonly<Record<string, string>>;
  readonly cgroupRoot: string;
  /** Pods that run and are not ending. */
  readonly pods: () => readonly Pod[];
  /** False when the pod is ending already. */
  readonly evict: (pod: Pod, eviction: Eviction) => boolean;
  readonly setPressure: (pressure: Pressure) => void;
  /** Frees disk space without harming a pod: unused images. */
  readonly reclaimDisk: () => Promise<void>;
}

export class EvictionManager {
  readonly #options: EvictionManagerOptions;
  readonly #thresholds: readonly Threshold[];
  readonly #lastMet = new Map<'memory' | 'disk' | 'pid', number>();
  #pressure: Pressure = { memory: false, disk: false, pid: false };
  #lastLocal = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  #round: Promise<void> | undefined;
  #stopped = false;

  /** Throws TypeError for thresholds that cannot be read. */
  constructor(options: EvictionManagerOptions) {
    this.#options = options;
    this.#thresholds = parseThresholds(options.thresholds);
  }

  start(): void {
    this.#schedule(0);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#round;
  }

  #schedule(delay: number): void {
    if (this.#stopped) return;
    this.#timer = this.#options.clock.setTimer(
      delay,
      () => {
        this.#round = this.#look()
          .catch((error: unknown) =>
            this.#options.logger.error({ err: error }, 'the machine could not be checked for shortages'),
          )
          .finally(() => this.#schedule(PERIOD_MS));
      },
      { unref: true },
    );
  }

  async #look(): Promise<void> {
    const met = await this.#met();
    this.#updatePressure(met);
    const { clock } = this.#options;
    if (clock.monotonic() - this.#lastLocal >= LOCAL_PERIOD_MS) {
      this.#lastLocal = clock.monotonic();
      if (await this.#enforceLocalLimits()) return;
    }
    // Memory first: running out of it hurts at once.
    const first = met.toSorted(
      (a, b) =>
        Number(b.threshold.signal === 'memory.available') - Number(a.threshold.signal === 'memory.available'),
    )[0];
    if (!first) return;
    this.#options.logger.warn(
      { signal: first.threshold.signal, ...first.observation },
      'the machine runs short',
    );
    if (signalTable[first.threshold.signal].condition === 'disk') {
      await this.#options.reclaimDisk();
      if (!(await this.#met()).some(({ threshold }) => threshold.signal === first.threshold.signal)) return;
    }
    await this.#evictOne(first.threshold, first.observation);
  }

  async #met(): Promise<{ readonly threshold: Threshold; readonly observation: Observation }[]> {
    const { host } = this.#options;
    const observations = observe(await host.usage(), host.machine.memoryBytes);
    return this.#thresholds
      .map((threshold) => ({ threshold, observation: observations[threshold.signal] }))
      .filter(({ threshold, observation }) => isMet(threshold, observation));
  }

  #updatePressure(met: readonly { readonly threshold: Threshold }[]): void {
    const now = this.#options.clock.monotonic();
    for (const { threshold } of met) this.#lastMet.set(signalTable[threshold.signal].condition, now);
    const recent = (condition: 'memory' | 'disk' | 'pid'): boolean =>
      now - (this.#lastMet.get(condition) ?? Number.NEGATIVE_INFINITY) < TRANSITION_MS;
    const pressure = { memory: recent('memory'), disk: recent('disk'), pid: recent('pid') };
    const { memory, disk, pid } = this.#pressure;
    if (memory === pressure.memory && disk === pressure.disk && pid === pressure.pid) return;
    this.#pressure = pressure;
    this.#options.setPressure(pressure);
  }

  async #evictOne(threshold: Threshold, observation: Observation): Promise<void> {
    const { signal } = threshold;
    const candidates = await this.#candidates(signalTable[signal].condition === 'disk');
    for (const candidate of rank(signal, candidates)) {
      if (isCriticalPod(candidate.pod)) continue;
      const message = shortageMessage(threshold, observation, candidate);
      if (this.#evict(candidate.pod, message)) return;
    }
    this.#options.logger.error({ signal }, 'the machine runs short and there is no pod left to evict');
  }

  #evict(pod: Pod, message: string): boolean {
    const { evict, clock, logger } = this.#options;
    const condition = {
      type: 'DisruptionTarget',
      ...(pod.metadata.generation !== undefined && { observedGeneration: pod.metadata.generation }),
      status: 'True',
      reason: 'TerminationByKubelet',
      message,
      lastTransitionTime: timestamp(clock.now()),
    };
    const done = evict(pod, { reason: 'Evicted', message, graceSeconds: GRACE_SECONDS, condition });
    if (done) logger.warn({ pod: `${pod.metadata.namespace}/${pod.metadata.name}` }, message);
    return done;
  }

  async #candidates(withDisk: boolean): Promise<Candidate[]> {
    const stats = new Map<string, ContainerStats>();
    for (const one of await this.#options.runtime.listContainerStats()) stats.set(one.id, one);
    return Promise.all(
      this.#options.pods().map(async (pod) => ({ pod, usage: await this.#usage(pod, stats, withDisk) })),
    );
  }

  async #usage(pod: Pod, stats: ReadonlyMap<string, ContainerStats>, withDisk: boolean): Promise<PodUsage> {
    const { states, host, cgroupRoot } = this.#options;
    const containers = new Map<string, { memoryBytes: number; storageBytes: number }>();
    let layers = 0;
    let inodes = 0;
    for (const record of (await states.get(pod.metadata.uid)).containers) {
      const one = record.state === 'RUNNING' ? stats.get(record.id) : undefined;
      if (!one) continue;
      containers.set(record.name, {
        memoryBytes: one.memory.workingSetBytes,
        storageBytes: one.writableLayer.usedBytes,
      });
      layers += one.writableLayer.usedBytes;
      inodes += one.writableLayer.inodesUsed;
    }
    const group = await host.cgroups?.usage(podCgroup(cgroupRoot, pod));
    const own = [...containers.values()].reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    const disk = withDisk ? await this.#diskUsage(pod) : { bytes: 0, inodes: 0 };
    return {
      memoryBytes: group?.memoryWorkingSetBytes ?? own,
      storageBytes: layers + disk.bytes,
      inodes: inodes + disk.inodes,
      processes: group?.processes ?? 0,
      containers,
    };
  }

  async #diskUsage(pod: Pod): Promise<{ bytes: number; inodes: number }> {
    const { storage } = this.#options.host;
    if (!storage) return { bytes: 0, inodes: 0 };
    const paths = podPaths(storage, pod);
    const parts = await Promise.all([paths.volumes, paths.logs].map((path) => this.#size(path)));
    return parts.reduce((sum, part) => ({ bytes: sum.bytes + part.bytes, inodes: sum.inodes + part.inodes }));
  }

  /** 0 for what does not exist (any more). */
  async #size(path: string): Promise<{ bytes: number; inodes: number }> {
    const { storage } = this.#options.host;
    return storage ? storage.diskUsage(path).catch(() => ({ bytes: 0, inodes: 0 })) : { bytes: 0, inodes: 0 };
  }

  /** Ends pods that exceed limits of their own. Resolves whether one was ended. */
  async #enforceLocalLimits(): Promise<boolean> {
    const { host, pods } = this.#options;
    if (!host.storage) return false;
    const limited = pods().filter(hasLocalLimit);
    if (limited.length === 0) return false;
    const stats = new Map<string, ContainerStats>();
    for (const one of await this.#options.runtime.listContainerStats()) stats.set(one.id, one);
    let ended = false;
    for (const pod of limited) {
      const message = await this.#localExcess(pod, stats);
      if (message !== undefined && this.#evict(pod, message)) ended = true;
    }
    return ended;
  }

  async #localExcess(pod: Pod, stats: ReadonlyMap<string, ContainerStats>): Promise<string | undefined> {
    const storage = this.#options.host.storage!;
    const paths = podPaths(storage, pod);
    for (const volume of pod.spec.volumes ?? []) {
      const { sizeLimit, medium } = volume.emptyDir ?? {};
      // A volume in memory is held to its size by its own mount.
      if (sizeLimit === undefined || medium === 'Memory') continue;
      const { bytes } = await this.#size(volumePath(paths, 'empty-dir', volume.name));
      if (bytes > quantityToNumber(sizeLimit))
        return `Usage of EmptyDir volume "${volume.name}" exceeds the limit "${sizeLimit}". `;
    }
    const usage = await this.#usage(pod, stats, true);
    const limits = pod.spec.containers.map((container) => container.resources?.limits?.['ephemeral-storage']);
    if (limits.every((limit) => limit !== undefined)) {
      const total = limits.reduce((sum, limit) => sum + amount('ephemeral-storage', limit), 0);
      if (usage.storageBytes > total)
        return `Pod ephemeral local storage usage exceeds the total limit of containers ${formatBytes(total)}. `;
    }
    for (const container of pod.spec.containers) {
      const limit = container.resources?.limits?.['ephemeral-storage'];
      if (limit === undefined) continue;
      const logs = await this.#size(`${paths.logs}/${container.name}`);
      const used = (usage.containers.get(container.name)?.storageBytes ?? 0) + logs.bytes;
      if (used > quantityToNumber(limit))
        return `Container ${container.name} exceeded its local ephemeral storage limit "${limit}". `;
    }
    return undefined;
  }
}

function hasLocalLimit(pod: Pod): boolean {
  return (
    (pod.spec.volumes ?? []).some((volume) => volume.emptyDir?.sizeLimit !== undefined) ||
    pod.spec.containers.some((container) => container.resources?.limits?.['ephemeral-storage'] !== undefined)
  );
}

function formatBytes(bytes: number): string {
  return formatQuantity(quantityOf(Math.round(bytes), 'BinarySI'));
}

function shortageMessage(threshold: Threshold, observation: Observation, { pod, usage }: Candidate): string {
  const { signal } = threshold;
  const { resource, unit } = signalTable[signal];
  const show = (value: number): string => (unit === 'bytes' ? formatBytes(value) : String(Math.round(value)));
  const limit = show(thresholdAmount(threshold, observation.capacity));
  let message = `The node was low on resource: ${resource}. Threshold quantity: ${limit}, available: ${show(observation.available)}. `;
  const of = signalKey(signal);
  if (!of) return message;
  for (const { name, resources } of pod.spec.containers) {
    const used = usage.containers.get(name)?.[of.field];
    const request = resources?.requests?.[of.resource];
    if (used === undefined || used <= amount(of.resource, request)) continue;
    message += `Container ${name} was using ${formatBytes(used)}, request is ${request ?? '0'}, has larger consumption of ${of.resource}. `;
  }
  return message;
}

function signalKey(
  signal: Signal,
): { readonly field: 'memoryBytes' | 'storageBytes'; readonly resource: string } | undefined {
  if (signal === 'memory.available') return { field: 'memoryBytes', resource: 'memory' };
  if (signal === 'nodefs.available' || signal === 'imagefs.available')
    return { field: 'storageBytes', resource: 'ephemeral-storage' };
  return undefined;
}
