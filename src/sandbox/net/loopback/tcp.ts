// TCP over loopback, without segments: each side of a connection is a socket with the bytes that it has not read yet,
// and the other side puts them there. What programs see of the protocol (states, FIN, RST, backlog, windows) follows
// net/ipv4/tcp.c. What takes time on a network has happened when a call returns.

import { Errno } from '../../abi/errno.ts';
import {
  Family,
  familyOf,
  IpProtocol,
  Level,
  Message,
  Shutdown,
  SocketIoctl,
  SocketOption,
  SocketType,
  TcpOption,
  TcpState,
} from '../../abi/socket.ts';
import type { Task, Timer } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Io } from '../../vfs/io.ts';
import { ByteQueue } from '../byte-queue.ts';
import type { Incoming, Outgoing, Socket } from '../socket.ts';
import { whenSocketReady } from '../waiting.ts';
import { type Endpoint, isAny, isInet, isMulticast, parseEndpoint } from './addresses.ts';
import { InetSocket } from './inet-socket.ts';
import { parseSendControl } from './ip-options.ts';
import type { LoopbackNetwork } from './network.ts';
import type { PortTable } from './ports.ts';
import { TcpOptions } from './tcp-options.ts';

/** tcp_wmem[1], tcp_rmem[1], and what a loopback connection's send buffer grows to. */
const initialSendBuffer = 16_384;
const initialReceiveBuffer = 131_072;
const tunedSendBuffer = 3_939_840;
/** How much of the send buffer holds bytes; the rest is overhead. */
const tunedSendRoom = 3_845_120;
const tunedWindow = 65_536;
const sigurg = 23;
/** tcp_syn_retries: how long a connection is tried for. */
const connectTime = 127_000_000_000;
const second = 1_000_000_000;

const receivable = Poll.in | Poll.rdnorm;
const sendable = Poll.out | Poll.wrnorm;

export class TcpSocket extends InetSocket {
  state: number = TcpState.close;
  readonly tcp = new TcpOptions();
  readonly #in = new ByteQueue();
  #peer: TcpSocket | undefined;
  /** As the socket layer sees it: SS_UNCONNECTED, SS_CONNECTING, SS_CONNECTED. */
  #phase: 'unconnected' | 'connecting' | 'connected' = 'unconnected';
  #shutReceive = false;
  #shutSend = false;
  /** The other side will send no more (SOCK_DONE). */
  #finished = false;
  #released = false;
  /** It ended the connection first. */
  #endedFirst = false;
  /** A writer found no room. */
  wantsRoom = false;
  #tuple: string | undefined;

  // Of a listener.
  readonly #waiting: TcpSocket[] = [];
  /** Connections that wait for their first bytes (TCP_DEFER_ACCEPT). */
  readonly #deferred = new Map<TcpSocket, Timer>();
  /** Who found the backlog full. */
  readonly #callers = new Set<TcpSocket>();
  backlog = 0;
  #listener: TcpSocket | undefined;
  /** Who listens or connects: the owner of what is made for it. */
  readonly #task: Task;
  #patience: Timer | undefined;

  // Urgent data: where the byte is in the queue, or -1; and whether it was read.
  #urgentAt = -1;
  #urgentByte = -1;

  bytesSent = 0;
  bytesReceived = 0;
  segmentsSent = 0;
  segmentsReceived = 0;
  lastActive: number;

  constructor(task: Task, stack: LoopbackNetwork, family: number) {
    super(task, stack, family, SocketType.stream, IpProtocol.tcp);
    this.#task = task;
    this.options.sendBuffer = initialSendBuffer;
    this.options.receiveBuffer = initialReceiveBuffer;
    this.lastActive = task.kernel.clock.monotonic();
  }

