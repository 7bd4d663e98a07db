// Delivery: what happens to a thread's pending signals, stops and its end before it goes on with the program (get_signal
// and handle_signal). Ends with the registers ready for the next instruction, a held thread, or the thread's end.

import { Errno } from '../../abi/errno.ts';
import { defaultAction, SIG_DFL, SIG_IGN, Signal, SignalCode, SignalFlag } from '../../abi/signal.ts';
import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import { Reg, type Registers } from '../../platform/contract.ts';
import type { SignalInfo } from '../contract.ts';
import { type SignalAction, Work } from './contract.ts';
import { enterHandler } from './frame.ts';
import { JobControl } from './job-control.ts';
import { union, withSignal } from './signal-set.ts';
import { stopGroup } from './stop.ts';
import type { TaskSignalState } from './task-signals.ts';

const noCall = 0xffff_ffff_ffff_ffffn;
/** The length of the syscall instruction. */
const instructionLength = 2n;

/** Does all that waits to be done, then resumes the context; or keeps the thread held; or ends it. */
export function leaveKernel(state: TaskSignalState): void {
  for (;;) {
    if (state.ended || state.held) return;
    if (state.work & Work.kill) {
      end(state);
      return;
    }
    if (state.work & Work.signal && state.recalculate()) {
      if (!takeOne(state)) return;
      continue;
    }
    // No handler saw the interrupted call.
    restartWithoutHandler(state);
    if (state.work & Work.restoreMask) {
      state.restoreMask();
      if (state.work & Work.signal) continue;
    }
    break;
  }
  resumeProgram(state);
}

function resumeProgram(state: TaskSignalState): void {
  const { context } = state.task;
  state.clearWork(Work.registers);
  if (state.work & Work.singleStep) context.step();
  else context.resumeRegisters();
}

function end(state: TaskSignalState): void {
  const { task, process } = state;
  const decided = task.process.groupExitStatus;
  if (decided === undefined && process.doom !== undefined) task.exitGroup(process.doom);
  else task.exit(decided ?? 0);
}

/** One thing that is pending. True: look again; false: the thread is held or has ended, or goes on by itself. */
function takeOne(state: TaskSignalState): boolean {
  const again = (): void => leaveKernel(state);
  if (state.jobControl & JobControl.stopPending && stopGroup(state, 0, again)) return false;
  if (state.jobControl & (JobControl.trapStop | JobControl.trapNotify)) {
    state.task.trace.jobTrap(again);
    return false;
  }
  const taken = state.dequeueAny();
  if (!taken) return true;
  const { info, group } = taken;
  if (state.task.trace.tracer && info.signal !== Signal.SIGKILL && !state.handlers.immutable(info.signal)) {
    state.jobControl |= JobControl.stopDequeued;
    state.task.trace.signalStop(info, group, (passed) => {
      if (!passed || act(state, passed)) leaveKernel(state);
    });
    return false;
  }
  return act(state, info);
}

/** Carries out a signal's action. True: the thread goes on with its way; false: it is held or has ended. */
function act(state: TaskSignalState, info: SignalInfo): boolean {
  const { signal } = info;
  const { handlers, process, task } = state;
  const action = handlers.get(signal);
  if (action.handler === SIG_IGN) return true;
  if (action.handler !== SIG_DFL) {
    if (action.flags & SignalFlag.SA_RESETHAND) handlers.set(signal, { ...action, handler: SIG_DFL });
    return handle(state, info, action);
  }
  const byDefault = defaultAction(signal);
  if (byDefault === 'ignore' || byDefault === 'continue') return true;
  if (process.protected && signal !== Signal.SIGKILL && signal !== Signal.SIGSTOP) return true;
  if (byDefault === 'stop') {
    // Nobody could let an orphaned group go on; SIGSTOP is meant all the same.
    if (signal !== Signal.SIGSTOP && task.process.group.orphaned) return true;
    return !stopGroup(state, signal, () => leaveKernel(state));
  }
  // No core file is written, so the status has no core bit.
  task.exitGroup(signal);
  return false;
}

function handle(state: TaskSignalState, info: SignalInfo, action: SignalAction): boolean {
  const { context } = state.task;
  restartForHandler(context.registers(), action);
  if (enterHandler(state, info, action) < 0) {
    // force_sigsegv: a handler of SIGSEGV that cannot be entered is not tried again.
    state.forceSignal(
      { signal: Signal.SIGSEGV, code: SignalCode.SI_KERNEL, address: 0 },
      info.signal === Signal.SIGSEGV,
    );
    return true;
  }
  state.clearWork(Work.restoreMask);
  const mask = union(state.mask, action.mask);
  state.setMask(action.flags & SignalFlag.SA_NODEFER ? mask : withSignal(mask, info.signal));
  if (state.work & Work.singleStep) {
    state.task.trace.stepIntoHandler(() => leaveKernel(state));
    return false;
  }
  return true;
}

/** The restart code in rax if the thread is on its way out of a system call, else 0. */
function restartCode(registers: Registers): number {
  if (registers[Reg.origRax] === noCall) return 0;
  const rax = BigInt.asIntN(64, registers[Reg.rax] ?? 0n);
  if (rax > -512n || rax < -516n) return 0;
  return -Number(rax);
}

function rewind(registers: Registers, rax: bigint): void {
  registers[Reg.rax] = rax;
  registers[Reg.rip] = (registers[Reg.rip] ?? 0n) - instructionLength;
}

function restartForHandler(registers: Registers, action: SignalAction): void {
  const code = restartCode(registers);
  if (code === 0) return;
  if (code === Errno.ERESTARTNOINTR || (code === Errno.ERESTARTSYS && action.flags & SignalFlag.SA_RESTART))
    rewind(registers, registers[Reg.origRax] ?? 0n);
  else registers[Reg.rax] = BigInt.asUintN(64, BigInt(-Errno.EINTR));
}

function restartWithoutHandler(state: TaskSignalState): void {
  const registers = state.task.context.registers();
  const code = restartCode(registers);
  if (code === 0) return;
  if (code === Errno.ERESTART_RESTARTBLOCK) rewind(registers, BigInt(SyscallNumber.restart_syscall));
  else rewind(registers, registers[Reg.origRax] ?? 0n);
}
