// The shape of a system call's entry in the table. Each area (vfs, kernel, mm, net …) exports an array of these; the
// table (syscalls/table.ts) joins them, and the documentation and strace are printed from it.

import type { SyscallNumber } from '../abi/syscall-numbers.ts';
import type { Task } from '../kernel/contract.ts';
import type { Arguments } from '../platform/contract.ts';

/** Result: a value, a negative errno or restart code, BLOCKED or REGISTERS_SET (kernel/contract.ts). */
export type SyscallHandler = (task: Task, args: Arguments) => number;

export type SyscallName = keyof typeof SyscallNumber;

export interface Syscall {
  readonly name: SyscallName;
  /**
   * Parameters for strace, in order, "name:kind" separated by spaces; then " -> kind" if the result is not an int.
   * Kinds: fd dirfd path string buffer(=count parameter follows) out-buffer int uint long hex address size offset
   * flags.<set> mode pid signal sigset stat timespec iovec sockaddr … An unknown kind is printed as hex.
   * E.g. "dirfd:dirfd path:path flags:flags.open mode:mode -> fd".
   */
  readonly signature: string;
  readonly support: 'full' | 'partial';
  /** What is missing, when support is partial. */
  readonly note?: string;
  readonly handler: SyscallHandler;
}
