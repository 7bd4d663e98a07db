// The default ClusterRoles that are not a controller's, and their bindings, as Kubernetes 1.36 makes them with its
// default feature gates (controller-roles.ts has the controllers'). admin, edit and view aggregate others; what they
// aggregate to is worked out here, so that they hold before an aggregation controller runs.

import type { PolicyRule, Subject } from '../../api/types/rbac-v1.ts';
import { EVENTS, paths, READ, READ_UPDATE, READ_WRITE, rule, WRITE } from './policy-rule.ts';

export interface RoleRow {
  readonly name: string;
  /** Suffix of the label rbac.authorization.k8s.io/aggregate-to-… that this role carries. */
  readonly aggregateTo?: 'admin' | 'edit' | 'view';
  /** The same suffix for the roles that this one gathers. */
  readonly aggregates?: 'admin' | 'edit' | 'view';
  readonly rules: readonly PolicyRule[];
}

const EXTENDED_WORKLOADS =
  'daemonsets deployments deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale';

const EDIT_RULES: readonly PolicyRule[] = [
  rule(READ, 'core', 'pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy'),
  rule('impersonate', 'core', 'serviceaccounts'),
  rule(WRITE, 'core', 'pods pods/attach pods/proxy pods/exec pods/portforward'),
  rule('create', 'core', 'pods/eviction'),
  rule(
    WRITE,
    'core',
    'configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy',
  ),
  rule('create', 'core', 'serviceaccounts/token'),
  rule(
    WRITE,
    'apps',
    'daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale',
  ),
  rule(WRITE, 'autoscaling', 'horizontalpodautoscalers'),
  rule(WRITE, 'batch', 'cronjobs jobs'),
  rule(WRITE, 'extensions', `${EXTENDED_WORKLOADS} deployments/rollback`),
  rule(WRITE, 'policy', 'poddisruptionbudgets'),
  rule(WRITE, 'networking.k8s.io', 'ingresses networkpolicies'),
  rule(READ_WRITE, 'coordination.k8s.io', 'leases'),
  rule(WRITE, 'resource.k8s.io', 'resourceclaims resourceclaimtemplates'),
];

const VIEW_RULES: readonly PolicyRule[] = [
  rule(
    READ,
    'core',
    'configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status',
  ),
  rule(
    READ,
    'core',
    'bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status',
  ),
  // Reading namespaces inside a namespace means reading that one: how a user learns where they may work.
  rule(READ, 'core', 'namespaces'),
  rule(READ, 'discovery.k8s.io', 'endpointslices'),
  rule(
    READ,
    'apps',
    'controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status',
  ),
  rule(READ, 'autoscaling', 'horizontalpodautoscalers horizontalpodautoscalers/status'),
  rule(READ, 'batch', 'cronjobs cronjobs/status jobs jobs/status'),
  rule(
    READ,
    'extensions',
    `${EXTENDED_WORKLOADS} daemonsets/status deployments/status ingresses/status replicasets/status`,
  ),
  rule(READ, 'policy', 'poddisruptionbudgets poddisruptionbudgets/status'),
  rule(READ, 'networking.k8s.io', 'ingresses ingresses/status networkpolicies'),
  rule(READ, 'resource.k8s.io', 'resourceclaims resourceclaims/status resourceclaimtemplates'),
];

const NODE_RULES: readonly PolicyRule[] = [
  rule('create', 'authentication.k8s.io', 'tokenreviews'),
  rule('create', 'authorization.k8s.io', 'subjectaccessreviews localsubjectaccessreviews'),
  rule(READ, 'core', 'services'),
  rule('create get list watch', 'core', 'nodes'),
  rule('update patch', 'core', 'nodes/status'),
  rule('update patch', 'core', 'nodes'),
  rule('create update patch', 'core', 'events'),
  rule(READ, 'core', 'pods'),
  rule('create delete', 'core', 'pods'),
  rule('update patch', 'core', 'pods/status'),
  rule('create', 'core', 'pods/eviction'),
  rule(READ, 'core', 'secrets configmaps'),
  rule('get', 'core', 'persistentvolumeclaims persistentvolumes'),
  rule('get', 'core', 'endpoints'),
  rule('create get list watch', 'certificates.k8s.io', 'certificatesigningrequests'),
  rule('get create update patch delete', 'coordination.k8s.io', 'leases'),
  rule('get', 'storage.k8s.io', 'volumeattachments'),
  rule('create', 'core', 'serviceaccounts/token'),
  rule('get update patch', 'core', 'persistentvolumeclaims/status'),
  rule(READ, 'storage.k8s.io', 'csidrivers'),
  rule('get create update patch delete', 'storage.k8s.io', 'csinodes'),
  rule(READ, 'node.k8s.io', 'runtimeclasses'),
  rule('get', 'resource.k8s.io', 'resourceclaims'),
  rule('deletecollection', 'resource.k8s.io', 'resourceslices'),
  rule('get', 'core', 'serviceaccounts'),
];

