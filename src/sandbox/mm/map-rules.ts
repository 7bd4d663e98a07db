// What mmap(2) lets a program map, by the kind of mapping (do_mmap in mm/mmap.c, from the look at the file on).

import { Capability } from '../abi/capability.ts';
import { Errno } from '../abi/errno.ts';
import { MapFlag } from '../abi/memory.ts';
import { FileType } from '../abi/open.ts';
import { Rlimit } from '../abi/resource.ts';
import type { Task } from '../kernel/contract.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import { VmFlag } from './vma.ts';

/** The rules for files: flags of the mapping, or a negative errno. */
export function fileFlags(
  file: FileDescription,
  flags: number,
  vmFlags: number,
  noExec: boolean,
  end: number,
): number {
  let result = vmFlags;
  // file_mmap_ok: offsets beyond the largest file's. `end` is offset + length.
  const sized = new Set<number>([FileType.regular, FileType.block, FileType.socket]);
  if (end >= (sized.has((file.inode?.mode ?? 0) & FileType.mask) ? 2 ** 63 : 2 ** 64))
    return -Errno.EOVERFLOW;
  switch (flags & MapFlag.type) {
    case MapFlag.sharedValidate:
    case MapFlag.shared:
      // MAP_SYNC is not among what is known: there is no persistent memory.
      if ((flags & MapFlag.type) === MapFlag.sharedValidate && flags & ~knownMapFlags)
        return -Errno.EOPNOTSUPP;
      if (vmFlags & VmFlag.write && !file.writable) return -Errno.EACCES;
      result |= VmFlag.shared | VmFlag.mayShare;
      if (!file.writable) result &= ~(VmFlag.mayWrite | VmFlag.shared);
      break;
    case MapFlag.private:
      break;
    default:
      return -Errno.EINVAL;
  }
  if (!file.readable) return -Errno.EACCES;
  if (noExec) {
    if (vmFlags & VmFlag.exec) return -Errno.EPERM;
    result &= ~VmFlag.mayExec;
  }
  return vmFlags & VmFlag.growsDown ? -Errno.EINVAL : result;
}

/** LEGACY_MAP_MASK beside the type: what MAP_SHARED_VALIDATE knows. */
const knownMapFlags =
  MapFlag.type |
  MapFlag.fixed |
  MapFlag.anonymous |
  MapFlag.denyWrite |
  MapFlag.executable |
  MapFlag.growsDown |
  MapFlag.locked |
  MapFlag.noReserve |
  MapFlag.populate |
  MapFlag.nonBlock |
  MapFlag.stack |
  MapFlag.hugeTlb |
  MapFlag.low32 |
  MapFlag.above4g |
  MapFlag.hugeSizes;

/** The rules for anonymous memory. */
export function anonymousFlags(flags: number, vmFlags: number): number {
  switch (flags & MapFlag.type) {
    case MapFlag.shared:
      if (vmFlags & VmFlag.growsDown) return -Errno.EINVAL;
      return vmFlags | VmFlag.shared | VmFlag.mayShare;
    case MapFlag.private:
      return vmFlags;
    case MapFlag.droppable:
      if (flags & (MapFlag.locked | MapFlag.hugeTlb) || vmFlags & VmFlag.growsDown) return -Errno.EINVAL;
      return vmFlags | VmFlag.droppable | VmFlag.noReserve | VmFlag.wipeOnFork | VmFlag.dontDump;
    default:
      return -Errno.EINVAL;
  }
}

/** can_do_mlock. */
export function mayLockAtAll(task: Task): boolean {
  return (
    task.process.limit(Rlimit.memlock).soft !== 0 ||
    task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.ipcLock)
  );
}
