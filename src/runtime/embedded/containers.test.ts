// Real pods and containers: their life, their end, and what they are allowed. Needs root, conmon and an OCI runtime.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readlink, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type ContainerEvent, RuntimeError } from '../cri.ts';
import { RuntimeFixture, text, whyNoContainers } from './testing/fixture.ts';

const skip = whyNoContainers();
let fixture: RuntimeFixture;
before(async () => {
  if (!skip) fixture = await RuntimeFixture.start();
});
after(async () => {
  if (!skip) await fixture[Symbol.asyncDispose]();
});

const failsWith = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof RuntimeError && error.code === code && message.test(error.message);

test('a container runs, writes a log in the CRI format, ends, and each step is an event in order', {
  skip,
}, async () => {
  const { runtime } = fixture;
  const events: ContainerEvent[] = [];
  using _off = { [Symbol.dispose]: runtime.onEvent((event) => events.push(event)) };
  const pod = await fixture.pod();
  const id = await runtime.createContainer(
    pod.id,
    fixture.containerConfig(['sh', '-c', 'echo out; echo err >&2; printf partial; exit 7']),
    pod.config,
  );
  assert.equal((await runtime.containerStatus(id)).state, 'CREATED');
  const before = Date.now();
  await runtime.startContainer(id);
  const status = await fixture.exited(id);
  assert.equal(status.exitCode, 7);
  assert.equal(status.reason, 'Error');
  assert.ok(
    status.startedAt >= before && status.finishedAt >= before - 5 && status.finishedAt <= Date.now() + 5,
  );
  const log = await fixture.log(id);
  assert.match(log, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) stdout F out$/m);
  assert.match(log, / stderr F err$/m);
  assert.match(log, / stdout P partial$/m);
  await runtime.removeContainer(id);
  await runtime.removePodSandbox(pod.id);
  assert.deepEqual(
    events.map((event) => event.type),
    [
      'SANDBOX_CREATED',
      'CONTAINER_CREATED',
      'CONTAINER_STARTED',
      'CONTAINER_STOPPED',
      'CONTAINER_DELETED',
      'SANDBOX_STOPPED',
      'SANDBOX_DELETED',
    ],
  );
  assert.ok(events.every((event) => event.podUid === pod.config.metadata.uid));
  assert.equal(fixture.images.holds.has(id), false);
  assert.equal(fixture.network.attached.has(pod.id), false);
});

test('lists and statuses answer from memory, with filters', { skip }, async () => {
  const { runtime } = fixture;
  const pod = await fixture.pod();
  const id = await fixture.container(pod, ['sleep', '100'], { labels: { a: 'b' }, annotations: { c: 'd' } });
  const [container] = await runtime.listContainers({ id });
  assert.deepEqual(
    {
      image: container!.image,
      imageId: container!.imageId,
      labels: container!.labels,
      state: container!.state,
    },
    {
      image: 'docker.io/library/busybox:latest',
      imageId: 'registry.test/busybox@sha256:0',
      labels: { a: 'b' },
      state: 'RUNNING',
    },
  );
  assert.equal((await runtime.listContainers({ podSandboxId: pod.id, state: 'RUNNING' })).length, 1);
  assert.equal((await runtime.listContainers({ podSandboxId: pod.id, state: 'EXITED' })).length, 0);
  assert.equal((await runtime.listPodSandboxes({ podUid: pod.config.metadata.uid })).length, 1);
  assert.equal((await runtime.listPodSandboxes({ id: pod.id, state: 'NOTREADY' })).length, 0);
  const status = await runtime.podSandboxStatus(pod.id);
  assert.deepEqual(status.ips, [fixture.network.attached.get(pod.id)]);
  assert.deepEqual((await runtime.containerStatus(id)).user, { uid: 0, gid: 0, supplementalGroups: [0] });
  await runtime.stopPodSandbox(pod.id);
  assert.equal((await runtime.podSandboxStatus(pod.id)).state, 'NOTREADY');
  assert.equal((await runtime.containerStatus(id)).state, 'EXITED');
  await assert.rejects(
    runtime.createContainer(
      pod.id,
      fixture.containerConfig(['true'], { metadata: { name: 'late', attempt: 0 } }),
      pod.config,
    ),
    failsWith('FailedPrecondition', /is not ready/),
  );
  await runtime.removePodSandbox(pod.id);
  await assert.rejects(runtime.podSandboxStatus(pod.id), failsWith('NotFound', /is not found/));
  await assert.rejects(runtime.containerStatus(id), failsWith('NotFound', /is not found/));
});

