import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MutableObject } from '../definition.ts';
import type { KubeObject } from '../object.ts';
import { strategyFor } from './index.ts';

const metadata = { name: 'x', namespace: 'default', uid: 'u1', creationTimestamp: '2026-01-01T00:00:00Z' };

function object(rest: object): MutableObject {
  return {
    ...structuredClone(rest),
    metadata: { ...metadata, ...(rest as { metadata?: object }).metadata },
  } as MutableObject;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}

const old = (rest: object): KubeObject => deepFreeze(object(rest)) as unknown as KubeObject;

test('nobody creates an object with a status of their own', () => {
  const deployment = object({ spec: { replicas: 1 }, status: { replicas: 9 } });
  strategyFor('apps', 'Deployment').prepareForCreate?.(deployment);
  assert.deepEqual(deployment['status'], {});
  const set = object({ spec: {}, status: { replicas: 9 } });
  strategyFor('apps', 'ReplicaSet').prepareForCreate?.(set);
  assert.deepEqual(set['status'], { replicas: 0 });
  const node = object({ status: { nodeInfo: {} } });
  strategyFor('', 'Node').prepareForCreate?.(node);
  assert.deepEqual(node['status'], { nodeInfo: {} });
});

test('an update changes the spec, an update of the status changes the status', () => {
  const before = old({ spec: { replicas: 1 }, status: { replicas: 1 } });
  const strategy = strategyFor('apps', 'Deployment');
  const spec = object({ spec: { replicas: 2 }, status: { replicas: 7 } });
  strategy.prepareForUpdate?.(spec, before);
  assert.deepEqual([spec['spec'], spec['status']], [{ replicas: 2 }, { replicas: 1 }]);
  const status = object({
    spec: { replicas: 2 },
    extra: 1,
    status: { replicas: 7 },
    metadata: { labels: { a: 'b' } },
  });
  strategy.prepareForStatusUpdate?.(status, before);
  assert.deepEqual(
    [status['spec'], status['status'], status['extra']],
    [{ replicas: 1 }, { replicas: 7 }, undefined],
  );
  assert.deepEqual(status.metadata.labels, { a: 'b' });
});

test('a pod begins pending, with its quality of service', () => {
  const strategy = strategyFor('', 'Pod');
  const pod = object({
    spec: { containers: [{ name: 'a', resources: { requests: { cpu: '1' } } }] },
    status: { phase: 'Running' },
  });
  strategy.prepareForCreate?.(pod);
  assert.deepEqual(pod['status'], { phase: 'Pending', qosClass: 'Burstable' });
  const gated = object({ spec: { containers: [], schedulingGates: [{ name: 'g' }] } });
  strategy.prepareForCreate?.(gated);
  assert.equal(
    (gated['status'] as { conditions: { reason: string }[] }).conditions[0]?.reason,
    'SchedulingGated',
  );
});

test('label keys of spread constraints and affinity become requirements', () => {
  const pod = object({
    metadata: { labels: { app: 'web', rev: '7' } },
    spec: {
      containers: [],
      topologySpreadConstraints: [
        { labelSelector: { matchLabels: { app: 'web' } }, matchLabelKeys: ['rev', 'gone'] },
      ],
      affinity: {
        podAntiAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: [
            { labelSelector: {}, mismatchLabelKeys: ['rev'], topologyKey: 'zone' },
          ],
        },
      },
    },
  });
  strategyFor('', 'Pod').prepareForCreate?.(pod);
  const spec = pod['spec'] as {
    topologySpreadConstraints: { labelSelector: unknown }[];
    affinity: {
      podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { labelSelector: unknown }[] };
    };
  };
  assert.deepEqual(spec.topologySpreadConstraints[0]?.labelSelector, {
    matchLabels: { app: 'web' },
    matchExpressions: [{ key: 'rev', operator: 'In', values: ['7'] }],
  });
  assert.deepEqual(
    spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]?.labelSelector,
    {
      matchExpressions: [{ key: 'rev', operator: 'NotIn', values: ['7'] }],
    },
  );
});

