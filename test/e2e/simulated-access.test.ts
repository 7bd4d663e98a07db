// Who may do what: roles and bindings, tokens of service accounts and their end, impersonation, escalation, and what
// nodes may touch.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Status } from '../../src/api/types/meta-v1.ts';
import type { HttpAnswer, HttpCall, HttpClient } from '../../src/apiserver/testing/http-client.ts';
import { ManualClock, resources } from '../../src/cluster/testing.ts';
import { eventually } from './support/eventually.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';
import { pass } from './support/time.ts';

const clock = new ManualClock(Date.now());
let sim: SimulatedCluster;

before(async () => {
  sim = await startSimulated({ clock });
  await sim.kubectl('create', 'namespace', 'team');
  await sim.kubectl('-n', 'team', 'create', 'configmap', 'notes', '--from-literal=a=b');
});
after(() => sim[Symbol.asyncDispose]());

/** As this user, in these groups, by impersonation. */
const as = (user: string, ...groups: string[]) => {
  const call = (path: string, options: Omit<HttpCall, 'path'> = {}): Promise<HttpAnswer> =>
    sim.http.call({
      path,
      ...options,
      headers: {
        'impersonate-user': user,
        ...(groups.length > 0 && { 'impersonate-group': groups.join(', ') }),
        ...options.headers,
      },
    });
  return {
    get: (path: string) => call(path),
    post: (path: string, body: object) => call(path, { method: 'POST', body }),
    delete: (path: string) => call(path, { method: 'DELETE' }),
    patch: (path: string, body: object) =>
      call(path, {
        method: 'PATCH',
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/merge-patch+json' },
      }),
  };
};
function forbidden(answer: HttpAnswer, message: RegExp): void {
  const status = answer.json<Status>();
  assert.deepEqual([answer.status, status.reason], [403, 'Forbidden'], answer.body.toString());
  assert.match(status.message ?? '', message);
}
const allowed = (answer: HttpAnswer): void => assert.ok(answer.status < 300, answer.body.toString());
/** Roles take effect a moment after they are written. */
const soon = (look: () => Promise<void>): Promise<void> => eventually('the role takes effect', look);

const NOTES = '/api/v1/namespaces/team/configmaps';

