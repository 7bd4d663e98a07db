// The well-known resources as typed values: where they stand in the URL, their kind, their scope and, for the
// compiler only, the shape of their objects. `client.resource(resources.pods, 'default')` is typed by it.
// Custom resources are named with `namespaced<T>(…)` or `clusterScoped<T>(…)` in the same way.

import type { GroupVersionResource, KubeObject } from '../api/index.ts';
import type {
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  MutatingWebhookConfiguration,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  ValidatingWebhookConfiguration,
} from '../api/types/admissionregistration-v1.ts';
import type { CustomResourceDefinition } from '../api/types/apiextensions-v1.ts';
import type { APIService } from '../api/types/apiregistration-v1.ts';
import type {
  ControllerRevision,
  DaemonSet,
  Deployment,
  ReplicaSet,
  StatefulSet,
} from '../api/types/apps-v1.ts';
import type { SelfSubjectReview, TokenReview } from '../api/types/authentication-v1.ts';
import type {
  LocalSubjectAccessReview,
  SelfSubjectAccessReview,
  SelfSubjectRulesReview,
  SubjectAccessReview,
} from '../api/types/authorization-v1.ts';
import type { HorizontalPodAutoscaler } from '../api/types/autoscaling-v2.ts';
import type { CronJob, Job } from '../api/types/batch-v1.ts';
import type { CertificateSigningRequest } from '../api/types/certificates-v1.ts';
import type { Lease } from '../api/types/coordination-v1.ts';
import type {
  Binding,
  ComponentStatus,
  ConfigMap,
  Endpoints,
  Event,
  LimitRange,
  Namespace,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodTemplate,
  ReplicationController,
  ResourceQuota,
  Secret,
  Service,
  ServiceAccount,
} from '../api/types/core-v1.ts';
import type { EndpointSlice } from '../api/types/discovery-v1.ts';
import type { FlowSchema, PriorityLevelConfiguration } from '../api/types/flowcontrol-v1.ts';
import type {
  Ingress,
  IngressClass,
  IPAddress,
  NetworkPolicy,
  ServiceCIDR,
} from '../api/types/networking-v1.ts';
import type { RuntimeClass } from '../api/types/node-v1.ts';
import type { PodDisruptionBudget } from '../api/types/policy-v1.ts';
import type { ClusterRole, ClusterRoleBinding, Role, RoleBinding } from '../api/types/rbac-v1.ts';
import type {
  DeviceClass,
  ResourceClaim,
  ResourceClaimTemplate,
  ResourceSlice,
} from '../api/types/resource-v1.ts';
import type { PriorityClass } from '../api/types/scheduling-v1.ts';
import type {
  CSIDriver,
  CSINode,
  CSIStorageCapacity,
  StorageClass,
  VolumeAttachment,
  VolumeAttributesClass,
} from '../api/types/storage-v1.ts';

declare const objectType: unique symbol;

/** A resource and, as a type only, the shape of its objects. */
export interface ResourceType<T extends KubeObject = KubeObject> extends GroupVersionResource {
  readonly kind: string;
  readonly namespaced: boolean;
  /** Never there at run time. */
  readonly [objectType]?: T;
}

/** The shape of a resource type's objects: `ObjectOf<typeof resources.pods>` is Pod. */
export type ObjectOf<R> = R extends ResourceType<infer T> ? T : never;

export function namespaced<T extends KubeObject>(
  group: string,
  version: string,
  resource: string,
  kind: string,
): ResourceType<T> {
  return Object.freeze({ group, version, resource, kind, namespaced: true });
}

export function clusterScoped<T extends KubeObject>(
  group: string,
  version: string,
  resource: string,
  kind: string,
): ResourceType<T> {
  return Object.freeze({ group, version, resource, kind, namespaced: false });
}

