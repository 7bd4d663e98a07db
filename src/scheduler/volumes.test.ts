// Pods with claims: where they may go, what is written before they are bound, and what wakes those that have to wait.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findCondition, volumeAnnotations } from '../api/index.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod, Volume } from '../api/types/core-v1.ts';
import { createClient, resources } from '../client/index.ts';
import { settle } from '../client/testing/eventually.ts';
import { FakeApi } from '../client/testing/fake-api.ts';
import { ManualClock } from '../component/index.ts';
import { Algorithm } from './algorithm.ts';
import { SchedulerCache } from './cache.ts';
import { defaultPlugins } from './plugins/index.ts';
import { startScheduler } from './scheduler.ts';
import { onNodesWith, TestVolumes, testClaim, testClass, testVolume } from './testing/volumes.ts';

const bound = (volumeName: string): { annotations: Record<string, string> } & { volumeName: string } => ({
  volumeName,
  annotations: { [volumeAnnotations.bindCompleted]: 'yes' },
});

function node(name: string, labels: Record<string, string> = {}): Node {
  return {
    metadata: { name, uid: name, resourceVersion: '1', creationTimestamp: '', labels },
    spec: {},
    status: { allocatable: { cpu: '4', memory: '8Gi', pods: '100' } },
  };
}

let serial = 0;
function pod(...volumes: Omit<Volume, 'name'>[]): Pod {
  const uid = `pod-${++serial}`;
  return {
    metadata: { name: uid, namespace: 'default', uid, resourceVersion: '1', creationTimestamp: '' },
    spec: {
      containers: [{ name: 'c', image: 'web' }],
      volumes: volumes.map((volume, i) => ({ name: `v${i}`, ...volume })),
    },
    status: {},
  };
}

const using = (claimName: string): Omit<Volume, 'name'> => ({ persistentVolumeClaim: { claimName } });

function outcome(volumes: TestVolumes, nodes: readonly Node[], subject: Pod, placed: Pod[] = []): string {
  const cache = new SchedulerCache();
  for (const one of nodes) cache.setNode(one);
  for (const other of placed) cache.assume(other, nodes[0]!.metadata.name);
  const plugins = defaultPlugins(volumes.binder((name) => cache.get(name)?.node));
  const decision = new Algorithm(plugins, () => 0.5).decide(subject, cache);
  return decision.fits ? decision.nodeName : decision.message.replace(/^0\/\d+ nodes are available: /, '');
}

const two = [node('a', { zone: 'a' }), node('b', { zone: 'b' })];

