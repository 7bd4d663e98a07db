// Which pods go first when there are too many: those that would be missed least. The order is upstream's
// (controller_utils.go, ActivePodsWithRanks), so that a pod-deletion-cost annotation and the spreading over nodes
// have the effect that users count on.

import { findCondition, isPodActive, isPodReady, isSidecar, timestampMs } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';

const DELETION_COST = 'controller.kubernetes.io/pod-deletion-cost';

interface Ranked {
  readonly pod: Pod;
  /** How many related pods are on its node. */
  readonly doubled: number;
}

const PHASES: Readonly<Record<string, number>> = { Pending: 0, Unknown: 1, Running: 2 };

/**
 * The `count` pods to delete of `pods`. `related`: active pods of all that share the owner's owner, which count for
 * the spreading. `now` in ms.
 */
export function podsToDelete(
  pods: readonly Pod[],
  related: Iterable<Pod>,
  count: number,
  now: number,
): readonly Pod[] {
  if (count >= pods.length) return pods;
  const onNode = new Map<string, number>();
  for (const pod of related) {
    if (!isPodActive(pod)) continue;
    const node = pod.spec.nodeName ?? '';
    onNode.set(node, (onNode.get(node) ?? 0) + 1);
  }
  return pods
    .map((pod): Ranked => ({ pod, doubled: onNode.get(pod.spec.nodeName ?? '') ?? 0 }))
    .sort((a, b) => compare(a, b, now))
    .slice(0, count)
    .map(({ pod }) => pod);
}

/** Negative when `a` is to go before `b`. */
function compare(a: Ranked, b: Ranked, now: number): number {
  const assigned = Number(Boolean(a.pod.spec.nodeName)) - Number(Boolean(b.pod.spec.nodeName));
  if (assigned !== 0) return assigned;
  const phase = (PHASES[a.pod.status?.phase ?? ''] ?? 0) - (PHASES[b.pod.status?.phase ?? ''] ?? 0);
  if (phase !== 0) return phase;
  const readyA = isPodReady(a.pod);
  const ready = Number(readyA) - Number(isPodReady(b.pod));
  if (ready !== 0) return ready;
  const cost = deletionCost(a.pod) - deletionCost(b.pod);
  if (cost !== 0) return cost;
  if (a.doubled !== b.doubled) return b.doubled - a.doubled;
  if (readyA) {
    const since = compareAges(readySince(a.pod), readySince(b.pod), a.pod, b.pod, now);
    if (since !== 0) return since;
  }
  const restartsA = mostRestarts(a.pod);
  const restartsB = mostRestarts(b.pod);
  if (restartsA.regular !== restartsB.regular) return restartsB.regular - restartsA.regular;
  if (restartsA.sidecar !== restartsB.sidecar) return restartsB.sidecar - restartsA.sidecar;
  return compareAges(created(a.pod), created(b.pod), a.pod, b.pod, now);
}

/**
 * Younger goes first, but ages are compared by their order of magnitude only (base 2) and by uid within one: always
 * deleting the very youngest would undo the spreading over failure domains (KEP-2185).
 */
function compareAges(
  since: number | undefined,
  sinceOther: number | undefined,
  pod: Pod,
  other: Pod,
  now: number,
): number {
  if (since === sinceOther) return 0;
  if (since === undefined) return -1;
  if (sinceOther === undefined) return 1;
  const difference = magnitude(now - since) - magnitude(now - sinceOther);
  if (difference !== 0) return difference;
  return pod.metadata.uid < other.metadata.uid ? -1 : 1;
}

/** Of nanoseconds, as upstream counts them. */
function magnitude(ms: number): number {
  return ms > 0 ? Math.floor(Math.log2(ms * 1e6)) : -1;
}

function deletionCost(pod: Pod): number {
  const text = pod.metadata.annotations?.[DELETION_COST];
  if (text === undefined || !/^(0|-?[1-9]\d*)$/.test(text)) return 0;
  const cost = Number(text);
  return cost >= -(2 ** 31) && cost < 2 ** 31 ? cost : 0;
}

function readySince(pod: Pod): number | undefined {
  return timestampMs(findCondition(pod.status?.conditions, 'Ready')?.lastTransitionTime);
}

function created(pod: Pod): number | undefined {
  return timestampMs(pod.metadata.creationTimestamp);
}

function mostRestarts(pod: Pod): { readonly regular: number; readonly sidecar: number } {
  const counts = (statuses: readonly { readonly restartCount: number }[]): number =>
    Math.max(0, ...statuses.map((status) => status.restartCount));
  const sidecars = new Set(pod.spec.initContainers?.filter(isSidecar).map((c) => c.name));
  return {
    regular: counts(pod.status?.containerStatuses ?? []),
    sidecar: counts((pod.status?.initContainerStatuses ?? []).filter((s) => sidecars.has(s.name))),
  };
}
