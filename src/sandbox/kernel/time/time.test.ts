import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { TestKernel, TestProcess, type TestThread, waiting } from '../testing/program.ts';
import { timeSyscalls } from './syscalls.ts';

const call = (thread: TestThread, name: string, ...values: readonly (number | bigint)[]) => {
  const found = timeSyscalls.find((entry) => entry.name === name);
  if (!found) throw new Error(name);
  return thread.call(found.handler, ...values);
};

const memory = 0x10_0000;
const time = memory + 0x800;

function program(): { kernel: TestKernel; process: TestProcess; a: TestThread } {
  const kernel = new TestKernel();
  const process = new TestProcess(kernel);
  process.memory.allocate(memory);
  return { kernel, process, a: process.thread() };
}
function put(thread: TestThread, at: number, ...values: readonly (number | bigint)[]): number {
  for (const [index, value] of values.entries()) thread.memory.writeU64(at + 8 * index, value);
  return at;
}
const get = (thread: TestThread, at: number, count = 2): number[] =>
  Array.from({ length: count }, (_, index) => thread.memory.readU64(at + 8 * index));

/** What a Linux 6.18 without a real-time clock device gives for each clock: getres, settime, nanosleep, timer_create. */
const clocks: readonly (readonly [
  id: number,
  getres: number,
  settime: number,
  sleep: number,
  timer: number,
])[] = [
  [-8, 4e6, -Errno.EPERM, 0, 0],
  [-6, 1, -Errno.EPERM, 0, 0],
  [-5, -Errno.EINVAL, -Errno.EINVAL, -Errno.EOPNOTSUPP, -Errno.EOPNOTSUPP],
  [-4, 4e6, -Errno.EPERM, -Errno.EINVAL, 0],
  [-2, 1, -Errno.EPERM, -Errno.EINVAL, 0],
  [-1, -Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL],
  [0, 1, -Errno.EPERM, 0, 0],
  [1, 1, -Errno.EINVAL, 0, 0],
  [2, 1, -Errno.EINVAL, 0, 0],
  [3, 1, -Errno.EINVAL, -Errno.EOPNOTSUPP, 0],
  [4, 1, -Errno.EINVAL, -Errno.EOPNOTSUPP, -Errno.EOPNOTSUPP],
  [5, 4e6, -Errno.EINVAL, -Errno.EOPNOTSUPP, -Errno.EOPNOTSUPP],
  [7, 1, -Errno.EINVAL, 0, 0],
  [8, -Errno.EINVAL, -Errno.EINVAL, -Errno.EOPNOTSUPP, -Errno.EOPNOTSUPP],
  [10, -Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL],
  [11, 1, -Errno.EINVAL, 0, 0],
  [12, -Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL],
];

test('each clock can do what it can do on Linux', () => {
  const { kernel, a } = program();
  for (const [id, getres, settime, sleep, timer] of clocks) {
    const result = call(a, 'clock_getres', id, memory);
    assert.equal(result === 0 ? a.memory.readU64(memory + 8) : result, getres, `getres ${id}`);
    put(a, time, 1, 0);
    assert.equal(call(a, 'clock_settime', id, time), settime, `settime ${id}`);
    put(a, time, 0, 0);
    call(a, 'clock_nanosleep', id, 0, time, 0);
    kernel.settle();
    assert.equal(a.result, sleep, `nanosleep ${id}`);
    assert.equal(call(a, 'timer_create', id, 0, memory), timer, `timer_create ${id}`);
  }
});

