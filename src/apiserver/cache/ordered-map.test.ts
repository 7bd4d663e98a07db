import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OrderedMap } from './ordered-map.ts';

/** A small generator with a seed, so that a failure can be repeated. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function keysOf(map: OrderedMap<number>, start = '', end = ''): string[] {
  const keys: string[] = [];
  map.scan(start, end, (_value, key) => {
    keys.push(key);
    return true;
  });
  return keys;
}

test('an ordered map agrees with a sorted plain map through random insertions and deletions', () => {
  const next = random(7);
  const map = new OrderedMap<number>();
  const plain = new Map<string, number>();
  for (let step = 0; step < 20_000; step++) {
    const key = `ns-${Math.floor(next() * 20)}/name-${Math.floor(next() * 300)}`;
    if (next() < 0.65) {
      map.set(key, step);
      plain.set(key, step);
    } else {
      assert.equal(map.delete(key), plain.get(key));
      plain.delete(key);
    }
    assert.equal(map.size, plain.size);
    if (step % 500 !== 0) continue;
    const sorted = [...plain.keys()].sort();
    assert.deepEqual(keysOf(map), sorted);
    const start = `ns-${Math.floor(next() * 20)}/`;
    const end = start.replace('/', '0');
    const range = sorted.filter((k) => k >= start && k < end);
    assert.deepEqual(keysOf(map, start, end), range);
    assert.equal(map.count(start, end), range.length);
    for (const [k, v] of plain) assert.equal(map.get(k), v);
  }
});

test('a scan stops where the visitor says so and starts between keys', () => {
  const map = new OrderedMap<number>();
  for (let i = 0; i < 2000; i++) map.set(String(i).padStart(5, '0'), i);
  const seen: number[] = [];
  map.scan('00999x', '', (value) => seen.push(value) < 3);
  assert.deepEqual(seen, [1000, 1001, 1002]);
  assert.equal(map.count('', ''), 2000);
  assert.equal(map.count('01990', ''), 10);
});
