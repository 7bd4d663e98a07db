// shmget(2), shmat(2), shmdt(2), shmctl(2), in the order of checks of ipc/shm.c.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import {
  IpcCommand,
  IpcLimit,
  ShmCommand,
  ShmDs,
  ShmFlag,
  shmInfo64Size,
  shmInfoSize,
} from '../../abi/ipc.ts';
import { type Arguments, Protection } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import {
  encodePerm,
  getObject,
  mayAccessObject,
  mayControlObject,
  nowInSeconds,
  putStructure,
  updatePerm,
  visiblePid,
} from './objects.ts';
import { SegmentFile, SharedSegment } from './shared-memory.ts';

const pageSize = 4096;
const MAP_SHARED = 1;
const MAP_FIXED = 0x10;
const RLIMIT_MEMLOCK = 8;

function shmget(task: Task, args: Arguments): number {
  const key = args.i32(0);
  const size = args.size(1);
  const flags = args.i32(2);
  return getObject(
    task.ipc.segments,
    task,
    key,
    flags,
    (found) => (found.size < size ? -Errno.EINVAL : 0),
    () => SharedSegment.create(task, key, size, flags),
  );
}

function shmat(task: Task, args: Arguments): number {
  const id = args.i32(0);
  const flags = args.i32(2);
  let address = args.address(1);
  if (id < 0) return -Errno.EINVAL;
  if (address !== 0) {
    const rest = address % pageSize;
    if (rest !== 0 && (flags & ShmFlag.round) === 0) return -Errno.EINVAL;
    address -= rest;
    if (address === 0 && flags & ShmFlag.remap) return -Errno.EINVAL;
  } else if (flags & ShmFlag.remap) return -Errno.EINVAL;

  let protection: number = Protection.read;
  let wanted = 0o444;
  if ((flags & ShmFlag.readOnly) === 0) {
    protection |= Protection.write;
    wanted |= 0o222;
  }
  if (flags & ShmFlag.execute) {
    protection |= Protection.execute;
    wanted |= 0o111;
  }
  const segment = task.ipc.segments.find(id);
  if (!segment) return -Errno.EINVAL;
  if (!mayAccessObject(task, segment, wanted)) return -Errno.EACCES;
  const length = Math.ceil(segment.size / pageSize) * pageSize;
  if (address !== 0 && (flags & ShmFlag.remap) === 0)
    for (const vma of task.mm.vmas())
      if (vma.start < address + length && vma.end > address) return -Errno.EINVAL;

  const file = new SegmentFile(segment, (protection & Protection.write) !== 0);
  const result = task.mm.map(task, {
    address,
    length,
    protection,
    flags: address === 0 ? MAP_SHARED : MAP_SHARED | MAP_FIXED,
    file,
    offset: 0,
  });
  file.handedOver();
  if (result < 0) return result;
  segment.attachTime = nowInSeconds(task.kernel);
  segment.last = task.process;
  return result;
}

/** Unmaps what one shmat mapped, also when parts of it are gone or were moved apart. */
function shmdt(task: Task, args: Arguments): number {
  const address = args.address(0);
  if (address % pageSize !== 0) return -Errno.EINVAL;
  let segment: SharedSegment | undefined;
  const ranges: (readonly [start: number, end: number])[] = [];
  for (const { start, end, file, fileOffset } of task.mm.vmas()) {
    if (start < address || !(file instanceof SegmentFile) || start - fileOffset !== address) continue;
    segment ??= file.segment;
    if (file.segment === segment) ranges.push([start, end]);
  }
  if (!segment) return -Errno.EINVAL;
  segment.last = task.process;
  for (const [start, end] of ranges) {
    const result = task.mm.unmap(task, start, end - start);
    if (result < 0) return result;
  }
  return 0;
}

function encodeSegment(task: Task, segment: SharedSegment): DataView {
  const view = new DataView(new ArrayBuffer(ShmDs.size));
  const put = (offset: number, value: number): void => view.setBigUint64(offset, BigInt(value), true);
  encodePerm(segment, task.credentials.userNamespace, view);
  put(ShmDs.bytes, segment.size);
  put(ShmDs.atime, segment.attachTime);
  put(ShmDs.dtime, segment.detachTime);
  put(ShmDs.ctime, segment.changed);
  view.setInt32(ShmDs.creator, visiblePid(task, segment.creator), true);
  view.setInt32(ShmDs.last, visiblePid(task, segment.last), true);
  put(ShmDs.attached, segment.attached);
  return view;
}

