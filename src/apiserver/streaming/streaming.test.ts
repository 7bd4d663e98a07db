import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer, request as httpsRequest, type Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { WebSocket, WebSocketServer } from 'ws';
import type { KubeObject } from '../../api/index.ts';
import { createMemoryStore } from '../../store/index.ts';
import type { ChainFactory } from '../chain.ts';
import { type ApiServer, defaultChain, startApiServer } from '../index.ts';
import { type TestAuthority, type TestKeyPair, testAuthority } from '../testing/certificates.ts';
import { proxyLinks, rewriteHtml } from './html-links.ts';
import { Kubelets } from './kubelets.ts';
import { logParameters } from './logs.ts';
import { proxies, splitProxyUrl } from './proxy.ts';
import { isProxyable, parseProxyName } from './proxy-target.ts';
import { Backends } from './relay.ts';

const MASTERS = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
}) as string;

/** Waits for a condition that some event will make true. */
async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `in vain: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

interface Cluster extends AsyncDisposable {
  readonly server: ApiServer;
  readonly port: number;
  readonly ca: TestAuthority;
  readonly admin: TestKeyPair;
  readonly kubelet: TlsServer;
  readonly seen: IncomingMessage[];
  /** Connections that the kubelet holds. */
  connections(): Promise<number>;
  onRequest: (request: IncomingMessage, response: ServerResponse) => void;
  onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  fetch(
    path: string,
    options?: { method?: string; headers?: Record<string, string>; body?: string; cert?: TestKeyPair },
  ): Promise<Answer>;
  open(path: string, cert?: TestKeyPair): Promise<IncomingMessage>;
  dial(): Promise<TLSSocket>;
  create(resource: string, object: object, namespace?: string): Promise<unknown>;
}

async function cluster(
  adapt: (factory: ChainFactory) => ChainFactory = (factory) => factory,
): Promise<Cluster> {
  const ca = await testAuthority();
  const [serving, kubeletServing, client, admin] = await Promise.all([
    ca.server(),
    ca.server(),
    ca.client('kube-apiserver-kubelet-client', ['system:masters']),
    ca.client('admin', ['system:masters']),
  ]);
  const seen: IncomingMessage[] = [];
  const kubelet = createServer({
    cert: kubeletServing.certificate,
    key: kubeletServing.key,
    ca: ca.certificate,
    requestCert: true,
    rejectUnauthorized: true,
  });
  kubelet.on('request', (request, response) => {
    seen.push(request);
    self.onRequest(request, response);
  });
  kubelet.on('upgrade', (request, socket, head) => {
    seen.push(request);
    self.onUpgrade(request, socket, head);
  });
  kubelet.listen(0, '127.0.0.1');
  await once(kubelet, 'listening');
  const store = createMemoryStore();
  const server = await startApiServer({
    store,
    listen: {
      host: '127.0.0.1',
      port: 0,
      certificate: serving.certificate,
      key: serving.key,
      clientCa: ca.certificate,
    },
    chain: adapt(
      defaultChain({
        serviceAccountKey: key,
        staticTokens: 'viewer-token,viewer,u1',
        kubelet: { ca: ca.certificate, cert: client.certificate, key: client.key },
      }),
    ),
  });
  await server.ready;
  const port = server.address?.port ?? 0;
  const tls = (cert: TestKeyPair = admin) => ({
    host: '127.0.0.1',
    port,
    ca: ca.certificate,
    cert: cert.certificate,
    key: cert.key,
  });
  const transport = server.transport(MASTERS);
  const create = (resource: string, object: object, namespace?: string): Promise<unknown> =>
    transport.call({
      verb: 'create',
      resource: { group: '', version: 'v1', resource },
      body: object,
      ...(namespace && { namespace }),
    });
  const self: Cluster = {
    server,
    port,
    ca,
    admin,
    kubelet,
    seen,
    create,
    connections: () =>
      new Promise((resolve, reject) =>
        kubelet.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      ),
    onRequest: (_request, response) => response.end(),
    onUpgrade: (_request, socket) => socket.destroy(),
    open: (path, cert) =>
      new Promise((resolve, reject) => {
        const request = httpsRequest({ ...tls(cert), path, agent: false }, resolve);
        request.on('error', reject);
        request.end();
      }),
    async fetch(path, { method = 'GET', headers = {}, body, cert } = {}) {
      const request = httpsRequest({ ...tls(cert), path, method, headers, agent: false });
      request.end(body);
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      let text = '';
      for await (const chunk of response) text += String(chunk);
      return { status: response.statusCode ?? 0, headers: response.headers, body: text };
    },
    async dial() {
      const options = { ...tls(), allowHalfOpen: true };
      const socket = connect(options);
      await once(socket, 'secureConnect');
      return socket;
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      kubelet.closeAllConnections();
      await new Promise((resolve) => kubelet.close(resolve));
      await store[Symbol.asyncDispose]();
    },
  };
  await create('namespaces', { metadata: { name: 'shop' } });
  await transport.call({
    verb: 'create',
    resource: { group: '', version: 'v1', resource: 'serviceaccounts' },
    namespace: 'shop',
    body: { metadata: { name: 'default' } },
  });
  await create('nodes', { metadata: { name: 'n1' } });
  await transport.call({
    verb: 'patch',
    resource: { group: '', version: 'v1', resource: 'nodes' },
    name: 'n1',
    subresource: 'status',
    patchType: 'application/merge-patch+json',
    body: {
      status: {
        addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
        daemonEndpoints: { kubeletEndpoint: { Port: (kubelet.address() as AddressInfo).port } },
      },
    },
  });
  const pod = (name: string, containers: string[], more: object = {}) =>
    create(
      'pods',
      {
        metadata: { name },
        spec: { containers: containers.map((c) => ({ name: c, image: 'x' })), nodeName: 'n1', ...more },
      },
      'shop',
    );
  await pod('web', ['app']);
  await pod('pair', ['a', 'b'], { initContainers: [{ name: 'init', image: 'x' }] });
  await pod('waiting', ['app'], { nodeName: undefined });
  await pod('lost', ['app'], { nodeName: 'n2' });
  return self;
}

const statusOf = ({ body }: Answer) => JSON.parse(body) as { code: number; reason?: string; message: string };
const LOG = '/api/v1/namespaces/shop/pods/web/log';
const EXEC = '/api/v1/namespaces/shop/pods/web/exec';

describe('logs', () => {
  let c: Cluster;
  before(async () => {
    c = await cluster();
  });
  after(() => c[Symbol.asyncDispose]());

  test('come from the kubelet, asked with this server’s certificate and the client’s options', async () => {
    c.onRequest = (_request, response) => response.end('line 1\nline 2\n');
    const answer = await c.fetch(`${LOG}?follow=true&tailLines=5&timestamps=1&previous=false&pretty=true`);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['content-type'], 'text/plain');
    assert.equal(answer.body, 'line 1\nline 2\n');
    const request = c.seen.at(-1)!;
    assert.equal(request.url, '/containerLogs/shop/web/app?follow=true&timestamps=true&tailLines=5');
    assert.equal(
      (request.socket as TLSSocket).getPeerCertificate().subject.CN,
      'kube-apiserver-kubelet-client',
    );
  });

  test('are followed as they are written, and the kubelet is let go when the client goes', async () => {
    let writer: ServerResponse | undefined;
    c.onRequest = (_request, response) => {
      writer = response;
      response.write('one\n');
    };
    const answer = await c.open(`${LOG}?follow=true`);
    const chunks: string[] = [];
    answer.on('data', (chunk) => chunks.push(String(chunk)));
    await until(() => chunks.join('') === 'one\n', 'the first line');
    writer?.write('two\n');
    await until(() => chunks.join('') === 'one\ntwo\n', 'the second line');
    let closed = false;
    writer?.on('close', () => {
      closed = true;
    });
    answer.on('error', () => {});
    answer.destroy();
    await until(() => closed, 'the kubelet hears that nobody reads');
  });

  test('a slow reader slows the kubelet down instead of filling the memory', async () => {
    let written = 0;
    c.onRequest = (_request, response) => {
      const chunk = Buffer.alloc(256 * 1024, 'x');
      const more = (): void => {
        while (written < 64 * 1024 * 1024 && !response.destroyed) {
          written += chunk.length;
          if (!response.write(chunk)) return;
        }
      };
      response.on('drain', more);
      more();
    };
    const answer = await c.open(LOG);
    answer.on('error', () => {});
    let last = -1;
    let turns = 0;
    await until(() => {
      turns = written === last ? turns + 1 : 0;
      last = written;
      return written > 0 && turns > 1000;
    }, 'the kubelet stops writing');
    assert.ok(written < 32 * 1024 * 1024, `${written} bytes were taken that nobody read`);
    answer.destroy();
  });

  test('a log that breaks off is not taken for a whole one', async () => {
    c.onRequest = (_request, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('part', () => response.destroy());
    };
    await assert.rejects(c.fetch(LOG));
  });

  test('what the kubelet refuses comes back as a Status', async () => {
    const refuse = (status: number, text: string) => {
      c.onRequest = (_request, response) => response.writeHead(status).end(text);
      return c.fetch(LOG);
    };
    const waiting = await refuse(400, 'container "app" in pod "web" is waiting to start: ContainerCreating');
    assert.deepEqual(
      [waiting.status, statusOf(waiting).reason, statusOf(waiting).message],
      [400, 'BadRequest', 'container "app" in pod "web" is waiting to start: ContainerCreating'],
    );
    const broken = await refuse(500, 'oh no');
    assert.deepEqual([broken.status, statusOf(broken).message], [500, 'Internal error occurred: oh no']);
    assert.equal((await refuse(404, 'no such pod')).status, 404);
  });

  test('the pod and its container are found, or it is said what is missing', async () => {
    c.onRequest = (_request, response) => response.end('ok');
    const message = async (path: string) => {
      const answer = await c.fetch(`/api/v1/namespaces/shop/pods/${path}`);
      return `${answer.status} ${statusOf(answer).message}`;
    };
    assert.equal(
      await message('pair/log'),
      '400 a container name must be specified for pod pair, choose one of: [a b] or one of the init containers: [init]',
    );
    assert.equal(await message('pair/log?container=c'), '400 container c is not valid for pod pair');
    assert.equal(await message('none/log'), '404 pods "none" not found');
    assert.equal(await message('lost/log'), '500 nodes "n2" not found');
    const waiting = await c.fetch('/api/v1/namespaces/shop/pods/waiting/log');
    assert.deepEqual([waiting.status, waiting.body], [200, '']);
    assert.match(
      await message('web/log?tailLines=-1'),
      /^422 PodLogOptions "web" is invalid: tailLines: Invalid value: -1/,
    );
    assert.match(await message('web/log?tailLines=x'), /^400 /);
    assert.match(await message('web/log?limitBytes=0'), /^422 .*must be greater than 0/);
  });

  test('a kubelet that is not there, or is not who it should be, is an error', async () => {
    const other = await testAuthority('other');
    const client = await other.client('x');
    const kubelets = new Kubelets(c.server.reader, {
      ca: other.certificate,
      cert: client.certificate,
      key: client.key,
    });
    assert.equal(kubelets.backend('n1').verify, true);
    assert.throws(
      () => new Kubelets(c.server.reader, undefined).backend('n1'),
      /without a client certificate for kubelets/,
    );
    const bad = await cluster((factory) => (context) => factory(context));
    await new Promise((resolve) => bad.kubelet.close(resolve).closeAllConnections());
    const answer = await bad.fetch(LOG);
    assert.equal(answer.status, 500);
    assert.match(
      statusOf(answer).message,
      /^Get "https:\/\/127\.0\.0\.1:\d+\/containerLogs\/shop\/web\/app\?": dial tcp 127\.0\.0\.1:\d+: connect: connection refused$/,
    );
    await bad[Symbol.asyncDispose]();
  });
});

test('log options are judged as upstream judges them', () => {
  const of = (text: string): string => logParameters(new URLSearchParams(text), 'p').toString();
  assert.equal(
    of('sinceTime=2026-01-01T00:00:00Z&limitBytes=10'),
    'limitBytes=10&sinceTime=2026-01-01T00%3A00%3A00Z',
  );
  assert.throws(() => of('sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1'), /at most one of/);
  assert.throws(() => of('stream=Both'), /supported values: "All", "Stdout", "Stderr"/);
  assert.throws(() => of('sinceTime=yesterday'), /parsing time/);
});

describe('exec, attach and port-forward', () => {
  let c: Cluster;
  before(async () => {
    c = await cluster();
  });
  after(() => c[Symbol.asyncDispose]());

  const upgradeRequest = (path: string, more: string[] = []) =>
    [
      `POST ${path} HTTP/1.1`,
      'Host: api',
      'Connection: Upgrade',
      'Upgrade: SPDY/3.1',
      'X-Stream-Protocol-Version: v4.channel.k8s.io',
      'X-Stream-Protocol-Version: v3.channel.k8s.io',
      'Content-Length: 0',
      ...more,
      '',
      '',
    ].join('\r\n');
  const agree = (socket: Duplex) =>
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n',
    );
  const quiet = async () =>
    until(async () => (await c.connections()) === 0, 'the kubelet has no connection left');

  async function readHead(socket: Duplex): Promise<{ head: string; rest: Buffer }> {
    let data = Buffer.alloc(0);
    for (;;) {
      const end = data.indexOf('\r\n\r\n');
      if (end >= 0) return { head: data.subarray(0, end).toString(), rest: data.subarray(end + 4) };
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      data = Buffer.concat([data, chunk]);
    }
  }

  test('SPDY goes through byte by byte, in both directions, to the kubelet’s path', async () => {
    c.onUpgrade = (_request, socket) => {
      agree(socket);
      socket.write('hello ');
      socket.on('data', (chunk: Buffer) => socket.write(chunk));
      socket.on('end', () => socket.end());
    };
    const socket = await c.dial();
    socket.write(
      upgradeRequest(
        `${EXEC}?command=sh&command=-c&command=echo+%22%26%22&stdin=true&stdout=1&stderr=false&tty=true`,
        ['Authorization: Bearer viewer-token', 'Impersonate-User: admin'],
      ).replace('Authorization: Bearer viewer-token\r\nImpersonate-User: admin\r\n', ''),
    );
    const { head, rest } = await readHead(socket);
    assert.match(head, /^HTTP\/1.1 101 Switching Protocols\r\n/);
    assert.match(head, /Upgrade: SPDY\/3.1/);
    assert.match(head, /X-Stream-Protocol-Version: v4.channel.k8s.io/);
    const request = c.seen.at(-1)!;
    assert.equal(request.method, 'POST');
    assert.equal(
      request.url,
      '/exec/shop/web/app?input=1&output=1&tty=1&command=sh&command=-c&command=echo+%22%26%22',
    );
    assert.deepEqual(request.headers['x-stream-protocol-version'], 'v4.channel.k8s.io, v3.channel.k8s.io');
    assert.equal(request.headers['authorization'], undefined);
    const big = Buffer.alloc(3_000_000);
    for (let i = 0; i < big.length; i++) big[i] = i * 7;
    let got = rest;
    socket.on('data', (chunk: Buffer) => {
      got = Buffer.concat([got, chunk]);
    });
    socket.write(big);
    await until(() => got.length === big.length + 6, 'everything comes back');
    assert.ok(got.equals(Buffer.concat([Buffer.from('hello '), big])));
    socket.end();
    await once(socket, 'close');
    await quiet();
  });

  test('an end that one side sends is sent on, and what the other still says arrives', async () => {
    c.onUpgrade = (_request, socket) => {
      agree(socket);
      socket.allowHalfOpen = true;
      let heard = '';
      socket.on('data', (chunk: Buffer) => {
        heard += chunk.toString();
      });
      socket.on('end', () => socket.end(`heard ${heard}`));
    };
    const socket = await c.dial();
    socket.write(upgradeRequest(`${EXEC}?command=a&stdin=1`));
    await readHead(socket);
    let answer = '';
    socket.on('data', (chunk) => {
      answer += String(chunk);
    });
    socket.end('last words');
    await once(socket, 'end');
    assert.equal(answer, 'heard last words');
    await quiet();
  });

  test('whichever side goes, the other is let go', async () => {
    let kubeletSide: Duplex | undefined;
    c.onUpgrade = (_request, socket) => {
      kubeletSide = socket;
      agree(socket);
      socket.on('error', () => {});
      socket.resume();
    };
    const first = await c.dial();
    first.write(upgradeRequest(`${EXEC}?command=a&stdout=1`));
    await readHead(first);
    first.destroy();
    await quiet();
    const second = await c.dial();
    second.on('error', () => {});
    second.write(upgradeRequest(`${EXEC}?command=a&stdout=1`));
    await readHead(second);
    const ended = once(second, 'close');
    second.on('end', () => second.end());
    second.resume();
    kubeletSide?.destroy();
    await ended;
    await quiet();
  });

  test('WebSocket clients reach the kubelet with their protocol, not with their token', async () => {
    const kubelet = new WebSocketServer({ noServer: true });
    const echoing = (request: IncomingMessage, socket: Duplex, head: Buffer): void =>
      kubelet.handleUpgrade(request, socket as Socket, head, (opened) =>
        opened.on('message', (data, binary) => opened.send(data, { binary })),
      );
    c.onUpgrade = echoing;
    const client = (path: string, protocols: string[], options: object = {}) =>
      new WebSocket(`wss://127.0.0.1:${c.port}${path}`, protocols, {
        ca: c.ca.certificate,
        cert: c.admin.certificate,
        key: c.admin.key,
        ...options,
      });
    const socket = client(`${EXEC}?command=cat&stdin=1&stdout=1`, ['v5.channel.k8s.io', 'v4.channel.k8s.io']);
    await once(socket, 'open');
    assert.equal(socket.protocol, 'v5.channel.k8s.io');
    const echoed = once(socket, 'message');
    const data = Buffer.alloc(200_000, 'z');
    socket.send(data);
    assert.ok(((await echoed)[0] as Buffer).equals(data));
    socket.close();
    await once(socket, 'close');
    // Its name has a slash, which ws takes for a mistake; kubectl does not.
    c.onUpgrade = (_request, socket) => {
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n\r\n',
      );
      socket.on('end', () => socket.end());
      socket.resume();
    };
    const forward = await c.dial();
    forward.write(
      'GET /api/v1/namespaces/shop/pods/web/portforward?ports=80,8080 HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n\r\n',
    );
    assert.match((await readHead(forward)).head, /Sec-WebSocket-Protocol: SPDY\/3\.1\+portforward\.k8s\.io/i);
    assert.equal(c.seen.at(-1)?.url, '/portForward/shop/web?port=80%2C8080');
    assert.equal(c.seen.at(-1)?.headers['sec-websocket-protocol'], 'SPDY/3.1+portforward.k8s.io');
    forward.end();
    await once(forward, 'close');
    c.onUpgrade = echoing;

    await c.server.transport(MASTERS).call({
      verb: 'create',
      resource: { group: 'rbac.authorization.k8s.io', version: 'v1', resource: 'clusterrolebindings' },
      body: {
        metadata: { name: 'viewer' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'edit' },
        subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'viewer' }],
      },
    });
    const token = `base64url.bearer.authorization.k8s.io.${Buffer.from('viewer-token').toString('base64url')}`;
    const browser = client(`/api/v1/namespaces/shop/pods/web/attach?stdout=1`, [token, 'v4.channel.k8s.io'], {
      cert: undefined,
      key: undefined,
    });
    await once(browser, 'open');
    assert.equal(browser.protocol, 'v4.channel.k8s.io');
    assert.equal(c.seen.at(-1)?.url, '/attach/shop/web/app?output=1');
    assert.equal(c.seen.at(-1)?.headers['sec-websocket-protocol'], 'v4.channel.k8s.io');
    browser.close();
    await once(browser, 'close');
    await quiet();
  });

  test('who may only get does not exec over a WebSocket’s GET', async () => {
    const transport = c.server.transport(MASTERS);
    const rbac = { group: 'rbac.authorization.k8s.io', version: 'v1' };
    await transport.call({
      verb: 'create',
      resource: { ...rbac, resource: 'clusterroles' },
      body: {
        metadata: { name: 'looks' },
        rules: [{ verbs: ['get'], apiGroups: [''], resources: ['pods', 'pods/exec'] }],
      },
    });
    await transport.call({
      verb: 'create',
      resource: { ...rbac, resource: 'clusterrolebindings' },
      body: {
        metadata: { name: 'looks' },
        roleRef: { apiGroup: rbac.group, kind: 'ClusterRole', name: 'looks' },
        subjects: [{ kind: 'User', apiGroup: rbac.group, name: 'looker' }],
      },
    });
    const cert = await c.ca.client('looker');
    const socket = new WebSocket(`wss://127.0.0.1:${c.port}${EXEC}?command=sh`, ['v5.channel.k8s.io'], {
      ca: c.ca.certificate,
      cert: cert.certificate,
      key: cert.key,
    });
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
    assert.equal(response.statusCode, 403);
    let body = '';
    for await (const chunk of response) body += String(chunk);
    assert.match(body, /cannot create resource \\"pods\/exec\\"/);
  });

  test('refusals before the upgrade: ours as Status, the kubelet’s as it says them', async () => {
    const refused = async (path: string) => {
      const socket = await c.dial();
      socket.write(upgradeRequest(path));
      const { head, rest } = await readHead(socket);
      const parts: Buffer[] = [rest];
      for await (const chunk of socket) parts.push(chunk as Buffer);
      return { head, body: Buffer.concat(parts).toString() };
    };
    const pods = '/api/v1/namespaces/shop/pods';
    const waiting = await refused(`${pods}/waiting/exec?command=a`);
    assert.match(waiting.head, /^HTTP\/1.1 400 /);
    assert.equal(
      (JSON.parse(waiting.body) as { message: string }).message,
      'pod waiting does not have a host assigned',
    );
    assert.match(
      (await refused(`${pods}/pair/exec?command=a`)).body,
      /choose one of: \[a b\] or one of the init containers: \[init\]/,
    );
    assert.match((await refused(`${pods}/web/portforward?ports=0`)).body, /numbers from 1 to 65535/);
    c.onRequest = (_request, response) => response.end('served');
    c.onUpgrade = (_request, socket) =>
      socket.end(
        'HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 28\r\n\r\ncontainer not found ("app")\n',
      );
    const kubelet = await refused(`${EXEC}?command=a`);
    assert.match(kubelet.head, /^HTTP\/1.1 500 /);
    assert.equal(kubelet.body, 'container not found ("app")\n');
    c.onUpgrade = (_request, socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi');
    const confused = await refused(`${EXEC}?command=a`);
    assert.match(confused.head, /^HTTP\/1.1 500 /);
    assert.equal(confused.body, 'invalid upgrade response: status code 200');
    const plain = await c.fetch(`${EXEC}?command=a`, { method: 'POST' });
    assert.equal(plain.status, 400);
    await quiet();
  });
});

