import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isNotFound, StatusError } from '../api/index.ts';
import { ManualClock } from '../component/index.ts';
import { createClient } from './client.ts';
import { ConnectionError } from './http2-connection.ts';
import { httpsTransport } from './https-transport.ts';
import { namespaced, resources } from './resources.ts';
import { eventually } from './testing/eventually.ts';
import { answerJson, selfSigned, startFreezingPath, startTestServer } from './testing/https-server.ts';

const pods = resources.pods;

test('calls become the requests of the Kubernetes API', async () => {
  const seen: string[] = [];
  await using server = await startTestServer((stream, headers, body) => {
    seen.push(`${headers[':method']} ${headers[':path']} ${headers['content-type'] ?? '-'} ${body}`);
    answerJson(stream, 200, { metadata: { name: 'x' }, items: [] });
  });
  await using transport = httpsTransport({ server: server.url, ca: server.ca });
  const client = createClient(transport);
  const widgets = client.resource(namespaced('example.com', 'v1', 'widgets', 'Widget'), 'ns');
  await widgets.get('a');
  await widgets.list({ labelSelector: 'a in (b,c)', limit: 2 });
  await widgets.create({ metadata: { name: 'a' } }, { dryRun: true, fieldManager: 'me' });
  await widgets.patch('a', { type: 'merge', patch: { x: 1 } }, { subresource: 'status' });
  await widgets.delete('a', { propagationPolicy: 'Foreground', preconditions: { uid: 'u' } });
  await client.resource(resources.nodes).deleteCollection({ fieldSelector: { 'metadata.name': 'a,b' } });
  assert.deepEqual(seen, [
    'GET /apis/example.com/v1/namespaces/ns/widgets/a - ',
    'GET /apis/example.com/v1/namespaces/ns/widgets?labelSelector=a+in+%28b%2Cc%29&limit=2 - ',
    'POST /apis/example.com/v1/namespaces/ns/widgets?dryRun=All&fieldManager=me application/json {"metadata":{"name":"a"},"apiVersion":"example.com/v1","kind":"Widget"}',
    'PATCH /apis/example.com/v1/namespaces/ns/widgets/a/status application/merge-patch+json {"x":1}',
    'DELETE /apis/example.com/v1/namespaces/ns/widgets/a application/json {"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Foreground","preconditions":{"uid":"u"}}',
    'DELETE /api/v1/nodes?fieldSelector=metadata.name%3Da%5C%2Cb application/json {"apiVersion":"v1","kind":"DeleteOptions"}',
  ]);
  assert.equal(server.sessions.size, 1);
});

test('a Status in the body becomes a StatusError, any other failure one that quotes what came', async () => {
  await using server = await startTestServer((stream, headers) => {
    if (headers[':path']?.endsWith('/missing'))
      answerJson(stream, 404, {
        kind: 'Status',
        apiVersion: 'v1',
        status: 'Failure',
        reason: 'NotFound',
        code: 404,
        message: 'pods "missing" not found',
        details: { kind: 'pods', name: 'missing' },
      });
    else {
      stream.respond({ ':status': 502, 'content-type': 'text/html' });
      stream.end('<h1>Bad Gateway</h1>');
    }
  });
  await using transport = httpsTransport({ server: server.url, ca: server.ca });
  const client = createClient(transport).resource(pods, 'ns');
  await assert.rejects(client.get('missing'), (error) => {
    assert.ok(isNotFound(error));
    assert.equal(error.message, 'pods "missing" not found');
    assert.equal(error.status.details?.name, 'missing');
    return true;
  });
  await assert.rejects(client.get('other'), (error) => {
    assert.ok(error instanceof StatusError);
    assert.equal(error.code, 502);
    assert.match(error.message, /Bad Gateway.*get pods "other"/);
    return true;
  });
});

test('a watch is decoded wherever the network cuts it, also within a character', async () => {
  const event = (type: string, name: string) =>
    `${JSON.stringify({ type, object: { metadata: { name, annotations: { text: 'grüße 🌍' } } } })}\n`;
  const bytes = Buffer.from(event('ADDED', 'a') + event('MODIFIED', 'b') + event('DELETED', 'c'));
  for (const size of [1, 2, 3, 7, 64, 1 << 16]) {
    await using server = await startTestServer((stream) => {
      stream.respond({ ':status': 200 });
      for (let at = 0; at < bytes.length; at += size) stream.write(bytes.subarray(at, at + size));
      stream.end();
    });
    await using transport = httpsTransport({ server: server.url, ca: server.ca });
    const seen: string[] = [];
    for await (const e of await transport.watch({ resource: pods })) {
      assert.ok(e.type !== 'ERROR');
      assert.equal(e.object.metadata.annotations?.['text'], 'grüße 🌍');
      seen.push(`${e.type} ${e.object.metadata.name}`);
    }
    assert.deepEqual(seen, ['ADDED a', 'MODIFIED b', 'DELETED c']);
  }
});

