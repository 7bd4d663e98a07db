import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../component/index.ts';
import { systemClock } from '../../component/index.ts';
import { seededRandom } from '../conformance/model.ts';
import { openJournalStore } from './journal-store.ts';
import { LoneWriter } from './lone-writer.ts';
import { SimulatedDisk } from './testing/simulated-disk.ts';

/** How many of `writes` block, one after the other, on a disk that takes so long. */
function blocking(writer: LoneWriter, writes: number, tookMs: number, from: number): number {
  let blocked = 0;
  for (let i = 0, now = from; i < writes; i++, now += tookMs) {
    if (!writer.mayBlock(1, now)) continue;
    writer.blocked(tookMs);
    blocked++;
  }
  return blocked;
}

test('a lone writer may block on a fast disk, after a few writes', () => {
  assert.equal(blocking(new LoneWriter(), 10_000, 0.2, 0), 9_992);
});

test('on a slow disk blocking takes no more than about a tenth of the time', () => {
  for (const tookMs of [2, 10, 50]) {
    const writer = new LoneWriter();
    blocking(writer, 1_000, tookMs, 0);
    const blocked = blocking(writer, 1_000, tookMs, 1_000 * tookMs) * tookMs;
    assert.ok(blocked < 1_000 * tookMs * 0.15, `${blocked} ms of ${1_000 * tookMs} ms`);
  }
});

test('after one long stall blocking begins again when that is made up for', () => {
  const writer = new LoneWriter();
  blocking(writer, 100, 0.2, 0);
  assert.ok(writer.mayBlock(1, 20));
  writer.blocked(2_100);
  assert.equal(writer.mayBlock(1, 10_000), false);
  assert.equal(writer.mayBlock(1, 23_000), true);
});

test('the store blocks for one writer and never for several', async () => {
  const disk = new SimulatedDisk({ random: seededRandom(1) });
  // Its time stands still, so no write is a slow one.
  const clock: Clock = { ...systemClock, monotonic: () => 0 };
  const files = disk.mount();
  const writes = { blocking: 0, waiting: 0 };
  await using store = await openJournalStore({
    directory: '/store',
    clock,
    files: {
      ...files,
      async open(path, mode) {
        const file = await files.open(path, mode);
        return {
          ...file,
          write: (buffers, position) => {
            writes.waiting++;
            return file.write(buffers, position);
          },
          writeNow: (buffers, position) => {
            writes.blocking++;
            file.writeNow(buffers, position);
          },
        };
      },
    },
  });
  const put = () =>
    store.txn({ compare: [], operations: [{ type: 'put', key: '/a', value: Buffer.from('v') }] });
  const write = async (writers: number) => {
    for (let i = 0; i < 100; i++) await Promise.all(Array.from({ length: writers }, put));
  };
  await write(1);
  assert.ok(writes.blocking > 80, JSON.stringify(writes));
  writes.blocking = 0;
  await write(2);
  assert.equal(writes.blocking, 0);
  assert.equal(store.revision, 300);
});
