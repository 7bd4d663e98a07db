// kubectl on what runs: rollouts, scaling, settings of workloads, nodes, and what it says where nothing can be done.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { eventually } from './support/eventually.ts';
import type { Kubectl } from './support/kubectl.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

let sim: SimulatedCluster;
let kubectl: Kubectl;

before(async () => {
  sim = await startSimulated();
  ({ kubectl } = sim);
  await kubectl('create', 'deployment', 'web', '--image=nginx:1', '--replicas=3');
  await rolledOut('web');
});
after(() => sim[Symbol.asyncDispose]());

const rolledOut = (name: string): Promise<string> =>
  kubectl('rollout', 'status', `deployment/${name}`, '--timeout=30s');
const path = (object: string, jsonpath: string): Promise<string> =>
  kubectl('get', object, '-o', `jsonpath=${jsonpath}`);
const lines = (text: string): string[] =>
  text
    .trimEnd()
    .split('\n')
    .filter((line) => line !== '');

describe('kubectl rollout', () => {
  const images = async () => [
    ...new Set(
      (await path('pods -l app=web'.split(' ')[0]!, '{.items[*].spec.containers[0].image}')).split(' '),
    ),
  ];

  it('waits for a new image, keeps the history and goes back', async () => {
    await kubectl('annotate', 'deployment', 'web', 'kubernetes.io/change-cause=first');
    assert.equal(
      await kubectl('set', 'image', 'deployment/web', 'nginx=nginx:2'),
      'deployment.apps/web image updated\n',
    );
    await kubectl('annotate', 'deployment', 'web', 'kubernetes.io/change-cause=second', '--overwrite');
    assert.match(await rolledOut('web'), /deployment "web" successfully rolled out\n$/);
    await eventually('only new pods', async () => assert.deepEqual(await images(), ['nginx:2']));
    const history = await kubectl('rollout', 'history', 'deployment/web');
    assert.deepEqual(
      lines(history)
        .slice(1)
        .map((line) => line.split(/\s+/)),
      [
        ['REVISION', 'CHANGE-CAUSE'],
        ['1', 'first'],
        ['2', 'second'],
      ],
    );
    assert.match(await kubectl('rollout', 'history', 'deployment/web', '--revision=1'), /Image:\s+nginx:1\n/);
    assert.equal(await kubectl('rollout', 'undo', 'deployment/web'), 'deployment.apps/web rolled back\n');
    await rolledOut('web');
    assert.equal(await path('deployment/web', '{.spec.template.spec.containers[0].image}'), 'nginx:1');
    assert.deepEqual(
      lines(await kubectl('rollout', 'history', 'deployment/web'))
        .slice(2)
        .map((line) => line.split(/\s+/)[0]),
      ['2', '3'],
    );
    assert.match(
      await kubectl.refused('rollout', 'undo', 'deployment/web', '--to-revision=77'),
      /unable to find specified revision 77 in history/,
    );
  });

  it('changes nothing while paused, and everything at once when resumed', async () => {
    await kubectl('rollout', 'pause', 'deployment/web');
    await kubectl('set', 'image', 'deployment/web', 'nginx=nginx:3');
    await kubectl('set', 'env', 'deployment/web', 'COLOUR=blue');
    await eventually('the controller has seen it', async () =>
      assert.equal(
        await path('deployment/web', '{.status.observedGeneration}'),
        await path('deployment/web', '{.metadata.generation}'),
      ),
    );
    const sets = lines(await kubectl('get', 'replicasets', '-l', 'app=web', '-o', 'name')).length;
    assert.match(
      await kubectl.refused('rollout', 'restart', 'deployment/web'),
      /can't restart paused deployment/,
    );
    await kubectl('rollout', 'resume', 'deployment/web');
    await rolledOut('web');
    assert.equal(lines(await kubectl('get', 'replicasets', '-l', 'app=web', '-o', 'name')).length, sets + 1);
    await eventually('the image', async () => assert.deepEqual(await images(), ['nginx:3']));
  });

  it('restart makes all pods anew', async () => {
    const before = await kubectl('get', 'pods', '-l', 'app=web', '-o', 'name');
    await kubectl('rollout', 'restart', 'deployment/web');
    await rolledOut('web');
    await eventually('new pods', async () => {
      const now = lines(await kubectl('get', 'pods', '-l', 'app=web', '-o', 'name'));
      assert.equal(now.length, 3);
      for (const pod of now) assert.ok(!before.includes(pod), pod);
    });
  });
});

