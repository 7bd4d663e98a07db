// Every object that a server has from its first moment, made from the tables of this folder, and how each is brought
// up to date when an older one is found. Pure: reconcile.ts does the writing.

import { isDeepStrictEqual } from 'node:util';
import type { GroupVersionResource, KubeObject } from '../../api/object.ts';
import type { PolicyRule, Subject } from '../../api/types/rbac-v1.ts';
import { uncoveredGrants } from '../authorization/coverage.ts';
import { type BindingRow, CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, type RoleRow } from './cluster-roles.ts';
import { CONTROLLER_ROLE_BINDINGS, CONTROLLER_ROLES } from './controller-roles.ts';
import { FLOW_SCHEMAS, PRIORITY_LEVELS } from './flow-control.ts';
import {
  defaultServiceCidr,
  type KubernetesServiceOptions,
  kubernetesService,
} from './kubernetes-service.ts';
import { ROLE_BINDINGS, ROLES } from './namespaced-roles.ts';
import { SYSTEM_NAMESPACES } from './namespaces.ts';
import { SYSTEM_PRIORITY_CLASSES } from './priority-classes.ts';

type Fields = Readonly<Record<string, unknown>>;
interface Meta {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** What to do with an object of this name that is there already. */
export type Reconciliation =
  | { readonly action: 'keep' }
  | { readonly action: 'update'; readonly object: object }
  /** Delete and create: a role binding's roleRef cannot change. */
  | { readonly action: 'replace' };

export interface BootstrapObject {
  readonly resource: GroupVersionResource;
  readonly object: Fields & { readonly metadata: Meta };
  /** True when `object` is already as the server would store it, and may be written as it is. */
  readonly normal?: boolean;
  /** Written through `status` once the object is there and its status differs. */
  readonly status?: object;
  reconcile(existing: KubeObject): Reconciliation;
}

const KEEP: Reconciliation = { action: 'keep' };
const keepAsItIs = (): Reconciliation => KEEP;

const CORE = (resource: string): GroupVersionResource => ({ group: '', version: 'v1', resource });
const inGroup = (group: string, resource: string): GroupVersionResource => ({
  group,
  version: 'v1',
  resource,
});
const RBAC = 'rbac.authorization.k8s.io';
const AUTOUPDATE = `rbac.authorization.kubernetes.io/autoupdate`;
const FLOW_AUTOUPDATE = 'apf.kubernetes.io/autoupdate-spec';
const BOOTSTRAPPING = { 'kubernetes.io/bootstrapping': 'rbac-defaults' } as const;
const AGGREGATE = `${RBAC}/aggregate-to-`;

const fieldsOf = (object: KubeObject): Fields & KubeObject => object as Fields & KubeObject;

/** The existing metadata with the labels and annotations that it lacks; undefined when it lacks none. */
function completedMetadata(existing: KubeObject, wanted: Meta): object | undefined {
  const { labels, annotations } = existing.metadata;
  const lacks = (have: Readonly<Record<string, string>> | undefined, want: Meta['labels']): boolean =>
    Object.keys(want ?? {}).some((key) => have?.[key] === undefined);
  if (!lacks(labels, wanted.labels) && !lacks(annotations, wanted.annotations)) return undefined;
  return {
    ...existing.metadata,
    labels: { ...wanted.labels, ...labels },
    annotations: { ...wanted.annotations, ...annotations },
  };
}

function update(existing: KubeObject, metadata: object | undefined, changes: Fields): Reconciliation {
  if (metadata === undefined && Object.keys(changes).length === 0) return KEEP;
  return { action: 'update', object: { ...existing, ...changes, ...(metadata && { metadata }) } };
}

/** Whoever sets the annotation to "false" has taken the role or binding over. */
const takenOver = (existing: KubeObject): boolean => existing.metadata.annotations?.[AUTOUPDATE] === 'false';

/** Adds what is missing, takes nothing away: administrators extend the default roles. */
function reconcileRole(metadata: Meta, rules: readonly PolicyRule[], aggregationRule?: object) {
  return (existing: KubeObject): Reconciliation => {
    if (takenOver(existing)) return KEEP;
    const { rules: have, aggregationRule: gathers } = fieldsOf(existing);
    const current = (have ?? []) as PolicyRule[];
    const missing = uncoveredGrants(current, rules);
    return update(existing, completedMetadata(existing, metadata), {
      ...(missing.length > 0 && { rules: [...current, ...missing] }),
      ...(aggregationRule !== undefined && gathers === undefined && { aggregationRule }),
    });
  };
}

const sameSubject = (a: Subject, b: Subject): boolean =>
  a.kind === b.kind && a.name === b.name && (a.namespace ?? '') === (b.namespace ?? '');

function reconcileBinding(
  metadata: Meta,
  roleRef: { kind: string; name: string },
  wanted: readonly Subject[],
) {
  return (existing: KubeObject): Reconciliation => {
    if (takenOver(existing)) return KEEP;
    const { roleRef: ref, subjects } = fieldsOf(existing);
    const { kind, name } = (ref ?? {}) as { kind?: string; name?: string };
    if (kind !== roleRef.kind || name !== roleRef.name) return { action: 'replace' };
    const current = (subjects ?? []) as Subject[];
    const missing = wanted.filter((subject) => !current.some((mine) => sameSubject(mine, subject)));
    return update(
      existing,
      completedMetadata(existing, metadata),
      missing.length > 0 ? { subjects: [...current, ...missing] } : {},
    );
  };
}

/** Sets a field to what it must be. */
function reconcileField(
  field: string,
  wanted: unknown,
  applies: (existing: KubeObject) => boolean = () => true,
) {
  return (existing: KubeObject): Reconciliation =>
    !applies(existing) || isDeepStrictEqual(plain(fieldsOf(existing)[field]), plain(wanted))
      ? KEEP
      : update(existing, undefined, { [field]: wanted });
}

/** Comparable whatever prototype the decoder gave its objects. */
const plain = (value: unknown): unknown =>
  value === undefined ? undefined : JSON.parse(JSON.stringify(value));

const rbacMetadata = (
  name: string,
  namespace?: string,
  labels: Readonly<Record<string, string>> = {},
): Meta => ({
  name,
  ...(namespace !== undefined && { namespace }),
  labels: { ...BOOTSTRAPPING, ...labels },
  annotations: { [AUTOUPDATE]: 'true' },
});

function clusterRole(row: RoleRow): BootstrapObject {
  const metadata = rbacMetadata(
    row.name,
    undefined,
    row.aggregateTo && { [AGGREGATE + row.aggregateTo]: 'true' },
  );
  const aggregationRule = row.aggregates && {
    clusterRoleSelectors: [{ matchLabels: { [AGGREGATE + row.aggregates]: 'true' } }],
  };
  return {
    resource: inGroup(RBAC, 'clusterroles'),
    object: { metadata, rules: row.rules, ...(aggregationRule && { aggregationRule }) },
    normal: true,
    reconcile: reconcileRole(metadata, row.rules, aggregationRule),
  };
}

function clusterRoleBinding(row: BindingRow): BootstrapObject {
  const metadata = rbacMetadata(row.name ?? row.role);
  const roleRef = { apiGroup: RBAC, kind: 'ClusterRole', name: row.role };
  return {
    resource: inGroup(RBAC, 'clusterrolebindings'),
    object: { metadata, roleRef, ...(row.subjects.length > 0 && { subjects: row.subjects }) },
    normal: true,
    reconcile: reconcileBinding(metadata, roleRef, row.subjects),
  };
}

function rbacObjects(): BootstrapObject[] {
  return [
    ...[...CLUSTER_ROLES, ...CONTROLLER_ROLES].map(clusterRole),
    ...[...CLUSTER_ROLE_BINDINGS, ...CONTROLLER_ROLE_BINDINGS].map(clusterRoleBinding),
    ...ROLES.map((row): BootstrapObject => {
      const metadata = rbacMetadata(row.name, row.namespace);
      return {
        resource: inGroup(RBAC, 'roles'),
        object: { metadata, rules: row.rules },
        normal: true,
        reconcile: reconcileRole(metadata, row.rules),
      };
    }),
    ...ROLE_BINDINGS.map((row): BootstrapObject => {
      const metadata = rbacMetadata(row.name, row.namespace);
      const roleRef = { apiGroup: RBAC, kind: 'Role', name: row.role };
      return {
        resource: inGroup(RBAC, 'rolebindings'),
        object: { metadata, roleRef, subjects: row.subjects },
        normal: true,
        reconcile: reconcileBinding(metadata, roleRef, row.subjects),
      };
    }),
  ];
}

function flowControlObjects(): BootstrapObject[] {
  const group = 'flowcontrol.apiserver.k8s.io';
  const automatic = (existing: KubeObject): boolean =>
    existing.metadata.annotations?.[FLOW_AUTOUPDATE] === 'true';
  const objects = (resource: string, rows: readonly (readonly [string, object])[]): BootstrapObject[] =>
    rows.map(([name, spec]) => ({
      resource: inGroup(group, resource),
      object: { metadata: { name, annotations: { [FLOW_AUTOUPDATE]: 'true' } }, spec },
      normal: true,
      reconcile: reconcileField('spec', spec, automatic),
    }));
  return [
    ...objects('prioritylevelconfigurations', PRIORITY_LEVELS),
    ...objects('flowschemas', FLOW_SCHEMAS),
  ];
}

function serviceObjects(options: KubernetesServiceOptions, now: string): BootstrapObject[] {
  const service = kubernetesService(options);
  return [
    {
      resource: inGroup('networking.k8s.io', 'servicecidrs'),
      object: defaultServiceCidr(options),
      status: {
        conditions: [
          {
            type: 'Ready',
            status: 'True',
            reason: '',
            message: 'Kubernetes default Service CIDR is ready',
            lastTransitionTime: now,
          },
        ],
      },
      // A second family may be added to the one that there is; any other difference is told of, not acted on.
      reconcile: (existing) => {
        const { cidrs = [] } = (fieldsOf(existing)['spec'] ?? {}) as { readonly cidrs?: readonly string[] };
        return cidrs.length === 1 && options.serviceCidrs.length === 2 && cidrs[0] === options.serviceCidrs[0]
          ? update(existing, undefined, { spec: { cidrs: [...options.serviceCidrs] } })
          : KEEP;
      },
    },
    {
      resource: CORE('services'),
      object: service,
      // The address stays what it is; the port must lead to this server.
      reconcile: (existing) => {
        const spec = fieldsOf(existing)['spec'] as { ports?: unknown };
        const ports = service.spec?.ports;
        return isDeepStrictEqual(plain(spec.ports), plain(ports))
          ? KEEP
          : update(existing, undefined, { spec: { ...spec, ports } });
      },
    },
  ];
}

export interface BootstrapOptions extends KubernetesServiceOptions {
  /** PEM of the CA that client certificates are verified against; told to extension API servers through a ConfigMap. */
  readonly clientCa?: string;
}

export function systemNamespaces(): BootstrapObject[] {
  return SYSTEM_NAMESPACES.map((name) => ({
    resource: CORE('namespaces'),
    object: { metadata: { name } },
    reconcile: keepAsItIs,
  }));
}

/** Everything but the namespaces, which must stand first. `now` in RFC 3339. */
export function bootstrapObjects(options: BootstrapOptions, now: string): BootstrapObject[] {
  const objects = [
    ...rbacObjects(),
    ...SYSTEM_PRIORITY_CLASSES.map(
      ({ name, value, description }): BootstrapObject => ({
        resource: inGroup('scheduling.k8s.io', 'priorityclasses'),
        object: { metadata: { name }, value, description, preemptionPolicy: 'PreemptLowerPriority' },
        reconcile: keepAsItIs,
      }),
    ),
    ...flowControlObjects(),
    ...serviceObjects(options, now),
  ];
  if (options.clientCa !== undefined) {
    const data = { 'client-ca-file': options.clientCa };
    objects.push({
      resource: CORE('configmaps'),
      object: { metadata: { name: 'extension-apiserver-authentication', namespace: 'kube-system' }, data },
      reconcile: (existing) => {
        const have = (fieldsOf(existing)['data'] ?? {}) as Record<string, string>;
        return have['client-ca-file'] === options.clientCa
          ? KEEP
          : update(existing, undefined, { data: { ...have, ...data } });
      },
    });
  }
  return objects;
}
