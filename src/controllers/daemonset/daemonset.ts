// One pod on every node that a DaemonSet selects. Pods are made with an affinity to their node and placed by the
// scheduler. A rolling update replaces them node by node, either by deleting old ones (maxUnavailable) or by starting
// new ones beside them first (maxSurge).

import {
  controllerOf,
  isConditionTrue,
  isNamespaceTerminating,
  isNotFound,
  isPodAvailable,
  isPodReady,
  isPodTerminal,
  labelSelectorMatcher,
  timestampMs,
} from '../../api/index.ts';
import type { ControllerRevision, DaemonSet } from '../../api/types/apps-v1.ts';
import type { Node, Pod } from '../../api/types/core-v1.ts';
import {
  createEventRecorder,
  ExponentialFailureLimiter,
  keyOf,
  type ReconcileResult,
  referenceTo,
  resources,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { hashOf, pruneHistory, REVISION_HASH, syncHistory } from '../history/controller-revisions.ts';
import { claim } from '../pods/claim.ts';
import { Expectations } from '../pods/expectations.ts';
import { byController, podsOf } from '../pods/indexes.ts';
import { createPod, deletePod, podFromTemplate, slowStart } from '../pods/pod-control.ts';
import { nextAvailability } from '../replicaset/status.ts';
import { sameValue } from '../same-value.ts';
import { belongs, targetNode, templateFor } from './placement.ts';
import { allowance, planUpdate } from './update.ts';

const BURST = 250;
const type = resources.daemonSets;

export function startDaemonSetController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const sets = client.informers.informer(type);
  const pods = client.informers.informer(resources.pods);
  const nodes = client.informers.informer(resources.nodes);
  const revisions = client.informers.informer(resources.controllerRevisions);
  const podsByController = pods.index(byController);
  const revisionsByController = revisions.index(byController);
  const recorder = createEventRecorder({ client, component: 'daemonset-controller', clock, logger });
  const expectations = new Expectations(clock);
  const control = { client, recorder, ownerType: type };
  /** A daemon that fails at once on its node must not be made anew in a tight loop: 1 s doubling to 15 min. */
  const failures = new ExponentialFailureLimiter<string>(1000, 15 * 60_000);
  const failedUntil = new Map<string, number>();
  const ready = allSynced(sets, pods, nodes, revisions);
  const controller = startController({
    name: 'daemonset-controller',
    clock,
    logger,
    concurrency: 2,
    ready,
    reconcile,
  });
  const { queue } = controller;

  function ownerOf(object: Pod | ControllerRevision): DaemonSet | undefined {
    const reference = controllerOf(object);
    if (reference?.kind !== type.kind) return undefined;
    const set = sets.lister.find(object.metadata.namespace, reference.name);
    return set?.metadata.uid === reference.uid ? set : undefined;
  }
  function enqueueMatching(object: Pod | ControllerRevision): void {
    for (const set of sets.lister.values(object.metadata.namespace)) {
      const selector = labelSelectorMatcher(set.spec.selector);
      if (!selector.empty && selector.matches(object.metadata.labels)) queue.add(keyOf(set));
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
      for (const key of failedUntil.keys()) {
        if (!key.startsWith(`${set.metadata.uid}/`)) continue;
        failedUntil.delete(key);
        failures.forget(key);
      }
    },
  });
  revisions.addHandler({
    updated(revision) {
      const owner = ownerOf(revision);
      if (owner) queue.add(keyOf(owner));
      else if (!controllerOf(revision)) enqueueMatching(revision);
    },
    deleted(revision) {
      const owner = ownerOf(revision);
      if (owner) queue.add(keyOf(owner));
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
        podEnded(pod);
        return;
      }
      if (controllerOf(old)?.uid !== controllerOf(pod)?.uid) {
        const previous = ownerOf(old);
        if (previous) queue.add(keyOf(previous));
      }
      const set = ownerOf(pod);
      if (set) queue.add(keyOf(set));
      else if (!controllerOf(pod)) enqueueMatching(pod);
    },
    deleted: podEnded,
  });
  nodes.addHandler({
    added(node) {
      for (const set of sets.lister.values()) if (belongs(set, node).run) queue.add(keyOf(set));
    },
    updated(node, old) {
      // Heartbeats change neither labels nor taints.
      if (sameValue(node.metadata.labels, old.metadata.labels) && sameValue(node.spec, old.spec)) return;
      for (const set of sets.lister.values())
        if (!sameValue(belongs(set, node), belongs(set, old))) queue.add(keyOf(set));
    },
    deleted(node) {
      for (const set of sets.lister.values()) if (belongs(set, node).stay) queue.add(keyOf(set));
    },
  });

  async function reconcile(key: string): Promise<ReconcileResult | undefined> {
    const set = sets.lister.get(key);
    if (!set) {
      expectations.forget(key);
      return undefined;
    }
    const selector = labelSelectorMatcher(set.spec.selector);
    if (selector.empty) {
      recorder.event(
        referenceTo(type, set),
        'Warning',
        'SelectingAll',
        'This daemon set is selecting all pods. A non-empty selector is required.',
      );
      return undefined;
    }
    if (set.metadata.deletionTimestamp !== undefined) return undefined;
    const history = await syncHistory(podsOf(revisionsByController, set), {
      client,
      owner: set,
      ownerType: type,
      selector,
      template: set.spec.template,
      collisionCount: set.status?.collisionCount,
    });
    const hash = hashOf(history.current);
    const owned = await claim(podsOf(podsByController, set), {
      client,
      owner: set,
      ownerType: type,
      type: resources.pods,
      selector,
    });
    const onNodes = groupByNode(owned);
    let wait: number | undefined;
    if (expectations.satisfied(key)) {
      const managed = await manage(set, key, onNodes, hash);
      wait = managed.wait;
      // After a change `onNodes` is no longer true; the events of the change bring us back with what is.
      if (!managed.acted && set.spec.updateStrategy?.type !== 'OnDelete')
        await update(set, key, onNodes, hash);
      const live = new Set(owned.map((pod) => pod.metadata.labels?.[REVISION_HASH] ?? ''));
      await pruneHistory(client, history.old, set.spec.revisionHistoryLimit ?? 10, (revision) =>
        live.has(hashOf(revision)),
      );
    }
    await writeStatus(set, onNodes, hash, history.collisionCount);
    const next = nextAvailability(owned, set.spec.minReadySeconds ?? 0, clock.now());
    const soonest = Math.min(wait ?? Number.POSITIVE_INFINITY, next ?? Number.POSITIVE_INFINITY);
    return Number.isFinite(soonest) ? { requeueAfterMs: soonest } : undefined;
  }

  /** Starts and ends pods so that each node has what it should. `wait`: when to look again, if time decides. */
  async function manage(
    set: DaemonSet,
    key: string,
    onNodes: ReadonlyMap<string, readonly Pod[]>,
    hash: string,
  ): Promise<{ readonly acted: boolean; readonly wait: number | undefined }> {
    const start: string[] = [];
    const end: Pod[] = [];
    let wait: number | undefined;
    for (const node of nodes.lister.values()) {
      const there = onNodes.get(node.metadata.name);
      const { run, stay } = belongs(set, node);
      if (run && !there) start.push(node.metadata.name);
      else if (stay && there) {
        const plan = judge(set, node, there, hash, run);
        if (plan.start) start.push(node.metadata.name);
        end.push(...plan.end);
        if (plan.wait !== undefined) wait = Math.min(plan.wait, wait ?? plan.wait);
      } else if (!stay && there) end.push(...there.filter(isStaying));
    }
    for (const [name, there] of onNodes) {
      // Made for a node that went before they were scheduled to it; those that ran there are the pod collector's.
      if (nodes.lister.has(name)) continue;
      end.push(...there.filter((pod) => !pod.spec.nodeName && isStaying(pod)));
    }
    const acted = start.length > 0 || end.length > 0;
    if (acted) await apply(set, key, start, end, hash);
    return { acted, wait };
  }

  function judge(set: DaemonSet, node: Node, there: readonly Pod[], hash: string, run: boolean) {
    const end: Pod[] = [];
    const running: Pod[] = [];
    let wait: number | undefined;
    const name = node.metadata.name;
    const about = referenceTo(type, set);
    for (const pod of there) {
      if (!isStaying(pod)) continue;
      const what = `${pod.metadata.namespace}/${pod.metadata.name} on node ${name}`;
      if (pod.status?.phase === 'Failed') {
        const key = `${set.metadata.uid}/${hash}/${name}`;
        const now = clock.monotonic();
        const left = (failedUntil.get(key) ?? now) - now;
        if (left > 0) {
          wait = Math.min(left, wait ?? left);
          continue;
        }
        failedUntil.set(key, now + failures.when(key));
        recorder.event(
          about,
          'Warning',
          'FailedDaemonPod',
          `Found failed daemon pod ${what}, will try to kill it`,
        );
        end.push(pod);
      } else if (pod.status?.phase === 'Succeeded') {
        recorder.event(
          about,
          'Normal',
          'SucceededDaemonPod',
          `Found succeeded daemon pod ${what}, will try to delete it`,
        );
        end.push(pod);
      } else running.push(pod);
    }
    running.sort(byAge);
    const surges = allowance(set, 1).maxSurge > 0;
    if (!surges) {
      end.push(...running.slice(1));
      return { start: false, end, wait };
    }
    if (running.length <= 1) return { start: running.length === 0 && run, end, wait };
    // One of the new and one of the old may stand beside one another until the new one is available.
    const isNew = (pod: Pod): boolean => pod.metadata.labels?.[REVISION_HASH] === hash;
    const newest = running.find(isNew);
    const oldest = running.find((pod) => !isNew(pod));
    end.push(...running.filter((pod) => pod !== newest && pod !== oldest));
    if (newest && oldest) {
      const available = isPodAvailable(newest, set.spec.minReadySeconds ?? 0, clock.now());
      if (!isPodReady(oldest) || available) end.push(oldest);
    }
    return { start: false, end, wait };
  }

  async function update(
    set: DaemonSet,
    key: string,
    onNodes: ReadonlyMap<string, readonly Pod[]>,
    hash: string,
  ): Promise<void> {
    const wanted = nodes.lister.list().filter((node) => belongs(set, node).run).length;
    const plan = planUpdate(set, onNodes, wanted, hash, clock.now());
    if (plan.start.length > 0 || plan.end.length > 0) await apply(set, key, plan.start, plan.end, hash);
  }

  async function apply(
    set: DaemonSet,
    key: string,
    start: readonly string[],
    end: readonly Pod[],
    hash: string,
  ): Promise<void> {
    const starting = start.slice(0, BURST);
    const ending = end.slice(0, BURST);
    expectations.expect(
      key,
      starting.length,
      ending.map((pod) => pod.metadata.uid),
    );
    const waiting = starting.values();
    const created = slowStart(starting.length, async () => {
      const node = waiting.next().value;
      if (node === undefined) return;
      try {
        await createPod(control, set, podFromTemplate(templateFor(set, node, hash), set, type));
      } catch (error) {
        if (!isNamespaceTerminating(error)) throw error;
        expectations.creationObserved(key);
      }
    });
    const deleted = Promise.allSettled(
      ending.map(async (pod) => {
        try {
          await deletePod(control, set, pod);
        } catch (error) {
          expectations.deletionObserved(key, pod.metadata.uid);
          if (!isNotFound(error)) throw error;
        }
      }),
    );
    const [{ succeeded, error }, results] = await Promise.all([created, deleted]);
    for (let i = succeeded; i < starting.length; i++) expectations.creationObserved(key);
    const failure = error ?? results.find((result) => result.status === 'rejected')?.reason;
    if (failure !== undefined) throw failure;
  }

  async function writeStatus(
    set: DaemonSet,
    onNodes: ReadonlyMap<string, readonly Pod[]>,
    hash: string,
    collisionCount: number | undefined,
  ): Promise<void> {
    const status = {
      desiredNumberScheduled: 0,
      currentNumberScheduled: 0,
      numberMisscheduled: 0,
      numberReady: 0,
      updatedNumberScheduled: 0,
      numberAvailable: 0,
      numberUnavailable: 0,
      observedGeneration: set.metadata.generation ?? 0,
    };
    for (const node of nodes.lister.values()) {
      const [oldest] = (onNodes.get(node.metadata.name) ?? []).toSorted(byAge);
      if (!belongs(set, node).run) {
        if (oldest) status.numberMisscheduled++;
        continue;
      }
      status.desiredNumberScheduled++;
      if (!oldest) continue;
      status.currentNumberScheduled++;
      if (isConditionTrue(oldest.status?.conditions, 'Ready')) {
        status.numberReady++;
        if (isPodAvailable(oldest, set.spec.minReadySeconds ?? 0, clock.now())) status.numberAvailable++;
      }
      if (oldest.metadata.labels?.[REVISION_HASH] === hash) status.updatedNumberScheduled++;
    }
    status.numberUnavailable = status.desiredNumberScheduled - status.numberAvailable;
    const next = { ...set.status, ...status, ...(collisionCount === undefined ? {} : { collisionCount }) };
    if (sameValue({ ...ZERO, ...set.status }, { ...ZERO, ...next })) return;
    await client.resource(type, set.metadata.namespace).updateStatus({ ...set, status: next });
  }

  return {
    ready,
    [Symbol.asyncDispose]: () => disposeAll([sets, pods, nodes, revisions, recorder, controller]),
  };
}

/** The server leaves counts of zero out. */
const ZERO = { updatedNumberScheduled: 0, numberAvailable: 0, numberUnavailable: 0 };

function isStaying(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp === undefined;
}

/** By the node that each is on or for; those that have ended and are being removed are left out. */
function groupByNode(pods: readonly Pod[]): Map<string, Pod[]> {
  const groups = new Map<string, Pod[]>();
  for (const pod of pods) {
    if (isPodTerminal(pod) && !isStaying(pod)) continue;
    const node = targetNode(pod);
    const group = groups.get(node);
    if (group) group.push(pod);
    else groups.set(node, [pod]);
  }
  return groups;
}

/** Scheduled ones first, then the oldest. */
function byAge(a: Pod, b: Pod): number {
  const scheduled = Number(Boolean(b.spec.nodeName)) - Number(Boolean(a.spec.nodeName));
  if (scheduled !== 0) return scheduled;
  const created = (pod: Pod): number => timestampMs(pod.metadata.creationTimestamp) ?? 0;
  return created(a) - created(b) || (a.metadata.name < b.metadata.name ? -1 : 1);
}
