// The contract of store.ts as tests that every engine must pass. An engine's own test file calls
// testStoreConformance() with a way to start one that is empty.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkAgainstModel } from './store.model.ts';
import {
  CompactedError,
  END_OF_KEYS,
  FutureRevisionError,
  type KeyRange,
  LeaseNotFoundError,
  type Operation,
  prefixEnd,
  type Store,
  type StoreEvent,
  type StoreEventBatch,
  StoreUnavailableError,
  type TransactionResult,
  type WatchHandler,
} from './store.ts';

export interface EngineUnderTest extends AsyncDisposable {
  /** Empty at first; another one after restart(). */
  readonly store: Store;
  /** Lets so much time pass, as the engine's leases see it. */
  passTime(ms: number): Promise<void>;
  /** Closes the store and opens it again. Absent: the engine keeps nothing. */
  restart?(): Promise<void>;
}

/** `propertyRuns`: how many random histories to compare with the model. */
export function testStoreConformance(
  engine: string,
  start: () => Promise<EngineUnderTest>,
  options: { readonly propertyRuns: number },
): void {
  describe(`the ${engine} engine keeps the store's contract`, () => {
    testTransactions(start);
    testReads(start);
    testWatches(start);
    testCompaction(start);
    testLeases(start);
    testClosing(start);
    for (let seed = 1; seed <= options.propertyRuns; seed++)
      test(`a random history agrees with the model (seed ${seed})`, async () => {
        await using running = await start();
        await checkAgainstModel(running, seed);
      });
  });
}

type Start = () => Promise<EngineUnderTest>;

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (value: Uint8Array): string => new TextDecoder().decode(value);
const EVERYTHING: KeyRange = { start: '', end: END_OF_KEYS };

const put = (key: string, value = 'v', lease?: number): Operation => ({
  type: 'put',
  key,
  value: bytes(value),
  lease,
});
const remove = (key: string): Operation => ({ type: 'delete', key });
const write = (store: Store, ...operations: Operation[]): Promise<TransactionResult> =>
  store.txn({ compare: [], operations });
const keysOf = async (store: Store, range = EVERYTHING, revision?: number): Promise<string[]> =>
  (await store.list(range, { revision })).items.map(({ key }) => key);
const prefix = (start: string): KeyRange => ({ start, end: prefixEnd(start) });

/** Collects what a watch delivers and lets a test wait for it. */
class Recorder implements WatchHandler {
  readonly batches: StoreEventBatch[] = [];
  readonly ends: (Error | undefined)[] = [];
  #changed: (() => void) | undefined;

  events(batch: StoreEventBatch): void {
    assert.equal(this.ends.length, 0, 'nothing is delivered after the end');
    this.batches.push(batch);
    this.#changed?.();
  }

  end(error?: Error): void {
    this.ends.push(error);
    this.#changed?.();
  }

  get all(): StoreEvent[] {
    return this.batches.flatMap(({ events }) => events);
  }

  /** `put /a@3`, in order. */
  get summary(): string[] {
    return this.all.map(({ type, kv }) => `${type} ${kv.key}@${kv.modRevision}`);
  }