const SCHEDULER_RULES: readonly PolicyRule[] = [
  EVENTS,
  rule('create', 'coordination.k8s.io', 'leases'),
  rule('get list update watch', 'coordination.k8s.io', 'leases', 'kube-scheduler'),
  rule(READ_WRITE, 'coordination.k8s.io', 'leasecandidates'),
  rule(READ, 'core', 'nodes'),
  rule('get list watch delete', 'core', 'pods'),
  rule('create', 'core', 'bindings pods/binding'),
  rule('patch update', 'core', 'pods/status'),
  rule(READ, 'core', 'replicationcontrollers services'),
  rule(READ, 'apps extensions', 'replicasets'),
  rule(READ, 'apps', 'statefulsets'),
  rule(READ, 'policy', 'poddisruptionbudgets'),
  rule(READ, 'core', 'persistentvolumeclaims persistentvolumes'),
  rule('create', 'authentication.k8s.io', 'tokenreviews'),
  rule('create', 'authorization.k8s.io', 'subjectaccessreviews'),
  rule(READ, 'storage.k8s.io', 'csinodes'),
  rule(READ, 'storage.k8s.io', 'volumeattachments'),
  rule(READ, 'core', 'namespaces'),
  rule(READ, 'storage.k8s.io', 'csidrivers'),
  rule(READ, 'storage.k8s.io', 'csistoragecapacities'),
  rule(READ, 'resource.k8s.io', 'deviceclasses'),
  rule(READ_UPDATE, 'resource.k8s.io', 'resourceclaims'),
  rule(READ_UPDATE, 'resource.k8s.io', 'resourceclaims/status'),
  rule(READ_UPDATE, 'core', 'pods/finalizers'),
  rule(READ, 'resource.k8s.io', 'resourceslices'),
  rule(READ, 'resource.k8s.io', 'devicetaintrules'),
];

const CONTROLLER_MANAGER_RULES: readonly PolicyRule[] = [
  EVENTS,
  rule('create', 'coordination.k8s.io', 'leases'),
  rule('get update', 'coordination.k8s.io', 'leases', 'kube-controller-manager'),
  rule('create', 'core', 'secrets serviceaccounts'),
  rule('delete', 'core', 'secrets'),
  rule('get', 'core', 'configmaps namespaces secrets serviceaccounts'),
  rule('update', 'core', 'secrets serviceaccounts'),
  rule('create', 'authentication.k8s.io', 'tokenreviews'),
  rule('create', 'authorization.k8s.io', 'subjectaccessreviews'),
  rule('list watch', '*', '*'),
  rule('create', 'core', 'serviceaccounts/token'),
];

const approver = (signer: string): PolicyRule =>
  rule('approve', 'certificates.k8s.io', 'signers', `kubernetes.io/${signer}`);

