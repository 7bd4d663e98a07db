import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { PtraceEvent, PtraceOption, PtraceRequest } from '../../abi/ptrace.ts';
import { Bpf, SeccompAction, SeccompFlag } from '../../abi/seccomp.ts';
import { Signal } from '../../abi/signal.ts';
import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import { Reg } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { ptraceSyscalls } from '../ptrace/syscalls.ts';
import { Clone, codeAddress, dataAddress, Sandbox } from '../signal/fixture.ts';
import { signalSyscalls } from '../signal/syscalls.ts';
import type { Thread } from '../task/thread.ts';
import { seccompSyscalls, setSeccomp } from './syscalls.ts';

type Instruction = readonly [code: number, k?: number, jt?: number, jf?: number];

const answers: Syscall = { name: 'getppid', signature: '', support: 'full', handler: () => 42 };
const reads: Syscall = { name: 'read', signature: '', support: 'full', handler: () => 5 };
const program = dataAddress;
const filter = dataAddress + 16;

function sandbox(): Sandbox {
  return new Sandbox(signalSyscalls, ptraceSyscalls, seccompSyscalls, [answers, reads]);
}

/** Puts the filter into the program's memory; the address of its sock_fprog. */
function put(box: Sandbox, thread: Thread, instructions: readonly Instruction[]): number {
  const { memory } = box.context(thread);
  memory.writeU64(program, instructions.length);
  memory.writeU64(program + 8, filter);
  for (const [index, [code, k = 0, jt = 0, jf = 0]] of instructions.entries()) {
    memory.writeU32(filter + index * 8, code | (jt << 16) | (jf << 24));
    memory.writeU32(filter + index * 8 + 4, k >>> 0);
  }
  return program;
}

function install(
  box: Sandbox,
  thread: Thread,
  instructions: readonly Instruction[],
  flags = 0,
): number | undefined {
  return box.call(thread, 'seccomp', 1, flags, put(box, thread, instructions));
}

/** getppid gets this, everything else is allowed. */
function onGetppid(action: number): Instruction[] {
  return [
    [Bpf.LD_W_ABS, 0],
    [Bpf.JEQ_K, SyscallNumber.getppid, 0, 1],
    [Bpf.RET_K, action],
    [Bpf.RET_K, SeccompAction.ALLOW],
  ];
}

test('a filter answers with errno, at most 4095, and leaves other calls alone', () => {
  const box = sandbox();
  const thread = box.process();
  assert.equal(install(box, thread, onGetppid(SeccompAction.ERRNO | 13)), 0);
  assert.equal(thread.seccomp.mode, 2);
  assert.equal(thread.seccomp.filters, 1);
  assert.equal(box.call(thread, 'getppid'), -13);
  assert.equal(box.call(thread, 'getppid'), -13, 'from memory too');
  assert.equal(box.call(thread, 'read'), 5);
  assert.equal(install(box, thread, onGetppid(SeccompAction.ERRNO | 0xffff)), 0);
  assert.equal(box.call(thread, 'getppid'), -4095, 'of equal actions the newest filter wins');
});

test('a filter sees the arguments of each call anew', () => {
  const box = sandbox();
  const thread = box.process();
  install(box, thread, [
    [Bpf.LD_W_ABS, 0],
    [Bpf.JEQ_K, SyscallNumber.read, 0, 2],
    [Bpf.LD_W_ABS, 16 + 8],
    [Bpf.JEQ_K, 7, 1, 0],
    [Bpf.RET_K, SeccompAction.ALLOW],
    [Bpf.RET_K, SeccompAction.ERRNO | 1],
  ]);
  assert.equal(box.call(thread, 'read', 0, 7), -1);
  assert.equal(box.call(thread, 'read', 0, 8), 5);
  assert.equal(box.call(thread, 'read', 0, 7), -1);
});

