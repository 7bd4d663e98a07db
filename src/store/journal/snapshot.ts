// Writes a snapshot: everything that the journal's segments so far have said, in one file, so that they can go. The
// caller captures the moment; the writing goes on while the store does its work, in steps of one frame.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Engine } from '../mvcc/engine.ts';
import type { LeaseRecord } from '../mvcc/leases.ts';
import type { StoreEvent } from '../store.ts';
import type { StoreFile, StoreFiles } from './files.ts';
import { encodeFileHeader, FILE_HEADER_SIZE, fileName } from './format.ts';
import { FrameBuilder } from './record.ts';
import type { StoredFile } from './recovery.ts';

/** The state of an engine at one moment. States of keys are read later: they are kept until release() is called. */
export interface Capture {
  /** The first segment that the snapshot does not cover. */
  readonly sequence: number;
  readonly revision: number;
  readonly compactRevision: number;
  readonly leases: readonly LeaseRecord[];
  /** Everything between compactRevision and revision. */
  readonly changes: readonly StoreEvent[];
  release(): void;
}

export function capture(engine: Engine, sequence: number): Capture {
  const { revision, compactRevision } = engine;
  return {
    sequence,
    revision,
    compactRevision,
    leases: engine.leases.records(),
    changes: engine.keyspace.changesFrom(compactRevision + 1),
    release: engine.holdPurge(),
  };
}

/** A frame is closed when it is longer than this. */
const FRAME_TARGET = 256 * 1024;
/** States looked up in one step. */
const STATES_AT_ONCE = 64;
/** Bytes after which the file is synced, so that the journal's own writes never queue behind all of it. */
const SYNC_EVERY = 8 * 1024 * 1024;

/** Resolves with the finished snapshot, or rejects and leaves nothing behind that counts. */
export async function writeSnapshot(
  engine: Engine,
  from: Capture,
  options: { readonly directory: string; readonly files: StoreFiles; readonly signal: AbortSignal },
): Promise<StoredFile> {
  const { directory, files } = options;
  const name = fileName('snapshot', from.sequence);
  const path = join(directory, name);
  const temporary = `${path}.tmp`;
  const file = await files.open(temporary, 'create');
  let length: number;
  try {
    length = await new SnapshotWriter(file, options.signal).write(engine, from);
    await file.sync();
  } catch (error) {
    await file.close();
    // When even that fails, the next start removes it.
    await files.remove(temporary).catch(() => {});
    throw error;
  }
  await file.close();
  await files.rename(temporary, path);
  await files.syncDirectory(directory);
  return { name, sequence: from.sequence, length };
}

class SnapshotWriter {
  readonly #file: StoreFile;
  readonly #signal: AbortSignal;
  readonly #salt = randomBytes(8);
  readonly #builder = new FrameBuilder();
  #offset = FILE_HEADER_SIZE;
  #synced = 0;

  constructor(file: StoreFile, signal: AbortSignal) {
    this.#file = file;
    this.#signal = signal;
  }

  async write(engine: Engine, from: Capture): Promise<number> {
    const { sequence, revision, compactRevision } = from;
    const header = {
      kind: 'snapshot',
      sequence,
      salt: this.#salt,
      revision,
      detail: compactRevision,
    } as const;
    await this.#file.write([encodeFileHeader(header)], 0);
    for (const lease of from.leases) this.#builder.lease({ type: 'grant', ...lease });
    this.#builder.endRecord();
    const states = compactRevision === 0 ? 0 : await this.#writeStates(engine, compactRevision);
    await this.#writeFrame(compactRevision);
    await this.#writeChanges(from);
    this.#builder.complete(states, from.changes.length);
    this.#builder.endRecord();
    await this.#writeFrame(revision);
    return this.#offset;
  }

  async #writeStates(engine: Engine, compactRevision: number): Promise<number> {
    let count = 0;
    for (let after = ''; ; ) {
      const states = engine.keyspace.statesAt(compactRevision, after, STATES_AT_ONCE);
      for (const kv of states) this.#builder.state(kv);
      count += states.length;
      if (states.length < STATES_AT_ONCE) break;
      after = states.at(-1)!.key;
      if (this.#builder.payloadLength > FRAME_TARGET) {
        this.#builder.endRecord();
        await this.#writeFrame(compactRevision);
      }
    }
    this.#builder.endRecord();
    return count;
  }

  async #writeChanges({ changes, compactRevision }: Capture): Promise<void> {
    let revision = compactRevision;
    for (const [i, { type, kv }] of changes.entries()) {
      if (type === 'put') this.#builder.put(kv.key, kv.value, kv.lease);
      else this.#builder.delete(kv.key);
      if (changes[i + 1]?.kv.modRevision === kv.modRevision) continue;
      this.#builder.endRecord();
      if (this.#builder.payloadLength > FRAME_TARGET) {
        await this.#writeFrame(revision);
        revision = kv.modRevision;
      }
    }
    if (this.#builder.payloadLength > 0) await this.#writeFrame(revision);
  }

  async #writeFrame(revision: number): Promise<void> {
    this.#signal.throwIfAborted();
    const frame = this.#builder.finish({ salt: this.#salt, offset: this.#offset, revision });
    await this.#file.write([frame], this.#offset);
    this.#builder.reset();
    this.#offset += frame.length;
    if (this.#offset - this.#synced < SYNC_EVERY) return;
    await this.#file.sync();
    this.#synced = this.#offset;
  }
}
