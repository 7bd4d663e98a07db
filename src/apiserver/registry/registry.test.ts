import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { StatusError } from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import type { ApiCall, Transport } from '../../api/transport.ts';
import type { Status } from '../../api/types/meta-v1.ts';
import { ManualClock } from '../../component/index.ts';
import type { AdmissionPlugin } from '../chain.ts';
import { startTestServer, type TestServer } from '../testing/test-server.ts';

type Any = KubeObject &
  Record<string, unknown> & { spec: Record<string, unknown>; status: Record<string, unknown> };

const clock = new ManualClock(Date.parse('2026-03-01T12:00:00Z'));
let plugins: AdmissionPlugin[] = [];
let server: TestServer;
let api: Transport;
let namespace: string;
let counter = 0;

before(async () => {
  const admission: AdmissionPlugin = {
    name: 'TestHooks',
    handles: () => true,
    async admit(attributes) {
      for (const plugin of plugins)
        if (plugin.handles(attributes.operation)) await plugin.admit?.(attributes);
    },
    async validate(attributes) {
      for (const plugin of plugins)
        if (plugin.handles(attributes.operation)) await plugin.validate?.(attributes);
    },
  };
  server = await startTestServer({ clock, admission: [admission] });
  api = server.transport;
});
after(() => server[Symbol.asyncDispose]());
beforeEach(() => {
  plugins = [];
  namespace = `test-${++counter}`;
});

const group: Readonly<Record<string, readonly [group: string, version: string]>> = {
  deployments: ['apps', 'v1'],
  horizontalpodautoscalers: ['autoscaling', 'v2'],
  poddisruptionbudgets: ['policy', 'v1'],
  leases: ['coordination.k8s.io', 'v1'],
  certificatesigningrequests: ['certificates.k8s.io', 'v1'],
};

function call(verb: ApiCall['verb'], resource: string, rest: Partial<ApiCall> = {}): Promise<Any> {
  const [g, version] = group[resource] ?? ['', 'v1'];
  const clustered = ['namespaces', 'nodes', 'certificatesigningrequests'].includes(resource);
  return api.call({
    verb,
    resource: { group: g, version, resource },
    ...(clustered ? {} : { namespace }),
    ...rest,
  }) as Promise<Any>;
}

async function refusal(promise: Promise<unknown>): Promise<Status & { code: number }> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof StatusError, `not a StatusError: ${String(error)}`);
    return error.status;
  }
  assert.fail('the call was not refused');
}

const configMap = (name: string, extra: object = {}): object => ({
  metadata: { name, ...((extra as { metadata?: object }).metadata ?? {}) },
  data: { k: 'v' },
  ...Object.fromEntries(Object.entries(extra).filter(([key]) => key !== 'metadata')),
});
const pod = (name: string, metadata: object = {}): object => ({
  metadata: { name, ...metadata },
  spec: { containers: [{ name: 'c', image: 'i' }] },
});
const deployment = (name: string): object => ({
  metadata: { name },
  spec: {
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: 'c', image: 'i' }] },
    },
  },
});

