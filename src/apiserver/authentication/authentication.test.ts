import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import { StatusError } from '../../api/index.ts';
import { ManualClock } from '../../component/index.ts';
import type { Authorizer, Credentials } from '../chain.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { impersonatingAuthenticator } from './impersonation.ts';
import { issuerDiscovery } from './issuer-discovery.ts';
import { JwtError, loadSigningKey, loadVerificationKey, signToken, verifyToken } from './jwt.ts';
import { requestAuthenticator, unionTokenAuthenticator } from './request.ts';
import { ServiceAccountTokens } from './service-account-tokens.ts';
import { staticTokenAuthenticator } from './static-tokens.ts';
import { TokenCache } from './token-cache.ts';
import { TokenError } from './tokens.ts';

const ISSUER = 'https://kubernetes.default.svc.cluster.local';

const ecPem = (namedCurve = 'P-256'): string =>
  generateKeyPairSync('ec', { namedCurve }).privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
const rsaPem = (modulusLength = 2048): string =>
  generateKeyPairSync('rsa', { modulusLength }).privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;

const ecKey = loadSigningKey(ecPem());
const rsaKey = loadSigningKey(rsaPem());
const b64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

function cluster() {
  const objects = new FakeObjects();
  const clock = new ManualClock(Date.parse('2026-03-01T12:00:00Z'));
  const tokens = new ServiceAccountTokens({
    issuer: ISSUER,
    signingKey: ecKey,
    verificationKeys: [rsaKey],
    reader: objects,
    clock,
  });
  const account = objects.put('', 'serviceaccounts', { metadata: { name: 'robot', namespace: 'shop' } });
  const pod = objects.put('', 'pods', { metadata: { name: 'web-0', namespace: 'shop' } });
  const issue = (more: Partial<Parameters<ServiceAccountTokens['issue']>[0]> = {}): string =>
    tokens.issue({
      namespace: 'shop',
      serviceAccount: { name: 'robot', uid: account.metadata.uid },
      audiences: [ISSUER],
      expirationSeconds: 3600,
      ...more,
    }).token;
  const check = (token: string, audiences: readonly string[] = [ISSUER]) =>
    tokens.authenticateToken(token, audiences);
  return { objects, clock, tokens, account, pod, issue, check };
}

const credentials = (headers: Credentials['headers'], more: Partial<Credentials> = {}): Credentials => ({
  headers,
  remoteAddress: '127.0.0.1',
  ...more,
});

const rejectsWith = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof TokenError, String(error));
  assert.match(error.message, pattern);
  return true;
};

test('a signed token is verified with the public key for every supported kind of key', () => {
  for (const pem of [ecPem('P-256'), ecPem('P-384'), ecPem('P-521'), rsaPem()]) {
    const key = loadSigningKey(pem);
    const publicOnly = loadVerificationKey(key.publicKey.export({ type: 'spki', format: 'pem' }) as string);
    assert.equal(publicOnly.keyId, key.keyId);
    assert.deepEqual(verifyToken(signToken(key, { a: 1 }), [publicOnly]), { a: 1 });
  }
});

test('keys that are too weak or of another kind are refused', () => {
  assert.throws(() => loadSigningKey(rsaPem(1024)), /too short/);
  const ed = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  assert.throws(() => loadSigningKey(ed), JwtError);
});

test('forged tokens are refused: none, shared secret, foreign key, changed claims, extensions, oversize, garbage', () => {
  const good = signToken(ecKey, { sub: 'a' });
  const [head = '', body = '', signature = ''] = good.split('.');
  const publicPem = rsaKey.publicKey.export({ type: 'spki', format: 'pem' }) as string;
  const hmacInput = `${b64({ alg: 'HS256', kid: rsaKey.keyId })}.${body}`;
  const otherKey = loadSigningKey(ecPem());
  const der = sign('sha256', Buffer.from(`${head}.${body}`), ecKey.privateKey).toString('base64url');
  const forgeries = [
    `${b64({ alg: 'none' })}.${body}.`,
    `${b64({ alg: 'none' })}.${body}.${signature}`,
    `${hmacInput}.${createHmac('sha256', publicPem).update(hmacInput).digest('base64url')}`,
    `${b64({ alg: 'RS256', kid: ecKey.keyId })}.${body}.${signature}`,
    signToken(otherKey, { sub: 'a' }),
    `${head}.${b64({ sub: 'b' })}.${signature}`,
    `${head}.${body}.${der}`,
    `${head}.${body}.${signature}=`,
    `${head}.${body}.${signature} `,
    `${head}.${body}`,
    `${good}.x`,
    `${b64({ alg: 'ES256', kid: ecKey.keyId, crit: ['b64'] })}.${body}.${signature}`,
    `${b64({ alg: 'ES256', kid: 7 })}.${body}.${signature}`,
    `${b64([])}.${body}.${signature}`,
    `%%%.${body}.${signature}`,
    `${head}.${'A'.repeat(20_000)}.${signature}`,
    '',
    '...',
  ];
  for (const forged of forgeries) assert.throws(() => verifyToken(forged, [ecKey, rsaKey]), JwtError, forged);
  assert.deepEqual(verifyToken(good, [rsaKey, ecKey]), { sub: 'a' });
});

