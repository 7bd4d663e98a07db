import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import type { Pod } from '../api/types/core-v1.ts';
import { resources } from '../client/index.ts';
import { ManualClock } from '../component/index.ts';
import { RuntimeError } from '../runtime/cri.ts';
import { eventually, startTestNode } from './testing/node.ts';
import { only, pass, running, START, waitFor } from './testing/pods.ts';

test('a pod past its active deadline fails with DeadlineExceeded', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web', spec: { activeDeadlineSeconds: 60 } });
  await waitFor(node, 'web', running);
  await pass(clock, 58);
  running(await node.getPod('web'));
  await pass(clock, 3);
  const pod = await waitFor(node, 'web', (p) => assert.equal(p.status.phase, 'Failed'));
  assert.equal(pod.status.reason, 'DeadlineExceeded');
  assert.equal(pod.status.message, 'Pod was active on the node longer than the specified deadline');
});

test('an image that cannot be pulled shows ErrImagePull, then ImagePullBackOff, and is tried again', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  node.runtime.failPulls('nginx:1.29', new RuntimeError('NotFound', 'manifest unknown'));
  await node.createPod({ name: 'web' });
  await waitFor(node, 'web', (pod) => {
    assert.equal(only(pod).state?.waiting?.reason, 'ErrImagePull');
    assert.equal(only(pod).state?.waiting?.message, 'manifest unknown');
    assert.equal(pod.status.phase, 'Pending');
  });
  await pass(clock, 2);
  await waitFor(node, 'web', (pod) => {
    assert.equal(only(pod).state?.waiting?.reason, 'ImagePullBackOff');
    assert.match(
      only(pod).state?.waiting?.message ?? '',
      /^Back-off pulling image "nginx:1\.29": ErrImagePull: /,
    );
  });
  node.runtime.failPulls('nginx:1.29');
  await pass(clock, 10);
  await waitFor(node, 'web', running);
});

test('an image name that is none, and one that must not be pulled, are refused by name', async () => {
  await using node = await startTestNode();
  await node.createPod({ name: 'invalid', spec: { containers: [{ name: 'web', image: 'UPPER/Case' }] } });
  await node.createPod({
    name: 'never',
    spec: { containers: [{ name: 'web', image: 'absent:1', imagePullPolicy: 'Never' }] },
  });
  await waitFor(node, 'invalid', (pod) => assert.equal(only(pod).state?.waiting?.reason, 'InvalidImageName'));
  await waitFor(node, 'never', (pod) => {
    assert.equal(only(pod).state?.waiting?.reason, 'ErrImageNeverPull');
    assert.equal(
      only(pod).state?.waiting?.message,
      'Container image "absent:1" is not present with pull policy of Never',
    );
  });
});

test('a container waits for the ConfigMap that it names and starts when it comes', async () => {
  await using node = await startTestNode();
  await node.createPod({
    name: 'web',
    spec: {
      containers: [
        {
          name: 'web',
          image: 'nginx:1.29',
          env: [{ name: 'MODE', valueFrom: { configMapKeyRef: { name: 'settings', key: 'mode' } } }],
        },
      ],
    },
  });
  await waitFor(node, 'web', (pod) => {
    assert.equal(only(pod).state?.waiting?.reason, 'CreateContainerConfigError');
    assert.equal(only(pod).state?.waiting?.message, 'configmap "settings" not found');
  });
  await node.client
    .resource(resources.configMaps, 'default')
    .create({ metadata: { name: 'settings', namespace: 'default' }, data: { mode: 'fast' } });
  await waitFor(node, 'web', running);
});

test('a volume of a type that is not supported keeps the pod waiting and is named', async () => {
  await using node = await startTestNode();
  await node.createPod({
    name: 'web',
    spec: { volumes: [{ name: 'data', nfs: { server: 'files', path: '/' } }] },
  });
  await eventually(async () => {
    const events = await node.events('web');
    assert.ok(
      events.some(
        (event) =>
          event.startsWith('FailedMount: ') && event.includes('"data"') && event.includes('type nfs'),
      ),
      events.join('\n'),
    );
  });
  const pod = await node.getPod('web');
  assert.equal(only(pod).state?.waiting?.reason, 'ContainerCreating');
});

