// What the file system calls share: descriptors and paths from arguments, results into the program's memory.

import { Errno } from '../../abi/errno.ts';
import { At, pathMaximum } from '../../abi/file.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Path } from '../contract.ts';
import type { FileDescription } from '../file-description.ts';
import { type Vfs, vfsOfTask } from '../vfs.ts';
import { Lookup, Walk } from '../walk.ts';

/** An open file that is more than a place (not O_PATH); undefined: EBADF. */
export function fileOf(task: Task, fd: number): FileDescription | undefined {
  const file = task.files.get(fd);
  return file !== undefined && (file.flags & OpenFlag.path) === 0 ? file : undefined;
}

/** A path argument: -EFAULT, -ENAMETOOLONG. It may be empty. */
export function readPath(task: Task, address: number): string | number {
  return task.memory.readString(address, pathMaximum);
}

export function vfsOf(task: Task): Vfs {
  return vfsOfTask(task);
}

/** AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH as Lookup flags. */
export function lookupFlags(flags: number): number {
  return (flags & At.symlinkNoFollow ? 0 : Lookup.follow) | (flags & At.emptyPath ? Lookup.empty : 0);
}

/** The place that (dirfd, path) names; lookup: Lookup and RESOLVE_* bits. */
export function placeAt(task: Task, dirfd: number, address: number, lookup: number): Path | number {
  const path = readPath(task, address);
  if (typeof path === 'number') return path;
  const walk = new Walk(task, lookup);
  const result = walk.resolve(dirfd, path);
  return result < 0 ? result : walk.path;
}

/** As placeAt, but an empty path with AT_EMPTY_PATH may also name an open file without a place. */
export function placeOrFile(
  task: Task,
  dirfd: number,
  address: number,
  lookup: number,
): Path | FileDescription | number {
  const path = readPath(task, address);
  if (typeof path === 'number') return path;
  if (path === '' && lookup & Lookup.empty && dirfd !== At.cwd) {
    const file = task.files.get(dirfd);
    if (file === undefined) return -Errno.EBADF;
    return file.path ?? file;
  }
  const walk = new Walk(task, lookup);
  const result = walk.resolve(dirfd, path);
  return result < 0 ? result : walk.path;
}

/** The first `length` bytes of the scratch memory go to the program: 0 or -EFAULT. */
export function writeScratch(task: Task, vfs: Vfs, address: number, length: number): number {
  return Math.min(0, task.memory.write(address, vfs.scratch, 0, length));
}

/** What a program sees of a kernel id in its namespace: the overflow id where there is no mapping. */
export const overflowId = 65_534;

export function visibleUid(task: Task, uid: number): number {
  const id = task.credentials.userNamespace.fromKernelUid(uid);
  return id === -1 ? overflowId : id;
}

export function visibleGid(task: Task, gid: number): number {
  const id = task.credentials.userNamespace.fromKernelGid(gid);
  return id === -1 ? overflowId : id;
}
