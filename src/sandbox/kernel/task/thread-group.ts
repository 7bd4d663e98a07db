// A process (thread group): its threads, family, job control, limits and accounts. The life of a process is told in
// clone.ts, exec.ts and exit.ts; waiting for it in wait.ts.

import type { ResourceUsage } from '../../abi/resource.ts';
import type { FileDescription } from '../../vfs/file-description.ts';
import type { Process, ResourceLimit, SignalInfo } from '../contract.ts';
import type { SandboxKernel } from '../kernel.ts';
import type { ProcessSignals } from '../signal/contract.ts';
import { ProcessTimers } from '../time/process-timers.ts';
import { WaitQueue } from '../wait-queue.ts';
import type { Container } from './container.ts';
import type { JobGroup, LoginSession } from './jobs.ts';
import type { Pid, PidTable } from './pid.ts';
import type { Thread } from './thread.ts';

export function noUsage(): ResourceUsage {
  return {
    user: 0,
    system: 0,
    maximumResident: 0,
    minorFaults: 0,
    majorFaults: 0,
    voluntarySwitches: 0,
    involuntarySwitches: 0,
  };
}

/** Adds up; the largest resident size counts. */
export function addUsage(to: ResourceUsage, usage: Readonly<ResourceUsage>): void {
  to.user += usage.user;
  to.system += usage.system;
  to.maximumResident = Math.max(to.maximumResident, usage.maximumResident);
  to.minorFaults += usage.minorFaults;
  to.majorFaults += usage.majorFaults;
  to.voluntarySwitches += usage.voluntarySwitches;
  to.involuntarySwitches += usage.involuntarySwitches;
}

export class ThreadGroup implements Process {
  readonly kernel: SandboxKernel;
  readonly id: Pid;
  readonly container: Container;
  /** Living threads; the leader is missing once it has ended before the others. */
  readonly tasks: Thread[] = [];
  readonly children = new Set<ThreadGroup>();
  signals: ProcessSignals;
  readonly timers: ProcessTimers;
  readonly childEvents = new WaitQueue();
  readonly exited = new WaitQueue();
  group: JobGroup;
  limits: ResourceLimit[];
  executable: FileDescription | undefined;
  exitStatus: number | undefined;
  groupExitStatus: number | undefined;
  /** Nobody can wait for it any more. */
  reaped = false;
  /** Sent to the parent at the end; 0: none. */
  exitSignal: number;
  /** It has called execve since fork (setpgid(2): EACCES). */
  executed = false;
  /** Counts execve calls; a child remembers its parent's (a special exit signal is for that program only). */
  execution = 0;
  parentExecution = 0;
  /** PR_SET_CHILD_SUBREAPER. */
  subreaper = false;
  /** An ancestor is a subreaper, so that orphans need to look for it. */
  underSubreaper = false;
  /** SIGNAL_UNKILLABLE: number 1 of its PID namespace. */
  readonly init: boolean;
  /** CLOCK_MONOTONIC nanoseconds. */
  readonly startTime: number;
  /** Of threads that have ended. */
  readonly endedUsage: ResourceUsage = noUsage();
  /** Of children that were waited for (RUSAGE_CHILDREN). */
  readonly childrenUsage: ResourceUsage = noUsage();
  /** Bytes that read and write calls moved and how many they were (/proc/pid/io). */
  readonly io = { readBytes: 0, writtenBytes: 0, reads: 0, writes: 0 };
  /** PR_SET_THP_DISABLE: kept by fork and exec; what pages the host takes is its own affair. */
  hugePagesDisabled = false;
  /** Told of its end, once, with the wait status: whoever made it from outside of the sandbox. */
  whenEnded: ((status: number) => void) | undefined;
  /** oom_score_adj. */
  oomScoreAdjust = 0;
  /** The thread that has the others end because it executes a new program. */
  executing: Thread | undefined;
  /** Notified when a thread has ended, for the thread that executes a program. */
  readonly threadEnded = new WaitQueue();
  #leader: Thread | undefined;
  /** The parent's thread that made it (PR_SET_PDEATHSIG, __WNOTHREAD). */
  #parentThread: Thread | undefined;

