// The store's contract as a simple model, and a random history that is run against an engine and the model at once.
// Part of the conformance test.

import assert from 'node:assert/strict';
import {
  CompactedError,
  type Compare,
  END_OF_KEYS,
  FutureRevisionError,
  type KeyRange,
  type KeyValue,
  type Operation,
  prefixEnd,
  type StoreEvent,
  type Transaction,
  type TransactionResult,
} from '../store.ts';
import type { EngineUnderTest } from './fixture.ts';

type State = ReadonlyMap<string, KeyValue>;

/** Keeps every revision as a whole map. */
export class StoreModel {
  readonly #states: State[] = [new Map()];
  readonly events: StoreEvent[] = [];
  compactRevision = 0;

  get revision(): number {
    return this.#states.length - 1;
  }

  at(revision: number): State {
    return this.#states[revision]!;
  }

  txn({ compare, operations }: Transaction): TransactionResult {
    const state = this.at(this.revision);
    if (compare.some(({ key, modRevision }) => (state.get(key)?.modRevision ?? 0) !== modRevision))
      return { succeeded: false, revision: this.revision, current: compare.map(({ key }) => state.get(key)) };
    const effective = operations.filter(({ type, key }) => type === 'put' || state.has(key));
    if (effective.length === 0) return { succeeded: true, revision: this.revision };
    const revision = this.revision + 1;
    const next = new Map(state);
    for (const operation of effective) {
      const { type, key } = operation;
      const previous = state.get(key);
      if (operation.type === 'put') {
        const kv: KeyValue = {
          key,
          value: operation.value,
          createRevision: previous?.createRevision ?? revision,
          modRevision: revision,
          version: (previous?.version ?? 0) + 1,
        };
        next.set(key, kv);
        this.events.push({ type: 'put', kv, previous });
      } else {
        next.delete(key);
        const kv = { key, value: new Uint8Array(0), createRevision: 0, modRevision: revision, version: 0 };
        this.events.push({ type, kv, previous });
      }
    }
    this.#states.push(next);
    return { succeeded: true, revision };
  }

  list(range: KeyRange, revision: number): KeyValue[] {
    return [...this.at(revision).values()]
      .filter(({ key }) => inRange(range, key))
      .sort((a, b) => compareKeys(a.key, b.key));
  }
}

function inRange({ start, end }: KeyRange, key: string): boolean {
  if (end === undefined) return key === start;
  return compareKeys(key, start) >= 0 && (end === END_OF_KEYS || compareKeys(key, end) < 0);
}

