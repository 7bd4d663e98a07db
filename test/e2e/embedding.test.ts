// `bulkhead/testing` as somebody else's project uses it: the built package, its types, and a test of theirs that ends
// by itself when the cluster is disposed of.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

const theirs = `
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resources, startCluster } from 'bulkhead/testing';

test('a deployment becomes available and goes with its pods', async () => {
  const begun = performance.now();
  await using cluster = await startCluster({ nodes: 2 });
  console.log('started in', Math.round(performance.now() - begun), 'ms');
  const labels = { app: 'web' };
  await cluster.client.resource(resources.deployments, 'default').create({
    metadata: { name: 'web' },
    spec: {
      replicas: 3,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'web', image: 'web' }] } },
    },
  });
  await using deployments = cluster.client.informers.informer(resources.deployments);
  await new Promise<void>((resolve) => {
    const look = (d: { status: { availableReplicas?: number } }): void => {
      if (d.status.availableReplicas === 3) resolve();
    };
    deployments.addHandler({ added: look, updated: look });
  });
  const { items } = await cluster.client.resource(resources.pods, 'default').list({ labelSelector: 'app=web' });
  assert.deepEqual(items.map((pod) => pod.status.phase), ['Running', 'Running', 'Running']);
});
`;

describe('bulkhead/testing in another project', () => {
  let project: string;
  before(async () => {
    project = await mkdtemp(join(tmpdir(), 'bh-embedding-'));
    await mkdir(join(project, 'node_modules/@types'), { recursive: true });
    await symlink(root, join(project, 'node_modules/bulkhead'));
    for (const types of ['@types/node', 'undici-types']) {
      await symlink(join(root, 'node_modules', types), join(project, 'node_modules', types));
    }
    await writeFile(join(project, 'package.json'), '{"type": "module"}');
    await writeFile(join(project, 'theirs.test.ts'), theirs);
    const compilerOptions = {
      module: 'nodenext',
      target: 'es2024',
      lib: ['es2024', 'esnext.disposable'],
      strict: true,
      noEmit: true,
      types: ['node'],
    };
    await writeFile(
      join(project, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, include: ['theirs.test.ts'] }),
    );
  });
  after(() => rm(project, { recursive: true }));

  it('has types that hold for strict users', () => {
    const tsc = join(root, 'node_modules/typescript-7/bin/tsc');
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', project, '--preserveSymlinks'], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, stdout);
  });

  it('runs their test, and their process ends by itself', () => {
    const args = ['--test', '--test-reporter=spec', 'theirs.test.ts'];
    const { NODE_TEST_CONTEXT: _ours, ...env } = process.env;
    const { status, stdout } = spawnSync(process.execPath, args, {
      cwd: project,
      encoding: 'utf8',
      timeout: 60_000,
      env,
    });
    assert.equal(status, 0, stdout);
    assert.match(stdout, /pass 1\n/);
  });
});
