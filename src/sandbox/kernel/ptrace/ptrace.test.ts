import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { PtraceEvent, PtraceOption, PtraceRequest as Request } from '../../abi/ptrace.ts';
import { Signal } from '../../abi/signal.ts';
import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import { Reg } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { Clone, codeAddress, dataAddress, Sandbox, stackTop } from '../signal/fixture.ts';
import { signalSyscalls } from '../signal/syscalls.ts';
import type { Thread } from '../task/thread.ts';
import { ptraceSyscalls } from './syscalls.ts';

const result: Syscall = { name: 'getppid', signature: '', support: 'full', handler: () => 42 };
const sum: Syscall = {
  name: 'lseek',
  signature: '',
  support: 'full',
  handler: (_task, args) => args.i32(0) + args.i32(1),
};
const exits: Syscall = {
  name: 'exit',
  signature: '',
  support: 'full',
  handler: (task, args) => {
    task.exit(args.i32(0) << 8);
    return -0x1_0001;
  },
};
const scratch = dataAddress + 0x200;

class Pair {
  readonly box = new Sandbox(signalSyscalls, ptraceSyscalls, [result, sum, exits]);
  readonly init = this.box.process();
  readonly tracer = this.box.clone(this.init);
  readonly tracee: Thread;

  constructor() {
    this.tracee = this.box.clone(this.tracer);
  }

  request(request: number, address: number | bigint = 0, data: number | bigint = 0): number | undefined {
    const answer = this.box.call(this.tracer, 'ptrace', request, this.tracee.tid, address, data);
    this.box.settle();
    return answer;
  }

  /** What wait4 would give: a status of a stop, as signal and event. */
  stop(thread = this.tracee): [signal: number, event: number] | undefined {
    const status = thread.trace.takeStop(true);
    return status === undefined ? undefined : [(status >> 8) & 0xff, status >> 16];
  }

  word(address: number): number {
    return this.box.context(this.tracer).memory.readU64(address);
  }

  seize(options = 0): void {
    assert.equal(this.request(Request.SEIZE, 0, options), 0);
  }

  interrupt(): void {
    assert.equal(this.request(Request.INTERRUPT), 0);
    assert.deepEqual(this.stop(), [Signal.SIGTRAP, PtraceEvent.STOP]);
  }
}

test('PTRACE_TRACEME makes the parent the tracer, who sees every signal before it is delivered', () => {
  const pair = new Pair();
  const { box, tracee, tracer } = pair;
  assert.equal(box.call(tracee, 'ptrace', Request.TRACEME), 0);
  assert.equal(tracee.trace.tracer, tracer);
  assert.equal(box.call(tracee, 'ptrace', Request.TRACEME), -Errno.EPERM);
  tracee.process.sendSignal({ signal: Signal.SIGTERM, code: 0 });
  box.settle();
  assert.deepEqual(pair.stop(), [Signal.SIGTERM, 0]);
  assert.equal(pair.stop(), undefined, 'told once');
  assert.ok(!box.runs(tracee));
  assert.equal(pair.request(Request.CONT, 0, 0), 0);
  assert.ok(box.runs(tracee), 'the signal was taken away');
  tracee.process.sendSignal({ signal: Signal.SIGTERM, code: 0 });
  box.settle();
  assert.equal(pair.request(Request.CONT, 0, 65), -Errno.EIO);
  assert.equal(pair.request(Request.CONT, 0, Signal.SIGTERM), 0);
  assert.equal(tracee.process.exitStatus, Signal.SIGTERM);
});

test('PTRACE_ATTACH stops with SIGSTOP; who is not stopped cannot be asked', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  assert.equal(pair.request(Request.PEEKDATA, dataAddress, scratch), -Errno.ESRCH);
  assert.equal(pair.request(Request.ATTACH), 0);
  assert.deepEqual(pair.stop(), [Signal.SIGSTOP, 0]);
  assert.equal(pair.request(Request.ATTACH), -Errno.EPERM);
  assert.equal(pair.request(Request.DETACH), 0);
  assert.ok(box.runs(tracee));
  assert.equal(tracee.trace.tracer, undefined);
  assert.equal(pair.request(Request.CONT), -Errno.ESRCH);
});

