import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { FutexCommand as Command } from '../../abi/futex.ts';
import { sharedMemory, TestKernel, TestProcess, type TestThread, waiting } from '../testing/program.ts';
import { exitRobustList } from './robust-list.ts';
import { futexSyscalls } from './syscalls.ts';

const handlerOf = (name: string) => {
  const found = futexSyscalls.find((call) => call.name === name);
  if (!found) throw new Error(name);
  return found.handler;
};
const futex = handlerOf('futex');
const waitv = handlerOf('futex_waitv');
const setRobustList = handlerOf('set_robust_list');

const word = 0x10_0000;
const second = 0x10_0100;
const time = 0x10_0800;
const shared = 0;
const own = 128;

function program(threads = 3): { kernel: TestKernel; process: TestProcess; threads: TestThread[] } {
  const kernel = new TestKernel();
  const process = new TestProcess(kernel);
  process.memory.allocate(word);
  process.memory.allocate(sharedMemory);
  return { kernel, process, threads: Array.from({ length: threads }, () => process.thread()) };
}

const wake = (thread: TestThread, count: number, address = word, flags = own) =>
  thread.call(futex, address, Command.wake | flags, count);
const wait = (thread: TestThread, value: number, timeout = 0, address = word, flags = own) =>
  thread.call(futex, address, Command.wait | flags, value, timeout);

function setTime(process: TestProcess, sec: number, nsec: number): number {
  process.memory.writeU64(time, sec);
  process.memory.writeU64(time + 8, nsec);
  return time;
}

test('FUTEX_WAIT sleeps while the word has the value, and FUTEX_WAKE wakes in order of arrival', () => {
  const { kernel, threads } = program(4);
  const [a, b, c, waker] = threads as [TestThread, TestThread, TestThread, TestThread];
  assert.equal(wait(a, 1), -Errno.EAGAIN);
  for (const thread of [a, b, c]) assert.equal(wait(thread, 0), waiting);
  assert.equal(wake(waker, 2), 2);
  kernel.settle();
  assert.deepEqual([a.result, b.result, c.result], [0, 0, waiting]);
  assert.equal(wake(waker, 5), 1);
  assert.equal(wake(waker, 5), 0);
});

test('FUTEX_WAIT times out, relative to now, with ETIMEDOUT', () => {
  const { kernel, process, threads } = program(2);
  const [a, waker] = threads as [TestThread, TestThread];
  assert.equal(wait(a, 0, setTime(process, 1, 500_000_000)), waiting);
  kernel.advance(1.4e9);
  assert.equal(a.result, waiting);
  kernel.advance(0.1e9);
  assert.equal(a.result, -Errno.ETIMEDOUT);
  assert.equal(wake(waker, 1), 0, 'nobody is left in the queue');
  assert.equal(wait(a, 0, setTime(process, 0, 1e9)), -Errno.EINVAL);
  assert.equal(wait(a, 0, setTime(process, -1, 0)), -Errno.EINVAL);
});

test('FUTEX_WAIT_BITSET waits until a moment, and only matching bits wake it', () => {
  const { kernel, process, threads } = program(2);
  const [a, waker] = threads as [TestThread, TestThread];
  const until = setTime(process, 3, 0);
  assert.equal(a.call(futex, word, Command.waitBitset | own, 0, until, 0, 0b0110), waiting);
  assert.equal(waker.call(futex, word, Command.wakeBitset | own, 9, 0, 0, 0b1001), 0);
  assert.equal(waker.call(futex, word, Command.wakeBitset | own, 9, 0, 0, 0), -Errno.EINVAL);
  kernel.advance(3e9 - kernel.host.now);
  assert.equal(a.result, -Errno.ETIMEDOUT);
  setTime(process, kernel.host.wall.sec + 2, 0);
  assert.equal(a.call(futex, word, Command.waitBitset | own | 256, 0, until, 0, -1), waiting);
  kernel.advance(2e9);
  assert.equal(a.result, -Errno.ETIMEDOUT);
});

test('a signal restarts a wait without time-out from the beginning, and one with time-out until the same moment', () => {
  const { kernel, process, threads } = program(1);
  const [a] = threads as [TestThread];
  wait(a, 0);
  process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(a.result, -Errno.ERESTARTSYS);
  process.pending.length = 0;

  wait(a, 0, setTime(process, 10, 0));
  kernel.advance(4e9);
  process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(a.result, -Errno.ERESTART_RESTARTBLOCK);
  process.pending.length = 0;
  assert.equal(a.continueCall(), waiting);
  kernel.advance(5.9e9);
  assert.equal(a.result, waiting);
  kernel.advance(0.1e9);
  assert.equal(a.result, -Errno.ETIMEDOUT);
});

test('a wake-up that came before the signal is not lost', () => {
  const { kernel, process, threads } = program(2);
  const [a, b] = threads as [TestThread, TestThread];
  wait(a, 0);
  assert.equal(wake(b, 1), 1);
  process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(a.result, 0);
});

