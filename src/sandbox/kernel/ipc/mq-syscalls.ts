// mq_open(2), mq_unlink(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2), mq_getsetattr(2).

import { Errno } from '../../abi/errno.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import { readTimespec } from '../../abi/time.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { installFile, openFile } from '../../vfs/event/open-file.ts';
import { inodePermission } from '../../vfs/permission.ts';
import type { Task } from '../contract.ts';
import { deadlineOf } from '../time/clocks.ts';
import { QueueFile } from './posix-queue.ts';
import { QueueLimit, queueLimitOf } from './queue-file-system.ts';

/** struct mq_attr: flags, maxmsg, msgsize, curmsgs, 4 reserved; each a long. */
const attributeSize = 64;
const pathMaximum = 4096;
const nameMaximum = 255;
const priorityMaximum = 32_768;
const signalMaximum = 64;

const permissionRead = 4;
const permissionWrite = 2;

function readName(task: Task, address: number): string | number {
  const name = task.memory.readString(address, pathMaximum);
  if (typeof name === 'number') return name;
  return name === '' ? -Errno.ENOENT : name;
}

/** A single name within the directory of queues. */
function checkName(name: string): number {
  if (name === '.' || name === '..' || name.includes('/')) return -Errno.EACCES;
  return name.length > nameMaximum ? -Errno.ENAMETOOLONG : 0;
}

function readAttributes(task: Task, address: number): DataView | number {
  const bytes = new Uint8Array(attributeSize);
  if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  return new DataView(bytes.buffer);
}

function mqOpen(task: Task, args: Arguments): number {
  const flags = args.i32(1);
  const address = args.address(3);
  const attributes = address === 0 ? undefined : readAttributes(task, address);
  if (typeof attributes === 'number') return attributes;
  const name = readName(task, args.address(0));
  if (typeof name === 'number') return name;
  const invalid = checkName(name);
  if (invalid < 0) return invalid;
  const { root } = task.ipc.queues;
  const found = root.queues.get(name);
  let queue = found;
  if (found) {
    const create = OpenFlag.create | OpenFlag.exclusive;
    if ((flags & create) === create) return -Errno.EEXIST;
    const access = flags & OpenFlag.accessMode;
    if (access === 3) return -Errno.EINVAL;
    const mask = [permissionRead, permissionWrite, permissionRead | permissionWrite][access] ?? 0;
    const refused = inodePermission(task, found, mask);
    if (refused < 0) return refused;
  } else {
    if ((flags & OpenFlag.create) === 0) return -Errno.ENOENT;
    const refused = inodePermission(task, root, permissionWrite | 1);
    if (refused < 0) return refused;
    const long = (index: number): number => Number(attributes?.getBigInt64(8 * index, true) ?? 0n);
    const made = root.makeQueue(
      name,
      FileType.regular | (args.u32(2) & 0o7777 & ~task.fs.umask),
      task.credentials,
      attributes ? long(1) : QueueLimit.messages,
      attributes ? long(2) : QueueLimit.messageSize,
      queueLimitOf(task),
    );
    if (typeof made === 'number') return made;
    queue = made;
  }
  if (!queue) return -Errno.ENOENT;
  return installFile(task, new QueueFile(queue, flags, undefined), true);
}

function mqUnlink(task: Task, args: Arguments): number {
  const name = readName(task, args.address(0));
  if (typeof name === 'number') return name;
  const invalid = checkName(name);
  if (invalid < 0) return invalid;
  const { root } = task.ipc.queues;
  const refused = inodePermission(task, root, permissionWrite | 1);
  if (refused < 0) return refused;
  const queue = root.queues.get(name);
  if (!queue) return -Errno.ENOENT;
  // The directory is sticky: only the owner removes a queue.
  const { fsuid } = task.credentials;
  const capFowner = 3;
  const owner = fsuid === queue.uid || fsuid === root.uid;
  if (!owner && !task.credentials.hasIn(task.ipc.queues.userNamespace, capFowner)) return -Errno.EPERM;
  return root.unlink(name, queue);
}

/** The CLOCK_MONOTONIC deadline of an absolute time of day; undefined: none; -EFAULT, -EINVAL. */
function readDeadline(task: Task, address: number): number | undefined {
  if (address === 0) return undefined;
  const time = readTimespec(task.memory, address);
  return typeof time === 'number' ? time : Math.max(0, deadlineOf(task.kernel, 'realtime', time));
}

function queueFile(task: Task, fd: number): QueueFile | undefined {
  const file = openFile(task, fd);
  return file instanceof QueueFile ? file : undefined;
}

