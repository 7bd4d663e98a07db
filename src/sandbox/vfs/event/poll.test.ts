import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { TestKernel, TestProcess, type TestThread, waiting } from '../../kernel/testing/program.ts';
import { FileDescription } from '../file-description.ts';
import { UserIo } from '../io.ts';
import type { EventFile } from './eventfd.ts';
import { openFile } from './open-file.ts';
import { eventSyscalls } from './syscalls.ts';

const handlerOf = (name: string) => {
  const found = eventSyscalls.find((call) => call.name === name);
  if (!found) throw new Error(name);
  return found.handler;
};
const poll = handlerOf('poll');
const ppoll = handlerOf('ppoll');
const select = handlerOf('select');
const pselect = handlerOf('pselect6');
const eventfd = handlerOf('eventfd2');
const timerfdCreate = handlerOf('timerfd_create');
const timerfdSettime = handlerOf('timerfd_settime');
const timerfdGettime = handlerOf('timerfd_gettime');
const signalfd = handlerOf('signalfd4');

const memory = 0x10_0000;
const time = 0x10_0800;
const buffer = 0x10_0c00;

class Regular extends FileDescription {}

function program(): { kernel: TestKernel; process: TestProcess; a: TestThread } {
  const kernel = new TestKernel();
  const process = new TestProcess(kernel);
  process.memory.allocate(memory, 2 * 4096);
  return { kernel, process, a: process.thread() };
}

function setTime(thread: TestThread, sec: number, fraction: number, at = time): number {
  thread.memory.writeU64(at, sec);
  thread.memory.writeU64(at + 8, fraction);
  return at;
}
const timeAt = (thread: TestThread, at = time): [number, number] => [
  thread.memory.readU64(at),
  thread.memory.readU64(at + 8),
];

function setFds(thread: TestThread, ...entries: readonly (readonly [number, number])[]): void {
  for (const [index, [fd, events]] of entries.entries()) {
    thread.memory.writeU32(memory + index * 8, fd);
    thread.memory.writeU32(memory + index * 8 + 4, events | 0x7777_0000);
  }
}
const revents = (thread: TestThread, index: number) => thread.memory.readU32(memory + index * 8 + 4) >>> 16;
const file = (thread: TestThread, fd: number): EventFile => openFile(thread.task, fd) as EventFile;
const read = (thread: TestThread, fd: number, length = 8): number | bigint => {
  const opened = openFile(thread.task, fd);
  if (!opened) return -Errno.EBADF;
  const result = opened.read(thread.task, new UserIo(thread.memory, [buffer, length]), undefined);
  return result < 0 ? result : BigInt(thread.memory.readU64(buffer));
};
const write = (thread: TestThread, fd: number, value: bigint, length = 8): number => {
  thread.memory.writeU64(buffer, value);
  const opened = openFile(thread.task, fd);
  return opened ? opened.write(thread.task, new UserIo(thread.memory, [buffer, length]), undefined) : -1;
};

test('poll reports what is ready, POLLNVAL for closed descriptors, and skips negative ones', () => {
  const { a } = program();
  const fd = a.call(eventfd, 1, 0) as number;
  const regular = a.open(new Regular(2, undefined));
  setFds(a, [-1, 1], [99, 1], [fd, 0xffff], [regular, 0xffff]);
  assert.equal(a.call(poll, memory, 4, 0), 3);
  assert.deepEqual(
    [0, 1, 2, 3].map((i) => revents(a, i)),
    [0, 0x20, 5, 0x145],
  );
  assert.equal(a.call(poll, memory, 2000, 0), -Errno.EINVAL, 'more than RLIMIT_NOFILE');
  assert.equal(a.call(poll, 8, 1, 0), -Errno.EFAULT);
});

test('poll waits for an event or its time-out, and after a signal for the rest of it', () => {
  const { kernel, process, a } = program();
  const fd = a.call(eventfd, 0, 0) as number;
  setFds(a, [fd, 1]);
  assert.equal(a.call(poll, memory, 1, 100), waiting);
  kernel.advance(40e6);
  process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(a.result, -Errno.ERESTART_RESTARTBLOCK);
  assert.equal(revents(a, 0), 0);
  process.pending.length = 0;
  assert.equal(a.continueCall(), waiting);
  kernel.advance(59e6);
  assert.equal(a.result, waiting);
  file(a, fd).signal();
  kernel.settle();
  assert.equal(a.result, 1);
  assert.equal(read(a, fd), 1n);
  assert.equal(a.call(poll, memory, 1, 100), waiting);
  kernel.advance(100e6);
  assert.equal(a.result, 0);
});

