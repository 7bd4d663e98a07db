import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, decodeTarget } from '../schema/decode.ts';
import { imageTag } from './image.ts';

function made(group: string, version: string, kind: string, body: object): Record<string, unknown> {
  return decode(decodeTarget(group, version, kind), Buffer.from(JSON.stringify(body)), {
    contentType: 'json',
    fieldValidation: 'Strict',
    now: () => Date.UTC(2026, 0, 2, 3, 4, 5),
  }).object;
}

function specOf(group: string, version: string, kind: string, spec: object): Record<string, unknown> {
  return made(group, version, kind, { metadata: { name: 'a' }, spec })['spec'] as Record<string, unknown>;
}

const podDefaults = {
  dnsPolicy: 'ClusterFirst',
  restartPolicy: 'Always',
  securityContext: {},
  terminationGracePeriodSeconds: 30,
  schedulerName: 'default-scheduler',
};
const containerDefaults = {
  resources: {},
  terminationMessagePath: '/dev/termination-log',
  terminationMessagePolicy: 'File',
};

test('a pod gets what upstream gives it', () => {
  const spec = specOf('', 'v1', 'Pod', {
    containers: [
      {
        name: 'a',
        image: 'nginx',
        ports: [{ containerPort: 80 }],
        livenessProbe: { httpGet: { port: 80 } },
        readinessProbe: { grpc: { port: 1 } },
        lifecycle: { preStop: { httpGet: { port: 'x' } } },
        env: [{ name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } }],
      },
      {
        name: 'b',
        image: 'nginx:1.2',
        resources: { limits: { cpu: '1', memory: '1Gi' }, requests: { cpu: '100m' } },
      },
    ],
    serviceAccount: 'robot',
  });
  assert.deepEqual(spec, {
    ...podDefaults,
    enableServiceLinks: true,
    serviceAccount: 'robot',
    serviceAccountName: 'robot',
    containers: [
      {
        ...containerDefaults,
        name: 'a',
        image: 'nginx',
        imagePullPolicy: 'Always',
        ports: [{ containerPort: 80, protocol: 'TCP' }],
        livenessProbe: {
          httpGet: { port: 80, path: '/', scheme: 'HTTP' },
          timeoutSeconds: 1,
          periodSeconds: 10,
          successThreshold: 1,
          failureThreshold: 3,
        },
        readinessProbe: {
          grpc: { port: 1, service: '' },
          timeoutSeconds: 1,
          periodSeconds: 10,
          successThreshold: 1,
          failureThreshold: 3,
        },
        lifecycle: { preStop: { httpGet: { port: 'x', path: '/', scheme: 'HTTP' } } },
        env: [{ name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP', apiVersion: 'v1' } } }],
      },
      {
        ...containerDefaults,
        name: 'b',
        image: 'nginx:1.2',
        imagePullPolicy: 'IfNotPresent',
        resources: { limits: { cpu: '1', memory: '1Gi' }, requests: { cpu: '100m', memory: '1Gi' } },
      },
    ],
  });
});

test('volumes get their modes, and one without a source is an emptyDir', () => {
  const spec = specOf('', 'v1', 'Pod', {
    containers: [],
    volumes: [
      { name: 'a' },
      { name: 'b', configMap: { name: 'c' } },
      { name: 'c', secret: { secretName: 's', defaultMode: 0 } },
      { name: 'd', hostPath: { path: '/x' } },
      {
        name: 'e',
        projected: {
          sources: [
            { serviceAccountToken: { path: 't' } },
            { downwardAPI: { items: [{ path: 'p', fieldRef: { fieldPath: 'metadata.name' } }] } },
          ],
        },
      },
      {
        name: 'f',
        downwardAPI: {
          items: [{ path: 'p', resourceFieldRef: { resource: 'limits.cpu', containerName: 'c' } }],
        },
      },
      { name: 'g', ephemeral: { volumeClaimTemplate: { spec: { accessModes: ['ReadWriteOnce'] } } } },
      { name: 'h', image: { reference: 'r:latest' } },
      { name: 'i', iscsi: { targetPortal: 't', iqn: 'q', lun: 0 } },
    ],
  });
  assert.deepEqual(spec['volumes'], [
    { name: 'a', emptyDir: {} },
    { name: 'b', configMap: { name: 'c', defaultMode: 420 } },
    { name: 'c', secret: { secretName: 's', defaultMode: 0 } },
    { name: 'd', hostPath: { path: '/x', type: '' } },
    {
      name: 'e',
      projected: {
        defaultMode: 420,
        sources: [
          { serviceAccountToken: { path: 't', expirationSeconds: 3600 } },
          {
            downwardAPI: {
              items: [{ path: 'p', fieldRef: { fieldPath: 'metadata.name', apiVersion: 'v1' } }],
            },
          },
        ],
      },
    },
    {
      name: 'f',
      downwardAPI: {
        defaultMode: 420,
        items: [
          { path: 'p', resourceFieldRef: { resource: 'limits.cpu', containerName: 'c', divisor: '0' } },
        ],
      },
    },
    {
      name: 'g',
      ephemeral: {
        volumeClaimTemplate: {
          metadata: {},
          spec: { accessModes: ['ReadWriteOnce'], resources: {}, volumeMode: 'Filesystem' },
        },
      },
    },
    { name: 'h', image: { reference: 'r:latest', pullPolicy: 'Always' } },
    { name: 'i', iscsi: { targetPortal: 't', iqn: 'q', lun: 0, iscsiInterface: 'default' } },
  ]);
});

test('on the host network container ports are host ports', () => {
  const spec = specOf('', 'v1', 'Pod', {
    hostNetwork: true,
    containers: [
      { name: 'a', image: 'i', ports: [{ containerPort: 80 }, { containerPort: 81, hostPort: 8081 }] },
    ],
  });
  const ports = (spec['containers'] as { ports: { hostPort: number }[] }[])[0]?.ports.map((p) => p.hostPort);
  assert.deepEqual(ports, [80, 8081]);
});

test('quantities finer than a thousandth are rounded up', () => {
  const spec = specOf('', 'v1', 'ResourceQuota', {
    hard: { a: '1n', b: '1500u', c: '1.0001', d: '2', e: '0.1Ki' },
  });
  assert.deepEqual(spec['hard'], { a: '1m', b: '2m', c: '1001m', d: '2', e: '102400m' });
});

test('pod-level requests follow from pod-level limits and the containers', () => {
  const container = (cpu: string, more: object = {}): object => ({
    name: 'c',
    image: 'i',
    resources: { requests: { cpu } },
    ...more,
  });
  const spec = specOf('', 'v1', 'Pod', {
    resources: { limits: { cpu: '4', memory: '1Gi' } },
    containers: [container('100m'), container('200m')],
    initContainers: [container('50m', { restartPolicy: 'Always' }), container('900m')],
  });
  assert.deepEqual(spec['resources'], {
    limits: { cpu: '4', memory: '1Gi' },
    requests: { cpu: '950m', memory: '1Gi' },
  });
});

test('podIP and podIPs agree', () => {
  const status = (given: object): unknown =>
    made('', 'v1', 'Pod', { metadata: { name: 'a' }, status: given })['status'];
  assert.deepEqual(status({ podIP: '1.2.3.4' }), { podIP: '1.2.3.4', podIPs: [{ ip: '1.2.3.4' }] });
  assert.deepEqual(status({ podIPs: [{ ip: '1.2.3.4' }, { ip: '::1' }] }), {
    podIP: '1.2.3.4',
    podIPs: [{ ip: '1.2.3.4' }, { ip: '::1' }],
  });
});

test('the tag of an image decides on its pull policy', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['nginx', 'latest'],
    ['nginx:latest', 'latest'],
    ['nginx:1.2', '1.2'],
    ['localhost:5000/nginx', 'latest'],
    ['localhost:5000/a/nginx:x', 'x'],
    [`nginx@sha256:${'a'.repeat(64)}`, ''],
    [`nginx:1@sha256:${'a'.repeat(64)}`, '1'],
    ['', ''],
    ['Nginx', ''],
    ['a b', ''],
    ['nginx:', ''],
    ['nginx@latest', ''],
    ['[::1]:5000/x', 'latest'],
    [`${'a-'.repeat(50_000)}:`, ''],
  ];
  for (const [image, tag] of cases) assert.equal(imageTag(image), tag, image.slice(0, 40));
});

