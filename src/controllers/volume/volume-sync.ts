// The volume's half of the binder: one look at one volume. Follows syncVolume of upstream's pv_controller.go: the phase
// says whether its claim is there, a binding that lost is taken back, and a volume whose claim is gone is reclaimed by
// its policy. What lies on disks is the business of provisioners; here only phases change.

import { volumeAnnotations, volumeModesMatch } from '../../api/index.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import { type EventRecorder, keyOf, referenceTo, resources } from '../../client/index.ts';
import type { BinderEvents } from './binder-events.ts';
import { type BindingWrites, isGivenUp } from './binding-writes.ts';
import { claimKeyOf } from './claim-indexes.ts';
import { driverFor, isInTree } from './migrated-plugins.ts';

const type = resources.persistentVolumes;

export interface VolumeSyncContext {
  readonly recorder: EventRecorder;
  readonly events: BinderEvents;
  readonly writes: BindingWrites;
  readonly claim: (key: string) => PersistentVolumeClaim | undefined;
  readonly enqueueClaim: (key: string) => void;
}

export async function syncVolume(context: VolumeSyncContext, object: PersistentVolume): Promise<void> {
  const { writes } = context;
  const volume = await followMigration(context, object);
  const { claimRef } = volume.spec;
  // Without a uid it is reserved for a claim by name; the claim's own sync takes it.
  if (!claimRef?.uid) {
    await writes.setVolumePhase(volume, 'Available');
    return;
  }
  const claim = await claimOf(context, volume);
  if (!claim) await release(context, volume);
  else if (!claim.spec.volumeName) await waitForClaim(context, volume, claim);
  else if (claim.spec.volumeName === volume.metadata.name) await writes.setVolumePhase(volume, 'Bound');
  else if (isProvisioned(volume) && volume.spec.persistentVolumeReclaimPolicy === 'Delete')
    // It was made for a claim that has taken another one since.
    await release(context, volume);
  else await writes.unbind(volume);
}

function isProvisioned(volume: PersistentVolume): boolean {
  return volume.metadata.annotations?.[volumeAnnotations.provisionedBy] !== undefined;
}

async function followMigration(
  { writes }: VolumeSyncContext,
  volume: PersistentVolume,
): Promise<PersistentVolume> {
  const { annotations = {} } = volume.metadata;
  const { provisionedBy, migratedTo } = volumeAnnotations;
  const provisioner = annotations[provisionedBy];
  if (provisioner === undefined) return volume;
  const driver = driverFor(provisioner);
  if (annotations[migratedTo] === driver) return volume;
  const { [migratedTo]: _old, ...rest } = annotations;
  return writes.updateVolume({
    ...volume,
    metadata: {
      ...volume.metadata,
      annotations: driver === undefined ? rest : { ...rest, [migratedTo]: driver },
    },
  });
}

/**
 * The very claim that the volume points to. The cache may be behind whoever made the volume (data must not go for that)
 * or whoever saw the claim go (both would write against one another): where it contradicts the volume the server says.
 */
async function claimOf(
  { writes, claim: cached }: VolumeSyncContext,
  volume: PersistentVolume,
): Promise<PersistentVolumeClaim | undefined> {
  const reference = volume.spec.claimRef!;
  const known = cached(claimKeyOf(reference));
  const givenUp = isGivenUp(volume);
  if (known?.metadata.uid === reference.uid && !givenUp) return known;
  if (!known && givenUp) return undefined;
  return writes.liveClaim(reference);
}

/** Half bound: the claim's sync finishes it. */
async function waitForClaim(
  { recorder, events, enqueueClaim }: VolumeSyncContext,
  volume: PersistentVolume,
  claim: PersistentVolumeClaim,
): Promise<void> {
  if (volumeModesMatch(claim, volume)) {
    enqueueClaim(keyOf(claim));
    return;
  }
  const why = 'due to incompatible volumeMode.';
  const { name } = volume.metadata;
  recorder.event(
    referenceTo(type, volume),
    'Warning',
    'VolumeMismatch',
    `Cannot bind PersistentVolume to requested PersistentVolumeClaim "${claim.metadata.name}" ${why}`,
  );
  const message = `Cannot bind PersistentVolume "${name}" to requested PersistentVolumeClaim ${why}`;
  events.say(claim, 'Warning', 'VolumeMismatch', message);
}

// ---- reclaiming

async function release(context: VolumeSyncContext, volume: PersistentVolume): Promise<void> {
  const released = isGivenUp(volume) ? volume : await context.writes.setVolumePhase(volume, 'Released');
  await reclaim(context, released);
}

async function reclaim(context: VolumeSyncContext, volume: PersistentVolume): Promise<void> {
  // The driver's provisioner acts on the phase.
  if (volume.metadata.annotations?.[volumeAnnotations.migratedTo] !== undefined) return;
  switch (volume.spec.persistentVolumeReclaimPolicy) {
    case 'Retain':
      return;
    case 'Recycle':
      await fail(context, volume, 'VolumeFailedRecycle', recycleComplaint(volume));
      return;
    case 'Delete': {
      const complaint = deleteComplaint(volume);
      if (complaint !== undefined) await fail(context, volume, 'VolumeFailedDelete', complaint);
      return;
    }
    default:
      await fail(
        context,
        volume,
        'VolumeUnknownReclaimPolicy',
        'Volume has unrecognized PersistentVolumeReclaimPolicy',
      );
  }
}

async function fail(
  { recorder, writes }: VolumeSyncContext,
  volume: PersistentVolume,
  reason: string,
  message: string,
): Promise<void> {
  if (volume.status.phase === 'Failed') return;
  const failed = await writes.setVolumePhase(volume, 'Failed', message);
  recorder.event(referenceTo(type, failed), 'Warning', reason, message);
}

/** Recycling was deprecated with dynamic provisioning; only two kinds of volume could ever be recycled. */
function recycleComplaint({ spec }: PersistentVolume): string {
  if (spec.hostPath === undefined && spec.nfs === undefined)
    return 'No recycler plugin found for the volume!';
  return 'Recycle failed: the policy Recycle is deprecated and this version of Bulkhead runs no recycler pods; empty the volume by hand and remove its claimRef, or use a class that provisions volumes';
}

/** Why nobody will delete what the volume stands for; undefined when a provisioner of its own does. */
function deleteComplaint({ metadata, spec }: PersistentVolume): string | undefined {
  const provisioner = metadata.annotations?.[volumeAnnotations.provisionedBy];
  if (provisioner) return isInTree(provisioner) ? `no volume plugin matched name: ${provisioner}` : undefined;
  if (spec.csi !== undefined) return undefined;
  if (spec.hostPath !== undefined)
    return `host_path deleter is not part of this version of Bulkhead: ${spec.hostPath.path} is left as it is, delete it on its node and then the volume`;
  return `error getting deleter volume plugin for volume "${metadata.name}": no deletable volume plugin matched`;
}
