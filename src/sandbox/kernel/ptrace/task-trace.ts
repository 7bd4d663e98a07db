// A thread as tracer and as tracee: attaching and letting go, the stops in which a tracee waits for its tracer, and the
// events that make it stop (kernel/ptrace.c, ptrace_stop of kernel/signal.c). What a tracer reads and changes in a
// stopped tracee is in requests.ts.

import {
  PTRACE_EVENTMSG_SYSCALL_ENTRY,
  PTRACE_EVENTMSG_SYSCALL_EXIT,
  PtraceEvent,
  PtraceOption,
} from '../../abi/ptrace.ts';
import { Signal, SignalCode } from '../../abi/signal.ts';
import type { SignalInfo, Task } from '../contract.ts';
import { Work } from '../signal/contract.ts';
import { JobControl } from '../signal/job-control.ts';
import { tellOfStop } from '../signal/process-signals.ts';
import { queueSignal } from '../signal/send.ts';
import { contains } from '../signal/signal-set.ts';
import { signalsOf, type TaskSignalState } from '../signal/task-signals.ts';
import type { TaskTrace } from './contract.ts';

const cloneVfork = 0x4000;
const clonePtrace = 0x2000;
const cloneUntraced = 0x80_0000;

/** What the tracee's stop is about, for PTRACE_GET_SYSCALL_INFO. */
const sysGood = Signal.SIGTRAP | 0x80;

export function createTrace(task: Task): TaskTrace {
  return new Trace(task);
}

/** The class behind a task's trace, for kernel/ptrace. */
export function traceOf(task: Task): Trace {
  const { trace } = task;
  if (!(trace instanceof Trace)) throw new TypeError('a task whose trace is of another kernel');
  return trace;
}

export class Trace implements TaskTrace {
  readonly #task: Task;
  readonly #tracees = new Set<Task>();
  #tracer: Task | undefined;
  seized = false;
  /** PTRACE_O_*. */
  options = 0;
  /** PTRACE_GETEVENTMSG. */
  message = 0;
  /** The siginfo of the stop; a tracer may replace it. Undefined: the stop has none. */
  info: SignalInfo | undefined;
  /** In a stop: what waits to be told to the tracer, then what the tracee goes on with (task_struct.exit_code). */
  #code = 0;
  /** The values of DR0 to DR7 as the tracer set them. No breakpoint is ever enabled in hardware. */
  readonly debugRegisters = new BigUint64Array(8);

  constructor(task: Task) {
    this.#task = task;
  }

  get #state(): TaskSignalState {
    return signalsOf(this.#task);
  }

  get tracer(): Task | undefined {
    return this.#tracer;
  }

  get tracees(): ReadonlySet<Task> {
    return this.#tracees;
  }

  get stopped(): boolean {
    return this.#tracer !== undefined && this.#state.held === 'trace';
  }

