// Resource limits and usage (sys/resource.h): getrlimit(2), getrusage(2), getpriority(2).

export const Rlimit = {
  cpu: 0,
  fsize: 1,
  data: 2,
  stack: 3,
  core: 4,
  rss: 5,
  nproc: 6,
  nofile: 7,
  memlock: 8,
  as: 9,
  locks: 10,
  sigpending: 11,
  msgqueue: 12,
  nice: 13,
  rtprio: 14,
  rttime: 15,
} as const;

export const rlimitCount = 16;

/** RLIM_INFINITY as the program writes it; inside the kernel it is Infinity. */
export const rlimInfinity = 0xffff_ffff_ffff_ffffn;

export const RusageWho = { self: 0, children: -1, both: -2, thread: 1 } as const;

export const PriorityWhich = { process: 0, group: 1, user: 2 } as const;

/** Size of struct rusage: two timevals and fourteen longs. */
export const rusageSize = 144;

export interface ResourceUsage {
  /** Nanoseconds. */
  user: number;
  system: number;
  /** Bytes; ru_maxrss is in KiB. */
  maximumResident: number;
  minorFaults: number;
  majorFaults: number;
  voluntarySwitches: number;
  involuntarySwitches: number;
}

export function encodeRusage(usage: ResourceUsage): Uint8Array {
  const bytes = new Uint8Array(rusageSize);
  const view = new DataView(bytes.buffer);
  const timeval = (offset: number, nanoseconds: number): void => {
    view.setBigInt64(offset, BigInt(Math.floor(nanoseconds / 1e9)), true);
    view.setBigInt64(offset + 8, BigInt(Math.floor((nanoseconds % 1e9) / 1000)), true);
  };
  timeval(0, usage.user);
  timeval(16, usage.system);
  view.setBigInt64(32, BigInt(Math.floor(usage.maximumResident / 1024)), true);
  view.setBigInt64(64, BigInt(usage.minorFaults), true);
  view.setBigInt64(72, BigInt(usage.majorFaults), true);
  view.setBigInt64(128, BigInt(usage.voluntarySwitches), true);
  view.setBigInt64(136, BigInt(usage.involuntarySwitches), true);
  return bytes;
}
