// The runtime command's end of the control protocol: one request at a time, synchronously (the socket
// blocks), with descriptors.

import { Errno } from '../abi/errno.ts';
import { encodeFrame, FrameReader } from '../control/frames.ts';
import type { Answers, Request } from '../control/protocol.ts';
import type { HostFd } from '../host/contract.ts';
import { CommandError } from './errors.ts';
import type { Outside } from './outside.ts';

/** The Sentry refused; the message is its own. */
export class RefusedError extends CommandError {
  readonly errno: number | undefined;
  constructor(message: string, errno: number | undefined) {
    super(message);
    this.name = 'RefusedError';
    this.errno = errno;
  }
}

/** The Sentry has gone, or never was. */
export class GoneError extends CommandError {
  constructor() {
    super('the sandbox has ended');
    this.name = 'GoneError';
  }
}

export class ControlClient implements Disposable {
  readonly fd: HostFd;
  readonly #outside: Outside;
  readonly #reader = new FrameReader();
  #next = 1;

  private constructor(outside: Outside, fd: HostFd) {
    this.#outside = outside;
    this.fd = fd;
  }

  /** undefined: nobody listens there. */
  static connect(outside: Outside, path: string): ControlClient | undefined {
    const fd = outside.connect(path);
    if (fd === -Errno.ENOENT || fd === -Errno.ECONNREFUSED || fd === -Errno.ENOTDIR) return undefined;
    if (fd < 0) throw new CommandError(`connecting to ${path}: error ${-fd}`);
    return new ControlClient(outside, fd);
  }

  /** Throws RefusedError or GoneError. The descriptors stay the caller's. */
  request<R extends Request>(request: R, fds: readonly HostFd[] = []): Answers[R['command']] {
    const id = this.#next++;
    this.#send(encodeFrame({ ...request, id }), fds);
    const bytes = new Uint8Array(65_536);
    for (;;) {
      const count = this.#outside.host.receive(this.fd, bytes, 0, bytes.length, []);
      if (count === -Errno.EINTR) continue;
      if (count <= 0) throw new GoneError();
      for (const frame of this.#reader.push(bytes.subarray(0, count))) {
        if (frame.id !== id) continue;
        if ('error' in frame) throw new RefusedError(frame.error, frame.errno);
        if ('answer' in frame) return frame.answer as Answers[R['command']];
      }
    }
  }

  #send(bytes: Uint8Array, fds: readonly HostFd[]): void {
    let sent = 0;
    while (sent < bytes.length) {
      const count = this.#outside.host.send(this.fd, bytes, sent, bytes.length - sent, sent === 0 ? fds : []);
      if (count === -Errno.EINTR) continue;
      if (count < 0) throw new GoneError();
      sent += count;
    }
  }

  [Symbol.dispose](): void {
    this.#outside.host.close(this.fd);
  }
}