  constructor(options: {
    readonly kernel: SandboxKernel;
    readonly id: Pid;
    readonly container: Container;
    readonly group: JobGroup;
    readonly limits: ResourceLimit[];
    readonly exitSignal: number;
    readonly executable: FileDescription | undefined;
    readonly signals: (process: ThreadGroup) => ProcessSignals;
  }) {
    const { kernel, id } = options;
    this.kernel = kernel;
    this.id = id;
    this.container = options.container;
    this.group = options.group;
    this.limits = options.limits;
    this.exitSignal = options.exitSignal;
    this.execute(options.executable);
    this.startTime = kernel.clock.monotonic();
    this.init = id.namespace.init === undefined && id.numbers[id.namespace.level] === 1;
    if (this.init) id.namespace.init = this;
    id.process = this;
    this.signals = options.signals(this);
    this.timers = new ProcessTimers(kernel, this);
    this.group.add(this);
  }

  get pid(): number {
    return this.id.numbers[0] ?? 0;
  }

  get visiblePid(): number {
    return this.id.numbers[this.id.namespace.level] ?? 0;
  }

  pidIn(namespace: PidTable): number {
    return this.id.in(namespace);
  }

  get pidNamespace(): PidTable {
    return this.id.namespace;
  }

  get leader(): Thread {
    if (!this.#leader) throw new Error('a process without its first thread');
    return this.#leader;
  }

  set leader(thread: Thread) {
    this.#leader = thread;
  }

  get parentThread(): Thread | undefined {
    return this.#parentThread;
  }

  get parent(): ThreadGroup | undefined {
    return this.#parentThread?.process;
  }

  /** Moves it into the family of another process. */
  set parentThread(thread: Thread | undefined) {
    this.#parentThread?.process.children.delete(this);
    this.#parentThread = thread;
    thread?.process.children.add(this);
  }

  get session(): LoginSession {
    return this.group.session;
  }

  /** All threads have ended. */
  get dead(): boolean {
    return this.exitStatus !== undefined;
  }

  get stopped(): boolean {
    return this.signals.stopped;
  }

  limit(resource: number): ResourceLimit {
    return this.limits[resource] ?? { soft: Infinity, hard: Infinity };
  }

  sendSignal(info: SignalInfo): void {
    if (!this.dead) this.signals.send(info);
  }

  /**
   * The file that it runs from now on (mm->exe_file), whose reference is taken over: nobody may write to it meanwhile.
   * Undefined: none any more.
   */
  execute(file: FileDescription | undefined): void {
    const former = this.executable;
    const inode = file?.inode;
    if (inode) inode.writers--;
    this.executable = file;
    if (!former) return;
    const formerInode = former.inode;
    if (formerInode) formerInode.writers++;
    former.unreference();
  }

  /** Moves it to another process group (setpgid, setsid). */
  join(group: JobGroup): void {
    if (group === this.group) return;
    const former = this.group;
    group.add(this);
    this.group = group;
    former.remove(this);
  }

  /**
   * All threads shall end with this status, unless that was decided before; tells everybody but `caller`. The status
   * that counts.
   */
  beginExit(status: number, caller: Thread | undefined): number {
    if (this.groupExitStatus !== undefined) return this.groupExitStatus;
    if (this.executing && this.executing !== caller) {
      // Another thread's exec is ending this one: that one lives on (zap_other_threads).
      return status;
    }
    this.groupExitStatus = status;
    for (const thread of [...this.tasks]) if (thread !== caller && !thread.exiting) thread.signals.kill();
    return status;
  }

  cpuTime(): { readonly user: number; readonly system: number } {
    let { user, system } = this.endedUsage;
    for (const thread of this.tasks) {
      const time = thread.cpuTime();
      user += time.user;
      system += time.system;
    }
    return { user, system };
  }

  /** What its threads have used so far, ended ones included (RUSAGE_SELF). */
  usage(): ResourceUsage {
    const sum = { ...this.endedUsage };
    for (const thread of this.tasks) addUsage(sum, threadUsage(thread));
    return sum;
  }
}

export function threadUsage(thread: Thread): ResourceUsage {
  const { user, system } = thread.cpuTime();
  return {
    user,
    system,
    maximumResident: thread.mm.usage().resident,
    minorFaults: 0,
    majorFaults: 0,
    voluntarySwitches: thread.voluntarySwitches,
    involuntarySwitches: thread.involuntarySwitches,
  };
}
