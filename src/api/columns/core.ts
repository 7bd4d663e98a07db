// Tables of the core group, but for pods (pod.ts), and of events.

import { formatLabels } from '../labels.ts';
import { findCondition, isConditionTrue } from '../meta.ts';
import type {
  ComponentStatus,
  ConfigMap,
  Endpoints,
  LoadBalancerStatus,
  Namespace,
  Node,
  ObjectReference,
  PersistentVolume,
  PersistentVolumeClaim,
  PodTemplate,
  ReplicationController,
  ResourceQuota,
  Secret,
  Service,
  ServiceAccount,
} from '../types/core-v1.ts';
import type { ObjectMeta } from '../types/meta-v1.ts';
import { since } from './age.ts';
import { podTable } from './pod.ts';
import { containerCells, firstThree, type KindTable, name, table } from './table.ts';

const accessModeLetters = [
  ['ReadWriteOnce', 'RWO'],
  ['ReadOnlyMany', 'ROX'],
  ['ReadWriteMany', 'RWX'],
  ['ReadWriteOncePod', 'RWOP'],
] as const;

function accessModes(modes: readonly string[] | undefined): string {
  return accessModeLetters
    .filter(([mode]) => modes?.includes(mode))
    .map(([, letters]) => letters)
    .join(',');
}

/** The class by the annotation that came before the field, else by the field. */
function storageClass(object: { metadata: ObjectMeta; spec?: { storageClassName?: string } }): string {
  return (
    object.metadata.annotations?.['volume.beta.kubernetes.io/storage-class'] ??
    object.spec?.storageClassName ??
    ''
  );
}

export function loadBalancerAddresses(status: LoadBalancerStatus | undefined): string[] {
  const addresses = (status?.ingress ?? []).map((ingress) => ingress.ip || ingress.hostname || '');
  return [...new Set(addresses.filter((address) => address !== ''))].toSorted();
}

function externalAddresses(service: Service): string {
  const externalIps = service.spec?.externalIPs ?? [];
  switch (service.spec?.type) {
    case 'ClusterIP':
    case 'NodePort':
      return externalIps.join(',') || '<none>';
    case 'LoadBalancer':
      return (
        [...loadBalancerAddresses(service.status?.loadBalancer), ...externalIps].join(',') || '<pending>'
      );
    case 'ExternalName':
      return service.spec.externalName ?? '';
    default:
      return '<unknown>';
  }
}

const serviceTable = table<Service>(
  [name, 'Type', 'Cluster-IP', 'External-IP', 'Port(s)', 'Age', '+Selector'],
  (service, now) => [
    service.metadata.name,
    service.spec?.type ?? '',
    service.spec?.clusterIPs?.[0] ?? '<none>',
    externalAddresses(service),
    (service.spec?.ports ?? [])
      .map(({ port, nodePort, protocol }) => `${port}${nodePort ? `:${nodePort}` : ''}/${protocol ?? ''}`)
      .join(',') || '<none>',
    since(service.metadata.creationTimestamp, now),
    formatLabels(service.spec?.selector),
  ],
);

/** `address:port` of the first three, IPv6 in brackets. */
function endpointAddresses(endpoints: Endpoints): string {
  const list: string[] = [];
  for (const { addresses = [], ports = [] } of endpoints.subsets ?? [])
    if (ports.length === 0) list.push(...addresses.map((address) => address.ip));
    else
      for (const { port } of ports)
        for (const { ip } of addresses) list.push(ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);
  return firstThree(list, (endpoints.subsets ?? []).length === 0 ? '<none>' : '');
}

const roleLabel = 'node-role.kubernetes.io/';

function nodeRoles(node: Node): string {
  const roles = new Set<string>();
  for (const [key, value] of Object.entries(node.metadata.labels ?? {})) {
    if (key.startsWith(roleLabel) && key.length > roleLabel.length) roles.add(key.slice(roleLabel.length));
    else if (key === 'kubernetes.io/role' && value !== '') roles.add(value);
  }
  return [...roles].toSorted().join(',') || '<none>';
}

function nodeStatus(node: Node): string {
  const ready = findCondition(node.status?.conditions, 'Ready');
  const status = ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady';
  return node.spec?.unschedulable === true ? `${status},SchedulingDisabled` : status;
}

function nodeAddress(node: Node, type: string): string {
  return node.status?.addresses?.find((address) => address.type === type)?.address ?? '<none>';
}

