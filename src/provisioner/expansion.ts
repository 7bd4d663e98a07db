// A claim that asks for more than its volume has (KEP-284): a directory has no size of its own, so that only the numbers
// change, first the volume's, then the claim's, as an external resizer does it.

import { compareQuantities, withoutCondition } from '../api/index.ts';
import type {
  PersistentVolume,
  PersistentVolumeClaim,
  PersistentVolumeClaimCondition,
} from '../api/types/core-v1.ts';
import { type Client, type EventRecorder, referenceTo, resources } from '../client/index.ts';

export function needsExpansion({ metadata, spec, status }: PersistentVolumeClaim): boolean {
  if (status.phase !== 'Bound' || metadata.deletionTimestamp !== undefined) return false;
  const wanted = spec.resources?.requests?.['storage'];
  const has = status.capacity?.['storage'];
  return wanted !== undefined && has !== undefined && compareQuantities(wanted, has) > 0;
}

/** May be done again at any step. */
export async function expand(
  { client, recorder }: { readonly client: Client; readonly recorder: EventRecorder },
  claim: PersistentVolumeClaim,
  volume: PersistentVolume,
): Promise<void> {
  const storage = claim.spec.resources?.requests?.['storage'] ?? '0';
  const about = referenceTo(resources.persistentVolumeClaims, claim);
  if (compareQuantities(volume.spec.capacity?.['storage'] ?? '0', storage) < 0) {
    recorder.event(
      about,
      'Normal',
      'Resizing',
      `External resizer is resizing volume ${volume.metadata.name}`,
    );
    await client.resource(resources.persistentVolumes).update({
      ...volume,
      spec: { ...volume.spec, capacity: { ...volume.spec.capacity, storage } },
    });
  }
  const { allocatedResourceStatuses: _statuses, ...status } = claim.status;
  let conditions: readonly PersistentVolumeClaimCondition[] = status.conditions ?? [];
  for (const type of ['Resizing', 'FileSystemResizePending']) conditions = withoutCondition(conditions, type);
  await client.resource(resources.persistentVolumeClaims, claim.metadata.namespace).updateStatus({
    ...claim,
    status: {
      ...status,
      conditions: [...conditions],
      capacity: { ...status.capacity, storage },
      allocatedResources: { ...status.allocatedResources, storage },
    },
  });
  recorder.event(about, 'Normal', 'VolumeResizeSuccessful', 'Resize volume succeeded');
}
