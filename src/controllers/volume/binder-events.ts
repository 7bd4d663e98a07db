// What the binder tells about claims that wait. A waiting claim is looked at again and again; the same words about it
// are said again only from time to time, so that they are found as long as it waits and do not flood the server.

import type { PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import { type EventRecorder, referenceTo, resources } from '../../client/index.ts';
import type { Clock } from '../../component/index.ts';

/** Upstream looks at every claim each 15 s; here the intervals grow, since whatever helps a claim wakes it anyway. */
const FIRST_INTERVAL_MS = 15_000;
const LAST_INTERVAL_MS = 300_000;

interface Said {
  readonly text: string;
  readonly at: number;
  readonly intervalMs: number;
  /** The look in which it was last meant, whether or not it was said again. */
  look: number;
}

export class BinderEvents {
  readonly #recorder: EventRecorder;
  readonly #clock: Clock;
  /** By the uid of the claim. */
  readonly #said = new Map<string, Said>();
  #look = 0;

  constructor(recorder: EventRecorder, clock: Clock) {
    this.#recorder = recorder;
    this.#clock = clock;
  }

  /** A look begins; there is one at a time. */
  begin(): void {
    this.#look++;
  }

  /** Says why the claim waits, unless that was said just now. */
  say(claim: PersistentVolumeClaim, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const text = `${reason}: ${message}`;
    const now = this.#clock.monotonic();
    const last = this.#said.get(claim.metadata.uid);
    if (last?.text === text && now - last.at < last.intervalMs) {
      last.look = this.#look;
      return;
    }
    const intervalMs =
      last?.text === text ? Math.min(LAST_INTERVAL_MS, 2 * last.intervalMs) : FIRST_INTERVAL_MS;
    this.#said.set(claim.metadata.uid, { text, at: now, intervalMs, look: this.#look });
    this.#recorder.event(referenceTo(resources.persistentVolumeClaims, claim), type, reason, message);
  }

  /** In how many ms (more than 0) what this look said would be said again; undefined when it had nothing to say. */
  next(claim: PersistentVolumeClaim): number | undefined {
    const last = this.#said.get(claim.metadata.uid);
    if (last?.look !== this.#look) {
      this.forget(claim);
      return undefined;
    }
    return Math.max(1, last.at + last.intervalMs - this.#clock.monotonic());
  }

  /** The claim waits no more. */
  forget(claim: PersistentVolumeClaim): void {
    this.#said.delete(claim.metadata.uid);
  }
}
