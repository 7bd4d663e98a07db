// Who goes first when the machine runs short: pods that use more than they asked for, then the less important ones,
// then those that exceed their request by most (upstream's rankMemoryPressure, rankDiskPressureFunc, rankPIDPressure).

import { podRequests } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import type { Signal } from './signals.ts';

/** What one pod consumes. */
export interface PodUsage {
  readonly memoryBytes: number;
  /** Volumes, logs and writable layers. */
  readonly storageBytes: number;
  readonly inodes: number;
  readonly processes: number;
  /** Memory by container, for the message. */
  readonly containers: ReadonlyMap<string, { readonly memoryBytes: number; readonly storageBytes: number }>;
}

export interface Candidate {
  readonly pod: Pod;
  readonly usage: PodUsage;
}

function measure(signal: Signal, usage: PodUsage): number {
  switch (signal) {
    case 'memory.available':
      return usage.memoryBytes;
    case 'pid.available':
      return usage.processes;
    case 'nodefs.inodesFree':
    case 'imagefs.inodesFree':
      return usage.inodes;
    default:
      return usage.storageBytes;
  }
}

/** What the pod asked for of what is short; pids and inodes cannot be asked for. */
function requested(signal: Signal, pod: Pod): number {
  if (signal === 'memory.available') return podRequests(pod).get('memory') ?? 0;
  if (signal === 'nodefs.available' || signal === 'imagefs.available')
    return podRequests(pod).get('ephemeral-storage') ?? 0;
  return 0;
}

/** The candidates in the order in which they are to be evicted. */
export function rank(signal: Signal, candidates: readonly Candidate[]): Candidate[] {
  const rows = candidates.map((candidate) => {
    const used = measure(signal, candidate.usage);
    const asked = requested(signal, candidate.pod);
    const exceeds = signal !== 'pid.available' && used > asked;
    return { candidate, over: used - asked, exceeds, priority: candidate.pod.spec.priority ?? 0 };
  });
  rows.sort((a, b) => Number(b.exceeds) - Number(a.exceeds) || a.priority - b.priority || b.over - a.over);
  return rows.map(({ candidate }) => candidate);
}
