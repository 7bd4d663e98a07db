// Record locks (fcntl F_SETLK, F_OFD_SETLK and so on) and flock(2).

import { Errno } from '../../abi/errno.ts';
import { Flock, LockType, Seek } from '../../abi/file.ts';
import { getI64, putU64 } from '../../abi/stat.ts';
import { BLOCKED, type Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import type { RecordLock } from '../locks/inode-locks.ts';
import { LockTable } from '../locks/lock-table.ts';
import { fileOf } from './decode.ts';

/** struct flock: type, whence (16 bits each), start, length (64), pid (32). */
const flockSize = 32;
const Offset = { type: 0, whence: 2, start: 8, length: 16, pid: 24 } as const;

/** The range that a struct flock means (flock_to_posix_lock), or a negative errno. */
function range(
  file: FileDescription,
  view: DataView,
): { readonly start: number; readonly end: number } | number {
  let base: number;
  switch (view.getInt16(Offset.whence, true)) {
    case Seek.set:
      base = 0;
      break;
    case Seek.current:
      base = file.position;
      break;
    case Seek.end: {
      const stat = file.stat();
      if (typeof stat === 'number') return stat;
      base = stat.size;
      break;
    }
    default:
      return -Errno.EINVAL;
  }
  const start = base + getI64(view, Offset.start);
  const length = getI64(view, Offset.length);
  if (start < 0) return -Errno.EINVAL;
  if (start >= 2 ** 63) return -Errno.EOVERFLOW;
  if (length > 0) {
    const end = start + length - 1;
    if (end > 2 ** 63) return -Errno.EOVERFLOW;
    return { start, end: end >= 2 ** 63 - 1024 ? Number.POSITIVE_INFINITY : end };
  }
  if (length < 0) {
    if (start + length < 0) return -Errno.EINVAL;
    return { start: start + length, end: start - 1 };
  }
  return { start, end: Number.POSITIVE_INFINITY };
}

function readLock(task: Task, address: number): DataView | number {
  const bytes = new Uint8Array(flockSize);
  return task.memory.read(address, bytes, 0, flockSize) < 0 ? -Errno.EFAULT : new DataView(bytes.buffer);
}

/** F_GETLK, F_OFD_GETLK. */
export function testRecordLock(
  task: Task,
  file: FileDescription,
  address: number,
  openFile: boolean,
): number {
  const view = readLock(task, address);
  if (typeof view === 'number') return view;
  const type = view.getInt16(Offset.type, true);
  // F_OFD_GETLK with F_UNLCK finds any lock of the file itself; F_GETLK refuses it.
  if (type !== LockType.read && type !== LockType.write && !(openFile && type === LockType.unlock))
    return -Errno.EINVAL;
  const place = range(file, view);
  if (typeof place === 'number') return place;
  if (openFile && view.getInt32(Offset.pid, true) !== 0) return -Errno.EINVAL;
  const owner = openFile ? file : task.files;
  const held =
    type === LockType.unlock
      ? file.inode?.locks?.records.find(
          (lock) => lock.owner === owner && lock.start <= place.end && place.start <= lock.end,
        )
      : file.inode?.locks?.conflict(owner, type, place.start, place.end);
  if (held === undefined) {
    view.setInt16(Offset.type, LockType.unlock, true);
  } else {
    const { pidNamespace } = task.process;
    const holder = held.openFile ? undefined : task.kernel.rootPidNamespace.findProcess(held.pid);
    view.setInt16(Offset.type, held.type, true);
    view.setInt16(Offset.whence, Seek.set, true);
    putU64(view, Offset.start, held.start);
    putU64(view, Offset.length, held.end === Number.POSITIVE_INFINITY ? 0 : held.end - held.start + 1);
    view.setInt32(Offset.pid, held.openFile ? -1 : (holder?.pidIn(pidNamespace) ?? 0), true);
  }
  return Math.min(0, task.memory.write(address, new Uint8Array(view.buffer), 0, flockSize));
}

/** F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW. */
export function setRecordLock(
  task: Task,
  file: FileDescription,
  address: number,
  how: { readonly openFile: boolean; readonly wait: boolean },
): number {
  const view = readLock(task, address);
  if (typeof view === 'number') return view;
  const { inode } = file;
  if (inode === undefined) return -Errno.EBADF;
  const place = range(file, view);
  if (typeof place === 'number') return place;
  const type = view.getInt16(Offset.type, true);
  switch (type) {
    case LockType.read:
      if (!file.readable) return -Errno.EBADF;
      break;
    case LockType.write:
      if (!file.writable) return -Errno.EBADF;
      break;
    case LockType.unlock:
      break;
    default:
      return -Errno.EINVAL;
  }
  if (how.openFile && view.getInt32(Offset.pid, true) !== 0) return -Errno.EINVAL;
  const wanted: RecordLock = {
    owner: how.openFile ? file : task.files,
    openFile: how.openFile,
    pid: how.openFile ? -1 : task.process.pid,
    type,
    ...place,
  };
  return lock(task, file, inode, wanted, how.wait);
}

function lock(task: Task, file: FileDescription, inode: Inode, wanted: RecordLock, wait: boolean): number {
  if (wanted.type === LockType.unlock && inode.locks === undefined) return 0;
  const table = task.kernel.part(LockTable);
  const locks = table.of(inode);
  const result = locks.set(wanted);
  if (result !== -Errno.EAGAIN || !wait) return result;
  if (table.wouldDeadlock(locks, wanted)) return -Errno.EDEADLK;
  const waited = table.waits(locks, wanted);
  file.acquire();
  return task.block({
    on: [{ queue: locks.queue, events: Poll.in }],
    retry() {
      const again = locks.set(wanted);
      if (again !== -Errno.EAGAIN) return again;
      return table.wouldDeadlock(locks, wanted) ? -Errno.EDEADLK : BLOCKED;
    },
    ended() {
      waited();
      file.unreference();
    },
  });
}

function flock(task: Task, args: Arguments): number {
  const operation = args.u32(1);
  let wanted: boolean | undefined;
  // LOCK_MAND is gone since Linux 5.18: it is said to work and does nothing.
  if (operation & Flock.mandatory) return 0;
  switch (operation & ~Flock.nonBlock) {
    case Flock.shared:
      wanted = false;
      break;
    case Flock.exclusive:
      wanted = true;
      break;
    case Flock.unlock:
      wanted = undefined;
      break;
    default:
      return -Errno.EINVAL;
  }
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const { inode } = file;
  if (wanted !== undefined && !file.readable && !file.writable) return -Errno.EBADF;
  if (inode === undefined) return -Errno.EBADF;
  const locks = task.kernel.part(LockTable).of(inode);
  const { pid } = task.process;
  const result = locks.flock(file, pid, wanted);
  if (result !== -Errno.EAGAIN || operation & Flock.nonBlock) return result;
  file.acquire();
  return task.block({
    on: [{ queue: locks.queue, events: Poll.in }],
    retry() {
      const again = locks.flock(file, pid, wanted);
      return again === -Errno.EAGAIN ? BLOCKED : again;
    },
    ended: () => file.unreference(),
  });
}

export const lockSyscalls: readonly Syscall[] = [
  { name: 'flock', signature: 'fd:fd operation:hex', support: 'full', handler: flock },
];
