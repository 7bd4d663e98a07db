import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Draft, volumeAnnotations as keys } from '../../api/index.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import type { StorageClass } from '../../api/types/storage-v1.ts';
import { resources } from '../../client/index.ts';
import { losesOnce } from '../../client/testing/fake-api.ts';
import { startTestCluster } from '../testing/cluster.ts';

type ClaimSpec = PersistentVolumeClaim['spec'];
type VolumeSpec = PersistentVolume['spec'];

const claimDraft = (name: string, spec: ClaimSpec = {}): Draft<PersistentVolumeClaim> => ({
  metadata: { name },
  spec: {
    accessModes: ['ReadWriteOnce'],
    resources: { requests: { storage: '1Gi' } },
    volumeMode: 'Filesystem',
    ...spec,
  },
});

const volumeDraft = (name: string, spec: VolumeSpec = {}, annotations = {}): Draft<PersistentVolume> => ({
  metadata: { name, annotations },
  spec: {
    capacity: { storage: '1Gi' },
    accessModes: ['ReadWriteOnce'],
    persistentVolumeReclaimPolicy: 'Retain',
    volumeMode: 'Filesystem',
    hostPath: { path: `/data/${name}` },
    ...spec,
  },
});

const classDraft = (
  name: string,
  more: Partial<StorageClass> = {},
  annotations = {},
): Draft<StorageClass> => ({
  metadata: { name, annotations },
  provisioner: 'example.com/disk',
  volumeBindingMode: 'Immediate',
  reclaimPolicy: 'Delete',
  ...more,
});

async function setup() {
  const cluster = await startTestCluster(['persistentvolume-binder-controller']);
  const { client } = cluster;
  const claims = client.resource(resources.persistentVolumeClaims, 'default');
  const volumes = client.resource(resources.persistentVolumes);
  const classes = client.resource(resources.storageClasses);
  const phases = async () => {
    await cluster.settle();
    const all = [...(await claims.list()).items, ...(await volumes.list()).items];
    return Object.fromEntries(all.map((o) => [o.metadata.name, o.status.phase]));
  };
  return { cluster, client, claims, volumes, classes, phases };
}

test('a claim gets the smallest volume that fits, and both say so', async () => {
  const { cluster, claims, volumes, phases } = await setup();
  await using _ = cluster;
  await volumes.create(volumeDraft('big', { capacity: { storage: '10Gi' } }));
  await volumes.create(volumeDraft('small', { capacity: { storage: '2Gi' } }));
  await volumes.create(volumeDraft('tiny', { capacity: { storage: '1Mi' } }));
  assert.deepEqual(await phases(), { big: 'Available', small: 'Available', tiny: 'Available' });
  await claims.create(claimDraft('c'));
  assert.deepEqual(await phases(), { c: 'Bound', big: 'Available', small: 'Bound', tiny: 'Available' });
  const claim = await claims.get('c');
  assert.equal(claim.spec.volumeName, 'small');
  assert.deepEqual(claim.metadata.annotations, {
    'pv.kubernetes.io/bind-completed': 'yes',
    'pv.kubernetes.io/bound-by-controller': 'yes',
  });
  assert.deepEqual(claim.status, {
    phase: 'Bound',
    accessModes: ['ReadWriteOnce'],
    capacity: { storage: '2Gi' },
  });
  const volume = await volumes.get('small');
  const { resourceVersion: _version, ...reference } = volume.spec.claimRef!;
  assert.deepEqual(reference, {
    kind: 'PersistentVolumeClaim',
    apiVersion: 'v1',
    namespace: 'default',
    name: 'c',
    uid: claim.metadata.uid,
  });
  assert.equal(volume.status.lastPhaseTransitionTime, '2026-01-01T00:00:00Z');
});

