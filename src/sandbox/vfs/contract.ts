// The parts of the virtual file system that tasks and file systems share: mounts, dentries, descriptor tables, the
// result of stat. Names are latin1 text: one char is one byte.

import type { Task } from '../kernel/contract.ts';
import type { Dentry } from './dentry.ts';
import type { FileDescription } from './file-description.ts';
import type { Inode } from './inode.ts';
import type { Mount } from './mount.ts';

export type { Dentry } from './dentry.ts';
export type { Mount } from './mount.ts';
export type { MountNamespace } from './mount-namespace.ts';

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
  /** mount(2) with MS_REMOUNT: options as they came; left out: the file system takes none. 0 or a negative errno. */
  reconfigure?(task: Task, options: string): number;
}

/** A kind of file system that mount(2) can make; registered with Vfs.registerType. */
export interface FileSystemType {
  readonly name: string;
  /** It may be mounted by whoever has CAP_SYS_ADMIN in his own user namespace (FS_USERNS_MOUNT). */
  readonly userMount: boolean;
  /** A new file system, or the one that mounts of this kind share; options: the text that mount(2) was given. */
  mount(task: Task, source: string, options: string): FileSystem | number;
}

/** A place in the tree that a program sees. */
export interface Path {
  readonly mount: Mount;
  readonly dentry: Dentry;
}

/** fs_struct: shared with CLONE_FS. */
export interface FsContext {
  readonly root: Path;
  readonly cwd: Path;
  umask: number;
  /** Both hold the place. */
  setRoot(path: Path): void;
  setCwd(path: Path): void;
  fork(): FsContext;
  /** How many tasks share it. */
  readonly users: number;
  acquire(): FsContext;
  release(): void;
}

/** A process's descriptors: shared with CLONE_FILES, counted. */
export interface FdTable {
  /** The open file, or undefined (EBADF). O_PATH descriptions are returned too. */
  get(fd: number): FileDescription | undefined;
  /** Takes over one reference; the lowest free number >= minimum; -EMFILE beyond the task's RLIMIT_NOFILE. */
  install(task: Task, file: FileDescription, closeOnExec: boolean, minimum?: number): number;
  /** Whether install would find a number, for calls that must not do anything when there is none. */
  hasFree(task: Task): boolean;
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
