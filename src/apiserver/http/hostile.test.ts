// What a client may send that is not meant well, or not well made: the server answers, or cuts that one connection,
// and goes on serving everybody else.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2, constants } from 'node:http2';
import { after, before, test } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { type HttpClient, httpClient } from '../testing/http-client.ts';
import { startTestServer, type TestServer } from '../testing/test-server.ts';

let server: TestServer;
let client: HttpClient;
const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';

before(async () => {
  server = await startTestServer({
    listen: true,
    limits: { requestTimeoutMs: 400 },
    // A virtual resource that never answers, to have something slow.
    virtualResources: [
      {
        group: 'authorization.k8s.io',
        resource: 'selfsubjectaccessreviews',
        subresource: '',
        verbs: ['create'],
        handle: () => new Promise(() => {}),
      },
      {
        group: 'authentication.k8s.io',
        resource: 'selfsubjectreviews',
        subresource: '',
        verbs: ['create'],
        handle: () => {
          throw new TypeError('a bug in a handler');
        },
      },
    ],
  });
  client = httpClient(server, { protocol: 'HTTP/2' });
});
after(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function stillServes(): Promise<void> {
  assert.equal((await client.call({ path: '/livez' })).status, 200);
}

function rawTls(protocols: string[] = []): Promise<TLSSocket> {
  const { authority, adminPair } = server;
  const { port } = new URL(server.server.url);
  return new Promise((resolve, reject) => {
    const socket = connectTls(
      {
        host: '127.0.0.1',
        port: Number(port),
        ca: authority.certificate,
        cert: adminPair.certificate,
        key: adminPair.key,
        ALPNProtocols: protocols,
      },
      () => resolve(socket),
    );
    socket.once('error', reject);
  });
}

async function answerTo(text: string | Buffer): Promise<string> {
  const socket = await rawTls();
  socket.on('error', () => {});
  socket.write(text);
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of socket) chunks.push(chunk as Buffer);
  } catch {
    // The server may cut the connection while the rest of the request is still on its way.
  }
  return Buffer.concat(chunks).toString();
}

const post = (body: string | Buffer, contentType = 'application/json') =>
  client.call({ method: 'POST', path: CONFIG_MAPS, headers: { 'content-type': contentType }, body });

test('bodies that are no objects are 400', async () => {
  for (const body of [
    '',
    '{',
    'null',
    '[]',
    '"text"',
    '7',
    '{"metadata":7}',
    '{"kind":"Pod","apiVersion":"v1"}',
    '\xff\xfe',
  ])
    assert.ok([400, 422].includes((await post(body)).status), JSON.stringify(body));
  await stillServes();
});

test('bodies nested without end are refused, in JSON, YAML, protobuf and patches', async () => {
  const deep = '['.repeat(200_000);
  assert.equal((await post(`{"metadata":{"name":"a"},"data":${deep}`)).status, 400);
  assert.equal(
    (await post(`{"metadata":{"name":"a"},"x":${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}}`)).status,
    400,
  );
  assert.equal((await post(`a: ${'['.repeat(20_000)}`, 'application/yaml')).status, 400);
  assert.equal(
    (await post(Buffer.from('k8s\0\xff\xff\xff\xff\xff', 'latin1'), 'application/vnd.kubernetes.protobuf'))
      .status,
    400,
  );
  await client.call({ method: 'POST', path: CONFIG_MAPS, body: { metadata: { name: 'deep' } } });
  const patch = await client.call({
    method: 'PATCH',
    path: `${CONFIG_MAPS}/deep`,
    headers: { 'content-type': 'application/merge-patch+json' },
    body: `{"data":${'{"a":'.repeat(30_000)}1${'}'.repeat(30_000)}}`,
  });
  assert.ok(patch.status >= 400 && patch.status < 500, String(patch.status));
  await stillServes();
});

test('a YAML bomb does not grow', async () => {
  const lines = ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]'];
  for (let i = 1; i < 12; i++)
    lines.push(
      `a${i}: &a${i} [${Array(10)
        .fill(`*a${i - 1}`)
        .join(',')}]`,
    );
  assert.equal((await post(lines.join('\n'), 'application/yaml')).status, 400);
  await stillServes();
});

