// Where pods go and why they wait, as users see it: conditions, events, and what sets a waiting pod free.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Pod, PodSpec } from '../../src/api/types/core-v1.ts';
import { resources } from '../../src/cluster/testing.ts';
import { eventually } from './support/eventually.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

const namespace = 'default';
let sim: SimulatedCluster;

before(async () => {
  sim = await startSimulated({ nodes: ['left', 'right'] });
});
after(() => sim[Symbol.asyncDispose]());

const pods = () => sim.cluster.client.resource(resources.pods, namespace);
const nodes = () => sim.cluster.client.resource(resources.nodes);
const run = (name: string, spec: Partial<PodSpec> = {}, cpu = '100m'): Promise<Pod> =>
  pods().create({
    metadata: { name },
    spec: { containers: [{ name: 'c', image: 'i', resources: { requests: { cpu } } }], ...spec },
  });
const changeNode = (name: string, patch: unknown) => nodes().patch(name, { type: 'merge', patch });
const placed = (name: string, where?: string): Promise<Pod> =>
  eventually(`${name} runs`, async () => {
    const pod = await pods().get(name);
    assert.equal(pod.status.phase, 'Running');
    if (where !== undefined) assert.equal(pod.spec.nodeName, where);
    return pod;
  });
/** Waits for the condition and the event that say why the pod has no node. */
async function refused(name: string, message: string): Promise<void> {
  await eventually(`${name} is refused`, async () => {
    const condition = (await pods().get(name)).status.conditions?.find(({ type }) => type === 'PodScheduled');
    assert.deepEqual(
      [condition?.status, condition?.reason, condition?.message],
      ['False', 'Unschedulable', message],
    );
  });
  await eventually('its event', async () => {
    const { items } = await sim.cluster.client
      .resource(resources.events, namespace)
      .list({ fieldSelector: { 'involvedObject.name': name, reason: 'FailedScheduling' } });
    assert.ok(
      items.some((event) => event.message === message && event.type === 'Warning'),
      JSON.stringify(items),
    );
  });
}
const clear = async (...names: string[]): Promise<void> => {
  for (const name of names) await pods().delete(name, { gracePeriodSeconds: 0 });
};

