import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conflict, type GroupVersionResource, type KubeObject, serviceUnavailable } from '../../api/index.ts';
import type { ClusterRole, ClusterRoleBinding } from '../../api/types/rbac-v1.ts';
import { silentLogger, systemClock } from '../../component/index.ts';
import { RbacAuthorizer } from '../authorization/rbac.ts';
import type { AuthorizerAttributes, SeedObject } from '../chain.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { FakeTransport } from '../testing/fake-transport.ts';
import { bootstrapObjects } from './objects.ts';
import { keepBootstrapObjects, reconcileBootstrapObjects } from './reconcile.ts';

const RBAC = 'rbac.authorization.k8s.io';
const options = {
  serviceCidrs: ['10.96.0.0/12'],
  port: 6443,
  clientCa: 'PEM',
};

function contextOf(objects: FakeObjects, transport: FakeTransport) {
  return {
    reader: objects,
    transport,
    seed: (resource: GroupVersionResource, object: SeedObject) =>
      transport.call({
        verb: 'create',
        resource,
        body: object,
        ...(object.metadata.namespace !== undefined && { namespace: object.metadata.namespace }),
      }) as Promise<KubeObject>,
    clock: systemClock,
    logger: silentLogger,
  };
}

function server() {
  const objects = new FakeObjects();
  const transport = new FakeTransport(objects);
  const context = contextOf(objects, transport);
  return { objects, transport, run: () => reconcileBootstrapObjects(context, options) };
}

const asks = (name: string, groups: string[], more: Partial<AuthorizerAttributes>): AuthorizerAttributes => ({
  user: { name, groups },
  verb: 'get',
  resourceRequest: true,
  path: '',
  group: '',
  version: 'v1',
  resource: '',
  subresource: '',
  namespace: '',
  name: '',
  ...more,
});

test('the default objects have distinct names and sorted rules', () => {
  const objects = bootstrapObjects(options, 'now');
  const keys = objects.map(
    (o) => `${o.resource.resource}/${o.object.metadata.namespace ?? ''}/${o.object.metadata.name}`,
  );
  assert.equal(new Set(keys).size, keys.length);
  const role = objects.find((o) => o.object.metadata.name === 'system:kube-dns');
  assert.deepEqual(role?.object, {
    metadata: {
      name: 'system:kube-dns',
      labels: { 'kubernetes.io/bootstrapping': 'rbac-defaults' },
      annotations: { 'rbac.authorization.kubernetes.io/autoupdate': 'true' },
    },
    rules: [{ verbs: ['list', 'watch'], apiGroups: [''], resources: ['endpoints', 'services'] }],
  });
});

test('an empty store gets everything once; a second start writes nothing', async () => {
  const { objects, transport, run } = server();
  await run();
  assert.ok(objects.get('', 'namespaces', '', 'kube-node-lease'));
  const service = objects.get<KubeObject & { spec: { clusterIP: string } }>(
    '',
    'services',
    'default',
    'kubernetes',
  );
  assert.equal(service?.spec.clusterIP, '10.96.0.1');
  const written = transport.calls.length;
  assert.ok(written > 160, `${written} objects`);
  await run();
  assert.equal(transport.calls.length, written);
});

test('missing rules, labels and subjects come back; what was added stays; a role taken over is left alone', async () => {
  const { objects, transport, run } = server();
  await run();
  const role = objects.get<ClusterRole>(RBAC, 'clusterroles', '', 'system:kube-dns')!;
  const own = { verbs: ['get'], apiGroups: ['mine'], resources: ['things'] };
  objects.put(RBAC, 'clusterroles', {
    ...role,
    metadata: { ...role.metadata, labels: { mine: 'yes' } },
    rules: [{ verbs: ['list'], apiGroups: [''], resources: ['endpoints', 'services'] }, own],
  });
  const binding = objects.get<ClusterRoleBinding>(RBAC, 'clusterrolebindings', '', 'cluster-admin')!;
  objects.put(RBAC, 'clusterrolebindings', { ...binding, metadata: { ...binding.metadata }, subjects: [] });
  const node = objects.get<ClusterRole>(RBAC, 'clusterroles', '', 'system:heapster')!;
  objects.put(RBAC, 'clusterroles', {
    ...node,
    metadata: { ...node.metadata, annotations: { 'rbac.authorization.kubernetes.io/autoupdate': 'false' } },
    rules: [],
  });
  const before = transport.calls.length;
  await run();
  assert.equal(transport.calls.length, before + 2);
  const again = objects.get<ClusterRole>(RBAC, 'clusterroles', '', 'system:kube-dns')!;
  assert.deepEqual(again.metadata.labels, { 'kubernetes.io/bootstrapping': 'rbac-defaults', mine: 'yes' });
  assert.deepEqual(again.rules?.slice(1), [
    own,
    { verbs: ['watch'], apiGroups: [''], resources: ['endpoints'] },
    { verbs: ['watch'], apiGroups: [''], resources: ['services'] },
  ]);
  const bound = objects.get<ClusterRoleBinding>(RBAC, 'clusterrolebindings', '', 'cluster-admin')!;
  assert.deepEqual(
    bound.subjects?.map((s) => s.name),
    ['system:masters'],
  );
});

