import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { FrameLayout, Signal, SignalFlag, SS_AUTODISARM, SS_DISABLE } from '../../abi/signal.ts';
import { Reg } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { BLOCKED } from '../contract.ts';
import type { Thread } from '../task/thread.ts';
import { Clone, codeAddress, dataAddress, Sandbox, stackAddress } from './fixture.ts';
import { signalSyscalls } from './syscalls.ts';

const handlerAddress = 0x40_2000;
const restorerAddress = 0x40_3000;
const action = dataAddress;
const scratch = dataAddress + 0x100;

function sandbox(): Sandbox {
  return new Sandbox(signalSyscalls);
}

function sigaction(
  box: Sandbox,
  thread: Thread,
  signal: number,
  handler: number,
  flags = 0,
  mask = 0n,
): void {
  const { memory } = box.context(thread);
  memory.writeU64(action, handler);
  memory.writeU64(action + 8, (flags | SignalFlag.SA_RESTORER) >>> 0);
  memory.writeU64(action + 16, restorerAddress);
  memory.writeU64(action + 24, mask);
  assert.equal(box.call(thread, 'rt_sigaction', signal, action, 0, 8), 0);
}

function setMask(box: Sandbox, thread: Thread, mask: bigint): void {
  box.context(thread).memory.writeU64(scratch, mask);
  box.call(thread, 'rt_sigprocmask', 2, scratch, 0, 8);
}

const bit = (signal: number): bigint => 1n << BigInt(signal - 1);

/** The handler returns through its restorer. */
function sigreturn(box: Sandbox, thread: Thread): void {
  const registers = box.context(thread).registers();
  registers[Reg.rsp] = (registers[Reg.rsp] ?? 0n) + 8n;
  box.call(thread, 'rt_sigreturn');
}

function inHandler(box: Sandbox, thread: Thread): boolean {
  return box.register(thread, Reg.rip) === handlerAddress && box.runs(thread);
}

test('a caught signal enters its handler with the frame that Linux builds, and sigreturn restores everything', () => {
  const box = sandbox();
  const thread = box.process();
  sigaction(box, thread, Signal.SIGUSR1, handlerAddress, SignalFlag.SA_SIGINFO, bit(Signal.SIGUSR2));
  const registers = box.context(thread).registers();
  registers[Reg.rbx] = 0x1111n;
  registers[Reg.r15] = 0x2222n;
  registers[Reg.eflags] = 0x647n;
  const sp = box.register(thread, Reg.rsp);
  box.call(thread, 'kill', 1, Signal.SIGUSR1);
  assert.ok(inHandler(box, thread));
  const frame = box.register(thread, Reg.rsp);
  assert.equal(frame % 16, 8);
  assert.equal(box.register(thread, Reg.rdi), Signal.SIGUSR1);
  assert.equal(box.register(thread, Reg.rsi), frame + 312);
  assert.equal(box.register(thread, Reg.rdx), frame + 8);
  assert.equal(box.register(thread, Reg.rax), 0);
  assert.equal(box.register(thread, Reg.eflags), 0x247, 'the direction flag is clear in a handler');
  const { memory } = box.context(thread);
  const word = (offset: number): number => memory.readU64(frame + offset);
  assert.equal(word(0), restorerAddress);
  assert.equal(word(FrameLayout.flags), 7);
  assert.equal(word(FrameLayout.rbx), 0x1111);
  assert.equal(word(FrameLayout.r15), 0x2222);
  assert.equal(word(FrameLayout.rax), 0, 'the result of kill');
  assert.equal(word(FrameLayout.rsp), sp);
  assert.equal(word(FrameLayout.rip), codeAddress);
  assert.equal(word(FrameLayout.eflags), 0x647);
  assert.equal(memory.readU32(frame + FrameLayout.cs), 0x33);
  assert.equal(memory.readU32(frame + FrameLayout.fs) >>> 16, 0x2b, 'ss');
  const fpstate = word(FrameLayout.fpstate);
  assert.equal(fpstate % 64, 0);
  assert.ok(fpstate >= frame + 440 && fpstate + 512 <= sp - 128, 'below the red zone');
  assert.equal(memory.readU32(frame + 312), Signal.SIGUSR1);
  assert.equal(memory.readU32(frame + 312 + 16), 1, 'si_pid');
  assert.equal(thread.signals.mask.low, Number(bit(Signal.SIGUSR1) | bit(Signal.SIGUSR2)));
  registers[Reg.rbx] = 0n;
  sigreturn(box, thread);
  assert.equal(box.register(thread, Reg.rip), codeAddress);
  assert.equal(box.register(thread, Reg.rsp), sp);
  assert.equal(box.register(thread, Reg.rbx), 0x1111);
  assert.equal(box.register(thread, Reg.eflags), 0x647);
  assert.deepEqual(thread.signals.mask, { low: 0, high: 0 });
});

