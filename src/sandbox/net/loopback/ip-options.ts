// Options at the levels IPPROTO_IP and IPPROTO_IPV6 (ip(7), ipv6(7)): those that steer what a packet looks like are kept
// and given back; those about what is received with a datagram, and multicast groups, have their effect in udp.ts.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import {
  Family,
  IpOption as Ip,
  Ipv6Option as Ip6,
  intValue,
  Level,
  readInt,
  SocketType,
} from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import type { ControlMessage } from '../contract.ts';
import { anyInet, bytesOf, hexOf, isInet } from './addresses.ts';
import type { InetSocket } from './inet-socket.ts';

interface Rule {
  readonly initial: number;
  readonly minimum: number;
  readonly maximum: number;
  readonly flag?: boolean;
  readonly capability?: number;
  /** What is kept of a value that stands for the initial one (-1). */
  readonly standard?: boolean;
}

const flag: Rule = { initial: 0, minimum: -0x8000_0000, maximum: 0x7fff_ffff, flag: true };

const inetRules: Readonly<Record<number, Rule>> = {
  [Ip.typeOfService]: { initial: 0, minimum: -0x8000_0000, maximum: 0x7fff_ffff },
  [Ip.timeToLive]: { initial: 64, minimum: 1, maximum: 255, standard: true },
  [Ip.packetInfo]: flag,
  [Ip.receiveTimeToLive]: flag,
  [Ip.receiveTypeOfService]: flag,
  [Ip.receiveOptions]: flag,
  [Ip.returnOptions]: flag,
  [Ip.receiveOriginalDestination]: flag,
  [Ip.receiveError]: flag,
  [Ip.freeBind]: flag,
  [Ip.bindAddressNoPort]: flag,
  [Ip.transparent]: { ...flag, capability: Capability.netAdmin },
  [Ip.mtuDiscover]: { initial: 1, minimum: 0, maximum: 5 },
  [Ip.minimumTimeToLive]: { initial: 0, minimum: 0, maximum: 255 },
  [Ip.multicastTimeToLive]: { initial: 1, minimum: 0, maximum: 255, standard: true },
  [Ip.multicastLoop]: { ...flag, initial: 1 },
  [Ip.multicastAll]: { ...flag, initial: 1 },
};

const inet6Rules: Readonly<Record<number, Rule>> = {
  [Ip6.unicastHops]: { initial: 64, minimum: 0, maximum: 255, standard: true },
  [Ip6.multicastHops]: { initial: 1, minimum: 0, maximum: 255, standard: true },
  [Ip6.multicastLoop]: { ...flag, initial: 1 },
  [Ip6.multicastAll]: { ...flag, initial: 1 },
  [Ip6.mtuDiscover]: { initial: 1, minimum: 0, maximum: 5 },
  [Ip6.receiveError]: flag,
  [Ip6.receivePacketInfo]: flag,
  [Ip6.receiveHopLimit]: flag,
  [Ip6.receiveTrafficClass]: flag,
  [Ip6.trafficClass]: { initial: 0, minimum: 0, maximum: 255, standard: true },
  [Ip6.dontFragment]: flag,
  [Ip6.autoFlowLabel]: { ...flag, initial: 1 },
  [Ip6.addressPreferences]: { initial: 4, minimum: 0, maximum: 0x7ff },
  [Ip6.freeBind]: flag,
};

export class IpOptions {
  readonly #inet = new Map<number, number>();
  readonly #inet6 = new Map<number, number>();
  onlyInet6 = false;
  /** IP_MULTICAST_IF: an interface's index, 0: whatever the route says. */
  multicastInterface = 0;
  /** Groups that were joined, as addresses. */
  readonly groups = new Set<string>();

