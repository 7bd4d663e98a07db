import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import type { ApiCall } from '../../api/index.ts';
import { createClient, resources } from '../../client/index.ts';
import { FakeApi } from '../../client/testing/fake-api.ts';
import { createSimulatedHost, type Kubelet, startKubelet } from '../index.ts';
import { type TestAuthority, testAuthority } from '../testing/certificates.ts';
import { eventually, NODE } from '../testing/node.ts';
import { ProcessRuntime } from '../testing/process-runtime.ts';
import { SpdyTestClient } from '../testing/spdy-client.ts';

interface ServedNode extends AsyncDisposable {
  readonly authority: TestAuthority;
  readonly runtime: ProcessRuntime;
  readonly kubelet: Kubelet;
  readonly containerId: string;
  /** Options of a request by the API server. */
  readonly asServer: RequestOptions;
  readonly url: string;
}

/** A node with one running pod, default/web; TokenReviews know `good`, reviews of access allow `kube-apiserver`. */
async function serveNode(options: { readonly tty?: boolean } = {}): Promise<ServedNode> {
  const directory = await mkdtemp(join(tmpdir(), 'kubelet-server-'));
  const authority = await testAuthority();
  const api = new FakeApi();
  api.intercept = (call) => {
    if (call.verb !== 'create') return undefined;
    const { spec } = (call as ApiCall).body as { spec: { token?: string; user?: string } };
    if (call.resource.resource === 'tokenreviews')
      return {
        metadata: {},
        spec,
        status: spec.token === 'good' ? { authenticated: true, user: { username: 'reader' } } : {},
      };
    if (call.resource.resource === 'subjectaccessreviews')
      return { metadata: {}, spec, status: { allowed: spec.user === 'kube-apiserver' } };
    return undefined;
  };
  const client = createClient(api);
  const runtime = new ProcessRuntime(directory);
  const server = await authority.server();
  const kubelet = await startKubelet({
    client,
    nodeName: NODE,
    nodeIPs: ['192.0.2.10'],
    runtime,
    images: runtime,
    host: createSimulatedHost({ isReady: (id) => runtime.isReady(id) }),
    server: {
      address: '127.0.0.1',
      port: 0,
      certificate: server.certificate,
      key: server.key,
      clientAuthorities: authority.certificate,
    },
  });
  await kubelet.ready;
  const pods = client.resource(resources.pods, 'default');
  await pods.create({
    metadata: { name: 'web', namespace: 'default' },
    spec: {
      nodeName: NODE,
      containers: [{ name: 'web', image: 'nginx:1', ...(options.tty && { tty: true, stdin: true }) }],
    },
  });
  await eventually(async () => assert.equal((await pods.get('web')).status.phase, 'Running'));
  const [container] = await runtime.listContainers({ state: 'RUNNING' });
  const caller = await authority.client('kube-apiserver');
  const { port } = kubelet.address!;
  return {
    authority,
    runtime,
    kubelet,
    containerId: container!.id,
    url: `127.0.0.1:${port}`,
    asServer: {
      host: '127.0.0.1',
      port,
      ca: authority.certificate,
      cert: caller.certificate,
      key: caller.key,
      agent: false,
    },
    async [Symbol.asyncDispose]() {
      await kubelet[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
      await runtime[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function get(options: RequestOptions): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(options, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode!, body }));
    });
    request.on('error', reject);
    request.end();
  });
}

async function spdy(
  node: ServedNode,
  path: string,
  protocols: readonly string[],
): Promise<{ client: SpdyTestClient; protocol: string }> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest({
      ...node.asServer,
      method: 'POST',
      path,
      headers: { connection: 'Upgrade', upgrade: 'SPDY/3.1', 'x-stream-protocol-version': [...protocols] },
    });
    request.on('upgrade', (response, socket: Duplex, head) => {
      resolve({
        client: new SpdyTestClient(socket, head),
        protocol: String(response.headers['x-stream-protocol-version'] ?? ''),
      });
    });
    request.on('response', (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      response.on('end', () => reject(new Error(`${response.statusCode} ${body}`)));
    });
    request.on('error', reject);
    request.end();
  });
}