function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Numbers 0 <= x < 1 that a seed determines (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const KEYS = [
  '/a',
  '/a/',
  '/a/1',
  '/a/2',
  '/a/22',
  '/b/1',
  '/b/ü',
  '/b/\ue000',
  '/b/\uffff',
  '/b/😀',
  '/b/😀1',
  '0',
];
const STEPS = 150;

/** One line that says all of a state, to be compared and to be read. */
function plain(kv: KeyValue | undefined): string {
  if (kv === undefined) return 'none';
  const value = Buffer.from(kv.value).toString('latin1');
  return `${kv.key} @${kv.createRevision}-${kv.modRevision} v${kv.version} ${value.length}:${value.slice(0, 12)}`;
}

function plainEvent({ type, kv, previous }: StoreEvent): string {
  return `${type} ${plain(kv)} was ${plain(previous)}`;
}

/** Runs a random history; throws where the engine and the model differ. */
export async function checkAgainstModel(running: EngineUnderTest, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const upTo = (limit: number): number => Math.floor(random() * (limit + 1));
  const model = new StoreModel();
  const watches: { range: KeyRange; start: number; got: StoreEvent[]; ended: boolean; until: number }[] = [];
  let values = 0;

  const randomRange = (): KeyRange => {
    const start = pick(KEYS);
    if (random() < 0.2) return { start };
    if (random() < 0.3) return { start: random() < 0.5 ? '' : start, end: END_OF_KEYS };
    return random() < 0.5 ? { start, end: prefixEnd(start) } : { start, end: pick(KEYS) };
  };
  const randomTransaction = (): Transaction => {
    const keys = new Set(Array.from({ length: 1 + upTo(random() < 0.7 ? 0 : 4) }, () => pick(KEYS)));
    const operations = Array.from(keys, (key): Operation => {
      if (random() < 0.3) return { type: 'delete', key };
      const value = Buffer.alloc(upTo(random() < 0.9 ? 40 : 3000), `${seed}.${values++};`);
      return { type: 'put', key, value };
    });
    const compare = random() < 0.5 ? [] : Array.from({ length: 1 + upTo(1) }, () => randomCompare());
    return { compare, operations };
  };
  const randomCompare = (): Compare => {
    const key = pick(KEYS);
    const modRevision = model.at(model.revision).get(key)?.modRevision ?? 0;
    return { key, modRevision: random() < 0.8 ? modRevision : upTo(model.revision) };
  };

  const steps: (() => Promise<void>)[] = [
    // One transaction, or several under way at once: decided in the order of the calls.
    async () => {
      const expected: TransactionResult[] = [];
      const results: Promise<TransactionResult>[] = [];
      for (let i = random() < 0.5 ? 0 : upTo(6); i >= 0; i--) {
        const transaction = randomTransaction();
        results.push(running.store.txn(transaction));
        expected.push(model.txn(transaction));
      }
      for (const [i, result] of (await Promise.all(results)).entries()) {
        const wanted = expected[i]!;
        // What changed nothing may tell any revision that the store had since it was asked.
        assert.equal(result.succeeded, wanted.succeeded);
        if (!result.succeeded && !wanted.succeeded)
          assert.deepEqual(result.current.map(plain), wanted.current.map(plain));
      }
      assert.equal(running.store.revision, model.revision);
    },
    async () => {
      const key = pick(KEYS);
      const revision = upTo(model.revision + 1);
      const read = running.store.get(key, { revision });
      if (revision > model.revision) await assert.rejects(read, FutureRevisionError);
      else if (revision !== 0 && revision < model.compactRevision) await assert.rejects(read, CompactedError);
      else
        assert.deepEqual(
          plain((await read).kv),
          plain(model.at(revision || model.revision).get(key)),
          `${key} at ${revision}`,
        );
    },
    async () => {
      const range = randomRange();
      const revision = random() < 0.5 ? 0 : upTo(model.revision);
      const limit = random() < 0.5 ? undefined : upTo(4);
      const read = running.store.list(range, { revision, limit });
      if (revision !== 0 && revision < model.compactRevision) return assert.rejects(read, CompactedError);
      const { items, count, more, ...rest } = await read;
      const all = model.list(range, revision || model.revision);
      const expected = limit ? all.slice(0, limit) : all;
      assert.deepEqual(items.map(plain), expected.map(plain));
      assert.deepEqual(
        { count, more, ...rest },
        { count: all.length, more: all.length > expected.length, revision: model.revision },
      );
    },
    async () => {
      const range = randomRange();
      const startRevision = upTo(model.revision + 3);
      const start = startRevision || model.revision + 1;
      const watch = { range, start, got: [] as StoreEvent[], ended: false, until: Number.POSITIVE_INFINITY };
      const started = running.store.watch(
        { range, startRevision },
        {
          events: ({ events }) => watch.got.push(...events),
          end: (error) => {
            assert.equal(error, undefined);
            watch.ended = true;
          },
        },
      );
      if (start <= model.compactRevision) return assert.rejects(started, CompactedError);
      const stop = await started;
      watches.push(watch);
      if (random() < 0.5) return;
      stop();
      watch.until = model.revision;
    },
    async () => {
      if (random() < 0.7) return;
      const revision = upTo(model.revision);
      await running.store.compact(revision);
      model.compactRevision = Math.max(model.compactRevision, revision);
      assert.equal(running.store.compactRevision, model.compactRevision);
    },
    async () => {
      if (running.restart === undefined || random() < 0.7) return;
      await running.restart();
      assert.deepEqual(
        [running.store.revision, running.store.compactRevision],
        [model.revision, model.compactRevision],
      );
      for (const watch of watches) {
        assert.ok(watch.ended);
        watch.until = Math.min(watch.until, model.revision);
      }
    },
  ];
  for (let i = 0; i < STEPS; i++) await (random() < 0.5 ? steps[0]! : pick(steps))();

  // A write behind everything else: when its event is there, all before it are.
  const last: Transaction = {
    compare: [],
    operations: [{ type: 'put', key: '/the/last', value: Buffer.alloc(1) }],
  };
  model.txn(last);
  await new Promise<void>((resolve, reject) => {
    const delivered = { events: () => resolve(), end: () => {} };
    running.store
      .watch({ range: { start: '/the/last' } }, delivered)
      .then(() => running.store.txn(last))
      .catch(reject);
  });
  for (const { range, start, got, until } of watches) {
    const expected = model.events.filter(
      ({ kv }) => inRange(range, kv.key) && kv.modRevision >= start && kv.modRevision <= until,
    );
    assert.deepEqual(got.map(plainEvent), expected.map(plainEvent), JSON.stringify({ range, start, until }));
  }
  assert.deepEqual(
    (await running.store.list({ start: '', end: END_OF_KEYS })).items.map(plain),
    model.list({ start: '', end: END_OF_KEYS }, model.revision).map(plain),
  );
}
