// The signals of a thread group (the signal part of struct signal_struct): the queue of what is directed at the process
// as a whole, its dispositions, and the state of job control, in which all its threads take part.

import { SIG_IGN, Signal, SignalCode, SignalFlag } from '../../abi/signal.ts';
import type { Process, SignalInfo, Task } from '../contract.ts';
import { Poll } from '../wait-queue.ts';
import type { ProcessSignals } from './contract.ts';
import type { Handlers } from './handlers.ts';
import { PendingSignals, SignalAccounts } from './pending.ts';
import { queueSignal } from './send.ts';
import { fullSet, type SignalSet } from './signal-set.ts';
import type { TaskSignalState } from './task-signals.ts';

export class ProcessSignalState implements ProcessSignals {
  readonly process: Process;
  handlers: Handlers;
  readonly shared = new PendingSignals();
  /** Living threads, in the order of their birth. */
  readonly threads: TaskSignalState[] = [];
  /** Where the search for a thread that takes a signal goes on (curr_target). */
  nextTarget = 0;

  /** SIGNAL_STOP_STOPPED: every thread has stopped. */
  stopped = false;
  /** SIGNAL_STOP_CONTINUED: WCONTINUED has something to report. */
  continued = false;
  /** The signal that stops the group, until it was waited for (group_exit_code of a stop). */
  stopSignal = 0;
  /** Threads that have yet to stop (group_stop_count). */
  stopCount = 0;
  /** A deadly signal was sent: all threads are on their way out with this wait status. */
  doom: number | undefined;
  /** A number 1 of its PID namespace that got a fault it cannot survive is protected no more. */
  #protectionLost = false;

  constructor(process: Process, handlers: Handlers) {
    this.process = process;
    this.handlers = handlers;
  }

  get pending(): SignalSet {
    return this.shared.set;
  }

  get queued(): number {
    const { kernel, credentials } = this.process.leader;
    return kernel.part(SignalAccounts).of(credentials.uid).queued;
  }

  get autoReap(): boolean {
    const { handler, flags } = this.handlers.get(Signal.SIGCHLD);
    return handler === SIG_IGN || (flags & SignalFlag.SA_NOCLDWAIT) !== 0;
  }

  get ignoresChild(): boolean {
    return this.handlers.get(Signal.SIGCHLD).handler === SIG_IGN;
  }

  get noChildStop(): boolean {
    return (this.handlers.get(Signal.SIGCHLD).flags & SignalFlag.SA_NOCLDSTOP) !== 0;
  }

  /** SIGNAL_UNKILLABLE: signals from inside its PID namespace that it does not handle do nothing to number 1. */
  get protected(): boolean {
    return !this.#protectionLost && this.process.pidIn(this.process.pidNamespace) === 1;
  }

  loseProtection(): void {
    this.#protectionLost = true;
  }

  /** All threads end, or one of them executes a new program. */
  get ending(): boolean {
    return this.process.groupExitStatus !== undefined || this.doom !== undefined;
  }

  send(info: SignalInfo): void {
    this.queue(info);
  }

  /** As send; 0, or -EAGAIN when a real-time signal finds no room. */
  queue(info: SignalInfo): number {
    const target = this.threads[0];
    return target ? queueSignal(target, info, true) : 0;
  }

  takeStopped(consume: boolean): number | undefined {
    if (!this.stopped || this.stopSignal === 0) return undefined;
    const signal = this.stopSignal;
    if (consume) this.stopSignal = 0;
    return signal;
  }

  takeContinued(consume: boolean): boolean {
    if (!this.continued) return false;
    if (consume) this.continued = false;
    return true;
  }

  /**
   * Tells the real parent that the whole process stopped or goes on (do_notify_parent_cldstop). code: CLD_STOPPED or
   * CLD_CONTINUED.
   */
  notifyParent(code: number): void {
    const { process } = this;
    if (process.parent) tellOfStop(process.parent, process, code, this.#stopStatus(code));
  }

  #stopStatus(code: number): number {
    return code === SignalCode.CLD_CONTINUED ? Signal.SIGCONT : this.stopSignal;
  }

  fork(child: Process, shareHandlers: boolean, clearHandlers: boolean): ProcessSignalState {
    const { handlers } = this;
    if (shareHandlers) return new ProcessSignalState(child, handlers);
    return new ProcessSignalState(child, clearHandlers ? handlers.withoutHandlers() : handlers.copy());
  }

  exec(): void {
    this.handlers = this.handlers.withoutHandlers();
  }

  release(): void {
    this.shared.discard(fullSet);
  }
}

/** SIGCHLD about a stop (of one thread, for tracers) for a parent or tracer, if it wants it, and its waits are waked in any case. */
export function tellOfStop(
  parent: Process,
  child: Process,
  code: number,
  status: number,
  thread: Task = child.leader,
): void {
  const { signals } = parent;
  if (!signals.ignoresChild && !signals.noChildStop) {
    const { user, system } = thread.cpuTime();
    signals.send({
      signal: Signal.SIGCHLD,
      code,
      child,
      thread,
      uid: thread.credentials.uid,
      status,
      utime: Math.floor(user / 1e7),
      stime: Math.floor(system / 1e7),
    });
  }
  parent.childEvents.notify(Poll.in);
}