describe('a user', () => {
  it('can do what a role in the namespace lets them, there and nowhere else', async () => {
    const jane = as('jane');
    forbidden(
      await jane.get(`${NOTES}/notes`),
      /^configmaps "notes" is forbidden: User "jane" cannot get resource "configmaps" in API group "" in the namespace "team"$/,
    );
    await sim.kubectl('-n', 'team', 'create', 'role', 'reader', '--verb=get,list', '--resource=configmaps');
    await sim.kubectl('-n', 'team', 'create', 'rolebinding', 'readers', '--role=reader', '--user=jane');
    await soon(async () => allowed(await jane.get(`${NOTES}/notes`)));
    allowed(await jane.get(NOTES));
    forbidden(await jane.delete(`${NOTES}/notes`), /cannot delete resource/);
    forbidden(await jane.get(`${NOTES}?watch=true`), /cannot watch resource/);
    forbidden(await jane.get('/api/v1/namespaces/default/configmaps'), /in the namespace "default"$/);
    forbidden(await jane.get('/api/v1/configmaps'), /at the cluster scope$/);
    await sim.kubectl('-n', 'team', 'delete', 'rolebinding', 'readers');
    await soon(async () => forbidden(await jane.get(`${NOTES}/notes`), /cannot get/));
  });

  it('can be held to names and to subresources', async () => {
    const joe = as('joe');
    await sim.kubectl(
      '-n',
      'team',
      'create',
      'role',
      'one',
      '--verb=get,update,patch',
      '--resource=configmaps',
      '--resource-name=notes',
    );
    await sim.kubectl('-n', 'team', 'create', 'rolebinding', 'one', '--role=one', '--user=joe');
    await soon(async () => allowed(await joe.get(`${NOTES}/notes`)));
    allowed(await joe.patch(`${NOTES}/notes`, { data: { joe: 'was here' } }));
    forbidden(await joe.get(`${NOTES}/kube-root-ca.crt`), /cannot get/);
    forbidden(await joe.get(NOTES), /cannot list/);
    await sim.kubectl('-n', 'team', 'create', 'deployment', 'web', '--image=i', '--replicas=0');
    await sim.kubectl(
      '-n',
      'team',
      'create',
      'role',
      'scaler',
      '--verb=get,patch',
      '--resource=deployments.apps/scale',
    );
    await sim.kubectl('-n', 'team', 'create', 'rolebinding', 'scaler', '--role=scaler', '--user=joe');
    const path = '/apis/apps/v1/namespaces/team/deployments/web';
    await soon(async () => allowed(await joe.patch(`${path}/scale`, { spec: { replicas: 1 } })));
    forbidden(
      await joe.patch(path, { spec: { replicas: 2 } }),
      /cannot patch resource "deployments" in API group "apps"/,
    );
  });

  it('has what the usual cluster roles give', async () => {
    for (const role of ['view', 'edit', 'admin'])
      await sim.kubectl(
        '-n',
        'team',
        'create',
        'rolebinding',
        `the-${role}`,
        `--clusterrole=${role}`,
        `--user=${role}`,
      );
    await soon(async () => allowed(await as('admin').get('/api/v1/namespaces/team/secrets')));
    allowed(await as('view').get('/api/v1/namespaces/team/pods'));
    forbidden(await as('view').get('/api/v1/namespaces/team/secrets'), /cannot list resource "secrets"/);
    forbidden(await as('view').post(NOTES, { metadata: { name: 'x' } }), /cannot create/);
    allowed(await as('edit').post(NOTES, { metadata: { name: 'x' } }));
    forbidden(
      await as('edit').get('/apis/rbac.authorization.k8s.io/v1/namespaces/team/roles'),
      /cannot list resource "roles"/,
    );
    allowed(await as('admin').get('/apis/rbac.authorization.k8s.io/v1/namespaces/team/roles'));
    forbidden(await as('admin').get('/api/v1/nodes'), /cannot list resource "nodes"/);
    allowed(await as('anyone', 'system:masters').get('/api/v1/nodes'));
  });

  it('may ask what they may do', async () => {
    const review = await as('view').post('/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
      spec: { resourceAttributes: { verb: 'list', resource: 'pods', namespace: 'team' } },
    });
    assert.equal(
      review.json<{ status: { allowed: boolean; reason: string } }>().status.reason,
      'RBAC: allowed by RoleBinding "the-view/team" of ClusterRole "view" to User "view"',
    );
    const rules = await as('view').post('/apis/authorization.k8s.io/v1/selfsubjectrulesreviews', {
      spec: { namespace: 'team' },
    });
    const { resourceRules } = rules.json<{
      status: { resourceRules: { verbs: string[]; resources: string[] }[] };
    }>().status;
    assert.ok(
      resourceRules.some(({ verbs, resources: of }) => of.includes('pods') && verbs.includes('watch')),
    );
    assert.ok(!resourceRules.some(({ resources: of }) => of.includes('secrets')));
  });
});

