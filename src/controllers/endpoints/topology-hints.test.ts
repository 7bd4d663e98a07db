import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Service } from '../../api/types/core-v1.ts';
import type { Endpoint, EndpointSlice } from '../../api/types/discovery-v1.ts';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';
import { planSlices } from './slice-plan.ts';
import { TopologyHints, wantsTopologyHints } from './topology-hints.ts';

const node = (name: string, zone: string | undefined, cpu: string, more: Record<string, string> = {}): Node =>
  ({
    metadata: { name, labels: { ...(zone && { 'topology.kubernetes.io/zone': zone }), ...more } },
    status: { allocatable: { cpu }, conditions: [{ type: 'Ready', status: 'True' }] },
  }) as unknown as Node;

const endpoint = (i: number, zone: string | undefined, ready = true): Endpoint => ({
  addresses: [`10.0.0.${i}`],
  conditions: { ready },
  targetRef: { uid: `u${i}` },
  ...(zone && { zone }),
});

const ports = [{ name: '', protocol: 'TCP' as const, port: 80 }];

/** Applies hints to a new plan and answers with how many endpoints each zone got, and what was said. */
function hinted(hints: TopologyHints, endpoints: Endpoint[], key = 'default/web') {
  const plan = planSlices([], [{ ports, endpoints }], { ignoreHints: true });
  const events = hints.apply(key, 'IPv4', plan, []);
  const zones: Record<string, number> = {};
  for (const { hints: one } of plan.create.flatMap((slice) => slice.endpoints)) {
    const zone = one?.forZones?.map(({ name }) => name).join() ?? 'none';
    zones[zone] = (zones[zone] ?? 0) + 1;
  }
  return { zones, events: events.map(({ type, reason, message }) => `${type} ${reason}: ${message}`) };
}

test('endpoints are hinted to zones in proportion to their CPUs', () => {
  const hints = new TopologyHints();
  hints.setNodes([node('a', 'a', '2'), node('b', 'b', '2'), node('c', 'c', '2')]);
  const even = hinted(
    hints,
    [1, 2, 3, 4, 5, 6].map((i) => endpoint(i, 'abc'[i % 3])),
  );
  assert.deepEqual(even, {
    zones: { a: 2, b: 2, c: 2 },
    events: ['Normal TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4'],
  });
  // All in one zone: the others are given theirs.
  const moved = hinted(
    hints,
    [1, 2, 3, 4, 5, 6].map((i) => endpoint(i, 'a')),
  );
  assert.deepEqual(moved, { zones: { a: 2, b: 2, c: 2 }, events: [] });
  hints.setNodes([node('a', 'a', '6'), node('b', 'b', '2')]);
  assert.deepEqual(
    hinted(
      hints,
      Array.from({ length: 8 }, (_, i) => endpoint(i, i < 4 ? 'a' : 'b')),
    ).zones,
    {
      a: 6,
      b: 2,
    },
  );
  const unready = hinted(hints, [
    ...Array.from({ length: 8 }, (_, i) => endpoint(i, 'a')),
    endpoint(9, 'b', false),
  ]);
  assert.deepEqual(unready.zones, { a: 6, b: 2, none: 1 });
});

test('where it cannot be done there are no hints, and it is said why', () => {
  const hints = new TopologyHints();
  const four = [1, 2, 3, 4].map((i) => endpoint(i, 'a'));
  const INFO =
    'Warning TopologyAwareHintsDisabled: Insufficient Node information: allocatable CPU or zone not specified on one or more nodes, addressType: IPv4';
  for (const nodes of [
    [node('a', 'a', '2')],
    [node('a', 'a', '2'), node('b', undefined, '2')],
    [node('a', 'a', '2'), node('b', 'b', '0')],
    [node('a', 'a', '2'), node('b', 'b', '2', { 'node-role.kubernetes.io/control-plane': '' })],
  ]) {
    hints.setNodes(nodes);
    assert.deepEqual(hinted(hints, four), { zones: { none: 4 }, events: [INFO] });
  }
  hints.setNodes([node('a', 'a', '2'), node('b', 'b', '2')]);
  assert.deepEqual(hinted(hints, [endpoint(1, 'a')]).events, [
    'Warning TopologyAwareHintsDisabled: Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4',
  ]);
  assert.deepEqual(hinted(hints, [...four, endpoint(5, 'b'), endpoint(6, undefined)]).events, [
    'Warning TopologyAwareHintsDisabled: One or more endpoints do not have a zone specified, addressType: IPv4',
  ]);
  hints.setNodes([node('a', 'a', '1'), node('b', 'b', '1'), node('c', 'c', '1'), node('d', 'd', '4')]);
  assert.deepEqual(hinted(hints, [...four, endpoint(5, 'a')]).events, [
    'Warning TopologyAwareHintsDisabled: Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (5 endpoints, 4 zones), addressType: IPv4',
  ]);
});

