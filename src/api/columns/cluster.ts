// Tables of all other groups: networking, discovery, storage, access, admission, flow control, scheduling, devices.

import { formatLabelSelector } from '../labels.ts';
import { findCondition } from '../meta.ts';
import type {
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  MutatingWebhookConfiguration,
  ParamRef,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  ValidatingWebhookConfiguration,
} from '../types/admissionregistration-v1.ts';
import type { APIService } from '../types/apiregistration-v1.ts';
import type { CertificateSigningRequest } from '../types/certificates-v1.ts';
import type { Lease } from '../types/coordination-v1.ts';
import type { EndpointSlice } from '../types/discovery-v1.ts';
import type { FlowSchema, PriorityLevelConfiguration } from '../types/flowcontrol-v1.ts';
import type { ObjectMeta, Status } from '../types/meta-v1.ts';
import type { Ingress, IngressClass, IPAddress, NetworkPolicy, ServiceCIDR } from '../types/networking-v1.ts';
import type { RuntimeClass } from '../types/node-v1.ts';
import type { ClusterRoleBinding, RoleBinding } from '../types/rbac-v1.ts';
import type { ResourceClaim, ResourceSlice } from '../types/resource-v1.ts';
import type { PriorityClass } from '../types/scheduling-v1.ts';
import type {
  CSIDriver,
  CSINode,
  CSIStorageCapacity,
  StorageClass,
  VolumeAttachment,
  VolumeAttributesClass,
} from '../types/storage-v1.ts';
import { humanDuration, since } from './age.ts';
import { loadBalancerAddresses } from './core.ts';
import { firstThree, type KindTable, name, table } from './table.ts';

const age = (object: { readonly metadata: ObjectMeta }, now: number): string =>
  since(object.metadata.creationTimestamp, now);

/** A kind that shows its name and age and nothing else. */
const nameAndAge = table<{ metadata: ObjectMeta }>([name, 'Age'], (object, now) => [
  object.metadata.name,
  age(object, now),
]);

function ingressHosts(ingress: Ingress): string {
  const rules = ingress.spec?.rules ?? [];
  const hosts: string[] = [];
  let more = false;
  for (const { host } of rules) {
    if (hosts.length === 3) more = true;
    if (!more && host) hosts.push(host);
  }
  if (hosts.length === 0) return '*';
  return more ? `${hosts.join(',')} + ${rules.length - 3} more...` : hosts.join(',');
}

export const networkingTables: Readonly<Record<string, KindTable>> = {
  Ingress: table<Ingress>([name, 'Class', 'Hosts', 'Address', 'Ports', 'Age'], (object, now) => [
    object.metadata.name,
    object.spec?.ingressClassName ?? '<none>',
    ingressHosts(object),
    loadBalancerAddresses(object.status?.loadBalancer).join(','),
    (object.spec?.tls ?? []).length === 0 ? '80' : '80, 443',
    age(object, now),
  ]),
  IngressClass: table<IngressClass>([name, 'Controller', 'Parameters', 'Age'], (object, now) => {
    const parameters = object.spec?.parameters;
    return [
      object.metadata.name,
      object.spec?.controller ?? '',
      parameters === undefined
        ? '<none>'
        : `${parameters.kind}${parameters.apiGroup === undefined ? '' : `.${parameters.apiGroup}`}/${parameters.name}`,
      age(object, now),
    ];
  }),
  NetworkPolicy: table<NetworkPolicy>([name, 'Pod-Selector', 'Age'], (object, now) => [
    object.metadata.name,
    formatLabelSelector(object.spec?.podSelector ?? {}),
    age(object, now),
  ]),
  ServiceCIDR: table<ServiceCIDR>([name, 'CIDRs', 'Age'], (object, now) => [
    object.metadata.name,
    (object.spec?.cidrs ?? []).join(','),
    age(object, now),
  ]),
  IPAddress: table<IPAddress>([name, 'ParentRef'], (object) => {
    const parent = object.spec?.parentRef;
    if (parent === undefined) return [object.metadata.name, '<none>'];
    const resource = [parent.resource ?? '', parent.group ?? ''].filter((part) => part !== '').join('.');
    const path = [resource.toLowerCase(), ...(parent.namespace ? [parent.namespace] : []), parent.name];
    return [object.metadata.name, path.join('/')];
  }),
};

