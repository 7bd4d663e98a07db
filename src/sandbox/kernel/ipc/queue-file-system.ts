// The names of an IPC namespace's POSIX message queues: a file system of one directory, which mq_open(2) uses and which
// may be mounted (type mqueue, usually at /dev/mqueue). It also keeps the limits.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import type { FileSystem, FileSystemType, Path, Stat, StatFs } from '../../vfs/contract.ts';
import { type DirectoryEntry, FileDescription } from '../../vfs/file-description.ts';
import { type AttributeChange, Inode } from '../../vfs/inode.ts';
import type { Credentials, Kernel, Task, UserNamespace } from '../contract.ts';
import { PosixQueue } from './posix-queue.ts';

/** MQUEUE_MAGIC. */
const queueMagic = 0x1980_0202;

/** Defaults of /proc/sys/fs/mqueue, and what the capability allows beyond them. */
export const QueueLimit = {
  queues: 256,
  messages: 10,
  messageSize: 8192,
  hardMessages: 65_536,
  hardMessageSize: 16_777_216,
} as const;

const RLIMIT_MSGQUEUE = 12;

/** sizeof(struct msg_msg) and of a node of the tree of priorities, which count toward RLIMIT_MSGQUEUE. */
const messageOverhead = 48;
const priorities = 32_768;

const DirectoryType = { directory: 4, regular: 8 } as const;

export class QueueFileSystem implements FileSystem {
  readonly type = 'mqueue';
  readonly options = '';
  readonly device: number;
  readonly root: QueueDirectory;
  readonly kernel: Kernel;
  readonly userNamespace: UserNamespace;

  constructor(kernel: Kernel, userNamespace: UserNamespace) {
    this.kernel = kernel;
    this.userNamespace = userNamespace;
    this.device = kernel.anonymousDevice();
    this.root = new QueueDirectory(this);
  }

