// What tasks are put together from in a real sandbox.

import type { NetworkNamespace } from '../../net/contract.ts';
import { copyMounts } from '../../vfs/fs-context.ts';
import { MountNamespace } from '../../vfs/mount-namespace.ts';
import type { Kernel, UserNamespace } from '../contract.ts';
import { IpcNamespace } from '../ipc/ipc-namespace.ts';
import { createTrace } from '../ptrace/task-trace.ts';
import { noSeccomp } from '../seccomp/seccomp.ts';
import { completeSyscall, startProgram } from '../signal/return.ts';
import { signals } from '../signal/signals.ts';
import type { TaskParts } from './parts.ts';

/** kernel: asked for when the first namespace is made. network: what CLONE_NEWNET gives. */
export function standardParts(
  kernel: () => Kernel,
  network: (owner: UserNamespace) => NetworkNamespace | number,
): TaskParts {
  return {
    signals,
    unconfined: noSeccomp,
    trace: createTrace,
    ipc: (owner) => new IpcNamespace(kernel(), owner),
    network,
    copyMounts: (from, fs, owner) => {
      if (!(from instanceof MountNamespace)) throw new TypeError('a mount namespace of another kernel');
      return copyMounts(from, fs, owner);
    },
    completeSyscall,
    startProgram,
  };
}