test('a bound token authenticates the service account and says which pod and node it is for', async () => {
  const { issue, check, pod, account } = cluster();
  const found = await check(
    issue({ pod: { name: 'web-0', uid: pod.metadata.uid }, node: { name: 'n1', uid: 'node-uid' } }),
  );
  assert.equal(found?.user.name, 'system:serviceaccount:shop:robot');
  assert.equal(found?.user.uid, account.metadata.uid);
  assert.deepEqual(found?.user.groups, ['system:serviceaccounts', 'system:serviceaccounts:shop']);
  const extra = found?.user.extra ?? {};
  assert.deepEqual(extra['authentication.kubernetes.io/pod-name'], ['web-0']);
  assert.deepEqual(extra['authentication.kubernetes.io/node-name'], ['n1']);
  assert.match(extra['authentication.kubernetes.io/credential-id']?.[0] ?? '', /^JTI=[0-9a-f-]{36}$/);
});

test('a token ends with its account, its pod and its time, also when it was used a moment before', async () => {
  const { objects, clock, issue, check, pod } = cluster();
  const bound = issue({ pod: { name: 'web-0', uid: pod.metadata.uid } });
  const free = issue();
  assert.ok(await check(bound));
  objects.remove('', 'pods', 'shop', 'web-0');
  await assert.rejects(check(bound), rejectsWith(/invalidated/));
  objects.put('', 'pods', { metadata: { name: 'web-0', namespace: 'shop' } });
  await assert.rejects(check(bound), rejectsWith(/pod UID/));

  assert.ok(await check(free));
  await clock.advance(3_600_000 + 59_000);
  assert.ok(await check(free), 'a minute of leeway between clocks');
  await clock.advance(2_000);
  await assert.rejects(check(free), rejectsWith(/expired/));

  const fresh = issue();
  objects.remove('', 'serviceaccounts', 'shop', 'robot');
  await assert.rejects(check(fresh), rejectsWith(/invalidated/));
});

test('an account that the cache does not have yet is looked for in the store', async () => {
  const { objects, tokens } = cluster();
  objects.putFreshOnly('', 'serviceaccounts', { metadata: { name: 'new', namespace: 'shop', uid: 'u-new' } });
  const { token } = tokens.issue({
    namespace: 'shop',
    serviceAccount: { name: 'new', uid: 'u-new' },
    audiences: [ISSUER],
    expirationSeconds: 600,
  });
  assert.equal(
    (await tokens.authenticateToken(token, [ISSUER]))?.user.name,
    'system:serviceaccount:shop:new',
  );
});

test('a terminating pod keeps its token for a minute', async () => {
  const { objects, clock, issue, check, pod } = cluster();
  const token = issue({ pod: { name: 'web-0', uid: pod.metadata.uid } });
  objects.put('', 'pods', {
    metadata: {
      name: 'web-0',
      namespace: 'shop',
      uid: pod.metadata.uid,
      deletionTimestamp: new Date(clock.now()).toISOString(),
    },
  });
  assert.ok(await check(token));
  await clock.advance(61_000);
  await assert.rejects(check(token), rejectsWith(/invalidated/));
});

test('audiences: one match is enough, none is a refusal, and the answer names the matches', async () => {
  const { issue, check } = cluster();
  const token = issue({ audiences: ['vault', ISSUER] });
  assert.deepEqual((await check(token, ['vault', 'other']))?.audiences, ['vault']);
  await assert.rejects(check(token, ['other']), rejectsWith(/audiences/));
  await assert.rejects(check(issue({ audiences: ['vault'] })), rejectsWith(/audiences/));
});

test('a token whose subject does not name its service account is refused', async () => {
  const { check, account, clock } = cluster();
  const now = clock.now() / 1000;
  const forged = signToken(ecKey, {
    iss: ISSUER,
    aud: [ISSUER],
    exp: now + 600,
    sub: 'system:serviceaccount:kube-system:admin',
    'kubernetes.io': { namespace: 'shop', serviceaccount: { name: 'robot', uid: account.metadata.uid } },
  });
  await assert.rejects(check(forged), rejectsWith(/subject/));
  const early = signToken(ecKey, { iss: ISSUER, aud: [ISSUER], exp: now + 600, nbf: now + 300, sub: 'x' });
  await assert.rejects(check(early), rejectsWith(/not valid yet/));
  const endless = signToken(ecKey, { iss: ISSUER, aud: [ISSUER], sub: 'x' });
  await assert.rejects(check(endless), rejectsWith(/expiry/));
});

