// The system-call table: number to entry, joined from the areas' arrays. Documentation (`bulkhead-sandbox syscalls`) and
// strace are printed from it.

import { Errno } from '../abi/errno.ts';
import { SyscallNumber, syscallNames } from '../abi/syscall-numbers.ts';
import type { Syscall, SyscallHandler } from './contract.ts';

/** One row of the printed table. */
export interface SyscallRow {
  readonly number: number;
  readonly name: string;
  readonly support: 'full' | 'partial' | 'none';
  readonly note: string;
}

export class SyscallTable {
  readonly #entries: (Syscall | undefined)[] = [];
  readonly #handlers: (SyscallHandler | undefined)[] = [];

  /** Throws when two areas claim one call: that is a mistake in the program. */
  constructor(areas: readonly (readonly Syscall[])[]) {
    for (const call of areas.flat()) {
      const number = SyscallNumber[call.name];
      if (this.#entries[number]) throw new Error(`the system call ${call.name} has two entries`);
      this.#entries[number] = call;
      this.#handlers[number] = call.handler;
    }
  }

  handler(number: number): SyscallHandler | undefined {
    return this.#handlers[number];
  }

  get entries(): readonly (Syscall | undefined)[] {
    return this.#entries;
  }

  /** All of Linux's calls in order of their numbers, with what a program gets from each. */
  rows(): SyscallRow[] {
    const rows: SyscallRow[] = [];
    for (const [number, name] of syscallNames.entries()) {
      if (name === undefined) continue;
      const call = this.#entries[number];
      rows.push(
        call
          ? { number, name, support: call.support, note: call.note ?? '' }
          : { number, name, support: 'none', note: `fails with ENOSYS (${Errno.ENOSYS})` },
      );
    }
    return rows;
  }
}
