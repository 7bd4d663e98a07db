// Reads a store's directory into an engine: the newest snapshot, then the journal's segments from there on. Changes
// nothing on disk. Decides which end of the journal is a torn write, to be cut, and which is damage, to refuse.

import { join } from 'node:path';
import type { Logger } from '../../component/index.ts';
import type { Engine } from '../mvcc/engine.ts';
import type { LeaseChange } from '../mvcc/leases.ts';
import type { KeyValue, Operation } from '../store.ts';
import { DamagedStoreError } from './damage.ts';
import type { StoreFile, StoreFiles } from './files.ts';
import { decodeFileHeader, FILE_HEADER_SIZE, type FileHeader, fileName, parseFileName } from './format.ts';
import { type BadFrame, type Frame, FrameReader, judgeTail } from './frame-reader.ts';
import { type RecordVisitor, visitRecords } from './record.ts';
import { ValueArena } from './value-arena.ts';

/** A file of the store that counts. */
export interface StoredFile {
  readonly name: string;
  readonly sequence: number;
  /** Bytes that count; there may be more in the file. */
  readonly length: number;
}

export interface Recovered {
  readonly snapshot: StoredFile | undefined;
  /** In order; their sequences have no gap and begin with the snapshot's, or with 1. */
  readonly segments: readonly StoredFile[];
  /** The last frame of the last segment, which may not yet be on disk for sure. */
  readonly lastFrame: { readonly offset: number; readonly end: number } | undefined;
  /** Files that are of no use any more. */
  readonly obsolete: readonly string[];
}

export interface RecoveryOptions {
  readonly directory: string;
  readonly files: StoreFiles;
  readonly engine: Engine;
  readonly logger: Logger;
}

interface Segment {
  readonly name: string;
  readonly sequence: number;
  readonly size: number;
  readonly header: FileHeader;
}

const RESTORE = 'Restore the directory from a backup.';

export async function recover(options: RecoveryOptions): Promise<Recovered> {
  const { directory, files } = options;
  const listed = await files.list(directory);
  const found = listed.flatMap(({ name, size }) => {
    const parsed = parseFileName(name);
    return parsed === undefined ? [] : [{ name, size, ...parsed }];
  });
  found.sort((a, b) => a.sequence - b.sequence);
  const snapshot = found.findLast(({ kind }) => kind === 'snapshot');
  const first = snapshot?.sequence ?? 1;
  const current = found.filter(({ kind, sequence }) => kind === 'journal' && sequence >= first);
  const segments: Segment[] = [];
  for (const { name, sequence, size } of current) {
    const expected = first + segments.length;
    if (sequence !== expected) throw missing(directory, fileName('journal', expected));
    segments.push({ name, sequence, size, header: await readHeader(options, 'journal', name, sequence) });
  }
  const snapshotFile = snapshot && {
    name: snapshot.name,
    sequence: snapshot.sequence,
    length: snapshot.size,
  };
  if (snapshotFile !== undefined) await readSnapshot(options, snapshotFile);
  const read = await readSegments(options, segments);
  const kept = new Set([snapshot, ...current]);
  const obsolete = [
    ...found.filter((file) => !kept.has(file)).map(({ name }) => name),
    ...listed.map(({ name }) => name).filter((name) => /^(journal|snapshot)-\d+\.\w+\.tmp$/.test(name)),
  ];
  return { snapshot: snapshotFile, ...read, obsolete };
}

async function readSegments(
  options: RecoveryOptions,
  segments: readonly Segment[],
): Promise<Pick<Recovered, 'segments' | 'lastFrame'>> {
  const { directory, engine } = options;
  const replay = new Replay(engine);
  const stored: StoredFile[] = [];
  let lastFrame: Recovered['lastFrame'];
  for (const [i, segment] of segments.entries()) {
    const path = join(directory, segment.name);
    if (segment.header.revision !== engine.revision)
      throw new DamagedStoreError(
        path,
        0,
        `it goes on after revision ${segment.header.revision}, but what stands before it ends with ${engine.revision}`,
        RESTORE,
      );
    const next = segments[i + 1];
    const length = next?.header.detail;
    if (length !== undefined && length > segment.size)
      throw damaged(
        options,
        segments,
        i,
        segment.size,
        `${length - segment.size} bytes are missing at its end`,
      );
    const file = await options.files.open(path, 'read');
    try {
      const limit = length ?? segment.size;
      const reader = new FrameReader(file, { salt: segment.header.salt, start: FILE_HEADER_SIZE, limit });
      let end = FILE_HEADER_SIZE;
      const bad = await eachFrame(reader, (frame) => {
        replayFrame(replay, frame, (what) => damaged(options, segments, i, frame.offset, what));
        end = frame.end;
        if (next === undefined) lastFrame = { offset: frame.offset, end };
      });
      if (bad !== undefined) {
        if (next !== undefined) throw damaged(options, segments, i, bad.offset, bad.bad);
        await checkTail(options, segments, file, bad);
      }
      stored.push({ name: segment.name, sequence: segment.sequence, length: end });
    } finally {
      await file.close();
    }
  }
  return { segments: stored, lastFrame };
}

/** Runs until the first bad frame and returns it, or to the end. */
async function eachFrame(reader: FrameReader, work: (frame: Frame) => void): Promise<BadFrame | undefined> {
  try {
    for (;;) {
      const frame = await reader.next();
      if (frame === undefined) return undefined;
      if ('bad' in frame) return frame;
      work(frame);
    }
  } finally {
    await reader.stop();
  }
}

