// The ways between a program and the kernel: what comes before a system call's handler (tracer, seccomp) and after it
// (temporary masks, tracer, signals). The kernel's loop and blocked calls that complete come through here; with nothing
// to do a call costs one test on each way.

import { Errno } from '../../abi/errno.ts';
import { SignalCode } from '../../abi/signal.ts';
import { type Arguments, Reg, type Registers } from '../../platform/contract.ts';
import { REGISTERS_SET, type Task } from '../contract.ts';
import type { Proceed } from '../ptrace/contract.ts';
import { Work } from './contract.ts';
import { leaveKernel } from './deliver.ts';
import { signalsOf, type TaskSignalState } from './task-signals.ts';

/** Arguments as they stand in the registers, which a tracer may have changed. */
class RegisterArguments implements Arguments {
  readonly #values: readonly bigint[];

  constructor(registers: Registers) {
    this.#values = [Reg.rdi, Reg.rsi, Reg.rdx, Reg.r10, Reg.r8, Reg.r9].map(
      (index) => registers[index] ?? 0n,
    );
  }

  i32(index: number): number {
    return Number(BigInt.asIntN(32, this.big(index)));
  }
  u32(index: number): number {
    return Number(BigInt.asUintN(32, this.big(index)));
  }
  address(index: number): number {
    return Number(this.big(index));
  }
  size(index: number): number {
    return Number(this.big(index));
  }
  i64(index: number): number {
    return Number(BigInt.asIntN(64, this.big(index)));
  }
  big(index: number): bigint {
    return this.#values[index] ?? 0n;
  }
}

const noSys = BigInt.asUintN(64, BigInt(-Errno.ENOSYS));

/**
 * The way in when `task.signals.work & Work.entry`: lets a tracer and the seccomp filters look, then calls `proceed` with
 * what the call is now; or answers it. May return before either has happened.
 */
export function enterSyscall(task: Task, proceed: Proceed): void {
  const state = signalsOf(task);
  if (state.work & (Work.traceSyscall | Work.emulateSyscall)) {
    // What a tracer sees in rax, and what a call gives that it skips.
    task.context.registers()[Reg.rax] = noSys;
    const emulated = (state.work & Work.emulateSyscall) !== 0;
    task.trace.syscallEntry(() => {
      if (emulated || state.killed) leaveSyscall(state);
      else filter(state, proceed, true);
    });
  } else {
    filter(state, proceed, false);
  }
}

function filter(state: TaskSignalState, proceed: Proceed, traced: boolean): void {
  const { task } = state;
  const go = (changed: boolean): void => {
    const { context } = task;
    const number = changed ? currentNumber(state) : context.number;
    if (changed) state.setWork(Work.registers);
    // A tracer skips a call by making its number -1; the result is what it put into rax.
    if (number < 0) leaveSyscall(state);
    else proceed(task, number, changed ? new RegisterArguments(context.registers()) : context.args);
  };
  if ((state.work & Work.seccomp) === 0) {
    go(traced);
    return;
  }
  task.seccomp.judge(task, traced ? currentNumber(state) : task.context.number, (allowed, changed) => {
    if (allowed) go(traced || changed);
    else if (!state.ended) leaveSyscall(state);
  });
}

function currentNumber(state: TaskSignalState): number {
  return Number(BigInt.asIntN(32, state.task.context.registers()[Reg.origRax] ?? 0n));
}

/** The end of a system call. result: a value, a negative errno, a restart code, or REGISTERS_SET. */
export function completeSyscall(task: Task, result: number): void {
  if (result > -Errno.ERESTARTSYS && (task.signals.work & Work.exit) === 0) {
    task.context.resume(result);
    return;
  }
  if (result === REGISTERS_SET && (task.signals.work & Work.exit) === 0) {
    if (!signalsOf(task).ended) task.context.resumeRegisters();
    return;
  }
  const state = signalsOf(task);
  if (state.ended) return;
  state.whenFree(() => {
    if (result !== REGISTERS_SET) task.context.registers()[Reg.rax] = BigInt.asUintN(64, BigInt(result));
    // Only a call that a signal interrupted keeps its mask until the handler has run.
    if (state.work & Work.restoreMask && !interrupted(result)) state.restoreMask();
    leaveSyscall(state);
  });
}

function interrupted(result: number): boolean {
  return result === -Errno.EINTR || (result <= -Errno.ERESTARTSYS && result >= -Errno.ERESTART_RESTARTBLOCK);
}

/** The call's result is in the registers. */
function leaveSyscall(state: TaskSignalState): void {
  if (state.ended) return;
  const step = (state.work & Work.singleStep) !== 0;
  if (state.work & Work.emulateSyscall || !(step || state.work & Work.traceSyscall)) leaveKernel(state);
  else state.task.trace.syscallExit(step, () => leaveKernel(state));
}

/**
 * A processor exception that the memory manager could not resolve becomes a signal that the program cannot avoid. For a
 * context that stopped with ContextEvent.fault.
 */
export function completeFault(task: Task): void {
  const state = signalsOf(task);
  if (state.ended) return;
  const { signal, code, address, trap, error } = task.context.fault;
  // As the page-fault handler keeps cr2: other exceptions leave it as it was.
  const cr2 = trap === pageFault ? address : state.lastFault.address;
  state.lastFault = { trap, error, address: cr2 };
  state.force(code === SignalCode.SI_KERNEL ? { signal, code } : { signal, code, address });
  leaveKernel(state);
}

/** X86_TRAP_PF. */
const pageFault = 14;

/** The context was stopped between two instructions. */
export function completeInterrupt(task: Task): void {
  const state = signalsOf(task);
  if (!state.ended) state.whenFree(() => leaveKernel(state));
}

/** A new context (event `started`), whose registers are as the program shall find them. */
export function startProgram(task: Task): void {
  if ((task.signals.work & Work.exit) === 0) task.context.resumeRegisters();
  else completeInterrupt(task);
}
