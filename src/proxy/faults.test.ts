// What goes wrong: rules deleted by hand, an nft that fails, restarts under load, services that flap. Needs root.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { resources } from '../client/index.ts';
import { eventually } from '../client/testing/eventually.ts';
import type { HostOperations } from '../host/index.ts';
import { removeServiceProxyTraces } from './index.ts';
import { type KernelState, kernelState, withoutPlaces } from './testing/kernel-state.ts';
import type { Machine } from './testing/network.ts';
import { skipPackets, startWorld, TABLE, type World } from './testing/world.ts';

const skip = skipPackets;
let world: World;
let server: Machine;
let client: Machine;
const ip = '10.96.3.1';
const http = { name: 'http', port: 80, protocol: 'TCP' as const };

before(async () => {
  if (skip) return;
  world = await startWorld();
  [server, client] = await Promise.all([world.server('pod', 8080), world.network.pod()]);
  await world.service('web', { clusterIP: ip, ports: [http] });
  await world.endpoints('web', 'web-1', 8080, [{ address: server.ips[0] }]);
});

after(async () => {
  if (skip) return;
  await world[Symbol.asyncDispose]();
});

/** The host, with an nft that can be made to fail, and its calls counted. */
function faultyHost() {
  const { host } = world.network;
  const control = { failing: false, calls: 0 };
  const faulty: Partial<HostOperations> = {
    run: async (command, options) => {
      if (command[0] === 'nft' && command[1] === '-f') {
        control.calls++;
        if (control.failing)
          return { exitCode: 1, stdout: Buffer.alloc(0), stderr: Buffer.from('Cannot allocate memory') };
      }
      return host.run(command, options);
    },
    check: (command, options) => host.check(command, options),
    watchTableChanges: (name, changed, options) => host.watchTableChanges(name, changed, options),
  };
  return { host: faulty as HostOperations, control };
}

const nft = (...args: string[]): Promise<string> => world.network.run(world.network.netns, ['nft', ...args]);

async function comesBack(state: KernelState): Promise<void> {
  await eventually(
    'the rules are as they were',
    async () => {
      const now = await kernelState(world.network, TABLE).catch(() => undefined);
      return now && JSON.stringify(withoutPlaces(now)) === JSON.stringify(withoutPlaces(state));
      // Repairs that follow one another closely wait up to half a minute.
    },
    60_000,
  );
}

test('a table deleted by hand comes back; connections that stand go on', { skip }, async () => {
  // As on a real node the pod network translates too. Chains of type nat alone would not do: the kernel follows
  // connections, without which nothing is translated, only as long as some rule of the namespace asks for it.
  await nft('add table inet pods');
  await nft('add chain inet pods postrouting { type nat hook postrouting priority 100; }');
  await nft('add rule inet pods postrouting ip saddr 10.244.0.0/24 ip daddr != 10.244.0.0/24 masquerade');
  await using _proxy = await world.start();
  const state = await kernelState(world.network, TABLE);
  await using held = await world.hold(client.netns, { address: ip, port: 80, connections: 10 });
  await nft('delete', 'table', 'inet', TABLE);
  await comesBack(state);
  assert.deepEqual(
    (await world.dial(client.netns, { protocol: 'tcp', address: ip, port: 80, count: 20 })).errors,
    {},
  );
  const { exchanges, broken } = await held.end();
  assert.deepEqual(broken, []);
  assert.ok(exchanges >= 20, `${exchanges} exchanges`);
  await nft('flush', 'ruleset');
  await comesBack(state);
});

test('an element, a rule or a chain changed by hand is put right, and nothing foreign stays', {
  skip,
}, async () => {
  const { host, control } = faultyHost();
  await using _proxy = await world.start({ host });
  const state = await kernelState(world.network, TABLE);
  for (const change of [
    `delete element inet ${TABLE} frontends_v4 { ${ip} . tcp . 80 }`,
    `add element inet ${TABLE} frontends_v4 { 10.96.9.9 . tcp . 80 : drop }`,
    `flush map inet ${TABLE} endpoints_tcp_v4`,
    `insert rule inet ${TABLE} dispatch drop`,
    `add chain inet ${TABLE} foreign { type filter hook forward priority 0; policy drop; }`,
    `flush chain inet ${TABLE} prerouting`,
  ]) {
    await nft(change);
    await comesBack(state);
  }
  await eventually(
    'nothing foreign is left',
    async () => !/foreign/.test(await nft('list', 'table', 'inet', TABLE)),
  );
  // Each repair is a full sync and a sweep at most; our own changes are not taken for somebody else's.
  assert.ok(control.calls <= 2 + 6 * 2, `${control.calls} transactions`);
});

test('a table of other types, as an older version may have left, is replaced', { skip }, async () => {
  await nft('flush', 'ruleset');
  await nft(`add table inet ${TABLE}`);
  await nft(`add map inet ${TABLE} frontends_v4 { type ipv4_addr : verdict; }`);
  await using _proxy = await world.start();
  assert.deepEqual((await world.dial(client.netns, { protocol: 'tcp', address: ip, port: 80 })).errors, {});
});

