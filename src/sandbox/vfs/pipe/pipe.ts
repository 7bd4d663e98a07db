// A pipe's buffer and its two sides: what anonymous pipes and FIFOs share. The buffer is a ring of slots of one page, as
// in Linux (fs/pipe.c), because its rules are seen by programs: small writes are merged into the last page only when they
// fit, a write of up to PIPE_BUF bytes takes one page or none, and the capacity counts pages, not bytes.
//
// The pages lie one after the other in one array, so that a long transfer over full pages is one copy. Only the first
// page is allocated until more is needed: most pipes never hold more than a few bytes, and an empty pipe begins again at
// its first page.

import { Errno } from '../../abi/errno.ts';
import type { Host, HostFd } from '../../host/contract.ts';
import { Poll, WaitQueue } from '../../kernel/wait-queue.ts';
import type { Io } from '../io.ts';

/** Also PIPE_BUF: what is written in one piece. */
export const pageBytes = 4096;
export const defaultSlots = 16;

/** How the pages of a pipe are accounted to whoever made it. */
export interface PipeAccount {
  /** Adds pages (negative: gives them back). */
  charge(pages: number): void;
}

const slotMerge = 1;
const slotPacket = 2;

const readable = Poll.in | Poll.rdnorm;
const writable = Poll.out | Poll.wrnorm;

export class Pipe {
  /** Readers wait for Poll.in on it, writers for Poll.out. */
  readonly queue = new WaitQueue();
  readonly #account: PipeAccount;
  #bytes = new Uint8Array(0);
  #slots: number;
  #offset: Uint16Array;
  #length: Uint16Array;
  #flags: Uint8Array;
  /** The oldest slot in use, and how many follow it. */
  #first = 0;
  #used = 0;
  /** Open descriptions of each side. */
  readers = 0;
  writers = 0;
  /** How often a side was opened: an open that waits for the other side ends even if that one is gone again. */
  readersSeen = 0;
  writersSeen = 0;

  constructor(slots: number, account: PipeAccount) {
    this.#slots = slots;
    this.#account = account;
    this.#offset = new Uint16Array(slots);
    this.#length = new Uint16Array(slots);
    this.#flags = new Uint8Array(slots);
    account.charge(slots);
  }

  /** In bytes, a multiple of the page (F_GETPIPE_SZ). */
  get capacity(): number {
    return this.#slots * pageBytes;
  }

  get slots(): number {
    return this.#slots;
  }

  get empty(): boolean {
    return this.#used === 0;
  }

  get full(): boolean {
    return this.#used === this.#slots;
  }

