// A thread of a program: blocking and retrying of its system call, what it shares with others, and its end.
//
// A call that blocks leaves its context stopped. What happens later (a notification, the deadline, a signal) only sets
// bits in #marks and puts the thread on the kernel's list of retries; the kernel's loop runs that list between events,
// in order, so that nothing re-enters the code that notified. The way back to the program is signal/return.ts.

import { Errno, SystemError } from '../../abi/errno.ts';
import { Signal } from '../../abi/signal.ts';
import type { MemoryManager } from '../../mm/contract.ts';
import type { NetworkNamespace } from '../../net/contract.ts';
import { type Context, Reg, type UserMemory } from '../../platform/contract.ts';
import type { FdTable, FsContext, MountNamespace } from '../../vfs/contract.ts';
import type { Blocking, SignalInfo, Task, Timer } from '../contract.ts';
import { BLOCKED, REGISTERS_SET } from '../contract.ts';
import type { TaskCredentials } from '../credentials/credentials.ts';
import type { IpcNamespace } from '../ipc/ipc-namespace.ts';
import { SemaphoreUndo } from '../ipc/semaphore-undo.ts';
import type { SandboxKernel } from '../kernel.ts';
import type { CgroupNamespace } from '../namespace/cgroup.ts';
import { type Namespaces, releaseNamespaces } from '../namespace/unshare.ts';
import type { NamedUtsNamespace } from '../namespace/uts.ts';
import type { TaskTrace } from '../ptrace/contract.ts';
import type { Scheduling } from '../sched/scheduling.ts';
import type { Seccomp } from '../seccomp/contract.ts';
import { type TaskSignals, Work } from '../signal/contract.ts';
import type { Waiter } from '../wait-queue.ts';
import { endThread } from './exit.ts';
import type { Pid, PidTable } from './pid.ts';
import type { ThreadGroup } from './thread-group.ts';

/** SI_KERNEL. */
const fromKernel = 0x80;

/** Why a blocked call is looked at again. */
const Mark = { notified: 1, deadline: 2, interrupted: 4 } as const;

/** As in /proc/pid/stat. */
export type TaskState = 'R' | 'S' | 'D' | 'T' | 't' | 'Z' | 'X';

/** What a new thread is made of; references are taken over. */
export interface ThreadOptions {
  readonly kernel: SandboxKernel;
  readonly process: ThreadGroup;
  readonly id: Pid;
  /** Left out for a thread that is given its memory by `adopt` before it enters. */
  readonly context?: Context;
  readonly mm?: MemoryManager;
  readonly name: string;
  readonly credentials: TaskCredentials;
  readonly files: FdTable;
  readonly fs: FsContext;
  readonly uts: NamedUtsNamespace;
  readonly ipc: IpcNamespace;
  readonly mounts: MountNamespace;
  readonly network: NetworkNamespace;
  readonly cgroup: CgroupNamespace;
  readonly pidNamespaceForChildren: PidTable;
  readonly scheduling: Scheduling;
  readonly seccomp: Seccomp;
}

/** What clone asks for in the child. */
export interface Birth {
  /** 0: the parent's stack pointer. */
  readonly stack: number;
  readonly tls: number | undefined;
  /** CLONE_CHILD_SETTID's address, 0: none. */
  readonly setTid: number;
}

