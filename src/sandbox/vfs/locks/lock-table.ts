// All locks of a sandbox: what /proc/locks lists, and who waits for whom, for EDEADLK. One a kernel:
// kernel.part(LockTable).

import { LockType } from '../../abi/file.ts';
import type { Inode } from '../inode.ts';
import { InodeLocks, type LockOwner, type RecordLock } from './inode-locks.ts';

/** As in the kernel: longer chains are taken for no deadlock (MAX_DEADLK_ITERATIONS). */
const chainMaximum = 10;

/** A line of /proc/locks. */
export interface LockEntry {
  readonly kind: 'POSIX' | 'OFDLCK' | 'FLOCK';
  readonly type: 'READ' | 'WRITE';
  readonly pid: number;
  readonly device: number;
  readonly ino: number;
  readonly start: number;
  /** Infinity: EOF. */
  readonly end: number;
}

export class LockTable {
  readonly #inodes = new Set<InodeLocks>();
  /** POSIX owners that sleep, and the lock that they want. */
  readonly #waiting = new Map<LockOwner, { readonly locks: InodeLocks; readonly wanted: RecordLock }[]>();

  /** The locks of an inode, made when there are none yet. */
  of(inode: Inode): InodeLocks {
    inode.locks ??= new InodeLocks(inode, this);
    return inode.locks;
  }

  note(locks: InodeLocks): void {
    if (locks.records.length === 0 && locks.flocks().next().done) this.#inodes.delete(locks);
    else this.#inodes.add(locks);
  }

  /** Whether waiting for this lock would close a circle of POSIX owners (posix_locks_deadlock). */
  wouldDeadlock(locks: InodeLocks, wanted: RecordLock): boolean {
    if (wanted.openFile) return false;
    let blocker = locks.conflict(wanted.owner, wanted.type, wanted.start, wanted.end);
    for (let step = 0; blocker && !blocker.openFile && step < chainMaximum; step++) {
      const next = this.#waiting.get(blocker.owner)?.[0];
      if (!next) return false;
      const { wanted: theirs } = next;
      blocker = next.locks.conflict(theirs.owner, theirs.type, theirs.start, theirs.end);
      if (blocker?.owner === wanted.owner) return true;
    }
    return false;
  }

  /** Somebody sleeps until this lock is free; gives the function that says it is over. */
  waits(locks: InodeLocks, wanted: RecordLock): () => void {
    if (wanted.openFile) return () => {};
    const entry = { locks, wanted };
    const entries = this.#waiting.get(wanted.owner);
    if (entries) entries.push(entry);
    else this.#waiting.set(wanted.owner, [entry]);
    return () => {
      const left = this.#waiting.get(wanted.owner)?.filter((other) => other !== entry) ?? [];
      if (left.length > 0) this.#waiting.set(wanted.owner, left);
      else this.#waiting.delete(wanted.owner);
    };
  }

  /** For /proc/locks, oldest files first. */
  *entries(): IterableIterator<LockEntry> {
    for (const locks of this.#inodes) {
      const stat = locks.inode.stat();
      if (typeof stat === 'number') continue;
      const where = { device: stat.dev, ino: stat.ino };
      for (const { exclusive, pid } of locks.flocks())
        yield {
          kind: 'FLOCK',
          type: exclusive ? 'WRITE' : 'READ',
          pid,
          ...where,
          start: 0,
          end: Number.POSITIVE_INFINITY,
        };
      for (const lock of locks.records)
        yield {
          kind: lock.openFile ? 'OFDLCK' : 'POSIX',
          type: lock.type === LockType.write ? 'WRITE' : 'READ',
          pid: lock.pid,
          ...where,
          start: lock.start,
          end: lock.end,
        };
    }
  }
}
