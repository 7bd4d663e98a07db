// The contract between the kernel and a platform: how a program's instructions are run and its system calls caught.
//
// An address space is a process of the host's that contains nothing but a stub and what the program mapped; the host's
// own memory management does demand paging and copy on write for private memory, and shared memory comes from memory
// files and donated descriptors. A context is one thread of that process and carries one thread of the program.
//
// The kernel is one loop:
//
//     for (;;) { const context = platform.wait(deadline); if (context) handle(context); }
//
// A context is either running (the program's instructions are executed) or stopped with an event. While it is stopped
// its event, arguments and registers are a private copy: nothing that the program does can change them. A stopped
// context stays stopped until `resume…` is called, for as long as the system call blocks.
//
// Changes of an address space (map, unmap, …) are made through one of its stopped contexts. A platform may queue them
// and carry them out when the context resumes; if one then fails, the program does not continue: the context stops
// again with event `operationFailed`, so that the caller can undo its books and resume with the error.
// A program can at most harm itself: a platform treats everything that it reads from memory that a program can write
// as hostile, and ends the address space (event `died` for its contexts) when the stub breaks its protocol.

import type { HostFd } from '../host/contract.ts';

/** What stopped a context. Numbers, because this is compared for every system call. */
export const ContextEvent = {
  /** Not stopped. */
  none: 0,
  /** A system call: `number` and `args`. */
  syscall: 1,
  /** A processor exception: `fault`. */
  fault: 2,
  /** `interrupt()` stopped it between two instructions of the program. */
  interrupt: 3,
  /** A context made by fork or spawnThread exists and waits for its first resume. */
  started: 4,
  /** A queued change of the address space failed: `failure` is the negative errno. */
  operationFailed: 5,
  /** The host's thread or process is gone (killed by the host, or its stub misbehaved): `deathSignal`. */
  died: 6,
} as const;
export type ContextEvent = (typeof ContextEvent)[keyof typeof ContextEvent];

export interface Fault {
  /** The signal that Linux would send: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP. */
  readonly signal: number;
  /** si_code as the host gave it. */
  readonly code: number;
  /** si_addr. */
  readonly address: number;
  /** x86 trap number and page-fault error code, as they appear in a signal frame. */
  readonly trap: number;
  readonly error: number;
}

/**
 * The system call's six arguments (rdi, rsi, rdx, r10, r8, r9), each readable in the width that the call gives it.
 */
export interface Arguments {
  /** Low 32 bits, signed (int, fd). */
  i32(index: number): number;
  /** Low 32 bits, unsigned (unsigned int, mode_t, flags). */
  u32(index: number): number;
  /** All 64 bits as an unsigned number: exact below 2^53, which every valid address is. */
  address(index: number): number;
  /** size_t: as address. */
  size(index: number): number;
  /** All 64 bits, signed (off_t, long): exact within ±2^53. */
  i64(index: number): number;
  /** All 64 bits, exact and unsigned. */
  big(index: number): bigint;
}

/** Indices into Registers, in the order of ptrace's user_regs_struct. */
export const Reg = {
  r15: 0,
  r14: 1,
  r13: 2,
  r12: 3,
  rbp: 4,
  rbx: 5,
  r11: 6,
  r10: 7,
  r9: 8,
  r8: 9,
  rax: 10,
  rcx: 11,
  rdx: 12,
  rsi: 13,
  rdi: 14,
  origRax: 15,
  rip: 16,
  cs: 17,
  eflags: 18,
  rsp: 19,
  ss: 20,
  fsBase: 21,
  gsBase: 22,
  ds: 23,
  es: 24,
  fs: 25,
  gs: 26,
} as const;

/** General registers; the layout of user_regs_struct (27 × 8 bytes), so that ptrace inside can hand it out as it is. */
export type Registers = BigUint64Array;

export interface Context {
  /** Whatever the kernel hangs on it (its Task). */
  owner: unknown;
  readonly addressSpace: AddressSpace;

