import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Draft } from '../../api/index.ts';
import type { StatefulSet, StatefulSetSpec } from '../../api/types/apps-v1.ts';
import type { PersistentVolumeClaim, Pod } from '../../api/types/core-v1.ts';
import { type ResourceType, resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';

const db = (spec: Partial<StatefulSetSpec> = {}): Draft<StatefulSet> => ({
  metadata: { name: 'db' },
  spec: {
    replicas: 3,
    serviceName: 'db',
    selector: { matchLabels: { app: 'db' } },
    template: { metadata: { labels: { app: 'db' } }, spec: { containers: [{ name: 'c', image: 'v1' }] } },
    updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0 } },
    podManagementPolicy: 'OrderedReady',
    volumeClaimTemplates: [
      {
        metadata: { name: 'data' },
        spec: { accessModes: ['ReadWriteOnce'] },
      } as unknown as PersistentVolumeClaim,
    ],
    ...spec,
  },
});

async function setup(
  draft: Draft<StatefulSet>,
  becomes: (pod: Pod) => 'ready' | 'running' | undefined = () => 'ready',
) {
  const cluster = await startTestCluster(['statefulset-controller', 'garbage-collector-controller']);
  cluster.podsBecome = becomes;
  const { client } = cluster;
  const sets = client.resource(resources.statefulSets, 'default');
  const log: string[] = [];
  const informer = client.informers.informer(resources.pods);
  const image = (pod: Pod) => pod.spec.containers[0]?.image;
  informer.addHandler({
    added: (p) => void log.push(`+${p.metadata.name}`),
    deleted: (p) => void log.push(`-${p.metadata.name}`),
  });
  await informer.synced;
  await sets.create(draft);
  await cluster.advance(2000);
  const change = async (edit: Partial<StatefulSetSpec>) => {
    log.length = 0;
    const set = await sets.get('db');
    await sets.update({ ...set, spec: { ...set.spec, ...edit } });
    await cluster.advance(3000);
  };
  const toImage = async (name: string, edit: Partial<StatefulSetSpec> = {}) => {
    const { spec } = await sets.get('db');
    await change({
      ...edit,
      template: { ...spec.template, spec: { containers: [{ name: 'c', image: name }] } },
    });
  };
  const names = async (type: ResourceType) =>
    (await client.resource(type, 'default').list()).items.map((o) => o.metadata.name).toSorted();
  const images = async () =>
    Object.fromEntries((await cluster.pods()).map((p) => [p.metadata.name, image(p)]).toSorted());
  return { cluster, client, sets, log, change, toImage, names, images };
}

test('pods are made one after the other, each with its name, its claim and its place', async () => {
  const { cluster, sets, log, names } = await setup(db());
  await using _ = cluster;
  assert.deepEqual(log, ['+db-0', '+db-1', '+db-2']);
  assert.deepEqual(await names(resources.persistentVolumeClaims), ['data-db-0', 'data-db-1', 'data-db-2']);
  const pod = (await cluster.pods()).find((p) => p.metadata.name === 'db-1');
  assert.equal(pod?.spec.hostname, 'db-1');
  assert.equal(pod?.spec.subdomain, 'db');
  assert.equal(pod?.metadata.labels?.['statefulset.kubernetes.io/pod-name'], 'db-1');
  assert.equal(pod?.metadata.labels?.['apps.kubernetes.io/pod-index'], '1');
  assert.deepEqual(pod?.spec.volumes, [
    { name: 'data', persistentVolumeClaim: { claimName: 'data-db-1', readOnly: false } },
  ]);
  const { status } = await sets.get('db');
  assert.equal(pod?.metadata.labels?.['controller-revision-hash'], status.updateRevision);
  assert.deepEqual(
    [
      status.replicas,
      status.readyReplicas,
      status.availableReplicas,
      status.currentReplicas,
      status.updatedReplicas,
    ],
    [3, 3, 3, 3, 3],
  );
  assert.equal(status.currentRevision, status.updateRevision);
  assert.ok(
    (await cluster.events('db')).includes('SuccessfulCreate: create Pod db-0 in StatefulSet db successful'),
  );
});

test('no pod is made before the one before it is ready; Parallel does not wait', async () => {
  const slow = (pod: Pod) => (pod.metadata.name === 'db-1' ? 'running' : 'ready') as 'ready' | 'running';
  const first = await setup(db(), slow);
  assert.deepEqual(first.log, ['+db-0', '+db-1']);
  await first.cluster[Symbol.asyncDispose]();
  const second = await setup(db({ podManagementPolicy: 'Parallel' }), slow);
  assert.deepEqual(second.log.toSorted(), ['+db-0', '+db-1', '+db-2']);
  await second.cluster[Symbol.asyncDispose]();
});

test('scaling down ends the highest first, one at a time, and keeps their claims', async () => {
  const { cluster, change, log, names } = await setup(db());
  await using _ = cluster;
  await change({ replicas: 1 });
  assert.deepEqual(log, ['-db-2', '-db-1']);
  assert.deepEqual(await names(resources.persistentVolumeClaims), ['data-db-0', 'data-db-1', 'data-db-2']);
  await change({ replicas: 2 });
  assert.deepEqual(log, ['+db-1']);
});

