// The Service under which pods find the cluster's name server, and this node's part of what is behind it: a Service
// without selector, so that the endpoint controllers leave it alone, and EndpointSlices that list where the server of
// this node listens. Both are put back when somebody changes or deletes them. They stay when this stops, so that a
// restart disturbs nobody; a node that is gone for good takes its slices along, which belong to its Node object.

import { isIPv6 } from 'node:net';
import { isNotFound } from '../api/index.ts';
import type { Node, Service, ServicePort } from '../api/types/core-v1.ts';
import type { EndpointPort, EndpointSlice } from '../api/types/discovery-v1.ts';
import { type Client, type Informer, resources, startController } from '../client/index.ts';
import { type Running, type StartOptions, silentLogger, systemClock } from '../component/index.ts';
import type { ListenAddress } from './cluster-dns.ts';

const NAMESPACE = 'kube-system';
const NAME = 'kube-dns';
const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by';
const MANAGER = 'cluster-dns.bulkhead';
const SERVICE_NAME = 'kubernetes.io/service-name';

export interface PublishDnsOptions extends StartOptions {
  /** May read and write services and endpointslices of kube-system and read its own node. */
  readonly client: Client;
  /** The cluster address or addresses of the Service, at which pods ask: one, or one of each family. */
  readonly clusterIP: string | readonly string[];
  readonly nodeName: string;
  /** Where this node's server listens. */
  readonly addresses: readonly ListenAddress[];
  /** Where this node's server serves metrics; the Service has no such port when absent. */
  readonly metricsPort?: number;
}

/** `ready` resolves when the Service and this node's slices are there as they should be. */
export async function publishDns(options: PublishDnsOptions): Promise<Running> {
  const { client, nodeName } = options;
  const clock = options.clock ?? systemClock;
  const logger = (options.logger ?? silentLogger).child({ component: 'dns', node: nodeName });
  const clusterIPs = typeof options.clusterIP === 'string' ? [options.clusterIP] : [...options.clusterIP];
  if (clusterIPs.length === 0 || options.addresses.length === 0)
    throw new RangeError('the DNS service needs a cluster IP and an address to lead to');

  await using stack = new AsyncDisposableStack();
  const services = stack.use(
    client.informers.informer(resources.services, {
      namespace: NAMESPACE,
      fieldSelector: { 'metadata.name': NAME },
    }),
  );
  const slices = stack.use(
    client.informers.informer(resources.endpointSlices, {
      namespace: NAMESPACE,
      labelSelector: `${SERVICE_NAME}=${NAME}`,
    }),
  );
  const nodes = stack.use(
    client.informers.informer(resources.nodes, { fieldSelector: { 'metadata.name': nodeName } }),
  );
  const wanted = { service: wantedService(options, clusterIPs), slices: wantedSlices(options) };
  const published = Promise.withResolvers<void>();
  published.promise.catch(() => {});
  const unsettled = new Set(['service', ...wanted.slices.keys()]);

  const serviceClient = client.resource(resources.services, NAMESPACE);
  const sliceClient = client.resource(resources.endpointSlices, NAMESPACE);

  const reconcileService = async (signal: AbortSignal): Promise<void> => {
    const current = services.lister.find(NAMESPACE, NAME);
    if (current === undefined) {
      await serviceClient.create(wanted.service, { signal });
      return;
    }
    if (!sameSet(current.spec?.clusterIPs ?? [], clusterIPs)) {
      // The address cannot be changed, and pods are told of the one that we were given.
      logger.warn(
        { service: `${NAMESPACE}/${NAME}`, has: current.spec?.clusterIPs, wanted: clusterIPs },
        'the DNS service has another cluster IP than pods are told; it is made anew',
      );
      const { uid, resourceVersion } = current.metadata;
      await serviceClient.delete(NAME, {
        preconditions: { uid: uid!, resourceVersion: resourceVersion! },
        signal,
      });
      return;
    }
    const next = withOwnFields(current, wanted.service);
    if (next !== undefined) await serviceClient.update(next, { signal });
  };

  const reconcileSlice = async (name: string, signal: AbortSignal): Promise<void> => {
    const current = slices.lister.find(NAMESPACE, name);
    const node = nodes.lister.find(undefined, nodeName);
    const draft = wanted.slices.get(name);
    if (draft === undefined) {
      // One of ours from a time when the server listened elsewhere.
      if (current !== undefined && isOwn(current, nodeName)) await sliceClient.delete(name, { signal });
      return;
    }
    const next = { ...draft, metadata: { ...draft.metadata, ...ownedBy(node) } };
    if (current === undefined) {
      // It may be there without our label, unseen by the informer: then it is another's work, or spoiled.
      const hidden = await sliceClient.get(name, { signal }).catch((error: unknown) => {
        if (isNotFound(error)) return undefined;
        throw error;
      });
      if (hidden === undefined) await sliceClient.create(next, { signal });
      else await replaceSlice(hidden, next, signal);
    } else if (!sameSlice(current, next)) await replaceSlice(current, next, signal);
  };

  const replaceSlice = async (
    current: EndpointSlice,
    next: ReturnType<typeof wantedSlice>,
    signal: AbortSignal,
  ): Promise<void> => {
    const { uid, resourceVersion } = current.metadata;
    if (current.addressType !== next.addressType) {
      await sliceClient.delete(next.metadata.name, {
        preconditions: { uid: uid!, resourceVersion: resourceVersion! },
        signal,
      });
      return;
    }
    const { labels, annotations } = current.metadata;
    await sliceClient.update(
      {
        ...next,
        metadata: {
          ...next.metadata,
          ...(annotations && { annotations }),
          labels: { ...labels, ...next.metadata.labels },
          resourceVersion: resourceVersion!,
        },
      },
      { signal },
    );
  };

  const controller = stack.use(
    startController<string>({
      name: 'dns-service',
      clock,
      logger,
      ready: Promise.all([services.synced, slices.synced, nodes.synced]),
      async reconcile(key, signal) {
        if (key === 'service') await reconcileService(signal);
        else await reconcileSlice(key, signal);
        if (unsettled.delete(key) && unsettled.size === 0) published.resolve();
      },
    }),
  );
  watchFor(services, () => controller.queue.add('service'));
  watchFor(slices, ({ metadata }) => {
    if (wanted.slices.has(metadata.name) || metadata.name.startsWith(`${NAME}-${nodeName}`))
      controller.queue.add(metadata.name);
  });
  const all = (): void => {
    for (const name of wanted.slices.keys()) controller.queue.add(name);
  };
  // A Node that was made anew is another owner.
  nodes.addHandler({ added: all });
  controller.queue.add('service');
  all();

  const owned = stack.move();
  return {
    ready: published.promise,
    async [Symbol.asyncDispose]() {
      published.reject(new Error('the DNS service was stopped before it was published'));
      await owned.disposeAsync();
    },
  };
}

