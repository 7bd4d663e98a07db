// What every network namespace has whatever its network is: Unix sockets, abstract names, netlink. Who answers for
// AF_INET and AF_INET6 is a subclass: loopback.ts for the sandbox alone, host/ for the host's own sockets; a whole
// TCP/IP stack is another one.

import { Errno } from '../abi/errno.ts';
import { NetlinkProtocol } from '../abi/netlink.ts';
import { Family, SocketType } from '../abi/socket.ts';
import type { Task, UserNamespace } from '../kernel/contract.ts';
import type { NetworkInterface } from './contract.ts';
import { NetlinkSocket } from './netlink/netlink-socket.ts';
import type { Socket } from './socket.ts';
import { UnixConnection } from './unix/connection.ts';
import { UnixDatagram } from './unix/datagram.ts';
import { AbstractNames } from './unix/names.ts';
import { UnixPackets } from './unix/packets.ts';
import { UnixStream } from './unix/stream.ts';
import type { UnixNamespace, UnixSocket } from './unix/unix-socket.ts';

export abstract class NetworkStack implements UnixNamespace {
  readonly userNamespace: UserNamespace;
  readonly abstractNames = new AbstractNames();
  readonly unixSockets = new Set<UnixSocket>();
  /** "protocol:port" of the netlink sockets. */
  readonly netlinkPorts = new Set<string>();
  abstract readonly interfaces: readonly NetworkInterface[];

  constructor(userNamespace: UserNamespace) {
    this.userNamespace = userNamespace;
  }

  /** AF_INET and AF_INET6. */
  protected abstract createInet(task: Task, family: number, type: number, protocol: number): Socket | number;

  createSocket(task: Task, family: number, type: number, protocol: number): Socket | number {
    switch (family) {
      case Family.unix:
        return this.#createUnix(task, type, protocol);
      case Family.inet:
      case Family.inet6:
        return this.createInet(task, family, type, protocol);
      case Family.netlink:
        return this.#createNetlink(task, type, protocol);
      default:
        return -Errno.EAFNOSUPPORT;
    }
  }

  /** Routing, and the kernel's news of devices, of which there are none. */
  #createNetlink(task: Task, type: number, protocol: number): Socket | number {
    if (type !== SocketType.raw && type !== SocketType.datagram) return -Errno.ESOCKTNOSUPPORT;
    if (protocol < 0 || protocol >= NetlinkProtocol.maximum) return -Errno.EPROTONOSUPPORT;
    if (protocol !== NetlinkProtocol.route && protocol !== NetlinkProtocol.kobjectUevent)
      return -Errno.EPROTONOSUPPORT;
    return new NetlinkSocket(task, this, type, protocol);
  }

  #createUnix(task: Task, type: number, protocol: number): UnixSocket | number {
    if (protocol !== 0 && protocol !== Family.unix) return -Errno.EPROTONOSUPPORT;
    switch (type) {
      case SocketType.stream:
        return new UnixStream(task, this);
      case SocketType.seqPacket:
        return new UnixPackets(task, this);
      // BSD's SOCK_RAW is a datagram socket here.
      case SocketType.datagram:
      case SocketType.raw:
        return new UnixDatagram(task, this);
      default:
        return -Errno.ESOCKTNOSUPPORT;
    }
  }

  createPair(task: Task, family: number, type: number, protocol: number): readonly [Socket, Socket] | number {
    const one = this.createSocket(task, family, type, protocol);
    if (typeof one === 'number') return one;
    const other = this.createSocket(task, family, type, protocol);
    if (typeof other === 'number') {
      one.unreference();
      return other;
    }
    if (one instanceof UnixConnection && other instanceof UnixConnection)
      UnixConnection.pair(task, one, other);
    else if (one instanceof UnixDatagram && other instanceof UnixDatagram)
      UnixDatagram.pair(task, one, other);
    else {
      one.unreference();
      other.unreference();
      return -Errno.EOPNOTSUPP;
    }
    return [one, other];
  }
}
