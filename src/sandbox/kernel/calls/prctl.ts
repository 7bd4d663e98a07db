// prctl(2): one table of operations. What is not in it fails with EINVAL, as on a kernel that was built without it.

import { Capability, lastCapability, SecureBit } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { AmbientOperation, Prctl } from '../../abi/prctl.ts';
import { Signal } from '../../abi/signal.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import { setSeccomp } from '../seccomp/syscalls.ts';
import type { Thread } from '../task/thread.ts';
import type { ThreadGroup } from '../task/thread-group.ts';
import { getAuxiliaryVector, setMm, setVma } from './prctl-mm.ts';

type Operation = (thread: Thread, args: Arguments) => number;

const nameLength = 16;

/** arg3, arg4 and arg5 (from `first` on) must be zero for the newer operations. */
function rest(args: Arguments, first: number): boolean {
  for (let index = first; index < 5; index++) if (args.big(index) !== 0n) return true;
  return false;
}

const put = (thread: Thread, address: number, value: number): number =>
  thread.memory.writeU32(address, value) < 0 ? -Errno.EFAULT : 0;

/** At most 15 bytes up to a NUL; a string that is cut does not have to end inside of mapped memory. */
export function readTaskName(thread: Thread, address: number): string | number {
  const byte = new Uint8Array(1);
  let name = '';
  while (name.length < nameLength - 1) {
    if (thread.memory.read(address + name.length, byte, 0, 1) < 0) return -Errno.EFAULT;
    if (byte[0] === 0) break;
    name += String.fromCharCode(byte[0] ?? 0);
  }
  return name;
}

function setName(thread: Thread, args: Arguments): number {
  const name = readTaskName(thread, args.address(1));
  if (typeof name === 'number') return name;
  thread.name = name;
  return 0;
}

function getName(thread: Thread, args: Arguments): number {
  const bytes = new Uint8Array(nameLength);
  bytes.set(Buffer.from(thread.name, 'latin1').subarray(0, nameLength - 1));
  return thread.memory.write(args.address(1), bytes, 0, nameLength) < 0 ? -Errno.EFAULT : 0;
}

function setKeepCaps(thread: Thread, args: Arguments): number {
  const value = args.big(1);
  const { credentials } = thread;
  if (value > 1n) return -Errno.EINVAL;
  if (credentials.securebits & SecureBit.keepCapsLocked) return -Errno.EPERM;
  const cleared = credentials.securebits & ~SecureBit.keepCaps;
  thread.setCredentials(
    credentials.change({ securebits: value === 1n ? cleared | SecureBit.keepCaps : cleared }),
  );
  return 0;
}

function setSecurebits(thread: Thread, args: Arguments): number {
  const wanted = args.address(1);
  const { credentials } = thread;
  const old = credentials.securebits;
  if (wanted > SecureBit.all) return -Errno.EPERM;
  if (((old & SecureBit.locks) >> 1) & (old ^ wanted)) return -Errno.EPERM;
  if (old & SecureBit.locks & ~wanted) return -Errno.EPERM;
  if ((old ^ wanted) & ~SecureBit.unprivileged && !credentials.has(Capability.setpcap)) return -Errno.EPERM;
  thread.setCredentials(credentials.change({ securebits: wanted }));
  return 0;
}

const validCapability = (value: bigint): boolean => value <= BigInt(lastCapability);

function dropBounding(thread: Thread, args: Arguments): number {
  const { credentials } = thread;
  if (!credentials.has(Capability.setpcap)) return -Errno.EPERM;
  if (!validCapability(args.big(1))) return -Errno.EINVAL;
  thread.setCredentials(credentials.change({ bounding: credentials.bounding & ~(1n << args.big(1)) }));
  return 0;
}

