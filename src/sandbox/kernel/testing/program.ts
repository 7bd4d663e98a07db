// A program of several threads for unit tests of system calls: each thread makes calls, blocks, is waked, times out or is
// interrupted, on a clock that the test moves. Threads share memory and descriptors as threads do.

import type { SyscallHandler } from '../../syscalls/contract.ts';
import { FakeHost } from '../../testing/fake-host.ts';
import { FakeMemory } from '../../testing/fake-memory.ts';
import { FakePlatform, fakeArguments } from '../../testing/fake-platform.ts';
import { DescriptorTable } from '../../vfs/fd-table.ts';
import type { FileDescription } from '../../vfs/file-description.ts';
import {
  BLOCKED,
  type Blocking,
  type Credentials,
  type Kernel,
  type SignalInfo,
  type Task,
} from '../contract.ts';
import { Futexes } from '../futex/futexes.ts';
import { IpcNamespace } from '../ipc/ipc-namespace.ts';
import type { SemaphoreUndo } from '../ipc/semaphore-undo.ts';
import { Scheduling } from '../sched/scheduling.ts';
import { contains, type SignalSet } from '../signal/signal-set.ts';
import { KernelClock } from '../time/kernel-clock.ts';
import { ProcessTimers } from '../time/process-timers.ts';
import { TimerQueue } from '../time/timer-queue.ts';
import { WaitQueue } from '../wait-queue.ts';

/** What a thread's call is doing. */
export const waiting = 'waiting';

export class TestKernel {
  readonly host = new FakeHost();
  readonly platform = new FakePlatform(this.host);
  readonly timers = new TimerQueue();
  readonly clock = new KernelClock(this.host, 0);
  readonly futexes = new Futexes();
  readonly cpus = 2;
  readonly memoryTotal = 1024 ** 3;
  readonly log = { unsupported: () => {}, warn: () => {}, debug: () => {} };
  readonly rootUserNamespace: unknown = {
    toKernelUid: (id: number) => id,
    fromKernelUid: (id: number) => id,
    toKernelGid: (id: number) => id,
    fromKernelGid: (id: number) => id,
  };
  readonly retries = new Set<TestThread>();
  readonly threads = new Map<number, TestThread>();
  readonly #parts = new Map<unknown, unknown>();
  #later: (() => void)[] = [];
  #devices = 0;

  get kernel(): Kernel {
    return this as unknown as Kernel;
  }
  part<T>(of: new (kernel: Kernel) => T): T {
    const made = (this.#parts.get(of) as T | undefined) ?? new of(this.kernel);
    this.#parts.set(of, made);
    return made;
  }
  anonymousDevice(): number {
    return ++this.#devices;
  }
  random(target: Uint8Array): void {
    this.host.random(target);
  }
  later(action: () => void): void {
    this.#later.push(action);
  }

  /** Runs what is due, as the kernel's loop does, until nothing is left to do at this moment. */
  settle(): void {
    for (;;) {
      const expired = this.timers.run(this.host.now);
      const later = this.#later;
      this.#later = [];
      for (const action of later) action();
      const retries = [...this.retries];
      this.retries.clear();
      for (const thread of retries) thread.retry();
      if (expired === 0 && later.length === 0 && retries.length === 0) return;
    }
  }

  /** Moves the clocks on, stopping at each timer on the way. */
  advance(nanoseconds: number): void {
    const end = this.host.now + nanoseconds;
    for (;;) {
      this.settle();
      const next = Math.min(end, Math.max(this.host.now, this.timers.next));
      if (next > this.host.now) this.host.advance(next - this.host.now);
      else if (this.host.now >= end) return;
      this.settle();
    }
  }
}

export class TestProcess {
  readonly kernel: TestKernel;
  readonly pid: number;
  readonly memory: FakeMemory;
  readonly files = new DescriptorTable();
  readonly tasks: TestThread[] = [];
  readonly limits = new Map<number, number>();
  readonly timers: ProcessTimers;
  readonly handlers = { queue: new WaitQueue() };
  readonly signals = { handlers: this.handlers };
  readonly pidNamespace: unknown;
  /** Shared memory of the test: addresses at and beyond this are the same object for all processes. */
  readonly mm = {
    futexKey: (address: number) =>
      address >= sharedMemory ? { owner: this.kernel, offset: address } : { owner: this.mm, offset: address },
    dumpable: 1,
  };
  /** Signals that were sent to it and not been taken. */
  readonly pending: SignalInfo[] = [];
  user = 0;
  system = 0;

