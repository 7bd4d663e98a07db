// The default chain in a whole server, reached over TLS as clients reach it.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { after, before, test } from 'node:test';
import type { KubeObject } from '../api/index.ts';
import { createMemoryStore, type Store } from '../store/index.ts';
import { bootstrapObjects } from './bootstrap/objects.ts';
import { type ApiServer, type DefaultChainOptions, defaultChain, startApiServer } from './index.ts';
import { type TestAuthority, type TestKeyPair, testAuthority } from './testing/certificates.ts';

const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
}) as string;
const RBAC = '/apis/rbac.authorization.k8s.io/v1';

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  // The parsed body; tests look at fields of whatever kind they asked for.
  readonly body: Loose;
}
interface Loose {
  readonly [field: string]: Loose;
}
const str = (value: Loose | undefined): string => String(value);
const plain = (value: unknown): unknown => value;

let store: Store;
let server: ApiServer;
let authority: TestAuthority;
let admin: TestKeyPair;
let agent: Agent;
const agents: Agent[] = [];

before(async () => {
  authority = await testAuthority();
  const serving = await authority.server();
  admin = await authority.client('admin', ['system:masters']);
  store = createMemoryStore();
  const options: DefaultChainOptions = {
    serviceAccountKey: key,
    staticTokens: 'jane-token,jane,u1,"dev"\njoe-token,joe,u2',
    advertise: () => ({ address: '10.1.2.3', port: server?.address?.port ?? 6443 }),
    clientCa: authority.certificate,
    componentChecks: [{ name: 'scheduler', check: () => Promise.reject(new Error('connection refused')) }],
  };
  server = await startApiServer({
    store,
    listen: {
      host: '127.0.0.1',
      port: 0,
      certificate: serving.certificate,
      key: serving.key,
      clientCa: authority.certificate,
    },
    chain: defaultChain(options),
  });
  await server.ready;
  agent = new Agent({ keepAlive: true });
  agents.push(agent);
  await call('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } });
  await call('POST', '/api/v1/namespaces/shop/serviceaccounts', { metadata: { name: 'default' } });
});
after(async () => {
  for (const one of agents) one.destroy();
  await server[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
});

interface CallOptions {
  readonly cert?: TestKeyPair | null;
  readonly token?: string;
  readonly headers?: Record<string, string | string[]>;
  readonly server?: ApiServer;
}

async function call(
  method: string,
  path: string,
  body?: unknown,
  options: CallOptions = {},
): Promise<Answer> {
  const cert = options.token !== undefined ? null : options.cert === undefined ? admin : options.cert;
  const request = httpsRequest({
    host: '127.0.0.1',
    port: (options.server ?? server).address?.port,
    ca: authority.certificate,
    ...(cert && { cert: cert.certificate, key: cert.key }),
    method,
    path,
    agent,
    headers: {
      ...(body !== undefined && {
        'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
      }),
      ...(options.token !== undefined && { authorization: `Bearer ${options.token}` }),
      ...options.headers,
    },
  });
  request.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: (text.startsWith('{') ? JSON.parse(text) : { text }) as Loose,
  };
}

const jane: CallOptions = { token: 'jane-token' };

async function bind(name: string, role: string, subject: object, namespace?: string): Promise<void> {
  const answer = await call(
    'POST',
    `${RBAC}${namespace ? `/namespaces/${namespace}/rolebindings` : '/clusterrolebindings'}`,
    {
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
      subjects: [subject],
    },
  );
  assert.equal(answer.status, 201, str(answer.body['message']));
}

test('without credentials: what is public, 403 for the rest; a wrong token is 401', async () => {
  assert.equal((await call('GET', '/readyz', undefined, { cert: null })).status, 200);
  const discovery = await call('GET', '/api', undefined, { cert: null });
  assert.deepEqual(
    [discovery.status, discovery.body['message']],
    [403, 'forbidden: User "system:anonymous" cannot get path "/api"'],
  );
  const wrong = await call('GET', '/readyz', undefined, { token: 'wrong' });
  assert.deepEqual(
    [wrong.status, wrong.body['reason'], wrong.body['message']],
    [401, 'Unauthorized', 'Unauthorized'],
  );
  assert.equal((await call('GET', '/api', undefined, jane)).status, 200);
});

test('the server’s own objects are there when it is ready', async () => {
  const service = await call('GET', '/api/v1/namespaces/default/services/kubernetes');
  assert.equal(str(service.body['spec']?.['clusterIP']), '10.96.0.1');
  const endpoints = await call('GET', '/api/v1/namespaces/default/endpoints/kubernetes');
  assert.deepEqual(plain(endpoints.body['subsets']?.['0']?.['addresses']), [{ ip: '10.1.2.3' }]);
  const config = await call(
    'GET',
    '/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication',
  );
  assert.equal(str(config.body['data']?.['client-ca-file']), authority.certificate);
  const level = await call('GET', '/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/exempt');
  assert.deepEqual(plain(level.body['spec']), {
    type: 'Exempt',
    exempt: { nominalConcurrencyShares: 0, lendablePercent: 0 },
  });
  const cidr = await call('GET', '/apis/networking.k8s.io/v1/servicecidrs/kubernetes');
  assert.equal(str(cidr.body['status']?.['conditions']?.['0']?.['type']), 'Ready');
  const role = await call('GET', `${RBAC}/clusterroles/admin`);
  assert.deepEqual(plain(role.body['aggregationRule']), {
    clusterRoleSelectors: [{ matchLabels: { 'rbac.authorization.k8s.io/aggregate-to-admin': 'true' } }],
  });
});

test('what is written without the pipeline is what the pipeline would have written', async () => {
  await using otherStore = createMemoryStore();
  const factory = defaultChain({ serviceAccountKey: key });
  await using empty = await startApiServer({
    store: otherStore,
    chain: (context) => ({ ...factory(context), bootstrap: async () => {} }),
  });
  const itself = { name: 'system:apiserver', groups: ['system:masters'] };
  const seeded = bootstrapObjects({ serviceCidrs: ['10.96.0.0/12'] }, '').filter(({ normal }) => normal);
  assert.ok(seeded.length > 140);
  for (const name of ['kube-system', 'kube-public'])
    await empty.transport(itself).call({
      verb: 'create',
      resource: { group: '', version: 'v1', resource: 'namespaces' },
      body: { metadata: { name } },
    });
  const comparable = (one: unknown): string => {
    const { metadata, ...rest } = one as KubeObject;
    const { uid: _uid, resourceVersion: _version, creationTimestamp: _created, ...lasting } = metadata;
    return JSON.stringify({ ...rest, metadata: lasting });
  };
  for (const { resource, object } of seeded) {
    const { name, namespace } = object.metadata;
    const at = { resource, ...(namespace !== undefined && { namespace }) };
    const stored = await server.transport(itself).call({ ...at, verb: 'get', name });
    const made = await empty
      .transport(itself)
      .call({ ...at, verb: 'create', body: object, query: { dryRun: 'All' } });
    assert.equal(comparable(stored), comparable(made), name);
  }
});

test('roles: refused in upstream’s words, allowed at once when bound, and no further', async () => {
  const list = () => call('GET', '/api/v1/namespaces/shop/pods', undefined, jane);
  const refused = await list();
  assert.equal(refused.status, 403);
  assert.equal(
    str(refused.body['message']),
    'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "shop"',
  );
  await bind('team', 'edit', { kind: 'Group', apiGroup: 'rbac.authorization.k8s.io', name: 'dev' }, 'shop');
  assert.equal((await list()).status, 200);
  assert.equal((await call('GET', '/api/v1/pods', undefined, jane)).status, 403);
  const escalation = await call(
    'POST',
    `${RBAC}/namespaces/shop/roles`,
    { metadata: { name: 'r' }, rules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }] },
    jane,
  );
  assert.equal(escalation.status, 403);
  await bind(
    'team-admin',
    'admin',
    { kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'jane' },
    'shop',
  );
  const grant = await call(
    'POST',
    `${RBAC}/namespaces/shop/roles`,
    { metadata: { name: 'r' }, rules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }] },
    jane,
  );
  assert.equal(grant.status, 403);
  assert.match(
    str(grant.body['message']),
    /is attempting to grant RBAC permissions not currently held:\n\{APIGroups:\["\*"\], Resources:\["\*"\], Verbs:\["\*"\]\}$/,
  );
  const own = await call(
    'POST',
    `${RBAC}/namespaces/shop/roles`,
    { metadata: { name: 'r' }, rules: [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }] },
    jane,
  );
  assert.equal(own.status, 201);
});

