import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TimerQueue } from './timer-queue.ts';

test('timers expire in order of their deadlines, equal ones in order of setting', () => {
  const queue = new TimerQueue();
  const seen: string[] = [];
  queue.at(30, () => seen.push('c'));
  queue.at(10, () => seen.push('a1'));
  queue.at(20, () => seen.push('b'));
  queue.at(10, () => seen.push('a2'));
  assert.equal(queue.next, 10);
  assert.equal(queue.run(20), 3);
  assert.deepEqual(seen, ['a1', 'a2', 'b']);
  assert.equal(queue.next, 30);
});

test('a timer set for the past while timers run waits for the next run, and can be cancelled before it', () => {
  const queue = new TimerQueue();
  const seen: string[] = [];
  let inner: { cancel(): void } | undefined;
  queue.at(10, () => {
    seen.push('first');
    inner = queue.at(5, () => seen.push('never'));
  });
  queue.at(11, () => {
    seen.push('second');
    inner?.cancel();
  });
  assert.equal(queue.run(100), 2);
  assert.equal(queue.run(100), 0);
  assert.deepEqual(seen, ['first', 'second']);
  assert.equal(queue.next, Infinity);
});

test('of ten thousand timers, those that are not cancelled expire, each once, in order', () => {
  const queue = new TimerQueue();
  let seed = 1;
  const random = (): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return seed >>> 8;
  };
  const expired: number[] = [];
  const timers = Array.from({ length: 10_000 }, () => {
    const deadline = random() % 5000;
    return { deadline, timer: queue.at(deadline, () => expired.push(deadline)) };
  });
  const left = timers.filter(({ timer }) => {
    const keep = random() % 2 === 0;
    if (!keep) timer.cancel();
    return keep;
  });
  for (let now = 0; now < 5000; now += 700) queue.run(now);
  queue.run(5000);
  assert.deepEqual(
    expired,
    left.map(({ deadline }) => deadline).sort((a, b) => a - b),
  );
  assert.equal(queue.size, 0);
});
