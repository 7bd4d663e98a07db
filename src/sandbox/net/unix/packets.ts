// SOCK_SEQPACKET Unix sockets: connections that keep message boundaries.

import { Errno } from '../../abi/errno.ts';
import { Message, SocketType } from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Io } from '../../vfs/io.ts';
import type { Incoming, Outgoing } from '../socket.ts';
import { UnixConnection } from './connection.ts';
import { giveBytes, MessageQueue, takeBytes, timestampControl } from './messages.ts';
import { RightsInFlight } from './rights.ts';
import { costOf, Shut, type UnixNamespace } from './unix-socket.ts';

export class UnixPackets extends UnixConnection {
  readonly #messages = new MessageQueue();

  constructor(task: Task, home: UnixNamespace) {
    super(task, home, SocketType.seqPacket);
  }

  protected override sibling(task: Task): UnixPackets {
    return new UnixPackets(task, this.home);
  }
  protected override get hasUnread(): boolean {
    return this.#messages.length > 0;
  }
  override inQueue(): number {
    return this.listening ? -Errno.EINVAL : this.#messages.bytes;
  }
  protected override dropOwn(): void {
    for (let message = this.#messages.shift(); message; message = this.#messages.shift())
      if (message.rights) this.kernel.part(RightsInFlight).drop(message.rights);
  }

  override send(task: Task, io: Io, message: Outgoing): number {
    const error = this.takeError();
    if (error < 0) return error;
    if (this.outside) return this.shut & Shut.send ? -Errno.EPIPE : this.outside.send(io, message);
    const { peer } = this;
    if (this.state !== 'established' || !(peer instanceof UnixPackets)) return -Errno.ENOTCONN;
    if (message.flags & Message.outOfBand) return -Errno.EOPNOTSUPP;
    if (io.left > this.options.sendBuffer - 32) return -Errno.EMSGSIZE;
    if (this.shut & Shut.send || peer.dead || peer.shut & Shut.receive) return -Errno.EPIPE;
    if (!this.mayAllocate) {
      this.wantRoom();
      return -Errno.EAGAIN;
    }
    const bytes = takeBytes(io);
    if (typeof bytes === 'number') return bytes;
    peer.#messages.push({
      bytes,
      cost: costOf(bytes.length, true),
      from: this,
      address: this.boundName === undefined ? undefined : this.name(),
      sender: this.senderFor(task, message, peer),
      rights: this.rightsOf(task, message, peer),
      timestamp: peer.options.timestamp(),
    });
    peer.queue.notify(Poll.in | Poll.rdnorm);
    return bytes.length;
  }

  override receive(task: Task, io: Io, message: Incoming): number {
    if (this.state !== 'established') return -Errno.ENOTCONN;
    if (message.flags & Message.outOfBand) return -Errno.EOPNOTSUPP;
    const error = this.takeError();
    if (error < 0) return error;
    if (this.outside) return this.shut & Shut.receive ? 0 : this.outside.receive(io, message);
    const { first } = this.#messages;
    if (!first) return this.shut & Shut.receive ? 0 : -Errno.EAGAIN;
    const count = giveBytes(io, first.bytes, message);
    if (count < 0) return count;
    message.address = first.address;
    if (first.timestamp) message.control.push(timestampControl(first.timestamp));
    this.tellSender(task, message, first.sender);
    if (first.rights) this.receiveRights(message, first.rights);
    if (!message.peeks) this.#messages.shift();
    return count;
  }
}
