// Whether one task may look into or control another one (ptrace_may_access): /proc files, process_vm_*, pidfd_getfd,
// kcmp, namespaces, ptrace itself.

import { Capability } from '../../abi/capability.ts';
import type { Credentials } from '../contract.ts';
import type { TaskCredentials } from '../credentials/credentials.ts';
import type { Thread } from './thread.ts';

/** PTRACE_MODE_*: read or attach, judged by the caller's real ids (REALCREDS) unless fsCredentials is set. */
export const PtraceAccess = { read: 1, attach: 2, fsCredentials: 8 } as const;

function hasPtraceIn(credentials: Credentials, target: TaskCredentials): boolean {
  return credentials.hasIn(target.userNamespace, Capability.sysPtrace);
}

export function mayAccess(caller: Thread, target: Thread, mode: number): boolean {
  if (caller.process === target.process) return true;
  const { credentials } = caller;
  const other = target.credentials;
  const uid = mode & PtraceAccess.fsCredentials ? credentials.fsuid : credentials.uid;
  const gid = mode & PtraceAccess.fsCredentials ? credentials.fsgid : credentials.gid;
  const same =
    uid === other.euid &&
    uid === other.suid &&
    uid === other.uid &&
    gid === other.egid &&
    gid === other.sgid &&
    gid === other.gid;
  if (!same && !hasPtraceIn(credentials, other)) return false;
  if (target.mm.dumpable !== 1 && !hasPtraceIn(credentials, other)) return false;
  // cap_ptrace_access_check: not more capabilities than the caller has.
  const held = mode & PtraceAccess.fsCredentials ? credentials.effective : credentials.permitted;
  if (credentials.userNamespace === other.userNamespace && (other.permitted & ~held) === 0n) return true;
  return hasPtraceIn(credentials, other);
}
