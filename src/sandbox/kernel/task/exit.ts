// The end of threads and processes (kernel/exit.c's rules): what is let go in which order, who becomes the parent of
// orphans, what parents and job control are told, zombies, and the end of a PID namespace with its first process.

import { Signal } from '../../abi/signal.ts';
import type { SignalInfo } from '../contract.ts';
import { anyBit } from '../futex/futexes.ts';
import { exitRobustList } from '../futex/robust-list.ts';
import { Poll } from '../wait-queue.ts';
import type { JobGroup } from './jobs.ts';
import type { PidTable } from './pid.ts';
import type { Thread } from './thread.ts';
import { addUsage, type ThreadGroup, threadUsage } from './thread-group.ts';

const fromKernel = 0x80;
const ChildCode = { exited: 1, killed: 2, dumped: 3 } as const;

/** si_code and si_status of a wait status. */
export function childEnd(status: number): { readonly code: number; readonly status: number } {
  if ((status & 0x7f) === 0) return { code: ChildCode.exited, status: (status >> 8) & 0xff };
  return { code: status & 0x80 ? ChildCode.dumped : ChildCode.killed, status: status & 0x7f };
}

/**
 * Ends a thread with a wait status (do_exit). Its context is gone afterwards. When it was the last one the process
 * becomes a zombie, or is reaped at once if nobody wants to know.
 */
export function endThread(thread: Thread, status: number): void {
  if (thread.exiting || thread.dead) return;
  const { process, kernel } = thread;
  addUsage(process.endedUsage, threadUsage(thread));
  thread.exiting = true;
  process.container.release(thread);
  thread.abandonCall();
  leaveMemory(thread);
  kernel.threadEnds(thread);
  thread.leave();
  thread.exitStatus = status;
  if (process.tasks.length === 0) process.exitStatus = process.groupExitStatus ?? process.leader.exitStatus;
  thread.signals.release();
  if (process.tasks.length === 0) endProcess(process);
  letTraceesGo(thread);
  reparentChildren(thread);
  if (process.tasks.length === 0 && process.init && !beginNamespaceEnd(process)) {
    // Nobody sees the end of a namespace's first process before all others in it are gone.
    process.pidNamespace.emptied = () => finishThread(thread);
    return;
  }
  finishThread(thread);
}

/**
 * The thread stops using its memory, by exit or exec (mm_release): robust futexes are marked, the word of
 * CLONE_CHILD_CLEARTID is zeroed and waked, and a parent that waits in vfork goes on.
 */
export function leaveMemory(thread: Thread): void {
  exitRobustList(thread);
  if (thread.clearChildTid !== 0) {
    // Only if somebody else can see it (mm_release).
    const address = thread.clearChildTid;
    thread.clearChildTid = 0;
    if (thread.mm.users > 1 && thread.memory.writeU32(address, 0) >= 0)
      thread.kernel.futexes.wake(thread, address, true, 1, anyBit);
  }
}

function endProcess(process: ThreadGroup): void {
  const { kernel, session } = process;
  kernel.processEnds(process);
  process.timers.release();
  process.execute(undefined);
  process.signals.release();
  if (session.leader === process) {
    session.terminal?.disassociate(session);
    session.terminal = undefined;
    session.leader = undefined;
  }
  // Its own leaving may orphan the group that it belongs to.
  const parent = process.parent;
  if (parent) hangUpIfOrphaned(process.group, process, parent);
}

/**
 * A stopped group that loses its last link to a parent in the same session gets SIGHUP and SIGCONT. leaving: a member
 * that ends; undefined: `parent` has ended.
 */
function hangUpIfOrphaned(group: JobGroup, leaving: ThreadGroup | undefined, parent: ThreadGroup): void {
  if (parent.group === group || parent.session !== group.session) return;
  if (!group.orphanedWithout(leaving) || !group.hasStopped) return;
  group.sendSignal({ signal: Signal.SIGHUP, code: fromKernel });
  group.sendSignal({ signal: Signal.SIGCONT, code: fromKernel });
}

/** What this thread traced goes on alone; zombies that waited for it are their real parents' now. */
function letTraceesGo(thread: Thread): void {
  const dead = [...thread.trace.tracees].map((task) => task as Thread).filter((task) => task.dead);
  for (const tracee of dead) {
    tracee.trace.detached();
    tracerIsDone(tracee);
  }
  thread.trace.released();
}

/** A zombie is traced no more: a thread is forgotten, a process is told to its real parent. */
export function tracerIsDone(tracee: Thread): void {
  if (!tracee.leader) forgetThread(tracee);
  else if (tracee.process.dead) tellParent(tracee.process);
}

function aliveThread(process: ThreadGroup): Thread | undefined {
  return process.tasks.find((thread) => !thread.exiting);
}

/** find_new_reaper: another thread, the nearest subreaper in the same PID namespace, or the namespace's init. */
function findReaper(process: ThreadGroup): Thread | undefined {
  const own = aliveThread(process);
  if (own) return own;
  if (process.underSubreaper) {
    let at = process.parent;
    while (at && at.pidNamespace === process.pidNamespace) {
      const thread = at.subreaper ? aliveThread(at) : undefined;
      if (thread) return thread;
      at = at.parent;
    }
  }
  const init = process.pidNamespace.init;
  if (!init || init === process) return undefined;
  return aliveThread(init);
}

