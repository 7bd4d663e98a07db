import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ManualClock } from '../../component/index.ts';
import { seededRandom } from '../conformance/model.ts';
import { type Store, StoreUnavailableError } from '../store.ts';
import { openJournalStore } from './journal-store.ts';
import { StoreLockedError } from './lock.ts';
import { SimulatedDisk, systemError } from './testing/simulated-disk.ts';

const put = (store: Store, key: string, size = 100) =>
  store.txn({ compare: [], operations: [{ type: 'put', key, value: Buffer.alloc(size, 'v') }] });
const newDisk = () => new SimulatedDisk({ random: seededRandom(3) });

test('a full disk refuses writes and says so, reads go on, and so do writes when there is space again', async () => {
  const disk = newDisk();
  disk.capacity = 20_000;
  const open = () => openJournalStore({ directory: '/store', files: disk.mount(), segmentBytes: 4_000 });
  await using store = await open();
  let written = 0;
  const refused = await (async () => {
    for (;;) {
      try {
        await put(store, `/key/${written}`, 1_000);
        written++;
      } catch (error) {
        return error;
      }
    }
  })();
  assert.ok(refused instanceof StoreUnavailableError);
  assert.equal(refused.uncertain, false);
  assert.match(refused.message, /\/store.*full.*free some space/);
  assert.equal((refused.cause as NodeJS.ErrnoException).code, 'ENOSPC');
  assert.equal(store.revision, written);
  assert.ok((await store.get(`/key/${written - 1}`)).kv);
  await assert.rejects(put(store, '/other', 1_000), StoreUnavailableError);
  await assert.rejects(store.grantLease(1_000), StoreUnavailableError);
  disk.capacity = Number.POSITIVE_INFINITY;
  assert.deepEqual(await put(store, '/after'), { succeeded: true, revision: written + 1 });
  await store[Symbol.asyncDispose]();
  await using again = await open();
  assert.equal(again.revision, written + 1);
  assert.equal((await again.get('/other')).kv, undefined);
});

test('all that wait for a write that fails are refused, what they decided is undone, and watchers hear nothing of it', async () => {
  const disk = newDisk();
  await using store = await openJournalStore({ directory: '/store', files: disk.mount() });
  await put(store, '/a');
  const heard: number[] = [];
  await store.watch({ range: { start: '/a' } }, { events: ({ revision }) => heard.push(revision), end() {} });
  disk.fault = (operation, name) => {
    if (operation === 'write') throw systemError('EIO', name);
  };
  const update = (modRevision: number) =>
    store.txn({
      compare: [{ key: '/a', modRevision }],
      operations: [{ type: 'put', key: '/a', value: Buffer.from('new') }],
    });
  // The third is refused only because of the first, so it may not be answered before that is durable.
  const results = await Promise.allSettled([update(1), update(2), update(1), update(3)]);
  for (const result of results)
    assert.ok(result.status === 'rejected' && result.reason instanceof StoreUnavailableError);
  disk.fault = () => {};
  assert.deepEqual(await update(1), { succeeded: true, revision: 2 });
  assert.deepEqual(heard, [2]);
});

test('a disk that does not even take the failed bytes back makes the refusal uncertain', async () => {
  const disk = newDisk();
  await using store = await openJournalStore({ directory: '/store', files: disk.mount() });
  await put(store, '/a');
  disk.fault = (operation, name) => {
    if (operation !== 'open') throw systemError('EROFS', name);
  };
  await assert.rejects(put(store, '/b'), (error: unknown) => {
    assert.ok(error instanceof StoreUnavailableError);
    assert.equal(error.uncertain, true);
    assert.match(error.message, /read-only/);
    return true;
  });
  disk.fault = () => {};
  assert.deepEqual(await put(store, '/c'), { succeeded: true, revision: 2 });
});

