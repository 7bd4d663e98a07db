import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '../../api/object.ts';
import type { Transport, WatchEvent } from '../../api/transport.ts';
import type { Status } from '../../api/types/meta-v1.ts';
import { ManualClock } from '../../component/index.ts';
import { createMemoryStore } from '../../store/index.ts';
import { startTestServer } from '../testing/test-server.ts';

const resource = { group: '', version: 'v1', resource: 'configmaps' };
const pods = { group: '', version: 'v1', resource: 'pods' };
const namespace = 'default';

const create = (api: Transport, name: string, labels: Record<string, string> = {}): Promise<KubeObject> =>
  api.call({
    verb: 'create',
    resource,
    namespace,
    body: { metadata: { name, labels } },
  }) as Promise<KubeObject>;
const label = (api: Transport, name: string, labels: Record<string, string | null>): Promise<unknown> =>
  api.call({
    verb: 'patch',
    resource,
    namespace,
    name,
    patchType: 'application/merge-patch+json',
    body: { metadata: { labels } },
  });
const remove = (api: Transport, name: string): Promise<unknown> =>
  api.call({ verb: 'delete', resource, namespace, name });

/** The next `count` events as `TYPE name@labels`. */
async function take(events: AsyncIterable<WatchEvent>, count: number): Promise<WatchEvent[]> {
  const iterator = events[Symbol.asyncIterator]();
  const taken: WatchEvent[] = [];
  while (taken.length < count) {
    const { done, value } = await iterator.next();
    assert.ok(done !== true, `the watch ended after ${taken.length} of ${count} events`);
    taken.push(value);
  }
  return taken;
}

function told(events: readonly WatchEvent[]): string[] {
  return events.map(({ type, object }) => `${type} ${(object as KubeObject).metadata.name ?? ''}`);
}

test('a watch without a revision begins with what is there and goes on with changes', async () => {
  await using server = await startTestServer();
  const api = server.transport;
  await create(api, 'a');
  const events = await api.watch({ resource, namespace });
  await create(api, 'b');
  await label(api, 'a', { x: 'y' });
  await remove(api, 'b');
  assert.deepEqual(told(await take(events, 4)), ['ADDED a', 'ADDED b', 'MODIFIED a', 'DELETED b']);
});

test('a watch from a revision tells every change after it, once', async () => {
  await using server = await startTestServer();
  const api = server.transport;
  const a = await create(api, 'a');
  await create(api, 'b');
  await remove(api, 'a');
  const events = await api.watch({
    resource,
    namespace,
    query: { resourceVersion: a.metadata.resourceVersion },
  });
  await create(api, 'c');
  const taken = await take(events, 3);
  assert.deepEqual(told(taken), ['ADDED b', 'DELETED a', 'ADDED c']);
  const revisions = taken.map(({ object }) => Number((object as KubeObject).metadata.resourceVersion));
  assert.deepEqual(revisions, [revisions[0], revisions[0]! + 1, revisions[0]! + 2]);
});

test('an object that begins or stops to match a selector is told as ADDED or DELETED', async () => {
  await using server = await startTestServer();
  const api = server.transport;
  await create(api, 'a', { app: 'x' });
  await create(api, 'b');
  const events = await api.watch({ resource, namespace, query: { labelSelector: 'app=x' } });
  await label(api, 'b', { app: 'x' });
  await label(api, 'b', { more: 'y' });
  await label(api, 'a', { app: null });
  await label(api, 'a', { other: 'z' });
  await remove(api, 'b');
  const taken = await take(events, 5);
  assert.deepEqual(told(taken), ['ADDED a', 'ADDED b', 'MODIFIED b', 'DELETED a', 'DELETED b']);
  const gone = taken[3]!.object as KubeObject;
  assert.deepEqual(gone.metadata.labels, { app: 'x' });
  // What is told of the object that stopped to match is its last matching state, under the revision of the change.
  assert.equal(
    Number(gone.metadata.resourceVersion),
    Number((taken[2]!.object as KubeObject).metadata.resourceVersion) + 1,
  );
});

test('a watch of the pods of a node hears of a pod when it is bound and no more when it is another node’s', async () => {
  await using server = await startTestServer();
  const api = server.transport;
  const body = { metadata: { name: 'p' }, spec: { containers: [{ name: 'c', image: 'i' }] } };
  const mine = await api.watch({ resource: pods, query: { fieldSelector: 'spec.nodeName=n1' } });
  const waiting = await api.watch({ resource: pods, query: { fieldSelector: 'spec.nodeName=' } });
  const others = await api.watch({
    resource: pods,
    query: { fieldSelector: 'spec.nodeName=n2', timeoutSeconds: '1' },
  });
  await api.call({ verb: 'create', resource: pods, namespace, body });
  await api.call({
    verb: 'create',
    resource: pods,
    namespace,
    name: 'p',
    subresource: 'binding',
    body: { metadata: { name: 'p' }, target: { name: 'n1' } },
  });
  assert.deepEqual(told(await take(waiting, 2)), ['ADDED p', 'DELETED p']);
  assert.deepEqual(told(await take(mine, 1)), ['ADDED p']);
  const heard = [];
  for await (const event of others) heard.push(event);
  assert.deepEqual(heard, []);
});

