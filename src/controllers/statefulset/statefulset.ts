// Runs StatefulSets: pods with names, claims and an order of their own. What is to be done for one set is decided in
// statefulset-sync.ts.

import { controllerOf, labelSelectorMatcher } from '../../api/index.ts';
import type { StatefulSet } from '../../api/types/apps-v1.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import {
  createEventRecorder,
  keyOf,
  type ReconcileResult,
  resources,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { pruneHistory, syncHistory } from '../history/controller-revisions.ts';
import { claim } from '../pods/claim.ts';
import { byController, podsOf } from '../pods/indexes.ts';
import { nextAvailability } from '../replicaset/status.ts';
import { ordinalOf, revisionLabel } from './identity.ts';
import { StatefulSetSync } from './statefulset-sync.ts';

const type = resources.statefulSets;
const HASH_LABEL = 'controller.kubernetes.io/hash';

export function startStatefulSetController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const sets = client.informers.informer(type);
  const pods = client.informers.informer(resources.pods);
  const claims = client.informers.informer(resources.persistentVolumeClaims);
  const revisions = client.informers.informer(resources.controllerRevisions);
  const podsByController = pods.index(byController);
  const revisionsByController = revisions.index(byController);
  const recorder = createEventRecorder({ client, component: 'statefulset-controller', clock, logger });
  const ready = allSynced(sets, pods, claims, revisions);
  const controller = startController({
    name: 'statefulset-controller',
    clock,
    logger,
    concurrency: 5,
    ready,
    reconcile,
  });
  const { queue } = controller;

  const enqueueOwner = (pod: Pod): boolean => {
    const reference = controllerOf(pod);
    if (reference?.kind !== type.kind) return false;
    const set = sets.lister.find(pod.metadata.namespace, reference.name);
    if (set?.metadata.uid !== reference.uid) return false;
    queue.add(keyOf(set));
    return true;
  };
  const enqueueMatching = (pod: Pod): void => {
    if (controllerOf(pod)) return;
    for (const set of sets.lister.values(pod.metadata.namespace)) {
      const selector = labelSelectorMatcher(set.spec.selector);
      if (!selector.empty && selector.matches(pod.metadata.labels)) queue.add(keyOf(set));
    }
  };
  const enqueue = (set: StatefulSet): void => queue.add(keyOf(set));
  sets.addHandler({ added: enqueue, updated: enqueue });
  pods.addHandler({
    added(pod) {
      if (!enqueueOwner(pod)) enqueueMatching(pod);
    },
    updated(pod, old) {
      if (controllerOf(old)?.uid !== controllerOf(pod)?.uid) enqueueOwner(old);
      if (!enqueueOwner(pod)) enqueueMatching(pod);
    },
    deleted: enqueueOwner,
  });
  claims.addHandler({
    // A pod may wait for its claim's earlier owner to let go of it.
    deleted(gone) {
      for (const set of sets.lister.values(gone.metadata.namespace))
        if (
          set.spec.volumeClaimTemplates?.some((t) =>
            gone.metadata.name.startsWith(`${t.metadata.name}-${set.metadata.name}-`),
          )
        )
          enqueue(set);
    },
  });

  async function reconcile(key: string): Promise<ReconcileResult | undefined> {
    const set = sets.lister.get(key);
    if (!set) return undefined;
    const selector = labelSelectorMatcher(set.spec.selector);
    if (selector.empty) return undefined;
    const owned = await claim(podsOf(podsByController, set), {
      client,
      owner: set,
      ownerType: type,
      type: resources.pods,
      selector,
      adoptable: (pod) => ordinalOf(set, pod) !== undefined,
    });
    const members = owned.filter((pod) => ordinalOf(set, pod) !== undefined);
    const history = await syncHistory(podsOf(revisionsByController, set), {
      client,
      owner: set,
      ownerType: type,
      selector,
      template: set.spec.template,
      collisionCount: set.status?.collisionCount || undefined,
      hashLabel: HASH_LABEL,
    });
    const update = history.current;
    const current =
      [...history.old, update].find((one) => one.metadata.name === set.status?.currentRevision) ?? update;
    const now = clock.now();
    const sync = new StatefulSetSync(
      { client, recorder, now, cachedClaim: (namespace, name) => claims.lister.find(namespace, name) },
      set,
      { current, update, collisionCount: history.collisionCount },
      members,
    );
    await sync.run();
    const live = new Set([current.metadata.name, ...members.map(revisionLabel)]);
    await pruneHistory(client, history.old, set.spec.revisionHistoryLimit ?? 10, (revision) =>
      live.has(revision.metadata.name),
    );
    const next = nextAvailability(members, set.spec.minReadySeconds ?? 0, now);
    return next === undefined ? undefined : { requeueAfterMs: next };
  }

  return {
    ready,
    [Symbol.asyncDispose]: () => disposeAll([sets, pods, claims, revisions, recorder, controller]),
  };
}
