import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findCondition, microTimestamp, timestamp } from '../../api/index.ts';
import type { Toleration } from '../../api/types/core-v1.ts';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';
import { zoneState } from './zones.ts';

const grace = (seconds: number): Toleration[] =>
  ['not-ready', 'unreachable'].map((what) => ({
    key: `node.kubernetes.io/${what}`,
    operator: 'Exists',
    effect: 'NoExecute',
    tolerationSeconds: seconds,
  }));

async function setup(
  names: readonly string[],
  labels: (name: string) => Record<string, string> = () => ({}),
) {
  const cluster = await startTestCluster([
    'node-lifecycle-controller',
    'taint-eviction-controller',
    'pod-garbage-collector-controller',
  ]);
  cluster.podsEnd = false;
  cluster.podsBecome = (pod) => (pod.status?.phase ? undefined : 'ready');
  const { client, clock } = cluster;
  const nodes = client.resource(resources.nodes);
  const leases = client.resource(resources.leases, 'kube-node-lease');
  const pods = client.resource(resources.pods, 'default');
  const alive = new Set(names);
  for (const name of names) {
    const created = await nodes.create({ metadata: { name, labels: labels(name) }, spec: {} });
    const time = timestamp(clock.now());
    await nodes.updateStatus({
      ...created,
      status: {
        conditions: [
          {
            type: 'Ready',
            status: 'True',
            lastHeartbeatTime: time,
            lastTransitionTime: time,
            reason: 'KubeletReady',
            message: '',
          },
        ],
      },
    });
    await leases.create({ metadata: { name }, spec: { renewTime: microTimestamp(clock.now()) } });
  }
  await cluster.settle();
  /** Lets time pass, with the living nodes renewing their leases. */
  const pass = async (seconds: number) => {
    for (let left = seconds; left > 0; left -= 10) {
      await cluster.advance(Math.min(10, left) * 1000);
      for (const name of alive) {
        const lease = await leases.get(name);
        await leases.update({ ...lease, spec: { ...lease.spec, renewTime: microTimestamp(clock.now()) } });
      }
      await cluster.settle();
    }
  };
  const revive = async (name: string) => {
    alive.add(name);
    const node = await nodes.get(name);
    const time = timestamp(clock.now());
    const conditions = node.status.conditions?.map((c) =>
      c.type === 'Ready' ? { ...c, status: 'True', lastHeartbeatTime: time, lastTransitionTime: time } : c,
    );
    await nodes.updateStatus({ ...node, status: { ...node.status, conditions } });
    await cluster.settle();
  };
  const taints = async (name: string) =>
    ((await nodes.get(name)).spec.taints ?? [])
      .map((t) => `${t.key.replace('node.kubernetes.io/', '')}:${t.effect}`)
      .toSorted();
  const pod = (name: string, nodeName: string, tolerations: Toleration[] = grace(300)) =>
    pods.create({ metadata: { name }, spec: { nodeName, containers: [], tolerations } });
  return { cluster, nodes, pods, alive, pass, revive, taints, pod };
}

test('a node that renews its lease stays ready', async () => {
  const { cluster, pass, taints, nodes } = await setup(['a', 'b']);
  await using _ = cluster;
  await pass(120);
  assert.deepEqual(await taints('a'), []);
  assert.equal(findCondition((await nodes.get('a')).status.conditions, 'Ready')?.status, 'True');
});

test('a silent node becomes Unknown after the grace period, with its pods not ready, and is tainted', async () => {
  const { cluster, pass, taints, nodes, alive, pod, pods } = await setup(['a', 'b']);
  await using _ = cluster;
  await pod('p', 'a');
  await cluster.settle();
  alive.delete('a');
  await pass(40);
  assert.deepEqual(await taints('a'), []);
  await pass(20);
  const { conditions } = (await nodes.get('a')).status;
  const ready = findCondition(conditions, 'Ready');
  assert.deepEqual(
    [ready?.status, ready?.reason, ready?.message],
    ['Unknown', 'NodeStatusUnknown', 'Kubelet stopped posting node status.'],
  );
  assert.equal(findCondition(conditions, 'MemoryPressure')?.reason, 'NodeStatusNeverUpdated');
  assert.deepEqual(await taints('a'), ['unreachable:NoExecute', 'unreachable:NoSchedule']);
  assert.equal(findCondition((await pods.get('p')).status.conditions, 'Ready')?.status, 'False');
  assert.ok((await cluster.events('a')).includes('NodeNotReady: Node a status is now: NodeNotReady'));
  assert.ok((await cluster.events('p')).includes('NodeNotReady: Node is not ready'));
});

