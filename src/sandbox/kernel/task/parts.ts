// What tasks are put together from that other areas make. Given to the kernel by whoever builds a sandbox (boot), so that
// tests can leave out what they don't look at.

import type { NetworkNamespace } from '../../net/contract.ts';
import type { FsContext, MountNamespace } from '../../vfs/contract.ts';
import type { Task, UserNamespace } from '../contract.ts';
import type { IpcNamespace } from '../ipc/ipc-namespace.ts';
import type { TaskTrace } from '../ptrace/contract.ts';
import type { Seccomp } from '../seccomp/contract.ts';
import type { Signals } from '../signal/contract.ts';

export interface TaskParts {
  readonly signals: Signals;
  /** The seccomp state of a container's first task. */
  readonly unconfined: Seccomp;
  trace(task: Task): TaskTrace;
  /** A new namespace (with one user), for a container and for CLONE_NEWIPC. */
  ipc(owner: UserNamespace): IpcNamespace;
  /** CLONE_NEWNET: a namespace with a loopback interface only; -EINVAL where there is none to be had. */
  network(owner: UserNamespace): NetworkNamespace | number;
  /** CLONE_NEWNS: a copy of the mounts, with `fs` (which is not shared) moved to the same places in it. */
  copyMounts(from: MountNamespace, fs: FsContext, owner: UserNamespace): MountNamespace | number;
  /** The way out of a system call: resumes the context, stops the task or ends it (signal/return.ts). */
  completeSyscall(task: Task, result: number): void;
  /** The way in for a new context: the first resume, or what a tracer wants before (signal/return.ts). */
  startProgram(task: Task): void;
}
