// Keeps volumes that are being deleted while they are bound to a claim: takes the finalizer that admission put on them
// away only then.

import type { PersistentVolume } from '../../api/types/core-v1.ts';
import { keyOf, resources, startController } from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { addFinalizer, isDeletionCandidate, needsFinalizer, removeFinalizer } from './finalizers.ts';

const FINALIZER = 'kubernetes.io/pv-protection';
const type = resources.persistentVolumes;

export function startVolumeProtectionController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const volumes = client.informers.informer(type);
  const ready = allSynced(volumes);
  const controller = startController({
    name: 'persistentvolume-protection-controller',
    clock,
    logger,
    ready,
    async reconcile(name) {
      const volume = volumes.lister.get(name);
      if (!volume) return;
      if (isDeletionCandidate(volume, FINALIZER)) {
        if (volume.status.phase !== 'Bound') await removeFinalizer(client, type, volume, FINALIZER);
      } else if (needsFinalizer(volume, FINALIZER)) await addFinalizer(client, type, volume, FINALIZER);
    },
  });
  const changed = (volume: PersistentVolume): void => {
    if (isDeletionCandidate(volume, FINALIZER) || needsFinalizer(volume, FINALIZER))
      controller.queue.add(keyOf(volume));
  };
  volumes.addHandler({ added: changed, updated: changed });
  return { ready, [Symbol.asyncDispose]: () => disposeAll([volumes, controller]) };
}