test('the retention policy deletes the claims of pods that are scaled away, and all with the set', async () => {
  const { cluster, change, names, sets, client } = await setup(
    db({ persistentVolumeClaimRetentionPolicy: { whenScaled: 'Delete', whenDeleted: 'Delete' } }),
  );
  await using _ = cluster;
  await change({ replicas: 1 });
  assert.deepEqual(await names(resources.persistentVolumeClaims), ['data-db-0']);
  const claim = await client.resource(resources.persistentVolumeClaims, 'default').get('data-db-0');
  assert.equal(claim.metadata.ownerReferences?.[0]?.kind, 'StatefulSet');
  await sets.delete('db');
  await cluster.advance(2000);
  assert.deepEqual(await names(resources.persistentVolumeClaims), []);
});

test('an update goes from the highest ordinal down, one at a time', async () => {
  const { cluster, toImage, log, images, sets } = await setup(db());
  await using _ = cluster;
  await toImage('v2');
  assert.deepEqual(log, ['-db-2', '+db-2', '-db-1', '+db-1', '-db-0', '+db-0']);
  assert.deepEqual(await images(), { 'db-0': 'v2', 'db-1': 'v2', 'db-2': 'v2' });
  const { status } = await sets.get('db');
  assert.equal(status.currentRevision, status.updateRevision);
});

test('an update stops at a pod that does not become ready', async () => {
  const { cluster, toImage, images, sets } = await setup(db(), (pod) =>
    pod.spec.containers[0]?.image === 'broken' ? 'running' : 'ready',
  );
  await using _ = cluster;
  await toImage('broken');
  assert.deepEqual(await images(), { 'db-0': 'v1', 'db-1': 'v1', 'db-2': 'broken' });
  const { status } = await sets.get('db');
  assert.notEqual(status.currentRevision, status.updateRevision);
  assert.equal(status.updatedReplicas, 1);
});

test('below the partition pods stay, and come back, as they were', async () => {
  const { cluster, toImage, images, client } = await setup(db());
  await using _ = cluster;
  await toImage('v2', { updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 2 } } });
  assert.deepEqual(await images(), { 'db-0': 'v1', 'db-1': 'v1', 'db-2': 'v2' });
  await client.resource(resources.pods, 'default').delete('db-0');
  await cluster.advance(2000);
  assert.deepEqual(await images(), { 'db-0': 'v1', 'db-1': 'v1', 'db-2': 'v2' });
});

test('maxUnavailable lets several be replaced at once', async () => {
  const { cluster, toImage, log, images } = await setup(db({ podManagementPolicy: 'Parallel' }));
  await using _ = cluster;
  await toImage('v2', {
    updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0, maxUnavailable: 2 } },
  });
  assert.deepEqual(log.slice(0, 2), ['-db-2', '-db-1']);
  assert.deepEqual(await images(), { 'db-0': 'v2', 'db-1': 'v2', 'db-2': 'v2' });
});

test('a pod that ended is made anew under its name', async () => {
  const { cluster, client, log } = await setup(db({ replicas: 1 }));
  await using _ = cluster;
  log.length = 0;
  cluster.podsBecome = (pod) => (pod.status?.phase ? undefined : 'ready');
  const pods = client.resource(resources.pods, 'default');
  const pod = await pods.get('db-0');
  await pods.updateStatus({ ...pod, status: { ...pod.status, phase: 'Failed' } });
  await cluster.advance(2000);
  assert.deepEqual(log, ['-db-0', '+db-0']);
  assert.ok(
    (await cluster.events('db')).includes(
      'RecreatingFailedPod: StatefulSet default/db is recreating failed Pod db-0',
    ),
  );
});

test('ordinals may start elsewhere', async () => {
  const { cluster, log, change } = await setup(db({ ordinals: { start: 5 }, replicas: 2 }));
  await using _ = cluster;
  assert.deepEqual(log, ['+db-5', '+db-6']);
  await change({ ordinals: { start: 6 } });
  assert.deepEqual(log, ['+db-7', '-db-5']);
});

test('a pod does not take a claim that is being deleted, says so, and gets a new one', async () => {
  const { cluster, client, log, change } = await setup(db({ replicas: 1 }));
  await using _ = cluster;
  const claims = client.resource(resources.persistentVolumeClaims, 'default');
  await change({ replicas: 0 });
  const claim = await claims.get('data-db-0');
  await claims.update({ ...claim, metadata: { ...claim.metadata, finalizers: ['hold'] } });
  await claims.delete('data-db-0');
  await change({ replicas: 1 });
  assert.deepEqual(log, []);
  assert.ok(
    (await cluster.events('db')).includes(
      'FailedCreate: create Pod db-0 in StatefulSet db failed error: pvc data-db-0 is being deleted',
    ),
  );
  const held = await claims.get('data-db-0');
  await claims.update({ ...held, metadata: { ...held.metadata, finalizers: [] } });
  await cluster.advance(3000);
  assert.deepEqual(log, ['+db-0']);
  assert.notEqual((await claims.get('data-db-0')).metadata.uid, claim.metadata.uid);
});

test('a claim that cannot be made is told, and so is the pod that waits for it', async () => {
  const cluster = await startTestCluster(['statefulset-controller']);
  await using _ = cluster;
  cluster.api.intercept = (call) => {
    if (call.verb === 'create' && call.resource.resource === 'persistentvolumeclaims')
      throw new Error('exceeded quota');
  };
  await cluster.client.resource(resources.statefulSets, 'default').create(db({ replicas: 1 }));
  assert.deepEqual(await cluster.events('db'), [
    'FailedCreate: create Claim data-db-0 for Pod db-0 in StatefulSet db failed error: exceeded quota',
    'FailedCreate: create Pod db-0 in StatefulSet db failed error: exceeded quota',
  ]);
  cluster.api.intercept = undefined;
  await cluster.advance(3000);
  assert.equal((await cluster.pods()).length, 1);
});
