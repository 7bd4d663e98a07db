import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../component/index.ts';
import { createClient } from './client.ts';
import { startLeaderElection } from './leader-election.ts';
import { resources } from './resources.ts';
import { eventually, settle } from './testing/eventually.ts';
import { FakeApi } from './testing/fake-api.ts';

function setup() {
  const clock = new ManualClock();
  const api = new FakeApi({ clock });
  const client = createClient(api, { clock, random: () => 0 });
  const leading = new Set<string>();
  const candidate = (identity: string, transport: FakeApi | undefined = undefined) =>
    startLeaderElection({
      client: transport ? createClient(transport, { clock }) : client,
      namespace: 'kube-system',
      name: 'controllers',
      identity,
      random: () => 0,
      async lead(signal) {
        leading.add(identity);
        await new Promise<void>((resolve) =>
          signal.addEventListener('abort', () => resolve(), { once: true }),
        );
        leading.delete(identity);
      },
    });
  const advance = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 500) {
      await clock.advance(500);
      await settle(5);
    }
  };
  return { clock, api, client, leading, candidate, advance };
}

test('one of several candidates leads and keeps the lease renewed', async () => {
  const { client, leading, candidate, advance } = setup();
  const a = candidate('a');
  await eventually('a to lead', () => leading.has('a'));
  const b = candidate('b');
  await advance(60_000);
  assert.deepEqual([...leading], ['a']);
  assert.equal(b.leader, 'a');
  const lease = await client.resource(resources.leases, 'kube-system').get('controllers');
  assert.equal(lease.spec.holderIdentity, 'a');
  assert.equal(lease.spec.leaseDurationSeconds, 15);
  assert.equal(lease.spec.leaseTransitions, 0);
  await a[Symbol.asyncDispose]();
  await b[Symbol.asyncDispose]();
});

test('a leader that stops gives the lease up and the next one takes over within a retry period', async () => {
  const { client, leading, candidate, advance } = setup();
  const a = candidate('a');
  await eventually('a to lead', () => leading.has('a'));
  const b = candidate('b');
  await advance(4000);
  await a[Symbol.asyncDispose]();
  await advance(3000);
  assert.deepEqual([...leading], ['b']);
  const lease = await client.resource(resources.leases, 'kube-system').get('controllers');
  assert.equal(lease.spec.leaseTransitions, 1);
  await b[Symbol.asyncDispose]();
});

test('a leader cut off from the server steps down before another may take over', async () => {
  const { api, leading, candidate, advance } = setup();
  const cut: { on: boolean } = { on: false };
  const a = candidate('a');
  await eventually('a to lead', () => leading.has('a'));
  await advance(4000);
  api.intercept = (call) => {
    const holder = (call as { body?: { spec?: { holderIdentity?: string } } }).body?.spec?.holderIdentity;
    if (cut.on && call.verb === 'update' && holder === 'a') throw new Error('network is unreachable');
    return undefined;
  };
  cut.on = true;
  const b = candidate('b');
  let overlap = false;
  for (let i = 0; i < 60; i++) {
    await advance(500);
    if (leading.size > 1) overlap = true;
  }
  assert.equal(overlap, false);
  assert.deepEqual([...leading], ['b']);
  cut.on = false;
  await a[Symbol.asyncDispose]();
  await b[Symbol.asyncDispose]();
});

test('durations that cannot work are refused at once', () => {
  const { client } = setup();
  const lead = async () => {};
  const base = { client, namespace: 'n', name: 'x', identity: 'a', lead };
  assert.throws(
    () => startLeaderElection({ ...base, leaseDurationMs: 5000 }),
    /longer than the renew deadline/,
  );
  assert.throws(() => startLeaderElection({ ...base, identity: '' }), /identity is empty/);
});
