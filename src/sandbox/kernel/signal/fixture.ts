// For unit tests of signals, ptrace and seccomp: real threads and processes on the fake platform, whose programs do what
// the test says. Memory, files and namespaces are the least that threads need.

import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import type { MemoryManager } from '../../mm/contract.ts';
import type { NetworkNamespace } from '../../net/contract.ts';
import { ContextEvent, Reg } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { FakeHost } from '../../testing/fake-host.ts';
import { type FakeContext, FakePlatform, type fakeArguments } from '../../testing/fake-platform.ts';
import type { FdTable, FsContext, MountNamespace } from '../../vfs/contract.ts';
import { BLOCKED } from '../contract.ts';
import { TaskCredentials } from '../credentials/credentials.ts';
import { Futexes } from '../futex/futexes.ts';
import type { IpcNamespace } from '../ipc/ipc-namespace.ts';
import { SandboxKernel } from '../kernel.ts';
import { CgroupNamespace } from '../namespace/cgroup.ts';
import { NamedUtsNamespace } from '../namespace/uts.ts';
import { createTrace } from '../ptrace/task-trace.ts';
import { Scheduling } from '../sched/scheduling.ts';
import { noSeccomp } from '../seccomp/seccomp.ts';
import { cloneTask } from '../task/clone.ts';
import { Container } from '../task/container.ts';
import { JobGroup, LoginSession } from '../task/jobs.ts';
import { defaultLimits } from '../task/limits.ts';
import { Thread } from '../task/thread.ts';
import { ThreadGroup } from '../task/thread-group.ts';
import { KernelClock } from '../time/kernel-clock.ts';
import { TimerQueue } from '../time/timer-queue.ts';
import { Work } from './contract.ts';
import { completeFault, completeInterrupt, completeSyscall, enterSyscall, startProgram } from './return.ts';
import { signals } from './signals.ts';

/** Memory that every program has: two pages of data and a stack. */
export const dataAddress = 0x10_0000;
export const stackAddress = 0x20_0000;
export const stackTop = 0x20_8000;
/** Where programs are when nothing else is said. */
export const codeAddress = 0x40_1000;

/** The numbers of clone flags that tests use. */
export const Clone = { vm: 0x100, sighand: 0x800, thread: 0x1_0000, ptrace: 0x2000, vfork: 0x4000 } as const;

export class Sandbox {
  readonly host = new FakeHost();
  readonly platform = new FakePlatform(this.host);
  readonly timers = new TimerQueue();
  readonly kernel: SandboxKernel;
  readonly #calls = new Map<number, Syscall>();
  readonly #container: Container;

  constructor(...areas: readonly (readonly Syscall[])[]) {
    for (const call of areas.flat()) this.#calls.set(SyscallNumber[call.name], call);
    const clock = new KernelClock(this.host);
    this.kernel = new SandboxKernel({
      host: this.host,
      platform: this.platform,
      clock,
      timers: this.timers,
      futexes: new Futexes(),
      log: { unsupported: () => undefined, warn: () => undefined, debug: () => undefined },
      cpus: 1,
      memoryTotal: 2 ** 30,
      taskLimit: 100,
      handle: (context) => this.#handle(context as FakeContext),
      parts: {
        signals,
        unconfined: noSeccomp,
        trace: createTrace,
        ipc: () => shared<IpcNamespace>(),
        network: () => -22,
        copyMounts: () => -22,
        completeSyscall,
        startProgram,
      },
    });
    this.#container = new Container(this.kernel, 'test');
  }

  /** A process of its own session: number 1 for the first. It waits in its first system call. */
  process(): Thread {
    const { kernel } = this;
    const context = this.platform.createAddressSpace();
    const { memory } = context;
    memory.allocate(dataAddress, 8192);
    memory.allocate(stackAddress, stackTop - stackAddress);
    const id = kernel.rootPidNamespace.allocate();
    if (typeof id === 'number') throw new Error(`no number for a process: ${id}`);
    const credentials = TaskCredentials.root(kernel.rootUserNamespace);
    const session = new LoginSession(id, undefined as unknown as ThreadGroup);
    const process = new ThreadGroup({
      kernel,
      id,
      container: this.#container,
      group: new JobGroup(id, session),
      limits: defaultLimits(100),
      exitSignal: 17,
      executable: undefined,
      signals: (made) => signals.createProcess(made),
    });
    session.leader = process;
    const thread = new Thread(
      {
        kernel,
        process,
        id,
        context,
        name: 'program',
        credentials,
        mm: fakeMemoryManager(),
        files: shared<FdTable>(),
        fs: shared<FsContext>(),
        uts: new NamedUtsNamespace('host', '', kernel.rootUserNamespace),
        ipc: shared<IpcNamespace>(),
        mounts: shared<MountNamespace>(),
        network: shared<NetworkNamespace>(),
        cgroup: new CgroupNamespace(kernel.rootUserNamespace),
        pidNamespaceForChildren: kernel.rootPidNamespace,
        scheduling: new Scheduling(),
        seccomp: noSeccomp,
      },
      (made) => signals.createTask(made, process.signals),
    );
    thread.enter();
    process.leader = thread;
    this.start(thread);
    return thread;
  }