describe('proxies', () => {
  let c: Cluster;
  let backend: Server;
  let target = 0;
  before(async () => {
    c = await cluster((factory) => (context) => {
      const chain = factory(context);
      const backends = new Backends();
      const kubelets = new Kubelets(context.reader, undefined);
      const own = proxies({
        reader: {
          ...context.reader,
          // Endpoints on the loopback are refused by validation, and the test has no other address.
          get: <T extends KubeObject>(group: string, resource: string, namespace: string, name: string) =>
            (resource === 'endpoints' && name === 'web'
              ? { subsets: [{ addresses: [{ ip: '127.0.0.1' }], ports: [{ name: 'http', port: target }] }] }
              : context.reader.get<T>(group, resource, namespace, name)) as T | undefined,
        },
        kubelets,
        backends,
        random: () => 0,
        proxyable: () => true,
      });
      return {
        ...chain,
        streamingResources: [
          ...chain.streamingResources.filter(({ subresource }) => subresource !== 'proxy'),
          ...own,
        ],
        async [Symbol.asyncDispose]() {
          backends[Symbol.dispose]();
          await chain[Symbol.asyncDispose]();
        },
      };
    });
    backend = createHttpServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += String(chunk);
      if (request.url === '/page')
        response.setHeader('content-type', 'text/html; charset=utf-8').end('<a href="/x">x</a>');
      else if (request.url === '/away') response.writeHead(302, { location: '/login?next=1' }).end();
      else
        response
          .setHeader('x-method', request.method ?? '')
          .end(JSON.stringify({ url: request.url, headers: request.headers, body }));
    });
    backend.on('upgrade', (request, socket) => {
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n${request.url}`,
      );
      socket.on('end', () => socket.end());
      socket.resume();
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    target = (backend.address() as AddressInfo).port;
    const transport = c.server.transport(MASTERS);
    await transport.call({
      verb: 'patch',
      resource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'shop',
      name: 'web',
      subresource: 'status',
      patchType: 'application/merge-patch+json',
      body: { status: { podIP: '127.0.0.1', podIPs: [{ ip: '127.0.0.1' }] } },
    });
    await c.create(
      'services',
      { metadata: { name: 'web' }, spec: { ports: [{ name: 'http', port: 80 }] } },
      'shop',
    );
    await c.create('services', { metadata: { name: 'idle' }, spec: { ports: [{ port: 80 }] } }, 'shop');
  });
  after(async () => {
    await c[Symbol.asyncDispose]();
    backend.closeAllConnections();
    await new Promise((resolve) => backend.close(resolve));
  });

  test('a request reaches the pod with its path, query, body and headers, less the credentials', async () => {
    const base = `/api/v1/namespaces/shop/pods/web:${target}/proxy`;
    const answer = await c.fetch(`${base}/a%2Fb//c/?q=1&q=2`, {
      method: 'PUT',
      body: 'data',
      headers: { 'x-mine': 'yes', authorization: 'Bearer viewer-token' },
    });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['x-method'], 'PUT');
    const seen = JSON.parse(answer.body) as { url: string; headers: Record<string, string>; body: string };
    assert.equal(seen.url, '/a%2Fb//c/?q=1&q=2');
    assert.equal(seen.body, 'data');
    assert.equal(seen.headers['x-mine'], 'yes');
    assert.equal(seen.headers['authorization'], undefined);
    assert.equal(seen.headers['x-forwarded-uri'], `${base}/a%2Fb//c/`);
    const bare = await c.fetch(`${base}?x=1`);
    assert.deepEqual([bare.status, bare.headers.location], [301, `${base}/?x=1`]);
  });

  test('links and redirects of the program stay under its proxy', async () => {
    const base = `/api/v1/namespaces/shop/services/http:web:http/proxy`;
    const page = await c.fetch(`${base}/page`, { headers: { accept: 'text/html' } });
    assert.equal(page.body, `<a href="${base}/x">x</a>`);
    assert.equal(page.headers['content-length'], String(page.body.length));
    assert.equal((await c.fetch(`${base}/away`)).headers.location, `${base}/login?next=1`);
  });

  test('an upgraded connection reaches the program', async () => {
    const socket = await c.dial();
    socket.write(
      `GET /api/v1/namespaces/shop/services/web:80/proxy/ws?a=b HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`,
    );
    let text = '';
    socket.on('data', (chunk) => {
      text += String(chunk);
    });
    await until(() => text.endsWith('\r\n\r\n/ws?a=b'), 'the program answers');
    socket.end();
    await once(socket, 'close');
  });

  test('what cannot be reached is said', async () => {
    const message = async (path: string) => {
      const answer = await c.fetch(path);
      return `${answer.status} ${statusOf(answer).message}`;
    };
    const shop = '/api/v1/namespaces/shop';
    assert.equal(
      await message(`${shop}/services/idle/proxy/`),
      '503 no endpoints available for service "idle"',
    );
    assert.equal(
      await message(`${shop}/services/web:x/proxy/`),
      '503 no service port "x" found for service "web"',
    );
    assert.equal(await message(`${shop}/services/none/proxy/`), '404 services "none" not found');
    assert.equal(await message(`${shop}/pods/ftp:web:1/proxy/`), '400 invalid pod request "ftp:web:1"');
    assert.match(
      await message(`${shop}/pods/web:1/proxy/`),
      /^503 error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused$/,
    );
  });
});

