// A socket as the system calls see it. Each kind (Unix, loopback TCP and UDP, netlink, the host's) is a subclass; what a
// kind does not override gives the errno that Linux gives for it (sock_no_*). None of the operations waits: -EAGAIN says
// that the caller may block on `queue` and ask again (net/waiting.ts).

import { Errno } from '../abi/errno.ts';
import { OpenFlag } from '../abi/open.ts';
import { Message, SocketIoctl, SocketType } from '../abi/socket.ts';
import type { Kernel, Process, Task } from '../kernel/contract.ts';
import { Poll, WaitQueue } from '../kernel/wait-queue.ts';
import type { Stat, StatFs } from '../vfs/contract.ts';
import { FileDescription } from '../vfs/file-description.ts';
import type { Inode } from '../vfs/inode.ts';
import type { Io } from '../vfs/io.ts';
import type { ControlMessage, NetworkNamespace } from './contract.ts';
import { interfaceIoctl } from './interface-ioctl.ts';
import { SocketOptions } from './options.ts';
import { SocketFileSystem, type SocketInode } from './sockfs.ts';

const SIGPIPE = 13;

/** One message on its way to a program: what recvmsg(2) gives beside the bytes. A kind fills in what it has. */
export class Incoming {
  /** MSG_*, as the program gave them. */
  readonly flags: number;
  /** msg_flags of the answer. */
  outFlags = 0;
  /** The sender's address; undefined: the kind gives none (msg_namelen 0). */
  address: Uint8Array | undefined;
  readonly control: ControlMessage[] = [];
  /** Open files that came along (SCM_RIGHTS), each with a reference. */
  rights: readonly FileDescription[] | undefined;

  constructor(flags: number) {
    this.flags = flags;
  }

  get peeks(): boolean {
    return (this.flags & Message.peek) !== 0;
  }

  /** Nobody takes the files: gives up the references. */
  dropRights(): void {
    for (const file of this.rights ?? []) file.unreference();
    this.rights = undefined;
  }
}

/** One message on its way from a program: what sendmsg(2) was given beside the bytes. */
export class Outgoing {
  /** MSG_*. */
  flags: number;
  /** As the program gave it; undefined: none. */
  readonly address: Uint8Array | undefined;
  readonly control: readonly ControlMessage[];
  /** What a kind has made of `control` (Socket.prepare). Open files in it are given up by `finish`. */
  rights: readonly FileDescription[] | undefined;
  credentials: Sender | undefined;

  constructor(flags: number, address: Uint8Array | undefined, control: readonly ControlMessage[]) {
    this.flags = flags;
    this.address = address;
    this.control = control;
  }

  /** The files are on their way: the message has them no more. */
  takeRights(): readonly FileDescription[] | undefined {
    const { rights } = this;
    this.rights = undefined;
    return rights;
  }

  finish(): void {
    for (const file of this.takeRights() ?? []) file.unreference();
  }
}

/** Who sent something (struct ucred), in the kernel's own numbers. */
export interface Sender {
  readonly process: Process;
  readonly uid: number;
  readonly gid: number;
}

const noControl: readonly ControlMessage[] = [];

export abstract class Socket extends FileDescription {
  readonly kernel: Kernel;
  readonly namespace: NetworkNamespace;
  readonly family: number;
  /** SOCK_*. */
  readonly type: number;
  readonly protocol: number;
  readonly options: SocketOptions;
  readonly #queue = new WaitQueue();
  readonly #inode: SocketInode;
  /** sk_err: what the next operation fails with, once; a positive errno or 0. */
  pendingError = 0;

  constructor(task: Task, namespace: NetworkNamespace, family: number, type: number, protocol: number) {
    super(OpenFlag.readWrite, undefined);
    this.kernel = task.kernel;
    this.namespace = namespace;
    this.family = family;
    this.type = type;
    this.protocol = protocol;
    this.options = new SocketOptions(task.kernel.clock);
    this.#inode = task.kernel.part(SocketFileSystem).newInode(task.credentials);
  }

  override get inode(): Inode {
    return this.#inode;
  }
  get ino(): number {
    return this.#inode.ino;
  }
  /** The owner as /proc/net shows it. */
  get uid(): number {
    return this.#inode.uid;
  }
  override stat(): Stat {
    return this.#inode.stat();
  }
  override statfs(): StatFs {
    return this.#inode.fileSystem.statfs();
  }
  override describe(): string {
    return `socket:[${this.#inode.ino}]`;
  }
  override get queue(): WaitQueue {
    return this.#queue;
  }

  /** A blocking write goes on until everything is sent. */
  override get writesAll(): boolean {
    return this.type === SocketType.stream;
  }

  /** SO_RCVTIMEO and SO_SNDTIMEO. */
  override waitLimit(events: number): number {
    return events & Poll.in ? this.options.receiveTimeout : this.options.sendTimeout;
  }

