// How the words of pods and images become those of the OCI runtime specification.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerSecurity } from '../../cri.ts';
import { podSysctls, resolvConf, sysctlPath } from '../sandbox-files.ts';
import { signalName, signalNumber } from '../stop-signal.ts';
import { capabilitiesOfMask, containerCapabilities, defaultCapabilities } from './capabilities.ts';
import { commandLine, mergeEnvironment } from './container-spec.ts';
import { cleanPath, imageVolumes, propagationOf } from './mounts.ts';
import { mergeResources, ociResources } from './resources.ts';
import { defaultSeccomp, parseSeccompProfile } from './seccomp.ts';
import { parseGroup, parsePasswd, resolveUser } from './user.ts';

const all = capabilitiesOfMask('1ffffffffff');

test('capabilities: ALL comes before names, dropping before nothing, and a host gives only what it has', () => {
  const of = (add: string[], drop: string[], available = all) =>
    containerCapabilities({ add, drop }, false, available).sort();
  assert.equal(all.size, 41);
  assert.deepEqual(of([], []), defaultCapabilities().sort());
  assert.deepEqual(of(['NET_ADMIN'], ['ALL']), ['CAP_NET_ADMIN']);
  assert.equal(of(['ALL'], ['SYS_ADMIN']).length, 40);
  assert.deepEqual(of(['all', 'cap_bpf'], ['ALL']), ['CAP_BPF']);
  assert.ok(!of(['KILL'], ['KILL']).includes('CAP_KILL'));
  const few = capabilitiesOfMask('21');
  assert.deepEqual(of([], [], few), ['CAP_CHOWN', 'CAP_KILL']);
  assert.throws(() => of(['SYS_ADMIN'], [], few), /cannot give the capability CAP_SYS_ADMIN/);
  assert.throws(() => of(['FLY'], []), /unknown capability "FLY"/);
  assert.deepEqual(containerCapabilities({ add: [], drop: ['ALL'] }, true, few), [...few]);
});

const security = (changes: Partial<ContainerSecurity>): ContainerSecurity => ({
  capabilities: { add: [], drop: [] },
  privileged: false,
  namespaces: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' },
  supplementalGroups: [],
  readonlyRootfs: false,
  noNewPrivileges: false,
  maskedPaths: [],
  readonlyPaths: [],
  ...changes,
});
const PASSWD =
  'root:x:0:0::/root:/bin/sh\n\nbroken\nhalf:x:1\nweb:x:33:34:a:b:c\nnegative:x:-1:0\nhuge:x:4294967295:0\n 77:x:78:79::/:\n';
const GROUP = 'root:x:0:\nwww:x:34:\ncdrom:x:24:web,other\nbad:x::web\ntape:x:26:web\n';

test('users: names are looked up, numbers need no entry, and broken lines are nobody', () => {
  const user = (changes: Partial<ContainerSecurity>, image?: string) =>
    resolveUser(security(changes), image, PASSWD, GROUP);
  assert.deepEqual(user({}), { uid: 0, gid: 0, additionalGids: [0] });
  assert.deepEqual(user({}, 'web'), { uid: 33, gid: 34, additionalGids: [34, 24, 26] });
  assert.deepEqual(user({}, '33'), { uid: 33, gid: 34, additionalGids: [34, 24, 26] });
  assert.deepEqual(user({}, '33:cdrom'), { uid: 33, gid: 24, additionalGids: [24, 26] });
  assert.deepEqual(user({}, '5000:5001'), { uid: 5000, gid: 5001, additionalGids: [5001] });
  assert.deepEqual(user({ runAsUser: 0 }, 'web'), { uid: 0, gid: 0, additionalGids: [0] });
  assert.deepEqual(user({ runAsUsername: 'web', runAsGroup: 9, supplementalGroups: [24, 7] }), {
    uid: 33,
    gid: 9,
    additionalGids: [9, 24, 26, 7],
  });
  assert.deepEqual(
    user({ supplementalGroupsPolicy: 'Strict', supplementalGroups: [7] }, 'web').additionalGids,
    [34, 7],
  );
  assert.throws(() => user({}, 'half'), /unable to find user half/);
  assert.throws(() => user({}, 'huge'), /unable to find user huge/);
  assert.throws(() => user({}, '4294967295'), /out of range/);
  assert.throws(() => user({}, 'web:nope'), /unable to find group nope/);
  assert.throws(() => user({ runAsGroup: 5 }, 'web'), /given without a user/);
  assert.equal(parsePasswd(PASSWD).length, 3);
  assert.equal(parseGroup(GROUP).length, 4);
});

