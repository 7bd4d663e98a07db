// Robust futexes: what happens to the locks of a thread that ends (kernel/futex/core.c, Documentation/locking/
// robust-futex-ABI.rst). The list is in the program's memory and is believed in nothing.

import { FutexWord, RobustListHead, robustListLimit } from '../../abi/futex.ts';
import type { Task } from '../contract.ts';
import { anyBit } from './futexes.ts';
import { exitPiStates } from './pi.ts';

/**
 * To be called when a thread ends or calls execve, while its memory is still there: marks the locks on its robust list
 * as left by a dead owner, wakes a waiter of each, and hands on its locks with priority inheritance.
 */
export function exitRobustList(task: Task): void {
  if (task.robustList !== 0) walk(task, task.robustList);
  task.robustList = 0;
  exitPiStates(task.kernel.futexes, task);
}

function walk(task: Task, head: number): void {
  const memory = task.memory;
  const first = memory.readU64(head + RobustListHead.next);
  const offset = memory.readU64(head + RobustListHead.offset);
  const pending = memory.readU64(head + RobustListHead.pending);
  if (first < 0 || offset < 0 || pending < 0) return;
  const signed = offset >= 2 ** 63 ? offset - 2 ** 64 : offset;
  const pendingEntry = pending - (pending % 2);
  let entry = first;
  for (let count = 0; count < robustListLimit; count++) {
    const node = entry - (entry % 2);
    if (node === head) break;
    // Read before the lock is given up: its new owner may free it.
    const next = memory.readU64(node);
    if (node !== pendingEntry && !ownerDied(task, node + signed, entry % 2 === 1, false)) return;
    if (next < 0) return;
    entry = next;
  }
  if (pendingEntry !== 0) ownerDied(task, pendingEntry + signed, pending % 2 === 1, true);
}

/** False: the word cannot be reached, and the rest of the list is not looked at. */
function ownerDied(task: Task, address: number, pi: boolean, pending: boolean): boolean {
  if (address < 0 || address % 4 !== 0) return false;
  const memory = task.memory;
  for (;;) {
    const word = memory.loadU32(address);
    if (word < 0) return false;
    const owner = word & FutexWord.tidMask;
    // It died between unlocking and waking: somebody may sleep on a lock that is free.
    if (pending && !pi && owner === 0) {
      task.kernel.futexes.wake(task, address, true, 1, anyBit);
      return true;
    }
    if (owner !== task.visibleTid) return true;
    const dead = ((word & FutexWord.waiters) | FutexWord.ownerDied) >>> 0;
    const old = memory.compareExchangeU32(address, word, dead);
    if (old < 0) return false;
    if (old !== word) continue;
    if (!pi && word & FutexWord.waiters) task.kernel.futexes.wake(task, address, true, 1, anyBit);
    return true;
  }
}
