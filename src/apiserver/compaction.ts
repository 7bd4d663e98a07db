// Cuts the store's history down now and then: what was replaced before the last tick but one is forgotten, so that
// clients have at least one interval to go on from where they were.

import type { Clock, Logger, Timer } from '../component/index.ts';
import type { Store } from '../store/store.ts';

export interface CompactionOptions {
  readonly store: Store;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

export function startCompaction({ store, intervalMs, clock, logger }: CompactionOptions): AsyncDisposable {
  let timer: Timer;
  let stopped = false;
  let running: Promise<void> = Promise.resolve();
  let before = store.revision;

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
  const arm = (): void => {
    timer = clock.setTimer(
      intervalMs,
      () => {
        const revision = before;
        before = store.revision;
        running = compact(revision).then(() => {
          if (!stopped) arm();
        });
      },
      { unref: true },
    );
  };
  arm();
  return {
    async [Symbol.asyncDispose]() {
      stopped = true;
      timer.cancel();
      await running;
    },
  };
}
