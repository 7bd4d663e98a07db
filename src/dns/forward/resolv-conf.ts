// The machine's own resolvers, from resolv.conf(5), read again whenever the file changes. The file may be a symbolic
// link (systemd-resolved), be replaced by renaming (most), or be mounted over (containers): so the file, its folder
// and the folder of what it links to are watched.

import { type FSWatcher, watch } from 'node:fs';
import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { Logger } from '../../component/index.ts';
import { parseUpstream, type UpstreamAddress } from './upstream.ts';

/** What `nameserver` lines say; `rejected` are their values that are no addresses. */
export function parseNameservers(text: string): {
  readonly addresses: readonly UpstreamAddress[];
  readonly rejected: readonly string[];
} {
  const addresses: UpstreamAddress[] = [];
  const rejected: string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, value] = line.trim().split(/\s+/);
    if (keyword !== 'nameserver' || value === undefined) continue;
    try {
      addresses.push({ ...parseUpstream(value), port: 53 });
    } catch {
      rejected.push(value);
    }
  }
  return { addresses, rejected };
}

export interface ResolvConfOptions {
  readonly path: string;
  readonly logger: Logger;
  /** Told at first and after each change; a file that is not there names no resolvers. */
  readonly changed: (addresses: readonly UpstreamAddress[]) => void;
}

/** Resolves when the file was read for the first time. */
export async function followResolvConf(options: ResolvConfOptions): Promise<AsyncDisposable> {
  const follower = new Follower(options);
  await follower.start();
  return follower;
}

class Follower implements AsyncDisposable {
  readonly #options: ResolvConfOptions;
  #watchers: FSWatcher[] = [];
  #last: string | undefined;
  #reading: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  constructor(options: ResolvConfOptions) {
    this.#options = options;
  }

  start(): Promise<void> {
    return this.#look();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    this.#unwatch();
    await this.#reading;
  }

  /** One reading at a time; a change during it makes another. */
  #look(): Promise<void> {
    this.#again = true;
    this.#reading ??= (async () => {
      while (this.#again && !this.#stopped) {
        this.#again = false;
        await this.#read();
      }
      this.#reading = undefined;
    })();
    return this.#reading;
  }

  async #read(): Promise<void> {
    const { path, logger, changed } = this.#options;
    // Watched first and read then, so that no change falls between.
    const target = await realpath(path).catch(() => path);
    if (this.#stopped) return;
    this.#watch(path, target);
    let text = '';
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      logger.warn({ err: error, path }, 'resolv.conf cannot be read; it names no upstream resolvers');
    }
    if (this.#stopped || text === this.#last) return;
    this.#last = text;
    const { addresses, rejected } = parseNameservers(text);
    if (rejected.length > 0)
      logger.warn(
        { path, rejected },
        'resolv.conf names servers that are no IP addresses; they are left out',
      );
    changed(addresses);
  }

  #watch(path: string, target: string): void {
    this.#unwatch();
    const folders = new Map<string, Set<string>>();
    for (const file of [path, target]) {
      const names = folders.get(dirname(file)) ?? new Set();
      names.add(basename(file));
      folders.set(dirname(file), names);
    }
    const look = (): void => {
      if (!this.#stopped) void this.#look();
    };
    for (const [folder, names] of folders)
      this.#add(folder, (name) => {
        if (name === null || names.has(name)) look();
      });
    this.#add(target, look);
  }

  #add(path: string, changed: (name: string | null) => void): void {
    try {
      const watcher = watch(path, { persistent: false }, (_event, name) => changed(name));
      watcher.on('error', (error) =>
        this.#options.logger.warn({ err: error, path }, 'changes of resolv.conf may not be seen'),
      );
      this.#watchers.push(watcher);
    } catch (error) {
      // A file that is not there yet is seen through its folder when it comes.
      this.#options.logger.debug({ err: error, path }, 'not watched');
    }
  }

  #unwatch(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
  }
}
