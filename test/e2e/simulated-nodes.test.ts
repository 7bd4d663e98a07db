// Nodes and the pods on them, with time moved by hand: a node that falls silent and comes back, pods that crash, end,
// start slowly or ask for what is not there, and what old history is forgotten.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { ContainerStatus, Pod, PodSpec } from '../../src/api/types/core-v1.ts';
import type { Status } from '../../src/api/types/meta-v1.ts';
import { jsonLines } from '../../src/apiserver/testing/http-client.ts';
import { ManualClock, resources } from '../../src/cluster/testing.ts';
import { eventually } from './support/eventually.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';
import { pass, passUntil } from './support/time.ts';

const namespace = 'default';
const clock = new ManualClock(Date.parse('2030-01-01T00:00:00Z'));
let sim: SimulatedCluster;

before(async () => {
  sim = await startSimulated({ clock, nodes: ['steady', 'shaky'] });
});
after(() => sim[Symbol.asyncDispose]());

const pods = () => sim.cluster.client.resource(resources.pods, namespace);
const nodes = () => sim.cluster.client.resource(resources.nodes);
const simulation = (behaviour: Record<string, string>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(behaviour).map(([key, value]) => [
      key.includes('/') ? key : `simulation.bulkhead.dev/${key}`,
      value,
    ]),
  );
const run = (
  name: string,
  behaviour: Record<string, string> = {},
  spec: Partial<PodSpec> = {},
): Promise<Pod> =>
  pods().create({
    metadata: { name, annotations: simulation(behaviour) },
    spec: { containers: [{ name: 'c', image: 'i' }], ...spec },
  });
const only = (pod: Pod): ContainerStatus => pod.status.containerStatuses![0]!;
const until = (name: string, seconds: number, check: (pod: Pod) => void): Promise<Pod> =>
  passUntil(clock, seconds, async () => {
    const pod = await pods().get(name);
    check(pod);
    return pod;
  });
const phase = (wanted: string) => (pod: Pod) => assert.equal(pod.status.phase, wanted);
const events = async (name: string): Promise<string[]> => {
  const { items } = await sim.cluster.client
    .resource(resources.events, namespace)
    .list({ fieldSelector: `involvedObject.name=${name}` });
  return items.map(({ reason, message }) => `${reason}: ${message}`);
};
const shown = async (name: string): Promise<string[]> =>
  (await sim.kubectl('get', 'pod', name, '--no-headers')).trim().split(/ {2,}/);

