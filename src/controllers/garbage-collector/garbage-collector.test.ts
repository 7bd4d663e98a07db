import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConfigMap } from '../../api/types/core-v1.ts';
import type { OwnerReference } from '../../api/types/meta-v1.ts';
import { namespaced, type PropagationPolicy, resources } from '../../client/index.ts';
import { startTestCluster, type TestCluster } from '../testing/cluster.ts';

const maps = (cluster: TestCluster, namespace = 'default') =>
  cluster.client.resource(resources.configMaps, namespace);

function owner(object: ConfigMap, more: Partial<OwnerReference> = {}): OwnerReference {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    name: object.metadata.name,
    uid: object.metadata.uid,
    ...more,
  };
}

async function create(
  cluster: TestCluster,
  name: string,
  owners: OwnerReference[] = [],
  namespace = 'default',
) {
  return maps(cluster, namespace).create({ metadata: { name, ownerReferences: owners } });
}

async function names(cluster: TestCluster, namespace = 'default') {
  await cluster.settle();
  return (await maps(cluster, namespace).list()).items.map((item) => item.metadata.name).toSorted();
}

async function remove(cluster: TestCluster, name: string, propagationPolicy: PropagationPolicy) {
  await maps(cluster).delete(name, { propagationPolicy });
  await cluster.settle();
}

const start = () => startTestCluster(['garbage-collector-controller']);

test('background: the owner goes at once and its dependents after it, level by level', async () => {
  await using cluster = await start();
  const a = await create(cluster, 'a');
  const b = await create(cluster, 'b', [owner(a)]);
  await create(cluster, 'c', [owner(b)]);
  await create(cluster, 'unrelated');
  await remove(cluster, 'a', 'Background');
  assert.deepEqual(await names(cluster), ['unrelated']);
});

test('an object with several owners stays until the last is gone, and loses the references to the others', async () => {
  await using cluster = await start();
  const a = await create(cluster, 'a');
  const b = await create(cluster, 'b');
  await create(cluster, 'shared', [owner(a), owner(b)]);
  await remove(cluster, 'a', 'Background');
  assert.deepEqual(await names(cluster), ['b', 'shared']);
  const shared = await maps(cluster).get('shared');
  assert.deepEqual(shared.metadata.ownerReferences, [owner(b)]);
  await remove(cluster, 'b', 'Background');
  assert.deepEqual(await names(cluster), []);
});

test('foreground: the owner stays until the dependents that block it are gone', async () => {
  await using cluster = await start();
  const a = await create(cluster, 'a');
  const held = await maps(cluster).create({
    metadata: {
      name: 'held',
      finalizers: ['example.com/hold'],
      ownerReferences: [owner(a, { blockOwnerDeletion: true })],
    },
  });
  await create(cluster, 'free', [owner(a, { blockOwnerDeletion: true })]);
  await maps(cluster).create({
    metadata: { name: 'slow', finalizers: ['example.com/hold'], ownerReferences: [owner(a)] },
  });
  await remove(cluster, 'a', 'Foreground');
  assert.deepEqual(await names(cluster), ['a', 'held', 'slow']);
  assert.notEqual((await maps(cluster).get('held')).metadata.deletionTimestamp, undefined);
  const current = await maps(cluster).get(held.metadata.name);
  await maps(cluster).update({ ...current, metadata: { ...current.metadata, finalizers: [] } });
  // "slow" does not block: the owner goes before it.
  assert.deepEqual(await names(cluster), ['slow']);
});

test('foreground goes down the whole tree before the root goes', async () => {
  await using cluster = await start();
  const order: string[] = [];
  const a = await create(cluster, 'a');
  const b = await create(cluster, 'b', [owner(a, { blockOwnerDeletion: true })]);
  await create(cluster, 'c', [owner(b, { blockOwnerDeletion: true })]);
  await using informer = cluster.client.informers.informer(resources.configMaps);
  await informer.synced;
  informer.addHandler({ deleted: (map) => void order.push(map.metadata.name) });
  await remove(cluster, 'a', 'Foreground');
  assert.deepEqual(order, ['c', 'b', 'a']);
});

test('orphan: dependents stay and lose their reference before the owner goes', async () => {
  await using cluster = await start();
  const a = await create(cluster, 'a');
  const other = await create(cluster, 'other');
  await create(cluster, 'b', [owner(a)]);
  await create(cluster, 'c', [owner(a), owner(other)]);
  await remove(cluster, 'a', 'Orphan');
  assert.deepEqual(await names(cluster), ['b', 'c', 'other']);
  assert.deepEqual((await maps(cluster).get('b')).metadata.ownerReferences ?? [], []);
  assert.deepEqual((await maps(cluster).get('c')).metadata.ownerReferences, [owner(other)]);
});

