// What becomes of a context that has stopped: its system call is looked up and run, its fault resolved or turned into a
// signal, its end noticed. Called by the kernel's loop for every event; the path of a call that needs no look by a
// tracer or a filter is the first lines of `handle`.

import { Errno, SystemError } from '../abi/errno.ts';
import { SyscallNumber, syscallNames } from '../abi/syscall-numbers.ts';
import { BLOCKED, REGISTERS_SET, type Task } from '../kernel/contract.ts';
import { Work } from '../kernel/signal/contract.ts';
import { completeFault, completeInterrupt, enterSyscall } from '../kernel/signal/return.ts';
import type { Thread } from '../kernel/task/thread.ts';
import { type Arguments, type Context, ContextEvent } from '../platform/contract.ts';
import type { Entered, Strace } from './strace.ts';
import type { SyscallTable } from './table.ts';

/** Calls that Linux has and everybody may find missing: no line in the log. */
const probed = new Set<number>([
  SyscallNumber.io_uring_setup,
  SyscallNumber.clone3,
  SyscallNumber.rseq,
  SyscallNumber.membarrier,
]);

export class Dispatcher {
  readonly #table: SyscallTable;
  readonly #handlers: readonly (((task: Task, args: Arguments) => number) | undefined)[];
  /** Calls since the start, for `stats` and metrics. */
  calls = 0;
  /** By number. */
  readonly counts = new Float64Array(512);
  #strace: Strace | undefined;
  /** Calls that are written down when they are answered. */
  readonly #entered = new WeakMap<Task, Entered>();

  constructor(table: SyscallTable) {
    this.#table = table;
    this.#handlers = Array.from({ length: 512 }, (_, number) => table.handler(number));
  }

  get table(): SyscallTable {
    return this.#table;
  }

  get strace(): Strace | undefined {
    return this.#strace;
  }
  set strace(strace: Strace | undefined) {
    this.#strace = strace;
  }

  handle(context: Context): void {
    const thread = context.owner as Thread | undefined;
    if (thread === undefined || thread.context !== context) return;
    const { event } = context;
    if (event === ContextEvent.operationFailed) {
      thread.operationFailed(context.failure);
      return;
    }
    thread.operationsDone();
    if (thread.process.container.frozen && thread.process.container.holds(thread, context)) return;
    switch (event) {
      case ContextEvent.syscall:
        if (thread.signals.work & Work.entry) enterSyscall(thread, this.#proceed);
        else this.#call(thread, context.number, context.args);
        return;
      case ContextEvent.fault:
        if (thread.mm.resolveFault(thread, context.fault)) context.resumeRegisters();
        else completeFault(thread);
        return;
      case ContextEvent.interrupt:
        completeInterrupt(thread);
        return;
      case ContextEvent.started:
        thread.start();
        return;
      case ContextEvent.died:
        thread.contextDied();
        return;
      default:
        throw new Error(`a context of ${thread.name} (${thread.tid}) stopped with event ${event}`);
    }
  }

  readonly #proceed = (task: Task, number: number, args: Arguments): void =>
    this.#call(task as Thread, number, args);

  #call(thread: Thread, number: number, args: Arguments): void {
    this.calls++;
    const handler = this.#handlers[number];
    if (number >= 0 && number < 512) this.counts[number] = (this.counts[number] ?? 0) + 1;
    if (this.#strace) {
      const entered = this.#strace.enter(thread, number, args);
      if (entered) this.#entered.set(thread, entered);
    }
    if (handler === undefined) {
      this.#missing(thread, number);
      return;
    }
    let result: number;
    try {
      result = handler(thread, args);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      result = -error.errno;
    }
    if (result === BLOCKED) return;
    thread.complete(result);
  }

  #missing(thread: Thread, number: number): void {
    if (!probed.has(number))
      thread.kernel.log.unsupported(thread, `system call ${syscallNames[number] ?? number}`, 'ENOSYS');
    thread.complete(-Errno.ENOSYS);
  }

  /** Thread.complete tells of each answer, when strace is on. */
  answered(task: Task, result: number): void {
    const entered = this.#entered.get(task);
    if (!entered || !this.#strace) return;
    this.#entered.delete(task);
    this.#strace.leave(task, entered, result === REGISTERS_SET ? undefined : result);
  }
}
