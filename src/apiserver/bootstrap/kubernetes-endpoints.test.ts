import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '../../api/index.ts';
import type { Endpoints, Service } from '../../api/types/core-v1.ts';
import type { EndpointSlice } from '../../api/types/discovery-v1.ts';
import { ManualClock, silentLogger } from '../../component/index.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { FakeTransport } from '../testing/fake-transport.ts';
import { type Advertised, keepKubernetesEndpoints } from './kubernetes-endpoints.ts';
import { kubernetesService } from './kubernetes-service.ts';

async function setup() {
  const objects = new FakeObjects();
  const transport = new FakeTransport(objects);
  const clock = new ManualClock();
  const state: { mine: Advertised | undefined } = { mine: { address: '192.168.1.10', port: 6443 } };
  objects.put('', 'services', kubernetesService({ serviceCidrs: ['10.96.0.0/12'], port: 6443 }) as never);
  const keeper = await keepKubernetesEndpoints(
    { reader: objects, transport, clock, logger: silentLogger },
    () => state.mine,
  );
  const get = <T extends KubeObject>(group: string, resource: string) =>
    objects.get<T>(group, resource, 'default', 'kubernetes');
  const shown = () => {
    const endpoints = get<Endpoints>('', 'endpoints');
    const slice = get<EndpointSlice>('discovery.k8s.io', 'endpointslices');
    return [
      endpoints?.subsets?.map(
        ({ addresses, ports }) => `${addresses?.map(({ ip }) => ip).join()}:${ports?.[0]?.port}`,
      ),
      slice?.endpoints?.map(
        ({ addresses }) => `${slice.addressType} ${addresses.join()}:${slice.ports?.[0]?.port}`,
      ),
    ];
  };
  const settled = async () => {
    for (let i = 0; i < 20; i++) {
      await clock.advance(100);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return shown();
  };
  return { objects, transport, clock, state, keeper, get, shown, settled };
}

const RIGHT = [['192.168.1.10:6443'], ['IPv4 192.168.1.10:6443']];

test('the endpoints of the Service kubernetes are where the server is, and labelled as upstream labels them', async () => {
  const { keeper, shown, get, objects } = await setup();
  assert.deepEqual(shown(), RIGHT);
  assert.deepEqual(get<Endpoints>('', 'endpoints')?.metadata.labels, {
    'endpointslice.kubernetes.io/skip-mirror': 'true',
  });
  assert.deepEqual(get<EndpointSlice>('discovery.k8s.io', 'endpointslices')?.metadata.labels, {
    'kubernetes.io/service-name': 'kubernetes',
  });
  keeper[Symbol.dispose]();
  assert.equal(objects.followers, 0);
});

test('what is deleted or edited comes back, and nothing is written while all is right', async () => {
  const { objects, transport, keeper, get, settled } = await setup();
  objects.remove('', 'endpoints', 'default', 'kubernetes');
  assert.deepEqual(await settled(), RIGHT);
  objects.remove('discovery.k8s.io', 'endpointslices', 'default', 'kubernetes');
  assert.deepEqual(await settled(), RIGHT);
  const endpoints = get<Endpoints>('', 'endpoints')!;
  objects.put('', 'endpoints', {
    ...endpoints,
    metadata: { ...endpoints.metadata, labels: {} },
    subsets: [],
  } as never);
  assert.deepEqual(await settled(), RIGHT);
  assert.equal(
    get<Endpoints>('', 'endpoints')?.metadata.labels?.['endpointslice.kubernetes.io/skip-mirror'],
    'true',
  );
  const calls = transport.calls.length;
  for (let i = 0; i < 10; i++) await settled();
  assert.equal(transport.calls.length, calls);
  keeper[Symbol.dispose]();
});

test('another address is followed, also one of the other family, and the Service leads to its port', async () => {
  const { state, keeper, clock, get, settled } = await setup();
  state.mine = { address: '192.168.1.11', port: 7443 };
  await clock.advance(10_000);
  assert.deepEqual(await settled(), [['192.168.1.11:7443'], ['IPv4 192.168.1.11:7443']]);
  assert.equal(get<Service>('', 'services')?.spec.ports?.[0]?.targetPort, 7443);
  state.mine = { address: 'fd00::1', port: 7443 };
  await clock.advance(10_000);
  assert.deepEqual(await settled(), [['fd00::1:7443'], ['IPv6 fd00::1:7443']]);
  // Nothing is advertised for a while (the interface is down): what pods know stays.
  state.mine = undefined;
  await clock.advance(10_000);
  assert.deepEqual(await settled(), [['fd00::1:7443'], ['IPv6 fd00::1:7443']]);
  keeper[Symbol.dispose]();
});

test('a write that fails is tried again, and whoever edits all the time is answered once a second', async () => {
  const { objects, transport, clock, keeper, get, shown, settled } = await setup();
  transport.before = () => {
    throw new Error('disk full');
  };
  objects.remove('', 'endpoints', 'default', 'kubernetes');
  await settled();
  assert.equal(shown()[0], undefined);
  transport.before = () => {};
  await clock.advance(10_000);
  assert.deepEqual(await settled(), RIGHT);
  const calls = transport.calls.length;
  for (let i = 0; i < 50; i++) {
    const endpoints = get<Endpoints>('', 'endpoints')!;
    objects.put('', 'endpoints', { ...endpoints, subsets: [] } as never);
    await clock.advance(100);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(transport.calls.length - calls <= 6, `${transport.calls.length - calls} writes in five seconds`);
  keeper[Symbol.dispose]();
});