test('a binding to another role is replaced, because a roleRef cannot change', async () => {
  const { objects, transport, run } = server();
  await run();
  const binding = objects.get<ClusterRoleBinding>(RBAC, 'clusterrolebindings', '', 'system:kube-dns')!;
  objects.put(RBAC, 'clusterrolebindings', {
    ...binding,
    metadata: { ...binding.metadata },
    roleRef: { ...binding.roleRef, name: 'view' },
  });
  const before = transport.calls.length;
  await run();
  assert.deepEqual(
    transport.calls.slice(before).map((c) => c.verb),
    ['delete', 'create'],
  );
});

test('a moved server changes the port of its service, which keeps its address', async () => {
  const { objects, transport } = server();
  const context = contextOf(objects, transport);
  await reconcileBootstrapObjects(context, options);
  await reconcileBootstrapObjects(context, {
    ...options,
    serviceCidrs: ['10.0.0.0/24'],
    port: 7443,
  });
  const service = objects.get<KubeObject & { spec: { clusterIP: string; ports: { targetPort: number }[] } }>(
    '',
    'services',
    'default',
    'kubernetes',
  );
  assert.equal(service?.spec.clusterIP, '10.96.0.1');
  assert.equal(service?.spec.ports[0]?.targetPort, 7443);
});

test('a default object that is deleted while the server runs comes back', async () => {
  const { objects, transport, run } = server();
  await run();
  const keeper = keepBootstrapObjects(contextOf(objects, transport), options);
  const before = transport.calls.length;
  objects.remove('', 'services', 'default', 'kubernetes');
  objects.remove('', 'namespaces', '', 'kube-node-lease');
  objects.remove(RBAC, 'clusterroles', '', 'system:heapster');
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(objects.get('', 'services', 'default', 'kubernetes'));
  assert.ok(objects.get('', 'namespaces', '', 'kube-node-lease'));
  assert.equal(transport.calls.length, before + 2);
  keeper[Symbol.dispose]();
  assert.equal(objects.followers, 0);
});

test('a write that another server did first is taken as done; a failure names its object', async () => {
  const { objects, transport, run } = server();
  let raced = false;
  transport.before = (call) => {
    if (raced || call.resource.resource !== 'priorityclasses') return;
    raced = true;
    objects.put(call.resource.group, 'priorityclasses', call.body as never);
    throw conflict({ group: '', name: 'priorityclasses' }, 'x', 'lost');
  };
  await run();
  assert.ok(raced);

  const other = server();
  other.transport.before = (call) => {
    if (call.resource.resource === 'flowschemas') throw serviceUnavailable('disk full');
  };
  await assert.rejects(other.run(), /cannot set up the default object flowschemas .*disk full/);
});

test('the default roles mean what they say', async () => {
  const { objects, run } = server();
  await run();
  objects.put(RBAC, 'rolebindings', {
    metadata: { name: 'b', namespace: 'dev' },
    roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: 'edit' },
    subjects: [{ kind: 'User', apiGroup: RBAC, name: 'jane' }],
  });
  using rbac = new RbacAuthorizer(objects);
  const allowed = (attributes: AuthorizerAttributes): boolean =>
    rbac.authorize(attributes).decision === 'allow';
  const jane = (more: Partial<AuthorizerAttributes>) => allowed(asks('jane', ['system:authenticated'], more));
  assert.ok(jane({ verb: 'create', resource: 'pods', namespace: 'dev' }));
  assert.ok(
    jane({ verb: 'get', resource: 'pods', subresource: 'log', namespace: 'dev', name: 'x' }),
    'edit gathers view',
  );
  assert.ok(!jane({ verb: 'create', resource: 'pods', namespace: 'prod' }));
  assert.ok(!jane({ verb: 'create', group: RBAC, resource: 'roles', namespace: 'dev' }));
  assert.ok(jane({ verb: 'create', group: 'authorization.k8s.io', resource: 'selfsubjectaccessreviews' }));
  assert.ok(jane({ resourceRequest: false, path: '/apis/apps/v1' }));
  assert.ok(!jane({ resourceRequest: false, path: '/metrics' }));
  const anonymous = (path: string) =>
    allowed(asks('system:anonymous', ['system:unauthenticated'], { resourceRequest: false, path }));
  assert.ok(anonymous('/readyz'));
  assert.ok(!anonymous('/api'));
  const collector = 'system:serviceaccount:kube-system:generic-garbage-collector';
  assert.ok(
    allowed(
      asks(collector, [], {
        verb: 'delete',
        group: 'any.example',
        resource: 'things',
        namespace: 'x',
        name: 'y',
      }),
    ),
  );
  assert.ok(!allowed(asks(collector, [], { verb: 'create', resource: 'pods', namespace: 'x' })));
  const scaler = 'system:serviceaccount:kube-system:horizontal-pod-autoscaler';
  assert.ok(
    allowed(
      asks(scaler, [], { verb: 'update', group: 'any.example', resource: 'things', subresource: 'scale' }),
    ),
  );
});
