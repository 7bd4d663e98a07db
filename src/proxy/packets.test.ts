// Real packets through real rules, in network namespaces of this test's own. Needs root.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { ServicePort, ServiceSpec } from '../api/types/core-v1.ts';
import { resources } from '../client/index.ts';
import { eventually } from '../client/testing/eventually.ts';
import type { ServiceProxy } from './index.ts';
import type { Machine } from './testing/network.ts';
import type { DialOptions } from './testing/peer.ts';
import { SERVICE_CIDRS, skipPackets, startWorld, type World } from './testing/world.ts';

const skip = skipPackets;
let world: World;
let proxy: ServiceProxy;
/** Two pods that serve, one that only asks, and one outside of each kind. */
let a: Machine;
let b: Machine;
let client: Machine;
let outsider: Machine;
let remote: Machine;

before(async () => {
  if (skip) return;
  world = await startWorld();
  [a, b, remote, client, outsider] = await Promise.all([
    world.server('pod', 8080, 8081, 53),
    world.server('pod', 8080, 8081, 53),
    // An endpoint on another node: reached over the uplink.
    world.server('outsider', 8080),
    world.network.pod(),
    world.network.outsider(),
  ]);
  proxy = await world.start({
    healthBindAddress: '127.0.0.1:0',
    // The node has addresses in the later ones, and is to be reached at them all the same.
    serviceCidrs: [...SERVICE_CIDRS, '192.0.2.0/29', 'fd00:99::/125'],
    isBalancers: (address) => address.startsWith('192.0.2.20') || address.startsWith('fd00:99::20'),
  });
});

