// Pods that name claims, on a node without a disk: what they wait for, what wakes them, and what they are told.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PersistentVolume, PersistentVolumeClaim, PodSpec } from '../api/types/core-v1.ts';
import { resources } from '../client/index.ts';
import { ManualClock } from '../component/index.ts';
import { eventually, startTestNode, type TestNode } from './testing/node.ts';

const using = (claimName: string): Partial<PodSpec> => ({
  containers: [{ name: 'web', image: 'nginx:1.29', volumeMounts: [{ name: 'data', mountPath: '/data' }] }],
  volumes: [{ name: 'data', persistentVolumeClaim: { claimName } }],
});

function storage(node: TestNode) {
  const claims = node.client.resource(resources.persistentVolumeClaims, 'default');
  const volumes = node.client.resource(resources.persistentVolumes);
  return {
    claims,
    volumes,
    claim: (name: string, spec: PersistentVolumeClaim['spec'] = {}, metadata: object = {}) =>
      claims.create({ metadata: { name, ...metadata }, spec }),
    /** Both sides of a binding, as the binder leaves them. */
    async bind(name: string, spec: PersistentVolume['spec'] = { local: { path: '/disk' } }): Promise<void> {
      const { uid } = (await claims.get(name)).metadata;
      const claimRef = { namespace: 'default', name, uid };
      await volumes.create({ metadata: { name: `pv-${name}` }, spec: { ...spec, claimRef } });
      await claims.patch(name, { type: 'merge', patch: { spec: { volumeName: `pv-${name}` } } });
      const patch = { type: 'merge', patch: { status: { phase: 'Bound' } } } as const;
      await claims.patch(name, patch, { subresource: 'status' });
    },
  };
}

const running = (node: TestNode, name: string) =>
  eventually(async () => assert.equal((await node.getPod(name)).status?.phase, 'Running'));
const told = (node: TestNode, name: string, message: RegExp) =>
  eventually(async () => assert.match((await node.events(name)).join('\n'), message));

test('a pod waits for its claim to be there and bound, and starts as soon as it is', async () => {
  // Time stands still: nothing but events can wake the pod.
  await using node = await startTestNode({ clock: new ManualClock(Date.parse('2026-01-01T00:00:00Z')) });
  const { claim, bind } = storage(node);
  await node.createPod({ name: 'db', spec: using('disk') });
  await told(
    node,
    'db',
    /FailedMount: Unable to attach or mount volumes: unmounted volumes=\[data\], unattached volumes=\[\], failed to process volumes=\[data\]: error processing PVC default\/disk: failed to fetch PVC from API server: persistentvolumeclaims "disk" not found/,
  );
  await claim('disk');
  await told(node, 'db', /error processing PVC default\/disk: PVC is not bound/);
  await bind('disk');
  await running(node, 'db');
});

test('claims are followed only until the pod has its volumes', async () => {
  await using node = await startTestNode();
  const { claim, bind } = storage(node);
  const before = node.api.openWatches;
  await claim('disk');
  await bind('disk');
  await node.createPod({ name: 'db', spec: using('disk') });
  await running(node, 'db');
  await eventually(() => assert.equal(node.api.openWatches, before));
});

test('a claim that no container uses is not asked for', async () => {
  await using node = await startTestNode();
  const { volumes } = using('nothing');
  await node.createPod({ name: 'web', spec: { volumes: volumes! } });
  await running(node, 'web');
  assert.ok(!node.api.calls.some((call) => call.includes('persistentvolume')));
});

test('the claim of an ephemeral volume must be the pod’s own', async () => {
  await using node = await startTestNode();
  const { claim, bind, claims } = storage(node);
  await claim('db-data');
  await bind('db-data');
  const spec: Partial<PodSpec> = { ...using(''), volumes: [{ name: 'data', ephemeral: {} }] };
  const pod = await node.createPod({ name: 'db', spec });
  await told(node, 'db', /PVC default\/db-data was not created for pod default\/db \(pod is not owner\)/);
  const owner = { apiVersion: 'v1', kind: 'Pod', name: 'db', uid: pod.metadata.uid, controller: true };
  await claims.patch('db-data', { type: 'merge', patch: { metadata: { ownerReferences: [owner] } } });
  await running(node, 'db');
});

test('a volume of a kind that the node cannot mount is named', async () => {
  await using node = await startTestNode();
  const { claim, bind } = storage(node);
  await claim('disk');
  await bind('disk', { csi: { driver: 'csi.example.com', volumeHandle: 'h' } });
  await node.createPod({ name: 'db', spec: using('disk') });
  await told(
    node,
    'db',
    /FailedMount: .*PersistentVolume "pv-disk" is of type csi \(driver csi\.example\.com\), which this node agent does not support \(supported: local, hostPath\)/,
  );
});
