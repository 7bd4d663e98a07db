// A network namespace with nothing but a loopback interface: its sockets reach each other and nobody else. There are no
// packets: a connection is two sockets that know each other.

import { Errno } from '../../abi/errno.ts';
import { Family, InterfaceFlag, IpProtocol, SocketType } from '../../abi/socket.ts';
import type { Kernel, Task, UserNamespace } from '../../kernel/contract.ts';
import type { NetworkInterface } from '../contract.ts';
import type { Socket } from '../socket.ts';
import { NetworkStack } from '../stack.ts';
import { anyInet, anyInet6, hexOf, isInet, isMulticast, loopbackInet, loopbackInet6 } from './addresses.ts';
import { PortTable } from './ports.ts';
import { TcpSocket } from './tcp.ts';
import { UdpSocket } from './udp.ts';

const loopback: NetworkInterface = {
  index: 1,
  name: 'lo',
  flags: InterfaceFlag.up | InterfaceFlag.loopback | InterfaceFlag.running | InterfaceFlag.lowerUp,
  mtu: 65_536,
  // ARPHRD_LOOPBACK
  type: 772,
  hardwareAddress: new Uint8Array(6),
  addresses: [
    { family: Family.inet, address: Uint8Array.of(127, 0, 0, 1), prefix: 8 },
    {
      family: Family.inet6,
      address: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
      prefix: 128,
    },
  ],
};

export class LoopbackNetwork extends NetworkStack {
  readonly interfaces: readonly NetworkInterface[];
  readonly tcpPorts: PortTable<TcpSocket>;
  readonly udpPorts: PortTable<UdpSocket>;
  /** Connections, by both endpoints as text. */
  readonly connections = new Set<string>();
  readonly #kernel: Kernel;

  /** addresses: further ones that are the sandbox's own. */
  constructor(kernel: Kernel, userNamespace: UserNamespace, addresses: NetworkInterface['addresses'] = []) {
    super(userNamespace);
    this.#kernel = kernel;
    this.interfaces = [{ ...loopback, addresses: [...loopback.addresses, ...addresses] }];
    const now = (): number => kernel.clock.monotonic();
    const random = (below: number): number => this.random(below);
    this.tcpPorts = new PortTable(true, now, random);
    this.udpPorts = new PortTable(false, now, random);
  }

  random(below: number): number {
    const bytes = new Uint8Array(4);
    this.#kernel.random(bytes);
    return new DataView(bytes.buffer).getUint32(0) % below;
  }

  isLocal(ip: string): boolean {
    if (isInet(ip) && ip.startsWith('7f')) return true;
    return this.interfaceOf(ip) !== 0;
  }

  /** The index of the interface that has this address; 0: none. */
  interfaceOf(ip: string): number {
    for (const { index, addresses } of this.interfaces)
      if (addresses.some(({ address }) => hexOf(address) === ip)) return index;
    return 0;
  }

  /** Where a packet to this address goes and what it comes from, or -ENETUNREACH. The wildcard is the loopback address. */
  route(ip: string): { readonly destination: string; readonly source: string } | number {
    if (ip === anyInet) return { destination: loopbackInet, source: loopbackInet };
    if (ip === anyInet6) return { destination: loopbackInet6, source: loopbackInet6 };
    if (isMulticast(ip) || !this.isLocal(ip)) return -Errno.ENETUNREACH;
    return { destination: ip, source: isInet(ip) && ip.startsWith('7f') ? loopbackInet : ip };
  }

  protected override createInet(task: Task, family: number, type: number, protocol: number): Socket | number {
    if (protocol < 0 || protocol >= IpProtocol.maximum) return -Errno.EINVAL;
    switch (type) {
      case SocketType.stream:
        if (protocol !== 0 && protocol !== IpProtocol.tcp) return -Errno.EPROTONOSUPPORT;
        return new TcpSocket(task, this, family);
      case SocketType.datagram:
        // Sockets for pings are for groups that nobody is in (net.ipv4.ping_group_range).
        if (protocol === (family === Family.inet ? IpProtocol.icmp : 58)) return -Errno.EACCES;
        if (protocol !== 0 && protocol !== IpProtocol.udp) return -Errno.EPROTONOSUPPORT;
        return new UdpSocket(task, this, family);
      case SocketType.raw:
        // As without CAP_NET_RAW: there are no packets to be seen.
        return protocol === 0 ? -Errno.EPROTONOSUPPORT : -Errno.EPERM;
      default:
        return -Errno.ESOCKTNOSUPPORT;
    }
  }
}
