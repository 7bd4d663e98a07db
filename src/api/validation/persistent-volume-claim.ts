// PersistentVolumeClaims, and the claim templates that pods and stateful sets carry.

import { dns1123Subdomain, qualifiedName } from '../names.ts';
import { compareQuantities, quantitySign } from '../quantity.ts';
import type {
  PersistentVolumeClaim,
  PersistentVolumeClaimSpec,
  TypedObjectReference,
} from '../types/core-v1.ts';
import { difference } from './difference.ts';
import { equal, type Findings, POSITIVE } from './findings.ts';
import { isNativeResource, validateNotNegative, validateResourceAmount } from './resources.ts';

export const accessModes = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];
export const volumeModes = ['Block', 'Filesystem'];
const resizeStates: readonly string[] = [
  'ControllerResizeInProgress',
  'ControllerResizeInfeasible',
  'NodeResizeInProgress',
  'NodeResizeInfeasible',
  'NodeResizePending',
];
const CLASS_ANNOTATION = 'volume.beta.kubernetes.io/storage-class';

export function validateAccessModes(
  findings: Findings,
  field: string,
  modes: readonly string[] | undefined,
  whenMissing: string,
): void {
  if ((modes ?? []).length === 0) findings.required(field, whenMissing);
  for (const mode of modes ?? [])
    if (!accessModes.includes(mode)) findings.notSupported(field, mode, accessModes);
  if (modes !== undefined && modes.length > 1 && modes.includes('ReadWriteOncePod'))
    findings.forbidden(field, 'may not use ReadWriteOncePod with other access modes');
}

function validateDataSource(
  findings: Findings,
  field: string,
  source: Pick<TypedObjectReference, 'apiGroup' | 'kind' | 'name' | 'namespace'> | undefined,
): void {
  if (source === undefined) return;
  if (!source.name) findings.required(`${field}.name`);
  if (!source.kind) findings.required(`${field}.kind`);
  if (!source.apiGroup && source.kind !== 'PersistentVolumeClaim') findings.invalid(field, source.kind, '');
  if (source.apiGroup) findings.text(`${field}.apiGroup`, source.apiGroup, dns1123Subdomain);
}

export function validateClaimSpec(
  findings: Findings,
  field: string,
  spec: PersistentVolumeClaimSpec | undefined,
): void {
  const { selector, resources, storageClassName, volumeMode } = spec ?? {};
  validateAccessModes(
    findings,
    `${field}.accessModes`,
    spec?.accessModes,
    'at least 1 access mode is required',
  );
  findings.labelSelector(`${field}.selector`, selector);
  const storage = resources?.requests?.['storage'];
  const at = `${field}.resources[storage]`;
  if (storage === undefined) findings.required(at);
  else if (quantitySign(storage) <= 0) findings.invalid(at, storage, POSITIVE);
  else validateResourceAmount(findings, at, 'storage', storage);
  if (storageClassName) findings.text(`${field}.storageClassName`, storageClassName, dns1123Subdomain);
  findings.oneOf(`${field}.volumeMode`, volumeMode, volumeModes);
  validateDataSource(findings, `${field}.dataSource`, spec?.dataSource);
  validateDataSource(findings, `${field}.dataSourceRef`, spec?.dataSourceRef);
  if (spec?.volumeAttributesClassName)
    findings.text(`${field}.volumeAttributesClassName`, spec.volumeAttributesClassName, dns1123Subdomain);
  const { dataSource, dataSourceRef } = spec ?? {};
  if (
    dataSource !== undefined &&
    dataSourceRef !== undefined &&
    !dataSourceRef.namespace &&
    !equal(dataSource, dataSourceRef)
  )
    findings.invalid(field, `${field}.dataSource`, 'must match dataSourceRef');
}

export function validateClaim(claim: PersistentVolumeClaim, findings: Findings): void {
  validateClaimSpec(findings, 'spec', claim.spec);
}

/** From a class in the old annotation to the same class in the field: the one change of class that is let through. */
function movesClassToField(claim: PersistentVolumeClaim, old: PersistentVolumeClaim): boolean {
  const before = old.metadata.annotations?.[CLASS_ANNOTATION];
  const now = claim.metadata.annotations?.[CLASS_ANNOTATION];
  return (
    before !== undefined &&
    old.spec?.storageClassName === undefined &&
    claim.spec?.storageClassName === before &&
    (now === undefined || now === before)
  );
}

