// Directories on a real disk: what is made, what is never touched, and what a crash may leave.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { volumeAnnotations as keys } from '../api/index.ts';
import type { PersistentVolumeClaim } from '../api/types/core-v1.ts';
import { createClient, resources } from '../client/index.ts';
import { eventually } from '../client/testing/eventually.ts';
import { FakeApi } from '../client/testing/fake-api.ts';
import { type HostOperations, nativeProgram, startHostOperations } from '../host/index.ts';
import { openVolumeDirectories } from './directories.ts';
import { startLocalPathProvisioner } from './local-path.ts';
import { directoryNameFor, LOCAL_PATH_PROVISIONER } from './names.ts';

function built(): boolean {
  try {
    nativeProgram('bulkhead-host');
    return true;
  } catch {
    return false;
  }
}

const skip =
  process.platform !== 'linux' ? 'needs Linux' : built() ? false : 'needs build/native/bulkhead-host';
let scratch: string;
let host: HostOperations;
before(async () => {
  if (skip) return;
  scratch = await mkdtemp(join(tmpdir(), 'bh-volumes-'));
  host = await startHostOperations({
    socketPath: join(scratch, 'host.sock'),
    lockPath: join(scratch, 'lock'),
  });
});
after(async () => {
  if (skip) return;
  await host[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true });
});

const claimOf = (uid: string, name = 'data', namespace = 'default'): PersistentVolumeClaim =>
  ({ metadata: { uid, name, namespace } }) as PersistentVolumeClaim;

async function fresh(name: string) {
  const root = join(scratch, name);
  return { root, directories: await openVolumeDirectories(root, (path) => host.removeTree(path)) };
}

test('whatever a claim is called, its directory is one plain name', () => {
  for (const [name, namespace] of [
    ['../../etc', 'default'],
    ['a/b', '..'],
    ['x\0y', 'n'],
    ['x'.repeat(253), 'n'.repeat(63)],
    ['..', '.'],
    ['ünï', 'n'],
  ] as const) {
    const directory = directoryNameFor(claimOf('6a0b0d52-3c38-4d4a-8df5-1f2f6b1a9f10', name, namespace));
    assert.match(directory, /^pvc-6a0b0d52-3c38-4d4a-8df5-1f2f6b1a9f10_[A-Za-z0-9._-]+$/);
    assert.ok(directory.length <= 255);
  }
  for (const uid of ['../x', 'a/b', '', 'a b']) assert.throws(() => directoryNameFor(claimOf(uid)), /uid/);
});

test('a directory is made for everybody’s use, twice without harm, and deleted with all in it', {
  skip,
}, async () => {
  const { root, directories } = await fresh('plain');
  const before = process.umask(0o077);
  const path = await directories.create(claimOf('u1')).finally(() => process.umask(before));
  assert.equal(path, join(root, 'pvc-u1_default_data'));
  assert.equal((await stat(path)).mode & 0o7777, 0o777);
  assert.equal((await stat(root)).mode & 0o077, 0o011);
  await writeFile(join(path, 'file'), 'kept');
  assert.equal(await directories.create(claimOf('u1')), path);
  assert.equal(await readFile(join(path, 'file'), 'utf8'), 'kept');
  assert.deepEqual(await directories.list(), [{ path, volumeName: 'pvc-u1' }]);
  await directories.remove('pvc-u1', path);
  await directories.remove('pvc-u1', path);
  assert.deepEqual(await readdir(root), []);
});

test('a link in a directory’s place is neither used nor followed', { skip }, async () => {
  const { root, directories } = await fresh('links');
  const precious = join(scratch, 'precious');
  await mkdir(precious);
  await writeFile(join(precious, 'file'), 'x');
  const link = join(root, 'pvc-u1_default_data');
  await symlink(precious, link);
  await assert.rejects(
    directories.create(claimOf('u1')),
    /is a symbolic link, not a directory; it is left alone/,
  );
  await assert.rejects(directories.remove('pvc-u1', link), /is a symbolic link/);
  // Links inside go, what they point to stays.
  const path = await directories.create(claimOf('u2'));
  await symlink(precious, join(path, 'out'));
  await directories.remove('pvc-u2', path);
  assert.equal(existsSync(path), false);
  assert.deepEqual(await readdir(precious), ['file']);
});

test('nothing is done where the parent has been replaced by a link', { skip }, async () => {
  const { root, directories } = await fresh('parent');
  const path = await directories.create(claimOf('u1'));
  await rename(root, `${root}-moved`);
  await symlink(`${root}-moved`, root);
  await assert.rejects(directories.create(claimOf('u2')), /has become a symbolic link to/);
  await assert.rejects(directories.remove('pvc-u1', path), /has become a symbolic link to/);
  assert.deepEqual(await readdir(`${root}-moved`), ['pvc-u1_default_data']);
});

test('a volume that names any other path is not deleted', { skip }, async () => {
  const { root, directories } = await fresh('paths');
  const path = await directories.create(claimOf('u1'));
  for (const wrong of [
    root,
    `${root}/`,
    `${root}/..`,
    '/etc',
    `${path}/..`,
    `${path}/sub`,
    `${root}/../paths/pvc-u1_default_data`,
    `${root}/pvc-u2_default_data`,
  ])
    await assert.rejects(directories.remove('pvc-u1', wrong), /is not the directory of pvc-u1/, wrong);
  await assert.rejects(directories.remove('', path), /is not the directory of/);
  assert.deepEqual(await readdir(root), ['pvc-u1_default_data']);
});

