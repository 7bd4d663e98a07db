import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { At } from '../../abi/file.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import { RootFlags } from '../../gofer/protocol.ts';
import type { FileDescription } from '../file-description.ts';
import { FileSystemContext } from '../fs-context.ts';
import type { Inode } from '../inode.ts';
import { PipeEnd } from '../pipe/pipe-end.ts';
import { FakeGofer } from '../testing/fake-gofer.ts';
import { FakeTask, fakeCredentials, fakePath } from '../testing/fake-task.ts';
import { Vfs } from '../vfs.ts';
import { resolvePath } from '../walk.ts';
import { GoferFileSystem } from './file-system.ts';
import type { GoferInode } from './inode.ts';

function mounted(exclusive = true, idleDescriptors = 512, rootFlags = 0) {
  const task = new FakeTask();
  const gofer = new FakeGofer(task.kernel.host);
  gofer.rootFlags = rootFlags;
  const options = { exclusive, idleDescriptors };
  const fileSystem = GoferFileSystem.attach(task.task.kernel, gofer.client, 0, options);
  assert(typeof fileSystem !== 'number');
  gofer.calls.length = 0;
  return { task, gofer, fileSystem, root: fileSystem.root };
}

function found(inode: Inode | number): GoferInode {
  assert(typeof inode !== 'number', `errno ${inode}`);
  return inode as GoferInode;
}

function opened(task: FakeTask, inode: Inode, flags: number): FileDescription {
  const file = inode.open(task.task, fakePath(inode), flags);
  assert(typeof file !== 'number', `errno ${file}`);
  return file;
}

function size(inode: Inode): number {
  const stat = inode.stat();
  assert(typeof stat !== 'number');
  return stat.size;
}

test('a file that is opened again costs no message, and its bytes never pass through the Gofer', () => {
  const { task, gofer, root } = mounted();
  gofer.put('etc/hosts', 'localhost');
  const file = found(found(root.lookup('etc', task.task)).lookup('hosts', task.task)).acquire();
  const first = opened(task, file, OpenFlag.readOnly);
  assert.equal(task.read(first, 100), 'localhost');
  assert.equal(task.read(first, 100), '');
  first.unreference();
  const before = gofer.calls.length;
  const second = opened(task, file, OpenFlag.readOnly);
  assert.equal(task.read(second, 5, 4), 'lhost');
  assert.equal(size(file), 9);
  second.unreference();
  assert.deepEqual(gofer.calls.slice(before), []);
});

test('writes move the size at once, append goes to the end, and truncation forgets it', () => {
  const { task, gofer, root } = mounted();
  const file = found(root.create('log', FileType.regular | 0o644, 0, fakeCredentials())).acquire();
  const writer = opened(task, file, OpenFlag.readWrite);
  const appender = opened(task, file, OpenFlag.writeOnly | OpenFlag.append);
  assert.equal(task.write(writer, 'one'), 3);
  assert.equal(task.write(appender, 'two'), 3);
  assert.equal(task.write(appender, 'three', 0), 5);
  assert.equal(writer.seek(task.task, 0, 2), 11);
  assert.equal(task.read(writer, 20, 0), 'onetwothree');
  opened(task, file, OpenFlag.writeOnly | OpenFlag.truncate).unreference();
  assert.equal(size(file), 0);
  assert.deepEqual(gofer.calls, ['create']);
});

test('RLIMIT_FSIZE cuts a write short and then sends SIGXFSZ', () => {
  const { task, root } = mounted();
  const file = found(root.create('big', FileType.regular | 0o644, 0, fakeCredentials()));
  const writer = opened(task, file, OpenFlag.writeOnly);
  task.fileSizeLimit = 5;
  assert.equal(task.write(writer, '12345678'), 5);
  assert.equal(task.write(writer, '9'), -Errno.EFBIG);
  assert.equal(task.signals[0]?.signal, 25);
});

test('hard links are one inode, and the second node is let go', () => {
  const { task, gofer, root } = mounted();
  const file = found(root.create('a', FileType.regular | 0o644, 0, fakeCredentials()));
  assert.equal(root.link('b', file), 0);
  const nodes = gofer.nodes.size;
  assert.equal(found(root.lookup('b', task.task)), file);
  assert.equal(gofer.nodes.size, nodes);
  const stat = file.stat();
  assert(typeof stat !== 'number');
  assert.equal(stat.nlink, 2);
});