test('attaching to a stopped process makes it a stop of the tracer before the call returns', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  tracee.process.sendSignal({ signal: Signal.SIGSTOP, code: 0x80 });
  box.settle();
  assert.equal(tracee.process.signals.stopped, true);
  assert.equal(box.call(pair.tracer, 'ptrace', Request.SEIZE, tracee.tid, 0, 0), 0);
  assert.deepEqual(pair.stop(), [Signal.SIGSTOP, PtraceEvent.STOP]);
  // Let go while the group stop is in force, it joins it again.
  assert.equal(pair.request(Request.DETACH), 0);
  assert.ok(!box.runs(tracee));
  tracee.process.sendSignal({ signal: Signal.SIGCONT, code: 0x80 });
  box.settle();
  assert.ok(box.runs(tracee));
});

test('PTRACE_SYSCALL stops before and after each call, whose number, arguments and result can be changed', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.seize(PtraceOption.TRACESYSGOOD);
  pair.interrupt();
  assert.equal(pair.request(Request.SYSCALL), 0);
  assert.equal(box.call(tracee, 'getppid'), undefined);
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP | 0x80, 0]);
  assert.equal(box.rax(tracee), -Errno.ENOSYS);
  assert.equal(pair.request(Request.GET_SYSCALL_INFO, 88, scratch), 80);
  const { memory } = box.context(pair.tracer);
  const info = new Uint8Array(88);
  memory.read(scratch, info, 0, 88);
  assert.equal(info[0], 1);
  assert.equal(memory.readU32(scratch + 4), 0xc000_003e);
  assert.equal(pair.word(scratch + 24), SyscallNumber.getppid);
  // Another call with other arguments.
  assert.equal(pair.request(Request.POKEUSER, Reg.origRax * 8, SyscallNumber.lseek), 0);
  assert.equal(pair.request(Request.POKEUSER, Reg.rdi * 8, 30), 0);
  assert.equal(pair.request(Request.POKEUSER, Reg.rsi * 8, 3), 0);
  assert.equal(pair.request(Request.SYSCALL), 0);
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP | 0x80, 0]);
  assert.equal(pair.request(Request.PEEKUSER, Reg.rax * 8, scratch), 0);
  assert.equal(pair.word(scratch), 33);
  assert.equal(pair.request(Request.GET_SYSCALL_INFO, 88, scratch), 33);
  assert.equal(pair.word(scratch + 24), 33);
  assert.equal(pair.request(Request.POKEUSER, Reg.rax * 8, 7), 0);
  assert.equal(pair.request(Request.CONT), 0);
  assert.ok(box.runs(tracee));
  assert.equal(box.rax(tracee), 7);
  assert.equal(box.call(tracee, 'getppid'), 42, 'untraced again');
});

test('registers that were changed before a call stay changed after it, traced or not', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.seize();
  pair.interrupt();
  pair.request(Request.SYSCALL);
  box.call(tracee, 'getppid');
  pair.request(Request.POKEUSER, Reg.rbx * 8, 0x77);
  pair.request(Request.CONT);
  assert.equal(box.context(tracee).result, undefined, 'all registers were given, not only a result');
  assert.equal(box.rax(tracee), 42);
  assert.equal(box.call(tracee, 'getppid'), 42);
  assert.equal(box.context(tracee).result, 42, 'the next call is answered in the short way again');
});

test('number -1 skips a call, and PTRACE_SYSEMU every call', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.seize();
  pair.interrupt();
  pair.request(Request.SYSCALL);
  box.call(tracee, 'getppid');
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP, 0]);
  pair.request(Request.POKEUSER, Reg.origRax * 8, 0xffff_ffff_ffff_ffffn);
  pair.request(Request.SYSEMU);
  assert.ok(box.runs(tracee));
  assert.equal(box.rax(tracee), -Errno.ENOSYS);
  box.call(tracee, 'getppid');
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP, 0]);
  pair.request(Request.POKEUSER, Reg.rax * 8, 11);
  pair.request(Request.CONT);
  assert.equal(box.rax(tracee), 11);
});

