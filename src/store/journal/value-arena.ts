// Where the values that were read from disk live. Small ones share a block: one allocation in place of dozens, which
// makes opening a large store faster and saves the fixed cost of an ArrayBuffer for each. Blocks are kept small, as
// one value that is still in use keeps its whole block.

const BLOCK_SIZE = 64 * 1024;
/** A larger value gets memory of its own. */
const SHARED_MAX = 16 * 1024;

export class ValueArena {
  #block = new ArrayBuffer(0);
  #used = 0;

  /** A copy of the bytes that stays valid. */
  copy(bytes: Uint8Array): Uint8Array {
    if (bytes.length > SHARED_MAX) return new Uint8Array(bytes);
    if (this.#used + bytes.length > this.#block.byteLength) {
      this.#block = Buffer.allocUnsafeSlow(BLOCK_SIZE).buffer as ArrayBuffer;
      this.#used = 0;
    }
    const copy = new Uint8Array(this.#block, this.#used, bytes.length);
    copy.set(bytes);
    this.#used += bytes.length;
    return copy;
  }
}
