import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Event } from '../api/types/core-v1.ts';
import { ManualClock } from '../component/index.ts';
import { createClient } from './client.ts';
import { createEventRecorder } from './events.ts';
import { resources } from './resources.ts';
import { settle } from './testing/eventually.ts';
import { FakeApi } from './testing/fake-api.ts';

const about = { kind: 'Pod', apiVersion: 'v1', namespace: 'ns', name: 'web', uid: 'u1' };

async function setup() {
  const clock = new ManualClock(1_700_000_000_000);
  const api = new FakeApi({ clock });
  const client = createClient(api, { clock });
  const recorder = createEventRecorder({ client, component: 'tester', host: 'n1' });
  const events = async (): Promise<readonly Event[]> =>
    (await client.resource(resources.events, 'ns').list()).items;
  return { clock, api, client, recorder, events };
}

test('an event carries its object, source, times and count', async () => {
  const { recorder, events } = await setup();
  recorder.event(about, 'Normal', 'Started', 'it started');
  await recorder.flush();
  const [event] = await events();
  assert.deepEqual(event?.involvedObject, about);
  assert.deepEqual(
    [event?.reason, event?.message, event?.type, event?.count],
    ['Started', 'it started', 'Normal', 1],
  );
  assert.deepEqual(event?.source, { component: 'tester', host: 'n1' });
  assert.equal(event?.reportingComponent, 'tester');
  assert.equal(event?.firstTimestamp, '2023-11-14T22:13:20Z');
  assert.match(event?.metadata.name ?? '', /^web\.[0-9a-f]+$/);
});

test('the same event again raises the count of the first', async () => {
  const { recorder, events, clock } = await setup();
  for (let i = 0; i < 3; i++) {
    recorder.event(about, 'Warning', 'BackOff', 'restarting');
    await recorder.flush();
    await clock.advance(10_000);
  }
  const [event, ...others] = await events();
  assert.deepEqual(others, []);
  assert.equal(event?.count, 3);
  assert.equal(event?.firstTimestamp, '2023-11-14T22:13:20Z');
  assert.equal(event?.lastTimestamp, '2023-11-14T22:13:40Z');
});

test('ten different messages of one reason are combined into one event', async () => {
  const { recorder, events } = await setup();
  for (let i = 0; i < 15; i++) recorder.event(about, 'Normal', 'Pulled', `image ${i}`);
  await recorder.flush();
  const all = await events();
  assert.equal(all.length, 10);
  const combined = all.filter((e) => e.message?.startsWith('(combined from similar events): '));
  assert.equal(combined.length, 1);
  assert.equal(combined[0]?.count, 6);
  assert.equal(combined[0]?.message, '(combined from similar events): image 14');
});

test('one object cannot flood the server: 25 events, then one in five minutes', async () => {
  const { recorder, api, clock } = await setup();
  const writes = () => api.calls.filter((c) => / events /.test(c)).length;
  for (let i = 0; i < 60; i++) recorder.event(about, 'Normal', `Reason${i}`, 'x');
  await recorder.flush();
  assert.equal(writes(), 25);
  await clock.advance(300_000);
  recorder.event(about, 'Normal', 'Later', 'x');
  recorder.event(about, 'Normal', 'Later2', 'x');
  await recorder.flush();
  assert.equal(writes(), 26);
});

test('an event whose earlier one has expired is created anew', async () => {
  const { recorder, client, events } = await setup();
  recorder.event(about, 'Normal', 'A', 'x');
  await recorder.flush();
  await client.resource(resources.events, 'ns').deleteCollection();
  recorder.event(about, 'Normal', 'A', 'x');
  await recorder.flush();
  assert.equal((await events())[0]?.count, 1);
});

test('an unreachable server is tried again, a refusal is not', async () => {
  const { recorder, api, events, clock } = await setup();
  let failures = 2;
  api.intercept = (call) => {
    if (call.verb === 'create' && failures-- > 0) throw new Error('connection refused');
    return undefined;
  };
  recorder.event(about, 'Normal', 'A', 'x');
  await settle();
  await clock.advance(30_000);
  await recorder.flush();
  assert.equal((await events()).length, 1);
});

test('disposing sends what is queued and gives up at the deadline', async () => {
  const { recorder, api, events, clock } = await setup();
  recorder.event(about, 'Normal', 'A', 'x');
  await recorder[Symbol.asyncDispose]();
  assert.equal((await events()).length, 1);

  const second = createEventRecorder({ client: createClient(api, { clock }), component: 'other' });
  api.intercept = () => {
    throw new Error('connection refused');
  };
  second.event(about, 'Normal', 'B', 'x');
  const disposing = second[Symbol.asyncDispose]();
  await settle();
  await clock.advance(5000);
  await disposing;
  assert.equal(clock.nextDue(), undefined);
});
