// What a Job's pods say: their index, whether they failed, when they ended, what the failure policy makes of it. Pure.

import { isPodTerminal, timestampMs } from '../../api/index.ts';
import type { Job } from '../../api/types/batch-v1.ts';
import type { ContainerStatus, Pod } from '../../api/types/core-v1.ts';

/** Holds a pod until the Job has counted it. */
export const TRACKING = 'batch.kubernetes.io/job-tracking';
export const COMPLETION_INDEX = 'batch.kubernetes.io/job-completion-index';
/** How often the index had failed, with and without what the failure policy ignored, when the pod was made. */
const FAILURE_COUNT = 'batch.kubernetes.io/job-index-failure-count';
const IGNORED_FAILURE_COUNT = 'batch.kubernetes.io/job-index-ignored-failure-count';

export function isIndexed(job: Job): boolean {
  return job.spec.completionMode === 'Indexed';
}

export function isSuspended(job: Job): boolean {
  return job.spec.suspend === true;
}

export function isTracked(pod: Pod): boolean {
  return pod.metadata.finalizers?.includes(TRACKING) === true;
}

/** True when a terminating pod is not replaced before it has ended. */
export function replacesOnlyFailed(job: Job): boolean {
  return job.spec.podReplacementPolicy === 'Failed' || job.spec.podFailurePolicy !== undefined;
}

/** A pod that is being deleted counts as failed at once, unless the Job waits for terminating ones. */
export function hasFailed(job: Job, pod: Pod): boolean {
  if (pod.status?.phase === 'Failed') return true;
  if (replacesOnlyFailed(job)) return false;
  return pod.metadata.deletionTimestamp !== undefined && pod.status?.phase !== 'Succeeded';
}

export function isTerminating(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp !== undefined && !isPodTerminal(pod);
}

/** The pod's index; undefined when it has none that the Job knows. */
export function indexOf(job: Job, pod: Pod): number | undefined {
  const text = pod.metadata.annotations?.[COMPLETION_INDEX];
  if (text === undefined || !/^\d+$/.test(text)) return undefined;
  const index = Number(text);
  return index < (job.spec.completions ?? 0) ? index : undefined;
}

function count(pod: Pod, annotation: string): number {
  const text = pod.metadata.annotations?.[annotation];
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : 0;
}

export function failureCount(pod: Pod): number {
  return count(pod, FAILURE_COUNT);
}

/** With those that were ignored: they too slow the next try down. */
export function absoluteFailureCount(pod: Pod): number {
  return failureCount(pod) + count(pod, IGNORED_FAILURE_COUNT);
}

/** The annotations of the pod that takes the place of `replaced`. */
export function failureAnnotations(job: Job, replaced: Pod | undefined): Record<string, string> {
  if (!replaced) return { [FAILURE_COUNT]: '0' };
  const ignored = matchFailurePolicy(job, replaced)?.action === 'Ignore';
  const failures = failureCount(replaced) + (ignored ? 0 : 1);
  const ignoredFailures = count(replaced, IGNORED_FAILURE_COUNT) + (ignored ? 1 : 0);
  return {
    [FAILURE_COUNT]: String(failures),
    ...(ignoredFailures > 0 ? { [IGNORED_FAILURE_COUNT]: String(ignoredFailures) } : {}),
  };
}

/** When the pod ended, or (for one that is only being deleted) when that began; in ms. */
export function finishedAt(pod: Pod): number {
  let latest = 0;
  for (const status of allStatuses(pod))
    latest = Math.max(latest, timestampMs(status.state?.terminated?.finishedAt) ?? 0);
  if (latest > 0) return latest;
  for (const { type, lastTransitionTime } of pod.status?.conditions ?? [])
    if (type === 'Ready' || type === 'DisruptionTarget')
      latest = Math.max(latest, timestampMs(lastTransitionTime) ?? 0);
  if (latest > 0) return latest;
  const deleted = timestampMs(pod.metadata.deletionTimestamp);
  if (deleted !== undefined) return deleted - (pod.metadata.deletionGracePeriodSeconds ?? 0) * 1000;
  return timestampMs(pod.metadata.creationTimestamp) ?? 0;
}

function allStatuses(pod: Pod): readonly ContainerStatus[] {
  return [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])];
}

export interface PolicyMatch {
  readonly action: 'Count' | 'FailIndex' | 'FailJob' | 'Ignore';
  readonly message: string;
}

/** The first rule of the pod failure policy that applies to a failed pod. */
export function matchFailurePolicy(job: Job, pod: Pod): PolicyMatch | undefined {
  const rules = job.spec.podFailurePolicy?.rules ?? [];
  const name = `${pod.metadata.namespace}/${pod.metadata.name}`;
  for (const [at, rule] of rules.entries()) {
    const ending = `matching ${rule.action} rule at index ${at}`;
    if (rule.onExitCodes) {
      const { containerName, operator, values } = rule.onExitCodes;
      for (const status of allStatuses(pod)) {
        if (containerName !== undefined && containerName !== status.name) continue;
        const exitCode = status.state?.terminated?.exitCode;
        // Success is never a reason to fail, whatever a NotIn says.
        if (exitCode === undefined || exitCode === 0) continue;
        if (values.includes(exitCode) === (operator === 'In'))
          return {
            action: rule.action,
            message: `Container ${status.name} for pod ${name} failed with exit code ${exitCode} ${ending}`,
          };
      }
    }
    for (const pattern of rule.onPodConditions ?? []) {
      const condition = pod.status?.conditions?.find(
        ({ type, status }) => type === pattern.type && status === (pattern.status ?? 'True'),
      );
      if (condition)
        return { action: rule.action, message: `Pod ${name} has condition ${pattern.type} ${ending}` };
    }
  }
  return undefined;
}

/** False when the policy says that the failure is not held against the Job. */
export function countsAsFailure(job: Job, pod: Pod): boolean {
  return matchFailurePolicy(job, pod)?.action !== 'Ignore';
}

/** With restartPolicy OnFailure the kubelet retries in place: restarts count like failed pods. */
export function restartsExceed(job: Job, pods: readonly Pod[]): boolean {
  if (job.spec.template.spec?.restartPolicy !== 'OnFailure') return false;
  const limit = job.spec.backoffLimit ?? 6;
  let restarts = 0;
  for (const pod of pods) {
    if (pod.status?.phase !== 'Running' && pod.status?.phase !== 'Pending') continue;
    for (const status of allStatuses(pod)) restarts += status.restartCount;
  }
  return limit === 0 ? restarts > 0 : restarts >= limit;
}
