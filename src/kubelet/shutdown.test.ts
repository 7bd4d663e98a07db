import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import type { Pod } from '../api/types/core-v1.ts';
import { resources } from '../client/index.ts';
import { ManualClock } from '../component/index.ts';
import { RuntimeError } from '../runtime/cri.ts';
import { eventually, startTestNode, type TestNode } from './testing/node.ts';
import { only, START, waitFor } from './testing/pods.ts';

const LIMIT = { longestMs: 30_000 };
const IMAGE = 'nginx:1.29';

async function settle(): Promise<void> {
  for (let turn = 0; turn < 12; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** Moves time in steps of half a second, letting the node settle in between. */
async function pass(clock: ManualClock, seconds: number): Promise<void> {
  for (let half = 0; half < seconds * 2; half++) {
    await clock.advance(500);
    await settle();
  }
}

const running = (pod: Pod): void => assert.ok(only(pod).state?.running);
const ready = (pod: Pod): string | undefined =>
  pod.status.conditions?.find(({ type }) => type === 'Ready')?.status;

/** The second after `clock`'s present one at which each container ends, by its name, and its exit code. */
function watchEnds(node: TestNode, clock: ManualClock): Map<string, { at: number; code: number }> {
  const begun = clock.monotonic();
  const ends = new Map<string, { at: number; code: number }>();
  node.runtime.onEvent((event) => {
    if (event.type !== 'CONTAINER_STOPPED') return;
    const at = (clock.monotonic() - begun) / 1000;
    void node.runtime.containerStatus(event.containerId).then(({ metadata, exitCode }) => {
      ends.set(metadata.name, { at, code: exitCode });
    });
  });
  return ends;
}

async function runningContainers(node: TestNode): Promise<number> {
  return (await node.runtime.listContainers({ state: 'RUNNING' })).length;
}

const STOP_DELAY = 'simulation.bulkhead.dev/stop-delay';

test('pods get the time they ask for, all at once and within the limit', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  const pods: [name: string, stopDelay: string, grace: number][] = [
    ['quick', '0', 30],
    ['graceful', '12s', 20],
    ['stubborn', '1h', 5],
    ['patient', '1h', 3600],
    ['none', '1h', 0],
  ];
  for (const [name, delay, grace] of pods)
    await node.createPod({
      name,
      annotations: { [STOP_DELAY]: delay },
      spec: { terminationGracePeriodSeconds: grace, containers: [{ name, image: IMAGE }] },
    });
  for (const [name] of pods) await waitFor(node, name, running);
  const ends = watchEnds(node, clock);
  const stopped = node.kubelet.stopPods(LIMIT);
  await pass(clock, 31);
  await stopped;
  assert.deepEqual(Object.fromEntries(ends), {
    none: { at: 0, code: 137 },
    quick: { at: 0, code: 0 },
    stubborn: { at: 5, code: 137 },
    graceful: { at: 12, code: 0 },
    patient: { at: 30, code: 137 },
  });
  assert.deepEqual(await node.runtime.listPodSandboxes({ state: 'READY' }), []);
});

test('a quick pod does not wait for the limit', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web' });
  await waitFor(node, 'web', running);
  await node.kubelet.stopPods(LIMIT);
  assert.equal(await runningContainers(node), 0);
});

test('preStop hooks run first, one that hangs is cut off by the limit', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  const hooked = (name: string, seconds: number) => ({
    name,
    annotations: { [STOP_DELAY]: '0' },
    spec: {
      terminationGracePeriodSeconds: 600,
      containers: [{ name, image: IMAGE, lifecycle: { preStop: { sleep: { seconds } } } }],
    },
  });
  await node.createPod(hooked('short', 4));
  await node.createPod(hooked('hanging', 500));
  await waitFor(node, 'short', running);
  await waitFor(node, 'hanging', running);
  const ends = watchEnds(node, clock);
  const stopped = node.kubelet.stopPods(LIMIT);
  await pass(clock, 31);
  await stopped;
  assert.deepEqual(Object.fromEntries(ends), { short: { at: 4, code: 0 }, hanging: { at: 30, code: 0 } });
});

test('sidecars end after the other containers of their pod', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({
    name: 'web',
    annotations: { [`web.${STOP_DELAY}`]: '3s' },
    spec: { initContainers: [{ name: 'proxy', image: IMAGE, restartPolicy: 'Always' }] },
  });
  await waitFor(node, 'web', running);
  const ends = watchEnds(node, clock);
  const stopped = node.kubelet.stopPods(LIMIT);
  await pass(clock, 4);
  await stopped;
  assert.deepEqual([...ends.keys()], ['web', 'proxy']);
  assert.equal(ends.get('proxy')?.at, 3);
});

test('critical pods end after the others, within the same limit', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  for (const [name, priority] of [
    ['usual', 0],
    ['critical', 2_000_001_000],
  ] as const)
    await node.createPod({
      name,
      annotations: { [STOP_DELAY]: '1h' },
      spec: { priority, containers: [{ name, image: IMAGE }] },
    });
  await waitFor(node, 'usual', running);
  await waitFor(node, 'critical', running);
  const ends = watchEnds(node, clock);
  const stopped = node.kubelet.stopPods(LIMIT);
  await pass(clock, 31);
  await stopped;
  assert.deepEqual(
    [...ends].map(([name, { at }]) => [name, at]),
    [
      ['usual', 20],
      ['critical', 30],
    ],
  );
});