test('the access reviews answer what the authorizer would', async () => {
  const may = async (attributes: object, options: CallOptions = jane) =>
    (
      await call(
        'POST',
        '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
        { spec: attributes },
        options,
      )
    ).body['status'];
  assert.equal(
    plain(
      (await may({ resourceAttributes: { verb: 'create', resource: 'pods', namespace: 'shop' } }))?.[
        'allowed'
      ],
    ),
    true,
  );
  assert.equal(
    plain(
      (await may({ resourceAttributes: { verb: 'create', resource: 'pods', namespace: 'default' } }))?.[
        'allowed'
      ],
    ),
    false,
  );
  assert.equal(
    plain((await may({ nonResourceAttributes: { verb: 'get', path: '/healthz' } }))?.['allowed']),
    true,
  );
  const both = await call(
    'POST',
    '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
    { spec: {} },
    jane,
  );
  assert.equal(both.status, 422);
  const review = await call('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
    spec: {
      user: 'jane',
      groups: ['dev'],
      resourceAttributes: { verb: 'delete', resource: 'secrets', namespace: 'shop', name: 'x' },
    },
  });
  assert.equal(review.status, 201);
  assert.equal(plain(review.body['status']?.['allowed']), true);
  assert.match(str(review.body['status']?.['reason']), /^RBAC: allowed by RoleBinding/);
  const local = await call(
    'POST',
    '/apis/authorization.k8s.io/v1/namespaces/shop/localsubjectaccessreviews',
    {
      spec: { user: 'joe', resourceAttributes: { verb: 'get', resource: 'pods', namespace: 'other' } },
    },
  );
  assert.deepEqual(
    [local.status, str(local.body['message'])],
    [400, 'spec.resourceAttributes.namespace must match namespace: shop'],
  );
  const rules = await call(
    'POST',
    '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews',
    { spec: { namespace: 'shop' } },
    jane,
  );
  assert.equal(plain(rules.body['status']?.['incomplete']), false);
  assert.ok((plain(rules.body['status']?.['resourceRules']) as unknown[]).length > 20);
});

