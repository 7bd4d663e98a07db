// What becomes of pods when the node agent, its helpers or the host end. Needs root, conmon and an OCI runtime.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { RuntimeError } from '../cri.ts';
import { startEmbeddedRuntime } from './runtime.ts';
import { RuntimeFixture, text, whyNoContainers } from './testing/fixture.ts';

const skip = whyNoContainers();

function startAgent(fixture: RuntimeFixture, tag: string, once: boolean) {
  const { stateDirectory, runDirectory, cgroup } = fixture.options;
  const order = {
    stateDirectory,
    runDirectory,
    cgroup,
    images: join(fixture.directory, `images-${tag}`),
    pod: fixture.podConfig({ cgroupParent: `/${fixture.name}/pods/${tag}` }),
    container: fixture.containerConfig([
      'sh',
      '-c',
      'trap "exit 11" TERM; echo up; while :; do sleep 0.05; done',
    ]),
    once,
  };
  return spawn(process.execPath, [join(import.meta.dirname, 'testing/agent.ts'), JSON.stringify(order)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

async function record(
  fixture: RuntimeFixture,
  kind: 'sandbox' | 'container',
  id: string,
  change: object,
): Promise<void> {
  const path = join(
    fixture.options.stateDirectory!,
    kind === 'sandbox' ? 'sandboxes' : 'containers',
    id,
    `${kind}.json`,
  );
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), ...change }));
}

test('containers outlive a restart, and are the same to the new agent', { skip }, async () => {
  await using fixture = await RuntimeFixture.start();
  const namespaces = { network: 'POD', pid: 'POD', ipc: 'POD' } as const;
  const pod = await fixture.pod({ namespaces });
  const lives = await fixture.container(
    pod,
    ['sh', '-c', 'trap "echo bye; exit 5" TERM; while :; do sleep 0.05; done'],
    { security: { namespaces } },
  );
  const ends = await fixture.container(pod, ['sh', '-c', 'sleep 0.3; exit 8'], {
    metadata: { name: 'ends', attempt: 0 },
    logPath: 'ends.log',
  });
  const waits = await fixture.runtime.createContainer(
    pod.id,
    fixture.containerConfig(['sleep', '1000'], {
      metadata: { name: 'waits', attempt: 0 },
      logPath: 'waits.log',
    }),
    pod.config,
  );
  const before = await fixture.runtime.containerStatus(lives);
  await fixture.runtime[Symbol.asyncDispose]();
  await fixture.until('the short one to end', () =>
    existsSync(join(fixture.options.runDirectory!, 'exits', ends)),
  );
  await fixture.startRuntime();
  assert.deepEqual(await fixture.runtime.containerStatus(lives), before);
  assert.equal((await fixture.runtime.podSandboxStatus(pod.id)).state, 'READY');
  const ended = await fixture.runtime.containerStatus(ends);
  assert.deepEqual([ended.state, ended.exitCode, ended.reason], ['EXITED', 8, 'Error']);
  assert.ok(ended.finishedAt > ended.startedAt && ended.finishedAt <= Date.now());
  await fixture.runtime.startContainer(waits);
  const { stdout } = await fixture.runtime.execSync(lives, ['echo', 'adopted'], 10);
  assert.equal(Buffer.from(stdout).toString(), 'adopted\n');
  fixture.events.length = 0;
  await fixture.runtime.stopContainer(lives, 20);
  assert.equal((await fixture.runtime.containerStatus(lives)).exitCode, 5);
  assert.match(text(await fixture.log(lives), 'stdout'), /bye/);
  assert.deepEqual(
    fixture.events.map((event) => event.type),
    ['CONTAINER_STOPPED'],
  );
});

test('an agent that was killed is followed by one that adopts its containers', { skip }, async () => {
  await using fixture = await RuntimeFixture.start();
  await fixture.runtime[Symbol.asyncDispose]();
  const agent = startAgent(fixture, 'killed', true);
  const [line] = (await once(createInterface(agent.stdout), 'line')) as [string];
  const { pod, container, pid } = JSON.parse(line) as { pod: string; container: string; pid: number };
  agent.kill('SIGKILL');
  await once(agent, 'exit');
  await fixture.startRuntime();
  const status = await fixture.runtime.containerStatus(container);
  assert.deepEqual([status.state, status.pid], ['RUNNING', pid]);
  await fixture.runtime.stopContainer(container, 20);
  assert.equal((await fixture.runtime.containerStatus(container)).exitCode, 11);
  await fixture.runtime.removePodSandbox(pod);
});

