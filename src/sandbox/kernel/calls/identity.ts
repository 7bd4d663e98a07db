// Numbers of tasks, process groups and sessions: getpid(2), getppid(2), setpgid(2), setsid(2) and their kin.

import { Errno } from '../../abi/errno.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import { JobGroup, LoginSession } from '../task/jobs.ts';
import type { Thread } from '../task/thread.ts';
import type { ThreadGroup } from '../task/thread-group.ts';

/** The process of a task's number as the caller sees it; 0: its own. */
function processOf(thread: Thread, number: number): ThreadGroup | undefined {
  if (number === 0) return thread.process;
  return thread.process.pidNamespace.findTask(number)?.process;
}

function setpgid(task: Task, pidArgument: number, pgidArgument: number): number {
  const thread = task as Thread;
  const own = thread.process;
  const namespace = own.pidNamespace;
  const pid = pidArgument === 0 ? own.visiblePid : pidArgument;
  const pgid = pgidArgument === 0 ? pid : pgidArgument;
  if (pgid < 0) return -Errno.EINVAL;
  const target = namespace.findTask(pid);
  if (!target) return -Errno.ESRCH;
  if (!target.leader) return -Errno.EINVAL;
  const { process } = target;
  if (process.parent === own) {
    if (process.session !== own.session) return -Errno.EPERM;
    if (process.executed) return -Errno.EACCES;
  } else if (process !== own) {
    return -Errno.ESRCH;
  }
  if (process.session.leader === process) return -Errno.EPERM;
  if (pgid === pid) {
    process.join(process.id.group ?? new JobGroup(process.id, process.session));
    return 0;
  }
  const group = namespace.findGroup(pgid);
  if (!group || group.session !== own.session) return -Errno.EPERM;
  process.join(group);
  return 0;
}

function setsid(task: Task): number {
  const { process } = task as Thread;
  if (process.session.leader === process || process.id.group) return -Errno.EPERM;
  const session = new LoginSession(process.id, process);
  process.join(new JobGroup(process.id, session));
  return process.visiblePid;
}

function parentNumber(task: Task): number {
  const { process } = task as Thread;
  return process.parent?.pidIn(process.pidNamespace) ?? 0;
}

export const identitySyscalls: readonly Syscall[] = [
  {
    name: 'getpid',
    signature: ' -> pid',
    support: 'full',
    handler: (task) => (task as Thread).process.visiblePid,
  },
  { name: 'gettid', signature: ' -> pid', support: 'full', handler: (task) => task.visibleTid },
  { name: 'getppid', signature: ' -> pid', support: 'full', handler: parentNumber },
  {
    name: 'getpgrp',
    signature: ' -> pid',
    support: 'full',
    handler: (task) => {
      const { process } = task as Thread;
      return process.group.id.in(process.pidNamespace);
    },
  },
  {
    name: 'getpgid',
    signature: 'pid:pid -> pid',
    support: 'full',
    handler: (task, args) => {
      const target = processOf(task as Thread, args.i32(0));
      return target ? target.group.id.in((task as Thread).process.pidNamespace) : -Errno.ESRCH;
    },
  },
  {
    name: 'setpgid',
    signature: 'pid:pid pgid:pid',
    support: 'full',
    handler: (task, args) => setpgid(task, args.i32(0), args.i32(1)),
  },
  {
    name: 'getsid',
    signature: 'pid:pid -> pid',
    support: 'full',
    handler: (task, args) => {
      const target = processOf(task as Thread, args.i32(0));
      return target ? target.session.id.in((task as Thread).process.pidNamespace) : -Errno.ESRCH;
    },
  },
  { name: 'setsid', signature: ' -> pid', support: 'full', handler: setsid },
];
