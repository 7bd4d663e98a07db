// Opening what is neither a regular file nor a directory, for the inodes of every file system: FIFOs, devices and
// sockets are the sandbox's own wherever their names are kept, never the host's.

import { Errno } from '../../abi/errno.ts';
import { FileType } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Path } from '../contract.ts';
import type { FileDescription } from '../file-description.ts';
import type { Fifo } from '../pipe/fifo.ts';
import { DeviceRegistry } from './registry.ts';

/**
 * open(2) of an inode by its mode. `fifo` gives the inode's own, made at the first use. Sockets: -ENXIO; MS_NODEV was
 * checked by the caller; a symbolic link gives -ELOOP.
 */
export function openSpecial(
  task: Task,
  path: Path,
  flags: number,
  mode: number,
  device: number,
  fifo: () => Fifo,
): FileDescription | number {
  const type = mode & FileType.mask;
  switch (type) {
    case FileType.fifo:
      return fifo().open(task, path, flags);
    case FileType.character:
    case FileType.block:
      return task.kernel.part(DeviceRegistry).open(task, path, flags, type, device);
    case FileType.symlink:
      return -Errno.ELOOP;
    default:
      return -Errno.ENXIO;
  }
}