test('clocks show wall time, time since boot and processor time', () => {
  const { kernel, process, a } = program();
  kernel.host.advance(0.25e9);
  call(a, 'clock_gettime', 0, memory);
  assert.deepEqual(get(a, memory), [1_700_000_000, 250_000_000]);
  call(a, 'clock_gettime', 1, memory);
  assert.deepEqual(get(a, memory), [1, 250_000_000]);
  process.user = 3e9;
  process.system = 5;
  call(a, 'clock_gettime', 2, memory);
  assert.deepEqual(get(a, memory), [3, 5]);
  call(a, 'clock_gettime', -7, memory);
  assert.deepEqual(get(a, memory), [3, 0], 'CPUCLOCK_VIRT');
  assert.equal(call(a, 'clock_gettime', 0, 8), -Errno.EFAULT);
  assert.equal(call(a, 'time', 0), 1_700_000_000);
  call(a, 'gettimeofday', memory, memory + 16);
  assert.deepEqual(get(a, memory, 3), [1_700_000_000, 250_000, 0]);
  assert.equal(call(a, 'adjtimex', memory + 64), 5);
  a.memory.writeU32(memory + 64, 1);
  assert.equal(call(a, 'adjtimex', memory + 64), -Errno.EPERM);
});

test('nanosleep tells what is left when a signal interrupts it, and goes on until the same moment', () => {
  const { kernel, process, a } = program();
  put(a, time, 2, 0);
  assert.equal(call(a, 'nanosleep', time, memory), waiting);
  kernel.advance(0.5e9);
  process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(a.result, -Errno.ERESTART_RESTARTBLOCK);
  assert.deepEqual(get(a, memory), [1, 500_000_000]);
  process.pending.length = 0;
  assert.equal(a.continueCall(), waiting);
  kernel.advance(1.5e9);
  assert.equal(a.result, 0);
  assert.equal(call(a, 'nanosleep', put(a, time, 0, 1e9), 0), -Errno.EINVAL);
  assert.equal(call(a, 'nanosleep', put(a, time, -1, 0), 0), -Errno.EINVAL);
  assert.equal(call(a, 'nanosleep', 8, 0), -Errno.EFAULT);
});

test('a sleep until a time of day follows the wall clock when that is set back', () => {
  const { kernel, process, a } = program();
  put(a, time, kernel.host.wall.sec + 2, 0);
  assert.equal(call(a, 'clock_nanosleep', 0, 1, time, memory), waiting);
  kernel.host.wall = { sec: kernel.host.wall.sec - 5, nsec: 0 };
  kernel.advance(6.5e9);
  assert.equal(a.result, waiting);
  kernel.advance(0.5e9);
  assert.equal(a.result, 0);
  put(a, time, kernel.host.wall.sec + 2, 0);
  call(a, 'clock_nanosleep', 0, 1, time, memory);
  process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(a.result, -Errno.ERESTARTNOHAND);
});

test("a sleep on another process's processor time ends when that has been used", () => {
  const { kernel, a } = program();
  const other = new TestProcess(kernel, 2000);
  other.thread();
  put(a, time, 0, 50e6);
  const clock = (~2000 << 3) | 2;
  assert.equal(call(a, 'clock_nanosleep', clock, 0, time, 0), waiting);
  kernel.advance(1e9);
  assert.equal(a.result, waiting, 'it used none');
  other.user = 49e6;
  kernel.advance(0.1e9);
  assert.equal(a.result, waiting);
  other.user = 50e6;
  kernel.advance(0.1e9);
  assert.equal(a.result, 0);
});

const signals = (process: TestProcess): number[] => process.pending.map(({ signal }) => signal);

test('ITIMER_REAL sends SIGALRM again and again, and alarm sets the same timer', () => {
  const { kernel, process, a } = program();
  put(a, memory, 1, 0, 0, 500_000);
  assert.equal(call(a, 'setitimer', 0, memory, 0), 0);
  kernel.advance(0.4e9);
  call(a, 'getitimer', 0, memory + 64);
  assert.deepEqual(get(a, memory + 64, 4), [1, 0, 0, 100_000]);
  kernel.advance(2.1e9);
  assert.deepEqual(signals(process), [14, 14, 14]);
  assert.equal(call(a, 'alarm', 10), 1, 'the rest of the second is rounded up');
  kernel.advance(3e9);
  assert.equal(signals(process).length, 3);
  assert.equal(call(a, 'alarm', 0), 7);
  kernel.advance(20e9);
  assert.equal(signals(process).length, 3);
  assert.equal(call(a, 'setitimer', 3, memory, 0), -Errno.EINVAL);
  put(a, memory, 0, 1e6, 0, 0);
  assert.equal(call(a, 'setitimer', 0, memory, 0), -Errno.EINVAL);
});

