// The loop that every controller runs: take a key, reconcile it, decide when it is looked at again.
//
// Invariants, each held by the code below rather than by reconcile():
// - At most `concurrency` reconciles are under way, never two for one key.
// - Every key taken is given back (done), whatever reconcile() does.
// - A failed reconcile comes again, later and later; a successful one starts from the shortest delay next time.
// - Reconciles that find all they need in memory do not keep the process from anything else for long.
// - No reconcile starts before `ready` has resolved, nor after disposing has begun; disposing waits for those
//   under way, whose signal is aborted.

import { isConflict, isNotFound } from '../api/index.ts';
import type { Clock, Logger, Running } from '../component/index.ts';
import type { RateLimiter } from './rate-limit.ts';
import { WorkQueue, type WorkQueueMetrics } from './work-queue.ts';

/** After so many ms of keys taken one after the other, timers and sockets get their turn. */
const TURN_MS = 10;

export interface ReconcileResult {
  /** Look at the key again this much later, though nothing failed. */
  readonly requeueAfterMs?: number;
}

export interface ControllerOptions<K = string> {
  readonly name: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How many keys are worked on at once. */
  readonly concurrency?: number;
  /** What must have happened before the first reconcile: usually that all informers are synced. */
  readonly ready?: Promise<unknown>;
  readonly rateLimiter?: RateLimiter<K>;
  readonly metrics?: WorkQueueMetrics;
  /** May be called at any time and any number of times for one key; reads the state and moves it towards the spec. */
  reconcile(key: K, signal: AbortSignal): Promise<ReconcileResult | undefined> | Promise<void>;
}

export interface RunningController<K = string> extends Running {
  readonly queue: WorkQueue<K>;
}

export function startController<K = string>(options: ControllerOptions<K>): RunningController<K> {
  const { name, clock, concurrency = 1 } = options;
  if (!(concurrency >= 1))
    throw new RangeError(`controller ${name}: concurrency ${concurrency} is not positive`);
  const logger = options.logger.child({ controller: name });
  const queue = new WorkQueue<K>({
    name,
    clock,
    ...(options.rateLimiter ? { rateLimiter: options.rateLimiter } : {}),
    ...(options.metrics ? { metrics: options.metrics } : {}),
  });
  const stop = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    stop.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  const ready = Promise.resolve(options.ready).then(() => {});
  // A rejected `ready` is for whoever awaits it; the workers then never start.
  const begin = Promise.race([
    ready.then(
      () => true,
      () => false,
    ),
    stopped.then(() => false),
  ]);

  // Promises alone never let the event loop go on; a queue that is always full would be all that happens.
  let turn = performance.now();
  const giveWay = async (): Promise<void> => {
    if (performance.now() - turn < TURN_MS) return;
    await new Promise<void>((resolve) => setImmediate(resolve));
    turn = performance.now();
  };

  const work = async (): Promise<void> => {
    if (!(await begin)) return;
    for (;;) {
      await giveWay();
      const idle = queue.length === 0;
      const key = await queue.take();
      // Who waited for a key has let everything else go on.
      if (idle) turn = performance.now();
      if (key === undefined || stop.signal.aborted) return;
      try {
        const result = await options.reconcile(key, stop.signal);
        queue.forget(key);
        if (result?.requeueAfterMs !== undefined) queue.addAfter(key, result.requeueAfterMs);
      } catch (error) {
        if (stop.signal.aborted) return;
        queue.addRateLimited(key);
        const log = { err: error, key: String(key), failures: queue.failures(key) };
        // Losing against another writer is the normal way of things; anything else deserves attention.
        if (isConflict(error) || isNotFound(error))
          logger.debug(log, 'reconcile lost a race and is tried again');
        else logger.warn(log, 'reconcile failed and is tried again');
      } finally {
        queue.done(key);
      }
    }
  };
  const workers = Promise.all(Array.from({ length: concurrency }, work));

  return {
    queue,
    ready,
    async [Symbol.asyncDispose]() {
      stop.abort(new Error(`controller ${name} was stopped`));
      queue.shutDown();
      await workers;
    },
  };
}
