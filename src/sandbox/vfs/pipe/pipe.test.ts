import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { OpenFlag } from '../../abi/open.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { SyscallName } from '../../syscalls/contract.ts';
import { fakeArguments } from '../../testing/fake-platform.ts';
import { FakeKernel, FakeTask, fakeCredentials, fakePath } from '../testing/fake-task.ts';
import { Fifo } from './fifo.ts';
import { PipeFileSystem } from './file-system.ts';
import { PipeEnd } from './pipe-end.ts';
import { PipeSink, PipeSource } from './splice.ts';
import { pipeSyscalls } from './syscalls.ts';

function makePipe(flags = 0, task = new FakeTask()) {
  const ends = task.kernel.part(PipeFileSystem).create(task.task, flags);
  assert(typeof ends !== 'number');
  return { task, reader: ends.reader, writer: ends.writer, pipe: ends.reader.pipe };
}

function call(task: FakeTask, name: SyscallName, ...values: number[]): number {
  const syscall = pipeSyscalls.find((entry) => entry.name === name);
  assert(syscall);
  return syscall.handler(task.task, fakeArguments(...values));
}

test('what is written comes out in order, across many laps of the ring', () => {
  const { task, reader, writer } = makePipe();
  let written = '';
  let read = '';
  let seed = 1;
  const random = (limit: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % limit;
  };
  for (let round = 0; round < 2000; round++) {
    const text = String.fromCharCode(33 + (round % 90)).repeat(1 + random(9000));
    const count = task.write(writer, text);
    if (count > 0) written += text.slice(0, count);
    const got = task.read(reader, 1 + random(12_000));
    if (typeof got === 'string') read += got;
  }
  for (let got = task.read(reader, 70_000); typeof got === 'string'; got = task.read(reader, 70_000))
    read += got;
  assert.equal(read.length, written.length);
  assert(read === written);
});

test('an empty pipe gives EAGAIN with a writer and the end without one', () => {
  const { task, reader, writer } = makePipe();
  assert.equal(task.read(reader, 10), -Errno.EAGAIN);
  task.write(writer, 'last words');
  writer.unreference();
  assert.equal(reader.readiness(Poll.in), Poll.in | Poll.hup);
  assert.equal(task.read(reader, 100), 'last words');
  assert.equal(task.read(reader, 100), '');
  assert.equal(reader.readiness(Poll.in), Poll.hup);
});

test('a write without a reader gives EPIPE and SIGPIPE, but nothing is no write', () => {
  const { task, reader, writer } = makePipe();
  reader.unreference();
  assert.equal(writer.readiness(Poll.out), Poll.out | Poll.err);
  assert.equal(task.write(writer, ''), 0);
  assert.equal(task.write(writer, 'x'), -Errno.EPIPE);
  assert.deepEqual(
    task.signals.map((info) => info.signal),
    [13],
  );
});

test('writes of up to PIPE_BUF bytes are never split', () => {
  const { task, reader, writer, pipe } = makePipe();
  assert.equal(task.write(writer, 'a'.repeat(65_536 - 100)), 65_436);
  // 100 bytes are left in the last page: 101 need a page of their own, and there is none.
  assert.equal(task.write(writer, 'b'.repeat(101)), -Errno.EAGAIN);
  assert.equal(task.write(writer, 'c'.repeat(100)), 100);
  assert.equal(pipe.available, 65_536);
  assert.equal(writer.readiness(Poll.out), 0);
  assert.equal(task.read(reader, 4095), 'a'.repeat(4095));
  assert.equal(writer.readiness(Poll.out), 0, 'a page becomes free only when it is read whole');
  task.read(reader, 1);
  assert.equal(writer.readiness(Poll.out), Poll.out);
  assert.equal(task.write(writer, 'd'.repeat(5000)), 4096);
});

test('sixteen writes of 4095 bytes fill a pipe, because they do not fit together', () => {
  const { task, writer } = makePipe();
  let count = 0;
  while (task.write(writer, 'x'.repeat(4095)) > 0) count++;
  assert.equal(count, 16);
});

test('a packet pipe keeps writes apart and drops what a short read leaves', () => {
  const { task, reader, writer } = makePipe(OpenFlag.direct);
  task.write(writer, 'first');
  task.write(writer, 'second');
  task.write(writer, 'z'.repeat(5000));
  assert.equal(task.read(reader, 3), 'fir');
  assert.equal(task.read(reader, 100), 'second');
  assert.equal(task.read(reader, 9000), 'z'.repeat(4096));
  assert.equal(task.read(reader, 9000), 'z'.repeat(904));
});

