import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { Bpf, SeccompAction, SeccompFlag, SeccompIoctl } from '../../abi/seccomp.ts';
import { Signal } from '../../abi/signal.ts';
import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import { Reg } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { FdTable } from '../../vfs/contract.ts';
import type { FileDescription } from '../../vfs/file-description.ts';
import { codeAddress, dataAddress, Sandbox } from '../signal/fixture.ts';
import { signalSyscalls } from '../signal/syscalls.ts';
import type { Thread } from '../task/thread.ts';
import { Poll } from '../wait-queue.ts';
import { seccompSyscalls } from './syscalls.ts';

const answers: Syscall = {
  name: 'getppid',
  signature: '',
  support: 'full',
  handler: (_task, args) => 40 + args.i32(0),
};
const ioctl: Syscall = {
  name: 'ioctl',
  signature: '',
  support: 'full',
  handler: (task, args) =>
    task.files.get(args.i32(0))?.ioctl(task, args.u32(1), args.address(2)) ?? -Errno.EBADF,
};

/** Descriptors 3 and up, in order. */
function table(): FdTable {
  const files = new Map<number, FileDescription>();
  const own = {
    users: 1,
    get: (fd: number) => files.get(fd),
    install: (_task: Thread, file: FileDescription) => {
      const fd = 3 + files.size;
      files.set(fd, file);
      return fd;
    },
    replace: (_task: Thread, fd: number, file: FileDescription) => {
      files.set(fd, file);
      return fd;
    },
    acquire: () => own,
    fork: () => own,
    release: () => undefined,
  };
  return own as unknown as FdTable;
}

const notification = dataAddress + 0x400;
const response = dataAddress + 0x500;

class Notifying {
  readonly box = new Sandbox(signalSyscalls, seccompSyscalls, [answers, ioctl]);
  readonly supervisor = this.box.process();
  readonly program: Thread;
  readonly listener: number;

  constructor(flags = 0) {
    const { box, supervisor } = this;
    supervisor.files = table();
    this.program = box.clone(supervisor);
    const { memory } = box.context(this.program);
    const instructions: [number, number, number, number][] = [
      [Bpf.LD_W_ABS, 0, 0, 0],
      [Bpf.JEQ_K, SyscallNumber.getppid, 0, 1],
      [Bpf.RET_K, SeccompAction.USER_NOTIF, 0, 0],
      [Bpf.RET_K, SeccompAction.ALLOW, 0, 0],
    ];
    memory.writeU64(dataAddress, instructions.length);
    memory.writeU64(dataAddress + 8, dataAddress + 16);
    for (const [index, [code, k, jt, jf]] of instructions.entries()) {
      memory.writeU32(dataAddress + 16 + index * 8, code | (jt << 16) | (jf << 24));
      memory.writeU32(dataAddress + 20 + index * 8, k);
    }
    this.listener = box.call(this.program, 'seccomp', 1, SeccompFlag.NEW_LISTENER | flags, dataAddress) ?? -1;
    assert.equal(this.listener, 3);
  }

  control(command: number, address: number): number | undefined {
    const result = this.box.call(this.supervisor, 'ioctl', this.listener, command, address);
    this.box.settle();
    return result;
  }

  receive(): bigint {
    const { memory } = this.box.context(this.supervisor);
    memory.clear(notification, 80);
    assert.equal(this.control(SeccompIoctl.RECV, notification), 0);
    return this.id();
  }

