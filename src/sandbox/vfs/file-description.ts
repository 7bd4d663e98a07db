// An open file (struct file): what a descriptor refers to, shared by dup and fork. Every kind of file (regular files of
// each file system, directories, pipes, sockets, terminals, epoll, eventfd …) is a subclass; what a kind does not
// override gives the errno that Linux gives for it.

import { Errno } from '../abi/errno.ts';
import { OpenFlag } from '../abi/open.ts';
import type { HostFd } from '../host/contract.ts';
import type { Credentials, Task } from '../kernel/contract.ts';
import { Poll, type WaitQueue } from '../kernel/wait-queue.ts';
import type { AsyncOwner } from './async.ts';
import type { Path, Stat, StatFs } from './contract.ts';
import type { Inode } from './inode.ts';
import type { Io } from './io.ts';
import { Event, notifyPath } from './notify.ts';

/** One entry for getdents64. `next` is the cookie (d_off) with which reading goes on after it. */
export interface DirectoryEntry {
  readonly name: string;
  readonly ino: number;
  /** DT_*. */
  readonly type: number;
  readonly next: number;
}

export interface ReleaseObserver {
  fileReleased(): void;
}

export abstract class FileDescription {
  /** O_ACCMODE and status flags (O_APPEND, O_NONBLOCK, O_DIRECT, O_PATH, …); F_SETFL changes them. */
  flags: number;
  /** File position, for those that have one. */
  position = 0;
  /** Where it was opened; undefined for what has no name (pipes, sockets: see `describe`). */
  readonly path: Path | undefined;
  #references = 1;
  #observers: Set<ReleaseObserver> | undefined;
  /** It counts in Inode.writers (set by the core's open). */
  countedWriter = false;
  /** Whose open(2) it was (f_cred), for what was opened by a path. */
  credentials: Credentials | undefined;
  /** Whom O_ASYNC tells. */
  asyncOwner: AsyncOwner | undefined;
  /** F_SETOWN, F_SETSIG: kept by the owner of fcntl. */
  owner: { readonly type: number; readonly id: number; readonly signal: number } | undefined;

  constructor(flags: number, path: Path | undefined) {
    this.flags = flags;
    this.path = path;
    if (path) {
      path.mount.acquire();
      path.dentry.acquire();
    }
  }

  acquire(): this {
    this.#references++;
    return this;
  }

