// mremap(2) and remap_file_pages(2) (mm/mremap.c, mm/mmap.c).
//
// An operation that changes the host more than once settles each change before the next, so that a refusal leaves books
// and host alike.

import { Errno } from '../abi/errno.ts';
import { MapFlag, Mremap, pageSize } from '../abi/memory.ts';
import type { Task } from '../kernel/contract.ts';
import { hostProtection } from './host-changes.ts';
import { alignUp, choosePlace, maximumMappings } from './placement.ts';
import type { ProgramMemory } from './program-memory.ts';
import { lockedMask, Mapping, VmFlag } from './vma.ts';

const overlap = (a: number, aLength: number, b: number, bLength: number): boolean =>
  a + aLength > b && b + bLength > a;

/** mremap(2); the new address or a negative errno. */
export function remap(
  memory: ProgramMemory,
  task: Task,
  address: number,
  oldSize: number,
  newSize: number,
  flags: number,
  newAddress: number,
): number {
  const limit = memory.range.end;
  if (flags & ~(Mremap.mayMove | Mremap.fixed | Mremap.dontUnmap)) return -Errno.EINVAL;
  if (address % pageSize !== 0) return -Errno.EINVAL;
  const oldLength = alignUp(oldSize);
  const newLength = alignUp(newSize);
  if (newLength === 0 || newLength > limit) return -Errno.EINVAL;
  const placed = (flags & (Mremap.fixed | Mremap.dontUnmap)) !== 0;
  if (placed) {
    if (newAddress > limit - newLength || newAddress % pageSize !== 0) return -Errno.EINVAL;
    if ((flags & Mremap.mayMove) === 0) return -Errno.EINVAL;
    if (flags & Mremap.dontUnmap && oldLength !== newLength) return -Errno.EINVAL;
    if (overlap(address, oldLength, newAddress, newLength)) return -Errno.EINVAL;
    if (memory.set.count + 2 >= maximumMappings - 3) return -Errno.ENOMEM;
  }
  const mapping = memory.set.find(address);
  if (!mapping || mapping.flags & VmFlag.special) return -Errno.EFAULT;
  if (mapping.flags & VmFlag.sealed) return -Errno.EPERM;
  if (!placed && newLength === oldLength) return address;
  if (!placed && newLength < oldLength) {
    const result = memory.unmapRange(task, address + newLength, address + oldLength);
    return result < 0 ? result : address;
  }
  if (flags & Mremap.fixed && oldLength > mapping.end - address && oldLength === newLength)
    return moveSeveral(memory, task, address, oldLength, newAddress, flags);
  const refused = checkGrowth(memory, task, mapping, address, oldLength, newLength);
  if (refused < 0) return refused;
  if (placed) return moveTo(memory, task, mapping, address, oldLength, newLength, newAddress, flags);
  if (oldLength > 0 && address + oldLength === mapping.end) {
    const end = address + newLength;
    const free = end <= limit && !memory.set.overlaps(mapping.end, end);
    if (free) return extend(memory, task, mapping, address, end);
  }
  if ((flags & Mremap.mayMove) === 0) return -Errno.ENOMEM;
  return moveTo(memory, task, mapping, address, oldLength, newLength, 0, flags);
}

/** What of the mapping may be remapped, and whether what is added fits the limits. */
function checkGrowth(
  memory: ProgramMemory,
  task: Task,
  mapping: Mapping,
  address: number,
  oldLength: number,
  newLength: number,
): number {
  // Private memory cannot be had twice.
  if (oldLength === 0 && !mapping.shared) return -Errno.EINVAL;
  // What a shrinking move drops may lie in other mappings.
  if (Math.min(oldLength, newLength) > mapping.end - address) return -Errno.EFAULT;
  if (newLength <= oldLength) return 0;
  if (mapping.offset + (address - mapping.start) + newLength > 2 ** 63) return -Errno.EINVAL;
  const added = newLength - oldLength;
  if (!memory.mayLock(task, mapping.flags, added)) return -Errno.EAGAIN;
  if (!memory.mayExpand(task, mapping.flags, added)) return -Errno.ENOMEM;
  if (mapping.flags & VmFlag.account && !memory.enoughMemory(added)) return -Errno.ENOMEM;
  return 0;
}

/** In place, into free room behind the mapping. */
function extend(memory: ProgramMemory, task: Task, mapping: Mapping, address: number, end: number): number {
  const context = memory.through(task);
  const start = mapping.end;
  const offset = mapping.offset + mapping.length;
  let backing: ReturnType<ProgramMemory['backingOf']> = { kind: 'anonymous' };
  if (mapping.file && !mapping.anonymous)
    backing = memory.backingOf(task, mapping.file, mapping.protection, mapping.shared, offset);
  if (typeof backing === 'number') return backing;
  memory.changes.begin();
  memory.changes.record(start, end, [], 'unmap');
  mapping.file?.acquire();
  const { flags, file, label, policy } = mapping;
  memory.set.insert(new Mapping(start, end, flags, file, offset, label, policy));
  const result = memory.addressSpace.map(
    context,
    start,
    end - start,
    hostProtection(flags),
    mapping.shared,
    backing,
  );
  const locked = (flags & lockedMask) === VmFlag.locked;
  const settled = memory.changes.settle(context, result, locked || memory.changes.immediate);
  if (settled < 0) return settled;
  if (locked) memory.populate(context, start, end);
  return address;
}

