// Birth, waiting, ends, orphans and namespaces of tasks.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { Signal } from '../../abi/signal.ts';
import { dataAddress, TestSandbox } from '../testing/test-sandbox.ts';

const status = dataAddress;
const WNOHANG = 1;

describe('fork and wait', () => {
  it('a child is a copy that sees 0, and its parent waits for its status', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    init.memory.writeU32(dataAddress + 64, 7);
    const child = sandbox.fork(init);
    assert.equal(sandbox.answer(child), 0);
    assert.equal(child.process.visiblePid, 2);
    assert.equal(sandbox.word(child, dataAddress + 64), 7);
    child.memory.writeU32(dataAddress + 64, 8);
    assert.equal(sandbox.word(init, dataAddress + 64), 7);
    assert.equal(sandbox.call(child, 'getppid'), 1);
    assert.equal(sandbox.call(init, 'wait4', -1, status, WNOHANG, 0), 0);
    assert.equal(sandbox.call(init, 'wait4', -1, status, 0, 0), undefined);
    assert.equal(sandbox.call(child, 'exit_group', 0x1_23), undefined);
    sandbox.settle();
    assert.equal(sandbox.answer(init), 2);
    assert.equal(sandbox.word(init, status), 0x2300);
    assert.equal(sandbox.kernel.rootPidNamespace.findTask(2), undefined);
    assert.equal(sandbox.call(init, 'wait4', -1, status, 0, 0), -Errno.ECHILD);
  });

  it('numbers are handed out in order, from 300 on after the largest, and never twice', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    sandbox.kernel.rootPidNamespace.maximum = 304;
    const seen = [];
    for (let index = 0; index < 310; index++) {
      const child = sandbox.fork(init);
      seen.push(child.tid);
      sandbox.call(child, 'exit_group', 0);
      sandbox.call(init, 'wait4', child.tid, 0, 0, 0);
    }
    assert.deepEqual(seen.slice(0, 3), [2, 3, 4]);
    assert.deepEqual(seen.slice(300), [302, 303, 300, 301, 302, 303, 300, 301, 302, 303].slice(0, 10));
  });

  it('wait4 refuses unknown options and impossible numbers as Linux does', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    assert.equal(sandbox.call(init, 'wait4', -1, 0, 0x10, 0), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'wait4', -0x8000_0000, 0, 0, 0), -Errno.ESRCH);
    assert.equal(sandbox.call(init, 'wait4', 77, 0, 0, 0), -Errno.ECHILD);
    assert.equal(sandbox.call(init, 'waitid', 0, 0, 0, 0, 0), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'waitid', 9, 0, 0, 4, 0), -Errno.EINVAL);
    assert.equal(sandbox.call(init, 'waitid', 3, 5, 0, 4, 0), -Errno.EBADF);
  });

  it('waitid tells of a death without reaping with WNOWAIT, and fills siginfo as Linux does', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const child = sandbox.fork(init);
    child.process.sendSignal({ signal: Signal.SIGKILL, code: 0 });
    sandbox.settle();
    const info = dataAddress + 128;
    for (const options of [0x0100_0004, 4]) {
      assert.equal(sandbox.call(init, 'waitid', 1, child.tid, info, options, 0), 0);
      assert.deepEqual(
        [0, 4, 8, 16, 20, 24].map((offset) => sandbox.word(init, info + offset)),
        [Signal.SIGCHLD, 0, 2, 2, 0, Signal.SIGKILL],
      );
    }
    assert.equal(sandbox.call(init, 'waitid', 1, child.tid, info, 4, 0), -Errno.ECHILD);
  });

  it('only __WALL and __WCLONE see a child with another exit signal', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const child = sandbox.child(init, sandbox.call(init, 'clone', 0, 0, 0, 0, 0));
    sandbox.call(child, 'exit_group', 0);
    assert.equal(sandbox.call(init, 'wait4', -1, 0, WNOHANG, 0), -Errno.ECHILD);
    assert.equal(sandbox.call(init, 'wait4', -1, 0, 0x8000_0001, 0), child.tid);
  });

  it('a stopped and continued child is told of with WUNTRACED and WCONTINUED', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const child = sandbox.fork(init);
    sandbox.call(init, 'kill', child.tid, Signal.SIGSTOP);
    assert.equal(sandbox.call(init, 'wait4', -1, status, WNOHANG, 0), 0);
    assert.equal(sandbox.call(init, 'wait4', -1, status, WNOHANG | 2, 0), child.tid);
    assert.equal(sandbox.word(init, status), (Signal.SIGSTOP << 8) | 0x7f);
    sandbox.call(init, 'kill', child.tid, Signal.SIGCONT);
    assert.equal(sandbox.call(init, 'wait4', -1, status, WNOHANG | 8, 0), child.tid);
    assert.equal(sandbox.word(init, status), 0xffff);
  });

  it('a parent that ignores SIGCHLD gets no zombies, and its wait ends with ECHILD', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    init.memory.writeU64(dataAddress + 256, 1);
    for (const offset of [8, 16, 24]) init.memory.writeU64(dataAddress + 256 + offset, 0);
    assert.equal(sandbox.call(init, 'rt_sigaction', Signal.SIGCHLD, dataAddress + 256, 0, 8), 0);
    const child = sandbox.fork(init);
    assert.equal(sandbox.call(init, 'wait4', -1, 0, 0, 0), undefined);
    sandbox.call(child, 'exit_group', 0);
    assert.equal(sandbox.answer(init), -Errno.ECHILD);
    assert.equal(sandbox.kernel.tasks, 1);
  });
});

