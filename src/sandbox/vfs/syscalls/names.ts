// The calls that change the tree of names, and readlink.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { At, Rename } from '../../abi/file.ts';
import { deviceMajor, deviceMinor, makeDevice } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { updatesAccessTime } from '../attributes.ts';
import { FileDescription } from '../file-description.ts';
import {
  makeDirectory,
  makeLink,
  makeNode,
  makeSymlink,
  removeDirectory,
  rename,
  unlink,
} from '../operations.ts';
import { describePath } from '../path.ts';
import { Lookup } from '../walk.ts';
import { placeOrFile, readPath } from './decode.ts';

/** Reads the path, then acts. */
function withPath(task: Task, address: number, act: (path: string) => number): number {
  const path = readPath(task, address);
  return typeof path === 'number' ? path : act(path);
}

function mknod(task: Task, dirfd: number, address: number, mode: number, device: number): number {
  // The number as the call encodes it is the one that stat shows.
  const canonical = makeDevice(deviceMajor(device), deviceMinor(device));
  return withPath(task, address, (path) => makeNode(task, dirfd, path, mode, canonical));
}

function symlink(task: Task, target: number, dirfd: number, address: number): number {
  const text = readPath(task, target);
  if (typeof text === 'number') return text;
  if (text === '') return -Errno.ENOENT;
  return withPath(task, address, (path) => makeSymlink(task, text, dirfd, path));
}

function link(task: Task, fromFd: number, from: number, toFd: number, to: number, flags: number): number {
  if (flags & ~(At.symlinkFollow | At.emptyPath)) return -Errno.EINVAL;
  let lookup = flags & At.symlinkFollow ? Lookup.follow : 0;
  if (flags & At.emptyPath) lookup |= Lookup.empty;
  if (flags & At.emptyPath && readPath(task, from) === '') {
    // Only who opened a file may give it a name by its descriptor, or who may find it by its handle.
    const file = task.files.get(fromFd);
    const opener = file?.credentials === task.credentials;
    if (file && !opener && !task.credentials.has(Capability.dacReadSearch)) return -Errno.ENOENT;
  }
  const place = placeOrFile(task, fromFd, from, lookup);
  if (typeof place === 'number') return place;
  const path = readPath(task, to);
  if (typeof path === 'number') return path;
  if (place instanceof FileDescription) return -Errno.EXDEV;
  return makeLink(task, place, toFd, path);
}

function move(task: Task, fromFd: number, from: number, toFd: number, to: number, flags: number): number {
  if (flags & ~(Rename.noReplace | Rename.exchange | Rename.whiteout)) return -Errno.EINVAL;
  if (flags & Rename.exchange && flags & (Rename.noReplace | Rename.whiteout)) return -Errno.EINVAL;
  return withPath(task, from, (path) =>
    withPath(task, to, (newPath) => rename(task, fromFd, path, toFd, newPath, flags)),
  );
}

function readlink(task: Task, dirfd: number, address: number, buffer: number, size: number): number {
  if (size <= 0) return -Errno.EINVAL;
  const path = readPath(task, address);
  if (typeof path === 'number') return path;
  const place = placeOrFile(task, dirfd, address, dirfd === At.cwd ? 0 : Lookup.empty);
  if (typeof place === 'number') return place;
  // An empty path names the link that was opened with O_PATH | O_NOFOLLOW.
  const missing = path === '' ? -Errno.ENOENT : -Errno.EINVAL;
  if (place instanceof FileDescription) return missing;
  const inode = place.dentry.inode;
  if (inode === undefined || !inode.isSymlink) return missing;
  const target = inode.followLink(task);
  let text: string | number;
  if (target === undefined || typeof target === 'number') text = inode.readLink(task);
  else {
    // The text that a magic link shows is its own business; a place alone is shown as a path.
    const own = inode.readLink(task);
    text = own === -Errno.EINVAL ? describePath(target, task.fs.root) : own;
  }
  if (typeof text === 'number') return text;
  const stat = inode.stat();
  if (typeof stat !== 'number' && updatesAccessTime(place, 0, inode, stat))
    inode.setAttributes({ atime: place.mount.vfs.now(), ctime: stat.ctime }, task.credentials);
  const bytes = Buffer.from(text.length > size ? text.slice(0, size) : text, 'latin1');
  const result = task.memory.write(buffer, bytes, 0, bytes.length);
  return result < 0 ? result : bytes.length;
}

