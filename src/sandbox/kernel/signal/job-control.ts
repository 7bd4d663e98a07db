// What a thread must do for job control and ptrace, as bits of TaskSignalState.jobControl (task_struct.jobctl).

export const JobControl = {
  /** A stop signal was taken from the queue; a SIGCONT since then clears this. */
  stopDequeued: 1,
  /** The thread shall join a stop of the group. */
  stopPending: 2,
  /** … and counts among those that the stop waits for. */
  stopConsume: 4,
  /** A tracee shall trap into a stop. */
  trapStop: 8,
  /** A seized tracee shall tell its tracer that the state of job control changed. */
  trapNotify: 16,
  /** PTRACE_LISTEN: stopped, but tells of changes. */
  listening: 32,
  /** Any of these: signal_pending. */
  pending: 2 | 8 | 16,
} as const;
