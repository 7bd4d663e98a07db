// Where things lie in the addon's records and in every address space. Mirrors native/sentry/sentry.h (struct record)
// and native/stub/layout.h.

/** Bytes of a record; offsets of its fields, in bytes. */
export const Record = {
  size: 512,
  event: 0,
  number: 4,
  args: 8,
  result: 56,
  registers: 64,
  faultSignal: 280,
  faultCode: 284,
  faultAddress: 288,
  faultError: 296,
  faultTrap: 304,
  trapped: 308,
  haveRegisters: 312,
  command: 316,
  callAddress: 320,
} as const;

/** The record that no context has: for those that could not be made. */
export const spareRecord = 16383;

export const registerCount = 27;

export const Command = { result: 0, registers: 1 } as const;

export const Operation = {
  mmap: 1,
  munmap: 2,
  mprotect: 3,
  mremap: 4,
  madvise: 5,
  msync: 6,
  fail: 20,
} as const;

/** Pointers that rewritten call sites jump through, and what these point to. */
export const slotTable = { start: 0x050f_0000, length: 0x1_0000 } as const;
export const trampolines = { start: 0x7fe0_2000_0000, size: 128, count: 4096 } as const;

export const userRange = { start: 0x10000, end: 0x7f00_0000_0000 } as const;

/** What Addon.platformWait gives besides contexts. */
export const Wait = { deadline: -1, events: -2 } as const;

/** mmap(2), mremap(2). */
export const MapFlag = {
  shared: 0x01,
  private: 0x02,
  fixed: 0x10,
  anonymous: 0x20,
  noReserve: 0x4000,
  fixedNoReplace: 0x100000,
} as const;
export const RemapFlag = { mayMove: 1, fixed: 2, dontUnmap: 4 } as const;
