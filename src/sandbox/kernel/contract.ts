// What the parts of the kernel know of one another: tasks, processes, credentials, time, signals, blocking.
//
// Everything runs on one thread: between two system calls' handlers nothing changes behind anybody's back. A handler
// answers at once, or registers what it waits for and returns BLOCKED.

import type { Host } from '../host/contract.ts';
import type { MemoryManager } from '../mm/contract.ts';
import type { NetworkNamespace } from '../net/contract.ts';
import type { Context, Platform, UserMemory } from '../platform/contract.ts';
import type { FdTable, FsContext, MountNamespace } from '../vfs/contract.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import type { Futexes } from './futex/futexes.ts';
import type { IpcNamespace } from './ipc/ipc-namespace.ts';
import type { SemaphoreUndo } from './ipc/semaphore-undo.ts';
import type { TaskTrace } from './ptrace/contract.ts';
import type { Scheduling } from './sched/scheduling.ts';
import type { Seccomp } from './seccomp/contract.ts';
import type { ProcessSignals, TaskSignals } from './signal/contract.ts';
import type { ProcessTimers } from './time/process-timers.ts';
import type { WaitQueue } from './wait-queue.ts';

/** A handler's result when the call is answered later (after Task.block). Outside the range of errors and values. */
export const BLOCKED = -0x1_0000;

/** Result when the handler set the registers itself (execve, rt_sigreturn, exit): nothing is written to rax. */
export const REGISTERS_SET = -0x1_0001;

/** What a blocked call waits for, and how it goes on. */
export interface Blocking {
  /** Queues, each with the event bits that matter; may be empty (pause, nanosleep). */
  readonly on: readonly {
    readonly queue: WaitQueue;
    readonly events: number;
    readonly exclusive?: boolean;
  }[];
  /** Tries again after a notification: the call's result, or BLOCKED to go on waiting. */
  retry(): number;
  /** CLOCK_MONOTONIC nanoseconds at which waiting ends; undefined: never. */
  readonly deadline?: number | undefined;
  /** The result at the deadline; -ETIMEDOUT if it is left out. */
  timedOut?(): number;
  /** The result when a signal interrupts the wait: a negative errno or restart code; -ERESTARTSYS if left out. */
  interrupted?(): number;
  /** Only SIGKILL ends the wait (TASK_KILLABLE). */
  readonly killableOnly?: boolean;
  /** Called exactly once when the wait is over, whatever ended it, before the result is delivered. */
  ended?(): void;
}

/** Capability numbers are those of capabilities(7); see abi/capability.ts. Immutable: a change makes a new one. */
export interface Credentials {
  readonly uid: number;
  readonly euid: number;
  readonly suid: number;
  readonly fsuid: number;
  readonly gid: number;
  readonly egid: number;
  readonly sgid: number;
  readonly fsgid: number;
  readonly groups: readonly number[];
  readonly userNamespace: UserNamespace;
  /** In the credentials' own user namespace. */
  has(capability: number): boolean;
  /** In the user namespace that owns something. */
  hasIn(namespace: UserNamespace, capability: number): boolean;
  /** fsgid or a supplementary group. */
  inGroup(gid: number): boolean;
}

export interface UserNamespace {
  readonly parent: UserNamespace | undefined;
  readonly level: number;
  /** Between the ids that a program in the namespace sees and the kernel's own; -1 if there is no mapping. */
  toKernelUid(uid: number): number;
  fromKernelUid(uid: number): number;
  toKernelGid(gid: number): number;
  fromKernelGid(gid: number): number;
}

export interface UtsNamespace {
  hostname: string;
  domainname: string;
  readonly userNamespace: UserNamespace;
}

