// The IPAddress objects that stand for cluster IPs (KEP-1880): each address that a Service has is an object of that
// name which refers to the Service, so that the store itself keeps an address from being given twice. Pure.

import type { GroupVersionResource } from '../../api/object.ts';
import type { ServiceSpec } from '../../api/types/core-v1.ts';
import type { IPAddress } from '../../api/types/networking-v1.ts';
import type { SeedObject } from '../chain.ts';
import { addressFamily, canonicalAddress, isAddress } from './ip.ts';

export const IP_ADDRESSES: GroupVersionResource = {
  group: 'networking.k8s.io',
  version: 'v1',
  resource: 'ipaddresses',
};

const FAMILY = 'ipaddress.kubernetes.io/ip-family';
const MANAGED_BY = 'ipaddress.kubernetes.io/managed-by';
const ALLOCATOR = 'ipallocator.k8s.io';

/** As stored, but for what the server sets in metadata. `address` is canonical. */
export function ipAddressObject(address: string, namespace: string, name: string): SeedObject {
  return {
    metadata: {
      name: address,
      labels: { [FAMILY]: addressFamily(address), [MANAGED_BY]: ALLOCATOR },
    },
    spec: { parentRef: { resource: 'services', namespace, name } },
  };
}

/** Whether the allocator of service addresses made it: others' objects are left alone. */
export function isAllocated({ metadata }: IPAddress): boolean {
  return metadata.labels?.[MANAGED_BY] === ALLOCATOR;
}

/** Whether its labels are those that the allocator gives it. */
export function hasRightLabels(object: IPAddress): boolean {
  const { name, labels } = object.metadata;
  return isAllocated(object) && isAddress(name) && labels?.[FAMILY] === addressFamily(name);
}

export function refersToService({ spec }: IPAddress): boolean {
  const { group = '', resource = '' } = spec?.parentRef ?? {};
  return group === '' && resource === 'services';
}

export function belongsTo(object: IPAddress, namespace: string, name: string): boolean {
  const parent = object.spec?.parentRef;
  return refersToService(object) && parent?.namespace === namespace && parent.name === name;
}

/** The canonical cluster IPs of a Service; none for headless ones and mere names. */
export function clusterAddresses(spec: ServiceSpec | undefined): string[] {
  if (spec === undefined || spec.type === 'ExternalName') return [];
  return (spec.clusterIPs ?? []).filter(isAddress).map(canonicalAddress);
}
