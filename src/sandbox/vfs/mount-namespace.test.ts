import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../abi/errno.ts';
import { MountFlag, Unmount } from '../abi/mount.ts';
import { OpenFlag } from '../abi/open.ts';
import { copyMounts } from './fs-context.ts';
import { describePath } from './path.ts';
import { createTestTree, type TestTask } from './testing/tree.ts';

function mountTmpfs(task: TestTask, at: string, flags = 0): void {
  assert.equal(task.call('mount', 'none', at, 'tmpfs', flags, ''), 0);
}

function makeFile(task: TestTask, path: string): void {
  const fd = task.call('open', path, OpenFlag.create | OpenFlag.writeOnly, 0o644);
  assert.ok(fd >= 0, `${path}: ${fd}`);
  task.call('close', fd);
}

const exists = (task: TestTask, path: string) => task.call('access', path, 0) === 0;

test('a mount hides what was there until it is unmounted, and ".." leads out of it', () => {
  const task = createTestTree().task();
  task.call('mkdir', '/m', 0o755);
  makeFile(task, '/m/below');
  mountTmpfs(task, '/m');
  assert.equal(exists(task, '/m/below'), false);
  makeFile(task, '/m/above');
  assert.equal(exists(task, '/m/../m/above'), true);
  assert.equal(task.call('rmdir', '/m'), -Errno.EBUSY);
  assert.equal(task.call('rename', '/m', '/n'), -Errno.EBUSY);
  assert.equal(task.call('link', '/m/above', '/x'), -Errno.EXDEV);
  assert.equal(task.call('umount2', '/m', 0), 0);
  assert.equal(exists(task, '/m/below'), true);
  assert.equal(task.call('umount2', '/m', 0), -Errno.EINVAL);
});

test('a mount with open files is busy, can be detached, and goes with its last user', () => {
  const tree = createTestTree();
  const task = tree.task();
  task.call('mkdir', '/m', 0o755);
  mountTmpfs(task, '/m');
  makeFile(task, '/m/f');
  const fd = task.call('open', '/m/f', 0);
  assert.equal(task.call('umount2', '/m', 0), -Errno.EBUSY);
  assert.equal(task.call('umount2', '/m', Unmount.detach), 0);
  assert.equal([...tree.vfs.fileSystems()].length, 2);
  const file = task.files.get(fd);
  assert.ok(file?.path);
  assert.equal(describePath(file.path, task.fs.root), '/f');
  task.call('close', fd);
  assert.equal([...tree.vfs.fileSystems()].length, 1);
});

test('a bind mount shows a part, read-only if remounted so, while the original stays writable', () => {
  const task = createTestTree().task();
  task.call('mkdir', '/a', 0o755);
  task.call('mkdir', '/a/b', 0o755);
  task.call('mkdir', '/m', 0o755);
  assert.equal(task.call('mount', '/a/b', '/m', 0, MountFlag.bind, 0), 0);
  makeFile(task, '/m/f');
  assert.equal(exists(task, '/a/b/f'), true);
  const flags = MountFlag.bind | MountFlag.remount | MountFlag.readOnly;
  assert.equal(task.call('mount', 0, '/m', 0, flags, 0), 0);
  assert.equal(task.call('unlink', '/m/f'), -Errno.EROFS);
  assert.equal(task.call('open', '/m/f', OpenFlag.readWrite), -Errno.EROFS);
  assert.equal(task.call('chmod', '/m/f', 0), -Errno.EROFS);
  assert.equal(task.call('chmod', '/a/b/f', 0o600), 0);
  // ".." of the bind mount's root is where it is mounted, not where it came from.
  assert.equal(exists(task, '/m/../a'), true);
});

test('a recursive bind takes what is mounted below along, but not what is unbindable', () => {
  const task = createTestTree().task();
  for (const path of ['/a', '/a/x', '/a/y', '/m']) task.call('mkdir', path, 0o755);
  mountTmpfs(task, '/a');
  task.call('mkdir', '/a/x', 0o755);
  task.call('mkdir', '/a/y', 0o755);
  mountTmpfs(task, '/a/x');
  makeFile(task, '/a/x/f');
  mountTmpfs(task, '/a/y');
  makeFile(task, '/a/y/f');
  assert.equal(task.call('mount', 0, '/a/y', 0, MountFlag.unbindable, 0), 0);
  assert.equal(task.call('mount', '/a/y', '/m', 0, MountFlag.bind, 0), -Errno.EINVAL);
  assert.equal(task.call('mount', '/a', '/m', 0, MountFlag.bind | MountFlag.recursive, 0), 0);
  assert.equal(exists(task, '/m/x/f'), true);
  assert.equal(exists(task, '/m/y/f'), false);
});

test('mounts spread between peers and to slaves, not from slaves to masters', () => {
  const tree = createTestTree();
  const outer = tree.task();
  outer.call('mkdir', '/m', 0o755);
  outer.call('mkdir', '/s', 0o755);
  assert.equal(outer.call('mount', 0, '/', 0, MountFlag.shared, 0), 0);
  const inner = tree.task();
  inner.mounts = copyMounts(tree.mounts, inner.fs, tree.mounts.userNamespace);
  mountTmpfs(outer, '/m');
  makeFile(outer, '/m/f');
  assert.equal(exists(inner, '/m/f'), true);
  assert.equal(inner.call('umount2', '/m', 0), 0);
  assert.equal(exists(outer, '/m/f'), false);
  assert.equal(inner.call('mount', 0, '/', 0, MountFlag.slave | MountFlag.recursive, 0), 0);
  mountTmpfs(inner, '/s');
  makeFile(inner, '/s/f');
  assert.equal(exists(outer, '/s/f'), false);
  mountTmpfs(outer, '/m');
  makeFile(outer, '/m/g');
  assert.equal(exists(inner, '/m/g'), true);
  inner.mounts.release();
  assert.equal(exists(outer, '/m/g'), true);
});

