import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BoundedCache } from './bounded-cache.ts';

test('what was used stays longer than what was not', () => {
  const evicted: string[] = [];
  const cache = new BoundedCache<number>({
    maxEntries: 3,
    maxBytes: 1000,
    evicting: (key) => evicted.push(key),
  });
  for (const key of ['a', 'b', 'c']) cache.set(key, 1, 1);
  assert.equal(cache.get('a'), 1);
  cache.set('d', 1, 1);
  assert.deepEqual(evicted, ['b']);
  cache.set('e', 1, 1);
  assert.deepEqual(evicted, ['b', 'c']);
  assert.equal(cache.size, 3);
});

test('bytes are bounded, and what is larger than all of it is not kept', () => {
  const evicted: string[] = [];
  const cache = new BoundedCache<string>({
    maxEntries: 10,
    maxBytes: 100,
    evicting: (key) => evicted.push(key),
  });
  cache.set('a', 'a', 60);
  cache.set('b', 'b', 60);
  assert.deepEqual(evicted, ['a']);
  assert.equal(cache.bytes, 62);
  cache.set('c', 'c', 200);
  assert.deepEqual(evicted, ['a', 'c']);
  assert.equal(cache.get('b'), 'b');
});

test('replacing and taking count right, whatever is done', () => {
  const cache = new BoundedCache<number>({ maxEntries: 50, maxBytes: 700 });
  for (let i = 0; i < 10_000; i++) {
    const key = `k${(i * 7919) % 97}`;
    if (i % 5 === 0) cache.take(key);
    else if (i % 3 === 0) cache.get(key);
    else cache.set(key, i, i % 40);
    assert.ok(cache.size <= 50 && cache.bytes <= 700 && cache.bytes >= 0);
  }
  for (let i = 0; i < 97; i++) cache.delete(`k${i}`);
  assert.deepEqual([cache.size, cache.bytes], [0, 0]);
});
