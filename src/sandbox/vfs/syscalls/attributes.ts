// chmod, chown, times, access, truncate, umask.

import { Errno } from '../../abi/errno.ts';
import { Access, At } from '../../abi/file.ts';
import { MountFlag } from '../../abi/mount.ts';
import { FileType } from '../../abi/open.ts';
import { getI64, utimeNow, utimeOmit } from '../../abi/stat.ts';
import type { Credentials, Task } from '../../kernel/contract.ts';
import { TaskCredentials } from '../../kernel/credentials/credentials.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import {
  changeMode,
  changeOwner,
  changeTimes,
  mayGrowTo,
  type NewTime,
  truncatePath,
} from '../attributes.ts';
import type { Path } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import type { AttributeChange } from '../inode.ts';
import { Event, notifyPath } from '../notify.ts';
import { inodePermission } from '../permission.ts';

import { fileOf, lookupFlags, placeOrFile } from './decode.ts';

/** Acts on the place of (dirfd, path); what has no place (pipes, sockets) has an inode at best. */
function onPlace(
  task: Task,
  dirfd: number,
  address: number,
  flags: number,
  act: (path: Path) => number,
  nameless: AttributeChange | undefined,
): number {
  const place = placeOrFile(task, dirfd, address, lookupFlags(flags));
  if (typeof place === 'number') return place;
  return place instanceof FileDescription ? onNameless(task, place, nameless) : act(place);
}

/** Attributes of a file without a place: only its owner may change them. */
function onNameless(task: Task, file: FileDescription, change: AttributeChange | undefined): number {
  const { inode } = file;
  if (inode === undefined || change === undefined) return -Errno.EPERM;
  const { credentials } = task;
  if (credentials.fsuid !== inode.uid && !credentials.has(3)) return -Errno.EPERM;
  if ((change.uid !== undefined || change.gid !== undefined) && !credentials.has(0)) return -Errno.EPERM;
  return inode.setAttributes(change, credentials);
}

function chmodAt(task: Task, dirfd: number, path: number, mode: number, flags: number): number {
  if (flags & ~(At.symlinkNoFollow | At.emptyPath)) return -Errno.EINVAL;
  return onPlace(task, dirfd, path, flags, (place) => changeMode(task, place, mode), { mode: mode & 0o7777 });
}

function ownerChange(user: number, group: number): AttributeChange {
  return {
    ...(user === 0xffff_ffff ? {} : { uid: user }),
    ...(group === 0xffff_ffff ? {} : { gid: group }),
  };
}

function chownAt(
  task: Task,
  dirfd: number,
  path: number,
  user: number,
  group: number,
  flags: number,
): number {
  if (flags & ~(At.symlinkNoFollow | At.emptyPath)) return -Errno.EINVAL;
  return onPlace(
    task,
    dirfd,
    path,
    flags,
    (place) => changeOwner(task, place, user, group),
    ownerChange(user, group),
  );
}

function onFd(task: Task, fd: number, act: (path: Path) => number, nameless: AttributeChange): number {
  const file = fileOf(task, fd);
  if (file === undefined) return -Errno.EBADF;
  return file.path === undefined ? onNameless(task, file, nameless) : act(file.path);
}