  id(): bigint {
    const bytes = new Uint8Array(8);
    this.box.context(this.supervisor).memory.read(notification, bytes, 0, 8);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  send(id: bigint, value: number, error: number, flags = 0): number | undefined {
    const { memory } = this.box.context(this.supervisor);
    memory.writeU64(response, id);
    memory.writeU64(response + 8, value);
    memory.writeU32(response + 16, error >>> 0);
    memory.writeU32(response + 20, flags);
    return this.control(SeccompIoctl.SEND, response);
  }

  get file(): FileDescription {
    const file = this.supervisor.files.get(this.listener);
    assert.ok(file);
    return file;
  }
}

test('a call waits until the listener answers with a value or an error', () => {
  const pair = new Notifying();
  assert.equal(pair.box.call(pair.program, 'getppid', 1, 2), undefined);
  assert.equal(pair.file.readiness(Poll.in | Poll.out, pair.supervisor), Poll.in);
  const id = pair.receive();
  const { memory } = pair.box.context(pair.supervisor);
  assert.equal(memory.readU32(notification + 8), pair.program.tid);
  assert.equal(memory.readU32(notification + 16), SyscallNumber.getppid);
  assert.equal(memory.readU64(notification + 24), codeAddress);
  assert.equal(memory.readU64(notification + 40), 2, 'the second argument');
  assert.equal(pair.file.readiness(Poll.in | Poll.out, pair.supervisor), Poll.out);
  memory.writeU64(response, id);
  assert.equal(pair.control(SeccompIoctl.ID_VALID, response), 0);
  assert.equal(pair.send(id + 1n, 0, 0), -Errno.ENOENT);
  assert.equal(pair.send(id, 0, 0, 2), -Errno.EINVAL);
  assert.equal(pair.send(id, 5, 0, 1), -Errno.EINVAL);
  assert.equal(pair.send(id, 99, 0), 0);
  assert.ok(pair.box.runs(pair.program));
  assert.equal(pair.box.rax(pair.program), 99);
  assert.equal(pair.send(id, 99, 0), -Errno.ENOENT);
  pair.box.call(pair.program, 'getppid');
  assert.equal(pair.send(pair.receive(), 0, -13), 0);
  assert.equal(pair.box.rax(pair.program), -13);
});

test('the listener can let a call run, and waits for one to come', () => {
  const pair = new Notifying();
  pair.box.context(pair.supervisor).memory.clear(notification, 80);
  assert.equal(pair.control(SeccompIoctl.RECV, notification), undefined);
  pair.box.call(pair.program, 'getppid', 2);
  pair.box.settle();
  assert.equal(pair.box.rax(pair.supervisor), 0);
  assert.equal(pair.send(pair.id(), 0, 0, 1), 0);
  assert.equal(pair.box.rax(pair.program), 42);
  assert.equal(pair.control(SeccompIoctl.RECV, notification), -Errno.EINVAL, 'the buffer must be zero');
});

test('a signal ends the wait, and the call begins again; once received only death does, if that was asked for', () => {
  for (const flags of [0, SeccompFlag.WAIT_KILLABLE_RECV]) {
    const pair = new Notifying(flags);
    const { box, program } = pair;
    box.call(program, 'getppid');
    const id = pair.receive();
    program.process.sendSignal({ signal: Signal.SIGSTOP, code: 0x80 });
    program.process.sendSignal({ signal: Signal.SIGCONT, code: 0x80 });
    program.process.sendSignal({ signal: Signal.SIGSTOP, code: 0x80 });
    box.settle();
    assert.equal(program.process.signals.stopped, flags === 0);
    const { memory } = box.context(pair.supervisor);
    memory.writeU64(response, id);
    assert.equal(pair.control(SeccompIoctl.ID_VALID, response), flags === 0 ? -Errno.ENOENT : 0);
    program.process.sendSignal({ signal: Signal.SIGCONT, code: 0x80 });
    box.settle();
    if (flags === 0) {
      assert.equal(box.register(program, Reg.rip), codeAddress - 2);
      continue;
    }
    program.process.sendSignal({ signal: Signal.SIGKILL, code: 0x80 });
    box.settle();
    assert.equal(program.process.exitStatus, Signal.SIGKILL);
  }
});

test('without its listener a call is not there, and a chain has one listener at most', () => {
  const pair = new Notifying();
  const { box, program } = pair;
  assert.equal(box.call(program, 'seccomp', 1, SeccompFlag.NEW_LISTENER, dataAddress), -Errno.EBUSY);
  assert.equal(box.call(program, 'seccomp', 1, SeccompFlag.WAIT_KILLABLE_RECV, dataAddress), -Errno.EINVAL);
  assert.equal(box.call(program, 'getppid'), undefined);
  pair.file.unreference();
  box.settle();
  assert.equal(box.rax(program), -Errno.ENOSYS);
  assert.equal(box.call(program, 'getppid'), -Errno.ENOSYS);
});

test('the listener’s holder can put files into the waiting thread’s table and answer with their number', () => {
  const pair = new Notifying();
  const { box, program, supervisor } = pair;
  box.call(program, 'getppid');
  const id = pair.receive();
  const { memory } = box.context(supervisor);
  memory.clear(response, 24);
  memory.writeU64(response, id);
  memory.writeU32(response + 8, 2);
  memory.writeU32(response + 12, pair.listener);
  assert.equal(pair.control(SeccompIoctl.ADDFD, response), 4);
  assert.equal(box.rax(program), 4);
  assert.equal(program.files.get(4), pair.file);
  assert.equal(pair.file.references, 2);
});

test('when nobody is under the filter any more the listener says so', () => {
  const pair = new Notifying();
  const { box, program, supervisor } = pair;
  assert.equal(pair.file.readiness(Poll.in, supervisor), 0);
  box.context(supervisor).memory.clear(notification, 80);
  assert.equal(pair.control(SeccompIoctl.RECV, notification), undefined);
  program.process.sendSignal({ signal: Signal.SIGKILL, code: 0x80 });
  box.settle();
  assert.equal(box.rax(supervisor), -Errno.ENOENT, 'who waits for a call is told');
  assert.equal(pair.file.readiness(Poll.in, supervisor), Poll.hup);
  box.context(supervisor).memory.clear(notification, 80);
  assert.equal(pair.control(SeccompIoctl.RECV, notification), -Errno.ENOENT);
});
