// The seam between the socket layer and a network stack. Socket system calls (net/socket.ts and beside it) work on
// sockets that a family's provider makes; the provider for AF_INET and AF_INET6 is exchangeable: loopback only, the
// host's sockets, or a whole TCP/IP stack.

import type { Task, UserNamespace } from '../kernel/contract.ts';
import type { FileDescription } from '../vfs/file-description.ts';

export interface NetworkNamespace {
  readonly userNamespace: UserNamespace;
  /** A new socket of this family, type (SOCK_STREAM …, without flags) and protocol; or a negative errno. */
  createSocket(task: Task, family: number, type: number, protocol: number): FileDescription | number;
  /** For /proc/net and netlink: its interfaces. */
  readonly interfaces: readonly NetworkInterface[];
}

export interface NetworkInterface {
  readonly index: number;
  readonly name: string;
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
