// A descriptor of the host's as a file: the container's standard input, output and error, when they are pipes, sockets,
// regular files or devices of the host. The host's flags are never changed, because the description is shared with
// others outside: whether a call waits is decided here, from the file's own O_NONBLOCK.

import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Host, HostFd, HostWatch } from '../../host/contract.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import { Poll, type Waiter, WaitQueue } from '../../kernel/wait-queue.ts';
import type { FileSystem, Path, Stat, StatFs } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import { Inode } from '../inode.ts';
import type { Io } from '../io.ts';

const FIONREAD = 0x541b;
const SIGPIPE = 13;
const watched = Poll.in | Poll.pri | Poll.out | Poll.rdhup;

/** Where host files appear to lie. One a kernel: kernel.part(HostFileSystem). */
export class HostFileSystem implements FileSystem {
  readonly type = 'hostfs';
  readonly device: number;
  readonly options = '';
  readonly root: Inode;

  constructor(kernel: Kernel) {
    this.device = kernel.anonymousDevice();
    this.root = new HostRoot(this);
  }
  statfs(): StatFs {
    return {
      type: 0x5049_5045,
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

class HostRoot extends Inode {
  readonly fileSystem: FileSystem;
  readonly mode = FileType.directory | 0o600;
  readonly uid = 0;
  readonly gid = 0;
  readonly ino = 0;

  constructor(fileSystem: FileSystem) {
    super();
    this.fileSystem = fileSystem;
  }
  stat(): number {
    return -Errno.ENOENT;
  }
}

/** Who owns a host file as the sandbox sees it: whoever the container runs as. */
class HostInode extends Inode {
  readonly fileSystem: FileSystem;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly ino: number;
  readonly #host: Host;
  readonly #fd: HostFd;
  readonly #accessMode: number;

  constructor(fileSystem: FileSystem, host: Host, fd: HostFd, flags: number, uid: number, gid: number) {
    super();
    this.fileSystem = fileSystem;
    this.#host = host;
    this.#fd = fd;
    this.#accessMode = flags & OpenFlag.accessMode;
    this.uid = uid;
    this.gid = gid;
    const stat = host.fstat(fd);
    this.mode = typeof stat === 'number' ? FileType.character | 0o600 : stat.mode;
    this.ino = typeof stat === 'number' ? 0 : stat.ino;
  }

  stat(): Stat | number {
    const stat = this.#host.fstat(this.#fd);
    if (typeof stat === 'number') return stat;
    return {
      dev: this.fileSystem.device,
      ino: stat.ino,
      mode: stat.mode,
      nlink: stat.nlink,
      uid: this.uid,
      gid: this.gid,
      rdev: stat.rdev,
      size: stat.size,
      blksize: stat.blksize,
      blocks: stat.blocks,
      atime: { sec: stat.atimeSec, nsec: stat.atimeNsec },
      mtime: { sec: stat.mtimeSec, nsec: stat.mtimeNsec },
      ctime: { sec: stat.ctimeSec, nsec: stat.ctimeNsec },
    };
  }

  /** Through /proc/self/fd/N or /dev/stdout: the same description of the host's, so no more rights than it has. */
  override open(_task: Task, _path: Path, flags: number): FileDescription | number {
    if ((this.mode & FileType.mask) === FileType.socket) return -Errno.ENXIO;
    const wanted = flags & OpenFlag.accessMode;
    if (this.#accessMode !== OpenFlag.readWrite && wanted !== this.#accessMode) return -Errno.EACCES;
    if (flags & OpenFlag.truncate && this.isRegular) {
      const result = this.#host.ftruncate(this.#fd, 0);
      if (result < 0) return result;
    }
    const copy = this.#host.dup(this.#fd);
    if (copy < 0) return copy;
    // Its own inode, since each lives as long as its descriptor.
    const inode = new HostInode(this.fileSystem, this.#host, copy, flags, this.uid, this.gid);
    return new HostFile(this.#host, copy, flags, inode);
  }
}

/**
 * Takes over a donated descriptor. flags: how it is open (O_ACCMODE and O_APPEND of the host's, O_NONBLOCK as the
 * program shall see it); uid and gid: the owner that programs see.
 */
export function openHostFile(kernel: Kernel, fd: HostFd, flags: number, uid: number, gid: number): HostFile {
  const inode = new HostInode(kernel.part(HostFileSystem), kernel.host, fd, flags, uid, gid);
  return new HostFile(kernel.host, fd, flags, inode);
}

/**
 * The queue of a host file. The host's watch is level-triggered, so it waits only for events that somebody here waits
 * for and that did not hold when it was looked at last; what has come is not waited for again before a read, a write or
 * a look at the readiness shows that it may be gone.
 */
export class HostQueue extends WaitQueue {
  readonly #host: Host;
  readonly #fd: HostFd;
  readonly #waiters = new Map<Waiter, number>();
  #watch: HostWatch | undefined;
  #armed = 0;

  constructor(host: Host, fd: HostFd) {
    super();
    this.#host = host;
    this.#fd = fd;
  }

  override add(waiter: Waiter, events: number, exclusive = false): void {
    super.add(waiter, events, exclusive);
    this.#waiters.set(waiter, (this.#waiters.get(waiter) ?? 0) | events);
    this.arm(events);
  }

  override remove(waiter: Waiter): void {
    super.remove(waiter);
    this.#waiters.delete(waiter);
    if (this.#waiters.size > 0) return;
    this.#armed = 0;
    this.#watch?.close();
    this.#watch = undefined;
  }

  /** These may come (again): whoever waits for them wants to hear of it. */
  arm(events: number): void {
    if (this.#waiters.size === 0) return;
    let wanted = 0;
    for (const waited of this.#waiters.values()) wanted |= waited;
    const armed = this.#armed | (wanted & events & watched);
    if (armed === this.#armed && this.#watch) return;
    this.#armed = armed;
    if (this.#watch) {
      this.#watch.update(armed);
      return;
    }
    const watch = this.#host.watch(this.#fd, armed, (ready) => this.#ready(ready));
    // A regular file cannot be watched (EPERM): it is always ready.
    this.#watch = typeof watch === 'number' ? undefined : watch;
  }

  #ready(ready: number): void {
    this.#armed &= ~ready;
    // An error or hangup stays: waiting for anything would report it for ever.
    if (ready & (Poll.err | Poll.hup)) {
      this.#watch?.close();
      this.#watch = undefined;
      this.#armed = 0;
    } else this.#watch?.update(this.#armed);
    const also = (ready & Poll.in ? Poll.rdnorm : 0) | (ready & Poll.out ? Poll.wrnorm : 0);
    this.notify(ready | also);
  }

  close(): void {
    this.#watch?.close();
    this.#watch = undefined;
  }
}

export class HostFile extends FileDescription {
  readonly fd: HostFd;
  readonly #host: Host;
  readonly #inode: HostInode;
  readonly #queue: HostQueue;
  readonly #seekable: boolean;

  constructor(host: Host, fd: HostFd, flags: number, inode: HostInode) {
    super(flags, undefined);
    this.#host = host;
    this.fd = fd;
    this.#inode = inode;
    this.#queue = new HostQueue(host, fd);
    this.#seekable = inode.isRegular || (inode.mode & FileType.mask) === FileType.block;
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

  override describe(): string {
    const type = this.#inode.mode & FileType.mask;
    if (type === FileType.fifo) return `pipe:[${this.#inode.ino}]`;
    if (type === FileType.socket) return `socket:[${this.#inode.ino}]`;
    return `host:[${this.#inode.ino}]`;
  }

  override get queue(): WaitQueue | undefined {
    return this.#seekable ? undefined : this.#queue;
  }

  override get writesAll(): boolean {
    return !this.#seekable;
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined && !this.#seekable) return -Errno.ESPIPE;
    if (io.left === 0) return 0;
    const result = io.putFromHost(this.fd, position ?? -1, io.left);
    if (!this.#seekable && result !== 0) this.#queue.arm(Poll.in);
    return result;
  }

  override write(task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined && !this.#seekable) return -Errno.ESPIPE;
    if (io.left === 0) return 0;
    const result = io.takeToHost(this.fd, position ?? -1, io.left);
    if (!this.#seekable && (result > 0 || result === -Errno.EAGAIN)) this.#queue.arm(Poll.out);
    if (result === -Errno.EPIPE)
      task.sendSignal({ signal: SIGPIPE, code: 0, sender: task.process, uid: task.credentials.uid });
    return result;
  }

  override readiness(events: number): number {
    if (this.#seekable) return events & (Poll.in | Poll.out | Poll.rdnorm | Poll.wrnorm);
    const asked = events & watched;
    const ready = this.#host.readiness(this.fd, asked) & (asked | Poll.err | Poll.hup);
    if ((ready & (Poll.err | Poll.hup)) === 0) this.#queue.arm(asked & ~ready);
    const normal = (ready & Poll.in ? Poll.rdnorm : 0) | (ready & Poll.out ? Poll.wrnorm : 0);
    return ready | (normal & events);
  }

  override seek(_task: Task, offset: number, whence: number): number {
    if (!this.#seekable) return -Errno.ESPIPE;
    if (whence < Seek.set || whence > Seek.hole) return -Errno.EINVAL;
    return this.#host.lseek(this.fd, offset, whence);
  }

  override ioctl(task: Task, command: number, argument: number): number {
    if (command !== FIONREAD) return -Errno.ENOTTY;
    const data = new Uint8Array(4);
    const result = this.#host.ioctl(this.fd, FIONREAD, data);
    return result < 0 ? result : Math.min(0, task.memory.write(argument, data, 0, 4));
  }

  override truncate(_task: Task, length: number): number {
    return this.#seekable ? this.#host.ftruncate(this.fd, length) : -Errno.EINVAL;
  }

  override allocate(_task: Task, mode: number, offset: number, length: number): number {
    if (this.#seekable) return this.#host.fallocate(this.fd, mode, offset, length);
    return (this.#inode.mode & FileType.mask) === FileType.fifo ? -Errno.ESPIPE : -Errno.ENODEV;
  }

  override sync(_task: Task, dataOnly: boolean): number {
    return this.#seekable ? this.#host.fsync(this.fd, dataOnly) : -Errno.EINVAL;
  }

  override mappable(_task: Task, _protection: number, _shared: boolean): HostFd | number {
    return this.#inode.isRegular ? this.fd : -Errno.ENODEV;
  }

  protected override release(): void {
    this.#queue.close();
    this.#host.close(this.fd);
  }
}