test('of two claims for one volume one gets it, and the other gets the next that comes', async () => {
  const { cluster, claims, volumes, phases } = await setup();
  await using _ = cluster;
  await Promise.all([claims.create(claimDraft('a')), claims.create(claimDraft('b'))]);
  await volumes.create(volumeDraft('v1'));
  const first = await phases();
  assert.deepEqual([first['a'], first['b']].toSorted(), ['Bound', 'Pending']);
  await volumes.create(volumeDraft('v2'));
  assert.deepEqual(await phases(), { a: 'Bound', b: 'Bound', v1: 'Bound', v2: 'Bound' });
  assert.notEqual((await claims.get('a')).spec.volumeName, (await claims.get('b')).spec.volumeName);
});

test('a write that loses against another is made again', async () => {
  for (const resource of ['persistentvolumes', 'persistentvolumeclaims']) {
    const { cluster, claims, volumes, phases } = await setup();
    await using _ = cluster;
    await volumes.create(volumeDraft('v'));
    await cluster.settle();
    cluster.api.intercept = losesOnce('update', resource);
    await claims.create(claimDraft('c'));
    await cluster.advance(1000);
    assert.deepEqual(await phases(), { c: 'Bound', v: 'Bound' }, resource);
  }
});

test('a volume that the user reserved goes to that claim only, and its reference stays the user’s', async () => {
  const { cluster, claims, volumes, phases } = await setup();
  await using _ = cluster;
  await volumes.create(volumeDraft('mine', { claimRef: { namespace: 'default', name: 'c' } }));
  await claims.create(claimDraft('other'));
  assert.deepEqual(await phases(), { other: 'Pending', mine: 'Available' });
  await claims.create(claimDraft('c'));
  assert.deepEqual(await phases(), { c: 'Bound', other: 'Pending', mine: 'Bound' });
  const volume = await volumes.get('mine');
  assert.equal(volume.spec.claimRef?.uid, (await claims.get('c')).metadata.uid);
  assert.equal(volume.metadata.annotations?.[keys.boundByController], undefined);
});

test('a claim that names its volume waits for that one, and says what does not fit', async () => {
  const { cluster, claims, volumes, phases } = await setup();
  await using _ = cluster;
  await claims.create(claimDraft('c', { volumeName: 'v' }));
  await volumes.create(volumeDraft('another'));
  assert.deepEqual(await phases(), { c: 'Pending', another: 'Available' });
  await volumes.create(volumeDraft('v', { capacity: { storage: '1Mi' } }));
  assert.equal((await phases())['c'], 'Pending');
  assert.deepEqual(await cluster.events('c'), [
    'VolumeMismatch: Cannot bind to requested volume "v": requested PV is too small',
  ]);
  const volume = await volumes.get('v');
  await volumes.update({ ...volume, spec: { ...volume.spec, capacity: { storage: '5Gi' } } });
  assert.equal((await phases())['c'], 'Bound');
  const claim = await claims.get('c');
  assert.equal(claim.metadata.annotations?.[keys.boundByController], undefined, 'the user chose');
  await claims.create(claimDraft('late', { volumeName: 'v' }));
  assert.deepEqual(await cluster.events('late'), [
    'FailedBinding: volume "v" already bound to a different claim.',
  ]);
});

test('a claim without class and volume says that it waits, again and again but ever less often', async () => {
  const { cluster, client, claims } = await setup();
  await using _ = cluster;
  await claims.create(claimDraft('c', { storageClassName: '' }));
  const text = 'FailedBinding: no persistent volumes available for this claim and no storage class is set';
  assert.deepEqual(await cluster.events('c'), [text]);
  await cluster.advance(3600_000, 15_000);
  const [event] = (await client.resource(resources.events).list()).items;
  assert.ok((event?.count ?? 0) > 8 && (event?.count ?? 0) < 30, `${event?.count} times`);
});

test('a claim of a class is handed to its provisioner, whose volume it then takes', async () => {
  const { cluster, claims, volumes, classes, phases } = await setup();
  await using _ = cluster;
  await claims.create(claimDraft('c', { storageClassName: 'fast' }));
  assert.deepEqual(await cluster.events('c'), [
    'ProvisioningFailed: storageclass.storage.k8s.io "fast" not found',
  ]);
  await classes.create(classDraft('fast'));
  await cluster.settle();
  const claim = await claims.get('c');
  assert.equal(claim.metadata.annotations?.[keys.storageProvisioner], 'example.com/disk');
  assert.equal(claim.metadata.annotations?.[keys.betaStorageProvisioner], 'example.com/disk');
  assert.match((await cluster.events('c'))[1]!, /^ExternalProvisioning: Waiting for a volume to be created /);
  const { namespace, name, uid } = claim.metadata;
  await volumes.create(
    volumeDraft('pvc-1', { storageClassName: 'fast', claimRef: { namespace: namespace!, name, uid } }),
  );
  assert.deepEqual(await phases(), { c: 'Bound', 'pvc-1': 'Bound' });
});