const nodeTable = table<Node>(
  [
    name,
    'Status',
    'Roles',
    'Age',
    'Version',
    '+Internal-IP',
    '+External-IP',
    '+OS-Image',
    '+Kernel-Version',
    '+Container-Runtime',
  ],
  (node, now) => {
    const info = node.status?.nodeInfo;
    return [
      node.metadata.name,
      nodeStatus(node),
      nodeRoles(node),
      since(node.metadata.creationTimestamp, now),
      info?.kubeletVersion ?? '',
      nodeAddress(node, 'InternalIP'),
      nodeAddress(node, 'ExternalIP'),
      info?.osImage || '<unknown>',
      info?.kernelVersion || '<unknown>',
      info?.containerRuntimeVersion || '<unknown>',
    ];
  },
);

const persistentVolumeTable = table<PersistentVolume>(
  [
    name,
    'Capacity',
    'Access Modes',
    'Reclaim Policy',
    'Status',
    'Claim',
    'StorageClass',
    'VolumeAttributesClass',
    'Reason',
    'Age',
    '+VolumeMode',
  ],
  (volume, now) => [
    volume.metadata.name,
    volume.spec?.capacity?.['storage'] ?? '0',
    accessModes(volume.spec?.accessModes),
    volume.spec?.persistentVolumeReclaimPolicy ?? '',
    volume.metadata.deletionTimestamp === undefined ? (volume.status?.phase ?? '') : 'Terminating',
    volume.spec?.claimRef === undefined
      ? ''
      : `${volume.spec.claimRef.namespace ?? ''}/${volume.spec.claimRef.name ?? ''}`,
    storageClass(volume),
    volume.spec?.volumeAttributesClassName ?? '<unset>',
    volume.status?.reason ?? '',
    since(volume.metadata.creationTimestamp, now),
    volume.spec?.volumeMode ?? '<unset>',
  ],
);

const persistentVolumeClaimTable = table<PersistentVolumeClaim>(
  [
    name,
    'Status',
    'Volume',
    'Capacity',
    'Access Modes',
    'StorageClass',
    'VolumeAttributesClass',
    'Age',
    '+VolumeMode',
  ],
  (claim, now) => {
    const bound = (claim.spec?.volumeName ?? '') !== '';
    return [
      claim.metadata.name,
      claim.metadata.deletionTimestamp === undefined ? (claim.status?.phase ?? '') : 'Terminating',
      claim.spec?.volumeName ?? '',
      bound ? (claim.status?.capacity?.['storage'] ?? '0') : '',
      bound ? accessModes(claim.status?.accessModes) : '',
      storageClass(claim),
      claim.spec?.volumeAttributesClassName ?? '<unset>',
      since(claim.metadata.creationTimestamp, now),
      claim.spec?.volumeMode ?? '<unset>',
    ];
  },
);

/** The fields of both shapes of an event: the core group's and that of events.k8s.io. */
interface AnyEvent {
  readonly metadata: ObjectMeta;
  readonly type?: string;
  readonly reason?: string;
  readonly eventTime?: string | null;
  readonly series?: { readonly count?: number; readonly lastObservedTime?: string };
  readonly reportingInstance?: string;
  readonly involvedObject?: ObjectReference;
  readonly message?: string;
  readonly source?: { readonly component?: string; readonly host?: string };
  readonly firstTimestamp?: string | null;
  readonly lastTimestamp?: string | null;
  readonly count?: number;
  readonly reportingComponent?: string;
  readonly regarding?: ObjectReference;
  readonly note?: string;
  readonly deprecatedSource?: { readonly component?: string; readonly host?: string };
  readonly deprecatedFirstTimestamp?: string | null;
  readonly deprecatedLastTimestamp?: string | null;
  readonly deprecatedCount?: number;
  readonly reportingController?: string;
}

