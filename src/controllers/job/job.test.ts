import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Draft, isConditionTrue } from '../../api/index.ts';
import type { Job, JobSpec } from '../../api/types/batch-v1.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';
import { IndexSet } from './indexes.ts';

const work = (spec: Partial<JobSpec>): Draft<Job> => ({
  metadata: { name: 'work' },
  spec: {
    parallelism: 1,
    completions: 1,
    backoffLimit: 6,
    completionMode: 'NonIndexed',
    selector: { matchLabels: { job: 'work' } },
    template: {
      metadata: { labels: { job: 'work' } },
      spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] },
    },
    ...spec,
  },
});

async function setup(
  spec: Partial<JobSpec>,
  becomes: (pod: Pod) => 'succeeded' | 'failed' | 'ready' | undefined,
) {
  const cluster = await startTestCluster(['job-controller']);
  cluster.podsBecome = (pod) =>
    pod.status?.phase && pod.status.phase !== 'Running' ? undefined : becomes(pod);
  const jobs = cluster.client.resource(resources.jobs, 'default');
  const made: string[] = [];
  const informer = cluster.client.informers.informer(resources.pods);
  informer.addHandler({ added: (p) => void made.push(index(p)) });
  await informer.synced;
  await jobs.create(work(spec));
  await cluster.advance(1000);
  const status = async () => (await jobs.get('work')).status;
  const condition = async (type: string) => {
    const found = (await status()).conditions?.find((c) => c.type === type);
    return found && `${found.status} ${found.reason}: ${found.message}`;
  };
  const change = async (edit: Partial<JobSpec>) => {
    const job = await jobs.get('work');
    await jobs.update({ ...job, spec: { ...job.spec, ...edit } });
    await cluster.advance(1000);
  };
  return { cluster, jobs, made, status, condition, change };
}

const index = (pod: Pod): string =>
  pod.metadata.annotations?.['batch.kubernetes.io/job-completion-index'] ?? '';

test('a Job runs its pods to completion, counts each once and lets them go', async () => {
  const { cluster, status, condition } = await setup({ completions: 5, parallelism: 2 }, () => 'succeeded');
  await using _ = cluster;
  await cluster.advance(3000);
  const { succeeded, failed, active, completionTime, startTime, uncountedTerminatedPods } = await status();
  assert.deepEqual([succeeded, failed ?? 0, active], [5, 0, 0]);
  assert.ok(startTime && completionTime);
  assert.deepEqual(uncountedTerminatedPods, { succeeded: [], failed: [] });
  assert.equal(
    await condition('SuccessCriteriaMet'),
    'True CompletionsReached: Reached expected number of succeeded pods',
  );
  assert.equal(
    await condition('Complete'),
    'True CompletionsReached: Reached expected number of succeeded pods',
  );
  const pods = await cluster.pods();
  assert.equal(pods.length, 5);
  assert.ok(pods.every((pod) => !pod.metadata.finalizers?.length));
  assert.ok((await cluster.events('work')).includes('Completed: Job completed'));
});

test('no more pods run at once than parallelism says, and it may change', async () => {
  const { cluster, change, status } = await setup({ completions: 10, parallelism: 3 }, () => 'ready');
  await using _ = cluster;
  assert.equal((await cluster.pods()).length, 3);
  await change({ parallelism: 5 });
  assert.equal((await cluster.pods()).length, 5);
  await change({ parallelism: 1 });
  assert.equal((await status()).active, 1);
  assert.equal((await cluster.pods()).filter((p) => !p.metadata.deletionTimestamp).length, 1);
});

test('failed pods are replaced later and later until the limit fails the Job', async () => {
  const { cluster, made, status, condition } = await setup({ backoffLimit: 2 }, () => 'failed');
  await using _ = cluster;
  assert.equal(made.length, 1);
  await cluster.advance(8000);
  assert.equal(made.length, 1);
  await cluster.advance(3000);
  assert.equal(made.length, 2);
  await cluster.advance(16_000);
  assert.equal(made.length, 2);
  await cluster.advance(6000);
  assert.equal(made.length, 3);
  await cluster.advance(2000);
  assert.equal((await status()).failed, 3);
  assert.equal(
    await condition('Failed'),
    'True BackoffLimitExceeded: Job has reached the specified backoff limit',
  );
  assert.equal(await condition('FailureTarget'), await condition('Failed'));
  await cluster.advance(100_000);
  assert.equal(made.length, 3);
});

