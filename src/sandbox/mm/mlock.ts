// mlock(2), mlock2(2), munlock(2), mlockall(2), munlockall(2) (mm/mlock.c); msync(2), mincore(2). Locking is an account
// that limits are held against, and makes pages present; that they stay so is the host's decision.

import { Capability } from '../abi/capability.ts';
import { Errno } from '../abi/errno.ts';
import { MlockAll, Msync, mlockOnFault, pageSize } from '../abi/memory.ts';
import { Rlimit } from '../abi/resource.ts';
import type { Task } from '../kernel/contract.ts';
import { mayLockAtAll } from './map-rules.ts';
import { alignDown, alignUp, maximumMappings } from './placement.ts';
import type { ProgramMemory } from './program-memory.ts';
import { lockedMask, VmFlag } from './vma.ts';

const privileged = (task: Task): boolean =>
  task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.ipcLock);

/** Bytes within [start, end) that are locked already. */
function lockedWithin(memory: ProgramMemory, start: number, end: number): number {
  let bytes = 0;
  for (const part of memory.set.parts(start, end)) if (part.flags & VmFlag.locked) bytes += part.length;
  return bytes;
}

/** mlock2(2) with its flags (MLOCK_ONFAULT), mlock(2) with 0. */
export function lock(
  memory: ProgramMemory,
  task: Task,
  address: number,
  size: number,
  flags: number,
): number {
  if (flags & ~mlockOnFault) return -Errno.EINVAL;
  if (!mayLockAtAll(task)) return -Errno.EPERM;
  const length = alignUp(size + (address % pageSize));
  const start = alignDown(address);
  const end = start + length;
  if (!privileged(task)) {
    const { soft } = task.process.limit(Rlimit.memlock);
    const limit = soft - (soft % pageSize || 0);
    let locked = memory.set.locked + length;
    if (locked > limit) locked -= lockedWithin(memory, start, end);
    if (locked > limit) return -Errno.ENOMEM;
  }
  if (end >= 2 ** 64) return -Errno.EINVAL;
  const wanted = flags & mlockOnFault ? lockedMask : VmFlag.locked;
  const result = applyFlags(memory, start, end, wanted);
  if (result < 0 || flags & mlockOnFault) return result;
  return presentError(memory.populate(memory.through(task), start, end));
}

export function unlock(memory: ProgramMemory, address: number, size: number): number {
  const start = alignDown(address);
  const end = start + alignUp(size + (address % pageSize));
  if (end >= 2 ** 64) return -Errno.EINVAL;
  return applyFlags(memory, start, end, 0);
}

/** apply_vma_lock_flags: up to the first gap, which is an error. */
function applyFlags(memory: ProgramMemory, start: number, end: number, flags: number): number {
  if (end === start) return 0;
  let at = start;
  for (const part of memory.set.parts(start, end)) {
    if (part.start > at) break;
    at = part.end;
  }
  if (at === start) return -Errno.ENOMEM;
  if (memory.set.count + 2 > maximumMappings && memory.set.splits(start, at) > 0) return -Errno.ENOMEM;
  memory.changes.forget();
  memory.set.update(start, at, (part) =>
    part.flags & (VmFlag.special | VmFlag.droppable)
      ? part
      : part.withFlags((part.flags & ~lockedMask) | flags),
  );
  return at < end ? -Errno.ENOMEM : 0;
}

/** __mlock_posix_error_return. */
function presentError(result: number): number {
  if (result === -Errno.EFAULT) return -Errno.ENOMEM;
  return result === -Errno.ENOMEM ? -Errno.EAGAIN : result;
}

export function lockAll(memory: ProgramMemory, task: Task, flags: number): number {
  const { current, future, onFault } = MlockAll;
  if (flags === 0 || flags & ~(current | future | onFault) || flags === onFault) return -Errno.EINVAL;
  if (!mayLockAtAll(task)) return -Errno.EPERM;
  if (flags & current && memory.set.total > task.process.limit(Rlimit.memlock).soft && !privileged(task))
    return -Errno.ENOMEM;
  const wanted = flags & onFault ? lockedMask : VmFlag.locked;
  memory.futureFlags = flags & future ? wanted : 0;
  if ((flags & current) === 0) return 0;
  lockEverything(memory, wanted);
  if ((flags & onFault) === 0) memory.populate(memory.through(task), 0, memory.range.end);
  return 0;
}

export function unlockAll(memory: ProgramMemory): number {
  memory.futureFlags = 0;
  lockEverything(memory, 0);
  return 0;
}

function lockEverything(memory: ProgramMemory, flags: number): void {
  memory.changes.forget();
  memory.set.update(0, memory.range.end, (part) =>
    part.flags & VmFlag.droppable ? part : part.withFlags((part.flags & ~lockedMask) | flags),
  );
}

/** msync(2): MS_SYNC writes shared file mappings back on the host; the others only check. */
export function sync(memory: ProgramMemory, task: Task, start: number, size: number, flags: number): number {
  if (flags & ~(Msync.async | Msync.invalidate | Msync.sync)) return -Errno.EINVAL;
  if (start % pageSize !== 0) return -Errno.EINVAL;
  if (flags & Msync.async && flags & Msync.sync) return -Errno.EINVAL;
  const end = start + alignUp(size);
  if (end >= 2 ** 64) return -Errno.ENOMEM;
  if (end === start) return 0;
  const context = memory.through(task);
  let at = start;
  let holes = false;
  memory.changes.begin();
  for (const part of memory.set.parts(start, end)) {
    if (part.start > at) {
      if (flags === Msync.async) return -Errno.ENOMEM;
      holes = true;
    }
    if (flags & Msync.invalidate && part.flags & VmFlag.locked) return -Errno.EBUSY;
    if (flags & Msync.sync && part.file && part.flags & VmFlag.shared) {
      const result = memory.addressSpace.sync(context, part.start, part.length, Msync.sync);
      const settled = memory.changes.settle(context, result);
      if (settled < 0) return settled;
    }
    at = part.end;
  }
  return holes || at < end ? -Errno.ENOMEM : 0;
}

/** mincore(2). Where the platform cannot tell what is present, all that is mapped counts as present. */
export function residency(
  task: Task,
  memory: ProgramMemory,
  start: number,
  size: number,
  vector: number,
): number {
  if (start % pageSize !== 0) return -Errno.EINVAL;
  const { end: limit } = memory.range;
  if (start + size > limit) return -Errno.ENOMEM;
  let left = alignUp(size) / pageSize;
  if (vector + left > limit) return -Errno.EFAULT;
  const bytes = new Uint8Array(Math.min(left, pageSize)).fill(1);
  let at = start;
  let done = 0;
  while (left > 0) {
    const count = Math.min(left, bytes.length);
    const end = at + count * pageSize;
    let reached = at;
    for (const part of memory.set.parts(at, end)) {
      if (part.start > reached) break;
      reached = part.end;
    }
    const present = (reached - at) / pageSize;
    if (present > 0 && memory.addressSpace.resident) {
      const result = memory.addressSpace.resident(memory.through(task), at, reached - at, bytes);
      if (result < 0) return result;
    }
    if (present > 0 && task.memory.write(vector + done, bytes, 0, present) < 0) return -Errno.EFAULT;
    if (present < count) return -Errno.ENOMEM;
    done += count;
    left -= count;
    at = end;
  }
  return 0;
}
