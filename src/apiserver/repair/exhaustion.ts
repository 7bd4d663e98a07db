// Says where an operator looks what is wrong with the ranges that Services live from: that the default ServiceCIDR is
// not the configured one, and that Services are refused because no address or node port is left: a Warning about the
// ServiceCIDR `kubernetes`, and one about the Service that wanted a node port, or, while it is not there yet, about the
// Service `kubernetes` in `default`, which every cluster has. At most one a minute of each; the client that asked gets
// upstream's error in any case.

import type { ObjectReference, Service } from '../../api/types/core-v1.ts';
import type { ServiceCIDR } from '../../api/types/networking-v1.ts';
import type { Exhaustion } from '../admission/service-addresses.ts';
import { DEFAULT_SERVICE_CIDR_NAME } from '../admission/service-ranges.ts';
import type { ObjectReader } from '../chain.ts';
import type { ServerEvents } from '../events.ts';
import { referenceToService } from './cluster-addresses.ts';

export function reportExhaustion(reader: ObjectReader, events: ServerEvents, exhaustion: Exhaustion): void {
  const { of, ranges, namespace, name, service } = exhaustion;
  const wanted = `Service ${namespace}/${name} did not get one`;
  if (of === 'clusterIP') {
    const full =
      ranges.length === 0 ? 'no ServiceCIDR is ready' : `Service CIDR is full: ${ranges.join(', ')}`;
    events.warn({
      about: defaultServiceCidr(reader),
      reason: 'ServiceCIDRFull',
      message: `${full}; you must add a ServiceCIDR or delete services in order to create new services (${wanted})`,
      component: 'ipallocator-repair-controller',
      series: ranges.join(),
    });
    return;
  }
  const own = service ?? reader.get<Service>('', 'services', 'default', 'kubernetes');
  if (own === undefined) return;
  events.warn({
    about: referenceToService(own),
    reason: 'PortRangeFull',
    message: `Port range ${ranges.join(', ')} is full; you must widen the port range or delete services with node ports in order to create new ones (${wanted})`,
    component: 'portallocator-repair-controller',
    series: ranges.join(),
  });
}

function defaultServiceCidr(reader: ObjectReader): ObjectReference {
  const group = 'networking.k8s.io';
  const cidr = reader.get<ServiceCIDR>(group, 'servicecidrs', '', DEFAULT_SERVICE_CIDR_NAME);
  return {
    kind: 'ServiceCIDR',
    apiVersion: `${group}/v1`,
    name: DEFAULT_SERVICE_CIDR_NAME,
    ...(cidr === undefined ? {} : { uid: cidr.metadata.uid }),
  };
}

/** Tells that the default ServiceCIDR was made for another range than the server is started with; it stays as it is. */
export function reportOtherRanges(
  reader: ObjectReader,
  events: ServerEvents,
  configured: readonly string[],
): void {
  const cidr = reader.get<ServiceCIDR>('networking.k8s.io', 'servicecidrs', '', DEFAULT_SERVICE_CIDR_NAME);
  const have = cidr?.spec?.cidrs ?? [];
  if (cidr === undefined || have.join() === configured.join()) return;
  events.warn({
    about: defaultServiceCidr(reader),
    reason: 'KubernetesDefaultServiceCIDRInconsistent',
    message: `The default ServiceCIDR [${have.join(' ')}] does not match the controller flag configurations [${configured.join(' ')}]`,
    component: 'kubernetes-service-cidr-controller',
  });
}
