// Structures of sched_setattr(2) and sysinfo(2) (include/uapi/linux/sched/types.h, sysinfo.h).

export const schedResetOnFork = 0x4000_0000;

/** struct sched_attr; sizes of its first and its present version. */
export const SchedAttr = {
  size: 0,
  policy: 4,
  flags: 8,
  nice: 16,
  priority: 20,
  runtime: 24,
  deadline: 32,
  period: 40,
  utilMinimum: 48,
  utilMaximum: 52,
  firstSize: 48,
  presentSize: 56,
} as const;

/** SCHED_FLAG_*. */
export const SchedFlag = {
  resetOnFork: 1,
  reclaim: 2,
  deadlineOverrun: 4,
  keepPolicy: 8,
  keepParameters: 16,
  utilClamp: 0x60,
  all: 0x7f,
} as const;

/** struct sysinfo. */
export const Sysinfo = {
  uptime: 0,
  loads: 8,
  totalRam: 32,
  freeRam: 40,
  sharedRam: 48,
  bufferRam: 56,
  totalSwap: 64,
  freeSwap: 72,
  processes: 80,
  totalHigh: 88,
  freeHigh: 96,
  unit: 104,
  size: 112,
} as const;
