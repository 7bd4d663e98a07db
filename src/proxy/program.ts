// What one Service wants of the kernel: its frontends (cluster, external and load-balancer addresses, node ports),
// where traffic to each may go and how it is treated on the way. Pure: Service and slices in, values out. Everything
// that goes on to nft has been read as an address, a range or a number here, and is written anew.

import type { Service } from '../api/types/core-v1.ts';
import type { EndpointSlice } from '../api/types/discovery-v1.ts';
import {
  type Cidr,
  contains,
  type Family,
  formatCidr,
  overlap,
  parseAddress,
  parseCidr,
} from '../component/index.ts';
import {
  addressOf,
  type Backend,
  backendsOf,
  type Categories,
  categorize,
  type NetworkAddress,
  type NodeTopology,
  readAddress,
} from './backends.ts';

export type Protocol = 'tcp' | 'udp' | 'sctp';

/**
 * What becomes of a new connection:
 * - refuse: there is no endpoint anywhere;
 * - drop: there is none on this node, where only its own count;
 * - spread: to one of the list, with the source replaced always, for sources outside the pod ranges, or never;
 * - keep-source: external traffic to this node's endpoints with the client's own address, where pods and the host
 *   itself take the whole cluster's list, as if they had gone out to the load balancer and come back.
 */
export type Treatment =
  | { readonly kind: 'refuse' }
  | { readonly kind: 'drop' }
  | {
      readonly kind: 'spread';
      readonly list: 'cluster' | 'local';
      readonly masquerade: 'always' | 'outside' | 'never';
    }
  | { readonly kind: 'keep-source' };

export interface Affinity {
  /** Names the port of the Service: clients stay with an endpoint whichever frontend they came by. */
  readonly scope: string;
  readonly seconds: number;
}

export interface Frontend {
  readonly family: Family;
  /** '' for a node port, which has every address of the node. */
  readonly address: string;
  readonly protocol: Protocol;
  readonly port: number;
  readonly treatment: Treatment;
  /** Endpoints as nft writes them: address . port. Only the lists that the treatment uses have members. */
  readonly cluster: readonly string[];
  readonly local: readonly string[];
  readonly affinity: Affinity | undefined;
  /** Ranges that may come; everybody when undefined. */
  readonly sources: readonly string[] | undefined;
}

/** What has to be known of a UDP port to tell its dead flows from the living. */
export interface DatagramPort {
  readonly family: Family;
  readonly addresses: readonly string[];
  readonly port: number;
  /** 0 when there is none. */
  readonly nodePort: number;
  /** Addresses of the endpoints that still serve, wherever they are. */
  readonly serving: readonly string[];
}

export interface HealthCheck {
  readonly port: number;
  readonly localEndpoints: number;
}

export interface ServiceProgram {
  readonly frontends: readonly Frontend[];
  readonly clusterIps: readonly NetworkAddress[];
  /** Load-balancer addresses that lead nowhere but to the frontends. */
  readonly balancerIps: readonly NetworkAddress[];
  /** Addresses of endpoints that may be on this node, and come to themselves. */
  readonly hairpins: readonly NetworkAddress[];
  readonly datagrams: readonly DatagramPort[];
  readonly health: HealthCheck | undefined;
}

export interface ProgramContext extends NodeTopology {
  readonly masqueradeAll: boolean;
  /** The node's own addresses, for source ranges. */
  readonly nodeAddresses: readonly string[];
  /** Whether a load-balancer address is its Service's alone. */
  readonly isBalancers: (address: string) => boolean;
}

const PROTOCOLS: Readonly<Record<string, Protocol>> = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' };
const DEFAULT_AFFINITY_SECONDS = 10_800;

/** Services and slices with one of these labels are somebody else's, or nobody's. */
export const NOT_OURS = [
  'service.kubernetes.io/service-proxy-name',
  'service.kubernetes.io/headless',
] as const;

export function isOurs(metadata: { readonly labels?: Readonly<Record<string, string>> }): boolean {
  return !NOT_OURS.some((label) => metadata.labels?.[label] !== undefined);
}

