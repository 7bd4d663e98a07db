// An open regular file of tmpfs, or a memory file.

import { Errno } from '../../abi/errno.ts';
import { Allocate, ModeBit, Seal, Seek } from '../../abi/file.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { HostFd } from '../../host/contract.ts';
import type { Task } from '../../kernel/contract.ts';
import { Protection } from '../../platform/contract.ts';
import { mayGrowTo, updatesAccessTime, writeLimit } from '../attributes.ts';
import type { Path } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import type { Io } from '../io.ts';
import { modeAfterChange } from '../permission.ts';
import type { Contents } from './contents.ts';
import type { TmpfsInode } from './inode.ts';

export class TmpfsFile extends FileDescription {
  readonly #inode: TmpfsInode;
  readonly #contents: Contents;

  constructor(inode: TmpfsInode, contents: Contents, flags: number, path: Path) {
    super(flags, path);
    this.#inode = inode;
    this.#contents = contents;
  }

  override get inode(): TmpfsInode {
    return this.#inode;
  }

  override get canNoWait(): boolean {
    return false;
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    const at = position ?? this.position;
    const count = this.#contents.read(io, at);
    const { path } = this;
    const inode = this.#inode;
    if (path && updatesAccessTime(path, this.flags, inode, inode)) inode.atime = inode.fileSystem.now();
    if (count > 0 && position === undefined) this.position = at + count;
    return count;
  }

  override write(task: Task, io: Io, position: number | undefined): number {
    const inode = this.#inode;
    const contents = this.#contents;
    if (io.left === 0) return 0;
    const appends = (this.flags & OpenFlag.append) !== 0;
    const at = appends ? contents.size : (position ?? this.position);
    let count = writeLimit(task, at, io.left);
    if (count < 0) return count;
    if (inode.seals !== Seal.seal) {
      if (inode.seals & (Seal.write | Seal.futureWrite)) return -Errno.EPERM;
      if (inode.seals & Seal.grow && at + count > contents.size) {
        // Pages that lie wholly or partly within the file may still be written.
        if (at >= contents.size) return -Errno.EPERM;
        count = contents.size - at;
      }
    }
    this.#dropPrivileges(task);
    const moved = contents.write(io, at, count);
    if (moved > 0) {
      inode.modified();
      if (position === undefined) this.position = at + moved;
    }
    return moved;
  }

  override seek(_task: Task, offset: number, whence: number): number {
    let place: number;
    switch (whence) {
      case Seek.set:
        place = offset;
        break;
      case Seek.current:
        place = this.position + offset;
        break;
      case Seek.end:
        place = this.#contents.size + offset;
        break;
      case Seek.data:
      case Seek.hole:
        place = this.#contents.seek(offset, whence);
        if (place < 0) return place;
        break;
      default:
        return -Errno.EINVAL;
    }
    if (place < 0 || place >= 2 ** 63) return -Errno.EINVAL;
    this.position = place;
    return place;
  }

  override sync(): number {
    return 0;
  }

  override truncate(task: Task, length: number): number {
    const inode = this.#inode;
    const allowed = mayGrowTo(task, inode, length);
    if (allowed < 0) return allowed;
    const mode = modeAfterChange(inode, task.credentials);
    return inode.setAttributes(
      { size: length, ...(mode === undefined ? {} : { mode: mode & ModeBit.all }) },
      task.credentials,
    );
  }

  override allocate(task: Task, mode: number, offset: number, length: number): number {
    if (mode & ~(Allocate.keepSize | Allocate.punchHole)) return -Errno.EOPNOTSUPP;
    const inode = this.#inode;
    const contents = this.#contents;
    if (mode & Allocate.punchHole) {
      if (inode.seals & (Seal.write | Seal.futureWrite)) return -Errno.EPERM;
      return this.#allocated(task, contents.punch(offset, length));
    }
    const keepSize = (mode & Allocate.keepSize) !== 0;
    const end = offset + length;
    if (end > contents.size) {
      const allowed = mayGrowTo(task, inode, end);
      if (allowed < 0) return allowed;
      if (inode.seals & Seal.grow) return -Errno.EPERM;
    }
    return this.#allocated(task, contents.allocate(offset, length, keepSize));
  }

  #dropPrivileges(task: Task): void {
    const mode = modeAfterChange(this.#inode, task.credentials);
    if (mode !== undefined) this.#inode.setAttributes({ mode: mode & ModeBit.all }, task.credentials);
  }

  /** file_modified. */
  #allocated(task: Task, result: number): number {
    if (result < 0) return result;
    this.#dropPrivileges(task);
    this.#inode.modified();
    return result;
  }

  override mappable(_task: Task, protection: number, shared: boolean): HostFd | number {
    if (shared && protection & Protection.write && this.#inode.seals & (Seal.write | Seal.futureWrite))
      return -Errno.EPERM;
    return this.#contents.map();
  }

  override seals(task: Task, add: number | undefined): number {
    const inode = this.#inode;
    if (add === undefined) return inode.seals;
    if (!this.writable) return -Errno.EPERM;
    if (add & ~Seal.all) return -Errno.EINVAL;
    if (inode.seals & Seal.seal) return -Errno.EPERM;
    let wanted = add;
    if (add & Seal.write && !(inode.seals & Seal.write) && isMappedWritable(task, inode)) return -Errno.EBUSY;
    // An executable file that may not become anything else may not be written either.
    if (add & Seal.exec && inode.mode & 0o111)
      wanted |= Seal.shrink | Seal.grow | Seal.write | Seal.futureWrite;
    inode.seals |= wanted;
    return 0;
  }
}

/** Whether some process has a shared mapping of it that may be written: rare enough to look at all of them. */
function isMappedWritable(task: Task, inode: TmpfsInode): boolean {
  for (const [, process] of task.kernel.rootPidNamespace.processes())
    for (const thread of process.tasks)
      for (const vma of thread.mm.vmas())
        if (vma.shared && vma.file?.inode === inode && vma.file.writable) return true;
  return false;
}
