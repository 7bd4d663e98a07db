// What all Unix sockets have (net/unix/af_unix.c): a name, memory accounts that limit how much may be under way,
// credentials and open files in messages.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import {
  Control,
  credentialsSize,
  Family,
  intValue,
  Level,
  Shutdown,
  SocketOption,
} from '../../abi/socket.ts';
import type { Credentials, Process, Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Path } from '../../vfs/contract.ts';
import type { Inode } from '../../vfs/inode.ts';
import type { NetworkNamespace } from '../contract.ts';
import { type Incoming, type Outgoing, type Sender, Socket } from '../socket.ts';
import { AbstractNames, addressOf, BoundInodes, findByPath, makeName, parseName } from './names.ts';
import { type Rights, type RightsHolder, RightsInFlight } from './rights.ts';

/** RCV_SHUTDOWN, SEND_SHUTDOWN. */
export const Shut = { receive: 1, send: 2, both: 3 } as const;

export function shutOf(how: number): number {
  return how === Shutdown.read ? Shut.receive : how === Shutdown.write ? Shut.send : Shut.both;
}

/** A namespace that has abstract names. */
export interface UnixNamespace extends NetworkNamespace {
  readonly abstractNames: AbstractNames;
  /** All that live, for /proc/net/unix. */
  readonly unixSockets: Set<UnixSocket>;
}

/** Who is at the other end, as SO_PEERCRED tells it. */
export interface Peer {
  readonly process: Process;
  readonly credentials: Credentials;
}

const overflowId = 65_534;
const pageSize = 4096;
/** SKB_MAX_HEAD(0): what lies in the head of a buffer; the rest are pages. */
const mostHead = 3776;
/** Bytes that one buffer of a stream carries: the head and pages of order 3. */
export const mostSegment = mostHead + 32_768;
const mostPages = 17 * pageSize;

/** What a buffer with so many bytes costs (skb->truesize), as sock_alloc_send_pskb makes it. */
export function costOf(bytes: number, datagram: boolean): number {
  let paged = bytes > mostHead ? Math.min(bytes - mostHead, mostPages) : 0;
  if (datagram && paged > 0) paged = Math.min(bytes, Math.ceil(paged / pageSize) * pageSize);
  else if (paged > 0) paged = Math.min(bytes, Math.ceil(paged / pageSize) * pageSize);
  const head = bytes - paged + 320;
  const size = head <= 512 ? 512 : 2 ** Math.ceil(Math.log2(head));
  return size + 256 + Math.ceil(paged / pageSize) * pageSize;
}

export abstract class UnixSocket extends Socket implements RightsHolder {
  readonly home: UnixNamespace;
  /** As bind(2) had it: a path or an abstract name; undefined: none. */
  boundName: string | undefined;
  #place: Path | undefined;
  peer: UnixSocket | undefined;
  peerIdentity: Peer | undefined;
  /** Shut bits. */
  shut = 0;
  dead = false;
  /** Cost of what is under way from here. */
  #sent = 0;
  /** Somebody found no room, and wants to know when there is some. */
  #wantsRoom = false;

  constructor(task: Task, home: UnixNamespace, type: number) {
    super(task, home, Family.unix, type, 0);
    this.home = home;
    home.unixSockets.add(this);
  }

  /** For /proc/net/unix: SS_* of include/linux/net.h. */
  abstract readonly stateNumber: number;
  heldBy: RightsHolder | undefined;
  abstract dropQueuedRights(): void;

  // Names.

  override bind(task: Task, address: Uint8Array): number {
    const name = parseName(address);
    if (typeof name === 'number') return name;
    if (name === '' && address.length === 2) return this.autobind(task);
    if (name === '') return -Errno.ENOENT;
    if (this.boundName !== undefined) return -Errno.EINVAL;
    if (name.startsWith('\0')) {
      const names = this.home.abstractNames;
      const key = AbstractNames.key(this.type, name);
      if (names.find(key)) return -Errno.EADDRINUSE;
      names.add(key, this);
    } else {
      const place = makeName(task, name);
      if (typeof place === 'number') return place;
      place.mount.acquire();
      place.dentry.acquire();
      this.#place = place;
      const { inode } = place.dentry;
      if (inode) task.kernel.part(BoundInodes).add(inode, this);
    }
    this.boundName = name;
    return 0;
  }