const OWN_ROLES: readonly RoleRow[] = [
  { name: 'cluster-admin', rules: [rule('*', '*', '*'), paths('*', '*')] },
  {
    name: 'system:discovery',
    rules: [
      paths(
        'get',
        '/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*',
      ),
    ],
  },
  {
    name: 'system:monitoring',
    rules: [
      paths('get', '/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*'),
      paths('get', '/flagz'),
      paths('get', '/statusz'),
    ],
  },
  {
    name: 'system:basic-user',
    rules: [
      rule('create', 'authorization.k8s.io', 'selfsubjectaccessreviews selfsubjectrulesreviews'),
      rule('create', 'authentication.k8s.io', 'selfsubjectreviews'),
    ],
  },
  {
    name: 'system:public-info-viewer',
    rules: [paths('get', '/livez /readyz /healthz /version /version/')],
  },
  {
    name: 'system:aggregate-to-admin',
    aggregateTo: 'admin',
    rules: [
      rule('create', 'authorization.k8s.io', 'localsubjectaccessreviews'),
      rule(READ_WRITE, 'rbac.authorization.k8s.io', 'roles rolebindings'),
    ],
  },
  { name: 'system:aggregate-to-edit', aggregateTo: 'edit', rules: EDIT_RULES },
  { name: 'system:aggregate-to-view', aggregateTo: 'view', rules: VIEW_RULES },
  {
    name: 'system:heapster',
    rules: [rule(READ, 'core', 'events pods nodes namespaces'), rule(READ, 'extensions', 'deployments')],
  },
  { name: 'system:node', rules: NODE_RULES },
  {
    name: 'system:node-problem-detector',
    rules: [rule('get', 'core', 'nodes'), rule('patch', 'core', 'nodes/status'), EVENTS],
  },
  {
    name: 'system:kubelet-api-admin',
    rules: [
      rule(READ, 'core', 'nodes'),
      rule('proxy', 'core', 'nodes'),
      rule('*', 'core', 'nodes/proxy nodes/metrics nodes/stats nodes/log'),
      rule('*', 'core', 'nodes/pods nodes/healthz nodes/configz'),
    ],
  },
  {
    name: 'system:node-bootstrapper',
    rules: [rule('create get list watch', 'certificates.k8s.io', 'certificatesigningrequests')],
  },
  {
    name: 'system:auth-delegator',
    rules: [
      rule('create', 'authentication.k8s.io', 'tokenreviews'),
      rule('create', 'authorization.k8s.io', 'subjectaccessreviews'),
    ],
  },
  { name: 'system:kube-aggregator', rules: [rule(READ, 'core', 'services endpoints')] },
  { name: 'system:kube-controller-manager', rules: CONTROLLER_MANAGER_RULES },
  { name: 'system:kube-dns', rules: [rule('list watch', 'core', 'endpoints services')] },
  {
    name: 'system:persistent-volume-provisioner',
    rules: [
      rule('get list watch create delete', 'core', 'persistentvolumes'),
      rule('get list watch update', 'core', 'persistentvolumeclaims'),
      rule(READ, 'storage.k8s.io', 'storageclasses'),
      rule('watch', 'core', 'events'),
      EVENTS,
    ],
  },
  // Not upstream's: parts of the node's process that come as users of their own, because nodes may not do what they do.
  {
    name: 'system:bulkhead:dns',
    rules: [
      rule('list watch', 'core', 'services namespaces'),
      rule(READ, 'core', 'nodes'),
      rule('list watch', 'discovery.k8s.io', 'endpointslices'),
      EVENTS,
    ],
  },
  {
    name: 'system:bulkhead:load-balancers',
    rules: [
      rule('get list watch patch', 'core', 'services'),
      rule('patch', 'core', 'services/status'),
      rule(READ, 'core', 'nodes'),
      EVENTS,
    ],
  },
  {
    name: 'system:bulkhead:local-path-provisioner',
    rules: [
      rule('get list watch create update patch delete', 'core', 'persistentvolumes'),
      rule('get list watch update', 'core', 'persistentvolumeclaims'),
      rule('update', 'core', 'persistentvolumeclaims/status'),
      rule(READ, 'storage.k8s.io', 'storageclasses'),
      rule(READ, 'core', 'nodes'),
      EVENTS,
    ],
  },
  {
    name: 'system:certificates.k8s.io:certificatesigningrequests:nodeclient',
    rules: [rule('create', 'certificates.k8s.io', 'certificatesigningrequests/nodeclient')],
  },
  {
    name: 'system:certificates.k8s.io:certificatesigningrequests:selfnodeclient',
    rules: [rule('create', 'certificates.k8s.io', 'certificatesigningrequests/selfnodeclient')],
  },
  {
    name: 'system:volume-scheduler',
    rules: [
      rule(READ_UPDATE, 'core', 'persistentvolumes'),
      rule(READ, 'storage.k8s.io', 'storageclasses'),
      rule(READ_UPDATE, 'core', 'persistentvolumeclaims'),
    ],
  },
  { name: 'system:certificates.k8s.io:legacy-unknown-approver', rules: [approver('legacy-unknown')] },
  { name: 'system:certificates.k8s.io:kubelet-serving-approver', rules: [approver('kubelet-serving')] },
  {
    name: 'system:certificates.k8s.io:kube-apiserver-client-approver',
    rules: [approver('kube-apiserver-client')],
  },
  {
    name: 'system:certificates.k8s.io:kube-apiserver-client-kubelet-approver',
    rules: [approver('kube-apiserver-client-kubelet')],
  },
  {
    name: 'system:service-account-issuer-discovery',
    rules: [
      paths(
        'get',
        '/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/',
      ),
    ],
  },
  {
    name: 'system:node-proxier',
    rules: [
      rule('list watch', 'core', 'services endpoints'),
      rule(READ, 'core', 'nodes'),
      EVENTS,
      rule('list watch', 'networking.k8s.io', 'servicecidrs'),
      rule('list watch', 'discovery.k8s.io', 'endpointslices'),
    ],
  },
  { name: 'system:kube-scheduler', rules: SCHEDULER_RULES },
];

