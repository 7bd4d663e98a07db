import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Logger } from '../../component/index.ts';
import { silentLogger } from '../../component/index.ts';
import { seededRandom } from '../conformance/model.ts';
import { END_OF_KEYS, type Store } from '../store.ts';
import { DamagedStoreError } from './damage.ts';
import { FILE_HEADER_SIZE, SECTOR_SIZE } from './format.ts';
import { openJournalStore } from './journal-store.ts';
import { SimulatedDisk } from './testing/simulated-disk.ts';

const SMALL = { directory: '/store', segmentBytes: 6_000, snapshotSlackBytes: 9_000 };
const random = seededRandom(7);

interface Prepared {
  readonly disk: SimulatedDisk;
  readonly names: readonly string[];
  readonly contents: string;
}

function open(disk: SimulatedDisk, logger: Logger = silentLogger): Promise<Store> {
  return openJournalStore({ ...SMALL, files: disk.mount(), logger });
}

/** Everything that can be read of a store. */
async function contentsOf(store: Store): Promise<string> {
  const lines = [`revision ${store.revision}, compacted ${store.compactRevision}`];
  const { items } = await store.list({ start: '', end: END_OF_KEYS }, { revision: store.compactRevision });
  for (const { value, ...kv } of items)
    lines.push(`${JSON.stringify(kv)} ${Buffer.from(value).toString('base64')}`);
  const stop = await store.watch(
    { range: { start: '', end: END_OF_KEYS }, startRevision: store.compactRevision + 1 },
    {
      events({ events }) {
        for (const { type, kv } of events)
          lines.push(`${type} ${kv.key} ${kv.modRevision} ${Buffer.from(kv.value).toString('base64')}`);
      },
      end() {},
    },
  );
  stop();
  return lines.join('\n');
}

/** A disk with a snapshot and several segments, some values full of zeros, left behind by a store that was killed. */
async function prepare(lastValue: Uint8Array = Buffer.alloc(700, 'last')): Promise<Prepared> {
  const disk = new SimulatedDisk({ random });
  const store = await open(disk);
  const write = (key: string, value: Uint8Array) =>
    store.txn({ compare: [], operations: [{ type: 'put', key, value }] });
  for (let i = 0; i < 60; i++) {
    await write(`/key/${i % 9}`, Buffer.alloc((i * 37) % 900, i % 4 === 0 ? 0 : `value ${i} `));
    if (i % 10 === 9)
      await store.txn({ compare: [], operations: [{ type: 'delete', key: `/key/${i % 7}` }] });
    if (i === 30) await store.compact(25);
  }
  while (!disk.fileNames().some((name) => name.endsWith('.snap'))) {
    await write('/filler', Buffer.alloc(500, 'f'));
    await store.compact(store.revision - 15);
  }
  for (let i = 0; i < 40; i++) await write(`/key/${i % 20}`, Buffer.alloc(400, `after ${i} `));
  await write('/last', lastValue);
  const contents = await contentsOf(store);
  disk.killProcess();
  const names = disk.fileNames().filter((name) => name !== 'LOCK');
  assert.ok(names.length >= 4, names.join(', '));
  return { disk, names, contents };
}

