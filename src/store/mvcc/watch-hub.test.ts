import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../conformance/model.ts';
import { END_OF_KEYS, type KeyRange, prefixEnd, type StoreEvent } from '../store.ts';
import { eventsInRange, Watcher, WatchHub } from './watch-hub.ts';

test('each of many watches, coming and going, gets exactly the changes of its range', () => {
  const random = seededRandom(5);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const keys = ['/', '/a', '/a/', '/a/1', '/a/2/3', '/b', '/b/\ue000', '/b/😀', '/b/😀/x', '/c', '/c/1', '0'];
  const hub = new WatchHub();
  const watches: { range: KeyRange; watcher: Watcher; ended: boolean; got: string[]; wanted: string[] }[] =
    [];
  const named = ({ kv }: StoreEvent) => `${kv.key}@${kv.modRevision}`;
  const randomRange = (): KeyRange => {
    const start = pick(keys);
    if (random() < 0.3) return { start };
    if (random() < 0.1) return { start: '', end: END_OF_KEYS };
    return { start, end: random() < 0.6 ? prefixEnd(start) : pick(keys) };
  };
  for (let revision = 1; revision <= 3_000; revision++) {
    if (random() < 0.2) {
      const range = randomRange();
      const watcher: Watcher = new Watcher(
        {
          events: ({ events }) => watch.got.push(...events.map(named)),
          end: () => {
            watch.ended = true;
          },
        },
        { startRevision: revision, progress: false },
        (error) => assert.fail(String(error)),
      );
      const watch = { range, watcher, ended: false, got: [] as string[], wanted: [] as string[] };
      hub.add(range, watcher);
      watches.push(watch);
    }
    if (random() < 0.15 && watches.length > 0) pick(watches).watcher.end();
    const events = Array.from({ length: 1 + Math.floor(random() * 3) }, (): StoreEvent => {
      const kv = {
        key: pick(keys),
        value: new Uint8Array(0),
        createRevision: 1,
        modRevision: revision,
        version: 1,
      };
      return { type: 'put', kv };
    });
    for (const { range, ended, wanted } of watches)
      if (!ended) wanted.push(...eventsInRange(range, events).map(named));
    hub.publish(events, revision);
  }
  assert.ok(watches.length > 400);
  for (const { range, got, wanted } of watches)
    assert.equal(got.join(' '), wanted.join(' '), JSON.stringify(range));
  for (const { watcher } of watches) watcher.end();
  assert.equal(hub.size, 0);
});
