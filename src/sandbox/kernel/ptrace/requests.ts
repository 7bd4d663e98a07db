// What a tracer asks of a tracee that is stopped: memory, registers, siginfo, masks, and how it goes on. ptrace(2).

import { Errno } from '../../abi/errno.ts';
import {
  ArchPrctl,
  allPtraceOptions,
  PeekSiginfoLayout,
  PTRACE_EVENTMSG_SYSCALL_ENTRY,
  PTRACE_EVENTMSG_SYSCALL_EXIT,
  PTRACE_PEEKSIGINFO_SHARED,
  PtraceEvent,
  PtraceOption,
  PtraceRequest,
  RegisterSet,
  SyscallInfoLayout,
  SyscallInfoOp,
} from '../../abi/ptrace.ts';
import { auditArch, SiginfoLayout, Signal } from '../../abi/signal.ts';
import { type Arguments, Reg } from '../../platform/contract.ts';
import type { SignalInfo, Task } from '../contract.ts';
import { Work } from '../signal/contract.ts';
import { JobControl } from '../signal/job-control.ts';
import { decodeSiginfo, encodeSiginfo } from '../signal/siginfo.ts';
import { decodeSet, encodeSet } from '../signal/signal-set.ts';
import { signalsOf } from '../signal/task-signals.ts';
import {
  extendedState,
  floatingPoint,
  peekUser,
  pokeUser,
  registerBytes,
  registersSize,
  setExtendedState,
  setFloatingPoint,
  setRegister,
  setRegisterBytes,
} from './registers.ts';
import { type Trace, traceOf } from './task-trace.ts';

const Request = PtraceRequest;

/** Whether options may be set: 0 or -EINVAL. Suspending seccomp belongs to checkpointing, which is not there. */
export function checkOptions(options: number): number {
  return options & ~allPtraceOptions || options & PtraceOption.SUSPEND_SECCOMP ? -Errno.EINVAL : 0;
}

/** How a tracee goes on: the request to bits of Work. */
const resuming = new Map<number, number>([
  [Request.CONT, 0],
  [Request.SYSCALL, Work.traceSyscall],
  [Request.SINGLESTEP, Work.singleStep],
  [Request.SYSEMU, Work.emulateSyscall],
  [Request.SYSEMU_SINGLESTEP, Work.emulateSyscall | Work.singleStep],
]);

/** The request of `tracer` about its stopped tracee; args as ptrace(2) got them. */
export function carryOut(tracer: Task, tracee: Task, request: number, args: Arguments): number {
  const trace = traceOf(tracee);
  const address = args.address(2);
  const data = args.address(3);
  const work = resuming.get(request);
  if (work !== undefined) {
    if (args.big(3) > BigInt(Signal.SIGRTMAX)) return -Errno.EIO;
    trace.resume(data, work);
    return 0;
  }
  switch (request) {
    case Request.DETACH:
      if (args.big(3) > BigInt(Signal.SIGRTMAX)) return -Errno.EIO;
      trace.detach(data);
      return 0;
    case Request.PEEKTEXT:
    case Request.PEEKDATA:
      return peekData(tracer, tracee, address, data);
    case Request.POKETEXT:
    case Request.POKEDATA:
      return pokeData(tracee, address, args.big(3));
    case Request.PEEKUSER: {
      const word = peekUser(tracee, address);
      return typeof word === 'number' ? word : writeWord(tracer, data, word);
    }
    case Request.POKEUSER:
      return pokeUser(tracee, address, args.big(3));
    case Request.GETREGS:
      return writeBytes(tracer, data, registerBytes(tracee.context));
    case Request.SETREGS:
      return withBytes(tracer, data, registersSize, (bytes) => setRegisterBytes(tracee.context, bytes));
    case Request.GETFPREGS:
      return writeBytes(tracer, data, floatingPoint(tracee.context));
    case Request.SETFPREGS:
      return withBytes(tracer, data, 512, (bytes) => setFloatingPoint(tracee.context, bytes));
    case Request.GETREGSET:
    case Request.SETREGSET:
      return registerSet(tracer, tracee, request === Request.SETREGSET, args.u32(2), data);
    case Request.SETOPTIONS: {
      const options = args.big(3);
      if (options > 0xffff_ffffn) return -Errno.EINVAL;
      const valid = checkOptions(Number(options));
      if (valid < 0) return valid;
      trace.options = Number(options);
      return 0;
    }
    case Request.GETEVENTMSG:
      return writeWord(tracer, data, BigInt(trace.message));
    case Request.GETSIGINFO:
      return trace.info ? writeInfo(tracer, tracee, data, trace.info) : -Errno.EINVAL;
    case Request.SETSIGINFO:
      return withBytes(tracer, data, SiginfoLayout.size, (bytes) => replaceInfo(trace, bytes));
    case Request.PEEKSIGINFO:
      return peekSiginfo(tracer, tracee, address, data);
    case Request.GETSIGMASK:
      return args.big(2) === 8n ? writeBytes(tracer, data, maskBytes(tracee)) : -Errno.EINVAL;
    case Request.SETSIGMASK:
      if (args.big(2) !== 8n) return -Errno.EINVAL;
      return withBytes(tracer, data, 8, (bytes) => {
        tracee.signals.setMask(decodeSet(new DataView(bytes.buffer), 0));
        signalsOf(tracee).clearWork(Work.restoreMask);
        return 0;
      });
    case Request.GET_SYSCALL_INFO:
      return syscallInfo(tracer, tracee, args.size(2), data);
    case Request.LISTEN:
      return listen(tracee);
    case Request.ARCH_PRCTL:
      return archPrctl(tracer, tracee, args);
    default:
      return -Errno.EIO;
  }
}

