// The far end of a Unix socket that a program of the host serves, reached through a Gofer mount whose root allows it.
// Bytes go both ways; open files do not: those of the sandbox mean nothing outside, and none come in.

import { Errno } from '../../abi/errno.ts';
import { Message } from '../../abi/socket.ts';
import type { Host, HostFd, HostWatch } from '../../host/contract.ts';
import { Poll, type WaitQueue } from '../../kernel/wait-queue.ts';
import type { Io } from '../../vfs/io.ts';
import type { Incoming, Outgoing } from '../socket.ts';

const watched = Poll.in | Poll.out | Poll.rdhup;

/** A file of a file system behind which the host may have a socket (vfs/gofer/inode.ts). */
export interface HostServed {
  /** A connected descriptor; -ECONNREFUSED where it is not allowed. */
  connectHost(type: number): HostFd | number;
}

export function isHostServed(value: object): value is HostServed {
  return 'connectHost' in value && typeof value.connectHost === 'function';
}

export class OutsideConnection {
  readonly #host: Host;
  readonly #fd: HostFd;
  readonly #queue: WaitQueue;
  #watch: HostWatch | undefined;
  /** What somebody has asked for and was not there. */
  #armed = 0;
  #over = false;

  /** Takes over the descriptor. queue: whom to tell. */
  constructor(host: Host, fd: HostFd, queue: WaitQueue) {
    this.#host = host;
    this.#fd = fd;
    this.#queue = queue;
  }

  #arm(events: number): void {
    const armed = this.#armed | (events & watched);
    if (this.#over || (armed === this.#armed && this.#watch)) return;
    this.#armed = armed;
    if (this.#watch) {
      this.#watch.update(armed);
      return;
    }
    const watch = this.#host.watch(this.#fd, armed, (ready) => this.#ready(ready));
    if (typeof watch !== 'number') this.#watch = watch;
  }

  #ready(ready: number): void {
    this.#armed &= ~ready;
    // An error or hangup would be told for ever.
    if (ready & (Poll.err | Poll.hup)) this.#stopWatching();
    else this.#watch?.update(this.#armed);
    this.#queue.notify(ready | (ready & Poll.in ? Poll.rdnorm : 0) | (ready & Poll.out ? Poll.wrnorm : 0));
  }

  #stopWatching(): void {
    this.#over = true;
    this.#watch?.close();
    this.#watch = undefined;
  }

  send(io: Io, message: Outgoing): number {
    if (message.rights) return -Errno.EOPNOTSUPP;
    const sent = io.takeToHost(this.#fd, -1, io.left);
    if (sent === -Errno.EAGAIN || io.left > 0) this.#arm(Poll.out);
    return sent;
  }

  receive(io: Io, message: Incoming): number {
    if (message.flags & (Message.peek | Message.outOfBand)) return -Errno.EOPNOTSUPP;
    const count = io.putFromHost(this.#fd, -1, io.left);
    if (count === -Errno.EAGAIN) this.#arm(Poll.in);
    return count;
  }

  readiness(events: number): number {
    const asked = events & watched;
    const ready = this.#host.readiness(this.#fd, asked) & (asked | Poll.err | Poll.hup);
    if ((ready & (Poll.err | Poll.hup)) === 0) this.#arm(asked & ~ready);
    return ready | (events & ((ready & Poll.in ? Poll.rdnorm : 0) | (ready & Poll.out ? Poll.wrnorm : 0)));
  }

  shutdown(how: number): number {
    return this.#host.shutdown(this.#fd, how);
  }

  close(): void {
    this.#stopWatching();
    this.#host.close(this.#fd);
  }
}