describe('a pod whose claims are bound', () => {
  it('goes where its volumes are, and nowhere when they are apart', () => {
    const volumes = new TestVolumes();
    for (const zone of ['a', 'b']) {
      volumes.volumes.put(testVolume(`pv-${zone}`, onNodesWith('zone', zone)));
      const { annotations, volumeName } = bound(`pv-${zone}`);
      volumes.claims.put(testClaim(zone, { volumeName }, { annotations }));
    }
    assert.equal(outcome(volumes, two, pod(using('b'))), 'b');
    assert.equal(
      outcome(volumes, two, pod(using('a'), using('b'))),
      "2 node(s) didn't match PersistentVolume's node affinity.",
    );
    const { annotations, volumeName } = bound('gone');
    volumes.claims.put(testClaim('lost', { volumeName }, { annotations }));
    assert.match(outcome(volumes, two, pod(using('lost'))), /persistentvolume "gone" not found|non-existent/);
  });

  it('keeps to the zones that the labels of old volumes name', () => {
    const volumes = new TestVolumes();
    volumes.volumes.put(testVolume('pv', {}, { 'failure-domain.beta.kubernetes.io/zone': 'x__y' }));
    const { annotations, volumeName } = bound('pv');
    volumes.claims.put(testClaim('data', { volumeName }, { annotations }));
    const zoned = (name: string, zone: string): Node => node(name, { 'topology.kubernetes.io/zone': zone });
    assert.equal(outcome(volumes, [zoned('n1', 'z'), zoned('n2', 'y')], pod(using('data'))), 'n2');
    assert.equal(
      outcome(volumes, [zoned('n1', 'z')], pod(using('data'))),
      '1 node(s) had no available volume zone.',
    );
    assert.equal(outcome(volumes, [node('plain')], pod(using('data'))), 'plain');
  });

  it('shares a claim that is for one pod with nobody, on no node', () => {
    const volumes = new TestVolumes();
    volumes.volumes.put(testVolume('pv', { accessModes: ['ReadWriteOncePod'] }));
    const { annotations, volumeName } = bound('pv');
    volumes.claims.put(testClaim('only', { volumeName, accessModes: ['ReadWriteOncePod'] }, { annotations }));
    assert.equal(outcome(volumes, two, pod(using('only')), []).length, 1);
    assert.equal(
      outcome(volumes, two, pod(using('only')), [pod(using('only'))]),
      '2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.',
    );
  });

  it('counts the volumes of a driver that a node can hold, each once', () => {
    const volumes = new TestVolumes();
    for (const i of [1, 2, 3]) {
      volumes.volumes.put(testVolume(`pv${i}`, { csi: { driver: 'csi.test', volumeHandle: `h${i}` } }));
      const { annotations, volumeName } = bound(`pv${i}`);
      volumes.claims.put(testClaim(`c${i}`, { volumeName }, { annotations }));
    }
    const full = outcome(volumes, [node('a')], pod(using('c3')), [pod(using('c1')), pod(using('c2'))]);
    assert.equal(full, 'a', 'without a CSINode nothing is limited');
    volumes.csiNodes.put({
      metadata: { name: 'a', uid: 'a', resourceVersion: '1', creationTimestamp: '' },
      spec: { drivers: [{ name: 'csi.test', nodeID: 'a', allocatable: { count: 2 } }] },
    });
    assert.equal(
      outcome(volumes, [node('a')], pod(using('c3')), [pod(using('c1')), pod(using('c2'))]),
      '1 node(s) exceed max volume count.',
    );
    assert.equal(outcome(volumes, [node('a')], pod(using('c1')), [pod(using('c1')), pod(using('c2'))]), 'a');
  });
});

describe('a pod whose claims are not in order', () => {
  it('is told what is wrong with them', () => {
    const volumes = new TestVolumes();
    volumes.storageClasses.put(testClass('now', { volumeBindingMode: 'Immediate' }));
    volumes.claims.put(testClaim('unbound', { storageClassName: 'now' }));
    volumes.claims.put(testClaim('leaving', {}, { deletionTimestamp: '2026-01-01T00:00:00Z' }));
    volumes.claims.put({ ...testClaim('lost', { volumeName: 'pv9' }), status: { phase: 'Lost' } });
    const told = (...uses: Omit<Volume, 'name'>[]): string => outcome(volumes, two, pod(...uses));
    assert.equal(told(using('nothing')), 'persistentvolumeclaim "nothing" not found.');
    assert.equal(told(using('unbound')), 'pod has unbound immediate PersistentVolumeClaims.');
    assert.equal(told(using('leaving')), 'persistentvolumeclaim "leaving" is being deleted.');
    assert.equal(
      told(using('lost')),
      'persistentvolumeclaim "lost" bound to non-existent persistentvolume "pv9".',
    );
  });

  it('waits for the claim of an ephemeral volume, and does not take another’s', () => {
    const volumes = new TestVolumes();
    const subject = pod({ ephemeral: {} });
    const name = `${subject.metadata.name}-v0`;
    assert.equal(
      outcome(volumes, two, subject),
      `waiting for ephemeral volume controller to create the persistentvolumeclaim "${name}".`,
    );
    volumes.claims.put(testClaim(name));
    assert.equal(
      outcome(volumes, two, subject),
      `PVC default/${name} was not created for pod default/${subject.metadata.name} (pod is not owner).`,
    );
  });
});

