// What a controller has done and not yet seen. Its cache lags behind its own writes: a ReplicaSet that has created a
// pod does not find it there at once and would create another. So it notes what it expects, the events tick that off,
// and until then (or until five minutes have passed, should an event never come) it neither creates nor deletes.

import type { Clock } from '../../component/index.ts';

const EXPIRES_MS = 5 * 60_000;

interface Expected {
  creations: number;
  readonly deletions: Set<string>;
  readonly since: number;
}

export class Expectations {
  readonly #clock: Clock;
  readonly #expected = new Map<string, Expected>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Both at once. Forgets what was expected before, as the two below do. */
  expect(owner: string, creations: number, deletions: Iterable<string>): void {
    this.#expected.set(owner, { creations, deletions: new Set(deletions), since: this.#clock.monotonic() });
  }

  expectCreations(owner: string, count: number): void {
    this.expect(owner, count, []);
  }

  /** `pods`: their uids. A pod's end may be seen twice (marked, then gone), so each is ticked off by name. */
  expectDeletions(owner: string, pods: Iterable<string>): void {
    this.expect(owner, 0, pods);
  }

  creationObserved(owner: string): void {
    const expected = this.#expected.get(owner);
    if (expected && expected.creations > 0) expected.creations--;
  }

  deletionObserved(owner: string, pod: string): void {
    this.#expected.get(owner)?.deletions.delete(pod);
  }

  satisfied(owner: string): boolean {
    const expected = this.#expected.get(owner);
    if (!expected) return true;
    if (expected.creations === 0 && expected.deletions.size === 0) return true;
    return this.#clock.monotonic() - expected.since > EXPIRES_MS;
  }

  forget(owner: string): void {
    this.#expected.delete(owner);
  }
}