test('a file without a name lives on while it is open', () => {
  const { task, gofer, fileSystem, root } = mounted();
  const file = found(root.create('gone', FileType.regular | 0o600, 0, fakeCredentials())).acquire();
  const open = opened(task, file, OpenFlag.readWrite);
  assert.equal(root.unlink('gone', file), 0);
  assert.equal(task.write(open, 'still here'), 10);
  assert.equal(task.read(open, 10, 0), 'still here');
  const nodes = gofer.nodes.size;
  const descriptors = task.kernel.host.files.size;
  open.unreference();
  file.release();
  assert.equal(gofer.nodes.size, nodes - 1);
  assert.equal(task.kernel.host.files.size, descriptors - 1);
  assert.equal(fileSystem.size, 1);
});

test('idle descriptors are bounded, those in use are not closed', () => {
  const { task, gofer, fileSystem, root } = mounted(true, 2);
  for (const name of ['a', 'b', 'c', 'd']) gofer.put(name, name);
  const before = task.kernel.host.files.size;
  const held = opened(task, found(root.lookup('a', task.task)), OpenFlag.readOnly);
  for (const name of ['b', 'c', 'd'])
    opened(task, found(root.lookup(name, task.task)).acquire(), OpenFlag.readOnly).unreference();
  assert.equal(fileSystem.descriptors.size, 2);
  assert.equal(task.kernel.host.files.size, before + 3);
  assert.equal(task.read(held, 5), 'a');
});

test('a directory keeps its listing for a pass, shows changes in the next, and positions stay', () => {
  const { task, gofer, root } = mounted();
  for (const name of ['x', 'y', 'z']) gofer.put(name, '');
  const directory = opened(task, root, OpenFlag.readOnly | OpenFlag.directory);
  const names = (limit = 100): string[] => {
    const list: string[] = [];
    const result = directory.readDirectory(task.task, (entry) => {
      if (list.length === limit) return false;
      list.push(entry.name);
      return true;
    });
    assert.equal(result, 0);
    return list;
  };
  assert.deepEqual(names(3), ['.', '..', 'x']);
  root.unlink('x', found(root.lookup('x', task.task)));
  assert.deepEqual(names(), ['y', 'z']);
  directory.seek(task.task, 0, 0);
  assert.deepEqual(names(), ['.', '..', 'y', 'z']);
  directory.seek(task.task, 3, 0);
  assert.deepEqual(names(), ['z']);
  directory.seek(task.task, 0, 0);
  const before = gofer.calls.length;
  names();
  assert.equal(gofer.calls.length, before);
});

test('shared mode sees what others change, 10 ms later at most: names, missing names, sizes, replaced files', () => {
  const { task, gofer, root } = mounted(false);
  const later = (): void => task.kernel.host.advance(10_000_000);
  gofer.put('conf', 'old');
  const old = found(root.lookup('conf', task.task));
  assert.equal(root.revalidate('conf', old, task.task), true);
  gofer.put('conf', 'newer');
  assert.equal(root.revalidate('conf', old, task.task), true);
  later();
  assert.equal(root.revalidate('conf', old, task.task), false);
  const fresh = found(root.lookup('conf', task.task));
  assert.notEqual(fresh, old);
  assert.equal(size(fresh), 5);
  assert.equal(root.revalidate('missing', undefined, task.task), true);
  gofer.put('missing', '');
  later();
  assert.equal(root.revalidate('missing', undefined, task.task), false);
  const entry = gofer.put('grow', '1');
  const grow = found(root.lookup('grow', task.task));
  task.kernel.host.pwrite(entry.content, Buffer.from('234'), 0, 3, 1);
  later();
  assert.equal(size(grow), 4);
});

