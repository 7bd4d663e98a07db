// What the socket system calls share: the socket behind a descriptor, sending and receiving one message.

import { Errno } from '../abi/errno.ts';
import { OpenFlag } from '../abi/open.ts';
import { Message } from '../abi/socket.ts';
import type { Task } from '../kernel/contract.ts';
import { Poll } from '../kernel/wait-queue.ts';
import type { Io } from '../vfs/io.ts';
import { Incoming, type Outgoing, Socket } from './socket.ts';
import { whenSocketReady } from './waiting.ts';

/** -EBADF, -ENOTSOCK. */
export function socketOf(task: Task, fd: number): Socket | number {
  const file = task.files.get(fd);
  if (file === undefined || file.flags & OpenFlag.path) return -Errno.EBADF;
  return file instanceof Socket ? file : -Errno.ENOTSOCK;
}

const receivable = Poll.in | Poll.rdnorm;
const sendable = Poll.out | Poll.wrnorm;

/**
 * Sends one message, waiting if need be; streams go on until everything is sent. done: called with what was sent or the
 * error before it is given.
 */
export function sendMessage(
  task: Task,
  socket: Socket,
  io: Io,
  message: Outgoing,
  done: (result: number) => number = (result) => result,
): number {
  const prepared = message.control.length > 0 ? socket.prepare(task, message) : 0;
  if (prepared < 0) {
    message.finish();
    return done(prepared);
  }
  const dontWait = (message.flags & Message.dontWait) !== 0 || socket.nonBlocking;
  const goesOn = socket.writesAll;
  let total = 0;
  const attempt = (): number => {
    for (;;) {
      const sent = socket.send(task, io, message);
      if (sent === -Errno.EAGAIN) return sent;
      if (sent < 0) return done(total > 0 ? total : sent);
      total += sent;
      if (!goesOn || io.left === 0 || sent === 0) return done(total);
      // What breaks the stream after this is told by the next call.
      message.flags |= Message.noSignal;
    }
  };
  return whenSocketReady(
    task,
    socket,
    dontWait,
    {
      events: sendable,
      timeout: socket.options.sendTimeout,
      soFar: () => (total > 0 ? done(total) : -Errno.EAGAIN),
      ended: () => message.finish(),
    },
    attempt,
  );
}

/**
 * Receives one message, waiting if need be. done: called with the message and the count or error before that is given;
 * its result is the call's.
 */
export function receiveMessage(
  task: Task,
  socket: Socket,
  io: Io,
  flags: number,
  done: (message: Incoming, result: number) => number,
): number {
  const message = new Incoming(flags);
  const dontWait = (flags & Message.dontWait) !== 0 || socket.nonBlocking;
  const stream = socket.isStream;
  const least = flags & Message.waitAll ? io.left : Math.min(socket.options.receiveLowWater, io.left);
  const target = stream ? Math.max(1, least) : 1;
  let total = 0;
  const finish = (result: number): number => {
    const answer = done(message, result);
    message.dropRights();
    return answer;
  };
  const attempt = (): number => {
    for (;;) {
      const count = socket.receive(task, io, message);
      if (count === -Errno.EAGAIN) return total >= target ? finish(total) : count;
      if (count < 0) return finish(total > 0 ? total : count);
      total += count;
      if (!stream || count === 0 || message.peeks || message.rights || total >= target || io.left === 0)
        return finish(total);
      // An error that comes after bytes is the next call's.
      if (socket.pendingError !== 0) return finish(total);
    }
  };
  return whenSocketReady(
    task,
    socket,
    dontWait,
    {
      events: receivable,
      timeout: socket.options.receiveTimeout,
      soFar: () => (total > 0 ? finish(total) : -Errno.EAGAIN),
    },
    attempt,
  );
}
