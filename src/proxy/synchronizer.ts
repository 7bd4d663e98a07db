// Brings services into the kernel: a round takes the services that changed, works out their programs and commits the
// difference as one transaction. One round at a time.
//
// Invariants
// - A lone change is committed at once. Rounds that follow one another closely wait a little, and longer and longer
//   (to a tenth of a second), so that a burst of changes is a few transactions.
// - What the kernel holds is known only after a transaction that succeeded. After one that failed everything is
//   written anew; when that fails too, the table is replaced; then again with back-off, for as long as it takes.
// - A change of the table by somebody else leads to the same, more rarely if it happens again and again.

import { Backoff, delay } from '../client/index.ts';
import type { Clock, Logger, Timer } from '../component/index.ts';
import type { ProxyMetrics } from './metrics.ts';
import type { Nft } from './nft.ts';
import type { ServiceProgram } from './program.ts';
import type { Collision, RuleState, ServiceRank } from './rule-state.ts';
import { TimeSlice } from './time-slice.ts';

export interface Round {
  /** Services that were looked at. */
  readonly services: ReadonlyMap<
    string,
    { readonly before: ServiceProgram | undefined; readonly after: ServiceProgram | undefined }
  >;
  /** By service. */
  readonly collisions: ReadonlyMap<string, readonly Collision[]>;
  readonly full: boolean;
  /** Whether anything was committed to the kernel. */
  readonly committed: boolean;
}

export interface SynchronizerOptions {
  readonly nft: Nft;
  readonly state: RuleState;
  readonly table: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: () => number;
  readonly metrics: ProxyMetrics;
  /** Everything is written anew this often, whether anything seems to have changed or not. */
  readonly resyncMs: number;
  /** What a service is now; undefined when it is gone. */
  describe(
    service: string,
  ): { readonly rank: ServiceRank; readonly program: ServiceProgram | undefined } | undefined;
  /** Called when a round begins to take what has changed. */
  started(): void;
  /** Called after each round whose transaction, if it needed one, succeeded. */
  done(round: Round): Promise<void>;
}

/** Rounds follow one another without a pause until there were this many... */
const FREE_ROUNDS = 2;
/** ...within this time of one another. */
const QUIET_MS = 1000;
const SHORTEST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 100;

/** A repair this long after the last one is made at once; those that come sooner wait. */
const LONE_REPAIR_MS = 2000;

/** How much of the table is to be written. `replace` forgets which clients stay with which endpoint. */
type Extent = 'changes' | 'everything' | 'replace';

export class Synchronizer {
  readonly #options: SynchronizerOptions;
  readonly #dirty = new Set<string>();
  readonly #stop = new AbortController();
  readonly #retry: Backoff;
  readonly #repair: Backoff;
  #extent: Extent = 'everything';
  #wake = Promise.withResolvers<void>();
  #rounds = 0;
  #lastRound = Number.NEGATIVE_INFINITY;
  #lastRepair = Number.NEGATIVE_INFINITY;
  #resync: Timer | undefined;
  #repairing: Timer | undefined;
  #running: Promise<void> | undefined;
  #failure: string | undefined;

