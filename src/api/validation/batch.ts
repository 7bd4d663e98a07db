// Rules for jobs and cron jobs: the status that a job's controller may write, and cron schedules. After
// pkg/apis/batch/validation.

import { CronError, isTimeZone, parseCronSchedule } from '../cron.ts';
import { isConditionTrue } from '../meta.ts';
import type { CronJob, CronJobSpec, Job, JobStatus } from '../types/batch-v1.ts';
import type { Findings } from './findings.ts';
import { firstShared, parseIndexSet } from './index-set.ts';
import { validateJob, validateJobTemplate, validateJobUpdate } from './job.ts';
import type { AnyRules, KindRules } from './kind.ts';

const CONDITIONS = 'status.conditions';

/** Conditions that exclude each other, or that one must have before another. */
function validateConditions(findings: Findings, status: JobStatus): void {
  const is = (type: string) => isConditionTrue(status.conditions, type);
  const complete = is('Complete');
  const failed = is('Failed');
  const met = is('SuccessCriteriaMet');
  const failing = is('FailureTarget');
  const never = (both: boolean, what: string) => {
    if (both) findings.invalidWhole(CONDITIONS, `cannot set ${what}`);
  };
  never(complete && failed, 'Complete=True and Failed=true conditions');
  never(complete && failing, 'Complete=True and FailureTarget=true conditions');
  never(failed && !failing, 'Failed=True condition without the FailureTarget=true condition');
  never(complete && !met, 'Complete=True condition without the SuccessCriteriaMet=true condition');
  never(met && failed, 'SuccessCriteriaMet=True and Failed=true conditions');
  never(met && failing, 'SuccessCriteriaMet=True and FailureTarget=true conditions');
}

function validateTimes(findings: Findings, status: JobStatus): void {
  const { startTime, completionTime } = status;
  const complete = isConditionTrue(status.conditions, 'Complete');
  const field = 'status.completionTime';
  if (completionTime !== undefined && !complete)
    findings.invalid(
      field,
      completionTime,
      'cannot set completionTime when there is no Complete=True condition',
    );
  if (completionTime === undefined && complete)
    findings.required(field, 'completionTime is required for Complete jobs');
  if (startTime !== undefined && completionTime !== undefined)
    if (Date.parse(completionTime) < Date.parse(startTime))
      findings.invalid(field, completionTime, 'completionTime cannot be set before startTime');
}

function validateFinished(findings: Findings, status: JobStatus): void {
  if (!isConditionTrue(status.conditions, 'Complete') && !isConditionTrue(status.conditions, 'Failed'))
    return;
  const { active = 0, terminating = 0, uncountedTerminatedPods: uncounted } = status;
  if (active > 0) findings.invalid('status.active', active, 'active>0 is invalid for finished job');
  if (status.startTime === undefined)
    findings.required('status.startTime', 'startTime is required for finished job');
  if ((uncounted?.succeeded ?? []).length + (uncounted?.failed ?? []).length > 0)
    findings.invalid(
      'status.uncountedTerminatedPods',
      uncounted,
      'uncountedTerminatedPods needs to be empty for finished job',
    );
  if (terminating > 0)
    findings.invalid('status.terminating', terminating, 'terminating>0 is invalid for finished job');
}

function validateIndexes(findings: Findings, { spec, status }: Job): void {
  const { completedIndexes = '', failedIndexes } = status;
  const { completions, backoffLimitPerIndex } = spec;
  if (completedIndexes !== '' && spec.completionMode !== 'Indexed')
    findings.invalid(
      'status.completedIndexes',
      completedIndexes,
      'cannot set non-empty completedIndexes when non-indexed completion mode',
    );
  if (failedIndexes !== undefined && backoffLimitPerIndex === undefined)
    findings.invalid(
      'status.failedIndexes',
      failedIndexes,
      'cannot set non-null failedIndexes when backoffLimitPerIndex is null',
    );
  if (completions === undefined) return;
  const done = parseIndexSet(completedIndexes, completions);
  if (done.complaint !== undefined)
    findings.invalid(
      'status.completedIndexes',
      completedIndexes,
      `error parsing completedIndexes: ${done.complaint}`,
    );
  if (failedIndexes === undefined) return;
  const failed = parseIndexSet(failedIndexes, completions);
  if (failed.complaint !== undefined && backoffLimitPerIndex !== undefined)
    findings.invalid(
      'status.failedIndexes',
      failedIndexes,
      `error parsing failedIndexes: ${failed.complaint}`,
    );
  const both = firstShared(done, failed);
  if (both !== undefined)
    findings.invalid(
      'status.failedIndexes',
      failedIndexes,
      `failedIndexes and completedIndexes overlap at index: ${both}`,
    );
}

