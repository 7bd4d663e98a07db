// Runs on a small file system of its own, named on the command line: fills it up with a store's writes, makes space
// and checks that nothing was harmed. Says how far it came.

import assert from 'node:assert/strict';
import { unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { END_OF_KEYS, StoreUnavailableError } from '../../store.ts';
import { openJournalStore } from '../journal-store.ts';

const [mount = ''] = process.argv.slice(2);
const directory = join(mount, 'store');
const ballast = join(mount, 'ballast');
await writeFile(ballast, Buffer.alloc(600 * 1024, 1));

let store = await openJournalStore({ directory });
const acknowledged: string[] = [];
const put = (key: string) =>
  store.txn({ compare: [], operations: [{ type: 'put', key, value: Buffer.alloc(3_000, key) }] });
const fill = async (from: number): Promise<StoreUnavailableError> => {
  for (let i = from; ; i += 4) {
    const keys = [i, i + 1, i + 2, i + 3].map((n) => `/key/${n}`);
    const results = await Promise.allSettled(keys.map(put));
    for (const [n, result] of results.entries())
      if (result.status === 'fulfilled') acknowledged.push(keys[n]!);
    const refused = results.find((result) => result.status === 'rejected');
    if (refused === undefined) continue;
    assert.ok(refused.reason instanceof StoreUnavailableError, String(refused.reason));
    return refused.reason;
  }
};
const checkAll = async (): Promise<void> => {
  const { items } = await store.list({ start: '', end: END_OF_KEYS });
  assert.deepEqual(items.map(({ key }) => key).sort(), [...acknowledged].sort());
  assert.equal(store.revision, acknowledged.length);
};

const refusal = await fill(0);
assert.equal((refusal.cause as NodeJS.ErrnoException).code, 'ENOSPC');
assert.equal(refusal.uncertain, false);
await checkAll();
await unlink(ballast);
const before = acknowledged.length;
await fill(1_000_000);
assert.ok(acknowledged.length > before + 100, `${acknowledged.length} after ${before}`);
await checkAll();
await store[Symbol.asyncDispose]();
store = await openJournalStore({ directory });
await checkAll();
await store[Symbol.asyncDispose]();
process.stdout.write('refused, went on, all there\n');
