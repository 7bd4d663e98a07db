// The scheduler on a live API (in memory), with time moved by hand: what it writes, what it waits for, and what it does
// when a write fails.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { conflict, findCondition, internalError } from '../api/index.ts';
import type { Node, Pod, PodSpec } from '../api/types/core-v1.ts';
import { type Client, createClient, resources } from '../client/index.ts';
import { settle } from '../client/testing/eventually.ts';
import { FakeApi } from '../client/testing/fake-api.ts';
import { ManualClock } from '../component/index.ts';
import { type Plugin, type SchedulerOptions, startScheduler } from './index.ts';

interface Cluster extends AsyncDisposable {
  readonly api: FakeApi;
  readonly client: Client;
  readonly clock: ManualClock;
  addNode(
    name: string,
    options?: { cpu?: string; labels?: Record<string, string>; spec?: Node['spec'] },
  ): Promise<void>;
  createPod(name: string, spec?: Partial<PodSpec>, cpu?: string): Promise<Pod>;
  deletePod(name: string): Promise<void>;
  /** The node of each pod; '' while it has none. */
  placed(): Promise<Record<string, string>>;
  /** `status reason: message` of the PodScheduled condition. */
  scheduled(name: string): Promise<string>;
  events(name: string): Promise<string[]>;
  /** Lets time pass, with all that it sets off. */
  pass(ms: number): Promise<void>;
}

