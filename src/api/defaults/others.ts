// Defaults of the smaller groups, in alphabetical order (pkg/apis/<group>/v1/defaults.go upstream; those of
// apiextensions and apiregistration stand in their own repositories).

import type {
  MatchResources,
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  MutatingWebhookConfiguration,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  ValidatingWebhookConfiguration,
} from '../types/admissionregistration-v1.ts';
import type { CustomResourceDefinition } from '../types/apiextensions-v1.ts';
import type { APIService } from '../types/apiregistration-v1.ts';
import type { TokenRequest } from '../types/authentication-v1.ts';
import type { EndpointSlice } from '../types/discovery-v1.ts';
import type { FlowSchema, PriorityLevelConfiguration } from '../types/flowcontrol-v1.ts';
import type { IngressClass, NetworkPolicy } from '../types/networking-v1.ts';
import type { RuntimeClass } from '../types/node-v1.ts';
import type { ClusterRoleBinding, RoleBinding } from '../types/rbac-v1.ts';
import type {
  DeviceClaim,
  ResourceClaim,
  ResourceClaimTemplate,
  ResourceSlice,
} from '../types/resource-v1.ts';
import type { PriorityClass } from '../types/scheduling-v1.ts';
import type { CSIDriver, StorageClass } from '../types/storage-v1.ts';
import { roundResourceList } from './resources.ts';

const HTTPS_PORT = 443;
const RBAC_GROUP = 'rbac.authorization.k8s.io';

// admissionregistration.k8s.io

function defaultMatchResources(match: MatchResources | undefined): void {
  if (match === undefined) return;
  match.matchPolicy ??= 'Equivalent';
  match.namespaceSelector ??= {};
  match.objectSelector ??= {};
  for (const rule of [...(match.resourceRules ?? []), ...(match.excludeResourceRules ?? [])])
    rule.scope ??= '*';
}

function defaultWebhooks(
  webhooks: MutatingWebhookConfiguration['webhooks'] | ValidatingWebhookConfiguration['webhooks'],
): void {
  for (const webhook of webhooks ?? []) {
    webhook.failurePolicy ??= 'Fail';
    webhook.matchPolicy ??= 'Equivalent';
    webhook.namespaceSelector ??= {};
    webhook.objectSelector ??= {};
    webhook.timeoutSeconds ??= 10;
    if (webhook.clientConfig.service) webhook.clientConfig.service.port ??= HTTPS_PORT;
    for (const rule of webhook.rules ?? []) rule.scope ??= '*';
  }
}

export function defaultMutatingWebhooks(configuration: MutatingWebhookConfiguration): void {
  defaultWebhooks(configuration.webhooks);
  for (const webhook of configuration.webhooks ?? []) webhook.reinvocationPolicy ??= 'Never';
}

export function defaultValidatingWebhooks(configuration: ValidatingWebhookConfiguration): void {
  defaultWebhooks(configuration.webhooks);
}

export function defaultAdmissionPolicy(policy: ValidatingAdmissionPolicy | MutatingAdmissionPolicy): void {
  if (!policy.spec) return;
  policy.spec.failurePolicy ??= 'Fail';
  defaultMatchResources(policy.spec.matchConstraints);
}

export function defaultAdmissionPolicyBinding(
  binding: ValidatingAdmissionPolicyBinding | MutatingAdmissionPolicyBinding,
): void {
  defaultMatchResources(binding.spec?.matchResources);
}

// apiextensions.k8s.io

export function defaultCustomResourceDefinition(definition: CustomResourceDefinition): void {
  const { spec } = definition;
  const { names } = spec;
  if (!names.singular) names.singular = names.kind.toLowerCase();
  if (!names.listKind && names.kind) names.listKind = `${names.kind}List`;
  spec.conversion ??= { strategy: 'None' };
  const service = spec.conversion.webhook?.clientConfig?.service;
  if (service) service.port ??= HTTPS_PORT;
  definition.status ??= {};
  if (!definition.status.storedVersions?.length)
    definition.status.storedVersions = spec.versions.filter((v) => v.storage).map((v) => v.name);
}

// apiregistration.k8s.io

export function defaultApiService(service: APIService): void {
  if (service.spec?.service) service.spec.service.port ??= HTTPS_PORT;
}

