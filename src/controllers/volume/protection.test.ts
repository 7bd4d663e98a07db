import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '../../api/types/core-v1.ts';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';

const PVC = 'kubernetes.io/pvc-protection';
const PV = 'kubernetes.io/pv-protection';

async function setup() {
  const cluster = await startTestCluster([
    'persistentvolumeclaim-protection-controller',
    'persistentvolume-protection-controller',
    'ephemeral-volume-controller',
    'garbage-collector-controller',
  ]);
  cluster.podsBecome = () => undefined;
  const { client } = cluster;
  const claims = client.resource(resources.persistentVolumeClaims, 'default');
  const pods = client.resource(resources.pods, 'default');
  const makeClaim = (name: string) =>
    claims.create({ metadata: { name, finalizers: [PVC] }, spec: { accessModes: ['ReadWriteOnce'] } });
  const makePod = (name: string, volumes: Pod['spec']['volumes'], nodeName?: string) =>
    pods.create({
      metadata: { name },
      spec: {
        containers: [{ name: 'c', image: 'i' }],
        ...(volumes ? { volumes } : {}),
        ...(nodeName === undefined ? {} : { nodeName }),
      },
    });
  const using = (claimName: string) => [{ name: 'data', persistentVolumeClaim: { claimName } }];
  const names = async () => {
    await cluster.settle();
    return (await claims.list()).items.map((claim) => claim.metadata.name);
  };
  return { cluster, client, claims, pods, makeClaim, makePod, using, names };
}

test('a claim stays while a pod with a node uses it, ended or not', async () => {
  const { cluster, claims, pods, makeClaim, makePod, using, names } = await setup();
  await using _ = cluster;
  await makeClaim('kept');
  await makeClaim('unscheduled');
  const pod = await makePod('p', using('kept'), 'n1');
  await makePod('waiting', using('unscheduled'));
  await cluster.settle();
  await claims.delete('kept');
  await claims.delete('unscheduled');
  assert.deepEqual(await names(), ['kept']);
  await pods.updateStatus({ ...pod, status: { phase: 'Succeeded' } });
  assert.deepEqual(await names(), ['kept'], 'its volumes may still be mounted');
  await pods.delete('p');
  assert.deepEqual(await names(), []);
});

test('a pod that the cache does not know yet counts', async () => {
  const { cluster, claims, makeClaim, makePod, using, names } = await setup();
  await using _ = cluster;
  await makeClaim('kept');
  await cluster.settle();
  // The watch of pods stands still: what is made now is seen by those who ask only.
  cluster.api.intercept = (call) => {
    if (call.verb === 'watch' && call.resource.resource === 'pods') throw new Error('unreachable');
  };
  cluster.api.dropWatches();
  await cluster.settle();
  await makePod('p', using('kept'), 'n1');
  await claims.delete('kept');
  await cluster.advance(5000);
  assert.deepEqual(await names(), ['kept']);
});

test('when many claims go at once the server is not asked for each', async () => {
  const { cluster, client, claims, makeClaim, names } = await setup();
  await using _ = cluster;
  for (let i = 0; i < 20; i++) await makeClaim(`c${i}`);
  await cluster.settle();
  cluster.api.calls.length = 0;
  await client.resource(resources.persistentVolumeClaims, 'default').deleteCollection();
  assert.deepEqual(await names(), []);
  const asked = cluster.api.calls.filter((call) => call.startsWith('list pods'));
  assert.ok(asked.length <= 10, `${asked.length} times`);
  assert.equal((await claims.list()).items.length, 0);
});

test('claims and volumes from before there was protection get it', async () => {
  const { cluster, client, claims } = await setup();
  await using _ = cluster;
  await claims.create({ metadata: { name: 'old', finalizers: ['own'] }, spec: {} });
  const volumes = client.resource(resources.persistentVolumes);
  await volumes.create({ metadata: { name: 'old' }, spec: {} });
  await cluster.settle();
  assert.deepEqual((await claims.get('old')).metadata.finalizers, ['own', PVC]);
  assert.deepEqual((await volumes.get('old')).metadata.finalizers, [PV]);
});

test('a volume stays while it is bound', async () => {
  const { cluster, client } = await setup();
  await using _ = cluster;
  const volumes = client.resource(resources.persistentVolumes);
  await volumes.create({ metadata: { name: 'v', finalizers: [PV] }, spec: {} });
  await volumes.updateStatus({ ...(await volumes.get('v')), status: { phase: 'Bound' } });
  await volumes.delete('v');
  await cluster.settle();
  assert.ok((await volumes.get('v')).metadata.deletionTimestamp);
  await volumes.updateStatus({ ...(await volumes.get('v')), status: { phase: 'Released' } });
  await cluster.settle();
  assert.equal((await volumes.list()).items.length, 0);
});

const scratch = [
  {
    name: 'scratch',
    ephemeral: {
      volumeClaimTemplate: {
        metadata: { labels: { a: 'b' }, annotations: { c: 'd' } },
        spec: { accessModes: ['ReadWriteOnce' as const] },
      },
    },
  },
];

test('an ephemeral volume gets a claim that is its pod’s, comes back when deleted, and goes with the pod', async () => {
  const { cluster, claims, pods, makePod, names } = await setup();
  await using _ = cluster;
  const pod = await makePod('p', scratch);
  assert.deepEqual(await names(), ['p-scratch']);
  const claim = await claims.get('p-scratch');
  assert.deepEqual(claim.metadata.ownerReferences, [
    {
      apiVersion: 'v1',
      kind: 'Pod',
      name: 'p',
      uid: pod.metadata.uid,
      controller: true,
      blockOwnerDeletion: true,
    },
  ]);
  assert.deepEqual([claim.metadata.labels, claim.metadata.annotations], [{ a: 'b' }, { c: 'd' }]);
  await claims.delete('p-scratch');
  assert.deepEqual(await names(), ['p-scratch']);
  assert.notEqual((await claims.get('p-scratch')).metadata.uid, claim.metadata.uid);
  await pods.delete('p');
  await cluster.advance(2000);
  assert.deepEqual(await names(), []);
});

test('the claim of a pod that is shut down does not hold it, nor it the claim', async () => {
  const { cluster, claims, pods, makePod, names } = await setup();
  await using _ = cluster;
  cluster.podsEnd = false;
  await makePod('p', scratch, 'n1');
  await cluster.settle();
  const pod = await pods.get('p');
  await pods.update({ ...pod, metadata: { ...pod.metadata, finalizers: ['hold'] } });
  await claims.delete('p-scratch');
  assert.deepEqual(await names(), ['p-scratch'], 'the pod runs');
  await pods.delete('p', { gracePeriodSeconds: 0 });
  assert.deepEqual(await names(), []);
  assert.ok((await pods.get('p')).metadata.deletionTimestamp);
});

test('a claim that is not the pod’s is not taken for its ephemeral volume', async () => {
  const { cluster, claims, makeClaim, makePod, names } = await setup();
  await using _ = cluster;
  const stranger = await makeClaim('p-scratch');
  await makePod('p', scratch);
  assert.deepEqual(await cluster.events('p'), [
    'FailedBinding: ephemeral volume scratch: PVC default/p-scratch was not created for pod default/p (pod is not owner)',
  ]);
  await claims.delete('p-scratch');
  await cluster.advance(2000);
  assert.deepEqual(await names(), ['p-scratch']);
  assert.notEqual((await claims.get('p-scratch')).metadata.uid, stranger.metadata.uid);
});