  constructor(options: SynchronizerOptions) {
    this.#options = options;
    const { clock, random } = options;
    this.#retry = new Backoff({ initialMs: 200, maxMs: 30_000, factor: 2, jitter: 0.1 }, clock, random);
    this.#repair = new Backoff(
      { initialMs: 250, maxMs: 30_000, factor: 2, jitter: 0.1, resetAfterMs: 60_000 },
      clock,
      random,
    );
  }

  /** Why the last transaction failed; undefined when it did not. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Services that are yet to be looked at. */
  get waiting(): number {
    return this.#dirty.size;
  }

  touch(service: string): void {
    this.#dirty.add(service);
    this.#wake.resolve();
  }

  /** Somebody else changed the table, or may have. */
  repair(): void {
    if (this.#stop.signal.aborted || this.#repairing) return;
    const { clock, logger, table } = this.#options;
    const quiet = clock.monotonic() - this.#lastRepair > LONE_REPAIR_MS;
    const wait = quiet ? 0 : this.#repair.next();
    logger.warn(
      { table, inMs: Math.round(wait) },
      'somebody else changed the rules of services; they are written anew',
    );
    this.#repairing = clock.setTimer(
      wait,
      () => {
        this.#repairing = undefined;
        this.#lastRepair = clock.monotonic();
        this.everything();
      },
      { unref: true },
    );
  }

  /** Writes everything anew in the next round. */
  everything(): void {
    if (this.#extent === 'changes') this.#extent = 'everything';
    this.#wake.resolve();
  }

  /**
   * Resolves when the first round has been committed, and rejects when that is refused however it is tried; later
   * ones run until stop().
   */
  async start(): Promise<void> {
    this.#wake.resolve();
    const first = Promise.withResolvers<void>();
    this.#running = this.#run(first.resolve, first.reject).catch((error: unknown) => {
      this.#options.logger.fatal({ err: error }, 'the service proxy has ended by an error of its own');
      first.reject(error);
    });
    const { signal } = this.#stop;
    const stopped = (): void => first.reject(signal.reason);
    signal.addEventListener('abort', stopped, { once: true });
    await first.promise.finally(() => signal.removeEventListener('abort', stopped));
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('the service proxy was stopped'));
    this.#wake.resolve();
    this.#resync?.cancel();
    this.#repairing?.cancel();
    await this.#running;
  }

  async #run(committed: () => void, failed: (error: unknown) => void): Promise<void> {
    const { clock, logger, metrics } = this.#options;
    const { signal } = this.#stop;
    for (;;) {
      await this.#wake.promise;
      if (signal.aborted) return;
      await this.#pause();
      if (signal.aborted) return;
      this.#wake = Promise.withResolvers();
      // Whoever asks for more while the round is under way asks for the next one.
      const extent = this.#extent;
      this.#extent = 'changes';
      try {
        if (await this.#round(extent)) {
          this.#lastRound = clock.monotonic();
          this.#rounds++;
        }
        this.#failure = undefined;
        this.#retry.reset();
        committed();
      } catch (error) {
        if (signal.aborted) return;
        metrics.syncFailures.value++;
        this.#failure = error instanceof Error ? error.message : String(error);
        this.#extent = extent === 'everything' ? 'replace' : 'everything';
        const wait = extent === 'replace' ? this.#retry.next() : 0;
        if (wait > 0) failed(error);
        logger.error(
          { err: error, retryInMs: Math.round(wait), next: this.#extent },
          'the rules of services could not be written',
        );
        this.#wake.resolve();
        if (wait > 0) await delay(clock, wait, signal).catch(() => {});
      }
    }
  }

  /** Lets a burst of changes gather. */
  async #pause(): Promise<void> {
    const { clock } = this.#options;
    const since = clock.monotonic() - this.#lastRound;
    if (since > QUIET_MS) this.#rounds = 0;
    const excess = this.#rounds - FREE_ROUNDS;
    if (excess < 0) return;
    const pause = Math.min(LONGEST_PAUSE_MS, SHORTEST_PAUSE_MS * 2 ** Math.min(excess, 10)) - since;
    if (pause > 0) await delay(clock, pause, this.#stop.signal).catch(() => {});
  }

  /** True when something was committed. */
  async #round(extent: Extent): Promise<boolean> {
    const { state, nft, clock, metrics, done, started } = this.#options;
    const begun = clock.monotonic();
    started();
    const full = extent !== 'changes';
    // What is written whole needs no differences.
    if (full) state.forgetDifferences();
    const services = new Map<
      string,
      { before: ServiceProgram | undefined; after: ServiceProgram | undefined }
    >();
    const collisions = await this.#look(services);
    const changes = full ? undefined : state.changes(clock.monotonic());
    if (full) await nft.apply(await this.#script(extent));
    else if (changes) await nft.apply(changes.script);
    const committed = full || changes !== undefined;
    if (committed) {
      state.committed(full);
      const seconds = (clock.monotonic() - begun) / 1000;
      metrics.sync.observe(seconds);
      (full ? metrics.fullSync : metrics.partialSync).observe(seconds);
    }
    metrics.lastSync.value = clock.now() / 1000;
    await done({ services, collisions, full, committed });
    if (full) {
      await this.#sweep();
      this.#resync?.cancel();
      this.#resync = clock.setTimer(this.#options.resyncMs, () => this.everything(), { unref: true });
    }
    return committed;
  }

  /** Works out what the services that changed are to be. */
  async #look(
    services: Map<string, { before: ServiceProgram | undefined; after: ServiceProgram | undefined }>,
  ): Promise<ReadonlyMap<string, readonly Collision[]>> {
    const { state, describe, clock, logger } = this.#options;
    const collisions = new Map<string, readonly Collision[]>();
    const slice = new TimeSlice(clock);
    const touch = (service: string): void => {
      this.#dirty.add(service);
    };
    for (const service of this.#dirty) {
      this.#dirty.delete(service);
      const before = services.get(service)?.before ?? state.programOf(service);
      try {
        const now = describe(service);
        const rank = now?.rank ?? { key: service, created: '' };
        collisions.set(service, state.set(rank, now?.program, clock.monotonic(), touch));
        services.set(service, { before, after: now?.program });
      } catch (error) {
        logger.error({ err: error, service }, 'a service cannot be understood; its rules stay as they are');
      }
      if (slice.over) {
        await slice.pause();
        if (this.#stop.signal.aborted) break;
      }
    }
    return collisions;
  }

  async #script(extent: Extent): Promise<Uint8Array> {
    const { state, table, clock } = this.#options;
    const slice = new TimeSlice(clock);
    const parts: Buffer[] = [];
    let text = extent === 'replace' ? `add table inet ${table}\ndelete table inet ${table}\n` : '';
    for (const part of state.everything()) {
      text += part;
      if (!slice.over) continue;
      parts.push(Buffer.from(text));
      text = '';
      await slice.pause();
    }
    return Buffer.concat([...parts, Buffer.from(text)]);
  }

  /** Removes what is in the table and belongs to nobody. It does no harm until then, apart from hooks of others. */
  async #sweep(): Promise<void> {
    const { nft, state, metrics, logger } = this.#options;
    try {
      const lines = state.sweep(await nft.contents());
      if (lines.length > 0) await nft.apply(`${lines.join('\n')}\n`);
    } catch (error) {
      metrics.cleanupFailures.value++;
      logger.warn({ err: error }, 'stale chains and sets in the table of services could not be removed');
    }
  }
}
