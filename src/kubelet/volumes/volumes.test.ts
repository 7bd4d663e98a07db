import assert from 'node:assert/strict';
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ConfigMap, Pod, Secret, Volume } from '../../api/types/core-v1.ts';
import type { MountOperations } from '../host/host.ts';
import { writePayload } from './atomic-writer.ts';
import { prepareHostPath } from './host-path.ts';
import { checkPath, type Payload, type PayloadSources, VolumeError, volumePayload } from './payload.ts';
import { bindSubpath, readInside, SubpathError } from './subpath.ts';

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'kubelet-volumes-'));
  try {
    await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function files(entries: Readonly<Record<string, string>>, mode = 0o644): Payload {
  return new Map(Object.entries(entries).map(([path, text]) => [path, { data: Buffer.from(text), mode }]));
}

const text = (path: string): Promise<string> => readFile(path, 'utf8');

test('files stand behind links through ..data, and modes are as asked whatever the umask', async () => {
  await withDirectory(async (directory) => {
    const before = process.umask(0o077);
    try {
      writePayload(directory, files({ 'a.txt': 'one', 'sub/b.txt': 'two' }, 0o640), {}, 0);
    } finally {
      process.umask(before);
    }
    assert.equal(await text(join(directory, 'a.txt')), 'one');
    assert.equal(await text(join(directory, 'sub/b.txt')), 'two');
    assert.equal(await readlink(join(directory, 'a.txt')), '..data/a.txt');
    assert.equal(await readlink(join(directory, 'sub')), '..data/sub');
    assert.match(await readlink(join(directory, '..data')), /^\.\.1970_01_01_00_00_00\./);
    assert.equal((await lstat(join(directory, '..data/a.txt'))).mode & 0o777, 0o640);
  });
});

test('an update is one renamed link: old directories go, names of what is gone go, unchanged content is left alone', async () => {
  await withDirectory(async (directory) => {
    writePayload(directory, files({ a: '1', gone: 'x' }), {}, 0);
    const first = await readlink(join(directory, '..data'));
    assert.equal(writePayload(directory, files({ a: '1', gone: 'x' }), {}, 1), false);
    assert.equal(await readlink(join(directory, '..data')), first);
    assert.equal(writePayload(directory, files({ a: '2', b: '3' }), {}, 2), true);
    assert.notEqual(await readlink(join(directory, '..data')), first);
    assert.deepEqual((await readdir(directory)).filter((name) => !name.startsWith('..')).sort(), ['a', 'b']);
    assert.equal(
      (await readdir(directory)).filter((name) => name.startsWith('..') && name !== '..data').length,
      1,
    );
    assert.equal(await text(join(directory, 'a')), '2');
  });
});

test('what an interrupted update left behind is cleared away by the next', async () => {
  await withDirectory(async (directory) => {
    writePayload(directory, files({ a: '1' }), {}, 0);
    await mkdir(join(directory, '..2020_01_01_00_00_00.half'));
    await symlink('..2020_01_01_00_00_00.half', join(directory, '..data_tmp'));
    writePayload(directory, files({ a: '2' }), {}, 1);
    assert.equal((await readdir(directory)).filter((name) => name.startsWith('..')).length, 2);
    assert.equal(await text(join(directory, 'a')), '2');
  });
});

test('paths that would leave the volume or hide its links are refused', () => {
  for (const path of ['', '/etc/passwd', '../x', 'a/../../x', '..data', '..x/y', 'a//b'])
    assert.throws(() => checkPath(path), VolumeError, path);
  for (const path of ['a', 'a/b', '.hidden', 'a/..b']) checkPath(path);
});

const pod = (volume: Volume): Pod => ({
  metadata: {
    name: 'p',
    namespace: 'ns',
    uid: 'u',
    resourceVersion: '1',
    creationTimestamp: '',
    labels: { app: 'x' },
  },
  spec: {
    containers: [{ name: 'c', resources: { limits: { memory: '64Mi' } } }],
    volumes: [volume],
    serviceAccountName: 'sa',
  },
  status: {},
});

const map: ConfigMap = { metadata: meta('settings'), data: { a: '1', b: '2' }, binaryData: { c: 'AAE=' } };
const secret: Secret = { metadata: meta('keys'), data: { token: Buffer.from('t0p').toString('base64') } };

function meta(name: string) {
  return { name, namespace: 'ns', uid: name, resourceVersion: '1', creationTimestamp: '' };
}

const sources: PayloadSources = {
  references: {
    configMap: async (_namespace, name) => (name === 'settings' ? map : undefined),
    secret: async (_namespace, name) => (name === 'keys' ? secret : undefined),
  },
  tokens: { token: async (_pod, audience, seconds) => `token for ${audience} of ${seconds}s` },
  allocatable: {},
};

async function load(
  volume: Omit<Volume, 'name'>,
  change: (p: Pod) => void = () => {},
): Promise<Record<string, string>> {
  const subject = pod({ name: 'v', ...volume });
  change(subject);
  const payload = await volumePayload(
    subject,
    subject.spec.volumes![0]!,
    sources,
    new AbortController().signal,
  );
  return Object.fromEntries(
    [...payload!].map(([path, { data, mode }]) => [
      path,
      `${Buffer.from(data).toString('latin1')} ${mode.toString(8)}`,
    ]),
  );
}

test('ConfigMaps and Secrets become files, all of them or the items that are named', async () => {
  assert.deepEqual(await load({ configMap: { name: 'settings' } }), {
    a: '1 644',
    b: '2 644',
    c: '\u0000\u0001 644',
  });
  assert.deepEqual(await load({ secret: { secretName: 'keys', defaultMode: 0o400 } }), { token: 't0p 400' });
  assert.deepEqual(
    await load({ configMap: { name: 'settings', items: [{ key: 'a', path: 'x/y', mode: 0o600 }] } }),
    { 'x/y': '1 600' },
  );
});

test('what is missing is named, unless it is optional', async () => {
  await assert.rejects(load({ configMap: { name: 'absent' } }), /configmap "absent" not found/);
  await assert.rejects(load({ secret: { secretName: 'absent' } }), /secret "absent" not found/);
  await assert.rejects(
    load({ configMap: { name: 'settings', items: [{ key: 'zz', path: 'zz' }] } }),
    /references non-existent config key: zz/,
  );
  assert.deepEqual(await load({ configMap: { name: 'absent', optional: true } }), {});
  assert.deepEqual(
    await load({ configMap: { name: 'settings', optional: true, items: [{ key: 'zz', path: 'zz' }] } }),
    {},
  );
});

test('projections join their sources, and a token belongs to the one user of the pod', async () => {
  const projected: Volume['projected'] = {
    sources: [
      { serviceAccountToken: { path: 'token', audience: 'vault', expirationSeconds: 600 } },
      { configMap: { name: 'settings', items: [{ key: 'a', path: 'ca' }] } },
      { downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
      {
        downwardAPI: {
          items: [
            {
              path: 'limit',
              resourceFieldRef: { containerName: 'c', resource: 'limits.memory', divisor: '1Mi' },
            },
          ],
        },
      },
    ],
  };
  assert.deepEqual(await load({ projected }), {
    token: 'token for vault of 600s 644',
    ca: '1 644',
    labels: 'app="x" 644',
    limit: '64 644',
  });
  const restricted = await load({ projected }, (p) => {
    p.spec.securityContext = { runAsUser: 1000 };
  });
  assert.equal(restricted['token'], 'token for vault of 600s 600');
  await assert.rejects(
    load({ projected: { sources: [{ clusterTrustBundle: { path: 'x' } }] } }),
    /clusterTrustBundle projections are not supported/,
  );
});

test('a hostPath is checked against its type, and made only when the type says so', async () => {
  await withDirectory(async (directory) => {
    await writeFile(join(directory, 'file'), '');
    assert.equal(await prepareHostPath({ path: '/no/such/place' }), '/no/such/place');
    await assert.rejects(
      prepareHostPath({ path: join(directory, 'file'), type: 'Directory' }),
      /is not a directory/,
    );
    await assert.rejects(prepareHostPath({ path: join(directory, 'none'), type: 'File' }), /is not a file/);
    await assert.rejects(
      prepareHostPath({ path: '/dev/null', type: 'BlockDevice' }),
      /is not a block device/,
    );
    assert.equal(await prepareHostPath({ path: '/dev/null', type: 'CharDevice' }), '/dev/null');
    await prepareHostPath({ path: join(directory, 'made/deep'), type: 'DirectoryOrCreate' });
    assert.ok((await lstat(join(directory, 'made/deep'))).isDirectory());
    await prepareHostPath({ path: join(directory, 'made/file'), type: 'FileOrCreate' });
    assert.ok((await lstat(join(directory, 'made/file'))).isFile());
    await assert.rejects(prepareHostPath({ path: '/a/../b' }), /must not contain/);
  });
});

/** Remembers what would have been mounted, resolving descriptors to what they point at. */
function recordingMounts(): MountOperations & { readonly binds: [string, string][] } {
  const binds: [string, string][] = [];
  return {
    binds,
    mountTmpfs: async () => {},
    unmount: async () => {},
    remountBind: async () => {},
    bind: async (source, target) => void binds.push([await readlink(source), target]),
    mountsUnder: async () => [],
  };
}

test('a sub-path is made inside its volume and the opened place itself is mounted', async () => {
  await withDirectory(async (directory) => {
    const volume = join(directory, 'volume');
    await mkdir(volume, { mode: 0o777 });
    const mounts = recordingMounts();
    const target = join(directory, 'target/0');
    await bindSubpath(volume, 'a/b', target, { mounts, readOnly: false });
    assert.deepEqual(mounts.binds, [[join(volume, 'a/b'), target]]);
    assert.ok((await lstat(target)).isDirectory());
    await writeFile(join(volume, 'file'), 'x');
    await bindSubpath(volume, 'file', join(directory, 'target/1'), { mounts, readOnly: false });
    assert.ok((await lstat(join(directory, 'target/1'))).isFile());
  });
});

test('links inside a volume never lead a sub-path out of it', async () => {
  await withDirectory(async (directory) => {
    const volume = join(directory, 'volume');
    await mkdir(join(volume, 'real'), { recursive: true });
    await symlink('/etc', join(volume, 'absolute'));
    await symlink('../..', join(volume, 'relative'));
    await symlink('real', join(volume, 'inside'));
    const mounts = recordingMounts();
    const bind = (subPath: string): Promise<string> =>
      bindSubpath(volume, subPath, join(directory, 'target', subPath.replaceAll('/', '_')), {
        mounts,
        readOnly: false,
      });
    for (const path of ['absolute', 'absolute/ssl', 'relative', 'relative/x', '../volume', '/etc'])
      await assert.rejects(bind(path), SubpathError, path);
    await bind('inside');
    assert.equal(mounts.binds.length, 1);
    assert.equal(mounts.binds[0]![0], join(volume, 'real'));
    await assert.rejects(readInside(volume, 'absolute/passwd'), SubpathError);
    assert.equal(await readInside(volume, 'real/none'), undefined);
  });
});

test('a link swapped in while a sub-path is being made is not followed', async () => {
  await withDirectory(async (directory) => {
    const volume = join(directory, 'volume');
    const outside = join(directory, 'outside');
    await mkdir(volume);
    await mkdir(outside);
    const mounts = recordingMounts();
    let stop = false;
    // What a container would do to get out: exchange a directory and a link as fast as it can.
    const attack = (async () => {
      while (!stop) {
        await rm(join(volume, 'a'), { recursive: true, force: true }).catch(() => {});
        await symlink(outside, join(volume, 'a')).catch(() => {});
        await rm(join(volume, 'a'), { recursive: true, force: true }).catch(() => {});
        await mkdir(join(volume, 'a')).catch(() => {});
      }
    })();
    for (let round = 0; round < 150; round++)
      await bindSubpath(volume, 'a/b', join(directory, `target/${round}`), { mounts, readOnly: false }).catch(
        () => {},
      );
    stop = true;
    await attack;
    for (const [source] of mounts.binds) assert.ok(source.startsWith(volume), source);
    assert.deepEqual(await readdir(outside), []);
  });
});
