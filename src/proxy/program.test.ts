import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Service, ServiceSpec, ServiceStatus } from '../api/types/core-v1.ts';
import type { Endpoint, EndpointSlice } from '../api/types/discovery-v1.ts';
import { backendsOf, categorize } from './backends.ts';
import { type Frontend, type ProgramContext, programOf } from './program.ts';

const context: ProgramContext = {
  nodeName: 'n1',
  zone: 'z1',
  masqueradeAll: false,
  nodeAddresses: ['192.0.2.1'],
  isBalancers: (address) => address.startsWith('198.51.100.'),
};

function service(spec: ServiceSpec, status?: ServiceStatus, labels?: Record<string, string>): Service {
  return {
    metadata: {
      name: 'web',
      namespace: 'default',
      uid: 'u',
      resourceVersion: '1',
      ...(labels ? { labels } : {}),
    },
    spec: { clusterIP: '10.96.0.1', ports: [{ name: 'http', port: 80, protocol: 'TCP' }], ...spec },
    ...(status ? { status } : {}),
  } as Service;
}

function slice(endpoints: readonly Endpoint[], more: Partial<EndpointSlice> = {}): EndpointSlice {
  return {
    metadata: { name: 's', namespace: 'default', uid: 'u', resourceVersion: '1' },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: [...endpoints],
    ...more,
  } as EndpointSlice;
}

const here = (address: string, more: Partial<Endpoint> = {}): Endpoint => ({
  addresses: [address],
  nodeName: 'n1',
  ...more,
});
const there = (address: string, more: Partial<Endpoint> = {}): Endpoint => ({
  ...here(address, more),
  nodeName: 'n2',
});
const draining = { conditions: { ready: false, serving: true, terminating: true } };

function frontends(subject: Service, ...slices: EndpointSlice[]): Record<string, Omit<Frontend, 'family'>> {
  const program = programOf(subject, slices, context);
  return Object.fromEntries(
    (program?.frontends ?? []).map((frontend) => [
      `${frontend.address || 'node'}:${frontend.port}/${frontend.protocol}`,
      frontend,
    ]),
  );
}

test('an endpoint in two slices counts once, and as the better of the two', () => {
  const late = slice([here('10.1.0.1', { conditions: { ready: false } }), here('10.1.0.2')]);
  const backends = backendsOf([late, slice([here('10.1.0.1')])], 4, 'http', 'TCP', 'n1');
  assert.deepEqual(
    backends.map(({ address, ready }) => [address, ready]),
    [
      ['10.1.0.1', true],
      ['10.1.0.2', true],
    ],
  );
});

test('host names, other families, other ports and things that are no addresses are passed over', () => {
  const odd = [
    slice([{ addresses: ['example.org'] }], { addressType: 'FQDN' }),
    slice([here('fd00::1')], { addressType: 'IPv6' }),
    slice([here('10.1.0.1')], { ports: [{ name: 'other', port: 1 }] }),
    slice([here('10.1.0.1')], { ports: [{ name: 'http', port: 8080, protocol: 'UDP' }] }),
    slice([here('10.1.0.1')], { ports: [{ name: 'http' }] }),
    slice([here('10.1.0.1; flush ruleset'), here('010.1.0.1'), here('fd00::1')]),
    slice([{ addresses: [] }]),
  ];
  assert.deepEqual(backendsOf(odd, 4, 'http', 'TCP', 'n1'), []);
});

test('an address is written in one way, however the slice has it', () => {
  const six = slice([here('FD00:0:0::0001')], { addressType: 'IPv6' });
  assert.equal(backendsOf([six], 6, 'http', 'TCP', 'n1')[0]?.address, 'fd00::1');
});

test('draining endpoints serve where no ready one is left, by each policy for itself', () => {
  const of = (...endpoints: Endpoint[]) => {
    const backends = backendsOf([slice(endpoints)], 4, 'http', 'TCP', 'n1');
    const { cluster, local, any } = categorize(backends, { cluster: true, local: true }, context);
    return [cluster.map(({ address }) => address), local.map(({ address }) => address), any];
  };
  const gone = { conditions: { ready: false, serving: false, terminating: true } };
  assert.deepEqual(of(here('10.1.0.1', draining), there('10.1.0.2')), [['10.1.0.2'], ['10.1.0.1'], true]);
  assert.deepEqual(of(here('10.1.0.1', draining)), [['10.1.0.1'], ['10.1.0.1'], true]);
  assert.deepEqual(of(there('10.1.0.1', draining)), [['10.1.0.1'], [], true]);
  assert.deepEqual(of(here('10.1.0.1', gone), here('10.1.0.2', { conditions: { ready: false } })), [
    [],
    [],
    false,
  ]);
  assert.deepEqual(of(), [[], [], false]);
});