test('aborting ends a watch in silence and rejects a call with the reason', async () => {
  let closed = 0;
  let begun = 0;
  await using server = await startTestServer((stream, headers) => {
    begun++;
    stream.once('close', () => closed++);
    if (headers[':path']?.includes('watch=true')) {
      stream.respond({ ':status': 200 });
      stream.write(`${JSON.stringify({ type: 'ADDED', object: { metadata: { name: 'a' } } })}\n`);
    }
  });
  await using transport = httpsTransport({ server: server.url, ca: server.ca });
  const stop = new AbortController();
  let events = 0;
  for await (const _ of await transport.watch({ resource: pods, signal: stop.signal })) {
    events++;
    stop.abort();
  }
  assert.equal(events, 1);
  const second = new AbortController();
  const call = transport.call({ verb: 'get', resource: pods, name: 'x', signal: second.signal });
  const rejected = assert.rejects(call, /enough of it/);
  await eventually('the second request', () => begun === 2);
  second.abort(new Error('enough of it'));
  await rejected;
  await eventually('the server to see both end', () => closed === 2);
});

test('429 with Retry-After is waited out', async () => {
  const clock = new ManualClock();
  let calls = 0;
  await using server = await startTestServer((stream) => {
    if (++calls < 3) answerJson(stream, 429, {}, { 'retry-after': '2' });
    else answerJson(stream, 200, { metadata: { name: 'a' } });
  });
  await using transport = httpsTransport({ server: server.url, ca: server.ca, clock });
  const call = transport.call({ verb: 'create', resource: pods, namespace: 'ns', body: {} });
  await eventually('the first wait', () => calls === 1 && clock.nextDue() === clock.now() + 2000);
  await clock.advance(2000);
  await eventually('the second wait', () => calls === 2 && clock.nextDue() === clock.now() + 2000);
  await clock.advance(2000);
  await call;
  assert.equal(calls, 3);
});

test('a read is repeated when the connection breaks, a write is not', async () => {
  let calls = 0;
  await using server = await startTestServer((stream) => {
    if (++calls === 1) stream.session?.destroy();
    else answerJson(stream, 200, { metadata: { name: 'a' } });
  });
  await using transport = httpsTransport({ server: server.url, ca: server.ca });
  await transport.call({ verb: 'get', resource: pods, namespace: 'ns', name: 'a' });
  assert.equal(calls, 2);
  calls = 0;
  await assert.rejects(
    transport.call({ verb: 'create', resource: pods, namespace: 'ns', body: {} }),
    (error) => error instanceof ConnectionError && error.message.includes(server.url),
  );
  assert.equal(calls, 1);
});

test('a server that goes away in good order loses no request', async () => {
  let calls = 0;
  await using server = await startTestServer((stream) => {
    calls++;
    const { session } = stream;
    answerJson(stream, 201, { metadata: { name: 'a' } });
    session?.close();
  });
  await using transport = httpsTransport({ server: server.url, ca: server.ca });
  for (let i = 0; i < 5; i++)
    await transport.call({ verb: 'create', resource: pods, namespace: 'ns', body: {} });
  assert.equal(calls, 5);
});

test('watches beyond the limit of one connection get another one', async () => {
  await using server = await startTestServer(
    (stream, headers) => {
      if (headers[':path']?.includes('watch=true')) {
        stream.respond({ ':status': 200 });
        stream.write('\n');
      } else answerJson(stream, 200, { metadata: {} });
    },
    { maxConcurrentStreams: 3 },
  );
  await using transport = httpsTransport({ server: server.url, ca: server.ca });
  const stop = new AbortController();
  const watches: Promise<void>[] = [];
  for (let i = 0; i < 7; i++) {
    const stream = await transport.watch({ resource: pods, signal: stop.signal });
    watches.push(
      (async () => {
        for await (const _ of stream) assert.fail('no event was sent');
      })(),
    );
  }
  await transport.call({ verb: 'get', resource: pods, name: 'x' });
  assert.equal(server.sessions.size, 3);
  stop.abort();
  await Promise.all(watches);
});

