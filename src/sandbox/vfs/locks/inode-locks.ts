// Advisory locks on one inode: POSIX record locks (owned by a descriptor table, as in Linux), open-file-description
// locks and flock(2) locks. The first two share one space of byte ranges, flock is apart. fs/locks.c is followed in what
// splits, merges and conflicts.

import { Errno } from '../../abi/errno.ts';
import { LockType } from '../../abi/file.ts';
import { Poll, WaitQueue } from '../../kernel/wait-queue.ts';
import type { FdTable } from '../contract.ts';
import type { FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import type { LockTable } from './lock-table.ts';

/** Who holds a record lock: a process's descriptor table (POSIX), or an open file (OFD). */
export type LockOwner = FdTable | FileDescription;

export interface RecordLock {
  readonly owner: LockOwner;
  readonly openFile: boolean;
  /** In the root PID namespace; -1 for OFD locks. */
  readonly pid: number;
  /** LockType.read or write. */
  readonly type: number;
  readonly start: number;
  /** The last byte; Infinity: to the end of the file, however it grows. */
  readonly end: number;
}

export interface FlockLock {
  readonly file: FileDescription;
  readonly pid: number;
  readonly exclusive: boolean;
}

export class InodeLocks {
  readonly inode: Inode;
  readonly #table: LockTable;
  /** Notified when a lock may have become free. */
  readonly queue = new WaitQueue();
  /** By owner, then by start. */
  #records: RecordLock[] = [];
  readonly #flocks = new Map<FileDescription, FlockLock>();

  constructor(inode: Inode, table: LockTable) {
    this.inode = inode;
    this.#table = table;
  }

  get records(): readonly RecordLock[] {
    return this.#records;
  }

  flocks(): IterableIterator<FlockLock> {
    return this.#flocks.values();
  }

  get empty(): boolean {
    return this.#records.length === 0 && this.#flocks.size === 0 && this.queue.empty;
  }

  /** The first lock of somebody else that stands in the way. */
  conflict(owner: LockOwner, type: number, start: number, end: number): RecordLock | undefined {
    for (const lock of this.#records)
      if (
        lock.owner !== owner &&
        lock.start <= end &&
        start <= lock.end &&
        (type === LockType.write || lock.type === LockType.write)
      )
        return lock;
    return undefined;
  }

  /** Sets or clears (LockType.unlock) a range. 0, or -EAGAIN if somebody else's lock stands in the way. */
  set(wanted: RecordLock): number {
    if (wanted.type !== LockType.unlock && this.conflict(wanted.owner, wanted.type, wanted.start, wanted.end))
      return -Errno.EAGAIN;
    let { start, end } = wanted;
    const others: RecordLock[] = [];
    const own: RecordLock[] = [];
    for (const lock of this.#records) {
      if (lock.owner !== wanted.owner) {
        others.push(lock);
      } else if (lock.type === wanted.type && lock.end >= start - 1 && lock.start <= end + 1) {
        start = Math.min(start, lock.start);
        end = Math.max(end, lock.end);
      } else if (lock.end < start || lock.start > end) {
        own.push(lock);
      } else {
        if (lock.start < start) own.push({ ...lock, end: start - 1 });
        if (lock.end > end) own.push({ ...lock, start: end + 1 });
      }
    }
    if (wanted.type !== LockType.unlock) own.push({ ...wanted, start, end });
    own.sort((a, b) => a.start - b.start);
    this.#records = [...others, ...own];
    this.#changed();
    return 0;
  }

  /** close(2) of any descriptor of the file by a process drops all its POSIX locks on it. */
  releaseTable(table: FdTable): void {
    if (!this.#records.some((lock) => lock.owner === table)) return;
    this.#records = this.#records.filter((lock) => lock.owner !== table);
    this.#changed();
  }

  /** An open file is gone, with its OFD locks and its flock lock. */
  releaseDescription(file: FileDescription): void {
    const before = this.#records.length;
    this.#records = this.#records.filter((lock) => lock.owner !== file);
    if (this.#flocks.delete(file) || this.#records.length !== before) this.#changed();
  }

  /** flock(2). undefined: unlock. 0 or -EAGAIN; a lock of the other kind is lost first, as in Linux. */
  flock(file: FileDescription, pid: number, exclusive: boolean | undefined): number {
    const held = this.#flocks.get(file);
    if (held !== undefined) {
      if (held.exclusive === exclusive) return 0;
      this.#flocks.delete(file);
      this.#changed();
    }
    if (exclusive === undefined) return 0;
    for (const other of this.#flocks.values()) if (exclusive || other.exclusive) return -Errno.EAGAIN;
    this.#flocks.set(file, { file, pid, exclusive });
    this.#table.note(this);
    return 0;
  }

  #changed(): void {
    this.#table.note(this);
    this.queue.notify(Poll.in);
  }
}
