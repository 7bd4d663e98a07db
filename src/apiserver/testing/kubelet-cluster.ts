// A server with the default chain beside a kubelet that does what the test tells it: a node, a few pods on it, and
// clients with the admin's certificate.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request as httpsRequest, type Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { createMemoryStore } from '../../store/index.ts';
import type { ChainFactory } from '../chain.ts';
import { type ApiServer, defaultChain, startApiServer } from '../index.ts';
import { type TestAuthority, type TestKeyPair, testAuthority } from './certificates.ts';

export const MASTERS = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
}) as string;

/** Waits for a condition that some event will make true. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `in vain: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export interface KubeletCluster extends AsyncDisposable {
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

export async function kubeletCluster(
  adapt: (factory: ChainFactory) => ChainFactory = (factory) => factory,
): Promise<KubeletCluster> {
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
  const self: KubeletCluster = {
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

export const statusOf = ({ body }: Answer) =>
  JSON.parse(body) as { code: number; reason?: string; message: string };
export const LOG = '/api/v1/namespaces/shop/pods/web/log';
export const EXEC = '/api/v1/namespaces/shop/pods/web/exec';