test('a pod that does not fit is refused with the resource that is short', async () => {
  await using node = await startTestNode();
  const pod = await node.createPod({
    name: 'big',
    spec: { containers: [{ name: 'web', image: 'nginx:1.29', resources: { requests: { cpu: '64' } } }] },
  });
  const refused = await waitFor(node, 'big', (p) => assert.equal(p.status.phase, 'Failed'));
  assert.equal(refused.status.reason, 'OutOfcpu');
  assert.equal(
    refused.status.message,
    "Pod was rejected: Node didn't have enough resource: cpu, requested: 64000, used: 0, capacity: 32000",
  );
  assert.equal((await node.runtime.listPodSandboxes({ podUid: pod.metadata.uid })).length, 0);
});

test('two pods cannot have the same port of the host', async () => {
  await using node = await startTestNode();
  const containers = [{ name: 'web', image: 'nginx:1.29', ports: [{ containerPort: 80, hostPort: 8080 }] }];
  await node.createPod({ name: 'one', spec: { containers } });
  await waitFor(node, 'one', running);
  await node.createPod({ name: 'two', spec: { containers } });
  const pod = await waitFor(node, 'two', (p) => assert.equal(p.status.phase, 'Failed'));
  assert.equal(pod.status.reason, 'NodePorts');
});

test('a restarted agent adopts what runs: same containers, same counts, no restart', async () => {
  await using node = await startTestNode();
  const { metadata } = await node.createPod({ name: 'web' });
  await waitFor(node, 'web', running);
  node.runtime.exit({ podUid: metadata.uid, container: 'web' }, 1);
  const before = await waitFor(node, 'web', (pod) => {
    assert.equal(only(pod).restartCount, 1);
    assert.ok(only(pod).state?.running);
  });
  await node.restart();
  let events = 0;
  node.runtime.onEvent(() => events++);
  await node.client
    .resource(resources.pods, 'default')
    .patch('web', { type: 'merge', patch: { metadata: { labels: { seen: 'yes' } } } });
  await eventually(async () => assert.equal((await node.getPod('web')).metadata.labels?.['seen'], 'yes'));
  const after = await node.getPod('web');
  assert.equal(only(after).containerID, only(before).containerID);
  assert.equal(only(after).restartCount, 1);
  assert.equal(only(after).ready, true);
  assert.equal(events, 0);
});

test('a pod deleted while the agent was away is ended when it comes back', async () => {
  await using node = await startTestNode();
  await node.createPod({ name: 'web' });
  await waitFor(node, 'web', running);
  await node.kubelet[Symbol.asyncDispose]();
  await node.client.resource(resources.pods, 'default').delete('web', { gracePeriodSeconds: 0 });
  assert.equal((await node.runtime.listContainers({ state: 'RUNNING' })).length, 1);
  await node.restart();
  await eventually(async () => assert.equal((await node.runtime.listPodSandboxes()).length, 0));
});

test('readiness follows the ready-delay of the simulation', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web', annotations: { 'simulation.bulkhead.dev/ready-delay': '5s' } });
  await waitFor(node, 'web', (pod) => {
    running(pod);
    assert.equal(only(pod).ready, false);
    assert.equal(only(pod).started, true);
  });
  await pass(clock, 6);
  await waitFor(node, 'web', (pod) => assert.equal(only(pod).ready, true));
});

