// `bulkhead up --simulate` as a user without root meets it: started, asked, stopped and removed from the command line.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { eventually } from './support/eventually.ts';
import { kubectl } from './support/kubectl.ts';
import { bulkhead } from './support/machine.ts';

const NOBODY = 65534;

describe('bulkhead up --simulate', () => {
  const home = mkdtempSync(join(tmpdir(), 'bh-command-'));
  const state = join(home, '.local/state/bulkhead');
  // As an ordinary user, where that user can read the project at all.
  const drop = process.getuid?.() === 0 && spawnSync('test', ['-r', bulkhead], { uid: NOBODY }).status === 0;
  const options = {
    env: { PATH: process.env['PATH'] ?? '', HOME: home },
    encoding: 'utf8' as const,
    timeout: 60_000,
    ...(drop ? { uid: NOBODY, gid: NOBODY } : {}),
  };
  let port: number;
  const run = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(bulkhead, args, options);
  const succeed = (...args: string[]): string => {
    const { status, stdout, stderr } = run(...args);
    assert.equal(status, 0, stderr);
    return stdout;
  };

  before(async () => {
    if (drop) chownSync(home, NOBODY, NOBODY);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as { port: number }).port;
    await new Promise((resolve) => server.close(resolve));
  });
  after(() => {
    run('reset', '--yes');
    rmSync(home, { recursive: true, force: true });
  });

  it('is ready when --detach returns, and in the user’s kubeconfig', async () => {
    succeed('up', '--simulate', '3', '--detach', '--port', String(port));
    const nodes = await kubectl(join(home, '.kube/config'))('get', 'nodes');
    assert.equal(nodes.match(/ Ready /g)?.length, 3);
    const status = JSON.parse(succeed('status', '--json')) as { mode: string; nodes: { ready: boolean }[] };
    assert.equal(status.mode, 'simulated');
    assert.deepEqual(
      status.nodes.map((node) => node.ready),
      [true, true, true],
    );
    assert.match(succeed('status'), /API server +https:\/\/127\.0\.0\.1:/);
    assert.equal(succeed('kubeconfig'), readFileSync(join(state, 'admin.kubeconfig'), 'utf8'));
  });

  it('refuses a second one, and what has no containers says so', () => {
    const second = run('up', '--simulate', '3', '--port', String(port));
    assert.equal(second.status, 1);
    assert.match(second.stderr, /already runs/);
    assert.notEqual(run('image', 'list').status, 0);
  });

  it('keeps its objects when it is killed, stopped in the middle of a start, and stopped', async () => {
    const k = kubectl(join(state, 'admin.kubeconfig'));
    await k('create', 'configmap', 'kept', '--from-literal=a=b');
    const { pid } = JSON.parse(succeed('status', '--json')) as { pid: number };
    process.kill(pid, 'SIGKILL');
    await eventually('the process is gone', () => assert.ok(!existsSync(`/proc/${pid}`)));
    assert.equal(run('status').status, 3);

    const starting = spawn(bulkhead, ['up', '--simulate', '3', '--port', String(port)], {
      ...options,
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => starting.on('exit', resolve));
    await eventually('it can be stopped', () => assert.equal(run('down').status, 0));
    await ended;

    succeed('up', '--simulate', '3', '--detach', '--port', String(port));
    assert.equal(await k('get', 'configmap', 'kept', '-o', 'jsonpath={.data.a}'), 'b');
    succeed('down');
    assert.equal(run('down').status, 1, 'there is nothing to stop');
  });

  it('stops at Ctrl-C in the foreground', async () => {
    const child = spawn(bulkhead, ['up', '--simulate', '1', '--port', String(port)], {
      ...options,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
    await eventually('it is ready', () => assert.match(said, /Ctrl-C stops the cluster/));
    child.kill('SIGINT');
    assert.equal(await ended, 0, said);
  });

  it('asks before it removes everything, and then nothing is left', () => {
    const unsure = run('reset');
    assert.equal(unsure.status, 1);
    assert.match(unsure.stderr, /reset --yes/);
    assert.ok(existsSync(state));
    succeed('reset', '--yes');
    assert.ok(!existsSync(state));
    assert.doesNotMatch(readFileSync(join(home, '.kube/config'), 'utf8'), /name: bulkhead/);
  });
});
