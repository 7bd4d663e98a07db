// The smaller kinds of the core group: namespaces, nodes, config maps, secrets, endpoints, replication controllers,
// events; and the table of the group's rules.

import { labelSetMatcher } from '../labels.ts';
import { configMapKey, dns1123Label, dns1123Subdomain, labelValue, qualifiedName } from '../names.ts';
import type {
  ConfigMap,
  EndpointAddress,
  Endpoints,
  Event,
  Namespace,
  Node,
  ReplicationController,
  ReplicationControllerStatus,
  Secret,
  Taint,
} from '../types/core-v1.ts';
import { familyOfRange, validateEndpointAddress, validateRange } from './addresses.ts';
import { equal, type Findings } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { labelName, pathName } from './object-meta.ts';
import { validatePersistentVolume, validatePersistentVolumeUpdate } from './persistent-volume.ts';
import { validateClaim, validateClaimStatusUpdate, validateClaimUpdate } from './persistent-volume-claim.ts';
import { validateNewPod, validatePod, validatePodTemplate, validatePodTemplateSpec } from './pod.ts';
import { protocols } from './pod-containers.ts';
import { taintEffects } from './pod-scheduling.ts';
import { validatePodStatusUpdate, validatePodUpdate } from './pod-update.ts';
import {
  validateLimitRange,
  validateResourceQuota,
  validateResourceQuotaStatusUpdate,
  validateResourceQuotaUpdate,
} from './quota.ts';
import { validateResourceAmount } from './resources.ts';
import { validateService, validateServiceStatusUpdate, validateServiceUpdate } from './service.ts';

/** What one config map or secret may hold. */
const MOST_DATA_BYTES = 1024 * 1024;

/** The bytes that base64 text stands for. */
function decodedLength(base64: string): number {
  const padding = base64.endsWith('==') ? 2 : base64.endsWith('=') ? 1 : 0;
  return (base64.length / 4) * 3 - padding;
}

const SEALED = 'field is immutable when `immutable` is set';

function validateSealed(
  findings: Findings,
  now: { readonly immutable?: boolean },
  old: { readonly immutable?: boolean },
  parts: readonly string[],
): void {
  if (old.immutable !== true) return;
  if (now.immutable !== true) findings.forbidden('immutable', SEALED);
  for (const part of parts) {
    const fields = [now, old].map((object) => (object as Readonly<Record<string, unknown>>)[part]);
    if (!equal(fields[0], fields[1])) findings.forbidden(part, SEALED);
  }
}

const configMap: KindRules<ConfigMap> = {
  validate(object, findings) {
    let bytes = 0;
    for (const [key, value] of Object.entries(object.data ?? {})) {
      findings.text(`data[${key}]`, key, configMapKey);
      if (object.binaryData !== undefined && Object.hasOwn(object.binaryData, key))
        findings.invalid(`data[${key}]`, key, 'duplicate of key present in binaryData');
      bytes += Buffer.byteLength(value);
    }
    for (const [key, value] of Object.entries(object.binaryData ?? {})) {
      findings.text(`binaryData[${key}]`, key, configMapKey);
      bytes += decodedLength(value);
    }
    if (bytes > MOST_DATA_BYTES) findings.tooLong('', MOST_DATA_BYTES);
  },
  validateUpdate: (object, old, findings) => validateSealed(findings, object, old, ['data', 'binaryData']),
};

function validateJsonValue(findings: Findings, key: string, base64: string | undefined): void {
  const field = `data[${key}]`;
  if (base64 === undefined) {
    findings.required(field);
    return;
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(base64, 'base64').toString());
  } catch {
    findings.invalid(field, '<secret contents redacted>', 'must be well-formed JSON');
    return;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    findings.invalid(field, '<secret contents redacted>', 'must be a JSON object');
}

