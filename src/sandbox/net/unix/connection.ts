// Unix sockets with connections: stream and sequenced packets. How they listen, connect, accept, shut down and end is
// the same; what lies in their queues is not (stream.ts, packets.ts).

import { Errno } from '../../abi/errno.ts';
import { SocketType } from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Inode } from '../../vfs/inode.ts';
import type { Socket } from '../socket.ts';
import { whenSocketReady } from '../waiting.ts';
import { isHostServed, OutsideConnection } from './outside.ts';
import { type Peer, Shut, shutOf, UnixSocket } from './unix-socket.ts';

export type ConnectionState = 'closed' | 'listening' | 'established';

export abstract class UnixConnection extends UnixSocket {
  state: ConnectionState = 'closed';
  readonly #waiting: UnixConnection[] = [];
  #backlog = 0;
  /** Made by connect(2) and not accepted yet. */
  #embryo = false;
  /** Connected to a program of the host. */
  protected outside: OutsideConnection | undefined;

  /** Another of its kind, for the other end of a connection. */
  protected abstract sibling(task: Task): UnixConnection;
  protected abstract readonly hasUnread: boolean;
  protected abstract dropOwn(): void;

  override get stateNumber(): number {
    return this.state === 'established' ? 3 : 1;
  }
  override get listening(): boolean {
    return this.state === 'listening';
  }

  override dropQueuedRights(): void {
    this.dropOwn();
    for (const connection of this.#waiting) connection.dropOwn();
  }

  static pair(task: Task, one: UnixConnection, other: UnixConnection): void {
    const identity = identityOf(task);
    one.#join(other, identity);
    other.#join(one, identity);
  }

  #join(peer: UnixConnection, identity: Peer | undefined): void {
    this.peer = peer;
    this.state = 'established';
    this.peerIdentity = identity;
  }

  override listen(task: Task, backlog: number): number {
    if (this.boundName === undefined) return -Errno.EINVAL;
    if (this.state === 'established') return -Errno.EINVAL;
    const grew = backlog > this.#backlog;
    this.#backlog = backlog;
    this.state = 'listening';
    this.peerIdentity = identityOf(task);
    if (grew) this.queue.notify(Poll.wrband);
    return 0;
  }

  get #full(): boolean {
    return this.#waiting.length > this.#backlog;
  }

  override connect(task: Task, address: Uint8Array, dontWait: boolean): number {
    if (this.options.passCredentials && this.boundName === undefined) {
      const bound = this.autobind(task);
      if (bound < 0) return bound;
    }
    let listener: UnixConnection | undefined;
    const attempt = (): number => {
      const found = this.find(task, address);
      if (typeof found === 'number') return found;
      if (!(found instanceof UnixSocket)) return this.#connectOutside(task, found);
      if (!(found instanceof UnixConnection)) return -Errno.EPROTOTYPE;
      listener = found;
      return this.#connectTo(task, found);
    };
    const result = attempt();
    if (result !== -Errno.EAGAIN || !listener) return result;
    // Those who wait for a place in the backlog do so on the listener's queue, with a bit that nobody else uses.
    return whenSocketReady(
      task,
      listener,
      dontWait,
      { events: Poll.wrband, timeout: this.options.sendTimeout, exclusive: true, holds: this },
      attempt,
    );
  }

  /** A socket's file that no program of the sandbox has bound. */
  #connectOutside(task: Task, inode: Inode): number {
    if (!isHostServed(inode)) return -Errno.ECONNREFUSED;
    if (this.state !== 'closed') return this.state === 'established' ? -Errno.EISCONN : -Errno.EINVAL;
    const fd = inode.connectHost(this.type);
    if (fd < 0) return fd;
    this.outside = new OutsideConnection(task.kernel.host, fd, this.queue);
    this.state = 'established';
    return 0;
  }

  #connectTo(task: Task, listener: UnixConnection): number {
    if (listener.state !== 'listening' || listener.shut & Shut.receive) return -Errno.ECONNREFUSED;
    if (listener.#full) return -Errno.EAGAIN;
    if (this.state === 'established') return -Errno.EISCONN;
    if (this.state !== 'closed') return -Errno.EINVAL;
    const other = listener.sibling(task);
    other.#embryo = true;
    other.heldBy = listener;
    other.boundName = listener.boundName;
    other.options.passCredentials = listener.options.passCredentials;
    other.#join(this, identityOf(task));
    this.#join(other, listener.peerIdentity);
    listener.#waiting.push(other);
    listener.queue.notify(Poll.in | Poll.rdnorm);
    return 0;
  }

  override accept(_task: Task): Socket | number {
    if (this.state !== 'listening') return -Errno.EINVAL;
    const connection = this.#waiting.shift();
    if (!connection) return this.shut & Shut.receive ? -Errno.EINVAL : -Errno.EAGAIN;
    connection.#embryo = false;
    connection.heldBy = undefined;
    this.queue.notify(Poll.wrband);
    return connection;
  }

  override shutdown(_task: Task, how: number): number {
    const bits = shutOf(how);
    this.shut |= bits;
    this.outside?.shutdown(how);
    const { peer } = this;
    if (peer instanceof UnixConnection) {
      peer.shut |= (bits & Shut.receive ? Shut.send : 0) | (bits & Shut.send ? Shut.receive : 0);
      peer.changed();
    }
    this.changed();
    return 0;
  }

  /** sk_state_change. */
  protected changed(): void {
    const events = Poll.in | Poll.rdnorm | Poll.rdhup | Poll.out | Poll.wrnorm;
    this.queue.notify(this.shut === Shut.both ? events | Poll.hup : events);
  }

  override readiness(events: number): number {
    if (this.outside) {
      const ended = this.shut === Shut.both ? Poll.hup : 0;
      const closed = this.shut & Shut.receive ? events & (Poll.in | Poll.rdnorm | Poll.rdhup) : 0;
      return this.outside.readiness(events) | ended | closed;
    }
    let ready = 0;
    if (this.pendingError !== 0) ready |= Poll.err;
    if (this.shut === Shut.both) ready |= Poll.hup;
    if (this.shut & Shut.receive) ready |= Poll.rdhup | Poll.in | Poll.rdnorm;
    if (this.hasUnread || this.#waiting.length > 0) ready |= Poll.in | Poll.rdnorm;
    if (this.state === 'closed') ready |= Poll.hup;
    if (this.state !== 'listening' && this.hasRoom) ready |= Poll.out | Poll.wrnorm | Poll.wrband;
    else if (events & Poll.out) this.wantRoom();
    return ready & (events | Poll.err | Poll.hup);
  }

  protected override release(): void {
    const { peer } = this;
    this.outside?.close();
    const unread = this.hasUnread || this.#embryo;
    this.shut = Shut.both;
    const waiting = this.#waiting.splice(0);
    super.release();
    this.state = 'closed';
    if (peer instanceof UnixConnection && !peer.dead) {
      peer.shut = Shut.both;
      if (unread) peer.pendingError = Errno.ECONNRESET;
      peer.changed();
    }
    for (const connection of waiting) connection.unreference();
    // Those who wait for a place see that there is no listener any more.
    this.queue.notify(Poll.wrband | Poll.hup);
  }

  override get isStream(): boolean {
    return this.type === SocketType.stream;
  }
}

export function identityOf(task: Task): Peer {
  return { process: task.process, credentials: task.credentials };
}
