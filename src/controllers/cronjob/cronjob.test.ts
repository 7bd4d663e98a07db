import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Draft, parseCronSchedule, timestamp } from '../../api/index.ts';
import type { CronJob, CronJobSpec, Job } from '../../api/types/batch-v1.ts';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';
import { dueAt, zonedTimestamp } from './schedule.ts';

const nightly = (spec: Partial<CronJobSpec> = {}): Draft<CronJob> => ({
  metadata: { name: 'nightly' },
  spec: {
    schedule: '*/10 * * * *',
    concurrencyPolicy: 'Allow',
    successfulJobsHistoryLimit: 3,
    failedJobsHistoryLimit: 1,
    jobTemplate: {
      metadata: { labels: { kind: 'nightly' } },
      spec: { template: { spec: { containers: [{ name: 'c', image: 'i' }] } } },
    },
    ...spec,
  },
});

async function setup(spec: Partial<CronJobSpec> = {}) {
  const cluster = await startTestCluster(['cronjob-controller']);
  const { client, clock } = cluster;
  const cronJobs = client.resource(resources.cronJobs, 'default');
  const jobs = client.resource(resources.jobs, 'default');
  await cronJobs.create(nightly(spec));
  await cluster.settle();
  const minutes = (n: number) => cluster.advance(n * 60_000, 20_000);
  const list = async (): Promise<readonly Job[]> => (await jobs.list()).items;
  const finish = async (job: Job, type: 'Complete' | 'Failed') => {
    const time = timestamp(clock.now());
    await jobs.updateStatus({
      ...job,
      status: {
        startTime: time,
        ...(type === 'Complete' ? { completionTime: time } : {}),
        conditions: [{ type, status: 'True', lastTransitionTime: time }],
      },
    });
    await cluster.settle();
  };
  const status = async () => (await cronJobs.get('nightly')).status;
  return { cluster, cronJobs, jobs, minutes, list, finish, status };
}

test('a Job is started at each scheduled time, named for it, and listed while it runs', async () => {
  const { cluster, minutes, list, status, finish } = await setup();
  await using _ = cluster;
  await minutes(9);
  assert.equal((await list()).length, 0);
  await minutes(2);
  const [job, ...others] = await list();
  assert.deepEqual(others, []);
  const scheduled = Date.parse('2026-01-01T00:10:00Z');
  assert.equal(job?.metadata.name, `nightly-${scheduled / 60_000}`);
  assert.equal(job?.metadata.labels?.['kind'], 'nightly');
  assert.equal(
    job?.metadata.annotations?.['batch.kubernetes.io/cronjob-scheduled-timestamp'],
    '2026-01-01T00:10:00Z',
  );
  assert.equal(job?.metadata.ownerReferences?.[0]?.kind, 'CronJob');
  assert.equal((await status()).lastScheduleTime, '2026-01-01T00:10:00Z');
  assert.equal((await status()).active?.[0]?.name, job?.metadata.name);
  await finish(job!, 'Complete');
  assert.deepEqual((await status()).active, []);
  assert.equal((await status()).lastSuccessfulTime, '2026-01-01T00:11:00Z');
  assert.deepEqual((await cluster.events('nightly')).toSorted(), [
    `SawCompletedJob: Saw completed job: ${job?.metadata.name}, condition: Complete`,
    `SuccessfulCreate: Created job ${job?.metadata.name}`,
  ]);
  await minutes(10);
  assert.equal((await list()).length, 2);
});

test('Forbid waits for the running Job, Replace ends it', async () => {
  const forbid = await setup({ concurrencyPolicy: 'Forbid' });
  await forbid.minutes(31);
  assert.equal((await forbid.list()).length, 1);
  assert.ok((await forbid.cluster.events('nightly')).some((e) => e.startsWith('JobAlreadyActive')));
  await forbid.cluster[Symbol.asyncDispose]();
  const replace = await setup({ concurrencyPolicy: 'Replace' });
  await replace.minutes(31);
  assert.equal((await replace.list()).length, 1);
  assert.equal((await replace.status()).lastScheduleTime, '2026-01-01T00:30:00Z');
  await replace.cluster[Symbol.asyncDispose]();
});