test('services', () => {
  const ports = [{ port: 80 }, { port: 443, targetPort: 'https', protocol: 'UDP' }];
  assert.deepEqual(specOf('', 'v1', 'Service', { ports }), {
    ports: [
      { port: 80, protocol: 'TCP', targetPort: 80 },
      { port: 443, protocol: 'UDP', targetPort: 'https' },
    ],
    sessionAffinity: 'None',
    type: 'ClusterIP',
    internalTrafficPolicy: 'Cluster',
  });
  assert.deepEqual(specOf('', 'v1', 'Service', { type: 'LoadBalancer', sessionAffinity: 'ClientIP' }), {
    type: 'LoadBalancer',
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 10800 } },
    externalTrafficPolicy: 'Cluster',
    internalTrafficPolicy: 'Cluster',
    allocateLoadBalancerNodePorts: true,
  });
  assert.deepEqual(specOf('', 'v1', 'Service', { type: 'ExternalName', externalName: 'x' }), {
    type: 'ExternalName',
    externalName: 'x',
    sessionAffinity: 'None',
  });
  assert.equal(specOf('', 'v1', 'Service', { externalIPs: ['1.2.3.4'] })['externalTrafficPolicy'], 'Cluster');
});

test('workloads', () => {
  const template = { metadata: { labels: { a: 'b' } }, spec: { containers: [] } };
  const templated = { metadata: { labels: { a: 'b' } }, spec: { containers: [], ...podDefaults } };
  assert.deepEqual(specOf('apps', 'v1', 'Deployment', { template, selector: {} }), {
    selector: {},
    template: templated,
    replicas: 1,
    strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '25%', maxSurge: '25%' } },
    revisionHistoryLimit: 10,
    progressDeadlineSeconds: 600,
  });
  assert.deepEqual(
    specOf('apps', 'v1', 'Deployment', { template, strategy: { type: 'Recreate' } })['strategy'],
    {
      type: 'Recreate',
    },
  );
  assert.deepEqual(specOf('apps', 'v1', 'DaemonSet', { template })['updateStrategy'], {
    type: 'RollingUpdate',
    rollingUpdate: { maxUnavailable: 1, maxSurge: 0 },
  });
  const stateful = specOf('apps', 'v1', 'StatefulSet', {
    template,
    volumeClaimTemplates: [{ metadata: { name: 'v' }, spec: {} }],
  });
  assert.deepEqual(stateful['updateStrategy'], { type: 'RollingUpdate', rollingUpdate: { partition: 0 } });
  assert.deepEqual(stateful['persistentVolumeClaimRetentionPolicy'], {
    whenDeleted: 'Retain',
    whenScaled: 'Retain',
  });
  assert.deepEqual(stateful['volumeClaimTemplates'], [
    {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'v' },
      spec: { resources: {}, volumeMode: 'Filesystem' },
      status: { phase: 'Pending' },
    },
  ]);
  const job = made('batch', 'v1', 'Job', { metadata: { name: 'a' }, spec: { template, parallelism: 3 } });
  assert.deepEqual(job['spec'], {
    template: templated,
    parallelism: 3,
    backoffLimit: 6,
    completionMode: 'NonIndexed',
    suspend: false,
    podReplacementPolicy: 'TerminatingOrFailed',
    manualSelector: false,
  });
  assert.deepEqual((job['metadata'] as { labels: unknown }).labels, { a: 'b' });
  const controller = made('', 'v1', 'ReplicationController', { metadata: { name: 'a' }, spec: { template } });
  assert.deepEqual((controller['spec'] as { selector: unknown }).selector, { a: 'b' });
  assert.equal((controller['spec'] as { replicas: unknown }).replicas, 1);
});