test('a token is requested, used, reviewed, and ends with its account', async () => {
  const path = '/api/v1/namespaces/shop/serviceaccounts';
  await call('POST', path, { metadata: { name: 'robot' } });
  const short = await call('POST', `${path}/robot/token`, { spec: { expirationSeconds: 60 } });
  assert.equal(short.status, 422);
  assert.match(
    str(short.body['message']),
    /spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes/,
  );
  assert.equal((await call('POST', `${path}/nobody/token`, {})).status, 404);
  const issued = await call('POST', `${path}/robot/token`, { spec: { expirationSeconds: 600 } });
  assert.equal(issued.status, 201, str(issued.body['message']));
  const token = str(issued.body['status']?.['token']);
  const who = await call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {}, { token });
  assert.equal(who.status, 201, str(who.body['message']));
  assert.equal(str(who.body['status']?.['userInfo']?.['username']), 'system:serviceaccount:shop:robot');
  assert.deepEqual(plain(who.body['status']?.['userInfo']?.['groups']), [
    'system:serviceaccounts',
    'system:serviceaccounts:shop',
    'system:authenticated',
  ]);
  const review = async (spec: object) =>
    (await call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', { spec })).body['status'];
  assert.equal(plain((await review({ token }))?.['authenticated']), true);
  assert.equal(str((await review({ token: 'garbage' }))?.['error']), 'invalid bearer token');
  assert.match(
    str((await review({ token, audiences: ['vault'] }))?.['error']),
    /^\[invalid bearer token, token audiences/,
  );
  assert.equal((await call('DELETE', `${path}/robot`)).status, 200);
  assert.equal((await call('GET', '/api', undefined, { token })).status, 401);
  assert.equal(
    str((await review({ token }))?.['error']),
    '[invalid bearer token, service account token has been invalidated]',
  );
});

test('tokens are bound to pods of the same account, and end with them', async () => {
  const pods = '/api/v1/namespaces/shop/pods';
  const pod = await call('POST', pods, {
    metadata: { name: 'bound' },
    spec: { containers: [{ name: 'a', image: 'x' }] },
  });
  assert.equal(pod.status, 201, str(pod.body['message']));
  const ref = { kind: 'Pod', apiVersion: 'v1', name: 'bound' };
  const ask = (account: string, boundObjectRef: object) =>
    call('POST', `/api/v1/namespaces/shop/serviceaccounts/${account}/token`, { spec: { boundObjectRef } });
  await call('POST', '/api/v1/namespaces/shop/serviceaccounts', { metadata: { name: 'other' } });
  assert.match(
    str((await ask('other', ref)).body['message']),
    /cannot bind token for serviceaccount "other" to pod running with different serviceaccount name/,
  );
  assert.equal((await ask('default', { ...ref, uid: 'x' })).status, 409);
  assert.equal((await ask('default', { ...ref, kind: 'Service' })).status, 400);
  const issued = await ask('default', ref);
  const token = str(issued.body['status']?.['token']);
  assert.equal((await call('GET', '/api', undefined, { token })).status, 200);
  await call('DELETE', `${pods}/bound`, { gracePeriodSeconds: 0 });
  assert.equal((await call('GET', '/api', undefined, { token })).status, 401);
});

test('a pod gets its account, token volume, tolerations and priority', async () => {
  const { status, body } = await call(
    'POST',
    '/api/v1/namespaces/shop/pods',
    { metadata: { name: 'web' }, spec: { containers: [{ name: 'a', image: 'x' }] } },
    jane,
  );
  assert.equal(status, 201, str(body['message']));
  const spec = body['spec'];
  assert.equal(str(spec?.['serviceAccountName']), 'default');
  assert.match(str(spec?.['volumes']?.['0']?.['name']), /^kube-api-access-/);
  assert.equal(plain(spec?.['priority']), 0);
  assert.equal((plain(spec?.['tolerations']) as unknown[]).length, 2);
  const missing = await call('POST', '/api/v1/namespaces/none/pods', {
    metadata: { name: 'web' },
    spec: { containers: [{ name: 'a', image: 'x' }] },
  });
  assert.deepEqual([missing.status, str(missing.body['message'])], [404, 'namespaces "none" not found']);
});

test('impersonation over HTTP: every header counts, and permission is needed', async () => {
  const as = (headers: Record<string, string | string[]>, options: CallOptions = {}) =>
    call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {}, { ...options, headers });
  const { body } = await as({
    'Impersonate-User': 'bob',
    'Impersonate-Group': ['a', 'b,c'],
    'Impersonate-Extra-Scopes': 'x',
    'Impersonate-Uid': 'u9',
  });
  assert.deepEqual(plain(body['status']?.['userInfo']), {
    username: 'bob',
    uid: 'u9',
    groups: ['a', 'b,c', 'system:authenticated'],
    extra: { scopes: ['x'] },
  });
  const refused = await as({ 'Impersonate-User': 'bob' }, jane);
  assert.equal(
    str(refused.body['message']),
    'users "bob" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope',
  );
  assert.equal((await as({ 'Impersonate-Group': 'system:masters' }, jane)).status, 500);
});