export const discoveryTables: Readonly<Record<string, KindTable>> = {
  EndpointSlice: table<EndpointSlice>([name, 'AddressType', 'Ports', 'Endpoints', 'Age'], (object, now) => [
    object.metadata.name,
    object.addressType,
    firstThree(
      (object.ports ?? []).map(({ port, name: label }) => String(port ?? label ?? '*')),
      '<unset>',
    ),
    firstThree(
      (object.endpoints ?? []).flatMap((endpoint) => endpoint.addresses),
      '<unset>',
    ),
    age(object, now),
  ]),
};

export const storageTables: Readonly<Record<string, KindTable>> = {
  StorageClass: table<StorageClass>(
    [name, 'Provisioner', 'ReclaimPolicy', 'VolumeBindingMode', 'AllowVolumeExpansion', 'Age'],
    (object, now) => {
      const annotations = object.metadata.annotations ?? {};
      const isDefault =
        annotations['storageclass.kubernetes.io/is-default-class'] === 'true' ||
        annotations['storageclass.beta.kubernetes.io/is-default-class'] === 'true';
      return [
        isDefault ? `${object.metadata.name} (default)` : object.metadata.name,
        object.provisioner,
        object.reclaimPolicy ?? 'Delete',
        object.volumeBindingMode ?? 'Immediate',
        object.allowVolumeExpansion ?? false,
        age(object, now),
      ];
    },
  ),
  VolumeAttributesClass: table<VolumeAttributesClass>([name, 'DriverName', 'Age'], (object, now) => [
    object.metadata.name,
    object.driverName,
    age(object, now),
  ]),
  VolumeAttachment: table<VolumeAttachment>(
    [name, ['Attacher', 'string', 'name'], 'PV', 'Node', ['Attached', 'boolean'], 'Age'],
    (object, now) => [
      object.metadata.name,
      object.spec.attacher,
      object.spec.source.persistentVolumeName ?? '',
      object.spec.nodeName,
      object.status?.attached ?? false,
      age(object, now),
    ],
  ),
  CSINode: table<CSINode>([name, ['Drivers', 'integer'], 'Age'], (object, now) => [
    object.metadata.name,
    object.spec.drivers.length,
    age(object, now),
  ]),
  CSIDriver: table<CSIDriver>(
    [
      name,
      ['AttachRequired', 'boolean'],
      ['PodInfoOnMount', 'boolean'],
      ['StorageCapacity', 'boolean'],
      'TokenRequests',
      ['RequiresRepublish', 'boolean'],
      'Modes',
      'Age',
    ],
    ({ metadata, spec }, now) => [
      metadata.name,
      spec.attachRequired ?? true,
      spec.podInfoOnMount ?? false,
      spec.storageCapacity ?? false,
      spec.tokenRequests === undefined
        ? '<unset>'
        : spec.tokenRequests.map((request) => request.audience).join(','),
      spec.requiresRepublish ?? false,
      (spec.volumeLifecycleModes ?? []).join(',') || '<none>',
      since(metadata.creationTimestamp, now),
    ],
  ),
  CSIStorageCapacity: table<CSIStorageCapacity>([name, 'StorageClassName', 'Capacity'], (object) => [
    object.metadata.name,
    object.storageClassName,
    object.capacity ?? '<unset>',
  ]),
};

