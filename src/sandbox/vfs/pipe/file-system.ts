// pipefs: what all anonymous pipes of a sandbox share. Their inode numbers and device, and the limits of pipe(7): the
// largest capacity and the pages that each user may have in pipes (/proc/sys/fs/pipe-*).

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Credentials, Kernel, Task } from '../../kernel/contract.ts';
import type { FileSystem, Path, Stat, StatFs, Timespec } from '../contract.ts';
import type { FileDescription } from '../file-description.ts';
import { type AttributeChange, Inode } from '../inode.ts';
import { defaultSlots, Pipe, pageBytes } from './pipe.ts';
import { openPipe, PipeEnd } from './pipe-end.ts';

/** What an unprivileged user's further pipes get once the soft limit is reached. */
const leastSlots = 2;
/** More would be memory of the kernel that no limit of the program's covers. */
const mostSlots = 16_384;

/** One a kernel: kernel.part(PipeFileSystem). */
export class PipeFileSystem implements FileSystem {
  readonly type = 'pipefs';
  readonly device: number;
  readonly root: Inode;
  readonly options = '';
  readonly kernel: Kernel;
  /** /proc/sys/fs/pipe-max-size, in bytes. */
  maximumSize = 1_048_576;
  /** /proc/sys/fs/pipe-user-pages-soft and -hard, in pages; 0: no limit. */
  userPagesSoft = 16_384;
  userPagesHard = 0;
  readonly #pages = new Map<number, number>();
  #lastInode = 0;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.device = kernel.anonymousDevice();
    this.root = new PipeRoot(this);
  }

  statfs(): StatFs {
    return {
      type: 0x5049_5045,
      blockSize: pageBytes,
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

  nextInode(): number {
    return ++this.#lastInode;
  }

  #mayExceed(credentials: Credentials): boolean {
    const root = this.kernel.rootUserNamespace;
    return credentials.hasIn(root, Capability.sysResource) || credentials.hasIn(root, Capability.sysAdmin);
  }

  #account(user: number): { charge(pages: number): void } {
    return {
      charge: (pages) => {
        const total = (this.#pages.get(user) ?? 0) + pages;
        if (total > 0) this.#pages.set(user, total);
        else this.#pages.delete(user);
      },
    };
  }

  /** A pipe of the size that this user gets (alloc_pipe_info), or undefined beyond the hard limit. */
  createPipe(credentials: Credentials): Pipe | undefined {
    let slots = defaultSlots;
    if (slots * pageBytes > this.maximumSize && !this.#mayExceed(credentials))
      slots = Math.max(1, Math.floor(this.maximumSize / pageBytes));
    const used = this.#pages.get(credentials.uid) ?? 0;
    if (this.userPagesSoft > 0 && used + slots > this.userPagesSoft && !this.#mayExceed(credentials))
      slots = leastSlots;
    if (this.userPagesHard > 0 && used + slots > this.userPagesHard && !this.#mayExceed(credentials))
      return undefined;
    return new Pipe(slots, this.#account(credentials.uid));
  }

  /** Both ends of a new pipe, or -ENFILE. flags: O_NONBLOCK, O_DIRECT. */
  create(task: Task, flags: number): { readonly reader: PipeEnd; readonly writer: PipeEnd } | number {
    const pipe = this.createPipe(task.credentials);
    if (!pipe) return -Errno.ENFILE;
    const inode = new PipeInode(this, pipe, task.credentials);
    return {
      reader: new PipeEnd(pipe, inode, OpenFlag.readOnly | (flags & OpenFlag.nonBlock), undefined),
      writer: new PipeEnd(
        pipe,
        inode,
        OpenFlag.writeOnly | (flags & (OpenFlag.nonBlock | OpenFlag.direct)),
        undefined,
      ),
    };
  }

  /** F_SETPIPE_SZ: the new capacity; -EINVAL, -EPERM beyond a limit, -EBUSY if more is in use, -ENOMEM. */
  setCapacity(task: Task, pipe: Pipe, size: number): number {
    const wanted = size >>> 0;
    if (wanted > 0x8000_0000) return -Errno.EINVAL;
    const slots = wanted <= pageBytes ? 1 : 2 ** Math.ceil(Math.log2(wanted / pageBytes));
    const credentials = task.credentials;
    if (slots > pipe.slots) {
      const privileged = credentials.hasIn(this.kernel.rootUserNamespace, Capability.sysResource);
      if (slots * pageBytes > this.maximumSize && !privileged) return -Errno.EPERM;
      const used = (this.#pages.get(credentials.uid) ?? 0) + slots - pipe.slots;
      const beyond = (limit: number): boolean => limit > 0 && used > limit;
      if ((beyond(this.userPagesSoft) || beyond(this.userPagesHard)) && !this.#mayExceed(credentials))
        return -Errno.EPERM;
      if (slots > mostSlots) return -Errno.ENOMEM;
    }
    const result = pipe.resize(slots);
    return result < 0 ? result : pipe.capacity;
  }
}

/** The inode of an anonymous pipe. Its times stay those of its making, as in Linux since 6.15. */
class PipeInode extends Inode {
  readonly fileSystem: PipeFileSystem;
  readonly ino: number;
  readonly #pipe: Pipe;
  mode: number = FileType.fifo | 0o600;
  uid: number;
  gid: number;
  #atime: Timespec;
  #mtime: Timespec;
  #ctime: Timespec;

  constructor(fileSystem: PipeFileSystem, pipe: Pipe, owner: Credentials) {
    super();
    this.fileSystem = fileSystem;
    this.ino = fileSystem.nextInode();
    this.#pipe = pipe;
    this.uid = owner.fsuid;
    this.gid = owner.fsgid;
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
      blksize: pageBytes,
      blocks: 0,
      atime: this.#atime,
      mtime: this.#mtime,
      ctime: this.#ctime,
    };
  }

  override setAttributes(change: AttributeChange, _credentials: Credentials): number {
    if (change.size !== undefined) return -Errno.EINVAL;
    if (change.mode !== undefined) this.mode = FileType.fifo | (change.mode & 0o7777);
    if (change.uid !== undefined) this.uid = change.uid;
    if (change.gid !== undefined) this.gid = change.gid;
    if (change.atime) this.#atime = change.atime;
    if (change.mtime) this.#mtime = change.mtime;
    this.#ctime = change.ctime ?? this.fileSystem.kernel.clock.realtime();
    return 0;
  }

  /** Through /proc/self/fd/N: another description of either side, which never waits. */
  override open(_task: Task, _path: Path, flags: number): FileDescription | number {
    return openPipe(this.#pipe, this, undefined, flags, true);
  }
}

/** pipefs is mounted nowhere: nothing is found in its root. */
class PipeRoot extends Inode {
  readonly fileSystem: PipeFileSystem;
  readonly mode = FileType.directory | 0o600;
  readonly uid = 0;
  readonly gid = 0;
  readonly ino = 0;

  constructor(fileSystem: PipeFileSystem) {
    super();
    this.fileSystem = fileSystem;
  }

  stat(): number {
    return -Errno.ENOENT;
  }
}