test('stopping and removing what is stopped or gone succeeds; a name is taken once', { skip }, async () => {
  const { runtime } = fixture;
  const pod = await fixture.pod();
  const id = await fixture.container(pod, ['sleep', '100']);
  await assert.rejects(
    runtime.createContainer(pod.id, fixture.containerConfig(['true']), pod.config),
    failsWith('AlreadyExists', /failed to reserve container name/),
  );
  await assert.rejects(
    runtime.runPodSandbox(pod.config, ''),
    failsWith('AlreadyExists', /failed to reserve sandbox name/),
  );
  await assert.rejects(runtime.startContainer(id), failsWith('FailedPrecondition', /in state RUNNING/));
  await runtime.stopContainer(id, 0);
  await runtime.stopContainer(id, 0);
  await Promise.all([runtime.removeContainer(id), runtime.removeContainer(id)]);
  await runtime.removeContainer(id);
  await runtime.stopContainer(id, 5);
  await Promise.all([runtime.stopPodSandbox(pod.id), runtime.stopPodSandbox(pod.id)]);
  await Promise.all([runtime.removePodSandbox(pod.id), runtime.removePodSandbox(pod.id)]);
  await runtime.removePodSandbox(pod.id);
  await runtime.stopPodSandbox(pod.id);
});

test('a command that cannot be run is an error of the start, and the container is left exited with it', {
  skip,
}, async () => {
  const { runtime } = fixture;
  const pod = await fixture.pod();
  const id = await runtime.createContainer(pod.id, fixture.containerConfig(['no-such-program']), pod.config);
  await assert.rejects(
    runtime.startContainer(id),
    failsWith('Internal', /^OCI runtime create failed: [^=]*no-such-program.*not found/),
  );
  const status = await runtime.containerStatus(id);
  assert.deepEqual([status.state, status.exitCode, status.reason], ['EXITED', 128, 'StartError']);
  assert.match(status.message, /no-such-program/);
  await runtime.removePodSandbox(pod.id);
});

test('an image that is not there, no command and an unknown handler are refused and leave nothing', {
  skip,
}, async () => {
  const { runtime } = fixture;
  const pod = await fixture.pod();
  await fixture.images.add('bare');
  await assert.rejects(
    runtime.createContainer(pod.id, fixture.containerConfig(['true'], { image: 'nothing' }), pod.config),
    failsWith('NotFound', /image "nothing"/),
  );
  await assert.rejects(
    runtime.createContainer(pod.id, fixture.containerConfig([], { image: 'bare' }), pod.config),
    failsWith('InvalidArgument', /no command specified/),
  );
  await assert.rejects(
    runtime.createContainer(
      pod.id,
      fixture.containerConfig(['true'], { security: { runAsUsername: 'nobody-knows' } }),
      pod.config,
    ),
    failsWith('InvalidArgument', /unable to find user nobody-knows/),
  );
  await assert.rejects(
    runtime.runPodSandbox(fixture.podConfig(), 'kata'),
    failsWith('InvalidArgument', /no runtime for "kata"/),
  );
  await assert.rejects(
    fixture.pod({ sysctls: { 'vm.overcommit_memory': '1' } }),
    failsWith('InvalidArgument', /not in a separate kernel namespace/),
  );
  assert.equal((await runtime.listContainers({ podSandboxId: pod.id })).length, 0);
  assert.equal(fixture.images.holds.size, 0);
  await runtime.removePodSandbox(pod.id);
});

