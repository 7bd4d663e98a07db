// A Sentry that has been taken over: whatever it sends, the Gofer neither crashes nor lets it out of its roots.
// GOFER_SEED repeats a run, GOFER_ROUNDS makes it longer.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { Errno } from '../abi/errno.ts';
import type { HostFd } from '../host/contract.ts';
import { loadRawCalls, RawHost } from '../testing/raw-calls.ts';
import { GoferClient } from './client.ts';
import { maximumFrame, Operation, RootFlags } from './protocol.ts';

const native = fileURLToPath(new URL('../../../build/native', import.meta.url));
const host = new RawHost(loadRawCalls());
const top = fs.mkdtempSync(join(tmpdir(), 'gofer-hostile-'));
const root = join(top, 'root');
const outside = join(top, 'outside');
after(() => fs.rmSync(top, { recursive: true }));

fs.mkdirSync(join(root, 'dir/deep'), { recursive: true });
fs.mkdirSync(outside);
fs.writeFileSync(join(outside, 'secret'), 'outside');
fs.writeFileSync(join(root, 'dir/secret'), 'inside');
fs.writeFileSync(join(root, 'file'), 'inside');
fs.symlinkSync('/', join(root, 'slash'));
fs.symlinkSync('../outside', join(root, 'up'));
fs.symlinkSync('/proc/self/fd', join(root, 'magic'));

const seed = Number(process.env['GOFER_SEED'] ?? Date.now() % 1_000_000);
const rounds = Number(process.env['GOFER_ROUNDS'] ?? 20_000);

