import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../abi/errno.ts';
import { MapFlag, Prot } from '../abi/memory.ts';
import { Rlimit } from '../abi/resource.ts';
import type { FakeAddressSpace } from '../testing/fake-platform.ts';
import { FakeProgram } from './testing/fake-program.ts';

const P = 4096;
const rw = Prot.read | Prot.write;
const anonymous = MapFlag.private | MapFlag.anonymous;
const fixed = anonymous | MapFlag.fixed;
const base = 0x1000_0000;

test('neighbours with the same rights are one mapping, and a change in the middle makes three', () => {
  const p = new FakeProgram();
  assert.equal(p.map(base, 4 * P, rw, fixed), base);
  assert.equal(p.map(base + 4 * P, 4 * P, rw, fixed), base + 4 * P);
  assert.deepEqual(p.maps(base), ['0-8 rw-p']);
  assert.equal(p.mm.protect(p.task, base + 2 * P, P, Prot.read), 0);
  assert.deepEqual(p.maps(base), ['0-2 rw-p', '2-3 r--p', '3-8 rw-p']);
  assert.equal(p.mm.protect(p.task, base + 2 * P, P, rw), 0);
  assert.deepEqual(p.maps(base), ['0-8 rw-p']);
  assert.equal(p.mm.unmap(p.task, base + P, P), 0);
  assert.deepEqual(p.maps(base), ['0-1 rw-p', '2-8 rw-p']);
  assert.equal(p.mm.usage().total, 7 * P);
});

test('mappings go down from the base, and freed room is used again from above', () => {
  const p = new FakeProgram();
  const a = p.map(0, P, rw, anonymous);
  const b = p.map(0, P, rw, anonymous);
  const c = p.map(0, 2 * P, rw, anonymous);
  assert.equal(b, a - P);
  assert.equal(c, b - 2 * P);
  assert.equal(p.mm.unmap(p.task, a, P), 0);
  assert.equal(p.map(0, 2 * P, rw, anonymous), c - 2 * P);
  assert.equal(p.map(0, P, rw, anonymous), a);
});

test('a large anonymous mapping is aligned for huge pages', () => {
  const p = new FakeProgram();
  assert.equal(p.map(0, 0x40_0000, rw, anonymous) % 0x20_0000, 0);
});

test('MAP_FIXED_NOREPLACE refuses what is there; a hint that is taken moves elsewhere', () => {
  const p = new FakeProgram();
  p.map(base, P, rw, fixed);
  assert.equal(p.map(base, P, rw, anonymous | MapFlag.fixedNoReplace), -Errno.EEXIST);
  assert.notEqual(p.map(base, P, rw, anonymous), base);
  assert.equal(p.map(base + 8 * P + 5, P, rw, anonymous), base + 8 * P);
});

test('the platform keeps its own addresses', () => {
  const p = new FakeProgram();
  assert.equal(p.map(0x1000, P, rw, fixed), -Errno.EPERM);
  const { end } = p.platform.userRange;
  assert.equal(p.map(end, P, rw, fixed), -Errno.ENOMEM);
  assert.notEqual(p.map(0x050f_0000, P, rw, anonymous), 0x050f_0000);
  // Unmapping a range around it leaves it alone.
  p.map(0x050e_f000, P, rw, fixed);
  p.map(0x0510_0000, P, rw, fixed);
  assert.equal(p.mm.unmap(p.task, 0x0500_0000, 0x20_0000), 0);
  const operations = (p.context.addressSpace as FakeAddressSpace).operations.filter((o) =>
    o.startsWith('unmap'),
  );
  assert.deepEqual(operations, ['unmap 5000000+f0000', 'unmap 5100000+100000']);
  // A program that is linked there gets it.
  assert.equal(p.map(0x050e_f000, 3 * P, rw, fixed), 0x050e_f000);
  assert.equal(p.mm.unmap(p.task, 0x050e_0000, 0x20_0000), 0);
  assert.equal((p.context.addressSpace as FakeAddressSpace).operations.at(-1), 'unmap 50e0000+200000');
});

