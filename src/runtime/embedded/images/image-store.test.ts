import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type ImageStore, importImages, importRootfs, openImageStore } from './index.ts';
import { type TestEntry, type TestImage, tar, testImage } from './testing/archives.ts';
import { startTestRegistry } from './testing/registry.ts';

const layerProgram = fileURLToPath(new URL('../../../../build/native/bulkhead-layer', import.meta.url));
const isRoot = process.getuid?.() === 0;

describe('image store', () => {
  let directory: string;
  let store: ImageStore;
  const open = (): Promise<ImageStore> =>
    openImageStore({ directory: join(directory, 'images'), layerProgram, retryMs: 1, stallMs: 300 });
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bulkhead-images-'));
    store = await open();
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  const reopen = async (): Promise<void> => {
    await store[Symbol.asyncDispose]();
    store = await open();
  };
  /** Everything that is on disk below the store, for "nothing is left". */
  const onDisk = async (part: string): Promise<string[]> => readdir(join(directory, 'images', part));

  const base = tar([
    { path: 'etc/', flag: '5', mode: 0o755 },
    { path: 'etc/passwd', content: 'root:x:0:0::/:/bin/sh\n' },
    { path: 'bin/tool', content: 'x'.repeat(300_000), mode: 0o4755, uid: 12, gid: 34 },
    { path: 'bin/link', flag: '2', link: 'tool' },
    { path: 'bin/hard', flag: '1', link: 'bin/tool' },
  ]);
  const upper = tar([{ path: 'etc/.wh.passwd' }, { path: 'srv/', flag: '5' }, { path: 'srv/.wh..wh..opq' }]);
  const simple = (): TestImage =>
    testImage([base, upper], { config: { Cmd: ['/bin/tool'], User: '12:34', Env: ['A=b'] } });

  describe('pulls', () => {
    it('an image with all compressions, verifies it, keeps it over a restart and gives it to containers', async () => {
      await using registry = await startTestRegistry();
      for (const compression of ['gzip', 'zstd', 'none'] as const) {
        const image = testImage([base, upper], { config: { User: '12:34' }, compression });
        registry.push('team/app', compression, image);
        const reference = `${registry.host}/team/app:${compression}`;
        const id = await store.pullImage(reference);
        assert.equal(id, image.id);
        await reopen();
        const status = await store.imageStatus(reference);
        assert.equal(status?.uid, 12);
        assert.deepEqual(
          status?.repoDigests.includes(`${registry.host}/team/app@${image.manifestDigest}`),
          true,
        );
      }
      const { layers, repoDigest } = await store.layers(`${registry.host}/team/app:gzip`);
      assert.match(repoDigest ?? '', /\/team\/app@sha256:/);
      assert.equal(layers.length, 2);
      const tool = await stat(join(layers[0]!, 'bin/tool'));
      assert.equal(tool.mode & 0o7777, 0o4755);
      assert.equal(tool.nlink, 2);
      assert.equal(tool.mtimeMs, 1_700_000_000_000);
      assert.equal(await readlink(join(layers[0]!, 'bin/link')), 'tool');
      if (!isRoot) return console.log('not root: owners and whiteouts are not checked');
      assert.deepEqual([tool.uid, tool.gid], [12, 34]);
      const hidden = await lstat(join(layers[1]!, 'etc/passwd'));
      assert.ok(hidden.isCharacterDevice() && hidden.rdev === 0);
    });

    it('gives the space back when the disk is full', { skip: isRoot ? false : 'needs root' }, async () => {
      await store[Symbol.asyncDispose]();
      const images = join(directory, 'images');
      assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', images]).status, 0);
      try {
        await using registry = await startTestRegistry();
        registry.push('team/app', 'v1', testImage([base], { compression: 'none' }));
        await using small = await open();
        await assert.rejects(small.pullImage(`${registry.host}/team/app:v1`), /no space left for images/);
        assert.deepEqual(await onDisk('content/ingest'), []);
      } finally {
        assert.equal(spawnSync('umount', [images]).status, 0);
        store = await open();
      }
    });

    it('by digest, by tag and digest, and through an index the part for this machine', async () => {
      await using registry = await startTestRegistry();
      const image = simple();
      registry.push('app', 'v1', image);
      const { os, architecture } = {
        os: 'linux',
        architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      };
      const other = testImage([tar([{ path: 'other', content: 'o' }])]);
      registry.push('app', 'other', other);
      const index = {
        schemaVersion: 2,
        manifests: [
          {
            mediaType: other.mediaType,
            digest: other.manifestDigest,
            size: other.manifest.length,
            platform: { os, architecture: 's390x' },
          },
          {
            mediaType: image.mediaType,
            digest: image.manifestDigest,
            size: image.manifest.length,
            platform: { os, architecture },
          },
        ],
      };
      registry.pushManifest(
        'app',
        'multi',
        Buffer.from(JSON.stringify(index)),
        'application/vnd.oci.image.index.v1+json',
      );
      assert.equal(await store.pullImage(`${registry.host}/app:multi`), image.id);
      assert.equal(await store.pullImage(`${registry.host}/app@${image.manifestDigest}`), image.id);
      assert.equal(await store.pullImage(`${registry.host}/app:v1@${image.manifestDigest}`), image.id);
      assert.equal((await store.listImages()).length, 1);
      index.manifests.pop();
      registry.pushManifest(
        'app',
        'foreign',
        Buffer.from(JSON.stringify(index)),
        'application/vnd.oci.image.index.v1+json',
      );
      await assert.rejects(store.pullImage(`${registry.host}/app:foreign`), {
        code: 'NotFound',
        message: /no match for platform/,
      });
    });

    it('with basic credentials, with tokens and with an identity token, and says when it may not', async () => {
      const credentials = { username: 'u', password: 'p' };
      for (const authentication of [
        { type: 'basic', ...credentials },
        { type: 'token', ...credentials },
        { type: 'token', identityToken: 'idt', username: 'x', password: 'y' },
      ] as const) {
        await using registry = await startTestRegistry(authentication);
        registry.push('private/app', 'v1', simple());
        const reference = `${registry.host}/private/app:v1`;
        const good = 'identityToken' in authentication ? { identityToken: 'idt' } : credentials;
        await assert.rejects(store.pullImage(reference), {
          code: 'Unauthenticated',
          message: /pull access denied/,
        });
        await assert.rejects(
          store.pullImage(reference, { credentials: { username: 'u', password: 'wrong' } }),
          {
            code: 'Unauthenticated',
          },
        );
        await store.pullImage(reference, { credentials: good });
        await store.removeImage(reference);
      }
    });

    it('goes on where a transfer broke off, with and without ranges, also after a restart', async () => {
      for (const ranges of [true, false]) {
        await using registry = await startTestRegistry();
        registry.push('app', 'v1', testImage([base], { compression: 'none' }));
        registry.misbehaviour.ranges = ranges;
        registry.misbehaviour.cut = { after: 100_000, times: 2 };
        await store.pullImage(`${registry.host}/app:v1`);
        const asked = registry.requests.filter((r) => r.url.includes('/blobs/') && r.headers.range).length;
        assert.ok(asked > 0, 'a range was asked for');
        await store.removeImage(`${registry.host}/app:v1`);

        registry.misbehaviour.cut = { after: 100_000, times: 1000 };
        const image = testImage([tar([{ path: 'big', content: 'y'.repeat(2_000_000) }])], {
          compression: 'none',
        });
        registry.push('app', 'v2', image);
        await assert.rejects(store.pullImage(`${registry.host}/app:v2`));
        await reopen();
        registry.misbehaviour.cut = { after: 0, times: 0 };
        registry.requests.length = 0;
        await store.pullImage(`${registry.host}/app:v2`);
        if (ranges)
          assert.match(
            registry.requests.findLast((r) => r.url.includes('/blobs/'))?.headers.range ?? '',
            /^bytes=[1-9]/,
          );
        await store.removeImage(`${registry.host}/app:v2`);
      }
    });

    it('outlasts errors that pass, and gives up on a registry that stalls, lies or is not there', async () => {
      await using registry = await startTestRegistry();
      registry.push('app', 'v1', simple());
      const reference = `${registry.host}/app:v1`;
      registry.misbehaviour.failures = { count: 2, status: 503 };
      await store.pullImage(reference);
      await store.removeImage(reference);

      registry.misbehaviour.corrupt = (bytes) =>
        Buffer.concat([Buffer.from([bytes[0]! ^ 1]), bytes.subarray(1)]);
      await assert.rejects(store.pullImage(reference), /what came for sha256:\w+ is not it/);
      registry.misbehaviour.corrupt = (bytes) => Buffer.concat([bytes, bytes]);
      await assert.rejects(store.pullImage(reference), /more came for/);
      delete registry.misbehaviour.corrupt;
      registry.misbehaviour.stall = true;
      await assert.rejects(store.pullImage(reference), /sent nothing for/);
      delete registry.misbehaviour.stall;
      assert.deepEqual(await store.listImages(), []);
      await assert.rejects(store.pullImage(`${registry.host}/nothing:v1`), { code: 'NotFound' });
      await assert.rejects(store.pullImage('127.0.0.1:1/x:y'), { code: 'Unavailable' });
      await store.pullImage(reference);
    });

    it('does not carry credentials to the host of a redirect', async () => {
      await using elsewhere = await startTestRegistry();
      await using registry = await startTestRegistry({ type: 'basic', username: 'u', password: 'p' });
      const image = simple();
      registry.push('app', 'v1', image);
      elsewhere.push('app', 'v1', image);
      registry.misbehaviour.redirectTo = `http://${elsewhere.host}`;
      await store.pullImage(`${registry.host}/app:v1`, { credentials: { username: 'u', password: 'p' } });
      assert.ok(elsewhere.requests.length > 0);
      for (const { headers } of elsewhere.requests) assert.equal(headers.authorization, undefined);
    });

    it('shares layers and concurrent transfers, and takes only what nobody else uses away', async () => {
      await using registry = await startTestRegistry();
      registry.push('a', 'v1', testImage([base]));
      registry.push('b', 'v1', testImage([base, upper]));
      await Promise.all([
        store.pullImage(`${registry.host}/a:v1`),
        store.pullImage(`${registry.host}/a:v1`),
        store.pullImage(`${registry.host}/b:v1`),
      ]);
      const blobs = registry.requests.filter((r) => r.url.includes('/blobs/'));
      assert.equal(blobs.length, 4, 'two configurations and two layers, each once');
      assert.equal((await onDisk('layers')).length, 2);
      await store.removeImage(`${registry.host}/b:v1`);
      assert.equal((await onDisk('layers')).length, 1);
      await store.removeImage(`${registry.host}/a:v1`);
      assert.deepEqual(
        [await onDisk('layers'), await onDisk('content/blobs/sha256'), await onDisk('unpacking')],
        [[], [], []],
      );
    });
  });

  it('keeps what a container stands on until it lets go, over a restart', async () => {
    await using registry = await startTestRegistry();
    registry.push('app', 'v1', simple());
    const reference = `${registry.host}/app:v1`;
    const id = await store.pullImage(reference);
    await store.hold(id, 'container-1');
    await store.removeImage(reference);
    await reopen();
    assert.equal(await store.imageStatus(reference), undefined);
    assert.equal((await store.layers(id)).layers.length, 2);
    await store.release('container-1');
    assert.deepEqual(await onDisk('layers'), []);
    await assert.rejects(store.hold(id, 'container-2'), { code: 'NotFound' });
  });

  it('forgets an image whose layers somebody deleted, and pulls it again', async () => {
    await using registry = await startTestRegistry();
    registry.push('app', 'v1', simple());
    await store.pullImage(`${registry.host}/app:v1`);
    const [layer] = await onDisk('layers');
    await rm(join(directory, 'images', 'layers', layer!), { recursive: true });
    await reopen();
    assert.deepEqual(await store.listImages(), []);
    await store.pullImage(`${registry.host}/app:v1`);
  });

  describe('imports', () => {
    const options = (): { workDirectory: string; layerProgram: string } => ({
      workDirectory: join(directory, 'work'),
      layerProgram,
    });

    async function layout(image: TestImage, name?: string): Promise<string> {
      const root = join(directory, 'layout');
      await mkdir(join(root, 'blobs/sha256'), { recursive: true });
      await writeFile(join(root, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
      for (const [digest, bytes] of image.blobs)
        await writeFile(join(root, 'blobs', ...digest.split(':')), bytes);
      const annotations = name === undefined ? {} : { 'org.opencontainers.image.ref.name': name };
      const manifests = [
        {
          mediaType: image.mediaType,
          digest: image.manifestDigest,
          size: image.manifest.length,
          annotations,
        },
      ];
      await writeFile(join(root, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
      return root;
    }

    it('an OCI layout, as a directory and as an archive', async () => {
      const root = await layout(simple(), 'example.org/app:v1');
      const [imported] = await importImages(store, root, options());
      assert.deepEqual(imported?.tags, ['example.org/app:v1']);
      const archive = join(directory, 'layout.tar');
      assert.equal(spawnSync('tar', ['-C', root, '-cf', archive, '.']).status, 0);
      const [again] = await importImages(store, archive, { ...options(), name: 'mine:v2' });
      assert.equal(again?.id, imported?.id);
      assert.ok(await store.imageStatus('mine:v2'));
      assert.deepEqual(await readdir(join(directory, 'work')), []);
    });

    it('a docker archive', async () => {
      const image = simple();
      const config = [...image.blobs.values()].find((b) => b.includes('"diff_ids"'))!;
      const archive = join(directory, 'docker.tar');
      const manifest = [
        { Config: 'config.json', RepoTags: ['web:1'], Layers: ['a/layer.tar', 'b/layer.tar'] },
      ];
      await writeFile(
        archive,
        tar([
          { path: 'manifest.json', content: JSON.stringify(manifest) },
          { path: 'config.json', content: config },
          { path: 'a/layer.tar', content: base },
          { path: 'b/layer.tar', content: upper },
        ]),
      );
      const [imported] = await importImages(store, archive, options());
      assert.deepEqual(imported, { id: image.id, tags: ['docker.io/library/web:1'] });
    });

    it('a root file system, from a directory and from an archive', async () => {
      const root = join(directory, 'root');
      await mkdir(join(root, 'bin'), { recursive: true });
      await writeFile(join(root, 'bin/hello'), '#!/bin/sh\n', { mode: 0o755 });
      const config = { Cmd: ['/bin/hello'] };
      const { id } = await importRootfs(store, root, { ...options(), name: 'hello:1', config });
      const { layers, config: kept } = await store.layers(id);
      assert.deepEqual(kept, config);
      assert.equal((await stat(join(layers[0]!, 'bin/hello'))).mode & 0o777, 0o755);
      const archive = join(directory, 'root.tar');
      await writeFile(archive, base);
      await importRootfs(store, archive, { ...options(), name: 'hello:2', config });
      assert.equal((await store.listImages()).length, 2);
    });

    it('refuses what is none, and what points out of itself', async () => {
      const root = await layout(simple(), 'x:y');
      await cp('/etc/hostname', join(root, 'blobs/stolen'));
      await assert.rejects(importImages(store, '/etc/hostname', options()), /cannot import/);
      await assert.rejects(importImages(store, join(directory, 'nothing'), options()), /no such file/);
      await assert.rejects(importImages(store, directory, options()), /neither an OCI layout/);
      const archive = join(directory, 'evil.tar');
      const manifest = [{ Config: 'config.json', RepoTags: ['x:1'], Layers: [] }];
      const evil: TestEntry[] = [
        { path: 'manifest.json', content: JSON.stringify(manifest) },
        { path: 'config.json', flag: '2', link: '/etc/hostname' },
      ];
      await writeFile(archive, tar(evil));
      await assert.rejects(importImages(store, archive, options()), /leads out of it/);
      assert.deepEqual(await store.listImages(), []);
    });
  });

  it('survives being killed at any moment of a pull, and finishes it afterwards', async () => {
    await using registry = await startTestRegistry();
    const image = testImage([base, upper, tar([{ path: 'z', content: 'z'.repeat(1_000_000) }])]);
    registry.push('app', 'v1', image);
    const reference = `${registry.host}/app:v1`;
    await store[Symbol.asyncDispose]();
    const script = `
      import { openImageStore } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)};
      const store = await openImageStore(${JSON.stringify({ directory: join(directory, 'images'), layerProgram })});
      process.stdout.write('.');
      const { spawn } = await import('node:child_process');
      spawn('sleep', [process.argv[1]], { stdio: 'ignore' }).on('exit', () => process.kill(process.pid, 'SIGKILL'));
      await store.pullImage(${JSON.stringify(reference)});
      await new Promise(() => setInterval(() => {}, 1000));
    `;
    const { spawn } = await import('node:child_process');
    for (let i = 0; i < 8; i++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, String(i * 0.008)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await new Promise((resolve) => child.on('exit', resolve));
      store = await open();
      const listed = await store.listImages();
      for (const { id } of listed) {
        for (const layer of (await store.layers(id)).layers) assert.ok((await stat(layer)).isDirectory());
      }
      if (listed.length > 0) await store.removeImage(reference);
      assert.deepEqual(await onDisk('unpacking'), []);
      await store[Symbol.asyncDispose]();
    }
    store = await open();
    assert.equal(await store.pullImage(reference), image.id);
    const text = await readFile(join((await store.layers(image.id)).layers[2]!, 'z'), 'utf8');
    assert.equal(text.length, 1_000_000);
  });
});