test('ppoll writes back the time that is left, and can only be restarted if that worked', () => {
  const { kernel, process, a } = program();
  const fd = a.call(eventfd, 0, 0) as number;
  setFds(a, [fd, 1]);
  const interrupt = (): void => {
    process.sendSignal({ signal: 10, code: 0 });
    kernel.settle();
    process.pending.length = 0;
  };
  assert.equal(a.call(ppoll, memory, 1, setTime(a, 2, 5), 0, 8), waiting);
  kernel.advance(0.5e9);
  interrupt();
  assert.equal(a.result, -Errno.ERESTARTNOHAND);
  assert.deepEqual(timeAt(a), [1, 500_000_005]);
  const readOnly = 0x20_0000;
  a.memory.allocate(readOnly, 4096, 3);
  setTime(a, 2, 0, readOnly);
  a.call(ppoll, memory, 1, readOnly, 0, 8);
  for (const page of a.memory.pages.values()) if (page.bytes[0] === 2) page.protection = 1;
  interrupt();
  assert.equal(a.result, -Errno.EINTR);
  assert.equal(a.call(ppoll, memory, 1, setTime(a, 0, 1e9), 0, 8), -Errno.EINVAL);
  setTime(a, 0, 0);
  assert.equal(a.call(ppoll, memory, 1, time, 0, 8), 0);
});

const bits = (thread: TestThread, at: number): number[] =>
  [...Array(1024).keys()].filter((fd) => {
    const word = thread.memory.readU32(at + (fd >> 5) * 4);
    return ((word >>> (fd & 31)) & 1) !== 0;
  });
function setBits(thread: TestThread, at: number, ...fds: readonly number[]): number {
  thread.memory.clear(at, 128);
  for (const fd of fds) {
    const place = at + (fd >> 5) * 4;
    thread.memory.writeU32(place, (thread.memory.readU32(place) | (1 << (fd & 31))) >>> 0);
  }
  return at;
}

test('select gives the descriptors that are ready in each set', () => {
  const { a } = program();
  const full = a.call(eventfd, 1, 0) as number;
  const empty = a.call(eventfd, 0, 0) as number;
  const [r, w, x] = [memory, memory + 128, memory + 256];
  for (const at of [r, w, x]) setBits(a, at, full, empty);
  setTime(a, 0, 0);
  assert.equal(a.call(select, 64, r, w, x, time), 3);
  assert.deepEqual([bits(a, r), bits(a, w), bits(a, x)], [[full], [full, empty], []]);
});

test('select refuses closed descriptors within the table, and does not look beyond it', () => {
  const { a } = program();
  a.call(eventfd, 1, 0);
  setTime(a, 0, 0);
  assert.equal(a.call(select, 64, setBits(a, memory, 63), 0, 0, time), -Errno.EBADF);
  assert.equal(a.call(select, 301, setBits(a, memory, 300), 0, 0, time), 0);
  assert.deepEqual(bits(a, memory), [300], 'what was not looked at is not written');
  assert.equal(a.call(select, -1, 0, 0, 0, time), -Errno.EINVAL);
  assert.equal(a.call(select, 64, 8, 0, 0, time), -Errno.EFAULT);
  assert.equal(a.call(select, 0, 0, 0, 0, setTime(a, -1, 0)), -Errno.EINVAL);
  assert.equal(a.call(select, 0, 0, 0, 0, setTime(a, 0, -1)), -Errno.EINVAL);
});

test('select sleeps for a time of more than a million microseconds, and leaves what is left', () => {
  const { kernel, a } = program();
  const fd = a.call(eventfd, 0, 0) as number;
  setBits(a, memory, fd);
  assert.equal(a.call(select, fd + 1, memory, 0, 0, setTime(a, 0, 2_500_000)), waiting);
  kernel.advance(1e9);
  file(a, fd).signal();
  kernel.settle();
  assert.equal(a.result, 1);
  assert.deepEqual(timeAt(a), [1, 500_000]);
  assert.equal(read(a, fd), 1n);
  setBits(a, memory, fd);
  assert.equal(a.call(select, fd + 1, memory, 0, 0, time), waiting);
  kernel.advance(1.5e9);
  assert.equal(a.result, 0);
  assert.deepEqual([timeAt(a), bits(a, memory)], [[0, 0], []]);
});

test('pselect6 hands its signal mask on and leaves the sets alone when a signal interrupts', () => {
  const { kernel, process, a } = program();
  const fd = a.call(eventfd, 0, 0) as number;
  const mask = memory + 512;
  setTime(a, 0x1234, 8, mask);
  setBits(a, memory, fd);
  assert.equal(a.call(pselect, fd + 1, memory, 0, 0, 0, mask), waiting);
  assert.deepEqual(a.temporaryMask, [0x1234, 8]);
  process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(a.result, -Errno.ERESTARTNOHAND);
  assert.deepEqual(bits(a, memory), [fd]);
  assert.equal(a.call(pselect, fd + 1, memory, 0, 0, 0, 8), -Errno.EFAULT);
});