const bindingTable = table<RoleBinding | ClusterRoleBinding>(
  [name, 'Role', 'Age', '+Users', '+Groups', '+ServiceAccounts'],
  (object, now) => {
    const subjects = object.subjects ?? [];
    const named = (kind: string) =>
      subjects.filter((subject) => subject.kind === kind).map((subject) => subject.name);
    return [
      object.metadata.name,
      `${object.roleRef.kind}/${object.roleRef.name}`,
      age(object, now),
      named('User').join(', '),
      named('Group').join(', '),
      subjects
        .filter((subject) => subject.kind === 'ServiceAccount')
        .map((subject) => `${subject.namespace ?? ''}/${subject.name}`)
        .join(', '),
    ];
  },
);

export const rbacTables: Readonly<Record<string, KindTable>> = {
  RoleBinding: bindingTable,
  ClusterRoleBinding: bindingTable,
};

function requestCondition(request: CertificateSigningRequest): string {
  const has = (type: string) => findCondition(request.status?.conditions, type) !== undefined;
  const decision = has('Denied') ? 'Denied' : has('Approved') ? 'Approved' : 'Pending';
  return `${decision}${has('Failed') ? ',Failed' : ''}${request.status?.certificate ? ',Issued' : ''}`;
}

export const certificatesTables: Readonly<Record<string, KindTable>> = {
  CertificateSigningRequest: table<CertificateSigningRequest>(
    [name, 'Age', 'SignerName', 'Requestor', 'RequestedDuration', 'Condition'],
    (object, now) => [
      object.metadata.name,
      age(object, now),
      object.spec.signerName || '<none>',
      object.spec.username ?? '',
      object.spec.expirationSeconds === undefined
        ? '<none>'
        : humanDuration(object.spec.expirationSeconds * 1000),
      requestCondition(object),
    ],
  ),
};

export const coordinationTables: Readonly<Record<string, KindTable>> = {
  Lease: table<Lease>([name, 'Holder', 'Age'], (object, now) => [
    object.metadata.name,
    object.spec?.holderIdentity ?? '',
    age(object, now),
  ]),
};

const webhookTable = table<MutatingWebhookConfiguration | ValidatingWebhookConfiguration>(
  [name, ['Webhooks', 'integer'], 'Age'],
  (object, now) => [object.metadata.name, (object.webhooks ?? []).length, age(object, now)],
);

function parameterKind(kind: { readonly apiVersion?: string; readonly kind?: string } | undefined): string {
  return kind === undefined ? '<unset>' : `${kind.apiVersion ?? ''}/${kind.kind ?? ''}`;
}

function parameterReference(reference: ParamRef | undefined): string {
  if (reference?.name) return `${reference.namespace || '*'}/${reference.name}`;
  return reference?.selector === undefined ? '<unset>' : formatLabelSelector(reference.selector);
}

const policyBindingTable = table<ValidatingAdmissionPolicyBinding | MutatingAdmissionPolicyBinding>(
  [name, 'PolicyName', 'ParamRef', 'Age'],
  (object, now) => [
    object.metadata.name,
    object.spec?.policyName ?? '',
    parameterReference(object.spec?.paramRef),
    age(object, now),
  ],
);

export const admissionTables: Readonly<Record<string, KindTable>> = {
  MutatingWebhookConfiguration: webhookTable,
  ValidatingWebhookConfiguration: webhookTable,
  ValidatingAdmissionPolicy: table<ValidatingAdmissionPolicy>(
    [name, ['Validations', 'integer'], 'ParamKind', 'Age'],
    (object, now) => [
      object.metadata.name,
      (object.spec?.validations ?? []).length,
      parameterKind(object.spec?.paramKind),
      age(object, now),
    ],
  ),
  MutatingAdmissionPolicy: table<MutatingAdmissionPolicy>(
    [name, ['Mutations', 'integer'], 'ParamKind', 'Age'],
    (object, now) => [
      object.metadata.name,
      (object.spec?.mutations ?? []).length,
      parameterKind(object.spec?.paramKind),
      age(object, now),
    ],
  ),
  ValidatingAdmissionPolicyBinding: policyBindingTable,
  MutatingAdmissionPolicyBinding: policyBindingTable,
};

