// Tells when processes end that are not our children: one connection to bulkhead-host watches them all by pidfd.
// Should the connection break, it is made anew and all that are still watched are named again.

import { type Logger, silentLogger } from '../component/index.ts';
import type { HostProcess } from './host-process.ts';
import { FrameSession } from './sessions.ts';
import { channels } from './wire.ts';

export class ProcessWatch {
  readonly #host: HostProcess;
  readonly #logger: Logger;
  readonly #watched = new Map<string, Set<() => void>>();
  #session: FrameSession | undefined;
  #connecting = false;
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
    if (this.#connecting || this.#closed) return;
    this.#connecting = true;
    try {
      const { socket, rest } = await this.#host.converse('watch-processes', []);
      const session = new FrameSession(socket, rest, (_channel, payload) => this.#ended(payload.toString()));
      this.#session = session;
      for (const key of this.#watched.keys()) session.send(channels.stdin, Buffer.from(key));
      session.closed.finally(() => {
        if (this.#session === session) this.#session = undefined;
        if (this.#watched.size > 0) void this.#connect();
      });
    } catch (error) {
      if (!this.#closed) this.#logger.error({ err: error }, 'processes cannot be watched');
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
