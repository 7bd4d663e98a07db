// Unpacks one layer: decompresses the blob, verifies its diff id, judges every entry, and has the native program
// write what is fit to be written. The directory becomes what overlayfs takes as a lower directory.
//
// A layer comes from a stranger. Its paths are brought into the layer lexically here and by the kernel there, device
// nodes are left out, and its size is bounded in bytes, entries and in proportion to what was downloaded.

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { posix } from 'node:path';
import { Readable, type Writable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { RuntimeError } from '../../cri.ts';
import { defaultTarLimits, type TarEntry, TarError, type TarLimits, TarReader, type TarSink } from './tar.ts';

export interface UnpackOptions {
  /** The native program bulkhead-layer. */
  readonly program: string;
  /** The compressed or plain tar archive: a file, or its bytes as they come. */
  readonly archive: string | AsyncIterable<Uint8Array>;
  /** An existing, empty directory. */
  readonly directory: string;
  /** What the uncompressed archive must hash to; undefined: not checked. */
  readonly diffId?: string;
  readonly limits?: TarLimits;
  readonly signal?: AbortSignal;
}

export interface Unpacked {
  readonly diffId: string;
  /** Bytes of all files together. */
  readonly size: number;
  readonly entries: number;
  /** Entries that were left out, because a layer may not bring them: device nodes. */
  readonly leftOut: readonly string[];
}

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** Other names of aufs's own, which mean nothing to anybody else. */
const AUFS = '.wh..wh.';

/** Below this size no compression ratio is suspicious; above it this one is. */
const BOMB_BYTES = 1024 ** 3;
const BOMB_RATIO = 200;
/** Frames to the native program wait in memory up to about this size. */
const BUFFERED = 4 * 1024 * 1024;

/** Unpacks, or rejects with RuntimeError: InvalidArgument for an archive that must not or cannot be unpacked. */
export async function unpackLayer(options: UnpackOptions): Promise<Unpacked> {
  const compressed =
    typeof options.archive === 'string' ? (await stat(options.archive)).size : Number.POSITIVE_INFINITY;
  const child = spawn(options.program, [options.directory], { stdio: ['pipe', 'pipe', 'inherit'] });
  const writer = new LayerWriter(child, options.signal);
  const sink = new LayerSink(writer);
  const limits = options.limits ?? defaultTarLimits;
  const reader = new TarReader(sink, limits);
  const algorithm = options.diffId?.split(':')[0] ?? 'sha256';
  const hash = createHash(algorithm);
  let size = 0;
  try {
    for await (const chunk of decompress(options.archive)) {
      options.signal?.throwIfAborted();
      hash.update(chunk);
      size += chunk.length;
      if (size > BOMB_BYTES && size > compressed * BOMB_RATIO) {
        throw new TarError(`the layer grows to more than ${BOMB_RATIO} times its compressed size`);
      }
      reader.push(chunk);
      await writer.flush();
    }
    reader.end();
    const diffId = `${algorithm}:${hash.digest('hex')}`;
    if (options.diffId !== undefined && diffId !== options.diffId) {
      throw new TarError(`its content is ${diffId}, not ${options.diffId} as the image says`);
    }
    sink.finish();
    await writer.finish();
    return { diffId, size: sink.bytes, entries: sink.entries, leftOut: sink.leftOut };
  } catch (error) {
    await writer.abandon();
    if (options.signal?.aborted) throw options.signal.reason;
    throw layerError(error);
  }
}

function layerError(error: unknown): Error {
  if (error instanceof RuntimeError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (error instanceof TarError)
    return new RuntimeError('InvalidArgument', `the layer is refused: ${message}`);
  if (
    code === 'Z_DATA_ERROR' ||
    code === 'Z_BUF_ERROR' ||
    code?.startsWith('ZSTD_') ||
    code?.startsWith('Z_')
  ) {
    return new RuntimeError(
      'InvalidArgument',
      `the layer is refused: its compression is damaged: ${message}`,
    );
  }
  return new RuntimeError('Internal', `cannot unpack the layer: ${message}`, { cause: error });
}

/** The archive's bytes; gzip, zstd and plain are told apart by their first bytes, whatever the media type claims. */
async function* decompress(archive: string | AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const source =
    typeof archive === 'string' ? createReadStream(archive, { highWaterMark: 256 * 1024 }) : archive;
  const iterator = source[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  const first = await iterator.next();
  if (first.done) throw new TarError('the archive is empty');
  async function* all(): AsyncIterable<Uint8Array> {
    yield first.value;
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
  }
  const magic = first.value;
  const gzip = magic[0] === 0x1f && magic[1] === 0x8b;
  const zstd =
    magic.length >= 4 && magic[0] === 0x28 && magic[1] === 0xb5 && magic[2] === 0x2f && magic[3] === 0xfd;
  if (!gzip && !zstd) {
    yield* all();
    return;
  }
  const options = { chunkSize: 256 * 1024 };
  const decoder = gzip ? createGunzip(options) : createZstdDecompress(options);
  const input = Readable.from(all(), { objectMode: false });
  input.on('error', (error) => decoder.destroy(error));
  input.pipe(decoder);
  try {
    yield* decoder as AsyncIterable<Uint8Array>;
  } finally {
    input.destroy();
    await iterator.return?.();
  }
}

/** Sends frames to the native program and reads its verdict. */
class LayerWriter {
  readonly #child: ChildProcess;
  readonly #input: Writable;
  readonly #verdict: Promise<string>;
  #failed: Error | undefined;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;

  constructor(child: ChildProcess, signal: AbortSignal | undefined) {
    this.#child = child;
    this.#input = child.stdin!;
    // A broken pipe only says that the program has ended; its verdict says why.
    this.#input.on('error', () => {});
    let output = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    this.#verdict = new Promise((resolve, reject) => {
      child.on('error', (error) => {
        reject(
          new RuntimeError('Internal', `cannot start ${child.spawnfile}: ${error.message}`, { cause: error }),
        );
      });
      child.on('close', () => resolve(output));
    });
    this.#verdict.then(
      (text) => {
        if (text !== 'ok\n') this.#failed = verdictError(text);
      },
      (error: Error) => {
        this.#failed = error;
      },
    );
    signal?.addEventListener('abort', () => child.kill('SIGKILL'), { once: true });
  }

  frame(operation: string, fields: readonly (string | number | Uint8Array)[]): void {
    const parts = fields.map((field) => (field instanceof Uint8Array ? field : Buffer.from(String(field))));
    const length = parts.reduce((sum, part) => sum + 4 + part.length, 0);
    const bytes = Buffer.allocUnsafe(5 + length);
    bytes.write(operation, 0, 'latin1');
    bytes.writeUInt32LE(length, 1);
    let at = 5;
    for (const part of parts) {
      at = bytes.writeUInt32LE(part.length, at);
      bytes.set(part, at);
      at += part.length;
    }
    this.#push(bytes);
  }

  data(chunk: Uint8Array): void {
    const head = Buffer.allocUnsafe(5);
    head.write('d', 0, 'latin1');
    head.writeUInt32LE(chunk.length, 1);
    this.#push(head);
    this.#push(chunk);
  }

  #push(bytes: Uint8Array): void {
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
  }

  /** Hands over what is pending and waits until the program has taken most of it. */
  async flush(): Promise<void> {
    if (this.#failed) throw this.#failed;
    if (this.#pendingBytes === 0) return;
    this.#input.write(Buffer.concat(this.#pending, this.#pendingBytes));
    this.#pending = [];
    this.#pendingBytes = 0;
    if (this.#input.writableLength <= BUFFERED) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#input.off('drain', done);
        this.#child.off('close', done);
        resolve();
      };
      this.#input.on('drain', done);
      this.#child.on('close', done);
    });
    if (this.#failed) throw this.#failed;
  }

  async finish(): Promise<void> {
    this.frame('Z', []);
    await this.flush();
    this.#input.end();
    const text = await this.#verdict;
    if (text !== 'ok\n') throw verdictError(text);
  }

  /** Ends the program, if it has not ended by itself. */
  async abandon(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#verdict.catch(() => {});
  }
}

