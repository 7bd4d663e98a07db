// stat, statx, statfs and their relatives.

import { Errno } from '../../abi/errno.ts';
import { At } from '../../abi/file.ts';
import { MountFlag, StatFsFlag } from '../../abi/mount.ts';
import {
  encodeStat,
  encodeStatfs,
  encodeStatx,
  StatxMask,
  statfsSize,
  statSize,
  statxSize,
} from '../../abi/stat.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Mount, Stat, StatFs } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import { Lookup } from '../walk.ts';
import { lookupFlags, placeAt, placeOrFile, vfsOf, visibleGid, visibleUid, writeScratch } from './decode.ts';

function answer(task: Task, stat: Stat | number, address: number): number {
  if (typeof stat === 'number') return stat;
  const vfs = vfsOf(task);
  encodeStat(vfs.scratchView, stat, visibleUid(task, stat.uid), visibleGid(task, stat.gid));
  return writeScratch(task, vfs, address, statSize);
}

function statPath(task: Task, path: number, address: number, lookup: number): number {
  const place = placeAt(task, At.cwd, path, lookup);
  if (typeof place === 'number') return place;
  return answer(task, place.dentry.inode?.stat() ?? -Errno.ENOENT, address);
}

function fstat(task: Task, fd: number, address: number): number {
  const file = task.files.get(fd);
  return file === undefined ? -Errno.EBADF : answer(task, file.stat(), address);
}

const statFlags = At.symlinkNoFollow | At.noAutomount | At.emptyPath | At.statxSyncType;

/** With AT_EMPTY_PATH the path may be NULL, too. */
function found(task: Task, dirfd: number, path: number, flags: number): ReturnType<typeof placeOrFile> {
  if (path === 0 && flags & At.emptyPath && dirfd >= 0) {
    const file = task.files.get(dirfd);
    return file === undefined ? -Errno.EBADF : file;
  }
  return placeOrFile(task, dirfd, path, lookupFlags(flags));
}

function fstatat(task: Task, dirfd: number, path: number, address: number, flags: number): number {
  if (flags & ~statFlags) return -Errno.EINVAL;
  const place = found(task, dirfd, path, flags);
  if (typeof place === 'number') return place;
  const stat = place instanceof FileDescription ? place.stat() : place.dentry.inode?.stat();
  return answer(task, stat ?? -Errno.ENOENT, address);
}

function statx(
  task: Task,
  dirfd: number,
  path: number,
  flags: number,
  mask: number,
  address: number,
): number {
  if (mask & StatxMask.reserved) return -Errno.EINVAL;
  if ((flags & At.statxSyncType) === At.statxSyncType) return -Errno.EINVAL;
  if (flags & ~statFlags) return -Errno.EINVAL;
  const place = found(task, dirfd, path, flags);
  if (typeof place === 'number') return place;
  const where = place instanceof FileDescription ? place.path : place;
  const stat = place instanceof FileDescription ? place.stat() : place.dentry.inode?.stat();
  if (stat === undefined) return -Errno.ENOENT;
  if (typeof stat === 'number') return stat;
  const filled =
    StatxMask.basicStats |
    (stat.btime && mask & StatxMask.birthTime ? StatxMask.birthTime : 0) |
    (mask & StatxMask.uniqueMountId ? StatxMask.uniqueMountId : StatxMask.mountId);
  const vfs = vfsOf(task);
  encodeStatx(
    vfs.scratchView,
    filled & StatxMask.birthTime ? stat : { ...stat, btime: undefined },
    visibleUid(task, stat.uid),
    visibleGid(task, stat.gid),
    filled,
    where?.mount.id ?? 0,
    where !== undefined && where.dentry === where.mount.root,
  );
  return writeScratch(task, vfs, address, statxSize);
}

const fsFlagOf: readonly (readonly [mount: number, statfs: number])[] = [
  [MountFlag.noSuid, StatFsFlag.noSuid],
  [MountFlag.noDevices, StatFsFlag.noDevices],
  [MountFlag.noExec, StatFsFlag.noExec],
  [MountFlag.noAccessTime, StatFsFlag.noAccessTime],
  [MountFlag.noDirectoryAccessTime, StatFsFlag.noDirectoryAccessTime],
  [MountFlag.relativeAccessTime, StatFsFlag.relativeAccessTime],
  [MountFlag.noSymlinkFollow, StatFsFlag.noSymlinkFollow],
];

function answerFs(task: Task, statfs: StatFs | number, mount: Mount | undefined, address: number): number {
  if (typeof statfs === 'number') return statfs;
  let flags: number = StatFsFlag.valid;
  if (mount) {
    if (mount.readOnly) flags |= StatFsFlag.readOnly;
    if (mount.superBlock.flags & MountFlag.synchronous) flags |= StatFsFlag.synchronous;
    for (const [bit, shown] of fsFlagOf) if (mount.flags & bit) flags |= shown;
  }
  const vfs = vfsOf(task);
  encodeStatfs(vfs.scratchView, statfs, mount?.fileSystem.device ?? 0, flags);
  return writeScratch(task, vfs, address, statfsSize);
}

export const statSyscalls: readonly Syscall[] = [
  {
    name: 'stat',
    signature: 'path:path stat:stat',
    support: 'full',
    handler: (task, args) => statPath(task, args.address(0), args.address(1), Lookup.follow),
  },
  {
    name: 'lstat',
    signature: 'path:path stat:stat',
    support: 'full',
    handler: (task, args) => statPath(task, args.address(0), args.address(1), 0),
  },
  {
    name: 'fstat',
    signature: 'fd:fd stat:stat',
    support: 'full',
    handler: (task, args) => fstat(task, args.i32(0), args.address(1)),
  },
  {
    name: 'newfstatat',
    signature: 'dirfd:dirfd path:path stat:stat flags:flags.at',
    support: 'full',
    handler: (task, args) => fstatat(task, args.i32(0), args.address(1), args.address(2), args.u32(3)),
  },
  {
    name: 'statx',
    signature: 'dirfd:dirfd path:path flags:flags.at mask:hex statx:address',
    support: 'full',
    handler: (task, args) =>
      statx(task, args.i32(0), args.address(1), args.u32(2), args.u32(3), args.address(4)),
  },
  {
    name: 'statfs',
    signature: 'path:path statfs:address',
    support: 'full',
    handler(task, args) {
      const place = placeAt(task, At.cwd, args.address(0), Lookup.follow);
      if (typeof place === 'number') return place;
      return answerFs(task, place.mount.fileSystem.statfs(), place.mount, args.address(1));
    },
  },
  {
    name: 'fstatfs',
    signature: 'fd:fd statfs:address',
    support: 'full',
    handler(task, args) {
      const file = task.files.get(args.i32(0));
      if (file === undefined) return -Errno.EBADF;
      return answerFs(task, file.statfs(), file.path?.mount, args.address(1));
    },
  },
];
