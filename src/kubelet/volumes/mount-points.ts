// Takes away the places below a pod's directory at which persistent volumes and sub-paths were mounted. Only what is
// empty is removed, and only with calls that neither reach into a mount nor delete content: if a volume should still be
// there, its data stays, and the pod's directory with it.

import { lstat, readdir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from './errno.ts';

/**
 * Removes a directory whose mount points lie `levels` below it. Never looks into a mount point itself: rmdir(2) and
 * unlink(2) refuse one that is in use, and rmdir(2) one with something in it. Rejects when anything stays.
 */
export async function removeMountPoints(directory: string, levels: number): Promise<void> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  });
  if (!names) return;
  for (const name of names) {
    const path = join(directory, name);
    const status = await lstat(path);
    if (status.isDirectory()) await (levels > 1 ? removeMountPoints(path, levels - 1) : rmdir(path));
    else if (levels === 1 && status.isFile() && status.size === 0) await unlink(path);
    else throw new Error(`${path} is not an empty mount point: it is kept, with the directories above it`);
  }
  await rmdir(directory);
}