test('a node sees and writes its own, and no more', async () => {
  const cert = await authority.client('system:node:n1', ['system:nodes']);
  const node = async (method: string, path: string, body?: unknown) =>
    (await call(method, path, body, { cert })).status;
  assert.equal(await node('POST', '/api/v1/nodes', { metadata: { name: 'n1' } }), 201);
  assert.equal(await node('POST', '/api/v1/nodes', { metadata: { name: 'n2' } }), 403);
  assert.equal(
    await node('PATCH', '/api/v1/nodes/n1/status', { status: { nodeInfo: { kubeletVersion: 'v1.36.0' } } }),
    200,
  );
  const tainted = await call('GET', '/api/v1/nodes/n1', undefined, { cert });
  assert.deepEqual(plain(tainted.body['spec']?.['taints']), [
    { key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' },
  ]);
  assert.equal(await node('PATCH', '/api/v1/nodes/n1', { spec: { taints: [] } }), 403);
  const lease = { metadata: { name: 'n1' }, spec: { holderIdentity: 'n1' } };
  assert.equal(
    await node('POST', '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases', lease),
    201,
  );
  assert.equal(await node('GET', '/api/v1/pods'), 403);
  assert.equal(await node('GET', '/api/v1/pods?fieldSelector=spec.nodeName%3Dn1'), 200);
  assert.equal(await node('GET', '/api/v1/namespaces/shop/secrets/db'), 403);
  await call('POST', '/api/v1/namespaces/shop/secrets', { metadata: { name: 'db' }, stringData: { a: 'b' } });
  await call('POST', '/api/v1/namespaces/shop/pods', {
    metadata: { name: 'on-n1' },
    spec: {
      nodeName: 'n1',
      containers: [{ name: 'a', image: 'x' }],
      volumes: [{ name: 'v', secret: { secretName: 'db' } }],
    },
  });
  assert.equal(await node('GET', '/api/v1/namespaces/shop/secrets/db'), 200);
  assert.equal(await node('GET', '/api/v1/namespaces/shop/secrets'), 403);
  const pod = await call('GET', '/api/v1/namespaces/shop/pods/on-n1', undefined, { cert });
  const boundObjectRef = {
    kind: 'Pod',
    apiVersion: 'v1',
    name: 'on-n1',
    uid: str(pod.body['metadata']?.['uid']),
  };
  const token = (ref?: object) =>
    node('POST', '/api/v1/namespaces/shop/serviceaccounts/default/token', {
      spec: { ...(ref && { boundObjectRef: ref }) },
    });
  assert.equal(await token(boundObjectRef), 201);
  assert.equal(await token(), 403);
  assert.equal(
    await node('PATCH', '/api/v1/namespaces/shop/pods/on-n1/status', { status: { phase: 'Running' } }),
    200,
  );
  assert.equal(
    await node('PATCH', '/api/v1/namespaces/shop/pods/web/status', { status: { phase: 'Running' } }),
    403,
  );
});

test('fifty services at once get fifty addresses and node ports', async () => {
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) =>
      call('POST', '/api/v1/namespaces/shop/services', {
        metadata: { name: `s${i}` },
        spec: { type: 'NodePort', ports: [{ port: 80 }] },
      }),
    ),
  );
  assert.equal(new Set(answers.map(({ body }) => str(body['spec']?.['clusterIP']))).size, 50);
  assert.equal(
    new Set(answers.map(({ body }) => str(body['spec']?.['ports']?.['0']?.['nodePort']))).size,
    50,
  );
  const address = str(answers[0]?.body['spec']?.['clusterIP']);
  const again = await call('POST', '/api/v1/namespaces/shop/services', {
    metadata: { name: 'x' },
    spec: { clusterIP: address, ports: [{ port: 80 }] },
  });
  assert.equal(again.status, 422);
  assert.match(
    str(again.body['message']),
    new RegExp(`failed to allocate IP ${address}: provided IP is already allocated$`),
  );
  await call('DELETE', '/api/v1/namespaces/shop/services/s0');
  const free = await call('POST', '/api/v1/namespaces/shop/services', {
    metadata: { name: 'x' },
    spec: { clusterIP: address, ports: [{ port: 80 }] },
  });
  assert.equal(free.status, 201, str(free.body['message']));
  const changed = await call('PATCH', '/api/v1/namespaces/shop/services/x', {
    spec: { clusterIP: '10.96.7.7', clusterIPs: ['10.96.7.7'] },
  });
  assert.equal(changed.status, 422);
  const typed = await call('PATCH', '/api/v1/namespaces/shop/services/x', { spec: { type: 'NodePort' } });
  assert.ok(
    Number(plain(typed.body['spec']?.['ports']?.['0']?.['nodePort'])) >= 30000,
    str(typed.body['message']),
  );
  const back = await call('PATCH', '/api/v1/namespaces/shop/services/x', { spec: { type: 'ClusterIP' } });
  assert.deepEqual([back.status, plain(back.body['spec']?.['ports']?.['0']?.['nodePort'])], [200, undefined]);
  const dry = await call('POST', '/api/v1/namespaces/shop/services?dryRun=All', {
    metadata: { name: 'dry' },
    spec: { clusterIP: '10.96.9.9', ports: [{ port: 80 }] },
  });
  assert.equal(dry.status, 201);
  const real = await call('POST', '/api/v1/namespaces/shop/services', {
    metadata: { name: 'real' },
    spec: { clusterIP: '10.96.9.9', ports: [{ port: 80 }] },
  });
  assert.equal(real.status, 201, str(real.body['message']));
});

