// Resource limits of a process (getrlimit(2)): Linux's defaults for the first one, and the checks of a change.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Rlimit, rlimitCount } from '../../abi/resource.ts';
import type { Credentials, ResourceLimit } from '../contract.ts';

const unlimited: ResourceLimit = { soft: Infinity, hard: Infinity };

/** sysctl fs.nr_open: no more than this for RLIMIT_NOFILE. */
export const maximumOpenFiles = 1_048_576;

/** INIT_RLIMITS, with RLIMIT_NPROC and RLIMIT_SIGPENDING from the number of tasks that the sandbox allows. */
export function defaultLimits(tasks: number): ResourceLimit[] {
  const limits: ResourceLimit[] = new Array(rlimitCount).fill(unlimited);
  limits[Rlimit.stack] = { soft: 8 * 1024 * 1024, hard: Infinity };
  limits[Rlimit.core] = { soft: 0, hard: Infinity };
  limits[Rlimit.nproc] = { soft: tasks, hard: tasks };
  limits[Rlimit.nofile] = { soft: 1024, hard: 4096 };
  limits[Rlimit.memlock] = { soft: 8 * 1024 * 1024, hard: 8 * 1024 * 1024 };
  limits[Rlimit.sigpending] = { soft: tasks, hard: tasks };
  limits[Rlimit.msgqueue] = { soft: 819_200, hard: 819_200 };
  limits[Rlimit.nice] = { soft: 0, hard: 0 };
  limits[Rlimit.rtprio] = { soft: 0, hard: 0 };
  return limits;
}

/** Whether `changer` may set this limit in place of `old`: 0, -EINVAL or -EPERM (do_prlimit). */
export function checkLimit(
  resource: number,
  limit: ResourceLimit,
  old: ResourceLimit,
  changer: Credentials,
): number {
  if (limit.soft > limit.hard) return -Errno.EINVAL;
  if (resource === Rlimit.nofile && limit.hard > maximumOpenFiles) return -Errno.EPERM;
  if (limit.hard > old.hard && !changer.has(Capability.sysResource)) return -Errno.EPERM;
  return 0;
}
