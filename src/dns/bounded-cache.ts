// A map with a limit to its entries and to their bytes. What was not asked for since the hand last passed is thrown
// out first (second chance): a hit costs a look-up and a flag, where strict order of use would cost moving the entry.

interface Entry<V> {
  readonly value: V;
  readonly bytes: number;
  used: boolean;
}

export interface BoundedCacheOptions<V> {
  readonly maxEntries: number;
  readonly maxBytes: number;
  /** Told of each entry that has to make room or was too large; not of those taken, deleted or replaced. */
  readonly evicting?: (key: string, value: V) => void;
}

export class BoundedCache<V> {
  readonly #entries = new Map<string, Entry<V>>();
  readonly #options: BoundedCacheOptions<V>;
  #bytes = 0;

  constructor(options: BoundedCacheOptions<V>) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    entry.used = true;
    return entry.value;
  }

  /** `bytes`: what the entry costs beside its key. A value larger than the whole cache is not kept. */
  set(key: string, value: V, bytes: number): void {
    this.delete(key);
    const cost = bytes + 2 * key.length;
    const { maxEntries, maxBytes } = this.#options;
    if (cost > maxBytes || maxEntries < 1) {
      this.#options.evicting?.(key, value);
      return;
    }
    this.#entries.set(key, { value, bytes: cost, used: false });
    this.#bytes += cost;
    while (this.#entries.size > maxEntries || this.#bytes > maxBytes) this.#evict(key);
  }

  delete(key: string): boolean {
    return this.take(key) !== undefined;
  }

  /** Deletes the entry and answers what it held. */
  take(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#bytes -= entry.bytes;
    this.#entries.delete(key);
    return entry.value;
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  /** The oldest entry goes, or to the end of the queue if it was used; the newest only stays if others are there. */
  #evict(newest: string): void {
    for (const [key, entry] of this.#entries) {
      if (entry.used || key === newest) {
        entry.used = false;
        this.#entries.delete(key);
        this.#entries.set(key, entry);
        if (this.#entries.size > 1) continue;
      }
      this.delete(key);
      this.#options.evicting?.(key, entry.value);
      return;
    }
  }
}
