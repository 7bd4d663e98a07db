// The kinds of inodes that /proc is made of: directories, texts that are made when they are read, and links.

import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Path, Stat, Timespec } from '../contract.ts';
import { type DirectoryEntry, FileDescription } from '../file-description.ts';
import { Inode } from '../inode.ts';
import type { ProcFileSystem } from './file-system.ts';
import { TextFile } from './text-file.ts';

/** Whose a file is: kernel ids, which may change while it exists. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export const rootOwner: Owner = { uid: 0, gid: 0 };

/** One name in a directory of /proc, as readdir shows it. */
export interface Listed {
  readonly name: string;
  readonly ino: number;
  /** S_IFMT bits. */
  readonly type: number;
}

export abstract class ProcInode extends Inode {
  readonly fileSystem: ProcFileSystem;
  readonly mode: number;
  readonly ino: number;
  readonly owner: Owner;
  readonly #time: Timespec;

  constructor(fileSystem: ProcFileSystem, ino: number, mode: number, owner: Owner) {
    super();
    this.fileSystem = fileSystem;
    this.ino = ino;
    this.mode = mode;
    this.owner = owner;
    this.#time = fileSystem.kernel.clock.realtime();
  }

  get uid(): number {
    return this.owner.uid;
  }
  get gid(): number {
    return this.owner.gid;
  }

  /** st_size. */
  get size(): number {
    return 0;
  }
  get linkCount(): number {
    return 1;
  }

  stat(): Stat | number {
    const time = this.#time;
    return {
      dev: this.fileSystem.device,
      ino: this.ino,
      mode: this.mode,
      nlink: this.linkCount,
      uid: this.uid,
      gid: this.gid,
      rdev: 0,
      size: this.size,
      blksize: 1024,
      blocks: 0,
      atime: time,
      mtime: time,
      ctime: time,
    };
  }
}

/** What a text is made from: who opened it (whose ids and namespaces count). A negative errno fails the read. */
export type Show = (opener: Task) => string | Uint8Array | number;

/** What is done with what a program wrote (latin1 text, at most a page): 0 or a negative errno. */
export type Store = (text: string, writer: Task, opener: Task) => number;

export interface TextOptions {
  /** Asked when it is opened. */
  readonly mayOpen?: (opener: Task) => number;
  readonly store?: Store;
}

export class ProcText extends ProcInode {
  readonly #show: Show;
  readonly #options: TextOptions;

  constructor(
    fileSystem: ProcFileSystem,
    ino: number,
    permissions: number,
    owner: Owner,
    show: Show,
    options: TextOptions = {},
  ) {
    super(fileSystem, ino, FileType.regular | permissions, owner);
    this.#show = show;
    this.#options = options;
  }

  override open(task: Task, path: Path, flags: number): FileDescription | number {
    const may = this.#options.mayOpen?.(task) ?? 0;
    return may < 0 ? may : new TextFile(path, flags, task, this.#show, this.#options.store);
  }

  /** Truncation (O_TRUNC, as a shell's ">" asks for it) is accepted and does nothing. */
  override setAttributes(change: { readonly size?: number; readonly mode?: number }): number {
    return change.size !== undefined && change.mode === undefined ? 0 : -Errno.EPERM;
  }
}

export class ProcLink extends ProcInode {
  readonly #text: (reader: Task) => string | number;
  readonly #place: ((reader: Task) => Path | number) | undefined;

  /** place: what following it leads to (a magic link), else the text is walked. */
  constructor(
    fileSystem: ProcFileSystem,
    ino: number,
    owner: Owner,
    text: (reader: Task) => string | number,
    place?: (reader: Task) => Path | number,
    permissions = 0o777,
  ) {
    super(fileSystem, ino, FileType.symlink | permissions, owner);
    this.#text = text;
    this.#place = place;
  }

  override readLink(task: Task): string | number {
    return this.#text(task);
  }
  override followLink(task: Task): Path | number | undefined {
    return this.#place?.(task);
  }
}

export abstract class ProcDirectory extends ProcInode {
  constructor(fileSystem: ProcFileSystem, ino: number, permissions: number, owner: Owner) {
    super(fileSystem, ino, FileType.directory | permissions, owner);
  }

  override get linkCount(): number {
    return 2;
  }

  /** The names in it, in the order of their positions; `after` is the position of the last one seen, 0 at first. */
  abstract entries(reader: Task, after: number): Iterable<readonly [position: number, entry: Listed]>;

  override open(_task: Task, path: Path, flags: number): FileDescription | number {
    if ((flags & OpenFlag.accessMode) !== OpenFlag.readOnly) return -Errno.EISDIR;
    return new ProcDirectoryFile(path, flags, this);
  }
}

/** A directory whose names never change. */
export class ProcTable extends ProcDirectory {
  readonly #children: ReadonlyMap<string, ProcInode>;
  readonly #subdirectories: number;

  constructor(
    fileSystem: ProcFileSystem,
    ino: number,
    permissions: number,
    owner: Owner,
    children: ReadonlyMap<string, ProcInode>,
  ) {
    super(fileSystem, ino, permissions, owner);
    this.#children = children;
    this.#subdirectories = [...children.values()].filter((child) => child.isDirectory).length;
  }

  override get linkCount(): number {
    return 2 + this.#subdirectories;
  }

  override lookup(name: string, _task: Task): Inode | number {
    return this.#children.get(name) ?? -Errno.ENOENT;
  }

  *entries(_reader: Task, after: number): Iterable<readonly [number, Listed]> {
    let position = 0;
    for (const [name, inode] of this.#children) {
      position++;
      if (position > after) yield [position, { name, ino: inode.ino, type: inode.mode & FileType.mask }];
    }
  }
}

const directoryType = FileType.directory >> 12;

class ProcDirectoryFile extends FileDescription {
  readonly #directory: ProcDirectory;

  constructor(path: Path, flags: number, directory: ProcDirectory) {
    super(flags, path);
    this.#directory = directory;
  }

  override read(): number {
    return -Errno.EISDIR;
  }

  override readDirectory(task: Task, emit: (entry: DirectoryEntry) => boolean): number {
    const { path } = this;
    if (this.position === 0) {
      if (!emit({ name: '.', ino: this.#directory.ino, type: directoryType, next: 1 })) return 0;
      this.position = 1;
    }
    if (this.position === 1) {
      const parent = path?.dentry.parent?.inode ?? this.#directory;
      if (!emit({ name: '..', ino: parent.ino, type: directoryType, next: 2 })) return 0;
      this.position = 2;
    }
    for (const [position, { name, ino, type }] of this.#directory.entries(task, this.position - 2)) {
      if (!emit({ name, ino, type: type >> 12, next: position + 2 })) return 0;
      this.position = position + 2;
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

  override sync(): number {
    return -Errno.EINVAL;
  }
}
