// Group stops: a stop signal's default action stops all threads of the process; the last one to stop tells the parent
// (do_signal_stop of kernel/signal.c).

import { SignalCode } from '../../abi/signal.ts';
import { JobControl } from './job-control.ts';
import type { TaskSignalState } from './task-signals.ts';

/**
 * Takes part in a stop: the one that `signal` begins now, or, with 0, one that is under way. True: the thread is held,
 * and `goOn` runs after SIGCONT. False: it is not to stop here (its tracer is asked first, see JobControl.trapStop, or
 * a SIGCONT has come).
 */
export function stopGroup(state: TaskSignalState, signal: number, goOn: () => void): boolean {
  if (signal !== 0 && (state.jobControl & JobControl.stopPending) === 0 && !begin(state, signal))
    return false;
  if (state.task.trace.tracer) {
    state.setStopPending(JobControl.trapStop, 0);
    return false;
  }
  const last = state.participate();
  state.recalculate();
  state.hold('stop', goOn);
  if (last) state.process.notifyParent(SignalCode.CLD_STOPPED);
  return true;
}

function begin(state: TaskSignalState, signal: number): boolean {
  const { process } = state;
  if ((state.jobControl & JobControl.stopDequeued) === 0 || process.ending) return false;
  const bits = JobControl.stopPending | JobControl.stopConsume;
  if (!process.stopped) process.stopSignal = signal;
  process.stopCount = 0;
  if (state.setStopPending(bits, signal)) process.stopCount++;
  for (const thread of process.threads) {
    if (thread === state || thread.held === 'stop' || !thread.setStopPending(bits, signal)) continue;
    process.stopCount++;
    if (thread.task.trace.seized) thread.notifyTrap();
    else thread.wake(false);
  }
  return true;
}