function validateSecretType(findings: Findings, secret: Secret): void {
  const data = secret.data ?? {};
  const need = (key: string) => {
    if (data[key] === undefined) findings.required(`data[${key}]`);
  };
  switch (secret.type) {
    case 'kubernetes.io/service-account-token':
      if (!secret.metadata.annotations?.['kubernetes.io/service-account.name'])
        findings.required('metadata.annotations[kubernetes.io/service-account.name]');
      break;
    case 'kubernetes.io/dockercfg':
      validateJsonValue(findings, '.dockercfg', data['.dockercfg']);
      break;
    case 'kubernetes.io/dockerconfigjson':
      validateJsonValue(findings, '.dockerconfigjson', data['.dockerconfigjson']);
      break;
    case 'kubernetes.io/basic-auth':
      if (data['username'] === undefined && data['password'] === undefined) {
        findings.required('data[%s][username]');
        findings.required('data[%s][password]');
      }
      break;
    case 'kubernetes.io/ssh-auth':
      if (!data['ssh-privatekey']) findings.required('data[%s][ssh-privatekey]');
      break;
    case 'kubernetes.io/tls':
      need('tls.crt');
      need('tls.key');
      break;
    default:
  }
}

const secret: KindRules<Secret> = {
  validate(object, findings) {
    let bytes = 0;
    for (const [key, value] of Object.entries(object.data ?? {})) {
      findings.text(`data[${key}]`, key, configMapKey);
      bytes += decodedLength(value);
    }
    if (bytes > MOST_DATA_BYTES) findings.tooLong('data', MOST_DATA_BYTES);
    validateSecretType(findings, object);
  },
  validateUpdate(object, old, findings) {
    if (object.type) findings.immutable('type', object.type, old.type);
    validateSealed(findings, object, old, ['data']);
  },
};

const namespace: KindRules<Namespace> = {
  name: labelName,
  validate(object, findings) {
    for (const finalizer of object.spec?.finalizers ?? []) {
      findings.text('spec.finalizers', finalizer, qualifiedName);
      if (!finalizer.includes('/') && !['kubernetes', 'orphan', 'foregroundDeletion'].includes(finalizer))
        findings.invalid(
          'spec.finalizers',
          finalizer,
          'name is neither a standard finalizer name nor is it fully qualified',
        );
    }
  },
  validateStatusUpdate(object, _old, findings) {
    const leaving = object.metadata.deletionTimestamp !== undefined;
    const wanted = leaving ? 'Terminating' : 'Active';
    if (object.status?.phase !== wanted)
      findings.invalid(
        'status.Phase',
        object.status?.phase ?? '',
        `may only be '${wanted}' if \`deletionTimestamp\` is ${leaving ? 'not empty' : 'empty'}`,
      );
  },
};

function validateTaints(findings: Findings, field: string, taints: readonly Taint[]): void {
  const seen = new Set<string>();
  for (const [i, taint] of taints.entries()) {
    const at = `${field}[${i}]`;
    findings.text(`${at}.key`, taint.key, qualifiedName);
    const complaints = labelValue(taint.value ?? '');
    if (complaints.length > 0) findings.invalid(`${at}.value`, taint.value, complaints.join(';'));
    findings.oneOf(`${at}.effect`, taint.effect, taintEffects, { required: true });
    const key = `${taint.key}:${taint.effect}`;
    if (seen.has(key))
      findings.errors.push({
        type: 'FieldValueDuplicate',
        field: at,
        value: taint,
        detail: 'taints must be unique by key and effect pair',
      });
    seen.add(key);
  }
}

function validateNodeAmounts(findings: Findings, node: Node): void {
  for (const part of ['capacity', 'allocatable'] as const)
    for (const [name, amount] of Object.entries(node.status?.[part] ?? {}))
      validateResourceAmount(findings, `status.${part}.${name}`, name, amount);
}

function validateNodeAddresses(findings: Findings, node: Node): void {
  const seen = new Set<string>();
  for (const [i, address] of (node.status?.addresses ?? []).entries()) {
    const key = `${address.type}/${address.address}`;
    if (seen.has(key)) findings.duplicate(`status.addresses[${i}]`, address);
    seen.add(key);
  }
}

