import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resourceExpired } from '../api/index.ts';
import type { Pod } from '../api/types/core-v1.ts';
import { ManualClock } from '../component/index.ts';
import { createClient } from './client.ts';
import { resources } from './resources.ts';
import { eventually, settle } from './testing/eventually.ts';
import { FakeApi } from './testing/fake-api.ts';

const pod = (name: string, labels: Record<string, string> = {}) => ({
  metadata: { name, labels },
  spec: { containers: [] },
});

function recording() {
  const log: string[] = [];
  return {
    log,
    handler: {
      added: (p: Pod, { initial }: { initial: boolean }) =>
        void log.push(`added ${p.metadata.name}${initial ? ' initially' : ''}`),
      updated: (p: Pod, old: Pod) =>
        void log.push(
          `updated ${p.metadata.name} from ${old.metadata.labels?.['v']} to ${p.metadata.labels?.['v']}`,
        ),
      deleted: (p: Pod, { finalStateUnknown }: { finalStateUnknown: boolean }) =>
        void log.push(`deleted ${p.metadata.name}${finalStateUnknown ? ' unseen' : ''}`),
    },
  };
}

for (const refuseStreamingLists of [false, true]) {
  const way = refuseStreamingLists ? 'list and watch' : 'streaming list';
  test(`an informer fills its cache by ${way} and follows changes`, async () => {
    const api = new FakeApi({ refuseStreamingLists });
    await using client = createClient(api);
    const pods = client.resource(resources.pods, 'ns');
    await pods.create(pod('a', { v: '1' }));
    await using informer = client.informers.informer(resources.pods);
    const { log, handler } = recording();
    informer.addHandler(handler);
    await informer.synced;
    const b = await pods.create(pod('b', { v: '1' }));
    await pods.update({ ...b, metadata: { ...b.metadata, labels: { v: '2' } } });
    await pods.delete('a');
    await eventually('all events', () => log.length === 4);
    assert.deepEqual(log, ['added a initially', 'added b', 'updated b from 1 to 2', 'deleted a']);
    assert.deepEqual(
      informer.lister.list('ns').map((p) => p.metadata.name),
      ['b'],
    );
    assert.equal(
      api.calls.some((c) => c.startsWith('list')),
      refuseStreamingLists,
    );
  });
}

test('the cache shares the objects of an in-process server, and two informers share one cache', async () => {
  const api = new FakeApi();
  await using client = createClient(api);
  const created = await client.resource(resources.pods, 'ns').create(pod('a'));
  const first = client.informers.informer(resources.pods);
  await using second = client.informers.informer(resources.pods);
  await Promise.all([first.synced, second.synced]);
  assert.equal(first.lister.get('ns/a'), created);
  assert.equal(second.lister, first.lister);
  assert.equal(api.openWatches, 1);
  assert.equal(client.informers.metadata(resources.pods).lister, first.lister);
});

test('the last informer disposed ends the watch, and no handler is called afterwards', async () => {
  const api = new FakeApi();
  await using client = createClient(api);
  const first = client.informers.informer(resources.pods);
  const second = client.informers.informer(resources.pods);
  const { log, handler } = recording();
  first.addHandler(handler);
  await Promise.all([first.synced, second.synced]);
  await first[Symbol.asyncDispose]();
  assert.equal(api.openWatches, 1);
  await client.resource(resources.pods, 'ns').create(pod('a'));
  await eventually('the second informer to see it', () => second.lister.has('ns/a'));
  assert.deepEqual(log, []);
  await second[Symbol.asyncDispose]();
  assert.equal(api.openWatches, 0);
});

test('a handler that comes late is told what is there before anything else', async () => {
  await using client = createClient(new FakeApi());
  await client.resource(resources.pods, 'ns').create(pod('a'));
  await using informer = client.informers.informer(resources.pods);
  await informer.synced;
  const { log, handler } = recording();
  informer.addHandler(handler);
  assert.deepEqual(log, ['added a initially']);
});

test('a handler that throws takes nothing from the others', async () => {
  await using client = createClient(new FakeApi());
  await using informer = client.informers.informer(resources.pods);
  informer.addHandler({
    added() {
      throw new Error('broken');
    },
  });
  const { log, handler } = recording();
  informer.addHandler(handler);
  await informer.synced;
  await client.resource(resources.pods, 'ns').create(pod('a'));
  await eventually('the event', () => log.length === 1);
});

test('a watch that ends is resumed from the last version, without listing again', async () => {
  const clock = new ManualClock();
  const api = new FakeApi({ clock });
  await using client = createClient(api, { clock });
  await using informer = client.informers.informer(resources.pods);
  const { log, handler } = recording();
  informer.addHandler(handler);
  await informer.synced;
  await clock.advance(60_000);
  api.dropWatches();
  await client.resource(resources.pods, 'ns').create(pod('a'));
  await eventually('the missed event', () => log.includes('added a'));
  assert.equal(api.calls.filter((c) => c.startsWith('watch')).length, 2);
});