  get listening(): boolean {
    return (this.#state.jobControl & JobControl.listening) !== 0;
  }

  takeStop(consume: boolean): number | undefined {
    if (!this.stopped || this.listening || this.#code === 0) return undefined;
    const status = (this.#code << 8) | 0x7f;
    if (consume) this.#code = 0;
    return status;
  }

  // Attaching and letting go.

  link(tracer: Task, options: number, seized: boolean): void {
    this.#tracer = tracer;
    this.options = options;
    this.seized = seized;
    traceOf(tracer).#tracees.add(this.#task);
  }

  /** Attaches to a thread that runs or is stopped by job control. */
  attach(tracer: Task, options: number, seized: boolean): void {
    const state = this.#state;
    this.link(tracer, options, seized);
    if (!seized) state.send({ signal: Signal.SIGSTOP, code: SignalCode.SI_KERNEL });
    // A thread that job control stopped moves over into a stop for the tracer, before the call returns.
    if (state.held === 'stop' && state.setStopPending(JobControl.trapStop, 0)) state.letGoNow();
  }

  /** Ends the tracing; the tracee goes on, or joins the group stop that is in force (__ptrace_unlink). */
  #unlink(): void {
    const tracer = this.#tracer;
    if (!tracer) return;
    const state = this.#state;
    const wasHeld = state.held === 'trace';
    traceOf(tracer).#tracees.delete(this.#task);
    this.#tracer = undefined;
    this.options = 0;
    this.seized = false;
    state.clearWork(Work.traceSyscall | Work.emulateSyscall | Work.singleStep);
    state.jobControl &= ~(JobControl.trapStop | JobControl.trapNotify | JobControl.listening);
    const { process } = state;
    if (!state.ended && (process.stopped || process.stopCount > 0))
      state.jobControl |= JobControl.stopPending;
    if (wasHeld) state.letGo();
    else if (state.jobControl & JobControl.stopPending) state.wake(false);
    else state.recalculate();
  }

  detached(): void {
    this.#unlink();
  }

  /** PTRACE_DETACH of a stopped tracee, with a signal to go on with (0: none). */
  detach(signal: number): void {
    this.#code = signal;
    this.#unlink();
  }

  released(): void {
    for (const tracee of [...this.#tracees]) {
      const trace = traceOf(tracee);
      if (trace.options & PtraceOption.EXITKILL)
        tracee.process.sendSignal({ signal: Signal.SIGKILL, code: SignalCode.SI_KERNEL });
      trace.#unlink();
    }
  }

  /** Lets a stopped tracee go on: with a signal (0: none), and with these of Work's tracing bits. */
  resume(signal: number, work: number): void {
    const state = this.#state;
    state.clearWork(Work.traceSyscall | Work.emulateSyscall | Work.singleStep);
    state.setWork(work);
    this.#code = signal;
    state.letGo();
  }

  // Stops.

  /**
   * Stops for the tracer (ptrace_stop). code: what wait4 gets in its upper bits. why: CLD_TRAPPED, or CLD_STOPPED when
   * this is the thread's part in a group stop. `then` gets the signal that the tracer goes on with.
   */
  #stop(
    code: number,
    why: number,
    message: number,
    info: SignalInfo | undefined,
    then: (signal: number, info: SignalInfo | undefined) => void,
  ): void {
    const state = this.#state;
    const tracer = this.#tracer;
    // Nobody is there to let it go, or it has to end.
    if (!tracer || (state.killed && !state.ended)) {
      then(tracer ? code & 0x7f : 0, info);
      return;
    }
    this.#code = code;
    this.info = info;
    this.message = message;
    const completesStop =
      why === SignalCode.CLD_STOPPED &&
      (state.jobControl & JobControl.stopPending) !== 0 &&
      state.participate();
    state.jobControl &= ~JobControl.trapStop;
    if (info && info.code >> 8 === PtraceEvent.STOP) state.jobControl &= ~JobControl.trapNotify;
    state.hold('trace', () => {
      const answer = this.#code;
      const last = this.info;
      this.#code = 0;
      this.info = undefined;
      this.message = 0;
      state.jobControl &= ~JobControl.listening;
      state.recalculate();
      then(answer, last);
    });
    const { process } = state;
    const status = why === SignalCode.CLD_STOPPED ? process.stopSignal : code & 0x7f;
    tellOfStop(tracer.process, this.#task.process, why, status, this.#task);
    // The real parent, if it is another one, hears of the group stop as always.
    if (completesStop && this.#task.process.parent !== tracer.process) process.notifyParent(why);
  }

  /** A stop with the siginfo of ptrace_notify. */
  #notify(code: number, message: number, why: number, then: (signal: number) => void): void {
    const task = this.#task;
    const info: SignalInfo = {
      signal: code & 0x7f,
      code,
      sender: task.process,
      thread: task,
      uid: task.credentials.uid,
    };
    this.#stop(code, why, message, info, then);
  }

  signalStop(info: SignalInfo, group: boolean, then: (info: SignalInfo | undefined) => void): void {
    this.#stop(info.signal, SignalCode.CLD_TRAPPED, 0, info, (signal, last) => {
      if (signal === 0) {
        then(undefined);
        return;
      }
      const state = this.#state;
      const chosen = last && signal === info.signal ? { ...last, signal } : this.#injected(signal);
      if (contains(state.mask, signal) || state.killed) {
        queueSignal(state, chosen, group);
        then(undefined);
      } else {
        then(chosen);
      }
    });
  }

  #injected(signal: number): SignalInfo {
    const tracer = this.#tracer;
    return {
      signal,
      code: SignalCode.SI_USER,
      sender: tracer?.process,
      uid: tracer?.credentials.uid ?? 0,
    };
  }