test('notifications say what changed, and only then', () => {
  const { task, reader, writer, pipe } = makePipe();
  const events: number[] = [];
  pipe.queue.add(
    { notify: (bits) => events.push(bits & (Poll.in | Poll.out | Poll.hup | Poll.err)) },
    Poll.in | Poll.out,
  );
  task.write(writer, 'x');
  task.read(reader, 1);
  assert.deepEqual(events, [Poll.in]);
  task.write(writer, 'y'.repeat(65_536));
  task.read(reader, 4096);
  assert.deepEqual(events, [Poll.in, Poll.in, Poll.out]);
  writer.unreference();
  assert.equal((events.at(-1) ?? 0) & Poll.hup, Poll.hup);
});

test('a fault while writing keeps whole pages only and gives EFAULT if there is none', () => {
  const { task, writer, pipe } = makePipe();
  task.memory.allocate(0x20_0000, 8192);
  const io = {
    left: 12_288,
    take: (_target: Uint8Array, _offset: number, length: number) => Math.min(length, 8000),
    put: () => 0,
    putZeroes: () => 0,
    putFromHost: () => 0,
    takeToHost: () => 0,
    skip: () => 0,
  };
  assert.equal(writer.write(task.task, io, undefined), 4096);
  assert.equal(pipe.available, 4096);
  assert.equal(writer.write(task.task, { ...io, take: () => -Errno.EFAULT }, undefined), -Errno.EFAULT);
});

test('F_SETPIPE_SZ rounds up, refuses what is in use and what is too large', () => {
  const { task, reader, writer, pipe } = makePipe();
  const pipes = task.kernel.part(PipeFileSystem);
  assert.equal(pipes.setCapacity(task.task, pipe, 0), 4096);
  assert.equal(pipes.setCapacity(task.task, pipe, 5000), 8192);
  assert.equal(pipes.setCapacity(task.task, pipe, 65_537), 131_072);
  task.write(writer, 'q'.repeat(100_000));
  assert.equal(pipes.setCapacity(task.task, pipe, 65_536), -Errno.EBUSY);
  assert.equal(pipes.setCapacity(task.task, pipe, 1 << 20), 1 << 20);
  assert.equal(task.read(reader, 200_000), 'q'.repeat(100_000));
  assert.equal(pipes.setCapacity(task.task, pipe, 0x8000_0001), -Errno.EINVAL);
  task.credentials = fakeCredentials(1000);
  assert.equal(pipes.setCapacity(task.task, pipe, (1 << 20) + 1), -Errno.EPERM);
});

test('an unprivileged user has small pipes beyond the soft limit, and gets it back by closing', () => {
  const task = new FakeTask(new FakeKernel(), fakeCredentials(1000));
  const pipes = task.kernel.part(PipeFileSystem);
  pipes.userPagesSoft = 32;
  const first = makePipe(0, task);
  assert.equal(makePipe(0, task).pipe.capacity, 65_536);
  assert.equal(makePipe(0, task).pipe.capacity, 8192);
  first.reader.unreference();
  first.writer.unreference();
  pipes.userPagesSoft = 34;
  assert.equal(makePipe(0, task).pipe.capacity, 65_536);
});

test('stat and the name of an anonymous pipe are those of pipefs', () => {
  const { reader, writer } = makePipe();
  const stat = reader.stat();
  assert(typeof stat !== 'number');
  assert.equal(stat.mode, 0o10600);
  assert.equal(stat.nlink, 1);
  assert.equal(stat.blksize, 4096);
  assert.equal(writer.describe(), `pipe:[${stat.ino}]`);
});

test('FIONREAD counts all pages', () => {
  const { task, reader, writer } = makePipe();
  task.write(writer, 'w'.repeat(10_000));
  task.memory.allocate(0x5000);
  assert.equal(reader.ioctl(task.task, 0x541b, 0x5000), 0);
  assert.equal(task.memory.readU32(0x5000), 10_000);
  assert.equal(reader.ioctl(task.task, 0x541b, 0x6000_0000), -Errno.EFAULT);
  assert.equal(reader.ioctl(task.task, 0x5401, 0x5000), -Errno.ENOTTY);
});

