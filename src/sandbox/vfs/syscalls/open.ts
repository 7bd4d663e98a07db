// open and its relatives, close, dup, memfd_create.

import { Errno } from '../../abi/errno.ts';
import { At, MemoryFileFlag, ModeBit, Resolve } from '../../abi/file.ts';
import { OpenFlag } from '../../abi/open.ts';
import { BLOCKED, type Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { FileDescription } from '../file-description.ts';
import { MemoryFiles } from '../memory-files.ts';
import { openAt } from '../open.ts';
import { readPath } from './decode.ts';

/** VALID_OPEN_FLAGS. */
const validFlags =
  OpenFlag.accessMode |
  OpenFlag.create |
  OpenFlag.exclusive |
  OpenFlag.noControllingTerminal |
  OpenFlag.truncate |
  OpenFlag.append |
  OpenFlag.nonBlock |
  OpenFlag.sync |
  OpenFlag.async |
  OpenFlag.direct |
  OpenFlag.largeFile |
  OpenFlag.directory |
  OpenFlag.noFollow |
  OpenFlag.noAccessTime |
  OpenFlag.closeOnExec |
  OpenFlag.path |
  OpenFlag.temporaryFile;

const pathFlags = OpenFlag.directory | OpenFlag.noFollow | OpenFlag.path | OpenFlag.closeOnExec;
const temporaryBit = OpenFlag.temporaryFile & ~OpenFlag.directory;

/** build_open_flags: the flags as they count, or -EINVAL. */
function normalized(given: number): number {
  let flags = given;
  if ((flags & (OpenFlag.directory | OpenFlag.create)) === (OpenFlag.directory | OpenFlag.create))
    return -Errno.EINVAL;
  if (flags & temporaryBit) {
    if (!(flags & OpenFlag.directory)) return -Errno.EINVAL;
    if ((flags & OpenFlag.accessMode) === OpenFlag.readOnly) return -Errno.EINVAL;
  }
  if (flags & OpenFlag.path && flags & ~pathFlags) return -Errno.EINVAL;
  // O_SYNC includes O_DSYNC whatever the bits say.
  if (flags & OpenFlag.sync & ~OpenFlag.dataSync) flags |= OpenFlag.dataSync;
  return flags;
}

function finish(task: Task, file: FileDescription, closeOnExec: boolean): number {
  const fd = task.files.install(task, file, closeOnExec);
  if (fd < 0) file.unreference();
  return fd;
}

/** Installs what was opened, once its open is over (a FIFO waits for its other end). */
function install(task: Task, file: FileDescription | number, flags: number): number {
  if (typeof file === 'number') return file;
  const closeOnExec = (flags & OpenFlag.closeOnExec) !== 0;
  const queue = file.opening;
  if (queue === undefined) return finish(task, file, closeOnExec);
  let over = false;
  return task.block({
    on: [{ queue, events: Poll.in | Poll.out | Poll.rdnorm | Poll.wrnorm }],
    retry() {
      if (file.opening !== undefined) return BLOCKED;
      over = true;
      return finish(task, file, closeOnExec);
    },
    ended() {
      if (!over) file.unreference();
    },
  });
}

function open(task: Task, dirfd: number, address: number, given: number, mode: number): number {
  let wanted = (given & validFlags) | OpenFlag.largeFile;
  if (wanted & OpenFlag.path) wanted &= pathFlags;
  const flags = normalized(wanted);
  if (flags < 0) return flags;
  const path = readPath(task, address);
  if (typeof path === 'number') return path;
  // Nothing is created when there is no number for it (do_sys_openat2).
  if (!task.files.hasFree(task)) return -Errno.EMFILE;
  return install(task, openAt(task, dirfd, path, flags, mode & ModeBit.all, 0), flags);
}

/** struct open_how: flags, mode, resolve, 64 bits each. */
const openHowSize = 24;

function openat2(task: Task, args: Arguments): number {
  const size = args.size(3);
  if (size < openHowSize) return -Errno.EINVAL;
  if (size > 4096) return -Errno.E2BIG;
  const bytes = new Uint8Array(size);
  if (task.memory.read(args.address(2), bytes, 0, size) < 0) return -Errno.EFAULT;
  // copy_struct_from_user: what this kernel does not know must be zero.
  for (let i = openHowSize; i < size; i++) if (bytes[i] !== 0) return -Errno.E2BIG;
  const view = new DataView(bytes.buffer);
  for (const high of [4, 12, 20]) if (view.getUint32(high, true) !== 0) return -Errno.EINVAL;
  const given = view.getUint32(0, true);
  const mode = view.getUint32(8, true);
  const resolve = view.getUint32(16, true);
  if (given & ~validFlags) return -Errno.EINVAL;
  if (resolve & ~Resolve.valid) return -Errno.EINVAL;
  if (resolve & Resolve.beneath && resolve & Resolve.inRoot) return -Errno.EINVAL;
  const creates = (given & (OpenFlag.create | temporaryBit)) !== 0;
  if (creates ? mode & ~ModeBit.all : mode !== 0) return -Errno.EINVAL;
  const flags = normalized(given | OpenFlag.largeFile);
  if (flags < 0) return flags;
  // Nothing here ever waits for a disk while it looks names up, but what changes the tree may not be "cached".
  if (resolve & Resolve.cached && flags & (OpenFlag.truncate | OpenFlag.create | temporaryBit))
    return -Errno.EAGAIN;
  const path = readPath(task, args.address(1));
  if (typeof path === 'number') return path;
  if (!task.files.hasFree(task)) return -Errno.EMFILE;
  return install(task, openAt(task, args.i32(0), path, flags, mode, resolve & ~Resolve.cached), flags);
}

function close(task: Task, args: Arguments): number {
  const result = task.files.close(task, args.i32(0));
  // The descriptor is gone even if a flush failed or was interrupted: the call cannot be begun anew.
  return result <= -Errno.ERESTARTSYS && result >= -Errno.ERESTART_RESTARTBLOCK ? -Errno.EINTR : result;
}

const closeRangeUnshare = 2;
const closeRangeCloexec = 4;

function closeRange(task: Task, args: Arguments): number {
  const first = args.u32(0);
  const last = args.u32(1);
  const flags = args.u32(2);
  if (flags & ~(closeRangeUnshare | closeRangeCloexec)) return -Errno.EINVAL;
  if (first > last) return -Errno.EINVAL;
  if (flags & closeRangeUnshare && task.files.users > 1) {
    const shared = task.files;
    task.files = shared.fork();
    shared.release(task);
  }
  for (const [fd] of [...task.files.entries()]) {
    if (fd < first || fd > last) continue;
    if (flags & closeRangeCloexec) task.files.setCloseOnExec(fd, true);
    else task.files.close(task, fd);
  }
  return 0;
}

function dup(task: Task, args: Arguments): number {
  const file = task.files.get(args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  return finish(task, file.acquire(), false);
}

/** dup3, and dup2 for different numbers. */
function duplicate(task: Task, from: number, to: number, flags: number): number {
  if (flags & ~OpenFlag.closeOnExec) return -Errno.EINVAL;
  if (from === to) return -Errno.EINVAL;
  if (to < 0 || to >= task.process.limit(7).soft) return -Errno.EBADF;
  const file = task.files.get(from);
  if (file === undefined) return -Errno.EBADF;
  const result = task.files.replace(task, to, file.acquire(), (flags & OpenFlag.closeOnExec) !== 0);
  if (result < 0) file.unreference();
  return result;
}

function dup2(task: Task, args: Arguments): number {
  const from = args.i32(0);
  const to = args.i32(1);
  if (from === to) return task.files.get(from) === undefined ? -Errno.EBADF : to;
  return duplicate(task, from, to, 0);
}

/** "memfd:" and the name fit into a file name. */
const memoryNameMaximum = 249;

function memfdCreate(task: Task, args: Arguments): number {
  const flags = args.u32(1);
  const known =
    MemoryFileFlag.closeOnExec |
    MemoryFileFlag.allowSealing |
    MemoryFileFlag.noExecSeal |
    MemoryFileFlag.exec;
  // Pages of other sizes than the usual one are not there.
  if (flags & MemoryFileFlag.hugeTlb)
    return flags & ~(known | MemoryFileFlag.hugeTlb | 0xfc00_0000) ? -Errno.EINVAL : -Errno.ENOSYS;
  if (flags & ~known) return -Errno.EINVAL;
  if (flags & MemoryFileFlag.exec && flags & MemoryFileFlag.noExecSeal) return -Errno.EINVAL;
  const name = task.memory.readString(args.address(0), memoryNameMaximum + 1);
  if (typeof name === 'number') return name === -Errno.ENAMETOOLONG ? -Errno.EINVAL : name;
  const file = task.kernel.part(MemoryFiles).create(task, name, flags);
  if (typeof file === 'number') return file;
  return finish(task, file, (flags & MemoryFileFlag.closeOnExec) !== 0);
}

export const openSyscalls: readonly Syscall[] = [
  {
    name: 'open',
    signature: 'path:path flags:flags.open mode:mode -> fd',
    support: 'full',
    handler: (task, args) => open(task, At.cwd, args.address(0), args.u32(1), args.u32(2)),
  },
  {
    name: 'openat',
    signature: 'dirfd:dirfd path:path flags:flags.open mode:mode -> fd',
    support: 'full',
    handler: (task, args) => open(task, args.i32(0), args.address(1), args.u32(2), args.u32(3)),
  },
  {
    name: 'openat2',
    signature: 'dirfd:dirfd path:path how:address size:size -> fd',
    support: 'full',
    handler: openat2,
  },
  {
    name: 'creat',
    signature: 'path:path mode:mode -> fd',
    support: 'full',
    handler: (task, args) =>
      open(
        task,
        At.cwd,
        args.address(0),
        OpenFlag.create | OpenFlag.writeOnly | OpenFlag.truncate,
        args.u32(1),
      ),
  },
  { name: 'close', signature: 'fd:fd', support: 'full', handler: close },
  { name: 'close_range', signature: 'first:uint last:uint flags:hex', support: 'full', handler: closeRange },
  { name: 'dup', signature: 'fd:fd -> fd', support: 'full', handler: dup },
  { name: 'dup2', signature: 'from:fd to:fd -> fd', support: 'full', handler: dup2 },
  {
    name: 'dup3',
    signature: 'from:fd to:fd flags:flags.open -> fd',
    support: 'full',
    handler: (task, args) => duplicate(task, args.i32(0), args.i32(1), args.u32(2)),
  },
  {
    name: 'memfd_create',
    signature: 'name:string flags:hex -> fd',
    support: 'partial',
    note: 'MFD_HUGETLB fails with ENOSYS: there are no huge pages to reserve',
    handler: memfdCreate,
  },
];
