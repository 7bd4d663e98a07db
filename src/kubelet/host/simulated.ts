// A machine that is not there: capacity as asked for, no disk, no cgroups. Probes and hooks of its containers succeed
// once the simulated runtime says that they are ready.

import { randomUUID } from 'node:crypto';
import { type Clock, systemClock } from '../../component/index.ts';
import { SIMULATION_DOMAIN } from '../../runtime/simulated/index.ts';
import type { KubeletHost, MachineInfo, MachineUsage } from './host.ts';

export interface SimulatedHostOptions {
  /** Whether the container has been running for as long as its ready-delay asks. */
  readonly isReady: (containerId: string) => boolean;
  readonly clock?: Clock;
  readonly cpus?: number;
  readonly memoryBytes?: number;
  readonly storageBytes?: number;
}

const GIB = 2 ** 30;
const NO_TRAFFIC = [] as const;

export interface SimulatedHost extends KubeletHost {
  /** Makes the machine look as a test needs it: less memory or disk available than there is. */
  setUsage(usage: { readonly memoryAvailableBytes?: number; readonly storageAvailableBytes?: number }): void;
}

export function createSimulatedHost(options: SimulatedHostOptions): SimulatedHost {
  const clock = options.clock ?? systemClock;
  const memoryBytes = options.memoryBytes ?? 256 * GIB;
  const storageBytes = options.storageBytes ?? 1024 * GIB;
  let memoryAvailable = memoryBytes;
  let storageAvailable = storageBytes;
  const machine: MachineInfo = {
    cpus: options.cpus ?? 32,
    memoryBytes,
    swapBytes: 0,
    storageBytes,
    hugePages: {},
    machineId: randomUUID().replaceAll('-', ''),
    systemUuid: randomUUID(),
    bootId: randomUUID(),
    kernelVersion: 'simulated',
    osImage: 'Simulated Linux',
    operatingSystem: 'linux',
    architecture: 'amd64',
    bootedAt: clock.now(),
  };
  return {
    machine,
    setUsage({ memoryAvailableBytes, storageAvailableBytes }) {
      memoryAvailable = memoryAvailableBytes ?? memoryAvailable;
      storageAvailable = storageAvailableBytes ?? storageAvailable;
    },
    async usage(): Promise<MachineUsage> {
      const filesystem = {
        capacityBytes: storageBytes,
        availableBytes: storageAvailable,
        usedBytes: storageBytes - storageAvailable,
        inodes: 2 ** 26,
        inodesFree: 2 ** 26,
      };
      const used = memoryBytes - memoryAvailable;
      return {
        timestamp: clock.now(),
        cpuCoreNanoseconds: 0,
        memory: {
          availableBytes: memoryAvailable,
          usageBytes: used,
          workingSetBytes: used,
          rssBytes: used,
          pageFaults: 0,
          majorPageFaults: 0,
        },
        nodeFilesystem: filesystem,
        imageFilesystem: filesystem,
        processes: { limit: 2 ** 22, current: 0 },
        network: NO_TRAFFIC,
      };
    },
    prober: {
      async probe(target) {
        return options.isReady(target.containerId)
          ? { verdict: 'success', output: '', settled: true }
          : { verdict: 'failure', output: 'the simulated container is not ready yet' };
      },
      impliedReadiness(pod, container) {
        const key = `${SIMULATION_DOMAIN}/ready-delay`;
        const { annotations = {} } = pod.metadata;
        const delayed =
          annotations[key] !== undefined || annotations[`${container.name}.${key}`] !== undefined;
        return delayed
          ? { periodSeconds: 1, failureThreshold: 1, successThreshold: 1, timeoutSeconds: 1 }
          : undefined;
      },
    },
  };
}