export const flowControlTables: Readonly<Record<string, KindTable>> = {
  FlowSchema: table<FlowSchema>(
    [name, 'PriorityLevel', 'MatchingPrecedence', 'DistinguisherMethod', 'Age', 'MissingPL'],
    (object, now) => [
      object.metadata.name,
      object.spec?.priorityLevelConfiguration.name ?? '',
      object.spec?.matchingPrecedence ?? 0,
      object.spec?.distinguisherMethod?.type ?? '<none>',
      age(object, now),
      object.status?.conditions?.find((one) => one.type === 'Dangling')?.status ?? '?',
    ],
  ),
  PriorityLevelConfiguration: table<PriorityLevelConfiguration>(
    [name, 'Type', 'NominalConcurrencyShares', 'Queues', 'HandSize', 'QueueLengthLimit', 'Age'],
    (object, now) => {
      const limited = object.spec?.limited;
      const queuing = limited?.limitResponse?.queuing;
      return [
        object.metadata.name,
        object.spec?.type ?? '',
        limited === undefined ? '<none>' : (limited.nominalConcurrencyShares ?? null),
        queuing === undefined ? '<none>' : (queuing.queues ?? 0),
        queuing === undefined ? '<none>' : (queuing.handSize ?? 0),
        queuing === undefined ? '<none>' : (queuing.queueLengthLimit ?? 0),
        age(object, now),
      ];
    },
  ),
};

export const schedulingTables: Readonly<Record<string, KindTable>> = {
  PriorityClass: table<PriorityClass>(
    [name, ['Value', 'integer'], ['Global-Default', 'boolean'], 'Age', 'PreemptionPolicy'],
    (object, now) => [
      object.metadata.name,
      object.value,
      object.globalDefault ?? false,
      age(object, now),
      object.preemptionPolicy ?? '',
    ],
  ),
};

export const nodeTables: Readonly<Record<string, KindTable>> = {
  RuntimeClass: table<RuntimeClass>([name, 'Handler', 'Age'], (object, now) => [
    object.metadata.name,
    object.handler,
    age(object, now),
  ]),
};

function claimState(claim: ResourceClaim): string {
  const deleted = claim.metadata.deletionTimestamp !== undefined;
  const states = deleted ? ['deleted'] : [];
  if (claim.status?.allocation === undefined) {
    if (!deleted) states.push('pending');
  } else {
    states.push('allocated');
    if ((claim.status.reservedFor ?? []).length > 0) states.push('reserved');
  }
  return states.join(',');
}

export const resourceTables: Readonly<Record<string, KindTable>> = {
  DeviceClass: nameAndAge,
  ResourceClaim: table<ResourceClaim>([name, 'State', 'Age'], (object, now) => [
    object.metadata.name,
    claimState(object),
    age(object, now),
  ]),
  ResourceClaimTemplate: nameAndAge,
  ResourceSlice: table<ResourceSlice>([name, 'Node', 'Driver', 'Pool', 'Age'], (object, now) => [
    object.metadata.name,
    object.spec.nodeName ?? null,
    object.spec.driver,
    object.spec.pool.name,
    age(object, now),
  ]),
};

export const registrationTables: Readonly<Record<string, KindTable>> = {
  APIService: table<APIService>([name, 'Service', 'Available', 'Age'], (object, now) => {
    const service = object.spec?.service;
    const available = findCondition(object.status?.conditions, 'Available');
    return [
      object.metadata.name,
      service === undefined ? 'Local' : `${service.namespace ?? ''}/${service.name ?? ''}`,
      available === undefined
        ? 'Unknown'
        : available.status === 'True' || !available.reason
          ? available.status
          : `${available.status} (${available.reason})`,
      age(object, now),
    ];
  }),
};

/** What a failed or finished request shows. */
export const statusTable = table<Status>(['Status', 'Reason', 'Message'], (object) => [
  object.status ?? '',
  object.reason ?? '',
  object.message ?? '',
]);
