// Which pages of a sparse file there are: a bitmap in chunks, so that a file with a terabyte of hole costs nothing.

export const pageBytes = 4096;

const wordsInChunk = 32;
const pagesInChunk = wordsInChunk * 32;

export class PageMap {
  readonly #chunks = new Map<number, Uint32Array>();
  /** Pages that are set. */
  count = 0;

  has(page: number): boolean {
    const chunk = this.#chunks.get(Math.floor(page / pagesInChunk));
    if (chunk === undefined) return false;
    const bit = page % pagesInChunk;
    return ((chunk[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
  }

  /** How many of [first, end) are not set. */
  missing(first: number, end: number): number {
    let missing = 0;
    for (let page = first; page < end; page++) if (!this.has(page)) missing++;
    return missing;
  }

  set(first: number, end: number): void {
    for (let page = first; page < end; page++) {
      const index = Math.floor(page / pagesInChunk);
      let chunk = this.#chunks.get(index);
      if (chunk === undefined) {
        chunk = new Uint32Array(wordsInChunk);
        this.#chunks.set(index, chunk);
      }
      const word = (page % pagesInChunk) >>> 5;
      const bit = 1 << (page & 31);
      const bits = chunk[word] ?? 0;
      if ((bits & bit) !== 0) continue;
      chunk[word] = bits | bit;
      this.count++;
    }
  }

  /** Clears [first, end); end may be Infinity. Gives how many were set. */
  clear(first: number, end: number): number {
    let cleared = 0;
    for (const [index, chunk] of this.#chunks) {
      const start = index * pagesInChunk;
      if (start >= end || start + pagesInChunk <= first) continue;
      let left = 0;
      for (let word = 0; word < wordsInChunk; word++) {
        let bits = chunk[word] ?? 0;
        for (let bit = 0; bits !== 0 && bit < 32; bit++) {
          const page = start + word * 32 + bit;
          if (page < first || page >= end || (bits & (1 << bit)) === 0) continue;
          bits &= ~(1 << bit);
          cleared++;
        }
        chunk[word] = bits;
        left |= bits;
      }
      if (left === 0) this.#chunks.delete(index);
    }
    this.count -= cleared;
    return cleared;
  }

  /** The first page from `from` on, below `end`, that is set (or not set, for wanted false); `end` if there is none. */
  next(from: number, end: number, wanted: boolean): number {
    let page = from;
    while (page < end) {
      const index = Math.floor(page / pagesInChunk);
      if (!this.#chunks.has(index)) {
        if (!wanted) return page;
        page = (index + 1) * pagesInChunk;
        continue;
      }
      if (this.has(page) === wanted) return page;
      page++;
    }
    return end;
  }
}
