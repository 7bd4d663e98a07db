import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container, Pod, PodSpec, Secret, Service } from '../api/types/core-v1.ts';
import type { Lister } from '../client/index.ts';
import { computeActions } from './actions.ts';
import { parseResolvConf, podDnsConfig, podNames, resolvConfProblem, sandboxHostname } from './dns.ts';
import { ConfigError, makeEnvironment, parseEnvFile, serviceEnvironment } from './environment.ts';
import { expand } from './expansion.ts';
import { managedHosts } from './hosts-file.ts';
import { Keyring } from './images/keyring.ts';
import { defaultPullPolicy, parseReference } from './images/reference.ts';
import { containerResources, oomScoreAdj, podCgroup, podCgroupResources } from './resources.ts';
import { EMPTY_STATE } from './runtime-state.ts';
import { containerSecurity, verifyNonRoot } from './security.ts';
import { statusPatch } from './status-manager.ts';
import { formatDuration } from './text.ts';

function podOf(spec: Partial<PodSpec> = {}, labels: Record<string, string> = {}): Pod {
  return {
    metadata: {
      name: 'web',
      namespace: 'shop',
      uid: 'u-1',
      resourceVersion: '1',
      creationTimestamp: '',
      labels,
    },
    spec: { containers: [{ name: 'c' }], ...spec },
    status: {},
  };
}

test('references in text expand, dollars escape, and what is unknown stays', () => {
  const values = new Map([
    ['A', '1'],
    ['B', '$(A)'],
    ['E', ''],
  ]);
  const cases: readonly (readonly [string, string])[] = [
    ['$(A)', '1'],
    ['x$(A)y$(A)', 'x1y1'],
    ['$$(A)', '$(A)'],
    ['$$$(A)', '$1'],
    ['$(NO)', '$(NO)'],
    ['$(B)', '$(A)'],
    ['$(E)|', '|'],
    ['$(A', '$(A'],
    ['$', '$'],
    ['a$', 'a$'],
    ['$x', '$x'],
    ['$()', '$()'],
    ['', ''],
  ];
  for (const [input, output] of cases)
    assert.equal(
      expand(input, (name) => values.get(name)),
      output,
      input,
    );
});

test('expansion copies everything that holds no reference (property)', () => {
  let seed = 7;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return seed % n;
  };
  for (let round = 0; round < 2000; round++) {
    const text = Array.from({ length: random(30) }, () => 'ab()$ '[random(6)]).join('');
    // Doubling every dollar makes any text expand to itself.
    assert.equal(
      expand(text.replaceAll('$', '$$$$'), () => 'X'),
      text,
    );
  }
});

const noServices = { find: () => undefined, values: () => [] } as Partial<Lister<Service>> as Lister<Service>;
const noReferences = { configMap: async () => undefined, secret: async () => undefined };

async function environment(
  container: Partial<Container>,
  extra: Partial<Parameters<typeof makeEnvironment>[3]> = {},
) {
  const sources = {
    references: noReferences,
    services: noServices,
    allocatable: { cpu: '4', memory: '8Gi' },
    readFile: async () => undefined,
    ...extra,
  };
  const addresses = { podIPs: ['10.0.0.1'], hostIPs: ['192.0.2.1'] };
  const pod = podOf({ nodeName: 'n1', serviceAccountName: 'sa' }, { app: 'x' });
  pod.spec.containers = [{ name: 'c', ...container }];
  return Object.fromEntries(
    await makeEnvironment(pod, pod.spec.containers[0]!, addresses, sources, new AbortController().signal),
  );
}

