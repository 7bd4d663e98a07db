import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { isInterfaceName, isNodeName } from './machine.ts';
import { portProblem } from './preflight.ts';
import { dnsAddress, rangesOf, rangesProblem, sameFamilies } from './ranges.ts';
import { removeEverything } from './reset.ts';
import {
  type ClusterPaths,
  type ClusterSettings,
  clusterPaths,
  defaultPaths,
  instanceName,
  openState,
  readSettings,
  StateError,
} from './state.ts';

const wanted: ClusterSettings = {
  format: 1,
  mode: 'node',
  podCidr: '10.244.0.0/24',
  serviceCidr: '10.96.0.0/16',
  clusterDomain: 'cluster.local',
  nodeName: 'n',
  bridge: 'bulkhead0',
  instance: 'bulkhead',
};

describe('the state directory', () => {
  let paths: ClusterPaths;
  beforeEach(async () => {
    const directory = await mkdtemp(join(tmpdir(), 'bulkhead-state-'));
    paths = clusterPaths(join(directory, 'state'), join(directory, 'run'));
  });
  afterEach(() => rm(join(paths.state, '..'), { recursive: true }));

  it('keeps what a cluster was made with, whatever the defaults are later', async () => {
    assert.equal(await readSettings(paths), undefined);
    assert.deepEqual(await openState(paths, wanted, {}), wanted);
    assert.deepEqual(await openState(paths, { ...wanted, podCidr: '10.0.0.0/24' }, {}), wanted);
    assert.deepEqual(
      await openState(paths, wanted, { podCidr: wanted.podCidr }),
      wanted,
      'saying the same again is no change',
    );
  });

  it('refuses a changed setting by its name, and says how to get it', async () => {
    await openState(paths, wanted, {});
    await assert.rejects(openState(paths, wanted, { podCidr: '10.9.0.0/24' }), (error: Error) => {
      assert.ok(error instanceof StateError);
      assert.match(error.message, /made with podCidr 10\.244\.0\.0\/24, which cannot become 10\.9\.0\.0\/24/);
      assert.match(error.message, /bulkhead reset/);
      return true;
    });
  });

  it('is left alone when it is damaged, of another version or somebody else’s', async () => {
    await openState(paths, wanted, {});
    for (const text of [
      '',
      '{',
      '[]',
      'null',
      '{"format":2}',
      '{"format":1}',
      JSON.stringify({ ...wanted, nodeName: 7 }),
    ]) {
      await writeFile(paths.settings, text);
      await assert.rejects(openState(paths, wanted, {}), StateError, text);
      assert.equal(await readFile(paths.settings, 'utf8'), text);
    }
  });

  it('is never made, and nothing is removed, in a directory that holds other things', async () => {
    await mkdir(paths.state);
    await writeFile(join(paths.state, 'passwd'), 'root');
    await assert.rejects(
      openState(paths, wanted, {}),
      /holds other things than a cluster \(passwd, for one\)/,
    );
    await assert.rejects(removeEverything(paths), /holds no cluster.*nothing was removed/);
    assert.deepEqual(await readdir(paths.state), ['passwd']);
  });

  it('may hold imported images before the cluster is made', async () => {
    await mkdir(paths.images, { recursive: true });
    assert.deepEqual(await openState(paths, wanted, {}), wanted);
  });

  it('is found from wherever the command is given', () => {
    assert.equal(defaultPaths('some/where').state, join(process.cwd(), 'some/where'));
  });

  it('names the kernel’s objects so that clusters side by side do not meet', () => {
    const [a, b] = [instanceName('/srv/a'), instanceName('/srv/b')];
    assert.notEqual(a.instance, b.instance);
    assert.notEqual(a.bridge, b.bridge);
    assert.ok(a.bridge.length <= 15, 'the kernel allows 15 characters');
    assert.deepEqual(instanceName('/var/lib/bulkhead'), { instance: 'bulkhead', bridge: 'bulkhead0' });
  });
});

describe('before a start', () => {
  it('names of nodes and bridges are taken only when the API and the kernel take them', () => {
    assert.deepEqual(['node-1.example.com', 'Foo', 'a_b', '-a', ''].map(isNodeName), [
      true,
      false,
      false,
      false,
      false,
    ]);
    assert.deepEqual(['br0', 'sixteen-letters0', 'a/b', '..'].map(isInterfaceName), [
      true,
      false,
      false,
      false,
    ]);
  });

  it('ranges are taken only when they are ones, at most one of each version', () => {
    for (const good of [
      '10.244.0.0/24',
      '10.0.0.0/8',
      'fd00:1::/64',
      '192.168.128.0/17,fd00::/112',
      'fd00::/64,10.0.0.0/16',
    ])
      assert.equal(rangesProblem(good), undefined, good);
    for (const bad of [
      '10.244.0.1/24',
      '10.244.0.0',
      '10.244.0.0/29',
      '300.0.0.0/8',
      'fd00::/24',
      '10.0.0.0/7',
      '',
      '0x0a.0.0.0/8',
      '10.0.0.0/16,10.1.0.0/16',
      '10.0.0.0/16,',
    ]) {
      assert.notEqual(rangesProblem(bad), undefined, bad);
    }
    assert.ok(sameFamilies(rangesOf('10.0.0.0/16,fd00::/64'), rangesOf('10.1.0.0/16,fd01::/112')));
    assert.ok(!sameFamilies(rangesOf('10.0.0.0/16'), rangesOf('fd00::/64')));
    assert.deepEqual(['10.96.0.0/16', 'fd00::/112'].map(dnsAddress), ['10.96.0.10', 'fd00::a']);
  });

  it('a taken port is told with the option that chooses another', async () => {
    const { createServer } = await import('node:net');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const problem = await portProblem('127.0.0.1', port, '--port', 'API server');
    assert.match(problem?.what ?? '', new RegExp(`port ${port} for the API server is taken`));
    assert.match(problem?.remedy ?? '', /--port PORT/);
    await new Promise((resolve) => server.close(resolve));
    assert.equal(await portProblem('127.0.0.1', port, '--port', 'API server'), undefined);
  });
});
