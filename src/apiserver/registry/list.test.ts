import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { StatusError } from '../../api/errors.ts';
import type { KubeList, KubeObject } from '../../api/object.ts';
import type { Status } from '../../api/types/meta-v1.ts';
import { startTestServer, type TestServer } from '../testing/test-server.ts';

const resource = { group: '', version: 'v1', resource: 'configmaps' };
const pods = { group: '', version: 'v1', resource: 'pods' };
let server: TestServer;
let namespace: string;
let counter = 0;

before(async () => {
  server = await startTestServer();
});
after(() => server[Symbol.asyncDispose]());
beforeEach(() => {
  namespace = `test-${++counter}`;
});

async function create(
  name: string,
  labels: Record<string, string> = {},
  ns = namespace,
): Promise<KubeObject> {
  const body = { metadata: { name, labels } };
  return (await server.transport.call({ verb: 'create', resource, namespace: ns, body })) as KubeObject;
}

async function remove(name: string): Promise<void> {
  await server.transport.call({ verb: 'delete', resource, namespace, name });
}

async function list(
  query: Record<string, string> = {},
  ns: string | undefined = namespace,
): Promise<KubeList> {
  const where = ns === undefined ? {} : { namespace: ns };
  return (await server.transport.call({ verb: 'list', resource, ...where, query })) as KubeList;
}

const names = ({ items }: KubeList): string[] => items.map(({ metadata }) => metadata.name);

async function refusal(promise: Promise<unknown>): Promise<Status & { code: number }> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof StatusError, String(error));
    return error.status;
  }
  assert.fail('the call was not refused');
}

test('a list holds one namespace in the order of names, or all of them, with the newest revision', async () => {
  for (const name of ['b', 'a', 'c']) await create(name);
  await create('z', {}, `${namespace}-x`);
  const own = await list();
  assert.equal(own.kind, 'ConfigMapList');
  assert.deepEqual(names(own), ['a', 'b', 'c']);
  assert.equal(own.metadata.resourceVersion, String(server.store.revision));
  const all = await server.transport.call({ verb: 'list', resource });
  assert.ok(names(all as KubeList).includes('z'));
});

test('label selectors choose', async () => {
  await create('a', { app: 'x', tier: '1' });
  await create('b', { app: 'x', tier: '2' });
  await create('c', { app: 'y' });
  assert.deepEqual(names(await list({ labelSelector: 'app=x' })), ['a', 'b']);
  assert.deepEqual(names(await list({ labelSelector: 'app=x,tier!=1' })), ['b']);
  assert.deepEqual(names(await list({ labelSelector: '!tier' })), ['c']);
  assert.deepEqual(names(await list({ labelSelector: 'app in (y,z)' })), ['c']);
  const bad = await refusal(list({ labelSelector: 'a in x' }));
  assert.equal(bad.code, 400);
  assert.match(bad.message ?? '', /unable to parse requirement/);
});

test('field selectors choose by name, namespace and what the kind offers, and are refused for other fields', async () => {
  await create('a');
  await create('b');
  assert.deepEqual(names(await list({ fieldSelector: 'metadata.name=b' })), ['b']);
  assert.deepEqual(names(await list({ fieldSelector: 'metadata.name!=b' })), ['a']);
  assert.deepEqual(names(await list({ fieldSelector: 'metadata.name=nothing' })), []);
  const everywhere = await server.transport.call({
    verb: 'list',
    resource,
    query: { fieldSelector: `metadata.namespace=${namespace}` },
  });
  assert.deepEqual(names(everywhere as KubeList), ['a', 'b']);
  for (const name of ['p', 'q'])
    await server.transport.call({
      verb: 'create',
      resource: pods,
      namespace,
      body: {
        metadata: { name },
        spec: { nodeName: `node-${name}`, containers: [{ name: 'c', image: 'i' }] },
      },
    });
  const onNode = await server.transport.call({
    verb: 'list',
    resource: pods,
    query: { fieldSelector: 'spec.nodeName=node-q' },
  });
  assert.deepEqual(names(onNode as KubeList), ['q']);
  const bad = await refusal(list({ fieldSelector: 'data.k=v' }));
  assert.equal(bad.code, 400);
});

test('pages join to the list as it was when it was begun, whatever is written between them', async () => {
  const all = Array.from({ length: 25 }, (_, i) => `n${String(i).padStart(2, '0')}`);
  for (const name of all) await create(name);
  const first = await list({ limit: '10' });
  assert.equal(first.items.length, 10);
  assert.equal(first.metadata.remainingItemCount, 15);
  await create('a-new-one-before');
  await create('n10-new');
  await remove('n15');
  const second = await list({ limit: '10', continue: first.metadata.continue! });
  assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
  assert.equal(second.metadata.remainingItemCount, 5);
  const third = await list({ limit: '10', continue: second.metadata.continue! });
  assert.equal(third.metadata.continue, undefined);
  assert.equal(third.metadata.remainingItemCount, undefined);
  assert.deepEqual([...names(first), ...names(second), ...names(third)], all);
});

