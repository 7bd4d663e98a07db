import assert from 'node:assert/strict';
import { test } from 'node:test';
import { timestamp } from '../meta.ts';
import type { KubeObject } from '../object.ts';
import { columnsFor, humanDuration, rowConditions } from './index.ts';

const now = Date.UTC(2026, 5, 1);
const ago = (seconds: number) => timestamp(now - seconds * 1000);

/** The row as an object: column name → cell. */
function row(group: string, kind: string, object: object): Record<string, unknown> {
  const { columns, cells } = columnsFor(group, kind);
  const complete = {
    ...object,
    metadata: { name: 'x', creationTimestamp: ago(600), ...(object as { metadata?: object }).metadata },
  } as unknown as KubeObject;
  const values = cells(complete, now);
  assert.equal(values.length, columns.length, kind);
  return Object.fromEntries(columns.map((column, i) => [column.name, values[i]]));
}

test('durations have two or three figures', () => {
  const minutes = 60;
  const hours = 3600;
  const days = 86_400;
  const cases: readonly (readonly [seconds: number, text: string])[] = [
    [-3, '<invalid>'],
    [-1, '0s'],
    [0, '0s'],
    [119, '119s'],
    [120, '2m'],
    [125, '2m5s'],
    [10 * minutes, '10m'],
    [179 * minutes, '179m'],
    [3 * hours, '3h'],
    [3 * hours + 5 * minutes, '3h5m'],
    [8 * hours + 5 * minutes, '8h'],
    [47 * hours, '47h'],
    [48 * hours, '2d'],
    [49 * hours, '2d1h'],
    [8 * days + 3 * hours, '8d'],
    [729 * days, '729d'],
    [730 * days, '2y'],
    [731 * days, '2y1d'],
    [9 * 365 * days, '9y'],
  ];
  for (const [seconds, text] of cases) assert.equal(humanDuration(seconds * 1000), text, String(seconds));
});

const container = (name: string) => ({ name, image: `${name}:1` });

function pod(status: object, spec: object = {}, metadata: object = {}): Record<string, unknown> {
  return row('', 'Pod', {
    metadata,
    spec: { containers: [container('a'), container('b')], ...spec },
    status,
  });
}

test('a running pod shows its ready containers, restarts, address and node', () => {
  const running = (name: string, more: object = {}) => ({
    name,
    ready: true,
    restartCount: 0,
    state: { running: { startedAt: ago(60) } },
    ...more,
  });
  assert.deepEqual(
    pod(
      {
        phase: 'Running',
        podIPs: [{ ip: '10.0.0.7' }],
        containerStatuses: [
          running('a'),
          running('b', { restartCount: 3, lastState: { terminated: { exitCode: 1, finishedAt: ago(300) } } }),
        ],
      },
      { nodeName: 'n1', readinessGates: [{ conditionType: 'g' }] },
    ),
    {
      Name: 'x',
      Ready: '2/2',
      Status: 'Running',
      Restarts: '3 (5m ago)',
      Age: '10m',
      IP: '10.0.0.7',
      Node: 'n1',
      'Nominated Node': '<none>',
      'Readiness Gates': '0/1',
    },
  );
});

