import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changed, createErrors, type Manifest } from './testing/objects.ts';

/** Each: what is changed of the object, and what is said about it. */
type Cases = readonly (readonly [Readonly<Record<string, unknown>>, readonly string[]])[];

function check(base: Manifest, cases: Cases): void {
  assert.deepEqual(createErrors(base), []);
  for (const [changes, expected] of cases)
    assert.deepEqual(createErrors(changed(base, changes)), expected, JSON.stringify(changes));
}

const config: Manifest = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c' } };

const QUALIFIED =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const LABEL =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

test('metadata: names, labels, annotations, owners and finalizers', () => {
  check(config, [
    [{ 'metadata.labels': { 'a b': 'x' } }, [`metadata.labels: Invalid value: "a b": ${QUALIFIED}`]],
    [{ 'metadata.labels': { a: 'x y' } }, [`metadata.labels: Invalid value: "x y": ${VALUE}`]],
    [
      { 'metadata.annotations': { big: 'x'.repeat(256 * 1024) } },
      ['metadata.annotations: Too long: may not be more than 262144 bytes'],
    ],
    [
      { 'metadata.ownerReferences': [{ apiVersion: 'v1', kind: 'Pod', name: '', uid: 'u' }] },
      ['metadata.ownerReferences.name: Invalid value: "": must not be empty'],
    ],
    [
      { 'metadata.finalizers': ['orphan', 'foregroundDeletion'] },
      [
        'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set',
      ],
    ],
    [
      { 'metadata.generateName': 'Ab-' },
      [
        `metadata.generateName: Invalid value: "Ab-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`,
      ],
    ],
  ]);
});

test('config maps and secrets: keys, sizes, and what a type needs', () => {
  check(config, [
    [
      { data: { 'a/b': 'x' } },
      [
        `data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`,
      ],
    ],
    [
      { data: { a: 'x' }, binaryData: { a: 'eA==' } },
      ['data[a]: Invalid value: "a": duplicate of key present in binaryData'],
    ],
    [{ data: { a: 'x'.repeat(1024 * 1024 + 1) } }, [': Too long: may not be more than 1048576 bytes']],
  ]);
  const secret: Manifest = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' } };
  check(secret, [
    [{ type: 'kubernetes.io/tls' }, ['data[tls.crt]: Required value', 'data[tls.key]: Required value']],
    [
      { type: 'kubernetes.io/dockerconfigjson', data: { '.dockerconfigjson': 'eA==' } },
      ['data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": must be well-formed JSON'],
    ],
  ]);
});

test('a namespace is called by one label', () => {
  check({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a' } }, [
    [{ 'metadata.name': 'a.b' }, ['metadata.name: Invalid value: "a.b": must not contain dots']],
    [{ 'metadata.name': 'A' }, [`metadata.name: Invalid value: "A": ${LABEL}`]],
  ]);
});

test('services: ports, types and what goes with them', () => {
  check({ apiVersion: 'v1', kind: 'Service', metadata: { name: 's' }, spec: { ports: [{ port: 80 }] } }, [
    [{ 'spec.ports': [] }, ['spec.ports: Required value']],
    [
      { 'spec.ports': [{ port: 0 }] },
      [
        'spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive',
        'spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive',
      ],
    ],
    [
      { 'spec.ports': [{ port: 80 }, { port: 81 }] },
      ['spec.ports[0].name: Required value', 'spec.ports[1].name: Required value'],
    ],
    [
      {
        'spec.ports': [
          { name: 'a', port: 80 },
          { name: 'a', port: 81 },
        ],
      },
      ['spec.ports[1].name: Duplicate value: "a"'],
    ],
    [
      { 'spec.type': 'Magic' },
      [
        'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
      ],
    ],
    [
      { 'spec.type': 'LoadBalancer', 'spec.clusterIP': 'None' },
      ['spec.clusterIPs[0]: Invalid value: "None": may not be set to \'None\' for LoadBalancer services'],
    ],
    [
      { 'spec.externalTrafficPolicy': 'Local' },
      [
        'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services',
      ],
    ],
    [{ 'spec.type': 'ExternalName' }, ['spec.externalName: Required value']],
    [
      { 'spec.externalIPs': ['127.0.0.1'] },
      [
        'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
      ],
    ],
  ]);
});

const template = { metadata: { labels: { app: 'x' } }, spec: { containers: [{ name: 'c', image: 'i' }] } };

test('workloads: the selector finds the template, and strategies make progress', () => {
  const deployment: Manifest = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'd' },
    spec: { selector: { matchLabels: { app: 'x' } }, template },
  };
  check(deployment, [
    [
      { 'spec.selector.matchLabels': { app: 'y' } },
      [
        'spec.template.metadata.labels: Invalid value: {"app":"x"}: `selector` does not match template `labels`',
      ],
    ],
    [{ 'spec.selector': {} }, ['spec.selector: Invalid value: {}: empty selector is invalid for deployment']],
    [{ 'spec.replicas': -1 }, ['spec.replicas: Invalid value: -1: must be greater than or equal to 0']],
    [
      { 'spec.template.spec.restartPolicy': 'Never' },
      ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'],
    ],
    [
      { 'spec.strategy': { rollingUpdate: { maxSurge: 0, maxUnavailable: '0%' } } },
      ['spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0'],
    ],
    [
      { 'spec.strategy': { type: 'Recreate', rollingUpdate: {} } },
      ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    ],
    [
      { 'spec.progressDeadlineSeconds': 10, 'spec.minReadySeconds': 10 },
      ['spec.progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds'],
    ],
    [
      { 'spec.template.spec.containers[0].image': '' },
      ['spec.template.spec.containers[0].image: Required value'],
    ],
  ]);
  check(changed(deployment, { kind: 'DaemonSet' }), [
    [
      { 'spec.updateStrategy': { rollingUpdate: { maxSurge: 1, maxUnavailable: 1 } } },
      [
        'spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero',
      ],
    ],
  ]);
  check(changed(deployment, { kind: 'StatefulSet' }), [
    [
      { 'spec.podManagementPolicy': 'Any' },
      ["spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'"],
    ],
    [
      { 'spec.template.spec.containers[0].volumeMounts': [{ name: 'data', mountPath: '/data' }] },
      ['spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"'],
    ],
  ]);
});

