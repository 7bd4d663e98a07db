// Removes pods that nobody else will: those of nodes that are gone, terminated ones beyond a number, those that were
// deleted before they were scheduled, and those that hang on a node declared out of service (KEP-2268).

import {
  findCondition,
  isNotFound,
  isPodTerminal,
  timestamp,
  timestampMs,
  withCondition,
} from '../../api/index.ts';
import type { Node, Pod, PodCondition } from '../../api/types/core-v1.ts';
import { keyOf, type ReconcileResult, resources, startController } from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { byNode } from '../pods/indexes.ts';

/** A node that we do not know may only not have come to us yet: this long, and one question to the server. */
const QUARANTINE_MS = 40_000;
const OUT_OF_SERVICE = 'node.kubernetes.io/out-of-service';
/** The one key of the queue that is no pod's: too many terminated ones. */
const TERMINATED = ' terminated';

export function startPodGarbageCollector(context: ControllerContext): Running {
  const { client, clock, logger, settings } = context;
  const nodes = client.informers.informer(resources.nodes);
  const pods = client.informers.informer(resources.pods);
  const podsByNode = pods.index(byNode);
  const terminated = pods.index(terminatedIndex);
  /** Nodes that pods name and that we do not know, with the time since when (monotonic ms). */
  const unknown = new Map<string, number>();
  const controller = startController({
    name: 'pod-garbage-collector-controller',
    clock,
    logger,
    concurrency: 8,
    ready: allSynced(nodes, pods),
    reconcile: (key) => (key === TERMINATED ? collectTerminated() : reconcile(key)),
  });
  const { queue } = controller;

  const enqueuePodsOf = (node: Node): void => {
    for (const pod of podsByNode.get(node.metadata.name)) queue.add(keyOf(pod));
  };
  nodes.addHandler({
    added(node) {
      unknown.delete(node.metadata.name);
      if (isOutOfService(node)) enqueuePodsOf(node);
    },
    updated(node, old) {
      if (isOutOfService(node) && (!isOutOfService(old) || isReady(node) !== isReady(old)))
        enqueuePodsOf(node);
    },
    deleted: enqueuePodsOf,
  });
  const podChanged = (pod: Pod): void => {
    const { nodeName } = pod.spec;
    const ending = pod.metadata.deletionTimestamp !== undefined;
    const node = nodeName ? nodes.lister.get(nodeName) : undefined;
    if (nodeName ? !node || (ending && isOutOfService(node)) : ending) queue.add(keyOf(pod));
    if (settings.terminatedPodThreshold > 0 && terminated.count('') > settings.terminatedPodThreshold)
      queue.add(TERMINATED);
  };
  pods.addHandler({ added: podChanged, updated: podChanged });

  async function reconcile(key: string): Promise<ReconcileResult | undefined> {
    const pod = pods.lister.get(key);
    if (!pod) return undefined;
    const { nodeName } = pod.spec;
    const ending = pod.metadata.deletionTimestamp !== undefined;
    if (!nodeName) {
      if (ending) await remove(pod);
      return undefined;
    }
    const node = nodes.lister.get(nodeName);
    if (node) {
      if (ending && isOutOfService(node) && !isReady(node)) await remove(pod);
      return undefined;
    }
    const now = clock.monotonic();
    const since = unknown.get(nodeName) ?? now;
    unknown.set(nodeName, since);
    const left = since + QUARANTINE_MS - now;
    if (left > 0) return { requeueAfterMs: left };
    if (await nodeExists(nodeName)) return { requeueAfterMs: QUARANTINE_MS };
    await remove(pod, {
      type: 'DisruptionTarget',
      status: 'True',
      reason: 'DeletionByPodGC',
      message: 'PodGC: node no longer exists',
    });
    return undefined;
  }

  async function nodeExists(name: string): Promise<boolean> {
    try {
      await client.resource(resources.nodes).get(name);
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  async function collectTerminated(): Promise<undefined> {
    const surplus = terminated.count('') - settings.terminatedPodThreshold;
    if (surplus <= 0) return undefined;
    const created = (pod: Pod): number => timestampMs(pod.metadata.creationTimestamp) ?? 0;
    const evicted = (pod: Pod): number =>
      Number(pod.status?.phase === 'Failed' && pod.status.reason === 'Evicted');
    const oldest = terminated
      .list('')
      .toSorted(
        (a, b) =>
          evicted(b) - evicted(a) || created(a) - created(b) || (a.metadata.name < b.metadata.name ? -1 : 1),
      )
      .slice(0, surplus);
    await Promise.all(oldest.map((pod) => remove(pod)));
    return undefined;
  }

  /** With no grace: nobody is there to grant it. A pod that had not ended is marked Failed first, so that its owner sees. */
  async function remove(pod: Pod, condition?: Omit<PodCondition, 'lastTransitionTime'>): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    const api = client.resource(resources.pods, namespace);
    logger.info(
      { controller: 'pod-garbage-collector-controller', pod: keyOf(pod) },
      'removing a pod that is left over',
    );
    try {
      if (!isPodTerminal(pod)) {
        const conditions = condition
          ? withCondition<PodCondition>(
              pod.status?.conditions,
              { ...condition, lastTransitionTime: timestamp(clock.now()) },
              clock.now(),
            )
          : undefined;
        await api.patch(
          name,
          {
            type: 'strategic',
            patch: {
              metadata: { uid },
              status: {
                phase: 'Failed',
                ...(conditions
                  ? { conditions: conditions.filter((one) => one.type === condition?.type) }
                  : {}),
              },
            },
          },
          { subresource: 'status' },
        );
      }
      await api.delete(name, { gracePeriodSeconds: 0, preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  return {
    ready: controller.ready,
    [Symbol.asyncDispose]: () => disposeAll([nodes, pods, controller]),
  };
}

/** All under one value: how many there are is asked at every change. */
function terminatedIndex(pod: Pod): readonly string[] {
  return isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined ? [''] : [];
}

function isOutOfService(node: Node): boolean {
  return node.spec?.taints?.some((taint) => taint.key === OUT_OF_SERVICE) === true;
}

function isReady(node: Node): boolean {
  return findCondition(node.status?.conditions, 'Ready')?.status === 'True';
}
