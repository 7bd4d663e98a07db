// Deletes Jobs that ended ttlSecondsAfterFinished ago, with all that they own.

import { isNotFound, timestampMs } from '../api/index.ts';
import type { Job } from '../api/types/batch-v1.ts';
import { keyOf, resources, startController } from '../client/index.ts';
import type { Running } from '../component/index.ts';
import { type ControllerContext, disposeAll } from './context.ts';

const type = resources.jobs;

export function startTtlAfterFinishedController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const jobs = client.informers.informer(type);
  const controller = startController({
    name: 'ttl-after-finished-controller',
    clock,
    logger,
    concurrency: 5,
    ready: jobs.synced,
    async reconcile(key) {
      const cached = jobs.lister.get(key);
      const left = cached && untilExpiry(cached, clock.now());
      if (!cached || left === undefined) return undefined;
      if (left > 0) return { requeueAfterMs: left };
      // The time to live may have been lengthened a moment ago: decide on what the server has, and delete only that.
      const { namespace, name, uid } = cached.metadata;
      const api = client.resource(type, namespace);
      try {
        const fresh = await api.get(name);
        const really = fresh.metadata.uid === uid ? untilExpiry(fresh, clock.now()) : undefined;
        if (really === undefined) return undefined;
        if (really > 0) return { requeueAfterMs: really };
        await api.delete(name, {
          propagationPolicy: 'Foreground',
          preconditions: { uid, resourceVersion: fresh.metadata.resourceVersion },
        });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
      return undefined;
    },
  });
  const look = (job: Job): void => {
    if (untilExpiry(job, clock.now()) !== undefined) controller.queue.add(keyOf(job));
  };
  jobs.addHandler({ added: look, updated: look });
  return {
    ready: controller.ready,
    [Symbol.asyncDispose]: () => disposeAll([jobs, controller]),
  };
}

/** Milliseconds; undefined for a Job that has not ended, has no time to live, or is going already. */
function untilExpiry(job: Job, now: number): number | undefined {
  const seconds = job.spec.ttlSecondsAfterFinished;
  if (seconds === undefined || job.metadata.deletionTimestamp !== undefined) return undefined;
  const end = job.status?.conditions?.find(
    ({ type: kind, status }) => (kind === 'Complete' || kind === 'Failed') && status === 'True',
  );
  const finished = timestampMs(end?.lastTransitionTime);
  return finished === undefined ? undefined : finished + seconds * 1000 - now;
}