async function webSocket(
  node: ServedNode,
  path: string,
  protocols: readonly string[],
): Promise<{ socket: WebSocket; messages: Buffer[] }> {
  const { ca, cert, key } = node.asServer;
  const socket = new WebSocket(`wss://${node.url}${path}`, [...protocols], {
    ca: ca as string,
    cert: cert as string,
    key: key as string,
  });
  const messages: Buffer[] = [];
  socket.on('message', (data) => messages.push(data as Buffer));
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
    socket.once('unexpected-response', (_request, response) =>
      reject(new Error(String(response.statusCode))),
    );
  });
  return { socket, messages };
}

/** What came on one channel, joined. */
function channel(messages: readonly Buffer[], number: number): string {
  return Buffer.concat(
    messages.filter((message) => message[0] === number).map((message) => message.subarray(1)),
  ).toString();
}

test('nobody is let in without a certificate or a token, and not everybody with one', async () => {
  await using node = await serveNode();
  const { ca } = node.asServer;
  const base = {
    host: '127.0.0.1',
    port: node.kubelet.address!.port,
    agent: false,
    ...(ca !== undefined && { ca }),
  };
  assert.equal((await get({ ...base, path: '/pods' })).status, 401);
  assert.equal((await get({ ...base, path: '/pods', headers: { authorization: 'Bearer bad' } })).status, 401);
  const denied = await get({ ...base, path: '/pods', headers: { authorization: 'Bearer good' } });
  assert.equal(denied.status, 403);
  assert.equal(denied.body, 'Forbidden (user=reader, verb=get, resource=nodes, subresource(s)=[pods proxy])');
  const stranger = await testAuthority();
  const other = await stranger.client('kube-apiserver');
  assert.equal((await get({ ...base, path: '/pods', cert: other.certificate, key: other.key })).status, 401);
  assert.equal((await get({ ...node.asServer, path: '/pods' })).status, 200);
});

test('pods, health and statistics are answered', async () => {
  await using node = await serveNode();
  assert.equal((await get({ ...node.asServer, path: '/healthz' })).body, 'ok');
  const pods = JSON.parse((await get({ ...node.asServer, path: '/pods' })).body) as {
    items: { status: { phase: string } }[];
  };
  assert.equal(pods.items[0]!.status.phase, 'Running');
  const running = JSON.parse((await get({ ...node.asServer, path: '/runningpods/' })).body) as {
    items: { metadata: { name: string } }[];
  };
  assert.equal(running.items[0]!.metadata.name, 'web');
  node.runtime.setUsage(node.containerId, { cores: 0.5, memoryBytes: 1 << 20 });
  const summary = JSON.parse((await get({ ...node.asServer, path: '/stats/summary' })).body) as {
    pods: { containers: { memory: { workingSetBytes: number } }[] }[];
  };
  assert.equal(summary.pods[0]!.containers[0]!.memory.workingSetBytes, 1 << 20);
  const metrics = await get({ ...node.asServer, path: '/metrics/resource' });
  assert.match(
    metrics.body,
    /container_memory_working_set_bytes\{container="web",namespace="default",pod="web"\} 1048576 /,
  );
  assert.equal((await get({ ...node.asServer, path: '/nothing' })).status, 404);
});

test('logs are streamed, and what cannot be had is said in upstream words', async () => {
  await using node = await serveNode();
  await writeFile(node.runtime.logPath(node.containerId), '2026-01-01T00:00:00.000000001Z stdout F hello\n');
  const path = '/containerLogs/default/web/web';
  assert.deepEqual(await get({ ...node.asServer, path }), { status: 200, body: 'hello\n' });
  assert.equal((await get({ ...node.asServer, path: `${path}?tailLines=no` })).status, 422);
  const previous = await get({ ...node.asServer, path: `${path}?previous=true` });
  assert.deepEqual(previous, {
    status: 400,
    body: 'previous terminated container "web" in pod "web" not found',
  });
  assert.equal((await get({ ...node.asServer, path: '/containerLogs/default/none/web' })).status, 404);
  assert.equal((await get({ ...node.asServer, path: '/containerLogs/default/web/none' })).status, 404);
  // Following ends with the container.
  const seen: string[] = [];
  const following = new Promise<void>((resolve, reject) => {
    const request = httpsRequest({ ...node.asServer, path: `${path}?follow=true` }, (response) => {
      response.on('data', (chunk: Buffer) => seen.push(chunk.toString()));
      response.on('end', resolve);
    });
    request.on('error', reject);
    request.end();
  });
  await eventually(() => assert.deepEqual(seen, ['hello\n']));
  node.runtime.exit(node.containerId, 0);
  await following;
});

const EXEC = '/exec/default/web/web';