/** Two timespecs, or two timevals (scale 1000), at an address; undefined for NULL. */
function readTimes(
  task: Task,
  address: number,
  scale: number,
): readonly [NewTime, NewTime] | number | undefined {
  if (address === 0) return undefined;
  const bytes = new Uint8Array(32);
  if (task.memory.read(address, bytes, 0, 32) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const time = (at: number): NewTime => {
    const sec = getI64(view, at);
    const part = getI64(view, at + 8);
    if (scale === 1 && part === utimeNow) return 'now';
    if (scale === 1 && part === utimeOmit) return 'omit';
    return part < 0 || part * scale >= 1_000_000_000 ? 'invalid' : { sec, nsec: part * scale };
  };
  const times = [time(0), time(16)] as const;
  // timevals are checked before the file is looked for, timespecs after.
  return scale !== 1 && times.includes('invalid') ? -Errno.EINVAL : times;
}

function setTimes(
  task: Task,
  dirfd: number,
  path: number,
  times: readonly [NewTime, NewTime] | undefined,
  flags: number,
): number {
  const change = (place: Path) => changeTimes(task, place, times);
  const now = task.kernel.clock.realtime();
  const value = (time: NewTime | undefined) =>
    time === undefined || time === 'now' ? now : typeof time === 'string' ? undefined : time;
  const nameless = { atime: value(times?.[0]), mtime: value(times?.[1]) };
  if (path === 0 && dirfd !== At.cwd) {
    if (flags & ~At.emptyPath) return -Errno.EINVAL;
    return onFd(task, dirfd, change, nameless);
  }
  if (flags & ~(At.symlinkNoFollow | At.emptyPath)) return -Errno.EINVAL;
  return onPlace(task, dirfd, path, flags, change, nameless);
}

function utimensat(task: Task, args: Arguments): number {
  const times = readTimes(task, args.address(2), 1);
  if (typeof times === 'number') return times;
  if (times?.[0] === 'omit' && times[1] === 'omit') return 0;
  return setTimes(task, args.i32(0), args.address(1), times, args.u32(3));
}

function utimes(task: Task, dirfd: number, path: number, address: number): number {
  const times = readTimes(task, address, 1000);
  return typeof times === 'number' ? times : setTimes(task, dirfd, path, times, 0);
}

/** struct utimbuf: two times in seconds. */
function utime(task: Task, args: Arguments): number {
  const address = args.address(1);
  if (address === 0) return setTimes(task, At.cwd, args.address(0), undefined, 0);
  const bytes = new Uint8Array(16);
  if (task.memory.read(address, bytes, 0, 16) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const times = [
    { sec: getI64(view, 0), nsec: 0 },
    { sec: getI64(view, 8), nsec: 0 },
  ] as const;
  return setTimes(task, At.cwd, args.address(0), times, 0);
}

/** As access(2) checks: real ids, and capabilities by the real user id (access_override_creds). */
function realCredentials(credentials: Credentials): Credentials {
  if (!(credentials instanceof TaskCredentials)) return credentials;
  const { uid, gid, permitted } = credentials;
  // SECBIT_NO_SETUID_FIXUP: capabilities have nothing to do with user ids.
  const fixed = (credentials.securebits & 4) !== 0;
  const effective = fixed ? credentials.effective : uid === 0 ? permitted : 0n;
  if (uid === credentials.fsuid && gid === credentials.fsgid && effective === credentials.effective)
    return credentials;
  return credentials.change({ fsuid: uid, fsgid: gid, effective });
}

function access(task: Task, dirfd: number, path: number, mode: number, flags: number): number {
  if (mode & ~7) return -Errno.EINVAL;
  if (flags & ~(At.effectiveAccess | At.symlinkNoFollow | At.emptyPath)) return -Errno.EINVAL;
  const own = task.credentials;
  const used = flags & At.effectiveAccess ? own : realCredentials(own);
  // Nothing can come between: the task is back to its own before the call ends.
  if (used !== own) task.credentials = used;
  try {
    const place = placeOrFile(task, dirfd, path, lookupFlags(flags));
    if (typeof place === 'number') return place;
    const inode = place instanceof FileDescription ? place.inode : place.dentry.inode;
    if (inode === undefined) return -Errno.ENOENT;
    const mount = place instanceof FileDescription ? undefined : place.mount;
    if (mode & Access.execute && inode.isRegular && mount && mount.flags & MountFlag.noExec)
      return -Errno.EACCES;
    const allowed = mode === 0 ? 0 : inodePermission(task, inode, mode);
    if (allowed < 0 || !(mode & Access.write)) return allowed;
    const type = inode.mode & FileType.mask;
    const special = type !== FileType.regular && type !== FileType.directory && type !== FileType.symlink;
    return !special && mount?.readOnly ? -Errno.EROFS : 0;
  } finally {
    if (used !== own) task.credentials = own;
  }
}

function truncate(task: Task, args: Arguments): number {
  const length = args.i64(1);
  if (length < 0) return -Errno.EINVAL;
  return onPlace(task, At.cwd, args.address(0), 0, (place) => truncatePath(task, place, length), undefined);
}

function ftruncate(task: Task, args: Arguments): number {
  const length = args.i64(1);
  if (length < 0) return -Errno.EINVAL;
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const { inode } = file;
  if (!inode?.isRegular || !file.writable) return -Errno.EINVAL;
  const allowed = mayGrowTo(task, inode, length);
  if (allowed < 0) return allowed;
  const result = file.truncate(task, length);
  if (result >= 0 && file.path) notifyPath(file.path, Event.modify);
  return result;
}

export const attributeSyscalls: readonly Syscall[] = [
  {
    name: 'chmod',
    signature: 'path:path mode:mode',
    support: 'full',
    handler: (task, args) => chmodAt(task, At.cwd, args.address(0), args.u32(1), 0),
  },
  {
    name: 'fchmod',
    signature: 'fd:fd mode:mode',
    support: 'full',
    handler: (task, args) =>
      onFd(task, args.i32(0), (path) => changeMode(task, path, args.u32(1)), { mode: args.u32(1) & 0o7777 }),
  },
  {
    name: 'fchmodat',
    signature: 'dirfd:dirfd path:path mode:mode',
    support: 'full',
    handler: (task, args) => chmodAt(task, args.i32(0), args.address(1), args.u32(2), 0),
  },
  {
    name: 'fchmodat2',
    signature: 'dirfd:dirfd path:path mode:mode flags:flags.at',
    support: 'full',
    handler: (task, args) => chmodAt(task, args.i32(0), args.address(1), args.u32(2), args.u32(3)),
  },
  {
    name: 'chown',
    signature: 'path:path uid:int gid:int',
    support: 'full',
    handler: (task, args) => chownAt(task, At.cwd, args.address(0), args.u32(1), args.u32(2), 0),
  },
  {
    name: 'lchown',
    signature: 'path:path uid:int gid:int',
    support: 'full',
    handler: (task, args) =>
      chownAt(task, At.cwd, args.address(0), args.u32(1), args.u32(2), At.symlinkNoFollow),
  },
  {
    name: 'fchown',
    signature: 'fd:fd uid:int gid:int',
    support: 'full',
    handler: (task, args) =>
      onFd(
        task,
        args.i32(0),
        (path) => changeOwner(task, path, args.u32(1), args.u32(2)),
        ownerChange(args.u32(1), args.u32(2)),
      ),
  },
  {
    name: 'fchownat',
    signature: 'dirfd:dirfd path:path uid:int gid:int flags:flags.at',
    support: 'full',
    handler: (task, args) =>
      chownAt(task, args.i32(0), args.address(1), args.u32(2), args.u32(3), args.u32(4)),
  },
  { name: 'utime', signature: 'path:path times:address', support: 'full', handler: utime },
  {
    name: 'utimes',
    signature: 'path:path times:address',
    support: 'full',
    handler: (task, args) => utimes(task, At.cwd, args.address(0), args.address(1)),
  },
  {
    name: 'futimesat',
    signature: 'dirfd:dirfd path:path times:address',
    support: 'full',
    handler: (task, args) => utimes(task, args.i32(0), args.address(1), args.address(2)),
  },
  {
    name: 'utimensat',
    signature: 'dirfd:dirfd path:path times:address flags:flags.at',
    support: 'full',
    handler: utimensat,
  },
  {
    name: 'access',
    signature: 'path:path mode:flags.access',
    support: 'full',
    handler: (task, args) => access(task, At.cwd, args.address(0), args.u32(1), 0),
  },
  {
    name: 'faccessat',
    signature: 'dirfd:dirfd path:path mode:flags.access',
    support: 'full',
    handler: (task, args) => access(task, args.i32(0), args.address(1), args.u32(2), 0),
  },
  {
    name: 'faccessat2',
    signature: 'dirfd:dirfd path:path mode:flags.access flags:flags.at',
    support: 'full',
    handler: (task, args) => access(task, args.i32(0), args.address(1), args.u32(2), args.u32(3)),
  },
  { name: 'truncate', signature: 'path:path length:offset', support: 'full', handler: truncate },
  { name: 'ftruncate', signature: 'fd:fd length:offset', support: 'full', handler: ftruncate },
  {
    name: 'umask',
    signature: 'mask:mode -> mode',
    support: 'full',
    handler(task, args) {
      const before = task.fs.umask;
      task.fs.umask = args.u32(0) & 0o777;
      return before;
    },
  },
];
