// Persistent volumes with real mounts: what pods see of them, and above all that nothing the agent does when pods come
// and go, or when it is restarted, touches what is in them.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, chown, lstat, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { PersistentVolume, Pod, PodSpec } from '../../api/types/core-v1.ts';
import { createClient, resources } from '../../client/index.ts';
import { FakeApi } from '../../client/testing/fake-api.ts';
import { silentLogger, systemClock } from '../../component/index.ts';
import { type HostOperations, nativeProgram, startHostOperations } from '../../host/index.ts';
import type { HostStorage } from '../host/host.ts';
import { createLinuxHost, type HostCgroups } from '../host/linux.ts';
import { podPaths } from '../paths.ts';
import { References } from '../references.ts';
import { containerDevices } from './container-mounts.ts';
import { VolumeManager } from './manager.ts';
import { removeMountPoints } from './mount-points.ts';
import { bindSubpath } from './subpath.ts';
import { TokenManager } from './tokens.ts';

function unavailable(): string | false {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root: it mounts';
  try {
    nativeProgram('bulkhead-host');
    return false;
  } catch {
    return 'needs build/native/bulkhead-host';
  }
}

const skip = unavailable();
const signal = AbortSignal.timeout(60_000);

interface Fixture extends AsyncDisposable {
  readonly directory: string;
  /** The volume's directory, outside of the agent's. */
  readonly data: string;
  readonly storage: HostStorage;
  readonly host: HostOperations;
  readonly warnings: string[];
  /** The node's. */
  readonly labels: Record<string, string>;
  manager: VolumeManager;
  /** Another agent on the same disk, which knows nothing of what the first one did. */
  restart(): Promise<void>;
  /** Claim and volume that name each other. */
  bind(
    name: string,
    spec: PersistentVolume['spec'],
    metadata?: object,
    annotations?: Record<string, string>,
  ): Promise<void>;
  /** Deletes a claim; its finalizers keep it. */
  deleteClaim(name: string): Promise<unknown>;
  pod(name: string, claim: string, spec?: Partial<PodSpec>, readOnly?: boolean): Pod;
  /** Mounts of the fixture, as in mountinfo. */
  mounts(): Promise<string[]>;
}