function verdictError(text: string): RuntimeError {
  const match = /^(\d+) (.*)$/s.exec(text.trim());
  const why = match?.[2] ?? 'the program that writes layers ended without a word';
  if (match?.[1] === '28' || match?.[1] === '122') {
    return new RuntimeError(
      'Unavailable',
      `no space left for images: free some on the disk that holds them (${why})`,
    );
  }
  return new RuntimeError('InvalidArgument', `the layer cannot be unpacked: ${why}`);
}

/** Where in the layer an archive's path leads: no leading slash, no dot components; '' is the root itself. */
export function pathInLayer(path: string): string {
  const clean = posix.normalize(path.replace(/^\/+/, '') || '.').replace(/\/+$/, '');
  if (clean === '..' || clean.startsWith('../'))
    throw new TarError(`an entry leads out of the layer: ${path.slice(0, 200)}`);
  return clean === '.' ? '' : clean;
}

class LayerSink implements TarSink {
  bytes = 0;
  entries = 0;
  readonly leftOut: string[] = [];
  readonly #writer: LayerWriter;
  /** The file whose content is coming. */
  #file: { readonly path: string; readonly entry: TarEntry } | undefined;
  /** Opaque marks wait for the end: only then it is known that their directory is there. */
  readonly #opaque = new Set<string>();

