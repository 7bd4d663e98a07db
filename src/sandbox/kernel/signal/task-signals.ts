// The signals of one thread (the signal part of struct task_struct): queue, mask, alternate stack, and how it is held in
// the stops of job control and ptrace.
//
// A thread is held by not resuming its context. `hold` says what goes on when it is let go; whatever else wants to go on
// meanwhile (a blocked call that completes, the next event for a tracer) is put behind with `whenFree`. Being let go
// takes effect from the kernel's loop, never in the middle of the code that let it go.

import { Errno } from '../../abi/errno.ts';
import { SIG_DFL, SIG_IGN, Signal, SignalCode, SS_AUTODISARM, SS_DISABLE } from '../../abi/signal.ts';
import type { SignalInfo, Task } from '../contract.ts';
import { type TaskSignals, Work } from './contract.ts';
import type { Handlers } from './handlers.ts';
import { JobControl } from './job-control.ts';
import { PendingSignals } from './pending.ts';
import type { ProcessSignalState } from './process-signals.ts';
import { queueSignal } from './send.ts';
import {
  contains,
  decodeSet,
  emptySet,
  fullSet,
  isEmpty,
  type SignalSet,
  signalSet,
  withoutSignal,
} from './signal-set.ts';

/** stack_t of sigaltstack(2); flags as they were given. */
export interface AlternateStack {
  readonly sp: number;
  readonly size: number;
  readonly flags: number;
}

export const noAlternateStack: AlternateStack = { sp: 0, size: 0, flags: SS_DISABLE };

const uncatchable = signalSet(Signal.SIGKILL, Signal.SIGSTOP);

/** Caused by the instruction that the thread is at; taken before others (SYNCHRONOUS_MASK). */
export const synchronous = signalSet(
  Signal.SIGSEGV,
  Signal.SIGBUS,
  Signal.SIGILL,
  Signal.SIGTRAP,
  Signal.SIGFPE,
  Signal.SIGSYS,
);

/** The class behind a task's signals, for kernel/signal and kernel/ptrace. */
export function signalsOf(task: Task): TaskSignalState {
  const { signals } = task;
  if (!(signals instanceof TaskSignalState))
    throw new TypeError('a task whose signals are of another kernel');
  return signals;
}

/**
 * 'stop': job control (TASK_STOPPED); 'trace': for a tracer (TASK_TRACED); 'answer': until a seccomp listener answers or
 * a signal comes, 'answer-killable': until it answers or SIGKILL comes.
 */
export type Hold = 'stop' | 'trace' | 'answer' | 'answer-killable';

export class TaskSignalState implements TaskSignals {
  readonly task: Task;
  readonly process: ProcessSignalState;
  readonly queue = new PendingSignals();
  work = 0;
  #mask: SignalSet;
  /** The mask while sigtimedwait lets other signals wake it (real_blocked). */
  realMask: SignalSet | undefined;
  /** What comes back after a temporary mask (saved_sigmask); counts while Work.restoreMask. */
  savedMask: SignalSet = emptySet;
  alternateStack: AlternateStack;
  /** Bits of JobControl. */
  jobControl = 0;
  /** The signal of the last group stop it joins or joined (JOBCTL_STOP_SIGMASK). */
  stopSignal = 0;
  /** Of the last processor exception, as every later signal frame shows them. */
  lastFault = { trap: 0, error: 0, address: 0 };
  held: Hold | undefined;
  /** It has ended, or is on its way out: nothing is delivered and nothing resumes it. */
  ended = false;
  #goingOn: (() => void)[] = [];
  #released = false;

  constructor(task: Task, process: ProcessSignalState, mask: SignalSet, alternateStack: AlternateStack) {
    this.task = task;
    this.process = process;
    this.#mask = mask;
    this.alternateStack = alternateStack;
    if (task.seccomp.mode !== 0) this.work = Work.seccomp;
    process.threads.push(this);
  }

  get handlers(): Handlers {
    return this.process.handlers;
  }

  setWork(bits: number): void {
    const watched = this.work & Work.entry;
    this.work |= bits;
    if (!watched && bits & Work.entry) this.#tellStub();
  }

  clearWork(bits: number): void {
    const watched = this.work & Work.entry;
    this.work &= ~bits;
    if (watched && (this.work & Work.entry) === 0) this.#tellStub();
  }

