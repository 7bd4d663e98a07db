// The system calls of signals. Sending is in permission.ts and send.ts, frames in frame.ts.

import { Errno } from '../../abi/errno.ts';
import {
  knownSignalFlags,
  MaskOperation,
  SigactionLayout,
  SiginfoLayout,
  Signal,
  SignalCode,
  SS_AUTODISARM,
  StackLayout,
} from '../../abi/signal.ts';
import { readTimespec } from '../../abi/time.ts';
import { type Arguments, Reg } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { BLOCKED, type Process, type SignalInfo, type Task } from '../contract.ts';
import type { SignalAction } from './contract.ts';
import {
  alternateStackState,
  decodeStack,
  encodeStack,
  returnFromHandler,
  setAlternateStack,
} from './frame.ts';
import { signalGroup, signalProcess, signalThread } from './permission.ts';
import { decodeSiginfo, encodeSiginfo, knownSiginfo } from './siginfo.ts';
import {
  complement,
  decodeSet,
  difference,
  encodeSet,
  intersection,
  type SignalSet,
  signalSet,
  union,
} from './signal-set.ts';
import { signalsOf } from './task-signals.ts';

const setSize = 8;
const uncatchable = signalSet(Signal.SIGKILL, Signal.SIGSTOP);

function readSet(task: Task, address: number): SignalSet | number {
  const bytes = new Uint8Array(setSize);
  if (task.memory.read(address, bytes, 0, setSize) < 0) return -Errno.EFAULT;
  return decodeSet(new DataView(bytes.buffer), 0);
}

function writeSet(task: Task, address: number, set: SignalSet, size = setSize): number {
  const bytes = new Uint8Array(setSize);
  encodeSet(set, new DataView(bytes.buffer), 0);
  return task.memory.write(address, bytes, 0, size) < 0 ? -Errno.EFAULT : 0;
}

function fromUser(task: Task, signal: number, code: number): SignalInfo {
  return { signal, code, sender: task.process, uid: task.credentials.uid };
}

function kill(task: Task, args: Arguments): number {
  const pid = args.i32(0);
  const info = fromUser(task, args.i32(1), SignalCode.SI_USER);
  const namespace = task.process.pidNamespace;
  if (pid > 0) {
    const process = namespace.findTask(pid)?.process ?? namespace.findProcess(pid);
    return process ? signalProcess(task, process, info) : -Errno.ESRCH;
  }
  if (pid === -1) return killAll(task, info);
  const group = pid === 0 ? task.process.group : namespace.findGroup(-pid);
  return group ? signalGroup(task, group, info) : -Errno.ESRCH;
}

/** To everybody that the caller sees but number 1 and itself. */
function killAll(task: Task, info: SignalInfo): number {
  let found = false;
  let result = 0;
  for (const [pid, process] of [...task.process.pidNamespace.processes()]) {
    if (pid <= 1 || process === task.process) continue;
    found = true;
    const sent = signalProcess(task, process, info);
    if (sent !== -Errno.EPERM) result = sent;
  }
  return found ? result : -Errno.ESRCH;
}

function sendSpecific(task: Task, tgid: number, tid: number, info: SignalInfo): number {
  const { pidNamespace } = task.process;
  const to = pidNamespace.findTask(tid);
  if (!to || (tgid > 0 && to.process.pidIn(pidNamespace) !== tgid)) return -Errno.ESRCH;
  return signalThread(task, to, info);
}

function tkill(task: Task, args: Arguments): number {
  if (args.i32(0) <= 0) return -Errno.EINVAL;
  return sendSpecific(task, 0, args.i32(0), fromUser(task, args.i32(1), SignalCode.SI_TKILL));
}

function tgkill(task: Task, args: Arguments): number {
  if (args.i32(1) <= 0 || args.i32(0) <= 0) return -Errno.EINVAL;
  return sendSpecific(task, args.i32(0), args.i32(1), fromUser(task, args.i32(2), SignalCode.SI_TKILL));
}

/** The siginfo that a program gives, or -EFAULT or -E2BIG (post_copy_siginfo_from_user). */
export function readSiginfo(task: Task, address: number, signal: number): SignalInfo | number {
  const bytes = new Uint8Array(SiginfoLayout.size);
  if (task.memory.read(address, bytes, 0, SiginfoLayout.used) < 0) return -Errno.EFAULT;
  const info = decodeSiginfo(bytes, signal);
  if (knownSiginfo(signal, info.code)) return { ...info, sender: task.process };
  const { used, size } = SiginfoLayout;
  if (task.memory.read(address + used, bytes, used, size - used) < 0) return -Errno.EFAULT;
  if (bytes.subarray(used).some((byte) => byte !== 0)) return -Errno.E2BIG;
  return { ...info, sender: task.process };
}