  inherit(from: IpOptions): void {
    for (const [name, value] of from.#inet) this.#inet.set(name, value);
    for (const [name, value] of from.#inet6) this.#inet6.set(name, value);
    this.onlyInet6 = from.onlyInet6;
  }

  inet(name: number): number {
    return this.#inet.get(name) ?? inetRules[name]?.initial ?? 0;
  }
  inet6(name: number): number {
    return this.#inet6.get(name) ?? inet6Rules[name]?.initial ?? 0;
  }

  get(socket: InetSocket, level: number, name: number, room: number): Uint8Array | number {
    if (level === Level.ip) {
      if (inetRules[name]) return short(this.inet(name), room);
      switch (name) {
        case Ip.multicastInterface:
          return bytesOf(this.multicastInterface === 0 ? anyInet : '7f000001');
        case Ip.options:
          return new Uint8Array(0);
        case Ip.mtu:
          return socket.connected ? intValue(65_535) : -Errno.ENOTCONN;
        case Ip.unicastInterface:
        case Ip.localPortRange:
        case Ip.headerIncluded:
          return name === Ip.headerIncluded ? -Errno.ENOPROTOOPT : intValue(0);
        default:
          return -Errno.ENOPROTOOPT;
      }
    }
    if (socket.family !== Family.inet6) return -Errno.EOPNOTSUPP;
    if (name === Ip6.only) return intValue(this.onlyInet6 ? 1 : 0);
    if (name === Ip6.multicastInterface) return intValue(this.multicastInterface);
    if (name === Ip6.mtu) return socket.connected ? intValue(65_536) : -Errno.ENOTCONN;
    return inet6Rules[name] ? intValue(this.inet6(name)) : -Errno.ENOPROTOOPT;
  }

  set(task: Task, socket: InetSocket, level: number, name: number, value: Uint8Array): number {
    if (level === Level.ip) return this.#setInet(task, socket, name, value);
    if (socket.family !== Family.inet6) return -Errno.ENOPROTOOPT;
    if (name === Ip6.only) {
      if (value.length < 4) return -Errno.EINVAL;
      if (socket.bound) return -Errno.EINVAL;
      this.onlyInet6 = readInt(value) !== 0;
      return 0;
    }
    if (name === Ip6.joinGroup || name === Ip6.leaveGroup) {
      if (value.length < 20) return -Errno.EINVAL;
      return this.#member(
        socket,
        hexOf(value.subarray(0, 16)),
        readInt(value.subarray(16)),
        name === Ip6.joinGroup,
      );
    }
    if (value.length < 4) return -Errno.EINVAL;
    const int = readInt(value);
    if (name === Ip6.multicastInterface) return this.#setInterface(socket, int);
    return store(task, socket, inet6Rules, this.#inet6, name, int);
  }

  #setInet(task: Task, socket: InetSocket, name: number, value: Uint8Array): number {
    if (name === Ip.addMembership || name === Ip.dropMembership) {
      if (value.length < 8) return -Errno.EINVAL;
      const index = value.length >= 12 ? readInt(value.subarray(8)) : 0;
      const address = hexOf(value.subarray(4, 8));
      const found = index !== 0 || address === anyInet ? index : socket.stack.interfaceOf(address);
      return this.#member(socket, hexOf(value.subarray(0, 4)), found, name === Ip.addMembership);
    }
    if (name === Ip.multicastInterface) {
      if (socket.type === SocketType.stream) return -Errno.EINVAL;
      if (value.length < 4) return -Errno.EINVAL;
      if (value.length >= 12 && readInt(value.subarray(8)) !== 0)
        return this.#setInterface(socket, readInt(value.subarray(8)));
      const address = hexOf(value.length >= 8 ? value.subarray(4, 8) : value.subarray(0, 4));
      if (address === anyInet) return this.#setInterface(socket, 0);
      const index = socket.stack.interfaceOf(address);
      return index === 0 ? -Errno.EADDRNOTAVAIL : this.#setInterface(socket, index);
    }
    if (value.length === 0) return -Errno.EINVAL;
    if (name === Ip.options) return value.length === 0 ? 0 : -Errno.EINVAL;
    const int = value.length >= 4 ? readInt(value) : (value[0] ?? 0);
    if (name === Ip.typeOfService) {
      this.#inet.set(name, int & 0xff);
      return 0;
    }
    if (socket.type === SocketType.stream && (name === Ip.multicastTimeToLive || name === Ip.multicastAll))
      return -Errno.EINVAL;
    return store(task, socket, inetRules, this.#inet, name, int);
  }

  #setInterface(socket: InetSocket, index: number): number {
    if (socket.type === SocketType.stream) return -Errno.ENOPROTOOPT;
    if (index < 0) return -Errno.EINVAL;
    if (index !== 0 && !socket.namespace.interfaces.some((one) => one.index === index)) return -Errno.ENODEV;
    this.multicastInterface = index;
    return 0;
  }

  #member(socket: InetSocket, group: string, index: number, join: boolean): number {
    if (socket.type === SocketType.stream) return -Errno.EPROTO;
    if (!(isInet(group) ? group.startsWith('e') : group.startsWith('ff'))) return -Errno.EINVAL;
    // Without an interface the route to the group would name one, and there is none.
    if (index === 0 || !socket.namespace.interfaces.some((one) => one.index === index))
      return join ? -Errno.ENODEV : -Errno.EADDRNOTAVAIL;
    if (join && this.groups.has(group)) return -Errno.EADDRINUSE;
    if (!join && !this.groups.has(group)) return -Errno.EADDRNOTAVAIL;
    if (join) this.groups.add(group);
    else this.groups.delete(group);
    return 0;
  }
}

