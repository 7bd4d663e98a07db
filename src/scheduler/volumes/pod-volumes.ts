// Which volumes a pod's claims have or could get, and whether a node will do for them. Pure over one VolumeState: what
// does not depend on the node is found out once for each attempt, in `podVolumes`; `decide` judges one node.

import {
  claimClass,
  claimNameOf,
  compareQuantities,
  isClaimFullyBound,
  isClaimOfPod,
  isDelayedBinding,
  labelSelectorMatcher,
  NO_PROVISIONER,
  quantityToNumber,
  topologyAllows,
  volumeAnnotations,
  volumeFitsNode,
} from '../../api/index.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod } from '../../api/types/core-v1.ts';
import type { CSIStorageCapacity, StorageClass } from '../../api/types/storage-v1.ts';
import type { Snapshot } from '../framework.ts';
import { VolumeChoices } from './volume-choices.ts';
import { hostnamesOf } from './volume-hosts.ts';
import type { VolumeState } from './volume-state.ts';

/** What kube-scheduler tells users; scripts match on it. */
export const reasons = {
  nodeConflict: "node(s) didn't match PersistentVolume's node affinity",
  bindConflict: "node(s) didn't find available persistent volumes to bind",
  notEnoughSpace: 'node(s) did not have enough free storage',
  volumeMissing: 'node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)',
  unboundImmediate: 'pod has unbound immediate PersistentVolumeClaims',
} as const;

/** A claim whose volume is chosen together with the node. */
interface DelayedClaim {
  readonly claim: PersistentVolumeClaim;
  readonly storageClass: StorageClass;
  /** Where an earlier attempt has asked for a volume: no other node will do. */
  readonly selectedNode: string | undefined;
  readonly choices: VolumeChoices;
}

export interface PodVolumes {
  readonly bound: readonly { readonly claim: PersistentVolumeClaim; readonly volume?: PersistentVolume }[];
  /** The smallest requests first, so that they leave the large volumes to those that need them. */
  readonly delayed: readonly DelayedClaim[];
}

/** What is to be written for a pod's claims before it may be bound. */
export interface VolumeDecision {
  readonly bindings: readonly { readonly claim: PersistentVolumeClaim; readonly volume: PersistentVolume }[];
  readonly provisions: readonly PersistentVolumeClaim[];
}

export type Judgement = VolumeDecision | { readonly rejected: readonly string[] };

/** The names of the claims that the pod needs, with repetitions. */
export function claimNames(pod: Pod): string[] {
  const names: string[] = [];
  for (const volume of pod.spec.volumes ?? []) {
    const name = claimNameOf(pod, volume);
    if (name !== undefined) names.push(name);
  }
  return names;
}

export const usesClaims = (pod: Pod): boolean =>
  (pod.spec.volumes ?? []).some((volume) => volume.persistentVolumeClaim || volume.ephemeral);

/** Why the pod cannot be placed anywhere, whatever the nodes are like; undefined when its claims are in order. */
export function claimProblem(pod: Pod, state: VolumeState): string | undefined {
  for (const volume of pod.spec.volumes ?? []) {
    const name = claimNameOf(pod, volume);
    if (name === undefined) continue;
    const claim = state.claim(pod.metadata.namespace, name);
    if (!claim)
      return volume.ephemeral
        ? `waiting for ephemeral volume controller to create the persistentvolumeclaim "${name}"`
        : notFoundMessage(name);
    if (claim.status?.phase === 'Lost')
      return `persistentvolumeclaim "${name}" bound to non-existent persistentvolume "${claim.spec.volumeName ?? ''}"`;
    if (claim.metadata.deletionTimestamp) return `persistentvolumeclaim "${name}" is being deleted`;
    if (volume.ephemeral && !isClaimOfPod(claim, pod)) return foreignClaimMessage(pod, name);
  }
  return undefined;
}

export const notFoundMessage = (name: string): string => `persistentvolumeclaim "${name}" not found`;

export function foreignClaimMessage({ metadata: { namespace, name } }: Pod, claim: string): string {
  return `PVC ${namespace}/${claim} was not created for pod ${namespace}/${name} (pod is not owner)`;
}

/** Only for pods without a claimProblem. */
export function podVolumes(pod: Pod, state: VolumeState): PodVolumes | { readonly rejected: string } {
  const bound: { claim: PersistentVolumeClaim; volume?: PersistentVolume }[] = [];
  const delayed: DelayedClaim[] = [];
  for (const name of new Set(claimNames(pod))) {
    const claim = state.claim(pod.metadata.namespace, name)!;
    const { volumeName } = claim.spec;
    if (volumeName && isClaimFullyBound(claim)) {
      const volume = state.volume(volumeName);
      bound.push(volume ? { claim, volume } : { claim });
      continue;
    }
    const storageClass = state.sources.storageClasses.get(claimClass(claim));
    // A claim that names its volume is the binder's to bind, as one of a class without delay.
    if (!storageClass || !isDelayedBinding(storageClass) || volumeName)
      return { rejected: reasons.unboundImmediate };
    const selectedNode = claim.metadata.annotations?.[volumeAnnotations.selectedNode];
    const volumes = selectedNode === undefined ? state.volumesOfClass(claimClass(claim)) : [];
    delayed.push({
      claim,
      storageClass,
      selectedNode,
      choices: new VolumeChoices(claim, volumes, (volume) => state.hostnamesOf(volume)),
    });
  }
  const size = ({ claim }: DelayedClaim): string => claim.spec.resources?.requests?.['storage'] ?? '0';
  if (delayed.length > 1) delayed.sort((a, b) => compareQuantities(size(a), size(b)));
  return { bound, delayed };
}

