// Sets of completion indexes, as they stand in a Job's status: `1,3-5,7`. Kept as intervals, so that a Job of a
// hundred thousand completions costs what its gaps cost.

export class IndexSet {
  /** Disjoint, not adjacent, rising. */
  readonly #intervals: readonly (readonly [first: number, last: number])[];
  /** How many indexes it has. */
  readonly size: number;

  private constructor(intervals: readonly (readonly [number, number])[]) {
    this.#intervals = intervals;
    this.size = intervals.reduce((sum, [first, last]) => sum + last - first + 1, 0);
  }

  static readonly empty = new IndexSet([]);

  /** Reads the text form; indexes of `limit` and above, and whatever cannot be read, are left out. */
  static parse(text: string | undefined, limit: number): IndexSet {
    const indexes: [number, number][] = [];
    for (const part of (text ?? '').split(',')) {
      const match = /^(\d+)(?:-(\d+))?$/.exec(part);
      if (!match) continue;
      const first = Number(match[1]);
      const last = Math.min(Number(match[2] ?? match[1]), limit - 1);
      if (first <= last) indexes.push([first, last]);
    }
    return new IndexSet(merged(indexes));
  }

  static of(indexes: Iterable<number>): IndexSet {
    return new IndexSet(merged([...indexes].map((index) => [index, index])));
  }

  has(index: number): boolean {
    let low = 0;
    let high = this.#intervals.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const [first, last] = this.#intervals[middle]!;
      if (index < first) high = middle - 1;
      else if (index > last) low = middle + 1;
      else return true;
    }
    return false;
  }

  with(indexes: Iterable<number>): IndexSet {
    const added = [...indexes].filter((index) => !this.has(index));
    if (added.length === 0) return this;
    return new IndexSet(merged([...this.#intervals, ...added.map((index) => [index, index] as const)]));
  }

  /** How many of `other`'s indexes are here too. */
  countIn(other: IndexSet): number {
    let count = 0;
    for (const [first, last] of this.#intervals)
      for (const [a, b] of other.#intervals) count += Math.max(0, Math.min(last, b) - Math.max(first, a) + 1);
    return count;
  }

  /** Two neighbours are written as `1,2`, three or more as `1-3`. */
  toString(): string {
    return this.#intervals
      .map(([first, last]) =>
        first === last ? String(first) : last === first + 1 ? `${first},${last}` : `${first}-${last}`,
      )
      .join(',');
  }
}

function merged(intervals: readonly (readonly [number, number])[]): (readonly [number, number])[] {
  const result: [number, number][] = [];
  for (const [first, last] of intervals.toSorted(([a], [b]) => a - b)) {
    const previous = result.at(-1);
    if (previous && first <= previous[1] + 1) previous[1] = Math.max(previous[1], last);
    else result.push([first, last]);
  }
  return result;
}