test('stopping sends the stop signal and waits; one who ignores it is killed when the time is over', {
  skip,
}, async () => {
  const { runtime } = fixture;
  const pod = await fixture.pod();
  const polite = await fixture.container(
    pod,
    ['sh', '-c', 'trap "echo bye; exit 5" TERM; while :; do sleep 0.05; done'],
    { logPath: 'polite.log' },
  );
  const usr1 = await fixture.container(
    pod,
    ['sh', '-c', 'trap "exit 6" USR1; while :; do sleep 0.05; done'],
    {
      metadata: { name: 'usr1', attempt: 0 },
      stopSignal: 'SIGUSR1',
      logPath: 'usr1.log',
    },
  );
  // Process 1 without a handler is deaf to SIGTERM.
  const deaf = await fixture.container(pod, ['sleep', '1000'], {
    metadata: { name: 'deaf', attempt: 0 },
    logPath: 'deaf.log',
  });
  const ready = async (id: string, signal: number) => {
    const { pid } = await runtime.containerStatus(id);
    const mask = (await readFile(`/proc/${pid}/status`, 'utf8')).match(/^SigCgt:\s*(\w+)/m)![1]!;
    return ((BigInt(`0x${mask}`) >> BigInt(signal - 1)) & 1n) === 1n;
  };
  await fixture.until('the traps', async () => (await ready(polite, 15)) && (await ready(usr1, 10)));
  const started = performance.now();
  await Promise.all([
    runtime.stopContainer(polite, 20),
    runtime.stopContainer(usr1, 20),
    runtime.stopContainer(deaf, 1),
  ]);
  const took = performance.now() - started;
  assert.ok(took >= 1000 && took < 15_000, `took ${took} ms`);
  assert.equal((await runtime.containerStatus(polite)).exitCode, 5);
  assert.equal((await runtime.containerStatus(usr1)).exitCode, 6);
  assert.equal((await runtime.containerStatus(usr1)).stopSignal, 'SIGUSR1');
  assert.equal((await runtime.containerStatus(deaf)).exitCode, 137);
  assert.match(text(await fixture.log(polite), 'stdout'), /bye/);
  await runtime.removePodSandbox(pod.id);
});

test('a second stop with less patience does not wait for the first', { skip }, async () => {
  const { runtime } = fixture;
  const pod = await fixture.pod();
  const id = await fixture.container(pod, ['sleep', '1000']);
  const patient = runtime.stopContainer(id, 600);
  await runtime.stopContainer(id, 0);
  await patient;
  assert.equal((await runtime.containerStatus(id)).exitCode, 137);
  await runtime.removePodSandbox(pod.id);
});

test('memory beyond the limit ends a container as OOMKilled', { skip: skip || false }, async (t) => {
  if (!fixture.cgroups.controllers.has('memory')) {
    t.diagnostic('no memory controller on this host');
    return;
  }
  const { status } = await fixture.output(['sh', '-c', 'exec tail /dev/zero'], {
    resources: { memoryLimitBytes: 16 << 20 },
  });
  assert.deepEqual([status.reason, status.exitCode], ['OOMKilled', 137]);
});

test('image, pod and container decide on command, environment, directory and user as upstream has it', {
  skip,
}, async () => {
  await fixture.images.add(
    'configured',
    {
      Entrypoint: ['/bin/sh', '-c'],
      Cmd: ['env; pwd; id'],
      Env: ['A=image', 'B=image', 'PATH=/bin'],
      WorkingDir: '/work/deep',
      User: 'app',
    },
    [{ 'etc/motd': 'hello' }],
  );
  const { stdout } = await fixture.output([], {
    image: 'configured',
    env: [
      { key: 'B', value: 'pod' },
      { key: 'C', value: 'x=y' },
    ],
    security: { supplementalGroups: [5000] },
  });
  const lines = stdout.split('\n');
  for (const line of ['A=image', 'B=pod', 'C=x=y', 'PATH=/bin', '/work/deep'])
    assert.ok(lines.includes(line), `${line} in ${stdout}`);
  assert.match(stdout, /^HOSTNAME=pod-\d+$/m);
  assert.match(stdout, /^uid=1000\(app\) gid=1001\(app\) groups=29\(audio\),44\(video\),1001\(app\),5000$/m);
  const overridden = await fixture.output([], { image: 'configured', args: ['echo only $0'] });
  assert.equal(overridden.stdout, 'only /bin/sh\n');
  const both = await fixture.output(['echo', 'command'], { image: 'configured' });
  assert.equal(both.stdout, 'command\n');
});

