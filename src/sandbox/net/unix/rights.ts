// Open files on their way through Unix sockets (SCM_RIGHTS): how many each user has in flight, and collecting sockets
// that nobody can reach any more because they lie only in each other's queues (net/unix/garbage.c).

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Control, Level, mostRights } from '../../abi/socket.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import type { FileDescription } from '../../vfs/file-description.ts';
import type { ControlMessage } from '../contract.ts';

const rlimitNoFile = 7;

/** A socket whose queue can hold files. */
export interface RightsHolder extends FileDescription {
  /** The files in its queue, and in those of connections that it has not accepted. */
  queuedRights(): Iterable<Rights>;
  /** Nobody can read the queue any more. */
  dropQueuedRights(): void;
}

/** The files of one message in a queue. */
export class Rights {
  readonly files: readonly FileDescription[];
  readonly user: number;

  constructor(files: readonly FileDescription[], user: number) {
    this.files = files;
    this.user = user;
  }

  /** For MSG_PEEK: the files, each with a further reference. */
  copy(): readonly FileDescription[] {
    return this.files.map((file) => file.acquire());
  }
}

/** One a kernel: kernel.part(RightsInFlight). */
export class RightsInFlight {
  readonly #kernel: Kernel;
  readonly #users = new Map<number, number>();
  /** Sockets in flight, and how often. */
  readonly #sockets = new Map<RightsHolder, number>();
  #collecting = false;
  readonly #dropped: FileDescription[] = [];
  #dropping = false;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** The files that SCM_RIGHTS messages name, each with a reference: undefined if there are none; or a negative errno. */
  resolve(task: Task, control: readonly ControlMessage[]): FileDescription[] | undefined | number {
    let files: FileDescription[] | undefined;
    let error = 0;
    for (const { level, type, data } of control) {
      if (level !== Level.socket || type !== Control.rights) continue;
      const count = data.length >> 2;
      if (count === 0) continue;
      files ??= [];
      if (files.length + count > mostRights) error = -Errno.EINVAL;
      const view = new DataView(data.buffer, data.byteOffset, data.length);
      for (let i = 0; i < count && error === 0; i++) {
        const file = task.files.get(view.getInt32(i * 4, true));
        if (file === undefined) error = -Errno.EBADF;
        else files.push(file.acquire());
      }
      if (error !== 0) break;
    }
    if (error === 0 && files !== undefined && this.#tooMany(task)) error = -Errno.ETOOMANYREFS;
    if (error === 0) return files;
    for (const file of files ?? []) file.unreference();
    return error;
  }

  /** too_many_unix_fds. */
  #tooMany(task: Task): boolean {
    const { credentials } = task;
    if ((this.#users.get(credentials.uid) ?? 0) <= task.process.limit(rlimitNoFile).soft) return false;
    const root = this.#kernel.rootUserNamespace;
    return !credentials.hasIn(root, Capability.sysResource) && !credentials.hasIn(root, Capability.sysAdmin);
  }

  /** The files enter a queue. */
  send(files: readonly FileDescription[], user: number): Rights {
    this.#count(files, user, 1);
    return new Rights(files, user);
  }

  /** They leave it: the receiver has the references. */
  take(rights: Rights): readonly FileDescription[] {
    this.#count(rights.files, rights.user, -1);
    return rights.files;
  }

  /**
   * They leave it because the queue is no more. A file may be a socket that holds others: they go one after the other
   * and not one within the other.
   */
  drop(rights: Rights): void {
    this.#dropped.push(...this.take(rights));
    if (this.#dropping) return;
    this.#dropping = true;
    for (let file = this.#dropped.pop(); file; file = this.#dropped.pop()) file.unreference();
    this.#dropping = false;
  }

  #count(files: readonly FileDescription[], user: number, change: 1 | -1): void {
    const total = (this.#users.get(user) ?? 0) + change * files.length;
    if (total > 0) this.#users.set(user, total);
    else this.#users.delete(user);
    for (const file of files) {
      if (!isHolder(file)) continue;
      const count = (this.#sockets.get(file) ?? 0) + change;
      if (count > 0) this.#sockets.set(file, count);
      else this.#sockets.delete(file);
    }
  }

  /** A descriptor of a socket was closed, or a socket is gone: those in flight may be unreachable now. */
  check(): void {
    if (this.#sockets.size === 0 || this.#collecting) return;
    this.#collecting = true;
    this.#kernel.later(() => {
      this.#collecting = false;
      this.#collect();
    });
  }

  #collect(): void {
    // Those that only queues refer to; and how many of these queues belong to such sockets themselves.
    const inner = new Map<RightsHolder, number>();
    for (const [socket, count] of this.#sockets) if (socket.references === count) inner.set(socket, 0);
    for (const socket of inner.keys())
      for (const file of filesOf(socket)) {
        const count = inner.get(file);
        if (count !== undefined) inner.set(file, count + 1);
      }
    // Whoever is also in another queue can be reached, and so can all in his own.
    const reached: RightsHolder[] = [];
    for (const [socket, count] of inner) if ((this.#sockets.get(socket) ?? 0) > count) reached.push(socket);
    for (let socket = reached.pop(); socket; socket = reached.pop()) {
      if (!inner.delete(socket)) continue;
      for (const file of filesOf(socket)) if (inner.has(file)) reached.push(file);
    }
    for (const socket of [...inner.keys()]) socket.dropQueuedRights();
  }
}

function isHolder(file: FileDescription): file is RightsHolder {
  return 'queuedRights' in file;
}

function* filesOf(socket: RightsHolder): Iterable<RightsHolder> {
  for (const { files } of socket.queuedRights()) for (const file of files) if (isHolder(file)) yield file;
}
