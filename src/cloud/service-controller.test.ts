import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { NetworkInterfaceInfo } from 'node:os';
import { test } from 'node:test';
import type { Draft } from '../api/index.ts';
import type { Service, ServiceSpec } from '../api/types/core-v1.ts';
import { createClient, resources } from '../client/index.ts';
import { eventually, settle } from '../client/testing/eventually.ts';
import { FakeApi } from '../client/testing/fake-api.ts';
import { ManualClock } from '../component/index.ts';
import { parseAddressRange } from './address-range.ts';
import { type BareMachineOptions, bareMachineLoadBalancers } from './bare-machine.ts';
import { listenerAt } from './listeners.ts';
import { machineAddresses } from './machine-addresses.ts';
import { startServiceController } from './service-controller.ts';

const NODE = '192.0.2.1';

const web = (name: string, spec: Partial<ServiceSpec> = {}): Draft<Service> => ({
  metadata: { name },
  spec: {
    type: 'LoadBalancer',
    ipFamilies: ['IPv4'],
    ports: [{ port: 80, protocol: 'TCP' }],
    ...spec,
  },
});

async function setup(
  options: Partial<BareMachineOptions> = {},
  api = new FakeApi({ clock: new ManualClock() }),
) {
  const clock = new ManualClock();
  const client = createClient(api, { clock });
  const start = () =>
    startServiceController({
      client,
      clock,
      loadBalancers: bareMachineLoadBalancers({ ranges: [], ...options }),
    });
  const nodes = client.resource(resources.nodes);
  await nodes.create({
    metadata: { name: 'n1' },
    spec: {},
    status: {
      addresses: [
        { type: 'InternalIP', address: NODE },
        { type: 'InternalIP', address: 'fd00::1' },
        { type: 'Hostname', address: 'n1' },
      ],
    },
  });
  let controller = start();
  await controller.ready;
  const services = client.resource(resources.services, 'default');
  return {
    api,
    clock,
    client,
    services,
    nodes,
    async restart() {
      await controller[Symbol.asyncDispose]();
      controller = start();
      await controller.ready;
    },
    async addresses(name: string): Promise<(string | undefined)[]> {
      await settle(60);
      const { status } = await services.get(name);
      return (status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip);
    },
    async events(name: string): Promise<string[]> {
      await settle(60);
      const { items } = await client.resource(resources.events).list();
      return items.filter((e) => e.involvedObject.name === name).map((e) => `${e.reason}: ${e.message}`);
    },
    async [Symbol.asyncDispose]() {
      await controller[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
    },
  };
}

test('a Service of type LoadBalancer gets the address of the node, and a finalizer until it is given back', async () => {
  await using cluster = await setup();
  const { services } = cluster;
  await services.create(web('web'));
  assert.deepEqual(await cluster.addresses('web'), [NODE]);
  const service = await services.get('web');
  assert.deepEqual(service.metadata.finalizers, ['service.kubernetes.io/load-balancer-cleanup']);
  assert.equal(service.status?.loadBalancer?.ingress?.[0]?.ipMode, 'VIP');
  assert.deepEqual(await cluster.events('web'), [
    'EnsuringLoadBalancer: Ensuring load balancer',
    'EnsuredLoadBalancer: Ensured load balancer',
  ]);
  await services.delete('web');
  await settle(60);
  await assert.rejects(services.get('web'), { code: 404 });
});

test('both families of a dual-stack Service are served, and a change of the node is followed', async () => {
  await using cluster = await setup();
  const { services, nodes } = cluster;
  await services.create(web('web', { ipFamilies: ['IPv4', 'IPv6'] }));
  assert.deepEqual(await cluster.addresses('web'), [NODE, 'fd00::1']);
  const node = await nodes.get('n1');
  await nodes.updateStatus({
    ...node,
    status: { addresses: [{ type: 'InternalIP', address: '192.0.2.9' }] },
  });
  assert.deepEqual(await cluster.addresses('web'), ['192.0.2.9']);
});

test('a port of the node belongs to one Service; who comes second is told, and gets it when it is free', async () => {
  await using cluster = await setup();
  const { services } = cluster;
  await services.create(web('first'));
  await cluster.addresses('first');
  await services.create(web('second'));
  await services.create(web('other', { ports: [{ port: 80, protocol: 'UDP' }] }));
  assert.deepEqual(await cluster.addresses('second'), []);
  assert.deepEqual(await cluster.addresses('other'), [NODE]);
  const [, problem, ...more] = await cluster.events('second');
  assert.equal(
    problem,
    'SyncLoadBalancerFailed: Error syncing load balancer: 192.0.2.1 TCP/80 is taken by Service default/first; choose another port, or give addresses with --load-balancer-range',
  );
  assert.deepEqual(more, []);
  await cluster.restart();
  assert.deepEqual(await cluster.addresses('first'), [NODE], 'a restart takes from nobody what it has');
  assert.deepEqual(await cluster.addresses('second'), []);
  await services.patch('first', { type: 'merge', patch: { spec: { type: 'ClusterIP' } } });
  assert.deepEqual(await cluster.addresses('first'), []);
  assert.deepEqual((await services.get('first')).metadata.finalizers ?? [], []);
  assert.deepEqual(await cluster.addresses('second'), [NODE]);
});

test('a Service whose new port is taken loses the address that would have served it', async () => {
  await using cluster = await setup();
  const { services } = cluster;
  await services.create(web('first'));
  await services.create(web('second', { ports: [{ port: 81, protocol: 'TCP' }] }));
  assert.deepEqual(await cluster.addresses('second'), [NODE]);
  await services.patch('second', {
    type: 'merge',
    patch: { spec: { ports: [{ port: 80, protocol: 'TCP' }] } },
  });
  assert.deepEqual(await cluster.addresses('second'), []);
  await services.create(web('third', { ports: [{ port: 81, protocol: 'TCP' }] }));
  assert.deepEqual(await cluster.addresses('third'), [NODE]);
});

test('a port that the machine itself listens on is given to nobody', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  try {
    const { port } = server.address() as { port: number };
    await using cluster = await setup({
      listener: (_, protocol, wanted) => listenerAt('127.0.0.1', protocol, wanted),
    });
    await cluster.services.create(web('web', { ports: [{ port, protocol: 'TCP' }] }));
    const told = `SyncLoadBalancerFailed: Error syncing load balancer: 192.0.2.1 TCP/${port} is in use on the machine itself (a TCP socket at 127.0.0.1 port ${port}); choose another port, or give addresses with --load-balancer-range`;
    await eventually('the event about the port', async () => (await cluster.events('web')).includes(told));
    assert.deepEqual(await cluster.addresses('web'), []);
    assert.equal(await listenerAt('127.0.0.1', 'UDP', port), undefined);
    assert.equal(await listenerAt('192.0.2.1', 'TCP', port), undefined);
  } finally {
    server.close();
  }
});