  /** A call that a tracer or filter looks at must not be answered in the program's own process. */
  #tellStub(): void {
    if (this.ended) return;
    const { task } = this;
    const { process } = task;
    const answers =
      this.work & Work.entry ? undefined : { pid: process.pidIn(process.pidNamespace), tid: task.visibleTid };
    task.kernel.platform.stubAnswers(task.context, answers);
  }

  // Masks.

  get mask(): SignalSet {
    return this.#mask;
  }

  setMask(mask: SignalSet): void {
    const former = this.#mask;
    this.#mask = { low: mask.low & ~uncatchable.low, high: mask.high };
    this.#retarget({ low: this.#mask.low & ~former.low, high: this.#mask.high & ~former.high });
    this.recalculate();
  }

  setTemporaryMask(address: number, size: number): number {
    if (address === 0) return 0;
    if (size !== 8) return -Errno.EINVAL;
    const bytes = new Uint8Array(8);
    if (this.task.memory.read(address, bytes, 0, 8) < 0) return -Errno.EFAULT;
    this.useMask(decodeSet(new DataView(bytes.buffer), 0));
    return 0;
  }

  /** A mask until the call is complete (set_user_sigmask). */
  useMask(mask: SignalSet): void {
    this.savedMask = this.#mask;
    this.work |= Work.restoreMask;
    this.setMask(mask);
  }

  /** Puts the mask back that a temporary one stands for, if there is one. */
  restoreMask(): void {
    if ((this.work & Work.restoreMask) === 0) return;
    this.work &= ~Work.restoreMask;
    this.setMask(this.savedMask);
  }

  /** Signals of the process that this thread was to take and now blocks go to others (retarget_shared_pending). */
  #retarget(newlyBlocked: SignalSet): void {
    const waiting = this.process.shared.set;
    let left = { low: waiting.low & newlyBlocked.low, high: waiting.high & newlyBlocked.high };
    if (isEmpty(left)) return;
    for (const thread of this.process.threads) {
      if (thread === this || thread.ended) continue;
      const open = { low: left.low & ~thread.mask.low, high: left.high & ~thread.mask.high };
      if (isEmpty(open)) continue;
      left = { low: left.low & thread.mask.low, high: left.high & thread.mask.high };
      if ((thread.work & Work.signal) === 0) thread.wake(false);
      if (isEmpty(left)) return;
    }
  }

  // What is pending.

  get threadPending(): SignalSet {
    return this.queue.set;
  }

  /** Sets Work.signal to what holds (recalc_sigpending). */
  recalculate(): boolean {
    const own = this.queue.set;
    const shared = this.process.shared.set;
    const mask = this.#mask;
    const open =
      ((own.low | shared.low) & ~mask.low) !== 0 ||
      ((own.high | shared.high) & ~mask.high) !== 0 ||
      (this.jobControl & JobControl.pending) !== 0;
    if (open) this.work |= Work.signal;
    else this.work &= ~Work.signal;
    return open;
  }

  get pending(): boolean {
    if ((this.work & (Work.signal | Work.kill)) === 0) return false;
    return (this.work & Work.kill) !== 0 || this.recalculate();
  }

  /** Whether a wait of this kind must end now (signal_pending_state). */
  interrupts(killableOnly: boolean): boolean {
    return killableOnly ? this.killed : this.pending;
  }

  get killed(): boolean {
    return (
      (this.work & Work.kill) !== 0 ||
      this.queue.has(Signal.SIGKILL) ||
      this.process.shared.has(Signal.SIGKILL)
    );
  }

  /** Whether complete_signal may choose this thread (wants_signal). */
  wants(signal: number): boolean {
    if (this.ended || contains(this.#mask, signal)) return false;
    if (signal === Signal.SIGKILL) return true;
    if (this.held && this.held !== 'answer') return false;
    return (this.work & Work.signal) === 0 || this.task.context.event === 0;
  }

  send(info: SignalInfo): void {
    queueSignal(this, info, false);
  }

  force(info: SignalInfo): void {
    this.forceSignal(info, false);
  }

  /** As force; fatal: the process dies of it whatever it handles, and no tracer can avoid it. */
  forceSignal(info: SignalInfo, fatal: boolean): void {
    const { signal } = info;
    const { handlers } = this.process;
    const blocked = contains(this.#mask, signal);
    if (blocked || fatal || handlers.get(signal).handler === SIG_IGN) {
      handlers.set(signal, { ...handlers.get(signal), handler: SIG_DFL });
      if (fatal) handlers.makeImmutable(signal);
      if (blocked) this.setMask(withoutSignal(this.#mask, signal));
    }
    if (handlers.get(signal).handler === SIG_DFL && (fatal || !this.task.trace.tracer))
      this.process.loseProtection();
    queueSignal(this, info, false);
    if ((this.work & (Work.signal | Work.kill)) === 0) this.wake(false);
  }

  /** The next signal to deliver, and whether it was directed at the whole process; see get_signal. */
  dequeueAny(): { readonly info: SignalInfo; readonly group: boolean } | undefined {
    const urgent = this.queue.next({ low: this.#mask.low | ~synchronous.low, high: -1 });
    const own = urgent || this.queue.next(this.#mask);
    if (own) return { info: this.#taken(this.queue.take(own)), group: false };
    const shared = this.process.shared.next(this.#mask);
    return shared ? { info: this.#taken(this.process.shared.take(shared)), group: true } : undefined;
  }

  dequeue(set: SignalSet): SignalInfo | undefined {
    const unwanted = { low: ~set.low | uncatchable.low, high: ~set.high };
    const own = this.queue.next(unwanted, synchronous);
    const signal = own || this.process.shared.next(unwanted, synchronous);
    if (signal === 0) return undefined;
    const info = (own ? this.queue : this.process.shared).take(signal);
    this.#taken(info);
    this.recalculate();
    return info;
  }

  #taken(info: SignalInfo): SignalInfo {
    if (info.signal >= Signal.SIGSTOP && info.signal <= Signal.SIGTTOU)
      this.jobControl |= JobControl.stopDequeued;
    return info;
  }

  available(set: SignalSet): boolean {
    const unwanted = { low: ~set.low | uncatchable.low, high: ~set.high };
    return this.queue.next(unwanted) !== 0 || this.process.shared.next(unwanted) !== 0;
  }

  blockedOrIgnored(signal: number): boolean {
    return contains(this.#mask, signal) || this.handlers.get(signal).handler === SIG_IGN;
  }

  // Waking and holding.

  /** Makes the thread look at its signals soon (signal_wake_up). fatal: out of stops and killable waits too. */
  wake(fatal: boolean): void {
    if (this.ended) {
      // Only the stop before its end can hold it.
      if (fatal && this.held) this.letGo();
      return;
    }
    this.work |= Work.signal;
    if (this.held) {
      if (!fatal && this.held !== 'answer') return;
      this.letGo();
    }
    this.task.interruptBlocking(fatal);
    this.task.context.interrupt();
  }

  kill(): void {
    if (this.#released) return;
    this.jobControl &= ~JobControl.pending & ~JobControl.stopConsume;
    this.work |= Work.kill;
    this.wake(true);
  }

  hold(kind: Hold, goOn: () => void): void {
    this.held = kind;
    this.#goingOn.unshift(goOn);
    // Nothing may take the fast way back meanwhile.
    this.work |= Work.event;
  }

  /** Runs it now, or, while the thread is held, after what it goes on with. */
  whenFree(action: () => void): void {
    if (!this.held && this.#goingOn.length === 0) action();
    else this.#goingOn.push(action);
  }

  letGo(): void {
    if (!this.held) return;
    // A stopped thread was chosen for no signal that came meanwhile: it looks for itself.
    if (this.held === 'stop') this.work |= Work.signal;
    this.held = undefined;
    this.task.kernel.later(() => this.#goOn());
  }

  /** As letGo, but at once: only for code that touches no other state of the thread. */
  letGoNow(): void {
    this.held = undefined;
    this.#goOn();
  }

  #goOn(): void {
    while (!this.held) {
      const action = this.#goingOn.shift();
      if (!action) break;
      if (this.#goingOn.length === 0) this.work &= ~Work.event;
      action();
      if (this.#released) return;
    }
  }

  /** Being let go has been decided, but what goes on has not run yet. */
  get goingOn(): boolean {
    return !this.held && this.#goingOn.length > 0;
  }

  // Job control.

  /** The thread shall stop or trap (task_set_jobctl_pending); false if it is about to end. */
  setStopPending(bits: number, signal: number): boolean {
    if (this.ended || this.killed) return false;
    if (bits & JobControl.stopPending && signal !== 0) this.stopSignal = signal;
    this.jobControl |= bits;
    this.work |= Work.signal;
    return true;
  }

  clearStopPending(): void {
    this.jobControl &= ~(JobControl.stopPending | JobControl.stopConsume | JobControl.stopDequeued);
  }

  /** Takes part in the stop of the group; true if it was the last to do so and the parent is to be told. */
  participate(): boolean {
    const counts = (this.jobControl & JobControl.stopConsume) !== 0;
    this.clearStopPending();
    if (!counts) return false;
    const { process } = this;
    if (process.stopCount > 0) process.stopCount--;
    if (process.stopCount > 0 || process.stopped) return false;
    process.stopped = true;
    process.continued = false;
    return true;
  }

  /** A seized tracee tells its tracer that job control changed (ptrace_trap_notify). */
  notifyTrap(): void {
    if (!this.setStopPending(JobControl.trapNotify, 0)) return;
    if (this.held === 'trace' && this.jobControl & JobControl.listening) this.letGo();
    else this.wake(false);
  }

  // Life.

  fork(child: Task, process: ProcessSignalState, keepAlternateStack: boolean): TaskSignalState {
    const stack = keepAlternateStack ? this.alternateStack : noAlternateStack;
    const state = new TaskSignalState(child, process, this.#mask, stack);
    state.lastFault = this.lastFault;
    return state;
  }

  exec(): void {
    // begin_new_exec takes the stack away and leaves its flags.
    this.alternateStack = { ...noAlternateStack, flags: this.alternateStack.flags & SS_AUTODISARM };
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.ended = true;
    this.held = undefined;
    this.#goingOn = [];
    const { process } = this;
    const index = process.threads.indexOf(this);
    if (index >= 0) process.threads.splice(index, 1);
    this.#retarget(fullSet);
    this.queue.discard(fullSet);
    this.task.seccomp.threadEnded();
    if (this.jobControl & JobControl.stopPending && this.participate() && process.threads.length > 0)
      process.notifyParent(SignalCode.CLD_STOPPED);
  }
}