  /** Lets a new thread run with the registers of a program somewhere in its code. */
  start(thread: Thread): void {
    const registers = thread.context.registers();
    registers[Reg.rsp] = BigInt(stackTop - 256);
    registers[Reg.rip] = BigInt(codeAddress);
    registers[Reg.cs] = 0x33n;
    registers[Reg.ss] = 0x2bn;
    registers[Reg.eflags] = 0x202n;
    registers[Reg.origRax] = 0xffff_ffff_ffff_ffffn;
    startProgram(thread);
  }

  /** A child or, with the flags of threads, a thread; it runs. */
  clone(parent: Thread, flags = 0, exitSignal = 17): Thread {
    const before = new Set(this.kernel.allTasks());
    this.context(parent).event = ContextEvent.syscall;
    this.context(parent).number = SyscallNumber.clone;
    this.context(parent).registers()[Reg.origRax] = BigInt(SyscallNumber.clone);
    const result = cloneTask(parent, {
      flags,
      highFlags: 0,
      exitSignal,
      stack: 0,
      tls: 0,
      parentTid: 0,
      childTid: 0,
      pidfd: 0,
      setTid: [],
      cgroup: 0,
    });
    if (result < 0 && result !== BLOCKED) throw new Error(`clone: ${result}`);
    if (result !== BLOCKED) parent.complete(result);
    for (const task of this.kernel.allTasks()) if (!before.has(task)) return this.#born(task as Thread);
    throw new Error('no task was born');
  }

  #born(child: Thread): Thread {
    child.context.registers()[Reg.origRax] = 0xffff_ffff_ffff_ffffn;
    this.settle();
    return child;
  }

  /** The fake behind a thread's context. */
  context(thread: Thread): FakeContext {
    return thread.context as FakeContext;
  }

  /** The program makes a system call; undefined while it blocks or is held, else the result in rax. */
  call(thread: Thread, name: Syscall['name'], ...args: readonly (number | bigint)[]): number | undefined {
    const context = this.context(thread);
    if (context.event !== ContextEvent.none) throw new Error(`${thread.tid} does not run`);
    context.syscall(SyscallNumber[name], ...args);
    const before = context.results.length;
    this.#handle(context);
    return context.results.length > before ? this.rax(thread) : undefined;
  }

  /** The program gets an exception. */
  fault(thread: Thread, signal: number, code: number, address: number, trap = 14, error = 6): void {
    const context = this.context(thread);
    context.registers()[Reg.origRax] = 0xffff_ffff_ffff_ffffn;
    context.raise({ signal, code, address, trap, error });
    this.#handle(context);
  }

  rax(thread: Thread): number {
    return Number(BigInt.asIntN(64, thread.context.registers()[Reg.rax] ?? 0n));
  }

  register(thread: Thread, index: number): number {
    return Number(thread.context.registers()[index] ?? 0n);
  }

  /** Whether its context executes the program. */
  runs(thread: Thread): boolean {
    return thread.context.event === ContextEvent.none && !this.context(thread).exited && !thread.dead;
  }

  /** The loop, until nothing is left to do. */
  settle(): void {
    for (let rounds = 0; rounds < 1000; rounds++) {
      if (this.kernel.busy) this.kernel.runRetries();
      this.timers.run(this.host.now);
      const context = this.platform.stopped.shift();
      if (context) this.#handle(context);
      else if (!this.kernel.busy) return;
    }
    throw new Error('the kernel does not come to rest');
  }

  advance(nanoseconds: number): void {
    this.host.advance(nanoseconds);
    this.settle();
  }

  #handle(context: FakeContext): void {
    const thread = context.owner as Thread;
    if (context.exited) return;
    switch (context.event) {
      case ContextEvent.syscall:
        if (thread.signals.work & Work.entry)
          enterSyscall(thread, (task, number, args) => this.#run(task as Thread, number, args));
        else this.#run(thread, context.number, context.args);
        return;
      case ContextEvent.fault:
        completeFault(thread);
        return;
      case ContextEvent.interrupt:
        context.registers()[Reg.origRax] = 0xffff_ffff_ffff_ffffn;
        completeInterrupt(thread);
        return;
      case ContextEvent.started:
        thread.start();
        return;
      default:
    }
  }

  #run(thread: Thread, number: number, args: ReturnType<typeof fakeArguments>): void {
    const call = this.#calls.get(number);
    const result = call ? call.handler(thread, args) : -38;
    if (result !== BLOCKED) thread.complete(result);
  }
}

/** Something that is only counted, and that nobody in these tests looks into. */
function shared<T>(): T {
  const value = {
    acquire: () => value,
    fork: () => value,
    release: () => undefined,
    get: () => undefined,
    users: 1,
  };
  return value as unknown as T;
}

function fakeMemoryManager(): MemoryManager {
  const make = (): MemoryManager => {
    const manager = {
      users: 1,
      dumpable: 1,
      memoryOf: (context: FakeContext) => context.memory,
      resolveFault: () => false,
      acquire: () => {
        manager.users++;
        return manager;
      },
      fork: make,
      release: () => {
        manager.users--;
      },
      usage: () => ({ total: 0, locked: 0, data: 0, stack: 0, executable: 0, resident: 0, peakTotal: 0 }),
    };
    return manager as unknown as MemoryManager;
  };
  return make();
}