describe('kubectl scale, autoscale, expose and set', () => {
  it('scales with and without a condition', async () => {
    assert.equal(await kubectl('scale', 'deployment/web', '--replicas=4'), 'deployment.apps/web scaled\n');
    await kubectl('wait', '--for=jsonpath={.status.readyReplicas}=4', 'deployment/web', '--timeout=20s');
    assert.match(
      await kubectl.refused('scale', 'deployment/web', '--current-replicas=9', '--replicas=1'),
      /Expected replicas to be 9, was 4/,
    );
    await kubectl('scale', 'deployment/web', '--current-replicas=4', '--replicas=2');
    await eventually('two pods', async () =>
      assert.equal(lines(await kubectl('get', 'pods', '-l', 'app=web', '-o', 'name')).length, 2),
    );
    assert.deepEqual(
      lines(await kubectl('get', 'deployment', 'web', '--subresource=scale')).map((line) =>
        line.split(/\s+/).slice(0, 3),
      ),
      [
        ['NAME', 'DESIRED', 'AVAILABLE'],
        ['web', '2', '2'],
      ],
    );
  });

  it('stores an autoscaler and says that it does nothing', async () => {
    const { stdout, stderr } = await kubectl.run([
      'autoscale',
      'deployment',
      'web',
      '--min=1',
      '--max=5',
      '--cpu=80%',
    ]);
    assert.equal(stdout, 'horizontalpodautoscaler.autoscaling/web autoscaled\n');
    assert.match(
      stderr,
      /^Warning: HorizontalPodAutoscaler is stored, but this version of Bulkhead does not scale by metrics yet/,
    );
    // Old clients ask for autoscaling/v1: the same object in another shape.
    assert.match(
      await sim.oldKubectl('get', 'hpa.v1.autoscaling', 'web', '-o', 'yaml'),
      /targetCPUUtilizationPercentage: 80/,
    );
    assert.match(await kubectl('get', 'hpa', 'web'), /Deployment\/web +cpu: <unknown>\/80% +1 +5 /);
  });

  it('exposes a deployment', async () => {
    await kubectl('expose', 'deployment', 'web', '--port=80', '--target-port=8080', '--type=NodePort');
    assert.match(await path('service/web', '{.spec.clusterIP}'), /^10\.96\./);
    assert.match(await path('service/web', '{.spec.ports[0].nodePort}'), /^3[0-2]\d{3}$/);
    assert.equal(await path('service/web', '{.spec.selector}'), '{"app":"web"}');
  });

  it('sets environment, resources, service account and selectors', async () => {
    await kubectl('create', 'serviceaccount', 'runner');
    await kubectl('set', 'env', 'deployment/web', 'A=b', 'COLOUR-');
    assert.match(await kubectl('set', 'env', 'deployment/web', '--list'), /^A=b$/m);
    await kubectl(
      'set',
      'resources',
      'deployment/web',
      '--limits=cpu=200m,memory=64Mi',
      '--requests=cpu=100m',
    );
    await kubectl('set', 'serviceaccount', 'deployment/web', 'runner');
    await rolledOut('web');
    const spec = JSON.parse(await path('deployment/web', '{.spec.template.spec}'));
    assert.deepEqual(
      [spec.containers[0].env, spec.containers[0].resources, spec.serviceAccountName],
      [
        [{ name: 'A', value: 'b' }],
        { limits: { cpu: '200m', memory: '64Mi' }, requests: { cpu: '100m' } },
        'runner',
      ],
    );
    await kubectl('set', 'selector', 'service/web', 'app=other');
    assert.equal(await path('service/web', '{.spec.selector}'), '{"app":"other"}');
  });
});

describe('kubectl wait', () => {
  it('ends when the condition holds, and fails when it does not in time', async () => {
    await kubectl('run', 'slow', '--image=busybox', '--annotations=simulation.bulkhead.dev/ready-delay=1h');
    await kubectl('wait', '--for=jsonpath={.status.phase}=Running', 'pod/slow', '--timeout=20s');
    assert.match(
      await kubectl.refused('wait', '--for=condition=Ready', 'pod/slow', '--timeout=1s'),
      /timed out waiting for the condition on pods\/slow/,
    );
    assert.match(
      await kubectl('wait', '--for=condition=Ready=false', 'pod/slow', '--timeout=20s'),
      /condition met/,
    );
    await kubectl('delete', 'pod', 'slow', '--now');
  });
});

