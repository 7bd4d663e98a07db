// UDP over loopback: a datagram is put into the queue of the socket that it is for. Follows net/ipv4/udp.c.

import { Errno } from '../../abi/errno.ts';
import {
  Family,
  familyOf,
  IpOption,
  IpProtocol,
  Ipv6Option,
  intValue,
  Level,
  Message,
  readInt,
  Shutdown,
  SocketOption,
  SocketType,
} from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Io } from '../../vfs/io.ts';
import type { Incoming, Outgoing } from '../socket.ts';
import { giveBytes, takeBytes, timestampControl } from '../unix/messages.ts';
import { costOf } from '../unix/unix-socket.ts';
import {
  anyInet6,
  type Endpoint,
  formatEndpoint,
  isAny,
  isBroadcast,
  isInet,
  isMulticast,
  loopbackInet,
  loopbackInet6,
  parseEndpoint,
} from './addresses.ts';
import { InetSocket } from './inet-socket.ts';
import { parseSendControl, receivedControl, type SendControl } from './ip-options.ts';
import type { LoopbackNetwork } from './network.ts';
import type { PortTable } from './ports.ts';

/** 65,535 less the headers of IP and UDP. */
const mostBytes = 65_507;
const mostBytesInet6 = 65_527;
const udpCork = 1;

interface Datagram {
  readonly bytes: Uint8Array;
  readonly cost: number;
  readonly from: Endpoint;
  readonly destination: string;
  readonly hops: number;
  readonly trafficClass: number;
  readonly timestamp: { readonly type: number; readonly data: Uint8Array } | undefined;
}

interface Route {
  readonly to: Endpoint;
  readonly source: string;
}

export class UdpSocket extends InetSocket {
  readonly #queue: Datagram[] = [];
  /** Cost of what is queued. */
  #held = 0;
  drops = 0;
  #shutReceive = false;
  #shutSend = false;
  #cork = false;
  /** Pieces of a datagram that is not complete (MSG_MORE, UDP_CORK). */
  #pieces: Uint8Array[] = [];
  #piecesTo: Route | undefined;

  constructor(task: Task, stack: LoopbackNetwork, family: number) {
    super(task, stack, family, SocketType.datagram, IpProtocol.udp);
  }

  protected override get ports(): PortTable<this> {
    return this.stack.udpPorts as unknown as PortTable<this>;
  }
  override get connected(): boolean {
    return this.remote !== undefined;
  }
  get unread(): number {
    return this.#held;
  }

  override connect(_task: Task, address: Uint8Array, _dontWait: boolean): number {
    if (address.length < 2) return -Errno.EINVAL;
    if (familyOf(address) === Family.unspecified) {
      this.#disconnect();
      return 0;
    }
    const wanted = parseEndpoint(
      this.family === Family.inet6 && familyOf(address) === Family.inet && !this.onlyInet6
        ? Family.inet
        : this.family,
      address,
    );
    if (typeof wanted === 'number') return wanted;
    const route = this.#route(wanted);
    if (typeof route === 'number') return route;
    this.remote = route.to;
    if (isAny(this.local.ip)) this.#rename({ ip: route.source, port: this.local.port });
    if (!this.bound) {
      const held = this.hold(this.local.ip, 0);
      if (held < 0) {
        this.remote = undefined;
        return held;
      }
    }
    return 0;
  }