test('an eventfd counts, refuses to overflow, and as a semaphore gives one at a time', () => {
  const { a } = program();
  const fd = a.call(eventfd, 3, 0) as number;
  assert.equal(write(a, fd, 4n), 8);
  assert.equal(write(a, fd, 1n, 7), -Errno.EINVAL);
  assert.equal(write(a, fd, 1n, 16), -Errno.EINVAL);
  assert.equal(read(a, fd, 7), -Errno.EINVAL);
  assert.equal(read(a, fd, 16), 7n);
  assert.equal(read(a, fd), -Errno.EAGAIN);
  assert.equal(write(a, fd, 0xffff_ffff_ffff_ffffn), -Errno.EINVAL);
  assert.equal(write(a, fd, 0xffff_ffff_ffff_fffen), 8);
  assert.equal(write(a, fd, 1n), -Errno.EAGAIN);
  assert.equal(file(a, fd).readiness(4), 1, 'not writable');
  file(a, fd).signal();
  assert.equal(file(a, fd).readiness(1) & 8, 8, 'POLLERR: the kernel itself overflowed it');
  const semaphore = a.call(eventfd, 2, 1) as number;
  assert.deepEqual([read(a, semaphore), read(a, semaphore), read(a, semaphore)], [1n, 1n, -Errno.EAGAIN]);
  assert.equal(a.call(eventfd, 0, 2), -Errno.EINVAL);
});

function itimer(thread: TestThread, value: number, interval: number, at = memory): number {
  setTime(thread, Math.floor(interval / 1e9), interval % 1e9, at);
  setTime(thread, Math.floor(value / 1e9), value % 1e9, at + 16);
  return at;
}

test('a timerfd tells how often it expired, without waking anybody for each time', () => {
  const { kernel, a } = program();
  const fd = a.call(timerfdCreate, 1, 0o4000) as number;
  assert.equal(a.call(timerfdSettime, fd, 0, itimer(a, 100e6, 30e6), 0), 0);
  assert.equal(read(a, fd), -Errno.EAGAIN);
  kernel.advance(50e6);
  a.call(timerfdGettime, fd, memory + 64);
  assert.deepEqual(
    [timeAt(a, memory + 64), timeAt(a, memory + 80)],
    [
      [0, 30e6],
      [0, 50e6],
    ],
  );
  setFds(a, [fd, 1]);
  assert.equal(a.call(poll, memory, 1, -1), waiting);
  kernel.advance(50e6);
  assert.equal(a.result, 1);
  assert.equal(kernel.timers.next, Infinity, 'it stands still until it is read');
  kernel.advance(70e6);
  assert.equal(read(a, fd), 3n, 'at 100, 130 and 160 ms');
  kernel.advance(20e6);
  assert.equal(read(a, fd), 1n, 'at 190 ms');
  a.call(timerfdSettime, fd, 0, itimer(a, 0, 0), memory + 64);
  assert.deepEqual(timeAt(a, memory + 80), [0, 30e6]);
  kernel.advance(1e9);
  assert.equal(read(a, fd), -Errno.EAGAIN);
});

test('an absolute realtime timerfd expires at that time of day', () => {
  const { kernel, a } = program();
  const fd = a.call(timerfdCreate, 0, 0) as number;
  setTime(a, 0, 0, memory);
  setTime(a, kernel.host.wall.sec + 5, 0, memory + 16);
  assert.equal(a.call(timerfdSettime, fd, 1 | 2, memory, 0), 0);
  kernel.advance(4.9e9);
  assert.equal(read(a, fd), -Errno.EAGAIN);
  kernel.advance(0.1e9);
  assert.equal(read(a, fd), 1n);
  assert.equal(a.call(timerfdSettime, fd, 4, memory, 0), -Errno.EINVAL);
  assert.equal(a.call(timerfdSettime, 99, 0, itimer(a, 5, 1e9 + 5), 0), -Errno.EBADF);
  assert.equal(a.call(timerfdCreate, 2, 0), -Errno.EINVAL);
});

test('a signalfd gives pending signals as structures, and only those of its mask', () => {
  const { kernel, process, a } = program();
  a.masked = { low: -1, high: -1 };
  a.memory.writeU64(memory, (1n << 9n) | (1n << 16n));
  const fd = a.call(signalfd, -1, memory, 8, 0o4000) as number;
  assert.equal(read(a, fd, 128), -Errno.EAGAIN);
  assert.equal(read(a, fd, 127), -Errno.EINVAL);
  setFds(a, [fd, 1]);
  assert.equal(a.call(poll, memory, 1, -1), waiting);
  process.sendSignal({ signal: 12, code: 0 });
  kernel.settle();
  assert.equal(a.result, waiting);
  process.sendSignal({ signal: 10, code: 0, sender: process as never, uid: 5 });
  kernel.settle();
  assert.equal(a.result, 1);
  assert.equal(read(a, fd, 300), 10n);
  assert.deepEqual([a.memory.readU32(buffer + 12), a.memory.readU32(buffer + 16)], [1000, 5]);
  assert.equal(read(a, fd, 128), -Errno.EAGAIN);
  a.memory.writeU64(memory, 1n << 11n);
  assert.equal(a.call(signalfd, fd, memory, 8, 0), fd);
  assert.equal(read(a, fd, 128), 12n);
  assert.equal(a.call(signalfd, a.call(eventfd, 0, 0) as number, memory, 8, 0), -Errno.EINVAL);
  assert.equal(a.call(signalfd, -1, memory, 4, 0), -Errno.EINVAL);
});
