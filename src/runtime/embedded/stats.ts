// What containers use: processor and memory from their cgroups, disk from their writable layers. Measuring a layer
// means walking it, so its figures are kept for a while and refreshed behind the answers.

import type { ContainerStats } from '../cri.ts';
import type { RuntimeContext } from './context.ts';
import type { ContainerRecord } from './records.ts';

/** As often as upstream's runtimes look at their snapshots. */
const LAYER_AGE_MS = 10_000;

interface LayerUse {
  readonly usedBytes: number;
  readonly inodesUsed: number;
  readonly measuredAt: number;
}

const NOTHING = { cpuUsageNanoseconds: 0, memory: { workingSetBytes: 0, rssBytes: 0, usageBytes: 0 } };

export class Statistics {
  readonly #context: RuntimeContext;
  readonly #layers = new Map<string, LayerUse>();
  readonly #measuring = new Map<string, Promise<LayerUse>>();

  constructor(context: RuntimeContext) {
    this.#context = context;
  }

  async of(record: ContainerRecord): Promise<ContainerStats> {
    const { cgroups, clock } = this.#context;
    const [use, layer] = await Promise.all([
      // One that has ended, or ends now, has no cgroup any more.
      record.phase === 'running' ? cgroups.stat(record.cgroup).catch(() => NOTHING) : NOTHING,
      this.#layer(record.id),
    ]);
    return {
      id: record.id,
      metadata: record.config.metadata,
      podSandboxId: record.sandboxId,
      timestamp: clock.now(),
      cpu: { usageCoreNanoSeconds: use.cpuUsageNanoseconds },
      memory: {
        workingSetBytes: use.memory.workingSetBytes,
        rssBytes: use.memory.rssBytes,
        usageBytes: use.memory.usageBytes,
      },
      writableLayer: { usedBytes: layer.usedBytes, inodesUsed: layer.inodesUsed },
    };
  }

  async #layer(id: string): Promise<LayerUse> {
    const known = this.#layers.get(id);
    if (known && this.#context.clock.monotonic() - known.measuredAt < LAYER_AGE_MS) return known;
    const measuring = this.#measure(id);
    return known ?? measuring;
  }

  #measure(id: string): Promise<LayerUse> {
    const { host, paths, clock } = this.#context;
    const running = this.#measuring.get(id);
    if (running) return running;
    const measuring = host.diskUsage(paths.upper(id)).then(
      ({ bytes, inodes }) => {
        const use = { usedBytes: bytes, inodesUsed: inodes, measuredAt: clock.monotonic() };
        this.#layers.set(id, use);
        return use;
      },
      () => this.#layers.get(id) ?? { usedBytes: 0, inodesUsed: 0, measuredAt: clock.monotonic() },
    );
    this.#measuring.set(id, measuring);
    void measuring.finally(() => this.#measuring.delete(id));
    return measuring;
  }

  forget(id: string): void {
    this.#layers.delete(id);
  }
}
