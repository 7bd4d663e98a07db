// Cuts the store's history down now and then: what was replaced before the last tick but one is forgotten, so that
// clients have at least one interval to go on from where they were. The history lives in memory, so a tick also comes
// whenever much was replaced since the last one: a client that rewrites large objects in a loop costs others their
// place in the past, but not the server its memory.

import type { Clock, Logger, Timer } from '../component/index.ts';
import { prefixEnd, type Store } from '../store/store.ts';

export interface CompactionOptions {
  readonly store: Store;
  readonly intervalMs: number;
  /** The bytes of replaced states after which history is cut down before the interval is over; 128 MiB when absent. */
  readonly historyBytes?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

const HISTORY_BYTES = 128 * 1024 * 1024;
/** What a replaced state costs beside its value. */
const STATE_BYTES = 256;
const ROOT = '/registry/';

export function startCompaction(options: CompactionOptions): AsyncDisposable {
  const { store, intervalMs, historyBytes = HISTORY_BYTES, clock, logger } = options;
  let timer: Timer | undefined;
  let stopped = false;
  let running: Promise<void> | undefined;
  let before = store.revision;
  let replaced = 0;

  const compact = async (revision: number): Promise<void> => {
    if (revision <= store.compactRevision) return;
    try {
      await store.compact(revision);
      logger.debug({ component: 'compaction', revision }, 'forgot the older history of the store');
    } catch (error) {
      logger.warn(
        { component: 'compaction', revision, err: error },
        'the store could not be compacted; tried again at the next interval',
      );
    }
  };
  const tick = (): void => {
    if (running !== undefined || stopped) return;
    timer?.cancel();
    const revision = before;
    before = store.revision;
    replaced = 0;
    running = compact(revision).then(() => {
      running = undefined;
      if (!stopped) timer = clock.setTimer(intervalMs, tick, { unref: true });
    });
  };
  timer = clock.setTimer(intervalMs, tick, { unref: true });
  const watching = store
    .watch(
      { range: { start: ROOT, end: prefixEnd(ROOT) } },
      {
        events({ events }) {
          for (const { previous } of events)
            if (previous !== undefined) replaced += previous.value.length + STATE_BYTES;
          if (replaced >= historyBytes) tick();
        },
        end(error) {
          if (error !== undefined) logWatchFailure(error);
        },
      },
    )
    .catch(logWatchFailure);
  function logWatchFailure(error: unknown): void {
    if (stopped) return;
    logger.warn(
      { component: 'compaction', err: error },
      'the store cannot be watched; its history is cut down by time alone',
    );
  }
  return {
    async [Symbol.asyncDispose]() {
      stopped = true;
      timer?.cancel();
      (await watching)?.();
      await running;
    },
  };
}
