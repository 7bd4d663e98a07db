// Keeps as many pods as a ReplicaSet or a ReplicationController asks for: one loop for both, to which the older kind is
// shown as the newer one. Creates and deletes in bursts of 500, slowly at first; what it has done
// and not yet seen it keeps as expectations, so that a stale cache makes it neither create nor delete twice.

import {
  controllerOf,
  isNamespaceTerminating,
  isNotFound,
  isPodActive,
  isPodTerminal,
  labelSelectorMatcher,
} from '../../api/index.ts';
import type { ReplicaSet } from '../../api/types/apps-v1.ts';
import type { Pod, ReplicationController } from '../../api/types/core-v1.ts';
import {
  createEventRecorder,
  keyOf,
  type ReconcileResult,
  type ResourceType,
  resources,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { claim } from '../pods/claim.ts';
import { podsToDelete } from '../pods/deletion-ranking.ts';
import { Expectations } from '../pods/expectations.ts';
import { byController, podsOf } from '../pods/indexes.ts';
import { createPod, deletePod, podFromTemplate, slowStart } from '../pods/pod-control.ts';
import { nextAvailability, replicaSetStatus, sameStatus } from './status.ts';

const BURST = 500;

/** A kind whose objects ask for a number of pods, and how they look as a ReplicaSet. */
interface ReplicaKind<T extends ReplicaSet | ReplicationController> {
  readonly controller: string;
  readonly type: ResourceType<T>;
  view(object: T): ReplicaSet;
}

export function startReplicaSetController(context: ControllerContext): Running {
  return startReplicaController(context, {
    controller: 'replicaset-controller',
    type: resources.replicaSets,
    view: (set) => set,
  });
}

export function startReplicationController(context: ControllerContext): Running {
  return startReplicaController(context, {
    controller: 'replication-controller',
    type: resources.replicationControllers,
    view: ({ metadata, spec, status }) => ({
      metadata,
      spec: { ...spec, selector: { matchLabels: spec.selector ?? {} } },
      status,
    }),
  });
}

function startReplicaController<T extends ReplicaSet | ReplicationController>(
  context: ControllerContext,
  { controller: name, type, view }: ReplicaKind<T>,
): Running {
  const { client, clock, logger } = context;
  // What references to owners are made from: the kind is what counts, and the view has the other's shape.
  const ownerType = type as ResourceType as ResourceType<ReplicaSet>;
  const sets = client.informers.informer(type);
  const pods = client.informers.informer(resources.pods);
  const podsByController = pods.index(byController);
  const setsByController = sets.index(byController);
  const recorder = createEventRecorder({ client, component: name, clock, logger });
  const expectations = new Expectations(clock);
  const control = { client, recorder, ownerType };
  const ready = allSynced(sets, pods);

  const controller = startController({
    name,
    clock,
    logger,
    concurrency: 5,
    ready,
    reconcile,
  });
  const { queue } = controller;

  /** The set that the reference names, if it is still the same object. */
  function ownerOf(pod: Pod): ReplicaSet | undefined {
    const reference = controllerOf(pod);
    if (reference?.kind !== type.kind) return undefined;
    const set = sets.lister.find(pod.metadata.namespace, reference.name);
    return set?.metadata.uid === reference.uid ? view(set) : undefined;
  }

  function enqueueMatching(pod: Pod): void {
    for (const set of sets.lister.values(pod.metadata.namespace)) {
      const selector = labelSelectorMatcher(view(set).spec.selector);
      if (!selector.empty && selector.matches(pod.metadata.labels)) queue.add(keyOf(set));
    }
  }

  function podEnded(pod: Pod): void {
    const set = ownerOf(pod);
    if (!set) return;
    expectations.deletionObserved(keyOf(set), pod.metadata.uid);
    queue.add(keyOf(set));
  }

  sets.addHandler({
    added: (set) => queue.add(keyOf(set)),
    updated: (set) => queue.add(keyOf(set)),
    deleted(set) {
      expectations.forget(keyOf(set));
      queue.add(keyOf(set));
    },
  });
  pods.addHandler({
    added(pod) {
      if (pod.metadata.deletionTimestamp !== undefined) {
        podEnded(pod);
        return;
      }
      const set = ownerOf(pod);
      if (set) {
        expectations.creationObserved(keyOf(set));
        queue.add(keyOf(set));
      } else if (!controllerOf(pod)) enqueueMatching(pod);
    },
    updated(pod, old) {
      if (pod.metadata.deletionTimestamp !== undefined) {
        // Marked for deletion: it no longer counts, and its event of removal may be far away.
        podEnded(pod);
        if (controllerOf(old)?.uid !== controllerOf(pod)?.uid) podEnded(old);
        return;
      }
      const before = controllerOf(old);
      const now = controllerOf(pod);
      if (before?.uid !== now?.uid) {
        const previous = ownerOf(old);
        if (previous) queue.add(keyOf(previous));
      }
      if (now) {
        const set = ownerOf(pod);
        if (!set) return;
        queue.add(keyOf(set));
      } else if (before || !sameLabels(old, pod)) enqueueMatching(pod);
    },
    deleted: podEnded,
  });

  async function reconcile(key: string): Promise<ReconcileResult | undefined> {
    const object = sets.lister.get(key);
    if (!object) {
      expectations.forget(key);
      return undefined;
    }
    const set = view(object);
    const mayManage = expectations.satisfied(key);
    const candidates = podsOf(podsByController, set).filter((pod) => !isPodTerminal(pod));
    const owned = await claim(candidates, {
      client,
      owner: set,
      ownerType,
      type: resources.pods,
      selector: labelSelectorMatcher(set.spec.selector),
      adoptable: isPodActive,
    });
    const active = owned.filter(isPodActive);
    const terminating = owned.filter((pod) => pod.metadata.deletionTimestamp !== undefined);
    const missing = (set.spec.replicas ?? 1) - active.length;
    let failure: { readonly error: unknown; readonly missing: number } | undefined;
    if (mayManage && set.metadata.deletionTimestamp === undefined && missing !== 0) {
      const error = missing > 0 ? await create(set, key, missing) : await remove(set, key, active, -missing);
      if (error !== undefined) failure = { error, missing };
    }
    const status = replicaSetStatus(set, active, terminating, failure, clock.now());
    await writeStatus(object, status);
    if (failure) throw failure.error;
    const next = nextAvailability(active, set.spec.minReadySeconds ?? 0, clock.now());
    return next === undefined ? undefined : { requeueAfterMs: next };
  }

  /** Resolves with the first error. */
  async function create(set: ReplicaSet, key: string, missing: number): Promise<unknown> {
    const count = Math.min(missing, BURST);
    const draft = podFromTemplate(set.spec.template ?? {}, set, ownerType);
    expectations.expectCreations(key, count);
    const { succeeded, error } = await slowStart(count, async () => {
      try {
        await createPod(control, set, draft);
      } catch (failure) {
        // Nothing more will be created in this namespace, and that is as it should be.
        if (!isNamespaceTerminating(failure)) throw failure;
        expectations.creationObserved(key);
      }
    });
    for (let i = succeeded; i < count; i++) expectations.creationObserved(key);
    return error;
  }

  async function remove(
    set: ReplicaSet,
    key: string,
    active: readonly Pod[],
    surplus: number,
  ): Promise<unknown> {
    const chosen = podsToDelete(active, related(set), Math.min(surplus, BURST), clock.now());
    expectations.expectDeletions(
      key,
      chosen.map((pod) => pod.metadata.uid),
    );
    const results = await Promise.allSettled(
      chosen.map(async (pod) => {
        try {
          await deletePod(control, set, pod);
        } catch (error) {
          expectations.deletionObserved(key, pod.metadata.uid);
          if (!isNotFound(error)) throw error;
        }
      }),
    );
    return results.find((result) => result.status === 'rejected')?.reason;
  }

  /** Pods of all sets that share this one's controller: the generations of one Deployment are spread together. */
  function* related(set: ReplicaSet): Iterable<Pod> {
    const controller = controllerOf(set);
    const siblings: Iterable<{ metadata: ReplicaSet['metadata'] }> = controller
      ? setsByController.get(controller.uid)
      : [set];
    for (const sibling of siblings) yield* podsByController.get(sibling.metadata.uid);
  }

  async function writeStatus(object: T, status: ReplicaSet['status']): Promise<void> {
    if (status === undefined || sameStatus(object.status, status)) return;
    await client.resource(type, object.metadata.namespace).updateStatus({ ...object, status });
  }

  return {
    ready,
    async [Symbol.asyncDispose]() {
      await disposeAll([sets, pods, recorder, controller]);
    },
  };
}

function sameLabels(a: Pod, b: Pod): boolean {
  const left = Object.entries(a.metadata.labels ?? {});
  const right = b.metadata.labels ?? {};
  return left.length === Object.keys(right).length && left.every(([key, value]) => right[key] === value);
}
