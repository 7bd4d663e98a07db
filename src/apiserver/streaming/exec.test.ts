import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import {
  type KubeletCluster as Cluster,
  kubeletCluster as cluster,
  EXEC,
  MASTERS,
  until,
} from '../testing/kubelet-cluster.ts';

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
    const refused = async (path: string, method = 'POST') => {
      const socket = await c.dial();
      socket.write(upgradeRequest(path).replace('POST', method));
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
    // Another method is another verb to authorization: it must not lead to the same place.
    for (const method of ['PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS']) {
      assert.match((await refused(`${EXEC}?command=a`, method)).head, /^HTTP\/1.1 405 /, method);
      assert.equal((await c.fetch(`${EXEC}?command=a`, { method })).status, 405, method);
    }
  });
});
