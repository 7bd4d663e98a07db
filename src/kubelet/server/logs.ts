// Reads a container's log file as its client asks: from where, how much, how far on. Following is driven by inotify
// (the directory is watched, so that rotation shows too) and ends when the container has ended and all was read.

import { constants, watch } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { isErrno } from '../volumes/errno.ts';
import { parseLogLine } from './log-line.ts';
import { type LogOptions, parseNanoTime } from './log-options.ts';

const BLOCK = 64 * 1024;
/** Longer lines do not come from a runtime (which splits them at 16 KiB): they are skipped. */
const LONGEST_LINE = 1 << 20;
const NEWLINE = 0x0a;

export interface LogSource {
  /** The file that the runtime writes now; older parts of it have been renamed away. */
  readonly path: string;
  /** Aborts when the container has ended: nothing more will be written. Absent: it has. */
  readonly ended?: AbortSignal;
}

/** Takes output; resolves when there is room for more. */
export type LogSink = (chunk: Buffer) => Promise<void>;

/** Where the last `lines` lines begin. */
async function tailOffset(file: FileHandle, lines: number, size: number): Promise<number> {
  if (lines === 0) return size;
  const block = Buffer.alloc(Math.min(BLOCK, size));
  let found = 0;
  let end = size;
  while (end > 0) {
    const start = Math.max(0, end - block.length);
    const { bytesRead } = await file.read(block, 0, end - start, start);
    for (let at = bytesRead - 1; at >= 0; at--) {
      // The newline that ends the file ends its last line.
      if (block[at] !== NEWLINE || start + at === size - 1) continue;
      if (++found === lines) return start + at + 1;
    }
    end = start;
  }
  return 0;
}

/** Turns raw lines into what the client sees, within its limit. */
class Formatter {
  readonly #options: LogOptions;
  #left: number;
  /** Per stream: whether the next text begins a line. */
  readonly #atLineStart = { stdout: true, stderr: true };

  constructor(options: LogOptions) {
    this.#options = options;
    this.#left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  }

  get full(): boolean {
    return this.#left <= 0;
  }

  add(raw: Buffer, into: Buffer[]): void {
    const line = parseLogLine(raw);
    if (!line || this.full) return;
    const { since, stream, timestamps } = this.#options;
    if (stream !== undefined && line.stream !== stream) return;
    if (since !== undefined && (parseNanoTime(line.time) ?? 0n) < since) return;
    const begins = this.#atLineStart[line.stream];
    this.#atLineStart[line.stream] = !line.partial;
    // conmon writes UTC as an offset.
    const time = line.time.replace(/[+-]00:00$/, 'Z');
    if (timestamps && begins) this.#put(Buffer.from(`${time} `, 'latin1'), into);
    this.#put(line.text, into);
    if (!line.partial) this.#put(Buffer.from('\n'), into);
  }

  #put(bytes: Buffer, into: Buffer[]): void {
    if (this.full) return;
    const piece = bytes.length > this.#left ? bytes.subarray(0, this.#left) : bytes;
    this.#left -= piece.length;
    into.push(piece);
  }
}

/** One open file, read to its end as often as asked. */
class LogFile implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly inode: number;
  #position: number;
  #rest: Buffer = Buffer.alloc(0);
  #skipping = false;

  constructor(file: FileHandle, inode: number, position: number) {
    this.#file = file;
    this.inode = inode;
    this.#position = position;
  }

  static async open(path: string, tailLines: number | undefined): Promise<LogFile> {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const { size, ino } = await file.stat();
      return new LogFile(file, ino, tailLines === undefined ? 0 : await tailOffset(file, tailLines, size));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Hands on all whole lines that are there. */
  async drain(formatter: Formatter, sink: LogSink): Promise<void> {
    while (!formatter.full) {
      const { buffer, bytesRead } = await this.#file.read(
        Buffer.allocUnsafe(BLOCK),
        0,
        BLOCK,
        this.#position,
      );
      if (bytesRead === 0) return;
      this.#position += bytesRead;
      const output: Buffer[] = [];
      this.#split(buffer.subarray(0, bytesRead), formatter, output);
      if (output.length > 0) await sink(output.length === 1 ? output[0]! : Buffer.concat(output));
    }
  }

  #split(chunk: Buffer, formatter: Formatter, output: Buffer[]): void {
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (let end = data.indexOf(NEWLINE); end >= 0; end = data.indexOf(NEWLINE)) {
      if (this.#skipping) this.#skipping = false;
      else formatter.add(data.subarray(0, end), output);
      data = data.subarray(end + 1);
    }
    if (data.length > LONGEST_LINE) {
      this.#skipping = true;
      data = Buffer.alloc(0);
    }
    this.#rest = data;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/**
 * Writes the log into `sink`. Resolves when all that was asked for is written; with follow when the container has ended
 * or `signal` aborts. Rejects when there is no such file or it cannot be read.
 */
export async function readLog(
  source: LogSource,
  options: LogOptions,
  sink: LogSink,
  signal: AbortSignal,
): Promise<void> {
  const formatter = new Formatter(options);
  if (!options.follow) {
    await using file = await LogFile.open(source.path, options.tailLines);
    await file.drain(formatter, sink);
    return;
  }
  await followLog(source, options, formatter, sink, signal);
}

async function followLog(
  source: LogSource,
  options: LogOptions,
  formatter: Formatter,
  sink: LogSink,
  signal: AbortSignal,
): Promise<void> {
  let changed = Promise.withResolvers<void>();
  const wake = (): void => changed.resolve();
  const { ended } = source;
  const name = basename(source.path);
  // Before the first read: whatever is written from now on wakes us.
  const watcher = watch(dirname(source.path), { persistent: false }, (_event, file) => {
    if (file === null || file === name) wake();
  });
  watcher.on('error', wake);
  signal.addEventListener('abort', wake, { once: true });
  ended?.addEventListener('abort', wake, { once: true });
  let file = await LogFile.open(source.path, options.tailLines).catch((error: unknown) => {
    watcher.close();
    throw error;
  });
  try {
    for (;;) {
      changed = Promise.withResolvers<void>();
      // Asked before reading: what was written before the end is read below.
      const over = ended?.aborted !== false;
      await file.drain(formatter, sink);
      if (formatter.full || signal.aborted) return;
      const present = await stat(source.path).catch((error: unknown) => {
        if (isErrno(error, 'ENOENT')) return undefined;
        throw error;
      });
      if (present && present.ino !== file.inode) {
        // Rotated: the old file may have got its last lines between our read and the renaming.
        await file.drain(formatter, sink);
        await file[Symbol.asyncDispose]();
        file = await LogFile.open(source.path, undefined);
        continue;
      }
      if (over) return;
      await changed.promise;
    }
  } finally {
    watcher.close();
    signal.removeEventListener('abort', wake);
    ended?.removeEventListener('abort', wake);
    await file[Symbol.asyncDispose]();
  }
}
