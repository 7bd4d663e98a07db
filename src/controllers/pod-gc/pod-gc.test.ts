import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';

test('terminated pods beyond the threshold are removed, evicted ones and the oldest first', async () => {
  await using cluster = await startTestCluster(['pod-garbage-collector-controller'], {
    terminatedPodThreshold: 2,
  });
  cluster.podsBecome = () => undefined;
  const pods = cluster.client.resource(resources.pods, 'default');
  const ended = async (name: string, reason?: string) => {
    const pod = await pods.create({ metadata: { name }, spec: { containers: [], nodeName: '' } });
    await pods.updateStatus({ ...pod, status: { phase: 'Failed', ...(reason ? { reason } : {}) } });
    await cluster.advance(2000);
  };
  await pods.create({ metadata: { name: 'running' }, spec: { containers: [] } });
  await ended('first');
  await ended('evicted', 'Evicted');
  await ended('third');
  const names = async () => (await cluster.pods()).map((p) => p.metadata.name).toSorted();
  assert.deepEqual(await names(), ['first', 'running', 'third']);
  await ended('fourth');
  assert.deepEqual(await names(), ['fourth', 'running', 'third']);
});

test('a pod deleted before it was scheduled is removed whatever holds it back but its finalizers', async () => {
  await using cluster = await startTestCluster(['pod-garbage-collector-controller']);
  cluster.podsEnd = false;
  cluster.podsBecome = () => undefined;
  const pods = cluster.client.resource(resources.pods, 'default');
  await pods.create({ metadata: { name: 'held', finalizers: ['example.com/x'] }, spec: { containers: [] } });
  await pods.delete('held');
  await cluster.settle();
  assert.equal((await pods.get('held')).status?.phase, 'Failed');
});
