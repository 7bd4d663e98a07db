// ptrace(2): requests, options, events and layouts (include/uapi/linux/ptrace.h, asm/ptrace-abi.h, sys/user.h).

export const PtraceRequest = {
  TRACEME: 0,
  PEEKTEXT: 1,
  PEEKDATA: 2,
  PEEKUSER: 3,
  POKETEXT: 4,
  POKEDATA: 5,
  POKEUSER: 6,
  CONT: 7,
  KILL: 8,
  SINGLESTEP: 9,
  GETREGS: 12,
  SETREGS: 13,
  GETFPREGS: 14,
  SETFPREGS: 15,
  ATTACH: 16,
  DETACH: 17,
  SYSCALL: 24,
  ARCH_PRCTL: 30,
  SYSEMU: 31,
  SYSEMU_SINGLESTEP: 32,
  SETOPTIONS: 0x4200,
  GETEVENTMSG: 0x4201,
  GETSIGINFO: 0x4202,
  SETSIGINFO: 0x4203,
  GETREGSET: 0x4204,
  SETREGSET: 0x4205,
  SEIZE: 0x4206,
  INTERRUPT: 0x4207,
  LISTEN: 0x4208,
  PEEKSIGINFO: 0x4209,
  GETSIGMASK: 0x420a,
  SETSIGMASK: 0x420b,
  GET_SYSCALL_INFO: 0x420e,
} as const;

export const PtraceOption = {
  TRACESYSGOOD: 0x1,
  TRACEFORK: 0x2,
  TRACEVFORK: 0x4,
  TRACECLONE: 0x8,
  TRACEEXEC: 0x10,
  TRACEVFORKDONE: 0x20,
  TRACEEXIT: 0x40,
  TRACESECCOMP: 0x80,
  EXITKILL: 0x10_0000,
  SUSPEND_SECCOMP: 0x20_0000,
} as const;

export const allPtraceOptions = 0x30_00ff;

/** PTRACE_EVENT_*; event n below 8 is wanted with option bit n. */
export const PtraceEvent = {
  FORK: 1,
  VFORK: 2,
  CLONE: 3,
  EXEC: 4,
  VFORK_DONE: 5,
  EXIT: 6,
  SECCOMP: 7,
  STOP: 128,
} as const;

/** PTRACE_GETEVENTMSG in a syscall stop. */
export const PTRACE_EVENTMSG_SYSCALL_ENTRY = 1;
export const PTRACE_EVENTMSG_SYSCALL_EXIT = 2;

/** struct user: general registers, floating point, other things that read as zero, debug registers. */
export const UserLayout = { size: 912, registers: 216, debug: 848 } as const;

/** Note types of PTRACE_GETREGSET. */
export const RegisterSet = { prstatus: 1, fpregset: 2, xstate: 0x202 } as const;

/** struct ptrace_peeksiginfo_args. */
export const PeekSiginfoLayout = { size: 16, offset: 0, flags: 8, count: 12 } as const;
export const PTRACE_PEEKSIGINFO_SHARED = 1;

/** struct ptrace_syscall_info: sizes by kind, offsets. */
export const SyscallInfoLayout = {
  size: 88,
  op: 0,
  arch: 4,
  ip: 8,
  sp: 16,
  none: 24,
  number: 24,
  args: 32,
  entry: 80,
  data: 80,
  seccomp: 84,
  result: 24,
  isError: 32,
  exit: 33,
} as const;
export const SyscallInfoOp = { none: 0, entry: 1, exit: 2, seccomp: 3 } as const;

/** arch_prctl(2) codes. */
export const ArchPrctl = { SET_GS: 0x1001, SET_FS: 0x1002, GET_FS: 0x1003, GET_GS: 0x1004 } as const;

/** How the fpstate of a signal frame marks what it holds (struct _fpx_sw_bytes at byte 464 of the FXSAVE area). */
export const ExtendedStateLayout = {
  fxsave: 512,
  software: 464,
  magic: 0x4650_5853,
  features: 472,
  xstateSize: 480,
  /** XSAVE header. */
  present: 512,
  compaction: 520,
  headerEnd: 576,
  mxcsr: 24,
} as const;
