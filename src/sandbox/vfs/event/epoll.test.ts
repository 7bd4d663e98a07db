import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { TestKernel, TestProcess, type TestThread, waiting } from '../../kernel/testing/program.ts';
import { FileDescription } from '../file-description.ts';
import { EpollWatches } from './epoll.ts';
import { EventFile } from './eventfd.ts';
import { openFile } from './open-file.ts';
import { eventSyscalls } from './syscalls.ts';

const handlerOf = (name: string) => {
  const found = eventSyscalls.find((call) => call.name === name);
  if (!found) throw new Error(name);
  return found.handler;
};
const create = handlerOf('epoll_create1');
const ctl = handlerOf('epoll_ctl');
const epollWait = handlerOf('epoll_wait');
const eventfd = handlerOf('eventfd2');

const memory = 0x10_0000;
const events = 0x10_0100;
const [ADD, DEL, MOD] = [1, 2, 3];
const [IN, OUT, EXCLUSIVE, ONESHOT, ET] = [1, 4, 0x1000_0000, 0x4000_0000, 0x8000_0000];

class Regular extends FileDescription {}

function program(): {
  kernel: TestKernel;
  process: TestProcess;
  a: TestThread;
  b: TestThread;
  epoll: number;
} {
  const kernel = new TestKernel();
  const process = new TestProcess(kernel);
  process.memory.allocate(memory, 3 * 4096);
  const a = process.thread();
  const epoll = a.call(create, 0) as number;
  return { kernel, process, a, b: process.thread(), epoll };
}

function control(thread: TestThread, epoll: number, op: number, fd: number, bits: number, data = fd) {
  thread.memory.writeU32(memory, bits);
  thread.memory.writeU64(memory + 4, data);
  return thread.call(ctl, epoll, op, fd, memory);
}

/** What epoll_wait gives without waiting: data of each event. */
function ready(thread: TestThread, epoll: number, maximum = 10): number[] {
  const count = thread.call(epollWait, epoll, events, maximum, 0);
  assert.ok(typeof count === 'number' && count >= 0);
  return Array.from({ length: count }, (_, i) => thread.memory.readU64(events + i * 12 + 4));
}

const counter = (thread: TestThread, fd: number): EventFile => {
  const file = openFile(thread.task, fd);
  assert.ok(file instanceof EventFile);
  return file;
};
const newCounter = (thread: TestThread, value = 0): number => thread.call(eventfd, value, 0o4000) as number;
const drain = (thread: TestThread, fd: number): void => {
  const file = counter(thread, fd);
  assert.equal(file.read(thread.task, { left: 8, put: () => 8 } as never, undefined), 8);
};

test('a level-triggered file is reported until it is read, an edge-triggered one once for each event', () => {
  const { a, epoll } = program();
  const [level, edge] = [newCounter(a, 1), newCounter(a, 1)];
  assert.equal(control(a, epoll, ADD, level, IN), 0);
  assert.equal(control(a, epoll, ADD, edge, IN | ET), 0);
  assert.deepEqual(ready(a, epoll), [level, edge]);
  assert.deepEqual(ready(a, epoll), [level]);
  counter(a, edge).signal();
  assert.deepEqual(ready(a, epoll), [level, edge]);
  drain(a, level);
  assert.deepEqual(ready(a, epoll), []);
});

test('a one-shot file is silent after its event until EPOLL_CTL_MOD', () => {
  const { a, epoll } = program();
  const fd = newCounter(a, 1);
  control(a, epoll, ADD, fd, IN | ONESHOT);
  assert.deepEqual(ready(a, epoll), [fd]);
  counter(a, fd).signal();
  assert.deepEqual(ready(a, epoll), []);
  assert.equal(control(a, epoll, MOD, fd, IN | ONESHOT), 0);
  assert.deepEqual(ready(a, epoll), [fd]);
});

test('with room for one event at a time, ready files take turns', () => {
  const { a, epoll } = program();
  const fds = [newCounter(a, 1), newCounter(a, 1), newCounter(a, 1)];
  for (const fd of fds) control(a, epoll, ADD, fd, IN);
  const seen = Array.from({ length: 6 }, () => ready(a, epoll, 1)[0]);
  assert.deepEqual(seen, [...fds, ...fds]);
});

test('epoll_wait blocks until an event, its time-out, or a signal', () => {
  const { kernel, process, a, b, epoll } = program();
  const fd = newCounter(a);
  control(a, epoll, ADD, fd, IN, 77);
  assert.equal(a.call(epollWait, epoll, events, 4, -1), waiting);
  assert.equal(b.call(epollWait, epoll, events + 0x100, 4, 20), waiting);
  kernel.advance(20e6);
  assert.equal(b.result, 0);
  counter(a, fd).signal();
  kernel.settle();
  assert.equal(a.result, 1);
  assert.equal(a.memory.readU64(events + 4), 77);
  drain(a, fd);
  a.call(epollWait, epoll, events, 4, -1);
  process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(a.result, -Errno.EINTR);
});

