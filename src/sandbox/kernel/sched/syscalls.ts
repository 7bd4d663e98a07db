// The sched_* calls (sched(7)) and what programs ask the machine in general: sysinfo(2), getrandom(2), syslog(2).
// The host's scheduler decides which thread runs where; policies, priorities and masks are kept, checked and given back.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { SchedAttr, SchedFlag, Sysinfo, schedResetOnFork } from '../../abi/sched.ts';
import { second, writeDuration } from '../../abi/time.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { LoadAverages, sumsOf } from '../../vfs/proc/system.ts';
import { BLOCKED, type Task } from '../contract.ts';
import {
  changeScheduling,
  flagsOf,
  isPolicy,
  isRealTime,
  mayControl,
  type SchedulingChange,
  targetOf,
} from './policy.ts';
import { SchedulingPolicy as Policy } from './scheduling.ts';

/** Lets others go first: the call ends in the kernel's next round. */
function schedYield(task: Task): number {
  task.kernel.later(() => task.wake());
  return task.block({ on: [], retry: () => 0, interrupted: () => 0 });
}

function setScheduler(task: Task, args: Arguments): number {
  const policy = args.i32(1);
  return policy < 0 ? -Errno.EINVAL : setParameters(task, args.i32(0), policy, args.address(2));
}

/** policy -1: stays (sched_setparam). */
function setParameters(task: Task, pid: number, policy: number, address: number): number {
  if (pid < 0 || address === 0) return -Errno.EINVAL;
  const priority = task.memory.readU32(address);
  if (priority < 0) return -Errno.EFAULT;
  const target = targetOf(task, pid);
  if (!target) return -Errno.ESRCH;
  const { scheduling } = target;
  const kept = policy === -1;
  return changeScheduling(task, target, {
    policy: kept ? scheduling.policy : policy & ~schedResetOnFork,
    priority: priority | 0,
    resetOnFork: kept ? scheduling.resetOnFork : (policy & schedResetOnFork) !== 0,
  });
}

function getScheduler(task: Task, args: Arguments): number {
  if (args.i32(0) < 0) return -Errno.EINVAL;
  const target = targetOf(task, args.i32(0));
  if (!target) return -Errno.ESRCH;
  return target.scheduling.policy | (target.scheduling.resetOnFork ? schedResetOnFork : 0);
}

function getParam(task: Task, args: Arguments): number {
  if (args.address(1) === 0 || args.i32(0) < 0) return -Errno.EINVAL;
  const target = targetOf(task, args.i32(0));
  if (!target) return -Errno.ESRCH;
  return task.memory.writeU32(args.address(1), target.scheduling.priority);
}

function priorityLimit(args: Arguments, ofRealTime: number): number {
  const policy = args.i32(0);
  // SCHED_EXT (7) has no priorities either.
  if (!isPolicy(policy) && policy !== 7) return -Errno.EINVAL;
  return isRealTime(policy) ? ofRealTime : 0;
}

/** RR_TIMESLICE; of the fair policies what is less than a tick shows as nothing. */
const roundRobinSlice = 100e6;

function rrGetInterval(task: Task, args: Arguments): number {
  if (args.i32(0) < 0) return -Errno.EINVAL;
  const target = targetOf(task, args.i32(0));
  if (!target) return -Errno.ESRCH;
  const slice = target.scheduling.policy === Policy.roundRobin ? roundRobinSlice : 0;
  return writeDuration(task.memory, args.address(1), slice);
}

// Affinity: masks of kernel.cpus bits.

/** Bytes of the kernel's own masks: whole 64-bit words. */
function maskSize(task: Task): number {
  return Math.ceil(task.kernel.cpus / 64) * 8;
}

