// User and group ids, capabilities, securebits: the rules that setuid programs and containers rely on.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { allCapabilities, Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { TaskCredentials } from '../credentials/credentials.ts';
import { credentialsAfterExec } from '../credentials/transitions.ts';
import { MappedUserNamespace } from '../credentials/user-namespace.ts';
import { dataAddress, TestSandbox } from '../testing/test-sandbox.ts';

const none = 0xffff_ffff;
const bit = (capability: number): bigint => 1n << BigInt(capability);

describe('user ids', () => {
  it('root gives everything up with setuid, and nothing comes back', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    assert.equal(sandbox.call(task, 'setuid', 1000), 0);
    const { uid, euid, suid, fsuid, permitted, effective } = task.credentials;
    assert.deepEqual([uid, euid, suid, fsuid, permitted, effective], [1000, 1000, 1000, 1000, 0n, 0n]);
    assert.equal(sandbox.call(task, 'setuid', 0), -Errno.EPERM);
    assert.equal(sandbox.call(task, 'setuid', none), -Errno.EINVAL);
    assert.equal(task.mm.dumpable, 0);
  });

  it('seteuid keeps what is permitted and makes it effective again', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    sandbox.call(task, 'setresuid', none, 1000, none);
    assert.equal(task.credentials.effective, 0n);
    assert.equal(task.credentials.permitted, allCapabilities);
    sandbox.call(task, 'setresuid', none, 0, none);
    assert.equal(task.credentials.effective, allCapabilities);
  });

  it('PR_SET_KEEPCAPS keeps what is permitted, and execve forgets it', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    assert.equal(sandbox.call(task, 'prctl', 8, 1, 0, 0, 0), 0);
    sandbox.call(task, 'setresuid', 1000, 1000, 1000);
    assert.equal(task.credentials.permitted, allCapabilities);
    assert.equal(task.credentials.effective, 0n);
    sandbox.call(task, 'execve', sandbox.string(task, dataAddress, '/program'), 0, 0);
    assert.equal(task.credentials.securebits, 0);
    assert.equal(task.credentials.permitted, 0n);
  });

  it('setreuid sets the saved id when the real one is set or the effective one is another', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    sandbox.call(task, 'setreuid', none, 7);
    assert.equal(task.credentials.suid, 7);
    sandbox.call(task, 'setreuid', 0, none);
    const { uid, euid, suid } = task.credentials;
    assert.deepEqual([uid, euid, suid], [0, 7, 7]);
  });

  it('setfsuid gives the old id whatever happens, and takes file capabilities along', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    assert.equal(sandbox.call(task, 'setfsuid', 5), 0);
    assert.equal(task.credentials.has(Capability.dacOverride), false);
    assert.equal(task.credentials.has(Capability.sysAdmin), true);
    assert.equal(sandbox.call(task, 'setfsuid', none), 5);
    assert.equal(sandbox.call(task, 'setfsuid', 0), 5);
    assert.equal(task.credentials.has(Capability.dacOverride), true);
  });

  it('groups are set as a whole by CAP_SETGID, and read back in order', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    for (const [index, gid] of [30, 10, 20].entries()) task.memory.writeU32(dataAddress + index * 4, gid);
    assert.equal(sandbox.call(task, 'setgroups', 3, dataAddress), 0);
    assert.equal(sandbox.call(task, 'getgroups', 0, 0), 3);
    assert.equal(sandbox.call(task, 'getgroups', 2, dataAddress), -Errno.EINVAL);
    assert.equal(sandbox.call(task, 'getgroups', -1, dataAddress), -Errno.EINVAL);
    assert.equal(sandbox.call(task, 'getgroups', 3, dataAddress), 3);
    assert.deepEqual(
      [0, 4, 8].map((offset) => sandbox.word(task, dataAddress + offset)),
      [10, 20, 30],
    );
    assert.equal(task.credentials.inGroup(20), true);
    assert.equal(task.credentials.inGroup(25), false);
    sandbox.call(task, 'setuid', 1000);
    assert.equal(sandbox.call(task, 'setgroups', 0, 0), -Errno.EPERM);
  });
});

