import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Draft } from '../../api/index.ts';
import type { DaemonSet } from '../../api/types/apps-v1.ts';
import type { NodeSpec } from '../../api/types/core-v1.ts';
import { resources } from '../../client/index.ts';
import { canonical } from '../pods/template-hash.ts';
import { startTestCluster } from '../testing/cluster.ts';
import { targetNode } from './placement.ts';

const agent = (more: Partial<DaemonSet['spec']> = {}): Draft<DaemonSet> => ({
  metadata: { name: 'agent' },
  spec: {
    selector: { matchLabels: { app: 'agent' } },
    template: { metadata: { labels: { app: 'agent' } }, spec: { containers: [{ name: 'c', image: 'v1' }] } },
    updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } },
    ...more,
  },
});

async function setup(draft: Draft<DaemonSet>, names = ['a', 'b', 'c']) {
  const cluster = await startTestCluster(['daemonset-controller']);
  const { client } = cluster;
  const nodes = client.resource(resources.nodes);
  const addNode = async (name: string, spec: NodeSpec = {}, labels: Record<string, string> = {}) => {
    await nodes.create({ metadata: { name, labels }, spec });
    await cluster.settle();
  };
  for (const name of names) await addNode(name);
  const sets = client.resource(resources.daemonSets, 'default');
  await sets.create(draft);
  await cluster.settle();
  const placed = async () => {
    await cluster.settle();
    return (await cluster.pods()).map((p) => `${targetNode(p)}:${p.spec.containers[0]?.image}`).toSorted();
  };
  const image = async (name: string) => {
    const set = await sets.get('agent');
    const template = { ...set.spec.template, spec: { containers: [{ name: 'c', image: name }] } };
    await sets.update({ ...set, spec: { ...set.spec, template } });
    await cluster.settle();
  };
  return { cluster, nodes, addNode, sets, placed, image };
}

test('every node gets a pod, new nodes too, and the status counts them', async () => {
  const { cluster, addNode, sets, placed } = await setup(agent());
  await using _ = cluster;
  assert.deepEqual(await placed(), ['a:v1', 'b:v1', 'c:v1']);
  await addNode('d');
  assert.deepEqual(await placed(), ['a:v1', 'b:v1', 'c:v1', 'd:v1']);
  const { status } = await sets.get('agent');
  assert.deepEqual(status, {
    currentNumberScheduled: 4,
    numberMisscheduled: 0,
    desiredNumberScheduled: 4,
    numberReady: 4,
    observedGeneration: 1,
    updatedNumberScheduled: 4,
    numberAvailable: 4,
    numberUnavailable: 0,
  });
  const [pod] = await cluster.pods();
  assert.ok(pod?.metadata.labels?.['controller-revision-hash']);
  assert.ok(pod?.spec.tolerations?.some((t) => t.key === 'node.kubernetes.io/unschedulable'));
});

test('selectors and taints decide where pods run and whether they stay', async () => {
  const { cluster, nodes, addNode, placed, sets } = await setup(
    agent({
      template: {
        metadata: { labels: { app: 'agent' } },
        spec: { nodeSelector: { disk: 'ssd' }, containers: [{ name: 'c', image: 'v1' }] },
      },
    }),
    [],
  );
  await using _ = cluster;
  await addNode('ssd', {}, { disk: 'ssd' });
  await addNode('hdd', {}, { disk: 'hdd' });
  await addNode('tainted', { taints: [{ key: 'x', effect: 'NoSchedule' }] }, { disk: 'ssd' });
  await addNode(
    'cordoned',
    { unschedulable: true, taints: [{ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }] },
    { disk: 'ssd' },
  );
  assert.deepEqual(await placed(), ['cordoned:v1', 'ssd:v1']);
  // NoSchedule lets a running daemon stay, but it is not wanted there any more.
  let node = await nodes.get('ssd');
  await nodes.update({ ...node, spec: { taints: [{ key: 'x', effect: 'NoSchedule' }] } });
  assert.deepEqual(await placed(), ['cordoned:v1', 'ssd:v1']);
  assert.equal((await sets.get('agent')).status.numberMisscheduled, 1);
  node = await nodes.get('ssd');
  await nodes.update({ ...node, spec: { taints: [{ key: 'x', effect: 'NoExecute' }] } });
  assert.deepEqual(await placed(), ['cordoned:v1']);
  node = await nodes.get('hdd');
  await nodes.update({ ...node, metadata: { ...node.metadata, labels: { disk: 'ssd' } } });
  assert.deepEqual(await placed(), ['cordoned:v1', 'hdd:v1']);
});

