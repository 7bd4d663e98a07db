import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changed, created, type Manifest, statusErrors, updateErrors } from './testing/objects.ts';

/** The object as it is stored, to be changed from there. */
function whole(manifest: Manifest): Manifest {
  return created(manifest) as unknown as Manifest;
}

const pod = whole({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web' },
  spec: {
    containers: [{ name: 'main', image: 'nginx:1', env: [{ name: 'A', value: '1' }] }],
    tolerations: [{ key: 'a', operator: 'Exists' }],
    activeDeadlineSeconds: 100,
  },
});

function podErrors(changes: Readonly<Record<string, unknown>>, base = pod): string[] {
  return updateErrors(base, changed(base, changes));
}

const ONLY =
  'spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';

test('of a pod, the image may change, the deadline may come nearer, and tolerations may be added', () => {
  assert.deepEqual(podErrors({ 'spec.containers[0].image': 'nginx:2' }), []);
  assert.deepEqual(podErrors({ 'spec.activeDeadlineSeconds': 50 }), []);
  assert.deepEqual(podErrors({ 'spec.tolerations[1]': { key: 'b', operator: 'Exists' } }), []);
  assert.deepEqual(podErrors({ 'metadata.labels': { a: 'b' } }), []);
});

test('whatever else is changed of a pod is refused, with what differs', () => {
  const [error, ...others] = podErrors({ 'spec.containers[0].env[0].value': '2' });
  assert.deepEqual(others, []);
  assert.equal(
    error,
    `${ONLY}\n- spec.containers[0].env[0].value: "1"\n+ spec.containers[0].env[0].value: "2"`,
  );
  assert.ok(podErrors({ 'spec.nodeName': 'n2' })[0]!.startsWith(ONLY));
  assert.ok(podErrors({ 'spec.tolerations': [] }).some((text) => text.includes('tolerations')));
  assert.deepEqual(podErrors({ 'spec.activeDeadlineSeconds': 200 }), [
    'spec.activeDeadlineSeconds: Invalid value: 200: must be less than or equal to previous value',
  ]);
  assert.deepEqual(podErrors({ 'spec.containers[1]': { name: 'more', image: 'x' } }), [
    'spec.containers: Forbidden: pod updates may not add or remove containers',
  ]);
});

test('of a pod that waits at a gate, gates go and where it may run gets narrower', () => {
  const gated = whole(changed(pod, { 'spec.schedulingGates': [{ name: 'a' }, { name: 'b' }] }));
  assert.deepEqual(podErrors({ 'spec.schedulingGates': [{ name: 'b' }] }, gated), []);
  assert.deepEqual(podErrors({ 'spec.nodeSelector': { disk: 'ssd' } }, gated), []);
  assert.equal(podErrors({ 'spec.schedulingGates': [{ name: 'c' }] }, gated).length > 0, true);
});

const stored = (status: object): Manifest => ({ ...pod, status });

test('the status of a pod tells of its containers, and of the node that it stays on', () => {
  const running = stored({ phase: 'Running', podIPs: [{ ip: '10.1.0.1' }] });
  assert.deepEqual(statusErrors(pod, running), []);
  assert.deepEqual(statusErrors(pod, stored({ podIPs: [{ ip: '10.1.0.1' }, { ip: '10.1.0.2' }] })), [
    'status.podIPs: Invalid value: [{"ip":"10.1.0.1"},{"ip":"10.1.0.2"}]: may specify no more than one IP for each IP family',
  ]);
});

const deployment = whole({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web' },
  spec: {
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web', tier: 'front' } },
      spec: { containers: [{ name: 'c', image: 'i' }] },
    },
  },
});

test('what a workload selects does not change', () => {
  assert.deepEqual(updateErrors(deployment, changed(deployment, { 'spec.replicas': 5 })), []);
  assert.deepEqual(
    updateErrors(deployment, changed(deployment, { 'spec.selector.matchLabels': { tier: 'front' } })),
    ['spec.selector: Invalid value: {"matchLabels":{"tier":"front"}}: field is immutable'],
  );
});

