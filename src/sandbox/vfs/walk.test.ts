import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../abi/errno.ts';
import { Resolve } from '../abi/file.ts';
import { OpenFlag } from '../abi/open.ts';
import { DentryCache } from './dentry.ts';
import { describePath, pathText } from './path.ts';
import { fakeCredentials } from './testing/fake-task.ts';
import { createTestTree, type TestTask } from './testing/tree.ts';

function openat2(task: TestTask, dirfd: number, path: string, resolve: number, flags = 0): number {
  const how = new BigUint64Array([BigInt(flags), 0n, BigInt(resolve)]);
  return task.call('openat2', dirfd, path, new Uint8Array(how.buffer), 24);
}

function tree(): TestTask {
  const task = createTestTree().task();
  for (const path of ['/a', '/a/b', '/a/b/c', '/m']) assert.equal(task.call('mkdir', path, 0o755), 0);
  task.call('close', task.call('creat', '/a/b/f', 0o644));
  task.call('symlink', '/a/b', '/a/absolute');
  task.call('symlink', 'b', '/a/relative');
  task.call('symlink', '../a', '/a/up');
  return task;
}

test('RESOLVE_BENEATH keeps a walk below its start, whichever way out it tries', () => {
  const task = tree();
  const start = task.call('open', '/a', OpenFlag.directory);
  assert.ok(openat2(task, start, 'b/f', Resolve.beneath) >= 0);
  assert.ok(openat2(task, start, 'relative/../b/f', Resolve.beneath) >= 0);
  for (const path of ['..', '../a/b/f', '/a/b/f', 'absolute/f', 'up/b/f', 'b/../../a'])
    assert.equal(openat2(task, start, path, Resolve.beneath), -Errno.EXDEV, path);
});

test('RESOLVE_IN_ROOT takes the start for the root', () => {
  const task = tree();
  const start = task.call('open', '/a', OpenFlag.directory);
  for (const path of ['/b/f', '../../b/f', 'up/../b/f'])
    assert.equal(openat2(task, start, path, Resolve.inRoot) >= 0, path !== 'up/../b/f', path);
  // /a/b as seen from /a.
  assert.equal(openat2(task, start, 'absolute/f', Resolve.inRoot), -Errno.ENOENT);
});

test('RESOLVE_NO_SYMLINKS and RESOLVE_NO_XDEV refuse links and mounts anywhere in the path', () => {
  const task = tree();
  assert.equal(openat2(task, -100, '/a/relative/f', Resolve.noSymlinks), -Errno.ELOOP);
  assert.equal(openat2(task, -100, '/a/relative', Resolve.noSymlinks, OpenFlag.noFollow), -Errno.ELOOP);
  task.call('mount', 'x', '/m', 'tmpfs', 0, 0);
  assert.equal(openat2(task, -100, '/m', Resolve.noXdev), -Errno.EXDEV);
  const inside = task.call('open', '/m', OpenFlag.directory);
  assert.equal(openat2(task, inside, '..', Resolve.noXdev), -Errno.EXDEV);
});

test('openat2 refuses what it does not know, and accepts a longer structure of zeroes', () => {
  const task = tree();
  assert.equal(openat2(task, -100, '/a', 0x1000), -Errno.EINVAL);
  assert.equal(openat2(task, -100, '/a', Resolve.beneath | Resolve.inRoot), -Errno.EINVAL);
  assert.equal(openat2(task, -100, '/a', 0, 0x8000_0000), -Errno.EINVAL);
  const how = new Uint8Array(32);
  assert.equal(task.call('openat2', -100, '/a', how, 23), -Errno.EINVAL);
  assert.ok(task.call('openat2', -100, '/a', how, 32) >= 0);
  how[30] = 1;
  assert.equal(task.call('openat2', -100, '/a', how, 32), -Errno.E2BIG);
});

test('forty links may follow one another, not forty-one', () => {
  const task = tree();
  task.call('symlink', 'b/f', '/a/l1');
  for (let i = 2; i <= 41; i++) task.call('symlink', `l${i - 1}`, `/a/l${i}`);
  assert.ok(task.call('open', '/a/l40', 0) >= 0);
  assert.equal(task.call('open', '/a/l41', 0), -Errno.ELOOP);
});

test('the root is its own parent, for a task with a root of its own as well', () => {
  const task = tree();
  assert.equal(task.call('chroot', '/a'), 0);
  assert.equal(task.call('chdir', '/b/../../../../b'), 0);
  const buffer = new Uint8Array(64);
  assert.equal(task.call('getcwd', buffer, 64), 3);
  assert.equal(Buffer.from(buffer.subarray(0, 2)).toString(), '/b');
  // A link to an absolute place is walked from the task's root.
  assert.equal(task.call('access', '/absolute', 0), -Errno.ENOENT);
});

