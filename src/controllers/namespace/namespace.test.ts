import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forbidden } from '../../api/index.ts';
import { namespaced, resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';

async function setup() {
  const cluster = await startTestCluster(['namespace-controller', 'garbage-collector-controller']);
  const namespaces = cluster.client.resource(resources.namespaces);
  await namespaces.create({ metadata: { name: 'team' }, spec: {} });
  const exists = async () => {
    await cluster.settle();
    return (await namespaces.list()).items.some((n) => n.metadata.name === 'team');
  };
  const condition = async (type: string) => {
    await cluster.settle();
    const { status, reason, message } =
      (await namespaces.get('team')).status?.conditions?.find((c) => c.type === type) ?? {};
    return `${status} ${reason}: ${message}`;
  };
  return { cluster, namespaces, exists, condition };
}

test('a deleted namespace takes all its content with it, custom resources too', async () => {
  const { cluster, namespaces, exists } = await setup();
  await using _ = cluster;
  const widgets = namespaced('example.com', 'v1', 'widgets', 'Widget');
  cluster.api.serve(widgets);
  await cluster.client.resource(resources.configMaps, 'team').create({ metadata: { name: 'a' } });
  await cluster.client.resource(widgets, 'team').create({ metadata: { name: 'w' } });
  await cluster.client.resource(resources.configMaps, 'other').create({ metadata: { name: 'stays' } });
  await namespaces.delete('team');
  assert.equal(await exists(), false);
  assert.deepEqual((await cluster.client.resource(widgets).list()).items, []);
  assert.deepEqual(
    (await cluster.client.resource(resources.configMaps).list()).items.map((c) => c.metadata.name),
    ['stays'],
  );
});

test('pods end before anything else is deleted, and the namespace goes when the last one has ended', async () => {
  const { cluster, namespaces, exists, condition } = await setup();
  await using _ = cluster;
  cluster.podsEnd = false;
  const pods = cluster.client.resource(resources.pods, 'team');
  await cluster.client.resource(resources.secrets, 'team').create({ metadata: { name: 's' } });
  await pods.create({ metadata: { name: 'p' }, spec: { containers: [], nodeName: 'n1' } });
  await namespaces.delete('team');
  assert.equal(await exists(), true);
  assert.notEqual((await pods.get('p')).metadata.deletionTimestamp, undefined);
  assert.equal((await cluster.client.resource(resources.secrets, 'team').list()).items.length, 1);
  assert.equal(
    await condition('NamespaceContentRemaining'),
    'True SomeResourcesRemain: Some resources are remaining: pods. has 1 resource instances',
  );
  assert.equal(
    await condition('NamespaceDeletionContentFailure'),
    'False ContentDeleted: All content successfully deleted, may be waiting on finalization',
  );
  await pods.delete('p', { gracePeriodSeconds: 0 });
  assert.equal(await exists(), false);
});

test('a pod whose creation was under way when the namespace was emptied is deleted, too', async () => {
  const { cluster, namespaces, exists } = await setup();
  await using _ = cluster;
  cluster.podsEnd = false;
  const pods = cluster.client.resource(resources.pods, 'team');
  await pods.create({ metadata: { name: 'p' }, spec: { containers: [], nodeName: 'n1' } });
  await namespaces.delete('team');
  assert.equal(await exists(), true);
  await pods.create({ metadata: { name: 'late' }, spec: { containers: [], nodeName: 'n1' } });
  await cluster.settle();
  assert.notEqual((await pods.get('late')).metadata.deletionTimestamp, undefined);
  for (const name of ['p', 'late']) await pods.delete(name, { gracePeriodSeconds: 0 });
  assert.equal(await exists(), false);
});

test('what comes back as fast as it is deleted is reported, and deleted again later and later', async () => {
  const { cluster, namespaces, exists, condition } = await setup();
  await using _ = cluster;
  const pods = cluster.client.resource(resources.pods, 'team');
  // On no node: it is gone as soon as it is deleted.
  const create = () => pods.create({ metadata: { generateName: 'p-' }, spec: { containers: [] } });
  await create();
  let deletions = 0;
  let replace = true;
  let missing = false;
  cluster.api.intercept = async ({ verb, resource }) => {
    if (resource.resource !== 'pods') return undefined;
    if (verb === 'deletecollection') {
      deletions++;
      missing = replace;
    } else if (verb === 'list' && missing) {
      missing = false;
      await create();
    }
    return undefined;
  };
  await namespaces.delete('team');
  assert.equal(await exists(), true);
  assert.equal(
    await condition('NamespaceDeletionContentFailure'),
    'True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: unexpected items still remain in namespace: team for gvr: /v1, Resource=pods',
  );
  await cluster.advance(30_000);
  assert.ok(deletions > 3 && deletions < 15, `${deletions} deletions in 30 s`);
  replace = false;
  await cluster.advance(60_000);
  assert.equal(await exists(), false);
});

test('finalizers are waited for and named', async () => {
  const { cluster, namespaces, exists, condition } = await setup();
  await using _ = cluster;
  const maps = cluster.client.resource(resources.configMaps, 'team');
  await maps.create({ metadata: { name: 'a', finalizers: ['example.com/hold'] } });
  await namespaces.delete('team');
  assert.equal(await exists(), true);
  assert.equal(
    await condition('NamespaceFinalizersRemaining'),
    'True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances',
  );
  const map = await maps.get('a');
  await maps.update({ ...map, metadata: { ...map.metadata, finalizers: [] } });
  assert.equal(await exists(), false);
});

test('what cannot be deleted is reported and tried again', async () => {
  const { cluster, namespaces, exists, condition } = await setup();
  await using _ = cluster;
  await cluster.client.resource(resources.configMaps, 'team').create({ metadata: { name: 'a' } });
  let refuse = true;
  cluster.api.intercept = (call) => {
    if (refuse && call.verb === 'deletecollection')
      throw forbidden({ group: '', name: 'configmaps' }, '', 'no');
    return undefined;
  };
  await namespaces.delete('team');
  assert.equal(await exists(), true);
  assert.equal(
    await condition('NamespaceDeletionContentFailure'),
    'True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: configmaps is forbidden: no',
  );
  refuse = false;
  await cluster.advance(30_000);
  assert.equal(await exists(), false);
});

test('every namespace gets its default ServiceAccount and the root CA, and gets them back', async () => {
  await using cluster = await startTestCluster(
    ['serviceaccount-controller', 'root-ca-certificate-publisher-controller'],
    { rootCa: 'PEM' },
  );
  const { client } = cluster;
  await client.resource(resources.namespaces).create({ metadata: { name: 'team' }, spec: {} });
  await cluster.settle();
  const accounts = client.resource(resources.serviceAccounts, 'team');
  const maps = client.resource(resources.configMaps, 'team');
  const first = await accounts.get('default');
  assert.deepEqual((await maps.get('kube-root-ca.crt')).data, { 'ca.crt': 'PEM' });
  await accounts.delete('default');
  await cluster.settle();
  assert.notEqual((await accounts.get('default')).metadata.uid, first.metadata.uid);
  const map = await maps.get('kube-root-ca.crt');
  await maps.update({ ...map, data: { 'ca.crt': 'forged', more: 'x' } });
  await cluster.settle();
  assert.deepEqual((await maps.get('kube-root-ca.crt')).data, { 'ca.crt': 'PEM' });
  await maps.delete('kube-root-ca.crt');
  await cluster.settle();
  assert.deepEqual((await maps.get('kube-root-ca.crt')).data, { 'ca.crt': 'PEM' });
});
