// Lists a resource and follows its watch, for as long as it lives, and hands what it learns to a target. It relies on
// the server for order: events of one object come in the order of their versions.
//
// It starts with a streaming list (a watch with sendInitialEvents, KEP-3157), which costs the server no list in
// memory, and falls back for good to list and watch where that is refused. A watch that ends is taken up again from
// the last version seen (bookmarks move it on); after 410 Gone, or a version that the server does not know, it begins
// from a full state. Failures are waited out with jittered back-off, 0.8 s to 30 s, as client-go does.

import {
  isExpired,
  isGone,
  type KubeObject,
  StatusError,
  statusErrorFrom,
  type WatchEvent,
} from '../api/index.ts';
import type { Clock, Logger } from '../component/index.ts';
import type { ResourceClient, SelectorOptions } from './client.ts';
import { Backoff, delay } from './retry.ts';
import { isTooLargeResourceVersion } from './status.ts';

/** Set to "true" on the bookmark that ends the initial events. */
const INITIAL_EVENTS_END = 'k8s.io/initial-events-end';

/** A watch that ends sooner than this without an event is a failure, lest we ask again in a tight loop. */
const SHORT_WATCH_MS = 1000;

export interface ReflectorTarget<T> {
  /** The whole selection as it was at one version. */
  replace(items: readonly T[]): void;
  changed(object: T): void;
  removed(object: T): void;
}

export interface ReflectorOptions<T extends KubeObject> {
  readonly client: ResourceClient<T>;
  readonly selection: SelectorOptions & { readonly metadataOnly?: boolean };
  readonly target: ReflectorTarget<T>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: () => number;
}

type Events<T> = AsyncIterator<WatchEvent<T>>;

