// clone(2), clone3(2), unshare(2), setns(2): flags and struct clone_args (include/uapi/linux/sched.h).

export const Clone = {
  /** clone(2)'s low byte: the exit signal. */
  signalMask: 0xff,
  newTime: 0x80,
  vm: 0x100,
  fs: 0x200,
  files: 0x400,
  sighand: 0x800,
  pidfd: 0x1000,
  ptrace: 0x2000,
  vfork: 0x4000,
  parent: 0x8000,
  thread: 0x1_0000,
  newNs: 0x2_0000,
  sysvsem: 0x4_0000,
  setTls: 0x8_0000,
  parentSetTid: 0x10_0000,
  childClearTid: 0x20_0000,
  detached: 0x40_0000,
  untraced: 0x80_0000,
  childSetTid: 0x100_0000,
  newCgroup: 0x200_0000,
  newUts: 0x400_0000,
  newIpc: 0x800_0000,
  newUser: 0x1000_0000,
  newPid: 0x2000_0000,
  newNet: 0x4000_0000,
  io: 0x8000_0000,
  /** The flags above fit in 32 bits; those of clone3 alone are kept in a word of their own (bits 32 and 33). */
  legacyMask: 0xffff_ffff,
} as const;

/** Bits 32 and up of clone3's flags. */
export const CloneHigh = { clearSighand: 1, intoCgroup: 2 } as const;

/** All that make or enter a namespace. */
export const namespaceFlags = 0x7e02_0080;

export const CloneArguments = {
  flags: 0,
  pidfd: 8,
  childTid: 16,
  parentTid: 24,
  exitSignal: 32,
  stack: 40,
  stackSize: 48,
  tls: 56,
  setTid: 64,
  setTidSize: 72,
  cgroup: 80,
  sizeVersion0: 64,
  sizeVersion1: 80,
  sizeVersion2: 88,
} as const;

/** The deepest nesting of PID and user namespaces. */
export const maximumNamespaceLevel = 32;
