import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rule } from '../bootstrap/policy-rule.ts';
import type { AuthorizerAttributes } from '../chain.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { compactRules, ruleText, uncoveredGrants } from './coverage.ts';
import { forbiddenRequest } from './forbidden-message.ts';
import { NodeAuthorizer } from './node.ts';
import { RbacAuthorizer } from './rbac.ts';
import { ruleAllows } from './rules.ts';
import { mastersAuthorizer, unionAuthorizer } from './union.ts';

const RBAC = 'rbac.authorization.k8s.io';

const request = (more: Partial<AuthorizerAttributes> = {}): AuthorizerAttributes => ({
  user: { name: 'jane', groups: ['dev', 'system:authenticated'] },
  verb: 'get',
  resourceRequest: true,
  path: '',
  group: '',
  version: 'v1',
  resource: 'pods',
  subresource: '',
  namespace: 'shop',
  name: '',
  ...more,
});

test('rules match verbs, groups, resources, subresources, names and paths', () => {
  const cases: [ReturnType<typeof rule>, Partial<AuthorizerAttributes>, boolean][] = [
    [rule('get', 'core', 'pods'), {}, true],
    [rule('get', 'core', 'pods'), { verb: 'list' }, false],
    [rule('*', '*', '*'), { verb: 'anything', group: 'x', resource: 'y', subresource: 'z' }, true],
    [rule('get', 'core', 'pods'), { subresource: 'log' }, false],
    [rule('get', 'core', 'pods/log'), { subresource: 'log' }, true],
    [rule('get', 'core', 'pods/log'), {}, false],
    [rule('get', '*', '*/scale'), { group: 'apps', resource: 'deployments', subresource: 'scale' }, true],
    [rule('get', '*', '*/scale'), { group: 'apps', resource: 'deployments' }, false],
    [rule('get', 'core', 'pods', 'a b'), { name: 'b' }, true],
    [rule('get', 'core', 'pods', 'a b'), { name: 'c' }, false],
    [rule('create', 'core', 'pods', 'a'), { verb: 'create', name: '' }, false],
    [rule('get', 'apps', 'pods'), {}, false],
    [
      { verbs: ['get'], nonResourceURLs: ['/healthz/*'] },
      { resourceRequest: false, path: '/healthz/etcd' },
      true,
    ],
    [
      { verbs: ['get'], nonResourceURLs: ['/healthz/*'] },
      { resourceRequest: false, path: '/healthz' },
      false,
    ],
    [{ verbs: ['get'], nonResourceURLs: ['*'] }, { resourceRequest: false, path: '/x' }, true],
    [{ verbs: ['get'], nonResourceURLs: ['/api*'] }, { resourceRequest: false, path: '/apis' }, true],
    [{ verbs: ['*'], nonResourceURLs: ['*'] }, {}, false],
  ];
  for (const [r, more, expected] of cases)
    assert.equal(ruleAllows(r, request(more)), expected, `${JSON.stringify(r)} ${JSON.stringify(more)}`);
});

test('every covered grant is allowed, whatever the rules (property)', () => {
  let seed = 7;
  const pick = <T>(list: readonly T[]): T => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    return list[seed % list.length]!;
  };
  const some = (list: readonly string[]) => Array.from({ length: 1 + (seed % 2) }, () => pick(list));
  const verbs = ['get', 'list', '*'];
  const groups = ['', 'apps', '*'];
  const resources = ['pods', 'pods/log', 'deployments/scale', '*/scale', '*'];
  const random = () => ({
    verbs: some(verbs),
    apiGroups: some(groups),
    resources: some(resources),
    ...(pick([true, false]) && { resourceNames: some(['a', 'b']) }),
  });
  const requests: AuthorizerAttributes[] = [];
  for (const verb of ['get', 'list', 'watch'])
    for (const group of ['', 'apps', 'other'])
      for (const [resource, subresource] of [
        ['pods', ''],
        ['pods', 'log'],
        ['deployments', 'scale'],
        ['x', ''],
      ] as const)
        for (const name of ['a', 'b', 'c'])
          requests.push(request({ verb, group, resource, subresource, name }));
  for (let i = 0; i < 3000; i++) {
    const owner = [random(), random()];
    const wanted = [random()];
    const missing = uncoveredGrants(owner, wanted);
    const owned = (r: AuthorizerAttributes) => owner.some((o) => ruleAllows(o, r));
    for (const r of requests) {
      if (!wanted.some((w) => ruleAllows(w, r)) || owned(r)) continue;
      assert.ok(
        missing.some((m) => ruleAllows(m, r)),
        `${JSON.stringify({ owner, wanted, missing })} misses ${JSON.stringify(r)}`,
      );
    }
  }
});

