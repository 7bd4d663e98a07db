import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Service, ServiceSpec } from '../../api/types/core-v1.ts';
import { ManualClock } from '../../component/index.ts';
import { type AdmissionRequest, admitted, statusError } from '../testing/admission-attributes.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { canonicalAddress, formatAddress, parseAddress, parseCidr, rangeHolds } from './ip.ts';
import { ServiceAddresses } from './service-addresses.ts';
import { serviceWarnings } from './service-warnings.ts';

let seed = 1;
const random = (): number => {
  seed = (seed * 1103515245 + 12345) & 0x7fffffff;
  return seed / 0x80000000;
};

function cluster(serviceCidrs = ['10.96.0.0/24'], nodePorts = { first: 30000, last: 32767 }) {
  const objects = new FakeObjects();
  const clock = new ManualClock();
  const plugin = new ServiceAddresses({ reader: objects, clock, serviceCidrs, nodePorts, random });
  const write = async (name: string, spec: Partial<ServiceSpec>, more: Partial<AdmissionRequest> = {}) => {
    const run = await admitted(plugin, {
      resource: 'services',
      object: {
        metadata: { name, namespace: 'shop' },
        spec: { type: 'ClusterIP', ports: [{ port: 80 }], ...spec },
      },
      ...more,
    });
    return { spec: (run.object as Service).spec, settle: run.settle };
  };
  /** Writes as the registry would: the object comes into the cache, then the write is over. */
  const stored = async (name: string, spec: Partial<ServiceSpec>, more: Partial<AdmissionRequest> = {}) => {
    const run = await write(name, spec, more);
    objects.put('', 'services', { metadata: { name, namespace: 'shop' }, spec: run.spec });
    run.settle(true);
    return run.spec;
  };
  const update = (name: string, change: (spec: ServiceSpec) => Partial<ServiceSpec>) => {
    const old = objects.get<Service & { metadata: never }>(
      '',
      'services',
      'shop',
      name,
    ) as unknown as Service;
    return stored(name, change(structuredClone(old.spec)), { old });
  };
  return { objects, clock, plugin, write, stored, update };
}

const port = (nodePort?: number, more: object = {}) => ({
  port: 80,
  protocol: 'TCP' as const,
  ...(nodePort && { nodePort }),
  ...more,
});