test('core objects', () => {
  assert.deepEqual(made('', 'v1', 'Namespace', { metadata: { name: 'n' } }), {
    kind: 'Namespace',
    apiVersion: 'v1',
    metadata: { name: 'n', labels: { 'kubernetes.io/metadata.name': 'n' } },
    spec: {},
    status: { phase: 'Active' },
  });
  assert.deepEqual(made('', 'v1', 'Namespace', { metadata: { generateName: 'n-' } })['metadata'], {
    generateName: 'n-',
  });
  assert.deepEqual(
    made('', 'v1', 'Secret', {
      metadata: { name: 's' },
      data: { a: 'AA==' },
      stringData: { a: 'hé', b: '' },
    }),
    {
      kind: 'Secret',
      apiVersion: 'v1',
      metadata: { name: 's' },
      type: 'Opaque',
      data: { a: 'aMOp', b: '' },
    },
  );
  assert.deepEqual(
    specOf('', 'v1', 'LimitRange', {
      limits: [
        {
          type: 'Container',
          max: { cpu: '2' },
          min: { cpu: '1', memory: '1Mi' },
          defaultRequest: { pods: '1' },
        },
        { type: 'Pod', max: { cpu: '2' } },
      ],
    })['limits'],
    [
      {
        type: 'Container',
        max: { cpu: '2' },
        min: { cpu: '1', memory: '1Mi' },
        default: { cpu: '2' },
        defaultRequest: { cpu: '2', memory: '1Mi', pods: '1' },
      },
      { type: 'Pod', max: { cpu: '2' } },
    ],
  );
  const node = made('', 'v1', 'Node', {
    metadata: { name: 'n' },
    spec: { podCIDR: '10.0.0.0/24' },
    status: { capacity: { cpu: '4' } },
  });
  assert.deepEqual(node['spec'], { podCIDR: '10.0.0.0/24', podCIDRs: ['10.0.0.0/24'] });
  assert.deepEqual((node['status'] as { allocatable: unknown }).allocatable, { cpu: '4' });
});