  /** sock_error(): the pending error as a negative errno, and it is gone; 0: there is none. */
  takeError(): number {
    const error = this.pendingError;
    this.pendingError = 0;
    return error === 0 ? 0 : -error;
  }

  /** Something is wrong with the connection: kept for the next operation, and those who wait look again. */
  fail(errno: number): void {
    this.pendingError = errno;
    this.queue.notify(Poll.err | Poll.in | Poll.rdnorm | Poll.out | Poll.wrnorm | Poll.hup);
  }

  // What the calls ask for. Addresses are as programs write them (struct sockaddr, as long as they said).

  bind(_task: Task, _address: Uint8Array): number {
    return -Errno.EOPNOTSUPP;
  }
  listen(_task: Task, _backlog: number): number {
    return -Errno.EOPNOTSUPP;
  }
  /** The next connection; -EAGAIN: none has come. */
  accept(_task: Task): Socket | number {
    return -Errno.EOPNOTSUPP;
  }
  /** dontWait: the socket does not block. May block the call itself (BLOCKED). */
  connect(_task: Task, _address: Uint8Array, _dontWait: boolean): number {
    return -Errno.EOPNOTSUPP;
  }
  /** getsockname(2). */
  name(): Uint8Array | number {
    return -Errno.EOPNOTSUPP;
  }
  /** getpeername(2). */
  peerName(): Uint8Array | number {
    return -Errno.EOPNOTSUPP;
  }
  shutdown(_task: Task, _how: number): number {
    return -Errno.EOPNOTSUPP;
  }
  /** Looks at a message's control messages once, before it is sent. 0 or a negative errno. */
  prepare(_task: Task, _message: Outgoing): number {
    return 0;
  }
  /** Bytes, or -EAGAIN: no room. Of a stream it may be less than was asked for. */
  abstract send(task: Task, io: Io, message: Outgoing): number;
  /**
   * Bytes, 0 at the end of a stream, -EAGAIN: nothing there. MSG_TRUNC in flags: a datagram's whole length. Streams
   * give what is there, up to io.left; MSG_WAITALL and SO_RCVLOWAT are the caller's business.
   */
  abstract receive(task: Task, io: Io, message: Incoming): number;

  /** Options at SOL_SOCKET. */
  getSocketOption(task: Task, name: number, room: number): Uint8Array | number {
    return this.options.get(task, this, name, room);
  }
  setSocketOption(task: Task, name: number, value: Uint8Array): number {
    return this.options.set(task, this, name, value);
  }
  /** Options of other levels than SOL_SOCKET. room: how many bytes the program has for it. */
  getOption(_task: Task, _level: number, _name: number, _room: number): Uint8Array | number {
    return -Errno.EOPNOTSUPP;
  }
  setOption(_task: Task, _level: number, _name: number, _value: Uint8Array): number {
    return -Errno.EOPNOTSUPP;
  }
  /** SO_PEERCRED and the like: SOL_SOCKET options that only some kinds have; undefined: this one has not. */
  ownSocketOption(_task: Task, _name: number, _room: number): Uint8Array | number | undefined {
    return undefined;
  }
  /** SO_SNDBUF or SO_RCVBUF was changed: there may be room now. */
  bufferChanged(): void {
    this.queue.notify(Poll.out | Poll.wrnorm);
  }
  /** SO_ACCEPTCONN. */
  get listening(): boolean {
    return false;
  }
  /** Whether connections are made with it (recvfrom gives no address then, MSG_WAITALL and SO_RCVLOWAT count). */
  get isStream(): boolean {
    return this.type === SocketType.stream;
  }

  /** FIONREAD; a negative errno. */
  inQueue(): number {
    return -Errno.EINVAL;
  }
  /** SIOCOUTQ. */
  outQueue(): number {
    return -Errno.EINVAL;
  }

  // As a file.

  override read(task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    if (io.left === 0) return 0;
    const message = new Incoming(0);
    const result = this.receive(task, io, message);
    if (message.rights !== undefined) message.dropRights();
    return result;
  }

  override write(task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    const flags = this.type === SocketType.seqPacket ? Message.endOfRecord : 0;
    return this.send(task, io, new Outgoing(flags, undefined, noControl));
  }

  override ioctl(task: Task, command: number, argument: number): number {
    switch (command) {
      case SocketIoctl.inQueue:
      case SocketIoctl.outQueue: {
        const count = command === SocketIoctl.inQueue ? this.inQueue() : this.outQueue();
        return count < 0 ? count : task.memory.writeU32(argument, count);
      }
      case SocketIoctl.atMark:
        return -Errno.ENOTTY;
      default:
        return interfaceIoctl(task, this.namespace, command, argument);
    }
  }

  /** The stream is broken: EPIPE, with its signal unless MSG_NOSIGNAL. */
  protected broken(task: Task, flags: number): number {
    if ((flags & Message.noSignal) === 0)
      task.sendSignal({ signal: SIGPIPE, code: 0, sender: task.process, uid: task.credentials.uid });
    return -Errno.EPIPE;
  }
}