after(async () => {
  if (skip) return;
  await proxy[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
});

const http: ServicePort = { name: 'http', port: 80, protocol: 'TCP' };
let services = 0;

/** A service with an address of its own. */
async function service(spec: Partial<ServiceSpec>, ingress: readonly string[] = []) {
  const n = ++services;
  const name = `s${n}`;
  const ip = `10.96.1.${n}`;
  const ip6 = `fd00:96::1:${n}`;
  const full: ServiceSpec = { clusterIP: ip, clusterIPs: [ip, ip6], ports: [http], ...spec };
  await world.service(name, full, { loadBalancer: { ingress: ingress.map((address) => ({ ip: address })) } });
  return {
    name,
    ip,
    ip6,
    change: (changed: Partial<ServiceSpec>) => world.service(name, { ...full, ...changed }),
    endpoints: (endpoints: Parameters<World['endpoints']>[3], port = 8080, slice = 'a') =>
      world.endpoints(name, `${name}-${slice}`, port, endpoints),
  };
}

const both = () => [{ address: a.ips[0] }, { address: b.ips[0] }];

async function ask(from: Machine | 'node', address: string, port = 80, more: Partial<DialOptions> = {}) {
  await world.settled(proxy);
  const netns = from === 'node' ? world.network.netns : from.netns;
  return world.dial(netns, { protocol: 'tcp', address, port, ...more });
}

/** As `ask`, where nothing is to come: it is not waited for as long. */
const unanswered = (from: Machine | 'node', address: string): ReturnType<typeof ask> =>
  ask(from, address, 80, { timeoutMs: 500 });

/** The names of those who answered; whatever went wrong, by its code. */
function who({ answers, errors }: Awaited<ReturnType<typeof ask>>): string[] {
  return [
    ...new Set([...Object.keys(answers).map((text) => text.split(' ')[0]!), ...Object.keys(errors)]),
  ].sort();
}

function sources({ answers }: Awaited<ReturnType<typeof ask>>): string[] {
  return [...new Set(Object.keys(answers).map((text) => text.split(' from ')[1]!))].sort();
}

test('a cluster address reaches every endpoint, from pods with their own address and from the node', {
  skip,
}, async () => {
  const web = await service({});
  await web.endpoints(both());
  const fromPod = await ask(client, web.ip, 80, { count: 60 });
  assert.deepEqual(who(fromPod), [a.name, b.name].sort());
  assert.deepEqual(sources(fromPod), [client.ips[0]]);
  const shares = Object.values(fromPod.answers);
  assert.ok(Math.min(...shares) >= 10, `spread evenly, not ${shares}`);
  assert.deepEqual(who(await ask('node', web.ip, 80, { count: 20 })), [a.name, b.name].sort());
  // Somebody outside who routes the service range to this node is masqueraded, so that answers come back here.
  const fromOutside = await ask(outsider, web.ip);
  assert.deepEqual(sources(fromOutside), ['10.244.0.1']);
});

test('IPv6 goes as IPv4 does, for services of both', { skip }, async () => {
  const web = await service({ ports: [{ ...http, nodePort: 30606 }], type: 'NodePort' });
  await web.endpoints([{ address: a.ips[0] }]);
  await web.endpoints([{ address: b.ips[1] }], 8080, 'six');
  assert.deepEqual(who(await ask(client, web.ip)), [a.name]);
  assert.deepEqual(who(await ask(client, web.ip6)), [b.name]);
  assert.deepEqual(who(await ask('node', web.ip6)), [b.name]);
  assert.deepEqual(who(await ask(outsider, world.network.nodeIps[1], 30606)), [b.name]);
  assert.deepEqual(sources(await ask(b, web.ip6)), ['fd00:244::1'], 'hairpin');
  assert.deepEqual(who(await ask(client, web.ip6, 81)), ['ECONNREFUSED']);
});

test('an endpoint reaches itself through its service', { skip }, async () => {
  const self = await service({});
  await self.endpoints([{ address: a.ips[0] }]);
  const answer = await ask(a, self.ip);
  assert.deepEqual(who(answer), [a.name]);
  assert.deepEqual(sources(answer), ['10.244.0.1']);
});

test('UDP is spread, and SCTP has its own frontends', { skip }, async () => {
  const dns = await service({
    ports: [
      { name: 'dns', port: 53, protocol: 'UDP' },
      { name: 'dns-tcp', port: 53, protocol: 'TCP' },
      { name: 'sig', port: 53, protocol: 'SCTP' },
    ],
  });
  await dns.endpoints(both(), 53);
  assert.deepEqual(
    who(await ask(client, dns.ip, 53, { protocol: 'udp', count: 30 })),
    [a.name, b.name].sort(),
  );
  assert.deepEqual(
    who(await ask('node', dns.ip, 53, { protocol: 'udp', count: 30 })),
    [a.name, b.name].sort(),
  );
  assert.deepEqual(who(await ask(client, dns.ip, 53, { count: 20 })), [a.name, b.name].sort());
  const rules = await world.network.run(world.network.netns, [
    'nft',
    'list',
    'map',
    'inet',
    'test_services',
    'endpoints_sctp_v4',
  ]);
  assert.match(rules, new RegExp(`${dns.ip} . 53 . 0 : ${a.ips[0]} . 53`));
});

test('SCTP associations reach an endpoint', {
  skip:
    skip ||
    (readFileSync('/proc/net/protocols', 'utf8').includes('SCTP') && existsSync('/usr/bin/sctp_test')
      ? false
      : 'needs SCTP sockets, which this kernel does not have'),
}, async () => {
  const sig = await service({ ports: [{ name: 'sig', port: 3868, protocol: 'SCTP' }] });
  await sig.endpoints([{ address: a.ips[0] }], 3868);
  await world.settled(proxy);
  const controller = new AbortController();
  const { host } = world.network;
  const server = host
    .run(['sctp_test', '-H', a.ips[0], '-P', '3868', '-l'], {
      networkNamespace: a.netns,
      signal: controller.signal,
    })
    .catch(() => undefined);
  await eventually('the client has sent', async () => {
    const send = ['sctp_test', '-H', client.ips[0], '-P', '0', '-h', sig.ip, '-p', '3868', '-s', '-x', '1'];
    return (await host.run(send, { networkNamespace: client.netns })).exitCode === 0;
  });
  controller.abort();
  await server;
});

test('without endpoints connections are refused at once; ports that a service lacks too', {
  skip,
}, async () => {
  const none = await service({
    ports: [
      { ...http, nodePort: 30100 },
      { name: 'u', port: 53, protocol: 'UDP', nodePort: 30101 },
    ],
    type: 'LoadBalancer',
    externalIPs: ['203.0.113.5'],
  });
  const started = performance.now();
  // More than the kernel's limit of ICMP errors a second would let through.
  assert.deepEqual(await ask(client, none.ip, 80, { count: 40 }), {
    answers: {},
    errors: { ECONNREFUSED: 40 },
  });
  assert.ok(performance.now() - started < 5000);
  assert.deepEqual(who(await ask('node', none.ip)), ['ECONNREFUSED']);
  assert.deepEqual(who(await ask(outsider, world.network.nodeIps[0], 30100)), ['ECONNREFUSED']);
  assert.deepEqual(who(await ask(outsider, '203.0.113.5')), ['ECONNREFUSED']);
  assert.deepEqual(who(await ask(client, none.ip, 53, { protocol: 'udp' })), ['ECONNREFUSED']);
  await none.endpoints([{ address: a.ips[0] }]);
  assert.deepEqual(who(await ask(client, none.ip)), [a.name]);
  assert.deepEqual(who(await ask(client, none.ip, 81)), ['ECONNREFUSED']);
  assert.deepEqual(who(await ask('node', none.ip, 81)), ['ECONNREFUSED']);
  // An address of the service range that nobody has leads nowhere.
  assert.deepEqual(who(await unanswered(client, '10.96.200.200')), ['TIMEOUT']);
  await none.endpoints([]);
  assert.deepEqual(who(await ask(client, none.ip)), ['ECONNREFUSED']);
});

test('node ports are at every address of the node but loopback, external addresses wherever they come from', {
  skip,
}, async () => {
  const web = await service({
    ports: [{ ...http, nodePort: 30200 }],
    type: 'NodePort',
    externalIPs: ['203.0.113.20'],
  });
  await web.endpoints(both());
  const [nodeIp] = world.network.nodeIps;
  for (const address of [nodeIp, '10.244.0.1'])
    assert.deepEqual(
      who(await ask(outsider, address, 30200, { count: 20 })),
      [a.name, b.name].sort(),
      address,
    );
  assert.deepEqual(who(await ask(client, nodeIp, 30200, { count: 20 })), [a.name, b.name].sort());
  assert.deepEqual(who(await ask('node', nodeIp, 30200, { count: 20 })), [a.name, b.name].sort());
  assert.deepEqual(who(await ask('node', '127.0.0.1', 30200)), ['ECONNREFUSED']);
  assert.deepEqual(
    sources(await ask(outsider, nodeIp, 30200)),
    ['10.244.0.1'],
    'masqueraded by policy Cluster',
  );
  for (const from of [client, outsider, 'node'] as const)
    assert.deepEqual(who(await ask(from, '203.0.113.20', 80, { count: 20 })), [a.name, b.name].sort());
});

test('policy Local keeps the client’s address and this node’s endpoints; pods and the node take all', {
  skip,
}, async () => {
  const web = await service(
    { ports: [{ ...http, nodePort: 30300 }], type: 'LoadBalancer', externalTrafficPolicy: 'Local' },
    ['203.0.113.30'],
  );
  await web.endpoints([{ address: a.ips[0] }, { address: remote.ips[0], nodeName: 'n2' }]);
  for (const [address, port] of [
    ['203.0.113.30', 80],
    [world.network.nodeIps[0], 30300],
  ] as const) {
    const answers = await ask(outsider, address, port, { count: 20 });
    assert.deepEqual(who(answers), [a.name], address);
    assert.deepEqual(sources(answers), [outsider.ips[0]], address);
    assert.deepEqual(who(await ask(client, address, port, { count: 20 })), [remote.name, a.name].sort());
    assert.deepEqual(who(await ask('node', address, port, { count: 20 })), [remote.name, a.name].sort());
  }
  // No endpoint here: outsiders get nothing, which is how a load balancer's probe sees it; pods go on.
  await web.endpoints([{ address: remote.ips[0], nodeName: 'n2' }]);
  assert.deepEqual(who(await unanswered(outsider, '203.0.113.30')), ['TIMEOUT']);
  assert.deepEqual(who(await ask(client, '203.0.113.30')), [remote.name]);
  await web.change({ internalTrafficPolicy: 'Local' });
  assert.deepEqual(who(await unanswered(client, web.ip)), ['TIMEOUT']);
  assert.match(proxy.metrics(), /no_local_endpoints_total\{traffic_policy="internal"\} 1/);
  await web.endpoints([{ address: b.ips[0] }, { address: remote.ips[0], nodeName: 'n2' }]);
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 10 })), [b.name]);
});

