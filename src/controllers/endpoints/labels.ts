// Labels of EndpointSlices: whose they are, and who keeps them.

import type { EndpointSlice } from '../../api/types/discovery-v1.ts';

export const SERVICE_NAME = 'kubernetes.io/service-name';
export const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by';
export const HEADLESS = 'service.kubernetes.io/headless';
export const SKIP_MIRROR = 'endpointslice.kubernetes.io/skip-mirror';

/** The key of the Service whose slice it is, when `manager` keeps it. As an index function: none or one. */
export function serviceOfManaged(slice: EndpointSlice, manager: string): readonly string[] {
  const labels = slice.metadata.labels ?? {};
  const name = labels[SERVICE_NAME];
  return name && labels[MANAGED_BY] === manager ? [`${slice.metadata.namespace}/${name}`] : [];
}
