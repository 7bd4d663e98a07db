// Inodes of tmpfs: attributes, directories (names with cookies that stay when others come and go), links, extended
// attributes. What open files do is file.ts and directory-file.ts.

import { Errno } from '../../abi/errno.ts';
import { ModeBit, nameMaximum, Rename, Seal, Xattr } from '../../abi/file.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Credentials, Task } from '../../kernel/contract.ts';
import type { Path, Stat, Timespec } from '../contract.ts';
import { openSpecial } from '../dev/special.ts';
import type { FileDescription } from '../file-description.ts';
import { type AttributeChange, Inode } from '../inode.ts';
import { modeAfterChange, newInodeOwner } from '../permission.ts';
import { Fifo } from '../pipe/fifo.ts';
import { Contents } from './contents.ts';
import { TmpfsDirectoryFile } from './directory-file.ts';
import { EntryList } from './entries.ts';
import { TmpfsFile } from './file.ts';
import type { TmpfsFileSystem } from './file-system.ts';
import { pageBytes } from './page-map.ts';

/** BOGO_DIRENT_SIZE. */
const entrySize = 20;
/** Longer targets take a page (SHORT_SYMLINK_LEN). */
const shortTarget = 128;

export class TmpfsInode extends Inode {
  readonly fileSystem: TmpfsFileSystem;
  readonly ino: number;
  mode: number;
  uid: number;
  gid: number;
  nlink = 1;
  readonly device: number;
  atime: Timespec;
  mtime: Timespec;
  ctime: Timespec;
  readonly #btime: Timespec;
  /** One of these, by type. */
  readonly contents: Contents | undefined;
  readonly entries: EntryList<TmpfsInode> | undefined;
  readonly #target: string | undefined;
  #fifo: Fifo | undefined;
  #xattrs: Map<string, Uint8Array> | undefined;
  /** Memory files that may be sealed begin without; all others are sealed against seals. */
  seals: number = Seal.seal;

  constructor(
    fileSystem: TmpfsFileSystem,
    mode: number,
    uid: number,
    gid: number,
    device: number,
    target: string | undefined,
    name = 'tmpfs',
  ) {
    super();
    this.fileSystem = fileSystem;
    this.ino = fileSystem.nextIno();
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.device = device;
    this.#target = target;
    this.atime = this.mtime = this.ctime = this.#btime = fileSystem.now();
    const type = mode & FileType.mask;
    if (type === FileType.directory) {
      this.entries = new EntryList();
    } else if (type === FileType.regular) {
      this.contents = new Contents(fileSystem.kernel.host, fileSystem, name);
      fileSystem.holdContents(this.contents);
    } else if (target !== undefined && target.length >= shortTarget) {
      fileSystem.reserve(1);
    }
  }

  get size(): number {
    if (this.contents) return this.contents.size;
    if (this.entries) return (this.entries.size + 2) * entrySize;
    return this.#target?.length ?? 0;
  }

