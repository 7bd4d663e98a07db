// The smaller calls on tasks: sessions and groups, prctl, limits, priorities, pidfds, namespaces; and all of them with
// arguments that no program should give.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { Signal } from '../../abi/signal.ts';
import { openNamespace } from '../namespace/nsfs.ts';
import { taskSyscalls } from '../syscalls.ts';
import type { Thread } from '../task/thread.ts';
import { dataAddress, TestSandbox } from '../testing/test-sandbox.ts';

describe('process groups and sessions', () => {
  it('setpgid keeps to its rules', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const shell = sandbox.fork(init);
    assert.equal(sandbox.call(shell, 'setpgid', 0, -1), -Errno.EINVAL);
    assert.equal(sandbox.call(shell, 'setpgid', 99, 0), -Errno.ESRCH);
    assert.equal(sandbox.call(shell, 'setpgid', 1, 0), -Errno.ESRCH);
    assert.equal(sandbox.call(init, 'setpgid', 0, 0), -Errno.EPERM);
    const job = sandbox.fork(shell);
    const other = sandbox.fork(shell);
    assert.equal(sandbox.call(shell, 'setpgid', job.tid, job.tid), 0);
    assert.equal(sandbox.call(shell, 'setpgid', other.tid, job.tid), 0);
    assert.equal(sandbox.call(other, 'getpgrp'), job.tid);
    assert.equal(sandbox.call(shell, 'setpgid', other.tid, 77), -Errno.EPERM);
    assert.equal(sandbox.call(job, 'setsid'), -Errno.EPERM);
    sandbox.call(other, 'setsid');
    assert.equal(sandbox.call(shell, 'setpgid', other.tid, 0), -Errno.EPERM);
    assert.equal(sandbox.call(shell, 'getsid', other.tid), other.tid);
    sandbox.call(job, 'execve', sandbox.string(job, dataAddress, '/program'), 0, 0);
    assert.equal(sandbox.call(shell, 'setpgid', job.tid, 0), -Errno.EACCES);
  });

  it('a number is not used again while a group or session has it', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    sandbox.kernel.rootPidNamespace.maximum = 305;
    const leader = sandbox.fork(init);
    sandbox.call(leader, 'setsid');
    const member = sandbox.fork(leader);
    sandbox.call(leader, 'exit_group', 0);
    sandbox.call(init, 'wait4', leader.tid, 0, 0, 0);
    assert.ok(sandbox.kernel.rootPidNamespace.findGroup(2));
    sandbox.call(member, 'exit_group', 0);
    sandbox.call(init, 'wait4', member.tid, 0, 0, 0);
    assert.equal(sandbox.kernel.rootPidNamespace.find(2), undefined);
  });
});

