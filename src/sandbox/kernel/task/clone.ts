// Making tasks: fork, vfork, clone and clone3 (kernel/fork.c's rules and order of checks). The handlers that decode the
// calls are in calls/clone.ts.
//
// The platform carries a fork out when the parent's context resumes; the child's context then stops with `started`, and
// Thread.start lets it run. If the host refuses the fork, the child is taken back as if it had never been.

import { Capability } from '../../abi/capability.ts';
import { Clone, CloneHigh, maximumNamespaceLevel, namespaceFlags } from '../../abi/clone.ts';
import { Errno } from '../../abi/errno.ts';
import { Rlimit } from '../../abi/resource.ts';
import { Signal } from '../../abi/signal.ts';
import { TaskPolicies } from '../../mm/policy.ts';
import type { Context } from '../../platform/contract.ts';
import { BLOCKED } from '../contract.ts';
import type { TaskCredentials } from '../credentials/credentials.ts';
import { credentialsForNewNamespace } from '../credentials/transitions.ts';
import { makeNamespaces, type Namespaces } from '../namespace/unshare.ts';
import { Work } from '../signal/contract.ts';
import { forgetProcess, forgetThread } from './exit.ts';
import type { Pid, PidTable } from './pid.ts';
import { makePidFile } from './pidfd.ts';
import { Thread } from './thread.ts';
import { ThreadGroup } from './thread-group.ts';

/** What clone, fork and clone3 are asked for, decoded. Addresses are 0 if they were not given. */
export interface CloneRequest {
  /** CLONE_* below 2^32, without the exit signal. */
  readonly flags: number;
  /** CloneHigh. */
  readonly highFlags: number;
  readonly exitSignal: number;
  /** The child's stack pointer; 0: the parent's. */
  readonly stack: number;
  readonly tls: number;
  readonly parentTid: number;
  readonly childTid: number;
  readonly pidfd: number;
  /** Innermost namespace first. */
  readonly setTid: readonly number[];
  readonly cgroup: number;
}

const is = (flags: number, bit: number): boolean => (flags & bit) !== 0;

/** Which flags exclude each other, in Linux's order (copy_process). */
function checkFlags(parent: Thread, request: CloneRequest): number {
  const { flags } = request;
  if (is(flags, Clone.newNs) && is(flags, Clone.fs)) return -Errno.EINVAL;
  if (is(flags, Clone.newUser) && is(flags, Clone.fs)) return -Errno.EINVAL;
  if (is(flags, Clone.thread) && !is(flags, Clone.sighand)) return -Errno.EINVAL;
  if (is(flags, Clone.sighand) && !is(flags, Clone.vm)) return -Errno.EINVAL;
  if (is(flags, Clone.parent) && parent.process.init) return -Errno.EINVAL;
  if (is(flags, Clone.thread)) {
    if (is(flags, Clone.newUser | Clone.newPid)) return -Errno.EINVAL;
    if (parent.pidNamespaceForChildren !== parent.process.pidNamespace) return -Errno.EINVAL;
  }
  if (is(flags, Clone.pidfd) && is(flags, Clone.detached)) return -Errno.EINVAL;
  return 0;
}

/** RLIMIT_NPROC and the sandbox's own limits. */
function checkLimits(parent: Thread, credentials: TaskCredentials): number {
  const { kernel, process } = parent;
  const limit = process.limit(Rlimit.nproc).soft;
  const root = kernel.rootUserNamespace;
  if (kernel.processCount(credentials.uid) >= limit && credentials.uid !== 0)
    if (!credentials.hasIn(root, Capability.sysResource) && !credentials.hasIn(root, Capability.sysAdmin))
      return -Errno.EAGAIN;
  parent.processLimitExceeded = false;
  if (kernel.tasks >= kernel.taskLimit) return -Errno.EAGAIN;
  if (process.container.tasks >= process.container.taskLimit) return -Errno.EAGAIN;
  return 0;
}

/** The PID namespace of the child. */
function childPidNamespace(parent: Thread, flags: number, credentials: TaskCredentials): PidTable | number {
  const namespace = parent.pidNamespaceForChildren;
  if (!is(flags, Clone.newPid)) return namespace;
  if (namespace !== parent.process.pidNamespace) return -Errno.EINVAL;
  return namespace.child(credentials.userNamespace);
}