test('a watch that ends at once is not asked for in a tight loop', async () => {
  const clock = new ManualClock();
  const api = new FakeApi({ clock });
  await using client = createClient(api, { clock });
  await using informer = client.informers.informer(resources.pods);
  await informer.synced;
  api.intercept = (call) => (call.verb === 'watch' ? (async function* () {})() : undefined);
  api.dropWatches();
  await settle(50);
  assert.ok(api.calls.length <= 3, `${api.calls.length} calls without time passing`);
  await clock.advance(10_000);
  assert.ok(api.calls.length > 2);
});

for (const refuseStreamingLists of [false, true]) {
  test(`after 410 the state is read anew and what was missed is reported (streaming: ${!refuseStreamingLists})`, async () => {
    const clock = new ManualClock();
    const api = new FakeApi({ clock, refuseStreamingLists });
    await using client = createClient(api, { clock });
    const pods = client.resource(resources.pods, 'ns');
    await pods.create(pod('gone'));
    await pods.create(pod('replaced', { v: '1' }));
    const changed = await pods.create(pod('changed', { v: '1' }));
    await using informer = client.informers.informer(resources.pods);
    await informer.synced;
    const { log, handler } = recording();
    informer.addHandler(handler);
    log.length = 0;
    await eventually('the watch', () => api.openWatches === 1);
    let blocked = true;
    api.intercept = (call) => {
      if (call.verb === 'watch' && blocked) throw new Error('connection refused');
      return undefined;
    };
    api.dropWatches();
    await settle();
    await pods.delete('gone');
    await pods.delete('replaced');
    await pods.create(pod('replaced', { v: '2' }));
    await pods.update({ ...changed, metadata: { ...changed.metadata, labels: { v: '2' } } });
    api.compact();
    blocked = false;
    await clock.advance(10_000);
    await eventually('the missed changes', () => log.length === 4);
    assert.deepEqual(log.toSorted(), [
      'added replaced',
      'deleted gone unseen',
      'deleted replaced unseen',
      'updated changed from 1 to 2',
    ]);
  });
}

test('an ERROR event with Expired on a running watch leads to a relist', async () => {
  const clock = new ManualClock();
  const api = new FakeApi({ clock });
  await using client = createClient(api, { clock });
  await using informer = client.informers.informer(resources.pods);
  await informer.synced;
  api.dropWatches(resourceExpired('too old resource version'));
  await eventually('a new streaming list', () => api.calls.length === 2);
  await client.resource(resources.pods, 'ns').create(pod('a'));
  await eventually('the next event', () => informer.lister.size === 1);
});

test('an index follows adds, changes and deletes', async () => {
  await using client = createClient(new FakeApi());
  const pods = client.resource(resources.pods, 'ns');
  await using informer = client.informers.informer(resources.pods);
  const byApp = informer.index((p) => (p.metadata.labels?.['app'] ? [p.metadata.labels['app']] : []));
  await informer.synced;
  const names = (app: string) => byApp.list(app).map((p) => p.metadata.name);
  const a = await pods.create(pod('a', { app: 'web' }));
  await pods.create(pod('b', { app: 'web' }));
  await eventually('both', () => byApp.count('web') === 2);
  await pods.update({ ...a, metadata: { ...a.metadata, labels: { app: 'db' } } });
  await eventually('the move', () => byApp.count('db') === 1);
  assert.deepEqual(names('web'), ['b']);
  await pods.delete('b');
  await eventually('the delete', () => byApp.count('web') === 0);
  assert.deepEqual([...byApp.values()], ['db']);
});

test('selectors make caches of their own and objects that stop matching are deleted from them', async () => {
  await using client = createClient(new FakeApi());
  const pods = client.resource(resources.pods, 'ns');
  await using web = client.informers.informer(resources.pods, { labelSelector: 'app=web' });
  await web.synced;
  const a = await pods.create(pod('a', { app: 'web' }));
  await pods.create(pod('b', { app: 'db' }));
  await eventually('a', () => web.lister.size === 1);
  await pods.update({ ...a, metadata: { ...a.metadata, labels: {} } });
  await eventually('a gone', () => web.lister.size === 0);
});

test('an informer stopped before its first state rejects synced', async () => {
  const api = new FakeApi();
  api.intercept = () => new Promise(() => {});
  const client = createClient(api);
  const informer = client.informers.informer(resources.pods);
  const stopping = informer[Symbol.asyncDispose]();
  await assert.rejects(informer.synced, /stopped before it synced/);
  await stopping;
});
