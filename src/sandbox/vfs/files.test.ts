import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../abi/errno.ts';
import { Fcntl, MemoryFileFlag, Seal } from '../abi/file.ts';
import { OpenFlag } from '../abi/open.ts';
import { BLOCKED } from '../kernel/contract.ts';
import { Protection } from '../platform/contract.ts';
import { endExecution, openExecutable } from './open.ts';
import { describePath } from './path.ts';
import { createTestTree, type TestTask } from './testing/tree.ts';
import { Lookup } from './walk.ts';

function openFile(task: TestTask, path: string): number {
  return task.call('open', path, OpenFlag.create | OpenFlag.readWrite, 0o644);
}

function pipe(task: TestTask, flags = 0): readonly [number, number] {
  const ends = new Uint8Array(8);
  assert.equal(task.call('pipe2', ends, flags), 0);
  const view = new DataView(ends.buffer);
  return [view.getInt32(0, true), view.getInt32(4, true)];
}

test('descriptors are the lowest free numbers, up to RLIMIT_NOFILE, and nothing is made without one', () => {
  const task = createTestTree().task();
  for (let fd = 0; fd < 70; fd++) assert.equal(openFile(task, '/f'), fd);
  task.call('close', 3);
  task.call('close', 66);
  assert.equal(task.call('dup', 0), 3);
  assert.equal(task.call('fcntl', 0, Fcntl.dupFd, 40), 66);
  task.limits.set(7, 70);
  assert.equal(task.call('open', '/new', OpenFlag.create | OpenFlag.readWrite, 0o644), -Errno.EMFILE);
  assert.equal(task.call('access', '/new', 0), -Errno.ENOENT);
  assert.equal(task.call('dup2', 0, 70), -Errno.EBADF);
  assert.equal(task.call('fcntl', 0, Fcntl.dupFd, 70), -Errno.EINVAL);
  assert.equal(task.call('close_range', 10, 0xffff_ffff, 0), 0);
  assert.equal(openFile(task, '/f'), 10);
});

test('exec closes what is marked, a copied table is its own', () => {
  const task = createTestTree().task();
  const kept = openFile(task, '/f');
  const closed = task.call('open', '/f', OpenFlag.closeOnExec);
  const copy = task.files.fork();
  task.files.closeForExec(task.task);
  assert.notEqual(task.files.get(kept), undefined);
  assert.equal(task.files.get(closed), undefined);
  assert.notEqual(copy.get(closed), undefined);
});

test('a blocking write to a pipe goes on until all is written, and gives its count when a signal ends it', () => {
  const task = createTestTree().task();
  const [reader, writer] = pipe(task);
  const data = new Uint8Array(100_000).fill(1);
  assert.equal(task.call('write', writer, data, data.length), BLOCKED);
  const other = createTestTree().task();
  other.files = task.files;
  const buffer = new Uint8Array(50_000);
  assert.equal(other.call('read', reader, buffer, buffer.length), 50_000);
  assert.equal(task.retry(), 100_000);
  assert.equal(task.call('write', writer, data, data.length), BLOCKED);
  assert.ok(task.interrupt() > 0);
});

test('a write beyond RLIMIT_FSIZE is cut short, then refused with SIGXFSZ', () => {
  const task = createTestTree().task();
  const fd = openFile(task, '/f');
  task.limits.set(1, 10);
  assert.equal(task.call('write', fd, new Uint8Array(20), 20), 10);
  assert.equal(task.call('write', fd, new Uint8Array(20), 20), -Errno.EFBIG);
  assert.equal(task.call('ftruncate', fd, 11), -Errno.EFBIG);
  assert.deepEqual(task.signals, [25, 25]);
});

test('a memory file has no name, keeps its bytes when it is mapped, and obeys its seals', () => {
  const task = createTestTree().task();
  const fd = task.call('memfd_create', 'x', MemoryFileFlag.allowSealing);
  const file = task.files.get(fd);
  assert.ok(file?.path);
  assert.equal(describePath(file.path, task.fs.root), '/memfd:x (deleted)');
  task.call('write', fd, Buffer.from('hello'), 5);
  const host = file.mappable(task.task, Protection.read, true);
  assert.ok(host >= 0);
  const bytes = new Uint8Array(5);
  assert.equal(task.kernel.host.pread(host, bytes, 0, 5, 0), 5);
  assert.equal(Buffer.from(bytes).toString(), 'hello');
  assert.equal(task.call('fcntl', fd, Fcntl.addSeals, Seal.shrink | Seal.grow), 0);
  assert.equal(task.call('ftruncate', fd, 4), -Errno.EPERM);
  assert.equal(task.call('ftruncate', fd, 6), -Errno.EPERM);
  assert.equal(task.call('pwrite64', fd, Buffer.from('HE'), 2, 0), 2);
  assert.equal(task.call('pwrite64', fd, Buffer.from('abc'), 3, 4), 1);
  Object.assign(task.kernel, { rootPidNamespace: { processes: () => [] } });
  assert.equal(task.call('fcntl', fd, Fcntl.addSeals, Seal.write | Seal.seal), 0);
  assert.equal(task.call('pwrite64', fd, Buffer.from('x'), 1, 0), -Errno.EPERM);
  assert.equal(file.mappable(task.task, Protection.write, true), -Errno.EPERM);
  assert.equal(task.call('fcntl', fd, Fcntl.addSeals, Seal.exec), -Errno.EPERM);
  const unsealable = task.call('memfd_create', 'y', 0);
  assert.equal(task.call('fcntl', unsealable, Fcntl.getSeals, 0), Seal.seal);
});