test('pages of a selector hold what matches and do not tell how many remain', async () => {
  for (let i = 0; i < 12; i++) await create(`n${String(i).padStart(2, '0')}`, { odd: String(i % 2) });
  const first = await list({ limit: '4', labelSelector: 'odd=1' });
  assert.deepEqual(names(first), ['n01', 'n03', 'n05', 'n07']);
  assert.equal(first.metadata.remainingItemCount, undefined);
  await create('zz', { odd: '1' });
  const second = await list({ limit: '4', labelSelector: 'odd=1', continue: first.metadata.continue! });
  assert.deepEqual(names(second), ['n09', 'n11']);
  assert.equal(second.metadata.continue, undefined);
});

test('an exact revision is read from history and a revision not older from now', async () => {
  const a = await create('a');
  await create('b');
  const version = a.metadata.resourceVersion;
  const exact = await list({ resourceVersion: version, resourceVersionMatch: 'Exact' });
  assert.deepEqual(names(exact), ['a']);
  assert.equal(exact.metadata.resourceVersion, version);
  const newer = await list({ resourceVersion: version, resourceVersionMatch: 'NotOlderThan' });
  assert.deepEqual(names(newer), ['a', 'b']);
  assert.deepEqual(names(await list({ resourceVersion: '0' })), ['a', 'b']);
});

test('a page after compaction is 410 with a token for the rest as it is now', async () => {
  for (const name of ['a', 'b', 'c']) await create(name);
  const first = await list({ limit: '1' });
  await create('d');
  await server.store.compact(server.store.revision);
  const expired = await refusal(list({ limit: '1', continue: first.metadata.continue! }));
  assert.equal(expired.code, 410);
  assert.equal(expired.reason, 'Expired');
  assert.match(expired.message ?? '', /^The provided continue parameter is too old/);
  const rest = await list({ continue: (expired.metadata as { continue: string }).continue });
  assert.deepEqual(names(rest), ['b', 'c', 'd']);
  const exact = await refusal(
    list({ resourceVersion: first.metadata.resourceVersion!, resourceVersionMatch: 'Exact' }),
  );
  assert.equal(exact.message, 'The resourceVersion for the provided list is too old.');
});

test('a revision from the future is 504 with the cause that clients know', async () => {
  const future = String(server.store.revision + 1_000);
  const status = await refusal(list({ resourceVersion: future, resourceVersionMatch: 'NotOlderThan' }));
  assert.equal(status.code, 504);
  assert.equal(status.reason, 'Timeout');
  assert.equal(status.details?.retryAfterSeconds, 1);
  assert.deepEqual(status.details?.causes, [
    { reason: 'ResourceVersionTooLarge', message: 'Too large resource version' },
  ]);
  assert.match(status.message ?? '', /^Timeout: Too large resource version: \d+, current: \d+$/);
});

test('combinations of options that make no sense are refused as upstream does', async () => {
  const cases: readonly (readonly [query: Record<string, string>, message: RegExp])[] = [
    [
      { resourceVersionMatch: 'Exact' },
      /resourceVersionMatch is forbidden unless resourceVersion is provided/,
    ],
    [{ resourceVersionMatch: 'Exact', resourceVersion: '0' }, /"exact" is forbidden for resourceVersion "0"/],
    [{ resourceVersionMatch: 'Sometimes', resourceVersion: '1' }, /Unsupported value: "Sometimes"/],
    [{ sendInitialEvents: 'true' }, /sendInitialEvents is forbidden for list/],
  ];
  for (const [query, message] of cases) {
    const status = await refusal(list(query));
    assert.equal(status.code, 422);
    assert.match(status.message ?? '', /^ListOptions\.meta\.k8s\.io "" is invalid: /);
    assert.match(status.message ?? '', message);
  }
  assert.equal((await refusal(list({ limit: 'many' }))).code, 400);
  assert.equal((await refusal(list({ resourceVersion: 'x' }))).reason, 'Invalid');
});

test('a forged continue token is refused and cannot lead out of its resource', async () => {
  await create('a');
  const token = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  for (const bad of [
    'x',
    '%%%',
    token({ v: 'v0', rv: 1, start: 'a' }),
    token({ v: 'meta.k8s.io/v1', rv: 0, start: 'a' }),
    token({ v: 'meta.k8s.io/v1', rv: 1, start: '' }),
    token({ v: 'meta.k8s.io/v1', rv: 1, start: '../secrets/default/a' }),
    token({ v: 'meta.k8s.io/v1', rv: 1, start: 'aaa/b' }),
    token(7),
  ])
    assert.equal((await refusal(list({ continue: bad }))).code, 400, bad);
});

test('a list at once after a write holds what was written', async () => {
  for (let i = 0; i < 50; i++) {
    await create(`n-${i}`);
    assert.equal((await list()).items.length, i + 1);
  }
});
