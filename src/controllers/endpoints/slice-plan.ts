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
  endpoints: Endpoint[];
}

export interface SliceUpdate extends SliceDraft {
  readonly slice: EndpointSlice;
}

export interface SlicePlan {
  readonly create: SliceDraft[];
  readonly update: SliceUpdate[];
  readonly delete: EndpointSlice[];
}

export interface PlanOptions {
  /** Hints are given out afterwards over the whole plan: those that there are count as right. */
  readonly ignoreHints?: boolean;
}

/** `existing`: all slices of the Service and of this address family. */
export function planSlices(
  existing: readonly EndpointSlice[],
  groups: Iterable<PortGroup>,
  options: PlanOptions = {},
): SlicePlan {
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
    planGroup(byPorts.get(key) ?? [], ports, endpoints, plan, options);
    byPorts.delete(key);
  }
  for (const slices of byPorts.values()) plan.delete.push(...slices);
  // A Service without endpoints has one empty slice, so that consumers can tell "none" from "not yet known".
  if (plan.create.length === 0 && plan.delete.length === existing.length) {
    const placeholder = plan.delete.findIndex((slice) => !slice.endpoints?.length && !slice.ports?.length);
    if (placeholder >= 0) plan.delete.splice(placeholder, 1);
    else plan.create.push({ ports: [], endpoints: [] });
  }
  // Slices about to be deleted are better filled anew than replaced: an update keeps their name.
  while (plan.delete.length > 0 && plan.create.length > 0) {
    const { ports, endpoints } = plan.create.pop()!;
    plan.update.push({ slice: plan.delete.shift()!, ports, endpoints });
  }
  return plan;
}

function planGroup(
  existing: readonly EndpointSlice[],
  ports: readonly BackendPort[],
  endpoints: readonly Endpoint[],
  plan: SlicePlan,
  options: PlanOptions,
): void {
  const missing = new Map(endpoints.map((endpoint) => [identity(endpoint), endpoint]));
  const changed: SliceUpdate[] = [];
  const unchanged: EndpointSlice[] = [];
  const wire = wirePorts(ports);
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
      if (!sameEndpoint(old, wanted, options)) differs = true;
      kept.push(wanted);
    }
    if (kept.length === 0) plan.delete.push(slice);
    else if (differs) changed.push({ slice, ports: wire, endpoints: kept });
    else unchanged.push(slice);
  }
  const left = [...missing.values()];
  let next = 0;
  const remaining = (): number => left.length - next;
  const take = (count: number): Endpoint[] => {
    const taken = left.slice(next, next + count);
    next += taken.length;
    return taken;
  };
  // Fullest first: the fewer slices have room, the fewer there will be.
  changed.sort((a, b) => b.endpoints.length - a.endpoints.length);
  for (const { endpoints: kept } of changed) kept.push(...take(Math.max(0, MOST_ENDPOINTS - kept.length)));
  while (remaining() >= MOST_ENDPOINTS) plan.create.push({ ports: wire, endpoints: take(MOST_ENDPOINTS) });
  if (remaining() > 0) {
    const roomy = unchanged
      .filter((slice) => (slice.endpoints?.length ?? 0) + remaining() <= MOST_ENDPOINTS)
      .sort((a, b) => (b.endpoints?.length ?? 0) - (a.endpoints?.length ?? 0))[0];
    const rest = take(remaining());
    if (roomy) changed.push({ slice: roomy, ports: wire, endpoints: [...(roomy.endpoints ?? []), ...rest] });
    else plan.create.push({ ports: wire, endpoints: rest });
  }
  plan.update.push(...changed);
}

export function portsKey(ports: readonly EndpointPort[]): string {
  const texts = ports.map(({ name = '', protocol = 'TCP', port, appProtocol }) =>
    JSON.stringify([name, protocol, port, appProtocol ?? null]),
  );
  return (texts.length > 1 ? texts.sort() : texts).join();
}

function wirePorts(ports: readonly BackendPort[]): EndpointPort[] {
  return ports.map((port) => ({ ...port }));
}

/** The pod behind the address: a pod that changes stays in its slice. */
function identity({ targetRef, addresses }: Endpoint): string {
  return `${targetRef?.uid ?? ''} ${addresses.length === 1 ? addresses[0] : addresses.join()}`;
}

/** Of the same identity. Field by field: thousands are compared whenever one pod changes. */
function sameEndpoint(a: Endpoint, b: Endpoint, { ignoreHints = false }: PlanOptions): boolean {
  return (
    a.conditions?.ready === b.conditions?.ready &&
    a.conditions?.serving === b.conditions?.serving &&
    a.conditions?.terminating === b.conditions?.terminating &&
    a.nodeName === b.nodeName &&
    a.zone === b.zone &&
    a.hostname === b.hostname &&
    a.targetRef?.kind === b.targetRef?.kind &&
    a.targetRef?.name === b.targetRef?.name &&
    a.targetRef?.namespace === b.targetRef?.namespace &&
    (ignoreHints || a.hints === b.hints || sameValue(a.hints, b.hints)) &&
    (a.deprecatedTopology === undefined || sameValue(a.deprecatedTopology, b.deprecatedTopology))
  );
}