test('the status of a pod names what is in the way', () => {
  const status = (text: string, podStatus: object, spec: object = {}, metadata: object = {}) =>
    assert.equal(pod(podStatus, spec, metadata)['Status'], text);
  const one = (state: object, more: object = {}) => ({
    name: 'a',
    ready: false,
    restartCount: 0,
    state,
    ...more,
  });
  const init = { initContainers: [container('i'), container('j')] };

  status('Pending', { phase: 'Pending' });
  status('Evicted', { phase: 'Failed', reason: 'Evicted' });
  status('SchedulingGated', {
    phase: 'Pending',
    conditions: [{ type: 'PodScheduled', status: 'False', reason: 'SchedulingGated' }],
  });
  status('CrashLoopBackOff', {
    phase: 'Running',
    containerStatuses: [one({ waiting: { reason: 'CrashLoopBackOff' } })],
  });
  status('Completed', {
    phase: 'Succeeded',
    containerStatuses: [one({ terminated: { exitCode: 0, reason: 'Completed' } })],
  });
  status('ExitCode:3', { phase: 'Failed', containerStatuses: [one({ terminated: { exitCode: 3 } })] });
  status('Signal:9', {
    phase: 'Failed',
    containerStatuses: [one({ terminated: { exitCode: 137, signal: 9 } })],
  });
  status('Init:0/2', { phase: 'Pending', initContainerStatuses: [one({ running: {} })] }, init);
  status(
    'Init:1/2',
    {
      phase: 'Pending',
      initContainerStatuses: [
        one({ terminated: { exitCode: 0 } }),
        one({ waiting: { reason: 'PodInitializing' } }),
      ],
    },
    init,
  );
  status(
    'Init:ErrImagePull',
    { phase: 'Pending', initContainerStatuses: [one({ waiting: { reason: 'ErrImagePull' } })] },
    init,
  );
  status(
    'Init:Error',
    { phase: 'Pending', initContainerStatuses: [one({ terminated: { exitCode: 1, reason: 'Error' } })] },
    init,
  );
  status('Terminating', { phase: 'Running' }, {}, { deletionTimestamp: ago(1) });
  status('Unknown', { phase: 'Running', reason: 'NodeLost' }, {}, { deletionTimestamp: ago(1) });
  status('Succeeded', { phase: 'Succeeded' }, {}, { deletionTimestamp: ago(1) });
  const mixed = [
    { ...one({ running: {} }), name: 'b', ready: true },
    one({ terminated: { exitCode: 0, reason: 'Completed' } }),
  ];
  status('NotReady', { phase: 'Running', containerStatuses: mixed.toReversed() });
  status('Running', {
    phase: 'Running',
    containerStatuses: mixed.toReversed(),
    conditions: [{ type: 'Ready', status: 'True' }],
  });
});

test('sidecars count among the ready containers', () => {
  const cells = pod(
    {
      phase: 'Running',
      initContainerStatuses: [
        { name: 's', ready: true, started: true, restartCount: 2, state: { running: {} } },
      ],
      containerStatuses: [{ name: 'a', ready: true, restartCount: 1, state: { running: {} } }],
    },
    { initContainers: [{ ...container('s'), restartPolicy: 'Always' }] },
  );
  assert.equal(cells['Ready'], '2/3');
  assert.equal(cells['Restarts'], '3');
});

test('a pod that has ended is marked as completed in its row', () => {
  const ended = { metadata: {}, status: { phase: 'Failed' } } as unknown as KubeObject;
  assert.equal((rowConditions('', 'Pod', ended)[0] as { reason: string }).reason, 'Failed');
  assert.deepEqual(rowConditions('', 'Node', ended), []);
});

test('services show where they are reached', () => {
  const service = (spec: object, status: object = {}) => row('', 'Service', { spec, status });
  const ports = [
    { port: 80, protocol: 'TCP' },
    { port: 53, nodePort: 30053, protocol: 'UDP' },
  ];
  const cluster = service({ type: 'ClusterIP', clusterIPs: ['10.96.0.1'], ports, selector: { app: 'web' } });
  assert.equal(cluster['Cluster-IP'], '10.96.0.1');
  assert.equal(cluster['External-IP'], '<none>');
  assert.equal(cluster['Port(s)'], '80/TCP,53:30053/UDP');
  assert.equal(cluster['Selector'], 'app=web');
  assert.equal(service({ type: 'LoadBalancer' })['External-IP'], '<pending>');
  assert.equal(
    service(
      { type: 'LoadBalancer', externalIPs: ['9.9.9.9'] },
      { loadBalancer: { ingress: [{ hostname: 'lb.example' }, { ip: '1.2.3.4' }] } },
    )['External-IP'],
    '1.2.3.4,lb.example,9.9.9.9',
  );
  assert.equal(service({ type: 'ExternalName', externalName: 'example.com' })['External-IP'], 'example.com');
  assert.equal(service({ type: 'ExternalName' })['Cluster-IP'], '<none>');
});

