// Strategies of all other groups.

import type { MutableObject } from '../definition.ts';
import type { KubeObject } from '../object.ts';
import type { CustomResourceDefinition } from '../types/apiextensions-v1.ts';
import type { CertificateSigningRequest } from '../types/certificates-v1.ts';
import { fieldsOf, type StrategyRow } from './strategy.ts';

/** An APIService without a service is served right here, and so it is available from the start. */
function createApiService(object: MutableObject): void {
  const spec = object['spec'] as { readonly service?: unknown } | undefined;
  if (spec?.service !== undefined && spec.service !== null) return;
  object['status'] = {
    conditions: [
      {
        type: 'Available',
        status: 'True',
        lastTransitionTime: object.metadata.creationTimestamp ?? null,
        reason: 'Local',
        message: 'Local APIServices are always available',
      },
    ],
  };
}

function storageVersion(object: MutableObject): string | undefined {
  const { versions } = (object['spec'] ?? {}) as Partial<CustomResourceDefinition['spec']>;
  return versions?.find((version) => version.storage)?.name;
}

/** status.storedVersions lists every version that objects were ever stored in; new ones are added here. */
function recordStoredVersion(object: MutableObject): void {
  const version = storageVersion(object);
  const status = { ...((object['status'] ?? {}) as { storedVersions?: readonly string[] }) };
  const stored = status.storedVersions ?? [];
  if (version !== undefined && !stored.includes(version)) status.storedVersions = [...stored, version];
  object['status'] = status;
}

/** Who asks is not for the client to say: the server fills it in from the request's user. */
function createSigningRequest(object: MutableObject): void {
  object['status'] = {};
}

function updateSigningRequest(object: MutableObject, old: KubeObject): void {
  object['spec'] = fieldsOf(old)['spec'];
}

/** Approval has a subresource of its own: through status, conditions of these types stay as they were. */
function updateSigningRequestStatus(object: MutableObject, old: KubeObject): void {
  const status = (object['status'] ?? {}) as NonNullable<CertificateSigningRequest['status']>;
  object['status'] = status;
  const before = (old as unknown as CertificateSigningRequest).status?.conditions ?? [];
  for (const type of ['Approved', 'Denied']) {
    const kept = before.filter((condition) => condition.type === type);
    const asked = (status.conditions ?? []).filter((condition) => condition.type === type);
    if (kept.length !== asked.length) continue;
    let next = 0;
    if (status.conditions !== undefined)
      status.conditions = status.conditions.map((condition) =>
        condition.type === type ? kept[next++]! : condition,
      );
  }
}

const counted: StrategyRow = { generation: true };
const bound: StrategyRow = { createOnUpdate: true };
const guarded: StrategyRow = { generation: true, unconditionalUpdate: false };

export const clusterRows: Readonly<Record<string, Readonly<Record<string, StrategyRow>>>> = {
  'rbac.authorization.k8s.io': {
    Role: bound,
    ClusterRole: bound,
    RoleBinding: bound,
    ClusterRoleBinding: bound,
  },
  'networking.k8s.io': {
    Ingress: counted,
    IngressClass: counted,
    NetworkPolicy: counted,
    ServiceCIDR: {},
    IPAddress: { fields: ['spec.parentRef.name'] },
  },
  'storage.k8s.io': {
    StorageClass: {},
    VolumeAttributesClass: {},
    VolumeAttachment: { unconditionalUpdate: false },
    CSIDriver: { unconditionalUpdate: false },
    CSINode: { unconditionalUpdate: false },
    CSIStorageCapacity: { unconditionalUpdate: false },
  },
  'scheduling.k8s.io': { PriorityClass: counted },
  'node.k8s.io': { RuntimeClass: { createOnUpdate: true, unconditionalUpdate: false } },
  'coordination.k8s.io': { Lease: { createOnUpdate: true, unconditionalUpdate: false } },
  'discovery.k8s.io': { EndpointSlice: counted },
  'certificates.k8s.io': {
    CertificateSigningRequest: {
      fields: ['spec.signerName'],
      create: createSigningRequest,
      update: updateSigningRequest,
      statusUpdate: updateSigningRequestStatus,
    },
  },
  'admissionregistration.k8s.io': {
    MutatingWebhookConfiguration: guarded,
    ValidatingWebhookConfiguration: guarded,
    ValidatingAdmissionPolicy: guarded,
    ValidatingAdmissionPolicyBinding: guarded,
    MutatingAdmissionPolicy: guarded,
    MutatingAdmissionPolicyBinding: guarded,
  },
  'apiregistration.k8s.io': {
    APIService: { unconditionalUpdate: false, create: createApiService },
  },
  'apiextensions.k8s.io': {
    CustomResourceDefinition: {
      generation: true,
      unconditionalUpdate: false,
      create: recordStoredVersion,
      update: recordStoredVersion,
    },
  },
  'flowcontrol.apiserver.k8s.io': { FlowSchema: counted, PriorityLevelConfiguration: counted },
  'resource.k8s.io': {
    DeviceClass: counted,
    ResourceClaim: {},
    ResourceClaimTemplate: {},
    ResourceSlice: { generation: true, fields: ['spec.nodeName', 'spec.driver'] },
  },
};
