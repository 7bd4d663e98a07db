// Defaults that a schema cannot declare: upstream's hand-written ones (pkg/apis/*/*/defaults.go), one file a group.
// They run on an object in normal form, right after decoding, on every write; so each leaves alone what is set.

import type { MutableObject, ResourceDefinition } from '../definition.ts';
import { formatTime } from '../schema/time.ts';
import * as apps from './apps.ts';
import * as autoscaling from './autoscaling.ts';
import * as batch from './batch.ts';
import * as core from './core.ts';
import * as others from './others.ts';
import { defaultPod } from './pod.ts';

type Defaulter = (object: MutableObject, now: () => string) => void;

/** The one place where an object's type is taken from its definition instead of from the compiler. */
function of<T>(defaulter: (object: T, now: () => string) => void): Defaulter {
  return defaulter as unknown as Defaulter;
}

const DEFAULTERS: ReadonlyMap<string, Defaulter> = new Map([
  ['/v1/Endpoints', of(core.defaultEndpoints)],
  ['/v1/LimitRange', of(core.defaultLimitRange)],
  ['/v1/Namespace', of(core.defaultNamespace)],
  ['/v1/Node', of(core.defaultNode)],
  ['/v1/PersistentVolume', of(core.defaultPersistentVolume)],
  ['/v1/PersistentVolumeClaim', of(core.defaultPersistentVolumeClaim)],
  ['/v1/Pod', of(defaultPod)],
  ['/v1/PodTemplate', of(core.defaultPodTemplate)],
  ['/v1/ReplicationController', of(core.defaultReplicationController)],
  ['/v1/ResourceQuota', of(core.defaultResourceQuota)],
  ['/v1/Secret', of(core.defaultSecret)],
  ['/v1/Service', of(core.defaultService)],
  ['admissionregistration.k8s.io/v1/MutatingAdmissionPolicy', of(others.defaultAdmissionPolicy)],
  [
    'admissionregistration.k8s.io/v1/MutatingAdmissionPolicyBinding',
    of(others.defaultAdmissionPolicyBinding),
  ],
  ['admissionregistration.k8s.io/v1/MutatingWebhookConfiguration', of(others.defaultMutatingWebhooks)],
  ['admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy', of(others.defaultAdmissionPolicy)],
  [
    'admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding',
    of(others.defaultAdmissionPolicyBinding),
  ],
  ['admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration', of(others.defaultValidatingWebhooks)],
  ['apiextensions.k8s.io/v1/CustomResourceDefinition', of(others.defaultCustomResourceDefinition)],
  ['apiregistration.k8s.io/v1/APIService', of(others.defaultApiService)],
  ['apps/v1/DaemonSet', of(apps.defaultDaemonSet)],
  ['apps/v1/Deployment', of(apps.defaultDeployment)],
  ['apps/v1/ReplicaSet', of(apps.defaultReplicaSet)],
  ['apps/v1/StatefulSet', of(apps.defaultStatefulSet)],
  ['authentication.k8s.io/v1/TokenRequest', of(others.defaultTokenRequest)],
  ['autoscaling/v1/HorizontalPodAutoscaler', of(autoscaling.defaultHorizontalPodAutoscalerV1)],
  ['autoscaling/v2/HorizontalPodAutoscaler', of(autoscaling.defaultHorizontalPodAutoscalerV2)],
  ['batch/v1/CronJob', of(batch.defaultCronJob)],
  ['batch/v1/Job', of(batch.defaultJob)],
  ['discovery.k8s.io/v1/EndpointSlice', of(others.defaultEndpointSlice)],
  ['flowcontrol.apiserver.k8s.io/v1/FlowSchema', of(others.defaultFlowSchema)],
  ['flowcontrol.apiserver.k8s.io/v1/PriorityLevelConfiguration', of(others.defaultPriorityLevel)],
  ['networking.k8s.io/v1/IngressClass', of(others.defaultIngressClass)],
  ['networking.k8s.io/v1/NetworkPolicy', of(others.defaultNetworkPolicy)],
  ['node.k8s.io/v1/RuntimeClass', of(others.defaultRuntimeClass)],
  ['rbac.authorization.k8s.io/v1/ClusterRoleBinding', of(others.defaultRoleBinding)],
  ['rbac.authorization.k8s.io/v1/RoleBinding', of(others.defaultRoleBinding)],
  ['resource.k8s.io/v1/ResourceClaim', of(others.defaultResourceClaim)],
  ['resource.k8s.io/v1/ResourceClaimTemplate', of(others.defaultResourceClaimTemplate)],
  ['resource.k8s.io/v1/ResourceSlice', of(others.defaultResourceSlice)],
  ['scheduling.k8s.io/v1/PriorityClass', of(others.defaultPriorityClass)],
  ['storage.k8s.io/v1/CSIDriver', of(others.defaultCsiDriver)],
  ['storage.k8s.io/v1/StorageClass', of(others.defaultStorageClass)],
]);

/** Sets what the client left open, in place. `now`: milliseconds since the epoch, for the few defaults that are a time. */
export function defaultObject(
  target: Pick<ResourceDefinition, 'group' | 'version' | 'kind'>,
  object: MutableObject,
  now: () => number = Date.now,
): void {
  DEFAULTERS.get(`${target.group}/${target.version}/${target.kind}`)?.(object, () => formatTime(now()));
}