test('hints hold only when every ready endpoint has them and one means this node or zone', () => {
  const chosen = (...endpoints: Endpoint[]) =>
    categorize(
      backendsOf([slice(endpoints)], 4, 'http', 'TCP', 'n1'),
      { cluster: true, local: false },
      context,
    ).cluster.map(({ address }) => address);
  const zone = (name: string) => ({ hints: { forZones: [{ name }] } });
  const node = (name: string) => ({ hints: { forNodes: [{ name }] } });
  assert.deepEqual(chosen(here('10.1.0.1', zone('z1')), here('10.1.0.2', zone('z2'))), ['10.1.0.1']);
  assert.deepEqual(chosen(here('10.1.0.1', zone('z1')), here('10.1.0.2')), ['10.1.0.1', '10.1.0.2']);
  assert.deepEqual(chosen(here('10.1.0.1', zone('z3')), here('10.1.0.2', zone('z2'))), [
    '10.1.0.1',
    '10.1.0.2',
  ]);
  const notReady = here('10.1.0.3', { conditions: { ready: false } });
  assert.deepEqual(chosen(here('10.1.0.1', zone('z1')), here('10.1.0.2', zone('z2')), notReady), [
    '10.1.0.1',
  ]);
  const both = { hints: { ...zone('z1').hints, ...node('n2').hints } };
  assert.deepEqual(
    chosen(here('10.1.0.1', both), here('10.1.0.2', { hints: { ...zone('z2').hints, ...node('n1').hints } })),
    ['10.1.0.2'],
    'nodes before zones',
  );
  assert.deepEqual(
    chosen(here('10.1.0.1', both), here('10.1.0.2', both)),
    ['10.1.0.1', '10.1.0.2'],
    'then zones',
  );
});

test('headless services, external names and those of another proxy have no program', () => {
  for (const none of [
    service({ clusterIP: 'None' }),
    service({ clusterIP: '' }),
    service({ type: 'ExternalName', externalName: 'example.org' }),
    service({}, undefined, { 'service.kubernetes.io/service-proxy-name': 'x' }),
    service({}, undefined, { 'service.kubernetes.io/headless': '' }),
  ])
    assert.equal(programOf(none, [slice([here('10.1.0.1')])], context), undefined);
});

test('no endpoint anywhere refuses, none on this node drops where only those count', () => {
  const spec: ServiceSpec = {
    type: 'NodePort',
    ports: [{ name: 'http', port: 80, nodePort: 30000 }],
    internalTrafficPolicy: 'Local',
    externalTrafficPolicy: 'Local',
  };
  const refused = frontends(service(spec));
  assert.equal(refused['10.96.0.1:80/tcp']?.treatment.kind, 'refuse');
  assert.equal(refused['node:30000/tcp']?.treatment.kind, 'refuse');
  const remote = frontends(service(spec), slice([there('10.1.0.1')]));
  assert.equal(remote['10.96.0.1:80/tcp']?.treatment.kind, 'drop');
  // Pods and the node itself still reach it from inside.
  assert.deepEqual(remote['node:30000/tcp']?.treatment, { kind: 'keep-source' });
  assert.deepEqual(remote['node:30000/tcp']?.cluster, ['10.1.0.1 . 8080']);
  assert.deepEqual(remote['node:30000/tcp']?.local, []);
});

test('load-balancer addresses are frontends unless a proxy stands before them; of each family its own', () => {
  const subject = service(
    {
      type: 'LoadBalancer',
      externalIPs: ['203.0.113.9', 'fd00::9'],
      loadBalancerSourceRanges: ['192.0.2.9/24'],
    },
    {
      loadBalancer: {
        ingress: [
          { ip: '203.0.113.1', ipMode: 'VIP' },
          { ip: '203.0.113.2', ipMode: 'Proxy' },
          { ip: 'fd00::1' },
          { hostname: 'lb.example.org' },
        ],
      },
    },
  );
  const found = frontends(subject, slice([here('10.1.0.1')]));
  assert.deepEqual(Object.keys(found).sort(), [
    '10.96.0.1:80/tcp',
    '203.0.113.1:80/tcp',
    '203.0.113.9:80/tcp',
  ]);
  // The node is in the range: what it sends to the load balancer's address may have that very source.
  assert.deepEqual(found['203.0.113.1:80/tcp']?.sources, ['192.0.2.0/24', '203.0.113.1/32']);
  assert.equal(found['203.0.113.9:80/tcp']?.sources, undefined);
});

test('health checks count this node’s ready endpoints, for load balancers with policy Local only', () => {
  const spec: ServiceSpec = {
    type: 'LoadBalancer',
    externalTrafficPolicy: 'Local',
    healthCheckNodePort: 32000,
  };
  const slices = [slice([here('10.1.0.1'), here('10.1.0.2', draining), there('10.1.0.3')])];
  assert.deepEqual(programOf(service(spec), slices, context)?.health, { port: 32000, localEndpoints: 1 });
  const cluster = service({ ...spec, externalTrafficPolicy: 'Cluster' });
  assert.equal(programOf(cluster, slices, context)?.health, undefined);
});

test('endpoints that may be on this node can come to themselves, those of other nodes cannot', () => {
  const unnamed: Endpoint = { addresses: ['10.1.0.3'] };
  const program = programOf(service({}), [slice([here('10.1.0.1'), there('10.1.0.2'), unnamed])], context);
  assert.deepEqual(
    program?.hairpins.map(({ address }) => address),
    ['10.1.0.1', '10.1.0.3'],
  );
});