  async until(holds: () => boolean, what: string): Promise<void> {
    const deadline = setTimeout(() => this.#changed?.(), 10_000);
    const start = performance.now();
    while (!holds()) {
      assert.ok(
        performance.now() - start < 10_000,
        `waited 10 s for ${what}; got ${this.summary.join(', ')}`,
      );
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    clearTimeout(deadline);
  }
}

function testTransactions(start: Start): void {
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

function testReads(start: Start): void {
  test('keys are ordered by their UTF-8 bytes, also beyond U+FFFF', async () => {
    await using running = await start();
    const { store } = running;
    const keys = [
      '/a',
      '/é',
      '/ÿ',
      '/漢',
      '/\ud7ff',
      '/\ue000',
      '/ｆ',
      '/\uffff',
      '/😀',
      '/😀x',
      '/𐀀',
      '/\u{10ffff}',
      '/z',
      '/~',
    ];
    for (const key of keys) await write(store, put(key));
    const byBytes = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    assert.deepEqual(await keysOf(store), byBytes);
    for (const start of byBytes)
      for (const end of byBytes) {
        const expected = byBytes.filter(
          (key) =>
            Buffer.compare(Buffer.from(key), Buffer.from(start)) >= 0 &&
            Buffer.compare(Buffer.from(key), Buffer.from(end)) < 0,
        );
        assert.deepEqual(await keysOf(store, { start, end }), expected);
      }
  });

  test('a prefix range holds the keys with the prefix and no others', async () => {
    await using running = await start();
    const { store } = running;
    const keys = [
      '/a',
      '/a/',
      '/a/b',
      '/a/\uffff',
      '/a/😀',
      '/a0',
      '/b',
      '/\ud7ffx',
      '/\ue000',
      '/\u{10ffff}',
      '/\u{10ffff}x',
      '0',
    ];
    for (const key of keys) await write(store, put(key));
    for (const start of ['/', '/a', '/a/', '/a/\uffff', '/\ud7ff', '/\u{10ffff}', '/a/😀', '0', 'x', ''])
      assert.deepEqual(
        await keysOf(store, prefix(start)),
        (await keysOf(store)).filter((key) => key.startsWith(start)),
        `the prefix ${JSON.stringify(start)}`,
      );
  });

  test('a range without an end is a single key, and one that ends before it begins is empty', async () => {
    await using running = await start();
    const { store } = running;
    await write(store, put('/a'), put('/a/b'));
    assert.deepEqual(await keysOf(store, { start: '/a' }), ['/a']);
    assert.deepEqual(await keysOf(store, { start: '/x' }), []);
    assert.deepEqual(await keysOf(store, { start: '/b', end: '/a' }), []);
    assert.deepEqual(await keysOf(store, { start: '/a/', end: END_OF_KEYS }), ['/a/b']);
  });

  test('limit cuts a list, count and more tell of the rest, and paging at one revision sees one state', async () => {
    await using running = await start();
    const { store } = running;
    const names = Array.from({ length: 1000 }, (_, i) => `/k/${String((i * 7919) % 1000).padStart(4, '0')}`);
    for (const name of names) await write(store, put(name));
    await write(store, put('/j'), put('/l'));
    const revision = store.revision;
    const whole = await store.list(prefix('/k/'));
    assert.deepEqual(
      [whole.items.length, whole.count, whole.more, whole.revision],
      [1000, 1000, false, revision],
    );
    const paged: string[] = [];
    for (let from = '/k/'; ; ) {
      const page = await store.list({ start: from, end: prefixEnd('/k/') }, { limit: 99, revision });
      assert.equal(page.count, 1000 - paged.length);
      paged.push(...page.items.map(({ key }) => key));
      assert.equal(page.more, paged.length < 1000);
      if (!page.more) break;
      from = `${paged.at(-1)}\0`;
      await write(store, remove(paged[paged.length - 5]!), remove(names[paged.length]!), put(`${from}x`));
    }
    assert.deepEqual(paged, names.sort());
  });

  test('every revision can be read as it was', async () => {
    await using running = await start();
    const { store } = running;
    await write(store, put('/a', '1'));
    await write(store, put('/a', '2'), put('/b', '2'));
    await write(store, remove('/a'));
    await write(store, put('/a', '4'));
    const at = async (revision: number) =>
      text((await store.get('/a', { revision })).kv?.value ?? bytes('-'));
    assert.deepEqual(
      [await at(1), await at(2), await at(3), await at(4), await at(0)],
      ['1', '2', '-', '4', '4'],
    );
    assert.deepEqual(await keysOf(store, EVERYTHING, 1), ['/a']);
    assert.deepEqual(await keysOf(store, EVERYTHING, 2), ['/a', '/b']);
    assert.deepEqual(await keysOf(store, EVERYTHING, 3), ['/b']);
    const old = await store.list(EVERYTHING, { revision: 3 });
    assert.deepEqual([old.count, old.revision], [1, 4]);
  });

  test('a revision that does not exist yet is refused', async () => {
    await using running = await start();
    const { store } = running;
    await write(store, put('/a'));
    await assert.rejects(store.get('/a', { revision: 2 }), FutureRevisionError);
    await assert.rejects(store.list(EVERYTHING, { revision: 2 }), (error: unknown) => {
      assert.ok(error instanceof FutureRevisionError);
      assert.equal(error.revision, 1);
      return true;
    });
    await assert.rejects(store.get('/a', { revision: -1 }), RangeError);
  });
}

function testWatches(start: Start): void {
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

function testCompaction(start: Start): void {
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

function testLeases(start: Start): void {
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

function testClosing(start: Start): void {
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
