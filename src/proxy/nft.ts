// nft(8) on one table: transactions, what the table holds beside elements, and who else changes it.

import { HostError, type HostOperations, type TableWatch } from '../host/index.ts';

export interface NftOptions {
  readonly host: HostOperations;
  readonly table: string;
  /** A file that holds the network namespace to work in; the host's when absent. */
  readonly networkNamespace?: string;
}

export class NftError extends Error {
  override readonly name = 'NftError';
}

export interface TableContents {
  readonly chains: readonly string[];
  readonly sets: readonly string[];
  readonly maps: readonly string[];
}

/** A failing script can be megabytes, and nft repeats its lines. */
const LONGEST_MESSAGE = 2000;
/** Processes of ours whose changes may still be told. */
const REMEMBERED = 64;

export class Nft {
  readonly #options: NftOptions;
  readonly #namespace: { readonly networkNamespace?: string };
  readonly #own = new Set<number>();
  #running: Promise<unknown> = Promise.resolve();

  constructor(options: NftOptions) {
    this.#options = options;
    this.#namespace = options.networkNamespace ? { networkNamespace: options.networkNamespace } : {};
  }

  /** Applies a transaction: all of it or nothing. One at a time. */
  async apply(script: string | Uint8Array): Promise<void> {
    const run = this.#run(['-f', '-'], script);
    this.#running = run.catch(() => {});
    const { exitCode, stderr, pid } = await run;
    if (pid !== undefined) {
      this.#own.add(pid);
      const [oldest] = this.#own;
      if (this.#own.size > REMEMBERED && oldest !== undefined) this.#own.delete(oldest);
    }
    if (exitCode !== 0)
      throw new NftError(
        `nft refused the rules of services: ${stderr.toString().trim().slice(0, LONGEST_MESSAGE) || `exit code ${exitCode}`}`,
      );
  }

  /** The names of what is in the table; none when there is no such table. */
  async contents(): Promise<TableContents> {
    // Terse, and not as JSON, which has all elements in it however terse it is asked to be.
    const script = 'list chains inet\nlist sets inet\nlist maps inet\n';
    const { exitCode, stdout, stderr } = await this.#run(['-t', '-f', '-'], script);
    if (exitCode !== 0) throw new NftError(`nft cannot list the inet tables: ${stderr.toString().trim()}`);
    const names = { chain: [] as string[], set: [] as string[], map: [] as string[] };
    let table = '';
    for (const line of stdout.toString().split('\n')) {
      table = line.match(/^table inet (\S+) \{/)?.[1] ?? table;
      const [, kind, name] = line.match(/^\t(chain|set|map) (\S+) \{/) ?? [];
      if (table === this.#options.table && name !== undefined) names[kind as keyof typeof names].push(name);
    }
    return { chains: names.chain, sets: names.set, maps: names.map };
  }

  /** Calls back when somebody else changed the table, or may have. */
  watch(changed: () => void): Promise<TableWatch> {
    const { host, table } = this.#options;
    return host.watchTableChanges(
      table,
      (by) => {
        // What our own nft does is told before we know its process id.
        this.#running.then(() => {
          if (by === undefined || !this.#own.has(by)) changed();
        });
      },
      this.#namespace,
    );
  }

  async #run(args: readonly string[], input?: string | Uint8Array) {
    try {
      return await this.#options.host.run(['nft', ...args], {
        ...this.#namespace,
        ...(input ? { input } : {}),
      });
    } catch (error) {
      if (error instanceof HostError && error.code === 'ENOENT')
        throw new NftError('the service proxy needs nft(8); on Debian: apt-get install nftables', {
          cause: error,
        });
      throw error;
    }
  }
}

export const TABLE_NAME = /^[a-zA-Z][a-zA-Z0-9_]*$/;

/** Removes all that a service proxy with this table left in the kernel; succeeds when there is nothing. */
export async function removeServiceProxyTraces(options: NftOptions): Promise<void> {
  const { table } = options;
  if (!TABLE_NAME.test(table)) throw new RangeError(`"${table}" is no name of an nftables table`);
  // Adding first makes deleting succeed whether it was there or not; nobody sees the state between.
  await new Nft(options).apply(`add table inet ${table}\ndelete table inet ${table}\n`);
}
