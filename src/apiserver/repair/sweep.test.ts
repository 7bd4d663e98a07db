import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock, silentLogger } from '../../component/index.ts';
import { Sweep } from './sweep.ts';

function sweepOf(
  look: (key: string, signal: AbortSignal) => Promise<void> | undefined,
  all: () => string[] = () => [],
) {
  const clock = new ManualClock();
  const sweep = new Sweep({ name: 'test', clock, logger: silentLogger, intervalMs: 60_000, all, look });
  const advance = async (ms: number) => {
    await clock.advance(ms);
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  return { sweep, advance };
}

test('each key is looked at once for any number of reasons, and all of them from time to time', async () => {
  const seen: string[] = [];
  const { sweep, advance } = sweepOf(
    (key) => void seen.push(key),
    () => ['a', 'b', 'c'],
  );
  sweep.add('a');
  sweep.add('b');
  sweep.add('a');
  assert.deepEqual(seen, [], 'not before the transaction is whole');
  await advance(0);
  assert.deepEqual(seen, ['a', 'b']);
  await advance(60_000);
  await advance(0);
  assert.deepEqual(seen, ['a', 'b', 'a', 'b', 'c']);
  sweep[Symbol.dispose]();
  await advance(120_000);
  assert.equal(seen.length, 5);
});

test('what fails is tried again later and later, and others are not kept waiting', async () => {
  const seen: string[] = [];
  let failing = 3;
  const { sweep, advance } = sweepOf((key) => {
    seen.push(key);
    if (key === 'now') throw new Error('at once');
    if (key === 'bad' && failing-- > 0) return Promise.reject(new Error('later'));
    return undefined;
  });
  sweep.add('bad');
  sweep.add('good');
  await advance(0);
  assert.deepEqual(seen, ['bad', 'good']);
  await advance(100);
  await advance(0);
  await advance(150);
  await advance(0);
  assert.equal(seen.length, 3, 'the second wait is longer');
  await advance(50);
  await advance(0);
  await advance(400);
  await advance(0);
  assert.deepEqual(seen, ['bad', 'good', 'bad', 'bad', 'bad']);
  await advance(30_000);
  assert.equal(seen.length, 5, 'it is well now');
  sweep[Symbol.dispose]();
});

test('few repairs are under way at once, and disposing tells them to stop', async () => {
  let running = 0;
  let most = 0;
  let stopped = 0;
  const open: (() => void)[] = [];
  const { sweep, advance } = sweepOf((_key, signal) => {
    most = Math.max(most, ++running);
    signal.addEventListener('abort', () => stopped++);
    return new Promise<void>((resolve) => {
      open.push(() => {
        running--;
        resolve();
      });
    });
  });
  for (let i = 0; i < 100; i++) sweep.add(`k${i}`);
  await advance(0);
  assert.equal(running, 16);
  for (let i = 0; i < 10; i++) open.shift()?.();
  await advance(0);
  assert.deepEqual([running, most], [16, 16]);
  sweep[Symbol.dispose]();
  assert.ok(stopped >= 16);
  for (const end of open) end();
  await advance(0);
});
