// Cgroups, in words and on this host. The latter needs root.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { RuntimeError } from '../cri.ts';
import { checkCgroupPath, limitOf } from './cgroup-files.ts';
import { type CgroupManager, cgroupMode, createCgroupManager, parseCgroupMounts } from './cgroups.ts';
import { settingsV1 } from './cgroups-v1.ts';
import { settingsV2, weightOfShares } from './cgroups-v2.ts';

const SYSTEMD_V2 = `25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
35 25 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`;
const SYSTEMD_HYBRID = `32 25 0:28 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
33 32 0:29 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
34 32 0:30 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
38 32 0:34 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
39 32 0:35 / /sys/fs/cgroup/memory rw shared:16 - cgroup cgroup rw,memory
40 32 0:35 / /somewhere\\040else rw shared:16 - cgroup cgroup rw,memory
`;

test('the hierarchies of a host are read from its mounts, each once', () => {
  assert.deepEqual(parseCgroupMounts(SYSTEMD_V2), [
    { version: 2, directory: '/sys/fs/cgroup', controllers: [] },
  ]);
  assert.equal(cgroupMode(parseCgroupMounts(SYSTEMD_V2)), 'v2');
  const hybrid = parseCgroupMounts(SYSTEMD_HYBRID);
  assert.equal(cgroupMode(hybrid), 'hybrid');
  assert.deepEqual(
    hybrid.map(({ directory, controllers }) => [directory, ...controllers]),
    [
      ['/sys/fs/cgroup/unified'],
      ['/sys/fs/cgroup/systemd', 'name=systemd'],
      ['/sys/fs/cgroup/cpu,cpuacct', 'cpu', 'cpuacct'],
      ['/sys/fs/cgroup/memory', 'memory'],
    ],
  );
  assert.equal(cgroupMode(hybrid.slice(1)), 'v1');
  assert.equal(cgroupMode([]), undefined);
});

test('paths that leave the tree or name its root are refused', () => {
  assert.equal(checkCgroupPath('//kubepods//pod1/'), '/kubepods/pod1');
  for (const path of ['/', '', 'kubepods', '/a/../b', '/./a'])
    assert.throws(
      () => checkCgroupPath(path),
      (error: unknown) => error instanceof RuntimeError && error.code === 'InvalidArgument',
    );
});

test('limits are written in the words of either version', () => {
  const resources = {
    cpuShares: 1,
    cpuQuota: 25_000,
    cpuPeriod: 50_000,
    memoryLimitBytes: 1 << 20,
    pidsLimit: -1,
    cpusetCpus: '0-1',
    hugepageLimits: [{ pageSize: '2MB', limit: 0 }],
    unified: { 'memory.high': '1000' },
  };
  assert.deepEqual(settingsV1(resources), [
    ['cpu', 'cpu.shares', '2'],
    ['cpu', 'cpu.cfs_period_us', '50000'],
    ['cpu', 'cpu.cfs_quota_us', '25000'],
    ['cpuset', 'cpuset.cpus', '0-1'],
    ['memory', 'memory.limit_in_bytes', '1048576'],
    ['pids', 'pids.max', 'max'],
    ['hugetlb', 'hugetlb.2MB.limit_in_bytes', '0'],
  ]);
  assert.deepEqual(settingsV2(resources), [
    ['cpu.weight', '1'],
    ['cpu.max', '25000 50000'],
    ['cpuset.cpus', '0-1'],
    ['memory.max', '1048576'],
    ['pids.max', 'max'],
    ['hugetlb.2MB.max', '0'],
    ['memory.high', '1000'],
  ]);
  assert.deepEqual(settingsV2({ cpuQuota: -1 }), [['cpu.max', 'max 100000']]);
  assert.deepEqual(settingsV2({ memoryLimitBytes: -1 }), [['memory.max', 'max']]);
  assert.throws(() => settingsV2({ unified: { '../../x': '1' } }), /is no name of a cgroup file/);
  assert.deepEqual([settingsV1({}), settingsV2({})], [[], []]);
});

test('shares become weights: the ends and the default are kept, and more is never less', () => {
  assert.deepEqual([2, 1024, 262_144].map(weightOfShares), [1, 100, 10_000]);
  let last = 0;
  for (let shares = 2; shares <= 262_144; shares += 97) {
    const weight = weightOfShares(shares);
    assert.ok(weight >= last && weight >= 1 && weight <= 10_000);
    last = weight;
  }
  assert.deepEqual(['max\n', '9223372036854771712\n', '4096\n', undefined].map(limitOf), [
    undefined,
    undefined,
    4096,
    undefined,
  ]);
});

