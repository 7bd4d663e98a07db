import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../../component/index.ts';
import type { ContainerConfig, ContainerEvent, PodSandboxConfig } from '../cri.ts';
import { RuntimeError } from '../cri.ts';
import { AddressPool } from './addresses.ts';
import { behaviourOf, checkAnnotations, parseDuration } from './annotations.ts';
import { type Simulation, startSimulatedRuntime } from './index.ts';

function sandboxConfig(
  uid: string,
  annotations: Record<string, string> = {},
  network: 'POD' | 'NODE' = 'POD',
): PodSandboxConfig {
  return {
    metadata: { name: uid, uid, namespace: 'default', attempt: 0 },
    hostname: uid,
    logDirectory: '',
    portMappings: [],
    labels: {},
    annotations,
    namespaces: { network, pid: 'CONTAINER', ipc: 'POD' },
    cgroupParent: '',
    sysctls: {},
    security: { privileged: false, supplementalGroups: [] },
  };
}

function containerConfig(
  name: string,
  image: string,
  annotations: Record<string, string> = {},
): ContainerConfig {
  return {
    metadata: { name, attempt: 0 },
    image,
    imageReference: 'nginx',
    env: [],
    mounts: [],
    devices: [],
    labels: {},
    annotations,
    logPath: '',
    stdin: false,
    stdinOnce: false,
    tty: false,
    resources: {},
    security: {
      capabilities: { add: [], drop: [] },
      privileged: false,
      namespaces: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' },
      supplementalGroups: [],
      readonlyRootfs: false,
      noNewPrivileges: false,
      maskedPaths: [],
      readonlyPaths: [],
    },
  };
}

async function run(
  runtime: Simulation,
  annotations: Record<string, string> = {},
  containerAnnotations: Record<string, string> = {},
): Promise<{ sandbox: string; container: string }> {
  const config = sandboxConfig('pod', annotations);
  const sandbox = await runtime.runPodSandbox(config, '');
  const image = await runtime.pullImage('nginx');
  const container = await runtime.createContainer(
    sandbox,
    containerConfig('web', image, containerAnnotations),
    config,
  );
  return { sandbox, container };
}

const state = async (runtime: Simulation, id: string): Promise<string> =>
  (await runtime.containerStatus(id)).state;

test('a container runs at once, holds an address of its pod, and ends when it is told', async () => {
  await using runtime = startSimulatedRuntime({ podCidrs: ['10.1.0.0/24'] });
  const events: ContainerEvent['type'][] = [];
  runtime.onEvent(({ type }) => events.push(type));
  const { sandbox, container } = await run(runtime);
  await runtime.startContainer(container);
  assert.equal(await state(runtime, container), 'RUNNING');
  assert.deepEqual((await runtime.podSandboxStatus(sandbox)).ips, ['10.1.0.2']);
  runtime.exit({ podUid: 'pod', container: 'web' }, 137, { reason: 'OOMKilled' });
  const status = await runtime.containerStatus(container);
  assert.deepEqual([status.state, status.exitCode, status.reason], ['EXITED', 137, 'OOMKilled']);
  assert.throws(() => runtime.exit(container, 1), /is EXITED, not RUNNING/);
  assert.throws(() => runtime.exit({ podUid: 'pod', container: 'none' }, 1), RuntimeError);
  assert.deepEqual(events, [
    'SANDBOX_CREATED',
    'CONTAINER_CREATED',
    'CONTAINER_STARTED',
    'CONTAINER_STOPPED',
  ]);
});

test('annotations make pods slow, short-lived or hard to stop', async () => {
  const clock = new ManualClock(0);
  await using runtime = startSimulatedRuntime({ clock });
  const { container } = await run(runtime, {
    'simulation.bulkhead.dev/start-delay': '2s',
    'simulation.bulkhead.dev/ready-delay': '3s',
    'simulation.bulkhead.dev/stop-delay': '10s',
    'web.simulation.bulkhead.dev/exit-after': '1m',
    'simulation.bulkhead.dev/exit-code': '3',
  });
  const started = runtime.startContainer(container);
  await clock.advance(1999);
  assert.equal(await state(runtime, container), 'CREATED');
  await clock.advance(1);
  await started;
  assert.equal(runtime.isReady(container), false);
  await clock.advance(3000);
  assert.equal(runtime.isReady(container), true);
  await clock.advance(57_000);
  const status = await runtime.containerStatus(container);
  assert.deepEqual([status.exitCode, status.finishedAt - status.startedAt], [3, 60_000]);
});

