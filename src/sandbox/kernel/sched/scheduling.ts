// What the sched_* calls and nice keep about a task. The host's scheduler runs the threads; the policy is what programs
// ask for and read back (and what limits apply to), as in a container without the right to real-time scheduling.

/** SCHED_* of linux/sched.h. */
export const SchedulingPolicy = {
  other: 0,
  fifo: 1,
  roundRobin: 2,
  batch: 3,
  idle: 5,
  deadline: 6,
} as const;

export class Scheduling {
  policy: number = SchedulingPolicy.other;
  /** sched_priority: 1 … 99 for fifo and roundRobin, else 0. */
  priority = 0;
  /** -20 … 19. */
  nice = 0;
  resetOnFork = false;
  /** sched_attr's: of SCHED_DEADLINE; runtime also as a hint for the slice of the fair policies. Nanoseconds, 0: none. */
  runtime = 0;
  deadline = 0;
  period = 0;
  /** I/O priority (ioprio_set); 0: none of its own. */
  ioPriority = 0;
  /** Bit i of affinity[i >> 5]: may run on processor i; undefined: on all. */
  affinity: Uint32Array | undefined;

  /** For a child or a further thread (sched_fork). */
  fork(): Scheduling {
    const copy = new Scheduling();
    copy.nice = this.nice;
    copy.runtime = this.runtime;
    copy.deadline = this.deadline;
    copy.period = this.period;
    copy.ioPriority = this.ioPriority;
    copy.affinity = this.affinity?.slice();
    if (!this.resetOnFork) {
      copy.policy = this.policy;
      copy.priority = this.priority;
      return copy;
    }
    const realTime = this.policy === SchedulingPolicy.fifo || this.policy === SchedulingPolicy.roundRobin;
    copy.policy =
      realTime || this.policy === SchedulingPolicy.deadline ? SchedulingPolicy.other : this.policy;
    if (realTime || copy.nice < 0) copy.nice = 0;
    return copy;
  }
}
