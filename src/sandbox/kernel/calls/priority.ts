// getpriority(2), setpriority(2), ioprio_get(2), ioprio_set(2): each for a task, a process group or a user.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { PriorityWhich, Rlimit } from '../../abi/resource.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import type { Thread } from '../task/thread.ts';

/** IOPRIO_WHO_*, one more than PRIO_*. */
const ioWhichOffset = 1;
const IoClass = { none: 0, realTime: 1, bestEffort: 2, idle: 3 } as const;

/** Whom a call is for; undefined: no such `which`. */
function* targets(thread: Thread, which: number, who: number): Generator<Thread> {
  const { pidNamespace } = thread.process;
  switch (which) {
    case PriorityWhich.process: {
      const target = who === 0 ? thread : pidNamespace.findTask(who);
      if (target) yield target;
      return;
    }
    case PriorityWhich.group: {
      const group = who === 0 ? thread.process.group : pidNamespace.findGroup(who);
      for (const process of [...(group?.processes ?? [])]) yield* process.tasks;
      return;
    }
    default: {
      const { credentials } = thread;
      const uid = who === 0 ? credentials.uid : credentials.userNamespace.toKernelUid(who >>> 0);
      if (uid < 0) return;
      for (const target of pidNamespace.tasks())
        if (!target.dead && target.credentials.uid === uid) yield target;
    }
  }
}

function getpriority(task: Task, args: Arguments): number {
  const which = args.i32(0);
  if (which < 0 || which > PriorityWhich.user) return -Errno.EINVAL;
  let highest = -Errno.ESRCH;
  // The result cannot be negative: 40 (nice -20) to 1 (nice 19).
  for (const target of targets(task as Thread, which, args.i32(1)))
    highest = Math.max(highest, 20 - target.scheduling.nice);
  return highest;
}

/** Whether the caller's user is the target's, or it may change everybody's priority. */
function mayChange(caller: Thread, target: Thread, real: boolean): boolean {
  const { credentials } = caller;
  const other = target.credentials;
  const id = real ? credentials.uid : credentials.euid;
  if (other.uid === credentials.euid || other.euid === id || other.uid === id) return true;
  return credentials.hasIn(other.userNamespace, Capability.sysNice);
}

function setOne(caller: Thread, target: Thread, nice: number): number {
  const { euid } = caller.credentials;
  const other = target.credentials;
  if (other.uid !== euid && other.euid !== euid)
    if (!caller.credentials.hasIn(other.userNamespace, Capability.sysNice)) return -Errno.EPERM;
  if (nice < target.scheduling.nice) {
    const allowed = 20 - nice <= target.process.limit(Rlimit.nice).soft;
    if (!allowed && !caller.credentials.has(Capability.sysNice)) return -Errno.EACCES;
  }
  target.scheduling.nice = nice;
  return 0;
}

/** Applies to all; the last failure counts unless a later one succeeds, as in set_one_prio. */
function setpriority(task: Task, args: Arguments): number {
  const which = args.i32(0);
  if (which < 0 || which > PriorityWhich.user) return -Errno.EINVAL;
  const nice = Math.max(-20, Math.min(19, args.i32(2)));
  let result: number = -Errno.ESRCH;
  for (const target of targets(task as Thread, which, args.i32(1))) {
    const one = setOne(task as Thread, target, nice);
    if (one < 0) result = one;
    else if (result === -Errno.ESRCH) result = 0;
  }
  return result;
}

/** ioprio_check_cap: 0, -EINVAL or -EPERM. */
function checkIoPriority(caller: Thread, priority: number): number {
  const level = priority & 7;
  if (priority >> 16) return -Errno.EINVAL;
  switch (priority >> 13) {
    case IoClass.realTime: {
      const { credentials, kernel } = caller;
      const root = kernel.rootUserNamespace;
      if (credentials.hasIn(root, Capability.sysAdmin) || credentials.hasIn(root, Capability.sysNice))
        return 0;
      return -Errno.EPERM;
    }
    case IoClass.bestEffort:
    case IoClass.idle:
      return 0;
    case IoClass.none:
      return level === 0 ? 0 : -Errno.EINVAL;
    default:
      return -Errno.EINVAL;
  }
}

function ioprioSet(task: Task, args: Arguments): number {
  const caller = task as Thread;
  const which = args.i32(0) - ioWhichOffset;
  const priority = args.i32(2);
  const refused = checkIoPriority(caller, priority);
  if (refused < 0) return refused;
  if (which < 0 || which > PriorityWhich.user) return -Errno.EINVAL;
  let result: number = -Errno.ESRCH;
  for (const target of targets(caller, which, args.i32(1))) {
    if (!mayChange(caller, target, true)) return -Errno.EPERM;
    target.scheduling.ioPriority = priority;
    result = 0;
  }
  return result;
}

/** The best of all; without a class of its own a task has level 4 in comparisons, but shows what is set. */
function ioprioGet(task: Task, args: Arguments): number {
  const which = args.i32(0) - ioWhichOffset;
  if (which < 0 || which > PriorityWhich.user) return -Errno.EINVAL;
  let best: number | undefined;
  for (const target of targets(task as Thread, which, args.i32(1))) {
    const priority = target.scheduling.ioPriority;
    if (which === PriorityWhich.process) return priority;
    const own = effectiveIo(target);
    best = best === undefined ? own : Math.min(best, own);
  }
  return best ?? -Errno.ESRCH;
}

/** Without a class of its own, a task's I/O priority follows its nice value (task_nice_ioprio). */
function effectiveIo(target: Thread): number {
  const { ioPriority, nice } = target.scheduling;
  return ioPriority >> 13 === IoClass.none
    ? (IoClass.bestEffort << 13) | Math.floor((nice + 20) / 5)
    : ioPriority;
}

export const prioritySyscalls: readonly Syscall[] = [
  { name: 'getpriority', signature: 'which:int who:int', support: 'full', handler: getpriority },
  { name: 'setpriority', signature: 'which:int who:int priority:int', support: 'full', handler: setpriority },
  { name: 'ioprio_get', signature: 'which:int who:int', support: 'full', handler: ioprioGet },
  {
    name: 'ioprio_set',
    signature: 'which:int who:int priority:hex',
    support: 'partial',
    note: 'kept and read back; the host decides the order of its I/O',
    handler: ioprioSet,
  },
];
