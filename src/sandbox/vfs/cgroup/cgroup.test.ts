import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { Container, type ContainerLimits } from '../../kernel/task/container.ts';
import type { ThreadGroup } from '../../kernel/task/thread-group.ts';
import type { FileSystemType } from '../contract.ts';
import { FakeKernel, FakeTask, fakePath } from '../testing/fake-task.ts';
import { cgroupType, parseHierarchy, unifiedCgroupType } from './file-system.ts';

const limits: ContainerLimits = {
  memory: 64 * 1024 * 1024 + 100,
  cpuQuota: 150_000,
  cpuPeriod: 100_000,
  cpuShares: 512,
};

/** A container with two processes of which the reader sees one: number 7; the other is another PID namespace's. */
function mountCgroup(type: FileSystemType, options: string, given?: ContainerLimits) {
  const kernel = new FakeKernel();
  const container = new Container(kernel as never, 'test', 100, given);
  const process = (number: number, resident: number): ThreadGroup => {
    const thread = { mm: { usage: () => ({ resident }) }, exiting: false, dead: false, tidIn: () => number };
    return {
      container,
      tasks: [thread, thread],
      pidIn: () => number,
      cpuTime: () => ({ user: 3e6, system: 1e6 }),
      pidNamespace: {
        findProcess: (pid: number) => (pid === 7 ? seen : undefined),
        findTask: () => undefined,
      },
    } as unknown as ThreadGroup;
  };
  const seen = process(7, 8192);
  const hidden = process(0, 4096);
  container.processes.add(seen).add(hidden);
  for (let i = 0; i < 3; i++) container.taskBorn();
  const fake = new FakeTask(kernel);
  const task = Object.assign(fake, { process: seen }).task;
  const fileSystem = type.mount(task, 'cgroup', options);
  assert.ok(typeof fileSystem !== 'number');
  const open = (name: string, flags: number) => {
    const inode = fileSystem.root.lookup(name, task);
    assert.ok(typeof inode !== 'number', name);
    const file = inode.open(task, fakePath(inode), flags);
    assert.ok(typeof file !== 'number');
    return file;
  };
  return {
    container,
    hidden,
    fileSystem,
    task,
    read: (name: string) => fake.read(open(name, 0), 4096),
    write: (name: string, text: string) => fake.write(open(name, 1), text),
  };
}

describe('cgroup2', () => {
  it('shows the limits of the container in whole pages, and none as max', () => {
    const limited = mountCgroup(unifiedCgroupType, '', limits);
    assert.equal(limited.read('memory.max'), '67108864\n');
    assert.equal(limited.read('cpu.max'), '150000 100000\n');
    assert.equal(limited.read('cpu.weight'), '20\n');
    assert.equal(limited.read('pids.max'), '100\n');
    const free = mountCgroup(unifiedCgroupType, '');
    assert.equal(free.read('memory.max'), 'max\n');
    assert.equal(free.read('cpu.max'), 'max 100000\n');
    assert.equal(free.read('cpu.weight'), '100\n');
  });

  it('counts memory once an address space, tasks, and times of processes that are gone', () => {
    const { read, container, hidden } = mountCgroup(unifiedCgroupType, '');
    assert.equal(read('memory.current'), '12288\n');
    assert.equal(read('pids.current'), '3\n');
    const before = read('cpu.stat');
    assert.match(String(before), /^usage_usec 8000\nuser_usec 6000\nsystem_usec 2000\n/);
    container.forget(hidden);
    container.forget(hidden);
    assert.equal(read('cpu.stat'), before);
  });

  it('lists processes by the numbers that the reader sees, 0 for the others', () => {
    assert.equal(mountCgroup(unifiedCgroupType, '').read('cgroup.procs'), '7\n0\n');
  });

  it('accepts moving a process where it is, and refuses what only a manager may do', () => {
    const { write, read, fileSystem, task } = mountCgroup(unifiedCgroupType, 'nsdelegate');
    assert.equal(write('cgroup.procs', '0\n'), 2);
    assert.equal(write('cgroup.procs', '7'), 1);
    assert.equal(write('cgroup.procs', '8'), -Errno.ESRCH);
    assert.equal(write('cgroup.procs', 'x'), -Errno.EINVAL);
    assert.equal(write('memory.max', '1'), -Errno.EPERM);
    assert.equal(write('cpu.stat', '1'), -Errno.EINVAL);
    assert.equal(read('cgroup.kill'), -Errno.EINVAL);
    assert.equal(fileSystem.root.makeDirectory('x', 0o755, task.credentials), -Errno.EAGAIN);
    assert.equal(fileSystem.options, 'nsdelegate');
  });

  it('passes on controllers that may have processes beside children only', () => {
    const { write, read } = mountCgroup(unifiedCgroupType, '');
    assert.equal(write('cgroup.subtree_control', '+pids +cpu'), 10);
    assert.equal(read('cgroup.subtree_control'), 'cpu pids\n');
    assert.equal(write('cgroup.subtree_control', '-cpu +memory'), -Errno.EBUSY);
    assert.equal(write('cgroup.subtree_control', '+io'), -Errno.EINVAL);
    assert.equal(read('cgroup.subtree_control'), 'cpu pids\n');
  });

  it('refuses options that it does not know', () => {
    const { task } = mountCgroup(unifiedCgroupType, '');
    assert.equal(unifiedCgroupType.mount(task, 'x', 'memory'), -Errno.EINVAL);
  });
});

describe('cgroup version 1', () => {
  it('shows the limits in the files of version 1', () => {
    const { read, fileSystem } = mountCgroup(cgroupType, 'memory,cpu', limits);
    assert.equal(fileSystem.options, 'cpu,memory');
    assert.equal(read('memory.limit_in_bytes'), '67108864\n');
    assert.equal(read('memory.usage_in_bytes'), '12288\n');
    assert.equal(read('cpu.cfs_quota_us'), '150000\n');
    assert.equal(read('cpu.shares'), '512\n');
    assert.match(
      String(read('memory.stat')),
      /\nrss 12288\n(?:.*\n)*hierarchical_memory_limit 67108864\n(?:.*\n)*total_rss 12288\n/,
    );
    const statfs = fileSystem.statfs();
    assert.ok(typeof statfs !== 'number');
    assert.equal(statfs.type, 0x27e0eb);
  });

  it('writes no limit as the largest count of pages, and -1 for processor time', () => {
    const { read } = mountCgroup(cgroupType, '');
    assert.equal(read('memory.limit_in_bytes'), '9223372036854771712\n');
    assert.equal(read('cpu.cfs_quota_us'), '-1\n');
    assert.equal(read('pids.max'), '100\n');
    assert.equal(read('tasks'), '7\n7\n0\n0\n');
  });

  it('takes hierarchies by their controllers or a name', () => {
    assert.deepEqual(parseHierarchy('cpuacct,cpu'), {
      controllers: ['cpu', 'cpuacct'],
      shown: 'cpu,cpuacct',
    });
    assert.deepEqual(parseHierarchy('none,name=systemd'), { controllers: [], shown: 'name=systemd' });
    assert.deepEqual(parseHierarchy('xattr,name=systemd'), { controllers: [], shown: 'xattr,name=systemd' });
    assert.equal(parseHierarchy('none'), -Errno.EINVAL);
    assert.equal(parseHierarchy('all,cpu'), -Errno.EINVAL);
    assert.equal(parseHierarchy('blkio'), -Errno.EINVAL);
    assert.equal(parseHierarchy('cpu,noprefix'), -Errno.EINVAL);
  });
});