async function fixture(): Promise<Fixture> {
  const directory = await mkdtemp(join(tmpdir(), 'bh-persistent-'));
  const data = join(directory, 'disk');
  await mkdir(data);
  const host = await startHostOperations({
    socketPath: join(directory, 'host.sock'),
    lockPath: join(directory, 'lock'),
  });
  const machine = await createLinuxHost({
    operations: host,
    cgroups: {} as HostCgroups,
    rootDirectory: join(directory, 'kubelet'),
    podLogsDirectory: join(directory, 'logs'),
  });
  const storage = machine.storage!;
  const client = createClient(new FakeApi());
  const warnings: string[] = [];
  const labels: Record<string, string> = { zone: 'here' };
  const references = new References(client, () => {});
  const start = () =>
    new VolumeManager({
      clock: systemClock,
      logger: silentLogger,
      storage,
      references,
      tokens: new TokenManager(client, systemClock, () => 0),
      allocatable: {},
      nodeLabels: () => labels,
      warn: (_pod, reason, message) => void warnings.push(`${reason}: ${message}`),
    });
  const self: Fixture = {
    directory,
    data,
    storage,
    host,
    warnings,
    labels,
    manager: start(),
    async restart() {
      await self.manager[Symbol.asyncDispose]();
      self.manager = start();
    },
    async bind(name, spec, metadata = {}, annotations = {}) {
      const claims = client.resource(resources.persistentVolumeClaims, 'default');
      const volumeName = `pv-${name}`;
      const { uid } = (await claims.create({ metadata: { name, ...metadata }, spec: { volumeName } }))
        .metadata;
      await claims.patch(
        name,
        { type: 'merge', patch: { status: { phase: 'Bound' } } },
        { subresource: 'status' },
      );
      const claimRef = { namespace: 'default', name, uid, ...spec.claimRef };
      await client
        .resource(resources.persistentVolumes)
        .create({ metadata: { name: volumeName, annotations }, spec: { ...spec, claimRef } });
    },
    deleteClaim: (name) => client.resource(resources.persistentVolumeClaims, 'default').delete(name),
    pod(name, claimName, spec = {}, readOnly = false) {
      return {
        metadata: { name, namespace: 'default', uid: name, resourceVersion: '1', creationTimestamp: '' },
        spec: {
          containers: [{ name: 'c', volumeMounts: [{ name: 'v', mountPath: '/data' }] }],
          volumes: [{ name: 'v', persistentVolumeClaim: { claimName, ...(readOnly && { readOnly }) } }],
          ...spec,
        },
        status: {},
      };
    },
    async mounts() {
      const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
      return lines.filter((line) => line.includes(directory));
    },
    async [Symbol.asyncDispose]() {
      await self.manager[Symbol.asyncDispose]();
      await references[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
      await host.unmountBelow(directory);
      await host[Symbol.asyncDispose]();
      assert.deepEqual(await self.mounts(), []);
      await rm(directory, { recursive: true });
    },
  };
  return self;
}

const text = (path: string): Promise<string> => readFile(path, 'utf8');

test('what a pod writes into a local volume is there for the next, and stays when both are gone', {
  skip,
}, async () => {
  await using f = await fixture();
  await f.bind('data', { local: { path: f.data } });
  const first = f.pod('first', 'data');
  const path = (await f.manager.mount(first, signal)).get('v')!;
  assert.equal(path, join(f.storage.rootDirectory, 'pods/first/volumes/kubernetes.io~local-volume/pv-data'));
  await writeFile(join(path, 'kept'), 'by first');
  await mkdir(join(path, 'empty'));
  await writeFile(join(path, 'empty-file'), '');
  const second = f.pod('second', 'data');
  const other = (await f.manager.mount(second, signal)).get('v')!;
  assert.equal(await text(join(other, 'kept')), 'by first');
  await f.manager.unmount(first);
  assert.ok(!existsSync(path));
  assert.equal(await text(join(other, 'kept')), 'by first');
  await f.manager.unmount(second);
  assert.equal(await text(join(f.data, 'kept')), 'by first');
  assert.ok(existsSync(join(f.data, 'empty')) && existsSync(join(f.data, 'empty-file')));
  assert.deepEqual(await f.mounts(), []);
});

test('a restarted agent finds what is mounted, also when its path and its claim are going', {
  skip,
}, async () => {
  await using f = await fixture();
  const nodeAffinity = {
    required: {
      nodeSelectorTerms: [{ matchExpressions: [{ key: 'zone', operator: 'In' as const, values: ['here'] }] }],
    },
  };
  const finalizers = ['kubernetes.io/pvc-protection'];
  await f.bind('data', { local: { path: f.data }, nodeAffinity }, { finalizers });
  const pod = f.pod('p', 'data');
  const path = (await f.manager.mount(pod, signal)).get('v')!;
  await writeFile(join(path, 'kept'), 'x');
  await rename(f.data, `${f.data}-moved`);
  await f.deleteClaim('data');
  f.labels['zone'] = 'elsewhere';
  await f.restart();
  assert.equal((await f.manager.mount(pod, signal)).get('v'), path);
  assert.equal(await text(join(path, 'kept')), 'x');
  assert.equal((await f.mounts()).length, 1, 'mounted once');
  await f.manager.unmount(pod);
  assert.equal(await text(join(`${f.data}-moved`, 'kept')), 'x');
});

test('a pod that was deleted while the agent was away is cleared away up to its volumes', {
  skip,
}, async () => {
  await using f = await fixture();
  await f.bind('data', { local: { path: f.data } });
  const pod = f.pod('p', 'data');
  const path = (await f.manager.mount(pod, signal)).get('v')!;
  await mkdir(join(path, 'sub'));
  await writeFile(join(path, 'sub/kept'), 'x');
  await bindSubpath(path, 'sub', join(podPaths(f.storage, pod).subpaths, 'v/c/0'), {
    mounts: f.storage.mounts,
    readOnly: false,
  });
  await writeFile(join(path, 'empty'), '');
  await bindSubpath(path, 'empty', join(podPaths(f.storage, pod).subpaths, 'v/c/1'), {
    mounts: f.storage.mounts,
    readOnly: false,
  });
  await f.restart();
  assert.ok((await f.manager.podsOnDisk()).has('p'));
  await f.manager.removeOrphan('p');
  assert.deepEqual(await f.mounts(), []);
  assert.equal(await text(join(f.data, 'sub/kept')), 'x');
  assert.ok(existsSync(join(f.data, 'empty')), 'an empty file is data, too');
  await f.storage.removeTree(podPaths(f.storage, pod).pod);
});

test('nothing is removed while something is mounted, nor where content lies that should not be there', {
  skip,
}, async () => {
  await using f = await fixture();
  await f.bind('data', { local: { path: f.data } });
  const pod = f.pod('p', 'data');
  const path = (await f.manager.mount(pod, signal)).get('v')!;
  await writeFile(join(path, 'kept'), 'x');
  await writeFile(join(path, 'empty'), '');
  // As if unmounting had been forgotten: every way of removing must stop at the mount.
  await assert.rejects(f.storage.removeTree(podPaths(f.storage, pod).pod), /something is mounted/);
  await assert.rejects(removeMountPoints(join(path, '..'), 1), /EBUSY|ENOTEMPTY/);
  await assert.rejects(removeMountPoints(join(path, '../..'), 2), /EBUSY|ENOTEMPTY/);
  assert.ok(existsSync(join(f.data, 'kept')) && existsSync(join(f.data, 'empty')));
  await f.manager.unmount(pod);
  // Something else wrote where the volume is mounted: kept, and told.
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'stray'), 'x');
  await assert.rejects(f.manager.removeOrphan('p'), /ENOTEMPTY/);
  assert.equal(await text(join(path, 'stray')), 'x');
});