/** What a signal carries (siginfo_t); fields that its kind does not have are left out. */
export interface SignalInfo {
  readonly signal: number;
  /** si_code: SI_USER 0, SI_KERNEL 0x80, SI_QUEUE -1, SI_TIMER -2, SI_TKILL -6, or of the fault or child. */
  readonly code: number;
  readonly errno?: number;
  /** Sender, in the root PID namespace (translated on delivery). */
  readonly sender?: Process | undefined;
  readonly uid?: number;
  /** si_value. */
  readonly value?: bigint;
  /** SIGSEGV and the like. */
  readonly address?: number;
  /** The bytes as the program gave them (rt_sigqueueinfo), taken over unchanged. */
  readonly raw?: Uint8Array;
  /** SIGCHLD: the child, si_status, and times in clock ticks. */
  readonly child?: Process;
  /** The thread that si_pid names, where it is not the sender's or child's leader. */
  readonly thread?: Task;
  readonly status?: number;
  readonly utime?: number;
  readonly stime?: number;
  /** SI_TIMER: the POSIX timer and its overruns. */
  readonly timer?: number;
  readonly overrun?: number;
  /**
   * Called once when the signal leaves the queue, delivered or discarded; its result is si_overrun (POSIX timers).
   * A signal that has this is queued even if its number is pending already.
   */
  readonly dequeued?: () => number;
  /** SIGIO/SIGPOLL: si_band, si_fd. SIGSYS: system call, architecture (in errno: the filter's data). */
  readonly band?: number;
  readonly fd?: number;
  readonly syscall?: number;
}

/** A thread of a program. */
export interface Task {
  readonly kernel: Kernel;
  readonly process: Process;
  context: Context;
  /** The thread's number in the root PID namespace; unique among living tasks. */
  readonly tid: number;
  /** Its number as the task itself sees it (its own PID namespace). */
  readonly visibleTid: number;
  /** Its number as seen from a PID namespace; 0 if it is not visible there. */
  tidIn(namespace: PidNamespace): number;
  /** comm, at most 15 bytes, latin1. */
  name: string;
  credentials: Credentials;
  mm: MemoryManager;
  files: FdTable;
  fs: FsContext;
  uts: UtsNamespace;
  mounts: MountNamespace;
  network: NetworkNamespace;
  /**
   * The program's memory, checked against its VMAs: the same as mm.memoryOf(context). During a system call it is the
   * fastest way in and out.
   */
  readonly memory: UserMemory;

  /** Registers what the current system call waits for; its handler returns BLOCKED. */
  block(blocking: Blocking): typeof BLOCKED;
  /**
   * Marks the blocked call for a retry, as a notification of one of its queues does: for waits that are handed over
   * directly (futexes). Nothing happens if the task is not blocked.
   */
  wake(): void;
  /** What restart_syscall(2) goes on with; set by a call that may end with -ERESTART_RESTARTBLOCK. */
  restart: (() => number) | undefined;
  /** Head of the robust futex list in the program's memory (set_robust_list(2)), 0: none. Not inherited, 0 after exec. */
  robustList: number;
  /** Policy, priority, nice and affinity; a new task gets `parent.scheduling.fork()`. */
  readonly scheduling: Scheduling;
  /** System V objects and POSIX message queues (CLONE_NEWIPC: a new one). Acquire and release as with `mm`. */
  ipc: IpcNamespace;
  /** System V semaphore adjustments; shared with CLONE_SYSVSEM, else undefined in a new task. */
  semaphoreUndo: SemaphoreUndo | undefined;
  /** A signal that is neither blocked nor ignored waits to be delivered: signals.pending. */
  readonly signalPending: boolean;
  readonly signals: TaskSignals;
  readonly trace: TaskTrace;
  /** Kept by clone and exec. */
  seccomp: Seccomp;
  /** personality(2); memory follows its bits READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE and ADDR_COMPAT_LAYOUT. */
  readonly personality: number;
  /** PR_SET_NO_NEW_PRIVS; kept by clone and exec. */
  noNewPrivileges: boolean;
  /**
   * A signal came: marks a blocked call to be retried once and then, if signals.pending, to end as interrupted.
   * killableOnly waits end only if `fatal`. Nothing happens if the task is not blocked.
   */
  interruptBlocking(fatal: boolean): void;
  /** Ends this thread with a wait status; asks trace.exiting first. */
  exit(status: number): void;
  /** Ends all threads of the process, this one at once (do_group_exit). An earlier group exit's status stays. */
  exitGroup(status: number): void;
  /** Directed at this thread (tgkill, faults). */
  sendSignal(info: SignalInfo): void;
  /** Processor time of this thread in nanoseconds: user and system as far as the platform can tell. */
  cpuTime(): { readonly user: number; readonly system: number };
}

/** RLIMIT_* numbers as in getrlimit(2). Infinity: RLIM_INFINITY. */
export interface ResourceLimit {
  readonly soft: number;
  readonly hard: number;
}

