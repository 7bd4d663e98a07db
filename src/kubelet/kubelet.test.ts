import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resources } from '../client/index.ts';
import { eventually, NODE, startTestNode } from './testing/node.ts';

test('the node registers with its capacity and becomes ready at once', async () => {
  await using node = await startTestNode();
  await eventually(async () => {
    const { status, metadata } = await node.client.resource(resources.nodes).get(NODE);
    assert.equal(status.conditions?.find(({ type }) => type === 'Ready')?.status, 'True');
    assert.equal(status.capacity?.['cpu'], '32');
    assert.equal(status.allocatable?.['pods'], '110');
    assert.equal(metadata.labels?.['kubernetes.io/hostname'], NODE);
    const lease = await node.client.resource(resources.leases, 'kube-node-lease').get(NODE);
    assert.equal(lease.spec.holderIdentity, NODE);
  });
});

test('a pod that is bound to the node runs and is ready', async () => {
  await using node = await startTestNode();
  await node.createPod({ name: 'web' });
  await eventually(async () => {
    const { status } = await node.getPod('web');
    assert.equal(status.phase, 'Running');
    assert.equal(status.conditions?.find(({ type }) => type === 'Ready')?.status, 'True');
    assert.match(status.podIP ?? '', /^10\.88\./);
    assert.match(status.containerStatuses?.[0]?.containerID ?? '', /^simulated:\/\/[0-9a-f]{64}$/);
  });
  await eventually(async () => {
    const events = await node.events('web');
    assert.ok(events.includes('Started: Container started'), events.join('\n'));
  });
});

test('a deleted pod ends gracefully and goes from the API', async () => {
  await using node = await startTestNode();
  await node.createPod({ name: 'web' });
  await eventually(async () => assert.equal((await node.getPod('web')).status.phase, 'Running'));
  await node.client.resource(resources.pods, 'default').delete('web');
  await eventually(async () => {
    await assert.rejects(node.getPod('web'), /not found/);
    assert.equal((await node.runtime.listPodSandboxes()).length, 0);
  });
});
