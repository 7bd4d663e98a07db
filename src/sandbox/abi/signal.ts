// Signals: numbers, dispositions, codes and the layouts of sigaction, siginfo, stack_t and the x86-64 signal frame
// (asm/signal.h, asm-generic/siginfo.h, asm/sigcontext.h, asm/ucontext.h of include/uapi).

export const Signal = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGSTKFLT: 16,
  SIGCHLD: 17,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGURG: 23,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGWINCH: 28,
  SIGIO: 29,
  SIGPWR: 30,
  SIGSYS: 31,
  /** The kernel's first real-time signal; a libc takes the first few for itself. */
  SIGRTMIN: 32,
  SIGRTMAX: 64,
} as const;

/** sa_flags. */
export const SignalFlag = {
  SA_NOCLDSTOP: 0x1,
  SA_NOCLDWAIT: 0x2,
  SA_SIGINFO: 0x4,
  SA_EXPOSE_TAGBITS: 0x800,
  SA_RESTORER: 0x0400_0000,
  SA_ONSTACK: 0x0800_0000,
  SA_RESTART: 0x1000_0000,
  SA_NODEFER: 0x4000_0000,
  SA_RESETHAND: 0x8000_0000,
} as const;

/** UAPI_SA_FLAGS: the rest is dropped, so that programs can find out what the kernel knows. */
export const knownSignalFlags = 0xdc00_0807;

export const SIG_DFL = 0;
export const SIG_IGN = 1;

/** rt_sigprocmask's first argument. */
export const MaskOperation = { SIG_BLOCK: 0, SIG_UNBLOCK: 1, SIG_SETMASK: 2 } as const;

/** si_code. */
export const SignalCode = {
  SI_USER: 0,
  SI_KERNEL: 0x80,
  SI_QUEUE: -1,
  SI_TIMER: -2,
  SI_MESGQ: -3,
  SI_ASYNCIO: -4,
  SI_SIGIO: -5,
  SI_TKILL: -6,
  SI_DETHREAD: -7,
  ILL_ILLOPN: 2,
  FPE_INTDIV: 1,
  SEGV_MAPERR: 1,
  SEGV_ACCERR: 2,
  BUS_ADRALN: 1,
  BUS_ADRERR: 2,
  BUS_OBJERR: 3,
  TRAP_BRKPT: 1,
  TRAP_TRACE: 2,
  CLD_EXITED: 1,
  CLD_KILLED: 2,
  CLD_DUMPED: 3,
  CLD_TRAPPED: 4,
  CLD_STOPPED: 5,
  CLD_CONTINUED: 6,
  POLL_IN: 1,
  POLL_OUT: 2,
  POLL_MSG: 3,
  POLL_ERR: 4,
  POLL_PRI: 5,
  POLL_HUP: 6,
  SYS_SECCOMP: 1,
} as const;

/** What a signal does to a process that does not handle it. */
export type DefaultAction = 'terminate' | 'core' | 'ignore' | 'stop' | 'continue';

/** signal(7), "Standard signals". Real-time signals terminate. */
export const defaultActions: { readonly [signal: number]: DefaultAction } = {
  3: 'core',
  4: 'core',
  5: 'core',
  6: 'core',
  7: 'core',
  8: 'core',
  11: 'core',
  17: 'ignore',
  18: 'continue',
  19: 'stop',
  20: 'stop',
  21: 'stop',
  22: 'stop',
  23: 'ignore',
  24: 'core',
  25: 'core',
  28: 'ignore',
  31: 'core',
};

export function defaultAction(signal: number): DefaultAction {
  return defaultActions[signal] ?? 'terminate';
}

/** struct sigaction as rt_sigaction(2) takes it: sizes and offsets in bytes. */
export const SigactionLayout = { size: 32, handler: 0, flags: 8, restorer: 16, mask: 24 } as const;

/** siginfo_t; the union begins at 16. */
export const SiginfoLayout = {
  size: 128,
  /** Bytes that any kind uses (kernel_siginfo); the rest is zero. */
  used: 48,
  signo: 0,
  errno: 4,
  code: 8,
  pid: 16,
  uid: 20,
  value: 24,
  timer: 16,
  overrun: 20,
  status: 24,
  utime: 32,
  stime: 40,
  address: 16,
  band: 16,
  fd: 24,
  callAddress: 16,
  syscall: 24,
  arch: 28,
} as const;

/** stack_t. */
export const StackLayout = { size: 24, sp: 0, flags: 8, length: 16 } as const;

export const SS_ONSTACK = 1;
export const SS_DISABLE = 2;
/** 1 << 31: the alternate stack is forgotten while its handler runs. */
export const SS_AUTODISARM = 0x8000_0000;
export const MINSIGSTKSZ = 2048;

/** struct rt_sigframe of x86-64: return address, ucontext, siginfo. Offsets in bytes from its beginning. */
export const FrameLayout = {
  size: 440,
  returnAddress: 0,
  flags: 8,
  link: 16,
  stack: 24,
  /** struct sigcontext_64. */
  r8: 48,
  r9: 56,
  r10: 64,
  r11: 72,
  r12: 80,
  r13: 88,
  r14: 96,
  r15: 104,
  rdi: 112,
  rsi: 120,
  rbp: 128,
  rbx: 136,
  rdx: 144,
  rax: 152,
  rcx: 160,
  rsp: 168,
  rip: 176,
  eflags: 184,
  cs: 192,
  gs: 194,
  fs: 196,
  ss: 198,
  error: 200,
  trap: 208,
  oldMask: 216,
  cr2: 224,
  fpstate: 232,
  mask: 304,
  info: 312,
} as const;

/** uc_flags: xstate in fpstate, ss is saved, and restored as it is. */
export const UC_FP_XSTATE = 1;
export const UC_SIGCONTEXT_SS = 2;
export const UC_STRICT_RESTORE_SS = 4;

export const userCodeSegment = 0x33;
export const userStackSegment = 0x2b;

/** EFLAGS that rt_sigreturn takes from the frame: AC, RF, OF, DF, TF, SF, ZF, AF, PF, CF. */
export const restorableFlags = 0x5_0dd5n;
/** EFLAGS cleared when a handler begins: DF, RF, TF. */
export const handlerClearedFlags = 0x1_0500n;
/** Trap flag. */
export const trapFlag = 0x100n;

/** AUDIT_ARCH_X86_64. */
export const auditArch = 0xc000_003e;

/** RLIMIT_SIGPENDING. */
export const RLIMIT_SIGPENDING = 11;

const names = new Map<number, string>(
  Object.entries(Signal)
    .filter(([name]) => !name.startsWith('SIGRT'))
    .map(([name, number]) => [number, name]),
);

/** "SIGTERM", "SIGRT_3" as strace writes them (real-time signals count from 32), or the number. */
export function signalName(signal: number): string {
  const name = names.get(signal);
  if (name !== undefined) return name;
  return signal >= 32 && signal <= 64 ? `SIGRT_${signal - 32}` : String(signal);
}