  /** FIONREAD. */
  get available(): number {
    let total = 0;
    for (let i = 0; i < this.#used; i++) total += this.#length[this.#at(i)] ?? 0;
    return total;
  }

  /** Bytes that fit into the pages that are free. */
  get room(): number {
    return (this.#slots - this.#used) * pageBytes;
  }

  /** The slot that is `index` after the oldest. */
  #at(index: number): number {
    const slot = this.#first + index;
    return slot < this.#slots ? slot : slot - this.#slots;
  }

  openSide(read: boolean, write: boolean): void {
    if (read) {
      this.readers++;
      this.readersSeen++;
    }
    if (write) {
      this.writers++;
      this.writersSeen++;
    }
    // Whoever waits in open(2) for this side.
    this.queue.notify((read ? writable : 0) | (write ? readable : 0));
  }

  closeSide(read: boolean, write: boolean): void {
    if (read) this.readers--;
    if (write) this.writers--;
    if (this.readers === 0 || this.writers === 0)
      this.queue.notify(readable | writable | Poll.err | Poll.hup);
  }

  /** The pipe is gone for good: gives its pages back. */
  dispose(): void {
    this.#account.charge(-this.#slots);
    this.#slots = 0;
  }

  /** F_SETPIPE_SZ, after its checks: -EBUSY if more pages are in use than there will be. */
  resize(slots: number): number {
    if (slots === this.#slots) return 0;
    if (this.#used > slots) return -Errno.EBUSY;
    const wasFull = this.full;
    const offset = new Uint16Array(slots);
    const length = new Uint16Array(slots);
    const flags = new Uint8Array(slots);
    const bytes = this.#used > 0 ? new Uint8Array(slots * pageBytes) : new Uint8Array(0);
    for (let i = 0; i < this.#used; i++) {
      const from = this.#at(i);
      offset[i] = this.#offset[from] ?? 0;
      length[i] = this.#length[from] ?? 0;
      flags[i] = this.#flags[from] ?? 0;
      bytes.set(this.#bytes.subarray(from * pageBytes, (from + 1) * pageBytes), i * pageBytes);
    }
    this.#account.charge(slots - this.#slots);
    this.#offset = offset;
    this.#length = length;
    this.#flags = flags;
    this.#bytes = bytes;
    this.#slots = slots;
    this.#first = 0;
    if (wasFull && !this.full) this.queue.notify(writable);
    return 0;
  }

  /** Makes sure that the slot has a page. */
  #reserve(slot: number): void {
    const wanted = (slot + 1) * pageBytes;
    if (this.#bytes.length >= wanted) return;
    const bytes = new Uint8Array(slot === 0 ? pageBytes : this.capacity);
    bytes.set(this.#bytes);
    this.#bytes = bytes;
  }

  /**
   * Moves what is there to a reader: bytes; 0 when nothing is there. A packet is given whole, what does not fit into
   * the reader's buffer is lost; a read never goes beyond it.
   */
  read(io: Io): number {
    const wasFull = this.full;
    let total = 0;
    while (this.#used > 0 && io.left > 0) {
      const slot = this.#first;
      const offset = this.#offset[slot] ?? 0;
      const length = this.#length[slot] ?? 0;
      const packet = ((this.#flags[slot] ?? 0) & slotPacket) !== 0;
      // Full pages that follow one another in the ring are moved in one go.
      let run = 1;
      let count = length;
      if (!packet && offset + length === pageBytes && io.left > length) {
        while (run < this.#used && slot + run < this.#slots && count < io.left) {
          const next = slot + run;
          if (this.#offset[next] !== 0 || (this.#flags[next] ?? 0) & slotPacket) break;
          count += this.#length[next] ?? 0;
          run++;
          if (this.#length[next] !== pageBytes) break;
        }
      }
      const moved = io.put(this.#bytes, slot * pageBytes + offset, count);
      if (moved < 0) {
        if (total === 0) total = moved;
        break;
      }
      total += moved;
      if (packet) {
        this.#drop(length);
        break;
      }
      this.#drop(moved);
      if (moved < count) break;
    }
    if (wasFull && !this.full) this.queue.notify(writable);
    return total;
  }

  /** Forgets this many of the oldest bytes. */
  #drop(count: number): void {
    let left = count;
    while (this.#used > 0 && left > 0) {
      const slot = this.#first;
      const length = this.#length[slot] ?? 0;
      if (left < length) {
        this.#offset[slot] = (this.#offset[slot] ?? 0) + left;
        this.#length[slot] = length - left;
        return;
      }
      left -= length;
      this.#first = slot + 1 === this.#slots ? 0 : slot + 1;
      this.#used--;
    }
    if (this.#used === 0) this.#first = 0;
  }

  /**
   * Takes from a writer what there is room for: bytes, 0 when there is none. packets: each page is a packet (O_DIRECT).
   */
  write(io: Io, packets: boolean): number {
    const wasEmpty = this.#used === 0;
    let total = 0;
    const merging = io.left % pageBytes;
    if (merging > 0 && !wasEmpty) {
      const last = this.#at(this.#used - 1);
      const end = (this.#offset[last] ?? 0) + (this.#length[last] ?? 0);
      if ((this.#flags[last] ?? 0) & slotMerge && end + merging <= pageBytes) {
        const moved = io.take(this.#bytes, last * pageBytes + end, merging);
        if (moved < 0) return moved;
        this.#length[last] = (this.#length[last] ?? 0) + moved;
        total = moved;
        if (moved < merging) return this.#wrote(total);
      }
    }
    while (io.left > 0 && this.#used < this.#slots) {
      const slot = this.#at(this.#used);
      const run = Math.min(this.#slots - Math.max(slot, this.#used), Math.ceil(io.left / pageBytes));
      this.#reserve(slot + run - 1);
      const wanted = Math.min(io.left, run * pageBytes);
      const moved = io.take(this.#bytes, slot * pageBytes, wanted);
      // A page that could not be filled because of the memory does not count (its writer gets what went before).
      const kept = moved === wanted ? moved : Math.max(0, moved) - (Math.max(0, moved) % pageBytes);
      this.#fill(slot, kept, packets ? slotPacket : slotMerge);
      total += kept;
      if (moved < wanted) {
        if (total === 0) return moved < 0 ? moved : -Errno.EFAULT;
        break;
      }
    }
    return this.#wrote(total);
  }

  #wrote(total: number): number {
    if (total > 0) this.queue.notify(readable);
    return total;
  }

  #fill(first: number, count: number, flags: number): void {
    for (let done = 0, slot = first; done < count; done += pageBytes, slot++) {
      this.#offset[slot] = 0;
      this.#length[slot] = Math.min(pageBytes, count - done);
      this.#flags[slot] = flags;
      this.#used++;
    }
  }

  /** For splice(2) from a file: reads the host's file straight into free pages. Bytes, 0 at its end, or an errno. */
  readFromHost(host: Host, fd: HostFd, position: number, length: number): number {
    if (this.full) return -Errno.EAGAIN;
    const slot = this.#at(this.#used);
    const run = Math.min(this.#slots - Math.max(slot, this.#used), Math.ceil(length / pageBytes));
    this.#reserve(slot + run - 1);
    const moved = host.pread(fd, this.#bytes, slot * pageBytes, Math.min(length, run * pageBytes), position);
    if (moved <= 0) return moved;
    this.#fill(slot, moved, 0);
    return this.#wrote(moved);
  }

  /** For splice(2) to a file: writes the oldest bytes straight to the host's file. Bytes, or an errno. */
  writeToHost(host: Host, fd: HostFd, position: number, length: number): number {
    if (this.empty) return 0;
    const wasFull = this.full;
    const slot = this.#first;
    const from = slot * pageBytes + (this.#offset[slot] ?? 0);
    const moved = host.pwrite(fd, this.#bytes, from, Math.min(length, this.#length[slot] ?? 0), position);
    if (moved > 0) this.#drop(moved);
    if (wasFull && !this.full) this.queue.notify(writable);
    return moved;
  }

  /** Forgets this many of the oldest bytes, at most what is there. */
  drop(count: number): number {
    const wasFull = this.full;
    const dropped = Math.min(count, this.available);
    this.#drop(dropped);
    if (wasFull && !this.full) this.queue.notify(writable);
    return dropped;
  }

  /** For splice(2) to other files: takes the oldest bytes out. Packets lose their bounds. */
  takeBytes(target: Uint8Array, offset: number, length: number): number {
    const wasFull = this.full;
    let done = 0;
    while (this.#used > 0 && done < length) {
      const slot = this.#first;
      const from = slot * pageBytes + (this.#offset[slot] ?? 0);
      const count = Math.min(this.#length[slot] ?? 0, length - done);
      target.set(this.#bytes.subarray(from, from + count), offset + done);
      this.#drop(count);
      done += count;
    }
    if (wasFull && !this.full) this.queue.notify(writable);
    return done;
  }

  /** For splice(2): one free page's worth from a buffer, not to be merged with. Bytes, 0 if there is no room. */
  putPage(source: Uint8Array, offset: number, length: number): number {
    if (this.full) return 0;
    const slot = this.#at(this.#used);
    const count = Math.min(length, pageBytes);
    this.#reserve(slot);
    this.#bytes.set(source.subarray(offset, offset + count), slot * pageBytes);
    this.#fill(slot, count, 0);
    return this.#wrote(count);
  }

  /** For splice(2): as putPage, straight from a writer's memory. */
  takePage(io: Io, length: number): number {
    if (this.full) return 0;
    const slot = this.#at(this.#used);
    this.#reserve(slot);
    const moved = io.take(this.#bytes, slot * pageBytes, Math.min(length, pageBytes));
    if (moved <= 0) return moved;
    this.#fill(slot, moved, 0);
    return this.#wrote(moved);
  }

  /**
   * splice(2) and tee(2) between pipes: page by page to the other one, up to `length` bytes; keep: they stay here too.
   * Bytes; 0 when this one is empty or the other one full.
   */
  copyTo(target: Pipe, length: number, keep: boolean): number {
    const wasFull = this.full;
    let total = 0;
    for (let index = 0; index < this.#used && total < length && !target.full; ) {
      const slot = this.#at(index);
      const count = Math.min(this.#length[slot] ?? 0, length - total);
      const to = target.#at(target.#used);
      target.#reserve(to);
      const from = slot * pageBytes + (this.#offset[slot] ?? 0);
      target.#bytes.set(this.#bytes.subarray(from, from + count), to * pageBytes);
      // A whole packet stays one; nothing is merged into a page that two pipes share.
      target.#fill(to, count, (this.#flags[slot] ?? 0) & slotPacket);
      total += count;
      if (keep) index++;
      else this.#drop(count);
    }
    if (total > 0) target.queue.notify(readable);
    if (wasFull && !this.full) this.queue.notify(writable);
    return total;
  }
}
