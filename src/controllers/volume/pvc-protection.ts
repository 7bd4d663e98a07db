// Keeps claims that are being deleted until no pod uses them: takes the finalizer that admission put on them away only
// then. A pod uses its claims from the moment it is assigned to a node (before, the node agent refuses to start it).
// Works by namespace: when one ends, all its claims are judged with one list of its pods.

import { claimNameOf, isClaimOfPod } from '../../api/index.ts';
import type { PersistentVolumeClaim, Pod } from '../../api/types/core-v1.ts';
import { keyOf, resources, startController } from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { podsByClaim } from './claim-indexes.ts';
import { addFinalizer, isDeletionCandidate, needsFinalizer, removeFinalizer } from './finalizers.ts';

const FINALIZER = 'kubernetes.io/pvc-protection';
const type = resources.persistentVolumeClaims;

export function startClaimProtectionController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const claims = client.informers.informer(type);
  const pods = client.informers.informer(resources.pods);
  const users = pods.index(podsByClaim);
  const leaving = claims.index(leavingClaims);
  const unprotected = claims.index(unprotectedClaims);
  const ready = allSynced(claims, pods);
  const controller = startController({
    name: 'persistentvolumeclaim-protection-controller',
    clock,
    logger,
    ready,
    reconcile,
  });

  async function reconcile(namespace: string): Promise<void> {
    const writes = unprotected.list(namespace).map((claim) => addFinalizer(client, type, claim, FINALIZER));
    const candidates = leaving
      .list(namespace)
      .filter((claim) => !users.list(keyOf(claim)).some((pod) => uses(pod, claim)));
    if (candidates.length > 0) {
      const used = await usedByAnyPod(namespace, candidates);
      for (const claim of candidates)
        if (!used.has(claim)) writes.push(removeFinalizer(client, type, claim, FINALIZER));
    }
    const failed = (await Promise.allSettled(writes)).find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** A pod may be on its way into the cache: what the cache denies is asked of the server, once for all. */
  async function usedByAnyPod(
    namespace: string,
    candidates: readonly PersistentVolumeClaim[],
  ): Promise<ReadonlySet<PersistentVolumeClaim>> {
    const byKey = new Map(candidates.map((claim) => [keyOf(claim), claim]));
    const used = new Set<PersistentVolumeClaim>();
    for await (const pod of client.resource(resources.pods, namespace).each())
      for (const key of podsByClaim(pod)) {
        const claim = byKey.get(key);
        if (claim && uses(pod, claim)) used.add(claim);
      }
    return used;
  }

  const claimChanged = (claim: PersistentVolumeClaim): void => {
    if (isDeletionCandidate(claim, FINALIZER) || needsFinalizer(claim, FINALIZER))
      controller.queue.add(claim.metadata.namespace ?? '');
  };
  const podChanged = (pod: Pod): void => {
    for (const key of podsByClaim(pod)) {
      const claim = claims.lister.get(key);
      if (claim) claimChanged(claim);
    }
  };
  claims.addHandler({ added: claimChanged, updated: claimChanged });
  pods.addHandler({
    deleted: podChanged,
    updated(pod) {
      if (pod.metadata.deletionTimestamp !== undefined) podChanged(pod);
    },
  });

  return { ready, [Symbol.asyncDispose]: () => disposeAll([claims, pods, controller]) };
}

function leavingClaims(claim: PersistentVolumeClaim): readonly string[] {
  return isDeletionCandidate(claim, FINALIZER) ? [claim.metadata.namespace ?? ''] : [];
}

function unprotectedClaims(claim: PersistentVolumeClaim): readonly string[] {
  return needsFinalizer(claim, FINALIZER) ? [claim.metadata.namespace ?? ''] : [];
}

function uses(pod: Pod, claim: PersistentVolumeClaim): boolean {
  if (!pod.spec.nodeName) return false;
  return (pod.spec.volumes ?? []).some((volume) => {
    if (claimNameOf(pod, volume) !== claim.metadata.name) return false;
    // The claim of an ephemeral volume goes with its pod, which may itself wait for the claim to go.
    return volume.ephemeral === undefined || (!isShutDown(pod) && isClaimOfPod(claim, pod));
  });
}

/** The node agent is done with it (or was not asked), and it only waits for its finalizers. */
function isShutDown({ metadata }: Pod): boolean {
  return metadata.deletionTimestamp !== undefined && metadata.deletionGracePeriodSeconds === 0;
}