/** Nobody may pretend to be the kernel or kill(2), but to itself. */
function impersonates(info: SignalInfo): boolean {
  return info.code >= 0 || info.code === SignalCode.SI_TKILL;
}

function rtSigqueueinfo(task: Task, args: Arguments): number {
  const pid = args.i32(0);
  const info = readSiginfo(task, args.address(2), args.i32(1));
  if (typeof info === 'number') return info;
  if (impersonates(info) && task.visibleTid !== pid) return -Errno.EPERM;
  const namespace = task.process.pidNamespace;
  const process: Process | undefined = namespace.findTask(pid)?.process ?? namespace.findProcess(pid);
  return process ? signalProcess(task, process, info) : -Errno.ESRCH;
}

function rtTgsigqueueinfo(task: Task, args: Arguments): number {
  const [tgid, tid] = [args.i32(0), args.i32(1)];
  const info = readSiginfo(task, args.address(3), args.i32(2));
  if (typeof info === 'number') return info;
  if (tid <= 0 || tgid <= 0) return -Errno.EINVAL;
  if (impersonates(info) && task.visibleTid !== tid) return -Errno.EPERM;
  return sendSpecific(task, tgid, tid, info);
}

function readAction(task: Task, address: number): SignalAction | number {
  const bytes = new Uint8Array(SigactionLayout.size);
  if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  return {
    handler: Number(view.getBigUint64(SigactionLayout.handler, true)),
    flags: (view.getUint32(SigactionLayout.flags, true) & knownSignalFlags) >>> 0,
    restorer: Number(view.getBigUint64(SigactionLayout.restorer, true)),
    mask: difference(decodeSet(view, SigactionLayout.mask), uncatchable),
  };
}