const needsRoot =
  process.platform !== 'linux' ? 'needs Linux' : process.getuid?.() !== 0 ? 'needs root' : false;
const unified = (() => {
  const mounts =
    process.platform === 'linux' ? parseCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8')) : [];
  return mounts.find((mount) => mount.version === 2)?.directory;
})();

async function inCgroup(manager: CgroupManager, path: string, ...command: string[]): Promise<ChildProcess> {
  const child = spawn(command[0]!, command.slice(1), { stdio: 'ignore' });
  child.unref();
  await once(child, 'spawn');
  for (const directory of manager.directories(path))
    await writeFile(join(directory, 'cgroup.procs'), String(child.pid));
  return child;
}

async function live(manager: CgroupManager): Promise<void> {
  const top = `/bulkhead-test-${randomBytes(4).toString('hex')}`;
  const path = `${top}/burstable/pod1`;
  const children: ChildProcess[] = [];
  try {
    await manager.create(path);
    await manager.create(path);
    assert.equal(await manager.exists(path), true);
    assert.deepEqual(await manager.children(top), [`${top}/burstable`]);
    const stat = await manager.stat(path);
    assert.deepEqual([stat.pids, stat.oomKills, stat.memory.limitBytes], [0, 0, undefined]);
    // Below the pod, as containers are: a version 2 cgroup with controllers enabled takes no processes itself.
    const inner = `${path}/container`;
    await manager.create(inner);
    for (let i = 0; i < 3; i++) children.push(await inCgroup(manager, inner, 'sleep', '1000'));
    const pids = children.map(({ pid }) => pid!).sort();
    assert.deepEqual((await manager.pids(path)).sort(), pids);
    await manager.freeze(inner);
    assert.equal(readFileSync(`/proc/${pids[0]}/wchan`, 'utf8') !== '', true);
    await manager.thaw(inner);
    await assert.rejects(manager.remove(path), (error: unknown) => {
      return (
        error instanceof RuntimeError &&
        error.code === 'FailedPrecondition' &&
        error.message.includes(String(pids[0]))
      );
    });
    const ends = children.map((child) => once(child, 'exit'));
    await manager.kill(path);
    for (const [, signal] of await Promise.all(ends)) assert.equal(signal, 'SIGKILL');
    assert.deepEqual(await manager.pids(path), []);
    await manager.kill(path);
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await manager.remove(top);
  }
  await manager.remove(top);
  assert.equal(await manager.exists(path), false);
  assert.deepEqual(await manager.pids(path), []);
  await manager.kill(path);
  await assert.rejects(
    manager.stat(path),
    (error: unknown) => error instanceof RuntimeError && error.code === 'NotFound',
  );
  for (const directory of manager.directories(top)) assert.ok(!existsSync(directory));
}

test('cgroups of this host are made, asked, frozen, emptied and removed', { skip: needsRoot }, async () => {
  await live(await createCgroupManager());
});

test('so are those of a version 2 hierarchy alone', {
  skip: needsRoot || (unified ? false : 'needs a cgroup2 mount'),
}, async () => {
  const line = `1 1 0:1 / ${unified} rw - cgroup2 cgroup2 rw\n`;
  const manager = await createCgroupManager({ mountinfo: line });
  assert.equal(manager.mode, 'v2');
  await live(manager);
});

test('limits given at the making and later are in force', { skip: needsRoot }, async (t) => {
  const manager = await createCgroupManager();
  if (!manager.controllers.has('memory')) {
    t.diagnostic('no memory controller on this host');
    return;
  }
  const path = `/bulkhead-test-${randomBytes(4).toString('hex')}`;
  try {
    await manager.create(path, { memoryLimitBytes: 64 << 20, cpuShares: 512 });
    assert.equal((await manager.stat(path)).memory.limitBytes, 64 << 20);
    await manager.update(path, { memoryLimitBytes: 128 << 20 });
    assert.equal((await manager.stat(path)).memory.limitBytes, 128 << 20);
    await manager.update(path, { memoryLimitBytes: -1 });
    assert.equal((await manager.stat(path)).memory.limitBytes, undefined);
  } finally {
    await manager.remove(path);
  }
});
