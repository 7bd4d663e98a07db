// What loopback TCP and UDP sockets share: names, ports, routes, options of IP.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Family, IpOption, Level, SocketType } from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import { Socket } from '../socket.ts';
import {
  anyInet,
  anyInet6,
  type Endpoint,
  formatEndpoint,
  isAny,
  isMulticast,
  parseEndpoint,
} from './addresses.ts';
import { IpOptions } from './ip-options.ts';
import type { LoopbackNetwork } from './network.ts';
import type { PortHolder, PortTable } from './ports.ts';

/** net.ipv4.ip_unprivileged_port_start. */
const firstUnprivileged = 1024;

export abstract class InetSocket extends Socket implements PortHolder {
  readonly stack: LoopbackNetwork;
  readonly ip = new IpOptions();
  local: Endpoint;
  remote: Endpoint | undefined;
  /** bind(2) named an address: disconnecting keeps it. */
  boundAddress = false;
  /** bind(2) named a port. */
  boundPort = false;
  /** Whether it is in the table of ports. */
  protected holdsPort = false;

  constructor(task: Task, stack: LoopbackNetwork, family: number, type: number, protocol: number) {
    super(task, stack, family, type, protocol);
    this.stack = stack;
    this.local = { ip: family === Family.inet ? anyInet : anyInet6, port: 0 };
  }

  protected abstract readonly ports: PortTable<this>;
  abstract readonly connected: boolean;

  get onlyInet6(): boolean {
    return this.ip.onlyInet6;
  }
  get reuseAddress(): boolean {
    return this.options.reuseAddress;
  }
  get reusePort(): boolean {
    return this.options.reusePort;
  }
  get boundDevice(): number {
    return this.options.device;
  }
  get bound(): boolean {
    return this.local.port !== 0;
  }
  /** The wildcard address of its family. */
  protected get any(): string {
    return this.family === Family.inet ? anyInet : anyInet6;
  }

  override bind(task: Task, address: Uint8Array): number {
    const wanted = parseEndpoint(this.family, address);
    if (typeof wanted === 'number') return wanted;
    if (wanted.isMapped && this.onlyInet6) return -Errno.EINVAL;
    // An IPv4-mapped wildcard takes only IPv4.
    const { ip, port } = wanted;
    if (this.family === Family.inet6 && isMulticast(ip) && this.type === SocketType.stream)
      return -Errno.EINVAL;
    const free = this.ip.inet(IpOption.freeBind) !== 0 || this.ip.inet(IpOption.transparent) !== 0;
    if (!isAny(ip) && !free && !isMulticast(ip) && ip !== 'ffffffff' && !this.stack.isLocal(ip))
      return -Errno.EADDRNOTAVAIL;
    if (port > 0 && port < firstUnprivileged) {
      const { userNamespace } = this.namespace;
      if (!task.credentials.hasIn(userNamespace, Capability.netBindService)) return -Errno.EACCES;
    }
    if (this.bound || !this.mayBind) return -Errno.EINVAL;
    const result = this.hold(ip, port);
    if (result < 0) return result;
    this.boundAddress = !isAny(ip);
    this.boundPort = port !== 0;
    return 0;
  }

  protected get mayBind(): boolean {
    return true;
  }

  /** Takes a port (0: any). -EADDRINUSE. */
  protected hold(ip: string, port: number): number {
    const { ports } = this;
    const chosen = port === 0 ? ports.choose(this, ip) : port;
    if (chosen < 0) return chosen;
    if (port !== 0 && !ports.mayHave(this, ip, port)) return -Errno.EADDRINUSE;
    this.take({ ip, port: chosen });
    return 0;
  }

  protected take(local: Endpoint): void {
    this.local = local;
    this.holdsPort = true;
    this.ports.add(this, local.port);
  }

  protected letGo(): void {
    if (!this.holdsPort) return;
    this.holdsPort = false;
    this.ports.remove(this, this.local.port);
  }

  override name(): Uint8Array {
    return formatEndpoint(this.family, this.local);
  }
  override peerName(): Uint8Array | number {
    return this.remote && this.connected ? formatEndpoint(this.family, this.remote) : -Errno.ENOTCONN;
  }

  override getOption(_task: Task, level: number, name: number, room: number): Uint8Array | number {
    if (level === Level.ip || level === Level.ipv6) return this.ip.get(this, level, name, room);
    return level === this.protocol ? -Errno.ENOPROTOOPT : -Errno.EOPNOTSUPP;
  }

  override setOption(task: Task, level: number, name: number, value: Uint8Array): number {
    if (level === Level.ip || level === Level.ipv6) return this.ip.set(task, this, level, name, value);
    return -Errno.ENOPROTOOPT;
  }
}