export function validateClaimUpdate(
  claim: PersistentVolumeClaim,
  old: PersistentVolumeClaim,
  findings: Findings,
): void {
  const now: PersistentVolumeClaimSpec = { ...claim.spec };
  const before: PersistentVolumeClaimSpec = { ...old.spec };
  const size = now.resources?.requests?.['storage'];
  const oldSize = before.resources?.requests?.['storage'];
  // The controller binds a claim once; a class may be given to a claim that has none yet (KEP-3333).
  if (!before.volumeName) before.volumeName = now.volumeName;
  if (movesClassToField(claim, old)) {
    before.storageClassName = now.storageClassName;
  } else {
    const annotation = claim.metadata.annotations?.[CLASS_ANNOTATION] ?? '';
    if (annotation !== (old.metadata.annotations?.[CLASS_ANNOTATION] ?? ''))
      findings.invalid(`metadata.annotations.${CLASS_ANNOTATION}`, annotation, 'field is immutable');
    if (
      before.storageClassName === undefined &&
      now.storageClassName !== undefined &&
      old.status?.phase !== 'Bound' &&
      old.metadata.annotations?.[CLASS_ANNOTATION] === undefined
    )
      before.storageClassName = now.storageClassName;
  }
  if (old.status?.phase === 'Bound') {
    if (now.resources !== undefined && oldSize !== undefined)
      now.resources = {
        ...now.resources,
        requests: { ...now.resources.requests, storage: oldSize },
      };
    if (now.volumeAttributesClassName !== undefined)
      before.volumeAttributesClassName = now.volumeAttributesClassName;
    else delete before.volumeAttributesClassName;
  }
  if (!equal(now, before))
    findings.forbidden(
      'spec',
      `spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n${difference(before, now, 'spec')}`,
    );
  if (size !== undefined && oldSize !== undefined && compareQuantities(size, oldSize) < 0) {
    // An expansion that failed may be taken back, though not below what there is already (KEP-1790).
    const capacity = old.status?.capacity?.['storage'];
    if (capacity === undefined || compareQuantities(size, capacity) <= 0)
      findings.forbidden('spec.resources.requests.storage', 'field can not be less than status.capacity');
  }
  findings.immutable('volumeMode', claim.spec?.volumeMode, old.spec?.volumeMode);
  validateAttributesClassUpdate(claim, old, findings);
}

/** A class that took effect can be replaced by another one, but there is no way back to none (KEP-3751). */
function validateAttributesClassUpdate(
  claim: PersistentVolumeClaim,
  old: PersistentVolumeClaim,
  findings: Findings,
): void {
  const wanted = claim.spec?.volumeAttributesClassName;
  if (wanted === old.spec?.volumeAttributesClassName) return;
  if (old.status?.currentVolumeAttributesClassName === undefined || wanted) return;
  findings.forbidden(
    'spec.volumeAttributesClassName',
    `update to ${wanted === undefined ? 'nil' : 'empty string'} is forbidden when status.currentVolumeAttributesClassName is not nil`,
  );
}

export function validateClaimStatusUpdate({ status }: PersistentVolumeClaim, findings: Findings): void {
  for (const [name, amount] of Object.entries(status?.capacity ?? {}))
    if (quantitySign(amount) < 0)
      findings.invalid(`status.capacity[${name}]`, amount, 'must be a valid resource quantity');
  // The field's name is upstream's, and so is the value that it names.
  const field = 'status.allocatedResourceStatus';
  for (const [name, state] of Object.entries(status?.allocatedResourceStatuses ?? {})) {
    validateClaimResource(findings, field, name);
    if (!resizeStates.includes(state)) findings.notSupported(field, name, resizeStates);
  }
  for (const [name, amount] of Object.entries(status?.allocatedResources ?? {}))
    if (validateClaimResource(findings, 'status.allocatedResources', name))
      validateNotNegative(findings, `status.allocatedResources[${name}]`, amount);
}

/** Of the resources that Kubernetes itself names, claims have storage only. */
function validateClaimResource(findings: Findings, field: string, name: string): boolean {
  const complaints = qualifiedName(name);
  for (const complaint of complaints) findings.invalid(field, name, complaint);
  if (complaints.length > 0) return false;
  if (!isNativeResource(name) || name === 'storage') return true;
  findings.notSupported(field, name, ['storage']);
  return false;
}
