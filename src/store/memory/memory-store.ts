// The in-memory engine: the whole contract but durability. For tests, and for clusters that are thrown away.

import { type Clock, type Logger, silentLogger, systemClock } from '../../component/index.ts';
import { Engine, type Ledger, type LedgerEntry } from '../mvcc/engine.ts';
import type { Store } from '../store.ts';

export interface MemoryStoreOptions {
  /** Leases run by it; the system's clock when absent. */
  readonly clock?: Clock;
  readonly logger?: Logger;
}

export function createMemoryStore(options: MemoryStoreOptions = {}): Store {
  const engine = new Engine({ clock: options.clock ?? systemClock, logger: options.logger ?? silentLogger });
  engine.start(new MemoryLedger(engine));
  return engine;
}

class MemoryLedger implements Ledger {
  readonly #engine: Engine;
  #queue: LedgerEntry[] = [];
  #committing = false;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  append(entry: LedgerEntry): void {
    this.#queue.push(entry);
    // A watch handler may write: its change is published after the one that it was told of, not in the middle.
    if (this.#committing) return;
    this.#committing = true;
    try {
      while (this.#queue.length > 0) {
        const entries = this.#queue;
        this.#queue = [];
        this.#engine.commit(entries);
      }
    } finally {
      this.#committing = false;
    }
  }

  purged(): void {}

  async size(): Promise<number> {
    return 0;
  }

  async close(): Promise<void> {}
}
