// Claims and volumes on a whole cluster without containers, as kubectl and programs see them: the default class, claims
// of StatefulSets and pods, protection, growth, and the lifecycle that the conformance tests of sig-storage walk
// through. What lies on a disk is proved in volumes.test.ts and beside the provisioner.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { PersistentVolume, PersistentVolumeClaim, Pod } from '../../src/api/types/core-v1.ts';
import { resources } from '../../src/cluster/testing.ts';
import { eventually } from './support/eventually.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

let sim: SimulatedCluster;
before(async () => {
  sim = await startSimulated();
});
after(() => sim[Symbol.asyncDispose]());

const client = () => sim.cluster.client;
const claims = () => client().resource(resources.persistentVolumeClaims, 'default');
const volumes = () => client().resource(resources.persistentVolumes);
const pods = () => client().resource(resources.pods, 'default');
const sets = () => client().resource(resources.statefulSets, 'default');

const claimSpec = (more: object = {}) => ({
  accessModes: ['ReadWriteOnce'],
  resources: { requests: { storage: '1Gi' } },
  ...more,
});
const create = async <T>(manifest: object): Promise<T> => {
  const { code, stdout, stderr } = await sim.kubectl.run(
    ['create', '-f', '-', '-o', 'json'],
    JSON.stringify(manifest),
  );
  assert.equal(code, 0, stderr);
  assert.equal(stderr, '', 'nothing to warn of');
  return JSON.parse(stdout) as T;
};
const makeClaim = (name: string, more: object = {}) =>
  create<PersistentVolumeClaim>({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name, labels: { test: name } },
    spec: claimSpec(more),
  });
const makePod = (name: string, volume: object) =>
  create<Pod>({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'c', image: 'i:1', volumeMounts: [{ name: 'data', mountPath: '/data' }] }],
      volumes: [{ name: 'data', ...volume }],
    },
  });
const using = (claimName: string) => ({ persistentVolumeClaim: { claimName } });
const phaseOf = async (one: { get(name: string): Promise<{ status: { phase?: string } }> }, name: string) =>
  (await one.get(name)).status.phase;
const running = (name: string) =>
  eventually(`pod ${name} runs`, async () => assert.equal(await phaseOf(pods(), name), 'Running'));
const bound = (name: string) =>
  eventually(`claim ${name} is bound`, async () => assert.equal(await phaseOf(claims(), name), 'Bound'));
const goneFrom = (list: () => Promise<{ items: readonly { metadata: { name: string } }[] }>, name: string) =>
  eventually(`${name} is gone`, async () =>
    assert.ok(!(await list()).items.some((item) => item.metadata.name === name)),
  );
const claimGone = (name: string) => goneFrom(() => claims().list(), name);
const volumeGone = (name: string) => goneFrom(() => volumes().list(), name);

describe('the default class', () => {
  it('is there, says what it is, and waits for the first consumer', async () => {
    assert.match(
      await sim.kubectl('get', 'storageclass'),
      /^local-path \(default\) +bulkhead\.dev\/local-path +Delete +WaitForFirstConsumer +true +\d+s$/m,
    );
    assert.match(await sim.kubectl('describe', 'sc', 'local-path'), /the size of a claim is not enforced/);
  });

  it('gives a pod with a claim its volume, and takes it away with the claim', async () => {
    const claim = await makeClaim('data');
    assert.equal(claim.spec.storageClassName, 'local-path');
    assert.deepEqual(claim.metadata.finalizers, ['kubernetes.io/pvc-protection']);
    await eventually('the claim says why it waits', async () =>
      assert.match(await sim.kubectl('describe', 'pvc', 'data'), /WaitForFirstConsumer +.*waiting for first/),
    );
    await makePod('web', using('data'));
    await running('web');
    await bound('data');
    const { volumeName } = (await claims().get('data')).spec;
    assert.equal(volumeName, `pvc-${claim.metadata.uid}`);
    assert.match(
      await sim.kubectl('get', 'pvc', 'data'),
      new RegExp(`^data +Bound +${volumeName} +1Gi +RWO +local-path +<unset> +\\d+s$`, 'm'),
    );
    assert.match(
      await sim.kubectl('get', 'pv', volumeName!),
      new RegExp(`^${volumeName} +1Gi +RWO +Delete +Bound +default/data +local-path +<unset> +\\d+s$`, 'm'),
    );
    assert.match(await sim.kubectl('describe', 'pvc', 'data'), /Used By: +web/);
    const volume = await volumes().get(volumeName!);
    const [term] = volume.spec.nodeAffinity!.required!.nodeSelectorTerms;
    const { nodeName } = (await pods().get('web')).spec;
    assert.deepEqual(term?.matchExpressions?.[0]?.values, [nodeName]);
    await sim.kubectl('delete', 'pod', 'web');
    await sim.kubectl('delete', 'pvc', 'data');
    await volumeGone(volumeName!);
  });
});