// authentication.k8s.io

export function defaultTokenRequest(request: TokenRequest): void {
  request.spec.expirationSeconds ??= 3600;
}

// discovery.k8s.io

export function defaultEndpointSlice(slice: EndpointSlice): void {
  for (const port of slice.ports ?? []) {
    port.name ??= '';
    port.protocol ??= 'TCP';
  }
}

// flowcontrol.apiserver.k8s.io

export function defaultFlowSchema(schema: FlowSchema): void {
  if (schema.spec && !schema.spec.matchingPrecedence) schema.spec.matchingPrecedence = 1000;
}

export function defaultPriorityLevel(configuration: PriorityLevelConfiguration): void {
  const { exempt, limited } = configuration.spec ?? {};
  if (exempt) {
    exempt.nominalConcurrencyShares ??= 0;
    exempt.lendablePercent ??= 0;
  }
  if (limited) {
    limited.nominalConcurrencyShares ??= 30;
    limited.lendablePercent ??= 0;
    const queuing = limited.limitResponse?.queuing;
    if (queuing) {
      queuing.handSize ||= 8;
      queuing.queues ||= 64;
      queuing.queueLengthLimit ||= 50;
    }
  }
}

// networking.k8s.io

export function defaultNetworkPolicy(policy: NetworkPolicy): void {
  const { spec } = policy;
  if (!spec) return;
  // Whatever else it says, a policy that says nothing of types isolates for ingress.
  if (!spec.policyTypes?.length) spec.policyTypes = spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
  for (const rule of [...(spec.ingress ?? []), ...(spec.egress ?? [])])
    for (const port of rule.ports ?? []) port.protocol ??= 'TCP';
}

export function defaultIngressClass(ingressClass: IngressClass): void {
  if (ingressClass.spec?.parameters) ingressClass.spec.parameters.scope ??= 'Cluster';
}

// node.k8s.io

export function defaultRuntimeClass(runtimeClass: RuntimeClass): void {
  roundResourceList(runtimeClass.overhead?.podFixed);
}

// rbac.authorization.k8s.io

export function defaultRoleBinding(binding: RoleBinding | ClusterRoleBinding): void {
  if (!binding.roleRef.apiGroup) binding.roleRef.apiGroup = RBAC_GROUP;
  for (const subject of binding.subjects ?? [])
    if (!subject.apiGroup && (subject.kind === 'User' || subject.kind === 'Group'))
      subject.apiGroup = RBAC_GROUP;
}

// resource.k8s.io

function defaultDeviceClaim(claim: DeviceClaim | undefined): void {
  for (const request of claim?.requests ?? [])
    for (const device of [...(request.exactly ? [request.exactly] : []), ...(request.firstAvailable ?? [])]) {
      device.allocationMode ??= 'ExactCount';
      if (device.allocationMode === 'ExactCount') device.count ??= 1;
    }
}

export function defaultResourceClaim(claim: ResourceClaim): void {
  defaultDeviceClaim(claim.spec.devices);
}

export function defaultResourceClaimTemplate(template: ResourceClaimTemplate): void {
  defaultDeviceClaim(template.spec.spec.devices);
}

export function defaultResourceSlice(slice: ResourceSlice, now: () => string): void {
  for (const device of slice.spec.devices ?? [])
    for (const taint of device.taints ?? []) taint.timeAdded ??= now();
}

// scheduling.k8s.io

export function defaultPriorityClass(priorityClass: PriorityClass): void {
  priorityClass.preemptionPolicy ??= 'PreemptLowerPriority';
}

// storage.k8s.io

export function defaultStorageClass(storageClass: StorageClass): void {
  storageClass.reclaimPolicy ??= 'Delete';
  storageClass.volumeBindingMode ??= 'Immediate';
}

export function defaultCsiDriver(driver: CSIDriver): void {
  const { spec } = driver;
  spec.attachRequired ??= true;
  spec.podInfoOnMount ??= false;
  spec.storageCapacity ??= false;
  spec.fsGroupPolicy ??= 'ReadWriteOnceWithFSType';
  if (!spec.volumeLifecycleModes?.length) spec.volumeLifecycleModes = ['Persistent'];
  spec.requiresRepublish ??= false;
  spec.seLinuxMount ??= false;
}
