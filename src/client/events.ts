// Records Events about objects, for people to read. It never blocks who calls it and never fails them: events go
// through a queue to the server, one after the other.
//
// Before that they are correlated as client-go does, so that a loop gone wrong cannot fill the server:
// - spam filter: for each source and object a bucket of 25 events that regains one in 300 s; what exceeds it is dropped;
// - aggregation: more than 10 different messages of one reason about one object within 600 s become one event,
//   "(combined from similar events): …";
// - counting: an event like an earlier one raises that one's count instead of making another.
// Events that the server refuses are logged and dropped; when it cannot be reached each is tried 12 times, 10 s apart.
// Whatever is dropped is logged with its number. Disposing sends what is queued, within a deadline.

import {
  groupVersion,
  isAlreadyExists,
  isNamespaceTerminating,
  isNotFound,
  type KubeObject,
  StatusError,
  timestamp,
} from '../api/index.ts';
import type { Event, ObjectReference } from '../api/types/core-v1.ts';
import type { Clock, Logger } from '../component/index.ts';
import type { Client } from './client.ts';
import { TokenBucket } from './rate-limit.ts';
import { type ResourceType, resources } from './resources.ts';
import { delay } from './retry.ts';

const SPAM_BURST = 25;
const SPAM_PER_SECOND = 1 / 300;
const SIMILAR_EVENTS = 10;
const SIMILAR_WITHIN_MS = 600_000;
/** Entries of each of the correlator's memories; the least recently used goes first. */
const MEMORY = 4096;
const QUEUE_LIMIT = 1000;
const TRIES = 12;
const RETRY_MS = 10_000;

export interface EventRecorder extends AsyncDisposable {
  /** Queues an event about `about`; never throws, never waits. */
  event(
    about: ObjectReference,
    type: 'Normal' | 'Warning',
    reason: string,
    message: string,
    more?: { readonly annotations?: Readonly<Record<string, string>> },
  ): void;
  /** Resolves when everything recorded so far was sent or given up. */
  flush(): Promise<void>;
}

export interface EventRecorderOptions {
  readonly client: Client;
  /** Who reports: `replicaset-controller`, `kubelet`. */
  readonly component: string;
  /** The node that it reports from, for components of a node. */
  readonly host?: string;
  readonly clock?: Clock;
  readonly logger?: Logger;
  readonly random?: () => number;
  /** How long disposing waits for what is queued. */
  readonly flushDeadlineMs?: number;
}

/** What an event's involvedObject says of an object; list items carry no kind of their own, the type does. */
export function referenceTo<T extends KubeObject>(
  type: ResourceType<T>,
  object: T,
  fieldPath?: string,
): ObjectReference {
  const { namespace, name, uid, resourceVersion } = object.metadata;
  return {
    kind: type.kind,
    apiVersion: groupVersion(type),
    ...(namespace === undefined ? {} : { namespace }),
    name,
    uid,
    resourceVersion,
    ...(fieldPath === undefined ? {} : { fieldPath }),
  };
}

interface Observation {
  name: string;
  namespace: string;
  count: number;
  firstTimestamp: string;
}

interface Similar {
  readonly messages: Set<string>;
  last: number;
}

export function createEventRecorder(options: EventRecorderOptions): EventRecorder {
  return new QueuedEventRecorder(options);
}

class QueuedEventRecorder implements EventRecorder {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #random: () => number;
  readonly #component: string;
  readonly #host: string;
  readonly #flushDeadlineMs: number;
  readonly #buckets = new Recent<TokenBucket>();
  readonly #similar = new Recent<Similar>();
  readonly #observed = new Recent<Observation>();
  readonly #queue: Event[] = [];
  readonly #stop = new AbortController();
  readonly #idle: (() => void)[] = [];
  #sending: Promise<void> | undefined;
  #disposed: Promise<void> | undefined;
  #sequence = 0;
  #overflowed = 0;

  constructor(options: EventRecorderOptions) {
    this.#client = options.client;
    this.#clock = options.clock ?? options.client.clock;
    this.#random = options.random ?? Math.random;
    this.#component = options.component;
    this.#host = options.host ?? '';
    this.#flushDeadlineMs = options.flushDeadlineMs ?? 5000;
    this.#logger = (options.logger ?? options.client.logger).child({ recorder: options.component });
  }