describe('a fork that the host refuses', () => {
  it('is taken back as if it had never been, and the parent gets the errno', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const context = sandbox.context(init);
    context.syscall(57);
    sandbox.kernel.handle(context);
    const child = sandbox.child(init, 2);
    // The child's context never stops; the parent's does, once more.
    sandbox.platform.stopped.length = 0;
    context.event = 5;
    context.failure = -Errno.ENOMEM;
    sandbox.kernel.handle(context);
    sandbox.settle();
    assert.equal(sandbox.answer(init), -Errno.ENOMEM);
    assert.equal(sandbox.kernel.rootPidNamespace.find(2), undefined);
    assert.equal(child.exiting, true);
    assert.equal(sandbox.kernel.tasks, 1);
    assert.equal(sandbox.container.tasks, 1);
    assert.equal(sandbox.call(init, 'wait4', -1, 0, 0, 0), -Errno.ECHILD);
  });
});

describe('traced children', () => {
  it("a zombie is first its tracer's, then its parent's", () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const parent = sandbox.fork(init);
    const child = sandbox.fork(parent);
    const tracer = sandbox.fork(init);
    const PTRACE_SEIZE = 0x4206;
    assert.equal(sandbox.call(tracer, 'ptrace', PTRACE_SEIZE, child.tid, 0, 0), 0);
    sandbox.call(child, 'exit_group', 6);
    assert.equal(sandbox.call(parent, 'wait4', -1, status, WNOHANG, 0), 0);
    assert.equal(sandbox.call(tracer, 'wait4', -1, status, WNOHANG, 0), child.tid);
    assert.equal(sandbox.word(tracer, status), 0x600);
    assert.equal(sandbox.call(tracer, 'wait4', -1, status, WNOHANG, 0), -Errno.ECHILD);
    assert.equal(sandbox.call(parent, 'wait4', -1, status, WNOHANG, 0), child.tid);
    assert.equal(sandbox.word(parent, status), 0x600);
    assert.equal(sandbox.kernel.tasks, 3);
  });

  it('a tracer that ends leaves the zombie to the parent', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const parent = sandbox.fork(init);
    const child = sandbox.fork(parent);
    const tracer = sandbox.fork(init);
    sandbox.call(tracer, 'ptrace', 0x4206, child.tid, 0, 0);
    sandbox.call(child, 'exit_group', 6);
    assert.equal(sandbox.call(parent, 'wait4', -1, status, 0, 0), undefined);
    sandbox.call(tracer, 'exit_group', 0);
    assert.equal(sandbox.answer(parent), child.tid);
  });

  it('a traced thread that ends waits for its tracer, and __WALL sees it', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const child = sandbox.fork(init);
    const thread = sandbox.thread(child);
    sandbox.call(init, 'ptrace', 0x4206, thread.tid, 0, 0);
    sandbox.call(thread, 'exit', 2 << 8);
    assert.equal(sandbox.call(init, 'wait4', thread.tid, status, 0x4000_0001, 0), thread.tid);
    assert.equal(sandbox.kernel.rootPidNamespace.find(3), undefined);
  });

  it('a fork of a traced parent that stops for its tracer is there all the same', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const parent = sandbox.fork(init);
    sandbox.call(init, 'ptrace', 0x4206, parent.tid, 0, 2);
    assert.equal(sandbox.call(parent, 'fork'), undefined);
    assert.equal(sandbox.call(init, 'wait4', parent.tid, status, 0, 0), parent.tid);
    assert.equal(sandbox.word(init, status), 0x1_057f);
    assert.ok(sandbox.kernel.rootPidNamespace.findTask(3));
  });
});

