// A container of the sandbox: the processes that descend from its first one and from what was executed into it. It is
// frozen and killed as a whole, and whoever manages it learns of its processes' ends.

import { Signal } from '../../abi/signal.ts';
import { type Context, ContextEvent } from '../../platform/contract.ts';
import type { SandboxKernel } from '../kernel.ts';
import type { Thread } from './thread.ts';
import type { ThreadGroup } from './thread-group.ts';

/** SI_KERNEL: whoever sends from outside of the sandbox may reach the first process of a PID namespace as well. */
const fromKernel = 0x80;

/** What the host's cgroup allows a container; told to its programs, not enforced here. */
export interface ContainerLimits {
  /** Bytes; Infinity: no limit. */
  readonly memory: number;
  /** Microseconds of processor time in each period; Infinity: no limit. */
  readonly cpuQuota: number;
  readonly cpuPeriod: number;
  /** In the units of version 1 of cgroups; undefined: as usual there (1024), and 100 as version 2 counts. */
  readonly cpuShares: number | undefined;
}

const noLimits: ContainerLimits = {
  memory: Infinity,
  cpuQuota: Infinity,
  cpuPeriod: 100_000,
  cpuShares: undefined,
};

export class Container {
  readonly name: string;
  readonly kernel: SandboxKernel;
  readonly processes = new Set<ThreadGroup>();
  /** Tasks at most; Infinity: as many as the sandbox allows (pids.max). */
  taskLimit: number;
  readonly limits: ContainerLimits;
  #tasks = 0;
  /** Processor time of processes that are gone, in nanoseconds. */
  #past = { user: 0, system: 0 };
  #frozen = false;
  /** Contexts that stopped while it was frozen: their events wait. */
  #held: Context[] = [];

  constructor(kernel: SandboxKernel, name: string, taskLimit = Infinity, limits = noLimits) {
    this.kernel = kernel;
    this.name = name;
    this.taskLimit = taskLimit;
    this.limits = limits;
  }

  /** Processor time of all processes that it has and had, in nanoseconds. */
  cpuTime(): { readonly user: number; readonly system: number } {
    let { user, system } = this.#past;
    for (const process of this.processes) {
      const time = process.cpuTime();
      user += time.user;
      system += time.system;
    }
    return { user, system };
  }

  /** The process has been waited for: its times stay. */
  forget(process: ThreadGroup): void {
    if (!this.processes.delete(process)) return;
    const { user, system } = process.cpuTime();
    this.#past = { user: this.#past.user + user, system: this.#past.system + system };
  }

  /** Living tasks and zombies that nobody has waited for (pids.current). */
  get tasks(): number {
    return this.#tasks;
  }

  taskBorn(): void {
    this.#tasks++;
  }

  taskEnded(): void {
    this.#tasks--;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** No program of it runs on, and no blocked call is answered, until `thaw`. */
  freeze(): void {
    if (this.#frozen) return;
    this.#frozen = true;
    for (const thread of this.threads())
      if (thread.context.event === ContextEvent.none) thread.context.interrupt();
  }

  thaw(): void {
    if (!this.#frozen) return;
    this.#frozen = false;
    const held = this.#held;
    this.#held = [];
    for (const context of held) this.kernel.later(() => this.kernel.handleAgain(context));
    for (const thread of this.threads()) thread.scheduleRetry();
  }

  /** For the kernel's loop: whether the event of this thread's context must wait until the container is thawed. */
  holds(thread: Thread, context: Context): boolean {
    if (!this.#frozen || context.event === ContextEvent.died || thread.signals.killed) return false;
    this.#held.push(context);
    return true;
  }

  /** A held context's thread is to die: its event is handled now. */
  release(thread: Thread): void {
    const index = this.#held.indexOf(thread.context);
    if (index < 0) return;
    const [context] = this.#held.splice(index, 1);
    if (context) this.kernel.later(() => this.kernel.handleAgain(context));
  }

  /** Sends a signal to every process in it; SIGKILL reaches a frozen container too, as with cgroup.kill. */
  signal(signal: number): void {
    for (const process of [...this.processes]) process.sendSignal({ signal, code: fromKernel });
  }

  kill(): void {
    this.signal(Signal.SIGKILL);
  }

  *threads(): IterableIterator<Thread> {
    for (const process of [...this.processes]) yield* [...process.tasks];
  }
}
