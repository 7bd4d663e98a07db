import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Draft } from '../../api/index.ts';
import type { Pod, Service, ServiceSpec } from '../../api/types/core-v1.ts';
import type { Endpoint, EndpointSlice } from '../../api/types/discovery-v1.ts';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';
import { subsetsOf } from './endpoints.ts';
import { MOST_ENDPOINTS, planSlices } from './slice-plan.ts';

const web = (spec: Partial<ServiceSpec> = {}): Draft<Service> => ({
  metadata: { name: 'web', labels: { team: 'a' } },
  spec: {
    clusterIP: '10.0.0.1',
    ipFamilies: ['IPv4'],
    selector: { app: 'web' },
    ports: [{ name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' }],
    ...spec,
  },
});

async function setup(service: Draft<Service>) {
  const cluster = await startTestCluster(['endpointslice-controller', 'endpoints-controller']);
  cluster.podsBecome = () => undefined;
  cluster.podsEnd = false;
  const { client } = cluster;
  await client.resource(resources.nodes).create({
    metadata: { name: 'n1', labels: { 'topology.kubernetes.io/zone': 'z1' } },
    spec: {},
  });
  const services = client.resource(resources.services, 'default');
  await services.create(service);
  const api = client.resource(resources.pods, 'default');
  const pod = async (name: string, ip: string, ready = true, spec: Partial<Pod['spec']> = {}) => {
    const created = await api.create({
      metadata: { name, labels: { app: 'web' } },
      spec: {
        nodeName: 'n1',
        containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }] }],
        ...spec,
      },
    });
    const updated = await api.updateStatus({
      ...created,
      status: {
        phase: 'Running',
        podIP: ip,
        podIPs: [{ ip }],
        conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
      },
    });
    await cluster.settle();
    return updated;
  };
  const slices = async () => {
    await cluster.settle();
    return (await client.resource(resources.endpointSlices, 'default').list()).items;
  };
  const shown = async () =>
    (await slices())
      .flatMap((slice) =>
        (slice.endpoints ?? []).map(
          (e) =>
            `${e.addresses[0]} ${e.conditions?.ready}/${e.conditions?.serving}/${e.conditions?.terminating}`,
        ),
      )
      .toSorted();
  const endpoints = () => client.resource(resources.endpoints, 'default').get('web');
  return { cluster, client, services, api, pod, slices, shown, endpoints };
}

test('ready pods of a Service are in its slice and its Endpoints, with ports, node and zone', async () => {
  const { cluster, pod, slices, endpoints } = await setup(web());
  await using _ = cluster;
  const p = await pod('a', '10.1.0.1');
  const [slice, ...others] = await slices();
  assert.deepEqual(others, []);
  assert.deepEqual(slice?.metadata.labels, {
    team: 'a',
    'kubernetes.io/service-name': 'web',
    'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
  });
  assert.equal(slice?.metadata.ownerReferences?.[0]?.kind, 'Service');
  assert.equal(slice?.addressType, 'IPv4');
  assert.deepEqual(slice?.ports, [{ name: 'http', protocol: 'TCP', port: 8080 }]);
  assert.deepEqual(slice?.endpoints, [
    {
      addresses: ['10.1.0.1'],
      conditions: { ready: true, serving: true, terminating: false },
      targetRef: { kind: 'Pod', namespace: 'default', name: 'a', uid: p.metadata.uid },
      nodeName: 'n1',
      zone: 'z1',
    },
  ]);
  assert.deepEqual((await endpoints()).subsets, [
    {
      addresses: [
        {
          ip: '10.1.0.1',
          nodeName: 'n1',
          targetRef: { kind: 'Pod', namespace: 'default', name: 'a', uid: p.metadata.uid },
        },
      ],
      ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    },
  ]);
});

