// Tells when processes end that are not our children: one connection to bulkhead-host watches them all by pidfd.
// Should the connection break, it is made anew and all that are still watched are named again.

import { type Logger, silentLogger } from '../component/index.ts';
import type { HostProcess } from './host-process.ts';
import { FrameSession } from './sessions.ts';
import { channels } from './wire.ts';

const FIRST_RETRY_MS = 20;
const LAST_RETRY_MS = 5000;

export class ProcessWatch {
  readonly #host: HostProcess;
  readonly #logger: Logger;
  readonly #watched = new Map<string, Set<() => void>>();
  #session: FrameSession | undefined;
  #connecting = false;
  #failures = 0;
  #closed = false;

  constructor(host: HostProcess, logger?: Logger) {
    this.#host = host;
    this.#logger = logger ?? silentLogger;
  }

  add(process: { readonly pid: number; readonly startTime: string }, ended: () => void): () => void {
    const key = `${process.pid} ${process.startTime}`;
    const callbacks = this.#watched.get(key);
    if (callbacks) {
      callbacks.add(ended);
    } else {
      this.#watched.set(key, new Set([ended]));
      if (this.#session) this.#session.send(channels.stdin, Buffer.from(key));
      else void this.#connect();
    }
    return () => this.#watched.get(key)?.delete(ended);
  }

  async #connect(): Promise<void> {
    if (this.#connecting || this.#closed || this.#watched.size === 0) return;
    this.#connecting = true;
    try {
      const { socket, rest } = await this.#host.converse('watch-processes', []);
      const session = new FrameSession(socket, rest, (_channel, payload) => this.#ended(payload.toString()));
      this.#failures = 0;
      this.#session = session;
      for (const key of this.#watched.keys()) session.send(channels.stdin, Buffer.from(key));
      const lost = (): void => {
        if (this.#session === session) this.#session = undefined;
        void this.#connect();
      };
      session.closed.then(lost, lost);
    } catch (error) {
      if (this.#closed || this.#host.stopping) return;
      // Ends that nobody tells would leave containers running for ever in our books: it is tried until it works.
      const delay = Math.min(FIRST_RETRY_MS * 2 ** this.#failures++, LAST_RETRY_MS);
      this.#logger.error({ err: error, retryMs: delay }, 'processes cannot be watched');
      this.#host.clock.setTimer(delay, () => void this.#connect(), { unref: true });
    } finally {
      this.#connecting = false;
    }
  }

  #ended(key: string): void {
    const callbacks = this.#watched.get(key);
    this.#watched.delete(key);
    for (const callback of callbacks ?? []) callback();
  }

  close(): void {
    this.#closed = true;
    this.#watched.clear();
    this.#session?.close();
  }
}