test('addresses of this machine and its link are not proxied to', () => {
  for (const address of ['10.244.0.7', '192.168.1.1', '2001:db8::1'])
    assert.ok(isProxyable(address), address);
  for (const address of [
    '127.0.0.1',
    '127.9.9.9',
    '169.254.169.254',
    '0.0.0.0',
    '::1',
    '::',
    'fe80::1',
    '::ffff:127.0.0.1',
    '::ffff:169.254.169.254',
    '',
    'localhost',
    '0x7f.1',
    '2130706433',
  ])
    assert.ok(!isProxyable(address), address);
  assert.deepEqual(parseProxyName('https:web:8443', 'pod'), { scheme: 'https', name: 'web', port: '8443' });
  assert.throws(() => parseProxyName('a:b:c:d', 'pod'));
});

test('a proxy URL is cut where the proxy begins, also when names look like resources', () => {
  assert.deepEqual(splitProxyUrl('/api/v1/namespaces/pods/pods/proxy/proxy/a/?x', true), {
    prefix: '/api/v1/namespaces/pods/pods/proxy/proxy',
    path: '/a/',
    query: '?x',
  });
  assert.deepEqual(splitProxyUrl('/api/v1/nodes/n1/proxy', false), {
    prefix: '/api/v1/nodes/n1/proxy',
    path: '',
    query: '',
  });
});

