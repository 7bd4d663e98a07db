// Leader election on a Lease (coordination.k8s.io/v1), as client-go does it: several candidates, at most one of them
// leads, and one that dies is replaced after the lease's duration.
//
// What it relies on: clocks of candidates run at about the same speed (never that they agree: a candidate measures the
// age of the record from when it saw it change). What it does not guarantee: that a deposed leader has noticed before
// the next one begins; it notices at its renew deadline, which is shorter than the lease.

import { isAlreadyExists, isConflict, isNotFound, microTimestamp } from '../api/index.ts';
import type { Lease, LeaseSpec } from '../api/types/coordination-v1.ts';
import { type Clock, type Logger, type Running, silentLogger } from '../component/index.ts';
import type { Client } from './client.ts';
import { type EventRecorder, referenceTo } from './events.ts';
import { resources } from './resources.ts';
import { delay } from './retry.ts';

export interface LeaderElectionOptions {
  readonly client: Client;
  readonly namespace: string;
  readonly name: string;
  /** Unlike every other candidate's. */
  readonly identity: string;
  readonly clock?: Clock;
  readonly logger?: Logger;
  readonly random?: () => number;
  readonly recorder?: EventRecorder;
  /** How long others wait before they take over from a leader that is not heard of: 15 s. */
  readonly leaseDurationMs?: number;
  /** How long the leader tries to renew before it steps down: 10 s. */
  readonly renewDeadlineMs?: number;
  /** Between tries: 2 s. */
  readonly retryPeriodMs?: number;
  /** Called while we lead; must end soon after `signal` aborts (leadership lost, or stopped). */
  lead(signal: AbortSignal): Promise<void>;
  /** Called whenever another holder (ourselves too) is seen. */
  readonly onNewLeader?: (identity: string) => void;
}

export interface LeaderElection extends Running {
  readonly isLeader: boolean;
  /** Who holds the lease as far as we know; '' when nobody. */
  readonly leader: string;
}

/** Runs until disposed; a leader that is disposed gives the lease up, so that the next one need not wait. */
export function startLeaderElection(options: LeaderElectionOptions): LeaderElection {
  return new Candidate(options);
}