describe('nobody', () => {
  const role = (name: string, rules: object[]) => ({ metadata: { name }, rules });
  const ROLES = '/apis/rbac.authorization.k8s.io/v1/namespaces/team/roles';
  const BINDINGS = '/apis/rbac.authorization.k8s.io/v1/namespaces/team/rolebindings';

  it('gives away rights that they do not have', async () => {
    const admin = as('admin');
    const pods = { apiGroups: [''], resources: ['pods'], verbs: ['get'] };
    allowed(await admin.post(ROLES, role('fine', [pods])));
    forbidden(
      await admin.post(
        ROLES,
        role('too-much', [pods, { apiGroups: [''], resources: ['nodes'], verbs: ['delete'] }]),
      ),
      /^roles\.rbac\.authorization\.k8s\.io "too-much" is forbidden: user "admin" \(groups=\["system:authenticated"\]\) is attempting to grant RBAC permissions not currently held:\n{APIGroups:\[""\], Resources:\["nodes"\], Verbs:\["delete"\]}$/,
    );
    const binding = (name: string) => ({
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'friend' }],
    });
    allowed(await admin.post(BINDINGS, binding('view')));
    forbidden(
      await admin.post(BINDINGS, binding('cluster-admin')),
      /is attempting to grant RBAC permissions not currently held/,
    );
  });

  it('acts as somebody else without being allowed to', async () => {
    const token = (await sim.kubectl('-n', 'team', 'create', 'token', 'default')).trim();
    const bot = sim.httpWith({ protocol: 'HTTP/1.1', token });
    const impersonating = (user: string) =>
      bot.call({ path: '/api/v1/nodes', headers: { 'impersonate-user': user } });
    forbidden(
      await impersonating('jane'),
      /^users "jane" is forbidden: User "system:serviceaccount:team:default" cannot impersonate resource "users" in API group "" at the cluster scope$/,
    );
    await sim.kubectl(
      'create',
      'clusterrole',
      'actor',
      '--verb=impersonate',
      '--resource=users',
      '--resource-name=jane',
    );
    await sim.kubectl(
      'create',
      'clusterrolebinding',
      'actor',
      '--clusterrole=actor',
      '--serviceaccount=team:default',
    );
    await soon(async () =>
      forbidden(await impersonating('jane'), /User "jane" cannot list resource "nodes"/),
    );
    forbidden(await impersonating('system:admin'), /cannot impersonate/);
    const { stderr } = await sim.kubectl.run(['get', 'nodes', '--as=jane', '--as-group=system:masters']);
    assert.equal(stderr, '');
  });

  it('reaches the rights of a node through its name alone', async () => {
    const node = as('system:node:node-0', 'system:nodes');
    allowed(await node.get('/api/v1/nodes/node-0'));
    allowed(await node.get('/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-0'));
    forbidden(
      await node.patch('/api/v1/nodes/node-1', { metadata: { labels: { a: 'b' } } }),
      /node "node-0" is not allowed to modify node "node-1"|can only|cannot patch/,
    );
    forbidden(await node.get('/api/v1/namespaces/team/secrets'), /./);
    await sim.kubectl('-n', 'team', 'create', 'secret', 'generic', 's', '--from-literal=a=b');
    const secret = '/api/v1/namespaces/team/secrets/s';
    forbidden(await node.get(secret), /no relationship found between node 'node-0' and this object/);
    await sim.cluster.client.resource(resources.pods, 'team').create({
      metadata: { name: 'user' },
      spec: {
        nodeName: 'node-0',
        containers: [{ name: 'c', image: 'i' }],
        volumes: [{ name: 'v', secret: { secretName: 's' } }],
      },
    });
    await soon(async () => allowed(await node.get(secret)));
    forbidden(await as('system:node:node-1', 'system:nodes').get(secret), /no relationship found/);
  });
});