test('variables come from literals, fields and resources, later ones seeing earlier ones', async () => {
  assert.deepEqual(
    await environment({
      resources: { limits: { cpu: '1500m' }, requests: { memory: '100Mi' } },
      env: [
        { name: 'A', value: '1' },
        { name: 'B', value: '$(A)$(C)' },
        { name: 'C', value: '2' },
        { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
        { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
        { name: 'APP', valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } },
        { name: 'CPU', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
        { name: 'MILLI', valueFrom: { resourceFieldRef: { resource: 'limits.cpu', divisor: '1m' } } },
        { name: 'MEM', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Gi' } } },
        { name: 'REQ', valueFrom: { resourceFieldRef: { resource: 'requests.memory', divisor: '1Mi' } } },
      ],
    }),
    {
      A: '1',
      B: '1$(C)',
      C: '2',
      IP: '10.0.0.1',
      NODE: 'n1',
      APP: 'x',
      CPU: '2',
      MILLI: '1500',
      MEM: '8',
      REQ: '100',
    },
  );
});

test('maps come whole with envFrom, and env wins over them', async () => {
  const references = {
    configMap: async () => ({ metadata: podOf().metadata, data: { A: 'map', B: 'map' } }),
    secret: async (): Promise<Secret> => ({
      metadata: podOf().metadata,
      data: { S: Buffer.from('hush').toString('base64') },
    }),
  };
  assert.deepEqual(
    await environment(
      {
        envFrom: [{ configMapRef: { name: 'm' } }, { prefix: 'P_', secretRef: { name: 's' } }],
        env: [
          { name: 'B', value: 'own' },
          { name: 'K', valueFrom: { secretKeyRef: { name: 's', key: 'S' } } },
        ],
      },
      { references },
    ),
    { A: 'map', B: 'own', P_S: 'hush', K: 'hush' },
  );
});

test('what is missing is named in upstream words, and optional things are left out', async () => {
  const rejects = (container: Partial<Container>, message: string): Promise<void> =>
    assert.rejects(
      environment(container),
      (error: unknown) => error instanceof ConfigError && error.message === message,
    );
  await rejects({ envFrom: [{ configMapRef: { name: 'm' } }] }, 'configmap "m" not found');
  await rejects(
    { env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } }] },
    'secret "s" not found',
  );
  assert.deepEqual(
    await environment({
      envFrom: [{ secretRef: { name: 's', optional: true } }],
      env: [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'm', key: 'k', optional: true } } }],
    }),
    {},
  );
});

test('services of the namespace and the API server are found by their variables', () => {
  const service = (namespace: string, name: string, clusterIP: string): Service => ({
    metadata: { ...podOf().metadata, namespace, name },
    spec: {
      clusterIP,
      ports: [
        { name: 'http-main', port: 80 },
        { name: 'dns', port: 53, protocol: 'UDP' },
      ],
    },
    status: {},
  });
  const all = [
    service('shop', 'redis-main', '10.96.0.9'),
    service('shop', 'headless', 'None'),
    service('other', 'x', '10.96.0.8'),
  ];
  const master = service('default', 'kubernetes', '10.96.0.1');
  const lister = {
    find: (namespace: string, name: string) =>
      [...all, master].find((s) => s.metadata.namespace === namespace && s.metadata.name === name),
    values: (namespace: string) => all.filter((s) => s.metadata.namespace === namespace),
  } as Partial<Lister<Service>> as Lister<Service>;
  const variables = serviceEnvironment(podOf(), lister);
  assert.equal(variables.get('KUBERNETES_SERVICE_HOST'), '10.96.0.1');
  assert.equal(variables.get('REDIS_MAIN_SERVICE_PORT_HTTP_MAIN'), '80');
  assert.equal(variables.get('REDIS_MAIN_PORT'), 'tcp://10.96.0.9:80');
  assert.equal(variables.get('REDIS_MAIN_PORT_53_UDP_ADDR'), '10.96.0.9');
  assert.ok(![...variables.keys()].some((name) => name.startsWith('HEADLESS') || name.startsWith('X_')));
  const unlinked = serviceEnvironment(podOf({ enableServiceLinks: false }), lister);
  assert.deepEqual([...new Set([...unlinked.keys()].map((name) => name.split('_')[0]))], ['KUBERNETES']);
});

test('environment files are read in their format and refused otherwise', () => {
  assert.deepEqual(
    [...parseEnvFile("# note\n\nA='1'\nB='two words' # why\nC='a\nb'\n")],
    [
      ['A', '1'],
      ['B', 'two words'],
      ['C', 'a\nb'],
    ],
  );
  assert.throws(() => parseEnvFile('A=1'), ConfigError);
});

