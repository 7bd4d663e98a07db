// Rules for storage classes and what drivers tell about volumes. After pkg/apis/storage/validation.

import { dns1123Subdomain, qualifiedName } from '../names.ts';
import type { TopologySelectorTerm } from '../types/core-v1.ts';
import type {
  CSIDriver,
  CSINode,
  CSINodeDriver,
  CSIStorageCapacity,
  StorageClass,
  TokenRequest,
  VolumeAttachment,
  VolumeAttributesClass,
  VolumeError,
} from '../types/storage-v1.ts';
import { equal, type Findings } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { validateDriverName } from './pod-volumes.ts';
import { validateNotNegative } from './resources.ts';

const MOST_PARAMETERS = 512;
const MOST_PARAMETER_BYTES = 256 * 1024;
const MOST_ERROR_BYTES = 1024;
const MOST_NODE_ID = 192;
const LEAST_TOKEN_SECONDS = 600;
const MOST_TOKEN_SECONDS = 2 ** 32;
const LEAST_UPDATE_SECONDS = 10;

type Texts = Readonly<Record<string, string>>;

function bytesOf(texts: Texts | undefined): number {
  let bytes = 0;
  for (const [key, value] of Object.entries(texts ?? {}))
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value);
  return bytes;
}

function validateParameters(findings: Findings, parameters: Texts | undefined): void {
  const keys = Object.keys(parameters ?? {});
  if (keys.length > MOST_PARAMETERS) {
    findings.tooLong('parameters', MOST_PARAMETERS);
    return;
  }
  if (keys.includes('')) findings.invalid('parameters', '', 'field can not be empty.');
  if (bytesOf(parameters) > MOST_PARAMETER_BYTES) findings.tooLong('parameters', MOST_PARAMETER_BYTES);
}

function validateTopologies(findings: Findings, terms: readonly TopologySelectorTerm[]): void {
  for (const [i, term] of terms.entries()) {
    const at = `allowedTopologies[${i}].matchLabelExpressions`;
    const keys = new Set<string>();
    for (const [j, requirement] of (term.matchLabelExpressions ?? []).entries()) {
      const values = requirement.values ?? [];
      if (values.length === 0) findings.required(`${at}[${j}].values`);
      for (const [k, value] of values.entries())
        if (values.indexOf(value) < k) findings.duplicate(`${at}[${j}].values[${k}]`, value);
      findings.text(`${at}[${j}].key`, requirement.key, qualifiedName);
      if (keys.has(requirement.key)) findings.duplicate(`${at}[${j}].key`, requirement.key);
      keys.add(requirement.key);
    }
    if (terms.slice(0, i).some((other) => equal(other, term))) findings.duplicate(at, '');
  }
}

const storageClass: KindRules<StorageClass> = {
  validate(object, findings) {
    if (!object.provisioner) findings.required('provisioner');
    else
      for (const complaint of qualifiedName(object.provisioner.toLowerCase()))
        findings.invalid('provisioner', object.provisioner, complaint);
    validateParameters(findings, object.parameters);
    findings.oneOf('reclaimPolicy', object.reclaimPolicy, ['Delete', 'Retain']);
    findings.oneOf('volumeBindingMode', object.volumeBindingMode, ['Immediate', 'WaitForFirstConsumer'], {
      required: true,
    });
    validateTopologies(findings, object.allowedTopologies ?? []);
  },
  validateUpdate(object, old, findings) {
    for (const name of ['parameters', 'provisioner', 'reclaimPolicy'] as const)
      if (!equal(object[name], old[name])) findings.forbidden(name, `updates to ${name} are forbidden.`);
    findings.immutable('volumeBindingMode', object.volumeBindingMode, old.volumeBindingMode);
  },
};

function validateError(findings: Findings, field: string, error: VolumeError | undefined): void {
  if (Buffer.byteLength(error?.message ?? '') > MOST_ERROR_BYTES)
    findings.tooLong(`${field}.message`, MOST_ERROR_BYTES);
}