function writeBytes(tracer: Task, address: number, bytes: Uint8Array): number {
  return tracer.memory.write(address, bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
}

function writeWord(tracer: Task, address: number, word: bigint): number {
  return tracer.memory.writeU64(address, word) < 0 ? -Errno.EFAULT : 0;
}

function withBytes(
  tracer: Task,
  address: number,
  length: number,
  use: (bytes: Uint8Array) => number,
): number {
  const bytes = new Uint8Array(length);
  return tracer.memory.read(address, bytes, 0, length) < 0 ? -Errno.EFAULT : use(bytes);
}

/** The raw system call writes the word to `data`; -EIO if the tracee has nothing there. */
function peekData(tracer: Task, tracee: Task, address: number, data: number): number {
  const bytes = new Uint8Array(8);
  tracee.context.flush();
  if (tracee.memory.peek(address, bytes, 0, 8) < 0) return -Errno.EIO;
  return writeBytes(tracer, data, bytes);
}

function pokeData(tracee: Task, address: number, word: bigint): number {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, word, true);
  tracee.context.flush();
  return tracee.memory.poke(address, bytes, 0, 8) < 0 ? -Errno.EIO : 0;
}

/** PTRACE_GETREGSET and PTRACE_SETREGSET: `data` is an iovec, whose length becomes what was moved. */
function registerSet(tracer: Task, tracee: Task, set: boolean, type: number, data: number): number {
  const { context } = tracee;
  const base = tracer.memory.readU64(data);
  const given = tracer.memory.readU64(data + 8);
  if (base < 0 || given < 0) return -Errno.EFAULT;
  const current =
    type === RegisterSet.prstatus
      ? registerBytes(context)
      : type === RegisterSet.fpregset
        ? floatingPoint(context)
        : type === RegisterSet.xstate
          ? extendedState(context)
          : undefined;
  if (!current || given % 8 !== 0) return -Errno.EINVAL;
  const length = Math.min(given, current.length);
  let result: number;
  if (!set) {
    result = writeBytes(tracer, base, current.subarray(0, length));
  } else {
    result = withBytes(tracer, base, length, (bytes) => {
      if (type === RegisterSet.prstatus) return setRegisterBytes(context, bytes);
      return type === RegisterSet.fpregset
        ? setFloatingPoint(context, bytes)
        : setExtendedState(context, bytes);
    });
  }
  return result < 0 ? result : writeWord(tracer, data + 8, BigInt(length));
}

function writeInfo(tracer: Task, tracee: Task, address: number, info: SignalInfo): number {
  const bytes = new Uint8Array(SiginfoLayout.size);
  encodeSiginfo(info, tracee, bytes);
  return writeBytes(tracer, address, bytes);
}

function replaceInfo(trace: Trace, bytes: Uint8Array): number {
  if (!trace.info) return -Errno.EINVAL;
  trace.info = decodeSiginfo(bytes, new DataView(bytes.buffer).getInt32(SiginfoLayout.signo, true));
  return 0;
}