test('users are looked up in the image and never outside of it', { skip }, async () => {
  const secret = join(fixture.directory, 'passwd');
  await writeFile(secret, 'outsider:x:4242:4242::/:/bin/sh\n');
  await fixture.images.add('escaping', {}, [{ 'etc/passwd': `-> ../../../../../../..${secret}` }]);
  await fixture.images.add('linked', {}, [
    { 'etc/passwd': '-> ../../../real', real: 'insider:x:77:78::/:/bin/sh\n' },
  ]);
  const pod = await fixture.pod();
  await assert.rejects(
    fixture.runtime.createContainer(
      pod.id,
      fixture.containerConfig(['id'], { image: 'escaping', security: { runAsUsername: 'outsider' } }),
      pod.config,
    ),
    failsWith('InvalidArgument', /unable to find user outsider/),
  );
  await fixture.runtime.removePodSandbox(pod.id);
  const linked = await fixture.output(['id', '-u'], {
    image: 'linked',
    security: { runAsUsername: 'insider' },
  });
  assert.equal(linked.stdout, '77\n');
  const numeric = await fixture.output(['id'], {
    security: { runAsUser: 1000, runAsGroup: 7, supplementalGroups: [9] },
  });
  assert.match(numeric.stdout, /^uid=1000\(app\) gid=7 groups=7,9,29\(audio\),44\(video\)$/m);
  const strict = await fixture.output(['id'], {
    security: { runAsUser: 1000, supplementalGroups: [9], supplementalGroupsPolicy: 'Strict' },
  });
  assert.match(strict.stdout, /^uid=1000\(app\) gid=1001\(app\) groups=9,1001\(app\)$/m);
});

test('a container has no more capabilities and system calls than it should', { skip }, async () => {
  const look =
    'grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/self/status; unshare -m true && echo unshared; mkdir /sys/x; echo x > /proc/sys/kernel/domainname; ls /sys/firmware | wc -l; mount -t tmpfs x /tmp && echo mounted';
  const plain = await fixture.output(['sh', '-c', look], { security: { noNewPrivileges: true } });
  assert.match(plain.stdout, /^CapEff:\t00000000a80425fb$/m);
  assert.match(plain.stdout, /^NoNewPrivs:\t1$/m);
  assert.match(plain.stdout, /^Seccomp:\t2$/m);
  assert.doesNotMatch(plain.stdout, /unshared|mounted/);
  assert.match(plain.stderr, /domainname: Read-only/);
  assert.match(plain.stdout, /^0$/m);
  const dropped = await fixture.output(['sh', '-c', 'grep CapEff /proc/self/status'], {
    security: { capabilities: { add: ['NET_ADMIN'], drop: ['ALL'] } },
  });
  assert.match(dropped.stdout, /^CapEff:\t0000000000001000$/m);
  const user = await fixture.output(['sh', '-c', 'grep CapEff /proc/self/status'], {
    security: { runAsUser: 1000 },
  });
  assert.match(user.stdout, /^CapEff:\t0000000000000000$/m);
  const privileged = await fixture.output(
    [
      'sh',
      '-c',
      'grep CapEff /proc/self/status; mount -t tmpfs x /tmp && echo mounted; [ -c /dev/null ] && ls /dev | wc -l',
    ],
    { security: { privileged: true } },
  );
  assert.match(privileged.stdout, /mounted/);
  const ours = (await readFile('/proc/self/status', 'utf8')).match(/CapBnd:\s*(\w+)/)![1];
  assert.match(privileged.stdout, new RegExp(`CapEff:\\t${ours}`));
});

