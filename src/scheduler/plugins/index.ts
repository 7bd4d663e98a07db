// The default plugins in upstream's order and with its weights. Plugins for what is not here (topology
// spread, pod affinity) are named in UNSUPPORTED, so that a pod that needs one is told instead of misplaced.

import type { Pod } from '../../api/types/core-v1.ts';
import type { Plugin, WeightedPlugin } from '../framework.ts';
import { unresolvable } from '../framework.ts';
import type { VolumeBinder } from '../volumes/volume-binder.ts';
import { nodeAffinity } from './node-affinity.ts';
import { imageLocality, nodeName, nodePorts, nodeUnschedulable, schedulingGates } from './node-basics.ts';
import { nodeResourcesBalancedAllocation } from './node-resources-balanced.ts';
import { nodeResourcesFit } from './node-resources-fit.ts';
import { nodeVolumeLimits } from './node-volume-limits.ts';
import { taintToleration } from './taint-toleration.ts';
import { volumeBinding } from './volume-binding.ts';
import { volumeRestrictions } from './volume-restrictions.ts';
import { volumeZone } from './volume-zone.ts';

/** Constraints that must hold and that no plugin here can judge. Preferences that are not judged only cost quality. */
const UNSUPPORTED: readonly { readonly field: string; readonly present: (pod: Pod) => boolean }[] = [
  {
    field: 'spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution',
    present: (pod) =>
      (pod.spec.affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []).length > 0,
  },
  {
    field: 'spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution',
    present: (pod) =>
      (pod.spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []).length > 0,
  },
  {
    field: 'spec.topologySpreadConstraints (whenUnsatisfiable: DoNotSchedule)',
    present: (pod) =>
      (pod.spec.topologySpreadConstraints ?? []).some((c) => c.whenUnsatisfiable === 'DoNotSchedule'),
  },
  { field: 'spec.resourceClaims', present: (pod) => (pod.spec.resourceClaims ?? []).length > 0 },
];

const unsupportedConstraints: Plugin = {
  name: 'UnsupportedConstraints',
  preFilter(_state, pod) {
    const fields = UNSUPPORTED.filter((u) => u.present(pod)).map((u) => u.field);
    if (fields.length === 0) return { skip: true };
    return { rejected: unresolvable(`this scheduler does not handle ${fields.join(', ')} yet`) };
  },
  mayHelp: (pod, event) => event.type === 'PodUpdated' && event.pod.metadata.uid === pod.metadata.uid,
};

export function defaultPlugins(volumes: VolumeBinder): readonly WeightedPlugin[] {
  return [
    { plugin: schedulingGates, weight: 0 },
    { plugin: unsupportedConstraints, weight: 0 },
    { plugin: nodeUnschedulable, weight: 0 },
    { plugin: nodeName, weight: 0 },
    { plugin: taintToleration, weight: 3 },
    { plugin: nodeAffinity, weight: 2 },
    { plugin: nodePorts, weight: 0 },
    { plugin: nodeResourcesFit, weight: 1 },
    { plugin: volumeRestrictions(volumes.state), weight: 0 },
    { plugin: nodeVolumeLimits(volumes.state), weight: 0 },
    { plugin: volumeBinding(volumes), weight: 0 },
    { plugin: volumeZone(volumes.state), weight: 0 },
    { plugin: nodeResourcesBalancedAllocation, weight: 1 },
    { plugin: imageLocality, weight: 1 },
  ];
}
