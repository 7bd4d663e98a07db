// fsGroup: gives a volume's files to the group that the pod's processes have, so that they can use them whatever user
// they run as (pkg/volume/volume_linux.go). Symbolic links are neither followed nor changed.

import { chmod, lchown, lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from './errno.ts';

const READ_WRITE = 0o660;
const READ_ONLY = 0o440;
const SEARCH = 0o110;
const SETGID = 0o2000;

export type ChangePolicy = 'Always' | 'OnRootMismatch';

function bits(isDirectory: boolean, readOnly: boolean): number {
  const base = readOnly ? READ_ONLY : READ_WRITE;
  return isDirectory ? base | SETGID | SEARCH : base;
}

/** With OnRootMismatch a volume whose root is right already is left alone: large volumes cost much otherwise. */
export async function setVolumeOwnership(
  root: string,
  gid: number,
  options: { readonly readOnly: boolean; readonly policy: ChangePolicy },
): Promise<void> {
  const { mode, gid: owner } = await lstat(root);
  const wanted = bits(true, options.readOnly);
  if (options.policy === 'OnRootMismatch' && owner === gid && (mode & wanted) === wanted) return;
  await setTree(root, gid, options.readOnly);
}

/** The root last: an interrupted run does not look finished. */
async function setTree(path: string, gid: number, readOnly: boolean): Promise<void> {
  const status = await lstat(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  });
  if (!status) return;
  if (status.isDirectory())
    for await (const entry of await opendir(path)) await setTree(join(path, entry.name), gid, readOnly);
  await lchown(path, status.uid, gid);
  if (!status.isSymbolicLink())
    await chmod(path, (status.mode & 0o7777) | bits(status.isDirectory(), readOnly));
}
