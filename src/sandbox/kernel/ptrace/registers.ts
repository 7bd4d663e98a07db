// A stopped tracee's registers as a tracer reads and writes them: struct user, register sets (regset) and the extended
// state. Registers that a program may not choose freely are checked as Linux does (putreg of arch/x86/kernel/ptrace.c).

import { Errno } from '../../abi/errno.ts';
import { ExtendedStateLayout as at, UserLayout } from '../../abi/ptrace.ts';
import { type Context, Reg } from '../../platform/contract.ts';
import type { Task } from '../contract.ts';
import { traceOf } from './task-trace.ts';

export const registersSize = 27 * 8;

/** The end of what a segment's base may point to (TASK_SIZE_MAX). */
const addressEnd = 0x7fff_ffff_f000n;
/** EFLAGS that a tracer may set: AC, NT, RF, OF, DF, TF, SF, ZF, AF, PF, CF. */
const settableFlags = 0x5_4dd5n;

/** 0 or -EIO. */
export function setRegister(context: Context, index: number, value: bigint): number {
  const registers = context.registers();
  switch (index) {
    case Reg.fsBase:
    case Reg.gsBase:
      if (value >= addressEnd) return -Errno.EIO;
      registers[index] = value;
      return 0;
    case Reg.cs:
    case Reg.ss:
    case Reg.ds:
    case Reg.es:
    case Reg.fs:
    case Reg.gs:
      // Programs of 32 bits and local descriptors are not there: a selector can only stay what it is.
      return (registers[index] ?? 0n) === (value & 0xffffn) ? 0 : -Errno.EIO;
    case Reg.eflags:
      registers[index] = ((registers[index] ?? 0n) & ~settableFlags) | (value & settableFlags);
      return 0;
    default:
      registers[index] = value;
      return 0;
  }
}

export function registerBytes(context: Context): Uint8Array {
  const registers = context.registers();
  return new Uint8Array(registers.slice().buffer, 0, registersSize);
}

/** Writes as many whole registers as there are bytes, in order; stops at the first that is refused. */
export function setRegisterBytes(context: Context, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let offset = 0; offset + 8 <= bytes.length; offset += 8) {
    const result = setRegister(context, offset / 8, view.getBigUint64(offset, true));
    if (result < 0) return result;
  }
  return 0;
}

/** PTRACE_PEEKUSER: the word at this offset of struct user, or -EIO. */
export function peekUser(task: Task, offset: number): bigint | number {
  if (offset % 8 !== 0 || offset >= UserLayout.size) return -Errno.EIO;
  if (offset < UserLayout.registers) return task.context.registers()[offset / 8] ?? 0n;
  if (offset >= UserLayout.debug) return traceOf(task).debugRegisters[(offset - UserLayout.debug) / 8] ?? 0n;
  return 0n;
}

/** DR7's bits that enable a breakpoint. */
const enableBits = 0xffn;

/** PTRACE_POKEUSER: 0, -EIO, or what debug registers give. */
export function pokeUser(task: Task, offset: number, value: bigint): number {
  if (offset % 8 !== 0 || offset >= UserLayout.size) return -Errno.EIO;
  if (offset < UserLayout.registers) return setRegister(task.context, offset / 8, value);
  if (offset < UserLayout.debug) return -Errno.EIO;
  const index = (offset - UserLayout.debug) / 8;
  // DR4 and DR5 are not there.
  if (index === 4 || index === 5) return -Errno.EIO;
  if (index < 4 && value >= addressEnd) return -Errno.EIO;
  // As on a machine whose breakpoint registers are all in use.
  if (index === 7 && value & enableBits) return -Errno.ENOSPC;
  traceOf(task).debugRegisters[index] = value;
  return 0;
}

/** NT_PRFPREG: the FXSAVE area. */
export function floatingPoint(context: Context): Uint8Array {
  const bytes = context.getExtendedState().slice(0, at.fxsave);
  // Where a signal frame describes itself the processor leaves zeroes.
  bytes.fill(0, at.software);
  return bytes;
}

/** 0 or -EINVAL. */
export function setFloatingPoint(context: Context, bytes: Uint8Array): number {
  if (bytes.length !== at.fxsave || !validControl(bytes)) return -Errno.EINVAL;
  const state = context.getExtendedState().slice();
  state.set(bytes.subarray(0, at.software), 0);
  // x87 and SSE hold something now.
  if (described(state)) state[at.present] = (state[at.present] ?? 0) | 3;
  return context.setExtendedState(state);
}

function described(state: Uint8Array): boolean {
  return (
    state.length >= at.headerEnd &&
    new DataView(state.buffer, state.byteOffset).getUint32(at.software, true) === at.magic
  );
}

/** Reserved bits of MXCSR would make the processor refuse the image. */
function validControl(bytes: Uint8Array): boolean {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at.mxcsr, true) <= 0xffff;
}

/** NT_X86_XSTATE: the XSAVE image, with the features that it can hold where a signal frame has its magic. */
export function extendedState(context: Context): Uint8Array {
  const state = context.getExtendedState();
  if (!described(state)) return floatingPoint(context);
  const view = new DataView(state.buffer, state.byteOffset, state.length);
  const size = Math.min(view.getUint32(at.xstateSize, true), state.length);
  const features = view.getBigUint64(at.features, true);
  const image = state.slice(0, size);
  image.fill(0, at.software, at.fxsave);
  new DataView(image.buffer).setBigUint64(at.software, features, true);
  return image;
}

/** 0; -EFAULT when it is not the whole image; -EINVAL for one that the processor would refuse. */
export function setExtendedState(context: Context, image: Uint8Array): number {
  const state = context.getExtendedState().slice();
  if (!described(state)) return image.length === at.fxsave ? setFloatingPoint(context, image) : -Errno.EFAULT;
  const view = new DataView(state.buffer, state.byteOffset, state.length);
  const size = Math.min(view.getUint32(at.xstateSize, true), state.length);
  if (image.length !== size) return -Errno.EFAULT;
  const given = new DataView(image.buffer, image.byteOffset, image.length);
  const features = view.getBigUint64(at.features, true);
  if (given.getBigUint64(at.present, true) & ~features) return -Errno.EINVAL;
  for (let offset: number = at.compaction; offset < at.headerEnd; offset += 8)
    if (given.getBigUint64(offset, true) !== 0n) return -Errno.EINVAL;
  if (!validControl(image)) return -Errno.EINVAL;
  state.set(image.subarray(0, at.software), 0);
  state.set(image.subarray(at.fxsave), at.fxsave);
  return context.setExtendedState(state);
}
