// Who may signal whom, and sending on behalf of a program: kill(2), tgkill(2), rt_sigqueueinfo(2) and F_SETOWN.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Signal, SignalCode } from '../../abi/signal.ts';
import type { Credentials, Kernel, Process, ProcessGroup, SignalInfo, Task } from '../contract.ts';
import { ProcessSignalState } from './process-signals.ts';
import { queueSignal } from './send.ts';
import { signalsOf } from './task-signals.ts';

function allowedByIds(sender: Credentials, receiver: Credentials): boolean {
  return (
    sender.euid === receiver.suid ||
    sender.euid === receiver.uid ||
    sender.uid === receiver.suid ||
    sender.uid === receiver.uid ||
    sender.hasIn(receiver.userNamespace, Capability.kill)
  );
}

/** kill(2), "Errors": 0, -EINVAL for a signal that is none, -EPERM (check_kill_permission). `to`: a thread of the receiver. */
export function checkPermission(sender: Task, to: Task, info: SignalInfo, signal: number): number {
  if (signal < 0 || signal > Signal.SIGRTMAX) return -Errno.EINVAL;
  if (info.code > SignalCode.SI_USER || sender.process === to.process) return 0;
  if (allowedByIds(sender.credentials, to.credentials)) return 0;
  // Any member of a session may let another go on.
  if (signal === Signal.SIGCONT && sender.process.session === to.process.session) return 0;
  return -Errno.EPERM;
}

/** A signal from a program to a process; signal 0 only asks whether it would be allowed. 0 or a negative errno. */
export function signalProcess(sender: Task, process: Process, info: SignalInfo): number {
  const allowed = checkPermission(sender, process.leader, info, info.signal);
  if (allowed < 0 || info.signal === 0) return allowed;
  const { signals } = process;
  return signals instanceof ProcessSignalState ? signals.queue(info) : 0;
}

/** As signalProcess, to one thread. A thread that has just ended takes it as well. */
export function signalThread(sender: Task, to: Task, info: SignalInfo): number {
  const allowed = checkPermission(sender, to, info, info.signal);
  if (allowed < 0 || info.signal === 0) return allowed;
  const state = signalsOf(to);
  return state.ended ? 0 : queueSignal(state, info, false);
}

/** To all of a process group: 0 if one took it, else the last error; -ESRCH if nobody is there. */
export function signalGroup(sender: Task, group: ProcessGroup, info: SignalInfo): number {
  let result = -Errno.ESRCH;
  let delivered = false;
  for (const process of [...group.processes]) {
    result = signalProcess(sender, process, info);
    if (result === 0) delivered = true;
  }
  return delivered ? 0 : result;
}

/** Whom F_SETOWN named, with the credentials that counted then. `id` is a number of the root PID namespace. */
export interface SignalOwner {
  /** F_OWNER_TID 0, F_OWNER_PID 1, F_OWNER_PGRP 2. */
  readonly type: number;
  readonly id: number;
  /** F_SETSIG; 0: SIGIO without siginfo. */
  readonly signal: number;
}

/** si_code POLL_* to si_band (the poll bits). */
const bandOf: { readonly [code: number]: number } = {
  [SignalCode.POLL_IN]: 0x41,
  [SignalCode.POLL_OUT]: 0x304,
  [SignalCode.POLL_MSG]: 0x441,
  [SignalCode.POLL_ERR]: 0x8,
  [SignalCode.POLL_PRI]: 0x82,
  [SignalCode.POLL_HUP]: 0x18,
};

/**
 * SIGIO, or the signal of F_SETSIG with si_band and si_fd, to a file's owner (send_sigio). code: POLL_IN and so on.
 * setter: credentials of who called F_SETOWN, as far as they are known.
 */
export function signalOwner(
  kernel: Kernel,
  owner: SignalOwner,
  setter: Credentials | undefined,
  fd: number,
  code: number,
): void {
  const band = bandOf[code] ?? 0;
  const info: SignalInfo =
    owner.signal === 0
      ? { signal: Signal.SIGIO, code: SignalCode.SI_KERNEL }
      : { signal: owner.signal, code, band, fd };
  sendToOwner(kernel, owner, setter, info);
}

/** SIGURG for out-of-band data (send_sigurg). */
export function signalUrgent(kernel: Kernel, owner: SignalOwner, setter: Credentials | undefined): void {
  sendToOwner(kernel, owner, setter, { signal: Signal.SIGURG, code: SignalCode.SI_KERNEL });
}

function sendToOwner(
  kernel: Kernel,
  owner: SignalOwner,
  setter: Credentials | undefined,
  info: SignalInfo,
): void {
  const namespace = kernel.rootPidNamespace;
  const allowed = (to: Task): boolean => !setter || ioPermitted(setter, to);
  if (owner.type === 0) {
    const task = namespace.findTask(owner.id);
    if (task && allowed(task)) task.sendSignal(info);
  } else if (owner.type === 1) {
    const process = namespace.findProcess(owner.id);
    if (process && allowed(process.leader)) process.sendSignal(info);
  } else {
    for (const process of [...(namespace.findGroup(owner.id)?.processes ?? [])])
      if (allowed(process.leader)) process.sendSignal(info);
  }
}

/** sigio_perm. */
function ioPermitted(setter: Credentials, to: Task): boolean {
  const { suid, uid } = to.credentials;
  return (
    setter.euid === 0 ||
    setter.euid === suid ||
    setter.euid === uid ||
    setter.uid === suid ||
    setter.uid === uid
  );
}
