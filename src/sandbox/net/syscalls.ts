// System calls that make, name and connect sockets, and their options (net/socket.c). Those that move messages are in
// message-syscalls.ts.

import { Errno } from '../abi/errno.ts';
import { OpenFlag } from '../abi/open.ts';
import { Family, Level, Shutdown, SocketFlag, SocketType, socketTypeMask } from '../abi/socket.ts';
import type { Task } from '../kernel/contract.ts';
import { Poll } from '../kernel/wait-queue.ts';
import type { Arguments } from '../platform/contract.ts';
import type { Syscall } from '../syscalls/contract.ts';
import { installFile } from '../vfs/event/open-file.ts';
import { socketOf } from './calls.ts';
import { messageSyscalls } from './message-syscalls.ts';
import { readAddress, writeAddress } from './messages.ts';
import { whenSocketReady } from './waiting.ts';

/** Bytes of an option's value that anything here reads. */
const longestOption = 4096;
/** net.core.somaxconn. */
const mostBacklog = 4096;

interface Kind {
  readonly family: number;
  readonly type: number;
  readonly flags: number;
}

/** The first two arguments of socket(2), checked. */
function kindOf(args: Arguments): Kind | number {
  let family = args.i32(0);
  const word = args.i32(1);
  const flags = word & ~socketTypeMask;
  const type = word & socketTypeMask;
  if (flags & ~(SocketFlag.closeOnExec | SocketFlag.nonBlock)) return -Errno.EINVAL;
  if (family < 0 || family >= Family.maximum) return -Errno.EAFNOSUPPORT;
  if (type >= SocketType.maximum) return -Errno.EINVAL;
  if (family === Family.inet && type === SocketType.packet) family = Family.packet;
  return { family, type, flags };
}

const statusOf = (flags: number): number => OpenFlag.readWrite | (flags & SocketFlag.nonBlock);

function socket(task: Task, args: Arguments): number {
  const kind = kindOf(args);
  if (typeof kind === 'number') return kind;
  const made = task.network.createSocket(task, kind.family, kind.type, args.i32(2));
  if (typeof made === 'number') return made;
  made.flags = statusOf(kind.flags);
  return installFile(task, made, (kind.flags & SocketFlag.closeOnExec) !== 0);
}

function socketPair(task: Task, args: Arguments): number {
  const kind = kindOf(args);
  if (typeof kind === 'number') return kind;
  const pair = task.network.createPair(task, kind.family, kind.type, args.i32(2));
  if (typeof pair === 'number') return pair;
  const [one, other] = pair;
  one.flags = other.flags = statusOf(kind.flags);
  const closeOnExec = (kind.flags & SocketFlag.closeOnExec) !== 0;
  const first = installFile(task, one, closeOnExec);
  if (first < 0) {
    other.unreference();
    return first;
  }
  const second = installFile(task, other, closeOnExec);
  if (second < 0) {
    task.files.close(task, first);
    return second;
  }
  const address = args.address(3);
  if (task.memory.writeU32(address, first) >= 0 && task.memory.writeU32(address + 4, second) >= 0) return 0;
  task.files.close(task, first);
  task.files.close(task, second);
  return -Errno.EFAULT;
}

function bind(task: Task, args: Arguments): number {
  const found = socketOf(task, args.i32(0));
  if (typeof found === 'number') return found;
  const address = readAddress(task, args.address(1), args.i32(2));
  return typeof address === 'number' ? address : found.bind(task, address);
}

function listen(task: Task, args: Arguments): number {
  const found = socketOf(task, args.i32(0));
  if (typeof found === 'number') return found;
  return found.listen(task, Math.min(args.u32(1), mostBacklog));
}

function accept(task: Task, args: Arguments, flags: number): number {
  if (flags & ~(SocketFlag.closeOnExec | SocketFlag.nonBlock)) return -Errno.EINVAL;
  const fd = args.i32(0);
  const listener = socketOf(task, fd);
  if (typeof listener === 'number') return listener;
  const address = args.address(1);
  const closeOnExec = (flags & SocketFlag.closeOnExec) !== 0;
  const attempt = (): number => {
    // The number comes first: a connection is not taken from the queue for nothing.
    const number = task.files.install(task, listener.acquire(), closeOnExec);
    if (number < 0) {
      listener.unreference();
      return number;
    }
    const accepted = listener.accept(task);
    if (typeof accepted === 'number') {
      task.files.close(task, number);
      return accepted;
    }
    accepted.flags = statusOf(flags);
    task.files.replace(task, number, accepted, closeOnExec);
    if (address === 0) return number;
    const peer = accepted.peerName();
    const told =
      typeof peer === 'number' ? -Errno.ECONNABORTED : writeAddress(task, peer, address, args.address(2));
    if (told >= 0) return number;
    task.files.close(task, number);
    return told;
  };
  return whenSocketReady(
    task,
    listener,
    listener.nonBlocking,
    { events: Poll.in | Poll.rdnorm, timeout: listener.options.receiveTimeout, exclusive: true },
    attempt,
  );
}

