// The journal engine's way to the disk: the few operations it needs, with the guarantees it builds on. Tests put a
// simulated disk in its place that cuts the power, fills up and fails.

import {
  close,
  constants,
  fdatasync,
  fdatasyncSync,
  fsync,
  ftruncate,
  open,
  read,
  write,
  writev,
  writevSync,
} from 'node:fs';
import { mkdir, readdir, rename, stat, truncate, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { lockDirectory } from './lock.ts';

export interface StoreFile {
  /**
   * Resolves when the system has taken all of the bytes; on a file opened as durable, when they are on disk, and with
   * them what is needed to find them again.
   */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;
  /** The same, but blocks until it is done. */
  writeNow(buffers: readonly Uint8Array[], position: number): void;
  /** Resolves with how many bytes were read; less than the buffer holds only at the end of the file. */
  read(buffer: Uint8Array, position: number): Promise<number>;
  truncate(length: number): Promise<void>;
  /** Resolves when everything written is on disk. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export type OpenMode = 'read' | 'create' | 'create durable' | 'modify durable';

export interface ListedFile {
  readonly name: string;
  readonly size: number;
}

export interface StoreFiles {
  makeDirectory(directory: string): Promise<void>;
  /** Rejects with StoreLockedError when another process (or store) has it. Resolves with what gives it back. */
  lock(directory: string): Promise<() => Promise<void>>;
  list(directory: string): Promise<readonly ListedFile[]>;
  /** `create` empties a file that is there. */
  open(path: string, mode: OpenMode): Promise<StoreFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Resolves when renames and removals in the directory are on disk. */
  syncDirectory(directory: string): Promise<void>;
}

const openFd = promisify(open);
const closeFd = promisify(close);
const syncFd = promisify(fsync);
const syncData = promisify(fdatasync);
const truncateFd = promisify(ftruncate);

/**
 * Linux writes through to the disk with O_DSYNC: the same guarantee as write and fdatasync in one call, so one trip
 * to the thread pool instead of two (measured: 0.23 ms against 0.30 ms). Elsewhere its meaning varies (on macOS it
 * leaves the drive's cache alone), so there it is write and fdatasync, for which libuv asks the drive, too.
 */
const WRITES_THROUGH = process.platform === 'linux';

const REMOVE_STEP = 16 * 1024 * 1024;

const MODES: Record<OpenMode, number> = {
  read: constants.O_RDONLY,
  create: constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC,
  'create durable': constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC,
  'modify durable': constants.O_RDWR,
};

class DiskFile implements StoreFile {
  readonly #fd: number;
  /** Writes must be followed by a call that brings them to the disk. */
  readonly #syncWrites: boolean;

  constructor(fd: number, syncWrites: boolean) {
    this.#fd = fd;
    this.#syncWrites = syncWrites;
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    await writeFully(this.#fd, buffers, position);
    if (this.#syncWrites) await syncData(this.#fd);
  }

  writeNow(buffers: readonly Uint8Array[], position: number): void {
    let rest = nonEmpty(buffers);
    while (rest.length > 0) {
      const count = writevSync(this.#fd, rest, position);
      position += count;
      rest = skip(rest, count);
    }
    if (this.#syncWrites) fdatasyncSync(this.#fd);
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < buffer.length) {
      const count = await readSome(this.#fd, buffer, done, position + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  truncate(length: number): Promise<void> {
    return truncateFd(this.#fd, length);
  }

  sync(): Promise<void> {
    return syncFd(this.#fd);
  }

  close(): Promise<void> {
    return closeFd(this.#fd);
  }
}

export const diskFiles: StoreFiles = {
  async makeDirectory(directory) {
    const first = await mkdir(directory, { recursive: true, mode: 0o700 });
    if (first === undefined) return;
    // The name of each new directory must be on disk before anything in it can be.
    const top = dirname(resolve(first));
    for (let parent = dirname(resolve(directory)); ; parent = dirname(parent)) {
      await diskFiles.syncDirectory(parent);
      if (parent === top) break;
    }
  },
  lock: lockDirectory,
  async list(directory) {
    const names = await readdir(directory);
    const files = await Promise.all(names.map((name) => statIfThere(directory, name)));
    return files.filter((file) => file !== undefined);
  },
  async open(path, mode) {
    const durable = mode.endsWith('durable');
    const through = durable && WRITES_THROUGH ? constants.O_DSYNC : 0;
    return new DiskFile(await openFd(path, MODES[mode] | through, 0o600), durable && !WRITES_THROUGH);
  },
  rename,
  async remove(path) {
    // Giving back much space at once keeps the file system from other work, durable writes included (measured: 0.15 s
    // for 600 MiB).
    const { size } = await stat(path);
    for (let length = size - REMOVE_STEP; length > 0; length -= REMOVE_STEP) await truncate(path, length);
    await unlink(path);
  },
  async syncDirectory(directory) {
    // Windows knows no such thing; NTFS journals its metadata in order.
    if (process.platform === 'win32') return;
    const fd = await openFd(directory, constants.O_RDONLY);
    try {
      await syncFd(fd);
    } finally {
      await closeFd(fd);
    }
  },
};

/** A snapshot may have made a file superfluous since the directory was read. */
async function statIfThere(directory: string, name: string): Promise<ListedFile | undefined> {
  try {
    return { name, size: (await stat(join(directory, name))).size };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The system may take less than it was given; it says why not when asked to take the rest. */
async function writeFully(fd: number, buffers: readonly Uint8Array[], position: number): Promise<void> {
  let rest = nonEmpty(buffers);
  while (rest.length > 0) {
    const count = await writeSome(fd, rest, position);
    position += count;
    rest = skip(rest, count);
  }
}

function nonEmpty(buffers: readonly Uint8Array[]): readonly Uint8Array[] {
  return buffers.every(({ length }) => length > 0) ? buffers : buffers.filter(({ length }) => length > 0);
}

/** What is left of the buffers after so many bytes. */
function skip(buffers: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  let whole = 0;
  while (whole < buffers.length && count >= buffers[whole]!.length) count -= buffers[whole++]!.length;
  const rest = buffers.slice(whole);
  if (count > 0) rest[0] = rest[0]!.subarray(count);
  return rest;
}

function writeSome(fd: number, buffers: readonly Uint8Array[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, count: number): void => (error ? reject(error) : resolve(count));
    const [first] = buffers;
    if (buffers.length === 1 && first !== undefined) write(fd, first, 0, first.length, position, done);
    else writev(fd, buffers, position, done);
  });
}

function readSome(fd: number, buffer: Uint8Array, offset: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, buffer, offset, buffer.length - offset, position, (error, count) =>
      error ? reject(error) : resolve(count),
    );
  });
}
