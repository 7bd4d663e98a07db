// Changes of the tree of names: mkdir, mknod, symlink, link, unlink, rmdir, rename. The order of the checks is that of
// fs/namei.c, because programs see it in the errno. All give 0 or a negative errno.

import { Capability } from '../abi/capability.ts';
import { Errno } from '../abi/errno.ts';
import { Access, ModeBit, Rename } from '../abi/file.ts';
import { FileType, makeDevice } from '../abi/open.ts';
import type { Task } from '../kernel/contract.ts';
import type { Mount, Path } from './contract.ts';
import type { Dentry } from './dentry.ts';
import type { Inode } from './inode.ts';
import { Event, notifyChild, notifyInode } from './notify.ts';
import { inodePermission, mayCreate, mayDelete, ownerOrCapable, withoutForeignSetGid } from './permission.ts';
import { Last, Walk } from './walk.ts';

/** A name that is about to be made: the parent is alive and the name free. */
interface Place {
  readonly mount: Mount;
  readonly parent: Dentry;
  readonly directory: Inode;
  readonly dentry: Dentry;
}

/** filename_create. */
function placeFor(task: Task, dirfd: number, path: string, isDirectory: boolean, lookup = 0): Place | number {
  const walk = new Walk(task, lookup);
  const result = walk.toParent(dirfd, path);
  if (result < 0) return result;
  if (walk.lastKind !== Last.name) return -Errno.EEXIST;
  const { mount, dentry: parent } = walk;
  const dentry = mount.vfs.dentries.lookup(task, parent, walk.last);
  if (typeof dentry === 'number') return dentry;
  if (dentry.inode !== undefined) return -Errno.EEXIST;
  if (walk.trailingSlash && !isDirectory) return -Errno.ENOENT;
  if (mount.readOnly) return -Errno.EROFS;
  const directory = parent.inode;
  return directory === undefined ? -Errno.ENOENT : { mount, parent, directory, dentry };
}

function made(place: Place, inode: Inode | number): number {
  if (typeof inode === 'number') return inode;
  place.mount.vfs.dentries.instantiate(place.dentry, inode);
  notifyChild(place.directory, Event.create, place.dentry.name, inode.isDirectory);

  return 0;
}

export function makeDirectory(task: Task, dirfd: number, path: string, mode: number): number {
  const place = placeFor(task, dirfd, path, true);
  if (typeof place === 'number') return place;
  const allowed = mayCreate(task, place.mount, place.directory);
  if (allowed < 0) return allowed;
  const bits = mode & (ModeBit.permissions | ModeBit.sticky) & ~(task.fs.umask & 0o777);
  return made(place, place.directory.makeDirectory(place.dentry.name, bits, task.credentials));
}

/** mknod(2): mode with its type (0: regular). */
export function makeNode(task: Task, dirfd: number, path: string, mode: number, device: number): number {
  const type = mode & FileType.mask;
  switch (type) {
    case 0:
    case FileType.regular:
    case FileType.fifo:
    case FileType.socket:
    case FileType.character:
    case FileType.block:
      break;
    case FileType.directory:
      return -Errno.EPERM;
    default:
      return -Errno.EINVAL;
  }
  const place = placeFor(task, dirfd, path, false);
  if (typeof place === 'number') return place;
  const full = withoutForeignSetGid(
    task,
    place.directory,
    (type === 0 ? FileType.regular : type) | (mode & ModeBit.all),
  );
  const allowed = mayCreate(task, place.mount, place.directory);
  if (allowed < 0) return allowed;
  const isDevice = type === FileType.character || type === FileType.block;
  // Overlay's whiteouts (device 0:0) need no privilege.
  const isWhiteout = type === FileType.character && device === makeDevice(0, 0);
  if (isDevice && !isWhiteout && !task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.mknod))
    return -Errno.EPERM;
  const bits = full & ~(task.fs.umask & 0o777);
  return made(
    place,
    place.directory.create(place.dentry.name, bits, isDevice ? device : 0, task.credentials),
  );
}

/** A socket's name (bind of a Unix socket): the new inode's place, or -EADDRINUSE where something is. */
export function makeSocketNode(task: Task, dirfd: number, path: string): Path | number {
  const place = placeFor(task, dirfd, path, false);
  if (typeof place === 'number') return place === -Errno.EEXIST ? -Errno.EADDRINUSE : place;
  const allowed = mayCreate(task, place.mount, place.directory);
  if (allowed < 0) return allowed;
  const mode = FileType.socket | (0o777 & ~(task.fs.umask & 0o777));
  const result = made(place, place.directory.create(place.dentry.name, mode, 0, task.credentials));
  return result < 0 ? result : { mount: place.mount, dentry: place.dentry };
}

export function makeSymlink(task: Task, target: string, dirfd: number, path: string): number {
  const place = placeFor(task, dirfd, path, false);
  if (typeof place === 'number') return place;
  const allowed = mayCreate(task, place.mount, place.directory);
  if (allowed < 0) return allowed;
  return made(place, place.directory.symlink(place.dentry.name, target, task.credentials));
}

