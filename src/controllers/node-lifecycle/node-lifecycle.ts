// Knows which nodes live. A node is heard of through its Lease and its status; one that is silent for the grace period
// gets its conditions set to Unknown, its pods marked not ready and, by the rate of its zone, a NoExecute taint, on
// which the taint eviction controller acts. It also keeps the NoSchedule taints that say what a node's conditions say.
//
// Silence is measured on our own clock from when we saw a change, never by comparing clocks. One timer is set for the
// earliest moment at which some node will have been silent too long.

import { findCondition, isConflict, isNotFound, timestamp } from '../../api/index.ts';
import type { Lease } from '../../api/types/coordination-v1.ts';
import type { Node, NodeCondition, Pod } from '../../api/types/core-v1.ts';
import { createEventRecorder, keyOf, referenceTo, resources, startController } from '../../client/index.ts';
import type { Running, Timer } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { byNode } from '../pods/indexes.ts';
import {
  changeTaints,
  hasEvictionTaint,
  NOT_READY,
  UNREACHABLE,
  withConditionTaints,
  withEvictionTaint,
} from './taints.ts';
import { EvictionQueue, evictionRate, type ZoneState, zoneState } from './zones.ts';

const LEASE_NAMESPACE = 'kube-node-lease';
/** Set to Unknown when the node falls silent; NetworkUnavailable is the network's to say. */
const HEARTBEAT_CONDITIONS = ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'] as const;
/** A label of today → the one that older manifests select by. */
const BETA_LABELS = [
  ['kubernetes.io/os', 'beta.kubernetes.io/os'],
  ['kubernetes.io/arch', 'beta.kubernetes.io/arch'],
] as const;

interface Health {
  readonly node: string;
  zone: string;
  /** When we last heard of the node (monotonic ms). */
  heard: number;
  /** What we heard, to tell a change. */
  heartbeat: string;
  lease: string;
}