test('readiness, termination and end of a pod are followed', async () => {
  const { cluster, pod, shown, api, endpoints } = await setup(web());
  await using _ = cluster;
  await pod('a', '10.1.0.1');
  await pod('b', '10.1.0.2', false);
  assert.deepEqual(await shown(), ['10.1.0.1 true/true/false', '10.1.0.2 false/false/false']);
  assert.equal((await endpoints()).subsets?.[0]?.notReadyAddresses?.[0]?.ip, '10.1.0.2');
  await api.delete('a');
  assert.deepEqual(await shown(), ['10.1.0.1 false/true/true', '10.1.0.2 false/false/false']);
  assert.equal((await endpoints()).subsets?.[0]?.addresses, undefined);
  await api.delete('a', { gracePeriodSeconds: 0 });
  const b = await api.get('b');
  await api.updateStatus({ ...b, status: { ...b.status, conditions: [{ type: 'Ready', status: 'True' }] } });
  assert.deepEqual(await shown(), ['10.1.0.2 true/true/false']);
});

test('a Service without pods has an empty slice, and loses its Endpoints with itself', async () => {
  const { cluster, slices, services, client } = await setup(web());
  await using _ = cluster;
  const [slice, ...others] = await slices();
  assert.deepEqual([slice?.endpoints, slice?.ports, others], [[], [], []]);
  await services.delete('web');
  await cluster.settle();
  assert.deepEqual((await client.resource(resources.endpoints, 'default').list()).items, []);
});

test('publishNotReadyAddresses publishes all, a headless Service has hostnames', async () => {
  const { cluster, pod, shown, slices } = await setup(
    web({ publishNotReadyAddresses: true, clusterIP: 'None', ports: [] }),
  );
  await using _ = cluster;
  await pod('a', '10.1.0.1', false, { hostname: 'a', subdomain: 'web' });
  assert.deepEqual(await shown(), ['10.1.0.1 true/false/false']);
  const [slice] = await slices();
  assert.equal(slice?.endpoints?.[0]?.hostname, 'a');
  assert.equal(slice?.metadata.labels?.['service.kubernetes.io/headless'], '');
});

test('each address family has slices of its own', async () => {
  const { cluster, api, slices, services } = await setup(web({ ipFamilies: ['IPv4', 'IPv6'] }));
  await using _ = cluster;
  const created = await api.create({
    metadata: { name: 'a', labels: { app: 'web' } },
    spec: { nodeName: 'n1', containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 1 }] }] },
  });
  await api.updateStatus({
    ...created,
    status: { phase: 'Running', podIP: '10.1.0.1', podIPs: [{ ip: '10.1.0.1' }, { ip: 'fd00::1' }] },
  });
  const shown = async () =>
    (await slices()).map((s) => `${s.addressType} ${s.endpoints?.[0]?.addresses[0]}`).toSorted();
  assert.deepEqual(await shown(), ['IPv4 10.1.0.1', 'IPv6 fd00::1']);
  const service = await services.get('web');
  await services.update({ ...service, spec: { ...service.spec, ipFamilies: ['IPv4'] } });
  assert.deepEqual(await shown(), ['IPv4 10.1.0.1']);
});

test('trafficDistribution becomes hints', async () => {
  const { cluster, pod, slices } = await setup(web({ trafficDistribution: 'PreferSameNode' }));
  await using _ = cluster;
  await pod('a', '10.1.0.1');
  assert.deepEqual((await slices())[0]?.endpoints?.[0]?.hints, {
    forZones: [{ name: 'z1' }],
    forNodes: [{ name: 'n1' }],
  });
});

test('slices are written by nobody else for long, and never twice from a stale cache', async () => {
  const { cluster, pod, slices, client } = await setup(web());
  await using _ = cluster;
  await pod('a', '10.1.0.1');
  const [slice] = await slices();
  await client.resource(resources.endpointSlices, 'default').delete(slice!.metadata.name);
  assert.equal((await slices()).length, 1);
  const release = Promise.withResolvers<void>();
  cluster.api.intercept = async (call) => {
    if (call.verb === 'watch' && call.resource.resource === 'endpointslices') await release.promise;
    return undefined;
  };
  await cluster.advance(2000);
  cluster.api.dropWatches();
  await cluster.advance(2000);
  for (let i = 2; i < 6; i++) await pod(`p${i}`, `10.1.0.${i}`);
  assert.equal((await slices()).length, 1);
  release.resolve();
  await cluster.advance(5000);
  assert.equal((await slices())[0]?.endpoints?.length, 5);
});