test('memory and registers are read and written, and what may not be chosen is refused', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.seize();
  pair.interrupt();
  assert.equal(pair.request(Request.POKEDATA, dataAddress + 3, 0x1122_3344_5566_7788n), 0);
  assert.equal(pair.request(Request.PEEKTEXT, dataAddress + 3, scratch), 0);
  const word = new Uint8Array(8);
  box.context(pair.tracer).memory.read(scratch, word, 0, 8);
  assert.deepEqual([...word], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
  assert.equal(pair.request(Request.PEEKDATA, 0x1000, scratch), -Errno.EIO);
  assert.equal(pair.request(Request.PEEKDATA, dataAddress, 0x1000), -Errno.EFAULT);
  assert.equal(pair.request(Request.PEEKUSER, 4, scratch), -Errno.EIO);
  assert.equal(pair.request(Request.PEEKUSER, 912, scratch), -Errno.EIO);
  assert.equal(pair.request(Request.PEEKUSER, 848, scratch), 0);
  assert.equal(pair.request(Request.POKEUSER, 848, 0x1234), 0);
  assert.equal(pair.request(Request.PEEKUSER, 848, scratch), 0);
  assert.equal(pair.word(scratch), 0x1234);
  assert.equal(pair.request(Request.POKEUSER, 848 + 56, 1), -Errno.ENOSPC);
  assert.equal(pair.request(Request.POKEUSER, 848 + 56, 0), 0);
  assert.equal(pair.request(Request.GETREGS, 0, scratch), 0);
  assert.equal(pair.word(scratch + Reg.rip * 8), codeAddress);
  assert.equal(pair.word(scratch + Reg.origRax * 8), 2 ** 64, 'all ones: not in a call');
  box.context(pair.tracer).memory.writeU64(scratch + Reg.rbx * 8, 99);
  box.context(pair.tracer).memory.writeU64(scratch + Reg.eflags * 8, 0xffff_ffffn);
  assert.equal(pair.request(Request.SETREGS, 0, scratch), 0);
  assert.equal(box.register(tracee, Reg.rbx), 99);
  assert.equal(box.register(tracee, Reg.eflags), 0x5_4fd7, 'neither privilege nor interrupts');
  box.context(pair.tracer).memory.writeU64(scratch + Reg.cs * 8, 0x10);
  assert.equal(pair.request(Request.SETREGS, 0, scratch), -Errno.EIO);
  assert.equal(pair.request(Request.POKEUSER, Reg.fsBase * 8, 1n << 47n), -Errno.EIO);
});

test('register sets are moved through an iovec whose length becomes what there was', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.seize();
  pair.interrupt();
  const { memory } = box.context(pair.tracer);
  memory.writeU64(scratch, scratch + 64);
  memory.writeU64(scratch + 8, 4096);
  assert.equal(pair.request(Request.GETREGSET, 1, scratch), 0);
  assert.equal(pair.word(scratch + 8), 216);
  assert.equal(pair.word(scratch + 64 + Reg.rsp * 8), stackTop - 256);
  memory.writeU64(scratch + 8, 16);
  memory.writeU64(scratch + 64, 5);
  assert.equal(pair.request(Request.SETREGSET, 1, scratch), 0);
  assert.equal(box.register(tracee, Reg.r15), 5);
  memory.writeU64(scratch + 8, 7);
  assert.equal(pair.request(Request.GETREGSET, 1, scratch), -Errno.EINVAL);
  memory.writeU64(scratch + 8, 4096);
  assert.equal(pair.request(Request.GETREGSET, 0x999, scratch), -Errno.EINVAL);
  assert.equal(pair.request(Request.GETREGSET, 2, scratch), 0);
  assert.equal(pair.word(scratch + 8), 512);
});

