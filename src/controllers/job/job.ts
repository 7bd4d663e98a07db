// Runs pods to completion for Jobs. The events of pods lead back to their Job; what is to be done then is decided in
// job-sync.ts. Pods of Jobs that are gone are let go here: nobody is left to count them.

import {
  controllerOf,
  isNamespaceTerminating,
  isNotFound,
  isPodActive,
  labelSelectorMatcher,
} from '../../api/index.ts';
import type { Job } from '../../api/types/batch-v1.ts';
import type { EnvVar, Pod, PodTemplateSpec } from '../../api/types/core-v1.ts';
import {
  createEventRecorder,
  keyOf,
  type ReconcileResult,
  resources,
  splitKey,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { claim } from '../pods/claim.ts';
import { Expectations } from '../pods/expectations.ts';
import { byController, podsOf } from '../pods/indexes.ts';
import { createPod, podFromTemplate, slowStart } from '../pods/pod-control.ts';
import type { BackoffRecord } from './backoff.ts';
import { isFinished } from './conditions.ts';
import { JobSync, removeTracking } from './job-sync.ts';
import { COMPLETION_INDEX, failureAnnotations, isIndexed, isTracked, TRACKING } from './pods.ts';

const type = resources.jobs;
const OURSELVES = 'kubernetes.io/job-controller';
/** Pods that end close together are counted together: each look writes the status. */
const BATCH_MS = 100;

export function startJobController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const jobs = client.informers.informer(type);
  const pods = client.informers.informer(resources.pods);
  const podsByController = pods.index(byController);
  const recorder = createEventRecorder({ client, component: 'job-controller', clock, logger });
  const expectations = new Expectations(clock);
  const control = { client, recorder, ownerType: type };
  const backoffs = new Map<string, BackoffRecord>();
  /** Uids of pods whose finalizer is gone, until the cache knows. */
  const released = new Set<string>();
  const lastLook = new Map<string, number>();
  const ready = allSynced(jobs, pods);
  const controller = startController({
    name: 'job-controller',
    clock,
    logger,
    concurrency: 5,
    ready,
    reconcile,
  });
  const orphans = startController({
    name: 'job-controller-orphans',
    clock,
    logger,
    ready,
    reconcile: releaseOrphan,
  });
  const { queue } = controller;

  function ownerOf(pod: Pod): Job | undefined {
    const reference = controllerOf(pod);
    if (reference?.kind !== type.kind) return undefined;
    const job = jobs.lister.find(pod.metadata.namespace, reference.name);
    return job?.metadata.uid === reference.uid ? job : undefined;
  }
  function enqueueSoon(job: Job): void {
    const key = keyOf(job);
    queue.addAfter(key, (lastLook.get(key) ?? Number.NEGATIVE_INFINITY) + BATCH_MS - clock.monotonic());
  }
  function enqueueMatching(pod: Pod): void {
    for (const job of jobs.lister.values(pod.metadata.namespace))
      if (job.spec.selector && labelSelectorMatcher(job.spec.selector).matches(pod.metadata.labels))
        queue.add(keyOf(job));
  }
  jobs.addHandler({
    added: (job) => queue.add(keyOf(job)),
    updated: (job) => queue.add(keyOf(job)),
    deleted(job) {
      const key = keyOf(job);
      expectations.forget(key);
      backoffs.delete(job.metadata.uid);
      lastLook.delete(key);
      for (const pod of podsByController.get(job.metadata.uid))
        if (isTracked(pod)) orphans.queue.add(keyOf(pod));
    },
  });
  pods.addHandler({
    added(pod) {
      if (pod.metadata.deletionTimestamp !== undefined) {
        podEnded(pod);
        return;
      }
      const job = ownerOf(pod);
      if (job) {
        expectations.creationObserved(keyOf(job));
        enqueueSoon(job);
      } else strayed(pod);
    },
    updated(pod, old) {
      if (isTracked(old) && !isTracked(pod)) released.delete(pod.metadata.uid);
      if (pod.metadata.deletionTimestamp !== undefined) {
        podEnded(pod);
        return;
      }
      if (controllerOf(old)?.uid !== controllerOf(pod)?.uid) {
        const previous = ownerOf(old);
        if (previous) enqueueSoon(previous);
      }
      const job = ownerOf(pod);
      if (job) enqueueSoon(job);
      else strayed(pod);
    },
    deleted(pod) {
      released.delete(pod.metadata.uid);
      podEnded(pod);
    },
  });
  function podEnded(pod: Pod): void {
    const job = ownerOf(pod);
    if (!job) {
      strayed(pod);
      return;
    }
    expectations.deletionObserved(keyOf(job), pod.metadata.uid);
    enqueueSoon(job);
  }
  /** Of no Job that we know: one may want it, or it was left behind by one. */
  function strayed(pod: Pod): void {
    if (!controllerOf(pod)) enqueueMatching(pod);
    if (isTracked(pod)) orphans.queue.add(keyOf(pod));
  }

  async function reconcile(key: string): Promise<ReconcileResult | undefined> {
    const job = jobs.lister.get(key);
    if (!job || (job.spec.managedBy !== undefined && job.spec.managedBy !== OURSELVES)) return undefined;
    if (isFinished(job)) {
      backoffs.delete(job.metadata.uid);
      lastLook.delete(key);
      return undefined;
    }
    lastLook.set(key, clock.monotonic());
    const mayManage = expectations.satisfied(key);
    const owned = await claim(podsOf(podsByController, job), {
      client,
      owner: job,
      ownerType: type,
      type: resources.pods,
      selector: labelSelectorMatcher(job.spec.selector),
      adoptable: isPodActive,
      finalizer: TRACKING,
    });
    const { uid } = job.metadata;
    const sync = new JobSync(
      {
        client,
        clock,
        recorder,
        mayManage,
        released,
        backoff: backoffs.get(uid),
        setBackoff(record) {
          if (record) backoffs.set(uid, record);
          else backoffs.delete(uid);
        },
        create: (of, count, indexes, replaced) => create(key, of, count, indexes, replaced),
        expectDeletions: (all) =>
          expectations.expectDeletions(
            key,
            all.map((pod) => pod.metadata.uid),
          ),
        deletionFailed: (pod) => expectations.deletionObserved(key, pod.metadata.uid),
      },
      job,
      owned,
    );
    const requeueAfterMs = await sync.run();
    return requeueAfterMs === undefined ? undefined : { requeueAfterMs };
  }

  async function create(
    key: string,
    job: Job,
    count: number,
    indexes: readonly number[] | undefined,
    replaced: ReadonlyMap<number, Pod>,
  ): Promise<{ readonly created: number; readonly error?: unknown }> {
    expectations.expectCreations(key, count);
    const waiting = indexes?.values();
    let created = 0;
    const { succeeded, error } = await slowStart(count, async () => {
      const index = waiting?.next().value;
      const draft = podFromTemplate(templateFor(job, index, replaced), job, type);
      const named =
        index === undefined
          ? draft
          : { ...draft, metadata: { ...draft.metadata, generateName: `${job.metadata.name}-${index}-` } };
      try {
        await createPod(control, job, named);
        created++;
      } catch (failure) {
        if (!isNamespaceTerminating(failure)) throw failure;
        expectations.creationObserved(key);
      }
    });
    for (let i = succeeded; i < count; i++) expectations.creationObserved(key);
    return { created, ...(error === undefined ? {} : { error }) };
  }

  /** A pod that a Job once tracked and that none tracks now. */
  async function releaseOrphan(key: string): Promise<void> {
    const pod = pods.lister.get(key);
    if (!pod || !isTracked(pod)) return;
    const reference = controllerOf(pod);
    if (reference?.kind === type.kind) {
      if (ownerOf(pod)) return;
      // The cache of Jobs may be behind that of pods: only the server knows that the Job is gone.
      try {
        const job = await client.resource(type, splitKey(key).namespace).get(reference.name);
        if (job.metadata.uid === reference.uid) return;
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    await removeTracking(client, pod).catch((error: unknown) => {
      if (!isNotFound(error)) throw error;
    });
  }

  return {
    ready,
    [Symbol.asyncDispose]: () => disposeAll([jobs, pods, recorder, orphans, controller]),
  };
}

function templateFor(
  job: Job,
  index: number | undefined,
  replaced: ReadonlyMap<number, Pod>,
): PodTemplateSpec {
  const { metadata, spec = { containers: [] } } = job.spec.template;
  const finalizers = [...new Set([...(metadata?.finalizers ?? []), TRACKING])];
  if (index === undefined || !isIndexed(job)) return { metadata: { ...metadata, finalizers }, spec };
  const text = String(index);
  const withIndex = <C extends { readonly env?: EnvVar[] }>(container: C): C => ({
    ...container,
    env: container.env?.some((one) => one.name === 'JOB_COMPLETION_INDEX')
      ? container.env
      : [
          ...(container.env ?? []),
          {
            name: 'JOB_COMPLETION_INDEX',
            valueFrom: { fieldRef: { fieldPath: `metadata.labels['${COMPLETION_INDEX}']` } },
          },
        ],
  });
  const perIndex = job.spec.backoffLimitPerIndex !== undefined;
  return {
    metadata: {
      ...metadata,
      finalizers,
      labels: { ...metadata?.labels, [COMPLETION_INDEX]: text },
      annotations: {
        ...metadata?.annotations,
        [COMPLETION_INDEX]: text,
        ...(perIndex ? failureAnnotations(job, replaced.get(index)) : {}),
      },
    },
    spec: {
      ...spec,
      hostname: `${job.metadata.name}-${index}`,
      containers: spec.containers.map(withIndex),
      ...(spec.initContainers ? { initContainers: spec.initContainers.map(withIndex) } : {}),
    },
  };
}
