// A thread that waits on a futex, and the buckets that waiters stand in. A waiter is also what its task blocks on, so
// that waiting makes one object and no other.

import { Errno } from '../../abi/errno.ts';
import { BLOCKED, type Blocking, type Task } from '../contract.ts';

/** What a word is known by. Mutable, so that a key can be filled in again for each call. */
export interface FutexKey {
  owner: object;
  offset: number;
}

/** The owner of a lock with priority inheritance, shared by all who wait for it (struct futex_pi_state). */
export interface PiState {
  owner: Task;
}

/** Waiters for a lock with priority inheritance are handed it; FUTEX_WAKE must not touch them. */
export const WaiterKind = {
  plain: 0,
  /** FUTEX_WAIT_REQUEUE_PI, not moved to its lock yet. */
  requeuePi: 1,
  /** FUTEX_LOCK_PI. */
  pi: 2,
  /** Waits for the lock after FUTEX_CMP_REQUEUE_PI. */
  requeuedPi: 3,
} as const;
export type WaiterKind = (typeof WaiterKind)[keyof typeof WaiterKind];

const noQueues: Blocking['on'] = Object.freeze([]);

export class FutexWaiter implements Blocking {
  readonly on = noQueues;
  readonly task: Task;
  owner: object;
  offset: number;
  /** Where the word is in the task's memory. */
  address: number;
  readonly bitset: number;
  readonly deadline: number | undefined;
  /** Makes the call again with what is left of its time. */
  readonly again: (() => number) | undefined;
  kind: WaiterKind = WaiterKind.plain;
  waked = false;
  /** The bucket it stands in. */
  bucket: Bucket | undefined;
  next: FutexWaiter | undefined;
  previous: FutexWaiter | undefined;
  /** Of requeuePi: the lock that it may be moved to. */
  target: (FutexKey & { readonly address: number }) | undefined;
  /** Of pi and requeuedPi. */
  pi: PiState | undefined;

  constructor(
    task: Task,
    key: FutexKey,
    address: number,
    bitset: number,
    deadline: number | undefined,
    again: (() => number) | undefined,
  ) {
    this.task = task;
    this.owner = key.owner;
    this.offset = key.offset;
    this.address = address;
    this.bitset = bitset;
    this.deadline = deadline;
    this.again = again;
  }

  waitsOn(key: FutexKey): boolean {
    return this.offset === key.offset && this.owner === key.owner;
  }

  /** Takes it out of its bucket and lets its call return. */
  wake(): void {
    this.bucket?.remove(this);
    this.waked = true;
    this.task.wake();
  }

  retry(): number {
    return this.waked ? 0 : BLOCKED;
  }

  timedOut(): number {
    return this.waked ? 0 : -Errno.ETIMEDOUT;
  }

  interrupted(): number {
    if (this.waked) return 0;
    switch (this.kind) {
      case WaiterKind.plain:
        if (!this.again) return -Errno.ERESTARTSYS;
        this.task.restart = this.again;
        return -Errno.ERESTART_RESTARTBLOCK;
      // The word was not touched for it yet, or the lock can be asked for again: nothing is lost by starting anew.
      case WaiterKind.requeuePi:
      case WaiterKind.pi:
        return -Errno.ERESTARTNOINTR;
      // It is no longer where the call began, so the call cannot be made again.
      case WaiterKind.requeuedPi:
        return -Errno.EAGAIN;
    }
  }

  ended(): void {
    this.bucket?.remove(this);
  }
}

/** Waiters of words with the same hash, in order of arrival. */
export class Bucket {
  first: FutexWaiter | undefined;
  last: FutexWaiter | undefined;

  add(waiter: FutexWaiter): void {
    waiter.bucket = this;
    waiter.next = undefined;
    waiter.previous = this.last;
    if (this.last) this.last.next = waiter;
    else this.first = waiter;
    this.last = waiter;
  }

  remove(waiter: FutexWaiter): void {
    if (waiter.bucket !== this) return;
    const { next, previous } = waiter;
    if (previous) previous.next = next;
    else this.first = next;
    if (next) next.previous = previous;
    else this.last = previous;
    waiter.bucket = undefined;
    waiter.next = undefined;
    waiter.previous = undefined;
  }
}