test('SECCOMP_RET_TRAP sends SIGSYS that tells the call, with the registers as before it', () => {
  const box = sandbox();
  const thread = box.process();
  const { memory } = box.context(thread);
  memory.writeU64(dataAddress, 0x40_2000);
  memory.writeU64(dataAddress + 8, 0x0400_0004);
  memory.writeU64(dataAddress + 16, 0x40_3000);
  box.call(thread, 'rt_sigaction', Signal.SIGSYS, dataAddress, 0, 8);
  install(box, thread, onGetppid(SeccompAction.TRAP | 77));
  box.call(thread, 'getppid');
  assert.equal(box.register(thread, Reg.rip), 0x40_2000);
  const frame = box.register(thread, Reg.rsp);
  assert.equal(memory.readU64(frame + 152), SyscallNumber.getppid, 'rax');
  const info = frame + 312;
  assert.equal(memory.readU32(info), Signal.SIGSYS);
  assert.equal(memory.readU32(info + 4), 77, 'si_errno');
  assert.equal(memory.readU32(info + 8), 1, 'SYS_SECCOMP');
  assert.equal(memory.readU64(info + 16), codeAddress);
  assert.equal(memory.readU32(info + 24), SyscallNumber.getppid);
  assert.equal(memory.readU32(info + 28), 0xc000_003e);
});

test('the kill actions end the thread or the process with SIGSYS, whatever it handles', () => {
  for (const [action, survivors] of [
    [SeccompAction.KILL_THREAD, 1],
    [SeccompAction.KILL_PROCESS, 0],
    [0x1234_0000, 0],
  ] as const) {
    const box = sandbox();
    box.process();
    const leader = box.process();
    const thread = box.clone(leader, Clone.vm | Clone.sighand | Clone.thread, 0);
    const { memory } = box.context(leader);
    memory.writeU64(dataAddress, 1);
    memory.writeU64(dataAddress + 8, 0x0400_0000);
    box.call(leader, 'rt_sigaction', Signal.SIGSYS, dataAddress, 0, 8);
    install(box, leader, onGetppid(action), SeccompFlag.TSYNC);
    box.call(thread, 'getppid');
    box.settle();
    assert.equal(thread.exitStatus, Signal.SIGSYS);
    assert.equal(leader.process.tasks.length, survivors);
    if (survivors === 0) continue;
    box.call(leader, 'getppid');
    box.settle();
    assert.equal(leader.process.exitStatus, Signal.SIGSYS, 'the last thread takes its process with it');
  }
});

test('the action that takes precedence wins, whichever filter is newer', () => {
  const order = [
    SeccompAction.TRAP,
    SeccompAction.ERRNO | 3,
    SeccompAction.TRACE,
    SeccompAction.LOG,
    SeccompAction.ALLOW,
  ];
  for (const other of order.slice(2)) {
    for (const pair of [
      [other, SeccompAction.ERRNO | 3],
      [SeccompAction.ERRNO | 3, other],
    ]) {
      const box = sandbox();
      const thread = box.process();
      for (const action of pair) install(box, thread, onGetppid(action));
      assert.equal(box.call(thread, 'getppid'), -3);
      assert.equal(thread.seccomp.filters, 2);
    }
  }
});

test('SECCOMP_RET_TRACE asks the tracer, who may change the call; without one the call is not there', () => {
  const box = sandbox();
  const init = box.process();
  const tracer = box.clone(init);
  const tracee = box.clone(tracer);
  install(box, tracee, onGetppid(SeccompAction.TRACE | 9));
  assert.equal(box.call(tracee, 'getppid'), -Errno.ENOSYS);
  const request = (number: number, address: number | bigint, data: number | bigint): number | undefined => {
    const result = box.call(tracer, 'ptrace', number, tracee.tid, address, data);
    box.settle();
    return result;
  };
  request(PtraceRequest.SEIZE, 0, PtraceOption.TRACESECCOMP);
  assert.equal(box.call(tracee, 'getppid'), undefined);
  assert.equal(tracee.trace.takeStop(true), (((PtraceEvent.SECCOMP << 8) | Signal.SIGTRAP) << 8) | 0x7f);
  request(PtraceRequest.GETEVENTMSG, 0, dataAddress);
  assert.equal(box.context(tracer).memory.readU64(dataAddress), 9);
  request(PtraceRequest.CONT, 0, 0);
  assert.equal(box.rax(tracee), 42, 'asked once, then allowed');
  box.call(tracee, 'getppid');
  request(PtraceRequest.POKEUSER, Reg.origRax * 8, SyscallNumber.read);
  request(PtraceRequest.CONT, 0, 0);
  assert.equal(box.rax(tracee), 5, 'another call');
  box.call(tracee, 'getppid');
  request(PtraceRequest.POKEUSER, Reg.origRax * 8, 0xffff_ffff_ffff_ffffn);
  request(PtraceRequest.POKEUSER, Reg.rax * 8, 3);
  request(PtraceRequest.CONT, 0, 0);
  assert.equal(box.rax(tracee), 3, 'none at all');
});

