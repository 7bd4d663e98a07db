// wait4(2) and waitid(2): options, id types and child codes (include/uapi/linux/wait.h, asm-generic/siginfo.h).

export const WaitOption = {
  noHang: 0x1,
  /** WUNTRACED and WSTOPPED. */
  stopped: 0x2,
  exited: 0x4,
  continued: 0x8,
  noWait: 0x0100_0000,
  noThread: 0x2000_0000,
  all: 0x4000_0000,
  clone: 0x8000_0000,
} as const;

export const WaitIdType = { all: 0, pid: 1, group: 2, pidfd: 3 } as const;

export const ChildCode = { exited: 1, killed: 2, dumped: 3, trapped: 4, stopped: 5, continued: 6 } as const;

/** Wait status of a child that goes on. */
export const continuedStatus = 0xffff;

/** Offsets in siginfo_t of what waitid fills in. */
export const WaitInfo = { signal: 0, error: 4, code: 8, pid: 16, uid: 20, status: 24, size: 28 } as const;
