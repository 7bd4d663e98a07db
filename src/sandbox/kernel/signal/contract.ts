// The seam between tasks (kernel/task) and signals (kernel/signal).
//
// kernel/signal owns what is pending, masks, dispositions, alternate stacks, delivery, and the stops of job control
// together with what parents are told of them (tracers take part in these, so they cannot be apart from ptrace). It
// decides what happens between the end of a handler and the program's next instruction: signal/return.ts.
// kernel/task owns blocking, the ends of threads and processes and what parents are told of these (wait(2), SIGCHLD).
//
// The way in: when `signals.work & Work.entry`, the dispatcher gives a system call to `enterSyscall` (signal/return.ts)
// instead of running its handler.
// The way out: `completeSyscall(task, result)`, `completeFault(task)`, `completeInterrupt(task)` and, for a new context,
// `startProgram(task)` resume the context, or keep the task stopped until somebody lets it go on, or end it. Who calls
// them (the dispatcher; Thread.complete for calls that had blocked) touches the context no more. result may be a value,
// a negative errno, a restart code, or REGISTERS_SET.
//
// What signals need of the classes of Task and Process is in kernel/contract.ts: `interruptBlocking`, `exit`,
// `exitGroup`, `groupExitStatus`, `childEvents`. They keep these rules:
// - interruptBlocking(fatal) only marks the task. Later, from the kernel's loop, the call is retried once; if it is
//   still BLOCKED and `signals.pending` holds, it ends with `interrupted()` and goes on to completeSyscall.
// - exitGroup(status) calls `signals.kill()` of the other threads, then ends this one. kill() wakes a thread from
//   whatever it does; it then ends by Task.exit(groupExitStatus ?? 0). exec of one thread of several does the same.
// - A thread that ends calls `signals.release()` after it has left its process's list of tasks.
// - A status is a wait status as wait4(2) gives it: code << 8, or the number of a signal.

import type { Process, SignalInfo, Task } from '../contract.ts';
import type { WaitQueue } from '../wait-queue.ts';
import type { SignalSet } from './signal-set.ts';

/** What a task has to do before it goes on with the program, or before a system call begins. Bits of TaskSignals.work. */
export const Work = {
  /** A signal that can be delivered may be pending, or a stop is asked for. */
  signal: 1,
  /** A mask is to be put back (sigsuspend, ppoll …). */
  restoreMask: 2,
  /** The thread must end (group exit, or exec by another thread). */
  kill: 4,
  /** A tracer wants to see the entry and the exit of system calls (PTRACE_SYSCALL). */
  traceSyscall: 8,
  /** PTRACE_SYSEMU. */
  emulateSyscall: 16,
  /** PTRACE_SINGLESTEP. */
  singleStep: 32,
  /** A seccomp mode is set. */
  seccomp: 64,
  /** A ptrace event that must come before the program goes on. */
  event: 128,
  /** A tracer may have changed the registers: all of them count, not only the call's result. */
  registers: 256,
  /** Any of these: enterSyscall must be asked. */
  entry: 8 | 16 | 64,
  /** Any of these: the fast way back is not open. */
  exit: 1 | 2 | 4 | 8 | 16 | 32 | 128 | 256,
} as const;

/** struct kernel_sigaction. handler: 0 SIG_DFL, 1 SIG_IGN, else an address. */
export interface SignalAction {
  readonly handler: number;
  readonly flags: number;
  readonly restorer: number;
  readonly mask: SignalSet;
}

/** Dispositions (sighand_struct): shared between processes with CLONE_SIGHAND. */
export interface SignalHandlers {
  get(signal: number): SignalAction;
  set(signal: number, action: SignalAction): void;
  /** Notified with Poll.in when a signal arrives for anybody who uses these: signalfd's poll and read wait here. */
  readonly queue: WaitQueue;
}

/** Made by kernel/signal (signal/signals.ts): the states of the first process and thread of a container. */
export interface Signals {
  /** All dispositions default. */
  createProcess(process: Process): ProcessSignals;
  /** Nothing blocked, no alternate stack. */
  createTask(task: Task, process: ProcessSignals): TaskSignals;
}