/** As ip_getsockopt: a value that fits into one byte may be asked for as one. */
function short(value: number, room: number): Uint8Array {
  return room > 0 && room < 4 && value >= 0 && value <= 255 ? Uint8Array.of(value) : intValue(value);
}

function store(
  task: Task,
  socket: InetSocket,
  rules: Readonly<Record<number, Rule>>,
  values: Map<number, number>,
  name: number,
  int: number,
): number {
  const rule = rules[name];
  if (!rule) return -Errno.ENOPROTOOPT;
  if (rule.standard && int === -1) {
    values.delete(name);
    return 0;
  }
  if (int < rule.minimum || int > rule.maximum) return -Errno.EINVAL;
  if (rule.capability !== undefined && int !== 0) {
    const { userNamespace } = socket.namespace;
    if (!task.credentials.hasIn(userNamespace, rule.capability)) return -Errno.EPERM;
  }
  values.set(name, rule.flag ? (int === 0 ? 0 : 1) : int);
  return 0;
}

/** Control messages of a datagram for a socket that asked for them. */
export function receivedControl(
  socket: InetSocket,
  destination: string,
  from: { readonly hops: number; readonly trafficClass: number },
): ControlMessage[] {
  const { ip } = socket;
  const messages: ControlMessage[] = [];
  if (ip.inet(Ip.packetInfo) && isInet(destination)) {
    const data = new Uint8Array(12);
    data[0] = 1;
    data.set(bytesOf(destination), 4);
    data.set(bytesOf(destination), 8);
    messages.push({ level: Level.ip, type: Ip.packetInfo, data });
  }
  if (isInet(destination)) {
    if (ip.inet(Ip.receiveTimeToLive))
      messages.push({ level: Level.ip, type: Ip.timeToLive, data: intValue(from.hops) });
    if (ip.inet(Ip.receiveTypeOfService))
      messages.push({ level: Level.ip, type: Ip.typeOfService, data: Uint8Array.of(from.trafficClass) });
  }
  if (socket.family !== Family.inet6) return messages;
  if (ip.inet6(Ip6.receivePacketInfo)) {
    const data = new Uint8Array(20);
    data.set(bytesOf(isInet(destination) ? `00000000000000000000ffff${destination}` : destination));
    data[16] = 1;
    messages.push({ level: Level.ipv6, type: Ip6.packetInfo, data });
  }
  if (isInet(destination)) return messages;
  if (ip.inet6(Ip6.receiveHopLimit))
    messages.push({ level: Level.ipv6, type: Ip6.hopLimit, data: intValue(from.hops) });
  if (ip.inet6(Ip6.receiveTrafficClass))
    messages.push({ level: Level.ipv6, type: Ip6.trafficClass, data: intValue(from.trafficClass) });
  return messages;
}

/** What a sender's control messages say; -EINVAL. */
export interface SendControl {
  source?: string;
  hops?: number;
  trafficClass?: number;
}

export function parseSendControl(family: number, control: readonly ControlMessage[]): SendControl | number {
  const said: SendControl = {};
  for (const { level, type, data } of control) {
    if (level === Level.socket) continue;
    if (level === Level.ip && family === Family.inet) {
      if (type === Ip.packetInfo) {
        if (data.length !== 12) return -Errno.EINVAL;
        const source = hexOf(data.subarray(4, 8));
        if (source !== anyInet) said.source = source;
      } else if (type === Ip.timeToLive) {
        if (data.length !== 4 || readInt(data) < 1 || readInt(data) > 255) return -Errno.EINVAL;
        said.hops = readInt(data);
      } else if (type === Ip.typeOfService) {
        if (data.length !== 4 && data.length !== 1) return -Errno.EINVAL;
        said.trafficClass = data.length === 4 ? readInt(data) & 0xff : (data[0] ?? 0);
      } else return -Errno.EINVAL;
    } else if (level === Level.ipv6 && family === Family.inet6) {
      if (data.length < (type === Ip6.packetInfo ? 20 : 4)) return -Errno.EINVAL;
      if (type === Ip6.packetInfo) {
        const source = hexOf(data.subarray(0, 16));
        if (!/^0+$/.test(source)) said.source = source.replace(/^0{20}ffff/, '');
      } else if (type === Ip6.hopLimit) said.hops = readInt(data);
      else if (type === Ip6.trafficClass) said.trafficClass = readInt(data) & 0xff;
      else return -Errno.EINVAL;
    }
  }
  return said;
}