test('a fault shows its trap, error code and address in the frame, and so do later frames', () => {
  const box = sandbox();
  const thread = box.process();
  sigaction(box, thread, Signal.SIGSEGV, handlerAddress, SignalFlag.SA_SIGINFO);
  box.fault(thread, Signal.SIGSEGV, 1, 0xdead000);
  assert.ok(inHandler(box, thread));
  const { memory } = box.context(thread);
  const frame = box.register(thread, Reg.rsp);
  assert.equal(memory.readU64(frame + FrameLayout.error), 6);
  assert.equal(memory.readU64(frame + FrameLayout.trap), 14);
  assert.equal(memory.readU64(frame + FrameLayout.cr2), 0xdead000);
  assert.equal(memory.readU32(frame + 312 + 8), 1, 'SEGV_MAPERR');
  assert.equal(memory.readU64(frame + 312 + 16), 0xdead000, 'si_addr');
});

test('a fault whose signal is blocked or ignored ends the process', () => {
  for (const prepare of [
    (box: Sandbox, thread: Thread) => setMask(box, thread, bit(Signal.SIGSEGV)),
    (box: Sandbox, thread: Thread) => sigaction(box, thread, Signal.SIGSEGV, 1),
  ]) {
    const box = sandbox();
    box.process();
    const thread = box.process();
    prepare(box, thread);
    box.fault(thread, Signal.SIGSEGV, 1, 0);
    box.settle();
    assert.equal(thread.process.exitStatus, Signal.SIGSEGV);
  }
});

test('a handler that cannot get its frame becomes SIGSEGV, and a SIGSEGV handler that cannot, death', () => {
  const box = sandbox();
  box.process();
  const thread = box.process();
  sigaction(box, thread, Signal.SIGUSR1, handlerAddress);
  sigaction(box, thread, Signal.SIGSEGV, handlerAddress + 64);
  box.context(thread).registers()[Reg.rsp] = BigInt(stackAddress);
  box.call(thread, 'kill', thread.tid, Signal.SIGUSR1);
  box.settle();
  assert.equal(thread.process.exitStatus, Signal.SIGSEGV);
});

test('the alternate stack is used, seen, refused while in use, and forgotten with SS_AUTODISARM', () => {
  const box = sandbox();
  const thread = box.process();
  const { memory } = box.context(thread);
  const alternate = dataAddress + 0x1000;
  const setStack = (flags: number, size = 0x1000): number | undefined => {
    memory.writeU64(scratch, alternate);
    memory.writeU64(scratch + 8, flags);
    memory.writeU64(scratch + 16, size);
    return box.call(thread, 'sigaltstack', scratch, 0);
  };
  const queryFlags = (): number => {
    assert.equal(box.call(thread, 'sigaltstack', 0, scratch), 0);
    return memory.readU32(scratch + 8);
  };
  assert.equal(queryFlags(), SS_DISABLE);
  assert.equal(setStack(0, 100), -Errno.ENOMEM);
  assert.equal(setStack(7), -Errno.EINVAL);
  assert.equal(setStack(0), 0);
  assert.equal(queryFlags(), 0);
  sigaction(box, thread, Signal.SIGUSR1, handlerAddress, SignalFlag.SA_ONSTACK);
  box.call(thread, 'kill', thread.tid, Signal.SIGUSR1);
  const sp = box.register(thread, Reg.rsp);
  assert.ok(sp > alternate && sp < alternate + 0x1000);
  assert.equal(queryFlags(), 1, 'SS_ONSTACK');
  assert.equal(setStack(0, 0x800), -Errno.EPERM);
  sigreturn(box, thread);
  assert.equal(queryFlags(), 0);
  assert.equal(setStack(SS_AUTODISARM), 0);
  box.call(thread, 'kill', thread.tid, Signal.SIGUSR1);
  assert.equal(queryFlags(), SS_DISABLE, 'forgotten in the handler');
  sigreturn(box, thread);
  assert.equal(queryFlags(), SS_AUTODISARM, 'and back after it');
});

