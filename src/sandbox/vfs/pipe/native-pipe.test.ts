// The rules of pages against the host's own kernel: the same random calls on a pipe of the host's and on one of the
// sandbox's must give the same results, bytes, readiness and capacity.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fcntl } from '../../abi/file.ts';
import { OpenFlag } from '../../abi/open.ts';
import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import { loadRawCalls } from '../../testing/raw-calls.ts';
import { BufferIo } from '../io.ts';
import { FakeTask } from '../testing/fake-task.ts';
import { PipeFileSystem } from './file-system.ts';

const raw = loadRawCalls();
const sizes = [0, 1, 7, 100, 4095, 4096, 4097, 5000, 8191, 8192, 12_000, 40_000, 65_536, 70_000];
const capacities = [0, 1, 4096, 4097, 5000, 8192, 16_384, 65_536, 131_072, 1 << 20];
const FIONREAD = 0x541b;

/** Random numbers that a seed repeats. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

function poll(fd: number): number {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, 0x2fff, true);
  raw.call(SyscallNumber.poll, bytes, 1, 0);
  return view.getUint16(6, true);
}

function compare(seed: number): void {
  const random = generator(seed);
  const pair = new Uint8Array(8);
  assert.equal(raw.call(SyscallNumber.pipe2, pair, OpenFlag.nonBlock), 0);
  const [reader = -1, writer = -1] = new Int32Array(pair.buffer);
  const task = new FakeTask();
  const pipes = task.kernel.part(PipeFileSystem);
  const ends = pipes.create(task.task, OpenFlag.nonBlock);
  assert(typeof ends !== 'number');
  let sent = 0;
  let open = true;
  const size = (): number => (random(3) === 0 ? random(9000) : (sizes[random(sizes.length)] ?? 0));
  for (let step = 0; step < 60; step++) {
    const what = `seed ${seed}, step ${step}`;
    switch (random(open ? 9 : 5)) {
      case 0:
      case 1: {
        const length = size();
        const theirs = new Uint8Array(length);
        const ours = new BufferIo(task.kernel.host, new Uint8Array(length));
        const count = raw.call(SyscallNumber.read, reader, theirs, length);
        assert.equal(ends.reader.read(task.task, ours, undefined), count, what);
        assert(Buffer.compare(theirs, ours.bytes) === 0, what);
        break;
      }
      case 2: {
        const capacity = capacities[random(capacities.length)] ?? 0;
        const result = raw.call(SyscallNumber.fcntl, reader, Fcntl.setPipeSize, capacity);
        assert.equal(pipes.setCapacity(task.task, ends.reader.pipe, capacity), result, what);
        break;
      }
      case 3: {
        const available = new Uint8Array(4);
        raw.call(SyscallNumber.ioctl, reader, FIONREAD, available);
        assert.equal(ends.reader.pipe.available, new DataView(available.buffer).getInt32(0, true), what);
        assert.equal(ends.reader.readiness(0x2fff), poll(reader), what);
        if (open) assert.equal(ends.writer.readiness(0x2fff), poll(writer), what);
        break;
      }
      case 4:
        if (!open || random(8) > 0) break;
        open = false;
        raw.call(SyscallNumber.close, writer);
        ends.writer.unreference();
        break;
      case 5: {
        const flags = OpenFlag.nonBlock | (random(2) * OpenFlag.direct);
        raw.call(SyscallNumber.fcntl, writer, Fcntl.setFl, flags);
        ends.writer.setFlags(OpenFlag.writeOnly | flags);
        break;
      }
      default: {
        const length = size();
        const bytes = new Uint8Array(length).map((_byte, index) => (sent + index) % 251);
        const count = raw.call(SyscallNumber.write, writer, bytes, length);
        assert.equal(
          ends.writer.write(task.task, new BufferIo(task.kernel.host, bytes), undefined),
          count,
          what,
        );
        if (count > 0) sent += count;
      }
    }
  }
  raw.call(SyscallNumber.close, reader);
  if (open) raw.call(SyscallNumber.close, writer);
}

test('1,000 random sequences of calls give what the host’s own pipes give', () => {
  for (let seed = 1; seed <= 1000; seed++) compare(seed);
});