test('mounts of private namespaces do not spread', () => {
  const tree = createTestTree();
  const outer = tree.task();
  outer.call('mkdir', '/m', 0o755);
  const inner = tree.task();
  inner.mounts = copyMounts(tree.mounts, inner.fs, tree.mounts.userNamespace);
  mountTmpfs(inner, '/m');
  makeFile(inner, '/m/f');
  assert.equal(exists(outer, '/m/f'), false);
});

test('moving keeps what is mounted, and refuses to go below itself', () => {
  const task = createTestTree().task();
  task.call('mkdir', '/a', 0o755);
  task.call('mkdir', '/b', 0o755);
  mountTmpfs(task, '/a');
  task.call('mkdir', '/a/sub', 0o755);
  assert.equal(task.call('mount', '/a', '/a/sub', 0, MountFlag.move, 0), -Errno.ELOOP);
  assert.equal(task.call('mount', '/a', '/b', 0, MountFlag.move, 0), 0);
  assert.equal(exists(task, '/b/sub'), true);
  assert.equal(exists(task, '/a/sub'), false);
});

test('pivot_root makes a mount the root and moves the roots of the tasks', () => {
  const tree = createTestTree();
  const task = tree.task();
  Object.assign(tree.kernel, { rootPidNamespace: { processes: () => [[1, task.process]].values() } });
  task.call('mkdir', '/new', 0o755);
  assert.equal(task.call('pivot_root', '/new', '/new'), -Errno.EBUSY);
  mountTmpfs(task, '/new');
  task.call('mkdir', '/new/old', 0o755);
  makeFile(task, '/outside');
  assert.equal(task.call('pivot_root', '/new', '/new/old'), 0);
  assert.equal(exists(task, '/old/outside'), true);
  assert.equal(exists(task, '/outside'), false);
  assert.equal(task.call('umount2', '/old', Unmount.detach), 0);
  assert.equal(exists(task, '/old/outside'), false);
  assert.equal(tree.mounts.mounts().length, 1);
});

test('a removed directory that is a mount point elsewhere takes the mount with it', () => {
  const tree = createTestTree();
  const outer = tree.task();
  outer.call('mkdir', '/m', 0o755);
  const inner = tree.task();
  inner.mounts = copyMounts(tree.mounts, inner.fs, tree.mounts.userNamespace);
  mountTmpfs(inner, '/m');
  assert.equal(inner.mounts.mounts().length, 2);
  assert.equal(outer.call('rmdir', '/m'), 0);
  assert.equal(inner.mounts.mounts().length, 1);
});

test('nosymfollow mounts and noexec mounts refuse what they say', () => {
  const task = createTestTree().task();
  task.call('mkdir', '/m', 0o755);
  mountTmpfs(task, '/m', MountFlag.noSymlinkFollow | MountFlag.noExec | MountFlag.noDevices);
  makeFile(task, '/m/f');
  task.call('chmod', '/m/f', 0o755);
  task.call('symlink', 'f', '/m/l');
  assert.equal(task.call('open', '/m/l', 0), -Errno.ELOOP);
  assert.equal(task.call('access', '/m/f', 1), -Errno.EACCES);
  task.call('mknod', '/m/null', 0o020666, 0x103);
  assert.equal(task.call('open', '/m/null', 0), -Errno.EACCES);
});

test('tmpfs holds what its options allow, and can be made larger but not smaller than what it holds', () => {
  const task = createTestTree().task();
  task.call('mkdir', '/m', 0o755);
  assert.equal(task.call('mount', 'x', '/m', 'tmpfs', 0, 'size=16k,nr_inodes=4,mode=700'), 0);
  const fd = task.call('open', '/m/f', OpenFlag.create | OpenFlag.readWrite, 0o644);
  const data = new Uint8Array(20_000);
  assert.equal(task.call('write', fd, data, data.length), 16_384);
  assert.equal(task.call('write', fd, data, 1), -Errno.ENOSPC);
  assert.equal(task.call('fallocate', fd, 3, 0, 8192), 0);
  assert.equal(task.call('write', fd, data, 5000), 5000);
  makeFile(task, '/m/g');
  makeFile(task, '/m/h');
  assert.equal(task.call('mkdir', '/m/i', 0o755), -Errno.ENOSPC);
  assert.equal(task.call('unlink', '/m/g'), 0);
  assert.equal(task.call('mkdir', '/m/i', 0o755), 0);
  assert.equal(task.call('mount', 0, '/m', 0, MountFlag.remount, 'size=4k'), -Errno.EINVAL);
  assert.equal(task.call('mount', 0, '/m', 0, MountFlag.remount, 'size=1m'), 0);
  assert.equal(task.call('write', fd, data, data.length), data.length);
  assert.equal(task.call('mount', 'x', '/m', 'tmpfs', 0, 'size=1x'), -Errno.EINVAL);
  assert.equal(task.call('mount', 'x', '/m', 'nosuch', 0, 0), -Errno.ENODEV);
});
