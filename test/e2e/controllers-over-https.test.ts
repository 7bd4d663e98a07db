// The controllers as a process of their own would run them: over HTTPS, with metadata-only watches, against a server
// that goes away and comes back.

import assert from 'node:assert/strict';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { namespaceLifecyclePlugin } from '../../src/apiserver/admission/namespace-lifecycle.ts';
import { startTestServer, type TestServer } from '../../src/apiserver/testing/test-server.ts';
import { type Client, createClient, httpsTransport, resources } from '../../src/client/index.ts';
import { startControllers } from '../../src/controllers/index.ts';
import { createMemoryStore } from '../../src/store/index.ts';
import type { Store } from '../../src/store/store.ts';
import { eventually } from './support/eventually.ts';

/** A fixed address before servers that change theirs. */
async function startSwitch(): Promise<
  AsyncDisposable & { readonly url: string; point(server: TestServer | undefined): void }
> {
  const sockets = new Set<Socket>();
  let target: number | undefined;
  const listener = createServer((near) => {
    if (target === undefined) {
      near.destroy();
      return;
    }
    const far = connect(target, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.once('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    point(server) {
      target = server?.server.address?.port;
      for (const socket of sockets) socket.destroy();
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}

/** Without NamespaceLifecycle a ReplicaSet would replace the pods of an ending namespace as fast as they are deleted. */
const startServer = (store: Store): Promise<TestServer> =>
  startTestServer({ store, listen: true, admission: (reader) => [namespaceLifecyclePlugin(reader)] });

const deployment = (name: string, replicas: number) => ({
  metadata: { name },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: 'c', image: 'i' }] },
    },
  },
});

async function countPods(client: Client, app: string): Promise<number> {
  const pods = client.resource(resources.pods, 'team');
  return (await pods.list({ labelSelector: `app=${app}`, metadataOnly: true })).items.length;
}

test('controllers work over HTTPS, and go on where they were when the server comes back', async () => {
  await using store = createMemoryStore({});
  await using address = await startSwitch();
  // Outlive the client and the controllers, whatever of this fails.
  await using servers = new AsyncDisposableStack();
  const first = servers.use(await startServer(store));
  address.point(first);
  await using transport = httpsTransport({
    server: address.url,
    ca: first.authority.certificate,
    cert: first.adminPair.certificate,
    key: first.adminPair.key,
  });
  await using client = createClient(transport);
  await using controllers = await startControllers({ client, settings: { rootCa: 'PEM' } });
  await controllers.ready;
  await client.resource(resources.namespaces).create({ metadata: { name: 'team' }, spec: {} });
  const deployments = client.resource(resources.deployments, 'team');
  await deployments.create(deployment('before', 5));
  await eventually('pods', async () => assert.equal(await countPods(client, 'before'), 5));

  address.point(undefined);
  await first[Symbol.asyncDispose]();
  await assert.rejects(deployments.get('before'), /connection to .* failed|cannot reach/);
  const second = servers.use(await startServer(store));
  address.point(second);
  await eventually('the server', () => deployments.get('before'));
  await deployments.create(deployment('after', 3));
  await eventually('pods', async () => assert.equal(await countPods(client, 'after'), 3));

  await deployments.delete('before', { propagationPolicy: 'Foreground' });
  await eventually('the collector', async () => {
    assert.equal(await countPods(client, 'before'), 0);
    assert.deepEqual(
      (await deployments.list()).items.map((one) => one.metadata.name),
      ['after'],
    );
  });
  await client.resource(resources.namespaces).delete('team');
  await eventually('the namespace', async () => {
    const { items } = await client.resource(resources.namespaces).list();
    assert.ok(!items.some((one) => one.metadata.name === 'team'));
    assert.deepEqual((await client.resource(resources.pods).list()).items, []);
  });
});
