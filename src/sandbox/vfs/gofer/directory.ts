// An open directory of a tree that the Gofer serves. A pass from the beginning sees the names as they were at its
// beginning, each once; positions are places in that listing, so that telldir and seekdir agree.

import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import { FileType } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Path } from '../contract.ts';
import { type DirectoryEntry, FileDescription } from '../file-description.ts';
import type { GoferInode } from './inode.ts';

export type DirectoryListing = readonly {
  readonly name: string;
  readonly ino: number;
  /** DT_*. */
  readonly type: number;
}[];

const directoryType = FileType.directory >> 12;

export class GoferDirectory extends FileDescription {
  readonly #inode: GoferInode;
  #listing: DirectoryListing | undefined;

  constructor(inode: GoferInode, path: Path, flags: number) {
    super(flags, path);
    this.#inode = inode;
  }

  override read(): number {
    return -Errno.EISDIR;
  }

  override readDirectory(_task: Task, emit: (entry: DirectoryEntry) => boolean): number {
    if (this.position === 0 || this.#listing === undefined) {
      const listing = this.#inode.list();
      if (typeof listing === 'number') return listing;
      this.#listing = listing;
    }
    const parent = this.path?.dentry.parent?.inode ?? this.#inode;
    if (this.position === 0) {
      if (!emit({ name: '.', ino: this.#inode.ino, type: directoryType, next: 1 })) return 0;
      this.position = 1;
    }
    if (this.position === 1) {
      if (!emit({ name: '..', ino: parent.ino, type: directoryType, next: 2 })) return 0;
      this.position = 2;
    }
    for (let index = this.position - 2; index < this.#listing.length; index++) {
      const entry = this.#listing[index];
      if (!entry || !emit({ ...entry, next: index + 3 })) return 0;
      this.position = index + 3;
    }
    return 0;
  }

  override seek(_task: Task, offset: number, whence: number): number {
    if (whence !== Seek.set && whence !== Seek.current) return -Errno.EINVAL;
    const position = whence === Seek.set ? offset : this.position + offset;
    if (position < 0) return -Errno.EINVAL;
    this.position = position;
    return position;
  }

  override sync(_task: Task, _dataOnly: boolean): number {
    return this.#inode.syncDirectory();
  }
}
