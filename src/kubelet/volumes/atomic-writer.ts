// Writes the files of a volume so that readers see either the old set or the new one, never a mixture: the files stand
// in a directory named for the moment, `..data` links to it, and the visible names link through `..data`. An update
// makes a new directory and renames one link (kubelet's AtomicWriter; programs rely on this layout).

import { constants } from 'node:fs';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isErrno } from './errno.ts';
import type { Payload } from './payload.ts';

const DATA = '..data';
const NEW_DATA = '..data_tmp';

export interface Ownership {
  /** The group that may read the files, when the pod has an fsGroup. */
  readonly gid?: number;
}

/** Upstream's format, for the eye: `..2024_05_17_10_20_30.`, then what makes it unique. */
function directoryPrefix(now: number): string {
  const [date = '', time = ''] = new Date(now).toISOString().slice(0, 19).split('T');
  return `..${date.replaceAll('-', '_')}_${time.replaceAll(':', '_')}.`;
}

function fileMode(mode: number, ownership: Ownership): number {
  return ownership.gid === undefined ? mode : mode | 0o440;
}

/** Whether the directory holds exactly these files. */
async function holds(directory: string, payload: Payload, ownership: Ownership): Promise<boolean> {
  const seen = new Set<string>();
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (entry.isDirectory()) continue;
    const path = join(entry.parentPath, entry.name);
    const relative = path.slice(directory.length + 1);
    const file = payload.get(relative);
    if (!file || !entry.isFile()) return false;
    const { mode, gid, uid } = await lstat(path);
    if ((mode & 0o7777) !== fileMode(file.mode, ownership)) return false;
    if (ownership.gid !== undefined && gid !== ownership.gid) return false;
    if (file.uid !== undefined && uid !== file.uid) return false;
    if (!(await readFile(path)).equals(file.data)) return false;
    seen.add(relative);
  }
  return seen.size === payload.size;
}

async function writeFiles(directory: string, payload: Payload, ownership: Ownership): Promise<void> {
  await chmod(directory, ownership.gid === undefined ? 0o755 : 0o2775);
  if (ownership.gid !== undefined) await chown(directory, -1, ownership.gid);
  const made = new Set<string>(['.']);
  for (const [path, file] of payload) {
    for (const parent of parentsOf(path)) {
      if (made.has(parent)) continue;
      made.add(parent);
      const full = join(directory, parent);
      await mkdir(full);
      await chmod(full, ownership.gid === undefined ? 0o755 : 0o2775);
      if (ownership.gid !== undefined) await chown(full, -1, ownership.gid);
    }
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    await using handle = await open(join(directory, path), flags, 0o600);
    await handle.writeFile(file.data);
    if (file.uid !== undefined || ownership.gid !== undefined)
      await handle.chown(file.uid ?? -1, ownership.gid ?? -1);
    // Not subject to the umask; after the chown, which clears special bits.
    await handle.chmod(fileMode(file.mode, ownership));
  }
}

function parentsOf(path: string): string[] {
  const parents: string[] = [];
  for (let at = dirname(path); at !== '.'; at = dirname(at)) parents.unshift(at);
  return parents;
}

/**
 * Makes the volume at `target` (which exists) hold `payload`. Returns whether anything had to be written. What an
 * interrupted run left behind is cleared away.
 */
export async function writePayload(
  target: string,
  payload: Payload,
  ownership: Ownership,
  now: number,
): Promise<boolean> {
  const current = await readlink(join(target, DATA)).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  });
  if (current !== undefined && (await holds(join(target, current), payload, ownership).catch(() => false))) {
    await linkNames(target, payload);
    return false;
  }
  const directory = await mkdtemp(join(target, directoryPrefix(now)));
  const name = directory.slice(target.length + 1);
  try {
    await writeFiles(directory, payload, ownership);
    await rm(join(target, NEW_DATA), { force: true });
    await symlink(name, join(target, NEW_DATA));
    await rename(join(target, NEW_DATA), join(target, DATA));
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  await linkNames(target, payload);
  for (const entry of await readdir(target))
    if (entry.startsWith('..') && entry !== DATA && entry !== name)
      await rm(join(target, entry), { recursive: true, force: true });
  return true;
}

/** Gives each first component of a path its link, and takes the links of what is gone. */
async function linkNames(target: string, payload: Payload): Promise<void> {
  const wanted = new Set([...payload.keys()].map((path) => path.split('/')[0]!));
  const present = new Set<string>();
  for (const entry of await readdir(target)) {
    if (entry.startsWith('..')) continue;
    if (wanted.has(entry)) present.add(entry);
    else await rm(join(target, entry), { recursive: true, force: true });
  }
  for (const name of wanted) if (!present.has(name)) await symlink(join(DATA, name), join(target, name));
}
