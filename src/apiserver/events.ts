// Events of the API server itself (a range is exhausted, an address was repaired), for an operator to find. They are
// written through the server's own front door, one after the other; who records one never waits for it nor fails by
// it. An event that repeats within a minute is only counted; later its count, time and message are brought up to date.

import { isNotFound, type Transport, timestamp } from '../api/index.ts';
import type { ObjectReference } from '../api/types/core-v1.ts';
import type { Clock, Logger } from '../component/index.ts';

const EVENTS = { group: '', version: 'v1', resource: 'events' } as const;
const QUIET_MS = 60_000;
/** Different events that are remembered; the oldest go first. */
const MEMORY = 1000;
const QUEUE_LIMIT = 1000;

export interface ServerEvent {
  readonly about: ObjectReference;
  readonly reason: string;
  readonly message: string;
  /** Who reports: `ipallocator-repair-controller`. */
  readonly component: string;
  /** Events of one series are one event, whatever their messages; without it the message makes the difference. */
  readonly series?: string;
}

interface Known {
  readonly name: string;
  readonly namespace: string;
  written: number;
  since: number;
}

export interface ServerEventsOptions {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class ServerEvents implements Disposable {
  readonly #options: ServerEventsOptions;
  readonly #known = new Map<string, Known>();
  readonly #queue: { readonly event: ServerEvent; readonly key: string }[] = [];
  readonly #abort = new AbortController();
  #sending = false;
  #sequence = 0;

  constructor(options: ServerEventsOptions) {
    this.#options = options;
  }

  /** A Warning. */
  warn(event: ServerEvent): void {
    const { about, reason, message, series = message } = event;
    const key = JSON.stringify([about.kind, about.namespace, about.name, about.uid, reason, series]);
    const known = this.#known.get(key);
    if (known !== undefined && this.#options.clock.monotonic() - known.written < QUIET_MS) {
      known.since++;
      return;
    }
    if (this.#abort.signal.aborted) return;
    if (this.#queue.length >= QUEUE_LIMIT) {
      this.#options.logger.warn({ about, reason, message }, 'too many events at once; this one is dropped');
      return;
    }
    this.#queue.push({ event, key });
    if (!this.#sending) void this.#send();
  }

  [Symbol.dispose](): void {
    this.#queue.length = 0;
    this.#abort.abort();
  }

  async #send(): Promise<void> {
    this.#sending = true;
    // What is reported on goes first.
    await null;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      const { about, reason, message } = next.event;
      try {
        await this.#write(next.event, next.key);
      } catch (error) {
        if (!this.#abort.signal.aborted)
          this.#options.logger.warn(
            { err: error, about, reason, message },
            'an event of the server was not stored',
          );
      }
    }
    this.#sending = false;
  }

  async #write(event: ServerEvent, key: string): Promise<void> {
    const { transport, clock } = this.#options;
    const { about, reason, message, component } = event;
    const { signal } = this.#abort;
    const now = timestamp(clock.now());
    const known = this.#known.get(key);
    if (known !== undefined) {
      if (clock.monotonic() - known.written < QUIET_MS) {
        known.since++;
        return;
      }
      try {
        const target = { resource: EVENTS, namespace: known.namespace, name: known.name, signal };
        const stored = (await transport.call({ ...target, verb: 'get' })) as { readonly count?: number };
        const count = (stored.count ?? 1) + known.since + 1;
        await transport.call({
          ...target,
          verb: 'patch',
          patchType: 'application/merge-patch+json',
          body: { count, lastTimestamp: now, message },
        });
        known.written = clock.monotonic();
        known.since = 0;
        return;
      } catch (error) {
        // Its time to live is over: a new one begins.
        if (!isNotFound(error)) throw error;
        this.#known.delete(key);
      }
    }
    const namespace = about.namespace || 'default';
    const nanos = BigInt(Math.trunc(clock.now())) * 1_000_000n + BigInt(this.#sequence++ % 1_000_000);
    const name = `${about.name ?? ''}.${nanos.toString(16)}`;
    // Remembered before it is written, so that what comes meanwhile is counted.
    this.#remember(key, { name, namespace, written: clock.monotonic(), since: 0 });
    await transport.call({
      verb: 'create',
      resource: EVENTS,
      namespace,
      signal,
      body: {
        metadata: { name, namespace },
        involvedObject: about,
        reason,
        message,
        source: { component },
        firstTimestamp: now,
        lastTimestamp: now,
        count: 1,
        type: 'Warning',
        reportingComponent: component,
        reportingInstance: '',
      },
    });
  }

  #remember(key: string, known: Known): void {
    this.#known.delete(key);
    this.#known.set(key, known);
    if (this.#known.size <= MEMORY) return;
    const [oldest] = this.#known.keys();
    if (oldest !== undefined) this.#known.delete(oldest);
  }
}
