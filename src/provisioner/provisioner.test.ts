import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Draft, volumeAnnotations as keys } from '../api/index.ts';
import type { PersistentVolumeClaim } from '../api/types/core-v1.ts';
import type { StorageClass } from '../api/types/storage-v1.ts';
import { createClient, resources } from '../client/index.ts';
import { settle } from '../client/testing/eventually.ts';
import { FakeApi } from '../client/testing/fake-api.ts';
import { ManualClock, type Running } from '../component/index.ts';
import { simulatedDirectories } from './directories.ts';
import { ensureDefaultStorageClass } from './index.ts';
import { startSimulatedProvisioner } from './local-path.ts';
import { FINALIZER, LOCAL_PATH_PROVISIONER } from './names.ts';
import { startProvisioner } from './provisioner.ts';

type ClaimSpec = PersistentVolumeClaim['spec'];

/** An API with the class local-path and nodes, in which the test plays binder and scheduler. */
async function setup(nodes: readonly string[] = ['n1']) {
  const clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'));
  const api = new FakeApi({ clock });
  const client = createClient(api, { clock });
  const claims = client.resource(resources.persistentVolumeClaims, 'default');
  const volumes = client.resource(resources.persistentVolumes);
  const classes = client.resource(resources.storageClasses);
  const nodesApi = client.resource(resources.nodes);
  for (const name of nodes)
    await nodesApi.create({ metadata: { name, labels: { 'kubernetes.io/hostname': `host-${name}` } } });
  const makeClass = (name: string, more: Partial<StorageClass> = {}) =>
    classes.create({
      metadata: { name },
      provisioner: LOCAL_PATH_PROVISIONER,
      reclaimPolicy: 'Delete',
      volumeBindingMode: 'WaitForFirstConsumer',
      ...more,
    });
  await makeClass('local-path');
  const draft = (
    name: string,
    spec: ClaimSpec = {},
    node: string | undefined = nodes[0],
  ): Draft<PersistentVolumeClaim> => ({
    metadata: {
      name,
      annotations: {
        [keys.storageProvisioner]: LOCAL_PATH_PROVISIONER,
        ...(node === undefined ? {} : { [keys.selectedNode]: node }),
      },
    },
    spec: {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '1Gi' } },
      storageClassName: 'local-path',
      volumeMode: 'Filesystem',
      ...spec,
    },
  });
  const events = async (name: string): Promise<string[]> => {
    await settle(60);
    const { items } = await client.resource(resources.events).list();
    return items.filter((e) => e.involvedObject.name === name).map((e) => `${e.reason}: ${e.message}`);
  };
  const volumeNames = async (): Promise<string[]> => {
    await settle(60);
    return (await volumes.list()).items.map((v) => v.metadata.name);
  };
  const phase = async (name: string, to: 'Available' | 'Bound' | 'Released'): Promise<void> => {
    await volumes.updateStatus({ ...(await volumes.get(name)), status: { phase: to } });
    await settle(60);
  };
  return {
    clock,
    api,
    client,
    claims,
    volumes,
    classes,
    nodesApi,
    makeClass,
    draft,
    events,
    volumeNames,
    phase,
  };
}

/** A provisioner on each of these nodes, without a disk. */
async function onNodes(client: ReturnType<typeof createClient>, names: readonly string[]) {
  const removed: string[] = [];
  const running: Running[] = [];
  for (const nodeName of names)
    running.push(
      startProvisioner({
        client,
        provisionerName: LOCAL_PATH_PROVISIONER,
        nodeName,
        directories: {
          ...simulatedDirectories(`/on/${nodeName}`),
          remove: async (_name, path) => void removed.push(path),
        },
        clock: client.clock,
        logger: client.logger,
      }),
    );
  await Promise.all(running.map((one) => one.ready));
  return {
    removed,
    async [Symbol.asyncDispose]() {
      for (const one of running) await one[Symbol.asyncDispose]();
    },
  };
}