async function refusal(disk: SimulatedDisk): Promise<DamagedStoreError> {
  const before = disk.fileNames().map((name) => [name, Buffer.from(disk.content(name))] as const);
  const error = await open(disk).then(
    () => assert.fail('the store opened'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof DamagedStoreError, String(error));
  assert.deepEqual(
    disk.fileNames().map((name) => [name, disk.content(name)]),
    before,
    'refusing changes nothing on disk',
  );
  return error;
}

function segmentsOf(disk: SimulatedDisk): string[] {
  return disk.fileNames().filter((name) => name.startsWith('journal'));
}

/** Where the frames of a segment begin: its salt stands at the start of each. */
function frameOffsets(content: Buffer): number[] {
  const salt = content.subarray(24, 32);
  const offsets: number[] = [];
  for (let at = content.indexOf(salt, FILE_HEADER_SIZE); at >= 0; at = content.indexOf(salt, at + 1))
    offsets.push(at);
  return offsets;
}

/** Where the last frame ends, without its padding. */
function writtenEnd(content: Buffer): number {
  return content.findLastIndex((byte) => byte !== 0) + 1;
}

describe('damaged files', () => {
  test('2,000 random bit flips are each refused or without effect, and never served', async () => {
    const prepared = await prepare();
    let refused = 0;
    for (let i = 0; i < 2_000; i++) {
      const disk = prepared.disk.copy();
      const name = prepared.names[Math.floor(random() * prepared.names.length)]!;
      const content = disk.content(name);
      const flips = 1 + Math.floor(random() * 3);
      for (let flip = 0; flip < flips; flip++) {
        // Half of them where it hurts most: in the last frames that were written.
        const end = writtenEnd(content);
        const from = random() < 0.5 ? 0 : Math.max(0, end - 1_500);
        const at = from + Math.floor(random() * (content.length - from));
        content[at] = content[at]! ^ (1 << Math.floor(random() * 8));
      }
      try {
        const store = await open(disk);
        assert.equal(await contentsOf(store), prepared.contents, `flip ${i} in ${name} was served`);
        disk.killProcess();
      } catch (error) {
        if (!(error instanceof DamagedStoreError)) throw error;
        assert.equal(error.file, `/store/${name}`);
        refused++;
      }
    }
    assert.ok(refused > 1_000, `${refused} refused`);
  });

  test('a damaged record in the middle names file and offset and a way out, which works', async () => {
    const { disk } = await prepare();
    const [first, ...later] = segmentsOf(disk);
    const content = disk.content(first!);
    const offset = frameOffsets(content)[3]!;
    content[offset + 50]! ^= 4;
    const error = await refusal(disk);
    assert.equal(error.file, `/store/${first}`);
    assert.equal(error.offset, offset);
    assert.match(error.message, /Restore the directory from a backup/);
    for (const name of later) assert.ok(error.message.includes(`'/store/${name}'`));
    assert.ok(error.message.endsWith(`truncate -s ${offset} '/store/${first}'`));
    const cut = new SimulatedDisk({ random });
    for (const name of disk.fileNames().filter((name) => !later.includes(name)))
      cut.put(name, name === first ? content.subarray(0, offset) : disk.content(name));
    const store = await open(cut);
    assert.ok(store.revision > 60);
    assert.equal((await store.get('/last')).kv, undefined);
  });

  test('damage in the last record is told from a torn write, even when zeros stand in its place', async () => {
    for (const value of [
      Buffer.alloc(700, 'x'),
      Buffer.alloc(5_000),
      Buffer.concat([Buffer.alloc(3000), Buffer.alloc(9, 1)]),
    ]) {
      const { disk } = await prepare(value);
      const content = disk.content(segmentsOf(disk).at(-1)!);
      const offset = frameOffsets(content).at(-1)!;
      const end = writtenEnd(content);
      for (const at of [
        offset,
        offset + 9,
        offset + 13,
        offset + 25,
        offset + 31,
        offset + 40,
        offset + 500,
        end - 1,
      ]) {
        const copy = disk.copy();
        const damaged = copy.content(segmentsOf(disk).at(-1)!);
        damaged[at] = damaged[at]! ^ 64;
        assert.equal((await refusal(copy)).offset, offset);
      }
    }
  });

  test('a missing segment, a missing or shortened snapshot and exchanged files are refused', async () => {
    const { disk, names } = await prepare();
    const snapshot = names.find((name) => name.startsWith('snapshot'))!;
    const segments = segmentsOf(disk);
    const rearranged = (
      change: (name: string, content: Buffer) => [string, Buffer] | undefined,
    ): SimulatedDisk => {
      const changed = new SimulatedDisk({ random });
      for (const name of names) {
        const kept = change(name, Buffer.from(disk.content(name)));
        if (kept !== undefined) changed.put(...kept);
      }
      return changed;
    };
    const without = (gone: string) =>
      rearranged((name, content) => (name === gone ? undefined : [name, content]));
    assert.match((await refusal(without(segments[1]!))).message, /missing/);
    assert.match((await refusal(without(segments[0]!))).message, /missing/);
    assert.match((await refusal(without(snapshot))).message, /missing/);
    for (const rest of [1, 40, 1000]) {
      const short = rearranged((name, content) => [
        name,
        name === snapshot ? content.subarray(0, -rest) : content,
      ]);
      assert.equal((await refusal(short)).file, `/store/${snapshot}`);
    }
    const shortSegment = rearranged((name, content) => [
      name,
      name === segments[0] ? content.subarray(0, 700) : content,
    ]);
    assert.match((await refusal(shortSegment)).message, /missing at its end/);
    const exchanged = rearranged((name, content) => {
      if (name === segments[0]) return [segments[1]!, content];
      return [name === segments[1] ? segments[0]! : name, content];
    });
    assert.match((await refusal(exchanged)).message, /under another name/);
    const empty = rearranged((name, content) => [name, name === segments[0] ? Buffer.alloc(0) : content]);
    assert.match((await refusal(empty)).message, /shorter than its header/);
  });
});

describe('a torn tail', () => {
  test('is cut at every length, and everything before it is kept', async () => {
    const { disk } = await prepare();
    const name = segmentsOf(disk).at(-1)!;
    const content = disk.content(name);
    const offset = frameOffsets(content).at(-1)!;
    for (let length = offset; length < writtenEnd(content); length += 7) {
      const torn = disk.copy();
      torn.put(name, Buffer.from(content.subarray(0, length)));
      const warnings: Record<string, unknown>[] = [];
      const logger: Logger = {
        ...silentLogger,
        warn: (fields: unknown) => void warnings.push(fields as Record<string, unknown>),
      } as Logger;
      const store = await open(torn, logger);
      assert.equal((await store.get('/last')).kv, undefined);
      assert.ok((await store.get('/key/19')).kv);
      const { revision } = store;
      if (length > offset) {
        assert.deepEqual(
          warnings.map(({ file, offset, bytes }) => ({ file, offset, bytes })),
          [{ file: `/store/${name}`, offset, bytes: length - offset }],
        );
      } else assert.equal(warnings.length, 0);
      // What is written now stands in a new segment, and the cut lasts.
      await store.txn({ compare: [], operations: [{ type: 'put', key: '/new', value: Buffer.from('new') }] });
      torn.killProcess();
      const again = await open(torn);
      assert.equal(again.revision, revision + 1);
      assert.equal((await again.get('/last')).kv, undefined);
      assert.ok((await again.get('/new')).kv);
    }
  });

  test('is cut whichever of its sectors are missing', async () => {
    const { disk } = await prepare(
      Buffer.concat([Buffer.alloc(2_000, 'v'), Buffer.alloc(2_000), Buffer.alloc(600, 'w')]),
    );
    const name = segmentsOf(disk).at(-1)!;
    const content = disk.content(name);
    const offset = frameOffsets(content).at(-1)!;
    const written = writtenEnd(content);
    const sectors: number[] = [];
    for (let at = offset; at < written; at = (Math.floor(at / SECTOR_SIZE) + 1) * SECTOR_SIZE)
      sectors.push(at);
    let cut = 0;
    for (let choice = 1; choice < 2 ** sectors.length; choice += 3) {
      const torn = disk.copy();
      const tail = torn.content(name);
      let lost = false;
      for (const [i, from] of sectors.entries()) {
        if ((choice & (1 << i)) === 0) continue;
        const sector = tail.subarray(
          from,
          Math.min(tail.length, (Math.floor(from / SECTOR_SIZE) + 1) * SECTOR_SIZE),
        );
        lost ||= sector.some((byte) => byte !== 0);
        sector.fill(0);
      }
      const store = await open(torn);
      assert.equal((await store.get('/last')).kv === undefined, lost);
      if (lost) cut++;
      torn.killProcess();
    }
    assert.ok(cut > 100);
  });

  test('cannot be made to look like damage by a value that holds a copy of the journal', async () => {
    const first = await prepare();
    const name = segmentsOf(first.disk).at(-1)!;
    const store = await open(first.disk);
    await store.txn({ compare: [], operations: [{ type: 'put', key: '/x', value: Buffer.alloc(10, 'x') }] });
    const current = segmentsOf(first.disk).at(-1)!;
    assert.notEqual(current, name);
    const copy = Buffer.from(first.disk.content(current).subarray(0, 2_000));
    await store.txn({
      compare: [],
      operations: [{ type: 'put', key: '/copy', value: Buffer.concat([copy, copy]) }],
    });
    first.disk.killProcess();
    const content = first.disk.content(current);
    first.disk.put(current, Buffer.from(content.subarray(0, writtenEnd(content) - 500)));
    const again = await open(first.disk);
    assert.equal((await again.get('/copy')).kv, undefined);
    assert.ok((await again.get('/x')).kv);
  });
});
