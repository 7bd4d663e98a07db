// Deletes pods from nodes with NoExecute taints that they do not tolerate: at once, or when the shortest of their
// tolerationSeconds has passed. Each pod says in a DisruptionTarget condition why it goes (KEP-3329).

import { isNotFound, timestamp, toleratesTaint, withCondition } from '../../api/index.ts';
import type { Node, Pod, PodCondition, Taint, Toleration } from '../../api/types/core-v1.ts';
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
import { byNode } from '../pods/indexes.ts';

interface Scheduled {
  readonly uid: string;
  /** When the pod first had to be evicted (monotonic ms): its seconds count from here. */
  readonly since: number;
}

export function startTaintEvictionController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const nodes = client.informers.informer(resources.nodes);
  const pods = client.informers.informer(resources.pods);
  const podsByNode = pods.index(byNode);
  const recorder = createEventRecorder({ client, component: 'taint-eviction-controller', clock, logger });
  const scheduled = new Map<string, Scheduled>();
  const controller = startController({
    name: 'taint-eviction-controller',
    clock,
    logger,
    concurrency: 8,
    ready: allSynced(nodes, pods),
    reconcile,
  });
  const { queue } = controller;

  const enqueuePodsOf = (node: Node): void => {
    for (const pod of podsByNode.get(node.metadata.name)) queue.add(keyOf(pod));
  };
  nodes.addHandler({
    added(node) {
      if (noExecute(node).length > 0) enqueuePodsOf(node);
    },
    updated(node, old) {
      if (JSON.stringify(noExecute(node)) !== JSON.stringify(noExecute(old))) enqueuePodsOf(node);
    },
    deleted: enqueuePodsOf,
  });
  const taintedNodeOf = (pod: Pod): boolean => {
    const node = pod.spec.nodeName ? nodes.lister.get(pod.spec.nodeName) : undefined;
    return node !== undefined && noExecute(node).length > 0;
  };
  pods.addHandler({
    added(pod) {
      if (taintedNodeOf(pod)) queue.add(keyOf(pod));
    },
    updated(pod, old) {
      const moved = pod.spec.nodeName !== old.spec.nodeName;
      const tolerates = JSON.stringify(pod.spec.tolerations) !== JSON.stringify(old.spec.tolerations);
      if ((moved || tolerates) && (taintedNodeOf(pod) || scheduled.has(keyOf(pod)))) queue.add(keyOf(pod));
    },
    deleted(pod) {
      scheduled.delete(keyOf(pod));
    },
  });

  async function reconcile(key: string): Promise<ReconcileResult | undefined> {
    const pod = pods.lister.get(key);
    const node = pod?.spec.nodeName ? nodes.lister.get(pod.spec.nodeName) : undefined;
    const taints = node ? noExecute(node) : [];
    if (!pod || pod.metadata.deletionTimestamp !== undefined) {
      scheduled.delete(key);
      return undefined;
    }
    const seconds = taints.length === 0 ? undefined : secondsTolerated(taints, pod.spec.tolerations ?? []);
    const known = scheduled.get(key);
    const before = known?.uid === pod.metadata.uid ? known : undefined;
    if (seconds === undefined) {
      scheduled.delete(key);
      if (before) event(pod, `Cancelling deletion of Pod ${pod.metadata.namespace}/${pod.metadata.name}`);
      return undefined;
    }
    const now = clock.monotonic();
    const since = before?.since ?? now;
    if (!before) scheduled.set(key, { uid: pod.metadata.uid, since });
    const wait = since + seconds * 1000 - now;
    if (wait > 0) return { requeueAfterMs: wait };
    await evict(pod);
    scheduled.delete(key);
    return undefined;
  }

  async function evict(pod: Pod): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    event(pod, `Marking for deletion Pod ${namespace}/${name}`);
    const api = client.resource(resources.pods, namespace);
    try {
      const conditions = withCondition<PodCondition>(
        pod.status?.conditions,
        {
          type: 'DisruptionTarget',
          status: 'True',
          reason: 'DeletionByTaintManager',
          message: 'Taint manager: deleting due to NoExecute taint',
          lastTransitionTime: timestamp(clock.now()),
        },
        clock.now(),
      );
      if (conditions !== pod.status?.conditions)
        await api.patch(
          name,
          {
            type: 'strategic',
            patch: {
              metadata: { uid },
              status: { conditions: conditions.filter((one) => one.type === 'DisruptionTarget') },
            },
          },
          { subresource: 'status' },
        );
      await api.delete(name, { preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  function event(pod: Pod, message: string): void {
    recorder.event(referenceTo(resources.pods, pod), 'Normal', 'TaintManagerEviction', message);
  }

  return {
    ready: controller.ready,
    [Symbol.asyncDispose]: () => disposeAll([nodes, pods, recorder, controller]),
  };
}

function noExecute(node: Node): Taint[] {
  return (node.spec?.taints ?? []).filter((taint) => taint.effect === 'NoExecute');
}

/** How long the pod may stay, 0 when not at all; undefined: for ever. */
export function secondsTolerated(
  taints: readonly Taint[],
  tolerations: readonly Toleration[],
): number | undefined {
  let least: number | undefined;
  for (const taint of taints) {
    const matching = tolerations.filter((toleration) => toleratesTaint(toleration, taint));
    if (matching.length === 0) return 0;
    for (const { tolerationSeconds } of matching) {
      if (tolerationSeconds === undefined) continue;
      const seconds = Math.max(0, tolerationSeconds);
      least = least === undefined ? seconds : Math.min(least, seconds);
    }
  }
  return least;
}