test('nodes show status, roles and version', () => {
  const node = row('', 'Node', {
    metadata: { labels: { 'node-role.kubernetes.io/control-plane': '', 'kubernetes.io/role': 'extra' } },
    spec: { unschedulable: true },
    status: {
      conditions: [{ type: 'Ready', status: 'False' }],
      nodeInfo: { kubeletVersion: 'v1.36.0', osImage: 'Debian' },
      addresses: [{ type: 'InternalIP', address: '192.168.0.2' }],
    },
  });
  assert.equal(node['Status'], 'NotReady,SchedulingDisabled');
  assert.equal(node['Roles'], 'control-plane,extra');
  assert.equal(node['Version'], 'v1.36.0');
  assert.equal(node['Internal-IP'], '192.168.0.2');
  assert.equal(node['External-IP'], '<none>');
  assert.equal(node['Kernel-Version'], '<unknown>');
  assert.equal(row('', 'Node', {})['Status'], 'Unknown');
});

test('workloads show what is wanted and what is there', () => {
  const template = { spec: { containers: [container('a'), container('b')] } };
  const deployment = row('apps', 'Deployment', {
    spec: { replicas: 3, selector: { matchLabels: { app: 'web' } }, template },
    status: { readyReplicas: 2, updatedReplicas: 3, availableReplicas: 1 },
  });
  assert.deepEqual(
    [
      deployment['Ready'],
      deployment['Up-to-date'],
      deployment['Available'],
      deployment['Images'],
      deployment['Selector'],
    ],
    ['2/3', 3, 1, 'a:1,b:1', 'app=web'],
  );
  const job = (spec: object, status: object) => row('batch', 'Job', { spec: { template, ...spec }, status });
  const done = job(
    { completions: 3 },
    {
      succeeded: 3,
      startTime: ago(100),
      completionTime: ago(40),
      conditions: [{ type: 'Complete', status: 'True' }],
    },
  );
  assert.deepEqual([done['Status'], done['Completions'], done['Duration']], ['Complete', '3/3', '60s']);
  assert.equal(job({ parallelism: 4 }, {})['Completions'], '0/1 of 4');
  assert.equal(job({}, { startTime: ago(7) })['Duration'], '7s');
  assert.equal(job({}, { conditions: [{ type: 'Suspended', status: 'True' }] })['Status'], 'Suspended');
  const cron = row('batch', 'CronJob', {
    spec: { schedule: '* * * * *', suspend: false, jobTemplate: { spec: { template } } },
  });
  assert.deepEqual(
    [cron['Suspend'], cron['Last Schedule'], cron['Timezone'], cron['Active']],
    ['False', '<none>', '<none>', 0],
  );
});

test('events show both shapes alike', () => {
  const core = row('', 'Event', {
    involvedObject: { kind: 'Pod', name: 'web', fieldPath: 'spec.containers{a}' },
    type: 'Normal',
    reason: 'Pulled',
    message: ' done \n',
    source: { component: 'kubelet', host: 'n1' },
    firstTimestamp: ago(90),
    lastTimestamp: ago(30),
    count: 4,
  });
  assert.equal(core['Last Seen'], '30s');
  assert.equal(core['Object'], 'pod/web');
  assert.equal(core['Message'], 'done');
  assert.equal(core['Source'], 'kubelet, n1');
  assert.equal(core['Count'], 4);
  const series = row('events.k8s.io', 'Event', {
    regarding: { kind: 'Pod', name: 'web' },
    note: 'again',
    reportingController: 'scheduler',
    eventTime: ago(90),
    series: { count: 6, lastObservedTime: ago(5) },
  });
  assert.deepEqual(
    [series['Last Seen'], series['First Seen'], series['Count'], series['Message']],
    ['5s', '90s', 7, 'again'],
  );
});

