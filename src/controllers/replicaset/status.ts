// The status of a ReplicaSet as its pods make it. Pure.

import { findCondition, isPodAvailable, isPodReady, timestamp, timestampMs } from '../../api/index.ts';
import type { ReplicaSet, ReplicaSetCondition, ReplicaSetStatus } from '../../api/types/apps-v1.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { messageOf } from '../pods/pod-control.ts';

export function replicaSetStatus(
  set: ReplicaSet,
  active: readonly Pod[],
  terminating: readonly Pod[],
  failure: { readonly error: unknown; readonly missing: number } | undefined,
  now: number,
): ReplicaSetStatus {
  const templateLabels = Object.entries(set.spec.template?.metadata?.labels ?? {});
  const minReadySeconds = set.spec.minReadySeconds ?? 0;
  let fullyLabeledReplicas = 0;
  let readyReplicas = 0;
  let availableReplicas = 0;
  for (const pod of active) {
    if (templateLabels.every(([key, value]) => pod.metadata.labels?.[key] === value)) fullyLabeledReplicas++;
    if (!isPodReady(pod)) continue;
    readyReplicas++;
    if (isPodAvailable(pod, minReadySeconds, now)) availableReplicas++;
  }
  return {
    replicas: active.length,
    fullyLabeledReplicas,
    readyReplicas,
    availableReplicas,
    terminatingReplicas: terminating.length,
    observedGeneration: set.metadata.generation ?? 0,
    conditions: conditions(set.status?.conditions ?? [], failure, now),
  };
}

function conditions(
  old: readonly ReplicaSetCondition[],
  failure: { readonly error: unknown; readonly missing: number } | undefined,
  now: number,
): ReplicaSetCondition[] {
  const others = old.filter((condition) => condition.type !== 'ReplicaFailure');
  if (!failure) return others;
  // The first failure stands until a sync succeeds: its time and message tell when and how it began.
  const known = findCondition(old, 'ReplicaFailure');
  if (known) return [...old];
  return [
    ...others,
    {
      type: 'ReplicaFailure',
      status: 'True',
      lastTransitionTime: timestamp(now),
      reason: failure.missing > 0 ? 'FailedCreate' : 'FailedDelete',
      message: messageOf(failure.error),
    },
  ];
}

/** True when both say the same, however they are written (0 and absent mean the same). */
export function sameStatus(a: ReplicaSetStatus | undefined, b: ReplicaSetStatus): boolean {
  if (a === undefined) return false;
  const counts = [
    'replicas',
    'fullyLabeledReplicas',
    'readyReplicas',
    'availableReplicas',
    'observedGeneration',
  ] as const;
  return (
    counts.every((count) => (a[count] ?? 0) === (b[count] ?? 0)) &&
    a.terminatingReplicas === b.terminatingReplicas &&
    JSON.stringify(a.conditions ?? []) === JSON.stringify(b.conditions ?? [])
  );
}

/** Milliseconds until the next ready pod becomes available by the passing of time alone; undefined when none will. */
export function nextAvailability(
  pods: readonly Pod[],
  minReadySeconds: number,
  now: number,
): number | undefined {
  if (minReadySeconds <= 0) return undefined;
  let next: number | undefined;
  for (const pod of pods) {
    const ready = findCondition(pod.status?.conditions, 'Ready');
    const since = timestampMs(ready?.lastTransitionTime);
    if (ready?.status !== 'True' || since === undefined) continue;
    const left = since + minReadySeconds * 1000 - now;
    if (left > 0 && (next === undefined || left < next)) next = left;
  }
  return next;
}