test('grants are joined and printed as upstream prints them', () => {
  const missing = uncoveredGrants([rule('get', 'core', 'pods')], [rule('get list', 'core', 'pods secrets')]);
  assert.deepEqual(compactRules(missing).map(ruleText).sort(), [
    '{APIGroups:[""], Resources:["pods"], Verbs:["list"]}',
    '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}',
  ]);
});

function rbacWith() {
  const objects = new FakeObjects();
  const rbac = new RbacAuthorizer(objects);
  const role = (name: string, namespace: string | undefined, rules: object[]) =>
    objects.put(RBAC, namespace ? 'roles' : 'clusterroles', {
      metadata: { name, ...(namespace && { namespace }) },
      rules,
    });
  const bind = (name: string, namespace: string | undefined, kind: string, to: string, subjects: object[]) =>
    objects.put(RBAC, namespace ? 'rolebindings' : 'clusterrolebindings', {
      metadata: { name, ...(namespace && { namespace }) },
      roleRef: { apiGroup: RBAC, kind, name: to },
      subjects,
    });
  return { objects, rbac, role, bind };
}

test('bindings count for users, groups and service accounts, in their namespace, and say why', () => {
  const { rbac, role, bind } = rbacWith();
  role('reader', undefined, [rule('get', 'core', 'pods')]);
  bind('team', 'shop', 'ClusterRole', 'reader', [{ kind: 'Group', name: 'dev' }]);
  const answer = rbac.authorize(request());
  assert.deepEqual(answer, {
    decision: 'allow',
    reason: 'RBAC: allowed by RoleBinding "team/shop" of ClusterRole "reader" to Group "dev"',
  });
  assert.equal(rbac.authorize(request({ namespace: 'other' })).decision, 'no-opinion');
  assert.equal(rbac.authorize(request({ namespace: '' })).decision, 'no-opinion');
  bind('robots', undefined, 'ClusterRole', 'reader', [
    { kind: 'ServiceAccount', name: 'bot', namespace: 'ci' },
  ]);
  const bot = { name: 'system:serviceaccount:ci:bot', groups: [] };
  assert.match(
    rbac.authorize(request({ user: bot })).reason,
    /ClusterRoleBinding "robots" .* to ServiceAccount "bot\/ci"/,
  );
});

test('changes of roles and bindings hold at once, and a deleted one ends', () => {
  const { objects, rbac, role, bind } = rbacWith();
  bind('b', 'shop', 'Role', 'r', [{ kind: 'User', name: 'jane' }]);
  assert.deepEqual(rbac.authorize(request()), {
    decision: 'no-opinion',
    reason: 'RBAC: role.rbac.authorization.k8s.io "r" not found',
  });
  role('r', 'shop', [rule('get', 'core', 'pods')]);
  assert.equal(rbac.authorize(request()).decision, 'allow');
  bind('b', 'shop', 'Role', 'r', [{ kind: 'User', name: 'joe' }]);
  assert.equal(rbac.authorize(request()).decision, 'no-opinion');
  bind('b', 'shop', 'Role', 'r', [
    { kind: 'User', name: 'jane' },
    { kind: 'User', name: 'jane' },
  ]);
  assert.equal(rbac.authorize(request()).decision, 'allow');
  objects.remove(RBAC, 'rolebindings', 'shop', 'b');
  assert.equal(rbac.authorize(request()).decision, 'no-opinion');
  rbac[Symbol.dispose]();
  assert.equal(objects.followers, 0);
});

