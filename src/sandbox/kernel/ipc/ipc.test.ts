import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import type { MapRequest } from '../../mm/contract.ts';
import { TestKernel, TestProcess, TestThread, waiting } from '../testing/program.ts';
import { sysvIpcText } from './proc.ts';
import { ipcSyscalls } from './syscalls.ts';

const call = (thread: TestThread, name: string, ...values: readonly (number | bigint)[]) => {
  const found = ipcSyscalls.find((entry) => entry.name === name);
  if (!found) throw new Error(name);
  return thread.call(found.handler, ...values);
};

const memory = 0x10_0000;
const CREAT = 0o1000;
const EXCL = 0o2000;
const NOWAIT = 0o4000;
const UNDO = 0x1000;
const [RMID, SET, STAT] = [0, 1, 2];

/** Threads of processes of their own, and a memory manager that only remembers what was mapped. */
function program(count = 2, uid = 0): { kernel: TestKernel; threads: TestThread[] } {
  const kernel = new TestKernel();
  const threads = Array.from({ length: count }, (_, index) => {
    const process = new TestProcess(kernel, 1000 + 100 * index);
    process.memory.allocate(memory, 4 * 4096);
    const vmas: { start: number; end: number; file: MapRequest['file']; fileOffset: number }[] = [];
    Object.assign(process.mm, {
      vmas: () => vmas.values(),
      map: (_task: unknown, { address, length, file, offset }: MapRequest) => {
        const start = address || 0x2000_0000 + vmas.length * 0x10_0000;
        vmas.push({ start, end: start + length, file: file?.acquire(), fileOffset: offset });
        return start;
      },
      unmap: (_task: unknown, start: number) => {
        const index = vmas.findIndex((vma) => vma.start === start);
        for (const { file } of vmas.splice(index, 1)) file?.unreference();
        return 0;
      },
    });
    return new TestThread(process, uid);
  });
  return { kernel, threads };
}

function operations(
  thread: TestThread,
  ...list: readonly (readonly [number, number, number])[]
): [number, number] {
  const bytes = new Uint8Array(list.length * 6);
  const view = new DataView(bytes.buffer);
  for (const [index, [number, operation, flags]] of list.entries()) {
    view.setUint16(index * 6, number, true);
    view.setInt16(index * 6 + 2, operation, true);
    view.setInt16(index * 6 + 4, flags, true);
  }
  thread.memory.poke(memory, bytes, 0, bytes.length);
  return [memory, list.length];
}

test('keys find objects, and IPC_CREAT, IPC_EXCL, sizes and modes decide who gets them', () => {
  const { kernel, threads } = program(1);
  const [a] = threads as [TestThread];
  const stranger = new TestThread(a.process, 1234);
  assert.equal(call(a, 'semget', 7, 2, 0), -Errno.ENOENT);
  const id = call(a, 'semget', 7, 2, CREAT | 0o640);
  assert.equal(id, 0);
  assert.equal(call(a, 'semget', 7, 2, CREAT), id);
  assert.equal(call(a, 'semget', 7, 2, CREAT | EXCL), -Errno.EEXIST);
  assert.equal(call(a, 'semget', 7, 3, 0), -Errno.EINVAL);
  assert.equal(call(a, 'semget', 0, 0, CREAT), -Errno.EINVAL);
  assert.equal(call(stranger, 'semget', 7, 2, 0o400), -Errno.EACCES);
  assert.equal(call(stranger, 'semctl', id as number, 0, RMID), -Errno.EPERM);
  const other = call(a, 'semget', 0, 1, 0o600);
  assert.equal(other, 1);
  assert.equal(call(a, 'semctl', 1, 0, RMID), 0);
  assert.equal(call(a, 'semctl', 1, 0, RMID), -Errno.EINVAL, 'an old id stays invalid');
  assert.equal(call(a, 'semget', 0, 1, 0o600), 2);
  void kernel;
});