test('keys that JavaScript gives a meaning are plain keys', async () => {
  const body =
    '{"metadata":{"name":"proto","labels":{"constructor":"x"}},"data":{"__proto__":"p","toString":"t"}}';
  assert.equal((await post(body)).status, 201);
  const object = await client.call({ path: `${CONFIG_MAPS}/proto` });
  assert.match(object.body.toString(), /"__proto__":"p"/);
  assert.equal(({} as Record<string, unknown>)['p'], undefined);
  const patched = await client.call({
    method: 'PATCH',
    path: `${CONFIG_MAPS}/proto`,
    headers: { 'content-type': 'application/merge-patch+json' },
    body: '{"__proto__":{"polluted":"yes"},"metadata":{"annotations":{"__proto__":"a"}}}',
  });
  assert.ok(patched.status === 200 || patched.status === 422, String(patched.status));
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  await stillServes();
});

test('a body of more than 3 MiB is 413, announced or not', async () => {
  const big = Buffer.alloc(3 * 1024 * 1024 + 1, 'x');
  const announced = await answerTo(
    `POST ${CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 999999999\r\n\r\n`,
  );
  assert.match(announced, /^HTTP\/1\.1 413 /);
  assert.match(announced, /"reason":"RequestEntityTooLarge"/);
  assert.equal((await post(big)).status, 413);
  await stillServes();
});

test('paths with odd escapes, dots and control characters are answered, never followed', async () => {
  for (const path of [
    '/api/v1/namespaces/%ZZ/pods',
    '/api/v1/namespaces/a%2Fb/pods/c%00',
    '/api/v1/../../etc/passwd',
    '//',
    '/api//v1',
    '/apis/%2e%2e/v1/x',
  ])
    assert.ok((await client.call({ path })).status < 500, path);
  assert.equal((await client.call({ path: `${CONFIG_MAPS}/..%2F..%2Fsecrets%2Fx` })).status, 404);
  const long = await client.call({ path: `${CONFIG_MAPS}/${'n'.repeat(20_000)}` });
  assert.equal(long.status, 404);
  await stillServes();
});

test('a name that would leave its place in the store is refused', async () => {
  for (const name of ['../x', 'a/b', '..', '.', 'a%2Fb']) {
    const answer = await client.call({ method: 'POST', path: CONFIG_MAPS, body: { metadata: { name } } });
    assert.equal(answer.status, 422, name);
  }
});

test('malformed HTTP/1.1 is 400 and closes that connection', async () => {
  for (const text of [
    'GET\r\n\r\n',
    'GET / HTTP/9.9\r\n\r\n',
    'GET / HTTP/1.1\r\nbad header\r\n\r\n',
    '\r\n\r\n\0\0\0',
  ])
    assert.match(await answerTo(text), /^HTTP\/1\.1 (400|431|505) /, JSON.stringify(text));
  const smuggled = await answerTo(
    `POST ${CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n`,
  );
  assert.match(smuggled, /^HTTP\/1\.1 400 /);
  await stillServes();
});

test('headers of more than the limit are refused', async () => {
  const answer = await answerTo(`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(400_000)}\r\n\r\n`);
  assert.ok(answer === '' || answer.startsWith('HTTP/1.1 431 '), answer);
  await stillServes();
});

test('a request that takes too long is answered with 504', async () => {
  const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
  const slow = await client.call({ method: 'POST', path, body: { spec: {} } });
  assert.equal(slow.status, 504);
  assert.equal(slow.json<{ reason: string }>().reason, 'Timeout');
  const sooner = await client.call({ method: 'POST', path: `${path}?timeout=10ms`, body: { spec: {} } });
  assert.equal(sooner.status, 504);
  assert.equal((await client.call({ path: `${CONFIG_MAPS}?timeout=soon` })).status, 400);
});

test('a body that does not come is given up with 504', async () => {
  const socket = await rawTls();
  socket.write(
    `POST ${CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"meta`,
  );
  const [first] = (await once(socket, 'data')) as [Buffer];
  assert.match(first.toString(), /^HTTP\/1\.1 504 /);
  socket.destroy();
  await stillServes();
});

test('an exception in a handler is a 500 for its client alone', async () => {
  const answer = await client.call({
    method: 'POST',
    path: '/apis/authentication.k8s.io/v1/selfsubjectreviews',
    body: {},
  });
  assert.equal(answer.status, 500);
  const status = answer.json<{ reason: string; message: string }>();
  assert.equal(status.reason, 'InternalError');
  assert.equal(status.message, 'Internal error occurred: a bug in a handler');
  await stillServes();
});