  stat(): Stat {
    const { contents } = this;
    return {
      dev: this.fileSystem.device,
      ino: this.ino,
      mode: this.mode,
      nlink: this.nlink,
      uid: this.uid,
      gid: this.gid,
      rdev: this.device,
      size: this.size,
      blksize: pageBytes,
      blocks: contents ? contents.blocks : (this.#target?.length ?? 0) >= shortTarget ? 8 : 0,
      atime: this.atime,
      mtime: this.mtime,
      ctime: this.ctime,
      btime: this.#btime,
    };
  }

  /** Its bytes or its names changed. */
  modified(): void {
    this.mtime = this.ctime = this.fileSystem.now();
  }

  changed(): void {
    this.ctime = this.fileSystem.now();
  }

  override open(task: Task, path: Path, flags: number): FileDescription | number {
    if (this.entries) return new TmpfsDirectoryFile(this, flags, path);
    const { contents } = this;
    if (contents === undefined) {
      this.#fifo ??= this.isFifo ? new Fifo(this, (written) => this.#touched(written)) : undefined;
      return openSpecial(task, path, flags, this.mode, this.device, () => this.#fifo as Fifo);
    }
    if (flags & OpenFlag.truncate) {
      const mode = modeAfterChange(this, task.credentials);
      const result = this.setAttributes(
        { size: 0, ...(mode === undefined ? {} : { mode: mode & ModeBit.all }) },
        task.credentials,
      );
      if (result < 0) return result;
    }
    return new TmpfsFile(this, contents, flags, path);
  }

  get isFifo(): boolean {
    return (this.mode & FileType.mask) === FileType.fifo;
  }

  #touched(written: boolean): void {
    if (written) this.modified();
    else this.atime = this.fileSystem.now();
  }

  override setAttributes(change: AttributeChange, _credentials: Credentials): number {
    if (change.mode !== undefined && this.seals & Seal.exec && (change.mode ^ this.mode) & 0o111)
      return -Errno.EPERM;
    if (change.size !== undefined) {
      const result = this.resize(change.size);
      if (result < 0) return result;
    }
    if (change.mode !== undefined) this.mode = (this.mode & FileType.mask) | (change.mode & ModeBit.all);
    if (change.uid !== undefined) this.uid = change.uid;
    if (change.gid !== undefined) this.gid = change.gid;
    if (change.atime !== undefined) this.atime = change.atime;
    if (change.mtime !== undefined) this.mtime = change.mtime;
    this.ctime = change.ctime ?? this.fileSystem.now();
    return 0;
  }

  resize(size: number): number {
    const { contents } = this;
    if (contents === undefined) return -Errno.EINVAL;
    if (size < contents.size && this.seals & Seal.shrink) return -Errno.EPERM;
    if (size > contents.size && this.seals & Seal.grow) return -Errno.EPERM;
    const result = contents.truncate(size);
    if (result >= 0) this.modified();
    return result;
  }

  override lookup(name: string, _task: Task): TmpfsInode | number {
    if (this.entries === undefined) return -Errno.ENOTDIR;
    if (name.length > nameMaximum) return -Errno.ENAMETOOLONG;
    return this.entries.get(name)?.inode ?? -Errno.ENOENT;
  }

  /** A new inode in this directory, without a name yet; -ENOSPC. */
  #make(mode: number, device: number, owner: Credentials, target?: string): TmpfsInode | number {
    if (!this.fileSystem.takeInode()) return -Errno.ENOSPC;
    const own = newInodeOwner(this, mode, owner);
    return new TmpfsInode(this.fileSystem, own.mode, own.uid, own.gid, device, target);
  }

