// Conformance of watches: what is delivered, when, and how a watch ends.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { END_OF_KEYS, type KeyRange } from '../store.ts';
import { EVERYTHING, prefix, put, Recorder, remove, type Start, text, write } from './fixture.ts';

export function testWatches(start: Start): void {
  test('a watch gets each change of its range once, in order, all of one revision together', async () => {
    await using running = await start();
    const { store } = running;
    await write(store, put('/in/old'));
    const recorder = new Recorder();
    await store.watch({ range: prefix('/in/') }, recorder);
    await write(store, put('/in/a', '1'));
    await write(store, put('/out/a'));
    await write(store, put('/in/b'), put('/out/b'), remove('/in/old'));
    await Promise.all([write(store, put('/in/a', '2')), write(store, remove('/in/a'))]);
    await recorder.until(() => recorder.all.length >= 5, 'five events');
    assert.deepEqual(recorder.summary, [
      'put /in/a@2',
      'put /in/b@4',
      'delete /in/old@4',
      'put /in/a@5',
      'delete /in/a@6',
    ]);
    const together = recorder.batches.find(({ events }) => events[0]?.kv.key === '/in/b');
    assert.ok(together !== undefined && together.events.length >= 2);
    for (const { events, revision } of recorder.batches) assert.ok(events.at(-1)!.kv.modRevision <= revision);
  });

  test('an event carries the new and the previous state', async () => {
    await using running = await start();
    const { store } = running;
    const recorder = new Recorder();
    await store.watch({ range: { start: '/a' } }, recorder);
    await write(store, put('/a', 'one'));
    await write(store, put('/a', 'two'));
    await write(store, remove('/a'));
    await recorder.until(() => recorder.all.length === 3, 'three events');
    const [created, updated, deleted] = recorder.all;
    assert.equal(created?.previous, undefined);
    assert.deepEqual(
      [text(updated!.kv.value), text(updated!.previous!.value), updated!.kv.version],
      ['two', 'one', 2],
    );
    assert.deepEqual([deleted!.kv.key, deleted!.kv.value.length, deleted!.kv.modRevision], ['/a', 0, 3]);
    assert.deepEqual([text(deleted!.previous!.value), deleted!.previous!.modRevision], ['two', 2]);
  });

  test('a watch from an old revision catches up first', async () => {
    await using running = await start();
    const { store } = running;
    for (let i = 1; i <= 2500; i++) await write(store, put(`/k/${i % 7}`), put('/other'));
    const recorder = new Recorder();
    await store.watch({ range: prefix('/k/'), startRevision: 11 }, recorder);
    await write(store, put('/k/new'));
    await recorder.until(() => recorder.all.length === 2491, 'all events');
    assert.deepEqual(
      recorder.all.map(({ kv }) => kv.modRevision),
      Array.from({ length: 2491 }, (_, i) => i + 11),
    );
    let delivered = 0;
    for (const batch of recorder.batches) {
      assert.ok(batch.revision > delivered && batch.events.every(({ kv }) => kv.modRevision > delivered));
      delivered = batch.revision;
    }
  });

  test('a watch from a future revision waits for it', async () => {
    await using running = await start();
    const { store } = running;
    const recorder = new Recorder();
    await store.watch({ range: EVERYTHING, startRevision: 3 }, recorder);
    for (const key of ['/a', '/b', '/c', '/d']) await write(store, put(key));
    await recorder.until(() => recorder.all.length === 2, 'two events');
    assert.deepEqual(recorder.summary, ['put /c@3', 'put /d@4']);
  });

  test('a watch that asked for progress hears of revisions outside its range', async () => {
    await using running = await start();
    const { store } = running;
    const recorder = new Recorder();
    await store.watch({ range: prefix('/in/'), progress: true }, recorder);
    const silent = new Recorder();
    await store.watch({ range: prefix('/in/') }, silent);
    await write(store, put('/out/a'));
    await write(store, put('/in/a'));
    await write(store, put('/out/b'));
    await recorder.until(() => recorder.batches.at(-1)?.revision === 3, 'revision 3');
    assert.deepEqual(recorder.summary, ['put /in/a@2']);
    assert.deepEqual(
      silent.batches.map(({ events }) => events.length),
      [1],
    );
  });

  test('watches of nested, equal and neighbouring ranges each get their own', async () => {
    await using running = await start();
    const { store } = running;
    const ranges: KeyRange[] = [
      EVERYTHING,
      prefix('/a/'),
      prefix('/a/b/'),
      prefix('/a/b/'),
      { start: '/a/b/1' },
      prefix('/a/c/'),
      prefix('/b/'),
      { start: '/a/b/2', end: '/b/1' },
      { start: '/a/b/', end: END_OF_KEYS },
    ];
    const recorders = await Promise.all(
      ranges.map(async (range) => {
        const recorder = new Recorder();
        await store.watch({ range }, recorder);
        return recorder;
      }),
    );
    const keys = [
      '/a/',
      '/a/b',
      '/a/b/0',
      '/a/b/1',
      '/a/b/1x',
      '/a/b/2',
      '/a/c/1',
      '/b/0',
      '/b/1',
      '/c',
      '/0',
    ];
    for (const key of keys) await write(store, put(key));
    await recorders[0]!.until(() => recorders[0]!.all.length === keys.length, 'all keys');
    for (const [i, range] of ranges.entries()) {
      const expected = keys.filter((key) =>
        range.end === undefined
          ? key === range.start
          : key >= range.start && (range.end === END_OF_KEYS || key < range.end),
      );
      assert.deepEqual(
        recorders[i]!.all.map(({ kv }) => kv.key),
        expected,
        JSON.stringify(range),
      );
    }
  });

  test('a stopped or aborted watch ends once, without an error, and hears nothing more', async () => {
    await using running = await start();
    const { store } = running;
    const stopped = new Recorder();
    const stop = await store.watch({ range: EVERYTHING }, stopped);
    const aborted = new Recorder();
    const controller = new AbortController();
    await store.watch({ range: EVERYTHING, signal: controller.signal }, aborted);
    await write(store, put('/a'));
    await stopped.until(() => stopped.all.length === 1, 'the first event');
    await aborted.until(() => aborted.all.length === 1, 'the first event');
    stop();
    stop();
    controller.abort();
    await write(store, put('/b'));
    assert.deepEqual([stopped.all.length, stopped.ends], [1, [undefined]]);
    assert.deepEqual([aborted.all.length, aborted.ends], [1, [undefined]]);
    await assert.rejects(store.watch({ range: EVERYTHING, signal: AbortSignal.abort() }, new Recorder()), {
      name: 'AbortError',
    });
  });

  test('a handler that throws ends its own watch with that error and harms nobody else', async () => {
    await using running = await start();
    const { store } = running;
    const wrong = new Error('handler');
    const ended: (Error | undefined)[] = [];
    await store.watch(
      { range: EVERYTHING },
      {
        events() {
          throw wrong;
        },
        end: (error) => ended.push(error),
      },
    );
    const recorder = new Recorder();
    await store.watch({ range: EVERYTHING }, recorder);
    await write(store, put('/a'));
    await write(store, put('/b'));
    await recorder.until(() => recorder.all.length === 2, 'two events');
    assert.deepEqual(ended, [wrong]);
  });

  test('a handler may write, watch and stop watches', async () => {
    await using running = await start();
    const { store } = running;
    const late = new Recorder();
    const pending: Promise<unknown>[] = [];
    const other = new Recorder();
    let stopOther = (): void => {};
    await store.watch(
      { range: EVERYTHING },
      {
        events({ events }) {
          if (!events.some(({ kv }) => kv.key === '/a')) return;
          pending.push(write(store, put('/b')), store.watch({ range: EVERYTHING, startRevision: 1 }, late));
          stopOther();
        },
        end() {},
      },
    );
    stopOther = await store.watch({ range: EVERYTHING }, other);
    const last = new Recorder();
    await store.watch({ range: EVERYTHING }, last);
    await write(store, put('/a'));
    await Promise.all(pending);
    await last.until(() => last.all.length === 2, 'two events');
    await late.until(() => late.all.length === 2, 'two events');
    assert.deepEqual(last.summary, ['put /a@1', 'put /b@2']);
    assert.deepEqual(late.summary, ['put /a@1', 'put /b@2']);
    assert.ok(other.all.length <= 1);
  });
}
