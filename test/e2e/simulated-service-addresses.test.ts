// Service addresses as an operator meets them: kubectl and the client library on full ranges, further ServiceCIDRs,
// addresses that somebody deletes, and Endpoints that are kept by hand.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { CoreV1Api, DiscoveryV1Api, KubeConfig, NetworkingV1Api } from '@kubernetes/client-node';
import { eventually } from './support/eventually.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

const namespace = 'default';
let sim: SimulatedCluster;
let core: CoreV1Api;
let networking: NetworkingV1Api;
let discovery: DiscoveryV1Api;

before(async () => {
  // Fourteen addresses, one of which is the API's own, and two node ports.
  sim = await startSimulated({ serviceCidrs: ['10.96.0.0/28'], nodePorts: { first: 30000, last: 30001 } });
  // Upstream answers with 500, and the server logs what it answers so.
  sim.expectErrors(/range is full/);
  const config = new KubeConfig();
  config.loadFromString(sim.cluster.kubeconfig);
  core = config.makeApiClient(CoreV1Api);
  networking = config.makeApiClient(NetworkingV1Api);
  discovery = config.makeApiClient(DiscoveryV1Api);
});
after(() => sim[Symbol.asyncDispose]());

describe('service addresses', () => {
  it('are IPAddress objects that come and go with their Services', async () => {
    const { kubectl } = sim;
    await kubectl('create', 'service', 'clusterip', 'web', '--tcp=80');
    const { spec } = await core.readNamespacedService({ name: 'web', namespace });
    const address = await networking.readIPAddress({ name: spec!.clusterIP! });
    assert.deepEqual({ ...address.spec.parentRef }, { resource: 'services', namespace, name: 'web' });
    assert.equal(address.metadata?.labels?.['ipaddress.kubernetes.io/managed-by'], 'ipallocator.k8s.io');
    const table = await kubectl('get', 'ipaddresses');
    assert.match(table, /^NAME +PARENTREF\n/);
    assert.match(table, new RegExp(`^${spec!.clusterIP} +services/default/web$`, 'm'));
    // One that is deleted by hand comes back, and the Service says so.
    await kubectl('delete', 'ipaddress', spec!.clusterIP!);
    await eventually('the address', () => networking.readIPAddress({ name: spec!.clusterIP! }));
    await eventually('the event', async () => {
      const events = await kubectl('get', 'events', '--field-selector', 'involvedObject.name=web');
      assert.match(events, /Warning +ClusterIPNotAllocated .*is not allocated; repairing/);
    });
    await kubectl('delete', 'service', 'web');
    const gone = await kubectl.refused('get', 'ipaddress', spec!.clusterIP!);
    assert.match(gone, /NotFound/);
  });

  it('run out with an error for who asks and an event for who operates; another ServiceCIDR helps', async () => {
    const { kubectl } = sim;
    const names = Array.from({ length: 13 }, (_, i) => `full-${i}`);
    await Promise.all(
      names.map((name) =>
        core.createNamespacedService({
          namespace,
          body: { metadata: { name }, spec: { ports: [{ port: 80 }] } },
        }),
      ),
    );
    assert.equal(
      await kubectl.refused('create', 'service', 'clusterip', 'late', '--tcp=80'),
      'error: failed to create ClusterIP service: Internal error occurred: failed to allocate a serviceIP: range is full',
    );
    await eventually('the event', async () => {
      const events = await kubectl('get', 'events', '--field-selector', 'involvedObject.kind=ServiceCIDR');
      assert.match(
        events,
        /Warning +ServiceCIDRFull +servicecidr\/kubernetes +Service CIDR is full: 10\.96\.0\.0\/28/,
      );
    });
    await networking.createServiceCIDR({
      body: { metadata: { name: 'more' }, spec: { cidrs: ['10.97.0.0/28'] } },
    });
    await eventually('the finalizer', async () => {
      const { metadata, status } = await networking.readServiceCIDR({ name: 'more' });
      assert.deepEqual(metadata?.finalizers, ['networking.k8s.io/service-cidr-finalizer']);
      assert.equal(status?.conditions?.[0]?.status, 'True');
    });
    await kubectl('create', 'service', 'clusterip', 'late', '--tcp=80');
    const { spec } = await core.readNamespacedService({ name: 'late', namespace });
    assert.match(spec?.clusterIP ?? '', /^10\.97\.0\./);
    // It stays while an address of it is used, and says why.
    await kubectl('delete', 'servicecidr', 'more', '--wait=false');
    await eventually('the condition', async () => {
      const { status } = await networking.readServiceCIDR({ name: 'more' });
      assert.equal(status?.conditions?.[0]?.reason, 'Terminating');
      assert.equal(
        status?.conditions?.[0]?.message,
        'There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR',
      );
    });
    const refused = await kubectl.refused('create', 'service', 'clusterip', 'later', '--tcp=80');
    assert.match(refused, /range is full/);
    await kubectl('delete', 'service', 'late', ...names);
    await eventually('its end', async () => {
      assert.match(await kubectl.refused('get', 'servicecidr', 'more'), /NotFound/);
    });
  });

  it('run out of node ports likewise', async () => {
    const { kubectl } = sim;
    await kubectl('create', 'service', 'nodeport', 'np-0', '--tcp=80');
    await kubectl('create', 'service', 'nodeport', 'np-1', '--tcp=80');
    assert.equal(
      await kubectl.refused('create', 'service', 'nodeport', 'np-2', '--tcp=80'),
      'error: failed to create NodePort service: Internal error occurred: failed to allocate a nodePort: range is full',
    );
    await eventually('the event', async () => {
      const events = await kubectl('get', 'events', '--field-selector', 'reason=PortRangeFull');
      assert.match(events, /service\/kubernetes +Port range 30000-30001 is full;/);
    });
    await kubectl('patch', 'service', 'np-0', '-p', '{"spec":{"type":"ClusterIP"}}');
    await kubectl('create', 'service', 'nodeport', 'np-2', '--tcp=80');
    await kubectl('delete', 'service', 'np-0', 'np-1', 'np-2');
  });

  it('of Endpoints that are kept by hand are mirrored to slices', async () => {
    const { kubectl, file } = sim;
    const manifest = (ips: string[]): string =>
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'List',
        items: [
          {
            apiVersion: 'v1',
            kind: 'Service',
            metadata: { name: 'legacy' },
            spec: { ports: [{ name: 'sql', port: 5432 }] },
          },
          {
            apiVersion: 'v1',
            kind: 'Endpoints',
            metadata: { name: 'legacy', labels: { team: 'a' } },
            subsets: [{ addresses: ips.map((ip) => ({ ip })), ports: [{ name: 'sql', port: 5432 }] }],
          },
        ],
      });
    const slices = async () => {
      const { items } = await discovery.listNamespacedEndpointSlice({
        namespace,
        labelSelector: 'kubernetes.io/service-name=legacy',
      });
      return items.map(
        ({ metadata, endpoints }) =>
          `${metadata?.labels?.['endpointslice.kubernetes.io/managed-by']} ${metadata?.labels?.['team']} ${endpoints
            ?.flatMap(({ addresses }) => addresses)
            .toSorted()
            .join()}`,
      );
    };
    const BY = 'endpointslicemirroring-controller.k8s.io a';
    await kubectl('apply', '-f', await file('legacy.json', manifest(['192.0.2.1'])));
    await eventually('the slice', async () => assert.deepEqual(await slices(), [`${BY} 192.0.2.1`]));
    await kubectl('apply', '-f', await file('legacy.json', manifest(['192.0.2.1', '192.0.2.2'])));
    await eventually('the change', async () =>
      assert.deepEqual(await slices(), [`${BY} 192.0.2.1,192.0.2.2`]),
    );
    await kubectl('delete', 'endpoints', 'legacy');
    await eventually('the end', async () => assert.deepEqual(await slices(), []));
  });

  it('of the API itself cannot be taken away for long', async () => {
    const { kubectl } = sim;
    await kubectl('delete', 'service', 'kubernetes');
    await eventually('the Service', async () => {
      const { spec } = await core.readNamespacedService({ name: 'kubernetes', namespace });
      assert.equal(spec?.clusterIP, '10.96.0.1');
    });
    await eventually('its address', async () => {
      const { spec } = await networking.readIPAddress({ name: '10.96.0.1' });
      assert.equal(spec.parentRef.name, 'kubernetes');
    });
  });
});