/** Whether the pod's volumes can be used on the node, or be got for it. */
export function decide({ bound, delayed }: PodVolumes, node: Node, state: VolumeState): Judgement {
  const nodeLabels = node.metadata.labels ?? {};
  const rejected: string[] = [];
  const missing = bound.some(({ volume }) => volume === undefined);
  if (bound.some(({ volume }) => volume && !volumeFitsNode(volume, nodeLabels)))
    rejected.push(reasons.nodeConflict);
  const bindings: { claim: PersistentVolumeClaim; volume: PersistentVolume }[] = [];
  const toProvision: DelayedClaim[] = [];
  const taken = new Set<string>();
  let elsewhere = false;
  for (const one of delayed) {
    if (one.selectedNode !== undefined) {
      if (one.selectedNode === node.metadata.name) toProvision.push(one);
      else elsewhere = true;
      continue;
    }
    const volume = one.choices.choose(nodeLabels, taken);
    if (volume) {
      taken.add(volume.metadata.name);
      bindings.push({ claim: one.claim, volume });
    } else toProvision.push(one);
  }
  const obstacle = elsewhere ? reasons.bindConflict : provisioningObstacle(toProvision, node, state);
  if (obstacle !== undefined) rejected.push(obstacle);
  if (missing) rejected.push(reasons.volumeMissing);
  if (rejected.length > 0) return { rejected };
  return { bindings, provisions: toProvision.map(({ claim }) => claim) };
}

/** More nodes than this are no shortcut. */
const MOST_LIKELY_NODES = 100;

/** The nodes outside of which `decide` rejects, where volumes say so by hostname; undefined: it may be any node. */
export function likelyNodes(
  { bound, delayed }: PodVolumes,
  snapshot: Snapshot,
): ReadonlySet<string> | undefined {
  let likely: ReadonlySet<string> | undefined;
  const narrow = (nodes: ReadonlySet<string>): void => {
    likely = likely ? likely.intersection(nodes) : nodes;
  };
  const nodesOf = (hostnames: Iterable<string>): ReadonlySet<string> => {
    const names = new Set<string>();
    for (const hostname of hostnames) for (const name of snapshot.nodesOfHost(hostname)) names.add(name);
    return names;
  };
  for (const { volume } of bound) {
    const hostnames = volume && hostnamesOf(volume);
    if (hostnames) narrow(nodesOf(hostnames));
  }
  for (const { selectedNode, storageClass, choices } of delayed) {
    if (selectedNode !== undefined) narrow(new Set([selectedNode]));
    else if (storageClass.provisioner === NO_PROVISIONER) {
      const hostnames = choices.hostnames(MOST_LIKELY_NODES);
      if (hostnames) narrow(nodesOf(hostnames));
    }
  }
  return likely && likely.size <= MOST_LIKELY_NODES ? likely : undefined;
}

function provisioningObstacle(
  claims: readonly DelayedClaim[],
  node: Node,
  state: VolumeState,
): string | undefined {
  for (const { claim, storageClass } of claims) {
    const { provisioner, allowedTopologies } = storageClass;
    if (!provisioner || provisioner === NO_PROVISIONER) return reasons.bindConflict;
    if (!topologyAllows(allowedTopologies, node.metadata.labels)) return reasons.bindConflict;
    if (!hasCapacity(claim, storageClass, node, state)) return reasons.notEnoughSpace;
  }
  return undefined;
}

/** KEP-1472: only drivers that say so publish how much they have left, and where. */
function hasCapacity(
  claim: PersistentVolumeClaim,
  storageClass: StorageClass,
  node: Node,
  { sources }: VolumeState,
): boolean {
  const requested = claim.spec.resources?.requests?.['storage'];
  if (requested === undefined) return true;
  if (sources.csiDrivers.get(storageClass.provisioner)?.spec.storageCapacity !== true) return true;
  const bytes = quantityToNumber(requested);
  for (const capacity of sources.capacitiesByClass.get(storageClass.metadata.name)) {
    if ((capacityLimit(capacity) ?? -1) < bytes || !capacity.nodeTopology) continue;
    if (labelSelectorMatcher(capacity.nodeTopology).matches(node.metadata.labels)) return true;
  }
  return false;
}

/** The largest volume that can be had, bytes; undefined when the driver does not know of any. */
export function capacityLimit({ maximumVolumeSize, capacity }: CSIStorageCapacity): number | undefined {
  const limit = maximumVolumeSize ?? capacity;
  return limit === undefined ? undefined : quantityToNumber(limit);
}