function validateUncounted(findings: Findings, status: JobStatus): void {
  const seen = new Set<string>();
  for (const end of ['succeeded', 'failed'] as const)
    for (const [i, uid] of (status.uncountedTerminatedPods?.[end] ?? []).entries()) {
      const at = `status.uncountedTerminatedPods.${end}[${i}]`;
      if (uid === '') findings.invalid(at, uid, 'must not be empty');
      else if (seen.has(uid)) findings.duplicate(at, uid);
      seen.add(uid);
    }
}

/** What was counted or decided stays so. */
function validateStatusChange(findings: Findings, job: Job, old: Job): void {
  const now = job.status;
  const before = old.status ?? {};
  for (const type of ['Failed', 'Complete', 'FailureTarget'])
    if (isConditionTrue(before.conditions, type) && !isConditionTrue(now.conditions, type))
      findings.invalidWhole(CONDITIONS, `cannot disable the terminal ${type}=True condition`);
  for (const name of ['failed', 'succeeded'] as const)
    if ((now[name] ?? 0) < (before[name] ?? 0))
      findings.invalid(`status.${name}`, now[name] ?? 0, `cannot decrease the ${name} counter`);
  if (
    now.completionTime !== undefined &&
    before.completionTime !== undefined &&
    now.completionTime !== before.completionTime
  )
    findings.invalid('status.completionTime', now.completionTime, 'completionTime cannot be mutated');
  if (before.startTime !== undefined && before.startTime !== now.startTime && job.spec.suspend !== true)
    findings.required('status.startTime', 'startTime cannot be removed for unsuspended job');
  const met = isConditionTrue(now.conditions, 'SuccessCriteriaMet');
  const wasMet = isConditionTrue(before.conditions, 'SuccessCriteriaMet');
  if (wasMet && !met)
    findings.invalidWhole(CONDITIONS, 'cannot disable the SuccessCriteriaMet=True condition');
}

const job: KindRules<Job> = {
  validate: validateJob,
  validateUpdate: validateJobUpdate,
  validateStatusUpdate(object, old, findings) {
    const status = object.status ?? {};
    for (const name of ['active', 'succeeded', 'failed', 'ready', 'terminating'] as const)
      findings.notNegative(`status.${name}`, status[name]);
    validateUncounted(findings, status);
    validateConditions(findings, status);
    validateTimes(findings, status);
    validateFinished(findings, status);
    validateIndexes(findings, { ...object, status });
    if ((status.ready ?? 0) > (status.active ?? 0))
      findings.invalid('status.ready', status.ready, 'cannot set more ready pods than active');
    validateStatusChange(findings, { ...object, status }, old);
  },
};

/** Room for what is added to the name of a cron job to make that of a job. */
const MOST_CRON_JOB_NAME = 52;

function validateSchedule(findings: Findings, schedule: string): void {
  const field = 'spec.schedule';
  if (schedule === '') {
    findings.required(field);
    return;
  }
  try {
    parseCronSchedule(schedule);
  } catch (error) {
    if (!(error instanceof CronError)) throw error;
    findings.invalid(field, schedule, error.message);
  }
  if (schedule.includes('TZ'))
    findings.invalid(field, schedule, 'cannot use TZ or CRON_TZ in schedule, use timeZone field instead');
}

function validateTimeZone(findings: Findings, zone: string): void {
  const field = 'spec.timeZone';
  const parts = zone.split('/');
  const named = parts.every(
    (part) => part !== '.' && part !== '..' && /^(?!-)[A-Za-z.\-_0-9+]{1,14}$/.test(part),
  );
  if (zone === '') findings.invalid(field, zone, 'timeZone must be nil or non-empty string');
  else if (zone.toLowerCase() === 'local')
    findings.invalid(
      field,
      zone,
      'timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones',
    );
  else if (!named || !isTimeZone(zone)) findings.invalid(field, zone, `unknown time zone ${zone}`);
}

const cronJob: KindRules<CronJob> = {
  validate({ spec = {} as CronJobSpec }, findings) {
    validateSchedule(findings, spec.schedule ?? '');
    findings.notNegative('spec.startingDeadlineSeconds', spec.startingDeadlineSeconds);
    if (spec.timeZone !== undefined) validateTimeZone(findings, spec.timeZone);
    findings.oneOf('spec.concurrencyPolicy', spec.concurrencyPolicy, ['Allow', 'Forbid', 'Replace'], {
      required: true,
    });
    validateJobTemplate(findings, 'spec.jobTemplate', spec.jobTemplate ?? {});
    findings.notNegative('spec.successfulJobsHistoryLimit', spec.successfulJobsHistoryLimit);
    findings.notNegative('spec.failedJobsHistoryLimit', spec.failedJobsHistoryLimit);
  },
  validateNew({ metadata }, findings) {
    if ((metadata.name ?? '').length > MOST_CRON_JOB_NAME)
      findings.invalid(
        'metadata.name',
        metadata.name,
        `must be no more than ${MOST_CRON_JOB_NAME} characters`,
      );
  },
};

export const batchRules: Readonly<Record<string, AnyRules>> = { Job: job, CronJob: cronJob };
