// select(2) and pselect6(2) (fs/select.c): three sets of descriptors as bit arrays in whole 64-bit words.

import { Errno } from '../../abi/errno.ts';
import { durationOf, readTimespec, readTimeval, second } from '../../abi/time.ts';
import { BLOCKED, type Blocking, type Task } from '../../kernel/contract.ts';
import { Poll, type WaitQueue } from '../../kernel/wait-queue.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { FileDescription } from '../file-description.ts';
import { openFile } from './open-file.ts';
import { finishWait } from './timeout.ts';

/** Which poll bits make a descriptor count as readable, writable, exceptional. */
const meaning = [
  Poll.rdnorm | Poll.rdband | Poll.in | Poll.hup | Poll.err | Poll.nval,
  Poll.wrband | Poll.wrnorm | Poll.out | Poll.err | Poll.nval,
  Poll.pri | Poll.nval,
] as const;

interface Watched {
  readonly fd: number;
  readonly file: FileDescription;
  /** Bit i: it is in set i. */
  readonly sets: number;
  readonly events: number;
}

/**
 * How many descriptors the table has room for: what lies beyond is not looked at. It grows to 64, 128, 256 … and never
 * shrinks; here it is told from the highest descriptor that is open.
 */
function tableSize(task: Task): number {
  let highest = -1;
  for (const [fd] of task.files.entries()) highest = fd;
  let size = 64;
  while (size <= highest) size *= 2;
  return size;
}

class SelectCall {
  readonly #task: Task;
  readonly #addresses: readonly number[];
  readonly #results: readonly Uint8Array[];
  readonly #watched: readonly Watched[];

  constructor(
    task: Task,
    addresses: readonly number[],
    results: readonly Uint8Array[],
    watched: readonly Watched[],
  ) {
    this.#task = task;
    this.#addresses = addresses;
    this.#results = results;
    this.#watched = watched;
  }

