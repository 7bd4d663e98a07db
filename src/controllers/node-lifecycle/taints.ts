// The taints that the control plane puts on nodes, and how they are put there. Pure but for the write.

import { findCondition, isNotFound, timestamp } from '../../api/index.ts';
import type { Node, Taint } from '../../api/types/core-v1.ts';
import { type Client, resources, retryOnConflict } from '../../client/index.ts';
import type { Clock } from '../../component/index.ts';

export const NOT_READY = 'node.kubernetes.io/not-ready';
export const UNREACHABLE = 'node.kubernetes.io/unreachable';
const UNSCHEDULABLE = 'node.kubernetes.io/unschedulable';

/** Condition and status → the NoSchedule taint that says so. */
const BY_CONDITION: readonly (readonly [condition: string, status: string, taint: string])[] = [
  ['Ready', 'False', NOT_READY],
  ['Ready', 'Unknown', UNREACHABLE],
  ['MemoryPressure', 'True', 'node.kubernetes.io/memory-pressure'],
  ['DiskPressure', 'True', 'node.kubernetes.io/disk-pressure'],
  ['NetworkUnavailable', 'True', 'node.kubernetes.io/network-unavailable'],
  ['PIDPressure', 'True', 'node.kubernetes.io/pid-pressure'],
];

const OURS = new Set([...BY_CONDITION.map(([, , key]) => key), UNSCHEDULABLE]);

/** Keys of the NoSchedule taints that the node's conditions call for. */
export function conditionTaints(node: Node): string[] {
  const keys = BY_CONDITION.filter(
    ([type, status]) => findCondition(node.status?.conditions, type)?.status === status,
  ).map(([, , key]) => key);
  return node.spec?.unschedulable ? [...keys, UNSCHEDULABLE] : keys;
}

/** The node's taints with exactly these NoSchedule taints of ours; undefined when nothing changes. */
export function withConditionTaints(node: Node, now: number): Taint[] | undefined {
  const wanted = new Set(conditionTaints(node));
  const old = node.spec?.taints ?? [];
  const kept = old.filter((t) => t.effect !== 'NoSchedule' || !OURS.has(t.key) || wanted.has(t.key));
  const missing = [...wanted].filter((key) => !kept.some((t) => t.key === key && t.effect === 'NoSchedule'));
  if (missing.length === 0 && kept.length === old.length) return undefined;
  return [
    ...kept,
    ...missing.map((key): Taint => ({ key, effect: 'NoSchedule', timeAdded: timestamp(now) })),
  ];
}

/** The same for the NoExecute taint: `key`, or neither of the two when undefined. */
export function withEvictionTaint(
  node: Node,
  key: typeof NOT_READY | typeof UNREACHABLE | undefined,
  now: number,
): Taint[] | undefined {
  const ours = (taint: Taint): boolean =>
    taint.effect === 'NoExecute' && (taint.key === NOT_READY || taint.key === UNREACHABLE);
  const old = node.spec?.taints ?? [];
  const kept = old.filter((taint) => !ours(taint) || taint.key === key);
  const there = key !== undefined && kept.some((taint) => ours(taint) && taint.key === key);
  if (key === undefined || there) return kept.length === old.length ? undefined : kept;
  return [...kept, { key, effect: 'NoExecute', timeAdded: timestamp(now) }];
}

export function hasEvictionTaint(node: Node): boolean {
  return (
    node.spec?.taints?.some(
      (t) => t.effect === 'NoExecute' && (t.key === NOT_READY || t.key === UNREACHABLE),
    ) === true
  );
}

/** Changes a node's taints on what the server has; `change` gives undefined when there is nothing to do. */
export async function changeTaints(
  client: Client,
  clock: Clock,
  name: string,
  cached: Node | undefined,
  change: (node: Node) => Taint[] | undefined,
): Promise<void> {
  const nodes = client.resource(resources.nodes);
  await retryOnConflict(
    async (attempt) => {
      const node = attempt === 1 && cached ? cached : await nodes.get(name);
      const taints = change(node);
      if (!taints) return;
      const { uid, resourceVersion } = node.metadata;
      await nodes.patch(name, {
        type: 'merge',
        patch: { metadata: { uid, resourceVersion }, spec: { taints: taints.length > 0 ? taints : null } },
      });
    },
    { clock },
  ).catch((error: unknown) => {
    if (!isNotFound(error)) throw error;
  });
}