test('slices whose hints still fit are left alone, and overload is noticed when nodes change', () => {
  const hints = new TopologyHints();
  hints.setNodes([node('a', 'a', '2'), node('b', 'b', '2')]);
  const endpoints = [1, 2, 3, 4].map((i) => endpoint(i, i % 2 ? 'a' : 'b'));
  const plan = planSlices([], [{ ports, endpoints }], { ignoreHints: true });
  hints.apply('default/web', 'IPv4', plan, []);
  const slice = { metadata: { uid: 's' }, addressType: 'IPv4', ...plan.create[0]! } as EndpointSlice;
  const again = planSlices([slice], [{ ports, endpoints }], { ignoreHints: true });
  assert.deepEqual(hints.apply('default/web', 'IPv4', again, [slice]), []);
  assert.deepEqual(again, { create: [], update: [], delete: [] });
  assert.deepEqual(hints.overloaded(), []);
  hints.setNodes([node('a', 'a', '2'), node('b', 'b', '6')]);
  assert.deepEqual(hints.overloaded(), ['default/web']);
  const moved = planSlices([slice], [{ ports, endpoints }], { ignoreHints: true });
  hints.apply('default/web', 'IPv4', moved, [slice]);
  const zones = moved.update.flatMap((one) => one.endpoints).map(({ hints: h }) => h?.forZones?.[0]?.name);
  assert.deepEqual(zones.toSorted(), ['a', 'b', 'b', 'b']);
  assert.deepEqual(hints.overloaded(), []);
  assert.ok(hints.forget('default/web', 'IPv4'));
  assert.deepEqual(hints.overloaded(), []);
});

test('the annotation is read under both of its names', () => {
  const service = (annotations: Record<string, string>) =>
    ({ metadata: { annotations } }) as unknown as Service;
  const mode = 'service.kubernetes.io/topology-mode';
  const hints = 'service.kubernetes.io/topology-aware-hints';
  assert.ok(wantsTopologyHints(service({ [mode]: 'Auto' })));
  assert.ok(wantsTopologyHints(service({ [hints]: 'auto' })));
  assert.ok(!wantsTopologyHints(service({ [hints]: 'Disabled', [mode]: 'Auto' })));
  assert.ok(!wantsTopologyHints(service({})));
});

test('the controller gives hints, takes them away and says both', async () => {
  await using cluster = await startTestCluster(['endpointslice-controller']);
  cluster.podsBecome = () => undefined;
  const { client } = cluster;
  const nodes = client.resource(resources.nodes);
  for (const zone of ['a', 'b']) {
    const { status, ...rest } = node(zone, zone, '2');
    await nodes.updateStatus({ ...(await nodes.create({ ...rest, spec: {} })), status: status! });
  }
  const services = client.resource(resources.services, 'default');
  const MODE = 'service.kubernetes.io/topology-mode';
  await services.create({
    metadata: { name: 'web', annotations: { [MODE]: 'Auto' } },
    spec: {
      clusterIP: '10.0.0.1',
      ipFamilies: ['IPv4'],
      selector: { app: 'web' },
      ports: [{ port: 80 }],
      trafficDistribution: 'PreferSameNode',
    },
  });
  const pods = client.resource(resources.pods, 'default');
  for (let i = 1; i <= 4; i++) {
    const pod = await pods.create({
      metadata: { name: `p${i}`, labels: { app: 'web' } },
      spec: { nodeName: 'a', containers: [{ name: 'c' }] },
    });
    await pods.updateStatus({
      ...pod,
      status: {
        phase: 'Running',
        podIP: `10.1.0.${i}`,
        podIPs: [{ ip: `10.1.0.${i}` }],
        conditions: [{ type: 'Ready', status: 'True' }],
      },
    });
  }
  const zones = async () => {
    await cluster.settle();
    const { items } = await client.resource(resources.endpointSlices, 'default').list();
    return items
      .flatMap((slice) => slice.endpoints ?? [])
      .map(({ hints }) => JSON.stringify(hints ?? null))
      .toSorted();
  };
  const inZone = (zone: string) => JSON.stringify({ forZones: [{ name: zone }] });
  assert.deepEqual(await zones(), [inZone('a'), inZone('a'), inZone('b'), inZone('b')]);
  const web = await services.get('web');
  await services.update({ ...web, metadata: { ...web.metadata, annotations: {} } });
  const onNode = JSON.stringify({ forZones: [{ name: 'a' }], forNodes: [{ name: 'a' }] });
  assert.deepEqual(await zones(), [onNode, onNode, onNode, onNode], 'the field speaks now');
  const said = await cluster.events('web');
  assert.ok(
    said.includes('TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4'),
  );
  assert.equal(
    said.at(-1),
    'TopologyAwareHintsDisabled: Topology Aware Hints has been disabled, addressType: IPv4',
  );
});
