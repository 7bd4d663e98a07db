// Cluster IPs with whole servers over a real store: what is written together, what two servers give away, what a crash
// leaves, and what is repaired.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isNotFound, type StatusError } from '../../api/index.ts';
import type { Event, Service, ServiceSpec } from '../../api/types/core-v1.ts';
import type { IPAddress, ServiceCIDR } from '../../api/types/networking-v1.ts';
import { ManualClock, systemClock } from '../../component/index.ts';
import { createMemoryStore, openJournalStore, type Store } from '../../store/index.ts';
import { type ApiServer, type DefaultChainOptions, defaultChain, startApiServer } from '../index.ts';

const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
}) as string;
const admin = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
const SERVICES = { group: '', version: 'v1', resource: 'services' };
const ADDRESSES = { group: 'networking.k8s.io', version: 'v1', resource: 'ipaddresses' };
const RANGES = { group: 'networking.k8s.io', version: 'v1', resource: 'servicecidrs' };
const EVENTS = { group: '', version: 'v1', resource: 'events' };

type ServerOptions = Partial<DefaultChainOptions> & { readonly clock?: ManualClock };

async function serverOver(store: Store, options: ServerOptions = {}) {
  const { clock, ...chain } = options;
  const server: ApiServer = await startApiServer({
    store,
    ...(clock && { clock }),
    compactionIntervalMs: 0,
    chain: defaultChain({ serviceAccountKey: key, serviceCidrs: ['10.96.0.0/24'], ...chain }),
  });
  await server.ready;
  const transport = server.transport(admin);
  const create = (name: string, spec: Partial<ServiceSpec> = {}, query = {}): Promise<Service> =>
    transport.call({
      verb: 'create',
      resource: SERVICES,
      namespace: 'default',
      query,
      body: { metadata: { name }, spec: { ports: [{ port: 80 }], ...spec } },
    }) as Promise<Service>;
  const list = async <T>(resource: typeof SERVICES, namespace?: string): Promise<readonly T[]> =>
    ((await transport.call({ verb: 'list', resource, ...(namespace && { namespace }) })) as { items: T[] })
      .items;
  const addresses = async (): Promise<Record<string, string>> =>
    Object.fromEntries(
      (await list<IPAddress>(ADDRESSES)).map(({ metadata, spec }) => [
        metadata.name,
        spec?.parentRef?.name ?? '',
      ]),
    );
  const events = async (): Promise<string[]> =>
    (await list<Event>(EVENTS)).map(
      ({ involvedObject, reason, message }) =>
        `${involvedObject.kind}/${involvedObject.name} ${reason}: ${message}`,
    );
  return {
    server,
    transport,
    create,
    list,
    addresses,
    events,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Waits until `look` finds what it waits for. */
async function eventually<T>(look: () => Promise<T | undefined | false>, what: string): Promise<T> {
  const deadline = systemClock.monotonic() + 10_000;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (systemClock.monotonic() > deadline) throw new Error(`${what} did not come`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('a Service and its address are written, changed and removed at one revision', async () => {
  await using store = createMemoryStore();
  await using one = await serverOver(store, { serviceCidrs: ['10.96.0.0/24', 'fd00::/112'] });
  const { transport, create, addresses } = one;
  const before = store.revision;
  const web = await create('web');
  assert.equal(store.revision, before + 1);
  const address = (await transport.call({
    verb: 'get',
    resource: ADDRESSES,
    name: web.spec.clusterIP!,
  })) as IPAddress;
  assert.equal(address.metadata.resourceVersion, web.metadata.resourceVersion);
  assert.deepEqual(address.metadata.labels, {
    'ipaddress.kubernetes.io/ip-family': 'IPv4',
    'ipaddress.kubernetes.io/managed-by': 'ipallocator.k8s.io',
  });
  assert.deepEqual(address.spec, { parentRef: { resource: 'services', namespace: 'default', name: 'web' } });
  const patch = (body: object): Promise<Service> =>
    transport.call({
      verb: 'patch',
      resource: SERVICES,
      namespace: 'default',
      name: 'web',
      patchType: 'application/merge-patch+json',
      body,
    }) as Promise<Service>;
  const of = async (): Promise<string[]> =>
    Object.entries(await addresses()).flatMap(([ip, name]) => (name === 'web' ? [ip] : []));
  const both = await patch({ spec: { ipFamilyPolicy: 'RequireDualStack' } });
  assert.deepEqual((await of()).toSorted(), [...both.spec.clusterIPs!].toSorted());
  await patch({ spec: { ipFamilyPolicy: 'SingleStack' } });
  assert.deepEqual(await of(), [web.spec.clusterIP]);
  await patch({ spec: { type: 'ExternalName', externalName: 'x.example' } });
  assert.deepEqual(await of(), []);
  const back = await patch({ spec: { type: 'ClusterIP', externalName: null } });
  assert.deepEqual(await of(), [back.spec.clusterIP]);
  // A Service that a finalizer holds keeps its address until it is really gone.
  await patch({ metadata: { finalizers: ['example.com/hold'] } });
  await transport.call({ verb: 'delete', resource: SERVICES, namespace: 'default', name: 'web' });
  assert.deepEqual(await of(), [back.spec.clusterIP]);
  const last = store.revision;
  await patch({ metadata: { finalizers: null } });
  assert.deepEqual(await of(), []);
  assert.equal(store.revision, last + 1);
});

test('a dry run leaves no address, a name that is taken neither', async () => {
  await using store = createMemoryStore();
  await using one = await serverOver(store);
  const dry = await one.create('web', {}, { dryRun: 'All' });
  assert.ok(dry.spec.clusterIP);
  await one.create('web', { clusterIP: '10.96.0.50' });
  await assert.rejects(one.create('web'), /already exists/);
  assert.deepEqual(await one.addresses(), { '10.96.0.1': 'kubernetes', '10.96.0.50': 'web' });
});

test('two servers over one store never give one address twice', async () => {
  await using store = createMemoryStore();
  // The same dice: both want the same address at the same time, again and again.
  const dice = (): (() => number) => {
    let n = 0;
    return () => (n++ % 7) / 7;
  };
  await using a = await serverOver(store, { serviceCidrs: ['10.96.0.0/26'], random: dice() });
  await using b = await serverOver(store, { serviceCidrs: ['10.96.0.0/26'], random: dice() });
  const made = await Promise.all(Array.from({ length: 50 }, (_, i) => (i % 2 === 0 ? a : b).create(`s${i}`)));
  assert.equal(new Set(made.map(({ spec }) => spec.clusterIP)).size, 50);
  assert.equal(Object.keys(await a.addresses()).length, 51);
  const asked = await Promise.allSettled(
    [a, b].map((one, i) => one.create(`x${i}`, { clusterIP: free(made) })),
  );
  const refused = asked.filter((one) => one.status === 'rejected');
  assert.equal(refused.length, 1);
  assert.match(
    (refused[0]!.reason as StatusError).message,
    /failed to allocate IP .*: provided IP is already allocated/,
  );
});

function free(made: readonly Service[]): string {
  const used = new Set(made.map(({ spec }) => spec.clusterIP));
  for (let i = 2; ; i++) if (!used.has(`10.96.0.${i}`)) return `10.96.0.${i}`;
}

test('addresses outlive the process with their Services, whenever it ends', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'bulkhead-addresses-'));
  try {
    {
      await using store = await openJournalStore({ directory });
      const one = await serverOver(store);
      // The server goes while these are under way: each is whole or not there at all.
      const under = Array.from({ length: 30 }, (_, i) => one.create(`s${i}`).catch(() => undefined));
      await one.create('first');
      await one[Symbol.asyncDispose]();
      await Promise.all(under);
    }
    await using store = await openJournalStore({ directory });
    await using again = await serverOver(store);
    const services = await again.list<Service>(SERVICES);
    assert.deepEqual(
      Object.entries(await again.addresses())
        .map(([ip, name]) => `${name} ${ip}`)
        .toSorted(),
      services.map(({ metadata, spec }) => `${metadata.name} ${spec.clusterIP}`).toSorted(),
    );
    assert.deepEqual(await again.events(), []);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('a missing address is made again, also for Services from before there were any', async () => {
  await using store = createMemoryStore();
  await using one = await serverOver(store);
  const { spec } = await one.create('web');
  const drop = () => one.transport.call({ verb: 'delete', resource: ADDRESSES, name: spec.clusterIP! });
  await drop();
  await eventually(async () => (await one.addresses())[spec.clusterIP!] === 'web', 'the address');
  const said = `Service/web ClusterIPNotAllocated: Cluster IP [IPv4]: ${spec.clusterIP} is not allocated; repairing`;
  await eventually(async () => (await one.events()).includes(said), said);
  await one[Symbol.asyncDispose]();
  const stored = `/registry/networking.k8s.io/ipaddresses/${spec.clusterIP}`;
  assert.ok((await store.get(stored)).kv);
  await store.txn({ compare: [], operations: [{ type: 'delete', key: stored }] });
  await using again = await serverOver(store);
  await eventually(async () => (await again.addresses())[spec.clusterIP!] === 'web', 'the address');
});

test('an address without a Service goes after its grace, one that its Service does not have at once', async () => {
  await using store = createMemoryStore();
  const clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'));
  await using one = await serverOver(store, { clock });
  const { transport, addresses, events } = one;
  const web = await one.create('web', { clusterIP: '10.96.0.40' });
  const make = (address: string, name: string, labels: object) =>
    transport.call({
      verb: 'create',
      resource: ADDRESSES,
      body: {
        metadata: { name: address, labels },
        spec: { parentRef: { resource: 'services', namespace: 'default', name } },
      },
    });
  const ours = {
    'ipaddress.kubernetes.io/ip-family': 'IPv4',
    'ipaddress.kubernetes.io/managed-by': 'ipallocator.k8s.io',
  };
  await make('10.96.0.41', 'gone', ours);
  await make('10.96.0.42', 'web', ours);
  await make('10.96.0.43', 'gone', { mine: 'yes' });
  const settled = async () => {
    await clock.advance(1);
    return addresses();
  };
  await eventually(async () => (await settled())['10.96.0.42'] === undefined, 'the clean-up');
  assert.equal((await addresses())['10.96.0.41'], 'gone');
  // Nobody is given what is taken in this way either.
  await assert.rejects(one.create('x', { clusterIP: '10.96.0.43' }), /provided IP is already allocated/);
  await clock.advance(60_001);
  await eventually(async () => (await settled())['10.96.0.41'] === undefined, 'the clean-up');
  assert.deepEqual(await addresses(), {
    '10.96.0.1': 'kubernetes',
    [web.spec.clusterIP!]: 'web',
    '10.96.0.43': 'gone',
  });
  await eventually(async () => (await events()).length === 2, 'the events');
  assert.deepEqual((await events()).toSorted(), [
    'IPAddress/10.96.0.41 IPAddressNotAllocated: IPAddress: 10.96.0.41 for Service default/gone appears to have leaked: cleaning up',
    'IPAddress/10.96.0.42 IPAddressWrongReference: IPAddress: 10.96.0.42 for Service default/web has a wrong reference; cleaning up',
  ]);
});

test('Services that cannot be right are told of: twice the same address or port, or one out of range', async () => {
  await using store = createMemoryStore();
  {
    await using first = await serverOver(store, {
      serviceCidrs: ['10.96.0.0/16'],
      nodePorts: { first: 30000, last: 32767 },
    });
    await first.create('a', {
      clusterIP: '10.96.0.7',
      type: 'NodePort',
      ports: [{ port: 80, nodePort: 30001 }],
    });
    await first.create('high', {
      clusterIP: '10.96.9.9',
      type: 'NodePort',
      ports: [{ port: 80, nodePort: 32000 }],
    });
  }
  const { kv } = await store.get('/registry/services/default/a');
  const copy = Buffer.from(kv!.value)
    .toString()
    .replace('"name":"a"', '"name":"b"')
    .replace(/"uid":"[^"]+"/, '"uid":"b"');
  const removed = ['servicecidrs/kubernetes', 'ipaddresses/10.96.9.9'];
  await store.txn({
    compare: [],
    operations: [
      { type: 'put', key: '/registry/services/default/b', value: Buffer.from(copy) },
      ...removed.map((name) => ({ type: 'delete' as const, key: `/registry/networking.k8s.io/${name}` })),
    ],
  });
  await using one = await serverOver(store, { nodePorts: { first: 30000, last: 31000 } });
  const expected = [
    'Service/b ClusterIPAlreadyAllocated: Cluster IP [IPv4]:10.96.0.7 was assigned to multiple services; please recreate service',
    'Service/b PortAlreadyAllocated: Port 30001 was assigned to multiple services; please recreate service',
    'Service/high ClusterIPOutOfRange: Cluster IP [IPv4]: 10.96.9.9 is not within any configured Service CIDR; please recreate service',
    'Service/high PortOutOfRange: Port 32000 is not within the port range 30000-31000; please recreate service',
  ];
  await eventually(async () => (await one.events()).length >= 4, 'the events');
  assert.deepEqual((await one.events()).toSorted(), expected);
  // Both can still be changed, and the one that is recreated frees nothing of the other's.
  const high = await one.transport.call({
    verb: 'patch',
    resource: SERVICES,
    namespace: 'default',
    name: 'high',
    patchType: 'application/merge-patch+json',
    body: { metadata: { labels: { seen: 'yes' } } },
  });
  assert.equal((high as Service).spec.ports?.[0]?.nodePort, 32000);
  await one.transport.call({ verb: 'delete', resource: SERVICES, namespace: 'default', name: 'b' });
  assert.equal((await one.addresses())['10.96.0.7'], 'a');
  await assert.rejects(
    one.create('c', { type: 'NodePort', ports: [{ port: 1, nodePort: 30001 }] }),
    /already allocated/,
  );
});

test('a full range is an error for the client and a Warning for the operator; another ServiceCIDR helps', async () => {
  await using store = createMemoryStore();
  const clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'));
  await using one = await serverOver(store, {
    clock,
    serviceCidrs: ['10.96.0.0/29'],
    nodePorts: { first: 30000, last: 30001 },
  });
  const { create, events, transport } = one;
  for (let i = 0; i < 5; i++) await create(`s${i}`);
  for (let i = 0; i < 3; i++)
    await assert.rejects(create(`more${i}`), (error: StatusError) => {
      assert.equal(error.code, 500);
      assert.equal(error.message, 'Internal error occurred: failed to allocate a serviceIP: range is full');
      return true;
    });
  const FULL =
    'ServiceCIDR/kubernetes ServiceCIDRFull: Service CIDR is full: 10.96.0.0/29; you must add a ServiceCIDR or delete services in order to create new services (Service default/more0 did not get one)';
  await eventually(async () => (await events()).length > 0, 'the event');
  assert.deepEqual(await events(), [FULL]);
  // A minute later the same event says how often it was.
  await clock.advance(60_001);
  await assert.rejects(create('more3'));
  await eventually(async () => (await one.list<Event>(EVENTS))[0]?.count === 4, 'the count');
  const range = (await transport.call({
    verb: 'create',
    resource: RANGES,
    body: { metadata: { name: 'more' }, spec: { cidrs: ['10.97.0.0/28'] } },
  })) as ServiceCIDR;
  assert.match((await create('more')).spec.clusterIP ?? '', /^10\.97\.0\./);
  // One on its way out gives nothing more.
  await transport.call({
    verb: 'patch',
    resource: RANGES,
    name: range.metadata.name,
    patchType: 'application/merge-patch+json',
    body: { metadata: { finalizers: ['networking.k8s.io/service-cidr-finalizer'] } },
  });
  await transport.call({ verb: 'delete', resource: RANGES, name: 'more' });
  await assert.rejects(create('late'), /range is full/);
  await assert.rejects(
    create('late', { clusterIP: '10.97.0.9' }),
    /the provided network does not match the current range/,
  );

  await create('ports', { clusterIP: 'None' });
  const nodePort = (name: string): Promise<unknown> =>
    transport.call({
      verb: 'patch',
      resource: SERVICES,
      namespace: 'default',
      name,
      patchType: 'application/merge-patch+json',
      body: { spec: { type: 'NodePort' } },
    });
  await nodePort('s0');
  await nodePort('s1');
  await assert.rejects(
    nodePort('s2'),
    /Internal error occurred: failed to allocate a nodePort: range is full/,
  );
  await eventually(
    async () =>
      (await events()).some((one) =>
        one.startsWith('Service/s2 PortRangeFull: Port range 30000-30001 is full;'),
      ),
    'the event',
  );
});

test('the default ServiceCIDR takes a second family, and no other range than it was made for', async () => {
  await using store = createMemoryStore();
  const ranges = async (
    server: Awaited<ReturnType<typeof serverOver>>,
  ): Promise<readonly string[] | undefined> => (await server.list<ServiceCIDR>(RANGES))[0]?.spec?.cidrs;
  {
    await using single = await serverOver(store);
    assert.deepEqual(await ranges(single), ['10.96.0.0/24']);
  }
  {
    await using dual = await serverOver(store, { serviceCidrs: ['10.96.0.0/24', 'fd00::/112'] });
    assert.deepEqual(await ranges(dual), ['10.96.0.0/24', 'fd00::/112']);
    assert.equal(
      (await dual.create('both', { ipFamilyPolicy: 'RequireDualStack' })).spec.clusterIPs?.length,
      2,
    );
  }
  await using other = await serverOver(store, { serviceCidrs: ['10.200.0.0/24', 'fd00::/112'] });
  assert.deepEqual(await ranges(other), ['10.96.0.0/24', 'fd00::/112']);
  assert.match((await other.create('web')).spec.clusterIP ?? '', /^10\.96\.0\./);
  await eventually(async () => (await other.events()).length > 0, 'the event');
  assert.deepEqual(await other.events(), [
    'ServiceCIDR/kubernetes KubernetesDefaultServiceCIDRInconsistent: The default ServiceCIDR [10.96.0.0/24 fd00::/112] does not match the controller flag configurations [10.200.0.0/24 fd00::/112]',
  ]);
});

test('three thousand Services cost one write each', async () => {
  await using store = createMemoryStore();
  await using one = await serverOver(store, { serviceCidrs: ['10.96.0.0/16'] });
  const before = store.revision;
  for (let i = 0; i < 3_000; i += 500)
    await Promise.all(Array.from({ length: 500 }, (_, j) => one.create(`s${i + j}`)));
  assert.equal(store.revision, before + 3_000);
  assert.equal(Object.keys(await one.addresses()).length, 3_001);
});

test('ServiceCIDRs that are deleted come back when they are the default one', async () => {
  await using store = createMemoryStore();
  await using one = await serverOver(store);
  await one.transport.call({ verb: 'delete', resource: RANGES, name: 'kubernetes' });
  await eventually(
    () =>
      one.transport.call({ verb: 'get', resource: RANGES, name: 'kubernetes' }).catch((error: unknown) => {
        if (!isNotFound(error)) throw error;
        return undefined;
      }),
    'the default ServiceCIDR',
  );
  assert.ok((await one.create('web')).spec.clusterIP);
});
