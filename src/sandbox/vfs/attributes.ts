// Changing an inode's attributes with the checks that are the same for all file systems (notify_change, setattr_prepare
// in fs/attr.c; chmod_common, chown_common, vfs_truncate in fs/open.c; vfs_utimes). 0 or a negative errno.

import { Capability } from '../abi/capability.ts';
import { Errno } from '../abi/errno.ts';
import { Access, ModeBit } from '../abi/file.ts';
import { MountFlag } from '../abi/mount.ts';
import { FileType, OpenFlag } from '../abi/open.ts';
import type { Task } from '../kernel/contract.ts';
import type { Path, Timespec } from './contract.ts';
import type { AttributeChange, Inode } from './inode.ts';
import { Event, notifyPath } from './notify.ts';
import { capableOver, modeAfterChange, ownerOrCapable, pathPermission } from './permission.ts';

const rlimitFileSize = 1;
const SIGXFSZ = 25;
/** MAX_LFS_FILESIZE is 2^63-1, which no number can say exactly: nothing from here on can be asked for either. */
export const fileSizeMaximum = 2 ** 63;

/** Whether a file may become this long: RLIMIT_FSIZE (with its signal), and what any file system can hold. */
export function mayGrowTo(task: Task, inode: Inode, size: number): number {
  if (size > task.process.limit(rlimitFileSize).soft) {
    const stat = inode.stat();
    if (typeof stat === 'number' || size > stat.size) {
      task.sendSignal({ signal: SIGXFSZ, code: 0x80 });
      return -Errno.EFBIG;
    }
  }
  return size >= fileSizeMaximum ? -Errno.EFBIG : 0;
}

/**
 * How many bytes a write of `count` at `position` may have (generic_write_checks): fewer at RLIMIT_FSIZE, -EFBIG with
 * SIGXFSZ when it begins beyond it.
 */
export function writeLimit(task: Task, position: number, count: number): number {
  const limit = task.process.limit(rlimitFileSize).soft;
  if (position + count <= limit) return count;
  if (position >= limit && count > 0) {
    task.sendSignal({ signal: SIGXFSZ, code: 0x80 });
    return -Errno.EFBIG;
  }
  return limit - position;
}

function change(task: Task, path: Path, inode: Inode, what: AttributeChange, mask: number): number {
  const result = inode.setAttributes(what, task.credentials);
  if (result >= 0) notifyPath(path, mask);
  return result;
}

/** chmod(2): `mode` without type bits. */
export function changeMode(task: Task, path: Path, mode: number): number {
  const inode = path.dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  if (path.mount.readOnly) return -Errno.EROFS;
  const { credentials } = task;
  if (inode.isSymlink) return -Errno.EOPNOTSUPP;
  if (!ownerOrCapable(credentials, inode)) return -Errno.EPERM;
  let bits = mode & ModeBit.all;
  if (!credentials.inGroup(inode.gid) && !capableOver(credentials, inode, Capability.fsetid))
    bits &= ~ModeBit.setGid;
  return change(task, path, inode, { mode: bits }, Event.attribute);
}

/** chown(2): ids as the program gave them, -1 (0xffffffff) leaves one alone. */
export function changeOwner(task: Task, path: Path, user: number, group: number): number {
  const inode = path.dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  if (path.mount.readOnly) return -Errno.EROFS;
  const { credentials } = task;
  const namespace = credentials.userNamespace;
  let uid: number | undefined;
  let gid: number | undefined;
  if (user !== 0xffff_ffff) {
    uid = namespace.toKernelUid(user);
    if (uid === -1) return -Errno.EINVAL;
  }
  if (group !== 0xffff_ffff) {
    gid = namespace.toKernelGid(group);
    if (gid === -1) return -Errno.EINVAL;
  }
  const owns = credentials.fsuid === inode.uid;
  const capable = capableOver(credentials, inode, Capability.chown);
  if (uid !== undefined && !(owns && uid === inode.uid) && !capable) return -Errno.EPERM;
  if (gid !== undefined && !(owns && (gid === inode.gid || credentials.inGroup(gid))) && !capable)
    return -Errno.EPERM;
  const mode = modeAfterChange(inode, credentials, true);
  // Who may give a file away but does not own it may not take its set-user-ID bit either.
  if (mode !== undefined && !ownerOrCapable(credentials, inode)) return -Errno.EPERM;
  const result = inode.setAttributes(
    {
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
      ...(mode === undefined ? {} : { mode: mode & ModeBit.all }),
    },
    credentials,
  );
  // Notified even when nothing was to be changed but the time of change.
  if (result >= 0 && (uid !== undefined || gid !== undefined || mode !== undefined))
    notifyPath(path, Event.attribute);
  return result;
}