const node: KindRules<Node> = {
  validate(object, findings) {
    validateTaints(findings, 'metadata.taints', object.spec?.taints ?? []);
    validateNodeAmounts(findings, object);
    const ranges = object.spec?.podCIDRs ?? [];
    for (const [i, range] of ranges.entries()) validateRange(findings, `spec.podCIDRs[${i}]`, range);
    if (ranges.length > 1) {
      const families = new Set(ranges.map(familyOfRange));
      if (ranges.length > 2 || families.size !== 2)
        findings.invalid('spec.podCIDRs', ranges, 'may specify no more than one CIDR for each IP family');
      for (const [i, range] of ranges.entries())
        if (ranges.indexOf(range) < i) findings.duplicate(`spec.podCIDRs[${i}]`, range);
    }
  },
  validateUpdate(object, old, findings) {
    const now = object.spec ?? {};
    const before = old.spec ?? {};
    if ((before.podCIDRs ?? []).length > 0 && !equal(now.podCIDRs, before.podCIDRs))
      findings.forbidden('spec.podCIDRs', 'node updates may not change podCIDR except from "" to valid');
    if (before.providerID && now.providerID !== before.providerID)
      findings.forbidden('spec.providerID', 'node updates may not change providerID except from "" to valid');
    const {
      taints: _t,
      unschedulable: _u,
      podCIDRs: _p,
      podCIDR: _c,
      providerID: _i,
      configSource: _s,
      ...rest
    } = now;
    const {
      taints: _ot,
      unschedulable: _ou,
      podCIDRs: _op,
      podCIDR: _oc,
      providerID: _oi,
      configSource: _os,
      ...oldRest
    } = before;
    if (!equal(rest, oldRest))
      findings.forbidden('', 'node updates may only change labels, taints, or capacity');
  },
  validateStatusUpdate(object, _old, findings) {
    validateNodeAmounts(findings, object);
    validateNodeAddresses(findings, object);
  },
};

function validateEndpoint(findings: Findings, field: string, address: EndpointAddress): void {
  validateEndpointAddress(findings, `${field}.ip`, address.ip);
  if (address.hostname) findings.text(`${field}.hostname`, address.hostname, dns1123Label);
  if (address.nodeName !== undefined) findings.text(`${field}.nodeName`, address.nodeName, dns1123Subdomain);
}

const endpoints: KindRules<Endpoints> = {
  validate(object, findings) {
    for (const [i, subset] of (object.subsets ?? []).entries()) {
      const at = `subsets[${i}]`;
      const { addresses = [], notReadyAddresses = [], ports = [] } = subset;
      if (addresses.length + notReadyAddresses.length === 0)
        findings.required(at, 'must specify `addresses` or `notReadyAddresses`');
      for (const [j, address] of addresses.entries())
        validateEndpoint(findings, `${at}.addresses[${j}]`, address);
      for (const [j, address] of notReadyAddresses.entries())
        validateEndpoint(findings, `${at}.notReadyAddresses[${j}]`, address);
      for (const [j, port] of ports.entries()) {
        const where = `${at}.ports[${j}]`;
        if (port.name) findings.text(`${where}.name`, port.name, dns1123Label);
        else if (ports.length > 1) findings.required(`${where}.name`);
        findings.range(`${where}.port`, port.port, 1, 65535);
        findings.oneOf(`${where}.protocol`, port.protocol, protocols, { required: true });
        if (port.appProtocol !== undefined)
          findings.text(`${where}.appProtocol`, port.appProtocol, qualifiedName);
      }
    }
  },
};

const MORE_THAN_REPLICAS = 'cannot be greater than status.replicas';

/** Counters of a workload's status: none negative, none greater than the whole. */
export function validateReplicaStatus(findings: Findings, status: ReplicationControllerStatus): void {
  const { replicas = 0, fullyLabeledReplicas = 0, readyReplicas = 0, availableReplicas = 0 } = status;
  const parts = { fullyLabeledReplicas, readyReplicas, availableReplicas };
  findings.notNegative('status.replicas', replicas);
  for (const [name, value] of Object.entries(parts)) findings.notNegative(`status.${name}`, value);
  findings.notNegative('status.observedGeneration', status.observedGeneration);
  for (const [name, value] of Object.entries(parts))
    if (value > replicas) findings.invalid(`status.${name}`, value, MORE_THAN_REPLICAS);
  if (availableReplicas > readyReplicas)
    findings.invalid('status.availableReplicas', availableReplicas, 'cannot be greater than readyReplicas');
}