test('the smaller groups', () => {
  const binding = made('rbac.authorization.k8s.io', 'v1', 'RoleBinding', {
    metadata: { name: 'b' },
    roleRef: { kind: 'Role', name: 'r' },
    subjects: [
      { kind: 'User', name: 'u' },
      { kind: 'ServiceAccount', name: 's' },
    ],
  });
  assert.deepEqual(binding['roleRef'], { kind: 'Role', name: 'r', apiGroup: 'rbac.authorization.k8s.io' });
  assert.deepEqual(binding['subjects'], [
    { kind: 'User', name: 'u', apiGroup: 'rbac.authorization.k8s.io' },
    { kind: 'ServiceAccount', name: 's' },
  ]);
  assert.deepEqual(
    specOf('networking.k8s.io', 'v1', 'NetworkPolicy', {
      podSelector: {},
      egress: [{ ports: [{ port: 53 }] }],
    }),
    {
      podSelector: {},
      policyTypes: ['Ingress', 'Egress'],
      egress: [{ ports: [{ port: 53, protocol: 'TCP' }] }],
    },
  );
  const hooks = made('admissionregistration.k8s.io', 'v1', 'MutatingWebhookConfiguration', {
    metadata: { name: 'm' },
    webhooks: [
      {
        name: 'a.b.c',
        clientConfig: { service: { namespace: 'n', name: 's' } },
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['pods'] }],
      },
    ],
  });
  assert.deepEqual(hooks['webhooks'], [
    {
      name: 'a.b.c',
      clientConfig: { service: { namespace: 'n', name: 's', port: 443 } },
      sideEffects: 'None',
      admissionReviewVersions: ['v1'],
      rules: [
        { operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['pods'], scope: '*' },
      ],
      failurePolicy: 'Fail',
      matchPolicy: 'Equivalent',
      namespaceSelector: {},
      objectSelector: {},
      timeoutSeconds: 10,
      reinvocationPolicy: 'Never',
    },
  ]);
  const crd = made('apiextensions.k8s.io', 'v1', 'CustomResourceDefinition', {
    metadata: { name: 'widgets.example.com' },
    spec: {
      group: 'example.com',
      scope: 'Namespaced',
      names: { plural: 'widgets', kind: 'Widget' },
      versions: [{ name: 'v1', served: true, storage: true }],
    },
  });
  assert.deepEqual(crd['spec'], {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'widgets', kind: 'Widget', singular: 'widget', listKind: 'WidgetList' },
    versions: [{ name: 'v1', served: true, storage: true }],
    conversion: { strategy: 'None' },
  });
  assert.deepEqual((crd['status'] as { storedVersions: unknown }).storedVersions, ['v1']);
  const levels = specOf('flowcontrol.apiserver.k8s.io', 'v1', 'PriorityLevelConfiguration', {
    type: 'Limited',
    limited: { limitResponse: { type: 'Queue', queuing: {} } },
  });
  assert.deepEqual(levels['limited'], {
    limitResponse: { type: 'Queue', queuing: { handSize: 8, queues: 64, queueLengthLimit: 50 } },
    nominalConcurrencyShares: 30,
    lendablePercent: 0,
  });
  const claim = specOf('resource.k8s.io', 'v1', 'ResourceClaim', {
    devices: { requests: [{ name: 'r', exactly: { deviceClassName: 'c', tolerations: [{ key: 'k' }] } }] },
  });
  assert.deepEqual(claim['devices'], {
    requests: [
      {
        name: 'r',
        exactly: {
          deviceClassName: 'c',
          allocationMode: 'ExactCount',
          count: 1,
          tolerations: [{ key: 'k', operator: 'Equal' }],
        },
      },
    ],
  });
  const slice = specOf('resource.k8s.io', 'v1', 'ResourceSlice', {
    driver: 'd',
    pool: { name: 'p', generation: 1, resourceSliceCount: 1 },
    devices: [{ name: 'd', taints: [{ key: 'k', effect: 'NoSchedule' }] }],
  });
  assert.deepEqual(slice['devices'], [
    { name: 'd', taints: [{ key: 'k', effect: 'NoSchedule', timeAdded: '2026-01-02T03:04:05Z' }] },
  ]);
});
