import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changed, createErrors, type Manifest } from './testing/objects.ts';

const pod: Manifest = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web' },
  spec: { containers: [{ name: 'main', image: 'nginx' }] },
};

/** Each: what is changed of a pod that is valid, and what is said about it. */
type Cases = readonly (readonly [Readonly<Record<string, unknown>>, readonly string[]])[];

function check(cases: Cases, base = pod): void {
  for (const [changes, expected] of cases)
    assert.deepEqual(createErrors(changed(base, changes)), expected, JSON.stringify(changes));
}

const LABEL =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const c = 'spec.containers[0]';

test('containers have names and images of their own', () => {
  check([
    [{ 'spec.containers': [] }, ['spec.containers: Required value']],
    [{ [`${c}.name`]: '' }, [`${c}.name: Required value`]],
    [{ [`${c}.name`]: 'Main' }, [`${c}.name: Invalid value: "Main": ${LABEL}`]],
    [{ [`${c}.image`]: '' }, [`${c}.image: Required value`]],
    [
      { [`${c}.image`]: ' nginx' },
      [`${c}.image: Invalid value: " nginx": must not have leading or trailing whitespace`],
    ],
    [
      { [`${c}.imagePullPolicy`]: 'Sometimes' },
      [
        `${c}.imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"`,
      ],
    ],
    [
      { 'spec.containers[1]': { name: 'main', image: 'x' } },
      ['spec.containers[1].name: Duplicate value: "main"'],
    ],
    [
      { 'spec.initContainers[0]': { name: 'main', image: 'x' } },
      ['spec.initContainers[0].name: Duplicate value: "main"'],
    ],
  ]);
});

test('ports are numbers of their own, with names that are unique', () => {
  check([
    [{ [`${c}.ports[0].name`]: 'x' }, [`${c}.ports[0].containerPort: Required value`]],
    [
      { [`${c}.ports[0].containerPort`]: 70000 },
      [`${c}.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive`],
    ],
    [
      { [`${c}.ports`]: [{ containerPort: 80, protocol: 'HTTP' }] },
      [`${c}.ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"`],
    ],
    [
      {
        [`${c}.ports`]: [
          { containerPort: 80, name: 'http' },
          { containerPort: 81, name: 'http' },
        ],
      },
      [`${c}.ports[1].name: Duplicate value: "http"`],
    ],
    [
      { [`${c}.ports`]: [{ containerPort: 80, name: 'much-too-long-a-name' }] },
      [`${c}.ports[0].name: Invalid value: "much-too-long-a-name": must be no more than 15 characters`],
    ],
    [
      { 'spec.hostNetwork': true, [`${c}.ports`]: [{ containerPort: 80, hostPort: 81 }] },
      [
        `${c}.ports[0].hostPort: Invalid value: 81: must match \`containerPort\` when \`hostNetwork\` is true`,
      ],
    ],
    [
      {
        [`${c}.ports`]: [
          { containerPort: 80, hostPort: 80 },
          { containerPort: 81, hostPort: 80 },
        ],
      },
      [`${c}.ports[1].hostPort: Duplicate value: "TCP//80"`],
    ],
  ]);
});

test('requests are no greater than limits, and amounts make sense', () => {
  const resources = `${c}.resources`;
  check([
    [
      { [resources]: { requests: { cpu: '2' }, limits: { cpu: '1' } } },
      [`${resources}.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`],
    ],
    [
      { [resources]: { requests: { memory: '-1' } } },
      [`${resources}.requests[memory]: Invalid value: "-1": must be greater than or equal to 0`],
    ],
    [
      { [resources]: { limits: { 'example.com/gpu': '500m' } } },
      [
        `${resources}.limits[example.com/gpu]: Invalid value: "500m": must be an integer`,
        `${resources}.requests[example.com/gpu]: Invalid value: "500m": must be an integer`,
      ],
    ],
    [
      { [resources]: { limits: { gpu: '1' } } },
      [
        `${resources}.limits[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified`,
        `${resources}.limits[gpu]: Invalid value: "gpu": must be a standard resource for containers`,
        `${resources}.requests[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified`,
        `${resources}.requests[gpu]: Invalid value: "gpu": must be a standard resource for containers`,
      ],
    ],
    [
      { [resources]: { requests: { 'hugepages-2Mi': '2Mi' } } },
      [
        `${resources}.limits: Required value: Limit must be set for non overcommitable resources`,
        `${resources}: Forbidden: HugePages require cpu or memory`,
      ],
    ],
  ]);
});

test('the environment is named, and drawn from one source at a time', () => {
  const env = `${c}.env[0]`;
  check([
    [{ [env]: { name: '' } }, [`${env}.name: Required value`]],
    [
      { [env]: { name: 'a=b' } },
      [
        `${env}.name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='`,
      ],
    ],
    [
      { [env]: { name: 'A', value: 'x', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } } },
      [`${env}.valueFrom: Invalid value: "": may not be specified when \`value\` is not empty`],
    ],
    [
      { [env]: { name: 'A', valueFrom: { fieldRef: { fieldPath: 'spec.containers' } } } },
      [
        `${env}.valueFrom.fieldRef.fieldPath: Invalid value: "spec.containers": error converting fieldPath: field label not supported: spec.containers`,
      ],
    ],
    [
      { [env]: { name: 'A', valueFrom: { configMapKeyRef: { name: 'x', key: '' } } } },
      [`${env}.valueFrom.configMapKeyRef.key: Required value`],
    ],
    [
      { [`${c}.envFrom`]: [{}] },
      [`${c}.envFrom: Invalid value: "": must specify one of: \`configMapRef\` or \`secretRef\``],
    ],
  ]);
});

