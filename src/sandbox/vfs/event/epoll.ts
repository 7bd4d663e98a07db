// An epoll instance (epoll(7), fs/eventpoll.c): the interest list, the ready list, nesting.
//
// A watched file's queue tells an item that something may have happened; the item then stands in the ready list, and
// epoll_wait asks the file itself. A level-triggered item that was reported goes to the end of the list and is asked
// again next time, which also makes the order fair; an edge-triggered one leaves the list until it is told again.
// Items hold no reference to their file: they go when its last reference does.

import { Errno } from '../../abi/errno.ts';
import { EpollEvent, EpollFlag } from '../../abi/event.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import { Poll, type Waiter, WaitQueue } from '../../kernel/wait-queue.ts';
import type { FileDescription, ReleaseObserver } from '../file-description.ts';
import { AnonymousFile } from './anonymous.ts';

/** EP_PRIVATE_BITS: what a one-shot item keeps once it was reported. */
const privateBits = EpollFlag.wakeUp | EpollFlag.oneShot | EpollFlag.edgeTriggered | EpollFlag.exclusive;

/** EP_MAX_NESTS: epoll instances in a chain, beside the first. */
const maximumNesting = 4;

/** sizeof(struct epitem) + sizeof(struct eppoll_entry), of which 4 % of memory is a user's share (max_user_watches). */
const watchCost = 128 + 64;

/** Watches of each user; /proc/sys/fs/epoll/max_user_watches. One per kernel: `kernel.part(EpollWatches)`. */
export class EpollWatches {
  maximum: number;
  readonly #counts = new Map<number, number>();

  constructor(kernel: Kernel) {
    this.maximum = Math.floor(kernel.memoryTotal / 25 / watchCost);
  }

  /** False: the user has too many. */
  add(uid: number): boolean {
    const count = this.#counts.get(uid) ?? 0;
    if (count >= this.maximum) return false;
    this.#counts.set(uid, count + 1);
    return true;
  }

  remove(uid: number): void {
    const count = (this.#counts.get(uid) ?? 0) - 1;
    if (count > 0) this.#counts.set(uid, count);
    else this.#counts.delete(uid);
  }
}

class Item implements Waiter, ReleaseObserver {
  readonly epoll: Epoll;
  readonly fd: number;
  readonly file: FileDescription;
  events: number;
  dataLow: number;
  dataHigh: number;
  /** In the ready list; with its neighbours there. */
  ready = false;
  next: Item | undefined;
  previous: Item | undefined;

  constructor(epoll: Epoll, fd: number, file: FileDescription, event: EpollInterest) {
    this.epoll = epoll;
    this.fd = fd;
    this.file = file;
    this.events = event.events;
    this.dataLow = event.dataLow;
    this.dataHigh = event.dataHigh;
  }

  /** What it is interested in, without the flags. */
  get interest(): number {
    return this.events & ~privateBits;
  }

  readiness(task: Task): number {
    const interest = this.interest;
    // A one-shot item that was reported sleeps: not even errors are told.
    if (interest === 0) return 0;
    return this.file.readiness(interest, task) & interest;
  }

  notify(events: number): void {
    if ((this.interest & events) !== 0) this.epoll.itemReady(this);
  }

  fileReleased(): void {
    this.epoll.forget(this);
  }
}

/** As in struct epoll_event. */
export interface EpollInterest {
  /** Unsigned. */
  readonly events: number;
  readonly dataLow: number;
  readonly dataHigh: number;
}

export class Epoll extends AnonymousFile {
  protected readonly kind = '[eventpoll]';
  /** Notified when an item becomes ready: epoll_wait and instances that watch this one. */
  readonly #queue = new WaitQueue();
  readonly #uid: number;
  readonly #watches: EpollWatches;
  /** A number may stand for several files: one that was closed while a duplicate is open, and its successor. */
  readonly #items = new Map<number, Item[]>();
  #firstReady: Item | undefined;
  // For events on their way to the program, kept because making a buffer takes longer than all the rest.
  #bytes = new Uint8Array(16 * EpollEvent.size);
  #view = new DataView(this.#bytes.buffer);
  #lastReady: Item | undefined;
  /** Instances that watch this one. */
  readonly #watchers = new Map<Epoll, number>();

