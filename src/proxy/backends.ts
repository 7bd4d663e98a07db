// The endpoints of one Service, gathered from its EndpointSlices, and which of them traffic may go to from this node
// (KEP-752, KEP-1669, KEP-4444 and KEP-3015 for hints). Pure.
//
// An endpoint counts once however many slices hold it (it moves between slices, and a slice may be late); slices of
// host names, endpoints without an address and ports without a number are passed over.

import { isIPv4 } from 'node:net';
import type { Endpoint, EndpointSlice } from '../api/types/discovery-v1.ts';
import { type Family, formatAddress, parseAddress } from '../component/index.ts';

export interface Backend {
  /** In the canonical notation. */
  readonly address: string;
  readonly port: number;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** On this node. */
  readonly local: boolean;
  /** On another node; an endpoint that names none is neither. */
  readonly elsewhere: boolean;
  readonly hints: Endpoint['hints'];
}

/** Where the proxy runs. */
export interface NodeTopology {
  readonly nodeName: string;
  /** The value of topology.kubernetes.io/zone; '' when the node has none. */
  readonly zone: string;
}

export interface NetworkAddress {
  readonly family: Family;
  /** In the canonical notation. */
  readonly address: string;
}

/** Undefined when the text is no address. */
export function readAddress(text: string | undefined): NetworkAddress | undefined {
  if (text === undefined) return undefined;
  // There is but one way to write an address of version 4.
  if (isIPv4(text)) return { family: 4, address: text };
  const address = parseAddress(text);
  return address && { family: address.family, address: formatAddress(address) };
}

/** The canonical notation of an address of that family; undefined when the text is none. */
export function addressOf(text: string | undefined, family?: Family): string | undefined {
  const read = readAddress(text);
  return family === undefined || read?.family === family ? read?.address : undefined;
}

export function familyOf(slice: EndpointSlice): Family | undefined {
  if (slice.addressType === 'IPv4') return 4;
  return slice.addressType === 'IPv6' ? 6 : undefined;
}

function validPort(port: number | undefined): port is number {
  return port !== undefined && Number.isInteger(port) && port > 0 && port < 65536;
}

/** What the slices offer for one port of the Service, by name and protocol as in the Service. */
export function backendsOf(
  slices: Iterable<EndpointSlice>,
  family: Family,
  portName: string,
  protocol: string,
  nodeName: string,
): Backend[] {
  const found = new Map<string, Backend>();
  for (const slice of slices) {
    if (familyOf(slice) !== family) continue;
    for (const port of slice.ports ?? []) {
      if ((port.name ?? '') !== portName || (port.protocol ?? 'TCP') !== protocol || !validPort(port.port))
        continue;
      for (const endpoint of slice.endpoints ?? []) {
        const address = addressOf(endpoint.addresses[0], family);
        if (address === undefined) continue;
        const { ready, serving, terminating } = endpoint.conditions ?? {};
        const backend = {
          address,
          port: port.port,
          ready: ready ?? true,
          serving: serving ?? true,
          terminating: terminating ?? false,
          local: endpoint.nodeName === nodeName,
          elsewhere: endpoint.nodeName !== undefined && endpoint.nodeName !== nodeName,
          hints: endpoint.hints,
        };
        const key = `${address} ${port.port}`;
        const known = found.get(key);
        if (!known || rank(backend) > rank(known)) found.set(key, backend);
      }
    }
  }
  return [...found.values()];
}

/** Of two entries for one address the better one counts: a slice that is late still shows how it was. */
function rank({ ready, serving, local }: Backend): number {
  return (ready ? 4 : 0) + (serving ? 2 : 0) + (local ? 1 : 0);
}

export interface TrafficUse {
  /** Some traffic of the port goes by policy Cluster; external traffic from pods and from the host always does. */
  readonly cluster: boolean;
  /** Some traffic of the port goes by policy Local. */
  readonly local: boolean;
}

export interface Categories {
  readonly cluster: readonly Backend[];
  readonly local: readonly Backend[];
  /** Whether there is a usable endpoint anywhere: refuse when not, drop when only this node has none. */
  readonly any: boolean;
}

const draining = (backend: Backend): boolean => backend.serving && backend.terminating;

/** Ready ones, or those that are being drained where no other is left. */
function usable(backends: readonly Backend[], ready: (backend: Backend) => boolean): readonly Backend[] {
  const chosen = backends.filter((backend) => backend.ready && ready(backend));
  return chosen.length > 0 ? chosen : backends.filter(draining);
}

export function categorize(backends: readonly Backend[], use: TrafficUse, node: NodeTopology): Categories {
  const cluster = use.cluster ? usable(backends, availableFor(backends, node)) : [];
  if (!use.local) return { cluster, local: [], any: cluster.length > 0 };
  const here = backends.filter((backend) => backend.local);
  return {
    cluster,
    local: usable(here, () => true),
    any: backends.some((backend) => backend.ready || draining(backend)),
  };
}

/** Hints count only when every ready endpoint has them and one of them means us; nodes before zones. */
function availableFor(backends: readonly Backend[], { nodeName, zone }: NodeTopology) {
  const ready = backends.filter((backend) => backend.ready);
  const forNode = ({ hints }: Backend): boolean =>
    hints?.forNodes?.some(({ name }) => name === nodeName) === true;
  const forZone = ({ hints }: Backend): boolean =>
    zone !== '' && hints?.forZones?.some(({ name }) => name === zone) === true;
  if (ready.every(({ hints }) => (hints?.forNodes?.length ?? 0) > 0) && ready.some(forNode)) return forNode;
  if (ready.every(({ hints }) => (hints?.forZones?.length ?? 0) > 0) && ready.some(forZone)) return forZone;
  return () => true;
}