test('sendInitialEvents gives the state, a bookmark that says so, and then changes', async () => {
  await using server = await startTestServer();
  const api = server.transport;
  await create(api, 'a');
  await create(api, 'b');
  const query = {
    sendInitialEvents: 'true',
    resourceVersionMatch: 'NotOlderThan',
    allowWatchBookmarks: 'true',
  };
  const events = await api.watch({ resource, namespace, query });
  const taken = await take(events, 3);
  assert.deepEqual(told(taken), ['ADDED a', 'ADDED b', 'BOOKMARK ']);
  const { metadata } = taken[2]!.object as KubeObject;
  assert.equal(metadata.annotations?.['k8s.io/initial-events-end'], 'true');
  assert.equal(metadata.resourceVersion, String(server.store.revision));
  await create(api, 'c');
  assert.deepEqual(told(await take(events, 1)), ['ADDED c']);
  const without = await api.watch({
    resource,
    namespace,
    query: { sendInitialEvents: 'false', resourceVersionMatch: 'NotOlderThan' },
  });
  await create(api, 'd');
  assert.deepEqual(told(await take(without, 1)), ['ADDED d']);
  await assert.rejects(api.watch({ resource, namespace, query: { sendInitialEvents: 'true' } }), {
    reason: 'Invalid',
  });
});

test('bookmarks tell the newest revision of the whole store to whoever asked for them', async () => {
  const clock = new ManualClock();
  await using server = await startTestServer({ clock });
  const api = server.transport;
  const events = await api.watch({
    resource: pods,
    query: { allowWatchBookmarks: 'true', resourceVersion: '0' },
  });
  await create(api, 'a');
  await create(api, 'b');
  await clock.advance(61_000);
  const [bookmark] = await take(events, 1);
  assert.equal(bookmark!.type, 'BOOKMARK');
  assert.equal((bookmark!.object as KubeObject).metadata.resourceVersion, String(server.store.revision));
});

test('a revision that is no longer known is told as an ERROR event with 410 and ends the watch', async () => {
  await using server = await startTestServer({ watchHistory: { least: 2, keepMs: 0, most: 4 } });
  const api = server.transport;
  const first = await create(api, 'a');
  for (let i = 0; i < 8; i++) await create(api, `n${i}`);
  const events = await api.watch({
    resource,
    namespace,
    query: { resourceVersion: first.metadata.resourceVersion },
  });
  const all: WatchEvent[] = [];
  for await (const event of events) all.push(event);
  assert.equal(all.length, 1);
  assert.equal(all[0]!.type, 'ERROR');
  const status = all[0]!.object as Status;
  assert.equal(status.code, 410);
  assert.equal(status.reason, 'Expired');
  assert.match(status.message ?? '', /^too old resource version: \d+ \(\d+\)$/);
});

test('a watcher that does not read is caught up from history, and closed when that is gone', async () => {
  await using server = await startTestServer({ watchHistory: { least: 3_000, keepMs: 0, most: 3_000 } });
  const api = server.transport;
  const slow = await api.watch({ resource, namespace });
  for (let i = 0; i < 2_500; i++) await create(api, `n${String(i).padStart(5, '0')}`);
  const caughtUp = told(await take(slow, 2_500));
  assert.equal(new Set(caughtUp).size, 2_500);
  assert.equal(caughtUp.at(-1), 'ADDED n02499');
  for (let i = 2_500; i < 7_500; i++) await create(api, `n${String(i).padStart(5, '0')}`);
  const rest: WatchEvent[] = [];
  for await (const event of slow) rest.push(event);
  assert.ok(rest.length < 5_000);
  assert.equal(rest.at(-1)!.type, 'ERROR');
  assert.equal((rest.at(-1)!.object as Status).code, 410);
});

test('watchers of before a restart go on where they were', async () => {
  const store = createMemoryStore();
  let version: string;
  {
    await using server = await startTestServer({ store });
    const a = await create(server.transport, 'a', { app: 'x' });
    version = a.metadata.resourceVersion;
    await create(server.transport, 'b');
    await label(server.transport, 'a', { app: null });
  }
  await using server = await startTestServer({ store });
  const events = await server.transport.watch({
    resource,
    namespace,
    query: { resourceVersion: version, labelSelector: 'app=x' },
  });
  assert.deepEqual(told(await take(events, 1)), ['DELETED a']);
  await store[Symbol.asyncDispose]();
});

test('an aborted watch ends its iteration and leaves no watcher behind', async () => {
  await using server = await startTestServer();
  const controller = new AbortController();
  const events = await server.transport.watch({ resource, namespace, signal: controller.signal });
  const reading = (async () => {
    for await (const _event of events);
  })();
  controller.abort();
  await reading;
  for await (const _event of await server.transport.watch({
    resource,
    namespace,
    query: { timeoutSeconds: '1' },
  }));
});

test('the server ends its watches when it stops', async () => {
  const server = await startTestServer();
  const events = await server.transport.watch({ resource, namespace });
  const ended = (async () => {
    for await (const _event of events);
    return true;
  })();
  await server[Symbol.asyncDispose]();
  assert.equal(await ended, true);
});
