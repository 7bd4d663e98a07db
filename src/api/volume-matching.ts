// Which persistent volume serves which claim: the rules that the binder and the scheduler must agree on, or each would
// undo what the other decides (component-helpers' storage/volume). Pure: whoever asks brings the volumes. Also the
// annotations and the small questions about claims, volumes and classes that go with it.

import { labelSelectorMatcher } from './labels.ts';
import { matchesNodeSelector } from './node-selection.ts';
import { compareQuantities, parseQuantity, type Quantity } from './quantity.ts';
import type {
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  TopologySelectorTerm,
  Volume,
} from './types/core-v1.ts';
import type { StorageClass } from './types/storage-v1.ts';

export const volumeAnnotations = {
  /** On a claim: its binding is complete. */
  bindCompleted: 'pv.kubernetes.io/bind-completed',
  /** On a claim or volume: the binder chose the other side, not the user. */
  boundByController: 'pv.kubernetes.io/bound-by-controller',
  /** On a claim: the node for which the scheduler wants the volume provisioned. */
  selectedNode: 'volume.kubernetes.io/selected-node',
  /** On a claim: who is to provision its volume; the second is its older name. */
  storageProvisioner: 'volume.kubernetes.io/storage-provisioner',
  betaStorageProvisioner: 'volume.beta.kubernetes.io/storage-provisioner',
  /** On a volume: who provisioned it. */
  provisionedBy: 'pv.kubernetes.io/provisioned-by',
  /** On both: another driver has taken over from the one that is named in the object. */
  migratedTo: 'pv.kubernetes.io/migrated-to',
  betaStorageClass: 'volume.beta.kubernetes.io/storage-class',
} as const;

/** The provisioner of classes whose volumes somebody makes by hand. */
export const NO_PROVISIONER = 'kubernetes.io/no-provisioner';

type Labels = Readonly<Record<string, string>>;

/** The claim's storage class, '' for none; the annotation, where there is one, goes before the field. */
export function claimClass(claim: PersistentVolumeClaim): string {
  return (
    claim.metadata.annotations?.[volumeAnnotations.betaStorageClass] ?? claim.spec.storageClassName ?? ''
  );
}

export function volumeClass(volume: PersistentVolume): string {
  return (
    volume.metadata.annotations?.[volumeAnnotations.betaStorageClass] ?? volume.spec.storageClassName ?? ''
  );
}

/** Whether binding waits for a pod that uses the claim. `storageClass` is the claim's own; absent when there is none. */
export function isDelayedBinding(storageClass: StorageClass | undefined): boolean {
  return storageClass?.volumeBindingMode === 'WaitForFirstConsumer';
}

/** Whether the binder or the user has given the volume to this claim; a reference without a uid fits any of the name. */
export function isVolumeBoundToClaim(volume: PersistentVolume, claim: PersistentVolumeClaim): boolean {
  const reference = volume.spec.claimRef;
  return (
    reference !== undefined &&
    reference.name === claim.metadata.name &&
    reference.namespace === claim.metadata.namespace &&
    (!reference.uid || reference.uid === claim.metadata.uid)
  );
}

/** Whether the claim's binding is complete, as its own side tells it. */
export function isClaimFullyBound(claim: PersistentVolumeClaim): boolean {
  return (
    !!claim.spec.volumeName && claim.metadata.annotations?.[volumeAnnotations.bindCompleted] !== undefined
  );
}

/** The volume given to the claim, as a new object; the same object when it already is. */
export function bindVolumeToClaim(volume: PersistentVolume, claim: PersistentVolumeClaim): PersistentVolume {
  const { name, namespace, uid, resourceVersion } = claim.metadata;
  const reference = volume.spec.claimRef;
  if (reference?.name === name && reference.namespace === namespace && reference.uid === uid) return volume;
  const claimRef = {
    kind: 'PersistentVolumeClaim',
    apiVersion: 'v1',
    namespace,
    name,
    uid,
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  };
  // A reference that the user wrote stays the user's when its uid is filled in.
  const ours = !isVolumeBoundToClaim(volume, claim);
  const annotations = ours
    ? { [volumeAnnotations.boundByController]: 'yes', ...volume.metadata.annotations }
    : volume.metadata.annotations;
  return {
    ...volume,
    metadata: annotations ? { ...volume.metadata, annotations } : volume.metadata,
    spec: { ...volume.spec, claimRef },
  };
}