test('restarts under load fail no connection, neither those that stand nor new ones', { skip }, async () => {
  let proxy = await world.start();
  await using load = await world.hold(client.netns, { address: ip, port: 80, connections: 10, asking: 8 });
  for (let restart = 0; restart < 20; restart++) {
    await proxy[Symbol.asyncDispose]();
    proxy = await world.start();
  }
  const { broken, asked, failed } = await load.end();
  assert.deepEqual({ broken, failed }, { broken: [], failed: [] });
  assert.ok(asked >= 100, `${asked} new connections`);
  await proxy[Symbol.asyncDispose]();
});

test('a service that flaps a thousand times ends right, in few transactions', { skip }, async () => {
  const { host, control } = faultyHost();
  await using proxy = await world.start({ host });
  const slices = world.client.resource(resources.endpointSlices, 'default');
  control.calls = 0;
  const begun = performance.now();
  for (let i = 0; i < 1000; i++) {
    const found = await slices.get('web-1');
    const conditions = { ready: i % 2 === 1 };
    await slices.update({ ...found, endpoints: [{ ...found.endpoints![0]!, conditions }] });
    // As it comes over the wire: not all in one turn.
    await new Promise((resolve) => setImmediate(resolve));
  }
  const seconds = (performance.now() - begun) / 1000;
  await world.settled(proxy);
  assert.ok(control.calls <= 12 + seconds * 11, `${control.calls} transactions in ${seconds} s`);
  assert.deepEqual((await world.dial(client.netns, { protocol: 'tcp', address: ip, port: 80 })).errors, {});
  assert.match(proxy.metrics(), /endpoint_changes_total 100[01]/);
});

test('a thousand services at once are a few transactions; a lone change is one, at once', {
  skip,
}, async () => {
  const { host, control } = faultyHost();
  await using proxy = await world.start({ host });
  control.calls = 0;
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: 1000 }, (_, i) =>
      world.service(`many-${i}`, { clusterIP: `10.96.${16 + (i >> 8)}.${i & 255}`, ports: [http] }),
    ),
  );
  await world.settled(proxy);
  // Ten a second at most once there are many: on a busy machine the services do not come at once.
  const seconds = (performance.now() - begun) / 1000;
  assert.ok(control.calls <= 8 + seconds * 11, `${control.calls} transactions in ${seconds} s`);
  const { elements } = await kernelState(world.network, TABLE);
  assert.equal(Object.keys(elements['frontends_v4']!).length, 1001);
  const services = world.client.resource(resources.services, 'default');
  await Promise.all(Array.from({ length: 1000 }, (_, i) => services.delete(`many-${i}`)));
  await world.settled(proxy);
  const left = await kernelState(world.network, TABLE);
  assert.equal(Object.keys(left.elements['frontends_v4']!).length, 1);
  assert.equal(Object.keys(left.elements['cluster_ips_v4']!).length, 1);
});

test('while nft fails everything stays as it is; afterwards the rules are right', { skip }, async () => {
  const { host, control } = faultyHost();
  await using proxy = await world.start({ host });
  const other = '10.96.3.2';
  const ask = (address: string, timeoutMs = 500) =>
    world.dial(client.netns, { protocol: 'tcp', address, port: 80, timeoutMs });
  control.failing = true;
  await world.service('late', { clusterIP: other, ports: [http] });
  await world.endpoints('late', 'late-1', 8080, [{ address: server.ips[0] }]);
  await eventually(
    'several tries have failed',
    () => /nftables_sync_failures_total ([5-9]|\d\d)/.test(proxy.metrics()),
    30_000,
  );
  assert.deepEqual((await ask(ip, 10_000)).errors, {});
  assert.deepEqual((await ask(other)).errors, { TIMEOUT: 1 });
  control.failing = false;
  await eventually(
    'the new service answers',
    async () => Object.keys((await ask(other)).errors).length === 0,
    60_000,
  );
  const state = await kernelState(world.network, TABLE);
  const fresh = await world.start({ table: 'fresh_services' });
  assert.deepEqual(withoutPlaces(state), withoutPlaces(await kernelState(world.network, 'fresh_services')));
  await fresh.cleanup();
  await world.client.resource(resources.services, 'default').delete('late');
});

test('a start that nft refuses says why', { skip }, async () => {
  const { host, control } = faultyHost();
  control.failing = true;
  await assert.rejects(world.start({ host }), /nft refused the rules of services: Cannot allocate memory/);
  await assert.rejects(world.start({ table: 'a b' }), /is no name of an nftables table/);
  await assert.rejects(world.start({ podCidrs: ['10.0.0.1/8'] }), /is no pod range/);
  await assert.rejects(world.start({ healthBindAddress: 'here' }), /is no address with a port/);
});

test('cleanup leaves nothing, and removing traces of nothing succeeds', { skip }, async () => {
  const proxy = await world.start();
  await proxy.cleanup();
  assert.equal(await nft('list', 'tables'), '');
  const { host, netns } = world.network;
  await removeServiceProxyTraces({ host, table: TABLE, networkNamespace: netns });
  assert.equal(await nft('list', 'tables'), '');
});