function watchFor<T extends Service | EndpointSlice>(
  informer: Informer<T>,
  changed: (object: T) => void,
): void {
  informer.addHandler({ added: changed, updated: changed, deleted: changed });
}

// ---- the Service ----

function wantedService({ metricsPort }: PublishDnsOptions, clusterIPs: readonly string[]) {
  const ports: ServicePort[] = [
    { name: 'dns', protocol: 'UDP', port: 53, targetPort: 53 },
    { name: 'dns-tcp', protocol: 'TCP', port: 53, targetPort: 53 },
  ];
  if (metricsPort !== undefined)
    ports.push({ name: 'metrics', protocol: 'TCP', port: 9153, targetPort: 9153 });
  return {
    metadata: {
      name: NAME,
      namespace: NAMESPACE,
      labels: {
        'k8s-app': NAME,
        'kubernetes.io/cluster-service': 'true',
        'kubernetes.io/name': 'CoreDNS',
      },
      ...(metricsPort !== undefined && {
        annotations: { 'prometheus.io/port': '9153', 'prometheus.io/scrape': 'true' },
      }),
    },
    spec: {
      type: 'ClusterIP' as const,
      clusterIP: clusterIPs[0]!,
      clusterIPs: [...clusterIPs],
      ipFamilies: clusterIPs.map((address) => (isIPv6(address) ? ('IPv6' as const) : ('IPv4' as const))),
      ipFamilyPolicy: clusterIPs.length > 1 ? ('RequireDualStack' as const) : ('SingleStack' as const),
      ports,
    },
  };
}

