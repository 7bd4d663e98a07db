// The process behind the host operations. Most of it needs no root; what does says so.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  HostError,
  HostLockedError,
  type HostOperations,
  nativeProgram,
  startHostOperations,
} from './index.ts';
import { channels, decodeReply, encodeFrame, encodeRequest, FrameDecoder } from './wire.ts';

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
const root = skip || (process.getuid?.() === 0 ? false : 'needs root');
let directory: string;
let host: HostOperations;
before(async () => {
  if (skip) return;
  directory = await mkdtemp(join(tmpdir(), 'bh-host-'));
  host = await startHostOperations({
    socketPath: join(directory, 'host.sock'),
    lockPath: join(directory, 'lock'),
  });
});
after(async () => {
  if (skip) return;
  await host[Symbol.asyncDispose]();
  assert.ok(!existsSync(join(directory, 'host.sock')));
  assert.doesNotMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(directory));
  await rm(directory, { recursive: true });
});

const is = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof HostError && error.code === code && message.test(error.message);

test('frames survive being cut anywhere', () => {
  const sent = [Buffer.alloc(0), Buffer.from('a'), Buffer.alloc(70_000, 'b'), Buffer.from('end')];
  const bytes = Buffer.concat(sent.map((payload, i) => encodeFrame(i, payload)));
  for (const size of [1, 3, 5, 7, 4096, bytes.length]) {
    const decoder = new FrameDecoder();
    const got: { channel: number; payload: Buffer }[] = [];
    for (let at = 0; at < bytes.length; at += size) got.push(...decoder.push(bytes.subarray(at, at + size)));
    assert.deepEqual(
      got.map(({ channel }) => channel),
      [0, 1, 2, 3],
    );
    assert.deepEqual(
      got.map(({ payload }) => payload.toString()),
      sent.map(String),
    );
  }
});

test('a reply is read when it is whole, and what follows it is kept', () => {
  // Requests and replies have the same shape.
  const reply = encodeRequest('0', ['text', 12, new Uint8Array([0, 255])]);
  const bytes = Buffer.concat([reply, Buffer.from('rest')]);
  for (let length = 0; length < reply.length; length++)
    assert.equal(decodeReply(bytes.subarray(0, length)), undefined);
  const { fields, rest } = decodeReply(bytes)!;
  assert.deepEqual(
    fields.map((field) => [...field]),
    [[48], [116, 101, 120, 116], [49, 50], [0, 255]],
  );
  assert.equal(rest.toString(), 'rest');
});

test('programs run with input, environment and directory, and their ends are told apart', {
  skip,
}, async () => {
  const input = Buffer.alloc(3_000_000, 'x');
  const echoed = await host.run(['cat'], { input });
  assert.equal(Buffer.compare(echoed.stdout, input), 0);
  const { stdout, stderr, exitCode } = await host.run(
    ['sh', '-c', 'pwd; echo $A; echo $HOME; echo err >&2; exit 9'],
    {
      directory: '/tmp',
      environment: ['A=b c'],
    },
  );
  assert.deepEqual([stdout.toString(), stderr.toString(), exitCode], ['/tmp\nb c\n\n', 'err\n', 9]);
  assert.equal((await host.run(['sh', '-c', 'kill -TERM $$'])).exitCode, 143);
  assert.equal(
    await host
      .run(['yes'], { limit: 10, signal: AbortSignal.timeout(200) })
      .catch((error: Error) => error.name),
    'TimeoutError',
  );
  assert.equal(
    (await host.run(['sh', '-c', 'seq 1 100000'], { limit: 10 })).stdout.toString(),
    '1\n2\n3\n4\n5\n',
  );
  await assert.rejects(host.run(['no-such-program']), is('ENOENT', /run no-such-program/));
  await assert.rejects(host.run(['true'], { directory: '/no-such-directory' }), is('ENOENT', /run true/));
  await assert.rejects(host.check(['sh', '-c', 'echo why >&2; exit 3']), is('EIO', /why \(exit code 3\)/));
});

test('what a program leaves in the background is not waited for; aborting kills it with its children', {
  skip,
}, async () => {
  const { stdout } = await host.run(['sh', '-c', 'sleep 30 & echo $!']);
  process.kill(Number(stdout.toString()), 'SIGKILL');
  const file = join(directory, 'pid');
  const running = host.run(['sh', '-c', `sleep 31 & echo $! > ${file}.new; mv ${file}.new ${file}; wait`], {
    signal: AbortSignal.timeout(500),
  });
  await assert.rejects(running);
  const pid = readFileSync(file, 'utf8').trim();
  const deadline = performance.now() + 5000;
  while (isAlive(pid)) assert.ok(performance.now() < deadline, 'the child of an aborted program lives');
});

