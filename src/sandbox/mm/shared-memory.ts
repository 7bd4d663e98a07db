// Anonymous memory that is shared (MAP_SHARED | MAP_ANONYMOUS, /dev/zero shared): a memory file of the host's that
// nobody has a name for. It lives as long as a mapping refers to it, through forks.

import type { Host, HostFd } from '../host/contract.ts';
import type { Task } from '../kernel/contract.ts';
import type { Stat } from '../vfs/contract.ts';
import { FileDescription } from '../vfs/file-description.ts';

export class SharedAnonymousMemory extends FileDescription {
  readonly #host: Host;
  readonly #fd: HostFd;

  private constructor(host: Host, fd: HostFd) {
    super(2, undefined);
    this.#host = host;
    this.#fd = fd;
  }

  /** Or the host's negative errno. */
  static create(host: Host, length: number): SharedAnonymousMemory | number {
    const fd = host.memoryFile('dev/zero', length);
    return fd < 0 ? fd : new SharedAnonymousMemory(host, fd);
  }

  override describe(): string {
    return '/dev/zero (deleted)';
  }

  override mappable(_task: Task, _protection: number, _shared: boolean): HostFd {
    return this.#fd;
  }

  override stat(): Stat | number {
    const stat = this.#host.fstat(this.#fd);
    if (typeof stat === 'number') return stat;
    return {
      dev: 1,
      ino: stat.ino,
      mode: 0o100777,
      nlink: 0,
      uid: 0,
      gid: 0,
      rdev: 0,
      size: stat.size,
      blksize: stat.blksize,
      blocks: stat.blocks,
      atime: { sec: stat.atimeSec, nsec: stat.atimeNsec },
      mtime: { sec: stat.mtimeSec, nsec: stat.mtimeNsec },
      ctime: { sec: stat.ctimeSec, nsec: stat.ctimeNsec },
    };
  }

  override allocate(_task: Task, mode: number, offset: number, length: number): number {
    return this.#host.fallocate(this.#fd, mode, offset, length);
  }

  protected override release(): void {
    this.#host.close(this.#fd);
  }
}