/** Undefined when the Service has nothing to be programmed: headless, an external name, or not ours. */
export function programOf(
  service: Service,
  slices: readonly EndpointSlice[],
  context: ProgramContext,
): ServiceProgram | undefined {
  const { spec = {} } = service;
  if (!isOurs(service.metadata) || spec.type === 'ExternalName') return undefined;
  const clusterIps = (spec.clusterIPs?.length ? spec.clusterIPs : [spec.clusterIP]).flatMap(
    (text) => readAddress(text) ?? [],
  );
  if (clusterIps.length === 0) return undefined;
  const frontends: Frontend[] = [];
  const datagrams: DatagramPort[] = [];
  const hairpins = new Map<string, NetworkAddress>();
  const balancerIps: NetworkAddress[] = [];
  const localReady: Readonly<Record<Family, Set<string>>> = { 4: new Set(), 6: new Set() };
  for (const clusterIp of clusterIps) {
    const { family } = clusterIp;
    const outside = externalAddresses(service, family, context);
    for (const address of balancerAddresses(service, family))
      if (context.isBalancers(address)) balancerIps.push({ family, address });
    for (const port of spec.ports ?? []) {
      const protocol = PROTOCOLS[port.protocol ?? 'TCP'];
      if (!protocol) continue;
      const name = port.name ?? '';
      const backends = backendsOf(slices, family, name, port.protocol ?? 'TCP', context.nodeName);
      const nodePort = port.nodePort ?? 0;
      const portly = { family, protocol, affinity: affinityOf(service, name, protocol, family) };
      const external = nodePort !== 0 || outside.length > 0;
      const policies = policiesOf(service, external);
      const categories = categorize(backends, policies.use, context);
      const internal = treatInternal(categories, policies.internalLocal, context.masqueradeAll);
      frontends.push({ ...portly, ...clusterIp, port: port.port, ...internal, sources: undefined });
      if (external) {
        const treated = treatExternal(categories, policies.externalLocal);
        for (const { address, sources } of outside)
          frontends.push({ ...portly, address, port: port.port, ...treated, sources });
        if (nodePort !== 0)
          frontends.push({ ...portly, address: '', port: nodePort, ...treated, sources: undefined });
      }
      if (protocol === 'udp')
        datagrams.push({
          family,
          addresses: [clusterIp.address, ...outside.map(({ address }) => address)],
          port: port.port,
          nodePort,
          serving: backends.filter(({ serving }) => serving).map(({ address }) => address),
        });
      for (const { address, local, elsewhere, ready } of backends) {
        if (!elsewhere) hairpins.set(address, { family, address });
        if (local && ready) localReady[family].add(address);
      }
    }
  }
  return {
    frontends,
    clusterIps,
    balancerIps,
    hairpins: [...hairpins.values()],
    datagrams,
    health: healthOf(service, Math.max(localReady[4].size, localReady[6].size)),
  };
}

function healthOf({ spec = {} }: Service, localEndpoints: number): HealthCheck | undefined {
  const port = spec.healthCheckNodePort ?? 0;
  if (spec.type !== 'LoadBalancer' || spec.externalTrafficPolicy !== 'Local' || port === 0) return undefined;
  return { port, localEndpoints };
}

function policiesOf({ spec = {} }: Service, external: boolean) {
  const internalLocal = spec.internalTrafficPolicy === 'Local';
  const externalLocal =
    spec.externalTrafficPolicy === 'Local' &&
    (spec.type === 'NodePort' || spec.type === 'LoadBalancer' || (spec.externalIPs?.length ?? 0) > 0);
  return {
    internalLocal,
    externalLocal,
    use: { cluster: !internalLocal || external, local: internalLocal || (externalLocal && external) },
  };
}

type Treated = Pick<Frontend, 'treatment' | 'cluster' | 'local'>;

const REFUSED: Treated = { treatment: { kind: 'refuse' }, cluster: [], local: [] };
const DROPPED: Treated = { treatment: { kind: 'drop' }, cluster: [], local: [] };

function written(backends: readonly Backend[]): string[] {
  return backends.map(({ address, port }) => `${address} . ${port}`);
}

function treatInternal(
  { cluster, local, any }: Categories,
  byLocal: boolean,
  masqueradeAll: boolean,
): Treated {
  if (!any) return REFUSED;
  const masquerade = masqueradeAll ? 'always' : 'outside';
  const list = byLocal ? 'local' : 'cluster';
  const chosen = written(byLocal ? local : cluster);
  if (chosen.length === 0) return DROPPED;
  const none: readonly string[] = [];
  return {
    treatment: { kind: 'spread', list, masquerade },
    cluster: byLocal ? none : chosen,
    local: byLocal ? chosen : none,
  };
}

