// sockfs: what all sockets of a sandbox share: inode numbers and a device. Sockets have inodes of their own (fstat,
// fchown, /proc/pid/fd), but no names.

import { Errno } from '../abi/errno.ts';
import { SuperMagic } from '../abi/file.ts';
import { FileType } from '../abi/open.ts';
import type { Credentials, Kernel } from '../kernel/contract.ts';
import type { FileSystem, Stat, StatFs, Timespec } from '../vfs/contract.ts';
import { type AttributeChange, Inode } from '../vfs/inode.ts';

/** One a kernel: kernel.part(SocketFileSystem). */
export class SocketFileSystem implements FileSystem {
  readonly type = 'sockfs';
  readonly options = '';
  readonly kernel: Kernel;
  readonly device: number;
  readonly root: Inode;
  #lastInode = 0;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.device = kernel.anonymousDevice();
    this.root = new SocketInode(this, 0, 0, 0);
  }

  statfs(): StatFs {
    return {
      type: SuperMagic.sockfs,
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

  newInode(owner: Credentials): SocketInode {
    return new SocketInode(this, ++this.#lastInode, owner.fsuid, owner.fsgid);
  }
}

export class SocketInode extends Inode {
  readonly fileSystem: SocketFileSystem;
  readonly ino: number;
  mode: number = FileType.socket | 0o777;
  uid: number;
  gid: number;
  #atime: Timespec;
  #mtime: Timespec;
  #ctime: Timespec;

  constructor(fileSystem: SocketFileSystem, ino: number, uid: number, gid: number) {
    super();
    this.fileSystem = fileSystem;
    this.ino = ino;
    this.uid = uid;
    this.gid = gid;
    this.#atime = this.#mtime = this.#ctime = fileSystem.kernel.clock.realtime();
  }

  stat(): Stat {
    return {
      dev: this.fileSystem.device,
      ino: this.ino,
      mode: this.mode,
      nlink: 1,
      uid: this.uid,
      gid: this.gid,
      rdev: 0,
      size: 0,
      blksize: 4096,
      blocks: 0,
      atime: this.#atime,
      mtime: this.#mtime,
      ctime: this.#ctime,
    };
  }

  override setAttributes(change: AttributeChange, _credentials: Credentials): number {
    if (change.size !== undefined) return -Errno.EINVAL;
    if (change.mode !== undefined) this.mode = FileType.socket | (change.mode & 0o7777);
    if (change.uid !== undefined) this.uid = change.uid;
    if (change.gid !== undefined) this.gid = change.gid;
    if (change.atime) this.#atime = change.atime;
    if (change.mtime) this.#mtime = change.mtime;
    this.#ctime = change.ctime ?? this.fileSystem.kernel.clock.realtime();
    return 0;
  }
}
