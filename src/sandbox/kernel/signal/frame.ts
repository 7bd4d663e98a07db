// The signal frame on the program's stack, exactly as Linux builds it on x86-64 (arch/x86/kernel/signal_64.c), and its
// way back through rt_sigreturn(2). Layout in abi/signal.ts.
//
// From the top: 128 bytes of red zone, the extended state at a multiple of 64, then rt_sigframe so that the handler
// starts with its stack as after a call. What the program puts into the frame before rt_sigreturn is hostile.

import { Errno } from '../../abi/errno.ts';
import {
  FrameLayout as at,
  handlerClearedFlags,
  MINSIGSTKSZ,
  restorableFlags,
  Signal,
  SignalCode,
  SignalFlag,
  SS_AUTODISARM,
  SS_DISABLE,
  SS_ONSTACK,
  StackLayout,
  UC_FP_XSTATE,
  UC_SIGCONTEXT_SS,
  UC_STRICT_RESTORE_SS,
  userCodeSegment,
  userStackSegment,
} from '../../abi/signal.ts';
import { Reg, type Registers } from '../../platform/contract.ts';
import type { SignalInfo } from '../contract.ts';
import { REGISTERS_SET } from '../contract.ts';
import { type SignalAction, Work } from './contract.ts';
import { encodeSiginfo } from './siginfo.ts';
import { decodeSet, encodeSet } from './signal-set.ts';
import { type AlternateStack, noAlternateStack, type TaskSignalState } from './task-signals.ts';

/** The general registers of sigcontext: offset in the frame, index in Registers. */
const saved: readonly (readonly [offset: number, register: number])[] = [
  [at.r8, Reg.r8],
  [at.r9, Reg.r9],
  [at.r10, Reg.r10],
  [at.r11, Reg.r11],
  [at.r12, Reg.r12],
  [at.r13, Reg.r13],
  [at.r14, Reg.r14],
  [at.r15, Reg.r15],
  [at.rdi, Reg.rdi],
  [at.rsi, Reg.rsi],
  [at.rbp, Reg.rbp],
  [at.rbx, Reg.rbx],
  [at.rdx, Reg.rdx],
  [at.rax, Reg.rax],
  [at.rcx, Reg.rcx],
  [at.rsp, Reg.rsp],
  [at.rip, Reg.rip],
];

/** Whether the stack pointer is on the alternate stack, whatever its flags (__on_sig_stack). */
function within(stack: AlternateStack, sp: number): boolean {
  return sp > stack.sp && sp - stack.sp <= stack.size;
}

function onAlternateStack(stack: AlternateStack, sp: number): boolean {
  return (stack.flags & SS_AUTODISARM) === 0 && within(stack, sp);
}

/** SS_ONSTACK, SS_DISABLE or 0 (sas_ss_flags). */
export function alternateStackState(stack: AlternateStack, sp: number): number {
  if (stack.size === 0) return SS_DISABLE;
  return onAlternateStack(stack, sp) ? SS_ONSTACK : 0;
}

/**
 * Makes the program continue in its handler. 0, or -EFAULT when there is no room for the frame (the caller forces
 * SIGSEGV). The registers are changed only if all is well; restart codes have been dealt with.
 */
export function enterHandler(state: TaskSignalState, info: SignalInfo, action: SignalAction): number {
  const { task, alternateStack } = state;
  const { context, memory } = task;
  const registers = context.registers();
  // The kernel brings no restorer of its own on x86-64.
  if ((action.flags & SignalFlag.SA_RESTORER) === 0) return -Errno.EFAULT;

  let sp = Number(registers[Reg.rsp] ?? 0n);
  const nested = onAlternateStack(alternateStack, sp);
  let entering = false;
  sp -= 128;
  if (action.flags & SignalFlag.SA_ONSTACK && alternateStackState(alternateStack, sp) === 0) {
    sp = alternateStack.sp + alternateStack.size;
    entering = true;
  }
  sp -= context.extendedStateSize;
  const fpstate = sp - (sp % 64);
  sp = fpstate - at.size;
  sp = sp - (sp % 16) - 8;
  if (sp < 0 || ((nested || entering) && !within(alternateStack, sp))) return -Errno.EFAULT;

  const bytes = new Uint8Array(at.size);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(at.returnAddress, BigInt(action.restorer), true);
  view.setBigUint64(at.flags, BigInt(UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS), true);
  encodeStack(alternateStack, view, at.stack);
  for (const [offset, register] of saved) view.setBigUint64(offset, registers[register] ?? 0n, true);
  view.setBigUint64(at.eflags, registers[Reg.eflags] ?? 0n, true);
  view.setUint16(at.cs, Number(registers[Reg.cs] ?? 0n), true);
  view.setUint16(at.ss, Number(registers[Reg.ss] ?? 0n), true);
  const { lastFault } = state;
  view.setBigUint64(at.error, BigInt(lastFault.error), true);
  view.setBigUint64(at.trap, BigInt(lastFault.trap), true);
  view.setBigUint64(at.cr2, BigInt.asUintN(64, BigInt(lastFault.address)), true);
  view.setBigUint64(at.fpstate, BigInt(fpstate), true);
  const mask = state.work & Work.restoreMask ? state.savedMask : state.mask;
  encodeSet(mask, view, at.oldMask);
  encodeSet(mask, view, at.mask);
  const withInfo = (action.flags & SignalFlag.SA_SIGINFO) !== 0;
  if (withInfo) encodeSiginfo(info, task, bytes, at.info);

  if (context.saveExtendedState(fpstate) < 0) return -Errno.EFAULT;
  if (memory.write(sp, bytes, 0, withInfo ? at.size : at.info) < 0) return -Errno.EFAULT;

  registers[Reg.rdi] = BigInt(info.signal);
  registers[Reg.rax] = 0n;
  registers[Reg.rsi] = BigInt(sp + at.info);
  registers[Reg.rdx] = BigInt(sp + at.flags);
  registers[Reg.rip] = BigInt(action.handler);
  registers[Reg.rsp] = BigInt(sp);
  registers[Reg.cs] = BigInt(userCodeSegment);
  registers[Reg.ss] = BigInt(userStackSegment);
  registers[Reg.eflags] = (registers[Reg.eflags] ?? 0n) & ~handlerClearedFlags;
  context.loadExtendedState(0);
  if (alternateStack.flags & SS_AUTODISARM) state.alternateStack = noAlternateStack;
  return 0;
}