test('commands: the pod replaces the entrypoint and its arguments go with it', () => {
  const line = (
    image: { Entrypoint?: string[] | null; Cmd?: string[] | null },
    command?: string[],
    args?: string[],
  ) =>
    commandLine(
      { metadata: { name: 'c', attempt: 0 }, command, args } as unknown as Parameters<typeof commandLine>[0],
      image,
    );
  const image = { Entrypoint: ['/entry'], Cmd: ['a', 'b'] };
  assert.deepEqual(line(image), ['/entry', 'a', 'b']);
  assert.deepEqual(line(image, undefined, ['x']), ['/entry', 'x']);
  assert.deepEqual(line(image, ['/own']), ['/own']);
  assert.deepEqual(line(image, ['/own'], ['x']), ['/own', 'x']);
  assert.deepEqual(line(image, [], []), ['/entry', 'a', 'b']);
  assert.deepEqual(line({ Entrypoint: null, Cmd: ['c'] }), ['c']);
  assert.throws(() => line({}), /no command specified/);
  assert.deepEqual(mergeEnvironment(['A=1', 'B=2'], ['A=3=4', 'C='], ['B']), ['A=3=4', 'B', 'C=']);
});

test('seccomp: the default profile allows what programs need and guards what reaches outside', () => {
  const names = (capabilities: string[]) => {
    const { syscalls } = defaultSeccomp({ capabilities: new Set(capabilities), arch: 'x64' });
    return {
      syscalls: syscalls!,
      allowed: new Set(
        syscalls!.filter((r) => r.action === 'SCMP_ACT_ALLOW' && !r.args).flatMap((r) => r.names),
      ),
    };
  };
  const plain = names([]);
  for (const name of ['read', 'execve', 'futex', 'openat2', 'clock_gettime64', 'arch_prctl', 'epoll_wait'])
    assert.ok(plain.allowed.has(name), name);
  for (const name of [
    'mount',
    'unshare',
    'setns',
    'bpf',
    'keyctl',
    'add_key',
    'kexec_load',
    'init_module',
    'io_uring_setup',
    'userfaultfd',
    'clone',
    'clone3',
    'socket',
    'personality',
    'chroot',
    'reboot',
    'ptrace2',
  ])
    assert.ok(!plain.allowed.has(name), name);
  assert.ok(
    plain.syscalls.some((rule) => rule.names.includes('clone') && rule.args?.[0]?.value === 0x7e020000),
  );
  assert.ok(plain.syscalls.some((rule) => rule.names.includes('clone3') && rule.errnoRet === 38));
  const admin = names(['CAP_SYS_ADMIN', 'CAP_SYS_CHROOT']);
  for (const name of ['mount', 'unshare', 'clone', 'clone3', 'chroot'])
    assert.ok(admin.allowed.has(name), name);
  assert.ok(!admin.allowed.has('reboot'));
  for (const { syscalls } of [plain, admin]) {
    const unconditional = syscalls.filter((rule) => !rule.args).flatMap((rule) => rule.names);
    assert.equal(new Set(unconditional).size, unconditional.length, 'no name stands twice');
  }
});

test("seccomp: Docker's conditions are worked out, and a wrong profile says what is wrong", () => {
  const host = { capabilities: new Set(['CAP_SYS_PTRACE']), arch: 'arm64' };
  const rule = (name: string, more: object) => ({ names: [name], action: 'SCMP_ACT_ALLOW', ...more });
  const parsed = parseSeccompProfile(
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ERRNO',
      archMap: [
        { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] },
        { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
      ],
      syscalls: [
        rule('always', { args: null, comment: '', includes: {}, excludes: {} }),
        rule('arm', { includes: { arches: ['arm', 'arm64'] } }),
        rule('intel', { includes: { arches: ['amd64'] } }),
        rule('ptrace', { includes: { caps: ['CAP_SYS_PTRACE'] } }),
        rule('admin', { includes: { caps: ['CAP_SYS_ADMIN'] } }),
        rule('unprivileged', { excludes: { caps: ['CAP_SYS_PTRACE'] } }),
        rule('new', { includes: { minKernel: '4.8' } }),
        rule('newer', { includes: { minKernel: '99.0' } }),
        {
          name: 'single',
          action: 'SCMP_ACT_ERRNO',
          errnoRet: 38,
          args: [{ index: 0, value: 1, valueTwo: 0, op: 'SCMP_CMP_EQ' }],
        },
      ],
    }),
    host,
    '6.1.0-18-arm64',
  );
  assert.deepEqual(
    parsed.syscalls!.flatMap((r) => r.names),
    ['always', 'arm', 'ptrace', 'new', 'single'],
  );
  assert.deepEqual(parsed.architectures, ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']);
  assert.deepEqual(parsed.syscalls!.at(-1), {
    names: ['single'],
    action: 'SCMP_ACT_ERRNO',
    errnoRet: 38,
    args: [{ index: 0, value: 1, valueTwo: 0, op: 'SCMP_CMP_EQ' }],
  });
  for (const [text, message] of [
    ['{', /not JSON/],
    ['{}', /no defaultAction/],
    ['{"defaultAction":"x","syscalls":[{"names":[]}]}', /lacks names or action/],
    [
      '{"defaultAction":"x","syscalls":[{"names":["a"],"action":"y","args":[{}]}]}',
      /lacks index, value or op/,
    ],
  ] as const)
    assert.throws(() => parseSeccompProfile(text, host, '6.1'), message);
});

