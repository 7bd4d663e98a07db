// Volumes that lie on one machine say so with the label kubernetes.io/hostname in their node affinity. Knowing it, nobody
// has to ask such a volume about every node of the cluster.

import type { PersistentVolume } from '../../api/types/core-v1.ts';

export const HOSTNAME = 'kubernetes.io/hostname';

/** The hostnames outside of which the volume's node affinity cannot hold; undefined when it does not name them. */
export function hostnamesOf({ spec }: PersistentVolume): ReadonlySet<string> | undefined {
  const terms = spec.nodeAffinity?.required?.nodeSelectorTerms;
  if (!terms || terms.length === 0) return undefined;
  const hostnames = new Set<string>();
  for (const { matchExpressions = [] } of terms) {
    const named = matchExpressions.find(({ key, operator }) => key === HOSTNAME && operator === 'In');
    if (!named) return undefined;
    for (const value of named.values ?? []) hostnames.add(value);
  }
  return hostnames;
}
