// The seccomp modes of a thread and what they do with a system call (__seccomp_filter of kernel/seccomp.c). Filters form
// a chain that threads share: a new filter points to those before it, and all of a chain are asked.

import { Errno } from '../../abi/errno.ts';
import { maximumPath, SECCOMP_RET_ACTION_FULL, SECCOMP_RET_DATA, SeccompAction } from '../../abi/seccomp.ts';
import { auditArch, Signal, SignalCode } from '../../abi/signal.ts';
import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import { Reg } from '../../platform/contract.ts';
import type { Task } from '../contract.ts';
import { signalsOf } from '../signal/task-signals.ts';
import type { FilterProgram } from './bpf.ts';
import type { Seccomp } from './contract.ts';
import type { SeccompListener } from './listener.ts';

type Then = (allowed: boolean, changed: boolean) => void;

/** SECCOMP_MODE_DISABLED. */
export const noSeccomp: Seccomp = {
  mode: 0,
  filters: 0,
  judge: (_task, _number, then) => then(true, false),
  threadEnded: () => undefined,
};

const strictCalls = new Set<number>([
  SyscallNumber.read,
  SyscallNumber.write,
  SyscallNumber.exit,
  SyscallNumber.rt_sigreturn,
]);

/** SECCOMP_MODE_STRICT: anything but four calls ends the thread as if killed. */
export const strictSeccomp: Seccomp = {
  mode: 1,
  filters: 0,
  judge(task, number, then) {
    if (strictCalls.has(number)) {
      then(true, false);
      return;
    }
    task.exit(Signal.SIGKILL);
    then(false, false);
  },
  threadEnded: () => undefined,
};

const argumentRegisters = [Reg.rdi, Reg.rsi, Reg.rdx, Reg.r10, Reg.r8, Reg.r9] as const;
const maximumErrno = 4095;
/** Calls whose verdict is remembered, by number. */
const cachedCalls = 512;
const unknown = -1;

/** The action as Linux compares actions: as a signed number, the lowest wins. */
function precedence(value: number): number {
  return (value & SECCOMP_RET_ACTION_FULL) | 0;
}

export class FilterChain implements Seccomp {
  readonly mode = 2;
  readonly filters: number;
  readonly previous: FilterChain | undefined;
  /** Where calls go that this filter answers with USER_NOTIF. */
  listener: SeccompListener | undefined;
  readonly #program: FilterProgram;
  /** Verdicts of the whole chain that hold whatever the arguments are; else `unknown`. */
  readonly #known = new Float64Array(cachedCalls).fill(unknown);
  readonly #data = new Uint32Array(16);
  /** The filter whose word counted in the last run. */
  #match: FilterChain | undefined;

  constructor(program: FilterProgram, previous: FilterChain | undefined) {
    this.#program = program;
    this.previous = previous;
    this.filters = (previous?.filters ?? 0) + 1;
  }

  /** Whether a filter of this length finds room behind these: 0 or -ENOMEM. */
  static roomFor(length: number, chain: FilterChain | undefined): number {
    let total = length;
    for (let at = chain; at; at = at.previous) total += at.#program.length + 4;
    return total > maximumPath ? -Errno.ENOMEM : 0;
  }

  /** This chain is the other one or one that it was built on. */
  isAncestorOf(other: FilterChain | undefined): boolean {
    for (let at = other; at; at = at.previous) if (at === this) return true;
    return false;
  }

  /** A listener that is open, in this chain: there can be only one. */
  hasListener(): boolean {
    for (let at: FilterChain | undefined = this; at; at = at.previous)
      if (at.listener && !at.listener.detached) return true;
    return false;
  }

  threadEnded(): void {
    for (let at: FilterChain | undefined = this; at; at = at.previous) at.listener?.threadEnded();
  }