const volumeAttachment: KindRules<VolumeAttachment> = {
  validate({ spec }, findings) {
    const { attacher = '', source = {}, nodeName = '' } = spec ?? {};
    if (attacher === '') findings.required('spec.attacher');
    else validateDriverName(findings, 'spec.attacher', attacher);
    const { persistentVolumeName: volume, inlineVolumeSpec: inline } = source;
    const exactly = 'must specify exactly one of inlineVolumeSpec and persistentVolumeName';
    if (volume === undefined && inline === undefined) findings.required('spec.source', exactly);
    else if (volume !== undefined && inline !== undefined) findings.forbidden('spec.source', exactly);
    else if (volume === '')
      findings.required('spec.source.persistentVolumeName', 'must specify non empty persistentVolumeName');
    else if (volume !== undefined)
      findings.text('spec.source.persistentVolumeName', volume, dns1123Subdomain);
    findings.text('spec.nodeName', nodeName, dns1123Subdomain);
  },
  validateUpdate(object, old, findings) {
    findings.immutable('spec', object.spec, old.spec);
  },
  validateStatusUpdate({ status }, _old, findings) {
    if (bytesOf(status?.attachmentMetadata) > MOST_PARAMETER_BYTES)
      findings.tooLong('status.attachmentMetadata', MOST_PARAMETER_BYTES);
    validateError(findings, 'status.attachError', status?.attachError);
    validateError(findings, 'status.detachError', status?.detachError);
  },
};

function validateTokenRequests(findings: Findings, requests: readonly TokenRequest[]): void {
  const audiences = new Set<string>();
  for (const [i, { audience = '', expirationSeconds: seconds }] of requests.entries()) {
    const at = `spec.tokenRequests[${i}]`;
    if (audiences.has(audience)) {
      findings.duplicate(`${at}.audience`, audience);
      continue;
    }
    audiences.add(audience);
    if (seconds === undefined) continue;
    if (seconds < LEAST_TOKEN_SECONDS)
      findings.invalid(`${at}.expirationSeconds`, seconds, 'may not specify a duration less than 10 minutes');
    if (seconds > MOST_TOKEN_SECONDS)
      findings.invalid(
        `${at}.expirationSeconds`,
        seconds,
        'may not specify a duration larger than 2^32 seconds',
      );
  }
}

const csiDriver: KindRules<CSIDriver> = {
  validate({ metadata, spec = {} }, findings) {
    if (metadata.name) validateDriverName(findings, 'metadata.name', metadata.name);
    // The name of the first field is upstream's.
    const required = {
      attachedRequired: spec.attachRequired,
      podInfoOnMount: spec.podInfoOnMount,
      storageCapacity: spec.storageCapacity,
    };
    for (const [name, value] of Object.entries(required))
      if (value === undefined) findings.required(`spec.${name}`);
    findings.oneOf('spec.fsGroupPolicy', spec.fsGroupPolicy, ['File', 'None', 'ReadWriteOnceWithFSType']);
    validateTokenRequests(findings, spec.tokenRequests ?? []);
    for (const mode of spec.volumeLifecycleModes ?? [])
      if (mode !== 'Persistent' && mode !== 'Ephemeral')
        findings.notSupported('spec.volumeLifecycleModes', mode, ['Persistent', 'Ephemeral']);
    const period = spec.nodeAllocatableUpdatePeriodSeconds;
    if (period !== undefined && period < LEAST_UPDATE_SECONDS)
      findings.invalid(
        'spec.nodeAllocatableUpdatePeriodSeconds',
        period,
        `must be greater than or equal to ${LEAST_UPDATE_SECONDS} seconds`,
      );
  },
  validateUpdate({ spec = {} }, { spec: old = {} }, findings) {
    findings.immutable('spec.attachedRequired', spec.attachRequired, old.attachRequired);
    findings.immutable('spec.fsGroupPolicy', spec.fsGroupPolicy, old.fsGroupPolicy);
    findings.immutable('spec.volumeLifecycleModes', spec.volumeLifecycleModes, old.volumeLifecycleModes);
  },
};