const own = (name: string): readonly PolicyRule[] => OWN_ROLES.find((row) => row.name === name)?.rules ?? [];
// In the order in which the aggregation controller meets them: by the name of the gathered role.
const VIEW = own('system:aggregate-to-view');
const EDIT = [...own('system:aggregate-to-edit'), ...VIEW];
const ADMIN = [...EDIT, ...own('system:aggregate-to-admin')];

export const CLUSTER_ROLES: readonly RoleRow[] = [
  ...OWN_ROLES,
  { name: 'admin', aggregates: 'admin', rules: ADMIN },
  { name: 'edit', aggregates: 'edit', aggregateTo: 'admin', rules: EDIT },
  { name: 'view', aggregates: 'view', aggregateTo: 'edit', rules: VIEW },
];

const user = (name: string): Subject => ({ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name });
const group = (name: string): Subject => ({ kind: 'Group', apiGroup: 'rbac.authorization.k8s.io', name });
export const serviceAccount = (name: string): Subject => ({
  kind: 'ServiceAccount',
  name,
  namespace: 'kube-system',
});

export interface BindingRow {
  readonly role: string;
  readonly name?: string;
  readonly subjects: readonly Subject[];
}

export const CLUSTER_ROLE_BINDINGS: readonly BindingRow[] = [
  { role: 'cluster-admin', subjects: [group('system:masters')] },
  { role: 'system:monitoring', subjects: [group('system:monitoring')] },
  { role: 'system:discovery', subjects: [group('system:authenticated')] },
  { role: 'system:basic-user', subjects: [group('system:authenticated')] },
  {
    role: 'system:public-info-viewer',
    subjects: [group('system:authenticated'), group('system:unauthenticated')],
  },
  { role: 'system:node-proxier', subjects: [user('system:kube-proxy')] },
  { role: 'system:kube-controller-manager', subjects: [user('system:kube-controller-manager')] },
  { role: 'system:kube-dns', subjects: [serviceAccount('kube-dns')] },
  { role: 'system:kube-scheduler', subjects: [user('system:kube-scheduler')] },
  { role: 'system:volume-scheduler', subjects: [user('system:kube-scheduler')] },
  { role: 'system:bulkhead:dns', subjects: [user('system:bulkhead:dns')] },
  { role: 'system:bulkhead:load-balancers', subjects: [user('system:bulkhead:load-balancers')] },
  {
    role: 'system:bulkhead:local-path-provisioner',
    subjects: [user('system:bulkhead:local-path-provisioner')],
  },
  // Nodes get their power from the node authorizer; the binding is kept, empty, so that nobody has to wonder.
  { role: 'system:node', subjects: [] },
  { role: 'system:service-account-issuer-discovery', subjects: [group('system:serviceaccounts')] },
];

export const subjects = { user, group, serviceAccount } as const;