test('a volume is read-only for a pod that says so, and mounted with its options', { skip }, async () => {
  await using f = await fixture();
  await f.bind('data', { local: { path: f.data }, mountOptions: ['noexec', 'nosuid'] });
  const pod = f.pod('p', 'data', {}, true);
  const path = (await f.manager.mount(pod, signal)).get('v')!;
  await assert.rejects(writeFile(join(path, 'x'), ''), /EROFS/);
  const options = (await f.mounts())[0]!.split(' ')[5]!.split(',');
  for (const option of ['ro', 'noexec', 'nosuid']) assert.ok(options.includes(option), option);
  await f.bind('odd', { local: { path: f.data }, mountOptions: ['data=journal'] });
  await assert.rejects(
    f.manager.mount(f.pod('q', 'odd'), signal),
    /MountVolume\.SetUp failed for volume "pv-odd" : mount option "data=journal" cannot/,
  );
});

test('fsGroup changes the files for the first pod, and only warns when another has the volume', {
  skip,
}, async () => {
  await using f = await fixture();
  await writeFile(join(f.data, 'file'), 'x', { mode: 0o600 });
  await f.bind('data', { local: { path: f.data } });
  const group = (fsGroup: number, fsGroupChangePolicy?: 'OnRootMismatch') => ({
    securityContext: { fsGroup, ...(fsGroupChangePolicy && { fsGroupChangePolicy }) },
  });
  const first = f.pod('first', 'data', group(2000));
  await f.manager.mount(first, signal);
  const file = await stat(join(f.data, 'file'));
  assert.deepEqual([file.gid, file.mode & 0o777], [2000, 0o660]);
  assert.equal((await stat(f.data)).mode & 0o7777, 0o2775);
  await f.manager.mount(f.pod('second', 'data', group(3000)), signal);
  assert.equal((await stat(join(f.data, 'file'))).gid, 2000);
  assert.deepEqual(f.warnings, [
    'AlreadyMountedVolume: The requested fsGroup is 3000, but the volume pv-data has GID 2000. The volume may not be shareable.',
  ]);
  await f.manager.unmount(first);
  await f.manager.unmount(f.pod('second', 'data'));
  await chown(join(f.data, 'file'), 0, 0);
  await f.manager.mount(f.pod('third', 'data', group(2000, 'OnRootMismatch')), signal);
  assert.equal((await stat(join(f.data, 'file'))).gid, 0, 'the root has the group already');
});

test('a volume does not count as the pod’s own storage, but is measured by itself', { skip }, async () => {
  await using f = await fixture();
  await writeFile(join(f.data, 'big'), Buffer.alloc(4 << 20, 1));
  await f.bind('data', { local: { path: f.data } }, {}, { 'pv.beta.kubernetes.io/gid': '1234' });
  const pod = f.pod('p', 'data', {
    volumes: [
      { name: 'v', persistentVolumeClaim: { claimName: 'data' } },
      { name: 'e', emptyDir: {} },
    ],
  });
  const volumes = await f.manager.mount(pod, signal);
  await writeFile(join(volumes.get('e')!, 'small'), Buffer.alloc(64 << 10, 1));
  const { bytes } = await f.storage.diskUsage(podPaths(f.storage, pod).volumes);
  assert.ok(bytes >= 64 << 10 && bytes < 1 << 20, `${bytes} bytes`);
  assert.deepEqual(f.manager.claimsOf('p'), [
    { volume: 'v', namespace: 'default', claim: 'data', measured: volumes.get('v'), group: 1234 },
  ]);
  assert.deepEqual(f.manager.groupsOf('p'), [1234]);
});