  readonly event: ContextEvent;
  readonly number: number;
  readonly args: Arguments;
  readonly fault: Fault;
  readonly failure: number;
  readonly deathSignal: number;

  /** Leaves the system call with this value in rax and continues. */
  resume(result: number): void;
  /** As resume, for values beyond ±2^53. */
  resumeBig(result: bigint): void;
  /**
   * The program's registers while it is stopped. Changes count when it is resumed with resumeRegisters. rax of a
   * system call is what the program had (its number); origRax is the number during a system call, else -1.
   */
  registers(): Registers;
  /** Continues with the registers as they are now (after exec, signal delivery, sigreturn, a fault). */
  resumeRegisters(): void;
  /** Executes one instruction (or one system call's entry) and stops with a fault of SIGTRAP (ptrace inside). */
  step(): void;

  /** Size in bytes of the processor's extended state in signal frames (fpstate with its magic words). */
  readonly extendedStateSize: number;
  /** Writes the extended state to the program's memory at `address` (64-byte aligned). 0 or -EFAULT. */
  saveExtendedState(address: number): number;
  /** Loads it from there at resume; hostile contents give -EINVAL or a SIGSEGV fault, never more. address 0: reset. */
  loadExtendedState(address: number): number;
  /** The same to and from the kernel's own bytes (ptrace inside: NT_X86_XSTATE). */
  getExtendedState(): Uint8Array;
  setExtendedState(state: Uint8Array): number;

  /** Makes a running context stop with `interrupt` soon; nothing happens if it is stopped. May be called twice. */
  interrupt(): void;

  /**
   * Makes a copy of the whole address space (copy on write) with one context, a copy of this one. Carried out when this
   * context resumes. The new context stops with `started`; if the host refuses, this one gets operationFailed.
   */
  fork(): Context;
  /** A further thread in the same address space, with a copy of this context's registers and extended state. */
  spawnThread(): Context;
  /** Ends the thread for good. The last one of an address space leaves it alive until destroy(). */
  exit(): void;

  /**
   * Registers or unregisters a restartable sequence area (rseq(2)) with the host for the thread behind this context, so
   * that the host's kernel keeps its fields and aborts critical sections. Checked by the host: 0 or a negative errno.
   * Left out by a platform that cannot.
   */
  rseq?(address: number, length: number, flags: number, signature: number): number;

  /**
   * Processor time in nanoseconds that the host's thread has used for the program. Left out by a platform that cannot
   * tell.
   */
  cpuTime?(): number;

  /** Carries out queued changes and writes now, without continuing the program. 0 or a negative errno. */
  flush(): number;

  /** The program's memory; fastest through the context whose call is being answered. */
  readonly memory: UserMemory;
}

export const Protection = { none: 0, read: 1, write: 2, execute: 4 } as const;

/** What lies behind a mapping. */
export type Backing =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'file'; readonly fd: HostFd; readonly offset: number };

export interface AddressSpace {
  /** Queued on `through`, or carried out at once; 0 or a negative errno. Replaces what is mapped there. */
  map(
    through: Context,
    address: number,
    length: number,
    protection: number,
    shared: boolean,
    backing: Backing,
  ): number;
  unmap(through: Context, address: number, length: number): number;
  protect(through: Context, address: number, length: number, protection: number): number;
  /** Moves pages to a range that is free (mremap with MREMAP_FIXED). keep: MREMAP_DONTUNMAP. */
  move(
    through: Context,
    from: number,
    fromLength: number,
    to: number,
    toLength: number,
    keep: boolean,
  ): number;
  /** madvise(2); the kernel passes only advice that is harmless (DONTNEED, FREE, WILLNEED, …). */
  advise(through: Context, address: number, length: number, advice: number): number;
  /** msync(2). */
  sync(through: Context, address: number, length: number, flags: number): number;
  /**
   * membarrier(2) with this command (GLOBAL, PRIVATE_EXPEDITED or PRIVATE_EXPEDITED_SYNC_CORE) on the threads of the
   * address space, done when it returns: 0 or a negative errno. Left out by a platform that cannot.
   */
  barrier?(through: Context, command: number): number;
  /**
   * mincore(2): which pages of a mapped range are present, a byte for each in `vector`, bit 0. 0 or a negative errno.
   * Left out by a platform that cannot tell.
   */
  resident?(through: Context, address: number, length: number, vector: Uint8Array): number;
  /** Ends all its contexts and frees it; no events come from it any more. */
  destroy(): void;
}