describe('a claim that grows', () => {
  it('takes its volume along, and cannot shrink', async () => {
    await makeClaim('grows');
    await makePod('grower', using('grows'));
    await bound('grows');
    const resize = (size: string) => JSON.stringify({ spec: { resources: { requests: { storage: size } } } });
    await sim.kubectl('patch', 'pvc', 'grows', '-p', resize('5Gi'));
    await eventually('the claim has grown', async () =>
      assert.equal((await claims().get('grows')).status.capacity?.['storage'], '5Gi'),
    );
    const { volumeName } = (await claims().get('grows')).spec;
    assert.equal((await volumes().get(volumeName!)).spec.capacity?.['storage'], '5Gi');
    assert.match(
      await sim.kubectl.refused('patch', 'pvc', 'grows', '-p', resize('2Gi')),
      /field can not be less than status\.capacity/,
    );
    await sim.kubectl('delete', 'pod/grower', 'pvc/grows');
  });
});

describe('protection', () => {
  it('keeps a claim that a pod uses until the pod has gone', async () => {
    await makeClaim('kept');
    await makePod('user', using('kept'));
    await running('user');
    await sim.kubectl('delete', 'pvc', 'kept', '--wait=false');
    assert.match(await sim.kubectl('get', 'pvc', 'kept'), /^kept +Terminating /m);
    // A pod that comes now cannot have it.
    await makePod('late', using('kept'));
    await eventually('the late pod is told', async () =>
      assert.match(
        await sim.kubectl('describe', 'pod', 'late'),
        /FailedScheduling +.*persistentvolumeclaim "kept" is being deleted/,
      ),
    );
    assert.ok((await claims().get('kept')).metadata.deletionTimestamp);
    await sim.kubectl('delete', 'pod', 'user');
    await claimGone('kept');
    await sim.kubectl('delete', 'pod', 'late');
  });

  it('lets a claim that no pod uses go at once', async () => {
    await makeClaim('unused');
    await sim.kubectl('delete', 'pvc', 'unused', '--timeout=60s');
  });

  it('keeps a volume that is bound until its claim has gone', async () => {
    await makeClaim('holder');
    await makePod('holding', using('holder'));
    await bound('holder');
    const { volumeName } = (await claims().get('holder')).spec;
    await sim.kubectl('delete', 'pv', volumeName!, '--wait=false');
    assert.match(await sim.kubectl('get', 'pv', volumeName!), / Terminating /);
    await sim.kubectl('delete', 'pod/holding', 'pvc/holder');
    await volumeGone(volumeName!);
  });
});

describe('an ephemeral volume', () => {
  it('has a claim that comes and goes with its pod', async () => {
    const template = { metadata: { labels: { kind: 'scratch' } }, spec: claimSpec() };
    await makePod('worker', { ephemeral: { volumeClaimTemplate: template } });
    await running('worker');
    const claim = await claims().get('worker-data');
    assert.equal(claim.metadata.labels?.['kind'], 'scratch');
    assert.equal(claim.metadata.ownerReferences?.[0]?.name, 'worker');
    await sim.kubectl('delete', 'pod', 'worker');
    await claimGone('worker-data');
    await volumeGone(claim.spec.volumeName!);
  });

  it('does not take a claim that is somebody else’s', async () => {
    await makeClaim('thief-data');
    await makePod('thief', { ephemeral: { volumeClaimTemplate: { spec: claimSpec() } } });
    await eventually('the pod is told', async () =>
      assert.match(
        await sim.kubectl('describe', 'pod', 'thief'),
        /PVC default\/thief-data was not created for pod default\/thief \(pod is not owner\)/,
      ),
    );
    await sim.kubectl('delete', 'pvc', 'thief-data');
    await running('thief');
    await sim.kubectl('delete', 'pod', 'thief');
  });
});

