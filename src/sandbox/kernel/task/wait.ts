// Waiting for children and tracees (kernel/exit.c: do_wait): which state changes a caller may learn of, and what reaping
// one does. Decoding and writing to the program's memory is in calls/wait.ts.

import { Errno } from '../../abi/errno.ts';
import type { ResourceUsage } from '../../abi/resource.ts';
import { Signal } from '../../abi/signal.ts';
import { ChildCode, continuedStatus, WaitOption } from '../../abi/wait.ts';
import { childEnd, forgetProcess, forgetThread, tracerIsDone } from './exit.ts';
import type { Pid } from './pid.ts';
import type { Thread } from './thread.ts';
import { addUsage, type ThreadGroup } from './thread-group.ts';

/** Whom to wait for. */
export type Wanted =
  | { readonly kind: 'any' }
  | { readonly kind: 'task'; readonly id: Pid | undefined }
  | { readonly kind: 'group'; readonly id: Pid | undefined };

/** A state change: number and user id as the waiter sees them. */
export interface ChildEvent {
  readonly pid: number;
  readonly uid: number;
  /** As wait4 gives it. */
  readonly status: number;
  /** si_code and si_status. */
  readonly code: number;
  readonly signalStatus: number;
  readonly usage: Readonly<ResourceUsage>;
}

interface Search {
  readonly waiter: Thread;
  readonly wanted: Wanted;
  readonly options: number;
  /** A child is there that may still give what is waited for. */
  hope: boolean;
}

/** Looks once: an event, 0 if there is none yet, or -ECHILD if none can come. Without WNOWAIT the event is used up. */
export function takeChildEvent(waiter: Thread, wanted: Wanted, options: number): ChildEvent | number {
  const search: Search = { waiter, wanted, options, hope: false };
  if (wanted.kind !== 'any' && wanted.id === undefined) return -Errno.ECHILD;
  const { process } = waiter;
  const ownOnly = (options & WaitOption.noThread) !== 0;
  for (const child of process.children) {
    if (ownOnly && child.parentThread !== waiter) continue;
    const found = consider(search, child.leader, false);
    if (found) return found;
  }
  for (const thread of ownOnly ? [waiter] : process.tasks) {
    for (const tracee of thread.trace.tracees) {
      const found = consider(search, tracee as Thread, true);
      if (found) return found;
    }
  }
  return search.hope ? 0 : -Errno.ECHILD;
}

function eligible(search: Search, target: Thread, traced: boolean): boolean {
  const { wanted, options } = search;
  if (wanted.kind === 'task' && target.id !== wanted.id) return false;
  if (wanted.kind === 'group' && target.process.group.id !== wanted.id) return false;
  if (traced || options & WaitOption.all) return true;
  // Children with another exit signal than SIGCHLD are "clone" children.
  const isClone = target.process.exitSignal !== Signal.SIGCHLD;
  return isClone === ((options & WaitOption.clone) !== 0);
}

function consider(search: Search, target: Thread, asTracee: boolean): ChildEvent | undefined {
  if (!eligible(search, target, asTracee)) return undefined;
  const { options, waiter } = search;
  const tracer = target.trace.tracer as Thread | undefined;
  const traced = asTracee || tracer?.process === waiter.process;
  const { process } = target;
  const zombie = target.leader ? process.dead : target.dead;
  if (zombie && !process.reaped) {
    if (traced || !tracer)
      return (options & WaitOption.exited) !== 0 ? reap(search, target, traced) : undefined;
    search.hope = true;
    return undefined;
  }
  if (target.dead) {
    // A leader that ended before its other threads.
    if (!traced || options & (WaitOption.continued | WaitOption.exited)) search.hope = true;
  } else {
    search.hope = true;
  }
  return stop(search, target, traced) ?? goOn(search, target);
}

function describe(search: Search, target: Thread): Pick<ChildEvent, 'pid' | 'uid' | 'usage'> {
  const { waiter } = search;
  const uid = waiter.credentials.userNamespace.fromKernelUid(target.credentials.uid);
  const usage = { ...target.process.usage() };
  addUsage(usage, target.process.childrenUsage);
  return { pid: target.id.in(waiter.process.pidNamespace), uid: uid < 0 ? 65_534 : uid, usage };
}

function stop(search: Search, target: Thread, traced: boolean): ChildEvent | undefined {
  const consume = (search.options & WaitOption.noWait) === 0;
  if (traced) {
    const status = target.trace.takeStop(consume);
    if (status === undefined) return undefined;
    return { ...describe(search, target), status, code: ChildCode.trapped, signalStatus: status >> 8 };
  }
  if ((search.options & WaitOption.stopped) === 0) return undefined;
  const signal = target.process.signals.takeStopped(consume);
  if (signal === undefined) return undefined;
  return {
    ...describe(search, target),
    status: (signal << 8) | 0x7f,
    code: ChildCode.stopped,
    signalStatus: signal,
  };
}

function goOn(search: Search, target: Thread): ChildEvent | undefined {
  if ((search.options & WaitOption.continued) === 0) return undefined;
  if (!target.process.signals.takeContinued((search.options & WaitOption.noWait) === 0)) return undefined;
  return {
    ...describe(search, target),
    status: continuedStatus,
    code: ChildCode.continued,
    signalStatus: Signal.SIGCONT,
  };
}

function reap(search: Search, target: Thread, traced: boolean): ChildEvent {
  const { process } = target;
  const status = (target.leader ? process.exitStatus : (process.groupExitStatus ?? target.exitStatus)) ?? 0;
  const end = childEnd(status);
  const event = { ...describe(search, target), status, code: end.code, signalStatus: end.status };
  if (search.options & WaitOption.noWait) return event;
  if (!target.leader) {
    target.trace.detached();
    forgetThread(target);
  } else if (traced && process.parent !== search.waiter.process) {
    // The tracer has seen it; its parent has not.
    target.trace.detached();
    tracerIsDone(target);
  } else {
    if (traced) target.trace.detached();
    addReaped(search.waiter.process, process);
    forgetProcess(process);
  }
  return event;
}

/** The times of a child that was waited for, with those of its own such children. */
function addReaped(parent: ThreadGroup, child: ThreadGroup): void {
  addUsage(parent.childrenUsage, child.usage());
  addUsage(parent.childrenUsage, child.childrenUsage);
}