test('a seccomp profile from a file is enforced, in the format that Docker has', { skip }, async () => {
  const profile = join(fixture.directory, 'profile.json');
  const deny = (word: string) => ({
    names: ['mkdir', 'mkdirat'],
    action: 'SCMP_ACT_ERRNO',
    errnoRet: 1,
    includes: { arches: [word] },
  });
  const arch = process.arch === 'x64' ? 'amd64' : process.arch;
  await writeFile(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [deny(arch)] }));
  const security = { seccomp: { type: 'Localhost', localhostRef: profile } } as const;
  const denied = await fixture.output(['sh', '-c', 'mkdir /tmp/a || echo denied'], { security });
  assert.equal(denied.stdout, 'denied\n');
  await writeFile(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [deny('s390x')] }));
  const allowed = await fixture.output(['sh', '-c', 'mkdir /tmp/a && echo made'], { security });
  assert.equal(allowed.stdout, 'made\n');
  await assert.rejects(
    fixture.output(['true'], {
      security: { seccomp: { type: 'Localhost', localhostRef: join(fixture.directory, 'none.json') } },
    }),
    failsWith('FailedPrecondition', /none\.json cannot be read/),
  );
});

test('mounts are read-only, nested and recursive as asked; the root file system is too', {
  skip,
}, async () => {
  const source = join(fixture.directory, `mount-${randomBytes(3).toString('hex')}`);
  await mkdir(join(source, 'sub'), { recursive: true });
  await writeFile(join(source, 'file'), 'from the host');
  const mount = (containerPath: string, hostPath: string, readonly: boolean) =>
    ({ containerPath, hostPath, readonly, propagation: 'PRIVATE' }) as const;
  const { stdout, stderr } = await fixture.output(
    [
      'sh',
      '-c',
      'cat /data/ro/file; echo; touch /data/ro/x; touch /data/rw/x && echo written; touch /x; ls /data/made; cat /etc/resolv.conf',
    ],
    {
      // Not in the order of their depth.
      mounts: [
        mount('/data/ro', source, true),
        mount('/data/rw', join(source, 'sub'), false),
        mount('/data', join(source, 'new'), false),
        mount('/data/made', join(source, 'new2'), false),
      ],
      security: { readonlyRootfs: true },
    },
    {
      dns: { servers: ['10.96.0.10'], searches: ['default.svc.cluster.local', 'svc'], options: ['ndots:5'] },
    },
  );
  assert.match(stdout, /^from the host$/m);
  assert.match(stdout, /^written$/m);
  assert.match(
    stdout,
    /^search default\.svc\.cluster\.local svc\nnameserver 10\.96\.0\.10\noptions ndots:5$/m,
  );
  assert.match(stderr, /\/data\/ro\/x: Read-only/);
  assert.match(stderr, /\/x: Read-only/);
  assert.ok(existsSync(join(source, 'sub/x')));
  const twice = await fixture.output(['touch', '/data/file'], {
    mounts: [{ ...mount('/data', source, true), recursiveReadOnly: true }],
  });
  assert.match(twice.stderr, /Read-only/);
});