/** PTRACE_PEEKSIGINFO: how many were copied. */
function peekSiginfo(tracer: Task, tracee: Task, address: number, data: number): number {
  return withBytes(tracer, address, PeekSiginfoLayout.size, (bytes) => {
    const view = new DataView(bytes.buffer);
    const flags = view.getUint32(PeekSiginfoLayout.flags, true);
    const count = view.getInt32(PeekSiginfoLayout.count, true);
    if (flags & ~PTRACE_PEEKSIGINFO_SHARED || count < 0) return -Errno.EINVAL;
    const skip = Number(view.getBigUint64(PeekSiginfoLayout.offset, true));
    const state = signalsOf(tracee);
    const pending = flags & PTRACE_PEEKSIGINFO_SHARED ? state.process.shared : state.queue;
    const infos = [...pending.all()].slice(skip, skip + count);
    for (const [index, info] of infos.entries()) {
      if (writeInfo(tracer, tracee, data + index * SiginfoLayout.size, info) < 0)
        return index > 0 ? index : -Errno.EFAULT;
    }
    return infos.length;
  });
}

function maskBytes(tracee: Task): Uint8Array {
  const state = signalsOf(tracee);
  const bytes = new Uint8Array(8);
  const mask = state.work & Work.restoreMask ? state.savedMask : state.mask;
  encodeSet(mask, new DataView(bytes.buffer), 0);
  return bytes;
}

/** PTRACE_GET_SYSCALL_INFO: the size of all that there is to tell; at most `size` bytes are written. */
function syscallInfo(tracer: Task, tracee: Task, size: number, data: number): number {
  const at = SyscallInfoLayout;
  const trace = traceOf(tracee);
  const registers = tracee.context.registers();
  const bytes = new Uint8Array(at.size);
  const view = new DataView(bytes.buffer);
  const word = (index: number): bigint => registers[index] ?? 0n;
  view.setUint32(at.arch, auditArch, true);
  view.setBigUint64(at.ip, word(Reg.rip), true);
  view.setBigUint64(at.sp, word(Reg.rsp), true);
  const call = (): void => {
    view.setBigUint64(at.number, word(Reg.origRax), true);
    for (const [index, register] of [Reg.rdi, Reg.rsi, Reg.rdx, Reg.r10, Reg.r8, Reg.r9].entries())
      view.setBigUint64(at.args + index * 8, word(register), true);
  };
  let actual: number = at.none;
  const code = trace.info?.code ?? 0;
  if (code === (Signal.SIGTRAP | 0x80) && trace.message === PTRACE_EVENTMSG_SYSCALL_ENTRY) {
    view.setUint8(at.op, SyscallInfoOp.entry);
    call();
    actual = at.entry;
  } else if (code === (Signal.SIGTRAP | 0x80) && trace.message === PTRACE_EVENTMSG_SYSCALL_EXIT) {
    const result = BigInt.asIntN(64, word(Reg.rax));
    view.setUint8(at.op, SyscallInfoOp.exit);
    view.setBigInt64(at.result, result, true);
    view.setUint8(at.isError, result < 0n && result >= -4095n ? 1 : 0);
    actual = at.exit;
  } else if (code === (Signal.SIGTRAP | (PtraceEvent.SECCOMP << 8))) {
    view.setUint8(at.op, SyscallInfoOp.seccomp);
    call();
    view.setUint32(at.data, trace.message, true);
    actual = at.seccomp;
  }
  const result = writeBytes(tracer, data, bytes.subarray(0, Math.min(size, actual)));
  return result < 0 ? result : actual;
}

/** PTRACE_LISTEN: stays stopped like the rest of its group, but tells of changes. */
function listen(tracee: Task): number {
  const trace = traceOf(tracee);
  if (!trace.seized || (trace.info?.code ?? 0) >> 8 !== PtraceEvent.STOP) return -Errno.EIO;
  const state = signalsOf(tracee);
  state.jobControl |= JobControl.listening;
  if (state.jobControl & JobControl.trapNotify) state.letGo();
  return 0;
}

function archPrctl(tracer: Task, tracee: Task, args: Arguments): number {
  const registers = tracee.context.registers();
  switch (args.i32(3)) {
    case ArchPrctl.SET_FS:
      return setRegister(tracee.context, Reg.fsBase, args.big(2)) < 0 ? -Errno.EPERM : 0;
    case ArchPrctl.SET_GS:
      return setRegister(tracee.context, Reg.gsBase, args.big(2)) < 0 ? -Errno.EPERM : 0;
    case ArchPrctl.GET_FS:
      return writeWord(tracer, args.address(2), registers[Reg.fsBase] ?? 0n);
    case ArchPrctl.GET_GS:
      return writeWord(tracer, args.address(2), registers[Reg.gsBase] ?? 0n);
    default:
      return -Errno.EINVAL;
  }
}
