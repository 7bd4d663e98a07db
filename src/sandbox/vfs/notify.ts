// File system events (inotify(7)): the places in the core where something happens call these functions, which tell the
// marks that watchers put on inodes. Cheap when nobody watches: a look at two fields.

import type { Path } from './contract.ts';
import type { Inode } from './inode.ts';

/** IN_* (linux/inotify.h); the first twelve are what happens, the others come with them. */
export const Event = {
  access: 0x001,
  modify: 0x002,
  attribute: 0x004,
  closeWrite: 0x008,
  closeNoWrite: 0x010,
  open: 0x020,
  movedFrom: 0x040,
  movedTo: 0x080,
  create: 0x100,
  delete: 0x200,
  deleteSelf: 0x400,
  moveSelf: 0x800,
  unmount: 0x2000,
  queueOverflow: 0x4000,
  ignored: 0x8000,
  isDirectory: 0x4000_0000,
} as const;

/** Somebody's interest in an inode. */
export interface Mark {
  /**
   * mask: the event; name: the child that it concerns when the mark is on a directory; unlinked: the child has no name
   * any more (IN_EXCL_UNLINK).
   */
  notify(mask: number, cookie: number, name: string | undefined, unlinked: boolean): void;
  /** The inode is gone (its last name and its last user), or its file system. */
  gone(mask: number): void;
}

export type InodeMarks = Set<Mark>;

/** Something happened to an inode itself, whatever its name (moved, its number of names changed). */
export function notifyInode(inode: Inode, mask: number): void {
  const { marks } = inode;
  if (marks === undefined) return;
  for (const mark of [...marks]) mark.notify(mask, 0, undefined, false);
}

/** Something happened to a name in a directory. */
export function notifyChild(
  directory: Inode | undefined,
  mask: number,
  name: string,
  isDirectory: boolean,
  cookie = 0,
): void {
  const marks = directory?.marks;
  if (marks === undefined) return;
  for (const mark of [...marks])
    mark.notify(isDirectory ? mask | Event.isDirectory : mask, cookie, name, false);
}

/** Something happened to a file at a place: its parent directory hears of it first, then the file. */
export function notifyPath(path: Path, mask: number): void {
  const { dentry } = path;
  const { inode, parent } = dentry;
  if (inode === undefined) return;
  const above = parent?.inode?.marks;
  if (above === undefined && inode.marks === undefined) return;
  const full = inode.isDirectory ? mask | Event.isDirectory : mask;
  if (above !== undefined) for (const mark of [...above]) mark.notify(full, 0, dentry.name, dentry.unhashed);
  notifyInode(inode, full);
}

/** An inode has lost its last name and the user of that name, or its file system. */
export function notifyGone(inode: Inode, mask: number): void {
  const { marks } = inode;
  if (marks === undefined) return;
  for (const mark of [...marks]) mark.gone(mask);
}