test('killed at any moment, an agent leaves nothing that the next one cannot put in order', {
  skip,
}, async () => {
  await using fixture = await RuntimeFixture.start();
  for (let round = 0; round < 6; round++) {
    await fixture.runtime[Symbol.asyncDispose]();
    const agent = startAgent(fixture, `round-${round}`, false);
    await once(createInterface(agent.stdout), 'line');
    await new Promise((resolve) => setTimeout(resolve, 20 + round * 37));
    agent.kill('SIGKILL');
    await once(agent, 'exit');
    await fixture.startRuntime();
    for (const { id, state } of await fixture.runtime.listContainers()) {
      assert.notEqual(state, 'UNKNOWN');
      const status = await fixture.runtime.containerStatus(id);
      if (state === 'RUNNING') assert.ok(existsSync(`/proc/${status.pid}`));
    }
    const sandboxes = await fixture.runtime.listPodSandboxes();
    assert.ok(sandboxes.length <= 1);
    await Promise.all(sandboxes.map(({ id }) => fixture.runtime.removePodSandbox(id)));
    for (const directory of [fixture.options.stateDirectory!, fixture.options.runDirectory!])
      for (const kind of ['sandboxes', 'containers'])
        assert.deepEqual(await readdir(join(directory, kind)), [], `${directory}/${kind}`);
    assert.doesNotMatch(await readFile('/proc/self/mountinfo', 'utf8'), new RegExp(fixture.directory));
  }
});

test('a container whose conmon dies is ended and says why, at once and after a restart', {
  skip,
}, async () => {
  await using fixture = await RuntimeFixture.start();
  const pod = await fixture.pod();
  const kill = async (id: string): Promise<number> => {
    const { pid } = await fixture.runtime.containerStatus(id);
    process.kill(
      Number(await readFile(join(fixture.options.runDirectory!, 'containers', id, 'conmon.pid'), 'utf8')),
      'SIGKILL',
    );
    return pid;
  };
  const first = await fixture.container(pod, ['sleep', '1000']);
  const pid = await kill(first);
  const status = await fixture.exited(first);
  assert.deepEqual([status.exitCode, status.reason], [137, 'Error']);
  assert.match(status.message, /conmon.*ended unexpectedly/);
  await fixture.until('the process to be gone', () => !existsSync(`/proc/${pid}`));
  const second = await fixture.container(pod, ['sleep', '1000'], {
    metadata: { name: 'second', attempt: 0 },
    logPath: 'second.log',
  });
  await fixture.runtime[Symbol.asyncDispose]();
  await kill(second);
  await fixture.startRuntime();
  assert.equal((await fixture.exited(second)).exitCode, 137);
});

test('after a reboot pods are not ready and their containers have ended in an unknown way', {
  skip,
}, async () => {
  await using fixture = await RuntimeFixture.start();
  const pod = await fixture.pod();
  const id = await fixture.container(pod, ['sleep', '1000']);
  await fixture.runtime[Symbol.asyncDispose]();
  await record(fixture, 'sandbox', pod.id, { bootId: 'another' });
  await record(fixture, 'container', id, { bootId: 'another' });
  await fixture.startRuntime();
  assert.equal((await fixture.runtime.podSandboxStatus(pod.id)).state, 'NOTREADY');
  const status = await fixture.runtime.containerStatus(id);
  assert.deepEqual([status.state, status.exitCode, status.reason], ['EXITED', 255, 'Unknown']);
  assert.equal(fixture.network.attached.size, 0);
  await assert.rejects(fixture.runtime.startContainer(id), /in state EXITED/);
  await fixture.runtime.removePodSandbox(pod.id);
});

test('a container that was being started is not adopted half started', { skip }, async () => {
  await using fixture = await RuntimeFixture.start();
  const pod = await fixture.pod();
  const id = await fixture.container(pod, ['sleep', '1000']);
  const { pid } = await fixture.runtime.containerStatus(id);
  await fixture.runtime[Symbol.asyncDispose]();
  await record(fixture, 'container', id, { phase: 'starting', process: undefined, conmon: undefined });
  await fixture.startRuntime();
  const status = await fixture.runtime.containerStatus(id);
  assert.deepEqual([status.state, status.exitCode, status.reason], ['EXITED', 128, 'StartError']);
  await fixture.until('the process to be gone', () => !existsSync(`/proc/${pid}`));
});