export class Thread implements Task, Waiter {
  readonly kernel: SandboxKernel;
  /** Set once (a thread never changes its group). */
  readonly process: ThreadGroup;
  /** Another one after exec by a thread that was not the leader. */
  id: Pid;
  context!: Context;
  mm!: MemoryManager;
  name: string;
  credentials: TaskCredentials;
  files: FdTable;
  fs: FsContext;
  uts: NamedUtsNamespace;
  ipc: IpcNamespace;
  mounts: MountNamespace;
  network: NetworkNamespace;
  cgroup: CgroupNamespace;
  /** Where its children are born: unshare and setns of PID namespaces. */
  pidNamespaceForChildren: PidTable;
  readonly scheduling: Scheduling;
  seccomp: Seccomp;
  signals: TaskSignals;
  readonly trace: TaskTrace;
  semaphoreUndo: SemaphoreUndo | undefined;
  noNewPrivileges = false;
  restart: (() => number) | undefined;
  robustList = 0;
  /** set_tid_address(2), CLONE_CHILD_CLEARTID: zeroed and waked when the thread ends; 0: none. */
  clearChildTid = 0;
  /** PR_SET_PDEATHSIG. */
  parentDeathSignal = 0;
  /** PR_SET_TIMERSLACK, in nanoseconds, and what PR_SET_TIMERSLACK 0 goes back to. */
  timerSlack = 50_000;
  defaultTimerSlack = 50_000;
  /** PR_MCE_KILL: 0 late, 1 early, 2 as the system. */
  machineCheckPolicy = 2;
  /** PR_SET_IO_FLUSHER. */
  ioFlusher = false;
  /** setuid went beyond RLIMIT_NPROC: execve fails with EAGAIN while that holds. */
  processLimitExceeded = false;
  /** personality(2). */
  personality = 0;
  /** CLOCK_MONOTONIC nanoseconds of its birth. */
  startTime: number;
  /** It is on its way out (PF_EXITING): no signals, no waiting. */
  exiting = false;
  /** Ended; the wait status. It may still be in the tables, as a zombie. */
  exitStatus: number | undefined;
  /** vfork: called once when the thread lets go of its memory, by exec or exit. */
  vforkDone: (() => void) | undefined;
  /** Voluntary and involuntary context switches: calls that blocked, and interrupts. */
  voluntarySwitches = 0;
  involuntarySwitches = 0;

  /** What the new thread's registers and memory get before its first instruction. */
  birth: Birth | undefined;

  /** Processor time of its context as last read, and of the contexts that it had before exec. */
  #cpuTime = 0;
  #formerTime = 0;
  #blocking: Blocking | undefined;
  #timer: Timer | undefined;
  #marks = 0;
  #queued = false;
  /** What to do when the platform refuses an operation that was queued on the context. */
  #undo: ((failure: number) => number)[] | undefined;

  constructor(options: ThreadOptions, signals: (thread: Thread) => TaskSignals) {
    const kernel = options.kernel;
    this.kernel = kernel;
    this.process = options.process;
    this.id = options.id;
    if (options.context) this.context = options.context;
    if (options.mm) this.mm = options.mm;
    this.name = options.name;
    this.credentials = options.credentials;
    this.files = options.files;
    this.fs = options.fs;
    this.uts = options.uts;
    this.ipc = options.ipc;
    this.mounts = options.mounts;
    this.network = options.network;
    this.cgroup = options.cgroup;
    this.pidNamespaceForChildren = options.pidNamespaceForChildren;
    this.scheduling = options.scheduling;
    this.seccomp = options.seccomp;
    this.startTime = kernel.clock.monotonic();
    this.trace = kernel.parts.trace(this);
    this.signals = signals(this);
  }

  get tid(): number {
    return this.id.numbers[0] ?? 0;
  }

  get visibleTid(): number {
    return this.id.numbers[this.id.namespace.level] ?? 0;
  }

  tidIn(namespace: PidTable): number {
    return this.id.in(namespace);
  }

  get memory(): UserMemory {
    return this.mm.memoryOf(this.context);
  }

  get signalPending(): boolean {
    return this.signals.pending;
  }

  get leader(): boolean {
    return this.process.leader === this;
  }

  /** Ended and not reaped, or ended altogether. */
  get dead(): boolean {
    return this.exitStatus !== undefined;
  }

