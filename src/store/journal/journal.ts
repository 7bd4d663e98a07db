// The journal: makes mutations durable by group commit, and keeps the directory small with snapshots.
//
// Everything that is appended while one write is on its way to the disk goes out together in the next one: one frame,
// one write, one wait. Only then do readers, watchers and the callers learn of it.
//
// When a write fails, nothing is known about what the disk holds behind the last good frame. After a failed fsync
// Linux even takes the pages for clean, so that a second fsync would succeed without having written anything. So the
// segment is given up: it is cut back to its last good frame, everything that was waiting fails, and the next write
// begins a new segment whose header says how much of the old one counts. Nothing is acknowledged on the strength of
// a retry. Writes go on by themselves as soon as a new segment can be created, which every write tries.

import { join } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import type { Clock, Logger } from '../../component/index.ts';
import type { Engine, Ledger, LedgerEntry } from '../mvcc/engine.ts';
import { StoreUnavailableError } from '../store.ts';
import type { StoreFiles } from './files.ts';
import { parseFileName } from './format.ts';
import { LoneWriter } from './lone-writer.ts';
import { FrameBuilder } from './record.ts';
import type { Recovered, StoredFile } from './recovery.ts';
import { LARGE_FRAME, Segment } from './segment.ts';
import { type Capture, capture, writeSnapshot } from './snapshot.ts';

export interface JournalOptions {
  readonly directory: string;
  readonly files: StoreFiles;
  readonly engine: Engine;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A segment that is longer than this is followed by a new one. */
  readonly segmentBytes: number;
  /** A snapshot is taken when the files hold more than twice what it would, and this much on top. */
  readonly snapshotSlackBytes: number;
}

/** What goes out in one write. */
interface Batch {
  readonly entries: LedgerEntry[];
  readonly builder: FrameBuilder;
}

/** A batch is closed when it is longer than this; what comes later goes into the next one. */
const BATCH_MAX = 16 * 1024 * 1024;
/** Memory that a builder may keep between batches. */
const BUILDER_KEEP = 4 * 1024 * 1024;
/** More segments than this (of many restarts) are reason enough for a snapshot. */
const SEGMENTS_MAX = 64;

export class Journal implements Ledger {
  readonly #options: JournalOptions;
  readonly #engine: Engine;
  readonly #logger: Logger;
  /** Closed batches, in order, then the one that takes new entries. */
  readonly #queue: Batch[] = [];
  #filling: Batch = { entries: [], builder: new FrameBuilder() };
  readonly #spareBuilders: FrameBuilder[] = [];
  #running: Promise<void> | undefined;

  /** Takes the next frame; absent when the next one must begin a new segment. */
  #segment: Segment | undefined;
  /** The older segments that no snapshot covers. */
  #sealed: StoredFile[];
  #snapshot: StoredFile | undefined;
  #nextSequence: number;
  #writesFail = false;
  readonly #loneWriter = new LoneWriter();

  #snapshotting: Promise<void> | undefined;
  readonly #stopSnapshot = new AbortController();
  /** After a failed attempt: how large the files must have become for the next one. */
  #nextSnapshotAt = 0;

  constructor(options: JournalOptions, recovered: Recovered) {
    this.#options = options;
    this.#engine = options.engine;
    this.#logger = options.logger;
    this.#snapshot = recovered.snapshot;
    this.#sealed = [...recovered.segments];
    const last = recovered.segments.at(-1);
    this.#nextSequence = last === undefined ? (recovered.snapshot?.sequence ?? 1) : last.sequence + 1;
  }

  append(entry: LedgerEntry): void {
    const { entries, builder } = this.#filling;
    entries.push(entry);
    const { mutation } = entry;
    if (mutation !== undefined) {
      if (mutation.changes !== undefined)
        for (const { type, kv } of mutation.changes.events) {
          if (type === 'put') builder.put(kv.key, kv.value, kv.lease);
          else builder.delete(kv.key);
        }
      if (mutation.lease !== undefined) builder.lease(mutation.lease);
      if (mutation.compactRevision !== undefined) builder.compact(mutation.compactRevision);
      builder.endRecord();
    }
    if (builder.payloadLength > BATCH_MAX) this.#closeBatch();
    this.#running ??= this.#run();
  }

  purged(): void {
    this.#running ??= this.#run();
  }

  async size(): Promise<number> {
    const files = await this.#options.files.list(this.#options.directory);
    return files.reduce((sum, { size }) => sum + size, 0);
  }