test('a deadline ends the Job and what runs; time suspended does not count', async () => {
  const { cluster, condition, change, status } = await setup({ activeDeadlineSeconds: 60 }, () => 'ready');
  await using _ = cluster;
  await cluster.advance(30_000);
  await change({ suspend: true });
  assert.equal(await condition('Suspended'), 'True JobSuspended: Job suspended');
  assert.deepEqual(await cluster.pods(), []);
  await cluster.advance(100_000);
  await change({ suspend: false });
  assert.equal(await condition('Suspended'), 'False JobResumed: Job resumed');
  await cluster.advance(50_000);
  assert.equal(await condition('Failed'), undefined);
  await cluster.advance(15_000);
  assert.equal(
    await condition('Failed'),
    'True DeadlineExceeded: Job was active longer than specified deadline',
  );
  assert.equal((await status()).active, 0);
});

test('the Job is not finished before its last pod is gone', async () => {
  const { cluster, condition, jobs } = await setup({ activeDeadlineSeconds: 10 }, () => 'ready');
  await using _ = cluster;
  cluster.podsEnd = false;
  const pods = cluster.client.resource(resources.pods, 'default');
  const [pod] = await cluster.pods();
  await pods.update({ ...pod!, spec: { ...pod!.spec, nodeName: 'n1' } });
  await cluster.advance(15_000);
  assert.match((await condition('FailureTarget')) ?? '', /DeadlineExceeded/);
  assert.equal(await condition('Failed'), undefined);
  assert.equal((await jobs.get('work')).status.terminating, 1);
  await pods.delete(pod!.metadata.name, { gracePeriodSeconds: 0 });
  await cluster.advance(1000);
  assert.match((await condition('Failed')) ?? '', /DeadlineExceeded/);
});

test('an Indexed Job runs each index to success and tells the pod its index', async () => {
  const failedOnce = new Set<string>();
  const { cluster, made, status } = await setup(
    { completions: 4, parallelism: 4, completionMode: 'Indexed' },
    (pod) => {
      if (index(pod) !== '2' || failedOnce.has('2')) return 'succeeded';
      failedOnce.add('2');
      return 'failed';
    },
  );
  await using _ = cluster;
  await cluster.advance(15_000);
  assert.deepEqual(made.toSorted(), ['0', '1', '2', '2', '3']);
  const { completedIndexes, succeeded, failed } = await status();
  assert.deepEqual([completedIndexes, succeeded, failed], ['0-3', 4, 1]);
  const pod = (await cluster.pods()).find((p) => index(p) === '3');
  assert.match(pod?.metadata.name ?? '', /^work-3-/);
  assert.equal(pod?.spec.hostname, 'work-3');
  assert.equal(pod?.metadata.labels?.['batch.kubernetes.io/job-completion-index'], '3');
  assert.deepEqual(pod?.spec.containers[0]?.env, [
    {
      name: 'JOB_COMPLETION_INDEX',
      valueFrom: { fieldRef: { fieldPath: "metadata.labels['batch.kubernetes.io/job-completion-index']" } },
    },
  ]);
});

test('with a limit for each index one bad index does not stop the others, and fails the Job at the end', async () => {
  const { cluster, made, status, condition } = await setup(
    {
      completions: 3,
      parallelism: 3,
      completionMode: 'Indexed',
      backoffLimit: 2 ** 31 - 1,
      backoffLimitPerIndex: 1,
    },
    (pod) => (index(pod) === '1' ? 'failed' : 'succeeded'),
  );
  await using _ = cluster;
  await cluster.advance(60_000);
  assert.deepEqual(made.toSorted(), ['0', '1', '1', '2']);
  const { completedIndexes, failedIndexes, failed } = await status();
  assert.deepEqual([completedIndexes, failedIndexes, failed], ['0,2', '1', 2]);
  assert.equal(await condition('Failed'), 'True FailedIndexes: Job has failed indexes');
  const counts = (await cluster.pods())
    .filter((p) => index(p) === '1')
    .map((p) => p.metadata.annotations?.['batch.kubernetes.io/job-index-failure-count']);
  assert.deepEqual(counts.toSorted(), ['0', '1']);
});

test('the pod failure policy fails, ignores or counts by exit code', async () => {
  const exits: number[] = [3, 42];
  const { cluster, made, status, condition } = await setup(
    {
      backoffLimit: 0,
      podFailurePolicy: {
        rules: [
          { action: 'Ignore', onExitCodes: { operator: 'In', values: [3] } },
          { action: 'FailJob', onExitCodes: { operator: 'In', values: [42] } },
        ],
      },
    },
    () => undefined,
  );
  await using _ = cluster;
  const pods = cluster.client.resource(resources.pods, 'default');
  for (const exitCode of exits) {
    const pod = (await cluster.pods()).find((p) => !p.status?.phase);
    await pods.updateStatus({
      ...pod!,
      status: {
        phase: 'Failed',
        containerStatuses: [
          {
            name: 'c',
            image: 'i',
            imageID: '',
            ready: false,
            restartCount: 0,
            state: { terminated: { exitCode, finishedAt: new Date(cluster.clock.now()).toISOString() } },
          },
        ],
      },
    });
    await cluster.advance(15_000);
  }
  assert.equal(made.length, 2);
  assert.equal((await status()).failed, 1);
  const name = (await cluster.pods()).find(
    (p) => p.status.containerStatuses?.[0]?.state?.terminated?.exitCode === 42,
  )?.metadata.name;
  assert.equal(
    await condition('Failed'),
    `True PodFailurePolicy: Container c for pod default/${name} failed with exit code 42 matching FailJob rule at index 1`,
  );
});

