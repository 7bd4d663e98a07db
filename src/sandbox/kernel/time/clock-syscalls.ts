// Reading and (not) setting clocks: clock_gettime(2), gettimeofday(2), adjtimex(2) and their like. Most programs read
// clocks through the vDSO; these are for those that do not.

import { Errno } from '../../abi/errno.ts';
import { ClockId, readTimespec, readTimeval, writeDuration, writeTimespec } from '../../abi/time.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Task } from '../contract.ts';
import { findClock, readWallClock, resolutionOf } from './clocks.ts';

export function clockGettime(task: Task, args: Arguments): number {
  const clock = findClock(task, args.i32(0), true);
  if (typeof clock === 'number') return clock;
  const address = args.address(1);
  if (clock.kind === 'cpu') return writeDuration(task.memory, address, clock.read());
  const { sec, nsec } = readWallClock(task.kernel, clock);
  return writeTimespec(task.memory, address, sec, nsec);
}

export function clockGetres(task: Task, args: Arguments): number {
  const clock = findClock(task, args.i32(0));
  if (typeof clock === 'number') return clock;
  const address = args.address(1);
  return address === 0 ? 0 : writeDuration(task.memory, address, resolutionOf(clock));
}

/** The clocks are the host's. */
export function clockSettime(task: Task, args: Arguments): number {
  const id = args.i32(0);
  const clock = findClock(task, id);
  if (typeof clock === 'number') return clock;
  // CLOCK_PROCESS_CPUTIME_ID cannot be set; the same clock by its process's number could be, if that were allowed.
  if (clock.kind === 'wall' ? !clock.settable : id >= 0) return -Errno.EINVAL;
  const time = readTimespec(task.memory, args.address(1));
  // Of processor time clocks not even the value is looked at.
  if (time === -Errno.EFAULT) return time;
  if (clock.kind === 'wall' && typeof time === 'number') return time;
  return -Errno.EPERM;
}

export function gettimeofday(task: Task, args: Arguments): number {
  const { sec, nsec } = task.kernel.clock.realtime();
  const address = args.address(0);
  const { memory } = task;
  if (address !== 0 && writeTimespec(memory, address, sec, Math.floor(nsec / 1000)) < 0) return -Errno.EFAULT;
  // struct timezone: the kernel's is Greenwich.
  const zone = args.address(1);
  return zone !== 0 && memory.clear(zone, 8) < 0 ? -Errno.EFAULT : 0;
}

export function settimeofday(task: Task, args: Arguments): number {
  const address = args.address(0);
  if (address !== 0) {
    const time = readTimeval(task.memory, address);
    if (typeof time === 'number') return time;
    if (time.sec < 0 || time.usec < 0 || time.usec > 1e6) return -Errno.EINVAL;
  }
  const zone = args.address(1);
  if (zone !== 0 && task.memory.readU64(zone) < 0) return -Errno.EFAULT;
  return -Errno.EPERM;
}

export function time(task: Task, args: Arguments): number {
  const { sec } = task.kernel.clock.realtime();
  const address = args.address(0);
  if (address !== 0 && task.memory.writeU64(address, sec) < 0) return -Errno.EFAULT;
  return sec;
}

/** struct timex: offsets of what is not zero. */
const Timex = {
  modes: 0,
  maxError: 24,
  estimatedError: 32,
  status: 40,
  constant: 48,
  precision: 56,
  tolerance: 64,
  sec: 72,
  usec: 80,
  tick: 88,
  size: 208,
} as const;

/** ADJ_OFFSET_SS_READ: only reads, though its bits say otherwise. */
const readOffset = 0xa001;

/** NTP_PHASE_LIMIT in microseconds: how far off a clock may be that nobody keeps. */
const unknownError = 16_000_000;

/** STA_UNSYNC, and TIME_ERROR, which says so. */
const unsynchronized = 0x40;
const timeError = 5;

/** A clock that the kernel does not keep itself: it can be read, and not be adjusted. */
function readTimex(task: Task, address: number): number {
  const bytes = new Uint8Array(Timex.size);
  if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const modes = view.getUint32(Timex.modes, true);
  if (modes !== 0 && modes !== readOffset) return -Errno.EPERM;
  bytes.fill(0, 8);
  const put = (offset: number, value: number): void => view.setBigInt64(offset, BigInt(value), true);
  const now = task.kernel.clock.realtime();
  put(Timex.maxError, unknownError);
  put(Timex.estimatedError, unknownError);
  view.setInt32(Timex.status, unsynchronized, true);
  put(Timex.constant, 2);
  put(Timex.precision, 1);
  put(Timex.tolerance, 500 << 16);
  put(Timex.sec, now.sec);
  put(Timex.usec, Math.floor(now.nsec / 1000));
  put(Timex.tick, 1e6 / 100);
  return task.memory.write(address, bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : timeError;
}

export function adjtimex(task: Task, args: Arguments): number {
  return readTimex(task, args.address(0));
}

export function clockAdjtime(task: Task, args: Arguments): number {
  const bytes = new Uint8Array(Timex.size);
  if (task.memory.read(args.address(1), bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const clock = findClock(task, args.i32(0));
  if (typeof clock === 'number') return clock;
  if (args.i32(0) !== ClockId.realtime) return -Errno.EOPNOTSUPP;
  return readTimex(task, args.address(1));
}