test('records that cannot be read are cleared away with all that belongs to them', { skip }, async () => {
  await using fixture = await RuntimeFixture.start();
  const pod = await fixture.pod();
  const id = await fixture.container(pod, ['sleep', '1000']);
  const { pid } = await fixture.runtime.containerStatus(id);
  const other = await fixture.container(pod, ['sleep', '1000'], {
    metadata: { name: 'other', attempt: 0 },
    logPath: 'other.log',
  });
  const { pid: otherPid } = await fixture.runtime.containerStatus(other);
  await fixture.runtime[Symbol.asyncDispose]();
  const { stateDirectory, runDirectory } = fixture.options;
  await writeFile(join(stateDirectory!, 'containers', other, 'container.json'), '');
  await writeFile(join(stateDirectory!, 'sandboxes', pod.id, 'sandbox.json'), '{"id":');
  await mkdir(join(runDirectory!, 'containers', 'stray', 'rootfs'), { recursive: true });
  await fixture.startRuntime();
  assert.deepEqual(await fixture.runtime.listPodSandboxes(), []);
  assert.deepEqual(await fixture.runtime.listContainers(), []);
  for (const directory of [stateDirectory!, runDirectory!])
    for (const kind of ['sandboxes', 'containers'])
      assert.deepEqual(await readdir(join(directory, kind)), []);
  await fixture.until('the processes to be gone', () =>
    [pid, otherPid].every((p) => !existsSync(`/proc/${p}`)),
  );
});

test('two runtimes do not work on the same state', { skip }, async () => {
  await using fixture = await RuntimeFixture.start();
  await assert.rejects(startEmbeddedRuntime(fixture.options), (error: unknown) => {
    return (
      error instanceof RuntimeError &&
      error.code === 'FailedPrecondition' &&
      /is in use by process \d+/.test(error.message)
    );
  });
});

test('the process behind the host operations may die: it comes again and ends are still noticed', {
  skip,
}, async () => {
  await using fixture = await RuntimeFixture.start();
  const pod = await fixture.pod();
  const id = await fixture.container(pod, ['sleep', '1000']);
  const agents = fixture.cgroups.directories(`/${fixture.name}/conmon`)[0]!;
  const pids = (await readFile(join(agents, 'cgroup.procs'), 'utf8')).trim().split('\n');
  const names = await Promise.all(
    pids.map(async (pid) => [pid, (await readFile(`/proc/${pid}/comm`, 'utf8')).trim()] as const),
  );
  const host = names.filter(([, name]) => name === 'bulkhead-host').map(([pid]) => Number(pid));
  assert.ok(host.length >= 1, String(names));
  for (const pid of host) process.kill(pid, 'SIGKILL');
  await fixture.until('a new one', async () =>
    fixture.runtime.execSync(id, ['true'], 5).then(
      () => true,
      () => false,
    ),
  );
  const conmon = Number(
    await readFile(join(fixture.options.runDirectory!, 'containers', id, 'conmon.pid'), 'utf8'),
  );
  process.kill(conmon, 'SIGKILL');
  assert.match((await fixture.exited(id)).message, /conmon/);
});

test('a pod whose shared processes lose their init is not ready', { skip }, async () => {
  await using fixture = await RuntimeFixture.start();
  const namespaces = { network: 'POD', pid: 'POD', ipc: 'POD' } as const;
  const pod = await fixture.pod({ namespaces });
  const id = await fixture.container(pod, ['sleep', '1000'], { security: { namespaces } });
  const { init } = JSON.parse(
    await readFile(join(fixture.options.stateDirectory!, 'sandboxes', pod.id, 'sandbox.json'), 'utf8'),
  );
  process.kill(init.pid, 'SIGKILL');
  await fixture.until(
    'the pod not to be ready',
    async () => (await fixture.runtime.podSandboxStatus(pod.id)).state === 'NOTREADY',
  );
  assert.equal((await fixture.exited(id)).exitCode, 137);
  await fixture.runtime.removePodSandbox(pod.id);
});