describe('a pod whose claims wait for their first consumer', () => {
  it('goes where free volumes are, one for each claim', () => {
    const volumes = new TestVolumes();
    volumes.storageClasses.put(testClass('local'));
    const storageClassName = 'local';
    volumes.volumes.put(testVolume('a1', { storageClassName, ...onNodesWith('zone', 'a') }));
    volumes.volumes.put(testVolume('b1', { storageClassName, ...onNodesWith('zone', 'b') }));
    volumes.volumes.put(
      testVolume('b2', { storageClassName, capacity: { storage: '5Gi' }, ...onNodesWith('zone', 'b') }),
    );
    volumes.claims.put(testClaim('small', { storageClassName }));
    volumes.claims.put(testClaim('large', { storageClassName, resources: { requests: { storage: '4Gi' } } }));
    assert.equal(outcome(volumes, two, pod(using('large'), using('small'))), 'b');
    volumes.claims.put(testClaim('third', { storageClassName }));
    assert.equal(
      outcome(volumes, two, pod(using('large'), using('small'), using('third'))),
      "2 node(s) didn't find available persistent volumes to bind.",
    );
  });

  it('has a volume provisioned where the class allows it and the driver has room', () => {
    const volumes = new TestVolumes();
    const topology = [{ matchLabelExpressions: [{ key: 'zone', values: ['b'] }] }];
    volumes.storageClasses.put(testClass('fast', { provisioner: 'csi.test', allowedTopologies: topology }));
    volumes.claims.put(testClaim('data', { storageClassName: 'fast' }));
    assert.equal(outcome(volumes, two, pod(using('data'))), 'b');
    const metadata = { uid: 'x', resourceVersion: '1', creationTimestamp: '' };
    volumes.csiDrivers.put({ metadata: { ...metadata, name: 'csi.test' }, spec: { storageCapacity: true } });
    assert.equal(
      outcome(volumes, two, pod(using('data'))),
      "1 node(s) did not have enough free storage, 1 node(s) didn't find available persistent volumes to bind.",
    );
    volumes.capacities.put({
      metadata: { ...metadata, name: 'c', namespace: 'kube-system' },
      storageClassName: 'fast',
      capacity: '2Gi',
      nodeTopology: { matchLabels: { zone: 'b' } },
    });
    assert.equal(outcome(volumes, two, pod(using('data'))), 'b');
  });

  it('is told of every node what its first obstacle is, also where its volume names one node', () => {
    const volumes = new TestVolumes();
    const host = (name: string, spec: Node['spec'] = {}): Node => ({
      ...node(name, { 'kubernetes.io/hostname': `host-of-${name}` }),
      spec,
    });
    volumes.storageClasses.put(testClass('local'));
    const storageClassName = 'local';
    for (const name of ['a', 'b'])
      volumes.volumes.put(
        testVolume(`on-${name}`, {
          storageClassName,
          ...onNodesWith('kubernetes.io/hostname', `host-of-${name}`),
        }),
      );
    const { annotations, volumeName } = bound('on-b');
    volumes.claims.put(testClaim('b', { volumeName }, { annotations }));
    volumes.claims.put(testClaim('any', { storageClassName }));
    const nodes = [host('x'), host('a'), host('b'), host('c', { unschedulable: true })];
    assert.equal(outcome(volumes, nodes, pod(using('b'))), 'b');
    assert.equal(outcome(volumes, [nodes[0]!, nodes[1]!], pod(using('any'))), 'a');
    assert.equal(outcome(volumes, nodes, pod(using('b'), using('any'))), 'b');
    const cordoned = [nodes[0]!, nodes[1]!, host('b', { unschedulable: true }), nodes[3]!];
    assert.equal(
      outcome(volumes, cordoned, pod(using('b'))),
      "2 node(s) didn't match PersistentVolume's node affinity, 2 node(s) were unschedulable.",
    );
  });

  it('goes only to the node that its claim was given', () => {
    const volumes = new TestVolumes();
    volumes.storageClasses.put(testClass('fast', { provisioner: 'csi.test' }));
    const annotations = { [volumeAnnotations.selectedNode]: 'b' };
    volumes.claims.put(testClaim('data', { storageClassName: 'fast' }, { annotations }));
    assert.equal(outcome(volumes, two, pod(using('data'))), 'b');
    assert.equal(
      outcome(volumes, [two[0]!], pod(using('data'))),
      "1 node(s) didn't find available persistent volumes to bind.",
    );
  });
});

