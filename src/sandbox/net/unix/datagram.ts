// SOCK_DGRAM Unix sockets.

import { Errno } from '../../abi/errno.ts';
import { Family, familyOf, Message, SocketType } from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Io } from '../../vfs/io.ts';
import type { Incoming, Outgoing } from '../socket.ts';
import { identityOf } from './connection.ts';
import { giveBytes, MessageQueue, takeBytes, timestampControl } from './messages.ts';
import { RightsInFlight } from './rights.ts';
import { costOf, Shut, shutOf, type UnixNamespace, UnixSocket } from './unix-socket.ts';

/** net.unix.max_dgram_qlen. */
const longestQueue = 10;

export class UnixDatagram extends UnixSocket {
  readonly #messages = new MessageQueue();
  /** Senders that found this one's queue full. */
  readonly #senders = new Set<UnixDatagram>();

  constructor(task: Task, home: UnixNamespace) {
    super(task, home, SocketType.datagram);
  }

  static pair(task: Task, one: UnixDatagram, other: UnixDatagram): void {
    one.peer = other;
    other.peer = one;
    one.peerIdentity = other.peerIdentity = identityOf(task);
  }

  override get stateNumber(): number {
    return this.peer ? 3 : 1;
  }
  override dropQueuedRights(): void {
    for (let message = this.#messages.shift(); message; message = this.#messages.shift())
      if (message.rights) this.kernel.part(RightsInFlight).drop(message.rights);
  }
  override inQueue(): number {
    return this.#messages.first?.bytes.length ?? 0;
  }

  /** unix_may_send: a connected socket takes messages from its peer only. */
  #accepts(from: UnixSocket): boolean {
    return this.peer === undefined || this.peer === from;
  }

  #isFullFor(from: UnixDatagram): boolean {
    return this !== from && this.peer !== from && this.#messages.length > longestQueue;
  }

  override connect(task: Task, address: Uint8Array, _dontWait: boolean): number {
    if (address.length < 2) return -Errno.EINVAL;
    if (familyOf(address) === Family.unspecified) {
      this.#setPeer(undefined);
      return 0;
    }
    const other = this.find(task, address);
    if (this.options.passCredentials && typeof other !== 'number') {
      const bound = this.autobind(task);
      if (bound < 0) return bound;
    }
    if (typeof other === 'number') return other;
    if (!(other instanceof UnixSocket)) return -Errno.ECONNREFUSED;
    if (!(other instanceof UnixDatagram)) return -Errno.EPROTOTYPE;
    if (!other.#accepts(this)) return -Errno.EPERM;
    this.#setPeer(other);
    return 0;
  }

  #setPeer(peer: UnixDatagram | undefined): void {
    const old = this.peer;
    this.peer = peer;
    if (!old || old === peer) return;
    // unix_dgram_disconnected: what the former peer sent is lost, and he learns of it.
    this.dropQueuedRights();
    if (!old.dead && old.peer === this) old.fail(Errno.ECONNRESET);
  }

  override shutdown(_task: Task, how: number): number {
    this.shut |= shutOf(how);
    this.queue.notify(Poll.in | Poll.rdnorm | Poll.rdhup | Poll.out | Poll.wrnorm | Poll.hup);
    this.#roomForSenders();
    return 0;
  }

  override send(task: Task, io: Io, message: Outgoing): number {
    if (message.flags & Message.outOfBand) return -Errno.EOPNOTSUPP;
    const other = message.address ? this.find(task, message.address) : (this.peer ?? -Errno.ENOTCONN);
    if (typeof other === 'number') return other;
    if (!(other instanceof UnixSocket)) return -Errno.ECONNREFUSED;
    if (!(other instanceof UnixDatagram)) return -Errno.EPROTOTYPE;
    if (io.left > this.options.sendBuffer - 32) return -Errno.EMSGSIZE;
    const error = this.takeError();
    if (error < 0) return error;
    if (this.shut & Shut.send) return -Errno.EPIPE;
    if (this.options.passCredentials) {
      const bound = this.autobind(task);
      if (bound < 0) return bound;
    }
    if (!this.mayAllocate) {
      this.wantRoom();
      return -Errno.EAGAIN;
    }
    if (!other.#accepts(this)) return -Errno.EPERM;
    if (other.dead) {
      this.peer = undefined;
      this.dropQueuedRights();
      return -Errno.ECONNREFUSED;
    }
    if (other.shut & Shut.receive) return -Errno.EPIPE;
    if (other.#isFullFor(this)) {
      other.#senders.add(this);
      return -Errno.EAGAIN;
    }
    const bytes = takeBytes(io);
    if (typeof bytes === 'number') return bytes;
    other.#messages.push({
      bytes,
      cost: costOf(bytes.length, true),
      from: this,
      address: this.boundName === undefined ? undefined : this.name(),
      sender: this.senderFor(task, message, other),
      rights: this.rightsOf(task, message, other),
      timestamp: other.options.timestamp(),
    });
    other.queue.notify(Poll.in | Poll.rdnorm);
    return bytes.length;
  }

  override receive(task: Task, io: Io, message: Incoming): number {
    if (message.flags & Message.outOfBand) return -Errno.EOPNOTSUPP;
    const error = this.takeError();
    if (error < 0) return error;
    const { first } = this.#messages;
    if (!first) {
      const waits = !this.nonBlocking && (message.flags & Message.dontWait) === 0;
      return waits && this.shut & Shut.receive ? 0 : -Errno.EAGAIN;
    }
    const count = giveBytes(io, first.bytes, message);
    if (count < 0) return count;
    message.address = first.address;
    if (first.timestamp) message.control.push(timestampControl(first.timestamp));
    this.tellSender(task, message, first.sender);
    if (first.rights) this.receiveRights(message, first.rights);
    if (!message.peeks) {
      this.#messages.shift();
      if (this.#messages.length <= longestQueue) this.#roomForSenders();
    }
    return count;
  }

  #roomForSenders(): void {
    if (this.#senders.size === 0) return;
    const senders = [...this.#senders];
    this.#senders.clear();
    for (const sender of senders) sender.queue.notify(Poll.out | Poll.wrnorm | Poll.wrband);
  }

  override readiness(events: number): number {
    let ready = 0;
    if (this.pendingError !== 0) ready |= Poll.err;
    if (this.shut & Shut.receive) ready |= Poll.rdhup | Poll.in | Poll.rdnorm;
    if (this.shut === Shut.both) ready |= Poll.hup;
    if (this.#messages.length > 0) ready |= Poll.in | Poll.rdnorm;
    if (events & (Poll.out | Poll.wrnorm | Poll.wrband)) {
      const { peer } = this;
      if (peer instanceof UnixDatagram && !peer.dead && peer.#isFullFor(this)) peer.#senders.add(this);
      else if (this.hasRoom) ready |= Poll.out | Poll.wrnorm | Poll.wrband;
      else this.wantRoom();
    }
    return ready & (events | Poll.err | Poll.hup);
  }

  protected override release(): void {
    super.release();
    this.#roomForSenders();
  }
}