function setAffinity(task: Task, args: Arguments): number {
  const size = maskSize(task);
  const bytes = new Uint8Array(size);
  const given = Math.min(size, args.u32(1));
  if (given > 0 && task.memory.read(args.address(2), bytes, 0, given) < 0) return -Errno.EFAULT;
  const target = targetOf(task, args.i32(0));
  if (!target) return -Errno.ESRCH;
  if (!mayControl(task, target)) return -Errno.EPERM;
  const mask = new Uint32Array(size / 4);
  let any = false;
  for (let cpu = 0; cpu < task.kernel.cpus; cpu++) {
    if ((((bytes[cpu >> 3] ?? 0) >> (cpu & 7)) & 1) === 0) continue;
    mask[cpu >> 5] = (mask[cpu >> 5] ?? 0) | (1 << (cpu & 31));
    any = true;
  }
  if (!any) return -Errno.EINVAL;
  target.scheduling.affinity = mask;
  return 0;
}

function getAffinity(task: Task, args: Arguments): number {
  const length = args.u32(1);
  if (length * 8 < task.kernel.cpus || length % 8 !== 0) return -Errno.EINVAL;
  const target = targetOf(task, args.i32(0));
  if (!target) return -Errno.ESRCH;
  const size = maskSize(task);
  const bytes = new Uint8Array(size);
  const { affinity } = target.scheduling;
  for (let cpu = 0; cpu < task.kernel.cpus; cpu++)
    if (!affinity || ((affinity[cpu >> 5] ?? 0) >> (cpu & 31)) & 1)
      bytes[cpu >> 3] = (bytes[cpu >> 3] ?? 0) | (1 << (cpu & 7));
  const count = Math.min(length, size);
  return task.memory.write(args.address(2), bytes, 0, count) < 0 ? -Errno.EFAULT : count;
}

// sched_setattr, sched_getattr.

const pageSize = 4096;

/** sched_copy_attr: the structure in the size that the program knows; beyond ours it must be zeroes. */
function readAttributes(task: Task, address: number): DataView | number {
  const { memory } = task;
  const bytes = new Uint8Array(SchedAttr.presentSize);
  const given = memory.readU32(address);
  if (given < 0) return -Errno.EFAULT;
  const size = given === 0 ? SchedAttr.firstSize : given;
  let tooBig = size < SchedAttr.firstSize || size > pageSize;
  if (!tooBig) {
    if (memory.read(address, bytes, 0, Math.min(size, bytes.length)) < 0) return -Errno.EFAULT;
    if (size > bytes.length) {
      const rest = new Uint8Array(size - bytes.length);
      if (memory.read(address + bytes.length, rest, 0, rest.length) < 0) return -Errno.EFAULT;
      tooBig = rest.some((byte) => byte !== 0);
    }
  }
  if (tooBig) {
    // Tells the program how much the kernel knows.
    return memory.writeU32(address, SchedAttr.presentSize) < 0 ? -Errno.EFAULT : -Errno.E2BIG;
  }
  const view = new DataView(bytes.buffer);
  const clamps = Number(view.getBigUint64(SchedAttr.flags, true) & BigInt(SchedFlag.utilClamp));
  return clamps !== 0 && size < SchedAttr.presentSize ? -Errno.EINVAL : view;
}

function setAttr(task: Task, args: Arguments): number {
  const address = args.address(1);
  if (address === 0 || args.i32(0) < 0 || args.u32(2) !== 0) return -Errno.EINVAL;
  const view = readAttributes(task, address);
  if (typeof view === 'number') return view;
  const policy = view.getInt32(SchedAttr.policy, true);
  if (policy < 0) return -Errno.EINVAL;
  const target = targetOf(task, args.i32(0));
  if (!target) return -Errno.ESRCH;
  const flags = view.getBigUint64(SchedAttr.flags, true);
  if (flags & ~BigInt(SchedFlag.all)) return -Errno.EINVAL;
  const bits = Number(flags);
  // Utilization is not clamped: as with a kernel without CONFIG_UCLAMP_TASK.
  if (bits & SchedFlag.utilClamp) return -Errno.EOPNOTSUPP;
  const { scheduling } = target;
  const keep = (bits & SchedFlag.keepParameters) !== 0;
  const number = (offset: number): number => Number(view.getBigUint64(offset, true));
  const nice = Math.max(-20, Math.min(19, view.getInt32(SchedAttr.nice, true)));
  const change: SchedulingChange = {
    policy: bits & SchedFlag.keepPolicy ? scheduling.policy : policy,
    priority: keep ? scheduling.priority : view.getUint32(SchedAttr.priority, true),
    resetOnFork: (bits & SchedFlag.resetOnFork) !== 0,
    nice: keep ? scheduling.nice : nice,
    runtime: keep ? scheduling.runtime : number(SchedAttr.runtime),
    deadline: keep ? scheduling.deadline : number(SchedAttr.deadline),
    period: keep ? scheduling.period : number(SchedAttr.period),
    keepParameters: keep,
  };
  return changeScheduling(task, target, change);
}

