// Ends everything that runs on the node because the node itself is stopped, in the manner of upstream's graceful node
// shutdown (KEP-2000): all pods at once, each within its own grace period and all within one limit, critical pods after
// the others. Unlike there the pods are kept: they start again with the next agent. Relies on PodWorker.halt() to end one
// pod, and never waits longer than the limit and a little for a runtime that does not answer.

import type { Pod } from '../api/types/core-v1.ts';
import type { Clock, Logger, Timer } from '../component/index.ts';
import type { OrphanCollector } from './orphans.ts';
import { podKey } from './pod.ts';
import type { PodWorker } from './pod-worker.ts';

/** How long after the limit the runtime may take for killing and clearing away, in ms. */
const LAST_MS = 10_000;
/** The part of the limit that is kept for critical pods, where there are others before them. */
const CRITICAL_SHARE = 1 / 3;
/** Priorities from here on are those of system-cluster-critical and system-node-critical. */
const CRITICAL_PRIORITY = 2_000_000_000;

export interface NodeShutdownOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly workers: () => Iterable<PodWorker>;
  readonly orphans: OrphanCollector;
  /** Aborts when the agent stops: nothing is waited for any longer. */
  readonly signal: AbortSignal;
}

export class NodeShutdown {
  readonly #options: NodeShutdownOptions;
  readonly #giveUp = new AbortController();
  /** When the limit is over, on the clock's monotonic time. */
  #end = Number.POSITIVE_INFINITY;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #done = false;
  /** The pods that were told to end and have not. */
  readonly #unfinished = new Set<PodWorker>();

  constructor(options: NodeShutdownOptions) {
    this.#options = options;
  }

  /** From here on nothing is started. */
  get begun(): boolean {
    return this.#running !== undefined;
  }

  /**
   * Resolves when no pod runs, or when the limit and 10 s are over; never rejects. Called again while it is under way, a
   * shorter limit takes effect at once.
   */
  stopPods(longestMs: number): Promise<void> {
    const { clock, orphans } = this.#options;
    const end = clock.monotonic() + longestMs;
    if (end < this.#end && !this.#done) {
      this.#end = end;
      this.#timer?.cancel();
      this.#timer = clock.setTimer(longestMs + LAST_MS, () =>
        this.#giveUp.abort(new Error('the time for ending the pods is over')),
      );
      for (const worker of this.#unfinished) worker.hasten(longestMs / 1000);
      if (this.#running) void orphans.hasten(longestMs / 1000);
    }
    this.#running ??= this.#run().finally(() => {
      this.#done = true;
      this.#timer?.cancel();
    });
    return this.#running;
  }

  async #run(): Promise<void> {
    const { clock, logger, workers, orphans, signal } = this.#options;
    const given = AbortSignal.any([signal, this.#giveUp.signal]);
    const critical: PodWorker[] = [];
    const others: PodWorker[] = [];
    for (const worker of workers()) (isCritical(worker.pod) ? critical : others).push(worker);
    const left = (): number => Math.max(0, this.#end - clock.monotonic());
    logger.info({ pods: critical.length + others.length, longestMs: left() }, 'all pods are being ended');
    const reserved = critical.length > 0 && others.length > 0 ? CRITICAL_SHARE : 0;
    const seconds = Math.floor(left() * (1 - reserved)) / 1000;
    await Promise.all([this.#halt(others, seconds, given), letGo(orphans.hasten(seconds), given)]);
    await this.#halt(critical, left() / 1000, given);
    if (this.#unfinished.size > 0)
      logger.error(
        { pods: [...this.#unfinished].map(({ pod }) => podKey(pod)) },
        'pods did not end in time; what runs of them goes on until the next start of the node',
      );
  }

  async #halt(workers: readonly PodWorker[], seconds: number, given: AbortSignal): Promise<void> {
    await Promise.all(
      workers.map(async (worker) => {
        this.#unfinished.add(worker);
        await letGo(
          worker.halt(seconds, given).then(() => this.#unfinished.delete(worker)),
          given,
        );
      }),
    );
  }
}

function isCritical(pod: Pod): boolean {
  return (pod.spec.priority ?? 0) >= CRITICAL_PRIORITY;
}

/** Resolves with the work, or as soon as nothing is to be waited for any longer; how the work failed is told where it did. */
async function letGo(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<void>();
  const resolve = (): void => aborted.resolve();
  if (signal.aborted) resolve();
  signal.addEventListener('abort', resolve, { once: true });
  await Promise.race([work.catch(() => {}), aborted.promise]);
  signal.removeEventListener('abort', resolve);
}