  protected autobind(task: Task): number {
    if (this.boundName !== undefined) return 0;
    const names = this.home.abstractNames;
    const name = names.free(task.kernel, this.type);
    if (name === undefined) return -Errno.ENOSPC;
    names.add(AbstractNames.key(this.type, name), this);
    this.boundName = name;
    return 0;
  }

  protected releaseName(): void {
    const name = this.boundName;
    if (name === undefined) return;
    const names = this.home.abstractNames;
    const key = AbstractNames.key(this.type, name);
    if (name.startsWith('\0') && names.find(key) === this) names.remove(key);
    const place = this.#place;
    if (!place) return;
    this.#place = undefined;
    const { inode } = place.dentry;
    if (inode) this.kernel.part(BoundInodes).remove(inode, this);
    place.dentry.release();
    place.mount.release();
  }

  override name(): Uint8Array {
    return addressOf(this.boundName);
  }

  override peerName(): Uint8Array | number {
    return this.peer ? this.peer.name() : -Errno.ENOTCONN;
  }

  /** The socket that an address names, of this type, or the inode of one that nobody here serves; -ECONNREFUSED, -EPROTOTYPE, … */
  protected find(task: Task, address: Uint8Array): UnixSocket | Inode | number {
    const name = parseName(address);
    if (typeof name === 'number') return name;
    if (address.length <= 2) return -Errno.EINVAL;
    if (name.startsWith('\0'))
      return this.home.abstractNames.find(AbstractNames.key(this.type, name)) ?? -Errno.ECONNREFUSED;
    const found = findByPath(task, name);
    if (typeof found === 'number') return found;
    if (!(found instanceof UnixSocket)) return found;
    return found.type === this.type ? found : -Errno.EPROTOTYPE;
  }

  // Memory.

  /** unix_writable: room for more than a bit. */
  protected get hasRoom(): boolean {
    return this.#sent * 4 <= this.options.sendBuffer;
  }
  protected get mayAllocate(): boolean {
    return this.#sent < this.options.sendBuffer;
  }
  protected get sentCost(): number {
    return this.#sent;
  }
  protected wantRoom(): void {
    this.#wantsRoom = true;
  }
  charge(cost: number): void {
    this.#sent += cost;
  }
  /** A receiver has taken something. */
  uncharge(cost: number): void {
    this.#sent -= cost;
    if (this.#wantsRoom && this.hasRoom) {
      this.#wantsRoom = false;
      this.queue.notify(Poll.out | Poll.wrnorm | Poll.wrband);
    }
  }
  override outQueue(): number {
    return this.listening ? -Errno.EINVAL : this.#sent;
  }

  // Credentials and open files.

  override prepare(task: Task, message: Outgoing): number {
    for (const { level, type, data } of message.control) {
      if (level !== Level.socket || type === Control.rights) continue;
      if (type !== Control.credentials || data.length !== credentialsSize) return -Errno.EINVAL;
      const sender = checkCredentials(task, data);
      if (typeof sender === 'number') return sender;
      message.credentials = sender;
    }
    const files = this.kernel.part(RightsInFlight).resolve(task, message.control);
    if (typeof files === 'number') return files;
    message.rights = files;
    return 0;
  }

  /** Who sends, if anybody cares (unix_maybe_add_creds). */
  protected senderFor(task: Task, message: Outgoing, other: UnixSocket): Sender | undefined {
    if (message.credentials) return message.credentials;
    if (!this.options.passCredentials && !other.options.passCredentials) return undefined;
    const { uid, gid } = task.credentials;
    return { process: task.process, uid, gid };
  }

