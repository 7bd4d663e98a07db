import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { parse } from 'yaml';
import { KubeconfigError, mergeKubeconfig, removeFromKubeconfig, renderKubeconfig } from './kubeconfig.ts';

const entry = {
  name: 'bulkhead',
  server: 'https://127.0.0.1:6443',
  ca: 'CA',
  client: { certificate: 'CERT', key: 'KEY' },
};

const theirs = `# my clusters, do not touch
apiVersion: v1
kind: Config
preferences: {}
clusters:
- name: work # the big one
  cluster: {server: "https://work.example:6443"}
users:
- {name: me, user: {token: abc}}
contexts:
- name: work
  context: {cluster: work, user: me, namespace: team}
current-context: work
`;

describe('kubeconfig', () => {
  let directory: string;
  let path: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bulkhead-kubeconfig-'));
    path = join(directory, 'deep', 'config');
  });
  afterEach(() => rm(directory, { recursive: true }));

  it('is made, closed to others, where there is none, with our context current', async () => {
    assert.deepEqual(await mergeKubeconfig(path, entry), { path, current: true });
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(parse(await readFile(path, 'utf8')), parse(renderKubeconfig(entry)));
  });

  it('keeps what is there: other entries, comments, the current context, the mode, a symbolic link', async () => {
    const real = join(directory, 'real');
    const link = join(directory, 'link');
    await writeFile(real, theirs, { mode: 0o640 });
    await symlink(real, link);
    assert.deepEqual(await mergeKubeconfig(link, entry), { path: link, current: false });
    const text = await readFile(real, 'utf8');
    assert.match(text, /# my clusters, do not touch/);
    assert.match(text, /# the big one/);
    const parsed = parse(text);
    assert.equal(parsed['current-context'], 'work');
    assert.deepEqual(parsed.contexts[0], {
      name: 'work',
      context: { cluster: 'work', user: 'me', namespace: 'team' },
    });
    assert.equal(parsed.clusters[1].cluster.server, 'https://127.0.0.1:6443');
    assert.equal((await stat(real)).mode & 0o777, 0o640);
    assert.equal(await removeFromKubeconfig(link, 'bulkhead', 'of another cluster'), false);
    assert.equal(await removeFromKubeconfig(link, 'bulkhead', entry.ca), true);
    assert.deepEqual(parse(await readFile(real, 'utf8')), parse(theirs));
    assert.equal(await removeFromKubeconfig(link, 'bulkhead', entry.ca), false);
  });

  it('renews our entry in place and does not write when nothing changed', async () => {
    await mergeKubeconfig(path, entry);
    const before = await stat(path, { bigint: true });
    await mergeKubeconfig(path, entry);
    assert.equal((await stat(path, { bigint: true })).ino, before.ino);
    await mergeKubeconfig(path, { ...entry, server: 'https://127.0.0.1:7443' });
    const parsed = parse(await readFile(path, 'utf8'));
    assert.equal(parsed.clusters.length, 1);
    assert.equal(parsed.clusters[0].cluster.server, 'https://127.0.0.1:7443');
  });

  it('leaves a file alone that it does not understand, and says so', async () => {
    for (const text of ['a: [1', '- a\n- b\n']) {
      const file = join(directory, 'broken');
      await writeFile(file, text);
      await assert.rejects(mergeKubeconfig(file, entry), KubeconfigError);
      assert.equal(await readFile(file, 'utf8'), text);
    }
  });
});
