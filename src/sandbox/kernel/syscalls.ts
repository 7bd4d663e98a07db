// The system calls of tasks and processes.

import type { Syscall } from '../syscalls/contract.ts';
import { capabilitySyscalls } from './calls/capabilities.ts';
import { cloneSyscalls } from './calls/clone.ts';
import { credentialSyscalls } from './calls/credentials.ts';
import { execSyscalls } from './calls/exec.ts';
import { identitySyscalls } from './calls/identity.ts';
import { limitSyscalls } from './calls/limits.ts';
import { machineSyscalls } from './calls/machine.ts';
import { namespaceSyscalls } from './calls/namespaces.ts';
import { pidfdSyscalls } from './calls/pidfd.ts';
import { prctlSyscalls } from './calls/prctl.ts';
import { prioritySyscalls } from './calls/priority.ts';
import { waitSyscalls } from './calls/wait.ts';

export const taskSyscalls: readonly Syscall[] = [
  ...capabilitySyscalls,
  ...cloneSyscalls,
  ...credentialSyscalls,
  ...execSyscalls,
  ...identitySyscalls,
  ...limitSyscalls,
  ...machineSyscalls,
  ...namespaceSyscalls,
  ...pidfdSyscalls,
  ...prctlSyscalls,
  ...prioritySyscalls,
  ...waitSyscalls,
];
