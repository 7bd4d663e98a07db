import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { Fcntl, Flock, LockType } from '../../abi/file.ts';
import { OpenFlag } from '../../abi/open.ts';
import { BLOCKED } from '../../kernel/contract.ts';
import { createTestTree, type TestTask } from '../testing/tree.ts';
import { LockTable } from './lock-table.ts';

/** struct flock. */
function range(type: number, start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setInt16(0, type, true);
  view.setBigInt64(8, BigInt(start), true);
  view.setBigInt64(16, BigInt(length), true);
  return bytes;
}

function two(): {
  one: TestTask;
  other: TestTask;
  fd: number;
  otherFd: number;
  tree: ReturnType<typeof createTestTree>;
} {
  const tree = createTestTree();
  Object.assign(tree.kernel, { rootPidNamespace: { findProcess: () => other.process } });
  const one = tree.task();
  const other = tree.task();
  other.process.pid = 2;
  const fd = one.call('open', '/f', OpenFlag.create | OpenFlag.readWrite, 0o644);
  const otherFd = other.call('open', '/f', OpenFlag.readWrite);
  return { one, other, fd, otherFd, tree };
}

const set = (
  task: TestTask,
  fd: number,
  type: number,
  start: number,
  length: number,
  command: number = Fcntl.setLock,
) => task.call('fcntl', fd, command, range(type, start, length));

test('record locks of others conflict where they overlap, and unlocking splits a range', () => {
  const { one, other, fd, otherFd, tree } = two();
  assert.equal(set(one, fd, LockType.write, 0, 100), 0);
  assert.equal(set(other, otherFd, LockType.read, 99, 1), -Errno.EAGAIN);
  assert.equal(set(other, otherFd, LockType.read, 100, 1), 0);
  assert.equal(set(one, fd, LockType.unlock, 40, 20), 0);
  assert.equal(set(other, otherFd, LockType.write, 40, 20), 0);
  const shown = [...tree.kernel.part(LockTable).entries()].map(
    (lock) => `${lock.pid} ${lock.type} ${lock.start} ${lock.end}`,
  );
  assert.deepEqual(shown, ['1 WRITE 0 39', '1 WRITE 60 99', '2 WRITE 40 59', '2 READ 100 100']);
  const asked = range(LockType.read, 50, 1);
  assert.equal(one.call('fcntl', fd, Fcntl.getLock, asked), 0);
  const view = new DataView(asked.buffer);
  assert.deepEqual(
    [view.getInt16(0, true), view.getBigInt64(8, true), view.getBigInt64(16, true)],
    [1, 40n, 20n],
  );
});

test('locks next to one another of the same kind become one, and closing any descriptor drops them', () => {
  const { one, other, fd, otherFd, tree } = two();
  set(one, fd, LockType.read, 0, 10);
  set(one, fd, LockType.read, 10, 10);
  set(one, fd, LockType.read, 30, 0);
  const ranges = () => [...tree.kernel.part(LockTable).entries()].map((lock) => [lock.start, lock.end]);
  assert.deepEqual(ranges(), [
    [0, 19],
    [30, Number.POSITIVE_INFINITY],
  ]);
  assert.equal(set(other, otherFd, LockType.write, 5000, 1), -Errno.EAGAIN);
  const copy = one.call('dup', fd);
  one.call('close', copy);
  assert.deepEqual(ranges(), []);
});

test('F_SETLKW waits until the lock is free, and a circle of waiters is refused with EDEADLK', () => {
  const { one, other, fd, otherFd } = two();
  set(one, fd, LockType.write, 0, 1);
  set(other, otherFd, LockType.write, 1, 1);
  assert.equal(set(one, fd, LockType.write, 1, 1, Fcntl.setLockWait), BLOCKED);
  assert.equal(one.retry(), undefined);
  assert.equal(set(other, otherFd, LockType.write, 0, 1, Fcntl.setLockWait), -Errno.EDEADLK);
  assert.equal(set(other, otherFd, LockType.unlock, 1, 1), 0);
  assert.equal(one.retry(), 0);
});

test('an interrupted wait leaves no trace that could look like a deadlock', () => {
  const { one, other, fd, otherFd } = two();
  set(one, fd, LockType.write, 0, 1);
  set(other, otherFd, LockType.write, 1, 1);
  assert.equal(set(one, fd, LockType.write, 1, 1, Fcntl.setLockWait), BLOCKED);
  assert.equal(one.interrupt(), -Errno.ERESTARTSYS);
  assert.equal(set(other, otherFd, LockType.write, 0, 1, Fcntl.setLockWait), BLOCKED);
  other.interrupt();
});

test('OFD locks belong to the open file: a second open of the same process conflicts, a duplicate does not', () => {
  const { one, fd } = two();
  const second = one.call('open', '/f', OpenFlag.readWrite);
  const copy = one.call('dup', fd);
  assert.equal(set(one, fd, LockType.write, 0, 0, Fcntl.ofdSetLock), 0);
  assert.equal(set(one, second, LockType.read, 0, 1, Fcntl.ofdSetLock), -Errno.EAGAIN);
  assert.equal(set(one, copy, LockType.read, 0, 0, Fcntl.ofdSetLock), 0);
  one.call('close', fd);
  assert.equal(set(one, second, LockType.write, 0, 1, Fcntl.ofdSetLock), -Errno.EAGAIN);
  one.call('close', copy);
  assert.equal(set(one, second, LockType.write, 0, 1, Fcntl.ofdSetLock), 0);
  // It shares its ranges with POSIX locks.
  const third = one.call('open', '/f', OpenFlag.readWrite);
  assert.equal(set(one, third, LockType.write, 0, 1), -Errno.EAGAIN);
});

test('locks need the right to do what they protect, and sane ranges', () => {
  const { one } = two();
  const reader = one.call('open', '/f', 0);
  assert.equal(set(one, reader, LockType.write, 0, 1), -Errno.EBADF);
  assert.equal(set(one, reader, 7, 0, 1), -Errno.EINVAL);
  assert.equal(set(one, reader, LockType.read, -1, 1), -Errno.EINVAL);
  assert.equal(set(one, reader, LockType.read, 10, -5), 0);
});

test('flock is shared by duplicates, waits for others, and goes with the last reference', () => {
  const { one, other, fd, otherFd } = two();
  const copy = one.call('dup', fd);
  assert.equal(one.call('flock', fd, Flock.exclusive), 0);
  assert.equal(one.call('flock', copy, Flock.exclusive), 0);
  assert.equal(other.call('flock', otherFd, Flock.shared | Flock.nonBlock), -Errno.EAGAIN);
  assert.equal(other.call('flock', otherFd, Flock.shared), BLOCKED);
  one.call('close', fd);
  assert.equal(other.retry(), undefined);
  one.call('close', copy);
  assert.equal(other.retry(), 0);
});
