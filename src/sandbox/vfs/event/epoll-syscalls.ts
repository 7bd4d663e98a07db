// epoll_create(2), epoll_ctl(2), epoll_wait(2) and their variants, in the order of checks of fs/eventpoll.c.

import { Errno } from '../../abi/errno.ts';
import { EpollEvent, EpollFlag, EpollOperation, EventFlag } from '../../abi/event.ts';
import { OpenFlag } from '../../abi/open.ts';
import { durationOf, readTimespec } from '../../abi/time.ts';
import { BLOCKED, type Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { Epoll, type EpollInterest } from './epoll.ts';
import { installFile, openFile } from './open-file.ts';

/** EP_MAX_EVENTS: what fits into an int. */
const maximumEvents = Math.floor(0x7fff_ffff / EpollEvent.size);

/** TASK_SIZE_MAX. */
const endOfMemory = 0x7fff_ffff_f000;

/** What may stand beside EPOLLEXCLUSIVE. */
const exclusiveBits =
  Poll.in | Poll.out | Poll.err | Poll.hup | EpollFlag.wakeUp | EpollFlag.edgeTriggered | EpollFlag.exclusive;

function create(task: Task, flags: number): number {
  const file = new Epoll(task.kernel, OpenFlag.readWrite, task.credentials.uid);
  return installFile(task, file, (flags & EventFlag.closeOnExec) !== 0);
}

function epollCreate(task: Task, args: Arguments): number {
  return args.i32(0) <= 0 ? -Errno.EINVAL : create(task, 0);
}

function epollCreate1(task: Task, args: Arguments): number {
  const flags = args.u32(0);
  return flags & ~EventFlag.closeOnExec ? -Errno.EINVAL : create(task, flags);
}

function readInterest(task: Task, address: number): EpollInterest | number {
  const bytes = new Uint8Array(EpollEvent.size);
  if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  return {
    // EPOLLWAKEUP needs a system that suspends: as with a kernel without it, or a caller without the capability.
    events: (view.getUint32(EpollEvent.events, true) & ~EpollFlag.wakeUp) >>> 0,
    dataLow: view.getUint32(EpollEvent.data, true),
    dataHigh: view.getUint32(EpollEvent.data + 4, true),
  };
}

const noInterest: EpollInterest = { events: 0, dataLow: 0, dataHigh: 0 };

function epollCtl(task: Task, args: Arguments): number {
  const operation = args.i32(1);
  const fd = args.i32(2);
  const interest = operation === EpollOperation.delete ? noInterest : readInterest(task, args.address(3));
  if (typeof interest === 'number') return interest;
  const epoll = openFile(task, args.i32(0));
  const file = openFile(task, fd);
  if (!epoll || !file) return -Errno.EBADF;
  // What cannot be waited for (regular files, directories) cannot be watched.
  if (!file.queue) return -Errno.EPERM;
  if (epoll === file || !(epoll instanceof Epoll)) return -Errno.EINVAL;
  if (interest.events & EpollFlag.exclusive) {
    if (operation === EpollOperation.modify) return -Errno.EINVAL;
    if (operation === EpollOperation.add && (file instanceof Epoll || interest.events & ~exclusiveBits))
      return -Errno.EINVAL;
  }
  switch (operation) {
    case EpollOperation.add:
      return epoll.add(task, fd, file, interest);
    case EpollOperation.modify:
      return epoll.modify(task, fd, file, interest);
    case EpollOperation.delete:
      return epoll.delete(fd, file);
    default:
      return -Errno.EINVAL;
  }
}

/** timeout: nanoseconds; negative: for ever. */
function wait(task: Task, args: Arguments, timeout: number): number {
  const epoll = openFile(task, args.i32(0));
  const address = args.address(1);
  const maximum = args.i32(2);
  if (!epoll) return -Errno.EBADF;
  if (maximum <= 0 || maximum > maximumEvents) return -Errno.EINVAL;
  if (address + maximum * EpollEvent.size > endOfMemory) return -Errno.EFAULT;
  if (!(epoll instanceof Epoll)) return -Errno.EINVAL;
  const count = epoll.collect(task, address, maximum);
  if (count !== 0 || timeout === 0) return count;
  // Another thread may close the descriptor meanwhile.
  epoll.acquire();
  return task.block({
    on: [{ queue: epoll.queue, events: Poll.in }],
    deadline: timeout < 0 ? undefined : task.kernel.clock.monotonic() + timeout,
    retry: () => epoll.collect(task, address, maximum) || BLOCKED,
    timedOut: () => 0,
    interrupted: () => -Errno.EINTR,
    ended: () => epoll.unreference(),
  });
}

const millisecond = 1e6;

function epollWait(task: Task, args: Arguments): number {
  return wait(task, args, args.i32(3) * millisecond);
}

function epollPwait(task: Task, args: Arguments): number {
  const masked = task.signals.setTemporaryMask(args.address(4), args.size(5));
  return masked < 0 ? masked : wait(task, args, args.i32(3) * millisecond);
}

function epollPwait2(task: Task, args: Arguments): number {
  let timeout = -1;
  if (args.address(3) !== 0) {
    const time = readTimespec(task.memory, args.address(3));
    if (typeof time === 'number') return time;
    timeout = durationOf(time);
  }
  const masked = task.signals.setTemporaryMask(args.address(4), args.size(5));
  return masked < 0 ? masked : wait(task, args, timeout);
}

export const epollSyscalls: readonly Syscall[] = [
  { name: 'epoll_create', signature: 'size:int -> fd', support: 'full', handler: epollCreate },
  { name: 'epoll_create1', signature: 'flags:flags.open -> fd', support: 'full', handler: epollCreate1 },
  {
    name: 'epoll_ctl',
    signature: 'epfd:fd op:enum.epollop fd:fd event:address',
    support: 'full',
    handler: epollCtl,
  },
  {
    name: 'epoll_wait',
    signature: 'epfd:fd events:address maxevents:int timeout:int',
    support: 'full',
    handler: epollWait,
  },
  {
    name: 'epoll_pwait',
    signature: 'epfd:fd events:address maxevents:int timeout:int sigmask:sigset size:size',
    support: 'full',
    handler: epollPwait,
  },
  {
    name: 'epoll_pwait2',
    signature: 'epfd:fd events:address maxevents:int timeout:timespec sigmask:sigset size:size',
    support: 'full',
    handler: epollPwait2,
  },
];
