// The Sentry's end of the control protocol: accepts connections on the socket that it was given listening, hands each
// request to its handler with the descriptors that came along, and sends the answers, in whatever order they come.

import { Errno } from '../abi/errno.ts';
import type { Host, HostFd, HostWatch } from '../host/contract.ts';
import { Poll } from '../kernel/wait-queue.ts';
import { encodeFrame, FrameReader } from './frames.ts';
import type { Answers, Command, Request } from './protocol.ts';

/** A refusal with the error number that a runtime command may show. */
export class ControlError extends Error {
  readonly errno: number | undefined;
  constructor(message: string, errno?: number) {
    super(message);
    this.name = 'ControlError';
    this.errno = errno;
  }
}

export type Answer = (answer: Answers[Command]) => void;

/**
 * Carries out a request: calls `answer` once, now or later, or throws. Descriptors belong to the handler when it returns
 * normally; when it throws they are closed here.
 */
export type RequestHandler = (
  request: Request,
  fds: HostFd[],
  answer: Answer,
  refuse: (error: Error) => void,
) => void;

class Connection {
  readonly #host: Host;
  readonly #fd: HostFd;
  readonly #handler: RequestHandler;
  readonly #reader = new FrameReader();
  readonly #input = new Uint8Array(65_536);
  #fds: HostFd[] = [];
  #output: Uint8Array[] = [];
  #watch: HostWatch | undefined;
  #closed = false;

  constructor(host: Host, fd: HostFd, handler: RequestHandler) {
    this.#host = host;
    this.#fd = fd;
    this.#handler = handler;
    const watch = host.watch(fd, Poll.in, (events) => this.#ready(events));
    if (typeof watch === 'number') this.close();
    else this.#watch = watch;
  }

  #ready(events: number): void {
    if (events & Poll.out) this.#write();
    if (events & (Poll.in | Poll.hup | Poll.err)) this.#read();
  }

  #read(): void {
    const count = this.#host.receive(this.#fd, this.#input, 0, this.#input.length, this.#fds);
    if (count === -Errno.EAGAIN || count === -Errno.EINTR) return;
    if (count <= 0) {
      this.close();
      return;
    }
    try {
      for (const frame of this.#reader.push(this.#input.subarray(0, count))) {
        const fds = this.#fds;
        this.#fds = [];
        this.#run(frame.id, frame as unknown as Request, fds);
      }
    } catch {
      // Not our protocol; there is nobody to tell but the one who broke it.
      this.close();
    }
  }

  #run(id: number, request: Request, fds: HostFd[]): void {
    const refuse = (error: Error): void => {
      const errno = error instanceof ControlError ? error.errno : undefined;
      this.#send(encodeFrame({ id, error: error.message, ...(errno === undefined ? {} : { errno }) }));
    };
    try {
      this.#handler(request, fds, (answer) => this.#send(encodeFrame({ id, answer })), refuse);
    } catch (error) {
      for (const fd of fds) this.#host.close(fd);
      refuse(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #send(bytes: Uint8Array): void {
    if (this.#closed) return;
    this.#output.push(bytes);
    this.#write();
  }

  #write(): void {
    for (let next = this.#output[0]; next !== undefined; next = this.#output[0]) {
      const count = this.#host.send(this.#fd, next, 0, next.length, []);
      if (count === -Errno.EAGAIN || count === -Errno.EINTR) break;
      if (count < 0) {
        this.close();
        return;
      }
      if (count < next.length) this.#output[0] = next.subarray(count);
      else this.#output.shift();
    }
    this.#watch?.update(Poll.in | (this.#output.length > 0 ? Poll.out : 0));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.close();
    this.#host.close(this.#fd);
    for (const fd of this.#fds) this.#host.close(fd);
  }
}

/** Serves a listening, non-blocking Unix stream socket until the sandbox ends. */
export function serveControl(host: Host, listener: HostFd, handler: RequestHandler): void {
  const watch = host.watch(listener, Poll.in, () => {
    for (;;) {
      const fd = host.accept(listener);
      if (fd < 0) return;
      new Connection(host, fd, handler);
    }
  });
  if (typeof watch === 'number') throw new Error(`the control socket cannot be watched (errno ${-watch})`);
}
