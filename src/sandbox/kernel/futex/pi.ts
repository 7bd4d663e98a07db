// Futexes with priority inheritance: FUTEX_LOCK_PI, LOCK_PI2, TRYLOCK_PI, UNLOCK_PI, WAIT_REQUEUE_PI, CMP_REQUEUE_PI
// (kernel/futex/pi.c, requeue.c; Documentation/locking/pi-futex.rst). The word holds the owner's thread number and
// whether somebody waits; the kernel knows the owner once somebody waits, and hands the lock on by itself. Which thread
// the host runs first is the host's business, so what is inherited is the order of waiters, not processor time.

import { Errno } from '../../abi/errno.ts';
import { FutexWord } from '../../abi/futex.ts';
import type { Task } from '../contract.ts';
import { anyBit, type Futexes } from './futexes.ts';
import { type FutexKey, FutexWaiter, type PiState, WaiterKind } from './waiter.ts';

const { waiters: waitersBit, ownerDied, tidMask } = FutexWord;

const blank = (): FutexKey => ({ owner: blank, offset: 0 });

function isPi(waiter: FutexWaiter): boolean {
  return waiter.kind === WaiterKind.pi || waiter.kind === WaiterKind.requeuedPi;
}

/** The waiter that gets the lock next: real-time priority first, then order of arrival. */
function topWaiter(futexes: Futexes, key: FutexKey): FutexWaiter | undefined {
  let top: FutexWaiter | undefined;
  for (let waiter = futexes.bucket(key).first; waiter; waiter = waiter.next) {
    if (!waiter.waitsOn(key)) continue;
    if (!top || waiter.task.scheduling.priority > top.task.scheduling.priority) top = waiter;
  }
  return top;
}

/** Whether `owner` itself waits, through any chain of locks, for `task`. */
function wouldDeadlock(futexes: Futexes, task: Task, owner: Task): boolean {
  const blockedOn = new Map<Task, Task>();
  for (const waiter of futexes.waiters()) if (waiter.pi) blockedOn.set(waiter.task, waiter.pi.owner);
  const seen = new Set<Task>();
  for (let next: Task | undefined = owner; next && !seen.has(next); next = blockedOn.get(next)) {
    if (next === task) return true;
    seen.add(next);
  }
  return false;
}

/** Tries to take the lock for `task`; true: it has it, else who has it (the waiters bit is set then), or an errno. */
function acquire(
  futexes: Futexes,
  caller: Task,
  task: Task,
  key: FutexKey,
  address: number,
  setWaiters: boolean,
): true | PiState | number {
  for (;;) {
    const word = caller.memory.loadU32(address);
    if (word < 0) return -Errno.EFAULT;
    const tid = word & tidMask;
    if (tid === task.visibleTid) return -Errno.EDEADLK;
    const top = topWaiter(futexes, key);
    if (top) {
      // The kernel's owner and the program's word must agree.
      if (!top.pi) return -Errno.EINVAL;
      const died = (word & ownerDied) !== 0;
      if (tid !== top.pi.owner.visibleTid && !(died && tid === 0)) return -Errno.EINVAL;
      if (word & waitersBit) return top.pi;
    } else if (tid === 0) {
      const taken = ((word & ownerDied) | task.visibleTid | (setWaiters ? waitersBit : 0)) >>> 0;
      const old = caller.memory.compareExchangeU32(address, word, taken);
      if (old < 0) return -Errno.EFAULT;
      if (old === word) return true;
      continue;
    }
    const marked = (word | waitersBit) >>> 0;
    const old = caller.memory.compareExchangeU32(address, word, marked);
    if (old < 0) return -Errno.EFAULT;
    if (old !== word) continue;
    if (top?.pi) return top.pi;
    const owner = caller.process.pidNamespace.findTask(tid);
    if (owner) return { owner };
    // It has ended; if its end changed the word meanwhile, there is something new to look at.
    const now = caller.memory.loadU32(address);
    if (now < 0) return -Errno.EFAULT;
    if (now === marked) return -Errno.ESRCH;
  }
}

/** FUTEX_LOCK_PI and FUTEX_TRYLOCK_PI (`attempt`). deadline: CLOCK_MONOTONIC nanoseconds. */
export function lockPi(
  futexes: Futexes,
  task: Task,
  address: number,
  shared: boolean,
  deadline: number | undefined,
  attempt: boolean,
): number {
  const key = blank();
  const resolved = futexes.resolve(key, task, address, shared);
  if (resolved < 0) return resolved;
  const state = acquire(futexes, task, task, key, address, false);
  if (state === true) return 0;
  if (typeof state === 'number') return state;
  if (attempt) return -Errno.EAGAIN;
  if (wouldDeadlock(futexes, task, state.owner)) return -Errno.EDEADLK;
  const waiter = new FutexWaiter(task, key, address, anyBit, deadline, undefined);
  waiter.kind = WaiterKind.pi;
  waiter.pi = state;
  futexes.bucket(key).add(waiter);
  return task.block(waiter);
}

