// Conformance of what goes and what stays: compaction, leases, closing and restarts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CompactedError, FutureRevisionError, LeaseNotFoundError, StoreUnavailableError } from '../store.ts';
import { EVERYTHING, keysOf, put, Recorder, remove, type Start, text, write } from './fixture.ts';

export function testCompaction(start: Start): void {
  test('compaction takes old revisions away and leaves the newer ones', async () => {
    await using running = await start();
    const { store } = running;
    await write(store, put('/a', '1'), put('/gone'));
    await write(store, put('/a', '2'));
    await write(store, remove('/gone'));
    await write(store, put('/a', '4'));
    await write(store, put('/a', '5'));
    await store.compact(3);
    assert.equal(store.compactRevision, 3);
    await assert.rejects(store.get('/a', { revision: 2 }), CompactedError);
    await assert.rejects(store.list(EVERYTHING, { revision: 1 }), (error: unknown) => {
      assert.ok(error instanceof CompactedError);
      assert.equal(error.compactRevision, 3);
      return true;
    });
    await assert.rejects(
      store.watch({ range: EVERYTHING, startRevision: 3 }, new Recorder()),
      CompactedError,
    );
    assert.equal(text((await store.get('/a', { revision: 3 })).kv!.value), '2');
    assert.deepEqual(await keysOf(store, EVERYTHING, 3), ['/a']);
    assert.equal(text((await store.get('/a')).kv!.value), '5');
    const recorder = new Recorder();
    await store.watch({ range: EVERYTHING, startRevision: 4 }, recorder);
    await recorder.until(() => recorder.all.length === 2, 'two events');
    assert.deepEqual(recorder.summary, ['put /a@4', 'put /a@5']);
    assert.equal(text(recorder.all[0]!.previous!.value), '2');
  });

  test('compacting again does nothing, compacting the future is refused, and revisions go on', async () => {
    await using running = await start();
    const { store } = running;
    for (let i = 0; i < 5; i++) await write(store, put('/a', `${i}`));
    await store.compact(5);
    await store.compact(5);
    await store.compact(2);
    assert.equal(store.compactRevision, 5);
    await assert.rejects(store.compact(6), FutureRevisionError);
    assert.deepEqual(await write(store, put('/a')), { succeeded: true, revision: 6 });
    assert.equal(text((await store.get('/a', { revision: 5 })).kv!.value), '4');
  });

  test('a live watch is not disturbed by compaction', async () => {
    await using running = await start();
    const { store } = running;
    const recorder = new Recorder();
    await store.watch({ range: EVERYTHING }, recorder);
    for (let i = 1; i <= 20; i++) {
      await write(store, put('/a', `${i}`));
      await store.compact(i);
    }
    await recorder.until(() => recorder.all.length === 20, 'twenty events');
    assert.deepEqual(recorder.ends, []);
  });

  test('a restart loses nothing: states, history, compaction and revisions', async () => {
    await using running = await start();
    if (running.restart === undefined) return;
    await write(running.store, put('/a', '1'), put('/b'));
    await write(running.store, put('/a', '2'));
    await write(running.store, remove('/b'));
    await write(running.store, put('/a', '4'));
    await running.store.compact(2);
    await running.restart();
    const { store } = running;
    assert.deepEqual([store.revision, store.compactRevision], [4, 2]);
    const { kv } = await store.get('/a');
    assert.deepEqual([text(kv!.value), kv!.createRevision, kv!.modRevision, kv!.version], ['4', 1, 4, 3]);
    assert.deepEqual(await keysOf(store, EVERYTHING, 2), ['/a', '/b']);
    await assert.rejects(store.get('/a', { revision: 1 }), CompactedError);
    const recorder = new Recorder();
    await store.watch({ range: EVERYTHING, startRevision: 3 }, recorder);
    await write(store, put('/c'));
    await recorder.until(() => recorder.all.length === 3, 'three events');
    assert.deepEqual(recorder.summary, ['delete /b@3', 'put /a@4', 'put /c@5']);
  });
}