test('a snapshot that cannot be written is given up, and the store goes on', async () => {
  const disk = newDisk();
  const options = { directory: '/store', segmentBytes: 2_000, snapshotSlackBytes: 5_000 };
  await using store = await openJournalStore({ ...options, files: disk.mount() });
  disk.fault = (_operation, name) => {
    if (name.startsWith('snapshot')) throw systemError('ENOSPC', name);
  };
  const churn = async (times: number) => {
    for (let i = 0; i < times; i++) await put(store, '/a', 500);
    await store.compact(store.revision);
  };
  await churn(60);
  assert.ok(!disk.fileNames().some((name) => name.startsWith('snapshot')));
  disk.fault = () => {};
  for (let i = 0; i < 20 && !disk.fileNames().some((name) => name.endsWith('.snap')); i++) await churn(10);
  assert.ok(disk.fileNames().some((name) => name.endsWith('.snap')));
});

test('compaction and snapshots bound the files of a store that is written to without end', async () => {
  const disk = newDisk();
  const options = { directory: '/store', segmentBytes: 10_000, snapshotSlackBytes: 20_000 };
  await using store = await openJournalStore({ ...options, files: disk.mount() });
  let largest = 0;
  for (let i = 0; i < 3_000; i++) {
    await put(store, `/key/${i % 20}`, 300);
    if (i % 50 === 49) await store.compact(store.revision - 10);
    largest = Math.max(largest, await store.size());
  }
  // Live: 20 × 350 bytes and at most 60 old states; twice that, the slack, one segment and a snapshot being written.
  assert.ok(largest < 2 * 80 * 350 + 20_000 + 10_000 + 40_000, `${largest} bytes`);
  assert.ok(disk.fileNames().length < 12, disk.fileNames().join(' '));
});

test('a second store on the same directory is refused with the pid of the first, until that is closed', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'store-lock-'));
  try {
    const first = await openJournalStore({ directory });
    await assert.rejects(openJournalStore({ directory }), (error: unknown) => {
      assert.ok(error instanceof StoreLockedError);
      assert.match(error.message, new RegExp(`process ${process.pid}`));
      return true;
    });
    await put(first, '/a');
    await first[Symbol.asyncDispose]();
    const second = await openJournalStore({ directory });
    assert.equal(second.revision, 1);
    await second[Symbol.asyncDispose]();
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('a lease that runs out while the disk is full takes its keys as soon as there is space', async () => {
  const disk = newDisk();
  const clock = new ManualClock();
  await using store = await openJournalStore({ directory: '/store', files: disk.mount(), clock });
  const { id } = await store.grantLease(5_000);
  const value = Buffer.from('v');
  await store.txn({ compare: [], operations: [{ type: 'put', key: '/a', value, lease: id }] });
  disk.fault = (operation, name) => {
    if (operation === 'write' || operation === 'open') throw systemError('ENOSPC', name);
  };
  // The retry is timed from the refusal, which takes turns of the event loop of its own.
  for (let i = 0; i < 10; i++) await clock.advance(1_000);
  assert.ok((await store.get('/a')).kv);
  const gone = new Promise<void>((resolve) => {
    void store.watch({ range: { start: '/a' } }, { events: () => resolve(), end() {} });
  });
  disk.fault = () => {};
  const deadline = performance.now() + 10_000;
  while ((await store.get('/a')).kv !== undefined && performance.now() < deadline) await clock.advance(1_000);
  await gone;
});

// A real file system that is really full. Mounting takes root; the mount lives in a namespace of the child's own.
if (process.getuid?.() === 0 && spawnSync('unshare', ['--mount', 'true']).status === 0)
  test('a full tmpfs refuses writes without harm, and with space again they go on', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'store-full-'));
    try {
      const script = join(import.meta.dirname, 'testing/full-disk-child.ts');
      const mountAndRun = 'mount -t tmpfs -o size=2m none "$1" && exec "$2" "$3" "$1"';
      const child = spawn(
        'unshare',
        [
          '--mount',
          '--propagation',
          'private',
          'sh',
          '-c',
          mountAndRun,
          'sh',
          directory,
          process.execPath,
          script,
        ],
        { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_TEST_CONTEXT: undefined } },
      );
      let output = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
      const [code] = await once(child, 'close');
      assert.equal(code, 0);
      assert.match(output, /^refused, went on, all there\n$/);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