/** What a thread group has of signals: the shared queue, the dispositions, the state of job control. */
export interface ProcessSignals {
  readonly handlers: SignalHandlers;
  /** SIGCHLD is ignored by SIG_IGN or its action has SA_NOCLDWAIT: children that end are reaped at once. */
  readonly autoReap: boolean;
  /** SIGCHLD's action is SIG_IGN itself (not even the signal is sent). */
  readonly ignoresChild: boolean;
  /** SIGCHLD's action has SA_NOCLDSTOP: nothing is sent when a child stops or continues. */
  readonly noChildStop: boolean;
  /** Directed at the process as a whole, waiting (ShdPnd). */
  readonly pending: SignalSet;
  /** What counts toward RLIMIT_SIGPENDING for the process's real user (SigQ in /proc/pid/status). */
  readonly queued: number;
  /** All threads are stopped by job control (state T). */
  readonly stopped: boolean;
  /** Directed at the process as a whole (kill, SIGCHLD, terminals). */
  send(info: SignalInfo): void;
  /**
   * wait4(WUNTRACED), waitid(WSTOPPED): the signal that stopped the process, if its parent has not been told yet.
   * consume: now it has (not with WNOWAIT).
   */
  takeStopped(consume: boolean): number | undefined;
  /** WCONTINUED: whether the process was continued and its parent has not been told yet. */
  takeContinued(consume: boolean): boolean;
  /**
   * For a new process by clone(2): an empty queue and a copy of the dispositions. shareHandlers: CLONE_SIGHAND without
   * CLONE_THREAD; clearHandlers: CLONE_CLEAR_SIGHAND (handlers become SIG_DFL, SIG_IGN stays).
   */
  fork(child: Process, shareHandlers: boolean, clearHandlers: boolean): ProcessSignals;
  /** execve(2): dispositions of its own, handlers back to SIG_DFL. What is pending stays. */
  exec(): void;
  /** The last thread has ended: drops the queue. */
  release(): void;
}

/** What a thread has of signals: its queue, mask and alternate stack. */
export interface TaskSignals {
  /** Bits of Work; 0 nearly always. */
  readonly work: number;
  setWork(bits: number): void;
  clearWork(bits: number): void;

  readonly mask: SignalSet;
  /** SIGKILL and SIGSTOP are left out, whatever is given. Looks for signals that can be delivered now. */
  setMask(mask: SignalSet): void;
  /**
   * The mask argument of ppoll, pselect6, epoll_pwait, io_pgetevents: takes effect at once, until the call is complete;
   * if a handler runs because the call was interrupted, the old mask comes back when that returns. address 0: nothing
   * happens. 0, -EINVAL (size is not 8) or -EFAULT. Nothing needs to be undone by the caller.
   */
  setTemporaryMask(address: number, size: number): number;

  /** Directed at this thread, waiting (SigPnd). */
  readonly threadPending: SignalSet;
  /** Something waits that is neither blocked nor ignored, a stop, or the thread's end (TIF_SIGPENDING). */
  readonly pending: boolean;
  /** SIGKILL waits, or the thread must end (fatal_signal_pending). */
  readonly killed: boolean;

  /** Directed at this thread (tgkill, faults). */
  send(info: SignalInfo): void;
  /** One that the program cannot avoid (force_sig_info): if it is blocked or ignored it becomes default and deadly. */
  force(info: SignalInfo): void;
  /** Takes the next pending signal (of the thread, then of the process) that is in the set: signalfd, sigtimedwait. */
  dequeue(set: SignalSet): SignalInfo | undefined;
  /** Whether dequeue would give one. */
  available(set: SignalSet): boolean;
  /** SIGTTIN and SIGTTOU rules of terminals. */
  blockedOrIgnored(signal: number): boolean;

  /** The thread must end, whatever it does: see the rules above. */
  kill(): void;
  /**
   * For a new thread by clone(2): the same mask, an empty queue. keepAlternateStack: unless CLONE_VM without CLONE_VFORK.
   * `process`: the child's thread group, which is this one's with CLONE_THREAD.
   */
  fork(child: Task, process: ProcessSignals, keepAlternateStack: boolean): TaskSignals;
  /** execve(2): no alternate stack; mask and queue stay. */
  exec(): void;
  /** The thread has ended: drops its queue; others take what it was chosen for; a group stop waits for it no more. */
  release(): void;
}
