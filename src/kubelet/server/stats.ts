// /stats/summary and /metrics/resource: what the node, its pods and their containers consume, read at the moment of
// the request from the machine, the pods' cgroups and the runtime. CPU rates come from two readings of the counters.

import { statfs } from 'node:fs/promises';
import { timestamp } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import type { Clock } from '../../component/index.ts';
import type { ContainerStats, ImageService, RuntimeService } from '../../runtime/cri.ts';
import type { FilesystemState, KubeletHost } from '../host/host.ts';
import { podPaths } from '../paths.ts';
import { podCgroup } from '../resources.ts';
import { newestContainer, type RuntimeStateCache } from '../runtime-state.ts';
import type { VolumeManager } from '../volumes/manager.ts';

export interface StatsOptions {
  readonly nodeName: string;
  readonly clock: Clock;
  readonly host: KubeletHost;
  readonly runtime: RuntimeService;
  readonly images: ImageService;
  readonly states: RuntimeStateCache;
  readonly volumes: Pick<VolumeManager, 'claimsOf'>;
  readonly pods: () => readonly Pod[];
  readonly cgroupRoot: string;
  /** When the agent started, ms since the epoch. */
  readonly startedAt: number;
}

interface CpuReading {
  readonly at: number;
  readonly usage: number;
  readonly rate: number;
}

interface CpuStats {
  readonly time: string;
  readonly usageNanoCores?: number;
  readonly usageCoreNanoSeconds: number;
}

interface MemoryStats {
  readonly time: string;
  readonly availableBytes?: number;
  readonly usageBytes: number;
  readonly workingSetBytes: number;
  readonly rssBytes: number;
  readonly pageFaults?: number;
  readonly majorPageFaults?: number;
}

interface FsStats {
  readonly time: string;
  readonly availableBytes: number;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly inodesFree: number;
  readonly inodes: number;
  readonly inodesUsed: number;
}

interface ContainerSummary {
  readonly name: string;
  readonly startTime: string;
  readonly cpu: CpuStats;
  readonly memory: MemoryStats;
  readonly rootfs?: FsStats;
  readonly logs?: FsStats;
}

interface VolumeStats extends FsStats {
  readonly name: string;
  readonly pvcRef: { readonly name: string; readonly namespace: string };
}

interface PodSummary {
  readonly podRef: { readonly name: string; readonly namespace: string; readonly uid: string };
  readonly startTime: string;
  readonly containers: readonly ContainerSummary[];
  readonly cpu: CpuStats;
  readonly memory: MemoryStats;
  /** Volumes of claims whose file system can be measured. */
  readonly volume?: readonly VolumeStats[];
  readonly 'ephemeral-storage'?: FsStats;
  readonly process_stats?: { readonly process_count: number };
}

export interface Summary {
  readonly node: Record<string, unknown>;
  readonly pods: readonly PodSummary[];
}

/** Walking a pod's directories costs; what was found is good for this long. */
const DISK_TTL_MS = 60_000;

/** Two readings closer together than this say nothing about a rate. */
const SHORTEST_INTERVAL_MS = 1000;

const VOLUME_METRICS = [
  ['kubelet_volume_stats_available_bytes', 'Number of available bytes in the volume', 'availableBytes'],
  ['kubelet_volume_stats_capacity_bytes', 'Capacity in bytes of the volume', 'capacityBytes'],
  ['kubelet_volume_stats_inodes', 'Maximum number of inodes in the volume', 'inodes'],
  ['kubelet_volume_stats_inodes_free', 'Number of free inodes in the volume', 'inodesFree'],
  ['kubelet_volume_stats_inodes_used', 'Number of used inodes in the volume', 'inodesUsed'],
  ['kubelet_volume_stats_used_bytes', 'Number of used bytes in the volume', 'usedBytes'],
] as const satisfies readonly (readonly [string, string, keyof FsStats])[];