/** To newAddress with MREMAP_FIXED (what is there goes), else to where there is room. */
function moveTo(
  memory: ProgramMemory,
  task: Task,
  mapping: Mapping,
  address: number,
  oldLength: number,
  newLength: number,
  newAddress: number,
  flags: number,
): number {
  const keep = (flags & Mremap.dontUnmap) !== 0;
  if (keep && !memory.mayExpand(task, mapping.flags, oldLength)) return -Errno.ENOMEM;
  const fixed = (flags & Mremap.fixed) !== 0;
  const to = choosePlace(
    memory.set,
    memory.range,
    memory.bases,
    newAddress,
    newLength,
    fixed ? MapFlag.fixed : 0,
    false,
    task.kernel,
  );
  if (to < 0) return to;
  if (fixed && memory.set.overlaps(to, to + newLength)) {
    const result = memory.unmapRange(task, to, to + newLength) || memory.through(task).flush();
    if (result < 0) return result;
  }
  let length = oldLength;
  if (length > newLength) {
    const result =
      memory.unmapRange(task, address + newLength, address + oldLength) || memory.through(task).flush();
    if (result < 0) return result;
    length = newLength;
  }
  // The books of this part have changed if the mapping was cut.
  const source = memory.set.find(address);
  return source ? move(memory, task, source, address, length, to, newLength, keep) : -Errno.EFAULT;
}

/** One mapping's part, on the host at once or queued. length 0: a second mapping of shared pages. */
function move(
  memory: ProgramMemory,
  task: Task,
  mapping: Mapping,
  address: number,
  length: number,
  to: number,
  newLength: number,
  keep: boolean,
): number {
  const context = memory.through(task);
  const { set, changes } = memory;
  changes.begin();
  const end = address + length;
  if (length > 0 && keep) {
    const saved = set.parts(address, end);
    for (const { file } of saved) file?.acquire();
    changes.record(address, end, saved, 'none');
    set.update(address, end, (part) => part.withFlags(part.flags & ~lockedMask));
  }
  mapping.file?.acquire();
  const moved = new Mapping(
    to,
    to + newLength,
    mapping.flags,
    mapping.file,
    mapping.offset + (address - mapping.start),
    mapping.label,
    mapping.policy,
  );
  if (length > 0 && !keep) changes.record(address, end, set.cut(address, end), 'none');
  changes.record(to, to + newLength, [], 'none');
  set.insert(moved);
  const result = memory.addressSpace.move(context, address, length, to, newLength, keep);
  // At once: the host keeps apart what the books have merged if both parts were written before they met, and then
  // refuses with EFAULT, which a platform cannot tell from a result that could not be copied out.
  const settled = changes.settle(context, result, true);
  if (settled < 0) return settled;
  if ((moved.flags & lockedMask) === VmFlag.locked && newLength > length)
    memory.populate(context, to + length, to + newLength);
  return to;
}

/** All mappings in a range with the gaps between them (Linux 6.17); the first must begin at the range or before. */
function moveSeveral(
  memory: ProgramMemory,
  task: Task,
  address: number,
  length: number,
  to: number,
  flags: number,
): number {
  const { set } = memory;
  const place = choosePlace(set, memory.range, memory.bases, to, length, MapFlag.fixed, false, task.kernel);
  if (place < 0) return place;
  const keep = (flags & Mremap.dontUnmap) !== 0;
  for (const part of set.parts(address, address + length)) {
    const source = set.find(part.start);
    if (!source || source.flags & (VmFlag.special | VmFlag.sealed)) return -Errno.EPERM;
    const moved = moveTo(
      memory,
      task,
      source,
      part.start,
      part.length,
      part.length,
      to + (part.start - address),
      Mremap.mayMove | Mremap.fixed | (keep ? Mremap.dontUnmap : 0),
    );
    if (moved < 0) return moved;
    const flushed = memory.through(task).flush();
    if (flushed < 0) return memory.changes.settle(memory.through(task), flushed);
  }
  return to;
}

/** remap_file_pages(2), which Linux keeps by making ordinary mappings. */
export function remapFilePages(
  memory: ProgramMemory,
  task: Task,
  address: number,
  size: number,
  protection: number,
  page: number,
  flags: number,
): number {
  if (protection !== 0) return -Errno.EINVAL;
  const start = address - (address % pageSize);
  const length = size - (size % pageSize);
  const end = start + length;
  if (end <= start || end > 2 ** 63 || page + length / pageSize > 2 ** 52) return -Errno.EINVAL;
  const first = memory.set.find(start);
  if (!first || (first.flags & VmFlag.shared) === 0 || !first.file) return -Errno.EINVAL;
  let at = start;
  for (const mapping of memory.set.within(start, end)) {
    if (mapping.start > at || mapping.file !== first.file || mapping.flags !== first.flags)
      return -Errno.EINVAL;
    at = mapping.end;
  }
  if (at < end) return -Errno.EINVAL;
  const locked = first.flags & VmFlag.locked ? MapFlag.locked : 0;
  const result = memory.map(task, {
    address: start,
    length,
    protection: first.protection,
    flags: (flags & MapFlag.nonBlock) | MapFlag.shared | MapFlag.fixed | MapFlag.populate | locked,
    file: first.file,
    offset: page * pageSize,
  });
  return Math.min(0, result);
}