describe('pods', () => {
  it('are spread over the nodes', async () => {
    const names = Array.from({ length: 6 }, (_, i) => `spread-${i}`);
    for (const name of names) await run(name, {}, '4');
    const where = await Promise.all(names.map(async (name) => (await placed(name)).spec.nodeName));
    assert.equal(where.filter((node) => node === 'left').length, 3);
    await clear(...names);
  });

  it('that ask for too much wait until there is room', async () => {
    await run('filler', { nodeName: 'left' }, '30');
    await run('filler-too', { nodeName: 'right' }, '30');
    await placed('filler');
    await placed('filler-too');
    await run('big', {}, '8');
    await refused('big', '0/2 nodes are available: 2 Insufficient cpu.');
    assert.match(await sim.kubectl('get', 'pod', 'big'), /big +0\/1 +Pending/);
    await clear('filler');
    await placed('big', 'left');
    await clear('big', 'filler-too');
  });

  it('that no node is large enough for get one when it comes', async () => {
    await run('huge', { nodeSelector: { size: 'huge' } });
    await refused('huge', "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.");
    const extra = await sim.cluster.addNode('extra');
    await changeNode('extra', { metadata: { labels: { size: 'huge' } } });
    await placed('huge', 'extra');
    await clear('huge');
    await extra[Symbol.asyncDispose]();
    await nodes().delete('extra');
  });

  it('keep away from taints that they do not tolerate, and go where they do', async () => {
    await changeNode('left', { spec: { taints: [{ key: 'only', value: 'few', effect: 'NoSchedule' }] } });
    await changeNode('right', { spec: { unschedulable: true } });
    await run('plain');
    await refused(
      'plain',
      '0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.',
    );
    await run('few', {
      tolerations: [{ key: 'only', operator: 'Equal', value: 'few', effect: 'NoSchedule' }],
    });
    await placed('few', 'left');
    await changeNode('right', { spec: { unschedulable: null } });
    await placed('plain', 'right');
    // NoExecute ends what runs already and does not tolerate it.
    await changeNode('right', { spec: { taints: [{ key: 'out', effect: 'NoExecute' }] } });
    await eventually('it is evicted', () => assert.rejects(pods().get('plain'), { message: /not found/ }));
    await changeNode('right', { spec: { taints: null } });
    await changeNode('left', { spec: { taints: null } });
    await clear('few');
  });

  it('prefer the nodes that they say they prefer', async () => {
    await changeNode('right', { metadata: { labels: { disk: 'ssd' } } });
    const preference = {
      matchExpressions: [{ key: 'disk', operator: 'In' as const, values: ['ssd'] }],
    };
    const affinity = {
      nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, preference }] },
    };
    for (const name of ['fond-1', 'fond-2', 'fond-3']) await run(name, { affinity });
    for (const name of ['fond-1', 'fond-2', 'fond-3']) await placed(name, 'right');
    await clear('fond-1', 'fond-2', 'fond-3');
  });

  it('behind gates are not tried, and say so', async () => {
    await run('gated', { schedulingGates: [{ name: 'example.com/wait' }] });
    assert.match(await sim.kubectl('get', 'pod', 'gated'), /gated +0\/1 +SchedulingGated/);
    await sim.kubectl(
      'patch',
      'pod',
      'gated',
      '--type=json',
      '-p',
      '[{"op":"remove","path":"/spec/schedulingGates"}]',
    );
    await placed('gated');
    await clear('gated');
  });

  it('of another scheduler are left to it', async () => {
    await run('theirs', { schedulerName: 'mine' });
    await run('ours');
    await placed('ours');
    assert.equal((await pods().get('theirs')).spec.nodeName, undefined);
    await pods().createSubresource('theirs', 'binding', {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name: 'theirs' },
      target: { kind: 'Node', name: 'right' },
    });
    await placed('theirs', 'right');
    await assert.rejects(
      pods().createSubresource('theirs', 'binding', {
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name: 'theirs' },
        target: { kind: 'Node', name: 'left' },
      }),
      {
        message:
          /Operation cannot be fulfilled on pods\/binding "theirs": pod theirs is already assigned to node "right"/,
      },
    );
    await clear('theirs', 'ours');
  });

  it('share host ports node by node', async () => {
    const spec = { containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80, hostPort: 8080 }] }] };
    for (const name of ['port-1', 'port-2']) await run(name, spec);
    const where = await Promise.all(
      ['port-1', 'port-2'].map(async (name) => (await placed(name)).spec.nodeName),
    );
    assert.deepEqual(where.toSorted(), ['left', 'right']);
    await run('port-3', spec);
    await refused(
      'port-3',
      "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports.",
    );
    await clear('port-1');
    await placed('port-3');
    await clear('port-2', 'port-3');
  });

  it('that have no node yet go at once when they are deleted', async () => {
    await run('unplaced', { nodeSelector: { nowhere: 'x' } });
    assert.match(await sim.kubectl('delete', 'pod', 'unplaced', '--grace-period=600'), /"unplaced" deleted/);
    await assert.rejects(pods().get('unplaced'));
  });

  it('with constraints that are not handled yet are told which', async () => {
    await run('spread', {
      topologySpreadConstraints: [
        { maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable: 'DoNotSchedule', labelSelector: {} },
      ],
    });
    await refused(
      'spread',
      '0/2 nodes are available: this scheduler does not handle spec.topologySpreadConstraints (whenUnsatisfiable: DoNotSchedule) yet.',
    );
    await clear('spread');
  });

  it('with a claim that is not there wait for it', async () => {
    await run('claimed', { volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'c' } }] });
    await refused('claimed', '0/2 nodes are available: persistentvolumeclaim "c" not found.');
    await clear('claimed');
  });

  it('come in hundreds', async () => {
    const names = Array.from({ length: 200 }, (_, i) => `crowd-${i}`);
    await Promise.all(names.map((name) => run(name, {}, '50m')));
    await eventually('all run', async () => {
      const { items } = await pods().list();
      assert.equal(
        items.filter(
          ({ metadata, status }) => metadata.name.startsWith('crowd-') && status.phase === 'Running',
        ).length,
        200,
      );
    });
    await pods().deleteCollection({ gracePeriodSeconds: 0 });
  });
});
