// NodeResourcesBalancedAllocation: prefers the node on which CPU and memory would be used to a similar degree, so
// that neither runs out while the other lies idle.

import { MAX_SCORE, type Plugin } from '../framework.ts';
import { type PodInfo, podInfo } from '../node-info.ts';

const NAME = 'NodeResourcesBalancedAllocation';

export const nodeResourcesBalancedAllocation: Plugin = {
  name: NAME,
  preScore(state, pod) {
    // A pod that asks for nothing cannot unbalance a node.
    if (!pod.spec.containers.some((c) => Object.keys(c.resources?.requests ?? {}).length > 0)) return false;
    state.write<PodInfo>(NAME, podInfo(pod));
    return true;
  },
  score(state, pod, node) {
    const info = state.read<PodInfo>(NAME) ?? podInfo(pod);
    const fractions: number[] = [];
    for (const name of ['cpu', 'memory']) {
      const allocatable = node.allocatable.get(name) ?? 0;
      if (allocatable === 0) continue;
      const requested = (node.requested.get(name) ?? 0) + (info.requests.get(name) ?? 0);
      fractions.push(Math.min(1, requested / allocatable));
    }
    // With two fractions the standard deviation is half of their distance.
    const deviation = fractions.length === 2 ? Math.abs(fractions[0]! - fractions[1]!) / 2 : 0;
    return Math.floor((1 - deviation) * MAX_SCORE);
  },
};