describe('threads', () => {
  it('share memory and numbers of the process, and leave without a trace', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const thread = sandbox.thread(init);
    assert.equal(thread.process, init.process);
    assert.equal(sandbox.call(thread, 'getpid'), 1);
    assert.equal(sandbox.call(thread, 'gettid'), 2);
    init.memory.writeU32(dataAddress, 5);
    assert.equal(sandbox.word(thread, dataAddress), 5);
    sandbox.call(thread, 'set_tid_address', dataAddress);
    sandbox.call(thread, 'exit', 0);
    assert.equal(sandbox.word(init, dataAddress), 0);
    assert.equal(sandbox.kernel.rootPidNamespace.findTask(2), undefined);
    assert.equal(sandbox.call(init, 'wait4', -1, 0, 0x4000_0000, 0), -Errno.ECHILD);
  });

  it('a leader that ends first stays a zombie until the last thread has ended; its status counts', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const child = sandbox.fork(init);
    const thread = sandbox.thread(child);
    sandbox.call(child, 'exit', 3);
    assert.equal(sandbox.call(init, 'wait4', -1, status, WNOHANG, 0), 0);
    sandbox.call(thread, 'exit', 4);
    assert.equal(sandbox.call(init, 'wait4', -1, status, WNOHANG, 0), child.process.pid);
    assert.equal(sandbox.word(init, status), 0x300);
  });

  it('exit_group of one ends all, blocked and running, with its status', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const child = sandbox.fork(init);
    const blocked = sandbox.thread(child);
    const running = sandbox.thread(child);
    sandbox.call(blocked, 'pause');
    sandbox.call(running, 'exit_group', 9);
    assert.equal(child.dead && blocked.dead && running.dead, true);
    assert.equal(sandbox.call(init, 'wait4', -1, status, WNOHANG, 0), child.process.pid);
    assert.equal(sandbox.word(init, status), 0x900);
    assert.equal(sandbox.kernel.tasks, 1);
  });

  it('a context that the host killed counts as SIGKILL for the whole process', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const child = sandbox.fork(init);
    const thread = sandbox.thread(child);
    const context = sandbox.context(thread);
    context.event = 6;
    sandbox.kernel.handle(context);
    sandbox.settle();
    assert.equal(sandbox.call(init, 'wait4', -1, status, 0, 0), child.process.pid);
    assert.equal(sandbox.word(init, status), Signal.SIGKILL);
  });
});

describe('vfork', () => {
  it('keeps the parent until the child ends, and shares its memory', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    assert.equal(sandbox.call(init, 'vfork'), undefined);
    const child = sandbox.child(init, 2);
    child.memory.writeU32(dataAddress, 11);
    sandbox.call(child, 'exit_group', 0);
    assert.equal(sandbox.answer(init), 2);
    assert.equal(sandbox.word(init, dataAddress), 11);
  });

  it('a signal that is not deadly does not end the wait, SIGKILL does', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const parent = sandbox.fork(init);
    parent.memory.writeU64(dataAddress + 256, 0x40_0100);
    for (const offset of [8, 16, 24]) parent.memory.writeU64(dataAddress + 256 + offset, 0);
    assert.equal(sandbox.call(parent, 'rt_sigaction', Signal.SIGUSR1, dataAddress + 256, 0, 8), 0);
    sandbox.call(parent, 'vfork');
    sandbox.call(init, 'kill', parent.tid, Signal.SIGUSR1);
    assert.equal(parent.dead, false);
    sandbox.call(init, 'kill', parent.tid, Signal.SIGKILL);
    assert.equal(parent.dead, true);
  });
});