describe('a pod', () => {
  it('that crashes is started again after 10 s, 20 s, 40 s, and shows it', async () => {
    await run('crash', { 'exit-after': '1s', 'exit-code': '3', 'exit-message': 'ouch' });
    const starts: number[] = [];
    for (let restarts = 1; restarts <= 4; restarts++) {
      const pod = await until('crash', 120, (p) => {
        assert.equal(only(p).restartCount, restarts);
        assert.ok(only(p).state?.running);
      });
      starts.push(Date.parse(only(pod).state!.running!.startedAt!));
    }
    const pauses = starts.slice(1).map((start, i) => (start - starts[i]!) / 1000);
    for (const [i, wait] of [10, 20, 40].entries())
      assert.ok(Math.abs(pauses[i]! - wait - 1) <= 2, `${pauses}`);
    const pod = await until('crash', 10, (p) =>
      assert.equal(only(p).state?.waiting?.reason, 'CrashLoopBackOff'),
    );
    assert.match(
      only(pod).state?.waiting?.message ?? '',
      /^back-off 1m20s restarting failed container=c pod=crash_default\(/,
    );
    const { exitCode, message, reason } = only(pod).lastState!.terminated!;
    assert.deepEqual([exitCode, message, reason], [3, 'ouch', 'Error']);
    const [name, ready, status, restarts] = await shown('crash');
    assert.deepEqual([name, ready, status], ['crash', '0/1', 'CrashLoopBackOff']);
    assert.match(restarts ?? '', /^4 \(.* ago\)$/);
    assert.ok(
      (await events('crash')).some((event) =>
        /^BackOff: Back-off restarting failed container c in pod crash_default/.test(event),
      ),
    );
    await pods().delete('crash');
    await passUntil(clock, 10, () => assert.rejects(pods().get('crash')));
  });

  it('that is not to be restarted ends as its container did', async () => {
    await run('good', { 'exit-after': '2s' }, { restartPolicy: 'Never' });
    await run('bad', { 'exit-after': '2s', 'exit-code': '9' }, { restartPolicy: 'Never' });
    await until('good', 10, phase('Succeeded'));
    await until('bad', 10, phase('Failed'));
    assert.deepEqual((await shown('good')).slice(1, 3), ['0/1', 'Completed']);
    assert.deepEqual((await shown('bad')).slice(1, 3), ['0/1', 'Error']);
    const { nodeName } = (await pods().get('good')).spec;
    const node = sim.cluster.nodes.get(nodeName!);
    assert.equal((await node!.runtime.listContainers({ state: 'RUNNING' })).length, 0);
  });

  it('ends when a container is told to from outside', async () => {
    const { metadata } = await run('told', {}, { restartPolicy: 'Never' });
    const pod = await until('told', 10, phase('Running'));
    sim.cluster.nodes.get(pod.spec.nodeName!)!.runtime.exit({ podUid: metadata.uid, container: 'c' }, 7);
    assert.equal(only(await until('told', 5, phase('Failed'))).state?.terminated?.exitCode, 7);
  });

  it('runs its init containers one by one, and its sidecar beside', async () => {
    await run(
      'stages',
      { 'first.simulation.bulkhead.dev/exit-after': '3s', 'second.simulation.bulkhead.dev/exit-after': '3s' },
      {
        initContainers: [
          { name: 'first', image: 'i' },
          { name: 'side', image: 'i', restartPolicy: 'Always' },
          { name: 'second', image: 'i' },
        ],
      },
    );
    await eventually('the first stage', async () => assert.equal((await shown('stages'))[2], 'Init:0/3'));
    await passUntil(clock, 10, async () => assert.equal((await shown('stages'))[2], 'Init:2/3'));
    await until('stages', 10, phase('Running'));
    await eventually('all run', async () =>
      assert.deepEqual((await shown('stages')).slice(1, 3), ['2/2', 'Running']),
    );
  });

  it('waits for the ConfigMap that it names, and starts when it comes', async () => {
    await run(
      'needy',
      {},
      { containers: [{ name: 'c', image: 'i', envFrom: [{ configMapRef: { name: 'absent' } }] }] },
    );
    await until('needy', 10, (p) =>
      assert.equal(only(p).state?.waiting?.reason, 'CreateContainerConfigError'),
    );
    assert.equal((await shown('needy'))[2], 'CreateContainerConfigError');
    await sim.cluster.client
      .resource(resources.configMaps, namespace)
      .create({ metadata: { name: 'absent' } });
    await until('needy', 20, phase('Running'));
  });

  it('past its deadline fails', async () => {
    await run('deadline', {}, { activeDeadlineSeconds: 10 });
    await until('deadline', 5, phase('Running'));
    const pod = await until('deadline', 20, phase('Failed'));
    assert.deepEqual(
      [pod.status.reason, pod.status.message],
      ['DeadlineExceeded', 'Pod was active on the node longer than the specified deadline'],
    );
  });

  it('ends gracefully, within its grace period', async () => {
    await run('slow', { 'stop-delay': '5s' });
    await run('stubborn', { 'stop-delay': '1h' });
    for (const name of ['slow', 'stubborn']) await until(name, 10, phase('Running'));
    for (const name of ['slow', 'stubborn']) await pods().delete(name);
    assert.equal((await shown('slow'))[2], 'Terminating');
    await pass(clock, 3);
    assert.ok((await pods().get('slow')).metadata.deletionTimestamp);
    await passUntil(clock, 5, () => assert.rejects(pods().get('slow')));
    await pass(clock, 15);
    await pods().get('stubborn');
    await passUntil(clock, 10, () => assert.rejects(pods().get('stubborn')));
  });

  it('that the simulation does not understand says why it does not start', async () => {
    await run('typo', { 'exit-aftr': '1s' });
    await passUntil(clock, 10, async () =>
      assert.ok(
        (await events('typo')).some((event) =>
          /FailedCreatePodSandBox: .*annotation simulation\.bulkhead\.dev\/exit-aftr is unknown; known keys are start-delay/.test(
            event,
          ),
        ),
        `${await events('typo')}`,
      ),
    );
    await pods().delete('typo');
  });
});

describe('a node', () => {
  const ready = async (name: string): Promise<string> => {
    const { status } = await nodes().get(name);
    const found = status.conditions?.find(({ type }) => type === 'Ready');
    return `${found?.status} ${found?.reason}`;
  };
  const taints = async (name: string): Promise<string[]> =>
    ((await nodes().get(name)).spec.taints ?? []).map(({ key, effect }) => `${key}:${effect}`).toSorted();

  it('that lives keeps its lease and stays ready', async () => {
    const lease = () => sim.cluster.client.resource(resources.leases, 'kube-node-lease').get('steady');
    const { spec } = await lease();
    await pass(clock, 60);
    assert.notEqual((await lease()).spec?.renewTime, spec?.renewTime);
    assert.equal(await ready('steady'), 'True KubeletReady');
    assert.deepEqual(await taints('steady'), []);
  });

  it('that falls silent is Unknown, tainted, emptied, and welcome when it comes back', async () => {
    const { client } = sim.cluster;
    await client.resource(resources.deployments, namespace).create({
      metadata: { name: 'web' },
      spec: {
        replicas: 4,
        selector: { matchLabels: { app: 'web' } },
        template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
      },
    });
    const webPods = async () => (await pods().list({ labelSelector: 'app=web' })).items;
    const readyPods = async () =>
      (await webPods()).filter(
        ({ metadata, status }) =>
          !metadata.deletionTimestamp &&
          status.conditions?.some(({ type, status: s }) => type === 'Ready' && s === 'True'),
      );
    await passUntil(clock, 10, async () => assert.equal((await readyPods()).length, 4));
    const lost = (await webPods())
      .filter(({ spec }) => spec.nodeName === 'shaky')
      .map(({ metadata }) => metadata.name);
    assert.ok(lost.length > 0, 'the pods are spread');
    await sim.cluster.nodes.get('shaky')![Symbol.asyncDispose]();
    await pass(clock, 35);
    assert.equal(await ready('shaky'), 'True KubeletReady');
    await passUntil(clock, 30, async () => assert.equal(await ready('shaky'), 'Unknown NodeStatusUnknown'));
    await passUntil(clock, 30, async () =>
      assert.deepEqual(await taints('shaky'), [
        'node.kubernetes.io/unreachable:NoExecute',
        'node.kubernetes.io/unreachable:NoSchedule',
      ]),
    );
    assert.match(await sim.kubectl('get', 'node', 'shaky'), / NotReady /);
    assert.equal((await readyPods()).length, 4 - lost.length);
    // After the five minutes that every pod tolerates, others take their place; the lost ones wait for their node.
    await passUntil(clock, 330, async () => assert.equal((await readyPods()).length, 4));
    const stuck = (await webPods())
      .filter(({ metadata }) => metadata.deletionTimestamp)
      .map(({ metadata }) => metadata.name);
    assert.deepEqual(stuck.toSorted(), lost.toSorted());
    // The machine starts again, with nothing on it.
    const returning = sim.cluster.addNode('shaky');
    await passUntil(clock, 60, async () => assert.equal(await ready('shaky'), 'True KubeletReady'));
    await passUntil(clock, 30, async () => assert.deepEqual(await taints('shaky'), []));
    await returning;
    await passUntil(clock, 60, async () => assert.equal((await webPods()).length, 4));
    await client.resource(resources.deployments, namespace).delete('web');
    await passUntil(clock, 60, async () => assert.equal((await webPods()).length, 0));
  });

  it('that is deleted takes its pods along and may register again', async () => {
    const extra = await sim.cluster.addNode('extra');
    await run('there', {}, { nodeName: 'extra' });
    await until('there', 10, phase('Running'));
    await extra[Symbol.asyncDispose]();
    await nodes().delete('extra');
    await passUntil(clock, 120, () => assert.rejects(pods().get('there')));
    assert.equal((await sim.cluster.addNode('extra')).name, 'extra');
    assert.match(await sim.kubectl('get', 'node', 'extra'), / Ready /);
  });
});

describe('the past', () => {
  it('is forgotten after a while: old versions are gone, and clients told to begin anew', async () => {
    const configMaps = sim.cluster.client.resource(resources.configMaps, namespace);
    for (const name of ['a', 'b', 'c']) await configMaps.create({ metadata: { name } });
    const path = '/api/v1/namespaces/default/configmaps';
    const { metadata } = (await sim.http.call({ path: `${path}?limit=1` })).json<{
      metadata: { resourceVersion: string; continue: string };
    }>();
    await configMaps.delete('b');
    // Compaction keeps the last two of its intervals, each five minutes.
    await pass(clock, 16 * 60);
    const exact = await sim.http.call({
      path: `${path}?resourceVersion=${metadata.resourceVersion}&resourceVersionMatch=Exact`,
    });
    const status = exact.json<Status>();
    assert.deepEqual([exact.status, status.reason], [410, 'Expired'], exact.body.toString());
    const next = await sim.http.call({ path: `${path}?limit=1&continue=${metadata.continue}` });
    const expired = next.json<Status & { metadata: { continue: string } }>();
    assert.deepEqual([next.status, expired.reason], [410, 'Expired']);
    assert.match(
      expired.message ?? '',
      /The provided continue parameter is too old to display a consistent list result\. You can start a new list without the continue parameter/,
    );
    // What the answer offers goes on from the same place in the present.
    const rest = await sim.http.call({ path: `${path}?continue=${expired.metadata.continue}` });
    assert.deepEqual(
      rest.json<{ items: { metadata: { name: string } }[] }>().items.map(({ metadata: { name } }) => name),
      ['absent', 'c', 'kube-root-ca.crt'],
    );
    // Watchers may begin further back, but not for ever.
    for (let i = 0; i < 1_100; i++)
      await configMaps.patch('c', { type: 'merge', patch: { data: { i: String(i) } } });
    await pass(clock, 80);
    await configMaps.delete('c');
    const watch = await sim.http.open({
      path: `${path}?watch=true&resourceVersion=${metadata.resourceVersion}`,
    });
    const seen: { type: string; object: Status }[] = [];
    for await (const event of jsonLines<(typeof seen)[0]>(watch)) seen.push(event);
    assert.deepEqual(
      seen.map(({ type, object }) => [type, object.code, object.reason]),
      [['ERROR', 410, 'Expired']],
    );
    assert.match(seen[0]?.object.message ?? '', /^too old resource version: \d+ \(\d+\)$/);
  });

  it('leaves no events older than an hour', async () => {
    assert.ok((await events('crash')).length > 0);
    await pass(clock, 60 * 60);
    assert.deepEqual(await events('crash'), []);
  });
});