function allocatePid(namespace: PidTable, request: CloneRequest, credentials: TaskCredentials): Pid | number {
  const { setTid } = request;
  if (setTid.length > namespace.level + 1) return -Errno.EINVAL;
  let at: PidTable | undefined = namespace;
  for (const wanted of setTid) {
    if (!at) break;
    if (wanted < 1 || wanted >= at.maximum) return -Errno.EINVAL;
    if (wanted !== 1 && at === namespace && !at.init) return -Errno.EINVAL;
    const owner = at.userNamespace;
    if (
      !credentials.hasIn(owner, Capability.checkpointRestore) &&
      !credentials.hasIn(owner, Capability.sysAdmin)
    )
      return -Errno.EPERM;
    at = at.parent;
  }
  return namespace.allocate(setTid);
}

/** clone(2) in all its forms: the child's number as the parent sees it, a negative errno, or BLOCKED (vfork). */
export function cloneTask(parent: Thread, request: CloneRequest): number {
  const { flags } = request;
  const refused = checkFlags(parent, request);
  if (refused < 0) return refused;
  // So that a program that forks under a storm of signals still gets to see them.
  if (parent.signals.pending) return -Errno.ERESTARTNOINTR;
  const credentials = is(flags, Clone.newUser)
    ? credentialsForNewNamespace(parent.credentials)
    : parent.credentials;
  if (typeof credentials === 'number') return credentials;
  const limited = checkLimits(parent, credentials);
  if (limited < 0) return limited;
  if (is(flags, namespaceFlags & ~Clone.newUser)) {
    if (!credentials.hasIn(credentials.userNamespace, Capability.sysAdmin)) return -Errno.EPERM;
    if (is(flags, Clone.newIpc) && is(flags, Clone.sysvsem)) return -Errno.EINVAL;
  }
  if (is(request.highFlags, CloneHigh.intoCgroup) && !parent.files.get(request.cgroup)) return -Errno.EBADF;
  // No file of the sandbox is a cgroup's directory.
  if (is(request.highFlags, CloneHigh.intoCgroup)) return -Errno.EBADF;
  const pidNamespace = childPidNamespace(parent, flags, credentials);
  if (typeof pidNamespace === 'number') return pidNamespace;
  const id = allocatePid(pidNamespace, request, credentials);
  if (typeof id === 'number') return id;
  const fs = is(flags, Clone.fs) ? parent.fs.acquire() : parent.fs.fork();
  const namespaces = makeNamespaces(parent, flags, credentials.userNamespace, fs);
  if (typeof namespaces === 'number') {
    fs.release();
    id.freeIfUnused();
    return namespaces;
  }
  let child: Thread;
  // In shared memory it must be there before the child runs, which may end, and zero the same word, at any moment then.
  if (is(flags, Clone.vm) && is(flags, Clone.parentSetTid))
    parent.memory.writeU32(request.parentTid, id.in(parent.process.pidNamespace));
  const context = is(flags, Clone.vm) ? parent.context.spawnThread() : parent.context.fork();
  child = birth(parent, request, id, context, credentials, { ...namespaces, fs });
  if (is(flags, Clone.pidfd)) {
    const fd = installPidfd(parent, child, request.pidfd);
    if (fd < 0) {
      takeBack(child);
      context.exit();
      return fd;
    }
  }
  return announce(parent, child, request);
}

/** The new thread and, without CLONE_THREAD, its process, known to everybody. */
function birth(
  parent: Thread,
  request: CloneRequest,
  id: Pid,
  context: Context,
  credentials: TaskCredentials,
  namespaces: Namespaces & { readonly fs: Thread['fs'] },
): Thread {
  const { flags, highFlags } = request;
  const { kernel } = parent;
  const process = is(flags, Clone.thread)
    ? parent.process
    : forkProcess(parent, id, flags, is(highFlags, CloneHigh.clearSighand), request.exitSignal);
  const child = new Thread(
    {
      kernel,
      process,
      id,
      context,
      name: parent.name,
      credentials,
      mm: is(flags, Clone.vm) ? parent.mm.acquire() : parent.mm.fork(context),
      files: is(flags, Clone.files) ? parent.files.acquire() : parent.files.fork(),
      ...namespaces,
      pidNamespaceForChildren: id.namespace,
      scheduling: parent.scheduling.fork(),
      seccomp: parent.seccomp,
    },
    (thread) => parent.signals.fork(thread, process.signals, !is(flags, Clone.vm) || is(flags, Clone.vfork)),
  );
  if (is(flags, Clone.sysvsem)) child.semaphoreUndo = parent.shareSemaphoreUndo();
  child.noNewPrivileges = parent.noNewPrivileges;
  child.personality = parent.personality;
  kernel.part(TaskPolicies).inherit(parent, child);
  child.timerSlack = parent.timerSlack;
  child.defaultTimerSlack = parent.timerSlack;
  child.machineCheckPolicy = parent.machineCheckPolicy;
  child.ioFlusher = parent.ioFlusher;
  if (is(flags, Clone.childClearTid)) child.clearChildTid = request.childTid;
  child.birth = {
    stack: request.stack,
    tls: is(flags, Clone.setTls) ? request.tls : undefined,
    setTid: is(flags, Clone.childSetTid) ? request.childTid : 0,
  };
  child.enter();
  if (!is(flags, Clone.thread)) {
    process.leader = child;
    process.parentThread = is(flags, Clone.parent) ? parent.process.parentThread : parent;
    process.parentExecution = is(flags, Clone.parent)
      ? parent.process.parentExecution
      : parent.process.execution;
  }
  kernel.forks++;
  return child;
}

