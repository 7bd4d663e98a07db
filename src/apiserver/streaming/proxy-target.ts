// What `[scheme:]name[:port]` in a proxy URL leads to: a pod's own address, one of a service's endpoints, a node. The
// URL is the client's, so addresses that would lead into this server's own machine are refused.

import { badRequest, goQuote, notFound, serviceUnavailable } from '../../api/index.ts';
import type { Endpoints, Node, ObjectReference, Pod, Service, ServicePort } from '../../api/types/core-v1.ts';
import type { EndpointSlice } from '../../api/types/discovery-v1.ts';
import { isAddress, parseAddress, parseCidr, rangeHolds } from '../admission/ip.ts';
import type { HandlerContext, ObjectReader } from '../chain.ts';
import type { Kubelets } from './kubelets.ts';
import type { Backend } from './relay.ts';

export interface ProxyName {
  readonly scheme: 'http' | 'https' | '';
  readonly name: string;
  readonly port: string;
}

/** Splits `https:web:8443`, `web:http`, `web`. Throws 400 for anything else. */
export function parseProxyName(text: string, what: string): ProxyName {
  const parts = text.split(':');
  const [first = '', second = '', third = ''] = parts;
  const wrong = (): Error => badRequest(`invalid ${what} request ${goQuote(text)}`);
  if (parts.length > 3) throw wrong();
  if (parts.length === 3) {
    if (first !== '' && first !== 'http' && first !== 'https') throw wrong();
    return { scheme: first as ProxyName['scheme'], name: second, port: third };
  }
  return { scheme: '', name: first, port: second };
}

const LOCAL = [
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/24',
  '0.0.0.0/32',
  '::1/128',
  '::/128',
  'fe80::/10',
  'ff02::/16',
].map(parseCidr);

