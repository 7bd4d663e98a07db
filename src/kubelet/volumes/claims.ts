// From the volume of a pod to the persistent volume behind it: the claim must be there and bound, and volume and claim
// must name one another, uid and all. A claim deleted and made anew under its old name has no right to the old data.

import { claimNameOf, isClaimOfPod, volumeFitsNode } from '../../api/index.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod, Volume } from '../../api/types/core-v1.ts';
import { containersOf } from '../pod.ts';
import type { References } from '../references.ts';
import { messageOf } from '../text.ts';
import { VolumeError } from './payload.ts';

/** The volume cannot be worked on at all yet; `message` is to stand behind what names the volumes (see manager.ts). */
export class ClaimError extends VolumeError {}

/** The volume is known but could not be made. `message` is the whole text of the event. */
export class SetUpError extends VolumeError {
  readonly reason: 'FailedMount' | 'FailedMapVolume';

  /** `step` as upstream names it: `MountVolume.SetUp`. */
  constructor(step: string, volume: PersistentVolume, why: string, cause?: unknown) {
    super(`${step} failed for volume "${volume.metadata.name}" : ${why}`, { cause });
    this.reason = step.startsWith('MapVolume') ? 'FailedMapVolume' : 'FailedMount';
  }
}

export interface ClaimedVolume {
  readonly claim: PersistentVolumeClaim;
  readonly volume: PersistentVolume;
  /** The pod may not write, whatever its containers' mounts say. */
  readonly readOnly: boolean;
  readonly block: boolean;
}

export interface ClaimSources {
  readonly references: Pick<References, 'persistentVolumeClaim' | 'persistentVolume'>;
  /** Undefined before the node is known. */
  readonly nodeLabels: () => Readonly<Record<string, string>> | undefined;
}

/** How the pod's containers use a volume. */
export function usesOf(pod: Pod, volumeName: string): { mounted: boolean; device: boolean } {
  let mounted = false;
  let device = false;
  for (const { container } of containersOf(pod)) {
    mounted ||= (container.volumeMounts ?? []).some(({ name }) => name === volumeName);
    device ||= (container.volumeDevices ?? []).some(({ name }) => name === volumeName);
  }
  return { mounted, device };
}

/**
 * The bound volume behind a pod's volume, which must be of a claim. Rejects with ClaimError; the pod is woken when claim
 * or volume change. `inUse` tells whether the pod has the volume already: then a claim that is being deleted will do.
 */
export async function claimedVolume(
  pod: Pod,
  volume: Volume,
  { references }: ClaimSources,
  inUse: (volume: PersistentVolume) => Promise<boolean>,
  signal: AbortSignal,
): Promise<ClaimedVolume> {
  const { namespace = '' } = pod.metadata;
  const name = claimNameOf(pod, volume)!;
  const refuse = (why: string): never => {
    throw new ClaimError(`error processing PVC ${namespace}/${name}: ${why}`);
  };
  const claim =
    (await references.persistentVolumeClaim(pod, name, signal)) ??
    refuse(`failed to fetch PVC from API server: persistentvolumeclaims "${name}" not found`);
  if (volume.ephemeral && !isClaimOfPod(claim, pod))
    refuse(
      `PVC ${namespace}/${name} was not created for pod ${namespace}/${pod.metadata.name} (pod is not owner)`,
    );
  const { volumeName } = claim.spec;
  const bound = claim.status?.phase === 'Bound' && volumeName ? volumeName : refuse('PVC is not bound');
  const persistent = await references.persistentVolume(bound, signal).catch((error: unknown) => {
    if (signal.aborted) throw error;
    return refuse(`failed to fetch PV ${bound} from API server: ${messageOf(error)}`);
  });
  const { claimRef, volumeMode = 'Filesystem' } = persistent.spec;
  if (!claimRef)
    refuse(
      `found PV object ${bound} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim`,
    );
  if (claimRef?.uid !== claim.metadata.uid)
    refuse(
      `found PV object ${bound} but its pv.Spec.ClaimRef.UID ${JSON.stringify(claimRef?.uid ?? '')} does not point to claim.UID ${JSON.stringify(claim.metadata.uid)}`,
    );
  if (claim.metadata.deletionTimestamp && !(await inUse(persistent))) refuse('PVC is being deleted');
  const { mounted, device } = usesOf(pod, volume.name);
  if (mounted && volumeMode !== 'Filesystem')
    refuse(`volume ${volume.name} has volumeMode ${volumeMode}, but is specified in volumeMounts`);
  if (device && volumeMode !== 'Block')
    refuse(`volume ${volume.name} has volumeMode ${volumeMode}, but is specified in volumeDevices`);
  return {
    claim,
    volume: persistent,
    readOnly: volume.persistentVolumeClaim?.readOnly === true,
    block: volumeMode === 'Block',
  };
}

/** Throws SetUpError when the volume does not belong on this node. */
export function checkNodeAffinity(
  volume: PersistentVolume,
  nodeLabels: Readonly<Record<string, string>> | undefined,
): void {
  if (nodeLabels && !volumeFitsNode(volume, nodeLabels))
    throw new SetUpError('MountVolume.NodeAffinity check', volume, 'no matching NodeSelectorTerms');
}
