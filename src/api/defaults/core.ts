// Defaults of the core group, pods apart (pkg/apis/core/v1/defaults.go and conversion.go upstream).

import type {
  Endpoints,
  LimitRange,
  Namespace,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  PodTemplate,
  ReplicationController,
  ResourceQuota,
  Secret,
  Service,
} from '../types/core-v1.ts';
import { defaultClaimSpec, defaultPodSpec } from './pod.ts';
import { type ResourceList, roundResourceList } from './resources.ts';

/** Three hours. */
const CLIENT_IP_AFFINITY_SECONDS = 10800;

export function isEmpty(value: object | undefined): boolean {
  return value === undefined || Object.keys(value).length === 0;
}

export function defaultReplicationController(controller: ReplicationController): void {
  const labels = controller.spec.template?.metadata?.labels;
  if (labels !== undefined && !isEmpty(labels)) {
    if (isEmpty(controller.spec.selector)) controller.spec.selector = { ...labels };
    if (isEmpty(controller.metadata.labels)) controller.metadata.labels = { ...labels };
  }
  defaultPodSpec(controller.spec.template?.spec);
}

export function defaultPodTemplate(template: PodTemplate): void {
  defaultPodSpec(template.template?.spec);
}

export function defaultService(service: Service): void {
  const { spec } = service;
  spec.sessionAffinity ??= 'None';
  if (spec.sessionAffinity === 'None') delete spec.sessionAffinityConfig;
  if (
    spec.sessionAffinity === 'ClientIP' &&
    spec.sessionAffinityConfig?.clientIP?.timeoutSeconds === undefined
  )
    spec.sessionAffinityConfig = { clientIP: { timeoutSeconds: CLIENT_IP_AFFINITY_SECONDS } };
  spec.type ??= 'ClusterIP';
  for (const port of spec.ports ?? [])
    if (port.targetPort === undefined || port.targetPort === 0 || port.targetPort === '')
      port.targetPort = port.port;
  const outside =
    spec.type === 'LoadBalancer' ||
    spec.type === 'NodePort' ||
    (spec.type === 'ClusterIP' && (spec.externalIPs?.length ?? 0) > 0);
  if (outside) spec.externalTrafficPolicy ??= 'Cluster';
  if (spec.type !== 'ExternalName') spec.internalTrafficPolicy ??= 'Cluster';
  if (spec.type === 'LoadBalancer') {
    spec.allocateLoadBalancerNodePorts ??= true;
    for (const ingress of service.status?.loadBalancer?.ingress ?? [])
      if (ingress.ip !== undefined) ingress.ipMode ??= 'VIP';
  }
}

export function defaultSecret(secret: Secret): void {
  secret.type ??= 'Opaque';
  // stringData is for writing only: it goes into data, over what is there.
  if (secret.stringData !== undefined) {
    const data: { [key: string]: string } = { ...secret.data };
    for (const [key, text] of Object.entries(secret.stringData)) {
      const value = Buffer.from(text, 'utf8').toString('base64');
      Object.defineProperty(data, key, { value, enumerable: true, configurable: true, writable: true });
    }
    delete secret.stringData;
    secret.data = data;
  }
}

export function defaultPersistentVolume(volume: PersistentVolume): void {
  volume.status ??= {};
  volume.status.phase ??= 'Pending';
  volume.spec.persistentVolumeReclaimPolicy ??= 'Retain';
  volume.spec.volumeMode ??= 'Filesystem';
  if (volume.spec.hostPath) volume.spec.hostPath.type ??= '';
  roundResourceList(volume.spec.capacity);
}

export function defaultPersistentVolumeClaim(claim: PersistentVolumeClaim): void {
  claim.status ??= {};
  claim.status.phase ??= 'Pending';
  defaultClaimSpec(claim.spec);
  roundResourceList(claim.status.capacity);
  roundResourceList(claim.status.allocatedResources);
}

export function defaultEndpoints(endpoints: Endpoints): void {
  for (const subset of endpoints.subsets ?? [])
    for (const port of subset.ports ?? []) port.protocol ??= 'TCP';
}

export function defaultNamespace(namespace: Namespace): void {
  // One that is made with generateName gets its label when it has its name.
  const { name } = namespace.metadata;
  if (name) namespace.metadata.labels = { ...namespace.metadata.labels, 'kubernetes.io/metadata.name': name };
  namespace.status ??= {};
  namespace.status.phase ??= 'Active';
}

export function defaultNode(node: Node): void {
  const { spec, status } = node;
  roundResourceList(status?.capacity);
  roundResourceList(status?.allocatable);
  if (status?.capacity !== undefined && status.allocatable === undefined)
    status.allocatable = { ...status.capacity };
  // podCIDR is the first of podCIDRs; who knows only one of the fields is right.
  if (spec?.podCIDR !== undefined && spec.podCIDRs?.[0] !== spec.podCIDR) spec.podCIDRs = [spec.podCIDR];
  else if (spec?.podCIDR === undefined && spec?.podCIDRs?.[0] !== undefined) spec.podCIDR = spec.podCIDRs[0];
}

export function defaultResourceQuota(quota: ResourceQuota): void {
  roundResourceList(quota.spec?.hard);
  roundResourceList(quota.status?.hard);
  roundResourceList(quota.status?.used);
}

export function defaultLimitRange(range: LimitRange): void {
  for (const item of range.spec?.limits ?? []) {
    for (const list of [item.max, item.min, item.default, item.defaultRequest, item.maxLimitRequestRatio])
      roundResourceList(list);
    if (item.type !== 'Container') continue;
    const limits: ResourceList = { ...item.max, ...item.default };
    const requests: ResourceList = { ...item.min, ...limits, ...item.defaultRequest };
    if (!isEmpty(limits)) item.default = limits;
    if (!isEmpty(requests)) item.defaultRequest = requests;
  }
}