test('a working directory outside of the root is said to be unreachable', () => {
  const task = tree();
  task.call('chdir', '/m');
  task.call('chroot', '/a');
  const buffer = new Uint8Array(64);
  const length = task.call('getcwd', buffer, 64);
  assert.equal(Buffer.from(buffer.subarray(0, length - 1)).toString(), '(unreachable)/m');
  assert.equal(task.call('getcwd', buffer, 5), -Errno.ERANGE);
});

test('a removed directory cannot be named, nothing is found or made in it, and its place says "(deleted)"', () => {
  const task = tree();
  task.call('chdir', '/a/b/c');
  const fd = task.call('open', '.', OpenFlag.directory);
  assert.equal(task.call('rmdir', '/a/b/c'), 0);
  const buffer = new Uint8Array(64);
  assert.equal(task.call('getcwd', buffer, 64), -Errno.ENOENT);
  assert.equal(task.call('mkdir', 'x', 0o755), -Errno.ENOENT);
  assert.equal(task.call('open', 'x', OpenFlag.create | OpenFlag.writeOnly, 0o644), -Errno.ENOENT);
  assert.equal(task.call('getdents64', fd, buffer, 64), -Errno.ENOENT);
  // Its parent is still there.
  assert.equal(task.call('access', '../f', 0), 0);
  const path = task.files.get(fd)?.path;
  assert.ok(path);
  assert.equal(describePath(path, task.fs.root), '/a/b/c (deleted)');
  assert.deepEqual(pathText(task.fs.root, task.fs.root), { text: '/', reached: true });
});

test('a name is where it was moved to, for those who hold it too', () => {
  const task = tree();
  const fd = task.call('open', '/a/b/f', 0);
  task.call('rename', '/a/b', '/m/n');
  const path = task.files.get(fd)?.path;
  assert.ok(path);
  assert.equal(describePath(path, task.fs.root), '/m/n/f');
  assert.equal(task.call('access', '/a/b', 0), -Errno.ENOENT);
  assert.equal(task.call('access', '/m/n/f', 0), 0);
});

test('in sticky directories links of others are not followed', () => {
  const whole = createTestTree();
  const root = whole.task();
  root.call('mkdir', '/tmp', 0o755);
  root.call('chmod', '/tmp', 0o1777);
  root.call('close', root.call('creat', '/target', 0o644));
  const user = whole.task(fakeCredentials(1000));
  const other = whole.task(fakeCredentials(1001));
  assert.equal(user.call('symlink', '/target', '/tmp/l'), 0);
  assert.ok(user.call('open', '/tmp/l', 0) >= 0);
  assert.equal(other.call('open', '/tmp/l', 0), -Errno.EACCES);
  assert.equal(root.call('open', '/tmp/l', 0), -Errno.EACCES);
  // What another one has put there is not opened with O_CREAT either.
  user.call('close', user.call('open', '/tmp/f', OpenFlag.create | OpenFlag.writeOnly, 0o666));
  user.call('chmod', '/tmp/f', 0o666);
  assert.equal(other.call('open', '/tmp/f', OpenFlag.create | OpenFlag.writeOnly, 0o644), -Errno.EACCES);
  assert.ok(other.call('open', '/tmp/f', OpenFlag.writeOnly) >= 0);
  assert.equal(other.call('unlink', '/tmp/f'), -Errno.EPERM);
});

test('every directory on the way must be searchable, the last one readable only for what is asked', () => {
  const whole = createTestTree();
  const root = whole.task();
  root.call('mkdir', '/closed', 0o700);
  root.call('mkdir', '/search', 0o711);
  root.call('close', root.call('creat', '/search/f', 0o644));
  const user = whole.task(fakeCredentials(1000));
  assert.equal(user.call('open', '/closed/x', 0), -Errno.EACCES);
  assert.equal(user.call('open', '/closed', 0), -Errno.EACCES);
  assert.ok(user.call('open', '/search/f', 0) >= 0);
  assert.equal(user.call('open', '/search', 0), -Errno.EACCES);
  assert.ok(user.call('open', '/search', OpenFlag.path) >= 0);
});

test('the cache of names forgets the coldest that nobody holds', () => {
  const task = tree();
  const { vfs } = task.fs.root.mount;
  const cache = new DentryCache(64, () => assert.fail('nothing is mounted there'));
  const root = task.fs.root.dentry;
  const held = cache.add(root, 'held', undefined).acquire();
  for (let i = 0; i < 1000; i++) {
    cache.add(root, `n${i}`, undefined);
    const hot = root.children?.get('n0');
    if (hot) hot.touched = true;
  }
  assert.ok(cache.size < 200, `${cache.size} are kept`);
  assert.equal(root.children?.get('held'), held);
  assert.ok(root.children?.has('n0'));
  assert.ok(vfs.dentries.size > 0);
});
