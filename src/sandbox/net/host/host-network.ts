// A network namespace whose AF_INET and AF_INET6 sockets are the host's (--network=host). Unix sockets and netlink are
// the sandbox's own.

import type { NetworkInterfaceInfo } from 'node:os';
import { Errno } from '../../abi/errno.ts';
import { Family, InterfaceFlag, IpProtocol, SocketType } from '../../abi/socket.ts';
import type { HostSockets } from '../../host/network.ts';
import type { Task, UserNamespace } from '../../kernel/contract.ts';
import type { NetworkInterface } from '../contract.ts';
import type { Socket } from '../socket.ts';
import { NetworkStack } from '../stack.ts';
import { HostSocket } from './host-socket.ts';

export class HostNetwork extends NetworkStack {
  readonly interfaces: readonly NetworkInterface[];
  readonly #sockets: HostSockets;

  constructor(userNamespace: UserNamespace, sockets: HostSockets, interfaces: readonly NetworkInterface[]) {
    super(userNamespace);
    this.#sockets = sockets;
    this.interfaces = interfaces;
  }

  protected override createInet(task: Task, family: number, type: number, protocol: number): Socket | number {
    if (protocol < 0 || protocol >= IpProtocol.maximum) return -Errno.EINVAL;
    // Raw sockets would show the host's packets; ping sockets are for groups that nobody here is in.
    if (type === SocketType.raw) return protocol === 0 ? -Errno.EPROTONOSUPPORT : -Errno.EPERM;
    if (type !== SocketType.stream && type !== SocketType.datagram) return -Errno.ESOCKTNOSUPPORT;
    const own = type === SocketType.stream ? IpProtocol.tcp : IpProtocol.udp;
    if (protocol !== 0 && protocol !== own) return -Errno.EPROTONOSUPPORT;
    const fd = this.#sockets.socket(family, type, own);
    if (fd < 0) return fd;
    return new HostSocket(task, this, this.#sockets, fd, { family, type, protocol: own });
  }
}

const ethernet = 1;
const loopbackType = 772;

function addressBytes(text: string, family: number): Uint8Array {
  if (family === Family.inet) return Uint8Array.from(text.split('.'), Number);
  const [head = '', tail] = text.split('::');
  const words = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16));
  const first = words(head);
  const last = words(tail ?? '');
  const all = [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  return Uint8Array.from(all.flatMap((word) => [word >> 8, word & 0xff]));
}

/**
 * The host's interfaces, as os.networkInterfaces() lists them (those that are up and have addresses), numbered in that
 * order: the host's own numbers are not told.
 */
export function interfacesOf(
  listed: Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>,
): NetworkInterface[] {
  return Object.entries(listed).map(([name, infos], place) => {
    const internal = infos?.some((info) => info.internal) ?? false;
    const up = InterfaceFlag.up | InterfaceFlag.running | InterfaceFlag.lowerUp;
    return {
      index: place + 1,
      name,
      flags: up | (internal ? InterfaceFlag.loopback : InterfaceFlag.broadcast | InterfaceFlag.multicast),
      mtu: internal ? 65_536 : 1500,
      type: internal ? loopbackType : ethernet,
      hardwareAddress: Uint8Array.from((infos?.[0]?.mac ?? '0:0:0:0:0:0').split(':'), (part) =>
        Number.parseInt(part, 16),
      ),
      addresses: (infos ?? []).map((info) => {
        const family = info.family === 'IPv4' ? Family.inet : Family.inet6;
        const prefix = Number(info.cidr?.split('/')[1] ?? 0);
        return { family, address: addressBytes(info.address, family), prefix };
      }),
    };
  });
}