test('a claim of a class that waits for its first consumer is not touched until a node is selected', async () => {
  const { cluster, client, claims, volumes, classes, phases } = await setup();
  await using _ = cluster;
  await classes.create(classDraft('late', { volumeBindingMode: 'WaitForFirstConsumer' }));
  await volumes.create(volumeDraft('free', { storageClassName: 'late' }));
  await claims.create(claimDraft('c', { storageClassName: 'late' }));
  assert.deepEqual(await phases(), { c: 'Pending', free: 'Available' });
  const first = 'WaitForFirstConsumer: waiting for first consumer to be created before binding';
  assert.deepEqual(await cluster.events('c'), [first]);
  cluster.podsBecome = () => undefined;
  await client.resource(resources.pods, 'default').create({
    metadata: { name: 'p' },
    spec: {
      containers: [{ name: 'c', image: 'i' }],
      volumes: [{ name: 'd', persistentVolumeClaim: { claimName: 'c' } }],
    },
  });
  await cluster.advance(16_000);
  assert.deepEqual(await cluster.events('c'), [
    first,
    'WaitForPodScheduled: waiting for pod p to be scheduled',
  ]);
  const claim = await claims.get('c');
  assert.equal(claim.metadata.annotations?.[keys.storageProvisioner], undefined);
  await claims.update({
    ...claim,
    metadata: { ...claim.metadata, annotations: { [keys.selectedNode]: 'n1' } },
  });
  await cluster.settle();
  assert.equal((await claims.get('c')).metadata.annotations?.[keys.storageProvisioner], 'example.com/disk');
});

test('a class of a plugin of old means its driver, and one that nobody knows is said to be unknown', async () => {
  const { cluster, claims, classes } = await setup();
  await using _ = cluster;
  await classes.create(classDraft('ebs', { provisioner: 'kubernetes.io/aws-ebs' }));
  await classes.create(classDraft('hand', { provisioner: 'kubernetes.io/no-provisioner' }));
  await claims.create(claimDraft('c', { storageClassName: 'ebs' }));
  await claims.create(claimDraft('d', { storageClassName: 'hand' }));
  await cluster.settle();
  assert.equal((await claims.get('c')).metadata.annotations?.[keys.storageProvisioner], 'ebs.csi.aws.com');
  assert.deepEqual(await cluster.events('d'), [
    'ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner',
  ]);
});

test('claims without a class get the default one when it comes, but not those that want none', async () => {
  const { cluster, claims, classes } = await setup();
  await using _ = cluster;
  await claims.create(claimDraft('any'));
  await claims.create(claimDraft('none', { storageClassName: '' }));
  await cluster.settle();
  await classes.create(classDraft('std', {}, { 'storageclass.kubernetes.io/is-default-class': 'true' }));
  await cluster.settle();
  assert.equal((await claims.get('any')).spec.storageClassName, 'std');
  assert.equal((await claims.get('none')).spec.storageClassName, '');
});

