// A tree of texts that the kernel makes when they are read, described by data: what sysfs and cgroup are made of, as
// Linux's kernfs. A directory's names may change by themselves (network interfaces come and go); an inode stays the same
// as long as its name is there.

import { Errno } from '../../abi/errno.ts';
import { ModeBit, Seek } from '../../abi/file.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Credentials, Kernel, Task } from '../../kernel/contract.ts';
import type { FileSystem, Path, Stat, StatFs, Timespec } from '../contract.ts';
import { type DirectoryEntry, FileDescription } from '../file-description.ts';
import { type AttributeChange, Inode } from '../inode.ts';
import type { Show, Store } from '../proc/inode.ts';
import { TextFile } from '../proc/text-file.ts';

/** What a name stands for. Permissions are 444 for texts, 644 for those that can be stored, 755 for directories. */
export type Entry =
  | { readonly show: Show; readonly store?: Store; readonly permissions?: number }
  | { readonly target: string }
  | { readonly names: Names };

/** The names in a directory, or how to find out what they are now. */
export type Names = ReadonlyMap<string, Entry> | (() => ReadonlyMap<string, Entry>);

export const directory = (names: Readonly<Record<string, Entry>> | Names = {}): Entry => ({
  names: names instanceof Map || typeof names === 'function' ? names : new Map(Object.entries(names)),
});
export const link = (target: string): Entry => ({ target });
/** A text with a newline behind it, as most attributes are. */
export const line = (show: (reader: Task) => string | number): Entry => ({
  show: (reader) => `${show(reader)}\n`,
});
export const text = (show: Show): Entry => ({ show });

export interface TreeKind {
  readonly type: string;
  readonly magic: number;
  /** st_size of a text. */
  readonly textSize: number;
  readonly rootPermissions: number;
  /** What opening a text for writing gives that cannot be stored (sysfs: -EACCES), or 0. */
  readonly openReadOnly: number;
  /** What mkdir(2) gives. */
  readonly makeDirectory: number;
}

export class TreeFileSystem implements FileSystem {
  readonly kernel: Kernel;
  readonly kind: TreeKind;
  readonly type: string;
  readonly device: number;
  readonly options: string;
  readonly root: TreeDirectory;
  #lastInode = 0;

  constructor(kernel: Kernel, kind: TreeKind, names: Names, options = '') {
    this.kernel = kernel;
    this.kind = kind;
    this.type = kind.type;
    this.device = kernel.anonymousDevice();
    this.options = options;
    this.root = new TreeDirectory(this, kind.rootPermissions, names);
  }

  nextInode(): number {
    return ++this.#lastInode;
  }

  statfs(): StatFs {
    return {
      type: this.kind.magic,
      blockSize: 4096,
      blocks: 0,
      blocksFree: 0,
      blocksAvailable: 0,
      files: 0,
      filesFree: 0,
      nameLength: 255,
    };
  }
  sync(): number {
    return 0;
  }
  release(): void {}
}

abstract class TreeInode extends Inode {
  readonly fileSystem: TreeFileSystem;
  readonly ino: number;
  mode: number;
  uid = 0;
  gid = 0;
  #atime: Timespec;
  #mtime: Timespec;
  #ctime: Timespec;

  constructor(fileSystem: TreeFileSystem, mode: number) {
    super();
    this.fileSystem = fileSystem;
    this.ino = fileSystem.nextInode();
    this.mode = mode;
    this.#atime = this.#mtime = this.#ctime = fileSystem.kernel.clock.realtime();
  }

  protected get size(): number {
    return 0;
  }
  protected get linkCount(): number {
    return 1;
  }

  override stat(): Stat {
    return {
      dev: this.fileSystem.device,
      ino: this.ino,
      mode: this.mode,
      nlink: this.linkCount,
      uid: this.uid,
      gid: this.gid,
      rdev: 0,
      size: this.size,
      blksize: 4096,
      blocks: 0,
      atime: this.#atime,
      mtime: this.#mtime,
      ctime: this.#ctime,
    };
  }

  /** Kept while the file system is mounted. Truncation (a shell's ">") is accepted and does nothing. */
  override setAttributes(change: AttributeChange, _credentials: Credentials): number {
    const { mode, uid, gid, atime, mtime, ctime } = change;
    if (mode !== undefined) this.mode = (this.mode & FileType.mask) | (mode & ModeBit.all);
    if (uid !== undefined) this.uid = uid;
    if (gid !== undefined) this.gid = gid;
    if (atime) this.#atime = atime;
    if (mtime) this.#mtime = mtime;
    this.#ctime = ctime ?? this.fileSystem.kernel.clock.realtime();
    return 0;
  }
}

class TreeText extends TreeInode {
  readonly #show: Show;
  readonly #store: Store | undefined;

