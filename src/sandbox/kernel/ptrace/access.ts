// Who may look into or trace whom (__ptrace_may_access): the rule behind PTRACE_ATTACH, process_vm_readv(2) and parts of
// /proc/pid.

import { Capability, lastCapability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import type { Credentials, Task } from '../contract.ts';

/** Which of the caller's ids count: those of file access for /proc, the real ones for system calls. */
export type AccessIds = 'real' | 'filesystem';

/** SUID_DUMP_USER: the process's memory is its user's to see. */
const dumpableByUser = 1;

/** Whether `caller` has every capability that `other` has. */
function covers(caller: Credentials, other: Credentials): boolean {
  if (caller === other) return true;
  for (let capability = 0; capability <= lastCapability; capability++)
    if (other.has(capability) && !caller.has(capability)) return false;
  return true;
}

/** 0 or -EPERM. */
export function mayAccess(caller: Task, target: Task, ids: AccessIds = 'real'): number {
  if (caller.process === target.process) return 0;
  const own = caller.credentials;
  const other = target.credentials;
  const uid = ids === 'real' ? own.uid : own.fsuid;
  const gid = ids === 'real' ? own.gid : own.fsgid;
  const capable = own.hasIn(other.userNamespace, Capability.sysPtrace);
  const same =
    uid === other.euid &&
    uid === other.suid &&
    uid === other.uid &&
    gid === other.egid &&
    gid === other.sgid &&
    gid === other.gid;
  if (!same && !capable) return -Errno.EPERM;
  if (target.mm.dumpable !== dumpableByUser && !capable) return -Errno.EPERM;
  if (!capable && !(own.userNamespace === other.userNamespace && covers(own, other))) return -Errno.EPERM;
  return 0;
}

/** PTRACE_TRACEME: whether `parent` may trace `child` (cap_ptrace_traceme). 0 or -EPERM. */
export function mayBeTracedBy(child: Task, parent: Task): number {
  const own = parent.credentials;
  const other = child.credentials;
  if (own.userNamespace === other.userNamespace && covers(own, other)) return 0;
  return own.hasIn(other.userNamespace, Capability.sysPtrace) ? 0 : -Errno.EPERM;
}