test('a volume outlives its claim as its policy says', async () => {
  const { cluster, claims, volumes } = await setup();
  await using _ = cluster;
  const cases = [
    ['retain', volumeDraft('retain'), 'Released', undefined],
    [
      'nfs',
      volumeDraft('nfs', { persistentVolumeReclaimPolicy: 'Delete' }),
      'Failed',
      /^VolumeFailedDelete: host_path deleter/,
    ],
    [
      'local',
      (() => {
        const { hostPath: _path, ...spec } = volumeDraft('local').spec!;
        return {
          ...volumeDraft('local'),
          spec: { ...spec, local: { path: '/x' }, persistentVolumeReclaimPolicy: 'Delete' as const },
        };
      })(),
      'Failed',
      /^VolumeFailedDelete: error getting deleter volume plugin for volume "local": no deletable volume plugin matched$/,
    ],
    [
      'recycle',
      volumeDraft('recycle', { persistentVolumeReclaimPolicy: 'Recycle' }),
      'Failed',
      /^VolumeFailedRecycle: Recycle failed: /,
    ],
    [
      'external',
      volumeDraft(
        'external',
        { persistentVolumeReclaimPolicy: 'Delete' },
        { [keys.provisionedBy]: 'example.com/disk' },
      ),
      'Released',
      undefined,
    ],
  ] as const;
  for (const [name, draft, phase, event] of cases) {
    await volumes.create(draft);
    await claims.create(claimDraft(name, { volumeName: name }));
    await cluster.settle();
    assert.equal((await volumes.get(name)).status.phase, 'Bound', name);
    await claims.delete(name);
    await cluster.settle();
    assert.equal((await volumes.get(name)).status.phase, phase, name);
    const said = (await cluster.events(name)).filter((text) => text.startsWith('Volume'));
    if (event) assert.match(said.join('\n'), event);
    else assert.deepEqual(said, []);
  }
  // A new claim of the same name does not get what the old one left.
  await claims.create(claimDraft('retain', { volumeName: 'retain' }));
  await cluster.settle();
  assert.equal((await claims.get('retain')).status.phase, 'Pending');
});

test('a bound claim whose volume goes is lost, and found again when the volume comes back', async () => {
  const { cluster, claims, volumes, phases } = await setup();
  await using _ = cluster;
  await volumes.create(volumeDraft('v'));
  await claims.create(claimDraft('c'));
  assert.equal((await phases())['c'], 'Bound');
  await volumes.delete('v');
  assert.deepEqual(await phases(), { c: 'Lost' });
  assert.deepEqual((await claims.get('c')).status, { phase: 'Lost' });
  assert.ok(
    (await cluster.events('c')).includes(
      'ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!',
    ),
  );
  await volumes.create(volumeDraft('v'));
  assert.deepEqual(await phases(), { c: 'Bound', v: 'Bound' });
});

test('of two claims that say they are bound to one volume the wrong one is told so', async () => {
  const { cluster, claims, volumes, phases } = await setup();
  await using _ = cluster;
  await volumes.create(volumeDraft('v'));
  await claims.create(claimDraft('right'));
  await cluster.settle();
  await claims.create({
    metadata: { name: 'wrong', annotations: { [keys.bindCompleted]: 'yes' } },
    spec: { ...claimDraft('wrong').spec, volumeName: 'v' },
  });
  assert.deepEqual(await phases(), { right: 'Bound', wrong: 'Lost', v: 'Bound' });
  assert.deepEqual(await cluster.events('wrong'), [
    'ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly',
  ]);
});

test('a volume made for a claim that took another one meanwhile is released', async () => {
  const { cluster, claims, volumes, phases } = await setup();
  await using _ = cluster;
  await volumes.create(volumeDraft('v'));
  await claims.create(claimDraft('c'));
  await cluster.settle();
  const { uid } = (await claims.get('c')).metadata;
  const claimRef = { namespace: 'default', name: 'c', uid };
  await volumes.create(
    volumeDraft(
      'made',
      { claimRef, persistentVolumeReclaimPolicy: 'Delete' },
      { [keys.provisionedBy]: 'example.com/disk' },
    ),
  );
  await volumes.create(volumeDraft('ours', { claimRef }, { [keys.boundByController]: 'yes' }));
  await volumes.create(volumeDraft('users', { claimRef }));
  assert.deepEqual(await phases(), {
    c: 'Bound',
    v: 'Bound',
    made: 'Released',
    ours: 'Available',
    users: 'Available',
  });
  assert.equal((await volumes.get('ours')).spec.claimRef, undefined);
  assert.deepEqual((await volumes.get('users')).spec.claimRef, { namespace: 'default', name: 'c' });
});