test('a grace period that becomes shorter takes effect while the pod is ending', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web', annotations: { 'simulation.bulkhead.dev/stop-delay': '1h' } });
  await waitFor(node, 'web', running);
  const pods = node.client.resource(resources.pods, 'default');
  await pods.delete('web', { gracePeriodSeconds: 600 });
  await eventually(async () =>
    assert.ok((await node.events('web')).includes('Killing: Stopping container web')),
  );
  await pass(clock, 2);
  assert.equal((await node.runtime.listContainers({ state: 'RUNNING' })).length, 1);
  await pods.delete('web', { gracePeriodSeconds: 3 });
  await pass(clock, 5);
  await eventually(async () => assert.equal((await node.runtime.listContainers()).length, 0));
});

test('stopping the agent waits for no grace period, and the next agent ends the pod', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web', annotations: { 'simulation.bulkhead.dev/stop-delay': '1h' } });
  await waitFor(node, 'web', running);
  await node.client.resource(resources.pods, 'default').delete('web', { gracePeriodSeconds: 600 });
  await eventually(async () =>
    assert.ok((await node.events('web')).includes('Killing: Stopping container web')),
  );
  await node.restart();
  assert.equal((await node.runtime.listContainers({ state: 'RUNNING' })).length, 1);
  await pass(clock, 601);
  await eventually(async () => assert.equal((await node.runtime.listContainers()).length, 0));
});

test('memory pressure shows on the node and ends the pod that uses most beyond its request', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  const modest = await node.createPod({
    name: 'modest',
    spec: { containers: [{ name: 'web', image: 'nginx:1.29', resources: { requests: { memory: '4Gi' } } }] },
  });
  const greedy = await node.createPod({ name: 'greedy' });
  await waitFor(node, 'modest', running);
  await waitFor(node, 'greedy', running);
  node.runtime.setUsage({ podUid: modest.metadata.uid, container: 'web' }, { memoryBytes: 2 * 2 ** 30 });
  node.runtime.setUsage({ podUid: greedy.metadata.uid, container: 'web' }, { memoryBytes: 2 ** 30 });
  node.host.setUsage({ memoryAvailableBytes: 50 * 2 ** 20 });
  await pass(clock, 2);
  const pod = await waitFor(node, 'greedy', (p) => assert.equal(p.status.phase, 'Failed'));
  assert.equal(pod.status.reason, 'Evicted');
  assert.equal(
    pod.status.message,
    'The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. ' +
      'Container web was using 1Gi, request is 0, has larger consumption of memory. ',
  );
  const target = pod.status.conditions?.find(({ type }) => type === 'DisruptionTarget');
  assert.equal(target?.reason, 'TerminationByKubelet');
  running(await node.getPod('modest'));
  await eventually(async () => {
    const { status } = await node.client.resource(resources.nodes).get('node-1');
    assert.equal(status.conditions?.find(({ type }) => type === 'MemoryPressure')?.status, 'True');
  });
});

test('a pod whose sandbox is lost gets another one, and its containers start again', async () => {
  await using node = await startTestNode();
  const { metadata } = await node.createPod({
    name: 'web',
    spec: { initContainers: [{ name: 'init', image: 'busybox:1' }] },
  });
  const before = await waitFor(node, 'web', running);
  const [sandbox] = await node.runtime.listPodSandboxes({ podUid: metadata.uid });
  await node.runtime.stopPodSandbox(sandbox!.id);
  await waitFor(node, 'web', (pod) => {
    running(pod);
    assert.equal(only(pod).restartCount, 1);
    assert.ok(only(pod).state?.running);
    assert.notEqual(pod.status.podIP, before.status.podIP);
    assert.equal(pod.status.initContainerStatuses?.[0]?.state?.terminated?.exitCode, 0);
  });
  await eventually(async () => {
    const events = await node.events('web');
    assert.ok(events.includes('SandboxChanged: Pod sandbox changed, it will be killed and re-created.'));
  });
});

