// The Gofer and its client against a real directory tree; in its jail where the test says so (that needs root).

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Errno } from '../abi/errno.ts';
import { identityNamespace, startGofer } from '../jail/start.ts';
import { loadRawCalls, RawHost } from '../testing/raw-calls.ts';
import { DirectoryCursor, GoferClient, type NewNode } from './client.ts';
import { RootFlags } from './protocol.ts';

const native = fileURLToPath(new URL('../../../build/native', import.meta.url));
const host = new RawHost(loadRawCalls());
const top = fs.mkdtempSync(join(tmpdir(), 'gofer-'));
const owner = { mode: 0o644, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
after(() => fs.rmSync(top, { recursive: true }));
let trees = 0;

/** A Gofer without a jail that serves a new directory by these flags, one root each. */
function serve(
  ...flags: number[]
): { client: GoferClient; path: string; ended: Promise<unknown> } & Disposable {
  const path = join(top, `tree-${trees++}`);
  fs.mkdirSync(path);
  const [ours, theirs] = host.socketPair();
  const roots = (flags.length > 0 ? flags : [0]).map((flag) => `${flag}=${path}`);
  const child = spawn(join(native, 'bulkhead-gofer'), ['3', '-', ...roots], {
    stdio: ['ignore', 'inherit', 'inherit', theirs],
  });
  host.close(theirs);
  const client = new GoferClient(host, ours);
  return { client, path, ended: once(child, 'exit'), [Symbol.dispose]: () => client.close() };
}

/** Asserts that a result is no error. */
function good<T extends object>(result: T | number): T {
  if (typeof result === 'number') assert.fail(`failed with ${result}`);
  return result;
}

function rootOf(client: GoferClient, root = 0): number {
  return good(client.attach(root)).node;
}

function find(client: GoferClient, start: number, ...names: string[]): NewNode {
  const walked = good(client.walk(start, names));
  assert.equal(walked.stopped, 0);
  const last = walked.found.at(-1);
  assert.ok(last);
  return last;
}

describe('walking', () => {
  test('resolves several components in one request and tells where and why it stopped', () => {
    using served = serve();
    const { client, path } = served;
    fs.mkdirSync(join(path, 'a/b'), { recursive: true });
    fs.writeFileSync(join(path, 'a/b/c'), 'text');
    const root = rootOf(client);
    const all = good(client.walk(root, ['a', 'b', 'c']));
    assert.equal(all.found.length, 3);
    assert.equal(all.found[2]?.attributes.ino, fs.statSync(join(path, 'a/b/c')).ino);
    const partly = good(client.walk(root, ['a', 'x', 'y']));
    assert.deepEqual([partly.found.length, partly.stopped], [1, Errno.ENOENT]);
    const through = good(client.walk(root, ['a', 'b', 'c', 'd']));
    assert.deepEqual([through.found.length, through.stopped], [3, Errno.ENOTDIR]);
    assert.equal(client.walk(root, ['none']), -Errno.ENOENT);
    assert.equal(client.walk(root, ['x'.repeat(256)]), -Errno.ENAMETOOLONG);
    assert.equal(client.walk(root, []), -Errno.EINVAL);
  });

  test('stops at a symbolic link with its target, and does not follow it', () => {
    using served = serve();
    fs.symlinkSync('/etc', join(served.path, 'link'));
    const walked = good(served.client.walk(rootOf(served.client), ['link', 'passwd']));
    assert.deepEqual([walked.found.length, walked.stopped, walked.target], [1, Errno.ENOTDIR, '/etc']);
  });

  test('brings the last file open when asked', () => {
    using served = serve();
    fs.writeFileSync(join(served.path, 'f'), 'text');
    fs.mkdirSync(join(served.path, 'd'));
    const root = rootOf(served.client);
    const { fd } = good(served.client.walk(root, ['f'], true));
    assert.equal(fs.readFileSync(fd, 'utf8'), 'text');
    assert.throws(() => fs.writeSync(fd, 'x'), /EBADF/);
    fs.closeSync(fd);
    assert.equal(good(served.client.walk(root, ['d'], true)).fd, -1);
  });

  test('carries any bytes in names', () => {
    using served = serve();
    const root = rootOf(served.client);
    const name = '\x01\x7f\xff\xfe é\n';
    good(served.client.makeDirectory(root, name, { ...owner, mode: 0o755 }));
    assert.deepEqual(fs.readdirSync(served.path, 'latin1'), [name]);
    find(served.client, root, name);
  });

  for (const name of ['..', '.', '', 'a/b', '/', '/etc', 'a\0b', '\0'])
    test(`refuses the name ${JSON.stringify(name)} in every operation`, () => {
      using served = serve();
      const { client } = served;
      const root = rootOf(client);
      const file = good(client.create(root, 'file', 2, owner));
      host.close(file.fd);
      const device = [0, 0] as const;
      assert.equal(client.walk(root, [name]), -Errno.EINVAL);
      assert.equal(good(client.walk(root, ['file', name])).stopped, Errno.EINVAL);
      assert.equal(client.create(root, name, 2, owner), -Errno.EINVAL);
      assert.equal(client.makeDirectory(root, name, owner), -Errno.EINVAL);
      assert.equal(client.symlink(root, name, 'x', 0, 0), -Errno.EINVAL);
      assert.equal(client.makeNode(root, name, { ...owner, mode: 0o10644 }, ...device), -Errno.EINVAL);
      assert.equal(client.link(file.node, root, name), -Errno.EINVAL);
      assert.equal(client.unlink(root, name), -Errno.EINVAL);
      assert.equal(client.removeDirectory(root, name), -Errno.EINVAL);
      assert.equal(client.rename(root, 'file', root, name, 0), -Errno.EINVAL);
      assert.equal(client.rename(root, name, root, 'other', 0), -Errno.EINVAL);
      assert.deepEqual(fs.readdirSync(served.path), ['file']);
    });
});

describe('files', () => {
  test('are created with owner and mode, open, in one request', {
    skip: process.getuid?.() !== 0 && 'needs root',
  }, () => {
    using served = serve();
    const { client, path } = served;
    const root = rootOf(client);
    const made = good(client.create(root, 'f', 2, { mode: 0o6751, uid: 12, gid: 34 }));
    assert.equal(fs.writeSync(made.fd, 'abc'), 3);
    fs.closeSync(made.fd);
    const stat = fs.statSync(join(path, 'f'));
    assert.deepEqual([made.attributes.mode, made.attributes.uid, made.attributes.gid], [0o106751, 12, 34]);
    assert.deepEqual([stat.uid, stat.gid, stat.size], [12, 34, 3]);
    assert.equal(client.create(root, 'f', 2, owner), -Errno.EEXIST);
    const again = client.open(made.node, 0) as number;
    assert.equal(fs.readFileSync(again, 'utf8'), 'abc');
    fs.closeSync(again);
    const sticky = good(client.makeDirectory(root, 'd', { mode: 0o1777, uid: 5, gid: 6 }));
    assert.deepEqual([sticky.attributes.mode, sticky.attributes.uid], [0o41777, 5]);
    const link = good(client.symlink(root, 'l', 'to/where', 7, 8));
    assert.deepEqual([link.attributes.uid, link.attributes.gid], [7, 8]);
    assert.equal(client.readLink(link.node), 'to/where');
    assert.equal(client.readLink(root), -Errno.EINVAL);
  });

  test('are only opened if they are regular', () => {
    using served = serve();
    const { client, path } = served;
    const root = rootOf(client);
    const fifo = good(client.makeNode(root, 'fifo', { ...owner, mode: 0o10600 }, 0, 0));
    const socket = good(client.makeNode(root, 'socket', { ...owner, mode: 0o140600 }, 0, 0));
    const link = good(client.symlink(root, 'link', '/etc/passwd', owner.uid, owner.gid));
    assert.ok(fs.statSync(join(path, 'fifo')).isFIFO() && fs.statSync(join(path, 'socket')).isSocket());
    assert.equal(client.open(fifo.node, 0), -Errno.ENXIO);
    assert.equal(client.open(socket.node, 2), -Errno.ENXIO);
    assert.equal(client.open(link.node, 0), -Errno.ELOOP);
    assert.equal(client.open(root, 0), -Errno.EISDIR);
    assert.equal(client.open(root, 0o100), -Errno.EINVAL);
    assert.equal(client.open(4711, 0), -Errno.EBADF);
    assert.equal(client.makeNode(root, 'null', { ...owner, mode: 0o20666 }, 1, 3), -Errno.EPERM);
  });

  test('without a name get one by link, unless they were never to have one', () => {
    using served = serve();
    const { client, path } = served;
    const root = rootOf(client);
    const made = good(client.temporaryFile(root, 2, owner));
    fs.writeSync(made.fd, 'late');
    fs.closeSync(made.fd);
    assert.equal(made.attributes.nlink, 0);
    assert.equal(good(client.link(made.node, root, 'named')).nlink, 1);
    assert.equal(fs.readFileSync(join(path, 'named'), 'utf8'), 'late');
    const never = good(client.temporaryFile(root, 2 | 0o200, owner));
    fs.closeSync(never.fd);
    assert.equal(client.link(never.node, root, 'never'), -Errno.ENOENT);
  });

  test('change mode, size and times, also those of symbolic links', () => {
    using served = serve();
    const { client, path } = served;
    const root = rootOf(client);
    fs.writeFileSync(join(path, 'f'), 'content');
    const { node } = find(client, root, 'f');
    const changed = good(
      client.setAttributes(node, {
        mode: 0o4700,
        size: 3,
        atime: { sec: -2, nsec: 5 },
        mtime: { sec: 2 ** 33, nsec: 9 },
      }),
    );
    assert.deepEqual([changed.mode, changed.size], [0o104700, 3]);
    assert.deepEqual(
      [changed.atime, changed.mtime],
      [
        { sec: -2, nsec: 5 },
        { sec: 2 ** 33, nsec: 9 },
      ],
    );
    const before = Math.floor(Date.now() / 1000) - 1;
    assert.ok(good(client.setAttributes(node, { atime: 'now' })).atimeSec >= before);
    const link = good(client.symlink(root, 'l', 'f', owner.uid, owner.gid));
    assert.equal(good(client.setAttributes(link.node, { mtime: { sec: 1, nsec: 2 } })).mtimeSec, 1);
    assert.equal(client.setAttributes(link.node, { mode: 0o600 }), -Errno.EOPNOTSUPP);
    assert.equal(client.setAttributes(root, { size: 1 }), -Errno.EISDIR);
    assert.equal(client.setAttributes(node, { mode: 0o10000 }), -Errno.EINVAL);
    assert.equal(client.setAttributes(node, { atime: { sec: 0, nsec: 1e9 } }), -Errno.EINVAL);
  });

  test('are renamed with flags, linked and removed', () => {
    using served = serve();
    const { client, path } = served;
    const root = rootOf(client);
    for (const name of ['a', 'b']) fs.writeFileSync(join(path, name), name);
    assert.equal(client.rename(root, 'a', root, 'c', 0), 0);
    assert.equal(client.rename(root, 'c', root, 'a', 0), 0);
    assert.equal(client.rename(root, 'a', root, 'b', 1), -Errno.EEXIST);
    assert.equal(client.rename(root, 'a', root, 'b', 2), 0);
    assert.equal(fs.readFileSync(join(path, 'a'), 'utf8'), 'b');
    assert.equal(client.rename(root, 'a', root, 'b', 8), -Errno.EINVAL);
    const { node } = find(client, root, 'a');
    assert.equal(good(client.link(node, root, 'hard')).nlink, 2);
    assert.equal(client.unlink(root, 'a'), 0);
    assert.equal(good(client.getAttributes(node)).nlink, 1);
    assert.equal(client.removeDirectory(root, 'hard'), -Errno.ENOTDIR);
    fs.mkdirSync(join(path, 'd'));
    assert.equal(client.unlink(root, 'd'), -Errno.EISDIR);
    assert.equal(client.removeDirectory(root, 'd'), 0);
    assert.equal(client.sync(root, false), 0);
  });

  test('have the extended attributes that their root permits', () => {
    using served = serve(0, RootFlags.privilegedXattrs);
    const { client, path } = served;
    fs.writeFileSync(join(path, 'f'), '');
    const { node } = find(client, rootOf(client), 'f');
    const value = Buffer.alloc(3000, 7);
    assert.equal(client.setXattr(node, 'user.big', value, 1), 0);
    assert.equal(client.setXattr(node, 'user.big', value, 1), -Errno.EEXIST);
    assert.equal(client.setXattr(node, 'user.none', value, 2), -Errno.ENODATA);
    assert.deepEqual(client.getXattr(node, 'user.big'), new Uint8Array(value));
    assert.deepEqual(client.listXattr(node), ['user.big']);
    for (const name of [
      'trusted.x',
      'security.capability',
      'security.selinux',
      'system.posix_acl_access',
      'user.',
      'x',
    ])
      assert.equal(client.setXattr(node, name, value, 0), -Errno.EOPNOTSUPP, name);
    assert.equal(client.removeXattr(node, 'user.big'), 0);
    assert.equal(client.getXattr(node, 'user.big'), -Errno.ENODATA);
    assert.equal(client.setXattr(node, 'user.x', new Uint8Array(65537), 0), -Errno.E2BIG);
    if (process.getuid?.() !== 0) return;
    const privileged = find(client, rootOf(client, 1), 'f').node;
    assert.equal(client.setXattr(privileged, 'trusted.x', value, 0), 0);
    assert.deepEqual(client.listXattr(node), []);
    assert.deepEqual(client.listXattr(privileged), ['trusted.x']);
  });
});

describe('directories', () => {
  test('of thousands of entries are read in batches, whole and once, with attributes if asked', () => {
    using served = serve();
    const { client, path } = served;
    const root = rootOf(client);
    for (let i = 0; i < 3000; i++) fs.writeFileSync(join(path, `file-${i}`), 'x'.repeat(i % 7));
    for (const attributes of [false, true]) {
      const cursor = new DirectoryCursor();
      const seen = new Map<string, number>();
      let batches = 0;
      for (;;) {
        const entries = good(client.readDirectory(root, cursor, attributes));
        if (entries.length === 0) break;
        batches++;
        for (const entry of entries) {
          assert.ok(!seen.has(entry.name));
          assert.equal(entry.type, 8);
          seen.set(entry.name, entry.attributes?.size ?? -1);
        }
      }
      assert.equal(seen.size, 3000);
      assert.ok(batches > 1 && batches < (attributes ? 10 : 4));
      if (attributes) assert.equal(seen.get('file-13'), 6);
      cursor.rewind();
      assert.ok(good(client.readDirectory(root, cursor, false)).length > 0);
    }
    assert.equal(
      client.readDirectory(find(client, root, 'file-1').node, new DirectoryCursor(), true),
      -Errno.ENOTDIR,
    );
  });

  test('tell of their file system', () => {
    using served = serve();
    const told = good(served.client.statfs(rootOf(served.client)));
    const here = fs.statfsSync(served.path);
    assert.deepEqual([told.type, told.blockSize, told.blocks], [here.type, here.bsize, here.blocks]);
  });
});

describe('roots', () => {
  test('that are read-only refuse every change', () => {
    using served = serve(RootFlags.readOnly);
    const { client, path } = served;
    fs.writeFileSync(join(path, 'f'), 'text');
    const { node: root, flags } = good(client.attach(0));
    assert.equal(flags, RootFlags.readOnly);
    const { node } = find(client, root, 'f');
    const erofs = -Errno.EROFS;
    assert.equal(client.create(root, 'x', 2, owner), erofs);
    assert.equal(client.temporaryFile(root, 2, owner), erofs);
    assert.equal(client.makeDirectory(root, 'x', owner), erofs);
    assert.equal(client.symlink(root, 'x', 'y', 0, 0), erofs);
    assert.equal(client.makeNode(root, 'x', { ...owner, mode: 0o10600 }, 0, 0), erofs);
    assert.equal(client.link(node, root, 'x'), erofs);
    assert.equal(client.unlink(root, 'f'), erofs);
    assert.equal(client.rename(root, 'f', root, 'x', 0), erofs);
    assert.equal(client.setAttributes(node, { mode: 0 }), erofs);
    assert.equal(client.setXattr(node, 'user.x', new Uint8Array(1), 0), erofs);
    assert.equal(client.open(node, 1), erofs);
    assert.equal(client.open(node, 0o1000), erofs);
    const fd = client.open(node, 0) as number;
    assert.equal(fs.readFileSync(fd, 'utf8'), 'text');
    fs.closeSync(fd);
  });

  test('do not mix', () => {
    using served = serve(0, 0);
    const { client, path } = served;
    fs.writeFileSync(join(path, 'f'), '');
    const [one, two] = [rootOf(client, 0), rootOf(client, 1)];
    assert.equal(client.rename(one, 'f', two, 'g', 0), -Errno.EXDEV);
    assert.equal(client.link(find(client, one, 'f').node, two, 'g'), -Errno.EXDEV);
    assert.equal(client.attach(2), -Errno.ENOENT);
  });

  test('let nobody connect to host sockets unless they permit it', async () => {
    using served = serve(0, RootFlags.sockets);
    const { client, path } = served;
    const server = createServer((socket) => socket.on('error', () => {}).end('from the host'));
    server.listen(join(path, 'socket'));
    await once(server, 'listening');
    try {
      assert.equal(client.connect(find(client, rootOf(client, 0), 'socket').node, 1), -Errno.EACCES);
      const permitted = rootOf(client, 1);
      const fd = client.connect(find(client, permitted, 'socket').node, 1) as number;
      assert.ok(fd >= 0);
      await once(server, 'connection');
      fs.closeSync(fd);
      assert.equal(client.connect(permitted, 1), -Errno.ECONNREFUSED);
    } finally {
      server.close();
    }
  });
});

describe('nodes', () => {
  test('follow their file when the host moves it, and give no way to what is above', () => {
    using served = serve();
    const { client, path } = served;
    fs.mkdirSync(join(path, 'in/side'), { recursive: true });
    const root = rootOf(client);
    const side = find(client, root, 'in', 'side').node;
    fs.renameSync(join(path, 'in/side'), join(top, `moved-${trees}`));
    assert.equal(client.walk(side, ['..']), -Errno.EINVAL);
    assert.equal(client.walk(root, ['in', 'side']) instanceof Object, true);
    assert.equal(good(client.walk(root, ['in', 'side'])).stopped, Errno.ENOENT);
  });

  test('are bounded by the descriptors that there may be: ENFILE, and released ones come back', async () => {
    const { client, path } = serve();
    fs.writeFileSync(join(path, 'f'), '');
    const root = rootOf(client);
    // The test's Gofer has this process's hard limit, which may be high: a limit of its own.
    client.close();
    const [ours, theirs] = host.socketPair();
    const child = spawn('sh', ['-c', `ulimit -n 64; exec ${join(native, 'bulkhead-gofer')} 3 - 0=${path}`], {
      stdio: ['ignore', 'inherit', 'inherit', theirs],
    });
    host.close(theirs);
    const small = new GoferClient(host, ours);
    assert.equal(rootOf(small), root);
    const held: number[] = [];
    for (;;) {
      const walked = small.walk(root, ['f']);
      if (typeof walked === 'number') {
        assert.equal(walked, -Errno.ENFILE);
        break;
      }
      held.push(walked.found[0]?.node ?? -1);
    }
    assert.ok(held.length > 40);
    for (const node of held.splice(0, 10)) small.release(node);
    for (let i = 0; i < 9; i++) find(small, root, 'f');
    small.close();
    await once(child, 'exit');
  });

  test('that are released are gone, and their numbers are used again', () => {
    using served = serve();
    const { client, path } = served;
    fs.writeFileSync(join(path, 'f'), '');
    const root = rootOf(client);
    const { node } = find(client, root, 'f');
    client.release(node);
    assert.equal(client.getAttributes(node), -Errno.EBADF);
    assert.equal(find(client, root, 'f').node, node);
  });
});

test('a Gofer that is gone gives EIO, and ends when its Sentry does', async () => {
  const served = serve();
  const root = rootOf(served.client);
  assert.equal(served.client.gone, false);
  served.client.close();
  assert.deepEqual(await served.ended, [0, null]);
  assert.equal(served.client.getAttributes(root), -Errno.EIO);
  assert.equal(served.client.gone, true);
});

describe('in its jail', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  test('it serves directories and single files, and has nothing else', async () => {
    const path = join(top, `tree-${trees++}`);
    fs.mkdirSync(join(path, 'sub'), { recursive: true });
    fs.writeFileSync(join(path, 'sub/file'), 'text');
    const [ours, theirs] = host.socketPair();
    const { pid } = await startGofer({
      launcher: join(native, 'bulkhead-launcher'),
      gofer: join(native, 'bulkhead-gofer'),
      userNamespace: identityNamespace(),
      roots: [{ path }, { path: '/etc', readOnly: true }, { path: join(path, 'sub/file') }],
      socket: theirs,
    });
    host.close(theirs);
    const client = new GoferClient(host, ours);
    try {
      const root = rootOf(client);
      const made = good(client.create(root, 'new', 2, { mode: 0o4711, uid: 1234, gid: 4321 }));
      fs.closeSync(made.fd);
      assert.deepEqual([fs.statSync(join(path, 'new')).uid, made.attributes.mode], [1234, 0o104711]);
      assert.equal(client.create(rootOf(client, 1), 'x', 2, owner), -Errno.EROFS);
      const fd = client.open(rootOf(client, 2), 2) as number;
      assert.equal(fs.readFileSync(fd, 'utf8'), 'text');
      fs.closeSync(fd);
      assert.deepEqual(fs.readdirSync(`/proc/${pid}/root`).sort(), ['0', '1', '2']);
      const status = fs.readFileSync(`/proc/${pid}/status`, 'latin1');
      assert.match(status, /^CapEff:\t000000000000001b$/m);
      assert.match(status, /^CapBnd:\t000000000000001b$/m);
      assert.match(status, /^NoNewPrivs:\t1\nSeccomp:\t2$/m);
      for (const namespace of ['user', 'pid', 'net', 'ipc', 'uts', 'mnt'])
        assert.notEqual(
          fs.readlinkSync(`/proc/${pid}/ns/${namespace}`),
          fs.readlinkSync(`/proc/self/ns/${namespace}`),
        );
      // Of /proc it has the directory of its own descriptors, as the top of a mount: nothing is above it.
      assert.match(fs.readdirSync(`/proc/${pid}/cwd`).join(' '), /^[\d ]+$/);
      assert.equal(fs.statSync(`/proc/${pid}/cwd/../..`).ino, fs.statSync(`/proc/${pid}/cwd`).ino);
    } finally {
      client.close();
    }
  });
});
