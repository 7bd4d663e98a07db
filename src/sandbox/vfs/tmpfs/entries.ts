// The names in a directory of tmpfs. Each has a cookie that it keeps as long as it lives; a directory is read from the
// highest, which is the newest name, to the lowest, so that a reader who comes back with a cookie misses and repeats
// nothing whatever happened meanwhile. A renamed file is new in its directory, as in Linux (fs/libfs.c, __d_move).

export interface Entry<T> {
  readonly name: string;
  readonly cookie: number;
  inode: T;
}

export class EntryList<T> {
  readonly #byName = new Map<string, Entry<T>>();
  /** Ascending by cookie, with gaps where names were removed. */
  #order: (Entry<T> | undefined)[] = [];
  /** Cookies of #order, to search in. */
  #cookies: number[] = [];
  #next = 1;

  get size(): number {
    return this.#byName.size;
  }

  get(name: string): Entry<T> | undefined {
    return this.#byName.get(name);
  }

  /** The name must be free. */
  add(name: string, inode: T): void {
    const entry = { name, cookie: this.#next++, inode };
    this.#byName.set(name, entry);
    this.#order.push(entry);
    this.#cookies.push(entry.cookie);
  }

  remove(name: string): boolean {
    const entry = this.#byName.get(name);
    if (entry === undefined) return false;
    this.#byName.delete(name);
    this.#order[this.#position(entry.cookie)] = undefined;
    if (this.#order.length > 32 && this.#order.length > this.#byName.size * 2) this.#compact();
    return true;
  }

  #compact(): void {
    this.#order = this.#order.filter((entry) => entry !== undefined);
    this.#cookies = this.#order.map((entry) => entry?.cookie ?? 0);
  }

  /** Index of the first entry whose cookie is not below this one. */
  #position(cookie: number): number {
    let low = 0;
    let high = this.#cookies.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#cookies[middle] ?? 0) < cookie) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Those with cookies below this one, the highest first. */
  *below(cookie: number): IterableIterator<Entry<T>> {
    for (let i = this.#position(cookie) - 1; i >= 0; i--) {
      const entry = this.#order[i];
      if (entry !== undefined) yield entry;
    }
  }
}