test('a standard signal waits once, real-time signals queue until RLIMIT_SIGPENDING', () => {
  const box = sandbox();
  const thread = box.process();
  setMask(box, thread, bit(Signal.SIGUSR1) | bit(40));
  const limit = { soft: 3, hard: 3 };
  thread.process.limits[11] = limit;
  const { memory } = box.context(thread);
  const queue = (signal: number, value: number): number | undefined => {
    memory.clear(scratch, 128);
    memory.writeU32(scratch + 8, 0xffff_ffff);
    memory.writeU64(scratch + 24, value);
    return box.call(thread, 'rt_sigqueueinfo', 1, signal, scratch);
  };
  assert.equal(queue(Signal.SIGUSR1, 1), 0);
  assert.equal(queue(Signal.SIGUSR1, 2), 0);
  assert.equal(queue(40, 3), 0);
  assert.equal(queue(40, 4), 0);
  assert.equal(queue(40, 5), -Errno.EAGAIN);
  assert.equal(thread.process.signals.queued, 3);
  const take = (): [number | undefined, number] => {
    memory.writeU64(scratch + 512, bit(Signal.SIGUSR1) | bit(40));
    memory.clear(scratch + 528, 16);
    const signal = box.call(thread, 'rt_sigtimedwait', scratch + 512, scratch, scratch + 528, 8);
    return [signal, memory.readU32(scratch + 24)];
  };
  assert.deepEqual(take(), [Signal.SIGUSR1, 1]);
  assert.deepEqual(take(), [40, 3]);
  assert.deepEqual(take(), [40, 4]);
  assert.equal(take()[0], -Errno.EAGAIN);
  assert.equal(thread.process.signals.queued, 0);
});

test('a process may not pretend that the kernel or kill(2) sent what it queues, but to itself', () => {
  const box = sandbox();
  const thread = box.process();
  const other = box.clone(thread);
  const { memory } = box.context(thread);
  memory.clear(scratch, 128);
  assert.equal(box.call(thread, 'rt_sigqueueinfo', other.tid, 0, scratch), -Errno.EPERM);
  assert.equal(box.call(thread, 'rt_sigqueueinfo', 1, 0, scratch), 0);
  memory.writeU32(scratch + 8, 0xffff_ffff);
  assert.equal(box.call(thread, 'rt_sigqueueinfo', other.tid, 0, scratch), 0);
});

test('a blocked call ends with EINTR or begins again, as SA_RESTART and its restart code say', () => {
  const codes = [Errno.ERESTARTSYS, Errno.ERESTARTNOINTR, Errno.ERESTARTNOHAND, Errno.ERESTART_RESTARTBLOCK];
  for (const flags of [0, SignalFlag.SA_RESTART]) {
    for (const code of codes) {
      const waits: Syscall = {
        name: 'read',
        signature: '',
        support: 'full',
        handler: (task) => task.block({ on: [], retry: () => BLOCKED, interrupted: () => -code }),
      };
      const box = new Sandbox(signalSyscalls, [waits]);
      const thread = box.process();
      sigaction(box, thread, Signal.SIGUSR1, handlerAddress, flags);
      assert.equal(box.call(thread, 'read'), undefined);
      thread.process.sendSignal({ signal: Signal.SIGUSR1, code: 0x80 });
      box.settle();
      assert.ok(inHandler(box, thread));
      sigreturn(box, thread);
      const restarted =
        code === Errno.ERESTARTNOINTR || (code === Errno.ERESTARTSYS && flags === SignalFlag.SA_RESTART);
      assert.equal(box.rax(thread), restarted ? 0 : -Errno.EINTR);
      assert.equal(box.register(thread, Reg.rip), restarted ? codeAddress - 2 : codeAddress);
    }
  }
});

