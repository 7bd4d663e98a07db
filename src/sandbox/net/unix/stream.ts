// SOCK_STREAM Unix sockets. The bytes on their way lie in one ring for each direction; beside it, segments say what each
// piece cost its sender, and which of them carry credentials or open files (they are where Linux has its buffers).

import { Errno } from '../../abi/errno.ts';
import { Message, SocketType } from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Io } from '../../vfs/io.ts';
import { ByteQueue } from '../byte-queue.ts';
import type { Incoming, Outgoing, Sender } from '../socket.ts';
import { UnixConnection } from './connection.ts';
import { type Rights, RightsInFlight } from './rights.ts';
import { costOf, mostSegment, Shut, type UnixNamespace, type UnixSocket } from './unix-socket.ts';

interface Segment {
  /** Bytes of it that are still to be read. */
  left: number;
  readonly cost: number;
  readonly from: UnixSocket;
  readonly sender: Sender | undefined;
  rights: Rights | undefined;
}

function sameSender(one: Sender | undefined, other: Sender | undefined): boolean {
  if (one === other) return true;
  return one?.process === other?.process && one?.uid === other?.uid && one?.gid === other?.gid;
}

export class UnixStream extends UnixConnection {
  readonly #bytes = new ByteQueue();
  #segments: Segment[] = [];
  /** Index of the oldest segment. */
  #first = 0;

  constructor(task: Task, home: UnixNamespace) {
    super(task, home, SocketType.stream);
  }

  protected override sibling(task: Task): UnixStream {
    return new UnixStream(task, this.home);
  }

  protected override get hasUnread(): boolean {
    return this.#bytes.length > 0;
  }
  override inQueue(): number {
    return this.listening ? -Errno.EINVAL : this.#bytes.length;
  }

  protected override dropOwn(): void {
    const segments = this.#segments.slice(this.#first);
    this.#segments = [];
    this.#first = 0;
    this.#bytes.clear();
    const flight = this.kernel.part(RightsInFlight);
    for (const { from, cost, rights } of segments) {
      from.uncharge(cost);
      if (rights) flight.drop(rights);
    }
  }

  override send(task: Task, io: Io, message: Outgoing): number {
    if (message.flags & Message.outOfBand) return -Errno.EOPNOTSUPP;
    const { peer } = this;
    if (message.address) return this.state === 'established' ? -Errno.EISCONN : -Errno.EOPNOTSUPP;
    if (this.outside) {
      const sent = this.shut & Shut.send ? -Errno.EPIPE : this.outside.send(io, message);
      return sent === -Errno.EPIPE ? this.broken(task, message.flags) : sent;
    }
    if (!(peer instanceof UnixStream)) return -Errno.ENOTCONN;
    if (this.shut & Shut.send) return this.broken(task, message.flags);
    if (io.left === 0) return 0;
    if (peer.dead || peer.shut & Shut.receive) return this.broken(task, message.flags);
    const error = this.takeError();
    if (error < 0) return error;
    // How much the account has room for: it may be overdrawn by the last segment.
    const most = Math.min(mostSegment, (this.options.sendBuffer >> 1) - 64);
    const limit = this.options.sendBuffer;
    let cost = this.sentCost;
    let room = 0;
    while (room < io.left && cost < limit) {
      const size = Math.min(io.left - room, most);
      cost += costOf(size, false);
      room += size;
    }
    if (room === 0) {
      this.wantRoom();
      return -Errno.EAGAIN;
    }
    const moved = peer.#bytes.take(io, room);
    if (moved <= 0) return moved;
    const sender = this.senderFor(task, message, peer);
    let rights = message.rights ? this.rightsOf(task, message, peer) : undefined;
    for (let done = 0; done < moved; ) {
      const size = Math.min(moved - done, most);
      const segment: Segment = { left: size, cost: costOf(size, false), from: this, sender, rights };
      this.charge(segment.cost);
      peer.#segments.push(segment);
      rights = undefined;
      done += size;
    }
    peer.queue.notify(Poll.in | Poll.rdnorm);
    return moved;
  }

  override receive(task: Task, io: Io, message: Incoming): number {
    if (this.state !== 'established') return -Errno.EINVAL;
    if (message.flags & Message.outOfBand) return -Errno.EOPNOTSUPP;
    if (this.outside) return this.shut & Shut.receive ? 0 : this.outside.receive(io, message);
    const first = this.#segments[this.#first];
    if (!first) {
      const error = this.takeError();
      if (error < 0) return error;
      return this.shut & Shut.receive ? 0 : -Errno.EAGAIN;
    }
    const wanted = io.left;
    let count = 0;
    let rights: Rights | undefined;
    const sender = first.sender;
    const passes = this.options.passCredentials;
    for (let i = this.#first; count < wanted; i++) {
      const segment = this.#segments[i];
      if (!segment || (passes && !sameSender(segment.sender, sender))) break;
      count = Math.min(wanted, count + segment.left);
      rights = segment.rights;
      // What comes after open files is another message.
      if (rights) break;
    }
    if (message.outFlags === 0 && message.control.length === 0) this.tellSender(task, message, sender);
    if (message.address === undefined && this.peer?.boundName !== undefined)
      message.address = this.peer.name();
    const moved = this.#bytes.give(io, count);
    if (moved < 0) return moved;
    if (rights && moved === count) this.receiveRights(message, rights);
    if (!message.peeks) this.#consume(moved, rights);
    return moved;
  }

  #consume(count: number, taken: Rights | undefined): void {
    this.#bytes.drop(count);
    let left = count;
    while (left > 0) {
      const segment = this.#segments[this.#first];
      if (!segment) break;
      if (segment.rights === taken) segment.rights = undefined;
      const step = Math.min(left, segment.left);
      segment.left -= step;
      left -= step;
      if (segment.left > 0) break;
      this.#first++;
      segment.from.uncharge(segment.cost);
    }
    if (this.#first === this.#segments.length) {
      this.#segments = [];
      this.#first = 0;
    } else if (this.#first > 256) {
      this.#segments = this.#segments.slice(this.#first);
      this.#first = 0;
    }
  }
}