function ambient(thread: Thread, args: Arguments): number {
  const operation = args.address(1);
  const { credentials } = thread;
  if (operation === AmbientOperation.clearAll) {
    if (rest(args, 2)) return -Errno.EINVAL;
    thread.setCredentials(credentials.change({ ambient: 0n }));
    return 0;
  }
  if (!validCapability(args.big(2)) || rest(args, 3)) return -Errno.EINVAL;
  const bit = 1n << args.big(2);
  switch (operation) {
    case AmbientOperation.isSet:
      return (credentials.ambient & bit) !== 0n ? 1 : 0;
    case AmbientOperation.lower:
      thread.setCredentials(credentials.change({ ambient: credentials.ambient & ~bit }));
      return 0;
    case AmbientOperation.raise:
      if ((credentials.permitted & credentials.inheritable & bit) === 0n) return -Errno.EPERM;
      if (credentials.securebits & SecureBit.noCapAmbientRaise) return -Errno.EPERM;
      thread.setCredentials(credentials.change({ ambient: credentials.ambient | bit }));
      return 0;
    default:
      return -Errno.EINVAL;
  }
}

function setTimerSlack(thread: Thread, args: Arguments): number {
  const slack = args.i64(1);
  thread.timerSlack = slack <= 0 ? thread.defaultTimerSlack : slack;
  return 0;
}

/** MCE_KILL_CLEAR 0, MCE_KILL_SET 1 with late 0, early 1, default 2. */
function machineCheckKill(thread: Thread, args: Arguments): number {
  if (rest(args, 3)) return -Errno.EINVAL;
  const value = args.address(2);
  if (args.address(1) === 0) {
    if (value !== 0) return -Errno.EINVAL;
    thread.machineCheckPolicy = 2;
    return 0;
  }
  if (args.address(1) !== 1 || value > 2) return -Errno.EINVAL;
  thread.machineCheckPolicy = value;
  return 0;
}

/** Orphans of what descends from here look for a subreaper from now on. */
function markDescendants(process: ThreadGroup): void {
  const pending = [...process.children];
  for (let next = pending.pop(); next; next = pending.pop()) {
    // What is below an already marked process is marked, and what is below a namespace's init never gets out of it.
    if (next.underSubreaper || next.init) continue;
    next.underSubreaper = true;
    pending.push(...next.children);
  }
}

function setSubreaper(thread: Thread, args: Arguments): number {
  const { process } = thread;
  process.subreaper = args.big(1) !== 0n;
  if (process.subreaper) markDescendants(process);
  return 0;
}

function setNoNewPrivileges(thread: Thread, args: Arguments): number {
  if (args.big(1) !== 1n || rest(args, 2)) return -Errno.EINVAL;
  thread.noNewPrivileges = true;
  return 0;
}