test('clone, vfork and exit stop with their events, and children are traced before they run', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.seize(PtraceOption.TRACEFORK | PtraceOption.TRACECLONE | PtraceOption.TRACEEXIT);
  const child = box.clone(tracee);
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP, PtraceEvent.FORK]);
  assert.equal(pair.request(Request.GETEVENTMSG, 0, scratch), 0);
  assert.equal(pair.word(scratch), child.tid);
  assert.equal(child.trace.tracer, pair.tracer);
  assert.deepEqual(pair.stop(child), [Signal.SIGTRAP, PtraceEvent.STOP]);
  assert.ok(!box.runs(tracee), 'the call has not returned yet');
  assert.equal(pair.request(Request.CONT), 0);
  assert.ok(box.runs(tracee));
  assert.equal(box.rax(tracee), child.tid);
  const thread = box.clone(tracee, Clone.vm | Clone.sighand | Clone.thread, 0);
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP, PtraceEvent.CLONE]);
  assert.deepEqual(pair.stop(thread), [Signal.SIGTRAP, PtraceEvent.STOP]);
  pair.request(Request.CONT);
  box.call(tracee, 'exit', 3);
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP, PtraceEvent.EXIT]);
  pair.request(Request.GETEVENTMSG, 0, scratch);
  assert.equal(pair.word(scratch), 0x300);
  assert.equal(tracee.exitStatus, undefined);
  pair.request(Request.CONT);
  assert.equal(tracee.exitStatus, 0x300);
});

test('an attached tracee’s child starts with SIGSTOP instead', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.request(Request.ATTACH);
  assert.deepEqual(pair.stop(), [Signal.SIGSTOP, 0]);
  assert.equal(pair.request(Request.SETOPTIONS, 0, PtraceOption.TRACEFORK), 0);
  assert.equal(pair.request(Request.SETOPTIONS, 0, 0x1000), -Errno.EINVAL);
  pair.request(Request.CONT);
  const child = box.clone(tracee);
  assert.deepEqual(pair.stop(child), [Signal.SIGSTOP, 0]);
});

test('a seizing tracer sees group stops, and PTRACE_LISTEN waits for their end', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.seize();
  tracee.process.sendSignal({ signal: Signal.SIGTSTP, code: 0x80 });
  box.settle();
  assert.deepEqual(pair.stop(), [Signal.SIGTSTP, 0]);
  pair.request(Request.CONT, 0, Signal.SIGSTOP);
  assert.deepEqual(pair.stop(), [Signal.SIGSTOP, PtraceEvent.STOP]);
  assert.equal(tracee.process.signals.stopped, true);
  assert.equal(pair.request(Request.LISTEN), 0);
  assert.equal(pair.request(Request.CONT), -Errno.ESRCH, 'a listening tracee is as if it ran');
  tracee.process.sendSignal({ signal: Signal.SIGCONT, code: 0x80 });
  box.settle();
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP, PtraceEvent.STOP]);
  pair.request(Request.CONT);
  assert.deepEqual(pair.stop(), [Signal.SIGCONT, 0]);
  pair.request(Request.CONT);
  assert.ok(box.runs(tracee));
});

test('an attached tracee stops twice for a stop signal, and PTRACE_CONT wakes it from the group stop', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.request(Request.ATTACH);
  pair.stop();
  pair.request(Request.CONT);
  tracee.process.sendSignal({ signal: Signal.SIGSTOP, code: 0x80 });
  box.settle();
  assert.deepEqual(pair.stop(), [Signal.SIGSTOP, 0]);
  assert.equal(pair.request(Request.GETSIGINFO, 0, scratch), 0);
  pair.request(Request.CONT, 0, Signal.SIGSTOP);
  assert.deepEqual(pair.stop(), [Signal.SIGSTOP, 0]);
  assert.equal(pair.request(Request.GETSIGINFO, 0, scratch), -Errno.EINVAL, 'a group stop has no siginfo');
  pair.request(Request.CONT);
  assert.ok(box.runs(tracee));
});

test('siginfo of a signal-delivery-stop can be read and replaced; another signal comes from the tracer', () => {
  const pair = new Pair();
  const { box, tracee, tracer } = pair;
  const { memory } = box.context(tracee);
  memory.writeU64(dataAddress, 0x40_2000);
  memory.writeU64(dataAddress + 8, 0x0400_0004);
  memory.writeU64(dataAddress + 16, 0x40_3000);
  box.call(tracee, 'rt_sigaction', Signal.SIGUSR1, dataAddress, 0, 8);
  pair.seize();
  box.call(tracer, 'kill', tracee.tid, Signal.SIGUSR2);
  box.settle();
  assert.deepEqual(pair.stop(), [Signal.SIGUSR2, 0]);
  assert.equal(pair.request(Request.GETSIGINFO, 0, scratch), 0);
  assert.equal(box.context(tracer).memory.readU32(scratch), Signal.SIGUSR2);
  assert.equal(box.context(tracer).memory.readU32(scratch + 16), tracer.tid);
  pair.request(Request.CONT, 0, Signal.SIGUSR1);
  const frame = box.register(tracee, Reg.rsp);
  assert.equal(box.register(tracee, Reg.rip), 0x40_2000);
  assert.equal(memory.readU32(frame + 312), Signal.SIGUSR1);
  assert.equal(memory.readU32(frame + 312 + 16), tracer.tid);
});