test('pods leave a tainted node when their tolerationSeconds have passed, and say why', async () => {
  const { cluster, pass, alive, pod, pods } = await setup(['a', 'b']);
  await using _ = cluster;
  await pod('short', 'a', grace(30));
  await pod('long', 'a', grace(300));
  await pod('none', 'a', []);
  await pod('forever', 'a', [{ operator: 'Exists' }]);
  alive.delete('a');
  await pass(60);
  const leaving = async () =>
    (await pods.list()).items
      .filter((p) => p.metadata.deletionTimestamp)
      .map((p) => p.metadata.name)
      .toSorted();
  assert.deepEqual(await leaving(), ['none']);
  await pass(40);
  assert.deepEqual(await leaving(), ['none', 'short']);
  await pass(300);
  assert.deepEqual(await leaving(), ['long', 'none', 'short']);
  const condition = findCondition((await pods.get('short')).status.conditions, 'DisruptionTarget');
  assert.deepEqual(
    [condition?.status, condition?.reason, condition?.message],
    ['True', 'DeletionByTaintManager', 'Taint manager: deleting due to NoExecute taint'],
  );
  assert.ok(
    (await cluster.events('short')).includes('TaintManagerEviction: Marking for deletion Pod default/short'),
  );
});

test('a node that comes back in time loses its taints and keeps its pods', async () => {
  const { cluster, pass, alive, pod, pods, revive, taints } = await setup(['a', 'b']);
  await using _ = cluster;
  await pod('p', 'a');
  alive.delete('a');
  await pass(100);
  assert.deepEqual(await taints('a'), ['unreachable:NoExecute', 'unreachable:NoSchedule']);
  await revive('a');
  await pass(10);
  assert.deepEqual(await taints('a'), []);
  assert.ok(
    (await cluster.events('p')).includes('TaintManagerEviction: Cancelling deletion of Pod default/p'),
  );
  await pass(400);
  assert.equal((await pods.get('p')).metadata.deletionTimestamp, undefined);
});

test('when every node is lost nobody is evicted', async () => {
  const { cluster, pass, alive, taints } = await setup(['a', 'b']);
  await using _ = cluster;
  alive.clear();
  await pass(70);
  // Both fell silent together: no zone has a node left, so it is we who are cut off.
  assert.deepEqual(await taints('a'), ['unreachable:NoSchedule']);
  assert.deepEqual(await taints('b'), ['unreachable:NoSchedule']);
});

test('nodes of a zone are evicted one after the other, not all at once', async () => {
  const { cluster, pass, alive, taints } = await setup(['a', 'b', 'c', 'd', 'e']);
  await using _ = cluster;
  alive.delete('a');
  alive.delete('b');
  await pass(50);
  await cluster.advance(1000);
  const evicted = async () =>
    (await Promise.all(['a', 'b'].map(taints))).filter((list) => list.includes('unreachable:NoExecute'))
      .length;
  assert.equal(await evicted(), 1);
  await pass(20);
  assert.equal(await evicted(), 2);
});

test('zones are judged as upstream judges them', () => {
  const nodes = (ready: number, notReady: number) => [
    ...Array<boolean>(ready).fill(true),
    ...Array<boolean>(notReady).fill(false),
  ];
  assert.equal(zoneState(nodes(3, 0), 0.55), 'Normal');
  assert.equal(zoneState(nodes(0, 1), 0.55), 'FullDisruption');
  assert.equal(zoneState(nodes(1, 2), 0.55), 'Normal');
  assert.equal(zoneState(nodes(2, 3), 0.55), 'PartialDisruption');
  assert.equal(zoneState(nodes(4, 3), 0.55), 'Normal');
});

test('conditions and cordoning become NoSchedule taints, and labels get their old names', async () => {
  const { cluster, nodes, taints } = await setup(['a', 'b'], () => ({ 'kubernetes.io/arch': 'amd64' }));
  await using _ = cluster;
  let node = await nodes.get('a');
  assert.equal(node.metadata.labels?.['beta.kubernetes.io/arch'], 'amd64');
  node = await nodes.update({ ...node, spec: { ...node.spec, unschedulable: true } });
  await cluster.settle();
  node = await nodes.get('a');
  await nodes.updateStatus({
    ...node,
    status: { conditions: [...(node.status.conditions ?? []), { type: 'DiskPressure', status: 'True' }] },
  });
  await cluster.settle();
  assert.deepEqual(await taints('a'), ['disk-pressure:NoSchedule', 'unschedulable:NoSchedule']);
  node = await nodes.get('a');
  await nodes.update({ ...node, spec: { ...node.spec, unschedulable: false } });
  await cluster.settle();
  assert.deepEqual(await taints('a'), ['disk-pressure:NoSchedule']);
});

test('pods of a node that is gone are failed and removed after a quarantine', async () => {
  const { cluster, nodes, pods, pod, pass } = await setup(['a', 'b']);
  await using _ = cluster;
  const removed: string[] = [];
  await using informer = cluster.client.informers.informer(resources.pods);
  informer.addHandler({
    deleted: (p) =>
      void removed.push(
        `${p.metadata.name} ${p.status.phase} ${findCondition(p.status.conditions, 'DisruptionTarget')?.reason}`,
      ),
  });
  await pod('p', 'a', [{ operator: 'Exists' }]);
  await cluster.settle();
  await nodes.delete('a');
  await pass(30);
  assert.equal((await pods.list()).items.length, 1);
  await pass(20);
  assert.deepEqual(removed, ['p Failed DeletionByPodGC']);
});
