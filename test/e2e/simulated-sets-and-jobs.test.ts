// DaemonSets, StatefulSets, Jobs, CronJobs and the endpoints of Services on a whole cluster: real API server,
// scheduler and node agents, simulated containers, time moved by hand.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Job } from '../../src/api/types/batch-v1.ts';
import type { Pod } from '../../src/api/types/core-v1.ts';
import { ManualClock, resources } from '../../src/cluster/testing.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';
import { passUntil } from './support/time.ts';

const namespace = 'default';
const clock = new ManualClock(Date.parse('2030-01-01T00:00:00Z'));
let sim: SimulatedCluster;

before(async () => {
  sim = await startSimulated({ clock });
});
after(() => sim[Symbol.asyncDispose]());

const client = () => sim.cluster.client;
const jobs = () => client().resource(resources.jobs, namespace);
const podsOf = async (app: string): Promise<readonly Pod[]> =>
  (
    await client()
      .resource(resources.pods, namespace)
      .list({ labelSelector: `app=${app}` })
  ).items;
const template = (app: string, annotations: Record<string, string> = {}, restartPolicy?: 'Never') => ({
  metadata: { labels: { app }, annotations },
  spec: {
    ...(restartPolicy ? { restartPolicy } : {}),
    containers: [{ name: 'c', image: 'i:1', ports: [{ name: 'http', containerPort: 8080 }] }],
  },
});
const SUCCEEDS = { 'simulation.bulkhead.dev/exit-after': '2s' };
const FAILS = { ...SUCCEEDS, 'simulation.bulkhead.dev/exit-code': '3' };

function condition(job: Job, type: string): string | undefined {
  const found = job.status?.conditions?.find((one) => one.type === type);
  return found && `${found.status} ${found.reason}`;
}

describe('DaemonSets', () => {
  it('put a pod on each node, and on one that comes later', async () => {
    const sets = client().resource(resources.daemonSets, namespace);
    await sets.create({
      metadata: { name: 'agent' },
      spec: { selector: { matchLabels: { app: 'agent' } }, template: template('agent') },
    } as never);
    await passUntil(clock, 30, async () => assert.equal((await sets.get('agent')).status.numberAvailable, 2));
    await sim.cluster.addNode('late');
    await passUntil(clock, 30, async () => {
      const nodes = (await podsOf('agent')).map((pod) => pod.spec.nodeName);
      assert.equal(new Set(nodes).size, 3);
      assert.ok(nodes.includes('late'));
    });
    await sets.delete('agent');
    await passUntil(clock, 60, async () => assert.deepEqual(await podsOf('agent'), []));
  });
});

describe('StatefulSets', () => {
  it('bring pods up in order under a Service that lists them by name', async () => {
    const sets = client().resource(resources.statefulSets, namespace);
    await client()
      .resource(resources.services, namespace)
      .create({
        metadata: { name: 'db' },
        spec: { clusterIP: 'None', selector: { app: 'db' }, ports: [{ port: 5432, targetPort: 'http' }] },
      });
    await sets.create({
      metadata: { name: 'db' },
      spec: {
        replicas: 3,
        serviceName: 'db',
        selector: { matchLabels: { app: 'db' } },
        template: template('db'),
      },
    } as never);
    await passUntil(clock, 60, async () => assert.equal((await sets.get('db')).status.availableReplicas, 3));
    const names = (await podsOf('db')).map((pod) => pod.metadata.name).toSorted();
    assert.deepEqual(names, ['db-0', 'db-1', 'db-2']);
    const slices = client().resource(resources.endpointSlices, namespace);
    await passUntil(clock, 10, async () => {
      const { items } = await slices.list({ labelSelector: 'kubernetes.io/service-name=db' });
      const hostnames = items.flatMap((slice) => slice.endpoints ?? []).map((one) => one.hostname);
      assert.deepEqual(hostnames.toSorted(), names);
      assert.deepEqual(items[0]?.ports, [{ name: '', protocol: 'TCP', port: 8080 }]);
    });
    const endpoints = await client().resource(resources.endpoints, namespace).get('db');
    assert.equal(endpoints.subsets?.[0]?.addresses?.length, 3);
    const set = await sets.get('db');
    await sets.update({ ...set, spec: { ...set.spec, replicas: 1 } });
    await passUntil(clock, 60, async () => assert.equal((await podsOf('db')).length, 1));
  });
});

describe('Jobs', () => {
  it('complete when all their pods have succeeded, and leave no finalizer behind', async () => {
    await jobs().create({
      metadata: { name: 'good' },
      spec: { completions: 4, parallelism: 2, template: template('good', SUCCEEDS, 'Never') },
    });
    const job = await passUntil(clock, 60, async () => {
      const found = await jobs().get('good');
      assert.equal(condition(found, 'Complete'), 'True CompletionsReached');
      return found;
    });
    assert.equal(job.status.succeeded, 4);
    const pods = await podsOf('good');
    assert.equal(pods.length, 4);
    assert.ok(pods.every((pod) => !pod.metadata.finalizers?.length));
  });

  it('fail when their pods fail too often', async () => {
    await jobs().create({
      metadata: { name: 'bad' },
      spec: { backoffLimit: 1, template: template('bad', FAILS, 'Never') },
    });
    const job = await passUntil(clock, 120, async () => {
      const found = await jobs().get('bad');
      assert.equal(condition(found, 'Failed'), 'True BackoffLimitExceeded');
      return found;
    });
    assert.equal(job.status.failed, 2);
  });

  it('with indexes run each index once, and go with a time to live', async () => {
    await jobs().create({
      metadata: { name: 'indexed' },
      spec: {
        completions: 3,
        parallelism: 3,
        completionMode: 'Indexed',
        ttlSecondsAfterFinished: 30,
        template: template('indexed', SUCCEEDS, 'Never'),
      },
    });
    await passUntil(clock, 60, async () =>
      assert.equal((await jobs().get('indexed')).status.completedIndexes, '0-2'),
    );
    await passUntil(clock, 90, async () => {
      assert.ok(!(await jobs().list()).items.some((job) => job.metadata.name === 'indexed'));
      assert.deepEqual(await podsOf('indexed'), []);
    });
  });

  it('are started by CronJobs', async () => {
    const cronJobs = client().resource(resources.cronJobs, namespace);
    await cronJobs.create({
      metadata: { name: 'minutely' },
      spec: {
        schedule: '* * * * *',
        successfulJobsHistoryLimit: 1,
        jobTemplate: { spec: { template: template('minutely', SUCCEEDS, 'Never') } },
      },
    });
    await passUntil(clock, 200, async () => {
      const { status } = await cronJobs.get('minutely');
      assert.ok(status.lastSuccessfulTime);
      const kept = (await jobs().list()).items.filter((job) => job.metadata.name.startsWith('minutely-'));
      const { items } = await client().resource(resources.events, namespace).list();
      const seen = items.filter((event) => event.reason === 'SawCompletedJob');
      assert.ok(seen.length > 1, `${seen.length} Jobs have completed`);
      assert.ok(kept.length <= 2, `${kept.length} Jobs are kept`);
    });
    await cronJobs.delete('minutely');
  });
});
