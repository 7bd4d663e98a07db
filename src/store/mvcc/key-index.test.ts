import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../conformance/model.ts';
import type { KeyValue, StoreEvent } from '../store.ts';
import { ChangeLog } from './change-log.ts';
import { isDeleted, KeyIndex } from './key-index.ts';
import { orderKey } from './key-order.ts';

function state(key: string, modRevision: number, version = 1): KeyValue {
  return { key, value: new Uint8Array(0), createRevision: modRevision, modRevision, version };
}

test('20,000 random insertions, deletions and removals keep the index in order and its counts right', () => {
  const random = seededRandom(1);
  const index = new KeyIndex();
  const expected = new Map<string, KeyValue>();
  const names = Array.from(
    { length: 6_000 },
    (_, i) => `/k/${i % 2 === 0 ? i : `é${i}`}${i % 500 === 0 ? '😀' : ''}`,
  );
  for (let step = 1; step <= 20_000; step++) {
    const key = names[Math.floor(random() * names.length)]!;
    // First it grows, then it shrinks until chunks are joined.
    if (random() < (step < 12_000 ? 0.1 : 0.8)) {
      index.remove(orderKey(key));
      expected.delete(key);
    } else {
      const pushed = state(key, step, random() < 0.2 ? 0 : 1);
      index.push(pushed);
      expected.set(key, pushed);
    }
    if (step % 500 !== 0) continue;
    assert.equal(index.size, expected.size);
    const sorted = [...expected.values()].sort((a, b) =>
      Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)),
    );
    const [from, to] = [random(), random()].sort().map((part) => Math.floor(part * sorted.length));
    for (const [start, end] of [
      ['', undefined],
      [sorted[from!]!.key, sorted[to!]?.key],
      [`${sorted[from!]!.key}\0`, undefined],
    ] as const) {
      const inRange = sorted.filter(
        ({ key }) => orderKey(key) >= orderKey(start) && (end === undefined || orderKey(key) < orderKey(end)),
      );
      const found: KeyValue[] = [];
      let live = 0;
      for (const stretch of index.stretches(orderKey(start), end === undefined ? undefined : orderKey(end))) {
        live += stretch.live;
        for (let i = stretch.from; i < stretch.to; i++) found.push(stretch.entries[i]!.current);
      }
      assert.deepEqual(found, inRange);
      assert.equal(live, inRange.filter((kv) => !isDeleted(kv)).length);
    }
    for (const key of names.slice(0, 200))
      assert.equal(index.find(orderKey(key))?.current, expected.get(key));
  }
});

test('an entry finds its state at each revision, and drops exactly those that were replaced', () => {
  const index = new KeyIndex();
  for (const revision of [2, 5, 6, 9]) index.push(state('/a', revision));
  const entry = index.find('/a')!;
  const at = () => Array.from({ length: 11 }, (_, revision) => entry.at(revision)?.modRevision);
  assert.deepEqual(at(), [undefined, undefined, 2, 2, 2, 5, 6, 6, 6, 9, 9]);
  assert.deepEqual(entry.dropReplaced(4), []);
  assert.deepEqual(
    entry.dropReplaced(6).map(({ modRevision }) => modRevision),
    [2, 5],
  );
  assert.deepEqual(at().slice(6), [6, 6, 6, 9, 9]);
  assert.deepEqual(
    entry.dropReplaced(9).map(({ modRevision }) => modRevision),
    [6],
  );
  assert.deepEqual(entry.dropReplaced(100), []);
  assert.equal(entry.at(9)?.modRevision, 9);
});

test('order keys stand in the order of the UTF-8 bytes of random keys', () => {
  const random = seededRandom(2);
  const points = [
    0, 0x2f, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xfffd, 0xffff, 0x10000, 0x1f600, 0x10ffff,
  ];
  const key = () =>
    Array.from({ length: Math.floor(random() * 4) }, () =>
      String.fromCodePoint(points[Math.floor(random() * points.length)]!),
    ).join('');
  for (let i = 0; i < 20_000; i++) {
    const [a, b] = [key(), key()];
    const [x, y] = [orderKey(a), orderKey(b)];
    const order = x < y ? -1 : x > y ? 1 : 0;
    assert.equal(order, Buffer.compare(Buffer.from(a), Buffer.from(b)), JSON.stringify([a, b]));
  }
});

test('the change log gives back what came in, from any revision, across its blocks', () => {
  const log = new ChangeLog();
  const event = (revision: number): StoreEvent => ({ type: 'put', kv: state('/a', revision) });
  // Every third revision has two changes.
  const events = Array.from({ length: 10_000 }, (_, i) => event(Math.floor((i * 3) / 4) + 1));
  for (const e of events) log.push(e);
  for (let gone = 0; gone <= events.length; gone += 999) {
    const rest = events.slice(gone);
    assert.equal(log.first(), rest[0]);
    for (const revision of [0, 1, 3_000, 3_071, 3_072, 3_073, 7_500, 7_501])
      assert.deepEqual(
        log.from(revision),
        rest.filter(({ kv }) => kv.modRevision >= revision),
      );
    for (let i = 0; i < 999; i++) log.shift();
  }
  assert.equal(log.first(), undefined);
  log.push(event(9_000));
  assert.equal(log.from(1).length, 1);
});
