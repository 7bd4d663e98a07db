// read, write, and their vectored and positioned forms; lseek.

import { Errno } from '../../abi/errno.ts';
import { RwFlag, Seek } from '../../abi/file.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { readFile, writeFile } from '../blocking.ts';
import type { FileDescription } from '../file-description.ts';
import { type Io, maximumTransfer, readIovec, UserBuffer, UserIo } from '../io.ts';
import { fileOf } from './decode.ts';

/** Addresses beyond are the kernel's (access_ok). */
const userEnd = 0x7fff_ffff_f000;

function readable(task: Task, fd: number): FileDescription | undefined {
  const file = task.files.get(fd);
  return file?.readable ? file : undefined;
}

function writable(task: Task, fd: number): FileDescription | undefined {
  const file = task.files.get(fd);
  return file?.writable ? file : undefined;
}

/** rw_verify_area: no byte lies at 2⁶³ or beyond. */
function endsBeyond(position: number, count: number): boolean {
  return count > 0 && position + count >= 2 ** 63;
}

/** One buffer, checked as access_ok and rw_verify_area do; or a negative errno. */
function buffer(task: Task, address: number, count: number, position = 0): Io | number {
  if (address + count > userEnd) return count >= 2 ** 63 && address < userEnd ? -Errno.EINVAL : -Errno.EFAULT;
  if (endsBeyond(position, count)) return -Errno.EINVAL;
  return new UserBuffer(task.memory, address, Math.min(count, maximumTransfer));
}

function vector(task: Task, args: Arguments): Io | number {
  const segments = readIovec(task.memory, args.address(1), args.i64(2));
  if (typeof segments === 'number') return segments;
  for (let i = 0; i < segments.length; i += 2)
    if ((segments[i] ?? 0) + (segments[i + 1] ?? 0) > userEnd) return -Errno.EFAULT;
  return new UserIo(task.memory, segments);
}

function synchronize(task: Task, file: FileDescription, result: number, flags: number): number {
  if (result <= 0) return result;
  const sync = (flags & RwFlag.sync) !== 0 || (file.flags & OpenFlag.sync) === OpenFlag.sync;
  if (!sync && !(flags & RwFlag.dataSync) && !(file.flags & OpenFlag.dataSync)) return result;
  const done = file.sync(task, !sync, result);
  return done < 0 && done !== -Errno.EINVAL ? done : result;
}

