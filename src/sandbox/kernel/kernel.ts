// The kernel object of a sandbox, its tasks' side: who exists, who waits to be retried, what is to be done before the
// loop sleeps again. The loop itself and the dispatch of system calls are boot's and syscalls'.

import type { Host } from '../host/contract.ts';
import type { Context, Platform } from '../platform/contract.ts';
import type { Clock, Credentials, Kernel, KernelLog, Task, Timers } from './contract.ts';
import { MappedUserNamespace } from './credentials/user-namespace.ts';
import type { Futexes } from './futex/futexes.ts';
import { NamespaceUsers } from './namespace/users.ts';
import type { TaskParts } from './task/parts.ts';
import { PidTable } from './task/pid.ts';
import type { Thread } from './task/thread.ts';
import type { ThreadGroup } from './task/thread-group.ts';

export interface KernelOptions {
  readonly host: Host;
  readonly platform: Platform;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly futexes: Futexes;
  readonly log: KernelLog;
  readonly cpus: number;
  readonly memoryTotal: number;
  /** Living tasks at most, of all containers together. */
  readonly taskLimit: number;
  readonly parts: TaskParts;
  /** Handles the event of a stopped context (the dispatcher), for events that had to wait. */
  readonly handle: (context: Context) => void;
}

/** Told of what happens to threads and processes; for parts that keep something for each. */
export interface TaskObserver {
  threadEnds?(thread: Thread): void;
  processEnds?(process: ThreadGroup): void;
  /** The process has become a zombie (or is reaped at once): its wait status is known. */
  processEnded?(process: ThreadGroup, status: number): void;
}

export class SandboxKernel implements Kernel {
  readonly host: Host;
  readonly platform: Platform;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly futexes: Futexes;
  readonly log: KernelLog;
  readonly cpus: number;
  readonly memoryTotal: number;
  readonly taskLimit: number;
  readonly parts: TaskParts;
  readonly rootUserNamespace: MappedUserNamespace = MappedUserNamespace.root();
  readonly rootPidNamespace: PidTable = PidTable.root(this.rootUserNamespace);
  readonly namespaceUsers = new NamespaceUsers();
  readonly observers: TaskObserver[] = [];
  /** Threads and processes made since the sandbox's start (/proc/stat: processes). */
  forks = 0;
  /** Handles the event of a stopped context. */
  readonly handle: (context: Context) => void;
  /** Told of every answer to a system call, when somebody writes them down (strace). */
  answered: ((thread: Thread, result: number) => void) | undefined;
  readonly #parts = new Map<new (kernel: Kernel) => unknown, unknown>();
  #retries: Thread[] = [];
  #later: (() => void)[] = [];
  #devices = 0;
  /** Tasks by user namespace and real user (RLIMIT_NPROC). */
  readonly #processCounts = new Map<number, number>();
  #tasks = 0;

  constructor(options: KernelOptions) {
    this.host = options.host;
    this.platform = options.platform;
    this.clock = options.clock;
    this.timers = options.timers;
    this.futexes = options.futexes;
    this.log = options.log;
    this.cpus = options.cpus;
    this.memoryTotal = options.memoryTotal;
    this.taskLimit = options.taskLimit;
    this.parts = options.parts;
    this.handle = options.handle;
  }

  random(target: Uint8Array): void {
    this.host.random(target);
  }

  anonymousDevice(): number {
    return ++this.#devices;
  }

  part<T>(of: new (kernel: Kernel) => T): T {
    const known = this.#parts.get(of);
    if (known !== undefined) return known as T;
    const made = new of(this);
    this.#parts.set(of, made);
    return made;
  }

  // The loop.

  later(action: () => void): void {
    this.#later.push(action);
  }

  retryLater(thread: Thread): void {
    this.#retries.push(thread);
  }

  /** Whether runRetries has something to do: the loop must not sleep. */
  get busy(): boolean {
    return this.#retries.length > 0 || this.#later.length > 0;
  }

  /**
   * Runs the postponed actions and looks again at the calls whose wait may be over, in order. What they cause is left
   * for the next round, so that two tasks that keep waking each other cannot keep the kernel from events. Gives whether
   * there is more to do.
   */
  runRetries(): boolean {
    if (this.#later.length > 0) {
      const actions = this.#later;
      this.#later = [];
      for (const action of actions) action();
    }
    if (this.#retries.length > 0) {
      const threads = this.#retries;
      this.#retries = [];
      for (const thread of threads) thread.runRetry();
    }
    return this.busy;
  }

  /** Handles an event that was held back (a thawed container). */
  handleAgain(context: Context): void {
    const thread = context.owner as Thread | undefined;
    if (thread && !thread.exiting) this.handle(context);
  }

  // Accounts of tasks.

  /** Living tasks and zombies. */
  get tasks(): number {
    return this.#tasks;
  }

  /** One more (1) or one less (-1) task for the real user of these credentials. */
  countProcess(credentials: Credentials, change: 1 | -1): void {
    this.#tasks += change;
    this.#countUser(credentials.uid, change);
  }

  /** A task's real user has changed. */
  moveProcess(from: Credentials, to: Credentials): void {
    if (from.uid === to.uid) return;
    this.#countUser(from.uid, -1);
    this.#countUser(to.uid, 1);
  }

  #countUser(uid: number, change: number): void {
    const count = (this.#processCounts.get(uid) ?? 0) + change;
    if (count === 0) this.#processCounts.delete(uid);
    else this.#processCounts.set(uid, count);
  }

  /** Tasks of this real user, zombies too. */
  processCount(uid: number): number {
    return this.#processCounts.get(uid) ?? 0;
  }

  threadEnds(thread: Thread): void {
    for (const observer of this.observers) observer.threadEnds?.(thread);
  }
  processEnds(process: ThreadGroup): void {
    for (const observer of this.observers) observer.processEnds?.(process);
  }
  processEnded(process: ThreadGroup, status: number): void {
    for (const observer of this.observers) observer.processEnded?.(process, status);
  }

  /** All tasks of the sandbox, zombies too. */
  allTasks(): IterableIterator<Task> {
    return this.rootPidNamespace.tasks();
  }
}