test('addresses are read and written canonically', () => {
  for (const [text, canonical] of [
    ['10.0.0.1', '10.0.0.1'],
    ['2001:DB8::0:1', '2001:db8::1'],
    ['::', '::'],
    ['::ffff:1.2.3.4', '::ffff:102:304'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['fe80:0:0:0:1:0:0:1', 'fe80::1:0:0:1'],
  ] as const)
    assert.equal(canonicalAddress(text), canonical);
  for (const bad of ['', '10.0.0', '10.0.0.01', '1.2.3.4/24', 'fe80::1%eth0', 'x', '10.0.0.1 '])
    assert.throws(() => parseAddress(bad), TypeError, bad);
  for (const bad of ['10.0.0.0', '10.0.0.0/33', '10.0.0.1/24', '10.0.0.0/024', '::/129'])
    assert.throws(() => parseCidr(bad), TypeError, bad);
  for (let i = 0; i < 2000; i++) {
    let value = 0n;
    for (let j = 0; j < 8; j++)
      value = (value << 16n) | (random() < 0.5 ? 0n : BigInt(Math.floor(random() * 65536)));
    assert.equal(parseAddress(formatAddress(value, 'IPv6')).value, value);
  }
  assert.ok(rangeHolds(parseCidr('10.96.0.0/12'), '10.111.255.255'));
  assert.ok(!rangeHolds(parseCidr('10.96.0.0/12'), '10.112.0.0'));
  assert.ok(!rangeHolds(parseCidr('10.96.0.0/12'), 'None'));
});

test('a service gets an address of the range, its family and policy', async () => {
  const { stored } = cluster();
  const spec = await stored('web', {});
  assert.ok(rangeHolds(parseCidr('10.96.0.0/24'), spec.clusterIP ?? ''));
  assert.deepEqual(
    [spec.clusterIPs, spec.ipFamilies, spec.ipFamilyPolicy],
    [[spec.clusterIP], ['IPv4'], 'SingleStack'],
  );
  const headless = await stored('headless', { clusterIP: 'None', selector: { a: 'b' } });
  assert.deepEqual([headless.clusterIPs, headless.ipFamilies], [['None'], ['IPv4']]);
  const bare = await stored('bare', { clusterIP: 'None' });
  assert.deepEqual([bare.ipFamilies, bare.ipFamilyPolicy], [['IPv4', 'IPv6'], 'RequireDualStack']);
  const alias = await stored('alias', { type: 'ExternalName', externalName: 'example.com', ports: [] });
  assert.deepEqual([alias.clusterIP, alias.ipFamilies], [undefined, undefined]);
});

test('every address is given once until none is left, and comes back when its service goes', async () => {
  const { objects, stored } = cluster(['10.96.0.0/27']);
  const given = new Set<string>();
  for (let i = 0; i < 30; i++) given.add((await stored(`s${i}`, {})).clusterIP ?? '');
  assert.equal(given.size, 30);
  assert.ok(!given.has('10.96.0.0') && !given.has('10.96.0.31'));
  await assert.rejects(stored('more', {}), statusError(500, /range is full/));
  objects.remove('', 'services', 'shop', 's7');
  assert.ok((await stored('more', {})).clusterIP);
});

test('an address that is asked for is checked', async () => {
  const { stored } = cluster();
  assert.equal((await stored('a', { clusterIP: '10.96.0.10' })).clusterIP, '10.96.0.10');
  await assert.rejects(
    stored('b', { clusterIP: '10.96.0.10' }),
    statusError(
      422,
      'Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated',
    ),
  );
  for (const outside of ['10.97.0.1', '10.96.0.0', '10.96.0.255'])
    await assert.rejects(
      stored('b', { clusterIP: outside }),
      statusError(422, /the provided network does not match the current range/),
    );
  await assert.rejects(
    stored('b', { clusterIP: '10.96.0.010' }),
    statusError(422, /must be a valid IP address/),
  );
  await assert.rejects(
    stored('b', { clusterIP: 'fd00::1' }),
    statusError(422, /not configured on this cluster/),
  );
});

test('two writes at once never get the same, and a failed one gives everything back', async () => {
  const { write, stored } = cluster(['10.96.0.0/28'], { first: 30000, last: 30003 });
  const wanted = { type: 'NodePort' as const, clusterIP: '10.96.0.5', ports: [port(30001)] };
  const first = await write('a', wanted);
  await assert.rejects(write('b', { clusterIP: '10.96.0.5' }), statusError(422, /already allocated/));
  await assert.rejects(
    write('b', { type: 'NodePort', ports: [port(30001)] }),
    statusError(
      422,
      'Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated',
    ),
  );
  first.settle(false);
  const second = await stored('b', wanted);
  assert.equal(second.clusterIP, '10.96.0.5');
  const runs = await Promise.all([1, 2, 3].map((i) => write(`n${i}`, { type: 'NodePort' })));
  assert.equal(new Set(runs.map(({ spec }) => spec.ports?.[0]?.nodePort)).size, 3);
  await assert.rejects(
    write('n4', { type: 'NodePort' }),
    statusError(500, /failed to allocate a nodePort: range is full/),
  );
});

test('what a write did not keep after all is free again after a minute', async () => {
  const { clock, write } = cluster();
  const run = await write('a', { clusterIP: '10.96.0.9' });
  run.settle(true);
  await assert.rejects(write('b', { clusterIP: '10.96.0.9' }), statusError(422, /already allocated/));
  await clock.advance(60_001);
  assert.equal((await write('b', { clusterIP: '10.96.0.9' })).spec.clusterIP, '10.96.0.9');
});

test('node ports: given, kept, shared by the protocols of a port, checked', async () => {
  const { stored, update } = cluster();
  const spec = await stored('dns', {
    type: 'NodePort',
    ports: [
      { name: 'udp', port: 53, protocol: 'UDP' },
      { name: 'tcp', port: 53, protocol: 'TCP' },
      { name: 'metrics', port: 9153, protocol: 'TCP' },
    ],
  });
  const [udp, tcp, metrics] = (spec.ports ?? []).map(({ nodePort }) => nodePort);
  assert.equal(udp, tcp);
  assert.notEqual(udp, metrics);
  const again = await update('dns', (old) => ({
    ...old,
    clusterIP: undefined,
    clusterIPs: undefined,
    ports: (old.ports ?? []).map(({ nodePort: _nodePort, ...rest }) => rest),
  }));
  assert.deepEqual(again.ports, spec.ports);
  assert.equal(again.clusterIP, spec.clusterIP);
  await assert.rejects(
    stored('x', { type: 'NodePort', ports: [port(80)] }),
    statusError(422, /provided port is not in the valid range. The range of valid ports is 30000-32767/),
  );
  const none = await stored('lb', { type: 'LoadBalancer', allocateLoadBalancerNodePorts: false });
  assert.equal(none.ports?.[0]?.nodePort, undefined);
  const local = await stored('local', { type: 'LoadBalancer', externalTrafficPolicy: 'Local' });
  assert.ok(local.healthCheckNodePort && local.healthCheckNodePort !== local.ports?.[0]?.nodePort);
  const kept = await update('local', (old) => ({ ...old, healthCheckNodePort: undefined }));
  assert.equal(kept.healthCheckNodePort, local.healthCheckNodePort);
});

test('a cluster IP cannot change, but a service may become an ExternalName and come back', async () => {
  const { stored, update } = cluster();
  const { clusterIP } = await stored('web', {});
  await assert.rejects(
    update('web', (old) => ({ ...old, clusterIP: '10.96.0.77', clusterIPs: ['10.96.0.77'] })),
    statusError(
      422,
      'Service "web" is invalid: spec.clusterIPs[0]: Invalid value: ["10.96.0.77"]: may not change once set',
    ),
  );
  await assert.rejects(
    update('web', (old) => ({ ...old, clusterIP: 'None', clusterIPs: ['None'] })),
    statusError(422, /may not change once set/),
  );
  assert.equal((await update('web', (old) => ({ ...old, clusterIP: '' }))).clusterIP, clusterIP);
  await update('web', (old) => ({ ports: old.ports, type: 'ExternalName', externalName: 'x.example' }));
  const back = await update('web', (old) => ({
    ...old,
    type: 'ClusterIP',
    clusterIP: undefined,
    clusterIPs: undefined,
  }));
  assert.ok(back.clusterIP);
});

test('dual stack: both families, in order, up and down', async () => {
  const { stored, update } = cluster(['10.96.0.0/24', 'fd00:10::/112']);
  const single = await stored('one', {});
  assert.deepEqual(single.ipFamilies, ['IPv4']);
  const six = await stored('six', { ipFamilies: ['IPv6'] });
  assert.match(six.clusterIP ?? '', /^fd00:10::/);
  const both = await stored('both', { ipFamilyPolicy: 'PreferDualStack' });
  assert.deepEqual(both.ipFamilies, ['IPv4', 'IPv6']);
  assert.equal(both.clusterIPs?.length, 2);
  await assert.rejects(
    stored('x', { ipFamilies: ['IPv4', 'IPv6'] }),
    statusError(
      422,
      /must be 'RequireDualStack' or 'PreferDualStack' when multiple 'ipFamilies' are specified/,
    ),
  );
  const up = await update('one', (old) => ({ ...old, ipFamilyPolicy: 'RequireDualStack' }));
  assert.equal(up.clusterIPs?.[0], single.clusterIP);
  assert.equal(up.clusterIPs?.length, 2);
  const down = await update('one', (old) => ({ ...old, ipFamilyPolicy: 'SingleStack' }));
  assert.deepEqual([down.clusterIPs, down.ipFamilies], [[single.clusterIP], ['IPv4']]);
  const plain = cluster();
  await assert.rejects(
    plain.stored('x', { ipFamilyPolicy: 'RequireDualStack' }),
    statusError(422, /this cluster is not configured for dual-stack services/),
  );
  assert.equal((await plain.stored('y', { ipFamilyPolicy: 'PreferDualStack' })).clusterIPs?.length, 1);
});

test('a Service that says what has no effect is warned about', () => {
  const warned = (spec: Partial<ServiceSpec>, annotations: Record<string, string> = {}) =>
    serviceWarnings({ metadata: { name: 'x', annotations }, spec } as unknown as Service);
  assert.deepEqual(
    warned({ clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'], sessionAffinity: 'ClientIP' }),
    [],
  );
  assert.deepEqual(warned({ clusterIP: 'None', clusterIPs: ['None'], sessionAffinity: 'None' }), []);
  assert.deepEqual(
    warned({
      clusterIP: 'None',
      clusterIPs: ['None'],
      sessionAffinity: 'ClientIP',
      externalIPs: ['2001:DB8::1'],
      loadBalancerIP: '192.0.2.1',
      externalName: 'x.example',
      trafficDistribution: 'PreferClose',
    }),
    [
      'spec.loadBalancerIP is ignored for headless services',
      'spec.externalIPs is ignored for headless services',
      'spec.SessionAffinity is ignored for headless services',
      'spec.externalIPs[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")',
      'spec.externalName is ignored when spec.type is not "ExternalName"',
      'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
    ],
  );
  assert.deepEqual(warned({ type: 'ExternalName', externalName: 'x', externalIPs: ['192.0.2.1'] }), [
    'spec.externalIPs is ignored when spec.type is "ExternalName"',
  ]);
  assert.equal(warned({}, { 'service.kubernetes.io/topology-aware-hints': 'Auto' }).length, 1);
});

test('what a client leaves out of an update is kept, by the names of the ports', async () => {
  const { stored, update } = cluster(['10.96.0.0/24', 'fd00:10::/112']);
  const spec = await stored('web', {
    type: 'NodePort',
    ipFamilyPolicy: 'RequireDualStack',
    ports: [
      { name: 'a', port: 80, protocol: 'TCP' },
      { name: 'b', port: 81, protocol: 'TCP' },
    ],
  });
  const [a, b] = (spec.ports ?? []).map(({ nodePort }) => nodePort);
  const swapped = await update('web', (old) => ({
    ...old,
    ipFamilyPolicy: undefined,
    ports: [
      { name: 'b', port: 82, protocol: 'TCP' },
      { name: 'c', port: 80, protocol: 'TCP' },
    ],
  }));
  assert.equal(swapped.ports?.[0]?.nodePort, b, 'b has another port, and its node port');
  assert.notEqual(swapped.ports?.[1]?.nodePort, a, 'c is a new one');
  assert.equal(swapped.ipFamilyPolicy, 'RequireDualStack');
  assert.deepEqual(swapped.clusterIPs, spec.clusterIPs);
  await assert.rejects(
    update('web', (old) => ({ ...old, clusterIPs: old.clusterIPs!.slice(0, 1) })),
    statusError(422, /must be 'SingleStack' to release the secondary cluster IP/),
  );
  // Node ports that are not to be given any more stay until the client takes them out.
  const balanced = await update('web', (old) => ({
    ...old,
    type: 'LoadBalancer',
    allocateLoadBalancerNodePorts: false,
  }));
  assert.equal(balanced.ports?.[0]?.nodePort, b);
  const bare = await update('web', (old) => ({
    ...old,
    ports: (old.ports ?? []).map(({ nodePort: _nodePort, ...rest }) => rest),
  }));
  assert.deepEqual(
    bare.ports?.map(({ nodePort }) => nodePort),
    [undefined, undefined],
  );
});

test('a Service that prefers two families changes when it is changed, not when the cluster is', async () => {
  const single = cluster();
  const spec = await single.stored('web', { ipFamilyPolicy: 'PreferDualStack' });
  const dual = cluster(['10.96.0.0/24', 'fd00:10::/112']);
  dual.objects.put('', 'services', { metadata: { name: 'web', namespace: 'shop' }, spec });
  const same = await dual.update('web', (old) => ({ ...old, sessionAffinity: 'ClientIP' }));
  assert.deepEqual(same.clusterIPs, spec.clusterIPs);
  const both = await dual.update('web', (old) => ({ ...old, ipFamilyPolicy: 'RequireDualStack' }));
  assert.equal(both.clusterIPs?.length, 2);
});

test('concurrent creates and deletes never leave an address with two owners (property)', async () => {
  const { objects, write } = cluster(['10.96.0.0/26'], { first: 30000, last: 30060 });
  const open: { name: string; spec: ServiceSpec; settle: (committed: boolean) => void }[] = [];
  const live = new Map<string, ServiceSpec>();
  let next = 0;
  for (let step = 0; step < 3000; step++) {
    const dice = random();
    if (dice < 0.4) {
      const name = `s${next++}`;
      const wish = random() < 0.3 ? { clusterIP: `10.96.0.${1 + Math.floor(random() * 62)}` } : {};
      try {
        open.push({ name, ...(await write(name, { type: 'NodePort', ...wish })) });
      } catch {
        // Taken or full: what is checked is that what was given is given once.
      }
    } else if (dice < 0.7 && open.length > 0) {
      const [run] = open.splice(Math.floor(random() * open.length), 1);
      if (!run) continue;
      const early = random() < 0.5;
      const committed = random() < 0.7;
      if (!early) run.settle(committed);
      if (committed) {
        objects.put('', 'services', { metadata: { name: run.name, namespace: 'shop' }, spec: run.spec });
        live.set(run.name, run.spec);
      }
      if (early) run.settle(committed);
    } else if (live.size > 0) {
      const name = [...live.keys()][Math.floor(random() * live.size)]!;
      objects.remove('', 'services', 'shop', name);
      live.delete(name);
    }
    const all = [...live.values(), ...open.map(({ spec }) => spec)];
    assert.equal(new Set(all.map(({ clusterIP }) => clusterIP)).size, all.length);
    assert.equal(new Set(all.map(({ ports }) => ports?.[0]?.nodePort)).size, all.length);
  }
});