describe('prctl and arch_prctl', () => {
  it("names, flags and refusals are Linux's", () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    const prctl = (option: number, ...rest: number[]): number | undefined =>
      sandbox.call(task, 'prctl', option, ...rest);
    prctl(15, sandbox.string(task, dataAddress, 'a name that is too long'));
    assert.equal(task.name, 'a name that is ');
    prctl(16, dataAddress + 64);
    assert.equal(task.memory.readString(dataAddress + 64, 16), 'a name that is ');
    assert.equal(prctl(15, 8), -Errno.EFAULT);
    assert.equal(prctl(1, 65), -Errno.EINVAL);
    assert.equal(prctl(4, 2), -Errno.EINVAL);
    assert.equal(prctl(3), 1);
    assert.equal(prctl(8, 2), -Errno.EINVAL);
    assert.equal(prctl(23, 40), 1);
    assert.equal(prctl(23, 41), -Errno.EINVAL);
    assert.equal(prctl(24, 12), 0);
    assert.equal(prctl(23, 12), 0);
    assert.equal(prctl(28, 0x100), 0);
    assert.equal(prctl(28, 0x1000), -Errno.EPERM);
    assert.equal(prctl(28, 0xef), 0);
    assert.equal(prctl(28, 0), -Errno.EPERM);
    assert.equal(prctl(30), 50_000);
    prctl(29, 1);
    assert.equal(prctl(30), 1);
    prctl(29, 0);
    assert.equal(prctl(30), 50_000);
    assert.equal(prctl(34), 2);
    assert.equal(prctl(34, 1), -Errno.EINVAL);
    assert.equal(prctl(38, 1, 1), -Errno.EINVAL);
    assert.equal(prctl(38, 0), -Errno.EINVAL);
    assert.equal(prctl(38, 1), 0);
    assert.equal(prctl(39), 1);
    assert.equal(prctl(42), 0);
    assert.equal(prctl(0x4155_5856, dataAddress, 0), 448);
    assert.equal(prctl(9999), -Errno.EINVAL);
    assert.equal(sandbox.call(task, 'arch_prctl', 0x3001, 0), -Errno.EINVAL);
    assert.equal(sandbox.call(task, 'arch_prctl', 0x1002, 0x8000_0000_0000), -Errno.EPERM);
    assert.equal(sandbox.call(task, 'arch_prctl', 0x1002, 0x1234), 0);
    assert.equal(sandbox.call(task, 'arch_prctl', 0x1003, dataAddress), 0);
    assert.equal(task.memory.readU64(dataAddress), 0x1234);
  });

  it('PR_SET_VMA names anonymous memory in the books', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    const name = sandbox.string(task, dataAddress, 'arena');
    const bad = sandbox.string(task, dataAddress + 64, 'a[b]');
    assert.equal(
      sandbox.call(task, 'prctl', 0x5356_4d41, 0, dataAddress + 0x1000, 0x1000, bad),
      -Errno.EINVAL,
    );
    assert.equal(sandbox.call(task, 'prctl', 0x5356_4d41, 0, dataAddress + 0x1000, 0x1000, name), 0);
    assert.equal(task.mm.find(dataAddress + 0x1000)?.label, '[anon:arena]');
    assert.equal(task.mm.find(dataAddress)?.label, '');
    assert.equal(sandbox.call(task, 'prctl', 0x5356_4d41, 0, 0x7000_0000, 0x1000, name), -Errno.ENOMEM);
    assert.equal(sandbox.call(task, 'prctl', 0x5356_4d41, 0, 0x40_0000, 0x1000, name), -Errno.EBADF);
  });
});

describe('limits and priorities', () => {
  it('a hard limit may be lowered by everybody and raised by CAP_SYS_RESOURCE', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    const set = (soft: number, hard: number): number | undefined => {
      task.memory.writeU64(dataAddress, soft);
      task.memory.writeU64(dataAddress + 8, hard);
      return sandbox.call(task, 'prlimit64', 0, 7, dataAddress, dataAddress + 16);
    };
    assert.equal(set(100, 50), -Errno.EINVAL);
    assert.equal(set(100, 2_000_000), -Errno.EPERM);
    assert.equal(set(100, 8192), 0);
    assert.equal(task.memory.readU64(dataAddress + 16), 1024);
    sandbox.call(task, 'setuid', 1000);
    assert.equal(set(100, 4096), 0);
    assert.equal(set(100, 8192), -Errno.EPERM);
    assert.equal(sandbox.call(task, 'getrlimit', 16, dataAddress), -Errno.EINVAL);
    sandbox.call(task, 'getrlimit', 9, dataAddress);
    assert.equal(task.memory.readU64(dataAddress), 2 ** 64);
    assert.equal(sandbox.call(task, 'prlimit64', 99, 7, 0, 0), -Errno.ESRCH);
  });

  it('priorities go down freely, and up with RLIMIT_NICE or CAP_SYS_NICE', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    assert.equal(sandbox.call(task, 'getpriority', 0, 0), 20);
    assert.equal(sandbox.call(task, 'setpriority', 0, 0, -50), 0);
    assert.equal(sandbox.call(task, 'getpriority', 2, 0), 40);
    sandbox.call(task, 'setuid', 1000);
    assert.equal(sandbox.call(task, 'setpriority', 0, 0, 5), 0);
    assert.equal(sandbox.call(task, 'setpriority', 0, 0, 4), -Errno.EACCES);
    assert.equal(sandbox.call(task, 'getpriority', 5, 0), -Errno.EINVAL);
    assert.equal(sandbox.call(task, 'getpriority', 0, 999), -Errno.ESRCH);
    assert.equal(sandbox.call(task, 'ioprio_set', 1, 0, (2 << 13) | 3), 0);
    assert.equal(sandbox.call(task, 'ioprio_get', 1, 0), (2 << 13) | 3);
    assert.equal(sandbox.call(task, 'ioprio_set', 1, 0, 1 << 13), -Errno.EPERM);
    assert.equal(sandbox.call(task, 'ioprio_set', 1, 0, 4 << 13), -Errno.EINVAL);
  });
});