test('long lists are cut after three', () => {
  const addresses = ['1', '2', '3', '4', '5'].map((n) => ({ ip: `10.0.0.${n}` }));
  assert.equal(
    row('', 'Endpoints', { subsets: [{ addresses, ports: [{ port: 80 }] }] })['Endpoints'],
    '10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...',
  );
  assert.equal(
    row('', 'Endpoints', { subsets: [{ addresses: [{ ip: 'fd00::1' }], ports: [{ port: 80 }] }] })[
      'Endpoints'
    ],
    '[fd00::1]:80',
  );
  assert.equal(row('', 'Endpoints', {})['Endpoints'], '<none>');
  const slice = row('discovery.k8s.io', 'EndpointSlice', {
    addressType: 'IPv4',
    ports: [{ port: 80 }, { name: 'named' }, {}],
    endpoints: [{ addresses: ['10.0.0.1'] }],
  });
  assert.deepEqual([slice['Ports'], slice['Endpoints']], ['80,named,*', '10.0.0.1']);
});

test('autoscalers show each metric beside its target', () => {
  const scaler = row('autoscaling', 'HorizontalPodAutoscaler', {
    spec: {
      scaleTargetRef: { kind: 'Deployment', name: 'web' },
      maxReplicas: 5,
      metrics: [
        {
          type: 'Resource',
          resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } },
        },
        {
          type: 'Pods',
          pods: { metric: { name: 'q' }, target: { type: 'AverageValue', averageValue: '10' } },
        },
        { type: 'External', external: { metric: { name: 'z' }, target: { type: 'Value', value: '1' } } },
      ],
    },
    status: {
      currentMetrics: [{ type: 'Resource', resource: { name: 'cpu', current: { averageUtilization: 12 } } }],
    },
  });
  assert.equal(scaler['Targets'], 'cpu: 12%/80%, <unknown>/10 + 1 more...');
  assert.deepEqual(
    [scaler['Reference'], scaler['MinPods'], scaler['MaxPods']],
    ['Deployment/web', '<unset>', 5],
  );
});

test('kinds without columns of their own show name and creation time', () => {
  const { columns } = columnsFor('rbac.authorization.k8s.io', 'Role');
  assert.deepEqual(
    columns.map(({ name, type }) => [name, type]),
    [
      ['Name', 'string'],
      ['Created At', 'date'],
    ],
  );
  assert.equal(row('example.com', 'Thing', {})['Created At'], ago(600));
  assert.equal(columnsFor('toString', 'constructor'), columnsFor('', 'Nothing'));
});

test('no table breaks on an object that has nothing but a name', () => {
  for (const [group, kinds] of Object.entries({
    '': [
      'PersistentVolume',
      'PersistentVolumeClaim',
      'Namespace',
      'Secret',
      'ConfigMap',
      'ResourceQuota',
      'ComponentStatus',
      'ServiceAccount',
      'PodTemplate',
      'ReplicationController',
      'Event',
      'Service',
    ],
    apps: ['Deployment', 'ReplicaSet', 'DaemonSet', 'StatefulSet', 'ControllerRevision'],
    batch: ['Job', 'CronJob'],
    'networking.k8s.io': ['Ingress', 'IngressClass', 'NetworkPolicy', 'ServiceCIDR', 'IPAddress'],
    'rbac.authorization.k8s.io': ['Role', 'ClusterRole'],
    'certificates.k8s.io': ['ClusterTrustBundle', 'PodCertificateRequest'],
    'coordination.k8s.io': ['Lease', 'LeaseCandidate'],
    'flowcontrol.apiserver.k8s.io': ['FlowSchema', 'PriorityLevelConfiguration'],
    'apiregistration.k8s.io': ['APIService'],
  }))
    for (const kind of kinds) row(group, kind, {});
});
