// Reading and writing the files of cgroup directories, and what both versions do alike with the tree.

import { constants } from 'node:fs';
import { mkdir, open, readdir, readFile, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../component/index.ts';
import { RuntimeError } from '../cri.ts';

export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Rejects what would lead out of the tree or name the root. */
export function checkCgroupPath(path: string): string {
  const parts = path.split('/').filter((part) => part !== '');
  if (!path.startsWith('/') || parts.length === 0 || parts.some((part) => part === '.' || part === '..'))
    throw new RuntimeError('InvalidArgument', `"${path}" is no path of a cgroup below the root`);
  return `/${parts.join('/')}`;
}

/** The cgroup, or the file in it, is not there (ENODEV: it went away under an open file). */
export function isGone(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOENT' || code === 'ENODEV';
}

/** Writes without creating: a file that the kernel does not have is an error. */
export async function writeCgroupFile(directory: string, file: string, value: string): Promise<void> {
  const path = join(directory, file);
  let handle: Awaited<ReturnType<typeof open>> | undefined;
  try {
    handle = await open(path, constants.O_WRONLY | constants.O_TRUNC);
    await handle.write(value);
  } catch (error) {
    const code = errorCode(error);
    throw new RuntimeError(
      code === 'ENOENT' ? 'NotFound' : code === 'EINVAL' ? 'InvalidArgument' : 'Internal',
      `write "${value}" to ${path}: ${code ?? String(error)}`,
      { cause: error },
    );
  } finally {
    await handle?.close();
  }
}

/** Undefined when the file, or the cgroup, is not there. */
export async function readCgroupFile(directory: string, file: string): Promise<string | undefined> {
  try {
    return await readFile(join(directory, file), 'utf8');
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

export async function directoryExists(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/** True when it was made, false when it was there. */
export async function makeDirectory(path: string): Promise<boolean> {
  try {
    await mkdir(path, 0o755);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

export async function subdirectories(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => join(path, entry.name));
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** The process ids in a cgroup directory and in all below it. */
export async function processesBelow(directory: string): Promise<number[]> {
  const text = (await readCgroupFile(directory, 'cgroup.procs').catch(() => undefined)) ?? '';
  const below = await Promise.all((await subdirectories(directory)).map(processesBelow));
  return [...text.split('\n').filter(Boolean).map(Number), ...below.flat()];
}

/** The numbers of a file whose lines are `name number`. */
export function flatNumbers(text: string | undefined): Map<string, number> {
  const numbers = new Map<string, number>();
  for (const line of (text ?? '').split('\n')) {
    const space = line.indexOf(' ');
    if (space > 0) numbers.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return numbers;
}

/** A limit as a number; undefined for "max" and for the numbers by which version 1 means no limit. */
export function limitOf(text: string | undefined): number | undefined {
  const value = (text ?? 'max').trim();
  if (value === 'max' || value === '') return undefined;
  const number = Number(value);
  return number < 0 || number >= 2 ** 62 ? undefined : number;
}

export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.setTimer(ms, resolve));
}

const REMOVE_PATIENCE_MS = 2000;

/**
 * Removes a cgroup directory and all below it. The kernel says EBUSY for a moment after the last process was killed,
 * and tells nobody when that is over, so it is asked again.
 */
export async function removeCgroupTree(directory: string, clock: Clock): Promise<void> {
  const deadline = clock.monotonic() + REMOVE_PATIENCE_MS;
  for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
    for (const child of await subdirectories(directory)) await removeCgroupTree(child, clock);
    try {
      await rmdir(directory);
      return;
    } catch (error) {
      if (isGone(error)) return;
      if (errorCode(error) !== 'EBUSY' && errorCode(error) !== 'ENOTEMPTY') throw error;
      if (clock.monotonic() >= deadline) {
        const pids = await processesBelow(directory);
        throw new RuntimeError(
          'FailedPrecondition',
          `cgroup ${directory} cannot be removed: ` +
            (pids.length > 0 ? `processes ${pids.slice(0, 10).join(', ')} run in it` : 'it stays busy'),
          { cause: error },
        );
      }
    }
    await pause(clock, wait);
  }
}

/** Sends SIGKILL to each; one that has ended meanwhile is no error. */
export function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      if (errorCode(error) !== 'ESRCH') throw error;
    }
  }
}
