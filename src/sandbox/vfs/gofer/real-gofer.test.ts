// The file system on a real Gofer that serves a real directory.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import { GoferClient } from '../../gofer/client.ts';
import { RootFlags } from '../../gofer/protocol.ts';
import { loadAddon } from '../../host/addon.ts';
import { NativeHost } from '../../host/native.ts';
import type { FakeHost } from '../../testing/fake-host.ts';
import { loadRawCalls, RawHost } from '../../testing/raw-calls.ts';
import type { FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import { BufferIo } from '../io.ts';
import { FakeKernel, FakeTask, fakeCredentials, fakePath } from '../testing/fake-task.ts';
import { GoferFileSystem } from './file-system.ts';
import type { GoferInode } from './inode.ts';

const program = fileURLToPath(new URL('../../../../build/native/bulkhead-gofer', import.meta.url));
const sockets = new RawHost(loadRawCalls());
const host = new NativeHost(loadAddon());
const top = fs.mkdtempSync(join(tmpdir(), 'gofer-fs-'));
after(() => fs.rmSync(top, { recursive: true }));
const owner = fakeCredentials(process.getuid?.() ?? 0);
let trees = 0;

function serve(exclusive: boolean, flags = 0) {
  const path = join(top, `tree-${trees++}`);
  fs.mkdirSync(path);
  const [ours, theirs] = sockets.socketPair();
  const child = spawn(program, ['3', '-', `${flags}=${path}`], {
    stdio: ['ignore', 'inherit', 'inherit', theirs],
  });
  sockets.close(theirs);
  const client = new GoferClient(host, ours);
  const task = new FakeTask(new FakeKernel(host as unknown as FakeHost));
  const attach = (): GoferFileSystem => {
    const fileSystem = GoferFileSystem.attach(task.task.kernel, client, 0, {
      exclusive,
      idleDescriptors: 16,
    });
    assert(typeof fileSystem !== 'number');
    return fileSystem;
  };
  const close = async (): Promise<void> => {
    client.close();
    await once(child, 'exit');
  };
  return { path, task, attach, close };
}

function found(inode: Inode | number): GoferInode {
  assert(typeof inode !== 'number', `errno ${inode}`);
  return (inode as GoferInode).acquire();
}

function opened(task: FakeTask, inode: Inode, flags: number): FileDescription {
  const file = inode.open(task.task, fakePath(inode), flags);
  assert(typeof file !== 'number', `errno ${file}`);
  return file;
}

function write(task: FakeTask, file: FileDescription, text: string, position?: number): number {
  return file.write(task.task, new BufferIo(host, Buffer.from(text)), position);
}

function read(task: FakeTask, file: FileDescription, length: number, position?: number): string | number {
  const io = new BufferIo(host, new Uint8Array(length));
  const count = file.read(task.task, io, position);
  return count < 0 ? count : Buffer.from(io.bytes.subarray(0, count)).toString('latin1');
}

test('files are made, written, read, renamed, linked and removed as the host sees it', async () => {
  const { path, task, attach, close } = serve(true);
  const { root } = attach();
  const directory = found(root.makeDirectory('d', 0o750, owner));
  const file = found(directory.create('f', FileType.regular | 0o640, 0, owner));
  const open = opened(task, file, OpenFlag.readWrite);
  assert.equal(write(task, open, 'hello, host'), 11);
  assert.equal(fs.readFileSync(join(path, 'd/f'), 'utf8'), 'hello, host');
  assert.equal(fs.statSync(join(path, 'd/f')).mode & 0o777, 0o640);
  assert.equal(root.link('g', file), 0);
  assert.equal(directory.rename('f', file, root, 'h', undefined, 0), 0);
  assert.deepEqual(fs.readdirSync(path).sort(), ['d', 'g', 'h']);
  const stat = file.stat();
  assert(typeof stat === 'object');
  assert.deepEqual([stat.nlink, stat.size], [2, 11]);
  assert.equal(root.unlink('g', file), 0);
  assert.equal(root.unlink('h', file), 0);
  assert.equal(read(task, open, 100, 7), 'host');
  assert.equal(open.truncate(task.task, 5), 0);
  assert.equal(open.seek(task.task, 0, Seek.end), 5);
  const gone = file.stat();
  assert(typeof gone === 'object');
  assert.equal(gone.nlink, 0);
  const link = found(root.symlink('s', 'some/where', owner));
  assert.equal(link.readLink(task.task), 'some/where');
  assert.equal(fs.readlinkSync(join(path, 's')), 'some/where');
  assert.equal(root.removeDirectory('d', directory), 0);
  assert.equal(found(root).lookup('d', task.task), -Errno.ENOENT);
  await close();
});

test('holes are found, space is reserved, attributes are set', async () => {
  const { task, attach, close } = serve(true);
  const { root } = attach();
  const file = found(root.create('sparse', FileType.regular | 0o600, 0, owner));
  const open = opened(task, file, OpenFlag.readWrite);
  write(task, open, 'x', 1 << 20);
  assert.equal(open.seek(task.task, 0, Seek.data), 1 << 20);
  assert.equal(open.seek(task.task, 1 << 20, Seek.hole), (1 << 20) + 1);
  assert.equal(open.seek(task.task, 2 << 20, Seek.data), -Errno.ENXIO);
  assert.equal(open.allocate(task.task, 0, 0, 2 << 20), 0);
  assert.equal(open.seek(task.task, 0, Seek.end), 2 << 20);
  assert.equal(file.setAttributes({ mode: 0o4755, mtime: { sec: 1000, nsec: 5 } }, owner), 0);
  const stat = file.stat();
  assert(typeof stat === 'object');
  assert.deepEqual([stat.mode, stat.mtime], [FileType.regular | 0o4755, { sec: 1000, nsec: 5 }]);
  assert.equal(file.setXattr('user.color', Buffer.from('red'), 0), 0);
  assert.equal(Buffer.from(file.getXattr('user.color') as Uint8Array).toString(), 'red');
  assert.deepEqual(file.listXattr(), ['user.color']);
  await close();
});

test('a directory of 3,000 files is listed whole, and walking it leaves few descriptors', async () => {
  const { path, task, attach, close } = serve(true);
  for (let i = 0; i < 3000; i++) fs.writeFileSync(join(path, `file-${i}`), String(i));
  const fileSystem = attach();
  const directory = opened(task, fileSystem.root, OpenFlag.directory);
  const names = new Set<string>();
  assert.equal(
    directory.readDirectory(task.task, ({ name }) => names.add(name).size > 0),
    0,
  );
  assert.equal(names.size, 3002);
  const before = fs.readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 3000; i++) {
    const inode = found(fileSystem.root.lookup(`file-${i}`, task.task));
    const open = opened(task, inode, OpenFlag.readOnly);
    assert.equal(read(task, open, 10), String(i));
    open.unreference();
  }
  assert(fs.readdirSync('/proc/self/fd').length <= before + 16);
  await close();
});

