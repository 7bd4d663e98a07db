import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../../../component/index.ts';
import { type AdmissionRequest, admitted, statusError } from '../../testing/admission-attributes.ts';
import { FakeObjects } from '../../testing/fake-objects.ts';
import { podSecurityPlugin } from './plugin.ts';
import { evaluate, labelErrors, policiesOf, violationsText } from './policy.ts';

const level = (name: string, version = 'latest') =>
  policiesOf({
    'pod-security.kubernetes.io/enforce': name,
    'pod-security.kubernetes.io/enforce-version': version,
  }).enforce;

const container = (securityContext: object = {}, more: object = {}) => ({
  name: 'a',
  image: 'x',
  securityContext,
  ...more,
});
const hardened = {
  allowPrivilegeEscalation: false,
  runAsNonRoot: true,
  capabilities: { drop: ['ALL'] },
  seccompProfile: { type: 'RuntimeDefault' },
};

const say = (policy: ReturnType<typeof level>, spec: object, annotations = {}): string =>
  violationsText(evaluate(policy, { annotations, spec: { containers: [container()], ...spec } as never }));

test('baseline: each check and its words', () => {
  const baseline = level('baseline');
  const cases: [object, string][] = [
    [{}, ''],
    [{ hostNetwork: true, hostPID: true }, 'host namespaces (hostNetwork=true, hostPID=true)'],
    [
      { containers: [container({ privileged: true })] },
      'privileged (container "a" must not set securityContext.privileged=true)',
    ],
    [
      { containers: [container({ capabilities: { add: ['NET_ADMIN', 'CHOWN'] } })] },
      'non-default capabilities (container "a" must not include "NET_ADMIN" in securityContext.capabilities.add)',
    ],
    [
      {
        volumes: [
          { name: 'v', hostPath: { path: '/' } },
          { name: 'w', hostPath: { path: '/' } },
        ],
      },
      'hostPath volumes (volumes "v", "w")',
    ],
    [
      { containers: [container({}, { ports: [{ hostPort: 80, containerPort: 1 }] })] },
      'hostPort (container "a" uses hostPort 80)',
    ],
    [
      { containers: [container({ procMount: 'Unmasked' })] },
      'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
    ],
    [{ hostUsers: false, containers: [container({ procMount: 'Unmasked' })] }, ''],
    [
      { securityContext: { seccompProfile: { type: 'Unconfined' } } },
      'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
    ],
    [
      {
        securityContext: {
          sysctls: [
            { name: 'kernel.msgmax', value: '1' },
            { name: 'net.ipv4.tcp_rmem', value: '1' },
          ],
        },
      },
      'forbidden sysctls (kernel.msgmax)',
    ],
    [
      { securityContext: { seLinuxOptions: { type: 'spc_t', user: 'u' } } },
      'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)',
    ],
    [
      {
        securityContext: { windowsOptions: { hostProcess: true } },
        containers: [container({ windowsOptions: { hostProcess: true } })],
      },
      'hostProcess (pod and container "a" must not set securityContext.windowsOptions.hostProcess=true)',
    ],
    [
      { securityContext: { appArmorProfile: { type: 'Unconfined' } } },
      'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
    ],
    [
      { containers: [container({}, { livenessProbe: { httpGet: { host: '10.0.0.1', port: 1 } } })] },
      'probe or lifecycle host (container "a" uses probe or lifecycle host "10.0.0.1")',
    ],
    [
      { ephemeralContainers: [{ name: 'd', securityContext: { privileged: true } }] },
      'privileged (container "d" must not set securityContext.privileged=true)',
    ],
  ];
  for (const [spec, expected] of cases) assert.equal(say(baseline, spec), expected);
  assert.equal(
    say(baseline, {}, { 'container.apparmor.security.beta.kubernetes.io/a': 'unconfined' }),
    'forbidden AppArmor profile (annotation container.apparmor.security.beta.kubernetes.io/a="unconfined")',
  );
  assert.match(
    say(level('baseline', 'v1.28'), {
      securityContext: { sysctls: [{ name: 'net.ipv4.tcp_rmem', value: '1' }] },
    }),
    /tcp_rmem/,
  );
});

