// How long a Job waits before it replaces a failed pod: 10 s, doubling to 10 minutes, counted from the failure.
// For the Job as a whole it counts failures since the last success; with a limit for each index it counts the index's.

import type { Pod } from '../../api/types/core-v1.ts';
import { absoluteFailureCount, finishedAt } from './pods.ts';

const FIRST_MS = 10_000;
const LONGEST_MS = 600_000;

export interface BackoffRecord {
  readonly failures: number;
  /** In ms since the epoch. */
  readonly lastFailure: number;
}

function remaining(failures: number, lastFailure: number, now: number): number {
  if (failures <= 0) return 0;
  const wait = Math.min(LONGEST_MS, FIRST_MS * 2 ** (failures - 1));
  return Math.max(0, lastFailure + wait - now);
}

/** The record with the pods that ended since. */
export function nextRecord(
  record: BackoffRecord | undefined,
  succeeded: readonly Pod[],
  failed: readonly Pod[],
): BackoffRecord | undefined {
  const ends = [
    ...succeeded.map((pod) => ({ at: finishedAt(pod), success: true })),
    ...failed.map((pod) => ({ at: finishedAt(pod), success: false })),
  ].sort((a, b) => a.at - b.at || Number(a.success) - Number(b.success));
  let next = record;
  for (const { at, success } of ends)
    next = success ? undefined : { failures: (next?.failures ?? 0) + 1, lastFailure: at };
  return next;
}

export function untilRetry(record: BackoffRecord | undefined, now: number): number {
  return record ? remaining(record.failures, record.lastFailure, now) : 0;
}

export function untilIndexRetry(replaced: Pod, now: number): number {
  return remaining(absoluteFailureCount(replaced) + 1, finishedAt(replaced), now);
}
