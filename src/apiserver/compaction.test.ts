import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock, silentLogger } from '../component/index.ts';
import { createMemoryStore } from '../store/index.ts';
import { startCompaction } from './compaction.ts';

const KEY = '/registry/configmaps/default/hot';

async function rewrite(store: ReturnType<typeof createMemoryStore>, times: number): Promise<void> {
  for (let i = 0; i < times; i++)
    await store.txn({
      compare: [],
      operations: [{ type: 'put', key: KEY, value: new Uint8Array(1000) }],
    });
}

test('history is forgotten after one more interval', async () => {
  const clock = new ManualClock();
  await using store = createMemoryStore({ clock, logger: silentLogger });
  await using _compaction = startCompaction({ store, intervalMs: 1000, clock, logger: silentLogger });
  await rewrite(store, 10);
  await clock.advance(1000);
  assert.equal(store.compactRevision, 0);
  await rewrite(store, 10);
  await clock.advance(1000);
  assert.equal(store.compactRevision, 10);
});

test('history does not outgrow its bytes, however short the time', async () => {
  const clock = new ManualClock();
  await using store = createMemoryStore({ clock, logger: silentLogger });
  await using _compaction = startCompaction({
    store,
    intervalMs: 1000,
    historyBytes: 20_000,
    clock,
    logger: silentLogger,
  });
  await rewrite(store, 500);
  const kept = store.revision - store.compactRevision;
  // Two times the bytes, of some 1,256 a state: what is before the last cut, and what is after it.
  assert.ok(kept >= 15 && kept <= 40, `${kept} of 500 states are kept`);
});
