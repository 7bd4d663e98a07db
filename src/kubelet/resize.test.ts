import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '../api/types/core-v1.ts';
import { resources } from '../client/index.ts';
import { eventually, startTestNode, type TestNode } from './testing/node.ts';
import { only, running, waitFor } from './testing/pods.ts';

async function resize(node: TestNode, name: string, wanted: object): Promise<void> {
  const pod = await node.getPod(name);
  const [container] = pod.spec.containers;
  await node.client.resource(resources.pods, 'default').update({
    ...pod,
    spec: { ...pod.spec, containers: [{ ...container!, resources: wanted }] },
  });
}

test('a running container is resized in place, and its status tells what it has', async () => {
  await using node = await startTestNode();
  const { metadata } = await node.createPod({
    name: 'web',
    spec: {
      containers: [
        { name: 'web', image: 'nginx:1.29', resources: { requests: { cpu: '1' }, limits: { cpu: '1' } } },
      ],
    },
  });
  const before = await waitFor(node, 'web', running);
  await resize(node, 'web', { requests: { cpu: '2' }, limits: { cpu: '2' } });
  const after = await waitFor(node, 'web', (pod) =>
    assert.deepEqual(only(pod).resources?.limits, { cpu: '2' }),
  );
  assert.deepEqual(only(after).allocatedResources, { cpu: '2' });
  assert.equal(only(after).containerID, only(before).containerID);
  const [container] = await node.runtime.listContainers({ state: 'RUNNING' });
  await eventually(async () => {
    const { resources: actual } = await node.runtime.containerStatus(container!.id);
    assert.equal(actual?.cpuQuota, 200_000);
    assert.equal(actual?.cpuShares, 2048);
  });
  assert.equal(metadata.uid, after.metadata.uid);
});

test('a container that asks for it is restarted to be resized', async () => {
  await using node = await startTestNode();
  await node.createPod({
    name: 'web',
    spec: {
      containers: [
        {
          name: 'web',
          image: 'nginx:1.29',
          resources: { limits: { memory: '64Mi' } },
          resizePolicy: [{ resourceName: 'memory', restartPolicy: 'RestartContainer' }],
        },
      ],
    },
  });
  await waitFor(node, 'web', running);
  await resize(node, 'web', { limits: { memory: '128Mi' } });
  await waitFor(node, 'web', (pod) => {
    assert.equal(only(pod).restartCount, 1);
    assert.ok(only(pod).state?.running);
  });
});

test('a resize that does not fit waits, and is done when others leave', async () => {
  await using node = await startTestNode();
  const containers = [{ name: 'web', image: 'nginx:1.29', resources: { requests: { cpu: '16' } } }];
  await node.createPod({ name: 'web', spec: { containers } });
  await node.createPod({ name: 'other', spec: { containers } });
  await waitFor(node, 'web', running);
  await waitFor(node, 'other', running);
  const pending = (pod: Pod) => pod.status.conditions?.find(({ type }) => type === 'PodResizePending');
  await resize(node, 'web', { requests: { cpu: '100' } });
  await waitFor(node, 'web', (pod) => {
    assert.equal(pending(pod)?.reason, 'Infeasible');
    assert.deepEqual(only(pod).resources?.requests, { cpu: '16' });
  });
  await resize(node, 'web', { requests: { cpu: '20' } });
  await waitFor(node, 'web', (pod) => {
    assert.equal(pending(pod)?.reason, 'Deferred');
    assert.equal(
      pending(pod)?.message,
      "Node didn't have enough resource: cpu, requested: 20000, used: 16000, capacity: 32000",
    );
  });
  await node.client.resource(resources.pods, 'default').delete('other');
  await waitFor(node, 'web', (pod) => {
    assert.equal(pending(pod), undefined);
    assert.deepEqual(only(pod).resources?.requests, { cpu: '20' });
  });
});
