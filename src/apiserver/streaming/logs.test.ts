import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { after, before, describe, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import { testAuthority } from '../testing/certificates.ts';
import {
  type KubeletCluster as Cluster,
  kubeletCluster as cluster,
  LOG,
  statusOf,
  until,
} from '../testing/kubelet-cluster.ts';
import { Kubelets } from './kubelets.ts';
import { logParameters } from './logs.ts';

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

  describe('over a WebSocket', () => {
    const read = async (path: string, protocols: string[] = []) => {
      const socket = new WebSocket(`wss://127.0.0.1:${c.port}${path}`, protocols, {
        ca: c.ca.certificate,
        cert: c.admin.certificate,
        key: c.admin.key,
      });
      const messages: { readonly text: string; readonly binary: boolean }[] = [];
      socket.on('message', (data, binary) => messages.push({ text: String(data), binary }));
      const [code] = (await once(socket, 'close')) as [number];
      return { protocol: socket.protocol, code, messages };
    };

    test('are an empty message and then bytes', async () => {
      c.onRequest = (_request, response) => response.end('line 1\n');
      const expected = {
        code: 1000,
        messages: [
          { text: '', binary: true },
          { text: 'line 1\n', binary: true },
        ],
      };
      assert.deepEqual(await read(LOG), { protocol: '', ...expected });
      assert.deepEqual(await read(LOG, ['other', 'binary.k8s.io']), {
        protocol: 'binary.k8s.io',
        ...expected,
      });
    });

    test('are base64 for who asks so, and never give a token back', async () => {
      c.onRequest = (_request, response) => response.end('line 1\n');
      const token = 'base64url.bearer.authorization.k8s.io.dmlld2VyLXRva2Vu';
      assert.deepEqual(await read(LOG, [token, 'base64.binary.k8s.io']), {
        protocol: 'base64.binary.k8s.io',
        code: 1000,
        messages: [
          { text: '', binary: false },
          { text: Buffer.from('line 1\n').toString('base64'), binary: false },
        ],
      });
    });

    test('let the kubelet go when the client goes, and break off when the kubelet does', async () => {
      let writer: ServerResponse | undefined;
      c.onRequest = (_request, response) => {
        writer = response;
        response.write('one\n');
      };
      const options = { ca: c.ca.certificate, cert: c.admin.certificate, key: c.admin.key };
      const url = `wss://127.0.0.1:${c.port}${LOG}?follow=true`;
      const first = new WebSocket(url, options);
      await once(first, 'message');
      let closed = false;
      writer?.on('close', () => {
        closed = true;
      });
      first.terminate();
      await until(() => closed, 'the kubelet hears that nobody reads');
      const second = new WebSocket(url, options);
      await once(second, 'message');
      writer?.destroy();
      const [code] = (await once(second, 'close')) as [number];
      assert.equal(code, 1006);
    });

    test('are refused with a reason', async () => {
      const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };
      const key = { 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };
      const other = await c.fetch(LOG, {
        headers: { ...upgrade, ...key, 'sec-websocket-protocol': 'v4.channel.k8s.io' },
      });
      assert.equal(other.status, 403);
      assert.match(other.body, /requested protocol\(s\) are not supported: \[v4.channel.k8s.io\]/);
      const spdy = await c.fetch(LOG, { headers: { connection: 'Upgrade', upgrade: 'SPDY/3.1' } });
      assert.equal(spdy.status, 400);
    });
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

  test('a kept connection that the kubelet has just closed is no failure', async () => {
    const used = new WeakSet<object>();
    let broken = 0;
    c.onRequest = (request, response) => {
      if (used.has(request.socket)) {
        broken++;
        request.socket.destroy();
        return;
      }
      used.add(request.socket);
      response.end('ok');
    };
    for (let i = 0; i < 4; i++) assert.equal((await c.fetch(LOG)).body, 'ok');
    assert.ok(broken > 0, 'the connection was kept');
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
