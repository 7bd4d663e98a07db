import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../../component/index.ts';
import { createMemoryStore } from '../../store/index.ts';
import { startTestServer } from '../testing/test-server.ts';

const events = { group: '', version: 'v1', resource: 'events' };
const body = (name: string): object => ({
  metadata: { name, namespace: 'default' },
  involvedObject: { kind: 'Pod', name: 'p', namespace: 'default' },
  reason: 'Test',
  type: 'Normal',
});

test('an Event goes an hour after it was last written, and other objects stay', async () => {
  const clock = new ManualClock();
  await using store = createMemoryStore({ clock });
  await using server = await startTestServer({ clock, store, compactionIntervalMs: 0 });
  const api = server.transport;
  const namespace = 'default';
  const count = async (): Promise<number> => {
    const list = (await api.call({ verb: 'list', resource: events, namespace })) as { items: unknown[] };
    return list.items.length;
  };
  await api.call({ verb: 'create', resource: events, namespace, body: body('one') });
  await api.call({ verb: 'create', resource: events, namespace, body: body('two') });
  const configMaps = { group: '', version: 'v1', resource: 'configmaps' };
  await api.call({ verb: 'create', resource: configMaps, namespace, body: { metadata: { name: 'c' } } });
  await clock.advance(45 * 60_000);
  await api.call({
    verb: 'patch',
    resource: events,
    namespace,
    name: 'two',
    patchType: 'application/merge-patch+json',
    body: { count: 2 },
  });
  assert.equal(await count(), 2);
  await clock.advance(20 * 60_000);
  assert.equal(await count(), 1);
  await clock.advance(50 * 60_000);
  assert.equal(await count(), 0);
  await api.call({ verb: 'get', resource: configMaps, namespace, name: 'c' });
});

test('an update that would create asks for the right to create', async () => {
  await using server = await startTestServer({ allow: ({ verb }) => verb === 'update' });
  const jane = server.server.transport({ name: 'jane', groups: [] });
  const resource = { group: 'coordination.k8s.io', version: 'v1', resource: 'leases' };
  const update = jane.call({
    verb: 'update',
    resource,
    namespace: 'default',
    name: 'l',
    body: { metadata: { name: 'l' }, spec: {} },
  });
  await assert.rejects(update, { message: /cannot create resource "leases"/ });
});