test('source ranges let in whom they name, at the load balancer’s address only', { skip }, async () => {
  const web = await service(
    {
      ports: [{ ...http, nodePort: 30400 }],
      type: 'LoadBalancer',
      loadBalancerSourceRanges: [`${outsider.ips[0]}/32`, '198.51.100.7/24', ' 198.51.100.0/25'],
    },
    ['203.0.113.40', world.network.nodeIps[0]],
  );
  await web.endpoints(both());
  assert.deepEqual(who(await ask(outsider, '203.0.113.40', 80, { count: 20 })), [a.name, b.name].sort());
  assert.deepEqual(who(await unanswered(remote, '203.0.113.40')), ['TIMEOUT']);
  assert.deepEqual(who(await unanswered(client, '203.0.113.40')), ['TIMEOUT']);
  assert.deepEqual(who(await unanswered(remote, world.network.nodeIps[0])), ['TIMEOUT']);
  assert.deepEqual(
    who(await ask(remote, world.network.nodeIps[0], 30400, { count: 20 })),
    [a.name, b.name].sort(),
  );
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 20 })), [a.name, b.name].sort());
  await web.change({
    ports: [{ ...http, nodePort: 30400 }],
    type: 'LoadBalancer',
    loadBalancerSourceRanges: [],
  });
  assert.deepEqual(who(await ask(remote, '203.0.113.40', 80, { count: 20 })), [a.name, b.name].sort());
});

