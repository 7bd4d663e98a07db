// The default ClusterRole of each controller, system:controller:<name>, bound to the service account
// kube-system/<name>. Kubernetes 1.36, default feature gates.

import type { PolicyRule } from '../../api/types/rbac-v1.ts';
import { type BindingRow, type RoleRow, serviceAccount } from './cluster-roles.ts';
import { EVENTS, READ, rule } from './policy-rule.ts';

const POD_WRITER = rule('list watch create delete patch', 'core', 'pods');

const CONTROLLERS: readonly (readonly [name: string, rules: readonly PolicyRule[]])[] = [
  [
    'attachdetach-controller',
    [
      rule('list watch', 'core', 'persistentvolumes persistentvolumeclaims'),
      rule(READ, 'core', 'nodes'),
      rule('patch update', 'core', 'nodes/status'),
      rule('list watch', 'core', 'pods'),
      EVENTS,
      rule('get create delete list watch', 'storage.k8s.io', 'volumeattachments'),
      rule(READ, 'storage.k8s.io', 'csidrivers'),
      rule(READ, 'storage.k8s.io', 'csinodes'),
    ],
  ],
  [
    'clusterrole-aggregation-controller',
    [rule('escalate get list watch update patch', 'rbac.authorization.k8s.io', 'clusterroles')],
  ],
  [
    'cronjob-controller',
    [
      rule('get list watch update', 'batch', 'cronjobs'),
      rule('get list watch create update delete patch', 'batch', 'jobs'),
      rule('update', 'batch', 'cronjobs/status'),
      rule('update', 'batch', 'cronjobs/finalizers'),
      rule('list watch delete', 'core', 'pods'),
      EVENTS,
    ],
  ],
  [
    'daemon-set-controller',
    [
      rule(READ, 'extensions apps', 'daemonsets'),
      rule('update', 'extensions apps', 'daemonsets/status'),
      rule('update', 'extensions apps', 'daemonsets/finalizers'),
      rule('list watch', 'core', 'nodes'),
      POD_WRITER,
      rule('create', 'core', 'pods/binding'),
      rule('get list watch create delete update patch', 'apps', 'controllerrevisions'),
      EVENTS,
    ],
  ],
  [
    'deployment-controller',
    [
      rule('get list watch update', 'extensions apps', 'deployments'),
      rule('update', 'extensions apps', 'deployments/status'),
      rule('update', 'extensions apps', 'deployments/finalizers'),
      rule('get list watch create update patch delete', 'apps extensions', 'replicasets'),
      rule('get list watch update', 'core', 'pods'),
      EVENTS,
    ],
  ],
  [
    'disruption-controller',
    [
      rule(READ, 'extensions apps', 'deployments'),
      rule(READ, 'apps extensions', 'replicasets'),
      rule(READ, 'core', 'replicationcontrollers'),
      rule(READ, 'policy', 'poddisruptionbudgets'),
      rule(READ, 'apps', 'statefulsets'),
      rule('update', 'policy', 'poddisruptionbudgets/status'),
      rule('patch update', 'core', 'pods/status'),
      rule('get', '*', '*/scale'),
      EVENTS,
    ],
  ],
  [
    'endpoint-controller',
    [
      rule(READ, 'core', 'services pods'),
      rule('get list watch create update delete', 'core', 'endpoints'),
      rule('create', 'core', 'endpoints/restricted'),
      EVENTS,
    ],
  ],
  [
    'endpointslice-controller',
    [
      rule(READ, 'core', 'services pods nodes'),
      rule('update', 'core', 'services/finalizers'),
      rule('get list watch create update delete', 'discovery.k8s.io', 'endpointslices'),
      EVENTS,
    ],
  ],
  [
    'endpointslicemirroring-controller',
    [
      rule(READ, 'core', 'services endpoints'),
      rule('update', 'core', 'services/finalizers'),
      rule('update', 'core', 'endpoints/finalizers'),
      rule('get list watch create update delete', 'discovery.k8s.io', 'endpointslices'),
      EVENTS,
    ],
  ],
  [
    'expand-controller',
    [
      rule('get list watch update patch', 'core', 'persistentvolumes'),
      rule('update patch', 'core', 'persistentvolumeclaims/status'),
      rule(READ, 'core', 'persistentvolumeclaims'),
      EVENTS,
      rule('get', 'core', 'services'),
    ],
  ],
  [
    'ephemeral-volume-controller',
    [
      rule(READ, 'core', 'pods'),
      rule('update', 'core', 'pods/finalizers'),
      rule('get list watch create', 'core', 'persistentvolumeclaims'),
      EVENTS,
    ],
  ],
  [
    'resource-claim-controller',
    [
      rule(READ, 'core', 'pods'),
      rule('update', 'core', 'pods/finalizers'),
      rule('get list watch create delete', 'resource.k8s.io', 'resourceclaims'),
      rule('update patch', 'resource.k8s.io', 'resourceclaims resourceclaims/status'),
      rule('update patch', 'core', 'pods/status'),
      EVENTS,
    ],
  ],
  [
    'device-taint-eviction-controller',
    [
      rule('get list watch delete', 'core', 'pods'),
      rule('update patch', 'core', 'pods/status'),
      rule(READ, 'resource.k8s.io', 'resourceclaims'),
      rule(READ, 'resource.k8s.io', 'resourceslices'),
      rule(READ, 'resource.k8s.io', 'deviceclasses'),
      rule(READ, 'resource.k8s.io', 'devicetaintrules'),
      EVENTS,
    ],
  ],
  ['generic-garbage-collector', [rule('get list watch patch update delete', '*', '*'), EVENTS]],
  [
    'horizontal-pod-autoscaler',
    [
      rule(READ, 'autoscaling', 'horizontalpodautoscalers'),
      rule('update', 'autoscaling', 'horizontalpodautoscalers/status'),
      rule('get update', '*', '*/scale'),
      rule('list watch', 'core', 'pods'),
      rule('list watch', 'metrics.k8s.io', 'pods'),
      rule(READ, 'custom.metrics.k8s.io', '*'),
      rule(READ, 'external.metrics.k8s.io', '*'),
      EVENTS,
    ],
  ],
  [
    'job-controller',
    [
      rule('get list watch update patch', 'batch', 'jobs'),
      rule('update', 'batch', 'jobs/status'),
      rule('update', 'batch', 'jobs/finalizers'),
      POD_WRITER,
      EVENTS,
    ],
  ],
  [
    'namespace-controller',
    [
      rule('get list watch delete', 'core', 'namespaces'),
      rule('update', 'core', 'namespaces/finalize namespaces/status'),
      rule('get list watch delete deletecollection', '*', '*'),
    ],
  ],
  [
    'node-controller',
    [
      rule('get list watch update delete patch', 'core', 'nodes'),
      rule('patch update', 'core', 'nodes/status'),
      rule('patch update', 'core', 'pods/status'),
      rule('list watch get delete', 'core', 'pods'),
      EVENTS,
    ],
  ],
  [
    'persistent-volume-binder',
    [
      rule('get list watch update create delete', 'core', 'persistentvolumes'),
      rule('update', 'core', 'persistentvolumes/status'),
      rule('get list watch update', 'core', 'persistentvolumeclaims'),
      rule('update', 'core', 'persistentvolumeclaims/status'),
      rule('list watch get create delete', 'core', 'pods'),
      rule(READ, 'storage.k8s.io', 'storageclasses'),
      rule('list watch', 'core', 'nodes'),
      EVENTS,
      rule('watch', 'core', 'events'),
      rule('get', 'core', 'services'),
    ],
  ],
  [
    'pod-garbage-collector',
    [
      rule('list watch delete', 'core', 'pods'),
      rule(READ, 'core', 'nodes'),
      rule('patch', 'core', 'pods/status'),
    ],
  ],
  [
    'replicaset-controller',
    [
      rule('get list watch update', 'apps extensions', 'replicasets'),
      rule('update', 'apps extensions', 'replicasets/status'),
      rule('update', 'apps extensions', 'replicasets/finalizers'),
      POD_WRITER,
      EVENTS,
    ],
  ],
  [
    'replication-controller',
    [
      rule('get list watch update', 'core', 'replicationcontrollers'),
      rule('update', 'core', 'replicationcontrollers/status'),
      rule('update', 'core', 'replicationcontrollers/finalizers'),
      POD_WRITER,
      EVENTS,
    ],
  ],
  [
    'resourcequota-controller',
    [rule('list watch', '*', '*'), rule('update', 'core', 'resourcequotas/status'), EVENTS],
  ],
  ['route-controller', [rule('list watch', 'core', 'nodes'), rule('patch', 'core', 'nodes/status'), EVENTS]],
  ['service-account-controller', [rule('create', 'core', 'serviceaccounts'), EVENTS]],
  [
    'service-controller',
    [
      rule(READ, 'core', 'services'),
      rule('patch update', 'core', 'services/status'),
      rule('list watch', 'core', 'nodes'),
      EVENTS,
    ],
  ],
  [
    'service-cidrs-controller',
    [
      rule('get list watch patch update', 'networking.k8s.io', 'servicecidrs'),
      rule('patch update', 'networking.k8s.io', 'servicecidrs/finalizers'),
      rule('patch update', 'networking.k8s.io', 'servicecidrs/status'),
      rule(READ, 'networking.k8s.io', 'ipaddresses'),
      EVENTS,
    ],
  ],
  [
    'statefulset-controller',
    [
      rule('list watch', 'core', 'pods'),
      rule(READ, 'apps', 'statefulsets'),
      rule('update', 'apps', 'statefulsets/status'),
      rule('update', 'apps', 'statefulsets/finalizers'),
      rule('get create delete update patch', 'core', 'pods'),
      rule('get create delete update patch list watch', 'apps', 'controllerrevisions'),
      rule('get create list watch', 'core', 'persistentvolumeclaims'),
      rule('update delete', 'core', 'persistentvolumeclaims'),
      rule('update', 'core', 'pods/finalizers'),
      EVENTS,
    ],
  ],
  ['ttl-controller', [rule('update patch list watch', 'core', 'nodes'), EVENTS]],
  [
    'certificate-controller',
    [
      rule('get list watch delete', 'certificates.k8s.io', 'certificatesigningrequests'),
      rule(
        'update',
        'certificates.k8s.io',
        'certificatesigningrequests/status certificatesigningrequests/approval',
      ),
      rule('approve', 'certificates.k8s.io', 'signers', 'kubernetes.io/kube-apiserver-client-kubelet'),
      rule(
        'sign',
        'certificates.k8s.io',
        'signers',
        'kubernetes.io/legacy-unknown kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving',
      ),
      rule('create', 'authorization.k8s.io', 'subjectaccessreviews'),
      EVENTS,
    ],
  ],
  [
    'pvc-protection-controller',
    [
      rule('get list watch update', 'core', 'persistentvolumeclaims'),
      rule('list watch get', 'core', 'pods'),
      EVENTS,
    ],
  ],
  ['pv-protection-controller', [rule('get list watch update', 'core', 'persistentvolumes'), EVENTS]],
  [
    'volumeattributesclass-protection-controller',
    [
      rule(READ, 'core', 'persistentvolumeclaims'),
      rule(READ, 'core', 'persistentvolumes'),
      rule('get list watch update', 'storage.k8s.io', 'volumeattributesclasses'),
      EVENTS,
    ],
  ],
  ['ttl-after-finished-controller', [rule('get list watch delete', 'batch', 'jobs'), EVENTS]],
  ['root-ca-cert-publisher', [rule('create update', 'core', 'configmaps'), EVENTS]],
  [
    'validatingadmissionpolicy-status-controller',
    [
      rule(READ, 'admissionregistration.k8s.io', 'validatingadmissionpolicies'),
      rule('get patch update', 'admissionregistration.k8s.io', 'validatingadmissionpolicies/status'),
      EVENTS,
    ],
  ],
  [
    'legacy-service-account-token-cleaner',
    [
      rule('get', 'core', 'configmaps', 'kube-apiserver-legacy-service-account-token-tracking'),
      rule('patch delete', 'core', 'secrets'),
    ],
  ],
  [
    'selinux-warning-controller',
    [
      EVENTS,
      rule(READ, 'core', 'persistentvolumes'),
      rule(READ, 'core', 'persistentvolumeclaims'),
      rule(READ, 'core', 'pods'),
      rule(READ, 'storage.k8s.io', 'csidrivers'),
    ],
  ],
];

export const CONTROLLER_ROLES: readonly RoleRow[] = CONTROLLERS.map(([name, rules]) => ({
  name: `system:controller:${name}`,
  rules,
}));

export const CONTROLLER_ROLE_BINDINGS: readonly BindingRow[] = CONTROLLERS.map(([name]) => ({
  role: `system:controller:${name}`,
  subjects: [serviceAccount(name)],
}));