test('two objects that own one another in the foreground do not wait for ever', async () => {
  await using cluster = await start();
  const a = await create(cluster, 'a');
  const b = await create(cluster, 'b', [owner(a, { blockOwnerDeletion: true })]);
  const current = await maps(cluster).get('a');
  await maps(cluster).update({
    ...current,
    metadata: { ...current.metadata, ownerReferences: [owner(b, { blockOwnerDeletion: true })] },
  });
  await cluster.settle();
  await remove(cluster, 'a', 'Foreground');
  await cluster.advance(2000);
  assert.deepEqual(await names(cluster), []);
});

test('an object whose owner never existed is deleted, after the server was asked', async () => {
  await using cluster = await start();
  const ghost = { apiVersion: 'v1', kind: 'ConfigMap', name: 'ghost', uid: 'no-such-uid' };
  await create(cluster, 'child', [ghost]);
  assert.deepEqual(await names(cluster), []);
});

test('an owner that the cache has not seen but the server has is respected', async () => {
  await using cluster = await start();
  // The watch of Secrets stands still while their owner is made.
  const release = Promise.withResolvers<void>();
  cluster.api.intercept = async (call) => {
    if (call.verb === 'watch' && call.resource.resource === 'secrets') await release.promise;
    return undefined;
  };
  await cluster.advance(2000);
  cluster.api.dropWatches();
  await cluster.settle();
  const secret = await cluster.client
    .resource(resources.secrets, 'default')
    .create({ metadata: { name: 's' } });
  await create(cluster, 'child', [{ apiVersion: 'v1', kind: 'Secret', name: 's', uid: secret.metadata.uid }]);
  assert.deepEqual(await names(cluster), ['child']);
  release.resolve();
  await cluster.advance(3000);
  assert.deepEqual(await names(cluster), ['child']);
  await cluster.client.resource(resources.secrets, 'default').delete('s');
  assert.deepEqual(await names(cluster), []);
});

test('a reference to an owner in another namespace counts as absent and is reported', async () => {
  await using cluster = await start();
  const a = await create(cluster, 'a', [], 'elsewhere');
  await cluster.settle();
  await create(cluster, 'child', [owner(a)]);
  assert.deepEqual(await names(cluster), []);
  assert.deepEqual(await names(cluster, 'elsewhere'), ['a']);
  assert.deepEqual(await cluster.events('child'), [
    `OwnerRefInvalidNamespace: ownerRef [v1/ConfigMap, namespace: default, name: a, uid: ${a.metadata.uid}] does not exist in namespace "default"`,
  ]);
});

test('nothing is deleted for an owner of a kind that is not served, until it is', async () => {
  await using cluster = await start();
  const widgets = namespaced('example.com', 'v1', 'widgets', 'Widget');
  const ref = { apiVersion: 'example.com/v1', kind: 'Widget', name: 'w', uid: 'gone' };
  await create(cluster, 'child', [ref]);
  await cluster.advance(5000);
  assert.deepEqual(await names(cluster), ['child']);
  cluster.api.serve(widgets);
  await cluster.client.resource(resources.customResourceDefinitions).create({
    metadata: { name: 'widgets.example.com' },
    spec: {
      group: 'example.com',
      names: { kind: 'Widget', plural: 'widgets' },
      scope: 'Namespaced',
      versions: [],
    },
  });
  await cluster.advance(60_000);
  assert.deepEqual(await names(cluster), []);
  const widget = await cluster.client.resource(widgets, 'default').create({ metadata: { name: 'w' } });
  await create(cluster, 'owned', [{ ...ref, uid: widget.metadata.uid }]);
  await cluster.settle();
  await cluster.client.resource(widgets, 'default').delete('w');
  assert.deepEqual(await names(cluster), []);
});

test('objects with living owners cost the server nothing', async () => {
  await using cluster = await start();
  const a = await create(cluster, 'a');
  await cluster.settle();
  for (let i = 0; i < 20; i++) await create(cluster, `d${i}`, [owner(a)]);
  await cluster.settle();
  assert.equal(cluster.api.calls.filter((call) => call.startsWith('get ')).length, 0);
});