test('a deep and wide tree goes without holding up the event loop', { skip }, async () => {
  const { directories } = await fresh('huge');
  const path = await directories.create(claimOf('u1'));
  // Deeper than any path can name.
  const script = `cd "$1" && i=0; while [ $i -lt 1500 ]; do mkdir d && cd d; i=$((i+1)); done; cd "$1"; seq 1 5000 | xargs touch`;
  await host.check(['sh', '-c', script, 'sh', path]);
  // By the processor time of this thread: that others have the processor is not held against it.
  const busy = (): number => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let longest = 0;
  let last = busy();
  const beat = setInterval(() => {
    const now = busy();
    longest = Math.max(longest, now - last);
    last = now;
  }, 1);
  await directories.remove('pvc-u1', path).finally(() => clearInterval(beat));
  assert.equal(existsSync(path), false);
  assert.ok(longest < 100, `the event loop stood still for ${longest} ms`);
});

// ---- the whole provisioner on a disk

async function cluster(root: string) {
  const api = new FakeApi();
  const client = createClient(api);
  const claims = client.resource(resources.persistentVolumeClaims, 'default');
  const volumes = client.resource(resources.persistentVolumes);
  await client
    .resource(resources.nodes)
    .create({ metadata: { name: 'n1', labels: { 'kubernetes.io/hostname': 'n1' } } });
  await client.resource(resources.storageClasses).create({
    metadata: { name: 'local-path' },
    provisioner: LOCAL_PATH_PROVISIONER,
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'WaitForFirstConsumer',
  });
  const claim = (name: string) =>
    claims.create({
      metadata: {
        name,
        annotations: { [keys.storageProvisioner]: LOCAL_PATH_PROVISIONER, [keys.selectedNode]: 'n1' },
      },
      spec: {
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '1Gi' } },
        storageClassName: 'local-path',
      },
    });
  const start = async () => {
    const running = await startLocalPathProvisioner({ client, nodeName: 'n1', directory: root, host });
    await running.ready;
    return running;
  };
  const events = async () =>
    (await client.resource(resources.events).list()).items.map((e) => `${e.reason}: ${e.message}`);
  return { api, client, claims, volumes, claim, start, events };
}

test('a provisioner that died between directory and volume finishes its work', { skip }, async () => {
  const root = join(scratch, 'crash');
  const { api, client, volumes, claim, start } = await cluster(root);
  await using _client = client;
  api.intercept = (call) => {
    if (call.verb === 'create' && call.resource.resource === 'persistentvolumes')
      throw new Error('the server is gone');
  };
  const { uid } = (await claim('data')).metadata;
  const first = await start();
  const path = join(root, `pvc-${uid}_default_data`);
  await eventually('the directory is there', () => existsSync(path));
  await first[Symbol.asyncDispose]();
  assert.deepEqual((await volumes.list()).items, []);
  api.intercept = undefined;
  await using _second = await start();
  const volume = await eventually('the volume is there', async () => (await volumes.list()).items[0]);
  assert.equal(volume.spec.local?.path, path);
});

test('a provisioner that died while it deleted finishes its work', { skip }, async () => {
  const root = join(scratch, 'deleting');
  const { api, client, claims, volumes, claim, start } = await cluster(root);
  await using _client = client;
  const { uid } = (await claim('data')).metadata;
  const first = await start();
  const made = await eventually('the volume is there', async () => (await volumes.list()).items[0]);
  await writeFile(join(made.spec.local!.path, 'file'), 'x');
  await claims.delete('data');
  // The directory goes, but the server does not hear of it.
  api.intercept = (call) => {
    if (call.verb === 'delete') throw new Error('the server is gone');
  };
  await volumes.updateStatus({ ...(await volumes.get(`pvc-${uid}`)), status: { phase: 'Released' } });
  await eventually('the directory is gone', async () => (await readdir(root)).length === 0);
  await first[Symbol.asyncDispose]();
  assert.equal((await volumes.list()).items.length, 1);
  api.intercept = undefined;
  await using _second = await start();
  await eventually('the volume is gone', async () => (await volumes.list()).items.length === 0);
});

test('a claim that goes before its volume could be made leaves nothing behind', { skip }, async () => {
  const root = join(scratch, 'gone');
  const { api, client, claims, claim, start } = await cluster(root);
  await using _client = client;
  api.intercept = (call) => {
    if (call.verb === 'create' && call.resource.resource === 'persistentvolumes') throw new Error('not now');
  };
  await using _running = await start();
  await claim('data');
  await eventually('the directory is there', async () => (await readdir(root)).length === 1);
  await claims.delete('data');
  await eventually('the directory is gone', async () => (await readdir(root)).length === 0);
});

test('directories without a volume are reported and left alone', { skip }, async () => {
  const root = join(scratch, 'leftovers');
  await mkdir(join(root, 'pvc-unknown_default_old'), { recursive: true });
  await mkdir(join(root, 'lost+found'));
  const { client, start, events } = await cluster(root);
  await using _client = client;
  await using _running = await start();
  const said = await eventually('the event', async () =>
    (await events()).find((e) => e.startsWith('Leftover')),
  );
  assert.match(said, /are left alone: .*\/pvc-unknown_default_old; delete those/);
  assert.deepEqual((await readdir(root)).toSorted(), ['lost+found', 'pvc-unknown_default_old']);
});

test('a directory that cannot be made is told and tried again', { skip }, async () => {
  const root = join(scratch, 'blocked');
  const { client, volumes, claim, start, events } = await cluster(root);
  await using _client = client;
  await using _running = await start();
  await rename(root, `${root}-away`);
  await claim('data');
  const said = await eventually('the event', async () =>
    (await events()).find((e) => e.startsWith('ProvisioningFailed')),
  );
  assert.match(said, /failed to provision volume with StorageClass "local-path": ENOENT/);
  await rename(`${root}-away`, root);
  await eventually('the volume', async () => (await volumes.list()).items.length === 1);
});
