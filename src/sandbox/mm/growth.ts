// Memory that grows: the heap by brk(2), stacks and other MAP_GROWSDOWN mappings by being touched (mm/mmap.c,
// expand_stack). Touching is a fault of the program's or an access of the kernel's for it.

import { Rlimit } from '../abi/resource.ts';
import type { Task } from '../kernel/contract.ts';
import type { Context, Fault } from '../platform/contract.ts';
import { hostProtection } from './host-changes.ts';
import { alignDown, alignUp, maximumMappings, stackGuardGap } from './placement.ts';
import type { ProgramMemory } from './program-memory.ts';
import { Mapping, VmFlag } from './vma.ts';
import { startWithGap } from './vma-set.ts';

const SIGSEGV = 11;
const pageFault = 14;
/** Bits of the page fault's error code. */
const FaultError = { write: 2, instruction: 16 } as const;

/**
 * A stack grows by at least so much where it may: each growth costs a fault that the kernel answers. Visible only in
 * where /proc/pid/maps shows its lower end.
 */
const growthStep = 64 * 1024;

const backing = { kind: 'anonymous' } as const;

/** brk(2): the new break, or the old one if it cannot be had. */
export function setBreak(memory: ProgramMemory, task: Task, address: number): number {
  const { layout, set } = memory;
  const { brkStart, brk } = layout;
  if (address < brkStart) return brk;
  const { soft: dataLimit } = task.process.limit(Rlimit.data);
  if (address - brkStart + (layout.dataEnd - layout.dataStart) > dataLimit) return brk;
  const from = alignUp(brk);
  const to = alignUp(address);
  if (from === to) {
    layout.brk = address;
    return address;
  }
  if (address <= brk) {
    layout.brk = address;
    if (memory.unmapRange(task, to, from) === 0) return address;
    layout.brk = brk;
    return brk;
  }
  const length = to - from;
  if (to > memory.range.end || from < memory.range.start) return brk;
  const flags =
    VmFlag.read |
    VmFlag.write |
    VmFlag.mayRead |
    VmFlag.mayWrite |
    VmFlag.mayExec |
    VmFlag.account |
    memory.futureFlags;
  if (!memory.mayLock(task, flags, length)) return brk;
  // A page stays free before whatever comes next.
  const next = set.at(set.indexAbove(from));
  if (next && to + 4096 > startWithGap(next, stackGuardGap)) return brk;
  if (!memory.mayExpand(task, flags, length) || set.count > maximumMappings || !memory.enoughMemory(length))
    return brk;
  const context = memory.through(task);
  memory.changes.begin(brk, () => {
    layout.brk = brk;
  });
  memory.changes.record(from, to, [], 'unmap');
  set.insert(new Mapping(from, to, flags, undefined, from, '', undefined));
  layout.brk = address;
  const result = memory.addressSpace.map(context, from, length, hostProtection(flags), false, backing);
  const locked = (flags & VmFlag.locked) !== 0;
  if (memory.changes.settle(context, result, locked || memory.changes.immediate) < 0) return brk;
  if (locked && (flags & VmFlag.lockOnFault) === 0) memory.populate(context, from, to);
  return address;
}

/**
 * Lets the mapping above `address` grow down to it, if it is one that does and its limits allow. The host's part is
 * queued (or done, with others using the memory).
 */
function growStack(memory: ProgramMemory, task: Task, context: Context, address: number): boolean {
  const { set } = memory;
  const index = set.indexAbove(address);
  const stack = set.at(index);
  if (!stack || stack.start <= address || (stack.flags & VmFlag.growsDown) === 0) return false;
  const lowest = lowestStart(memory, task, stack, index);
  const wanted = alignDown(address);
  if (wanted < lowest) return false;
  const start = Math.max(lowest, Math.min(wanted, stack.start - growthStep));
  const length = stack.start - start;
  if (!memory.mayExpand(task, stack.flags, length) || !memory.mayLock(task, stack.flags, length))
    return false;
  memory.changes.begin('fault');
  memory.changes.record(start, stack.start, [], 'unmap');
  const grown = stack.part(stack.start, stack.end);
  set.insert(
    new Mapping(start, stack.start, grown.flags, undefined, grown.offset - length, grown.label, grown.policy),
  );
  const result = memory.addressSpace.map(context, start, length, hostProtection(stack.flags), false, backing);
  return memory.changes.settle(context, result) === 0;
}

/** How far down a stack may reach: RLIMIT_STACK, and the gap that stays free above what lies below it. */
function lowestStart(memory: ProgramMemory, task: Task, stack: Mapping, index: number): number {
  const { soft } = task.process.limit(Rlimit.stack);
  let lowest = Math.max(memory.range.start, stack.end - soft);
  const below = memory.set.at(index - 1);
  if (below) {
    const gap = (below.flags & VmFlag.growsDown) === 0 && below.flags & VmFlag.access ? stackGuardGap : 0;
    lowest = Math.max(lowest, below.end + gap);
  }
  return alignUp(lowest);
}

/** For accesses of the kernel's: whose program it is, the context knows. */
export function growForKernel(memory: ProgramMemory, context: Context, address: number): boolean {
  const task = context.owner as Task | undefined;
  if (!task || !growStack(memory, task, context, address)) return false;
  return memory.changes.settle(context, 0, true) === 0;
}

/**
 * A fault of the program's: true if it is to be tried again, because a stack has grown or another thread has mapped the
 * page meanwhile.
 */
export function resolveFault(memory: ProgramMemory, task: Task, fault: Fault): boolean {
  if (fault.signal !== SIGSEGV || fault.trap !== pageFault) return false;
  const mapping = memory.set.find(fault.address);
  if (!mapping) return growStack(memory, task, memory.through(task), fault.address);
  const right =
    fault.error & FaultError.write
      ? VmFlag.write
      : fault.error & FaultError.instruction
        ? VmFlag.exec
        : VmFlag.access;
  if ((mapping.flags & right) === 0) return false;
  return memory.mayRetry(fault);
}