  get state(): TaskState {
    if (this.exitStatus !== undefined) return 'Z';
    if (this.trace.stopped) return 't';
    if (this.#blocking) return this.#blocking.killableOnly ? 'D' : 'S';
    if (this.process.signals.stopped) return 'T';
    return 'R';
  }

  /** A system call waits. */
  get blocked(): boolean {
    return this.#blocking !== undefined;
  }

  sendSignal(info: SignalInfo): void {
    if (!this.exiting) this.signals.send(info);
  }

  cpuTime(): { readonly user: number; readonly system: number } {
    if (!this.exiting) this.#cpuTime = Math.max(this.#cpuTime, this.context.cpuTime?.() ?? 0);
    return { user: this.#formerTime + this.#cpuTime, system: 0 };
  }

  /** Takes its place in the tables and accounts. */
  enter(): void {
    const { process } = this;
    this.context.owner = this;
    this.id.thread = this;
    process.tasks.push(this);
    process.container.processes.add(process);
    process.container.taskBorn();
    this.kernel.countProcess(this.credentials, 1);
  }

  /** For the kernel's loop: event `started`, the context runs for the first time. */
  start(): void {
    const { birth } = this;
    this.birth = undefined;
    if (birth) {
      const registers = this.context.registers();
      registers[Reg.rax] = 0n;
      if (birth.stack !== 0) registers[Reg.rsp] = BigInt(birth.stack);
      if (birth.tls !== undefined) registers[Reg.fsBase] = BigInt(birth.tls);
      // Whoever gave a bad address finds nothing there; the call was answered long ago.
      if (birth.setTid !== 0) this.memory.writeU32(birth.setTid, this.visibleTid);
    }
    this.answerInStub();
    this.kernel.parts.startProgram(this);
  }

  /**
   * Lets go of everything that it shares, its context included, and leaves its process's list of tasks. The order is
   * that of do_exit: semaphores, files, namespaces; memory last, since files may still look at it.
   */
  leave(): void {
    const { process, mm, context } = this;
    this.releaseShared();
    if (mm.users > 1) context.exit();
    mm.release();
    this.#finishVfork();
    process.tasks.splice(process.tasks.indexOf(this), 1);
  }

  /** All that is shared but memory. */
  releaseShared(): void {
    this.dropSemaphoreUndo();
    this.files.release(this);
    this.fs.release();
    releaseNamespaces(this, this);
  }

  // What it shares.

  /**
   * execve: goes on with this memory, in this context. The former ones are let go: the host's thread ends, and the
   * address space with its last user; a parent that waits in vfork goes on.
   */
  adopt(mm: MemoryManager, context: Context): void {
    const { mm: formerMm, context: formerContext } = this as { mm?: MemoryManager; context?: Context };
    if (formerMm && formerContext) {
      this.#formerTime = this.cpuTime().user;
      this.#cpuTime = 0;
      formerContext.owner = undefined;
      if (formerMm.users > 1) formerContext.exit();
      formerMm.release();
    }
    this.mm = mm;
    this.context = context;
    context.owner = this;
    this.#finishVfork();
    this.answerInStub();
  }

  #finishVfork(): void {
    const done = this.vforkDone;
    this.vforkDone = undefined;
    done?.();
  }

  /** Tells the stub what it may answer alone, unless a tracer or filter watches (then kernel/signal has told it). */
  answerInStub(): void {
    if (this.signals.work & Work.entry) return;
    this.kernel.platform.stubAnswers(this.context, { pid: this.process.visiblePid, tid: this.visibleTid });
  }

  /** commit_creds: what depends on who the task is follows. */
  setCredentials(credentials: TaskCredentials): void {
    const former = this.credentials;
    this.credentials = credentials;
    this.kernel.moveProcess(former, credentials);
    const other =
      former.euid !== credentials.euid ||
      former.egid !== credentials.egid ||
      former.fsuid !== credentials.fsuid ||
      former.fsgid !== credentials.fsgid;
    const more =
      (credentials.permitted & ~former.permitted) !== 0n ||
      former.userNamespace !== credentials.userNamespace;
    if (!other && !more) return;
    // A process whose program is not loaded yet has no memory (spawn.ts).
    const mm: MemoryManager | undefined = this.mm;
    if (mm) mm.dumpable = 0;
    this.parentDeathSignal = 0;
  }

  /** Goes over to these namespaces (taking over the references) and gives up the former ones. */
  replaceNamespaces(namespaces: Namespaces): void {
    const { uts, ipc, mounts, network, cgroup } = this;
    this.uts = namespaces.uts;
    this.ipc = namespaces.ipc;
    this.mounts = namespaces.mounts;
    this.network = namespaces.network;
    this.cgroup = namespaces.cgroup;
    releaseNamespaces(this, { uts, ipc, mounts, network, cgroup });
  }

  /** CLONE_SYSVSEM: adjustments that the child shares. */
  shareSemaphoreUndo(): SemaphoreUndo {
    this.semaphoreUndo ??= new SemaphoreUndo();
    return this.semaphoreUndo.acquire();
  }

  dropSemaphoreUndo(): void {
    this.semaphoreUndo?.release(this.process);
    this.semaphoreUndo = undefined;
  }

  // Blocking.

  block(blocking: Blocking): typeof BLOCKED {
    // A retry may go on with another wait.
    if (this.#blocking) this.#unblock();
    this.#blocking = blocking;
    this.voluntarySwitches++;
    for (const { queue, events, exclusive } of blocking.on) queue.add(this, events, exclusive);
    if (blocking.deadline !== undefined && blocking.deadline !== Number.POSITIVE_INFINITY)
      this.#timer = this.kernel.timers.at(blocking.deadline, () => this.#mark(Mark.deadline));
    const { signals } = this;
    if (signals.pending && (!blocking.killableOnly || signals.killed)) this.#mark(Mark.interrupted);
    return BLOCKED;
  }

  /** Waiter: one of the queues says that something may have changed. */
  notify(): void {
    this.#mark(Mark.notified);
  }

  wake(): void {
    if (this.#blocking) this.#mark(Mark.notified);
  }

  interruptBlocking(fatal: boolean): void {
    if (this.#blocking && (fatal || !this.#blocking.killableOnly)) this.#mark(Mark.interrupted);
    if (fatal) this.process.container.release(this);
  }

  #mark(mark: number): void {
    this.#marks |= mark;
    this.scheduleRetry();
  }

  /** Puts the thread on the list of retries, if it is not there. */
  scheduleRetry(): void {
    if (this.#queued) return;
    this.#queued = true;
    this.kernel.retryLater(this);
  }

  /** For the kernel's loop only: looks at the blocked call again. */
  runRetry(): void {
    this.#queued = false;
    // A frozen container's calls stay as they are; thawing schedules them again.
    if (this.process.container.frozen && !this.signals.killed) return;
    const blocking = this.#blocking;
    if (!blocking) return;
    const marks = this.#marks;
    this.#marks = 0;
    let result = this.#attempt(blocking);
    if (this.#blocking !== blocking) {
      // The retry itself blocked on something else, or the thread has ended meanwhile.
      if (result === BLOCKED || this.exitStatus !== undefined) return;
    } else if (result === BLOCKED) {
      const { signals } = this;
      if (marks & Mark.interrupted && signals.pending && (!blocking.killableOnly || signals.killed))
        result = blocking.interrupted ? blocking.interrupted() : -Errno.ERESTARTSYS;
      else if (marks & Mark.deadline) result = blocking.timedOut ? blocking.timedOut() : -Errno.ETIMEDOUT;
      else return;
      if (this.#blocking === blocking) this.#unblock();
    } else {
      this.#unblock();
    }
    this.complete(result);
  }

  #attempt(blocking: Blocking): number {
    try {
      return blocking.retry();
    } catch (error) {
      if (error instanceof SystemError) return -error.errno;
      throw error;
    }
  }

  #unblock(): void {
    const blocking = this.#blocking;
    if (!blocking) return;
    this.#blocking = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#marks = 0;
    for (const { queue } of blocking.on) queue.remove(this);
    blocking.ended?.();
  }

  /** Gives a system call its answer: a value, a negative errno or restart code, or REGISTERS_SET. Not BLOCKED. */
  complete(result: number): void {
    const { answered } = this.kernel;
    if (answered !== undefined) answered(this, result);
    if (result > -Errno.ERESTARTSYS && (this.signals.work & Work.exit) === 0) this.context.resume(result);
    else this.kernel.parts.completeSyscall(this, result);
  }

  // Operations that the platform queued.

  /** If the operation now queued on the context fails, `undo` is called and its result is the system call's. */
  onFailure(undo: (failure: number) => number): void {
    this.#undo ??= [];
    this.#undo.push(undo);
  }

  /** The context has stopped again after it was resumed: what was queued has been carried out. */
  operationsDone(): void {
    this.#undo = undefined;
    this.mm.operationsDone();
  }

  /**
   * Event operationFailed: what the call had made is taken back, and the call is answered. A call queues either changes
   * of its own (fork) or of memory, whose books are put right; a stack that could not grow is the program's fault.
   */
  operationFailed(failure: number): void {
    const undo = this.#undo;
    this.#undo = undefined;
    if (undo) {
      let result = failure;
      for (const action of undo.reverse()) result = action(result);
      this.complete(result);
      return;
    }
    const answer = this.mm.operationFailed(this, failure);
    if (answer === 'fault') this.signals.force({ signal: Signal.SIGSEGV, code: fromKernel });
    this.complete(answer === 'fault' ? REGISTERS_SET : answer);
  }

  // The end.

  exit(status: number): void {
    if (this.exiting) return;
    this.trace.exiting(status, () => endThread(this, status));
  }

  exitGroup(status: number): void {
    const decided = this.process.beginExit(status, this);
    this.exit(decided);
  }

  /** The context died without the kernel's doing: as if killed, with no more words. */
  contextDied(): void {
    const status = this.process.beginExit(9, this);
    endThread(this, status);
  }

  /** For endThread: whatever it waited for is over. */
  abandonCall(): void {
    this.#unblock();
    this.#undo = undefined;
  }
}