test('jobs: pods that end, indexes, and policies', () => {
  const spec = { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] };
  check({ apiVersion: 'batch/v1', kind: 'Job', metadata: { name: 'j' }, spec: { template: { spec } } }, [
    [
      { 'spec.template.spec.restartPolicy': undefined },
      ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'],
    ],
    [
      { 'spec.selector': { matchLabels: { a: 'b' } } },
      [
        'spec.selector: Invalid value: {"matchLabels":{"a":"b","batch.kubernetes.io/controller-uid":"u-1"}}: `selector` not auto-generated',
        'spec.template.metadata.labels: Invalid value: {"job-name":"j","batch.kubernetes.io/job-name":"j","controller-uid":"u-1","batch.kubernetes.io/controller-uid":"u-1"}: `selector` does not match template `labels`',
      ],
    ],
    [
      { 'spec.completionMode': 'Indexed', 'spec.completions': undefined, 'spec.parallelism': 1 },
      ['spec.completions: Required value: when completion mode is Indexed'],
    ],
    [
      { 'spec.podFailurePolicy.rules': [{ action: 'Count' }] },
      [
        'spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required',
      ],
    ],
    [
      {
        'spec.completionMode': 'Indexed',
        'spec.completions': 3,
        'spec.successPolicy.rules': [{ succeededIndexes: '0-5' }],
      },
      [
        'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-5": error parsing succeededIndexes: too large index: "5"',
      ],
    ],
    [
      { 'spec.managedBy': 'me' },
      ['spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")'],
    ],
  ]);
  check(
    {
      apiVersion: 'batch/v1',
      kind: 'CronJob',
      metadata: { name: 'c' },
      spec: { schedule: '@daily', jobTemplate: { spec: { template: { spec } } } },
    },
    [
      [
        { 'spec.schedule': '* * *' },
        ['spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]'],
      ],
      [
        { 'spec.timeZone': 'Europe/Nowhere' },
        ['spec.timeZone: Invalid value: "Europe/Nowhere": unknown time zone Europe/Nowhere'],
      ],
      [
        { 'spec.schedule': 'TZ=UTC * * * * *' },
        [
          'spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead',
        ],
      ],
      [
        { 'metadata.name': 'c'.repeat(53) },
        [`metadata.name: Invalid value: "${'c'.repeat(53)}": must be no more than 52 characters`],
      ],
    ],
  );
});

test('roles and bindings', () => {
  check(
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'r' },
      rules: [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }],
    },
    [
      [{ 'rules[0].verbs': [] }, ['rules[0].verbs: Required value: verbs must contain at least one value']],
      [
        { 'rules[0]': { verbs: ['get'], nonResourceURLs: ['/x'] } },
        [
          'rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs',
        ],
      ],
      [
        { 'rules[0].resources': [] },
        ['rules[0].resources: Required value: resource rules must supply at least one resource'],
      ],
      [{ 'metadata.name': 'a/b' }, [`metadata.name: Invalid value: "a/b": may not contain '/'`]],
    ],
  );
  check(
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'b' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' },
    },
    [
      [
        { 'roleRef.kind': 'Role' },
        ['roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"'],
      ],
      [{ subjects: [{ kind: 'ServiceAccount', name: 'a' }] }, ['subjects[0].namespace: Required value']],
      [
        { subjects: [{ kind: 'Robot', name: 'a' }] },
        ['subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"'],
      ],
    ],
  );
});

test('claims, volumes, quotas and limits', () => {
  check(
    {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'p' },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
    },
    [
      [{ 'spec.accessModes': [] }, ['spec.accessModes: Required value: at least 1 access mode is required']],
      [{ 'spec.resources': {} }, ['spec.resources[storage]: Required value']],
      [
        { 'spec.resources.requests.storage': '0' },
        ['spec.resources[storage]: Invalid value: "0": must be greater than zero'],
      ],
    ],
  );
  check(
    {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: 'p' },
      spec: { capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'], hostPath: { path: '/x' } },
    },
    [
      [{ 'spec.hostPath': undefined }, ['spec: Required value: must specify a volume type']],
      [
        { 'spec.capacity': {} },
        [
          'spec.capacity: Required value',
          'spec.capacity: Unsupported value: {}: supported values: "storage"',
        ],
      ],
      [{ 'metadata.namespace': 'x' }, ['metadata.namespace: Forbidden: not allowed on this type']],
    ],
  );
  check({ apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name: 'q' }, spec: { hard: { pods: '1' } } }, [
    [{ 'spec.hard': { pods: '1.5' } }, ['spec.hard[pods]: Invalid value: "1500m": must be an integer']],
    [{ 'spec.scopes': ['Sometimes'] }, ['spec.scopes: Invalid value: ["Sometimes"]: unsupported scope']],
  ]);
  check(
    {
      apiVersion: 'v1',
      kind: 'LimitRange',
      metadata: { name: 'l' },
      spec: { limits: [{ type: 'Container', max: { cpu: '1' } }] },
    },
    [
      [
        { 'spec.limits[0].min': { cpu: '2' } },
        [
          'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
          'spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1',
          'spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1',
        ],
      ],
    ],
  );
});
