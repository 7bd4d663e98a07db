// fsync and its relatives, fallocate, advice; and calls of the file area that only say that they are not there.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Allocate, At } from '../../abi/file.ts';
import { FileType } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { Event, notifyPath } from '../notify.ts';
import { fileOf, lookupFlags, placeOrFile, vfsOf } from './decode.ts';

function sync(task: Task, args: Arguments, dataOnly: boolean): number {
  const file = fileOf(task, args.i32(0));
  return file === undefined ? -Errno.EBADF : file.sync(task, dataOnly);
}

/** SYNC_FILE_RANGE_WAIT_BEFORE | WRITE | WAIT_AFTER. */
const syncRangeFlags = 7;

function syncFileRange(task: Task, args: Arguments): number {
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const offset = args.i64(1);
  const length = args.i64(2);
  if (args.u32(3) & ~syncRangeFlags) return -Errno.EINVAL;
  if (offset < 0 || length < 0 || offset + length >= 2 ** 63) return -Errno.EINVAL;
  const type = (file.inode?.mode ?? 0) & FileType.mask;
  if (type === FileType.fifo || type === FileType.socket || type === FileType.character || type === 0)
    return -Errno.ESPIPE;
  return args.u32(3) === 0 ? 0 : file.sync(task, true);
}

function fallocate(task: Task, args: Arguments): number {
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const mode = args.u32(1);
  const offset = args.i64(2);
  const length = args.i64(3);
  if (offset < 0 || length <= 0) return -Errno.EINVAL;
  const known =
    Allocate.keepSize |
    Allocate.punchHole |
    Allocate.collapseRange |
    Allocate.zeroRange |
    Allocate.insertRange |
    Allocate.unshareRange |
    Allocate.writeZeroes;
  if (mode & ~known) return -Errno.EOPNOTSUPP;
  // One operation at a time; only these go with KEEP_SIZE, and a hole is punched only with it.
  const operation = mode & ~Allocate.keepSize;
  switch (operation) {
    case 0:
    case Allocate.unshareRange:
    case Allocate.zeroRange:
      break;
    case Allocate.punchHole:
      if (!(mode & Allocate.keepSize)) return -Errno.EOPNOTSUPP;
      break;
    case Allocate.collapseRange:
    case Allocate.insertRange:
    case Allocate.writeZeroes:
      if (mode & Allocate.keepSize) return -Errno.EOPNOTSUPP;
      break;
    default:
      return -Errno.EOPNOTSUPP;
  }
  if (!file.writable) return -Errno.EBADF;
  const { inode } = file;
  const type = (inode?.mode ?? 0) & FileType.mask;
  if (type === FileType.fifo) return -Errno.ESPIPE;
  if (type === FileType.directory) return -Errno.EISDIR;
  if (type !== FileType.regular && type !== FileType.block) return -Errno.ENODEV;
  if (offset + length >= 2 ** 63) return -Errno.EFBIG;
  const result = file.allocate(task, mode, offset, length);
  if (result >= 0 && file.path) notifyPath(file.path, Event.modify);
  return result;
}

/** posix_fadvise: there is no cache of ours to advise; arguments are checked as Linux does. */
function fadvise(task: Task, args: Arguments): number {
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  if (((file.inode?.mode ?? FileType.fifo) & FileType.mask) === FileType.fifo) return -Errno.ESPIPE;
  if (args.i64(2) < 0) return -Errno.EINVAL;
  return args.u32(3) > 5 ? -Errno.EINVAL : 0;
}

function readahead(task: Task, args: Arguments): number {
  const file = fileOf(task, args.i32(0));
  if (!file?.readable) return -Errno.EBADF;
  const { inode } = file;
  return inode?.isRegular ? 0 : -Errno.EINVAL;
}

/** Handles are of no use where they cannot be opened again by anybody else: no file system exports them. */
function nameToHandle(task: Task, args: Arguments): number {
  const flags = args.u32(4);
  if (flags & ~(At.symlinkFollow | At.emptyPath | At.effectiveAccess | 1)) return -Errno.EINVAL;
  const lookup = lookupFlags(flags & At.symlinkFollow ? flags & At.emptyPath : flags | At.symlinkNoFollow);
  const place = placeOrFile(task, args.i32(0), args.address(1), lookup);
  return typeof place === 'number' ? place : -Errno.EOPNOTSUPP;
}

export const storageSyscalls: readonly Syscall[] = [
  { name: 'fsync', signature: 'fd:fd', support: 'full', handler: (task, args) => sync(task, args, false) },
  { name: 'fdatasync', signature: 'fd:fd', support: 'full', handler: (task, args) => sync(task, args, true) },
  {
    name: 'sync',
    signature: '',
    support: 'full',
    handler(task) {
      for (const fileSystem of vfsOf(task).fileSystems()) fileSystem.sync();
      return 0;
    },
  },
  {
    name: 'syncfs',
    signature: 'fd:fd',
    support: 'full',
    handler(task, args) {
      const file = fileOf(task, args.i32(0));
      if (file === undefined) return -Errno.EBADF;
      return Math.min(0, (file.path?.mount.fileSystem ?? file.inode?.fileSystem)?.sync() ?? 0);
    },
  },
  {
    name: 'sync_file_range',
    signature: 'fd:fd offset:offset length:offset flags:hex',
    support: 'full',
    handler: syncFileRange,
  },
  {
    name: 'fallocate',
    signature: 'fd:fd mode:hex offset:offset length:offset',
    support: 'full',
    handler: fallocate,
  },
  {
    name: 'fadvise64',
    signature: 'fd:fd offset:offset length:size advice:int',
    support: 'full',
    handler: fadvise,
  },
  { name: 'readahead', signature: 'fd:fd offset:offset count:size', support: 'full', handler: readahead },
  {
    name: 'name_to_handle_at',
    signature: 'dirfd:dirfd path:path handle:address mount:address flags:hex',
    support: 'partial',
    note: 'fails with EOPNOTSUPP: no file system here exports handles',
    handler: nameToHandle,
  },
  {
    name: 'open_by_handle_at',
    signature: 'mountfd:fd handle:address flags:flags.open',
    support: 'partial',
    note: 'fails with EPERM or ESTALE: no file system here exports handles',
    handler: (task) => (task.credentials.has(Capability.dacReadSearch) ? -Errno.ESTALE : -Errno.EPERM),
  },
];
