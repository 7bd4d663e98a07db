// mprotect(2) (mm/mprotect.c).

import { Errno } from '../abi/errno.ts';
import { Personality, Prot, pageSize } from '../abi/memory.ts';
import type { Task } from '../kernel/contract.ts';
import { hostProtection } from './host-changes.ts';
import { alignUp, maximumMappings } from './placement.ts';
import type { ProgramMemory } from './program-memory.ts';
import { type Mapping, VmFlag } from './vma.ts';

export function protect(
  memory: ProgramMemory,
  task: Task,
  address: number,
  size: number,
  protection: number,
): number {
  const grows = protection & (Prot.growsDown | Prot.growsUp);
  const wanted = protection & ~(Prot.growsDown | Prot.growsUp);
  if (grows === (Prot.growsDown | Prot.growsUp)) return -Errno.EINVAL;
  if (address % pageSize !== 0) return -Errno.EINVAL;
  if (size === 0) return 0;
  const end = address + alignUp(size);
  if (end <= address || end >= 2 ** 64) return -Errno.ENOMEM;
  if (wanted & ~(Prot.read | Prot.write | Prot.exec | Prot.sem)) return -Errno.EINVAL;
  const first = memory.set.at(memory.set.indexAbove(address));
  if (!first) return -Errno.ENOMEM;
  let start = address;
  if (grows & Prot.growsDown) {
    if (first.start >= end) return -Errno.ENOMEM;
    start = first.start;
    if ((first.flags & VmFlag.growsDown) === 0) return -Errno.EINVAL;
  } else {
    if (first.start > start) return -Errno.ENOMEM;
    if (grows & Prot.growsUp) return -Errno.EINVAL;
  }
  return protectRange(memory, task, start, end, wanted & (Prot.read | Prot.write | Prot.exec));
}

/** As far as the rules let it; what came before an error stays changed, as in Linux. */
function protectRange(
  memory: ProgramMemory,
  task: Task,
  start: number,
  end: number,
  protection: number,
): number {
  const readExecutes = protection & Prot.read && task.personality & Personality.readImpliesExec;
  const changed = new Map<Mapping, number>();
  let at = start;
  let error = 0;
  let extra = 0;
  for (const mapping of memory.set.within(start, end)) {
    if (mapping.start > at) break;
    const access = readExecutes && mapping.flags & VmFlag.mayExec ? protection | Prot.exec : protection;
    let flags = (mapping.flags & ~VmFlag.access) | access;
    const stop = Math.min(end, mapping.end);
    error = protectable(memory, task, mapping, flags, stop - at);
    if (error < 0) break;
    if (flags !== mapping.flags) {
      extra += (mapping.start < at ? 1 : 0) + (mapping.end > stop ? 1 : 0);
      if (extra > 0 && memory.set.count + extra > maximumMappings) {
        error = -Errno.ENOMEM;
        break;
      }
      const charged = VmFlag.account | VmFlag.write | VmFlag.shared | VmFlag.noReserve;
      if (flags & VmFlag.write && (mapping.flags & charged) === 0) flags |= VmFlag.account;
      changed.set(mapping, flags);
    }
    at = stop;
  }
  if (error === 0 && at < end) error = -Errno.ENOMEM;
  if (changed.size > 0) {
    const result = applyProtection(memory, task, start, at, changed);
    if (result < 0) return result;
  }
  return error;
}

function protectable(
  memory: ProgramMemory,
  task: Task,
  mapping: Mapping,
  flags: number,
  length: number,
): number {
  if (mapping.flags & VmFlag.sealed) return -Errno.EPERM;
  if (mapping.flags & VmFlag.special) return -Errno.EACCES;
  if (flags & VmFlag.access & ~((flags >> 4) & VmFlag.access)) return -Errno.EACCES;
  if (flags === mapping.flags || (flags & VmFlag.write) === 0) return 0;
  if (!memory.mayExpand(task, flags, length) && memory.mayExpand(task, mapping.flags, length))
    return -Errno.ENOMEM;
  const charged = VmFlag.account | VmFlag.write | VmFlag.shared | VmFlag.noReserve;
  if ((mapping.flags & charged) === 0 && !memory.enoughMemory(length)) return -Errno.ENOMEM;
  return 0;
}

function applyProtection(
  memory: ProgramMemory,
  task: Task,
  start: number,
  end: number,
  changed: ReadonlyMap<Mapping, number>,
): number {
  const context = memory.through(task);
  // One host call where the protections agree, which they do unless READ_IMPLIES_EXEC meets mounts with noexec.
  const runs: { start: number; end: number; protection: number }[] = [];
  for (const [mapping, flags] of changed) {
    const run = runs.at(-1);
    const from = Math.max(start, mapping.start);
    const to = Math.min(end, mapping.end);
    const protection = hostProtection(flags);
    if (run && run.protection === protection) run.end = to;
    else runs.push({ start: from, end: to, protection });
  }
  const flagsAt = new Map<number, number>();
  for (const [mapping, flags] of changed) flagsAt.set(Math.max(start, mapping.start), flags);
  memory.changes.begin();
  const saved = memory.set.parts(start, end);
  for (const { file } of saved) file?.acquire();
  memory.changes.record(start, end, saved, 'protect');
  memory.set.update(start, end, (part) => {
    const flags = flagsAt.get(part.start);
    return flags === undefined ? part : part.withFlags(flags);
  });
  let result = 0;
  for (const run of runs) {
    result = memory.addressSpace.protect(context, run.start, run.end - run.start, run.protection);
    if (result < 0) break;
  }
  return memory.changes.settle(context, result);
}