test('a readiness gate holds the pod back until its condition is true', async () => {
  await using node = await startTestNode();
  await node.createPod({ name: 'web', spec: { readinessGates: [{ conditionType: 'example.com/ok' }] } });
  const ready = (pod: Pod) => pod.status.conditions?.find(({ type }) => type === 'Ready');
  await waitFor(node, 'web', (pod) => {
    assert.equal(ready(pod)?.reason, 'ReadinessGatesNotReady');
    assert.equal(
      ready(pod)?.message,
      'corresponding condition of pod readiness gate "example.com/ok" does not exist.',
    );
  });
  await node.client
    .resource(resources.pods, 'default')
    .patch(
      'web',
      { type: 'strategic', patch: { status: { conditions: [{ type: 'example.com/ok', status: 'True' }] } } },
      { subresource: 'status' },
    );
  await waitFor(node, 'web', (pod) => {
    assert.equal(ready(pod)?.status, 'True');
    assert.equal(pod.status.conditions?.find(({ type }) => type === 'example.com/ok')?.status, 'True');
  });
});

test('a preStop hook runs first and its time counts against the grace period', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({
    name: 'web',
    annotations: { 'simulation.bulkhead.dev/stop-delay': '1h' },
    spec: {
      containers: [{ name: 'web', image: 'nginx:1.29', lifecycle: { preStop: { sleep: { seconds: 20 } } } }],
    },
  });
  await waitFor(node, 'web', running);
  await node.client.resource(resources.pods, 'default').delete('web');
  await eventually(async () =>
    assert.ok((await node.events('web')).includes('Killing: Stopping container web')),
  );
  await pass(clock, 28);
  assert.equal((await node.runtime.listContainers({ state: 'RUNNING' })).length, 1);
  await pass(clock, 3);
  await eventually(async () => assert.equal((await node.runtime.listContainers()).length, 0));
});

test('a container does not count as running while its postStart hook runs', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({
    name: 'web',
    spec: {
      containers: [{ name: 'web', image: 'nginx:1.29', lifecycle: { postStart: { sleep: { seconds: 5 } } } }],
    },
  });
  await eventually(async () =>
    assert.equal((await node.runtime.listContainers({ state: 'RUNNING' })).length, 1),
  );
  await pass(clock, 2);
  const pod = await node.getPod('web');
  assert.equal(pod.status.phase, 'Pending');
  assert.equal(only(pod).state?.waiting?.reason, 'ContainerCreating');
  await pass(clock, 4);
  await waitFor(node, 'web', running);
});

test('an ephemeral container joins a running pod and does not change what it is', async () => {
  await using node = await startTestNode();
  await node.createPod({ name: 'web' });
  const pod = await waitFor(node, 'web', running);
  await node.client.resource(resources.pods, 'default').update({
    ...pod,
    spec: {
      ...pod.spec,
      ephemeralContainers: [{ name: 'debug', image: 'busybox:1', targetContainerName: 'web' }],
    },
  });
  const after = await waitFor(node, 'web', (p) =>
    assert.ok(p.status.ephemeralContainerStatuses?.[0]?.state?.running),
  );
  assert.equal(after.status.phase, 'Running');
  assert.equal(only(after).containerID, only(pod).containerID);
});

test('a deleted pod that never started goes from the API at once', async () => {
  await using node = await startTestNode();
  await node.createPod({
    name: 'stuck',
    spec: { volumes: [{ name: 'v', configMap: { name: 'absent' } }] },
  });
  await eventually(async () =>
    assert.ok((await node.events('stuck')).some((event) => event.includes('configmap "absent" not found'))),
  );
  await node.client.resource(resources.pods, 'default').delete('stuck');
  await eventually(() => assert.rejects(node.getPod('stuck'), /not found/));
});

test('the status of a pod is sent again when somebody else changes it', async () => {
  await using node = await startTestNode();
  await node.createPod({ name: 'web' });
  await waitFor(node, 'web', running);
  await node.client
    .resource(resources.pods, 'default')
    .patch('web', { type: 'merge', patch: { status: { phase: 'Pending' } } }, { subresource: 'status' });
  await waitFor(node, 'web', running);
});

