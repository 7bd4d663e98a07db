// Processes that nobody in the sandbox forked: the first one of a container, and those executed into it. They have no
// parent that the sandbox's programs could see, and a session of their own.

import { At } from '../../abi/file.ts';
import type { NetworkNamespace } from '../../net/contract.ts';
import type { FdTable, FsContext, MountNamespace } from '../../vfs/contract.ts';
import { Lookup } from '../../vfs/walk.ts';
import type { ResourceLimit } from '../contract.ts';
import type { TaskCredentials } from '../credentials/credentials.ts';
import type { IpcNamespace } from '../ipc/ipc-namespace.ts';
import type { SandboxKernel } from '../kernel.ts';
import type { CgroupNamespace } from '../namespace/cgroup.ts';
import type { NamedUtsNamespace } from '../namespace/uts.ts';
import { Scheduling } from '../sched/scheduling.ts';
import type { Container } from './container.ts';
import { installFirstProgram, prepareProgram } from './exec.ts';
import { JobGroup, LoginSession } from './jobs.ts';
import type { PidTable } from './pid.ts';
import { Thread } from './thread.ts';
import { ThreadGroup } from './thread-group.ts';

/** A process to be. References (files, fs, ipc, namespaces) are taken over, whether it succeeds or not. */
export interface ProcessOptions {
  readonly container: Container;
  /** As execve(2): absolute, or relative to fs.cwd. Whoever knows PATH has looked there. */
  readonly path: string;
  /** Latin1. */
  readonly argv: readonly string[];
  readonly envp: readonly string[];
  readonly credentials: TaskCredentials;
  readonly files: FdTable;
  readonly fs: FsContext;
  readonly uts: NamedUtsNamespace;
  /** One user of it is the process. */
  readonly ipc: IpcNamespace;
  readonly mounts: MountNamespace;
  readonly network: NetworkNamespace;
  readonly cgroup: CgroupNamespace;
  /** A new one for the first process of a container of its own. */
  readonly pidNamespace: PidTable;
  /** Indexed by RLIMIT_*; see defaultLimits. */
  readonly limits: readonly ResourceLimit[];
  readonly noNewPrivileges?: boolean;
  readonly personality?: number;
  readonly oomScoreAdjust?: number;
  readonly scheduling?: Scheduling;
  /**
   * Called before the program is looked up (`path` is read after it) and its credentials and memory are decided: mounts,
   * seccomp of the container. What it throws ends the attempt.
   */
  prepare?(thread: Thread): void;
  /** The wait status of its end, once. */
  ended?(status: number): void;
}

/**
 * A process with its program loaded, that has not run yet: `thread.start()` lets it. A negative errno as of execve(2),
 * or -EAGAIN, -ENOMEM when there is no room for it.
 */
export function createProcess(kernel: SandboxKernel, options: ProcessOptions): Thread | number {
  const { namespaceUsers } = kernel;
  const id = options.pidNamespace.allocate();
  if (typeof id === 'number') return id;
  const { parts } = kernel;
  const session = new LoginSession(id);
  const process = new ThreadGroup({
    kernel,
    id,
    container: options.container,
    group: new JobGroup(id, session),
    limits: [...options.limits],
    exitSignal: 0,
    executable: undefined,
    signals: (made) => parts.signals.createProcess(made),
  });
  session.leader = process;
  process.oomScoreAdjust = options.oomScoreAdjust ?? 0;
  process.timers.cpuLimitChanged();
  for (const namespace of [options.uts, options.mounts, options.network, options.cgroup])
    namespaceUsers.hold(namespace);
  const thread = new Thread(
    {
      kernel,
      process,
      id,
      name: '',
      credentials: options.credentials,
      files: options.files,
      fs: options.fs,
      uts: options.uts,
      ipc: options.ipc,
      mounts: options.mounts,
      network: options.network,
      cgroup: options.cgroup,
      pidNamespaceForChildren: id.namespace,
      scheduling: options.scheduling ?? new Scheduling(),
      seccomp: parts.unconfined,
    },
    (made) => parts.signals.createTask(made, process.signals),
  );
  process.leader = thread;
  thread.noNewPrivileges = options.noNewPrivileges ?? false;
  thread.personality = options.personality ?? 0;
  try {
    options.prepare?.(thread);
  } catch (error) {
    abandon(thread);
    throw error;
  }
  const target = {
    dirfd: At.cwd,
    path: options.path,
    lookup: Lookup.follow,
    shownPath: options.path,
    pathInaccessible: false,
  };
  const prepared = prepareProgram(
    thread,
    target,
    () => options.argv,
    () => options.envp,
  );
  if (typeof prepared === 'number') {
    abandon(thread);
    return prepared;
  }
  installFirstProgram(thread, prepared, target);
  thread.files.closeForExec(thread);
  process.executed = true;
  process.whenEnded = options.ended;
  thread.enter();
  kernel.forks++;
  return thread;
}

/** Nobody has seen it: everything that it was given goes. */
function abandon(thread: Thread): void {
  const { process, id } = thread;
  thread.exiting = true;
  thread.releaseShared();
  thread.signals.release();
  process.signals.release();
  process.timers.release();
  process.exitStatus = 0;
  process.reaped = true;
  if (id.namespace.init === process) id.namespace.init = undefined;
  id.process = undefined;
  process.group.remove(process);
  id.freeIfUnused();
}
