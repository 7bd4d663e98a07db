import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Service } from '../api/types/core-v1.ts';
import type { EndpointSlice } from '../api/types/discovery-v1.ts';
import { type Client, createClient, resources } from '../client/index.ts';
import { eventually } from '../client/testing/eventually.ts';
import { FakeApi } from '../client/testing/fake-api.ts';
import { type PublishDnsOptions, publishDns } from './publish.ts';

async function published(options: Partial<PublishDnsOptions> = {}) {
  const api = new FakeApi();
  const client = createClient(api);
  await client.resource(resources.nodes).create({ metadata: { name: 'n1' }, spec: {} });
  const settings = {
    client,
    clusterIP: '10.96.0.10',
    nodeName: 'n1',
    addresses: [{ address: '10.244.0.1', port: 5353 }],
    ...options,
  };
  const running = await publishDns(settings);
  await running.ready;
  return { api, client, settings, running };
}

const service = (client: Client): Promise<Service> =>
  client.resource(resources.services, 'kube-system').get('kube-dns');
const slice = (client: Client, name = 'kube-dns-n1'): Promise<EndpointSlice> =>
  client.resource(resources.endpointSlices, 'kube-system').get(name);

test('the Service and this node’s slice are made as kubeadm’s clusters have them', async () => {
  const { client, running } = await published({ metricsPort: 9999 });
  const { metadata, spec } = await service(client);
  assert.deepEqual(metadata.labels, {
    'k8s-app': 'kube-dns',
    'kubernetes.io/cluster-service': 'true',
    'kubernetes.io/name': 'CoreDNS',
  });
  assert.deepEqual(
    [spec?.clusterIP, spec?.clusterIPs, spec?.selector],
    ['10.96.0.10', ['10.96.0.10'], undefined],
  );
  assert.deepEqual(
    spec?.ports?.map(({ name, protocol, port }) => `${name} ${protocol} ${port}`),
    ['dns UDP 53', 'dns-tcp TCP 53', 'metrics TCP 9153'],
  );
  const own = await slice(client);
  assert.deepEqual(own.metadata.labels, {
    'kubernetes.io/service-name': 'kube-dns',
    'endpointslice.kubernetes.io/managed-by': 'cluster-dns.bulkhead',
    'k8s-app': 'kube-dns',
  });
  assert.equal(own.metadata.ownerReferences?.[0]?.kind, 'Node');
  assert.deepEqual(own.endpoints, [
    {
      addresses: ['10.244.0.1'],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: 'n1',
    },
  ]);
  assert.deepEqual(
    own.ports?.map(({ name, protocol, port }) => `${name} ${protocol} ${port}`),
    ['dns UDP 5353', 'dns-tcp TCP 5353', 'metrics TCP 9999'],
  );
  await running[Symbol.asyncDispose]();
  // What is published stays.
  assert.equal((await service(client)).metadata.name, 'kube-dns');
  await client[Symbol.asyncDispose]();
});

test('addresses of two families and of two ports have a slice each', async () => {
  const { client, running } = await published({
    clusterIP: ['10.96.0.10', 'fd00::a'],
    addresses: [
      { address: '10.244.0.1', port: 53 },
      { address: 'fd00:1::1', port: 53 },
      { address: '10.244.0.2', port: 5353 },
    ],
  });
  const [first, second, third] = [
    await slice(client),
    await slice(client, 'kube-dns-n1-1'),
    await slice(client, 'kube-dns-n1-2'),
  ];
  assert.deepEqual(
    [first, second, third].map(({ addressType, ports }) => `${addressType} ${ports?.[0]?.port}`),
    ['IPv4 53', 'IPv6 53', 'IPv4 5353'],
  );
  assert.deepEqual((await service(client)).spec?.ipFamilies, ['IPv4', 'IPv6']);
  await running[Symbol.asyncDispose]();
  await client[Symbol.asyncDispose]();
});

test('whatever somebody changes or deletes comes back', async () => {
  const { client, running } = await published();
  const services = client.resource(resources.services, 'kube-system');
  const slices = client.resource(resources.endpointSlices, 'kube-system');
  const was = await service(client);
  await services.update({
    ...was,
    metadata: { ...was.metadata, labels: { own: 'x' } },
    spec: { ...was.spec, selector: { app: 'coredns' }, ports: [{ port: 1 }] },
  });
  await eventually('the service is as it was, with what others added', async () => {
    const { metadata, spec } = await service(client);
    return (
      metadata.labels?.['own'] === 'x' &&
      metadata.labels['k8s-app'] === 'kube-dns' &&
      spec?.selector === undefined &&
      spec?.ports?.length === 2
    );
  });
  await services.delete('kube-dns');
  await eventually('it is made anew', async () => (await service(client)).metadata.uid !== was.metadata.uid);
  const own = await slice(client);
  await slices.update({ ...own, endpoints: [{ addresses: ['10.9.9.9'] }] });
  await eventually(
    'the slice is as it was',
    async () => (await slice(client)).endpoints?.[0]?.addresses[0] === '10.244.0.1',
  );
  const restored = await slice(client);
  await slices.update({ ...restored, metadata: { ...restored.metadata, labels: {} } });
  await eventually(
    'its labels are as they were',
    async () => Object.keys((await slice(client)).metadata.labels ?? {}).length === 3,
  );
  await slices.delete(own.metadata.name);
  await eventually('it is there again', async () => (await slice(client)).metadata.uid !== own.metadata.uid);
  await running[Symbol.asyncDispose]();
  await client[Symbol.asyncDispose]();
});

test('a service at another address is made anew at ours', async () => {
  const api = new FakeApi();
  const client = createClient(api);
  await client.resource(resources.services, 'kube-system').create({
    metadata: { name: 'kube-dns' },
    spec: { clusterIP: '10.96.9.9', clusterIPs: ['10.96.9.9'], ports: [{ port: 53 }] },
  });
  const running = await publishDns({
    client,
    clusterIP: '10.96.0.10',
    nodeName: 'n1',
    addresses: [{ address: '10.244.0.1', port: 53 }],
  });
  await eventually(
    'it has our address',
    async () => (await service(client)).spec?.clusterIP === '10.96.0.10',
  );
  await running[Symbol.asyncDispose]();
  await client[Symbol.asyncDispose]();
});

test('nothing is written while nothing is wrong', async () => {
  const { api, client, settings, running } = await published();
  await running[Symbol.asyncDispose]();
  api.calls.length = 0;
  const again = await publishDns(settings);
  await again.ready;
  assert.deepEqual(
    api.calls.filter((call) => !/^(list|watch|get) /.test(call)),
    [],
  );
  await again[Symbol.asyncDispose]();
  await client[Symbol.asyncDispose]();
});
