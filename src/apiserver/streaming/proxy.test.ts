import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { gzipSync } from 'node:zlib';
import type { KubeObject } from '../../api/index.ts';
import {
  type KubeletCluster as Cluster,
  kubeletCluster as cluster,
  MASTERS,
  statusOf,
  until,
} from '../testing/kubelet-cluster.ts';
import { proxyLinks, rewriteHtml } from './html-links.ts';
import { Kubelets } from './kubelets.ts';
import { proxies, splitProxyUrl } from './proxy.ts';
import { isProxyable, parseProxyName } from './proxy-target.ts';
import { Backends } from './relay.ts';

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
              ? {
                  subsets: [
                    {
                      addresses: [
                        { ip: '127.0.0.2' },
                        { ip: '127.0.0.1', targetRef: { kind: 'Pod', namespace: 'other', name: 'web' } },
                        { ip: '127.0.0.3', targetRef: { kind: 'Pod', namespace: 'shop', name: 'web' } },
                        { ip: '127.0.0.1', targetRef: { kind: 'Pod', namespace: 'shop', name: 'web' } },
                      ],
                      ports: [{ name: 'http', port: target }],
                    },
                  ],
                }
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
      else if (request.url === '/packed')
        response
          .writeHead(200, { 'content-type': 'text/html', 'content-encoding': 'gzip' })
          .end(gzipSync('<a href="/x">x</a>'));
      else if (request.url === '/broken')
        response
          .writeHead(200, { 'content-type': 'text/html', 'content-encoding': 'gzip' })
          .end('<a href="/x">');
      else if (request.url === '/self')
        response.writeHead(302, { location: `http://${request.headers.host}/login` }).end();
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
    await c.create('services', { metadata: { name: 'elsewhere' }, spec: { ports: [{ port: 80 }] } }, 'shop');
    await c.create(
      'endpoints',
      {
        metadata: { name: 'elsewhere' },
        subsets: [{ addresses: [{ ip: '192.0.2.1' }], ports: [{ port: 80 }] }],
      },
      'shop',
    );
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
    assert.match(seen.headers['x-forwarded-for'] ?? '', /^127\.0\.0\.1$/);
    const through = await c.fetch(`${base}/x`, {
      headers: { host: 'localhost:6443', 'x-forwarded-for': '192.0.2.9' },
    });
    const { headers } = JSON.parse(through.body) as { headers: Record<string, string> };
    assert.equal(headers['host'], 'localhost:6443');
    assert.match(headers['x-forwarded-for'] ?? '', /^192\.0\.2\.9, 127\.0\.0\.1$/);
    const bare = await c.fetch(`${base}?x=1`);
    assert.deepEqual([bare.status, bare.headers.location], [301, `${base}/?x=1`]);
  });

  test('a GET may have a body, and an answer may have none', async () => {
    const base = `/api/v1/namespaces/shop/pods/web:${target}/proxy`;
    const search = await c.fetch(`${base}/_search`, { body: '{}', headers: { 'content-length': '2' } });
    assert.equal((JSON.parse(search.body) as { body: string }).body, '{}');
    const head = await c.fetch(`${base}/x`, { method: 'HEAD' });
    assert.deepEqual([head.status, head.headers['x-method'], head.body], [200, 'HEAD', '']);
    const empty = await c.fetch(`${base}/x`, { method: 'POST' });
    assert.deepEqual([empty.status, (JSON.parse(empty.body) as { body: string }).body], [200, '']);
  });

  test('a program is asked with every method that there is, and with no other', async () => {
    const base = `/api/v1/namespaces/shop/pods/web:${target}/proxy/x`;
    for (const method of ['DELETE', 'GET', 'OPTIONS', 'PATCH', 'POST', 'PUT']) {
      const answer = await c.fetch(base, { method });
      assert.deepEqual([answer.status, answer.headers['x-method']], [200, method]);
    }
    for (const method of ['TRACE', 'SEARCH']) assert.equal((await c.fetch(base, { method })).status, 405);
    const objects = await c.fetch('/api/v1/namespaces/shop/pods/web', { method: 'OPTIONS' });
    assert.equal(objects.status, 405);
  });

  test('links and redirects of the program stay under its proxy', async () => {
    const base = `/api/v1/namespaces/shop/services/http:web:http/proxy`;
    const page = await c.fetch(`${base}/page`, { headers: { accept: 'text/html' } });
    assert.equal(page.body, `<a href="${base}/x">x</a>`);
    assert.equal(page.headers['content-length'], String(page.body.length));
    assert.equal((await c.fetch(`${base}/away`)).headers.location, `${base}/login?next=1`);
    // A program that makes URLs of the Host that it is asked for.
    const self = await c.fetch(`${base}/self`, { headers: { host: 'localhost:8001' } });
    assert.equal(self.headers.location, `http://localhost:8001${base}/login`);
    const packed = await c.fetch(`${base}/packed`, { headers: { 'accept-encoding': 'gzip' } });
    assert.deepEqual(
      [packed.body, packed.headers['content-encoding']],
      [`<a href="${base}/x">x</a>`, undefined],
    );
    const broken = await c.fetch(`${base}/broken`);
    assert.deepEqual([broken.body, broken.headers['content-encoding']], ['<a href="/x">', 'gzip']);
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
      '503 no endpoints available for service "web:x"',
    );
    assert.equal(
      await message(`${shop}/services/web:81/proxy/`),
      '503 no service port 81 found for service "web"',
    );
    // Endpoints that are no pods of the namespace are left alone, whoever wrote them.
    assert.equal(
      await message(`${shop}/services/elsewhere/proxy/`),
      '503 no endpoints available for service "elsewhere"',
    );
    assert.equal(await message(`${shop}/services/none/proxy/`), '404 services "none" not found');
    assert.equal(await message(`${shop}/pods/ftp:web:1/proxy/`), '400 invalid pod request "ftp:web:1"');
    assert.match(
      await message(`${shop}/pods/web:1/proxy/`),
      /^503 error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused$/,
    );
  });
});