function reparentChildren(thread: Thread): void {
  const { process } = thread;
  const children = [...process.children].filter((child) => child.parentThread === thread);
  if (children.length === 0) return;
  const reaper = findReaper(process);
  for (const child of children) {
    child.parentThread = reaper;
    for (const task of child.tasks)
      if (task.parentDeathSignal !== 0)
        child.sendSignal({
          signal: task.parentDeathSignal,
          code: 0,
          sender: process,
          uid: thread.credentials.uid,
        });
    if (reaper?.process === process) continue;
    child.exitSignal = Signal.SIGCHLD;
    if (child.dead && !child.leader.trace.tracer) tellParent(child);
    hangUpIfOrphaned(child.group, undefined, process);
  }
}

/**
 * The first process of a PID namespace has ended: everybody in it is killed and nobody is born there any more. Whether
 * it is empty already.
 */
function beginNamespaceEnd(init: ThreadGroup): boolean {
  const namespace = init.pidNamespace;
  namespace.dead = true;
  for (const [, process] of namespace.processes()) {
    if (process === init) continue;
    if (process.dead && process.parent === undefined) forgetProcess(process);
    else process.sendSignal({ signal: Signal.SIGKILL, code: fromKernel });
  }
  return !namespace.hasOthers(init);
}

function finishThread(thread: Thread): void {
  const { process } = thread;
  const traced = thread.trace.tracer !== undefined;
  if (process.dead) {
    const leader = process.leader;
    if (!thread.leader) {
      if (traced) tellTracer(thread);
      else forgetThread(thread);
    }
    if (leader.trace.tracer) tellTracer(leader);
    else tellParent(process);
  } else if (!thread.leader) {
    if (traced) tellTracer(thread);
    else forgetThread(thread);
  }
  process.threadEnded.notify(Poll.in);
  process.exited.notify(Poll.in);
}

/** SIGCHLD of an end, as it is told to a parent or tracer. */
function endInfo(process: ThreadGroup, status: number, signal: number): SignalInfo {
  const uid = process.leader.credentials.uid;
  return { signal, ...childEnd(status), child: process, sender: process, uid };
}

function tellTracer(thread: Thread): void {
  const tracer = thread.trace.tracer as Thread | undefined;
  if (!tracer) return;
  const { process } = thread;
  const sameParent = thread.leader && process.parent === tracer.process;
  const signal = sameParent ? process.exitSignal : Signal.SIGCHLD;
  process.exited.notify(Poll.in | Poll.hup);
  if (signal !== 0) tracer.process.sendSignal(endInfo(process, thread.exitStatus ?? 0, signal));
  tracer.process.childEvents.notify(Poll.in);
}

/** do_notify_parent for a process that has ended; reaps it if the parent does not want to wait. */
function tellParent(process: ThreadGroup): void {
  const status = process.exitStatus ?? 0;
  const parent = process.parent;
  process.exited.notify(Poll.in | Poll.hup);
  process.kernel.processEnded(process, status);
  process.whenEnded?.(status);
  process.whenEnded = undefined;
  if (!parent || parent.dead || (process.pidNamespace.dead && parent.init && parent.pidNamespace.dead)) {
    forgetProcess(process);
    return;
  }
  let signal = process.exitSignal;
  // The parent has executed another program since, which did not ask for this signal.
  if (signal !== Signal.SIGCHLD && process.parentExecution !== parent.execution) signal = Signal.SIGCHLD;
  const reap = signal === Signal.SIGCHLD && parent.signals.autoReap;
  if (signal !== 0 && !(reap && parent.signals.ignoresChild))
    parent.sendSignal(endInfo(process, status, signal));
  if (reap) forgetProcess(process);
  parent.childEvents.notify(Poll.in);
}

/** A thread that is not its process's leader leaves the tables (release_task). */
export function forgetThread(thread: Thread): void {
  const { id } = thread;
  thread.kernel.countProcess(thread.credentials, -1);
  thread.process.container.taskEnded();
  if (id.thread !== thread) return;
  id.thread = undefined;
  id.freeIfUnused();
  checkEmptied(id.namespace);
}

/** A zombie is reaped: its numbers are free, its accounts are closed. The caller has added up the times. */
export function forgetProcess(process: ThreadGroup): void {
  const { id, leader } = process;
  process.kernel.countProcess(leader.credentials, -1);
  process.container.taskEnded();
  process.parentThread = undefined;
  process.container.forget(process);
  id.thread = undefined;
  id.process = undefined;
  process.group.remove(process);
  process.reaped = true;
  process.exited.notify(Poll.in | Poll.hup);
  id.freeIfUnused();
  checkEmptied(id.namespace);
}

/** Lets the end of a namespace's first process go on when it was only waiting for others in it. */
function checkEmptied(namespace: PidTable): void {
  for (let at: PidTable | undefined = namespace; at; at = at.parent) {
    const { emptied, init } = at;
    if (!emptied || !init || at.hasOthers(init)) continue;
    at.emptied = undefined;
    emptied();
  }
}