function read(task: Task, args: Arguments): number {
  const file = readable(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const io = buffer(task, args.address(1), args.size(2));
  return typeof io === 'number' ? io : readFile(task, file, io, undefined);
}

function write(task: Task, args: Arguments): number {
  const file = writable(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const io = buffer(task, args.address(1), args.size(2));
  return typeof io === 'number' ? io : synchronize(task, file, writeFile(task, file, io, undefined), 0);
}

function pread(task: Task, args: Arguments): number {
  const position = args.i64(3);
  if (position < 0) return -Errno.EINVAL;
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  if (!isPositioned(task, file)) return -Errno.ESPIPE;
  if (!file.readable) return -Errno.EBADF;
  const io = buffer(task, args.address(1), args.size(2), position);
  return typeof io === 'number' ? io : readFile(task, file, io, position);
}

function pwrite(task: Task, args: Arguments): number {
  const position = args.i64(3);
  if (position < 0) return -Errno.EINVAL;
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  if (!isPositioned(task, file)) return -Errno.ESPIPE;
  if (!file.writable) return -Errno.EBADF;
  const io = buffer(task, args.address(1), args.size(2), position);
  return typeof io === 'number' ? io : synchronize(task, file, writeFile(task, file, io, position), 0);
}

/** FMODE_PREAD and FMODE_PWRITE: what has no position cannot be read at one (pipes, sockets). */
function isPositioned(task: Task, file: FileDescription): boolean {
  return file.seek(task, 0, Seek.current) !== -Errno.ESPIPE;
}

/** RWF_* of preadv2 and pwritev2 (kiocb_set_rw_flags). */
function checkFlags(file: FileDescription, flags: number): number {
  const supported =
    RwFlag.highPriority | RwFlag.dataSync | RwFlag.sync | RwFlag.noWait | RwFlag.append | RwFlag.noAppend;
  if (flags & ~supported) return -Errno.EOPNOTSUPP;
  if (flags & RwFlag.noWait && !file.canNoWait) return -Errno.EOPNOTSUPP;
  if (flags & RwFlag.append && flags & RwFlag.noAppend) return -Errno.EINVAL;
  return 0;
}

function readVector(task: Task, args: Arguments, position: number | undefined, flags: number): number {
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  if (position !== undefined && !isPositioned(task, file)) return -Errno.ESPIPE;
  if (!file.readable) return -Errno.EBADF;
  const io = vector(task, args);
  if (typeof io === 'number') return io;
  if (io.left === 0) return 0;
  if (position !== undefined && endsBeyond(position, io.left)) return -Errno.EINVAL;
  const checked = checkFlags(file, flags);
  if (checked < 0) return checked;
  return readFile(task, file, io, position, (flags & RwFlag.noWait) !== 0);
}

function writeVector(task: Task, args: Arguments, position: number | undefined, flags: number): number {
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  if (position !== undefined && !isPositioned(task, file)) return -Errno.ESPIPE;
  if (!file.writable) return -Errno.EBADF;
  const io = vector(task, args);
  if (typeof io === 'number') return io;
  if (io.left === 0) return 0;
  if (position !== undefined && endsBeyond(position, io.left)) return -Errno.EINVAL;
  const checked = checkFlags(file, flags);
  if (checked < 0) return checked;
  const before = file.flags;
  if (flags & RwFlag.append) file.flags |= OpenFlag.append;
  if (flags & RwFlag.noAppend) file.flags &= ~OpenFlag.append;
  const result = writeFile(task, file, io, position, (flags & RwFlag.noWait) !== 0);
  file.flags = before;
  return synchronize(task, file, result, flags);
}

function positioned(args: Arguments, go: (position: number | undefined) => number, current: boolean): number {
  const position = args.i64(3);
  if (position === -1 && current) return go(undefined);
  return position < 0 ? -Errno.EINVAL : go(position);
}

function seek(task: Task, args: Arguments): number {
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const whence = args.u32(2);
  if (whence > Seek.hole) return -Errno.EINVAL;
  return file.seek(task, args.i64(1), whence);
}

export const readWriteSyscalls: readonly Syscall[] = [
  { name: 'read', signature: 'fd:fd buffer:out-buffer count:size -> size', support: 'full', handler: read },
  { name: 'write', signature: 'fd:fd buffer:buffer count:size -> size', support: 'full', handler: write },
  {
    name: 'pread64',
    signature: 'fd:fd buffer:out-buffer count:size position:offset -> size',
    support: 'full',
    handler: pread,
  },
  {
    name: 'pwrite64',
    signature: 'fd:fd buffer:buffer count:size position:offset -> size',
    support: 'full',
    handler: pwrite,
  },
  {
    name: 'readv',
    signature: 'fd:fd iov:iovec count:int -> size',
    support: 'full',
    handler: (task, args) => readVector(task, args, undefined, 0),
  },
  {
    name: 'writev',
    signature: 'fd:fd iov:iovec count:int -> size',
    support: 'full',
    handler: (task, args) => writeVector(task, args, undefined, 0),
  },
  {
    name: 'preadv',
    signature: 'fd:fd iov:iovec count:int position:offset -> size',
    support: 'full',
    handler: (task, args) => positioned(args, (position) => readVector(task, args, position, 0), false),
  },
  {
    name: 'pwritev',
    signature: 'fd:fd iov:iovec count:int position:offset -> size',
    support: 'full',
    handler: (task, args) => positioned(args, (position) => writeVector(task, args, position, 0), false),
  },
  {
    name: 'preadv2',
    signature: 'fd:fd iov:iovec count:int position:offset high:hex flags:flags.rwf -> size',
    support: 'full',
    handler: (task, args) =>
      positioned(args, (position) => readVector(task, args, position, args.u32(5)), true),
  },
  {
    name: 'pwritev2',
    signature: 'fd:fd iov:iovec count:int position:offset high:hex flags:flags.rwf -> size',
    support: 'full',
    handler: (task, args) =>
      positioned(args, (position) => writeVector(task, args, position, args.u32(5)), true),
  },
  {
    name: 'lseek',
    signature: 'fd:fd offset:offset whence:enum.whence -> offset',
    support: 'full',
    handler: seek,
  },
];