function command(...parts: readonly string[]): string {
  return parts.map((part) => `&command=${encodeURIComponent(part)}`).join('');
}

test('exec over SPDY carries the streams and the exit code', async () => {
  await using node = await serveNode();
  const path = `${EXEC}?input=1&output=1&error=1${command('sh', '-c', 'cat; echo oops >&2; exit 7')}`;
  const { client, protocol } = await spdy(node, path, [
    'v5.unknown',
    'v4.channel.k8s.io',
    'v3.channel.k8s.io',
  ]);
  assert.equal(protocol, 'v4.channel.k8s.io');
  const error = await client.open({ streamType: 'error' });
  const stdin = await client.open({ streamType: 'stdin' });
  const stdout = await client.open({ streamType: 'stdout' });
  const stderr = await client.open({ streamType: 'stderr' });
  client.send(stdin, 'typed', true);
  await eventually(() => assert.equal(error.ended, true));
  assert.equal(stdout.data.toString(), 'typed');
  assert.equal(stderr.data.toString(), 'oops\n');
  assert.deepEqual(JSON.parse(error.data.toString()), {
    metadata: {},
    status: 'Failure',
    reason: 'NonZeroExitCode',
    message: 'command terminated with non-zero exit code: exit status 7',
    details: { causes: [{ reason: 'ExitCode', message: '7' }] },
  });
  await eventually(() => assert.equal(client.closed, true));
});

test('a client of SPDY that offers no protocol we know is refused with what we know', async () => {
  await using node = await serveNode();
  await assert.rejects(
    spdy(node, `${EXEC}?output=1${command('true')}`, ['v9.channel.k8s.io']),
    /403 unable to upgrade: unable to negotiate protocol: client supports \[v9\.channel\.k8s\.io\]/,
  );
});

test('exec over WebSocket carries the streams, and version 5 closes stdin', async () => {
  await using node = await serveNode();
  const path = `${EXEC}?input=1&output=1&error=1${command('sh', '-c', 'cat; echo oops >&2; exit 3')}`;
  const { socket, messages } = await webSocket(node, path, ['v5.channel.k8s.io']);
  socket.send(Buffer.from('\u0000typed'));
  socket.send(Buffer.from([255, 0]));
  await eventually(() => assert.equal(socket.readyState, WebSocket.CLOSED));
  assert.equal(channel(messages, 1), 'typed');
  assert.equal(channel(messages, 2), 'oops\n');
  const status = JSON.parse(channel(messages, 3)) as { details: { causes: { message: string }[] } };
  assert.equal(status.details.causes[0]!.message, '3');
});

test('the base64 protocol and terminal sizes work over WebSocket', async () => {
  await using node = await serveNode();
  const plain = await webSocket(node, `${EXEC}?output=1${command('echo', 'hi')}`, ['base64.channel.k8s.io']);
  await eventually(() => assert.equal(plain.socket.readyState, WebSocket.CLOSED));
  const text = plain.messages.map((message) => message.toString()).find((message) => message.length > 1)!;
  assert.equal(text, `1${Buffer.from('hi\n').toString('base64')}`);
  const terminal = await webSocket(node, `${EXEC}?input=1&output=1&tty=1${command('cat')}`, [
    'v4.channel.k8s.io',
  ]);
  terminal.socket.send(Buffer.from('\u0004{"Width":120,"Height":40}'));
  await eventually(() => assert.deepEqual(node.runtime.sizes, [{ width: 120, height: 40 }]));
  terminal.socket.terminate();
});

test('a command that cannot be started and a container that is not there are told', async () => {
  await using node = await serveNode();
  const { socket, messages } = await webSocket(node, `${EXEC}?output=1${command('/no/such/program')}`, [
    'v4.channel.k8s.io',
  ]);
  await eventually(() => assert.equal(socket.readyState, WebSocket.CLOSED));
  assert.match(channel(messages, 3), /"reason":"InternalError".*error executing command in container/);
  await assert.rejects(
    webSocket(node, `/exec/default/web/none?output=1${command('true')}`, ['v4.channel.k8s.io']),
    /500/,
  );
  await assert.rejects(webSocket(node, `${EXEC}?${command('true')}`, ['v4.channel.k8s.io']), /400/);
  await assert.rejects(webSocket(node, '/exec/default/none/web?output=1', ['v4.channel.k8s.io']), /400|404/);
});

