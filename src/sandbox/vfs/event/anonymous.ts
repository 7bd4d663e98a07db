// Files without a name or place: epoll, eventfd, signalfd, timerfd, pidfds. As in Linux they all show one inode of a
// file system that is mounted nowhere (fs/anon_inodes.c).

import { Errno } from '../../abi/errno.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import type { FileSystem, Stat, StatFs, Timespec } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import { Inode } from '../inode.ts';

/** ANON_INODE_FS_MAGIC. */
const anonymousMagic = 0x0904_1934;

class AnonymousInode extends Inode {
  readonly fileSystem: AnonymousFileSystem;
  readonly mode = 0o600;
  readonly uid = 0;
  readonly gid = 0;
  readonly ino = 1;
  readonly #time: Timespec;

  constructor(fileSystem: AnonymousFileSystem, time: Timespec) {
    super();
    this.fileSystem = fileSystem;
    this.#time = time;
  }

  override stat(): Stat {
    const time = this.#time;
    return {
      dev: this.fileSystem.device,
      ino: this.ino,
      mode: this.mode,
      nlink: 1,
      uid: 0,
      gid: 0,
      rdev: 0,
      size: 0,
      blksize: 4096,
      blocks: 0,
      atime: time,
      mtime: time,
      ctime: time,
    };
  }

  override setAttributes(): number {
    return -Errno.EOPNOTSUPP;
  }
}

/** One per kernel: `kernel.part(AnonymousFileSystem)`. */
export class AnonymousFileSystem implements FileSystem {
  readonly type = 'anon_inodefs';
  readonly options = '';
  readonly device: number;
  readonly root: Inode;

  constructor(kernel: Kernel) {
    this.device = kernel.anonymousDevice();
    this.root = new AnonymousInode(this, kernel.clock.realtime());
  }

  statfs(): StatFs {
    return {
      type: anonymousMagic,
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

export abstract class AnonymousFile extends FileDescription {
  protected readonly kernel: Kernel;
  readonly #inode: Inode;

  constructor(kernel: Kernel, flags: number) {
    super(flags, undefined);
    this.kernel = kernel;
    this.#inode = kernel.part(AnonymousFileSystem).root;
  }

  /** "[eventfd]" and the like. */
  protected abstract readonly kind: string;

  override describe(): string {
    return `anon_inode:${this.kind}`;
  }

  override get inode(): Inode {
    return this.#inode;
  }

  override stat(): Stat | number {
    return this.#inode.stat();
  }

  override statfs(): StatFs | number {
    return this.#inode.fileSystem.statfs();
  }

  /** noop_llseek. */
  override seek(_task: Task, _offset: number, _whence: number): number {
    return 0;
  }

  override allocate(_task: Task, _mode: number, _offset: number, _length: number): number {
    return -Errno.ENODEV;
  }
}
