// poll(2) and ppoll(2) (fs/select.c).

import { Errno } from '../../abi/errno.ts';
import { PollFd } from '../../abi/event.ts';
import { durationOf, readTimespec } from '../../abi/time.ts';
import { BLOCKED, type Blocking, type Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { FileDescription } from '../file-description.ts';
import { openFile } from './open-file.ts';
import { finishWait } from './timeout.ts';

const RLIMIT_NOFILE = 7;

/** One call: the array, the files, what to do when it is over. */
class PollCall {
  readonly #task: Task;
  readonly #address: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Held for as long as the call waits; undefined where there is no open file. */
  readonly #files: (FileDescription | undefined)[] = [];

  constructor(task: Task, address: number, bytes: Uint8Array) {
    this.#task = task;
    this.#address = address;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
    for (let at = 0; at < bytes.length; at += PollFd.size) {
      const fd = this.#view.getInt32(at + PollFd.fd, true);
      this.#files.push(fd < 0 ? undefined : openFile(task, fd));
    }
  }

  /** Fills in what is ready now; how many entries have something. */
  scan(): number {
    let count = 0;
    for (const [index, file] of this.#files.entries()) {
      const at = index * PollFd.size;
      const events = this.#view.getUint16(at + PollFd.events, true) | Poll.err | Poll.hup;
      let ready = 0;
      if (file) ready = file.readiness(events, this.#task) & events;
      else if (this.#view.getInt32(at + PollFd.fd, true) >= 0) ready = Poll.nval;
      this.#view.setUint16(at + PollFd.revents, ready, true);
      if (ready !== 0) count++;
    }
    return count;
  }

  /** Writes the results back, whatever the call's result. */
  finish(result: number): number {
    const memory = this.#task.memory;
    if (memory.write(this.#address, this.#bytes, 0, this.#bytes.length) < 0) return -Errno.EFAULT;
    return result;
  }

  queues(): Blocking['on'] {
    const on: { queue: NonNullable<FileDescription['queue']>; events: number }[] = [];
    for (const [index, file] of this.#files.entries()) {
      const queue = file?.queue;
      const events = this.#view.getUint16(index * PollFd.size + PollFd.events, true);
      if (queue) on.push({ queue, events });
    }
    return on;
  }

  hold(): void {
    for (const file of this.#files) file?.acquire();
  }

  drop(): void {
    for (const file of this.#files) file?.unreference();
  }
}

/**
 * deadline: CLOCK_MONOTONIC nanoseconds, undefined: never, 0: do not wait. `over` has the last word on the result.
 */
function poll(
  task: Task,
  address: number,
  count: number,
  deadline: number | undefined,
  over: (result: number) => number,
): number {
  if (count > task.process.limit(RLIMIT_NOFILE).soft) return over(-Errno.EINVAL);
  const bytes = new Uint8Array(count * PollFd.size);
  if (count > 0 && task.memory.read(address, bytes, 0, bytes.length) < 0) return over(-Errno.EFAULT);
  const call = new PollCall(task, address, bytes);
  const ready = call.scan();
  if (ready > 0) return over(call.finish(ready));
  // A signal that waits comes before the end of the time, even of none.
  if (deadline === 0) return over(call.finish(task.signals.pending ? -Errno.ERESTARTNOHAND : 0));
  call.hold();
  return task.block({
    on: call.queues(),
    deadline,
    retry: () => {
      const found = call.scan();
      return found > 0 ? over(call.finish(found)) : BLOCKED;
    },
    timedOut: () => over(call.finish(0)),
    interrupted: () => over(call.finish(-Errno.ERESTARTNOHAND)),
    ended: () => call.drop(),
  });
}

const millisecond = 1e6;

function sysPoll(task: Task, args: Arguments): number {
  const timeout = args.i32(2);
  const wait = timeout * millisecond;
  const deadline = timeout < 0 ? undefined : timeout === 0 ? 0 : task.kernel.clock.monotonic() + wait;
  const address = args.address(0);
  const count = args.u32(1);
  const again = (): number =>
    poll(task, address, count, deadline, (result) => {
      // Goes on until the same moment, unless a handler ran.
      if (result !== -Errno.ERESTARTNOHAND) return result;
      task.restart = again;
      return -Errno.ERESTART_RESTARTBLOCK;
    });
  return again();
}

function sysPpoll(task: Task, args: Arguments): number {
  const timeout = args.address(2);
  let deadline: number | undefined;
  if (timeout !== 0) {
    const time = readTimespec(task.memory, timeout);
    if (typeof time === 'number') return time;
    const duration = durationOf(time);
    deadline = duration === 0 ? 0 : task.kernel.clock.monotonic() + duration;
  }
  const masked = task.signals.setTemporaryMask(args.address(3), args.size(4));
  if (masked < 0) return masked;
  return poll(task, args.address(0), args.u32(1), deadline, (result) =>
    finishWait(task, timeout, deadline, 'timespec', result),
  );
}

export const pollSyscalls: readonly Syscall[] = [
  { name: 'poll', signature: 'fds:address nfds:uint timeout:int', support: 'full', handler: sysPoll },
  {
    name: 'ppoll',
    signature: 'fds:address nfds:uint timeout:timespec sigmask:sigset size:size',
    support: 'full',
    handler: sysPpoll,
  },
];