test('create sets uid, creationTimestamp, generation and resourceVersion, and drops what a client may not set', async () => {
  const object = await call('create', 'deployments', {
    body: {
      ...deployment('web'),
      metadata: {
        name: 'web',
        uid: 'mine',
        generation: 9,
        creationTimestamp: '2000-01-01T00:00:00Z',
        deletionTimestamp: '2000-01-01T00:00:00Z',
        selfLink: '/x',
        managedFields: [{ manager: 'm' }],
      },
      status: { replicas: 5 },
    },
  });
  assert.match(object.metadata.uid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(object.metadata.creationTimestamp, '2026-03-01T12:00:00Z');
  assert.equal(object.metadata.generation, 1);
  assert.equal(object.metadata.deletionTimestamp, undefined);
  assert.equal(object.metadata.managedFields, undefined);
  assert.equal((object.status as { replicas?: number } | undefined)?.replicas, undefined);
  assert.equal(object.metadata.resourceVersion, String(server.store.revision));
});

test('an object with a resourceVersion is not created', async () => {
  const status = await refusal(
    call('create', 'configmaps', { body: configMap('a', { metadata: { resourceVersion: '7' } }) }),
  );
  assert.equal(status.message, 'resourceVersion should not be set on objects to be created');
});

test('objects that are handed out are frozen and shared', async () => {
  await call('create', 'configmaps', { body: configMap('a', { metadata: { labels: { x: 'y' } } }) });
  const one = await call('get', 'configmaps', { name: 'a' });
  const two = await call('get', 'configmaps', { name: 'a' });
  assert.equal(one, two);
  assert.ok(Object.isFrozen(one) && Object.isFrozen(one.metadata) && Object.isFrozen(one.metadata.labels));
});

test('a second create of the same name is a 409 that names the object', async () => {
  await call('create', 'configmaps', { body: configMap('a') });
  const status = await refusal(call('create', 'configmaps', { body: configMap('a') }));
  assert.equal(status.code, 409);
  assert.equal(status.reason, 'AlreadyExists');
  assert.equal(status.message, 'configmaps "a" already exists');
  assert.deepEqual(status.details, { name: 'a', kind: 'configmaps' });
});

test('generateName makes a name of five more characters and tries again when it is taken', async () => {
  const made = await call('create', 'configmaps', { body: { metadata: { generateName: 'job-' } } });
  assert.match(made.metadata.name, /^job-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
  assert.equal(made.metadata.generateName, 'job-');
});

test('a name or namespace that differs from the URL is refused', async () => {
  await call('create', 'configmaps', { body: configMap('a') });
  const other = await refusal(
    call('create', 'configmaps', { body: configMap('b', { metadata: { namespace: 'other' } }) }),
  );
  assert.equal(
    other.message,
    'the namespace of the provided object does not match the namespace sent on the request',
  );
  const name = await refusal(call('update', 'configmaps', { name: 'a', body: configMap('b') }));
  assert.equal(name.message, 'the name of the object (b) does not match the name on the URL (a)');
  assert.equal(name.code, 400);
});

test('an update with a stale resourceVersion conflicts in the words that clients look for', async () => {
  const made = await call('create', 'deployments', { body: deployment('web') });
  await call('patch', 'deployments', {
    name: 'web',
    patchType: 'application/merge-patch+json',
    body: { spec: { replicas: 3 } },
  });
  const status = await refusal(call('update', 'deployments', { name: 'web', body: made }));
  assert.equal(status.code, 409);
  assert.equal(status.reason, 'Conflict');
  assert.equal(
    status.message,
    'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version and try again',
  );
});

test('an update that changes nothing is not written', async () => {
  const made = await call('create', 'deployments', { body: deployment('web') });
  const revision = server.store.revision;
  const again = await call('update', 'deployments', { name: 'web', body: made });
  assert.equal(again.metadata.resourceVersion, made.metadata.resourceVersion);
  const patched = await call('patch', 'deployments', {
    name: 'web',
    patchType: 'application/merge-patch+json',
    body: { metadata: { labels: null } },
  });
  assert.equal(patched.metadata.resourceVersion, made.metadata.resourceVersion);
  assert.equal(server.store.revision, revision);
});

test('generation counts changes of the spec, not of labels or status', async () => {
  await call('create', 'deployments', { body: deployment('web') });
  const merge = (body: object, subresource?: string): Promise<Any> =>
    call('patch', 'deployments', {
      name: 'web',
      patchType: 'application/merge-patch+json',
      body,
      ...(subresource === undefined ? {} : { subresource }),
    });
  assert.equal((await merge({ metadata: { labels: { a: 'b' } } })).metadata.generation, 1);
  assert.equal((await merge({ status: { replicas: 4 } }, 'status')).metadata.generation, 1);
  assert.equal((await merge({ spec: { replicas: 4 } })).metadata.generation, 2);
});

test('a write through the object leaves the status alone and one through status leaves the rest alone', async () => {
  await call('create', 'deployments', { body: deployment('web') });
  const main = await call('patch', 'deployments', {
    name: 'web',
    patchType: 'application/merge-patch+json',
    body: { spec: { replicas: 2 }, status: { replicas: 9 } },
  });
  assert.equal((main.status as { replicas?: number } | undefined)?.replicas, undefined);
  const status = await call('patch', 'deployments', {
    name: 'web',
    subresource: 'status',
    patchType: 'application/merge-patch+json',
    body: { spec: { replicas: 7 }, status: { replicas: 2 } },
  });
  assert.equal(status.spec['replicas'], 2);
  assert.equal(status.status['replicas'], 2);
});

test('writes that race each other on one object all come through when none says which version it means', async () => {
  await call('create', 'configmaps', { body: configMap('a') });
  await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      call('patch', 'configmaps', {
        name: 'a',
        patchType: 'application/merge-patch+json',
        body: { data: { [`k${i}`]: 'v' } },
      }),
    ),
  );
  const all = await call('get', 'configmaps', { name: 'a' });
  assert.equal(Object.keys(all['data'] as object).length, 21);
});