  /** struct seccomp_data of the call that the registers hold. */
  #describe(task: Task, number: number): Uint32Array {
    const registers = task.context.registers();
    const data = this.#data;
    const put = (index: number, value: bigint): void => {
      data[index] = Number(BigInt.asUintN(32, value));
      data[index + 1] = Number(value >> 32n);
    };
    data[0] = number >>> 0;
    data[1] = auditArch;
    put(2, registers[Reg.rip] ?? 0n);
    for (const [index, register] of argumentRegisters.entries())
      put(4 + index * 2, registers[register] ?? 0n);
    return data;
  }

  /** What all filters together say about the call in the task's registers: SECCOMP_RET_* with data. */
  verdict(task: Task, number: number): number {
    const known = number >= 0 && number < cachedCalls ? (this.#known[number] ?? unknown) : unknown;
    if (known !== unknown) return known;
    const data = this.#describe(task, number);
    let result: number = SeccompAction.ALLOW;
    let variable = false;
    let match: FilterChain | undefined;
    for (let at: FilterChain | undefined = this; at; at = at.previous) {
      const one = at.#program.run(data);
      variable ||= one.variable;
      if (precedence(one.value) < precedence(result)) {
        result = one.value;
        match = at;
      }
    }
    this.#match = match;
    if ((result & SECCOMP_RET_ACTION_FULL) >>> 0 === SeccompAction.USER_NOTIF) return result;
    if (!variable && number >= 0 && number < cachedCalls) this.#known[number] = result;
    return result;
  }

  judge(task: Task, number: number, then: Then): void {
    this.#judge(task, number, false, then);
  }

  #judge(task: Task, number: number, traced: boolean, then: Then): void {
    const value = this.verdict(task, number);
    const data = value & SECCOMP_RET_DATA;
    switch ((value & SECCOMP_RET_ACTION_FULL) >>> 0) {
      case SeccompAction.ALLOW:
        then(true, traced);
        return;
      case SeccompAction.LOG:
        task.kernel.log.debug(`seccomp: ${task.name} (${task.tid}) calls ${number}, which its filter logs`);
        then(true, traced);
        return;
      case SeccompAction.ERRNO:
        answer(task, -Math.min(data, maximumErrno));
        then(false, traced);
        return;
      case SeccompAction.TRAP:
        rollBack(task);
        raise(task, number, data, false);
        then(false, traced);
        return;
      case SeccompAction.TRACE:
        this.#trace(task, data, traced, then);
        return;
      case SeccompAction.USER_NOTIF:
        this.#ask(task, number, traced, then);
        return;
      case SeccompAction.KILL_THREAD:
        if (signalsOf(task).process.threads.length > 1) {
          task.exit(Signal.SIGSYS);
          then(false, traced);
          return;
        }
        kill(task, number, data, traced, then);
        return;
      default:
        kill(task, number, data, traced, then);
    }
  }

  /** Hands the call to the filter's listener. */
  #ask(task: Task, number: number, traced: boolean, then: Then): void {
    const listener = this.#match?.listener;
    if (!listener || listener.detached) {
      answer(task, -Errno.ENOSYS);
      then(false, traced);
      return;
    }
    const data = new Uint8Array(this.#describe(task, number).slice().buffer);
    listener.ask(task, data, (reply) => {
      if (reply.kind === 'continue') {
        then(true, traced);
        return;
      }
      const result = reply.kind === 'result' ? reply.value : BigInt(-Errno.ERESTARTSYS);
      task.context.registers()[Reg.rax] = BigInt.asUintN(64, result);
      then(false, traced);
    });
  }

  /** Asks the tracer, and then the filters again about what it made of the call. */
  #trace(task: Task, data: number, traced: boolean, then: Then): void {
    if (traced) {
      then(true, true);
      return;
    }
    answer(task, -Errno.ENOSYS);
    const asked = task.trace.seccompStop(data, () => {
      const number = Number(BigInt.asIntN(32, task.context.registers()[Reg.origRax] ?? 0n));
      if (task.signals.killed || number < 0) then(false, true);
      else this.#judge(task, number, true, then);
    });
    if (!asked) then(false, false);
  }
}

function answer(task: Task, result: number): void {
  task.context.registers()[Reg.rax] = BigInt.asUintN(64, BigInt(result));
}

/** The registers as before the call (syscall_rollback). */
function rollBack(task: Task): void {
  const registers = task.context.registers();
  registers[Reg.rax] = registers[Reg.origRax] ?? 0n;
}

function raise(task: Task, number: number, data: number, fatal: boolean): void {
  const address = Number(task.context.registers()[Reg.rip] ?? 0n);
  signalsOf(task).forceSignal(
    { signal: Signal.SIGSYS, code: SignalCode.SYS_SECCOMP, errno: data, address, syscall: number },
    fatal,
  );
}

function kill(task: Task, number: number, data: number, traced: boolean, then: Then): void {
  rollBack(task);
  raise(task, number, data, true);
  then(false, traced);
}