describe('a StatefulSet with claims', () => {
  const makeSet = (name: string, replicas: number, more: object = {}) =>
    create({
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name },
      spec: {
        replicas,
        serviceName: name,
        selector: { matchLabels: { app: name } },
        template: {
          metadata: { labels: { app: name } },
          spec: {
            terminationGracePeriodSeconds: 0,
            containers: [{ name: 'c', image: 'i:1', volumeMounts: [{ name: 'data', mountPath: '/data' }] }],
          },
        },
        volumeClaimTemplates: [{ metadata: { name: 'data' }, spec: claimSpec() }],
        ...more,
      },
    });
  const ready = (name: string, count: number) =>
    eventually(`${count} pods of ${name} are ready`, async () => {
      const { status } = await sets().get(name);
      assert.deepEqual([status.readyReplicas ?? 0, status.replicas], [count, count]);
    });
  const claimsOf = async (name: string): Promise<string[]> =>
    (await claims().list({ labelSelector: `app=${name}` })).items.map((claim) => claim.metadata.name);

  it('gives each pod its claim, and a pod that comes back the same volume', async () => {
    await makeSet('db', 3);
    await ready('db', 3);
    assert.deepEqual(await claimsOf('db'), ['data-db-0', 'data-db-1', 'data-db-2']);
    const before = await pods().get('db-1');
    const { volumeName } = (await claims().get('data-db-1')).spec;
    await sim.kubectl('delete', 'pod', 'db-1');
    // The set's status tells of the old pod until its controller has looked again.
    const now = await eventually('another pod runs', async () => {
      const pod = await pods().get('db-1');
      assert.notEqual(pod.metadata.uid, before.metadata.uid);
      assert.equal(pod.status.phase, 'Running');
      return pod;
    });
    assert.equal(now.spec.nodeName, before.spec.nodeName, 'where its volume is');
    assert.equal((await claims().get('data-db-1')).spec.volumeName, volumeName);
    await sim.kubectl('scale', 'sts/db', '--replicas=1');
    await ready('db', 1);
    assert.equal((await claimsOf('db')).length, 3, 'retained');
    await sim.kubectl('delete', 'sts', 'db');
    assert.equal((await claimsOf('db')).length, 3);
    await sim.kubectl('delete', 'pvc', '-l', 'app=db');
  });

  it('deletes claims as its retention policy says', async () => {
    await makeSet('tmp', 2, {
      persistentVolumeClaimRetentionPolicy: { whenScaled: 'Delete', whenDeleted: 'Delete' },
    });
    await ready('tmp', 2);
    const [claim] = (await claims().list({ labelSelector: 'app=tmp' })).items;
    await eventually('the set owns its claims', async () =>
      assert.equal(
        (await claims().get(claim!.metadata.name)).metadata.ownerReferences?.[0]?.kind,
        'StatefulSet',
      ),
    );
    await sim.kubectl('scale', 'sts/tmp', '--replicas=1');
    await claimGone('data-tmp-1');
    await sim.kubectl('delete', 'sts', 'tmp');
    await claimGone('data-tmp-0');
  });
});

