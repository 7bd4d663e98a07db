// How an Endpoints object is laid out in EndpointSlices: for each address family and set of ports one slice, of at most
// a thousand endpoints. Pure; follows upstream's endpointslicemirroring reconciler.

import { isIPv4, isIPv6 } from 'node:net';
import type { EndpointAddress, Endpoints } from '../../api/types/core-v1.ts';
import type { Endpoint, EndpointPort, EndpointSlice } from '../../api/types/discovery-v1.ts';
import { sameValue } from '../same-value.ts';
import type { AddressFamily } from './backends.ts';
import { MANAGED_BY, SERVICE_NAME } from './labels.ts';
import { portsKey } from './slice-plan.ts';

/** Upstream's --mirroring-max-endpoints-per-subset. */
export const MOST_MIRRORED = 1000;
export const MIRRORING = 'endpointslicemirroring-controller.k8s.io';
/** Of the Endpoints alone: annotations that its slices do not take over. */
const NOT_MIRRORED = [
  'endpoints.kubernetes.io/last-change-trigger-time',
  'kubectl.kubernetes.io/last-applied-configuration',
];

export interface MirroredSlice {
  readonly addressType: AddressFamily;
  readonly ports: EndpointPort[];
  readonly endpoints: Endpoint[];
}

export interface Mirrored {
  readonly slices: readonly MirroredSlice[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Addresses that are none. */
  readonly invalid: number;
  /** Addresses that were left out for being too many, or invalid. */
  readonly skipped: number;
}

export interface MirrorPlan {
  readonly create: readonly MirroredSlice[];
  readonly update: readonly { readonly slice: EndpointSlice; readonly wanted: MirroredSlice }[];
  readonly delete: readonly EndpointSlice[];
}

/** What the slices of an Endpoints object should be. */
export function mirrored(endpoints: Endpoints): Mirrored {
  interface Group {
    readonly addressType: AddressFamily;
    readonly ports: EndpointPort[];
    readonly endpoints: Map<string, Endpoint>;
  }
  const groups = new Map<string, Group>();
  let invalid = 0;
  let skipped = 0;
  for (const { addresses = [], notReadyAddresses = [], ports: own = [] } of endpoints.subsets ?? []) {
    const ports = own.map(
      ({ name = '', port, protocol = 'TCP', appProtocol }): EndpointPort => ({
        name,
        protocol,
        port,
        ...(appProtocol === undefined ? {} : { appProtocol }),
      }),
    );
    let added = 0;
    const add = (address: EndpointAddress, ready: boolean): void => {
      if (added >= MOST_MIRRORED) return;
      const addressType = isIPv4(address.ip) ? 'IPv4' : isIPv6(address.ip) ? 'IPv6' : undefined;
      if (addressType === undefined) {
        invalid++;
        return;
      }
      const key = `${addressType} ${portsKey(ports)}`;
      let group = groups.get(key);
      if (group === undefined) {
        group = { addressType, ports, endpoints: new Map() };
        groups.set(key, group);
      }
      const endpoint = endpointOf(address, ready);
      group.endpoints.set(identity(endpoint), endpoint);
      added++;
    };
    for (const address of addresses) add(address, true);
    for (const address of notReadyAddresses) add(address, false);
    skipped += addresses.length + notReadyAddresses.length - added;
  }
  const annotations = { ...endpoints.metadata.annotations };
  for (const name of NOT_MIRRORED) delete annotations[name];
  return {
    slices: [...groups.values()].map((group) => ({
      addressType: group.addressType,
      ports: group.ports,
      endpoints: [...group.endpoints.values()].slice(0, MOST_MIRRORED),
    })),
    labels: {
      ...endpoints.metadata.labels,
      [SERVICE_NAME]: endpoints.metadata.name,
      [MANAGED_BY]: MIRRORING,
    },
    annotations,
    invalid,
    skipped,
  };
}

/** How the slices that there are become those that should be. */
export function planMirror(existing: readonly EndpointSlice[], wanted: Mirrored): MirrorPlan {
  const create: MirroredSlice[] = [];
  const update: { slice: EndpointSlice; wanted: MirroredSlice }[] = [];
  const left = new Set(existing);
  for (const one of wanted.slices) {
    const key = portsKey(one.ports);
    const slice = existing.find(
      (candidate) =>
        left.has(candidate) &&
        candidate.addressType === one.addressType &&
        portsKey(candidate.ports ?? []) === key,
    );
    if (slice === undefined) {
      create.push(one);
      continue;
    }
    left.delete(slice);
    if (!isAsWanted(slice, one, wanted)) update.push({ slice, wanted: one });
  }
  // A slice that would go is better filled anew than replaced: its name stays.
  for (const slice of left) {
    const index = create.findIndex(({ addressType }) => addressType === slice.addressType);
    if (index < 0) continue;
    const [one] = create.splice(index, 1);
    left.delete(slice);
    update.push({ slice, wanted: one! });
  }
  return { create, update, delete: [...left] };
}

function isAsWanted(slice: EndpointSlice, one: MirroredSlice, { labels, annotations }: Mirrored): boolean {
  const { endpoints = [], metadata } = slice;
  if (endpoints.length !== one.endpoints.length) return false;
  if (!sameValue(metadata.labels, labels) || !sameValue(metadata.annotations, annotations)) return false;
  const byIdentity = new Map(endpoints.map((endpoint) => [identity(endpoint), endpoint]));
  return one.endpoints.every((endpoint) => sameValue(byIdentity.get(identity(endpoint)), endpoint));
}

function endpointOf({ ip, hostname, nodeName, targetRef }: EndpointAddress, ready: boolean): Endpoint {
  return {
    addresses: [ip],
    conditions: { ready },
    ...(hostname ? { hostname } : {}),
    ...(targetRef === undefined ? {} : { targetRef }),
    ...(nodeName === undefined ? {} : { nodeName }),
  };
}

/** Two addresses that differ in these are two endpoints. */
function identity({ addresses, hostname = '', targetRef }: Endpoint): string {
  return JSON.stringify([
    addresses,
    hostname,
    targetRef?.kind,
    targetRef?.namespace,
    targetRef?.name,
    targetRef?.uid,
  ]);
}
