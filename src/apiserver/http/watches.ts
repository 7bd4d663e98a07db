// The watches that are under way over HTTP: chunked JSON lines on either protocol, or a message an event on a
// WebSocket. Knows all of them, so that they can be ended when the server stops.

import type { ResourceDefinition } from '../../api/definition.ts';
import type { Clock } from '../../component/index.ts';
import type { Dispatcher, KnownRequest } from '../dispatcher.ts';
import type { Metrics } from '../metrics.ts';
import type { ObjectStore } from '../registry/object-store.ts';
import type { AnswerForm } from '../request/negotiation.ts';
import type { Exchange, ResponseHeaders } from './exchange.ts';
import { includeObject } from './transforms.ts';
import { eventEncoder } from './watch-events.ts';
import { joined, type LineWriter, WatchStream } from './watch-stream.ts';

export interface WatchesOptions {
  readonly dispatcher: Dispatcher;
  readonly objects: ObjectStore;
  readonly metrics: Metrics;
  readonly clock: Clock;
}

export class Watches {
  readonly #options: WatchesOptions;
  readonly #open = new Set<WatchStream>();
  #stopped = false;

  constructor(options: WatchesOptions) {
    this.#options = options;
  }

  /** Resolves when the watch is over. */
  serve(
    known: KnownRequest,
    definition: ResourceDefinition,
    form: AnswerForm,
    exchange: Exchange,
    headers: () => ResponseHeaders,
  ): Promise<void> {
    return this.serveOn(known, definition, form, () => {
      exchange.begin(200, Object.assign(headers(), { 'content-type': form.mediaType }));
      return {
        write: (lines) => exchange.write(joined(lines)),
        onDrain: (callback) => exchange.onDrain(callback),
        onClosed: (callback) => exchange.onClosed(callback),
        end: () => exchange.end(),
        abort: () => exchange.abort(),
      };
    });
  }

  /** `accept` is called when the watch is granted, and gives where its lines go. */
  async serveOn(
    known: KnownRequest,
    definition: ResourceDefinition,
    form: AnswerForm,
    accept: () => LineWriter,
  ): Promise<void> {
    const { dispatcher, objects, metrics, clock } = this.#options;
    const include = includeObject(known.query);
    const over = Promise.withResolvers<void>();
    let stream: WatchStream | undefined;
    const handle = await dispatcher.watch(known, definition, (settings) => {
      const encoder = eventEncoder(objects.format(definition), form, include, () => clock.now());
      stream = new WatchStream(accept(), encoder, settings, clock, () => over.resolve());
      return stream;
    });
    const opened = stream!;
    this.#open.add(opened);
    metrics.watches++;
    opened.start(handle);
    if (this.#stopped) opened.end();
    await over.promise;
    this.#open.delete(opened);
    metrics.watches--;
  }

  /** Ends all watches, and those that come from now on. */
  stop(): void {
    this.#stopped = true;
    for (const stream of [...this.#open]) stream.end();
  }
}