test('semaphore operations are done all together, and waiting ones in order of arrival', () => {
  const { kernel, threads } = program(3);
  const [a, b, c] = threads as [TestThread, TestThread, TestThread];
  const id = call(a, 'semget', 0, 2, 0o600) as number;
  assert.equal(call(a, 'semctl', id, 0, 16, 1), 0);
  assert.equal(call(b, 'semop', id, ...operations(b, [0, -1, 0], [1, -1, 0])), waiting);
  assert.equal(call(a, 'semctl', id, 0, 12), 1, 'nothing was taken');
  assert.equal(call(a, 'semctl', id, 1, 14), 1, 'GETNCNT: one waits for the second');
  assert.equal(call(c, 'semop', id, ...operations(c, [1, -1, 0])), waiting);
  assert.equal(call(a, 'semop', id, ...operations(a, [1, 1, 0])), 0);
  kernel.settle();
  assert.deepEqual([b.result, c.result], [0, waiting]);
  assert.equal(call(a, 'semop', id, ...operations(a, [1, 1, 0], [1, -1, NOWAIT])), 0);
  kernel.settle();
  assert.equal(c.result, waiting);
  assert.equal(call(a, 'semop', id, ...operations(a, [0, -1, NOWAIT])), -Errno.EAGAIN);
  assert.equal(call(a, 'semop', id, ...operations(a, [2, 1, 0])), -Errno.EFBIG);
  assert.equal(call(a, 'semop', id, ...operations(a, [0, 32_767, 0], [0, 1, 0])), -Errno.ERANGE);
  assert.equal(call(a, 'semctl', id, 0, 12), 0);
  assert.equal(call(a, 'semctl', id, 0, RMID), 0);
  kernel.settle();
  assert.equal(c.result, -Errno.EIDRM);
});

test('semtimedop gives up after its time, and signals interrupt it without a restart', () => {
  const { kernel, threads } = program(1);
  const [a] = threads as [TestThread];
  const id = call(a, 'semget', 0, 1, 0o600) as number;
  const time = memory + 0x800;
  a.memory.writeU64(time, 0);
  a.memory.writeU64(time + 8, 5e6);
  assert.equal(call(a, 'semtimedop', id, ...operations(a, [0, -1, 0]), time), waiting);
  kernel.advance(5e6);
  assert.equal(a.result, -Errno.EAGAIN);
  call(a, 'semop', id, ...operations(a, [0, -1, 0]));
  a.process.sendSignal({ signal: 10, code: 0 });
  kernel.settle();
  assert.equal(a.result, -Errno.EINTR);
});

test('SEM_UNDO gives back what a task took when it ends, unless SETVAL came in between', () => {
  const { threads } = program(2);
  const [a, b] = threads as [TestThread, TestThread];
  const id = call(a, 'semget', 0, 1, 0o600) as number;
  call(a, 'semctl', id, 0, 16, 3);
  assert.equal(call(b, 'semop', id, ...operations(b, [0, -2, UNDO])), 0);
  assert.equal(call(a, 'semctl', id, 0, 12), 1);
  b.semaphoreUndo?.release(b.process as never);
  assert.equal(call(a, 'semctl', id, 0, 12), 3);
  b.semaphoreUndo = undefined;
  call(b, 'semop', id, ...operations(b, [0, -1, UNDO]));
  call(a, 'semctl', id, 0, 16, 9);
  (b as TestThread).semaphoreUndo?.release(b.process as never);
  assert.equal(call(a, 'semctl', id, 0, 12), 9);
});

test('a shared segment is counted by its mappings and goes with the last one after IPC_RMID', () => {
  const { kernel, threads } = program(2);
  const [a, b] = threads as [TestThread, TestThread];
  const id = call(a, 'shmget', 42, 5000, CREAT | 0o600) as number;
  assert.equal(call(a, 'shmget', 42, 6000, 0), -Errno.EINVAL);
  const segment = a.ipc.segments.find(id);
  assert.ok(segment);
  const first = call(a, 'shmat', id, 0, 0) as number;
  const second = call(b, 'shmat', id, 0x3000_0000, 0) as number;
  assert.equal(second, 0x3000_0000);
  assert.equal(call(b, 'shmat', id, 0x3000_0000, 0), -Errno.EINVAL, 'something is there');
  assert.equal(call(b, 'shmat', id, 0x3000_0001, 0), -Errno.EINVAL);
  assert.equal(segment.attached, 2);
  assert.equal(call(a, 'shmctl', id, STAT, memory), 0);
  assert.equal(a.memory.readU64(memory + 48), 5000);
  assert.equal(a.memory.readU64(memory + 88), 2);
  assert.match(sysvIpcText(a.task, 'shm'), /^ {8}42 {10}0 {3}600 {18}5000 {2}1000 {2}1100 {6}2 /m);
  assert.equal(call(a, 'shmctl', id, RMID, 0), 0);
  assert.equal(call(a, 'shmget', 42, 1, 0), -Errno.ENOENT, 'the key is free');
  assert.equal(call(a, 'shmdt', first), 0);
  assert.equal(call(a, 'shmdt', first), -Errno.EINVAL);
  assert.ok(kernel.host.files.has(segment.fd));
  assert.equal(call(b, 'shmdt', second), 0);
  assert.ok(!kernel.host.files.has(segment.fd), 'the memory is given back');
  assert.equal(call(a, 'shmat', id, 0, 0), -Errno.EINVAL);
});

