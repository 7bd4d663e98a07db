import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Draft } from '../../api/index.ts';
import type { EndpointSubset, Endpoints, Service } from '../../api/types/core-v1.ts';
import type { EndpointSlice } from '../../api/types/discovery-v1.ts';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';
import { mirrored, planMirror } from './mirror-plan.ts';

const service = (selector?: Record<string, string>): Draft<Service> => ({
  metadata: { name: 'db' },
  spec: {
    clusterIP: '10.0.0.1',
    ipFamilies: ['IPv4'],
    ports: [{ port: 5432 }],
    ...(selector && { selector }),
  },
});

const subset = (...ips: string[]): EndpointSubset => ({
  addresses: ips.map((ip) => ({ ip })),
  ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }],
});

const endpointsOf = (subsets: EndpointSubset[], metadata: object = {}): Draft<Endpoints> => ({
  metadata: { name: 'db', ...metadata },
  subsets,
});

async function setup() {
  const cluster = await startTestCluster(['endpointslice-mirroring-controller']);
  const { client } = cluster;
  return {
    cluster,
    services: client.resource(resources.services, 'default'),
    endpoints: client.resource(resources.endpoints, 'default'),
    api: client.resource(resources.endpointSlices, 'default'),
    async slices() {
      await cluster.settle();
      return (await client.resource(resources.endpointSlices, 'default').list()).items;
    },
    async shown() {
      await cluster.settle();
      const { items } = await client.resource(resources.endpointSlices, 'default').list();
      return items
        .flatMap((slice) =>
          (slice.endpoints ?? []).map((e) => `${slice.addressType} ${e.addresses[0]} ${e.conditions?.ready}`),
        )
        .toSorted();
    },
  };
}

test('the Endpoints of a Service without a selector become slices, one a family and set of ports', async () => {
  const { cluster, services, endpoints, slices, shown } = await setup();
  await using _ = cluster;
  await services.create(service());
  const made = await endpoints.create(
    endpointsOf(
      [
        {
          addresses: [
            {
              ip: '192.0.2.1',
              hostname: 'a',
              nodeName: 'n1',
              targetRef: { kind: 'Pod', name: 'p', uid: 'u' },
            },
            { ip: '2001:db8::1' },
          ],
          notReadyAddresses: [{ ip: '192.0.2.2' }],
          ports: [{ name: 'sql', port: 5432, protocol: 'TCP', appProtocol: 'postgres' }],
        },
        { addresses: [{ ip: '192.0.2.3' }], ports: [{ port: 9000, protocol: 'TCP' }] },
      ],
      {
        labels: { team: 'a' },
        annotations: {
          note: 'x',
          'endpoints.kubernetes.io/last-change-trigger-time': '2026-01-01T00:00:00Z',
          'kubectl.kubernetes.io/last-applied-configuration': '{}',
        },
      },
    ),
  );
  assert.deepEqual(await shown(), [
    'IPv4 192.0.2.1 true',
    'IPv4 192.0.2.2 false',
    'IPv4 192.0.2.3 true',
    'IPv6 2001:db8::1 true',
  ]);
  const all = await slices();
  assert.equal(all.length, 3);
  const first = all.find((slice) => slice.addressType === 'IPv4' && slice.endpoints?.length === 2)!;
  assert.match(first.metadata.name, /^db-/);
  assert.deepEqual(first.metadata.labels, {
    team: 'a',
    'kubernetes.io/service-name': 'db',
    'endpointslice.kubernetes.io/managed-by': 'endpointslicemirroring-controller.k8s.io',
  });
  assert.deepEqual(first.metadata.annotations, { note: 'x' });
  assert.deepEqual(first.ports, [{ name: 'sql', protocol: 'TCP', port: 5432, appProtocol: 'postgres' }]);
  assert.deepEqual(first.endpoints?.[0], {
    addresses: ['192.0.2.1'],
    conditions: { ready: true },
    hostname: 'a',
    nodeName: 'n1',
    targetRef: { kind: 'Pod', name: 'p', uid: 'u' },
  });
  assert.deepEqual(
    first.metadata.ownerReferences?.map(({ kind, name, uid, controller }) => [kind, name, uid, controller]),
    [['Endpoints', 'db', made.metadata.uid, true]],
  );
});

test('changes are followed with as few writes as can be, and edited slices come back', async () => {
  const { cluster, services, endpoints, api, slices, shown } = await setup();
  await using _ = cluster;
  await services.create(service());
  const made = await endpoints.create(endpointsOf([subset('192.0.2.1')]));
  const [before] = await slices();
  await endpoints.update({ ...made, subsets: [subset('192.0.2.1', '192.0.2.2')] });
  assert.deepEqual(await shown(), ['IPv4 192.0.2.1 true', 'IPv4 192.0.2.2 true']);
  const [after] = await slices();
  assert.equal(after?.metadata.uid, before?.metadata.uid);
  // Other ports: the same slice, filled anew.
  const now = await endpoints.get('db');
  await endpoints.update({
    ...now,
    subsets: [{ ...subset('192.0.2.9'), ports: [{ port: 1, protocol: 'TCP' }] }],
  });
  assert.deepEqual(await shown(), ['IPv4 192.0.2.9 true']);
  assert.equal((await slices())[0]?.metadata.uid, before?.metadata.uid);
  const [slice] = await slices();
  await api.update({ ...slice!, endpoints: [] });
  assert.deepEqual(await shown(), ['IPv4 192.0.2.9 true']);
  await api.delete(slice!.metadata.name);
  assert.deepEqual(await shown(), ['IPv4 192.0.2.9 true']);
  const writes = cluster.api.calls.length;
  await endpoints.update({
    ...(await endpoints.get('db')),
    metadata: { ...(await endpoints.get('db')).metadata },
  });
  await cluster.settle();
  const more = cluster.api.calls.slice(writes).filter((call) => / endpointslices /.test(call));
  assert.deepEqual(more, []);
});

