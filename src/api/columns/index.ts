// Server-side tables: which columns `kubectl get` shows for a kind, and what stands in them. After
// pkg/printers/internalversion of upstream; kinds that it has no printer for show their name and when they were made.

import type { KubeObject } from '../object.ts';
import type { ObjectMeta } from '../types/meta-v1.ts';
import {
  admissionTables,
  certificatesTables,
  coordinationTables,
  discoveryTables,
  flowControlTables,
  networkingTables,
  nodeTables,
  rbacTables,
  registrationTables,
  resourceTables,
  schedulingTables,
  statusTable,
  storageTables,
} from './cluster.ts';
import { coreTables } from './core.ts';
import { podRowConditions } from './pod.ts';
import { previewTables } from './preview.ts';
import { type KindTable, name, table } from './table.ts';
import { appsTables, autoscalingTables, batchTables, policyTables } from './workloads.ts';

export { humanDuration } from './age.ts';
export { podStatusText } from './pod.ts';
export type { KindTable } from './table.ts';

const tables: Readonly<Record<string, Readonly<Record<string, KindTable>>>> = {
  '': { ...coreTables, Status: statusTable },
  'admissionregistration.k8s.io': admissionTables,
  'apiregistration.k8s.io': registrationTables,
  apps: appsTables,
  autoscaling: autoscalingTables,
  batch: batchTables,
  'certificates.k8s.io': certificatesTables,
  'coordination.k8s.io': coordinationTables,
  'discovery.k8s.io': discoveryTables,
  'events.k8s.io': { Event: coreTables['Event']! },
  'flowcontrol.apiserver.k8s.io': flowControlTables,
  'networking.k8s.io': networkingTables,
  'node.k8s.io': nodeTables,
  policy: policyTables,
  'rbac.authorization.k8s.io': rbacTables,
  'resource.k8s.io': resourceTables,
  'scheduling.k8s.io': schedulingTables,
  'storage.k8s.io': storageTables,
};

const defaultTable = table<{ metadata?: Partial<ObjectMeta> }>([name, ['Created At', 'date']], (object) => [
  object.metadata?.name ?? '',
  object.metadata?.creationTimestamp ?? null,
]);

/** The table of a kind, whichever version it is asked for in. */
export function columnsFor(group: string, kind: string): KindTable {
  for (const source of [tables, previewTables]) {
    const ofGroup = Object.hasOwn(source, group) ? source[group] : undefined;
    if (ofGroup !== undefined && Object.hasOwn(ofGroup, kind)) return ofGroup[kind]!;
  }
  return defaultTable;
}

/** What a row says beside its cells (TableRow.conditions); empty for almost all. */
export function rowConditions(group: string, kind: string, object: KubeObject): object[] {
  return group === '' && kind === 'Pod' ? podRowConditions(object) : [];
}