test('the success policy ends the Job early and stops what still runs', async () => {
  const { cluster, condition } = await setup(
    {
      completions: 4,
      parallelism: 4,
      completionMode: 'Indexed',
      successPolicy: { rules: [{ succeededIndexes: '0-1' }] },
    },
    (pod) => (index(pod) === '0' || index(pod) === '1' ? 'succeeded' : 'ready'),
  );
  await using _ = cluster;
  await cluster.advance(3000);
  assert.equal(await condition('SuccessCriteriaMet'), 'True SuccessPolicy: Matched rules at index 0');
  assert.equal(await condition('Complete'), 'True SuccessPolicy: Matched rules at index 0');
  assert.deepEqual((await cluster.pods()).map(index).toSorted(), ['0', '1']);
});

test('a work queue without completions is done when one pod succeeded and none runs', async () => {
  let done = false;
  const { cluster, condition, made } = await setup({ completions: undefined, parallelism: 3 }, () =>
    done ? 'succeeded' : 'ready',
  );
  await using _ = cluster;
  assert.equal(made.length, 3);
  done = true;
  const pods = cluster.client.resource(resources.pods, 'default');
  for (const pod of await cluster.pods()) {
    await pods.updateStatus({ ...pod, status: { phase: 'Succeeded' } });
    await cluster.advance(500);
  }
  assert.equal(made.length, 3);
  assert.match((await condition('Complete')) ?? '', /CompletionsReached/);
});

test('pods of a Job that is gone are let go', async () => {
  const { cluster, jobs } = await setup({}, () => 'ready');
  await using _ = cluster;
  await jobs.delete('work');
  await cluster.settle();
  const [pod] = await cluster.pods();
  assert.equal(pod?.metadata.finalizers?.length ?? 0, 0);
});

test('a finalizer that the cache still shows does not make a pod count twice', async () => {
  const release = Promise.withResolvers<void>();
  let stalled = false;
  const { cluster, status } = await setup({ completions: 2, parallelism: 1 }, () => 'ready');
  await using _ = cluster;
  const pods = cluster.client.resource(resources.pods, 'default');
  const [pod] = await cluster.pods();
  // The pod's end is seen, what follows is not: the watch breaks just then.
  cluster.api.intercept = async (call) => {
    if (call.verb === 'patch' && call.resource.resource === 'pods' && !stalled) {
      stalled = true;
      cluster.api.dropWatches();
    }
    if (call.verb === 'watch' && call.resource.resource === 'pods' && stalled) await release.promise;
    return undefined;
  };
  await pods.updateStatus({ ...pod!, status: { phase: 'Succeeded' } });
  await cluster.advance(5000);
  const job = await cluster.client.resource(resources.jobs, 'default').get('work');
  // Any change of the Job makes it be looked at again with the stale cache.
  await cluster.client
    .resource(resources.jobs, 'default')
    .update({ ...job, metadata: { ...job.metadata, labels: { touched: 'yes' } } });
  await cluster.advance(5000);
  assert.equal((await status()).succeeded, 1);
  release.resolve();
  await cluster.advance(5000);
  assert.equal((await status()).succeeded, 1);
  assert.equal(isConditionTrue((await status()).conditions, 'Complete'), false);
});

test('index sets read and write the form of the status', () => {
  const set = IndexSet.parse('1,3-5,9', 10);
  assert.equal(set.size, 5);
  assert.ok(set.has(4) && !set.has(2) && !set.has(10));
  assert.equal(String(set.with([2, 6, 7, 0])), '0-7,9');
  assert.equal(String(IndexSet.of([0, 1, 5, 6, 7])), '0,1,5-7');
  assert.equal(String(IndexSet.parse('0-99', 3)), '0-2');
  assert.equal(IndexSet.parse('0-9', 20).countIn(IndexSet.parse('5-14', 20)), 5);
  // Against the plain meaning, for many random sets.
  for (let round = 0; round < 200; round++) {
    const plain = new Set(Array.from({ length: 30 }, (_, i) => (i * 7919 + round * 104729) % 61));
    const indexed = IndexSet.of(plain);
    assert.equal(indexed.size, plain.size);
    for (let i = 0; i < 70; i++) assert.equal(indexed.has(i), plain.has(i));
    assert.equal(String(IndexSet.parse(String(indexed), 100)), String(indexed));
  }
});
