// AF_NETLINK sockets (netlink(7)). A request is answered when it is sent; the answers wait in the socket's queue.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { NetlinkFlag, NetlinkHeader, NetlinkProtocol, NetlinkType } from '../../abi/netlink.ts';
import { Family, familyOf, intValue, Level, Message, readInt } from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Io } from '../../vfs/io.ts';
import { type Incoming, type Outgoing, Socket } from '../socket.ts';
import type { NetworkStack } from '../stack.ts';
import { giveBytes, takeBytes } from '../unix/messages.ts';
import { NetlinkMessage } from './attributes.ts';
import { type NetlinkRequest, routeAnswers } from './route.ts';

const addressSize = 12;
/** NETLINK_*: options. */
const Option = {
  addMembership: 1,
  dropMembership: 2,
  packetInfo: 3,
  broadcastError: 4,
  noBuffers: 5,
  listMemberships: 9,
  capAcknowledge: 10,
  extendedAcknowledge: 11,
  strictCheck: 12,
} as const;
const options: ReadonlySet<number> = new Set([3, 4, 5, 10, 11, 12]);
/** How much one datagram of a dump holds. */
const dumpSize = 8192;

export class NetlinkSocket extends Socket {
  readonly #stack: NetworkStack;
  /** nl_pid; 0: not bound. */
  port = 0;
  groups = 0;
  readonly #flags = new Map<number, number>();
  readonly #queue: Uint8Array[] = [];
  #held = 0;
  #peerPort = 0;

  constructor(task: Task, stack: NetworkStack, type: number, protocol: number) {
    super(task, stack, Family.netlink, type, protocol);
    this.#stack = stack;
  }

  override bind(task: Task, address: Uint8Array): number {
    if (address.length < addressSize) return -Errno.EINVAL;
    if (familyOf(address) !== Family.netlink) return -Errno.EINVAL;
    const view = new DataView(address.buffer, address.byteOffset, address.length);
    const groups = view.getUint32(8, true);
    // Listening to groups is for everybody with these two protocols.
    const port = view.getUint32(4, true);
    if (this.port !== 0 && port !== this.port) return -Errno.EINVAL;
    if (this.port === 0) {
      const bound = this.#bindTo(task, port);
      if (bound < 0) return bound;
    }
    this.groups = groups;
    return 0;
  }