test('words are told apart by their memory, and shared memory joins processes', () => {
  const { kernel, process, threads } = program(1);
  const [a] = threads as [TestThread];
  const b = new TestProcess(kernel, 2000, process.memory).thread();
  wait(a, 0);
  assert.equal(wake(b, 1), 0);
  assert.equal(wake(a, 1, word, shared), 0, 'Linux keeps private and shared waiters of private memory apart');
  assert.equal(wake(a, 1), 1);
  kernel.settle();
  wait(a, 0, 0, sharedMemory, shared);
  assert.equal(wake(b, 1, sharedMemory, shared), 1);
});

test('FUTEX_CMP_REQUEUE wakes some and moves others, if the word is still what the caller saw', () => {
  const { kernel, threads } = program(5);
  const [a, b, c, d, waker] = threads as [TestThread, TestThread, TestThread, TestThread, TestThread];
  for (const thread of [a, b, c, d]) wait(thread, 0);
  const requeue = (expected: number) =>
    waker.call(futex, word, Command.cmpRequeue | own, 1, 2, second, expected);
  assert.equal(requeue(7), -Errno.EAGAIN);
  assert.equal(requeue(0), 3);
  kernel.settle();
  assert.deepEqual([a.result, b.result, c.result, d.result], [0, waiting, waiting, waiting]);
  assert.equal(wake(waker, 9), 1, 'd stayed');
  assert.equal(wake(waker, 9, second), 2);
  assert.equal(waker.call(futex, word, Command.cmpRequeue | own, -1, 2, second, 0), -Errno.EINVAL);
});

test('moving waiters onto their own word ends', () => {
  const { threads } = program(3);
  const [a, b, waker] = threads as [TestThread, TestThread, TestThread];
  for (const thread of [a, b]) wait(thread, 0);
  assert.equal(waker.call(futex, word, Command.requeue | own, 0, 100, word, 0), 2);
  assert.equal(wake(waker, 9), 2);
});

test('FUTEX_WAKE_OP changes the second word and wakes there only if its old value compares', () => {
  const { process, threads } = program(3);
  const [a, b, waker] = threads as [TestThread, TestThread, TestThread];
  const encode = (op: number, oparg: number, cmp: number, cmparg: number): number =>
    ((op << 28) | (cmp << 24) | ((oparg & 0xfff) << 12) | (cmparg & 0xfff)) >>> 0;
  process.memory.writeU32(second, 5);
  wait(a, 0);
  wait(b, 5, 0, second);
  const call = (encoded: number) => waker.call(futex, word, Command.wakeOp | own, 1, 1, second, encoded);
  assert.equal(call(encode(1, -7, 4, 5)), 1, 'add -7; old 5 is not > 5');
  assert.equal(process.memory.readU32(second), 0xffff_fffe);
  assert.equal(call(encode(8 | 2, 4, 2, 0)), 1, 'or 1 << 4; old -2 < 0 wakes b');
  assert.equal(process.memory.readU32(second), 0xffff_fffe);
  assert.equal(call(encode(5, 0, 0, 0)), -Errno.ENOSYS);
});

test('addresses are checked: alignment, range, mapping', () => {
  const { threads } = program(1);
  const [a] = threads as [TestThread];
  assert.equal(wait(a, 0, 0, word + 1), -Errno.EINVAL);
  assert.equal(wait(a, 0, 0, 0x2000), -Errno.EFAULT);
  assert.equal(wake(a, 1, 0x7fff_ffff_f000), -Errno.EFAULT);
  assert.equal(wake(a, 1, 0x2000), 0, 'a private word is not looked at by FUTEX_WAKE');
  assert.equal(a.call(futex, word, Command.fd | own), -Errno.ENOSYS);
  assert.equal(a.call(futex, word, Command.wait | 256 | own), -Errno.ENOSYS);
});

test('a lock with priority inheritance is taken, contended, handed over and given back', () => {
  const { kernel, process, threads } = program(3);
  const [a, b, c] = threads as [TestThread, TestThread, TestThread];
  const lock = (thread: TestThread) => thread.call(futex, word, Command.lockPi | own);
  const unlock = (thread: TestThread) => thread.call(futex, word, Command.unlockPi | own);
  const value = () => process.memory.readU32(word);
  assert.equal(lock(a), 0);
  assert.equal(value(), a.tid);
  assert.equal(lock(a), -Errno.EDEADLK);
  assert.equal(b.call(futex, word, Command.trylockPi | own), -Errno.EAGAIN);
  assert.equal(lock(b), waiting);
  assert.equal(lock(c), waiting);
  assert.equal(value(), (0x8000_0000 | a.tid) >>> 0);
  assert.equal(unlock(b === a ? c : b), -Errno.EPERM);
  assert.equal(wake(a, 1), -Errno.EINVAL, 'FUTEX_WAKE must not touch its waiters');
  assert.equal(unlock(a), 0);
  kernel.settle();
  assert.equal(b.result, 0);
  assert.equal(value(), (0x8000_0000 | b.tid) >>> 0);
  assert.equal(unlock(b), 0);
  kernel.settle();
  assert.equal(c.result, 0);
  assert.equal(unlock(c), 0);
  assert.equal(value(), 0);
  process.memory.writeU32(word, 4242);
  assert.equal(lock(a), -Errno.ESRCH);
});