test('single steps resume by step, and a step over a call ends with SIGTRAP after it', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.seize();
  pair.interrupt();
  pair.request(Request.SINGLESTEP);
  assert.equal(box.context(tracee).steps, 1);
  box.fault(tracee, Signal.SIGTRAP, 2, codeAddress, 1, 0);
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP, 0]);
  assert.equal(pair.request(Request.GETSIGINFO, 0, scratch), 0);
  assert.equal(box.context(pair.tracer).memory.readU32(scratch + 8), 2, 'TRAP_TRACE');
  pair.request(Request.SINGLESTEP);
  box.call(tracee, 'getppid');
  assert.deepEqual(pair.stop(), [Signal.SIGTRAP, 0]);
  assert.equal(box.rax(tracee), 42);
  pair.request(Request.CONT);
  assert.ok(box.runs(tracee));
});

test('when the tracer ends its tracees go on, or die with PTRACE_O_EXITKILL', () => {
  for (const [options, dies] of [
    [0, false],
    [PtraceOption.EXITKILL, true],
  ] as const) {
    const pair = new Pair();
    const { box, tracee, tracer } = pair;
    pair.seize(options);
    pair.interrupt();
    tracer.process.sendSignal({ signal: Signal.SIGKILL, code: 0x80 });
    box.settle();
    assert.equal(tracer.process.exitStatus, Signal.SIGKILL);
    assert.equal(tracee.trace.tracer, undefined);
    assert.equal(tracee.dead, dies);
    assert.equal(box.runs(tracee), !dies);
  }
});

test('SIGKILL ends a tracee in any stop, and the tracer cannot ask it any more', () => {
  const pair = new Pair();
  const { box, tracee } = pair;
  pair.seize();
  pair.interrupt();
  assert.equal(pair.request(Request.KILL), 0);
  assert.equal(tracee.process.exitStatus, Signal.SIGKILL);
  assert.ok(!box.runs(tracee));
});

test('only who has the same ids and is not more powerful may be traced', () => {
  const pair = new Pair();
  const { box, tracee, tracer } = pair;
  const plain = { uid: 1000, euid: 1000, suid: 1000, fsuid: 1000, permitted: 0n, effective: 0n };
  tracer.credentials = tracer.credentials.change(plain);
  assert.equal(pair.request(Request.SEIZE), -Errno.EPERM);
  tracee.credentials = tracee.credentials.change(plain);
  tracee.mm.dumpable = 0;
  assert.equal(pair.request(Request.SEIZE), -Errno.EPERM);
  tracee.mm.dumpable = 1;
  assert.equal(pair.request(Request.SEIZE, 1), -Errno.EIO);
  assert.equal(pair.request(Request.SEIZE, 0, 0x1000), -Errno.EIO);
  assert.equal(pair.request(Request.SEIZE), 0);
  assert.equal(box.call(tracer, 'ptrace', Request.ATTACH, tracer.tid, 0, 0), -Errno.EPERM);
  assert.equal(box.call(tracer, 'ptrace', Request.ATTACH, 77, 0, 0), -Errno.ESRCH);
});

test('the signal mask of a tracee can be read and set', () => {
  const pair = new Pair();
  pair.seize();
  pair.interrupt();
  const { memory } = pair.box.context(pair.tracer);
  memory.writeU64(scratch, 0x300n | (1n << 18n));
  assert.equal(pair.request(Request.SETSIGMASK, 8, scratch), 0);
  assert.equal(pair.request(Request.SETSIGMASK, 4, scratch), -Errno.EINVAL);
  assert.equal(pair.request(Request.GETSIGMASK, 8, scratch + 8), 0);
  assert.equal(pair.word(scratch + 8), 0x200, 'SIGKILL and SIGSTOP cannot be blocked');
});