test('a token in a Secret holds while the Secret holds it', async () => {
  const { objects, check, account } = cluster();
  const claims = {
    iss: 'kubernetes/serviceaccount',
    sub: 'system:serviceaccount:shop:robot',
    'kubernetes.io/serviceaccount/namespace': 'shop',
    'kubernetes.io/serviceaccount/secret.name': 'robot-token',
    'kubernetes.io/serviceaccount/service-account.name': 'robot',
    'kubernetes.io/serviceaccount/service-account.uid': account.metadata.uid,
  };
  const token = signToken(rsaKey, claims);
  await assert.rejects(check(token), rejectsWith(/invalidated/));
  const secret = (data: string, type = 'kubernetes.io/service-account-token') =>
    objects.put('', 'secrets', {
      metadata: { name: 'robot-token', namespace: 'shop' },
      type,
      data: { token: Buffer.from(data).toString('base64') },
    });
  secret(token);
  assert.equal((await check(token))?.user.name, 'system:serviceaccount:shop:robot');
  secret('another');
  await assert.rejects(check(token), rejectsWith(/invalidated/));
  secret(token, 'Opaque');
  await assert.rejects(check(token), rejectsWith(/invalidated/));
});

test("another issuer's token is nobody's here", async () => {
  const { check } = cluster();
  assert.equal(await check(signToken(ecKey, { iss: 'https://elsewhere' })), undefined);
  assert.equal(await check('opaque-token'), undefined);
});

test('the token cache is bounded and forgets in time', async () => {
  const clock = new ManualClock();
  const cache = new TokenCache(clock, 3, 1000);
  for (const token of ['a', 'b', 'c', 'd']) cache.set(token, { token });
  assert.equal(cache.size, 3);
  assert.equal(cache.get('a'), undefined);
  assert.deepEqual(cache.get('d'), { token: 'd' });
  await clock.advance(1001);
  assert.equal(cache.get('d'), undefined);
});

test('the static token file: users, groups, quotes, and what is wrong with it', async () => {
  const tokens = staticTokenAuthenticator(
    '# comment\nsecret,jane,u1,"dev,ops"\r\nother,joe,u2\n\nq,"o""neil, bob",u3,"x"\n',
  );
  assert.deepEqual(await tokens.authenticateToken('secret', []), {
    user: { name: 'jane', uid: 'u1', groups: ['dev', 'ops'] },
  });
  assert.deepEqual((await tokens.authenticateToken('other', []))?.user.groups, []);
  assert.equal((await tokens.authenticateToken('q', []))?.user.name, 'o"neil, bob');
  assert.equal(await tokens.authenticateToken('nope', []), undefined);
  assert.throws(() => staticTokenAuthenticator('a,b'), /line 1.*at least 3 columns/);
  assert.throws(() => staticTokenAuthenticator('a,b,c\na,d,e'), /line 2.*already given to b/);
});

test('a request: certificate first, then token, a wrong token is never anonymous', async () => {
  const authenticator = requestAuthenticator({
    tokens: unionTokenAuthenticator([staticTokenAuthenticator('secret,jane,u1,dev')]),
    apiAudiences: [ISSUER],
    anonymous: true,
  });
  const clientCertificate = {
    der: new Uint8Array([1]),
    commonName: 'admin',
    organizations: ['system:masters'],
  };
  const ask = (headers: Credentials['headers'], more: Partial<Credentials> = {}) =>
    authenticator.authenticate(credentials(headers, more));

  assert.deepEqual((await ask({}, { clientCertificate }))?.groups, [
    'system:masters',
    'system:authenticated',
  ]);
  assert.equal((await ask({ authorization: 'Bearer secret' }))?.name, 'jane');
  assert.equal((await ask({ authorization: 'bearer   secret' }))?.name, 'jane');
  assert.deepEqual(await ask({}), { name: 'system:anonymous', groups: ['system:unauthenticated'] });
  assert.equal((await ask({ authorization: 'Basic eDp5' }))?.name, 'system:anonymous');
  const websocket = `base64url.bearer.authorization.k8s.io.${Buffer.from('secret').toString('base64url')}`;
  assert.equal((await ask({ 'sec-websocket-protocol': `v5.channel.k8s.io, ${websocket}` }))?.name, 'jane');
  await assert.rejects(
    ask({ authorization: 'Bearer wrong' }),
    (error) => error instanceof StatusError && error.code === 401 && error.message === 'Unauthorized',
  );
  const noName = { ...clientCertificate, commonName: '' };
  assert.equal((await ask({}, { clientCertificate: noName }))?.name, 'system:anonymous');

  const closed = requestAuthenticator({
    tokens: unionTokenAuthenticator([]),
    apiAudiences: [],
    anonymous: false,
  });
  assert.equal(await closed.authenticate(credentials({})), undefined);
});

