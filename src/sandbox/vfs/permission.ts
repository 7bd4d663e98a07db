// Who may do what with an inode: mode bits, groups and capabilities (path_resolution(7), capabilities(7)); sticky
// directories; clearing set-user-ID on changes. Follows fs/namei.c and fs/attr.c.

import { Capability } from '../abi/capability.ts';
import { Errno } from '../abi/errno.ts';
import { Access, ModeBit } from '../abi/file.ts';
import { FileType } from '../abi/open.ts';
import type { Credentials, Task } from '../kernel/contract.ts';
import type { Mount } from './contract.ts';
import type { Inode } from './inode.ts';

/** A capability counts for an inode whose owners are mapped in the caller's user namespace. */
export function capableOver(credentials: Credentials, inode: Inode, capability: number): boolean {
  if (!credentials.has(capability)) return false;
  const namespace = credentials.userNamespace;
  return namespace.fromKernelUid(inode.uid) !== -1 && namespace.fromKernelGid(inode.gid) !== -1;
}

/** inode_owner_or_capable. */
export function ownerOrCapable(credentials: Credentials, inode: Inode): boolean {
  return credentials.fsuid === inode.uid || capableOver(credentials, inode, Capability.fowner);
}

/** 0, or -EACCES (or what the inode's own check says). mask: Access bits. */
export function inodePermission(
  task: Task,
  inode: Inode,
  mask: number,
  credentials: Credentials = task.credentials,
): number {
  const own = inode.permission(mask, task);
  if (own !== undefined) return own;
  const { mode } = inode;
  // What everybody may do needs no look at who asks.
  if ((mask & ~(mode & (mode >> 3) & (mode >> 6))) === 0) return 0;
  let bits = mode;
  if (credentials.fsuid === inode.uid) bits = mode >> 6;
  else if (credentials.inGroup(inode.gid)) bits = mode >> 3;
  if ((mask & ~bits) === 0) return 0;
  if ((mode & FileType.mask) === FileType.directory) {
    if (!(mask & Access.write) && capableOver(credentials, inode, Capability.dacReadSearch)) return 0;
    return capableOver(credentials, inode, Capability.dacOverride) ? 0 : -Errno.EACCES;
  }
  if (mask === Access.read && capableOver(credentials, inode, Capability.dacReadSearch)) return 0;
  if ((!(mask & Access.execute) || mode & 0o111) && capableOver(credentials, inode, Capability.dacOverride))
    return 0;
  return -Errno.EACCES;
}

/** As inodePermission, with what the file system as a whole forbids (sb_permission). */
export function pathPermission(
  task: Task,
  mount: Mount,
  inode: Inode,
  mask: number,
  credentials: Credentials = task.credentials,
): number {
  if (mask & Access.write && mount.superBlock.flags & 1) {
    const type = inode.mode & FileType.mask;
    if (type === FileType.regular || type === FileType.directory || type === FileType.symlink)
      return -Errno.EROFS;
  }
  return inodePermission(task, inode, mask, credentials);
}

/** check_sticky: whether a name in a sticky directory is not the caller's to remove. */
export function isStickyFor(credentials: Credentials, directory: Inode, inode: Inode): boolean {
  if (!(directory.mode & ModeBit.sticky)) return false;
  if (inode.uid === credentials.fsuid || directory.uid === credentials.fsuid) return false;
  return !capableOver(credentials, inode, Capability.fowner);
}

/** may_create. The directory is known to be alive. */
export function mayCreate(task: Task, mount: Mount, directory: Inode): number {
  const { credentials } = task;
  const namespace = credentials.userNamespace;
  if (namespace.fromKernelUid(credentials.fsuid) === -1 || namespace.fromKernelGid(credentials.fsgid) === -1)
    return -Errno.EOVERFLOW;
  return pathPermission(task, mount, directory, Access.write | Access.execute);
}

/** may_delete. isDirectory: the caller wants to remove a directory. */
export function mayDelete(
  task: Task,
  mount: Mount,
  directory: Inode,
  victim: Inode | undefined,
  isDirectory: boolean,
): number {
  if (victim === undefined) return -Errno.ENOENT;
  const allowed = pathPermission(task, mount, directory, Access.write | Access.execute);
  if (allowed < 0) return allowed;
  const { credentials } = task;
  const namespace = credentials.userNamespace;
  if (
    isStickyFor(credentials, directory, victim) ||
    namespace.fromKernelUid(victim.uid) === -1 ||
    namespace.fromKernelGid(victim.gid) === -1
  )
    return -Errno.EPERM;
  if (isDirectory) return victim.isDirectory ? 0 : -Errno.ENOTDIR;
  return victim.isDirectory ? -Errno.EISDIR : 0;
}

/** mode_strip_sgid: what a new file's mode is in a set-group-ID directory of a group the caller is not in. */
export function withoutForeignSetGid(task: Task, directory: Inode, mode: number): number {
  if ((mode & (ModeBit.setGid | ModeBit.groupExecute)) !== (ModeBit.setGid | ModeBit.groupExecute))
    return mode;
  if ((mode & FileType.mask) === FileType.directory || !(directory.mode & ModeBit.setGid)) return mode;
  const { credentials } = task;
  if (credentials.inGroup(directory.gid) || capableOver(credentials, directory, Capability.fsetid))
    return mode;
  return mode & ~ModeBit.setGid;
}

/** The owner of a new inode in a directory, and its mode: set-group-ID directories hand on their group. */
export function newInodeOwner(
  directory: Inode,
  mode: number,
  owner: Credentials,
): { readonly uid: number; readonly gid: number; readonly mode: number } {
  if (!(directory.mode & ModeBit.setGid)) return { uid: owner.fsuid, gid: owner.fsgid, mode };
  const isDirectory = (mode & FileType.mask) === FileType.directory;
  return { uid: owner.fsuid, gid: directory.gid, mode: isDirectory ? mode | ModeBit.setGid : mode };
}

/**
 * The mode after somebody wrote or truncated a regular file: without set-user-ID and effective set-group-ID unless he
 * has CAP_FSETID (setattr_should_drop_suidgid). ownerChanged: after chown(2), whose caller's capabilities do not count,
 * and which counts for all but directories. undefined: it stays as it is.
 */
export function modeAfterChange(
  inode: Inode,
  credentials: Credentials,
  ownerChanged = false,
): number | undefined {
  const { mode } = inode;
  const type = mode & FileType.mask;
  if (!(mode & (ModeBit.setUid | ModeBit.setGid))) return undefined;
  if (ownerChanged ? type === FileType.directory : type !== FileType.regular) return undefined;
  let kill = mode & ModeBit.setUid;
  if (mode & ModeBit.setGid) {
    if (mode & ModeBit.groupExecute) kill |= ModeBit.setGid;
    else if (!credentials.inGroup(inode.gid) && !capableOver(credentials, inode, Capability.fsetid))
      kill |= ModeBit.setGid;
  }
  if (kill === 0 || (!ownerChanged && capableOver(credentials, inode, Capability.fsetid))) return undefined;
  return mode & ~kill;
}