test('links are rewritten in the attributes that hold them, and nowhere else', () => {
  const links = proxyLinks('/p', 'pod:80');
  const cases: [string, string][] = [
    ['<a href="/x">/x</a>', '<a href="/p/x">/x</a>'],
    ["<img class=\"a\" src='/x.png' alt='/y'/>", "<img class=\"a\" src='/p/x.png' alt='/y'/>"],
    ['<form action=/go method=post>', '<form action=/p/go method=post>'],
    ['<a href="http://pod:80/x">', '<a href="/p/x">'],
    ['<a href="http://other/x">', '<a href="http://other/x">'],
    ['<a href="x">', '<a href="x">'],
    ['<a href="/p/x">', '<a href="/p/x">'],
    ['<p title="/x">', '<p title="/x">'],
    ['<a title="a>b" href="/x">', '<a title="a>b" href="/p/x">'],
    ['<a href=', '<a href='],
  ];
  for (const [from, to] of cases) assert.equal(rewriteHtml(from, links), to);
  const start = performance.now();
  rewriteHtml(`<a${' x'.repeat(200_000)}`, links);
  rewriteHtml(`<a${' '.repeat(200_000)}`, links);
  rewriteHtml('<a '.repeat(200_000), links);
  assert.ok(performance.now() - start < 2000, 'hostile pages cost little');
});