test('a dry run goes through everything and writes nothing', async () => {
  const settled: boolean[] = [];
  plugins = [
    {
      name: 'Recorder',
      handles: () => true,
      admit: ({ dryRun, onSettled }) => {
        assert.equal(dryRun, true);
        onSettled((committed) => settled.push(committed));
      },
    },
  ];
  const { revision } = server.store;
  const query = { dryRun: 'All' };
  const made = await call('create', 'configmaps', { body: configMap('a'), query });
  assert.equal(made.metadata.name, 'a');
  assert.ok(made.metadata.uid);
  assert.equal(made.metadata.resourceVersion, undefined);
  plugins = [];
  await call('create', 'configmaps', { body: configMap('b') });
  const changed = await call('patch', 'configmaps', {
    name: 'b',
    patchType: 'application/merge-patch+json',
    body: { data: { k: 'w' } },
    query,
  });
  assert.deepEqual(changed['data'], { k: 'w' });
  await call('delete', 'configmaps', { name: 'b', query });
  await call('delete', 'configmaps', { name: 'b', body: { dryRun: ['All'] } });
  assert.deepEqual((await call('get', 'configmaps', { name: 'b' }))['data'], { k: 'v' });
  assert.equal(server.store.revision, revision + 1);
  assert.deepEqual(settled, [false]);
  const bad = await refusal(
    call('create', 'configmaps', { body: configMap('c'), query: { dryRun: 'Some' } }),
  );
  assert.equal(bad.code, 422);
  assert.match(bad.message ?? '', /^CreateOptions\.meta\.k8s\.io "" is invalid: dryRun: /);
});

test('plugins that reserve something hear whether the object was written', async () => {
  const settled: [string, boolean][] = [];
  plugins = [
    {
      name: 'Reserver',
      handles: (operation) => operation === 'CREATE',
      admit: ({ name, onSettled }) => onSettled((committed) => settled.push([name, committed])),
    },
  ];
  await call('create', 'configmaps', { body: configMap('good') });
  await refusal(call('create', 'configmaps', { body: configMap('good') }));
  await refusal(call('create', 'configmaps', { body: configMap('Bad_Name/') }));
  assert.deepEqual(settled, [
    ['good', true],
    ['good', false],
    ['Bad_Name/', false],
  ]);
});

test('delete answers with a Status that names the object, or with the object for kinds that upstream does so for', async () => {
  const made = await call('create', 'configmaps', { body: configMap('a') });
  const status = (await call('delete', 'configmaps', { name: 'a' })) as unknown as Status;
  assert.deepEqual(status, {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: { name: 'a', kind: 'configmaps', uid: made.metadata.uid },
  });
  assert.equal((await refusal(call('get', 'configmaps', { name: 'a' }))).message, 'configmaps "a" not found');
  await call('create', 'pods', { body: pod('p') });
  const gone = await call('delete', 'pods', { name: 'p' });
  assert.equal(gone.kind, 'Pod');
});

