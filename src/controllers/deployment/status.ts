// The status of a Deployment and its conditions, with upstream's reasons and messages. Pure.

import { findCondition, timestamp, timestampMs } from '../../api/index.ts';
import type {
  Deployment,
  DeploymentCondition,
  DeploymentStatus,
  ReplicaSet,
} from '../../api/types/apps-v1.ts';
import { replicasOf, totalReplicas, totalStatus } from './replica-sets.ts';
import { maxUnavailable } from './sizing.ts';

/** What stands for "no limit" in progressDeadlineSeconds and revisionHistoryLimit. */
export const NO_LIMIT = 2 ** 31 - 1;

export function hasProgressDeadline(deployment: Deployment): boolean {
  const seconds = deployment.spec.progressDeadlineSeconds;
  return seconds !== undefined && seconds !== NO_LIMIT;
}

export function newCondition(
  type: string,
  status: 'True' | 'False' | 'Unknown',
  reason: string,
  message: string,
  now: number,
): DeploymentCondition {
  const time = timestamp(now);
  return { type, status, reason, message, lastUpdateTime: time, lastTransitionTime: time };
}

/** A condition of the same status and reason stays as it is; a changed one goes to the end. */
export function setCondition(
  conditions: readonly DeploymentCondition[],
  condition: DeploymentCondition,
): readonly DeploymentCondition[] {
  const current = findCondition(conditions, condition.type);
  if (current?.status === condition.status && current.reason === condition.reason) return conditions;
  const lastTransitionTime =
    current?.status === condition.status ? current.lastTransitionTime : condition.lastTransitionTime;
  return [...removeCondition(conditions, condition.type), { ...condition, lastTransitionTime }];
}

export function removeCondition(
  conditions: readonly DeploymentCondition[],
  type: string,
): readonly DeploymentCondition[] {
  return conditions.some((condition) => condition.type === type)
    ? conditions.filter((condition) => condition.type !== type)
    : conditions;
}

/** Counts and availability; the other conditions are taken over. */
export function deploymentStatus(
  deployment: Deployment,
  all: readonly ReplicaSet[],
  newSet: ReplicaSet | undefined,
  now: number,
): DeploymentStatus {
  const availableReplicas = totalStatus(all, 'availableReplicas');
  const terminating = all.map((set) => set.status?.terminatingReplicas);
  const enough = availableReplicas >= replicasOf(deployment) - maxUnavailable(deployment);
  const available = enough
    ? newCondition(
        'Available',
        'True',
        'MinimumReplicasAvailable',
        'Deployment has minimum availability.',
        now,
      )
    : newCondition(
        'Available',
        'False',
        'MinimumReplicasUnavailable',
        'Deployment does not have minimum availability.',
        now,
      );
  const { collisionCount } = deployment.status ?? {};
  return {
    observedGeneration: deployment.metadata.generation ?? 0,
    replicas: totalStatus(all, 'replicas'),
    updatedReplicas: newSet ? totalStatus([newSet], 'replicas') : 0,
    readyReplicas: totalStatus(all, 'readyReplicas'),
    availableReplicas,
    unavailableReplicas: Math.max(0, totalReplicas(all) - availableReplicas),
    // Not known as long as one set has not said it.
    ...(terminating.every((count) => count !== undefined)
      ? { terminatingReplicas: terminating.reduce((sum, count) => sum + count, 0) }
      : {}),
    ...(collisionCount === undefined ? {} : { collisionCount }),
    conditions: [...setCondition(deployment.status?.conditions ?? [], available)],
  };
}