/** False when the address would lead to this machine or its link. */
export function isProxyable(address: string): boolean {
  if (!isAddress(address)) return false;
  // An IPv4 address in IPv6 clothes leads to the same place.
  const { family, value } = parseAddress(address);
  const mapped = family === 'IPv6' && value >> 32n === 0xffffn;
  const plain = mapped ? [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join('.') : address;
  return !LOCAL.some((range) => rangeHolds(range, plain));
}

const portNumber = (text: string): number | undefined => {
  if (!/^[0-9]{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port >= 1 && port <= 65535 ? port : undefined;
};

/** Whoever proxies names `https:` and has no CA to check with; upstream does not check either. */
const backend = (scheme: string, host: string, port: number): Backend => ({
  tls: scheme === 'https',
  host,
  port,
  verify: false,
});

export interface ProxyTargetOptions {
  readonly reader: ObjectReader;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Which addresses may be proxied to; isProxyable unless a test says otherwise. */
  readonly proxyable?: (address: string) => boolean;
}

function mustBeProxyable({ proxyable = isProxyable }: ProxyTargetOptions, address: string): void {
  if (!proxyable(address)) throw badRequest('address not allowed');
}

export async function podBackend(options: ProxyTargetOptions, context: HandlerContext): Promise<Backend> {
  const { reader } = options;
  const { scheme, name, port: asked } = parseProxyName(context.name, 'pod');
  const pod = await reader.getFresh<Pod>('', 'pods', context.namespace, name);
  if (!pod) throw notFound({ group: '', name: 'pods' }, name);
  let port = portNumber(asked);
  if (asked === '') {
    const declared = pod.spec.containers
      .flatMap((container) => container.ports ?? [])
      .find(({ containerPort }) => containerPort > 0);
    port = declared?.containerPort ?? (scheme === 'https' ? 443 : 80);
  }
  if (port === undefined) throw badRequest(`invalid port ${goQuote(asked)} in a pod request`);
  mustBeProxyable(options, pod.status?.podIP ?? '');
  return backend(scheme, pod.status?.podIP ?? '', port);
}

interface Endpoint {
  readonly address: string;
  readonly port: number;
  readonly targetRef?: ObjectReference;
}

/** The ready endpoints of a port, from slices, or from the older Endpoints where somebody keeps them by hand. */
function endpointsOf(reader: ObjectReader, namespace: string, service: string, portName: string): Endpoint[] {
  const found: Endpoint[] = [];
  const add = (address: string, port: number, targetRef: ObjectReference | undefined): void => {
    found.push({ address, port, ...(targetRef === undefined ? {} : { targetRef }) });
  };
  for (const slice of reader.list<EndpointSlice>('discovery.k8s.io', 'endpointslices', namespace)) {
    if (slice.metadata.labels?.['kubernetes.io/service-name'] !== service || slice.addressType === 'FQDN')
      continue;
    const port = slice.ports?.find(({ name }) => (name ?? '') === portName)?.port;
    if (port === undefined) continue;
    for (const { addresses, conditions, targetRef } of slice.endpoints ?? [])
      if (conditions?.ready !== false) for (const address of addresses) add(address, port, targetRef);
  }
  if (found.length > 0) return found;
  const endpoints = reader.get<Endpoints>('', 'endpoints', namespace, service);
  for (const subset of endpoints?.subsets ?? []) {
    const port = subset.ports?.find(({ name }) => (name ?? '') === portName)?.port;
    if (port === undefined) continue;
    for (const { ip, targetRef } of subset.addresses ?? []) add(ip, port, targetRef);
  }
  return found;
}

/**
 * Only what is really a pod of this namespace: whoever may write endpoints must not reach, through this server, what
 * the network keeps from them.
 */
function isPodsOwn(reader: ObjectReader, namespace: string, { address, targetRef }: Endpoint): boolean {
  if (targetRef?.kind !== 'Pod' || targetRef.namespace !== namespace) return false;
  const pod = reader.get<Pod>('', 'pods', namespace, targetRef.name ?? '');
  const { podIP, podIPs = [] } = pod?.status ?? {};
  return address === podIP || podIPs.some(({ ip }) => ip === address);
}

export async function serviceBackend(options: ProxyTargetOptions, context: HandlerContext): Promise<Backend> {
  const { reader, random } = options;
  const { namespace } = context;
  const { scheme, name, port: asked } = parseProxyName(context.name, 'service');
  const service = await reader.getFresh<Service>('', 'services', namespace, name);
  if (!service) throw notFound({ group: '', name: 'services' }, name);
  const ports = service.spec.ports ?? [];
  const number = /^[0-9]+$/.test(asked) ? Number(asked) : undefined;
  const chosen: ServicePort | undefined =
    asked === ''
      ? ports.length === 1
        ? ports[0]
        : ports.find((port) => (port.name ?? '') === '')
      : number === undefined
        ? ports.find((port) => port.name === asked)
        : ports.find(({ port }) => port === number);
  if (number !== undefined && !chosen)
    throw serviceUnavailable(`no service port ${number} found for service ${goQuote(name)}`);
  const none = (what: string): Error =>
    serviceUnavailable(`no endpoints available for service ${goQuote(what)}`);
  if (!chosen) throw none(context.name);
  const endpoints = endpointsOf(reader, namespace, name, chosen.name ?? '');
  if (endpoints.length === 0) throw none(name);
  // From a random one on; in the usual case the first one will do.
  const start = Math.floor(random() * endpoints.length);
  for (let i = 0; i < endpoints.length; i++) {
    const endpoint = endpoints[(start + i) % endpoints.length]!;
    if (!isPodsOwn(reader, namespace, endpoint)) continue;
    mustBeProxyable(options, endpoint.address);
    return backend(scheme, endpoint.address, endpoint.port);
  }
  throw none(context.name);
}

/** The node's kubelet, or, when another port is named, whatever listens there. */
export async function nodeBackend(
  options: ProxyTargetOptions,
  kubelets: Kubelets,
  context: HandlerContext,
): Promise<Backend> {
  const { reader } = options;
  const { scheme, name, port: asked } = parseProxyName(context.name, 'node');
  const node = await reader.getFresh<Node>('', 'nodes', '', name);
  if (!node) throw notFound({ group: '', name: 'nodes' }, name);
  const kubelet = kubelets.backend(name);
  if (asked === '' || Number(asked) === kubelet.port) return kubelet;
  const port = portNumber(asked);
  if (port === undefined) throw badRequest(`invalid port ${goQuote(asked)} in a node request`);
  mustBeProxyable(options, kubelet.host);
  return backend(scheme, kubelet.host, port);
}
