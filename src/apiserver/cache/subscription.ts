// One watcher of one resource: what it was told so far, as a position in the resource's ring of changes. While its
// sink takes events, changes are pushed to it as they happen (`live`). When the sink is full it is left alone and
// later pulls what it missed out of the ring (`behind`), so a slow watcher holds no memory of its own; one that
// falls out of the ring is told so and closed.

import { internalError, resourceExpired, type StatusError } from '../../api/index.ts';
import type { Change, EventRing } from './event-ring.ts';
import type { ObjectFilter } from './filter.ts';
import type { StoredObject } from './stored-object.ts';

export type ChangeType = Change['type'];

/** Where a watcher's events go. No method may throw. */
export interface WatchSink {
  /**
   * Takes one event; `change` is the same value for all watchers of one change, for sinks that share an encoding.
   * False: taken, but no more before the sink has called `resume`.
   */
  event(type: ChangeType, object: StoredObject, change: Change | undefined): boolean;
  /** Everything up to this revision was told. `initialEventsEnd`: the objects that were there at the start were. */
  bookmark(revision: number, initialEventsEnd: boolean): boolean;
  /** No more will come; `error` is to be told first. */
  close(error?: StatusError): void;
}

export interface SubscriptionStart {
  /** Objects to tell as ADDED before anything else; they are the state at `revision`. */
  readonly initial?: Iterator<StoredObject>;
  readonly revision: number;
  /** A bookmark that says that `initial` is over. */
  readonly initialBookmark: boolean;
}

export class Subscription {
  readonly filter: ObjectFilter;
  readonly #sink: WatchSink;
  readonly #ring: EventRing;
  readonly #onStop: (subscription: Subscription) => void;
  /** The number of the next change in the ring that was not looked at. */
  #position: number;
  /** Objects still to be told as ADDED. */
  #initial: Iterator<StoredObject> | undefined;
  #initialBookmark: boolean;
  #state: 'behind' | 'live' | 'stopped' = 'behind';
  #pumping = false;
  /** Events up to here are not told: the client has them. */
  readonly #startRevision: number;
  /** What was told last: the client's resourceVersion. */
  #revision: number;

  constructor(
    filter: ObjectFilter,
    sink: WatchSink,
    ring: EventRing,
    position: number,
    start: SubscriptionStart,
    onStop: (subscription: Subscription) => void,
  ) {
    this.filter = filter;
    this.#sink = sink;
    this.#ring = ring;
    this.#position = position;
    this.#initial = start.initial;
    this.#initialBookmark = start.initialBookmark;
    this.#startRevision = start.revision;
    this.#revision = start.revision;
    this.#onStop = onStop;
  }

  get live(): boolean {
    return this.#state === 'live';
  }

  /** A change that has just got the sequence number `position`. */
  deliver(change: Change, position: number): void {
    if (this.#state !== 'live') return;
    this.#position = position + 1;
    try {
      if (!this.#tell(change) && !this.#stopped()) this.#state = 'behind';
    } catch (error) {
      this.close(internalError(error));
    }
  }

  /** Starts, or goes on after the sink had said that it was full. */
  resume(): void {
    if (this.#state !== 'behind' || this.#pumping) return;
    this.#pumping = true;
    try {
      if (this.#pump() && !this.#stopped()) this.#state = 'live';
    } catch (error) {
      // An object in the store that cannot be read: the watcher is told so instead of missing it.
      this.close(internalError(error));
    } finally {
      this.#pumping = false;
    }
  }

  /** Tells the client how far it is; skipped while it is behind, when that would not be true. */
  bookmark(revision: number): void {
    if (this.#state !== 'live' || revision < this.#revision) return;
    this.#revision = revision;
    this.#position = this.#ring.next;
    if (!this.#sink.bookmark(revision, false) && !this.#stopped()) this.#state = 'behind';
  }

  /** Closes the watch when what the client still has to be told is no longer known. */
  closeIfLost(): void {
    if (this.#state === 'behind' && this.#position < this.#ring.first) this.#closeLost();
  }

  /** Ends the watch from the sink's side: nothing more is told. */
  stop(): void {
    if (this.#state === 'stopped') return;
    this.#state = 'stopped';
    this.#initial = undefined;
    this.#onStop(this);
  }

  /** Ends the watch from the cache's side. */
  close(error?: StatusError): void {
    if (this.#state === 'stopped') return;
    this.stop();
    this.#sink.close(error);
  }

  // A sink may stop the subscription from inside its own methods, which the compiler cannot see.
  #stopped(): boolean {
    return (this.#state as string) === 'stopped';
  }

  /** True when all was told and the sink takes more. */
  #pump(): boolean {
    while (this.#initial !== undefined) {
      const next = this.#initial.next();
      if (next.done === true) {
        this.#initial = undefined;
        if (!this.#initialBookmark) break;
        this.#initialBookmark = false;
        if (!this.#sink.bookmark(this.#revision, true)) return false;
        break;
      }
      if (!this.#sink.event('ADDED', next.value, undefined)) return false;
    }
    while (this.#position < this.#ring.next) {
      if (this.#stopped()) return false;
      if (this.#position < this.#ring.first) {
        this.#closeLost();
        return false;
      }
      const change = this.#ring.at(this.#position++);
      if (!this.#tell(change)) return false;
    }
    return true;
  }

  #closeLost(): void {
    this.close(resourceExpired(`too old resource version: ${this.#revision} (${this.#ring.completeAfter})`));
  }

  #tell(change: Change): boolean {
    if (change.revision <= this.#startRevision) return true;
    this.#revision = change.revision;
    const type = this.filter.classify(change);
    if (type === undefined) return true;
    const object = type === 'DELETED' ? change.gone : change.current;
    return object === undefined || this.#sink.event(type, object, change);
  }
}