export class StatsReader {
  readonly #options: StatsOptions;
  readonly #cpu = new Map<string, CpuReading>();
  readonly #disk = new Map<
    string,
    { readonly at: number; readonly usedBytes: number; readonly inodesUsed: number }
  >();

  constructor(options: StatsOptions) {
    this.#options = options;
  }

  async summary(): Promise<Summary> {
    const { nodeName, host, clock, startedAt } = this.#options;
    const now = clock.now();
    const usage = await host.usage();
    const time = timestamp(now);
    const seen = new Set<string>(['node']);
    const pods = await this.#pods(now, usage.nodeFilesystem, usage.imageFilesystem, seen);
    const imageUsed = (await this.#options.images.imageFsInfo()).reduce(
      (sum, { usedBytes }) => sum + usedBytes,
      0,
    );
    for (const key of this.#cpu.keys()) if (!seen.has(key)) this.#cpu.delete(key);
    for (const uid of this.#disk.keys()) if (!seen.has(uid)) this.#disk.delete(uid);
    return {
      node: {
        nodeName,
        startTime: timestamp(host.machine.bootedAt || startedAt),
        cpu: this.#cpuStats('node', usage.cpuCoreNanoseconds, now),
        memory: { time, ...usage.memory },
        network: {
          time,
          ...(usage.network[0] && networkStats(usage.network[0])),
          interfaces: usage.network.map(networkStats),
        },
        fs: fsStats(usage.nodeFilesystem, time),
        runtime: { imageFs: { ...fsStats(usage.imageFilesystem, time), usedBytes: imageUsed } },
        rlimit: { time, maxpid: usage.processes.limit, curproc: usage.processes.current },
      },
      pods,
    };
  }

  /** The Prometheus text of /metrics/resource, which the metrics server reads. */
  async resourceMetrics(): Promise<string> {
    const { node, pods } = await this.summary();
    const { cpu, memory } = node as { cpu: CpuStats; memory: MemoryStats };
    const at = this.#options.clock.now();
    const lines: string[] = [];
    const metric = (
      name: string,
      type: string,
      help: string,
      samples: readonly (readonly [labels: string, value: number])[],
    ): void => {
      lines.push(`# HELP ${name} [STABLE] ${help}`, `# TYPE ${name} ${type}`);
      for (const [labels, value] of samples)
        lines.push(`${name}${labels === '' ? '' : `{${labels}}`} ${value} ${at}`);
    };
    const seconds = ({ usageCoreNanoSeconds }: CpuStats): number => usageCoreNanoSeconds / 1e9;
    const podLabels = ({ podRef }: PodSummary): string =>
      `namespace="${podRef.namespace}",pod="${podRef.name}"`;
    const each = <T>(of: (container: ContainerSummary) => T): (readonly [string, T])[] =>
      pods.flatMap((pod) =>
        pod.containers.map((c) => [`container="${c.name}",${podLabels(pod)}`, of(c)] as const),
      );
    metric(
      'container_cpu_usage_seconds_total',
      'counter',
      'Cumulative cpu time consumed by the container in core-seconds',
      each((c) => seconds(c.cpu)),
    );
    metric(
      'container_memory_working_set_bytes',
      'gauge',
      'Current working set of the container in bytes',
      each((c) => c.memory.workingSetBytes),
    );
    metric(
      'container_start_time_seconds',
      'gauge',
      'Start time of the container since unix epoch in seconds',
      each((c) => Date.parse(c.startTime) / 1000),
    );
    metric(
      'node_cpu_usage_seconds_total',
      'counter',
      'Cumulative cpu time consumed by the node in core-seconds',
      [['', seconds(cpu)]],
    );
    metric('node_memory_working_set_bytes', 'gauge', 'Current working set of the node in bytes', [
      ['', memory.workingSetBytes],
    ]);
    metric(
      'pod_cpu_usage_seconds_total',
      'counter',
      'Cumulative cpu time consumed by the pod in core-seconds',
      pods.map((pod) => [podLabels(pod), seconds(pod.cpu)]),
    );
    metric(
      'pod_memory_working_set_bytes',
      'gauge',
      'Current working set of the pod in bytes',
      pods.map((pod) => [podLabels(pod), pod.memory.workingSetBytes]),
    );
    metric(
      'resource_scrape_error',
      'gauge',
      '1 if there was an error while getting container metrics, 0 otherwise',
      [['', 0]],
    );
    return `${lines.join('\n')}\n`;
  }

  /** The Prometheus text of /metrics: the volumes of claims, each once however many pods use it. */
  async volumeMetrics(): Promise<string> {
    const time = timestamp(this.#options.clock.now());
    const byClaim = new Map<string, VolumeStats>();
    for (const pod of this.#options.pods())
      for (const stats of await this.#volumes(pod.metadata.uid, time))
        byClaim.set(
          `namespace="${stats.pvcRef.namespace}",persistentvolumeclaim="${stats.pvcRef.name}"`,
          stats,
        );
    const lines: string[] = [];
    for (const [name, help, field] of VOLUME_METRICS) {
      if (byClaim.size === 0) break;
      lines.push(`# HELP ${name} [ALPHA] ${help}`, `# TYPE ${name} gauge`);
      for (const [labels, stats] of byClaim) lines.push(`${name}{${labels}} ${stats[field]}`);
    }
    return lines.map((line) => `${line}\n`).join('');
  }

  async #pods(
    now: number,
    node: FilesystemState,
    image: FilesystemState,
    seen: Set<string>,
  ): Promise<PodSummary[]> {
    const byContainer = new Map<string, ContainerStats>();
    for (const stats of await this.#options.runtime.listContainerStats()) byContainer.set(stats.id, stats);
    const summaries = await Promise.all(
      this.#options.pods().map((pod) => this.#pod(pod, byContainer, now, node, image, seen)),
    );
    return summaries.filter((summary) => summary !== undefined);
  }

  async #pod(
    pod: Pod,
    stats: ReadonlyMap<string, ContainerStats>,
    now: number,
    node: FilesystemState,
    image: FilesystemState,
    seen: Set<string>,
  ): Promise<PodSummary | undefined> {
    const { host, states, cgroupRoot } = this.#options;
    const { uid, name, namespace = '' } = pod.metadata;
    const state = await states.get(uid);
    const sandbox = state.sandboxes[0];
    if (sandbox?.state !== 'READY') return undefined;
    const time = timestamp(now);
    const containers: ContainerSummary[] = [];
    let written = 0;
    for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
      const record = newestContainer(state, container.name);
      const reading = record?.state === 'RUNNING' ? stats.get(record.id) : undefined;
      if (!record || !reading) continue;
      seen.add(record.id);
      written += reading.writableLayer.usedBytes;
      containers.push({
        name: container.name,
        startTime: timestamp(record.startedAt),
        cpu: this.#cpuStats(record.id, reading.cpu.usageCoreNanoSeconds, now),
        memory: { time, ...reading.memory },
        rootfs: {
          ...fsStats(image, time),
          usedBytes: reading.writableLayer.usedBytes,
          inodesUsed: reading.writableLayer.inodesUsed,
        },
      });
    }
    const group = await host.cgroups?.usage(podCgroup(cgroupRoot, pod));
    const sum = (of: (container: ContainerSummary) => number): number =>
      containers.reduce((total, c) => total + of(c), 0);
    seen.add(uid);
    const volumes = await this.#volumes(uid, time);
    return {
      podRef: { name, namespace, uid },
      startTime: timestamp(sandbox.createdAt),
      containers,
      cpu: this.#cpuStats(uid, group?.cpuCoreNanoseconds ?? sum((c) => c.cpu.usageCoreNanoSeconds), now),
      memory: {
        time,
        usageBytes: group?.memoryUsageBytes ?? sum((c) => c.memory.usageBytes),
        workingSetBytes: group?.memoryWorkingSetBytes ?? sum((c) => c.memory.workingSetBytes),
        rssBytes: group?.memoryRssBytes ?? sum((c) => c.memory.rssBytes),
      },
      ...(volumes.length > 0 && { volume: volumes }),
      'ephemeral-storage': { ...fsStats(node, time), ...(await this.#podStorage(pod, written)) },
      ...(group && { process_stats: { process_count: group.processes } }),
    };
  }

  /** As statfs(2) tells: what others write to the same file system counts too. */
  async #volumes(podUid: string, time: string): Promise<VolumeStats[]> {
    const volumes = await Promise.all(
      this.#options.volumes.claimsOf(podUid).map(async ({ volume, namespace, claim, measured }) => {
        // Taken away while we look: the pod is ending.
        const state = measured && (await statfs(measured).catch(() => undefined));
        if (!state) return undefined;
        const { bsize, blocks, bfree, bavail, files, ffree } = state;
        const filesystem = {
          capacityBytes: bsize * blocks,
          availableBytes: bsize * bavail,
          usedBytes: bsize * (blocks - bfree),
          inodes: files,
          inodesFree: ffree,
        };
        return { ...fsStats(filesystem, time), name: volume, pvcRef: { name: claim, namespace } };
      }),
    );
    return volumes.filter((volume) => volume !== undefined);
  }

  async #podStorage(pod: Pod, written: number): Promise<{ usedBytes: number; inodesUsed: number }> {
    const { host, clock } = this.#options;
    if (!host.storage) return { usedBytes: written, inodesUsed: 0 };
    const { uid } = pod.metadata;
    let disk = this.#disk.get(uid);
    if (!disk || clock.monotonic() - disk.at >= DISK_TTL_MS) {
      const paths = podPaths(host.storage, pod);
      const nothing = { bytes: 0, inodes: 0 };
      const [volumes, logs] = await Promise.all([
        host.storage.diskUsage(paths.volumes).catch(() => nothing),
        host.storage.diskUsage(paths.logs).catch(() => nothing),
      ]);
      disk = {
        at: clock.monotonic(),
        usedBytes: volumes.bytes + logs.bytes,
        inodesUsed: volumes.inodes + logs.inodes,
      };
      this.#disk.set(uid, disk);
    }
    return { usedBytes: written + disk.usedBytes, inodesUsed: disk.inodesUsed };
  }

  #cpuStats(key: string, usage: number, now: number): CpuStats {
    const before = this.#cpu.get(key);
    const usageCoreNanoSeconds = Math.round(usage);
    const time = timestamp(now);
    if (!before || usage < before.usage) {
      this.#cpu.set(key, { at: now, usage, rate: 0 });
      return { time, usageNanoCores: 0, usageCoreNanoSeconds };
    }
    if (now - before.at < SHORTEST_INTERVAL_MS)
      return { time, usageNanoCores: before.rate, usageCoreNanoSeconds };
    const rate = Math.round(((usage - before.usage) / (now - before.at)) * 1000);
    this.#cpu.set(key, { at: now, usage, rate });
    return { time, usageNanoCores: rate, usageCoreNanoSeconds };
  }
}

function fsStats(state: FilesystemState, time: string): FsStats {
  const { availableBytes, capacityBytes, usedBytes, inodesFree, inodes } = state;
  return {
    time,
    availableBytes,
    capacityBytes,
    usedBytes,
    inodesFree,
    inodes,
    inodesUsed: inodes - inodesFree,
  };
}

function networkStats(device: {
  readonly name: string;
  readonly receivedBytes: number;
  readonly receiveErrors: number;
  readonly transmittedBytes: number;
  readonly transmitErrors: number;
}): Record<string, unknown> {
  return {
    name: device.name,
    rxBytes: device.receivedBytes,
    rxErrors: device.receiveErrors,
    txBytes: device.transmittedBytes,
    txErrors: device.transmitErrors,
  };
}