test('a call with a time-out that no handler interrupted goes on through restart_syscall', () => {
  const waits: Syscall = {
    name: 'nanosleep',
    signature: '',
    support: 'full',
    handler: (task) => {
      task.restart = () => 77;
      return task.block({ on: [], retry: () => BLOCKED, interrupted: () => -Errno.ERESTART_RESTARTBLOCK });
    },
  };
  const box = new Sandbox(signalSyscalls, [waits]);
  box.process();
  const thread = box.process();
  assert.equal(box.call(thread, 'nanosleep'), undefined);
  thread.process.sendSignal({ signal: Signal.SIGSTOP, code: 0x80 });
  box.settle();
  thread.process.sendSignal({ signal: Signal.SIGCONT, code: 0x80 });
  box.settle();
  assert.equal(box.rax(thread), 219);
  assert.equal(box.call(thread, 'restart_syscall'), 77);
  assert.equal(box.call(thread, 'restart_syscall'), -Errno.EINTR);
});

test('a call interrupted by a signal that nobody handles begins again', () => {
  const box = sandbox();
  const thread = box.process();
  const rip = box.register(thread, Reg.rip);
  assert.equal(box.call(thread, 'pause'), undefined);
  thread.process.sendSignal({ signal: Signal.SIGSTOP, code: 0x80 });
  box.settle();
  assert.equal(thread.process.signals.stopped, true);
  thread.process.sendSignal({ signal: Signal.SIGCONT, code: 0x80 });
  box.settle();
  assert.ok(box.runs(thread));
  assert.equal(box.register(thread, Reg.rip), rip - 2);
  assert.equal(box.rax(thread), 34, 'pause itself again');
});

test('sigsuspend keeps its mask until the handler runs, and the handler returns to the old one', () => {
  const box = sandbox();
  const thread = box.process();
  sigaction(box, thread, Signal.SIGUSR1, handlerAddress);
  setMask(box, thread, bit(Signal.SIGUSR1));
  thread.process.sendSignal({ signal: Signal.SIGUSR1, code: 0 });
  box.settle();
  assert.ok(!inHandler(box, thread));
  const { memory } = box.context(thread);
  memory.writeU64(scratch, bit(Signal.SIGUSR2));
  box.call(thread, 'rt_sigsuspend', scratch, 8);
  box.settle();
  assert.ok(inHandler(box, thread));
  assert.equal(thread.signals.mask.low, Number(bit(Signal.SIGUSR1) | bit(Signal.SIGUSR2)));
  sigreturn(box, thread);
  assert.equal(thread.signals.mask.low, Number(bit(Signal.SIGUSR1)));
  assert.equal(box.rax(thread), -Errno.EINTR);
});

test('sigtimedwait takes a blocked signal when it comes, and gives up at its time', () => {
  const box = sandbox();
  const thread = box.process();
  setMask(box, thread, bit(Signal.SIGUSR1));
  const { memory } = box.context(thread);
  memory.writeU64(scratch, bit(Signal.SIGUSR1));
  memory.writeU64(scratch + 16, 1);
  memory.writeU64(scratch + 24, 0);
  assert.equal(box.call(thread, 'rt_sigtimedwait', scratch, 0, scratch + 16, 8), undefined);
  thread.process.sendSignal({ signal: Signal.SIGUSR1, code: 0 });
  box.settle();
  assert.equal(box.rax(thread), Signal.SIGUSR1);
  assert.equal(thread.signals.mask.low, Number(bit(Signal.SIGUSR1)));
  assert.equal(box.call(thread, 'rt_sigtimedwait', scratch, 0, scratch + 16, 8), undefined);
  box.advance(1_000_000_000);
  assert.equal(box.rax(thread), -Errno.EAGAIN);
});

test('a running program is interrupted by a signal', () => {
  const box = sandbox();
  const thread = box.process();
  sigaction(box, thread, Signal.SIGUSR1, handlerAddress);
  box.context(thread).registers()[Reg.rax] = BigInt.asUintN(64, -512n);
  thread.process.sendSignal({ signal: Signal.SIGUSR1, code: 0 });
  box.settle();
  assert.ok(inHandler(box, thread));
  const saved = box.context(thread).memory.readU64(box.register(thread, Reg.rsp) + FrameLayout.rax);
  assert.equal(saved, 2 ** 64 - 512, 'what looks like a restart code is the program’s own');
});

