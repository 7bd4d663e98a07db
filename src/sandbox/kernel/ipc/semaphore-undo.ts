// What SEM_UNDO is to take back when a task ends (struct sem_undo_list): for each semaphore set an adjustment of each
// semaphore. Shared by tasks made with CLONE_SYSVSEM; the last one to leave carries it out.

import type { Process } from '../contract.ts';

/** The set's side: gives the adjustments back to the semaphores. */
export interface AdjustableSemaphores {
  /** Adds the adjustments to the values (within 0 … SEMVMX) and lets waiters try again. process: who ended. */
  adjust(adjustments: Int16Array, process: Process): void;
}

export class SemaphoreUndo {
  #users = 1;
  readonly #adjustments = new Map<AdjustableSemaphores, Int16Array>();

  acquire(): this {
    this.#users++;
    return this;
  }

  /** The adjustments of a set with `count` semaphores, to be changed in place. */
  adjustments(set: AdjustableSemaphores, count: number): Int16Array {
    let found = this.#adjustments.get(set);
    if (!found) {
      found = new Int16Array(count);
      this.#adjustments.set(set, found);
    }
    return found;
  }

  find(set: AdjustableSemaphores): Int16Array | undefined {
    return this.#adjustments.get(set);
  }

  /** The set was removed. */
  forget(set: AdjustableSemaphores): void {
    this.#adjustments.delete(set);
  }

  /** A task stops using it: it ended, or called unshare(CLONE_SYSVSEM). */
  release(process: Process): void {
    if (--this.#users > 0) return;
    for (const [set, adjustments] of this.#adjustments) set.adjust(adjustments, process);
    this.#adjustments.clear();
  }
}
