// open(2), openat(2), openat2(2): finding or making a file and giving a description of it (path_openat, do_open and
// may_open of fs/namei.c, do_dentry_open of fs/open.c). Decoding arguments and numbers is the system calls' work.

import { Errno } from '../abi/errno.ts';
import { Access, ModeBit } from '../abi/file.ts';
import { MountFlag } from '../abi/mount.ts';
import { FileType, OpenFlag } from '../abi/open.ts';
import type { Task } from '../kernel/contract.ts';
import type { Mount, Path } from './contract.ts';
import type { Dentry } from './dentry.ts';
import { FileDescription } from './file-description.ts';
import type { Inode } from './inode.ts';
import { Event, notifyChild, notifyPath } from './notify.ts';
import {
  inodePermission,
  mayCreate,
  ownerOrCapable,
  pathPermission,
  withoutForeignSetGid,
} from './permission.ts';
import { Last, Lookup, Walk } from './walk.ts';

/** Flags that count only while a file is opened. */
const openOnly =
  OpenFlag.create |
  OpenFlag.exclusive |
  OpenFlag.noControllingTerminal |
  OpenFlag.truncate |
  OpenFlag.closeOnExec;

const temporaryBit = OpenFlag.temporaryFile & ~OpenFlag.directory;

/** A description that only stands for a place (O_PATH): what needs more than that finds it is none (EBADF). */
export class PathDescription extends FileDescription {
  constructor(flags: number, path: Path) {
    super(flags | OpenFlag.path, path);
  }

  override readiness(): number {
    return 0;
  }
}

/** What a description must be able to do, from O_ACCMODE and O_TRUNC (ACC_MODE). */
function accessOf(flags: number): number {
  const mode = flags & OpenFlag.accessMode;
  const access = mode === OpenFlag.readOnly ? Access.read : mode === OpenFlag.writeOnly ? Access.write : 6;
  return flags & OpenFlag.truncate ? access | Access.write : access;
}

/**
 * Opens what `path` names, relative to dirfd. flags: O_*, valid together (the system calls check); mode: of a new file,
 * before the umask; resolve: RESOLVE_*. The description may still be `opening`.
 */
export function openAt(
  task: Task,
  dirfd: number,
  path: string,
  flags: number,
  mode: number,
  resolve: number,
): FileDescription | number {
  let lookup = resolve;
  if (flags & OpenFlag.directory) lookup |= Lookup.directory;
  const exclusive = (flags & OpenFlag.create) !== 0 && (flags & OpenFlag.exclusive) !== 0;
  if (!(flags & OpenFlag.noFollow) && !exclusive) lookup |= Lookup.follow;
  const walk = new Walk(task, lookup);
  if ((flags & temporaryBit) !== 0) return openTemporary(task, walk, dirfd, path, flags, mode);
  if ((flags & OpenFlag.path) !== 0) {
    const result = walk.resolve(dirfd, path);
    if (result < 0) return result;
    const file = new PathDescription(flags, walk.path);
    file.credentials = task.credentials;
    return file;
  }
  let result = walk.toParent(dirfd, path);
  let created = false;
  let directory: Inode | undefined;
  for (;;) {
    if (result < 0) return result;
    directory = walk.dentry.inode;
    if (walk.lastKind !== Last.name) {
      result = walk.stepDots();
      if (result < 0) return result;
      break;
    }
    if (walk.trailingSlash) {
      if (flags & OpenFlag.create) return -Errno.EISDIR;
      walk.flags |= Lookup.follow | Lookup.directory;
    }
    const child = walk.mount.vfs.dentries.lookup(task, walk.dentry, walk.last);
    if (typeof child === 'number') return child;
    if (child.inode === undefined) {
      if (!(flags & OpenFlag.create)) return -Errno.ENOENT;
      const made = create(task, walk, child, mode);
      if (made < 0) return made;
      walk.dentry = child;
      created = true;
      break;
    }
    const step = walk.stepInto(child, (walk.flags & Lookup.follow) !== 0, true);
    if (typeof step === 'number') {
      if (step < 0) return step;
      break;
    }
    result = walk.alongLink(step);
  }
  const place = walk.path;
  const inode = place.dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  if (flags & OpenFlag.create && !created) {
    if (flags & OpenFlag.exclusive) return -Errno.EEXIST;
    if (inode.isDirectory) return -Errno.EISDIR;
    if (directory !== undefined) {
      const allowed = mayCreateInSticky(task, place.mount, directory, inode);
      if (allowed < 0) return allowed;
    }
  }
  if (walk.flags & Lookup.directory && !inode.isDirectory) return -Errno.ENOTDIR;
  if (created) return openPlace(task, place, flags & ~OpenFlag.truncate, 0);
  if (flags & OpenFlag.truncate && inode.isRegular && place.mount.readOnly) return -Errno.EROFS;
  return openPlace(task, place, flags, accessOf(flags));
}

/** A new regular file under a negative dentry (lookup_open with O_CREAT). */
function create(task: Task, walk: Walk, child: Dentry, mode: number): number {
  const { mount, dentry: parent } = walk;
  const directory = parent.inode;
  if (directory === undefined) return -Errno.ENOENT;
  if (mount.readOnly) return -Errno.EROFS;
  const allowed = mayCreate(task, mount, directory);
  if (allowed < 0) return allowed;
  const full = withoutForeignSetGid(task, directory, FileType.regular | (mode & ModeBit.all));
  const made = directory.create(child.name, full & ~(task.fs.umask & 0o777), 0, task.credentials);
  if (typeof made === 'number') return made;
  mount.vfs.dentries.instantiate(child, made);
  notifyChild(directory, Event.create, child.name, false);
  return 0;
}