const operations = new Map<number, Operation>([
  [
    Prctl.setPdeathsig,
    (thread, args) => {
      if (args.big(1) > BigInt(Signal.SIGRTMAX)) return -Errno.EINVAL;
      thread.parentDeathSignal = args.address(1);
      return 0;
    },
  ],
  [Prctl.getPdeathsig, (thread, args) => put(thread, args.address(1), thread.parentDeathSignal)],
  [Prctl.getDumpable, (thread) => thread.mm.dumpable],
  [
    Prctl.setDumpable,
    (thread, args) => {
      if (args.big(1) > 1n) return -Errno.EINVAL;
      thread.mm.dumpable = args.address(1);
      return 0;
    },
  ],
  [Prctl.getKeepcaps, (thread) => (thread.credentials.securebits & SecureBit.keepCaps ? 1 : 0)],
  [Prctl.setKeepcaps, setKeepCaps],
  // PR_TIMING_STATISTICAL is all there is.
  [Prctl.getTiming, () => 0],
  [Prctl.setTiming, (_thread, args) => (args.big(1) === 0n ? 0 : -Errno.EINVAL)],
  [Prctl.setName, setName],
  [Prctl.getName, getName],
  [Prctl.getSeccomp, (thread) => thread.seccomp.mode],
  [Prctl.setSeccomp, (thread, args) => setSeccomp(thread, args.address(1), args.address(2))],
  [
    Prctl.capbsetRead,
    (thread, args) => {
      if (!validCapability(args.big(1))) return -Errno.EINVAL;
      return (thread.credentials.bounding >> args.big(1)) & 1n ? 1 : 0;
    },
  ],
  [Prctl.capbsetDrop, dropBounding],
  // PR_TSC_ENABLE (1): rdtsc works; it cannot be made to fault.
  [Prctl.getTsc, (thread, args) => put(thread, args.address(1), 1)],
  [Prctl.setTsc, (_thread, args) => (args.u32(1) === 1 ? 0 : -Errno.EINVAL)],
  [Prctl.getSecurebits, (thread) => thread.credentials.securebits],
  [Prctl.setSecurebits, setSecurebits],
  [Prctl.setTimerslack, setTimerSlack],
  [Prctl.getTimerslack, (thread) => thread.timerSlack],
  [Prctl.mceKill, machineCheckKill],
  [Prctl.mceKillGet, (thread, args) => (rest(args, 1) ? -Errno.EINVAL : thread.machineCheckPolicy)],
  [Prctl.setMm, setMm],
  [Prctl.setChildSubreaper, setSubreaper],
  [Prctl.getChildSubreaper, (thread, args) => put(thread, args.address(1), thread.process.subreaper ? 1 : 0)],
  [Prctl.setNoNewPrivs, setNoNewPrivileges],
  [Prctl.getNoNewPrivs, (thread, args) => (rest(args, 1) ? -Errno.EINVAL : thread.noNewPrivileges ? 1 : 0)],
  [
    Prctl.getTidAddress,
    (thread, args) => (thread.memory.writeU64(args.address(1), thread.clearChildTid) < 0 ? -Errno.EFAULT : 0),
  ],
  [
    Prctl.setThpDisable,
    (thread, args) => {
      if (rest(args, 2)) return -Errno.EINVAL;
      thread.process.hugePagesDisabled = args.big(1) !== 0n;
      return 0;
    },
  ],
  [
    Prctl.getThpDisable,
    (thread, args) => (rest(args, 1) ? -Errno.EINVAL : thread.process.hugePagesDisabled ? 1 : 0),
  ],
  [Prctl.capAmbient, ambient],
  // No speculation control that the sandbox could offer.
  [Prctl.getSpeculationCtrl, (_thread, args) => (rest(args, 2) ? -Errno.EINVAL : -Errno.ENODEV)],
  [Prctl.setSpeculationCtrl, (_thread, args) => (rest(args, 3) ? -Errno.EINVAL : -Errno.ENODEV)],
  [
    Prctl.setIoFlusher,
    (thread, args) => {
      if (!thread.credentials.hasIn(thread.kernel.rootUserNamespace, Capability.sysResource))
        return -Errno.EPERM;
      if (rest(args, 2) || args.big(1) > 1n) return -Errno.EINVAL;
      thread.ioFlusher = args.big(1) === 1n;
      return 0;
    },
  ],
  [
    Prctl.getIoFlusher,
    (thread, args) => {
      if (!thread.credentials.hasIn(thread.kernel.rootUserNamespace, Capability.sysResource))
        return -Errno.EPERM;
      if (rest(args, 1)) return -Errno.EINVAL;
      return thread.ioFlusher ? 1 : 0;
    },
  ],
  [Prctl.getAuxv, getAuxiliaryVector],
  [Prctl.setVma, setVma],
]);

function prctl(task: Task, args: Arguments): number {
  const operation = operations.get(args.u32(0));
  if (operation) return operation(task as Thread, args);
  task.kernel.log.unsupported(task, `prctl(${args.u32(0)})`, 'EINVAL');
  return -Errno.EINVAL;
}

export const prctlSyscalls: readonly Syscall[] = [
  {
    name: 'prctl',
    signature: 'option:int arg2:hex arg3:hex arg4:hex arg5:hex',
    support: 'partial',
    note: 'EINVAL for what the table in kernel/calls/prctl.ts does not have: performance events, syscall user dispatch, core scheduling, MDWE, memory merging',
    handler: prctl,
  },
];