function forkProcess(
  parent: Thread,
  id: Pid,
  flags: number,
  clearHandlers: boolean,
  exitSignal: number,
): ThreadGroup {
  const former = parent.process;
  const process = new ThreadGroup({
    kernel: parent.kernel,
    id,
    container: former.container,
    group: former.group,
    limits: [...former.limits],
    exitSignal: is(flags, Clone.parent) ? former.exitSignal : exitSignal,
    executable: former.executable?.acquire(),
    signals: (child) => former.signals.fork(child, is(flags, Clone.sighand), clearHandlers),
  });
  process.underSubreaper = former.underSubreaper || former.subreaper;
  process.oomScoreAdjust = former.oomScoreAdjust;
  process.hugePagesDisabled = former.hugePagesDisabled;
  process.timers.cpuLimitChanged();
  return process;
}

/** CLONE_PIDFD: the descriptor's number is in the parent's memory before anybody runs. */
function installPidfd(parent: Thread, child: Thread, address: number): number {
  const file = makePidFile(child, child.process.leader === child ? 0 : 0o200);
  const fd = parent.files.install(parent, file, true);
  if (fd < 0) {
    file.unreference();
    return fd;
  }
  if (parent.memory.writeU32(address, fd) >= 0) return fd;
  parent.files.close(parent, fd);
  return -Errno.EFAULT;
}

/** The child exists: tells the parent's memory and tracer, and lets vfork wait. */
function announce(parent: Thread, child: Thread, request: CloneRequest): number {
  const { flags } = request;
  const number = child.id.in(parent.process.pidNamespace);
  // An address that cannot be written is nobody's error.
  if (is(flags, Clone.parentSetTid) && !is(flags, Clone.vm))
    parent.memory.writeU32(request.parentTid, number);
  parent.trace.cloned(child, flags + request.exitSignal);
  const vfork = is(flags, Clone.vfork);
  if (!vfork && (parent.signals.work & Work.exit) === 0) {
    parent.onFailure((failure) => {
      takeBack(child);
      return failure;
    });
    return number;
  }
  // The parent will not simply run on: the child has to be there all the same.
  const flushed = parent.context.flush();
  if (flushed < 0) {
    takeBack(child);
    return flushed;
  }
  return vfork ? waitForVfork(parent, child, number) : number;
}

function waitForVfork(parent: Thread, child: Thread, number: number): number {
  let done = false;
  child.vforkDone = () => {
    done = true;
    parent.wake();
  };
  return parent.block({
    on: [],
    killableOnly: true,
    retry: () => {
      if (!done) return BLOCKED;
      parent.trace.vforkDone(child);
      return number;
    },
    interrupted: () => number,
  });
}

/** A child that never ran disappears without a trace. */
function takeBack(child: Thread): void {
  if (child.exiting) return;
  child.exiting = true;
  const { process } = child;
  process.container.release(child);
  child.trace.detached();
  child.vforkDone = undefined;
  child.leave();
  child.signals.release();
  if (process.leader !== child) {
    forgetThread(child);
    return;
  }
  process.exitStatus = Signal.SIGKILL;
  process.execute(undefined);
  process.timers.release();
  process.signals.release();
  forgetProcess(process);
}

/** Numbers for clone3's set_tid at most. */
export const setTidLimit = maximumNamespaceLevel;