function connect(task: Task, args: Arguments): number {
  const found = socketOf(task, args.i32(0));
  if (typeof found === 'number') return found;
  const address = readAddress(task, args.address(1), args.i32(2));
  return typeof address === 'number' ? address : found.connect(task, address, found.nonBlocking);
}

function name(task: Task, args: Arguments, ofPeer: boolean): number {
  const found = socketOf(task, args.i32(0));
  if (typeof found === 'number') return found;
  const address = ofPeer ? found.peerName() : found.name();
  return typeof address === 'number'
    ? address
    : writeAddress(task, address, args.address(1), args.address(2));
}

function shutdown(task: Task, args: Arguments): number {
  const found = socketOf(task, args.i32(0));
  if (typeof found === 'number') return found;
  const how = args.i32(1);
  return how < Shutdown.read || how > Shutdown.both ? -Errno.EINVAL : found.shutdown(task, how);
}

function setOption(task: Task, args: Arguments): number {
  const length = args.i32(4);
  if (length < 0) return -Errno.EINVAL;
  const found = socketOf(task, args.i32(0));
  if (typeof found === 'number') return found;
  const value = new Uint8Array(Math.min(length, longestOption));
  if (value.length > 0 && task.memory.read(args.address(3), value, 0, value.length) < 0) return -Errno.EFAULT;
  const level = args.i32(1);
  const option = args.i32(2);
  return level === Level.socket
    ? found.setSocketOption(task, option, value)
    : found.setOption(task, level, option, value);
}

function getOption(task: Task, args: Arguments): number {
  const found = socketOf(task, args.i32(0));
  if (typeof found === 'number') return found;
  const lengthAddress = args.address(4);
  const word = task.memory.readU32(lengthAddress);
  if (word < 0) return -Errno.EFAULT;
  const room = word | 0;
  if (room < 0) return -Errno.EINVAL;
  const level = args.i32(1);
  const option = args.i32(2);
  const value =
    level === Level.socket
      ? found.getSocketOption(task, option, room)
      : found.getOption(task, level, option, room);
  if (typeof value === 'number') return value;
  const length = Math.min(room, value.length);
  if (length > 0 && task.memory.write(args.address(3), value, 0, length) < 0) return -Errno.EFAULT;
  return task.memory.writeU32(lengthAddress, length);
}

export const socketSyscalls: readonly Syscall[] = [
  {
    name: 'socket',
    signature: 'family:enum.family type:enum.socktype protocol:int -> fd',
    support: 'partial',
    note: 'families unix, inet, inet6 and netlink (route, kobject-uevent); others fail with EAFNOSUPPORT',
    handler: socket,
  },
  {
    name: 'socketpair',
    signature: 'family:enum.family type:enum.socktype protocol:int sv:address',
    support: 'full',
    handler: socketPair,
  },
  { name: 'bind', signature: 'fd:fd address:sockaddr length:int', support: 'full', handler: bind },
  { name: 'listen', signature: 'fd:fd backlog:int', support: 'full', handler: listen },
  {
    name: 'accept',
    signature: 'fd:fd address:address length:address -> fd',
    support: 'full',
    handler: (task, args) => accept(task, args, 0),
  },
  {
    name: 'accept4',
    signature: 'fd:fd address:address length:address flags:flags.pipe -> fd',
    support: 'full',
    handler: (task, args) => accept(task, args, args.i32(3)),
  },
  { name: 'connect', signature: 'fd:fd address:sockaddr length:int', support: 'full', handler: connect },
  {
    name: 'getsockname',
    signature: 'fd:fd address:address length:address',
    support: 'full',
    handler: (task, args) => name(task, args, false),
  },
  {
    name: 'getpeername',
    signature: 'fd:fd address:address length:address',
    support: 'full',
    handler: (task, args) => name(task, args, true),
  },
  { name: 'shutdown', signature: 'fd:fd how:int', support: 'full', handler: shutdown },
  {
    name: 'setsockopt',
    signature: 'fd:fd level:int option:int value:address length:int',
    support: 'partial',
    note: 'no packet filters (SO_ATTACH_FILTER …), which fail with ENOPROTOOPT',
    handler: setOption,
  },
  {
    name: 'getsockopt',
    signature: 'fd:fd level:int option:int value:address length:address',
    support: 'full',
    handler: getOption,
  },
  ...messageSyscalls,
];
