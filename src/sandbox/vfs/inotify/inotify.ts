// An inotify instance (inotify(7)): its watches, and the queue of events that a program reads.

import { Errno } from '../../abi/errno.ts';
import { encodeEvent, eventLength, WatchFlag } from '../../abi/inotify.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll, WaitQueue } from '../../kernel/wait-queue.ts';
import type { Stat } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import type { Io } from '../io.ts';
import { Event, type Mark } from '../notify.ts';

const FIONREAD = 0x541b;

interface QueuedEvent {
  readonly watch: number;
  readonly mask: number;
  readonly cookie: number;
  readonly name: string | undefined;
}

/** The limits of inotify(7) (/proc/sys/fs/inotify), and who uses how much of them. kernel.part(InotifyLimits). */
export class InotifyLimits {
  maximumEvents = 16_384;
  maximumInstances = 128;
  maximumWatches = 1_048_576;
  readonly #instances = new Map<number, number>();
  readonly #watches = new Map<number, number>();

  takeInstance(uid: number): boolean {
    return take(this.#instances, uid, this.maximumInstances);
  }
  giveInstance(uid: number): void {
    give(this.#instances, uid);
  }
  takeWatch(uid: number): boolean {
    return take(this.#watches, uid, this.maximumWatches);
  }
  giveWatch(uid: number): void {
    give(this.#watches, uid);
  }
}

function take(counts: Map<number, number>, uid: number, maximum: number): boolean {
  const count = counts.get(uid) ?? 0;
  if (count >= maximum) return false;
  counts.set(uid, count + 1);
  return true;
}

function give(counts: Map<number, number>, uid: number): void {
  const count = (counts.get(uid) ?? 0) - 1;
  if (count > 0) counts.set(uid, count);
  else counts.delete(uid);
}

class Watch implements Mark {
  readonly #instance: Inotify;
  readonly descriptor: number;
  readonly inode: Inode;
  mask: number;

  constructor(instance: Inotify, descriptor: number, inode: Inode, mask: number) {
    this.#instance = instance;
    this.descriptor = descriptor;
    this.inode = inode;
    this.mask = mask;
  }

  notify(mask: number, cookie: number, name: string | undefined, unlinked: boolean): void {
    if ((this.mask & mask & WatchFlag.allEvents) === 0) return;
    if (unlinked && this.mask & WatchFlag.excludeUnlinked) return;
    this.#instance.queueEvent({ watch: this.descriptor, mask, cookie, name });
    if (this.mask & WatchFlag.oneShot) this.#instance.drop(this);
  }

  gone(mask: number): void {
    if (mask === Event.unmount || this.mask & mask)
      this.#instance.queueEvent({ watch: this.descriptor, mask, cookie: 0, name: undefined });
    this.#instance.drop(this);
  }
}

export class Inotify extends FileDescription {
  readonly #limits: InotifyLimits;
  readonly #uid: number;
  readonly #events: QueuedEvent[] = [];
  /** Events before this index are read. */
  #first = 0;
  #overflowed = false;
  readonly #queue = new WaitQueue();
  readonly #watches = new Map<number, Watch>();
  readonly #byInode = new Map<Inode, Watch>();
  #lastDescriptor = 0;
  readonly #now: { readonly sec: number; readonly nsec: number };

  /** The caller has taken an instance from the limits for this user. */
  constructor(task: Task, limits: InotifyLimits, flags: number) {
    super(OpenFlag.readOnly | (flags & OpenFlag.nonBlock), undefined);
    this.#limits = limits;
    this.#uid = task.credentials.uid;
    this.#now = task.kernel.clock.realtime();
  }

  override get queue(): WaitQueue {
    return this.#queue;
  }

  override describe(): string {
    return 'anon_inode:inotify';
  }

  override stat(): Stat {
    return {
      dev: 0xf,
      ino: 1,
      mode: 0o600,
      nlink: 1,
      uid: 0,
      gid: 0,
      rdev: 0,
      size: 0,
      blksize: 4096,
      blocks: 0,
      atime: this.#now,
      mtime: this.#now,
      ctime: this.#now,
    };
  }

  /** For /proc/pid/fdinfo: "inotify wd:1 ino:… sdev:… mask:… ignored_mask:0". */
  watches(): IterableIterator<{ readonly descriptor: number; readonly inode: Inode; readonly mask: number }> {
    return this.#watches.values();
  }

  get #pending(): number {
    return this.#events.length - this.#first;
  }

  queueEvent(event: QueuedEvent): void {
    const last = this.#pending > 0 ? this.#events.at(-1) : undefined;
    if (
      last &&
      last.mask === event.mask &&
      last.watch === event.watch &&
      last.cookie === event.cookie &&
      last.name === event.name &&
      !(event.mask & Event.ignored)
    )
      return;
    if (this.#pending >= this.#limits.maximumEvents) {
      if (this.#overflowed) return;
      this.#overflowed = true;
      this.#events.push({ watch: -1, mask: Event.queueOverflow, cookie: 0, name: undefined });
    } else {
      this.#events.push(event);
    }
    this.#queue.notify(Poll.in | Poll.rdnorm);
  }

  /** A watch is over: says so, and forgets it. */
  drop(watch: Watch): void {
    if (this.#watches.get(watch.descriptor) !== watch) return;
    this.#forget(watch);
    this.queueEvent({ watch: watch.descriptor, mask: Event.ignored, cookie: 0, name: undefined });
  }

  #forget(watch: Watch): void {
    this.#watches.delete(watch.descriptor);
    this.#byInode.delete(watch.inode);
    watch.inode.marks?.delete(watch);
    if (watch.inode.marks?.size === 0) watch.inode.marks = undefined;
    this.#limits.giveWatch(this.#uid);
  }

  /** inotify_add_watch(2) after its lookup: the watch descriptor, -EEXIST (IN_MASK_CREATE), -ENOSPC. */
  addWatch(inode: Inode, mask: number): number {
    const kept = mask & (WatchFlag.allEvents | WatchFlag.excludeUnlinked | WatchFlag.oneShot);
    const known = this.#byInode.get(inode);
    if (known) {
      if (mask & WatchFlag.maskCreate) return -Errno.EEXIST;
      known.mask = mask & WatchFlag.maskAdd ? known.mask | kept : kept;
      return known.descriptor;
    }
    if (!this.#limits.takeWatch(this.#uid)) return -Errno.ENOSPC;
    const watch = new Watch(this, ++this.#lastDescriptor, inode, kept);
    this.#watches.set(watch.descriptor, watch);
    this.#byInode.set(inode, watch);
    inode.marks ??= new Set();
    inode.marks.add(watch);
    return watch.descriptor;
  }

  removeWatch(descriptor: number): number {
    const watch = this.#watches.get(descriptor);
    if (watch === undefined) return -Errno.EINVAL;
    this.drop(watch);
    return 0;
  }

  override readiness(events: number): number {
    return this.#pending > 0 ? events & (Poll.in | Poll.rdnorm) : 0;
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    let total = 0;
    while (this.#pending > 0) {
      const event = this.#events[this.#first] as QueuedEvent;
      const length = eventLength(event.name);
      if (length > io.left) return total > 0 ? total : -Errno.EINVAL;
      const bytes = new Uint8Array(length);
      encodeEvent(bytes, 0, event);
      const moved = io.put(bytes, 0, length);
      if (moved < 0) return total > 0 ? total : moved;
      if (event.mask & Event.queueOverflow) this.#overflowed = false;
      this.#first++;
      total += length;
    }
    this.#events.length = 0;
    this.#first = 0;
    return total > 0 ? total : -Errno.EAGAIN;
  }

  override ioctl(task: Task, command: number, argument: number): number {
    if (command !== FIONREAD) return -Errno.ENOTTY;
    let bytes = 0;
    for (let i = this.#first; i < this.#events.length; i++) bytes += eventLength(this.#events[i]?.name);
    return task.memory.writeU32(argument, bytes);
  }

  protected override release(): void {
    for (const watch of [...this.#watches.values()]) this.#forget(watch);
    this.#limits.giveInstance(this.#uid);
  }
}
