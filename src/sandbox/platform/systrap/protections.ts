// Which protection the pages of an address space have, as ranges in order. Needed where the platform itself changes
// pages and has to leave them as they were: writing into text (breakpoints, patched call sites), reading what the
// program may not read.

export const unmapped = -1;
/** Beside the protection's bits: stores change what others map, too. */
export const sharedPages = 8;

export class Protections {
  // Starts of ranges in ascending order; each goes on to the next start. The last one is unmapped.
  #starts: number[] = [0];
  #values: number[] = [unmapped];

  clone(): Protections {
    const copy = new Protections();
    copy.#starts = this.#starts.slice();
    copy.#values = this.#values.slice();
    return copy;
  }

  /** The protection at an address, or `unmapped`. */
  at(address: number): number {
    return this.#values[this.#find(address)]!;
  }

  /** Where the range that holds the address begins. */
  begin(address: number): number {
    return this.#starts[this.#find(address)]!;
  }

  /** Whether nothing is mapped from start to end. */
  isFree(start: number, end: number): boolean {
    return this.at(start) === unmapped && this.end(start) >= end;
  }

  /** Whether any page from start to end has one of these protections. */
  some(start: number, end: number, bits: number): boolean {
    for (let i = this.#find(start); i < this.#starts.length && this.#starts[i]! < end; i++) {
      const value = this.#values[i]!;
      if (value !== unmapped && value & bits) return true;
    }
    return false;
  }

  /** Changes the protection of what is mapped from start to end. */
  protect(start: number, end: number, protection: number): void {
    for (let at = start; at < end; ) {
      const next = Math.min(this.end(at), end);
      const value = this.at(at);
      if (value !== unmapped) this.set(at, next, protection | (value & sharedPages));
      at = next;
    }
  }

  /** Where the range that holds the address ends. */
  end(address: number): number {
    return this.#starts[this.#find(address) + 1] ?? Infinity;
  }

  set(start: number, end: number, value: number): void {
    if (end <= start) return;
    const first = this.#find(start);
    const last = this.#find(end);
    const after = this.#values[last]!;
    const starts: number[] = [];
    const values: number[] = [];
    const push = (at: number, what: number, before: number): void => {
      if (what === before) return;
      starts.push(at);
      values.push(what);
    };
    // Ranges that begin within [start, end] are replaced; equal neighbours become one.
    let from = first;
    if (this.#starts[first]! < start) {
      from = first + 1;
      push(start, value, this.#values[first]!);
    } else {
      push(start, value, first > 0 ? this.#values[first - 1]! : Number.NaN);
    }
    const to = last + 1;
    push(end, after, value);
    this.#starts.splice(from, to - from, ...starts);
    this.#values.splice(from, to - from, ...values);
  }

  /** Moves the ranges of [from, from + length) to another place. */
  move(from: number, length: number, to: number, toLength: number, keep: boolean): void {
    const value = this.at(from);
    if (!keep) this.set(from, from + length, unmapped);
    this.set(to, to + toLength, value);
  }

  #find(address: number): number {
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle]! <= address) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