test('resolv.conf follows the policy, with limits that are announced', () => {
  const settings = {
    clusterDNS: ['10.96.0.10'],
    clusterDomain: 'cluster.local',
    hostResolvConf: 'nameserver 9.9.9.9\nsearch corp.example\noptions edns0\n',
  };
  const warnings: string[] = [];
  const dns = (spec: Partial<PodSpec>) =>
    podDnsConfig(podOf(spec), settings, (reason) => warnings.push(reason));
  assert.deepEqual(dns({}), {
    servers: ['10.96.0.10'],
    searches: ['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'corp.example'],
    options: ['ndots:5'],
  });
  assert.deepEqual(dns({ dnsPolicy: 'Default' }).servers, ['9.9.9.9']);
  assert.deepEqual(dns({ hostNetwork: true }).servers, ['9.9.9.9']);
  assert.deepEqual(dns({ hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' }).servers, ['10.96.0.10']);
  assert.deepEqual(
    dns({
      dnsPolicy: 'None',
      dnsConfig: {
        nameservers: ['1.1.1.1'],
        searches: ['a'],
        options: [{ name: 'ndots', value: '2' }, { name: 'rotate' }],
      },
    }),
    { servers: ['1.1.1.1'], searches: ['a'], options: ['ndots:2', 'rotate'] },
  );
  assert.equal(warnings.length, 0);
  assert.equal(dns({ dnsConfig: { nameservers: ['1.1.1.1', '2.2.2.2', '3.3.3.3'] } }).servers.length, 3);
  assert.equal(
    dns({ dnsConfig: { searches: Array.from({ length: 40 }, (_, i) => `s${i}`) } }).searches.length,
    32,
  );
  assert.equal(warnings.join(), 'DNSConfigForming,DNSConfigForming');
  podDnsConfig(podOf(), { ...settings, clusterDNS: [] }, (reason) => warnings.push(reason));
  assert.equal(warnings.at(-1), 'MissingClusterDNS');
  const none = { ...settings, hostResolvConf: '', nodeIPs: ['10.0.0.1', 'fd00::1', '10.0.0.2'] };
  assert.deepEqual(
    podDnsConfig(podOf({ dnsPolicy: 'Default' }), none, () => {}),
    {
      servers: ['127.0.0.1', '::1'],
      searches: ['.'],
      options: [],
    },
  );
  const long = 'x'.repeat(254);
  assert.deepEqual(dns({ dnsConfig: { searches: [long, 'after'] } }).searches.slice(-2), [
    'corp.example',
    'after',
  ]);
  assert.equal(warnings.at(-1), 'DNSConfigForming');
  const problem = (text: string) => resolvConfProblem(text, '/r', 'cluster.local');
  assert.equal(problem(`search ${Array.from({ length: 29 }, (_, i) => `s${i}`).join(' ')}`), undefined);
  assert.match(
    problem(`search ${Array.from({ length: 30 }, (_, i) => `s${i}`).join(' ')}`)!,
    /search line consisting of more than 29 domains!$/,
  );
  assert.match(problem(`search ${long}`)!, /a search path which length is more than allowed 253 chars!$/);
  assert.deepEqual(parseResolvConf('options ndots:1 rotate\nsearch . a\noptions ndots:5'), {
    servers: [],
    searches: ['a'],
    options: ['ndots:5', 'rotate'],
  });
  assert.deepEqual(parseResolvConf('; x\nsearch a. b\nsearch c\nnameserver ::1'), {
    servers: ['::1'],
    searches: ['c'],
    options: [],
  });
});

test('a pod is called by its hostname, subdomain or whole name, and the hosts file agrees', () => {
  assert.deepEqual(podNames(podOf({ hostname: 'h', subdomain: 'sub' }), 'c.l'), {
    hostname: 'h',
    domain: 'sub.shop.svc.c.l',
  });
  assert.equal(
    sandboxHostname(podOf({ subdomain: 'sub', setHostnameAsFQDN: true }), 'c.l'),
    'web.sub.shop.svc.c.l',
  );
  assert.throws(
    () => sandboxHostname(podOf({ subdomain: 's'.repeat(60), setHostnameAsFQDN: true }), 'c.l'),
    /too long/,
  );
  assert.equal(sandboxHostname(podOf({ hostNetwork: true }), 'c.l'), '');
  const hosts = managedHosts({
    podIPs: ['10.0.0.1'],
    hostname: 'h',
    domain: 'sub.d',
    hostAliases: [{ ip: '1.2.3.4', hostnames: ['a', 'b'] }],
  });
  assert.match(hosts, /\n10\.0\.0\.1\th\.sub\.d\th\n/);
  assert.match(hosts, /# Entries added by HostAliases\.\n1\.2\.3\.4\ta\tb\n$/);
});

test('image references are read as registries read them', () => {
  const read = (text: string): string => {
    const r = parseReference(text);
    return r ? `${r.domain}|${r.path}|${r.tag ?? ''}|${r.digest?.slice(0, 9) ?? ''}` : 'invalid';
  };
  const digest = `sha256:${'a'.repeat(64)}`;
  assert.equal(read('nginx'), 'docker.io|library/nginx||');
  assert.equal(read('a/b:1'), 'docker.io|a/b|1|');
  assert.equal(read('localhost/b'), 'localhost|b||');
  assert.equal(read('reg.example:5000/a/b:1'), 'reg.example:5000|a/b|1|');
  assert.equal(read(`nginx:1@${digest}`), 'docker.io|library/nginx|1|sha256:aa');
  for (const bad of [
    '',
    'UPPER',
    'a:',
    'a//b',
    'a@sha256:12',
    'a b',
    '-a',
    'a:b:c/d:',
    `${'x/'.repeat(130)}y`,
  ])
    assert.equal(read(bad), 'invalid', bad);
  assert.equal(defaultPullPolicy('nginx'), 'Always');
  assert.equal(defaultPullPolicy('nginx:latest'), 'Always');
  assert.equal(defaultPullPolicy('nginx:1'), 'IfNotPresent');
  assert.equal(defaultPullPolicy(`nginx@${digest}`), 'IfNotPresent');
});

test('pull secrets are matched by host, wildcard, port and path, the closest first', () => {
  const keyring = new Keyring();
  const problems: string[] = [];
  const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') });
  const secret = (type: string, key: string, value: unknown): Secret => ({
    metadata: { ...podOf().metadata, name: 'pull' },
    type,
    data: {
      [key]: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64'),
    },
  });
  keyring.add(
    secret('kubernetes.io/dockerconfigjson', '.dockerconfigjson', {
      auths: {
        'https://index.docker.io/v1/': auth('hub:p:w'),
        'reg.example:5000': { username: 'plain', password: 'x' },
        'reg.example:5000/team': auth('team:x'),
        '*.cloud.example': auth('wild:x'),
      },
    }),
    (message) => problems.push(message),
  );
  keyring.add(secret('kubernetes.io/dockercfg', '.dockercfg', { 'old.example': auth('old:x') }), (message) =>
    problems.push(message),
  );
  keyring.add(secret('Opaque', 'x', {}), (message) => problems.push(message));
  keyring.add(secret('kubernetes.io/dockerconfigjson', '.dockerconfigjson', '{not json'), (message) =>
    problems.push(message),
  );
  const users = (image: string): (string | undefined)[] =>
    keyring.lookup(image).map(({ username }) => username);
  assert.deepEqual(keyring.lookup('nginx'), [{ username: 'hub', password: 'p:w' }]);
  assert.deepEqual(users('reg.example:5000/team/app'), ['team', 'plain']);
  assert.deepEqual(users('reg.example:5000/teams/app'), ['plain']);
  assert.deepEqual(users('reg.example/team/app'), []);
  assert.deepEqual(users('a.cloud.example/x'), ['wild']);
  assert.deepEqual(users('a.b.cloud.example/x'), []);
  assert.deepEqual(users('old.example/x:1'), ['old']);
  assert.equal(problems.length, 2);
});

test('requests and limits become shares, quotas, limits and OOM scores as upstream rounds them', () => {
  const burstable = podOf({
    containers: [
      { name: 'c', resources: { requests: { cpu: '250m', memory: '1Gi' }, limits: { cpu: '500m' } } },
    ],
  });
  const own = containerResources(burstable, burstable.spec.containers[0]!, 4 * 2 ** 30);
  assert.deepEqual(own, { cpuShares: 256, cpuQuota: 50_000, cpuPeriod: 100_000, oomScoreAdj: 750 });
  assert.equal(podCgroup('/x', burstable), '/x/kubepods/burstable/podu-1');
  assert.deepEqual(podCgroupResources(burstable, 0), {
    cpuShares: 256,
    cpuQuota: 50_000,
    cpuPeriod: 100_000,
  });
  const guaranteed = podOf({
    containers: [
      {
        name: 'c',
        resources: { requests: { cpu: '1', memory: '1Gi' }, limits: { cpu: '1', memory: '1Gi' } },
      },
    ],
  });
  assert.equal(podCgroup('', guaranteed), '/kubepods/podu-1');
  assert.equal(oomScoreAdj(guaranteed, guaranteed.spec.containers[0]!, 1), -997);
  assert.equal(podCgroupResources(guaranteed, 100).memoryLimitBytes, 2 ** 30);
  assert.equal(podCgroupResources(guaranteed, 100).pidsLimit, 100);
  assert.equal(podCgroup('', podOf()), '/kubepods/besteffort/podu-1');
  assert.deepEqual(podCgroupResources(podOf(), 0), { cpuShares: 2 });
});

test('a container that must not run as root does not', () => {
  const check = (spec: Partial<PodSpec>, image: { uid?: number; username?: string }): void => {
    const pod = podOf(spec);
    verifyNonRoot(pod, pod.spec.containers[0]!, image);
  };
  const nonRoot = { securityContext: { runAsNonRoot: true } };
  check({}, { uid: 0 });
  check(nonRoot, { uid: 1000 });
  assert.throws(
    () => check(nonRoot, { uid: 0 }),
    /container has runAsNonRoot and image will run as root \(pod: "web_shop\(u-1\)", container: c\)/,
  );
  assert.throws(() => check(nonRoot, {}), /image will run as root/);
  assert.throws(
    () => check(nonRoot, { username: 'app' }),
    /image has non-numeric user \(app\), cannot verify user is non-root/,
  );
  check({ securityContext: { runAsNonRoot: true, runAsUser: 5 } }, { uid: 0 });
  assert.throws(
    () => check({ securityContext: { runAsNonRoot: true, runAsUser: 0 } }, { uid: 5 }),
    /runAsUser breaks non-root policy/,
  );
  check({ ...nonRoot, containers: [{ name: 'c', securityContext: { runAsNonRoot: false } }] }, { uid: 0 });
});

test('security contexts of pod and container are joined', () => {
  const pod = podOf({
    hostPID: true,
    securityContext: {
      runAsUser: 10,
      runAsGroup: 20,
      fsGroup: 30,
      supplementalGroups: [40],
      seccompProfile: { type: 'RuntimeDefault' },
    },
    containers: [
      {
        name: 'c',
        securityContext: {
          runAsUser: 11,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        },
      },
    ],
  });
  const security = containerSecurity(
    pod,
    pod.spec.containers[0]!,
    {},
    { seccompDirectory: '/s', targetId: undefined, volumeGroups: [40, 50] },
  );
  assert.equal(security.runAsUser, 11);
  assert.equal(security.runAsGroup, 20);
  assert.deepEqual(security.supplementalGroups, [30, 40, 50]);
  assert.equal(security.noNewPrivileges, true);
  assert.equal(security.readonlyRootfs, true);
  assert.deepEqual(security.capabilities, { add: [], drop: ['ALL'] });
  assert.deepEqual(security.seccomp, { type: 'RuntimeDefault' });
  assert.equal(security.namespaces.pid, 'NODE');
  assert.ok(security.maskedPaths.includes('/proc/kcore'));
});

test('a new pod starts with a sandbox and its first init container, an old one that is done does not', () => {
  const probes = { liveness: () => undefined, startup: () => undefined };
  const fresh = computeActions(
    podOf({ initContainers: [{ name: 'i' }, { name: 'j' }] }),
    EMPTY_STATE,
    probes,
    1,
  );
  assert.equal(fresh.createSandbox, true);
  assert.equal(fresh.attempt, 0);
  assert.deepEqual(
    fresh.initContainersToStart.map(({ name }) => name),
    ['i'],
  );
  assert.deepEqual(fresh.containersToStart, []);
});

test('a status patch holds what changed and leaves the conditions of others alone', () => {
  const ready = { type: 'Ready', status: 'True', lastTransitionTime: 't1' };
  const other = { type: 'example.com/Gate', status: 'True' };
  const known = {
    phase: 'Running' as const,
    podIP: '1.1.1.1',
    podIPs: [{ ip: '1.1.1.1' }],
    reason: 'x',
    conditions: [ready, other, { type: 'PodResizePending', status: 'True' }],
  };
  assert.equal(
    statusPatch(known, { ...known, conditions: [ready, { type: 'PodResizePending', status: 'True' }] }),
    undefined,
  );
  const patch = statusPatch(known, {
    phase: 'Failed',
    podIP: '1.1.1.1',
    podIPs: [{ ip: '1.1.1.1' }],
    conditions: [{ ...ready, status: 'False', reason: 'PodFailed' }, other],
  });
  assert.deepEqual(patch, {
    phase: 'Failed',
    reason: null,
    conditions: [
      { type: 'Ready', status: 'False', lastTransitionTime: 't1', reason: 'PodFailed' },
      { $patch: 'delete', type: 'PodResizePending' },
    ],
    '$setElementOrder/conditions': [{ type: 'Ready' }, { type: 'example.com/Gate' }],
  });
});

test('durations are written as Go writes them', () => {
  for (const [ms, text] of [
    [0, '0s'],
    [10_000, '10s'],
    [80_000, '1m20s'],
    [300_000, '5m0s'],
    [250, '250ms'],
    [1500, '1.5s'],
    [3_661_000, '1h1m1s'],
  ] as const)
    assert.equal(formatDuration(ms), text);
});