describe('the lifecycle of a volume and a claim', () => {
  const volume = (name: string): object => ({
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name, labels: { 'e2e-pv-pool': name } },
    spec: {
      accessModes: ['ReadWriteOnce'],
      capacity: { storage: '2Gi' },
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: name,
      hostPath: { path: '/tmp/data' },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/os', operator: 'Exists' }] }],
        },
      },
    },
  });

  it('goes as sig-storage’s conformance test walks it', async () => {
    await create<PersistentVolume>(volume('life'));
    await makeClaim('life', { storageClassName: 'life' });
    await bound('life');
    const select = { labelSelector: 'e2e-pv-pool=life' };
    assert.equal((await volumes().list(select)).items.length, 1);
    assert.equal((await claims().list({ labelSelector: 'test=life' })).items.length, 1);
    const patched = await volumes().patch('life', {
      type: 'strategic',
      patch: { metadata: { labels: { life: 'patched' } } },
    });
    assert.equal(patched.metadata.labels?.['life'], 'patched');
    await claims().patch('life', { type: 'strategic', patch: { metadata: { labels: { life: 'patched' } } } });
    const phase = (await volumes().get('life')).status;
    assert.equal(phase.phase, 'Bound');
    assert.ok(phase.lastPhaseTransitionTime);
    await claims().delete('life');
    await claimGone('life');
    await eventually('the volume is released', async () =>
      assert.equal(await phaseOf(volumes(), 'life'), 'Released'),
    );
    await volumes().delete('life');
    await volumeGone('life');
    // And once more, ended by the collection.
    await create(volume('life'));
    await makeClaim('life', { storageClassName: 'life' });
    await bound('life');
    const claim = await claims().get('life');
    const updated = await claims().update({
      ...claim,
      metadata: { ...claim.metadata, labels: { ...claim.metadata.labels, life: 'updated' } },
    });
    assert.equal(updated.metadata.labels?.['life'], 'updated');
    await claims().deleteCollection({ labelSelector: 'life=updated' });
    await claimGone('life');
    await volumes().deleteCollection(select);
    await volumeGone('life');
  });

  it('keeps what others write into their status', async () => {
    await create(volume('status'));
    await makeClaim('status', { storageClassName: 'status' });
    await bound('status');
    const condition = (type: string) => ({
      type,
      status: 'True',
      reason: 'E2E',
      message: 'Set from e2e test',
    });
    const first = await claims().patch(
      'status',
      { type: 'merge', patch: { status: { conditions: [condition('StatusPatched')] } } },
      { subresource: 'status' },
    );
    assert.equal(first.status.conditions?.[0]?.type, 'StatusPatched');
    const second = await claims().updateStatus({
      ...first,
      status: {
        ...first.status,
        conditions: [...first.status.conditions!, condition('StatusUpdated')] as never,
      },
    });
    assert.deepEqual(
      second.status.conditions?.map(({ type }) => type),
      ['StatusPatched', 'StatusUpdated'],
    );
    assert.equal(second.status.phase, 'Bound');
    const pv = await volumes().patch(
      'status',
      { type: 'merge', patch: { status: { message: 'StatusPatched', reason: 'E2E patchStatus' } } },
      { subresource: 'status' },
    );
    assert.deepEqual([pv.status.message, pv.status.phase], ['StatusPatched', 'Bound']);
    const updated = await volumes().updateStatus({
      ...pv,
      status: { ...pv.status, message: 'StatusUpdated', reason: 'E2E updateStatus' },
    });
    assert.equal(updated.status.reason, 'E2E updateStatus');
    await sim.kubectl('delete', 'pvc/status');
    await sim.kubectl('delete', 'pv/status');
  });

  it('of a claim made before there was a class for it begins when the class comes', async () => {
    await makeClaim('early', { storageClassName: 'manual' });
    await eventually('the claim is told', async () =>
      assert.match(
        await sim.kubectl('describe', 'pvc', 'early'),
        /ProvisioningFailed +.*storageclass\.storage\.k8s\.io "manual" not found/,
      ),
    );
    await create({
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'manual' },
      provisioner: 'bulkhead.dev/local-path',
      volumeBindingMode: 'WaitForFirstConsumer',
      reclaimPolicy: 'Retain',
    });
    await makePod('early', using('early'));
    await running('early');
    const { volumeName } = (await claims().get('early')).spec;
    await sim.kubectl('delete', 'pod/early', 'pvc/early');
    await eventually('the volume is kept', async () =>
      assert.equal(await phaseOf(volumes(), volumeName!), 'Released'),
    );
    await sim.kubectl('delete', `pv/${volumeName}`, '--timeout=60s');
  });
});
