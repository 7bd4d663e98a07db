// execve: what is replaced, what is kept, and that a failure leaves the old program alone.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { Signal } from '../../abi/signal.ts';
import { dataAddress, TestSandbox, tinyProgram } from '../testing/test-sandbox.ts';
import { PidFile } from './pidfd.ts';
import type { Thread } from './thread.ts';

const status = dataAddress;
const AT_EMPTY_PATH = 0x1000;

function exec(sandbox: TestSandbox, thread: Thread, path = '/program'): number | undefined {
  return sandbox.call(thread, 'execve', sandbox.string(thread, dataAddress + 512, path), 0, 0);
}

describe('execve', () => {
  it('replaces memory and context, closes what is marked, keeps numbers and masks, sets comm', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const child = sandbox.fork(init);
    const { mm, context } = child;
    for (const closing of [true, false]) child.files.install(child, new PidFile(init, 0), closing);
    child.memory.writeU64(dataAddress, 0x200);
    sandbox.call(child, 'rt_sigprocmask', 0, dataAddress, 0, 8);
    sandbox.call(child, 'set_tid_address', dataAddress);
    sandbox.put('another-long-program-name', tinyProgram(), 0o755);
    exec(sandbox, child, '/another-long-program-name');
    assert.notEqual(child.mm, mm);
    assert.notEqual(child.context, context);
    assert.equal(sandbox.runs(child), true);
    assert.equal(child.name, 'another-long-pr');
    assert.equal(child.files.get(0), undefined);
    assert.ok(child.files.get(1));
    assert.equal(child.signals.mask.low, 0x200);
    assert.equal(child.clearChildTid, 0);
    assert.equal(child.process.executable?.path?.dentry.name, 'another-long-program-name');
    assert.equal(sandbox.call(child, 'getpid'), 2);
  });

  it('fails with the errno of the file, and the old program goes on', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    sandbox.put('plain', tinyProgram(), 0o644);
    sandbox.put('garbage', 'no program', 0o755);
    sandbox.put('script', '#!/missing\n', 0o755);
    const { mm } = init;
    assert.equal(exec(sandbox, init, '/missing'), -Errno.ENOENT);
    assert.equal(exec(sandbox, init, '/plain'), -Errno.EACCES);
    assert.equal(exec(sandbox, init, '/'), -Errno.EACCES);
    assert.equal(exec(sandbox, init, '/garbage'), -Errno.ENOEXEC);
    assert.equal(exec(sandbox, init, '/script'), -Errno.ENOENT);
    assert.equal(exec(sandbox, init, ''), -Errno.ENOENT);
    assert.equal(sandbox.call(init, 'execve', 8, 0, 0), -Errno.EFAULT);
    assert.equal(
      sandbox.call(init, 'execve', sandbox.string(init, dataAddress, '/program'), 8, 0),
      -Errno.EFAULT,
    );
    assert.equal(init.mm, mm);
    assert.equal(sandbox.runs(init), true);
  });

  it('a program that runs cannot be written to, and can again afterwards', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const other = sandbox.put('other', tinyProgram(), 0o755);
    sandbox.put('script', '#!/other\n', 0o755);
    const child = sandbox.fork(init);
    exec(sandbox, child, '/script');
    assert.equal(child.process.executable?.path?.dentry.name, 'other');
    assert.equal(child.name, 'script');
    assert.equal(other.writers, -1);
    const grandchild = sandbox.fork(child);
    assert.equal(other.writers, -2);
    sandbox.call(grandchild, 'exit_group', 0);
    exec(sandbox, child);
    assert.equal(other.writers, 0);
  });

  it('ends the other threads; the one that executes takes over the number of the leader', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const leader = sandbox.fork(init);
    const second = sandbox.thread(leader);
    const third = sandbox.thread(leader);
    sandbox.call(third, 'pause');
    exec(sandbox, second);
    assert.equal(leader.dead && third.dead, true);
    assert.equal(sandbox.runs(second), true);
    assert.equal(sandbox.call(second, 'gettid'), 2);
    assert.equal(second.process.leader, second);
    assert.equal(sandbox.kernel.rootPidNamespace.findTask(3), undefined);
    assert.equal(sandbox.kernel.tasks, 2);
    assert.equal(sandbox.call(init, 'wait4', -1, status, 1, 0), 0);
    sandbox.call(second, 'exit_group', 7);
    assert.equal(sandbox.call(init, 'wait4', -1, status, 1, 0), 2);
    assert.equal(sandbox.word(init, status), 0x700);
    assert.equal(sandbox.kernel.tasks, 1);
  });

  it('lets the parent of vfork go on, whose memory was shared until then', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    assert.equal(sandbox.call(init, 'vfork'), undefined);
    const child = sandbox.child(init, 2);
    assert.equal(child.mm, init.mm);
    exec(sandbox, child);
    assert.equal(sandbox.answer(init), 2);
    assert.equal(init.mm.users, 1);
    assert.notEqual(child.mm, init.mm);
    assert.equal(sandbox.runs(child), true);
  });

  it('zeroes and wakes the word of CLONE_CHILD_CLEARTID only while somebody else has the memory', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    assert.equal(sandbox.call(init, 'clone', 0x20_4100 | 17, 0, 0, dataAddress + 64, 0), undefined);
    init.memory.writeU32(dataAddress + 64, 2);
    exec(sandbox, sandbox.child(init, 2));
    assert.equal(sandbox.word(init, dataAddress + 64), 0);
  });

  it('execveat takes a descriptor with AT_EMPTY_PATH, and knows no other flags', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const empty = sandbox.string(init, dataAddress, '');
    assert.equal(sandbox.call(init, 'execveat', -100, empty, 0, 0, 1), -Errno.ENOENT);
    assert.equal(sandbox.call(init, 'execveat', -100, empty, 0, 0, AT_EMPTY_PATH | 1), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'execveat', 5, empty, 0, 0, AT_EMPTY_PATH), -Errno.EBADF);
    const { executable } = init.process;
    assert.ok(executable);
    const fd = init.files.install(init, executable.acquire(), true);
    const { mm } = init;
    sandbox.call(init, 'execveat', fd, empty, 0, 0, AT_EMPTY_PATH);
    assert.notEqual(init.mm, mm);
    assert.equal(init.name, 'program');
  });

  it('a set-user-ID program gives its owner, unless no_new_privs is set; neither may be looked into', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    sandbox.put('raise', tinyProgram(), 0o4755, 0, 0);
    for (const confined of [false, true]) {
      const child = sandbox.fork(init);
      sandbox.call(child, 'setresuid', 1000, 1000, 1000);
      assert.equal(child.credentials.permitted, 0n);
      sandbox.call(child, 'prctl', 1, Signal.SIGTERM, 0, 0, 0);
      if (confined) sandbox.call(child, 'prctl', 38, 1, 0, 0, 0);
      exec(sandbox, child, '/raise');
      assert.equal(child.credentials.euid, confined ? 1000 : 0);
      assert.equal(child.credentials.suid, confined ? 1000 : 0);
      assert.equal(child.credentials.uid, 1000);
      assert.equal(child.credentials.permitted === 0n, confined);
      assert.equal(child.mm.dumpable, confined ? 1 : 0);
      assert.equal(child.parentDeathSignal, confined ? Signal.SIGTERM : 0);
    }
  });

  it('an RLIMIT_NPROC that setuid went beyond is looked at by execve', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const child = sandbox.fork(init);
    child.process.limits[6] = { soft: 0, hard: 0 };
    sandbox.call(child, 'setresuid', 1000, 1000, 1000);
    assert.equal(exec(sandbox, child), -Errno.EAGAIN);
  });

  it('a process that cannot be made leaves nothing behind', () => {
    const sandbox = new TestSandbox();
    const namespace = sandbox.pidNamespace();
    assert.equal(sandbox.tryProcess({ path: '/missing', pidNamespace: namespace }), -Errno.ENOENT);
    assert.equal(sandbox.kernel.tasks, 0);
    assert.equal(sandbox.container.processes.size, 0);
    assert.deepEqual([...sandbox.kernel.rootPidNamespace.processes()], []);
    const init = sandbox.process({ pidNamespace: namespace });
    assert.equal(sandbox.call(init, 'getpid'), 1);
    assert.equal(init.process.init, true);
  });
});
