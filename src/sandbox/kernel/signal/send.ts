// Sending a signal: what it does at once (stop and continue cancel each other), whether it is dropped, where it is
// queued, which thread shall take it, and waking that thread. Follows kernel/signal.c (prepare_signal,
// __send_signal_locked, complete_signal).

import { Errno } from '../../abi/errno.ts';
import { defaultAction, RLIMIT_SIGPENDING, SIG_DFL, Signal, SignalCode } from '../../abi/signal.ts';
import type { SignalInfo } from '../contract.ts';
import { Poll } from '../wait-queue.ts';
import { type SignalAccount, SignalAccounts } from './pending.ts';
import type { ProcessSignalState } from './process-signals.ts';
import { contains, signalSet } from './signal-set.ts';
import type { TaskSignalState } from './task-signals.ts';

const stopSignals = signalSet(Signal.SIGSTOP, Signal.SIGTSTP, Signal.SIGTTIN, Signal.SIGTTOU);
const continueSignal = signalSet(Signal.SIGCONT);

/**
 * Queues a signal for a thread (group false) or for its process. 0, also when it was dropped because it is ignored or
 * waits already, or -EAGAIN when RLIMIT_SIGPENDING leaves no room for a real-time signal that carries something.
 */
export function queueSignal(to: TaskSignalState, info: SignalInfo, group: boolean): number {
  const { signal } = info;
  const { process } = to;
  const force = forced(info, process);
  if (!prepare(to, signal, force)) {
    info.dequeued?.();
    return 0;
  }
  const pending = group ? process.shared : to.queue;
  // A POSIX timer has an entry of its own in the queue, whatever else waits.
  if (info.timer === undefined) {
    if (signal < Signal.SIGRTMIN && pending.has(signal)) return 0;
    if (signal === Signal.SIGKILL) {
      pending.addLost(signal);
    } else {
      const account = chargeable(to, info);
      if (account !== undefined) pending.add(info, account);
      else if (signal >= Signal.SIGRTMIN && info.code !== SignalCode.SI_USER) return -Errno.EAGAIN;
      else pending.addLost(signal);
    }
  } else {
    pending.add(info, undefined);
  }
  process.handlers.queue.notify(Poll.in);
  complete(to, signal, group);
  return 0;
}

/** It comes from the kernel or from where the receiver's PID namespace cannot see: number 1 is not protected. */
function forced(info: SignalInfo, process: ProcessSignalState): boolean {
  if (info.code > SignalCode.SI_USER) return info.code === SignalCode.SI_KERNEL;
  return !info.sender || info.sender.pidIn(process.process.pidNamespace) === 0;
}

/** Where the entry is charged; undefined: no room. Standard signals of the kernel and of kill(2) always find room. */
function chargeable(to: TaskSignalState, info: SignalInfo): SignalAccount | undefined {
  const { task } = to;
  const account = task.kernel.part(SignalAccounts).of(task.credentials.uid);
  if (info.signal < Signal.SIGRTMIN && info.code >= SignalCode.SI_USER) return account;
  return account.queued < task.process.limit(RLIMIT_SIGPENDING).soft ? account : undefined;
}

/** The immediate effects of stop and continue signals; false: the signal is dropped. */
function prepare(to: TaskSignalState, signal: number, force: boolean): boolean {
  const { process } = to;
  if (process.ending) return false;
  if (defaultAction(signal) === 'stop') {
    process.shared.discard(continueSignal);
    for (const thread of process.threads) thread.queue.discard(continueSignal);
  } else if (signal === Signal.SIGCONT) {
    goOn(process);
  }
  return !ignored(to, signal, force);
}

/** SIGCONT lets a stopped process go on when it is sent, whether or not it is blocked, ignored or handled. */
function goOn(process: ProcessSignalState): void {
  process.shared.discard(stopSignals);
  for (const thread of [...process.threads]) {
    thread.queue.discard(stopSignals);
    thread.clearStopPending();
    if (thread.task.trace.seized) thread.notifyTrap();
    else if (thread.held === 'stop') thread.letGo();
  }
  if (process.stopped) {
    process.stopped = false;
    process.continued = true;
    process.stopCount = 0;
    process.stopSignal = 0;
    process.notifyParent(SignalCode.CLD_CONTINUED);
  } else if (process.stopCount > 0) {
    // The stop was under way: the parent is told of it now, and finds the process going on.
    process.continued = true;
    process.stopCount = 0;
    process.stopSignal = 0;
    process.notifyParent(SignalCode.CLD_STOPPED);
  }
}

function ignored(to: TaskSignalState, signal: number, force: boolean): boolean {
  // A blocked signal may get a handler before it is unblocked.
  if (contains(to.mask, signal) || (to.realMask && contains(to.realMask, signal))) return false;
  // A tracer sees all signals.
  if (to.task.trace.tracer && signal !== Signal.SIGKILL) return false;
  return ignoredByTask(to, signal, force);
}

function ignoredByTask(to: TaskSignalState, signal: number, force: boolean): boolean {
  const { process } = to;
  const { handlers } = process;
  const kernelOnly = signal === Signal.SIGKILL || signal === Signal.SIGSTOP;
  if (handlers.get(signal).handler === SIG_DFL && !(force && kernelOnly) && process.protected) return true;
  return handlers.ignores(signal);
}

/** Chooses the thread that shall take the signal and wakes it; a deadly signal ends the whole process here already. */
function complete(to: TaskSignalState, signal: number, group: boolean): void {
  const { process } = to;
  const chosen = choose(to, signal, group);
  if (!chosen) return;
  if (deadly(chosen, signal)) {
    if (!process.ending) process.doom = signal;
    for (const thread of [...process.threads]) thread.kill();
    return;
  }
  chosen.wake(signal === Signal.SIGKILL);
}

function choose(to: TaskSignalState, signal: number, group: boolean): TaskSignalState | undefined {
  if (to.wants(signal)) return to;
  const { process } = to;
  const { threads } = process;
  if (!group || threads.length <= 1) return undefined;
  for (let i = 0; i < threads.length; i++) {
    const index = (process.nextTarget + i) % threads.length;
    const thread = threads[index];
    if (thread?.wants(signal)) {
      process.nextTarget = index;
      return thread;
    }
  }
  return undefined;
}

/** The process will certainly die of it: no handler, no core dump to make, no tracer that could stop it. */
function deadly(thread: TaskSignalState, signal: number): boolean {
  const { process } = thread;
  if (process.ending) return false;
  if (signal === Signal.SIGKILL) return true;
  if (thread.task.trace.tracer) return false;
  if (thread.realMask && contains(thread.realMask, signal)) return false;
  return process.handlers.get(signal).handler === SIG_DFL && defaultAction(signal) === 'terminate';
}