test('the host gets back the memory of a file when its last name and its last user are gone', () => {
  const whole = createTestTree();
  const task = whole.task();
  const before = whole.kernel.host.files.size;
  const fd = openFile(task, '/big');
  const data = new Uint8Array(200_000);
  task.call('write', fd, data, data.length);
  assert.equal(whole.kernel.host.files.size, before + 1);
  task.call('unlink', '/big');
  assert.equal(whole.kernel.host.files.size, before + 1);
  task.call('close', fd);
  assert.equal(whole.kernel.host.files.size, before);
  const statfs = whole.root.statfs();
  assert.equal(statfs.blocksFree, statfs.blocks);
  assert.equal(statfs.filesFree, statfs.files - 1);
});

test('O_TMPFILE makes a file that can get a name, unless it is exclusive', () => {
  const task = createTestTree().task();
  const fd = task.call('open', '/', OpenFlag.temporaryFile | OpenFlag.readWrite, 0o600);
  task.call('write', fd, Buffer.from('x'), 1);
  assert.equal(task.call('linkat', fd, '', -100, '/named', 0x1000), 0);
  assert.equal(task.call('access', '/named', 0), 0);
  const other = task.call(
    'open',
    '/',
    OpenFlag.temporaryFile | OpenFlag.readWrite | OpenFlag.exclusive,
    0o600,
  );
  assert.equal(task.call('linkat', other, '', -100, '/other', 0x1000), -Errno.ENOENT);
});

test('who reads a directory piece by piece sees each name that stays exactly once, whatever comes and goes', () => {
  const task = createTestTree().task();
  task.call('mkdir', '/d', 0o755);
  for (let i = 0; i < 200; i++) task.call('mknod', `/d/stays${i}`, 0o100644, 0);
  for (let i = 0; i < 200; i++) task.call('mknod', `/d/goes${i}`, 0o100644, 0);
  const fd = task.call('open', '/d', OpenFlag.directory);
  const seen: string[] = [];
  const buffer = new Uint8Array(256);
  for (let round = 0; ; round++) {
    const length = task.call('getdents64', fd, buffer, buffer.length);
    assert.ok(length >= 0);
    if (length === 0) break;
    const view = new DataView(buffer.buffer);
    for (let at = 0; at < length; at += view.getUint16(at + 16, true)) {
      const end = buffer.indexOf(0, at + 19);
      seen.push(Buffer.from(buffer.subarray(at + 19, end)).toString());
    }
    for (let i = 0; i < 3; i++) {
      task.call('unlink', `/d/goes${round * 3 + i}`);
      task.call('mknod', `/d/new${round * 3 + i}`, 0o100644, 0);
    }
    // telldir and seekdir.
    const here = task.call('lseek', fd, 0, 1);
    task.call('lseek', fd, 0, 0);
    assert.equal(task.call('lseek', fd, here, 0), here);
  }
  const stays = seen.filter((name) => name.startsWith('stays'));
  assert.equal(stays.length, 200);
  assert.equal(new Set(seen).size, seen.length);
});

test('a program that is executed cannot be written, and what is written cannot be executed', () => {
  const task = createTestTree().task();
  const fd = openFile(task, '/program');
  task.call('fchmod', fd, 0o755);
  assert.equal(openExecutable(task.task, -100, '/program', Lookup.follow), -Errno.ETXTBSY);
  task.call('close', fd);
  const file = openExecutable(task.task, -100, '/program', Lookup.follow);
  assert.ok(typeof file !== 'number');
  assert.equal(task.call('open', '/program', OpenFlag.writeOnly), -Errno.ETXTBSY);
  assert.equal(task.call('truncate', '/program', 0), -Errno.ETXTBSY);
  endExecution(file);
  assert.ok(task.call('open', '/program', OpenFlag.writeOnly) >= 0);
});

test('splice and sendfile move bytes between files and pipes', () => {
  const task = createTestTree().task();
  const fd = openFile(task, '/from');
  const data = Buffer.alloc(10_000, 'abcdefg');
  task.call('write', fd, data, data.length);
  const [reader, writer] = pipe(task);
  const offset = new Uint8Array(8);
  assert.equal(task.call('splice', fd, offset, writer, 0, 8192, 0), 8192);
  assert.equal(new DataView(offset.buffer).getUint32(0, true), 8192);
  const to = openFile(task, '/to');
  assert.equal(task.call('splice', reader, 0, to, 0, 100_000, 0), 8192);
  assert.equal(task.call('sendfile', to, fd, offset, 100_000), 10_000 - 8192);
  const back = new Uint8Array(20_000);
  assert.equal(task.call('pread64', to, back, back.length, 0), 10_000);
  assert.deepEqual(Buffer.from(back.subarray(0, 10_000)), data);
  assert.equal(task.call('splice', fd, 0, to, 0, 10, 0), -Errno.EINVAL);
  assert.equal(task.call('splice', reader, offset, to, 0, 10, 0), -Errno.ESPIPE);
});

test('bytes stay what they are when a file grows out of the small array, with its holes', () => {
  const task = createTestTree().task();
  const fd = openFile(task, '/f');
  task.call('pwrite64', fd, Buffer.from('begin'), 5, 8192);
  task.call('pwrite64', fd, Buffer.from('end'), 3, 1_000_000);
  const stat = new Uint8Array(144);
  task.call('fstat', fd, stat);
  assert.equal(new DataView(stat.buffer).getUint32(64, true), 16);
  assert.equal(task.call('lseek', fd, 0, 3), 8192);
  assert.equal(task.call('lseek', fd, 8192, 4), 12_288);
  assert.equal(task.call('lseek', fd, 12_288, 3), 999_424);
  const back = new Uint8Array(8);
  assert.equal(task.call('pread64', fd, back, 8, 8190), 8);
  assert.equal(Buffer.from(back).toString('latin1'), '\0\0begin\0');
});
