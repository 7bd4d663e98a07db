// System V IPC and POSIX message queues: flags, commands, structures (include/uapi/linux/{ipc,shm,sem,msg,mqueue}.h as
// x86-64 has them) and default limits.

export const IPC_PRIVATE = 0;
export const IpcFlag = { create: 0o1000, exclusive: 0o2000, noWait: 0o4000 } as const;

/** IPC_*, SHM_*, SEM_*, MSG_* commands of the …ctl calls. */
export const IpcCommand = { remove: 0, set: 1, stat: 2, info: 3 } as const;
export const ShmCommand = { lock: 11, unlock: 12, stat: 13, info: 14, statAny: 15 } as const;
export const SemCommand = {
  getPid: 11,
  getValue: 12,
  getAll: 13,
  getDecreasing: 14,
  getZero: 15,
  setValue: 16,
  setAll: 17,
  stat: 18,
  info: 19,
  statAny: 20,
} as const;
export const MsgCommand = { stat: 11, info: 12, statAny: 13 } as const;

/** struct ipc64_perm. */
export const IpcPerm = { key: 0, uid: 4, gid: 8, cuid: 12, cgid: 16, mode: 20, seq: 24, size: 48 } as const;

/** struct shmid64_ds, shminfo64, shm_info. */
export const ShmDs = {
  bytes: 48,
  atime: 56,
  dtime: 64,
  ctime: 72,
  creator: 80,
  last: 84,
  attached: 88,
  size: 112,
} as const;
export const shmInfo64Size = 72;
export const shmInfoSize = 48;
/** struct semid64_ds, seminfo. */
export const SemDs = { otime: 48, ctime: 64, count: 80, size: 104 } as const;
export const semInfoSize = 40;
/** struct msqid64_ds, msginfo. */
export const MsgDs = {
  stime: 48,
  rtime: 56,
  ctime: 64,
  bytes: 72,
  messages: 80,
  maximum: 88,
  lastSender: 96,
  lastReceiver: 100,
  size: 120,
} as const;
export const msgInfoSize = 32;

export const ShmFlag = {
  hugeTlb: 0o4000,
  noReserve: 0o10000,
  readOnly: 0o10000,
  round: 0o20000,
  remap: 0o40000,
  execute: 0o100000,
  /** In shm_perm.mode: to be destroyed with the last detach; locked in memory. */
  destroy: 0o1000,
  locked: 0o2000,
} as const;

export const SEM_UNDO = 0x1000;
/** struct sembuf: u16 number, s16 operation, s16 flags. */
export const Sembuf = { number: 0, operation: 2, flags: 4, size: 6 } as const;

export const MsgFlag = { noError: 0o10000, except: 0o20000, copy: 0o40000 } as const;

/** Defaults of /proc/sys/kernel/{shm*,sem,msg*}. */
export const IpcLimit = {
  shmMaximum: 18_446_744_073_692_774_399n,
  shmAll: 18_446_744_073_692_774_399n,
  shmSegments: 4096,
  semPerSet: 32_000,
  semTotal: 1_024_000_000,
  semOperations: 500,
  semSets: 32_000,
  semValue: 32_767,
  msgSize: 8192,
  msgQueueBytes: 16_384,
  msgQueues: 32_000,
} as const;