test('the status survives an API server that fails for a while', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  let failing = true;
  node.api.intercept = (call) => {
    if (failing && call.verb === 'patch' && call.resource.resource === 'pods')
      throw new Error('connection refused');
    return undefined;
  };
  await node.createPod({ name: 'web' });
  await eventually(async () =>
    assert.equal((await node.runtime.listContainers({ state: 'RUNNING' })).length, 1),
  );
  await pass(clock, 3);
  assert.equal((await node.getPod('web')).status?.phase, undefined);
  failing = false;
  await pass(clock, 15);
  await waitFor(node, 'web', running);
});

test('an agent stops although the server takes no status of an ended pod, and the next one tells it', async () => {
  await using node = await startTestNode();
  const pod = await node.createPod({ name: 'job', spec: { restartPolicy: 'Never' } });
  await waitFor(node, 'job', running);
  let refused = 0;
  node.api.intercept = (call) => {
    if (call.verb !== 'patch' || call.resource.resource !== 'pods') return undefined;
    refused++;
    throw new Error('the disk is full');
  };
  node.runtime.exit({ podUid: pod.metadata.uid, container: 'web' }, 0);
  await eventually(async () => assert.ok(refused > 1));
  const restarted = node.restart();
  await Promise.race([
    restarted,
    once(AbortSignal.timeout(5000), 'abort').then(() => assert.fail('it hangs')),
  ]);
  node.api.intercept = undefined;
  await waitFor(node, 'job', (p) => assert.equal(p.status.phase, 'Succeeded'));
});

test('a node that was deleted is registered again', async () => {
  await using node = await startTestNode();
  const nodes = node.client.resource(resources.nodes);
  await eventually(async () => assert.equal((await nodes.get('node-1')).status.conditions?.length, 4));
  const { metadata } = await nodes.get('node-1');
  await nodes.delete('node-1');
  await eventually(async () => assert.notEqual((await nodes.get('node-1')).metadata.uid, metadata.uid));
});

test('a container whose rule says so starts the whole pod over in its place', async () => {
  await using node = await startTestNode();
  const restartPolicyRules = [
    { action: 'RestartAllContainers', exitCodes: { operator: 'In', values: [88] } },
  ];
  const pod = await node.createPod({
    name: 'web',
    spec: {
      restartPolicy: 'Never',
      initContainers: [{ name: 'init', image: 'busybox:1' }],
      containers: [
        { name: 'other', image: 'nginx:1.29' },
        { name: 'web', image: 'nginx:1.29', restartPolicy: 'Never', restartPolicyRules },
      ],
    },
  });
  const before = await waitFor(node, 'web', running);
  node.runtime.exit({ podUid: pod.metadata.uid, container: 'web' }, 88);
  const after = await waitFor(node, 'web', (p) => {
    running(p);
    assert.deepEqual(
      p.status.containerStatuses?.map(({ name, restartCount, state }) => [
        name,
        restartCount,
        state?.running !== undefined,
      ]),
      [
        ['other', 1, true],
        ['web', 1, true],
      ],
    );
    assert.equal(p.status.initContainerStatuses?.[0]?.restartCount, 1);
  });
  assert.equal(after.status.podIP, before.status.podIP);
});

test('an agent stops at once while a pod is still ending, and goes on ending it when it is back', async () => {
  const clock = new ManualClock(START);
  await using node = await startTestNode({ clock });
  await node.createPod({ name: 'web', annotations: { 'simulation.bulkhead.dev/stop-delay': '1h' } });
  await waitFor(node, 'web', running);
  await node.client.resource(resources.pods, 'default').delete('web', { gracePeriodSeconds: 600 });
  await eventually(async () =>
    assert.ok((await node.events('web')).includes('Killing: Stopping container web')),
  );
  await node.kubelet[Symbol.asyncDispose]();
  assert.equal((await node.runtime.listContainers({ state: 'RUNNING' })).length, 1);
  await node.restart();
  await pass(clock, 601);
  await eventually(() => assert.rejects(node.getPod('web'), /not found/));
});