test('errors of mmap come in the order of Linux', () => {
  const p = new FakeProgram();
  const readOnly = p.file('x', 0);
  const writeOnly = p.file('x', 1);
  assert.equal(p.map(0, 0, rw, anonymous), -Errno.EINVAL);
  assert.equal(p.map(0, P, rw, MapFlag.anonymous), -Errno.EINVAL);
  assert.equal(p.map(0, P, rw, MapFlag.sharedValidate | MapFlag.anonymous), -Errno.EINVAL);
  assert.equal(p.map(0, P, rw, MapFlag.shared, readOnly), -Errno.EACCES);
  assert.equal(p.map(0, P, Prot.read, MapFlag.private, writeOnly), -Errno.EACCES);
  assert.equal(p.map(0, P, Prot.read, MapFlag.sharedValidate | MapFlag.sync, readOnly), -Errno.EOPNOTSUPP);
  assert.equal(p.map(0, 2 ** 50, rw, anonymous), -Errno.ENOMEM);
  assert.equal(p.map(0, 2 ** 25, rw, anonymous), -Errno.ENOMEM);
  assert.ok(p.map(0, 2 ** 25, rw, anonymous | MapFlag.noReserve) > 0);
  assert.ok(p.map(0, P, Prot.read, MapFlag.shared, readOnly) > 0);
});

test('a shared mapping of a file opened for reading cannot become writable', () => {
  const p = new FakeProgram();
  const at = p.map(0, P, Prot.read, MapFlag.shared, p.file('x', 0));
  assert.equal(p.mm.protect(p.task, at, P, rw), -Errno.EACCES);
});

test('limits of address space and data are kept', () => {
  const p = new FakeProgram();
  p.limits.set(Rlimit.data, 4 * P);
  assert.ok(p.map(0, 4 * P, rw, anonymous) > 0);
  assert.equal(p.map(0, P, rw, anonymous), -Errno.ENOMEM);
  const readable = p.map(0, P, Prot.read, anonymous);
  assert.ok(readable > 0);
  assert.equal(p.mm.protect(p.task, readable, P, rw), -Errno.ENOMEM);
  p.limits.set(Rlimit.as, 6 * P);
  assert.ok(p.map(0, P, Prot.read, anonymous) > 0);
  assert.equal(p.map(0, P, Prot.read, anonymous), -Errno.ENOMEM);
});

test('MAP_LOCKED needs room in the limit or the capability', () => {
  const p = new FakeProgram();
  p.capable = false;
  p.limits.set(Rlimit.memlock, 0);
  assert.equal(p.map(0, P, rw, anonymous | MapFlag.locked), -Errno.EPERM);
  p.limits.set(Rlimit.memlock, P);
  assert.ok(p.map(0, P, rw, anonymous | MapFlag.locked) > 0);
  assert.equal(p.map(0, P, rw, anonymous | MapFlag.locked), -Errno.EAGAIN);
});

test('a file stays referenced as long as a part of its mapping is there', () => {
  const p = new FakeProgram();
  const file = p.file('x'.repeat(3 * P));
  const at = p.map(0, 3 * P, Prot.read, MapFlag.private, file);
  file.unreference();
  p.mm.unmap(p.task, at + P, P);
  p.mm.unmap(p.task, at, P);
  assert.equal(file.released, false);
  assert.equal([...p.mm.vmas()].at(-1)?.fileOffset, 2 * P);
  p.mm.unmap(p.task, at + 2 * P, P);
  assert.equal(file.released, true);
});

test('brk grows and shrinks, and stops a page before another mapping', () => {
  const p = new FakeProgram();
  p.mm.layout.brkStart = p.mm.layout.brk = base;
  assert.equal(p.mm.brk(p.task, 0), base);
  assert.equal(p.mm.brk(p.task, base + 100), base + 100);
  assert.deepEqual(p.maps(base), ['0-1 rw-p [heap]']);
  assert.equal(p.mm.brk(p.task, base + 3 * P), base + 3 * P);
  assert.deepEqual(p.maps(base), ['0-3 rw-p [heap]']);
  p.map(base + 5 * P, P, rw, fixed);
  assert.equal(p.mm.brk(p.task, base + 5 * P), base + 3 * P);
  assert.equal(p.mm.brk(p.task, base + 4 * P), base + 4 * P);
  assert.equal(p.mm.brk(p.task, base + P), base + P);
  assert.equal(p.mm.brk(p.task, base - P), base + P);
});

