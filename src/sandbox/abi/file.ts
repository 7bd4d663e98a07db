// Constants of the file system calls: permission bits, AT_*, RESOLVE_*, fcntl commands, seals, access and rename flags
// (linux/fcntl.h, linux/openat2.h, linux/stat.h, linux/fs.h, linux/falloc.h). O_* and S_IF* are in open.ts.

/** Bits of st_mode below the file type. */
export const ModeBit = {
  setUid: 0o4000,
  setGid: 0o2000,
  sticky: 0o1000,
  groupExecute: 0o010,
  /** S_IALLUGO. */
  all: 0o7777,
  /** S_IRWXUGO. */
  permissions: 0o777,
} as const;

/** MAY_*: what a permission check asks for; the same bits as R_OK, W_OK and X_OK of access(2). */
export const Access = { execute: 1, write: 2, read: 4 } as const;

export const At = {
  cwd: -100,
  symlinkNoFollow: 0x100,
  /** AT_EACCESS for faccessat, AT_REMOVEDIR for unlinkat, AT_HANDLE_FID for name_to_handle_at. */
  effectiveAccess: 0x200,
  removeDirectory: 0x200,
  symlinkFollow: 0x400,
  noAutomount: 0x800,
  emptyPath: 0x1000,
  statxForceSync: 0x2000,
  statxDontSync: 0x4000,
  statxSyncType: 0x6000,
  recursive: 0x8000,
} as const;

/** openat2(2). */
export const Resolve = {
  noXdev: 0x01,
  noMagicLinks: 0x02,
  noSymlinks: 0x04,
  beneath: 0x08,
  inRoot: 0x10,
  cached: 0x20,
  valid: 0x3f,
} as const;

export const Seek = { set: 0, current: 1, end: 2, data: 3, hole: 4 } as const;

/** fcntl(2) commands. */
export const Fcntl = {
  dupFd: 0,
  getFd: 1,
  setFd: 2,
  getFl: 3,
  setFl: 4,
  getLock: 5,
  setLock: 6,
  setLockWait: 7,
  setOwner: 8,
  getOwner: 9,
  setSignal: 10,
  getSignal: 11,
  setOwnerEx: 15,
  getOwnerEx: 16,
  getOwnerUids: 17,
  ofdGetLock: 36,
  ofdSetLock: 37,
  ofdSetLockWait: 38,
  setLease: 1024,
  getLease: 1025,
  notify: 1026,
  dupFdQuery: 1027,
  createdQuery: 1028,
  dupFdCloexec: 1030,
  setPipeSize: 1031,
  getPipeSize: 1032,
  addSeals: 1033,
  getSeals: 1034,
  getRwHint: 1035,
  setRwHint: 1036,
  getFileRwHint: 1037,
  setFileRwHint: 1038,
} as const;

export const Seal = {
  seal: 0x01,
  shrink: 0x02,
  grow: 0x04,
  write: 0x08,
  futureWrite: 0x10,
  exec: 0x20,
  all: 0x3f,
} as const;

/** memfd_create(2). */
export const MemoryFileFlag = {
  closeOnExec: 0x01,
  allowSealing: 0x02,
  hugeTlb: 0x04,
  noExecSeal: 0x08,
  exec: 0x10,
} as const;

/** renameat2(2). */
export const Rename = { noReplace: 1, exchange: 2, whiteout: 4 } as const;

/** fallocate(2). */
export const Allocate = {
  keepSize: 0x01,
  punchHole: 0x02,
  collapseRange: 0x08,
  zeroRange: 0x10,
  insertRange: 0x20,
  unshareRange: 0x40,
  writeZeroes: 0x80,
} as const;

/** Flags of preadv2 and pwritev2. */
export const RwFlag = {
  highPriority: 0x01,
  dataSync: 0x02,
  sync: 0x04,
  noWait: 0x08,
  append: 0x10,
  noAppend: 0x20,
  atomic: 0x40,
  dontCache: 0x80,
} as const;

/** flock(2). */
export const Flock = { shared: 1, exclusive: 2, nonBlock: 4, unlock: 8, mandatory: 32 } as const;

/** l_type of struct flock. */
export const LockType = { read: 0, write: 1, unlock: 2 } as const;

/** splice(2), tee(2), vmsplice(2). */
export const Splice = { move: 1, nonBlock: 2, more: 4, gift: 8 } as const;

/** setxattr(2). */
export const Xattr = {
  create: 1,
  replace: 2,
  nameMaximum: 255,
  sizeMaximum: 65536,
  listMaximum: 65536,
} as const;

/** Most bytes of a name, and of a path with its end. */
export const nameMaximum = 255;
export const pathMaximum = 4096;

/** statfs(2) f_type. */
export const SuperMagic = {
  tmpfs: 0x01021994,
  proc: 0x9fa0,
  sysfs: 0x62656572,
  devpts: 0x1cd1,
  pipefs: 0x50495045,
  sockfs: 0x534f434b,
  anonInode: 0x09041934,
  overlay: 0x794c7630,
} as const;