test('a signal for the process goes to a thread that does not block it; a deadly one ends all threads', () => {
  const box = sandbox();
  box.process();
  const leader = box.process();
  const thread = box.clone(leader, Clone.vm | Clone.sighand | Clone.thread, 0);
  sigaction(box, leader, Signal.SIGUSR1, handlerAddress);
  setMask(box, leader, bit(Signal.SIGUSR1));
  leader.process.sendSignal({ signal: Signal.SIGUSR1, code: 0 });
  box.settle();
  assert.ok(inHandler(box, thread));
  assert.ok(!inHandler(box, leader));
  assert.equal(box.call(leader, 'pause'), undefined);
  leader.process.sendSignal({ signal: Signal.SIGTERM, code: 0 });
  box.settle();
  assert.equal(leader.process.exitStatus, Signal.SIGTERM);
  assert.equal(leader.process.tasks.length, 0);
});

test('a signal that its thread blocks after it was chosen goes to another thread', () => {
  const box = sandbox();
  const leader = box.process();
  const thread = box.clone(leader, Clone.vm | Clone.sighand | Clone.thread, 0);
  sigaction(box, leader, Signal.SIGUSR1, handlerAddress);
  setMask(box, thread, bit(Signal.SIGUSR1));
  setMask(box, leader, bit(Signal.SIGUSR1));
  leader.process.sendSignal({ signal: Signal.SIGUSR1, code: 0 });
  box.settle();
  setMask(box, thread, 0n);
  box.settle();
  assert.ok(inHandler(box, thread));
});

test('stop signals stop all threads and tell the parent once; SIGCONT lets them go on and tells it again', () => {
  const box = sandbox();
  const parent = box.process();
  sigaction(box, parent, Signal.SIGCHLD, handlerAddress, SignalFlag.SA_SIGINFO);
  const leader = box.clone(parent);
  const thread = box.clone(leader, Clone.vm | Clone.sighand | Clone.thread, 0);
  leader.process.sendSignal({ signal: Signal.SIGSTOP, code: 0x80 });
  box.settle();
  assert.ok(!box.runs(leader) && !box.runs(thread));
  assert.ok(inHandler(box, parent));
  const { memory } = box.context(parent);
  const frame = box.register(parent, Reg.rsp);
  assert.equal(memory.readU32(frame + 312 + 8), 5, 'CLD_STOPPED');
  assert.equal(memory.readU32(frame + 312 + 16), leader.tid);
  assert.equal(memory.readU32(frame + 312 + 24), Signal.SIGSTOP);
  assert.equal(leader.process.signals.takeStopped(false), Signal.SIGSTOP);
  assert.equal(leader.process.signals.takeStopped(true), Signal.SIGSTOP);
  assert.equal(leader.process.signals.takeStopped(true), undefined);
  sigreturn(box, parent);
  leader.process.sendSignal({ signal: Signal.SIGCONT, code: 0x80 });
  box.settle();
  assert.ok(box.runs(leader) && box.runs(thread));
  assert.equal(memory.readU32(box.register(parent, Reg.rsp) + 312 + 8), 6, 'CLD_CONTINUED');
  assert.equal(leader.process.signals.takeContinued(true), true);
  assert.equal(leader.process.signals.takeContinued(true), false);
});

test('SA_NOCLDSTOP keeps stops from the parent', () => {
  const box = sandbox();
  const parent = box.process();
  sigaction(box, parent, Signal.SIGCHLD, handlerAddress, SignalFlag.SA_NOCLDSTOP);
  const child = box.clone(parent);
  child.process.sendSignal({ signal: Signal.SIGSTOP, code: 0x80 });
  box.settle();
  assert.ok(!inHandler(box, parent));
  assert.equal(child.process.signals.stopped, true);
});

test('stop and continue signals discard each other while they wait', () => {
  const box = sandbox();
  const parent = box.process();
  const child = box.clone(parent);
  setMask(box, child, bit(Signal.SIGTSTP) | bit(Signal.SIGCONT));
  child.process.sendSignal({ signal: Signal.SIGTSTP, code: 0 });
  child.process.sendSignal({ signal: Signal.SIGCONT, code: 0 });
  assert.equal(child.process.signals.pending.low, Number(bit(Signal.SIGCONT)));
  child.process.sendSignal({ signal: Signal.SIGTSTP, code: 0 });
  assert.equal(child.process.signals.pending.low, Number(bit(Signal.SIGTSTP)));
});

test('terminal stops do nothing to an orphaned group, SIGSTOP does', () => {
  const box = sandbox();
  const thread = box.process();
  assert.equal(thread.process.group.orphaned, true);
  thread.process.sendSignal({ signal: Signal.SIGTSTP, code: 0x80 });
  box.settle();
  assert.ok(box.runs(thread));
});