function validateNodeDriver(findings: Findings, field: string, driver: CSINodeDriver): void {
  validateDriverName(findings, `${field}.name`, driver.name ?? '');
  const id = driver.nodeID ?? '';
  if (id === '') findings.required(`${field}.nodeID`);
  if (id.length > MOST_NODE_ID)
    findings.invalid(`${field}.nodeID`, id, `must be ${MOST_NODE_ID} characters or less`);
  findings.notNegative(`${field}.allocatable.count`, driver.allocatable?.count);
  const keys = driver.topologyKeys ?? [];
  for (const [i, key] of keys.entries()) {
    if (key === '') findings.required(field);
    if (keys.indexOf(key) < i) findings.duplicate(field, key);
    for (const complaint of qualifiedName(key)) findings.invalid(field, keys, complaint);
  }
}

const csiNode: KindRules<CSINode> = {
  validate({ spec }, findings) {
    const names = new Set<string>();
    for (const [i, driver] of (spec?.drivers ?? []).entries()) {
      const at = `spec.drivers[${i}]`;
      validateNodeDriver(findings, at, driver);
      if (names.has(driver.name)) findings.duplicate(`${at}.name`, driver.name);
      names.add(driver.name);
    }
  },
  validateUpdate(object, old, findings) {
    // How many volumes a node takes may change; a driver's other fields may not while it is registered.
    const fixed = ({ allocatable: _count, ...rest }: CSINodeDriver) => rest;
    const before = new Map((old.spec?.drivers ?? []).map((driver) => [driver.name, driver]));
    for (const driver of object.spec?.drivers ?? []) {
      const was = before.get(driver.name);
      if (was !== undefined && !equal(fixed(driver), fixed(was)))
        findings.invalid('CSINodeDriver', driver, 'field is immutable');
    }
  },
};

const csiStorageCapacity: KindRules<CSIStorageCapacity> = {
  validate(object, findings) {
    findings.labelSelector('nodeTopology', object.nodeTopology);
    findings.text('storageClassName', object.storageClassName ?? '', dns1123Subdomain);
    validateNotNegative(findings, 'capacity', object.capacity);
    validateNotNegative(findings, 'maximumVolumeSize', object.maximumVolumeSize);
  },
  validateUpdate(object, old, findings) {
    findings.immutable('nodeTopology', object.nodeTopology, old.nodeTopology);
    findings.immutable('storageClassName', object.storageClassName, old.storageClassName);
  },
};

const volumeAttributesClass: KindRules<VolumeAttributesClass> = {
  validate(object, findings) {
    if (!object.driverName) findings.required('driverName');
    else
      for (const complaint of qualifiedName(object.driverName.toLowerCase()))
        findings.invalid('driverName', object.driverName, complaint);
    validateParameters(findings, object.parameters);
    if (Object.keys(object.parameters ?? {}).length === 0)
      findings.required('parameters', 'must contain at least one key/value pair');
  },
  validateUpdate(object, old, findings) {
    if (object.driverName !== old.driverName)
      findings.forbidden('driverName', 'updates to driverName are forbidden.');
    if (!equal(object.parameters, old.parameters))
      findings.forbidden('parameters', 'updates to parameters are forbidden.');
  },
};

export const storageRules: Readonly<Record<string, AnyRules>> = {
  StorageClass: storageClass,
  VolumeAttachment: volumeAttachment,
  CSIDriver: csiDriver,
  CSINode: csiNode,
  CSIStorageCapacity: csiStorageCapacity,
  VolumeAttributesClass: volumeAttributesClass,
};