test('nothing is mirrored of Services with a selector, of locks, and of what says so', async () => {
  const { cluster, services, endpoints, shown } = await setup();
  await using _ = cluster;
  const plain = await endpoints.create(endpointsOf([subset('192.0.2.1')]));
  assert.deepEqual(await shown(), [], 'without a Service');
  await services.create(service());
  assert.deepEqual(await shown(), ['IPv4 192.0.2.1 true']);
  await services.update({
    ...(await services.get('db')),
    ...service({ app: 'db' }),
    metadata: (await services.get('db')).metadata,
  });
  assert.deepEqual(await shown(), [], 'with a selector');
  const before = await services.get('db');
  const { selector: _selector, ...spec } = before.spec;
  await services.update({ ...before, spec });
  assert.deepEqual(await shown(), ['IPv4 192.0.2.1 true']);
  const labelled = await endpoints.update({
    ...plain,
    metadata: { ...plain.metadata, labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } },
  });
  assert.deepEqual(await shown(), [], 'with the label');
  const lock = await endpoints.update({
    ...labelled,
    metadata: {
      ...labelled.metadata,
      labels: {},
      annotations: { 'control-plane.alpha.kubernetes.io/leader': '{}' },
    },
  });
  assert.deepEqual(await shown(), [], 'a lock');
  await endpoints.update({ ...lock, metadata: { ...lock.metadata, annotations: {} } });
  assert.deepEqual(await shown(), ['IPv4 192.0.2.1 true']);
  await endpoints.delete('db');
  assert.deepEqual(await shown(), [], 'without Endpoints');
});

test('at most a thousand of a subset are mirrored, and whoever looks is told', async () => {
  const { cluster, services, endpoints, slices } = await setup();
  await using _ = cluster;
  await services.create(service());
  const many = Array.from({ length: 1001 }, (_, i) => `10.9.${i >> 8}.${i & 255}`);
  await endpoints.create(endpointsOf([subset('not-an-address', ...many)]));
  const [slice, ...others] = await slices();
  assert.equal(slice?.endpoints?.length, 1000);
  assert.deepEqual(others, []);
  assert.deepEqual((await cluster.events('db')).toSorted(), [
    'InvalidIPAddress: Skipped 1 invalid IP addresses when mirroring to EndpointSlices',
    'TooManyAddressesToMirror: A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 2 addresses were skipped',
  ]);
});

test('a plan, once carried out, leaves nothing to do (property)', () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >>> 8) % below;
  };
  let slices: EndpointSlice[] = [];
  let made = 0;
  for (let round = 0; round < 300; round++) {
    const subsets = Array.from({ length: random(4) }, () => ({
      addresses: Array.from({ length: random(6) }, () => ({
        ip: random(3) === 0 ? `fd00::${random(9)}` : `10.0.0.${random(20)}`,
      })),
      notReadyAddresses: Array.from({ length: random(3) }, () => ({ ip: `10.0.1.${random(9)}` })),
      ports: [{ port: 80 + random(3), protocol: 'TCP' as const }],
    }));
    const source = {
      metadata: { name: 'db', labels: { v: String(random(2)) } },
      subsets,
    } as unknown as Endpoints;
    const wanted = mirrored(source);
    const plan = planMirror(slices, wanted);
    const next = new Map(slices.map((slice) => [slice.metadata.uid, slice]));
    for (const slice of plan.delete) next.delete(slice.metadata.uid);
    const metadata = (uid: string) =>
      ({
        name: uid,
        uid,
        labels: wanted.labels,
        annotations: wanted.annotations,
      }) as EndpointSlice['metadata'];
    for (const { slice, wanted: one } of plan.update) {
      assert.equal(slice.addressType, one.addressType);
      next.set(slice.metadata.uid, { ...one, metadata: metadata(slice.metadata.uid) } as EndpointSlice);
    }
    for (const one of plan.create) {
      const uid = `s${++made}`;
      next.set(uid, { ...one, metadata: metadata(uid) } as EndpointSlice);
    }
    slices = [...next.values()];
    assert.deepEqual(planMirror(slices, wanted), { create: [], update: [], delete: [] });
    const ips = (ip: { ip: string }) => ip.ip;
    assert.deepEqual(
      new Set(slices.flatMap((s) => s.endpoints ?? []).map((e) => e.addresses[0])),
      new Set(subsets.flatMap((s) => [...s.addresses.map(ips), ...s.notReadyAddresses.map(ips)])),
    );
  }
});
