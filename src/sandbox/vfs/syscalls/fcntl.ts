// fcntl(2) but for locks, and the ioctls that every file has.

import { Errno } from '../../abi/errno.ts';
import { Fcntl } from '../../abi/file.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { AsyncOwner, OwnerType } from '../async.ts';
import type { FileDescription } from '../file-description.ts';
import { ownerOrCapable } from '../permission.ts';
import { PipeFileSystem } from '../pipe/file-system.ts';
import { pipeOf } from '../pipe/splice.ts';
import { setRecordLock, testRecordLock } from './locks.ts';

/** SETFL_MASK. */
const settable =
  OpenFlag.append | OpenFlag.nonBlock | OpenFlag.direct | OpenFlag.noAccessTime | OpenFlag.async;

/** What works with O_PATH (check_fcntl_cmd). */
const pathCommands: ReadonlySet<number> = new Set([
  Fcntl.dupFd,
  Fcntl.dupFdCloexec,
  Fcntl.dupFdQuery,
  Fcntl.getFd,
  Fcntl.setFd,
  Fcntl.getFl,
]);

const rlimitNoFile = 7;

function duplicate(task: Task, file: FileDescription, minimum: number, closeOnExec: boolean): number {
  if (minimum >= task.process.limit(rlimitNoFile).soft || minimum >= 0x8000_0000) return -Errno.EINVAL;
  const fd = task.files.install(task, file.acquire(), closeOnExec, minimum);
  if (fd < 0) file.unreference();
  return fd;
}

/** F_SETFL, FIONBIO, FIOASYNC. */
function setFlags(task: Task, fd: number, file: FileDescription, wanted: number): number {
  const inode = file.inode;
  const changed = (wanted ^ file.flags) & settable;
  if (changed & wanted & OpenFlag.noAccessTime && inode && !ownerOrCapable(task.credentials, inode))
    return -Errno.EPERM;
  const result = file.setFlags((file.flags & ~settable) | (wanted & settable));
  if (result >= 0 && changed & OpenFlag.async) {
    if (file.queue === undefined) file.flags &= ~OpenFlag.async;
    else asyncOwner(file, fd).listen((wanted & OpenFlag.async) !== 0);
  }
  return result;
}

function asyncOwner(file: FileDescription, fd: number): AsyncOwner {
  file.asyncOwner ??= new AsyncOwner(file, fd);
  return file.asyncOwner;
}

function setOwner(task: Task, fd: number, file: FileDescription, type: number, id: number): number {
  const result = asyncOwner(file, fd).setTarget(task, type, id);
  if (result >= 0) file.owner = { type, id, signal: file.owner?.signal ?? 0 };
  return result;
}

function setOwnerEx(task: Task, fd: number, file: FileDescription, address: number): number {
  const bytes = new Uint8Array(8);
  if (task.memory.read(address, bytes, 0, 8) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const type = view.getInt32(0, true);
  const id = view.getInt32(4, true);
  if (type < OwnerType.thread || type > OwnerType.group) return -Errno.EINVAL;
  return setOwner(task, fd, file, type, id);
}

function getOwnerEx(task: Task, file: FileDescription, address: number): number {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, file.owner?.type ?? OwnerType.thread, true);
  view.setInt32(4, file.asyncOwner?.idFor(task) ?? 0, true);
  return Math.min(0, task.memory.write(address, bytes, 0, 8));
}

function getOwnerUids(task: Task, file: FileDescription, address: number): number {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  const [uid, euid] = file.asyncOwner?.uids ?? [0, 0];
  view.setUint32(0, uid, true);
  view.setUint32(4, euid, true);
  return Math.min(0, task.memory.write(address, bytes, 0, 8));
}

/** Write life-time hints (F_SET_RW_HINT): kept and given back, nothing here makes use of them, as on tmpfs. */
function rwHint(task: Task, file: FileDescription, command: number, address: number): number {
  const { inode } = file;
  if (command === Fcntl.getRwHint) return task.memory.writeU64(address, inode?.writeHint ?? 0);
  if (inode && !ownerOrCapable(task.credentials, inode)) return -Errno.EPERM;
  const hint = task.memory.readU64(address);
  if (hint < 0) return hint;
  if (hint > 5) return -Errno.EINVAL;
  if (inode) inode.writeHint = hint;
  return 0;
}