  protected override get ports(): PortTable<this> {
    return this.stack.tcpPorts as unknown as PortTable<this>;
  }
  override get connected(): boolean {
    return this.#peer !== undefined && this.state !== TcpState.synSent && this.state !== TcpState.close;
  }
  override get listening(): boolean {
    return this.state === TcpState.listen;
  }
  get backlogUsed(): number {
    return this.#waiting.length;
  }
  /** Bytes that are not read yet. */
  get unread(): number {
    return this.#in.length;
  }
  protected override get mayBind(): boolean {
    return this.state === TcpState.close;
  }

  // Listening and connecting.

  override listen(_task: Task, backlog: number): number {
    if (this.#phase !== 'unconnected') return -Errno.EINVAL;
    if (this.state !== TcpState.close && this.state !== TcpState.listen) return -Errno.EINVAL;
    if (this.state === TcpState.close) {
      this.state = TcpState.listen;
      const held = this.bound ? 0 : this.hold(this.local.ip, 0);
      if (held < 0 || !this.ports.mayHave(this, this.local.ip, this.local.port)) {
        this.state = TcpState.close;
        return held < 0 ? held : -Errno.EADDRINUSE;
      }
      this.#shutReceive = this.#shutSend = false;
    }
    this.backlog = backlog;
    this.#admit();
    return 0;
  }

  /** The listener for an address, the most specific one; among those that share a port any. */
  #listenerAt({ ip, port }: Endpoint): TcpSocket | undefined {
    let best: TcpSocket[] = [];
    let score = 0;
    for (const socket of this.stack.tcpPorts.at(port)) {
      if (socket.state !== TcpState.listen) continue;
      const { local } = socket;
      let own = 0;
      if (local.ip === ip) own = 4;
      else if (isAny(local.ip)) {
        if (isInet(local.ip)) own = isInet(ip) ? 2 : 0;
        else own = isInet(ip) ? (socket.onlyInet6 ? 0 : 1) : 2;
      }
      if (own === 0 || own < score) continue;
      if (own > score) best = [];
      score = own;
      best.push(socket);
    }
    return best.length > 1 ? best[this.stack.random(best.length)] : best[0];
  }

  override connect(task: Task, address: Uint8Array, dontWait: boolean): number {
    if (address.length < 2) return -Errno.EINVAL;
    if (familyOf(address) === Family.unspecified) {
      this.#disconnect();
      return 0;
    }
    if (this.#phase === 'connected') return -Errno.EISCONN;
    const begins = this.#phase === 'unconnected';
    if (begins) {
      if (this.state !== TcpState.close) return -Errno.EISCONN;
      const started = this.#start(address);
      if (started < 0) return started;
    }
    if (this.state === TcpState.synSent && dontWait) return begins ? -Errno.EINPROGRESS : -Errno.EALREADY;
    if (begins && dontWait) return -Errno.EINPROGRESS;
    return whenSocketReady(
      task,
      this,
      false,
      { events: sendable, timeout: this.options.sendTimeout, late: -Errno.EINPROGRESS },
      () => (this.state === TcpState.synSent ? -Errno.EAGAIN : this.#outcome()),
    );
  }

  /** How an attempt to connect ended. */
  #outcome(): number {
    if (this.state !== TcpState.close) {
      this.#phase = 'connected';
      return 0;
    }
    const error = this.takeError();
    this.#disconnect();
    return error < 0 ? error : -Errno.ECONNABORTED;
  }

  /** Sends the SYN. */
  #start(address: Uint8Array): number {
    const wanted = parseEndpoint(this.family, address);
    if (typeof wanted === 'number') return wanted;
    if (wanted.isMapped && this.onlyInet6) return -Errno.ENETUNREACH;
    if (isMulticast(wanted.ip)) return -Errno.ENETUNREACH;
    const route = this.stack.route(wanted.ip);
    if (typeof route === 'number') return route;
    const remote = { ip: route.destination, port: wanted.port };
    const ip = isAny(this.local.ip) ? route.source : this.local.ip;
    if (this.bound) {
      const tuple = tupleOf({ ip, port: this.local.port }, remote);
      if (this.stack.connections.has(tuple)) return -Errno.EADDRNOTAVAIL;
      this.letGo();
      this.take({ ip, port: this.local.port });
    } else {
      const port = this.ports.chooseForConnection(
        (one) => !this.stack.connections.has(tupleOf({ ip, port: one }, remote)),
      );
      if (port < 0) return port;
      this.take({ ip, port });
    }
    this.remote = remote;
    this.#tuple = tupleOf(this.local, remote);
    this.stack.connections.add(this.#tuple);
    this.state = TcpState.synSent;
    this.#phase = 'connecting';
    this.pendingError = 0;
    const listener = this.#listenerAt(remote);
    if (!listener) this.#refused();
    else if (listener.#isFull) this.#waitFor(listener);
    else listener.#welcome(this);
    return 0;
  }

  get #isFull(): boolean {
    return this.#waiting.length > this.backlog;
  }

  #refused(): void {
    this.#abort(Errno.ECONNREFUSED);
  }