test('a rolling update never has more than maxUnavailable nodes without a ready daemon', async () => {
  const { cluster, image, placed, sets } = await setup(agent());
  await using _ = cluster;
  let most = 0;
  await using informer = cluster.client.informers.informer(resources.pods);
  await informer.synced;
  informer.addHandler({
    deleted() {
      const ready = informer.lister.list().filter((p) => p.status?.conditions?.[0]?.status === 'True').length;
      most = Math.max(most, 3 - ready);
    },
  });
  await image('v2');
  await cluster.advance(5000);
  assert.deepEqual(await placed(), ['a:v2', 'b:v2', 'c:v2']);
  assert.equal(most, 1);
  assert.equal((await sets.get('agent')).status.updatedNumberScheduled, 3);
});

test('an update that does not become ready stops at the first node', async () => {
  const { cluster, image, placed } = await setup(agent());
  await using _ = cluster;
  cluster.podsBecome = (pod) => (pod.spec.containers[0]?.image === 'broken' ? 'running' : 'ready');
  await image('broken');
  await cluster.advance(5000);
  assert.equal((await placed()).filter((p) => p.endsWith('broken')).length, 1);
  await image('v1');
  await cluster.advance(5000);
  assert.deepEqual(await placed(), ['a:v1', 'b:v1', 'c:v1']);
});

test('with maxSurge the new pod is ready before the old one goes', async () => {
  const { cluster, image, placed } = await setup(
    agent({ updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } } }),
  );
  await using _ = cluster;
  let least = 3;
  await using informer = cluster.client.informers.informer(resources.pods);
  await informer.synced;
  informer.addHandler({
    deleted() {
      const nodes = informer.lister
        .list()
        .filter((p) => p.status?.conditions?.[0]?.status === 'True')
        .map(targetNode);
      least = Math.min(least, new Set(nodes).size);
    },
  });
  await image('v2');
  await cluster.advance(5000);
  assert.deepEqual(await placed(), ['a:v2', 'b:v2', 'c:v2']);
  assert.equal(least, 3);
});

test('OnDelete replaces only what somebody else deletes', async () => {
  const { cluster, image, placed } = await setup(agent({ updateStrategy: { type: 'OnDelete' } }));
  await using _ = cluster;
  await image('v2');
  await cluster.advance(3000);
  assert.deepEqual(await placed(), ['a:v1', 'b:v1', 'c:v1']);
  const pod = (await cluster.pods()).find((p) => targetNode(p) === 'b');
  await cluster.client.resource(resources.pods, 'default').delete(pod!.metadata.name);
  assert.deepEqual(await placed(), ['a:v1', 'b:v2', 'c:v1']);
});

test('revisions are kept as history, gone back to by a higher number, and pruned', async () => {
  const { cluster, image } = await setup(agent({ revisionHistoryLimit: 1 }));
  await using _ = cluster;
  const history = async () =>
    (await cluster.client.resource(resources.controllerRevisions, 'default').list()).items
      .map((r) => {
        const data = r.data as {
          spec: { template: { spec: { containers: [{ image: string }] }; $patch: string } };
        };
        assert.equal(data.spec.template.$patch, 'replace');
        return `${r.revision}:${data.spec.template.spec.containers[0].image}`;
      })
      .toSorted();
  assert.deepEqual(await history(), ['1:v1']);
  await image('v2');
  await cluster.advance(5000);
  await image('v1');
  await cluster.advance(5000);
  assert.deepEqual(await history(), ['2:v2', '3:v1']);
  await image('v3');
  await cluster.advance(5000);
  assert.deepEqual(await history(), ['3:v1', '4:v3']);
});

test('a revision holds the template as the patch that clients compare byte by byte', async () => {
  const { cluster } = await setup(agent());
  await using _ = cluster;
  const { items } = await cluster.client.resource(resources.controllerRevisions, 'default').list();
  const data = items[0]?.data as { spec: { template: Record<string, unknown> } };
  assert.deepEqual(Object.keys(data.spec.template), ['$patch', 'metadata', 'spec']);
  assert.equal(JSON.stringify(data), canonical(data));
});

test('a daemon that fails is replaced, with a growing delay and an event', async () => {
  const { cluster } = await setup(agent(), ['a']);
  await using _ = cluster;
  let made = 0;
  cluster.podsBecome = () => 'failed';
  await using informer = cluster.client.informers.informer(resources.pods);
  await informer.synced;
  informer.addHandler({ added: () => void made++ });
  made = 0;
  const [pod] = await cluster.pods();
  await cluster.client
    .resource(resources.pods, 'default')
    .updateStatus({ ...pod!, status: { phase: 'Failed' } });
  await cluster.advance(60_000);
  assert.ok(made >= 4 && made <= 8, `${made} pods in a minute`);
  assert.match(
    (await cluster.events('agent')).find((e) => e.startsWith('FailedDaemonPod')) ?? '',
    /Found failed daemon pod default\/agent-\w+ on node a, will try to kill it/,
  );
});
