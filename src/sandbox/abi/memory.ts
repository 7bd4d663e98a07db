// Memory management as programs see it: include/uapi/asm-generic/mman-common.h, mman.h, linux/membarrier.h,
// linux/mempolicy.h. Names of the field without their prefixes.

export const pageSize = 4096;
export const pmdSize = 0x20_0000;

/** PROT_* beyond read, write and execute (Protection in platform/contract.ts). */
export const Prot = {
  read: 1,
  write: 2,
  exec: 4,
  sem: 8,
  growsDown: 0x0100_0000,
  growsUp: 0x0200_0000,
} as const;

/** MAP_*. */
export const MapFlag = {
  shared: 0x01,
  private: 0x02,
  sharedValidate: 0x03,
  droppable: 0x08,
  type: 0x0f,
  fixed: 0x10,
  anonymous: 0x20,
  low32: 0x40,
  above4g: 0x80,
  growsDown: 0x100,
  denyWrite: 0x800,
  executable: 0x1000,
  locked: 0x2000,
  noReserve: 0x4000,
  populate: 0x8000,
  nonBlock: 0x1_0000,
  stack: 0x2_0000,
  hugeTlb: 0x4_0000,
  sync: 0x8_0000,
  fixedNoReplace: 0x10_0000,
  /** MAP_HUGE_2MB and MAP_HUGE_1GB: bits 26–31 are the logarithm of a huge page's size. */
  hugeSizes: (21 << 26) | (30 << 26),
} as const;

/** MREMAP_*. */
export const Mremap = { mayMove: 1, fixed: 2, dontUnmap: 4 } as const;

/** MADV_*. */
export const Madv = {
  normal: 0,
  random: 1,
  sequential: 2,
  willNeed: 3,
  dontNeed: 4,
  free: 8,
  remove: 9,
  dontFork: 10,
  doFork: 11,
  mergeable: 12,
  unmergeable: 13,
  hugePage: 14,
  noHugePage: 15,
  dontDump: 16,
  doDump: 17,
  wipeOnFork: 18,
  keepOnFork: 19,
  cold: 20,
  pageOut: 21,
  populateRead: 22,
  populateWrite: 23,
  dontNeedLocked: 24,
  collapse: 25,
  guardInstall: 102,
  guardRemove: 103,
} as const;

/** MS_* of msync(2). */
export const Msync = { async: 1, invalidate: 2, sync: 4 } as const;

/** MCL_* of mlockall(2), and MLOCK_ONFAULT of mlock2(2). */
export const MlockAll = { current: 1, future: 2, onFault: 4 } as const;
export const mlockOnFault = 1;

/** MEMBARRIER_CMD_*. */
export const Membarrier = {
  query: 0,
  global: 1,
  globalExpedited: 2,
  registerGlobalExpedited: 4,
  privateExpedited: 8,
  registerPrivateExpedited: 16,
  privateExpeditedSyncCore: 32,
  registerPrivateExpeditedSyncCore: 64,
  privateExpeditedRseq: 128,
  registerPrivateExpeditedRseq: 256,
  getRegistrations: 512,
  flagCpu: 1,
} as const;

/** MPOL_*. */
export const Mpol = {
  default: 0,
  preferred: 1,
  bind: 2,
  interleave: 3,
  local: 4,
  preferredMany: 5,
  weightedInterleave: 6,
  count: 7,
  /** Mode flags. */
  staticNodes: 0x8000,
  relativeNodes: 0x4000,
  numaBalancing: 0x2000,
  /** get_mempolicy(2). */
  flagNode: 1,
  flagAddress: 2,
  flagMemsAllowed: 4,
  /** mbind(2). */
  strict: 1,
  move: 2,
  moveAll: 4,
} as const;

/** Personality bits (include/uapi/linux/personality.h) that memory and loading depend on. */
export const Personality = {
  addrNoRandomize: 0x004_0000,
  addrCompatLayout: 0x020_0000,
  readImpliesExec: 0x040_0000,
  /** PER_CLEAR_ON_SETID. */
  clearOnSetId: 0x004_0000 | 0x020_0000 | 0x040_0000 | 0x010_0000,
} as const;