  /** The listener drops the SYN; it is repeated until there is room or nobody has patience any more. */
  #waitFor(listener: TcpSocket): void {
    this.#listener = listener;
    listener.#callers.add(this);
    const { clock, timers } = this.kernel;
    this.#patience = timers.at(clock.monotonic() + connectTime, () => this.#abort(Errno.ETIMEDOUT));
  }

  #stopWaiting(): void {
    const listener = this.#listener;
    if (listener) listener.#callers.delete(this);
    this.#listener = undefined;
    this.#patience?.cancel();
    this.#patience = undefined;
  }

  /** There may be room in the backlog. */
  #admit(): void {
    for (const caller of this.#callers) {
      if (this.#isFull) return;
      caller.#stopWaiting();
      this.#welcome(caller);
    }
  }

  /** Makes the other end of a connection. */
  #welcome(caller: TcpSocket): void {
    const { remote, local } = caller;
    if (!remote) return;
    const other = this.#sibling(this.#task);
    other.remote = local;
    other.take(remote);
    other.#tuple = tupleOf(remote, local);
    this.stack.connections.add(other.#tuple);
    other.#phase = 'connected';
    other.#establish(caller);
    caller.#establish(other);
    const patience = this.tcp.value(TcpOption.deferAccept);
    if (patience > 0) this.#defer(other, patience);
    else this.#offer(other);
    caller.queue.notify(sendable);
  }

  #offer(connection: TcpSocket): void {
    this.#waiting.push(connection);
    this.queue.notify(receivable);
  }

  #defer(connection: TcpSocket, seconds: number): void {
    connection.#listener = this;
    const { clock, timers } = this.kernel;
    const timer = timers.at(clock.monotonic() + seconds * second, () => this.#undefer(connection));
    this.#deferred.set(connection, timer);
  }

  #undefer(connection: TcpSocket): void {
    const timer = this.#deferred.get(connection);
    if (!timer) return;
    timer.cancel();
    this.#deferred.delete(connection);
    connection.#listener = undefined;
    this.#offer(connection);
  }

  #sibling(task: Task): TcpSocket {
    const other = new TcpSocket(task, this.stack, this.family);
    other.options.inherit(this.options);
    other.ip.inherit(this.ip);
    other.tcp.inherit(this.tcp);
    return other;
  }

  #establish(peer: TcpSocket): void {
    this.#peer = peer;
    this.state = TcpState.established;
    if (!this.options.sendBufferSet) this.options.sendBuffer = tunedSendBuffer;
    this.lastActive = this.kernel.clock.monotonic();
  }

  override accept(_task: Task): Socket | number {
    if (this.state !== TcpState.listen) return -Errno.EINVAL;
    const connection = this.#waiting.shift();
    if (!connection) return -Errno.EAGAIN;
    this.#admit();
    return connection;
  }

  // Moving bytes.

  /** How many bytes may lie at the peer. */
  #capacity(peer: TcpSocket): number {
    const own = this.options.sendBufferSet ? this.options.sendBuffer : tunedSendRoom;
    return own + peer.#window;
  }
  get #window(): number {
    return this.options.receiveBufferSet ? this.options.receiveBuffer >> 1 : tunedWindow;
  }

  override prepare(_task: Task, message: Outgoing): number {
    const said = parseSendControl(this.family, message.control);
    return typeof said === 'number' ? said : 0;
  }

  override send(task: Task, io: Io, message: Outgoing): number {
    if (this.state === TcpState.synSent) return -Errno.EAGAIN;
    const error = this.pendingError;
    const peer = this.#peer;
    if (error !== 0 || this.#shutSend || !peer || this.state === TcpState.close) {
      this.pendingError = 0;
      return error !== 0 && error !== Errno.EPIPE ? -error : this.broken(task, message.flags);
    }
    if (io.left === 0) return 0;
    const room = this.#capacity(peer) - peer.#in.length;
    if (room <= 0) {
      this.wantsRoom = true;
      return -Errno.EAGAIN;
    }
    if (peer.#released) {
      // Nobody is there: the answer to the bytes is a reset, which the next call learns of.
      const count = io.skip(Math.min(room, io.left));
      this.#reset();
      return count;
    }
    const moved = peer.#in.take(io, room);
    if (moved <= 0) return moved;
    const now = this.kernel.clock.monotonic();
    this.bytesSent += moved;
    this.segmentsSent++;
    this.lastActive = now;
    peer.bytesReceived += moved;
    peer.segmentsReceived++;
    peer.lastActive = now;
    if (message.flags & Message.outOfBand && io.left === 0) peer.#urge();
    if (peer.#listener) peer.#listener.#undefer(peer);
    peer.queue.notify(receivable);
    return moved;
  }

  /** The last byte in the queue is urgent; one before it that was not read is an ordinary byte now. */
  #urge(): void {
    this.#urgentAt = this.#in.length - 1;
    this.#urgentByte = this.#in.at(this.#urgentAt);
    this.asyncOwner?.signal(sigurg);
    this.queue.notify(Poll.pri);
  }

  override receive(_task: Task, io: Io, message: Incoming): number {
    if (message.flags & Message.errorQueue) return -Errno.EAGAIN;
    if (this.state === TcpState.listen) return -Errno.ENOTCONN;
    if (message.flags & Message.outOfBand) return this.#receiveUrgent(io, message);
    let available = this.#in.length;
    const inline = this.options.is(SocketOption.outOfBandInline);
    if (this.#urgentAt === 0 && !inline && available > 0 && io.left > 0 && !message.peeks) {
      // The urgent byte is not part of the stream.
      this.#in.drop(1);
      this.#urgentAt = -1;
      available--;
    }
    if (available === 0) {
      if (this.#finished) return 0;
      const error = this.takeError();
      if (error < 0) return error;
      if (this.#shutReceive) return 0;
      if (this.state === TcpState.close) return -Errno.ENOTCONN;
      return -Errno.EAGAIN;
    }
    // A read ends at the urgent byte.
    if (this.#urgentAt > 0) available = this.#urgentAt;
    const count = Math.min(available, io.left);
    const moved = message.flags & Message.truncated ? io.skip(count) : this.#in.give(io, count);
    if (moved <= 0 || message.peeks) return moved;
    this.#consumed(moved);
    return moved;
  }

  #consumed(count: number): void {
    this.#in.drop(count);
    if (this.#urgentAt >= 0) this.#urgentAt = Math.max(-1, this.#urgentAt - count);
    const peer = this.#peer;
    if (peer?.wantsRoom && peer.#hasRoom) {
      peer.wantsRoom = false;
      peer.queue.notify(sendable);
    }
  }

  #receiveUrgent(io: Io, message: Incoming): number {
    if (this.options.is(SocketOption.outOfBandInline) || this.#urgentByte < 0) return -Errno.EINVAL;
    message.outFlags |= Message.outOfBand;
    const moved = io.put(Uint8Array.of(this.#urgentByte), 0, 1);
    if (moved > 0 && !message.peeks) this.#urgentByte = -1;
    return moved;
  }

  /** sk_stream_is_writeable: a third is free. */
  get #hasRoom(): boolean {
    const peer = this.#peer;
    if (!peer) return true;
    const capacity = this.#capacity(peer);
    return capacity - peer.#in.length >= capacity / 3;
  }

  // The end.

  override shutdown(_task: Task, how: number): number {
    const receives = how !== Shutdown.write;
    const sends = how !== Shutdown.read;
    if (this.state === TcpState.listen || this.state === TcpState.synSent) {
      if (this.state === TcpState.synSent || receives) this.#disconnect();
      this.queue.notify(receivable | Poll.hup);
      return 0;
    }
    const result = this.state === TcpState.close ? -Errno.ENOTCONN : 0;
    if (receives) this.#shutReceive = true;
    if (sends && !this.#shutSend) {
      this.#shutSend = true;
      if (result === 0) this.#sendFin();
    }
    this.queue.notify(receivable | sendable | Poll.rdhup | Poll.hup);
    return result;
  }

  #sendFin(): void {
    const peer = this.#peer;
    this.state = this.#finished ? TcpState.lastAck : TcpState.finWait2;
    if (!this.#finished) this.#endedFirst = true;
    if (peer && !peer.#finished) peer.#receiveFin();
    if (this.#finished) this.#end();
  }

  #receiveFin(): void {
    this.#finished = true;
    this.#shutReceive = true;
    if (this.#listener) this.#listener.#undefer(this);
    if (this.state === TcpState.established) this.state = TcpState.closeWait;
    else if (this.state === TcpState.finWait2) this.#end();
    const events = receivable | Poll.rdhup;
    this.queue.notify(this.#shutSend ? events | sendable | Poll.hup : events);
  }

  /** Both sides have sent their last. */
  #end(): void {
    this.state = TcpState.close;
    if (this.#endedFirst) this.ports.ended(this);
    this.#forgetTuple();
  }

  #forgetTuple(): void {
    if (this.#tuple === undefined) return;
    this.stack.connections.delete(this.#tuple);
    this.#tuple = undefined;
  }

  /** tcp_reset: the other side says that there is no such connection. */
  #reset(): void {
    if (this.state === TcpState.close) return;
    this.#abort(this.state === TcpState.closeWait ? Errno.EPIPE : Errno.ECONNRESET);
  }

  #abort(errno: number): void {
    this.#stopWaiting();
    if (this.#listener) this.#listener.#undefer(this);
    this.state = TcpState.close;
    this.#shutReceive = this.#shutSend = true;
    this.#forgetTuple();
    this.fail(errno);
  }

  /** connect(2) with AF_UNSPEC, and listeners that are shut down: as a new socket, with its port if bind named one. */
  #disconnect(): void {
    const peer = this.#peer;
    if (this.state === TcpState.listen) this.#stopListening();
    this.#stopWaiting();
    if (peer && this.state !== TcpState.close) peer.#reset();
    this.#peer = undefined;
    this.#forgetTuple();
    this.state = TcpState.close;
    this.#phase = 'unconnected';
    this.remote = undefined;
    this.#shutReceive = this.#shutSend = this.#finished = false;
    this.pendingError = 0;
    this.#in.clear();
    this.#urgentAt = this.#urgentByte = -1;
    this.letGo();
    const ip = this.boundAddress ? this.local.ip : this.any;
    if (this.boundPort) this.take({ ip, port: this.local.port });
    else this.local = { ip, port: 0 };
  }

  #stopListening(): void {
    this.state = TcpState.close;
    const connections = [...this.#waiting.splice(0), ...this.#deferred.keys()];
    for (const timer of this.#deferred.values()) timer.cancel();
    this.#deferred.clear();
    for (const connection of connections) {
      connection.#listener = undefined;
      const peer = connection.#peer;
      if (peer) peer.#reset();
      connection.unreference();
    }
    const callers = [...this.#callers];
    for (const caller of callers) {
      caller.#stopWaiting();
      caller.#refused();
    }
    this.queue.notify(receivable | Poll.hup);
  }

  protected override release(): void {
    this.#released = true;
    const peer = this.#peer;
    if (this.state === TcpState.listen) this.#stopListening();
    this.#stopWaiting();
    if (peer && this.state !== TcpState.close) {
      if (this.#in.length > 0 || this.options.linger === 0) {
        if (!peer.#released) peer.#reset();
        this.#endedFirst = false;
        this.state = TcpState.close;
      } else if (!this.#shutSend) {
        this.#shutSend = true;
        this.#sendFin();
      }
      // An orphan keeps its port until the other side has ended too, or for the time of FIN_WAIT2.
      if (this.#endedFirst) this.ports.ended(this);
    }
    this.#forgetTuple();
    this.#in.clear();
    this.letGo();
    // A peer whose writer waits for room learns that nobody reads.
    if (peer?.wantsRoom) peer.queue.notify(sendable);
  }

  // What programs ask.

  override readiness(events: number): number {
    let ready = 0;
    if (this.state === TcpState.listen) {
      if (this.#waiting.length > 0) ready |= receivable;
      return ready & events;
    }
    if ((this.#shutReceive && this.#shutSend) || this.state === TcpState.close) ready |= Poll.hup;
    if (this.#shutReceive) ready |= receivable | Poll.rdhup;
    if (this.state !== TcpState.synSent) {
      const urgent = this.#urgentAt >= 0 && !this.options.is(SocketOption.outOfBandInline) ? 1 : 0;
      const available = this.#in.length - urgent;
      if (available > 0 && available >= this.options.receiveLowWater) ready |= receivable;
      if (this.#shutSend || this.#hasRoom) ready |= sendable;
      else if (events & Poll.out) this.wantsRoom = true;
      if (this.#urgentByte >= 0) ready |= Poll.pri;
    }
    if (this.pendingError !== 0) ready |= Poll.err;
    return ready & (events | Poll.err | Poll.hup);
  }

  override inQueue(): number {
    if (this.state === TcpState.listen) return -Errno.EINVAL;
    if (this.#urgentAt >= 0 && !this.options.is(SocketOption.outOfBandInline))
      return this.#urgentAt === 0 ? this.#in.length - 1 : this.#urgentAt;
    return this.#in.length;
  }

  /** What does not fit into the peer's window has not left. */
  override outQueue(): number {
    if (this.state === TcpState.listen) return -Errno.EINVAL;
    const peer = this.#peer;
    return peer && !peer.#released ? Math.max(0, peer.#in.length - peer.#window) : 0;
  }

  override ioctl(task: Task, command: number, argument: number): number {
    if (command === SocketIoctl.atMark) return task.memory.writeU32(argument, this.#urgentAt === 0 ? 1 : 0);
    if (command === SocketIoctl.outQueueNotSent) {
      const count = this.outQueue();
      return count < 0 ? count : task.memory.writeU32(argument, count);
    }
    return super.ioctl(task, command, argument);
  }

  override getOption(task: Task, level: number, name: number, room: number): Uint8Array | number {
    return level === Level.tcp ? this.tcp.get(this, name, room) : super.getOption(task, level, name, room);
  }
  override setOption(task: Task, level: number, name: number, value: Uint8Array): number {
    return level === Level.tcp ? this.tcp.set(this, name, value) : super.setOption(task, level, name, value);
  }
}

function tupleOf(local: Endpoint, remote: Endpoint): string {
  return `${local.ip}:${local.port}-${remote.ip}:${remote.port}`;
}