test('strict mode allows four calls and kills for any other', () => {
  const box = sandbox();
  box.process();
  const thread = box.process();
  assert.equal(box.call(thread, 'seccomp', 0, 1, 0), -Errno.EINVAL);
  assert.equal(box.call(thread, 'seccomp', 0, 0, 0), 0);
  assert.equal(thread.seccomp.mode, 1);
  assert.equal(box.call(thread, 'read'), 5);
  assert.equal(box.call(thread, 'getppid'), undefined);
  box.settle();
  assert.equal(thread.process.exitStatus, Signal.SIGKILL);
});

test('filters need CAP_SYS_ADMIN or no_new_privs, are inherited, and cannot be taken away', () => {
  const box = sandbox();
  const init = box.process();
  const thread = box.clone(init);
  thread.credentials = thread.credentials.change({ permitted: 0n, effective: 0n });
  const instructions = onGetppid(SeccompAction.ERRNO | 1);
  assert.equal(install(box, thread, instructions), -Errno.EACCES);
  thread.noNewPrivileges = true;
  assert.equal(install(box, thread, instructions), 0);
  const child = box.clone(thread);
  assert.equal(box.call(child, 'getppid'), -1);
  assert.equal(box.call(thread, 'seccomp', 0, 0, 0), -Errno.EINVAL, 'no way to strict mode');
  assert.equal(setSeccomp(thread, 0, 0), -Errno.EINVAL);
  assert.equal(setSeccomp(thread, 2, put(box, thread, instructions)), 0);
});

test('arguments are checked in Linux’s order', () => {
  const box = sandbox();
  const thread = box.process();
  const { memory } = box.context(thread);
  assert.equal(box.call(thread, 'seccomp', 1, 0x40, 0), -Errno.EINVAL);
  assert.equal(box.call(thread, 'seccomp', 1, 0, 0x1000), -Errno.EFAULT);
  memory.writeU64(program, 0);
  assert.equal(box.call(thread, 'seccomp', 1, 0, program), -Errno.EINVAL);
  memory.writeU64(program, 1);
  memory.writeU64(program + 8, 0x1000);
  assert.equal(box.call(thread, 'seccomp', 1, 0, program), -Errno.EFAULT);
  assert.equal(install(box, thread, [[Bpf.MOD_K, 3], [Bpf.RET_A]]), -Errno.EINVAL);
  memory.writeU32(program, SeccompAction.KILL_PROCESS);
  assert.equal(box.call(thread, 'seccomp', 2, 0, program), 0);
  memory.writeU32(program, 0x1234_0000);
  assert.equal(box.call(thread, 'seccomp', 2, 0, program), -Errno.EOPNOTSUPP);
  assert.equal(box.call(thread, 'seccomp', 2, 1, program), -Errno.EINVAL);
  assert.equal(box.call(thread, 'seccomp', 9, 0, 0), -Errno.EINVAL);
});

test('a chain of filters has at most 32768 instructions, with 4 for each filter', () => {
  const box = sandbox();
  const thread = box.process();
  const long: Instruction[] = Array.from({ length: 4000 }, () => [Bpf.LD_IMM, 0] as const);
  long.push([Bpf.RET_K, SeccompAction.ALLOW]);
  box.context(thread).memory.allocate(dataAddress, 65_536);
  let installed = 0;
  while (install(box, thread, long) === 0) installed++;
  assert.equal(installed, 8);
  assert.equal(box.rax(thread), -Errno.ENOMEM);
});

test('TSYNC gives the filter to all threads, and names one whose filters are others', () => {
  const box = sandbox();
  const leader = box.process();
  const thread = box.clone(leader, Clone.vm | Clone.sighand | Clone.thread, 0);
  assert.equal(install(box, leader, onGetppid(SeccompAction.ERRNO | 1), SeccompFlag.TSYNC), 0);
  assert.equal(box.call(thread, 'getppid'), -1);
  install(box, thread, onGetppid(SeccompAction.ERRNO | 2));
  const third = onGetppid(SeccompAction.ERRNO | 3);
  assert.equal(install(box, leader, third, SeccompFlag.TSYNC), thread.tid);
  assert.equal(install(box, leader, third, SeccompFlag.TSYNC | SeccompFlag.TSYNC_ESRCH), -Errno.ESRCH);
  assert.equal(leader.seccomp.filters, 1);
});
