// timerfd_create(2), timerfd_settime(2), timerfd_gettime(2).

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { EventFlag, TimerfdFlag } from '../../abi/event.ts';
import { OpenFlag } from '../../abi/open.ts';
import { ClockId, durationOf, readTimespec, writeDuration } from '../../abi/time.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { installFile, openFile } from './open-file.ts';
import { TimerFile, timerfdBase } from './timerfd.ts';

function mayUse(task: Task, clock: number): boolean {
  const alarm = clock === ClockId.realtimeAlarm || clock === ClockId.boottimeAlarm;
  return !alarm || task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.wakeAlarm);
}

function create(task: Task, args: Arguments): number {
  const clock = args.i32(0);
  const flags = args.u32(1);
  const base = timerfdBase(clock);
  if (flags & ~(EventFlag.closeOnExec | EventFlag.nonBlock) || !base) return -Errno.EINVAL;
  if (!mayUse(task, clock)) return -Errno.EPERM;
  const open = OpenFlag.readWrite | (flags & EventFlag.nonBlock);
  const file = new TimerFile(task.kernel, open, clock, base);
  return installFile(task, file, (flags & EventFlag.closeOnExec) !== 0);
}

function writeState(task: Task, address: number, file: TimerFile): number {
  const { left, interval } = file.state();
  const failed =
    writeDuration(task.memory, address, interval) < 0 || writeDuration(task.memory, address + 16, left) < 0;
  return failed ? -Errno.EFAULT : 0;
}

function setTime(task: Task, args: Arguments): number {
  const flags = args.u32(1);
  const interval = readTimespec(task.memory, args.address(2));
  if (interval === -Errno.EFAULT) return interval;
  const value = readTimespec(task.memory, args.address(2) + 16);
  if (value === -Errno.EFAULT) return value;
  if (typeof interval === 'number' || typeof value === 'number') return -Errno.EINVAL;
  if (flags & ~(TimerfdFlag.absolute | TimerfdFlag.cancelOnSet)) return -Errno.EINVAL;
  const file = openFile(task, args.i32(0));
  if (!file) return -Errno.EBADF;
  if (!(file instanceof TimerFile)) return -Errno.EINVAL;
  if (!mayUse(task, file.clock)) return -Errno.EPERM;
  const old = file.state();
  file.set(value, durationOf(interval), flags);
  const address = args.address(3);
  if (address === 0) return 0;
  const failed =
    writeDuration(task.memory, address, old.interval) < 0 ||
    writeDuration(task.memory, address + 16, old.left) < 0;
  return failed ? -Errno.EFAULT : 0;
}

function getTime(task: Task, args: Arguments): number {
  const file = openFile(task, args.i32(0));
  if (!file) return -Errno.EBADF;
  if (!(file instanceof TimerFile)) return -Errno.EINVAL;
  return writeState(task, args.address(1), file);
}

export const timerfdSyscalls: readonly Syscall[] = [
  {
    name: 'timerfd_create',
    signature: 'clock:enum.clock flags:flags.open -> fd',
    support: 'full',
    handler: create,
  },
  {
    name: 'timerfd_settime',
    signature: 'fd:fd flags:hex new:address old:address',
    support: 'full',
    handler: setTime,
  },
  { name: 'timerfd_gettime', signature: 'fd:fd current:address', support: 'full', handler: getTime },
];