test('pipe2 checks its flags first and leaves no descriptor behind when it fails', () => {
  const task = new FakeTask();
  task.memory.allocate(0x5000);
  assert.equal(call(task, 'pipe2', 0x5000, 1), -Errno.EINVAL);
  assert.equal(call(task, 'pipe2', 0x5000, OpenFlag.exclusive), -Errno.ENOPKG);
  assert.equal(call(task, 'pipe', 0x6000_0000), -Errno.EFAULT);
  assert.equal(task.files.files.size, 0);
  task.files.maximum = 1;
  assert.equal(call(task, 'pipe', 0x5000), -Errno.EMFILE);
  assert.equal(task.files.files.size, 0);
  task.files.maximum = 10;
  assert.equal(call(task, 'pipe2', 0x5000, OpenFlag.closeOnExec | OpenFlag.nonBlock), 0);
  assert.deepEqual([task.memory.readU32(0x5000), task.memory.readU32(0x5004)], [0, 1]);
  assert.equal(task.files.get(1)?.flags, OpenFlag.writeOnly | OpenFlag.nonBlock);
  assert.deepEqual([...task.files.closing], [0, 1]);
});

function makeFifo() {
  const task = new FakeTask();
  const inode = makePipe(0, task).reader.inode;
  const touched: boolean[] = [];
  const fifo = new Fifo(inode, (written) => touched.push(written));
  const path = fakePath(inode);
  const open = (flags: number): PipeEnd | number => {
    const file = fifo.open(task.task, path, flags);
    return file instanceof PipeEnd ? file : (file as number);
  };
  return { task, open, touched };
}

function end(file: PipeEnd | number): PipeEnd {
  assert(file instanceof PipeEnd);
  return file;
}

test('opening a FIFO waits for the other side, even if that one is gone again at once', () => {
  const { open } = makeFifo();
  const reader = end(open(OpenFlag.readOnly));
  let told = 0;
  reader.opening?.add({ notify: () => told++ }, Poll.in);
  assert.notEqual(reader.opening, undefined);
  const writer = end(open(OpenFlag.writeOnly));
  assert.equal(writer.opening, undefined);
  assert.equal(told, 1);
  writer.unreference();
  assert.equal(reader.opening, undefined);
});

test('without waiting a FIFO opens to read at once and to write only with a reader', () => {
  const { task, open } = makeFifo();
  assert.equal(open(OpenFlag.writeOnly | OpenFlag.nonBlock), -Errno.ENXIO);
  const reader = end(open(OpenFlag.readOnly | OpenFlag.nonBlock));
  assert.equal(reader.opening, undefined);
  assert.equal(reader.readiness(Poll.in), 0, 'no hangup before the first writer');
  assert.equal(task.read(reader, 1), '');
  const writer = end(open(OpenFlag.writeOnly | OpenFlag.nonBlock));
  writer.unreference();
  assert.equal(reader.readiness(Poll.in), Poll.hup);
});

test('a FIFO opened to read and write is its own partner, and forgets its bytes when all have closed it', () => {
  const { task, open, touched } = makeFifo();
  const both = end(open(OpenFlag.readWrite));
  assert.equal(both.opening, undefined);
  task.write(both, 'self');
  assert.equal(task.read(both, 2), 'se');
  assert.deepEqual(touched, [true, false]);
  both.unreference();
  const again = end(open(OpenFlag.readWrite));
  assert.equal(task.read(again, 2), -Errno.EAGAIN);
  assert.equal(open(3), -Errno.EINVAL);
});

test('splice moves between host files and pipes, tee copies, and packets stay whole', () => {
  const { task, reader, writer, pipe } = makePipe();
  const host = task.kernel.host;
  const content = 'h'.repeat(5000) + 'i'.repeat(5000);
  const sink = new PipeSink(host, pipe, 100_000);
  assert.equal(sink.putFromHost(host.file(content), 0, 100_000), 10_000);
  const second = makePipe(0, task);
  assert.equal(pipe.copyTo(second.pipe, 6000, true), 6000);
  assert.equal(pipe.available, 10_000);
  assert.equal(task.read(second.reader, 9000), content.slice(0, 6000));
  assert.equal(pipe.copyTo(second.pipe, 100, false), 100);
  assert.equal(task.read(second.reader, 9000), 'h'.repeat(100));
  task.write(writer, 'tail');
  const target = host.file();
  const source = new PipeSource(host, pipe, 100_000);
  assert.equal(source.left, 9904);
  assert.equal(source.takeToHost(target, 0, 9904), 9904);
  assert.equal(
    Buffer.from(host.files.get(target)?.bytes.subarray(0, 9904) ?? []).toString(),
    `${content.slice(100)}tail`,
  );
  assert.equal(task.read(reader, 1), -Errno.EAGAIN);
});
