// Carries changes of the books out on the host's address space, and rolls the books back when the host refuses.
//
// With one user of the memory, changes are queued: they go with the answer of the system call, and a refusal comes back
// later as the event operationFailed. With several users each change is carried out before the call goes on: another
// thread may be given the same range at once, and the order between threads must be the books' order.
//
// What is kept for rolling back is the last change only; an operation that needs several settles each before the next.
// It is forgotten when the context has stopped again: what went before has been carried out.

import type { AddressSpace, Context } from '../platform/contract.ts';
import type { Mapping } from './vma.ts';
import { VmFlag } from './vma.ts';
import { unreference, type VmaSet } from './vma-set.ts';

/** How the host is brought in line with the restored books. */
type Repair =
  /** It did not carry the change out, nothing is to be done. */
  | 'none'
  /** It may have removed what was there: nothing is mapped there any more, in the books neither. */
  | 'unmap'
  /** It may have changed a part: protections are set again. */
  | 'protect';

interface Range {
  readonly start: number;
  readonly end: number;
  /** The parts that were there, each with its reference. */
  readonly saved: readonly Mapping[];
  readonly repair: Repair;
}

/** What a failed change gives the program: the errno itself, a number that stands for it (brk), or the fault's signal. */
export type Answer = 'errno' | 'fault' | number;

interface Undo {
  readonly ranges: Range[];
  readonly answer: Answer;
  readonly restore: (() => void) | undefined;
}

/** Protection as the processor has it: what can be written or executed can be read (no protection keys). */
export function hostProtection(flags: number): number {
  const protection = flags & VmFlag.access;
  return protection & (VmFlag.write | VmFlag.exec) ? protection | VmFlag.read : protection;
}

export class HostChanges {
  readonly space: AddressSpace;
  readonly #set: VmaSet;
  #undo: Undo | undefined;
  /** Set while more than one task uses the memory. */
  immediate = false;

  constructor(space: AddressSpace, set: VmaSet) {
    this.space = space;
    this.#set = set;
  }

  /** A new change begins: what went before has succeeded. */
  begin(answer: Answer = 'errno', restore?: () => void): void {
    this.forget();
    this.#undo = { ranges: [], answer, restore };
  }

  forget(): void {
    const undo = this.#undo;
    if (!undo) return;
    this.#undo = undefined;
    for (const { saved } of undo.ranges) unreference(saved);
  }

  /** [start, end) is about to differ from `saved`, whose references are taken over. */
  record(start: number, end: number, saved: readonly Mapping[], repair: Repair): void {
    if (this.#undo) this.#undo.ranges.push({ start, end, saved, repair });
    else unreference(saved);
  }

  /**
   * Ends a change whose host operations gave `result`: carries them out now if others use the memory too. Gives 0, or
   * the negative errno after rolling back.
   */
  settle(context: Context, result: number, now = this.immediate): number {
    const outcome = result === 0 && now ? context.flush() : result;
    if (outcome >= 0) {
      if (now) this.forget();
      return 0;
    }
    this.rollBack(context);
    return outcome;
  }

  /**
   * The host refused the last change: the books are as before, or as the host can still be made to agree with. Gives what
   * the program gets, and whether books and host agree.
   */
  rollBack(context: Context): { readonly answer: Answer; readonly agree: boolean } {
    const undo = this.#undo;
    this.#undo = undefined;
    if (!undo) return { answer: 'errno', agree: false };
    let result = 0;
    for (const range of undo.ranges.reverse()) {
      unreference(this.#set.cut(range.start, range.end));
      if (range.repair === 'unmap') {
        unreference(range.saved);
        const unmapped = this.space.unmap(context, range.start, range.end - range.start);
        if (result === 0) result = unmapped;
        continue;
      }
      for (const mapping of range.saved) {
        this.#set.insert(mapping);
        if (range.repair !== 'protect') continue;
        const restored = this.space.protect(
          context,
          mapping.start,
          mapping.length,
          hostProtection(mapping.flags),
        );
        if (result === 0) result = restored;
      }
    }
    undo.restore?.();
    if (result === 0) result = context.flush();
    return { answer: undo.answer, agree: result >= 0 };
  }
}