test('a shared tree shows what the host does to it, and appends go behind what others appended', async () => {
  const { path, task, attach, close } = serve(false);
  fs.writeFileSync(join(path, 'log'), 'one\n');
  const { root } = attach();
  const file = found(root.lookup('log', task.task));
  const open = opened(task, file, OpenFlag.readWrite | OpenFlag.append);
  fs.appendFileSync(join(path, 'log'), 'two\n');
  assert.equal(write(task, open, 'three\n'), 6);
  assert.equal(open.position, 14);
  assert.equal(fs.readFileSync(join(path, 'log'), 'utf8'), 'one\ntwo\nthree\n');
  fs.renameSync(join(path, 'log'), join(path, 'old'));
  fs.writeFileSync(join(path, 'log'), 'new');
  assert.equal(root.revalidate('log', file, task.task), false);
  assert.notEqual(found(root.lookup('log', task.task)), file);
  assert.equal(found(root.lookup('old', task.task)), file);
  await close();
});

test('a read-only root is not written, whatever is tried', async () => {
  const { path, task, attach, close } = serve(true, RootFlags.readOnly);
  fs.writeFileSync(join(path, 'f'), 'x');
  const { root } = attach();
  const file = found(root.lookup('f', task.task));
  assert.equal(file.open(task.task, fakePath(file), OpenFlag.readWrite), -Errno.EROFS);
  assert.equal(root.create('g', FileType.regular | 0o644, 0, owner), -Errno.EROFS);
  assert.equal(root.unlink('f', file), -Errno.EROFS);
  assert.equal(file.setAttributes({ mode: 0o600 }, owner), -Errno.EROFS);
  await close();
});