test('the node that was selected makes the volume, and no other', async () => {
  const { client, claims, volumes, draft, events } = await setup(['n1', 'n2']);
  await using _client = client;
  await using _nodes = await onNodes(client, ['n1', 'n2']);
  const claim = await claims.create(draft('data', {}, 'n2'));
  const said = await events('data');
  assert.deepEqual(said, [
    'Provisioning: External provisioner is provisioning volume for claim "default/data"',
    `ProvisioningSucceeded: Successfully provisioned volume pvc-${claim.metadata.uid}`,
  ]);
  const volume = await volumes.get(`pvc-${claim.metadata.uid}`);
  assert.deepEqual(volume.metadata.finalizers, [FINALIZER]);
  assert.equal(volume.metadata.annotations?.[keys.provisionedBy], LOCAL_PATH_PROVISIONER);
  const { claimRef, ...spec } = volume.spec;
  assert.deepEqual(spec, {
    capacity: { storage: '1Gi' },
    accessModes: ['ReadWriteOnce'],
    volumeMode: 'Filesystem',
    persistentVolumeReclaimPolicy: 'Delete',
    storageClassName: 'local-path',
    local: { path: `/on/n2/pvc-${claim.metadata.uid}_default_data` },
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [
          { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: ['host-n2'] }] },
        ],
      },
    },
  });
  assert.equal(claimRef?.uid, claim.metadata.uid);
});

test('what a directory cannot give is refused by name', async () => {
  const { client, claims, makeClass, draft, events, volumeNames } = await setup();
  await using _client = client;
  await using _nodes = await onNodes(client, ['n1']);
  await makeClass('mounts', { mountOptions: ['noatime'] });
  await makeClass('parameters', { parameters: { pathPattern: 'x', nodePath: '/y' } });
  const cases: [ClaimSpec, RegExp][] = [
    [{ volumeMode: 'Block' }, /does not support block volume provisioning.*volumeMode/],
    [{ accessModes: ['ReadWriteMany'] }, /ReadWriteOnce and ReadWriteOncePod only, not ReadWriteMany/],
    [{ selector: { matchLabels: { a: 'b' } } }, /claim\.Spec\.Selector is not supported/],
    [
      { dataSource: { kind: 'PersistentVolumeClaim', name: 'other' } },
      /data source \(PersistentVolumeClaim other\)/,
    ],
    [{ volumeAttributesClassName: 'gold' }, /volumeAttributesClassName "gold"/],
    [{ storageClassName: 'mounts' }, /mountOptions are not supported .* noatime/],
    [{ storageClassName: 'parameters' }, /does not know: nodePath, pathPattern/],
  ];
  for (const [i, [spec, message]] of cases.entries()) {
    await claims.create(draft(`c${i}`, spec));
    const [said, ...more] = await events(`c${i}`);
    assert.match(said ?? '', /^ProvisioningFailed: /);
    assert.match(said ?? '', message);
    assert.deepEqual(more, []);
  }
  assert.deepEqual(await volumeNames(), []);
});

test('a claim that is not ours, has a volume, waits for its node or is being deleted is left alone', async () => {
  const { client, claims, classes, draft, volumeNames } = await setup();
  await using _client = client;
  await using _nodes = await onNodes(client, ['n1']);
  await classes.create({ metadata: { name: 'theirs' }, provisioner: 'example.com/x' });
  await claims.create({ ...draft('a'), metadata: { name: 'a', annotations: { [keys.selectedNode]: 'n1' } } });
  await claims.create(draft('b', { volumeName: 'v' }));
  await claims.create(draft('c', {}, ''));
  await claims.create(draft('d', { storageClassName: 'theirs' }));
  await claims.create({
    ...draft('e', {}, ''),
    metadata: { ...draft('e', {}, '').metadata, finalizers: ['x'] },
  });
  await claims.delete('e');
  const e = await claims.get('e');
  await claims.update({ ...e, metadata: { ...e.metadata, annotations: draft('e').metadata.annotations! } });
  assert.deepEqual(await volumeNames(), []);
});