  #enter(name: string, inode: TmpfsInode | number): TmpfsInode | number {
    if (typeof inode === 'number' || this.entries === undefined) return inode;
    this.entries.add(name, inode);
    this.modified();
    return inode;
  }

  override create(name: string, mode: number, device: number, owner: Credentials): Inode | number {
    if (this.entries?.get(name)) return -Errno.EEXIST;
    return this.#enter(name, this.#make(mode, device, owner));
  }

  override makeDirectory(name: string, mode: number, owner: Credentials): Inode | number {
    if (this.entries?.get(name)) return -Errno.EEXIST;
    const inode = this.#make(FileType.directory | mode, 0, owner);
    if (typeof inode === 'number') return inode;
    inode.nlink = 2;
    this.nlink++;
    return this.#enter(name, inode);
  }

  override symlink(name: string, target: string, owner: Credentials): Inode | number {
    if (this.entries?.get(name)) return -Errno.EEXIST;
    if (target.length >= shortTarget) {
      if (this.fileSystem.reserve(1) === 0) return -Errno.ENOSPC;
      this.fileSystem.free(1);
    }
    return this.#enter(name, this.#make(FileType.symlink | 0o777, 0, owner, target));
  }

  override temporaryFile(mode: number, owner: Credentials): Inode | number {
    const inode = this.#make(mode, 0, owner);
    if (typeof inode !== 'number') inode.nlink = 0;
    return inode;
  }

  override link(name: string, inode: Inode): number {
    if (!(inode instanceof TmpfsInode) || this.entries === undefined) return -Errno.EXDEV;
    // Each further name needs a dentry: it counts as an inode.
    if (inode.nlink > 0 && !this.fileSystem.takeInode()) return -Errno.ENOSPC;
    inode.nlink++;
    inode.changed();
    this.#enter(name, inode);
    return 0;
  }

  override unlink(name: string, inode: Inode): number {
    if (!(inode instanceof TmpfsInode) || !this.entries?.remove(name)) return -Errno.ENOENT;
    this.modified();
    inode.#dropName();
    return 0;
  }

  #dropName(): void {
    this.ctime = this.fileSystem.now();
    this.nlink--;
    if (this.nlink > 0) this.fileSystem.giveInode();
    else if (this.unused) this.evict();
  }

  override removeDirectory(name: string, inode: Inode): number {
    if (!(inode instanceof TmpfsInode) || inode.entries === undefined) return -Errno.ENOTDIR;
    if (inode.entries.size > 0) return -Errno.ENOTEMPTY;
    if (!this.entries?.remove(name)) return -Errno.ENOENT;
    this.nlink--;
    this.modified();
    inode.nlink = 0;
    inode.changed();
    if (inode.unused) inode.evict();
    return 0;
  }

  override rename(
    name: string,
    inode: Inode,
    target: Inode,
    newName: string,
    replaced: Inode | undefined,
    flags: number,
    owner: Credentials,
  ): number {
    if (!(inode instanceof TmpfsInode) || !(target instanceof TmpfsInode)) return -Errno.EXDEV;
    const from = this.entries;
    const to = target.entries;
    if (from === undefined || to === undefined) return -Errno.ENOTDIR;
    if (replaced !== undefined && !(replaced instanceof TmpfsInode)) return -Errno.EXDEV;
    if (flags & Rename.exchange) {
      if (replaced === undefined) return -Errno.ENOENT;
      from.remove(name);
      to.remove(newName);
      from.add(name, replaced);
      to.add(newName, inode);
      if (this !== target) {
        const moved = Number(inode.isDirectory) - Number(replaced.isDirectory);
        this.nlink -= moved;
        target.nlink += moved;
      }
    } else {
      if (replaced?.entries && replaced.entries.size > 0) return -Errno.ENOTEMPTY;
      const whiteout = flags & Rename.whiteout ? this.#make(FileType.character, 0, owner) : undefined;
      if (typeof whiteout === 'number') return whiteout;
      from.remove(name);
      if (whiteout) from.add(name, whiteout);
      to.remove(newName);
      to.add(newName, inode);
      if (replaced?.isDirectory) {
        replaced.nlink = 0;
        target.nlink--;
      } else if (replaced) {
        replaced.#dropName();
      }
      if (inode.isDirectory) {
        this.nlink--;
        target.nlink++;
      }
    }
    this.modified();
    if (target !== this) target.modified();
    inode.changed();
    replaced?.changed();
    return 0;
  }

  override readLink(_task: Task): string | number {
    return this.#target ?? -Errno.EINVAL;
  }

  override getXattr(name: string): Uint8Array | number {
    if (!isKnownXattr(name)) return -Errno.EOPNOTSUPP;
    return this.#xattrs?.get(name) ?? -Errno.ENODATA;
  }

  override setXattr(name: string, value: Uint8Array, flags: number): number {
    if (!isKnownXattr(name)) return -Errno.EOPNOTSUPP;
    const old = this.#xattrs?.get(name);
    if (old !== undefined && flags & Xattr.create) return -Errno.EEXIST;
    if (old === undefined && flags & Xattr.replace) return -Errno.ENODATA;
    if (name.startsWith('user.')) {
      const more = value.length - (old?.length ?? -name.length);
      if (more > 0 && !this.fileSystem.takeSpace(more)) return -Errno.ENOSPC;
      if (more < 0) this.fileSystem.giveSpace(-more);
    }
    this.#xattrs ??= new Map();
    this.#xattrs.set(name, value);
    this.changed();
    return 0;
  }

  override removeXattr(name: string): number {
    if (!isKnownXattr(name)) return -Errno.EOPNOTSUPP;
    const old = this.#xattrs?.get(name);
    if (old === undefined) return -Errno.ENODATA;
    if (name.startsWith('user.')) this.fileSystem.giveSpace(old.length + name.length);
    this.#xattrs?.delete(name);
    this.changed();
    return 0;
  }

  override listXattr(): readonly string[] {
    return [...(this.#xattrs?.keys() ?? [])];
  }

  /** Without a name, its bytes go with its last user. */
  override evict(): void {
    if (this.nlink > 0) return;
    if (this.contents) this.fileSystem.dropContents(this.contents);
    if ((this.#target?.length ?? 0) >= shortTarget) this.fileSystem.free(1);
    for (const name of this.listXattr()) this.removeXattr(name);
    this.fileSystem.giveInode();
  }
}

function isKnownXattr(name: string): boolean {
  return name.startsWith('user.') || name.startsWith('trusted.') || name.startsWith('security.');
}
