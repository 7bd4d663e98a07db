// Which donated descriptors are kept although nobody has their file open: the most recently used ones, so that a file
// that is opened again and again is asked for only once, and a tree of any size needs few descriptors.

/** Something that can close what it keeps open for later. */
export interface Idle {
  closeDescriptors(): void;
}

export class DescriptorPool {
  readonly #limit: number;
  /** Oldest first. */
  readonly #idle = new Set<Idle>();

  /** limit: files, each with up to two descriptors. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#idle.size;
  }

  /** Its file was opened, or is gone. */
  remove(file: Idle): void {
    this.#idle.delete(file);
  }

  /** Nobody has it open any more. */
  add(file: Idle): void {
    this.#idle.delete(file);
    this.#idle.add(file);
    if (this.#idle.size <= this.#limit) return;
    for (const oldest of this.#idle) {
      this.#idle.delete(oldest);
      oldest.closeDescriptors();
      break;
    }
  }

  /** The host has no descriptor left: closes all that are idle. False if there were none. */
  drain(): boolean {
    if (this.#idle.size === 0) return false;
    for (const file of this.#idle) file.closeDescriptors();
    this.#idle.clear();
    return true;
  }
}