test('slices of an earlier Service of the same name go, those of others stay', async () => {
  const { cluster, pod, slices, client } = await setup(web());
  await using _ = cluster;
  await pod('a', '10.1.0.1');
  const api = client.resource(resources.endpointSlices, 'default');
  const [own] = await slices();
  const copy = (name: string, labels: Record<string, string>, uid: string) =>
    api.create({
      metadata: {
        name,
        labels: { 'kubernetes.io/service-name': 'web', ...labels },
        ownerReferences: [{ apiVersion: 'v1', kind: 'Service', name: 'web', uid }],
      },
      addressType: 'IPv4',
      endpoints: own!.endpoints!,
      ports: own!.ports!,
    });
  await copy('old', { 'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io' }, 'gone');
  await copy('theirs', { 'endpointslice.kubernetes.io/managed-by': 'somebody.example.com' }, 'gone');
  assert.deepEqual(
    (await slices()).map(({ metadata }) => metadata.name).toSorted(),
    [own!.metadata.name, 'theirs'].toSorted(),
  );
  // A slice that is taken from us is replaced, one that is given to us is sorted out.
  const taken = await api.get(own!.metadata.name);
  await api.update({ ...taken, metadata: { ...taken.metadata, labels: {} } });
  assert.equal((await slices()).length, 3);
});

test('a pod without the named port is in a slice without ports, and on a node that is not known in none', async () => {
  const { cluster, api, pod, slices } = await setup(web());
  await using _ = cluster;
  await pod('a', '10.1.0.1', true, { containers: [{ name: 'c' }] });
  const [slice, ...others] = await slices();
  assert.deepEqual([slice?.ports, slice?.endpoints?.length, others], [[], 1, []]);
  await pod('b', '10.1.0.2', true, { nodeName: 'n9' });
  assert.deepEqual(
    (await slices()).flatMap((one) => one.endpoints ?? []).map(({ addresses }) => addresses[0]),
    ['10.1.0.1'],
  );
  assert.deepEqual(await cluster.events('web'), [
    'FailedToUpdateEndpointSlices: Error updating Endpoint Slices for Service default/web: skipping Pod b for Service default/web: Node n9 Not Found',
  ]);
  await cluster.client.resource(resources.nodes).create({ metadata: { name: 'n9' }, spec: {} });
  assert.equal((await slices()).flatMap((one) => one.endpoints ?? []).length, 2);
  await api.delete('a', { gracePeriodSeconds: 0 });
  await api.delete('b', { gracePeriodSeconds: 0 });
});

