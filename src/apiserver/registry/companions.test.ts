import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '../../api/index.ts';
import { createMemoryStore } from '../../store/index.ts';
import type { AdmissionPlugin, CompanionWrite } from '../chain.ts';
import { startTestServer } from '../testing/test-server.ts';

const SECRETS = { group: '', version: 'v1', resource: 'secrets' };
const MAPS = { group: '', version: 'v1', resource: 'configmaps' };

interface Thing extends KubeObject {
  readonly data?: { readonly lock?: string };
}

/** Each ConfigMap has the Secret that its data names, as Services have addresses. */
function locking(seen: { get?: (name: string) => KubeObject | undefined }): AdmissionPlugin {
  return {
    name: 'Locking',
    handles: () => true,
    admit(attributes) {
      if (attributes.definition.resource !== 'configmaps') return;
      const before = (attributes.oldObject as Thing | undefined)?.data?.lock;
      attributes.accompany({
        writes(object) {
          const after = (object as Thing | undefined)?.data?.lock;
          if (after === before) return [];
          const writes: CompanionWrite[] = [];
          if (after !== undefined)
            writes.push({
              type: 'create',
              resource: SECRETS,
              object: { metadata: { name: after, namespace: 'default' }, type: 'Opaque' },
            });
          const gone = before === undefined ? undefined : seen.get?.(before);
          if (gone !== undefined) writes.push({ type: 'delete', resource: SECRETS, object: gone });
          return writes;
        },
        taken(object, name) {
          if (name === 'fixed') throw new Error('the lock is taken');
          (object as { data?: { lock: string } }).data = { lock: `${name}x` };
        },
      });
    },
  };
}

async function setup() {
  const store = createMemoryStore();
  const seen: { get?: (name: string) => KubeObject | undefined } = {};
  const running = await startTestServer({ store, admission: [locking(seen)] });
  const { server, transport } = running;
  seen.get = (name) => server.reader.get('', 'secrets', 'default', name);
  await transport.call({
    verb: 'create',
    resource: { group: '', version: 'v1', resource: 'namespaces' },
    body: { metadata: { name: 'default' } },
  });
  const create = (name: string, lock: string, query = {}): Promise<Thing> =>
    transport.call({
      verb: 'create',
      resource: MAPS,
      namespace: 'default',
      query,
      body: { metadata: { name }, data: { lock } },
    }) as Promise<Thing>;
  const patch = (name: string, lock: string | null): Promise<unknown> =>
    transport.call({
      verb: 'patch',
      resource: MAPS,
      namespace: 'default',
      name,
      patchType: 'application/merge-patch+json',
      body: { data: { lock } },
    });
  const remove = (name: string): Promise<unknown> =>
    transport.call({ verb: 'delete', resource: MAPS, namespace: 'default', name });
  const secrets = async (): Promise<string[]> => {
    const list = await transport.call({ verb: 'list', resource: SECRETS, namespace: 'default' });
    return (list as { items: KubeObject[] }).items.map(({ metadata }) => metadata.name);
  };
  return {
    store,
    seen,
    transport,
    create,
    patch,
    remove,
    secrets,
    async [Symbol.asyncDispose]() {
      await running[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

test('companions are written with the object, at its revision, and both can be read at once', async () => {
  await using one = await setup();
  const { store, transport, create, patch, remove, secrets } = one;
  const before = store.revision;
  const made = await create('a', 'l1');
  assert.equal(store.revision, before + 1);
  const secret = (await transport.call({
    verb: 'get',
    resource: SECRETS,
    namespace: 'default',
    name: 'l1',
  })) as KubeObject;
  assert.equal(secret.metadata.resourceVersion, made.metadata.resourceVersion);
  assert.ok(secret.metadata.uid && secret.metadata.creationTimestamp);
  await patch('a', 'l2');
  assert.deepEqual([await secrets(), store.revision], [['l2'], before + 2]);
  await remove('a');
  assert.deepEqual([await secrets(), store.revision], [[], before + 3]);
});

test('nothing is written when the object is not: a dry run, a name that is taken', async () => {
  await using one = await setup();
  await one.create('a', 'l1');
  await one.create('b', 'l2', { dryRun: 'All' });
  await assert.rejects(one.create('a', 'l3'), /already exists/);
  assert.deepEqual(await one.secrets(), ['l1']);
});

test('a companion that is there already is replaced by another one, or the request fails', async () => {
  await using one = await setup();
  await one.create('a', 'l');
  await one.create('b', 'lx');
  const made = await one.create('c', 'l');
  assert.equal(made.data?.lock, 'lxx', 'two were taken');
  await one.create('d', 'fixed');
  await assert.rejects(one.create('e', 'fixed'), /the lock is taken/);
  assert.deepEqual(await one.secrets(), ['fixed', 'l', 'lx', 'lxx']);
  const maps = await one.transport.call({ verb: 'list', resource: MAPS, namespace: 'default' });
  assert.deepEqual(
    (maps as { items: KubeObject[] }).items.map(({ metadata }) => metadata.name),
    ['a', 'b', 'c', 'd'],
  );
});

test('a companion that has changed meanwhile is looked at anew before it goes', async () => {
  await using one = await setup();
  await one.create('a', 'l');
  const real = one.seen.get!;
  const stale = real('l');
  await one.transport.call({
    verb: 'patch',
    resource: SECRETS,
    namespace: 'default',
    name: 'l',
    patchType: 'application/merge-patch+json',
    body: { metadata: { labels: { touched: 'yes' } } },
  });
  let asked = 0;
  one.seen.get = (name) => (asked++ === 0 ? stale : real(name));
  await one.remove('a');
  assert.deepEqual([await one.secrets(), asked], [[], 2]);
  one.seen.get = real;
  await one.create('b', 'l');
  await one.transport.call({ verb: 'delete', resource: SECRETS, namespace: 'default', name: 'l' });
  await one.remove('b');
  assert.deepEqual(await one.secrets(), []);
});
