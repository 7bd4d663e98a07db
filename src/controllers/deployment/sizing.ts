// How many replicas each ReplicaSet of a Deployment should have: surge and unavailability, and the proportional share
// of a change of size in the middle of a rollout. Pure arithmetic, as in upstream's deployment/util.

import type { Deployment, ReplicaSet } from '../../api/types/apps-v1.ts';
import { scaled } from '../int-or-percent.ts';
import {
  activeSets,
  bySizeNewer,
  bySizeOlder,
  DESIRED_REPLICAS,
  integerAnnotation,
  MAX_REPLICAS,
  replicasOf,
  totalReplicas,
} from './replica-sets.ts';

export function isRollingUpdate(deployment: Deployment): boolean {
  return deployment.spec.strategy?.type !== 'Recreate';
}

/** Surge is rounded up and unavailability down; both zero would never make progress, so one may be unavailable then. */
function fenceposts(deployment: Deployment): { readonly surge: number; readonly unavailable: number } {
  const { maxSurge, maxUnavailable } = deployment.spec.strategy?.rollingUpdate ?? {};
  const total = replicasOf(deployment);
  const surge = scaled(maxSurge, total, true);
  const unavailable = scaled(maxUnavailable, total, false);
  return { surge, unavailable: surge === 0 && unavailable === 0 ? 1 : unavailable };
}

export function maxSurge(deployment: Deployment): number {
  return isRollingUpdate(deployment) ? fenceposts(deployment).surge : 0;
}

export function maxUnavailable(deployment: Deployment): number {
  const total = replicasOf(deployment);
  if (!isRollingUpdate(deployment) || total === 0) return 0;
  return Math.min(total, fenceposts(deployment).unavailable);
}

/** What the new set may grow to now, given all the sets there are (`current`: its own size). */
export function newSetReplicas(deployment: Deployment, all: readonly ReplicaSet[], current: number): number {
  if (!isRollingUpdate(deployment)) return replicasOf(deployment);
  const room = replicasOf(deployment) + maxSurge(deployment) - totalReplicas(all);
  if (room <= 0) return current;
  return current + Math.min(room, replicasOf(deployment) - current);
}

/** The set has all its replicas, and all of them are available. */
export function isSaturated(deployment: Deployment, set: ReplicaSet | undefined): boolean {
  if (!set) return false;
  const wanted = replicasOf(deployment);
  return (
    replicasOf(set) === wanted &&
    integerAnnotation(set, DESIRED_REPLICAS) === wanted &&
    (set.status?.availableReplicas ?? 0) === wanted
  );
}

/** Sizes by which a change of the Deployment's size is spread over all active sets, the rest going to the largest. */
export function proportionalSizes(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
): { readonly set: ReplicaSet; readonly size: number }[] {
  const active = activeSets(sets);
  const wanted = replicasOf(deployment);
  const allowed = wanted > 0 ? wanted + maxSurge(deployment) : 0;
  const toAdd = allowed - totalReplicas(active);
  if (toAdd > 0) active.sort(bySizeNewer);
  else active.sort(bySizeOlder);
  let added = 0;
  const sizes = active.map((set) => {
    const share = toAdd === 0 ? 0 : proportion(deployment, set, toAdd, added);
    added += share;
    return { set, size: replicasOf(set) + share };
  });
  if (sizes[0] && toAdd !== 0) sizes[0] = { ...sizes[0], size: Math.max(0, sizes[0].size + toAdd - added) };
  return sizes;
}

function proportion(deployment: Deployment, set: ReplicaSet, toAdd: number, added: number): number {
  if (replicasOf(set) === 0 || toAdd === added) return 0;
  const share = fraction(deployment, set);
  const left = toAdd - added;
  return toAdd > 0 ? Math.min(share, left) : Math.max(share, left);
}

/** How much the set should grow (or shrink) to keep its share of what the Deployment had when it was last scaled. */
function fraction(deployment: Deployment, set: ReplicaSet): number {
  const size = replicasOf(set);
  if (replicasOf(deployment) === 0) return -size;
  const before = integerAnnotation(set, MAX_REPLICAS) || (deployment.status?.replicas ?? 0);
  if (before === 0) return 0;
  const exact = (size * (replicasOf(deployment) + maxSurge(deployment))) / before;
  return Math.round(exact) - size;
}
