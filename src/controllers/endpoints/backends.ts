// Which pods stand behind a Service, under which addresses and ports. Shared by EndpointSlices and Endpoints. Pure.

import { isPodReady, isSidecar } from '../../api/index.ts';
import type { Pod, Service, ServicePort } from '../../api/types/core-v1.ts';

export type AddressFamily = 'IPv4' | 'IPv6';

export interface BackendPort {
  readonly name: string;
  readonly protocol: 'SCTP' | 'TCP' | 'UDP';
  readonly port: number;
  readonly appProtocol?: string;
}

export function isHeadless(service: Service): boolean {
  return service.spec?.clusterIP === 'None';
}

/** An empty selector is none: Services have always been stored so. */
export function hasSelector(service: Service): boolean {
  for (const _key in service.spec?.selector) return true;
  return false;
}

/** A Service whose endpoints are ours to make: with a selector, and not a mere name. */
export function hasBackends(service: Service): boolean {
  return hasSelector(service) && service.spec?.type !== 'ExternalName';
}

/** The families that the Service's endpoints have addresses of, the primary one first. */
export function familiesOf(service: Service): AddressFamily[] {
  const families = (service.spec?.ipFamilies ?? []).filter(
    (family) => family === 'IPv4' || family === 'IPv6',
  );
  if (families.length > 0) return families;
  const { clusterIP = '' } = service.spec ?? {};
  return [clusterIP.includes(':') ? 'IPv6' : 'IPv4'];
}

export function addressOf(pod: Pod, family: AddressFamily): string | undefined {
  const ips = pod.status?.podIPs?.map(({ ip }) => ip) ?? (pod.status?.podIP ? [pod.status.podIP] : []);
  return ips.find((ip) => ip.includes(':') === (family === 'IPv6'));
}

/** A pod that has an address and may still serve; terminating ones only where they are asked for. */
export function mayServe(pod: Pod, includeTerminating: boolean): boolean {
  if (!pod.status?.podIP && !pod.status?.podIPs?.length) return false;
  const { phase } = pod.status;
  if (phase === 'Failed' || phase === 'Succeeded') return false;
  return includeTerminating || pod.metadata.deletionTimestamp === undefined;
}

/** The hostname under which DNS finds this one pod; undefined when it has none in this Service. */
export function hostnameOf(pod: Pod, service: Service): string | undefined {
  const { hostname, subdomain } = pod.spec;
  return hostname &&
    subdomain === service.metadata.name &&
    pod.metadata.namespace === service.metadata.namespace
    ? hostname
    : undefined;
}

/** The Service's ports as this pod has them; named ones that the pod does not have are left out. */
export function portsOf(service: Service, pod: Pod): BackendPort[] {
  return (service.spec?.ports ?? []).flatMap((port) => {
    const number = targetPort(port, pod);
    if (number === undefined) return [];
    return [
      {
        name: port.name ?? '',
        protocol: port.protocol ?? 'TCP',
        port: number,
        ...(port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol }),
      },
    ];
  });
}

function targetPort(
  { port, protocol = 'TCP', targetPort: target = port }: ServicePort,
  pod: Pod,
): number | undefined {
  if (typeof target === 'number') return target;
  const containers = [...pod.spec.containers, ...(pod.spec.initContainers ?? []).filter(isSidecar)];
  for (const container of containers)
    for (const own of container.ports ?? [])
      if (own.name === target && (own.protocol ?? 'TCP') === protocol) return own.containerPort;
  return undefined;
}

/** True when a change of the pod may change the endpoints of a Service. */
export function backendChanged(pod: Pod, old: Pod): boolean {
  return (
    (pod.metadata.deletionTimestamp === undefined) !== (old.metadata.deletionTimestamp === undefined) ||
    isPodReady(pod) !== isPodReady(old) ||
    pod.spec.nodeName !== old.spec.nodeName ||
    pod.status?.phase !== old.status?.phase ||
    JSON.stringify(pod.status?.podIPs) !== JSON.stringify(old.status?.podIPs) ||
    pod.status?.podIP !== old.status?.podIP ||
    JSON.stringify(pod.metadata.labels) !== JSON.stringify(old.metadata.labels)
  );
}
