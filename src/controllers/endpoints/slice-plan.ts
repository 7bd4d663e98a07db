// How the endpoints of a Service are laid out in EndpointSlices of at most a hundred, changing as few slices as can be:
// every changed slice is sent to every node. The order of preference is upstream's (endpointslice/reconciler): change
// what must change anyway, fill those first, then one slice with room, then new ones. Pure.

import type { Endpoint, EndpointPort, EndpointSlice } from '../../api/types/discovery-v1.ts';
import { sameValue } from '../same-value.ts';
import type { BackendPort } from './backends.ts';

export const MOST_ENDPOINTS = 100;

/** Endpoints that share their ports, and so their slices. */
export interface PortGroup {
  readonly ports: readonly BackendPort[];
  readonly endpoints: Endpoint[];
}

export interface SliceDraft {
  readonly ports: EndpointPort[];
  readonly endpoints: Endpoint[];
}

export interface SlicePlan {
  readonly create: SliceDraft[];
  readonly update: { readonly slice: EndpointSlice; readonly endpoints: Endpoint[] }[];
  readonly delete: EndpointSlice[];
}

/** `existing`: all slices of the Service and of this address family. */
export function planSlices(existing: readonly EndpointSlice[], groups: Iterable<PortGroup>): SlicePlan {
  const plan: SlicePlan = { create: [], update: [], delete: [] };
  const byPorts = new Map<string, EndpointSlice[]>();
  for (const slice of existing) {
    const key = portsKey(slice.ports ?? []);
    const same = byPorts.get(key);
    if (same) same.push(slice);
    else byPorts.set(key, [slice]);
  }
  for (const { ports, endpoints } of groups) {
    const key = portsKey(ports);
    planGroup(byPorts.get(key) ?? [], ports, endpoints, plan);
    byPorts.delete(key);
  }
  for (const slices of byPorts.values()) plan.delete.push(...slices);
  // A Service without endpoints has one empty slice, so that consumers can tell "none" from "not yet known".
  if (plan.create.length === 0 && plan.delete.length === existing.length) {
    const placeholder = plan.delete.findIndex((slice) => !slice.endpoints?.length && !slice.ports?.length);
    if (placeholder >= 0) plan.delete.splice(placeholder, 1);
    else plan.create.push({ ports: [], endpoints: [] });
  }
  return plan;
}

function planGroup(
  existing: readonly EndpointSlice[],
  ports: readonly BackendPort[],
  endpoints: readonly Endpoint[],
  plan: SlicePlan,
): void {
  const missing = new Map(endpoints.map((endpoint) => [identity(endpoint), endpoint]));
  const changed: { readonly slice: EndpointSlice; readonly endpoints: Endpoint[] }[] = [];
  const unchanged: EndpointSlice[] = [];
  for (const slice of existing) {
    const kept: Endpoint[] = [];
    let differs = false;
    for (const old of slice.endpoints ?? []) {
      const id = identity(old);
      const wanted = missing.get(id);
      if (!wanted) {
        differs = true;
        continue;
      }
      missing.delete(id);
      if (!sameValue(old, wanted)) differs = true;
      kept.push(wanted);
    }
    if (kept.length === 0) plan.delete.push(slice);
    else if (differs) changed.push({ slice, endpoints: kept });
    else unchanged.push(slice);
  }
  const left = [...missing.values()];
  // Fullest first: the fewer slices have room, the fewer there will be.
  changed.sort((a, b) => b.endpoints.length - a.endpoints.length);
  for (const { endpoints: kept } of changed)
    while (left.length > 0 && kept.length < MOST_ENDPOINTS) kept.push(left.shift()!);
  while (left.length >= MOST_ENDPOINTS)
    plan.create.push({ ports: wirePorts(ports), endpoints: left.splice(0, MOST_ENDPOINTS) });
  if (left.length > 0) {
    const roomy = unchanged
      .filter((slice) => (slice.endpoints?.length ?? 0) + left.length <= MOST_ENDPOINTS)
      .sort((a, b) => (b.endpoints?.length ?? 0) - (a.endpoints?.length ?? 0))[0];
    if (roomy) changed.push({ slice: roomy, endpoints: [...(roomy.endpoints ?? []), ...left] });
    else plan.create.push({ ports: wirePorts(ports), endpoints: left });
  }
  plan.update.push(...changed);
  // Slices about to be deleted are better reused than made anew: an update keeps their name.
  while (plan.delete.length > 0 && plan.create.length > 0) {
    const at = plan.delete.findIndex(
      (slice) => portsKey(slice.ports ?? []) === portsKey(plan.create[0]!.ports),
    );
    if (at < 0) break;
    const [slice] = plan.delete.splice(at, 1);
    const [draft] = plan.create.splice(0, 1);
    plan.update.push({ slice: slice!, endpoints: draft!.endpoints });
  }
}

export function portsKey(ports: readonly EndpointPort[]): string {
  return JSON.stringify(
    ports
      .map(({ name = '', protocol = 'TCP', port, appProtocol }) => [
        name,
        protocol,
        port,
        appProtocol ?? null,
      ])
      .toSorted((a, b) => (String(a) < String(b) ? -1 : 1)),
  );
}

function wirePorts(ports: readonly BackendPort[]): EndpointPort[] {
  return ports.map((port) => ({ ...port }));
}

/** The pod behind the address: a pod that changes stays in its slice. */
function identity({ targetRef, addresses }: Endpoint): string {
  return `${targetRef?.uid ?? ''} ${addresses.join()}`;
}
