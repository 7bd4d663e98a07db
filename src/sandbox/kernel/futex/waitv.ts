// futex_waitv(2): waiting on several words at once. The call ends with the index of a word that was waked.

import { Errno } from '../../abi/errno.ts';
import { Futex2Flag, FutexWaitv } from '../../abi/futex.ts';
import { BLOCKED, type Blocking, type Task } from '../contract.ts';
import { anyBit, type Futexes } from './futexes.ts';
import { FutexWaiter } from './waiter.ts';

/** One element of the array. */
export interface WaitvElement {
  readonly value: bigint;
  readonly address: number;
  readonly shared: boolean;
}

/** The array in the program's memory; -EFAULT, or -EINVAL for flags that do not exist. */
export function readWaitv(task: Task, address: number, count: number): WaitvElement[] | number {
  const bytes = new Uint8Array(count * FutexWaitv.size);
  if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const elements: WaitvElement[] = [];
  for (let at = 0; at < bytes.length; at += FutexWaitv.size) {
    const flags = view.getUint32(at + FutexWaitv.flags, true);
    const known = Futex2Flag.sizeMask | Futex2Flag.private;
    if (flags & ~known || view.getUint32(at + FutexWaitv.reserved, true) !== 0) return -Errno.EINVAL;
    if ((flags & Futex2Flag.sizeMask) !== Futex2Flag.size32) return -Errno.EINVAL;
    const value = view.getBigUint64(at + FutexWaitv.value, true);
    if (value > 0xffff_ffffn) return -Errno.EINVAL;
    elements.push({
      value,
      address: Number(view.getBigUint64(at + FutexWaitv.address, true)),
      shared: (flags & Futex2Flag.private) === 0,
    });
  }
  return elements;
}

/** deadline: CLOCK_MONOTONIC nanoseconds. */
export function waitAny(
  futexes: Futexes,
  task: Task,
  elements: readonly WaitvElement[],
  deadline: number | undefined,
): number {
  const waiters: FutexWaiter[] = [];
  for (const element of elements) {
    const key = { owner: futexes as object, offset: 0 };
    const resolved = futexes.resolve(key, task, element.address, element.shared);
    if (resolved < 0) return resolved;
    waiters.push(new FutexWaiter(task, key, element.address, anyBit, undefined, undefined));
  }
  for (const { address, value } of elements) {
    const word = task.memory.loadU32(address);
    if (word < 0) return -Errno.EFAULT;
    if (word !== Number(value)) return -Errno.EAGAIN;
  }
  for (const waiter of waiters) futexes.bucket(waiter).add(waiter);
  const waked = (otherwise: number): number => {
    const index = waiters.findIndex((waiter) => waiter.waked);
    return index < 0 ? otherwise : index;
  };
  const blocking: Blocking = {
    on: [],
    deadline,
    retry: () => waked(BLOCKED),
    timedOut: () => waked(-Errno.ETIMEDOUT),
    interrupted: () => waked(-Errno.ERESTARTSYS),
    ended: () => {
      for (const waiter of waiters) waiter.ended();
    },
  };
  return task.block(blocking);
}