test('an object with finalizers is marked and goes with the last of them', async () => {
  await call('create', 'configmaps', {
    body: configMap('a', { metadata: { finalizers: ['example.com/one', 'example.com/two'] } }),
  });
  const marked = await call('delete', 'configmaps', { name: 'a' });
  assert.equal(marked.metadata.deletionTimestamp, '2026-03-01T12:00:00Z');
  assert.equal(marked.metadata.deletionGracePeriodSeconds, 0);
  const again = await refusal(call('create', 'configmaps', { body: configMap('a') }));
  assert.equal(again.message, 'object is being deleted: configmaps "a" already exists');
  const added = await refusal(
    call('patch', 'configmaps', {
      name: 'a',
      patchType: 'application/merge-patch+json',
      body: { metadata: { finalizers: ['example.com/one', 'example.com/new'] } },
    }),
  );
  assert.match(added.message ?? '', /no new finalizers can be added if the object is being deleted/);
  const finalizers = (left: string[]): Promise<Any> =>
    call('patch', 'configmaps', {
      name: 'a',
      patchType: 'application/merge-patch+json',
      body: { metadata: { finalizers: left } },
    });
  await finalizers(['example.com/two']);
  assert.equal((await call('get', 'configmaps', { name: 'a' })).metadata.finalizers?.length, 1);
  await finalizers([]);
  assert.equal((await refusal(call('get', 'configmaps', { name: 'a' }))).code, 404);
});

test('the propagation policy becomes a finalizer', async () => {
  for (const name of ['f', 'o', 'b']) await call('create', 'deployments', { body: deployment(name) });
  const foreground = await call('delete', 'deployments', {
    name: 'f',
    body: { propagationPolicy: 'Foreground' },
  });
  assert.deepEqual(foreground.metadata.finalizers, ['foregroundDeletion']);
  const orphan = await call('delete', 'deployments', { name: 'o', query: { propagationPolicy: 'Orphan' } });
  assert.deepEqual(orphan.metadata.finalizers, ['orphan']);
  const background = await call('delete', 'deployments', {
    name: 'b',
    body: { propagationPolicy: 'Background' },
  });
  assert.equal(background.kind, 'Status');
  const both = await refusal(
    call('delete', 'deployments', {
      name: 'f',
      body: { propagationPolicy: 'Background', orphanDependents: true },
    }),
  );
  assert.match(both.message ?? '', /orphanDependents and deletionPropagation cannot be both set/);
  const unknown = await refusal(
    call('delete', 'deployments', { name: 'f', body: { propagationPolicy: 'Sideways' } }),
  );
  assert.equal(unknown.code, 422);
});

test('preconditions of a delete hold it back', async () => {
  const made = await call('create', 'configmaps', { body: configMap('a') });
  const uid = await refusal(
    call('delete', 'configmaps', { name: 'a', body: { preconditions: { uid: 'other' } } }),
  );
  assert.equal(uid.code, 409);
  assert.equal(
    uid.message,
    `Operation cannot be fulfilled on configmaps "a": the UID in the precondition (other) does not match the UID in record (${made.metadata.uid}). The object might have been deleted and then recreated`,
  );
  const version = await refusal(
    call('delete', 'configmaps', { name: 'a', body: { preconditions: { resourceVersion: '1' } } }),
  );
  assert.equal(version.reason, 'Conflict');
  await call('delete', 'configmaps', {
    name: 'a',
    body: { preconditions: { uid: made.metadata.uid, resourceVersion: made.metadata.resourceVersion } },
  });
});

test('a pod on a node is given its grace period, which may only become shorter', async () => {
  await call('create', 'pods', { body: pod('p') });
  await call('create', 'pods', {
    name: 'p',
    subresource: 'binding',
    body: { metadata: { name: 'p' }, target: { kind: 'Node', name: 'n1' } },
  });
  const marked = await call('delete', 'pods', { name: 'p' });
  assert.equal(marked.metadata.deletionGracePeriodSeconds, 30);
  assert.equal(marked.metadata.deletionTimestamp, '2026-03-01T12:00:30Z');
  const longer = await call('delete', 'pods', { name: 'p', body: { gracePeriodSeconds: 60 } });
  assert.equal(longer.metadata.deletionGracePeriodSeconds, 30);
  const shorter = await call('delete', 'pods', { name: 'p', body: { gracePeriodSeconds: 5 } });
  assert.equal(shorter.metadata.deletionGracePeriodSeconds, 5);
  assert.equal(shorter.metadata.deletionTimestamp, '2026-03-01T12:00:05Z');
  await call('delete', 'pods', { name: 'p', body: { gracePeriodSeconds: 0 } });
  assert.equal((await refusal(call('get', 'pods', { name: 'p' }))).code, 404);
});