export const nameSyscalls: readonly Syscall[] = [
  {
    name: 'mkdir',
    signature: 'path:path mode:mode',
    support: 'full',
    handler: (task, args) =>
      withPath(task, args.address(0), (path) => makeDirectory(task, At.cwd, path, args.u32(1))),
  },
  {
    name: 'mkdirat',
    signature: 'dirfd:dirfd path:path mode:mode',
    support: 'full',
    handler: (task, args) =>
      withPath(task, args.address(1), (path) => makeDirectory(task, args.i32(0), path, args.u32(2))),
  },
  {
    name: 'mknod',
    signature: 'path:path mode:mode device:hex',
    support: 'full',
    handler: (task, args) => mknod(task, At.cwd, args.address(0), args.u32(1) & 0xffff, args.u32(2)),
  },
  {
    name: 'mknodat',
    signature: 'dirfd:dirfd path:path mode:mode device:hex',
    support: 'full',
    handler: (task, args) => mknod(task, args.i32(0), args.address(1), args.u32(2) & 0xffff, args.u32(3)),
  },
  {
    name: 'symlink',
    signature: 'target:string path:path',
    support: 'full',
    handler: (task, args) => symlink(task, args.address(0), At.cwd, args.address(1)),
  },
  {
    name: 'symlinkat',
    signature: 'target:string dirfd:dirfd path:path',
    support: 'full',
    handler: (task, args) => symlink(task, args.address(0), args.i32(1), args.address(2)),
  },
  {
    name: 'link',
    signature: 'from:path to:path',
    support: 'full',
    handler: (task, args) => link(task, At.cwd, args.address(0), At.cwd, args.address(1), 0),
  },
  {
    name: 'linkat',
    signature: 'fromfd:dirfd from:path tofd:dirfd to:path flags:flags.at',
    support: 'full',
    handler: (task, args) =>
      link(task, args.i32(0), args.address(1), args.i32(2), args.address(3), args.u32(4)),
  },
  {
    name: 'unlink',
    signature: 'path:path',
    support: 'full',
    handler: (task, args) => withPath(task, args.address(0), (path) => unlink(task, At.cwd, path)),
  },
  {
    name: 'unlinkat',
    signature: 'dirfd:dirfd path:path flags:hex',
    support: 'full',
    handler(task, args) {
      const flags = args.u32(2);
      if (flags & ~At.removeDirectory) return -Errno.EINVAL;
      const act = flags & At.removeDirectory ? removeDirectory : unlink;
      return withPath(task, args.address(1), (path) => act(task, args.i32(0), path));
    },
  },
  {
    name: 'rmdir',
    signature: 'path:path',
    support: 'full',
    handler: (task, args) => withPath(task, args.address(0), (path) => removeDirectory(task, At.cwd, path)),
  },
  {
    name: 'rename',
    signature: 'from:path to:path',
    support: 'full',
    handler: (task, args) => move(task, At.cwd, args.address(0), At.cwd, args.address(1), 0),
  },
  {
    name: 'renameat',
    signature: 'fromfd:dirfd from:path tofd:dirfd to:path',
    support: 'full',
    handler: (task, args) => move(task, args.i32(0), args.address(1), args.i32(2), args.address(3), 0),
  },
  {
    name: 'renameat2',
    signature: 'fromfd:dirfd from:path tofd:dirfd to:path flags:hex',
    support: 'full',
    handler: (task, args) =>
      move(task, args.i32(0), args.address(1), args.i32(2), args.address(3), args.u32(4)),
  },
  {
    name: 'readlink',
    signature: 'path:path buffer:out-buffer size:int -> size',
    support: 'full',
    handler: (task, args) => readlink(task, At.cwd, args.address(0), args.address(1), args.i32(2)),
  },
  {
    name: 'readlinkat',
    signature: 'dirfd:dirfd path:path buffer:out-buffer size:int -> size',
    support: 'full',
    handler: (task, args) => readlink(task, args.i32(0), args.address(1), args.address(2), args.i32(3)),
  },
];
