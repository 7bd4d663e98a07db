import assert from 'node:assert/strict';
import { test } from 'node:test';
import { controllerOf, type Draft, forbidden } from '../../api/index.ts';
import type { ReplicaSet } from '../../api/types/apps-v1.ts';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';

const web = (replicas: number, more: Partial<ReplicaSet['spec']> = {}): Draft<ReplicaSet> => ({
  metadata: { name: 'web' },
  spec: {
    replicas,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: { containers: [{ name: 'c', image: 'i' }] },
    },
    ...more,
  },
});

async function setup(draft: Draft<ReplicaSet>) {
  const cluster = await startTestCluster(['replicaset-controller']);
  const sets = cluster.client.resource(resources.replicaSets, 'default');
  await sets.create(draft);
  await cluster.settle();
  const scale = async (replicas: number) => {
    const set = await sets.get('web');
    await sets.update({ ...set, spec: { ...set.spec, replicas } });
    await cluster.settle();
  };
  return { cluster, sets, scale };
}

test('a ReplicaSet creates its pods, owns them and reports them', async () => {
  const { cluster, sets } = await setup(web(3));
  await using _ = cluster;
  const pods = await cluster.pods();
  assert.equal(pods.length, 3);
  const set = await sets.get('web');
  for (const pod of pods) {
    assert.match(pod.metadata.name, /^web-/);
    assert.deepEqual(controllerOf(pod), {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      name: 'web',
      uid: set.metadata.uid,
      controller: true,
      blockOwnerDeletion: true,
    });
  }
  assert.deepEqual(set.status, {
    replicas: 3,
    fullyLabeledReplicas: 3,
    readyReplicas: 3,
    availableReplicas: 3,
    terminatingReplicas: 0,
    observedGeneration: 1,
    conditions: [],
  });
  const events = await cluster.events('web');
  assert.equal(events.filter((e) => /^SuccessfulCreate: Created pod: web-/.test(e)).length, 3);
});

test('scaling down deletes the pods that are not ready first', async () => {
  const { cluster, sets, scale } = await setup(web(0));
  await using _ = cluster;
  let made = 0;
  cluster.podsBecome = (pod) =>
    pod.status?.phase
      ? pod.status.conditions?.[0]?.status === 'True'
        ? 'ready'
        : 'running'
      : made++ < 2
        ? 'ready'
        : 'running';
  await scale(4);
  assert.equal((await sets.get('web')).status?.readyReplicas, 2);
  await scale(2);
  const { status } = await sets.get('web');
  assert.deepEqual([status?.replicas, status?.readyReplicas], [2, 2]);
});

test('a pod that ends is replaced at once, a terminating one is counted apart', async () => {
  const { cluster, sets } = await setup(web(2));
  await using _ = cluster;
  cluster.podsEnd = false;
  const [victim] = await cluster.pods();
  const pods = cluster.client.resource(resources.pods, 'default');
  await pods.update({ ...victim!, spec: { ...victim!.spec, nodeName: 'n1' } });
  await pods.delete(victim!.metadata.name);
  await cluster.settle();
  assert.equal((await cluster.pods()).length, 3);
  const { status } = await sets.get('web');
  assert.deepEqual([status?.replicas, status?.terminatingReplicas], [2, 1]);
});

test('orphans that match are adopted, and own pods that no longer match are released', async () => {
  await using cluster = await startTestCluster(['replicaset-controller']);
  const pods = cluster.client.resource(resources.pods, 'default');
  await pods.create({ metadata: { name: 'orphan', labels: { app: 'web' } }, spec: { containers: [] } });
  const set = await cluster.client.resource(resources.replicaSets, 'default').create(web(2));
  await cluster.settle();
  assert.equal((await cluster.pods()).length, 2);
  const adopted = await pods.get('orphan');
  assert.equal(controllerOf(adopted)?.uid, set.metadata.uid);
  await pods.update({ ...adopted, metadata: { ...adopted.metadata, labels: { app: 'quarantined' } } });
  await cluster.settle();
  assert.equal(controllerOf(await pods.get('orphan')), undefined);
  assert.equal((await cluster.pods()).length, 3);
});

test('a set that is being deleted adopts nothing', async () => {
  const { cluster, sets } = await setup({ ...web(0), metadata: { name: 'web', finalizers: ['x/y'] } });
  await using _ = cluster;
  await sets.delete('web');
  await cluster.client
    .resource(resources.pods, 'default')
    .create({ metadata: { name: 'orphan', labels: { app: 'web' } }, spec: { containers: [] } });
  await cluster.settle();
  const [orphan] = await cluster.pods();
  assert.equal(controllerOf(orphan!), undefined);
});

test('a stale cache does not lead to more pods than asked for', async () => {
  const { cluster, scale } = await setup(web(0));
  await using _ = cluster;
  // The watch of pods stands still: nothing of what is created comes back.
  const release = Promise.withResolvers<void>();
  cluster.api.intercept = async (call) => {
    if (call.verb === 'watch' && call.resource.resource === 'pods') await release.promise;
    return undefined;
  };
  await cluster.advance(2000);
  cluster.api.dropWatches();
  await cluster.settle();
  await scale(3);
  await scale(4);
  await cluster.advance(3000);
  assert.equal((await cluster.pods()).length, 3);
  release.resolve();
  await cluster.advance(3000);
  assert.equal((await cluster.pods()).length, 4);
});

test('creation that fails is tried slowly and reported in a condition and an event', async () => {
  const { cluster, sets, scale } = await setup(web(0));
  await using _ = cluster;
  let refused = 0;
  cluster.api.intercept = (call) => {
    if (call.verb !== 'create' || call.resource.resource !== 'pods') return undefined;
    refused++;
    throw forbidden({ group: '', name: 'pods' }, 'web-x', 'exceeded quota');
  };
  await scale(100);
  assert.ok(refused <= 3, `${refused} attempts at once`);
  const failing = await sets.get('web');
  assert.equal(failing.status?.conditions?.[0]?.type, 'ReplicaFailure');
  assert.equal(failing.status?.conditions?.[0]?.reason, 'FailedCreate');
  assert.equal(failing.status?.conditions?.[0]?.message, 'pods "web-x" is forbidden: exceeded quota');
  assert.ok(
    (await cluster.events('web')).includes(
      'FailedCreate: Error creating: pods "web-x" is forbidden: exceeded quota',
    ),
  );
  cluster.api.intercept = undefined;
  await cluster.advance(60_000);
  const healed = await sets.get('web');
  assert.deepEqual(healed.status?.conditions, []);
  assert.equal((await cluster.pods()).length, 100);
});

test('pods become available after minReadySeconds, without any other event', async () => {
  const { cluster, sets } = await setup(web(2, { minReadySeconds: 10 }));
  await using _ = cluster;
  assert.deepEqual(
    [(await sets.get('web')).status?.readyReplicas, (await sets.get('web')).status?.availableReplicas],
    [2, 0],
  );
  await cluster.advance(9000);
  assert.equal((await sets.get('web')).status?.availableReplicas, 0);
  await cluster.advance(1000);
  assert.equal((await sets.get('web')).status?.availableReplicas, 2);
});