describe('kubectl on nodes', () => {
  const schedulable = (name: string) => path(`node/${name}`, '{.spec.unschedulable}');

  it('cordons, drains and uncordons', async () => {
    assert.equal(await kubectl('cordon', 'node-0'), 'node/node-0 cordoned\n');
    assert.match(await kubectl('get', 'node', 'node-0'), /Ready,SchedulingDisabled/);
    assert.match(await kubectl('cordon', 'node-0'), /already cordoned/);
    await kubectl('uncordon', 'node-0');
    assert.equal(await schedulable('node-0'), '');
    // Old clients evict with policy/v1beta1, new ones with policy/v1.
    for (const [program, done] of [
      [kubectl, /node\/node-0 drained\n$/],
      [sim.oldKubectl, /node\/node-0 (evicted|drained)\n$/],
    ] as const) {
      await kubectl('run', 'bare', '--image=busybox', '--overrides={"spec":{"nodeName":"node-0"}}');
      await kubectl('wait', '--for=condition=Ready', 'pod/bare', '--timeout=20s');
      assert.match(
        await program.refused('drain', 'node-0'),
        /(declare no controller|not managed by ReplicationController, .*) \(use --force to override\): default\/bare/,
      );
      const drained = await program('drain', 'node-0', '--force', '--timeout=60s');
      assert.match(drained, /pod\/bare evicted/);
      assert.match(drained, done);
      assert.equal(
        await kubectl('get', 'pods', '-A', '--field-selector=spec.nodeName=node-0', '-o', 'name'),
        '',
      );
      await kubectl('uncordon', 'node-0');
    }
    await rolledOut('web');
  });

  it('taints and labels', async () => {
    assert.equal(await kubectl('taint', 'node', 'node-1', 'only=few:NoSchedule'), 'node/node-1 tainted\n');
    assert.match(await kubectl('describe', 'node', 'node-1'), /^Taints: +only=few:NoSchedule$/m);
    await kubectl(
      'run',
      'picky',
      '--image=busybox',
      '--overrides={"spec":{"nodeSelector":{"kubernetes.io/hostname":"node-1"}}}',
    );
    await eventually('an event', async () =>
      assert.match(
        await kubectl('events', '--for', 'pod/picky'),
        /FailedScheduling .*0\/2 nodes are available: 1 node\(s\) didn't match Pod's node affinity\/selector, 1 node\(s\) had untolerated taint\(s\)\./,
      ),
    );
    assert.equal(await kubectl('taint', 'node', 'node-1', 'only-'), 'node/node-1 untainted\n');
    await kubectl('wait', '--for=condition=Ready', 'pod/picky', '--timeout=20s');
    await kubectl('label', 'node', 'node-1', 'node-role.kubernetes.io/worker=');
    assert.match(await kubectl('get', 'node', 'node-1'), / worker /);
    await kubectl('delete', 'pod', 'picky', '--now');
  });
});

/** For CN=jane, O=dev; the key is gone. */
const signingRequest = [
  'LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIV01IOENBUUF3SFRFTk1Bc0dBMVVFQXd3RWFtRnVaVEVNTUFv',
  'R0ExVUVDZ3dEWkdWMk1Ga3dFd1lIS29aSQp6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUVqM09BUUdYN3hodmFOYmxHL1hxeVlyZGpl',
  'ZEFjci9qeENUSitMWm04CkFKekwzbHJEdmZRL3Ezb2FSRTZiZDlIU1NXdXQ3L1JPVzRYZzlIQ1c2S0I2bTZBQU1Bb0dDQ3FHU000',
  'OUJBTUMKQTBjQU1FUUNJQ09sS3NKenlQQ0FZRzdwQmN4aU1vSEUrQlJFTWg3QjlPZ1N2WE40RDlnVUFpQTdvUGVJVjRSMgp1RHdZ',
  'Y1cyMStqU014ZmhIQkwzNTZhVjJHaFpzLzhUZU9RPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==',
].join('');
const certificateRequest = `apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: jane}
spec:
  signerName: kubernetes.io/kube-apiserver-client
  usages: [client auth]
  request: ${signingRequest}
`;

