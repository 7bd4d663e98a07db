// Keeps VolumeAttributesClasses that are being deleted while a volume has them or a claim asks for them, has them or is
// on its way to them: takes the finalizer that admission put on them away only then.

import type { PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import type { VolumeAttributesClass } from '../../api/types/storage-v1.ts';
import { keyOf, resources, startController } from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { addFinalizer, isDeletionCandidate, needsFinalizer, removeFinalizer } from './finalizers.ts';

const FINALIZER = 'kubernetes.io/vac-protection';
const type = resources.volumeAttributesClasses;

export function startVolumeAttributesClassProtectionController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const classes = client.informers.informer(type);
  const claims = client.informers.informer(resources.persistentVolumeClaims);
  const volumes = client.informers.informer(resources.persistentVolumes);
  const claimsOf = claims.index(classesOfClaim);
  const volumesOf = volumes.index(classesOfVolume);
  const ready = allSynced(classes, claims, volumes);
  const controller = startController({
    name: 'volumeattributesclass-protection-controller',
    clock,
    logger,
    ready,
    async reconcile(name) {
      const object = classes.lister.get(name);
      if (!object) return;
      if (isDeletionCandidate(object, FINALIZER)) {
        if (volumesOf.list(name).length > 0 || claimsOf.list(name).length > 0) return;
        if (!(await isUsed(name))) await removeFinalizer(client, type, object, FINALIZER);
      } else if (needsFinalizer(object, FINALIZER)) await addFinalizer(client, type, object, FINALIZER);
    },
  });

  /** A claim or volume may be on its way into the caches: what these deny is asked of the server, once a class. */
  async function isUsed(name: string): Promise<boolean> {
    for await (const volume of client.resource(resources.persistentVolumes).each())
      if (classesOfVolume(volume).includes(name)) return true;
    for await (const claim of client.resource(resources.persistentVolumeClaims).each())
      if (classesOfClaim(claim).includes(name)) return true;
    return false;
  }

  const classChanged = (object: VolumeAttributesClass): void => {
    if (isDeletionCandidate(object, FINALIZER) || needsFinalizer(object, FINALIZER))
      controller.queue.add(keyOf(object));
  };
  const released = (names: readonly string[]): void => {
    for (const name of names) controller.queue.add(name);
  };
  classes.addHandler({ added: classChanged, updated: classChanged });
  claims.addHandler({
    updated: (claim, old) => released(without(classesOfClaim(old), classesOfClaim(claim))),
    deleted: (claim) => released(classesOfClaim(claim)),
  });
  volumes.addHandler({
    updated: (volume, old) => released(without(classesOfVolume(old), classesOfVolume(volume))),
    deleted: (volume) => released(classesOfVolume(volume)),
  });
  return { ready, [Symbol.asyncDispose]: () => disposeAll([classes, claims, volumes, controller]) };
}

function classesOfClaim({ spec, status }: PersistentVolumeClaim): readonly string[] {
  const names = new Set<string>();
  for (const name of [
    spec.volumeAttributesClassName,
    status?.currentVolumeAttributesClassName,
    status?.modifyVolumeStatus?.targetVolumeAttributesClassName,
  ])
    if (name) names.add(name);
  return [...names];
}

function classesOfVolume({ spec }: PersistentVolume): readonly string[] {
  return spec.volumeAttributesClassName ? [spec.volumeAttributesClassName] : [];
}

function without(names: readonly string[], others: readonly string[]): readonly string[] {
  return names.filter((name) => !others.includes(name));
}
