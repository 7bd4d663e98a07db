// The claim's half of the binder: one look at one claim. Follows syncClaim of upstream's pv_controller.go: an unbound
// claim is given the volume that it names, one made for it, a matching free one, or is handed to a provisioner; a bound
// one is checked against its volume and declared lost when that is gone.

import {
  accessModesMatch,
  claimClass,
  compareQuantities,
  findDefaultStorageClass,
  findVolumeToBind,
  isConflict,
  isDelayedBinding,
  isNotFound,
  isVolumeBoundToClaim,
  volumeAnnotations,
  volumeClass,
  volumeModesMatch,
} from '../../api/index.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod } from '../../api/types/core-v1.ts';
import type { StorageClass } from '../../api/types/storage-v1.ts';
import {
  type Client,
  type EventRecorder,
  type Index,
  keyOf,
  referenceTo,
  resources,
} from '../../client/index.ts';
import { messageOf } from '../pods/pod-control.ts';
import type { BinderEvents } from './binder-events.ts';
import type { BindingWrites, ClaimPhase } from './binding-writes.ts';
import { claimKeyOf, unscheduledPods } from './claim-indexes.ts';
import type { FreeVolumes } from './free-volumes.ts';
import { driverFor, isInTree } from './migrated-plugins.ts';

const type = resources.persistentVolumeClaims;

export interface ClaimSyncContext {
  readonly client: Client;
  readonly recorder: EventRecorder;
  readonly events: BinderEvents;
  readonly writes: BindingWrites;
  readonly volume: (name: string) => PersistentVolume | undefined;
  /** Volumes that point to the claim, by its key. */
  readonly given: (key: string) => readonly PersistentVolume[];
  readonly free: FreeVolumes;
  readonly classes: {
    get(name: string): StorageClass | undefined;
    values(): Iterable<StorageClass>;
  };
  readonly pods: Index<Pod>;
}

export async function syncClaim(context: ClaimSyncContext, claim: PersistentVolumeClaim): Promise<void> {
  const current = await followMigration(context, claim);
  if (current.metadata.annotations?.[volumeAnnotations.bindCompleted] !== undefined)
    await syncBound(context, current);
  else if (current.spec.volumeName) await syncReserving(context, current, current.spec.volumeName);
  else await syncUnbound(context, current);
}

/** A claim that was handed to a plugin of old is its successor's to serve. */
async function followMigration(
  { writes }: ClaimSyncContext,
  claim: PersistentVolumeClaim,
): Promise<PersistentVolumeClaim> {
  const { annotations = {} } = claim.metadata;
  const { storageProvisioner, betaStorageProvisioner, migratedTo } = volumeAnnotations;
  const provisioner = annotations[storageProvisioner] ?? annotations[betaStorageProvisioner];
  if (provisioner === undefined) return claim;
  const driver = driverFor(provisioner);
  if (annotations[migratedTo] === driver) return claim;
  const { [migratedTo]: _old, ...rest } = annotations;
  return writes.updateClaim({
    ...claim,
    metadata: {
      ...claim.metadata,
      annotations: driver === undefined ? rest : { ...rest, [migratedTo]: driver },
    },
  });
}

// ---- unbound

async function syncUnbound(context: ClaimSyncContext, claim: PersistentVolumeClaim): Promise<void> {
  const { events, writes, classes } = context;
  const name = claimClass(claim);
  const storageClass = name === '' ? undefined : classes.get(name);
  const delayed = isDelayedBinding(storageClass);
  const volume = volumeFor(context, claim, delayed);
  if (volume) {
    await writes.bind(volume, claim);
    return;
  }
  if (await assignDefaultClass(context, claim)) return;
  if (delayed && !claim.metadata.annotations?.[volumeAnnotations.selectedNode])
    events.say(claim, 'Normal', ...waitingFor(unscheduledPods(context.pods, keyOf(claim))));
  else if (name !== '') {
    await provision(context, claim, name, storageClass);
    return;
  } else
    events.say(
      claim,
      'Normal',
      'FailedBinding',
      'no persistent volumes available for this claim and no storage class is set',
    );
  await writes.setClaimPhase(claim, 'Pending');
}

/** The one given to it, or, when the scheduler does not choose, the best free one. */
function volumeFor(
  { given, free }: ClaimSyncContext,
  claim: PersistentVolumeClaim,
  delayBinding: boolean,
): PersistentVolume | undefined {
  const own = findVolumeToBind(claim, given(keyOf(claim)), { delayBinding });
  if (own || delayBinding) return own;
  return free.best(claim, (volume) => findVolumeToBind(claim, [volume], { delayBinding }) !== undefined);
}

function waitingFor(pods: readonly Pod[]): [reason: string, message: string] {
  if (pods.length === 0)
    return ['WaitForFirstConsumer', 'waiting for first consumer to be created before binding'];
  const names = pods.map((pod) => pod.metadata.name).toSorted();
  const who = names.length === 1 ? `pod ${names[0]}` : `pods ${names.join(',')}`;
  return ['WaitForPodScheduled', `waiting for ${who} to be scheduled`];
}

/** A claim from before there was a default class gets it now (KEP-3333). True: it did. */
async function assignDefaultClass(
  { classes, writes }: ClaimSyncContext,
  claim: PersistentVolumeClaim,
): Promise<boolean> {
  if (claim.spec.storageClassName !== undefined) return false;
  if (claim.metadata.annotations?.[volumeAnnotations.betaStorageClass] !== undefined) return false;
  const found = findDefaultStorageClass(classes.values());
  if (!found) return false;
  await writes.updateClaim({
    ...claim,
    spec: { ...claim.spec, storageClassName: found.metadata.name },
  });
  return true;
}

