// A socket of the host's network as a socket of the sandbox (AF_INET and AF_INET6 with the host's network). The host does
// the work; what is decided here is whether a call waits, and which options and control messages may pass.

import { Errno } from '../../abi/errno.ts';
import {
  ControlHeader,
  Family,
  familyOf,
  IpOption,
  Ipv6Option,
  Level,
  Message,
  readInt,
  Shutdown,
  SocketIoctl,
  SocketOption,
  SocketType,
  TcpOption,
} from '../../abi/socket.ts';
import type { HostFd } from '../../host/contract.ts';
import type { HostSockets } from '../../host/network.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll, type WaitQueue } from '../../kernel/wait-queue.ts';
import { HostQueue } from '../../vfs/dev/host-file.ts';
import type { Io } from '../../vfs/io.ts';
import type { ControlMessage, NetworkNamespace } from '../contract.ts';
import { parseControl } from '../messages.ts';
import { type Incoming, type Outgoing, Socket } from '../socket.ts';
import { whenSocketReady } from '../waiting.ts';

const watched = Poll.in | Poll.pri | Poll.out | Poll.rdhup;
const none = new Uint8Array(0);
const mostDatagram = 65_536;
/** What one call moves of a stream that does not go straight to the program's memory. */
const streamPiece = 262_144;

/** SOL_SOCKET options that the host has to know; the others are the sandbox's own. */
const passedSocketOptions: ReadonlySet<number> = new Set([
  SocketOption.reuseAddress,
  SocketOption.reusePort,
  SocketOption.keepAlive,
  SocketOption.broadcast,
  SocketOption.dontRoute,
  SocketOption.sendBuffer,
  SocketOption.receiveBuffer,
  SocketOption.linger,
  SocketOption.outOfBandInline,
  SocketOption.receiveLowWater,
  SocketOption.timestampOld,
  SocketOption.timestampNew,
  SocketOption.timestampNsOld,
  SocketOption.timestampNsNew,
]);
const askedSocketOptions: ReadonlySet<number> = new Set([
  ...passedSocketOptions,
  SocketOption.error,
  SocketOption.acceptConnections,
  SocketOption.memoryInfo,
]);

/** Options of protocols: those that are known, without the ones that reach further than the socket. */
const passed: ReadonlyMap<number, ReadonlySet<number>> = new Map([
  [
    Level.tcp as number,
    new Set<number>(Object.values(TcpOption).filter((name) => name !== TcpOption.upperProtocol)),
  ],
  [Level.ip, new Set<number>(Object.values(IpOption).filter((name) => name !== IpOption.transparent))],
  [Level.ipv6, new Set<number>(Object.values(Ipv6Option))],
  [Level.udp, new Set([1])],
]);

/** Control messages that programs may send. */
function mayPass({ level, type }: ControlMessage): boolean {
  if (level === Level.ip)
    return type === IpOption.packetInfo || type === IpOption.timeToLive || type === IpOption.typeOfService;
  if (level === Level.ipv6)
    return type === Ipv6Option.packetInfo || type === Ipv6Option.hopLimit || type === Ipv6Option.trafficClass;
  return false;
}

