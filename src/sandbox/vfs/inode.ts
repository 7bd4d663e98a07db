// A file of a file system. Each file system subclasses this; what it does not override gives the errno that Linux gives
// for such a file. Permission checks, path walking, mounts, dentry caching, O_CREAT and sticky-bit rules are the VFS
// core's: an inode's operations are called only when they are allowed.

import { Errno } from '../abi/errno.ts';
import type { Credentials, Task } from '../kernel/contract.ts';
import type { FileSystem, Path, Stat, Timespec } from './contract.ts';
import type { FileDescription } from './file-description.ts';
import type { InodeLocks } from './locks/inode-locks.ts';
import type { InodeMarks } from './notify.ts';

/** What to change; left out: stays. `now` marks UTIME_NOW. */
export interface AttributeChange {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: Timespec | undefined;
  readonly mtime?: Timespec | undefined;
  readonly ctime?: Timespec | undefined;
}

export abstract class Inode {
  abstract readonly fileSystem: FileSystem;
  /** S_IFMT and permission bits. Owner fields are kernel ids. Kept up to date by the file system. */
  abstract readonly mode: number;
  abstract readonly uid: number;
  abstract readonly gid: number;
  abstract readonly ino: number;

  /** Cached names and open files that refer to it. */
  #references = 0;
  /** inotify's watches on it. */
  marks: InodeMarks | undefined;
  /** POSIX, OFD and flock locks on it. */
  locks: InodeLocks | undefined;
  /** Descriptions that may write (positive), or uses that deny writing (negative: it is being executed). */
  writers = 0;
  /** F_SET_RW_HINT. */
  writeHint = 0;
  /** Made by O_TMPFILE without O_EXCL: link(2) may give it a first name. */
  linkable = false;

  acquire(): this {
    this.#references++;
    return this;
  }

  /** No cached name and no open file refers to it. */
  get unused(): boolean {
    return this.#references === 0;
  }

  release(): void {
    if (--this.#references === 0) this.evict();
  }

  abstract stat(): Stat | number;

  get isDirectory(): boolean {
    return (this.mode & 0o170000) === 0o040000;
  }
  get isSymlink(): boolean {
    return (this.mode & 0o170000) === 0o120000;
  }
  get isRegular(): boolean {
    return (this.mode & 0o170000) === 0o100000;
  }

  /**
   * Opens it (flags: O_*). `path` is where it was found. O_TRUNC is carried out here. FIFOs and devices give their own
   * descriptions (vfs/pipe/fifo.ts, vfs/dev/registry.ts). It never blocks: a FIFO that waits for its other end gives a
   * description that is still `opening`.
   */
  open(_task: Task, _path: Path, _flags: number): FileDescription | number {
    return -Errno.ENXIO;
  }

  setAttributes(_change: AttributeChange, _credentials: Credentials): number {
    return -Errno.EPERM;
  }

  // Directories.
  lookup(_name: string, _task: Task): Inode | number {
    return -Errno.ENOTDIR;
  }
  /**
   * A hint before a lookup of the first of these names, which are then walked one below the other: a file system that
   * asks far away may ask for all of them at once.
   */
  prefetch(_names: readonly string[]): void {}
  /** Whether prefetch does anything. */
  get prefetches(): boolean {
    return false;
  }
  /** Whether a cached lookup of this name (inode undefined: a negative one) may be used without asking again. */
  revalidate(_name: string, _inode: Inode | undefined, _task: Task): boolean {
    return true;
  }
  /** Most names that one inode may have; link(2) beyond it gives EMLINK. */
  get linkMaximum(): number {
    return Number.POSITIVE_INFINITY;
  }
  /** A regular file, FIFO, socket or device: mode with its type bits. O_CREAT goes through here, then open. */
  create(_name: string, _mode: number, _device: number, _owner: Credentials): Inode | number {
    return -Errno.EPERM;
  }
  makeDirectory(_name: string, _mode: number, _owner: Credentials): Inode | number {
    return -Errno.EPERM;
  }
  symlink(_name: string, _target: string, _owner: Credentials): Inode | number {
    return -Errno.EPERM;
  }
  link(_name: string, _inode: Inode): number {
    return -Errno.EPERM;
  }
  unlink(_name: string, _inode: Inode): number {
    return -Errno.EPERM;
  }
  removeDirectory(_name: string, _inode: Inode): number {
    return -Errno.EPERM;
  }
  /**
   * flags: RENAME_*; owner: whose a whiteout is. The VFS has checked directories against files, ancestors and
   * stickiness.
   */
  rename(
    _name: string,
    _inode: Inode,
    _target: Inode,
    _newName: string,
    _replaced: Inode | undefined,
    _flags: number,
    _owner: Credentials,
  ): number {
    return -Errno.EPERM;
  }
  /** O_TMPFILE. */
  temporaryFile(_mode: number, _owner: Credentials): Inode | number {
    return -Errno.EOPNOTSUPP;
  }

  /** Symbolic links. */
  readLink(_task: Task): string | number {
    return -Errno.EINVAL;
  }
  /** Magic links of /proc (exe, cwd, root, fd/N): the place itself instead of a text to walk; undefined: walk the text. */
  followLink(_task: Task): Path | number | undefined {
    return undefined;
  }

  // Extended attributes; names with their prefix ("user.x").
  getXattr(_name: string): Uint8Array | number {
    return -Errno.EOPNOTSUPP;
  }
  /** flags: XATTR_CREATE 1, XATTR_REPLACE 2. */
  setXattr(_name: string, _value: Uint8Array, _flags: number): number {
    return -Errno.EOPNOTSUPP;
  }
  removeXattr(_name: string): number {
    return -Errno.EOPNOTSUPP;
  }
  listXattr(): readonly string[] | number {
    return [];
  }

  /**
   * Permission beyond the mode bits (FUSE-like or proc's own checks): undefined lets the VFS check mode, owner, group
   * and capabilities as usual. mask: 4 read, 2 write, 1 execute/search.
   */
  permission(_mask: number, _task: Task): number | undefined {
    return undefined;
  }

  /**
   * No cached name and no open file refers to it any more. A file system may let its resources go; the inode may be
   * found again by a later lookup if it still has a name.
   */
  evict(): void {}
}