  /** uid: whose watches are counted. */
  constructor(kernel: Kernel, flags: number, uid: number) {
    super(kernel, flags);
    this.#uid = uid;
    this.#watches = kernel.part(EpollWatches);
  }

  override get queue(): WaitQueue {
    return this.#queue;
  }

  // The interest list. The callers have checked what EPOLL_CTL_* is allowed for.

  #find(fd: number, file: FileDescription): Item | undefined {
    return this.#items.get(fd)?.find((item) => item.file === file);
  }

  /** 0, -EEXIST, -ENOSPC, -ELOOP. */
  add(task: Task, fd: number, file: FileDescription, event: EpollInterest): number {
    if (file instanceof Epoll && this.#wouldLoop(file)) return -Errno.ELOOP;
    if (this.#find(fd, file)) return -Errno.EEXIST;
    if (!this.#watches.add(this.#uid)) return -Errno.ENOSPC;
    const item = new Item(this, fd, file, withErrors(event));
    const same = this.#items.get(fd);
    if (same) same.push(item);
    else this.#items.set(fd, [item]);
    file.observe(item);
    if (file instanceof Epoll) file.#watchers.set(this, (file.#watchers.get(this) ?? 0) + 1);
    this.#listen(item);
    if (item.readiness(task) !== 0) this.itemReady(item);
    return 0;
  }

  #listen(item: Item): void {
    item.file.queue?.add(item, item.interest, (item.events & EpollFlag.exclusive) !== 0);
  }

  /** 0, -ENOENT, -EINVAL (EPOLLEXCLUSIVE cannot be changed). */
  modify(task: Task, fd: number, file: FileDescription, event: EpollInterest): number {
    const item = this.#find(fd, file);
    if (!item) return -Errno.ENOENT;
    if (item.events & EpollFlag.exclusive) return -Errno.EINVAL;
    const { events, dataLow, dataHigh } = withErrors(event);
    file.queue?.remove(item);
    item.events = events;
    item.dataLow = dataLow;
    item.dataHigh = dataHigh;
    this.#listen(item);
    if (item.readiness(task) !== 0) this.itemReady(item);
    return 0;
  }

  delete(fd: number, file: FileDescription): number {
    const item = this.#find(fd, file);
    if (!item) return -Errno.ENOENT;
    this.forget(item);
    return 0;
  }

  /** For Item: it was deleted, or its file is gone. */
  forget(item: Item): void {
    const { fd, file } = item;
    file.queue?.remove(item);
    file.unobserve(item);
    if (file instanceof Epoll) {
      const count = (file.#watchers.get(this) ?? 0) - 1;
      if (count > 0) file.#watchers.set(this, count);
      else file.#watchers.delete(this);
    }
    if (item.ready) this.#unlink(item);
    const same = this.#items.get(fd);
    if (same?.length === 1) this.#items.delete(fd);
    else same?.splice(same.indexOf(item), 1);
    this.#watches.remove(this.#uid);
  }

  // Nesting (ep_loop_check).

  /** How many instances deep it watches others; beyond the maximum if it comes to `target` or is too deep. */
  #depth(target: Epoll, level: number): number {
    let depth = 0;
    for (const items of this.#items.values())
      for (const { file } of items) {
        if (!(file instanceof Epoll)) continue;
        if (file === target || level > maximumNesting) return maximumNesting + 1;
        depth = Math.max(depth, file.#depth(target, level + 1) + 1);
        if (depth > maximumNesting) return depth;
      }
    return depth;
  }

  #heightAbove(level: number): number {
    let height = 0;
    if (level > maximumNesting) return height;
    for (const watcher of this.#watchers.keys())
      height = Math.max(height, watcher.#heightAbove(level + 1) + 1);
    return height;
  }

  #wouldLoop(file: Epoll): boolean {
    const depth = file.#depth(this, 0);
    return depth > maximumNesting || depth + 1 + this.#heightAbove(0) > maximumNesting;
  }

  // The ready list.

  /** For Item: it may have something to report. */
  itemReady(item: Item): void {
    if (!item.ready) this.#append(item);
    this.queue.notify(Poll.in | Poll.rdnorm);
  }

  #append(item: Item): void {
    item.ready = true;
    item.next = undefined;
    item.previous = this.#lastReady;
    if (this.#lastReady) this.#lastReady.next = item;
    else this.#firstReady = item;
    this.#lastReady = item;
  }

  #unlink(item: Item): void {
    const { next, previous } = item;
    if (previous) previous.next = next;
    else this.#firstReady = next;
    if (next) next.previous = previous;
    else this.#lastReady = previous;
    item.ready = false;
    item.next = undefined;
    item.previous = undefined;
  }

  /**
   * Writes up to `maximum` events to the program's memory. Their number; 0: nothing is ready; -EFAULT if not even the
   * first could be written.
   */
  collect(task: Task, address: number, maximum: number): number {
    if (!this.#firstReady) return 0;
    const items: Item[] = [];
    const events: number[] = [];
    // Those that are ready now; what is put back at the end is not asked twice.
    for (let item = this.#firstReady as Item | undefined; item && items.length < maximum; ) {
      const next: Item | undefined = item.next;
      const ready = item.readiness(task);
      if (ready === 0) this.#unlink(item);
      else {
        items.push(item);
        events.push(ready);
      }
      item = next;
    }
    if (items.length === 0) return 0;
    const written = this.#write(task, address, items, events);
    for (let i = 0; i < written; i++) {
      const item = items[i];
      if (!item) break;
      this.#unlink(item);
      if (item.events & EpollFlag.oneShot) item.events = (item.events & privateBits) >>> 0;
      else if ((item.events & EpollFlag.edgeTriggered) === 0) this.#append(item);
    }
    return written === 0 ? -Errno.EFAULT : written;
  }

  /** How many could be written. */
  #write(task: Task, address: number, items: readonly Item[], events: readonly number[]): number {
    const { size, data } = EpollEvent;
    const length = items.length * size;
    if (this.#bytes.length < length) {
      this.#bytes = new Uint8Array(2 * length);
      this.#view = new DataView(this.#bytes.buffer);
    }
    const bytes = this.#bytes;
    const view = this.#view;
    for (let index = 0; index < items.length; index++) {
      const item = items[index]!;
      view.setUint32(index * size, events[index] ?? 0, true);
      view.setUint32(index * size + data, item.dataLow, true);
      view.setUint32(index * size + data + 4, item.dataHigh, true);
    }
    if (task.memory.write(address, bytes, 0, length) >= 0) return items.length;
    for (let count = 0; count < items.length; count++)
      if (task.memory.write(address + count * size, bytes, count * size, size) < 0) return count;
    return items.length;
  }

  override readiness(_events: number, task: Task): number {
    for (let item = this.#firstReady; item; ) {
      const next: Item | undefined = item.next;
      if (item.readiness(task) !== 0) return Poll.in | Poll.rdnorm;
      this.#unlink(item);
      item = next;
    }
    return 0;
  }

  override information(): string {
    let text = '';
    for (const items of this.#items.values())
      for (const { fd, file, events, dataLow, dataHigh } of items) {
        const stat = file.stat();
        const { ino, dev } = typeof stat === 'number' ? { ino: 0, dev: 0 } : stat;
        const data = (BigInt(dataHigh) << 32n) | BigInt(dataLow);
        const columns = [
          `tfd: ${String(fd).padStart(8)}`,
          `events: ${events.toString(16).padStart(8)}`,
          `data: ${data.toString(16).padStart(16)}`,
          ` pos:${file.position} ino:${ino.toString(16)} sdev:${dev.toString(16)}`,
        ];
        text += `${columns.join(' ')}\n`;
      }
    return text;
  }

  protected override release(): void {
    for (const items of [...this.#items.values()]) for (const item of [...items]) this.forget(item);
  }
}

/** Errors and hang-ups are always of interest. */
function withErrors(event: EpollInterest): EpollInterest {
  return { ...event, events: (event.events | Poll.err | Poll.hup) >>> 0 };
}
