// Any sequence of changes leads to the kernel state that the final services ask for. Needs root.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Service, ServiceSpec } from '../api/types/core-v1.ts';
import type { Endpoint } from '../api/types/discovery-v1.ts';
import { resources } from '../client/index.ts';
import { kernelState, withoutPlaces } from './testing/kernel-state.ts';
import { skipPackets, startWorld, TABLE, type World } from './testing/world.ts';

/** Mulberry32: the same numbers for the same seed. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const SERVICES = 12;

class Changes {
  readonly #world: World;
  readonly #below: (below: number) => number;

  constructor(world: World, seed: number) {
    this.#world = world;
    this.#below = randomNumbers(seed);
  }

  #one<T>(...choices: readonly T[]): T {
    return choices[this.#below(choices.length)]!;
  }

  #spec(n: number): ServiceSpec {
    const one = this.#one.bind(this);
    const type = one('ClusterIP', 'NodePort', 'LoadBalancer', 'NodePort', 'ExternalName' as const);
    const nodePorts = type === 'NodePort' || type === 'LoadBalancer';
    return {
      type,
      clusterIP: one(`10.96.0.${n}`, `10.96.0.${n}`, 'None'),
      ...(one(true, false) ? { clusterIPs: [`10.96.0.${n}`, `fd00:96::${n}`] } : {}),
      ports: [
        {
          name: 'http',
          port: 80,
          protocol: 'TCP',
          ...(nodePorts ? { nodePort: 30_000 + one(n, n, 1) } : {}),
        },
        ...(this.#below(2) ? [{ name: 'dns', port: 53, protocol: 'UDP' as const }] : []),
        ...(this.#below(2) ? [{ name: 'more', port: 80, protocol: 'SCTP' as const }] : []),
        ...(this.#below(2) ? [{ name: 'more', port: 81, protocol: 'TCP' as const }] : []),
      ],
      ...(one(true, false) ? { externalIPs: [`203.0.113.${this.#below(4)}`, 'fd00::1'] } : {}),
      sessionAffinity: one('None', 'None', 'ClientIP'),
      sessionAffinityConfig: { clientIP: { timeoutSeconds: one(10, 10_800) } },
      internalTrafficPolicy: one('Cluster', 'Local'),
      externalTrafficPolicy: one('Cluster', 'Local'),
      ...(one(true, false)
        ? { loadBalancerSourceRanges: [one('192.0.2.0/24', '198.51.100.0/24'), '10.0.0.0/8'] }
        : {}),
    };
  }

  #endpoint(six: boolean): Endpoint {
    const one = this.#one.bind(this);
    return {
      addresses: [six ? `fd00:244::${this.#below(9)}` : `10.244.0.${10 + this.#below(9)}`],
      nodeName: one('n1', 'n2'),
      conditions: one({}, {}, { ready: false }, { ready: false, serving: true, terminating: true }),
      ...(one(true, false) ? { hints: { forZones: [{ name: one('z1', 'z2') }] } } : {}),
    };
  }

  async make(): Promise<void> {
    const { client } = this.#world;
    const n = this.#below(SERVICES);
    const name = `s${n}`;
    const services = client.resource(resources.services, 'default');
    const slices = client.resource(resources.endpointSlices, 'default');
    switch (this.#below(6)) {
      case 0:
        await services.delete(name).catch(() => undefined);
        return;
      case 1:
        await slices.delete(`${name}-${this.#below(3)}`).catch(() => undefined);
        return;
      case 2: {
        const found = await services.get(name).catch(() => undefined);
        const ingress = [{ ip: `203.0.113.${this.#below(4)}` }, { ip: `203.0.113.${100 + n}` }];
        if (found)
          await services.updateStatus({ ...found, status: { loadBalancer: { ingress } } } as Service);
        return;
      }
      case 3: {
        const found = await services.get(name).catch(() => undefined);
        const spec = this.#spec(n);
        if (found) await services.update({ ...found, spec });
        else await services.create({ metadata: { name }, spec });
        return;
      }
      default: {
        const which = this.#below(3);
        const endpoints = Array.from({ length: this.#below(6) }, () => this.#endpoint(which === 2));
        const content = {
          metadata: { name: `${name}-${which}`, labels: { 'kubernetes.io/service-name': name } },
          addressType: which === 2 ? ('IPv6' as const) : ('IPv4' as const),
          ports: [
            { name: 'http', port: this.#one(8080, 8081), protocol: 'TCP' as const },
            { name: 'dns', port: 53, protocol: 'UDP' as const },
            { name: 'more', port: 90, protocol: 'SCTP' as const },
          ],
          endpoints,
        };
        const found = await slices.get(content.metadata.name).catch(() => undefined);
        if (found)
          await slices.update({ ...found, ...content, metadata: { ...found.metadata, ...content.metadata } });
        else await slices.create(content);
      }
    }
  }
}

for (const seed of [1, 2, 3, 4])
  test(`after changes at random the kernel holds what a full sync writes (seed ${seed})`, {
    skip: skipPackets,
  }, async () => {
    await using world = await startWorld();
    const changes = new Changes(world, seed);
    for (let i = 0; i < 30; i++) await changes.make();
    await using proxy = await world.start();
    for (let i = 0; i < 200; i++) {
      await changes.make();
      if (i % 7 === 0) await world.settled(proxy);
    }
    await world.settled(proxy);
    const grown = await kernelState(world.network, TABLE);
    const transactions = Number(
      proxy.metrics().match(/partial_proxy_rules_duration_seconds_count (\d+)/)?.[1],
    );
    assert.ok(transactions > 10, `${transactions} transactions`);
    assert.match(proxy.metrics(), /nftables_sync_failures_total 0/);
    await using fresh = await world.start({ table: 'fresh_services' });
    const written = await kernelState(world.network, 'fresh_services');
    assert.deepEqual(withoutPlaces(grown), withoutPlaces(written));
    assert.match(fresh.metrics(), /nftables_sync_failures_total 0/);
    // Places too when the same proxy's successor takes the table over, and nothing else is left there.
    await proxy[Symbol.asyncDispose]();
    await using successor = await world.start();
    assert.deepEqual(withoutPlaces(await kernelState(world.network, TABLE)), withoutPlaces(written));
    const listed = await world.network.run(world.network.netns, [
      'nft',
      '-t',
      'list',
      'table',
      'inet',
      TABLE,
    ]);
    const other = await world.network.run(world.network.netns, [
      'nft',
      '-t',
      'list',
      'table',
      'inet',
      'fresh_services',
    ]);
    const names = (text: string) =>
      [...text.matchAll(/^\t(chain|set|map) (\S+)/gm)].map(([, , name]) => name).sort();
    assert.deepEqual(names(listed), names(other), 'what nobody uses is gone');
    await successor.cleanup();
    await fresh.cleanup();
    assert.equal(await world.network.run(world.network.netns, ['nft', 'list', 'tables']), '');
  });