describe('kubectl certificate, token, auth and debug', () => {
  it('approves and denies requests for certificates, which nobody signs', async () => {
    const file = await sim.file('request.yaml', certificateRequest);
    const { stderr } = await kubectl.run(['apply', '-f', file]);
    assert.match(
      stderr,
      /^Warning: CertificateSigningRequest is stored, but this version of Bulkhead does not sign certificates yet/,
    );
    const row = async () => lines(await kubectl('get', 'csr', 'jane', '--no-headers'))[0]?.split(/\s+/);
    assert.deepEqual((await row())?.slice(2), [
      'kubernetes.io/kube-apiserver-client',
      'kubernetes-admin',
      '<none>',
      'Pending',
    ]);
    assert.match(await kubectl('describe', 'csr', 'jane'), /Common Name: +jane\n/);
    assert.equal(
      await kubectl('certificate', 'approve', 'jane'),
      'certificatesigningrequest.certificates.k8s.io/jane approved\n',
    );
    assert.equal((await row())?.at(-1), 'Approved');
    assert.match(
      await kubectl.refused('certificate', 'deny', 'jane'),
      /already Approved|may not be|is invalid/,
    );
  });

  it('gives tokens of service accounts', async () => {
    const token = (await kubectl('create', 'token', 'default', '--duration=1h')).trim();
    assert.match(
      await (await sim.kubectlAs({ token }))('auth', 'whoami'),
      /Username +system:serviceaccount:default:default/,
    );
  });

  it('answers who may do what', async () => {
    assert.equal(await kubectl('auth', 'can-i', 'delete', 'nodes'), 'yes\n');
    const { code, stdout } = await kubectl.run(['auth', 'can-i', 'delete', 'nodes', '--as=jane']);
    assert.deepEqual([code, stdout], [1, 'no\n']);
    assert.match(
      await kubectl('auth', 'can-i', '--list', '--as=jane'),
      /selfsubjectaccessreviews\.authorization\.k8s\.io/,
    );
    assert.match(await kubectl('auth', 'whoami'), /Username +kubernetes-admin/);
  });

  it('adds ephemeral containers, copies pods and looks into nodes', async () => {
    const pod = lines(await kubectl('get', 'pods', '-l', 'app=web', '-o', 'name'))[0]!;
    await kubectl(
      'debug',
      pod,
      '--image=busybox',
      '--container=probe',
      '--target=nginx',
      '--profile=general',
    );
    await eventually('the ephemeral container runs', async () =>
      assert.match(await path(pod, '{.status.ephemeralContainerStatuses[0].state}'), /"running"/),
    );
    await kubectl(
      'debug',
      pod,
      '--image=busybox',
      '--copy-to=copied',
      '--container=probe',
      '--profile=general',
    );
    await kubectl('wait', '--for=condition=Ready', 'pod/copied', '--timeout=20s');
    await kubectl('debug', 'node/node-0', '--image=busybox', '--profile=general');
    await kubectl('delete', 'pods', '--all', '--now');
  });

  it('says why a simulated container can be neither read nor entered', async () => {
    sim.expectErrors(/announces no kubelet port in its status/);
    await rolledOut('web');
    const pod = lines(await kubectl('get', 'pods', '-l', 'app=web', '-o', 'name'))[0]!;
    assert.match(
      await kubectl.refused('logs', pod),
      /node "node-[01]" announces no kubelet port in its status/,
    );
    assert.match(
      await kubectl.refused('exec', pod, '--', 'ls'),
      /node "node-[01]" announces no kubelet port in its status/,
    );
  });
});

describe('what the server offers', () => {
  it('is listed by api-resources, api-versions, cluster-info and explain', async () => {
    for (const program of [kubectl, sim.oldKubectl]) {
      const table = lines(await program('api-resources', '--sort-by=name'));
      assert.ok(table.some((line) => /^deployments +deploy +apps\/v1 +true +Deployment$/.test(line)));
      assert.ok(table.length > 60);
      assert.ok(lines(await program('api-versions')).includes('rbac.authorization.k8s.io/v1'));
      assert.match(
        await program('cluster-info'),
        /Kubernetes control plane.*is running at.*https:\/\/127\.0\.0\.1:\d+/,
      );
      const explained = await program('explain', 'deployment.spec.strategy.rollingUpdate');
      assert.match(explained, /maxSurge\s+<(IntOrString|string)>/);
      assert.match(
        await program('explain', 'pod', '--recursive'),
        /\n +terminationGracePeriodSeconds\t<integer>\n/,
      );
    }
    assert.match(await kubectl.refused('explain', 'pod.spec.nothing'), /field "nothing" does not exist/);
    assert.match(await kubectl('version'), /Server Version: v1\.36\./);
  });

  it('covers the whole of cluster-info dump', async () => {
    sim.expectErrors(/announces no kubelet port in its status/);
    const { stdout } = await kubectl.run(['cluster-info', 'dump', '--namespaces=default']);
    for (const kind of ['NodeList', 'EventList', 'ServiceList', 'DeploymentList', 'PodList'])
      assert.match(stdout, new RegExp(`"kind": "${kind}"`));
  });
});