test('a request looks only at its own subjects: 20,000 foreign bindings cost nothing', () => {
  const { rbac, role, bind } = rbacWith();
  role('reader', undefined, [rule('get', 'core', 'pods')]);
  for (let i = 0; i < 20_000; i++)
    bind(`b${i}`, undefined, 'ClusterRole', 'reader', [{ kind: 'User', name: `u${i}` }]);
  const attributes = request({ user: { name: 'u19999', groups: ['system:authenticated'] } });
  const start = performance.now();
  for (let i = 0; i < 10_000; i++) assert.equal(rbac.authorize(attributes).decision, 'allow');
  const perRequest = (performance.now() - start) / 10_000;
  assert.ok(perRequest < 0.1, `${perRequest} ms a request`);
});

test('masters pass, the first decision counts, reasons are gathered, promises are awaited', async () => {
  const says = (decision: 'allow' | 'deny' | 'no-opinion', reason: string, later = false) => ({
    authorize: () => (later ? Promise.resolve({ decision, reason }) : { decision, reason }),
  });
  const masters = unionAuthorizer([mastersAuthorizer, says('deny', 'never')]);
  assert.equal(
    (await masters.authorize(request({ user: { name: 'a', groups: ['system:masters'] } }))).decision,
    'allow',
  );
  assert.deepEqual(await masters.authorize(request()), { decision: 'deny', reason: 'never' });
  const none = unionAuthorizer([
    says('no-opinion', 'a'),
    says('no-opinion', 'b', true),
    says('no-opinion', ''),
  ]);
  assert.deepEqual(await none.authorize(request()), { decision: 'no-opinion', reason: 'a\nb' });
  const late = unionAuthorizer([says('no-opinion', 'a', true), says('allow', 'yes')]);
  assert.equal((await late.authorize(request())).decision, 'allow');
});

test('a refusal reads as kubectl users know it', () => {
  assert.equal(
    forbiddenRequest(request({ verb: 'list' }), '').message,
    'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "shop"',
  );
  assert.equal(
    forbiddenRequest(
      request({ group: 'apps', resource: 'deployments', subresource: 'scale', name: 'web', namespace: '' }),
      'why',
    ).message,
    'deployments.apps "web" is forbidden: User "jane" cannot get resource "deployments/scale" in API group "apps" at the cluster scope: why',
  );
  assert.equal(
    forbiddenRequest(request({ resourceRequest: false, path: '/metrics' }), '').message,
    'forbidden: User "jane" cannot get path "/metrics"',
  );
});

function nodes() {
  const objects = new FakeObjects();
  const authorizer = new NodeAuthorizer(objects, [
    rule('create', 'core', 'events'),
    rule('get list watch', 'core', 'services'),
  ]);
  const node = (name: string) => ({
    name: `system:node:${name}`,
    groups: ['system:nodes', 'system:authenticated'],
  });
  const pod = (name: string, nodeName: string | undefined, spec: object = {}) =>
    objects.put('', 'pods', {
      metadata: { name, namespace: 'shop', uid: `uid-of-${name}` },
      spec: { containers: [], serviceAccountName: 'robot', nodeName, ...spec },
      status: {},
    });
  const may = (name: string, more: Partial<AuthorizerAttributes>) =>
    authorizer.authorize(request({ user: node(name), ...more })).decision === 'allow';
  return { objects, authorizer, pod, may };
}

