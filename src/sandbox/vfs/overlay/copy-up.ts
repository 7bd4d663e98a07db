// Copying a file from a lower layer: bytes (holes stay holes), owner, mode, times, extended attributes.

import { Errno } from '../../abi/errno.ts';
import { ModeBit, Seek } from '../../abi/file.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import { BufferIo } from '../io.ts';
import { type Layer, openReal } from './layers.ts';

const chunkBytes = 1 << 20;

/**
 * A new inode in `directory` as `name` with everything that `from` has; bytes only up to `size` if it is given.
 * The new inode, or a negative errno after which nothing is left.
 */
export function copyInode(
  task: Task,
  from: Inode,
  fromLayer: Layer,
  directory: Inode,
  directoryLayer: Layer,
  name: string,
  isOwnXattr: (name: string) => boolean,
  withBytes: boolean,
): Inode | number {
  const made = makeLike(task, from, directory, name);
  if (typeof made === 'number') return made;
  made.acquire();
  let result = withBytes && from.isRegular ? copyBytes(task, from, fromLayer, made, directoryLayer) : 0;
  if (result >= 0) result = copyXattrs(from, made, isOwnXattr);
  if (result >= 0) result = copyAttributes(task, from, made);
  if (result < 0) {
    if (made.isDirectory) directory.removeDirectory(name, made);
    else directory.unlink(name, made);
    made.release();
    return result;
  }
  made.release();
  return made;
}

function makeLike(task: Task, from: Inode, directory: Inode, name: string): Inode | number {
  const { credentials } = task;
  if (from.isDirectory) return directory.makeDirectory(name, from.mode & ModeBit.all, credentials);
  if (from.isSymlink) {
    const target = from.readLink(task);
    return typeof target === 'number' ? target : directory.symlink(name, target, credentials);
  }
  const stat = from.stat();
  if (typeof stat === 'number') return stat;
  // Nobody may open it until it is complete.
  return directory.create(name, (from.mode & FileType.mask) | 0, stat.rdev, credentials);
}

function copyBytes(task: Task, from: Inode, fromLayer: Layer, to: Inode, toLayer: Layer): number {
  const stat = from.stat();
  if (typeof stat === 'number') return stat;
  if (stat.size === 0) return 0;
  const source = openReal(task, fromLayer, from, OpenFlag.readOnly | OpenFlag.largeFile);
  if (typeof source === 'number') return source;
  const target = openReal(task, toLayer, to, OpenFlag.writeOnly | OpenFlag.largeFile);
  if (typeof target === 'number') {
    source.unreference();
    return target;
  }
  const result = copyRanges(task, source, target, stat.size);
  source.unreference();
  target.unreference();
  return result;
}

function copyRanges(task: Task, source: FileDescription, target: FileDescription, size: number): number {
  const buffer = new Uint8Array(Math.min(size, chunkBytes));
  let at = 0;
  while (at < size) {
    const data = source.seek(task, at, Seek.data);
    // Nothing but a hole is left.
    if (data === -Errno.ENXIO) break;
    if (data > at) at = data;
    const hole = data < 0 ? size : source.seek(task, at, Seek.hole);
    const end = hole < 0 ? size : Math.min(hole, size);
    while (at < end) {
      const read = source.read(
        task,
        new BufferIo(task.kernel.host, buffer.subarray(0, Math.min(buffer.length, end - at))),
        at,
      );
      if (read < 0) return read;
      // It became shorter meanwhile.
      if (read === 0) return target.truncate(task, at);
      for (let done = 0; done < read; ) {
        const written = target.write(
          task,
          new BufferIo(task.kernel.host, buffer.subarray(done, read)),
          at + done,
        );
        if (written < 0) return written;
        if (written === 0) return -Errno.EIO;
        done += written;
      }
      at += read;
    }
  }
  return target.truncate(task, size);
}

function copyXattrs(from: Inode, to: Inode, isOwnXattr: (name: string) => boolean): number {
  const names = from.listXattr();
  if (typeof names === 'number') return names === -Errno.EOPNOTSUPP ? 0 : names;
  for (const name of names) {
    if (isOwnXattr(name)) continue;
    const value = from.getXattr(name);
    if (value === -Errno.ENODATA) continue;
    if (typeof value === 'number') return value;
    const result = to.setXattr(name, value, 0);
    // An upper layer that has none of this kind loses user attributes only (ovl_must_copy_xattr).
    if (result === -Errno.EOPNOTSUPP && name.startsWith('user.')) continue;
    if (result < 0) return result;
  }
  return 0;
}

function copyAttributes(task: Task, from: Inode, to: Inode): number {
  const stat = from.stat();
  if (typeof stat === 'number') return stat;
  const owned = to.setAttributes({ uid: stat.uid, gid: stat.gid }, task.credentials);
  if (owned < 0) return owned;
  const times = { atime: stat.atime, mtime: stat.mtime };
  if (from.isSymlink) return to.setAttributes(times, task.credentials);
  return to.setAttributes({ mode: stat.mode & ModeBit.all, ...times }, task.credentials);
}