const eventTable = table<AnyEvent>(
  [
    'Last Seen',
    'Type',
    'Reason',
    'Object',
    '+Subobject',
    '+Source',
    'Message',
    '+First Seen',
    '+Count',
    ['+Name', 'string', 'name'],
  ],
  (event, now) => {
    const object = event.involvedObject ?? event.regarding ?? {};
    const source = event.source ?? event.deprecatedSource ?? {};
    const firstTime = event.firstTimestamp ?? event.deprecatedFirstTimestamp ?? event.eventTime ?? undefined;
    const lastTime = event.lastTimestamp ?? event.deprecatedLastTimestamp ?? firstTime;
    const kind = (object.kind ?? '').toLowerCase();
    const component = source.component || event.reportingComponent || event.reportingController || '';
    const host = source.host || event.reportingInstance || '';
    return [
      since(event.series === undefined ? lastTime : event.series.lastObservedTime, now),
      event.type ?? '',
      event.reason ?? '',
      object.name ? `${kind}/${object.name}` : kind,
      object.fieldPath ?? '',
      host === '' ? component : `${component}, ${host}`,
      (event.message ?? event.note ?? '').trim(),
      since(firstTime, now),
      // The event that a series began with is not counted in the series.
      event.series === undefined ? event.count || event.deprecatedCount || 1 : (event.series.count ?? 0) + 1,
      event.metadata.name,
    ];
  },
);

const quotaTable = table<ResourceQuota>([name, 'Request', 'Limit', 'Age'], (quota, now) => {
  const requests: string[] = [];
  const limits: string[] = [];
  for (const resource of Object.keys(quota.status?.hard ?? {}).toSorted()) {
    const text = `${resource}: ${quota.status?.used?.[resource] ?? '0'}/${quota.status?.hard?.[resource] ?? '0'}`;
    (resource.startsWith('limits.') ? limits : requests).push(text);
  }
  return [
    quota.metadata.name,
    requests.join(', '),
    limits.join(', '),
    since(quota.metadata.creationTimestamp, now),
  ];
});

export const coreTables: Readonly<Record<string, KindTable>> = {
  Pod: podTable,
  Service: serviceTable,
  Node: nodeTable,
  PersistentVolume: persistentVolumeTable,
  PersistentVolumeClaim: persistentVolumeClaimTable,
  Event: eventTable,
  ResourceQuota: quotaTable,
  PodTemplate: table<PodTemplate>([name, 'Containers', 'Images', 'Pod Labels'], (object) => [
    object.metadata.name,
    ...containerCells(object.template?.spec),
    formatLabels(object.template?.metadata?.labels),
  ]),
  ReplicationController: table<ReplicationController>(
    [
      name,
      ['Desired', 'integer'],
      ['Current', 'integer'],
      ['Ready', 'integer'],
      'Age',
      '+Containers',
      '+Images',
      '+Selector',
    ],
    (object, now) => [
      object.metadata.name,
      object.spec?.replicas ?? 0,
      object.status?.replicas ?? 0,
      object.status?.readyReplicas ?? 0,
      since(object.metadata.creationTimestamp, now),
      ...containerCells(object.spec?.template?.spec),
      formatLabels(object.spec?.selector),
    ],
  ),
  Endpoints: table<Endpoints>([name, 'Endpoints', 'Age'], (object, now) => [
    object.metadata.name,
    endpointAddresses(object),
    since(object.metadata.creationTimestamp, now),
  ]),
  Namespace: table<Namespace>([name, 'Status', 'Age'], (object, now) => [
    object.metadata.name,
    object.status?.phase ?? '',
    since(object.metadata.creationTimestamp, now),
  ]),
  Secret: table<Secret>([name, 'Type', 'Data', 'Age'], (object, now) => [
    object.metadata.name,
    object.type ?? '',
    Object.keys(object.data ?? {}).length,
    since(object.metadata.creationTimestamp, now),
  ]),
  ConfigMap: table<ConfigMap>([name, 'Data', 'Age'], (object, now) => [
    object.metadata.name,
    Object.keys(object.data ?? {}).length + Object.keys(object.binaryData ?? {}).length,
    since(object.metadata.creationTimestamp, now),
  ]),
  ServiceAccount: table<ServiceAccount>([name, 'Age'], (object, now) => [
    object.metadata.name,
    since(object.metadata.creationTimestamp, now),
  ]),
  ComponentStatus: table<ComponentStatus>([name, 'Status', 'Message', 'Error'], (object) => {
    const healthy = findCondition(object.conditions, 'Healthy');
    return [
      object.metadata.name,
      healthy === undefined
        ? 'Unknown'
        : isConditionTrue(object.conditions, 'Healthy')
          ? 'Healthy'
          : 'Unhealthy',
      healthy?.message ?? '',
      healthy?.error ?? '',
    ];
  }),
};
