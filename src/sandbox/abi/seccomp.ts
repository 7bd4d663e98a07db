// seccomp(2) and classic BPF: operations, flags, actions, instruction codes, struct seccomp_data (include/uapi/linux
// seccomp.h, filter.h, bpf_common.h).

export const SeccompOperation = {
  SET_MODE_STRICT: 0,
  SET_MODE_FILTER: 1,
  GET_ACTION_AVAIL: 2,
  GET_NOTIF_SIZES: 3,
} as const;

export const SeccompFlag = {
  TSYNC: 1,
  LOG: 2,
  SPEC_ALLOW: 4,
  NEW_LISTENER: 8,
  TSYNC_ESRCH: 16,
  WAIT_KILLABLE_RECV: 32,
} as const;

export const allSeccompFlags = 0x3f;

/** SECCOMP_RET_*: the upper 16 bits of what a filter returns; as signed numbers the lowest takes precedence. */
export const SeccompAction = {
  KILL_PROCESS: 0x8000_0000,
  KILL_THREAD: 0x0000_0000,
  TRAP: 0x0003_0000,
  ERRNO: 0x0005_0000,
  USER_NOTIF: 0x7fc0_0000,
  TRACE: 0x7ff0_0000,
  LOG: 0x7ffc_0000,
  ALLOW: 0x7fff_0000,
} as const;

export const SECCOMP_RET_ACTION_FULL = 0xffff_0000;
export const SECCOMP_RET_DATA = 0x0000_ffff;

/** struct seccomp_data in bytes: number, architecture, instruction pointer, six arguments. */
export const seccompDataSize = 64;
/** The first byte that is not the same for every call of one number: the instruction pointer. */
export const seccompVariableFrom = 8;

/** struct sock_fprog and struct sock_filter. */
export const FilterProgramLayout = { size: 16, length: 0, filter: 8 } as const;
export const FilterInstructionLayout = { size: 8, code: 0, jt: 2, jf: 3, k: 4 } as const;

/** BPF_MAXINSNS. */
export const maximumInstructions = 4096;
/** Over a whole stack of filters, with 4 for each (MAX_INSNS_PER_PATH). */
export const maximumPath = 32_768;
/** BPF_MEMWORDS. */
export const scratchWords = 16;

/** Instruction codes by class, size, mode, operation and source (K or X). */
export const Bpf = {
  LD_W_ABS: 0x20,
  LD_H_ABS: 0x28,
  LD_B_ABS: 0x30,
  LD_W_IND: 0x40,
  LD_H_IND: 0x48,
  LD_B_IND: 0x50,
  LD_W_LEN: 0x80,
  LD_IMM: 0x00,
  LD_MEM: 0x60,
  LDX_IMM: 0x01,
  LDX_MEM: 0x61,
  LDX_W_LEN: 0x81,
  LDX_B_MSH: 0xb1,
  ST: 0x02,
  STX: 0x03,
  ADD_K: 0x04,
  ADD_X: 0x0c,
  SUB_K: 0x14,
  SUB_X: 0x1c,
  MUL_K: 0x24,
  MUL_X: 0x2c,
  DIV_K: 0x34,
  DIV_X: 0x3c,
  OR_K: 0x44,
  OR_X: 0x4c,
  AND_K: 0x54,
  AND_X: 0x5c,
  LSH_K: 0x64,
  LSH_X: 0x6c,
  RSH_K: 0x74,
  RSH_X: 0x7c,
  NEG: 0x84,
  MOD_K: 0x94,
  MOD_X: 0x9c,
  XOR_K: 0xa4,
  XOR_X: 0xac,
  JA: 0x05,
  JEQ_K: 0x15,
  JEQ_X: 0x1d,
  JGT_K: 0x25,
  JGT_X: 0x2d,
  JGE_K: 0x35,
  JGE_X: 0x3d,
  JSET_K: 0x45,
  JSET_X: 0x4d,
  RET_K: 0x06,
  RET_A: 0x16,
  TAX: 0x07,
  TXA: 0x87,
} as const;

/** ioctl(2) on a listener. ID_VALID had the wrong direction at first, and both are known. */
export const SeccompIoctl = {
  RECV: 0xc050_2100,
  SEND: 0xc018_2101,
  ID_VALID: 0x4008_2102,
  ID_VALID_WRONG: 0x8008_2102,
  ADDFD: 0x4018_2103,
} as const;

/** SECCOMP_USER_NOTIF_FLAG_CONTINUE: the call runs after all. */
export const notificationContinue = 1;
export const SECCOMP_ADDFD_FLAG_SETFD = 1;
export const SECCOMP_ADDFD_FLAG_SEND = 2;

/** struct seccomp_notif, seccomp_notif_resp, seccomp_notif_addfd, seccomp_notif_sizes. */
export const NotificationLayout = { size: 80, id: 0, pid: 8, flags: 12, data: 16 } as const;
export const ResponseLayout = { size: 24, id: 0, value: 8, error: 16, flags: 20 } as const;
export const AddFdLayout = { size: 24, id: 0, flags: 8, source: 12, target: 16, targetFlags: 20 } as const;
export const NotificationSizesLayout = { size: 6, notification: 0, response: 2, data: 4 } as const;
