import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock, silentLogger } from '../../component/index.ts';
import { createMemoryStore, type Store, type WatchHandler, type WatchOptions } from '../../store/index.ts';
import { Change, EventRing } from './event-ring.ts';
import { ObjectFilter } from './filter.ts';
import type { ResourceCache } from './resource-cache.ts';
import { type StorageForm, StoredObject } from './stored-object.ts';
import { WatchCache } from './watch-cache.ts';

function form(group: string, resource: string, kind: string): StorageForm {
  const keyPrefix = group === '' ? `/registry/${resource}/` : `/registry/${group}/${resource}/`;
  const apiVersion = group === '' ? 'v1' : `${group}/v1`;
  return {
    group,
    resource,
    kind,
    apiVersion,
    namespaced: true,
    keyPrefix,
    head: Buffer.from(`{"kind":"${kind}","apiVersion":"${apiVersion}","metadata":{`),
  };
}

const pods = form('', 'pods', 'Pod');
const deployments = form('apps', 'deployments', 'Deployment');

function bytes(of: StorageForm, namespace: string, name: string, extra = ''): Buffer {
  return Buffer.from(`${of.head}"name":"${name}","namespace":"${namespace}","uid":"u-${name}"}${extra}}`);
}

async function put(
  store: Store,
  of: StorageForm,
  namespace: string,
  name: string,
  extra = '',
): Promise<number> {
  const { revision } = await store.txn({
    compare: [],
    operations: [
      { type: 'put', key: `${of.keyPrefix}${namespace}/${name}`, value: bytes(of, namespace, name, extra) },
    ],
  });
  return revision;
}

async function startCache(store: Store, clock = new ManualClock()): Promise<WatchCache> {
  const cache = new WatchCache({ store, clock, logger: silentLogger });
  await cache.start([pods, deployments]);
  return cache;
}

const names = (cache: ResourceCache | undefined): string[] =>
  cache!.snapshot(new ObjectFilter()).map((object) => `${object.namespace}/${object.name}`);

test('each resource gets its own objects, whether its group is in the key or not', async () => {
  await using store = createMemoryStore();
  await put(store, pods, 'a', 'one');
  await put(store, deployments, 'a', 'two');
  await using cache = await startCache(store);
  await put(store, pods, 'b', 'three');
  await store.txn({
    compare: [],
    operations: [{ type: 'put', key: '/registry/unknown/x', value: Buffer.from('?') }],
  });
  assert.deepEqual(names(cache.known(pods.keyPrefix)), ['a/one', 'b/three']);
  assert.deepEqual(names(cache.known(deployments.keyPrefix)), ['a/two']);
  assert.equal(cache.revision, store.revision);
  assert.equal(cache.waitForStore(), undefined);
});

test('a namespace is a range of its own, also beside one whose name begins the same', async () => {
  await using store = createMemoryStore();
  for (const namespace of ['a', 'a-b', 'a0', 'b']) await put(store, pods, namespace, 'x');
  await using cache = await startCache(store);
  const resource = cache.known(pods.keyPrefix)!;
  assert.deepEqual(
    resource.snapshot(new ObjectFilter('a')).map(({ namespace }) => namespace),
    ['a'],
  );
  const { start, end } = resource.range('a-b');
  assert.equal(resource.count(start, end), 1);
});

test('a resource that comes later is loaded with what was there before and what comes meanwhile', async () => {
  await using store = createMemoryStore();
  const cronJobs = form('batch', 'cronjobs', 'CronJob');
  await put(store, cronJobs, 'a', 'before');
  await using cache = await startCache(store);
  const loading = cache.resource(cronJobs);
  await put(store, cronJobs, 'a', 'meanwhile');
  const resource = await loading;
  await put(store, cronJobs, 'a', 'later');
  assert.deepEqual(names(resource), ['a/before', 'a/later', 'a/meanwhile']);
  assert.equal(cache.resource(cronJobs), resource);
});

/** A store whose watch can be made to fail. */
class FragileStore {
  handler: WatchHandler | undefined;
  listFailures = 0;
  readonly store: Store;

