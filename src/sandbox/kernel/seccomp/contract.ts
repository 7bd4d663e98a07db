// The seam between seccomp and tasks. `task.seccomp` is immutable and shared by inheritance: clone and exec keep it as it
// is. PR_SET_SECCOMP, PR_GET_SECCOMP and seccomp(2) go through seccomp/syscalls.ts.

import type { Task } from '../contract.ts';

export interface Seccomp {
  /** SECCOMP_MODE_*: 0 disabled, 1 strict, 2 filter. */
  readonly mode: 0 | 1 | 2;
  /** Number of filters (Seccomp_filters in /proc/pid/status). */
  readonly filters: number;
  /**
   * Judges a system call before it runs; calls `then` once, at once or after a tracer was asked. allowed false: the call
   * does not run, its result is in rax (or the task ends). changed: number and arguments are to be read from the
   * registers again. Called only while Work.seccomp is set.
   */
  judge(task: Task, number: number, then: (allowed: boolean, changed: boolean) => void): void;
  /** A thread under it has ended and left its process: listeners look whether it was the last. */
  threadEnded(): void;
}
