// Blobs by their digest: <directory>/blobs/<algorithm>/<hex>, each complete and verified from the moment it has its
// name. What is still coming in lies in <directory>/ingest and is kept when a transfer breaks off, so that the next
// attempt goes on where it stopped; the digest over the whole decides in the end.

import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RuntimeError } from '../../cri.ts';
import { isDigest } from './reference.ts';

export interface Incoming {
  readonly stream: AsyncIterable<Uint8Array> & { destroy(error?: Error): unknown };
  /** Where in the blob the stream begins. */
  readonly offset: number;
}

export interface IngestOptions {
  /** What the descriptor promises; undefined when unknown. */
  readonly size?: number;
  /** Nothing larger is accepted. */
  readonly limit: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (bytes: number) => void;
}

/** Breaks and stalls within one ingest that are gone on from before the error is given to the caller. */
const MAX_RESUMES = 5;

function split(digest: string): [algorithm: string, hex: string] {
  if (!isDigest(digest))
    throw new RuntimeError('InvalidArgument', `invalid digest "${digest.slice(0, 200)}"`);
  const colon = digest.indexOf(':');
  return [digest.slice(0, colon), digest.slice(colon + 1)];
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export class ContentStore {
  readonly #directory: string;
  readonly #underWay = new Map<string, Promise<number>>();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(directory: string): Promise<ContentStore> {
    for (const part of ['blobs/sha256', 'blobs/sha512', 'ingest']) {
      await mkdir(join(directory, part), { recursive: true, mode: 0o700 });
    }
    return new ContentStore(directory);
  }

  path(digest: string): string {
    return join(this.#directory, 'blobs', ...split(digest));
  }

  #partial(digest: string): string {
    return join(this.#directory, 'ingest', split(digest).join('-'));
  }

  /** The blob's size, or undefined when it is not (wholly) here. */
  async size(digest: string): Promise<number | undefined> {
    try {
      return (await stat(this.path(digest))).size;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** A whole small blob; rejects with NotFound, or InvalidArgument when it is larger than `limit`. */
  async read(digest: string, limit: number): Promise<Uint8Array> {
    const size = await this.size(digest);
    if (size === undefined) throw new RuntimeError('NotFound', `content ${digest} is not here`);
    if (size > limit)
      throw new RuntimeError('InvalidArgument', `content ${digest} is larger than ${limit} bytes`);
    return readFile(this.path(digest));
  }

  async *digests(): AsyncIterable<string> {
    for (const algorithm of ['sha256', 'sha512']) {
      for (const hex of await readdir(join(this.#directory, 'blobs', algorithm))) yield `${algorithm}:${hex}`;
    }
  }

  async remove(digest: string): Promise<void> {
    await rm(this.path(digest), { force: true });
  }

  /** Forgets transfers that broke off and were not gone on with for `ageMs`. */
  async removePartials(ageMs: number): Promise<void> {
    for (const name of await readdir(join(this.#directory, 'ingest'))) {
      const path = join(this.#directory, 'ingest', name);
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
      if (mtimeMs < Date.now() - ageMs) await rm(path, { force: true });
    }
  }

  /** Keeps bytes that are already in memory. */
  async write(digest: string, bytes: Uint8Array): Promise<void> {
    const size = bytes.length;
    await this.ingest(digest, { size, limit: size }, async () => ({ stream: once(bytes), offset: 0 }));
  }

  /**
   * Makes sure that the blob is here: gets it through `fetch(offset)` unless it is, verifies size and digest, and
   * gives it its name when it is durable. Resolves with its size. Two ingests of one digest share one transfer.
   */
  ingest(
    digest: string,
    options: IngestOptions,
    fetch: (offset: number) => Promise<Incoming>,
  ): Promise<number> {
    const running = this.#underWay.get(digest);
    if (running) return running;
    const work = this.#ingest(digest, options, fetch).finally(() => this.#underWay.delete(digest));
    this.#underWay.set(digest, work);
    return work;
  }

  async #ingest(
    digest: string,
    options: IngestOptions,
    fetch: (offset: number) => Promise<Incoming>,
  ): Promise<number> {
    const present = await this.size(digest);
    if (present !== undefined) return present;
    const { size, limit } = options;
    if (size !== undefined && size > limit) {
      throw new RuntimeError(
        'InvalidArgument',
        `${digest} has ${size} bytes, more than the ${limit} that are allowed`,
      );
    }
    const partial = this.#partial(digest);
    for (let resumes = 0; ; resumes++) {
      const file = await open(partial, 'a+', 0o600).catch(diskError);
      try {
        const hash = createHash(split(digest)[0]);
        let have = await hashFile(partial, hash);
        if (size === undefined || have < size) {
          const outcome = await receive(file, hash, have, options, fetch, digest);
          if (outcome === 'restart') {
            await file.truncate(0);
            continue;
          }
          have = outcome.have;
          if (outcome.broken !== undefined) {
            if (options.signal?.aborted) throw options.signal.reason;
            if (resumes >= MAX_RESUMES || !outcome.advanced) throw outcome.broken;
            continue;
          }
        }
        const found = `${split(digest)[0]}:${hash.digest('hex')}`;
        if ((size !== undefined && have !== size) || found !== digest) {
          await rm(partial, { force: true });
          throw new RuntimeError(
            'Internal',
            `what came for ${digest} is not it: ${have} bytes with digest ${found}`,
          );
        }
        await file.datasync().catch(diskError);
        await rename(partial, this.path(digest));
        return have;
      } catch (error) {
        // A transfer that filled the disk is not gone on with: everybody else needs the space.
        if (error instanceof RuntimeError && isDiskFull(error.cause)) await rm(partial, { force: true });
        throw error;
      } finally {
        await file.close();
      }
    }
  }
}

type Outcome = 'restart' | { readonly have: number; readonly advanced: boolean; readonly broken?: Error };

async function receive(
  file: FileHandle,
  hash: Hash,
  start: number,
  options: IngestOptions,
  fetch: (offset: number) => Promise<Incoming>,
  digest: string,
): Promise<Outcome> {
  const incoming = await fetch(start);
  if (incoming.offset !== start) {
    // The server cannot do ranges: what is there is of no use.
    if (start === 0)
      throw new RuntimeError('Unavailable', `${digest} came from its middle instead of its beginning`);
    incoming.stream.destroy();
    return 'restart';
  }
  return consume(file, hash, start, options, incoming, digest);
}

async function consume(
  file: FileHandle,
  hash: Hash,
  start: number,
  options: IngestOptions,
  incoming: Incoming,
  digest: string,
): Promise<Outcome> {
  const { size, limit, signal, onProgress } = options;
  let have = start;
  try {
    for await (const chunk of incoming.stream) {
      signal?.throwIfAborted();
      have += chunk.length;
      if (have > (size ?? limit)) {
        throw new RuntimeError(
          'Internal',
          `more came for ${digest} than the ${size ?? limit} bytes that it has`,
        );
      }
      hash.update(chunk);
      await file.write(chunk).catch(diskError);
      onProgress?.(have);
    }
  } catch (error) {
    incoming.stream.destroy();
    if (error instanceof RuntimeError) throw error;
    return { have, advanced: have > start, broken: error as Error };
  }
  if (size !== undefined && have < size) {
    const broken = new RuntimeError(
      'Unavailable',
      `the transfer of ${digest} ended after ${have} of ${size} bytes`,
    );
    return { have, advanced: have > start, broken };
  }
  return { have, advanced: true };
}

async function hashFile(path: string, hash: Hash): Promise<number> {
  let size = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    size += chunk.length;
  }
  return size;
}

function isDiskFull(error: unknown): boolean {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

function diskError(error: NodeJS.ErrnoException): never {
  if (isDiskFull(error)) {
    throw new RuntimeError('Unavailable', 'no space left for images: free some on the disk that holds them', {
      cause: error,
    });
  }
  throw new RuntimeError('Unavailable', `cannot write image content: ${error.message}`, { cause: error });
}

function once(bytes: Uint8Array): Incoming['stream'] {
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield bytes;
  }
  return Object.assign(chunks(), { destroy: () => {} });
}
