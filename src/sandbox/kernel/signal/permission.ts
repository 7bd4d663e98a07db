// Who may signal whom, and sending on behalf of a program: kill(2), tgkill(2), rt_sigqueueinfo(2).

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Signal, SignalCode } from '../../abi/signal.ts';
import type { Credentials, Process, ProcessGroup, SignalInfo, Task } from '../contract.ts';
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