test('a pod gets its grace period unless it never started or has ended', () => {
  const grace = (spec: object, status: object, requested?: number) =>
    strategyFor('', 'Pod').gracePeriodSeconds?.(old({ spec, status }), requested);
  const bound = { nodeName: 'n', terminationGracePeriodSeconds: 30 };
  assert.equal(grace(bound, { phase: 'Running' }), 30);
  assert.equal(grace(bound, { phase: 'Running' }, 5), 5);
  assert.equal(grace(bound, { phase: 'Running' }, -1), 1);
  assert.equal(grace(bound, { phase: 'Succeeded' }, 5), 0);
  assert.equal(grace({ terminationGracePeriodSeconds: 30 }, { phase: 'Pending' }, 5), 0);
  assert.equal(strategyFor('apps', 'Deployment').gracePeriodSeconds, undefined);
});

test('the status of a pod keeps its quality of service and its owners', () => {
  const before = old({
    metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'X', name: 'x', uid: 'u' }] },
    spec: { nodeName: 'n' },
    status: {
      qosClass: 'Burstable',
      conditions: [{ type: 'Ready', status: 'False', observedGeneration: 3 }],
    },
  });
  const update = object({
    spec: {},
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  });
  strategyFor('', 'Pod').prepareForStatusUpdate?.(update, before);
  assert.deepEqual(update['spec'], { nodeName: 'n' });
  assert.deepEqual(update['status'], {
    phase: 'Running',
    qosClass: 'Burstable',
    conditions: [{ type: 'Ready', status: 'True', observedGeneration: 3 }],
  });
  assert.equal(update.metadata.ownerReferences?.length, 1);
});

test('a namespace begins active and keeps its finalizers', () => {
  const strategy = strategyFor('', 'Namespace');
  const namespace = object({ spec: {} });
  strategy.prepareForCreate?.(namespace);
  assert.deepEqual(
    [namespace['spec'], namespace['status']],
    [{ finalizers: ['kubernetes'] }, { phase: 'Active' }],
  );
  const update = object({ spec: {} });
  strategy.prepareForUpdate?.(
    update,
    old({ spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } }),
  );
  assert.deepEqual(update['spec'], { finalizers: ['kubernetes'] });
});

test('a service follows the client that knows only clusterIP', () => {
  const strategy = strategyFor('', 'Service');
  const created = object({ spec: { type: 'ClusterIP', clusterIP: '10.0.0.1' } });
  strategy.prepareForCreate?.(created);
  assert.deepEqual((created['spec'] as { clusterIPs: string[] }).clusterIPs, ['10.0.0.1']);
  const before = old({
    spec: {
      type: 'NodePort',
      clusterIP: '10.0.0.1',
      clusterIPs: ['10.0.0.1'],
      ports: [{ port: 80, nodePort: 30000 }],
    },
  });
  const external = object({
    spec: { ...structuredClone((before as unknown as { spec: object }).spec), type: 'ExternalName' },
  });
  strategy.prepareForUpdate?.(external, before);
  assert.deepEqual(external['spec'], { type: 'ExternalName', ports: [{ port: 80 }] });
});

test('a job selects its pods by its own uid', () => {
  const job = object({ spec: { template: { spec: {} } } });
  strategyFor('batch', 'Job').prepareForCreate?.(job);
  const spec = job['spec'] as { selector: object; template: { metadata: { labels: object } } };
  assert.deepEqual(spec.selector, { matchLabels: { 'batch.kubernetes.io/controller-uid': 'u1' } });
  assert.deepEqual(spec.template.metadata.labels, {
    'job-name': 'x',
    'batch.kubernetes.io/job-name': 'x',
    'controller-uid': 'u1',
    'batch.kubernetes.io/controller-uid': 'u1',
  });
  const manual = object({ spec: { manualSelector: true, template: { spec: {} } } });
  strategyFor('batch', 'Job').prepareForCreate?.(manual);
  assert.equal((manual['spec'] as { selector?: object }).selector, undefined);
});