test('mounts made later propagate as asked, and not from a mount that is not shared', { skip }, async () => {
  const { runtime, directory } = fixture;
  const shared = join(directory, 'shared');
  const later = join(shared, 'later');
  await mkdir(shared);
  const mount = (propagation: 'HOST_TO_CONTAINER' | 'BIDIRECTIONAL', hostPath = shared) =>
    ({ containerPath: '/shared', hostPath, readonly: false, propagation }) as const;
  const sh = (script: string): unknown => execFileSync('sh', ['-c', script], { stdio: 'pipe' });
  sh(`mount -t tmpfs shared ${shared} && mount --make-shared ${shared} && mkdir ${later} ${shared}/back`);
  try {
    const pod = await fixture.pod();
    const id = await fixture.container(pod, ['sleep', '1000'], { mounts: [mount('HOST_TO_CONTAINER')] });
    const both = await fixture.container(pod, ['sleep', '1000'], {
      metadata: { name: 'both', attempt: 0 },
      logPath: 'both.log',
      mounts: [mount('BIDIRECTIONAL')],
      security: { privileged: true },
    });
    sh(`mount -t tmpfs later ${later} && touch ${later}/seen`);
    const { stdout } = await runtime.execSync(id, ['ls', '/shared/later'], 10);
    assert.equal(Buffer.from(stdout).toString(), 'seen\n');
    await runtime.execSync(
      both,
      ['sh', '-c', 'mount -t tmpfs back /shared/back && touch /shared/back/here'],
      10,
    );
    assert.ok(existsSync(join(shared, 'back/here')));
    sh(`mount -t tmpfs private ${directory}/logs && mount --make-private ${directory}/logs`);
    await assert.rejects(
      runtime.createContainer(
        pod.id,
        fixture.containerConfig(['true'], {
          metadata: { name: 'refused', attempt: 0 },
          mounts: [mount('BIDIRECTIONAL', join(directory, 'logs'))],
        }),
        pod.config,
      ),
      failsWith('FailedPrecondition', /is mounted on ".*logs" but it is not a shared mount/),
    );
    sh(`umount ${directory}/logs`);
    await runtime.removePodSandbox(pod.id);
  } finally {
    sh(`umount -R ${shared}`);
  }
});

test('named devices are there with the access that was asked for; all are for privileged containers', {
  skip,
}, async () => {
  const device = { hostPath: '/dev/kmsg', containerPath: '/dev/mine', permissions: 'w' };
  const look =
    '(: >> /dev/mine) && echo writable; head -c 1 /dev/mine; mknod /tmp/mem c 1 1; head -c 1 /tmp/mem; ls /dev';
  const plain = await fixture.output(['sh', '-c', look], { devices: [device] });
  assert.match(plain.stdout, /^writable$/m);
  assert.match(plain.stderr, /\/dev\/mine: Operation not permitted/);
  assert.match(plain.stderr, /\/tmp\/mem: Operation not permitted/);
  assert.doesNotMatch(plain.stdout, /^kmsg$/m);
  const all = await fixture.output(['ls', '/dev'], { security: { privileged: true } });
  assert.match(all.stdout, /^kmsg$/m);
  const refused = [
    [{ ...device, hostPath: '/etc/hostname' }, /is no device/],
    [{ ...device, hostPath: '/dev/no-such-device' }, /no-such-device/],
    [{ ...device, permissions: 'x' }, /is no access/],
  ] as const;
  for (const [wrong, message] of refused)
    await assert.rejects(fixture.output(['true'], { devices: [wrong] }), message);
});

test("an image's volumes hold what the image has there, with its owner, and are the container's own", {
  skip,
}, async () => {
  await fixture.images.add('volumes', { Volumes: { '/var/data': {}, '/fresh': {}, '/covered': {} } }, [
    { 'var/data/a/b': 'kept' },
  ]);
  const source = join(fixture.directory, 'covering');
  await mkdir(source, { recursive: true });
  const { stdout } = await fixture.output(
    ['sh', '-c', 'cat /var/data/a/b; echo; grep -cE " /(var/data|fresh|covered) " /proc/mounts'],
    {
      image: 'volumes',
      mounts: [{ containerPath: '/covered/', hostPath: source, readonly: false, propagation: 'PRIVATE' }],
    },
  );
  assert.equal(stdout, 'kept\n3\n');
});

test('an image may have more layers than a page of mount options holds', { skip }, async () => {
  const layers = Array.from({ length: 120 }, (_, i) => ({
    [`layer/${i}`]: String(i),
    'layer/last': String(i),
  }));
  await fixture.images.add('tall', {}, layers);
  const { stdout } = await fixture.output(['sh', '-c', 'ls /layer | wc -l; cat /layer/last'], {
    image: 'tall',
  });
  assert.equal(stdout.trim(), '121\n119');
});