/** Runs from construction; disposing it ends the watch and resolves when nothing is under way any more. */
export class Reflector<T extends KubeObject> implements AsyncDisposable {
  readonly #options: ReflectorOptions<T>;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  /** The last version seen; '' before the first full state. */
  #version = '';
  /** False: the next watch must begin from a full state. */
  #established = false;
  /** The last version was refused: ask for the newest state instead of one not older than it. */
  #versionUnavailable = false;
  #streaming = true;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#done = this.#run();
  }

  get resourceVersion(): string {
    return this.#version;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the reflector was stopped'));
    await this.#done;
  }

  async #run(): Promise<void> {
    const { clock, logger, random, client } = this.#options;
    const { signal } = this.#stop;
    const backoff = new Backoff(
      { initialMs: 800, maxMs: 30_000, factor: 2, jitter: 1, resetAfterMs: 120_000 },
      clock,
      random,
    );
    // Before the first await the constructor of whoever holds us is still running.
    await null;
    while (!signal.aborted) {
      try {
        await this.#cycle(signal);
      } catch (error) {
        if (signal.aborted) return;
        const log = { err: error, resource: client.type.resource, version: this.#version };
        if (this.#recoverAtOnce(error)) {
          logger.debug(log, 'the watch cannot be resumed; a full state is read');
          continue;
        }
        const wait = backoff.next();
        logger.warn({ ...log, retryInMs: Math.round(wait) }, 'list or watch failed');
        await delay(clock, wait, signal).catch(() => {});
      }
    }
  }

  /** Reads a full state when one is needed, then follows a watch until it ends. */
  async #cycle(signal: AbortSignal): Promise<void> {
    // The watch of this cycle alone: whatever ends the cycle must also end the server's side of it.
    const watch = new AbortController();
    const watchSignal = AbortSignal.any([signal, watch.signal]);
    try {
      const begun = this.#options.clock.monotonic();
      const events = this.#established
        ? await this.#watchFrom(this.#version, watchSignal)
        : this.#streaming
          ? await this.#streamState(watchSignal)
          : await this.#listState(watchSignal);
      const short = (): boolean => this.#options.clock.monotonic() - begun < SHORT_WATCH_MS;
      const seen = await this.#follow(events, signal).catch((error: unknown) => {
        // A connection that broke after it had served us: taken up again at once, as if the server had ended it.
        if (error instanceof StatusError || short()) throw error;
        const { logger, client } = this.#options;
        logger.info(
          { err: error, resource: client.type.resource, version: this.#version },
          'the watch broke',
        );
        return 1;
      });
      if (signal.aborted) return;
      if (seen === 0 && short()) throw new Error('the server ended the watch at once, without an event');
    } finally {
      watch.abort();
    }
  }

  /** True when the error only says that our version is of no use and a full state will help. */
  #recoverAtOnce(error: unknown): boolean {
    if (isExpired(error) || isGone(error) || isTooLargeResourceVersion(error)) {
      const first = !this.#versionUnavailable;
      this.#established = false;
      this.#versionUnavailable = true;
      // The second time in a row the newest state itself was refused: that is no matter of versions.
      return first;
    }
    const refused =
      error instanceof StatusError && (error.reason === 'Invalid' || error.reason === 'BadRequest');
    if (refused && this.#streaming && !this.#established) {
      this.#streaming = false;
      return true;
    }
    return false;
  }

  async #watchFrom(resourceVersion: string, signal: AbortSignal): Promise<Events<T>> {
    const stream = await this.#options.client.watch({
      ...this.#options.selection,
      resourceVersion,
      allowWatchBookmarks: true,
      timeoutSeconds: this.#timeoutSeconds(),
      signal,
    });
    return stream[Symbol.asyncIterator]();
  }

  async #streamState(signal: AbortSignal): Promise<Events<T>> {
    const stream = await this.#options.client.watch({
      ...this.#options.selection,
      resourceVersion: this.#versionUnavailable ? '' : this.#version,
      resourceVersionMatch: 'NotOlderThan',
      sendInitialEvents: true,
      allowWatchBookmarks: true,
      timeoutSeconds: this.#timeoutSeconds(),
      signal,
    });
    const events = stream[Symbol.asyncIterator]();
    const items = new Map<string, T>();
    for (;;) {
      const next = await events.next();
      if (next.done) throw new Error('the server ended the streaming list before it was complete');
      const event = next.value;
      switch (event.type) {
        case 'ADDED':
        case 'MODIFIED':
          items.set(event.object.metadata.uid, event.object);
          break;
        case 'DELETED':
          items.delete(event.object.metadata.uid);
          break;
        case 'BOOKMARK':
          if (event.object.metadata.annotations?.[INITIAL_EVENTS_END] !== 'true') break;
          this.#establish([...items.values()], event.object.metadata.resourceVersion);
          return events;
        case 'ERROR':
          throw watchError(event.object);
      }
    }
  }

  async #listState(signal: AbortSignal): Promise<Events<T>> {
    // '0' is any state that the server has at hand; a relist must not go back behind what was seen.
    const resourceVersion = this.#versionUnavailable ? '' : this.#version || '0';
    const { client, selection } = this.#options;
    const items: T[] = [];
    let next: string | undefined;
    let version = '';
    do {
      const page = await client.list({
        ...selection,
        ...(next === undefined ? { resourceVersion } : { continue: next }),
        limit: 500,
        signal,
      });
      items.push(...page.items);
      version = page.metadata.resourceVersion ?? version;
      next = page.metadata.continue || undefined;
    } while (next !== undefined);
    this.#establish(items, version);
    return this.#watchFrom(version, signal);
  }

  #establish(items: readonly T[], version: string): void {
    if (this.#stop.signal.aborted) return;
    this.#version = version;
    this.#established = true;
    this.#versionUnavailable = false;
    this.#options.target.replace(items);
  }

  /** Hands the events on until the stream ends; resolves with how many there were. */
  async #follow(events: Events<T>, signal: AbortSignal): Promise<number> {
    const { target } = this.#options;
    for (let seen = 0; ; seen++) {
      const next = await events.next();
      if (next.done || signal.aborted) return seen;
      const event = next.value;
      switch (event.type) {
        case 'ADDED':
        case 'MODIFIED':
          target.changed(event.object);
          break;
        case 'DELETED':
          target.removed(event.object);
          break;
        case 'BOOKMARK':
          break;
        case 'ERROR':
          throw watchError(event.object);
      }
      this.#version = event.object.metadata.resourceVersion;
    }
  }

  /** Between 5 and 10 minutes, so that the watches of many clients do not all end together. */
  #timeoutSeconds(): number {
    return Math.floor(300 * (1 + this.#options.random()));
  }
}

function watchError(object: unknown): Error {
  return (
    statusErrorFrom(object) ??
    new Error(`the watch sent an error that is no Status: ${JSON.stringify(object)}`)
  );
}