/** False for a process that is gone and for one that only waits to be reaped. */
function isAlive(pid: string): boolean {
  try {
    return !/State:\s*Z/.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch (error) {
    assert.match(String(error), /ENOENT|ESRCH/);
    return false;
  }
}

test('a hundred programs run at once without holding up the event loop', { skip }, async () => {
  let longest = 0;
  let last = performance.now();
  const beat = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 1);
  const results = await Promise.all(Array.from({ length: 100 }, (_, i) => host.run(['echo', String(i)])));
  clearInterval(beat);
  assert.deepEqual(
    results.map(({ stdout }) => Number(stdout.toString())),
    results.map((_, i) => i),
  );
  assert.ok(longest < 400, `the loop stood still for ${longest} ms`);
});

test('a signal reaches the process that is meant, and never another with its number', { skip }, async () => {
  const child = spawn('sleep', ['1000']);
  const startTime = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ')[21]!;
  const ended = Promise.withResolvers<void>();
  host.watchProcess({ pid: child.pid!, startTime }, ended.resolve);
  assert.equal(await host.kill({ pid: child.pid!, startTime: '1' }, 9), false);
  assert.equal(child.exitCode ?? child.signalCode, null);
  assert.equal(await host.kill({ pid: child.pid!, startTime }, 15), true);
  const [, signal] = await once(child, 'exit');
  assert.equal(signal, 'SIGTERM');
  await ended.promise;
  assert.equal(await host.kill({ pid: child.pid!, startTime }, 9), false);
  // Of one that has ended already, the end is told at once.
  await new Promise<void>((resolve) => host.watchProcess({ pid: child.pid!, startTime }, resolve));
});

test('the lock keeps a second instance out and names the first', { skip }, async () => {
  await assert.rejects(
    startHostOperations({ socketPath: join(directory, 'second.sock'), lockPath: join(directory, 'lock') }),
    (error: unknown) =>
      error instanceof HostLockedError && error.code === 'EBUSY' && error.holder !== undefined,
  );
  await assert.rejects(
    startHostOperations({ socketPath: `/${'x'.repeat(120)}` }),
    is('ENAMETOOLONG', /at most 107 bytes/),
  );
  await assert.rejects(
    startHostOperations({ socketPath: join(directory, 'none/host.sock') }),
    is('EIO', /cannot listen on .*No such file/),
  );
});

test('bytes go both ways over a connection to a port, each half closing on its own', { skip }, async () => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let length = 0;
    socket.on('data', (chunk) => {
      length += chunk.length;
    });
    socket.on('end', () => socket.end(`got ${length}`));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' ? address!.port : 0;
  const stream = await host.connect(undefined, port);
  stream.end(Buffer.alloc(1_000_000));
  let answer = '';
  for await (const chunk of stream) answer += String(chunk);
  assert.equal(answer, 'got 1000000');
  server.close();
  await once(server, 'close');
  await assert.rejects(host.connect(undefined, port), is('ECONNREFUSED', /connect to 127\.0\.0\.1/));
});

test('trees of any depth are deleted, links are not followed, disk use counts each file once', {
  skip,
}, async () => {
  const tree = join(directory, 'tree');
  await mkdir(tree);
  const outside = join(directory, 'outside');
  await mkdir(outside);
  await writeFile(join(outside, 'kept'), 'x');
  await symlink(outside, join(tree, 'link'));
  // Deeper than a path can say: one half is moved to the end of the other.
  const dig =
    'dig() { mkdir $1; cd $1; i=1; while [ $i -lt 250 ]; do mkdir deep-directory && cd deep-directory; i=$((i+1)); done; }';
  await host.check(['sh', '-c', `${dig}; (dig a); (dig b; mv ${tree}/a .)`], { directory: tree });
  await writeFile(join(tree, 'file'), Buffer.alloc(100_000));
  await host.check(['ln', join(tree, 'file'), join(tree, 'again')]);
  const { bytes, inodes } = await host.diskUsage(tree);
  const du = (await host.check(['du', '-s', '-B1', tree])).toString().split('\t')[0];
  assert.equal(bytes, Number(du));
  assert.equal(inodes, 503);
  await host.removeTree(tree);
  assert.ok(!existsSync(tree));
  assert.deepEqual(await readdir(outside), ['kept']);
  await host.removeTree(tree);
  await assert.rejects(host.diskUsage(tree), is('ENOENT', /tree/));
});

