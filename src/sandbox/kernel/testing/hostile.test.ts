import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Syscall } from '../../syscalls/contract.ts';
import { eventSyscalls } from '../../vfs/event/syscalls.ts';
import { futexSyscalls } from '../futex/syscalls.ts';
import { ipcSyscalls } from '../ipc/syscalls.ts';
import { schedulingSyscalls } from '../sched/syscalls.ts';
import { timeSyscalls } from '../time/syscalls.ts';
import { TestKernel, TestProcess, TestThread, waiting } from './program.ts';

const calls: readonly Syscall[] = [
  ...eventSyscalls,
  ...futexSyscalls,
  ...ipcSyscalls,
  ...schedulingSyscalls,
  ...timeSyscalls,
];

const memory = 0x10_0000;
const size = 0x4000;

function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Numbers that programs get wrong: borders, pointers at the end of memory, into nothing and into the kernel's half. */
const borders: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  7n,
  8n,
  64n,
  127n,
  128n,
  255n,
  1024n,
  4095n,
  4096n,
  65_535n,
  -1n,
  -2n,
  -4096n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1_0000_0000n,
  0x7fff_ffff_ffff_ffffn,
  -0x8000_0000_0000_0000n,
  0x7fff_ffff_eff8n,
  0x7fff_ffff_f000n,
  8n,
  999n,
];

function argument(random: (below: number) => number): bigint {
  switch (random(4)) {
    case 0:
      return BigInt(memory + random(size / 8) * 8);
    case 1:
      return BigInt(memory + size - random(32));
    case 2:
      return BigInt(random(16));
    default:
      return borders[random(borders.length)] ?? 0n;
  }
}

for (const seed of [1, 20_260_101, 0xdead_beef])
  test(`no arguments and no memory make a call fail otherwise than by its result (seed ${seed})`, () => {
    const random = generator(seed);
    const kernel = new TestKernel();
    kernel.host.memoryFile = (() => {
      const make = kernel.host.memoryFile.bind(kernel.host);
      return (name: string, length: number) => (length > 1 << 20 ? -12 : make(name, length));
    })();
    const process = new TestProcess(kernel);
    process.memory.allocate(memory, size);
    Object.assign(process.mm, { vmas: () => [].values(), map: () => -12, unmap: () => 0 });
    const threads = [new TestThread(process), new TestThread(process, 7), new TestThread(process)];
    for (const thread of threads) Object.assign(thread, { fs: { umask: 0 } });
    Object.assign(kernel, { rootPidNamespace: { processes: () => [] } });
    const bytes = new Uint8Array(64);
    for (let round = 0; round < 20_000; round++) {
      const thread = threads[random(threads.length)];
      const call = calls[random(calls.length)];
      if (!thread || !call) continue;
      if (random(3) === 0) {
        for (let i = 0; i < bytes.length; i++) bytes[i] = random(8) === 0 ? random(256) : random(2);
        thread.memory.poke(memory + random(size - 64), bytes, 0, bytes.length);
      }
      if (thread.result === waiting) {
        if (random(2) === 0) process.sendSignal({ signal: 1 + random(64), code: 0 });
        kernel.advance(random(1000) * 1000);
        process.pending.length = 0;
        thread.abandon();
      }
      const values = Array.from({ length: 6 }, () => argument(random));
      const result = thread.call(call.handler, ...values);
      const shown = `${call.name}(${values.map((value) => `0x${BigInt.asUintN(64, value).toString(16)}`).join(', ')})`;
      assert.ok(result === waiting || Number.isSafeInteger(result), `${shown} = ${String(result)}`);
      assert.ok(result === waiting || result > -600, `${shown} = ${String(result)}`);
      if (round % 64 === 0) kernel.settle();
    }
  });