test('a peer that stops answering is given up, and what waits for it fails', async () => {
  const clock = new ManualClock();
  let asked = false;
  await using server = await startTestServer(() => {
    asked = true;
  });
  await using path = await startFreezingPath(Number(new URL(server.url).port));
  await using transport = httpsTransport({ server: path.url, ca: server.ca, clock });
  const call = transport.call({ verb: 'create', resource: pods, namespace: 'ns', body: {} });
  const rejected = assert.rejects(call, (error) => error instanceof ConnectionError);
  await eventually('the request', () => asked);
  path.freeze();
  await clock.advance(30_000);
  await clock.advance(15_000);
  await rejected;
});

test('a token file that is rotated is read again after a 401', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'bulkhead-token-'));
  try {
    const file = join(directory, 'token');
    await writeFile(file, 'first\n');
    let valid = 'first';
    const sent: string[] = [];
    await using server = await startTestServer((stream, headers) => {
      sent.push(String(headers['authorization']));
      if (headers['authorization'] === `Bearer ${valid}`) answerJson(stream, 200, { metadata: {} });
      else answerJson(stream, 401, {});
    });
    await using transport = httpsTransport({ server: server.url, ca: server.ca, tokenFile: file });
    const get = () => transport.call({ verb: 'get', resource: pods, name: 'x' });
    await get();
    await writeFile(file, 'second, and longer\n');
    valid = 'second, and longer';
    await get();
    valid = 'unknown';
    await assert.rejects(get(), (error) => error instanceof StatusError && error.reason === 'Unauthorized');
    assert.deepEqual(sent, [
      'Bearer first',
      'Bearer first',
      'Bearer second, and longer',
      'Bearer second, and longer',
    ]);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('a client certificate is shown, and a rotated one leads to a new connection', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'bulkhead-cert-'));
  try {
    const [first, second] = await Promise.all([selfSigned('alice'), selfSigned('bob')]);
    const certFile = join(directory, 'cert');
    const keyFile = join(directory, 'key');
    const write = (pair: typeof first) =>
      Promise.all([writeFile(certFile, pair.cert), writeFile(keyFile, pair.key)]);
    await write(first);
    await using server = await startTestServer(
      (stream) => {
        const socket = stream.session?.socket as unknown as {
          getPeerCertificate(): { subject: { CN: string } };
        };
        answerJson(stream, 200, { metadata: { name: socket.getPeerCertificate().subject.CN } });
      },
      { clientCa: `${first.cert}\n${second.cert}` },
    );
    const clock = new ManualClock();
    await using transport = httpsTransport({ server: server.url, ca: server.ca, certFile, keyFile, clock });
    const who = async () => {
      const answer = await transport.call({ verb: 'get', resource: pods, name: 'x' });
      return (answer as { metadata: { name: string } }).metadata.name;
    };
    assert.equal(await who(), 'alice');
    await write(second);
    await clock.advance(61_000);
    assert.equal(await who(), 'bob');
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('errors of connecting say which server and why', async () => {
  const other = await selfSigned('somebody-else');
  await using server = await startTestServer((stream) => answerJson(stream, 200, {}));
  const get = (transport: ReturnType<typeof httpsTransport>) =>
    transport.call({ verb: 'get', resource: pods, name: 'x' });
  await using untrusted = httpsTransport({ server: server.url, ca: other.cert });
  await assert.rejects(get(untrusted), /cannot reach the API server at https:.*certificate/);
  await using insecure = httpsTransport({ server: server.url, insecureSkipTlsVerify: true });
  await get(insecure);
  const { url } = server;
  await server[Symbol.asyncDispose]();
  await using down = httpsTransport({ server: url, ca: server.ca });
  await assert.rejects(get(down), /cannot reach the API server at .*ECONNREFUSED/);
  assert.throws(() => httpsTransport({ server: 'http://localhost' }), /must begin with https/);
  assert.throws(() => httpsTransport({ server: url, cert: 'x' }), /needs its key/);
});

test('a server without HTTP/2 is named as such', async () => {
  const { cert, key } = await selfSigned('old');
  const server = createHttpsServer({ cert, key }, (_, response) => response.end('{}'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await using transport = httpsTransport({ server: `https://127.0.0.1:${port}`, ca: cert });
  await assert.rejects(transport.call({ verb: 'get', resource: pods, name: 'x' }), /does not speak HTTP\/2/);
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

test('Warning headers are handed on', async () => {
  await using server = await startTestServer((stream) =>
    answerJson(stream, 200, { metadata: {} }, { warning: '299 - "v1beta1 is \\"old\\"", 299 - "second"' }),
  );
  const warnings: string[] = [];
  await using transport = httpsTransport({
    server: server.url,
    ca: server.ca,
    onWarning: (text) => warnings.push(text),
  });
  await transport.call({ verb: 'get', resource: pods, name: 'x' });
  assert.deepEqual(warnings, ['v1beta1 is "old"', 'second']);
});