test('history is kept as long as the limits say', async () => {
  const { cluster, minutes, list, finish } = await setup({
    successfulJobsHistoryLimit: 2,
    failedJobsHistoryLimit: 1,
  });
  await using _ = cluster;
  for (let i = 0; i < 8; i++) {
    await minutes(10);
    const running = (await list()).find((job) => !job.status?.conditions);
    await finish(running!, i % 2 === 0 ? 'Complete' : 'Failed');
  }
  await cluster.settle();
  const ends = (await list()).map((job) => job.status.conditions?.[0]?.type).toSorted();
  assert.deepEqual(ends, ['Complete', 'Complete', 'Failed']);
});

test('suspended it starts nothing; resumed it makes up for the last start only', async () => {
  const { cluster, minutes, list, cronJobs } = await setup({ suspend: true });
  await using _ = cluster;
  await minutes(45);
  assert.equal((await list()).length, 0);
  const cronJob = await cronJobs.get('nightly');
  await cronJobs.update({ ...cronJob, spec: { ...cronJob.spec, suspend: false } });
  await cluster.settle();
  assert.deepEqual(
    (await list()).map(
      (job) => job.metadata.annotations?.['batch.kubernetes.io/cronjob-scheduled-timestamp'],
    ),
    ['2026-01-01T00:40:00Z'],
  );
});

test('a start whose deadline has passed is missed', async () => {
  const { cluster, minutes, list, cronJobs } = await setup({ suspend: true, startingDeadlineSeconds: 120 });
  await using _ = cluster;
  await minutes(15);
  const cronJob = await cronJobs.get('nightly');
  await cronJobs.update({ ...cronJob, spec: { ...cronJob.spec, suspend: false } });
  await cluster.settle();
  assert.equal((await list()).length, 0);
  await minutes(6);
  assert.equal((await list()).length, 1);
});

test('a schedule that cannot be read is said in an event', async () => {
  const { cluster, list } = await setup({ schedule: 'now and then' });
  await using _ = cluster;
  assert.equal((await list()).length, 0);
  assert.match(
    (await cluster.events('nightly'))[0] ?? '',
    /^UnparseableSchedule: unparseable schedule: "now and then" : /,
  );
});

test('a Job that vanished is struck out', async () => {
  const { cluster, minutes, jobs, list, status } = await setup();
  await using _ = cluster;
  await minutes(11);
  const [job] = await list();
  await jobs.delete(job!.metadata.name);
  await cluster.settle();
  assert.deepEqual((await status()).active, []);
  assert.ok(
    (await cluster.events('nightly')).includes(`MissingJob: Active job went missing: ${job?.metadata.name}`),
  );
});

test('the latest missed start is found however long ago the first was', () => {
  const schedules = [
    '* * * * *',
    '*/7 * * * *',
    '0 3 * * *',
    '30 2 1 * *',
    '0 0 31 * *',
    '15 10 * * 1-5',
    '@every 90s',
  ];
  const created = Date.parse('2025-01-15T12:34:56Z');
  for (const text of schedules) {
    const schedule = parseCronSchedule(text);
    for (const days of [0.001, 0.5, 3, 40, 200]) {
      const now = created + days * 86_400_000;
      let expected: number | undefined;
      for (let at = schedule.next(created); at !== undefined && at <= now; at = schedule.next(at))
        expected = at;
      const cronJob = {
        metadata: { creationTimestamp: timestamp(created) },
        spec: { schedule: text },
      } as unknown as CronJob;
      assert.equal(dueAt(cronJob, schedule, now).scheduled, expected, `${text} after ${days} days`);
    }
  }
});

test('timestamps carry the offset of their zone', () => {
  const at = Date.parse('2026-07-01T00:00:00Z');
  assert.equal(zonedTimestamp(at, undefined), '2026-07-01T00:00:00Z');
  assert.equal(zonedTimestamp(at, 'Europe/Berlin'), '2026-07-01T02:00:00+02:00');
  assert.equal(zonedTimestamp(at, 'America/St_Johns'), '2026-06-30T21:30:00-02:30');
});