test('locks that wait for each other are a deadlock', () => {
  const { threads } = program(2);
  const [a, b] = threads as [TestThread, TestThread];
  assert.equal(a.call(futex, word, Command.lockPi | own), 0);
  assert.equal(b.call(futex, second, Command.lockPi | own), 0);
  assert.equal(a.call(futex, second, Command.lockPi | own), waiting);
  assert.equal(b.call(futex, word, Command.lockPi | own), -Errno.EDEADLK);
});

test('waiters of a condition are moved to its lock and get it one after the other', () => {
  const { kernel, process, threads } = program(4);
  const [a, b, c, d] = threads as [TestThread, TestThread, TestThread, TestThread];
  for (const thread of [a, b, c])
    assert.equal(thread.call(futex, word, Command.waitRequeuePi | own, 0, 0, second), waiting);
  assert.equal(wake(d, 1), -Errno.EINVAL);
  const requeue = (wakes: number) => d.call(futex, word, Command.cmpRequeuePi | own, wakes, 100, second, 0);
  assert.equal(requeue(2), -Errno.EINVAL);
  assert.equal(requeue(1), 3);
  kernel.settle();
  assert.deepEqual([a.result, b.result, c.result], [0, waiting, waiting]);
  assert.equal(process.memory.readU32(second), (0x8000_0000 | a.tid) >>> 0);
  assert.equal(a.call(futex, second, Command.unlockPi | own), 0);
  kernel.settle();
  assert.equal(b.result, 0);
  process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(c.result, -Errno.EAGAIN, 'a waiter that was moved cannot start anew');
});

test('a thread that ends leaves its robust locks marked, and one waiter of each is waked', () => {
  const { kernel, process, threads } = program(2);
  const [a, b] = threads as [TestThread, TestThread];
  const { memory } = process;
  const head = sharedMemory + 0x100;
  const entry = sharedMemory + 0x200;
  const lock = entry + 16;
  memory.writeU64(head, entry);
  memory.writeU64(head + 8, 16);
  memory.writeU64(entry, head);
  memory.writeU32(lock, (0x8000_0000 | a.tid) >>> 0);
  assert.equal(a.call(setRobustList, head, 23), -Errno.EINVAL);
  assert.equal(a.call(setRobustList, head, 24), 0);
  assert.equal(wait(b, (0x8000_0000 | a.tid) >>> 0, 0, lock, shared), waiting);
  exitRobustList(a.task);
  kernel.settle();
  assert.equal(memory.readU32(lock), 0xc000_0000);
  assert.equal(b.result, 0);
});

test('a robust list that is a ring, or leads nowhere, ends', () => {
  const { process, threads } = program(1);
  const [a] = threads as [TestThread];
  process.memory.writeU64(word, word + 64);
  process.memory.writeU64(word + 64, word + 64);
  a.robustList = word;
  exitRobustList(a.task);
  process.memory.writeU64(word, 0x666_0000);
  a.robustList = word;
  exitRobustList(a.task);
  assert.equal(a.robustList, 0);
});

test('a lock with priority inheritance goes to a waiter when its owner ends', () => {
  const { kernel, process, threads } = program(2);
  const [a, b] = threads as [TestThread, TestThread];
  a.call(futex, word, Command.lockPi | own);
  assert.equal(b.call(futex, word, Command.lockPi | own), waiting);
  exitRobustList(a.task);
  kernel.settle();
  assert.equal(b.result, 0);
  assert.equal(process.memory.readU32(word), (0xc000_0000 | b.tid) >>> 0);
});

test('futex_waitv waits on several words and tells which one was waked', () => {
  const { kernel, process, threads } = program(2);
  const [a, b] = threads as [TestThread, TestThread];
  const array = word + 0x400;
  const { memory } = process;
  for (const [index, address] of [word, second, word + 8].entries()) {
    memory.writeU64(array + index * 24, 0);
    memory.writeU64(array + index * 24 + 8, address);
    memory.writeU64(array + index * 24 + 16, 2 | 128);
  }
  assert.equal(a.call(waitv, array, 0, 0), -Errno.EINVAL);
  assert.equal(a.call(waitv, array, 129, 0), -Errno.EINVAL);
  assert.equal(a.call(waitv, array, 3, 0), waiting);
  assert.equal(wake(b, 1, second), 1);
  kernel.settle();
  assert.equal(a.result, 1);
  assert.equal(wake(b, 1, word), 0, 'the other words have no waiter left');
  memory.writeU32(word + 8, 1);
  assert.equal(a.call(waitv, array, 3, 0), -Errno.EAGAIN);
});