/** The service with what we say of it; undefined when it says so already. All else is left to whoever set it. */
function withOwnFields(current: Service, wanted: ReturnType<typeof wantedService>): Service | undefined {
  const { spec, metadata } = current;
  const labels = { ...metadata.labels, ...wanted.metadata.labels };
  const annotations = { ...metadata.annotations, ...wanted.metadata.annotations };
  const ports = spec?.ports ?? [];
  const same =
    spec?.type === 'ClusterIP' &&
    Object.keys(spec.selector ?? {}).length === 0 &&
    ports.length === wanted.spec.ports.length &&
    wanted.spec.ports.every((port, i) => samePort(ports[i]!, port)) &&
    hasAll(metadata.labels, wanted.metadata.labels) &&
    hasAll(metadata.annotations, wanted.metadata.annotations ?? {});
  if (same) return undefined;
  const { selector: _selector, externalName: _externalName, ...kept } = spec ?? {};
  return {
    ...current,
    metadata: { ...metadata, labels, annotations },
    spec: { ...kept, type: 'ClusterIP', ports: wanted.spec.ports },
  };
}

function samePort(a: ServicePort, b: ServicePort): boolean {
  return (
    a.name === b.name &&
    a.port === b.port &&
    (a.protocol ?? 'TCP') === b.protocol &&
    a.targetPort === b.targetPort
  );
}

// ---- the slices ----

/** One slice for each family and port: a slice has one list of ports for all its endpoints. */
function wantedSlices(options: PublishDnsOptions): Map<string, ReturnType<typeof wantedSlice>> {
  const groups = new Map<string, ListenAddress[]>();
  for (const listening of options.addresses) {
    const key = `${isIPv6(listening.address) ? 6 : 4} ${listening.port}`;
    groups.set(key, [...(groups.get(key) ?? []), listening]);
  }
  return new Map(
    [...groups.values()].map((group, i) => {
      const name = `${NAME}-${options.nodeName}${i === 0 ? '' : `-${i}`}`;
      return [name, wantedSlice(options, name, group)];
    }),
  );
}

function wantedSlice(options: PublishDnsOptions, name: string, group: readonly ListenAddress[]) {
  const { port } = group[0]!;
  const ports: EndpointPort[] = [
    { name: 'dns', protocol: 'UDP', port },
    { name: 'dns-tcp', protocol: 'TCP', port },
  ];
  if (options.metricsPort !== undefined)
    ports.push({ name: 'metrics', protocol: 'TCP', port: options.metricsPort });
  return {
    metadata: {
      name,
      namespace: NAMESPACE,
      labels: { [SERVICE_NAME]: NAME, [MANAGED_BY]: MANAGER, 'k8s-app': NAME },
    },
    addressType: isIPv6(group[0]!.address) ? ('IPv6' as const) : ('IPv4' as const),
    endpoints: group.map(({ address }) => ({
      addresses: [address],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: options.nodeName,
    })),
    ports,
  };
}

function ownedBy(node: Node | undefined) {
  return node?.metadata.uid === undefined
    ? {}
    : {
        ownerReferences: [
          { apiVersion: 'v1', kind: 'Node', name: node.metadata.name, uid: node.metadata.uid },
        ],
      };
}

function isOwn(slice: EndpointSlice, nodeName: string): boolean {
  return (
    slice.metadata.labels?.[MANAGED_BY] === MANAGER &&
    (slice.endpoints ?? []).every((endpoint) => endpoint.nodeName === nodeName)
  );
}

function sameSlice(
  current: EndpointSlice,
  wanted: ReturnType<typeof wantedSlice> & {
    readonly metadata: { readonly ownerReferences?: readonly { readonly uid: string }[] };
  },
): boolean {
  const owner = wanted.metadata.ownerReferences?.[0];
  const endpoints = current.endpoints ?? [];
  const ports = current.ports ?? [];
  return (
    current.addressType === wanted.addressType &&
    hasAll(current.metadata.labels, wanted.metadata.labels) &&
    (owner === undefined || (current.metadata.ownerReferences ?? []).some(({ uid }) => uid === owner.uid)) &&
    endpoints.length === wanted.endpoints.length &&
    wanted.endpoints.every((endpoint, i) => {
      const has = endpoints[i]!;
      return (
        has.addresses.length === 1 &&
        has.addresses[0] === endpoint.addresses[0] &&
        has.nodeName === endpoint.nodeName &&
        has.conditions?.ready === true &&
        has.conditions.serving !== false &&
        has.conditions.terminating !== true
      );
    }) &&
    ports.length === wanted.ports.length &&
    wanted.ports.every((port, i) => {
      const has = ports[i]!;
      return has.name === port.name && has.port === port.port && has.protocol === port.protocol;
    })
  );
}

function hasAll(
  has: Readonly<Record<string, string>> | undefined,
  wanted: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(wanted).every(([key, value]) => has?.[key] === value);
}

function sameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item) => b.includes(item));
}
