import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock, silentLogger } from '../component/index.ts';
import { startController } from './controller.ts';
import { ExponentialFailureLimiter } from './rate-limit.ts';
import { eventually, settle } from './testing/eventually.ts';
import { WorkQueue } from './work-queue.ts';

test('a key added many times is taken once', async () => {
  const queue = new WorkQueue({ name: 'q', clock: new ManualClock() });
  for (const key of ['a', 'b', 'a', 'a']) queue.add(key);
  assert.equal(queue.length, 2);
  assert.equal(await queue.take(), 'a');
  assert.equal(await queue.take(), 'b');
});

test('a key that is being processed is not given to anybody else, and comes again afterwards', async () => {
  const queue = new WorkQueue({ name: 'q', clock: new ManualClock() });
  queue.add('a');
  assert.equal(await queue.take(), 'a');
  queue.add('a');
  queue.add('a');
  assert.equal(queue.length, 0);
  const next = queue.take();
  queue.done('a');
  assert.equal(await next, 'a');
  queue.done('a');
  assert.equal(queue.length, 0);
});

test('of several delays for a key the earliest counts, and the key comes once', async () => {
  const clock = new ManualClock();
  const queue = new WorkQueue({ name: 'q', clock });
  queue.addAfter('a', 1000);
  queue.addAfter('a', 100);
  queue.addAfter('b', 500);
  queue.addAfter('a', 5000);
  await clock.advance(99);
  assert.equal(queue.length, 0);
  await clock.advance(1);
  assert.equal(await queue.take(), 'a');
  queue.done('a');
  await clock.advance(10_000);
  assert.equal(await queue.take(), 'b');
  assert.equal(queue.length, 0);
});

test('delayed keys come in the order of their times, whatever order they were added in', async () => {
  const clock = new ManualClock();
  const queue = new WorkQueue<number>({ name: 'q', clock });
  const delays = Array.from({ length: 200 }, (_, i) => ((i * 7919) % 200) + 1);
  for (const ms of delays) queue.addAfter(ms, ms);
  await clock.advance(1000);
  const seen: number[] = [];
  while (queue.length > 0) seen.push((await queue.take())!);
  assert.deepEqual(
    seen,
    [...seen].toSorted((a, b) => a - b),
  );
  assert.equal(seen.length, 200);
});

test('shutting down drains what is queued and drops what is delayed', async () => {
  const clock = new ManualClock();
  const queue = new WorkQueue({ name: 'q', clock });
  queue.add('a');
  queue.addAfter('b', 10);
  queue.shutDown();
  queue.add('c');
  assert.equal(await queue.take(), 'a');
  assert.equal(await queue.take(), undefined);
  await clock.advance(100);
  assert.equal(clock.nextDue(), undefined);
});

test('failures back off exponentially up to the longest delay', () => {
  const limiter = new ExponentialFailureLimiter<string>(5, 1_000_000);
  const delays = Array.from({ length: 20 }, () => limiter.when('a'));
  assert.deepEqual(delays.slice(0, 4), [5, 10, 20, 40]);
  assert.equal(delays.at(-1), 1_000_000);
  limiter.forget('a');
  assert.equal(limiter.when('a'), 5);
});

test('a controller never works on one key twice at a time and never on more than its concurrency', async () => {
  const clock = new ManualClock();
  let active = 0;
  let most = 0;
  const busy = new Set<string>();
  const runs: string[] = [];
  const controller = startController({
    name: 'c',
    clock,
    logger: silentLogger,
    concurrency: 3,
    async reconcile(key) {
      assert.ok(!busy.has(key), `${key} is worked on twice`);
      busy.add(key);
      most = Math.max(most, ++active);
      await settle(3);
      runs.push(key);
      active--;
      busy.delete(key);
    },
  });
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 10; i++) controller.queue.add(`k${i}`);
    await settle(2);
  }
  await controller.queue.idle();
  assert.equal(most, 3);
  assert.equal(new Set(runs).size, 10);
  await controller[Symbol.asyncDispose]();
});

test('a failed key comes back later and a successful one starts afresh', async () => {
  const clock = new ManualClock();
  const times: number[] = [];
  const controller = startController({
    name: 'c',
    clock,
    logger: silentLogger,
    async reconcile() {
      times.push(clock.monotonic());
      if (times.length <= 3) throw new Error('not yet');
      if (times.length === 4) return { requeueAfterMs: 1000 };
      return undefined;
    },
  });
  controller.queue.add('a');
  await settle();
  await clock.advance(5000);
  await settle();
  assert.deepEqual(times, [0, 5, 15, 35, 1035]);
  assert.equal(controller.queue.failures('a'), 0);
  await controller[Symbol.asyncDispose]();
});

test('a controller does nothing before it is ready and waits at the end for what it has under way', async () => {
  const clock = new ManualClock();
  const { promise: ready, resolve: open } = Promise.withResolvers<void>();
  const { promise: work, resolve: finish } = Promise.withResolvers<void>();
  let begun = false;
  let aborted = false;
  const controller = startController({
    name: 'c',
    clock,
    logger: silentLogger,
    ready,
    async reconcile(_, signal) {
      begun = true;
      signal.addEventListener('abort', () => {
        aborted = true;
      });
      await work;
    },
  });
  controller.queue.add('a');
  await settle();
  assert.equal(begun, false);
  open();
  await eventually('the reconcile', () => begun);
  let disposed = false;
  const disposing = controller[Symbol.asyncDispose]().then(() => {
    disposed = true;
  });
  await settle();
  assert.equal(aborted, true);
  assert.equal(disposed, false);
  finish();
  await disposing;
});