test('SIGKILL ends a stopped process', () => {
  const box = sandbox();
  const parent = box.process();
  const child = box.clone(parent);
  child.process.sendSignal({ signal: Signal.SIGSTOP, code: 0x80 });
  box.settle();
  assert.equal(box.call(parent, 'kill', child.tid, Signal.SIGKILL), 0);
  box.settle();
  assert.equal(child.process.exitStatus, Signal.SIGKILL);
});

test('number 1 of a PID namespace does not get from inside what it does not handle', () => {
  const box = sandbox();
  const init = box.process();
  const child = box.clone(init);
  for (const signal of [Signal.SIGTERM, Signal.SIGKILL, Signal.SIGSTOP, Signal.SIGSEGV]) {
    assert.equal(box.call(child, 'kill', 1, signal), 0);
    box.settle();
    assert.ok(box.runs(init), `signal ${signal}`);
  }
  init.process.sendSignal({ signal: Signal.SIGTERM, code: 0 });
  box.settle();
  assert.ok(box.runs(init), 'not even from outside');
  init.process.sendSignal({ signal: Signal.SIGKILL, code: 0 });
  box.settle();
  assert.equal(init.process.exitStatus, Signal.SIGKILL);
});

test('kill finds processes, groups and everybody, and says ESRCH and EINVAL as Linux does', () => {
  const box = sandbox();
  const init = box.process();
  const parent = box.clone(init);
  const child = box.clone(parent);
  assert.equal(box.call(parent, 'kill', 99, 0), -Errno.ESRCH);
  assert.equal(box.call(parent, 'kill', -99, 0), -Errno.ESRCH);
  assert.equal(box.call(parent, 'kill', -0x8000_0000, 0), -Errno.ESRCH);
  assert.equal(box.call(parent, 'kill', child.tid, 65), -Errno.EINVAL);
  assert.equal(box.call(parent, 'kill', 99, 65), -Errno.ESRCH);
  assert.equal(box.call(parent, 'kill', child.tid, -1), -Errno.EINVAL);
  assert.equal(box.call(parent, 'tgkill', parent.tid, child.tid, 0), -Errno.ESRCH);
  assert.equal(box.call(parent, 'tgkill', child.tid, child.tid, 0), 0);
  assert.equal(box.call(parent, 'tkill', 0, 0), -Errno.EINVAL);
  for (const thread of [parent, child]) sigaction(box, thread, Signal.SIGUSR1, handlerAddress);
  assert.equal(box.call(parent, 'kill', -1, Signal.SIGUSR1), 0);
  box.settle();
  assert.ok(inHandler(box, child));
  assert.ok(!inHandler(box, parent), 'the sender itself is left out');
  sigreturn(box, child);
  box.call(parent, 'kill', 0, Signal.SIGUSR1);
  box.settle();
  assert.ok(inHandler(box, child) && inHandler(box, parent));
});

test('a signal that becomes ignored is discarded, and rt_sigaction tells what was there before', () => {
  const box = sandbox();
  const thread = box.process();
  const { memory } = box.context(thread);
  setMask(box, thread, bit(Signal.SIGUSR1));
  thread.process.sendSignal({ signal: Signal.SIGUSR1, code: 0 });
  assert.equal(box.call(thread, 'rt_sigpending', scratch, 8), 0);
  assert.equal(memory.readU64(scratch), Number(bit(Signal.SIGUSR1)));
  sigaction(box, thread, Signal.SIGUSR1, 1, 0x400 | SignalFlag.SA_RESTART, 0xffff_ffff_ffff_ffffn);
  assert.equal(box.call(thread, 'rt_sigpending', scratch, 8), 0);
  assert.equal(memory.readU64(scratch), 0);
  assert.equal(box.call(thread, 'rt_sigaction', Signal.SIGUSR1, 0, scratch, 8), 0);
  assert.equal(memory.readU64(scratch), 1);
  assert.equal(
    memory.readU64(scratch + 8),
    SignalFlag.SA_RESTART | SignalFlag.SA_RESTORER,
    'no unknown flags',
  );
  const bytes = new Uint8Array(8);
  memory.read(scratch + 24, bytes, 0, 8);
  assert.deepEqual([...bytes], [0xff, 0xfe, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff]);
  assert.equal(box.call(thread, 'rt_sigaction', Signal.SIGKILL, action, 0, 8), -Errno.EINVAL);
  assert.equal(box.call(thread, 'rt_sigaction', Signal.SIGKILL, 0, scratch, 8), 0);
  assert.equal(box.call(thread, 'rt_sigaction', 0, 0, 0, 8), -Errno.EINVAL);
  assert.equal(box.call(thread, 'rt_sigaction', 1, 0, 0, 4), -Errno.EINVAL);
});