export function encodeStack(stack: AlternateStack, view: DataView, offset: number): void {
  view.setBigUint64(offset + StackLayout.sp, BigInt(stack.sp), true);
  view.setUint32(offset + StackLayout.flags, stack.flags, true);
  view.setBigUint64(offset + StackLayout.length, BigInt(stack.size), true);
}

export function decodeStack(view: DataView, offset: number): AlternateStack {
  return {
    sp: Number(view.getBigUint64(offset + StackLayout.sp, true)),
    flags: view.getUint32(offset + StackLayout.flags, true),
    size: Number(view.getBigUint64(offset + StackLayout.length, true)),
  };
}

/** sigaltstack(2)'s rules for a new alternate stack. 0 or a negative errno. */
export function setAlternateStack(state: TaskSignalState, stack: AlternateStack, sp: number): number {
  const current = state.alternateStack;
  if (onAlternateStack(current, sp)) return -Errno.EPERM;
  const mode = stack.flags & ~SS_AUTODISARM;
  if (mode !== SS_DISABLE && mode !== SS_ONSTACK && mode !== 0) return -Errno.EINVAL;
  if (current.sp === stack.sp && current.size === stack.size && current.flags === stack.flags) return 0;
  if (mode === SS_DISABLE) {
    state.alternateStack = { sp: 0, size: 0, flags: stack.flags };
    return 0;
  }
  if (stack.size < MINSIGSTKSZ) return -Errno.ENOMEM;
  state.alternateStack = stack;
  return 0;
}

/** rt_sigreturn(2): everything comes back from the frame. REGISTERS_SET; a bad frame forces SIGSEGV. */
export function returnFromHandler(state: TaskSignalState): number {
  const { task } = state;
  const { context } = task;
  const registers = context.registers();
  if (!restoreFrame(state, registers)) badFrame(state);
  // What the program had in rax is not the result of a call that could be restarted.
  registers[Reg.origRax] = 0xffff_ffff_ffff_ffffn;
  return REGISTERS_SET;
}

function badFrame(state: TaskSignalState): void {
  state.force({ signal: Signal.SIGSEGV, code: SignalCode.SI_KERNEL, address: 0 });
}

function restoreFrame(state: TaskSignalState, registers: Registers): boolean {
  const { context, memory } = state.task;
  const frame = Number(registers[Reg.rsp] ?? 0n) - 8;
  const bytes = new Uint8Array(at.info);
  if (frame < 0 || memory.read(frame, bytes, 0, at.info) < 0) return false;
  const view = new DataView(bytes.buffer);
  state.setMask(decodeSet(view, at.mask));
  // A call that waits to be continued cannot be any more.
  state.task.restart = undefined;

  const flags = view.getBigUint64(at.flags, true);
  const cs = view.getUint16(at.cs, true) | 3;
  let ss = view.getUint16(at.ss, true) | 3;
  if ((flags & BigInt(UC_STRICT_RESTORE_SS)) === 0n) ss = userStackSegment;
  const rip = view.getBigUint64(at.rip, true);
  // What the processor would refuse on the way back (a general protection fault).
  if (cs !== userCodeSegment || ss !== userStackSegment || rip >= 0x8000_0000_0000n) return false;

  for (const [offset, register] of saved) registers[register] = view.getBigUint64(offset, true);
  const eflags = view.getBigUint64(at.eflags, true) & restorableFlags;
  registers[Reg.eflags] = ((registers[Reg.eflags] ?? 0n) & ~restorableFlags) | eflags;
  registers[Reg.cs] = BigInt(cs);
  registers[Reg.ss] = BigInt(ss);
  const fpstate = view.getBigUint64(at.fpstate, true);
  if (fpstate >= 0x8000_0000_0000n || context.loadExtendedState(Number(fpstate)) < 0) return false;
  setAlternateStack(state, decodeStack(view, at.stack), Number(registers[Reg.rsp] ?? 0n));
  return true;
}
