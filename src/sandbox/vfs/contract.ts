// The parts of the virtual file system that tasks and file systems share: mounts, dentries, descriptor tables, the
// result of stat. Names are latin1 text: one char is one byte.

import type { Task, UserNamespace } from '../kernel/contract.ts';
import type { FileDescription } from './file-description.ts';
import type { Inode } from './inode.ts';

export interface Timespec {
  readonly sec: number;
  readonly nsec: number;
}

/** What stat(2) and statx(2) are answered from. */
export interface Stat {
  readonly dev: number;
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly blksize: number;
  /** In units of 512 bytes. */
  readonly blocks: number;
  readonly atime: Timespec;
  readonly mtime: Timespec;
  readonly ctime: Timespec;
  readonly btime?: Timespec | undefined;
}

export interface StatFs {
  /** f_type, the magic number. */
  readonly type: number;
  readonly blockSize: number;
  readonly blocks: number;
  readonly blocksFree: number;
  readonly blocksAvailable: number;
  readonly files: number;
  readonly filesFree: number;
  readonly nameLength: number;
}

/** A file system that is mounted somewhere; what /proc/mounts says of it. */
export interface FileSystem {
  /** "tmpfs", "proc", … */
  readonly type: string;
  readonly device: number;
  readonly root: Inode;
  /** Options of its own as /proc/mounts shows them, without the mount's flags; e.g. "size=65536k,mode=755". */
  readonly options: string;
  statfs(): StatFs | number;
  sync(): number;
  /** The last mount is gone. */
  release(): void;
}

/** A name in a directory: positive (inode) or negative (inode undefined). Owned by the VFS core. */
export interface Dentry {
  readonly name: string;
  readonly parent: Dentry | undefined;
  inode: Inode | undefined;
}

export interface Mount {
  readonly id: number;
  readonly fileSystem: FileSystem;
  /** The dentry of the file system that is seen at the mount point (a bind mount may show a part). */
  readonly root: Dentry;
  /** MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, …. */
  flags: number;
  readonly parent: Mount | undefined;
  readonly mountPoint: Dentry | undefined;
  /** As /proc/mounts shows it. */
  readonly source: string;
}

/** A place in the tree that a program sees. */
export interface Path {
  readonly mount: Mount;
  readonly dentry: Dentry;
}

export interface MountNamespace {
  readonly root: Path;
  readonly userNamespace: UserNamespace;
  /** In mount order. */
  mounts(): readonly Mount[];
}

/** fs_struct: shared with CLONE_FS. */
export interface FsContext {
  root: Path;
  cwd: Path;
  umask: number;
  fork(): FsContext;
  acquire(): FsContext;
  release(): void;
}

/** A process's descriptors: shared with CLONE_FILES, counted. */
export interface FdTable {
  /** The open file, or undefined (EBADF). O_PATH descriptions are returned too. */
  get(fd: number): FileDescription | undefined;
  /** Takes over one reference; the lowest free number >= minimum; -EMFILE beyond the task's RLIMIT_NOFILE. */
  install(task: Task, file: FileDescription, closeOnExec: boolean, minimum?: number): number;
  /** dup2/dup3 semantics: closes what was there. Takes over one reference. */
  replace(task: Task, fd: number, file: FileDescription, closeOnExec: boolean): number;
  close(task: Task, fd: number): number;
  closeOnExec(fd: number): boolean;
  setCloseOnExec(fd: number, value: boolean): void;
  /** Ascending. */
  entries(): IterableIterator<readonly [fd: number, file: FileDescription]>;
  fork(): FdTable;
  acquire(): FdTable;
  /** Closes everything when it was the last user. */
  release(task: Task): void;
  /** At exec: unshares is the caller's work; closes what is marked. */
  closeForExec(task: Task): void;
  readonly users: number;
}