test('a pod that no node has yet goes at once', async () => {
  await call('create', 'pods', { body: pod('p') });
  await call('delete', 'pods', { name: 'p' });
  assert.equal((await refusal(call('get', 'pods', { name: 'p' }))).code, 404);
});

test('binding sets the node and the PodScheduled condition, once', async () => {
  await call('create', 'pods', { body: pod('p') });
  const binding = { metadata: { name: 'p', annotations: { a: 'b' } }, target: { kind: 'Node', name: 'n1' } };
  const status = await call('create', 'pods', { name: 'p', subresource: 'binding', body: binding });
  assert.deepEqual(status, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 });
  const bound = await call('get', 'pods', { name: 'p' });
  assert.equal(bound.spec['nodeName'], 'n1');
  assert.equal(bound.metadata.annotations?.['a'], 'b');
  const conditions = bound.status['conditions'] as { type: string; status: string }[];
  assert.ok(conditions.some(({ type, status }) => type === 'PodScheduled' && status === 'True'));
  const twice = await refusal(call('create', 'pods', { name: 'p', subresource: 'binding', body: binding }));
  assert.equal(twice.code, 409);
  assert.equal(
    twice.message,
    'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"',
  );
});

test('scale shows and changes replicas of the object', async () => {
  await call('create', 'deployments', { body: deployment('web') });
  const scale = await call('get', 'deployments', { name: 'web', subresource: 'scale' });
  assert.equal(scale.kind, 'Scale');
  assert.deepEqual(scale.spec, { replicas: 1 });
  assert.equal(scale.status['selector'], 'app=web');
  const scaled = await call('update', 'deployments', {
    name: 'web',
    subresource: 'scale',
    body: { ...scale, spec: { replicas: 4 } },
  });
  assert.deepEqual(scaled.spec, { replicas: 4 });
  assert.equal((await call('get', 'deployments', { name: 'web' })).spec['replicas'], 4);
  const stale = await refusal(
    call('update', 'deployments', { name: 'web', subresource: 'scale', body: scale }),
  );
  assert.equal(stale.reason, 'Conflict');
  const negative = await refusal(
    call('patch', 'deployments', {
      name: 'web',
      subresource: 'scale',
      patchType: 'application/merge-patch+json',
      body: { spec: { replicas: -1 } },
    }),
  );
  assert.equal(
    negative.message,
    'Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0',
  );
});

test('the last version of an autoscaler is served in the older one too', async () => {
  await call('create', 'horizontalpodautoscalers', {
    body: {
      metadata: { name: 'h' },
      spec: {
        maxReplicas: 3,
        scaleTargetRef: { kind: 'Deployment', name: 'web', apiVersion: 'apps/v1' },
        metrics: [
          {
            type: 'Resource',
            resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 40 } },
          },
        ],
      },
    },
  });
  const v1 = { group: 'autoscaling', version: 'v1', resource: 'horizontalpodautoscalers' };
  const old = (await api.call({ verb: 'get', resource: v1, namespace, name: 'h' })) as Any;
  assert.equal(old.apiVersion, 'autoscaling/v1');
  assert.equal(old.spec['targetCPUUtilizationPercentage'], 40);
  const patched = (await api.call({
    verb: 'patch',
    resource: v1,
    namespace,
    name: 'h',
    patchType: 'application/merge-patch+json',
    body: { spec: { targetCPUUtilizationPercentage: 60 } },
  })) as Any;
  assert.equal(patched.spec['targetCPUUtilizationPercentage'], 60);
  const list = (await api.call({ verb: 'list', resource: v1, namespace })) as unknown as { items: Any[] };
  assert.equal(list.items[0]!.apiVersion, 'autoscaling/v1');
});