test('a stopped pod is not ready, keeps its phase and starts again with the next agent, counted once', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web', annotations: { [STOP_DELAY]: '5s' } });
  const before = await waitFor(node, 'web', (pod) => assert.equal(ready(pod), 'True'));
  const stopped = node.kubelet.stopPods(LIMIT);
  const leaving = await waitFor(node, 'web', (pod) => assert.equal(ready(pod), 'False'));
  assert.equal(await runningContainers(node), 1, 'it leaves its services before it ends');
  await pass(clock, 6);
  await stopped;
  const after = await node.getPod('web');
  assert.deepEqual(after.status, leaving.status);
  assert.equal(after.status.phase, 'Running');
  assert.deepEqual(after.spec, before.spec);
  assert.equal(after.metadata.deletionTimestamp, undefined);
  assert.equal(only(after).containerID, only(before).containerID);
  await node.restart();
  await waitFor(node, 'web', (pod) => {
    assert.equal(ready(pod), 'True');
    assert.equal(only(pod).restartCount, 1);
    assert.notEqual(only(pod).containerID, only(before).containerID);
  });
});

test('nothing is started once the pods are being stopped, the next agent does it', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'slow', annotations: { [STOP_DELAY]: '5s' } });
  await waitFor(node, 'slow', running);
  const stopped = node.kubelet.stopPods(LIMIT);
  await node.createPod({ name: 'late' });
  await pass(clock, 10);
  await stopped;
  assert.equal(await runningContainers(node), 0);
  assert.equal((await node.getPod('late')).status?.phase, undefined);
  await node.restart();
  await waitFor(node, 'late', running);
  await waitFor(node, 'slow', running);
});

test('a pod that is being deleted goes on ending, within the limit', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web', annotations: { [STOP_DELAY]: '1h' } });
  await waitFor(node, 'web', running);
  await node.client.resource(resources.pods, 'default').delete('web', { gracePeriodSeconds: 600 });
  await eventually(async () => assert.ok((await node.events('web')).some((e) => e.startsWith('Killing'))));
  const stopped = node.kubelet.stopPods({ longestMs: 5000 });
  await pass(clock, 6);
  await stopped;
  await eventually(() => assert.rejects(node.getPod('web'), /not found/));
});

test('a container that is being restarted for its probe gets no more than the limit', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({
    name: 'web',
    annotations: { [STOP_DELAY]: '1h' },
    spec: { terminationGracePeriodSeconds: 600 },
  });
  const pod = await waitFor(node, 'web', running);
  const [container] = pod.spec.containers;
  // Another image ends the container in the middle of a sync, as a failing probe does.
  await node.client
    .resource(resources.pods, 'default')
    .update({ ...pod, spec: { ...pod.spec, containers: [{ ...container!, image: 'nginx:1.30' }] } });
  await eventually(async () => assert.ok((await node.events('web')).some((e) => e.startsWith('Killing'))));
  const stopped = node.kubelet.stopPods({ longestMs: 5000 });
  await pass(clock, 6);
  await stopped;
  assert.equal(await runningContainers(node), 0);
});

test('a second call with a shorter limit hurries the first', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web', annotations: { [STOP_DELAY]: '1h' } });
  await waitFor(node, 'web', running);
  const stopped = node.kubelet.stopPods(LIMIT);
  await pass(clock, 2);
  assert.equal(await runningContainers(node), 1);
  await Promise.all([stopped, node.kubelet.stopPods({ longestMs: 0 })]);
  assert.equal(await runningContainers(node), 0);
  await node.kubelet.stopPods({ longestMs: 0 });
});

test('containers that the runtime could not end at first are ended when it can', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web' });
  await waitFor(node, 'web', running);
  const stop = node.runtime.stopContainer.bind(node.runtime);
  let failures = 0;
  node.runtime.stopContainer = async (id, seconds) => {
    if (++failures <= 2) throw new RuntimeError('Internal', 'no');
    return stop(id, seconds);
  };
  const stopped = node.kubelet.stopPods(LIMIT);
  await pass(clock, 2);
  await stopped;
  assert.equal(await runningContainers(node), 0);
});

test('a runtime that does not answer holds up neither the end of the pods nor that of the agent for ever', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web' });
  const pod = await waitFor(node, 'web', running);
  const { runtime } = node;
  const answering = { stop: runtime.stopContainer, list: runtime.listPodSandboxes, status: runtime.status };
  const never = <T>(): Promise<T> => Promise.withResolvers<T>().promise;
  Object.assign(runtime, { stopContainer: never, listPodSandboxes: never, status: never });
  const stopped = node.kubelet.stopPods(LIMIT);
  await pass(clock, 41);
  await stopped;
  const disposed = node.kubelet[Symbol.asyncDispose]();
  await pass(clock, 60);
  await disposed;
  Object.assign(runtime, {
    stopContainer: answering.stop,
    listPodSandboxes: answering.list,
    status: answering.status,
  });
  await node.restart();
  const after = await waitFor(node, 'web', (p) => assert.equal(ready(p), 'True'));
  assert.equal(only(after).containerID, only(pod).containerID, 'what could not be ended is taken over');
});

test('pods end although the server takes no status', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web' });
  await waitFor(node, 'web', running);
  node.api.intercept = (call) => {
    if (call.verb !== 'patch' && call.verb !== 'create') return undefined;
    throw new Error('the disk is full');
  };
  await node.kubelet.stopPods(LIMIT);
  assert.equal(await runningContainers(node), 0);
  const disposed = node.kubelet[Symbol.asyncDispose]();
  await pass(clock, 20);
  await Promise.race([
    disposed,
    once(AbortSignal.timeout(5000), 'abort').then(() => assert.fail('it hangs')),
  ]);
  node.api.intercept = undefined;
});
