// One look at one Job. In this order:
//
// 1. Say how things stand from the status and from pods that have ended and are not yet in it.
// 2. Decide whether the Job ends (failure limits, deadline, policies, enough successes); if so, delete what runs;
//    if not, create or delete pods.
// 3. Count the pods that have ended. A pod keeps its finalizer until it is written down (in uncountedTerminatedPods,
//    or as an index), so that it is counted once whatever happens in between: write its uid down, take its finalizer
//    away, count it and strike the uid out (KEP-2307).

import {
  isConditionTrue,
  isNotFound,
  isPodActive,
  isPodReady,
  timestamp,
  timestampMs,
} from '../../api/index.ts';
import type { Job, JobCondition, JobStatus } from '../../api/types/batch-v1.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { type Client, type EventRecorder, referenceTo, resources } from '../../client/index.ts';
import type { Clock } from '../../component/index.ts';
import { podsToDelete } from '../pods/deletion-ranking.ts';
import { deletePod } from '../pods/pod-control.ts';
import { sameValue } from '../same-value.ts';
import { type BackoffRecord, nextRecord, untilIndexRetry, untilRetry } from './backoff.ts';
import { decidedEnd, finalCondition, metSuccessPolicy, newCondition, withSuspended } from './conditions.ts';
import { IndexSet } from './indexes.ts';
import {
  absoluteFailureCount,
  countsAsFailure,
  failureCount,
  finishedAt,
  hasFailed,
  indexOf,
  isIndexed,
  isSuspended,
  isTerminating,
  isTracked,
  matchFailurePolicy,
  replacesOnlyFailed,
  restartsExceed,
  TRACKING,
} from './pods.ts';

/** Pods created or deleted in one look, and pods counted in one. */
const MOST = 500;

export interface JobContext {
  readonly client: Client;
  readonly clock: Clock;
  readonly recorder: EventRecorder;
  /** False while creations or deletions of ours have not come back. */
  readonly mayManage: boolean;
  /** Pods whose finalizer we have taken away and that the cache still shows with it. */
  readonly released: Set<string>;
  readonly backoff: BackoffRecord | undefined;
  setBackoff(record: BackoffRecord | undefined): void;
  /** Creates pods, for these indexes where there are some; resolves with how many there are and the first error. */
  create(
    job: Job,
    count: number,
    indexes: readonly number[] | undefined,
    replaced: ReadonlyMap<number, Pod>,
  ): Promise<{ readonly created: number; readonly error?: unknown }>;
  expectDeletions(pods: readonly Pod[]): void;
  deletionFailed(pod: Pod): void;
}

type Counts = Required<Pick<JobStatus, 'active' | 'ready' | 'terminating'>>;

export class JobSync {
  readonly #context: JobContext;
  readonly #job: Job;
  readonly #pods: readonly Pod[];
  readonly #active: readonly Pod[];
  /** Ended pods that the Job has still to count. */
  readonly #tracked: readonly Pod[];
  readonly #completions: number;
  readonly #uncountedSucceeded: Set<string>;
  readonly #uncountedFailed: Set<string>;
  #succeededIndexes = IndexSet.empty;
  #failedIndexes = IndexSet.empty;
  /** With a limit for each index: the failed pod of an index that is still to be replaced, kept for its count. */
  #replaceable: ReadonlyMap<number, Pod> = new Map();
  #status: JobStatus;
  #requeueMs: number | undefined;

  constructor(context: JobContext, job: Job, pods: readonly Pod[]) {
    this.#context = context;
    this.#job = job;
    this.#pods = pods;
    this.#status = job.status ?? {};
    this.#active = pods.filter(isPodActive);
    this.#tracked = pods.filter((pod) => isTracked(pod) && !context.released.has(pod.metadata.uid));
    this.#completions = job.spec.completions ?? 0;
    this.#uncountedSucceeded = new Set(this.#status.uncountedTerminatedPods?.succeeded);
    this.#uncountedFailed = new Set(this.#status.uncountedTerminatedPods?.failed);
  }

