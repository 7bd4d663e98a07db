// The persistent volume binder: brings claims and volumes together, from both sides, and follows them until both are
// gone. Each look at a claim is claim-sync.ts, at a volume volume-sync.ts; here is what makes them be looked at.
//
// Invariants
// - One look at a time, at claims and volumes alike: two claims are never given one volume by ourselves. Against others
//   (scheduler, provisioners, users, an earlier leader) every write is conditional on the version that was looked at.
// - Everything is derived from the objects; a crash between any two writes leaves a state that the next look finishes.
// - Nothing waits for a resync: a claim is looked at when something appears that it may wait for.

import { volumeAnnotations, volumeClass } from '../../api/index.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import type { StorageClass } from '../../api/types/storage-v1.ts';
import {
  createEventRecorder,
  keyOf,
  type ReconcileResult,
  resources,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { BinderEvents } from './binder-events.ts';
import { BindingWrites } from './binding-writes.ts';
import {
  claimKeyOf,
  claimsByVolume,
  podsByClaim,
  volumesByClaim,
  waitingClaimsByClass,
} from './claim-indexes.ts';
import { type ClaimSyncContext, syncClaim } from './claim-sync.ts';
import { FreeVolumes, freeVolumesByKind } from './free-volumes.ts';
import { LatestCache } from './latest-cache.ts';
import { syncVolume, type VolumeSyncContext } from './volume-sync.ts';

/** What is to be looked at; of a class: all claims of it that wait. */
type Key = `claim ${string}` | `volume ${string}` | `class ${string}`;

export function startVolumeBinder(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const claims = client.informers.informer(resources.persistentVolumeClaims);
  const volumes = client.informers.informer(resources.persistentVolumes);
  const classes = client.informers.informer(resources.storageClasses);
  const pods = client.informers.informer(resources.pods);
  const byClaim = volumes.index(volumesByClaim);
  const byVolume = claims.index(claimsByVolume);
  const waiting = claims.index(waitingClaimsByClass);
  const recorder = createEventRecorder({ client, component: 'persistentvolume-controller', clock, logger });
  const events = new BinderEvents(recorder, clock);
  const latestClaims = new LatestCache(claims);
  const latestVolumes = new LatestCache(volumes);
  const writes = new BindingWrites({ client, clock, claims: latestClaims, volumes: latestVolumes });
  const ready = allSynced(claims, volumes, classes, pods);
  const controller = startController<Key>({
    name: 'persistentvolume-binder-controller',
    clock,
    logger,
    ready,
    reconcile,
  });
  const enqueueClaim = (key: string): void => controller.queue.add(`claim ${key}`);
  const enqueueVolume = (name: string): void => controller.queue.add(`volume ${name}`);

  const claimContext: ClaimSyncContext = {
    client,
    recorder,
    events,
    writes,
    volume: (name) => latestVolumes.get(name),
    given: (key) => byClaim.list(key).map((volume) => latestVolumes.latest(volume)),
    free: new FreeVolumes(volumes.index(freeVolumesByKind), (volume) => latestVolumes.latest(volume)),
    classes: classes.lister,
    pods: pods.index(podsByClaim),
  };
  const volumeContext: VolumeSyncContext = {
    recorder,
    events,
    writes,
    claim: (key) => latestClaims.get(key),
    enqueueClaim,
  };

  async function reconcile(key: Key): Promise<ReconcileResult | undefined> {
    events.begin();
    const name = key.slice(key.indexOf(' ') + 1);
    if (key.startsWith('volume ')) {
      const volume = latestVolumes.get(name);
      if (volume) await syncVolume(volumeContext, volume);
      return undefined;
    }
    if (key.startsWith('class ')) {
      for (const claim of waiting.get(name)) enqueueClaim(keyOf(claim));
      return undefined;
    }
    const claim = latestClaims.get(name);
    if (!claim) return undefined;
    await syncClaim(claimContext, claim);
    if (isBound(latestClaims.get(name) ?? claim)) {
      events.forget(claim);
      return undefined;
    }
    const requeueAfterMs = events.next(claim);
    return requeueAfterMs === undefined ? undefined : { requeueAfterMs };
  }

  const claimChanged = (claim: PersistentVolumeClaim): void => {
    enqueueClaim(keyOf(claim));
    // A volume that hoped for the claim, which has taken another one.
    if (claim.spec.volumeName)
      for (const volume of byClaim.get(keyOf(claim)))
        if (volume.metadata.name !== claim.spec.volumeName) enqueueVolume(volume.metadata.name);
  };
  claims.addHandler({
    added: claimChanged,
    updated: claimChanged,
    deleted(claim) {
      events.forget(claim);
      if (claim.spec.volumeName) enqueueVolume(claim.spec.volumeName);
      for (const volume of byClaim.get(keyOf(claim))) enqueueVolume(volume.metadata.name);
    },
  });

  /** However many volumes come, the claims are woken once for all that came meanwhile. */
  const wakeClass = (name: string): void => {
    if (waiting.count(name) > 0) controller.queue.add(`class ${name}`);
  };
  /** Claims that may have waited for this state of the volume. */
  const wakeClaims = (volume: PersistentVolume): void => {
    for (const claim of byVolume.get(volume.metadata.name))
      if (!isBound(claim) || volume.spec.claimRef?.uid !== claim.metadata.uid) enqueueClaim(keyOf(claim));
    if (volume.spec.claimRef) enqueueClaim(claimKeyOf(volume.spec.claimRef));
    else wakeClass(volumeClass(volume));
  };
  const volumeChanged = (volume: PersistentVolume): void => {
    enqueueVolume(volume.metadata.name);
    wakeClaims(volume);
  };
  volumes.addHandler({
    added: volumeChanged,
    updated: volumeChanged,
    deleted(volume) {
      for (const claim of byVolume.get(volume.metadata.name)) enqueueClaim(keyOf(claim));
      if (volume.spec.claimRef) enqueueClaim(claimKeyOf(volume.spec.claimRef));
    },
  });

  const classChanged = (storageClass: StorageClass): void => {
    wakeClass(storageClass.metadata.name);
    // It may be the default class that claims without one wait for.
    wakeClass('');
  };
  classes.addHandler({ added: classChanged, updated: classChanged });

  return {
    ready,
    [Symbol.asyncDispose]: () => disposeAll([claims, volumes, classes, pods, recorder, controller]),
  };
}

function isBound(claim: PersistentVolumeClaim): boolean {
  return (
    claim.status.phase === 'Bound' &&
    claim.metadata.annotations?.[volumeAnnotations.bindCompleted] !== undefined
  );
}