function treatExternal({ cluster, local, any }: Categories, byLocal: boolean): Treated {
  if (!any) return REFUSED;
  if (byLocal)
    return { treatment: { kind: 'keep-source' }, cluster: written(cluster), local: written(local) };
  return {
    treatment: { kind: 'spread', list: 'cluster', masquerade: 'always' },
    cluster: written(cluster),
    local: [],
  };
}

function affinityOf(
  service: Service,
  port: string,
  protocol: Protocol,
  family: Family,
): Affinity | undefined {
  if (service.spec?.sessionAffinity !== 'ClientIP') return undefined;
  const { namespace = '', name = '' } = service.metadata;
  return {
    scope: `${namespace}/${name}:${port}/${protocol}/${family}`,
    seconds: service.spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY_SECONDS,
  };
}

interface ExternalAddress {
  readonly address: string;
  readonly sources: readonly string[] | undefined;
}

/** External and load-balancer addresses of a family, each once. Source ranges hold for those of the load balancer. */
function externalAddresses(service: Service, family: Family, context: ProgramContext): ExternalAddress[] {
  const found = new Map<string, ExternalAddress>();
  for (const text of service.spec?.externalIPs ?? []) {
    const address = addressOf(text, family);
    if (address !== undefined) found.set(address, { address, sources: undefined });
  }
  const ingress = balancerAddresses(service, family);
  if (ingress.length === 0) return [...found.values()];
  const sources = sourceRanges(service, family, context, ingress);
  for (const address of ingress) if (!found.has(address) || sources) found.set(address, { address, sources });
  return [...found.values()];
}

/** Those whose traffic arrives with the address as its destination. */
function balancerAddresses({ status }: Service, family: Family): string[] {
  return (status?.loadBalancer?.ingress ?? []).flatMap(({ ip, ipMode }) => {
    const address = ipMode === 'Proxy' ? undefined : addressOf(ip, family);
    return address === undefined ? [] : [address];
  });
}

function sourceRanges(
  service: Service,
  family: Family,
  { nodeAddresses }: ProgramContext,
  ingress: readonly string[],
): readonly string[] | undefined {
  const ranges = (service.spec?.loadBalancerSourceRanges ?? []).flatMap((text) => {
    const range = rangeOf(text.trim());
    return range?.family === family ? [range] : [];
  });
  if (ranges.length === 0) return undefined;
  const node = nodeAddresses.flatMap((text) => parseAddress(text) ?? []);
  // An address of the load balancer on this very node is the source of what the node itself sends there.
  if (ranges.some((range) => node.some((address) => contains(range, address))))
    for (const text of ingress) {
      const address = parseAddress(text);
      if (address) ranges.push({ family, base: address.value, prefix: family === 4 ? 32 : 128 });
    }
  return outermost(ranges).map(formatCidr).sort();
}

/** A range however its first address is written: 10.1.2.3/8 is 10.0.0.0/8. */
function rangeOf(text: string): Cidr | undefined {
  const [written = '', length = ''] = text.split('/');
  const address = parseAddress(written);
  if (!address || !/^\d{1,3}$/.test(length)) return undefined;
  const bits = address.family === 4 ? 32 : 128;
  const prefix = Number(length);
  if (prefix > bits) return undefined;
  const hostBits = BigInt(bits - prefix);
  return { family: address.family, base: (address.value >> hostBits) << hostBits, prefix };
}

/** Without the ranges that lie in another: a set of intervals takes none that overlap. */
export function outermost(ranges: readonly Cidr[]): Cidr[] {
  const widest = [...ranges].sort((a, b) => a.prefix - b.prefix);
  return widest.filter((range, i) => !widest.slice(0, i).some((other) => overlap(other, range)));
}

/** Ranges given as options. */
export function parseRanges(texts: readonly string[], what: string): Cidr[] {
  return texts.map((text) => {
    const range = parseCidr(text);
    if (!range) throw new RangeError(`"${text}" is no ${what}: 10.96.0.0/16 or fd00::/112 would be`);
    return range;
  });
}
