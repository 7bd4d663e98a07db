// memfd_create(2) and shared anonymous memory: files of a tmpfs that is mounted nowhere. One a kernel:
// kernel.part(MemoryFiles).

import { MemoryFileFlag, Seal } from '../abi/file.ts';
import { FileType, OpenFlag } from '../abi/open.ts';
import type { Kernel, Task } from '../kernel/contract.ts';
import type { Mount } from './contract.ts';
import type { FileDescription } from './file-description.ts';
import { TmpfsFileSystem } from './tmpfs/file-system.ts';
import { TmpfsInode } from './tmpfs/inode.ts';
import { Vfs } from './vfs.ts';

export class MemoryFiles {
  readonly #kernel: Kernel;
  #fileSystem: TmpfsFileSystem | undefined;
  #mount: Mount | undefined;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** flags: MFD_*. An open file that nothing names, "/memfd:NAME (deleted)". */
  create(task: Task, name: string, flags: number): FileDescription | number {
    const vfs = this.#kernel.part(Vfs);
    this.#fileSystem ??= new TmpfsFileSystem(this.#kernel, { pages: 0, inodes: 0 });
    this.#mount ??= vfs.kernelMount(this.#fileSystem);
    const { fsuid, fsgid } = task.credentials;
    const executable = !(flags & MemoryFileFlag.noExecSeal);
    const mode = FileType.regular | (executable ? 0o777 : 0o666);
    const inode = new TmpfsInode(this.#fileSystem, mode, fsuid, fsgid, 0, undefined, name);
    inode.nlink = 0;
    if (!executable) inode.seals = Seal.exec;
    else if (flags & MemoryFileFlag.allowSealing) inode.seals = 0;
    const dentry = vfs.dentries.nameless(this.#mount.root, `memfd:${name}`, inode).acquire();
    const file = inode.open(task, { mount: this.#mount, dentry }, OpenFlag.readWrite | OpenFlag.largeFile);
    dentry.release();
    if (typeof file === 'number') return file;
    inode.writers++;
    file.countedWriter = true;
    return file;
  }
}
