// ptrace(2): who may attach to whom, and what is asked of whom. Requests to a stopped tracee are in requests.ts.

import { Errno } from '../../abi/errno.ts';
import { allPtraceOptions, PtraceRequest as Request } from '../../abi/ptrace.ts';
import { Signal, SignalCode } from '../../abi/signal.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import { JobControl } from '../signal/job-control.ts';
import { signalsOf } from '../signal/task-signals.ts';
import { mayAccess, mayBeTracedBy } from './access.ts';
import { carryOut, checkOptions } from './requests.ts';
import { traceOf } from './task-trace.ts';

function ptrace(task: Task, args: Arguments): number {
  const request = args.i64(0);
  if (request === Request.TRACEME) return traceMe(task);
  const tracee = task.process.pidNamespace.findTask(args.i32(1));
  if (!tracee) return -Errno.ESRCH;
  if (request === Request.ATTACH || request === Request.SEIZE)
    return attach(task, tracee, request === Request.SEIZE, args);
  if (tracee.trace.tracer !== task) return -Errno.ESRCH;
  if (request === Request.KILL) {
    tracee.process.sendSignal({ signal: Signal.SIGKILL, code: SignalCode.SI_USER, sender: task.process });
    return 0;
  }
  if (request === Request.INTERRUPT) return interrupt(tracee);
  const trace = traceOf(tracee);
  const state = signalsOf(tracee);
  // Only a thread that waits for its tracer can be asked for anything.
  if (!trace.stopped || trace.listening || (state.killed && !state.ended)) return -Errno.ESRCH;
  return carryOut(task, tracee, request, args);
}

function traceMe(task: Task): number {
  if (task.trace.tracer) return -Errno.EPERM;
  const tracer = task.process.parentThread;
  if (!tracer) return -Errno.EPERM;
  const allowed = mayBeTracedBy(task, tracer);
  if (allowed < 0) return allowed;
  traceOf(task).link(tracer, 0, false);
  return 0;
}

function attach(task: Task, tracee: Task, seize: boolean, args: Arguments): number {
  let options = 0;
  if (seize) {
    if (args.big(2) !== 0n || args.big(3) & ~BigInt(allPtraceOptions)) return -Errno.EIO;
    options = args.u32(3);
    const valid = checkOptions(options);
    if (valid < 0) return valid;
  }
  if (tracee.process === task.process) return -Errno.EPERM;
  const allowed = mayAccess(task, tracee);
  if (allowed < 0) return allowed;
  if (signalsOf(tracee).ended || tracee.trace.tracer) return -Errno.EPERM;
  traceOf(tracee).attach(task, options, seize);
  return 0;
}

/** PTRACE_INTERRUPT: stops a seized tracee, or lets a listening one tell of itself again. */
function interrupt(tracee: Task): number {
  const trace = traceOf(tracee);
  if (!trace.seized) return -Errno.EIO;
  const state = signalsOf(tracee);
  if (!state.setStopPending(JobControl.trapStop, 0)) return 0;
  if (trace.stopped && trace.listening) state.letGo();
  else state.wake(false);
  return 0;
}

export const ptraceSyscalls: readonly Syscall[] = [
  {
    name: 'ptrace',
    signature: 'request:ptrace-request pid:pid addr:address data:address -> long',
    support: 'partial',
    note:
      'hardware breakpoints (DR7) fail with ENOSPC, selectors cannot change, and SINGLEBLOCK, ' +
      'SECCOMP_GET_FILTER and GET_RSEQ_CONFIGURATION fail with EIO',
    handler: ptrace,
  },
];
