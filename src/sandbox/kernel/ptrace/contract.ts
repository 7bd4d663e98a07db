// The seam between ptrace and tasks: what clone, exec, exit and wait ask of a task's tracing. `task.trace` is made by the
// class in ptrace/task-trace.ts; none of this costs more than a test when nobody traces.
//
// wait4(2): a tracer waits for its `tracees` as for children, whatever their real parent. A tracee's stop is told to its
// tracer alone (takeStop); the group stop of a traced process is still told to the real parent if that is another one.
// A zombie that is traced by another process than its parent is first reaped by the tracer (call `detached` then; it
// stays a zombie) and then by its parent. Both are waked through their process's `childEvents`.

import type { Arguments } from '../../platform/contract.ts';
import type { SignalInfo, Task } from '../contract.ts';

export interface TaskTrace {
  /** The tracing thread. */
  readonly tracer: Task | undefined;
  /** Threads that this thread traces. */
  readonly tracees: ReadonlySet<Task>;
  /** In a ptrace stop (state "t (tracing stop)"). */
  readonly stopped: boolean;
  /**
   * The stop that the tracer has not been told of yet: a wait status (signal or event << 8 | signal, shifted, | 0x7f).
   * consume: it is told now.
   */
  takeStop(consume: boolean): number | undefined;

  /**
   * clone made `child`, which has not run yet: attaches it to the same tracer if the options or CLONE_PTRACE say so and
   * lets this task stop with the event once its handler returns. flags: those of clone, exit signal in the low byte.
   */
  cloned(child: Task, flags: number): void;
  /** The vforked child let this task go on: PTRACE_EVENT_VFORK_DONE, before the call completes. */
  vforkDone(child: Task): void;
  /** exec succeeded (registers are set): PTRACE_EVENT_EXEC, or SIGTRAP for old-fashioned tracers. formerTid: see ptrace(2). */
  executed(formerTid: number): void;
  /** The task is about to exit with this wait status: PTRACE_EVENT_EXIT if wanted, then `go` (at once if not). */
  exiting(status: number, go: () => void): void;
  /** The task is gone as a tracer: its tracees are let go, or killed (PTRACE_O_EXITKILL). */
  released(): void;
  /** The task is no tracee any more (its zombie was reaped by the tracer). */
  detached(): void;

  // For kernel/signal: what a tracee does on its way in and out. Each calls `then` once, at once or after the stop.

  /** Attached by PTRACE_SEIZE. */
  readonly seized: boolean;
  /** Signal-delivery-stop; `then` gets what the tracer lets through, undefined: nothing is delivered. */
  signalStop(info: SignalInfo, group: boolean, then: (info: SignalInfo | undefined) => void): void;
  /** The stop for a group stop, PTRACE_INTERRUPT or a change that a seizing tracer is told of. */
  jobTrap(then: () => void): void;
  /** Syscall-enter-stop; a tracer may change number and arguments. */
  syscallEntry(then: () => void): void;
  /** Syscall-exit-stop; the result is in the registers. step: a single step ends here. */
  syscallExit(step: boolean, then: () => void): void;
  /** A handler was entered while single-stepping. */
  stepIntoHandler(then: () => void): void;
  /** PTRACE_EVENT_SECCOMP with the filter's data; false: nobody listens. */
  seccompStop(data: number, then: () => void): boolean;
}

/** What a system call is after a tracer or filter looked at it: it may be another one than the context's. */
export type Proceed = (task: Task, number: number, args: Arguments) => void;