test('approval of a certificate is not for the status subresource', () => {
  const before = old({
    spec: { request: 'a' },
    status: { conditions: [{ type: 'Approved', status: 'True', reason: 'A' }] },
  });
  const update = object({
    spec: {},
    status: { certificate: 'c', conditions: [{ type: 'Approved', status: 'True', reason: 'B' }] },
  });
  const strategy = strategyFor('certificates.k8s.io', 'CertificateSigningRequest');
  strategy.prepareForStatusUpdate?.(update, before);
  assert.deepEqual(update['status'], {
    certificate: 'c',
    conditions: [{ type: 'Approved', status: 'True', reason: 'A' }],
  });
  assert.deepEqual(update['spec'], { request: 'a' });
  strategy.prepareForUpdate?.(update, before);
  assert.deepEqual(update['status'], { conditions: [{ type: 'Approved', status: 'True', reason: 'A' }] });
});

test('a custom resource definition remembers every version it stored objects in', () => {
  const strategy = strategyFor('apiextensions.k8s.io', 'CustomResourceDefinition');
  const versions = (stored: string) =>
    ['v1', 'v2'].map((name) => ({ name, served: true, storage: name === stored }));
  const definition = object({ spec: { versions: versions('v1') }, status: { storedVersions: ['v9'] } });
  strategy.prepareForCreate?.(definition);
  assert.deepEqual((definition['status'] as { storedVersions: string[] }).storedVersions, ['v1']);
  const before = old(definition);
  const update = object({ spec: { versions: versions('v2') } });
  strategy.prepareForUpdate?.(update, before);
  assert.deepEqual((update['status'] as { storedVersions: string[] }).storedVersions, ['v1', 'v2']);
});

test('kinds differ as upstream has it', () => {
  assert.equal(strategyFor('', 'Service').allowCreateOnUpdate, true);
  assert.equal(strategyFor('', 'Pod').allowCreateOnUpdate, false);
  assert.equal(strategyFor('coordination.k8s.io', 'Lease').allowUnconditionalUpdate, false);
  assert.equal(strategyFor('batch', 'Job').defaultGarbageCollection, 'orphan');
  assert.equal(strategyFor('apps', 'Deployment').defaultGarbageCollection, 'background');
  assert.equal(strategyFor('', 'ConfigMap').generation, false);
  assert.ok(strategyFor('', 'Event').selectableFields.includes('involvedObject.name'));
  assert.equal(strategyFor('example.com', 'constructor').allowCreateOnUpdate, false);
});

test('a volume tells when it entered its phase, whoever wrote the phase', () => {
  const strategy = strategyFor('', 'PersistentVolume');
  const now = Date.parse('2026-02-01T00:00:00Z');
  const then = '2026-01-01T00:00:00Z';
  const before = old({ spec: {}, status: { phase: 'Pending', lastPhaseTransitionTime: then } });
  const timeAfter = (status: object): unknown => {
    const update = object({ status });
    strategy.prepareForStatusUpdate?.(update, before, now);
    return (update['status'] as { lastPhaseTransitionTime?: string }).lastPhaseTransitionTime;
  };
  assert.equal(timeAfter({ phase: 'Bound' }), '2026-02-01T00:00:00Z');
  assert.equal(timeAfter({ phase: 'Bound', lastPhaseTransitionTime: then }), '2026-02-01T00:00:00Z');
  const own = '2026-01-15T00:00:00Z';
  assert.equal(timeAfter({ phase: 'Bound', lastPhaseTransitionTime: own }), own);
  assert.equal(timeAfter({ phase: 'Pending', message: 'm', lastPhaseTransitionTime: then }), then);
});

test('the two data sources of a claim follow one another', () => {
  const strategy = strategyFor('', 'PersistentVolumeClaim');
  const made = (spec: object): unknown => {
    const claim = object({ spec });
    strategy.prepareForCreate?.(claim);
    return claim['spec'];
  };
  const source = { kind: 'PersistentVolumeClaim', name: 'a' };
  assert.deepEqual(made({ dataSource: source }), { dataSource: source, dataSourceRef: source });
  assert.deepEqual(made({ dataSourceRef: source }), { dataSource: source, dataSourceRef: source });
  const elsewhere = { ...source, namespace: 'other' };
  assert.deepEqual(made({ dataSourceRef: elsewhere }), { dataSourceRef: elsewhere });
  assert.deepEqual(made({ dataSource: { apiGroup: 'x.y', kind: 'Z', name: 'a' } }), {});
  assert.deepEqual(made({}), {});
});
