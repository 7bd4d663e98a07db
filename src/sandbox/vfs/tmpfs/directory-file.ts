// An open directory of tmpfs.

import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import { directoryEntryType } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import { updatesAccessTime } from '../attributes.ts';
import type { Path } from '../contract.ts';
import { type DirectoryEntry, FileDescription } from '../file-description.ts';
import type { TmpfsInode } from './inode.ts';

const dotCookie = 0;
const dotDotCookie = 1;
/** Further on it is this and the cookie of the last name that was given. */
const entriesCookie = 2;
/** Read to its end (DIR_OFFSET_EOD): what comes later is seen after a rewind only. */
const endCookie = 0x7fff_ffff;

export class TmpfsDirectoryFile extends FileDescription {
  readonly #inode: TmpfsInode;

  constructor(inode: TmpfsInode, flags: number, path: Path) {
    super(flags, path);
    this.#inode = inode;
  }

  override read(): number {
    return -Errno.EISDIR;
  }

  override seek(_task: Task, offset: number, whence: number): number {
    const place = whence === Seek.set ? offset : whence === Seek.current ? this.position + offset : -1;
    if (place < 0) return -Errno.EINVAL;
    this.position = place;
    return place;
  }

  override sync(): number {
    return 0;
  }

  override readDirectory(_task: Task, emit: (entry: DirectoryEntry) => boolean): number {
    const inode = this.#inode;
    const { path } = this;
    const directory = directoryEntryType(inode.mode);
    if (path && updatesAccessTime(path, this.flags, inode, inode)) inode.atime = inode.fileSystem.now();
    if (this.position === dotCookie) {
      if (!emit({ name: '.', ino: inode.ino, type: directory, next: dotDotCookie })) return 0;
      this.position = dotDotCookie;
    }
    if (this.position === dotDotCookie) {
      const parent = path?.dentry.parent?.inode ?? inode;
      if (!emit({ name: '..', ino: parent.ino, type: directory, next: entriesCookie })) return 0;
      this.position = entriesCookie;
    }
    if (this.position === endCookie) return 0;
    const last = this.position - entriesCookie;
    for (const entry of inode.entries?.below(last === 0 ? Number.POSITIVE_INFINITY : last) ?? []) {
      const next = entry.cookie + entriesCookie;
      const type = directoryEntryType(entry.inode.mode);
      if (!emit({ name: entry.name, ino: entry.inode.ino, type, next })) return 0;
      this.position = next;
    }
    this.position = endCookie;
    return 0;
  }
}