  statfs(): StatFs {
    return {
      type: queueMagic,
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
  /** The queues live as long as their namespace, mounted or not. */
  release(): void {}
}

/** For Vfs.registerType: each IPC namespace has one file system, however often it is mounted. */
export const queueFileSystemType: FileSystemType = {
  name: 'mqueue',
  userMount: true,
  mount: (task) => task.ipc.queues,
};

class QueueDirectory extends Inode {
  readonly fileSystem: QueueFileSystem;
  readonly ino = 1;
  mode = 0o041777;
  uid = 0;
  gid = 0;
  readonly #queues = new Map<string, PosixQueue>();
  /** Bytes of each user's queues. */
  readonly #bytes = new Map<number, number>();
  #nextIno = 2;
  readonly #time: { readonly sec: number; readonly nsec: number };

  constructor(fileSystem: QueueFileSystem) {
    super();
    this.fileSystem = fileSystem;
    this.#time = fileSystem.kernel.clock.realtime();
  }

  get queues(): ReadonlyMap<string, PosixQueue> {
    return this.#queues;
  }

  override stat(): Stat {
    const { ino, mode, uid, gid } = this;
    const time = this.#time;
    return {
      dev: this.fileSystem.device,
      ino,
      mode,
      nlink: 2,
      uid,
      gid,
      rdev: 0,
      size: 80 * this.#queues.size,
      blksize: 4096,
      blocks: 0,
      atime: time,
      mtime: time,
      ctime: time,
    };
  }

  override setAttributes(change: AttributeChange): number {
    if (change.mode !== undefined) this.mode = 0o040000 | (change.mode & 0o7777);
    if (change.uid !== undefined) this.uid = change.uid;
    if (change.gid !== undefined) this.gid = change.gid;
    return 0;
  }

  override lookup(name: string): Inode | number {
    return this.#queues.get(name) ?? -Errno.ENOENT;
  }

  /** Names come and go by mq_open and mq_unlink, which cached lookups do not see. */
  override revalidate(name: string, inode: Inode | undefined): boolean {
    return this.#queues.get(name) === inode;
  }

  override create(name: string, mode: number, _device: number, owner: Credentials): Inode | number {
    if ((mode & 0o170000) !== 0o100000) return -Errno.EPERM;
    const { messages, messageSize } = QueueLimit;
    return this.makeQueue(name, mode, owner, messages, messageSize, Number.POSITIVE_INFINITY);
  }

  /** limit: the creator's RLIMIT_MSGQUEUE. -EINVAL, -ENOSPC, -EMFILE. */
  makeQueue(
    name: string,
    mode: number,
    owner: Credentials,
    messages: number,
    messageSize: number,
    limit: number,
  ): PosixQueue | number {
    const capable = owner.hasIn(this.fileSystem.userNamespace, Capability.sysResource);
    if (this.#queues.size >= QueueLimit.queues && !capable) return -Errno.ENOSPC;
    if (messages <= 0 || messageSize <= 0) return -Errno.EINVAL;
    const [most, largest] = capable
      ? [QueueLimit.hardMessages, QueueLimit.hardMessageSize]
      : [QueueLimit.messages, QueueLimit.messageSize];
    if (messages > most || messageSize > largest) return -Errno.EINVAL;
    const tree = messages * messageOverhead + Math.min(messages, priorities) * messageOverhead;
    const bytes = messages * messageSize + tree;
    const used = this.#bytes.get(owner.uid) ?? 0;
    if (used + bytes > limit) return -Errno.EMFILE;
    this.#bytes.set(owner.uid, used + bytes);
    const queue = new PosixQueue(
      this.fileSystem.kernel,
      this.fileSystem,
      name,
      mode,
      owner,
      messages,
      messageSize,
      this.#nextIno++,
      () => this.#bytes.set(owner.uid, (this.#bytes.get(owner.uid) ?? 0) - bytes),
    );
    this.#queues.set(name, queue);
    return queue;
  }

  override unlink(name: string, inode: Inode): number {
    if (this.#queues.get(name) !== inode) return -Errno.ENOENT;
    this.#queues.delete(name);
    if (inode instanceof PosixQueue) {
      inode.linked = false;
      // Without an open file it is gone at once.
      inode.acquire().release();
    }
    return 0;
  }

  override open(_task: Task, path: Path, flags: number): FileDescription {
    return new QueueDirectoryFile(this, flags, path);
  }
}

/** The limit that makeQueue asks for: RLIMIT_MSGQUEUE. */
export function queueLimitOf(task: Task): number {
  return task.process.limit(RLIMIT_MSGQUEUE).soft;
}

class QueueDirectoryFile extends FileDescription {
  readonly #directory: QueueDirectory;

  constructor(directory: QueueDirectory, flags: number, path: Path) {
    super(flags, path);
    this.#directory = directory;
  }

  override read(): number {
    return -Errno.EISDIR;
  }

  /** Cookies are inode numbers, which grow with each new queue. */
  override readDirectory(_task: Task, emit: (entry: DirectoryEntry) => boolean): number {
    const { directory, regular } = DirectoryType;
    const dots: DirectoryEntry[] = [
      { name: '.', ino: 1, type: directory, next: 1 },
      { name: '..', ino: 1, type: directory, next: 2 },
    ];
    const queues = [...this.#directory.queues.values()].map(
      ({ name, ino }): DirectoryEntry => ({ name, ino, type: regular, next: ino + 1 }),
    );
    for (const entry of [...dots, ...queues]) {
      if (entry.next <= this.position) continue;
      if (!emit(entry)) return 0;
      this.position = entry.next;
    }
    return 0;
  }

  override seek(_task: Task, offset: number, whence: number): number {
    if (whence > 1) return -Errno.EINVAL;
    const position = whence === 0 ? offset : this.position + offset;
    if (position < 0) return -Errno.EINVAL;
    this.position = position;
    return position;
  }

  override sync(): number {
    return 0;
  }
}