  constructor(kernel: TestKernel, pid = 1000, memory?: FakeMemory) {
    this.kernel = kernel;
    this.pid = pid;
    this.memory = memory ?? new FakeMemory(kernel.host);
    this.timers = new ProcessTimers(kernel.kernel, this as never);
    this.pidNamespace = {
      findTask: (tid: number) => kernel.threads.get(tid),
      findProcess: (number: number) =>
        [...kernel.threads.values()].find((t) => t.process.pid === number)?.process,
    };
  }

  limit(resource: number): { soft: number; hard: number } {
    const value = this.limits.get(resource) ?? (resource === 7 ? 1024 : Number.POSITIVE_INFINITY);
    return { soft: value, hard: value };
  }
  pidIn(): number {
    return this.pid;
  }
  cpuTime(): { user: number; system: number } {
    return { user: this.user, system: this.system };
  }
  sendSignal(info: SignalInfo): void {
    this.pending.push(info);
    this.handlers.queue.notify(1);
    for (const thread of this.tasks) this.kernel.retries.add(thread);
  }
  get leader(): TestThread | undefined {
    return this.tasks[0];
  }
  thread(): TestThread {
    return new TestThread(this);
  }
}

/** From this address on, memory of all TestProcesses that share a FakeMemory is one. */
export const sharedMemory = 0x4000_0000;

export class TestThread {
  readonly kernel: TestKernel;
  readonly process: TestProcess;
  readonly tid: number;
  readonly memory: FakeMemory;
  readonly files: DescriptorTable;
  readonly mm: unknown;
  readonly scheduling = new Scheduling();
  readonly credentials: Credentials;
  ipc: IpcNamespace;
  semaphoreUndo: SemaphoreUndo | undefined;
  restart: (() => number) | undefined;
  robustList = 0;
  /** Signals that it blocks; others that are pending interrupt its calls. */
  masked: SignalSet = { low: 0, high: 0 };
  /** What setTemporaryMask was last called with. */
  temporaryMask: readonly [number, number] | undefined;
  /** The last call's result, or `waiting`. */
  result: number | typeof waiting = 0;
  #blocking: Blocking | undefined;
  #timer: { cancel(): void } | undefined;
  #due = false;
  readonly signals: {
    readonly pending: boolean;
    available(set: SignalSet): boolean;
    dequeue(set: SignalSet): SignalInfo | undefined;
    setTemporaryMask(address: number, size: number): number;
  };

  constructor(process: TestProcess, uid = 0) {
    this.kernel = process.kernel;
    this.process = process;
    this.tid = process.pid + process.tasks.length;
    process.tasks.push(this);
    this.kernel.threads.set(this.tid, this);
    this.memory = process.memory;
    this.files = process.files;
    this.mm = process.mm;
    const all = uid === 0;
    this.credentials = {
      uid,
      euid: uid,
      suid: uid,
      fsuid: uid,
      gid: uid,
      egid: uid,
      sgid: uid,
      fsgid: uid,
      groups: [],
      userNamespace: this.kernel.rootUserNamespace,
      has: () => all,
      hasIn: () => all,
      inGroup: (gid: number) => gid === uid,
    } as unknown as Credentials;
    this.ipc = this.kernel.part(RootIpc).namespace;
    const pending = (set: SignalSet): SignalInfo | undefined =>
      process.pending.find((info) => contains(set, info.signal));
    const unmasked = (): boolean => process.pending.some((info) => !contains(this.masked, info.signal));
    this.signals = {
      get pending() {
        return unmasked();
      },
      available: (set) => pending(set) !== undefined,
      dequeue: (set) => {
        const info = pending(set);
        if (!info) return undefined;
        process.pending.splice(process.pending.indexOf(info), 1);
        const overrun = info.dequeued?.();
        return overrun === undefined ? info : { ...info, overrun };
      },
      setTemporaryMask: (address, size) => {
        this.temporaryMask = [address, size];
        return 0;
      },
    };
  }

