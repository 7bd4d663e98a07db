// Pulling from a real registry: Debian's docker-registry on a loopback port, open and with a password.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { nativeProgram } from '../../src/host/index.ts';
import { openImageStore } from '../../src/runtime/embedded/images/index.ts';
import { type TestImage, tar, testImage } from '../../src/runtime/embedded/images/testing/archives.ts';
import { eventually } from './support/eventually.ts';

/** bcrypt of the password "sesame". */
const HTPASSWD = 'ali:$2b$05$Hbl.eJCGNikopSMrbAJYduYG1g1f6Z5qHBakQgIN.r/dRwWxBeQLi\n';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

interface Registry extends AsyncDisposable {
  readonly host: string;
  push(repository: string, tag: string, image: TestImage): Promise<void>;
}

async function startRegistry(directory: string, password: boolean): Promise<Registry> {
  const host = `127.0.0.1:${await freePort()}`;
  const htpasswd = join(directory, 'htpasswd');
  await writeFile(htpasswd, HTPASSWD);
  const auth = password ? `auth: {htpasswd: {realm: test, path: ${htpasswd}}}\n` : '';
  await writeFile(
    join(directory, 'registry.yml'),
    `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n${auth}` +
      `storage: {filesystem: {rootdirectory: ${join(directory, 'blobs')}}}\nhttp: {addr: "${host}"}\n`,
  );
  const child = spawn('docker-registry', ['serve', join(directory, 'registry.yml')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const headers: Record<string, string> = password
    ? { authorization: `Basic ${Buffer.from('ali:sesame').toString('base64')}` }
    : {};
  await eventually('the registry answers', async () => {
    const response = await fetch(`http://${host}/v2/`, { headers });
    await response.arrayBuffer();
    assert.equal(response.status, 200);
  });
  return {
    host,
    async push(repository, tag, image) {
      for (const [digest, bytes] of image.blobs) {
        if (digest === image.manifestDigest) continue;
        const begun = await fetch(`http://${host}/v2/${repository}/blobs/uploads/`, {
          method: 'POST',
          headers,
        });
        assert.equal(begun.status, 202);
        const location = new URL(begun.headers.get('location')!, `http://${host}`);
        location.searchParams.set('digest', digest);
        const put = await fetch(location, {
          method: 'PUT',
          headers: { ...headers, 'content-type': 'application/octet-stream' },
          body: new Uint8Array(bytes),
        });
        assert.equal(put.status, 201, await put.text());
      }
      const put = await fetch(`http://${host}/v2/${repository}/manifests/${tag}`, {
        method: 'PUT',
        headers: { ...headers, 'content-type': image.mediaType },
        body: new Uint8Array(image.manifest),
      });
      assert.equal(put.status, 201, await put.text());
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, 'exit');
    },
  };
}

describe('a real registry', () => {
  for (const password of [false, true]) {
    it(`serves an image by tag and digest${password ? ' to whoever knows the password' : ''}, and layers are shared`, async () => {
      const directory = await mkdtemp(join(tmpdir(), 'bh-e2e-registry-'));
      try {
        await using registry = await startRegistry(directory, password);
        const base = tar([{ path: 'etc/os-release', content: 'ID=test\n' }]);
        const image = testImage([base, tar([{ path: 'app', content: 'x'.repeat(1_000_000) }])], {
          config: { Cmd: ['/app'] },
        });
        const sibling = testImage([base], { config: { Cmd: ['/sibling'] } });
        await registry.push('team/app', 'v1', image);
        await registry.push('team/sibling', 'v1', sibling);
        await using store = await openImageStore({
          directory: join(directory, 'store'),
          layerProgram: nativeProgram('bulkhead-layer'),
        });
        const credentials = password ? { credentials: { username: 'ali', password: 'sesame' } } : {};
        if (password) {
          await assert.rejects(store.pullImage(`${registry.host}/team/app:v1`), { code: 'Unauthenticated' });
        }
        assert.equal(await store.pullImage(`${registry.host}/team/app:v1`, credentials), image.id);
        assert.equal(
          await store.pullImage(`${registry.host}/team/app@${image.manifestDigest}`, credentials),
          image.id,
        );
        await store.pullImage(`${registry.host}/team/sibling:v1`, credentials);
        assert.equal((await readdir(join(directory, 'store/layers'))).length, 2);
        await assert.rejects(store.pullImage(`${registry.host}/team/app:v9`, credentials), {
          code: 'NotFound',
        });
      } finally {
        await rm(directory, { recursive: true });
      }
    });
  }
});
