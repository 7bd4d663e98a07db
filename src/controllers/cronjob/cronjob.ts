// Starts Jobs on a schedule. It sets a timer for the next start of each CronJob; a start that was missed (nobody
// there, or suspended) is made up for once, unless its deadline has passed.

import {
  CronError,
  type CronSchedule,
  controllerOf,
  controllerReference,
  findCondition,
  isAlreadyExists,
  isControlledBy,
  isNamespaceTerminating,
  isNotFound,
  isTimeZone,
  parseCronSchedule,
  timestamp,
  timestampMs,
} from '../../api/index.ts';
import type { CronJob, Job } from '../../api/types/batch-v1.ts';
import type { ObjectReference } from '../../api/types/core-v1.ts';
import {
  createEventRecorder,
  keyOf,
  type ReconcileResult,
  referenceTo,
  resources,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { byController } from '../pods/indexes.ts';
import { messageOf } from '../pods/pod-control.ts';
import { sameValue } from '../same-value.ts';
import { dueAt, rfc1123, zonedTimestamp } from './schedule.ts';

const type = resources.cronJobs;
const SCHEDULED_AT = 'batch.kubernetes.io/cronjob-scheduled-timestamp';

export function startCronJobController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const cronJobs = client.informers.informer(type);
  const jobs = client.informers.informer(resources.jobs);
  const jobsByController = jobs.index(byController);
  const recorder = createEventRecorder({ client, component: 'cronjob-controller', clock, logger });
  const ready = allSynced(cronJobs, jobs);
  const controller = startController({
    name: 'cronjob-controller',
    clock,
    logger,
    concurrency: 5,
    ready,
    reconcile,
  });
  const { queue } = controller;
  const enqueueOwner = (job: Job): void => {
    const reference = controllerOf(job);
    if (reference?.kind !== type.kind) return;
    const owner = cronJobs.lister.find(job.metadata.namespace, reference.name);
    if (owner?.metadata.uid === reference.uid) queue.add(keyOf(owner));
  };
  cronJobs.addHandler({
    added: (cronJob) => queue.add(keyOf(cronJob)),
    updated: (cronJob) => queue.add(keyOf(cronJob)),
  });
  jobs.addHandler({ added: enqueueOwner, updated: enqueueOwner, deleted: enqueueOwner });

  async function reconcile(key: string): Promise<ReconcileResult | undefined> {
    const cached = cronJobs.lister.get(key);
    if (!cached) return undefined;
    const children = jobsByController.list(cached.metadata.uid);
    const look = new Look(cached, children);
    await look.settleActive();
    const wait = await look.start();
    await look.prune();
    await look.writeStatus();
    return wait === undefined ? undefined : { requeueAfterMs: wait };
  }

  /** One look at one CronJob; the status is collected in `active`, `lastSchedule` and `lastSuccess`. */
  class Look {
    #cronJob: CronJob;
    readonly #children: readonly Job[];
    #active: readonly ObjectReference[];
    #lastSchedule: string | undefined;
    #lastSuccess: string | undefined;

    constructor(cronJob: CronJob, children: readonly Job[]) {
      this.#cronJob = cronJob;
      this.#children = children;
      this.#active = cronJob.status?.active ?? [];
      this.#lastSchedule = cronJob.status?.lastScheduleTime;
      this.#lastSuccess = cronJob.status?.lastSuccessfulTime;
    }

    /** Brings the list of running Jobs in line with the Jobs there are. */
    async settleActive(): Promise<void> {
      for (const job of this.#children) {
        const { uid, name } = job.metadata;
        const listed = this.#active.some((ref) => ref.uid === uid);
        const end = endOf(job);
        if (!listed && !end) {
          // Ours, running, and not in the list: perhaps the list that we read is behind.
          const fresh = await client
            .resource(type, this.#cronJob.metadata.namespace)
            .get(this.#cronJob.metadata.name);
          if (fresh.metadata.uid !== this.#cronJob.metadata.uid) return;
          if (fresh.status?.active?.some((ref) => ref.uid === uid)) {
            this.#cronJob = fresh;
            this.#active = fresh.status.active;
            this.#lastSchedule = fresh.status.lastScheduleTime;
            continue;
          }
          this.#event(
            'Warning',
            'UnexpectedJob',
            `Saw a job that the controller did not create or forgot: ${name}`,
          );
        } else if (listed && end) {
          this.#strikeOut(uid);
          this.#event('Normal', 'SawCompletedJob', `Saw completed job: ${name}, condition: ${end}`);
        }
        if (end === 'Complete') {
          const { completionTime } = job.status;
          const newer = (timestampMs(completionTime) ?? 0) > (timestampMs(this.#lastSuccess) ?? 0);
          if (completionTime && newer) this.#lastSuccess = completionTime;
        }
      }
      for (const ref of this.#active) {
        if (this.#children.some((job) => job.metadata.uid === ref.uid)) continue;
        try {
          const job = await client.resource(resources.jobs, ref.namespace).get(ref.name ?? '');
          if (job.metadata.uid === ref.uid) continue;
        } catch (error) {
          if (!isNotFound(error)) throw error;
        }
        this.#strikeOut(ref.uid);
        this.#event('Normal', 'MissingJob', `Active job went missing: ${ref.name}`);
      }
    }

    /** Starts a Job if one is due; resolves with how long until the next one is. */
    async start(): Promise<number | undefined> {
      const cronJob = this.#cronJob;
      const { spec, metadata } = cronJob;
      if (metadata.deletionTimestamp !== undefined) return undefined;
      if (spec.timeZone !== undefined && !isTimeZone(spec.timeZone)) {
        this.#event(
          'Warning',
          'UnknownTimeZone',
          `invalid timeZone: "${spec.timeZone}": unknown time zone ${spec.timeZone}`,
        );
        return undefined;
      }
      if (spec.suspend) return undefined;
      const schedule = this.#schedule();
      if (!schedule) return undefined;
      const now = clock.now();
      const next = schedule.next(now, spec.timeZone);
      const wait = next === undefined ? undefined : next - now;
      let scheduled: number | undefined;
      try {
        const due = dueAt(cronJob, schedule, now);
        scheduled = due.scheduled;
        if (due.missedMany)
          this.#event(
            'Warning',
            'TooManyMissedTimes',
            'too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew',
          );
      } catch (error) {
        this.#event('Warning', 'InvalidSchedule', `invalid schedule: ${spec.schedule} : ${messageOf(error)}`);
        return undefined;
      }
      if (scheduled === undefined || this.#alreadyStarted(scheduled)) return wait;
      const deadline = spec.startingDeadlineSeconds;
      if (deadline !== undefined && scheduled + deadline * 1000 < now) {
        this.#event('Warning', 'MissSchedule', `Missed scheduled time to start a job: ${rfc1123(scheduled)}`);
        return wait;
      }
      if (spec.concurrencyPolicy === 'Forbid' && this.#active.length > 0) {
        this.#event(
          'Normal',
          'JobAlreadyActive',
          'Not starting job because prior execution is running and concurrency policy is Forbid',
        );
        return wait;
      }
      if (spec.concurrencyPolicy === 'Replace')
        for (const ref of this.#active) await this.#deleteJob(ref.name ?? '', ref.uid);
      await this.#createJob(scheduled);
      return wait;
    }

    #schedule(): CronSchedule | undefined {
      const { schedule: text, timeZone } = this.#cronJob.spec;
      let schedule: CronSchedule;
      try {
        schedule = parseCronSchedule(text);
      } catch (error) {
        if (!(error instanceof CronError)) throw error;
        this.#event('Warning', 'UnparseableSchedule', `unparseable schedule: "${text}" : ${error.message}`);
        return undefined;
      }
      if (schedule.timeZone !== undefined && timeZone === undefined)
        this.#event(
          'Warning',
          'UnsupportedSchedule',
          `CRON_TZ or TZ used in schedule "${text}" is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details`,
        );
      return schedule;
    }

    #alreadyStarted(scheduled: number): boolean {
      const name = jobName(this.#cronJob, scheduled);
      return this.#active.some((ref) => ref.name === name) || this.#lastSchedule === timestamp(scheduled);
    }

    async #createJob(scheduled: number): Promise<void> {
      const { metadata, spec } = this.#cronJob;
      const { metadata: template = {}, spec: jobSpec } = spec.jobTemplate;
      const name = jobName(this.#cronJob, scheduled);
      const api = client.resource(resources.jobs, metadata.namespace);
      let job: Job;
      try {
        job = await api.create({
          metadata: {
            name,
            ...(template.labels ? { labels: template.labels } : {}),
            annotations: {
              ...template.annotations,
              [SCHEDULED_AT]: zonedTimestamp(scheduled, spec.timeZone),
            },
            ownerReferences: [
              controllerReference(this.#cronJob, { apiVersion: 'batch/v1', kind: 'CronJob' }),
            ],
          },
          spec: jobSpec ?? { template: {} },
        });
        this.#event('Normal', 'SuccessfulCreate', `Created job ${name}`);
      } catch (error) {
        if (isNamespaceTerminating(error)) return;
        if (!isAlreadyExists(error)) {
          this.#event('Warning', 'FailedCreate', `Error creating job: ${messageOf(error)}`);
          throw error;
        }
        // Started by us before we could write that down; a Job of somebody else under this name is a failure.
        job = await api.get(name);
        if (!isControlledBy(job, this.#cronJob)) {
          this.#event('Warning', 'FailedCreate', `Error creating job: ${messageOf(error)}`);
          throw error;
        }
      }
      this.#lastSchedule = timestamp(scheduled);
      if (!endOf(job) && !this.#active.some((ref) => ref.uid === job.metadata.uid))
        this.#active = [...this.#active, referenceTo(resources.jobs, job)];
    }

    async #deleteJob(name: string, uid: string | undefined): Promise<void> {
      try {
        await client.resource(resources.jobs, this.#cronJob.metadata.namespace).delete(name, {
          propagationPolicy: 'Background',
          ...(uid === undefined ? {} : { preconditions: { uid } }),
        });
        this.#event('Normal', 'SuccessfulDelete', `Deleted job ${name}`);
      } catch (error) {
        if (!isNotFound(error)) {
          this.#event('Warning', 'FailedDelete', `Deleted job: ${messageOf(error)}`);
          throw error;
        }
      }
      this.#strikeOut(uid);
    }

    /** Deletes finished Jobs beyond the history that is kept, the oldest first. */
    async prune(): Promise<void> {
      const { successfulJobsHistoryLimit, failedJobsHistoryLimit } = this.#cronJob.spec;
      const limits = { Complete: successfulJobsHistoryLimit, Failed: failedJobsHistoryLimit } as const;
      for (const [end, limit] of Object.entries(limits)) {
        if (limit === undefined) continue;
        const started = (job: Job): number => timestampMs(job.status?.startTime) ?? Number.POSITIVE_INFINITY;
        const finished = this.#children
          .filter((job) => endOf(job) === end)
          .toSorted((a, b) => started(a) - started(b) || (a.metadata.name < b.metadata.name ? -1 : 1));
        for (const job of finished.slice(0, Math.max(0, finished.length - limit)))
          await this.#deleteJob(job.metadata.name, job.metadata.uid);
      }
    }

    async writeStatus(): Promise<void> {
      const cronJob = this.#cronJob;
      const status = {
        ...cronJob.status,
        active: [...this.#active],
        ...(this.#lastSchedule === undefined ? {} : { lastScheduleTime: this.#lastSchedule }),
        ...(this.#lastSuccess === undefined ? {} : { lastSuccessfulTime: this.#lastSuccess }),
      };
      if (sameValue(status, cronJob.status)) return;
      await client.resource(type, cronJob.metadata.namespace).updateStatus({ ...cronJob, status });
    }

    #strikeOut(uid: string | undefined): void {
      this.#active = this.#active.filter((ref) => ref.uid !== uid);
    }

    #event(kind: 'Normal' | 'Warning', reason: string, message: string): void {
      recorder.event(referenceTo(type, this.#cronJob), kind, reason, message);
    }
  }

  return {
    ready,
    [Symbol.asyncDispose]: () => disposeAll([cronJobs, jobs, recorder, controller]),
  };
}

/** By the minute it is for: the same start makes the same name, so it cannot be made twice. */
function jobName(cronJob: CronJob, scheduled: number): string {
  return `${cronJob.metadata.name}-${Math.floor(scheduled / 60_000)}`;
}

function endOf(job: Job): 'Complete' | 'Failed' | undefined {
  for (const type of ['Complete', 'Failed'] as const)
    if (findCondition(job.status?.conditions, type)?.status === 'True') return type;
  return undefined;
}
