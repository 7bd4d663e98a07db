// System V semaphores (ipc/sem.c): a set's values, operations on several at once, and who waits. An operation that
// cannot be done now waits in the set; whatever changes a value carries out those that have become possible, in order of
// arrival, so that nobody who comes later goes first.

import { Errno } from '../../abi/errno.ts';
import { IpcFlag, IpcLimit, SEM_UNDO } from '../../abi/ipc.ts';
import { BLOCKED, type Blocking, type Kernel, type Process, type Task } from '../contract.ts';
import { IpcObject, type IpcRegistry, nowInSeconds } from './objects.ts';
import { type AdjustableSemaphores, SemaphoreUndo } from './semaphore-undo.ts';

const { semValue } = IpcLimit;

/** struct sembuf. */
export interface SemaphoreOperation {
  readonly number: number;
  readonly operation: number;
  readonly flags: number;
}

/** Operations that wait; also what their task blocks on. */
class PendingOperations implements Blocking {
  readonly on: Blocking['on'] = [];
  readonly set: SemaphoreSet;
  readonly task: Task;
  readonly operations: readonly SemaphoreOperation[];
  readonly undo: Int16Array | undefined;
  readonly deadline: number | undefined;
  /** The operation that could not be done. */
  stuck: SemaphoreOperation | undefined;
  #result: number | undefined;

  constructor(
    set: SemaphoreSet,
    task: Task,
    operations: readonly SemaphoreOperation[],
    undo: Int16Array | undefined,
    deadline: number | undefined,
  ) {
    this.set = set;
    this.task = task;
    this.operations = operations;
    this.undo = undo;
    this.deadline = deadline;
  }

  finish(result: number): void {
    this.#result = result;
    this.task.wake();
  }
  retry(): number {
    return this.#result ?? BLOCKED;
  }
  timedOut(): number {
    return this.#result ?? -Errno.EAGAIN;
  }
  /** Never made again: the time-out would begin anew. */
  interrupted(): number {
    return this.#result ?? -Errno.EINTR;
  }
  ended(): void {
    this.set.forgetWaiter(this);
  }
}

export class SemaphoreSet extends IpcObject implements AdjustableSemaphores {
  readonly values: Uint16Array;
  /** Who changed each last. */
  readonly changers: (Process | undefined)[];
  operated = 0;
  #waiting: PendingOperations[] = [];
  /** Adjustments of all who used SEM_UNDO here; their owners' lists hold the same arrays. */
  readonly #undos = new Set<Int16Array>();
  readonly #kernel: Kernel;

  constructor(task: Task, key: number, count: number, mode: number) {
    super(key, task.credentials, mode, nowInSeconds(task.kernel));
    this.#kernel = task.kernel;
    this.values = new Uint16Array(count);
    this.changers = Array.from({ length: count }, () => undefined);
  }

  get count(): number {
    return this.values.length;
  }

  #now(): number {
    return nowInSeconds(this.#kernel);
  }

  /** The task's adjustments for this set, made at the first use; they outlive the call. */
  undoOf(task: Task): Int16Array {
    task.semaphoreUndo ??= new SemaphoreUndo();
    const undo = task.semaphoreUndo.adjustments(this, this.count);
    this.#undos.add(undo);
    return undo;
  }

  /** All of the operations or none: 0, BLOCKED (`stuck` tells which must wait), -EAGAIN or -ERANGE. */
  #attempt(pending: PendingOperations): number {
    const { operations, undo } = pending;
    const { values } = this;
    let done = 0;
    let result = 0;
    for (const operation of operations) {
      const { number, flags } = operation;
      const value = values[number] ?? 0;
      const next = value + operation.operation;
      if ((operation.operation === 0 && value !== 0) || next < 0) {
        pending.stuck = operation;
        result = flags & IpcFlag.noWait ? -Errno.EAGAIN : BLOCKED;
        break;
      }
      if (next > semValue) {
        result = -Errno.ERANGE;
        break;
      }
      if (flags & SEM_UNDO && undo) {
        const adjusted = (undo[number] ?? 0) - operation.operation;
        if (adjusted < -semValue - 1 || adjusted > semValue) {
          result = -Errno.ERANGE;
          break;
        }
        undo[number] = adjusted;
      }
      values[number] = next;
      done++;
    }
    if (result === 0) {
      for (const { number } of operations) this.changers[number] = pending.task.process;
      return 0;
    }
    for (const { number, operation, flags } of operations.slice(0, done).reverse()) {
      values[number] = (values[number] ?? 0) - operation;
      if (flags & SEM_UNDO && undo) undo[number] = (undo[number] ?? 0) + operation;
    }
    return result;
  }

  /** semop(2), checked: 0, BLOCKED, -EAGAIN, -ERANGE; later also -EIDRM, -EINTR. */
  operate(
    task: Task,
    operations: readonly SemaphoreOperation[],
    undo: Int16Array | undefined,
    deadline: number | undefined,
  ): number {
    const pending = new PendingOperations(this, task, operations, undo, deadline);
    const result = this.#attempt(pending);
    if (result === 0) {
      this.operated = this.#now();
      if (operations.some(({ operation }) => operation !== 0)) this.#wakeWaiters();
    }
    if (result !== BLOCKED) return result;
    this.#waiting.push(pending);
    return task.block(pending);
  }

  /** Values changed: carries out what has become possible, until nothing more does. */
  #wakeWaiters(): void {
    for (let again = true; again; ) {
      again = false;
      for (const pending of this.#waiting) {
        const result = this.#attempt(pending);
        if (result === BLOCKED) continue;
        this.forgetWaiter(pending);
        pending.finish(result);
        if (result === 0) {
          this.operated = this.#now();
          again = pending.operations.some(({ operation }) => operation !== 0);
          if (again) break;
        }
      }
    }
  }

  forgetWaiter(pending: PendingOperations): void {
    this.#waiting = this.#waiting.filter((other) => other !== pending);
  }

  /** GETNCNT and GETZCNT: tasks that wait for this semaphore to grow, or to be zero. */
  waiters(number: number, forZero: boolean): number {
    let count = 0;
    for (const { stuck } of this.#waiting)
      if (stuck?.number === number && (stuck.operation === 0) === forZero) count++;
    return count;
  }

  /** SETVAL, SETALL: sets values, takes back all adjustments of them, lets waiters go on. */
  assign(process: Process, values: ReadonlyMap<number, number>): void {
    for (const [number, value] of values) {
      this.values[number] = value;
      this.changers[number] = process;
      for (const undo of this.#undos) undo[number] = 0;
    }
    this.changed = this.#now();
    this.#wakeWaiters();
  }

  adjust(adjustments: Int16Array, process: Process): void {
    this.#undos.delete(adjustments);
    if (this.removed) return;
    for (const [number, adjustment] of adjustments.entries()) {
      if (adjustment === 0) continue;
      this.values[number] = Math.max(0, Math.min(semValue, (this.values[number] ?? 0) + adjustment));
      this.changers[number] = process;
    }
    this.operated = this.#now();
    this.#wakeWaiters();
  }

  remove(registry: IpcRegistry<SemaphoreSet>): void {
    registry.remove(this);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const pending of waiting) pending.finish(-Errno.EIDRM);
    this.#undos.clear();
  }
}