function message(thread: TestThread, type: number, text: string): number {
  const at = memory + 0x1000;
  thread.memory.writeU64(at, type);
  thread.memory.poke(at + 8, Buffer.from(text), 0, text.length);
  return at;
}
function received(thread: TestThread, result: number | string): string {
  assert.ok(typeof result === 'number' && result >= 0, String(result));
  const bytes = new Uint8Array(result);
  thread.memory.peek(memory + 0x2008, bytes, 0, result);
  return `${thread.memory.readU64(memory + 0x2000)}:${Buffer.from(bytes).toString()}`;
}
const receive = (thread: TestThread, id: number, type: number, flags = NOWAIT, size = 100) =>
  call(thread, 'msgrcv', id, memory + 0x2000, size, type, flags);

test('messages are chosen by type: any, one, all but one, the lowest up to one', () => {
  const { threads } = program(1);
  const [a] = threads as [TestThread];
  const id = call(a, 'msgget', 0, 0o600) as number;
  for (const type of [5, 3, 4, 3]) assert.equal(call(a, 'msgsnd', id, message(a, type, `m${type}`), 2, 0), 0);
  assert.equal(call(a, 'msgsnd', id, message(a, 0, ''), 0, 0), -Errno.EINVAL);
  assert.equal(receive(a, id, 9), -Errno.ENOMSG);
  assert.equal(receive(a, id, 0, NOWAIT, 1), -Errno.E2BIG);
  assert.equal(received(a, receive(a, id, 2, NOWAIT | 0o40000) as number), '4:m4', 'MSG_COPY by index');
  assert.equal(received(a, receive(a, id, -4) as number), '3:m3');
  assert.equal(received(a, receive(a, id, 3, NOWAIT | 0o20000) as number), '5:m5');
  assert.equal(received(a, receive(a, id, 0, NOWAIT | 0o10000, 1) as number), '4:m');
  assert.equal(received(a, receive(a, id, 3) as number), '3:m3');
});

test('a waiting receiver is handed its message, a waiting sender gets room, removal ends both', () => {
  const { kernel, threads } = program(3);
  const [a, b, c] = threads as [TestThread, TestThread, TestThread];
  const id = call(a, 'msgget', 0, 0o600) as number;
  assert.equal(receive(b, id, 7, 0), waiting);
  call(a, 'msgsnd', id, message(a, 6, 'x'), 1, 0);
  call(a, 'msgsnd', id, message(a, 7, 'yy'), 2, 0);
  kernel.settle();
  assert.equal(received(b, b.result), '7:yy');
  for (let i = 0; i < 1; i++) call(a, 'msgsnd', id, message(a, 1, ''), 8192, 0);
  assert.equal(call(c, 'msgsnd', id, message(c, 1, ''), 8192, NOWAIT), -Errno.EAGAIN);
  assert.equal(call(c, 'msgsnd', id, message(c, 1, ''), 8192, 0), waiting);
  receive(a, id, 6);
  kernel.settle();
  assert.equal(c.result, 0);
  assert.equal(receive(b, id, 99, 0), waiting);
  assert.equal(call(a, 'msgctl', id, RMID, 0), 0);
  kernel.settle();
  assert.equal(b.result, -Errno.EIDRM);
});

