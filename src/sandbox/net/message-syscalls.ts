// System calls that move messages: sendto, recvfrom, sendmsg, recvmsg and their forms for many messages.

import { Errno } from '../abi/errno.ts';
import { ManyMessageHeader, Message, MessageHeader, mostSegments } from '../abi/socket.ts';
import { BLOCKED, type Task } from '../kernel/contract.ts';
import { Poll } from '../kernel/wait-queue.ts';
import type { Arguments } from '../platform/contract.ts';
import type { Syscall } from '../syscalls/contract.ts';
import { maximumTransfer, UserBuffer } from '../vfs/io.ts';
import { receiveMessage, sendMessage, socketOf } from './calls.ts';
import {
  type Header,
  readAddress,
  readControl,
  readHeader,
  userEnd,
  writeAddress,
  writeControl,
} from './messages.ts';
import { type Incoming, Outgoing, type Socket } from './socket.ts';
import { whenSocketReady } from './waiting.ts';

/** A program's buffer (import_ubuf). */
function bufferOf(task: Task, address: number, size: number): UserBuffer | number {
  const length = Math.min(size, maximumTransfer);
  return address + length > userEnd ? -Errno.EFAULT : new UserBuffer(task.memory, address, length);
}

function sendTo(task: Task, args: Arguments): number {
  const io = bufferOf(task, args.address(1), args.size(2));
  if (typeof io === 'number') return io;
  const socket = socketOf(task, args.i32(0));
  if (typeof socket === 'number') return socket;
  const name = args.address(4);
  const address = name === 0 ? undefined : readAddress(task, name, args.i32(5));
  if (typeof address === 'number') return address;
  return sendMessage(task, socket, io, new Outgoing(args.u32(3), address, []));
}

function receiveFrom(task: Task, args: Arguments): number {
  const io = bufferOf(task, args.address(1), args.size(2));
  if (typeof io === 'number') return io;
  const socket = socketOf(task, args.i32(0));
  if (typeof socket === 'number') return socket;
  const name = args.address(4);
  const length = args.address(5);
  return receiveMessage(task, socket, io, args.u32(3), (message, result) => {
    if (result < 0 || name === 0) return result;
    const told = writeAddress(task, message.address ?? new Uint8Array(0), name, length);
    return told < 0 ? told : result;
  });
}

/** What a msghdr asks to send; or a negative errno. */
function outgoing(task: Task, header: Header, flags: number): Outgoing | number {
  let address: Uint8Array | undefined;
  if (header.nameLength > 0) {
    const read = readAddress(task, header.name, header.nameLength);
    if (typeof read === 'number') return read;
    address = read;
  }
  const control = header.control === 0 && header.controlLength > 0 ? -Errno.EFAULT : undefined;
  const messages = control ?? readControl(task, header.control, header.controlLength);
  return typeof messages === 'number' ? messages : new Outgoing(flags, address, messages);
}

function sendHeader(
  task: Task,
  socket: Socket,
  address: number,
  flags: number,
  done?: (result: number) => number,
): number {
  const header = readHeader(task, address);
  const message = typeof header === 'number' ? header : outgoing(task, header, flags);
  if (typeof header === 'number') return done ? done(header) : header;
  if (typeof message === 'number') return done ? done(message) : message;
  return sendMessage(task, socket, header.io, message, done);
}

/** Tells a program of what was received: address, control messages and flags in its msghdr. */
function tell(task: Task, address: number, header: Header, message: Incoming, result: number): number {
  if (result < 0) return result;
  const used = writeControl(task, message, header.control, header.controlLength);
  if (header.name !== 0) {
    const told = writeAddress(
      task,
      message.address ?? new Uint8Array(0),
      header.name,
      address + MessageHeader.nameLength,
    );
    if (told < 0) return told;
  }
  const flags = (message.outFlags | (message.flags & Message.controlCloseOnExec)) >>> 0;
  if (task.memory.writeU32(address + MessageHeader.flags, flags) < 0) return -Errno.EFAULT;
  return task.memory.writeU64(address + MessageHeader.controlLength, used) < 0 ? -Errno.EFAULT : result;
}

function receiveHeader(
  task: Task,
  socket: Socket,
  address: number,
  flags: number,
  done: (result: number) => number = (result) => result,
): number {
  const header = readHeader(task, address);
  if (typeof header === 'number') return done(header);
  return receiveMessage(task, socket, header.io, flags, (message, result) =>
    done(tell(task, address, header, message, result)),
  );
}

function sendMsg(task: Task, args: Arguments): number {
  const flags = args.u32(2);
  if (flags >= Message.compat) return -Errno.EINVAL;
  const socket = socketOf(task, args.i32(0));
  return typeof socket === 'number' ? socket : sendHeader(task, socket, args.address(1), flags);
}

function receiveMsg(task: Task, args: Arguments): number {
  const flags = args.u32(2);
  if (flags >= Message.compat) return -Errno.EINVAL;
  const socket = socketOf(task, args.i32(0));
  return typeof socket === 'number' ? socket : receiveHeader(task, socket, args.address(1), flags);
}

