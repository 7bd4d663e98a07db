// What the conformance tests of the store have in common: an engine under test, short forms of the operations, and a
// recorder of what a watch delivers.

import assert from 'node:assert/strict';
import {
  END_OF_KEYS,
  type KeyRange,
  type Operation,
  prefixEnd,
  type Store,
  type StoreEvent,
  type StoreEventBatch,
  type TransactionResult,
  type WatchHandler,
} from '../store.ts';

export interface EngineUnderTest extends AsyncDisposable {
  /** Empty at first; another one after restart(). */
  readonly store: Store;
  /** Lets so much time pass, as the engine's leases see it. */
  passTime(ms: number): Promise<void>;
  /** Closes the store and opens it again. Absent: the engine keeps nothing. */
  restart?(): Promise<void>;
}

export type Start = () => Promise<EngineUnderTest>;

export const EVERYTHING: KeyRange = { start: '', end: END_OF_KEYS };

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (value: Uint8Array): string => new TextDecoder().decode(value);
export const prefix = (start: string): KeyRange => ({ start, end: prefixEnd(start) });
export const put = (key: string, value = 'v', lease?: number): Operation => ({
  type: 'put',
  key,
  value: bytes(value),
  lease,
});
export const remove = (key: string): Operation => ({ type: 'delete', key });
export const write = (store: Store, ...operations: Operation[]): Promise<TransactionResult> =>
  store.txn({ compare: [], operations });
export const keysOf = async (store: Store, range = EVERYTHING, revision?: number): Promise<string[]> =>
  (await store.list(range, { revision })).items.map(({ key }) => key);

/** Collects what a watch delivers and lets a test wait for it. */
export class Recorder implements WatchHandler {
  readonly batches: StoreEventBatch[] = [];
  readonly ends: (Error | undefined)[] = [];
  #changed: (() => void) | undefined;

  events(batch: StoreEventBatch): void {
    assert.equal(this.ends.length, 0, 'nothing is delivered after the end');
    this.batches.push(batch);
    this.#changed?.();
  }

  end(error?: Error): void {
    this.ends.push(error);
    this.#changed?.();
  }

  get all(): StoreEvent[] {
    return this.batches.flatMap(({ events }) => events);
  }

  /** `put /a@3`, in order. */
  get summary(): string[] {
    return this.all.map(({ type, kv }) => `${type} ${kv.key}@${kv.modRevision}`);
  }

  async until(holds: () => boolean, what: string): Promise<void> {
    const deadline = setTimeout(() => this.#changed?.(), 30_000);
    const start = performance.now();
    while (!holds()) {
      assert.ok(
        performance.now() - start < 30_000,
        `waited 30 s for ${what}; got ${this.summary.join(', ')}`,
      );
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    clearTimeout(deadline);
  }
}