/**
 * The program's memory. A result < 0 is -EFAULT; nothing is thrown. "Segment" pairs are [address, length, …].
 * Access follows the protection that the program gave the pages, except in `poke`.
 */
export interface UserMemory {
  /** Copies in; all or -EFAULT. */
  read(address: number, target: Uint8Array, offset: number, length: number): number;
  /** Copies out; all or -EFAULT (a prefix may have been written, as with copy_to_user). */
  write(address: number, source: Uint8Array, offset: number, length: number): number;
  /** A C string as latin1 text (a byte is a char code), or -EFAULT, or -ENAMETOOLONG beyond `maximum` bytes. */
  readString(address: number, maximum: number): string | number;
  readU32(address: number): number;
  writeU32(address: number, value: number): number;
  /** As an unsigned number (exact below 2^53). */
  readU64(address: number): number;
  writeU64(address: number, value: number | bigint): number;
  /** Zeroes. */
  clear(address: number, length: number): number;
  /**
   * For futexes: the 32-bit value as it is now (never from a copy made when the call was entered, unless nothing can
   * have changed since).
   */
  loadU32(address: number): number;
  /** Atomic with respect to the program's own threads; gives the old value, or -EFAULT. */
  compareExchangeU32(address: number, expected: number, desired: number): number;
  /** Reads and writes whatever the protection (ptrace inside, /proc/pid/mem). Bytes, or -EFAULT. */
  peek(address: number, target: Uint8Array, offset: number, length: number): number;
  poke(address: number, source: Uint8Array, offset: number, length: number): number;
  /**
   * Between a host file and the program's memory without a detour through JavaScript. segments: address, length,
   * address, length, … Result: bytes, which may be fewer, or a negative errno. position -1: the file's own, without
   * waiting (see Host.pread).
   */
  readFromHost(fd: HostFd, position: number, segments: readonly number[]): number;
  writeToHost(fd: HostFd, position: number, segments: readonly number[]): number;
}

export interface Platform {
  readonly name: 'systrap' | 'ptrace' | 'kvm';
  /** Addresses that a program may map: [start, end), page-aligned. */
  readonly userRange: { readonly start: number; readonly end: number };
  /** Where the vDSO's ELF image lies in every address space; 0 if there is none. */
  readonly vdso: number;
  /** A fresh address space with one context, stopped with event `started`; or a negative errno. */
  createAddressSpace(): Context | number;
  /**
   * Sleeps until a context stops, a watched descriptor is ready or `deadline` (host.monotonic nanoseconds; Infinity:
   * none) has come. Gives the context, or undefined for the others. Calls the ready functions of host watches.
   */
  wait(deadline: number): Context | undefined;
  /** The clock rate and so on may change what the stub answers alone; see stubAnswers. */
  stubAnswers(context: Context, answers: StubAnswers | undefined): void;
  /**
   * To be called before waiters of a futex are looked for: the program's memory shows all that has been written for it,
   * and copies of futex words that were made when calls were entered count no more (UserMemory.loadU32).
   */
  futexActivity(): void;
  close(): void;
}

/** What the stub may answer without the kernel; undefined: nothing (a tracer or a filter watches the calls). */
export interface StubAnswers {
  readonly pid: number;
  readonly tid: number;
}
