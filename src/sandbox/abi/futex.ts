// Constants and structures of futex(2) (include/uapi/linux/futex.h).

/** FUTEX_* commands; the low 7 bits of futex_op. */
export const FutexCommand = {
  wait: 0,
  wake: 1,
  fd: 2,
  requeue: 3,
  cmpRequeue: 4,
  wakeOp: 5,
  lockPi: 6,
  unlockPi: 7,
  trylockPi: 8,
  waitBitset: 9,
  wakeBitset: 10,
  waitRequeuePi: 11,
  cmpRequeuePi: 12,
  lockPi2: 13,
} as const;

export const FutexFlag = { private: 128, clockRealtime: 256 } as const;

/** FUTEX_OP_*. */
export const FutexOperator = { set: 0, add: 1, or: 2, andNot: 3, xor: 4 } as const;

/** FUTEX_OP_CMP_*. */
export const FutexCompare = {
  equal: 0,
  notEqual: 1,
  less: 2,
  lessOrEqual: 3,
  greater: 4,
  greaterOrEqual: 5,
} as const;

/** Bits of a word that is a robust or PI lock, beside the owner's thread number. */
export const FutexWord = { waiters: 0x8000_0000, ownerDied: 0x4000_0000, tidMask: 0x3fff_ffff } as const;

/** struct robust_list_head: next, futex_offset, list_op_pending. */
export const RobustListHead = { next: 0, offset: 8, pending: 16, size: 24 } as const;

/** ROBUST_LIST_LIMIT: against rings. */
export const robustListLimit = 2048;

/** struct futex_waitv: u64 value, u64 address, u32 flags, u32 reserved. */
export const FutexWaitv = { value: 0, address: 8, flags: 16, reserved: 20, size: 24, maximum: 128 } as const;

/** FUTEX2_*. */
export const Futex2Flag = { sizeMask: 3, size32: 2, private: 128 } as const;
