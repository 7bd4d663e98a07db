// devtmpfs: a tmpfs that has the default devices from the beginning. As in Linux there is one, whatever options a mount
// gives, and whoever mounts it again sees the same.

import type { Kernel, Task } from '../../kernel/contract.ts';
import type { FileSystem, FileSystemType } from '../contract.ts';
import { TmpfsFileSystem } from '../tmpfs/file-system.ts';
import { populateDevices } from './populate.ts';

/** One a kernel: kernel.part(SharedDevices). */
class SharedDevices {
  readonly #kernel: Kernel;
  #fileSystem: TmpfsFileSystem | undefined;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  get(task: Task): FileSystem | number {
    if (this.#fileSystem) return this.#fileSystem;
    const fileSystem = new TmpfsFileSystem(this.#kernel, { mode: 0o755 }, 'devtmpfs');
    const result = populateDevices(fileSystem.root, task.credentials);
    if (result < 0) return result;
    this.#fileSystem = fileSystem;
    return fileSystem;
  }
}

/** For Vfs.registerType. */
export const devtmpfsType: FileSystemType = {
  name: 'devtmpfs',
  userMount: false,
  mount(task: Task): FileSystem | number {
    return task.kernel.part(SharedDevices).get(task);
  },
};