async function startTestCluster(options: Partial<SchedulerOptions> = {}): Promise<Cluster> {
  const clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'));
  const api = new FakeApi({ clock });
  const client = createClient(api, { clock });
  const scheduler = await startScheduler({ client, clock, random: () => 0.5, ...options });
  await scheduler.ready;
  const nodes = client.resource(resources.nodes);
  const pods = client.resource(resources.pods, 'default');
  return {
    api,
    client,
    clock,
    async addNode(name, { cpu = '4', labels = {}, spec = {} } = {}) {
      const status = { allocatable: { cpu, memory: '8Gi', pods: '10' } };
      await nodes.create({ metadata: { name, labels }, spec, status });
      await settle();
    },
    async createPod(name, spec = {}, cpu = '1') {
      const containers = [{ name: 'c', image: 'i', resources: { requests: { cpu } } }];
      const made = await pods.create({
        metadata: { name },
        spec: { containers, ...spec },
        status: { phase: 'Pending' },
      });
      await settle();
      return made;
    },
    async deletePod(name) {
      await pods.delete(name, { gracePeriodSeconds: 0 });
      await settle();
    },
    async placed() {
      await settle();
      const { items } = await pods.list();
      return Object.fromEntries(items.map(({ metadata, spec }) => [metadata.name, spec.nodeName ?? '']));
    },
    async scheduled(name) {
      await settle();
      const condition = findCondition((await pods.get(name)).status?.conditions, 'PodScheduled');
      return condition ? `${condition.status} ${condition.reason}: ${condition.message}` : '';
    },
    async events(name) {
      await settle();
      const { items } = await client.resource(resources.events).list();
      return items.filter((e) => e.involvedObject.name === name).map((e) => `${e.reason}: ${e.message}`);
    },
    async pass(ms) {
      await clock.advance(ms);
      await settle();
    },
    async [Symbol.asyncDispose]() {
      await scheduler[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
    },
  };
}

const isBinding = (call: { readonly subresource?: string }): boolean => call.subresource === 'binding';
const withoutChange = async (cluster: Cluster, work: () => Promise<void>): Promise<string[]> => {
  await settle();
  const before = cluster.api.calls.length;
  await work();
  return cluster.api.calls.slice(before).filter((call) => !/ events? /.test(call));
};

describe('a pod that fits', () => {
  it('is bound, with an event, and the next one goes where more room is left', async () => {
    await using cluster = await startTestCluster();
    await cluster.addNode('a');
    await cluster.addNode('b');
    await cluster.createPod('p');
    await cluster.createPod('q');
    const placed = await cluster.placed();
    assert.deepEqual(Object.values(placed).toSorted(), ['a', 'b']);
    assert.deepEqual(await cluster.events('p'), [
      `Scheduled: Successfully assigned default/p to ${placed['p']}`,
    ]);
  });

  it('is left alone when it is another scheduler’s, has a node, or is going', async () => {
    await using cluster = await startTestCluster();
    await cluster.addNode('a');
    await cluster.createPod('theirs', { schedulerName: 'other' });
    await cluster.createPod('bound', { nodeName: 'elsewhere' });
    assert.deepEqual(await cluster.placed(), { theirs: '', bound: 'elsewhere' });
  });

  it('waits for its gates to fall', async () => {
    await using cluster = await startTestCluster();
    await cluster.addNode('a');
    await cluster.createPod('gated', { schedulingGates: [{ name: 'example.com/go' }] });
    assert.deepEqual(await cluster.placed(), { gated: '' });
    assert.deepEqual(await cluster.events('gated'), []);
    const pods = cluster.client.resource(resources.pods, 'default');
    await pods.patch('gated', { type: 'merge', patch: { spec: { schedulingGates: null } } });
    assert.deepEqual(await cluster.placed(), { gated: 'a' });
  });
});

describe('a pod that fits nowhere', () => {
  it('says why in its condition and an event, once, and then waits without asking', async () => {
    await using cluster = await startTestCluster();
    await cluster.addNode('small', { cpu: '1' });
    await cluster.createPod('big', {}, '2');
    const message = '0/1 nodes are available: 1 Insufficient cpu.';
    assert.equal(await cluster.scheduled('big'), `False Unschedulable: ${message}`);
    assert.deepEqual(await cluster.events('big'), [`FailedScheduling: ${message}`]);
    const calls = await withoutChange(cluster, async () => {
      for (let minute = 0; minute < 10; minute++) await cluster.pass(60_000);
    });
    assert.deepEqual(calls, []);
  });

  it('is placed when a node comes, without waiting for anything but its back-off', async () => {
    await using cluster = await startTestCluster();
    await cluster.createPod('early');
    assert.equal(
      await cluster.scheduled('early'),
      'False Unschedulable: no nodes available to schedule pods',
    );
    await cluster.pass(5_000);
    await cluster.addNode('a');
    assert.deepEqual(await cluster.placed(), { early: 'a' });
    // What comes at once after the failure waits out one second.
    await cluster.createPod('big', {}, '8');
    await cluster.addNode('large', { cpu: '16' });
    assert.equal((await cluster.placed())['big'], '');
    await cluster.pass(1_000);
    assert.equal((await cluster.placed())['big'], 'large');
  });

  it('is placed when its obstacle goes: a taint, a cordon, a label, another pod', async () => {
    await using cluster = await startTestCluster();
    const nodes = cluster.client.resource(resources.nodes);
    const change = (patch: unknown) => nodes.patch('a', { type: 'merge', patch });
    await cluster.addNode('a', { spec: { taints: [{ key: 'k', effect: 'NoSchedule' }] } });
    await cluster.createPod('tainted');
    await cluster.pass(1_000);
    await change({ spec: { taints: [] } });
    assert.equal((await cluster.placed())['tainted'], 'a');
    await change({ spec: { unschedulable: true } });
    await cluster.createPod('cordoned');
    await cluster.pass(1_000);
    assert.match(await cluster.scheduled('cordoned'), /1 node\(s\) were unschedulable/);
    await change({ spec: { unschedulable: null } });
    assert.equal((await cluster.placed())['cordoned'], 'a');
    await cluster.createPod('choosy', { nodeSelector: { disk: 'ssd' } });
    await cluster.pass(1_000);
    await change({ metadata: { labels: { other: 'x' } } });
    assert.equal((await cluster.placed())['choosy'], '');
    await change({ metadata: { labels: { disk: 'ssd' } } });
    assert.equal((await cluster.placed())['choosy'], 'a');
    await cluster.createPod('waiting', {}, '2');
    await cluster.pass(1_000);
    assert.equal((await cluster.placed())['waiting'], '');
    await cluster.deletePod('tainted');
    assert.equal((await cluster.placed())['waiting'], 'a');
  });

  it('goes by priority, then by age, when room comes for one of several', async () => {
    await using cluster = await startTestCluster();
    await cluster.createPod('first', {});
    await cluster.pass(1);
    await cluster.createPod('second', {});
    await cluster.createPod('urgent', { priority: 10 });
    await cluster.pass(20_000);
    await cluster.addNode('a', { cpu: '1' });
    assert.deepEqual(await cluster.placed(), { first: '', second: '', urgent: 'a' });
    await cluster.deletePod('urgent');
    await cluster.pass(20_000);
    assert.deepEqual(await cluster.placed(), { first: 'a', second: '' });
  });

  it('is forgotten when it is deleted while it waits', async () => {
    await using cluster = await startTestCluster();
    await cluster.createPod('gone');
    await cluster.deletePod('gone');
    await cluster.pass(5_000);
    const calls = await withoutChange(cluster, () => cluster.addNode('a'));
    assert.deepEqual(
      calls.filter((call) => call.includes('gone')),
      [],
    );
    // One of the same name is another pod.
    await cluster.createPod('gone');
    assert.deepEqual(await cluster.placed(), { gone: 'a' });
  });
});

describe('a binding that fails', () => {
  it('gives its room back at once and is tried again after 1 s, 2 s, 4 s', async () => {
    await using cluster = await startTestCluster();
    await cluster.addNode('a', { cpu: '1' });
    let failures = 0;
    cluster.api.intercept = (call) => {
      if (!isBinding(call as { subresource?: string }) || ++failures > 3) return undefined;
      throw internalError('the disk is on fire');
    };
    await cluster.createPod('p');
    assert.equal(
      await cluster.scheduled('p'),
      'False SchedulerError: running Bind plugin "DefaultBinder": Internal error occurred: the disk is on fire',
    );
    for (const [wait, tried] of [
      [999, 1],
      [1, 2],
      [1_999, 2],
      [1, 3],
      [3_999, 3],
    ] as const) {
      await cluster.pass(wait);
      assert.equal(failures, tried, `after ${wait} ms`);
    }
    await cluster.pass(1);
    assert.deepEqual(await cluster.placed(), { p: 'a' });
    assert.ok((await cluster.events('p')).includes('Scheduled: Successfully assigned default/p to a'));
  });

  it('lets another pod take the room', async () => {
    await using cluster = await startTestCluster();
    await cluster.addNode('a', { cpu: '1' });
    cluster.api.intercept = (call) => {
      if (isBinding(call as { subresource?: string }) && (call as { name?: string }).name === 'unlucky')
        throw internalError('no');
      return undefined;
    };
    await cluster.createPod('unlucky');
    await cluster.createPod('lucky');
    assert.deepEqual(await cluster.placed(), { unlucky: '', lucky: 'a' });
    await cluster.pass(1_000);
    assert.match(
      await cluster.scheduled('unlucky'),
      /False Unschedulable: 0\/1 nodes are available: 1 Insufficient cpu/,
    );
  });

  it('because the pod was bound by somebody else is no failure of the cluster', async () => {
    await using cluster = await startTestCluster();
    await cluster.addNode('a');
    await cluster.addNode('b');
    const pods = cluster.client.resource(resources.pods, 'default');
    let raced = false;
    cluster.api.intercept = async (call) => {
      if (!isBinding(call as { subresource?: string }) || raced) return undefined;
      raced = true;
      const { uid } = (await pods.get('p')).metadata;
      await pods.createSubresource('p', 'binding', {
        metadata: { name: 'p', uid },
        target: { kind: 'Node', name: 'b' },
      });
      throw conflict({ group: '', name: 'pods' }, 'p', 'pod p is already assigned to node "b"');
    };
    await cluster.createPod('p');
    await cluster.pass(20_000);
    assert.deepEqual(await cluster.placed(), { p: 'b' });
    assert.equal(cluster.api.calls.filter((call) => call.includes('pods/binding')).length, 2);
  });

  it('because the pod was deleted meanwhile is forgotten', async () => {
    await using cluster = await startTestCluster();
    await cluster.addNode('a', { cpu: '1' });
    const pods = cluster.client.resource(resources.pods, 'default');
    cluster.api.intercept = async (call) => {
      if (isBinding(call as { subresource?: string }) && (call as { name?: string }).name === 'p')
        await pods.delete('p', { gracePeriodSeconds: 0 });
      return undefined;
    };
    await cluster.createPod('p');
    const calls = await withoutChange(cluster, () => cluster.pass(60_000));
    assert.deepEqual(calls, []);
    await cluster.createPod('q');
    assert.deepEqual(await cluster.placed(), { q: 'a' });
  });
});

describe('the scheduler', () => {
  it('survives a plugin that throws, and tries its pod again', async () => {
    let broken = true;
    const plugin: Plugin = {
      name: 'Broken',
      filter(_state, pod) {
        if (broken && pod.metadata.name === 'p') throw new Error('out of order');
        return undefined;
      },
    };
    await using cluster = await startTestCluster({
      plugins: (defaults) => [...defaults, { plugin, weight: 0 }],
    });
    await cluster.addNode('a');
    await cluster.createPod('p');
    await cluster.createPod('q');
    assert.deepEqual(await cluster.placed(), { p: '', q: 'a' });
    assert.equal(
      await cluster.scheduled('p'),
      'False SchedulerError: running a scheduling plugin: out of order',
    );
    broken = false;
    await cluster.pass(1_000);
    assert.deepEqual(await cluster.placed(), { p: 'a', q: 'a' });
  });

  it('counts what it has decided before the API shows it', async () => {
    await using cluster = await startTestCluster();
    await cluster.addNode('a', { cpu: '1' });
    const gate = Promise.withResolvers<undefined>();
    cluster.api.intercept = (call) =>
      isBinding(call as { subresource?: string }) ? gate.promise : undefined;
    await cluster.createPod('p');
    await cluster.createPod('q');
    assert.match(await cluster.scheduled('q'), /Insufficient cpu/);
    gate.resolve(undefined);
    assert.deepEqual(await cluster.placed(), { p: 'a', q: '' });
  });

  it('takes up where the last one stopped', async () => {
    await using cluster = await startTestCluster({ schedulerName: 'default-scheduler' });
    await cluster.addNode('a', { cpu: '1' });
    await cluster.createPod('p');
    await cluster.createPod('q', { schedulerName: 'second' });
    await using second = await startScheduler({
      client: cluster.client,
      clock: cluster.clock,
      schedulerName: 'second',
    });
    await second.ready;
    assert.match(await cluster.scheduled('q'), /Insufficient cpu/);
    await cluster.deletePod('p');
    await cluster.pass(1_000);
    assert.deepEqual(await cluster.placed(), { q: 'a' });
  });

  it('stops at once, whatever is under way', async () => {
    const cluster = await startTestCluster();
    await cluster.addNode('a');
    await cluster.createPod('waiting', {}, '99');
    await cluster[Symbol.asyncDispose]();
    assert.equal(cluster.api.openWatches, 0);
    assert.equal(cluster.clock.nextDue(), undefined);
  });
});