  /** Resolves with when to look again, if time decides. Rejects after all was written that could be. */
  async run(): Promise<number | undefined> {
    const { clock, mayManage } = this.#context;
    const job = this.#job;
    const now = clock.now();
    const newlySucceeded = this.#tracked.filter(
      (pod) => pod.status?.phase === 'Succeeded' && !this.#uncountedSucceeded.has(pod.metadata.uid),
    );
    const newlyFailed = this.#tracked.filter(
      (pod) => hasFailed(job, pod) && !this.#uncountedFailed.has(pod.metadata.uid),
    );
    let succeeded = (this.#status.succeeded ?? 0) + newlySucceeded.length + this.#uncountedSucceeded.size;
    const failed =
      (this.#status.failed ?? 0) +
      newlyFailed.filter((pod) => countsAsFailure(job, pod)).length +
      this.#uncountedFailed.size;
    const backoff = nextRecord(this.#context.backoff, newlySucceeded, newlyFailed);
    if (isIndexed(job)) {
      this.#readIndexes(newlySucceeded);
      succeeded = this.#succeededIndexes.size;
    }
    if (this.#status.startTime === undefined && !isSuspended(job))
      this.#status = { ...this.#status, startTime: timestamp(now) };

    const counts: Counts = {
      active: this.#active.length,
      ready: this.#active.filter(isPodReady).length,
      terminating: this.#pods.filter(isTerminating).length,
    };
    let end: JobCondition | undefined = this.#decideEnd(failed, succeeded, now);
    let failure: unknown;
    if (end) {
      const { deleted, deletedReady, error } = await this.#delete(this.#active, false);
      // What could not be deleted, or is not known yet, may still run: the Job has not ended.
      if (deleted < this.#active.length || !mayManage)
        this.#requeueMs ??= error === undefined ? 1000 : undefined;
      counts.active -= deleted;
      counts.ready -= deletedReady;
      counts.terminating += deleted;
      failure = error;
      // What could not be deleted, or is not known yet, may still run: the Job has not ended.
      if (deleted < this.#active.length || !mayManage) end = undefined;
    } else {
      const managed = mayManage && job.metadata.deletionTimestamp === undefined;
      if (managed) failure = await this.#manage(counts, succeeded, untilRetry(backoff, now), now);
      const done =
        job.spec.completions === undefined
          ? succeeded > 0 && counts.active === 0
          : succeeded >= this.#completions && counts.active === 0;
      if (done)
        end = newCondition(
          'SuccessCriteriaMet',
          'True',
          'CompletionsReached',
          'Reached expected number of succeeded pods',
          now,
        );
      else if (managed) this.#noteSuspension(now);
    }
    this.#status = { ...this.#status, ...counts };
    await this.#count(end, counts, backoff);
    if (failure !== undefined) throw failure;
    return this.#requeueMs;
  }

  #readIndexes(newlySucceeded: readonly Pod[]): void {
    const job = this.#job;
    const valid = (pods: readonly Pod[]): number[] =>
      pods.map((pod) => indexOf(job, pod)).filter((index) => index !== undefined);
    this.#succeededIndexes = IndexSet.parse(this.#status.completedIndexes, this.#completions).with(
      valid(newlySucceeded),
    );
    const limit = job.spec.backoffLimitPerIndex;
    if (limit === undefined) return;
    const lost = this.#tracked.filter((pod) => {
      if (!hasFailed(job, pod)) return false;
      const match = matchFailurePolicy(job, pod);
      if (match?.action === 'FailIndex') return true;
      return match?.action !== 'Ignore' && failureCount(pod) >= limit;
    });
    this.#failedIndexes = IndexSet.parse(this.#status.failedIndexes, this.#completions).with(
      valid(lost).filter((index) => !this.#succeededIndexes.has(index)),
    );
    this.#replaceable = this.#findReplaceable();
  }

  #findReplaceable(): Map<number, Pod> {
    const job = this.#job;
    const found = new Map<number, Pod>();
    for (const pod of this.#tracked) {
      const index = indexOf(job, pod);
      if (index === undefined || !hasFailed(job, pod)) continue;
      if (this.#uncountedFailed.has(pod.metadata.uid)) continue;
      if (this.#succeededIndexes.has(index) || this.#failedIndexes.has(index)) continue;
      const other = found.get(index);
      const newer =
        !other ||
        absoluteFailureCount(pod) > absoluteFailureCount(other) ||
        (absoluteFailureCount(pod) === absoluteFailureCount(other) && finishedAt(pod) >= finishedAt(other));
      if (newer) found.set(index, pod);
    }
    // One that has been replaced already has handed its count on.
    for (const pod of this.#pods) {
      const index = indexOf(job, pod);
      const replaced = index === undefined ? undefined : found.get(index);
      if (index !== undefined && replaced && absoluteFailureCount(pod) > absoluteFailureCount(replaced))
        found.delete(index);
    }
    return found;
  }

  // ---- 2: ending, creating, deleting

  #decideEnd(failed: number, succeeded: number, now: number): JobCondition | undefined {
    const job = this.#job;
    const fail = (reason: string, message: string): JobCondition =>
      newCondition('FailureTarget', 'True', reason, message, now);
    const decided = decidedEnd(job);
    if (decided) return decided;
    if (job.spec.podFailurePolicy)
      for (const pod of this.#pods) {
        if (!hasFailed(job, pod)) continue;
        const match = matchFailurePolicy(job, pod);
        if (match?.action === 'FailJob') return fail('PodFailurePolicy', match.message);
      }
    if (failed > (job.spec.backoffLimit ?? 6) || restartsExceed(job, this.#pods))
      return fail('BackoffLimitExceeded', 'Job has reached the specified backoff limit');
    const { activeDeadlineSeconds, maxFailedIndexes } = job.spec;
    const started = timestampMs(this.#status.startTime);
    // One that is being resumed starts anew below: the time that it was suspended is not to be counted.
    const resting = isSuspended(job) || isConditionTrue(this.#status.conditions, 'Suspended');
    if (activeDeadlineSeconds !== undefined && started !== undefined && !resting) {
      const left = started + activeDeadlineSeconds * 1000 - now;
      if (left <= 0) return fail('DeadlineExceeded', 'Job was active longer than specified deadline');
      this.#requeue(left);
    }
    if (isIndexed(job) && job.spec.backoffLimitPerIndex !== undefined) {
      const lost = this.#failedIndexes.size;
      if (maxFailedIndexes !== undefined && lost > maxFailedIndexes)
        return fail(
          'MaxFailedIndexesExceeded',
          'Job has exceeded the specified maximal number of failed indexes',
        );
      if (lost > 0 && lost + succeeded >= this.#completions)
        return fail('FailedIndexes', 'Job has failed indexes');
    }
    const met = isIndexed(job) ? metSuccessPolicy(job, this.#succeededIndexes) : undefined;
    return met === undefined
      ? undefined
      : newCondition('SuccessCriteriaMet', 'True', 'SuccessPolicy', met, now);
  }

  /** Brings the number of running pods to what is wanted; resolves with the first error. */
  async #manage(counts: Counts, succeeded: number, waitMs: number, now: number): Promise<unknown> {
    const job = this.#job;
    const parallelism = job.spec.parallelism ?? 1;
    const wanted = isSuspended(job) ? 0 : this.#wantedActive(parallelism, succeeded);
    const surplus = this.#surplus(wanted, now);
    if (surplus.length > 0) {
      const { deleted, deletedReady, error } = await this.#delete(surplus.slice(0, MOST), true);
      counts.active -= deleted;
      counts.ready -= deletedReady;
      counts.terminating += deleted;
      return error;
    }
    const missing = wanted - counts.active - (replacesOnlyFailed(job) ? counts.terminating : 0);
    if (missing <= 0) return undefined;
    const perIndex = job.spec.backoffLimitPerIndex !== undefined;
    if (!perIndex && waitMs > 0) {
      this.#requeue(waitMs);
      return undefined;
    }
    const indexes = isIndexed(job) ? this.#pendingIndexes(Math.min(missing, MOST), now) : undefined;
    const count = indexes ? indexes.length : Math.min(missing, MOST);
    if (count === 0) return undefined;
    const { created, error } = await this.#context.create(job, count, indexes, this.#replaceable);
    counts.active += created;
    return error;
  }

  #wantedActive(parallelism: number, succeeded: number): number {
    // A work queue: the pods know when it is empty, and one success says that it is.
    if (this.#job.spec.completions === undefined) return succeeded > 0 ? this.#active.length : parallelism;
    const left = this.#completions - succeeded - this.#failedIndexes.size;
    return Math.max(0, Math.min(parallelism, left));
  }

  /** Pods too many: those of an index that another has, or that the Job does not have (any more), then any. */
  #surplus(wanted: number, now: number): Pod[] {
    const job = this.#job;
    const doubles: Pod[] = [];
    let rest: readonly Pod[] = this.#active;
    if (isIndexed(job)) {
      const keep = new Map<number, Pod>();
      for (const pod of podsToDelete(this.#active, [], this.#active.length, now).toReversed()) {
        const index = indexOf(job, pod);
        if (index === undefined || keep.has(index)) doubles.push(pod);
        else keep.set(index, pod);
      }
      rest = [...keep.values()];
    }
    const more = this.#active.length - wanted - doubles.length;
    return more > 0 ? [...doubles, ...podsToDelete(rest, [], more, now)] : doubles;
  }

  /** The lowest indexes that have neither succeeded nor failed nor a pod, and whose time to try again has come. */
  #pendingIndexes(count: number, now: number): number[] {
    const job = this.#job;
    const busy = new Set<number>();
    for (const pod of this.#pods) {
      const index = indexOf(job, pod);
      if (index === undefined) continue;
      if (isPodActive(pod) || (replacesOnlyFailed(job) && isTerminating(pod))) busy.add(index);
    }
    const pending: number[] = [];
    for (let index = 0; index < this.#completions && pending.length < count; index++) {
      if (busy.has(index) || this.#succeededIndexes.has(index) || this.#failedIndexes.has(index)) continue;
      const replaced = this.#replaceable.get(index);
      const wait = replaced ? untilIndexRetry(replaced, now) : 0;
      if (wait > 0) this.#requeue(wait);
      else pending.push(index);
    }
    return pending;
  }

  /** `unwanted`: the Job goes on and these are too many; their end is then no failure, so they are not counted. */
  async #delete(pods: readonly Pod[], unwanted: boolean) {
    const { client, recorder, released } = this.#context;
    if (unwanted) this.#context.expectDeletions(pods);
    let deleted = 0;
    let deletedReady = 0;
    const results = await Promise.allSettled(
      pods.map(async (pod) => {
        try {
          if (unwanted && isTracked(pod)) {
            released.add(pod.metadata.uid);
            await removeTracking(client, pod);
          }
          await deletePod({ client, recorder, ownerType: resources.jobs }, this.#job, pod);
        } catch (error) {
          if (unwanted) this.#context.deletionFailed(pod);
          if (!isNotFound(error)) throw error;
        }
        deleted++;
        if (isPodReady(pod)) deletedReady++;
      }),
    );
    const error: unknown = results.find((result) => result.status === 'rejected')?.reason;
    return { deleted, deletedReady, error };
  }

  #noteSuspension(now: number): void {
    const suspended = isSuspended(this.#job);
    const conditions = withSuspended(this.#status.conditions ?? [], suspended, now);
    if (!conditions) return;
    this.#event('Normal', suspended ? 'Suspended' : 'Resumed', suspended ? 'Job suspended' : 'Job resumed');
    // Time spent suspended does not count against the deadline.
    this.#status = { ...this.#status, conditions, ...(suspended ? {} : { startTime: timestamp(now) }) };
  }

  // ---- 3: counting

  async #count(
    end: JobCondition | undefined,
    counts: Counts,
    backoff: BackoffRecord | undefined,
  ): Promise<void> {
    const { clock } = this.#context;
    this.#settleReleased();
    const { release, complete } = this.#writeDown(end);
    if (end && !this.#status.conditions?.some((one) => one.type === end.type))
      this.#status = { ...this.#status, conditions: [...(this.#status.conditions ?? []), end] };
    let job = await this.#writeStatus(this.#job);
    this.#context.setBackoff(backoff);
    const failures = await this.#release(release);
    let finished: JobCondition | undefined;
    const { succeeded = [], failed = [] } = this.#status.uncountedTerminatedPods ?? {};
    if (
      end &&
      complete &&
      counts.terminating === 0 &&
      counts.active === 0 &&
      succeeded.length + failed.length === 0
    ) {
      finished = finalCondition(end, clock.now());
      this.#status = {
        ...this.#status,
        conditions: [...(this.#status.conditions ?? []), finished],
        ...(finished.type === 'Complete' ? { completionTime: timestamp(clock.now()) } : {}),
      };
    }
    job = await this.#writeStatus(job);
    if (finished?.type === 'Complete') this.#event('Normal', 'Completed', 'Job completed');
    else if (finished) this.#event('Warning', finished.reason ?? '', finished.message ?? '');
    if (!complete) this.#requeue(1);
    if (failures.length > 0)
      throw new AggregateError(
        failures,
        `finalizers of pods of job ${job.metadata.name} could not be removed`,
      );
  }

  /** Pods that were written down and have lost their finalizer since are counted now. */
  #settleReleased(): void {
    const held = new Set(this.#tracked.map((pod) => pod.metadata.uid));
    this.#countAndStrikeOut((uid) => !held.has(uid));
  }

  #countAndStrikeOut(isReleased: (uid: string) => boolean): void {
    const { uncountedTerminatedPods: uncounted = {} } = this.#status;
    const succeeded = (uncounted.succeeded ?? []).filter((uid) => !isReleased(uid));
    const failed = (uncounted.failed ?? []).filter((uid) => !isReleased(uid));
    const newSucceeded = (uncounted.succeeded?.length ?? 0) - succeeded.length;
    const newFailed = (uncounted.failed?.length ?? 0) - failed.length;
    if (newSucceeded + newFailed === 0) return;
    this.#status = {
      ...this.#status,
      succeeded: (this.#status.succeeded ?? 0) + newSucceeded,
      failed: (this.#status.failed ?? 0) + newFailed,
      uncountedTerminatedPods: { succeeded, failed },
    };
  }

  /** Notes which pods are to be counted; `complete` is false when there are more than one look takes. */
  #writeDown(end: JobCondition | undefined): {
    readonly release: readonly Pod[];
    readonly complete: boolean;
  } {
    const job = this.#job;
    const succeeded = new Set(this.#status.uncountedTerminatedPods?.succeeded);
    const failed = new Set(this.#status.uncountedTerminatedPods?.failed);
    const before = IndexSet.parse(this.#status.completedIndexes, this.#completions);
    const newIndexes: number[] = [];
    const release: Pod[] = [];
    let complete = true;
    for (const pod of this.#tracked) {
      const { uid } = pod.metadata;
      const index = indexOf(job, pod);
      const isLost = hasFailed(job, pod);
      if (!this.#mayRelease(pod, isLost, end, index)) continue;
      if (pod.status?.phase === 'Succeeded' && !failed.has(uid)) {
        if (!isIndexed(job)) succeeded.add(uid);
        else if (index !== undefined && !before.has(index)) newIndexes.push(index);
        release.push(pod);
      } else if (isLost || (end !== undefined && end.type === 'FailureTarget')) {
        // When the Job fails every pod that has not ended counts as failed.
        if ((!isIndexed(job) || index !== undefined) && countsAsFailure(job, pod)) failed.add(uid);
        release.push(pod);
      }
      if (succeeded.size + failed.size + newIndexes.length >= MOST) {
        complete = false;
        break;
      }
    }
    this.#status = {
      ...this.#status,
      uncountedTerminatedPods: { succeeded: [...succeeded], failed: [...failed] },
    };
    if (isIndexed(job)) {
      const completed = before.with(newIndexes);
      this.#status = {
        ...this.#status,
        succeeded: completed.size,
        ...(completed.size > 0 ? { completedIndexes: String(completed) } : {}),
        ...(job.spec.backoffLimitPerIndex === undefined
          ? {}
          : { failedIndexes: String(this.#failedIndexes) }),
      };
    }
    return { release, complete };
  }

  #mayRelease(pod: Pod, isLost: boolean, end: JobCondition | undefined, index: number | undefined): boolean {
    if (this.#job.metadata.deletionTimestamp !== undefined || end || pod.status?.phase === 'Succeeded')
      return true;
    if (!isLost) return false;
    // It carries the failure count of its index until the pod that replaces it has it.
    return index === undefined || this.#replaceable.get(index)?.metadata.uid !== pod.metadata.uid;
  }

  /** Takes the finalizers away; pods of which that succeeded are counted. Resolves with the failures. */
  async #release(pods: readonly Pod[]): Promise<unknown[]> {
    const { client, released } = this.#context;
    const gone = new Set<string>();
    const results = await Promise.allSettled(
      pods.map(async (pod) => {
        const { namespace, name, uid } = pod.metadata;
        released.add(uid);
        try {
          await removeTracking(client, pod);
          gone.add(uid);
        } catch (error) {
          released.delete(uid);
          if (!isNotFound(error))
            throw new Error(`pod ${namespace}/${name}: ${String(error)}`, { cause: error });
          gone.add(uid);
        }
      }),
    );
    this.#countAndStrikeOut((uid) => gone.has(uid));
    return results.filter((result) => result.status === 'rejected').map((result) => result.reason);
  }

  async #writeStatus(job: Job): Promise<Job> {
    if (sameValue(meaningful(job.status), meaningful(this.#status))) return job;
    return this.#context.client
      .resource(resources.jobs, job.metadata.namespace)
      .updateStatus({ ...job, status: this.#status });
  }

  #requeue(ms: number): void {
    this.#requeueMs = Math.min(ms, this.#requeueMs ?? ms);
  }

  #event(kind: 'Normal' | 'Warning', reason: string, message: string): void {
    this.#context.recorder.event(referenceTo(resources.jobs, this.#job), kind, reason, message);
  }
}

export async function removeTracking(client: Client, pod: Pod): Promise<void> {
  const { namespace, name, uid } = pod.metadata;
  await client.resource(resources.pods, namespace).patch(name, {
    type: 'strategic',
    patch: { metadata: { uid, '$deleteFromPrimitiveList/finalizers': [TRACKING] } },
  });
}

/** Counts of zero may be left out by the server, but for `ready` and `terminating`, which are pointers upstream. */
function meaningful(status: JobStatus | undefined): unknown {
  return Object.fromEntries(
    Object.entries(status ?? {}).filter(
      ([key, value]) => value !== 0 || key === 'ready' || key === 'terminating',
    ),
  );
}