const set = whole({
  apiVersion: 'apps/v1',
  kind: 'StatefulSet',
  metadata: { name: 'db' },
  spec: {
    serviceName: 'db',
    selector: { matchLabels: { app: 'db' } },
    template: { metadata: { labels: { app: 'db' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
    volumeClaimTemplates: [
      {
        metadata: { name: 'data' },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
      },
    ],
  },
});

test('of a stateful set, only a few fields may change', () => {
  assert.deepEqual(updateErrors(set, changed(set, { 'spec.replicas': 3, 'spec.minReadySeconds': 5 })), []);
  assert.deepEqual(
    updateErrors(
      set,
      changed(set, { 'spec.volumeClaimTemplates[0].spec.resources.requests': { storage: '2Gi' } }),
    ),
    [
      "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
    ],
  );
});

test('counters of a workload’s status are counts of its replicas', () => {
  const status = (value: object) => ({ ...deployment, status: value }) as Manifest;
  assert.deepEqual(
    statusErrors(deployment, status({ replicas: 3, readyReplicas: 2, availableReplicas: 2 })),
    [],
  );
  assert.deepEqual(statusErrors(deployment, status({ replicas: 1, readyReplicas: 2 })), [
    'status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas',
  ]);
  assert.deepEqual(statusErrors(status({ collisionCount: 2 }), status({ collisionCount: 1 })), [
    'status.collisionCount: Invalid value: 1: cannot be decremented',
  ]);
});

const job = whole({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name: 'once' },
  spec: {
    suspend: true,
    completions: 2,
    template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] } },
  },
});

test('a job stays as it is, but for how wide it runs and, while it waits, where', () => {
  assert.deepEqual(updateErrors(job, changed(job, { 'spec.parallelism': 5, 'spec.suspend': false })), []);
  assert.deepEqual(updateErrors(job, changed(job, { 'spec.template.spec.nodeSelector': { a: 'b' } })), []);
  assert.deepEqual(updateErrors(job, changed(job, { 'spec.completions': 3 })), [
    'spec.completions: Invalid value: 3: field is immutable',
  ]);
  const [error] = updateErrors(job, changed(job, { 'spec.template.spec.containers[0].image': 'j' }));
  assert.match(error ?? '', /^spec\.template: Invalid value: .*: field is immutable$/);
});

test('a job is over once, and tells when', () => {
  const status = (value: object) => ({ ...job, status: value }) as Manifest;
  const condition = (type: string) => ({ type, status: 'True' });
  const start = { startTime: '2026-03-01T10:00:00Z' };
  const complete = {
    ...start,
    completionTime: '2026-03-01T10:05:00Z',
    succeeded: 2,
    conditions: [condition('SuccessCriteriaMet'), condition('Complete')],
  };
  assert.deepEqual(statusErrors(status(start), status(complete)), []);
  assert.deepEqual(statusErrors(status(complete), status({ ...complete, succeeded: 1 })), [
    'status.succeeded: Invalid value: 1: cannot decrease the succeeded counter',
  ]);
  assert.deepEqual(statusErrors(job, status({ ...start, conditions: [condition('Failed')] })), [
    'status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition',
  ]);
});

test('what is sealed stays so', () => {
  const map: Manifest = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'c' },
    immutable: true,
    data: { a: '1' },
  };
  assert.deepEqual(updateErrors(map, changed(map, { 'metadata.labels': { a: 'b' } })), []);
  assert.deepEqual(updateErrors(map, changed(map, { 'data.a': '2' })), [
    'data: Forbidden: field is immutable when `immutable` is set',
  ]);
  assert.deepEqual(updateErrors(map, changed(map, { immutable: undefined })), [
    'immutable: Forbidden: field is immutable when `immutable` is set',
  ]);
  const secret: Manifest = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, type: 'Opaque' };
  assert.deepEqual(updateErrors(secret, changed(secret, { type: 'example.com/x' })), [
    'type: Invalid value: "example.com/x": field is immutable',
  ]);
});