test('an immediate claim gets a volume where only one node is allowed, and else hears once why not', async () => {
  const { client, claims, nodesApi, makeClass, draft, events, volumeNames } = await setup(['n1', 'n2']);
  await using _client = client;
  await using _nodes = await onNodes(client, ['n1', 'n2']);
  await makeClass('now', { volumeBindingMode: 'Immediate' });
  await makeClass('on-2', {
    volumeBindingMode: 'Immediate',
    allowedTopologies: [{ matchLabelExpressions: [{ key: 'kubernetes.io/hostname', values: ['host-n2'] }] }],
  });
  const named = await claims.create(draft('named', { storageClassName: 'on-2' }, ''));
  assert.deepEqual(await volumeNames(), [`pvc-${named.metadata.uid}`]);
  const any = await claims.create(draft('any', { storageClassName: 'now' }, ''));
  const said = await events('any');
  assert.equal(said.length, 1);
  assert.match(said[0]!, /2 nodes are allowed: use a class with volumeBindingMode WaitForFirstConsumer/);
  await nodesApi.delete('n2');
  assert.ok((await volumeNames()).includes(`pvc-${any.metadata.uid}`), 'now there is one node only');
});

test('a node that is not there, or not allowed, is taken back from the claim', async () => {
  const { client, claims, makeClass, draft, events } = await setup(['n1', 'n2']);
  await using _client = client;
  await using _nodes = await onNodes(client, ['n1', 'n2']);
  await makeClass('on-2', {
    volumeBindingMode: 'WaitForFirstConsumer',
    allowedTopologies: [{ matchLabelExpressions: [{ key: 'kubernetes.io/hostname', values: ['host-n2'] }] }],
  });
  await claims.create(draft('lost', {}, 'gone'));
  await claims.create(draft('wrong', { storageClassName: 'on-2' }, 'n1'));
  assert.deepEqual(await events('lost'), [
    'ProvisioningFailed: failed to provision volume with StorageClass "local-path": node "gone" not found',
  ]);
  assert.equal((await events('wrong')).length, 1);
  for (const name of ['lost', 'wrong'])
    assert.equal((await claims.get(name)).metadata.annotations?.[keys.selectedNode], undefined);
});

test('a released volume is deleted with what it stands for, on its own node', async () => {
  const { client, claims, volumes, draft, events, volumeNames, phase } = await setup(['n1', 'n2']);
  await using _client = client;
  await using nodes = await onNodes(client, ['n1', 'n2']);
  const claim = await claims.create(draft('data', {}, 'n2'));
  const [name] = await volumeNames();
  await phase(name!, 'Bound');
  await volumes.delete(name!);
  assert.deepEqual(await volumeNames(), [name], 'the finalizer holds it while it is bound');
  assert.deepEqual(nodes.removed, []);
  await phase(name!, 'Released');
  assert.deepEqual(await volumeNames(), []);
  assert.deepEqual(nodes.removed, [`/on/n2/pvc-${claim.metadata.uid}_default_data`]);
  assert.deepEqual(await events(name!), [
    `VolumeDeleted: Deleted /on/n2/pvc-${claim.metadata.uid}_default_data of volume ${name}`,
  ]);
});

test('stopping does not wait for a directory that takes long to delete', async () => {
  const { client, claims, draft, volumeNames, phase, volumes } = await setup();
  await using _client = client;
  let begun = false;
  const running = startProvisioner({
    client,
    provisionerName: LOCAL_PATH_PROVISIONER,
    nodeName: 'n1',
    directories: {
      ...simulatedDirectories('/slow'),
      remove() {
        begun = true;
        return new Promise(() => {});
      },
    },
    clock: client.clock,
    logger: client.logger,
  });
  await claims.create(draft('data'));
  const [name] = await volumeNames();
  await phase(name!, 'Released');
  assert.ok(begun);
  await running[Symbol.asyncDispose]();
  assert.equal((await volumes.get(name!)).metadata.deletionTimestamp, undefined);
});

