// How the API server makes itself known inside the cluster: the Service `kubernetes` in `default` (the first address
// of the service range), its Endpoints and EndpointSlice, and the ServiceCIDR that names the range.

import type { Draft } from '../../api/object.ts';
import type { Endpoints, Service } from '../../api/types/core-v1.ts';
import type { EndpointSlice } from '../../api/types/discovery-v1.ts';
import type { ServiceCIDR } from '../../api/types/networking-v1.ts';
import { addressFamily, formatAddress, parseCidr } from '../admission/ip.ts';

export interface KubernetesServiceOptions {
  /** The service range, e.g. 10.96.0.0/12; a second one of the other family makes the cluster dual stack. */
  readonly serviceCidrs: readonly string[];
  /** Where this server listens, for the Service's targetPort; 6443 when absent. */
  readonly port?: number;
}

/** The first address of a service range like `10.96.0.0/12`: the Service `kubernetes` has it. */
export function firstServiceAddress(text: string): string {
  const range = parseCidr(text);
  return formatAddress(range.first + 1n, range.family);
}

export function kubernetesService(
  options: KubernetesServiceOptions,
): Draft<Service> & { readonly metadata: { readonly name: string } } {
  const primary = options.serviceCidrs[0];
  if (primary === undefined) throw new TypeError('serviceCidrs: at least one service range is needed');
  const clusterIP = firstServiceAddress(primary);
  return {
    metadata: {
      name: 'kubernetes',
      namespace: 'default',
      labels: { component: 'apiserver', provider: 'kubernetes' },
    },
    spec: {
      type: 'ClusterIP',
      clusterIP,
      clusterIPs: [clusterIP],
      ipFamilies: [addressFamily(clusterIP)],
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: 'Cluster',
      sessionAffinity: 'None',
      ports: [{ name: 'https', protocol: 'TCP', port: 443, targetPort: options.port ?? 6443 }],
    },
  };
}

export function kubernetesEndpoints(advertise: {
  address: string;
  port: number;
}): Draft<Endpoints> & { readonly metadata: { readonly name: string } } {
  return {
    metadata: {
      name: 'kubernetes',
      namespace: 'default',
      labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' },
    },
    subsets: [
      {
        addresses: [{ ip: advertise.address }],
        ports: [{ name: 'https', port: advertise.port, protocol: 'TCP' }],
      },
    ],
  };
}

export function kubernetesEndpointSlice(advertise: {
  address: string;
  port: number;
}): Draft<EndpointSlice> & { readonly metadata: { readonly name: string } } {
  return {
    metadata: {
      name: 'kubernetes',
      namespace: 'default',
      labels: { 'kubernetes.io/service-name': 'kubernetes' },
    },
    addressType: addressFamily(advertise.address),
    endpoints: [{ addresses: [advertise.address], conditions: { ready: true } }],
    ports: [{ name: 'https', port: advertise.port, protocol: 'TCP' }],
  };
}

export function defaultServiceCidr(
  options: KubernetesServiceOptions,
): Draft<ServiceCIDR> & { readonly metadata: { readonly name: string } } {
  return {
    metadata: { name: 'kubernetes' },
    spec: { cidrs: [...options.serviceCidrs] },
  };
}
