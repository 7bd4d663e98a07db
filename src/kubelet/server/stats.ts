// /stats/summary and /metrics/resource: what the node, its pods and their containers consume, read at the moment of
// the request from the machine, the pods' cgroups and the runtime. CPU rates come from two readings of the counters.

import { timestamp } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import type { Clock } from '../../component/index.ts';
import type { ContainerStats, ImageService, RuntimeService } from '../../runtime/cri.ts';
import type { FilesystemState, KubeletHost } from '../host/host.ts';
import { podPaths } from '../paths.ts';
import { podCgroup } from '../resources.ts';
import { newestContainer, type RuntimeStateCache } from '../runtime-state.ts';

export interface StatsOptions {
  readonly nodeName: string;
  readonly clock: Clock;
  readonly host: KubeletHost;
  readonly runtime: RuntimeService;
  readonly images: ImageService;
  readonly states: RuntimeStateCache;
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

interface PodSummary {
  readonly podRef: { readonly name: string; readonly namespace: string; readonly uid: string };
  readonly startTime: string;
  readonly containers: readonly ContainerSummary[];
  readonly cpu: CpuStats;
  readonly memory: MemoryStats;
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
      'ephemeral-storage': { ...fsStats(node, time), ...(await this.#podStorage(pod, written)) },
      ...(group && { process_stats: { process_count: group.processes } }),
    };
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