describe('pidfds', () => {
  it('say when their process has ended and when it has been reaped, and never mean another one', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    assert.equal(sandbox.call(init, 'clone', 0x1000 | 17, 0, dataAddress, 0, 0), 2);
    const child = sandbox.child(init, 2);
    const fd = sandbox.word(init, dataAddress);
    const file = init.files.get(fd);
    assert.equal(init.files.closeOnExec(fd), true);
    assert.equal(file?.readiness(0x3fff, init), 0);
    assert.equal(sandbox.call(init, 'pidfd_send_signal', fd, 0, 0, 0), 0);
    assert.equal(sandbox.call(init, 'pidfd_send_signal', fd, Signal.SIGKILL, 0, 0), 0);
    assert.equal(child.dead, true);
    assert.equal(file?.readiness(0x3fff, init), 0x41);
    assert.equal(sandbox.call(init, 'waitid', 3, fd, 0, 4, 0), 0);
    assert.equal(file?.readiness(0x3fff, init), 0x51);
    assert.equal(sandbox.call(init, 'pidfd_send_signal', fd, 0, 0, 0), -Errno.ESRCH);
    assert.equal(file?.information(), 'Pid:\t-1\nNSpid:\t-1\n');
  });

  it("arguments are looked at in Linux's order", () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    assert.equal(sandbox.call(init, 'pidfd_open', 1, 12_345), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'pidfd_open', -1, 0), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'pidfd_open', 99, 0), -Errno.ESRCH);
    const thread = sandbox.thread(init);
    assert.equal(sandbox.call(init, 'pidfd_open', thread.tid, 0), -Errno.ENOENT);
    const fd = sandbox.call(init, 'pidfd_open', thread.tid, 0o200) ?? -1;
    assert.equal(sandbox.call(init, 'pidfd_getfd', fd, 9, 1), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'pidfd_getfd', fd, 9, 0), -Errno.EBADF);
    assert.equal(sandbox.call(init, 'pidfd_getfd', fd, fd, 0), fd + 1);
    assert.equal(sandbox.call(init, 'kcmp', 1, 1, 0, fd, fd + 1), 0);
    assert.equal(sandbox.call(init, 'kcmp', 1, 1, 0, fd, 9), -Errno.EBADF);
    assert.equal(sandbox.call(init, 'kcmp', 1, 1, 9, 0, 0), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'kcmp', 1, 99, 0, 0, 0), -Errno.ESRCH);
  });
});