  /** Drops a reference; the last one releases the file (__fput). */
  unreference(): void {
    if (--this.#references !== 0) return;
    const { path, inode } = this;
    if (path && (this.flags & OpenFlag.path) === 0)
      notifyPath(path, this.writable ? Event.closeWrite : Event.closeNoWrite);
    inode?.locks?.releaseDescription(this);
    this.asyncOwner?.listen(false);
    for (const observer of this.#observers ?? []) observer.fileReleased();
    this.release();
    if (inode && this.countedWriter) inode.writers--;
    if (path) {
      path.dentry.release();
      path.mount.release();
    }
  }

  get references(): number {
    return this.#references;
  }

  /** Tells somebody who holds no reference when the last one is gone (epoll instances drop what they watch). */
  observe(observer: ReleaseObserver): void {
    this.#observers ??= new Set();
    this.#observers.add(observer);
  }

  unobserve(observer: ReleaseObserver): void {
    this.#observers?.delete(observer);
  }

  get inode(): Inode | undefined {
    return this.path?.dentry.inode;
  }

  get readable(): boolean {
    const mode = this.flags & 3;
    return (mode === 0 || mode === 2) && (this.flags & OpenFlag.path) === 0;
  }

  get writable(): boolean {
    const mode = this.flags & 3;
    return (mode === 1 || mode === 2) && (this.flags & OpenFlag.path) === 0;
  }

  /** FMODE_NOWAIT: whether RWF_NOWAIT may be asked of it. */
  get canNoWait(): boolean {
    return true;
  }

  get nonBlocking(): boolean {
    return (this.flags & 0o4000) !== 0;
  }

  /**
   * Set by the kinds for which a blocking write(2) goes on after a short count until everything is written or an error
   * ends it (pipes, stream sockets, terminals): the caller waits on `queue` for Poll.out and writes the rest.
   */
  get writesAll(): boolean {
    return false;
  }

  /**
   * Nanoseconds that a blocking read (events: Poll.in) or write (Poll.out) waits at most before it fails with EAGAIN;
   * Infinity: as long as it takes. Sockets have SO_RCVTIMEO and SO_SNDTIMEO.
   */
  waitLimit(_events: number): number {
    return Number.POSITIVE_INFINITY;
  }

  /**
   * While it gives a queue, open(2) is not over: it waits there and asks again (a FIFO waits for its other end). When a
   * signal interrupts it, it drops its reference.
   */
  get opening(): WaitQueue | undefined {
    return undefined;
  }

  /** What readlink of /proc/self/fd/N shows when there is no path: "pipe:[17]", "socket:[4]", "anon_inode:[eventpoll]". */
  describe(): string {
    return 'anon_inode:[unknown]';
  }

  /**
   * Reads at `position`, or at the file's own position when it is undefined (then advances it). Bytes, 0 at the end,
   * or a negative errno; -EAGAIN says that nothing is there yet: the caller blocks on `queue` unless O_NONBLOCK.
   */
  read(_task: Task, _io: Io, _position: number | undefined): number {
    return -Errno.EINVAL;
  }

  /** As read; O_APPEND and RLIMIT_FSIZE are the file's business, SIGPIPE too. */
  write(_task: Task, _io: Io, _position: number | undefined): number {
    return -Errno.EINVAL;
  }

  /**
   * The Poll bits that hold now, of those asked for (err and hup always count). Regular files are always ready. task:
   * who asks, which matters only to signalfd.
   */
  readiness(events: number, _task: Task): number {
    return events & (Poll.in | Poll.out | Poll.rdnorm | Poll.wrnorm);
  }

  /** Notified when readiness may have changed; undefined: it never changes. */
  get queue(): WaitQueue | undefined {
    return undefined;
  }

  /** What /proc/pid/fdinfo/N shows after pos, flags, mnt_id and ino: lines, each with its newline. */
  information(): string {
    return '';
  }

  /** A file whose position is not pread-able gives ESPIPE (pipes, sockets, terminals). */
  seek(_task: Task, _offset: number, _whence: number): number {
    return -Errno.ESPIPE;
  }

  /** argument: the third argument of ioctl(2) as it came (an address mostly; see also task.memory). */
  ioctl(_task: Task, _command: number, _argument: number): number {
    return -Errno.ENOTTY;
  }

  stat(): Stat | number {
    return this.inode?.stat() ?? -Errno.EBADF;
  }

  statfs(): StatFs | number {
    return this.path?.mount.fileSystem.statfs() ?? -Errno.ENOSYS;
  }

  truncate(_task: Task, _length: number): number {
    return -Errno.EINVAL;
  }

  /**
   * memfd_create(2)'s seals: F_GET_SEALS, F_ADD_SEALS (`add`: the new seals, undefined: only asks). -EINVAL for files
   * that cannot be sealed.
   */
  seals(_task: Task, _add: number | undefined): number {
    return -Errno.EINVAL;
  }

  /** fallocate(2), mode FALLOC_FL_*. */
  allocate(_task: Task, _mode: number, _offset: number, _length: number): number {
    return -Errno.EOPNOTSUPP;
  }

  /**
   * fsync(2), fdatasync(2). May block the call: then it returns BLOCKED as a handler does, and the call's later result
   * is `result` if all went well (a write that is to be synchronous gives its count).
   */
  sync(_task: Task, _dataOnly: boolean, _result = 0): number {
    return -Errno.EINVAL;
  }

  /**
   * Calls `emit` for each entry from `this.position` on until it returns false; position is then the cookie of the
   * first entry that was refused. 0, or a negative errno (ENOTDIR).
   */
  readDirectory(_task: Task, _emit: (entry: DirectoryEntry) => boolean): number {
    return -Errno.ENOTDIR;
  }

  /**
   * The host descriptor whose bytes are this file's, for mmap; offsets are the same. Access rights are checked by the
   * caller. -ENODEV for files that cannot be mapped. The descriptor stays the file's.
   */
  mappable(_task: Task, _protection: number, _shared: boolean): HostFd | number {
    return -Errno.ENODEV;
  }

  /** mmap of it is anonymous memory, private or shared (/dev/zero): mapped as with MAP_ANONYMOUS. */
  get mapsAnonymous(): boolean {
    return false;
  }

  /** O_NONBLOCK, O_APPEND, O_ASYNC, O_DIRECT were changed by F_SETFL or FIONBIO. 0 or a negative errno. */
  setFlags(flags: number): number {
    this.flags = flags;
    return 0;
  }

  /** close(2) by one descriptor of this task (POSIX locks, flush errors); the description may live on. */
  closed(_task: Task): number {
    return 0;
  }

  /** The last reference is gone. */
  protected release(): void {}
}