export function startNodeLifecycleController(context: ControllerContext): Running {
  const { client, clock, logger, settings } = context;
  const nodes = client.informers.informer(resources.nodes);
  const pods = client.informers.informer(resources.pods);
  const leases = client.informers.informer(resources.leases, { namespace: LEASE_NAMESPACE });
  const podsByNode = pods.index(byNode);
  const recorder = createEventRecorder({ client, component: 'node-controller', clock, logger });
  const health = new Map<string, Health>();
  const zones = new Map<string, EvictionQueue>();
  /** By zone: when its rate allows the next eviction. */
  const timers = new Map<string, Timer>();
  let zoneStates = new Map<string, ZoneState>();
  let judging = false;
  let timer: Timer | undefined;
  let stopped = false;
  const ready = allSynced(nodes, pods, leases);

  /** Everything about one node but its eviction, which waits for the rate of its zone. */
  const controller = startController({
    name: 'node-lifecycle-controller',
    clock,
    logger,
    concurrency: 8,
    ready,
    reconcile,
  });
  const { queue } = controller;
  const evictions = startController({
    name: 'node-lifecycle-controller-evictions',
    clock,
    logger,
    ready,
    reconcile: evict,
  });

  nodes.addHandler({
    added(node) {
      const { name } = node.metadata;
      health.set(name, {
        node: name,
        zone: zoneOf(node),
        heard: clock.monotonic(),
        heartbeat: heartbeatOf(node),
        lease: leases.lister.find(LEASE_NAMESPACE, name)?.spec?.renewTime ?? '',
      });
      nodeEvent(node, 'RegisteredNode', `Node ${name} event: Registered Node ${name} in Controller`);
      queue.add(name);
      changedReadiness();
    },
    updated(node, old) {
      const known = health.get(node.metadata.name);
      if (!known) return;
      const heartbeat = heartbeatOf(node);
      if (heartbeat !== known.heartbeat) {
        known.heartbeat = heartbeat;
        known.heard = clock.monotonic();
      }
      const zone = zoneOf(node);
      const moved = zone !== known.zone;
      if (moved) {
        zones.get(known.zone)?.delete(known.node);
        known.zone = zone;
      }
      // Heartbeats alone come every few seconds from every node; they need no look.
      const relevant =
        readinessOf(node) !== readinessOf(old) ||
        node.spec?.unschedulable !== old.spec?.unschedulable ||
        JSON.stringify(node.spec?.taints) !== JSON.stringify(old.spec?.taints) ||
        JSON.stringify(node.metadata.labels) !== JSON.stringify(old.metadata.labels) ||
        conditionsOf(node) !== conditionsOf(old);
      if (relevant) queue.add(node.metadata.name);
      if (moved || readinessOf(node) !== readinessOf(old)) changedReadiness();
    },
    deleted(node) {
      const { name } = node.metadata;
      nodeEvent(node, 'RemovingNode', `Node ${name} event: Removing Node ${name} from Controller`);
      const known = health.get(name);
      health.delete(name);
      if (known) zones.get(known.zone)?.delete(name);
      changedReadiness();
    },
  });
  const heardOf = (lease: Lease): void => {
    const known = health.get(lease.metadata.name);
    const renewed = lease.spec?.renewTime ?? '';
    if (!known || renewed === known.lease) return;
    known.lease = renewed;
    known.heard = clock.monotonic();
  };
  leases.addHandler({ added: heardOf, updated: heardOf });
  pods.addHandler({
    // A pod that comes to a node which is not ready is not ready either, whatever its kubelet last said.
    added: podChanged,
    updated(pod, old) {
      if (pod.spec.nodeName !== old.spec.nodeName || podReady(pod) !== podReady(old)) podChanged(pod);
    },
  });
  function podChanged(pod: Pod): void {
    const node = pod.spec.nodeName ? nodes.lister.get(pod.spec.nodeName) : undefined;
    if (node && readinessOf(node) === 'Unknown' && podReady(pod)) queue.add(node.metadata.name);
  }
  ready.then(
    () => {
      changedReadiness();
      watchSilence();
    },
    () => {},
  );

  // ---- silence

  function graceOf(node: Node): number {
    return readinessOf(node) === undefined ? settings.nodeStartupGraceMs : settings.nodeMonitorGraceMs;
  }

  /** Queues the nodes that have been silent too long and sets the timer for the next one that may be. */
  function watchSilence(): void {
    timer?.cancel();
    if (stopped) return;
    const now = clock.monotonic();
    let next = Number.POSITIVE_INFINITY;
    for (const known of health.values()) {
      const node = nodes.lister.get(known.node);
      if (!node || readinessOf(node) === 'Unknown') continue;
      const left = known.heard + graceOf(node) - now;
      if (left < 0) queue.add(known.node);
      // A node that is queued now is Unknown soon; if that fails, the queue tries again.
      else next = Math.min(next, left);
    }
    // New nodes come with at least the shorter grace period before them.
    const wait = Math.min(next + 1, settings.nodeMonitorGraceMs);
    timer = clock.setTimer(wait, watchSilence, { unref: true });
  }

  async function reconcile(name: string): Promise<void> {
    const cached = nodes.lister.get(name);
    const known = health.get(name);
    if (!cached || !known) return;
    let node = cached;
    const before = readinessOf(node);
    const silent = clock.monotonic() - known.heard > graceOf(node);
    if (silent && !HEARTBEAT_CONDITIONS.every((type) => statusOf(node, type) === 'Unknown')) {
      node = await client.resource(resources.nodes).updateStatus(withUnknown(node, clock.now()));
      if (before === 'True') nodeEvent(node, 'NodeNotReady', `Node ${name} status is now: NodeNotReady`);
    }
    await reconcileLabels(node);
    await changeTaints(client, clock, name, node, (fresh) => withConditionTaints(fresh, clock.now()));
    planEviction(node, known);
    if (readinessOf(node) === 'Unknown') await markPodsNotReady(name);
  }

  async function reconcileLabels(node: Node): Promise<void> {
    const labels = node.metadata.labels ?? {};
    const missing = BETA_LABELS.flatMap(([label, beta]) => {
      const value = labels[label];
      return value !== undefined && labels[beta] !== value ? [[beta, value] as const] : [];
    });
    if (missing.length === 0) return;
    await client.resource(resources.nodes).patch(node.metadata.name, {
      type: 'merge',
      patch: { metadata: { uid: node.metadata.uid, labels: Object.fromEntries(missing) } },
    });
  }

  async function markPodsNotReady(node: string): Promise<void> {
    const failures: unknown[] = [];
    for (const pod of podsByNode.list(node)) {
      if (!podReady(pod)) continue;
      const now = timestamp(clock.now());
      const conditions = pod.status.conditions?.map((condition) =>
        condition.type === 'Ready' ? { ...condition, status: 'False', lastTransitionTime: now } : condition,
      );
      try {
        await client
          .resource(resources.pods, pod.metadata.namespace)
          .updateStatus({ ...pod, status: { ...pod.status, conditions } });
        recorder.event(referenceTo(resources.pods, pod), 'Warning', 'NodeNotReady', 'Node is not ready');
      } catch (error) {
        if (!isNotFound(error) && !isConflict(error)) failures.push(error);
        else if (isConflict(error)) queue.addRateLimited(node);
      }
    }
    if (failures.length > 0)
      throw new AggregateError(failures, `pods of node ${node} could not be marked not ready`);
  }

  // ---- eviction

  function zoneQueue(zone: string): EvictionQueue {
    let found = zones.get(zone);
    if (!found) {
      found = new EvictionQueue(settings.nodeEvictionRate, clock);
      zones.set(zone, found);
      // A zone that is new may already be wholly lost.
      changedReadiness();
    }
    return found;
  }

  /** True when no zone has a single node that is ready: then it is us who are cut off, and nobody is evicted. */
  function allLost(): boolean {
    return zoneStates.size > 0 && [...zoneStates.values()].every((state) => state === 'FullDisruption');
  }

  function planEviction(node: Node, known: Health): void {
    const readiness = readinessOf(node);
    const waiting = zoneQueue(known.zone);
    if (readiness === 'True' || readiness === undefined) {
      waiting.delete(known.node);
      if (hasEvictionTaint(node)) evictions.queue.add(known.node);
      return;
    }
    // One that is tainted already only changes its taint, which is no new eviction.
    if (hasEvictionTaint(node)) evictions.queue.add(known.node);
    else if (!allLost()) {
      waiting.add(known.node);
      releaseEvictions(known.zone);
    }
  }

  /** Hands over as many nodes as the zone's rate allows, and comes back when it allows the next. */
  function releaseEvictions(zone: string): void {
    const waiting = zones.get(zone);
    if (!waiting || stopped) return;
    for (let node = waiting.take(); node !== undefined; node = waiting.take()) evictions.queue.add(node);
    const next = waiting.untilNext();
    if (next === undefined || timers.has(zone)) return;
    timers.set(
      zone,
      clock.setTimer(
        next,
        () => {
          timers.delete(zone);
          releaseEvictions(zone);
        },
        { unref: true },
      ),
    );
  }
  async function evict(name: string): Promise<void> {
    const cached = nodes.lister.get(name);
    if (!cached) return;
    await changeTaints(client, clock, name, cached, (node) => {
      const readiness = readinessOf(node);
      const key =
        allLost() || readiness === 'True' || readiness === undefined
          ? undefined
          : readiness === 'False'
            ? NOT_READY
            : UNREACHABLE;
      return withEvictionTaint(node, key, clock.now());
    });
  }

  /** Zones are judged anew when a node's readiness changes; once for all changes that come together. */
  function changedReadiness(): void {
    if (judging) return;
    judging = true;
    queueMicrotask(() => {
      judging = false;
      if (nodes.hasSynced && !stopped) judgeZones();
    });
  }

  function judgeZones(): void {
    const members = new Map<string, boolean[]>();
    for (const known of health.values()) {
      const node = nodes.lister.get(known.node);
      const list = members.get(known.zone) ?? [];
      list.push(node !== undefined && readinessOf(node) === 'True');
      members.set(known.zone, list);
    }
    const wasLost = allLost();
    zoneStates = new Map(
      [...members].map(([zone, readiness]) => [zone, zoneState(readiness, settings.unhealthyZoneThreshold)]),
    );
    for (const zone of zones.keys()) if (!members.has(zone)) zones.delete(zone);
    const lost = allLost();
    for (const [zone, readiness] of members) {
      const state = zoneStates.get(zone) ?? 'Normal';
      const rate = lost ? 0 : evictionRate(state, readiness.length, settings);
      zones.get(zone)?.setRate(rate);
      releaseEvictions(zone);
    }
    if (lost === wasLost) return;
    logger.info(
      { controller: 'node-lifecycle-controller', lost },
      lost ? 'all zones are lost; evictions stop' : 'a zone is back; evictions go on',
    );
    if (!lost) {
      // While all seemed lost nobody could be heard: every node gets its full grace period again.
      const now = clock.monotonic();
      for (const known of health.values()) known.heard = now;
    }
    for (const known of health.values()) queue.add(known.node);
    for (const node of nodes.lister.values()) if (hasEvictionTaint(node)) evictions.queue.add(keyOf(node));
  }

  function nodeEvent(node: Node, reason: string, message: string): void {
    const { name, uid } = node.metadata;
    recorder.event({ kind: 'Node', apiVersion: 'v1', name, uid }, 'Normal', reason, message);
  }

  return {
    ready,
    async [Symbol.asyncDispose]() {
      stopped = true;
      timer?.cancel();
      for (const one of timers.values()) one.cancel();
      await disposeAll([nodes, pods, leases, recorder, evictions, controller]);
    },
  };
}

