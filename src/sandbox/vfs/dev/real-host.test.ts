// Standard streams on real pipes of the host, whose descriptions are set to wait.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { OpenFlag } from '../../abi/open.ts';
import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import { loadAddon } from '../../host/addon.ts';
import { NativeHost } from '../../host/native.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { FakeHost } from '../../testing/fake-host.ts';
import { loadRawCalls } from '../../testing/raw-calls.ts';
import { BufferIo } from '../io.ts';
import { FakeKernel, FakeTask } from '../testing/fake-task.ts';
import { openHostFile } from './host-file.ts';

const raw = loadRawCalls();
const host = new NativeHost(loadAddon());

function pipe() {
  const pair = new Uint8Array(8);
  assert.equal(raw.call(SyscallNumber.pipe2, pair, 0), 0);
  const [reader = -1, writer = -1] = new Int32Array(pair.buffer);
  const task = new FakeTask(new FakeKernel(host as unknown as FakeHost));
  const input = openHostFile(task.task.kernel, reader, OpenFlag.readOnly, 0, 0);
  const output = openHostFile(task.task.kernel, writer, OpenFlag.writeOnly, 0, 0);
  return { task, input, output };
}

test('a host pipe that would wait gives EAGAIN instead, empty and full', () => {
  const { task, input, output } = pipe();
  const io = (length: number) => new BufferIo(host, new Uint8Array(length));
  assert.equal(input.read(task.task, io(10), undefined), -Errno.EAGAIN);
  assert.deepEqual([input.readiness(Poll.in), output.readiness(Poll.out)], [0, Poll.out]);
  assert.equal(output.write(task.task, io(1 << 20), undefined), 65_536);
  assert.equal(output.write(task.task, io(1), undefined), -Errno.EAGAIN);
  assert.deepEqual([input.readiness(Poll.in), output.readiness(Poll.out)], [Poll.in, 0]);
  assert.equal(input.read(task.task, io(1 << 20), undefined), 65_536);
  input.unreference();
  assert.equal(output.write(task.task, io(1), undefined), -Errno.EPIPE);
  assert.equal(task.signals[0]?.signal, 13);
  output.unreference();
});

test('whoever waits for a host pipe is told when something comes', () => {
  const { task, input, output } = pipe();
  const told: number[] = [];
  const waiter = { notify: (events: number) => told.push(events & (Poll.in | Poll.hup)) };
  input.queue?.add(waiter, Poll.in);
  host.poll(0);
  assert.deepEqual(told, []);
  output.write(task.task, new BufferIo(host, Buffer.from('x')), undefined);
  host.poll(1e9);
  host.poll(0);
  assert.deepEqual(told, [Poll.in]);
  input.read(task.task, new BufferIo(host, new Uint8Array(10)), undefined);
  output.unreference();
  host.poll(1e9);
  host.poll(0);
  assert.deepEqual(told, [Poll.in, Poll.hup]);
  input.queue?.remove(waiter);
  input.unreference();
});