test('warnings and refusals of admission reach the client', async () => {
  const webhook = await call(
    'POST',
    '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations',
    { metadata: { name: 'w' }, webhooks: [] },
  );
  assert.equal(webhook.status, 403);
  assert.match(str(webhook.body['message']), /does not call admission webhooks yet/);
  await call('POST', '/api/v1/namespaces', {
    metadata: {
      name: 'hard',
      labels: {
        'pod-security.kubernetes.io/enforce': 'baseline',
        'pod-security.kubernetes.io/warn': 'restricted',
      },
    },
  });
  await call('POST', '/api/v1/namespaces/hard/serviceaccounts', { metadata: { name: 'default' } });
  const pod = (spec: object) =>
    call('POST', '/api/v1/namespaces/hard/pods', {
      metadata: { generateName: 'p-' },
      spec: { containers: [{ name: 'a', image: 'x' }], ...spec },
    });
  const refused = await pod({ hostNetwork: true });
  assert.match(
    str(refused.body['message']),
    /violates PodSecurity "baseline:latest": host namespaces \(hostNetwork=true\)/,
  );
  const warned = await pod({});
  assert.equal(warned.status, 201);
  assert.match(
    String(warned.headers['warning']),
    /^299 - "would violate PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation != false/,
  );
  const protectedNamespace = await call('DELETE', '/api/v1/namespaces/kube-system');
  assert.deepEqual(
    [protectedNamespace.status, str(protectedNamespace.body['message'])],
    [403, 'namespaces "kube-system" is forbidden: this namespace may not be deleted'],
  );
});