test('nodes/proxy leads to the kubelet, with this server’s certificate; another port is checked', async () => {
  await using c = await cluster();
  c.onRequest = (request, response) => response.end(`${request.method} ${request.url}`);
  // The kubelet's certificate is for its own address, whatever Host the client wrote.
  const answer = await c.fetch('/api/v1/nodes/n1/proxy/metrics/cadvisor?a=b', {
    headers: { host: 'localhost:6443' },
  });
  assert.deepEqual([answer.status, answer.body], [200, 'GET /metrics/cadvisor?a=b']);
  const { socket } = c.seen.at(-1) ?? {};
  assert.equal((socket as TLSSocket).getPeerCertificate().subject.CN, 'kube-apiserver-kubelet-client');
  const local = await c.fetch('/api/v1/nodes/n1:22/proxy/');
  assert.deepEqual([local.status, statusOf(local).message], [400, 'address not allowed']);
  assert.equal((await c.fetch('/api/v1/nodes/none/proxy/')).status, 404);
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
  const links = proxyLinks('/p', 'pod:80', 'api.example:6443');
  const cases: [string, string][] = [
    ['<a href="/x">/x</a>', '<a href="/p/x">/x</a>'],
    ["<img class=\"a\" src='/x.png' alt='/y'/>", "<img class=\"a\" src='/p/x.png' alt='/y'/>"],
    ['<form action=/go method=post>', '<form action=/p/go method=post>'],
    ['<a href="http://pod:80/x">', '<a href="/p/x">'],
    ['<a href="http://other/x">', '<a href="http://other/x">'],
    ['<a href="https://api.example:6443/x">', '<a href="https://api.example:6443/p/x">'],
    ['<a href="https://api.example:6443">', '<a href="https://api.example:6443/p/">'],
    ['<a href="/p">', '<a href="/p">'],
    ['<a href="//pod:80?x">', '<a href="/p/?x">'],
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