  scan(): number {
    let count = 0;
    for (const bytes of this.#results) bytes.fill(0);
    for (const { fd, file, sets, events } of this.#watched) {
      const ready = file.readiness(events, this.#task);
      if (ready === 0) continue;
      for (let set = 0; set < 3; set++) {
        if (((sets >> set) & 1) === 0 || (ready & (meaning[set] ?? 0)) === 0) continue;
        const bytes = this.#results[set];
        if (bytes) bytes[fd >> 3] = (bytes[fd >> 3] ?? 0) | (1 << (fd & 7));
        count++;
      }
    }
    return count;
  }

  /** The sets are written unless the call failed or is to be restarted. */
  finish(result: number): number {
    if (result < 0) return result;
    for (const [set, bytes] of this.#results.entries()) {
      const address = this.#addresses[set] ?? 0;
      if (address !== 0 && this.#task.memory.write(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
    }
    return result;
  }

  queues(): Blocking['on'] {
    const on: { queue: WaitQueue; events: number }[] = [];
    for (const { file, events } of this.#watched) if (file.queue) on.push({ queue: file.queue, events });
    return on;
  }

  hold(): void {
    for (const { file } of this.#watched) file.acquire();
  }

  drop(): void {
    for (const { file } of this.#watched) file.unreference();
  }
}

/** Reads the sets and finds the files; -EINVAL, -EFAULT, -EBADF. */
function prepare(task: Task, count: number, addresses: readonly number[]): SelectCall | number {
  if (count < 0) return -Errno.EINVAL;
  const size = Math.min(count, count > 64 ? tableSize(task) : 64);
  const length = Math.ceil(size / 64) * 8;
  const sets: Uint8Array[] = [];
  for (const address of addresses) {
    const bytes = new Uint8Array(length);
    if (address !== 0 && length > 0 && task.memory.read(address, bytes, 0, length) < 0) return -Errno.EFAULT;
    sets.push(bytes);
  }
  const watched: Watched[] = [];
  for (let at = 0; at < length; at++) {
    const bits = [sets[0]?.[at] ?? 0, sets[1]?.[at] ?? 0, sets[2]?.[at] ?? 0] as const;
    const all = bits[0] | bits[1] | bits[2];
    if (all === 0) continue;
    for (let bit = 0; bit < 8; bit++) {
      const fd = at * 8 + bit;
      if (((all >> bit) & 1) === 0 || fd >= size) continue;
      const file = openFile(task, fd);
      if (!file) return -Errno.EBADF;
      let which = 0;
      let events = Poll.err | Poll.hup;
      for (let set = 0; set < 3; set++) {
        if (((bits[set] ?? 0) >> bit) & 1) {
          which |= 1 << set;
          events |= meaning[set] ?? 0;
        }
      }
      watched.push({ fd, file, sets: which, events: events & ~Poll.nval });
    }
  }
  return new SelectCall(task, addresses, sets, watched);
}

function select(
  task: Task,
  args: Arguments,
  deadline: number | undefined,
  over: (result: number) => number,
): number {
  const call = prepare(task, args.i32(0), [args.address(1), args.address(2), args.address(3)]);
  if (typeof call === 'number') return over(call);
  const ready = call.scan();
  if (ready > 0) return over(call.finish(ready));
  // A signal that waits comes before the end of the time, even of none.
  if (deadline === 0) return over(task.signals.pending ? -Errno.ERESTARTNOHAND : call.finish(0));
  call.hold();
  return task.block({
    on: call.queues(),
    deadline,
    retry: () => {
      const found = call.scan();
      return found > 0 ? over(call.finish(found)) : BLOCKED;
    },
    timedOut: () => over(call.finish(call.scan())),
    interrupted: () => over(-Errno.ERESTARTNOHAND),
    ended: () => call.drop(),
  });
}

function deadlineAfter(task: Task, nanoseconds: number): number {
  return nanoseconds === 0 ? 0 : task.kernel.clock.monotonic() + nanoseconds;
}

function sysSelect(task: Task, args: Arguments): number {
  const timeout = args.address(4);
  let deadline: number | undefined;
  if (timeout !== 0) {
    const time = readTimeval(task.memory, timeout);
    if (typeof time === 'number') return time;
    // Microseconds may be a million or more; what counts is the sum of whole seconds and the rest, each >= 0.
    const sec = time.sec + Math.trunc(time.usec / 1e6);
    if (sec < 0 || time.usec % 1e6 < 0) return -Errno.EINVAL;
    deadline = deadlineAfter(task, sec * second + (time.usec % 1e6) * 1000);
  }
  return select(task, args, deadline, (result) => finishWait(task, timeout, deadline, 'timeval', result));
}

function sysPselect(task: Task, args: Arguments): number {
  // The sixth argument points to the mask's address and size.
  let mask = 0;
  let size = 0;
  const pack = args.address(5);
  if (pack !== 0) {
    mask = task.memory.readU64(pack);
    size = task.memory.readU64(pack + 8);
    if (mask < 0 || size < 0) return -Errno.EFAULT;
  }
  const timeout = args.address(4);
  let deadline: number | undefined;
  if (timeout !== 0) {
    const time = readTimespec(task.memory, timeout);
    if (typeof time === 'number') return time;
    deadline = deadlineAfter(task, durationOf(time));
  }
  const masked = task.signals.setTemporaryMask(mask, size);
  if (masked < 0) return masked;
  return select(task, args, deadline, (result) => finishWait(task, timeout, deadline, 'timespec', result));
}

export const selectSyscalls: readonly Syscall[] = [
  {
    name: 'select',
    signature: 'nfds:int readfds:address writefds:address exceptfds:address timeout:timeval',
    support: 'full',
    handler: sysSelect,
  },
  {
    name: 'pselect6',
    signature: 'nfds:int readfds:address writefds:address exceptfds:address timeout:timespec sigmask:address',
    support: 'full',
    handler: sysPselect,
  },
];
