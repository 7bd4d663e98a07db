import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { StoreEvent } from '../store.ts';
import { ChangeLog } from './change-log.ts';

function change(modRevision: number): StoreEvent {
  return {
    type: 'put',
    kv: { key: 'k', value: new Uint8Array(1), createRevision: 1, modRevision, version: modRevision },
  };
}

const revisions = (events: readonly StoreEvent[]): number[] => events.map(({ kv }) => kv.modRevision);

test('changes are told from any revision on, whatever is gone before', () => {
  const log = new ChangeLog();
  for (let revision = 1; revision <= 10_000; revision++) log.push(change(revision));
  for (let gone = 0; gone < 9_000; gone++) log.shift();
  assert.equal(log.first()?.kv.modRevision, 9_001);
  assert.deepEqual(revisions(log.from(1)).slice(0, 2), [9_001, 9_002]);
  assert.equal(log.from(1).length, 1_000);
  assert.deepEqual(revisions(log.from(9_999)), [9_999, 10_000]);
  assert.deepEqual(log.from(10_001), []);
});

test('a change that is gone holds no memory, though others of its block stay', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const log = new ChangeLog();
  const values: WeakRef<StoreEvent>[] = [];
  for (let revision = 1; revision <= 100; revision++) {
    const event = change(revision);
    values.push(new WeakRef(event));
    log.push(event);
  }
  for (let gone = 0; gone < 90; gone++) log.shift();
  return new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    collect();
    assert.equal(values.filter((value) => value.deref() !== undefined).length, 10);
    assert.equal(log.from(1).length, 10);
  });
});
