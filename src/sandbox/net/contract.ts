// The seam between the socket layer and a network stack. Socket system calls (net/syscalls.ts and beside it) work on
// sockets that a namespace makes; who answers for AF_INET and AF_INET6 is exchangeable (see net/stack.ts): loopback
// only, the host's sockets, or a whole TCP/IP stack.

import type { Task, UserNamespace } from '../kernel/contract.ts';
import type { Socket } from './socket.ts';

export interface NetworkNamespace {
  readonly userNamespace: UserNamespace;
  /** A new socket of this family, type (SOCK_STREAM …, without flags) and protocol; or a negative errno. */
  createSocket(task: Task, family: number, type: number, protocol: number): Socket | number;
  /** Two connected sockets; -EOPNOTSUPP for families that have none. */
  createPair(task: Task, family: number, type: number, protocol: number): readonly [Socket, Socket] | number;
  /** For /proc/net, netlink and ioctls: its interfaces. */
  readonly interfaces: readonly NetworkInterface[];
}

export interface NetworkInterface {
  readonly index: number;
  readonly name: string;
  /** IFF_*. */
  readonly flags: number;
  readonly mtu: number;
  /** ARPHRD_*. */
  readonly type: number;
  readonly hardwareAddress: Uint8Array;
  readonly addresses: readonly {
    readonly family: number;
    readonly address: Uint8Array;
    readonly prefix: number;
  }[];
}

/** One control message (struct cmsghdr and its data). */
export interface ControlMessage {
  readonly level: number;
  readonly type: number;
  readonly data: Uint8Array;
}
