// Opens the embedded durable engine: lock, recovery, journal.

import { join } from 'node:path';
import { type Clock, type Logger, silentLogger, systemClock } from '../../component/index.ts';
import { Engine, type Ledger } from '../mvcc/engine.ts';
import type { Store } from '../store.ts';
import { diskFiles, type StoreFiles } from './files.ts';
import { Journal } from './journal.ts';
import { type Recovered, recover } from './recovery.ts';

export interface JournalStoreOptions {
  /** Created when it is not there. Nothing else may live in it. */
  readonly directory: string;
  /** Leases run by it; the system's clock when absent. */
  readonly clock?: Clock;
  readonly logger?: Logger;
  /** How long a segment of the journal may become, in bytes; 32 MiB when absent. */
  readonly segmentBytes?: number;
  /**
   * A snapshot is taken when the files hold more than twice what it would hold, and so many bytes on top; 16 MiB
   * when absent. Bounds both the disk space and, with it, the time that opening takes.
   */
  readonly snapshotSlackBytes?: number;
  /** The way to the disk; for tests. */
  readonly files?: StoreFiles;
}

/**
 * Rejects with StoreLockedError when the directory is in use, with DamagedStoreError when what it holds cannot be
 * trusted (nothing is changed then), and with the system's error when it cannot be read or written.
 */
export async function openJournalStore(options: JournalStoreOptions): Promise<Store> {
  const { directory, files = diskFiles, logger = silentLogger, clock = systemClock } = options;
  const started = clock.monotonic();
  await files.makeDirectory(directory);
  const unlock = await files.lock(directory);
  try {
    const engine = new Engine({ clock, logger });
    const recovered = await recover({ directory, files, engine, logger });
    await secureLastFrame(directory, files, recovered);
    try {
      for (const name of recovered.obsolete) await files.remove(join(directory, name));
    } catch (error) {
      logger.warn({ component: 'store', directory, error }, 'obsolete files could not be removed');
    }
    const journal = new Journal(
      {
        directory,
        files,
        engine,
        clock,
        logger,
        segmentBytes: options.segmentBytes ?? 32 * 1024 * 1024,
        snapshotSlackBytes: options.snapshotSlackBytes ?? 16 * 1024 * 1024,
      },
      recovered,
    );
    engine.start({
      append: (entry) => journal.append(entry),
      purged: () => journal.purged(),
      size: () => journal.size(),
      async close() {
        try {
          await journal.close();
        } finally {
          await unlock();
        }
      },
    } satisfies Ledger);
    logger.info(
      {
        component: 'store',
        directory,
        revision: engine.revision,
        bytes: engine.retainedBytes,
        milliseconds: Math.round(clock.monotonic() - started),
      },
      'the store is open',
    );
    return engine;
  } catch (error) {
    await unlock();
    throw error;
  }
}

/**
 * Of all that was read, only the very last frame may be in the system's memory alone: the process may have died while
 * it was being written, or its write may have failed. A sync would not do in the second case (the system takes such
 * pages for clean), so it is written once more before anybody hears of what it says.
 */
async function secureLastFrame(directory: string, files: StoreFiles, recovered: Recovered): Promise<void> {
  const segment = recovered.segments.at(-1);
  if (segment !== undefined && recovered.lastFrame !== undefined) {
    const { offset, end } = recovered.lastFrame;
    const file = await files.open(join(directory, segment.name), 'modify durable');
    try {
      const frame = Buffer.allocUnsafeSlow(end - offset);
      await file.read(frame, offset);
      await file.write([frame], offset);
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await files.syncDirectory(directory);
}