test('epoll_ctl refuses what Linux refuses, in its order', () => {
  const { a, epoll } = program();
  const fd = newCounter(a);
  const regular = a.open(new Regular(0, undefined));
  assert.equal(a.call(ctl, epoll, ADD, 99, 8), -Errno.EFAULT);
  assert.equal(control(a, 99, ADD, fd, IN), -Errno.EBADF);
  assert.equal(control(a, epoll, ADD, 99, IN), -Errno.EBADF);
  assert.equal(control(a, epoll, ADD, regular, IN), -Errno.EPERM);
  assert.equal(control(a, fd, ADD, epoll, IN), -Errno.EINVAL);
  assert.equal(control(a, epoll, ADD, epoll, IN), -Errno.EINVAL);
  assert.equal(control(a, epoll, DEL, fd, IN), -Errno.ENOENT);
  assert.equal(control(a, epoll, MOD, fd, IN), -Errno.ENOENT);
  assert.equal(control(a, epoll, 9, fd, IN), -Errno.EINVAL);
  assert.equal(control(a, epoll, ADD, fd, IN | 2 | EXCLUSIVE), -Errno.EINVAL);
  assert.equal(control(a, epoll, ADD, fd, IN | EXCLUSIVE), 0);
  assert.equal(control(a, epoll, ADD, fd, IN), -Errno.EEXIST);
  assert.equal(control(a, epoll, MOD, fd, IN), -Errno.EINVAL, 'an exclusive item cannot be changed');
  assert.equal(a.call(epollWait, 99, events, 0, 0), -Errno.EBADF);
  assert.equal(a.call(epollWait, fd, events, 0, 0), -Errno.EINVAL);
  assert.equal(a.call(epollWait, fd, -4096n, 1, 0), -Errno.EFAULT);
  assert.equal(a.call(epollWait, epoll, events, 178_956_971, 0), -Errno.EINVAL);
});

test('instances may watch one another four deep and never in a circle', () => {
  const { a } = program();
  const chain = Array.from({ length: 6 }, () => a.call(create, 0) as number);
  const results = chain.slice(1).map((epoll, i) => control(a, epoll, ADD, chain[i] ?? -1, IN));
  assert.deepEqual(results, [0, 0, 0, 0, -Errno.ELOOP]);
  assert.equal(control(a, chain[0] ?? -1, ADD, chain[2] ?? -1, IN), -Errno.ELOOP);
});

test('an instance is readable when a file that it watches is, through several levels', () => {
  const { kernel, a, epoll } = program();
  const [inner, fd] = [a.call(create, 0) as number, newCounter(a)];
  control(a, inner, ADD, fd, IN);
  control(a, epoll, ADD, inner, IN);
  assert.equal(a.call(epollWait, epoll, events, 1, -1), waiting);
  counter(a, fd).signal();
  kernel.settle();
  assert.equal(a.result, 1);
  drain(a, fd);
  assert.deepEqual(ready(a, epoll), []);
});

test('a file leaves when its last descriptor is closed, not before, and its number can be watched anew', () => {
  const { a, epoll } = program();
  const fd = newCounter(a, 1);
  const file = counter(a, fd);
  const duplicate = a.open(file.acquire());
  control(a, epoll, ADD, fd, IN, 1);
  a.files.close(a.task, fd);
  assert.deepEqual(ready(a, epoll), [1], 'the duplicate keeps it');
  const other = newCounter(a, 1);
  assert.equal(other, fd, 'the number is used again');
  assert.equal(control(a, epoll, ADD, fd, IN, 2), 0);
  assert.deepEqual(ready(a, epoll), [1, 2]);
  a.files.close(a.task, duplicate);
  assert.deepEqual(ready(a, epoll), [2]);
  assert.ok(file.queue.empty);
});

test('closing an instance lets go of what it watches', () => {
  const { kernel, a, epoll } = program();
  const fd = newCounter(a, 1);
  control(a, epoll, ADD, fd, IN);
  kernel.part(EpollWatches).maximum = 1;
  assert.equal(control(a, epoll, ADD, newCounter(a), IN), -Errno.ENOSPC);
  a.files.close(a.task, epoll);
  assert.ok(counter(a, fd).queue.empty);
  const next = a.call(create, 0) as number;
  assert.equal(control(a, next, ADD, fd, IN), 0, "the user's count went down");
});

test('events that cannot be written stay ready', () => {
  const { a, epoll } = program();
  const fds = [newCounter(a, 1), newCounter(a, 1)];
  for (const fd of fds) control(a, epoll, ADD, fd, OUT | ET);
  assert.equal(a.call(epollWait, epoll, 0x50_0000, 4, 0), -Errno.EFAULT);
  const last = memory + 3 * 4096 - 12;
  assert.equal(a.call(epollWait, epoll, last, 4, 0), 1);
  assert.deepEqual(ready(a, epoll), [fds[1]]);
});

test('of threads that watch a file exclusively, one is told of an event', () => {
  const { kernel, a, b, epoll } = program();
  const other = a.call(create, 0) as number;
  const fd = newCounter(a);
  control(a, epoll, ADD, fd, IN | EXCLUSIVE);
  control(a, other, ADD, fd, IN | EXCLUSIVE);
  a.call(epollWait, epoll, events, 1, -1);
  b.call(epollWait, other, events + 0x100, 1, -1);
  counter(a, fd).signal();
  kernel.settle();
  assert.deepEqual([a.result, b.result], [1, waiting]);
});
