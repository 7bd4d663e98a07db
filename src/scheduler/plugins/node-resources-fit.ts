// NodeResourcesFit: the node has room for what the pod asks for; the emptier of two nodes is better (LeastAllocated).

import { podRequests, type ResourceAmounts } from '../../api/pod-resources.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { type CycleState, MAX_SCORE, type Plugin, type Rejection } from '../framework.ts';
import { type NodeInfo, type PodInfo, podInfo } from '../node-info.ts';

const NAME = 'NodeResourcesFit';

/** Rejects when a resource does not fit; unresolvable when it would not even fit on the empty node. */
export function fitRejection(requests: ResourceAmounts, node: NodeInfo): Rejection | undefined {
  const reasons: string[] = [];
  let hopeless = false;
  const allowedPods = node.allocatable.get('pods');
  if (allowedPods !== undefined && node.pods.size + 1 > allowedPods) {
    reasons.push('Too many pods');
    if (allowedPods < 1) hopeless = true;
  }
  for (const [name, amount] of requests) {
    if (amount === 0) continue;
    const allocatable = node.allocatable.get(name) ?? 0;
    if (amount > allocatable - (node.requested.get(name) ?? 0)) {
      reasons.push(`Insufficient ${name}`);
      if (amount > allocatable) hopeless = true;
    }
  }
  if (reasons.length === 0) return undefined;
  return { kind: hopeless ? 'unresolvable' : 'unschedulable', reasons };
}

function leastAllocated(requested: number, allocatable: number): number {
  if (allocatable === 0 || requested > allocatable) return 0;
  return Math.floor(((allocatable - requested) * MAX_SCORE) / allocatable);
}

export const nodeResourcesFit: Plugin = {
  name: NAME,
  preFilter(state, pod) {
    state.write<PodInfo>(NAME, podInfo(pod));
    return {};
  },
  filter(state: CycleState, pod: Pod, node: NodeInfo) {
    return fitRejection(state.read<PodInfo>(NAME)?.requests ?? podRequests(pod), node);
  },
  score(state, pod, node) {
    const info = state.read<PodInfo>(NAME) ?? podInfo(pod);
    const cpu = leastAllocated(node.scoredMilliCpu + info.scoredMilliCpu, node.allocatable.get('cpu') ?? 0);
    const memory = leastAllocated(node.scoredMemory + info.scoredMemory, node.allocatable.get('memory') ?? 0);
    return Math.floor((cpu + memory) / 2);
  },
  mayHelp(pod, event) {
    switch (event.type) {
      case 'AssignedPodDeleted':
        return true;
      case 'AssignedPodUpdated':
        return shrank(podRequests(event.old), podRequests(event.pod));
      case 'PodUpdated':
        return (
          event.pod.metadata.uid === pod.metadata.uid &&
          shrank(podRequests(event.old), podRequests(event.pod))
        );
      case 'NodeAdded':
        return couldHold(event.node.status.allocatable, pod);
      case 'NodeUpdated':
        return (
          JSON.stringify(event.old.status.allocatable) !== JSON.stringify(event.node.status.allocatable) &&
          couldHold(event.node.status.allocatable, pod)
        );
      default:
        return false;
    }
  },
};

function shrank(before: ResourceAmounts, after: ResourceAmounts): boolean {
  for (const [name, amount] of before) if ((after.get(name) ?? 0) < amount) return true;
  return false;
}

function couldHold(allocatable: Readonly<Record<string, string>> | undefined, pod: Pod): boolean {
  for (const [name, amount] of podRequests(pod))
    if (amount > 0 && allocatable?.[name] === undefined) return false;
  return true;
}