test('at an address of the load balancer’s own on this machine only the Service is found, not the machine’s programs', {
  skip,
}, async () => {
  const { network } = world;
  const own = ['192.0.2.200', 'fd00:99::200'];
  await network.run(
    network.netns,
    ['ip', '-batch', '-'],
    own.map((one) => `addr add ${one}/${one.includes(':') ? '128 nodad' : 32} dev pods\n`).join(''),
  );
  await using _program = await world.serve({ name: 'program', netns: network.netns }, 2222);
  const web = await service({ ports: [{ ...http, nodePort: 30410 }], type: 'LoadBalancer' }, own);
  await web.endpoints([{ address: a.ips[0] }]);
  await web.endpoints([{ address: a.ips[1] }], 8080, 'six');
  for (const from of [outsider, client, 'node'] as const)
    for (const address of own) {
      assert.deepEqual(who(await ask(from, address)), [a.name]);
      assert.deepEqual(who(await ask(from, address, 2222)), ['ECONNREFUSED']);
      assert.deepEqual(who(await ask(from, address, 30410)), ['ECONNREFUSED']);
    }
  for (const nodeIp of network.nodeIps)
    for (const from of [outsider, 'node'] as const)
      assert.deepEqual(who(await ask(from, nodeIp, 2222)), ['program']);
  assert.deepEqual(who(await ask(outsider, network.nodeIps[0], 30410)), [a.name]);
});

test('with session affinity a client stays with its endpoint, through other changes, until that goes', {
  skip,
}, async () => {
  const web = await service({
    ports: [{ ...http, nodePort: 30500 }],
    type: 'NodePort',
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 100 } },
  });
  await web.endpoints(both());
  const first = who(await ask(client, web.ip, 80, { count: 30 }));
  assert.equal(first.length, 1);
  // By the node port too, and when an endpoint joins.
  assert.deepEqual(who(await ask(client, world.network.nodeIps[0], 30500, { count: 10 })), first);
  await web.endpoints([...both(), { address: remote.ips[0], nodeName: 'n2' }]);
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 10 })), first);
  await proxy[Symbol.asyncDispose]();
  proxy = await world.start();
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 10 })), first, 'a restart does not forget');
  await web.endpoints(both().filter(({ address }) => address !== (first[0] === a.name ? a : b).ips[0]));
  const second = who(await ask(client, web.ip, 80, { count: 10 }));
  assert.deepEqual(second, [first[0] === a.name ? b.name : a.name]);
  await web.endpoints(both());
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 10 })), second);
  await web.change({ ports: [{ ...http, nodePort: 30500 }], type: 'NodePort', sessionAffinity: 'None' });
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 40 })), [a.name, b.name].sort());
});

