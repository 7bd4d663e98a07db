// Futexes (futex(2)): who waits on which word; waking waiters and moving them. One per kernel. Locks with priority
// inheritance are in pi.ts, robust lists in robust-list.ts, decoding in syscalls.ts.
//
// A word is known by an owner and a number: private words by the memory and their address, words that may be shared
// between processes by what is mapped there and the offset in it (MemoryManager.futexKey).
//
// The program's threads run meanwhile and change words. That no wake-up is missed follows from order: FUTEX_WAIT reads
// the word and becomes a waiter without another call in between, and whoever changes the word calls FUTEX_WAKE after.

import { Errno } from '../../abi/errno.ts';
import { FutexCompare, FutexOperator } from '../../abi/futex.ts';
import type { Task } from '../contract.ts';
import { Bucket, type FutexKey, FutexWaiter, WaiterKind } from './waiter.ts';

/** FUTEX_BITSET_MATCH_ANY. */
export const anyBit = 0xffff_ffff;

const bucketCount = 256;

/** End of the addresses that a program may use (TASK_SIZE_MAX). */
const endOfMemory = 0x7fff_ffff_f000;

/** Set in the offset of a word in private memory that is used without FUTEX_PRIVATE_FLAG: Linux keeps those apart. */
const sharedOffset = 2;

export class Futexes {
  readonly #buckets: readonly Bucket[] = Array.from({ length: bucketCount }, () => new Bucket());
  /** Filled in again by each call. */
  readonly #first: FutexKey = { owner: this, offset: 0 };
  readonly #second: FutexKey = { owner: this, offset: 0 };

  bucket(key: FutexKey): Bucket {
    const hash = (key.offset >>> 2) ^ (key.offset >>> 12);
    const bucket = this.#buckets[(hash ^ (hash >>> 8)) & (bucketCount - 1)];
    if (!bucket) throw new RangeError('the futex hash is out of range');
    return bucket;
  }

  /** All waiters, for the few rare operations that look through them. */
  *waiters(): IterableIterator<FutexWaiter> {
    for (const bucket of this.#buckets)
      for (let waiter = bucket.first; waiter; waiter = waiter.next) yield waiter;
  }

  /** Fills in the key of the word at an address; 0, -EINVAL (not aligned) or -EFAULT. */
  resolve(key: FutexKey, task: Task, address: number, shared: boolean): number {
    if (address % 4 !== 0) return -Errno.EINVAL;
    if (address >= endOfMemory) return -Errno.EFAULT;
    if (!shared) {
      key.owner = task.mm;
      key.offset = address;
      return 0;
    }
    const found = task.mm.futexKey(address);
    if (!found) return -Errno.EFAULT;
    key.owner = found.owner;
    key.offset = found.owner === task.mm ? found.offset + sharedOffset : found.offset;
    return 0;
  }

  /** The first waiter on a word. */
  firstWaiter(key: FutexKey): FutexWaiter | undefined {
    for (let waiter = this.bucket(key).first; waiter; waiter = waiter.next)
      if (waiter.waitsOn(key)) return waiter;
    return undefined;
  }

  /**
   * FUTEX_WAIT and FUTEX_WAIT_BITSET. deadline: CLOCK_MONOTONIC nanoseconds. 0 when waked (then later), -EAGAIN when the
   * word is not `expected`, -ETIMEDOUT.
   */
  wait(
    task: Task,
    address: number,
    shared: boolean,
    expected: number,
    bitset: number,
    deadline: number | undefined,
  ): number {
    if (bitset === 0) return -Errno.EINVAL;
    const key = this.#first;
    const resolved = this.resolve(key, task, address, shared);
    if (resolved < 0) return resolved;
    const value = task.memory.loadU32(address);
    if (value < 0) return -Errno.EFAULT;
    if (value !== expected >>> 0) return -Errno.EAGAIN;
    const again =
      deadline === undefined ? undefined : () => this.wait(task, address, shared, expected, bitset, deadline);
    const waiter = new FutexWaiter(task, key, address, bitset, deadline, again);
    this.bucket(key).add(waiter);
    return task.block(waiter);
  }

  /** FUTEX_WAKE and FUTEX_WAKE_BITSET: how many were waked. A count of 0 or less wakes one, as Linux does. */
  wake(task: Task, address: number, shared: boolean, count: number, bitset: number): number {
    if (bitset === 0) return -Errno.EINVAL;
    const key = this.#first;
    const resolved = this.resolve(key, task, address, shared);
    return resolved < 0 ? resolved : this.#wake(task, key, count, bitset);
  }

  #wake(task: Task, key: FutexKey, count: number, bitset: number): number {
    // Whoever waits from here on must see what was written before this call.
    task.kernel.platform.futexActivity();
    let waked = 0;
    let waiter = this.bucket(key).first;
    while (waiter) {
      const next = waiter.next;
      if (waiter.waitsOn(key)) {
        if (waiter.kind !== WaiterKind.plain) return -Errno.EINVAL;
        if (waiter.bitset & bitset) {
          waiter.wake();
          if (++waked >= count) return waked;
        }
      }
      waiter = next;
    }
    return waked;
  }

