// What every component of the cluster looks like from outside: options in, disposable out.
// Hosting (all in one process, one a process, inside a test) is a choice of whoever calls start.

import type { Clock } from './clock.ts';
import type { Logger } from './log.ts';

/** Options that every component's `start` takes beside its own. */
export interface StartOptions {
  /** Where the component logs; silent when absent. */
  readonly logger?: Logger;
  /** The component's only source of time; the system's clock when absent. */
  readonly clock?: Clock;
}

/** A started component. Disposing stops it, awaits all that it had under way and releases what it held. */
export interface Running extends AsyncDisposable {
  /** Resolves when the component does its work (caches synced, sockets bound); rejects when it cannot start. */
  readonly ready: Promise<void>;
}
