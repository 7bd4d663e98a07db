// Conformance of transactions: revisions, comparisons, conflicts, what is refused.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keysOf, put, remove, type Start, text, write } from './fixture.ts';

export function testTransactions(start: Start): void {
  test('an empty store has revision 0, and revisions count up by one for each transaction that changes something', async () => {
    await using running = await start();
    const { store } = running;
    assert.equal(store.revision, 0);
    assert.equal(store.compactRevision, 0);
    assert.deepEqual(await write(store, put('/a')), { succeeded: true, revision: 1 });
    assert.deepEqual(await write(store, put('/b'), put('/c')), { succeeded: true, revision: 2 });
    assert.deepEqual(await write(store, remove('/a')), { succeeded: true, revision: 3 });
    assert.equal(store.revision, 3);
  });

  test('a transaction without effect takes no revision', async () => {
    await using running = await start();
    const { store } = running;
    await write(store, put('/a'));
    assert.deepEqual(await write(store), { succeeded: true, revision: 1 });
    assert.deepEqual(await write(store, remove('/nothing')), { succeeded: true, revision: 1 });
    assert.deepEqual(await write(store, put('/b')), { succeeded: true, revision: 2 });
  });

  test('a key counts its versions from its creation on', async () => {
    await using running = await start();
    const { store } = running;
    await write(store, put('/a', 'one'));
    await write(store, put('/b'));
    await write(store, put('/a', 'two'));
    const { kv } = await store.get('/a');
    assert.deepEqual(
      { ...kv, value: text(kv!.value) },
      { key: '/a', value: 'two', createRevision: 1, modRevision: 3, version: 2 },
    );
    await write(store, remove('/a'));
    assert.deepEqual(await store.get('/a'), { kv: undefined, revision: 4 });
    await write(store, put('/a', 'three'));
    const again = (await store.get('/a')).kv;
    assert.deepEqual([again?.createRevision, again?.modRevision, again?.version], [5, 5, 1]);
  });

  test('a comparison that does not hold stops the whole transaction and tells the current states in order', async () => {
    await using running = await start();
    const { store } = running;
    await write(store, put('/a', 'one'));
    const refused = await store.txn({
      compare: [
        { key: '/none', modRevision: 0 },
        { key: '/a', modRevision: 0 },
      ],
      operations: [put('/b'), put('/a', 'two')],
    });
    assert.ok(!refused.succeeded);
    assert.equal(refused.revision, 1);
    assert.equal(refused.current[0], undefined);
    assert.equal(text(refused.current[1]!.value), 'one');
    assert.deepEqual(await keysOf(store), ['/a']);
    const done = await store.txn({
      compare: [
        { key: '/none', modRevision: 0 },
        { key: '/a', modRevision: 1 },
      ],
      operations: [put('/b'), put('/a', 'two')],
    });
    assert.deepEqual(done, { succeeded: true, revision: 2 });
  });

  test('of many that create the same key at once exactly one succeeds, and the losers see its state', async () => {
    await using running = await start();
    const { store } = running;
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, i) =>
        store.txn({ compare: [{ key: '/a', modRevision: 0 }], operations: [put('/a', `${i}`)] }),
      ),
    );
    assert.equal(results.filter(({ succeeded }) => succeeded).length, 1);
    const value = text((await store.get('/a')).kv!.value);
    for (const result of results) if (!result.succeeded) assert.equal(text(result.current[0]!.value), value);
    assert.equal(store.revision, 1);
  });

  test('conflicting updates that are under way at once are decided in the order of the calls', async () => {
    await using running = await start();
    const { store } = running;
    await write(store, put('/a', '0'));
    const results = await Promise.all([
      store.txn({ compare: [{ key: '/a', modRevision: 1 }], operations: [put('/a', 'x')] }),
      store.txn({ compare: [{ key: '/a', modRevision: 2 }], operations: [put('/a', 'y')] }),
      store.txn({ compare: [{ key: '/a', modRevision: 1 }], operations: [put('/a', 'z')] }),
      store.txn({ compare: [{ key: '/a', modRevision: 3 }], operations: [remove('/a')] }),
      write(store, remove('/a')),
      store.txn({ compare: [{ key: '/a', modRevision: 0 }], operations: [put('/a', 'new')] }),
    ]);
    assert.deepEqual(
      results.map(({ succeeded, revision }) => [succeeded, revision]),
      [
        [true, 2],
        [true, 3],
        [false, 3],
        [true, 4],
        [true, 4],
        [true, 5],
      ],
    );
  });

  test('two operations on one key, an empty key and a lone surrogate are refused', async () => {
    await using running = await start();
    const { store } = running;
    await assert.rejects(write(store, put('/a'), remove('/a')), TypeError);
    await assert.rejects(write(store, put('')), TypeError);
    await assert.rejects(write(store, put('/\ud800')), TypeError);
    await assert.rejects(write(store, remove('\udc00/')), TypeError);
    assert.equal(store.revision, 0);
  });

  test('values of any size and content come back as they were', async () => {
    await using running = await start();
    for (const size of [0, 1, 511, 512, 513, 4096, 70_000, 1_200_000]) {
      const zeros = new Uint8Array(size);
      const mixed = Uint8Array.from({ length: size }, (_, i) => (i * 31 + size) % 256);
      await running.store.txn({
        compare: [],
        operations: [
          { type: 'put', key: `/zeros/${size}`, value: zeros },
          { type: 'put', key: `/mixed/${size}`, value: mixed },
        ],
      });
      await running.restart?.();
      assert.deepEqual(
        Buffer.from((await running.store.get(`/zeros/${size}`)).kv!.value),
        Buffer.from(zeros),
      );
      assert.deepEqual(
        Buffer.from((await running.store.get(`/mixed/${size}`)).kv!.value),
        Buffer.from(mixed),
      );
    }
  });
}