test("a pod's containers share network, IPC, host name and /dev/shm; sysctls are the pod's own", {
  skip,
}, async () => {
  const { runtime } = fixture;
  const pod = await fixture.pod({
    sysctls: { 'net.ipv4.ip_local_port_range': '20000 20100', 'kernel.shm_rmid_forced': '1' },
  });
  const a = await fixture.container(pod, ['sleep', '100']);
  const b = await fixture.container(pod, ['sleep', '100'], { metadata: { name: 'b', attempt: 0 } });
  const [pidA, pidB] = await Promise.all([a, b].map(async (id) => (await runtime.containerStatus(id)).pid));
  for (const name of ['net', 'ipc', 'uts']) {
    const [x, y, ours] = await Promise.all(
      [pidA, pidB, 'self'].map((pid) => readlink(`/proc/${pid}/ns/${name}`)),
    );
    assert.equal(x, y, name);
    assert.notEqual(x, ours, name);
  }
  for (const name of ['pid', 'mnt'])
    assert.notEqual(await readlink(`/proc/${pidA}/ns/${name}`), await readlink(`/proc/${pidB}/ns/${name}`));
  await runtime.execSync(a, ['sh', '-c', 'echo shared > /dev/shm/x'], 10);
  const seen = await runtime.execSync(
    b,
    [
      'sh',
      '-c',
      'cat /dev/shm/x; hostname; cat /etc/hostname /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced; df /dev/shm | tail -1',
    ],
    10,
  );
  const [shm, name, file, ports, forced, df] = seen.stdout.toString().split('\n');
  assert.deepEqual(
    [shm, name, file, ports, forced],
    ['shared', pod.config.hostname, pod.config.hostname, '20000\t20100', '1'],
  );
  assert.match(df!, / 65536 /);
  await runtime.removePodSandbox(pod.id);
});

test('containers of a pod that shares its processes see each other; the end of one does not end the other', {
  skip,
}, async () => {
  const { runtime } = fixture;
  const namespaces = { network: 'POD', pid: 'POD', ipc: 'POD' } as const;
  const pod = await fixture.pod({ namespaces });
  const security = { namespaces };
  const a = await fixture.container(pod, ['sh', '-c', 'sleep 1001 & sleep 1002'], { security });
  const b = await fixture.container(pod, ['sleep', '1003'], {
    security,
    metadata: { name: 'b', attempt: 0 },
  });
  const ps = async () => (await runtime.execSync(b, ['ps', '-o', 'pid,args'], 10)).stdout.toString();
  await fixture.until('the processes of both', async () => /sleep 1001.*sleep 1003/s.test(await ps()));
  assert.match(await ps(), /^\s*1 .*bulkhead-pod-init$/m);
  const { stdout, stderr } = await runtime.execSync(
    b,
    ['sh', '-c', 'ls /proc/1/root/; cat /proc/1/environ; kill -9 1; kill -0 1 && echo alive'],
    10,
  );
  assert.match(stderr.toString(), /\/proc\/1\/root\/: Permission denied/);
  assert.match(stdout.toString(), /alive/);
  await runtime.stopContainer(a, 0);
  assert.doesNotMatch(await ps(), /sleep 100[12]/);
  assert.match(await ps(), /sleep 1003/);
  await runtime.removePodSandbox(pod.id);
});

