// Strategies of the core group and of events.

import type { MutableObject } from '../definition.ts';
import { timestamp } from '../meta.ts';
import type { KubeObject } from '../object.ts';
import type { PersistentVolume, PersistentVolumeClaim, Service, ServiceSpec } from '../types/core-v1.ts';
import { podRow } from './pod.ts';
import { fieldsOf, type StrategyRow, setOrDelete } from './strategy.ts';

function createNamespace(object: MutableObject): void {
  const spec = (object['spec'] ?? {}) as { finalizers?: string[] };
  const finalizers = spec.finalizers ?? [];
  object['spec'] = {
    ...spec,
    finalizers: finalizers.includes('kubernetes') ? finalizers : [...finalizers, 'kubernetes'],
  };
  object['status'] = { phase: 'Active' };
}

/** Finalizers of a namespace go through its finalize subresource only. */
function updateNamespace(object: MutableObject, old: KubeObject): void {
  const before = fieldsOf(old)['spec'] as { readonly finalizers?: readonly string[] } | undefined;
  const { finalizers: _asked, ...spec } = (object['spec'] ?? {}) as { finalizers?: readonly string[] };
  object['spec'] = before?.finalizers === undefined ? spec : { ...spec, finalizers: before.finalizers };
}

/**
 * clusterIP is clusterIPs[0]. A client that knows only the older field sets, clears or keeps it, and the list follows
 * (KEP-563, "normalize").
 */
function alignClusterAddresses(object: MutableObject, old: KubeObject | undefined): void {
  const spec = object['spec'] as ServiceSpec | undefined;
  if (spec === undefined) return;
  const before = old === undefined ? undefined : ((old as unknown as Service).spec ?? {});
  if (before === undefined) {
    if (spec.clusterIP && (spec.clusterIPs ?? []).length === 0) spec.clusterIPs = [spec.clusterIP];
    return;
  }
  const sameFirst = (spec.clusterIP ?? '') === (before.clusterIP ?? '');
  // What is left out was given by the server: it stays.
  if (sameFirst && spec.clusterIP && (spec.clusterIPs ?? []).length === 0 && before.clusterIPs !== undefined)
    spec.clusterIPs = [...before.clusterIPs];
  const sameList = sameAddresses(spec.clusterIPs, before.clusterIPs);
  if (!sameFirst && sameList) {
    if (!spec.clusterIP) delete spec.clusterIPs;
    else spec.clusterIPs = [spec.clusterIP];
  }
}

function sameAddresses(a: readonly string[] | undefined, b: readonly string[] | undefined): boolean {
  return (a ?? []).join() === (b ?? []).join();
}

const externalTypes: ReadonlySet<string> = new Set(['LoadBalancer', 'NodePort']);

/**
 * What the server once allotted and what no longer fits the service's type is dropped, unless the client changed it
 * (then validation has its say).
 */
function dropFieldsOfOtherType(object: MutableObject, old: KubeObject): void {
  const spec = object['spec'] as ServiceSpec | undefined;
  const before = (old as unknown as Service).spec;
  if (spec === undefined || before === undefined) return;
  const was = before.type ?? 'ClusterIP';
  const is = spec.type ?? 'ClusterIP';
  if (was !== 'ExternalName' && is === 'ExternalName') {
    if (spec.clusterIP === before.clusterIP) delete spec.clusterIP;
    if (sameAddresses(spec.clusterIPs, before.clusterIPs)) delete spec.clusterIPs;
    if (sameAddresses(spec.ipFamilies, before.ipFamilies)) delete spec.ipFamilies;
    if (spec.ipFamilyPolicy === before.ipFamilyPolicy) delete spec.ipFamilyPolicy;
  }
  if (externalTypes.has(was) && !externalTypes.has(is)) {
    const ports = (list: ServiceSpec['ports']) => (list ?? []).map((port) => port.nodePort ?? 0).join();
    if (ports(spec.ports) === ports(before.ports)) for (const port of spec.ports ?? []) delete port.nodePort;
  }
  const local = (service: ServiceSpec) =>
    service.type === 'LoadBalancer' && service.externalTrafficPolicy === 'Local';
  if (local(before) && !local(spec) && spec.healthCheckNodePort === before.healthCheckNodePort)
    delete spec.healthCheckNodePort;
  if (was === 'LoadBalancer' && is !== 'LoadBalancer') {
    if (spec.allocateLoadBalancerNodePorts === before.allocateLoadBalancerNodePorts)
      delete spec.allocateLoadBalancerNodePorts;
    if (spec.loadBalancerClass === before.loadBalancerClass) delete spec.loadBalancerClass;
  }
  if (
    externalTypes.has(was) &&
    !externalTypes.has(is) &&
    (spec.externalIPs ?? []).length === 0 &&
    spec.externalTrafficPolicy === before.externalTrafficPolicy
  )
    delete spec.externalTrafficPolicy;
}

