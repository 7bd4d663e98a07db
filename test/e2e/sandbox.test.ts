// Pods of the RuntimeClass that a new cluster has, seen with kubectl: they run on a kernel of their own, and are pods
// like others in all else.

import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { withBusyboxRoot } from '../../src/cli/demonstration/busybox-image.ts';
import { eventually } from './support/eventually.ts';
import { type Kubectl, kubectl } from './support/kubectl.ts';
import { type MachineCluster, machineCluster } from './support/machine.ts';

const IMAGE = 'localhost/test/busybox:1';
const skip =
  process.getuid?.() !== 0
    ? 'real containers need root'
    : process.arch === 'x64'
      ? false
      : 'the sandbox runs on x86-64';

describe('pods in the sandbox', { skip }, () => {
  let cluster: MachineCluster;
  let k: Kubectl;
  const container = (name: string, script: string, more: object = {}): object => ({
    ...{ name, image: IMAGE, imagePullPolicy: 'IfNotPresent', command: ['/bin/sh', '-c', script] },
    ...more,
  });
  const runPod = async (name: string, spec: object): Promise<void> => {
    const { code, stderr } = await k.run(
      ['apply', '-f', '-'],
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name },
        spec: { runtimeClassName: 'sandbox', terminationGracePeriodSeconds: 1, ...spec },
      }),
    );
    assert.equal(code, 0, stderr);
  };
  const phase = (name: string): Promise<string> => k('get', 'pod', name, '-o', 'jsonpath={.status.phase}');

  /** The Sentries of this cluster that live, by their records. */
  const sentries = (): number[] =>
    globSync('**/@sandboxes/*/sandbox.json', { cwd: cluster.state })
      .map((path) => JSON.parse(readFileSync(join(cluster.state, path), 'utf8')).sentry.pid as number)
      .filter((pid) => existsSync(`/proc/${pid}/exe`));

  before(async () => {
    cluster = await machineCluster(9);
    await cluster.up();
    k = kubectl(cluster.kubeconfig);
    await withBusyboxRoot(async ({ path }) => {
      await cluster.command('image', 'import', path, '--rootfs', '--name', IMAGE, '--cmd', '["/bin/sh"]');
    }, IMAGE);
  });
  after(() => cluster[Symbol.asyncDispose]());

  it('finds the class in a new cluster, and its handler on the node', async () => {
    assert.match(await k('get', 'runtimeclass', 'sandbox'), /^sandbox +sandbox /m);
    const node = JSON.parse(await k('get', 'node', 'machine', '-o', 'json'));
    assert.ok(node.status.runtimeHandlers.some(({ name }: { name: string }) => name === 'sandbox'));
  });

  it('runs a pod to its end, with its exit code and its log', async () => {
    await runPod('once', {
      restartPolicy: 'Never',
      containers: [container('main', 'echo "I am $(hostname)"; uname -s; exit 3')],
    });
    await eventually('it has ended', async () => assert.equal(await phase('once'), 'Failed'));
    assert.equal(await k('logs', 'once'), 'I am once\nLinux\n');
    const code = '-o=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}';
    assert.equal(await k('get', 'pod', 'once', code), '3');
  });

  it('runs two containers in one sandbox, with volumes, probes and limits, and executes commands in them', async () => {
    await runPod('two', {
      volumes: [{ name: 'shared', emptyDir: {} }],
      containers: [
        container('writer', 'echo hello > /shared/file; sleep 1000', {
          volumeMounts: [{ name: 'shared', mountPath: '/shared' }],
          readinessProbe: { exec: { command: ['cat', '/shared/file'] }, periodSeconds: 1 },
          resources: { limits: { memory: '64Mi', cpu: '1' } },
        }),
        container('reader', 'while ! cat /shared/file; do sleep 0.1; done; sleep 1000', {
          volumeMounts: [{ name: 'shared', mountPath: '/shared', readOnly: true }],
        }),
      ],
    });
    await k('wait', '--for=condition=Ready', 'pod/two', '--timeout=30s');
    await eventually('the other container reads it', async () =>
      assert.equal(await k('logs', 'two', '-c', 'reader'), 'hello\n'),
    );
    assert.equal(await k('exec', 'two', '-c', 'reader', '--', 'cat', '/shared/file'), 'hello\n');
    const { code } = await k.run(['exec', 'two', '-c', 'writer', '--', 'sh', '-c', 'exit 7']);
    assert.equal(code, 7);
    const { stderr } = await k.run(['exec', 'two', '-c', 'reader', '--', 'touch', '/shared/x']);
    assert.match(stderr, /Read-only file system/);
    assert.equal(sentries().length, 1, 'the two share a Sentry');
  });

  it('deletes them, and leaves no Sentry behind', async () => {
    await k('delete', 'pod', 'once', 'two', '--now');
    await eventually('nothing runs', () => assert.deepEqual(sentries(), []));
  });
});