/** Names the provisioner on the claim, which is what provisioners wait for. */
async function provision(
  { events, writes }: ClaimSyncContext,
  claim: PersistentVolumeClaim,
  className: string,
  storageClass: StorageClass | undefined,
): Promise<void> {
  if (!storageClass) {
    const message = `storageclass.storage.k8s.io "${className}" not found`;
    events.say(claim, 'Warning', 'ProvisioningFailed', message);
    return;
  }
  const driver = driverFor(storageClass.provisioner);
  if (driver === undefined && isInTree(storageClass.provisioner)) {
    const message = `no volume plugin matched name: ${storageClass.provisioner}`;
    events.say(claim, 'Warning', 'ProvisioningFailed', message);
    return;
  }
  const provisioner = driver ?? storageClass.provisioner;
  const { storageProvisioner, betaStorageProvisioner } = volumeAnnotations;
  if (claim.metadata.annotations?.[storageProvisioner] !== provisioner) {
    try {
      await writes.updateClaim({
        ...claim,
        metadata: {
          ...claim.metadata,
          annotations: {
            ...claim.metadata.annotations,
            [betaStorageProvisioner]: provisioner,
            [storageProvisioner]: provisioner,
          },
        },
      });
    } catch (error) {
      if (!isConflict(error) && !isNotFound(error))
        events.say(claim, 'Warning', 'ProvisioningFailed', `Error saving claim: ${messageOf(error)}`);
      throw error;
    }
  }
  events.say(
    claim,
    'Normal',
    'ExternalProvisioning',
    `Waiting for a volume to be created either by the external provisioner '${provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`,
  );
}

/** The user asked for this volume and no other. */
async function syncReserving(
  context: ClaimSyncContext,
  claim: PersistentVolumeClaim,
  volumeName: string,
): Promise<void> {
  const { events, writes } = context;
  const volume = context.volume(volumeName);
  if (!volume) {
    await writes.setClaimPhase(claim, 'Pending');
    return;
  }
  if (!volume.spec.claimRef) {
    const complaint = mismatch(volume, claim);
    if (complaint === undefined) {
      await writes.bind(volume, claim);
      return;
    }
    const message = `Cannot bind to requested volume "${volumeName}": ${complaint}`;
    events.say(claim, 'Warning', 'VolumeMismatch', message);
    await writes.setClaimPhase(claim, 'Pending');
    return;
  }
  if (isVolumeBoundToClaim(volume, claim)) {
    await writes.bind(volume, claim);
    return;
  }
  const message = `volume "${volumeName}" already bound to a different claim.`;
  events.say(claim, 'Warning', 'FailedBinding', message);
  if (claim.metadata.annotations?.[volumeAnnotations.boundByController] === undefined) {
    await writes.setClaimPhase(claim, 'Pending');
    return;
  }
  // Somebody took the mark of a finished binding away. Nothing here can mend that.
  throw new Error(
    `invalid binding of claim "${keyOf(claim)}" to volume "${volumeName}": volume already claimed by "${claimKeyOf(volume.spec.claimRef)}"`,
  );
}

/** Why a volume that the claim asks for by name cannot serve it. */
function mismatch(volume: PersistentVolume, claim: PersistentVolumeClaim): string | undefined {
  if (volume.metadata.deletionTimestamp !== undefined)
    return `the volume is marked for deletion "${volume.metadata.name}"`;
  const size = volume.spec.capacity?.['storage'] ?? '0';
  if (compareQuantities(size, claim.spec.resources?.requests?.['storage'] ?? '0') < 0)
    return 'requested PV is too small';
  if (volumeClass(volume) !== claimClass(claim)) return 'storageClassName does not match';
  const attributes = volume.spec.volumeAttributesClassName ?? '';
  if (attributes !== (claim.spec.volumeAttributesClassName ?? ''))
    return 'volumeAttributesClassName does not match';
  if (!volumeModesMatch(claim, volume)) return 'incompatible volumeMode';
  if (!accessModesMatch(claim, volume)) return 'incompatible accessMode';
  return undefined;
}

// ---- bound

async function syncBound(context: ClaimSyncContext, claim: PersistentVolumeClaim): Promise<void> {
  const { volumeName } = claim.spec;
  if (!volumeName) {
    await lose(
      context,
      claim,
      'ClaimLost',
      'Bound claim has lost reference to PersistentVolume. Data on the volume is lost!',
    );
    return;
  }
  const volume = context.volume(volumeName) ?? (await liveVolume(context, claim, volumeName));
  if (!volume) {
    await lose(
      context,
      claim,
      'ClaimLost',
      'Bound claim has lost its PersistentVolume. Data on the volume is lost!',
    );
    return;
  }
  const { claimRef } = volume.spec;
  if (!claimRef || claimRef.uid === claim.metadata.uid) {
    await context.writes.bind(volume, claim);
    return;
  }
  await lose(
    context,
    claim,
    'ClaimMisbound',
    'Two claims are bound to the same volume, this one is bound incorrectly',
  );
}

/** The cache of volumes may be behind that of claims; a claim is not declared lost for that. */
async function liveVolume(
  { client }: ClaimSyncContext,
  claim: PersistentVolumeClaim,
  name: string,
): Promise<PersistentVolume | undefined> {
  if (claim.status.phase === 'Lost') return undefined;
  try {
    return await client.resource(resources.persistentVolumes).get(name);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function lose(
  { recorder, writes }: ClaimSyncContext,
  claim: PersistentVolumeClaim,
  reason: string,
  message: string,
): Promise<void> {
  const phase: ClaimPhase = 'Lost';
  if (claim.status.phase === phase) return;
  const lost = await writes.setClaimPhase(claim, phase);
  recorder.event(referenceTo(type, lost), 'Warning', reason, message);
}
