// Defaults of the batch group (pkg/apis/batch/v1/defaults.go upstream).

import type { CronJob, Job } from '../types/batch-v1.ts';
import { isEmpty } from './core.ts';
import { defaultPodSpec } from './pod.ts';

const MOST_RETRIES = 2 ** 31 - 1;

export function defaultJob(job: Job): void {
  const { spec } = job;
  // A job that says neither runs one pod; one that says how many shall run at once may complete without a count.
  if (spec.parallelism === undefined && spec.completions === undefined) spec.completions = 1;
  spec.parallelism ??= 1;
  spec.backoffLimit ??= spec.backoffLimitPerIndex === undefined ? 6 : MOST_RETRIES;
  const labels = spec.template.metadata?.labels;
  if (labels !== undefined && isEmpty(job.metadata.labels)) job.metadata.labels = { ...labels };
  spec.completionMode ??= 'NonIndexed';
  spec.suspend ??= false;
  for (const rule of spec.podFailurePolicy?.rules ?? [])
    for (const pattern of rule.onPodConditions ?? []) if (!pattern.status) pattern.status = 'True';
  spec.podReplacementPolicy ??= spec.podFailurePolicy === undefined ? 'TerminatingOrFailed' : 'Failed';
  spec.manualSelector ??= false;
  defaultPodSpec(spec.template.spec);
}

export function defaultCronJob(job: CronJob): void {
  const { spec } = job;
  spec.concurrencyPolicy ??= 'Allow';
  spec.suspend ??= false;
  spec.successfulJobsHistoryLimit ??= 3;
  spec.failedJobsHistoryLimit ??= 1;
  defaultPodSpec(spec.jobTemplate.spec?.template.spec);
}