/** link(2): `from` is what gets another name. */
export function makeLink(task: Task, from: Path, dirfd: number, path: string): number {
  const place = placeFor(task, dirfd, path, false);
  if (typeof place === 'number') return place;
  if (place.mount !== from.mount) return -Errno.EXDEV;
  const inode = from.dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  const safe = mayLink(task, from.mount, inode);
  if (safe < 0) return safe;
  const allowed = mayCreate(task, place.mount, place.directory);
  if (allowed < 0) return allowed;
  if (inode.fileSystem !== place.directory.fileSystem) return -Errno.EXDEV;
  const { credentials } = task;
  if (
    credentials.userNamespace.fromKernelUid(inode.uid) === -1 ||
    credentials.userNamespace.fromKernelGid(inode.gid) === -1
  )
    return -Errno.EPERM;
  if (inode.isDirectory) return -Errno.EPERM;
  const stat = inode.stat();
  if (typeof stat === 'number') return stat;
  if (stat.nlink === 0 && !inode.linkable) return -Errno.ENOENT;
  if (stat.nlink >= inode.linkMaximum) return -Errno.EMLINK;
  const result = place.directory.link(place.dentry.name, inode);
  if (result < 0) return result;
  inode.linkable = false;
  place.mount.vfs.dentries.instantiate(place.dentry, inode);
  notifyInode(inode, Event.attribute);
  notifyChild(place.directory, Event.create, place.dentry.name, false);
  return 0;
}

/** protected_hardlinks (may_linkat). */
function mayLink(task: Task, mount: Mount, inode: Inode): number {
  if (mount.vfs.protection.hardlinks === 0) return 0;
  const { mode } = inode;
  const safe =
    (mode & FileType.mask) === FileType.regular &&
    !(mode & ModeBit.setUid) &&
    (mode & (ModeBit.setGid | ModeBit.groupExecute)) !== (ModeBit.setGid | ModeBit.groupExecute) &&
    inodePermission(task, inode, Access.read | Access.write) === 0;
  return safe || ownerOrCapable(task.credentials, inode) ? 0 : -Errno.EPERM;
}

function isMountPoint(task: Task, mount: Mount, dentry: Dentry): boolean {
  return mount.vfs.isMountPoint(dentry, task.mounts);
}

/** The name is gone from its directory. */
function removed(mount: Mount, dentry: Dentry, directory: Inode, victim: Inode): void {
  const isDirectory = victim.isDirectory;
  const { name, parent } = dentry;
  // Other namespaces may have mounts there: they go.
  mount.vfs.unmountAt(dentry);
  if (!isDirectory) notifyInode(victim, Event.attribute);
  mount.vfs.dentries.remove(dentry);
  notifyChild(directory, Event.delete, name, isDirectory);
  // The next look for the name needs no question to the file system.
  if (parent !== undefined && !parent.unhashed) mount.vfs.dentries.add(parent, name, undefined);
}

export function unlink(task: Task, dirfd: number, path: string): number {
  const walk = new Walk(task, 0);
  const result = walk.toParent(dirfd, path);
  if (result < 0) return result;
  if (walk.lastKind !== Last.name) return -Errno.EISDIR;
  const { mount, dentry: parent } = walk;
  if (mount.readOnly) return -Errno.EROFS;
  const dentry = mount.vfs.dentries.lookup(task, parent, walk.last);
  if (typeof dentry === 'number') return dentry;
  const victim = dentry.inode;
  const directory = parent.inode;
  if (victim === undefined || directory === undefined) return -Errno.ENOENT;
  if (walk.trailingSlash) return victim.isDirectory ? -Errno.EISDIR : -Errno.ENOTDIR;
  const allowed = mayDelete(task, mount, directory, victim, false);
  if (allowed < 0) return allowed;
  if (isMountPoint(task, mount, dentry)) return -Errno.EBUSY;
  const done = directory.unlink(dentry.name, victim);
  if (done < 0) return done;
  removed(mount, dentry, directory, victim);
  return 0;
}

export function removeDirectory(task: Task, dirfd: number, path: string): number {
  const walk = new Walk(task, 0);
  const result = walk.toParent(dirfd, path);
  if (result < 0) return result;
  if (walk.lastKind === Last.dotDot) return -Errno.ENOTEMPTY;
  if (walk.lastKind === Last.dot) return -Errno.EINVAL;
  if (walk.lastKind === Last.root) return -Errno.EBUSY;
  const { mount, dentry: parent } = walk;
  if (mount.readOnly) return -Errno.EROFS;
  const dentry = mount.vfs.dentries.lookup(task, parent, walk.last);
  if (typeof dentry === 'number') return dentry;
  const victim = dentry.inode;
  const directory = parent.inode;
  if (victim === undefined || directory === undefined) return -Errno.ENOENT;
  const allowed = mayDelete(task, mount, directory, victim, true);
  if (allowed < 0) return allowed;
  if (isMountPoint(task, mount, dentry)) return -Errno.EBUSY;
  const done = directory.removeDirectory(dentry.name, victim);
  if (done < 0) return done;
  removed(mount, dentry, directory, victim);
  return 0;
}