  constructor(inner: Store) {
    this.store = new Proxy(inner, {
      get: (target, property) => {
        if (property === 'watch')
          return async (options: WatchOptions, handler: WatchHandler) => {
            this.handler = handler;
            return target.watch(options, {
              events: (batch) => this.handler?.events(batch),
              end: (error) => this.handler?.end(error),
            });
          };
        if (property === 'list' && this.listFailures > 0)
          return async () => {
            this.listFailures--;
            throw new Error('the disk is gone');
          };
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  break(): void {
    const { handler } = this;
    this.handler = undefined;
    handler?.end(new Error('the connection to the store broke'));
  }
}

test('a broken watch on the store is made good: followers hear the difference, watchers start anew', async () => {
  await using inner = createMemoryStore();
  const fragile = new FragileStore(inner);
  const clock = new ManualClock();
  for (const name of ['stays', 'changes', 'goes']) await put(inner, pods, 'a', name);
  await using cache = await startCache(fragile.store, clock);
  const resource = cache.known(pods.keyPrefix)!;
  const heard: string[] = [];
  resource.follow((change) => heard.push(`${change.type} ${(change.current ?? change.gone)!.name}`));
  const closed: string[] = [];
  const subscription = resource.watch(
    new ObjectFilter(),
    {
      event: () => true,
      bookmark: () => true,
      close: (error) => closed.push(error?.reason ?? ''),
    },
    { revision: cache.revision, initialBookmark: false },
  );
  subscription!.resume();
  heard.length = 0;
  fragile.listFailures = 2;
  fragile.break();
  assert.equal(cache.healthy, false);
  await put(inner, pods, 'a', 'changes', ',"x":1');
  await put(inner, pods, 'a', 'comes');
  await inner.txn({ compare: [], operations: [{ type: 'delete', key: '/registry/pods/a/goes' }] });
  const waiting = cache.waitForStore();
  for (let i = 0; i < 20 && !cache.healthy; i++) await clock.advance(1_000);
  assert.equal(cache.healthy, true);
  assert.equal(await waiting, true);
  assert.deepEqual(heard.toSorted(), ['ADDED comes', 'DELETED goes', 'MODIFIED changes']);
  assert.deepEqual(closed, ['Expired']);
  await put(inner, pods, 'a', 'after');
  assert.deepEqual(names(resource), ['a/after', 'a/changes', 'a/comes', 'a/stays']);
});

test('waiting for a revision ends when it comes, or when the time is up', async () => {
  await using store = createMemoryStore();
  const clock = new ManualClock();
  await using cache = await startCache(store, clock);
  const reached = cache.waitFor(store.revision + 1);
  await put(store, pods, 'a', 'x');
  assert.equal(await reached, true);
  const never = cache.waitFor(store.revision + 100, 500);
  await clock.advance(600);
  assert.equal(await never, false);
});

function change(revision: number, heard = 0): Change {
  const object = new StoredObject(
    pods,
    `/registry/pods/a/p${revision}`,
    bytes(pods, 'a', `p${revision}`),
    revision,
  );
  return new Change('ADDED', revision, heard, object, undefined);
}

test('the ring keeps the least number however old, and no more than the most however young', () => {
  const ring = new EventRing(10, { least: 3, keepMs: 100, most: 5 });
  for (let i = 0; i < 3; i++) ring.push(change(11 + i));
  assert.equal(ring.after(10), 0);
  ring.push(change(14, 50));
  assert.equal(ring.next - ring.first, 4, 'a change that is young enough stays beside the least number');
  ring.push(change(15, 500));
  assert.equal(ring.next - ring.first, 3);
  assert.equal(ring.completeAfter, 12);
  assert.equal(ring.after(11), undefined);
  assert.equal(ring.at(ring.after(13)!).revision, 14);
  for (let i = 0; i < 20; i++) ring.push(change(20 + i, 501));
  assert.equal(ring.next - ring.first, 5);
  assert.equal(ring.at(ring.after(37)!).revision, 38);
  assert.equal(ring.after(39), ring.next);
  assert.equal(ring.after(1_000), ring.next);
});

test('the ring keeps no more bytes than it may, but always the last change', () => {
  const { bytes: each } = change(10);
  const ring = new EventRing(0, { least: 100, keepMs: 100, most: 100, mostBytes: 3 * each });
  for (let i = 10; i <= 50; i++) ring.push(change(i));
  assert.equal(ring.next - ring.first, 3);
  assert.equal(ring.completeAfter, 47);
  const small = new EventRing(0, { least: 100, keepMs: 100, most: 100, mostBytes: each - 1 });
  for (let i = 10; i <= 15; i++) small.push(change(i));
  assert.equal(small.next - small.first, 1);
});

test('the ring grows past its first size without losing anything', () => {
  const ring = new EventRing(0);
  for (let i = 1; i <= 900; i++) ring.push(change(i));
  for (let i = 0; i < 900; i++) assert.equal(ring.at(ring.after(i)!).revision, i + 1);
});

test('an object that cannot be read closes the watchers that it may concern, with the reason', async () => {
  await using store = createMemoryStore();
  await using cache = await startCache(store);
  const resource = cache.known(pods.keyPrefix)!;
  const closed: string[] = [];
  const { parseFieldSelector } = await import('../../api/fields.ts');
  const sink = {
    event: () => true,
    bookmark: () => true,
    close: (error?: Error) => closed.push(error?.message ?? ''),
  };
  const filter = new ObjectFilter('', undefined, parseFieldSelector('spec.nodeName=n1'));
  resource.watch(filter, sink, { revision: cache.revision, initialBookmark: false })!.resume();
  const open = resource.watch(new ObjectFilter(), sink, {
    revision: cache.revision,
    initialBookmark: false,
  })!;
  open.resume();
  await store.txn({
    compare: [],
    operations: [{ type: 'put', key: '/registry/pods/a/broken', value: Buffer.from('{"kind":') }],
  });
  assert.equal(closed.length, 1);
  assert.match(closed[0]!, /the stored object \/registry\/pods\/a\/broken cannot be read/);
  assert.equal(resource.watchers, 1);
});
