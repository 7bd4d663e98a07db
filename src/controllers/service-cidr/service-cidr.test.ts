import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ServiceCIDR } from '../../api/types/networking-v1.ts';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';
import { containsAddress, isCovered, overlap } from './ranges.ts';
import { SERVICE_CIDR_FINALIZER } from './service-cidr.ts';

async function setup() {
  const cluster = await startTestCluster(['service-cidr-controller']);
  const { client } = cluster;
  const cidrs = client.resource(resources.serviceCidrs);
  const addresses = client.resource(resources.ipAddresses);
  return {
    cluster,
    cidrs,
    addresses,
    range: (name: string, ...texts: string[]) => cidrs.create({ metadata: { name }, spec: { cidrs: texts } }),
    address: (name: string, managedBy = 'ipallocator.k8s.io') =>
      addresses.create({
        metadata: { name, labels: { 'ipaddress.kubernetes.io/managed-by': managedBy } },
        spec: { parentRef: { resource: 'services', namespace: 'default', name: 'web' } },
      }),
    shown: async (name: string) => {
      await cluster.settle();
      const cidr = (await cidrs.list()).items.find(({ metadata }) => metadata.name === name);
      return (
        cidr?.status?.conditions?.map((c) => `${c.type}=${c.status} ${c.reason}: ${c.message}`).join() ??
        'gone'
      );
    },
  };
}

const READY = 'Ready=True : Kubernetes Service CIDR is ready';
const WAITS =
  'Ready=False Terminating: There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR';

test('a ServiceCIDR gets its finalizer and is ready', async () => {
  const { cluster, cidrs, range, shown } = await setup();
  await using _ = cluster;
  await range('more', '10.97.0.0/24');
  assert.equal(await shown('more'), READY);
  assert.deepEqual((await cidrs.get('more')).metadata.finalizers, [SERVICE_CIDR_FINALIZER]);
});

test('one that is deleted waits for its addresses, then for the allocators', async () => {
  const { cluster, cidrs, addresses, range, address, shown } = await setup();
  await using _ = cluster;
  await range('more', '10.97.0.0/24');
  await address('10.97.0.5');
  await cluster.settle();
  await cidrs.delete('more');
  assert.equal(await shown('more'), WAITS);
  await cluster.advance(60_000);
  assert.equal(await shown('more'), WAITS);
  await addresses.delete('10.97.0.5');
  assert.equal(await shown('more'), 'gone');
});

test('an empty one goes after ten seconds, and not when an address came in between', async () => {
  const { cluster, cidrs, range, address, shown } = await setup();
  await using _ = cluster;
  await range('a', '10.97.0.0/24');
  await range('b', '10.98.0.0/24');
  await cluster.settle();
  await cidrs.delete('a');
  await cidrs.delete('b');
  await cluster.advance(5000);
  await address('10.98.0.7');
  await cluster.advance(4000);
  assert.equal(await shown('a'), READY);
  await cluster.advance(2000);
  assert.equal(await shown('a'), 'gone');
  assert.equal(await shown('b'), WAITS);
});

test('addresses that another range holds too, and those of others, hold nothing', async () => {
  const { cluster, cidrs, range, address, shown } = await setup();
  await using _ = cluster;
  await range('inner', '10.97.0.0/25');
  await range('left', '10.99.0.0/24');
  await address('10.97.0.5');
  await address('10.99.0.5', 'somebody-else');
  await cluster.settle();
  await cidrs.delete('inner');
  await cidrs.delete('left');
  assert.equal(await shown('inner'), WAITS);
  await range('outer', '10.97.0.0/24');
  await cluster.advance(11_000);
  assert.equal(await shown('inner'), 'gone');
  assert.equal(await shown('left'), 'gone');
  assert.equal(await shown('outer'), READY);
});

test('ranges contain, cover and overlap by the numbers', () => {
  const of = (...cidrs: string[]) => ({ spec: { cidrs } }) as unknown as ServiceCIDR;
  assert.ok(containsAddress(of('10.0.0.0/24'), '10.0.0.1'));
  for (const outside of ['10.0.0.0', '10.0.0.255', '10.0.1.1', 'fd00::1', 'x'])
    assert.ok(!containsAddress(of('10.0.0.0/24'), outside), outside);
  assert.ok(containsAddress(of('fd00::/120'), 'fd00::ff'));
  assert.ok(!containsAddress(of('fd00::/120'), 'fd00::'));
  assert.ok(isCovered(of('10.0.1.0/24', 'fd00::/120'), [of('10.0.0.0/16'), of('fd00::/112')]));
  assert.ok(!isCovered(of('10.0.1.0/24', 'fd00::/120'), [of('10.0.0.0/16')]));
  assert.ok(!isCovered(of('10.0.0.0/16'), [of('10.0.1.0/24')]));
  assert.ok(overlap(of('10.0.0.0/16'), of('10.0.1.0/24')));
  assert.ok(!overlap(of('10.0.0.0/16'), of('10.1.0.0/16', 'fd00::/120')));
});
