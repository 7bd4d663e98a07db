// madvise(2), process_madvise(2) (mm/madvise.c), mseal(2) (mm/mseal.c). Advice that changes what a program sees is
// carried out on the host; advice that the books alone answer for (fork, dumps) stays there.

import { Errno } from '../abi/errno.ts';
import { Madv, pageSize } from '../abi/memory.ts';
import type { Task } from '../kernel/contract.ts';
import { alignUp, maximumMappings } from './placement.ts';
import type { ProgramMemory } from './program-memory.ts';
import { type Mapping, VmFlag } from './vma.ts';

const PUNCH_HOLE_KEEP_SIZE = 3;

/** Flags that advice sets and clears, and whether the host is told, too. */
interface FlagAdvice {
  readonly set: number;
  readonly clear: number;
  readonly host: boolean;
}

const flagAdvice = new Map<number, FlagAdvice>([
  [Madv.normal, { set: 0, clear: VmFlag.random | VmFlag.sequential, host: true }],
  [Madv.sequential, { set: VmFlag.sequential, clear: VmFlag.random, host: true }],
  [Madv.random, { set: VmFlag.random, clear: VmFlag.sequential, host: true }],
  [Madv.dontFork, { set: VmFlag.dontCopy, clear: 0, host: false }],
  [Madv.doFork, { set: 0, clear: VmFlag.dontCopy, host: false }],
  [Madv.wipeOnFork, { set: VmFlag.wipeOnFork, clear: 0, host: false }],
  [Madv.keepOnFork, { set: 0, clear: VmFlag.wipeOnFork, host: false }],
  [Madv.dontDump, { set: VmFlag.dontDump, clear: 0, host: false }],
  [Madv.doDump, { set: 0, clear: VmFlag.dontDump, host: false }],
  // Pages that are merged with those of others tell by their timing what others hold: the host is not told.
  [Madv.mergeable, { set: VmFlag.mergeable, clear: 0, host: false }],
  [Madv.unmergeable, { set: 0, clear: VmFlag.mergeable, host: false }],
  [Madv.hugePage, { set: VmFlag.hugePage, clear: VmFlag.noHugePage, host: true }],
  [Madv.noHugePage, { set: VmFlag.noHugePage, clear: VmFlag.hugePage, host: true }],
]);

/** Carried out by the host, page by page. */
const hostAdvice = new Set<number>([
  Madv.willNeed,
  Madv.dontNeed,
  Madv.dontNeedLocked,
  Madv.free,
  Madv.cold,
  Madv.pageOut,
  Madv.collapse,
  Madv.guardInstall,
  Madv.guardRemove,
]);

/** Whose result only the host knows: the call waits for it. */
const answeredByHost = new Set<number>([Madv.collapse, Madv.guardInstall, Madv.guardRemove]);

/** What takes contents away, and so is refused for sealed memory that cannot be written. */
const discards = new Set<number>([
  Madv.free,
  Madv.dontNeed,
  Madv.dontNeedLocked,
  Madv.remove,
  Madv.dontFork,
  Madv.wipeOnFork,
  Madv.guardInstall,
]);

/** Whether Linux knows the advice. */
export function knownAdvice(advice: number): boolean {
  return (
    flagAdvice.has(advice) ||
    hostAdvice.has(advice) ||
    advice === Madv.remove ||
    advice === Madv.populateRead ||
    advice === Madv.populateWrite
  );
}

/** madvise(2); 0 or a negative errno. Ranges without mappings give -ENOMEM after the rest has been done. */
export function advise(
  memory: ProgramMemory,
  task: Task,
  start: number,
  size: number,
  advice: number,
): number {
  if (!knownAdvice(advice)) return -Errno.EINVAL;
  if (start % pageSize !== 0) return -Errno.EINVAL;
  const length = alignUp(size);
  if (size > 0 && length === 0) return -Errno.EINVAL;
  const end = start + length;
  if (end >= 2 ** 64) return -Errno.EINVAL;
  if (length === 0) return 0;
  if (advice === Madv.populateRead || advice === Madv.populateWrite)
    return populate(memory, task, start, end, advice);
  const parts = memory.set.parts(start, end);
  let at = start;
  let holes = false;
  let error = 0;
  const allowed: Mapping[] = [];
  for (const part of parts) {
    if (part.start > at) holes = true;
    error = check(part, advice);
    if (error < 0) break;
    allowed.push(part);
    at = part.end;
  }
  if (error === 0 && at < end) holes = true;
  const result = carryOut(memory, task, allowed, advice);
  if (result < 0) return result;
  return error < 0 ? error : holes ? -Errno.ENOMEM : 0;
}

