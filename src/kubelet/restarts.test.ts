import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../component/index.ts';
import { startTestNode } from './testing/node.ts';
import { only, pass, running, START, waitFor } from './testing/pods.ts';

test('a crashing container backs off 10 s, 20 s, 40 s and says so', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  const { metadata } = await node.createPod({ name: 'web' });
  const crash = async (count: number): Promise<void> => {
    await waitFor(node, 'web', (pod) => {
      assert.ok(only(pod).state?.running, JSON.stringify(only(pod).state));
      assert.equal(only(pod).restartCount, count);
    });
    node.runtime.exit({ podUid: metadata.uid, container: 'web' }, 1);
  };
  await crash(0);
  // The first restart comes at once.
  await crash(1);
  for (const [count, delay] of [
    [2, 10],
    [3, 20],
    [4, 40],
  ] as const) {
    const pod = await waitFor(node, 'web', (p) =>
      assert.equal(only(p).state?.waiting?.reason, 'CrashLoopBackOff'),
    );
    assert.equal(pod.status.phase, 'Running');
    assert.equal(
      only(pod).state?.waiting?.message,
      `back-off ${delay}s restarting failed container=web pod=web_default(${metadata.uid})`,
    );
    assert.equal(only(pod).lastState?.terminated?.exitCode, 1);
    assert.equal(only(pod).lastState?.terminated?.reason, 'Error');
    await pass(clock, delay - 1);
    assert.equal(only(await node.getPod('web')).state?.waiting?.reason, 'CrashLoopBackOff');
    await pass(clock, 1);
    await crash(count);
  }
});

test('a pod that never restarts ends as its container does', async () => {
  await using node = await startTestNode();
  for (const [name, code, phase] of [
    ['good', 0, 'Succeeded'],
    ['bad', 3, 'Failed'],
  ] as const) {
    const pod = await node.createPod({ name, spec: { restartPolicy: 'Never' } });
    await waitFor(node, name, running);
    node.runtime.exit({ podUid: pod.metadata.uid, container: 'web' }, code);
    const ended = await waitFor(node, name, (p) => assert.equal(p.status.phase, phase));
    assert.equal(only(ended).state?.terminated?.exitCode, code);
    assert.equal(only(ended).restartCount, 0);
    const ready = ended.status.conditions?.find(({ type }) => type === 'Ready');
    assert.equal(ready?.status, 'False');
    assert.equal(ready?.reason, code === 0 ? 'PodCompleted' : 'PodFailed');
  }
});

test('restart policy OnFailure starts a failed container again and leaves a finished one', async () => {
  await using node = await startTestNode();
  const pod = await node.createPod({ name: 'job', spec: { restartPolicy: 'OnFailure' } });
  await waitFor(node, 'job', running);
  const target = { podUid: pod.metadata.uid, container: 'web' };
  node.runtime.exit(target, 1);
  await waitFor(node, 'job', (p) => {
    assert.equal(only(p).restartCount, 1);
    assert.ok(only(p).state?.running);
  });
  node.runtime.exit(target, 0);
  await waitFor(node, 'job', (p) => assert.equal(p.status.phase, 'Succeeded'));
});

test('a rule of a container restarts it for its exit codes although the pod never restarts', async () => {
  await using node = await startTestNode();
  const pod = await node.createPod({
    name: 'ruled',
    spec: {
      restartPolicy: 'Never',
      containers: [
        {
          name: 'web',
          image: 'nginx:1.29',
          restartPolicy: 'Never',
          restartPolicyRules: [{ action: 'Restart', exitCodes: { operator: 'In', values: [42] } }],
        },
      ],
    },
  });
  await waitFor(node, 'ruled', running);
  const target = { podUid: pod.metadata.uid, container: 'web' };
  node.runtime.exit(target, 42);
  await waitFor(node, 'ruled', (p) => {
    assert.equal(only(p).restartCount, 1);
    assert.ok(only(p).state?.running);
  });
  node.runtime.exit(target, 1);
  await waitFor(node, 'ruled', (p) => assert.equal(p.status.phase, 'Failed'));
});

test('init containers run one after the other before the others start', async () => {
  await using node = await startTestNode();
  const order: string[] = [];
  node.runtime.onEvent((event) => {
    if (event.type === 'CONTAINER_STARTED')
      void node.runtime.containerStatus(event.containerId).then(({ metadata }) => order.push(metadata.name));
  });
  await node.createPod({
    name: 'web',
    spec: {
      initContainers: [
        { name: 'first', image: 'busybox:1' },
        { name: 'second', image: 'busybox:1' },
      ],
    },
  });
  const pod = await waitFor(node, 'web', running);
  assert.deepEqual(order, ['first', 'second', 'web']);
  assert.deepEqual(
    pod.status.initContainerStatuses?.map(({ name, ready, state }) => [
      name,
      ready,
      state?.terminated?.reason,
    ]),
    [
      ['first', true, 'Completed'],
      ['second', true, 'Completed'],
    ],
  );
});

test('while an init container fails the pod is Pending and says which one', async () => {
  await using node = await startTestNode();
  await node.createPod({
    name: 'web',
    annotations: { 'first.simulation.bulkhead.dev/exit-code': '1' },
    spec: { initContainers: [{ name: 'first', image: 'busybox:1' }] },
  });
  const pod = await waitFor(node, 'web', (p) => {
    assert.equal(p.status.phase, 'Pending');
    assert.equal(p.status.initContainerStatuses?.[0]?.state?.waiting?.reason, 'CrashLoopBackOff');
  });
  assert.equal(only(pod).state?.waiting?.reason, 'PodInitializing');
  const initialized = pod.status.conditions?.find(({ type }) => type === 'Initialized');
  assert.equal(initialized?.status, 'False');
  assert.equal(initialized?.message, 'containers with incomplete status: [first]');
});

test('a failed init container of a pod that never restarts fails the pod', async () => {
  await using node = await startTestNode();
  await node.createPod({
    name: 'web',
    annotations: { 'first.simulation.bulkhead.dev/exit-code': '1' },
    spec: { restartPolicy: 'Never', initContainers: [{ name: 'first', image: 'busybox:1' }] },
  });
  await waitFor(node, 'web', (p) => assert.equal(p.status.phase, 'Failed'));
});

test('a sidecar starts before the regular containers and does not keep a finished pod alive', async () => {
  await using node = await startTestNode();
  const pod = await node.createPod({
    name: 'job',
    spec: {
      restartPolicy: 'Never',
      initContainers: [{ name: 'proxy', image: 'envoy:1', restartPolicy: 'Always' }],
    },
  });
  const up = await waitFor(node, 'job', running);
  assert.ok(up.status.initContainerStatuses?.[0]?.state?.running);
  assert.equal(up.status.initContainerStatuses?.[0]?.ready, true);
  node.runtime.exit({ podUid: pod.metadata.uid, container: 'proxy' }, 1);
  await waitFor(node, 'job', (p) => {
    assert.equal(p.status.initContainerStatuses?.[0]?.restartCount, 1);
    assert.ok(p.status.initContainerStatuses?.[0]?.state?.running);
  });
  node.runtime.exit({ podUid: pod.metadata.uid, container: 'web' }, 0);
  await waitFor(node, 'job', (p) => {
    assert.equal(p.status.phase, 'Succeeded');
    assert.ok(p.status.initContainerStatuses?.[0]?.state?.terminated);
  });
});