describe('a service account’s token', () => {
  const REQUEST = '/api/v1/namespaces/team/serviceaccounts/default/token';
  const request = async (spec: object): Promise<{ token: string; expirationTimestamp: string }> => {
    const answer = await sim.http.call({ method: 'POST', path: REQUEST, body: { spec } });
    assert.equal(answer.status, 201, answer.body.toString());
    return answer.json<{ status: { token: string; expirationTimestamp: string } }>().status;
  };
  const bearer = (token: string): HttpClient => sim.httpWith({ protocol: 'HTTP/2', token });
  const whoami = (client: HttpClient) =>
    client.call({ method: 'POST', path: '/apis/authentication.k8s.io/v1/selfsubjectreviews', body: {} });
  const nameOf = (answer: HttpAnswer) =>
    answer.json<{ status: { userInfo: { username: string } } }>().status.userInfo.username;

  it('says who it is, and what it is for', async () => {
    const { token } = await request({ expirationSeconds: 600 });
    assert.equal(nameOf(await whoami(bearer(token))), 'system:serviceaccount:team:default');
    const claims = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString());
    assert.deepEqual(
      [claims.sub, claims.aud, claims.exp - claims.iat],
      ['system:serviceaccount:team:default', ['https://kubernetes.default.svc.cluster.local'], 600],
    );
    const other = await request({ audiences: ['vault'], expirationSeconds: 600 });
    assert.equal((await whoami(bearer(other.token))).status, 401);
    const review = await sim.http.call({
      method: 'POST',
      path: '/apis/authentication.k8s.io/v1/tokenreviews',
      body: { spec: { token: other.token, audiences: ['vault'] } },
    });
    assert.equal(review.json<{ status: { authenticated: boolean } }>().status.authenticated, true);
    const keys = await bearer(token).call({ path: '/openid/v1/jwks' });
    assert.equal(keys.json<{ keys: { kty: string }[] }>().keys[0]?.kty, 'EC');
    for (const spec of [{ expirationSeconds: 5 }, { expirationSeconds: 2 ** 33 }])
      assert.equal((await sim.http.call({ method: 'POST', path: REQUEST, body: { spec } })).status, 422);
  });

  it('ends when its time is up', async () => {
    const { token } = await request({ expirationSeconds: 600 });
    const client = bearer(token);
    await pass(clock, 590);
    assert.equal((await whoami(client)).status, 201);
    await pass(clock, 80); // a minute is granted to clocks that differ, as upstream does
    assert.equal((await whoami(client)).status, 401);
  });

  it('ends with the pod or the account that it is bound to', async () => {
    const pods = sim.cluster.client.resource(resources.pods, 'team');
    const pod = await pods.create({
      metadata: { name: 'bound' },
      spec: { containers: [{ name: 'c', image: 'i' }] },
    });
    const { name, uid } = pod.metadata;
    const { token } = await request({ boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name, uid } });
    const client = bearer(token);
    const extra = (await whoami(client)).json<{ status: { userInfo: { extra: Record<string, string[]> } } }>()
      .status.userInfo.extra;
    assert.deepEqual(extra['authentication.kubernetes.io/pod-name'], ['bound']);
    await pods.delete('bound', { gracePeriodSeconds: 0 });
    await eventually('refused', async () => assert.equal((await whoami(client)).status, 401));
    const free = bearer((await request({})).token);
    assert.equal((await whoami(free)).status, 201);
    await sim.cluster.client.resource(resources.serviceAccounts, 'team').delete('default');
    await eventually('refused', async () => assert.equal((await whoami(free)).status, 401));
  });

  it('that somebody else signed, or that was changed, is worth nothing', async () => {
    const { token } = await (async () => {
      await eventually('the account is back', () =>
        sim.cluster.client.resource(resources.serviceAccounts, 'team').get('default'),
      );
      return request({});
    })();
    const [head, body, signature] = token.split('.') as [string, string, string];
    const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
    const forged = Buffer.from(
      JSON.stringify({ ...claims, sub: 'system:serviceaccount:kube-system:default' }),
    ).toString('base64url');
    const none = Buffer.from(JSON.stringify({ alg: 'none' })).toString('base64url');
    for (const wrong of [
      `${head}.${forged}.${signature}`,
      `${none}.${body}.`,
      `${none}.${body}.${signature}`,
      `${head}.${body}.AAAA`,
      `${head}.${body}`,
    ])
      assert.equal((await whoami(bearer(wrong))).status, 401);
  });
});