describe('namespaces', () => {
  it("unshare and setns give a host name of one's own and the old one back", () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const opened = openNamespace(init, 'uts');
    assert.ok(typeof opened !== 'number');
    const fd = init.files.install(init, opened, false);
    assert.equal(opened.describe(), openNamespaceText(init));
    assert.equal(sandbox.call(init, 'unshare', 0x400_0000), 0);
    sandbox.call(init, 'sethostname', sandbox.string(init, dataAddress, 'other'), 5);
    sandbox.call(init, 'uname', dataAddress);
    assert.equal(init.memory.readString(dataAddress + 65, 65), 'other');
    assert.equal(sandbox.call(init, 'setns', fd, 0x2000_0000), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'setns', fd, 0), 0);
    sandbox.call(init, 'uname', dataAddress);
    assert.equal(init.memory.readString(dataAddress + 65, 65), 'test');
    assert.equal(sandbox.call(init, 'setns', 99, 0), -Errno.EBADF);
    assert.equal(sandbox.call(init, 'sethostname', dataAddress, 65), -Errno.EINVAL);
  });

  it('flags of clone that exclude each other are refused', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const clone = (flags: number): number | undefined => sandbox.call(init, 'clone', flags, 0, 0, 0, 0);
    assert.equal(clone(0x2_0200), -Errno.EINVAL);
    assert.equal(clone(0x1000_0200), -Errno.EINVAL);
    assert.equal(clone(0x1_0000), -Errno.EINVAL);
    assert.equal(clone(0x800), -Errno.EINVAL);
    assert.equal(clone(0x8000), -Errno.EINVAL);
    assert.equal(clone(0x10_1000), -Errno.EINVAL);
    assert.equal(clone(0x80c_0000), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'clone3', 0, 10), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'clone3', 0, 5000), -Errno.E2BIG);
    assert.equal(sandbox.call(init, 'clone3', 0, 64), -Errno.EFAULT);
  });

  it('clone3 with set_tid gives the wanted number, and EEXIST the second time', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const args = dataAddress + 256;
    init.memory.clear(args, 88);
    init.memory.writeU64(args + 32, 17);
    init.memory.writeU32(dataAddress, 250);
    init.memory.writeU64(args + 64, dataAddress);
    init.memory.writeU64(args + 72, 1);
    assert.equal(sandbox.call(init, 'clone3', args, 88), 250);
    assert.equal(sandbox.call(init, 'clone3', args, 88), -Errno.EEXIST);
    init.memory.writeU32(dataAddress, 0);
    assert.equal(sandbox.call(init, 'clone3', args, 88), -Errno.EINVAL);
    init.memory.writeU64(args + 72, 2);
    assert.equal(sandbox.call(init, 'clone3', args, 88), -Errno.EINVAL);
  });
});

function openNamespaceText(thread: Thread): string {
  const file = openNamespace(thread, 'uts');
  return typeof file === 'number' ? '' : file.describe();
}

describe('any call with any arguments', () => {
  it('gives a result or an errno, and leaves accounts that add up', () => {
    let seed = 12_345;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % below;
    };
    const values = (task: Thread): (number | bigint)[] => [
      0,
      1,
      2,
      -1,
      task.tid,
      17,
      dataAddress + 8 * random(256),
      0x4_0000_0000,
      0xffff_ffff_ffff_fff0n,
      2 ** random(34),
      random(0x1_0000),
      (2 ** 31) | random(2 ** 30),
    ];
    const seen = new Set<string>();
    let rounds = 0;
    /** One container's life: its first process only makes others, until one of those ends it. */
    const live = (): void => {
      const sandbox = new TestSandbox({ taskLimit: 60 });
      const init = sandbox.process();
      while (rounds < 20_000 && sandbox.runs(init)) {
        rounds++;
        const others = [...sandbox.kernel.allTasks()]
          .map((task) => task as Thread)
          .filter((task) => task.process !== init.process);
        const running = others.filter((task) => sandbox.runs(task));
        if (others.length < 3 || random(20) === 0) {
          sandbox.call(init, 'fork');
          sandbox.call(init, 'wait4', -1, 0, 1, 0);
        }
        if (random(10) === 0)
          others[random(others.length)]?.process.sendSignal({ signal: Signal.SIGKILL, code: 0x80 });
        sandbox.settle();
        const task = running[random(running.length)];
        const call = taskSyscalls[random(taskSyscalls.length)];
        if (!task || !call || !sandbox.runs(task)) continue;
        const pool = values(task);
        const args = Array.from({ length: 6 }, () => pool[random(pool.length)] ?? 0);
        const result = sandbox.call(task, call.name, ...args);
        if (result !== undefined && result < 0) assert.ok(result > -134, `${call.name} ${result}`);
        seen.add(call.name);
      }
      sandbox.container.kill();
      sandbox.settle();
      assert.equal(sandbox.kernel.tasks, 0);
      assert.equal(sandbox.container.tasks, 0);
      assert.equal(sandbox.kernel.processCount(0), 0);
      assert.deepEqual([...sandbox.kernel.rootPidNamespace.tasks()], []);
    };
    while (rounds < 20_000) live();
    assert.equal(seen.size, taskSyscalls.length);
  });
});