  async close(): Promise<void> {
    await this.#running;
    this.#stopSnapshot.abort();
    await this.#snapshotting;
    const segment = this.#segment;
    this.#segment = undefined;
    if (segment === undefined) return;
    try {
      await segment.cut();
    } catch (error) {
      this.#logger.debug(
        { component: 'store', error },
        'the space written in advance could not be given back',
      );
    }
    await segment.close();
  }

  // ---- writing ----

  /** Writes batch after batch until nothing waits. */
  async #run(): Promise<void> {
    for (;;) {
      // Whoever was just answered, or is about to call in this turn of the event loop, goes along.
      await immediate();
      const batch = this.#takeBatch();
      if (batch === undefined) {
        if (this.#snapshotIsDue()) await this.#beginSnapshot();
        if (this.#queue.length === 0 && this.#filling.entries.length === 0) break;
        continue;
      }
      try {
        if (batch.builder.payloadLength > 0) await this.#write(batch);
      } catch (error) {
        await this.#giveUp(batch, error);
        continue;
      }
      this.#engine.commit(batch.entries);
      batch.builder.reset(BUILDER_KEEP);
      this.#spareBuilders.push(batch.builder);
      if (this.#snapshotIsDue()) await this.#beginSnapshot();
    }
    this.#running = undefined;
  }

  #closeBatch(): void {
    this.#queue.push(this.#filling);
    this.#filling = { entries: [], builder: this.#spareBuilders.pop() ?? new FrameBuilder() };
  }

  #takeBatch(): Batch | undefined {
    if (this.#queue.length === 0 && this.#filling.entries.length > 0) this.#closeBatch();
    return this.#queue.shift();
  }

  async #write(batch: Batch): Promise<void> {
    if (this.#segment !== undefined && this.#segment.length > this.#options.segmentBytes)
      await this.#sealSegment();
    if (this.#segment === undefined) {
      this.#segment = await Segment.create(this.#options, {
        sequence: this.#nextSequence,
        revision: this.#engine.revision,
        previousLength: this.#sealed.at(-1)?.length ?? 0,
      });
      this.#nextSequence++;
    }
    await this.#writeFrame(this.#segment, batch);
    if (!this.#writesFail) return;
    this.#writesFail = false;
    this.#logger.info(
      { component: 'store', directory: this.#options.directory },
      'the journal can be written again',
    );
  }

  async #writeFrame(segment: Segment, { entries, builder }: Batch): Promise<void> {
    const { revision } = this.#engine;
    const { clock } = this.#options;
    const started = clock.monotonic();
    // A snapshot on its way to the disk makes other writes wait for it.
    const blocking =
      this.#loneWriter.mayBlock(entries.length, started) &&
      builder.payloadLength < LARGE_FRAME &&
      this.#snapshotting === undefined;
    if (!blocking) return segment.write(builder, revision);
    segment.writeNow(builder, revision);
    this.#loneWriter.blocked(clock.monotonic() - started);
  }

  async #sealSegment(): Promise<void> {
    const segment = this.#segment;
    if (segment === undefined) return;
    this.#segment = undefined;
    this.#sealed.push({ name: segment.name, sequence: segment.sequence, length: segment.length });
    try {
      await segment.close();
    } catch (error) {
      // All that counts in it is on disk already.
      this.#logger.warn(
        { component: 'store', file: segment.name, error },
        'a full segment could not be closed',
      );
    }
  }

  /** After a failed write: takes back what can be taken back and fails everything that waits. */
  async #giveUp(batch: Batch, cause: unknown): Promise<void> {
    let uncertain = false;
    try {
      await this.#segment?.cut();
    } catch {
      uncertain = true;
    }
    await this.#sealSegment();
    const { directory } = this.#options;
    if (!this.#writesFail) {
      this.#writesFail = true;
      this.#logger.error(
        { component: 'store', directory, error: cause },
        'the journal cannot be written; reads go on, writes fail until it can',
      );
    }
    const failed = [batch, ...this.#queue.splice(0), this.#filling].flatMap(({ entries }) => entries);
    this.#filling = { entries: [], builder: new FrameBuilder() };
    this.#engine.fail(failed, unavailable(directory, cause, uncertain));
  }

  // ---- snapshots ----

  #fileBytes(): number {
    let bytes = (this.#snapshot?.length ?? 0) + (this.#segment?.length ?? 0);
    for (const { length } of this.#sealed) bytes += length;
    return bytes;
  }

  #snapshotIsDue(): boolean {
    if (this.#snapshotting !== undefined) return false;
    const bytes = this.#fileBytes();
    if (bytes < this.#nextSnapshotAt) return false;
    const { snapshotSlackBytes } = this.#options;
    const wanted = 2 * this.#engine.retainedBytes + snapshotSlackBytes;
    return bytes > wanted || this.#sealed.length > SEGMENTS_MAX;
  }

  /** Must be called between two writes: the snapshot holds exactly what the segments so far do. */
  async #beginSnapshot(): Promise<void> {
    await this.#sealSegment();
    const captured = capture(this.#engine, this.#nextSequence);
    this.#snapshotting = this.#takeSnapshot(captured).finally(() => {
      this.#snapshotting = undefined;
      captured.release();
    });
  }

  async #takeSnapshot(captured: Capture): Promise<void> {
    const { sequence } = captured;
    try {
      const options = { ...this.#options, signal: this.#stopSnapshot.signal };
      const written = await writeSnapshot(this.#engine, captured, options);
      this.#snapshot = written;
      this.#sealed = this.#sealed.filter((segment) => segment.sequence >= sequence);
      this.#nextSnapshotAt = 0;
    } catch (error) {
      if (this.#stopSnapshot.signal.aborted) return;
      this.#nextSnapshotAt = this.#fileBytes() + this.#options.snapshotSlackBytes;
      this.#logger.warn(
        { component: 'store', directory: this.#options.directory, error },
        'a snapshot could not be written; the journal grows on until the next try',
      );
      return;
    }
    await this.#removeObsolete(sequence);
  }

  /** Removes everything that the snapshot with this sequence number replaces. */
  async #removeObsolete(sequence: number): Promise<void> {
    const { directory, files } = this.#options;
    try {
      for (const { name } of await files.list(directory)) {
        const parsed = parseFileName(name);
        if (parsed !== undefined && parsed.sequence < sequence) await files.remove(join(directory, name));
      }
    } catch (error) {
      this.#logger.warn(
        { component: 'store', directory, error },
        'files that a snapshot replaces could not be removed; the next snapshot or start tries again',
      );
    }
  }
}

function unavailable(directory: string, cause: unknown, uncertain: boolean): StoreUnavailableError {
  const code = (cause as NodeJS.ErrnoException).code;
  const reason =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? 'the disk is full; free some space and writes go on by themselves'
      : code === 'EROFS'
        ? 'its file system is read-only'
        : cause instanceof Error
          ? cause.message
          : String(cause);
  return new StoreUnavailableError(`the store in ${directory} cannot be written: ${reason}`, {
    cause,
    uncertain,
  });
}
