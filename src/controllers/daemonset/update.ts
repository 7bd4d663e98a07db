// The next step of a DaemonSet's rolling update: which old pods may go, and which nodes may get a new pod beside the
// old one. Pure.

import { isPodAvailable } from '../../api/index.ts';
import type { DaemonSet } from '../../api/types/apps-v1.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { REVISION_HASH } from '../history/controller-revisions.ts';
import { scaled } from '../int-or-percent.ts';

/** Both are rounded up; with neither, one pod may be unavailable. */
export function allowance(
  set: DaemonSet,
  wanted: number,
): { readonly maxSurge: number; readonly maxUnavailable: number } {
  const { maxSurge, maxUnavailable = 1 } = set.spec.updateStrategy?.rollingUpdate ?? {};
  const surge = scaled(maxSurge, wanted, true);
  const unavailable = scaled(maxUnavailable, wanted, true);
  return { maxSurge: surge, maxUnavailable: surge === 0 && unavailable === 0 ? 1 : unavailable };
}

export interface UpdatePlan {
  /** Nodes that get a pod beside the old one. */
  readonly start: readonly string[];
  readonly end: readonly Pod[];
}

export function planUpdate(
  set: DaemonSet,
  onNodes: ReadonlyMap<string, readonly Pod[]>,
  wanted: number,
  hash: string,
  now: number,
): UpdatePlan {
  const { maxSurge, maxUnavailable } = allowance(set, wanted);
  const minReadySeconds = set.spec.minReadySeconds ?? 0;
  const available = (pod: Pod): boolean => isPodAvailable(pod, minReadySeconds, now);
  return maxSurge > 0
    ? planSurge(onNodes, maxSurge, hash, available)
    : planReplacement(onNodes, maxUnavailable, hash, available);
}

/** Old pods that are not available go at once, others as long as not too many are unavailable. */
function planReplacement(
  onNodes: ReadonlyMap<string, readonly Pod[]>,
  maxUnavailable: number,
  hash: string,
  available: (pod: Pod) => boolean,
): UpdatePlan {
  let unavailable = 0;
  const broken: Pod[] = [];
  const candidates: Pod[] = [];
  for (const pods of onNodes.values()) {
    const pair = oldAndNew(pods, hash);
    // None, or too many: the manager sees to this node first, and meanwhile it counts as without a daemon.
    if (!pair || (pair.old === undefined) === (pair.new === undefined)) unavailable++;
    else if (pair.new) {
      if (!available(pair.new)) unavailable++;
    } else if (pair.old) (available(pair.old) ? candidates : broken).push(pair.old);
  }
  const room = Math.max(0, maxUnavailable - unavailable);
  return { start: [], end: [...broken, ...candidates.slice(0, room)] };
}

/** New pods are started beside the old, and an old one goes when its new one is available. */
function planSurge(
  onNodes: ReadonlyMap<string, readonly Pod[]>,
  maxSurge: number,
  hash: string,
  available: (pod: Pod) => boolean,
): UpdatePlan {
  let surging = 0;
  const end: Pod[] = [];
  const broken: string[] = [];
  const candidates: string[] = [];
  for (const [node, pods] of onNodes) {
    const pair = oldAndNew(pods, hash);
    if (!pair) surging++;
    else if (pair.old && !pair.new) (available(pair.old) ? candidates : broken).push(node);
    else if (pair.old && pair.new) {
      if (available(pair.new)) end.push(pair.old);
      else surging++;
    }
  }
  const room = Math.max(0, maxSurge - surging);
  return { start: [...broken, ...candidates.slice(0, room)], end };
}

/** The one pod of the current and the one of an earlier template; undefined when there are several of either. */
function oldAndNew(
  pods: readonly Pod[],
  hash: string,
): { readonly old: Pod | undefined; readonly new: Pod | undefined } | undefined {
  const staying = pods.filter((pod) => pod.metadata.deletionTimestamp === undefined);
  const current = staying.filter((pod) => pod.metadata.labels?.[REVISION_HASH] === hash);
  const earlier = staying.filter((pod) => pod.metadata.labels?.[REVISION_HASH] !== hash);
  if (current.length > 1 || earlier.length > 1) return undefined;
  return { old: earlier[0], new: current[0] };
}