test('a container can join the processes of another, or those of the host', { skip }, async () => {
  const { runtime } = fixture;
  const pod = await fixture.pod();
  const target = await fixture.container(pod, ['sleep', '1004']);
  const debug = await fixture.container(pod, ['sleep', '1005'], {
    metadata: { name: 'debug', attempt: 0 },
    security: { namespaces: { network: 'POD', pid: 'TARGET', ipc: 'POD', targetId: target } },
  });
  assert.match(
    (await runtime.execSync(debug, ['ps', '-o', 'pid,args'], 10)).stdout.toString(),
    /^\s*1 sleep 1004$/m,
  );
  await runtime.removePodSandbox(pod.id);
  const namespaces = { network: 'NODE', pid: 'NODE', ipc: 'NODE' } as const;
  const { stdout } = await fixture.output(
    ['sh', '-c', 'for n in net pid ipc uts; do readlink /proc/self/ns/$n; done'],
    { security: { namespaces } },
    { namespaces },
  );
  const host = await Promise.all(
    ['net', 'pid', 'ipc', 'uts'].map((name) => readlink(`/proc/self/ns/${name}`)),
  );
  assert.deepEqual(stdout.split('\n').slice(0, 4), host);
});

test('limits reach the cgroup, can be changed while the container runs, and its use is told', {
  skip,
}, async (t) => {
  const { runtime, cgroups } = fixture;
  if (!cgroups.controllers.has('memory') || !cgroups.controllers.has('pids')) {
    t.diagnostic('no memory and pids controllers on this host');
    return;
  }
  const pod = await fixture.pod();
  const config = fixture.containerConfig(
    [
      'sh',
      '-c',
      'dd if=/dev/zero of=/file bs=1M count=3; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 100',
    ],
    {
      resources: {
        memoryLimitBytes: 64 << 20,
        cpuShares: 512,
        cpuQuota: 50_000,
        cpuPeriod: 100_000,
        pidsLimit: 50,
      },
    },
  );
  const id = await runtime.createContainer(pod.id, config, pod.config);
  await runtime.updateContainerResources(id, { memoryLimitBytes: 48 << 20 });
  await runtime.startContainer(id);
  const path = `${pod.config.cgroupParent}/${id}`;
  assert.equal((await cgroups.stat(path)).memory.limitBytes, 48 << 20);
  await runtime.updateContainerResources(id, { memoryLimitBytes: 96 << 20, cpuShares: 256 });
  assert.equal((await cgroups.stat(path)).memory.limitBytes, 96 << 20);
  assert.equal((await runtime.containerStatus(id)).resources?.memoryLimitBytes, 96 << 20);
  assert.equal((await runtime.containerStatus(id)).resources?.pidsLimit, 50);
  await fixture.until(
    'some use',
    async () => (await runtime.containerStats(id)).cpu.usageCoreNanoSeconds > 20e6,
  );
  const stats = await runtime.containerStats(id);
  assert.ok(stats.memory.usageBytes > 0 && stats.memory.workingSetBytes <= stats.memory.usageBytes);
  assert.ok((await runtime.listContainerStats()).some((s) => s.id === id));
  await runtime.removePodSandbox(pod.id);
});

test('a log that was renamed is opened anew on request', { skip }, async () => {
  const { runtime } = fixture;
  const pod = await fixture.pod();
  const id = await fixture.container(pod, ['sh', '-c', 'while :; do echo tick; sleep 0.02; done']);
  const { logPath } = await runtime.containerStatus(id);
  await fixture.until('the first line', async () => (await fixture.log(id)).includes('tick'));
  await rename(logPath, `${logPath}.1`);
  await runtime.reopenContainerLog(id);
  await fixture.until(
    'a line in the new file',
    async () => existsSync(logPath) && (await fixture.log(id)).includes('tick'),
  );
  await runtime.stopContainer(id, 0);
  await assert.rejects(runtime.reopenContainerLog(id), failsWith('FailedPrecondition', /not running/));
  await runtime.removePodSandbox(pod.id);
});

test('twenty pods start at once', { skip }, async () => {
  const { runtime } = fixture;
  const pods = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const pod = await fixture.pod();
      return { pod, id: await fixture.container(pod, ['sleep', '1000']) };
    }),
  );
  for (const { id } of pods) assert.equal((await runtime.containerStatus(id)).state, 'RUNNING');
  await Promise.all(pods.map(({ pod }) => runtime.removePodSandbox(pod.id)));
});
