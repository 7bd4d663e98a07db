// What each sandbox was given (addresses, host ports), on disk: one file a sandbox, written before anything is set up
// and deleted after everything is taken down, so that a crash leaves at most a lease too many, which reconciling with
// the living sandboxes gives back.

import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../component/index.ts';

export interface HostPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** Empty: every address of the host. */
  readonly hostIp: string;
  readonly hostPort: number;
  readonly containerPort: number;
}

export interface Lease {
  readonly sandboxId: string;
  readonly ips: readonly string[];
  readonly hostPorts: readonly HostPort[];
  /** For messages: namespace/name of the pod. */
  readonly pod: string;
}

function isLease(value: unknown): value is Lease {
  if (typeof value !== 'object' || value === null) return false;
  const { sandboxId, ips, hostPorts, pod } = value as Partial<Record<keyof Lease, unknown>>;
  return (
    typeof sandboxId === 'string' && typeof pod === 'string' && Array.isArray(ips) && Array.isArray(hostPorts)
  );
}

export class LeaseStore {
  readonly #directory: string;
  readonly #cursorFile: string;
  /** Cursor writes go one after the other; only the last of those that wait is written. */
  #cursorWrites: Promise<void> = Promise.resolve();
  #cursor: readonly string[] | undefined;

  constructor(stateDirectory: string) {
    this.#directory = join(stateDirectory, 'leases');
    this.#cursorFile = join(stateDirectory, 'cursor.json');
  }

  /** All leases, and where the rounds of the pools stood. What cannot be read is dropped with a warning. */
  async load(logger: Logger): Promise<{ readonly leases: Lease[]; readonly cursor: readonly string[] }> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const leases: Lease[] = [];
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      try {
        const lease: unknown = JSON.parse(await readFile(path, 'utf8'));
        if (!name.endsWith('.json') || !isLease(lease)) throw new Error('it is not a whole lease');
        leases.push(lease);
      } catch (error) {
        logger.warn({ path, err: error }, 'a network lease cannot be read and is dropped');
        await rm(path, { recursive: true, force: true });
      }
    }
    const cursor: unknown = await readFile(this.#cursorFile, 'utf8')
      .then(JSON.parse)
      .catch(() => []);
    return { leases, cursor: Array.isArray(cursor) ? cursor.filter((c) => typeof c === 'string') : [] };
  }

  async write(lease: Lease): Promise<void> {
    const path = join(this.#directory, `${lease.sandboxId}.json`);
    await writeFile(`${path}.new`, JSON.stringify(lease), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  async remove(sandboxId: string): Promise<void> {
    await rm(join(this.#directory, `${sandboxId}.json`), { force: true });
  }

  /** Keeps where the rounds stand. Behind by a few after a crash: an address is then given again a bit sooner. */
  writeCursor(cursor: readonly string[]): Promise<void> {
    this.#cursor = cursor;
    const write = async (): Promise<void> => {
      const latest = this.#cursor;
      if (!latest) return;
      this.#cursor = undefined;
      await writeFile(`${this.#cursorFile}.new`, JSON.stringify(latest), { mode: 0o600 });
      await rename(`${this.#cursorFile}.new`, this.#cursorFile);
    };
    this.#cursorWrites = this.#cursorWrites.then(write, write);
    return this.#cursorWrites;
  }
}
