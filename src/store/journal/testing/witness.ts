// Writes to a store, remembers everything that the store ever told anybody, and checks after a crash that it still
// holds. What the store told: acknowledgements and watch events (they are true for ever, up to compaction), refusals
// (those writes may never appear) and silence (those may appear, once).

import assert from 'node:assert/strict';
import {
  CompactedError,
  END_OF_KEYS,
  LeaseNotFoundError,
  type Operation,
  type Store,
  StoreUnavailableError,
} from '../../store.ts';

const EVERYTHING = { start: '', end: END_OF_KEYS };
const KEYS = Array.from({ length: 12 }, (_, i) => `/registry/${i % 3}/${i}`);

/** One change of an announced revision: `put <key> <id of the write>` or `delete <key>`. */
type Fact = string;

/** Something that the store told, in a form that can go to another process. */
export type Testimony =
  | { readonly type: 'happened'; readonly revision: number; readonly facts: readonly Fact[] }
  | { readonly type: 'acknowledged'; readonly revision: number; readonly ids: readonly string[] }
  | { readonly type: 'refused'; readonly ids: readonly string[] }
  | { readonly type: 'compacted'; readonly revision: number }
  | { readonly type: 'lease granted' | 'lease going'; readonly id: number };

export interface WitnessOptions {
  readonly random: () => number;
  /** Gets everything that the store tells, before anything builds on it. */
  readonly tell?: (testimony: Testimony) => void;
  /** Where the ids of the writes begin, when several processes write to one store. */
  readonly firstId?: number;
}

export class Witness {
  readonly #random: () => number;
  readonly #tell: (testimony: Testimony) => void;
  /** What is known to have happened, by revision. An acknowledgement alone does not tell which deletes had effect. */
  readonly #facts = new Map<number, readonly Fact[]>();
  /** Puts that were acknowledged, by their id. */
  readonly #acknowledged = new Map<string, number>();
  /** Puts that the store refused for certain. */
  readonly #refused = new Set<string>();
  readonly #leases = new Set<number>();
  #compactRevision = 0;
  #newestRevision = 0;
  #writes: number;

  constructor(options: WitnessOptions) {
    this.#random = options.random;
    this.#tell = options.tell ?? (() => {});
    this.#writes = options.firstId ?? 0;
  }

