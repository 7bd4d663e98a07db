// Ends containers as their pod asked: preStop hook, stop signal, and after the grace period the kill. The hook's time
// counts against the grace period. A grace period that becomes shorter while containers end takes effect at once.

import { isSidecar } from '../api/index.ts';
import type { Container, LifecycleHandler, Pod } from '../api/types/core-v1.ts';
import type { Clock, Logger } from '../component/index.ts';
import type { RuntimeService } from '../runtime/cri.ts';
import type { NodeEvents } from './events.ts';
import type { HookRunner } from './hooks.ts';
import { annotations, findContainer, type PodContainer } from './pod.ts';
import { deadline } from './probes/prober.ts';
import type { ContainerRecord, PodRuntimeState } from './runtime-state.ts';
import { messageOf } from './text.ts';

/** Containers get at least this long after their preStop hook, however long that took. */
const LEAST_GRACE_SECONDS = 2;

export interface KillerOptions {
  readonly runtime: RuntimeService;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: NodeEvents;
  readonly hooks: HookRunner;
  /** Aborts when the agent stops: whoever waits for a container's end is let go, the container is left to itself. */
  readonly signal: AbortSignal;
}

/** The end that a pod was granted, on the clock's monotonic time; may be moved earlier. */
export class GracePeriod {
  readonly #clock: Clock;
  #end: number;
  #seconds: number;
  readonly #listeners = new Set<() => void>();

  constructor(clock: Clock, seconds: number) {
    this.#clock = clock;
    this.#seconds = seconds;
    this.#end = clock.monotonic() + seconds * 1000;
  }

  /** The whole of it, as granted. */
  get seconds(): number {
    return this.#seconds;
  }

  get remainingSeconds(): number {
    return Math.max(0, (this.#end - this.#clock.monotonic()) / 1000);
  }

  /** Takes effect only when it ends the period earlier. */
  shorten(seconds: number): void {
    const end = this.#clock.monotonic() + seconds * 1000;
    if (end >= this.#end) return;
    this.#end = end;
    this.#seconds = seconds;
    for (const listener of this.#listeners) listener();
  }

  onShortened(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }
}

export class ContainerKiller {
  readonly #options: KillerOptions;

  constructor(options: KillerOptions) {
    this.#options = options;
  }

  /** Resolves when the container has ended; rejects when the agent stops before. `pod` is absent for containers whose pod is not known any more. */
  async kill(
    pod: Pod | undefined,
    record: ContainerRecord,
    grace: GracePeriod,
    message: string,
  ): Promise<void> {
    const { runtime, events, logger, signal } = this.#options;
    const member = pod && findContainer(pod, record.name);
    if (pod && member)
      events.container(pod, member, 'Normal', 'Killing', message || `Stopping container ${record.name}`);
    logger.info(
      { container: record.id, name: record.name, graceSeconds: grace.remainingSeconds, why: message },
      'a container is being stopped',
    );
    const preStop = this.#preStop(member, record);
    if (preStop && grace.seconds > 0) await this.#runPreStop(pod, member, record, preStop, grace);
    signal.throwIfAborted();
    const least = preStop ? LEAST_GRACE_SECONDS : 0;
    const seconds = (): number =>
      Math.ceil(grace.seconds === 0 ? 0 : Math.max(grace.remainingSeconds, Math.min(least, grace.seconds)));
    const stopping: Promise<void>[] = [];
    const { promise: failed, reject } = Promise.withResolvers<never>();
    failed.catch(() => {});
    // A second, shorter stop overtakes the first: the runtime kills at the earlier of the two.
    using _ = grace.onShortened(() =>
      stopping.push(runtime.stopContainer(record.id, seconds()).catch(reject)),
    );
    const letGo = (): void => reject(signal.reason);
    signal.addEventListener('abort', letGo, { once: true });
    try {
      stopping.push(runtime.stopContainer(record.id, seconds()));
      await Promise.race([stopping[0], failed]);
      await Promise.race([Promise.all(stopping), failed]);
    } finally {
      signal.removeEventListener('abort', letGo);
    }
  }

  /**
   * Ends all containers of a pod: the regular ones together, then the sidecars one after the other, last one first
   * (KEP-753), all within one grace period.
   */
  async killAll(pod: Pod | undefined, state: PodRuntimeState, grace: GracePeriod): Promise<void> {
    const running = state.containers.filter(
      ({ state: s }) => s === 'RUNNING' || s === 'CREATED' || s === 'UNKNOWN',
    );
    const sidecars = (pod?.spec.initContainers ?? []).filter(isSidecar).map(({ name }) => name);
    const isSide = (record: ContainerRecord): boolean => sidecars.includes(record.name);
    await settle(
      running.filter((record) => !isSide(record)).map((record) => this.kill(pod, record, grace, '')),
    );
    for (const name of sidecars.toReversed())
      await settle(
        running.filter((record) => record.name === name).map((record) => this.kill(pod, record, grace, '')),
      );
  }

  #preStop(member: PodContainer | undefined, record: ContainerRecord): LifecycleHandler | undefined {
    if (record.state !== 'RUNNING') return undefined;
    if (member) return member.container.lifecycle?.preStop;
    const recorded = record.status.annotations[annotations.preStop];
    if (recorded === undefined) return undefined;
    try {
      return JSON.parse(recorded) as LifecycleHandler;
    } catch (error) {
      this.#options.logger.warn(
        { err: error, container: record.id },
        'the recorded preStop hook cannot be read; it is not run',
      );
      return undefined;
    }
  }

  async #runPreStop(
    pod: Pod | undefined,
    member: PodContainer | undefined,
    record: ContainerRecord,
    handler: LifecycleHandler,
    grace: GracePeriod,
  ): Promise<void> {
    const { hooks, events, logger, clock } = this.#options;
    using limit = deadline(clock, grace.remainingSeconds * 1000);
    const shortened = new AbortController();
    using _ = grace.onShortened(() => shortened.abort(new Error('the grace period became shorter')));
    const signal = AbortSignal.any([limit.signal, shortened.signal, this.#options.signal]);
    // A container whose pod is gone is known by its name only; hooks need no more than that.
    const container: Container = member?.container ?? { name: record.name };
    const target = { pod: pod!, container, containerId: record.id, podIP: pod?.status?.podIP ?? '' };
    try {
      await hooks.run(target, handler, signal);
    } catch (error) {
      this.#options.signal.throwIfAborted();
      if (signal.aborted) {
        logger.info({ container: record.id }, 'the preStop hook did not end within the grace period');
        return;
      }
      if (pod && member)
        events.container(
          pod,
          member,
          'Warning',
          'FailedPreStopHook',
          `PreStopHook failed: ${messageOf(error)}`,
        );
      logger.warn({ err: error, container: record.id }, 'the preStop hook failed');
    }
  }
}

/** Waits for all, then rejects with the first failure. */
async function settle(work: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
}