function writeAction(task: Task, address: number, action: SignalAction): number {
  const bytes = new Uint8Array(SigactionLayout.size);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(SigactionLayout.handler, BigInt(action.handler), true);
  view.setBigUint64(SigactionLayout.flags, BigInt(action.flags), true);
  view.setBigUint64(SigactionLayout.restorer, BigInt(action.restorer), true);
  encodeSet(action.mask, view, SigactionLayout.mask);
  return task.memory.write(address, bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
}

function rtSigaction(task: Task, args: Arguments): number {
  if (args.size(3) !== setSize) return -Errno.EINVAL;
  const signal = args.i32(0);
  const action = args.address(1) === 0 ? undefined : readAction(task, args.address(1));
  if (typeof action === 'number') return action;
  if (signal < 1 || signal > Signal.SIGRTMAX) return -Errno.EINVAL;
  if (action && (signal === Signal.SIGKILL || signal === Signal.SIGSTOP)) return -Errno.EINVAL;
  const { process } = signalsOf(task);
  const { handlers } = process;
  if (handlers.immutable(signal)) return -Errno.EINVAL;
  const former = handlers.get(signal);
  if (action) {
    handlers.set(signal, action);
    // POSIX: a signal that is pending when it becomes ignored is discarded, blocked or not.
    if (handlers.ignores(signal)) {
      const discarded = signalSet(signal);
      process.shared.discard(discarded);
      for (const thread of process.threads) thread.queue.discard(discarded);
    }
  }
  return args.address(2) === 0 ? 0 : writeAction(task, args.address(2), former);
}

function rtSigprocmask(task: Task, args: Arguments): number {
  if (args.size(3) !== setSize) return -Errno.EINVAL;
  const { signals } = task;
  const former = signals.mask;
  if (args.address(1) !== 0) {
    const set = readSet(task, args.address(1));
    if (typeof set === 'number') return set;
    switch (args.i32(0)) {
      case MaskOperation.SIG_BLOCK:
        signals.setMask(union(former, set));
        break;
      case MaskOperation.SIG_UNBLOCK:
        signals.setMask(difference(former, set));
        break;
      case MaskOperation.SIG_SETMASK:
        signals.setMask(set);
        break;
      default:
        return -Errno.EINVAL;
    }
  }
  return args.address(2) === 0 ? 0 : writeSet(task, args.address(2), former);
}

function rtSigpending(task: Task, args: Arguments): number {
  const size = args.size(1);
  if (size > setSize) return -Errno.EINVAL;
  const { signals } = task;
  const waiting = union(signals.threadPending, task.process.signals.pending);
  return writeSet(task, args.address(0), intersection(waiting, signals.mask), size);
}

/** Waits until a signal interrupts. */
function untilSignal(task: Task): number {
  return task.block({ on: [], retry: () => BLOCKED, interrupted: () => -Errno.ERESTARTNOHAND });
}

function rtSigsuspend(task: Task, args: Arguments): number {
  if (args.size(1) !== setSize) return -Errno.EINVAL;
  const set = readSet(task, args.address(0));
  if (typeof set === 'number') return set;
  signalsOf(task).useMask(set);
  return untilSignal(task);
}

function rtSigtimedwait(task: Task, args: Arguments): number {
  if (args.size(3) !== setSize) return -Errno.EINVAL;
  const wanted = readSet(task, args.address(0));
  if (typeof wanted === 'number') return wanted;
  let deadline: number | undefined;
  if (args.address(2) !== 0) {
    const time = readTimespec(task.memory, args.address(2));
    if (typeof time === 'number') return time;
    deadline = task.kernel.clock.monotonic() + time.sec * 1e9 + time.nsec;
    if (time.sec === 0 && time.nsec === 0) deadline = Number.NEGATIVE_INFINITY;
  }
  const infoAddress = args.address(1);
  const state = signalsOf(task);
  const take = (): number => {
    const info = state.dequeue(wanted);
    if (!info) return BLOCKED;
    if (infoAddress === 0) return info.signal;
    return writeSiginfo(task, infoAddress, info) < 0 ? -Errno.EFAULT : info.signal;
  };
  const taken = take();
  if (taken !== BLOCKED) return taken;
  if (deadline === Number.NEGATIVE_INFINITY) return -Errno.EAGAIN;
  // While it waits the wanted signals can wake it although they are blocked; they are taken before they could be delivered.
  const mask = state.mask;
  state.realMask = mask;
  state.setMask(intersection(mask, complement(wanted)));
  return task.block({
    on: [],
    retry: take,
    deadline,
    timedOut: () => -Errno.EAGAIN,
    interrupted: () => -Errno.EINTR,
    ended: () => {
      state.realMask = undefined;
      state.setMask(mask);
    },
  });
}

/** 0 or -EFAULT. */
export function writeSiginfo(task: Task, address: number, info: SignalInfo): number {
  const bytes = new Uint8Array(SiginfoLayout.size);
  encodeSiginfo(info, task, bytes);
  return task.memory.write(address, bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
}

function sigaltstack(task: Task, args: Arguments): number {
  const state = signalsOf(task);
  const sp = Number(task.context.registers()[Reg.rsp] ?? 0n);
  const former = state.alternateStack;
  const flags = (alternateStackState(former, sp) | (former.flags & SS_AUTODISARM)) >>> 0;
  const bytes = new Uint8Array(StackLayout.size);
  const view = new DataView(bytes.buffer);
  if (args.address(0) !== 0) {
    if (task.memory.read(args.address(0), bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
    const result = setAlternateStack(state, decodeStack(view, 0), sp);
    if (result < 0) return result;
  }
  if (args.address(1) === 0) return 0;
  bytes.fill(0);
  encodeStack({ ...former, flags }, view, 0);
  return task.memory.write(args.address(1), bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
}

function restartSyscall(task: Task): number {
  const { restart } = task;
  task.restart = undefined;
  return restart ? restart() : -Errno.EINTR;
}

export const signalSyscalls: readonly Syscall[] = [
  { name: 'kill', signature: 'pid:pid sig:signal', support: 'full', handler: kill },
  { name: 'tkill', signature: 'tid:pid sig:signal', support: 'full', handler: tkill },
  { name: 'tgkill', signature: 'tgid:pid tid:pid sig:signal', support: 'full', handler: tgkill },
  {
    name: 'rt_sigqueueinfo',
    signature: 'tgid:pid sig:signal info:siginfo',
    support: 'full',
    handler: rtSigqueueinfo,
  },
  {
    name: 'rt_tgsigqueueinfo',
    signature: 'tgid:pid tid:pid sig:signal info:siginfo',
    support: 'full',
    handler: rtTgsigqueueinfo,
  },
  {
    name: 'rt_sigaction',
    signature: 'sig:signal act:sigaction oldact:out-sigaction size:size',
    support: 'full',
    handler: rtSigaction,
  },
  {
    name: 'rt_sigprocmask',
    signature: 'how:flags.sigprocmask set:sigset oldset:out-sigset size:size',
    support: 'full',
    handler: rtSigprocmask,
  },
  { name: 'rt_sigpending', signature: 'set:out-sigset size:size', support: 'full', handler: rtSigpending },
  { name: 'rt_sigsuspend', signature: 'mask:sigset size:size', support: 'full', handler: rtSigsuspend },
  {
    name: 'rt_sigtimedwait',
    signature: 'set:sigset info:out-siginfo timeout:timespec size:size',
    support: 'full',
    handler: rtSigtimedwait,
  },
  { name: 'pause', signature: '', support: 'full', handler: untilSignal },
  {
    name: 'sigaltstack',
    signature: 'ss:stack oldss:out-stack',
    support: 'full',
    handler: sigaltstack,
  },
  {
    name: 'rt_sigreturn',
    signature: '',
    support: 'full',
    handler: (task) => returnFromHandler(signalsOf(task)),
  },
  { name: 'restart_syscall', signature: '', support: 'full', handler: restartSyscall },
];
