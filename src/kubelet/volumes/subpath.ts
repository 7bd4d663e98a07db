// subPath mounts. The content of a volume is the container's to change, also while it is being mounted: a symbolic link
// must never lead the mount out of the volume. So the path is resolved, checked, opened component by component without
// following links, and the opened directory or file itself (not its name) is bind-mounted (CVE-2017-1002101).

import { constants } from 'node:fs';
import { chmod, type FileHandle, lstat, mkdir, open, realpath, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import type { MountOperations } from '../host/host.ts';
import { isErrno } from './errno.ts';

/** open(2)'s O_PATH on Linux, which Node does not name: a handle on the place, not on the content. */
const O_PATH = 0o10000000;

export class SubpathError extends Error {
  override readonly name = 'SubpathError';
}

function checkRelative(subPath: string): void {
  if (subPath.startsWith('/'))
    throw new SubpathError(`subPath ${JSON.stringify(subPath)} must be a relative path`);
  if (subPath.split('/').includes('..'))
    throw new SubpathError(`subPath ${JSON.stringify(subPath)} must not contain '..'`);
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way === '' || (!way.startsWith(`..${sep}`) && way !== '..' && !way.startsWith(sep));
}

/** Opens `path` below `root` without following any link; the caller closes the handle. */
async function openInside(root: string, path: string): Promise<FileHandle> {
  const way = relative(root, path);
  let handle = await open(root, O_PATH | constants.O_NOFOLLOW | constants.O_DIRECTORY);
  for (const part of way === '' ? [] : way.split(sep)) {
    const parent = handle;
    try {
      handle = await open(`/proc/self/fd/${parent.fd}/${part}`, O_PATH | constants.O_NOFOLLOW);
    } finally {
      await parent.close();
    }
    const status = await handle.stat();
    if (status.isSymbolicLink()) {
      await handle.close();
      throw new SubpathError(`${path} changed into a symbolic link while it was being opened`);
    }
  }
  return handle;
}

/** Makes the directory, part by part, each resolved and checked before the next. */
async function makeInside(root: string, subPath: string, mode: number): Promise<string> {
  let current = root;
  for (const part of subPath.split('/')) {
    if (part === '' || part === '.') continue;
    const next = join(current, part);
    try {
      // Through the opened parent: a link put in its place meanwhile is not followed.
      await using parent = await openInside(root, current);
      await mkdir(`/proc/self/fd/${parent.fd}/${part}`, { mode });
      await chmod(`/proc/self/fd/${parent.fd}/${part}`, mode);
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
    }
    current = await realpath(next);
    if (!isInside(root, current))
      throw new SubpathError(`subPath ${JSON.stringify(subPath)} leads out of the volume`);
  }
  return current;
}

/** More than an environment file has. */
const READ_LIMIT = 64 * 1024;

/** The text of a file in a volume, undefined when there is none; links may not lead out of the volume. */
export async function readInside(volume: string, path: string): Promise<string | undefined> {
  checkRelative(path);
  const root = await realpath(volume);
  try {
    const source = await realpath(join(root, path));
    if (!isInside(root, source))
      throw new SubpathError(`path ${JSON.stringify(path)} leads out of the volume`);
    await using place = await openInside(root, source);
    if (!(await place.stat()).isFile()) throw new SubpathError(`path ${JSON.stringify(path)} is not a file`);
    await using file = await open(`/proc/self/fd/${place.fd}`, constants.O_RDONLY | constants.O_NONBLOCK);
    if ((await file.stat()).size > READ_LIMIT)
      throw new SubpathError(`file ${JSON.stringify(path)} is longer than ${READ_LIMIT} bytes`);
    return await file.readFile('utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/**
 * Binds `subPath` of the volume at `volume` to `target` and returns `target`. What does not exist is made as a directory
 * (with the volume's mode) unless the volume is read-only.
 */
export async function bindSubpath(
  volume: string,
  subPath: string,
  target: string,
  options: { readonly mounts: MountOperations; readonly readOnly: boolean },
): Promise<string> {
  checkRelative(subPath);
  const { mounts } = options;
  if ((await mounts.mountsUnder(target)).includes(target)) return target;
  const root = await realpath(volume);
  const existing = await realpath(join(root, subPath)).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  });
  if (existing !== undefined && !isInside(root, existing))
    throw new SubpathError(`subPath ${JSON.stringify(subPath)} leads out of the volume`);
  if (existing === undefined && options.readOnly)
    throw new SubpathError(`subPath ${JSON.stringify(subPath)} does not exist in the read-only volume`);
  const source = existing ?? (await makeInside(root, subPath, (await lstat(root)).mode & 0o7777));
  await using handle = await openInside(root, source);
  await mkdir(dirname(target), { recursive: true, mode: 0o750 });
  if ((await handle.stat()).isDirectory()) await mkdir(target, { recursive: true });
  else await writeFile(target, '', { flag: 'a' });
  try {
    await mounts.bind(`/proc/${process.pid}/fd/${handle.fd}`, target);
  } catch (error) {
    await rm(target, { recursive: false, force: true }).catch(() => {});
    throw error;
  }
  return target;
}
