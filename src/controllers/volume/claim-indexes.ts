// Index functions over claims, volumes and pods that the controllers of storage share, and who uses a claim. The same
// function means the same index in a shared informer.

import { claimClass, claimNameOf, isPodTerminal } from '../../api/index.ts';
import type {
  ObjectReference,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
} from '../../api/types/core-v1.ts';
import { type Index, makeKey } from '../../client/index.ts';

/** `namespace/name` of the claim that a volume points to. */
export function claimKeyOf(reference: ObjectReference): string {
  return makeKey(reference.namespace, reference.name ?? '');
}

export function volumesByClaim(volume: PersistentVolume): readonly string[] {
  return volume.spec.claimRef ? [claimKeyOf(volume.spec.claimRef)] : [];
}

export function claimsByVolume(claim: PersistentVolumeClaim): readonly string[] {
  return claim.spec.volumeName ? [claim.spec.volumeName] : [];
}

/** Claims that have no volume and ask for none by name, by class. */
export function waitingClaimsByClass(claim: PersistentVolumeClaim): readonly string[] {
  return claim.spec.volumeName ? [] : [claimClass(claim)];
}

/** The keys of all claims that a pod's volumes stand for, those of ephemeral volumes included. */
export function podsByClaim(pod: Pod): readonly string[] {
  const keys = new Set<string>();
  for (const volume of pod.spec.volumes ?? []) {
    const name = claimNameOf(pod, volume);
    if (name !== undefined) keys.add(makeKey(pod.metadata.namespace, name));
  }
  return [...keys];
}

/** Pods that name the claim, have not ended and have no node yet. */
export function unscheduledPods(index: Index<Pod>, claimKey: string): Pod[] {
  return index.list(claimKey).filter((pod) => !isPodTerminal(pod) && !pod.spec.nodeName);
}