test('fields that others rely on are immutable', () => {
  const cases: readonly (readonly [Manifest, Readonly<Record<string, unknown>>, string])[] = [
    [
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: 'b' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'a' },
      },
      { 'roleRef.name': 'b' },
      'roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"b"}: cannot change roleRef',
    ],
    [
      {
        apiVersion: 'storage.k8s.io/v1',
        kind: 'StorageClass',
        metadata: { name: 'c' },
        provisioner: 'example.com/a',
      },
      { provisioner: 'example.com/b' },
      'provisioner: Forbidden: updates to provisioner are forbidden.',
    ],
    [
      {
        apiVersion: 'scheduling.k8s.io/v1',
        kind: 'PriorityClass',
        metadata: { name: 'p' },
        value: 1,
      },
      { value: 2 },
      'value: Forbidden: may not be changed in an update.',
    ],
    [
      { apiVersion: 'node.k8s.io/v1', kind: 'RuntimeClass', metadata: { name: 'r' }, handler: 'runc' },
      { handler: 'runsc' },
      'handler: Invalid value: "runsc": field is immutable',
    ],
    [
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: 's' },
        addressType: 'IPv4',
        endpoints: [],
      },
      { addressType: 'IPv6' },
      'addressType: Invalid value: "IPv6": field is immutable',
    ],
    [
      {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: 'c' },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'a',
          volumeName: 'v',
          resources: { requests: { storage: '1Gi' } },
        },
      },
      { 'spec.accessModes': ['ReadOnlyMany'] },
      'spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
    ],
  ];
  for (const [before, changes, expected] of cases) {
    const errors = updateErrors(before, changed(whole(before), changes));
    assert.equal(errors.length, 1, errors.join('\n'));
    assert.ok(errors[0]!.startsWith(expected), errors[0]);
  }
});

test('a service keeps its address', () => {
  const service = changed(
    whole({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 's' },
      spec: { ports: [{ port: 80 }] },
    }),
    {
      'spec.clusterIP': '10.96.0.5',
      'spec.clusterIPs': ['10.96.0.5'],
      'spec.ipFamilies': ['IPv4'],
      'spec.ipFamilyPolicy': 'SingleStack',
    },
  );
  assert.deepEqual(updateErrors(service, changed(service, { 'spec.ports[0].port': 81 })), []);
  assert.deepEqual(updateErrors(service, changed(service, { 'spec.clusterIP': '10.96.0.6' })), [
    'spec.clusterIPs[0]: Invalid value: ["10.96.0.6"]: may not change once set',
  ]);
});

test('a ServiceCIDR keeps its ranges, and may get one of the other family', () => {
  const range = whole({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'ServiceCIDR',
    metadata: { name: 's' },
    spec: { cidrs: ['10.0.0.0/16'] },
  });
  const errors = (...cidrs: readonly string[]) =>
    updateErrors(range, changed(range, { 'spec.cidrs': cidrs }));
  assert.deepEqual(errors('10.0.0.0/16', 'fd00::/108'), []);
  assert.deepEqual(errors('10.1.0.0/16'), [
    'spec.cidrs[0]: Invalid value: "10.1.0.0/16": field is immutable',
  ]);
  assert.deepEqual(errors('10.1.0.0/16', 'fd00::/108'), [
    'spec.cidrs[0]: Invalid value: "10.1.0.0/16": field is immutable',
  ]);
});

test('of a claim’s status, what is allocated is storage, in a state that there is', () => {
  const claim = whole({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'c' },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
  });
  const errors = (status: object) => statusErrors(claim, { ...claim, status });
  assert.deepEqual(
    errors({
      allocatedResources: { storage: '2Gi', 'example.com/iops': '5' },
      allocatedResourceStatuses: { storage: 'NodeResizePending' },
    }),
    [],
  );
  assert.deepEqual(errors({ allocatedResourceStatuses: { storage: 'Done' } }), [
    'status.allocatedResourceStatus: Unsupported value: "storage": supported values: "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending"',
  ]);
  assert.deepEqual(errors({ allocatedResources: { cpu: '1', storage: '-1' } }), [
    'status.allocatedResources: Unsupported value: "cpu": supported values: "storage"',
    'status.allocatedResources[storage]: Invalid value: "-1": must be greater than or equal to 0',
  ]);
});