test('a node reads what its pods refer to, and no more, and not after they are gone', () => {
  const { objects, pod, may } = nodes();
  pod('web', 'n1', {
    imagePullSecrets: [{ name: 'pull' }],
    containers: [{ name: 'c', env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 'env', key: 'a' } } }] }],
    volumes: [
      { name: 'a', secret: { secretName: 'vol' } },
      { name: 'b', projected: { sources: [{ configMap: { name: 'kube-root-ca.crt' } }] } },
      { name: 'c', persistentVolumeClaim: { claimName: 'data' } },
    ],
  });
  for (const name of ['pull', 'env', 'vol']) assert.ok(may('n1', { resource: 'secrets', name }), name);
  assert.ok(may('n1', { verb: 'watch', resource: 'configmaps', name: 'kube-root-ca.crt' }));
  assert.ok(may('n1', { verb: 'create', resource: 'serviceaccounts', subresource: 'token', name: 'robot' }));
  assert.ok(!may('n2', { resource: 'secrets', name: 'vol' }), 'another node');
  assert.ok(!may('n1', { resource: 'secrets', name: 'vol', namespace: 'other' }), 'another namespace');
  assert.ok(!may('n1', { verb: 'list', resource: 'secrets' }), 'all secrets');
  assert.ok(may('n1', { verb: 'watch', resource: 'persistentvolumeclaims', name: 'data' }));
  assert.ok(!may('n1', { verb: 'list', resource: 'persistentvolumeclaims' }), 'all claims');
  assert.ok(!may('n2', { verb: 'watch', resource: 'persistentvolumeclaims', name: 'data' }));
  assert.ok(!may('n1', { verb: 'update', resource: 'secrets', name: 'vol' }));

  objects.put('', 'persistentvolumes', {
    metadata: { name: 'pv' },
    spec: { claimRef: { namespace: 'shop', name: 'data' } },
  });
  assert.ok(!may('n1', { resource: 'persistentvolumes', name: 'pv', namespace: '' }), 'not bound yet');
  objects.put('', 'persistentvolumeclaims', {
    metadata: { name: 'data', namespace: 'shop' },
    spec: { volumeName: 'pv' },
  });
  assert.ok(may('n1', { resource: 'persistentvolumes', name: 'pv', namespace: '' }));

  pod('twin', 'n1', { volumes: [{ name: 'a', secret: { secretName: 'vol' } }] });
  objects.remove('', 'pods', 'shop', 'web');
  assert.ok(may('n1', { resource: 'secrets', name: 'vol' }), 'the twin still refers to it');
  objects.remove('', 'pods', 'shop', 'twin');
  assert.ok(!may('n1', { resource: 'secrets', name: 'vol' }));
});

test('an ephemeral container may bring a reference to a running pod', () => {
  const { pod, may } = nodes();
  pod('web', 'n1');
  assert.ok(!may('n1', { resource: 'configmaps', name: 'debug' }));
  pod('web', 'n1', { ephemeralContainers: [{ name: 'd', envFrom: [{ configMapRef: { name: 'debug' } }] }] });
  assert.ok(may('n1', { resource: 'configmaps', name: 'debug' }));
});

test('a node has its own Node, Lease, CSINode and pods, and a pretender has nothing', () => {
  const { authorizer, pod, may } = nodes();
  pod('web', 'n1');
  assert.ok(may('n1', { verb: 'create', resource: 'nodes', namespace: '' }));
  assert.ok(
    may('n1', { verb: 'patch', resource: 'nodes', subresource: 'status', namespace: '', name: 'n1' }),
  );
  assert.ok(!may('n1', { verb: 'get', resource: 'nodes', namespace: '', name: 'n2' }));
  assert.ok(!may('n1', { verb: 'list', resource: 'nodes', namespace: '' }));
  const lease = { group: 'coordination.k8s.io', resource: 'leases' };
  assert.ok(may('n1', { ...lease, verb: 'update', namespace: 'kube-node-lease', name: 'n1' }));
  assert.ok(!may('n1', { ...lease, verb: 'update', namespace: 'kube-node-lease', name: 'n2' }));
  assert.ok(!may('n1', { ...lease, verb: 'update', namespace: 'kube-system', name: 'n1' }));
  assert.ok(may('n1', { name: 'web' }));
  assert.ok(!may('n2', { name: 'web' }));
  assert.ok(may('n1', { verb: 'list', namespace: '', fieldSelector: 'spec.nodeName=n1' }));
  assert.ok(!may('n1', { verb: 'list', namespace: '', fieldSelector: 'spec.nodeName=n2' }));
  assert.ok(!may('n1', { verb: 'watch', namespace: '' }));
  assert.ok(may('n1', { verb: 'list', resource: 'services' }));
  assert.ok(!may('n1', { verb: 'delete', resource: 'services', name: 'x' }));
  const pretender = { name: 'jane', groups: ['system:nodes'] };
  assert.match(
    authorizer.authorize(request({ user: pretender, resource: 'services' })).reason,
    /unknown node/,
  );
  assert.equal(authorizer.authorize(request()).reason, '');
});
