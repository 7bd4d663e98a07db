// A Job's conditions: how it ends, and whether it is suspended. It first says that it will end (SuccessCriteriaMet,
// FailureTarget) and only when its last pod has ended that it has (Complete, Failed). Pure.

import { findCondition, isConditionTrue, timestamp } from '../../api/index.ts';
import type { Job, JobCondition } from '../../api/types/batch-v1.ts';
import { IndexSet } from './indexes.ts';

export function newCondition(
  type: string,
  status: 'True' | 'False',
  reason: string,
  message: string,
  now: number,
): JobCondition {
  const time = timestamp(now);
  return { type, status, lastProbeTime: time, lastTransitionTime: time, reason, message };
}

export function isFinished(job: Job): boolean {
  const { conditions } = job.status ?? {};
  return isConditionTrue(conditions, 'Complete') || isConditionTrue(conditions, 'Failed');
}

/** The end that an earlier look has decided on. */
export function decidedEnd(job: Job): JobCondition | undefined {
  const { conditions } = job.status ?? {};
  for (const type of ['SuccessCriteriaMet', 'FailureTarget']) {
    const condition = findCondition(conditions, type);
    if (condition?.status === 'True') return condition;
  }
  return undefined;
}

/** Complete for SuccessCriteriaMet, Failed for FailureTarget, with its reason and message. */
export function finalCondition(end: JobCondition, now: number): JobCondition {
  const type = end.type === 'SuccessCriteriaMet' ? 'Complete' : 'Failed';
  return newCondition(type, 'True', end.reason ?? '', end.message ?? '', now);
}

/** The conditions with Suspended as it is; undefined when they say so already (or never said anything and need not). */
export function withSuspended(
  conditions: readonly JobCondition[],
  suspended: boolean,
  now: number,
): JobCondition[] | undefined {
  const current = findCondition(conditions, 'Suspended');
  const status = suspended ? 'True' : 'False';
  if (current ? current.status === status : !suspended) return undefined;
  const next = suspended
    ? newCondition('Suspended', 'True', 'JobSuspended', 'Job suspended', now)
    : newCondition('Suspended', 'False', 'JobResumed', 'Job resumed', now);
  return current ? conditions.map((one) => (one === current ? next : one)) : [...conditions, next];
}

/** The message of the first rule of the success policy that is met. */
export function metSuccessPolicy(job: Job, succeeded: IndexSet): string | undefined {
  const completions = job.spec.completions ?? 0;
  for (const [at, rule] of (job.spec.successPolicy?.rules ?? []).entries()) {
    const wanted =
      rule.succeededIndexes === undefined ? undefined : IndexSet.parse(rule.succeededIndexes, completions);
    const reached = wanted ? succeeded.countIn(wanted) : succeeded.size;
    if (reached >= (rule.succeededCount ?? wanted?.size ?? completions))
      return `Matched rules at index ${at}`;
  }
  return undefined;
}