test('affinity ends when the client was away for longer than the time', { skip }, async () => {
  const web = await service({
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 1 } },
  });
  await web.endpoints(both());
  const [first] = who(await ask(client, web.ip));
  await eventually(
    'another endpoint answers',
    async () => {
      const { netns } = world.network;
      await eventually('the client is forgotten', async () => {
        const sets = await world.network.run(netns, ['nft', 'list', 'sets', 'inet']);
        return !/elements = \{ [^}]*timeout 1s/.test(sets);
      });
      return who(await ask(client, web.ip)).every((name) => name !== first);
    },
    30_000,
  );
});

test('endpoints that drain serve only while no other is ready', { skip }, async () => {
  const web = await service({});
  const drainingA = { address: a.ips[0], conditions: { ready: false, serving: true, terminating: true } };
  await web.endpoints([drainingA, { address: b.ips[0] }]);
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 20 })), [b.name]);
  await web.endpoints([drainingA, { address: b.ips[0], conditions: { ready: false, serving: false } }]);
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 10 })), [a.name]);
  await web.endpoints([{ ...drainingA, conditions: { ready: false, serving: false, terminating: true } }]);
  assert.deepEqual(who(await ask(client, web.ip)), ['ECONNREFUSED']);
});

test('hints keep traffic on the node or in the zone, when every ready endpoint has them', {
  skip,
}, async () => {
  const web = await service({ trafficDistribution: 'PreferSameNode' });
  await web.endpoints([
    { address: a.ips[0], hints: { forNodes: [{ name: 'n1' }] } },
    { address: b.ips[0], hints: { forNodes: [{ name: 'n2' }] } },
  ]);
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 20 })), [a.name]);
  await web.endpoints([{ address: a.ips[0], hints: { forNodes: [{ name: 'n1' }] } }, { address: b.ips[0] }]);
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 20 })), [a.name, b.name].sort());
  await web.endpoints([
    { address: a.ips[0], hints: { forZones: [{ name: 'z1' }] } },
    { address: b.ips[0], hints: { forZones: [{ name: 'z2' }] } },
  ]);
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 20 })), [a.name, b.name].sort());
  const nodes = world.client.resource(resources.nodes);
  const node = await nodes.get('n1');
  await nodes.update({
    ...node,
    metadata: { ...node.metadata, labels: { 'topology.kubernetes.io/zone': 'z2' } },
  });
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 20 })), [b.name]);
});

test('a UDP flow leaves an endpoint that is gone, and finds a service that had none', { skip }, async () => {
  const [nodeIp] = world.network.nodeIps;
  const dns = await service({
    ports: [{ name: 'dns', port: 53, protocol: 'UDP', nodePort: 30053 }],
    type: 'NodePort',
    externalIPs: [nodeIp],
  });
  await dns.endpoints([{ address: a.ips[0] }], 53);
  const flows = [
    { address: dns.ip, port: 53, sourcePort: 40_001, from: client },
    { address: nodeIp, port: 30_053, sourcePort: 40_002, from: outsider },
  ];
  const udp = { protocol: 'udp' } as const;
  for (const { from, address, port, sourcePort } of flows)
    assert.deepEqual(who(await ask(from, address, port, { ...udp, sourcePort })), [a.name]);
  await dns.endpoints([{ address: a.ips[0], conditions: { ready: false } }, { address: b.ips[0] }], 53);
  for (const { from, address, port, sourcePort } of flows)
    assert.deepEqual(
      who(await ask(from, address, port, { ...udp, sourcePort })),
      [a.name],
      'it still serves',
    );
  await dns.endpoints([{ address: b.ips[0] }], 53);
  for (const { from, address, port, sourcePort } of flows)
    await eventually('the flow has moved', async () =>
      who(await ask(from, address, port, { ...udp, sourcePort, timeoutMs: 200 })).includes(b.name),
    );
  assert.match(proxy.metrics(), /conntrack_reconciler_deleted_entries_total [1-9]/);

  // A flow to a node port that nobody had.
  const late = { ...udp, sourcePort: 40_003 };
  assert.notDeepEqual(who(await ask(outsider, nodeIp, 30_054, { ...late, timeoutMs: 200 })), [a.name]);
  const newer = await service({
    ports: [{ name: 'dns', port: 54, protocol: 'UDP', nodePort: 30_054 }],
    type: 'NodePort',
  });
  await newer.endpoints([{ address: a.ips[0] }], 53);
  await eventually('the flow finds the service', async () =>
    who(await ask(outsider, nodeIp, 30_054, { ...late, timeoutMs: 200 })).includes(a.name),
  );
});