  /** Another one that knows the same. */
  clone(): Witness {
    const clone = new Witness({ random: this.#random, firstId: this.#writes });
    for (const [revision, facts] of this.#facts) clone.#facts.set(revision, facts);
    for (const [id, revision] of this.#acknowledged) clone.#acknowledged.set(id, revision);
    for (const id of this.#refused) clone.#refused.add(id);
    for (const id of this.#leases) clone.#leases.add(id);
    clone.#compactRevision = this.#compactRevision;
    clone.#newestRevision = this.#newestRevision;
    return clone;
  }

  /** Takes note of what a store told, here or in another process. */
  hear(testimony: Testimony): void {
    this.#tell(testimony);
    switch (testimony.type) {
      case 'happened':
        this.#newestRevision = Math.max(this.#newestRevision, testimony.revision);
        this.#learn(testimony.revision, testimony.facts);
        break;
      case 'acknowledged':
        this.#newestRevision = Math.max(this.#newestRevision, testimony.revision);
        for (const id of testimony.ids) this.#acknowledged.set(id, testimony.revision);
        break;
      case 'refused':
        for (const id of testimony.ids) this.#refused.add(id);
        break;
      case 'compacted':
        this.#compactRevision = Math.max(this.#compactRevision, testimony.revision);
        break;
      case 'lease granted':
        this.#leases.add(testimony.id);
        break;
      case 'lease going':
        this.#leases.delete(testimony.id);
        break;
    }
  }

  get acknowledged(): number {
    return this.#acknowledged.size;
  }

  /** Writes with several hands at once until `signal` aborts. Hands that the store leaves hanging are abandoned. */
  async write(
    store: Store,
    options: { readonly writers: number; readonly signal: AbortSignal },
  ): Promise<void> {
    await store.watch(
      { range: EVERYTHING, startRevision: Math.max(1, store.revision + 1) },
      {
        events: ({ events }) => {
          for (const [revision, facts] of factsOf(events)) this.hear({ type: 'happened', revision, facts });
        },
        end() {},
      },
    );
    await Promise.all(
      Array.from({ length: options.writers }, async () => {
        while (!options.signal.aborted) await this.#writeOnce(store);
      }),
    );
  }

  async #writeOnce(store: Store): Promise<void> {
    const kind = this.#random();
    try {
      if (kind < 0.05) return await this.#compact(store);
      if (kind < 0.08) return await this.#changeLeases(store);
    } catch (error) {
      if (!(error instanceof StoreUnavailableError) && !(error instanceof LeaseNotFoundError)) throw error;
      return;
    }
    const ids: string[] = [];
    const keys = new Set(Array.from({ length: kind < 0.7 ? 1 : 4 }, () => this.#pick(KEYS)));
    const operations = Array.from(keys, (key): Operation => {
      if (this.#random() < 0.2) return { type: 'delete', key };
      const id = `w${this.#writes++}`;
      ids.push(id);
      return { type: 'put', key, value: this.#value(id) };
    });
    try {
      const result = await store.txn({ compare: [], operations });
      assert.ok(result.succeeded);
      this.hear({ type: 'acknowledged', revision: result.revision, ids });
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      if (!error.uncertain) this.hear({ type: 'refused', ids });
    }
  }

  async #compact(store: Store): Promise<void> {
    const revision = Math.floor(store.revision * this.#random());
    await store.compact(revision);
    this.hear({ type: 'compacted', revision });
  }

  async #changeLeases(store: Store): Promise<void> {
    const [first] = this.#leases;
    if (first === undefined || this.#random() < 0.5) {
      const { id } = await store.grantLease(3_600_000);
      this.hear({ type: 'lease granted', id });
    } else {
      this.hear({ type: 'lease going', id: first });
      await store.revokeLease(first);
    }
  }

  /** Throws when the store, opened again, contradicts what one of its lives has told. */
  async verify(store: Store): Promise<void> {
    assert.ok(
      store.revision >= this.#newestRevision,
      `revision ${this.#newestRevision} was known, now ${store.revision}`,
    );
    assert.ok(store.compactRevision >= this.#compactRevision, 'an acknowledged compaction is gone');
    const history = await historyOf(store);
    for (let revision = store.compactRevision + 1; revision <= store.revision; revision++) {
      const facts = history.get(revision);
      assert.ok(facts !== undefined, `revision ${revision} is missing`);
      this.#learn(revision, facts);
    }
    assert.ok(Math.max(0, ...history.keys()) <= store.revision);

    const seen = new Map<string, number>();
    for (const [revision, facts] of this.#facts)
      for (const id of idsOf(facts)) {
        assert.ok(!seen.has(id), `${id} is there twice: at ${seen.get(id)} and at ${revision}`);
        assert.ok(!this.#refused.has(id), `${id} was refused and is there at ${revision}`);
        seen.set(id, revision);
      }
    for (const [id, revision] of this.#acknowledged)
      if (revision > store.compactRevision || seen.has(id))
        assert.equal(seen.get(id), revision, `${id} was acknowledged at ${revision}`);
    for (const { key, value, modRevision } of (await store.list(EVERYTHING)).items) {
      const id = idOf(value);
      assert.deepEqual(
        Buffer.from(value),
        Buffer.from(this.#value(id)),
        `the value of ${key} is not what was written`,
      );
      assert.equal(seen.get(id) ?? modRevision, modRevision);
    }
    for (const id of this.#leases) await store.keepLeaseAlive(id);
    this.#newestRevision = store.revision;
  }

  #learn(revision: number, facts: readonly Fact[]): void {
    const known = this.#facts.get(revision);
    if (known !== undefined) assert.deepEqual(facts, known, `revision ${revision} has changed`);
    this.#facts.set(revision, facts);
  }

  /** What a write with this id puts: the id tells all of the value. */
  #value(id: string): Uint8Array {
    const number = Number(id.slice(1));
    // Some values are large, some have whole sectors of zeros in them.
    const size = number % 17 === 0 ? 3000 : (number * 7) % 200;
    return Buffer.concat([Buffer.from(`${id};`), Buffer.alloc(size, number % 3 === 0 ? 0 : number % 251)]);
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#random() * from.length)]!;
  }
}

/** All that can still be read of the past, revision by revision. */
async function historyOf(store: Store): Promise<Map<number, readonly Fact[]>> {
  const history = new Map<number, readonly Fact[]>();
  if (store.revision === store.compactRevision) return history;
  const stop = await store.watch(
    { range: EVERYTHING, startRevision: store.compactRevision + 1 },
    {
      events: ({ events }) => {
        for (const [revision, facts] of factsOf(events)) {
          assert.ok(!history.has(revision), `revision ${revision} was delivered in two batches`);
          history.set(revision, facts);
        }
      },
      end: (error) => assert.ok(!(error instanceof CompactedError)),
    },
  );
  stop();
  return history;
}

function factsOf(
  events: readonly {
    readonly type: string;
    readonly kv: { readonly key: string; readonly value: Uint8Array; readonly modRevision: number };
  }[],
): Map<number, Fact[]> {
  const facts = new Map<number, Fact[]>();
  for (const { type, kv } of events) {
    const fact = type === 'put' ? `put ${kv.key} ${idOf(kv.value)}` : `delete ${kv.key}`;
    const known = facts.get(kv.modRevision);
    if (known === undefined) facts.set(kv.modRevision, [fact]);
    else known.push(fact);
  }
  return facts;
}

function idsOf(facts: readonly Fact[]): string[] {
  return facts.flatMap((fact) => fact.split(' ')[2] ?? []);
}

function idOf(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1', 0, value.indexOf(0x3b));
}