test('what is wrong with a volume is told by its name', { skip }, async () => {
  await using f = await fixture();
  const file = join(f.directory, 'file');
  await writeFile(file, '');
  const here = { local: { path: f.data } };
  const elsewhere = {
    required: {
      nodeSelectorTerms: [
        { matchExpressions: [{ key: 'zone', operator: 'In' as const, values: ['there'] }] },
      ],
    },
  };
  const processing = (claim: string, why: string): string =>
    `Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: error processing PVC default/${claim}: ${why}`;
  const cases: readonly (readonly [string, PersistentVolume['spec'], string])[] = [
    [
      'gone',
      { local: { path: `${f.data}/gone` } },
      `MountVolume.NewMounter initialization failed for volume "pv-gone" : path "${f.data}/gone" does not exist`,
    ],
    [
      'file',
      { local: { path: file } },
      `MountVolume.NewMounter initialization failed for volume "pv-file" : path "${file}" is not a directory`,
    ],
    [
      'far',
      { ...here, nodeAffinity: elsewhere },
      'MountVolume.NodeAffinity check failed for volume "pv-far" : no matching NodeSelectorTerms',
    ],
    [
      'host-options',
      { hostPath: { path: f.data }, mountOptions: ['noexec'] },
      'MountVolume.MountOptionSupport check failed for volume "pv-host-options" : Mount options are not supported for this volume type',
    ],
    [
      'host-type',
      { hostPath: { path: file, type: 'Directory' } },
      `MountVolume.SetUp failed for volume "pv-host-type" : hostPath type check failed: ${file} is not a directory`,
    ],
    [
      'block',
      { ...here, volumeMode: 'Block' },
      processing('block', 'volume v has volumeMode Block, but is specified in volumeMounts'),
    ],
  ];
  for (const [name, spec, message] of cases) {
    await f.bind(name, spec);
    const failure = await f.manager.mount(f.pod(`pod-${name}`, name), signal).catch((error: Error) => error);
    assert.equal((failure as Error).message, message, name);
  }
  await f.bind('nfs', { nfs: { server: 'x', path: '/' } });
  await assert.rejects(
    f.manager.mount(f.pod('n', 'nfs'), signal),
    /PersistentVolume "pv-nfs" is of type nfs, which this node agent does not support \(supported: local, hostPath\)/,
  );
  await f.bind('stranger', { ...here, claimRef: { uid: 'another' } });
  await assert.rejects(
    f.manager.mount(f.pod('s', 'stranger'), signal),
    /pv\.Spec\.ClaimRef\.UID "another" does not point to claim\.UID/,
  );
  await f.bind('leaving', here, { finalizers: ['kubernetes.io/pvc-protection'] });
  await f.deleteClaim('leaving');
  await assert.rejects(f.manager.mount(f.pod('l', 'leaving'), signal), {
    message: processing('leaving', 'PVC is being deleted'),
  });
  assert.deepEqual(await f.mounts(), []);
});

test('a block device is passed on as a device, and anything else is not', { skip }, async () => {
  await using f = await fixture();
  const device = join(f.directory, 'device');
  await f.host.check(['mknod', device, 'b', '7', '250']);
  await chmod(device, 0o600);
  const asDevice: Partial<PodSpec> = {
    containers: [{ name: 'c', volumeDevices: [{ name: 'v', devicePath: '/dev/data' }] }],
  };
  await f.bind('disk', { local: { path: device }, volumeMode: 'Block' });
  const pod = f.pod('p', 'disk', asDevice);
  const volumes = await f.manager.mount(pod, signal);
  const [container] = pod.spec.containers;
  assert.deepEqual(containerDevices(pod, { container: container!, kind: 'container', index: 0 }, volumes), [
    { containerPath: '/dev/data', hostPath: device, permissions: 'mrw' },
  ]);
  await f.manager.unmount(pod);
  assert.ok((await lstat(device)).isBlockDevice());
  await f.bind('directory', { local: { path: f.data }, volumeMode: 'Block' });
  const failure = await f.manager.mount(f.pod('q', 'directory', asDevice), signal).catch((error) => error);
  assert.equal(failure.reason, 'FailedMapVolume');
  assert.match(
    failure.message,
    /MapVolume\.SetUpDevice failed for volume "pv-directory" : path .* block device/,
  );
});
