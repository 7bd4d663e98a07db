import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../../component/index.ts';
import { Gate } from './gate.ts';

test('a few pass at a time, in order, failures too, and one that hangs gives its place up', async () => {
  const clock = new ManualClock();
  const gate = new Gate({ clock, width: 2, holdMs: 1000 });
  const begun: number[] = [];
  const doors = Array.from({ length: 5 }, () => Promise.withResolvers<number>());
  const passes = doors.map((door, i) =>
    gate.pass(() => {
      begun.push(i);
      return door.promise;
    }),
  );
  const settle = (): Promise<void> => clock.advance(0);
  await settle();
  assert.deepEqual(begun, [0, 1]);
  doors[1]!.reject(new Error('broken'));
  await assert.rejects(passes[1]!, /broken/);
  await settle();
  assert.deepEqual(begun, [0, 1, 2]);
  doors[2]!.resolve(2);
  assert.equal(await passes[2], 2);
  await settle();
  assert.deepEqual(begun, [0, 1, 2, 3]);
  await clock.advance(1000);
  assert.deepEqual(begun, [0, 1, 2, 3, 4]);
  for (const [i, door] of doors.entries()) if (i !== 1) door.resolve(i);
  assert.deepEqual(await Promise.all(passes.filter((_, i) => i !== 1)), [0, 2, 3, 4]);
  // What came back late has not made the gate wider.
  const after: string[] = [];
  const more = ['a', 'b', 'c'].map((name) => {
    const door = Promise.withResolvers<void>();
    const work = (): Promise<void> => {
      after.push(name);
      return door.promise;
    };
    return { door, done: gate.pass(work) };
  });
  await settle();
  assert.deepEqual(after, ['a', 'b']);
  for (const { door } of more) door.resolve();
  await Promise.all(more.map(({ done }) => done));
});