function totalPages(task: Task): number {
  let pages = 0;
  for (const { size } of task.ipc.segments.objects()) pages += Math.ceil(size / pageSize);
  return pages;
}

function information(task: Task, command: number, address: number): number {
  const { segments } = task.ipc;
  if (command === IpcCommand.info) {
    const view = new DataView(new ArrayBuffer(shmInfo64Size));
    const values = [
      IpcLimit.shmMaximum,
      1n,
      BigInt(IpcLimit.shmSegments),
      BigInt(IpcLimit.shmSegments),
      IpcLimit.shmAll,
    ];
    for (const [index, value] of values.entries()) view.setBigUint64(8 * index, value, true);
    return putStructure(task, address, view, segments.highestIndex);
  }
  const view = new DataView(new ArrayBuffer(shmInfoSize));
  view.setInt32(0, segments.size, true);
  const resident = segments.objects().reduce((sum, segment) => sum + segment.resident, 0);
  view.setBigUint64(8, BigInt(totalPages(task)), true);
  view.setBigUint64(16, BigInt(Math.ceil(resident / pageSize)), true);
  return putStructure(task, address, view, segments.highestIndex);
}

function lock(task: Task, segment: SharedSegment, on: boolean): number {
  if (!task.credentials.hasIn(task.ipc.userNamespace, Capability.ipcLock)) {
    const { euid } = task.credentials;
    if (euid !== segment.uid && euid !== segment.cuid) return -Errno.EPERM;
    if (on && task.process.limit(RLIMIT_MEMLOCK).soft === 0) return -Errno.EPERM;
  }
  if (on) segment.mode |= ShmFlag.locked;
  else segment.mode &= ~ShmFlag.locked;
  return 0;
}

function shmctl(task: Task, args: Arguments): number {
  const id = args.i32(0);
  const command = args.i32(1);
  const address = args.address(2);
  if (command < 0 || id < 0) return -Errno.EINVAL;
  const { segments } = task.ipc;
  switch (command) {
    case IpcCommand.info:
    case ShmCommand.info:
      return information(task, command, address);
    case IpcCommand.stat:
    case ShmCommand.stat:
    case ShmCommand.statAny: {
      const segment = command === IpcCommand.stat ? segments.find(id) : segments.at(id);
      if (!segment) return -Errno.EINVAL;
      if (command !== ShmCommand.statAny && !mayAccessObject(task, segment, 0o444)) return -Errno.EACCES;
      const result = command === IpcCommand.stat ? 0 : segment.id;
      return putStructure(task, address, encodeSegment(task, segment), result);
    }
    case IpcCommand.set:
    case IpcCommand.remove: {
      const bytes = new Uint8Array(ShmDs.size);
      if (command === IpcCommand.set && task.memory.read(address, bytes, 0, bytes.length) < 0)
        return -Errno.EFAULT;
      const segment = segments.find(id);
      if (!segment) return -Errno.EINVAL;
      if (!mayControlObject(task, segment)) return -Errno.EPERM;
      if (command === IpcCommand.remove) {
        segment.remove(segments);
        return 0;
      }
      const result = updatePerm(task, segment, new DataView(bytes.buffer));
      if (result === 0) segment.changed = nowInSeconds(task.kernel);
      return result;
    }
    case ShmCommand.lock:
    case ShmCommand.unlock: {
      const segment = segments.find(id);
      return segment ? lock(task, segment, command === ShmCommand.lock) : -Errno.EINVAL;
    }
    default:
      return -Errno.EINVAL;
  }
}

export const shmSyscalls: readonly Syscall[] = [
  {
    name: 'shmget',
    signature: 'key:hex size:size flags:hex',
    support: 'partial',
    note: 'no huge pages',
    handler: shmget,
  },
  {
    name: 'shmat',
    signature: 'id:int address:address flags:hex -> address',
    support: 'full',
    handler: shmat,
  },
  { name: 'shmdt', signature: 'address:address', support: 'full', handler: shmdt },
  {
    name: 'shmctl',
    signature: 'id:int command:int buffer:address',
    support: 'partial',
    note: 'SHM_LOCK is kept and shown; whether pages stay in memory is up to the host',
    handler: shmctl,
  },
];