test('mounts: paths are cleaned, covered volumes are left out, and propagation is that of the nearest mount', () => {
  assert.deepEqual(['a/b/', '/a/../../b', '//a//', '/'].map(cleanPath), ['/a/b', '/b', '/a', '/']);
  const mount = { containerPath: '/data/', hostPath: '/x', readonly: false, propagation: 'PRIVATE' } as const;
  assert.deepEqual(imageVolumes({ '/data': {}, '/var/lib/': {}, '/': {} }, [mount]), ['/var/lib']);
  const mountinfo = [
    '1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw',
    '2 1 8:2 / /var rw - ext4 /dev/sda2 rw',
    '3 2 8:3 / /var/with\\040space rw master:4 - ext4 /dev/sda3 rw',
  ].join('\n');
  const { mountPoint, shared, slave } = propagationOf('/var/with space/x', mountinfo);
  assert.deepEqual([mountPoint, shared, slave], ['/var/with space', false, true]);
  assert.deepEqual(propagationOf('/variable', mountinfo), { mountPoint: '/', shared: true, slave: false });
  assert.equal(propagationOf('/var', mountinfo).mountPoint, '/var');
});

test('resources: zero is not set, swap goes with memory, and unified files are of version 2', () => {
  const resources = {
    cpuShares: 0,
    cpuQuota: 1000,
    memoryLimitBytes: 5,
    pidsLimit: 0,
    unified: { 'memory.high': '4' },
  };
  assert.deepEqual(ociResources(resources, { mode: 'v2', swapAccounting: true }), {
    cpu: { quota: 1000 },
    memory: { limit: 5, swap: 5 },
    unified: { 'memory.high': '4' },
  });
  assert.deepEqual(ociResources(resources, { mode: 'hybrid', swapAccounting: false }), {
    cpu: { quota: 1000 },
    memory: { limit: 5 },
  });
  assert.deepEqual(mergeResources(resources, { memoryLimitBytes: 6, cpusetCpus: '', unified: { a: '1' } }), {
    ...resources,
    memoryLimitBytes: 6,
    unified: { 'memory.high': '4', a: '1' },
  });
});

test("sysctls: both ways of writing, and only what is the pod's own", () => {
  assert.equal(sysctlPath('net.ipv4.conf.eth0/100.forwarding'), 'net/ipv4/conf/eth0.100/forwarding');
  assert.equal(sysctlPath('net/ipv4/conf/eth0.100/forwarding'), 'net/ipv4/conf/eth0.100/forwarding');
  const config = (sysctls: Record<string, string>, ipc = 'POD', network = 'POD') =>
    ({ sysctls, namespaces: { ipc, network, pid: 'CONTAINER' } }) as Parameters<typeof podSysctls>[0];
  assert.deepEqual(
    podSysctls(config({ 'kernel.sem': '1 2 3 4', 'net.ipv4.ip_unprivileged_port_start': '80' })),
    [
      ['net/ipv4/ip_unprivileged_port_start', '80'],
      ['net/ipv4/ping_group_range', '0 2147483647'],
      ['kernel/sem', '1 2 3 4'],
    ],
  );
  for (const [sysctls, ipc, network] of [
    [{ 'vm.swappiness': '1' }],
    [{ 'kernel.hostname': 'x' }],
    [{ 'kernel.sem': '1' }, 'NODE'],
    [{ 'net.core.somaxconn': '1' }, 'POD', 'NODE'],
    [{ 'net/../vm/swappiness': '1' }],
    [{ 'net.ipv4/../../kernel/x': '1' }],
  ] as const)
    assert.throws(() => podSysctls(config(sysctls, ipc, network)), /is not in a separate kernel namespace/);
});

test('resolv.conf holds what the pod says and cannot be broken out of', async () => {
  assert.equal(
    await resolvConf({ servers: ['10.0.0.1', '::1'], searches: ['a', 'b'], options: ['ndots:5'] }),
    'search a b\nnameserver 10.0.0.1\nnameserver ::1\noptions ndots:5\n',
  );
  await assert.rejects(
    resolvConf({ servers: ['1.1.1.1\nsearch x'], searches: [], options: [] }),
    /cannot stand in a resolv\.conf/,
  );
});

test('stop signals are names and numbers, real-time ones too', () => {
  assert.deepEqual(
    ['SIGTERM', 'term', '9', ' SIGUSR1 ', 'SIGRTMIN+3', 'RTMAX-1', 'SIGRTMIN'].map(signalNumber),
    [15, 15, 9, 10, 37, 63, 34],
  );
  for (const text of ['', 'SIGNOPE', '0', '65', '-9', 'SIGRTMIN+99', 'SIGRTMIN-1'])
    assert.throws(() => signalNumber(text), /is no signal/);
  assert.deepEqual([15, 37, 34].map(signalName), ['SIGTERM', 'SIGRTMIN+3', 'SIGRTMIN']);
});