test('restricted: the words that everybody knows, and a pod that passes', () => {
  const restricted = level('restricted');
  assert.equal(
    say(restricted, {}),
    'allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), ' +
      'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), ' +
      'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), ' +
      'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")',
  );
  assert.equal(say(restricted, { containers: [container(hardened)] }), '');
  assert.equal(
    say(restricted, {
      containers: [
        container({ ...hardened, capabilities: { drop: ['ALL'], add: ['NET_BIND_SERVICE', 'CHOWN'] } }),
      ],
    }),
    'unrestricted capabilities (container "a" must not include "CHOWN" in securityContext.capabilities.add)',
  );
  assert.equal(
    say(restricted, {
      containers: [container({ ...hardened, runAsUser: 0 })],
      volumes: [
        { name: 'n', nfs: { server: 's' } },
        { name: 'e', emptyDir: {} },
      ],
    }),
    'restricted volume types (volume "n" uses restricted volume type "nfs"), runAsUser=0 (container "a" must not set runAsUser=0)',
  );
  assert.equal(
    say(restricted, { hostNetwork: true, os: { name: 'windows' }, securityContext: { runAsNonRoot: true } }),
    'host namespaces (hostNetwork=true)',
  );
  assert.match(
    say(restricted, { containers: [container({ ...hardened, runAsNonRoot: false })] }),
    /^runAsNonRoot != true \(container "a" must not set/,
  );
});

const LABEL = 'pod-security.kubernetes.io/';

function cluster(labels: Record<string, string>) {
  const objects = new FakeObjects();
  objects.put('', 'namespaces', { metadata: { name: 'shop', labels } });
  const plugin = podSecurityPlugin(objects, silentLogger);
  const run = (request: AdmissionRequest) => admitted(plugin, request);
  const pod = (spec: object = {}, metadata: object = {}) => ({
    metadata: { name: 'web', namespace: 'shop', ...metadata },
    spec: { containers: [container()], ...spec },
  });
  return { objects, run, pod };
}

test('enforce refuses, warn warns, a namespace without labels lets everything pass', async () => {
  const free = cluster({});
  await free.run({ resource: 'pods', object: free.pod({ hostNetwork: true }) });
  const { run, pod } = cluster({
    [`${LABEL}enforce`]: 'baseline',
    [`${LABEL}warn`]: 'restricted',
    [`${LABEL}warn-version`]: 'v1.30',
  });
  await assert.rejects(
    run({ resource: 'pods', object: pod({ hostNetwork: true }) }),
    statusError(
      403,
      'pods "web" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)',
    ),
  );
  const { warnings } = await run({ resource: 'pods', object: pod() });
  assert.equal(warnings.length, 1);
  assert.match(
    warnings[0] ?? '',
    /^would violate PodSecurity "restricted:v1.30": allowPrivilegeEscalation != false/,
  );
});

test('what makes pods is warned of, not refused; cron jobs too', async () => {
  const { run, pod } = cluster({ [`${LABEL}enforce`]: 'restricted', [`${LABEL}warn`]: 'baseline' });
  const template = { spec: pod({ hostPID: true }).spec };
  const deployment = await run({
    group: 'apps',
    resource: 'deployments',
    object: { metadata: { name: 'd' }, spec: { template } },
  });
  assert.deepEqual(deployment.warnings, [
    'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)',
  ]);
  const cron = await run({
    group: 'batch',
    resource: 'cronjobs',
    object: { metadata: { name: 'c' }, spec: { jobTemplate: { spec: { template } } } },
  });
  assert.equal(cron.warnings.length, 1);
});

test('updates that cannot change the verdict pass; ephemeral containers are judged', async () => {
  const { run, pod } = cluster({ [`${LABEL}enforce`]: 'baseline' });
  const bad = pod({ hostNetwork: true });
  await run({
    resource: 'pods',
    object: pod({ hostNetwork: true, activeDeadlineSeconds: 5 }, { labels: { a: 'b' } }),
    old: bad,
  });
  await run({ resource: 'pods', subresource: 'status', object: bad, old: bad });
  await assert.rejects(
    run({
      resource: 'pods',
      subresource: 'ephemeralcontainers',
      old: pod(),
      object: pod({ ephemeralContainers: [{ name: 'd', securityContext: { privileged: true } }] }),
    }),
    statusError(403, /violates PodSecurity "baseline:latest": privileged/),
  );
});

test('wrong labels are refused when they come, tolerated when they stand, and count as the strictest', async () => {
  const { run } = cluster({});
  const namespace = (labels: object) => ({ metadata: { name: 'shop', labels } });
  const request = { resource: 'namespaces', namespaced: false };
  await assert.rejects(
    run({
      ...request,
      object: namespace({ [`${LABEL}enforce`]: 'strict', [`${LABEL}warn-version`]: '1.2' }),
    }),
    statusError(
      422,
      /metadata.labels\[pod-security.kubernetes.io\/enforce\]: Invalid value: "strict": must be one of privileged, baseline, restricted/,
    ),
  );
  const wrong = namespace({ [`${LABEL}enforce`]: 'strict' });
  await run({ ...request, object: wrong, old: wrong });
  assert.equal(level('strict').level, 'restricted');
  assert.equal(labelErrors({ [`${LABEL}enforce-version`]: 'v1.36' }).length, 0);
});

test('a namespace that becomes stricter tells which pods would not pass', async () => {
  const { objects, run, pod } = cluster({});
  for (const name of ['b', 'a', 'c']) objects.put('', 'pods', pod({ hostPID: true }, { name }));
  objects.put('', 'pods', pod({}, { name: 'good' }));
  const { warnings } = await run({
    resource: 'namespaces',
    namespaced: false,
    object: { metadata: { name: 'shop', labels: { [`${LABEL}enforce`]: 'baseline' } } },
    old: { metadata: { name: 'shop' } },
  });
  assert.deepEqual(warnings, [
    'existing pods in namespace "shop" violate the new PodSecurity enforce level "baseline:latest"',
    'a (and 2 other pods): host namespaces',
  ]);
});