test('who asks for a certificate is written down by the server', async () => {
  const { execFileSync } = await import('node:child_process');
  const request = execFileSync(
    'openssl',
    [
      'req',
      '-new',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      '/dev/null',
      '-subj',
      '/CN=jane',
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const { status, body } = await call('POST', '/apis/certificates.k8s.io/v1/certificatesigningrequests', {
    metadata: { name: 'c' },
    spec: {
      request: request.toString('base64'),
      signerName: 'example.com/a',
      usages: ['client auth'],
      username: 'somebody',
    },
  });
  assert.equal(status, 201, str(body['message']));
  assert.equal(str(body['spec']?.['username']), 'admin');
  const decide = (subresource: string, options: CallOptions = {}) =>
    call(
      'PATCH',
      `/apis/certificates.k8s.io/v1/certificatesigningrequests/c/${subresource}`,
      { status: { conditions: [{ type: 'Approved', status: 'True', reason: 'Test', message: 'yes' }] } },
      options,
    );
  assert.equal((await decide('status')).status, 422, 'who signs does not decide');
  assert.equal((await decide('approval', jane)).status, 403);
  const approved = await decide('approval');
  assert.equal(approved.status, 200, str(approved.body['message']));
  assert.equal(str(approved.body['status']?.['conditions']?.['0']?.['type']), 'Approved');
});

test('the issuer’s documents are there for service accounts, and component statuses are fresh', async () => {
  const documents = await call('GET', '/.well-known/openid-configuration');
  assert.equal(str(documents.body['issuer']), 'https://kubernetes.default.svc.cluster.local');
  assert.match(str(documents.body['jwks_uri']), /^https:\/\/10\.1\.2\.3:\d+\/openid\/v1\/jwks$/);
  assert.equal((await call('GET', '/openid/v1/jwks', undefined, { cert: null })).status, 403);
  const issued = await call('POST', '/api/v1/namespaces/shop/serviceaccounts/default/token', {});
  assert.equal(
    (await call('GET', '/openid/v1/jwks', undefined, { token: str(issued.body['status']?.['token']) }))
      .status,
    200,
  );
  const statuses = await call('GET', '/api/v1/componentstatuses');
  const items = plain(statuses.body['items']) as {
    metadata: { name: string };
    conditions: { status: string; message: string }[];
  }[];
  assert.deepEqual(
    items.map(({ metadata, conditions }) => [metadata.name, conditions[0]?.status, conditions[0]?.message]),
    [
      ['etcd-0', 'True', 'ok'],
      ['scheduler', 'False', 'connection refused'],
    ],
  );
  assert.match(String(statuses.headers['warning']), /ComponentStatus is deprecated/);
});

test('a server that advertises no address names the one it listens on in the issuer’s documents', async () => {
  await using own = createMemoryStore();
  const { certificate, key: servingKey } = await authority.server();
  const clientCa = authority.certificate;
  await using local = await startApiServer({
    store: own,
    listen: { host: '127.0.0.1', port: 0, certificate, key: servingKey, clientCa },
    chain: defaultChain({ serviceAccountKey: key }),
  });
  await local.ready;
  const documents = await call('GET', '/.well-known/openid-configuration', undefined, { server: local });
  assert.equal(str(documents.body['jwks_uri']), `https://127.0.0.1:${local.address?.port}/openid/v1/jwks`);
});

test('options that cannot work are refused before anything starts', () => {
  assert.throws(() => defaultChain({ serviceAccountKey: 'no key' }));
  assert.throws(() => defaultChain({ serviceAccountKey: key, staticTokens: 'a,b' }), /at least 3 columns/);
});