  get task(): Task {
    return this as unknown as Task;
  }
  get visibleTid(): number {
    return this.tid;
  }
  get context(): unknown {
    return undefined;
  }
  cpuTime(): { user: number; system: number } {
    return { user: this.process.user, system: this.process.system };
  }
  sendSignal(info: SignalInfo): void {
    this.process.sendSignal(info);
  }

  /** Makes a call; its result, or `waiting`, which a later settle() may turn into a result. */
  call(handler: SyscallHandler, ...values: readonly (number | bigint)[]): number | typeof waiting {
    this.result = this.#answer(handler(this.task, fakeArguments(...values)));
    return this.result;
  }

  #answer(result: number): number | typeof waiting {
    return result === BLOCKED ? waiting : result;
  }

  block(blocking: Blocking): typeof BLOCKED {
    if (this.#blocking) this.#unblock();
    this.#blocking = blocking;
    for (const { queue, events, exclusive } of blocking.on) queue.add(this, events, exclusive);
    if (blocking.deadline !== undefined && blocking.deadline < Infinity)
      this.#timer = this.kernel.timers.at(blocking.deadline, () => {
        this.#due = true;
        this.kernel.retries.add(this);
      });
    if (this.signals.pending) this.kernel.retries.add(this);
    return BLOCKED;
  }

  notify(): void {
    this.kernel.retries.add(this);
  }
  wake(): void {
    if (this.#blocking) this.kernel.retries.add(this);
  }

  retry(): void {
    const blocking = this.#blocking;
    if (!blocking) return;
    const due = this.#due;
    this.#due = false;
    let result = blocking.retry();
    if (result === BLOCKED) {
      if (this.#blocking !== blocking) return;
      if (this.signals.pending && !blocking.killableOnly) result = blocking.interrupted?.() ?? -512;
      else if (due) result = blocking.timedOut?.() ?? -110;
      else return;
    }
    if (result === BLOCKED) return;
    if (this.#blocking === blocking) this.#unblock();
    this.result = result;
  }

  #unblock(): void {
    const blocking = this.#blocking;
    this.#blocking = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const { queue } of blocking?.on ?? []) queue.remove(this);
    blocking?.ended?.();
  }

  /** restart_syscall after a signal that had no handler. */
  continueCall(): number | typeof waiting {
    const restart = this.restart;
    this.restart = undefined;
    if (!restart) throw new Error('there is no call to go on with');
    this.result = this.#answer(restart());
    return this.result;
  }

  /** Ends what it waits for, without an answer. */
  abandon(): void {
    if (this.#blocking) this.#unblock();
    this.result = 0;
  }

  /** As the end of the thread does. */
  exit(): void {
    this.abandon();
    this.process.tasks.splice(this.process.tasks.indexOf(this), 1);
    this.kernel.threads.delete(this.tid);
  }

  /** A descriptor for a file. */
  open(file: FileDescription): number {
    return this.files.install(this.task, file, false);
  }
}

class RootIpc {
  readonly namespace: IpcNamespace;
  constructor(kernel: Kernel) {
    this.namespace = new IpcNamespace(kernel, kernel.rootUserNamespace);
  }
}