test('a namespace is marked Terminating and goes when finalize takes its last finalizer', async () => {
  await call('create', 'namespaces', { body: { metadata: { name: namespace } } });
  const marked = await call('delete', 'namespaces', { name: namespace });
  assert.equal(marked.status['phase'], 'Terminating');
  assert.deepEqual(marked.spec['finalizers'], ['kubernetes']);
  const finalized = await call('update', 'namespaces', {
    name: namespace,
    subresource: 'finalize',
    body: { ...marked, spec: { finalizers: [] } },
  });
  assert.equal(finalized.metadata.name, namespace);
  assert.equal((await refusal(call('get', 'namespaces', { name: namespace }))).code, 404);
});

test('deletecollection deletes what the selector chooses and answers with it', async () => {
  for (const [name, app] of [
    ['a', 'x'],
    ['b', 'x'],
    ['c', 'y'],
  ])
    await call('create', 'configmaps', { body: configMap(name!, { metadata: { labels: { app } } }) });
  const list = (await call('deletecollection', 'configmaps', {
    query: { labelSelector: 'app=x' },
  })) as unknown as { items: Any[] };
  assert.deepEqual(
    list.items.map((one) => one.metadata.name),
    ['a', 'b'],
  );
  const left = (await call('list', 'configmaps')) as unknown as { items: Any[] };
  assert.deepEqual(
    left.items.map((one) => one.metadata.name),
    ['c'],
  );
});

async function runningPod(name: string, app: string): Promise<void> {
  await call('create', 'pods', { body: pod(name, { labels: { app } }) });
  await call('create', 'pods', {
    name,
    subresource: 'binding',
    body: { metadata: { name }, target: { kind: 'Node', name: 'n1' } },
  });
  await call('patch', 'pods', {
    name,
    subresource: 'status',
    patchType: 'application/merge-patch+json',
    body: { status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } },
  });
}

const evict = (name: string, extra: object = {}): Promise<Any> =>
  call('create', 'pods', {
    name,
    subresource: 'eviction',
    body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name }, ...extra },
  });

test('eviction takes a disruption from the budget and is refused with 429 when there is none', async () => {
  for (const name of ['p1', 'p2']) await runningPod(name, 'web');
  await call('create', 'poddisruptionbudgets', {
    body: {
      metadata: { name: 'budget' },
      spec: { minAvailable: 1, selector: { matchLabels: { app: 'web' } } },
    },
  });
  const unprocessed = await refusal(evict('p1'));
  assert.equal(unprocessed.code, 429);
  assert.equal(unprocessed.details?.retryAfterSeconds, 10);
  await call('patch', 'poddisruptionbudgets', {
    name: 'budget',
    subresource: 'status',
    patchType: 'application/merge-patch+json',
    body: {
      status: {
        observedGeneration: 1,
        disruptionsAllowed: 1,
        currentHealthy: 2,
        desiredHealthy: 1,
        expectedPods: 2,
      },
    },
  });
  await evict('p1');
  const budget = await call('get', 'poddisruptionbudgets', { name: 'budget' });
  assert.equal(budget.status['disruptionsAllowed'], 0);
  assert.deepEqual(Object.keys(budget.status['disruptedPods'] as object), ['p1']);
  const refused = await refusal(evict('p2'));
  assert.equal(refused.message, "Cannot evict pod as it would violate the pod's disruption budget.");
  assert.deepEqual(refused.details?.causes, [
    {
      reason: 'DisruptionBudget',
      message: 'The disruption budget budget needs 1 healthy pods and has 2 currently',
    },
  ]);
});

test('a pod that does not run is evicted without asking the budget', async () => {
  await call('create', 'pods', { body: pod('p', { labels: { app: 'web' } }) });
  await call('create', 'poddisruptionbudgets', {
    body: {
      metadata: { name: 'budget' },
      spec: { minAvailable: 1, selector: { matchLabels: { app: 'web' } } },
    },
  });
  // As old clients ask for it.
  await evict('p', { apiVersion: 'policy/v1beta1' });
  assert.equal((await refusal(call('get', 'pods', { name: 'p' }))).code, 404);
});