const replicationController: KindRules<ReplicationController> = {
  validate({ spec = {} }, findings) {
    findings.notNegative('spec.minReadySeconds', spec.minReadySeconds);
    const selector = labelSetMatcher(spec.selector);
    if (selector.empty) findings.required('spec.selector');
    findings.notNegative('spec.replicas', spec.replicas);
    const template = spec.template;
    if (template === undefined) {
      findings.required('spec.template');
      return;
    }
    if (!selector.empty && !selector.matches(template.metadata?.labels))
      findings.invalid(
        'spec.template.metadata.labels',
        template.metadata?.labels ?? null,
        '`selector` does not match template `labels`',
      );
    validatePodTemplateSpec(findings, 'spec.template', template);
    validateAlwaysRestarts(findings, 'spec.template', template.spec);
    if (template.spec?.activeDeadlineSeconds !== undefined)
      findings.forbidden(
        'spec.template.spec.activeDeadlineSeconds',
        'activeDeadlineSeconds in ReplicationController is not Supported',
      );
  },
  validateStatusUpdate(object, _old, findings) {
    validateReplicaStatus(findings, object.status ?? { replicas: 0 });
  },
};

/** Controllers that keep a number of pods running cannot use pods that stop. */
export function validateAlwaysRestarts(
  findings: Findings,
  field: string,
  spec: { readonly restartPolicy?: string } | undefined,
): void {
  const policy = spec?.restartPolicy;
  if (policy !== undefined && policy !== 'Always')
    findings.notSupported(`${field}.spec.restartPolicy`, policy, ['Always']);
}

const MOST_EVENT_WORD = 128;
const MOST_EVENT_NOTE = 1024;

const event: KindRules<Event> = {
  // Events are named after the object that they are about, which may be anything that fits into a path.
  name: pathName,
  validate(object, findings) {
    const involved = object.involvedObject?.namespace ?? '';
    const home = object.metadata.namespace ?? '';
    const MISMATCH = 'does not match event.namespace';
    if (!object.eventTime) {
      const matches = involved === '' ? home === '' || home === 'default' : involved === home;
      if (!matches) findings.invalid('involvedObject.namespace', involved, MISMATCH);
      return;
    }
    if (involved === '' && home !== 'default' && home !== 'kube-system')
      findings.invalid('involvedObject.namespace', involved, MISMATCH);
    findings.name('reportingController', object.reportingComponent, qualifiedName);
    for (const name of ['reportingInstance', 'action', 'reason'] as const) {
      const value = object[name] ?? '';
      if (value === '') findings.required(name);
      if (value.length > MOST_EVENT_WORD)
        findings.invalid(name, '', `can have at most ${MOST_EVENT_WORD} characters`);
    }
    if ((object.message ?? '').length > MOST_EVENT_NOTE)
      findings.invalid('message', '', `can have at most ${MOST_EVENT_NOTE} characters`);
  },
};

export const coreRules: Readonly<Record<string, AnyRules>> = {
  ConfigMap: configMap,
  Secret: secret,
  Namespace: namespace,
  Node: node,
  Endpoints: endpoints,
  Event: event,
  ReplicationController: replicationController,
  Service: {
    name: labelName,
    validate: validateService,
    validateUpdate: validateServiceUpdate,
    validateStatusUpdate: validateServiceStatusUpdate,
  },
  Pod: {
    validate: validatePod,
    validateNew: validateNewPod,
    validateUpdate: validatePodUpdate,
    validateStatusUpdate: validatePodStatusUpdate,
  },
  PodTemplate: { validate: validatePodTemplate },
  PersistentVolume: {
    validate: validatePersistentVolume,
    validateUpdate: validatePersistentVolumeUpdate,
  },
  PersistentVolumeClaim: {
    validate: validateClaim,
    validateUpdate: validateClaimUpdate,
    validateStatusUpdate: (object, _old, findings) => validateClaimStatusUpdate(object, findings),
  },
  ResourceQuota: {
    validate: validateResourceQuota,
    validateUpdate: validateResourceQuotaUpdate,
    validateStatusUpdate: validateResourceQuotaStatusUpdate,
  },
  LimitRange: { validate: validateLimitRange },
  ServiceAccount: {},
};