export function isComplete(deployment: Deployment, status: DeploymentStatus): boolean {
  const wanted = replicasOf(deployment);
  return (
    (status.updatedReplicas ?? 0) === wanted &&
    (status.replicas ?? 0) === wanted &&
    (status.availableReplicas ?? 0) === wanted &&
    (status.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
  );
}

function isProgressing(deployment: Deployment, status: DeploymentStatus): boolean {
  const old = deployment.status ?? {};
  const grew = (count: 'updatedReplicas' | 'readyReplicas' | 'availableReplicas'): boolean =>
    (status[count] ?? 0) > (old[count] ?? 0);
  const left = (s: DeploymentStatus): number => (s.replicas ?? 0) - (s.updatedReplicas ?? 0);
  return (
    grew('updatedReplicas') || left(status) < left(old) || grew('readyReplicas') || grew('availableReplicas')
  );
}

function hasTimedOut(deployment: Deployment, status: DeploymentStatus, now: number): boolean {
  const condition = findCondition(status.conditions, 'Progressing');
  if (!hasProgressDeadline(deployment) || !condition || condition.reason === 'NewReplicaSetAvailable')
    return false;
  if (condition.reason === 'ProgressDeadlineExceeded') return true;
  const from = timestampMs(condition.lastUpdateTime) ?? 0;
  return from + (deployment.spec.progressDeadlineSeconds ?? 0) * 1000 < now;
}

/** The status with what the rollout has come to: its progress, its deadline, the failures of its sets. */
export function rolloutStatus(
  deployment: Deployment,
  all: readonly ReplicaSet[],
  newSet: ReplicaSet | undefined,
  now: number,
): DeploymentStatus {
  const status = deploymentStatus(deployment, all, newSet, now);
  let conditions: readonly DeploymentCondition[] = status.conditions ?? [];
  if (!hasProgressDeadline(deployment)) conditions = removeCondition(conditions, 'Progressing');
  const current = findCondition(deployment.status?.conditions, 'Progressing');
  // Nothing is being rolled out: a pod that comes or goes is no progress and no lack of it.
  const settled = status.replicas === status.updatedReplicas && current?.reason === 'NewReplicaSetAvailable';
  if (hasProgressDeadline(deployment) && !settled) {
    const subject = newSet
      ? `ReplicaSet "${newSet.metadata.name}"`
      : `Deployment "${deployment.metadata.name}"`;
    const progress = (value: 'True' | 'False', reason: string, text: string): DeploymentCondition =>
      newCondition('Progressing', value, reason, `${subject} ${text}`, now);
    if (isComplete(deployment, status))
      conditions = setCondition(
        conditions,
        progress('True', 'NewReplicaSetAvailable', 'has successfully progressed.'),
      );
    else if (isProgressing(deployment, status)) {
      const next = progress('True', 'ReplicaSetUpdated', 'is progressing.');
      // The same reason again, yet its update time must move on: the deadline counts from it.
      conditions = setCondition(
        current ? removeCondition(conditions, 'Progressing') : conditions,
        current?.status === 'True' ? { ...next, lastTransitionTime: current.lastTransitionTime } : next,
      );
    } else if (hasTimedOut(deployment, { ...status, conditions: [...conditions] }, now))
      conditions = setCondition(
        conditions,
        progress('False', 'ProgressDeadlineExceeded', 'has timed out progressing.'),
      );
  }
  const failure = replicaFailure(all, newSet);
  conditions = failure ? setCondition(conditions, failure) : removeCondition(conditions, 'ReplicaFailure');
  return { ...status, conditions: [...conditions] };
}

function replicaFailure(
  all: readonly ReplicaSet[],
  newSet: ReplicaSet | undefined,
): DeploymentCondition | undefined {
  for (const set of newSet ? [newSet, ...all] : all) {
    const failure = findCondition(set.status?.conditions, 'ReplicaFailure');
    if (failure)
      return {
        type: failure.type,
        status: failure.status,
        lastUpdateTime: failure.lastTransitionTime,
        lastTransitionTime: failure.lastTransitionTime,
        reason: failure.reason,
        message: failure.message,
      };
  }
  return undefined;
}

/** Milliseconds until the progress deadline must be looked at, when the rollout waits and nothing else would tell. */
export function untilDeadline(
  deployment: Deployment,
  status: DeploymentStatus,
  now: number,
): number | undefined {
  const condition = findCondition(deployment.status?.conditions, 'Progressing');
  if (!hasProgressDeadline(deployment) || !condition) return undefined;
  if (isComplete(deployment, status) || condition.reason === 'ProgressDeadlineExceeded') return undefined;
  if (condition.reason === 'NewReplicaSetAvailable') return undefined;
  const from = timestampMs(condition.lastUpdateTime) ?? now;
  // A second more: times in conditions are whole seconds.
  return Math.max(1000, from + (deployment.spec.progressDeadlineSeconds ?? 0) * 1000 - now + 1000);
}
