// Changing how a task is scheduled, with Linux's rules of what is valid and who may (kernel/sched/syscalls.c).

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { SchedFlag } from '../../abi/sched.ts';
import type { Task } from '../contract.ts';
import { SchedulingPolicy as Policy } from './scheduling.ts';

const RLIMIT_NICE = 13;
const RLIMIT_RTPRIO = 14;
const realTimeMaximum = 99;

export interface SchedulingChange {
  readonly policy: number;
  readonly priority: number;
  readonly resetOnFork: boolean;
  /** Undefined: stays (sched_setscheduler). */
  readonly nice?: number;
  readonly runtime?: number;
  readonly deadline?: number;
  readonly period?: number;
  /** SCHED_FLAG_KEEP_PARAMS. */
  readonly keepParameters?: boolean;
}

export function isRealTime(policy: number): boolean {
  return policy === Policy.fifo || policy === Policy.roundRobin;
}

export function isPolicy(policy: number): boolean {
  const known: readonly number[] = Object.values(Policy);
  return known.includes(policy);
}

/** The task with this number as the caller sees it; 0: the caller. */
export function targetOf(task: Task, pid: number): Task | undefined {
  return pid === 0 ? task : task.process.pidNamespace.findTask(pid);
}

/** check_same_owner, or the capability over the target's user namespace. */
export function mayControl(task: Task, target: Task): boolean {
  const { euid } = task.credentials;
  const other = target.credentials;
  if (euid === other.euid || euid === other.uid) return true;
  return task.credentials.hasIn(other.userNamespace, Capability.sysNice);
}

/** __sched_setscheduler; 0, -EINVAL or -EPERM. */
export function changeScheduling(task: Task, target: Task, change: SchedulingChange): number {
  const { policy, priority, resetOnFork } = change;
  const { scheduling } = target;
  if (!isPolicy(policy)) return -Errno.EINVAL;
  if (priority < 0 || priority > realTimeMaximum) return -Errno.EINVAL;
  if (policy === Policy.deadline ? !validDeadline(change) : isRealTime(policy) !== (priority !== 0))
    return -Errno.EINVAL;
  const refused = checkRights(task, target, change);
  if (refused !== 0) return refused;
  scheduling.resetOnFork = resetOnFork;
  if (change.keepParameters) return 0;
  scheduling.policy = policy;
  scheduling.priority = priority;
  scheduling.runtime = change.runtime ?? 0;
  scheduling.deadline = change.deadline ?? 0;
  scheduling.period = change.period ?? 0;
  if (change.nice !== undefined && !isRealTime(policy) && policy !== Policy.deadline)
    scheduling.nice = change.nice;
  return 0;
}

/** __checkparam_dl: at least 1024 ns, in the order runtime <= deadline <= period. */
function validDeadline(change: SchedulingChange): boolean {
  const { runtime = 0, deadline = 0, period = 0 } = change;
  if (change.priority !== 0 || deadline === 0 || runtime < 1024) return false;
  if (deadline >= 2 ** 63 || period >= 2 ** 63) return false;
  const length = period === 0 ? deadline : period;
  return runtime <= deadline && deadline <= length && length >= 100_000 && length <= 2 ** 22 * 1024;
}

/** user_check_sched_setscheduler. */
function checkRights(task: Task, target: Task, change: SchedulingChange): number {
  if (task.credentials.hasIn(target.credentials.userNamespace, Capability.sysNice)) return 0;
  const { scheduling, process } = target;
  const niceLimit = process.limit(RLIMIT_NICE).soft;
  const mayNice = (nice: number): boolean => 20 - nice <= niceLimit;
  const fair = change.policy === Policy.other || change.policy === Policy.batch;
  if (fair && change.nice !== undefined && change.nice < scheduling.nice && !mayNice(change.nice))
    return -Errno.EPERM;
  if (isRealTime(change.policy)) {
    const limit = process.limit(RLIMIT_RTPRIO).soft;
    if (change.policy !== scheduling.policy && limit === 0) return -Errno.EPERM;
    if (change.priority > scheduling.priority && change.priority > limit) return -Errno.EPERM;
  }
  if (change.policy === Policy.deadline) return -Errno.EPERM;
  // To leave SCHED_IDLE is like being nicer by that much less.
  if (scheduling.policy === Policy.idle && change.policy !== Policy.idle && !mayNice(scheduling.nice))
    return -Errno.EPERM;
  if (!mayControl(task, target)) return -Errno.EPERM;
  return scheduling.resetOnFork && !change.resetOnFork ? -Errno.EPERM : 0;
}

/** SCHED_FLAG_RESET_ON_FORK of a task. */
export function flagsOf(target: Task): number {
  return target.scheduling.resetOnFork ? SchedFlag.resetOnFork : 0;
}
