import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import WebSocket from 'ws';
import { parse as parseYaml } from 'yaml';
import { type HttpClient, httpClient, jsonLines } from '../testing/http-client.ts';
import { startTestServer, type TestServer } from '../testing/test-server.ts';

let server: TestServer;
let clients: readonly HttpClient[];
const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';

before(async () => {
  server = await startTestServer({
    listen: true,
    allow: ({ user, verb, path }) =>
      (user.name === 'reader' && (verb === 'get' || verb === 'list')) || path === '/livez',
    bootstrap: async (transport) => {
      const resource = { group: '', version: 'v1', resource: 'configmaps' };
      for (const name of ['seed', 'other'])
        await transport.call({
          verb: 'create',
          resource,
          namespace: 'default',
          body: { metadata: { name, labels: { name } }, data: { text: 'grüße' } },
        });
    },
  });
  clients = [httpClient(server, { protocol: 'HTTP/2' }), httpClient(server, { protocol: 'HTTP/1.1' })];
});
after(async () => {
  for (const client of clients) await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** The same claim over both protocols. */
function each(claim: string, check: (client: HttpClient) => Promise<void>): void {
  test(`${claim}, over HTTP/1.1 and HTTP/2`, async () => {
    for (const client of clients) await check(client);
  });
}

each('an object is served as JSON with kind, apiVersion and resourceVersion', async (client) => {
  const { status, headers, ...answer } = await client.call({ path: `${CONFIG_MAPS}/seed` });
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(headers['cache-control'], 'no-cache, private');
  assert.match(String(headers['audit-id']), /^[0-9a-f-]{36}$/);
  const object = answer.json<{ kind: string; metadata: Record<string, string>; data: object }>();
  assert.equal(object.kind, 'ConfigMap');
  assert.ok(Number(object.metadata['resourceVersion']) > 0);
  assert.deepEqual(object.data, { text: 'grüße' });
});

each('a list leaves kind and apiVersion out of its items', async (client) => {
  const list = (await client.call({ path: CONFIG_MAPS })).json<{
    kind: string;
    items: Record<string, unknown>[];
  }>();
  assert.equal(list.kind, 'ConfigMapList');
  assert.ok(list.items.length >= 2);
  for (const item of list.items) {
    assert.equal(item['kind'], undefined);
    assert.ok((item['metadata'] as Record<string, unknown>)['resourceVersion']);
  }
});

each('create, update, patch and delete answer with the status codes of upstream', async (client) => {
  const name = `w-${client.protocol === 'HTTP/2' ? 2 : 1}`;
  const created = await client.call({ method: 'POST', path: CONFIG_MAPS, body: { metadata: { name } } });
  assert.equal(created.status, 201);
  const object = created.json();
  const path = `${CONFIG_MAPS}/${name}`;
  assert.equal(
    (await client.call({ method: 'PUT', path, body: { ...object, data: { a: 'b' } } })).status,
    200,
  );
  const patched = await client.call({
    method: 'PATCH',
    path,
    headers: { 'content-type': 'application/merge-patch+json' },
    body: '{"data":{"c":"d"}}',
  });
  assert.deepEqual(patched.json<{ data: object }>().data, { a: 'b', c: 'd' });
  assert.equal((await client.call({ method: 'DELETE', path })).status, 200);
  assert.equal((await client.call({ path })).status, 404);
});

each('YAML bodies are taken and YAML answers given', async (client) => {
  const name = `y-${client.protocol === 'HTTP/2' ? 2 : 1}`;
  const made = await client.call({
    method: 'POST',
    path: CONFIG_MAPS,
    headers: { 'content-type': 'application/yaml', accept: 'application/yaml' },
    body: `metadata:\n  name: ${name}\ndata:\n  k: "1"\n`,
  });
  assert.equal(made.status, 201);
  assert.equal(made.headers['content-type'], 'application/yaml');
  assert.equal((parseYaml(made.body.toString()) as { kind: string }).kind, 'ConfigMap');
});

each('unknown fields are warned of, refused or dropped as fieldValidation says', async (client) => {
  const body = { metadata: { generateName: 'f-' }, data: {}, spce: { a: 1 } };
  const call = (query: string) => client.call({ method: 'POST', path: `${CONFIG_MAPS}${query}`, body });
  const warned = await call('');
  assert.equal(warned.status, 201);
  assert.equal(String(warned.headers['warning']), '299 - "unknown field \\"spce\\""');
  const strict = await call('?fieldValidation=Strict');
  assert.equal(strict.status, 400);
  assert.match(strict.json<{ message: string }>().message, /strict decoding error: unknown field "spce"/);
  assert.equal((await call('?fieldValidation=Ignore')).headers['warning'], undefined);
  assert.equal((await call('?fieldValidation=Maybe')).status, 422);
});

each('what the client does not accept is 406, and what the server does not take is 415', async (client) => {
  const path = `${CONFIG_MAPS}/seed`;
  const protobuf = await client.call({ path, headers: { accept: 'application/vnd.kubernetes.protobuf' } });
  assert.equal(protobuf.status, 406);
  assert.equal(protobuf.json<{ reason: string }>().reason, 'NotAcceptable');
  const both = await client.call({
    path,
    headers: { accept: 'application/vnd.kubernetes.protobuf,application/json' },
  });
  assert.equal(both.status, 200);
  assert.equal(both.headers['content-type'], 'application/json');
  const body = await client.call({
    method: 'POST',
    path: CONFIG_MAPS,
    headers: { 'content-type': 'application/cbor' },
    body: Buffer.from([0xd9]),
  });
  assert.equal(body.status, 415);
  assert.match(body.json<{ message: string }>().message, /accepted media types include: application\/json/);
  const patch = await client.call({
    method: 'PATCH',
    path,
    headers: { 'content-type': 'application/json' },
    body: '{}',
  });
  assert.equal(patch.status, 415);
  assert.match(patch.json<{ message: string }>().message, /application\/json-patch\+json/);
});

each('tables have columns, cells and the metadata of their objects', async (client) => {
  const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
  const call = (query: string) => client.call({ path: `${CONFIG_MAPS}${query}`, headers: { accept } });
  const table = (await call('?labelSelector=name%3Dseed')).json<{
    kind: string;
    apiVersion: string;
    metadata: Record<string, string>;
    columnDefinitions: { name: string }[];
    rows: { cells: unknown[]; object?: { kind: string; metadata: { name: string } } }[];
  }>();
  assert.equal(table.kind, 'Table');
  assert.equal(table.apiVersion, 'meta.k8s.io/v1');
  assert.deepEqual(
    table.columnDefinitions.map(({ name }) => name),
    ['Name', 'Data', 'Age'],
  );
  assert.equal(table.rows[0]!.cells[0], 'seed');
  assert.equal(table.rows[0]!.object?.kind, 'PartialObjectMetadata');
  const bare = (await call('?includeObject=None')).json<typeof table>();
  assert.equal(bare.rows[0]!.object, undefined);
  const full = (await call('?includeObject=Object')).json<typeof table>();
  assert.equal(full.rows[0]!.object?.kind, 'ConfigMap');
  assert.equal((await call('?includeObject=Some')).status, 400);
  const one = await client.call({ path: `${CONFIG_MAPS}/seed`, headers: { accept } });
  assert.equal(one.json<typeof table>().rows.length, 1);
});

each('answers that are not in the store have tables too: dry runs and scales', async (client) => {
  const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
  const headers = { accept };
  type Rows = { kind: string; columnDefinitions: { name: string }[]; rows: { cells: unknown[] }[] };
  const dry = await client.call({
    method: 'POST',
    path: `${CONFIG_MAPS}?dryRun=All`,
    headers,
    body: { metadata: { name: 'dry' }, data: { a: 'b' } },
  });
  assert.deepEqual(dry.json<Rows>().rows[0]!.cells.slice(0, 2), ['dry', 1]);
  const labels = { matchLabels: { a: 'b' } };
  const template = { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i' }] } };
  const name = client.protocol === 'HTTP/2' ? 'scaled-2' : 'scaled-1';
  const path = '/apis/apps/v1/namespaces/default/replicasets';
  const body = { metadata: { name }, spec: { replicas: 3, selector: labels, template } };
  assert.equal((await client.call({ method: 'POST', path, headers, body })).status, 201);
  const scale = (await client.call({ path: `${path}/${name}/scale`, headers: { accept } })).json<Rows>();
  assert.deepEqual(
    scale.columnDefinitions.map((column) => column.name),
    ['Name', 'Desired', 'Available', 'Age'],
  );
  assert.deepEqual(scale.rows[0]!.cells.slice(0, 3), [name, 3, 0]);
  const metadata = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
  const partial = await client.call({ path: `${path}/${name}/scale`, headers: { accept: metadata } });
  assert.equal(partial.json<{ kind: string }>().kind, 'PartialObjectMetadata');
});

each('metadata alone is given to who asks for it', async (client) => {
  const accept = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';
  const list = (await client.call({ path: CONFIG_MAPS, headers: { accept } })).json<{
    kind: string;
    items: Record<string, unknown>[];
  }>();
  assert.equal(list.kind, 'PartialObjectMetadataList');
  assert.equal(list.items[0]!['kind'], 'PartialObjectMetadata');
  assert.equal(list.items[0]!['data'], undefined);
});

each('nobody is 401 and who may not is 403, in the words of upstream', async ({ protocol }) => {
  await using nobody = httpClient(server, { protocol, token: false });
  const unauthorized = await nobody.call({ path: CONFIG_MAPS });
  assert.equal(unauthorized.status, 401);
  assert.deepEqual(unauthorized.json(), {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: 'Unauthorized',
    reason: 'Unauthorized',
    code: 401,
  });
  await using jane = httpClient(server, { protocol, token: 'jane' });
  const refused = await jane.call({ path: '/api/v1/namespaces/default/pods' });
  assert.equal(refused.status, 403);
  const status = refused.json<{ message: string; reason: string; details: object }>();
  assert.equal(
    status.message,
    'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"',
  );
  assert.equal(status.reason, 'Forbidden');
  const path = await jane.call({ path: '/metrics' });
  assert.equal(path.json<{ message: string }>().message, 'forbidden: User "jane" cannot get path "/metrics"');
  await using reader = httpClient(server, { protocol, token: 'reader' });
  assert.equal((await reader.call({ path: CONFIG_MAPS })).status, 200);
  assert.equal((await reader.call({ method: 'DELETE', path: `${CONFIG_MAPS}/seed` })).status, 403);
});

each('paths that nobody serves are 404, as text outside the API and as a Status within', async (client) => {
  for (const path of ['/nothing', '/apis/example.com/v1/things', '/api/v7/pods', '/apis/none']) {
    const answer = await client.call({ path });
    assert.equal(answer.status, 404, path);
    assert.equal(answer.body.toString(), '404 page not found\n');
  }
  for (const path of ['/api/v1/things', '/api/v1/namespaces/default/nodes', '/apis/apps/v1/pods/a/b/c/d']) {
    const answer = await client.call({ path });
    assert.equal(answer.status, 404, path);
    assert.equal(
      answer.json<{ message: string }>().message,
      'the server could not find the requested resource',
    );
  }
});

each('methods that a path does not have are 405', async (client) => {
  for (const [method, path] of [
    ['POST', `${CONFIG_MAPS}/seed`],
    ['PUT', CONFIG_MAPS],
    ['DELETE', '/api/v1/namespaces'],
    ['PROPFIND', CONFIG_MAPS],
    ['GET', '/apis/authorization.k8s.io/v1/subjectaccessreviews'],
  ]) {
    const answer = await client.call({
      method: method!,
      path: path!,
      ...(method === 'POST' ? { body: {} } : {}),
    });
    assert.equal(answer.status, 405, `${method} ${path}`);
  }
});

each('discovery is given in the classic and in the aggregated form', async (client) => {
  const classic = (await client.call({ path: '/apis' })).json<{ kind: string; groups: { name: string }[] }>();
  assert.equal(classic.kind, 'APIGroupList');
  assert.ok(classic.groups.some(({ name }) => name === 'apps'));
  const core = (await client.call({ path: '/api/v1' })).json<{
    resources: { name: string; verbs: string[]; shortNames?: string[] }[];
  }>();
  const podResource = core.resources.find(({ name }) => name === 'pods');
  assert.deepEqual(podResource?.shortNames, ['po']);
  assert.ok(core.resources.some(({ name }) => name === 'pods/status'));
  const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json';
  const aggregated = await client.call({ path: '/apis', headers: { accept } });
  assert.equal(
    aggregated.headers['content-type'],
    'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList',
  );
  const { items } = aggregated.json<{ items: { metadata: object }[] }>();
  assert.deepEqual(items.find(({ metadata }) => 'name' in metadata && metadata.name === 'apps')?.metadata, {
    name: 'apps',
  });
  const etag = String(aggregated.headers['etag']);
  const again = await client.call({ path: '/apis', headers: { accept, 'if-none-match': etag } });
  assert.equal(again.status, 304);
  assert.equal(again.body.length, 0);
  const group = (await client.call({ path: '/apis/apps' })).json<{ preferredVersion: { version: string } }>();
  assert.equal(group.preferredVersion.version, 'v1');
});

each('OpenAPI documents are found by index and kept by their hash', async (client) => {
  const index = (await client.call({ path: '/openapi/v3' })).json<{
    paths: Record<string, { serverRelativeURL: string }>;
  }>();
  const { serverRelativeURL } = index.paths['apis/apps/v1']!;
  const document = await client.call({ path: serverRelativeURL });
  assert.equal(document.status, 200);
  assert.match(String(document.headers['cache-control']), /immutable/);
  assert.ok(document.json<{ paths: Record<string, unknown> }>().paths['/apis/apps/v1/deployments']);
  const moved = await client.call({ path: '/openapi/v3/apis/apps/v1?hash=OLD' });
  assert.equal(moved.status, 301);
  assert.equal(moved.headers['location'], serverRelativeURL);
  assert.equal((await client.call({ path: '/openapi/v2' })).status, 200);
});

each('health endpoints tell each check, and version and metrics are real', async (client) => {
  const verbose = await client.call({ path: '/readyz?verbose' });
  assert.match(verbose.body.toString(), /^\[\+\]ping ok\n(.*\n)*readyz check passed\n$/);
  assert.equal((await client.call({ path: '/livez' })).body.toString(), 'ok');
  assert.equal((await client.call({ path: '/healthz/ping' })).body.toString(), 'ok');
  assert.equal((await client.call({ path: '/healthz/none' })).status, 404);
  const excluded = await client.call({ path: '/livez?verbose&exclude=ping&exclude=nothing' });
  assert.match(excluded.body.toString(), /\[\+\]ping excluded: ok\n/);
  assert.match(excluded.body.toString(), /no matches for "nothing"/);
  const version = (await client.call({ path: '/version' })).json<{ major: string; minor: string }>();
  assert.equal(`${version.major}.${version.minor}`, '1.36');
  const metrics = (await client.call({ path: '/metrics' })).body.toString();
  assert.match(metrics, /^apiserver_request_total\{.*resource="configmaps".*code="200"\} [1-9]/m);
  assert.match(metrics, /^apiserver_storage_objects\{resource="configmaps"\} [1-9]/m);
});

each('a watch streams lines of JSON until its time is up', async (client) => {
  const stream = await client.open({
    path: `${CONFIG_MAPS}?watch=true&fieldSelector=metadata.name%3Dlive&timeoutSeconds=3&allowWatchBookmarks=true`,
  });
  assert.equal(stream.status, 200);
  assert.equal(stream.headers['content-type'], 'application/json');
  await client.call({ method: 'POST', path: CONFIG_MAPS, body: { metadata: { name: 'live' } } });
  await client.call({ method: 'DELETE', path: `${CONFIG_MAPS}/live` });
  const types: string[] = [];
  for await (const { type } of jsonLines<{ type: string }>(stream)) types.push(type);
  assert.deepEqual(types.slice(0, 2), ['ADDED', 'DELETED']);
  assert.ok(types.slice(2).every((type) => type === 'BOOKMARK'));
});

each('the old path of a watch and watches of tables work', async (client) => {
  const old = await client.open({
    path: '/api/v1/watch/namespaces/default/configmaps/seed?timeoutSeconds=1',
  });
  const events: { type: string; object: { metadata: { name: string } } }[] = [];
  for await (const event of jsonLines<(typeof events)[0]>(old)) events.push(event);
  assert.deepEqual(
    events.map(({ type, object }) => `${type} ${object.metadata.name}`),
    ['ADDED seed'],
  );
  const tables = await client.open({
    path: `${CONFIG_MAPS}?watch=true&labelSelector=name&timeoutSeconds=1`,
    headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
  });
  const rows: { object: { kind: string; columnDefinitions: unknown[]; rows: { cells: string[] }[] } }[] = [];
  for await (const event of jsonLines<(typeof rows)[0]>(tables)) rows.push(event);
  assert.deepEqual(
    rows.map(({ object }) => object.rows[0]!.cells[0]),
    ['other', 'seed'],
  );
  assert.ok(rows[0]!.object.columnDefinitions.length > 0);
  assert.equal(rows[1]!.object.columnDefinitions.length, 0);
});

test('a watch over a WebSocket sends an event a message', async () => {
  const { authority, adminPair } = server;
  const socket = new WebSocket(
    `${server.server.url.replace('https', 'wss')}${CONFIG_MAPS}?watch=true&labelSelector=name`,
    { ca: authority.certificate, cert: adminPair.certificate, key: adminPair.key },
  );
  const names: string[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('message', (data: Buffer) => {
      const { object } = JSON.parse(data.toString()) as { object: { metadata: { name: string } } };
      names.push(object.metadata.name);
      if (names.length === 2) resolve();
    });
  });
  assert.deepEqual(names, ['other', 'seed']);
  socket.close();
  await new Promise((resolve) => socket.once('close', resolve));
});

each('large answers are compressed for who takes that', async (client) => {
  const text = 'x'.repeat(200_000);
  const name = `large-${client.protocol === 'HTTP/2' ? 2 : 1}`;
  await client.call({ method: 'POST', path: CONFIG_MAPS, body: { metadata: { name }, data: { text } } });
  const path = `${CONFIG_MAPS}/${name}`;
  const packed = await client.call({ path, headers: { 'accept-encoding': 'gzip' } });
  assert.equal(packed.headers['content-encoding'], 'gzip');
  assert.ok(packed.body.length < 20_000);
  assert.equal(
    (JSON.parse(gunzipSync(packed.body).toString()) as { data: { text: string } }).data.text,
    text,
  );
  const plain = await client.call({ path });
  assert.equal(plain.headers['content-encoding'], undefined);
  const small = await client.call({ path: `${CONFIG_MAPS}/seed`, headers: { 'accept-encoding': 'gzip' } });
  assert.equal(small.headers['content-encoding'], undefined);
});

each('curl gets its JSON indented', async (client) => {
  const answer = await client.call({ path: `${CONFIG_MAPS}/seed`, headers: { 'user-agent': 'curl/8.0' } });
  assert.match(answer.body.toString(), /^\{\n {2}"kind": "ConfigMap",\n/);
});

test('another address answers on the same port, and no more when the server is closed', async () => {
  const own = await startTestServer({ listen: true });
  const url = own.server.url.replace('127.0.0.1', '127.0.0.2');
  const target = { server: { url }, authority: own.authority, adminPair: own.adminPair };
  let closed = false;
  try {
    await own.server.listenAlso('127.0.0.2');
    for (const protocol of ['HTTP/2', 'HTTP/1.1'] as const) {
      await using client = httpClient(target, { protocol });
      const { status } = await client.call({ path: `${CONFIG_MAPS}` });
      assert.equal(status, 200, 'who comes by that address is known by the certificate, too');
    }
    await assert.rejects(own.server.listenAlso('127.0.0.2'), { code: 'EADDRINUSE' });
    await own[Symbol.asyncDispose]();
    closed = true;
    await using late = httpClient(target, { protocol: 'HTTP/1.1' });
    await assert.rejects(late.call({ path: '/version' }), { code: 'ECONNREFUSED' });
  } finally {
    if (!closed) await own[Symbol.asyncDispose]();
  }
});
