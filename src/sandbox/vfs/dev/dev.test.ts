import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Capability } from '../../abi/capability.ts';
import { Device, Major, RandomIoctl } from '../../abi/device.ts';
import { Errno } from '../../abi/errno.ts';
import { FileType, makeDevice, OpenFlag } from '../../abi/open.ts';
import type { Credentials } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { FileDescription } from '../file-description.ts';
import { Inode } from '../inode.ts';
import { FakeKernel, FakeTask, fakeCredentials, fakePath } from '../testing/fake-task.ts';
import { openHostFile } from './host-file.ts';
import { populateDevices } from './populate.ts';
import { DeviceRegistry } from './registry.ts';

const nowhere = fakePath(undefined);

function open(task: FakeTask, device: number, flags: number = OpenFlag.readWrite): FileDescription {
  const file = task.kernel.part(DeviceRegistry).open(task.task, nowhere, flags, FileType.character, device);
  assert(typeof file !== 'number');
  return file;
}

test('null swallows everything, even what cannot be read, and gives nothing', () => {
  const task = new FakeTask();
  const file = open(task, Device.null);
  assert.equal(task.read(file, 10), '');
  assert.equal(task.write(file, 'gone'), 4);
  assert.equal(file.seek(task.task, 77, 0), 0);
});

test('zero and full give zeroes; only zero takes writes', () => {
  const task = new FakeTask();
  const zero = open(task, Device.zero);
  task.memory.allocate(0x80_0000, 10_000);
  assert.equal(task.read(zero, 10_000), '\0'.repeat(10_000));
  assert.equal(task.write(zero, 'x'), 1);
  assert.equal(zero.mapsAnonymous, true);
  const full = open(task, Device.full);
  assert.equal(task.read(full, 3), '\0\0\0');
  assert.equal(task.write(full, 'x'), -Errno.ENOSPC);
});

test('random gives as many bytes as asked for, and its pool is an administrator’s', () => {
  const task = new FakeTask();
  const file = open(task, Device.urandom);
  const bytes = task.read(file, 200_000);
  assert(typeof bytes === 'string');
  assert.equal(bytes.length, 200_000);
  assert(new Set(bytes).size > 200);
  assert.equal(task.write(file, 'seed'), 4);
  task.memory.allocate(0x5000);
  assert.equal(file.ioctl(task.task, RandomIoctl.getEntropyCount, 0x5000), 0);
  assert.equal(task.memory.readU32(0x5000), 256);
  task.credentials = fakeCredentials(1000);
  assert.equal(file.ioctl(task.task, RandomIoctl.clearPool, 0), -Errno.EPERM);
  assert.equal(Capability.sysAdmin, 21);
});

test('a number that no driver has gives ENXIO; a driver for a major serves all its minors', () => {
  const task = new FakeTask();
  const registry = task.kernel.part(DeviceRegistry);
  const number = makeDevice(Major.pseudoTerminal, 300);
  assert.equal(registry.open(task.task, nowhere, 0, FileType.character, number), -Errno.ENXIO);
  registry.register('pts', Major.pseudoTerminal, undefined, (_task, _path, _flags, device) =>
    device === number ? -Errno.EBUSY : -Errno.EIO,
  );
  assert.equal(registry.open(task.task, nowhere, 0, FileType.character, number), -Errno.EBUSY);
  assert.equal(registry.open(task.task, nowhere, 0, FileType.block, Device.null), -Errno.ENXIO);
  assert.deepEqual(registry.characterMajors(), [
    [1, 'mem'],
    [136, 'pts'],
  ]);
});

test('a directory is filled with the default devices, and what is there stays', () => {
  const made: string[] = [];
  class Directory extends Inode {
    readonly fileSystem = undefined as never;
    readonly mode = 0o40755;
    readonly uid = 0;
    readonly gid = 0;
    readonly ino = 1;
    stat(): number {
      return -Errno.EIO;
    }
    override create(name: string, mode: number, device: number): Inode | number {
      made.push(`${name} ${mode.toString(8)} ${device}`);
      return name === 'full' ? -Errno.EEXIST : this;
    }
    override symlink(name: string, target: string, _owner: Credentials): Inode | number {
      made.push(`${name} -> ${target}`);
      return this;
    }
    override makeDirectory(name: string): Inode | number {
      made.push(`${name}/`);
      return this;
    }
  }
  assert.equal(populateDevices(new Directory(), fakeCredentials()), 0);
  assert(made.includes('null 20666 259'));
  assert(made.includes('fd -> /proc/self/fd'));
  assert(made.includes('mqueue/'));
});

function hostPipe(flags: number) {
  const task = new FakeTask();
  const host = task.kernel.host;
  const fd = host.file('', 0o010600);
  return { task, host, fd, file: openHostFile(new FakeTask(task.kernel).task.kernel, fd, flags, 5, 6) };
}

test('a host pipe is read and written at its own position, cannot be sought, and names itself', () => {
  const { task, host, fd, file } = hostPipe(OpenFlag.readWrite);
  assert.equal(task.write(file, 'hello'), 5);
  assert.equal(Buffer.from(host.files.get(fd)?.bytes.subarray(0, 5) ?? []).toString(), 'hello');
  assert.equal(file.seek(task.task, 0, 0), -Errno.ESPIPE);
  assert.equal(task.read(file, 5, 0), -Errno.ESPIPE);
  assert.match(file.describe(), /^pipe:\[\d+\]$/);
  const stat = file.stat();
  assert(typeof stat !== 'number');
  assert.deepEqual([stat.uid, stat.gid, stat.mode], [5, 6, 0o010600]);
});

test('waiters on a host pipe are told once for each change, and nothing is watched without them', () => {
  const { host, fd, file } = hostPipe(OpenFlag.readOnly);
  const queue = file.queue;
  assert(queue);
  let told = 0;
  const waiter = { notify: () => told++ };
  host.fire(fd, Poll.in);
  assert.equal(told, 0);
  host.ready.set(fd, 0);
  queue.add(waiter, Poll.in);
  host.fire(fd, Poll.out);
  assert.equal(told, 0);
  host.fire(fd, Poll.in);
  host.fire(fd, Poll.in);
  assert.equal(told, 1, 'level-triggered readiness is not reported for ever');
  assert.equal(file.readiness(Poll.in), 0);
  host.fire(fd, Poll.in);
  assert.equal(told, 2, 'after a look that found nothing it is waited for again');
  host.fire(fd, Poll.hup);
  host.fire(fd, Poll.hup);
  assert.equal(told, 3);
  queue.remove(waiter);
  host.fire(fd, Poll.in);
  assert.equal(told, 3);
});

test('a host file that is a regular file has positions and can be mapped', () => {
  const task = new FakeTask(new FakeKernel());
  const fd = task.kernel.host.file('0123456789');
  const file = openHostFile(task.task.kernel, fd, OpenFlag.readWrite, 0, 0);
  assert.equal(task.read(file, 3, 4), '456');
  assert.equal(file.seek(task.task, 8, 0), 8);
  assert.equal(task.read(file, 10), '89');
  assert.equal(file.mappable(task.task, 1, true), fd);
  assert.equal(file.queue, undefined);
  const again = file.inode.open(task.task, nowhere, OpenFlag.readOnly);
  assert(typeof again !== 'number');
  file.unreference();
  assert.equal(task.read(again, 2, 0), '01');
});
