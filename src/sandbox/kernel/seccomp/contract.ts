// The seam between seccomp and tasks. `task.seccomp` is immutable and shared by inheritance: clone and exec keep it as it
// is. PR_SET_SECCOMP, PR_GET_SECCOMP and seccomp(2) go through seccomp/syscalls.ts.

export interface Seccomp {
  /** SECCOMP_MODE_*: 0 disabled, 1 strict, 2 filter. */
  readonly mode: 0 | 1 | 2;
  /** Number of filters (Seccomp_filters in /proc/pid/status). */
  readonly filters: number;
}
