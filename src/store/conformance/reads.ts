// Conformance of reads: order of keys, ranges, paging, old revisions.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { END_OF_KEYS, FutureRevisionError, prefixEnd } from '../store.ts';
import { bytes, EVERYTHING, keysOf, prefix, put, remove, type Start, text, write } from './fixture.ts';

export function testReads(start: Start): void {
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
