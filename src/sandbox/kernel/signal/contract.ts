// The seam between tasks (kernel/task) and signals (kernel/signal).
//
// kernel/signal owns what is pending, the masks, the dispositions, alternate stacks, and the delivery of signals on the
// way back to the program. kernel/task owns the way back itself (Thread.complete, park and unpark), stops and ends of
// whole processes (ThreadGroup.stop, continue and exitGroup) and what parents are told (wait(2), SIGCHLD).
//
// Sending: the receiver's state queues the signal and, if it is neither blocked nor ignored, calls
// Thread.signalWake(fatal) on a thread that takes it. Delivering: the thread calls TaskSignals.deliver() before it goes
// back to its program while `pending` holds; deliver changes registers, or calls ThreadGroup.stop, ThreadGroup.exitGroup
// or Thread.park.

import type { Process, SignalInfo, Task } from '../contract.ts';

/** Made by kernel/signal, one per kernel: the states of the first process and thread of a container. */
export interface Signals {
  /** All dispositions default. */
  createProcess(process: Process): ProcessSignals;
  /** Nothing blocked, no alternate stack. */
  createTask(task: Task, process: ProcessSignals): TaskSignals;
}

/** What a thread group has of signals: the shared queue and (counted, see CLONE_SIGHAND) the dispositions. */
export interface ProcessSignals {
  /** SIGCHLD is ignored by SIG_IGN or its action has SA_NOCLDWAIT: children that end are reaped at once. */
  readonly autoReap: boolean;
  /** SIGCHLD's action is SIG_IGN itself (not even the signal is sent). */
  readonly ignoresChild: boolean;
  /** SIGCHLD's action has SA_NOCLDSTOP: nothing is sent when a child stops or continues. */
  readonly noChildStop: boolean;
  /** Directed at the process as a whole (kill, SIGCHLD, terminals). */
  send(info: SignalInfo): void;
  /**
   * For a new process by clone(2): an empty queue and a copy of the dispositions. shareHandlers: CLONE_SIGHAND without
   * CLONE_THREAD; clearHandlers: CLONE_CLEAR_SIGHAND (handlers become SIG_DFL, SIG_IGN stays).
   */
  fork(child: Process, shareHandlers: boolean, clearHandlers: boolean): ProcessSignals;
  /** execve(2): dispositions of its own, handlers back to SIG_DFL. What is pending stays. */
  exec(): void;
  /** The last thread has ended: drops the queue and its share of the dispositions. */
  release(): void;
}

/** What a thread has of signals: its queue, mask and alternate stack. */
export interface TaskSignals {
  /** Something waits that is neither blocked nor ignored (TIF_SIGPENDING); read before every return to the program. */
  readonly pending: boolean;
  /** Directed at this thread (tgkill, faults). */
  send(info: SignalInfo): void;
  /**
   * For a new thread by clone(2): the same mask, an empty queue. keepAlternateStack: unless CLONE_VM without CLONE_VFORK.
   * `process`: the child's thread group, which is this one's with CLONE_THREAD.
   */
  fork(child: Task, process: ProcessSignals, keepAlternateStack: boolean): TaskSignals;
  /**
   * Takes signals until none is pending, the thread is parked or its process ends. The registers (context.registers())
   * hold the call's result in rax, restart codes included, and its number in origRax (-1: not from a system call);
   * what deliver changes there is what the program continues with. A restart code without a handler is turned into the
   * repetition of the call here too, so deliver is also called once when nothing is pending but rax has a restart code.
   */
  deliver(): void;
  /** execve(2): no alternate stack; mask and queue stay. */
  exec(): void;
  /** The thread has ended: drops its queue; signals of the process that it was to take go to another thread. */
  release(): void;
}
