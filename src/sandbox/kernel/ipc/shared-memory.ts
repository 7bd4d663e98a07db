// System V shared memory (ipc/shm.c): a segment is a memory file of the host's; attaching maps it. How many are attached
// is how many mappings there are: each mapping holds a reference to the file of its attach.

import { Errno } from '../../abi/errno.ts';
import { IpcLimit, ShmFlag } from '../../abi/ipc.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { HostFd } from '../../host/contract.ts';
import type { FileSystem, Stat } from '../../vfs/contract.ts';
import { AnonymousFileSystem } from '../../vfs/event/anonymous.ts';
import { FileDescription } from '../../vfs/file-description.ts';
import { Inode } from '../../vfs/inode.ts';
import type { Kernel, Process, Task } from '../contract.ts';
import { IpcObject, type IpcRegistry, nowInSeconds } from './objects.ts';

const pageSize = 4096;

export class SharedSegment extends IpcObject {
  readonly kernel: Kernel;
  readonly size: number;
  readonly fd: HostFd;
  readonly inode: Inode;
  readonly creator: Process;
  last: Process | undefined;
  attachTime = 0;
  detachTime = 0;
  /** Mappings that there are. */
  attached = 0;
  /** Where it is to be removed from with its last detach. */
  #registry: IpcRegistry<SharedSegment> | undefined;

  private constructor(task: Task, key: number, size: number, mode: number, fd: HostFd) {
    super(key, task.credentials, mode, nowInSeconds(task.kernel));
    this.kernel = task.kernel;
    this.size = size;
    this.fd = fd;
    this.creator = task.process;
    this.inode = new SegmentInode(this);
  }

  /** -EINVAL, -ENOMEM. */
  static create(task: Task, key: number, size: number, flags: number): SharedSegment | number {
    if (size < 1 || BigInt(size) > IpcLimit.shmMaximum) return -Errno.EINVAL;
    // Of huge pages there are none.
    if (flags & ShmFlag.hugeTlb) return -Errno.ENOMEM;
    const length = Math.ceil(size / pageSize) * pageSize;
    if ((flags & ShmFlag.noReserve) === 0 && length > task.kernel.memoryTotal) return -Errno.ENOMEM;
    const hex = (key >>> 0).toString(16).padStart(8, '0');
    const fd = task.kernel.host.memoryFile(`SYSV${hex}`, length);
    if (fd < 0) return -Errno.ENOMEM;
    return new SharedSegment(task, key, size, flags & 0o777, fd);
  }

  /** Bytes that the host holds for it. */
  get resident(): number {
    const stat = this.kernel.host.fstat(this.fd);
    return typeof stat === 'number' ? 0 : stat.blocks * 512;
  }

  /** IPC_RMID: at once, or with the last detach; until then it has no key. */
  remove(registry: IpcRegistry<SharedSegment>): void {
    if (this.attached > 0) {
      registry.forgetKey(this);
      this.mode |= ShmFlag.destroy;
      this.#registry = registry;
    } else {
      registry.remove(this);
      this.kernel.host.close(this.fd);
    }
  }

  /** For SegmentFile: a mapping is gone. */
  detached(): void {
    this.attached--;
    this.detachTime = nowInSeconds(this.kernel);
    const registry = this.#registry;
    if (this.attached === 0 && registry) {
      registry.remove(this);
      this.kernel.host.close(this.fd);
    }
  }
}

/** Identifies the segment's memory: futexes in it are known by this object and their offset. */
class SegmentInode extends Inode {
  readonly fileSystem: FileSystem;
  readonly #segment: SharedSegment;

  constructor(segment: SharedSegment) {
    super();
    this.#segment = segment;
    this.fileSystem = segment.kernel.part(AnonymousFileSystem);
  }

  get ino(): number {
    return this.#segment.id;
  }
  get mode(): number {
    return 0o100000 | (this.#segment.mode & 0o777);
  }
  get uid(): number {
    return this.#segment.cuid;
  }
  get gid(): number {
    return this.#segment.cgid;
  }

  override stat(): Stat {
    const { ino, mode, uid, gid } = this;
    const { size, changed } = this.#segment;
    const time = { sec: changed, nsec: 0 };
    const dev = this.fileSystem.device;
    const blocks = Math.ceil(size / pageSize) * (pageSize / 512);
    return {
      dev,
      ino,
      mode,
      nlink: 0,
      uid,
      gid,
      rdev: 0,
      size,
      blksize: pageSize,
      blocks,
      atime: time,
      mtime: time,
      ctime: time,
    };
  }
}

/** The file that one shmat(2) maps. Every reference but its maker's is a mapping. */
export class SegmentFile extends FileDescription {
  readonly segment: SharedSegment;

  constructor(segment: SharedSegment, writable: boolean) {
    super(writable ? OpenFlag.readWrite : OpenFlag.readOnly, undefined);
    this.segment = segment;
  }

  override get inode(): Inode {
    return this.segment.inode;
  }

  override acquire(): this {
    this.segment.attached++;
    return super.acquire();
  }

  override unreference(): void {
    super.unreference();
    this.segment.detached();
  }

  /** shmat(2) has mapped it, or failed to. */
  handedOver(): void {
    super.unreference();
  }

  /** As /proc/pid/maps shows it. */
  override describe(): string {
    return `/SYSV${(this.segment.key >>> 0).toString(16).padStart(8, '0')} (deleted)`;
  }

  override stat(): Stat | number {
    return this.inode.stat();
  }

  override mappable(): HostFd | number {
    return this.segment.fd;
  }
}