function timedSend(task: Task, args: Arguments): number {
  const deadline = readDeadline(task, args.address(4));
  if (deadline !== undefined && deadline < 0) return deadline;
  const priority = args.u32(3);
  if (priority >= priorityMaximum) return -Errno.EINVAL;
  const file = queueFile(task, args.i32(0));
  if (!file?.writable) return -Errno.EBADF;
  const size = args.size(2);
  if (size > file.posixQueue.messageSize) return -Errno.EMSGSIZE;
  const bytes = new Uint8Array(size);
  if (size > 0 && task.memory.read(args.address(1), bytes, 0, size) < 0) return -Errno.EFAULT;
  return file.posixQueue.send(task, { bytes, priority }, file.nonBlocking, deadline);
}

function timedReceive(task: Task, args: Arguments): number {
  const deadline = readDeadline(task, args.address(4));
  if (deadline !== undefined && deadline < 0) return deadline;
  const file = queueFile(task, args.i32(0));
  if (!file?.readable) return -Errno.EBADF;
  if (args.size(2) < file.posixQueue.messageSize) return -Errno.EMSGSIZE;
  const address = args.address(1);
  const priorityAddress = args.address(3);
  return file.posixQueue.receive(task, file.nonBlocking, deadline, ({ bytes, priority }) => {
    const { memory } = task;
    if (priorityAddress !== 0 && memory.writeU32(priorityAddress, priority) < 0) return -Errno.EFAULT;
    if (bytes.length > 0 && memory.write(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
    return bytes.length;
  });
}

const Notify = { signal: 0, none: 1, thread: 2 } as const;

function mqNotify(task: Task, args: Arguments): number {
  const address = args.address(1);
  const event = new DataView(new ArrayBuffer(64));
  if (address !== 0 && task.memory.read(address, new Uint8Array(event.buffer), 0, 64) < 0)
    return -Errno.EFAULT;
  const signal = event.getInt32(8, true);
  const kind = event.getInt32(12, true);
  if (address !== 0) {
    if (kind !== Notify.none && kind !== Notify.signal && kind !== Notify.thread) return -Errno.EINVAL;
    if (kind === Notify.signal && (signal < 0 || signal > signalMaximum)) return -Errno.EINVAL;
    // A libc passes a netlink socket through which a thread is told, of which there are none.
    if (kind === Notify.thread) return openFile(task, signal) ? -Errno.ENOTSOCK : -Errno.EBADF;
  }
  const file = queueFile(task, args.i32(0));
  if (!file) return -Errno.EBADF;
  const queue = file.posixQueue;
  if (address === 0) {
    if (queue.notification?.process === task.process) queue.notification = undefined;
    return 0;
  }
  if (queue.notification) return -Errno.EBUSY;
  queue.notification = {
    process: task.process,
    signal: kind === Notify.signal ? signal : undefined,
    value: event.getBigUint64(0, true),
  };
  return 0;
}

function mqGetsetattr(task: Task, args: Arguments): number {
  const given = args.address(1) === 0 ? undefined : readAttributes(task, args.address(1));
  if (typeof given === 'number') return given;
  const flags = given ? Number(given.getBigInt64(0, true)) : 0;
  if (given && (flags & ~OpenFlag.nonBlock) !== 0) return -Errno.EINVAL;
  const file = queueFile(task, args.i32(0));
  if (!file) return -Errno.EBADF;
  const { posixQueue: queue } = file;
  const view = new DataView(new ArrayBuffer(attributeSize));
  const values = [file.flags & OpenFlag.nonBlock, queue.maximumMessages, queue.messageSize, queue.length];
  for (const [index, value] of values.entries()) view.setBigInt64(8 * index, BigInt(value), true);
  if (given) file.setFlags((file.flags & ~OpenFlag.nonBlock) | flags);
  const out = args.address(2);
  if (out === 0) return 0;
  return task.memory.write(out, new Uint8Array(view.buffer), 0, attributeSize) < 0 ? -Errno.EFAULT : 0;
}

export const mqSyscalls: readonly Syscall[] = [
  {
    name: 'mq_open',
    signature: 'name:string flags:flags.open mode:mode attributes:address -> fd',
    support: 'full',
    handler: mqOpen,
  },
  { name: 'mq_unlink', signature: 'name:string', support: 'full', handler: mqUnlink },
  {
    name: 'mq_timedsend',
    signature: 'fd:fd message:buffer size:size priority:uint timeout:timespec',
    support: 'full',
    handler: timedSend,
  },
  {
    name: 'mq_timedreceive',
    signature: 'fd:fd message:out-buffer size:size priority:address timeout:timespec',
    support: 'full',
    handler: timedReceive,
  },
  {
    name: 'mq_notify',
    signature: 'fd:fd event:address',
    support: 'partial',
    note: 'no SIGEV_THREAD, which needs netlink',
    handler: mqNotify,
  },
  {
    name: 'mq_getsetattr',
    signature: 'fd:fd new:address old:address',
    support: 'full',
    handler: mqGetsetattr,
  },
];