/** Every mode that the claim asks for is one of the volume's. */
export function accessModesMatch(claim: PersistentVolumeClaim, volume: PersistentVolume): boolean {
  const offered = volume.spec.accessModes ?? [];
  return (claim.spec.accessModes ?? []).every((mode) => offered.includes(mode));
}

export function volumeModesMatch(claim: PersistentVolumeClaim, volume: PersistentVolume): boolean {
  return (claim.spec.volumeMode ?? 'Filesystem') === (volume.spec.volumeMode ?? 'Filesystem');
}

/** Whether the volume can be used on a node with these labels. */
export function volumeFitsNode(volume: PersistentVolume, nodeLabels: Labels | undefined): boolean {
  const required = volume.spec.nodeAffinity?.required;
  // Only labels count: a term about a node's fields fits none, as upstream.
  return !required || matchesNodeSelector(required, { metadata: { name: '', labels: nodeLabels } } as Node);
}

/** Whether a class may provision for a node with these labels; no terms: for any. */
export function topologyAllows(
  terms: readonly TopologySelectorTerm[] | undefined,
  nodeLabels: Labels | undefined,
): boolean {
  if (!terms || terms.length === 0) return true;
  return terms.some(({ matchLabelExpressions: expressions = [] }) => {
    if (expressions.length === 0) return false;
    return expressions.every(({ key, values }) => {
      const value = nodeLabels && Object.hasOwn(nodeLabels, key) ? nodeLabels[key] : undefined;
      return value !== undefined && values.includes(value);
    });
  });
}

/** The volumes that could serve a claim, wherever its pod will run. */
export interface VolumeCandidates {
  /** Given to the claim already: no other volume will do. */
  readonly given: readonly PersistentVolume[];
  /** Free ones, the smallest first. */
  readonly free: readonly PersistentVolume[];
}

/** All rules but the node's and access modes of volumes given already. Throws SelectorError for a selector that is none. */
export function candidateVolumes(
  claim: PersistentVolumeClaim,
  volumes: Iterable<PersistentVolume>,
): VolumeCandidates {
  const requested = parseQuantity(claim.spec.resources?.requests?.['storage'] ?? '0');
  const wantedClass = claimClass(claim);
  const wantedAttributes = claim.spec.volumeAttributesClassName ?? '';
  const selector = claim.spec.selector ? labelSelectorMatcher(claim.spec.selector) : undefined;
  // Most volumes of a class are of one size.
  const sizes = new Map<string, Quantity>();
  const sizeOf = (text = '0'): Quantity => {
    const known = sizes.get(text);
    if (known) return known;
    const size = parseQuantity(text);
    sizes.set(text, size);
    return size;
  };
  const given: PersistentVolume[] = [];
  const free: { readonly volume: PersistentVolume; readonly capacity: Quantity }[] = [];
  for (const volume of volumes) {
    const { spec, metadata, status } = volume;
    const mine = isVolumeBoundToClaim(volume, claim);
    // What costs least first: this runs over every volume of the cluster.
    if (spec.claimRef && !mine) continue;
    if (!mine) {
      // Volumes in other phases are about to be changed by the binder; choosing one would mostly end in a conflict.
      if (status.phase !== 'Available' || volumeClass(volume) !== wantedClass) continue;
      if (!accessModesMatch(claim, volume)) continue;
      if (selector && !selector.matches(metadata.labels)) continue;
    }
    if (metadata.deletionTimestamp || !volumeModesMatch(claim, volume)) continue;
    if ((spec.volumeAttributesClassName ?? '') !== wantedAttributes) continue;
    const size = sizeOf(spec.capacity?.['storage']);
    if (compareQuantities(size, requested) < 0) continue;
    if (mine) given.push(volume);
    else free.push({ volume, capacity: size });
  }
  free.sort((a, b) => compareQuantities(a.capacity, b.capacity));
  return { given, free: free.map(({ volume }) => volume) };
}

