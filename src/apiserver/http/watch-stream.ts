// Watches over HTTP: a sink that writes events to an exchange or a WebSocket as they come, many in one write when
// they come together, and stops taking them while the client does not read.

import type { StatusError } from '../../api/errors.ts';
import type { Clock, Timer } from '../../component/index.ts';
import type { Change } from '../cache/event-ring.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import type { WatchSink } from '../cache/subscription.ts';
import type { WatchHandle, WatchSettings } from '../registry/watch.ts';
import type { EventEncoder } from './watch-events.ts';

/** Where the lines of a watch go. */
export interface LineWriter {
  /** False: taken, but wait for `onDrain` before more. */
  write(lines: readonly Uint8Array[]): boolean;
  onDrain(callback: () => void): void;
  onClosed(callback: () => void): void;
  end(): void;
  /** Ends without what is still to be written. */
  abort(): void;
}

/** As much is gathered for one write at most. */
const MOST_PENDING_BYTES = 256 * 1024;
/** The last bookmark of a watch comes this much before its end, in ms. */
const LAST_BOOKMARK_MS = 2_000;

export class WatchStream implements WatchSink {
  readonly #writer: LineWriter;
  readonly #encoder: EventEncoder;
  readonly #settings: WatchSettings;
  readonly #clock: Clock;
  readonly #onOver: () => void;
  #handle: WatchHandle | undefined;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #flushing = false;
  #blocked = false;
  #full = false;
  #over = false;
  #timers: Timer[] = [];

  /** `onOver` is called once, when nothing more will be written. */
  constructor(
    writer: LineWriter,
    encoder: EventEncoder,
    settings: WatchSettings,
    clock: Clock,
    onOver: () => void,
  ) {
    this.#writer = writer;
    this.#encoder = encoder;
    this.#settings = settings;
    this.#clock = clock;
    this.#onOver = onOver;
  }

  start(handle: WatchHandle): void {
    this.#handle = handle;
    this.#writer.onDrain(() => {
      this.#blocked = false;
      this.#goOn();
    });
    this.#writer.onClosed(() => this.#stop());
    if (this.#over) return;
    const { timeoutMs } = this.#settings;
    this.#timers.push(
      this.#clock.setTimer(timeoutMs, () => this.end(), { unref: true }),
      this.#clock.setTimer(Math.max(0, timeoutMs - LAST_BOOKMARK_MS), () => handle.bookmark(), {
        unref: true,
      }),
    );
    handle.resume();
  }

  event(type: Change['type'], object: StoredObject, change: Change | undefined): boolean {
    return this.#push(this.#encoder.event(type, object, change));
  }

  bookmark(revision: number, initialEventsEnd: boolean): boolean {
    if (!this.#settings.allowBookmarks) return !this.#full;
    return this.#push(this.#encoder.bookmark(revision, initialEventsEnd));
  }

  close(error?: StatusError): void {
    if (this.#over) return;
    if (this.#blocked && error !== undefined) {
      // The client does not read; it would not read this either.
      this.#writer.abort();
      this.#stop();
      return;
    }
    if (error !== undefined) this.#pending.push(this.#encoder.error(error.status));
    this.end();
  }

  /** Ends the watch in good order. */
  end(): void {
    if (this.#over) return;
    if (this.#pending.length > 0) this.#writer.write(this.#pending);
    this.#pending = [];
    this.#writer.end();
    this.#stop();
  }

  #push(line: Uint8Array): boolean {
    if (this.#over) return false;
    this.#pending.push(line);
    this.#pendingBytes += line.length;
    if (!this.#flushing && !this.#blocked) {
      this.#flushing = true;
      queueMicrotask(() => this.#flush());
    }
    this.#full = this.#blocked || this.#pendingBytes >= MOST_PENDING_BYTES;
    return !this.#full;
  }

  #flush(): void {
    this.#flushing = false;
    if (this.#over || this.#blocked || this.#pending.length === 0) return;
    const lines = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#blocked = !this.#writer.write(lines);
    if (!this.#blocked) this.#goOn();
  }

  #goOn(): void {
    if (this.#over) return;
    if (this.#pending.length > 0) {
      this.#flush();
      return;
    }
    if (!this.#full) return;
    this.#full = false;
    this.#handle?.resume();
  }

  #stop(): void {
    if (this.#over) return;
    this.#over = true;
    for (const timer of this.#timers) timer.cancel();
    this.#timers = [];
    this.#pending = [];
    this.#handle?.stop();
    this.#onOver();
  }
}

/** All lines in one array, without a copy when there is one only. */
export function joined(lines: readonly Uint8Array[]): Uint8Array {
  return lines.length === 1 ? lines[0]! : Buffer.concat(lines);
}