  constructor(fileSystem: TreeFileSystem, permissions: number, show: Show, store: Store | undefined) {
    super(fileSystem, FileType.regular | permissions);
    this.#show = show;
    this.#store = store;
  }

  protected override get size(): number {
    return this.fileSystem.kind.textSize;
  }

  override open(task: Task, path: Path, flags: number): FileDescription | number {
    const writes = (flags & OpenFlag.accessMode) !== OpenFlag.readOnly;
    if (writes && !this.#store && this.fileSystem.kind.openReadOnly < 0)
      return this.fileSystem.kind.openReadOnly;
    // Without a way to store it, a write fails with EINVAL (kernfs_fop_write_iter).
    return new TextFile(path, flags, task, this.#show, this.#store ?? (() => -Errno.EINVAL));
  }
}

class TreeLink extends TreeInode {
  readonly #target: string;

  constructor(fileSystem: TreeFileSystem, target: string) {
    super(fileSystem, FileType.symlink | 0o777);
    this.#target = target;
  }

  override readLink(_task: Task): string {
    return this.#target;
  }
}

/** Positions in a directory's listing are given out in the order in which names are first seen. */
interface Child {
  readonly position: number;
  readonly entry: Entry;
  readonly inode: TreeInode;
}

class TreeDirectory extends TreeInode {
  readonly #names: Names;
  readonly #children = new Map<string, Child>();
  #lastPosition = 0;
  #known = false;

  constructor(fileSystem: TreeFileSystem, permissions: number, names: Names) {
    super(fileSystem, FileType.directory | permissions);
    this.#names = names;
  }

  /** The children as they are now, in the order of their positions. */
  children(): ReadonlyMap<string, Child> {
    const names = this.#names;
    const fixed = typeof names !== 'function';
    if (fixed && this.#known) return this.#children;
    this.#known = true;
    const now = fixed ? names : names();
    for (const [name, { entry }] of [...this.#children]) {
      const present = now.get(name);
      if (!present || !sameEntry(present, entry)) this.#children.delete(name);
    }
    for (const [name, entry] of now)
      if (!this.#children.has(name))
        this.#children.set(name, { position: ++this.#lastPosition, entry, inode: this.#make(entry) });
    return this.#children;
  }

  #make(entry: Entry): TreeInode {
    const { fileSystem } = this;
    if ('names' in entry) return new TreeDirectory(fileSystem, 0o755, entry.names);
    if ('target' in entry) return new TreeLink(fileSystem, entry.target);
    return new TreeText(
      fileSystem,
      entry.permissions ?? (entry.store ? 0o644 : 0o444),
      entry.show,
      entry.store,
    );
  }

  protected override get linkCount(): number {
    let count = 2;
    for (const { inode } of this.children().values()) if (inode.isDirectory) count++;
    return count;
  }

  override lookup(name: string, _task: Task): Inode | number {
    return this.children().get(name)?.inode ?? -Errno.ENOENT;
  }

  override revalidate(name: string, inode: Inode | undefined, _task: Task): boolean {
    return this.children().get(name)?.inode === inode;
  }

  override create(_name: string, mode: number, _device: number, _owner: Credentials): number {
    return (mode & FileType.mask) === FileType.regular ? -Errno.EACCES : -Errno.EPERM;
  }

  override makeDirectory(): number {
    return this.fileSystem.kind.makeDirectory;
  }

  override open(_task: Task, path: Path, flags: number): FileDescription | number {
    if ((flags & OpenFlag.accessMode) !== OpenFlag.readOnly) return -Errno.EISDIR;
    return new TreeListing(path, flags, this);
  }
}

/** Directories and texts are made anew by each question; what matters is the kind and where a link leads. */
function sameEntry(one: Entry, other: Entry): boolean {
  if ('target' in one) return 'target' in other && one.target === other.target;
  return 'names' in one === 'names' in other && !('target' in other);
}

const directoryType = FileType.directory >> 12;

class TreeListing extends FileDescription {
  readonly #directory: TreeDirectory;

  constructor(path: Path, flags: number, tree: TreeDirectory) {
    super(flags, path);
    this.#directory = tree;
  }

  override read(): number {
    return -Errno.EISDIR;
  }

  override readDirectory(_task: Task, emit: (entry: DirectoryEntry) => boolean): number {
    if (this.position === 0) {
      if (!emit({ name: '.', ino: this.#directory.ino, type: directoryType, next: 1 })) return 0;
      this.position = 1;
    }
    if (this.position === 1) {
      const parent = this.path?.dentry.parent?.inode ?? this.#directory;
      if (!emit({ name: '..', ino: parent.ino, type: directoryType, next: 2 })) return 0;
      this.position = 2;
    }
    for (const [name, { position, inode }] of this.#directory.children()) {
      if (position + 2 <= this.position) continue;
      const type = (inode.mode & FileType.mask) >> 12;
      if (!emit({ name, ino: inode.ino, type, next: position + 2 })) return 0;
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
}