/** What the newest segment holds from a bad frame on: nothing, a torn write (logged), or damage (thrown). */
async function checkTail(
  options: RecoveryOptions,
  segments: readonly Segment[],
  file: StoreFile,
  { offset, bad }: BadFrame,
): Promise<void> {
  const segment = segments.at(-1)!;
  const tail = Buffer.allocUnsafeSlow(segment.size - offset);
  const read = tail.subarray(0, await file.read(tail, offset));
  const judgement = judgeTail(read, segment.header.salt, offset, bad);
  if (judgement.tail === 'damaged')
    throw damaged(options, segments, segments.length - 1, offset, judgement.why);
  if (judgement.tail === 'torn')
    options.logger.warn(
      { component: 'store', file: join(options.directory, segment.name), offset, bytes: read.length },
      'the last write was not finished when the store stopped; nobody was told that it was done, and it is cut off',
    );
}

function replayFrame(replay: Replay, frame: Frame, damagedAs: (what: string) => Error): void {
  try {
    if (frame.revision !== replay.revision)
      throw new Error(`the frame goes on after revision ${frame.revision}, not after ${replay.revision}`);
    visitRecords(frame.payload, replay);
  } catch (error) {
    throw damagedAs(error instanceof Error ? error.message : String(error));
  }
}

async function readSnapshot(options: RecoveryOptions, { name, sequence, length }: StoredFile): Promise<void> {
  const path = join(options.directory, name);
  const remedy = `${RESTORE} There is no other way to get at what the snapshot held.`;
  const header = await readHeader(options, 'snapshot', name, sequence);
  options.engine.keyspace.restoreRevisions(header.detail);
  const replay = new Replay(options.engine);
  const file = await options.files.open(path, 'read');
  try {
    const reader = new FrameReader(file, { salt: header.salt, start: FILE_HEADER_SIZE, limit: length });
    const bad = await eachFrame(reader, (frame) => {
      const damagedAs = (what: string) => new DamagedStoreError(path, frame.offset, what, remedy);
      if (replay.completed) throw damagedAs('something follows its end');
      replayFrame(replay, frame, damagedAs);
    });
    if (bad !== undefined) throw new DamagedStoreError(path, bad.offset, bad.bad, remedy);
    if (!replay.completed || replay.revision !== header.revision)
      throw new DamagedStoreError(path, length, 'its end is missing', remedy);
  } finally {
    await file.close();
  }
}

async function readHeader(
  { directory, files }: RecoveryOptions,
  kind: 'journal' | 'snapshot',
  name: string,
  sequence: number,
): Promise<FileHeader> {
  const path = join(directory, name);
  const file = await files.open(path, 'read');
  try {
    const bytes = Buffer.alloc(FILE_HEADER_SIZE);
    const header = decodeFileHeader(kind, bytes.subarray(0, await file.read(bytes, 0)));
    if (typeof header === 'string') throw new DamagedStoreError(path, 0, header, RESTORE);
    if (header.sequence !== sequence)
      throw new DamagedStoreError(
        path,
        0,
        `it is ${fileName(kind, header.sequence)} under another name`,
        RESTORE,
      );
    return header;
  } finally {
    await file.close();
  }
}

function missing(directory: string, name: string): DamagedStoreError {
  return new DamagedStoreError(
    join(directory, name),
    0,
    'the file is missing, yet later ones are there',
    RESTORE,
  );
}

/** Damage in a segment, with the way out for whoever has no backup. */
function damaged(
  { directory }: RecoveryOptions,
  segments: readonly Segment[],
  index: number,
  offset: number,
  what: string,
): DamagedStoreError {
  const path = join(directory, segments[index]!.name);
  const later = segments.slice(index + 1).map(({ name }) => `'${join(directory, name)}'`);
  const commands = [
    ...(later.length > 0 ? [`rm ${later.join(' ')}`] : []),
    `truncate -s ${offset} '${path}'`,
  ];
  return new DamagedStoreError(
    path,
    offset,
    what,
    `${RESTORE} Without one, everything before the damage can be kept and everything after it be given up: copy the directory, then run: ${commands.join(' && ')}`,
  );
}

/** Does to the engine what the records say was done. */
class Replay implements RecordVisitor {
  readonly #engine: Engine;
  readonly #arena = new ValueArena();
  #operations: Operation[] = [];
  #leases: LeaseChange[] = [];
  #compactRevision: number | undefined;
  #states = 0;
  #changes = 0;
  /** The end of a snapshot was read. */
  completed = false;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  get revision(): number {
    return this.#engine.keyspace.revision;
  }

  put(key: string, value: Uint8Array, lease: number | undefined): void {
    this.#operations.push({ type: 'put', key, value: this.#arena.copy(value), lease });
  }

  delete(key: string): void {
    this.#operations.push({ type: 'delete', key });
  }

  lease(change: LeaseChange): void {
    this.#leases.push(change);
  }

  compact(revision: number): void {
    this.#compactRevision = revision;
  }

  state(kv: KeyValue): void {
    this.#engine.restore({ ...kv, value: this.#arena.copy(kv.value) });
    this.#states++;
  }

  complete(states: number, changes: number): void {
    if (states !== this.#states || changes !== this.#changes)
      throw new Error(
        `the snapshot should hold ${states} states and ${changes} changes, not ${this.#states} and ${this.#changes}`,
      );
    this.completed = true;
  }

  endRecord(): void {
    if (this.#operations.length > 0) {
      const decision = this.#engine.keyspace.decide([], this.#operations);
      if (decision.outcome !== 'changes' || decision.changes.events.length !== this.#operations.length)
        throw new Error('a record deletes a key that was not there');
      this.#changes += this.#operations.length;
      this.#engine.apply({ changes: decision.changes });
      this.#operations = [];
    }
    for (const lease of this.#leases) this.#engine.apply({ lease });
    this.#leases = [];
    if (this.#compactRevision !== undefined) this.#engine.apply({ compactRevision: this.#compactRevision });
    this.#compactRevision = undefined;
  }
}