describe('orphans', () => {
  it('go to the first process of the namespace, which reaps them', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const parent = sandbox.fork(init);
    const orphan = sandbox.fork(parent);
    sandbox.call(parent, 'exit_group', 0);
    assert.equal(sandbox.call(orphan, 'getppid'), 1);
    sandbox.call(orphan, 'exit_group', 1);
    assert.equal(sandbox.call(init, 'wait4', orphan.tid, status, 0, 0), 3);
  });

  it('go to the nearest subreaper, and PR_SET_PDEATHSIG is sent', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const reaper = sandbox.fork(init);
    const parent = sandbox.fork(reaper);
    assert.equal(sandbox.call(reaper, 'prctl', 36, 1, 0, 0, 0), 0);
    const orphan = sandbox.fork(parent);
    sandbox.call(orphan, 'prctl', 1, Signal.SIGURG, 0, 0, 0);
    sandbox.call(parent, 'exit_group', 0);
    assert.equal(sandbox.call(orphan, 'getppid'), reaper.tid);
    sandbox.call(orphan, 'prctl', 1, Signal.SIGTERM, 0, 0, 0);
    sandbox.call(reaper, 'exit_group', 0);
    assert.equal(orphan.dead, true);
  });

  it('a stopped process group that loses its last link gets SIGHUP and SIGCONT', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const shell = sandbox.fork(init);
    sandbox.call(shell, 'setsid');
    const job = sandbox.fork(shell);
    assert.equal(sandbox.call(job, 'setpgid', 0, 0), 0);
    const member = sandbox.fork(job);
    sandbox.call(shell, 'kill', -job.tid, Signal.SIGSTOP);
    assert.equal(member.process.stopped, true);
    sandbox.call(shell, 'exit_group', 0);
    assert.equal(job.dead && member.dead, true);
  });

  it('an exit signal that an older program asked for becomes SIGCHLD after execve of the parent', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const parent = sandbox.fork(init);
    const child = sandbox.child(parent, sandbox.call(parent, 'clone', Signal.SIGUSR1, 0, 0, 0, 0));
    const path = sandbox.string(parent, dataAddress, '/program');
    sandbox.call(parent, 'execve', path, 0, 0);
    sandbox.call(child, 'exit_group', 0);
    assert.equal(parent.dead, false);
  });
});

describe('PID namespaces', () => {
  it('CLONE_NEWPID: the child is number 1 inside and has another number outside', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const inner = sandbox.child(init, sandbox.call(init, 'clone', 0x2000_0000 | 17, 0, 0, 0, 0));
    assert.equal(inner.tid, 2);
    assert.equal(sandbox.call(inner, 'getpid'), 1);
    assert.equal(sandbox.call(inner, 'getppid'), 0);
    const below = sandbox.fork(inner);
    assert.equal(sandbox.call(below, 'getpid'), 2);
    assert.equal(below.tid, 3);
    assert.equal(sandbox.call(inner, 'clone', 0x8000 | 17, 0, 0, 0, 0), -Errno.EINVAL);
  });

  it('the end of its first process kills all in it, and is told last', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    const inner = sandbox.child(init, sandbox.call(init, 'clone', 0x2000_0000 | 17, 0, 0, 0, 0));
    const below = sandbox.fork(inner);
    const further = sandbox.fork(below);
    sandbox.call(below, 'pause');
    sandbox.call(inner, 'exit_group', 5);
    assert.equal(below.dead && further.dead, true);
    assert.equal(sandbox.call(init, 'wait4', -1, status, 0, 0), 2);
    assert.equal(sandbox.word(init, status), 0x500);
    assert.equal(sandbox.kernel.tasks, 1);
  });

  it('a namespace without its first process takes nobody in', () => {
    const sandbox = new TestSandbox();
    const init = sandbox.process();
    assert.equal(sandbox.call(init, 'unshare', 0x2000_0000), 0);
    const inner = sandbox.child(init, sandbox.call(init, 'fork'));
    sandbox.call(inner, 'exit_group', 0);
    assert.equal(sandbox.call(init, 'fork'), -Errno.ENOMEM);
  });
});

describe('containers', () => {
  it('are told of the end of what was started in them, and can be killed and frozen as a whole', () => {
    const sandbox = new TestSandbox();
    let ended: number | undefined;
    const init = sandbox.process({
      pidNamespace: sandbox.pidNamespace(),
      ended: (value) => {
        ended = value;
      },
    });
    const child = sandbox.fork(init);
    sandbox.call(child, 'wait4', -1, 0, 0, 0);
    sandbox.container.freeze();
    sandbox.settle();
    assert.equal(sandbox.runs(init), false);
    sandbox.container.thaw();
    sandbox.settle();
    assert.equal(sandbox.runs(init), true);
    sandbox.container.freeze();
    sandbox.settle();
    sandbox.container.kill();
    sandbox.settle();
    assert.equal(ended, Signal.SIGKILL);
    assert.equal(sandbox.container.processes.size, 0);
    assert.equal(sandbox.container.tasks, 0);
    assert.equal(sandbox.kernel.tasks, 0);
  });

  it('limits of tasks give EAGAIN', () => {
    const sandbox = new TestSandbox({ taskLimit: 4 });
    const init = sandbox.process();
    sandbox.container.taskLimit = 2;
    sandbox.fork(init);
    assert.equal(sandbox.call(init, 'fork'), -Errno.EAGAIN);
    sandbox.container.taskLimit = 100;
    sandbox.fork(init);
    sandbox.fork(init);
    assert.equal(sandbox.call(init, 'fork'), -Errno.EAGAIN);
  });
});