  #rename(local: Endpoint): void {
    if (!this.holdsPort) {
      this.local = local;
      return;
    }
    this.letGo();
    this.take(local);
  }

  #disconnect(): void {
    this.remote = undefined;
    const ip = this.boundAddress ? this.local.ip : this.any;
    if (this.boundPort) this.#rename({ ip, port: this.local.port });
    else {
      this.letGo();
      this.local = { ip, port: 0 };
    }
    this.pendingError = 0;
  }

  /** Where a datagram to this address goes; -EACCES, -ENETUNREACH. */
  #route({ ip, port }: Endpoint, said?: SendControl): Route | number {
    if (isBroadcast(ip)) {
      if (!this.options.is(SocketOption.broadcast)) return -Errno.EACCES;
      return -Errno.ENETUNREACH;
    }
    if (this.onlyInet6 && isInet(ip)) return -Errno.ENETUNREACH;
    const bound = said?.source ?? (isAny(this.local.ip) ? undefined : this.local.ip);
    if (said?.source !== undefined && !this.stack.isLocal(said.source)) return -Errno.EINVAL;
    if (isMulticast(ip)) {
      // Only who names the interface has a route.
      if (this.ip.multicastInterface === 0 && this.options.device === 0) return -Errno.ENETUNREACH;
      return { to: { ip, port }, source: bound ?? (isInet(ip) ? loopbackInet : loopbackInet6) };
    }
    if (isInet(ip) && ip === '7fffffff' && !this.options.is(SocketOption.broadcast)) return -Errno.EACCES;
    const route = this.stack.route(ip);
    if (typeof route === 'number') return route;
    return { to: { ip: route.destination, port }, source: bound ?? route.source };
  }

  override prepare(_task: Task, message: Outgoing): number {
    const said = parseSendControl(this.family, message.control);
    return typeof said === 'number' ? said : 0;
  }

  override send(_task: Task, io: Io, message: Outgoing): number {
    if (io.left > 0xffff) return -Errno.EMSGSIZE;
    if (message.flags & Message.outOfBand) return -Errno.EOPNOTSUPP;
    const route = this.#pieces.length > 0 ? this.#piecesTo : this.#destination(message);
    if (typeof route === 'number') return route;
    if (!route) return -Errno.EDESTADDRREQ;
    if (!this.bound) {
      const held = this.hold(this.local.ip, 0);
      if (held < 0) return held;
    }
    if (message.flags & Message.confirm && message.flags & Message.probe && io.left === 0) return 0;
    let length = io.left;
    for (const piece of this.#pieces) length += piece.length;
    if (length > (isInet(route.to.ip) ? mostBytes : mostBytesInet6)) return -Errno.EMSGSIZE;
    const error = this.takeError();
    if (error < 0) return error;
    if (this.#shutSend) return -Errno.EPIPE;
    const bytes = takeBytes(io);
    if (typeof bytes === 'number') return bytes;
    if (this.#cork || message.flags & Message.more) {
      this.#pieces.push(bytes);
      this.#piecesTo = route;
      return bytes.length;
    }
    const whole = this.#pieces.length > 0 ? Buffer.concat([...this.#pieces, bytes]) : bytes;
    this.#pieces = [];
    const said = message.control.length > 0 ? parseSendControl(this.family, message.control) : {};
    this.#deliver(whole, route, typeof said === 'number' ? {} : said);
    return bytes.length;
  }

  #destination(message: Outgoing): Route | number {
    const { address } = message;
    const said = message.control.length > 0 ? parseSendControl(this.family, message.control) : undefined;
    if (typeof said === 'number') return said;
    if (!address) return this.remote ? this.#route(this.remote, said) : -Errno.EDESTADDRREQ;
    // An IPv6 socket takes an IPv4 address too, unless it is for IPv6 only.
    const family = familyOf(address);
    const inet = this.family === Family.inet6 && family === Family.inet && !this.onlyInet6;
    const wanted = parseEndpoint(inet || family === Family.inet ? Family.inet : this.family, address);
    if (this.family === Family.inet6 && family === Family.inet && !inet) return -Errno.ENETUNREACH;
    if (typeof wanted === 'number') {
      if (family === Family.unspecified && this.family === Family.inet6)
        return this.remote ? this.#route(this.remote, said) : -Errno.EDESTADDRREQ;
      return wanted;
    }
    return wanted.port === 0 ? -Errno.EINVAL : this.#route(wanted, said);
  }

  #deliver(bytes: Uint8Array, { to, source }: Route, said: SendControl): void {
    const from = { ip: source, port: this.local.port };
    const multicast = isMulticast(to.ip);
    const hops =
      said.hops ??
      (isInet(to.ip)
        ? this.ip.inet(multicast ? IpOption.multicastTimeToLive : IpOption.timeToLive)
        : this.ip.inet6(multicast ? Ipv6Option.multicastHops : Ipv6Option.unicastHops));
    const trafficClass =
      said.trafficClass ??
      (isInet(to.ip) ? this.ip.inet(IpOption.typeOfService) : this.ip.inet6(Ipv6Option.trafficClass));
    const datagram = {
      bytes,
      cost: costOf(bytes.length, true),
      from,
      destination: to.ip,
      hops,
      trafficClass,
    };
    if (multicast) {
      const loop = isInet(to.ip)
        ? this.ip.inet(IpOption.multicastLoop)
        : this.ip.inet6(Ipv6Option.multicastLoop);
      if (!loop) return;
      for (const socket of this.stack.udpPorts.at(to.port))
        if (socket.#listensTo(to.ip, from)) socket.#receive(datagram);
      return;
    }
    const socket = this.#findReceiver(to, from);
    if (socket) socket.#receive(datagram);
    // "Port unreachable" comes back; only a connected socket can tell whom it concerns.
    else if (this.remote) this.fail(Errno.ECONNREFUSED);
  }

  /** Whether a datagram to a group is for it. */
  #listensTo(group: string, from: Endpoint): boolean {
    const { local } = this;
    if (local.ip !== group && !(isAny(local.ip) && isInet(local.ip) === isInet(group))) {
      if (!(local.ip === anyInet6 && !this.onlyInet6)) return false;
    }
    if (this.remote && (this.remote.ip !== from.ip || this.remote.port !== from.port)) return false;
    return this.ip.groups.has(group);
  }

  /** __udp4_lib_lookup: the socket that fits best; of those that share a port any. */
  #findReceiver(to: Endpoint, from: Endpoint): UdpSocket | undefined {
    let best: UdpSocket[] = [];
    let score = 0;
    for (const socket of this.stack.udpPorts.at(to.port)) {
      const own = socket.#score(to, from);
      if (own === 0 || own < score) continue;
      if (own > score) best = [];
      score = own;
      best.push(socket);
    }
    if (best.length > 1 && best[0]?.reusePort) return best[this.stack.random(best.length)];
    // Of those that share by SO_REUSEADDR the last one has it.
    return best[best.length - 1];
  }

  #score(to: Endpoint, from: Endpoint): number {
    const { local, remote } = this;
    let score = isInet(to.ip) && this.family === Family.inet ? 2 : 1;
    if (local.ip === to.ip) score += 4;
    else if (!isAny(local.ip)) return 0;
    else if (isInet(local.ip) ? !isInet(to.ip) : isInet(to.ip) && this.onlyInet6) return 0;
    if (remote) {
      if (remote.ip !== from.ip || remote.port !== from.port) return 0;
      score += 8;
    }
    return score;
  }

  #receive(datagram: Omit<Datagram, 'timestamp'>): void {
    if (this.#held > 0 && this.#held + datagram.cost > this.options.receiveBuffer) {
      this.drops++;
      return;
    }
    this.#queue.push({ ...datagram, timestamp: this.options.timestamp() });
    this.#held += datagram.cost;
    this.queue.notify(Poll.in | Poll.rdnorm);
  }

  override receive(_task: Task, io: Io, message: Incoming): number {
    if (message.flags & Message.errorQueue) return -Errno.EAGAIN;
    if (message.flags & Message.outOfBand) return -Errno.EINVAL;
    const error = this.takeError();
    if (error < 0) return error;
    const first = this.#queue[0];
    if (!first) {
      const waits = !this.nonBlocking && (message.flags & Message.dontWait) === 0;
      return waits && this.#shutReceive ? 0 : -Errno.EAGAIN;
    }
    const count = giveBytes(io, first.bytes, message);
    if (count < 0) return count;
    message.address = formatEndpoint(this.family, first.from);
    if (first.timestamp) message.control.push(timestampControl(first.timestamp));
    for (const control of receivedControl(this, first.destination, first)) message.control.push(control);
    if (!message.peeks) {
      this.#queue.shift();
      this.#held -= first.cost;
    }
    return count;
  }

  override shutdown(_task: Task, how: number): number {
    if (how !== Shutdown.write) this.#shutReceive = true;
    if (how !== Shutdown.read) this.#shutSend = true;
    this.queue.notify(Poll.in | Poll.rdnorm | Poll.rdhup | Poll.out | Poll.hup);
    return this.remote ? 0 : -Errno.ENOTCONN;
  }

  override readiness(events: number): number {
    let ready = Poll.out | Poll.wrnorm | Poll.wrband;
    if (this.pendingError !== 0) ready |= Poll.err;
    if (this.#shutReceive) ready |= Poll.rdhup | Poll.in | Poll.rdnorm;
    if (this.#shutReceive && this.#shutSend) ready |= Poll.hup;
    if (this.#queue.length > 0) ready |= Poll.in | Poll.rdnorm;
    return ready & (events | Poll.err | Poll.hup);
  }

  override inQueue(): number {
    return this.#queue[0]?.bytes.length ?? 0;
  }
  override outQueue(): number {
    return 0;
  }

  override getOption(task: Task, level: number, name: number, room: number): Uint8Array | number {
    if (level !== Level.udp) return super.getOption(task, level, name, room);
    return name === udpCork ? intValue(this.#cork ? 1 : 0) : -Errno.ENOPROTOOPT;
  }
  override setOption(task: Task, level: number, name: number, value: Uint8Array): number {
    if (level !== Level.udp) return super.setOption(task, level, name, value);
    if (value.length < 4) return -Errno.EINVAL;
    if (name !== udpCork) return -Errno.ENOPROTOOPT;
    this.#cork = readInt(value) !== 0;
    const route = this.#piecesTo;
    if (!this.#cork && route && this.#pieces.length > 0) {
      const whole = Buffer.concat(this.#pieces);
      this.#pieces = [];
      this.#deliver(whole, route, {});
    }
    return 0;
  }

  protected override release(): void {
    this.#queue.length = 0;
    this.letGo();
  }
}
