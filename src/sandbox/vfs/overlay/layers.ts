// What overlay directories are made of: directories of other file systems, called layers here, and the marks that an
// upper layer carries (Documentation/filesystems/overlayfs.rst): whiteouts, which are character devices 0:0, and opaque
// directories, which have an extended attribute.

import { Errno } from '../../abi/errno.ts';
import { MountFlag } from '../../abi/mount.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import { TaskCredentials } from '../../kernel/credentials/credentials.ts';
import type { MappedUserNamespace } from '../../kernel/credentials/user-namespace.ts';
import type { FileSystem, Mount } from '../contract.ts';
import type { DirectoryEntry, FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import { Vfs } from '../vfs.ts';

/** A directory that is a layer, on a mount of the overlay's own (nothing that is mounted elsewhere changes it). */
export interface Layer {
  readonly mount: Mount;
  readonly root: Inode;
}

export function makeLayer(kernel: Kernel, fileSystem: FileSystem, root: Inode): Layer {
  const vfs = kernel.part(Vfs);
  const superBlock = vfs.superBlock(fileSystem, 0);
  const mount = vfs.newMount(superBlock, superBlock.root, MountFlag.relativeAccessTime, 'none').acquire();
  return { mount, root: root.acquire() };
}

export function releaseLayer(layer: Layer): void {
  layer.root.release();
  layer.mount.release();
}

/**
 * In whose name layers are read and written: what a program may do was decided when it asked the overlay, and no limit of
 * its own ends a copy. Files ask a task for no more than this.
 */
export function layerTask(kernel: Kernel): Task {
  const unlimited = { soft: Number.POSITIVE_INFINITY, hard: Number.POSITIVE_INFINITY };
  return {
    kernel,
    credentials: TaskCredentials.root(kernel.rootUserNamespace as MappedUserNamespace),
    process: { limit: () => unlimited },
  } as unknown as Task;
}

export function isWhiteout(inode: Inode): boolean {
  if ((inode.mode & FileType.mask) !== FileType.character) return false;
  const stat = inode.stat();
  return typeof stat !== 'number' && stat.rdev === 0;
}

/** Opens a file of a layer: its name is nobody's business, so that it has a place of its own. */
export function openReal(task: Task, layer: Layer, inode: Inode, flags: number): FileDescription | number {
  const { mount } = layer;
  const dentry = mount.vfs.dentries.nameless(mount.root, '', inode).acquire();
  const file = inode.open(task, { mount, dentry }, flags);
  dentry.release();
  return file;
}

/** All names in a directory of a layer, without the dots. */
export function listReal(task: Task, layer: Layer, directory: Inode): DirectoryEntry[] | number {
  const file = openReal(task, layer, directory, OpenFlag.readOnly | OpenFlag.directory);
  if (typeof file === 'number') return file;
  const entries: DirectoryEntry[] = [];
  const result = file.readDirectory(task, (entry) => {
    if (entry.name !== '.' && entry.name !== '..') entries.push(entry);
    return true;
  });
  file.unreference();
  return result < 0 ? result : entries;
}

/** The inode of a name, held, or undefined; other errors than ENOENT as they are. The caller releases it. */
export function findReal(task: Task, directory: Inode, name: string): Inode | number | undefined {
  const found = directory.lookup(name, task);
  if (typeof found !== 'number') return found.acquire();
  return found === -Errno.ENOENT ? undefined : found;
}