  constructor(writer: LayerWriter) {
    this.#writer = writer;
  }

  entry(entry: TarEntry): void {
    this.entries++;
    const path = pathInLayer(entry.path);
    const name = posix.basename(path);
    if (name.startsWith(WHITEOUT)) {
      this.#deletion(path, name);
      return;
    }
    const seconds = Math.floor(entry.mtime);
    const nanos = Math.round((entry.mtime - seconds) * 1e9) % 1e9;
    const attributes = [entry.mode, entry.uid, entry.gid, seconds, nanos];
    if (path === '' && entry.type !== 'directory')
      throw new TarError('an entry replaces the root of the layer');
    switch (entry.type) {
      case 'directory':
        this.#writer.frame('D', [path, ...attributes]);
        break;
      case 'file':
        this.#writer.frame('F', [path, ...attributes]);
        this.#file = { path, entry };
        this.bytes += entry.size;
        return; // the rest of its attributes follow its content
      case 'symlink':
        if (entry.linkPath === '') throw new TarError(`the symbolic link ${path} leads nowhere`);
        this.#writer.frame('S', [path, entry.linkPath, ...attributes]);
        break;
      case 'hardlink':
        this.#writer.frame('L', [path, pathInLayer(entry.linkPath)]);
        return;
      case 'fifo':
        this.#writer.frame('P', [path, ...attributes]);
        break;
      case 'character':
      case 'block':
        this.leftOut.push(path);
        return;
    }
    this.#attributes(path, entry);
  }

  data(chunk: Uint8Array): void {
    if (this.#file && chunk.length > 0) this.#writer.data(chunk);
  }

  entryEnd(): void {
    const file = this.#file;
    if (!file) return;
    this.#file = undefined;
    this.#writer.frame('e', []);
    // After the owner was set: the kernel takes capabilities away from a file that changes hands.
    this.#attributes(file.path, file.entry);
  }

  finish(): void {
    for (const path of this.#opaque) this.#writer.frame('O', [path]);
  }

  #deletion(path: string, name: string): void {
    const directory = posix.dirname(path) === '.' ? '' : posix.dirname(path);
    if (name === OPAQUE) this.#opaque.add(directory);
    else if (!name.startsWith(AUFS)) {
      const hidden = name.slice(WHITEOUT.length);
      if (hidden === '' || hidden === '.' || hidden === '..')
        throw new TarError(`a whiteout without a name: ${path}`);
      this.#writer.frame('W', [posix.join(directory, hidden)]);
    }
  }

  /** Only what the kernel keeps for programs and users; `trusted.*` would speak to overlayfs itself. */
  #attributes(path: string, entry: TarEntry): void {
    for (const [key, value] of entry.xattrs) {
      if (key === 'security.capability' || key.startsWith('user.'))
        this.#writer.frame('X', [path, key, value]);
    }
  }
}
