// A map from string keys to values that can be walked in key order from any key. Keys are kept in runs of bounded
// length, so an insertion moves at most one run's worth of pointers however large the map is, and counting the keys
// of a range costs one step a run. The watch cache holds every object of a resource in one of these.
//
// Keys are ordered by UTF-16 code units. That differs from the store's order (UTF-8 bytes) only for keys with
// characters beyond the basic plane, which no object name may contain.

const RUN_LENGTH = 512;

interface Run<V> {
  readonly keys: string[];
  readonly values: V[];
}

export class OrderedMap<V> {
  readonly #index = new Map<string, V>();
  #runs: Run<V>[] = [];

  get size(): number {
    return this.#index.size;
  }

  get(key: string): V | undefined {
    return this.#index.get(key);
  }

  has(key: string): boolean {
    return this.#index.has(key);
  }

  /** All values, in no particular order. */
  unordered(): Iterable<V> {
    return this.#index.values();
  }

  set(key: string, value: V): void {
    const known = this.#index.has(key);
    this.#index.set(key, value);
    if (this.#runs.length === 0) {
      this.#runs.push({ keys: [key], values: [value] });
      return;
    }
    const at = this.#runOf(key);
    const run = this.#runs[at]!;
    const position = lowerBound(run.keys, key);
    if (known) {
      run.values[position] = value;
      return;
    }
    run.keys.splice(position, 0, key);
    run.values.splice(position, 0, value);
    if (run.keys.length > RUN_LENGTH) {
      // Keys that come in ascending order (a fresh load) leave full runs behind, not half-full ones.
      const cut = position === run.keys.length - 1 ? RUN_LENGTH : RUN_LENGTH >> 1;
      this.#runs.splice(at + 1, 0, { keys: run.keys.splice(cut), values: run.values.splice(cut) });
    }
  }

  delete(key: string): V | undefined {
    const value = this.#index.get(key);
    if (!this.#index.delete(key)) return undefined;
    const at = this.#runOf(key);
    const run = this.#runs[at]!;
    const position = lowerBound(run.keys, key);
    run.keys.splice(position, 1);
    run.values.splice(position, 1);
    if (run.keys.length === 0) this.#runs.splice(at, 1);
    return value;
  }

  clear(): void {
    this.#index.clear();
    this.#runs = [];
  }

  /**
   * Calls `visit` for the values with start <= key < end, in order, until it returns false. `end` '' is no end.
   * `visit` must not change the map.
   */
  scan(start: string, end: string, visit: (value: V, key: string) => boolean): void {
    if (this.#runs.length === 0) return;
    let at = this.#runOf(start);
    let position = lowerBound(this.#runs[at]!.keys, start);
    for (; at < this.#runs.length; at++, position = 0) {
      const { keys, values } = this.#runs[at]!;
      for (; position < keys.length; position++) {
        const key = keys[position]!;
        if (end !== '' && key >= end) return;
        if (!visit(values[position]!, key)) return;
      }
    }
  }

  /** How many keys k there are with start <= k < end. */
  count(start: string, end: string): number {
    if (this.#runs.length === 0) return 0;
    return (end === '' ? this.#index.size : this.#rank(end)) - this.#rank(start);
  }

  /** How many keys are smaller. */
  #rank(key: string): number {
    const at = this.#runOf(key);
    let rank = lowerBound(this.#runs[at]!.keys, key);
    for (let i = 0; i < at; i++) rank += this.#runs[i]!.keys.length;
    return rank;
  }

  /** The last run whose first key is not greater than `key`; the first run when there is none. */
  #runOf(key: string): number {
    let low = 0;
    let high = this.#runs.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#runs[middle]!.keys[0]! <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