test('ITIMER_VIRTUAL and ITIMER_PROF count processor time, and look rarely while none is used', () => {
  const { kernel, process, a } = program();
  put(a, memory, 0, 0, 0, 10_000);
  call(a, 'setitimer', 1, memory, 0);
  put(a, memory, 0, 10_000, 0, 10_000);
  call(a, 'setitimer', 2, memory, 0);
  let looks = 0;
  const at = kernel.timers.at.bind(kernel.timers);
  kernel.timers.at = (deadline, expired) => {
    looks++;
    return at(deadline, expired);
  };
  kernel.advance(10e9);
  assert.ok(looks < 600, `${looks} looks in ten idle seconds`);
  process.system = 10e6;
  kernel.advance(50e6);
  assert.deepEqual(signals(process), [27]);
  process.user = 10e6;
  kernel.advance(50e6);
  assert.deepEqual(signals(process).sort(), [26, 27, 27]);
});

test('RLIMIT_CPU sends SIGXCPU each second beyond the soft limit and SIGKILL at the hard one', () => {
  const { kernel, process } = program();
  process.limit = () => ({ soft: 2, hard: 4 });
  process.timers.cpuLimitChanged();
  for (let used = 1; used <= 4; used++) {
    process.user = used * 1e9;
    kernel.advance(1e9);
  }
  assert.deepEqual(signals(process), [24, 24, 9]);
  process.timers.release();
  assert.equal(kernel.timers.next, Infinity);
});

test('a POSIX timer sends one signal, counts its overruns until that is taken, and then goes on', () => {
  const { kernel, process, a } = program();
  a.masked = { low: -1, high: -1 };
  put(a, memory, 0xabcdn, 34);
  assert.equal(call(a, 'timer_create', 1, memory, memory + 128), 0);
  const id = a.memory.readU32(memory + 128);
  put(a, time, 0, 10e6, 0, 100e6);
  assert.equal(call(a, 'timer_settime', id, 0, time, 0), 0);
  kernel.advance(99e6);
  call(a, 'timer_gettime', id, memory + 256);
  assert.deepEqual(get(a, memory + 256, 4), [0, 10e6, 0, 1e6]);
  kernel.advance(36e6);
  assert.deepEqual(signals(process), [34]);
  assert.equal(kernel.timers.next, Infinity);
  const info = a.signals.dequeue({ low: 0, high: 2 });
  assert.deepEqual([info?.code, info?.timer, info?.value, info?.overrun], [-2, id, 0xabcdn, 3]);
  assert.equal(call(a, 'timer_getoverrun', id), 3);
  kernel.advance(5e6);
  assert.deepEqual(signals(process), [34], 'at 140 ms');
  assert.equal(call(a, 'timer_delete', id), 0);
  assert.equal(a.signals.dequeue({ low: 0, high: 2 })?.overrun, 0);
  assert.equal(kernel.timers.next, Infinity, 'a deleted timer does not go on when its signal is taken');
  assert.equal(call(a, 'timer_delete', id), -Errno.EINVAL);
});

test('POSIX timers without a notification only run, and those of a process go with exec', () => {
  const { kernel, process, a } = program();
  a.memory.writeU32(memory + 12, 1);
  call(a, 'timer_create', 1, memory, memory + 128);
  put(a, time, 0, 0, 5, 0);
  call(a, 'timer_settime', 0, 0, time, 0);
  assert.equal(kernel.timers.next, Infinity);
  kernel.advance(2e9);
  call(a, 'timer_gettime', 0, memory + 256);
  assert.deepEqual(get(a, memory + 256, 4), [0, 0, 3, 0]);
  assert.equal(call(a, 'timer_create', 1, 0, memory + 128), 0);
  assert.equal(a.memory.readU32(memory + 128), 1);
  process.timers.exec();
  assert.equal(call(a, 'timer_gettime', 0, memory), -Errno.EINVAL);
  a.memory.writeU32(memory + 12, 3);
  assert.equal(call(a, 'timer_create', 1, memory, memory + 128), -Errno.EINVAL);
});
