// Clocks, timespec and timeval (include/uapi/linux/time.h, time_types.h, timex.h) and how they are read and written.

import type { UserMemory } from '../platform/contract.ts';
import { Errno } from './errno.ts';

export const ClockId = {
  realtime: 0,
  monotonic: 1,
  processCpu: 2,
  threadCpu: 3,
  monotonicRaw: 4,
  realtimeCoarse: 5,
  monotonicCoarse: 6,
  boottime: 7,
  realtimeAlarm: 8,
  boottimeAlarm: 9,
  tai: 11,
} as const;

/** TIMER_ABSTIME of clock_nanosleep and timer_settime. */
export const timerAbsolute = 1;

/** USER_HZ: the unit of times(2) and /proc/pid/stat. */
export const userHz = 100;

/** A tick of the kernel that programs see (CONFIG_HZ=250): the resolution of the coarse clocks and CPU timers. */
export const tickNanoseconds = 4_000_000;

export const second = 1e9;

/** Seconds signed, nanoseconds as the program gave them (checked: 0 … 999,999,999). */
export interface TimeValue {
  readonly sec: number;
  readonly nsec: number;
}

const signBit = 2 ** 63;

/** struct timespec: 16 bytes. -EFAULT; -EINVAL for negative times and nanoseconds out of range (timespec64_valid). */
export function readTimespec(memory: UserMemory, address: number): TimeValue | number {
  const sec = memory.readU64(address);
  if (sec < 0) return -Errno.EFAULT;
  const nsec = memory.readU64(address + 8);
  if (nsec < 0) return -Errno.EFAULT;
  if (sec >= signBit || nsec >= second) return -Errno.EINVAL;
  return { sec, nsec };
}

/** 0 or -EFAULT. */
export function writeTimespec(memory: UserMemory, address: number, sec: number, nsec: number): number {
  if (memory.writeU64(address, sec) < 0 || memory.writeU64(address + 8, nsec) < 0) return -Errno.EFAULT;
  return 0;
}

/** As writeTimespec, from a duration in nanoseconds >= 0. */
export function writeDuration(memory: UserMemory, address: number, nanoseconds: number): number {
  const sec = Math.floor(nanoseconds / second);
  return writeTimespec(memory, address, sec, Math.round(nanoseconds - sec * second));
}

/** struct timeval: seconds and microseconds, not checked; whatever is negative is given as -1. */
export function readTimeval(memory: UserMemory, address: number): { sec: number; usec: number } | number {
  const sec = memory.readU64(address);
  if (sec < 0) return -Errno.EFAULT;
  const usec = memory.readU64(address + 8);
  if (usec < 0) return -Errno.EFAULT;
  return { sec: sec >= signBit ? -1 : sec, usec: usec >= signBit ? -1 : usec };
}

/** Nanoseconds of a duration; huge ones simply never end. */
export function durationOf(time: TimeValue): number {
  return time.sec * second + time.nsec;
}
