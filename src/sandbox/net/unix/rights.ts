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
  /** The listener whose backlog it waits in: whoever has that one can get at this. */
  readonly heldBy: RightsHolder | undefined;
  /** Nobody can read the queue any more, nor those of connections that were not accepted. */
  dropQueuedRights(): void;
}

/** The files of one message in a queue. */
export class Rights {
  readonly files: readonly FileDescription[];
  readonly user: number;
  /** Whose queue it is. */
  readonly owner: RightsHolder;

  constructor(files: readonly FileDescription[], user: number, owner: RightsHolder) {
    this.files = files;
    this.user = user;
    this.owner = owner;
  }

  /** For MSG_PEEK: the files, each with a further reference. */
  copy(): readonly FileDescription[] {
    return this.files.map((file) => file.acquire());
  }
}

/** A socket in flight: how often in all, and in whose queues. */
interface InFlight {
  count: number;
  readonly owners: Map<RightsHolder, number>;
}

/** One a kernel: kernel.part(RightsInFlight). */
export class RightsInFlight {
  readonly #kernel: Kernel;
  readonly #users = new Map<number, number>();
  readonly #sockets = new Map<RightsHolder, InFlight>();
  /** Sockets that may have become unreachable. */
  readonly #suspects = new Set<RightsHolder>();
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
  send(files: readonly FileDescription[], user: number, owner: RightsHolder): Rights {
    const rights = new Rights(files, user, owner);
    this.#count(rights, 1);
    return rights;
  }

  /** They leave it: the receiver has the references. */
  take(rights: Rights): readonly FileDescription[] {
    this.#count(rights, -1);
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

  #count({ files, user, owner }: Rights, change: 1 | -1): void {
    const total = (this.#users.get(user) ?? 0) + change * files.length;
    if (total > 0) this.#users.set(user, total);
    else this.#users.delete(user);
    for (const file of files) {
      if (!isHolder(file)) continue;
      const known = this.#sockets.get(file) ?? { count: 0, owners: new Map() };
      this.#sockets.set(file, known);
      known.count += change;
      const owned = (known.owners.get(owner) ?? 0) + change;
      if (owned > 0) known.owners.set(owner, owned);
      else known.owners.delete(owner);
      if (known.count === 0) this.#sockets.delete(file);
    }
  }

  /** A reference to a socket is gone: if all that are left are in queues, somebody has to see whose queues these are. */
  check(socket: RightsHolder): void {
    if (this.#sockets.get(socket)?.count !== socket.references) return;
    if (this.#suspects.size === 0) this.#kernel.later(() => this.#collect());
    this.#suspects.add(socket);
  }

  #collect(): void {
    const suspects = [...this.#suspects];
    this.#suspects.clear();
    for (const suspect of suspects) {
      const unreachable = this.#unreachable(suspect);
      // Each is released when the others' queues, or its own, let go of it.
      for (const socket of unreachable) socket.dropQueuedRights();
    }
  }

  /**
   * From a socket back to those in whose queues it is, and so on: empty as soon as one of them can be reached in another
   * way, else all of them, since nobody can get at any.
   */
  #unreachable(suspect: RightsHolder): ReadonlySet<RightsHolder> {
    const seen = new Set([suspect]);
    const next = [suspect];
    for (let socket = next.pop(); socket; socket = next.pop()) {
      const known = this.#sockets.get(socket);
      if (known === undefined || socket.references > known.count) return none;
      for (const owner of known.owners.keys()) {
        const holder = owner.heldBy ?? owner;
        if (seen.has(holder)) continue;
        seen.add(holder);
        next.push(holder);
      }
    }
    return seen;
  }
}

const none: ReadonlySet<RightsHolder> = new Set();

function isHolder(file: FileDescription): file is RightsHolder {
  return 'dropQueuedRights' in file;
}
