// Options at SOL_SOCKET that every socket has (net/core/sock.c: sk_setsockopt, sk_getsockopt), and what they are when a
// socket is made. Options of the kinds' own are asked of the socket.

import { Capability } from '../abi/capability.ts';
import { Errno } from '../abi/errno.ts';
import { Family, intValue, SocketOption as Option, readInt } from '../abi/socket.ts';
import type { Clock, Task } from '../kernel/contract.ts';
import type { Socket } from './socket.ts';

/** SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF. */
const leastSendBuffer = 4608;
const leastReceiveBuffer = 2304;
/** net.core.[rw]mem_max and _default. */
export const mostBuffer = 4_194_304;
export const defaultBuffer = 212_992;
const mostInt = 0x7fff_ffff;

const second = 1_000_000_000;

/** Options whose value is only kept and given back: they steer what a packet looks like on a wire. */
const kept: ReadonlySet<number> = new Set([
  Option.dontRoute,
  Option.broadcast,
  Option.keepAlive,
  Option.outOfBandInline,
  Option.noCheck,
  Option.timestampOld,
  Option.timestampNew,
  Option.timestampNsOld,
  Option.timestampNsNew,
  Option.receiveQueueOverflow,
  Option.selectErrorQueue,
]);

export class SocketOptions {
  readonly #clock: Clock;
  readonly #kept = new Map<number, number>();
  reuseAddress = false;
  reusePort = false;
  passCredentials = false;
  sendBuffer = defaultBuffer;
  receiveBuffer = defaultBuffer;
  /** SO_SNDBUF or SO_RCVBUF was called: no more tuning. */
  sendBufferSet = false;
  receiveBufferSet = false;
  receiveLowWater = 1;
  /** Nanoseconds; Infinity: none. */
  receiveTimeout = Number.POSITIVE_INFINITY;
  sendTimeout = Number.POSITIVE_INFINITY;
  /** Seconds; undefined: close does not wait. */
  linger: number | undefined;
  #lingerSeconds = 0;
  priority = 0;
  mark = 0;
  /** SO_BINDTODEVICE: an interface's index, 0: none. */
  device = 0;
  #peekOffset = -1;
  #cookie: Uint8Array | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What an accepted socket has from its listener. */
  inherit(from: SocketOptions): void {
    for (const [name, value] of from.#kept) this.#kept.set(name, value);
    this.reuseAddress = from.reuseAddress;
    this.reusePort = from.reusePort;
    this.passCredentials = from.passCredentials;
    this.sendBuffer = from.sendBuffer;
    this.receiveBuffer = from.receiveBuffer;
    this.sendBufferSet = from.sendBufferSet;
    this.receiveBufferSet = from.receiveBufferSet;
    this.receiveLowWater = from.receiveLowWater;
    this.receiveTimeout = from.receiveTimeout;
    this.sendTimeout = from.sendTimeout;
    this.linger = from.linger;
    this.#lingerSeconds = from.#lingerSeconds;
    this.priority = from.priority;
    this.mark = from.mark;
    this.device = from.device;
  }

  is(name: number): boolean {
    return (this.#kept.get(name) ?? 0) !== 0;
  }

  get(task: Task, socket: Socket, name: number, room: number): Uint8Array | number {
    if (kept.has(name)) return intValue(this.#kept.get(name) ?? 0);
    switch (name) {
      case Option.debug:
      case Option.incomingNapiId:
      case Option.busyPoll:
      case Option.noFcs:
      case Option.lockFilter:
      case Option.zeroCopy:
      case Option.passSecurity:
        return intValue(this.#kept.get(name) ?? 0);
      case Option.reuseAddress:
        return intValue(this.reuseAddress ? 1 : 0);
      case Option.reusePort:
        return intValue(this.reusePort ? 1 : 0);
      case Option.type:
        return intValue(socket.type);
      case Option.protocol:
        return intValue(socket.protocol);
      case Option.domain:
        return intValue(socket.family);
      case Option.error:
        return intValue(-socket.takeError());
      case Option.sendBuffer:
        return intValue(this.sendBuffer);
      case Option.receiveBuffer:
        return intValue(this.receiveBuffer);
      case Option.linger: {
        const value = new Uint8Array(8);
        value.set(intValue(this.linger === undefined ? 0 : 1));
        value.set(intValue(this.#lingerSeconds), 4);
        return value;
      }
      case Option.priority:
        return intValue(this.priority);
      case Option.mark:
        return intValue(this.mark);
      case Option.receiveLowWater:
        return intValue(this.receiveLowWater);
      case Option.sendLowWater:
        return intValue(1);
      case Option.receiveTimeoutOld:
      case Option.receiveTimeoutNew:
        return timeoutValue(this.receiveTimeout);
      case Option.sendTimeoutOld:
      case Option.sendTimeoutNew:
        return timeoutValue(this.sendTimeout);
      case Option.passCredentials:
        return mayPassCredentials(socket) ? intValue(this.passCredentials ? 1 : 0) : -Errno.EOPNOTSUPP;
      case Option.acceptConnections:
        return intValue(socket.listening ? 1 : 0);
      case Option.peekOffset:
        return intValue(this.#peekOffset);
      case Option.incomingCpu:
        return intValue(-1);
      case Option.maxPacingRate:
        return intValue(-1);
      case Option.bindToInterface:
        return intValue(this.device);
      case Option.bindToDevice:
        return this.#deviceName(socket, room);
      case Option.memoryInfo: {
        const value = new Uint8Array(36);
        value.set(intValue(this.receiveBuffer), 4);
        value.set(intValue(this.sendBuffer), 12);
        return value.slice(0, Math.min(room, value.length));
      }
      case Option.attachFilter:
        return new Uint8Array(0);
      case Option.cookie:
        return this.#socketCookie(task, room);
      case Option.peerName: {
        const peer = socket.peerName();
        if (typeof peer === 'number') return -Errno.ENOTCONN;
        return room < peer.length ? -Errno.EINVAL : peer;
      }
      case Option.peerCredentials:
      case Option.peerGroups:
      case Option.peerPidFd:
        return socket.ownSocketOption(task, name, room) ?? noPeer(name, room);
      default:
        return -Errno.ENOPROTOOPT;
    }
  }

  #deviceName(socket: Socket, room: number): Uint8Array | number {
    if (this.device === 0) return new Uint8Array(0);
    if (room < 16) return -Errno.EINVAL;
    const device = socket.namespace.interfaces.find(({ index }) => index === this.device);
    return device ? Buffer.from(`${device.name}\0`, 'latin1') : -Errno.ENODEV;
  }

  #socketCookie(task: Task, room: number): Uint8Array | number {
    if (room < 8) return -Errno.EINVAL;
    if (this.#cookie === undefined) {
      this.#cookie = new Uint8Array(8);
      task.kernel.random(this.#cookie);
    }
    return this.#cookie;
  }

  /** value: the bytes that the program gave. */
  set(task: Task, socket: Socket, name: number, value: Uint8Array): number {
    if (name === Option.bindToDevice) return this.#bindToDevice(task, socket, value);
    if (value.length < 4) return -Errno.EINVAL;
    const int = readInt(value);
    if (kept.has(name)) {
      this.#kept.set(name, name === Option.noCheck || int === 0 ? int : 1);
      return 0;
    }
    switch (name) {
      case Option.debug:
        if (int !== 0 && !privileged(task, socket, Capability.netAdmin)) return -Errno.EACCES;
        this.#kept.set(name, int === 0 ? 0 : 1);
        return 0;
      case Option.reuseAddress:
        this.reuseAddress = int !== 0;
        return 0;
      case Option.reusePort:
        if (int !== 0 && socket.family !== Family.inet && socket.family !== Family.inet6)
          return -Errno.EOPNOTSUPP;
        this.reusePort = int !== 0;
        return 0;
      case Option.sendBuffer:
      case Option.sendBufferForce:
      case Option.receiveBuffer:
      case Option.receiveBufferForce:
        return this.#setBuffer(task, socket, name, int);
      case Option.linger:
        return this.#setLinger(value);
      case Option.priority:
        if ((int < 0 || int > 6) && !privileged(task, socket, Capability.netAdmin)) return -Errno.EPERM;
        this.priority = int;
        return 0;
      case Option.mark:
        if (!privileged(task, socket, Capability.netAdmin) && !privileged(task, socket, Capability.netRaw))
          return -Errno.EPERM;
        this.mark = int;
        return 0;
      case Option.passCredentials:
        if (!mayPassCredentials(socket)) return -Errno.EOPNOTSUPP;
        this.passCredentials = int !== 0;
        return 0;
      case Option.receiveLowWater:
        this.receiveLowWater = int < 0 ? mostInt : int || 1;
        return 0;
      case Option.receiveTimeoutOld:
      case Option.receiveTimeoutNew:
      case Option.sendTimeoutOld:
      case Option.sendTimeoutNew:
        return this.#setTimeout(name, value);
      case Option.busyPoll:
        return int < 0
          ? -Errno.EINVAL
          : int > 0 && !privileged(task, socket, Capability.netAdmin)
            ? -Errno.EPERM
            : 0;
      case Option.peekOffset:
        // Without a place to peek at of its own.
        return -Errno.EOPNOTSUPP;
      case Option.maxPacingRate:
      case Option.incomingCpu:
        return 0;
      case Option.type:
      case Option.protocol:
      case Option.domain:
      case Option.error:
        return -Errno.ENOPROTOOPT;
      case Option.detachFilter:
        return -Errno.ENOENT;
      default:
        return -Errno.ENOPROTOOPT;
    }
  }

  #setBuffer(task: Task, socket: Socket, name: number, int: number): number {
    const force = name === Option.sendBufferForce || name === Option.receiveBufferForce;
    if (force && !privileged(task, socket, Capability.netAdmin)) return -Errno.EPERM;
    // As the comparison of unsigned numbers: negative ones ask for the most.
    const wanted = force ? Math.max(0, int) : Math.min(int >>> 0, mostBuffer);
    const doubled = Math.min(wanted, mostInt / 2) * 2;
    if (name === Option.sendBuffer || name === Option.sendBufferForce) {
      this.sendBuffer = Math.max(doubled, leastSendBuffer);
      this.sendBufferSet = true;
    } else {
      this.receiveBuffer = Math.max(doubled, leastReceiveBuffer);
      this.receiveBufferSet = true;
    }
    socket.bufferChanged();
    return 0;
  }

  #setLinger(value: Uint8Array): number {
    if (value.length < 8) return -Errno.EINVAL;
    const seconds = readInt(value.subarray(4));
    if (readInt(value) === 0) this.linger = undefined;
    else this.linger = this.#lingerSeconds = seconds >>> 0;
    return 0;
  }

  #setTimeout(name: number, value: Uint8Array): number {
    if (value.length < 16) return -Errno.EINVAL;
    const view = new DataView(value.buffer, value.byteOffset, 16);
    const sec = view.getBigInt64(0, true);
    const usec = view.getBigInt64(8, true);
    if (usec < 0n || usec >= 1_000_000n) return -Errno.EDOM;
    let timeout = Number(sec) * second + Number(usec) * 1000;
    if (sec < 0n) timeout = 0;
    else if (timeout === 0 || timeout > Number.MAX_SAFE_INTEGER) timeout = Number.POSITIVE_INFINITY;
    if (name === Option.receiveTimeoutOld || name === Option.receiveTimeoutNew) this.receiveTimeout = timeout;
    else this.sendTimeout = timeout;
    return 0;
  }

  #bindToDevice(task: Task, socket: Socket, value: Uint8Array): number {
    if (this.device !== 0 && !privileged(task, socket, Capability.netRaw)) return -Errno.EPERM;
    const text = Buffer.from(value.subarray(0, 15)).toString('latin1');
    const end = text.indexOf('\0');
    const name = end < 0 ? text : text.slice(0, end);
    if (name === '') {
      this.device = 0;
      return 0;
    }
    const device = socket.namespace.interfaces.find((one) => one.name === name);
    if (device === undefined) return -Errno.ENODEV;
    this.device = device.index;
    return 0;
  }

  /** Now, for messages to somebody who asked for time stamps: struct timeval or timespec. */
  timestamp(): { readonly type: number; readonly data: Uint8Array } | undefined {
    const nanoseconds = this.is(Option.timestampNsOld) || this.is(Option.timestampNsNew);
    if (!nanoseconds && !this.is(Option.timestampOld) && !this.is(Option.timestampNew)) return undefined;
    const { sec, nsec } = this.#clock.realtime();
    const data = new Uint8Array(16);
    const view = new DataView(data.buffer);
    view.setBigInt64(0, BigInt(sec), true);
    view.setBigInt64(8, BigInt(nanoseconds ? nsec : Math.floor(nsec / 1000)), true);
    if (nanoseconds)
      return { type: this.is(Option.timestampNsNew) ? Option.timestampNsNew : Option.timestampNsOld, data };
    return { type: this.is(Option.timestampNew) ? Option.timestampNew : Option.timestampOld, data };
  }
}

function mayPassCredentials(socket: Socket): boolean {
  return socket.family === Family.unix || socket.family === Family.netlink;
}

/** sockopt_capable. */
function privileged(task: Task, socket: Socket, capability: number): boolean {
  return task.credentials.hasIn(socket.namespace.userNamespace, capability);
}

function timeoutValue(nanoseconds: number): Uint8Array {
  const value = new Uint8Array(16);
  if (nanoseconds === Number.POSITIVE_INFINITY) return value;
  const view = new DataView(value.buffer);
  view.setBigInt64(0, BigInt(Math.floor(nanoseconds / second)), true);
  view.setBigInt64(8, BigInt(Math.floor((nanoseconds % second) / 1000)), true);
  return value;
}

/** struct ucred of nobody. */
function noPeer(name: number, room: number): Uint8Array | number {
  if (name === Option.peerGroups || name === Option.peerPidFd) return -Errno.ENODATA;
  const value = new Uint8Array(12);
  value.fill(0xff, 4);
  return value.slice(0, Math.min(room, 12));
}
