// What a node's process serves beside its pods: the service proxy, cluster DNS, volumes from the node's own disk, and
// load-balancer addresses. Each comes to the API server as a user of its own.

import type { UserInfo } from '../apiserver/index.ts';
import type { Client } from '../client/index.ts';
import { type AddressRange, inRanges, machineAddresses, startAddressAnnouncer } from '../cloud/index.ts';
import type { Logger, Running } from '../component/index.ts';
import { type ClusterDns, publishDns, startClusterDns } from '../dns/index.ts';
import type { HostOperations } from '../host/index.ts';
import { startLocalPathProvisioner } from '../provisioner/index.ts';
import { startServiceProxy } from '../proxy/index.ts';
import { CLUSTER_DNS, LOAD_BALANCERS, PROVISIONER, SERVICE_PROXY } from './identities.ts';
import { dnsAddress, firstAddress, rangesOf } from './ranges.ts';
import { refuseSharedRange } from './service-range.ts';
import type { ClusterPaths, ClusterSettings } from './state.ts';

export interface NodeServices extends Running {
  /** Services lead nowhere afterwards; for when no pod runs any more. */
  removeRules(): Promise<void>;
}

export interface NodeServicesOptions {
  readonly paths: ClusterPaths;
  readonly settings: ClusterSettings;
  readonly client: (as: UserInfo) => Client;
  readonly host: HostOperations;
  readonly loadBalancerRanges: readonly AddressRange[];
  readonly dnsUpstreams: readonly string[];
  readonly stubDomains: Readonly<Record<string, readonly string[]>>;
  readonly logger: Logger;
}

/** The port at which a name server is looked for. */
const DNS_PORT = 53;
/** Upstream's for the health and metrics of the service proxy. */
const PROXY_HEALTH_PORT = 10256;

/** The nftables table of the service proxy beside the pod network's. */
export const proxyTable = ({ instance }: Pick<ClusterSettings, 'instance'>): string => `${instance}_services`;

/** The pod network must be there: the node answers its pods at the bridge's address. Resolves when all have begun. */
export async function startNodeServices(options: NodeServicesOptions): Promise<NodeServices> {
  const { paths, settings, client, host, logger } = options;
  const { nodeName, clusterDomain } = settings;
  const podCidrs = rangesOf(settings.podCidr);
  const serviceCidrs = rangesOf(settings.serviceCidr);
  const gateways = podCidrs.map(firstAddress);
  for (const range of serviceCidrs) await refuseSharedRange(host, proxyTable(settings), range);
  await using stack = new AsyncDisposableStack();
  const proxy = stack.use(
    await startServiceProxy({
      client: client(SERVICE_PROXY),
      nodeName,
      host,
      table: proxyTable(settings),
      podCidrs,
      isBalancers: (address) =>
        inRanges(options.loadBalancerRanges, address) && !machineAddresses(settings.bridge).has(address),
      healthBindAddress: `${bracketed(gateways[0]!)}:${PROXY_HEALTH_PORT}`,
      logger,
    }),
  );
  const dnsClient = client(CLUSTER_DNS);
  const dns = stack.use(await startDns(options, dnsClient, gateways));
  const published = stack.use(
    await publishDns({
      client: dnsClient,
      clusterIP: serviceCidrs.map(dnsAddress),
      nodeName,
      addresses: dns.addresses,
      ...(dns.http === undefined ? {} : { metricsPort: dns.http.port }),
      logger,
    }),
  );
  const provisioner = stack.use(
    await startLocalPathProvisioner({
      client: client(PROVISIONER),
      nodeName,
      directory: paths.volumes,
      host,
      logger,
    }),
  );
  const announcer = stack.use(
    startAddressAnnouncer({
      client: client(LOAD_BALANCERS),
      host,
      device: settings.bridge,
      ranges: options.loadBalancerRanges,
      logger,
    }),
  );
  logger.debug(
    { component: 'node', node: nodeName, clusterDomain },
    'the node serves names, services and volumes',
  );
  const ready = Promise.all([proxy, dns, published, provisioner, announcer].map((part) => part.ready)).then(
    () => {},
  );
  ready.catch(() => {}); // whoever needs it awaits it
  const owned = stack.move();
  return { ready, removeRules: () => proxy.cleanup(), [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** At the usual port, or at another where the machine has a name server on all addresses: the Service tells which. */
async function startDns(
  options: NodeServicesOptions,
  client: Client,
  gateways: readonly string[],
): Promise<ClusterDns> {
  const { settings, logger } = options;
  const start = (port: number): Promise<ClusterDns> =>
    startClusterDns({
      client,
      nodeName: settings.nodeName,
      listen: gateways.map((address) => ({ address, port })),
      clusterDomain: settings.clusterDomain,
      reverseRanges: [...rangesOf(settings.podCidr), ...rangesOf(settings.serviceCidr)],
      ...(options.dnsUpstreams.length > 0
        ? { upstreams: options.dnsUpstreams }
        : { resolvConf: '/etc/resolv.conf' }),
      stubDomains: options.stubDomains,
      http: { address: gateways[0]!, port: 0 },
      logger,
    });
  try {
    return await start(DNS_PORT);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    logger.info(
      { component: 'dns', addresses: gateways },
      'port 53 is taken by another name server; using another',
    );
    return start(0);
  }
}

const bracketed = (address: string): string => (address.includes(':') ? `[${address}]` : address);