describe('capabilities', () => {
  it('capget tells the version that is preferred, and forgives a null pointer only then', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    task.memory.writeU32(dataAddress, 1);
    task.memory.writeU32(dataAddress + 4, 0);
    assert.equal(sandbox.call(task, 'capget', dataAddress, 0), 0);
    assert.equal(sandbox.word(task, dataAddress), 0x2008_0522);
    task.memory.writeU32(dataAddress, 1);
    assert.equal(sandbox.call(task, 'capget', dataAddress, dataAddress + 64), -Errno.EINVAL);
    assert.equal(sandbox.call(task, 'capget', dataAddress, dataAddress + 64), 0);
    assert.equal(sandbox.word(task, dataAddress + 64), 0xffff_ffff);
    assert.equal(sandbox.word(task, dataAddress + 64 + 12), Number(allCapabilities >> 32n));
    task.memory.writeU32(dataAddress + 4, 77);
    assert.equal(sandbox.call(task, 'capget', dataAddress, dataAddress + 64), -Errno.ESRCH);
  });

  it('capset cannot add to what is permitted, and drops ambient ones that are not both', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    const set = (effective: number, permitted: number, inheritable: number): number | undefined => {
      task.memory.writeU32(dataAddress, 0x2008_0522);
      task.memory.writeU32(dataAddress + 4, 0);
      for (const [index, word] of [effective, permitted, inheritable, 0, 0, 0].entries())
        task.memory.writeU32(dataAddress + 64 + index * 4, word);
      return sandbox.call(task, 'capset', dataAddress, dataAddress + 64);
    };
    assert.equal(set(0x101, 0x1ff, 0x3), 0);
    assert.equal(sandbox.call(task, 'prctl', 47, 2, 1, 0, 0), 0);
    assert.equal(sandbox.call(task, 'prctl', 47, 2, 5, 0, 0), -Errno.EPERM);
    assert.equal(sandbox.call(task, 'prctl', 47, 1, 1, 0, 0), 1);
    assert.equal(set(1, 0x1_ff00, 0), -Errno.EPERM);
    assert.equal(set(0x200, 0x1, 0), -Errno.EPERM);
    assert.equal(set(1, 1, 0), 0);
    assert.equal(task.credentials.ambient, 0n);
  });

  it('the bounding set is what a file may give at most; an effective file that lacks some fails', () => {
    const root = MappedUserNamespace.root();
    const user = TaskCredentials.of(root, 1000, 1000, []).change({ bounding: bit(1) });
    const file = {
      mode: 0o755,
      uid: 0,
      gid: 0,
      mayGivePrivileges: true,
      capabilities: { permitted: bit(1) | bit(2), inheritable: 0n, effective: false, rootUid: 0 },
    };
    const free = { noNewPrivileges: false, sharedFs: false, weakTracer: false };
    const decided = credentialsAfterExec(user, file, free);
    assert.ok(typeof decided !== 'number');
    assert.equal(decided.credentials.permitted, bit(1));
    assert.equal(decided.credentials.effective, 0n);
    assert.equal(decided.secure, true);
    const effective = { ...file, capabilities: { ...file.capabilities, effective: true } };
    assert.equal(credentialsAfterExec(user, effective, free), -Errno.EPERM);
    const confined = credentialsAfterExec(user, file, { ...free, noNewPrivileges: true });
    assert.ok(typeof confined !== 'number');
    assert.equal(confined.credentials.permitted, 0n);
  });

  it('ambient capabilities pass through execve of a plain file, not of a set-user-ID one', () => {
    const root = MappedUserNamespace.root();
    const user = TaskCredentials.of(root, 1000, 1000, []).change({
      permitted: bit(3),
      inheritable: bit(3),
      ambient: bit(3),
    });
    const free = { noNewPrivileges: false, sharedFs: false, weakTracer: false };
    const plain = { mode: 0o755, uid: 0, gid: 0, mayGivePrivileges: true, capabilities: undefined };
    const kept = credentialsAfterExec(user, plain, free);
    assert.ok(typeof kept !== 'number');
    assert.deepEqual([kept.credentials.effective, kept.secure], [bit(3), false]);
    const changed = credentialsAfterExec(user, { ...plain, mode: 0o4755, uid: 1001 }, free);
    assert.ok(typeof changed !== 'number');
    assert.deepEqual([changed.credentials.ambient, changed.credentials.permitted], [0n, 0n]);
  });
});

describe('user namespaces', () => {
  it('an ordinary user gets all capabilities in one of his own, none outside, and ids as he maps them', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    sandbox.call(task, 'setresgid', 1000, 1000, 1000);
    sandbox.call(task, 'setresuid', 1000, 1000, 1000);
    const outer = task.credentials;
    assert.equal(sandbox.call(task, 'unshare', 0x400_0000), -Errno.EPERM);
    assert.equal(sandbox.call(task, 'unshare', 0x1400_0000), 0);
    assert.equal(task.credentials.permitted, allCapabilities);
    assert.equal(task.credentials.hasIn(sandbox.kernel.rootUserNamespace, Capability.sysAdmin), false);
    assert.equal(sandbox.call(task, 'getuid'), 65_534);
    const namespace = task.credentials.userNamespace;
    assert.equal(namespace.writeMap('uid', '0 1000 2\n', outer), -Errno.EPERM);
    assert.equal(namespace.writeMap('uid', '0 1000 1', task.credentials), 0);
    assert.equal(namespace.writeMap('uid', '0 1000 1\n', task.credentials), -Errno.EPERM);
    assert.equal(namespace.writeMap('gid', '0 1000 1\n', task.credentials), -Errno.EPERM);
    assert.equal(namespace.writeSetgroups('deny'), 0);
    assert.equal(namespace.writeMap('gid', '0 1000 1\n', task.credentials), 0);
    assert.equal(sandbox.call(task, 'getuid'), 0);
    assert.equal(sandbox.call(task, 'getgid'), 0);
    assert.equal(sandbox.call(task, 'setgroups', 0, 0), -Errno.EPERM);
    assert.equal(sandbox.call(task, 'setuid', 5), -Errno.EINVAL);
    assert.equal(sandbox.call(task, 'sethostname', sandbox.string(task, dataAddress, 'inner'), 5), 0);
    assert.equal(task.uts.hostname, 'inner');
  });

  it('maps that overlap, are empty or too long are refused', () => {
    const sandbox = new TestSandbox();
    const task = sandbox.process();
    sandbox.call(task, 'unshare', 0x1000_0000);
    const namespace = task.credentials.userNamespace;
    const { parent } = namespace;
    assert.ok(parent);
    const opener = TaskCredentials.root(parent);
    for (const text of ['', '0 0', '0 0 0\n', 'a b c\n', '0 0 10\n5 100 10\n', '0 4294967295 1\n'])
      assert.equal(namespace.writeMap('uid', text, opener), -Errno.EINVAL, JSON.stringify(text));
    assert.equal(namespace.writeMap('uid', '0 100000 65536\n70000 5 1\n', opener), 0);
    assert.equal(namespace.toKernelUid(1), 100_001);
    assert.equal(namespace.fromKernelUid(5), 70_000);
    assert.equal(namespace.fromKernelUid(6), -1);
    assert.equal(
      namespace.mapText('uid', parent),
      '         0     100000      65536\n     70000          5          1\n',
    );
  });
});
