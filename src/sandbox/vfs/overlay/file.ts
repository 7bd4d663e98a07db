// Open files of an overlay: a file is read and written through a description of its layer's, which is taken anew when
// the file has been copied up since; a directory lists the names of all its layers, each once.

import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { HostFd } from '../../host/contract.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Path } from '../contract.ts';
import { type DirectoryEntry, FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import type { Io } from '../io.ts';
import type { OverlayInode } from './inode.ts';

const directoryType = FileType.directory >> 12;

export class OverlayFile extends FileDescription {
  readonly #inode: OverlayInode;
  #real: FileDescription;
  #realInode: Inode;

  constructor(inode: OverlayInode, path: Path, flags: number, real: FileDescription) {
    super(flags, path);
    this.#inode = inode;
    this.#real = real;
    this.#realInode = inode.real;
  }

  override get inode(): OverlayInode {
    return this.#inode;
  }

  /** The layer's description, at this one's position. */
  #current(): FileDescription | number {
    const inode = this.#inode;
    if (this.#realInode !== inode.real) {
      const file = inode.openReal(this.flags & ~(OpenFlag.truncate | OpenFlag.create | OpenFlag.exclusive));
      if (typeof file === 'number') return file;
      this.#real.unreference();
      this.#real = file;
      this.#realInode = inode.real;
    }
    this.#real.position = this.position;
    return this.#real;
  }

  #with(use: (real: FileDescription) => number): number {
    const real = this.#current();
    if (typeof real === 'number') return real;
    const result = use(real);
    this.position = real.position;
    return result;
  }

  override read(task: Task, io: Io, position: number | undefined): number {
    return this.#with((real) => real.read(task, io, position));
  }
  override write(task: Task, io: Io, position: number | undefined): number {
    return this.#with((real) => real.write(task, io, position));
  }
  override seek(task: Task, offset: number, whence: number): number {
    return this.#with((real) => real.seek(task, offset, whence));
  }
  override ioctl(task: Task, command: number, argument: number): number {
    return this.#with((real) => real.ioctl(task, command, argument));
  }
  override truncate(task: Task, length: number): number {
    return this.#with((real) => real.truncate(task, length));
  }
  override allocate(task: Task, mode: number, offset: number, length: number): number {
    return this.#with((real) => real.allocate(task, mode, offset, length));
  }
  override sync(task: Task, dataOnly: boolean, result = 0): number {
    // Lower layers are never changed.
    return this.#inode.upper ? this.#with((real) => real.sync(task, dataOnly, result)) : result;
  }
  override mappable(task: Task, protection: number, shared: boolean): HostFd | number {
    const real = this.#current();
    return typeof real === 'number' ? real : real.mappable(task, protection, shared);
  }
  override setFlags(flags: number): number {
    const result = this.#real.setFlags(flags);
    return result < 0 ? result : super.setFlags(flags);
  }

  protected override release(): void {
    this.#real.unreference();
  }
}

/** A pass from the beginning sees the names as they were at its beginning; positions are places among them. */
export class OverlayDirectoryFile extends FileDescription {
  readonly #inode: OverlayInode;
  #listing: readonly DirectoryEntry[] | undefined;

  constructor(inode: OverlayInode, path: Path, flags: number) {
    super(flags, path);
    this.#inode = inode;
  }

  override get inode(): OverlayInode {
    return this.#inode;
  }

  override read(): number {
    return -Errno.EISDIR;
  }

  override readDirectory(_task: Task, emit: (entry: DirectoryEntry) => boolean): number {
    const inode = this.#inode;
    if (this.position === 0 || this.#listing === undefined) {
      const listing = inode.list();
      if (typeof listing === 'number') return listing;
      this.#listing = listing;
    }
    if (this.position === 0) {
      if (!emit({ name: '.', ino: inode.ino, type: directoryType, next: 1 })) return 0;
      this.position = 1;
    }
    if (this.position === 1) {
      const parent = this.path?.dentry.parent?.inode ?? inode;
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

  override sync(task: Task, dataOnly: boolean, result = 0): number {
    if (!this.#inode.upper) return result;
    const file = this.#inode.openReal(OpenFlag.readOnly | OpenFlag.directory);
    if (typeof file === 'number') return file;
    const done = file.sync(task, dataOnly, result);
    file.unreference();
    return done;
  }
}