test('a volume that is to be retained loses our finalizer and nothing else', async () => {
  const { client, claims, volumes, draft, volumeNames, phase } = await setup();
  await using _client = client;
  await using nodes = await onNodes(client, ['n1']);
  await claims.create(draft('data'));
  const [name] = await volumeNames();
  await phase(name!, 'Bound');
  const set = async (persistentVolumeReclaimPolicy: 'Retain' | 'Delete'): Promise<readonly string[]> => {
    const volume = await volumes.get(name!);
    await volumes.update({ ...volume, spec: { ...volume.spec, persistentVolumeReclaimPolicy } });
    await settle(60);
    return (await volumes.get(name!)).metadata.finalizers ?? [];
  };
  assert.deepEqual(await set('Retain'), []);
  assert.deepEqual(await set('Delete'), [FINALIZER]);
  await set('Retain');
  await phase(name!, 'Released');
  assert.deepEqual(await volumeNames(), [name]);
  assert.deepEqual(nodes.removed, []);
});

test('a volume whose node has left the cluster is said to be stuck', async () => {
  const { client, claims, nodesApi, draft, events, volumeNames, phase } = await setup(['n1', 'n2']);
  await using _client = client;
  await using _nodes = await onNodes(client, ['n1', 'n2']);
  await claims.create(draft('data', {}, 'n2'));
  const [name] = await volumeNames();
  await nodesApi.delete('n2');
  await phase(name!, 'Released');
  const said = await events(name!);
  assert.equal(said.length, 1);
  assert.match(said[0]!, /^VolumeFailedDelete: the node that holds .* \(host-n2\) is not in the cluster/);
});

test('a bound claim that grows takes its volume’s number along', async () => {
  const { client, claims, volumes, draft, events, volumeNames, phase } = await setup();
  await using _client = client;
  await using _nodes = await onNodes(client, ['n1']);
  await claims.create(draft('data'));
  const [name] = await volumeNames();
  await phase(name!, 'Bound');
  const claim = await claims.update({
    ...(await claims.get('data')),
    spec: {
      ...(await claims.get('data')).spec,
      volumeName: name!,
      resources: { requests: { storage: '3Gi' } },
    },
  });
  await claims.updateStatus({
    ...claim,
    status: {
      phase: 'Bound',
      capacity: { storage: '1Gi' },
      conditions: [{ type: 'Resizing', status: 'True' }],
    },
  });
  assert.deepEqual((await events('data')).slice(-2), [
    `Resizing: External resizer is resizing volume ${name}`,
    'VolumeResizeSuccessful: Resize volume succeeded',
  ]);
  assert.deepEqual((await volumes.get(name!)).spec.capacity, { storage: '3Gi' });
  const { capacity, allocatedResources, conditions } = (await claims.get('data')).status;
  assert.deepEqual([capacity, allocatedResources, conditions], [{ storage: '3Gi' }, { storage: '3Gi' }, []]);
});

test('simulated nodes have volumes on every node, without a disk', async () => {
  const { client, claims, draft, volumeNames } = await setup(['n1', 'n2']);
  await using _client = client;
  await using provisioner = await startSimulatedProvisioner({ client, clock: client.clock });
  await provisioner.ready;
  await claims.create(draft('a', {}, 'n1'));
  await claims.create(draft('b', {}, 'n2'));
  assert.equal((await volumeNames()).length, 2);
});

test('the default class is made once in the life of a cluster', async () => {
  const api = new FakeApi();
  await using client = createClient(api);
  const classes = client.resource(resources.storageClasses);
  await client.resource(resources.namespaces).create({ metadata: { name: 'kube-system' } });
  await ensureDefaultStorageClass(client);
  const made = await classes.get('local-path');
  assert.equal(made.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'], 'true');
  assert.equal(made.volumeBindingMode, 'WaitForFirstConsumer');
  await classes.delete('local-path');
  await ensureDefaultStorageClass(client);
  assert.deepEqual((await classes.list()).items, [], 'the user did not want it');
});

test('a crash between the default class and the note of it does no harm', async () => {
  const api = new FakeApi();
  await using client = createClient(api);
  await client.resource(resources.namespaces).create({ metadata: { name: 'kube-system' } });
  api.intercept = (call) => {
    if (call.verb === 'patch') throw new Error('the server is gone');
  };
  await assert.rejects(ensureDefaultStorageClass(client), /the server is gone/);
  api.intercept = undefined;
  await ensureDefaultStorageClass(client);
  assert.equal((await client.resource(resources.storageClasses).list()).items.length, 1);
});