  /** FUTEX_REQUEUE (expected undefined) and FUTEX_CMP_REQUEUE: how many were waked or moved. */
  requeue(
    task: Task,
    from: number,
    to: number,
    shared: boolean,
    wakeCount: number,
    moveCount: number,
    expected: number | undefined,
  ): number {
    if (wakeCount < 0 || moveCount < 0) return -Errno.EINVAL;
    const key = this.#first;
    const target = this.#second;
    const resolved = this.resolve(key, task, from, shared) || this.resolve(target, task, to, shared);
    if (resolved < 0) return resolved;
    if (expected !== undefined) {
      const value = task.memory.loadU32(from);
      if (value < 0) return -Errno.EFAULT;
      if (value !== expected >>> 0) return -Errno.EAGAIN;
    }
    const targetBucket = this.bucket(target);
    const bucket = this.bucket(key);
    // The last of those that are here now: what is moved within one bucket comes after it.
    const end = bucket.last;
    let count = 0;
    let waiter = bucket.first;
    while (waiter) {
      const next: FutexWaiter | undefined = waiter === end ? undefined : waiter.next;
      if (waiter.waitsOn(key)) {
        if (count - wakeCount >= moveCount) break;
        if (waiter.kind !== WaiterKind.plain) return -Errno.EINVAL;
        if (++count <= wakeCount) waiter.wake();
        else {
          bucket.remove(waiter);
          waiter.owner = target.owner;
          waiter.offset = target.offset;
          targetBucket.add(waiter);
        }
      }
      waiter = next;
    }
    return count;
  }

  /** FUTEX_WAKE_OP: changes the second word, wakes on the first, and on the second if its old value compares. */
  wakeOperation(
    task: Task,
    address: number,
    second: number,
    shared: boolean,
    count: number,
    secondCount: number,
    encoded: number,
  ): number {
    const key = this.#first;
    const secondKey = this.#second;
    const resolved =
      this.resolve(key, task, address, shared) || this.resolve(secondKey, task, second, shared);
    if (resolved < 0) return resolved;
    const matches = operate(task, second, encoded);
    if (matches < 0) return matches;
    const waked = this.#wake(task, key, count, anyBit);
    if (waked < 0 || matches === 0) return waked;
    const more = this.#wake(task, secondKey, secondCount, anyBit);
    return more < 0 ? more : waked + more;
  }
}

/** Carries out what FUTEX_OP encodes; 1 or 0: whether the old value compared, or -EFAULT, -ENOSYS. */
function operate(task: Task, address: number, encoded: number): number {
  const operator = (encoded >>> 28) & 7;
  const compare = (encoded >>> 24) & 15;
  // Two signed fields of 12 bits.
  let operand = (encoded << 8) >> 20;
  const against = (encoded << 20) >> 20;
  if (encoded >>> 31) operand = 1 << (operand & 31);
  if (operator > FutexOperator.xor) return -Errno.ENOSYS;
  let old = task.memory.loadU32(address);
  for (;;) {
    if (old < 0) return -Errno.EFAULT;
    const found = task.memory.compareExchangeU32(address, old, apply(operator, old, operand) >>> 0);
    if (found < 0) return -Errno.EFAULT;
    if (found === old) break;
    old = found;
  }
  const value = old | 0;
  switch (compare) {
    case FutexCompare.equal:
      return value === against ? 1 : 0;
    case FutexCompare.notEqual:
      return value !== against ? 1 : 0;
    case FutexCompare.less:
      return value < against ? 1 : 0;
    case FutexCompare.lessOrEqual:
      return value <= against ? 1 : 0;
    case FutexCompare.greater:
      return value > against ? 1 : 0;
    case FutexCompare.greaterOrEqual:
      return value >= against ? 1 : 0;
    default:
      return -Errno.ENOSYS;
  }
}

function apply(operator: number, old: number, operand: number): number {
  switch (operator) {
    case FutexOperator.set:
      return operand;
    case FutexOperator.add:
      return old + operand;
    case FutexOperator.or:
      return old | operand;
    case FutexOperator.andNot:
      return old & ~operand;
    default:
      return old ^ operand;
  }
}
