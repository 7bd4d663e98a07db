// getrlimit(2), setrlimit(2), prlimit64(2), getrusage(2), times(2).

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import {
  encodeRusage,
  type ResourceUsage,
  Rlimit,
  RusageWho,
  rlimInfinity,
  rlimitCount,
} from '../../abi/resource.ts';
import type { Arguments, UserMemory } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { ResourceLimit, Task } from '../contract.ts';
import { checkLimit } from '../task/limits.ts';
import type { Thread } from '../task/thread.ts';
import { addUsage, threadUsage } from '../task/thread-group.ts';

/** USER_HZ: ticks of times(2) in a second. */
const ticksPerSecond = 100;
const tick = 1e9 / ticksPerSecond;

function encodeLimit(limit: ResourceLimit): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of [limit.soft, limit.hard].entries())
    view.setBigUint64(index * 8, value === Infinity ? rlimInfinity : BigInt(value), true);
  return bytes;
}

function readLimit(memory: UserMemory, address: number): ResourceLimit | number {
  const bytes = new Uint8Array(16);
  if (memory.read(address, bytes, 0, 16) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const value = (offset: number): number => {
    const raw = view.getBigUint64(offset, true);
    return raw === rlimInfinity ? Infinity : Number(raw);
  };
  return { soft: value(0), hard: value(8) };
}

function writeLimit(task: Task, address: number, limit: ResourceLimit): number {
  return task.memory.write(address, encodeLimit(limit), 0, 16) < 0 ? -Errno.EFAULT : 0;
}

/** do_prlimit: sets and gives the old one; or a negative errno. */
function changeLimit(
  changer: Thread,
  target: Thread,
  resource: number,
  limit: ResourceLimit | undefined,
): ResourceLimit | number {
  if (resource >= rlimitCount) return -Errno.EINVAL;
  const { process } = target;
  const old = process.limit(resource);
  if (!limit) return old;
  const refused = checkLimit(resource, limit, old, changer.credentials);
  if (refused < 0) return refused;
  process.limits[resource] = limit;
  if (resource === Rlimit.cpu) process.timers.cpuLimitChanged();
  return old;
}

function mayLimit(caller: Thread, target: Thread): boolean {
  if (caller === target) return true;
  const { uid, gid } = caller.credentials;
  const other = target.credentials;
  const same =
    uid === other.euid &&
    uid === other.suid &&
    uid === other.uid &&
    gid === other.egid &&
    gid === other.sgid &&
    gid === other.gid;
  return same || caller.credentials.hasIn(other.userNamespace, Capability.sysResource);
}

function prlimit64(task: Task, args: Arguments): number {
  const thread = task as Thread;
  const pid = args.i32(0);
  let limit: ResourceLimit | number | undefined;
  if (args.address(2) !== 0) limit = readLimit(task.memory, args.address(2));
  if (typeof limit === 'number') return limit;
  const target = pid === 0 ? thread : thread.process.pidNamespace.findTask(pid);
  if (!target) return -Errno.ESRCH;
  if (!mayLimit(thread, target)) return -Errno.EPERM;
  const old = changeLimit(thread, target, args.u32(1), limit);
  if (typeof old === 'number') return old;
  return args.address(3) === 0 ? 0 : writeLimit(task, args.address(3), old);
}

function usageOf(thread: Thread, who: number): Readonly<ResourceUsage> | undefined {
  switch (who) {
    case RusageWho.self:
      return thread.process.usage();
    case RusageWho.children:
      return thread.process.childrenUsage;
    case RusageWho.thread:
      return threadUsage(thread);
    case RusageWho.both: {
      const usage = thread.process.usage();
      addUsage(usage, thread.process.childrenUsage);
      return usage;
    }
    default:
      return undefined;
  }
}

function getrusage(task: Task, args: Arguments): number {
  const who = args.i32(0);
  const usage = who === RusageWho.both ? undefined : usageOf(task as Thread, who);
  if (!usage) return -Errno.EINVAL;
  const bytes = encodeRusage(usage);
  return task.memory.write(args.address(1), bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
}

function times(task: Task, args: Arguments): number {
  const { process } = task as Thread;
  if (args.address(0) !== 0) {
    const own = process.usage();
    const children = process.childrenUsage;
    const bytes = new Uint8Array(32);
    const view = new DataView(bytes.buffer);
    for (const [index, time] of [own.user, own.system, children.user, children.system].entries())
      view.setBigInt64(index * 8, BigInt(Math.floor(time / tick)), true);
    if (task.memory.write(args.address(0), bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  }
  return Math.floor(task.kernel.clock.boot() / tick);
}

export const limitSyscalls: readonly Syscall[] = [
  {
    name: 'getrlimit',
    signature: 'resource:enum.rlimit limit:address',
    support: 'full',
    handler: (task, args) => {
      const limit = changeLimit(task as Thread, task as Thread, args.u32(0), undefined);
      return typeof limit === 'number' ? limit : writeLimit(task, args.address(1), limit);
    },
  },
  {
    name: 'setrlimit',
    signature: 'resource:enum.rlimit limit:address',
    support: 'full',
    handler: (task, args) => {
      const limit = readLimit(task.memory, args.address(1));
      if (typeof limit === 'number') return limit;
      const old = changeLimit(task as Thread, task as Thread, args.u32(0), limit);
      return typeof old === 'number' ? old : 0;
    },
  },
  {
    name: 'prlimit64',
    signature: 'pid:pid resource:enum.rlimit new:address old:address',
    support: 'full',
    handler: prlimit64,
  },
  { name: 'getrusage', signature: 'who:int usage:address', support: 'full', handler: getrusage },
  { name: 'times', signature: 'buffer:address -> long', support: 'full', handler: times },
];