/** Marsaglia's xorshift32. */
function generator(start: number): (below: number) => number {
  let state = start | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function start(flags = 0): { socket: HostFd; child: ChildProcess; ended: Promise<unknown[]> } {
  const [ours, theirs] = host.socketPair();
  const child = spawn(join(native, 'bulkhead-gofer'), ['3', '-', `${flags}=${root}`], {
    stdio: ['ignore', 'inherit', 'inherit', theirs],
  });
  host.close(theirs);
  return { socket: ours, child, ended: once(child, 'exit') };
}

function send(socket: HostFd, bytes: Uint8Array): number {
  return host.send(socket, bytes, 0, bytes.length, []);
}

/** One whole reply, or undefined when the Gofer has closed the socket. */
function receive(socket: HostFd, fds: HostFd[]): DataView | undefined {
  const bytes = new Uint8Array(maximumFrame);
  const view = new DataView(bytes.buffer);
  let have = 0;
  while (have < 8 || have < view.getUint32(0, true)) {
    const count = host.receive(socket, bytes, have, maximumFrame - have, fds);
    if (count <= 0) return undefined;
    have += count;
  }
  assert.equal(have, view.getUint32(0, true), 'a reply is as long as it says');
  return view;
}

/** Everything outside of the root is as it was. */
function assertUntouched(): void {
  assert.deepEqual(fs.readdirSync(top).sort(), ['outside', 'root']);
  assert.deepEqual(fs.readdirSync(outside), ['secret']);
  assert.equal(fs.readFileSync(join(outside, 'secret'), 'utf8'), 'outside');
  assert.equal(fs.statSync(join(outside, 'secret')).nlink, 1);
}

function assertInside(fd: HostFd): void {
  const path = fs.readlinkSync(`/proc/self/fd/${fd}`);
  assert.ok(path.startsWith(`${root}/`), `a descriptor of ${path}`);
  host.close(fd);
}

const names = [
  ...[
    'file',
    'dir',
    'deep',
    'secret',
    'slash',
    'up',
    'magic',
    'new',
    'other',
    '..',
    '.',
    '',
    '/',
    '/etc/passwd',
  ],
  ...[
    '../outside',
    'dir/../..',
    'a\0b',
    '..\0',
    'x'.repeat(255),
    'x'.repeat(256),
    'y'.repeat(5000),
    '\xff\xfe',
  ],
];

describe('a hostile Sentry', () => {
  test(`sends operations with hostile fields (seed ${seed})`, async () => {
    const random = generator(seed);
    const { socket, ended } = start(RootFlags.sockets | RootFlags.privilegedXattrs | RootFlags.devices);
    const frame = new Uint8Array(maximumFrame);
    const view = new DataView(frame.buffer);
    const numbers = [
      0,
      1,
      2,
      3,
      4,
      5,
      7,
      0o100,
      0o644,
      0o7777,
      0x200,
      4096,
      65535,
      1 << 20,
      0x7fffffff,
      0xffffffff,
    ];
    const fds: HostFd[] = [];
    for (let round = 0; round < rounds; round++) {
      const operation = round < 4 ? Operation.attach : random(26);
      let end = 8;
      // Small ones often: they are nodes that exist, and no flags.
      const number = (): void => {
        view.setUint32(end, random(2) ? random(3) : (numbers[random(numbers.length)] ?? 0), true);
        end += 4;
      };
      const name = (): void => {
        const text = names[random(names.length)] ?? '';
        view.setUint16(end, random(40) === 0 ? random(65536) : text.length, true);
        frame.set(Buffer.from(text, 'latin1'), end + 2);
        end += 2 + text.length;
      };
      // The fields in their right order often enough, and any others.
      if (operation === Operation.walk && random(8)) {
        number();
        view.setUint32(end, random(2), true);
        const count = random(4) + 1;
        view.setUint16(end + 4, count, true);
        end += 6;
        for (let i = 0; i < count; i++) {
          number();
          name();
        }
      } else {
        const before = fieldsBeforeName[operation] ?? random(6);
        for (let i = 0; i < before; i++) number();
        if (operation >= Operation.create && operation <= Operation.rename) name();
        if (operation === Operation.symlink || operation === Operation.rename) name();
        if (operation >= Operation.getXattr && operation <= Operation.removeXattr) name();
        if (random(10) === 0) number();
      }
      view.setUint32(0, end, true);
      view.setUint16(4, operation, true);
      view.setUint16(6, random(3) ? 0xffff : random(2000), true);
      assert.equal(send(socket, frame.subarray(0, end)), end);
      if (operation === Operation.release) continue;
      const reply = receive(socket, fds);
      assert.ok(reply, `the Gofer has gone in round ${round}`);
      assert.ok(reply.getInt32(4, true) > -134, 'an errno');
      for (const fd of fds.splice(0)) if (operation !== Operation.connect) assertInside(fd);
    }
    assertUntouched();
    host.close(socket);
    assert.deepEqual(await ended, [0, null]);
  });

  test(`sends bytes (seed ${seed})`, async () => {
    const random = generator(seed + 1);
    for (let round = 0; round < 40; round++) {
      const { socket, ended } = start();
      const bytes = new Uint8Array(random(4000) + 4);
      for (let i = 0; i < bytes.length; i++) bytes[i] = random(256);
      // Half of them begin with a length that may be one.
      if (round % 2) new DataView(bytes.buffer).setUint32(0, random(bytes.length) + 8, true);
      send(socket, bytes);
      host.close(socket);
      const [code, signal] = await ended;
      assert.equal(signal, null);
      assert.ok(code === 0 || code === 2, `it ended with ${code}`);
    }
    assertUntouched();
  });

  for (const [what, length] of [
    ['too short', 7],
    ['nothing', 0],
    ['too long', maximumFrame + 1],
    ['enormous', 0xffffffff],
  ] as const)
    test(`announces a request that is ${what}`, async () => {
      const { socket, ended } = start();
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setUint32(0, length, true);
      send(socket, bytes);
      assert.equal(receive(socket, []), undefined);
      assert.deepEqual(await ended, [2, null]);
      host.close(socket);
    });

  test('sends a request byte by byte, and one that is cut off', async () => {
    const { socket, ended } = start();
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 16, true);
    view.setUint16(4, Operation.attach, true);
    for (const byte of bytes) send(socket, new Uint8Array([byte]));
    assert.equal(receive(socket, [])?.getInt32(4, true), 0);
    send(socket, bytes.subarray(0, 11));
    host.close(socket);
    assert.deepEqual(await ended, [2, null]);
  });

  test('sends descriptors, which the Gofer does not take', async () => {
    const { socket, child, ended } = start();
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 16, true);
    view.setUint16(4, Operation.attach, true);
    const count = (): number => fs.readdirSync(`/proc/${child.pid}/fd`).length;
    host.send(socket, bytes, 0, 16, []);
    assert.equal(receive(socket, [])?.getInt32(4, true), 0);
    const before = count();
    for (let i = 0; i < 50; i++) {
      assert.equal(host.send(socket, bytes, 0, 16, [0, 1, 2]), 16);
      assert.equal(receive(socket, [])?.getInt32(4, true), -Errno.EBADF);
    }
    assert.equal(count(), before);
    host.close(socket);
    await ended;
  });

  test('never follows a link that takes the place of a directory while it walks', async () => {
    const { socket, ended } = start();
    const client = new GoferClient(host, socket);
    const attached = client.attach(0);
    assert.ok(typeof attached === 'object');
    fs.mkdirSync(join(root, 'swap'));
    fs.writeFileSync(join(root, 'swap/secret'), 'inside');
    fs.symlinkSync(outside, join(root, 'link'));
    const stop = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(
      `const { workerData: { root, stop } } = require('node:worker_threads');
       const { renameSync } = require('node:fs');
       const at = (name) => root + '/' + name;
       while (Atomics.load(stop, 0) === 0) {
         renameSync(at('swap'), at('away')); renameSync(at('link'), at('swap'));
         renameSync(at('swap'), at('link')); renameSync(at('away'), at('swap'));
         Atomics.add(stop, 1, 1);
       }`,
      { eval: true, workerData: { root, stop } },
    );
    await once(worker, 'online');
    let inside = 0;
    let refused = 0;
    const end = host.raw.call(201, 0) + 20;
    while ((inside < 500 || refused < 500) && host.raw.call(201, 0) < end) {
      const walked = client.walk(attached.node, ['swap', 'secret'], true);
      if (typeof walked === 'number' || walked.stopped) refused++;
      if (typeof walked === 'number') continue;
      for (const { node } of walked.found) client.release(node);
      if (walked.fd < 0) continue;
      assert.equal(fs.readFileSync(walked.fd, 'utf8'), 'inside');
      host.close(walked.fd);
      inside++;
      // Writing through a directory that is swapped for a link to the outside.
      const made = client.walk(attached.node, ['swap']);
      if (typeof made === 'number') continue;
      const node = made.found[0]?.node ?? -1;
      const created = client.create(node, 'planted', 2, { mode: 0o600, uid: 0, gid: 0 });
      if (typeof created === 'object') {
        assertInside(created.fd);
        client.release(created.node);
        assert.equal(client.unlink(node, 'planted'), 0);
      }
      client.release(node);
    }
    Atomics.store(stop, 0, 1);
    await once(worker, 'exit');
    assert.ok(inside > 0 && refused > 0 && (stop[1] ?? 0) > 0, `${inside} inside, ${refused} refused`);
    assertUntouched();
    client.close();
    await ended;
  });
});

/** How many u32 fields come before the name, by operation. */
const fieldsBeforeName: Readonly<Record<number, number>> = {
  [Operation.attach]: 2,
  [Operation.getAttributes]: 1,
  [Operation.setAttributes]: 13,
  [Operation.open]: 2,
  [Operation.create]: 6,
  [Operation.makeDirectory]: 5,
  [Operation.symlink]: 4,
  [Operation.link]: 2,
  [Operation.makeNode]: 7,
  [Operation.unlink]: 2,
  [Operation.rename]: 3,
  [Operation.readLink]: 1,
  [Operation.readDirectory]: 5,
  [Operation.statfs]: 1,
  [Operation.getXattr]: 2,
  [Operation.setXattr]: 2,
  [Operation.listXattr]: 2,
  [Operation.removeXattr]: 1,
  [Operation.connect]: 2,
  [Operation.sync]: 2,
  [Operation.temporaryFile]: 6,
};