export interface VolumeChoice {
  /** The labels of the node that the volume must be usable on; absent: any node. */
  readonly nodeLabels?: Labels | undefined;
  /** Names of volumes that are promised to other claims. */
  readonly excluded?: ReadonlySet<string> | undefined;
}

/** The volume of the candidates that the claim gets: the one given to it, or else the smallest. */
export function chooseVolume(
  { given, free }: VolumeCandidates,
  { nodeLabels, excluded }: VolumeChoice = {},
): PersistentVolume | undefined {
  const usable = (volume: PersistentVolume): boolean => !nodeLabels || volumeFitsNode(volume, nodeLabels);
  const allowed = (volume: PersistentVolume): boolean => !excluded?.has(volume.metadata.name);
  const own = given.find(allowed);
  // When the given one does not fit the node, the node does not fit the claim.
  if (own) return usable(own) ? own : undefined;
  return free.find((volume) => allowed(volume) && usable(volume));
}

/** The best volume for the claim among all, for a node when one is named. */
export function findMatchingVolume(
  claim: PersistentVolumeClaim,
  volumes: Iterable<PersistentVolume>,
  choice: VolumeChoice = {},
): PersistentVolume | undefined {
  return chooseVolume(candidateVolumes(claim, volumes), choice);
}

/**
 * The volume that the binder gives to the claim. Among the volumes that offer all modes asked for, those that offer the
 * fewest more are looked at first: a volume that several nodes can use is not spent on a claim for one. With
 * `delayBinding` only a volume given to the claim is found; the scheduler chooses among the others.
 */
export function findVolumeToBind(
  claim: PersistentVolumeClaim,
  volumes: Iterable<PersistentVolume>,
  { delayBinding }: { readonly delayBinding: boolean },
): PersistentVolume | undefined {
  const byModes = new Map<string, PersistentVolume[]>();
  for (const volume of volumes) {
    if (!accessModesMatch(claim, volume)) continue;
    const modes = [...new Set(volume.spec.accessModes)].sort().join(',');
    const group = byModes.get(modes);
    if (group) group.push(volume);
    else byModes.set(modes, [volume]);
  }
  const count = (modes: string): number => modes.split(',').length;
  const groups = [...byModes].sort(([a], [b]) => count(a) - count(b) || (a < b ? -1 : 1));
  for (const [, group] of groups) {
    const candidates = candidateVolumes(claim, group);
    const found = chooseVolume(delayBinding ? { given: candidates.given, free: [] } : candidates);
    if (found) return found;
  }
  return undefined;
}

/** The name of the claim that the volume of a pod stands for; undefined when it needs none. */
export function claimNameOf(pod: Pick<Pod, 'metadata'>, volume: Volume): string | undefined {
  if (volume.persistentVolumeClaim) return volume.persistentVolumeClaim.claimName;
  // A generic ephemeral volume's claim bears the pod's and the volume's name (KEP-1698).
  return volume.ephemeral ? `${pod.metadata.name}-${volume.name}` : undefined;
}

/** Whether the claim was made for the pod's ephemeral volume: one of the same name may be somebody else's. */
export function isClaimOfPod(claim: PersistentVolumeClaim, pod: Pick<Pod, 'metadata'>): boolean {
  return (
    claim.metadata.namespace === pod.metadata.namespace &&
    (claim.metadata.ownerReferences ?? []).some(
      ({ controller, uid }) => controller === true && uid === pod.metadata.uid,
    )
  );
}
