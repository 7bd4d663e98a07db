// What the machine runs short of: signals, the thresholds set for them, and which of them are met. Names, defaults and
// texts are upstream's (pkg/kubelet/eviction).

import { parseQuantity, quantityToNumber } from '../../api/index.ts';
import type { MachineUsage } from '../host/host.ts';

export type Signal =
  | 'memory.available'
  | 'nodefs.available'
  | 'nodefs.inodesFree'
  | 'imagefs.available'
  | 'imagefs.inodesFree'
  | 'pid.available';

export interface Observation {
  readonly available: number;
  readonly capacity: number;
}

/** How messages and conditions speak of a signal. */
export const signalTable: Readonly<
  Record<
    Signal,
    {
      readonly resource: string;
      readonly condition: 'memory' | 'disk' | 'pid';
      readonly unit: 'bytes' | 'count';
    }
  >
> = {
  'memory.available': { resource: 'memory', condition: 'memory', unit: 'bytes' },
  'nodefs.available': { resource: 'ephemeral-storage', condition: 'disk', unit: 'bytes' },
  'nodefs.inodesFree': { resource: 'inodes', condition: 'disk', unit: 'count' },
  'imagefs.available': { resource: 'ephemeral-storage', condition: 'disk', unit: 'bytes' },
  'imagefs.inodesFree': { resource: 'inodes', condition: 'disk', unit: 'count' },
  'pid.available': { resource: 'pids', condition: 'pid', unit: 'count' },
};

export interface Threshold {
  readonly signal: Signal;
  /** A quantity, or a percentage of the capacity. */
  readonly value: string;
}

/** Throws TypeError for a signal that does not exist and for a value that is neither quantity nor percentage. */
export function parseThresholds(settings: Readonly<Record<string, string>>): Threshold[] {
  return Object.entries(settings).map(([signal, value]) => {
    if (!Object.hasOwn(signalTable, signal))
      throw new TypeError(
        `eviction signal ${signal} is unknown; known are ${Object.keys(signalTable).join(', ')}`,
      );
    const percent = /^(\d+(?:\.\d+)?)%$/.exec(value);
    if (percent ? Number(percent[1]) > 100 : !isQuantity(value))
      throw new TypeError(`eviction threshold ${signal}<${value} is neither a quantity nor a percentage`);
    return { signal: signal as Signal, value };
  });
}

function isQuantity(text: string): boolean {
  try {
    return parseQuantity(text).nanos >= 0n;
  } catch {
    return false;
  }
}

export function observe(
  { memory, nodeFilesystem, imageFilesystem, processes }: MachineUsage,
  memoryCapacity: number,
): Record<Signal, Observation> {
  return {
    'memory.available': { available: memory.availableBytes, capacity: memoryCapacity },
    'nodefs.available': { available: nodeFilesystem.availableBytes, capacity: nodeFilesystem.capacityBytes },
    'nodefs.inodesFree': { available: nodeFilesystem.inodesFree, capacity: nodeFilesystem.inodes },
    'imagefs.available': {
      available: imageFilesystem.availableBytes,
      capacity: imageFilesystem.capacityBytes,
    },
    'imagefs.inodesFree': { available: imageFilesystem.inodesFree, capacity: imageFilesystem.inodes },
    'pid.available': { available: processes.limit - processes.current, capacity: processes.limit },
  };
}

/** The threshold in the signal's own unit. */
export function thresholdAmount({ value }: Threshold, capacity: number): number {
  return value.endsWith('%') ? (capacity * Number(value.slice(0, -1))) / 100 : quantityToNumber(value);
}

/** File systems without a count of inodes (btrfs, some network ones) report 0 of 0: they are never short of them. */
export function isMet(threshold: Threshold, observation: Observation): boolean {
  if (observation.capacity === 0) return false;
  return observation.available < thresholdAmount(threshold, observation.capacity);
}
