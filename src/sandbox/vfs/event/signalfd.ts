// signalfd(2): reading pending signals (fs/signalfd.c). Whose signals are read depends on who reads: the file listens
// to the signals of every process that it was made, read or polled by.

import { Errno } from '../../abi/errno.ts';
import { SignalfdInfo as out } from '../../abi/event.ts';
import { SiginfoLayout as at, Signal, SignalCode } from '../../abi/signal.ts';
import type { Kernel, SignalInfo, Task } from '../../kernel/contract.ts';
import type { SignalHandlers } from '../../kernel/signal/contract.ts';
import { encodeSiginfo } from '../../kernel/signal/siginfo.ts';
import { formatSet, type SignalSet } from '../../kernel/signal/signal-set.ts';
import { Poll, type Waiter, WaitQueue } from '../../kernel/wait-queue.ts';
import type { Io } from '../io.ts';
import { AnonymousFile } from './anonymous.ts';

export class SignalFile extends AnonymousFile implements Waiter {
  protected readonly kind = '[signalfd]';
  readonly #queue = new WaitQueue();
  #set: SignalSet;
  readonly #heard = new Set<SignalHandlers>();

  /** task: who made it. */
  constructor(kernel: Kernel, flags: number, set: SignalSet, task: Task) {
    super(kernel, flags);
    this.#set = set;
    this.#listen(task);
  }

  override get queue(): WaitQueue {
    return this.#queue;
  }

  #listen(task: Task): void {
    const { handlers } = task.process.signals;
    if (this.#heard.has(handlers)) return;
    this.#heard.add(handlers);
    handlers.queue.add(this, Poll.in);
  }

  /** A signal came to one of the processes: whoever waits looks whether it is for him. */
  notify(): void {
    this.queue.notify(Poll.in);
  }

  /** signalfd(2) on an existing descriptor. */
  setMask(set: SignalSet): void {
    this.#set = set;
    this.queue.notify(Poll.in);
  }

  override read(task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    let room = Math.floor(io.left / out.size);
    if (room === 0) return -Errno.EINVAL;
    this.#listen(task);
    const bytes = new Uint8Array(out.size);
    let total = 0;
    for (; room > 0; room--) {
      const info = task.signals.dequeue(this.#set);
      if (!info) break;
      encode(info, task, bytes);
      const put = io.put(bytes, 0, bytes.length);
      if (put < bytes.length) return total > 0 ? total : -Errno.EFAULT;
      total += put;
    }
    return total > 0 ? total : -Errno.EAGAIN;
  }

  override readiness(_events: number, task: Task): number {
    this.#listen(task);
    return task.signals.available(this.#set) ? Poll.in : 0;
  }

  override information(): string {
    return `sigmask:\t${formatSet(this.#set)}\n`;
  }

  protected override release(): void {
    for (const { queue } of this.#heard) queue.remove(this);
    this.#heard.clear();
  }
}

/** Codes that mean the same for every signal are below SI_USER or are SI_KERNEL; the others depend on the signal. */
type Layout = 'kill' | 'timer' | 'poll' | 'fault' | 'child' | 'queue' | 'syscall';

function layoutOf(signal: number, code: number): Layout {
  if (code > SignalCode.SI_USER && code < SignalCode.SI_KERNEL) {
    switch (signal) {
      case Signal.SIGILL:
      case Signal.SIGFPE:
      case Signal.SIGSEGV:
      case Signal.SIGBUS:
      case Signal.SIGTRAP:
        return 'fault';
      case Signal.SIGCHLD:
        return 'child';
      case Signal.SIGSYS:
        return 'syscall';
      default:
        return code <= SignalCode.POLL_HUP ? 'poll' : 'kill';
    }
  }
  if (code === SignalCode.SI_TIMER) return 'timer';
  if (code === SignalCode.SI_SIGIO) return 'poll';
  return code < 0 ? 'queue' : 'kill';
}

/** struct signalfd_siginfo from the siginfo that the reader would get in a handler. */
function encode(info: SignalInfo, task: Task, target: Uint8Array): void {
  const source = new DataView(new ArrayBuffer(at.size));
  encodeSiginfo(info, task, new Uint8Array(source.buffer));
  target.fill(0);
  const view = new DataView(target.buffer);
  const code = source.getInt32(at.code, true);
  view.setInt32(out.signal, source.getInt32(at.signo, true), true);
  view.setInt32(out.errno, source.getInt32(at.errno, true), true);
  view.setInt32(out.code, code, true);
  const copy32 = (to: number, from: number): void => view.setInt32(to, source.getInt32(from, true), true);
  const copy64 = (to: number, from: number): void =>
    view.setBigInt64(to, source.getBigInt64(from, true), true);
  const sender = (): void => {
    copy32(out.pid, at.pid);
    copy32(out.uid, at.uid);
  };
  const value = (): void => {
    copy64(out.pointer, at.value);
    copy32(out.int, at.value);
  };
  switch (layoutOf(info.signal, code)) {
    case 'kill':
      sender();
      break;
    case 'timer':
      copy32(out.timer, at.timer);
      copy32(out.overrun, at.overrun);
      value();
      break;
    case 'poll':
      copy32(out.band, at.band);
      copy32(out.fd, at.fd);
      break;
    case 'fault':
      copy64(out.address, at.address);
      break;
    case 'child':
      sender();
      copy32(out.status, at.status);
      copy64(out.userTime, at.utime);
      copy64(out.systemTime, at.stime);
      break;
    case 'queue':
      sender();
      value();
      break;
    case 'syscall':
      copy64(out.callAddress, at.callAddress);
      copy32(out.syscall, at.syscall);
      copy32(out.architecture, at.arch);
      break;
  }
}