/** FUTEX_UNLOCK_PI. */
export function unlockPi(futexes: Futexes, task: Task, address: number, shared: boolean): number {
  let word = task.memory.loadU32(address);
  if (word < 0) return -Errno.EFAULT;
  if ((word & tidMask) !== task.visibleTid) return -Errno.EPERM;
  const key = blank();
  const resolved = futexes.resolve(key, task, address, shared);
  if (resolved < 0) return resolved;
  for (;;) {
    const top = topWaiter(futexes, key);
    if (top && (!top.pi || top.pi.owner !== task)) return -Errno.EINVAL;
    // Whoever gets it must come to the kernel to unlock it: more may wait by then.
    const next = top ? (waitersBit | top.task.visibleTid) >>> 0 : 0;
    const old = task.memory.compareExchangeU32(address, word, next);
    if (old < 0) return -Errno.EFAULT;
    if (old === word) {
      if (top) handOver(top);
      return 0;
    }
    if ((old & tidMask) !== (word & tidMask)) return -Errno.EINVAL;
    word = old;
  }
}

function handOver(waiter: FutexWaiter): void {
  if (waiter.pi) waiter.pi.owner = waiter.task;
  waiter.wake();
}

/** FUTEX_WAIT_REQUEUE_PI: waits on one word until it is moved to the lock at `target` and gets that. */
export function waitRequeuePi(
  futexes: Futexes,
  task: Task,
  address: number,
  shared: boolean,
  expected: number,
  bitset: number,
  deadline: number | undefined,
  target: number,
): number {
  if (address === target || bitset === 0) return -Errno.EINVAL;
  const targetKey = { ...blank(), address: target };
  const key = blank();
  const resolved =
    futexes.resolve(targetKey, task, target, shared) || futexes.resolve(key, task, address, shared);
  if (resolved < 0) return resolved;
  const value = task.memory.loadU32(address);
  if (value < 0) return -Errno.EFAULT;
  if (value !== expected >>> 0) return -Errno.EAGAIN;
  if (key.owner === targetKey.owner && key.offset === targetKey.offset) return -Errno.EINVAL;
  const waiter = new FutexWaiter(task, key, address, bitset, deadline, undefined);
  waiter.kind = WaiterKind.requeuePi;
  waiter.target = targetKey;
  futexes.bucket(key).add(waiter);
  return task.block(waiter);
}

/** FUTEX_CMP_REQUEUE_PI: gives the lock to the first waiter if it is free, and moves the others to it. */
export function requeuePi(
  futexes: Futexes,
  task: Task,
  from: number,
  to: number,
  shared: boolean,
  wakeCount: number,
  moveCount: number,
  expected: number,
): number {
  if (wakeCount < 0 || moveCount < 0 || from === to || wakeCount !== 1) return -Errno.EINVAL;
  const key = blank();
  const lock = blank();
  const resolved = futexes.resolve(key, task, from, shared) || futexes.resolve(lock, task, to, shared);
  if (resolved < 0) return resolved;
  if (key.owner === lock.owner && key.offset === lock.offset) return -Errno.EINVAL;
  const value = task.memory.loadU32(from);
  if (value < 0) return -Errno.EFAULT;
  if (value !== expected >>> 0) return -Errno.EAGAIN;

  const first = topWaiter(futexes, key);
  if (!first) return 0;
  if (!mayMove(first, lock)) return -Errno.EINVAL;
  let state = acquire(futexes, task, first.task, lock, to, moveCount > 0);
  let count = 0;
  if (state === true) {
    state = { owner: first.task };
    first.wake();
    count++;
  } else if (typeof state === 'number') return state;

  const target = futexes.bucket(lock);
  const bucket = futexes.bucket(key);
  const end = bucket.last;
  let waiter = bucket.first;
  while (waiter && count - wakeCount < moveCount) {
    const next: FutexWaiter | undefined = waiter === end ? undefined : waiter.next;
    if (waiter.waitsOn(key)) {
      if (!mayMove(waiter, lock)) return -Errno.EINVAL;
      if (wouldDeadlock(futexes, waiter.task, state.owner)) return -Errno.EDEADLK;
      count++;
      bucket.remove(waiter);
      waiter.owner = lock.owner;
      waiter.offset = lock.offset;
      waiter.address = waiter.target?.address ?? to;
      waiter.kind = WaiterKind.requeuedPi;
      waiter.pi = state;
      target.add(waiter);
    }
    waiter = next;
  }
  return count;
}

function mayMove(waiter: FutexWaiter, lock: FutexKey): boolean {
  const target = waiter.target;
  return (
    waiter.kind === WaiterKind.requeuePi && target?.owner === lock.owner && target.offset === lock.offset
  );
}

/** A thread ends: the locks that others wait for go to their next owners, marked as left by a dead one. */
export function exitPiStates(futexes: Futexes, task: Task): void {
  const done = new Set<PiState>();
  for (const waiter of [...futexes.waiters()]) {
    const state = waiter.pi;
    if (!state || state.owner !== task || done.has(state) || !isPi(waiter)) continue;
    done.add(state);
    const top = topWaiter(futexes, waiter);
    if (!top) continue;
    const memory = top.task.memory;
    let word = memory.loadU32(top.address);
    while (word >= 0) {
      const next = (waitersBit | ownerDied | top.task.visibleTid) >>> 0;
      const old = memory.compareExchangeU32(top.address, word, next);
      if (old === word) break;
      word = old;
    }
    handOver(top);
  }
}
