// siginfo_t as a program sees it: 128 bytes, made from what the kernel knows of a signal, with ids as the receiver's
// namespaces have them; and back, for signals whose siginfo a program gives (rt_sigqueueinfo, PTRACE_SETSIGINFO).

import { SiginfoLayout as at, auditArch, Signal, SignalCode } from '../../abi/signal.ts';
import type { Process, SignalInfo, Task } from '../contract.ts';

/** What a user id without a mapping is shown as (overflowuid). */
const overflowUid = 65_534;

/** Writes the siginfo for `receiver` into 128 bytes of `bytes` at `offset`. */
export function encodeSiginfo(info: SignalInfo, receiver: Task, bytes: Uint8Array, offset = 0): void {
  bytes.fill(0, offset, offset + at.size);
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, at.size);
  if (info.raw) {
    bytes.set(info.raw.subarray(0, at.used), offset);
    view.setInt32(at.signo, info.signal, true);
    if (carriesSender(info.code, info.signal)) encodeRawSender(info, receiver, view);
    return;
  }
  view.setInt32(at.signo, info.signal, true);
  view.setInt32(at.errno, info.errno ?? 0, true);
  view.setInt32(at.code, info.code, true);
  const setValue = (): void => {
    if (info.value !== undefined) view.setBigUint64(at.value, BigInt.asUintN(64, info.value), true);
  };
  if (info.timer !== undefined) {
    view.setInt32(at.timer, info.timer, true);
    view.setInt32(at.overrun, info.overrun ?? 0, true);
    setValue();
  } else if (info.child !== undefined) {
    view.setInt32(at.pid, idOf(info, info.child, receiver), true);
    view.setUint32(at.uid, visibleUid(info, receiver), true);
    view.setInt32(at.status, info.status ?? 0, true);
    view.setBigInt64(at.utime, BigInt(info.utime ?? 0), true);
    view.setBigInt64(at.stime, BigInt(info.stime ?? 0), true);
  } else if (info.syscall !== undefined) {
    view.setBigUint64(at.callAddress, BigInt(info.address ?? 0), true);
    view.setInt32(at.syscall, info.syscall, true);
    view.setUint32(at.arch, auditArch, true);
  } else if (info.band !== undefined) {
    view.setBigInt64(at.band, BigInt(info.band), true);
    view.setInt32(at.fd, info.fd ?? 0, true);
  } else if (info.address !== undefined) {
    view.setBigUint64(at.address, BigInt.asUintN(64, BigInt(info.address)), true);
  } else if (info.code !== SignalCode.SI_KERNEL) {
    view.setInt32(at.pid, idOf(info, info.sender, receiver), true);
    view.setUint32(at.uid, visibleUid(info, receiver), true);
    setValue();
  }
}

function idOf(info: SignalInfo, process: Process | undefined, receiver: Task): number {
  const { pidNamespace } = receiver.process;
  return info.thread?.tidIn(pidNamespace) ?? process?.pidIn(pidNamespace) ?? 0;
}

function visibleUid(info: SignalInfo, receiver: Task): number {
  const uid = receiver.credentials.userNamespace.fromKernelUid(info.uid ?? 0);
  return uid < 0 ? overflowUid : uid;
}

/** Ids that a program wrote itself stay, but for a sender whom the receiver cannot see (__send_signal_locked). */
function encodeRawSender(info: SignalInfo, receiver: Task, view: DataView): void {
  if (info.sender && info.sender.pidIn(receiver.process.pidNamespace) === 0) view.setInt32(at.pid, 0, true);
  const from = info.sender?.leader.credentials.userNamespace;
  const to = receiver.credentials.userNamespace;
  if (!from || from === to) return;
  const uid = to.fromKernelUid(from.toKernelUid(view.getUint32(at.uid, true)));
  view.setUint32(at.uid, uid < 0 ? overflowUid : uid, true);
}

/** Whether siginfo of this kind has si_pid and si_uid (siginfo_layout, has_si_pid_and_uid). */
export function carriesSender(code: number, signal: number): boolean {
  if (code === SignalCode.SI_TIMER || code === SignalCode.SI_SIGIO || code === SignalCode.SI_KERNEL)
    return false;
  if (code <= 0) return true;
  return signal === Signal.SIGCHLD && code <= SignalCode.CLD_CONTINUED;
}

/** The siginfo that a program gave, with the signal's number put in. bytes: at least 128. */
export function decodeSiginfo(bytes: Uint8Array, signal: number): SignalInfo {
  const raw = bytes.slice(0, at.size);
  const view = new DataView(raw.buffer, raw.byteOffset, at.size);
  view.setInt32(at.signo, signal, true);
  return { signal, code: view.getInt32(at.code, true), raw };
}

/** How many si_code values of a kind there are (NSIGILL and the like), to tell known from unknown layouts. */
const knownCodes: { readonly [signal: number]: number } = {
  [Signal.SIGILL]: 11,
  [Signal.SIGFPE]: 15,
  [Signal.SIGSEGV]: 10,
  [Signal.SIGBUS]: 5,
  [Signal.SIGTRAP]: 6,
  [Signal.SIGCHLD]: 6,
  [Signal.SIGIO]: 6,
  [Signal.SIGSYS]: 2,
};

/** Whether the kernel knows what such a siginfo holds; if not, bytes beyond the known ones must be zero (E2BIG). */
export function knownSiginfo(signal: number, code: number): boolean {
  if (code === SignalCode.SI_KERNEL) return true;
  if (code > SignalCode.SI_USER) return code <= (knownCodes[signal] ?? knownCodes[Signal.SIGIO] ?? 0);
  return code >= SignalCode.SI_DETHREAD || code === -60;
}