test('sigreturn with a hostile frame is SIGSEGV, never more', () => {
  const changes: ((box: Sandbox, thread: Thread, frame: number) => void)[] = [
    (box, thread, frame) => void box.context(thread).memory.writeU64(frame + FrameLayout.rip, 1n << 63n),
    (box, thread, frame) => void box.context(thread).memory.writeU64(frame + FrameLayout.fpstate, 1n << 63n),
    (box, thread, frame) => void box.context(thread).memory.writeU64(frame + FrameLayout.fpstate, 8),
    (box, thread, frame) =>
      void box.context(thread).memory.writeU64(frame + FrameLayout.cs, 0x2b_0000_0000_0023n),
    (box, thread) => {
      box.context(thread).registers()[Reg.rsp] = 0x7777_0000n;
    },
    (box, thread) => {
      box.context(thread).registers()[Reg.rsp] = 0xffff_ffff_ffff_0000n;
    },
  ];
  for (const change of changes) {
    const box = sandbox();
    box.process();
    const thread = box.process();
    sigaction(box, thread, Signal.SIGUSR1, handlerAddress);
    box.call(thread, 'kill', thread.tid, Signal.SIGUSR1);
    change(box, thread, box.register(thread, Reg.rsp));
    sigreturn(box, thread);
    box.settle();
    assert.equal(thread.process.exitStatus, Signal.SIGSEGV);
  }
});

test('several pending signals nest their handlers, the last one to be entered runs first', () => {
  const box = sandbox();
  const thread = box.process();
  sigaction(box, thread, Signal.SIGUSR1, handlerAddress);
  sigaction(box, thread, Signal.SIGUSR2, handlerAddress + 64);
  setMask(box, thread, bit(Signal.SIGUSR1) | bit(Signal.SIGUSR2));
  thread.process.sendSignal({ signal: Signal.SIGUSR2, code: 0 });
  thread.process.sendSignal({ signal: Signal.SIGUSR1, code: 0 });
  setMask(box, thread, 0n);
  assert.equal(box.register(thread, Reg.rip), handlerAddress + 64);
  sigreturn(box, thread);
  assert.equal(box.register(thread, Reg.rip), handlerAddress);
  sigreturn(box, thread);
  assert.equal(box.register(thread, Reg.rip), codeAddress);
});

test('SA_RESETHAND handles once, SA_NODEFER lets the signal come again at once', () => {
  const box = sandbox();
  box.process();
  const thread = box.process();
  sigaction(box, thread, Signal.SIGUSR1, handlerAddress, SignalFlag.SA_RESETHAND | SignalFlag.SA_NODEFER);
  box.call(thread, 'kill', thread.tid, Signal.SIGUSR1);
  assert.ok(inHandler(box, thread));
  assert.deepEqual(thread.signals.mask, { low: 0, high: 0 });
  box.call(thread, 'kill', thread.tid, Signal.SIGUSR1);
  box.settle();
  assert.equal(thread.process.exitStatus, Signal.SIGUSR1);
});

test('users may only signal their own processes, but SIGCONT reaches all of the session', () => {
  const box = sandbox();
  const init = box.process();
  const a = box.clone(init);
  const b = box.clone(init);
  const as = (thread: Thread, uid: number): void => {
    thread.credentials = thread.credentials.change({
      uid,
      euid: uid,
      suid: uid,
      fsuid: uid,
      permitted: 0n,
      effective: 0n,
    });
  };
  as(a, 1000);
  as(b, 1001);
  assert.equal(box.call(a, 'kill', b.tid, 0), -Errno.EPERM);
  assert.equal(box.call(a, 'kill', b.tid, Signal.SIGCONT), 0);
  assert.equal(box.call(a, 'kill', init.tid, Signal.SIGTERM), -Errno.EPERM);
  as(b, 1000);
  assert.equal(box.call(a, 'kill', b.tid, 0), 0);
});
