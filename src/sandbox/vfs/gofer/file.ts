// An open regular file of a tree that the Gofer serves. Bytes move between the host's file and the program without the
// Gofer; positions, O_APPEND and limits are kept here, since several descriptions share one donated descriptor.

import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { HostFd } from '../../host/contract.ts';
import { BLOCKED, type Task } from '../../kernel/contract.ts';
import { Poll, WaitQueue } from '../../kernel/wait-queue.ts';
import { Protection } from '../../platform/contract.ts';
import type { Path } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import type { Io } from '../io.ts';
import type { GoferInode } from './inode.ts';

const FIONREAD = 0x541b;
const RLIMIT_FSIZE = 1;
const SIGXFSZ = 25;
/** Larger offsets than any file system of the host's has. */
const largestOffset = Number.MAX_SAFE_INTEGER;

export class GoferFile extends FileDescription {
  readonly #inode: GoferInode;
  readonly #fd: HostFd;

  constructor(inode: GoferInode, fd: HostFd, path: Path, flags: number) {
    super(flags, path);
    this.#inode = inode;
    this.#fd = fd;
  }

  /** The host's file, for copy_file_range(2) and the like. */
  get hostFd(): HostFd {
    return this.#fd;
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    const at = position ?? this.position;
    const count = io.putFromHost(this.#fd, at, io.left);
    if (count > 0) {
      this.#inode.touch();
      if (position === undefined) this.position = at + count;
    }
    return count;
  }

  override write(task: Task, io: Io, position: number | undefined): number {
    if (io.left === 0) return 0;
    let at = position ?? this.position;
    const append = (this.flags & OpenFlag.append) !== 0;
    if (append) {
      at = this.#inode.currentSize();
      if (at < 0) return at;
    }
    let wanted = io.left;
    const limit = task.process.limit(RLIMIT_FSIZE).soft;
    if (at + wanted > limit) {
      if (at >= limit) {
        task.sendSignal({ signal: SIGXFSZ, code: 0, sender: task.process, uid: task.credentials.uid });
        return -Errno.EFBIG;
      }
      wanted = limit - at;
    }
    const count = io.takeToHost(this.#fd, at, wanted);
    if (count <= 0) return count;
    this.#inode.wrote(at + count);
    if (position === undefined) {
      // Where others append too, the host has chosen the place.
      const end = append && !this.#inode.fileSystem.exclusive ? this.#inode.currentSize() : at + count;
      this.position = end < 0 ? at + count : end;
    }
    return count;
  }

  override seek(_task: Task, offset: number, whence: number): number {
    let position: number;
    switch (whence) {
      case Seek.set:
        position = offset;
        break;
      case Seek.current:
        position = this.position + offset;
        break;
      case Seek.end: {
        const size = this.#inode.currentSize();
        if (size < 0) return size;
        position = size + offset;
        break;
      }
      case Seek.data:
      case Seek.hole:
        if (offset < 0) return -Errno.ENXIO;
        position = this.#inode.fileSystem.host.lseek(this.#fd, offset, whence);
        if (position < 0) return position;
        break;
      default:
        return -Errno.EINVAL;
    }
    if (position < 0 || position > largestOffset) return -Errno.EINVAL;
    this.position = position;
    return position;
  }

  override ioctl(task: Task, command: number, argument: number): number {
    if (command !== FIONREAD) return -Errno.ENOTTY;
    const size = this.#inode.currentSize();
    return size < 0 ? size : task.memory.writeU32(argument, (size - this.position) >>> 0);
  }

  override truncate(_task: Task, length: number): number {
    return this.#inode.truncateTo(this.#fd, length);
  }

  override allocate(_task: Task, mode: number, offset: number, length: number): number {
    const result = this.#inode.fileSystem.host.fallocate(this.#fd, mode, offset, length);
    return result < 0 ? result : this.#inode.refresh();
  }

  /** On a thread of the host's, so that the kernel goes on meanwhile. */
  override sync(task: Task, dataOnly: boolean, result = 0): number {
    if (this.#inode.fileSystem.readOnly) return 0;
    const queue = new WaitQueue();
    let outcome: number | undefined;
    this.acquire();
    this.#inode.fileSystem.host.fsyncLater(this.#fd, dataOnly, (done) => {
      outcome = done;
      queue.notify(Poll.in);
      this.unreference();
    });
    const answer = (): number | undefined => (outcome === 0 ? result : outcome);
    if (outcome !== undefined) return answer() ?? 0;
    return task.block({
      on: [{ queue, events: Poll.in }],
      retry: () => answer() ?? BLOCKED,
      killableOnly: true,
    });
  }

  override mappable(_task: Task, protection: number, shared: boolean): HostFd | number {
    if (shared && (this.writable || protection & Protection.write)) this.#inode.markMapped();
    return this.#fd;
  }

  protected override release(): void {
    this.#inode.closeFile();
  }
}
