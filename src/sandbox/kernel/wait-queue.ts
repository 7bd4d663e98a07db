// Wait queues: how a blocked system call, a poll or an epoll instance learns that something may have changed.
//
// A notification says "look again", never "it is yours": whoever is told retries, and may find that somebody else was
// first. Notifying calls the waiters at once; a waiter only marks itself for a retry (Kernel.retryLater), so nothing
// re-enters the code that notified.

/** Event bits: those of poll(2) and epoll(7). */
export const Poll = {
  in: 0x001,
  pri: 0x002,
  out: 0x004,
  err: 0x008,
  hup: 0x010,
  nval: 0x020,
  rdnorm: 0x040,
  rdband: 0x080,
  wrnorm: 0x100,
  wrband: 0x200,
  msg: 0x400,
  rdhup: 0x2000,
} as const;

export interface Waiter {
  /** `events`: the bits that the notifier says may be new. */
  notify(events: number): void;
}

interface Entry {
  readonly waiter: Waiter;
  readonly events: number;
  readonly exclusive: boolean;
}

export class WaitQueue {
  #entries: Entry[] = [];

  get empty(): boolean {
    return this.#entries.length === 0;
  }

  /**
   * Adds a waiter for any of `events` (err and hup are always included). exclusive: of several exclusive waiters one
   * notification with a count tells only that many (accept, EPOLLEXCLUSIVE, futex-like hand-over).
   */
  add(waiter: Waiter, events: number, exclusive = false): void {
    this.#entries.push({ waiter, events: events | Poll.err | Poll.hup, exclusive });
  }

  /** Removes one entry of this waiter; nothing happens if there is none. */
  remove(waiter: Waiter): void {
    const index = this.#entries.findIndex((entry) => entry.waiter === waiter);
    if (index >= 0) this.#entries.splice(index, 1);
  }

  /** Tells all matching waiters in order of arrival; of the exclusive ones at most `exclusive`. */
  notify(events: number, exclusive = 1): void {
    const entries = this.#entries;
    if (entries.length === 0) return;
    if (entries.length === 1) {
      const only = entries[0];
      if (only && only.events & events) only.waiter.notify(events);
      return;
    }
    let left = exclusive;
    for (const entry of entries.slice()) {
      if ((entry.events & events) === 0) continue;
      if (entry.exclusive && left-- <= 0) continue;
      entry.waiter.notify(events);
    }
  }
}