/** A time to set, 'now', or 'omit'; 'invalid': out of range, which is found out only after the file was. */
export type NewTime = Timespec | 'now' | 'omit' | 'invalid';

/** utimensat(2) after its decoding; undefined: both now (times is NULL, or both UTIME_NOW). */
export function changeTimes(task: Task, path: Path, times: readonly [NewTime, NewTime] | undefined): number {
  const inode = path.dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  const atime = times?.[0] ?? 'now';
  const mtime = times?.[1] ?? 'now';
  if (atime === 'invalid' || mtime === 'invalid') return -Errno.EINVAL;
  if (path.mount.readOnly) return -Errno.EROFS;
  const touch = atime === 'now' && mtime === 'now';
  if (!ownerOrCapable(task.credentials, inode)) {
    if (!touch) return -Errno.EPERM;
    const allowed = pathPermission(task, path.mount, inode, Access.write);
    if (allowed < 0) return allowed;
  }
  const now = path.mount.vfs.now();
  const mask =
    atime === 'omit'
      ? Event.modify
      : mtime === 'omit'
        ? Event.access
        : // Both times: an attribute change (fsnotify_change).
          Event.attribute;
  return change(
    task,
    path,
    inode,
    {
      ...(atime === 'omit' ? {} : { atime: atime === 'now' ? now : atime }),
      ...(mtime === 'omit' ? {} : { mtime: mtime === 'now' ? now : mtime }),
    },
    mask,
  );
}

/** truncate(2). */
export function truncatePath(task: Task, path: Path, length: number): number {
  const inode = path.dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  if (inode.isDirectory) return -Errno.EISDIR;
  if (!inode.isRegular) return -Errno.EINVAL;
  if (path.mount.readOnly) return -Errno.EROFS;
  const allowed = pathPermission(task, path.mount, inode, Access.write);
  if (allowed < 0) return allowed;
  if (inode.writers < 0) return -Errno.ETXTBSY;
  const size = mayGrowTo(task, inode, length);
  if (size < 0) return size;
  const mode = modeAfterChange(inode, task.credentials);
  return change(
    task,
    path,
    inode,
    { size: length, ...(mode === undefined ? {} : { mode: mode & ModeBit.all }) },
    Event.modify,
  );
}

/**
 * Whether a read changes the time of access (atime_needs_update): O_NOATIME, the mount's flags, and relatime, which
 * moves it once a day or when the file changed since.
 */
export function updatesAccessTime(
  path: Path,
  flags: number,
  inode: Inode,
  times: { readonly atime: Timespec; readonly mtime: Timespec; readonly ctime: Timespec },
): boolean {
  const { mount } = path;
  if (flags & OpenFlag.noAccessTime || mount.flags & MountFlag.noAccessTime || mount.readOnly) return false;
  if (mount.flags & MountFlag.noDirectoryAccessTime && (inode.mode & FileType.mask) === FileType.directory)
    return false;
  if (!(mount.flags & MountFlag.relativeAccessTime)) return true;
  const { atime, mtime, ctime } = times;
  return !isAfter(atime, mtime) || !isAfter(atime, ctime) || mount.vfs.now().sec - atime.sec >= 86_400;
}

function isAfter(a: Timespec, b: Timespec): boolean {
  return a.sec > b.sec || (a.sec === b.sec && a.nsec > b.nsec);
}