test('a change that the host refuses leaves the books as they were', () => {
  const p = new FakeProgram();
  const file = p.file('x'.repeat(8 * P));
  p.map(base, 8 * P, rw, MapFlag.private | MapFlag.fixed, file);
  const before = p.maps(base);
  p.mm.protect(p.task, base + 2 * P, P, Prot.read);
  assert.equal(p.mm.operationFailed(p.task, -Errno.ENOMEM), -Errno.ENOMEM);
  assert.deepEqual(p.maps(base), before);
  p.mm.unmap(p.task, base + 2 * P, P);
  assert.equal(p.mm.operationFailed(p.task, -Errno.ENOMEM), -Errno.ENOMEM);
  assert.deepEqual(p.maps(base), before);
  p.map(base + 10 * P, P, rw, fixed);
  assert.equal(p.mm.operationFailed(p.task, -Errno.ENOMEM), -Errno.ENOMEM);
  assert.deepEqual(p.maps(base), before);
  p.mm.layout.brkStart = p.mm.layout.brk = base + 20 * P;
  p.mm.brk(p.task, base + 21 * P);
  assert.equal(p.mm.operationFailed(p.task, -Errno.ENOMEM), base + 20 * P);
  assert.deepEqual(p.maps(base), before);
  assert.deepEqual(p.sent, []);
  p.mm.unmap(p.task, base, 8 * P);
  file.unreference();
  assert.equal(file.released, true);
});

test('with several users a refusal comes at once', () => {
  const p = new FakeProgram();
  p.mm.acquire();
  p.context.flush = () => -Errno.ENOMEM;
  assert.equal(p.map(base, P, rw, fixed), -Errno.ENOMEM);
  assert.deepEqual(p.maps(), []);
});

test('a stack grows by faults and by accesses of the kernel, as far as its limit', () => {
  const p = new FakeProgram();
  p.limits.set(Rlimit.stack, 64 * P);
  p.map(base, P, rw, fixed | MapFlag.growsDown);
  const fault = { signal: 11, code: 1, trap: 14, error: 6, address: base - 5 * P };
  assert.equal(p.mm.resolveFault(p.task, fault), true);
  assert.deepEqual(p.maps(base), ['-16-1 rw-p']);
  assert.equal(p.task.memory.writeU32(base - 30 * P, 7), 0);
  assert.equal(p.task.memory.readU32(base - 30 * P), 7);
  assert.equal(p.mm.resolveFault(p.task, { ...fault, address: base - 64 * P }), false);
  assert.equal(p.task.memory.readU32(base - 64 * P), -Errno.EFAULT);
});

test('a fork copies the books but for what was advised otherwise', () => {
  const p = new FakeProgram();
  const file = p.file('x'.repeat(P));
  p.map(base, P, rw, MapFlag.shared | MapFlag.fixed, file);
  p.map(base + P, P, rw, MapFlag.shared | MapFlag.fixed | MapFlag.anonymous);
  const child = p.mm.fork(p.context.fork());
  file.unreference();
  p.mm.unmap(p.task, base, P);
  assert.equal(file.released, false);
  const key = child.futexKey(base + P + 8);
  assert.deepEqual(key, p.mm.futexKey(base + P + 8));
  assert.equal(key?.offset, 8);
  child.release();
  assert.equal(file.released, true);
  assert.equal((child.addressSpace as FakeAddressSpace).destroyed, true);
});

test('the kernel reaches only what is mapped', () => {
  const p = new FakeProgram();
  p.map(base, 2 * P, rw, fixed);
  p.map(base + 2 * P, P, Prot.read, fixed);
  // What the platform has there is none of the program's.
  p.context.memory.allocate(base + 3 * P, P);
  const bytes = new Uint8Array(2 * P).fill(65);
  assert.equal(p.task.memory.write(base, bytes, 0, 2 * P), 2 * P);
  assert.equal(p.task.memory.write(base + P, bytes, 0, 2 * P), -Errno.EFAULT);
  assert.equal(p.task.memory.read(base + 2 * P, bytes, 0, P + 1), -Errno.EFAULT);
  assert.equal(p.task.memory.readString(base, 3 * P), 'A'.repeat(2 * P));
  assert.equal(p.task.memory.readString(base, 100), -Errno.ENAMETOOLONG);
  p.context.memory.poke(base + 2 * P, new Uint8Array(P).fill(66), 0, P);
  assert.equal(p.task.memory.readString(base, 8 * P), -Errno.EFAULT);
  const fd = p.host.file('y'.repeat(4 * P));
  assert.equal(p.task.memory.readFromHost(fd, 0, [base, 8, base + P, 4 * P]), 8 + P);
  assert.equal(p.task.memory.readFromHost(fd, 0, [base + 2 * P, 8]), -Errno.EFAULT);
});