test('a connection to an endpoint that leaves the service goes on', { skip }, async () => {
  const web = await service({});
  await web.endpoints([{ address: a.ips[0] }]);
  await world.settled(proxy);
  await using held = await world.hold(client.netns, { address: web.ip, port: 80, connections: 5 });
  await web.endpoints([{ address: b.ips[0] }]);
  assert.deepEqual(who(await ask(client, web.ip, 80, { count: 5 })), [b.name]);
  const { exchanges, broken } = await held.end();
  assert.deepEqual(broken, []);
  assert.ok(exchanges >= 10, `${exchanges} exchanges`);
});

test('services of another proxy, headless ones and external names are left alone', { skip }, async () => {
  const services = world.client.resource(resources.services, 'default');
  const foreign = { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } };
  await services.create({
    metadata: { name: 'foreign', ...foreign },
    spec: { clusterIP: '10.96.2.1', ports: [http] },
  });
  await services.create({ metadata: { name: 'headless' }, spec: { clusterIP: 'None', ports: [http] } });
  await services.create({
    metadata: { name: 'outside' },
    spec: { type: 'ExternalName', externalName: 'example.org' },
  });
  await world.endpoints('headless', 'headless-1', 8080, both());
  assert.deepEqual(who(await unanswered(client, '10.96.2.1')), ['TIMEOUT'], 'not an active address of ours');
  const found = await services.get('foreign');
  await services.update({ ...found, metadata: { ...found.metadata, labels: {} } });
  await world.endpoints('foreign', 'foreign-1', 8080, both());
  assert.deepEqual(who(await ask(client, '10.96.2.1', 80, { count: 20 })), [a.name, b.name].sort());
});

test('service ranges are taken from the ServiceCIDR objects, whenever they come', { skip }, async () => {
  await using other = await world.start({ table: 'ranges', serviceCidrs: undefined } as never);
  const ranges = world.client.resource(resources.serviceCidrs);
  await ranges.create({ metadata: { name: 'more' }, spec: { cidrs: ['10.97.0.0/16', 'fd00:97::/112'] } });
  await eventually('the range is in the rules', async () => {
    const sets = await world.network.run(world.network.netns, ['nft', 'list', 'table', 'inet', 'ranges']);
    return sets.includes('10.97.0.0/16') && sets.includes('fd00:97::/112');
  });
  await other.cleanup();
});

test('of two services with the same external address the older has it, and the other is told', {
  skip,
}, async () => {
  const services = world.client.resource(resources.services, 'default');
  const shared = ['203.0.113.60'];
  const older = await service({ externalIPs: shared });
  const newer = await service({ externalIPs: shared });
  // Their creation times are equal here: the name decides.
  const [first, second] = older.name < newer.name ? [older, newer] : [newer, older];
  await first.endpoints([{ address: a.ips[0] }]);
  await second.endpoints([{ address: b.ips[0] }]);
  assert.deepEqual(who(await ask(outsider, shared[0]!, 80, { count: 10 })), [a.name]);
  const events = await eventually('an event tells it', async () => {
    const { items } = await world.client.resource(resources.events, 'default').list();
    return items.find(({ reason }) => reason === 'FrontendConflict');
  });
  assert.equal(events.involvedObject.name, second.name);
  assert.match(
    events.message ?? '',
    new RegExp(`203.0.113.60 port 80/TCP belongs to Service default/${first.name}`),
  );
  await services.delete(first.name);
  assert.deepEqual(who(await ask(outsider, shared[0]!, 80, { count: 10 })), [b.name]);
});
