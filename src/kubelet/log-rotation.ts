// Keeps containers' logs within bounds: a log that grew beyond its size is renamed and the runtime told to open a new
// one; older parts are compressed, and the oldest are deleted (upstream's container_log_manager.go).

import { createReadStream, createWriteStream } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { Clock, Logger, Timer } from '../component/index.ts';
import type { RuntimeService } from '../runtime/cri.ts';
import { isErrno } from './volumes/errno.ts';

const PERIOD_MS = 10_000;
const COMPRESSED = '.gz';
const UNFINISHED = '.tmp';

export interface LogRotationOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly runtime: RuntimeService;
  readonly maxBytes: number;
  /** Files of one container, the present one among them. */
  readonly maxFiles: number;
}

/** `20240517-102030`, which sorts by time. */
function suffix(now: number): string {
  return new Date(now)
    .toISOString()
    .slice(0, 19)
    .replace('T', '-')
    .replaceAll(':', '')
    .replace(/^(\d+)-(\d+)-/, '$1$2');
}

export class LogRotation {
  readonly #options: LogRotationOptions;
  #timer: Timer | undefined;
  #round: Promise<void> | undefined;
  #stopped = false;

  constructor(options: LogRotationOptions) {
    this.#options = options;
  }

  start(): void {
    this.#schedule();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#round;
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = this.#options.clock.setTimer(
      PERIOD_MS,
      () => {
        this.#round = this.rotateAll()
          .catch((error: unknown) => this.#options.logger.error({ err: error }, 'logs could not be rotated'))
          .finally(() => this.#schedule());
      },
      { unref: true },
    );
  }

  /** Looks at the log of every running container. */
  async rotateAll(): Promise<void> {
    const { runtime, logger, maxBytes } = this.#options;
    for (const { id } of await runtime.listContainers({ state: 'RUNNING' })) {
      if (this.#stopped) return;
      try {
        const { logPath } = await runtime.containerStatus(id);
        if (logPath === '') continue;
        if ((await stat(logPath)).size >= maxBytes) await this.#rotate(id, logPath);
      } catch (error) {
        // The container may have ended, and its log gone, meanwhile.
        if (!isErrno(error, 'ENOENT'))
          logger.warn({ err: error, container: id }, 'a log could not be rotated');
      }
    }
  }

  async #rotate(containerId: string, path: string): Promise<void> {
    const { runtime, clock, maxFiles } = this.#options;
    const name = basename(path);
    const directory = dirname(path);
    const parts = (await readdir(directory)).filter((file) => file.startsWith(`${name}.`));
    for (const file of parts.filter((part) => part.endsWith(UNFINISHED)))
      await rm(join(directory, file), { force: true });
    const finished = parts.filter((part) => !part.endsWith(UNFINISHED)).sort();
    // The present file and the one it is about to become count too.
    const excess = Math.max(0, finished.length - (maxFiles - 2));
    for (const file of finished.slice(0, excess)) await rm(join(directory, file), { force: true });
    for (const file of finished.slice(excess))
      if (!file.endsWith(COMPRESSED)) await compress(join(directory, file));
    const rotated = `${path}.${suffix(clock.now())}`;
    await rename(path, rotated);
    try {
      await runtime.reopenContainerLog(containerId);
    } catch (error) {
      // The runtime still writes into the old file: it must keep its name, or lines would be lost to readers.
      await rename(rotated, path).catch(() => {});
      throw error;
    }
  }
}

async function compress(path: string): Promise<void> {
  const unfinished = `${path}${UNFINISHED}`;
  try {
    await pipeline(createReadStream(path), createGzip(), createWriteStream(unfinished, { mode: 0o640 }));
    await rename(unfinished, `${path}${COMPRESSED}`);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
  await rm(path, { force: true });
}