function fcntl(task: Task, args: Arguments): number {
  const fd = args.i32(0);
  const command = args.u32(1);
  const file = task.files.get(fd);
  if (file === undefined) return -Errno.EBADF;
  if (file.flags & OpenFlag.path && !pathCommands.has(command)) return -Errno.EBADF;
  const address = args.address(2);
  switch (command) {
    case Fcntl.dupFd:
      return duplicate(task, file, args.u32(2), false);
    case Fcntl.dupFdCloexec:
      return duplicate(task, file, args.u32(2), true);
    case Fcntl.dupFdQuery:
      return task.files.get(args.i32(2)) === file ? 1 : 0;
    case Fcntl.getFd:
      return task.files.closeOnExec(fd) ? 1 : 0;
    case Fcntl.setFd:
      task.files.setCloseOnExec(fd, (args.u32(2) & 1) !== 0);
      return 0;
    case Fcntl.getFl:
      return file.flags;
    case Fcntl.setFl:
      return setFlags(task, fd, file, args.u32(2));
    case Fcntl.getLock:
    case Fcntl.ofdGetLock:
      return testRecordLock(task, file, address, command === Fcntl.ofdGetLock);
    case Fcntl.setLock:
    case Fcntl.setLockWait:
    case Fcntl.ofdSetLock:
    case Fcntl.ofdSetLockWait:
      return setRecordLock(task, file, address, {
        openFile: command === Fcntl.ofdSetLock || command === Fcntl.ofdSetLockWait,
        wait: command === Fcntl.setLockWait || command === Fcntl.ofdSetLockWait,
      });
    case Fcntl.setOwner: {
      const who = args.i32(2);
      if (who === -0x8000_0000) return -Errno.EINVAL;
      return setOwner(task, fd, file, who < 0 ? OwnerType.group : OwnerType.process, Math.abs(who));
    }
    case Fcntl.getOwner: {
      const id = file.asyncOwner?.idFor(task) ?? 0;
      return file.owner?.type === OwnerType.group ? -id : id;
    }
    case Fcntl.setOwnerEx:
      return setOwnerEx(task, fd, file, address);
    case Fcntl.getOwnerEx:
      return getOwnerEx(task, file, address);
    case Fcntl.getOwnerUids:
      return getOwnerUids(task, file, address);
    case Fcntl.setSignal: {
      const signal = args.u32(2);
      if (signal > 64) return -Errno.EINVAL;
      file.owner = { type: file.owner?.type ?? OwnerType.process, id: file.owner?.id ?? 0, signal };
      return 0;
    }
    case Fcntl.getSignal:
      return file.owner?.signal ?? 0;
    case Fcntl.getLease:
      return 2; // F_UNLCK: nobody has one.
    case Fcntl.setLease:
    case Fcntl.notify:
      return -Errno.EINVAL;
    case Fcntl.createdQuery:
      return -Errno.EINVAL;
    case Fcntl.setPipeSize:
    case Fcntl.getPipeSize: {
      const pipe = pipeOf(file);
      if (pipe === undefined) return -Errno.EBADF;
      if (command === Fcntl.getPipeSize) return pipe.capacity;
      return task.kernel.part(PipeFileSystem).setCapacity(task, pipe, args.u32(2));
    }
    case Fcntl.addSeals:
      return file.seals(task, args.u32(2));
    case Fcntl.getSeals:
      return file.seals(task, undefined);
    case Fcntl.getRwHint:
    case Fcntl.setRwHint:
      return rwHint(task, file, command, address);
    default:
      return -Errno.EINVAL;
  }
}

const Ioctl = {
  fionread: 0x541b,
  fionbio: 0x5421,
  fionclex: 0x5450,
  fioclex: 0x5451,
  fioasync: 0x5452,
  fioqsize: 0x5460,
  figetbsz: 2,
} as const;

/** FIONBIO and FIOASYNC: an int at an address. */
function toggle(task: Task, fd: number, file: FileDescription, address: number, bit: number): number {
  const on = task.memory.readU32(address);
  if (on < 0) return on;
  if (bit === OpenFlag.async && on !== 0 && file.queue === undefined) return -Errno.ENOTTY;
  return setFlags(task, fd, file, on === 0 ? file.flags & ~bit : file.flags | bit);
}

/** do_vfs_ioctl, then the file's own. */
function ioctl(task: Task, args: Arguments): number {
  const fd = args.i32(0);
  const file = task.files.get(fd);
  if (file === undefined || file.flags & OpenFlag.path) return -Errno.EBADF;
  const command = args.u32(1);
  const address = args.address(2);
  switch (command) {
    case Ioctl.fioclex:
    case Ioctl.fionclex:
      task.files.setCloseOnExec(fd, command === Ioctl.fioclex);
      return 0;
    case Ioctl.fionbio:
      return toggle(task, fd, file, address, OpenFlag.nonBlock);
    case Ioctl.fioasync:
      return toggle(task, fd, file, address, OpenFlag.async);
    case Ioctl.fioqsize: {
      const { inode } = file;
      if (!inode || !(inode.isDirectory || inode.isRegular || inode.isSymlink)) return -Errno.ENOTTY;
      const stat = inode.stat();
      if (typeof stat === 'number') return stat;
      return task.memory.writeU64(address, stat.blocks * 512);
    }
    case Ioctl.figetbsz: {
      const stat = file.stat();
      if (typeof stat === 'number') return stat;
      return file.path ? task.memory.writeU32(address, stat.blksize) : -Errno.EINVAL;
    }
    case Ioctl.fionread: {
      if (!file.inode?.isRegular) break;
      const stat = file.stat();
      if (typeof stat === 'number') return stat;
      return task.memory.writeU32(address, (stat.size - file.position) >>> 0);
    }
  }
  return file.ioctl(task, command, address);
}

export const fcntlSyscalls: readonly Syscall[] = [
  {
    name: 'fcntl',
    signature: 'fd:fd command:int argument:hex',
    support: 'partial',
    note: 'leases (F_SETLEASE) and F_NOTIFY fail with EINVAL',
    handler: fcntl,
  },
  {
    name: 'ioctl',
    signature: 'fd:fd command:hex argument:hex',
    support: 'partial',
    note: 'of attribute flags (FS_IOC_GETFLAGS …) only what a file system has itself; others fail with ENOTTY',
    handler: ioctl,
  },
];