function sendMany(task: Task, args: Arguments): number {
  const flags = args.u32(3);
  if (flags >= Message.compat) return -Errno.EINVAL;
  const socket = socketOf(task, args.i32(0));
  if (typeof socket === 'number') return socket;
  const headers = args.address(1);
  const count = Math.min(args.u32(2), mostSegments);
  let index = 0;
  let looping = false;
  /** One message has its result: the call's result, or what sending the others gives. */
  const sent = (result: number): number => {
    const told =
      result < 0
        ? result
        : task.memory.writeU32(headers + index * ManyMessageHeader.size + ManyMessageHeader.length, result);
    if (told < 0) return index > 0 ? index : told;
    index++;
    // Within the loop below it goes on there; after a wait it begins anew.
    return looping || index === count ? index : sendRest();
  };
  const sendRest = (): number => {
    for (;;) {
      const before = index;
      looping = true;
      const result = sendHeader(task, socket, headers + index * ManyMessageHeader.size, flags, sent);
      looping = false;
      if (result === BLOCKED || index === before || index === count) return result;
    }
  };
  return count === 0 ? 0 : sendRest();
}

const nanoseconds = 1_000_000_000;

/** The time-out of recvmmsg(2), as a deadline; undefined: none. */
function deadlineOf(task: Task, address: number): number | undefined | { readonly errno: number } {
  if (address === 0) return undefined;
  const sec = task.memory.readU64(address);
  const nsec = task.memory.readU64(address + 8);
  if (sec < 0 || nsec < 0) return { errno: -Errno.EFAULT };
  if (sec >= 2 ** 63 || nsec >= nanoseconds) return { errno: -Errno.EINVAL };
  return task.kernel.clock.monotonic() + sec * nanoseconds + nsec;
}

function receiveMany(task: Task, args: Arguments): number {
  const flags = args.u32(3);
  if (flags >= Message.compat) return -Errno.EINVAL;
  const timeout = args.address(4);
  const deadline = deadlineOf(task, timeout);
  if (typeof deadline === 'object') return deadline.errno;
  const socket = socketOf(task, args.i32(0));
  if (typeof socket === 'number') return socket;
  const error = socket.takeError();
  if (error < 0) return error;
  const headers = args.address(1);
  const count = Math.min(args.u32(2), mostSegments);
  let index = 0;
  const finish = (last: number): number => {
    if (index === 0) return last;
    // The error is the next call's.
    if (last < 0 && last !== -Errno.EAGAIN) socket.pendingError = -last;
    if (deadline !== undefined) {
      const left = Math.max(0, deadline - task.kernel.clock.monotonic());
      const sec = Math.floor(left / nanoseconds);
      if (
        task.memory.writeU64(timeout, sec) < 0 ||
        task.memory.writeU64(timeout + 8, left - sec * nanoseconds) < 0
      )
        return -Errno.EFAULT;
    }
    return index;
  };
  const attempt = (): number => {
    while (index < count) {
      const wanted = flags & ~Message.waitForOne;
      const at = headers + index * ManyMessageHeader.size;
      const result = receiveHeader(task, socket, at, wanted | Message.dontWait);
      if (result === -Errno.EAGAIN) {
        const waits = (flags & Message.waitForOne) === 0 || index === 0;
        return waits ? result : finish(result);
      }
      if (result < 0) return finish(result);
      if (task.memory.writeU32(at + ManyMessageHeader.length, result) < 0) return finish(-Errno.EFAULT);
      index++;
      // As in Linux the time is looked at only after a message has come.
      if (deadline !== undefined && task.kernel.clock.monotonic() >= deadline) break;
    }
    return finish(0);
  };
  return whenSocketReady(
    task,
    socket,
    (flags & Message.dontWait) !== 0 || socket.nonBlocking,
    {
      events: Poll.in | Poll.rdnorm,
      timeout: socket.options.receiveTimeout,
      soFar: () => finish(-Errno.EAGAIN),
    },
    attempt,
  );
}

export const messageSyscalls: readonly Syscall[] = [
  {
    name: 'sendto',
    signature: 'fd:fd buffer:buffer count:size flags:flags.msg address:sockaddr length:int -> size',
    support: 'full',
    handler: sendTo,
  },
  {
    name: 'recvfrom',
    signature: 'fd:fd buffer:out-buffer count:size flags:flags.msg address:address length:address -> size',
    support: 'full',
    handler: receiveFrom,
  },
  {
    name: 'sendmsg',
    signature: 'fd:fd message:address flags:flags.msg -> size',
    support: 'full',
    handler: sendMsg,
  },
  {
    name: 'recvmsg',
    signature: 'fd:fd message:address flags:flags.msg -> size',
    support: 'full',
    handler: receiveMsg,
  },
  {
    name: 'sendmmsg',
    signature: 'fd:fd messages:address count:uint flags:flags.msg -> int',
    support: 'full',
    handler: sendMany,
  },
  {
    name: 'recvmmsg',
    signature: 'fd:fd messages:address count:uint flags:flags.msg timeout:address -> int',
    support: 'full',
    handler: receiveMany,
  },
];
