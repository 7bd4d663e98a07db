// Writes the files of a volume so that readers see either the old set or the new one, never a mixture: the files stand
// in a directory named for the moment, `..data` links to it, and the visible names link through `..data`. An update
// makes a new directory and renames one link (kubelet's AtomicWriter; programs rely on this layout). The files lie in
// memory (see manager.ts): the calls are synchronous because none of them waits for a device, and thirty trips through
// the thread pool for every pod cost more than the work itself.

import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';

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
function holds(directory: string, payload: Payload, ownership: Ownership): boolean {
  const seen = new Set<string>();
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (entry.isDirectory()) continue;
    const path = join(entry.parentPath, entry.name);
    const relative = path.slice(directory.length + 1);
    const file = payload.get(relative);
    if (!file || !entry.isFile()) return false;
    const { mode, gid, uid } = lstatSync(path);
    if ((mode & 0o7777) !== fileMode(file.mode, ownership)) return false;
    if (ownership.gid !== undefined && gid !== ownership.gid) return false;
    if (file.uid !== undefined && uid !== file.uid) return false;
    if (!readFileSync(path).equals(file.data)) return false;
    seen.add(relative);
  }
  return seen.size === payload.size;
}

function makeOwned(directory: string, ownership: Ownership): void {
  chmodSync(directory, ownership.gid === undefined ? 0o755 : 0o2775);
  if (ownership.gid !== undefined) chownSync(directory, -1, ownership.gid);
}

function writeFiles(directory: string, payload: Payload, ownership: Ownership): void {
  makeOwned(directory, ownership);
  const made = new Set<string>(['.']);
  for (const [path, file] of payload) {
    for (const parent of parentsOf(path)) {
      if (made.has(parent)) continue;
      made.add(parent);
      const full = join(directory, parent);
      mkdirSync(full);
      makeOwned(full, ownership);
    }
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const descriptor = openSync(join(directory, path), flags, 0o600);
    try {
      writeFileSync(descriptor, file.data);
      if (file.uid !== undefined || ownership.gid !== undefined)
        fchownSync(descriptor, file.uid ?? -1, ownership.gid ?? -1);
      // Not subject to the umask; after the chown, which clears special bits.
      fchmodSync(descriptor, fileMode(file.mode, ownership));
    } finally {
      closeSync(descriptor);
    }
  }
}

function parentsOf(path: string): string[] {
  const parents: string[] = [];
  for (let at = dirname(path); at !== '.'; at = dirname(at)) parents.unshift(at);
  return parents;
}

/** The directory that holds the present files, undefined when there is none yet. */
function currentDirectory(target: string): string | undefined {
  try {
    return readlinkSync(join(target, DATA));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** False also when the directory is damaged: it is then written anew. */
function isUpToDate(directory: string, payload: Payload, ownership: Ownership): boolean {
  try {
    return holds(directory, payload, ownership);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

/**
 * Makes the volume at `target` (which exists) hold `payload`. Returns whether anything had to be written. What an
 * interrupted run left behind is cleared away.
 */
export function writePayload(target: string, payload: Payload, ownership: Ownership, now: number): boolean {
  const current = currentDirectory(target);
  if (current !== undefined && isUpToDate(join(target, current), payload, ownership)) {
    linkNames(target, payload);
    return false;
  }
  const directory = mkdtempSync(join(target, directoryPrefix(now)));
  const name = directory.slice(target.length + 1);
  try {
    writeFiles(directory, payload, ownership);
    rmSync(join(target, NEW_DATA), { force: true });
    symlinkSync(name, join(target, NEW_DATA));
    renameSync(join(target, NEW_DATA), join(target, DATA));
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
  linkNames(target, payload);
  for (const entry of readdirSync(target))
    if (entry.startsWith('..') && entry !== DATA && entry !== name)
      rmSync(join(target, entry), { recursive: true, force: true });
  return true;
}

/** Gives each first component of a path its link, and takes the links of what is gone. */
function linkNames(target: string, payload: Payload): void {
  const wanted = new Set([...payload.keys()].map((path) => path.split('/')[0]!));
  const present = new Set<string>();
  for (const entry of readdirSync(target)) {
    if (entry.startsWith('..')) continue;
    if (wanted.has(entry)) present.add(entry);
    else rmSync(join(target, entry), { recursive: true, force: true });
  }
  for (const name of wanted) if (!present.has(name)) symlinkSync(join(DATA, name), join(target, name));
}
