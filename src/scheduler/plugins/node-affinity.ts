// NodeAffinity: spec.nodeSelector and required node affinity decide, preferred node affinity scores.

import { matchesNodeSelectorTerm, matchesRequiredNodeAffinity } from '../../api/node-selection.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { normalizeByHighest, type Plugin, unresolvable } from '../framework.ts';

/** What upstream says to users; scripts match on it. */
const REASON = "node(s) didn't match Pod's node affinity/selector";

/** The nodes that a pod names by metadata.name in every term (DaemonSet pods do), so that only those are looked at. */
function namedNodes(pod: Pod): Set<string> | undefined {
  const terms =
    pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (!terms || terms.length === 0) return undefined;
  const names = new Set<string>();
  for (const term of terms) {
    let own: Set<string> | undefined;
    for (const field of term.matchFields ?? []) {
      if (field.key !== 'metadata.name' || field.operator !== 'In') continue;
      const values = new Set(field.values ?? []);
      own = own ? own.intersection(values) : values;
    }
    if (!own) return undefined;
    for (const name of own) names.add(name);
  }
  return names;
}

export const nodeAffinity: Plugin = {
  name: 'NodeAffinity',
  preFilter(_state, pod) {
    const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
    if (!required && Object.keys(pod.spec.nodeSelector ?? {}).length === 0) return { skip: true };
    const nodes = namedNodes(pod);
    if (nodes?.size === 0) return { rejected: unresolvable('pod affinity terms conflict') };
    return nodes ? { nodes } : {};
  },
  filter(_state, pod, node) {
    return matchesRequiredNodeAffinity(pod.spec, node.node) ? undefined : unresolvable(REASON);
  },
  preScore(_state, pod) {
    return (
      (pod.spec.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).length > 0
    );
  },
  score(_state, pod, node) {
    let score = 0;
    for (const { weight, preference } of pod.spec.affinity?.nodeAffinity
      ?.preferredDuringSchedulingIgnoredDuringExecution ?? []) {
      const empty = !preference.matchExpressions?.length && !preference.matchFields?.length;
      if (weight !== 0 && !empty && matchesNodeSelectorTerm(preference, node.node)) score += weight;
    }
    return score;
  },
  normalize: (scores) => normalizeByHighest(scores, false),
  mayHelp(pod, event) {
    switch (event.type) {
      case 'NodeAdded':
        return matchesRequiredNodeAffinity(pod.spec, event.node);
      case 'NodeUpdated':
        return (
          matchesRequiredNodeAffinity(pod.spec, event.node) &&
          !matchesRequiredNodeAffinity(pod.spec, event.old)
        );
      case 'PodUpdated':
        return event.pod.metadata.uid === pod.metadata.uid;
      default:
        return false;
    }
  },
};