test('mounts are undone below a directory, also when they are busy or stacked', { skip: root }, async () => {
  const mounts = join(directory, 'mounts');
  await mkdir(join(mounts, 'a b'), { recursive: true });
  for (let i = 0; i < 2; i++) await host.check(['mount', '-t', 'tmpfs', 'test', join(mounts, 'a b')]);
  await mkdir(join(mounts, 'a b/c'));
  await host.check(['mount', '-t', 'tmpfs', 'test', join(mounts, 'a b/c')]);
  const sitting = spawn('sleep', ['1000'], { cwd: join(mounts, 'a b/c') });
  await once(sitting, 'spawn');
  assert.deepEqual(await host.unmountBelow(mounts), [join(mounts, 'a b/c')]);
  assert.doesNotMatch(readFileSync('/proc/self/mountinfo', 'utf8'), /mounts\/a\\040b/);
  sitting.kill('SIGKILL');
  await once(sitting, 'exit');
  assert.deepEqual(await host.unmountBelow(mounts), []);
  assert.equal(await host.unmount(join(mounts, 'a b')), true);
  await writeFile(join(directory, 'kept-by-mount'), '');
  await host.check(['mount', '--bind', directory, join(mounts, 'a b')]);
  await assert.rejects(host.removeTree(mounts), is('EBUSY', /something is mounted at .*a b/));
  assert.ok(existsSync(join(directory, 'kept-by-mount')));
  assert.equal(await host.unmount(join(mounts, 'a b')), true);
});

test('a root file system cannot be left by links in the image', { skip: root }, async () => {
  const base = join(directory, 'rootfs');
  await mkdir(join(base, 'low/etc'), { recursive: true });
  await mkdir(join(base, 'low/data'));
  await writeFile(join(directory, 'secret'), 'secret');
  await writeFile(join(base, 'low/data/file'), 'data');
  await writeFile(join(base, 'low/etc/real'), 'inside');
  await symlink(`/../../..${directory}/secret`, join(base, 'low/etc/outside'));
  await symlink('/etc/real', join(base, 'low/etc/inside'));
  await symlink(directory, join(base, 'low/volume'));
  await host.check(['mkfifo', join(base, 'low/etc/fifo')]);
  const contents = await host.prepareRootfs({
    target: join(base, 'target'),
    upper: join(base, 'upper'),
    work: join(base, 'work'),
    layers: [join(base, 'low')],
    files: ['/etc/outside', '/etc/inside', '/etc/fifo', '/etc/none', '/data', '/../../etc/real'],
    volumes: [
      { path: '/data', directory: join(base, 'volumes/0') },
      { path: '/volume', directory: join(base, 'volumes/1') },
    ],
  });
  assert.deepEqual(contents.map(String), ['', 'inside', '', '', '', 'inside']);
  assert.deepEqual(await readdir(join(base, 'volumes/0')), ['file']);
  assert.deepEqual(await readdir(join(base, 'volumes/1')), []);
  assert.equal(await host.unmount(join(base, 'target')), true);
  await assert.rejects(
    host.prepareRootfs({
      target: join(base, 'target'),
      upper: join(base, 'u'),
      work: join(base, 'w'),
      layers: [join(base, 'none')],
      files: [],
      volumes: [],
    }),
    is('ENOENT', /layer .*none/),
  );
});

test('unknown operations and cut-off requests are refused', { skip }, async () => {
  const { connect } = await import('node:net');
  const say = async (bytes: Buffer): Promise<string> => {
    const socket = connect(join(directory, 'host.sock'));
    socket.end(bytes);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString('latin1');
  };
  assert.match(await say(encodeRequest('dance', [])), /no operation is called 'dance'/);
  assert.match(await say(encodeRequest('unmount', [])), /lacks a field/);
  assert.match(await say(encodeRequest('kill', ['x', '1', '9'])), /'x' is not a number/);
  assert.match(await say(encodeRequest('unmount-below', ['/'])), /is not below/);
  const lying = encodeRequest('unmount', ['/x']);
  lying.writeUInt32LE(0xffff, 4);
  assert.match(await say(lying), /cut off/);
  assert.equal(await say(Buffer.from([0xff, 0xff, 0xff, 0xff])), '');
  assert.equal(channels.stdin, 0);
});