  jobTrap(then: () => void): void {
    const state = this.#state;
    if (!this.seized) {
      this.#stop(state.stopSignal, SignalCode.CLD_STOPPED, 0, undefined, then);
      return;
    }
    const { process } = state;
    const inStop = process.stopCount > 0 || process.stopped;
    const signal = inStop ? state.stopSignal : Signal.SIGTRAP;
    this.#notify(signal | (PtraceEvent.STOP << 8), 0, SignalCode.CLD_STOPPED, then);
  }

  #syscallStop(message: number, then: () => void): void {
    const code = this.options & PtraceOption.TRACESYSGOOD ? sysGood : Signal.SIGTRAP;
    this.#notify(code, message, SignalCode.CLD_TRAPPED, (signal) => {
      if (signal !== 0 && signal !== code) this.#state.send({ signal, code: SignalCode.SI_KERNEL });
      then();
    });
  }

  syscallEntry(then: () => void): void {
    this.#syscallStop(PTRACE_EVENTMSG_SYSCALL_ENTRY, then);
  }

  syscallExit(step: boolean, then: () => void): void {
    if (!step) {
      this.#syscallStop(PTRACE_EVENTMSG_SYSCALL_EXIT, then);
      return;
    }
    this.#state.force({ signal: Signal.SIGTRAP, code: SignalCode.SI_USER, uid: 0 });
    then();
  }

  stepIntoHandler(then: () => void): void {
    this.#notify(Signal.SIGTRAP, 0, SignalCode.CLD_TRAPPED, () => then());
  }

  seccompStop(data: number, then: () => void): boolean {
    if (!this.#wants(PtraceEvent.SECCOMP)) return false;
    this.#event(PtraceEvent.SECCOMP, data, then);
    return true;
  }

  // Events.

  #wants(event: number): boolean {
    return this.#tracer !== undefined && (this.options & (1 << event)) !== 0;
  }

  #event(event: number, message: number, then: () => void): void {
    this.#notify(Signal.SIGTRAP | (event << 8), message, SignalCode.CLD_TRAPPED, () => then());
  }

  /** The call that raised the event completes when the tracer lets the tracee go (TaskSignalState.whenFree). */
  #eventDuringCall(event: number, message: number): void {
    this.#state.whenFree(() => {
      if (this.#wants(event)) this.#event(event, message, () => undefined);
    });
  }

  cloned(child: Task, flags: number): void {
    const tracer = this.#tracer;
    if (!tracer) return;
    let event = 0;
    if ((flags & cloneUntraced) === 0) {
      if (flags & cloneVfork) event = PtraceEvent.VFORK;
      else if ((flags & 0xff) !== Signal.SIGCHLD) event = PtraceEvent.CLONE;
      else event = PtraceEvent.FORK;
      if (!this.#wants(event)) event = 0;
    }
    if (event === 0 && (flags & clonePtrace) === 0) return;
    const trace = traceOf(child);
    trace.link(tracer, this.options, this.seized);
    const state = signalsOf(child);
    if (this.seized) {
      state.setStopPending(JobControl.trapStop, 0);
    } else {
      state.queue.addLost(Signal.SIGSTOP);
      state.recalculate();
    }
    if (event !== 0) this.#eventDuringCall(event, child.tidIn(tracer.process.pidNamespace));
  }

  vforkDone(child: Task): void {
    const namespace = this.#tracer?.process.pidNamespace;
    if (namespace) this.#eventDuringCall(PtraceEvent.VFORK_DONE, child.tidIn(namespace));
  }

  executed(formerTid: number): void {
    if (!this.#tracer) return;
    if (this.#wants(PtraceEvent.EXEC)) this.#eventDuringCall(PtraceEvent.EXEC, formerTid);
    else if (!this.seized)
      this.#state.send({
        signal: Signal.SIGTRAP,
        code: SignalCode.SI_USER,
        sender: this.#task.process,
        uid: this.#task.credentials.uid,
      });
  }

  exiting(status: number, go: () => void): void {
    const state = this.#state;
    if (state.ended) return;
    state.ended = true;
    if (!this.#wants(PtraceEvent.EXIT)) {
      go();
      return;
    }
    // The registers must be those of the program, not of a call that its tracer's changes would go to.
    state.clearWork(Work.kill);
    state.whenFree(() => this.#event(PtraceEvent.EXIT, status, go));
  }
}
