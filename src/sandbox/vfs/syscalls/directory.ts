// Reading directories, and where a process is: getdents, getcwd, chdir, chroot.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Access, At, pathMaximum } from '../../abi/file.ts';
import { putU64 } from '../../abi/stat.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { DirectoryEntry } from '../file-description.ts';
import { Event, notifyPath } from '../notify.ts';
import { pathText } from '../path.ts';
import { inodePermission } from '../permission.ts';
import { Lookup } from '../walk.ts';
import { fileOf, placeAt } from './decode.ts';

/** More is given in several calls, as a program must expect anyway. */
const bufferMaximum = 65_536;

/** struct linux_dirent64: ino, off, reclen, type, name. */
function encodeEntry64(
  buffer: Buffer,
  view: DataView,
  at: number,
  entry: DirectoryEntry,
  length: number,
): void {
  putU64(view, at, entry.ino);
  putU64(view, at + 8, entry.next);
  view.setUint16(at + 16, length, true);
  view.setUint8(at + 18, entry.type);
  const end = at + 19 + buffer.write(entry.name, at + 19, 'latin1');
  buffer.fill(0, end, at + length);
}

/** struct linux_dirent: ino, off, reclen, name, and the type in the last byte. */
function encodeEntry(
  buffer: Buffer,
  view: DataView,
  at: number,
  entry: DirectoryEntry,
  length: number,
): void {
  putU64(view, at, entry.ino);
  putU64(view, at + 8, entry.next);
  view.setUint16(at + 16, length, true);
  const end = at + 18 + buffer.write(entry.name, at + 18, 'latin1');
  buffer.fill(0, end, at + length);
  view.setUint8(at + length - 1, entry.type);
}

function getdents(task: Task, args: Arguments, wide: boolean): number {
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const { path } = file;
  if (path?.dentry.unhashed && !path.dentry.isRoot && path.dentry.inode?.isDirectory) return -Errno.ENOENT;
  const size = Math.min(args.u32(2), bufferMaximum);
  const buffer = Buffer.allocUnsafe(size);
  const view = new DataView(buffer.buffer, buffer.byteOffset, size);
  // Both kinds have 20 bytes beside the name: its end included, and the type.
  const overhead = 20;
  let at = 0;
  let last = 0;
  let refused = false;
  const before = file.position;
  const result = file.readDirectory(task, (entry) => {
    const length = (overhead + entry.name.length + 7) & ~7;
    if (at + length > size) {
      refused = true;
      return false;
    }
    (wide ? encodeEntry64 : encodeEntry)(buffer, view, at, entry, length);
    last = at;
    at += length;
    return true;
  });
  if (result < 0) return result;
  if (path) notifyPath(path, Event.access);
  if (at === 0) return refused ? -Errno.EINVAL : 0;
  // The last entry's d_off is where reading goes on, which at the end may be further on than that entry.
  if (file.position !== before) putU64(view, last + 8, file.position);
  const written = task.memory.write(args.address(1), buffer, 0, at);
  return written < 0 ? written : at;
}

function getcwd(task: Task, args: Arguments): number {
  const { cwd, root } = task.fs;
  if (cwd.dentry.unhashed && !cwd.dentry.isRoot) return -Errno.ENOENT;
  const { text, reached } = pathText(cwd, root);
  const shown = reached ? text : `(unreachable)${text}`;
  if (shown.length + 1 > pathMaximum) return -Errno.ENAMETOOLONG;
  if (shown.length + 1 > args.size(1)) return -Errno.ERANGE;
  const bytes = Buffer.from(`${shown}\0`, 'latin1');
  const result = task.memory.write(args.address(0), bytes, 0, bytes.length);
  return result < 0 ? result : bytes.length;
}

function chdir(task: Task, args: Arguments): number {
  const place = placeAt(task, At.cwd, args.address(0), Lookup.follow | Lookup.directory);
  if (typeof place === 'number') return place;
  const inode = place.dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  const allowed = inodePermission(task, inode, Access.execute);
  if (allowed < 0) return allowed;
  task.fs.setCwd(place);
  return 0;
}

function fchdir(task: Task, args: Arguments): number {
  const file = task.files.get(args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const place = file.path;
  const inode = place?.dentry.inode;
  if (place === undefined || !inode?.isDirectory) return -Errno.ENOTDIR;
  const allowed = inodePermission(task, inode, Access.execute);
  if (allowed < 0) return allowed;
  task.fs.setCwd({ mount: place.mount, dentry: place.dentry });
  return 0;
}

function chroot(task: Task, args: Arguments): number {
  const place = placeAt(task, At.cwd, args.address(0), Lookup.follow | Lookup.directory);
  if (typeof place === 'number') return place;
  const inode = place.dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  const allowed = inodePermission(task, inode, Access.execute);
  if (allowed < 0) return allowed;
  if (!task.credentials.has(Capability.sysChroot)) return -Errno.EPERM;
  task.fs.setRoot(place);
  return 0;
}

export const directorySyscalls: readonly Syscall[] = [
  {
    name: 'getdents',
    signature: 'fd:fd buffer:address count:uint -> size',
    support: 'full',
    handler: (task, args) => getdents(task, args, false),
  },
  {
    name: 'getdents64',
    signature: 'fd:fd buffer:address count:uint -> size',
    support: 'full',
    handler: (task, args) => getdents(task, args, true),
  },
  { name: 'getcwd', signature: 'buffer:address size:size -> size', support: 'full', handler: getcwd },
  { name: 'chdir', signature: 'path:path', support: 'full', handler: chdir },
  { name: 'fchdir', signature: 'fd:fd', support: 'full', handler: fchdir },
  { name: 'chroot', signature: 'path:path', support: 'full', handler: chroot },
];