/** renameat2(2); flags are checked by the caller. */
export function rename(
  task: Task,
  fromFd: number,
  fromPath: string,
  toFd: number,
  toPath: string,
  flags: number,
): number {
  const from = new Walk(task, 0);
  let result = from.toParent(fromFd, fromPath);
  if (result < 0) return result;
  const to = new Walk(task, 0);
  result = to.toParent(toFd, toPath);
  if (result < 0) return result;
  const { mount } = from;
  if (mount !== to.mount) return -Errno.EXDEV;
  if (from.lastKind !== Last.name) return -Errno.EBUSY;
  if (to.lastKind !== Last.name) return flags & Rename.noReplace ? -Errno.EEXIST : -Errno.EBUSY;
  if (mount.readOnly) return -Errno.EROFS;
  const { dentries } = mount.vfs;
  const oldParent = from.dentry;
  const newParent = to.dentry;
  const old = dentries.lookup(task, oldParent, from.last);
  if (typeof old === 'number') return old;
  const source = old.inode;
  if (source === undefined) return -Errno.ENOENT;
  const target = dentries.lookup(task, newParent, to.last);
  if (typeof target === 'number') return target;
  const replaced = target.inode;
  const exchange = (flags & Rename.exchange) !== 0;
  if (flags & Rename.noReplace && replaced !== undefined) return -Errno.EEXIST;
  if (exchange) {
    if (replaced === undefined) return -Errno.ENOENT;
    if (!replaced.isDirectory && to.trailingSlash) return -Errno.ENOTDIR;
  }
  if (!source.isDirectory && (from.trailingSlash || (!exchange && to.trailingSlash))) return -Errno.ENOTDIR;
  if (newParent.isUnder(old)) return -Errno.EINVAL;
  if (oldParent.isUnder(target)) return exchange ? -Errno.EINVAL : -Errno.ENOTEMPTY;
  return renameDentry(task, mount, old, source, oldParent, target, newParent, flags);
}

/** vfs_rename. */
function renameDentry(
  task: Task,
  mount: Mount,
  old: Dentry,
  source: Inode,
  oldParent: Dentry,
  target: Dentry,
  newParent: Dentry,
  flags: number,
): number {
  const oldDirectory = oldParent.inode;
  const newDirectory = newParent.inode;
  if (oldDirectory === undefined || newDirectory === undefined) return -Errno.ENOENT;
  const replaced = target.inode;
  if (replaced === source) return 0;
  const exchange = (flags & Rename.exchange) !== 0;
  let allowed = mayDelete(task, mount, oldDirectory, source, source.isDirectory);
  if (allowed < 0) return allowed;
  if (replaced === undefined) allowed = mayCreate(task, mount, newDirectory);
  else
    allowed = mayDelete(
      task,
      mount,
      newDirectory,
      replaced,
      exchange ? replaced.isDirectory : source.isDirectory,
    );
  if (allowed < 0) return allowed;
  if (oldParent !== newParent) {
    // Its ".." changes.
    if (source.isDirectory) allowed = inodePermission(task, source, Access.write);
    if (allowed >= 0 && exchange && replaced?.isDirectory)
      allowed = inodePermission(task, replaced, Access.write);
    if (allowed < 0) return allowed;
  }
  if (isMountPoint(task, mount, old) || isMountPoint(task, mount, target)) return -Errno.EBUSY;
  const oldName = old.name;
  const newName = target.name;
  const result = oldDirectory.rename(
    oldName,
    source,
    newDirectory,
    newName,
    replaced,
    flags,
    task.credentials,
  );
  if (result < 0) return result;
  const { vfs } = mount;
  if (exchange) {
    vfs.dentries.exchange(old, target);
  } else {
    if (replaced !== undefined) vfs.unmountAt(target);
    // Its end is told after the move.
    target.acquire();
    vfs.dentries.move(old, newParent, newName);
  }
  notifyMoved(mount, oldDirectory, oldName, newDirectory, newName, source);
  if (exchange && replaced) notifyMoved(mount, newDirectory, newName, oldDirectory, oldName, replaced);
  if (exchange) return 0;
  if (replaced !== undefined && !replaced.isDirectory) notifyInode(replaced, Event.attribute);
  target.release();
  return 0;
}

function notifyMoved(
  mount: Mount,
  from: Inode,
  oldName: string,
  to: Inode,
  newName: string,
  moved: Inode,
): void {
  if (from.marks === undefined && to.marks === undefined && moved.marks === undefined) return;
  const cookie = mount.vfs.nextCookie();
  notifyChild(from, Event.movedFrom, oldName, moved.isDirectory, cookie);
  notifyChild(to, Event.movedTo, newName, moved.isDirectory, cookie);
  notifyInode(moved, Event.moveSelf);
}