test('IPC_SET changes owner and mode, and needs a capability for a larger queue', () => {
  const { threads } = program(1, 55);
  const [a] = threads as [TestThread];
  const id = call(a, 'msgget', 0, 0o600) as number;
  assert.equal(call(a, 'msgctl', id, STAT, memory), 0);
  assert.equal(a.memory.readU32(memory + 4), 55);
  a.memory.writeU32(memory + 20, 0o6777);
  assert.equal(call(a, 'msgctl', id, SET, memory), 0);
  call(a, 'msgctl', id, STAT, memory);
  assert.equal(a.memory.readU32(memory + 20), 0o777);
  a.memory.writeU64(memory + 88, 16_385);
  assert.equal(call(a, 'msgctl', id, SET, memory), -Errno.EPERM);
});

test('POSIX queues order by priority, wait both ways, and tell once of a first message', () => {
  const { kernel, threads } = program(2);
  const [a, b] = threads as [TestThread, TestThread];
  Object.assign(a, { fs: { umask: 0o022 } });
  Object.assign(b, { fs: { umask: 0o022 } });
  const name = a.memory.string(memory, 'queue');
  b.memory.string(memory, 'queue');
  const attributes = memory + 0x100;
  a.memory.writeU64(attributes + 8, 2);
  a.memory.writeU64(attributes + 16, 16);
  assert.equal(call(a, 'mq_open', name, 2, 0, 0), -Errno.ENOENT);
  const fd = call(a, 'mq_open', name, 2 | 0o100, 0o666, attributes) as number;
  assert.ok(fd >= 0);
  assert.ok(a.files.closeOnExec(fd));
  assert.equal(call(a, 'mq_open', name, 2 | 0o300, 0o666, 0), -Errno.EEXIST);
  const other = call(b, 'mq_open', name, 2, 0, 0) as number;
  const buffer = memory + 0x1000;
  const send = (thread: TestThread, on: number, text: string, priority: number) => {
    thread.memory.poke(buffer, Buffer.from(text), 0, text.length);
    return call(thread, 'mq_timedsend', on, buffer, text.length, priority, 0);
  };
  const textOf = (thread: TestThread, length: number): string => {
    const bytes = new Uint8Array(length);
    thread.memory.peek(buffer, bytes, 0, length);
    return Buffer.from(bytes).toString();
  };
  const event = memory + 0x200;
  a.memory.writeU64(event, 99);
  a.memory.writeU32(event + 8, 12);
  assert.equal(call(a, 'mq_notify', fd, event), 0);
  assert.equal(call(b, 'mq_notify', other, event), -Errno.EBUSY);
  assert.equal(send(b, other, 'low', 1), 0);
  assert.deepEqual(
    a.process.pending.map(({ signal, code, value }) => [signal, code, value]),
    [[12, -3, 99n]],
  );
  a.process.pending.length = 0;
  assert.equal(send(b, other, 'high', 5), 0);
  assert.equal(send(b, other, 'more', 0), waiting);
  assert.equal(call(a, 'mq_timedreceive', fd, buffer, 15, 0, 0), -Errno.EMSGSIZE);
  assert.equal(call(a, 'mq_timedreceive', fd, buffer, 16, memory + 0x300, 0), 4);
  assert.deepEqual([textOf(a, 4), a.memory.readU32(memory + 0x300)], ['high', 5]);
  kernel.settle();
  assert.equal(b.result, 0);
  for (const text of ['low', 'more']) {
    assert.equal(call(a, 'mq_timedreceive', fd, buffer, 16, 0, 0), text.length);
    assert.equal(textOf(a, text.length), text);
  }
  assert.equal(call(a, 'mq_timedreceive', fd, buffer, 16, 0, 0), waiting);
  assert.equal(send(b, other, 'direct', 3), 0);
  kernel.settle();
  assert.equal(a.result, 6);
  assert.equal(send(b, other, 'a message that is too long', 3), -Errno.EMSGSIZE);
  assert.equal(call(a, 'mq_unlink', name), 0);
  assert.equal(call(a, 'mq_unlink', name), -Errno.ENOENT);
  assert.equal(send(b, other, 'still', 1), 0, 'open descriptors keep it');
});