/** A thread group. */
export interface Process {
  /** Number in the root PID namespace. */
  readonly pid: number;
  readonly leader: Task;
  readonly tasks: readonly Task[];
  readonly parent: Process | undefined;
  /** The parent's thread that made it: the one that PTRACE_TRACEME makes the tracer. */
  readonly parentThread: Task | undefined;
  readonly group: ProcessGroup;
  readonly session: Session;
  readonly pidNamespace: PidNamespace;
  /** Its number as seen from a PID namespace; 0 if it is not visible there. */
  pidIn(namespace: PidNamespace): number;
  limit(resource: number): ResourceLimit;
  sendSignal(info: SignalInfo): void;
  /** The file it runs (for /proc/pid/exe). */
  readonly executable: FileDescription | undefined;
  /** Set once it is a zombie: the wait status. */
  readonly exitStatus: number | undefined;
  /** Notified on exit (pidfd, waiters in other parts). */
  readonly exited: WaitQueue;
  readonly signals: ProcessSignals;
  /** Notified when a child or tracee ends, stops or goes on: wait4(2) waits here. */
  readonly childEvents: WaitQueue;
  /** The wait status with which all its threads end, once that is decided (exit_group, deadly signal). */
  readonly groupExitStatus: number | undefined;
  /** Interval timers, POSIX timers, RLIMIT_CPU. Made with the process, never inherited; told of exec and exit. */
  readonly timers: ProcessTimers;
  /** Processor time in nanoseconds of all its threads, those that have ended included (not its children's). */
  cpuTime(): { readonly user: number; readonly system: number };
}

export interface PidNamespace {
  readonly level: number;
  readonly parent: PidNamespace | undefined;
  findTask(tid: number): Task | undefined;
  findProcess(pid: number): Process | undefined;
  findGroup(pgid: number): ProcessGroup | undefined;
  findSession(sid: number): Session | undefined;
  /** All living and zombie processes that it sees, by their number in it. */
  processes(): IterableIterator<readonly [pid: number, process: Process]>;
}

export interface ProcessGroup {
  readonly pgid: number;
  readonly session: Session;
  readonly processes: ReadonlySet<Process>;
  /** No member has a parent in another group of the same session (job control). */
  readonly orphaned: boolean;
  sendSignal(info: SignalInfo): void;
}

export interface Session {
  readonly sid: number;
  readonly leader: Process | undefined;
  /** The controlling terminal. */
  terminal: ControllingTerminal | undefined;
}

/** What sessions need of a terminal (implemented by vfs/devpts). */
export interface ControllingTerminal {
  foreground: ProcessGroup | undefined;
  readonly device: number;
  /** The session leader ended, or TIOCNOTTY. */
  disassociate(session: Session): void;
  /** The line is lost, or vhangup(2). */
  hangUp(): void;
}

export interface Timer {
  cancel(): void;
}

export interface Timers {
  /** Calls `expired` from the kernel's loop at or after this CLOCK_MONOTONIC time. */
  at(deadline: number, expired: () => void): Timer;
}

export interface Clock {
  /** Nanoseconds of CLOCK_MONOTONIC. */
  monotonic(): number;
  /** Nanoseconds since the sandbox's boot (CLOCK_BOOTTIME). */
  boot(): number;
  /** A fresh object each time. */
  realtime(): { readonly sec: number; readonly nsec: number };
}

export interface KernelLog {
  /** A system call or option that is not there: said once for each kind, with what the program got. */
  unsupported(task: Task | undefined, what: string, answer: string): void;
  warn(message: string): void;
  debug(message: string): void;
}

/** Everything that all parts share; one per sandbox. */
export interface Kernel {
  readonly host: Host;
  readonly platform: Platform;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly futexes: Futexes;
  readonly log: KernelLog;
  /** Processors that programs see. */
  readonly cpus: number;
  /** Bytes of memory that programs see as the machine's (meminfo, sysinfo): the limit, else the host's. */
  readonly memoryTotal: number;
  readonly rootPidNamespace: PidNamespace;
  readonly rootUserNamespace: UserNamespace;
  random(target: Uint8Array): void;
  /** Runs `action` from the kernel's loop before it sleeps again. */
  later(action: () => void): void;
  /** The kernel's one instance of a part's class (its pipes, its registry of devices …), made at the first use. */
  part<T>(of: new (kernel: Kernel) => T): T;
  /** Unique device numbers for file systems without a device (st_dev), minor counting up from 1. */
  anonymousDevice(): number;
}