/** Control messages as sendmsg(2) wants them. */
function formatControl(messages: readonly ControlMessage[]): Uint8Array {
  const sizeOf = ({ data }: ControlMessage): number => ControlHeader.size + Math.ceil(data.length / 8) * 8;
  const bytes = new Uint8Array(messages.reduce((sum, message) => sum + sizeOf(message), 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const message of messages) {
    view.setUint32(at, ControlHeader.size + message.data.length, true);
    view.setInt32(at + ControlHeader.level, message.level, true);
    view.setInt32(at + ControlHeader.type, message.type, true);
    bytes.set(message.data, at + ControlHeader.size);
    at += sizeOf(message);
  }
  return bytes;
}

export class HostSocket extends Socket {
  readonly #sockets: HostSockets;
  readonly #fd: HostFd;
  readonly #hostQueue: HostQueue;
  #shutReceive = false;

  /** Takes over the descriptor, which does not block. */
  constructor(
    task: Task,
    namespace: NetworkNamespace,
    sockets: HostSockets,
    fd: HostFd,
    kind: { readonly family: number; readonly type: number; readonly protocol: number },
  ) {
    super(task, namespace, kind.family, kind.type, kind.protocol);
    this.#sockets = sockets;
    this.#fd = fd;
    this.#hostQueue = new HostQueue(task.kernel.host, fd);
  }

  override get queue(): WaitQueue {
    return this.#hostQueue;
  }

  override bind(_task: Task, address: Uint8Array): number {
    return this.#sockets.bind(this.#fd, address);
  }
  override listen(_task: Task, backlog: number): number {
    return this.#sockets.listen(this.#fd, backlog);
  }

  override accept(task: Task): Socket | number {
    if (this.type !== SocketType.stream) return -Errno.EOPNOTSUPP;
    const fd = this.kernel.host.accept(this.#fd);
    this.#hostQueue.arm(Poll.in);
    if (fd < 0) return fd;
    return new HostSocket(task, this.namespace, this.#sockets, fd, this);
  }

  override connect(task: Task, address: Uint8Array, dontWait: boolean): number {
    const family = familyOf(address);
    if (address.length >= 2 && ![Family.unspecified, Family.inet, Family.inet6].includes(family as 0))
      return -Errno.EAFNOSUPPORT;
    const result = this.#sockets.connect(this.#fd, address);
    const waits = result === -Errno.EINPROGRESS || result === -Errno.EALREADY;
    if (!waits || dontWait) return result;
    this.#hostQueue.arm(Poll.out);
    return whenSocketReady(
      task,
      this,
      false,
      { events: Poll.out, timeout: this.options.sendTimeout, late: -Errno.EINPROGRESS },
      () => {
        if ((this.kernel.host.readiness(this.#fd, Poll.out) & (Poll.out | Poll.err | Poll.hup)) === 0) {
          this.#hostQueue.arm(Poll.out);
          return -Errno.EAGAIN;
        }
        // As the second half of a blocking connect: its outcome, and the host's socket is told that it was fetched.
        return this.#sockets.connect(this.#fd, address);
      },
    );
  }

  override name(): Uint8Array | number {
    return this.#sockets.name(this.#fd, false);
  }
  override peerName(): Uint8Array | number {
    return this.#sockets.name(this.#fd, true);
  }
  override shutdown(_task: Task, how: number): number {
    if (how !== Shutdown.write) this.#shutReceive = true;
    return this.#sockets.shutdown(this.#fd, how);
  }

  override prepare(_task: Task, message: Outgoing): number {
    return message.control.every((one) => one.level === Level.socket || mayPass(one)) ? 0 : -Errno.EINVAL;
  }

  override send(task: Task, io: Io, message: Outgoing): number {
    const flags = message.flags & (Message.outOfBand | Message.dontRoute | Message.more | Message.confirm);
    const plain = flags === 0 && !message.address && message.control.length === 0;
    let sent: number;
    if (plain && this.isStream && io.left > 0) sent = io.takeToHost(this.#fd, -1, io.left);
    else sent = this.#sendBytes(io, message, flags);
    if (sent === -Errno.EAGAIN || (sent > 0 && io.left > 0)) this.#hostQueue.arm(Poll.out);
    return sent === -Errno.EPIPE && this.isStream ? this.broken(task, message.flags) : sent;
  }

  #sendBytes(io: Io, message: Outgoing, flags: number): number {
    if (!this.isStream && io.left > mostDatagram) return -Errno.EMSGSIZE;
    // A piece of a stream is sent whole or not at all: there is no way back into the program's memory.
    const able = Poll.out | Poll.err | Poll.hup;
    if (this.isStream && io.left > 0 && (this.kernel.host.readiness(this.#fd, Poll.out) & able) === 0)
      return -Errno.EAGAIN;
    const bytes = new Uint8Array(Math.min(io.left, this.isStream ? 2048 : mostDatagram));
    const taken = bytes.length > 0 ? io.take(bytes, 0, bytes.length) : 0;
    if (taken < bytes.length) return -Errno.EFAULT;
    const control = formatControl(message.control.filter(mayPass));
    return this.#sockets.send(this.#fd, bytes, flags, message.address ?? none, control);
  }

  override receive(_task: Task, io: Io, message: Incoming): number {
    const flags =
      message.flags &
      (Message.peek | Message.outOfBand | Message.truncated | Message.errorQueue | Message.dontRoute);
    if (this.isStream && flags === 0 && io.left > 0) {
      const count = io.putFromHost(this.#fd, -1, io.left);
      if (count !== 0) this.#hostQueue.arm(Poll.in);
      return count;
    }
    const room = new Uint8Array(Math.min(io.left, this.isStream ? streamPiece : mostDatagram));
    const received = this.#sockets.receive(this.#fd, room, flags);
    this.#hostQueue.arm(Poll.in);
    if (typeof received === 'number') {
      // The host's socket never waits; one that does would now say that this is the end.
      const waits = !this.nonBlocking && (message.flags & Message.dontWait) === 0;
      return received === -Errno.EAGAIN && this.#shutReceive && waits ? 0 : received;
    }
    const { count, address, control } = received;
    const moved = Math.min(count, room.length);
    if (moved > 0 && !(this.isStream && flags & Message.truncated) && io.put(room, 0, moved) < moved)
      return -Errno.EFAULT;
    if (!this.isStream) message.address = address;
    message.outFlags |= received.flags & (Message.truncated | Message.outOfBand | Message.errorQueue);
    const messages = parseControl(control);
    if (typeof messages !== 'number') message.control.push(...messages);
    return count;
  }

  override readiness(events: number): number {
    const asked = events & watched;
    const ready = this.kernel.host.readiness(this.#fd, asked) & (asked | Poll.err | Poll.hup);
    this.#hostQueue.arm(asked & ~ready);
    const normal = (ready & Poll.in ? Poll.rdnorm : 0) | (ready & Poll.out ? Poll.wrnorm : 0);
    return ready | (normal & events);
  }

  override inQueue(): number {
    return this.#count(SocketIoctl.inQueue);
  }
  override outQueue(): number {
    return this.#count(SocketIoctl.outQueue);
  }
  #count(command: number): number {
    const data = new Uint8Array(4);
    const result = this.kernel.host.ioctl(this.#fd, command, data);
    return result < 0 ? result : readInt(data);
  }

  override getSocketOption(task: Task, name: number, room: number): Uint8Array | number {
    if (!askedSocketOptions.has(name)) return super.getSocketOption(task, name, room);
    return this.#sockets.getOption(this.#fd, Level.socket, name, room);
  }
  override setSocketOption(task: Task, name: number, value: Uint8Array): number {
    const result = super.setSocketOption(task, name, value);
    if (result < 0 || !passedSocketOptions.has(name)) return result;
    return this.#sockets.setOption(this.#fd, Level.socket, name, value);
  }
  override getOption(_task: Task, level: number, name: number, room: number): Uint8Array | number {
    if (!passed.get(level)?.has(name)) return passed.has(level) ? -Errno.ENOPROTOOPT : -Errno.EOPNOTSUPP;
    return this.#sockets.getOption(this.#fd, level, name, room);
  }
  override setOption(_task: Task, level: number, name: number, value: Uint8Array): number {
    if (!passed.get(level)?.has(name)) return -Errno.ENOPROTOOPT;
    return this.#sockets.setOption(this.#fd, level, name, value);
  }

  protected override release(): void {
    this.#hostQueue.close();
    this.kernel.host.close(this.#fd);
  }
}