/** Whether the advice makes sense for a mapping. */
function check(part: Mapping, advice: number): number {
  const { flags } = part;
  if (
    flags & VmFlag.sealed &&
    discards.has(advice) &&
    part.anonymous &&
    !part.shared &&
    (flags & VmFlag.write) === 0
  )
    return -Errno.EPERM;
  switch (advice) {
    case Madv.dontNeed:
    case Madv.guardInstall:
    case Madv.cold:
    case Madv.pageOut:
      return flags & (VmFlag.locked | VmFlag.special) ? -Errno.EINVAL : 0;
    case Madv.free:
      if (flags & (VmFlag.locked | VmFlag.special)) return -Errno.EINVAL;
      return part.anonymous ? 0 : -Errno.EINVAL;
    case Madv.dontNeedLocked:
    case Madv.guardRemove:
    case Madv.collapse:
      return flags & VmFlag.special ? -Errno.EINVAL : 0;
    case Madv.remove:
      if (flags & VmFlag.locked || !part.file || part.anonymous) return -Errno.EINVAL;
      // vma_is_shared_maywrite.
      return flags & VmFlag.shared && flags & VmFlag.mayWrite ? 0 : -Errno.EACCES;
    case Madv.wipeOnFork:
      return part.file || part.shared ? -Errno.EINVAL : 0;
    case Madv.keepOnFork:
      return flags & VmFlag.droppable ? -Errno.EINVAL : 0;
    case Madv.doDump:
      return flags & (VmFlag.special | VmFlag.droppable) ? -Errno.EINVAL : 0;
    default:
      return 0;
  }
}

function carryOut(memory: ProgramMemory, task: Task, parts: readonly Mapping[], advice: number): number {
  const change = flagAdvice.get(advice);
  if (change) return changeFlags(memory, task, parts, change, advice);
  if (advice === Madv.remove) return removePages(task, parts);
  return tellHost(memory, task, parts, advice);
}

function changeFlags(
  memory: ProgramMemory,
  task: Task,
  parts: readonly Mapping[],
  change: FlagAdvice,
  advice: number,
): number {
  const context = memory.through(task);
  for (const part of parts) {
    const flags = (part.flags & ~change.clear) | change.set;
    if (flags === part.flags || part.flags & VmFlag.special) continue;
    // vma_ksm_compatible: shared pages are what they are.
    if ((change.set | change.clear) & VmFlag.mergeable && part.shared) continue;
    const whole = memory.set.find(part.start);
    const splits = whole ? (whole.start < part.start ? 1 : 0) + (whole.end > part.end ? 1 : 0) : 0;
    if (memory.set.count + splits > maximumMappings) return -Errno.EAGAIN;
    memory.changes.begin();
    part.file?.acquire();
    memory.changes.record(part.start, part.end, [part], 'none');
    memory.set.update(part.start, part.end, (old) => old.withFlags(flags));
    if (!change.host) {
      memory.changes.forget();
      continue;
    }
    const result = memory.addressSpace.advise(context, part.start, part.length, advice);
    const settled = memory.changes.settle(context, result, parts.length > 1 || memory.changes.immediate);
    if (settled < 0) return settled;
  }
  return 0;
}

/** One host operation for each run without gaps. */
function tellHost(memory: ProgramMemory, task: Task, parts: readonly Mapping[], advice: number): number {
  const context = memory.through(task);
  memory.changes.begin();
  let result = 0;
  for (let i = 0; i < parts.length && result === 0; ) {
    const { start } = parts[i] as Mapping;
    let { end } = parts[i] as Mapping;
    for (i++; parts[i]?.start === end; i++) end = (parts[i] as Mapping).end;
    if (start < memory.range.end) result = memory.addressSpace.advise(context, start, end - start, advice);
  }
  return memory.changes.settle(context, result, memory.changes.immediate || answeredByHost.has(advice));
}

function removePages(task: Task, parts: readonly Mapping[]): number {
  for (const part of parts) {
    const result = part.file?.allocate(task, PUNCH_HOLE_KEEP_SIZE, part.offset, part.length) ?? -Errno.EINVAL;
    if (result < 0) return result;
  }
  return 0;
}

/** MADV_POPULATE_*: up to the first gap; the host faults pages in and says what went wrong. */
function populate(memory: ProgramMemory, task: Task, start: number, end: number, advice: number): number {
  const context = memory.through(task);
  const wanted = advice === Madv.populateRead ? VmFlag.read : VmFlag.write;
  let refused = 0;
  let at = start;
  for (const part of memory.set.parts(start, end)) {
    if (part.start > at) break;
    // What is mapped without the right fails there, after what comes before.
    if (part.flags & VmFlag.special || (part.flags & wanted) === 0) {
      refused = -Errno.EINVAL;
      break;
    }
    at = part.end;
  }
  if (at > start) {
    memory.changes.begin();
    const result = memory.changes.settle(
      context,
      memory.addressSpace.advise(context, start, at - start, advice),
      true,
    );
    if (result < 0) return result;
  }
  return refused || (at < end ? -Errno.ENOMEM : 0);
}

/** mseal(2): from now on these mappings can be neither changed nor removed. All of the range must be mapped. */
export function seal(memory: ProgramMemory, start: number, size: number, flags: bigint): number {
  if (flags !== 0n || start % pageSize !== 0) return -Errno.EINVAL;
  const length = alignUp(size);
  if (size > 0 && length === 0) return -Errno.EINVAL;
  const end = start + length;
  if (end >= 2 ** 64) return -Errno.EINVAL;
  if (length === 0) return 0;
  if (memory.set.mapped(start, end) < length) return -Errno.ENOMEM;
  memory.changes.forget();
  memory.set.update(start, end, (part) =>
    part.flags & VmFlag.special ? part : part.withFlags(part.flags | VmFlag.sealed),
  );
  return 0;
}
