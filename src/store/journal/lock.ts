// One process at a time has a store open. The lock is the kernel's, on an open file, so it goes with the process
// however that ends, holds across network namespaces and containers, and needs no cleaning up.
//
// Node has no flock(2). On Linux the flock(1) of util-linux or busybox takes it for us: a flock belongs to the open
// file, not to the process, so one taken by a child on an inherited descriptor stays ours when the child has gone.
// (Descriptors are close-on-exec: no other child inherits it.) On macOS and the BSDs open(2) locks with O_EXLOCK, on
// Windows libuv opens without sharing when given the flag of the same name.

import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';

/** Another process, or another store in this one, has the directory. */
export class StoreLockedError extends Error {
  override readonly name = 'StoreLockedError';
  readonly directory: string;
  constructor(directory: string, holder: string) {
    super(
      `the store in ${directory} is in use by ${holder}; stop that first, or choose another directory for this one`,
    );
    this.directory = directory;
  }
}

const O_EXLOCK = process.platform === 'win32' ? 0x10000000 : 0x20;

/** Resolves with what gives the lock back. */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const path = join(directory, 'LOCK');
  const file = process.platform === 'linux' ? await lockThroughChild(path) : await lockAtOpen(path);
  if (file === undefined) throw new StoreLockedError(directory, await holderOf(path));
  const pid = Buffer.from(`${process.pid}\n`);
  try {
    await file.truncate(0);
    await file.write(pid, 0, pid.length, 0);
  } catch {
    // On a full disk the lock works all the same; only the other one's error message will not know our pid.
  }
  return () => file.close();
}

async function lockThroughChild(path: string): Promise<FileHandle | undefined> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  let code: number | null;
  try {
    code = await new Promise<number | null>((resolve, reject) => {
      const child = spawn('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', file.fd] });
      child.once('error', (cause) =>
        reject(new Error(`cannot lock ${path}: the program flock (package util-linux) is needed`, { cause })),
      );
      child.once('exit', resolve);
    });
  } catch (error) {
    await file.close();
    throw error;
  }
  if (code === 0) return file;
  await file.close();
  // flock of util-linux and that of busybox answer 1 when somebody else has the lock.
  if (code === 1) return undefined;
  throw new Error(`cannot lock ${path}: flock ended with status ${code}`);
}

async function lockAtOpen(path: string): Promise<FileHandle | undefined> {
  const nonblocking = process.platform === 'win32' ? 0 : constants.O_NONBLOCK;
  try {
    return await open(path, constants.O_RDWR | constants.O_CREAT | nonblocking | O_EXLOCK, 0o600);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EAGAIN' || code === 'EWOULDBLOCK' || code === 'EBUSY') return undefined;
    throw error;
  }
}

async function holderOf(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const pid = Number.parseInt(await file.readFile('utf8'), 10);
      return pid > 0 ? `process ${pid}` : 'another process';
    } finally {
      await file.close();
    }
  } catch {
    return 'another process';
  }
}