test('volumes have one source each, and mounts name a volume that is there', () => {
  const v = 'spec.volumes[0]';
  check([
    [{ [v]: { name: 'x', hostPath: { path: '' } } }, [`${v}.hostPath.path: Required value`]],
    [
      { [v]: { name: 'x', hostPath: { path: '/a/../b' } } },
      [`${v}.hostPath.path: Invalid value: "/a/../b": must not contain '..'`],
    ],
    [
      { [v]: { name: 'x', emptyDir: {}, secret: { secretName: 's' } } },
      [`${v}.secret: Forbidden: may not specify more than 1 volume type`],
    ],
    [
      {
        'spec.volumes': [
          { name: 'x', emptyDir: {} },
          { name: 'x', emptyDir: {} },
        ],
      },
      ['spec.volumes[1].name: Duplicate value: "x"'],
    ],
    [
      { [v]: { name: 'x', persistentVolumeClaim: { claimName: '' } } },
      [`${v}.persistentVolumeClaim.claimName: Required value`],
    ],
    [
      { [v]: { name: 'x', configMap: { name: 'a', defaultMode: 1000 } } },
      [
        `${v}.configMap.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive`,
      ],
    ],
    [
      { [`${c}.volumeMounts`]: [{ name: 'gone', mountPath: '/x' }] },
      [`${c}.volumeMounts[0].name: Not found: "gone"`],
    ],
    [
      {
        [v]: { name: 'x', emptyDir: {} },
        [`${c}.volumeMounts`]: [
          { name: 'x', mountPath: '/x', subPath: '/abs' },
          { name: 'x', mountPath: '/x' },
        ],
      },
      [
        `${c}.volumeMounts.subPath: Invalid value: "/abs": must be a relative path`,
        `${c}.volumeMounts[1].mountPath: Invalid value: "/x": must be unique`,
      ],
    ],
  ]);
});

test('probes have one handler, and times that are no less than zero', () => {
  const probe = `${c}.livenessProbe`;
  check([
    [{ [probe]: {} }, [`${probe}: Required value: must specify a handler type`]],
    [
      { [probe]: { exec: { command: ['a'] }, tcpSocket: { port: 1 } } },
      [`${probe}.tcpSocket: Forbidden: may not specify more than 1 handler type`],
    ],
    [
      { [probe]: { tcpSocket: { port: 1 }, periodSeconds: -1 } },
      [`${probe}.periodSeconds: Invalid value: -1: must be greater than or equal to 0`],
    ],
    [
      { [probe]: { tcpSocket: { port: 1 }, successThreshold: 2 } },
      [`${probe}.successThreshold: Invalid value: 2: must be 1`],
    ],
    [
      { [`${c}.readinessProbe`]: { tcpSocket: { port: 1 }, terminationGracePeriodSeconds: 5 } },
      [
        `${c}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes`,
      ],
    ],
    [
      { [`${c}.lifecycle.preStop`]: { exec: { command: [] } } },
      [`${c}.lifecycle.preStop.exec.command: Required value`],
    ],
  ]);
});

test('what a pod needs to be scheduled is well formed', () => {
  check([
    [
      { 'spec.nodeSelector': { 'a b': 'c' } },
      [
        "spec.nodeSelector: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
      ],
    ],
    [
      { 'spec.tolerations': [{ key: 'a', operator: 'Exists', value: 'b' }] },
      [
        'spec.tolerations[0].operator: Invalid value: {"key":"a","operator":"Exists","value":"b"}: value must be empty when `operator` is \'Exists\'',
      ],
    ],
    [
      { 'spec.tolerations': [{ effect: 'NoSchedule' }] },
      [
        'spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"',
      ],
    ],
    [
      {
        'spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms': [],
      },
      [
        'spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term',
      ],
    ],
    [
      { 'spec.topologySpreadConstraints': [{ maxSkew: 0, topologyKey: '', whenUnsatisfiable: 'Never' }] },
      [
        'spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero',
        'spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty',
        'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Never": supported values: "DoNotSchedule", "ScheduleAnyway"',
      ],
    ],
    [
      { 'spec.nodeName': 'n1', 'spec.schedulingGates': [{ name: 'a' }] },
      ['spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared'],
    ],
  ]);
});

test('the pod as a whole makes sense', () => {
  check([
    [{ 'metadata.name': 'Web' }, [`metadata.name: Invalid value: "Web": ${SUBDOMAIN}`]],
    [
      { 'spec.restartPolicy': 'Maybe' },
      ['spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"'],
    ],
    [
      { 'spec.activeDeadlineSeconds': 0 },
      ['spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive'],
    ],
    [
      { 'spec.dnsPolicy': 'None' },
      ['spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None'],
    ],
    [{ 'spec.hostname': 'a.b' }, [`spec.hostname: Invalid value: "a.b": must not contain dots`]],
    [
      { 'spec.securityContext.runAsUser': -1 },
      ['spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive'],
    ],
    [
      { 'spec.ephemeralContainers': [{ name: 'debug', image: 'busybox' }] },
      ['spec.ephemeralContainers: Forbidden: cannot be set on create'],
    ],
    [
      { 'spec.hostAliases': [{ ip: '10.0.0.01', hostnames: ['x'] }] },
      ['spec.hostAliases[0].ip: Invalid value: "10.0.0.01": must not have leading 0s'],
    ],
  ]);
});