test('attach joins the container, with a terminal when its spec has one', async () => {
  await using node = await serveNode({ tty: true });
  const { socket, messages } = await webSocket(node, '/attach/default/web/web?input=1&output=1&error=1', [
    'v5.channel.k8s.io',
  ]);
  socket.send(Buffer.from('\u0000echo'));
  await eventually(() => assert.equal(channel(messages, 1), 'echo'));
  socket.send(Buffer.from([255, 0]));
  await eventually(() => assert.equal(socket.readyState, WebSocket.CLOSED));
  assert.equal(channel(messages, 3), '{"metadata":{},"status":"Success"}');
});

async function echoServer(): Promise<{ port: number } & AsyncDisposable> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

async function forwardOnce(client: SpdyTestClient, port: number, id: string): Promise<void> {
  const error = await client.open({ streamType: 'error', port: String(port), requestID: id });
  const data = await client.open({ streamType: 'data', port: String(port), requestID: id });
  client.send(data, `ping ${id}`, true);
  await eventually(() => assert.equal(data.ended && error.ended, true));
  assert.equal(data.data.toString(), `ping ${id}`);
  assert.equal(error.data.length, 0);
}

test('ports are forwarded over SPDY, several connections at once, and a refused one is told', async () => {
  await using node = await serveNode();
  await using echo = await echoServer();
  const { client } = await spdy(node, '/portForward/default/web', ['portforward.k8s.io']);
  await Promise.all(['0', '1', '2'].map((id) => forwardOnce(client, echo.port, id)));
  const error = await client.open({ streamType: 'error', port: '1', requestID: '9' });
  await client.open({ streamType: 'data', port: '1', requestID: '9' });
  await eventually(() => assert.equal(error.ended, true));
  assert.match(error.data.toString(), /^error forwarding port 1 to pod web_default: /);
  client.close();
});

/** The bytes of a WebSocket's binary messages as a stream: ws refuses the name of the protocol that is tested with it. */
async function tunnel(node: ServedNode, path: string, protocol: string): Promise<Duplex> {
  const socket = await new Promise<Duplex>((resolve, reject) => {
    const request = httpsRequest({
      ...node.asServer,
      path,
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': Buffer.alloc(16).toString('base64'),
        'sec-websocket-protocol': protocol,
      },
    });
    request.on('upgrade', (response, upgraded: Duplex) => {
      assert.equal(response.headers['sec-websocket-protocol'], protocol);
      resolve(upgraded);
    });
    request.on('response', (response) => reject(new Error(String(response.statusCode))));
    request.on('error', reject);
    request.end();
  });
  let pending: Buffer = Buffer.alloc(0);
  const stream = new Duplex({
    read: () => {},
    write(chunk: Buffer, _encoding, done) {
      // One masked binary message; the mask of zeros leaves the payload as it is.
      const header = Buffer.alloc(14);
      header.set([0x82, 0x80 | 127]);
      header.writeBigUInt64BE(BigInt(chunk.length), 2);
      socket.write(Buffer.concat([header, chunk]), done);
    },
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    for (;;) {
      if (pending.length < 2) return;
      const short = pending[1]! & 127;
      const header = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (pending.length < header) return;
      const length =
        short === 126 ? pending.readUInt16BE(2) : short === 127 ? Number(pending.readBigUInt64BE(2)) : short;
      if (pending.length < header + length) return;
      if ((pending[0]! & 15) === 2) stream.push(pending.subarray(header, header + length));
      pending = pending.subarray(header + length);
    }
  });
  socket.on('close', () => stream.destroy());
  return stream;
}

test('SPDY in a WebSocket forwards ports for new kubectl', async () => {
  await using node = await serveNode();
  await using echo = await echoServer();
  const client = new SpdyTestClient(
    await tunnel(node, '/portForward/default/web', 'SPDY/3.1+portforward.k8s.io'),
  );
  await forwardOnce(client, echo.port, '0');
  client.close();
});

test('channels in a WebSocket forward ports for older clients', async () => {
  await using node = await serveNode();
  await using echo = await echoServer();
  const { socket, messages } = await webSocket(node, `/portForward/default/web?port=${echo.port}`, [
    'v4.channel.k8s.io',
  ]);
  socket.send(Buffer.from('\u0000ping'));
  await eventually(() => assert.equal(channel(messages, 0).slice(2), 'ping'));
  assert.equal(messages[0]!.readUInt16LE(1), echo.port);
  socket.terminate();
});