function getAttr(task: Task, args: Arguments): number {
  const address = args.address(1);
  const size = args.u32(2);
  if (address === 0 || args.i32(0) < 0 || size > pageSize) return -Errno.EINVAL;
  if (size < SchedAttr.firstSize || args.u32(3) !== 0) return -Errno.EINVAL;
  const target = targetOf(task, args.i32(0));
  if (!target) return -Errno.ESRCH;
  const { policy, priority, nice, runtime, deadline, period } = target.scheduling;
  const bytes = new Uint8Array(Math.min(size, SchedAttr.presentSize));
  const view = new DataView(bytes.buffer);
  view.setUint32(SchedAttr.size, bytes.length, true);
  view.setUint32(SchedAttr.policy, policy, true);
  view.setBigUint64(SchedAttr.flags, BigInt(flagsOf(target)), true);
  if (isRealTime(policy)) view.setUint32(SchedAttr.priority, priority, true);
  else if (policy !== Policy.deadline) view.setInt32(SchedAttr.nice, nice, true);
  view.setBigUint64(SchedAttr.runtime, BigInt(runtime), true);
  view.setBigUint64(SchedAttr.deadline, BigInt(deadline), true);
  view.setBigUint64(SchedAttr.period, BigInt(period), true);
  if (bytes.length === SchedAttr.presentSize) view.setUint32(SchedAttr.utilMaximum, 1024, true);
  return task.memory.write(address, bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
}

// The machine.

function sysinfo(task: Task, args: Arguments): number {
  const { kernel } = task;
  const bytes = new Uint8Array(Sysinfo.size);
  const view = new DataView(bytes.buffer);
  const put = (offset: number, value: number): void => view.setBigUint64(offset, BigInt(value), true);
  // The same figures as in /proc/meminfo and /proc/loadavg; loads in units of 1/65536.
  const { averages, threads } = kernel.part(LoadAverages).look();
  const used = sumsOf(kernel).resident;
  for (const [index, load] of averages.entries()) put(Sysinfo.loads + 8 * index, Math.floor(load * 65_536));
  put(Sysinfo.uptime, Math.ceil(kernel.clock.boot() / second));
  put(Sysinfo.totalRam, kernel.memoryTotal);
  put(Sysinfo.freeRam, Math.max(0, kernel.memoryTotal - used));
  view.setUint16(Sysinfo.processes, Math.min(threads, 0xffff), true);
  view.setUint32(Sysinfo.unit, 1, true);
  return task.memory.write(args.address(0), bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
}

/** GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE. The host's generator is always ready, so that nothing blocks. */
const RandomFlag = { nonBlock: 1, random: 2, insecure: 4 } as const;

/** What one call gives at most; more is a short count, as when a signal interrupts. */
const randomMaximum = 0x01ff_ffff;

function getrandom(task: Task, args: Arguments): number {
  const flags = args.u32(2);
  const both = RandomFlag.random | RandomFlag.insecure;
  if (flags & ~(RandomFlag.nonBlock | both) || (flags & both) === both) return -Errno.EINVAL;
  const total = Math.min(args.size(1), randomMaximum);
  const address = args.address(0);
  const bytes = new Uint8Array(Math.min(total, 65_536));
  let done = 0;
  while (done < total) {
    const part = bytes.subarray(0, Math.min(bytes.length, total - done));
    task.kernel.random(part);
    if (task.memory.write(address + done, part, 0, part.length) < 0) {
      if (part.length === 1) return done > 0 ? done : -Errno.EFAULT;
      // As far as the memory goes, in pieces as Linux makes them.
      return done + fillTo(task, address + done, part) || -Errno.EFAULT;
    }
    done += part.length;
  }
  return done;
}

/** Writes in blocks of 64 bytes until the memory ends. */
function fillTo(task: Task, address: number, bytes: Uint8Array): number {
  let done = 0;
  while (done < bytes.length) {
    const count = Math.min(64, bytes.length - done);
    if (task.memory.write(address + done, bytes, done, count) < 0) return done;
    done += count;
  }
  return done;
}

/** SYSLOG_ACTION_*. */
const LogAction = {
  read: 2,
  readAll: 3,
  readClear: 4,
  consoleLevel: 8,
  sizeUnread: 9,
  sizeBuffer: 10,
} as const;

/** log_buf_len's default. */
const logBufferSize = 262_144;

/** The kernel's log for programs, which is empty: what the sandbox logs is for its host. dmesg_restrict is 1. */
function syslog(task: Task, args: Arguments): number {
  const action = args.i32(0);
  if (!task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.syslog)) return -Errno.EPERM;
  switch (action) {
    case LogAction.read:
    case LogAction.readAll:
    case LogAction.readClear:
      if (args.address(1) === 0 || args.i32(2) < 0) return -Errno.EINVAL;
      if (action !== LogAction.read || args.i32(2) === 0) return 0;
      return task.block({ on: [], retry: () => BLOCKED });
    case LogAction.consoleLevel:
      return args.i32(2) < 1 || args.i32(2) > 8 ? -Errno.EINVAL : 0;
    case LogAction.sizeUnread:
      return 0;
    case LogAction.sizeBuffer:
      return logBufferSize;
    default:
      return action < 0 || action > LogAction.sizeBuffer ? -Errno.EINVAL : 0;
  }
}

const hostDecides = "kept and given back; the host's scheduler decides";

export const schedulingSyscalls: readonly Syscall[] = [
  { name: 'sched_yield', signature: '', support: 'full', handler: schedYield },
  {
    name: 'sched_setscheduler',
    signature: 'pid:pid policy:int param:address',
    support: 'partial',
    note: hostDecides,
    handler: setScheduler,
  },
  { name: 'sched_getscheduler', signature: 'pid:pid', support: 'full', handler: getScheduler },
  {
    name: 'sched_setparam',
    signature: 'pid:pid param:address',
    support: 'partial',
    note: hostDecides,
    handler: (task, args) => setParameters(task, args.i32(0), -1, args.address(1)),
  },
  { name: 'sched_getparam', signature: 'pid:pid param:address', support: 'full', handler: getParam },
  {
    name: 'sched_get_priority_max',
    signature: 'policy:int',
    support: 'full',
    handler: (_task, args) => priorityLimit(args, 99),
  },
  {
    name: 'sched_get_priority_min',
    signature: 'policy:int',
    support: 'full',
    handler: (_task, args) => priorityLimit(args, 1),
  },
  {
    name: 'sched_rr_get_interval',
    signature: 'pid:pid interval:address',
    support: 'full',
    handler: rrGetInterval,
  },
  {
    name: 'sched_setaffinity',
    signature: 'pid:pid length:uint mask:address',
    support: 'partial',
    note: hostDecides,
    handler: setAffinity,
  },
  {
    name: 'sched_getaffinity',
    signature: 'pid:pid length:uint mask:address',
    support: 'full',
    handler: getAffinity,
  },
  {
    name: 'sched_setattr',
    signature: 'pid:pid attr:address flags:hex',
    support: 'partial',
    note: `${hostDecides}; EOPNOTSUPP for utilization clamps`,
    handler: setAttr,
  },
  {
    name: 'sched_getattr',
    signature: 'pid:pid attr:address size:uint flags:hex',
    support: 'full',
    handler: getAttr,
  },
  { name: 'sysinfo', signature: 'info:address', support: 'full', handler: sysinfo },
  {
    name: 'getrandom',
    signature: 'buffer:address length:size flags:hex',
    support: 'full',
    handler: getrandom,
  },
  {
    name: 'syslog',
    signature: 'type:int buffer:address length:int',
    support: 'partial',
    note: 'an empty log',
    handler: syslog,
  },
];