  event(
    about: ObjectReference,
    type: 'Normal' | 'Warning',
    reason: string,
    message: string,
    more: { readonly annotations?: Readonly<Record<string, string>> } = {},
  ): void {
    if (this.#disposed) {
      this.#logger.warn({ about, reason, message }, 'an event came after the recorder was disposed');
      return;
    }
    if (this.#queue.length >= QUEUE_LIMIT) {
      if (this.#overflowed++ === 0)
        this.#logger.error({ limit: QUEUE_LIMIT }, 'events come faster than they are sent; more are dropped');
      return;
    }
    const now = timestamp(this.#clock.now());
    this.#queue.push({
      metadata: {
        name: this.#eventName(about),
        namespace: about.namespace || 'default',
        ...(more.annotations ? { annotations: { ...more.annotations } } : {}),
      } as Event['metadata'],
      involvedObject: about,
      reason,
      message,
      source: { component: this.#component, ...(this.#host === '' ? {} : { host: this.#host }) },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
      type,
      reportingComponent: this.#component,
      reportingInstance: this.#host,
    });
    this.#sending ??= this.#send();
  }

  flush(): Promise<void> {
    if (!this.#sending) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= (async () => {
      const deadline = this.#clock.setTimer(this.#flushDeadlineMs, () =>
        this.#stop.abort(new Error('the deadline for sending the last events passed')),
      );
      await this.#sending;
      deadline.cancel();
    })();
    return this.#disposed;
  }

  /** Unique among this recorder's events: nanoseconds since the epoch, counted up within a millisecond. */
  #eventName(about: ObjectReference): string {
    const nanos = BigInt(Math.trunc(this.#clock.now())) * 1_000_000n + BigInt(this.#sequence++ % 1_000_000);
    return `${about.name ?? ''}.${nanos.toString(16)}`;
  }

  async #send(): Promise<void> {
    // The caller's own work first: an event never delays what it reports on.
    await null;
    for (;;) {
      const event = this.#queue.shift();
      if (!event) break;
      if (this.#stop.signal.aborted) {
        this.#logger.error({ dropped: this.#queue.length + 1 }, 'events were not sent before the deadline');
        this.#queue.length = 0;
        break;
      }
      await this.#record(event);
    }
    if (this.#overflowed > 0) {
      this.#logger.error({ dropped: this.#overflowed }, 'events were dropped because the queue was full');
      this.#overflowed = 0;
    }
    this.#sending = undefined;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  async #record(event: Event): Promise<void> {
    const correlated = this.#correlate(event);
    if (!correlated) {
      const { involvedObject, reason, message } = event;
      this.#logger.debug({ involvedObject, reason, message }, 'the spam filter dropped an event');
      return;
    }
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#write(correlated.event, correlated.key);
        return;
      } catch (error) {
        const { involvedObject, reason, message } = event;
        const log = { err: error, involvedObject, reason, message };
        if (error instanceof StatusError) {
          if (isAlreadyExists(error)) this.#logger.info(log, 'the server has this event already');
          else if (isNamespaceTerminating(error))
            this.#logger.debug(log, 'the namespace of an event is going');
          else this.#logger.warn(log, 'the server refused an event; it is dropped');
          return;
        }
        if (attempt >= TRIES || this.#stop.signal.aborted) {
          this.#logger.error(log, 'an event could not be sent and is dropped');
          return;
        }
        // The first wait is of random length, lest all clients come back at once when a server does.
        const wait = attempt === 1 ? RETRY_MS * this.#random() : RETRY_MS;
        await delay(this.#clock, wait, this.#stop.signal).catch(() => {});
      }
    }
  }

  /** Undefined when the event is spam; otherwise what to write, and the key under which its like are counted. */
  #correlate(event: Event): { readonly event: Event; readonly key: string } | undefined {
    const { involvedObject: about, reason = '', message = '', type = '' } = event;
    const subject = [about.kind, about.namespace, about.name, about.uid, about.apiVersion];
    const bucket = this.#buckets.get(
      JSON.stringify(subject),
      () => new TokenBucket(SPAM_PER_SECOND, SPAM_BURST, this.#clock),
    );
    if (!bucket.tryTake()) return undefined;
    const now = this.#clock.monotonic();
    const groupKey = JSON.stringify([subject, type, reason]);
    const similar = this.#similar.get(groupKey, () => ({ messages: new Set<string>(), last: now }));
    if (now - similar.last > SIMILAR_WITHIN_MS) similar.messages.clear();
    similar.last = now;
    similar.messages.add(message);
    if (similar.messages.size < SIMILAR_EVENTS)
      return { event, key: JSON.stringify([subject, about.fieldPath, type, reason, message]) };
    const [any] = similar.messages;
    if (any !== undefined) similar.messages.delete(any);
    return {
      event: { ...event, message: `(combined from similar events): ${message}` },
      key: groupKey,
    };
  }

  async #write(event: Event, key: string): Promise<void> {
    const known = this.#observed.peek(key);
    const { signal } = this.#stop;
    if (known) {
      try {
        await this.#client.resource(resources.events, known.namespace).patch(
          known.name,
          {
            type: 'strategic',
            patch: { count: known.count + 1, lastTimestamp: event.lastTimestamp, message: event.message },
          },
          { signal },
        );
        known.count++;
        return;
      } catch (error) {
        // The event's time to live ended; the next one starts a new count.
        if (!isNotFound(error)) throw error;
        this.#observed.delete(key);
      }
    }
    const { name, namespace = 'default' } = event.metadata;
    await this.#client.resource(resources.events, namespace).create(event, { signal });
    this.#observed.set(key, { name, namespace, count: 1, firstTimestamp: event.firstTimestamp ?? '' });
  }
}

/** A map that forgets what was used least recently. */
class Recent<V> {
  readonly #entries = new Map<string, V>();

  get(key: string, make: () => V): V {
    const value = this.peek(key) ?? make();
    this.set(key, value);
    return value;
  }

  peek(key: string): V | undefined {
    return this.#entries.get(key);
  }

  set(key: string, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size <= MEMORY) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }
}
