// TaintToleration: a pod must tolerate a node's NoSchedule and NoExecute taints, and rather goes where it tolerates
// the PreferNoSchedule ones.

import { findUntoleratedTaint, tolerates } from '../../api/node-selection.ts';
import { normalizeByHighest, type Plugin, unresolvable } from '../framework.ts';

const DECIDING = ['NoSchedule', 'NoExecute'];

export const taintToleration: Plugin = {
  name: 'TaintToleration',
  filter(_state, pod, node) {
    const taint = findUntoleratedTaint(node.node.spec.taints, pod.spec.tolerations, DECIDING);
    return taint && unresolvable(`node(s) had untolerated taint(s)`);
  },
  preScore(_state, _pod, nodes) {
    return nodes.some((n) => n.node.spec.taints?.some((t) => t.effect === 'PreferNoSchedule'));
  },
  score(_state, pod, node) {
    const tolerations = pod.spec.tolerations?.filter((t) => !t.effect || t.effect === 'PreferNoSchedule');
    let untolerated = 0;
    for (const taint of node.node.spec.taints ?? []) {
      if (taint.effect === 'PreferNoSchedule' && !tolerates(tolerations, taint)) untolerated++;
    }
    return untolerated;
  },
  normalize: (scores) => normalizeByHighest(scores, true),
  mayHelp(pod, event) {
    const fits = (taints: Parameters<typeof findUntoleratedTaint>[0]): boolean =>
      findUntoleratedTaint(taints, pod.spec.tolerations, DECIDING) === undefined;
    switch (event.type) {
      case 'NodeAdded':
        return fits(event.node.spec.taints);
      case 'NodeUpdated':
        return fits(event.node.spec.taints) && !fits(event.old.spec.taints);
      case 'PodUpdated':
        return event.pod.metadata.uid === pod.metadata.uid;
      default:
        return false;
    }
  },
};