class Candidate implements LeaderElection {
  readonly ready = Promise.resolve();
  readonly #options: LeaderElectionOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #random: () => number;
  readonly #leaseDurationMs: number;
  readonly #renewDeadlineMs: number;
  readonly #retryPeriodMs: number;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #observed: Lease | undefined;
  /** When #observed last changed, by our own clock. */
  #observedAt = 0;
  #reported = '';

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#clock = options.clock ?? options.client.clock;
    this.#logger = (options.logger ?? silentLogger).child({
      lease: options.name,
      identity: options.identity,
    });
    this.#random = options.random ?? Math.random;
    this.#leaseDurationMs = options.leaseDurationMs ?? 15_000;
    this.#renewDeadlineMs = options.renewDeadlineMs ?? 10_000;
    this.#retryPeriodMs = options.retryPeriodMs ?? 2000;
    if (this.#leaseDurationMs <= this.#renewDeadlineMs)
      throw new RangeError('leader election: the lease must last longer than the renew deadline');
    if (this.#renewDeadlineMs <= 1.2 * this.#retryPeriodMs)
      throw new RangeError('leader election: the renew deadline must be longer than 1.2 retry periods');
    if (options.identity === '') throw new RangeError('leader election: the identity is empty');
    this.#done = this.#run();
  }

  get leader(): string {
    return this.#observed?.spec.holderIdentity ?? '';
  }

  get isLeader(): boolean {
    return this.leader === this.#options.identity;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('leader election was stopped'));
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    await null;
    while (!signal.aborted) {
      if (!(await this.#acquire(signal))) return;
      this.#logger.info('became leader');
      this.#event('became leader');
      const leading = new AbortController();
      const lead = this.#options
        .lead(leading.signal)
        .catch((error: unknown) => {
          if (!leading.signal.aborted) this.#logger.error({ err: error }, 'the leader failed and steps down');
        })
        .finally(() => leading.abort(new Error('the work of the leader ended')));
      await this.#renew(AbortSignal.any([signal, leading.signal]));
      leading.abort(new Error('leadership was lost'));
      await lead;
      this.#logger.info('stopped leading');
      this.#event('stopped leading');
      await this.#release();
      // Whoever stepped down leaves the others the first chance.
      await delay(this.#clock, this.#retryPeriodMs, signal).catch(() => {});
    }
  }

  /** True once we hold the lease; false when stopped. */
  async #acquire(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      if (await this.#tryOnce(signal)) return true;
      const wait = this.#retryPeriodMs * (1 + 1.2 * this.#random());
      await delay(this.#clock, wait, signal).catch(() => {});
    }
    return false;
  }

  /** Keeps the lease until it cannot be renewed within the deadline, or `signal` aborts. */
  async #renew(signal: AbortSignal): Promise<void> {
    let renewed = this.#clock.monotonic();
    while (!signal.aborted) {
      await delay(this.#clock, this.#retryPeriodMs, signal).catch(() => {});
      if (signal.aborted) return;
      const left = renewed + this.#renewDeadlineMs - this.#clock.monotonic();
      const attempt = new AbortController();
      const timer = this.#clock.setTimer(Math.max(0, left), () => attempt.abort(new Error('renew deadline')));
      try {
        if (await this.#tryOnce(AbortSignal.any([signal, attempt.signal]))) renewed = this.#clock.monotonic();
      } finally {
        timer.cancel();
      }
      if (!signal.aborted && this.#clock.monotonic() - renewed >= this.#renewDeadlineMs) {
        this.#logger.error('the lease could not be renewed within the deadline');
        return;
      }
    }
  }

  /** One attempt to take or renew the lease; true when we hold it afterwards. */
  async #tryOnce(signal: AbortSignal): Promise<boolean> {
    const { client, namespace, name, identity } = this.#options;
    const leases = client.resource(resources.leases, namespace);
    const now = microTimestamp(this.#clock.now());
    const wanted: LeaseSpec = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.floor(this.#leaseDurationMs / 1000),
      acquireTime: now,
      renewTime: now,
      leaseTransitions: 0,
    };
    try {
      let current: Lease;
      try {
        // The leader's own record is usually still the newest; when it is not, the update conflicts and we read.
        current =
          this.#observed && this.isLeader && this.#valid()
            ? this.#observed
            : await leases.get(name, { signal });
      } catch (error) {
        if (!isNotFound(error)) throw error;
        this.#observe(await leases.create({ metadata: { name, namespace }, spec: wanted }, { signal }));
        return true;
      }
      this.#observe(current);
      const { spec } = current;
      if (spec.holderIdentity && spec.holderIdentity !== identity && this.#valid()) {
        this.#logger.debug({ holder: spec.holderIdentity }, 'the lease is held by another');
        return false;
      }
      const ours = spec.holderIdentity === identity;
      const next: LeaseSpec = {
        ...spec,
        ...wanted,
        acquireTime: ours ? (spec.acquireTime ?? now) : now,
        leaseTransitions: (spec.leaseTransitions ?? 0) + (ours ? 0 : 1),
      };
      this.#observe(await leases.update({ ...current, spec: next }, { signal }));
      return true;
    } catch (error) {
      if (this.#stop.signal.aborted) return false;
      if (isConflict(error) || isNotFound(error)) this.#observed = undefined;
      if (isConflict(error) || isAlreadyExists(error))
        this.#logger.debug({ err: error }, 'another took the lease');
      else this.#logger.warn({ err: error }, 'the lease could not be read or written');
      return false;
    }
  }

  /** True while the observed holder must be believed to be alive. */
  #valid(): boolean {
    const seconds = this.#observed?.spec.leaseDurationSeconds ?? 0;
    return this.#observedAt + seconds * 1000 > this.#clock.monotonic();
  }

  #observe(lease: Lease): void {
    if (this.#observed?.metadata.resourceVersion !== lease.metadata.resourceVersion) {
      this.#observed = lease;
      this.#observedAt = this.#clock.monotonic();
    }
    if (this.leader === this.#reported) return;
    this.#reported = this.leader;
    if (this.#reported !== '') this.#options.onNewLeader?.(this.#reported);
  }

  /** Leaves the lease to whoever comes first, for one second: the shortest that the API allows. */
  async #release(): Promise<void> {
    const { client, namespace } = this.#options;
    const lease = this.#observed;
    if (!lease || !this.isLeader) return;
    const now = microTimestamp(this.#clock.now());
    const deadline = new AbortController();
    const timer = this.#clock.setTimer(this.#retryPeriodMs, () =>
      deadline.abort(new Error('release deadline')),
    );
    try {
      const spec: LeaseSpec = {
        holderIdentity: '',
        leaseDurationSeconds: 1,
        acquireTime: now,
        renewTime: now,
        leaseTransitions: lease.spec.leaseTransitions ?? 0,
      };
      const leases = client.resource(resources.leases, namespace);
      this.#observe(await leases.update({ ...lease, spec }, { signal: deadline.signal }));
    } catch (error) {
      // Others wait out the lease then; nothing depends on it.
      this.#logger.warn({ err: error }, 'the lease could not be given up');
      this.#observed = undefined;
    } finally {
      timer.cancel();
    }
  }

  #event(what: string): void {
    const { recorder, identity } = this.#options;
    if (!recorder || !this.#observed) return;
    recorder.event(
      referenceTo(resources.leases, this.#observed),
      'Normal',
      'LeaderElection',
      `${identity} ${what}`,
    );
  }
}