/** From one family at a time back to one family: the second address and family go, if they are unchanged. */
function dropSecondFamily(object: MutableObject, old: KubeObject): void {
  const spec = object['spec'] as ServiceSpec | undefined;
  const before = (old as unknown as Service).spec;
  if (spec === undefined || before === undefined) return;
  const wasDual = before.ipFamilyPolicy !== undefined && before.ipFamilyPolicy !== 'SingleStack';
  if (!wasDual || spec.ipFamilyPolicy !== 'SingleStack') return;
  const unchanged =
    sameAddresses(spec.clusterIPs, before.clusterIPs) && sameAddresses(spec.ipFamilies, before.ipFamilies);
  if (!unchanged) return;
  if ((spec.clusterIPs ?? []).length > 1) spec.clusterIPs = spec.clusterIPs!.slice(0, 1);
  if ((spec.ipFamilies ?? []).length > 1) spec.ipFamilies = spec.ipFamilies!.slice(0, 1);
}

function updateService(object: MutableObject, old: KubeObject): void {
  alignClusterAddresses(object, old);
  dropFieldsOfOtherType(object, old);
  dropSecondFamily(object, old);
}

/** When a volume entered its phase (KEP-3762); a client that writes the phase need not know. */
function notePhaseTransition(object: MutableObject, old: KubeObject, now: number | undefined): void {
  const status = object['status'] as PersistentVolume['status'] | undefined;
  const before = (old as unknown as PersistentVolume).status;
  if (now === undefined || !status || status.phase === before?.phase) return;
  const told = status.lastPhaseTransitionTime;
  if (told === undefined || told === before?.lastPhaseTransitionTime)
    object['status'] = { ...status, lastPhaseTransitionTime: timestamp(now) };
}

/**
 * dataSource is what clients knew before dataSourceRef: either follows the other, and a kind that the older field
 * never allowed is dropped from it (KEP-1495).
 */
function alignDataSources(object: MutableObject, old: KubeObject | undefined): void {
  const spec = object['spec'] as PersistentVolumeClaim['spec'] | undefined;
  if (spec === undefined) return;
  const before = (old as unknown as PersistentVolumeClaim | undefined)?.spec;
  const inUse = before?.dataSource !== undefined || before?.dataSourceRef !== undefined;
  if (!inUse && spec.dataSource && !isClaimOrSnapshot(spec.dataSource)) delete spec.dataSource;
  const { dataSource, dataSourceRef } = spec;
  if (dataSource && !dataSourceRef) spec.dataSourceRef = { ...dataSource };
  if (dataSourceRef && !dataSource && !dataSourceRef.namespace) {
    const { apiGroup, kind, name } = dataSourceRef;
    spec.dataSource = { ...(apiGroup === undefined ? {} : { apiGroup }), kind, name };
  }
}

function isClaimOrSnapshot({ apiGroup = '', kind }: { apiGroup?: string; kind: string }): boolean {
  return apiGroup === ''
    ? kind === 'PersistentVolumeClaim'
    : apiGroup === 'snapshot.storage.k8s.io' && kind === 'VolumeSnapshot';
}

const eventFields = [
  'involvedObject.kind',
  'involvedObject.namespace',
  'involvedObject.name',
  'involvedObject.uid',
  'involvedObject.apiVersion',
  'involvedObject.resourceVersion',
  'involvedObject.fieldPath',
  'reason',
  'reportingComponent',
  'source',
  'type',
];

export const coreRows: Readonly<Record<string, StrategyRow>> = {
  Pod: podRow,
  Namespace: {
    fields: ['status.phase', 'name'],
    create: createNamespace,
    update: updateNamespace,
  },
  Node: { fields: ['spec.unschedulable'], keepsStatusOnCreate: true },
  Service: {
    createOnUpdate: true,
    fields: ['spec.clusterIP', 'spec.type'],
    create: (object) => alignClusterAddresses(object, undefined),
    update: updateService,
  },
  ConfigMap: {},
  Secret: { fields: ['type'] },
  ServiceAccount: {},
  Endpoints: { createOnUpdate: true },
  Event: { createOnUpdate: true, fields: eventFields },
  LimitRange: { createOnUpdate: true },
  ResourceQuota: {},
  ReplicationController: { generation: true, orphansByDefault: true, fields: ['status.replicas'] },
  PodTemplate: { generation: true },
  PersistentVolume: {
    fields: ['name'],
    statusUpdate: notePhaseTransition,
    create: (object) =>
      setOrDelete(object, 'status', {
        phase: 'Pending',
        ...(object.metadata.creationTimestamp !== undefined && {
          lastPhaseTransitionTime: object.metadata.creationTimestamp,
        }),
      }),
  },
  PersistentVolumeClaim: {
    fields: ['name'],
    create(object) {
      setOrDelete(object, 'status', { phase: 'Pending' });
      alignDataSources(object, undefined);
    },
    update: alignDataSources,
  },
};

/** Events in the newer group name the same fields by their newer names. */
export const eventsRows: Readonly<Record<string, StrategyRow>> = {
  Event: {
    createOnUpdate: true,
    fields: [
      ...eventFields
        .filter((field) => field.startsWith('involvedObject.'))
        .map((field) => field.replace('involvedObject.', 'regarding.')),
      'reason',
      'reportingController',
      'type',
    ],
  },
};