test('ephemeral containers may be added to a pod and nothing else changes with them', async () => {
  await call('create', 'pods', { body: pod('p') });
  const container = { name: 'debug', image: 'busybox' };
  const changed = await call('patch', 'pods', {
    name: 'p',
    subresource: 'ephemeralcontainers',
    patchType: 'application/strategic-merge-patch+json',
    body: { spec: { ephemeralContainers: [container], priority: 7 } },
  });
  const added = changed.spec['ephemeralContainers'] as { name: string }[];
  assert.equal(added[0]!.name, 'debug');
  assert.equal(changed.spec['priority'], undefined);
  const removed = await refusal(
    call('patch', 'pods', {
      name: 'p',
      subresource: 'ephemeralcontainers',
      patchType: 'application/merge-patch+json',
      body: { spec: { ephemeralContainers: [] } },
    }),
  );
  assert.match(removed.message ?? '', /existing ephemeral containers "debug" may not be removed/);
});

test('PUT to a lease that is not there creates it and to a ConfigMap that is not there is a 404', async () => {
  const made = await call('update', 'leases', { name: 'l', body: { metadata: { name: 'l' }, spec: {} } });
  assert.equal(made.metadata.name, 'l');
  const missing = await refusal(call('update', 'configmaps', { name: 'x', body: configMap('x') }));
  assert.equal(missing.code, 404);
});

test('what is wrong with metadata is told field by field', async () => {
  const status = await refusal(
    call('create', 'configmaps', {
      body: configMap('a', {
        metadata: {
          labels: { 'bad key!': 'x', good: 'bad value!' },
          finalizers: ['not qualified!'],
          ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: '', uid: '' }],
        },
      }),
    }),
  );
  assert.equal(status.code, 422);
  assert.equal(status.reason, 'Invalid');
  assert.equal(status.details?.kind, 'ConfigMap');
  const fields = new Set(status.details?.causes?.map(({ field }) => field));
  for (const field of ['metadata.labels', 'metadata.finalizers', 'metadata.ownerReferences.name'])
    assert.ok(fields.has(field), `${field} is not among ${[...fields].join(', ')}`);
});

test('immutable metadata cannot be changed by an update', async () => {
  await call('create', 'configmaps', { body: configMap('a') });
  const status = await refusal(
    call('patch', 'configmaps', {
      name: 'a',
      patchType: 'application/merge-patch+json',
      body: { metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } },
    }),
  );
  assert.match(status.message ?? '', /may only be changed via deletion/);
  const uid = await refusal(
    call('update', 'configmaps', { name: 'a', body: configMap('a', { metadata: { uid: 'other' } }) }),
  );
  assert.equal(uid.code, 409);
});

test('verbs and subresources that a resource does not have are refused by name', async () => {
  const review = { group: 'authorization.k8s.io', version: 'v1', resource: 'subjectaccessreviews' };
  assert.equal((await refusal(api.call({ verb: 'list', resource: review }))).code, 405);
  const none = await refusal(call('get', 'configmaps', { name: 'a', subresource: 'status' }));
  assert.equal(none.code, 404);
  const resource = { group: 'example.com', version: 'v1', resource: 'things' };
  assert.equal((await refusal(api.call({ verb: 'list', resource }))).code, 404);
});

test('server-side apply is refused with a message that names it, whatever its options, on objects old and new', async () => {
  await call('create', 'configmaps', { body: configMap('a') });
  for (const name of ['a', 'new']) {
    const status = await refusal(
      call('patch', 'configmaps', {
        name,
        patchType: 'application/apply-patch+yaml',
        body: configMap(name),
        query: { fieldManager: 'm', force: 'true' },
      }),
    );
    assert.equal(status.code, 415);
    assert.match(status.message ?? '', /server-side apply is not served yet/);
  }
});