export function testLeases(start: Start): void {
  test('keys go with their lease, all at one revision, when its time has passed', async () => {
    await using running = await start();
    const { store } = running;
    const lease = await store.grantLease(10_000);
    assert.equal(lease.ttlMs, 10_000);
    await write(store, put('/a', 'v', lease.id), put('/b', 'v', lease.id), put('/free'));
    assert.equal((await store.get('/a')).kv?.lease, lease.id);
    await write(store, put('/b', 'no lease any more'));
    await write(store, put('/c', 'v', lease.id));
    const recorder = new Recorder();
    await store.watch({ range: EVERYTHING }, recorder);
    await running.passTime(9_000);
    assert.deepEqual(await keysOf(store), ['/a', '/b', '/c', '/free']);
    await running.passTime(2_000);
    await recorder.until(() => recorder.all.length === 2, 'two deletions');
    assert.deepEqual(new Set(recorder.summary), new Set(['delete /a@4', 'delete /c@4']));
    assert.deepEqual(await keysOf(store), ['/b', '/free']);
    await assert.rejects(store.keepLeaseAlive(lease.id), LeaseNotFoundError);
    await assert.rejects(write(store, put('/d', 'v', lease.id)), LeaseNotFoundError);
  });

  test('a lease that is kept alive stays', async () => {
    await using running = await start();
    const { store } = running;
    const { id } = await store.grantLease(10_000);
    await write(store, put('/a', 'v', id));
    for (let i = 0; i < 4; i++) {
      await running.passTime(8_000);
      assert.deepEqual(await store.keepLeaseAlive(id), { id, ttlMs: 10_000 });
    }
    assert.deepEqual(await keysOf(store), ['/a']);
    const recorder = new Recorder();
    await store.watch({ range: EVERYTHING }, recorder);
    await running.passTime(11_000);
    await recorder.until(() => recorder.all.length === 1, 'the deletion');
  });

  test('revoking a lease deletes it and its keys, those of puts under way too', async () => {
    await using running = await start();
    const { store } = running;
    const { id } = await store.grantLease(10_000);
    const other = await store.grantLease(10_000);
    await write(store, put('/a', 'v', id), put('/b', 'v', id));
    await Promise.all([
      write(store, put('/c', 'v', id)),
      write(store, put('/b', 'v', other.id)),
      store.revokeLease(id),
      assert.rejects(write(store, put('/d', 'v', id)), LeaseNotFoundError),
    ]);
    assert.deepEqual(await keysOf(store), ['/b']);
    await assert.rejects(store.revokeLease(id), LeaseNotFoundError);
    await store.revokeLease(other.id);
    assert.deepEqual(await keysOf(store), []);
    await assert.rejects(store.revokeLease(12345), LeaseNotFoundError);
  });

  test('a lease without keys ends without a revision', async () => {
    await using running = await start();
    const { id } = await running.store.grantLease(1_000);
    await running.store.revokeLease(id);
    assert.equal(running.store.revision, 0);
    for (const ttl of [0, -5, Number.NaN, Number.POSITIVE_INFINITY])
      await assert.rejects(running.store.grantLease(ttl), RangeError);
  });

  test('leases and what hangs on them outlive a restart', async () => {
    await using running = await start();
    if (running.restart === undefined) return;
    const kept = await running.store.grantLease(60_000);
    const short = await running.store.grantLease(20_000);
    const revoked = await running.store.grantLease(20_000);
    await write(running.store, put('/kept', 'v', kept.id), put('/short', 'v', short.id));
    await running.store.revokeLease(revoked.id);
    await running.passTime(15_000);
    await running.store.keepLeaseAlive(kept.id);
    await running.restart();
    const { store } = running;
    await assert.rejects(store.keepLeaseAlive(revoked.id), LeaseNotFoundError);
    assert.equal((await store.get('/kept')).kv?.lease, kept.id);
    const recorder = new Recorder();
    await store.watch({ range: EVERYTHING }, recorder);
    // 5 s were left.
    await running.passTime(6_000);
    await recorder.until(() => recorder.all.length === 1, 'the deletion');
    assert.deepEqual(recorder.summary, ['delete /short@2']);
    assert.deepEqual(await store.keepLeaseAlive(kept.id), { id: kept.id, ttlMs: 60_000 });
  });
}

export function testClosing(start: Start): void {
  test('closing waits for what is under way, ends the watches, and the closed store answers so', async () => {
    await using running = await start();
    const { store } = running;
    const recorder = new Recorder();
    await store.watch({ range: EVERYTHING }, recorder);
    const underWay = write(store, put('/a'));
    await Promise.all([store[Symbol.asyncDispose](), store[Symbol.asyncDispose]()]);
    assert.deepEqual(await underWay, { succeeded: true, revision: 1 });
    assert.deepEqual(recorder.summary, ['put /a@1']);
    assert.deepEqual(recorder.ends, [undefined]);
    await assert.rejects(write(store, put('/b')), StoreUnavailableError);
    await assert.rejects(store.get('/a'), StoreUnavailableError);
    await assert.rejects(store.list(EVERYTHING), StoreUnavailableError);
    await assert.rejects(store.watch({ range: EVERYTHING }, new Recorder()), StoreUnavailableError);
    await assert.rejects(store.grantLease(1000), StoreUnavailableError);
  });
}