test('impersonation asks for every attribute and gives the other identity alone', async () => {
  const asked: string[] = [];
  const allowing: Authorizer = {
    authorize: (a) => {
      asked.push(
        `${a.verb} ${a.group}/${a.resource}${a.subresource && `/${a.subresource}`} ${a.namespace}/${a.name}`,
      );
      return { decision: 'allow', reason: '' };
    },
  };
  const inner = requestAuthenticator({
    tokens: staticTokenAuthenticator('secret,jane,u1,dev'),
    apiAudiences: [],
    anonymous: false,
  });
  const authenticator = impersonatingAuthenticator(inner, allowing);
  const user = await authenticator.authenticate(
    credentials({
      authorization: 'Bearer secret',
      'impersonate-user': 'bob',
      'impersonate-uid': 'u9',
      'impersonate-group': 'a, b,c',
      'impersonate-extra-scopes%2fx': ['view', 'edit'],
    }),
  );
  assert.deepEqual(user, {
    name: 'bob',
    uid: 'u9',
    groups: ['a', 'b,c', 'system:authenticated'],
    extra: { 'scopes/x': ['view', 'edit'] },
  });
  assert.deepEqual(asked, [
    'impersonate /users /bob',
    'impersonate /groups /a',
    'impersonate /groups /b,c',
    'impersonate authentication.k8s.io/userextras/scopes/x /view',
    'impersonate authentication.k8s.io/userextras/scopes/x /edit',
    'impersonate authentication.k8s.io/uids /u9',
  ]);
  const account = await authenticator.authenticate(
    credentials({ authorization: 'Bearer secret', 'impersonate-user': 'system:serviceaccount:ns:sa' }),
  );
  assert.deepEqual(account?.groups, [
    'system:serviceaccounts',
    'system:serviceaccounts:ns',
    'system:authenticated',
  ]);
  assert.equal(asked.at(-1), 'impersonate /serviceaccounts ns/sa');
});

test('impersonation without permission is 403, groups without a user 500, and neither acts', async () => {
  const inner = requestAuthenticator({
    tokens: staticTokenAuthenticator('secret,jane,u1,dev'),
    apiAudiences: [],
    anonymous: true,
  });
  const nobody: Authorizer = { authorize: () => ({ decision: 'no-opinion', reason: '' }) };
  const authenticator = impersonatingAuthenticator(inner, nobody);
  const withToken = { authorization: 'Bearer secret' };
  await assert.rejects(
    authenticator.authenticate(credentials({ ...withToken, 'impersonate-user': 'bob' })),
    (error) =>
      error instanceof StatusError &&
      error.code === 403 &&
      error.message ===
        'users "bob" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope',
  );
  await assert.rejects(
    authenticator.authenticate(credentials({ ...withToken, 'impersonate-group': 'system:masters' })),
    (error) =>
      error instanceof StatusError &&
      error.code === 500 &&
      /without impersonating a user/.test(error.message),
  );
  await assert.rejects(
    authenticator.authenticate(
      credentials({ 'impersonate-user': 'bob', 'impersonate-extra-__proto__': 'x' }),
    ),
    (error) => error instanceof StatusError && error.code === 403 && /system:anonymous/.test(error.message),
  );
});

test('the discovery documents let others verify the tokens', async () => {
  const handlers = issuerDiscovery({
    issuer: ISSUER,
    jwksUri: () => 'https://10.0.0.1:6443/openid/v1/jwks',
    keys: [ecKey, rsaKey],
  });
  const get = async (path: string) => {
    const handler = handlers.find((h) => h.paths.includes(path));
    const answer = await handler?.handle({
      method: 'GET',
      path,
      query: new URLSearchParams(),
      user: { name: 'x', groups: [] },
      signal: new AbortController().signal,
    });
    assert.equal(answer?.status, 200);
    return {
      type: answer?.headers['content-type'],
      body: JSON.parse(String(answer?.body)) as Record<string, unknown>,
    };
  };
  const configuration = await get('/.well-known/openid-configuration');
  assert.equal(configuration.type, 'application/json');
  assert.equal(configuration.body['issuer'], ISSUER);
  assert.deepEqual(configuration.body['id_token_signing_alg_values_supported'], ['ES256', 'RS256']);
  const jwks = await get('/openid/v1/jwks');
  assert.equal(jwks.type, 'application/jwk-set+json');
  const keys = jwks.body['keys'] as Record<string, unknown>[];
  assert.deepEqual(
    keys.map((key) => [key['kid'], key['kty'], key['d']]),
    [
      [ecKey.keyId, 'EC', undefined],
      [rsaKey.keyId, 'RSA', undefined],
    ],
  );
});