test('stopping waits for the container, or kills it after its grace; a shorter stop overtakes a longer one', async () => {
  const clock = new ManualClock(0);
  await using runtime = startSimulatedRuntime({ clock });
  const { container } = await run(runtime, { 'simulation.bulkhead.dev/stop-delay': '1h' });
  await runtime.startContainer(container);
  const long = runtime.stopContainer(container, 600);
  await clock.advance(1000);
  const short = runtime.stopContainer(container, 2);
  await clock.advance(2000);
  await Promise.all([long, short]);
  assert.equal((await runtime.containerStatus(container)).exitCode, 137);
});

test('init containers end by themselves, and listen only to annotations that name them', async () => {
  const clock = new ManualClock(0);
  await using runtime = startSimulatedRuntime({ clock });
  const kind = { 'kubelet.bulkhead.dev/container-kind': 'init' };
  const { container } = await run(runtime, { 'simulation.bulkhead.dev/exit-code': '9' }, kind);
  await runtime.startContainer(container);
  await clock.advance(0);
  assert.equal((await runtime.containerStatus(container)).exitCode, 0);
  assert.equal(behaviourOf({ 'i.simulation.bulkhead.dev/exit-code': '9' }, 'i', true).exitCode, 9);
});

test('annotations that are unknown or unreadable are refused by name', async () => {
  await using runtime = startSimulatedRuntime();
  await assert.rejects(
    runtime.runPodSandbox(sandboxConfig('p', { 'simulation.bulkhead.dev/exit-aftr': '1s' }), ''),
    /exit-aftr is unknown; known keys are start-delay/,
  );
  assert.throws(
    () => checkAnnotations({ 'c.simulation.bulkhead.dev/exit-after': 'soon' }),
    /"soon" is not valid/,
  );
  checkAnnotations({ 'example.com/exit-after': 'soon' });
  assert.deepEqual(['250ms', '1m30s', '1.5h', '0', '', 'x', '5', '1s1'].map(parseDuration), [
    250,
    90_000,
    5_400_000,
    0,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test('what needs a process is refused clearly', async () => {
  await using runtime = startSimulatedRuntime();
  const { sandbox, container } = await run(runtime);
  await runtime.startContainer(container);
  const refusal = (error: unknown): boolean =>
    error instanceof RuntimeError &&
    error.code === 'Unimplemented' &&
    /not possible in a simulated container/.test(error.message);
  await assert.rejects(runtime.execSync(container, ['true'], 1), refusal);
  await assert.rejects(runtime.exec(container, { command: ['true'], tty: false }), refusal);
  await assert.rejects(runtime.attach(container, { tty: false }), refusal);
  await assert.rejects(runtime.portForward(sandbox, 80), refusal);
});

test('sandboxes and containers keep the contract: idempotent removal, no second attempt of a number, known images only', async () => {
  await using runtime = startSimulatedRuntime();
  const { sandbox, container } = await run(runtime);
  const image = await runtime.pullImage('nginx');
  const config = sandboxConfig('pod');
  await assert.rejects(
    runtime.createContainer(sandbox, containerConfig('web', image), config),
    /exists in sandbox/,
  );
  await assert.rejects(
    runtime.createContainer(sandbox, containerConfig('b', 'sha256:00'), config),
    /is not present/,
  );
  await assert.rejects(runtime.runPodSandbox(config, 'gvisor'), /no runtime for "gvisor"/);
  await runtime.startContainer(container);
  await runtime.stopPodSandbox(sandbox);
  assert.equal((await runtime.containerStatus(container)).exitCode, 137);
  await runtime.stopPodSandbox(sandbox);
  await runtime.removePodSandbox(sandbox);
  await runtime.removePodSandbox(sandbox);
  await runtime.removeContainer(container);
  assert.deepEqual(await runtime.listContainers(), []);
  await assert.rejects(runtime.containerStatus(container), /does not exist/);
});

test('removing a container that is slow to start ends its start', async () => {
  const clock = new ManualClock(0);
  await using runtime = startSimulatedRuntime({ clock });
  const { container } = await run(runtime, { 'simulation.bulkhead.dev/start-delay': '1h' });
  const starting = assert.rejects(runtime.startContainer(container), /was removed while it started/);
  await runtime.removeContainer(container);
  await starting;
});

test('images have ids that follow from their names, and pulls fail when a test says so', async () => {
  await using runtime = startSimulatedRuntime();
  assert.equal(await runtime.pullImage('nginx'), await runtime.pullImage('docker.io/library/nginx:latest'));
  assert.notEqual(await runtime.pullImage('nginx:1'), await runtime.pullImage('nginx:2'));
  await assert.rejects(runtime.pullImage('UPPER'), /not a valid image reference/);
  runtime.failPulls('broken', new RuntimeError('NotFound', 'no such manifest'));
  await assert.rejects(runtime.pullImage('broken:latest'), /no such manifest/);
  runtime.failPulls('broken');
  const id = await runtime.pullImage('broken');
  assert.equal((await runtime.imageStatus(id))?.repoTags[0], 'docker.io/library/broken:latest');
  await runtime.removeImage('broken');
  assert.equal(await runtime.imageStatus('broken'), undefined);
});

test('usage accumulates while the container runs', async () => {
  const clock = new ManualClock(0);
  await using runtime = startSimulatedRuntime({ clock });
  const { container } = await run(runtime);
  await runtime.startContainer(container);
  runtime.setUsage(container, { cores: 2, memoryBytes: 100 });
  await clock.advance(1000);
  runtime.setUsage(container, { cores: 1 });
  await clock.advance(1000);
  const stats = await runtime.containerStats(container);
  assert.equal(stats.cpu.usageCoreNanoSeconds, 3e9);
  assert.equal(stats.memory.workingSetBytes, 100);
});

test('addresses are unique, reused as late as possible, and run out with an error', async () => {
  const pool = new AddressPool(['10.0.0.0/29']);
  const given = Array.from({ length: 5 }, () => pool.allocate()![0]!);
  assert.deepEqual(given, ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
  assert.equal(pool.allocate(), undefined);
  pool.release(['10.0.0.4']);
  assert.deepEqual(pool.allocate(), ['10.0.0.4']);
  const dual = new AddressPool(['10.0.0.0/24', 'fd00:0:0:1::/64']);
  assert.deepEqual(dual.allocate(), ['10.0.0.2', 'fd00:0:0:1::2']);
  for (const bad of ['10.0.0.0', '10.0.0.0/31', 'x/24', '10.0.0.0/x'])
    assert.throws(() => new AddressPool([bad]), RangeError, bad);
  await using runtime = startSimulatedRuntime({ podCidrs: ['10.0.0.0/30'] });
  await runtime.runPodSandbox(sandboxConfig('one'), '');
  await assert.rejects(
    runtime.runPodSandbox(sandboxConfig('two'), ''),
    /no pod address is left in 10\.0\.0\.0\/30/,
  );
  await runtime.runPodSandbox(sandboxConfig('host', {}, 'NODE'), '');
});

test('many addresses are handed out and given back without clash (property)', () => {
  const pool = new AddressPool(['10.0.0.0/26']);
  const held = new Set<string>();
  let seed = 3;
  for (let step = 0; step < 5000; step++) {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    if (held.size > 0 && seed % 3 === 0) {
      const [first] = held;
      held.delete(first!);
      pool.release([first!]);
      continue;
    }
    const address = pool.allocate()?.[0];
    if (address === undefined) assert.equal(held.size, 61);
    else {
      assert.ok(!held.has(address));
      held.add(address);
    }
  }
});
