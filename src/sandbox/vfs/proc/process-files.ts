// /proc/pid/fd and fdinfo: a process's open files as links that lead to the files themselves, and what is known of each.

import { Errno } from '../../abi/errno.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import { mayAccess } from '../../kernel/ptrace/access.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import type { FileSystem, Mount, Path, Stat } from '../contract.ts';
import { Dentry } from '../dentry.ts';
import { AnonymousFileSystem } from '../event/anonymous.ts';
import type { FileDescription } from '../file-description.ts';
import { Inode } from '../inode.ts';
import { describePath } from '../path.ts';
import { Vfs } from '../vfs.ts';
import type { ProcFileSystem } from './file-system.ts';
import { type Listed, type Owner, ProcDirectory, ProcLink, ProcText } from './inode.ts';

/** Mounts in no tree for file systems whose files have no place (pipes, sockets). One a kernel. */
export class NamelessMounts {
  readonly #kernel: Kernel;
  readonly #mounts = new Map<FileSystem, Mount>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  of(fileSystem: FileSystem): Mount {
    let mount = this.#mounts.get(fileSystem);
    if (!mount) {
      mount = this.#kernel.part(Vfs).kernelMount(fileSystem);
      this.#mounts.set(fileSystem, mount);
    }
    return mount;
  }

  /** A place for a file that has none, so that its link in /proc can be followed. */
  place(file: FileDescription): Path {
    const inode = file.inode ?? new NamelessInode(this.#kernel.part(AnonymousFileSystem), file);
    return this.placeOf(file.describe(), inode);
  }

  placeOf(name: string, inode: Inode): Path {
    const dentry = new Dentry(name, undefined, inode);
    dentry.unhashed = true;
    return { mount: this.of(inode.fileSystem), dentry };
  }
}

/** Stands for a file without an inode of its own: it can be looked at, and not be opened again. */
class NamelessInode extends Inode {
  readonly fileSystem: FileSystem;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly ino: number;
  readonly #file: FileDescription;

  constructor(fileSystem: FileSystem, file: FileDescription) {
    super();
    this.fileSystem = fileSystem;
    this.#file = file;
    const stat = file.stat();
    const known = typeof stat === 'number' ? undefined : stat;
    this.mode = known?.mode ?? 0o600;
    this.uid = known?.uid ?? 0;
    this.gid = known?.gid ?? 0;
    this.ino = known?.ino ?? 0;
  }

  stat(): Stat | number {
    return this.#file.stat();
  }
}

export function fileText(file: FileDescription, reader: Task): string {
  return file.path ? describePath(file.path, reader.fs.root) : file.describe();
}

/** ptrace_may_access by the ids of file access (proc_fd_access_allowed). */
export function mayFollow(reader: Task, thread: Thread): boolean {
  return mayAccess(reader, thread, 'filesystem') >= 0;
}

function fileOf(thread: Thread, fd: number): FileDescription | undefined {
  return thread.exiting || thread.dead ? undefined : thread.files.get(fd);
}

/** A descriptor's number from a name: no sign, no leading zeroes (name_to_int). */
export function numberOf(name: string): number {
  return /^(0|[1-9]\d{0,9})$/.test(name) ? Number(name) : -1;
}

class DescriptorLink extends ProcLink {
  readonly #thread: Thread;
  readonly #fd: number;

  constructor(fileSystem: ProcFileSystem, ino: number, owner: Owner, thread: Thread, fd: number) {
    const file = (): FileDescription | number => fileOf(thread, fd) ?? -Errno.ENOENT;
    super(
      fileSystem,
      ino,
      owner,
      (reader) => {
        if (!mayFollow(reader, thread)) return -Errno.EACCES;
        const open = file();
        return typeof open === 'number' ? open : fileText(open, reader);
      },
      (reader) => {
        if (!mayFollow(reader, thread)) return -Errno.EACCES;
        const open = file();
        if (typeof open === 'number') return open;
        return open.path ?? reader.kernel.part(NamelessMounts).place(open);
      },
    );
    this.#thread = thread;
    this.#fd = fd;
  }

  override get size(): number {
    return 64;
  }

  /** The rights with which the file is open: r and x to read, w and x to write, of the owner. */
  override stat(): Stat | number {
    const stat = super.stat();
    if (typeof stat === 'number') return stat;
    const file = fileOf(this.#thread, this.#fd);
    if (!file) return -Errno.ENOENT;
    const rights = (file.readable ? 0o500 : 0) | (file.writable ? 0o300 : 0);
    return { ...stat, mode: FileType.symlink | rights };
  }
}

export class DescriptorDirectory extends ProcDirectory {
  readonly #thread: Thread;
  readonly #base: number;
  readonly #links: boolean;

  /** links: fd itself, else fdinfo. base: inode numbers of its entries begin there. */
  constructor(
    fileSystem: ProcFileSystem,
    ino: number,
    owner: Owner,
    thread: Thread,
    base: number,
    links: boolean,
  ) {
    super(fileSystem, ino, links ? 0o500 : 0o555, owner);
    this.#thread = thread;
    this.#base = base;
    this.#links = links;
  }

  /** As of Linux 6.2: how many descriptors are open. */
  override get size(): number {
    if (!this.#links || this.#thread.exiting || this.#thread.dead) return 0;
    let count = 0;
    for (const _entry of this.#thread.files.entries()) count++;
    return count;
  }

  override permission(mask: number, task: Task): number | undefined {
    // Every thread of the process, whatever its credentials are now (proc_fd_permission).
    if (this.#links && (mask & 2) === 0 && task.process === this.#thread.process) return 0;
    if (!this.#links && !mayFollow(task, this.#thread)) return -Errno.EACCES;
    return undefined;
  }

  override lookup(name: string, _task: Task): Inode | number {
    const fd = numberOf(name);
    if (fd < 0 || !fileOf(this.#thread, fd)) return -Errno.ENOENT;
    const ino = this.#base + fd;
    if (this.#links) return new DescriptorLink(this.fileSystem, ino, this.owner, this.#thread, fd);
    return new ProcText(this.fileSystem, ino, 0o444, this.owner, () => this.#information(fd));
  }

  override revalidate(name: string, inode: Inode | undefined, _task: Task): boolean {
    return inode !== undefined && fileOf(this.#thread, numberOf(name)) !== undefined;
  }

  #information(fd: number): string | number {
    const file = fileOf(this.#thread, fd);
    if (!file) return -Errno.ENOENT;
    const { path } = file;
    const stat = file.stat();
    const closing = this.#thread.files.closeOnExec(fd) ? OpenFlag.closeOnExec : 0;
    const flags = (file.flags & ~(OpenFlag.create | OpenFlag.exclusive | OpenFlag.truncate)) | closing;
    const mount =
      path?.mount.id ??
      (file.inode ? this.fileSystem.kernel.part(NamelessMounts).of(file.inode.fileSystem).id : 0);
    return (
      `pos:\t${file.position}\nflags:\t0${flags.toString(8)}\nmnt_id:\t${mount}\n` +
      `ino:\t${typeof stat === 'number' ? 0 : stat.ino}\n${file.information()}`
    );
  }

  *entries(_reader: Task, after: number): Iterable<readonly [number, Listed]> {
    if (this.#thread.exiting || this.#thread.dead) return;
    const type = this.#links ? FileType.symlink : FileType.regular;
    for (const [fd] of [...this.#thread.files.entries()])
      if (fd + 1 > after) yield [fd + 1, { name: String(fd), ino: this.#base + fd, type }];
  }
}