  /** The files of a message for somebody's queue. */
  protected rightsOf(task: Task, message: Outgoing, owner: UnixSocket): Rights | undefined {
    const files = message.takeRights();
    return files && this.kernel.part(RightsInFlight).send(files, task.credentials.uid, owner);
  }

  /** SCM_CREDENTIALS, for a receiver that asked. */
  protected tellSender(task: Task, message: Incoming, sender: Sender | undefined): void {
    if (!this.options.passCredentials) return;
    message.control.push({
      level: Level.socket,
      type: Control.credentials,
      data: credentialsFor(task, sender),
    });
  }

  /** Gives the files of a message to its receiver. */
  protected receiveRights(message: Incoming, rights: Rights): void {
    message.rights = message.peeks ? rights.copy() : this.kernel.part(RightsInFlight).take(rights);
  }

  override ownSocketOption(task: Task, name: number, room: number): Uint8Array | number | undefined {
    const peer = this.peerIdentity;
    if (!peer) return undefined;
    if (name === SocketOption.peerCredentials) {
      const { euid, egid } = peer.credentials;
      return credentialsFor(task, { process: peer.process, uid: euid, gid: egid }).slice(
        0,
        Math.max(0, room),
      );
    }
    if (name !== SocketOption.peerGroups) return -Errno.ENOPROTOOPT;
    const { groups } = peer.credentials;
    if (room < groups.length * 4) return -Errno.ERANGE;
    const value = new Uint8Array(groups.length * 4);
    for (const [index, gid] of groups.entries())
      value.set(intValue(visible(task.credentials.userNamespace.fromKernelGid(gid))), index * 4);
    return value;
  }

  override unreference(): void {
    super.unreference();
    if (this.references > 0) this.kernel.part(RightsInFlight).check(this);
  }

  protected override release(): void {
    this.dead = true;
    this.home.unixSockets.delete(this);
    this.releaseName();
    this.dropQueuedRights();
  }
}

const visible = (id: number): number => (id === -1 ? overflowId : id);

/** struct ucred as a task sees it; without a sender: nobody. */
function credentialsFor(task: Task, sender: Sender | undefined): Uint8Array {
  const data = new Uint8Array(credentialsSize);
  const view = new DataView(data.buffer);
  const { userNamespace } = task.credentials;
  view.setInt32(0, sender ? sender.process.pidIn(task.process.pidNamespace) : 0, true);
  view.setUint32(4, sender ? visible(userNamespace.fromKernelUid(sender.uid)) : overflowId, true);
  view.setUint32(8, sender ? visible(userNamespace.fromKernelGid(sender.gid)) : overflowId, true);
  return data;
}

/** scm_check_creds: nobody says that he is another, unless he may. */
function checkCredentials(task: Task, data: Uint8Array): Sender | number {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const pid = view.getInt32(0, true);
  const { credentials, process } = task;
  const { userNamespace } = credentials;
  const uid = userNamespace.toKernelUid(view.getUint32(4, true));
  const gid = userNamespace.toKernelGid(view.getUint32(8, true));
  if (uid === -1 || gid === -1) return -Errno.EINVAL;
  const own = pid === process.pidIn(process.pidNamespace);
  if (!own && !credentials.has(Capability.sysAdmin)) return -Errno.EPERM;
  if (
    ![credentials.uid, credentials.euid, credentials.suid].includes(uid) &&
    !credentials.has(Capability.setuid)
  )
    return -Errno.EPERM;
  if (
    ![credentials.gid, credentials.egid, credentials.sgid].includes(gid) &&
    !credentials.has(Capability.setgid)
  )
    return -Errno.EPERM;
  const sender = own ? process : process.pidNamespace.findProcess(pid);
  return sender ? { process: sender, uid, gid } : -Errno.ESRCH;
}