/** protected_regular, protected_fifos (may_create_in_sticky). */
function mayCreateInSticky(task: Task, mount: Mount, directory: Inode, inode: Inode): number {
  if (!(directory.mode & ModeBit.sticky)) return 0;
  const { protection } = mount.vfs;
  const type = inode.mode & FileType.mask;
  // What is neither is judged as if it were both and the switches on.
  if (type === FileType.regular && protection.regular === 0) return 0;
  if (type === FileType.fifo && protection.fifos === 0) return 0;
  if (inode.uid === directory.uid || inode.uid === task.credentials.fsuid) return 0;
  if (directory.mode & 0o002) return -Errno.EACCES;
  const level =
    type === FileType.regular ? protection.regular : type === FileType.fifo ? protection.fifos : 0;
  if (directory.mode & 0o020 && level >= 2) return -Errno.EACCES;
  return 0;
}

function openTemporary(
  task: Task,
  walk: Walk,
  dirfd: number,
  path: string,
  flags: number,
  mode: number,
): FileDescription | number {
  walk.flags |= Lookup.directory;
  const result = walk.resolve(dirfd, path);
  if (result < 0) return result;
  const { mount, dentry } = walk;
  const directory = dentry.inode;
  if (directory === undefined) return -Errno.ENOENT;
  if (mount.readOnly) return -Errno.EROFS;
  const allowed = pathPermission(task, mount, directory, Access.write | Access.execute);
  if (allowed < 0) return allowed;
  const full = withoutForeignSetGid(task, directory, FileType.regular | (mode & ModeBit.all));
  const inode = directory.temporaryFile(full & ~(task.fs.umask & 0o777), task.credentials);
  if (typeof inode === 'number') return inode;
  inode.linkable = (flags & OpenFlag.exclusive) === 0;
  const place = { mount, dentry: mount.vfs.dentries.nameless(dentry, `#${inode.ino}`, inode).acquire() };
  const file = openPlace(task, place, flags & ~OpenFlag.exclusive, 0);
  place.dentry.release();
  return file;
}

/**
 * Opens an existing place: `access` is what is to be checked (Access bits; 0 for a file just made). Also for exec and
 * for opening through /proc/self/fd.
 */
export function openPlace(task: Task, place: Path, flags: number, access: number): FileDescription | number {
  const { mount, dentry } = place;
  const inode = dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  const type = inode.mode & FileType.mask;
  let wanted = flags;
  switch (type) {
    case FileType.symlink:
      return -Errno.ELOOP;
    case FileType.directory:
      if (access & Access.write) return -Errno.EISDIR;
      if (access & Access.execute) return -Errno.EACCES;
      break;
    case FileType.block:
    case FileType.character:
      if (mount.flags & MountFlag.noDevices) return -Errno.EACCES;
      if (access & Access.execute) return -Errno.EACCES;
      wanted &= ~OpenFlag.truncate;
      break;
    case FileType.fifo:
    case FileType.socket:
      if (access & Access.execute) return -Errno.EACCES;
      wanted &= ~OpenFlag.truncate;
      break;
    default:
      if (access & Access.execute && mount.flags & MountFlag.noExec) return -Errno.EACCES;
  }
  const allowed = access === 0 ? 0 : pathPermission(task, mount, inode, access);
  if (allowed < 0) return allowed;
  if (flags & OpenFlag.noAccessTime && !ownerOrCapable(task.credentials, inode)) return -Errno.EPERM;
  const writes = (flags & OpenFlag.accessMode) === 1 || (flags & OpenFlag.accessMode) === 2;
  const counted = type === FileType.regular && writes;
  if (counted) {
    if (inode.writers < 0) return -Errno.ETXTBSY;
    if (mount.readOnly) return -Errno.EROFS;
  }
  const file = inode.open(task, place, wanted);
  if (typeof file === 'number') return file;
  file.flags &= ~openOnly;
  file.credentials = task.credentials;
  if (counted && file.path !== undefined) {
    inode.writers++;
    file.countedWriter = true;
  }
  if (inode.marks !== undefined || dentry.parent?.inode?.marks !== undefined) {
    notifyPath(place, Event.open);
    if (wanted & OpenFlag.truncate && type === FileType.regular) notifyPath(place, Event.modify);
  }
  return file;
}

/**
 * Opens a program for execve(2): follows the path, checks the right to execute, denies writing while it is held
 * (`endExecution` ends that). -EACCES for what is no regular file or lies on a noexec mount, -ETXTBSY.
 */
export function openExecutable(
  task: Task,
  dirfd: number,
  path: string,
  lookup: number,
): FileDescription | number {
  const walk = new Walk(task, lookup);
  const result = walk.resolve(dirfd, path);
  if (result < 0) return result;
  const { inode, mount } = walk;
  if (inode === undefined) return -Errno.ENOENT;
  if (inode.isSymlink) return -Errno.ELOOP;
  if (!inode.isRegular || mount.flags & MountFlag.noExec) return -Errno.EACCES;
  const allowed = inodePermission(task, inode, Access.execute);
  if (allowed < 0) return allowed;
  if (inode.writers > 0) return -Errno.ETXTBSY;
  const file = inode.open(task, walk.path, OpenFlag.readOnly | OpenFlag.largeFile);
  if (typeof file === 'number') return file;
  inode.writers--;
  return file;
}

/** What openExecutable gave is executed no longer; drops its reference. */
export function endExecution(file: FileDescription): void {
  const { inode } = file;
  if (inode !== undefined) inode.writers++;
  file.unreference();
}