test('of fifteen hundred pods one changes: one slice and the Endpoints are written', async () => {
  const { cluster, api, client, services } = await setup(web({ selector: { app: 'nothing yet' } }));
  await using _ = cluster;
  const containers = [
    { name: 'c', ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' as const }] },
  ];
  const status = (i: number, ready: boolean): Pod['status'] => ({
    phase: 'Running',
    podIP: `10.1.${i >> 8}.${i & 255}`,
    podIPs: [{ ip: `10.1.${i >> 8}.${i & 255}` }],
    conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
  });
  for (let i = 0; i < 1500; i++) {
    const pod = await api.create({
      metadata: { name: `p${i}`, labels: { app: 'web' } },
      spec: { nodeName: 'n1', containers },
    });
    await api.updateStatus({ ...pod, status: status(i, true) });
  }
  const service = await services.get('web');
  await services.update({ ...service, spec: { ...service.spec, selector: { app: 'web' } } });
  await cluster.settle();
  const slices = client.resource(resources.endpointSlices, 'default');
  const sizes = (await slices.list()).items.map(({ endpoints }) => endpoints?.length ?? 0);
  assert.equal(
    sizes.reduce((a, b) => a + b, 0),
    1500,
  );
  assert.ok(sizes.length <= 17, `${sizes.length} slices`);
  const before = cluster.api.calls.length;
  await api.updateStatus({ ...(await api.get('p700')), status: status(700, false) });
  await cluster.settle();
  const writes = cluster.api.calls
    .slice(before)
    .filter((call) => /^(create|update|patch|delete) /.test(call));
  assert.deepEqual(
    writes.map((call) => call.replace(/web-\w+$/, 'web-…')),
    [
      'update pods/status default/p700',
      'update endpointslices default/web-…',
      'update endpoints default/web',
    ],
  );
});

test('Endpoints hold a thousand addresses, ready ones first', () => {
  const service = web() as unknown as Service;
  const pods = Array.from({ length: 1200 }, (_, i) => ({
    metadata: { name: `p${i}`, namespace: 'default', uid: `u${i}`, labels: { app: 'web' } },
    spec: { containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 8080 + (i % 2) }] }] },
    status: {
      phase: 'Running',
      podIP: `10.1.${i >> 8}.${i & 255}`,
      conditions: [{ type: 'Ready', status: i % 3 === 0 ? 'False' : 'True' }],
    },
  })) as unknown as Pod[];
  const { subsets = [], truncated } = subsetsOf(service, pods);
  const total = (field: 'addresses' | 'notReadyAddresses') =>
    subsets.reduce((sum, subset) => sum + (subset[field]?.length ?? 0), 0);
  assert.deepEqual([truncated, total('addresses'), total('notReadyAddresses')], [true, 800, 200]);
  assert.equal(subsetsOf(service, pods.slice(0, 1000)).truncated, false);
});

test('a plan always holds every endpoint once, fills slices and leaves others alone', () => {
  let seed = 42;
  // mulberry32
  const random = (below: number) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
  const ports = [{ name: 'http', protocol: 'TCP' as const, port: 80 }];
  const endpoint = (id: number, ready: boolean): Endpoint => ({
    addresses: [`10.0.${id >> 8}.${id & 255}`],
    conditions: { ready },
    targetRef: { uid: `u${id}` },
  });
  let slices: EndpointSlice[] = [];
  let made = 0;
  for (let round = 0; round < 60; round++) {
    const wanted = new Map<number, Endpoint>();
    const size = random(350);
    while (wanted.size < size) {
      const id = random(400);
      wanted.set(id, endpoint(id, random(10) > 0));
    }
    const before = new Map(slices.map((s) => [s.metadata.uid, s]));
    const plan = planSlices(slices, size === 0 ? [] : [{ ports, endpoints: [...wanted.values()] }]);
    for (const slice of plan.delete) before.delete(slice.metadata.uid);
    for (const { slice, endpoints } of plan.update) before.set(slice.metadata.uid, { ...slice, endpoints });
    for (const draft of plan.create) {
      const metadata = { name: `s${++made}`, uid: `s${made}` } as EndpointSlice['metadata'];
      before.set(metadata.uid, { metadata, addressType: 'IPv4', ...draft });
    }
    slices = [...before.values()];
    const all = slices.flatMap((s) => s.endpoints ?? []);
    assert.equal(all.length, wanted.size);
    assert.deepEqual(
      new Set(all.map((e) => e.targetRef?.uid)),
      new Set([...wanted.keys()].map((id) => `u${id}`)),
    );
    assert.ok(slices.every((s) => (s.endpoints?.length ?? 0) <= MOST_ENDPOINTS));
    assert.ok(slices.length >= 1);
    assert.ok(
      slices.length <= 1 + 2 * Math.ceil(size / MOST_ENDPOINTS) + 4,
      `${slices.length} slices for ${size}`,
    );
    const again = planSlices(slices, size === 0 ? [] : [{ ports, endpoints: [...wanted.values()] }]);
    assert.deepEqual(again, { create: [], update: [], delete: [] });
  }
});