  /** port 0: one that nobody has, the process's number if possible (netlink_autobind). */
  #bindTo(task: Task, wanted: number): number {
    const ports = this.#stack.netlinkPorts;
    const key = (port: number): string => `${this.protocol}:${port}`;
    let port = wanted;
    if (port === 0) {
      port = task.process.pidIn(task.process.pidNamespace);
      for (let next = 0xffff_f000; ports.has(key(port)); next--) port = next;
    } else if (ports.has(key(port))) return -Errno.EADDRINUSE;
    ports.add(key(port));
    this.port = port;
    return 0;
  }

  override connect(task: Task, address: Uint8Array, _dontWait: boolean): number {
    if (address.length < 2) return -Errno.EINVAL;
    if (familyOf(address) === Family.unspecified) {
      this.#peerPort = 0;
      return 0;
    }
    if (familyOf(address) !== Family.netlink || address.length < addressSize) return -Errno.EINVAL;
    const view = new DataView(address.buffer, address.byteOffset, address.length);
    if (view.getUint32(4, true) !== 0 || view.getUint32(8, true) !== 0) {
      if (!task.credentials.hasIn(this.namespace.userNamespace, Capability.netAdmin)) return -Errno.EPERM;
    }
    this.#peerPort = view.getUint32(4, true);
    return this.port === 0 ? this.#bindTo(task, 0) : 0;
  }

  #address(port: number, groups: number): Uint8Array {
    const bytes = new Uint8Array(addressSize);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, Family.netlink, true);
    view.setUint32(4, port, true);
    view.setUint32(8, groups, true);
    return bytes;
  }
  override name(): Uint8Array {
    return this.#address(this.port, this.groups);
  }
  override peerName(): Uint8Array {
    return this.#address(this.#peerPort, 0);
  }

  override send(task: Task, io: Io, message: Outgoing): number {
    if (message.flags & Message.outOfBand) return -Errno.EOPNOTSUPP;
    let to = this.#peerPort;
    const { address } = message;
    if (address) {
      if (address.length < addressSize || familyOf(address) !== Family.netlink) return -Errno.EINVAL;
      const view = new DataView(address.buffer, address.byteOffset, address.length);
      to = view.getUint32(4, true);
      if ((to !== 0 || view.getUint32(8, true) !== 0) && this.protocol !== NetlinkProtocol.route)
        return -Errno.EPERM;
      if (
        view.getUint32(8, true) !== 0 &&
        !task.credentials.hasIn(this.namespace.userNamespace, Capability.netAdmin)
      )
        return -Errno.EPERM;
    }
    if (io.left > this.options.sendBuffer - 32) return -Errno.EMSGSIZE;
    if (this.port === 0) {
      const bound = this.#bindTo(task, 0);
      if (bound < 0) return bound;
    }
    const bytes = takeBytes(io);
    if (typeof bytes === 'number') return bytes;
    // Programs do not reach each other, only the kernel.
    if (to !== 0) return -Errno.ECONNREFUSED;
    if (this.protocol === NetlinkProtocol.route) this.#requests(task, bytes);
    return bytes.length;
  }

  /** netlink_rcv_skb. */
  #requests(task: Task, bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at + NetlinkHeader.size <= bytes.length; ) {
      const length = view.getUint32(at, true);
      if (length < NetlinkHeader.size || length > bytes.length - at) return;
      const request: NetlinkRequest = {
        type: view.getUint16(at + NetlinkHeader.type, true),
        flags: view.getUint16(at + NetlinkHeader.flags, true),
        sequence: view.getUint32(at + NetlinkHeader.sequence, true),
        port: this.port,
        body: bytes.subarray(at + NetlinkHeader.size, at + length),
      };
      this.#answer(task, request, bytes.subarray(at, at + length));
      at += (length + 3) & ~3;
    }
  }

  #answer(task: Task, request: NetlinkRequest, whole: Uint8Array): void {
    let error = 0;
    const { flags } = request;
    if (flags & NetlinkFlag.request && request.type >= NetlinkType.firstOwn) {
      const answers = routeAnswers(task, this.namespace, request);
      if (typeof answers === 'number') error = answers;
      else if ((flags & NetlinkFlag.dump) === NetlinkFlag.dump && request.type % 4 === 2) {
        this.#dump(request, answers);
        return;
      } else for (const answer of answers) this.#push(answer);
    }
    if (error !== 0 || flags & NetlinkFlag.acknowledge) this.#acknowledge(request, whole, error);
  }

  /** Many messages in few datagrams, and one that says that this was all. */
  #dump(request: NetlinkRequest, answers: readonly Uint8Array[]): void {
    let batch: Uint8Array[] = [];
    let size = 0;
    for (const answer of answers) {
      if (size + answer.length > dumpSize && size > 0) {
        this.#push(Buffer.concat(batch));
        batch = [];
        size = 0;
      }
      batch.push(answer);
      size += answer.length;
    }
    if (size > 0) this.#push(Buffer.concat(batch));
    const done = new NetlinkMessage(NetlinkType.done, NetlinkFlag.multi, request.sequence, this.port);
    done.structure(4);
    this.#push(done.finish());
  }

  /** NLMSG_ERROR: the error (0: done), and the request, or its header alone if the socket wants that or all went well. */
  #acknowledge(request: NetlinkRequest, whole: Uint8Array, error: number): void {
    const capped = error === 0 || this.#flags.get(Option.capAcknowledge) === 1;
    const flags = capped ? NetlinkFlag.capped : 0;
    const message = new NetlinkMessage(NetlinkType.error, flags, request.sequence, this.port);
    const kept = capped ? NetlinkHeader.size : whole.length;
    const part = message.structure(4 + kept);
    part.setInt32(0, error, true);
    for (let i = 0; i < kept; i++) part.setUint8(4 + i, whole[i] ?? 0);
    this.#push(message.finish());
  }

  #push(bytes: Uint8Array): void {
    if (this.#held > 0 && this.#held + bytes.length > this.options.receiveBuffer) {
      // The reader is too slow, and has to know that something is lost.
      this.fail(Errno.ENOBUFS);
      return;
    }
    this.#held += bytes.length;
    this.#queue.push(bytes);
    this.queue.notify(Poll.in | Poll.rdnorm);
  }

  override receive(_task: Task, io: Io, message: Incoming): number {
    if (message.flags & Message.outOfBand) return -Errno.EOPNOTSUPP;
    const error = this.takeError();
    if (error < 0) return error;
    const first = this.#queue[0];
    if (!first) return -Errno.EAGAIN;
    const count = giveBytes(io, first, message);
    if (count < 0) return count;
    message.address = this.#address(0, 0);
    if (this.#flags.get(Option.packetInfo))
      message.control.push({ level: Level.netlink, type: Option.packetInfo, data: intValue(0) });
    if (!message.peeks) {
      this.#queue.shift();
      this.#held -= first.length;
    }
    return count;
  }

  override readiness(events: number): number {
    let ready = Poll.out | Poll.wrnorm | Poll.wrband;
    if (this.pendingError !== 0) ready |= Poll.err;
    if (this.#queue.length > 0) ready |= Poll.in | Poll.rdnorm;
    return ready & (events | Poll.err | Poll.hup);
  }

  override getOption(_task: Task, level: number, name: number, room: number): Uint8Array | number {
    if (level !== Level.netlink) return -Errno.ENOPROTOOPT;
    if (name === Option.listMemberships) return intValue(this.groups).slice(0, room & ~3);
    if (!options.has(name)) return -Errno.ENOPROTOOPT;
    return room < 4 ? -Errno.EINVAL : intValue(this.#flags.get(name) ?? 0);
  }

  override setOption(_task: Task, level: number, name: number, value: Uint8Array): number {
    if (level !== Level.netlink) return -Errno.ENOPROTOOPT;
    const int = value.length >= 4 ? readInt(value) : 0;
    if (name === Option.addMembership || name === Option.dropMembership) {
      if (int < 1 || int > 64) return -Errno.EINVAL;
      if (int <= 32) {
        const bit = 1 << (int - 1);
        this.groups = (name === Option.addMembership ? this.groups | bit : this.groups & ~bit) >>> 0;
      }
      return 0;
    }
    if (!options.has(name)) return -Errno.ENOPROTOOPT;
    this.#flags.set(name, int === 0 ? 0 : 1);
    return 0;
  }

  protected override release(): void {
    if (this.port !== 0) this.#stack.netlinkPorts.delete(`${this.protocol}:${this.port}`);
  }
}