test('with ranges each Service has an address of its own, keeps it, and the next one gets it afterwards', async () => {
  const ranges = ['198.51.100.8/31', '198.51.100.20-198.51.100.20', 'fd00:1::7'].map(
    (text) => parseAddressRange(text)!,
  );
  await using cluster = await setup({ ranges });
  const { services } = cluster;
  for (const name of ['a', 'b', 'c', 'd']) {
    await services.create(web(name));
    await settle(60);
  }
  assert.deepEqual(await cluster.addresses('a'), ['198.51.100.8']);
  assert.deepEqual(await cluster.addresses('c'), ['198.51.100.20']);
  assert.deepEqual(await cluster.addresses('d'), []);
  assert.match(
    (await cluster.events('d')).at(-1)!,
    /no IPv4 address is free in the load-balancer address ranges/,
  );
  await cluster.restart();
  assert.deepEqual(await cluster.addresses('b'), ['198.51.100.9']);
  await services.delete('b');
  assert.deepEqual(await cluster.addresses('d'), ['198.51.100.9']);
});

test('spec.loadBalancerIP is honoured or refused with the reason; a loadBalancerClass is left to others', async () => {
  await using cluster = await setup({ ranges: [parseAddressRange('198.51.100.0/28')!] });
  const { services } = cluster;
  await services.create(web('asked', { loadBalancerIP: '198.51.100.5' }));
  await services.create(web('outside', { loadBalancerIP: '203.0.113.5' }));
  await services.create(web('twice', { loadBalancerIP: '198.51.100.5' }));
  await services.create(web('foreign', { loadBalancerClass: 'example.com/lb' }));
  assert.deepEqual(await cluster.addresses('asked'), ['198.51.100.5']);
  assert.match(
    (await cluster.events('outside')).at(-1)!,
    /203\.0\.113\.5 is not in the load-balancer address ranges/,
  );
  assert.match((await cluster.events('twice')).at(-1)!, /198\.51\.100\.5 is taken by Service default\/asked/);
  assert.deepEqual(await cluster.addresses('foreign'), []);
  assert.equal((await services.get('foreign')).metadata.finalizers, undefined);
});

test('of ranges that hold addresses of the machine itself, these come last, and only with ports that are free', async () => {
  await using cluster = await setup({
    ranges: [parseAddressRange('198.51.100.8/31')!],
    machineAddresses: () => new Set(['198.51.100.8']),
    listener: async (address, _, port) => (port === 22 ? `sshd at ${address}` : undefined),
  });
  const { services } = cluster;
  const ssh: Partial<ServiceSpec> = { ports: [{ port: 22, protocol: 'TCP' }] };
  await services.create(web('first', ssh));
  assert.deepEqual(await cluster.addresses('first'), ['198.51.100.9']);
  await services.create(web('second', ssh));
  assert.deepEqual(await cluster.addresses('second'), []);
  assert.match(
    (await cluster.events('second')).join(),
    /198\.51\.100\.8 TCP\/22 is in use on the machine itself/,
  );
  await services.create(web('third'));
  assert.deepEqual(await cluster.addresses('third'), ['198.51.100.8']);
});

test('the machine’s addresses are those of its interfaces, but not what stands alone on the announcer’s', () => {
  const at = (address: string, prefix: number) =>
    ({ address, cidr: `${address}/${prefix}` }) as NetworkInterfaceInfo;
  const found = machineAddresses('br', {
    br: [at('10.244.0.1', 24), at('198.51.100.8', 32), at('fd00:1::7', 128), at('fe80::1%br', 64)],
    eth0: [at('203.0.113.5', 32), at('fd00:0:0::1', 64)],
  });
  assert.deepEqual([...found], ['10.244.0.1', 'fe80::1', '203.0.113.5', 'fd00::1']);
});

test('ranges are read in three forms and nonsense is refused', () => {
  assert.deepEqual(parseAddressRange('10.0.0.8/30'), { family: 4, first: 0x0a000008n, last: 0x0a00000bn });
  assert.deepEqual(parseAddressRange('10.0.0.8 - 10.0.0.9'), {
    family: 4,
    first: 0x0a000008n,
    last: 0x0a000009n,
  });
  assert.deepEqual(parseAddressRange('::1'), { family: 6, first: 1n, last: 1n });
  for (const text of [
    '',
    '10.0.0.9-10.0.0.8',
    '10.0.0.1-::1',
    '10.0.0.1/24',
    'a-b',
    '10.0.0.1-10.0.0.2-10.0.0.3',
  ])
    assert.equal(parseAddressRange(text), undefined, text);
});
