// Makes the claims of generic ephemeral volumes (KEP-1698): one a volume, named after pod and volume, owned by the pod
// and thereby gone with it. A claim of that name that is not the pod's is never touched nor used.

import {
  claimNameOf,
  controllerReference,
  isAlreadyExists,
  isClaimOfPod,
  isNamespaceTerminating,
} from '../../api/index.ts';
import type { Pod, Volume } from '../../api/types/core-v1.ts';
import {
  createEventRecorder,
  keyOf,
  referenceTo,
  resources,
  splitKey,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { messageOf } from '../pods/pod-control.ts';
import { podsByClaim } from './claim-indexes.ts';

export function startEphemeralVolumeController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const pods = client.informers.informer(resources.pods);
  const claims = client.informers.informer(resources.persistentVolumeClaims);
  const users = pods.index(podsByClaim);
  const recorder = createEventRecorder({ client, component: 'ephemeral_volume', clock, logger });
  const ready = allSynced(pods, claims);
  const controller = startController({
    name: 'ephemeral-volume-controller',
    clock,
    logger,
    ready,
    reconcile,
  });

  async function reconcile(key: string): Promise<void> {
    const pod = pods.lister.get(key);
    if (!pod || pod.metadata.deletionTimestamp !== undefined) return;
    for (const volume of pod.spec.volumes ?? []) {
      if (!volume.ephemeral) continue;
      try {
        await makeClaim(pod, volume);
      } catch (error) {
        if (isNamespaceTerminating(error)) return;
        // The cache is behind: the next look sees whose claim it is.
        if (isAlreadyExists(error)) throw error;
        recorder.event(
          referenceTo(resources.pods, pod),
          'Warning',
          'FailedBinding',
          `ephemeral volume ${volume.name}: ${messageOf(error)}`,
        );
        throw error;
      }
    }
  }

  async function makeClaim(pod: Pod, volume: Volume): Promise<void> {
    const name = claimNameOf(pod, volume)!;
    const { namespace } = pod.metadata;
    const known = claims.lister.find(namespace, name);
    if (known) {
      if (isClaimOfPod(known, pod)) return;
      throw new Error(`PVC ${namespace}/${name} was not created for pod ${keyOf(pod)} (pod is not owner)`);
    }
    const template = volume.ephemeral?.volumeClaimTemplate;
    if (!template) return;
    const { labels, annotations } = template.metadata ?? {};
    try {
      await client.resource(resources.persistentVolumeClaims, namespace).create({
        metadata: {
          name,
          ...(labels ? { labels } : {}),
          ...(annotations ? { annotations } : {}),
          ownerReferences: [controllerReference(pod, { apiVersion: 'v1', kind: 'Pod' })],
        },
        spec: template.spec,
      });
    } catch (error) {
      if (isNamespaceTerminating(error) || isAlreadyExists(error)) throw error;
      throw new Error(`create PVC ${name}: ${messageOf(error)}`, { cause: error });
    }
  }

  pods.addHandler({
    added(pod) {
      if (pod.spec.volumes?.some((volume) => volume.ephemeral)) controller.queue.add(keyOf(pod));
    },
  });
  claims.addHandler({
    // A pod that still waits for the claim gets it again; one that waited for a stranger's to go gets its own.
    deleted(claim) {
      const { name } = splitKey(keyOf(claim));
      for (const pod of users.get(keyOf(claim)))
        if (pod.spec.volumes?.some((volume) => volume.ephemeral && claimNameOf(pod, volume) === name))
          controller.queue.add(keyOf(pod));
    },
  });

  return { ready, [Symbol.asyncDispose]: () => disposeAll([pods, claims, recorder, controller]) };
}