function statusOf(node: Node, type: string): string | undefined {
  return findCondition(node.status?.conditions, type)?.status;
}

function readinessOf(node: Node): string | undefined {
  return statusOf(node, 'Ready');
}

/** What a kubelet changes by being alive. */
function heartbeatOf(node: Node): string {
  return HEARTBEAT_CONDITIONS.map(
    (type) => findCondition(node.status?.conditions, type)?.lastHeartbeatTime ?? '',
  ).join();
}

function conditionsOf(node: Node): string {
  return (node.status?.conditions ?? []).map(({ type, status }) => `${type}=${status}`).join();
}

function podReady(pod: Pod): boolean {
  return findCondition(pod.status?.conditions, 'Ready')?.status === 'True';
}

/** Region and zone, where nodes fail together. */
function zoneOf(node: Node): string {
  const labels = node.metadata.labels ?? {};
  const region =
    labels['topology.kubernetes.io/region'] ?? labels['failure-domain.beta.kubernetes.io/region'] ?? '';
  const zone =
    labels['topology.kubernetes.io/zone'] ?? labels['failure-domain.beta.kubernetes.io/zone'] ?? '';
  return `${region}:${zone}`;
}

function withUnknown(node: Node, now: number): Node {
  const time = timestamp(now);
  const old = node.status?.conditions ?? [];
  const conditions: NodeCondition[] = old.map((condition) =>
    HEARTBEAT_CONDITIONS.some((type) => type === condition.type) && condition.status !== 'Unknown'
      ? {
          ...condition,
          status: 'Unknown',
          reason: 'NodeStatusUnknown',
          message: 'Kubelet stopped posting node status.',
          lastTransitionTime: time,
        }
      : condition,
  );
  for (const type of HEARTBEAT_CONDITIONS)
    if (!findCondition(old, type))
      conditions.push({
        type,
        status: 'Unknown',
        reason: 'NodeStatusNeverUpdated',
        message: 'Kubelet never posted node status.',
        lastHeartbeatTime: node.metadata.creationTimestamp,
        lastTransitionTime: time,
      });
  return { ...node, status: { ...node.status, conditions } };
}