test('a lookup ahead asks once for a whole path and for what is missing in it', () => {
  const { task, gofer, root } = mounted();
  gofer.put('usr/lib/x', '');
  root.prefetch(['usr', 'lib', 'nothing']);
  const usr = found(root.lookup('usr', task.task)).acquire();
  const lib = found(usr.lookup('lib', task.task)).acquire();
  assert.equal(lib.lookup('nothing', task.task), -Errno.ENOENT);
  assert.deepEqual(gofer.calls, ['walk usr/lib/nothing']);
  found(lib.create('nothing', FileType.regular | 0o644, 0, fakeCredentials()));
  found(lib.lookup('nothing', task.task));
});

test('walking a path that is not known yet is one message, and none the second time', () => {
  const { task, gofer, fileSystem } = mounted();
  gofer.put('usr/lib/python/os.py', '');
  const namespace = task.task.kernel.part(Vfs).namespace(fileSystem, 'none');
  const walker = Object.assign(task, { fs: new FileSystemContext(namespace.root) }).task;
  for (const path of ['/usr/lib/python/os.py', '/usr/lib/python/os.py']) {
    const place = resolvePath(walker, At.cwd, path, 0);
    assert(typeof place !== 'number');
    assert.equal(place.dentry.name, 'os.py');
  }
  assert.equal(resolvePath(walker, At.cwd, '/usr/lib/perl/x', 0), -Errno.ENOENT);
  assert.deepEqual(gofer.calls, ['walk usr/lib/python/os.py', 'walk perl/x']);
});

test('special files are the sandbox’s own', () => {
  const { task, gofer, root } = mounted();
  const fifo = found(root.create('fifo', FileType.fifo | 0o644, 0, fakeCredentials()));
  const end = opened(task, fifo, OpenFlag.readWrite);
  assert(end instanceof PipeEnd);
  assert.equal(task.write(end, 'x'), 1);
  const written = fifo.stat();
  assert(typeof written !== 'number');
  assert.equal(written.mtime.sec, task.kernel.host.wall.sec);
  const socket = found(root.create('socket', FileType.socket | 0o644, 0, fakeCredentials()));
  assert.equal(socket.open(task.task, fakePath(socket), 0), -Errno.ENXIO);
  assert.equal(socket.connectHost(1), -Errno.ECONNREFUSED);
  const device = found(root.create('null', FileType.character | 0o666, 0x103, fakeCredentials()));
  assert.equal(task.write(opened(task, device, OpenFlag.writeOnly), 'abc'), 3);
  assert(!gofer.calls.some((call) => call.startsWith('open')));
});

test('new files inherit the group of a set-group-ID directory', () => {
  const { root } = mounted();
  root.setAttributes({ mode: 0o2775, gid: 50 }, fakeCredentials());
  const owner = fakeCredentials(1000);
  const file = found(root.create('f', FileType.regular | 0o2755, 0, owner));
  assert.deepEqual([file.uid, file.gid, file.mode], [1000, 50, 0o102755]);
  const directory = found(root.makeDirectory('d', 0o755, owner));
  assert.deepEqual([directory.gid, directory.mode], [50, 0o042755]);
});

test('a read-only root refuses to write files, directories and links, but not its devices', () => {
  const { task, gofer, root } = mounted(true, 512, RootFlags.readOnly);
  gofer.put('dev', undefined, FileType.character | 0o666);
  assert.equal(root.permission(2, task.task), -Errno.EROFS);
  assert.equal(root.permission(4, task.task), undefined);
  assert.equal(found(root.lookup('dev', task.task)).permission(2, task.task), undefined);
});

test('fsync goes on without the kernel, and its file stays open meanwhile', () => {
  const { task, root } = mounted();
  const file = found(root.create('f', FileType.regular | 0o644, 0, fakeCredentials()));
  const open = opened(task, file, OpenFlag.readWrite);
  let finish: ((result: number) => void) | undefined;
  task.kernel.host.fsyncLater = (_fd, _dataOnly, done) => {
    finish = done;
  };
  assert.equal(open.sync(task.task, false, 77), -0x1_0000);
  open.unreference();
  assert.equal(open.references, 1);
  assert.equal(task.blocked?.retry(), -0x1_0000);
  finish?.(0);
  assert.equal(task.blocked?.retry(), 77);
  assert.equal(open.references, 0);
});