test('clients that go away in the middle leave nothing open', async () => {
  const { authority, adminPair } = server;
  for (let i = 0; i < 20; i++) {
    const session = connectHttp2(server.server.url, {
      ca: authority.certificate,
      cert: adminPair.certificate,
      key: adminPair.key,
    });
    session.on('error', () => {});
    const watch = session.request({ ':path': `${CONFIG_MAPS}?watch=true` });
    watch.on('error', () => {});
    const post = session.request({ ':method': 'POST', ':path': CONFIG_MAPS });
    post.on('error', () => {});
    post.write('{"metadata":');
    await once(watch, 'response');
    session.destroy();
  }
  const deadline = Date.now() + 5_000;
  for (;;) {
    const metrics = (await client.call({ path: '/metrics' })).body.toString();
    if (/^apiserver_longrunning_requests\{verb="WATCH"\} 0$/m.test(metrics)) break;
    assert.ok(Date.now() < deadline, 'watches are left open');
  }
});

test('streams that are opened and reset in a flood do not stop the server', async () => {
  const { authority, adminPair } = server;
  const session = connectHttp2(server.server.url, {
    ca: authority.certificate,
    cert: adminPair.certificate,
    key: adminPair.key,
  });
  session.on('error', () => {});
  const closed = once(session, 'close');
  for (let i = 0; i < 5_000 && !session.destroyed; i++) {
    const stream = session.request({ ':path': '/livez' });
    stream.on('error', () => {});
    stream.close(constants.NGHTTP2_CANCEL);
  }
  await stillServes();
  session.destroy();
  await closed;
});

test('a watcher that does not read does not hold up the others or grow without end', async () => {
  const slow = await client.open({ path: `${CONFIG_MAPS}?watch=true&labelSelector=flood` });
  const payload = 'z'.repeat(100_000);
  await using writer = httpClient(server, { protocol: 'HTTP/2' });
  await using reader = httpClient(server, { protocol: 'HTTP/2' });
  const fast = await reader.open({ path: `${CONFIG_MAPS}?watch=true&labelSelector=flood` });
  let seen = 0;
  const reading = (async () => {
    for await (const chunk of fast) {
      seen += chunk.toString().split('"type":"ADDED"').length - 1;
      if (seen >= 200) return;
    }
  })();
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 200; i++) {
    const body = { metadata: { name: `flood-${i}`, labels: { flood: 'x' } }, data: { payload } };
    assert.equal((await writer.call({ method: 'POST', path: CONFIG_MAPS, body })).status, 201);
  }
  await reading;
  // What is stored once (20 MB) must not be held a second time for the slow one.
  assert.ok(process.memoryUsage().arrayBuffers - before < 120e6);
  slow.close();
  await stillServes();
});

test('what a client makes up does not become a metric', async () => {
  for (let i = 0; i < 50; i++) {
    await client.call({ path: `/api/v1/namespaces/default/made-up-${i}` });
    await client.call({ path: `/apis/made-up-${i}.example.com/v1/things` });
    await client.call({ path: `/made-up-${i}` });
    await client.call({ method: `MADEUP${i}`, path: CONFIG_MAPS });
  }
  const metrics = (await client.call({ path: '/metrics' })).body.toString();
  assert.doesNotMatch(metrics, /made-?up/i);
});

test('more requests than may be under way at once are told to come back', async () => {
  await using small = await startTestServer({
    listen: true,
    limits: { maxMutatingInFlight: 2, requestTimeoutMs: 1_500 },
    allow: () => true,
    virtualResources: [
      {
        group: 'authorization.k8s.io',
        resource: 'selfsubjectaccessreviews',
        subresource: '',
        verbs: ['create'],
        handle: () => new Promise(() => {}),
      },
    ],
  });
  await using jane = httpClient(small, { protocol: 'HTTP/2', token: 'jane' });
  const call = () =>
    jane.call({
      method: 'POST',
      path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
      body: { spec: {} },
    });
  const answers = await Promise.all([call(), call(), call(), call()]);
  assert.deepEqual(answers.map(({ status }) => status).sort(), [429, 429, 504, 504]);
  const refused = answers.find(({ status }) => status === 429)!;
  assert.equal(refused.headers['retry-after'], '1');
  // Who must mend the server gets in.
  await using admin = httpClient(small, { protocol: 'HTTP/2' });
  const filling = [call(), call()];
  const body = { metadata: { name: 'a' } };
  assert.equal((await admin.call({ method: 'POST', path: CONFIG_MAPS, body })).status, 201);
  await Promise.all(filling);
});
