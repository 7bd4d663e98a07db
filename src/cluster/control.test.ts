import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { ControlError, callControl, NotRunningError, serveControl } from './control.ts';

describe('control socket', () => {
  let directory: string;
  let path: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bulkhead-control-'));
    path = join(directory, 'run', 'control.sock');
  });
  afterEach(() => rm(directory, { recursive: true }));

  it('carries a call, its argument, its result and its failure, and is open to its owner only', async () => {
    await using _server = await serveControl(path, {
      echo: async (argument) => ({ said: argument }),
      fail: async () => {
        throw new Error('no such image "x"');
      },
    });
    assert.deepEqual(await callControl(path, 'echo', { a: 1 }), { said: { a: 1 } });
    await assert.rejects(callControl(path, 'fail'), new ControlError('no such image "x"'));
    await assert.rejects(callControl(path, 'constructor'), /has no call "constructor"/);
    assert.equal((await stat(path)).mode & 0o077, 0);
  });

  it('tells a cluster that is not running from one that is', async () => {
    await assert.rejects(callControl(path, 'status'), NotRunningError);
    await using _server = await serveControl(path, {});
    await assert.rejects(serveControl(path, {}), { code: 'EADDRINUSE' });
  });

  it('takes over the socket of a process that was killed', async () => {
    await serveControl(path, {}).then((s) => s[Symbol.asyncDispose]());
    const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.ok((await stat(path)).isSocket());
    await assert.rejects(callControl(path, 'status'), NotRunningError);
    await using _server = await serveControl(path, { status: async () => 'mine' });
    assert.equal(await callControl(path, 'status'), 'mine');
  });

  it('refuses a request that is too large', async () => {
    await using _server = await serveControl(path, { echo: async (argument) => argument });
    await assert.rejects(callControl(path, 'echo', 'x'.repeat(2 * 1024 * 1024)));
    assert.equal(await callControl(path, 'echo', 'still here'), 'still here');
  });
});
