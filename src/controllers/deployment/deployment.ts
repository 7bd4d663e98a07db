// Rolls Deployments out through ReplicaSets: one for each pod template that it ever had. The events of ReplicaSets and
// pods lead back to their Deployment; what is to be done then is decided in rollout.ts.

import { controllerOf, labelSelectorMatcher } from '../../api/index.ts';
import type { Deployment, ReplicaSet } from '../../api/types/apps-v1.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import {
  createEventRecorder,
  keyOf,
  type ReconcileResult,
  referenceTo,
  resources,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { claim } from '../pods/claim.ts';
import { byController, podsOf } from '../pods/indexes.ts';
import { Rollout, selectsEverything } from './rollout.ts';

const type = resources.deployments;

export function startDeploymentController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const deployments = client.informers.informer(type);
  const sets = client.informers.informer(resources.replicaSets);
  const pods = client.informers.informer(resources.pods);
  const setsByController = sets.index(byController);
  const podsByController = pods.index(byController);
  const recorder = createEventRecorder({ client, component: 'deployment-controller', clock, logger });
  const ready = allSynced(deployments, sets, pods);

  const controller = startController({
    name: 'deployment-controller',
    clock,
    logger,
    concurrency: 5,
    ready,
    reconcile,
  });
  const { queue } = controller;

  function ownerOf(set: ReplicaSet): Deployment | undefined {
    const reference = controllerOf(set);
    if (reference?.kind !== type.kind) return undefined;
    const deployment = deployments.lister.find(set.metadata.namespace, reference.name);
    return deployment?.metadata.uid === reference.uid ? deployment : undefined;
  }

  function enqueueOwner(set: ReplicaSet): void {
    const owner = ownerOf(set);
    if (owner) queue.add(keyOf(owner));
  }

  function enqueueMatching(set: ReplicaSet): void {
    if (!set.metadata.labels) return;
    for (const deployment of deployments.lister.values(set.metadata.namespace)) {
      const selector = labelSelectorMatcher(deployment.spec.selector);
      if (!selector.empty && selector.matches(set.metadata.labels)) queue.add(keyOf(deployment));
    }
  }

  const enqueue = (deployment: Deployment): void => queue.add(keyOf(deployment));
  deployments.addHandler({ added: enqueue, updated: enqueue, deleted: enqueue });
  sets.addHandler({
    added(set) {
      if (controllerOf(set)) enqueueOwner(set);
      else if (set.metadata.deletionTimestamp === undefined) enqueueMatching(set);
    },
    updated(set, old) {
      const changed = controllerOf(set)?.uid !== controllerOf(old)?.uid;
      if (changed) enqueueOwner(old);
      if (controllerOf(set)) enqueueOwner(set);
      else if (changed || JSON.stringify(set.metadata.labels) !== JSON.stringify(old.metadata.labels))
        enqueueMatching(set);
    },
    deleted: enqueueOwner,
  });
  pods.addHandler({
    // Only the end of an old pod matters that its ReplicaSet does not tell: Recreate waits for the last one.
    deleted: podEnded,
    updated(pod) {
      if (pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded') podEnded(pod);
    },
  });

  function podEnded(pod: Pod): void {
    const reference = controllerOf(pod);
    if (reference?.kind !== resources.replicaSets.kind) return;
    const set = sets.lister.find(pod.metadata.namespace, reference.name);
    const owner = set?.metadata.uid === reference.uid ? ownerOf(set) : undefined;
    if (owner?.spec.strategy?.type === 'Recreate') queue.add(keyOf(owner));
  }

  async function reconcile(key: string): Promise<ReconcileResult | undefined> {
    const deployment = deployments.lister.get(key);
    if (!deployment) return undefined;
    if (selectsEverything(deployment)) {
      recorder.event(
        referenceTo(type, deployment),
        'Warning',
        'SelectingAll',
        'This deployment is selecting all pods. A non-empty selector is required.',
      );
      const observedGeneration = deployment.metadata.generation ?? 0;
      if ((deployment.status?.observedGeneration ?? 0) < observedGeneration)
        await client
          .resource(type, deployment.metadata.namespace)
          .updateStatus({ ...deployment, status: { ...deployment.status, observedGeneration } });
      return undefined;
    }
    const owned = await claim(podsOf(setsByController, deployment), {
      client,
      owner: deployment,
      ownerType: type,
      type: resources.replicaSets,
      selector: labelSelectorMatcher(deployment.spec.selector),
    });
    const podsBySet = new Map(
      owned.map((set) => [set.metadata.uid, podsByController.list(set.metadata.uid)] as const),
    );
    const cachedSet = (namespace: string | undefined, name: string): ReplicaSet | undefined =>
      sets.lister.find(namespace, name);
    return new Rollout({ client, clock, recorder, cachedSet }, deployment, owned, podsBySet).run();
  }

  return {
    ready,
    async [Symbol.asyncDispose]() {
      await disposeAll([deployments, sets, pods, recorder, controller]);
    },
  };
}