async function startCluster(options: { readonly volumeBindTimeoutMs?: number } = {}) {
  const clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'));
  const api = new FakeApi({ clock });
  const client = createClient(api, { clock });
  const scheduler = await startScheduler({ client, clock, random: () => 0.5, ...options });
  await scheduler.ready;
  const pods = client.resource(resources.pods, 'default');
  const claims = client.resource(resources.persistentVolumeClaims, 'default');
  const volumes = client.resource(resources.persistentVolumes);
  for (const zone of ['a', 'b']) await client.resource(resources.nodes).create(node(zone, { zone }));
  await settle();
  return {
    api,
    clock,
    client,
    pods,
    claims,
    volumes,
    async createPod(name: string, ...claimNames: string[]): Promise<Pod> {
      const { spec } = pod(...claimNames.map(using));
      const made = await pods.create({ metadata: { name }, spec, status: { phase: 'Pending' } });
      await settle();
      return made;
    },
    async put(...objects: (PersistentVolumeClaim | PersistentVolume)[]): Promise<void> {
      for (const { metadata, spec, status } of objects) {
        const { name, annotations, labels } = metadata;
        const draft = { metadata: { name, annotations, labels }, spec };
        const patch = { type: 'merge', patch: { status } } as const;
        if (metadata.namespace) await claims.create(draft as PersistentVolumeClaim);
        else {
          await volumes.create(draft as PersistentVolume);
          await volumes.patch(name, patch, { subresource: 'status' });
        }
      }
      await settle();
    },
    async putClass(name: string, provisioner?: string): Promise<void> {
      const { metadata: _, ...rest } = testClass(name, provisioner ? { provisioner } : {});
      await client.resource(resources.storageClasses).create({ metadata: { name }, ...rest });
      await settle();
    },
    /** What the binder does once both sides know. */
    async complete(claimName: string, volumeName: string): Promise<void> {
      const annotations = { [volumeAnnotations.bindCompleted]: 'yes' };
      const patch = { metadata: { annotations }, spec: { volumeName } };
      await claims.patch(claimName, { type: 'merge', patch });
      await settle();
    },
    async nodeOf(name: string): Promise<string> {
      await settle();
      return (await pods.get(name)).spec.nodeName ?? '';
    },
    async told(name: string): Promise<string> {
      await settle();
      return findCondition((await pods.get(name)).status?.conditions, 'PodScheduled')?.message ?? '';
    },
    async [Symbol.asyncDispose]() {
      await scheduler[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
    },
  };
}

describe('before a pod is bound', () => {
  it('its claim is written into the volume, and it waits until the binder has done the rest', async () => {
    await using cluster = await startCluster();
    await cluster.putClass('local');
    const spec = { storageClassName: 'local', ...onNodesWith('zone', 'b') };
    await cluster.put(testVolume('pv', spec), testClaim('data', { storageClassName: 'local' }));
    await cluster.createPod('db', 'data');
    const { claimRef } = (await cluster.volumes.get('pv')).spec;
    const { uid } = (await cluster.claims.get('data')).metadata;
    assert.deepEqual([claimRef?.namespace, claimRef?.name, claimRef?.uid], ['default', 'data', uid]);
    assert.equal(await cluster.nodeOf('db'), '', 'the binder has not answered');
    await cluster.complete('data', 'pv');
    assert.equal(await cluster.nodeOf('db'), 'b');
  });

  it('two pods are never given one volume, even before the API shows the first', async () => {
    await using cluster = await startCluster();
    await cluster.putClass('local');
    const storageClassName = 'local';
    await cluster.put(testVolume('pv1', { storageClassName }), testVolume('pv2', { storageClassName }));
    await cluster.put(testClaim('c1', { storageClassName }), testClaim('c2', { storageClassName }));
    const gate = Promise.withResolvers<void>();
    cluster.api.intercept = (call) =>
      call.verb === 'update' && call.resource.resource === 'persistentvolumes'
        ? gate.promise.then(() => undefined)
        : undefined;
    await cluster.createPod('p1', 'c1');
    await cluster.createPod('p2', 'c2');
    gate.resolve();
    await settle();
    const owners = (await cluster.volumes.list()).items.map(({ spec }) => spec.claimRef?.name);
    assert.deepEqual(owners.toSorted(), ['c1', 'c2']);
  });

  for (const kind of ['bound', 'provisioned'] as const)
    it(`pods that share a claim wait together for its volume to be ${kind}, and none is told that it failed`, async () => {
      await using cluster = await startCluster();
      const storageClassName = 'shared';
      await cluster.putClass(storageClassName, kind === 'provisioned' ? 'csi.test' : undefined);
      await cluster.put(testClaim('data', { storageClassName }));
      if (kind === 'bound') await cluster.put(testVolume('pv', { storageClassName }));
      const gate = Promise.withResolvers<void>();
      let writes = 0;
      cluster.api.intercept = (call) => {
        if (call.verb !== 'update' || !call.resource.resource.startsWith('persistentvolume'))
          return undefined;
        writes++;
        return gate.promise.then(() => undefined);
      };
      await cluster.createPod('p1', 'data');
      await cluster.createPod('p2', 'data');
      assert.deepEqual([await cluster.told('p1'), await cluster.told('p2')], ['', '']);
      gate.resolve();
      await settle();
      assert.equal(writes, 1);
      if (kind === 'provisioned') await cluster.put(testVolume('pv', { storageClassName }));
      await cluster.complete('data', 'pv');
      assert.deepEqual([await cluster.told('p1'), await cluster.told('p2')], ['', '']);
      assert.ok(await cluster.nodeOf('p1'));
      assert.ok(await cluster.nodeOf('p2'));
    });

  it('when the write that pods of one claim wait for fails, they are tried again', async () => {
    await using cluster = await startCluster();
    await cluster.putClass('fast', 'csi.test');
    await cluster.put(testClaim('data', { storageClassName: 'fast' }));
    const gate = Promise.withResolvers<void>();
    cluster.api.intercept = (call) =>
      call.verb === 'update' && call.resource.resource === 'persistentvolumeclaims'
        ? gate.promise.then(() => undefined)
        : undefined;
    await cluster.createPod('p1', 'data');
    await cluster.createPod('p2', 'data');
    gate.reject(new Error('the disk is full'));
    assert.match(await cluster.told('p1'), /the disk is full/);
    assert.match(await cluster.told('p2'), /provisioning failed for PVC "data"/);
  });

  it('a node is chosen for a volume that is to be provisioned; when that fails the pod is tried again', async () => {
    await using cluster = await startCluster();
    await cluster.putClass('fast', 'csi.test');
    await cluster.put(testClaim('data', { storageClassName: 'fast' }));
    await cluster.createPod('db', 'data');
    const selected = async (): Promise<string | undefined> =>
      (await cluster.claims.get('data')).metadata.annotations?.[volumeAnnotations.selectedNode];
    const first = await selected();
    assert.ok(first);
    const patch = { metadata: { annotations: { [volumeAnnotations.selectedNode]: null } } };
    await cluster.claims.patch('data', { type: 'merge', patch });
    assert.equal(
      await cluster.told('db'),
      'running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "data"',
    );
    await cluster.clock.advance(1000);
    await settle();
    const again = await selected();
    assert.ok(again, 'asked for once more');
    await cluster.put(testVolume('made', { claimRef: { namespace: 'default', name: 'data' } }));
    await cluster.complete('data', 'made');
    assert.equal(await cluster.nodeOf('db'), again);
  });

  it('a volume that is somebody else’s meanwhile is a conflict, and another is chosen', async () => {
    await using cluster = await startCluster();
    await cluster.putClass('local');
    const storageClassName = 'local';
    await cluster.put(testVolume('pv1', { storageClassName }), testClaim('data', { storageClassName }));
    let raced = false;
    cluster.api.intercept = async (call) => {
      if (raced || call.verb !== 'update' || call.resource.resource !== 'persistentvolumes') return undefined;
      raced = true;
      const patch = { spec: { claimRef: { namespace: 'other', name: 'x', uid: 'x' } } };
      await cluster.volumes.patch('pv1', { type: 'merge', patch });
      return undefined;
    };
    await cluster.createPod('db', 'data');
    await cluster.put(testVolume('pv2', { storageClassName, capacity: { storage: '2Gi' } }));
    await cluster.clock.advance(1000);
    await settle();
    assert.equal((await cluster.volumes.get('pv1')).spec.claimRef?.name, 'x');
    assert.equal((await cluster.volumes.get('pv2')).spec.claimRef?.name, 'data');
  });

  it('the wait ends with its time, with the pod, and with the scheduler', async () => {
    await using cluster = await startCluster({ volumeBindTimeoutMs: 5000 });
    await cluster.putClass('local');
    const storageClassName = 'local';
    await cluster.put(testVolume('pv', { storageClassName }), testClaim('data', { storageClassName }));
    await cluster.createPod('db', 'data');
    await cluster.clock.advance(5000);
    assert.equal(
      await cluster.told('db'),
      'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded',
    );
    await cluster.clock.advance(1000);
    await settle();
    await cluster.pods.delete('db', { gracePeriodSeconds: 0 });
    await settle();
    // The room is free again for the next pod, and the volume is still the claim's.
    await cluster.createPod('next', 'data');
    await cluster.complete('data', 'pv');
    assert.notEqual(await cluster.nodeOf('next'), '');
  });
});

describe('a pod that waits for its claims', () => {
  it('is tried again when they come, and not for those of others', async () => {
    await using cluster = await startCluster();
    await cluster.createPod('db', 'data');
    assert.match(await cluster.told('db'), /persistentvolumeclaim "data" not found/);
    const attempts = async (): Promise<number> => {
      await cluster.clock.advance(60_000);
      await settle();
      const { items } = await cluster.client.resource(resources.events).list();
      return items
        .filter(({ involvedObject }) => involvedObject.name === 'db')
        .reduce((sum, event) => sum + (event.series?.count ?? event.count ?? 1), 0);
    };
    const before = await attempts();
    await cluster.put(testClaim('other'), testVolume('unrelated', { storageClassName: 'x' }));
    assert.equal(await attempts(), before);
    await cluster.put(testClaim('data', { storageClassName: 'late' }));
    await cluster.clock.advance(60_000);
    assert.match(await cluster.told('db'), /unbound immediate/);
    await cluster.putClass('late');
    await cluster.clock.advance(60_000);
    assert.match(await cluster.told('db'), /didn't find available persistent volumes/);
    await cluster.put(testVolume('pv', { storageClassName: 'late' }));
    await cluster.clock.advance(60_000);
    await settle();
    assert.equal((await cluster.volumes.get('pv')).spec.claimRef?.name, 'data');
    await cluster.complete('data', 'pv');
    assert.notEqual(await cluster.nodeOf('db'), '');
  });

  it('gets a claim for one pod when the pod that has it is gone', async () => {
    await using cluster = await startCluster();
    const { annotations, volumeName } = bound('pv');
    await cluster.put(testVolume('pv', { accessModes: ['ReadWriteOncePod'] }));
    await cluster.put(testClaim('only', { volumeName, accessModes: ['ReadWriteOncePod'] }, { annotations }));
    await cluster.createPod('first', 'only');
    await cluster.createPod('second', 'only');
    assert.notEqual(await cluster.nodeOf('first'), '');
    assert.equal(await cluster.nodeOf('second'), '');
    await cluster.pods.delete('first', { gracePeriodSeconds: 0 });
    await settle();
    await cluster.clock.advance(1000);
    assert.notEqual(await cluster.nodeOf('second'), '');
  });
});