export const resources = {
  bindings: namespaced<Binding>('', 'v1', 'bindings', 'Binding'),
  componentStatuses: clusterScoped<ComponentStatus>('', 'v1', 'componentstatuses', 'ComponentStatus'),
  configMaps: namespaced<ConfigMap>('', 'v1', 'configmaps', 'ConfigMap'),
  endpoints: namespaced<Endpoints>('', 'v1', 'endpoints', 'Endpoints'),
  events: namespaced<Event>('', 'v1', 'events', 'Event'),
  limitRanges: namespaced<LimitRange>('', 'v1', 'limitranges', 'LimitRange'),
  namespaces: clusterScoped<Namespace>('', 'v1', 'namespaces', 'Namespace'),
  nodes: clusterScoped<Node>('', 'v1', 'nodes', 'Node'),
  persistentVolumeClaims: namespaced<PersistentVolumeClaim>(
    '',
    'v1',
    'persistentvolumeclaims',
    'PersistentVolumeClaim',
  ),
  persistentVolumes: clusterScoped<PersistentVolume>('', 'v1', 'persistentvolumes', 'PersistentVolume'),
  pods: namespaced<Pod>('', 'v1', 'pods', 'Pod'),
  podTemplates: namespaced<PodTemplate>('', 'v1', 'podtemplates', 'PodTemplate'),
  replicationControllers: namespaced<ReplicationController>(
    '',
    'v1',
    'replicationcontrollers',
    'ReplicationController',
  ),
  resourceQuotas: namespaced<ResourceQuota>('', 'v1', 'resourcequotas', 'ResourceQuota'),
  secrets: namespaced<Secret>('', 'v1', 'secrets', 'Secret'),
  serviceAccounts: namespaced<ServiceAccount>('', 'v1', 'serviceaccounts', 'ServiceAccount'),
  services: namespaced<Service>('', 'v1', 'services', 'Service'),
  apiServices: clusterScoped<APIService>('apiregistration.k8s.io', 'v1', 'apiservices', 'APIService'),
  controllerRevisions: namespaced<ControllerRevision>(
    'apps',
    'v1',
    'controllerrevisions',
    'ControllerRevision',
  ),
  daemonSets: namespaced<DaemonSet>('apps', 'v1', 'daemonsets', 'DaemonSet'),
  deployments: namespaced<Deployment>('apps', 'v1', 'deployments', 'Deployment'),
  replicaSets: namespaced<ReplicaSet>('apps', 'v1', 'replicasets', 'ReplicaSet'),
  statefulSets: namespaced<StatefulSet>('apps', 'v1', 'statefulsets', 'StatefulSet'),
  selfSubjectReviews: clusterScoped<SelfSubjectReview>(
    'authentication.k8s.io',
    'v1',
    'selfsubjectreviews',
    'SelfSubjectReview',
  ),
  tokenReviews: clusterScoped<TokenReview>('authentication.k8s.io', 'v1', 'tokenreviews', 'TokenReview'),
  localSubjectAccessReviews: namespaced<LocalSubjectAccessReview>(
    'authorization.k8s.io',
    'v1',
    'localsubjectaccessreviews',
    'LocalSubjectAccessReview',
  ),
  selfSubjectAccessReviews: clusterScoped<SelfSubjectAccessReview>(
    'authorization.k8s.io',
    'v1',
    'selfsubjectaccessreviews',
    'SelfSubjectAccessReview',
  ),
  selfSubjectRulesReviews: clusterScoped<SelfSubjectRulesReview>(
    'authorization.k8s.io',
    'v1',
    'selfsubjectrulesreviews',
    'SelfSubjectRulesReview',
  ),
  subjectAccessReviews: clusterScoped<SubjectAccessReview>(
    'authorization.k8s.io',
    'v1',
    'subjectaccessreviews',
    'SubjectAccessReview',
  ),
  horizontalPodAutoscalers: namespaced<HorizontalPodAutoscaler>(
    'autoscaling',
    'v2',
    'horizontalpodautoscalers',
    'HorizontalPodAutoscaler',
  ),
  cronJobs: namespaced<CronJob>('batch', 'v1', 'cronjobs', 'CronJob'),
  jobs: namespaced<Job>('batch', 'v1', 'jobs', 'Job'),
  certificateSigningRequests: clusterScoped<CertificateSigningRequest>(
    'certificates.k8s.io',
    'v1',
    'certificatesigningrequests',
    'CertificateSigningRequest',
  ),
  ingressClasses: clusterScoped<IngressClass>('networking.k8s.io', 'v1', 'ingressclasses', 'IngressClass'),
  ingresses: namespaced<Ingress>('networking.k8s.io', 'v1', 'ingresses', 'Ingress'),
  ipAddresses: clusterScoped<IPAddress>('networking.k8s.io', 'v1', 'ipaddresses', 'IPAddress'),
  networkPolicies: namespaced<NetworkPolicy>('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy'),
  serviceCidrs: clusterScoped<ServiceCIDR>('networking.k8s.io', 'v1', 'servicecidrs', 'ServiceCIDR'),
  podDisruptionBudgets: namespaced<PodDisruptionBudget>(
    'policy',
    'v1',
    'poddisruptionbudgets',
    'PodDisruptionBudget',
  ),
  clusterRoleBindings: clusterScoped<ClusterRoleBinding>(
    'rbac.authorization.k8s.io',
    'v1',
    'clusterrolebindings',
    'ClusterRoleBinding',
  ),
  clusterRoles: clusterScoped<ClusterRole>('rbac.authorization.k8s.io', 'v1', 'clusterroles', 'ClusterRole'),
  roleBindings: namespaced<RoleBinding>('rbac.authorization.k8s.io', 'v1', 'rolebindings', 'RoleBinding'),
  roles: namespaced<Role>('rbac.authorization.k8s.io', 'v1', 'roles', 'Role'),
  csiDrivers: clusterScoped<CSIDriver>('storage.k8s.io', 'v1', 'csidrivers', 'CSIDriver'),
  csiNodes: clusterScoped<CSINode>('storage.k8s.io', 'v1', 'csinodes', 'CSINode'),
  csiStorageCapacities: namespaced<CSIStorageCapacity>(
    'storage.k8s.io',
    'v1',
    'csistoragecapacities',
    'CSIStorageCapacity',
  ),
  storageClasses: clusterScoped<StorageClass>('storage.k8s.io', 'v1', 'storageclasses', 'StorageClass'),
  volumeAttachments: clusterScoped<VolumeAttachment>(
    'storage.k8s.io',
    'v1',
    'volumeattachments',
    'VolumeAttachment',
  ),
  volumeAttributesClasses: clusterScoped<VolumeAttributesClass>(
    'storage.k8s.io',
    'v1',
    'volumeattributesclasses',
    'VolumeAttributesClass',
  ),
  mutatingAdmissionPolicies: clusterScoped<MutatingAdmissionPolicy>(
    'admissionregistration.k8s.io',
    'v1',
    'mutatingadmissionpolicies',
    'MutatingAdmissionPolicy',
  ),
  mutatingAdmissionPolicyBindings: clusterScoped<MutatingAdmissionPolicyBinding>(
    'admissionregistration.k8s.io',
    'v1',
    'mutatingadmissionpolicybindings',
    'MutatingAdmissionPolicyBinding',
  ),
  mutatingWebhookConfigurations: clusterScoped<MutatingWebhookConfiguration>(
    'admissionregistration.k8s.io',
    'v1',
    'mutatingwebhookconfigurations',
    'MutatingWebhookConfiguration',
  ),
  validatingAdmissionPolicies: clusterScoped<ValidatingAdmissionPolicy>(
    'admissionregistration.k8s.io',
    'v1',
    'validatingadmissionpolicies',
    'ValidatingAdmissionPolicy',
  ),
  validatingAdmissionPolicyBindings: clusterScoped<ValidatingAdmissionPolicyBinding>(
    'admissionregistration.k8s.io',
    'v1',
    'validatingadmissionpolicybindings',
    'ValidatingAdmissionPolicyBinding',
  ),
  validatingWebhookConfigurations: clusterScoped<ValidatingWebhookConfiguration>(
    'admissionregistration.k8s.io',
    'v1',
    'validatingwebhookconfigurations',
    'ValidatingWebhookConfiguration',
  ),
  customResourceDefinitions: clusterScoped<CustomResourceDefinition>(
    'apiextensions.k8s.io',
    'v1',
    'customresourcedefinitions',
    'CustomResourceDefinition',
  ),
  priorityClasses: clusterScoped<PriorityClass>(
    'scheduling.k8s.io',
    'v1',
    'priorityclasses',
    'PriorityClass',
  ),
  leases: namespaced<Lease>('coordination.k8s.io', 'v1', 'leases', 'Lease'),
  runtimeClasses: clusterScoped<RuntimeClass>('node.k8s.io', 'v1', 'runtimeclasses', 'RuntimeClass'),
  endpointSlices: namespaced<EndpointSlice>('discovery.k8s.io', 'v1', 'endpointslices', 'EndpointSlice'),
  deviceClasses: clusterScoped<DeviceClass>('resource.k8s.io', 'v1', 'deviceclasses', 'DeviceClass'),
  resourceClaims: namespaced<ResourceClaim>('resource.k8s.io', 'v1', 'resourceclaims', 'ResourceClaim'),
  resourceClaimTemplates: namespaced<ResourceClaimTemplate>(
    'resource.k8s.io',
    'v1',
    'resourceclaimtemplates',
    'ResourceClaimTemplate',
  ),
  resourceSlices: clusterScoped<ResourceSlice>('resource.k8s.io', 'v1', 'resourceslices', 'ResourceSlice'),
  flowSchemas: clusterScoped<FlowSchema>('flowcontrol.apiserver.k8s.io', 'v1', 'flowschemas', 'FlowSchema'),
  priorityLevelConfigurations: clusterScoped<PriorityLevelConfiguration>(
    'flowcontrol.apiserver.k8s.io',
    'v1',
    'prioritylevelconfigurations',
    'PriorityLevelConfiguration',
  ),
} as const;
